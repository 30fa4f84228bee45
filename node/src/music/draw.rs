//! A picture for what has none: always the same for the same name, and like no other.
//!
//! A gradient of two hues that go together, and circles and rings in lighter and darker tones of them. Nothing is white or
//! black, so that it stands well on light and dark pages. Plain arithmetic only, so that it is the same on every machine.

use image::{Rgb, RgbImage};

/// Circles and rings.
const SHAPES: usize = 4;
/// Steps around the wheel between the two hues, in degrees: neighbours, or nearly opposite.
const APART: [u16; 4] = [35, 55, 150, 185];
/// Directions of the gradient: unit vectors.
const DIRECTIONS: [(f32, f32); 8] = [
    (1.0, 0.0),
    (0.707, 0.707),
    (0.0, 1.0),
    (-0.707, 0.707),
    (0.924, 0.383),
    (0.383, 0.924),
    (-0.383, 0.924),
    (-0.924, 0.383),
];

type Colour = [f32; 3];

#[derive(Debug, Clone, Copy)]
struct Shape {
    centre: (f32, f32),
    radius: f32,
    /// Width of the ring; none: a disc.
    ring: Option<f32>,
    colour: Colour,
    strength: f32,
}

/// Between 0 and 1.
fn part(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

fn colour(hue: u16, saturation: f32, lightness: f32) -> Colour {
    let sector = f32::from(hue % 360) / 60.0;
    let chroma = (1.0 - (2.0 * lightness - 1.0).abs()) * saturation;
    let second = chroma * (1.0 - (sector % 2.0 - 1.0).abs());
    let rgb = match hue % 360 / 60 {
        0 => [chroma, second, 0.0],
        1 => [second, chroma, 0.0],
        2 => [0.0, chroma, second],
        3 => [0.0, second, chroma],
        4 => [second, 0.0, chroma],
        _ => [chroma, 0.0, second],
    };
    rgb.map(|value| value + lightness - chroma / 2.0)
}

fn mix(one: Colour, other: Colour, share: f32) -> Colour {
    let mut mixed = one;
    for (value, other) in mixed.iter_mut().zip(other) {
        *value += (other - *value) * share;
    }
    mixed
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and 255 by then")]
fn byte(value: f32) -> u8 {
    (value * 255.0 + 0.5).clamp(0.0, 255.0) as u8
}

#[allow(clippy::cast_precision_loss, reason = "a picture is at most a few thousand pixels wide")]
fn float(number: u32) -> f32 {
    number as f32
}

/// Whether a point is on a shape: 1 inside, 0 outside, between on its edge of one pixel.
fn on(shape: &Shape, x: f32, y: f32, pixel: f32) -> f32 {
    let (dx, dy) = (x - shape.centre.0, y - shape.centre.1);
    let distance = (dx * dx + dy * dy).sqrt();
    let edge = match shape.ring {
        Some(width) => width / 2.0 - (distance - shape.radius).abs(),
        None => shape.radius - distance,
    };
    (edge / pixel + 0.5).clamp(0.0, 1.0)
}

/// Draws a square picture from some bytes.
pub(super) fn draw(name: &[u8], size: u32) -> RgbImage {
    let mut bytes = [0; 32];
    let mut hasher = blake3::Hasher::new_derive_key("antiphon picture 1");
    hasher.update(name).finalize_xof().fill(&mut bytes);
    let [a, b, apart, direction, rest @ ..] = bytes;
    let hue = u16::from_le_bytes([a, b]) % 360;
    let other = hue + APART[usize::from(apart) % APART.len()];
    let (from, to) = (colour(hue, 0.52, 0.42), colour(other, 0.58, 0.60));
    let (dx, dy) = DIRECTIONS[usize::from(direction) % DIRECTIONS.len()];
    let mut shapes = Vec::with_capacity(SHAPES);
    for chunk in rest.as_chunks::<5>().0.iter().take(SHAPES) {
        let [x, y, radius, kind, tone] = *chunk;
        let hue = if kind & 2 == 0 { hue } else { other };
        shapes.push(Shape {
            centre: (part(x) * 1.2 - 0.1, part(y) * 1.2 - 0.1),
            radius: 0.14 + part(radius) * 0.36,
            ring: (kind & 1 == 1).then(|| 0.02 + part(radius) * 0.06),
            colour: colour(hue, 0.65, 0.30 + part(tone) * 0.48),
            strength: 0.30 + part(tone) * 0.25,
        });
    }
    let pixel = 1.0 / float(size.max(1));
    RgbImage::from_fn(size, size, |column, row| {
        let (x, y) = ((float(column) + 0.5) * pixel, (float(row) + 0.5) * pixel);
        // 0 at one corner, 1 at the opposite one.
        let along = ((x - 0.5) * dx + (y - 0.5) * dy) / (dx.abs() + dy.abs()) + 0.5;
        let mut colour = mix(from, to, along.clamp(0.0, 1.0));
        for shape in &shapes {
            colour = mix(colour, shape.colour, shape.strength * on(shape, x, y, pixel));
        }
        Rgb(colour.map(byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_theirs_and_neither_white_nor_black() {
        assert_eq!(draw(b"one", 40), draw(b"one", 40));
        assert_ne!(draw(b"one", 40), draw(b"two", 40));
        for name in 0..64u8 {
            let picture = draw(&[name], 16);
            let pixels = picture.pixels().len();
            let sum: usize = picture.pixels().flat_map(|pixel| pixel.0).map(usize::from).sum();
            let mean = sum / (3 * pixels);
            assert!((60..200).contains(&mean), "{name}: {mean}");
        }
    }

    #[test]
    fn hues() {
        assert_eq!(colour(0, 1.0, 0.5).map(byte), [255, 0, 0]);
        assert_eq!(colour(120, 1.0, 0.5).map(byte), [0, 255, 0]);
        assert_eq!(colour(600, 1.0, 0.5).map(byte), [0, 0, 255]);
        assert_eq!(colour(77, 0.0, 0.2).map(byte), [51, 51, 51]);
    }
}

//! Small charts as SVG, drawn here: pages need no script for them.

use std::fmt::Write as _;

use super::views::when;

const WIDTH: u64 = 600;
const HEIGHT: u64 = 160;
const EDGE: u64 = 4;

/// A line through these points of time (milliseconds since 1970) and value, with a title for those who do not see it, and
/// what its ends are, with values as `say` says them. Nothing for fewer than two.
pub(super) fn line(title: &str, points: &[(u64, u64)], say: &dyn Fn(u64) -> String) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    if points.len() < 2 || last.0 <= first.0 {
        return String::new();
    }
    let most = points.iter().map(|(_, value)| *value).max().unwrap_or(0).max(1);
    let across = |time: u64| scaled(time.saturating_sub(first.0), last.0 - first.0, WIDTH - 2 * EDGE) + EDGE;
    let down = |value: u64| HEIGHT - EDGE - scaled(value, most, HEIGHT - 2 * EDGE);
    let mut path = String::new();
    for (number, (time, value)) in points.iter().enumerate() {
        let step = if number == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{step}{} {}", across(*time), down(*value));
    }
    let (begun, now, top) = (say(first.1), say(last.1), say(most));
    let floor = HEIGHT - EDGE;
    let area = format!("{path}L{} {floor}L{} {floor}Z", across(last.0), across(first.0));
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}: {begun} at first, {now} now, \
         {top} at most\" preserveAspectRatio=\"none\"><path class=\"area\" d=\"{area}\"/><path class=\"line\" d=\"{path}\" \
         vector-effect=\"non-scaling-stroke\"/></svg><p class=\"dim\">{now} now, {top} at most. From {} to {}.</p>",
        when(first.0),
        when(last.0)
    )
}

fn scaled(value: u64, most: u64, length: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(length) / u128::from(most.max(1));
    u64::try_from(scaled).unwrap_or(length).min(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_inside() {
        let line =
            |title: &str, points: &[(u64, u64)]| line(title, points, &|value| format!("{value} units"));
        let drawn = line("Supply", &[(0, 0), (5, u64::MAX), (10, 1)]);
        assert!(drawn.contains("M4 156L300 4L596 156"), "{drawn}");
        assert!(drawn.contains("Supply: 0 units at first, 1 units now"));
        assert_eq!(line("x", &[(5, 5)]), "");
        assert_eq!(line("x", &[(5, 5), (5, 6)]), "");
    }
}

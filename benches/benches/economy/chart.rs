//! The chart: two panels of lines, in SVG that needs nothing else and is readable on light and dark pages.

use std::fmt::Write as _;

use antiphon_proto::{economy::TOKEN, wire::Economy};

use super::world::Point;

const WIDTH: f64 = 760.0;
const PANEL: f64 = 270.0;
const GAP: f64 = 82.0;
const TOP: f64 = 46.0;
const LEFT: f64 = 64.0;
/// Room for the names of the lines at their ends.
const RIGHT: f64 = 150.0;
/// Names keep this distance.
const LINE: f64 = 16.0;
/// Readable on white and on black.
const INK: &str = "#7d8590";

struct Line {
    name: &'static str,
    colour: &'static str,
    value: fn(&Point) -> u64,
}

const SUPPLY: [Line; 3] = [
    Line { name: "minted", colour: "#2f9e6e", value: |point| point.minted },
    Line { name: "burned", colour: "#e0563f", value: |point| point.burned },
    Line { name: "supply", colour: "#3b82d6", value: |point| point.supply },
];

const EARNERS: [Line; 4] = [
    Line { name: "serving peers", colour: "#2f9e6e", value: |point| point.serving },
    Line { name: "listeners", colour: "#3b82d6", value: |point| point.listeners },
    Line { name: "artists’ accounts", colour: "#a96bd6", value: |point| point.artists },
    Line { name: "still in escrow", colour: "#d08a1d", value: |point| point.escrow },
];

fn millions(units: u64) -> f64 {
    units as f64 / TOKEN as f64 / 1e6
}

/// A round step of which four to eight fit.
fn step(most: f64) -> f64 {
    let power = 10f64.powf((most / 5.0).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|of| of * power).find(|step| most / step <= 8.0).unwrap_or(10.0 * power)
}

fn number(value: f64, step: f64) -> String {
    let decimals = if step >= 1.0 {
        0
    } else if step >= 0.1 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

struct Panel<'p> {
    points: &'p [Point],
    top: f64,
    most_x: f64,
    most_y: f64,
}

impl Panel<'_> {
    fn x(&self, plays: f64) -> f64 {
        LEFT + plays / self.most_x * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL - value / self.most_y * PANEL
    }

    fn axes(&self, out: &mut String, title: &str) {
        let (right, bottom) = (WIDTH - RIGHT, self.top + PANEL);
        let _ = writeln!(out, r#"<text class="title" x="{LEFT}" y="{:.1}">{title}</text>"#, self.top - 26.0);
        let _ = writeln!(out, r#"<text x="{LEFT}" y="{:.1}">million tokens</text>"#, self.top - 9.0);
        let by = step(self.most_y);
        for at in 0..=((self.most_y / by) as usize) {
            let value = at as f64 * by;
            let y = self.y(value);
            let class = if at == 0 { "axis" } else { "grid" };
            let _ = writeln!(out, r#"<path class="{class}" d="M{LEFT} {y:.1}H{right}"/>"#);
            let text = number(value, by);
            let _ =
                writeln!(out, r#"<text class="end" x="{:.1}" y="{:.1}">{text}</text>"#, LEFT - 8.0, y + 4.0);
        }
        let by = step(self.most_x);
        for at in 0..=((self.most_x / by + 1e-9) as usize) {
            let value = at as f64 * by;
            let x = self.x(value);
            let _ = writeln!(out, r#"<path class="axis" d="M{x:.1} {bottom:.1}v5"/>"#);
            let text = number(value, by);
            let _ =
                writeln!(out, r#"<text class="middle" x="{x:.1}" y="{:.1}">{text}</text>"#, bottom + 19.0);
        }
        let middle = f64::midpoint(LEFT, right);
        let _ = writeln!(
            out,
            r#"<text class="middle" x="{middle:.1}" y="{:.1}">million plays</text>"#,
            bottom + 36.0
        );
    }

    fn level(&self, out: &mut String, name: &str, units: u64) {
        let y = self.y(millions(units));
        let _ = writeln!(out, r#"<path class="level" d="M{LEFT} {y:.1}H{:.1}"/>"#, WIDTH - RIGHT);
        let _ = writeln!(out, r#"<text x="{:.1}" y="{:.1}">{name}</text>"#, LEFT + 8.0, y - 5.0);
    }

    fn lines(&self, out: &mut String, lines: &[Line]) {
        let mut names: Vec<(f64, &Line)> = Vec::new();
        for line in lines {
            let mut path = String::new();
            for point in self.points {
                let letter = if path.is_empty() { 'M' } else { 'L' };
                let (x, y) = (self.x(point.plays as f64 / 1e6), self.y(millions((line.value)(point))));
                let _ = write!(path, "{letter}{x:.1} {y:.1}");
            }
            let _ = writeln!(out, r#"<path class="line" stroke="{}" d="{path}"/>"#, line.colour);
            let last = self.points.last().map_or(0, line.value);
            names.push((self.y(millions(last)) + 4.0, line));
        }
        // Names that would lie over one another move apart, downwards.
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut free = f64::NEG_INFINITY;
        for (y, line) in names {
            let y = y.max(free);
            free = y + LINE;
            let x = WIDTH - RIGHT + 8.0;
            let _ = writeln!(
                out,
                r#"<text class="name" fill="{}" x="{x:.1}" y="{y:.1}">{}</text>"#,
                line.colour, line.name
            );
        }
    }
}

/// Both panels.
pub(super) fn svg(points: &[Point], economy: &Economy) -> String {
    let most = |lines: &[Line]| {
        let all = points.iter().flat_map(|point| lines.iter().map(|line| (line.value)(point)));
        millions(all.max().unwrap_or(0))
    };
    let most_x = points.last().map_or(1.0, |point| point.plays as f64 / 1e6);
    let height = TOP + 2.0 * PANEL + GAP + 48.0;
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" fill="{INK}" aria-label="Supply, minted and burned tokens over plays, and who has earned them">
<style>
text {{ font: 13px system-ui, "DejaVu Sans", sans-serif; }}
.title {{ font-size: 15px; font-weight: 600; }}
.end {{ text-anchor: end; }}
.middle {{ text-anchor: middle; }}
.grid {{ stroke: {INK}; stroke-opacity: .18; fill: none; }}
.axis {{ stroke: {INK}; fill: none; }}
.level {{ stroke: {INK}; stroke-dasharray: 6 4; fill: none; }}
.line {{ fill: none; stroke-width: 2.2; stroke-linejoin: round; }}
</style>
"#
    );
    let first =
        Panel { points, top: TOP, most_x, most_y: most(&SUPPLY).max(millions(economy.cap_units)) * 1.06 };
    first.axes(&mut out, "Supply");
    first.level(&mut out, "floor", economy.floor_units);
    first.level(&mut out, "cap", economy.cap_units);
    first.lines(&mut out, &SUPPLY);
    let second = Panel { points, top: TOP + PANEL + GAP, most_x, most_y: most(&EARNERS) * 1.06 };
    second.axes(&mut out, "Who has earned, since the beginning");
    second.lines(&mut out, &EARNERS);
    out.push_str("</svg>\n");
    out
}

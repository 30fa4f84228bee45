//! A network's economy from its first play on: synthetic plays through the ledger's own rules for settlements. Nothing is
//! timed. Signatures are left out, which changes no result.
//!
//! `cargo bench -p antiphon-benches --bench economy -- [PLAYS [SVG [CSV]]]`
//!
//! Draws docs/economy.svg, or another file, and prints the table of docs/economy.md; every point of the chart goes to a
//! third file, if there is one. Paths are from the folder `benches` on. The same number of plays gives the same files.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it found")]
#![allow(clippy::cast_possible_truncation, reason = "ranks and marks on axes, far below 2^32")]

#[path = "economy/chart.rs"]
mod chart;
#[path = "economy/world.rs"]
mod world;

use std::{fmt::Write as _, path::PathBuf};

use antiphon_proto::economy::TOKEN;

use world::{Point, World};

/// Where the chart belongs.
const DRAWING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/economy.svg");

fn tokens(units: u64) -> f64 {
    units as f64 / TOKEN as f64
}

fn csv(points: &[Point]) -> String {
    let mut text =
        "plays,supply,minted,burned,listeners,serving,artists,escrow,burn_per_play,not_minted,songs_past_threshold,\
                    unaffordable,refused\n"
            .to_owned();
    for point in points {
        let Point { plays, supply, minted, burned, listeners, serving, artists, escrow, .. } = *point;
        let columns =
            [supply, minted, burned, listeners, serving, artists, escrow, point.burn, point.unminted]
                .map(tokens);
        let columns: Vec<String> = columns.iter().map(|column| format!("{column:.2}")).collect();
        let rest = [point.past, point.unaffordable, point.refused].map(|count| count.to_string());
        writeln!(text, "{plays},{},{}", columns.join(","), rest.join(",")).unwrap();
    }
    text
}

fn table(points: &[Point], plays: u64) {
    println!(
        "| plays | supply | minted | burned | a play burns | songs past the threshold | wanted, not affordable | \
         listeners | serving peers | artists | escrow |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for tenth in 1..=10 {
        let Some(point) = points.iter().find(|point| point.plays >= plays * tenth / 10) else { continue };
        let million = |units| format!("{:.2} M", tokens(units) / 1e6);
        println!(
            "| {:.2} M | {} | {} | {} | {:.2} | {} | {:.0} % | {} | {} | {} | {} |",
            point.plays as f64 / 1e6,
            million(point.supply),
            million(point.minted),
            million(point.burned),
            tokens(point.burn),
            point.past,
            point.unaffordable_share * 100.0,
            million(point.listeners),
            million(point.serving),
            million(point.artists),
            million(point.escrow),
        );
    }
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let plays: u64 = args.next().map_or(3_000_000, |text| text.parse().unwrap());
    let drawing = args.next().map_or_else(|| PathBuf::from(DRAWING), PathBuf::from);
    let points_to = args.next().map(PathBuf::from);
    let mut world = World::new(plays);
    let economy = world.economy();
    println!(
        "{plays} plays, 1/{} of the default: floor {:.0}, cap {:.0} tokens, threshold {} plays",
        world.scale(),
        tokens(economy.floor_units),
        tokens(economy.cap_units),
        economy.threshold_plays
    );
    let points = world.run(plays);
    println!("{}\n", world.summary());
    table(&points, plays);
    std::fs::write(drawing, chart::svg(&points, &economy)).unwrap();
    points_to.into_iter().for_each(|file| std::fs::write(file, csv(&points)).unwrap());
}

//! A network's economy from its first play on: synthetic plays through the ledger's own rules for settlements. Nothing is
//! timed. Signatures are left out, which changes no result.
//!
//! `cargo bench -p antiphon-benches --bench economy -- [PLAYS [FOLDER]]`
//!
//! Writes `economy.csv` and `economy.svg` into FOLDER (without one, the current folder of the bench: `benches`), and prints
//! the table of docs/economy.md. The same number of plays gives the same files on every machine.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a program that prints what it found; its chart and its randomness are small numbers"
)]

#[path = "economy/chart.rs"]
mod chart;
#[path = "economy/world.rs"]
mod world;

use std::{fmt::Write as _, path::PathBuf};

use antiphon_proto::economy::TOKEN;

use world::{Point, World};

fn tokens(units: u64) -> f64 {
    units as f64 / TOKEN as f64
}

fn csv(points: &[Point]) -> String {
    let mut text =
        "plays,supply,minted,burned,listeners,serving,artists,escrow,burn_per_play,songs_past_threshold,\
                    unaffordable,refused,brought_nothing\n"
            .to_owned();
    for point in points {
        let Point { plays, supply, minted, burned, listeners, serving, artists, escrow, .. } = *point;
        let columns = [supply, minted, burned, listeners, serving, artists, escrow, point.burn].map(tokens);
        let columns: Vec<String> = columns.iter().map(|column| format!("{column:.2}")).collect();
        let rest =
            [point.past, point.unaffordable, point.refused, point.empty].map(|count| count.to_string());
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
    let folder = args.next().map_or_else(PathBuf::new, PathBuf::from);
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
    std::fs::write(folder.join("economy.csv"), csv(&points)).unwrap();
    std::fs::write(folder.join("economy.svg"), chart::svg(&points, &economy)).unwrap();
}

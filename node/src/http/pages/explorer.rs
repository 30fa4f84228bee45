//! The explorer: what all peers agree on, for people. Every page names the JSON that it is made of.

use antiphon_ledger::Ledger;
use askama::Template;
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Answer, Failed, Page, Shared, blocking, chart, see,
    views::{bytes, counted, length, when},
};
use crate::{
    council_ops::CouncilStatus,
    explorer::EpochLine,
    http::{
        App,
        api::{
            ask,
            extract::{Asked, Named},
            ledger::lines,
        },
        problem::Problem,
    },
    ops::{self, LedgerNumbers, NamedBlocks, Request},
    search,
    token_ops::SongReport,
    tokens,
};

pub(super) const PLACE: &str = "explorer";
/// Lines on a page.
pub(super) const LINES: usize = 50;
/// Points of a chart.
const POINTS: usize = 200;

/// Asks what a command would ask.
async fn asked<T: DeserializeOwned>(app: &App, request: Request) -> Result<T, Failed> {
    Ok(ops::read(ask(app, request).await?.0)?)
}

/// A block in a list.
struct Line {
    index: u64,
    height: u64,
    kind: String,
    about: String,
    when: String,
    size: String,
}

fn blocks_below(ledger: &Ledger, below: u64, limit: usize) -> Result<Vec<Line>, crate::failure::Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let found = lines(ledger, below.min(ledger.size()), limit)?;
    let line = |line: &Value| Line {
        index: number(&line["index"]),
        height: number(&line["height"]),
        kind: text(&line["kind"]),
        about: text(&line["about"]),
        when: when(number(&line["time_ms"])),
        size: bytes(number(&line["bytes"])),
    };
    Ok(found.iter().map(line).collect())
}

#[derive(Template)]
#[template(path = "explorer/home.html")]
struct Home {
    numbers: LedgerNumbers,
    disk: String,
    head_when: String,
    supply: String,
    minted: String,
    burned: String,
    epoch: u64,
    blocks: Vec<Line>,
    supply_chart: String,
    plays_chart: String,
    burn_chart: String,
}

/// Head of the ledger, charts, and the newest blocks.
pub(super) async fn home(State(app): Shared) -> Answer {
    let numbers: LedgerNumbers = asked(&app, Request::LedgerInfo).await?;
    let (ledger, explorer) = (app.peer.ledger.clone(), app.explorer.clone());
    let main = blocking(move || {
        let (sums, points) = (ledger.tokens(), explorer.chart(POINTS)?);
        let plays = |count: u64| counted(usize::try_from(count).unwrap_or(usize::MAX), "play");
        let curve = |name: &str, of: &dyn Fn(&EpochLine) -> u64, say: &dyn Fn(u64) -> String| {
            let points: Vec<(u64, u64)> = points.iter().map(|point| (point.time_ms, of(point))).collect();
            chart::line(name, &points, say)
        };
        anyhow::Ok(Home {
            disk: bytes(numbers.disk_bytes),
            head_when: when(ledger.time_ms()),
            supply: tokens::format(sums.supply()),
            minted: tokens::format(sums.totals.minted),
            burned: tokens::format(sums.totals.burned),
            epoch: sums.totals.epoch,
            blocks: blocks_below(&ledger, u64::MAX, 15)?,
            supply_chart: curve("Supply", &|point| point.supply_units, &tokens::words),
            plays_chart: curve("Plays in each settlement", &|point| point.plays.into(), &plays),
            burn_chart: curve("Burned in each settlement", &|point| point.burned_units, &tokens::words),
            numbers,
        })
    });
    Page::show("Explorer", PLACE, &main.await?)
}

/// Where a list goes on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Below {
    pub(super) below: Option<u64>,
}

#[derive(Template)]
#[template(path = "explorer/blocks.html")]
struct Blocks {
    blocks: Vec<Line>,
    size: u64,
    next: Option<u64>,
}

/// Blocks, the newest first.
pub(super) async fn blocks(State(app): Shared, Asked(query): Asked<Below>) -> Answer {
    let ledger = app.peer.ledger.clone();
    let main = blocking(move || {
        let blocks = blocks_below(&ledger, query.below.unwrap_or(u64::MAX), LINES)?;
        let next = blocks.last().map(|line| line.index).filter(|index| *index > 0);
        Ok::<_, crate::failure::Failure>(Blocks { blocks, size: ledger.size(), next })
    });
    Page::show("Blocks", PLACE, &main.await?)
}

#[derive(Template)]
#[template(path = "explorer/block.html")]
struct Block {
    index: u64,
    kind: String,
    when: String,
    json: String,
    size: u64,
    song: bool,
}

/// A block, all of it.
pub(super) async fn block(State(app): Shared, Named(which): Named<String>) -> Answer {
    let shown = ask(&app, Request::LedgerShow { what: which }).await?.0;
    let json = serde_json::to_string_pretty(&shown).map_err(anyhow::Error::from)?;
    let index = shown["index"].as_u64().unwrap_or_default();
    let kind = shown["kind"].as_str().unwrap_or("block").to_owned();
    let main = Block {
        index,
        song: shown["song"].is_object(),
        when: when(shown["time_ms"].as_u64().unwrap_or_default()),
        json,
        size: app.peer.ledger.size(),
        kind,
    };
    Page::show(format!("Block {index}"), PLACE, &main)
}

/// A proof that a block is in the log, to be stored.
pub(super) async fn proof(State(app): Shared, Named(index): Named<u64>) -> Answer {
    let proof = ask(&app, Request::LedgerProof { what: index.to_string() }).await?.0;
    let text = proof["proof"].as_str().unwrap_or_default().to_owned();
    let mut response = text.into_response();
    let name = format!("attachment; filename=\"block-{index}.tlog-proof\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

#[derive(Template)]
#[template(path = "explorer/song.html")]
struct Song {
    report: SongReport,
    minted: String,
    burned: String,
    paid: String,
    burn: String,
}

/// What a song has brought, and what it asks.
pub(super) async fn song(State(app): Shared, Named(which): Named<String>) -> Answer {
    let digits = which.bytes().all(|byte| byte.is_ascii_digit());
    let what = if digits { format!("#{which}") } else { which };
    let report: SongReport = asked(&app, Request::LedgerSong { what }).await?;
    let main = Song {
        minted: tokens::format(report.minted_units),
        burned: tokens::format(report.burned_units),
        paid: tokens::format(report.paid_units),
        burn: tokens::format(report.burn_units),
        report,
    };
    Page::show(main.report.name(), PLACE, &main)
}

/// A settlement in a list.
struct Settled {
    line: EpochLine,
    when: String,
    minted: String,
    burned: String,
    supply: String,
}

#[derive(Template)]
#[template(path = "explorer/epochs.html")]
struct Epochs {
    epochs: Vec<Settled>,
    next: Option<u64>,
}

/// Settlements, the newest first.
pub(super) async fn epochs(State(app): Shared, Asked(query): Asked<Below>) -> Answer {
    let explorer = app.explorer.clone();
    let main = blocking(move || {
        let found = explorer.epochs(query.below.unwrap_or(u64::MAX), LINES)?;
        let next = found.last().map(|line| line.number).filter(|number| *number > 1);
        let settled = |line: EpochLine| Settled {
            when: when(line.time_ms),
            minted: tokens::format(line.minted_units),
            burned: tokens::format(line.burned_units),
            supply: tokens::format(line.supply_units),
            line,
        };
        anyhow::Ok(Epochs { epochs: found.into_iter().map(settled).collect(), next })
    });
    Page::show("Settlements", PLACE, &main.await?)
}

#[derive(Template)]
#[template(path = "explorer/council.html")]
struct Council {
    status: CouncilStatus,
    epoch_when: String,
    floor: String,
    cap: String,
    epoch_length: String,
}

/// The council, its members and what they vote on.
pub(super) async fn council(State(app): Shared) -> Answer {
    let status: CouncilStatus = asked(&app, Request::CouncilStatus).await?;
    let main = Council {
        epoch_when: when(status.epoch_ms),
        floor: tokens::format(status.economy.floor_units),
        cap: tokens::format(status.economy.cap_units),
        epoch_length: length(status.economy.epoch_ms.into()),
        status,
    };
    Page::show("Council", PLACE, &main)
}

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Find {
    q: String,
}

/// A song that was found.
struct Hit {
    index: u64,
    title: String,
    artist: String,
    length: String,
}

#[derive(Template)]
#[template(path = "explorer/find.html")]
struct Found {
    words: String,
    hits: Vec<Hit>,
    total: u64,
}

/// One box for everything: an index, `h` and a height, a hash of a block, song or file, a key, or words.
pub(super) async fn find(State(app): Shared, Asked(Find { q }): Asked<Find>) -> Answer {
    let q = q.trim().to_owned();
    let numbered = q.trim_start_matches('#');
    if !numbered.is_empty() && numbered.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(see(&format!("/explorer/block/{numbered}")));
    }
    let height = q.strip_prefix(['h', 'H']).and_then(|height| height.trim().parse::<u64>().ok());
    let hash = q.len() == 64 && q.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (ledger, index, named) =
        (app.peer.ledger.clone(), app.peer.search.clone(), NamedBlocks::of(&app.peer));
    let found = blocking(move || -> anyhow::Result<Result<Response, Found>> {
        if let Some(height) = height {
            if let Some(first) = first_of_height(&ledger, height)? {
                return Ok(Ok(see(&format!("/explorer/block/{first}"))));
            }
        } else if hash {
            let q = q.to_ascii_lowercase();
            return Ok(Ok(match named.index(&q) {
                Ok(found) => see(&format!("/explorer/block/{found}")),
                // No block, song or file: whoever has a key has an account.
                Err(_) => see(&format!("/explorer/account/{q}")),
            }));
        }
        let page = search::Page { offset: 0, limit: LINES };
        let hits = index.search(&q, page, None)?;
        let hit = |hit: search::Hit| Hit {
            index: hit.song.index,
            title: hit.song.title,
            artist: hit.song.artist,
            length: length(hit.song.duration_ms.into()),
        };
        Ok(Err(Found { words: q, total: hits.total, hits: hits.songs.into_iter().map(hit).collect() }))
    });
    match found.await? {
        Ok(redirect) => Ok(redirect),
        Err(main) => Page::show("Explorer search", PLACE, &main),
    }
}

/// The first block of a height: heights only rise from block to block.
fn first_of_height(ledger: &Ledger, height: u64) -> anyhow::Result<Option<u64>> {
    let height_of = |index| anyhow::Ok(ledger.parsed(index)?.map_or(u64::MAX, |block| block.height));
    let (mut low, mut high) = (0, ledger.size());
    while low < high {
        let middle = low + (high - low) / 2;
        if height_of(middle)? < height { low = middle + 1 } else { high = middle }
    }
    Ok((low < ledger.size() && height_of(low)? == height).then_some(low))
}

/// What is not there.
pub(super) async fn nothing() -> Failed {
    Problem::not_found("The explorer has no such page.").into()
}

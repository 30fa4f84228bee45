//! Replays a dump through the state machine, in memory, and prints the digest of the state that it leads to, which must
//! be the same in every build and on every machine.
//!
//! `cargo run --release -p antiphon-ledger --example replay -- DUMP`
//!
//! For another architecture, with Debian's cross compiler and emulator (`rustc-web`, `libstd-rust-web-dev:arm64`,
//! `gcc-aarch64-linux-gnu`, `qemu-user-static`):
//!
//! ```text
//! RUSTC=/usr/bin/rustc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
//!     cargo build --release -p antiphon-ledger --example replay --target aarch64-unknown-linux-gnu
//! qemu-aarch64-static -L /usr/aarch64-linux-gnu target/aarch64-unknown-linux-gnu/release/examples/replay DUMP
//! ```
//!
//! Nothing is stored, so that an emulator without a store's threads can run it: signatures, stamps and every rule of the
//! state machine but the near-duplicate rule are checked; seals and the log are `antiphon ledger verify`'s business.
#![allow(clippy::print_stdout, reason = "a program that prints one line")]

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use antiphon_ledger::{
    Roster, Similar,
    dump::StateDigest,
    error::Fault,
    log::tile::{Tile, parse_entries},
    state::{Batch, Checked, ContentEntry, Params, Position, View},
    tokens::{StateKey, Tokens},
};
use antiphon_proto::{
    ContentHash, SongId,
    wire::{Block, Genesis, Song, block::Body},
};

#[derive(Default)]
struct Memory {
    contents: BTreeMap<ContentHash, ContentEntry>,
    songs: BTreeMap<SongId, u64>,
    bodies: BTreeMap<u64, Song>,
    state: BTreeMap<StateKey, Vec<u8>>,
}

impl View for Memory {
    fn content(&mut self, hash: &ContentHash) -> Result<Option<ContentEntry>, Fault> {
        Ok(self.contents.get(hash).copied())
    }

    fn song_index(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        Ok(self.songs.get(id).copied())
    }

    fn song_id(&mut self, _: u64) -> Result<Option<SongId>, Fault> {
        Ok(None)
    }

    fn similar(&mut self, _: &Song) -> Result<Option<Similar>, Fault> {
        Ok(None)
    }

    fn accept_song(&mut self, index: u64, song: &Song) -> Result<(), Fault> {
        self.bodies.insert(index, song.clone());
        Ok(())
    }

    fn accept_other(&mut self, _: u64) {}

    fn song(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        Ok(self.bodies.get(&index).cloned())
    }

    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.state.get(key).cloned())
    }
}

impl Memory {
    fn remember(&mut self, block: &Block) -> Result<(), Box<dyn Error>> {
        let index = block.index;
        let (content, song_id, song_index) = match &block.body {
            Some(Body::Song(song)) => (song.content()?, song.id(), index),
            Some(Body::Variant(variant)) => {
                let song = variant.song()?;
                (variant.content()?, song, *self.songs.get(&song).ok_or("a variant of nothing")?)
            }
            _ => return Ok(()),
        };
        if song_index == index {
            self.songs.insert(song_id, index);
        }
        self.contents.insert(content, ContentEntry { index, song_index, song_id });
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dump = std::env::args_os().nth(1).ok_or("usage: replay DUMP")?;
    let dump = Path::new(&dump);
    let genesis = Genesis::parse(&fs::read(dump.join("genesis"))?)?;
    let checkpoint = fs::read_to_string(dump.join("checkpoint"))?;
    let size: u64 = checkpoint.lines().nth(1).ok_or("the checkpoint has no size")?.parse()?;
    let params = Params::of(&genesis);
    // Who is in the council does not matter to songs; acts of the council need the seals, which are not read here.
    let roster = Roster::genesis(&genesis.member_keys());
    let (mut memory, mut position) = (Memory::default(), Position::start(&params.network));
    let mut digest = StateDigest::start(&params.network);
    let (mut waiting, mut tokens): (Vec<Checked>, _) = (Vec::new(), Tokens::start(&params));
    for tile in Tile::of_entries(size, 0) {
        let bytes = fs::read(dump.join(tile.path()))?;
        for entry in parse_entries(&bytes, tile.width).ok_or("a bundle is malformed")? {
            let checked = Checked::parse(&params, entry)?;
            if waiting.first().is_some_and(|first| first.block().height != checked.block().height) {
                (position, tokens) =
                    apply(&params, (position, tokens), &roster, &mut memory, &mut digest, &waiting)?;
                waiting.clear();
            }
            waiting.push(checked);
        }
    }
    (position, tokens) = apply(&params, (position, tokens), &roster, &mut memory, &mut digest, &waiting)?;
    println!("{} blocks, last {}, state {digest}", position.size, position.link);
    let sums = data_encoding::HEXLOWER.encode(&tokens.digest());
    println!(
        "{} units in {} accounts, escrows and songs, digest {sums}",
        tokens.supply(),
        tokens.totals.entries
    );
    Ok(())
}

fn apply(
    params: &Params,
    (position, tokens): (Position, Tokens),
    roster: &Roster,
    memory: &mut Memory,
    digest: &mut StateDigest,
    blocks: &[Checked],
) -> Result<(Position, Tokens), Box<dyn Error>> {
    let mut batch = Batch::begin(params, position, roster, tokens, memory);
    for block in blocks {
        batch.apply(block)?;
    }
    let position = batch.position();
    let applied = batch.finish();
    memory.state.extend(applied.state);
    for block in blocks {
        memory.remember(block.block())?;
        digest.add(block.block(), |id| Ok(memory.songs.get(id).copied()))?;
    }
    Ok((position, applied.tokens))
}

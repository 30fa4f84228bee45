//! What words mean, however much of the ledger is indexed.

use std::sync::Arc;

use antiphon_ledger::{Options, SealedBatch, seal::Sealer};
use antiphon_proto::{
    SecretKey,
    wire::{Genesis, Registration, Variant},
};
use tempfile::TempDir;

use super::*;
use crate::search::{ListedSources, Sources};

struct Shop {
    _folder: TempDir,
    ledger: Ledger,
    index: Index,
}

fn song(key: &SecretKey, genesis: &Genesis, [title, artist, album]: [&str; 3], track: u32) -> Song {
    let mut song = Song {
        registrant: key.public().0.to_vec(),
        title: title.to_owned(),
        artist: artist.to_owned(),
        album: album.to_owned(),
        track,
        fingerprint: vec![2; 9],
        content_hash: ContentHash::of(format!("{title}{artist}").as_bytes()).0.to_vec(),
        bytes: 1_000,
        duration_ms: 60_000,
        created_ms: 1,
        ..Song::default()
    };
    song.sign(&genesis.network_id(), key);
    song
}

/// A ledger of eight songs and a variant of song 3, of which so many blocks are indexed.
fn shop(indexed: u64) -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::from_seed(&[7; 32]);
    let genesis =
        Genesis { stamp_bits: 0, batch_quota: 340, ..Genesis::new("", 1, [0; 16], &[key.public()]) };
    let sealer = Sealer::new(&genesis, SecretKey::from_seed(&[7; 32])).unwrap();
    let ledger =
        Ledger::open(&folder.path().join("ledger"), Options::without_rule(Some(genesis.clone()))).unwrap();
    let songs: Vec<Song> = [
        (["Black", "Pearl Jam", "Ten"], 5),
        (["Back in Black", "AC/DC", "Back in Black"], 6),
        (["Hells Bells", "AC/DC", "Back in Black"], 1),
        (["Battery", "Metallica", "Master of Puppets"], 1),
        (["Enter Sandman", "Metallica", "Metallica"], 1),
        (["Intro", "Alva", "Hits"], 1),
        (["Intro", "Bela", "Hits"], 1),
        (["Blackbird", "The Beatles", "The White Album"], 11),
    ]
    .into_iter()
    .map(|(names, track)| song(&key, &genesis, names, track))
    .collect();
    let mut variant = Variant {
        song_id: songs[3].id().0.to_vec(),
        content_hash: ContentHash::of(b"another encoding").0.to_vec(),
        container: 1,
        bytes: 500,
        bitrate_kbps: 128,
        registrant: key.public().0.to_vec(),
        ..Variant::default()
    };
    variant.sign(&genesis.network_id(), &key);
    let mut registrations: Vec<Registration> = songs.into_iter().map(Registration::of_song).collect();
    registrations.push(Registration::of_variant(variant));
    let index = Index::new(&folder.path().join("search"), &ledger.network(), Arc::new(ledger.clone()));
    for registration in registrations {
        let proposal = ledger.propose(5, &[registration]).unwrap();
        assert_eq!(proposal.blocks.len(), 1, "{:?}", proposal.verdicts);
        let seal = sealer.seal(&proposal);
        ledger.append(&SealedBatch { first: proposal.first, blocks: proposal.blocks, seal }).unwrap();
        if ledger.size() == indexed {
            index.update(&|| false, &|_| {}).unwrap();
        }
    }
    Shop { _folder: folder, ledger, index }
}

impl Shop {
    fn one(&self, words: &str) -> Result<u64, Failure> {
        select(&self.ledger, &self.index, words).map(|found| found.index).map_err(|error| Failure::of(&error))
    }

    fn many(&self, words: &str) -> Result<Vec<u64>, Failure> {
        let found = select_many(&self.ledger, &self.index, words).map_err(|error| Failure::of(&error))?;
        Ok(found.iter().map(|found| found.index).collect())
    }
}

#[test]
fn words_mean_one_song() {
    for indexed in [0, 1, 4, 9] {
        let shop = shop(indexed);
        for (words, expected) in [
            ("black", 0),
            ("BACK IN BLACK", 1),
            ("acdc bells", 2),
            ("AC/DC - Hells Bells", 2),
            ("metallica batt", 3),
            ("#3", 3),
            ("intro bela", 6),
            ("beatles", 7),
        ] {
            assert_eq!(shop.one(words).unwrap(), expected, "{words:?} with {indexed} indexed");
            assert_eq!(shop.many(words).ok(), Some(vec![expected]), "{words:?} with {indexed} indexed");
        }
        let id = shop.ledger.song(5).unwrap().unwrap().id().to_string();
        assert_eq!((shop.one(&id).unwrap(), shop.one(&id[..10]).unwrap()), (5, 5));
        for (words, kind) in [
            ("intro", Kind::Usage),
            ("metallica", Kind::Usage),
            ("blakc", Kind::NotFound),
            ("#8", Kind::NotFound),
            ("", Kind::NotFound),
        ] {
            assert_eq!(shop.one(words).unwrap_err().kind, kind, "{words:?} with {indexed} indexed");
        }
    }
    let near = shop(9).one("hels belsl").unwrap_err().message;
    assert!(near.contains("did you mean") && near.contains("#2  AC/DC - Hells Bells"), "{near}");
}

#[test]
fn words_mean_albums_and_artists() {
    for indexed in [0, 2, 6, 9] {
        let shop = shop(indexed);
        for (words, expected) in [
            // A whole title is meant before an album.
            ("back in black", vec![1]),
            ("album:back in black", vec![1, 2]),
            ("artist:acdc", vec![1, 2]),
            ("AC DC", vec![1, 2]),
            ("Master of Puppets", vec![3]),
            ("artist:Metallica", vec![3, 4]),
            ("album:metallica", vec![4]),
            ("album:Hits artist:Bela", vec![6]),
            ("artist:Alva album:Hits", vec![5]),
        ] {
            let mut found = shop.many(words).unwrap();
            found.sort_unstable();
            assert_eq!(found, expected, "{words:?} with {indexed} indexed");
        }
        for (words, kind, told) in [
            ("metallica", Kind::Usage, "artist:metallica"),
            ("album:Hits", Kind::Usage, "album:Hits artist:Bela"),
            ("hits", Kind::Usage, "artist:Alva"),
            ("album:Nothing", Kind::NotFound, "Nothing"),
            ("album:", Kind::NotFound, ""),
            ("artist:", Kind::NotFound, ""),
            ("album:Hits artist:Zoe", Kind::NotFound, ""),
        ] {
            let failure = shop.many(words).unwrap_err();
            assert_eq!(failure.kind, kind, "{words:?} with {indexed} indexed: {failure}");
            assert!(failure.message.contains(told), "{failure}");
        }
    }
    // In the order of the album, once it is indexed.
    assert_eq!(shop(9).many("album:back in black").unwrap(), [2, 1]);
}

#[test]
fn a_variant_counts_for_its_song() {
    let shop = shop(9);
    let mut sources = ListedSources::default();
    sources.add(8, 1);
    let page = Page::default();
    let online = shop.index.search("battery", page, Some(&sources)).unwrap();
    assert_eq!((online.total, online.songs[0].song.index, online.songs[0].sources), (1, 3, Some(1)));
    let mut all = shop.index.search("battery", page, None).unwrap();
    shop.index.count_sources(&mut all, &sources).unwrap();
    assert_eq!((all.songs[0].sources, sources.count(3)), (Some(1), 0));
}

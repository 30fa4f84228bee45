//! Files that are cut, gone or garbled; kills; other ledgers.

use std::{fs, path::PathBuf, sync::Arc};

use super::{super::*, Memory, NETWORK, Shelf, song};

fn songs(shelf: &Shelf, from: u64, to: u64) {
    for number in from..to {
        let title = format!("Tune {number} {}", ["amber", "birch", "cedar"][number as usize % 3]);
        shelf.add(song([&title, "Player", &format!("Album {}", number / 10), "Folk"]));
    }
}

fn shelf() -> Shelf {
    let shelf = Shelf::new();
    songs(&shelf, 0, 20);
    shelf.update();
    songs(&shelf, 20, 30);
    shelf.update();
    shelf
}

/// The same on disk, in another folder.
fn copy(shelf: &Shelf) -> Shelf {
    let other = Shelf { blocks: shelf.blocks.clone(), ..Shelf::new() }.reopened();
    fs::create_dir(other.folder.path().join("search")).unwrap();
    for file in files(shelf) {
        fs::copy(&file, other.folder.path().join("search").join(file.file_name().unwrap())).unwrap();
    }
    other
}

fn files(shelf: &Shelf) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(shelf.folder.path().join("search"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn is_whole(shelf: &Shelf) {
    assert_eq!(shelf.index.size(), 30);
    assert_eq!(shelf.search("tune").total, 30);
    assert_eq!(shelf.found("tune 7"), [7]);
    assert_eq!(shelf.search("birch player").total, 10);
    assert_eq!(shelf.index.albums("Album 2", 100).unwrap()[0].songs.len(), 10);
}

#[test]
fn any_file_cut_gone_or_garbled_is_made_anew() {
    let whole = shelf();
    let count = files(&whole).len();
    assert!(count > 8, "{count} files");
    let mut names = Vec::new();
    for at in 0..count {
        for kind in 0..5 {
            let shelf = copy(&whole);
            let path = files(&shelf)[at].clone();
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            match kind {
                0 => fs::remove_file(&path).unwrap(),
                1 => fs::write(&path, []).unwrap(),
                2 => fs::write(&path, &bytes[..middle]).unwrap(),
                3 => {
                    bytes[middle] ^= 0x10;
                    fs::write(&path, &bytes).unwrap();
                }
                _ => {
                    let last = bytes.len() - 1;
                    bytes[last] ^= 1;
                    fs::write(&path, &bytes).unwrap();
                }
            }
            names.push(path.extension().map(|end| end.to_string_lossy().into_owned()));
            let shelf = shelf.reopened();
            assert_eq!(shelf.update(), 30, "{} kind {kind}", path.display());
            is_whole(&shelf);
            // Once more: nothing is left of the damage.
            is_whole(&{
                let shelf = shelf.reopened();
                shelf.index.open().unwrap();
                shelf
            });
        }
    }
    for ending in ["term", "idx", "fast", "store", "json"] {
        assert!(names.contains(&Some(ending.to_owned())), "{names:?}");
    }
}

#[test]
fn damage_under_an_open_index_is_noticed_and_mended() {
    let shelf = shelf();
    shelf.update();
    let garbled: Vec<PathBuf> =
        files(&shelf).into_iter().filter(|path| path.extension().is_some_and(|end| end == "term")).collect();
    assert!(!garbled.is_empty());
    for path in garbled {
        fs::write(path, vec![0xff; 300]).unwrap();
    }
    // Opened for questions only now.
    let shelf = shelf.reopened();
    shelf.index.open().unwrap();
    assert_eq!(shelf.search("tune").total, 0, "nothing is usable");
    shelf.update();
    is_whole(&shelf);
}

#[test]
fn leftovers_of_a_kill_are_cleared_away() {
    let shelf = shelf();
    let before = files(&shelf).len();
    // A segment that was written but not committed, and a list that was not renamed.
    for name in
        ["00000000000000000000000000000000.term", "00000000000000000000000000000000.fast", "meta.json.new"]
    {
        fs::write(shelf.folder.path().join("search").join(name), b"half").unwrap();
    }
    let shelf = shelf.reopened();
    shelf.update();
    is_whole(&shelf);
    songs(&shelf, 30, 31);
    shelf.update();
    let left = files(&shelf);
    assert!(left.len() <= before + 7, "{left:?}");
    assert!(
        !left.iter().any(|path| path.to_string_lossy().contains("00000000000000000000000000000000")),
        "{left:?}"
    );
}

#[test]
fn an_update_that_is_stopped_goes_on_where_it_was() {
    let shelf = Shelf::new();
    songs(&shelf, 0, 20_000);
    let looks = std::cell::Cell::new(0);
    let stop = || {
        looks.set(looks.get() + 1);
        looks.get() > 40
    };
    let stopped = shelf.index.update(&stop, &|_| {});
    assert!(matches!(stopped, Err(SearchError::Stopped)), "{stopped:?}");
    let covered = shelf.index.size();
    assert!(covered > 0 && covered < 20_000, "{covered}");
    let shelf = shelf.reopened();
    assert_eq!(shelf.index.open().unwrap(), covered);
    assert_eq!(shelf.update(), 20_000);
    assert_eq!(shelf.search("tune").total, 20_000);
    assert_eq!(shelf.search("tune").behind, 0);
}

#[test]
fn other_ledgers_and_networks_are_not_taken_for_this_one() {
    // Ahead: the ledger was replaced by an older one.
    let shelf = shelf();
    shelf.blocks.cut(25);
    let shelf = shelf.reopened();
    assert_eq!(shelf.update(), 25);
    assert_eq!(shelf.search("tune").total, 25);
    // As long, but another.
    shelf.blocks.cut(24);
    shelf.add(song(["Other", "", "", ""]));
    let shelf = shelf.reopened();
    shelf.update();
    assert_eq!((shelf.search("tune").total, shelf.search("other").total), (24, 1));
    // Another network.
    let other = Arc::new(Memory::default());
    other.push(Entry::Song(Box::new(song(["Alone", "", "", ""]))));
    let index = Index::new(&shelf.folder.path().join("search"), &NetworkId([1; 32]), other);
    index.update(&|| false, &|_| {}).unwrap();
    assert_eq!(index.search("alone", Page::default(), None).unwrap().total, 1);
    assert_eq!(index.search("tune", Page::default(), None).unwrap().total, 0);
    let _ = NETWORK;
}

#[test]
fn questions_go_on_while_the_index_grows() {
    let shelf = Arc::new(Shelf::new());
    songs(&shelf, 0, 300);
    shelf.update();
    let asking = {
        let shelf = shelf.clone();
        std::thread::spawn(move || {
            let mut least = 0;
            while least < 3_000 {
                let total = shelf.search("tune").total;
                assert!(total >= least, "{total} after {least}");
                least = total;
                if total.is_multiple_of(2) {
                    shelf.index.rest(Duration::ZERO);
                }
            }
        })
    };
    for start in (300..3_000).step_by(100) {
        songs(&shelf, start, start + 100);
        shelf.update();
    }
    asking.join().unwrap();
}

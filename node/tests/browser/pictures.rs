//! Pictures of the pages, for people who have not seen them.
//!
//!     ANTIPHON_PICTURES=docs/screenshots cargo test -p antiphon --test browser -- --ignored pictures

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{
    access::settled,
    common::real_music,
    driver::{Browser, DESKTOP, Looks, PHONE},
    listening::{is_heard, play},
    scene::{ALBUM, Scene},
};

/// Waits until what is shown is whole: pictures are there, and nothing moves any more.
fn shown(browser: &Browser) {
    browser.until(
        "the pictures of the page",
        "[...document.images].filter((img) => img.getBoundingClientRect().top < innerHeight).every((img) => img.complete)
         && document.getAnimations().length === 0 && document.getElementById('toast')?.hidden !== false",
    );
}

#[test]
#[ignore = "writes pictures where ANTIPHON_PICTURES says"]
fn pictures() {
    let folder = PathBuf::from(std::env::var_os("ANTIPHON_PICTURES").expect("a folder in ANTIPHON_PICTURES"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut music = real_music("wesnoth-1.16-music");
    music.retain(|path| !path.ends_with("silence.ogg"));
    music.extend(
        real_music("amoebax-data")
            .into_iter()
            .filter(|path| path.extension().is_some_and(|kind| kind == "ogg")),
    );
    let scene = Scene::with(&music, DESKTOP, None).expect("Chromium and Debian's music packages");
    let browser = &scene.browser;
    let pages = settled(&scene);
    let page = |kind: &str| pages.iter().find(|page| page.starts_with(kind)).unwrap().as_str();
    let take = |name: &str, path: &str, looks: Looks| {
        browser.looks(looks);
        browser.visit(path);
        shown(browser);
        browser.picture(&folder.join(format!("{name}.png")));
    };
    let (dark, light) = (Looks { dark: true, ..DESKTOP }, Looks { dark: false, ..PHONE });
    take("discover", "/discover?tab=artists", DESKTOP);
    take("songs", "/discover?tab=songs", dark);
    take("album", page("/album/"), DESKTOP);
    take("song", page("/song/"), dark);
    take("search", "/search?q=theme", DESKTOP);
    take("playlist", page("/playlists/pl-"), DESKTOP);
    take("peers", "/peers", DESKTOP);
    take("wallet", "/wallet", DESKTOP);
    take("explorer", "/explorer", dark);
    take("block", page("/explorer/block/"), dark);
    take("phone-discover", "/discover?tab=artists", PHONE);
    take("phone-album", page("/album/"), light);
    take("phone-explorer", "/explorer", light);

    for (name, looks, queue) in [
        ("playing", dark, false),
        ("queue", DESKTOP, true),
        ("phone-playing", PHONE, false),
        ("phone-queue", light, true),
    ] {
        browser.looks(looks);
        play(browser, "Traveling Minstrels");
        is_heard(browser, 1.0);
        browser.click_at("#p-seek", 0.35);
        browser.until("the place", "window.heard[0].currentTime > 60");
        browser.until("its way", "document.getElementById('p-way').textContent !== ''");
        browser.until("the album", &format!("document.querySelector('h1').innerText === {}", json!(ALBUM)));
        browser.js("scrollTo(0, 0)", &[]);
        if queue {
            browser.click("#p-queue");
        }
        shown(browser);
        browser.picture(&folder.join(format!("{name}.png")));
        if queue {
            browser.click("#q-close");
        }
    }
}

//! What the listener does with songs: keeps them, looks for them, and puts them where they are found again.

use std::fs;

use serde_json::json;

use crate::{
    common::{Machine, wait_scanned},
    driver::{Browser, DESKTOP},
    listening::{is_heard, is_titled},
    scene::{ALBUM, Scene, base, bring, pieces},
};

#[test]
fn songs_and_albums_are_kept() {
    // Slow enough that how far they are can be seen.
    let Some(scene) = Scene::open(DESKTOP, Some(1_000)) else { return };
    let browser = &scene.browser;
    browser.visit("/library");
    browser.until_says("Nothing here yet");
    browser.js("window.still = true", &[]);
    // One song, on its page.
    let song = scene.song("Love Theme");
    browser.click(".side [data-place=discover]");
    browser.press(ALBUM);
    browser.press("Love Theme");
    browser.until("the page of the song", "document.querySelector('h1').innerText === 'Love Theme'");
    browser.press("Keep");
    browser.until_says("In library");
    browser.until("nothing to keep", "!document.querySelector('[data-key=keep]')");
    browser.click(".side [data-place=library]");
    browser.until_says("1 song in 1 album");

    // The rest of the album: how far it is, and in the end all of it.
    browser.press(ALBUM);
    browser.until("the album", &format!("document.querySelector('h1').innerText === {}", json!(ALBUM)));
    browser.js(
        "window.told = new Set();
         new MutationObserver(() => document.querySelectorAll('[data-coming]').forEach((one) => window.told.add(one.textContent)))
             .observe(document.body, { childList: true, subtree: true, characterData: true });
         scrollTo(0, 200);",
        &[],
    );
    browser.press("Keep");
    browser.until_says("On the way to your library");
    assert_eq!(browser.at(), format!("/album/{}", song["album_id"].as_str().unwrap()));
    // Stopped, and begun again: what has come of it is not lost.
    browser.press("Stop keeping");
    browser.until("a stop", "document.querySelector('[data-key=keep]')?.innerText.trim() === 'Keep'");
    browser.press("Keep");
    browser.until("all of it", "document.querySelectorAll('.tag.here').length === 7");
    let told = browser.js("return [...window.told]", &[]);
    let told: Vec<&str> = told.as_array().unwrap().iter().map(|words| words.as_str().unwrap()).collect();
    assert!(told.iter().any(|words| words.ends_with(" %")), "{told:?}");
    assert!(told.iter().any(|words| words.ends_with(" songs to come")), "{told:?}");
    browser.click(".side [data-place=library]");
    browser.until_says("7 songs in 1 album");
    assert_eq!(browser.js("return window.still", &[]), true);
    browser.visit("/downloads");
    browser.until_says("Nothing is on its way");
    browser.until_says("Love Theme");
    browser.until_says("In library");
    browser.is_quiet();
}

#[test]
fn songs_are_found_and_put_into_playlists() {
    let Some(scene) = Scene::open(DESKTOP, None) else { return };
    let browser = &scene.browser;
    let look_for = |words: &str, found: &str| {
        browser.click(".side [data-place=search]");
        browser.until("the search page", "document.querySelector('h1').innerText === 'Search' && document.getElementById('q').value === ''");
        browser.fill("#q", words);
        browser.press("Search");
        browser.until_says(found);
    };
    browser.visit("/");
    look_for("knalgan", "Knalgan Theme");
    look_for("àlex almarza", "Menu Background Music");
    look_for("battl wesnoth", ALBUM);
    look_for("no such thing anywhere", "Nothing found for");
    look_for("transience", "Transience");
    browser.press("Transience");
    browser.until("the page of the song", "document.querySelector('h1').innerText === 'Transience'");
    browser.fill("#name", "For the evening");
    browser.press("Create");
    browser.until("the playlist", "document.querySelector('h1').innerText === 'For the evening'");
    browser.until_says("Transience");
    look_for("elf land", "Elf Land");
    browser.press("Elf Land");
    browser.press("Add to For the evening");
    browser.until_says("2 songs");
    browser.press("Play all");
    is_titled(browser, "Transience");
    is_heard(browser, 0.2);
    browser.press("Remove song 1 from the playlist");
    browser.until_says("1 song");
    browser.until("one song", "document.querySelectorAll('.track').length === 1");
    browser.fill("#name", "At night");
    browser.press("Rename");
    browser.until("another name", "document.querySelector('h1').innerText === 'At night'");
    browser.press("Delete this playlist");
    browser.until_says("No playlist yet");
    browser.is_quiet();
}

#[test]
fn stars_ratings_and_lyrics() {
    let Some(files) = pieces("wesnoth-1.16-music", &["elf-land", "main_menu"]) else { return };
    let machine = Machine::new();
    bring(&machine, &files);
    let words = "[00:00.20]First line\n[00:01.00]Second line\n[00:30.00]Third line\n";
    fs::write(machine.music().join("main_menu.lrc"), words).unwrap();
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    wait_scanned(&machine, 2);
    let Some(browser) = Browser::open(base(&peer), DESKTOP) else { return };
    browser.visit("/library?tab=songs");
    browser.js("window.still = true", &[]);
    let star = ".track[data-title='Elf Land'] [data-key^=star]";
    browser.click(star);
    let pressed = format!("document.querySelector({})?.getAttribute('aria-pressed') === 'true'", json!(star));
    browser.until("a star", &pressed);
    // The reader stays where they were.
    browser.until(
        "the focus on the star",
        &format!("document.activeElement === document.querySelector({})", json!(star)),
    );
    assert_eq!(browser.at(), "/library?tab=songs");
    browser.press("Main Theme");
    browser.until("the page of the song", "document.querySelector('h1').innerText === 'Main Theme'");
    browser.press("4 of 5");
    browser.until_says("4 of 5. The same one again takes it away.");
    browser.press("4 of 5");
    browser.until_says("Not rated");
    // Its text, and the line that is heard.
    browser.until_says("Second line");
    browser.press("Play");
    is_heard(&browser, 1.1);
    browser.until(
        "the line that is heard",
        "document.querySelector('.lyrics [aria-current]')?.innerText === 'Second line'",
    );
    browser.press(ALBUM);
    browser.press(&format!("Star {ALBUM}"));
    browser
        .until("a star", "document.querySelector('[data-key=star]').getAttribute('aria-pressed') === 'true'");
    browser.click(".side [data-place=starred]");
    browser.until("the page", "document.querySelector('h1').innerText === 'Starred'");
    browser.until_says("Elf Land");
    assert_eq!(browser.count(".tile"), 1);
    // Apps see the same star.
    browser.click(star);
    browser.until("no song", "document.querySelectorAll('.track').length === 0");
    browser.press(ALBUM);
    browser.press(&format!("Star {ALBUM}"));
    browser.until(
        "no star",
        "document.querySelector('[data-key=star]').getAttribute('aria-pressed') === 'false'",
    );
    browser.click(".side [data-place=starred]");
    browser.until_says("Nothing has a star yet");
    assert_eq!(browser.js("return window.still", &[]), true);
    browser.is_quiet();
}

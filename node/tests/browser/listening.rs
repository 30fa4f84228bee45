//! Songs of another peer, heard in the browser.

use serde_json::json;

use crate::{
    driver::{Browser, DESKTOP, DOWN, LEFT, RIGHT, UP},
    scene::{ALBUM, Scene},
};

/// The audio element.
const AUDIO: &str = "window.heard[0]";
/// What its peer has had of others.
const FETCHED: &str = "antiphon_p2p_fetched_bytes_total";

/// Waits until the song is heard from a place on, and goes on.
pub(crate) fn is_heard(browser: &Browser, from: f64) {
    let sounds = |from: f64| {
        let now = format!("!{AUDIO}.paused && {AUDIO}.currentTime > {from} && {AUDIO}.currentTime");
        browser.until(&format!("a song that is heard beyond {from} s"), &now).as_f64().unwrap()
    };
    let now = sounds(from);
    sounds(now + 0.5);
}

/// Waits until the player shows this title, and the system too.
pub(crate) fn is_titled(browser: &Browser, title: &str) {
    let there = format!(
        "document.getElementById('p-title').textContent === {0} && navigator.mediaSession.metadata?.title === {0}",
        json!(title)
    );
    browser.until(&format!("{title:?} in the player"), &there);
}

/// Plays a song of the album from its page.
pub(crate) fn play(browser: &Browser, title: &str) {
    browser.visit("/discover");
    browser.press(ALBUM);
    browser.until(
        "the page of the album",
        &format!("document.querySelector('h1').innerText === {}", json!(ALBUM)),
    );
    browser.click(&format!(".track[data-title={}] [data-play]", json!(title)));
    is_titled(browser, title);
}

#[test]
fn a_song_is_heard_from_any_place_while_it_comes() {
    // Slow enough that a piece of 11 MB is not there when it is jumped in.
    let Some(scene) = Scene::open(DESKTOP, Some(150)) else { return };
    let browser = &scene.browser;
    let song = scene.song("Knalgan Theme");
    let bytes = song["bytes"].as_u64().unwrap();
    play(browser, "Knalgan Theme");
    is_heard(browser, 0.5);
    browser.until("the way of the song", "document.getElementById('p-way').textContent.startsWith('Direct')");

    // To 80 %, with the mouse.
    let duration = browser.until("its length", &format!("{AUDIO}.duration")).as_f64().unwrap();
    assert!((duration - 557.0).abs() < 2.0, "{duration}");
    browser.click_at("#p-seek", 0.81);
    let jumped = browser
        .until("a jump", &format!("{AUDIO}.currentTime > 300 && {AUDIO}.currentTime"))
        .as_f64()
        .unwrap();
    let fetched = scene.listening.metric(FETCHED);
    assert!(fetched < bytes / 2, "{fetched} of {bytes} bytes are here: too quick to show anything");
    assert!(jumped >= 0.8 * duration, "{jumped} of {duration}");
    is_heard(browser, jumped + 0.5);
    assert!(scene.listening.metric(FETCHED) < bytes, "the whole song had come before it was heard there");
    let shown = browser.js("return document.getElementById('p-seek').getAttribute('aria-valuetext')", &[]);
    assert!(shown.as_str().unwrap().ends_with(" of 9:17"), "{shown}");

    // Other pages, and it plays on.
    browser.js("window.still = true", &[]);
    for (link, heading) in [("library", "My Library"), ("peers", "Peers"), ("explorer", "Explorer")] {
        browser.click(&format!(".side [data-place={link}]"));
        browser.until(heading, &format!("document.querySelector('h1').innerText === '{heading}'"));
    }
    browser.js("history.back()", &[]);
    browser.until("the page before", "document.querySelector('h1').innerText === 'Peers'");
    is_heard(browser, jumped);
    assert_eq!(browser.js("return [window.still, window.heard.length]", &[]), json!([true, 1]));
    assert_eq!(browser.at(), "/peers");
    browser.until_says("Direct");
    browser.is_quiet();
}

#[test]
fn the_player_is_worked_by_buttons_keys_and_the_system() {
    let Some(scene) = Scene::open(DESKTOP, None) else { return };
    let browser = &scene.browser;
    browser.visit("/discover");
    browser.press(ALBUM);
    browser.press("Play");
    let titles = browser.js(
        "return [...document.querySelectorAll('.track[data-song]')].map((row) => row.dataset.title)",
        &[],
    );
    let title = |place: usize| titles[place].as_str().unwrap();
    is_titled(browser, title(0));
    is_heard(browser, 0.2);
    browser.click("#p-next");
    is_titled(browser, title(1));
    is_heard(browser, 0.2);
    browser.click("#p-previous");
    is_titled(browser, title(0));

    // Keys work wherever the focus is, but where one types.
    browser.click(".side [data-place=search]");
    browser.until("the search page", "document.querySelector('h1').innerText === 'Search'");
    let paused = |browser: &Browser, paused: bool| {
        browser.until(&format!("paused: {paused}"), &format!("{AUDIO}.paused === {paused}"));
    };
    paused(browser, false);
    browser.key(' ');
    paused(browser, true);
    browser.until(
        "what the button does",
        "document.getElementById('p-play').getAttribute('aria-label') === 'Play'",
    );
    let at = || browser.js(&format!("return {AUDIO}.currentTime"), &[]).as_f64().unwrap();
    let before = at();
    browser.key(RIGHT);
    let after = browser
        .until("five seconds on", &format!("{AUDIO}.currentTime > {} && {AUDIO}.currentTime", before + 4.0));
    assert!((after.as_f64().unwrap() - before - 5.0).abs() < 0.1, "{before} {after}");
    browser.key(LEFT);
    browser.until("five seconds back", &format!("{AUDIO}.currentTime < {}", before + 0.1));
    browser.key(DOWN);
    browser.until("less loud", &format!("Math.abs({AUDIO}.volume - 0.95) < 0.001"));
    browser.key(UP);
    browser.until("as loud as before", &format!("{AUDIO}.volume === 1"));
    browser.key('m');
    browser.until("silence", &format!("{AUDIO}.muted"));
    browser.click("#p-mute");
    browser.until("sound", &format!("!{AUDIO}.muted"));
    browser.click_at("#p-volume", 0.3);
    browser.until("the volume of the slider", &format!("Math.abs({AUDIO}.volume - 0.3) < 0.05"));
    browser.key('n');
    is_titled(browser, title(1));
    browser.key('p');
    is_titled(browser, title(0));
    browser.key('/');
    browser.until("the field of the search", "document.activeElement.id === 'q'");
    browser.key(' ');
    browser.key('n');
    is_titled(browser, title(0));
    assert_eq!(browser.js("return document.getElementById('q').value", &[]), " n");

    // Media keys, as the system tells them.
    let press = |name: &str, how: serde_json::Value| {
        browser.js(
            "window.mediaKeys[arguments[0]]({ action: arguments[0], ...arguments[1] })",
            &[json!(name), how],
        );
    };
    press("pause", json!({}));
    paused(browser, true);
    press("pause", json!({}));
    paused(browser, true);
    press("play", json!({}));
    paused(browser, false);
    press("play", json!({}));
    paused(browser, false);
    press("seekto", json!({ "seekTime": 4 }));
    is_heard(browser, 4.0);
    let place = browser.until("the place, told to the system", "window.mediaPosition");
    assert!(
        place["duration"].as_f64().unwrap() > 4.0 && place["position"].as_f64().unwrap() >= 4.0,
        "{place}"
    );
    press("nexttrack", json!({}));
    is_titled(browser, title(1));
    press("previoustrack", json!({}));
    is_titled(browser, title(0));
    assert!(at() < 4.0, "a song begins at its beginning");
    browser.is_quiet();
}

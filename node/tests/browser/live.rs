//! Pages that change while they are looked at.

use std::fs;

use crate::{
    common::{Machine, wait_for},
    driver::DESKTOP,
    listening::{is_heard, is_titled},
    scene::{ALBUM, Scene, api, bring, pieces},
};

#[test]
fn what_is_online_comes_and_goes_without_reloading() {
    let Some(mut scene) = Scene::open(DESKTOP, None) else { return };
    let more = pieces("wesnoth-1.16-music", &["defeat2"]).unwrap();
    {
        let browser = &scene.browser;
        browser.visit("/discover?tab=songs");
        browser.js("window.still = true", &[]);
        browser.until_says("9 songs in");
        // A new file of the first peer, and later another peer.
        bring(&scene.artist, &more);
        browser.until_says("10 songs in");
        browser.until_says("Ryan Reilly");
        browser.until("one peer", "document.getElementById('net').innerText === '1 peer online'");
    }
    let third = Machine::new();
    bring(&third, &pieces("wesnoth-1.16-music", &["victory2"]).unwrap());
    let other = third.up(&[third.music().to_str().unwrap(), "--peer-vps", &scene.serving().address("quic")]);
    {
        let browser = &scene.browser;
        browser.until("two peers", "document.getElementById('net').innerText === '2 peers online'");
        browser.until_says("11 songs in");
        browser.until_says("from 2 peers online");
    }
    other.stop();
    let browser = &scene.browser;
    browser.until("one peer again", "document.getElementById('net').innerText === '1 peer online'");
    browser.until_says("10 songs in");

    // A queue of songs, of which nothing has come yet but the first one.
    browser.click(".side [data-place=discover]");
    browser.press(ALBUM);
    browser.press("Play");
    is_heard(browser, 0.2);
    let queued = browser.js(
        "return JSON.parse(sessionStorage.getItem('antiphon-queue')).songs.map((song) => song.title)",
        &[],
    );
    let last = queued.as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    browser.is_quiet();
    scene.leave();
    let browser = &scene.browser;
    // The album that is looked at is gone, and says so.
    browser.until_says("Nobody who is online has this album now");
    browser.click(".side [data-place=discover]");
    browser.until_says("Nobody is online");
    browser.until("nobody", "document.getElementById('net').innerText === 'Nobody is online'");
    drop(browser.log());
    // A song of the queue that is gone: words that help, and no other page.
    browser.click("#p-queue");
    browser.click("#q-list li:last-child [data-act=play]");
    let words = browser.until(
        "words on the song",
        "!document.getElementById('toast').hidden && document.getElementById('toast').innerText",
    );
    let words = words.as_str().unwrap();
    assert!(words.contains(&last) && words.contains("cannot be played"), "{words}");
    assert!(words.contains("online"), "{words}");
    browser.until(
        "a player that waits",
        "document.getElementById('p-play').getAttribute('aria-label') === 'Play'",
    );
    assert_eq!(browser.js("return window.still", &[]), true);
    // The console heard of answers that were refusals, and of nothing else.
    for line in browser.log() {
        assert!(line.contains("/stream") && line.contains("503"), "{line}");
    }

    // It comes back by itself.
    let again = scene.artist.up(&[
        scene.artist.music().to_str().unwrap(),
        "--peer-vps",
        &scene.listening.address("quic"),
    ]);
    wait_for("the songs again", || {
        let page = api(&scene.listening, "/songs?shelf=online");
        (page["songs"].as_array().unwrap().len() == 10).then_some(())
    });
    browser.until_says(ALBUM);
    browser.press(ALBUM);
    browser.press("Play");
    is_titled(browser, queued[0].as_str().unwrap());
    is_heard(browser, 0.2);
    drop(again);
    assert!(fs::metadata(scene.listener.data()).is_ok());
}

#[test]
fn a_peer_that_stops_is_told_of() {
    let machine = Machine::new();
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    let Some(browser) = crate::driver::Browser::open(crate::scene::base(&peer), DESKTOP) else { return };
    browser.visit("/library");
    browser.until_says("Nothing here yet");
    peer.stop();
    browser.until("the banner", "!document.getElementById('lost').hidden");
    browser.click(".side [data-place=discover]");
    browser.until("words", "document.getElementById('toast').innerText.includes('Is it running?')");
}

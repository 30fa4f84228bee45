//! The queue: in another order with the mouse or by keys, and what a phone has there.

use serde_json::{Value, json};

use crate::{
    common::{Machine, tunes, wait_scanned},
    driver::{Browser, DESKTOP, ENTER, ESCAPE, PHONE, TAB},
    listening::is_heard,
    scene::base,
};

fn listed(browser: &Browser) -> Vec<String> {
    let titles = browser.js(
        "return [...document.querySelectorAll('#q-list .queue-title')].map((one) => one.textContent)",
        &[],
    );
    titles.as_array().unwrap().iter().map(|title| title.as_str().unwrap().to_owned()).collect()
}

fn becomes(browser: &Browser, titles: &[&str]) {
    let all = "[...document.querySelectorAll('#q-list .queue-title')].map((one) => one.textContent)";
    browser.until(
        &format!("{titles:?}"),
        &format!("JSON.stringify({all}) === {}", json!(json!(titles).to_string())),
    );
}

fn focus(browser: &Browser) -> Value {
    browser.js("return document.activeElement.getAttribute('aria-label')", &[])
}

/// A peer with four tunes, and a browser that plays the first of them.
fn four(looks: crate::driver::Looks) -> Option<(Machine, crate::common::Peer, Browser)> {
    let machine = Machine::new();
    tunes(&machine.music(), 0..4, 40);
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    wait_scanned(&machine, 4);
    let browser = Browser::open(base(&peer), looks)?;
    browser.visit("/library?tab=songs");
    browser.press("Play all");
    is_heard(&browser, 0.2);
    browser.click("#p-queue");
    Some((machine, peer, browser))
}

#[test]
fn it_is_put_in_order_by_hand_and_by_keys() {
    let Some((_machine, _peer, browser)) = four(DESKTOP) else { return };
    let first = listed(&browser);
    let [a, b, c, d] = [0, 1, 2, 3].map(|place| first[place].as_str());
    // The last one to the first place, with the mouse.
    browser.drag("#q-list li:nth-child(4) .grip", "#q-list li:nth-child(1) .grip");
    becomes(&browser, &[d, a, b, c]);
    browser.drag("#q-list li:nth-child(1) .grip", "#q-list li:nth-child(3) .grip");
    becomes(&browser, &[a, b, d, c]);
    // What plays has stayed the same one.
    let current = || browser.js("return document.querySelector('#q-list [aria-current]').innerText", &[]);
    assert!(current().as_str().unwrap().starts_with(a), "{}", current());

    // By keys alone: the focus goes with the song, and each move is said.
    browser.js("document.querySelector('#q-list li:nth-child(3) [data-act=up]').focus()", &[]);
    browser.key(ENTER);
    becomes(&browser, &[a, d, b, c]);
    assert_eq!(focus(&browser), format!("Move {d} up"));
    browser.until(
        "words for those who listen",
        &format!(
            "document.getElementById('said').textContent === {}",
            json!(format!("{d} is number 2 of 4"))
        ),
    );
    browser.key(ENTER);
    becomes(&browser, &[d, a, b, c]);
    // It cannot go further up.
    assert_eq!(focus(&browser), Value::Null);
    browser.key(TAB);
    assert_eq!(focus(&browser), format!("Move {d} down"));
    browser.key(ENTER);
    becomes(&browser, &[a, d, b, c]);
    // Out of it.
    browser.key(TAB);
    assert_eq!(focus(&browser), format!("Remove {d} from the queue"));
    browser.key(ENTER);
    becomes(&browser, &[a, b, c]);
    assert_eq!(focus(&browser), format!("Remove {b} from the queue"));
    // What plays now is taken out: the next one plays.
    browser.click("#q-list li:nth-child(1) [data-act=remove]");
    becomes(&browser, &[b, c]);
    browser
        .until("the next song", &format!("document.getElementById('p-title').textContent === {}", json!(b)));
    is_heard(&browser, 0.2);
    // The order is the one that is played.
    browser.click("#q-list li:nth-child(1) [data-act=down]");
    becomes(&browser, &[c, b]);
    browser.click("#q-list li:nth-child(1) [data-act=play]");
    browser.until("a song", &format!("document.getElementById('p-title').textContent === {}", json!(c)));
    browser.click("#p-next");
    browser
        .until("the next song", &format!("document.getElementById('p-title').textContent === {}", json!(b)));
    // All of them out: nothing plays.
    browser.click("#q-list li:nth-child(1) [data-act=remove]");
    browser.click("#q-list li:nth-child(1) [data-act=remove]");
    browser.until(
        "an empty player",
        "document.getElementById('p-title').textContent === 'Nothing is playing' && window.heard[0].paused",
    );
    browser.key(ESCAPE);
    browser.until("a closed queue", "document.getElementById('queue').hidden");
    assert_eq!(focus(&browser), "Queue");
    browser.is_quiet();
}

#[test]
fn a_phone_has_shuffle_and_repeat_there() {
    let Some((_machine, _peer, browser)) = four(PHONE) else { return };
    let pressed = |css: &str| {
        browser.js("return document.querySelector(arguments[0]).getAttribute('aria-pressed')", &[json!(css)])
    };
    assert_eq!(browser.js("return document.getElementById('p-shuffle').checkVisibility()", &[]), false);
    browser.click("#queue [data-shuffle]");
    assert_eq!(pressed("#queue [data-shuffle]"), "true");
    browser.click("#queue [data-repeat]");
    let label = || {
        browser.js("return document.querySelector('#queue [data-repeat]').getAttribute('aria-label')", &[])
    };
    assert_eq!(label(), "Repeat: all");
    browser.click("#queue [data-repeat]");
    assert_eq!(label(), "Repeat: this song");
    browser.click("#queue [data-repeat]");
    browser.click("#queue [data-shuffle]");
    // Each song of a mixed queue once, and the last one ends it.
    browser.click("#queue [data-shuffle]");
    let mut heard = vec![browser.words("#p-title")];
    for _ in 0..3 {
        browser.click("#queue [data-next]");
        let before = heard.last().unwrap();
        browser.until(
            "another song",
            &format!("document.getElementById('p-title').textContent !== {}", json!(before)),
        );
        heard.push(browser.words("#p-title"));
    }
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 4);
    browser.click("#queue [data-previous]");
    browser.is_quiet();
}

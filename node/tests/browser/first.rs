//! The first time somebody opens the player.

use crate::{
    axe,
    common::{Machine, tunes},
    driver::{Browser, DESKTOP},
    scene::base,
};

#[test]
fn a_folder_is_added_on_the_first_page() {
    let machine = Machine::new();
    let songs = 12;
    tunes(&machine.music(), 0..songs, 30);
    let peer = machine.up(&[]);
    let Some(browser) = Browser::open(base(&peer), DESKTOP) else { return };
    browser.visit("/");
    browser.until_says("Welcome to Antiphon");
    assert_eq!(axe::barriers(&browser), Vec::<String>::new());
    // What cannot be opened is said in words, and nothing was added.
    browser.fill("#path", "/no/such/folder");
    browser.press("Add");
    browser.until_says("/no/such/folder");
    drop(browser.log());
    browser.visit("/");
    // How far the scan is, as the page shows it from its beginning on.
    browser.js(
        "window.seen = []; window.before = true;
         new MutationObserver(() => {
             const scan = document.getElementById('scan');
             if (scan && !scan.hidden) { window.seen.push(scan.textContent); }
         }).observe(document.body, { childList: true, subtree: true, characterData: true, attributes: true });",
        &[],
    );
    browser.fill("#path", machine.music().to_str().unwrap());
    browser.press("Add");
    browser.until("My Library", "document.querySelector('h1').innerText === 'My Library'");
    // The page fills by itself: three pieces came with the program.
    browser.until_says(&format!("{} songs in", songs + 3));
    browser.until("the scan to be over", "document.getElementById('scan').hidden");
    let seen = browser.js("return window.before && window.seen", &[]);
    let seen = seen.as_array().expect("the page was not loaded again");
    assert!(!seen.is_empty(), "the scan was never shown");
    let said = format!("of {songs}");
    assert!(seen.iter().any(|words| words.as_str().unwrap().ends_with(&said)), "{seen:?}");
    browser.visit("/settings");
    browser.until_says(machine.music().canonicalize().unwrap().to_str().unwrap());
    browser.is_quiet();
}

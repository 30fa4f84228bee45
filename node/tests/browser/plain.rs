//! The pages in a browser that runs no scripts.

use crate::{
    driver::{DESKTOP, Looks},
    scene::{ALBUM, Scene},
};

#[test]
fn without_scripts_there_are_links_and_forms() {
    let Some(scene) = Scene::open(Looks { scripts: false, ..DESKTOP }, None) else { return };
    let browser = &scene.browser;
    let main = || browser.text("main");
    let until = |what: &str, there: &dyn Fn() -> bool| {
        crate::common::wait_for(what, || {
            if !there() {
                browser.reload();
                return None;
            }
            Some(())
        });
    };
    browser.visit("/");
    assert_eq!(browser.at(), "/discover");
    assert!(main().contains("9 songs in 2 albums from 1 peer online"), "{}", main());
    // What needs a script is not there, and what plays without one is.
    assert_eq!(browser.text("#player"), "");
    browser.follow(ALBUM);
    assert!(main().contains("Knalgan Theme"), "{}", main());
    assert_eq!(browser.count("audio[controls]"), 7);
    assert!(!main().contains("Add to queue"), "{}", main());

    // Kept, and back at the album.
    let album = browser.at();
    browser.click("form[action='/keep'] button");
    assert_eq!(browser.at(), album);
    until("the album in the library", &|| browser.count(".tag.here") == 7);
    browser.follow("My Library");
    assert!(main().contains("7 songs in 1 album"), "{}", main());

    // A star, a search, a playlist: forms that come back.
    browser.follow(ALBUM);
    browser.click("form.star button");
    assert_eq!(browser.at(), album);
    assert_eq!(browser.count("form.star [aria-pressed=true]"), 1);
    browser.follow("Starred");
    assert_eq!(browser.count(".track"), 1);
    browser.follow("Search");
    browser.fill("#q", "almarza");
    browser.click("form[role=search] button");
    assert!(main().contains("Amoebax"), "{}", main());
    browser.follow("Playlists");
    browser.fill("#name", "Without scripts");
    browser.click("main form button");
    assert!(
        main().contains("Without scripts") && browser.at().starts_with("/playlists/pl-"),
        "{}",
        browser.at()
    );
    browser.follow("Explorer");
    browser.fill("#xq", "knalgan");
    browser.click("main form button");
    assert!(main().contains("Knalgan Theme"), "{}", main());
    browser.follow("Settings");
    assert!(main().contains("Music folders"), "{}", main());
}

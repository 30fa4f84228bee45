//! The explorer, and the pages about the peer itself.

use serde_json::Value;

use crate::{
    driver::DESKTOP,
    scene::{Scene, api},
};

#[test]
fn the_explorer_finds_blocks_songs_and_accounts() {
    let Some(scene) = Scene::open(DESKTOP, None) else { return };
    let browser = &scene.browser;
    let song = scene.song("Knalgan Theme");
    let index = song["id"].as_str().unwrap().strip_prefix("so-").unwrap();
    let block = api(&scene.listening, &format!("/ledger/blocks/{index}"));
    let wallet = api(&scene.listening, "/wallet");
    let find = |words: &str| {
        browser.fill("#xq", words);
        browser.press("Find");
    };
    browser.visit("/explorer");
    browser.until_says("Newest blocks");
    browser.press("Blocks");
    browser.until("the blocks", "document.querySelectorAll('tbody tr').length > 8");
    // By title, index, height and key.
    find("knalgan");
    browser.until_says("1 songs for");
    browser.press("Knalgan Theme");
    browser.until("the song", "document.querySelector('h1').innerText === 'Knalgan Theme'");
    browser.until_says("Plays");
    find(index);
    browser.until("the block", &format!("document.querySelector('h1').innerText === 'Block {index}'"));
    browser.until_says("Knalgan Theme");
    let height = block["height"].as_u64().unwrap();
    find(&format!("h{height}"));
    browser.until("a block of that height", "document.querySelector('h1').innerText.startsWith('Block ')");
    find(wallet["key"].as_str().unwrap());
    browser.until("the account", "document.querySelector('h1').innerText === 'Account'");
    browser.until_says(wallet["key"].as_str().unwrap());
    find(song["content"].as_str().unwrap());
    browser.until(
        "the block of that content",
        &format!("document.querySelector('h1').innerText === 'Block {index}'"),
    );

    // The same as JSON, and the proof as a file.
    let answers = browser.js_later(
        "const done = arguments[arguments.length - 1];
         const links = [...document.querySelectorAll('main a')].filter((link) => ['JSON', 'Proof'].includes(link.innerText.trim()));
         Promise.all(links.map(async (link) => {
             const answer = await fetch(link.href);
             return [link.innerText.trim(), answer.status, answer.headers.get('content-type'), (await answer.text()).slice(0, 40)];
         })).then(done);",
        &[],
    );
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 2, "{answers:?}");
    for answer in answers {
        let (name, text) = (answer[0].as_str().unwrap(), answer[3].as_str().unwrap());
        assert_eq!(answer[1], 200, "{answer}");
        match name {
            "JSON" => assert!(answer[2].as_str().unwrap().starts_with("application/json"), "{answer}"),
            _ => assert!(text.starts_with("c2sp.org/tlog-proof@v1"), "{answer}"),
        }
    }
    find("h999999");
    browser.until_says("Nothing of that name");
    find("nothing of that name");
    browser.until_says("Nothing of that name");
    for (tab, words) in
        [("Settlements", "No settlement yet"), ("Council", "must agree"), ("Head", "Root of the log")]
    {
        browser.press(tab);
        browser.until_says(words);
    }
    browser.is_quiet();
}

#[test]
fn the_pages_about_the_peer_itself() {
    let Some(scene) = Scene::open(DESKTOP, None) else { return };
    let browser = &scene.browser;
    browser.visit("/peers");
    browser.until_says("1 connected, 1 direct, 0 relayed");
    browser.until_says(scene.listening.ready["peer_id"].as_str().unwrap());
    let wallet = api(&scene.listening, "/wallet");
    browser.click(".side [data-place=wallet]");
    browser.until_says(wallet["key"].as_str().unwrap());
    browser.until_says("Nothing has changed this account yet.");
    // More than there is: said before anything is signed.
    browser.fill("#to", wallet["key"].as_str().unwrap());
    browser.fill("#tokens", "1.5");
    browser.press("Continue…");
    browser.until_says("That is more than you have.");
    browser.press("Back");
    browser.click(".side [data-place=plays]");
    browser.until_says("Nothing was heard yet");

    browser.click(".side [data-place=settings]");
    browser.until_says("Music folders");
    browser.js("document.querySelector('[name=theme][value=dark]').click()", &[]);
    browser.press("Use it");
    browser.until_says("Saved.");
    let ground = "getComputedStyle(document.body).backgroundColor";
    browser.until("a dark page", &format!("{ground} === 'rgb(20, 22, 27)'"));
    browser.fill("#app", "my phone");
    browser.press("Make a password");
    browser.until_says("it is not shown again");
    let password = browser.js("return document.querySelector('.note dd:last-of-type').innerText", &[]);
    assert!(password.as_str().unwrap().len() > 20, "{password}");
    browser.click(".side [data-place=settings]");
    browser.until("the password gone", "!document.querySelector('.note')");
    browser.press("Revoke the password of my phone");
    browser.until_says("Saved.");
    let apps = scene.listener.json(&["web", "apps"]);
    assert_eq!(apps["apps"], Value::Array(Vec::new()));
    browser.is_quiet();
}

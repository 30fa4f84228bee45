//! Every page for everybody: read by axe-core in both themes, on a desktop and on a narrow phone.

use serde_json::{Value, json};

use crate::{
    axe,
    driver::{Browser, DESKTOP, Looks, PHONE},
    listening::is_heard,
    scene::{Scene, api},
};

/// Sends a form as a page would, and gives the address where it leads.
pub(crate) fn form(browser: &Browser, path: &str, fields: &Value) -> String {
    let led = browser.js_later(
        "const done = arguments[arguments.length - 1];
         fetch(arguments[0], { method: 'POST', body: new URLSearchParams(arguments[1]) })
             .then((answer) => done(answer.status === 200 ? new URL(answer.url).pathname : String(answer.status)));",
        &[json!(path), fields.clone()],
    );
    led.as_str().unwrap().to_owned()
}

/// A listener who has done a bit of everything. Gives the pages there are then.
pub(crate) fn settled(scene: &Scene) -> Vec<String> {
    let browser = &scene.browser;
    browser.visit("/library");
    let (song, other) = (scene.song("Love Theme"), scene.song("Transience"));
    let (id, album, artist) = (text(&song["id"]), text(&song["album_id"]), text(&song["artist_id"]));
    form(browser, "/keep", &json!({ "action": "keep", "songs": id }));
    for star in [&id, &album, &artist, &text(&other["id"])] {
        form(browser, "/star", &json!({ "id": star, "on": "yes" }));
    }
    form(browser, "/rate", &json!({ "id": id, "rating": "4" }));
    let list = form(browser, "/playlists", &json!({ "name": "For the evening", "song": id }));
    form(browser, &list, &json!({ "action": "add", "song": text(&other["id"]) }));
    browser.until_says("1 song in 1 album");
    let key = text(&api(&scene.listening, "/wallet")["key"]);
    let index = id.strip_prefix("so-").unwrap();
    [
        "/discover",
        "/discover?tab=artists",
        "/discover?tab=genres",
        "/discover?tab=songs",
        "/library",
        "/library?tab=songs",
        "/search",
        "/search?q=theme",
        "/search?q=nothing+of+that+name",
        "/playlists",
        "/starred",
        "/plays",
        "/downloads",
        "/peers",
        "/wallet",
        "/settings",
        "/explorer",
        "/explorer/blocks",
        "/explorer/epochs",
        "/explorer/council",
        "/explorer/find?q=theme",
        "/nothing",
        "/login",
        "/offline",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        list,
        format!("/album/{album}"),
        format!("/artist/{artist}"),
        format!("/song/{id}"),
        format!("/song/{}", text(&other["id"])),
        format!("/explorer/block/{index}"),
        format!("/explorer/song/{index}"),
        format!("/explorer/account/{key}"),
    ])
    .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// What is wrong with the page that is shown.
fn faults(browser: &Browser, looks: Looks) -> Vec<String> {
    let mut found = axe::barriers(browser);
    let wide = browser.js("return document.documentElement.scrollWidth", &[]).as_u64().unwrap();
    if wide > u64::from(looks.width) {
        let widest = browser.js(
            "return [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
                 .slice(0, 3).map((one) => one.outerHTML.slice(0, 120))",
            &[],
        );
        found.push(format!("{wide} pixels wide: {widest}"));
    }
    found
}

#[test]
fn nobody_is_kept_out() {
    if !axe::is_there() {
        return;
    }
    let Some(scene) = Scene::open(DESKTOP, None) else { return };
    let browser = &scene.browser;
    let pages = settled(&scene);
    let mut wrong = Vec::new();
    for (looks, name) in [
        (DESKTOP, "desktop, light"),
        (Looks { dark: true, ..DESKTOP }, "desktop, dark"),
        (PHONE, "phone, dark"),
        (Looks { dark: false, ..PHONE }, "phone, light"),
    ] {
        browser.looks(looks);
        for page in &pages {
            browser.visit(page);
            browser.until("the page", "document.readyState === 'complete'");
            wrong.extend(faults(browser, looks).into_iter().map(|fault| format!("{page} ({name}): {fault}")));
            let log = browser.log();
            // A page that is not there is a 404, and the console says so.
            let loud = log.iter().filter(|line| !(page == "/nothing" && line.contains("404")));
            wrong.extend(loud.map(|line| format!("{page} ({name}): {line}")));
        }
        // While a song plays, with the queue open.
        browser.visit("/library?tab=songs");
        browser.press("Play all");
        is_heard(browser, 0.2);
        browser.click("#p-queue");
        wrong.extend(faults(browser, looks).into_iter().map(|fault| format!("the queue ({name}): {fault}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

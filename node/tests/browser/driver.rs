//! A browser of its own for each test: chromedriver as a process, a profile that goes with it, and what tests ask of pages.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::{Agent, http::Request};

use crate::common::{DEADLINE, missing};

/// How WebDriver marks what stands for an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys that are no letters, as WebDriver writes them.
pub(crate) const ESCAPE: char = '\u{e00c}';
pub(crate) const TAB: char = '\u{e004}';
pub(crate) const ENTER: char = '\u{e007}';
pub(crate) const LEFT: char = '\u{e012}';
pub(crate) const UP: char = '\u{e013}';
pub(crate) const RIGHT: char = '\u{e014}';
pub(crate) const DOWN: char = '\u{e015}';

/// What a session is to be like.
#[derive(Clone, Copy)]
pub(crate) struct Looks {
    /// CSS pixels.
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
    /// A finger instead of a mouse, and two pixels for one.
    pub(crate) phone: bool,
    pub(crate) scripts: bool,
}

/// A desktop, light.
pub(crate) const DESKTOP: Looks =
    Looks { width: 1280, height: 800, dark: false, phone: false, scripts: true };
/// A phone, dark.
pub(crate) const PHONE: Looks = Looks { width: 360, height: 740, dark: true, phone: true, scripts: true };

/// Seen before any script of a page: which audio elements there are, and what is done with media keys.
const WATCH: &str = r#"
    window.heard = [];
    window.Audio = new Proxy(window.Audio, {
        construct(made, how) { const audio = new made(...how); window.heard.push(audio); return audio; },
    });
    window.mediaKeys = {};
    const told = MediaSession.prototype.setActionHandler;
    MediaSession.prototype.setActionHandler = function (name, handler) {
        window.mediaKeys[name] = handler;
        return told.call(this, name, handler);
    };
    const placed = MediaSession.prototype.setPositionState;
    MediaSession.prototype.setPositionState = function (state) {
        window.mediaPosition = state;
        return placed.call(this, state);
    };
"#;

/// A browser with one window.
pub(crate) struct Browser {
    agent: Agent,
    /// Address of the session.
    session: String,
    driver: Child,
    profile: TempDir,
    base: String,
}

/// One command of WebDriver: what it answers, or why it cannot.
fn command(agent: &Agent, method: &str, address: &str, body: Option<&Value>) -> Result<Value, String> {
    let request = Request::builder().method(method).uri(address);
    let request = request.header("Content-Type", "application/json; charset=utf-8");
    let sent = match body {
        Some(body) => agent.run(request.body(body.to_string()).unwrap()),
        None => agent.run(request.body(()).unwrap()),
    };
    let mut answer = sent.map_err(|error| format!("{address}: {error}"))?;
    let good = answer.status().is_success();
    let text = answer.body_mut().with_config().limit(64 << 20).read_to_string();
    let text = text.map_err(|error| format!("{address}: {error}"))?;
    let mut read: Value =
        serde_json::from_str(&text).map_err(|error| format!("{address}: {error}: {text}"))?;
    let value = read["value"].take();
    if good {
        return Ok(value);
    }
    Err(format!(
        "{}: {}",
        value["error"].as_str().unwrap_or_default(),
        value["message"].as_str().unwrap_or_default()
    ))
}

/// Where a program is.
fn program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Starts chromedriver in a group of its own and gives the port that it has taken.
fn start_driver(path: &Path, profile: &Path) -> (Child, u16) {
    let mut command = Command::new(path);
    command.arg("--port=0").env("HOME", profile).env("XDG_CONFIG_HOME", profile).env("TMPDIR", profile);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut driver = command.spawn().unwrap();
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let rest = line.split_once("started successfully on port ")?.1;
        rest.trim_end_matches('.').parse().ok()
    });
    // Kept from blocking on a full pipe.
    thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    (driver, port.expect("chromedriver says its port"))
}

fn capabilities(chromium: &Path, profile: &Path, looks: Looks) -> Value {
    let size = format!("--window-size={},{}", looks.width.max(500), looks.height);
    let folder = format!("--user-data-dir={}", profile.join("chromium").display());
    let args = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--mute-audio",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--autoplay-policy=no-user-gesture-required",
        // Nothing but this machine is asked for anything.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        size.as_str(),
        folder.as_str(),
    ];
    let mut prefs = json!({ "download.default_directory": profile.join("downloads") });
    if !looks.scripts {
        prefs["profile.managed_default_content_settings.javascript"] = json!(2);
    }
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": { "binary": chromium, "args": args, "prefs": prefs },
        "goog:loggingPrefs": { "browser": "ALL" },
        "timeouts": { "script": DEADLINE.as_millis() as u64 },
    })
}

impl Browser {
    /// Opens one that shows the pages of a peer. None where there is no Chromium.
    pub(crate) fn open(base: &str, looks: Looks) -> Option<Self> {
        let (chromium, path) = (program("chromium"), program("chromedriver"));
        let there = chromium.is_some() && path.is_some();
        missing("chromium and chromium-driver", there).then_some(())?;
        let profile = tempfile::tempdir().unwrap();
        let (driver, port) = start_driver(&path?, profile.path());
        let config =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).proxy(None);
        let agent: Agent = config.build().into();
        let wanted =
            json!({ "capabilities": { "alwaysMatch": capabilities(&chromium?, profile.path(), looks) } });
        let address = format!("http://127.0.0.1:{port}/session");
        let mut browser =
            Self { agent, session: address, driver, profile, base: base.trim_end_matches('/').to_owned() };
        let begun =
            browser.send("POST", "", Some(&wanted)).unwrap_or_else(|error| panic!("Chromium: {error}"));
        browser.session += "/";
        browser.session += begun["sessionId"].as_str().unwrap();
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WATCH }));
        browser.looks(looks);
        Some(browser)
    }

    /// Another size, or another theme of the system.
    pub(crate) fn looks(&self, looks: Looks) {
        let scale = if looks.phone { 2 } else { 1 };
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": looks.width, "height": looks.height, "deviceScaleFactor": scale, "mobile": looks.phone }),
        );
        let theme = if looks.dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": theme }]);
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        command(&self.agent, method, &format!("{}{path}", self.session), body)
    }

    fn get(&self, path: &str) -> Value {
        self.send("GET", path, None).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", path, Some(body)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A command of the browser's developer tools.
    pub(crate) fn cdp(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    /// Loads a page.
    pub(crate) fn visit(&self, path: &str) {
        self.post("/url", &json!({ "url": format!("{}{path}", self.base) }));
    }

    /// Loads what is shown again.
    pub(crate) fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    /// Path and query of what is shown.
    pub(crate) fn at(&self) -> String {
        let url = self.get("/url");
        url.as_str()
            .unwrap()
            .strip_prefix(&self.base)
            .unwrap_or_else(|| panic!("away from the peer: {url}"))
            .to_owned()
    }

    /// What a script returns. `arguments[0]` and so on are what it is given.
    pub(crate) fn js(&self, script: &str, args: &[Value]) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": args }))
    }

    /// The same of a script that says when it is done: its last argument is to be called.
    pub(crate) fn js_later(&self, script: &str, args: &[Value]) -> Value {
        self.post("/execute/async", &json!({ "script": script, "args": args }))
    }

    /// Waits until an expression is something.
    pub(crate) fn until(&self, what: &str, expression: &str) -> Value {
        let (start, script) =
            (Instant::now(), json!({ "script": format!("return ({expression})"), "args": [] }));
        loop {
            // Between two pages there is nothing to ask.
            let asked = self.send("POST", "/execute/sync", Some(&script));
            let found = asked.as_ref().unwrap_or(&Value::Null);
            if !matches!(found, Value::Null | Value::Bool(false)) && *found != json!(0) && *found != json!("")
            {
                return found.clone();
            }
            if start.elapsed() > DEADLINE {
                self.give_up(
                    &asked.err().map_or_else(|| what.to_owned(), |error| format!("{what} ({error})")),
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the main part of the page has these words.
    pub(crate) fn until_says(&self, words: &str) {
        let words_there = format!("document.querySelector('main').innerText.includes({})", json!(words));
        self.until(words, &words_there);
    }

    /// Waits until there is such an element, and gives its words.
    pub(crate) fn words(&self, css: &str) -> String {
        let there =
            format!("document.querySelector({0}) && [document.querySelector({0}).innerText]", json!(css));
        self.until(css, &there)[0].as_str().unwrap().to_owned()
    }

    /// How many elements there are.
    pub(crate) fn count(&self, css: &str) -> usize {
        let found = self.post("/elements", &json!({ "using": "css selector", "value": css }));
        found.as_array().unwrap().len()
    }

    fn give_up(&self, what: &str) -> ! {
        let page = self.js("return document.body.innerText", &[]);
        let log = self.log();
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser-failure.png");
        self.picture(&picture);
        panic!(
            "waited too long for {what} at {}\nshown: {page}\nconsole: {log:#?}\n{}",
            self.at(),
            picture.display()
        );
    }

    /// Asks something of an element, once.
    fn try_ask(&self, css: &str, what: &str, body: &Value) -> Result<(), String> {
        let found = self.send("POST", "/element", Some(&json!({ "using": "css selector", "value": css })))?;
        let path = format!("/element/{}/{what}", found[ELEMENT].as_str().unwrap_or_default());
        let done = self.send("POST", &path, Some(body));
        if done.as_ref().is_err_and(|error| error.contains("intercepted")) {
            // The player lies over the end of what is shown.
            let middle = "document.querySelector(arguments[0])?.scrollIntoView({ block: 'center' })";
            self.js(middle, &[json!(css)]);
        }
        done.map(drop)
    }

    /// Asks again until it is done. A page may be put in place anew while it is looked for.
    fn keep_asking(&self, what: &str, mut ask: impl FnMut() -> Result<(), String>) {
        let start = Instant::now();
        while let Err(error) = ask() {
            if start.elapsed() > DEADLINE / 4 {
                self.give_up(&format!("{what}: {error}"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn ask(&self, css: &str, what: &str, body: &Value) {
        self.keep_asking(&format!("{what} of {css}"), || self.try_ask(css, what, body));
    }

    /// Clicks an element.
    pub(crate) fn click(&self, css: &str) {
        self.ask(css, "click", &json!({}));
    }

    /// Follows the link or presses the button whose words these are.
    pub(crate) fn press(&self, words: &str) {
        let mark = format!(
            "(() => {{ const same = (one) => one.innerText.trim() === {0} || one.getAttribute('aria-label') === {0};
               const found = [...document.querySelectorAll('main a, main button')].find(same);
               document.querySelectorAll('[data-pressed]').forEach((one) => delete one.dataset.pressed);
               if (found) found.dataset.pressed = ''; return Boolean(found); }})()",
            json!(words)
        );
        let what = format!("{words:?}, to be pressed");
        self.keep_asking(&what, || {
            self.until(&what, &mark);
            self.try_ask("[data-pressed]", "click", &json!({}))
        });
    }

    /// Types into a field, in place of what is there.
    pub(crate) fn fill(&self, css: &str, text: &str) {
        self.ask(css, "clear", &json!({}));
        self.ask(css, "value", &json!({ "text": text }));
    }

    /// Presses a key, wherever the focus is.
    pub(crate) fn key(&self, key: char) {
        let typed = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": typed }] }));
    }

    /// Clicks an element at a share of its width.
    pub(crate) fn click_at(&self, css: &str, share: f64) {
        let script = "const box = document.querySelector(arguments[0]).getBoundingClientRect();
                      return [box.x + box.width * arguments[1], box.y + box.height / 2]";
        let place = self.js(script, &[json!(css), json!(share)]);
        let (x, y) = (place[0].as_f64().unwrap().round(), place[1].as_f64().unwrap().round());
        let moves = json!([
            { "type": "pointerMove", "duration": 0, "x": x, "y": y },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ]);
        self.post(
            "/actions",
            &json!({ "actions": [{ "type": "pointer", "id": "mouse", "actions": moves }] }),
        );
    }

    /// The words of an element, without a script of the page.
    pub(crate) fn text(&self, css: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": css }));
        let text = self.get(&format!("/element/{}/text", found[ELEMENT].as_str().unwrap()));
        text.as_str().unwrap().to_owned()
    }

    /// Follows the first link with these words, without a script of the page.
    pub(crate) fn follow(&self, words: &str) {
        let like = json!({ "using": "link text", "value": words });
        let found = self.post("/element", &like);
        self.post(&format!("/element/{}/click", found[ELEMENT].as_str().unwrap()), &json!({}));
    }

    /// Drags with the mouse from one element to another, in steps as a hand does.
    pub(crate) fn drag(&self, from: &str, to: &str) {
        let place = |css: &str| {
            let script = "const box = document.querySelector(arguments[0]).getBoundingClientRect();
                          return [box.x + box.width / 2, box.y + box.height / 2]";
            let place = self.js(script, &[json!(css)]);
            (place[0].as_f64().unwrap(), place[1].as_f64().unwrap())
        };
        let ((x, y), (to_x, to_y)) = (place(from), place(to));
        let go = |share: f64| {
            let (x, y) = (x + (to_x - x) * share, y + (to_y - y) * share);
            json!({ "type": "pointerMove", "duration": 20, "x": x.round(), "y": y.round() })
        };
        let mut moves = vec![go(0.0), json!({ "type": "pointerDown", "button": 0 })];
        moves.extend((1..=10).map(|step| go(f64::from(step) / 10.0)));
        moves.push(json!({ "type": "pointerUp", "button": 0 }));
        self.post(
            "/actions",
            &json!({ "actions": [{ "type": "pointer", "id": "mouse", "actions": moves }] }),
        );
    }

    /// What the console was told since the last time, but what is only of interest to who writes pages.
    pub(crate) fn log(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let loud = entries.as_array().unwrap().iter().filter(|entry| entry["level"] != "INFO");
        loud.map(|entry| {
            format!("{} {}", entry["level"].as_str().unwrap(), entry["message"].as_str().unwrap())
        })
        .filter(|line| !line.starts_with("DEBUG"))
        .collect()
    }

    /// That nothing went wrong: no error, no word of the policy for content.
    pub(crate) fn is_quiet(&self) {
        let log = self.log();
        assert!(log.is_empty(), "{log:#?}");
    }

    /// A picture of what is shown.
    pub(crate) fn picture(&self, file: &Path) {
        let picture = self.get("/screenshot");
        fs::write(file, BASE64.decode(picture.as_str().unwrap().as_bytes()).unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium goes with its session; whatever is left of it, with the group.
        drop(self.send("DELETE", "", None));
        let chromium = fs::read_link(self.profile.path().join("chromium/SingletonLock")).ok();
        let left = chromium.and_then(|link| Some(link.to_str()?.rsplit_once('-')?.1.to_owned()));
        let group = format!("-{}", self.driver.id());
        for victim in left.into_iter().chain([group]) {
            let kill = Command::new("kill").args(["-KILL", "--", &victim]).stderr(Stdio::null()).status();
            drop(kill);
        }
        let _ = self.driver.wait();
    }
}

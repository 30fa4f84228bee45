//! Peers and their music.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{
    common::{Machine, Peer, real_music, wait_for, wait_scanned},
    driver::{Browser, Looks},
};

/// A peer that has music, one that has joined it, and a browser that shows the pages of the second.
pub(crate) struct Scene {
    pub(crate) browser: Browser,
    pub(crate) listener: Machine,
    pub(crate) listening: Peer,
    pub(crate) artist: Machine,
    /// None once it has been stopped.
    serving: Option<Peer>,
}

/// Where a page of a peer is.
pub(crate) fn base(peer: &Peer) -> &str {
    peer.ready["http"].as_str().unwrap()
}

/// What the API of a peer answers.
pub(crate) fn api(peer: &Peer, path: &str) -> Value {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).proxy(None);
    let agent: ureq::Agent = config.build().into();
    let mut answer = agent.get(format!("{}/api/v1{path}", base(peer))).call().unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

/// Files of Debian's music packages by their names; none where they are not installed.
pub(crate) fn pieces(package: &str, names: &[&str]) -> Option<Vec<PathBuf>> {
    let all = real_music(package);
    let of =
        |name: &&str| all.iter().find(|path| path.file_stem().is_some_and(|stem| stem == *name)).cloned();
    (!all.is_empty()).then(|| names.iter().map(|name| of(name).unwrap_or_else(|| panic!("{name}"))).collect())
}

/// Copies files into a machine's music folder.
pub(crate) fn bring(machine: &Machine, files: &[PathBuf]) {
    for file in files {
        fs::copy(file, machine.music().join(file.file_name().unwrap())).unwrap();
    }
}

/// Two albums: seven pieces of one, two of the other. The longest lasts more than nine minutes.
pub(crate) fn albums() -> Option<Vec<PathBuf>> {
    let epic = ["battle-epic", "elf-land", "knalgan_theme", "love_theme", "main_menu", "sad", "transience"];
    let mut files = pieces("wesnoth-1.16-music", &epic)?;
    files.extend(pieces("amoebax-data", &["menu", "Congratulations"])?);
    Some(files)
}

/// The album of most of them.
pub(crate) const ALBUM: &str = "The Battle for Wesnoth OST";

impl Scene {
    /// With the albums. What the first peer sends is held to so many KiB a second. None where something is missing.
    pub(crate) fn open(looks: Looks, kib_per_second: Option<u32>) -> Option<Self> {
        let files = albums()?;
        Self::with(&files, looks, kib_per_second)
    }

    /// With these files.
    pub(crate) fn with(files: &[PathBuf], looks: Looks, kib_per_second: Option<u32>) -> Option<Self> {
        let (artist, listener) = (Machine::new(), Machine::new());
        bring(&artist, files);
        let mut command = artist.command();
        if let Some(kib) = kib_per_second {
            command.env("ANTIPHON__UPLOAD__KIB_PER_SECOND", kib.to_string());
        }
        let serving = artist.up_by(command, &[artist.music().to_str().unwrap()]);
        let songs = files.len() as u64;
        wait_scanned(&artist, songs);
        let joined =
            [listener.music().to_str().unwrap(), "--peer-vps", &serving.address("quic")].map(str::to_owned);
        let listening = listener.up(&joined.each_ref().map(String::as_str));
        wait_for("all songs to be online", || {
            let page = api(&listening, "/songs?shelf=online&limit=500");
            (page["songs"].as_array().unwrap().len() as u64 == songs).then_some(())
        });
        let browser = Browser::open(base(&listening), looks)?;
        Some(Self { browser, listener, listening, artist, serving: Some(serving) })
    }

    /// The first peer.
    pub(crate) fn serving(&self) -> &Peer {
        self.serving.as_ref().unwrap()
    }

    /// Stops the first peer.
    pub(crate) fn leave(&mut self) {
        self.serving.take().unwrap().stop();
    }

    /// The song that others serve under this title.
    pub(crate) fn song(&self, title: &str) -> Value {
        let page = api(&self.listening, "/songs?shelf=online&limit=500");
        let songs = page["songs"].as_array().unwrap();
        songs.iter().find(|song| song["title"] == title).unwrap_or_else(|| panic!("{title}")).clone()
    }
}

//! Data on stdout, everything else on stderr; progress bars on terminals only.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use super::args::Common;
use crate::failure::Failure;

/// Where answers go.
#[derive(Clone)]
pub(super) struct Output {
    /// Answers in JSON.
    pub(super) json: bool,
    verbose: u8,
    terminal: bool,
    colour: bool,
}

/// Takes progress of a request.
pub(super) type Tell = Box<dyn Fn(Value) + Send + Sync>;

impl Output {
    pub(super) fn new(common: &Common) -> Self {
        let terminal = io::stderr().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json: common.json, verbose: common.verbose, terminal, colour }
    }

    /// Logs to stderr. `RUST_LOG` overrides.
    pub(super) fn start_log(&self, service: bool) {
        let level = match (self.verbose, service) {
            // What a certificate's verifier logs is in the error too.
            (0, false) => "warn,rustls_platform_verifier=off",
            (0, true) => "warn,antiphon=info,antiphon_ledger=info,antiphon_p2p=info",
            (1, _) => {
                "info,antiphon=debug,antiphon_ledger=debug,antiphon_p2p=debug,antiphon_fingerprint=debug"
            }
            _ => "debug",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(self.colour)
            .init();
    }

    /// A line of data.
    pub(super) fn line(&self, text: &str) -> anyhow::Result<()> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Data as it is.
    pub(super) fn raw(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
        Ok(())
    }

    /// Data in JSON.
    pub(super) fn value(&self, value: &Value) -> anyhow::Result<()> {
        let text = if io::stdout().is_terminal() {
            serde_json::to_string_pretty(value)?
        } else {
            serde_json::to_string(value)?
        };
        self.line(&text)
    }

    /// A word to people.
    pub(super) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Why it did not work.
    pub(super) fn failure(&self, failure: &Failure) {
        if self.json {
            let value = serde_json::json!({ "schema": 1, "error": failure });
            let _ = writeln!(io::stderr(), "{value}");
        } else {
            let _ = writeln!(io::stderr(), "antiphon: {}", failure.message);
        }
    }

    /// What takes time while a peer opens.
    pub(super) fn notes(&self) -> Arc<dyn Fn(&str) + Send + Sync> {
        let this = self.clone();
        Arc::new(move |text| this.note(text))
    }

    /// Progress events in JSON on stderr, a line each, when answers are in JSON; else as [`Self::progress`].
    pub(super) fn events(&self) -> Tell {
        if !self.json {
            return self.progress();
        }
        let last: Mutex<Option<Instant>> = Mutex::new(None);
        Box::new(move |now| {
            let Ok(mut last) = last.lock() else { return };
            let whole = now["verified_bytes"] == now["total"];
            if whole || last.is_none_or(|last| last.elapsed() >= EVENTS_EVERY) {
                *last = Some(Instant::now());
                let event = serde_json::json!({ "schema": 1, "progress": now });
                let _ = writeln!(io::stderr(), "{event}");
            }
        })
    }

    /// A progress bar on a terminal, nothing elsewhere.
    pub(super) fn progress(&self) -> Tell {
        if !self.terminal || self.json {
            return Box::new(|_| {});
        }
        let bar: Mutex<Option<ProgressBar>> = Mutex::new(None);
        Box::new(move |now| {
            let Ok(mut bar) = bar.lock() else { return };
            draw(
                bar.get_or_insert_with(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())),
                &now,
            );
        })
    }
}

/// Progress in JSON is told so often.
const EVENTS_EVERY: Duration = Duration::from_millis(200);

/// Each kind of request reports in its own words; bytes and files are told apart by their names.
fn draw(bar: &ProgressBar, now: &Value) {
    let number = |name: &str| now.get(name).and_then(Value::as_u64);
    let (template, length, position) = if let Some(verified) = number("verified_bytes") {
        ("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left", number("total"), verified)
    } else if let Some(found) = number("found") {
        ("{bar:40} {pos} of {len} files, {eta} left", Some(found), number("done").unwrap_or(0))
    } else {
        ("{bar:40} {pos} of {len} blocks, {eta} left", number("total"), number("done").unwrap_or(0))
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if let Some(length) = length {
        bar.set_length(length);
    }
    bar.set_position(position);
}

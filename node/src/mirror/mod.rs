//! A dump that somebody serves over HTTP, read file by file. Nothing of it is trusted: whoever reads it verifies it.
//!
//! Every answer has limits: bytes, redirects, and time for each step. A server that is busy is asked again a few times.
//! The files that come next are fetched ahead, since a distant server costs a round trip for each.

mod ahead;

use std::{io, sync::Arc, thread, time::Duration};

use antiphon_ledger::dump::{CHECKPOINT, DumpSource, MANIFEST, Manifest};
use antiphon_proto::limits;
use anyhow::{Context, bail};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use self::ahead::Ahead;
use crate::failure::{Failure, Kind};

/// A redirect to the real place, and one to TLS.
const REDIRECTS: u32 = 3;
/// Time to connect, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Time until an answer begins.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Time for a whole file: the largest at some 20 kB/s for songs.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// Tries in all, when the server is busy or the line breaks.
const TRIES: u32 = 4;
/// Pause after the first failed try; it doubles.
const PAUSE: Duration = Duration::from_millis(250);
/// A manifest is a few hundred bytes.
const MANIFEST_BYTES: usize = 16 * 1024;

/// Fetches files below an address. Clones share connections.
#[derive(Clone)]
struct Fetcher {
    agent: Agent,
    base: Arc<str>,
}

/// A dump on a web server, as it was when it was opened: its log may grow meanwhile.
pub struct Mirror {
    fetcher: Fetcher,
    checkpoint: Vec<u8>,
    manifest: Vec<u8>,
    ahead: Ahead,
}

/// Whether this names a dump on a web server rather than a directory.
#[must_use]
pub fn is_url(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.starts_with("http://") || text.starts_with("https://")
}

impl Mirror {
    /// Opens the dump at an address and settles which of its checkpoints is meant.
    ///
    /// # Errors
    /// When there is none, or the server cannot be reached.
    pub fn open(url: &str) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/');
        if !is_url(base) || base.contains(['?', '#']) {
            bail!("{url} is not the address of a log, like https://example.org/log");
        }
        let fetcher = Fetcher { agent: agent(), base: base.into() };
        // The two are written one after the other: what does not fit is caught in between.
        for _ in 0..TRIES {
            let manifest = fetcher.need(MANIFEST, MANIFEST_BYTES)?;
            let checkpoint = fetcher.need(CHECKPOINT, limits::CHECKPOINT_BYTES)?;
            let size = Manifest::parse(&manifest)?.size;
            if size_of(&checkpoint) == Some(size) {
                let ahead = Ahead::new(size);
                return Ok(Self { fetcher, checkpoint, manifest, ahead });
            }
            thread::sleep(PAUSE);
        }
        bail!("{url}: manifest.json and the checkpoint are of different sizes");
    }
}

/// The size that a checkpoint names: its second line. The note itself is verified by whoever reads it.
fn size_of(checkpoint: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(checkpoint).ok()?;
    text.lines().nth(1)?.parse().ok()
}

impl DumpSource for Mirror {
    fn read(&mut self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        match path {
            CHECKPOINT => Ok(Some(self.checkpoint.clone())),
            MANIFEST => Ok(Some(self.manifest.clone())),
            _ => self.ahead.read(&self.fetcher, path, limit),
        }
    }
}

fn agent() -> Agent {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        // The system's, so that a network of one's own can have an authority of its own.
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(REDIRECTS)
        .user_agent(concat!("antiphon/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_WITHIN))
        .timeout_recv_response(Some(ANSWER_WITHIN))
        .timeout_recv_body(Some(BODY_WITHIN))
        .max_idle_connections_per_host(ahead::FILES)
        .build();
    config.new_agent()
}

impl Fetcher {
    fn need(&self, path: &str, limit: usize) -> anyhow::Result<Vec<u8>> {
        let found = self.get(path, limit).with_context(|| format!("cannot read {}/{path}", self.base))?;
        let none = || Failure::new(Kind::NotFound, format!("there is no {}/{path}", self.base));
        Ok(found.ok_or_else(none)?)
    }

    /// A file of at most `limit` bytes; `None` when the server has none.
    fn get(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            match self.once(path, limit) {
                Err(error) if tries < TRIES && again(&error) => {
                    thread::sleep(pause);
                    pause = pause.saturating_mul(2);
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn once(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let url = format!("{}/{path}", self.base);
        let mut response = self.agent.get(&url).call().map_err(ureq::Error::into_io)?;
        match response.status().as_u16() {
            200 => {}
            404 | 410 => return Ok(None),
            status @ (408 | 429 | 500..=599) => {
                let message = format!("the server answers with status {status}");
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, message));
            }
            status => return Err(io::Error::other(format!("the server answers with status {status}"))),
        }
        let too_long =
            || io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {limit} bytes"));
        // The client takes a body that reaches its limit for too long, even when nothing follows.
        let body = response.body_mut().with_config().limit(limit as u64 + 1).read_to_vec();
        match body {
            Ok(bytes) if bytes.len() > limit => Err(too_long()),
            Ok(bytes) => Ok(Some(bytes)),
            Err(ureq::Error::BodyExceedsLimit(_)) => Err(too_long()),
            Err(error) => Err(error.into_io()),
        }
    }
}

/// Whether another try may succeed.
fn again(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    /// A server that gives each connection the next of these answers; the fetcher for it.
    fn server(answers: Vec<String>) -> Fetcher {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).into();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Fetcher { agent: agent(), base }
    }

    fn answer(status: &str, length: usize, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    }

    #[test]
    fn busy_and_broken_servers_are_asked_again() {
        let good = answer("200 OK", 3, "yes");
        let fetcher = server(vec![answer("503 Busy", 0, ""), answer("200 OK", 3, "y"), good]);
        assert_eq!(fetcher.get("x", 3).unwrap().unwrap(), b"yes");
        let fetcher = server(vec![answer("500 Broken", 0, ""); TRIES as usize]);
        assert!(fetcher.get("x", 3).unwrap_err().to_string().contains("status 500"));
    }

    #[test]
    fn what_is_not_there_or_not_to_be_had_is_not_asked_again() {
        let fetcher = server(vec![answer("404 None", 4, "none"), answer("403 No", 0, "")]);
        assert!(fetcher.get("x", 3).unwrap().is_none());
        assert!(fetcher.get("x", 3).unwrap_err().to_string().contains("status 403"));
    }

    #[test]
    fn no_file_is_longer_than_it_may_be() {
        for (status, length, body) in [("200 OK", 4, "four"), ("200 OK", 1 << 40, "much more")] {
            let error = server(vec![answer(status, length, body)]).get("x", 3).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
    }

    #[test]
    fn redirects_end() {
        let again = "HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let fetcher = server(vec![again.to_owned(), answer("200 OK", 3, "yes")]);
        assert_eq!(fetcher.get("x", 3).unwrap().unwrap(), b"yes");
        let error = server(vec![again.to_owned(); 10]).get("x", 3).unwrap_err();
        assert!(error.to_string().contains("redirects"), "{error}");
    }

    #[test]
    fn addresses() {
        assert!(is_url("http://x") && is_url("HTTPS://x/y") && !is_url("/tmp/http:") && !is_url("dump"));
        for bad in ["ftp://x", "http://x/?a", "https://x/#a"] {
            assert!(Mirror::open(bad).is_err());
        }
    }

    #[test]
    fn a_checkpoint_names_its_size() {
        assert_eq!(size_of(b"origin\n42\nroot\n"), Some(42));
        assert_eq!(size_of(b"origin\n"), None);
        assert_eq!(size_of(&[255, 10, 49]), None);
    }
}

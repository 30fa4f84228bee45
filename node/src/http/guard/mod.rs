//! Who is answered: [`policy`] looks at the head of a request, [`attempts`] at how often a password was wrong, and what
//! stands here at who it is.
//!
//! On this machine alone, no password is needed. Whoever comes from elsewhere needs the web password, and the operator
//! must have said how the way is protected: by a reverse proxy that does TLS, or not at all, in a network of one's own.
//! Apps show their own passwords with each request; see [`crate::http::subsonic`].

pub mod attempts;
pub mod policy;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};

use self::{attempts::Attempts, policy::Head};
use super::problem::Problem;
use crate::config::Tls;

/// The cookie of a session.
const COOKIE: &str = "antiphon_session";
/// How long it lasts in a browser: as long as the session may be unused.
const COOKIE_SECONDS: u64 = 30 * 24 * 3_600;

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub SocketAddr);

impl Client {
    /// The address that a request came from; none of anybody's where the server did not say.
    pub(in crate::http) fn ip(extensions: &Extensions) -> IpAddr {
        extensions.get::<Self>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0.ip())
    }
}

/// The web password and the sessions that it has begun.
pub trait Logins: Send + Sync {
    /// Whether there is a password.
    fn has_password(&self) -> bool;
    /// Whether this is it. Takes as long as hashing a password takes.
    fn is_password(&self, password: &str) -> bool;
    /// Begins a session, and gives what the browser has to show; `None` when it cannot be kept.
    fn begin(&self, agent: &str) -> Option<String>;
    /// Whether this session goes on.
    fn goes_on(&self, shown: &str) -> bool;
    /// Ends a session.
    fn end(&self, shown: &str);
}

/// What decides.
pub struct Guard {
    /// Names of this machine beside its addresses.
    pub names: Vec<String>,
    /// Whether anybody but this machine can reach the server.
    pub exposed: bool,
    /// How the way to here is protected.
    pub tls: Option<Tls>,
    logins: Arc<dyn Logins>,
    attempts: Mutex<Attempts>,
    began: Instant,
}

/// What a request may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Area {
    /// Numbers for operators, and what a page of words needs: anybody.
    Public,
    /// Proves itself in each request.
    Apps,
    /// Everything else.
    Own,
}

fn area(path: &str) -> Area {
    match path {
        "/healthz"
        | "/readyz"
        | "/metrics"
        | "/login"
        | "/manifest.webmanifest"
        | "/sw.js"
        | "/offline"
        | "/favicon.ico"
        | "/api/v1/openapi.json" => Area::Public,
        _ if path.starts_with("/assets/") => Area::Public,
        _ if path.starts_with("/rest/") => Area::Apps,
        _ => Area::Own,
    }
}

fn text<'r>(headers: &'r HeaderMap, name: &HeaderName) -> Option<&'r str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl Guard {
    /// A guard over these logins.
    #[must_use]
    pub fn new(names: Vec<String>, exposed: bool, tls: Option<Tls>, logins: Arc<dyn Logins>) -> Self {
        Self { names, exposed, tls, logins, attempts: Mutex::default(), began: Instant::now() }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether somebody may try a password now.
    ///
    /// # Errors
    /// How long to wait.
    pub fn may_try(&self, ip: IpAddr) -> Result<(), Duration> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).may(ip, self.now_ms())
    }

    /// Somebody has tried one.
    pub fn tried(&self, ip: IpAddr, was_right: bool) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if was_right {
            attempts.right(ip);
        } else {
            attempts.wrong(ip, self.now_ms());
        }
    }

    /// Whether whoever sends this may see everything; else what to say.
    fn may_see(&self, client: IpAddr, headers: &HeaderMap) -> Result<(), Denied> {
        let host = text(headers, &header::HOST).unwrap_or_default();
        if !self.logins.has_password() {
            // A proxy on this machine makes everybody look local, but the name gives it away.
            let forwarded =
                headers.contains_key("x-forwarded-for") || headers.contains_key(header::FORWARDED);
            let local = client.to_canonical().is_loopback() && is_loopback(host) && !forwarded;
            return if local { Ok(()) } else { Err(Denied::NoPassword) };
        }
        if self.exposed && self.tls.is_none() && !client.to_canonical().is_loopback() {
            return Err(Denied::NoTls);
        }
        match session(headers) {
            Some(shown) if self.logins.goes_on(shown) => Ok(()),
            _ => Err(Denied::Login),
        }
    }

    /// Logs somebody in. Gives the cookie.
    ///
    /// # Errors
    /// The password is wrong, or there were too many wrong ones.
    pub async fn login(
        self: &Arc<Self>,
        client: IpAddr,
        password: String,
        agent: String,
    ) -> Result<HeaderValue, Problem> {
        if let Err(wait) = self.may_try(client) {
            return Err(too_many(wait));
        }
        let guard = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let right = guard.logins.has_password() && guard.logins.is_password(&password);
            guard.tried(client, right);
            if right { Ok(guard.logins.begin(&agent)) } else { Err(()) }
        });
        match work.await {
            Ok(Ok(Some(shown))) => self.cookie(&shown, COOKIE_SECONDS),
            Ok(Err(())) => Err(Problem::new(StatusCode::UNAUTHORIZED, "the password is wrong")),
            _ => Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the session cannot be kept; see the log",
            )),
        }
    }

    /// Logs somebody out. Gives a cookie that takes the other's place.
    ///
    /// # Errors
    /// None that a browser can cause.
    pub fn logout(&self, headers: &HeaderMap) -> Result<HeaderValue, Problem> {
        if let Some(shown) = session(headers) {
            self.logins.end(shown);
        }
        self.cookie("", 0)
    }

    fn cookie(&self, shown: &str, seconds: u64) -> Result<HeaderValue, Problem> {
        let secure = if self.tls == Some(Tls::Proxy) { "; Secure" } else { "" };
        let cookie = format!("{COOKIE}={shown}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
        HeaderValue::from_str(&cookie)
            .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the session has no name"))
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// What the browser shows of its session.
fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Too many wrong passwords.
pub(super) fn too_many(wait: Duration) -> Problem {
    let seconds = wait.as_secs() + 1;
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        format!("too many wrong passwords from this address; try again in {seconds} s"),
    )
}

/// Why somebody may not see anything.
enum Denied {
    NoPassword,
    NoTls,
    Login,
}

impl Denied {
    fn response(self, path: &str, wants_page: bool) -> Response {
        let problem = match self {
            Self::Login if wants_page => {
                // Back to where it was going, once it is known who it is.
                let next: String = path.bytes().filter(u8::is_ascii_graphic).map(char::from).collect();
                return Redirect::to(&format!("/login?next={}", next.replace(['&', '#', '?', '%'], "")))
                    .into_response();
            }
            Self::Login => {
                Problem::new(StatusCode::UNAUTHORIZED, "log in first: POST /login with the web password")
            }
            Self::NoPassword => Problem::new(
                StatusCode::FORBIDDEN,
                "the player is open on this machine alone until it has a password: set one with `antiphon web password`",
            ),
            Self::NoTls => Problem::new(
                StatusCode::FORBIDDEN,
                "the player is reached over the network, and nothing says how that is protected: put a reverse proxy that \
                 does TLS before it and set [http] tls = \"proxy\", or, in a network where everybody may listen in, \
                 [http] tls = \"none\"",
            ),
        };
        if wants_page {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::FORBIDDEN);
            return (status, problem.detail + "\n").into_response();
        }
        problem.into_response()
    }
}

/// Looks at every request before anything else does.
pub async fn watch(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let path = request.uri().path().to_owned();
    let area = area(&path);
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let head = Head {
        host: text(headers, &header::HOST),
        origin: text(headers, &header::ORIGIN),
        site: text(headers, &HeaderName::from_static("sec-fetch-site")),
        changes,
        proves: area == Area::Apps,
    };
    if let Err(refused) = policy::check(&head, &guard.names) {
        let status = match refused {
            policy::Refused::Host(_) => StatusCode::MISDIRECTED_REQUEST,
            policy::Refused::Origin => StatusCode::FORBIDDEN,
        };
        return Problem::new(status, refused.to_string()).into_response();
    }
    if area == Area::Own {
        let client = Client::ip(request.extensions());
        let wants_page = !path.starts_with("/api/")
            && text(headers, &header::ACCEPT).is_some_and(|kinds| kinds.contains("text/html"));
        if let Err(denied) = guard.may_see(client, headers) {
            return protect(denied.response(&path, wants_page), area);
        }
    }
    if guard.tls == Some(Tls::Proxy)
        && let Some(ip) = behind_proxy(Client::ip(request.extensions()), request.headers())
    {
        request.extensions_mut().insert(Client(SocketAddr::new(ip, 0)));
    }
    protect(next.run(request).await, area)
}

/// For whom a proxy on this machine asks: the last address that it names. Those before it are what the client has said of
/// itself, and whoever comes from elsewhere may say what it likes.
fn behind_proxy(client: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    if !client.to_canonical().is_loopback() {
        return None;
    }
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

/// What browsers are told about every answer.
fn protect(mut response: Response, area: Area) -> Response {
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &'static str| {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    };
    set("x-content-type-options", "nosniff");
    set("referrer-policy", "same-origin");
    set(
        "content-security-policy",
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    );
    set("cross-origin-opener-policy", "same-origin");
    set("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()");
    if area == Area::Apps {
        // Apps in a browser; each request proves itself, and no cookie of ours counts there.
        set("access-control-allow-origin", "*");
    } else {
        set("cross-origin-resource-policy", "same-origin");
        set("x-frame-options", "DENY");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_whom_a_proxy_asks() {
        let [here, there, asks] = ["127.0.0.1", "192.0.2.9", "198.51.100.7"].map(|ip| ip.parse().unwrap());
        let with = |values: &[&str]| {
            let named = |value: &&str| (HeaderName::from_static("x-forwarded-for"), value.parse().unwrap());
            HeaderMap::from_iter(values.iter().map(named))
        };
        assert_eq!(behind_proxy(here, &with(&["198.51.100.7"])), Some(asks));
        // What comes before was said by the client.
        assert_eq!(behind_proxy(here, &with(&["10.0.0.1, 198.51.100.7"])), Some(asks));
        assert_eq!(behind_proxy(here, &with(&["10.0.0.1", "198.51.100.7"])), Some(asks));
        assert_eq!(behind_proxy("::ffff:127.0.0.1".parse().unwrap(), &with(&["::1"])), "::1".parse().ok());
        for none in [&[][..], &[""], &["unknown"], &["198.51.100.7,"]] {
            assert_eq!(behind_proxy(here, &with(none)), None, "{none:?}");
        }
        assert_eq!(behind_proxy(there, &with(&["198.51.100.7"])), None);
    }
}

//! The envelope around every answer, in the form that the app asked for.

use super::{bodies::Body, error::SubsonicError, json, params::Params, tree::Node, xml};

/// The version of the protocol that is spoken.
pub const VERSION: &str = "1.16.1";
/// What apps know this server by.
pub const TYPE: &str = "antiphon";
/// The version of this program.
pub const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Longest name of a function that an answer may call.
pub const CALLBACK_BYTES: usize = 128;

const ROOT: &str = "subsonic-response";

/// The name of a function, which can be nothing but that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback(String);

impl Callback {
    /// Names joined by dots; no brackets, no quotes, nothing that could be more than a name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let part = |part: &str| {
            let rest = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'));
            rest && part.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
        };
        (name.len() <= CALLBACK_BYTES && name.split('.').all(part)).then(|| Self(name.to_owned()))
    }
}

/// The form of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Format {
    /// `f=xml`, and what is meant when nothing is said.
    #[default]
    Xml,
    /// `f=json`.
    Json,
    /// `f=jsonp`, with the function of the parameter `callback`.
    Jsonp(Callback),
}

impl Format {
    /// What the request asks for. Other forms than these are answered as XML, as is everything of old apps.
    ///
    /// # Errors
    /// Error 10 when JSONP has no callback that can be used; this is then told as JSON.
    pub fn of(params: &Params) -> Result<Self, SubsonicError> {
        match params.filled("f") {
            Some("json") => Ok(Self::Json),
            Some("jsonp") => {
                let name = params.filled("callback").ok_or_else(|| SubsonicError::missing("callback"))?;
                let callback = Callback::new(name);
                callback
                    .map(Self::Jsonp)
                    .ok_or_else(|| SubsonicError::wrong("callback", "the name of a function"))
            }
            _ => Ok(Self::Xml),
        }
    }

    /// The MIME type of an answer.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        match self {
            Self::Xml => "text/xml; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
            Self::Jsonp(_) => "application/javascript; charset=utf-8",
        }
    }
}

/// The answer as a document.
#[must_use]
pub fn render(format: &Format, answer: &Result<Body, SubsonicError>) -> String {
    let envelope = Node::new()
        .with("status", if answer.is_ok() { "ok" } else { "failed" })
        .with("version", VERSION)
        .with("type", TYPE)
        .with("serverVersion", SERVER_VERSION)
        .with("openSubsonic", true);
    let envelope = match answer {
        Ok(body) => match body.inner() {
            Some((name, inner)) => envelope.append(name, inner),
            None => envelope,
        },
        Err(error) => envelope.one("error", error.node()),
    };
    match format {
        Format::Xml => xml::document(ROOT, &envelope),
        Format::Json => json::document(ROOT, &envelope),
        Format::Jsonp(Callback(name)) => {
            // Two characters that may stand in JSON end a line in older JavaScript. They only occur in strings.
            let json = json::document(ROOT, &envelope);
            let json = json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
            // The comment keeps a name that was chosen well from being the first bytes of another kind of file.
            format!("/**/{name}({json});")
        }
    }
}

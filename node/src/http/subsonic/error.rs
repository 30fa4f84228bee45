//! What a request can be refused for, as apps tell it apart.

use std::fmt;

use super::tree::Node;

/// The codes that the protocol knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// 0: none of the others.
    Generic,
    /// 10: a parameter is missing, or is not what it should be.
    Parameter,
    /// 20: the app speaks too old a version.
    ClientTooOld,
    /// 30: the app speaks too new a version.
    ServerTooOld,
    /// 40: no such name and password.
    WrongLogin,
    /// 41: hashed passwords are not taken.
    NoTokens,
    /// 42: this way to log in is not taken.
    NoSuchLogin,
    /// 43: two ways to log in at once.
    ConflictingLogins,
    /// 44: no such API key.
    WrongKey,
    /// 50: known, but not allowed to.
    NotAllowed,
    /// 60: a trial is over. Nothing here has one; apps know the code.
    TrialOver,
    /// 70: nothing of that name.
    NotFound,
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Generic => 0,
            Self::Parameter => 10,
            Self::ClientTooOld => 20,
            Self::ServerTooOld => 30,
            Self::WrongLogin => 40,
            Self::NoTokens => 41,
            Self::NoSuchLogin => 42,
            Self::ConflictingLogins => 43,
            Self::WrongKey => 44,
            Self::NotAllowed => 50,
            Self::TrialOver => 60,
            Self::NotFound => 70,
        }
    }

    /// What it means, for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Generic => "Something went wrong.",
            Self::Parameter => "A required parameter is missing.",
            Self::ClientTooOld => "The app speaks too old a version of the protocol; update the app.",
            Self::ServerTooOld => "The app speaks too new a version of the protocol; update the server.",
            Self::WrongLogin => "Wrong username or password.",
            Self::NoTokens => "Logging in with a hashed password is not supported for this user.",
            Self::NoSuchLogin => "This way to log in is not supported.",
            Self::ConflictingLogins => "The request logs in in more than one way.",
            Self::WrongKey => "This API key is not valid.",
            Self::NotAllowed => "This user is not allowed to do that.",
            Self::TrialOver => "The trial period is over.",
            Self::NotFound => "The requested data was not found.",
        }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubsonicError {
    /// For apps.
    pub code: Code,
    /// For people.
    pub message: String,
    /// A page that helps further.
    pub help: Option<String>,
}

impl SubsonicError {
    /// With the sentence of the code.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self { code, message: code.sentence().to_owned(), help: None }
    }

    /// With a sentence of one's own.
    #[must_use]
    pub fn saying(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None }
    }

    /// The parameter of this name is missing.
    #[must_use]
    pub fn missing(name: &str) -> Self {
        Self::saying(Code::Parameter, format!("The required parameter '{name}' is missing."))
    }

    /// The parameter of this name is there and is not what it should be.
    #[must_use]
    pub fn wrong(name: &str, should: &str) -> Self {
        Self::saying(Code::Parameter, format!("The parameter '{name}' should be {should}."))
    }

    /// Nothing of that name.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound)
    }

    /// With the address of a page that helps further.
    #[must_use]
    pub fn with_help(mut self, url: impl Into<String>) -> Self {
        self.help = Some(url.into());
        self
    }

    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("code", self.code.number())
            .with("message", self.message.as_str())
            .maybe("helpUrl", self.help.as_deref())
    }
}

impl fmt::Display for SubsonicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {})", self.message, self.code.number())
    }
}

impl std::error::Error for SubsonicError {}

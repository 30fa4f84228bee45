//! Who asks: what a request says of itself, and whether it is true.
//!
//! An app knows one app password. It is sent as it is, hashed with a salt, or as the API key that it is as well.

use std::borrow::Cow;

use data_encoding::HEXLOWER_PERMISSIVE;
use md5::{Digest, Md5};
use subtle::{Choice, ConstantTimeEq};

use super::{
    error::{Code, SubsonicError},
    params::Params,
};
use crate::listener::Device;

/// Something that apps log in with.
pub trait AppPassword {
    /// The user name that goes with it.
    fn user(&self) -> &str;
    /// The password, which is the API key as well.
    fn password(&self) -> &str;
}

impl AppPassword for Device {
    fn user(&self) -> &str {
        &self.user
    }

    fn password(&self) -> &str {
        &self.password
    }
}

/// What a request says of who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Login<'a> {
    /// With an API key, which says who it is.
    Key(&'a str),
    /// With a name and the MD5 of password and salt.
    Token {
        /// The user's name.
        user: &'a str,
        /// What should be the MD5.
        token: [u8; 16],
        /// What was appended to the password.
        salt: &'a str,
    },
    /// With a name and a password.
    Password {
        /// The user's name.
        user: &'a str,
        /// The password itself.
        password: Cow<'a, str>,
    },
}

/// The secret is left out.
impl std::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(_) => f.write_str("Key"),
            Self::Token { user, .. } => write!(f, "Token({user:?})"),
            Self::Password { user, .. } => write!(f, "Password({user:?})"),
        }
    }
}

/// The one value of this name. Two that differ are two logins.
fn only<'a>(params: &'a Params, name: &'a str) -> Result<Option<&'a str>, SubsonicError> {
    let mut values = params.all(name).filter(|value| !value.is_empty());
    let first = values.next();
    if values.any(|value| Some(value) != first) {
        return Err(SubsonicError::new(Code::ConflictingLogins));
    }
    Ok(first)
}

impl<'a> Login<'a> {
    /// What the request says.
    ///
    /// # Errors
    /// 10 when something is missing, 40 when it cannot be the login of anybody, 43 when there is more than one login.
    pub fn of(params: &'a Params) -> Result<Self, SubsonicError> {
        let key = only(params, "apiKey")?;
        let (user, password) = (only(params, "u")?, only(params, "p")?);
        let (token, salt) = (only(params, "t")?, only(params, "s")?);
        let conflict = SubsonicError::new(Code::ConflictingLogins);
        if let Some(key) = key {
            let more = user.or(password).or(token).or(salt);
            return if more.is_some() { Err(conflict) } else { Ok(Self::Key(key)) };
        }
        let user = user.ok_or_else(|| SubsonicError::missing("u"))?;
        match (password, token, salt) {
            (Some(password), None, None) => Ok(Self::Password { user, password: plain(password)? }),
            (Some(_), _, _) => Err(conflict),
            (None, Some(token), Some(salt)) => Ok(Self::Token { user, token: digest(token)?, salt }),
            (None, Some(_), None) => Err(SubsonicError::missing("s")),
            (None, None, Some(_)) => Err(SubsonicError::missing("t")),
            (None, None, None) => Err(SubsonicError::missing("p")),
        }
    }

    /// Which of the passwords it is. Takes as long whichever it is, and whether it is any.
    ///
    /// # Errors
    /// 40 for a wrong name or password, 44 for a wrong API key.
    pub fn check<'p, P: AppPassword>(&self, passwords: &'p [P]) -> Result<&'p P, SubsonicError> {
        let mut found = None;
        for password in passwords {
            if bool::from(self.fits(password)) {
                found = Some(password);
            }
        }
        let code = if matches!(self, Self::Key(_)) { Code::WrongKey } else { Code::WrongLogin };
        found.ok_or_else(|| SubsonicError::new(code))
    }

    fn fits(&self, known: &impl AppPassword) -> Choice {
        match self {
            Self::Key(key) => same(key, known.password()),
            Self::Token { user, token, salt } => {
                let digest: [u8; 16] =
                    Md5::new().chain_update(known.password()).chain_update(salt).finalize().into();
                same(user, known.user()) & digest.ct_eq(token)
            }
            Self::Password { user, password } => same(user, known.user()) & same(password, known.password()),
        }
    }
}

/// Whether two texts are the same. Their hashes are compared, so that not even their lengths show.
fn same(one: &str, other: &str) -> Choice {
    let hash = |text: &str| *blake3::hash(text.as_bytes()).as_bytes();
    hash(one).ct_eq(&hash(other))
}

/// A password, which may be written as hexadecimal digits of its bytes.
fn plain(password: &str) -> Result<Cow<'_, str>, SubsonicError> {
    let Some(hex) = password.strip_prefix("enc:") else { return Ok(Cow::Borrowed(password)) };
    let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Cow::Owned).ok_or_else(|| SubsonicError::new(Code::WrongLogin))
}

fn digest(token: &str) -> Result<[u8; 16], SubsonicError> {
    let bytes = HEXLOWER_PERMISSIVE.decode(token.as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| SubsonicError::new(Code::WrongLogin))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl AppPassword for (&str, &str) {
        fn user(&self) -> &str {
            self.0
        }

        fn password(&self) -> &str {
            self.1
        }
    }

    const KNOWN: [(&str, &str); 3] = [("joe", "other"), ("joe", "sesame"), ("ann", "secret")];

    fn check(query: &str) -> Result<(&'static str, &'static str), u32> {
        let params = Params::parse(query, b"").unwrap();
        let known: &'static [(&str, &str)] = &KNOWN;
        let login = Login::of(&params).map_err(|error| error.code.number())?;
        login.check(known).copied().map_err(|error| error.code.number())
    }

    #[test]
    fn every_way_in() {
        let joe = Ok(("joe", "sesame"));
        assert_eq!(check("u=joe&p=sesame"), joe);
        assert_eq!(check("u=joe&p=enc:736573616d65"), joe);
        assert_eq!(check("u=joe&p=enc:736573616D65"), joe);
        // MD5 of "sesamec19b2d".
        assert_eq!(check("u=joe&t=26719a1196d2a940705a59634eb18eab&s=c19b2d"), joe);
        assert_eq!(check("u=joe&t=26719A1196D2A940705A59634EB18EAB&s=c19b2d"), joe);
        assert_eq!(check("apiKey=sesame"), joe);
        assert_eq!(check("apiKey=secret&u=&p="), Ok(("ann", "secret")));
        assert_eq!(check("u=joe&u=joe&p=sesame"), joe);
    }

    #[test]
    fn what_is_refused() {
        for (query, code) in [
            ("", 10),
            ("u=joe", 10),
            ("p=sesame", 10),
            ("u=joe&t=26719a1196d2a940705a59634eb18eab", 10),
            ("u=joe&s=c19b2d", 10),
            ("u=joe&p=sesamE", 40),
            ("u=Joe&p=sesame", 40),
            ("u=ann&p=sesame", 40),
            ("u=joe&p=enc:7365zz", 40),
            ("u=joe&p=enc:ff", 40),
            ("u=joe&t=26719a1196d2a940705a59634eb18eac&s=c19b2d", 40),
            ("u=joe&t=26719a1196d2a940705a59634eb18e&s=c19b2d", 40),
            ("u=joe&t=x&s=c19b2d", 40),
            ("apiKey=sesame&u=joe", 43),
            ("apiKey=sesame&s=c19b2d", 43),
            ("apiKey=sesame&apiKey=secret", 43),
            ("u=joe&u=ann&p=sesame", 43),
            ("u=joe&p=sesame&t=26719a1196d2a940705a59634eb18eab&s=c19b2d", 43),
            ("apiKey=sesam", 44),
            ("apiKey=enc:736573616d65", 44),
        ] {
            assert_eq!(check(query), Err(code), "{query}");
        }
    }

    #[test]
    fn the_missing_parameter_is_named() {
        let params = Params::parse("u=joe&t=00", b"").unwrap();
        assert!(Login::of(&params).unwrap_err().message.contains("'s'"));
    }

    #[test]
    fn secrets_are_not_printed() {
        for query in ["apiKey=sesame", "u=joe&p=sesame"] {
            let params = Params::parse(query, b"").unwrap();
            assert!(!format!("{:?}", Login::of(&params)).contains("sesame"));
        }
    }
}

//! The password of the pages, and who is logged in there.
//!
//! The password is kept as an Argon2id hash, tokens of sessions as their BLAKE3: they are random, so that nobody gets from
//! a hash to a token.

use std::{fmt, str::FromStr, sync::PoisonError};

use bincode::{Decode, Encode};
use data_encoding::HEXLOWER;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};
use zeroize::Zeroizing;

use super::{
    ListenerError, Result, USED_EVERY_MS,
    codec::{decode, encode},
    cut,
    error::Fault,
    phc,
    store::Listener,
};
use crate::wallet::file::Cost;

/// The only hash of a password.
const PASSWORD: TableDefinition<(), &[u8]> = TableDefinition::new("web password");
/// BLAKE3 of a token to [`Session`].
const TOKENS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("web sessions");

/// Most sessions. Beyond that the one that was seen longest ago ends.
pub const SESSIONS: u64 = 256;
/// A session ends when it was not seen for 30 days.
pub const IDLE_MS: u64 = 30 * 24 * 3_600_000;
/// Longest label.
const LABEL_BYTES: usize = 128;
/// Longest password. A passphrase of forty words fits.
const PASSWORD_BYTES: usize = 1_024;

/// What a browser shows to be let in. Wiped from memory when dropped, and never printed.
#[derive(Clone)]
pub struct Token(Zeroizing<[u8; 32]>);

impl Token {
    /// Of 32 random bytes.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(random))
    }

    /// As text for a cookie.
    #[must_use]
    pub fn to_text(&self) -> String {
        HEXLOWER.encode(&*self.0)
    }

    /// From the text of a cookie; `None` when it is none.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self::new)
    }

    fn id(&self) -> SessionId {
        SessionId(*blake3::hash(&*self.0).as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The name of a session. Nobody is let in for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 32]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for SessionId {
    type Err = ListenerError;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(ListenerError::NotFound("session"))
    }
}

/// A browser that is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Session {
    /// When it began.
    pub created_ms: u64,
    /// When it was last seen, to the hour.
    pub seen_ms: u64,
    /// When it ends if it is not seen before.
    pub expires_ms: u64,
    /// What the browser calls itself.
    pub label: String,
}

pub(super) fn make(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.open_table(PASSWORD)?;
    write.open_table(TOKENS)?;
    Ok(())
}

type Tokens<'t> = Table<'t, &'static [u8; 32], &'static [u8]>;

fn all(
    table: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
) -> std::result::Result<Vec<(SessionId, Session)>, Fault> {
    let mut found = Vec::new();
    for entry in table.iter()? {
        let (id, bytes) = entry?;
        found.push((SessionId(*id.value()), decode("a session", bytes.value())?));
    }
    Ok(found)
}

fn put(table: &mut Tokens<'_>, id: &SessionId, session: &Session) -> std::result::Result<(), Fault> {
    table.insert(&id.0, &encode("a session", session)?[..])?;
    Ok(())
}

impl Listener {
    /// Sets the password of the pages. Whoever is logged in must do so again.
    ///
    /// # Errors
    /// When it is empty or too long, or there is too little memory to hash it.
    pub fn set_password(&self, password: &[u8], salt: [u8; 16]) -> Result<()> {
        self.set_password_at(Cost::CHOSEN, password, salt)
    }

    fn set_password_at(&self, cost: Cost, password: &[u8], salt: [u8; 16]) -> Result<()> {
        match password.len() {
            0 => return Err(ListenerError::Refused("the password is empty")),
            1..=PASSWORD_BYTES => {}
            _ => return Err(ListenerError::TooLong { what: "a password", most: PASSWORD_BYTES }),
        }
        let hash = {
            let _alone = self.hashing().lock().unwrap_or_else(PoisonError::into_inner);
            phc::hash(password, &salt, cost)?
        };
        self.write(|write| {
            write.open_table(PASSWORD)?.insert((), &encode("the web password", &hash)?[..])?;
            end_all(write)
        })
    }

    /// Whether this is the password of the pages. Takes as long as it does; one at a time. No password fits when none is set.
    ///
    /// # Errors
    /// When it cannot be read, or there is too little memory to hash it.
    pub fn check_password(&self, password: &[u8]) -> Result<bool> {
        let Some(hash) = self.password_hash()? else { return Ok(false) };
        if password.len() > PASSWORD_BYTES {
            return Ok(false);
        }
        let _alone = self.hashing().lock().unwrap_or_else(PoisonError::into_inner);
        match phc::verify(&hash, password) {
            Some(fits) => fits,
            None => self.read(|_| Err(Fault::Record("the web password"))),
        }
    }

    /// Whether the pages have a password.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn has_password(&self) -> Result<bool> {
        Ok(self.password_hash()?.is_some())
    }

    /// Takes the password away, and ends all sessions.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn clear_password(&self) -> Result<()> {
        self.write(|write| {
            write.open_table(PASSWORD)?.remove(())?;
            end_all(write)
        })
    }

    fn password_hash(&self) -> Result<Option<String>> {
        self.read(|read| {
            let found = read.open_table(PASSWORD)?.get(())?;
            found.map(|bytes| decode("the web password", bytes.value())).transpose()
        })
    }

    /// Begins a session. The label is cut to 128 bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_session(&self, token: &Token, label: &str, now_ms: u64) -> Result<()> {
        let session = Session {
            created_ms: now_ms,
            seen_ms: now_ms,
            expires_ms: now_ms.saturating_add(IDLE_MS),
            label: cut(label, LABEL_BYTES),
        };
        self.write(|write| {
            let mut table = write.open_table(TOKENS)?;
            let mut known = all(&table)?;
            known.sort_by_key(|(_, session)| session.seen_ms);
            for (id, old) in known {
                if old.expires_ms <= now_ms || table.len()? >= SESSIONS {
                    table.remove(&id.0)?;
                }
            }
            put(&mut table, &token.id(), &session)
        })
    }

    /// The session of a token that is still good. That it was seen goes to the disk no more than once an hour.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn session(&self, token: &Token, now_ms: u64) -> Result<Option<Session>> {
        let id = token.id();
        let found: Option<Session> = self.read(|read| {
            let found = read.open_table(TOKENS)?.get(&id.0)?;
            found.map(|bytes| decode("a session", bytes.value())).transpose()
        })?;
        let Some(session) = found.filter(|session| now_ms < session.expires_ms) else { return Ok(None) };
        if now_ms < session.seen_ms.saturating_add(USED_EVERY_MS) {
            return Ok(Some(session));
        }
        let seen = Session { seen_ms: now_ms, expires_ms: now_ms.saturating_add(IDLE_MS), ..session };
        self.write(|write| {
            let mut table = write.open_table(TOKENS)?;
            // It may have ended in between.
            if table.get(&id.0)?.is_none() {
                return Ok(None);
            }
            put(&mut table, &id, &seen)?;
            Ok(Some(seen))
        })
    }

    /// All sessions that are still good, the one that was seen last first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sessions(&self, now_ms: u64) -> Result<Vec<(SessionId, Session)>> {
        let mut found = self.read(|read| all(&read.open_table(TOKENS)?))?;
        found.retain(|(_, session)| now_ms < session.expires_ms);
        found.sort_by_key(|(id, session)| (std::cmp::Reverse(session.seen_ms), *id));
        Ok(found)
    }

    /// Ends the session of a token: its browser logs out.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_session(&self, token: &Token) -> Result<bool> {
        self.revoke_session(&token.id())
    }

    /// Ends a session; says whether there was one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn revoke_session(&self, id: &SessionId) -> Result<bool> {
        self.write(|write| {
            let was = write.open_table(TOKENS)?.remove(&id.0)?.is_some();
            Ok(was)
        })
    }

    /// Ends all sessions.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn revoke_sessions(&self) -> Result<()> {
        self.write(end_all)
    }
}

fn end_all(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.delete_table(TOKENS)?;
    write.open_table(TOKENS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::store::tests::{fresh, reopen},
        *,
    };

    const LEAST: Cost = Cost { memory_kib: 1_024, passes: 1, lanes: 1 };

    fn token(byte: u8) -> Token {
        Token::new([byte; 32])
    }

    #[test]
    fn golden_bytes() {
        let session = Session { created_ms: 1, seen_ms: 2, expires_ms: 3, label: "x".into() };
        assert_eq!(encode("x", &session).unwrap(), [1, 1, 2, 3, 1, b'x']);
        assert_eq!(
            token(0).id().to_string(),
            "2ada83c1819a5372dae1238fc1ded123c8104fdaa15862aaee69428a1820fcda"
        );
    }

    #[test]
    fn tokens_as_text() {
        let text = token(0xab).to_text();
        assert_eq!(Token::from_text(&text).unwrap().to_text(), text);
        for bad in ["", "ab", &text.to_uppercase(), &(text.clone() + "00")] {
            assert!(Token::from_text(bad).is_none());
        }
        assert_eq!(format!("{:?}", token(0xab)), "Token");
        let id = token(1).id();
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
    }

    #[test]
    fn the_password() {
        let (directory, listener) = fresh();
        assert!(!listener.has_password().unwrap());
        assert!(!listener.check_password(b"").unwrap());
        assert!(listener.set_password_at(LEAST, b"", [1; 16]).is_err());
        assert!(listener.set_password_at(LEAST, &[b'x'; PASSWORD_BYTES + 1], [1; 16]).is_err());
        listener.set_password_at(LEAST, b"sesame", [1; 16]).unwrap();
        drop(listener);
        let listener = reopen(&directory);
        assert!(listener.check_password(b"sesame").unwrap());
        assert!(!listener.check_password(b"Sesame").unwrap());
        listener.begin_session(&token(1), "x", 0).unwrap();
        listener.set_password_at(LEAST, b"other", [2; 16]).unwrap();
        assert!(!listener.check_password(b"sesame").unwrap());
        assert_eq!(listener.session(&token(1), 1).unwrap(), None);
        listener.clear_password().unwrap();
        assert!(!listener.has_password().unwrap() && !listener.check_password(b"other").unwrap());
    }

    #[test]
    fn a_session_through_its_life() {
        let (directory, listener) = fresh();
        listener.begin_session(&token(1), &"ä".repeat(99), 1_000).unwrap();
        drop(listener);
        let listener = reopen(&directory);
        assert_eq!(listener.session(&token(2), 1_000).unwrap(), None);
        let session = listener.session(&token(1), 2_000).unwrap().unwrap();
        assert_eq!((session.seen_ms, session.label.len()), (1_000, LABEL_BYTES));
        let later = 1_000 + IDLE_MS - 1;
        let session = listener.session(&token(1), later).unwrap().unwrap();
        assert_eq!(
            (session.created_ms, session.seen_ms, session.expires_ms),
            (1_000, later, later + IDLE_MS)
        );
        assert_eq!(listener.session(&token(1), later + IDLE_MS).unwrap(), None);
        assert_eq!(listener.sessions(later).unwrap(), [(token(1).id(), session)]);
        assert!(listener.end_session(&token(1)).unwrap());
        assert_eq!(listener.session(&token(1), later).unwrap(), None);
    }

    #[test]
    fn the_oldest_sessions_end() {
        let (_directory, listener) = fresh();
        let token = |number: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            Token::new(bytes)
        };
        for number in 0..SESSIONS + 2 {
            listener.begin_session(&token(number), "", number).unwrap();
        }
        assert_eq!(listener.sessions(SESSIONS).unwrap().len() as u64, SESSIONS);
        assert_eq!(listener.session(&token(1), SESSIONS).unwrap(), None);
        assert!(listener.session(&token(2), SESSIONS).unwrap().is_some());
        listener.revoke_sessions().unwrap();
        assert!(listener.sessions(0).unwrap().is_empty());
    }
}

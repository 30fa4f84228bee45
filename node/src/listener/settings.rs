//! Settings of the player, as it writes them: nothing here knows what they mean.

use std::collections::BTreeMap;

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::{
    ListenerError, Result,
    codec::{decode, encode},
    error::Fault,
    store::Listener,
};

/// Name to value.
const VALUES: TableDefinition<&str, &[u8]> = TableDefinition::new("settings");

/// Most settings.
pub const SETTINGS: usize = 64;
/// Longest name and value together.
pub const SETTING_BYTES: usize = 1_024;

pub(super) fn make(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.open_table(VALUES)?;
    Ok(())
}

impl Listener {
    /// Sets one.
    ///
    /// # Errors
    /// When there are too many, or it is too long.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        if name.len().saturating_add(value.len()) > SETTING_BYTES {
            return Err(ListenerError::TooLong { what: "a setting", most: SETTING_BYTES });
        }
        self.write(|write| {
            let mut table = write.open_table(VALUES)?;
            if table.get(name)?.is_none() && table.len()? >= SETTINGS as u64 {
                return Err(ListenerError::Full { what: "settings", most: SETTINGS }.into());
            }
            table.insert(name, &encode("a setting", &value)?[..])?;
            Ok(())
        })
    }

    /// Forgets one; says whether there was one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remove_setting(&self, name: &str) -> Result<bool> {
        self.write(|write| {
            let was = write.open_table(VALUES)?.remove(name)?.is_some();
            Ok(was)
        })
    }

    /// One of them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        self.read(|read| {
            let found = read.open_table(VALUES)?.get(name)?;
            found.map(|bytes| decode("a setting", bytes.value())).transpose()
        })
    }

    /// All of them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn settings(&self) -> Result<BTreeMap<String, String>> {
        self.read(|read| {
            let mut found = BTreeMap::new();
            for entry in read.open_table(VALUES)?.iter()? {
                let (name, bytes) = entry?;
                found.insert(name.value().to_owned(), decode("a setting", bytes.value())?);
            }
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::store::tests::{fresh, reopen},
        *,
    };

    #[test]
    fn settings_come_and_go() {
        let (directory, listener) = fresh();
        listener.set_setting("theme", "dark").unwrap();
        listener.set_setting("theme", "light").unwrap();
        listener.set_setting("volume", "0.5").unwrap();
        drop(listener);
        let listener = reopen(&directory);
        assert_eq!(listener.setting("theme").unwrap().as_deref(), Some("light"));
        assert!(listener.remove_setting("volume").unwrap());
        assert!(!listener.remove_setting("volume").unwrap());
        assert_eq!(listener.settings().unwrap(), BTreeMap::from([("theme".into(), "light".into())]));
    }

    #[test]
    fn bounds() {
        let (_directory, listener) = fresh();
        assert_eq!(encode("x", &"ab").unwrap(), [1, 2, b'a', b'b']);
        assert!(listener.set_setting("n", &"x".repeat(SETTING_BYTES)).is_err());
        for number in 0..SETTINGS {
            listener.set_setting(&number.to_string(), "x").unwrap();
        }
        listener.set_setting("0", &"x".repeat(SETTING_BYTES - 1)).unwrap();
        assert!(matches!(listener.set_setting("more", "x"), Err(ListenerError::Full { .. })));
    }
}

//! The passwords of apps. Each app has its own, which can be taken away without the others noticing.
//!
//! They are kept as they are: an app that sends the MD5 of password and salt can only be checked by whoever knows the
//! password. Therefore they are made here, of 120 random bits, are good for nothing but this peer's music, and the file is
//! for its owner only. A password is the app's API key as well.

use bincode::{Decode, Encode};
use data_encoding::BASE32_NOPAD;
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::{
    ListenerError, NAME_BYTES, Result, USED_EVERY_MS, checked,
    codec::{decode, encode},
    error::Fault,
    store::{Listener, META},
};

/// Number to [`Record`].
const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("devices");
/// The number of the next one, in [`META`]: numbers are not used twice.
const NEXT: &str = "next device";

/// Most app passwords.
pub const DEVICES: usize = 64;

#[derive(Encode, Decode)]
struct Record {
    name: String,
    user: String,
    password: String,
    created_ms: u64,
    used_ms: Option<u64>,
}

/// An app, and what it logs in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub id: u64,
    /// What somebody called it.
    pub name: String,
    /// The user name that it logs in with.
    pub user: String,
    /// The password, which is the API key as well: 24 characters that are easy to type.
    pub password: String,
    /// When it was made.
    pub created_ms: u64,
    /// When it was used last, to the hour.
    pub used_ms: Option<u64>,
}

/// The password is left out.
impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Device {
    fn new(id: u64, record: Record) -> Self {
        let Record { name, user, password, created_ms, used_ms } = record;
        Self { id, name, user, password, created_ms, used_ms }
    }
}

pub(super) fn make(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.open_table(RECORDS)?;
    Ok(())
}

impl Listener {
    /// Makes an app password of the random bytes.
    ///
    /// # Errors
    /// When there are too many, or a name is empty or too long.
    pub fn add_device(&self, name: &str, user: &str, random: [u8; 15], now_ms: u64) -> Result<Device> {
        let name = checked("the name of an app", name, NAME_BYTES)?;
        let user = checked("a user name", user, NAME_BYTES)?;
        if user.is_empty() {
            return Err(ListenerError::Refused("a user name cannot be empty"));
        }
        // Phones write small letters.
        let password = BASE32_NOPAD.encode(&random).to_ascii_lowercase();
        let record = Record { name, user, password, created_ms: now_ms, used_ms: None };
        self.write(|write| {
            let mut table = write.open_table(RECORDS)?;
            if table.len()? >= DEVICES as u64 {
                return Err(ListenerError::Full { what: "app passwords", most: DEVICES }.into());
            }
            let mut meta = write.open_table(META)?;
            let id = meta.get(NEXT)?.map_or(1, |next| next.value());
            meta.insert(NEXT, id.saturating_add(1))?;
            table.insert(id, &encode("an app password", &record)?[..])?;
            Ok(Device::new(id, record))
        })
    }

    /// All app passwords, the oldest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn devices(&self) -> Result<Vec<Device>> {
        self.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(RECORDS)?.iter()? {
                let (id, bytes) = entry?;
                found.push(Device::new(id.value(), decode("an app password", bytes.value())?));
            }
            Ok(found)
        })
    }

    /// Notes that an app was here. Goes to the disk no more than once an hour for each.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn used_device(&self, device: &Device, now_ms: u64) -> Result<()> {
        if device.used_ms.is_some_and(|used| now_ms < used.saturating_add(USED_EVERY_MS)) {
            return Ok(());
        }
        self.write(|write| {
            let mut table = write.open_table(RECORDS)?;
            let old = table.get(device.id)?.map(|bytes| decode::<Record>("an app password", bytes.value()));
            // It may have been taken away in between.
            let Some(old) = old else { return Ok(()) };
            let record = Record { used_ms: Some(now_ms), ..old? };
            table.insert(device.id, &encode("an app password", &record)?[..])?;
            Ok(())
        })
    }

    /// Takes an app password away; says whether there was one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn revoke_device(&self, id: u64) -> Result<bool> {
        self.write(|write| {
            let was = write.open_table(RECORDS)?.remove(id)?.is_some();
            Ok(was)
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
    fn golden_bytes() {
        let (name, user, password) = ("a".into(), "b".into(), "c".into());
        let record = Record { name, user, password, created_ms: 1, used_ms: Some(2) };
        assert_eq!(encode("x", &record).unwrap(), [1, 1, b'a', 1, b'b', 1, b'c', 1, 1, 2]);
    }

    #[test]
    fn a_password_through_its_life() {
        let (directory, listener) = fresh();
        let phone = listener.add_device("phone", "joe", [0x5a; 15], 10).unwrap();
        assert_eq!(phone.password, "ljnfuws2ljnfuws2ljnfuws2");
        assert!(!format!("{phone:?}").contains(&phone.password));
        let tablet = listener.add_device("tablet", "joe", [1; 15], 20).unwrap();
        assert_eq!((phone.id, tablet.id), (1, 2));
        listener.used_device(&phone, 1_000).unwrap();
        drop(listener);
        let listener = reopen(&directory);
        let known = listener.devices().unwrap();
        assert_eq!(known, [Device { used_ms: Some(1_000), ..phone.clone() }, tablet.clone()]);
        // Not twice within an hour.
        listener.used_device(&known[0], 999 + USED_EVERY_MS).unwrap();
        assert_eq!(listener.devices().unwrap()[0].used_ms, Some(1_000));
        listener.used_device(&known[0], 1_000 + USED_EVERY_MS).unwrap();
        assert_eq!(listener.devices().unwrap()[0].used_ms, Some(1_000 + USED_EVERY_MS));
        assert!(listener.revoke_device(2).unwrap());
        assert!(!listener.revoke_device(2).unwrap());
        listener.used_device(&tablet, 5).unwrap();
        assert_eq!(listener.devices().unwrap().len(), 1);
        // Numbers are not used twice.
        assert_eq!(listener.add_device("x", "joe", [2; 15], 30).unwrap().id, 3);
    }

    #[test]
    fn bounds() {
        let (_directory, listener) = fresh();
        assert!(listener.add_device("x", "", [0; 15], 0).is_err());
        assert!(listener.add_device(&"x".repeat(NAME_BYTES + 1), "joe", [0; 15], 0).is_err());
        for number in 0..DEVICES {
            listener.add_device("x", "joe", [u8::try_from(number).unwrap(); 15], 0).unwrap();
        }
        assert!(matches!(listener.add_device("x", "joe", [99; 15], 0), Err(ListenerError::Full { .. })));
    }
}

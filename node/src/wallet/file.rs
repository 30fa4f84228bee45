//! The wallet file: an Ed25519 seed that only a password opens.
//!
//! ```text
//! { "format": "antiphon wallet", "version": 1, "public_key": HEX of 32 bytes,
//!   "kdf":    { "name": "argon2id", "memory_kib": M, "passes": T, "lanes": P, "salt": HEX of 16 bytes },
//!   "cipher": { "name": "xchacha20poly1305", "nonce": HEX of 24 bytes },
//!   "ciphertext": HEX of 48 bytes }
//! ```
//!
//! The key of the cipher is Argon2id (version 0x13) of the password. What is encrypted is the seed; version, public key,
//! cost and salt are associated data, so that none of them can be changed without the password. There is one way to write
//! each wallet: a file in which any byte is another one is refused.

use std::{
    fs::File,
    io::{self, Read},
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use antiphon_proto::{PublicKey, SecretKey};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use data_encoding::HEXLOWER;
use rand::TryRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::password::Password;
use crate::system::durable;

/// What the first field of every wallet says.
const FORMAT: &str = "antiphon wallet";
/// The version that is written.
pub const VERSION: u32 = 1;
const KDF: &str = "argon2id";
const CIPHER: &str = "xchacha20poly1305";
/// Longest file. Version 1 needs some 600 bytes.
pub const MAX_BYTES: u64 = 4_096;
/// Memory that a file may ask for, KiB: 1 GiB is all that the smallest machine has.
const MEMORY_KIB: RangeInclusive<u32> = 1_024..=1_048_576;
/// Passes over it that a file may ask for: with all the memory, half a minute.
const PASSES: RangeInclusive<u32> = 1..=16;
const LANES: RangeInclusive<u32> = 1..=8;

const SEED: usize = 32;
const TAG: usize = 16;

/// Why a wallet file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// Not a wallet, or not as it was written.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
    /// Written by a later version of this program.
    #[error("the file has version {0} and this program reads version {VERSION}: use a newer one")]
    Newer(u32),
    /// More than anybody should be made to do.
    #[error("the file asks for {memory_kib} KiB, {passes} passes and {lanes} lanes, which is out of bounds")]
    Costly {
        /// As [`Cost::memory_kib`].
        memory_kib: u32,
        /// As [`Cost::passes`].
        passes: u32,
        /// As [`Cost::lanes`].
        lanes: u32,
    },
    /// The wrong password, or a file that was changed by somebody who knows the format.
    #[error("wrong password")]
    Password,
    /// The machine has too little.
    #[error("there is not enough memory to open it: {0} KiB are needed")]
    Memory(u32),
    /// Readable by others.
    #[error("the file can be read by others (mode {0:o}): run `chmod 600` on it")]
    Exposed(u32),
    /// No salt, no nonce.
    #[error("the system gives no randomness")]
    Randomness,
    /// Reading or writing.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What each guess at the password costs whoever guesses, and whoever knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// For passwords that people choose: the second choice of RFC 9106, which a Pi with 1 GB has room for.
    pub const CHOSEN: Self = Self { memory_kib: 65_536, passes: 3, lanes: 1 };
    /// For 256 random bits, which nobody guesses at any price: a start should not wait for it. Nor should a peer be larger
    /// for it ever after: glibc keeps what it freed below 32 MiB for the next time (8 MiB here were 8 MB more, idle).
    pub const RANDOM: Self = Self { memory_kib: 1_024, passes: 1, lanes: 1 };

    fn check(self) -> Result<Self, WalletError> {
        let Self { memory_kib, passes, lanes } = self;
        if MEMORY_KIB.contains(&memory_kib) && PASSES.contains(&passes) && LANES.contains(&lanes) {
            Ok(self)
        } else {
            Err(WalletError::Costly { memory_kib, passes, lanes })
        }
    }
}

/// What must be new for each encryption.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// Salt of the key derivation.
    pub salt: [u8; 16],
    /// Nonce of the cipher.
    pub nonce: [u8; 24],
}

impl Fresh {
    /// From the system.
    ///
    /// # Errors
    /// When it gives no randomness.
    pub fn new() -> Result<Self, WalletError> {
        let mut fresh = Self { salt: [0; 16], nonce: [0; 24] };
        for part in [&mut fresh.salt[..], &mut fresh.nonce[..]] {
            rand::rngs::SysRng.try_fill_bytes(part).map_err(|_| WalletError::Randomness)?;
        }
        Ok(fresh)
    }
}

/// A wallet as it lies on disk. Holds no secret that its password does not guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    public: PublicKey,
    cost: Cost,
    salt: [u8; 16],
    nonce: [u8; 24],
    ciphertext: [u8; SEED + TAG],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u32,
    public_key: String,
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cipher {
    name: String,
    nonce: String,
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl Sealed {
    /// Encrypts a key. Takes as long as the password's cost says.
    ///
    /// # Errors
    /// When there is too little memory or randomness.
    pub fn seal(secret: &SecretKey, password: &Password) -> Result<Self, WalletError> {
        Self::seal_as(secret, password, password.cost(), Fresh::new()?)
    }

    /// The same at another cost, and with a salt and a nonce that the caller answers for.
    ///
    /// # Errors
    /// When there is too little memory, or the cost is out of bounds.
    pub fn seal_as(
        secret: &SecretKey,
        password: &Password,
        cost: Cost,
        fresh: Fresh,
    ) -> Result<Self, WalletError> {
        let Fresh { salt, nonce } = fresh;
        let mut sealed =
            Self { public: secret.public(), cost: cost.check()?, salt, nonce, ciphertext: [0; SEED + TAG] };
        let cipher = sealed.cipher(password)?;
        // The tag goes behind the seed without another allocation, which would leave a copy.
        let mut buffer = Zeroizing::new(Vec::with_capacity(SEED + TAG));
        buffer.extend_from_slice(&*secret.seed());
        cipher
            .encrypt_in_place(&nonce.into(), &sealed.associated(), &mut *buffer)
            .map_err(|_| WalletError::Damaged("it cannot be encrypted"))?;
        sealed.ciphertext.copy_from_slice(&buffer);
        Ok(sealed)
    }

    /// Decrypts the key. Takes as long as the file's cost says.
    ///
    /// # Errors
    /// [`WalletError::Password`], or too little memory.
    pub fn unseal(&self, password: &Password) -> Result<SecretKey, WalletError> {
        let cipher = self.cipher(password)?;
        let mut buffer = Zeroizing::new(self.ciphertext.to_vec());
        cipher
            .decrypt_in_place(&self.nonce.into(), &self.associated(), &mut *buffer)
            .map_err(|_| WalletError::Password)?;
        let mut seed = Zeroizing::new([0; SEED]);
        seed.copy_from_slice(&buffer);
        let secret = SecretKey::from_seed(&seed);
        if secret.public() != self.public {
            return Err(WalletError::Damaged("it holds another key than it says"));
        }
        Ok(secret)
    }

    /// The key that everybody may know.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// What each guess at the password costs.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    fn cipher(&self, password: &Password) -> Result<XChaCha20Poly1305, WalletError> {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let costly = |_| WalletError::Costly { memory_kib, passes, lanes };
        let params = Params::new(memory_kib, passes, lanes, Some(SEED)).map_err(costly)?;
        let mut memory: Zeroizing<Vec<Block>> = Zeroizing::new(Vec::new());
        let blocks = params.block_count();
        memory.try_reserve_exact(blocks).map_err(|_| WalletError::Memory(memory_kib))?;
        memory.resize(blocks, Block::new());
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(password.bytes(), &self.salt, &mut *key, &mut **memory)
            .map_err(costly)?;
        Ok(XChaCha20Poly1305::new((&*key).into()))
    }

    /// What cannot be changed without the password, though it is not encrypted.
    fn associated(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96);
        bytes.extend_from_slice(FORMAT.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(self.public.as_bytes());
        for number in [self.cost.memory_kib, self.cost.passes, self.cost.lanes] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.salt);
        bytes
    }

    /// The file's text.
    #[must_use]
    pub fn encode(&self) -> String {
        let document = Document {
            format: FORMAT.to_owned(),
            version: VERSION,
            public_key: HEXLOWER.encode(self.public.as_bytes()),
            kdf: Kdf {
                name: KDF.to_owned(),
                memory_kib: self.cost.memory_kib,
                passes: self.cost.passes,
                lanes: self.cost.lanes,
                salt: HEXLOWER.encode(&self.salt),
            },
            cipher: Cipher { name: CIPHER.to_owned(), nonce: HEXLOWER.encode(&self.nonce) },
            ciphertext: HEXLOWER.encode(&self.ciphertext),
        };
        // Strings and numbers only: this cannot fail.
        let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it. The password is not asked for here.
    pub fn parse(bytes: &[u8]) -> Result<Self, WalletError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(WalletError::Damaged("it is too long for a wallet"));
        }
        let head: Head = serde_json::from_slice(bytes)
            .map_err(|_| WalletError::Damaged("it is not the text of a wallet"))?;
        if head.format != FORMAT {
            return Err(WalletError::Damaged("it does not say that it is a wallet"));
        }
        match head.version {
            0 => return Err(WalletError::Damaged("no wallet has version 0")),
            VERSION => {}
            newer => return Err(WalletError::Newer(newer)),
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|_| WalletError::Damaged("its fields are not those of a wallet"))?;
        if document.kdf.name != KDF || document.cipher.name != CIPHER {
            return Err(WalletError::Damaged("version 1 has other algorithms"));
        }
        let Kdf { memory_kib, passes, lanes, .. } = document.kdf;
        let sealed = Self {
            public: PublicKey(hex(&document.public_key)?),
            cost: Cost { memory_kib, passes, lanes }.check()?,
            salt: hex(&document.kdf.salt)?,
            nonce: hex(&document.cipher.nonce)?,
            ciphertext: hex(&document.ciphertext)?,
        };
        if sealed.encode().as_bytes() != bytes {
            return Err(WalletError::Damaged("it was edited"));
        }
        Ok(sealed)
    }

    /// Reads a file that only its owner may read; `None` when there is none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(path: &Path) -> Result<Option<Self>, WalletError> {
        let Some((bytes, mode)) = read(path)? else { return Ok(None) };
        if mode & 0o077 != 0 {
            return Err(WalletError::Exposed(mode & 0o777));
        }
        Self::parse(&bytes).map(Some)
    }

    /// The same, wherever it lies: a stick from which a backup is restored may know no owners.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load_backup(path: &Path) -> Result<Option<Self>, WalletError> {
        let Some((bytes, _)) = read(path)? else { return Ok(None) };
        Self::parse(&bytes).map(Some)
    }

    /// Encrypts a key into a file: opens what it has made before it writes it, and reads it back after. Gives the key as
    /// it was opened.
    ///
    /// # Errors
    /// As [`Self::seal`] and [`Self::save`], and a disk that does not keep what it is given.
    pub fn write(path: &Path, secret: &SecretKey, password: &Password) -> Result<SecretKey, WalletError> {
        let sealed = Self::seal(secret, password)?;
        let opened = sealed.unseal(password)?;
        sealed.save(path)?;
        // A stick that a backup is written to may know no owners.
        if Self::load_backup(path)?.as_ref() != Some(&sealed) {
            return Err(WalletError::Damaged("it is not what was written"));
        }
        Ok(opened)
    }

    /// Writes the file, for its owner only. When this returns, it is on disk.
    ///
    /// # Errors
    /// Whatever the file system says; what was there before is then untouched.
    pub fn save(&self, path: &Path) -> Result<(), WalletError> {
        Ok(durable::write(path, self.encode().as_bytes(), 0o600)?)
    }
}

fn read(path: &Path) -> Result<Option<(Vec<u8>, u32)>, WalletError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(Some((bytes, mode)))
}

fn hex<const N: usize>(text: &str) -> Result<[u8; N], WalletError> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(WalletError::Damaged("a field has the wrong form"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::{super::password::password, *};

    /// As little as a file may ask for.
    const LEAST: Cost = Cost { memory_kib: 1_024, passes: 1, lanes: 1 };
    const FRESH: Fresh = Fresh { salt: [3; 16], nonce: [5; 24] };

    /// Never to be changed: wallets of version 1 are out there.
    const GOLDEN: &str = r#"{
  "format": "antiphon wallet",
  "version": 1,
  "public_key": "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c",
  "kdf": {
    "name": "argon2id",
    "memory_kib": 1024,
    "passes": 1,
    "lanes": 1,
    "salt": "03030303030303030303030303030303"
  },
  "cipher": {
    "name": "xchacha20poly1305",
    "nonce": "050505050505050505050505050505050505050505050505"
  },
  "ciphertext": "9f1baa2915ac1885bacb037de2f2ed3b557ac45f2d029c46836afb5f86a42532e5319a664e4a9f8d8285de6122eb0c3e"
}
"#;

    fn sealed() -> Sealed {
        Sealed::seal_as(&SecretKey::from_seed(&[7; 32]), &password("open sesame"), LEAST, FRESH).unwrap()
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(sealed().encode(), GOLDEN);
        let parsed = Sealed::parse(GOLDEN.as_bytes()).unwrap();
        assert_eq!(parsed, sealed());
        assert_eq!(*parsed.unseal(&password("open sesame")).unwrap().seed(), [7; 32]);
        assert_eq!(parsed.public(), SecretKey::from_seed(&[7; 32]).public());
    }

    #[test]
    fn the_wrong_password_says_so() {
        assert!(matches!(sealed().unseal(&password("open sesam")), Err(WalletError::Password)));
    }

    #[test]
    fn what_is_not_encrypted_cannot_be_changed_either() {
        let right = password("open sesame");
        let other = SecretKey::from_seed(&[8; 32]).public();
        let changes: [fn(&mut Sealed); 3] =
            [|s| s.cost.passes = 2, |s| s.salt[0] ^= 1, |s| s.ciphertext[47] ^= 1];
        for change in changes {
            let mut changed = sealed();
            change(&mut changed);
            assert!(matches!(changed.unseal(&right), Err(WalletError::Password)));
        }
        let changed = Sealed { public: other, ..sealed() };
        assert!(matches!(changed.unseal(&right), Err(WalletError::Password)));
    }

    #[test]
    fn secrets_are_not_printed() {
        let shown = format!("{:?}", sealed());
        assert!(!shown.contains("sesame") && !shown.contains("7, 7, 7") && !shown.contains("0707"));
    }

    #[test]
    fn files_that_ask_for_too_much_are_refused_before_anything_is_done() {
        for (field, value) in [
            ("\"memory_kib\": 1024", "\"memory_kib\": 1048577"),
            ("\"memory_kib\": 1024", "\"memory_kib\": 8"),
            ("\"passes\": 1", "\"passes\": 17"),
            ("\"passes\": 1", "\"passes\": 0"),
            ("\"lanes\": 1", "\"lanes\": 9"),
        ] {
            let text = GOLDEN.replace(field, value);
            assert!(
                matches!(Sealed::parse(text.as_bytes()), Err(WalletError::Costly { .. })),
                "{field} {value}"
            );
        }
        let costly = Cost { passes: 99, ..LEAST };
        let key = SecretKey::from_seed(&[7; 32]);
        assert!(Sealed::seal_as(&key, &password("x"), costly, FRESH).is_err());
    }

    #[test]
    fn later_versions_and_other_files_are_told_apart() {
        let newer = GOLDEN.replace("\"version\": 1", "\"version\": 2").replace("\"kdf\"", "\"how\"");
        let error = Sealed::parse(newer.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("version 2") && error.contains("newer"), "{error}");
        for text in ["", "{}", "antiphon key v1\n00\n", &GOLDEN[..200], &GOLDEN.to_uppercase()] {
            assert!(matches!(Sealed::parse(text.as_bytes()), Err(WalletError::Damaged(_))), "{text}");
        }
        for (from, to) in [("argon2id", "argon2d"), ("  ", " "), ("\"lanes\"", "\"lane\""), ("03\"", "0\"")] {
            let text = GOLDEN.replace(from, to);
            assert!(matches!(Sealed::parse(text.as_bytes()), Err(WalletError::Damaged(_))), "{from}");
        }
        let long = GOLDEN.replace('\n', &"\n".repeat(400));
        assert!(matches!(Sealed::parse(long.as_bytes()), Err(WalletError::Damaged(_))));
    }

    #[test]
    fn files_are_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wallet.json");
        assert!(Sealed::load(&path).unwrap().is_none());
        sealed().save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Sealed::load(&path).unwrap(), Some(sealed()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let error = Sealed::load(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains("604"), "{error}");
        assert_eq!(Sealed::load_backup(&path).unwrap(), Some(sealed()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_changed_byte_is_refused(at in 0..GOLDEN.len(), flip in 1u8..) {
            let mut bytes = GOLDEN.as_bytes().to_vec();
            bytes[at] ^= flip;
            let opened = Sealed::parse(&bytes).and_then(|sealed| {
                // What it costs may have grown with the byte, which is no reason for this test to pay for it.
                prop_assert_cost(sealed.cost())?;
                sealed.unseal(&password("open sesame"))
            });
            prop_assert!(opened.is_err());
        }

        #[test]
        fn anything_else_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Sealed::parse(&bytes).is_err());
        }

        #[test]
        fn what_is_written_is_read(seed: [u8; 32], salt: [u8; 16], nonce: [u8; 24]) {
            let sealed =
                Sealed::seal_as(&SecretKey::from_seed(&seed), &password("p"), LEAST, Fresh { salt, nonce }).unwrap();
            let read = Sealed::parse(sealed.encode().as_bytes()).unwrap();
            prop_assert_eq!(&read, &sealed);
            prop_assert_eq!(*read.unseal(&password("p")).unwrap().seed(), seed);
        }
    }

    fn prop_assert_cost(cost: Cost) -> Result<(), WalletError> {
        if cost.memory_kib > 16_384 { Err(WalletError::Memory(cost.memory_kib)) } else { Ok(()) }
    }
}

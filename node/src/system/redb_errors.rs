//! What goes wrong with redb, for the errors of whoever keeps something in it.

use std::io;

/// Makes the one error of redb's several kinds, as a variant of an error of ours.
macro_rules! from_redb {
    ($ours:ident::$variant:ident) => {
        $crate::system::redb_errors::from_redb!(
            $ours::$variant: DatabaseError, TransactionError, TableError, StorageError, CommitError, SetDurabilityError
        );
    };
    ($ours:ident::$variant:ident: $($kind:ident),*) => {
        $(impl From<redb::$kind> for $ours {
            fn from(error: redb::$kind) -> Self {
                Self::$variant(error.into())
            }
        })*
    };
}
pub(crate) use from_redb;

/// Whether the file itself is at fault.
#[must_use]
pub fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
        redb::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

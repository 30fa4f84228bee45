//! What is to be played, so that another device can go on with it.

use bincode::{Decode, Encode};
use redb::{TableDefinition, WriteTransaction};

use super::{
    ListenerError, NAME_BYTES, Result,
    codec::{decode, encode},
    cut,
    error::Fault,
    store::Listener,
};

/// The only [`Queue`].
const QUEUE: TableDefinition<(), &[u8]> = TableDefinition::new("queue");

/// Most songs.
pub const QUEUE_SONGS: usize = 10_000;

/// What is to be played.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Queue {
    /// Ledger indexes.
    pub songs: Vec<u64>,
    /// Which of them plays. 0 when there are none.
    pub current: u32,
    /// How far it has come.
    pub position_ms: u64,
    /// When this was written down.
    pub changed_ms: u64,
    /// By which app.
    pub changed_by: String,
}

pub(super) fn make(write: &WriteTransaction) -> std::result::Result<(), Fault> {
    write.open_table(QUEUE)?;
    Ok(())
}

impl Listener {
    /// Writes down what is to be played. The name of the app is cut to [`NAME_BYTES`].
    ///
    /// # Errors
    /// When there are too many songs, or none has the place of the one that plays.
    pub fn set_queue(&self, queue: &Queue) -> Result<()> {
        if queue.songs.len() > QUEUE_SONGS {
            return Err(ListenerError::Full { what: "songs in the queue", most: QUEUE_SONGS });
        }
        let inside = usize::try_from(queue.current).is_ok_and(|current| current < queue.songs.len());
        if !inside && (queue.current, queue.songs.len()) != (0, 0) {
            return Err(ListenerError::Refused("the song that plays is not in the queue"));
        }
        let queue = Queue { changed_by: cut(&queue.changed_by, NAME_BYTES), ..queue.clone() };
        self.write(|write| {
            write.open_table(QUEUE)?.insert((), &encode("the queue", &queue)?[..])?;
            Ok(())
        })
    }

    /// What is to be played; `None` when nobody has said.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn queue(&self) -> Result<Option<Queue>> {
        self.read(|read| {
            let found = read.open_table(QUEUE)?.get(())?;
            found.map(|bytes| decode("the queue", bytes.value())).transpose()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::store::tests::{fresh, reopen},
        *,
    };

    fn queue() -> Queue {
        Queue { songs: vec![5, 300], current: 1, position_ms: 3, changed_ms: 4, changed_by: "a".into() }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(encode("x", &queue()).unwrap(), [1, 2, 5, 251, 44, 1, 1, 3, 4, 1, b'a']);
    }

    #[test]
    fn the_last_one_counts() {
        let (directory, listener) = fresh();
        assert_eq!(listener.queue().unwrap(), None);
        listener.set_queue(&queue()).unwrap();
        let most =
            Queue { songs: vec![u64::MAX; QUEUE_SONGS], changed_by: "ä".repeat(NAME_BYTES), ..queue() };
        listener.set_queue(&most).unwrap();
        drop(listener);
        let listener = reopen(&directory);
        let found = listener.queue().unwrap().unwrap();
        assert_eq!((found.songs, found.changed_by.len()), (most.songs, NAME_BYTES));
        listener.set_queue(&Queue::default()).unwrap();
        assert_eq!(listener.queue().unwrap(), Some(Queue::default()));
    }

    #[test]
    fn bounds() {
        let (_directory, listener) = fresh();
        assert!(listener.set_queue(&Queue { songs: vec![1; QUEUE_SONGS + 1], ..queue() }).is_err());
        assert!(listener.set_queue(&Queue { current: 2, ..queue() }).is_err());
        assert!(listener.set_queue(&Queue { songs: vec![], ..queue() }).is_err());
        assert_eq!(listener.queue().unwrap(), None);
    }
}

//! Everything that can go wrong, one line each.
use std::fmt;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. `Display` says it in words a user can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// An event is refused: not JSON, not an object, no type, a missing id, over a limit.
    InvalidEvent(String),
    /// A run's input is refused.
    InvalidInput(String),
    /// The events are each fine, but not in this order (AG-UI's `verifyEvents`).
    InvalidSequence(String),
    /// The thread has a run already.
    ThreadAlreadyRunning,
    /// A run of this id has been, or is, somewhere in the store.
    RunAlreadyExists(String),
    /// The claim's fencing token is no longer the thread's: another owner took over.
    LeaseLost(String),
    /// The record of this kind and key is not as a change expects it.
    RecordConflict(String, String),
    /// There is no such thread.
    ThreadNotFound(String),
    /// A cursor is not `<seq>` or `<seq>.<index>`.
    InvalidCursor(String),
    /// The frames behind a cursor are no longer kept.
    CursorExpired(String),
    /// A cursor is ahead of everything the thread ever had.
    CursorAhead(String),
    /// The database could not be read or written.
    Store(String),
    /// The disk or the database is full.
    StoreFull(String),
    /// The file is no SQLite database, or a damaged one.
    StoreCorrupt(String),
    /// The file may not be written.
    StoreReadOnly(String),
    /// The file was written by a newer version of this package.
    StoreTooNew(String),
    /// The store was opened before a `fork`; SQLite does not survive that.
    StoreForked,
    /// The store is closed.
    StoreClosed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThreadAlreadyRunning => f.write_str("Thread already running"),
            Self::RunAlreadyExists(run) => {
                write!(f, "run '{run}' exists already; a run id is used once, start the retry under a new one")
            }
            Self::RecordConflict(kind, key) => {
                write!(f, "the {kind} '{key}' has been changed meanwhile; nothing was written: read it again")
            }
            Self::StoreForked => f.write_str("the store was opened before a fork; open it again in the child process"),
            Self::StoreClosed => f.write_str("the store is closed"),
            Self::InvalidEvent(text)
            | Self::InvalidInput(text)
            | Self::InvalidSequence(text)
            | Self::LeaseLost(text)
            | Self::ThreadNotFound(text)
            | Self::InvalidCursor(text)
            | Self::CursorExpired(text)
            | Self::CursorAhead(text)
            | Self::Store(text)
            | Self::StoreFull(text)
            | Self::StoreCorrupt(text)
            | Self::StoreReadOnly(text)
            | Self::StoreTooNew(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

//! The errors of this crate, each with a text a user can act on.
use std::fmt;

/// The result of every function in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The kind of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// An event is refused: it is not a JSON object, has no type, misses an id, or is over a limit.
    InvalidEvent(String),
    /// The run's state would be larger than its limit.
    StateTooLarge(String),
    /// The run's compacted events would be larger than their limit.
    RunTooLarge(String),
    /// The event takes longer than the caller has time for; nothing of it is recorded.
    TakesLong,
    /// A run's input is refused.
    InvalidInput(String),
    /// An event is not allowed at this place in the run (AG-UI's `verifyEvents`).
    InvalidSequence(String),
    /// The thread has a live run.
    ThreadAlreadyRunning,
    /// The store has, or had, a run of this id.
    RunAlreadyExists(String),
    /// The claim's fencing token is no longer the thread's, because another owner took over.
    LeaseLost(String),
    /// The record of this kind and key has another version than the change expects.
    RecordConflict(String, String),
    /// The store has no such thread.
    ThreadNotFound(String),
    /// A cursor is not `<seq>` or `<seq>.<index>`.
    InvalidCursor(String),
    /// The frames after a cursor are no longer kept.
    CursorExpired(String),
    /// A cursor is ahead of every event of its thread.
    CursorAhead(String),
    /// The database could not be read or written.
    Store(String),
    /// The disk or the database is full.
    StoreFull(String),
    /// A value is larger than the database can keep.
    StoreValueTooLarge(String),
    /// The file is not an SQLite database, or is damaged.
    StoreCorrupt(String),
    /// The store's file was removed, renamed or replaced while it was open.
    StoreMissing(String),
    /// The file must not be written.
    StoreReadOnly(String),
    /// The file was written by a newer version of this package.
    StoreTooNew(String),
    /// The store was opened before a `fork`, which SQLite's locks do not survive.
    StoreForked,
    /// The store is closed.
    StoreClosed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThreadAlreadyRunning => f.write_str("Thread already running"),
            Self::RunAlreadyExists(run) => {
                write!(
                    f,
                    "run '{run}' already exists; a run id can be used only once in a thread, so retry with a new one"
                )
            }
            Self::RecordConflict(kind, key) => {
                write!(f, "the {kind} '{key}' was changed meanwhile and nothing was written; read it and try again")
            }
            Self::StoreForked => f.write_str("the store was opened before a fork; open it again in the child process"),
            Self::StoreClosed => f.write_str("the store is closed"),
            Self::TakesLong => f.write_str("the event takes long to record"),
            Self::InvalidEvent(text)
            | Self::StateTooLarge(text)
            | Self::RunTooLarge(text)
            | Self::InvalidInput(text)
            | Self::InvalidSequence(text)
            | Self::LeaseLost(text)
            | Self::ThreadNotFound(text)
            | Self::InvalidCursor(text)
            | Self::CursorExpired(text)
            | Self::CursorAhead(text)
            | Self::Store(text)
            | Self::StoreFull(text)
            | Self::StoreValueTooLarge(text)
            | Self::StoreCorrupt(text)
            | Self::StoreMissing(text)
            | Self::StoreReadOnly(text)
            | Self::StoreTooNew(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

//! The store on one SQLite file, open to several processes of one machine (docs/spec/durability.md).
mod copy;
mod deadlines;
mod finish;
mod history;
mod inspect;
mod lease;
mod prune;
mod records;
mod schema;
mod store;
mod threads;
mod wal_rewrite;
mod worker;

pub use copy::StoredRun;
pub use history::{Page, Place};
pub use inspect::Report;
pub use prune::Retention;
pub use records::{Change, Record};
pub use store::{Claim, Claimed, Durability, JournalPage, LiveRun, SqliteStore};
pub use threads::{ThreadRow, Whose};

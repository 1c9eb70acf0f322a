//! The store on one SQLite file, open to several processes of one machine (spec/durability.md).
mod finish;
mod history;
mod inspect;
mod schema;
mod store;
mod threads;
mod worker;

pub use history::{Page, Place};
pub use inspect::Report;
pub use store::{Claim, Claimed, Durability, JournalPage, LiveRun, SqliteStore};
pub use threads::{ThreadRow, Whose};

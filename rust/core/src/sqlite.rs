//! The store on one SQLite file, open to several processes of one machine (docs/spec/durability.md).
mod backup;
mod cleanup;
mod copy;
mod database;
mod deadlines;
mod files;
mod finish;
mod guard;
mod history;
mod index;
mod inspect;
mod journal;
mod lease;
mod log_mark;
mod owner_lock;
mod prune;
mod read_only;
mod records;
mod reserve;
mod run_ids;
mod runs;
mod schema;
mod sql;
mod store;
mod thread_rows;
mod threads;
mod types;
mod wal_rewrite;
mod worker;
mod writer;

pub use backup::{Backup, back_up, vacuum};
pub use store::SqliteStore;
pub use types::{
    Change, Claim, Claimed, Durability, HistoryPage, JournalPage, KnownIds, LiveRun, Position, Record, Report,
    Retention, ScopeFilter, StoredRun, Target, ThreadRow,
};

//! The arguments and results of the store's operations.
use std::collections::BTreeMap;

use crate::frames::Cursor;

/// When a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On barriers (a run's start and end, tool results), and at least every 250 ms.
    Balanced,
    /// On every commit.
    Strict,
}

/// The right to write a thread's run, for as long as its token is the thread's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The thread's id.
    pub thread_id: String,
    /// The run's id.
    pub run_id: String,
    /// The fencing token, higher than that of every earlier claim of any thread.
    pub token: i64,
    /// The sequence number of the run's first event.
    pub first_seq: u64,
    /// The run's input, as JSON.
    pub input: String,
    /// The agent's id, for the thread list.
    pub agent_id: Option<String>,
    /// The number of this life of the thread, which a thread created again after a deletion does not share.
    pub incarnation: i64,
}

/// A new claim, and which of the entries that were asked for the thread has already.
#[derive(Debug)]
pub struct Claimed {
    /// The new claim.
    pub claim: Claim,
    /// The entries that the thread has already.
    pub known_ids: KnownIds,
}

/// Entries that a thread's stored runs have, each with the last sequence number of the newest run that has it.
///
/// The number is 0 for an entry that a version without these numbers has written.
pub type KnownIds = BTreeMap<String, u64>;

/// A run that is live now, by its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRun {
    /// The claim its owner holds.
    pub claim: Claim,
    /// Whether a stop was requested.
    pub stop_requested: bool,
}

/// A page of a thread's journal.
#[derive(Debug)]
pub struct JournalPage {
    /// The raw frames.
    pub bytes: Vec<u8>,
    /// The token of the thread's live run when the page was read.
    pub live_token: Option<i64>,
}

/// A page of stored runs, as frames.
#[derive(Debug)]
pub struct HistoryPage {
    /// The compacted frames.
    pub bytes: Vec<u8>,
    /// The cursor of the next page; `None` on the last one.
    pub next: Option<Cursor>,
}

/// Where in its thread a cursor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Between stored runs, or in a compacted run; the history resumes after it.
    Stored,
    /// In a finished run whose raw frames, from this first to this last number, are still in the journal.
    Journal(u64, u64),
    /// In the live run, or where the next run will begin.
    Live,
}

/// A finished run as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRun {
    /// The run's id.
    pub run_id: String,
    /// The id of the run before it in its thread; `None` for the first.
    pub parent_run_id: Option<String>,
    /// The sequence number of its first raw event.
    pub first_seq: u64,
    /// The sequence number of its last raw event.
    pub last_seq: u64,
    /// Its compacted events, a JSON array.
    pub events: Vec<u8>,
    /// Its input, a JSON object.
    pub input: String,
    /// When it ended, in milliseconds since 1970.
    pub created_at: i64,
}

/// A thread as the thread list shows it; times in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadRow {
    /// The thread's id.
    pub thread_id: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The agent of its last run, where known.
    pub agent_id: Option<String>,
    /// Whether it is archived.
    pub archived: bool,
    /// Whether it has a live run.
    pub running: bool,
    /// The number of its stored runs.
    pub runs: i64,
    /// When its first run ended, or began while that run is live.
    pub created_at: i64,
    /// When its last run ended, or its first began while that run is live.
    pub updated_at: i64,
    /// The scope it belongs to.
    pub scope: Option<String>,
    /// The number of this life of the thread.
    pub incarnation: i64,
}

/// The threads an operation applies to, by scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeFilter {
    /// The threads of all scopes.
    Any,
    /// The threads of one scope, or those without a scope.
    Only(Option<String>),
}

/// The thread that an operation is for. A thread that differs is treated as unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The thread's id.
    pub thread_id: String,
    /// The scope it must belong to.
    pub scope: ScopeFilter,
    /// The life it must be in; `None` for any.
    pub incarnation: Option<i64>,
}

/// The runs that retention keeps; with both fields `None`, all of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// The number of newest runs of each thread to keep.
    pub max_runs: Option<i64>,
    /// The time from which on runs are kept, in milliseconds since 1970.
    pub since: Option<i64>,
}

/// A record. Its kind and key are its address in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The record's kind.
    pub kind: String,
    /// The record's key among those of its kind.
    pub key: String,
    /// The thread it belongs to.
    pub thread_id: String,
    /// A number that increases with every write of any record in the file.
    pub version: i64,
    /// The record's bytes.
    pub value: Vec<u8>,
}

/// A change of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The record's kind.
    pub kind: String,
    /// The record's key among those of its kind.
    pub key: String,
    /// The thread it belongs to, which never changes.
    pub thread_id: String,
    /// The new value; `None` removes the record.
    pub value: Option<Vec<u8>>,
    /// The version the record must have; 0 if it must not exist, `None` for any.
    pub version: Option<i64>,
}

/// The state of a file, as `agentrunner doctor` reports it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// The result of SQLite's own check: `ok`, or a description of the damage.
    pub integrity: String,
    /// The number of threads with runs.
    pub threads: i64,
    /// The number of stored runs.
    pub runs: i64,
    /// The number of stored runs that another writer added.
    pub foreign_runs: i64,
    /// Runs whose events cannot be read, by thread and run.
    pub corrupt: Vec<(String, String)>,
    /// Runs whose parent is missing, by thread and run. Readers see them all the same.
    pub orphans: Vec<(String, String)>,
    /// Threads marked as running without a readable lease, which nothing else would ever free.
    pub stuck: Vec<String>,
    /// Live runs whose owner is gone, by thread and run. The next runner that opens the file ends them.
    pub dead: Vec<(String, String)>,
    /// The number of records.
    pub records: i64,
    /// The time of the last checkpoint before the file was copied without its log, in milliseconds since 1970.
    pub missing_log: Option<i64>,
}

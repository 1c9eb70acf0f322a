//! Conversion between the store's values and the tuples that Python makes its dataclasses from.
use agentrunner_core::frames::Cursor;
use agentrunner_core::sqlite as core;
use pyo3::pybacked::PyBackedBytes;

/// The fields of `ThreadSummary`, in order.
pub type ThreadTuple = (String, Option<String>, Option<String>, bool, bool, i64, i64, i64, Option<String>, i64);

/// Convert a thread to its tuple.
pub fn from_thread(row: core::ThreadRow) -> ThreadTuple {
    let core::ThreadRow {
        thread_id,
        name,
        agent_id,
        archived,
        running,
        runs,
        created_at,
        updated_at,
        scope,
        incarnation,
    } = row;
    (thread_id, name, agent_id, archived, running, runs, created_at, updated_at, scope, incarnation)
}

/// Convert a tuple to its thread.
pub fn to_thread(tuple: ThreadTuple) -> core::ThreadRow {
    let (thread_id, name, agent_id, archived, running, runs, created_at, updated_at, scope, incarnation) = tuple;
    core::ThreadRow { thread_id, name, agent_id, archived, running, runs, created_at, updated_at, scope, incarnation }
}

/// The fields of `StoredRun`, in order; its events as owned or borrowed bytes.
pub type RunTuple<E> = (String, Option<String>, u64, u64, E, String, i64);

/// Convert a stored run to its tuple.
pub fn from_run(run: core::StoredRun) -> RunTuple<Vec<u8>> {
    let core::StoredRun { run_id, parent_run_id, first_seq, last_seq, events, input, created_at } = run;
    (run_id, parent_run_id, first_seq, last_seq, events, input, created_at)
}

/// Convert a tuple to its stored run.
pub fn to_run(tuple: RunTuple<PyBackedBytes>) -> core::StoredRun {
    let (run_id, parent_run_id, first_seq, last_seq, events, input, created_at) = tuple;
    core::StoredRun { run_id, parent_run_id, first_seq, last_seq, events: events.to_vec(), input, created_at }
}

/// The fields of `Record`, in order.
pub type RecordTuple = (String, String, String, i64, Vec<u8>);

/// Convert a record to its tuple.
pub fn from_record(record: core::Record) -> RecordTuple {
    let core::Record { kind, key, thread_id, version, value } = record;
    (kind, key, thread_id, version, value)
}

/// The fields of `Change`, in order.
pub type ChangeTuple = (String, String, String, Option<PyBackedBytes>, Option<i64>);

/// Convert a tuple to its change.
pub fn to_change((kind, key, thread_id, value, version): ChangeTuple) -> core::Change {
    core::Change { kind, key, thread_id, value: value.map(|value| value.to_vec()), version }
}

/// Convert a tuple to its cursor.
pub fn to_cursor((seq, index): (u64, Option<u64>)) -> Cursor {
    Cursor { seq, index }
}

/// The fields of `ThreadGuard`: whether any scope matches, the one that does, and the incarnation.
pub type GuardTuple = (bool, Option<String>, Option<i64>);

/// Build the target of an operation on one thread.
pub fn to_target(thread_id: String, guard: Option<GuardTuple>) -> core::Target {
    let (any_scope, scope, incarnation) = guard.unwrap_or((true, None, None));
    core::Target { thread_id, scope: to_filter(any_scope, scope), incarnation }
}

/// Build the filter for an operation's two arguments about scopes.
pub fn to_filter(any_scope: bool, scope: Option<String>) -> core::ScopeFilter {
    if any_scope { core::ScopeFilter::Any } else { core::ScopeFilter::Only(scope) }
}

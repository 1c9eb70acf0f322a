//! The SQLite store as Python sees it: each verb takes a ticket and returns at once; what came of it is fetched with
//! `completions()` when the descriptor `fileno()` is readable.
use std::convert::identity;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use agentrunner_core::error::{Error, Result};
use agentrunner_core::frames::Cursor;
use agentrunner_core::sqlite::{self as core, Durability, Position};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::errors::{StoreClosed, to_py};
use crate::event::Frames;
use crate::recorder::{Batch, Recorder};

/// The right to write a thread's run.
#[pyclass(frozen, get_all, eq, module = "agentrunner")]
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    thread_id: String,
    run_id: String,
    token: i64,
    first_seq: u64,
    input: String,
    agent_id: Option<String>,
}

#[pymethods]
impl Claim {
    #[new]
    #[pyo3(signature = (thread_id, run_id, token, first_seq, input, agent_id=None))]
    fn new(
        thread_id: String,
        run_id: String,
        token: i64,
        first_seq: u64,
        input: String,
        agent_id: Option<String>,
    ) -> Self {
        Self { thread_id, run_id, token, first_seq, input, agent_id }
    }
}

impl From<core::Claim> for Claim {
    fn from(claim: core::Claim) -> Self {
        let core::Claim { thread_id, run_id, token, first_seq, input, agent_id } = claim;
        Self { thread_id, run_id, token, first_seq, input, agent_id }
    }
}

impl Claim {
    fn core(&self) -> core::Claim {
        let Self { thread_id, run_id, token, first_seq, input, agent_id } = self.clone();
        core::Claim { thread_id, run_id, token, first_seq, input, agent_id }
    }
}

/// A ticket, and the value or the error of its verb.
type Outcome = (u64, Option<Py<PyAny>>, Option<Py<PyAny>>);

type Value = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

struct Completions {
    ready: Mutex<Vec<(u64, Value)>>,
    wake: UnixStream,
}

impl Completions {
    fn push(&self, ticket: u64, value: Value) {
        let mut ready = self.ready.lock().expect("never poisoned");
        ready.push((ticket, value));
        if ready.len() == 1 {
            // A full pipe means the loop has been woken already.
            let _ = (&self.wake).write(&[0]);
        }
    }
}

/// One SQLite file.
#[pyclass(frozen, module = "agentrunner")]
pub struct SqliteStore {
    core: Mutex<Option<core::SqliteStore>>,
    completions: Arc<Completions>,
    woken: UnixStream,
}

impl SqliteStore {
    /// Calls a verb of the store with what hands its result to `completions()`.
    fn call<T: Send + 'static, P: for<'py> IntoPyObject<'py> + 'static>(
        &self,
        ticket: u64,
        convert: impl FnOnce(T) -> P + Send + 'static,
        verb: impl FnOnce(&core::SqliteStore, Box<dyn FnOnce(Result<T>) + Send>),
    ) -> PyResult<()> {
        let completions = self.completions.clone();
        let done = move |result: Result<T>| {
            let value: Value = Box::new(move |py| {
                let value = result.map_err(to_py).map(convert)?;
                value.into_py_any(py)
            });
            completions.push(ticket, value);
        };
        match self.core.lock().expect("never poisoned").as_ref() {
            Some(store) => verb(store, Box::new(done)),
            None => return Err(StoreClosed::new_err(Error::StoreClosed.to_string())),
        }
        Ok(())
    }
}

fn whose(any_scope: bool, scope: Option<String>) -> core::ScopeFilter {
    if any_scope { core::ScopeFilter::Any } else { core::ScopeFilter::Only(scope) }
}

/// The fields of `ThreadSummary`, in order.
type Row = (String, Option<String>, Option<String>, bool, bool, i64, i64, i64, Option<String>);

fn row(row: core::ThreadRow) -> Row {
    let core::ThreadRow { thread_id, name, agent_id, archived, running, runs, created_at, updated_at, scope } = row;
    (thread_id, name, agent_id, archived, running, runs, created_at, updated_at, scope)
}

/// The fields of `StoredRun`, in order; its events as they come.
type Stored<E> = (String, Option<String>, u64, u64, E, String, i64);

fn stored(run: core::StoredRun) -> Stored<Vec<u8>> {
    let core::StoredRun { run_id, parent_run_id, first_seq, last_seq, events, input, created_at } = run;
    (run_id, parent_run_id, first_seq, last_seq, events, input, created_at)
}

/// The fields of `Record`, in order.
type RecordRow = (String, String, String, i64, Vec<u8>);

fn record_row(record: core::Record) -> RecordRow {
    let core::Record { kind, key, thread_id, version, value } = record;
    (kind, key, thread_id, version, value)
}

/// The fields of `Change`, in order.
type ChangeRow = (String, String, String, Option<PyBackedBytes>, Option<i64>);

fn cursor((seq, index): (u64, Option<u64>)) -> Cursor {
    Cursor { seq, index }
}

#[pymethods]
impl SqliteStore {
    #[new]
    #[pyo3(signature = (path, *, strict, lease_ms, resume_ms, free_stuck))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        strict: bool,
        lease_ms: i64,
        resume_ms: i64,
        free_stuck: bool,
    ) -> PyResult<Self> {
        let durability = if strict { Durability::Strict } else { Durability::Balanced };
        let core = py.detach(|| core::SqliteStore::open(&path, durability, lease_ms, resume_ms, free_stuck));
        let core = core.map_err(to_py)?;
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let completions = Arc::new(Completions { ready: Mutex::default(), wake });
        Ok(Self { core: Mutex::new(Some(core)), completions, woken })
    }

    fn fileno(&self) -> i32 {
        self.woken.as_raw_fd()
    }

    fn completions(&self, py: Python<'_>) -> Vec<Outcome> {
        while matches!((&self.woken).read(&mut [0; 64]), Ok(64)) {}
        let ready = std::mem::take(&mut *self.completions.ready.lock().expect("never poisoned"));
        let outcome = |(ticket, value): (u64, Value)| match value(py) {
            Ok(value) => (ticket, Some(value), None),
            Err(error) => (ticket, None, Some(error.into_value(py).into_any())),
        };
        ready.into_iter().map(outcome).collect()
    }

    /// Waits for what is queued, then closes the file.
    fn close(&self, py: Python<'_>) {
        let core = self.core.lock().expect("never poisoned").take();
        py.detach(|| drop(core));
    }

    #[allow(clippy::too_many_arguments, reason = "what a claim is made of")]
    fn claim(
        &self,
        ticket: u64,
        thread_id: String,
        run_id: String,
        input: String,
        agent_id: Option<String>,
        message_ids: Vec<String>,
        scope: Option<String>,
    ) -> PyResult<()> {
        let convert = |claimed: core::Claimed| (Claim::from(claimed.claim), claimed.known_ids);
        self.call(ticket, convert, |store, done| {
            store.claim(thread_id, run_id, input, agent_id, message_ids, scope, done);
        })
    }

    fn append(&self, ticket: u64, claim: &Claim, batch: &Batch, barrier: bool) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.append(&claim.core(), batch.0.clone(), barrier, done))
    }

    fn renew(&self, ticket: u64, claims: Vec<PyRef<'_, Claim>>) -> PyResult<()> {
        let claims = claims.iter().map(|claim| claim.core()).collect();
        self.call(ticket, identity, |store, done| store.renew(claims, done))
    }

    fn finish(&self, ticket: u64, claim: &Claim, recorder: &Recorder, stored: bool) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.finish(&claim.core(), recorder.shared(), stored, done))
    }

    fn request_stop(&self, ticket: u64, thread_id: String, run_id: Option<String>) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.request_stop(thread_id, run_id, done))
    }

    fn live(&self, ticket: u64, thread_id: Option<String>) -> PyResult<()> {
        let convert = |runs: Vec<core::LiveRun>| {
            runs.into_iter().map(|run| (Claim::from(run.claim), run.stop_requested)).collect::<Vec<_>>()
        };
        self.call(ticket, convert, |store, done| store.live(thread_id, done))
    }

    fn stops(&self, ticket: u64) -> PyResult<()> {
        self.call(ticket, identity, core::SqliteStore::stops)
    }

    fn recover(&self, ticket: u64, thread_id: Option<String>) -> PyResult<()> {
        let convert = |claims: Vec<core::Claim>| claims.into_iter().map(Claim::from).collect::<Vec<_>>();
        self.call(ticket, convert, |store, done| store.recover(thread_id, done))
    }

    fn journal(&self, ticket: u64, thread_id: String, after: u64, until: Option<u64>, limit: usize) -> PyResult<()> {
        let convert = |page: core::JournalPage| (Frames::from(page.bytes), page.live_token);
        self.call(ticket, convert, |store, done| store.journal(thread_id, after, until, limit, done))
    }

    fn history(
        &self,
        ticket: u64,
        thread_id: String,
        after: (u64, Option<u64>),
        until: Option<u64>,
        limit: usize,
    ) -> PyResult<()> {
        let convert =
            |page: core::HistoryPage| (Frames::from(page.bytes), page.next.map(|next| (next.seq, next.index)));
        self.call(ticket, convert, |store, done| store.history(thread_id, cursor(after), until, limit, done))
    }

    fn locate(&self, ticket: u64, thread_id: String, after: (u64, Option<u64>)) -> PyResult<()> {
        let convert = |place: Position| match place {
            Position::Stored => ("stored", 0, 0),
            Position::Journal(first_seq, last_seq) => ("journal", first_seq, last_seq),
            Position::Live => ("live", 0, 0),
        };
        self.call(ticket, convert, |store, done| store.locate(thread_id, cursor(after), done))
    }

    #[allow(clippy::too_many_arguments, reason = "what a list is chosen by")]
    fn threads(
        &self,
        ticket: u64,
        limit: u32,
        before: Option<(i64, String)>,
        include_archived: bool,
        agent_id: Option<String>,
        any_scope: bool,
        scope: Option<String>,
    ) -> PyResult<()> {
        let convert = |rows: Vec<core::ThreadRow>| rows.into_iter().map(row).collect::<Vec<_>>();
        self.call(ticket, convert, |store, done| {
            store.threads(limit, before, include_archived, agent_id, whose(any_scope, scope), done);
        })
    }

    fn thread(&self, ticket: u64, thread_id: String) -> PyResult<()> {
        self.call(ticket, row, |store, done| store.thread(thread_id, done))
    }

    fn rename(&self, ticket: u64, thread_id: String, name: Option<String>) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.rename(thread_id, name, done))
    }

    fn archive(&self, ticket: u64, thread_id: String, archived: bool) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.archive(thread_id, archived, done))
    }

    fn delete(&self, ticket: u64, thread_id: String) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.delete(thread_id, done))
    }

    fn clear(&self, ticket: u64, any_scope: bool, scope: Option<String>) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.clear(whose(any_scope, scope), done))
    }

    fn runs(&self, ticket: u64, thread_id: String, after: u64, limit: usize) -> PyResult<()> {
        let convert = |runs: Vec<core::StoredRun>| runs.into_iter().map(stored).collect::<Vec<_>>();
        self.call(ticket, convert, |store, done| store.runs(thread_id, after, limit, done))
    }

    fn put(&self, ticket: u64, thread: Row, runs: Vec<Stored<PyBackedBytes>>) -> PyResult<()> {
        let (thread_id, name, agent_id, archived, running, count, created_at, updated_at, scope) = thread;
        let thread = core::ThreadRow {
            thread_id,
            name,
            agent_id,
            archived,
            running,
            runs: count,
            created_at,
            updated_at,
            scope,
        };
        let run = |(run_id, parent_run_id, first_seq, last_seq, events, input, created_at): Stored<PyBackedBytes>| {
            core::StoredRun { run_id, parent_run_id, first_seq, last_seq, events: events.to_vec(), input, created_at }
        };
        let runs = runs.into_iter().map(run).collect();
        self.call(ticket, identity, |store, done| store.put(thread, runs, done))
    }

    fn prune(&self, ticket: u64, max_runs: Option<i64>, before: Option<i64>, limit: u32) -> PyResult<()> {
        let kept = core::Retention { max_runs, since: before };
        self.call(ticket, identity, |store, done| store.prune(kept, limit, done))
    }

    fn record(&self, ticket: u64, kind: String, key: String) -> PyResult<()> {
        let convert = |record: Option<core::Record>| record.map(record_row);
        self.call(ticket, convert, |store, done| store.record(kind, key, done))
    }

    fn records(
        &self,
        ticket: u64,
        kind: Option<String>,
        thread_id: Option<String>,
        after: Option<(String, String)>,
        limit: u32,
    ) -> PyResult<()> {
        let convert = |records: Vec<core::Record>| records.into_iter().map(record_row).collect::<Vec<_>>();
        self.call(ticket, convert, |store, done| store.records(kind, thread_id, after, limit, done))
    }

    fn write(&self, ticket: u64, changes: Vec<ChangeRow>, claim: Option<&Claim>) -> PyResult<()> {
        let change = |(kind, key, thread_id, value, version): ChangeRow| {
            let value = value.map(|value| value.to_vec());
            core::Change { kind, key, thread_id, value, version }
        };
        let (changes, claim) = (changes.into_iter().map(change).collect(), claim.map(Claim::core));
        self.call(ticket, identity, |store, done| store.write_records(changes, claim, done))
    }

    fn inspect(&self, ticket: u64, fix: bool) -> PyResult<()> {
        let convert = |report: core::Report| {
            let core::Report { integrity, threads, runs, foreign_runs, corrupt, orphans, stuck, dead, records } =
                report;
            (integrity, threads, runs, foreign_runs, corrupt, orphans, stuck, dead, records)
        };
        self.call(ticket, convert, |store, done| store.inspect(fix, done))
    }
}

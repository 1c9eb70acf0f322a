//! The Python class of the SQLite store.
//!
//! Each operation takes a ticket and returns at once. `completions()` returns its result once `fileno()` is readable.
use std::convert::identity;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use agentrunner_core::error::{Error, Result};
use agentrunner_core::sqlite::{self as core, Durability, Position};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::claim::Claim;
use crate::completions::{Completions, Outcome, Value};
use crate::errors::{StoreClosed, to_py};
use crate::event::Frames;
use crate::recorder::{Batch, Recorder};
use crate::rows::{self, ChangeTuple, GuardTuple, RunTuple, ThreadTuple};

/// One SQLite file.
#[pyclass(frozen, module = "agentrunner")]
pub struct SqliteStore {
    /// `None` once it is closed.
    core: Mutex<Option<core::SqliteStore>>,
    completions: Arc<Completions>,
}

impl SqliteStore {
    /// Call an operation of the core's store, and pass its result to `completions()`.
    fn call<T: Send + 'static, P: for<'py> IntoPyObject<'py> + 'static>(
        &self,
        ticket: u64,
        convert: impl FnOnce(T) -> P + Send + 'static,
        operation: impl FnOnce(&core::SqliteStore, Box<dyn FnOnce(Result<T>) + Send>),
    ) -> PyResult<()> {
        let completions = self.completions.clone();
        let done = move |result: Result<T>| {
            // Converted on the event loop: the store's thread holds no GIL and must not wait for it.
            let value: Value = Box::new(move |py| {
                let value = result.map_err(to_py).map(convert)?;
                value.into_py_any(py)
            });
            completions.push(ticket, value);
        };
        // The lock is held only while the operation queues its job.
        match self.core.lock().expect("no thread panics while it holds this lock").as_ref() {
            Some(store) => operation(store, Box::new(done)),
            None => return Err(StoreClosed::new_err(Error::StoreClosed.to_string())),
        }
        Ok(())
    }
}

#[pymethods]
impl SqliteStore {
    #[new]
    #[pyo3(signature = (path, *, strict, lease_ms, resume_ms, free_stuck, read_only))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        strict: bool,
        lease_ms: i64,
        resume_ms: i64,
        free_stuck: bool,
        read_only: bool,
    ) -> PyResult<Self> {
        let durability = if strict { Durability::Strict } else { Durability::Balanced };
        // Opening can wait for another process, so other Python threads run meanwhile.
        let core = py.detach(|| {
            if read_only {
                core::SqliteStore::open_read_only(&path)
            } else {
                core::SqliteStore::open(&path, durability, lease_ms, resume_ms, free_stuck)
            }
        });
        let core = core.map_err(to_py)?;
        Ok(Self { core: Mutex::new(Some(core)), completions: Arc::new(Completions::new()?) })
    }

    fn fileno(&self) -> i32 {
        self.completions.fileno()
    }

    fn completions(&self, py: Python<'_>) -> Vec<Outcome> {
        self.completions.take(py)
    }

    /// The time in milliseconds since 1970 after which the file lacks what was written, because its log was missing.
    #[getter]
    fn missing_log(&self) -> Option<i64> {
        self.core.lock().expect("no thread panics while it holds this lock").as_ref()?.missing_log()
    }

    /// Wait for the queued operations, then close the file.
    fn close(&self, py: Python<'_>) {
        let core = self.core.lock().expect("no thread panics while it holds this lock").take();
        // Dropping waits for the store's threads, so other Python threads run meanwhile.
        py.detach(|| drop(core));
    }

    /// Stop extending the lease with this token.
    fn release(&self, token: i64) {
        if let Some(store) = self.core.lock().expect("no thread panics while it holds this lock").as_ref() {
            store.release(token);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "each is a field of the claim")]
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

    fn known_ids(&self, ticket: u64, thread_id: String, ids: Vec<String>, guard: Option<GuardTuple>) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.known_ids(rows::to_target(thread_id, guard), ids, done))
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

    fn request_stop(
        &self,
        ticket: u64,
        thread_id: String,
        run_id: Option<String>,
        guard: Option<GuardTuple>,
    ) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.request_stop(rows::to_target(thread_id, guard), run_id, done))
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

    fn journal(
        &self,
        ticket: u64,
        thread_id: String,
        after: u64,
        until: Option<u64>,
        limit: usize,
        guard: Option<GuardTuple>,
    ) -> PyResult<()> {
        let convert = |page: core::JournalPage| (Frames::from(page.bytes), page.live_token);
        self.call(ticket, convert, |store, done| {
            store.journal(rows::to_target(thread_id, guard), after, until, limit, done);
        })
    }

    fn history(
        &self,
        ticket: u64,
        thread_id: String,
        after: (u64, Option<u64>),
        until: Option<u64>,
        limit: usize,
        guard: Option<GuardTuple>,
    ) -> PyResult<()> {
        let convert =
            |page: core::HistoryPage| (Frames::from(page.bytes), page.next.map(|next| (next.seq, next.index)));
        self.call(ticket, convert, |store, done| {
            store.history(rows::to_target(thread_id, guard), rows::to_cursor(after), until, limit, done);
        })
    }

    fn locate(
        &self,
        ticket: u64,
        thread_id: String,
        after: (u64, Option<u64>),
        guard: Option<GuardTuple>,
    ) -> PyResult<()> {
        let convert = |position: Position| match position {
            Position::Stored => ("stored", 0, 0),
            Position::Journal(first_seq, last_seq) => ("journal", first_seq, last_seq),
            Position::Live => ("live", 0, 0),
        };
        self.call(ticket, convert, |store, done| {
            store.locate(rows::to_target(thread_id, guard), rows::to_cursor(after), done);
        })
    }

    #[allow(clippy::too_many_arguments, reason = "each is a filter of the list")]
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
        let convert = |threads: Vec<core::ThreadRow>| threads.into_iter().map(rows::from_thread).collect::<Vec<_>>();
        self.call(ticket, convert, |store, done| {
            store.threads(limit, before, include_archived, agent_id, rows::to_filter(any_scope, scope), done);
        })
    }

    fn thread(&self, ticket: u64, thread_id: String, guard: Option<GuardTuple>) -> PyResult<()> {
        self.call(ticket, rows::from_thread, |store, done| store.thread(rows::to_target(thread_id, guard), done))
    }

    fn rename(&self, ticket: u64, thread_id: String, name: Option<String>, guard: Option<GuardTuple>) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.rename(rows::to_target(thread_id, guard), name, done))
    }

    fn archive(&self, ticket: u64, thread_id: String, archived: bool, guard: Option<GuardTuple>) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.archive(rows::to_target(thread_id, guard), archived, done))
    }

    fn delete(&self, ticket: u64, thread_id: String, guard: Option<GuardTuple>) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.delete(rows::to_target(thread_id, guard), done))
    }

    fn move_thread(
        &self,
        ticket: u64,
        thread_id: String,
        scope: Option<String>,
        guard: Option<GuardTuple>,
    ) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.move_thread(rows::to_target(thread_id, guard), scope, done))
    }

    fn clear(&self, ticket: u64, any_scope: bool, scope: Option<String>) -> PyResult<()> {
        self.call(ticket, identity, |store, done| store.clear(rows::to_filter(any_scope, scope), done))
    }

    fn runs(
        &self,
        ticket: u64,
        thread_id: String,
        after: u64,
        limit: usize,
        guard: Option<GuardTuple>,
    ) -> PyResult<()> {
        let convert = |runs: Vec<core::StoredRun>| runs.into_iter().map(rows::from_run).collect::<Vec<_>>();
        self.call(ticket, convert, |store, done| store.runs(rows::to_target(thread_id, guard), after, limit, done))
    }

    fn put(&self, ticket: u64, thread: ThreadTuple, runs: Vec<RunTuple<PyBackedBytes>>) -> PyResult<()> {
        let (thread, runs) = (rows::to_thread(thread), runs.into_iter().map(rows::to_run).collect());
        self.call(ticket, identity, |store, done| store.put(thread, runs, done))
    }

    fn prune(&self, ticket: u64, max_runs: Option<i64>, before: Option<i64>, limit: u32) -> PyResult<()> {
        let retention = core::Retention { max_runs, since: before };
        self.call(ticket, identity, |store, done| store.prune(retention, limit, done))
    }

    fn record(&self, ticket: u64, kind: String, key: String) -> PyResult<()> {
        let convert = |record: Option<core::Record>| record.map(rows::from_record);
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
        let convert = |records: Vec<core::Record>| records.into_iter().map(rows::from_record).collect::<Vec<_>>();
        self.call(ticket, convert, |store, done| store.records(kind, thread_id, after, limit, done))
    }

    fn write(&self, ticket: u64, changes: Vec<ChangeTuple>, claim: Option<&Claim>) -> PyResult<()> {
        let (changes, claim) = (changes.into_iter().map(rows::to_change).collect(), claim.map(Claim::core));
        self.call(ticket, identity, |store, done| store.write_records(changes, claim, done))
    }

    fn inspect(&self, ticket: u64, fix: bool) -> PyResult<()> {
        let convert = |report: core::Report| {
            let core::Report {
                integrity,
                threads,
                runs,
                foreign_runs,
                corrupt,
                orphans,
                stuck,
                dead,
                records,
                missing_log,
            } = report;
            (integrity, threads, runs, foreign_runs, corrupt, orphans, stuck, dead, records, missing_log)
        };
        self.call(ticket, convert, |store, done| store.inspect(fix, done))
    }
}

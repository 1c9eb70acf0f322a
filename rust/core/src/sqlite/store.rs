//! The store's verbs for runs: claim, renew, append, finish, recover.
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, params};

use super::lease::{Leases, live_runs};
use super::schema::{self, now_ms, store_error};
use super::worker::Worker;
use super::{deadlines, finish, history, threads, wal_rewrite};
use crate::error::{Error, Result};
use crate::log::Batch;
use crate::recorder::Recorder;

/// When a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On barriers (a run's start and end, tool results) and at least every 250 ms.
    Balanced,
    /// On every commit.
    Strict,
}

/// The right to write a thread's run, for as long as its token is the thread's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The thread.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// The fencing token: each claim of any thread has a higher one than all before.
    pub token: i64,
    /// The sequence number of the run's first event.
    pub first_seq: u64,
    /// The run's input, as JSON.
    pub input: String,
    /// Who the agent is, for the thread list.
    pub agent_id: Option<String>,
}

/// A claim, and which of the input's message ids the thread knows already.
#[derive(Debug)]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// The known ids.
    pub known: Vec<String>,
}

/// A run that is live now, by its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRun {
    /// The claim its owner holds.
    pub claim: Claim,
    /// Somebody asked for it to stop.
    pub stop_requested: bool,
}

/// Frames of a thread's journal.
#[derive(Debug)]
pub struct JournalPage {
    /// The frames.
    pub bytes: Vec<u8>,
    /// The token of the thread's live run at that moment.
    pub live_token: Option<i64>,
}

const FREE_STUCK: &str = "UPDATE run_state SET is_running = 0, current_run_id = NULL, updated_at = ?1
    WHERE is_running <> 0 AND thread_id NOT IN (SELECT thread_id FROM live_runs)";

/// One SQLite file. Each verb returns at once; its last argument is called, on the store's own thread, with the result.
#[derive(Debug)]
pub struct SqliteStore {
    /// Dropped before the writer, which leaves the file behind in order.
    pub(super) reader: Worker,
    pub(super) writer: Arc<Worker>,
    pub(super) leases: Arc<Leases>,
    path: PathBuf,
    pid: u32,
    resume_ms: i64,
}

impl SqliteStore {
    /// Opens or makes the file. `lease_ms`: how long a silent owner keeps its threads; `resume_ms`: how long a
    /// finished run's journal is kept for exact resumption.
    ///
    /// With `free_stuck`, threads that a TypeScript runner left marked as running are freed: it keeps no lease that
    /// could tell whether it still lives.
    pub fn open(path: &Path, durability: Durability, lease_ms: i64, resume_ms: i64, free_stuck: bool) -> Result<Self> {
        let connection = schema::connect(path)?;
        // What a process left that has died may have been through a failed sync.
        wal_rewrite::rewrite_wal(&connection, path)?;
        schema::migrate(&connection, path)?;
        deadlines::begin_boot(&connection, resume_ms)?;
        wal_rewrite::sync_folder(path)?;
        if free_stuck {
            connection.execute(FREE_STUCK, [now_ms()]).map_err(store_error)?;
        }
        let reader = schema::connect(path)?;
        let store = Self {
            writer: Arc::new(Worker::writer(connection, path.into(), durability)),
            reader: Worker::reader(reader),
            leases: Arc::new(Leases::new(lease_ms)),
            path: path.into(),
            pid: std::process::id(),
            resume_ms,
        };
        Ok(store)
    }

    /// The version of SQLite inside.
    pub fn sqlite_version() -> &'static str {
        rusqlite::version()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses every use in a child process: SQLite's locks do not survive a fork.
    pub fn check_fork(&self) -> Result<()> {
        if self.pid == std::process::id() { Ok(()) } else { Err(Error::StoreForked) }
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        barrier: bool,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        match self.check_fork() {
            Ok(()) => self.writer.submit(barrier, work, done),
            Err(error) => done(Err(error)),
        }
    }

    pub(super) fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        match self.check_fork() {
            Ok(()) => self.reader.submit(false, work, done),
            Err(error) => done(Err(error)),
        }
    }

    /// Takes the thread for a run. Errors: `ThreadNotFound` for a thread of another scope, `ThreadAlreadyRunning`,
    /// `RunAlreadyExists`.
    #[allow(clippy::too_many_arguments, reason = "what a claim is made of")]
    pub fn claim(
        &self,
        thread_id: String,
        run_id: String,
        input: String,
        agent_id: Option<String>,
        message_ids: Vec<String>,
        scope: Option<String>,
        done: impl FnOnce(Result<Claimed>) + Send + 'static,
    ) {
        let leases = self.leases.clone();
        let work = move |db: &Connection| {
            history::index_new_rows(db)?;
            threads::check_scope(db, &thread_id, scope.as_deref())?;
            refuse_running(db, &thread_id)?;
            if exists(db, "SELECT 1 FROM agent_runs WHERE run_id = ?1", &run_id)?
                || exists(db, "SELECT 1 FROM live_runs WHERE run_id = ?1", &run_id)?
            {
                return Err(Error::RunAlreadyExists(run_id));
            }
            let known = known_ids(db, &thread_id, message_ids)?;
            threads::begin(db, &thread_id, agent_id.as_deref(), scope.as_deref()).map_err(store_error)?;
            let claim = insert_claim(db, thread_id, run_id, input, agent_id, &leases);
            Ok(Claimed { claim: claim.map_err(store_error)?, known })
        };
        self.write(false, work, done);
    }

    /// Makes a batch durable; `LeaseLost` if the thread has another owner now.
    pub fn append(
        &self,
        claim: &Claim,
        batch: Arc<Batch>,
        barrier: bool,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let (claim, leases) = (claim.clone(), self.leases.clone());
        let work = move |db: &Connection| {
            leases.extend(db, &claim)?;
            history::drop_unreadable(db, &claim.thread_id, batch.first_seq)?;
            let mut insert = db
                .prepare_cached("INSERT INTO journal (thread_id, first_seq, count, frames) VALUES (?1, ?2, ?3, ?4)")
                .map_err(store_error)?;
            insert
                .execute(params![claim.thread_id, signed(batch.first_seq), signed(batch.count), batch.bytes])
                .map_err(store_error)?;
            Ok(())
        };
        self.write(barrier, work, done);
    }

    /// Extends leases; gives, a claim each, whether it is still held.
    pub fn renew(&self, claims: Vec<Claim>, done: impl FnOnce(Result<Vec<bool>>) + Send + 'static) {
        let leases = self.leases.clone();
        let work = move |db: &Connection| {
            let held = |claim: &Claim| match leases.extend(db, claim) {
                Ok(()) => Ok(true),
                Err(Error::LeaseLost(_)) => Ok(false),
                Err(error) => Err(error),
            };
            claims.iter().map(held).collect()
        };
        self.write(false, work, done);
    }

    /// Ends the run: its row (if `stored`; a run that recorded nothing of its own leaves none), its ids and the end of
    /// its lease in one transaction; `LeaseLost` if it is not held. Written out on the store's thread.
    pub fn finish(
        &self,
        claim: &Claim,
        recorder: Arc<Mutex<Recorder>>,
        stored: bool,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let claim = claim.clone();
        let resume_ms = self.resume_ms;
        let work = move |db: &Connection| {
            let recorder = recorder.lock().expect("never poisoned");
            finish::finish_run(db, &claim, &recorder, stored, resume_ms)
        };
        self.write(true, work, done);
    }

    /// Asks the thread's run to stop, wherever it lives; with `run_id` only that one. False if there is none.
    pub fn request_stop(
        &self,
        thread_id: String,
        run_id: Option<String>,
        done: impl FnOnce(Result<bool>) + Send + 'static,
    ) {
        let work = move |db: &Connection| {
            let sql = "UPDATE live_runs SET stop_requested = 1
                       WHERE thread_id = ?1 AND run_id = coalesce(?2, run_id) AND stop_requested = 0";
            db.execute(sql, params![thread_id, run_id]).map(|changed| changed > 0).map_err(store_error)
        };
        self.write(false, work, done);
    }

    /// The live runs, of all owners or of one thread.
    pub fn live(&self, thread_id: Option<String>, done: impl FnOnce(Result<Vec<LiveRun>>) + Send + 'static) {
        self.read(move |db| live_runs(db, thread_id.as_deref(), |_, _, _| true), done);
    }

    /// The fencing tokens of the live runs that are asked to stop.
    pub fn stops(&self, done: impl FnOnce(Result<Vec<i64>>) + Send + 'static) {
        let work = |db: &Connection| {
            let mut statement = db.prepare_cached(
                "SELECT token FROM live_runs WHERE stop_requested <> 0 AND typeof(token) = 'integer'",
            )?;
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()
        };
        self.read(move |db| work(db).map_err(store_error), done);
    }

    /// Takes over the runs whose owners are gone or silent past their lease, each under a new token: the caller is to
    /// replay their journal, end and finish them. Also lets go of journals past their resume window.
    pub fn recover(&self, thread_id: Option<String>, done: impl FnOnce(Result<Vec<Claim>>) + Send + 'static) {
        let (writer, leases) = (Arc::downgrade(&self.writer), self.leases.clone());
        let known = leases.clone();
        let looked = move |found: Result<(bool, Option<String>)>| match (found, writer.upgrade()) {
            (Err(error), _) => done(Err(error)),
            (Ok((false, _)), _) => done(Ok(Vec::new())),
            (Ok(_), None) => done(Err(Error::StoreClosed)),
            (Ok((true, thread_id)), Some(writer)) => {
                let work = move |db: &Connection| {
                    let taken = leases.take_over(db, thread_id.as_deref())?;
                    history::drop_expired_journal(db).map_err(store_error)?;
                    Ok(taken)
                };
                writer.submit(false, work, done);
            }
        };
        let look = move |db: &Connection| {
            let dead = !known.dead(db, thread_id.as_deref())?.is_empty();
            Ok((dead || history::expired_journal(db).map_err(store_error)?.is_some(), thread_id))
        };
        self.read(look, looked);
    }
}

/// Sequence numbers as SQLite's integers; a cursor past them is refused when it is read.
#[allow(clippy::cast_possible_wrap, reason = "cursors are checked to be under 2^63")]
pub(super) fn signed(number: u64) -> i64 {
    number as i64
}

#[allow(clippy::cast_sign_loss, reason = "only numbers written by `signed` are read")]
pub(super) fn unsigned(number: i64) -> u64 {
    number as u64
}

pub(super) fn exists(db: &Connection, sql: &str, value: impl rusqlite::ToSql) -> Result<bool> {
    db.prepare_cached(sql).and_then(|mut statement| statement.exists([value])).map_err(store_error)
}

/// `ThreadAlreadyRunning` for a thread with a live run, here or of a TypeScript runner.
pub(super) fn refuse_running(db: &Connection, thread_id: &str) -> Result<()> {
    let running = exists(db, "SELECT 1 FROM live_runs WHERE thread_id = ?1", thread_id)?
        || exists(db, "SELECT 1 FROM run_state WHERE thread_id = ?1 AND is_running <> 0", thread_id)?;
    if running { Err(Error::ThreadAlreadyRunning) } else { Ok(()) }
}

fn known_ids(db: &Connection, thread_id: &str, ids: Vec<String>) -> Result<Vec<String>> {
    let mut known = Vec::new();
    let sql = "SELECT 1 FROM message_ids WHERE thread_id = ?1 AND message_id = ?2";
    let mut statement = db.prepare_cached(sql).map_err(store_error)?;
    for id in ids {
        if statement.exists(params![thread_id, id]).map_err(store_error)? {
            known.push(id);
        }
    }
    Ok(known)
}

fn insert_claim(
    db: &Connection,
    thread_id: String,
    run_id: String,
    input: String,
    agent_id: Option<String>,
    leases: &Leases,
) -> rusqlite::Result<Claim> {
    let (owner, until) = leases.held();
    let token = next_token(db)?;
    let first_seq = history::head_seq(db, &thread_id)? + 1;
    db.prepare_cached(
        "INSERT INTO live_runs (thread_id, run_id, token, owner, expires_at, input, agent_id, first_seq)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![thread_id, run_id, token, owner, until, input, agent_id, first_seq])?;
    set_run_state(db, &thread_id, Some(&run_id), now_ms())?;
    Ok(Claim { thread_id, run_id, token, first_seq: unsigned(first_seq), input, agent_id })
}

pub(super) fn next_token(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("UPDATE counters SET value = value + 1 WHERE name = 'token' RETURNING value")?
        .query_row([], |row| row.get(0))
}

/// The mark by which a TypeScript runner on the same file knows the thread is taken.
pub(super) fn set_run_state(db: &Connection, thread_id: &str, run_id: Option<&str>, now: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO run_state (thread_id, is_running, current_run_id, updated_at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![thread_id, run_id.is_some(), run_id, now])?;
    Ok(())
}

impl SqliteStore {
    /// The frames of the thread's journal behind `after`, about `limit` bytes of them; with `until`, the last sequence
    /// number of a run, none of later runs.
    pub fn journal(
        &self,
        thread_id: String,
        after: u64,
        until: Option<u64>,
        limit: usize,
        done: impl FnOnce(Result<JournalPage>) + Send + 'static,
    ) {
        self.read(move |db| history::journal(db, &thread_id, after, until, limit), done);
    }
}

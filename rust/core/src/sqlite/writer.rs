//! The one writer of a file, with its group commit: jobs that wait at the same time share a transaction.
use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::cleanup::{Cleanup, Removals, Step};
use super::database::{CHECK_INTERVAL, Database};
use super::lease::Leases;
use super::log_mark;
use super::reserve::Reserve;
use super::sql::store_error;
use super::types::Durability;
use super::wal_rewrite;
use super::worker::{Done, Job, Worker};
use crate::error::{Error, Result};

/// The largest number of jobs that share a transaction.
const BATCH_JOBS: usize = 512;
/// The number of the log's pages from which on they are copied into the file, if no reader needs them.
const CHECKPOINT_PAGES: u64 = 4000;
const CLEANUP_CHECKPOINT_PAGES: u64 = 500;
const LOW_CHECKPOINT_PAGES: u64 = 50;
/// The number of pages from which on the log is emptied: 32 MiB.
const LONG_WAL_PAGES: u64 = 8000;
/// How long closing the file waits for other writers.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// The longest time between syncs with `balanced`: a power cut loses at most this much of a live run.
const SYNC_INTERVAL: Duration = Duration::from_millis(250);

/// Start the writer on a database. It also extends the leases that are held, and cleans up after removals.
pub fn start_writer(
    database: Database,
    durability: Durability,
    leases: Arc<Leases>,
    removals: Arc<Removals>,
) -> Worker {
    Worker::start("agentrunner-writer", move |jobs| Writer::new(database, durability, leases, removals).run(&jobs))
}

struct Writer {
    database: Database,
    /// When it was last checked that the database's files are in place.
    last_file_check: Instant,
    durability: Durability,
    leases: Arc<Leases>,
    removals: Arc<Removals>,
    cleanup: Cleanup,
    reserve: Reserve,
    /// When the held leases were last looked at.
    last_renewal_check: Instant,
    /// Whether the connection syncs on each commit (`PRAGMA synchronous = FULL`).
    syncs_commits: bool,
    last_sync: Instant,
    /// Whether there are commits since the last sync.
    has_unsynced: bool,
    /// Whether a sync has failed, and the log was not written again since.
    has_failed_sync: Cell<bool>,
    /// Whether the file says that it needs its log.
    is_marked: bool,
}

impl Writer {
    fn new(database: Database, durability: Durability, leases: Arc<Leases>, removals: Arc<Removals>) -> Self {
        let reserve = Reserve::new(database.path());
        Self {
            database,
            last_file_check: Instant::now(),
            durability,
            leases,
            removals,
            cleanup: Cleanup::new(),
            reserve,
            last_renewal_check: Instant::now(),
            syncs_commits: false,
            last_sync: Instant::now(),
            has_unsynced: false,
            has_failed_sync: Cell::new(false),
            is_marked: false,
        }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        while let Some(first) = self.next(jobs) {
            let mut batch = vec![first];
            // Jobs that arrived during the last commit share the next one: one sync serves all of them.
            while batch.len() < BATCH_JOBS
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            self.commit(batch);
            self.checkpoint(CHECKPOINT_PAGES);
            self.clean_up();
        }
        self.close();
    }

    /// Wait for the next job. Meanwhile, check the files, extend leases, sync commits that are not on the disk and clean
    /// up after removals, each when it is due.
    fn next(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        loop {
            if self.last_file_check.elapsed() >= CHECK_INTERVAL {
                let _ = self.prepare();
            }
            let check_wait = CHECK_INTERVAL.saturating_sub(self.last_file_check.elapsed());
            let renewal_wait = self.renew_leases();
            let sync_wait = self.has_unsynced.then(|| SYNC_INTERVAL.saturating_sub(self.last_sync.elapsed()));
            let waits = renewal_wait.into_iter().chain(sync_wait).chain(self.cleanup.wait());
            let wait = waits.fold(check_wait, Duration::min);
            match jobs.recv_timeout(wait) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Timeout) if sync_wait.is_some_and(|sync_wait| sync_wait <= wait) => self.sync(),
                Err(RecvTimeoutError::Timeout) => self.clean_up(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Extend the held leases that are due, and return how long none of them needs this again; `None` if none is held.
    ///
    /// Here and not on the event loop, which an agent can block for longer than a lease lasts.
    fn renew_leases(&mut self) -> Option<Duration> {
        let interval = Duration::from_millis(self.leases.renewal_check_ms()?.unsigned_abs());
        if let Some(wait) = interval.checked_sub(self.last_renewal_check.elapsed()) {
            return Some(wait);
        }
        self.last_renewal_check = Instant::now();
        let due = self.leases.list_due();
        if !due.is_empty() {
            let leases = self.leases.clone();
            let work = move |connection: Result<&Connection>| -> (bool, Done) {
                let outcome = connection.and_then(|db| leases.extend_held(db, &due));
                // After a failure, such as a full disk, the next check tries again.
                (outcome.is_ok(), Box::new(|_| {}))
            };
            self.commit(vec![Job { work: Box::new(work), barrier: false }]);
        }
        Some(interval)
    }

    /// Check that the database's files are in place, and connect again if they are back.
    fn prepare(&mut self) -> Result<()> {
        self.last_file_check = Instant::now();
        self.reserve.check();
        if self.database.check_or_reconnect()? {
            // A new connection has `synchronous = NORMAL`.
            self.syncs_commits = false;
        }
        Ok(())
    }

    fn sync(&mut self) {
        let synced = self.prepare().and_then(|()| self.repair_failed_sync()).and_then(|()| self.commit_counter());
        if let Err(error) = synced {
            let _ = self.execute("ROLLBACK");
            self.reconnect(&error);
        } else {
            self.has_unsynced = false;
        }
        // Also after a failure, or the writer would try again without a pause.
        self.last_sync = Instant::now();
    }

    /// Commit a counter's own value. SQLite does not sync a commit that writes nothing.
    fn commit_counter(&mut self) -> Result<()> {
        self.set_sync(true)?;
        self.execute("BEGIN IMMEDIATE")?;
        self.execute("UPDATE counters SET value = value WHERE name = 'token'")?;
        self.execute("COMMIT")
    }

    /// Write the log again after a failed sync. Until then nothing may be committed on top of pages that can be lost.
    fn repair_failed_sync(&self) -> Result<()> {
        if self.has_failed_sync.get() {
            wal_rewrite::rewrite_wal(self.database.connection()?, self.database.log()?)?;
            self.has_failed_sync.set(false);
        }
        Ok(())
    }

    fn checkpoint(&mut self, due_pages: u64) {
        if !self.has_failed_sync.get() {
            // Another try follows the next commit, so only a failed sync has to be remembered.
            let _ = self.checkpoint_if_due(due_pages);
        }
    }

    fn checkpoint_if_due(&mut self, due_pages: u64) -> Result<()> {
        let connection = self.database.connection()?;
        let (pages, checkpointed) = wal_rewrite::wal_pages(connection).map_err(|error| self.note_error(error))?;
        if pages >= LONG_WAL_PAGES && self.cleanup.may_empty_log() {
            let emptied = self.cleanup.empty_log(connection);
            emptied.map_err(|error| self.note_error(error))?;
            return self.checkpoint_with_mark();
        }
        let due_pages = if self.reserve.is_low() { LOW_CHECKPOINT_PAGES.min(due_pages) } else { due_pages };
        if pages.saturating_sub(checkpointed) >= due_pages {
            self.checkpoint_with_mark()?;
        }
        Ok(())
    }

    /// Copy the log into the file, if no reader needs it, and mark there that the log goes on.
    fn checkpoint_with_mark(&mut self) -> Result<()> {
        self.is_marked = false;
        self.set_sync(false)?;
        let outcome = log_mark::checkpoint(self.database.connection()?);
        outcome.map_err(|error| self.note_error(error))?;
        self.is_marked = true;
        Ok(())
    }

    /// Do the next step of a cleanup, if it is due.
    fn clean_up(&mut self) {
        if self.cleanup.wait() != Some(Duration::ZERO) {
            return;
        }
        // Set before the step, so that one that fails is not tried again at once.
        self.cleanup.postpone();
        // Nothing of this has to survive a power cut.
        if self.has_failed_sync.get() || self.prepare().is_err() || self.set_sync(false).is_err() {
            return;
        }
        let Ok(connection) = self.database.connection() else { return };
        match self.cleanup.step(connection) {
            // Often, so that each is short.
            Ok(Step::GaveBack) => self.checkpoint(CLEANUP_CHECKPOINT_PAGES),
            Ok(Step::EmptiedLog) => drop(self.checkpoint_with_mark()),
            Ok(Step::Waits) => {}
            Err(error) => {
                let error = self.note_error(error);
                self.reconnect(&error);
            }
        }
    }

    /// Free space on a full disk: the reserve, and, if the file can grow by what is in the log, that of the log.
    fn make_room(&mut self) {
        self.reserve.release();
        if !self.has_failed_sync.get()
            && let Ok(connection) = self.database.connection()
        {
            let emptied = self.cleanup.empty_log(connection);
            if let Err(error) = emptied {
                self.note_error(error);
            }
            self.is_marked = false;
        }
    }

    /// Copy the log into the file, because one file is easier to back up than a file and its log.
    ///
    /// This does not wait for readers of other processes, because no process could write meanwhile.
    fn close(mut self) {
        if self.database.check().is_err() || self.repair_failed_sync().is_err() {
            return;
        }
        let Ok(connection) = self.database.connection() else { return };
        self.reserve.release();
        self.cleanup.finish(connection);
        let _ = connection.busy_timeout(CLOSE_WAIT);
        if self.checkpoint_with_mark().is_ok()
            && let Ok(connection) = self.database.connection()
        {
            // Nothing failed, so SQLite may copy the rest and remove the log, if this is the last connection.
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }

    fn commit(&mut self, batch: Vec<Job>) {
        let is_synced = self.durability == Durability::Strict
            || batch.iter().any(|job| job.barrier)
            || self.last_sync.elapsed() >= SYNC_INTERVAL;
        if self.removals.take_needs_room() {
            self.make_room();
        }
        if !self.is_marked && !self.has_failed_sync.get() && self.prepare().is_ok() {
            // If this fails, a copy without the log is only not recognized.
            let _ = self.checkpoint_with_mark();
        }
        // The order matters: no transaction may begin while pages under it can still be lost.
        let transaction = self
            .prepare()
            .and_then(|()| self.repair_failed_sync())
            .and_then(|()| self.set_sync(is_synced))
            .and_then(|()| self.execute("BEGIN IMMEDIATE"));
        if let Err(error) = transaction {
            for job in batch {
                job.refuse(&error);
            }
            self.reconnect(&error);
            return;
        }
        let mut dones = Vec::with_capacity(batch.len());
        for job in batch {
            dones.push(self.run_job(job));
        }
        // Checked again before the callers hear of it: what is in a file that was removed meanwhile is lost.
        let outcome = self.execute("COMMIT").and_then(|()| self.database.check());
        if let Err(error) = &outcome {
            let _ = self.execute("ROLLBACK");
            self.reconnect(error);
        } else if is_synced {
            self.last_sync = Instant::now();
            self.has_unsynced = false;
        } else {
            self.has_unsynced = true;
        }
        self.cleanup.begin(&self.removals);
        // Callers hear the outcome only after the commit, because durable comes before delivered.
        for done in dones {
            done(outcome.clone());
        }
    }

    /// Run a job in a savepoint, so that its failure does not undo the other jobs of the batch.
    fn run_job(&self, job: Job) -> Done {
        let savepoint = self.execute("SAVEPOINT job");
        let is_refused = savepoint.is_err();
        let (keep, done) = (job.work)(savepoint.and_then(|()| self.database.connection()));
        // Without a savepoint the job has done nothing, so there is nothing to undo or release.
        if is_refused {
            return done;
        }
        let end = if keep { Ok(()) } else { self.execute("ROLLBACK TO job") };
        match end.and_then(|()| self.execute("RELEASE job")) {
            Ok(()) => done,
            Err(error) => Box::new(move |_| done(Err(error))),
        }
    }

    fn execute(&self, sql: &str) -> Result<()> {
        let outcome = self.database.connection()?.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        outcome.map(|_| ()).map_err(|error| self.note_error(error))
    }

    /// Convert an error of SQLite, and remember whether a sync failed.
    fn note_error(&self, error: rusqlite::Error) -> Error {
        self.has_failed_sync.set(self.has_failed_sync.get() || wal_rewrite::is_failed_sync(&error));
        store_error(error)
    }

    fn set_sync(&mut self, syncs_commits: bool) -> Result<()> {
        if syncs_commits != self.syncs_commits {
            self.database
                .connection()?
                .pragma_update(None, "synchronous", if syncs_commits { "FULL" } else { "NORMAL" })
                .map_err(store_error)?;
            self.syncs_commits = syncs_commits;
        }
        Ok(())
    }

    /// Open the connection again, because after a failed write or sync its cached pages cannot be trusted.
    fn reconnect(&mut self, error: &Error) {
        if matches!(error, Error::Store(_)) && self.database.reconnect() {
            // A new connection has `synchronous = NORMAL`.
            self.syncs_commits = false;
        }
    }
}

//! One open SQLite file: its reader, its one writer, and its leases.
//!
//! The operations are in the modules above this one: `runs`, `journal`, `history`, `threads`, `records`, `copy`,
//! `prune` and `inspect`.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::cleanup::{Removals, Removed};
use super::database::Database;
use super::index::{has_unindexed, index_new_rows};
use super::lease::Leases;
use super::log_mark;
use super::read_only::ReadOnlyDatabase;
use super::sql::{now_ms, store_error};
use super::types::Durability;
use super::worker::Worker;
use super::writer::start_writer;
use super::{deadlines, schema, wal_rewrite};
use crate::error::{Error, Result};

const FREE_STUCK: &str = "UPDATE run_state SET is_running = 0, current_run_id = NULL, updated_at = ?1
    WHERE is_running <> 0 AND thread_id NOT IN (SELECT thread_id FROM live_runs)";

/// One SQLite file.
///
/// Each operation returns at once; its last argument is called with the result, on the store's own thread.
#[derive(Debug)]
pub struct SqliteStore {
    /// Declared before the writer, because it is dropped first and the writer then closes the file in order.
    pub(super) reader: Worker,
    /// `None` in a store that only reads.
    writer: Option<Arc<Worker>>,
    pub(super) leases: Arc<Leases>,
    pub(super) removals: Arc<Removals>,
    /// Whether there was a log before the file was opened.
    pub(super) had_log: bool,
    missing_log: Option<i64>,
    path: PathBuf,
    pid: u32,
    pub(super) resume_ms: i64,
}

/// Run work that removes something in a writer, again with more room if the disk is full.
pub(super) fn submit_removal<T: Send + 'static>(
    writer: &Arc<Worker>,
    removals: &Arc<Removals>,
    work: impl Fn(&Connection) -> Result<T> + Clone + Send + 'static,
    done: impl FnOnce(Result<T>) + Send + 'static,
) {
    let (weak, removals) = (Arc::downgrade(writer), removals.clone());
    let noted = removals.clone();
    let work = move |db: &Connection| work(db).inspect(|_| noted.note(Removed::Runs));
    let again = work.clone();
    let finish = move |result: Result<T>| {
        // Only where it is used: otherwise the store could be closed meanwhile, and its writer end in its own thread.
        let writer = if matches!(result, Err(Error::StoreFull(_))) { weak.upgrade() } else { None };
        match writer {
            Some(writer) => {
                removals.ask_for_room();
                writer.submit(true, again, done);
            }
            None => done(result),
        }
    };
    writer.submit(true, work, finish);
}

impl SqliteStore {
    /// Open or create the file.
    ///
    /// A silent owner keeps its threads for `lease_ms`. A finished run's raw frames are kept for `resume_ms`. With
    /// `free_stuck`, threads that a TypeScript runner left marked as running are freed, because it keeps no lease that
    /// could tell whether it is still alive.
    pub fn open(path: &Path, durability: Durability, lease_ms: i64, resume_ms: i64, free_stuck: bool) -> Result<Self> {
        let had_log = log_mark::has_log(path);
        let database = Database::open(path)?;
        let connection = database.connection()?;
        // A process that died may have left pages from a failed sync, so this comes before the first commit.
        wal_rewrite::rewrite_wal(connection, database.log()?)?;
        schema::migrate(connection, path)?;
        deadlines::adopt_boot(connection, resume_ms)?;
        wal_rewrite::sync_folder(path)?;
        if !had_log {
            log_mark::note_missing(connection)?;
        }
        let missing_log = log_mark::find_missing(connection, true)?;
        if free_stuck {
            connection.execute(FREE_STUCK, [now_ms()]).map_err(store_error)?;
        }
        let reader = database.open_second()?;
        let leases = Arc::new(Leases::new(path, lease_ms));
        leases.remove_stale_locks(connection)?;
        let removals = Arc::<Removals>::default();
        let store = Self {
            writer: Some(Arc::new(start_writer(database, durability, leases.clone(), removals.clone()))),
            reader: Worker::reader(reader),
            leases,
            removals,
            had_log,
            missing_log,
            path: path.into(),
            pid: std::process::id(),
            resume_ms,
        };
        Ok(store)
    }

    /// Open a file only to read it: nothing is created, brought up to date, locked for writing or changed.
    ///
    /// Operations that write fail with `StoreReadOnly`. A file of an older version, or with rows that another writer
    /// added and nothing has indexed, is read from a temporary copy.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let had_log = log_mark::has_log(path);
        Ok(Self {
            writer: None,
            reader: Worker::read_only(ReadOnlyDatabase::open(path)?),
            leases: Arc::new(Leases::read_only(path)),
            removals: Arc::default(),
            had_log,
            missing_log: None,
            path: path.into(),
            pid: std::process::id(),
            resume_ms: 0,
        })
    }

    /// Return the version of the bundled SQLite.
    pub fn sqlite_version() -> &'static str {
        rusqlite::version()
    }

    /// Return the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Return whether the store was opened only to read it.
    pub fn is_read_only(&self) -> bool {
        self.writer.is_none()
    }

    /// Return the time of the last checkpoint before the file was copied without its log, in milliseconds since 1970.
    ///
    /// What was written after that time is missing. `None` if the file was not copied so.
    pub fn missing_log(&self) -> Option<i64> {
        self.missing_log
    }

    /// Stop extending the lease of a claim that the caller no longer uses.
    pub fn release(&self, token: i64) {
        self.leases.release(token);
    }

    /// Refuse to be used in a forked child process, because SQLite's locks do not survive a fork.
    pub fn check_fork(&self) -> Result<()> {
        if self.pid == std::process::id() { Ok(()) } else { Err(Error::StoreForked) }
    }

    /// Return the writer. Error: `StoreReadOnly` if the store was opened only to read it.
    pub(super) fn writer(&self) -> Result<&Arc<Worker>> {
        self.writer.as_ref().ok_or_else(|| {
            Error::StoreReadOnly(format!("{} was opened with read_only, so nothing is written", self.path.display()))
        })
    }

    /// Run work in the writer's next transaction.
    pub(super) fn write<T: Send + 'static>(
        &self,
        barrier: bool,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        match self.check_fork().and_then(|()| self.writer()) {
            Ok(writer) => writer.submit(barrier, work, done),
            Err(error) => done(Err(error)),
        }
    }

    /// Run work that removes something, and have the writer clean up after it.
    pub(super) fn remove<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T> + Clone + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        match self.check_fork().and_then(|()| self.writer()) {
            Ok(writer) => submit_removal(writer, &self.removals, work, done),
            Err(error) => done(Err(error)),
        }
    }

    /// Run work on the reader's connection.
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

    /// Read once the rows that another writer added are in the index.
    pub(super) fn read_indexed<T: Send + 'static, W: FnOnce(&Connection) -> Result<T> + Send + 'static>(
        &self,
        work: W,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let writer = self.writer.as_ref().map(Arc::downgrade);
        let try_read = move |db: &Connection| {
            if has_unindexed(db).map_err(store_error)? { Ok(Err(work)) } else { work(db).map(Ok) }
        };
        let finish =
            move |result: Result<std::result::Result<T, W>>| match (result, writer.and_then(|writer| writer.upgrade()))
            {
                (Ok(Ok(value)), _) => done(Ok(value)),
                (Err(error), _) => done(Err(error)),
                (Ok(Err(_)), None) => done(Err(Error::StoreClosed)),
                // The writer does the reading too: it sees what it has just indexed, and the reader may not yet.
                (Ok(Err(work)), Some(writer)) => {
                    writer.submit(false, move |db: &Connection| index_new_rows(db).and_then(|()| work(db)), done);
                }
            };
        self.read(try_read, finish);
    }
}

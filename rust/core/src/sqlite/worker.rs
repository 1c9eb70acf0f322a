//! Threads that own a connection: the one writer with its group commit, and the reader.
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::schema::{self, store_error};
use super::store::Durability;
use super::wal_rewrite;
use crate::error::{Error, Result};

/// How many jobs share a transaction at most.
const GROUP: usize = 512;
/// How many pages of the log wait to be brought into the file at most, while nobody reads them.
const CHECKPOINT_PAGES: u64 = 4000;
/// Pages of the log past which it is begun anew: 32 MiB.
const LONG_WAL_PAGES: u64 = 8000;
/// How long everybody waits for that at most, and how long after a try that was in vain there is another.
const WAIT_FOR_READERS: Duration = Duration::from_millis(100);
const ANEW_AGAIN: Duration = Duration::from_secs(1);
const ANEW_AGAIN_AT_LAST: Duration = Duration::from_secs(30);
/// With `balanced`, a commit reaches the disk at least this often.
const FULL_EVERY: Duration = Duration::from_millis(250);

/// Runs inside the transaction, or is told why there is none; what it returns is called with the outcome.
type Work = Box<dyn FnOnce(Result<&Connection>) -> (bool, Done) + Send>;
type Done = Box<dyn FnOnce(Result<()>) + Send>;

struct Job {
    work: Work,
    /// Must be on the disk before it is told done.
    barrier: bool,
}

/// A thread with a connection and a queue of jobs.
#[derive(Debug)]
pub struct Worker {
    queue: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// The process the thread lives in: a forked child has the queue, but nobody who reads it.
    pid: u32,
}

impl Worker {
    /// Starts the writer on a connection. Jobs that have arrived share a transaction.
    pub fn writer(connection: Connection, path: PathBuf, durability: Durability) -> Self {
        Self::start("agentrunner-writer", move |jobs| Writer::new(connection, path, durability).run(&jobs))
    }

    /// Starts the reader on a connection.
    pub fn reader(connection: Connection) -> Self {
        Self::start("agentrunner-reader", move |jobs: Receiver<Job>| {
            for job in jobs {
                let (_, done) = (job.work)(Ok(&connection));
                done(Ok(()));
            }
        })
    }

    fn start(name: &str, body: impl FnOnce(Receiver<Job>) + Send + 'static) -> Self {
        let (queue, jobs) = channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || body(jobs));
        let thread = thread.expect("a thread can be started");
        Self { queue: Some(queue), thread: Some(thread), pid: std::process::id() }
    }

    /// Queues a job; `done` gets its result after the commit. A job that fails takes back only its own writes.
    pub fn submit<T: Send + 'static>(
        &self,
        barrier: bool,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let work: Work = Box::new(move |connection| {
            let result = connection.and_then(work);
            let keep = result.is_ok();
            (keep, Box::new(move |committed: Result<()>| done(committed.and(result))))
        });
        let queue = self.queue.as_ref().expect("open until dropped");
        if let Err(refused) = queue.send(Job { work, barrier }) {
            refuse(refused.0, &Error::Store("the store's thread has stopped; open the store again".into()));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            // The thread did not come along: neither can it be waited for nor what it held at that moment be let go.
            std::mem::forget((self.queue.take(), self.thread.take()));
            return;
        }
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    connection: Connection,
    path: PathBuf,
    durability: Durability,
    full: bool,
    last_full: Instant,
    /// Whether there are commits since.
    unsynced: bool,
    /// Whether a sync has failed, and the log was not written again since.
    doubtful: Cell<bool>,
    /// When the log may be tried to begin anew, and how long after that again, if a reader is in the way.
    next_anew: Instant,
    anew_again: Duration,
}

impl Writer {
    fn new(connection: Connection, path: PathBuf, durability: Durability) -> Self {
        Self {
            connection,
            path,
            durability,
            full: false,
            last_full: Instant::now(),
            unsynced: false,
            doubtful: Cell::new(false),
            next_anew: Instant::now(),
            anew_again: ANEW_AGAIN,
        }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        while let Some(first) = self.next(jobs) {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(job) = jobs.try_recv()
            {
                group.push(job);
            }
            self.commit(group);
            self.checkpoint();
        }
        self.close();
    }

    /// The next job. While what was committed last may not be on the disk yet, it is brought there in time.
    fn next(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        while self.unsynced {
            match jobs.recv_timeout(FULL_EVERY.saturating_sub(self.last_full.elapsed())) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        jobs.recv().ok()
    }

    fn sync(&mut self) {
        if let Err(error) = self.resynced().and_then(|()| self.commit_nothing()) {
            let _ = self.execute("ROLLBACK");
            self.mend(&error);
        } else {
            self.unsynced = false;
        }
        self.last_full = Instant::now();
    }

    /// A commit that writes nothing does not reach the disk: this one writes what is there already.
    fn commit_nothing(&mut self) -> Result<()> {
        self.synchronous(true)?;
        self.execute("BEGIN IMMEDIATE")?;
        self.execute("UPDATE counters SET value = value WHERE name = 'token'")?;
        self.execute("COMMIT")
    }

    /// Makes good a sync that failed: until that is done nothing is committed on top of what may not be on the disk.
    fn resynced(&self) -> Result<()> {
        if self.doubtful.get() {
            wal_rewrite::rewrite_wal(&self.connection, &self.path)?;
            self.doubtful.set(false);
        }
        Ok(())
    }

    fn checkpoint(&mut self) {
        if !self.doubtful.get()
            && let Err(error) = self.look_at_log()
        {
            self.noted(error);
        }
    }

    fn look_at_log(&mut self) -> rusqlite::Result<()> {
        let (pages, in_file) = wal_rewrite::wal_pages(&self.connection)?;
        if pages >= LONG_WAL_PAGES && Instant::now() >= self.next_anew {
            return self.begin_log_anew();
        }
        if pages.saturating_sub(in_file) >= CHECKPOINT_PAGES {
            self.connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Where others write or read all the time there is never a moment when the log may begin anew by itself, and it
    /// would grow without end: they are made to wait for one, but not for a reader that stays.
    fn begin_log_anew(&mut self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(WAIT_FOR_READERS)?;
        let blocked = self
            .connection
            .prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")
            .and_then(|mut checkpoint| checkpoint.query_row([], |row| row.get::<_, bool>(0)));
        self.connection.busy_timeout(schema::BUSY_TIMEOUT)?;
        if blocked? {
            self.next_anew = Instant::now() + self.anew_again;
            self.anew_again = (self.anew_again * 2).min(ANEW_AGAIN_AT_LAST);
        } else {
            self.anew_again = ANEW_AGAIN;
        }
        Ok(())
    }

    /// What is in the file alone is easier to copy than a file and its log. Not waited for: while it waits for a reader
    /// of another process, nobody can write.
    fn close(self) {
        let _ = self.connection.busy_timeout(Duration::ZERO);
        if self.resynced().is_ok() && self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").is_ok() {
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        let full = self.durability == Durability::Strict
            || group.iter().any(|job| job.barrier)
            || self.last_full.elapsed() >= FULL_EVERY;
        let begun =
            self.resynced().and_then(|()| self.synchronous(full)).and_then(|()| self.execute("BEGIN IMMEDIATE"));
        if let Err(error) = begun {
            for job in group {
                refuse(job, &error);
            }
            self.mend(&error);
            return;
        }
        let mut dones = Vec::with_capacity(group.len());
        for job in group {
            dones.push(self.run_one(job));
        }
        let outcome = self.execute("COMMIT");
        if let Err(error) = &outcome {
            let _ = self.execute("ROLLBACK");
            self.mend(error);
        } else if full {
            self.last_full = Instant::now();
            self.unsynced = false;
        } else {
            self.unsynced = true;
        }
        for done in dones {
            done(outcome.clone());
        }
    }

    fn run_one(&self, job: Job) -> Done {
        let begun = self.execute("SAVEPOINT job");
        let refused = begun.is_err();
        let (keep, done) = (job.work)(begun.map(|()| &self.connection));
        if refused {
            return done;
        }
        let end = if keep { Ok(()) } else { self.execute("ROLLBACK TO job") };
        match end.and_then(|()| self.execute("RELEASE job")) {
            Ok(()) => done,
            Err(error) => Box::new(move |_| done(Err(error))),
        }
    }

    fn execute(&self, sql: &str) -> Result<()> {
        let executed = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        executed.map(|_| ()).map_err(|error| self.noted(error))
    }

    fn noted(&self, error: rusqlite::Error) -> Error {
        self.doubtful.set(self.doubtful.get() || wal_rewrite::is_failed_sync(&error));
        store_error(error)
    }

    fn synchronous(&mut self, full: bool) -> Result<()> {
        if full != self.full {
            self.connection
                .pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })
                .map_err(store_error)?;
            self.full = full;
        }
        Ok(())
    }

    /// After a failed write or fsync what the connection holds in memory is not to be trusted.
    fn mend(&mut self, error: &Error) {
        if matches!(error, Error::Store(_))
            && let Ok(connection) = schema::connect(&self.path)
        {
            self.connection = connection;
            self.full = false;
        }
    }
}

/// Tells a job that cannot be run why.
fn refuse(job: Job, error: &Error) {
    let (_, done) = (job.work)(Err(error.clone()));
    done(Err(error.clone()));
}

//! A thread that owns a connection and works through a queue of jobs.
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::database::{CHECK_INTERVAL, Database};
use super::read_only::ReadOnlyDatabase;
use crate::error::{Error, Result};

/// Runs inside a transaction, or gets the error that there is none. Returns whether to keep its writes, and what to
/// call with the outcome of the commit.
type Work = Box<dyn FnOnce(Result<&Connection>) -> (bool, Done) + Send>;
pub(super) type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// A job in a worker's queue.
pub(super) struct Job {
    pub(super) work: Work,
    /// Whether its writes must be on the disk before its caller hears that it is done.
    pub(super) barrier: bool,
}

impl Job {
    /// Tell the job's caller why it cannot run.
    pub(super) fn refuse(self, error: &Error) {
        let (_, done) = (self.work)(Err(error.clone()));
        done(Err(error.clone()));
    }
}

/// A thread with a connection and a queue of jobs.
#[derive(Debug)]
pub struct Worker {
    queue: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// The process the thread lives in. A forked child has the queue, but no thread that reads it.
    pid: u32,
}

impl Worker {
    /// Start a worker for reading, which runs one job after another.
    pub fn reader(mut database: Database) -> Self {
        Self::start("agentrunner-reader", move |jobs: Receiver<Job>| {
            loop {
                match jobs.recv_timeout(CHECK_INTERVAL) {
                    Ok(job) => {
                        let ready = database.check_or_reconnect();
                        let (_, done) = (job.work)(ready.and_then(|_| database.connection()));
                        // What was read from files that are not in place any more is not an answer.
                        done(database.check());
                    }
                    // Also while nothing is read: a connection that stays would keep others from the new index.
                    Err(RecvTimeoutError::Timeout) => drop(database.check_or_reconnect()),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })
    }

    /// Start a worker for reading a database that is only read.
    pub fn read_only(mut database: ReadOnlyDatabase) -> Self {
        Self::start("agentrunner-reader", move |jobs: Receiver<Job>| {
            for job in jobs {
                let (_, done) = (job.work)(database.prepare());
                done(database.check());
            }
        })
    }

    pub(super) fn start(name: &str, body: impl FnOnce(Receiver<Job>) + Send + 'static) -> Self {
        let (queue, jobs) = channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || body(jobs));
        let thread = thread.expect("the system can start a thread");
        Self { queue: Some(queue), thread: Some(thread), pid: std::process::id() }
    }

    /// Queue a job; `done` gets its result after the commit. A job that fails rolls back only its own writes.
    pub fn submit<T: Send + 'static>(
        &self,
        barrier: bool,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let work: Work = Box::new(move |connection| {
            // The result is computed in the transaction, but reported only after the commit.
            let result = connection.and_then(work);
            let keep = result.is_ok();
            (keep, Box::new(move |committed: Result<()>| done(committed.and(result))))
        });
        let queue = self.queue.as_ref().expect("the queue is open until the worker is dropped");
        if let Err(refused) = queue.send(Job { work, barrier }) {
            refused.0.refuse(&Error::Store("the store's thread has stopped; open the store again".into()));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            // In a forked child the thread does not exist, and what it held at the fork cannot be released.
            std::mem::forget((self.queue.take(), self.thread.take()));
            return;
        }
        drop(self.queue.take());
        // A job's callback may hold the last reference, and a thread cannot wait for itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

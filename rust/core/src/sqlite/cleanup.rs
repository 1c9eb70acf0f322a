//! Clean up after deletions: give free pages back in small steps, then empty the log.
//!
//! Until then free pages and old frames of the log hold deleted text. Pages are not overwritten when they are freed,
//! because a long thread would keep the writer busy for seconds.
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::sql::BUSY_TIMEOUT;
use super::wal_rewrite::wal_pages;

/// How long a step may take, because all writers wait for it. The number of its pages is adapted to that.
const STEP_TIME: Duration = Duration::from_millis(4);
const STEP_PAUSE: Duration = Duration::from_millis(6);
/// The pause before the next step if another process is writing.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
const FIRST_STEP_PAGES: u32 = 32;
const MAX_STEP_PAGES: u32 = 2048;
/// How long after a removal the cleanup begins, so that one serves many removals.
const THREAD_DELAY: Duration = Duration::from_millis(50);
const RECORD_DELAY: Duration = Duration::from_secs(10);
/// How long after the file was opened it is cleaned of what an earlier process left.
const OPEN_DELAY: Duration = Duration::from_secs(1);
/// How long closing the file may take for this.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// How long emptying the log waits for readers, how long after it there is another, and the pauses while a reader
/// is in the way.
const EMPTY_WAIT: Duration = Duration::from_millis(100);
const EMPTY_INTERVAL: Duration = Duration::from_secs(1);
const EMPTY_RETRY_MAX: Duration = Duration::from_secs(30);

/// The kinds of rows that the current transaction has removed.
#[derive(Debug, Default)]
pub struct Removals {
    removed: AtomicU8,
    needs_room: AtomicBool,
}

/// A kind of rows that were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Removed {
    Records = 1,
    Runs = 2,
}

impl Removals {
    /// Note a removal.
    pub fn note(&self, removed: Removed) {
        self.removed.fetch_max(removed as u8, Ordering::Relaxed);
    }

    /// Ask the writer to make room before the next transaction, because the disk was full.
    pub fn ask_for_room(&self) {
        self.needs_room.store(true, Ordering::Relaxed);
    }

    /// Return whether room was asked for since the last call.
    pub fn take_needs_room(&self) -> bool {
        self.needs_room.swap(false, Ordering::Relaxed)
    }

    fn take(&self) -> Option<Duration> {
        match self.removed.swap(0, Ordering::Relaxed) {
            0 => None,
            removed if removed == Removed::Records as u8 => Some(RECORD_DELAY),
            _ => Some(THREAD_DELAY),
        }
    }
}

/// The result of one step of the cleanup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Waits,
    GaveBack,
    EmptiedLog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    GiveBack,
    EmptyLog,
}

/// The cleanup of one file, by its writer.
#[derive(Debug)]
pub struct Cleanup {
    stage: Stage,
    /// Whether this process has removed something since the last cleanup.
    has_removed: bool,
    next_step: Instant,
    step_pages: u32,
    /// The earliest time to empty the log, and the pause after that if a reader is in the way.
    next_emptying: Instant,
    empty_retry: Duration,
}

impl Cleanup {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            stage: Stage::GiveBack,
            has_removed: false,
            next_step: now + OPEN_DELAY,
            step_pages: FIRST_STEP_PAGES,
            next_emptying: now,
            empty_retry: EMPTY_INTERVAL,
        }
    }

    /// Begin a cleanup if a transaction that was committed has removed something.
    pub fn begin(&mut self, removals: &Removals) {
        let Some(delay) = removals.take() else { return };
        let due = Instant::now() + delay;
        self.next_step = if self.stage == Stage::Idle { due } else { self.next_step.min(due) };
        self.stage = Stage::GiveBack;
        self.has_removed = true;
    }

    /// Return how long there is nothing to do; `None` for ever.
    pub fn wait(&self) -> Option<Duration> {
        let wait = || self.next_step.saturating_duration_since(Instant::now());
        (self.stage != Stage::Idle).then(wait)
    }

    /// Do nothing for a while.
    pub fn postpone(&mut self) {
        self.next_step = Instant::now() + EMPTY_INTERVAL;
    }

    /// Do the next step.
    pub fn step(&mut self, db: &Connection) -> rusqlite::Result<Step> {
        let begun = Instant::now();
        match self.stage {
            Stage::Idle => Ok(Step::Waits),
            Stage::GiveBack => {
                let free = match give_back(db, self.step_pages, Duration::ZERO) {
                    Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                        self.next_step = begun + BUSY_PAUSE;
                        return Ok(Step::Waits);
                    }
                    Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                        // What was freed may still be enough for a smaller step, or for copying the log.
                        if self.step_pages == 1 {
                            (self.stage, self.next_step) = (Stage::EmptyLog, begun);
                        }
                        self.step_pages = (self.step_pages / 8).max(1);
                        return Err(error);
                    }
                    free => free?,
                };
                if free == 0 {
                    self.stage = Stage::EmptyLog;
                    self.next_step = begun.max(self.next_emptying);
                    return Ok(Step::Waits);
                }
                let took = begun.elapsed();
                self.next_step = Instant::now() + STEP_PAUSE.max(took);
                self.step_pages = if took > STEP_TIME {
                    (self.step_pages / 2).max(1)
                } else if took < STEP_TIME / 2 {
                    (self.step_pages * 2).min(MAX_STEP_PAGES)
                } else {
                    self.step_pages
                };
                Ok(Step::GaveBack)
            }
            Stage::EmptyLog => {
                if !self.empty_log(db)? {
                    self.next_step = self.next_emptying;
                    return Ok(Step::Waits);
                }
                (self.stage, self.has_removed) = (Stage::Idle, false);
                Ok(Step::EmptiedLog)
            }
        }
    }

    /// Return free pages to the file system and empty the log, before the file is closed.
    pub fn finish(&mut self, db: &Connection) {
        let begun = Instant::now();
        while self.has_removed
            && begun.elapsed() < CLOSE_TIME
            && give_back(db, MAX_STEP_PAGES, BUSY_TIMEOUT).is_ok_and(|pages| pages > 0)
        {}
        if self.has_removed {
            let _ = empty_log(db);
        }
    }

    /// Return whether the log may be emptied now, although readers were in the way before.
    pub fn may_empty_log(&self) -> bool {
        Instant::now() >= self.next_emptying
    }

    /// Copy the log into the file and cut it to nothing. Return whether that was possible.
    ///
    /// Under constant reads and writes SQLite never finds a moment for this, and the log would grow without bound. This
    /// makes other connections wait, but does not wait for a reader that stays.
    pub fn empty_log(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        let is_emptied = empty_log(db)?;
        self.next_emptying = Instant::now() + self.empty_retry;
        self.empty_retry = if is_emptied { EMPTY_INTERVAL } else { (self.empty_retry * 2).min(EMPTY_RETRY_MAX) };
        Ok(is_emptied)
    }
}

fn empty_log(db: &Connection) -> rusqlite::Result<bool> {
    if wal_pages(db)?.0 == 0 {
        return Ok(true);
    }
    // First without keeping anybody waiting, so that there is little left to copy.
    db.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))?;
    with_timeout(db, EMPTY_WAIT, || {
        db.prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?.query_row([], |row| row.get::<_, bool>(0))
    })
    .map(|is_blocked| !is_blocked)
}

/// Move pages from the end of the file into free ones, and cut them off. Return how many pages were free before.
///
/// 0 also for a file that was made without `auto_vacuum`: it keeps its free pages.
fn give_back(db: &Connection, pages: u32, wait: Duration) -> rusqlite::Result<u32> {
    let free: u32 = db.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
    if free == 0 || !can_give_back(db)? {
        return Ok(0);
    }
    with_timeout(db, wait, || {
        // Each row is a page; a statement that is not read to its end gives back no more than the first.
        let mut statement = db.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(free)
    })
}

/// Return whether the file can give back single pages (`auto_vacuum = INCREMENTAL`).
pub fn can_give_back(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("PRAGMA auto_vacuum")?.query_row([], |row| row.get::<_, i64>(0)).map(|mode| mode == 2)
}

/// Run a statement that waits for locks as long as this.
fn with_timeout<T>(
    db: &Connection,
    timeout: Duration,
    run: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    db.busy_timeout(timeout)?;
    let outcome = run();
    // Set back before an error can return, or every later statement would give up after this short wait.
    db.busy_timeout(BUSY_TIMEOUT)?;
    outcome
}

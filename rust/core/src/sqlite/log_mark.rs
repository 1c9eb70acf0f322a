//! The mark by which a copy of the file without its log is recognized.
//!
//! `cp` of an open database leaves out the log, and SQLite opens such a copy as if nothing had been written since the
//! last checkpoint. So the file itself, at every moment at which its log may be needed, has a row that says so. A commit
//! after the checkpoint removes the row, but only in the log. So a program that reads the file with its log, as SQLite's
//! own backup does, does not see the mark, and neither does a process that opens the file after a crash. Only what another
//! program copies in the milliseconds in between is taken for a copy without a log.
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::sql::{now_ms, store_error};
use crate::error::Result;

/// The counter with the time of the last checkpoint, in milliseconds since 1970. 0: the log is not needed.
const NEEDS_LOG: &str = "log_since";
/// The counter with that time for a file whose log was missing.
const MISSING_LOG: &str = "log_lost";

/// Copy the log into the file, and mark there that the log goes on.
pub fn checkpoint(db: &Connection) -> rusqlite::Result<()> {
    // First all that there is, so that the mark is seen for a short time.
    copy_log(db)?;
    set(db, NEEDS_LOG, now_ms())?;
    let copied = copy_log(db);
    // In any case, because the mark must not stay where the log is read.
    set(db, NEEDS_LOG, 0).and(copied)
}

fn copy_log(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
}

/// Remove the mark from a copy that has all commits.
pub fn remove(db: &Connection) -> rusqlite::Result<()> {
    set(db, NEEDS_LOG, 0)
}

/// Return whether a database has a log; also one that is empty counts. Ask before it is opened.
pub fn has_log(path: &Path) -> bool {
    // SQLite puts the log beside the file that a link leads to.
    let Ok(path) = path.canonicalize() else { return false };
    let mut log = path.into_os_string();
    log.push("-wal");
    Path::new(&log).exists()
}

/// Note in a database that was opened without a log that it needs one.
pub fn note_missing(db: &Connection) -> Result<()> {
    let Some(since) = read(db, NEEDS_LOG)? else { return Ok(()) };
    let note = || -> rusqlite::Result<()> {
        let write = db.unchecked_transaction()?;
        set(&write, MISSING_LOG, since)?;
        set(&write, NEEDS_LOG, 0)?;
        write.commit()
    };
    note().map_err(store_error)
}

/// Return the time of the last checkpoint before the database lost its log, in milliseconds since 1970.
///
/// `had_log` is whether there was a log before it was opened.
pub fn find_missing(db: &Connection, had_log: bool) -> Result<Option<i64>> {
    match read(db, MISSING_LOG)? {
        None if !had_log => read(db, NEEDS_LOG),
        missing => Ok(missing),
    }
}

/// Forget that the database has lost its log.
pub fn accept_missing(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM counters WHERE name = ?1", [MISSING_LOG])?;
    Ok(())
}

fn read(db: &Connection, name: &str) -> Result<Option<i64>> {
    db.prepare_cached("SELECT value FROM counters WHERE name = ?1 AND value <> 0")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
        .map_err(store_error)
}

fn set(db: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO counters VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value")?
        .execute(params![name, value])?;
    Ok(())
}

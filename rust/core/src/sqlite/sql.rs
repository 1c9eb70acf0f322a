//! Helpers for SQL: numbers, errors, time, and statements that several operations share.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, ToSql, params};

use crate::error::{Error, Result};

/// How long a statement waits for a lock of another process.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Convert a sequence number to SQLite's integer. Cursors are parsed as numbers under 2^63, so none wraps around.
#[allow(clippy::cast_possible_wrap, reason = "cursors are checked to be under 2^63")]
pub(super) fn to_sql(number: u64) -> i64 {
    number as i64
}

/// Convert SQLite's integer back to a sequence number.
#[allow(clippy::cast_sign_loss, reason = "only numbers written by `to_sql` are read")]
pub(super) fn from_sql(number: i64) -> u64 {
    number as u64
}

/// Return milliseconds since 1970 by the system's clock, as the TypeScript runner writes them.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Convert an error of SQLite to one that tells the user what to do.
#[allow(clippy::needless_pass_by_value, reason = "it is passed to map_err everywhere")]
pub(super) fn store_error(error: rusqlite::Error) -> Error {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            Error::StoreFull(format!("{text}: free some space; everything acknowledged before is kept"))
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Error::StoreCorrupt(with_doctor(&text)),
        Some(ErrorCode::TooBig) => Error::StoreValueTooLarge(text),
        Some(ErrorCode::ReadOnly) => Error::StoreReadOnly(text),
        _ if is_unreadable(&error) => Error::StoreCorrupt(with_doctor(&text)),
        _ => Error::Store(text),
    }
}

fn with_doctor(text: &str) -> String {
    format!("{text}: run `agentrunner doctor` to see what can be read")
}

/// Return whether a row holds a value of a type that is never written there.
pub(super) fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..))
}

/// Return whether a query with one parameter has a row.
pub(super) fn exists(db: &Connection, sql: &str, value: impl ToSql) -> Result<bool> {
    db.prepare_cached(sql).and_then(|mut statement| statement.exists([value])).map_err(store_error)
}

/// Return the next fencing token.
pub(super) fn next_token(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("UPDATE counters SET value = value + 1 WHERE name = 'token' RETURNING value")?
        .query_row([], |row| row.get(0))
}

/// Return the error for a thread that does not exist, or belongs to another scope.
pub(super) fn thread_not_found(thread_id: &str) -> Error {
    Error::ThreadNotFound(format!("thread '{thread_id}' does not exist"))
}

/// Refuse a thread with a live run, whether of this package or of a TypeScript runner.
pub(super) fn refuse_running(db: &Connection, thread_id: &str) -> Result<()> {
    let is_running = exists(db, "SELECT 1 FROM live_runs WHERE thread_id = ?1", thread_id)?
        || exists(db, "SELECT 1 FROM run_state WHERE thread_id = ?1 AND is_running <> 0", thread_id)?;
    if is_running { Err(Error::ThreadAlreadyRunning) } else { Ok(()) }
}

/// Set the mark by which a TypeScript runner on the same file knows that the thread is taken.
pub(super) fn set_run_state(db: &Connection, thread_id: &str, run_id: Option<&str>, now: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO run_state (thread_id, is_running, current_run_id, updated_at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![thread_id, run_id.is_some(), run_id, now])?;
    Ok(())
}

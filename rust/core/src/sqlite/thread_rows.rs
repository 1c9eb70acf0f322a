//! The rows of threads: a new thread's, and the last sequence number of a thread.
use rusqlite::{Connection, OptionalExtension, params};

use super::sql::{next_token, now_ms};

/// Return a thread's last sequence number.
///
/// A thread whose only run left no row has no number of its own. The number of its raw frames counts as long as they are
/// kept.
pub(super) fn head_seq(db: &Connection, thread_id: &str) -> rusqlite::Result<i64> {
    db.prepare_cached(
        "SELECT coalesce((SELECT head_seq FROM threads WHERE thread_id = ?1),
           (SELECT last_seq FROM journal_expiry WHERE thread_id = ?1 ORDER BY first_seq DESC LIMIT 1), 0)",
    )?
    .query_row([thread_id], |row| row.get(0))
}

/// Create a new thread's row with the claim of its first run. Its scope is fixed from then on.
pub(super) fn create_thread(
    db: &Connection,
    thread_id: &str,
    agent_id: Option<&str>,
    scope: Option<&str>,
) -> rusqlite::Result<()> {
    let mut exists = db.prepare_cached("SELECT 1 FROM threads WHERE thread_id = ?1")?;
    if exists.exists([thread_id])? {
        return Ok(());
    }
    let head_seq = head_seq(db, thread_id)?.max(read_floor(db, thread_id)?);
    let leftover: Option<(Option<String>, i64, i64)> = db
        .prepare_cached("DELETE FROM leftovers WHERE thread_id = ?1 RETURNING scope, incarnation, base_seq")?
        .query_row([thread_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    // A run that was not stored ended no life of the thread: its readers continue with the next run of their scope.
    let (incarnation, base_seq) = match leftover {
        Some((of, incarnation, base_seq)) if of.as_deref() == scope => (incarnation, base_seq),
        _ => (next_token(db)?, head_seq),
    };
    db.prepare_cached(
        "INSERT INTO threads (thread_id, agent_id, scope, head_seq, created_at, updated_at, incarnation, base_seq)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
    )?
    .execute(params![thread_id, agent_id, scope, head_seq, now_ms(), incarnation, base_seq])?;
    Ok(())
}

/// Return the number after which a thread of this id begins, so that no cursor of a deleted one is taken for its own.
fn read_floor(db: &Connection, thread_id: &str) -> rusqlite::Result<i64> {
    // The hash is the one of the schema's trigger.
    let floor: Option<i64> = db
        .prepare_cached(
            "SELECT seq FROM floors WHERE hash = (coalesce(unicode(substr(?1, -1, 1)), 0) * 29791
               + coalesce(unicode(substr(?1, -2, 1)), 0) * 961 + coalesce(unicode(substr(?1, -3, 1)), 0) * 31
               + coalesce(unicode(substr(?1, 1, 1)), 0) + length(?1)) % 65536",
        )?
        .query_row([thread_id], |row| row.get(0))
        .optional()?;
    Ok(floor.unwrap_or(0))
}

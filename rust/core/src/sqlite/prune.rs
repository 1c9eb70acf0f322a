//! Retention: removal of the oldest runs of each thread, with their raw frames and message ids.
use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::index::index_new_rows;
use super::sql::store_error;
use super::store::{SqliteStore, submit_removal};
use super::types::Retention;
use crate::dedup;
use crate::error::{Error, Result};

impl SqliteStore {
    /// Remove the oldest runs of each thread that are not kept, with their raw frames and message ids.
    ///
    /// At most `limit` runs are removed, in one transaction. Returns their number.
    pub fn prune(&self, kept: Retention, limit: u32, done: impl FnOnce(Result<u32>) + Send + 'static) {
        let writer = match self.writer() {
            Ok(writer) => std::sync::Arc::downgrade(writer),
            Err(error) => return done(Err(error)),
        };
        let removals = self.removals.clone();
        // The reader searches. Most often it finds nothing, and then no live run has waited for the search.
        let remove = move |candidates: Result<Vec<String>>| match (candidates, writer.upgrade()) {
            (Err(error), _) => done(Err(error)),
            (Ok(threads), _) if threads.is_empty() => done(Ok(0)),
            (Ok(_), None) => done(Err(Error::StoreClosed)),
            (Ok(threads), Some(writer)) => {
                let work = move |db: &Connection| prune(db, &threads, kept, limit);
                submit_removal(&writer, &removals, work, done);
            }
        };
        self.read_indexed(move |db| find_candidates(db, kept, limit).map_err(store_error), remove);
    }
}

/// Find threads with runs to remove. It reads only the threads' rows, which are short.
fn find_candidates(db: &Connection, kept: Retention, limit: u32) -> rusqlite::Result<Vec<String>> {
    db.prepare_cached(
        "SELECT thread_id FROM threads WHERE runs > ?1 OR (runs > 0 AND coalesce(oldest_at, created_at) < ?2) LIMIT ?3",
    )?
    .query_map(params![kept.max_runs.unwrap_or(i64::MAX), kept.since.unwrap_or(i64::MIN), limit], |row| row.get(0))?
    .collect()
}

fn prune(db: &Connection, threads: &[String], kept: Retention, limit: u32) -> Result<u32> {
    index_new_rows(db)?;
    let mut removed = 0;
    // What to remove is decided again here, because the thread may have changed since the reader searched.
    for thread_id in threads {
        // The limit bounds the transaction, because live runs wait for it.
        if removed < limit {
            removed += prune_thread(db, thread_id, kept, limit - removed).map_err(store_error)?;
        }
    }
    Ok(removed)
}

/// Remove runs from one thread. Only the oldest go, so the rest is a chain without a gap.
fn prune_thread(db: &Connection, thread_id: &str, kept: Retention, limit: u32) -> rusqlite::Result<u32> {
    let mut left: i64 = db
        .prepare_cached("SELECT count(*) FROM agent_runs WHERE thread_id = ?1")?
        .query_row([thread_id], |row| row.get(0))?;
    let mut statement = db.prepare_cached(
        "SELECT id, run_index.last_seq, agent_runs.created_at, agent_runs.events
         FROM agent_runs JOIN run_index USING (id) WHERE agent_runs.thread_id = ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = statement.query(params![thread_id, limit])?;
    let has_unnumbered =
        db.prepare_cached("SELECT 1 FROM entries WHERE thread_id = ?1 AND seq = 0")?.exists([thread_id])?;
    let (mut removed, mut newest, mut unnumbered) = (0, (0, 0), HashSet::new());
    while let Some(row) = rows.next()? {
        let ended_at: i64 = row.get(2)?;
        let is_over_count = kept.max_runs.is_some_and(|max_runs| left > max_runs);
        let is_old = kept.since.is_some_and(|since| ended_at < since);
        if !(is_over_count || is_old) {
            break;
        }
        newest = (row.get(0)?, row.get(1)?);
        if has_unnumbered {
            unnumbered.extend(dedup::summarize_run(row.get_ref(3)?.as_bytes().unwrap_or_default()).1);
        }
        left -= 1;
        removed += 1;
    }
    drop(rows);
    if removed > 0 {
        remove_up_to(db, thread_id, newest)?;
        forget_unnumbered(db, thread_id, unnumbered)?;
        update_thread(db, thread_id, left)?;
    }
    Ok(removed)
}

/// Remove the runs up to the one with this row id and last sequence number, with their raw frames and numbered entries.
fn remove_up_to(db: &Connection, thread_id: &str, (id, last_seq): (i64, i64)) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM agent_runs WHERE thread_id = ?1 AND id <= ?2")?.execute(params![thread_id, id])?;
    for (table, column) in [("run_index", "last_seq"), ("journal", "first_seq"), ("journal_expiry", "first_seq")] {
        let sql = format!("DELETE FROM {table} WHERE thread_id = ?1 AND {column} <= ?2");
        db.prepare_cached(&sql)?.execute(params![thread_id, last_seq])?;
    }
    // An entry's number is that of the newest run that has it.
    db.prepare_cached("DELETE FROM entries WHERE thread_id = ?1 AND seq BETWEEN 1 AND ?2")?
        .execute(params![thread_id, last_seq])?;
    // For the TypeScript runner a chain begins with the run that has no parent.
    db.prepare_cached(
        "UPDATE agent_runs SET parent_run_id = NULL
         WHERE id = (SELECT id FROM agent_runs WHERE thread_id = ?1 ORDER BY id LIMIT 1)",
    )?
    .execute([thread_id])?;
    Ok(())
}

/// Forget the entries of an earlier version that only the removed runs had, by reading the runs that stay.
fn forget_unnumbered(db: &Connection, thread_id: &str, mut ids: HashSet<String>) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached("SELECT events FROM agent_runs WHERE thread_id = ?1 ORDER BY id")?;
    let mut rows = statement.query([thread_id])?;
    // The search ends as soon as every id was found in a run that stays.
    while !ids.is_empty()
        && let Some(row) = rows.next()?
    {
        for id in dedup::summarize_run(row.get_ref(0)?.as_bytes().unwrap_or_default()).1 {
            ids.remove(&id);
        }
    }
    let mut delete = db.prepare_cached("DELETE FROM entries WHERE thread_id = ?1 AND message_id = ?2 AND seq = 0")?;
    for id in ids {
        delete.execute(params![thread_id, id])?;
    }
    Ok(())
}

/// Update the thread's row; remove a thread that has no runs left, unless one is live.
fn update_thread(db: &Connection, thread_id: &str, left: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE threads SET runs = ?2,
           oldest_at = (SELECT created_at FROM agent_runs WHERE thread_id = ?1 ORDER BY id LIMIT 1)
         WHERE thread_id = ?1",
    )?
    .execute(params![thread_id, left])?;
    if left == 0 {
        for table in ["threads", "entries", "records"] {
            let sql = format!(
                "DELETE FROM {table} WHERE thread_id = ?1 AND thread_id NOT IN (SELECT thread_id FROM live_runs)"
            );
            db.prepare_cached(&sql)?.execute([thread_id])?;
        }
        db.prepare_cached("DELETE FROM run_state WHERE thread_id = ?1 AND is_running = 0")?.execute([thread_id])?;
    }
    Ok(())
}

//! Retention: the oldest runs of each thread go, and with them all that only they had.
use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::history::index_new_rows;
use super::schema::store_error;
use super::store::SqliteStore;
use crate::dedup;
use crate::error::{Error, Result};

/// What is kept; both `None`: everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Of each thread, this many of its newest runs.
    pub max_runs: Option<i64>,
    /// Runs that ended then or later, in milliseconds since 1970.
    pub since: Option<i64>,
}

impl SqliteStore {
    /// Removes the oldest runs of each thread that are not to be kept, with their raw frames and message ids; at most
    /// `limit` of them, in one transaction. Gives how many.
    pub fn prune(&self, kept: Retention, limit: u32, done: impl FnOnce(Result<u32>) + Send + 'static) {
        let writer = std::sync::Arc::downgrade(&self.writer);
        // Found by the reader: with nothing to remove, as most often, no run waits for the search.
        let looked = move |found: Result<Vec<String>>| match (found, writer.upgrade()) {
            (Err(error), _) => done(Err(error)),
            (Ok(found), _) if found.is_empty() => done(Ok(0)),
            (Ok(_), None) => done(Err(Error::StoreClosed)),
            (Ok(found), Some(writer)) => {
                writer.submit(true, move |db: &Connection| prune(db, &found, kept, limit), done);
            }
        };
        self.ensure_indexed(move |db| candidates(db, kept, limit).map_err(store_error), looked);
    }
}

/// Threads with something to remove; by their rows alone, which are short.
fn candidates(db: &Connection, kept: Retention, limit: u32) -> rusqlite::Result<Vec<String>> {
    db.prepare_cached(
        "SELECT thread_id FROM threads WHERE runs > ?1 OR (runs > 0 AND coalesce(oldest_at, created_at) < ?2) LIMIT ?3",
    )?
    .query_map(params![kept.max_runs.unwrap_or(i64::MAX), kept.since.unwrap_or(i64::MIN), limit], |row| row.get(0))?
    .collect()
}

fn prune(db: &Connection, threads: &[String], kept: Retention, limit: u32) -> Result<u32> {
    index_new_rows(db)?;
    let mut removed = 0;
    for thread_id in threads {
        if removed < limit {
            removed += prune_thread(db, thread_id, kept, limit - removed).map_err(store_error)?;
        }
    }
    Ok(removed)
}

/// Removes from one thread; what is left of it is a whole chain.
fn prune_thread(db: &Connection, thread_id: &str, kept: Retention, limit: u32) -> rusqlite::Result<u32> {
    let mut left: i64 = db
        .prepare_cached("SELECT count(*) FROM agent_runs WHERE thread_id = ?1")?
        .query_row([thread_id], |row| row.get(0))?;
    let mut statement = db.prepare_cached(
        "SELECT id, run_index.last_seq, agent_runs.created_at, agent_runs.events
         FROM agent_runs JOIN run_index USING (id) WHERE agent_runs.thread_id = ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = statement.query(params![thread_id, limit])?;
    let (mut removed, mut newest, mut ids) = (0, (0, 0), HashSet::new());
    while let Some(row) = rows.next()? {
        let ended_at: i64 = row.get(2)?;
        let beyond = kept.max_runs.is_some_and(|max_runs| left > max_runs);
        let old = kept.since.is_some_and(|since| ended_at < since);
        if !(beyond || old) {
            break;
        }
        newest = (row.get(0)?, row.get(1)?);
        ids.extend(dedup::summarize_run(row.get_ref(3)?.as_bytes().unwrap_or_default()).1);
        left -= 1;
        removed += 1;
    }
    drop(rows);
    if removed > 0 {
        remove_upto(db, thread_id, newest)?;
        forget_ids(db, thread_id, ids)?;
        settle(db, thread_id, left)?;
    }
    Ok(removed)
}

/// Removes the runs up to one, by its row and its last sequence number, and all raw frames up to its end.
fn remove_upto(db: &Connection, thread_id: &str, (id, last_seq): (i64, i64)) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM agent_runs WHERE thread_id = ?1 AND id <= ?2")?.execute(params![thread_id, id])?;
    for (table, column) in [("run_index", "last_seq"), ("journal", "first_seq"), ("journal_expiry", "first_seq")] {
        let sql = format!("DELETE FROM {table} WHERE thread_id = ?1 AND {column} <= ?2");
        db.prepare_cached(&sql)?.execute(params![thread_id, last_seq])?;
    }
    // For the TypeScript runner a chain begins where there is no parent.
    db.prepare_cached(
        "UPDATE agent_runs SET parent_run_id = NULL
         WHERE id = (SELECT id FROM agent_runs WHERE thread_id = ?1 ORDER BY id LIMIT 1)",
    )?
    .execute([thread_id])?;
    Ok(())
}

/// Forgets the message ids that none of the thread's runs has any more: those messages may come again.
fn forget_ids(db: &Connection, thread_id: &str, mut ids: HashSet<String>) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached("SELECT events FROM agent_runs WHERE thread_id = ?1 ORDER BY id")?;
    let mut rows = statement.query([thread_id])?;
    while !ids.is_empty()
        && let Some(row) = rows.next()?
    {
        for id in dedup::summarize_run(row.get_ref(0)?.as_bytes().unwrap_or_default()).1 {
            ids.remove(&id);
        }
    }
    let mut delete = db.prepare_cached("DELETE FROM message_ids WHERE thread_id = ?1 AND message_id = ?2")?;
    for id in ids {
        delete.execute(params![thread_id, id])?;
    }
    Ok(())
}

/// Notes on the thread's row what is left; one without a run goes, unless one is live.
fn settle(db: &Connection, thread_id: &str, left: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE threads SET runs = ?2,
           oldest_at = (SELECT created_at FROM agent_runs WHERE thread_id = ?1 ORDER BY id LIMIT 1)
         WHERE thread_id = ?1",
    )?
    .execute(params![thread_id, left])?;
    if left == 0 {
        for table in ["threads", "message_ids", "records"] {
            let sql = format!(
                "DELETE FROM {table} WHERE thread_id = ?1 AND thread_id NOT IN (SELECT thread_id FROM live_runs)"
            );
            db.prepare_cached(&sql)?.execute([thread_id])?;
        }
        db.prepare_cached("DELETE FROM run_state WHERE thread_id = ?1 AND is_running = 0")?.execute([thread_id])?;
    }
    Ok(())
}

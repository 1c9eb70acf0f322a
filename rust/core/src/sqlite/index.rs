//! The index over stored runs, and the thread rows: kept for our own runs, and caught up with for other writers' runs.
use rusqlite::{Connection, params};

use super::sql::{exists, store_error, to_sql};
use super::thread_rows::{create_thread, head_seq};
use crate::dedup;
use crate::error::Result;

/// Return whether another writer added rows since the index was last brought up to date.
pub(super) fn has_unindexed(db: &Connection) -> rusqlite::Result<bool> {
    // Row ids only increase (`AUTOINCREMENT`), so the highest indexed one tells what is new.
    db.prepare_cached(
        "SELECT coalesce((SELECT max(id) FROM agent_runs), 0) > (SELECT value FROM counters WHERE name = 'indexed')",
    )?
    .query_row([], |row| row.get(0))
}

/// Mark rows up to this one as indexed.
pub(super) fn mark_indexed(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE counters SET value = max(value, ?1) WHERE name = 'indexed'")?.execute([id])?;
    Ok(())
}

/// Index the rows that another writer (the TypeScript runner) added, in the order they were written.
pub(super) fn index_new_rows(db: &Connection) -> Result<()> {
    let index = || -> rusqlite::Result<()> {
        // Most often there is nothing to do, and this check reads only two rows.
        if !has_unindexed(db)? {
            return Ok(());
        }
        let mut statement = db.prepare(
            "SELECT id, thread_id, created_at, events FROM agent_runs
             WHERE id > (SELECT value FROM counters WHERE name = 'indexed') ORDER BY id",
        )?;
        let mut rows = statement.query([])?;
        let mut newest_id = 0;
        while let Some(row) = rows.next()? {
            let (id, thread_id, created_at): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            newest_id = id;
            let events = row.get_ref(3)?.as_bytes().unwrap_or_default();
            let (count, entries) = dedup::summarize_run(events);
            create_thread(db, &thread_id, None, None)?;
            let first_seq = head_seq(db, &thread_id)? + 1;
            // An empty or corrupt run takes a number too, so that no two runs end at the same one.
            let last_seq = first_seq + to_sql(count).max(1) - 1;
            db.prepare_cached(
                "INSERT OR IGNORE INTO run_index (id, thread_id, first_seq, last_seq, own) VALUES (?1, ?2, ?3, ?4, 0)",
            )?
            .execute(params![id, thread_id, first_seq, last_seq])?;
            add_entries(db, &thread_id, entries.iter().map(String::as_str), last_seq)?;
            update_thread(db, &thread_id, None, last_seq, true, created_at)?;
        }
        mark_indexed(db, newest_id)
    };
    index().map_err(store_error)
}

/// Add a run of our own, whose row has this id, to the index.
pub(super) fn index_own_run(
    db: &Connection,
    id: i64,
    thread_id: &str,
    first_seq: i64,
    last_seq: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO run_index (id, thread_id, first_seq, last_seq, own) VALUES (?1, ?2, ?3, ?4, 1)")?
        .execute(params![id, thread_id, first_seq, last_seq])?;
    mark_indexed(db, id)
}

/// Add the entries of the run that ends at `last_seq` to those of its thread.
pub(super) fn add_entries<'i>(
    db: &Connection,
    thread_id: &str,
    entries: impl Iterator<Item = &'i str>,
    last_seq: i64,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO entries (thread_id, message_id, seq) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
    )?;
    for entry in entries {
        insert.execute(params![thread_id, entry, last_seq])?;
    }
    Ok(())
}

/// Update a thread's row after one of its runs has ended.
pub(super) fn update_thread(
    db: &Connection,
    thread_id: &str,
    agent_id: Option<&str>,
    head_seq: i64,
    is_stored: bool,
    ended_at: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO threads (thread_id, agent_id, head_seq, runs, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)
         ON CONFLICT (thread_id) DO UPDATE SET head_seq = max(head_seq, excluded.head_seq),
           agent_id = coalesce(excluded.agent_id, agent_id), runs = runs + excluded.runs,
           created_at = CASE WHEN runs = 0 THEN excluded.created_at ELSE created_at END,
           updated_at = CASE WHEN excluded.runs > 0 THEN excluded.updated_at ELSE updated_at END",
    )?
    .execute(params![thread_id, agent_id, head_seq, i64::from(is_stored), ended_at])?;
    Ok(())
}

/// Return whether the thread has stored runs or a live one; only then it has a row.
pub(super) fn thread_exists(db: &Connection, thread_id: &str) -> Result<bool> {
    exists(db, "SELECT 1 FROM threads WHERE thread_id = ?1", thread_id)
}

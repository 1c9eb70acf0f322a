//! The end of a run: its row, its message ids and the end of its lease, in one transaction.
use std::io::{BufWriter, Write};

use rusqlite::blob::ZeroBlob;
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::lease::lease_lost;
use super::sql::{now_ms, set_run_state, store_error, to_sql};
use super::types::Claim;
use super::{deadlines, index};
use crate::error::Result;
use crate::recorder::Recorder;

/// The size from which on a run's events are written in slices.
const LARGE_RUN_BYTES: usize = 1 << 20;
/// How much of a large run is in memory at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// End a run under its claim.
pub(super) fn finish_run(
    db: &Connection,
    claim: &Claim,
    recorder: &Recorder,
    is_stored: bool,
    resume_ms: i64,
) -> Result<()> {
    // The lease goes first: if another owner holds it by now, nothing below may be written.
    let stored_id: Option<String> = db
        .prepare_cached("DELETE FROM live_runs WHERE thread_id = ?1 AND token = ?2 RETURNING run_id")
        .and_then(|mut delete| delete.query_row(params![claim.thread_id, claim.token], |row| row.get(0)).optional())
        .map_err(store_error)?;
    let Some(stored_id) = stored_id else { return Err(lease_lost(claim)) };
    // Rows of other writers come first: indexing ours marks every earlier row as indexed, and they would be left out.
    index::index_new_rows(db)?;
    write_finish(db, claim, &stored_id, recorder, is_stored, resume_ms).map_err(store_error)
}

fn write_finish(
    db: &Connection,
    claim: &Claim,
    stored_id: &str,
    recorder: &Recorder,
    is_stored: bool,
    resume_ms: i64,
) -> rusqlite::Result<()> {
    let now = now_ms();
    let thread_id = &claim.thread_id;
    set_run_state(db, thread_id, None, now)?;
    let (first_seq, last_seq) = (to_sql(claim.first_seq), to_sql(recorder.last_seq()));
    // A run without an event has no raw frames to remove later.
    if last_seq >= first_seq {
        db.prepare_cached("INSERT OR REPLACE INTO journal_expiry VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            thread_id,
            first_seq,
            last_seq,
            deadlines::in_ms(resume_ms)
        ])?;
    }
    let mut created_at = now;
    if is_stored {
        let last: Option<(String, i64)> = db
            .prepare_cached("SELECT run_id, created_at FROM agent_runs WHERE thread_id = ?1 ORDER BY id DESC LIMIT 1")?
            .query_row([thread_id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // The TypeScript runner orders runs by time alone, so the times must not decrease along the chain.
        created_at = last.as_ref().map_or(now, |(_, earlier)| now.max(*earlier));
        let id = insert_run(db, claim, stored_id, last.as_ref().map(|(run, _)| run.as_str()), recorder, created_at)?;
        index::index_own_run(db, id, thread_id, first_seq, last_seq)?;
        index::add_entries(db, thread_id, recorder.message_ids().iter().map(String::as_str), last_seq)?;
    }
    index::update_thread(db, thread_id, claim.agent_id.as_deref(), last_seq, is_stored, created_at)?;
    if !is_stored {
        // A first run that stores nothing leaves no thread, so any scope may use its id next.
        // Its raw frames are still for its own readers only.
        db.prepare_cached(
            "INSERT OR REPLACE INTO leftovers SELECT thread_id, scope, incarnation, base_seq FROM threads
             WHERE thread_id = ?1 AND runs = 0 AND thread_id IN (SELECT thread_id FROM journal_expiry)",
        )?
        .execute([thread_id])?;
        db.prepare_cached("DELETE FROM threads WHERE thread_id = ?1 AND runs = 0")?.execute([thread_id])?;
    }
    Ok(())
}

/// Store the run's row; return its id.
fn insert_run(
    db: &Connection,
    claim: &Claim,
    stored_id: &str,
    parent_run_id: Option<&str>,
    recorder: &Recorder,
    created_at: i64,
) -> rusqlite::Result<i64> {
    // The length is needed first, because space for a blob is reserved before it is written.
    let bytes = recorder.compacted_bytes();
    let insert = |events: &dyn ToSql| -> rusqlite::Result<i64> {
        db.prepare_cached(
            "INSERT INTO agent_runs (thread_id, run_id, parent_run_id, events, input, created_at, version)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)",
        )?
        .execute(params![claim.thread_id, stored_id, parent_run_id, events, claim.input, created_at])?;
        Ok(db.last_insert_rowid())
    };
    if bytes <= LARGE_RUN_BYTES {
        return insert(&recorder.compacted());
    }
    // Bound as one text, a large run would be in memory three times. The TypeScript runner reads a blob as well.
    let id = insert(&ZeroBlob(bytes as u64))?;
    let blob = db.blob_open("main", "agent_runs", "events", id, false)?;
    let mut blob = BufWriter::with_capacity(BUFFER_BYTES, blob);
    let mut outcome = Ok(());
    recorder.write_compacted(|slice| {
        // The compactor cannot be stopped, so the first error is kept and the rest is skipped.
        if outcome.is_ok() {
            outcome = blob.write_all(slice.as_bytes());
        }
    });
    outcome.and_then(|()| blob.flush()).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    Ok(id)
}

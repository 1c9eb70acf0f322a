//! The end of a run: its row, its message ids and the end of its lease, in one transaction.
use std::io::{BufWriter, Write};

use rusqlite::blob::ZeroBlob;
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::lease::lost;
use super::schema::{now_ms, store_error};
use super::store::{Claim, set_run_state, signed};
use super::{deadlines, history};
use crate::error::Result;
use crate::recorder::Recorder;

/// A run's events over this many bytes are written in parts.
const LARGE: usize = 1 << 20;

pub(super) fn finish_run(
    db: &Connection,
    claim: &Claim,
    recorder: &Recorder,
    stored: bool,
    resume_ms: i64,
) -> Result<()> {
    let deleted = db
        .prepare_cached("DELETE FROM live_runs WHERE thread_id = ?1 AND token = ?2")
        .and_then(|mut delete| delete.execute(params![claim.thread_id, claim.token]))
        .map_err(store_error)?;
    if deleted == 0 {
        return Err(lost(claim));
    }
    history::index_new_rows(db)?;
    write_finish(db, claim, recorder, stored, resume_ms).map_err(store_error)
}

fn write_finish(
    db: &Connection,
    claim: &Claim,
    recorder: &Recorder,
    stored: bool,
    resume_ms: i64,
) -> rusqlite::Result<()> {
    let now = now_ms();
    let thread_id = &claim.thread_id;
    set_run_state(db, thread_id, None, now)?;
    let (first_seq, last_seq) = (signed(claim.first_seq), signed(recorder.last_seq()));
    if last_seq >= first_seq {
        db.prepare_cached("INSERT OR REPLACE INTO journal_expiry VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            thread_id,
            first_seq,
            last_seq,
            deadlines::in_ms(resume_ms)
        ])?;
    }
    let mut created_at = now;
    if stored {
        let last: Option<(String, i64)> = db
            .prepare_cached("SELECT run_id, created_at FROM agent_runs WHERE thread_id = ?1 ORDER BY id DESC LIMIT 1")?
            .query_row([thread_id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // The TypeScript runner orders by time alone: time must not run backwards along the chain.
        created_at = last.as_ref().map_or(now, |(_, earlier)| now.max(*earlier));
        let id = insert_run(db, claim, last.as_ref().map(|(run, _)| run.as_str()), recorder, created_at)?;
        db.prepare_cached(
            "INSERT INTO run_index (id, thread_id, first_seq, last_seq, own) VALUES (?1, ?2, ?3, ?4, 1)",
        )?
        .execute(params![id, thread_id, first_seq, last_seq])?;
        history::mark_indexed(db, id)?;
        history::add_message_ids(db, thread_id, recorder.message_ids())?;
    }
    history::touch_thread(db, thread_id, claim.agent_id.as_deref(), last_seq, stored, created_at)?;
    if !stored {
        // A first run that leaves nothing leaves the thread to whoever comes next.
        db.prepare_cached("DELETE FROM threads WHERE thread_id = ?1 AND runs = 0")?.execute([thread_id])?;
    }
    Ok(())
}

/// Stores the run's row; gives its id.
fn insert_run(
    db: &Connection,
    claim: &Claim,
    parent_run_id: Option<&str>,
    recorder: &Recorder,
    created_at: i64,
) -> rusqlite::Result<i64> {
    let bytes = recorder.compacted_bytes();
    let insert = |events: &dyn ToSql| -> rusqlite::Result<i64> {
        db.prepare_cached(
            "INSERT INTO agent_runs (thread_id, run_id, parent_run_id, events, input, created_at, version)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)",
        )?
        .execute(params![claim.thread_id, claim.run_id, parent_run_id, events, claim.input, created_at])?;
        Ok(db.last_insert_rowid())
    };
    if bytes <= LARGE {
        return insert(&recorder.compacted());
    }
    // In parts, as a blob: bound as one text it would be in memory three times over. The TypeScript runner reads both.
    let id = insert(&ZeroBlob(bytes as u64))?;
    let blob = db.blob_open("main", "agent_runs", "events", id, false)?;
    let mut blob = BufWriter::with_capacity(LARGE / 4, blob);
    let mut written = Ok(());
    recorder.write_compacted(|part| {
        if written.is_ok() {
            written = blob.write_all(part.as_bytes());
        }
    });
    written.and_then(|()| blob.flush()).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    Ok(id)
}

//! Stored runs as frames, and where in its thread a cursor is.
use rusqlite::{Connection, OptionalExtension, params};

use super::guard::{find_base, with_snapshot};
use super::run_ids::from_stored;
use super::sql::{from_sql, store_error, to_sql};
use super::store::SqliteStore;
use super::thread_rows::head_seq;
use super::types::{HistoryPage, Position, Target};
use crate::error::{Error, Result};
use crate::frames::Cursor;
use crate::stored_run;

impl SqliteStore {
    /// Read stored runs' compacted frames after a cursor, about `limit` bytes: whole runs, at least one.
    ///
    /// With `until`, only runs that begin before that sequence number.
    pub fn history(
        &self,
        thread: impl Into<Target>,
        after: Cursor,
        until: Option<u64>,
        limit: usize,
        done: impl FnOnce(Result<HistoryPage>) + Send + 'static,
    ) {
        let thread = thread.into();
        self.read_indexed(move |db| history(db, &thread, after, until, limit), done);
    }

    /// Find where in its thread a cursor is. Errors: `CursorExpired`, `CursorAhead`.
    pub fn locate(
        &self,
        thread: impl Into<Target>,
        cursor: Cursor,
        done: impl FnOnce(Result<Position>) + Send + 'static,
    ) {
        let thread = thread.into();
        self.read_indexed(move |db| locate(db, &thread, cursor), done);
    }
}

fn history(db: &Connection, thread: &Target, after: Cursor, until: Option<u64>, limit: usize) -> Result<HistoryPage> {
    let sql = "SELECT run_index.first_seq, run_index.last_seq, run_index.own, agent_runs.events, agent_runs.run_id
               FROM run_index JOIN agent_runs USING (id)
               WHERE run_index.thread_id = ?1 AND run_index.last_seq >= ?2 AND run_index.first_seq < ?3
               ORDER BY run_index.last_seq, run_index.id";
    let thread_id = thread.thread_id.as_str();
    let read = |db: &Connection| -> rusqlite::Result<HistoryPage> {
        if find_base(db, thread)?.is_none() {
            return Ok(HistoryPage { bytes: Vec::new(), next: None });
        }
        let mut statement = db.prepare_cached(sql)?;
        let until = until.map_or(i64::MAX, to_sql);
        let mut rows = statement.query(params![thread_id, to_sql(after.seq), until])?;
        let mut page = HistoryPage { bytes: Vec::new(), next: None };
        while let Some(row) = rows.next()? {
            let (first_seq, last_seq) = (from_sql(row.get(0)?), from_sql(row.get(1)?));
            let skip = match after.index {
                Some(index) if last_seq == after.seq => index + 1,
                // A cursor of a raw event inside this run: the rest of the run comes from the journal.
                _ if first_seq <= after.seq => continue,
                _ => 0,
            };
            if page.bytes.len() >= limit {
                return Ok(page);
            }
            let is_own: bool = row.get(2)?;
            let events = row.get_ref(3)?;
            if let Ok(events) = events.as_bytes() {
                let before = page.bytes.len();
                // The `RUN_FINISHED` of our own runs has its ids; that of another writer may lack them.
                let run_id = if is_own { None } else { Some(from_stored(row.get(4)?, thread_id)) };
                let ids = run_id.as_deref().map(|run_id| (thread_id, run_id));
                if stored_run::write_frames(&mut page.bytes, events, last_seq, skip, ids).is_err() {
                    // A corrupt run is skipped, so that it does not hide the thread; `doctor` reports it.
                    page.bytes.truncate(before);
                }
            }
            // Also set after a corrupt run, or the next page would begin with it again.
            page.next = Some(Cursor { seq: last_seq, index: None });
        }
        page.next = None;
        Ok(page)
    };
    with_snapshot(db, read).map_err(store_error)
}

fn locate(db: &Connection, thread: &Target, cursor: Cursor) -> Result<Position> {
    let thread_id = thread.thread_id.as_str();
    let read = |db: &Connection| -> rusqlite::Result<std::result::Result<Position, Error>> {
        let Some(base) = find_base(db, thread)? else {
            return Ok(if cursor.seq == 0 { Ok(Position::Stored) } else { Err(cursor_ahead(cursor, thread_id, 0)) });
        };
        let live: Option<i64> = db
            .prepare_cached("SELECT first_seq FROM live_runs WHERE thread_id = ?1")?
            .query_row([thread_id], |row| row.get(0))
            .optional()?;
        // The live run comes first, because its numbers are not in the index.
        if live.is_some_and(|first_seq| cursor.seq >= from_sql(first_seq)) {
            return Ok(Ok(Position::Live));
        }
        let head = head_seq(db, thread_id)?;
        if cursor.seq > from_sql(head) {
            return Ok(Err(cursor_ahead(cursor, thread_id, head)));
        }
        if 0 < cursor.seq && cursor.seq <= from_sql(base) {
            return Ok(Err(Error::CursorExpired(format!(
                "cursor {cursor} belongs to a deleted thread with the id '{thread_id}'; connect without a cursor"
            ))));
        }
        let run: Option<(i64, i64)> = db
            .prepare_cached(
                "SELECT first_seq, last_seq FROM run_index WHERE thread_id = ?1 AND last_seq >= ?2
                 ORDER BY last_seq LIMIT 1",
            )?
            .query_row(params![thread_id, to_sql(cursor.seq)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((first_seq, last_seq)) = run.map(|(first, last)| (from_sql(first), from_sql(last))) else {
            return Ok(Ok(Position::Stored));
        };
        // Between two runs or at the end of one, so no raw frames are needed.
        if cursor.seq < first_seq || cursor.seq == last_seq {
            return Ok(Ok(Position::Stored));
        }
        let is_kept = db
            .prepare_cached("SELECT 1 FROM journal_expiry WHERE thread_id = ?1 AND first_seq = ?2")?
            .exists(params![thread_id, to_sql(first_seq)])?;
        Ok(if is_kept {
            Ok(Position::Journal(first_seq, last_seq))
        } else {
            Err(Error::CursorExpired(format!(
                "cursor {cursor} of thread '{thread_id}' is inside a finished run whose raw events are no longer kept; \
                 connect without a cursor for the whole thread"
            )))
        })
    };
    with_snapshot(db, read).map_err(store_error)?
}

fn cursor_ahead(cursor: Cursor, thread_id: &str, head: i64) -> Error {
    Error::CursorAhead(format!(
        "cursor {cursor} is ahead of thread '{thread_id}', which ends at {head}; connect without a cursor"
    ))
}

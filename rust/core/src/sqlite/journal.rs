//! The journal: the raw frames of live runs, and of finished ones until their deadline.
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::deadlines;
use super::guard::find_base;
use super::sql::{from_sql, now_ms, store_error, to_sql};
use super::store::SqliteStore;
use super::types::{JournalPage, Target};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::frames::{self, Cursor};

/// The largest number of rows of an expired journal that one transaction removes.
const EXPIRED_ROWS: i64 = 256;

impl SqliteStore {
    /// Read a thread's raw frames after a sequence number, about `limit` bytes of them.
    ///
    /// With `until`, the last sequence number of a run, none of later runs.
    pub fn journal(
        &self,
        thread: impl Into<Target>,
        after: u64,
        until: Option<u64>,
        limit: usize,
        done: impl FnOnce(Result<JournalPage>) + Send + 'static,
    ) {
        let thread = thread.into();
        self.read(move |db| journal(db, &thread, after, until, limit), done);
    }
}

fn journal(db: &Connection, thread: &Target, after: u64, until: Option<u64>, limit: usize) -> Result<JournalPage> {
    // The lease and the rows must be of one moment: a page with the live run's token has no rows of a later run.
    let snapshot = db.unchecked_transaction().map_err(store_error)?;
    let Some(base) = find_base(&snapshot, thread).map_err(store_error)? else {
        return Ok(JournalPage { bytes: Vec::new(), live_token: None });
    };
    // Frames of an earlier incarnation are kept for its own readers until they expire.
    let after = if thread.incarnation.is_some() { after.max(from_sql(base)) } else { after };
    read_page(&snapshot, &thread.thread_id, after, until, limit)
}

fn read_page(db: &Connection, thread_id: &str, after: u64, until: Option<u64>, limit: usize) -> Result<JournalPage> {
    let read = || -> rusqlite::Result<JournalPage> {
        let live_token = db
            .prepare_cached("SELECT token FROM live_runs WHERE thread_id = ?1")?
            .query_row([thread_id], |row| row.get(0))
            .optional()?;
        // The row with the next frame may begin before it, so the last row that begins there is read too.
        let mut statement = db.prepare_cached(
            "SELECT first_seq, count, frames FROM journal WHERE thread_id = ?1 AND first_seq >= coalesce(
               (SELECT max(first_seq) FROM journal WHERE thread_id = ?1 AND first_seq <= ?2), 0)
             AND first_seq <= ?3 ORDER BY first_seq",
        )?;
        let mut rows = statement.query(params![thread_id, to_sql(after + 1), until.map_or(i64::MAX, to_sql)])?;
        let mut page = JournalPage { bytes: Vec::new(), live_token };
        while page.bytes.len() < limit {
            let is_whole =
                rows.next().and_then(|row| row.map_or(Ok(false), |row| add_frames(&mut page, row, after, limit)));
            match is_whole {
                Ok(true) => {}
                // The frames before an unreadable row are good. The error is returned by the page that begins with it.
                Err(error) if page.bytes.is_empty() => return Err(error),
                _ => break,
            }
        }
        Ok(page)
    };
    read().map_err(store_error)
}

/// Add a row's frames after a sequence number; return whether all of them fitted.
fn add_frames(page: &mut JournalPage, row: &Row<'_>, after: u64, limit: usize) -> rusqlite::Result<bool> {
    let (first_seq, count) = (from_sql(row.get(0)?), from_sql(row.get(1)?));
    // Saturating, because a damaged row can hold any number.
    if first_seq.saturating_add(count) <= after + 1 {
        return Ok(true);
    }
    let frames = row.get_ref(2)?.as_blob()?;
    let skipped_bytes = if first_seq <= after { frames::length_of(frames, after + 1 - first_seq) } else { 0 };
    let rest = &frames[skipped_bytes..];
    let cut = frames::cut(rest, limit - page.bytes.len()).unwrap_or(rest.len());
    page.bytes.extend_from_slice(&rest[..cut]);
    Ok(cut == rest.len())
}

/// Return a run whose raw frames have expired, with its first and last sequence number.
pub(super) fn expired_journal(db: &Connection) -> rusqlite::Result<Option<(String, i64, i64)>> {
    // Deadlines below the base were written by version 0.1.0, as wall clock times.
    db.prepare_cached(
        "SELECT thread_id, first_seq, last_seq FROM journal_expiry
         WHERE expires_at < ?1 OR (expires_at >= ?2 AND expires_at < ?3) LIMIT 1",
    )?
    .query_row([now_ms(), deadlines::MONOTONIC_BASE_MS, deadlines::in_ms(0)], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })
    .optional()
}

/// Remove rows of an expired journal. Their number is bounded, so that live runs do not wait for it.
pub(super) fn drop_expired_journal(db: &Connection) -> rusqlite::Result<()> {
    let Some((thread_id, first_seq, last_seq)) = expired_journal(db)? else { return Ok(()) };
    db.prepare_cached(
        "DELETE FROM journal WHERE rowid IN (SELECT rowid FROM journal
         WHERE thread_id = ?1 AND first_seq BETWEEN ?2 AND ?3 LIMIT ?4)",
    )?
    .execute(params![thread_id, first_seq, last_seq, EXPIRED_ROWS])?;
    let has_more = db
        .prepare_cached("SELECT 1 FROM journal WHERE thread_id = ?1 AND first_seq BETWEEN ?2 AND ?3")?
        .exists(params![thread_id, first_seq, last_seq])?;
    // The deadline goes last, because the remaining rows are found by it.
    if !has_more {
        db.prepare_cached("DELETE FROM journal_expiry WHERE thread_id = ?1 AND first_seq = ?2")?
            .execute(params![thread_id, first_seq])?;
        db.prepare_cached(
            "DELETE FROM leftovers WHERE thread_id = ?1 AND thread_id NOT IN (SELECT thread_id FROM journal_expiry)",
        )?
        .execute([&thread_id])?;
    }
    Ok(())
}

/// Remove the journal's rows from a sequence number on, if they cannot be read.
///
/// A new owner of a run continues after the last frame it could read. Normally the journal has nothing there.
pub(super) fn drop_unreadable(db: &Connection, thread_id: &str, seq: u64) -> Result<()> {
    let reaches = "SELECT first_seq >= ?2 OR first_seq + count > ?2 FROM
      (SELECT first_seq, count FROM journal WHERE thread_id = ?1 ORDER BY first_seq DESC LIMIT 1)";
    let mut reaches = db.prepare_cached(reaches).map_err(store_error)?;
    let has_rows: Option<bool> =
        reaches.query_row(params![thread_id, to_sql(seq)], |row| row.get(0)).optional().map_err(store_error)?;
    if has_rows != Some(true) {
        return Ok(());
    }
    match read_page(db, thread_id, seq - 1, None, 1) {
        Ok(page) if frames::iter(&page.bytes).next().is_some_and(|frame| is_frame(frame, seq)) => {
            return Err(Error::Store(format!("thread '{thread_id}' already has an event {seq}; nothing was written")));
        }
        Ok(_) | Err(Error::StoreCorrupt(_)) => {}
        Err(error) => return Err(error),
    }
    cut_journal(db, thread_id, to_sql(seq)).map_err(store_error)
}

fn is_frame(frame: Result<(Cursor, &str)>, seq: u64) -> bool {
    frame.is_ok_and(|(cursor, json)| cursor.seq == seq && Event::parse_str(json).is_ok())
}

/// Remove a thread's raw frames from a sequence number on.
pub(super) fn cut_journal(db: &Connection, thread_id: &str, seq: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM journal WHERE thread_id = ?1 AND first_seq >= ?2", params![thread_id, seq])?;
    // The row before may reach beyond the number, so it is cut there.
    let before: Option<(i64, Vec<u8>)> = db
        .prepare("SELECT first_seq, frames FROM journal WHERE thread_id = ?1 ORDER BY first_seq DESC LIMIT 1")?
        .query_row([thread_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((first_seq, frames)) = before {
        let count = from_sql(seq - first_seq).min(frames::count(&frames));
        let readable = &frames[..frames::length_of(&frames, count)];
        db.execute(
            "UPDATE journal SET count = ?3, frames = ?4 WHERE thread_id = ?1 AND first_seq = ?2",
            params![thread_id, first_seq, to_sql(count), readable],
        )?;
    }
    Ok(())
}

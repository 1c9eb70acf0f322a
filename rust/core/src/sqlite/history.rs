//! The run chain: stored runs as frames, the journal, and the index over rows others wrote.
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::deadlines;
use super::schema::{now_ms, store_error};
use super::store::{JournalPage, SqliteStore, exists, signed, unsigned};
use crate::dedup;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::frames::{self, Cursor};
use crate::stored_run;

/// Stored runs as frames.
#[derive(Debug)]
pub struct Page {
    /// The frames.
    pub bytes: Vec<u8>,
    /// Where to read on; `None` when there is no more.
    pub next: Option<Cursor>,
}

/// Where a cursor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Between stored runs or in the stored form of one: the history goes on from it.
    Stored,
    /// Inside a finished run whose raw frames, these first to last, are still in the journal.
    Journal(u64, u64),
    /// In the live run, or where the next one will begin.
    Live,
}

impl SqliteStore {
    /// Stored runs' compacted frames behind `after`, about `limit` bytes (whole runs, at least one); with `until` only
    /// of runs that begin before that sequence number.
    pub fn history(
        &self,
        thread_id: String,
        after: Cursor,
        until: Option<u64>,
        limit: usize,
        done: impl FnOnce(Result<Page>) + Send + 'static,
    ) {
        self.ensure_indexed(move |db| history(db, &thread_id, after, until, limit), done);
    }

    /// Where a cursor is. Errors: `CursorExpired`, `CursorAhead`.
    pub fn locate(&self, thread_id: String, cursor: Cursor, done: impl FnOnce(Result<Place>) + Send + 'static) {
        self.ensure_indexed(move |db| locate(db, &thread_id, cursor), done);
    }

    /// Reads once rows that another writer added are in the index.
    pub(super) fn ensure_indexed<T: Send + 'static, W: FnOnce(&Connection) -> Result<T> + Send + 'static>(
        &self,
        work: W,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let writer = std::sync::Arc::downgrade(&self.writer);
        let look = move |db: &Connection| {
            if unindexed(db).map_err(store_error)? { Ok(Err(work)) } else { work(db).map(Ok) }
        };
        let looked = move |result: Result<std::result::Result<T, W>>| match (result, writer.upgrade()) {
            (Ok(Ok(found)), _) => done(Ok(found)),
            (Err(error), _) => done(Err(error)),
            (Ok(Err(_)), None) => done(Err(Error::StoreClosed)),
            // The rest is read by the writer itself: it sees what it has just indexed.
            (Ok(Err(work)), Some(writer)) => {
                writer.submit(false, move |db: &Connection| index_new_rows(db).and_then(|()| work(db)), done);
            }
        };
        self.read(look, looked);
    }
}

fn history(db: &Connection, thread_id: &str, after: Cursor, until: Option<u64>, limit: usize) -> Result<Page> {
    let sql = "SELECT run_index.first_seq, run_index.last_seq, run_index.own, agent_runs.events, agent_runs.run_id
               FROM run_index JOIN agent_runs USING (id)
               WHERE run_index.thread_id = ?1 AND run_index.last_seq >= ?2 AND run_index.first_seq < ?3
               ORDER BY run_index.last_seq, run_index.id";
    let read = || -> rusqlite::Result<Page> {
        let mut statement = db.prepare_cached(sql)?;
        let until = until.map_or(i64::MAX, signed);
        let mut rows = statement.query(params![thread_id, signed(after.seq), until])?;
        let mut page = Page { bytes: Vec::new(), next: None };
        while let Some(row) = rows.next()? {
            let (first_seq, last_seq) = (unsigned(row.get(0)?), unsigned(row.get(1)?));
            let skip = match after.index {
                Some(index) if last_seq == after.seq => index + 1,
                _ if first_seq <= after.seq => continue,
                _ => 0,
            };
            if page.bytes.len() >= limit {
                return Ok(page);
            }
            let own: bool = row.get(2)?;
            let events = row.get_ref(3)?;
            if let Ok(events) = events.as_bytes() {
                let begin = page.bytes.len();
                let bare = if own { None } else { Some(row.get::<_, String>(4)?) };
                let ids = bare.as_deref().map(|run_id| (thread_id, run_id));
                if stored_run::write_frames(&mut page.bytes, events, last_seq, skip, ids).is_err() {
                    // A corrupt row costs that row, never the thread; `doctor` names it.
                    page.bytes.truncate(begin);
                }
            }
            page.next = Some(Cursor { seq: last_seq, index: None });
        }
        page.next = None;
        Ok(page)
    };
    read().map_err(store_error)
}

fn locate(db: &Connection, thread_id: &str, cursor: Cursor) -> Result<Place> {
    let read = || -> rusqlite::Result<std::result::Result<Place, Error>> {
        let live: Option<i64> = db
            .prepare_cached("SELECT first_seq FROM live_runs WHERE thread_id = ?1")?
            .query_row([thread_id], |row| row.get(0))
            .optional()?;
        if live.is_some_and(|first_seq| cursor.seq >= unsigned(first_seq)) {
            return Ok(Ok(Place::Live));
        }
        let head = head_seq(db, thread_id)?;
        if cursor.seq > unsigned(head) {
            return Ok(Err(Error::CursorAhead(format!(
                "cursor {cursor} is ahead of thread '{thread_id}', which ends at {head}; connect without a cursor"
            ))));
        }
        let run: Option<(i64, i64)> = db
            .prepare_cached(
                "SELECT first_seq, last_seq FROM run_index WHERE thread_id = ?1 AND last_seq >= ?2
                 ORDER BY last_seq LIMIT 1",
            )?
            .query_row(params![thread_id, signed(cursor.seq)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((first_seq, last_seq)) = run.map(|(first, last)| (unsigned(first), unsigned(last))) else {
            return Ok(Ok(Place::Stored));
        };
        if cursor.seq < first_seq || cursor.seq == last_seq {
            return Ok(Ok(Place::Stored));
        }
        let kept = db
            .prepare_cached("SELECT 1 FROM journal_expiry WHERE thread_id = ?1 AND first_seq = ?2")?
            .exists(params![thread_id, signed(first_seq)])?;
        Ok(if kept {
            Ok(Place::Journal(first_seq, last_seq))
        } else {
            Err(Error::CursorExpired(format!(
                "cursor {cursor} of thread '{thread_id}' is inside a finished run whose raw events are no longer kept; \
                 connect without a cursor for the whole thread"
            )))
        })
    };
    read().map_err(store_error)?
}

pub(super) fn journal(
    db: &Connection,
    thread_id: &str,
    after: u64,
    until: Option<u64>,
    limit: usize,
) -> Result<JournalPage> {
    // The lease and the rows are of one moment: under the live run's token there are no rows of a later one.
    let snapshot = db.unchecked_transaction().map_err(store_error)?;
    journal_of(&snapshot, thread_id, after, until, limit)
}

fn journal_of(db: &Connection, thread_id: &str, after: u64, until: Option<u64>, limit: usize) -> Result<JournalPage> {
    let read = || -> rusqlite::Result<JournalPage> {
        let live_token = db
            .prepare_cached("SELECT token FROM live_runs WHERE thread_id = ?1")?
            .query_row([thread_id], |row| row.get(0))
            .optional()?;
        let mut statement = db.prepare_cached(
            "SELECT first_seq, count, frames FROM journal WHERE thread_id = ?1 AND first_seq >= coalesce(
               (SELECT max(first_seq) FROM journal WHERE thread_id = ?1 AND first_seq <= ?2), 0)
             AND first_seq <= ?3 ORDER BY first_seq",
        )?;
        let mut rows = statement.query(params![thread_id, signed(after + 1), until.map_or(i64::MAX, signed)])?;
        let mut page = JournalPage { bytes: Vec::new(), live_token };
        while page.bytes.len() < limit {
            let read =
                rows.next().and_then(|row| row.map_or(Ok(false), |row| add_frames(&mut page, row, after, limit)));
            match read {
                Ok(true) => {}
                // What comes before a row that cannot be read is good: that is met when it comes first.
                Err(error) if page.bytes.is_empty() => return Err(error),
                _ => break,
            }
        }
        Ok(page)
    };
    read().map_err(store_error)
}

/// Adds a row's frames behind `after`; gives whether all of them fitted in.
fn add_frames(page: &mut JournalPage, row: &Row<'_>, after: u64, limit: usize) -> rusqlite::Result<bool> {
    let (first_seq, count) = (unsigned(row.get(0)?), unsigned(row.get(1)?));
    if first_seq.saturating_add(count) <= after + 1 {
        return Ok(true);
    }
    let frames = row.get_ref(2)?.as_blob()?;
    let skipped = if first_seq <= after { frames::length_of(frames, after + 1 - first_seq) } else { 0 };
    let rest = &frames[skipped..];
    let cut = frames::cut(rest, limit - page.bytes.len()).unwrap_or(rest.len());
    page.bytes.extend_from_slice(&rest[..cut]);
    Ok(cut == rest.len())
}

/// Whether another writer added rows since the index was last brought up to date.
fn unindexed(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "SELECT coalesce((SELECT max(id) FROM agent_runs), 0) > (SELECT value FROM counters WHERE name = 'indexed')",
    )?
    .query_row([], |row| row.get(0))
}

pub(super) fn mark_indexed(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE counters SET value = max(value, ?1) WHERE name = 'indexed'")?.execute([id])?;
    Ok(())
}

/// Brings rows that another writer (the TypeScript runner) added into our index, in the order they were written.
pub(super) fn index_new_rows(db: &Connection) -> Result<()> {
    let run = || -> rusqlite::Result<()> {
        if !unindexed(db)? {
            return Ok(());
        }
        let mut statement = db.prepare(
            "SELECT id, thread_id, created_at, events FROM agent_runs
             WHERE id > (SELECT value FROM counters WHERE name = 'indexed') ORDER BY id",
        )?;
        let mut rows = statement.query([])?;
        let mut newest = 0;
        while let Some(row) = rows.next()? {
            let (id, thread_id, created_at): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            newest = id;
            let events = row.get_ref(3)?.as_bytes().unwrap_or_default();
            let (count, ids) = dedup::summarize_run(events);
            let count = signed(count);
            let first_seq = head_seq(db, &thread_id)? + 1;
            // An empty or corrupt row takes a number of its own too, so that each run ends at another.
            let last_seq = first_seq + count.max(1) - 1;
            db.prepare_cached(
                "INSERT OR IGNORE INTO run_index (id, thread_id, first_seq, last_seq, own) VALUES (?1, ?2, ?3, ?4, 0)",
            )?
            .execute(params![id, thread_id, first_seq, last_seq])?;
            add_message_ids(db, &thread_id, ids.iter().map(String::as_str))?;
            touch_thread(db, &thread_id, None, last_seq, true, created_at)?;
        }
        mark_indexed(db, newest)
    };
    run().map_err(store_error)
}

pub(super) fn add_message_ids<'i>(
    db: &Connection,
    thread_id: &str,
    ids: impl Iterator<Item = &'i str>,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO message_ids VALUES (?1, ?2)")?;
    for id in ids {
        insert.execute(params![thread_id, id])?;
    }
    Ok(())
}

/// The thread's last sequence number so far: of a run that left no row the raw frames are kept for a while.
pub(super) fn head_seq(db: &Connection, thread_id: &str) -> rusqlite::Result<i64> {
    db.prepare_cached(
        "SELECT coalesce((SELECT head_seq FROM threads WHERE thread_id = ?1),
           (SELECT last_seq FROM journal_expiry WHERE thread_id = ?1 ORDER BY first_seq DESC LIMIT 1), 0)",
    )?
    .query_row([thread_id], |row| row.get(0))
}

/// Notes on the thread's row that a run of it has ended.
pub(super) fn touch_thread(
    db: &Connection,
    thread_id: &str,
    agent_id: Option<&str>,
    head_seq: i64,
    stored: bool,
    at: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO threads (thread_id, agent_id, head_seq, runs, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)
         ON CONFLICT (thread_id) DO UPDATE SET head_seq = max(head_seq, excluded.head_seq),
           agent_id = coalesce(excluded.agent_id, agent_id), runs = runs + excluded.runs,
           created_at = CASE WHEN runs = 0 THEN excluded.created_at ELSE created_at END,
           updated_at = CASE WHEN excluded.runs > 0 THEN excluded.updated_at ELSE updated_at END",
    )?
    .execute(params![thread_id, agent_id, head_seq, i64::from(stored), at])?;
    Ok(())
}

/// A run whose resume window has ended, with its first and last sequence number.
pub(super) fn expired_journal(db: &Connection) -> rusqlite::Result<Option<(String, i64, i64)>> {
    // Of the first version's runs, that ended while this one was open too, it is a wall clock's time.
    db.prepare_cached(
        "SELECT thread_id, first_seq, last_seq FROM journal_expiry
         WHERE expires_at < ?1 OR (expires_at >= ?2 AND expires_at < ?3) LIMIT 1",
    )?
    .query_row([now_ms(), deadlines::STEADY, deadlines::in_ms(0)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
    .optional()
}

/// Lets go of the journals whose resume window has ended, a bounded number of rows at a time.
pub(super) fn drop_expired_journal(db: &Connection) -> rusqlite::Result<()> {
    let Some((thread_id, first_seq, last_seq)) = expired_journal(db)? else { return Ok(()) };
    db.prepare_cached(
        "DELETE FROM journal WHERE rowid IN (SELECT rowid FROM journal
         WHERE thread_id = ?1 AND first_seq BETWEEN ?2 AND ?3 LIMIT 256)",
    )?
    .execute(params![thread_id, first_seq, last_seq])?;
    let left = db
        .prepare_cached("SELECT 1 FROM journal WHERE thread_id = ?1 AND first_seq BETWEEN ?2 AND ?3")?
        .exists(params![thread_id, first_seq, last_seq])?;
    if !left {
        db.prepare_cached("DELETE FROM journal_expiry WHERE thread_id = ?1 AND first_seq = ?2")?
            .execute(params![thread_id, first_seq])?;
    }
    Ok(())
}

/// Whoever takes a run over goes on behind what can be read of it: what the journal has from that number on, and cannot
/// be read, goes. Normally it has nothing there.
pub(super) fn drop_unreadable(db: &Connection, thread_id: &str, seq: u64) -> Result<()> {
    let reaches = "SELECT first_seq >= ?2 OR first_seq + count > ?2 FROM
      (SELECT first_seq, count FROM journal WHERE thread_id = ?1 ORDER BY first_seq DESC LIMIT 1)";
    let mut reaches = db.prepare_cached(reaches).map_err(store_error)?;
    let kept: Option<bool> =
        reaches.query_row(params![thread_id, signed(seq)], |row| row.get(0)).optional().map_err(store_error)?;
    if kept != Some(true) {
        return Ok(());
    }
    match journal_of(db, thread_id, seq - 1, None, 1) {
        Ok(page) if frames::iter(&page.bytes).next().is_some_and(|frame| is_frame(frame, seq)) => {
            return Err(Error::Store(format!("thread '{thread_id}' has an event {seq} already; nothing was written")));
        }
        Ok(_) | Err(Error::StoreCorrupt(_)) => {}
        Err(error) => return Err(error),
    }
    cut_journal(db, thread_id, signed(seq)).map_err(store_error)
}

fn is_frame(frame: Result<(Cursor, &str)>, seq: u64) -> bool {
    frame.is_ok_and(|(cursor, json)| cursor.seq == seq && Event::parse_str(json).is_ok())
}

/// Removes the thread's raw frames from a sequence number on.
pub(super) fn cut_journal(db: &Connection, thread_id: &str, seq: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM journal WHERE thread_id = ?1 AND first_seq >= ?2", params![thread_id, seq])?;
    let before: Option<(i64, Vec<u8>)> = db
        .prepare("SELECT first_seq, frames FROM journal WHERE thread_id = ?1 ORDER BY first_seq DESC LIMIT 1")?
        .query_row([thread_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((first_seq, frames)) = before {
        let count = unsigned(seq - first_seq).min(frames::count(&frames));
        let kept = &frames[..frames::length_of(&frames, count)];
        db.execute(
            "UPDATE journal SET count = ?3, frames = ?4 WHERE thread_id = ?1 AND first_seq = ?2",
            params![thread_id, first_seq, signed(count), kept],
        )?;
    }
    Ok(())
}

/// Whether the thread has ended runs or a live one: just then it has a row.
pub(super) fn thread_exists(db: &Connection, thread_id: &str) -> Result<bool> {
    exists(db, "SELECT 1 FROM threads WHERE thread_id = ?1", thread_id)
}

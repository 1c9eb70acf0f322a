//! The store's verbs for copying threads from store to store: stored runs whole, and put behind those a thread has.
use rusqlite::{Connection, OptionalExtension, params};

use super::history::{add_message_ids, head_seq, index_new_rows, mark_indexed};
use super::schema::store_error;
use super::store::{SqliteStore, exists, refuse_running, signed, unsigned};
use super::threads::ThreadRow;
use crate::error::{Error, Result};
use crate::{dedup, stored_run};

/// A finished run as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRun {
    /// The run.
    pub run_id: String,
    /// The run before it in its thread; `None` for the first.
    pub parent_run_id: Option<String>,
    /// The sequence number of its first raw event.
    pub first_seq: u64,
    /// The sequence number of its last raw event.
    pub last_seq: u64,
    /// Its compacted events, a JSON array.
    pub events: Vec<u8>,
    /// Its input, a JSON object.
    pub input: String,
    /// When it ended, in milliseconds since 1970.
    pub created_at: i64,
}

impl SqliteStore {
    /// Stored runs that end behind `after`, in the chain's order: about `limit` bytes of them, at least one. One that
    /// cannot be read is left out.
    pub fn runs(
        &self,
        thread_id: String,
        after: u64,
        limit: usize,
        done: impl FnOnce(Result<Vec<StoredRun>>) + Send + 'static,
    ) {
        self.ensure_indexed(move |db| runs(db, &thread_id, after, limit).map_err(store_error), done);
    }

    /// Adds runs behind those the thread has, all or none, and gives it the row's name, agent, scope, mark and times.
    /// Runs it has already are left as they are. Errors: `ThreadAlreadyRunning`; `RunAlreadyExists` for a run id of
    /// another thread; `Store` for runs that cannot be read or do not begin behind the thread's last sequence number.
    pub fn put(&self, thread: ThreadRow, runs: Vec<StoredRun>, done: impl FnOnce(Result<()>) + Send + 'static) {
        self.write(true, move |db| put(db, &thread, runs), done);
    }
}

fn runs(db: &Connection, thread_id: &str, after: u64, limit: usize) -> rusqlite::Result<Vec<StoredRun>> {
    // A thread's rows were indexed in the order of their ids, which is the chain's.
    let mut statement = db.prepare_cached(
        "SELECT run.run_id, (SELECT run_id FROM agent_runs AS earlier
             WHERE earlier.thread_id = run.thread_id AND earlier.id < run.id ORDER BY earlier.id DESC LIMIT 1),
           run_index.first_seq, run_index.last_seq, run_index.own, run.events, run.input, run.created_at
         FROM run_index JOIN agent_runs AS run USING (id)
         WHERE run_index.thread_id = ?1 AND run_index.last_seq > ?2 ORDER BY run_index.last_seq, run_index.id",
    )?;
    let mut rows = statement.query(params![thread_id, signed(after)])?;
    let (mut found, mut size) = (Vec::new(), 0);
    while size < limit.max(1)
        && let Some(row) = rows.next()?
    {
        let run_id: String = row.get(0)?;
        let own: bool = row.get(4)?;
        let ids = if own { None } else { Some((thread_id, run_id.as_str())) };
        let Some(events) =
            row.get_ref(5)?.as_bytes().ok().and_then(|events| stored_run::fill_run_ids(events, ids).ok())
        else {
            continue;
        };
        let input = String::from_utf8_lossy(row.get_ref(6)?.as_bytes().unwrap_or(b"{}")).into_owned();
        size += events.len() + input.len();
        found.push(StoredRun {
            run_id,
            parent_run_id: row.get(1)?,
            first_seq: unsigned(row.get(2)?),
            last_seq: unsigned(row.get(3)?),
            events,
            input,
            created_at: row.get(7)?,
        });
    }
    Ok(found)
}

fn put(db: &Connection, thread: &ThreadRow, runs: Vec<StoredRun>) -> Result<()> {
    index_new_rows(db)?;
    refuse_running(db, &thread.thread_id)?;
    let mut head = unsigned(head_seq(db, &thread.thread_id).map_err(store_error)?);
    let mut new = Vec::with_capacity(runs.len());
    for run in runs {
        let whose: Option<String> = db
            .prepare_cached("SELECT thread_id FROM agent_runs WHERE run_id = ?1")
            .and_then(|mut statement| statement.query_row([&run.run_id], |row| row.get(0)).optional())
            .map_err(store_error)?;
        if whose.as_deref() == Some(&thread.thread_id) {
            continue;
        }
        if whose.is_some() || exists(db, "SELECT 1 FROM live_runs WHERE run_id = ?1", &run.run_id)? {
            return Err(Error::RunAlreadyExists(run.run_id));
        }
        if run.first_seq <= head || run.last_seq < run.first_seq {
            return Err(Error::Store(format!(
                "run '{}', from {} to {}, does not fit behind the runs of thread '{}', which end at {head}",
                run.run_id, run.first_seq, run.last_seq, thread.thread_id
            )));
        }
        head = run.last_seq;
        new.push(run);
    }
    new.iter().try_for_each(|run| insert(db, &thread.thread_id, run))?;
    set_thread(db, thread, signed(head)).map_err(store_error)
}

fn insert(db: &Connection, thread_id: &str, run: &StoredRun) -> Result<()> {
    let unreadable = |error| Error::Store(format!("run '{}' cannot be read: {error}", run.run_id));
    stored_run::fill_run_ids(&run.events, None).map_err(unreadable)?;
    let text = std::str::from_utf8(&run.events).expect("just read");
    let write = || -> rusqlite::Result<()> {
        let last: Option<(String, i64)> = db
            .prepare_cached("SELECT run_id, created_at FROM agent_runs WHERE thread_id = ?1 ORDER BY id DESC LIMIT 1")?
            .query_row([thread_id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // The TypeScript runner orders by time alone: time must not run backwards along the chain.
        let created_at = last.as_ref().map_or(run.created_at, |(_, earlier)| run.created_at.max(*earlier));
        db.prepare_cached(
            "INSERT INTO agent_runs (thread_id, run_id, parent_run_id, events, input, created_at, version)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)",
        )?
        .execute(params![
            thread_id,
            run.run_id,
            last.map(|(parent, _)| parent),
            text,
            run.input,
            created_at
        ])?;
        let id = db.last_insert_rowid();
        db.prepare_cached(
            "INSERT INTO run_index (id, thread_id, first_seq, last_seq, own) VALUES (?1, ?2, ?3, ?4, 1)",
        )?
        .execute(params![id, thread_id, signed(run.first_seq), signed(run.last_seq)])?;
        mark_indexed(db, id)?;
        add_message_ids(db, thread_id, dedup::summarize_run(&run.events).1.iter().map(String::as_str))
    };
    write().map_err(store_error)
}

/// Writes the thread's row; one that has no run gets none.
fn set_thread(db: &Connection, thread: &ThreadRow, head_seq: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO threads (thread_id, name, archived, agent_id, scope, head_seq, runs, created_at, updated_at,
           oldest_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, count(*), ?7, ?8,
           (SELECT created_at FROM agent_runs WHERE thread_id = ?1 ORDER BY id LIMIT 1)
         FROM run_index WHERE thread_id = ?1 HAVING count(*) > 0
         ON CONFLICT (thread_id) DO UPDATE SET name = excluded.name, archived = excluded.archived,
           agent_id = excluded.agent_id, scope = excluded.scope, head_seq = excluded.head_seq, runs = excluded.runs,
           created_at = excluded.created_at, updated_at = excluded.updated_at, oldest_at = excluded.oldest_at",
    )?
    .execute(params![
        thread.thread_id,
        thread.name,
        thread.archived,
        thread.agent_id,
        thread.scope,
        head_seq,
        thread.created_at,
        thread.updated_at
    ])?;
    Ok(())
}

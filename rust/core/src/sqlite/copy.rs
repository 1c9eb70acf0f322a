//! The store's operations for copying threads from one store to another.
use rusqlite::{Connection, OptionalExtension, params};

use super::guard::{find_base, with_snapshot};
use super::index::{add_entries, index_new_rows, index_own_run};
use super::run_ids::{self, from_stored};
use super::sql::{from_sql, next_token, refuse_running, store_error, to_sql};
use super::store::SqliteStore;
use super::thread_rows::head_seq;
use super::types::{StoredRun, Target, ThreadRow};
use crate::error::{Error, Result};
use crate::{dedup, stored_run};

impl SqliteStore {
    /// Return the stored runs that end after a sequence number, in order: about `limit` bytes, at least one run.
    ///
    /// A run that cannot be read is skipped.
    pub fn runs(
        &self,
        thread: impl Into<Target>,
        after: u64,
        limit: usize,
        done: impl FnOnce(Result<Vec<StoredRun>>) + Send + 'static,
    ) {
        let thread = thread.into();
        self.read_indexed(move |db| with_snapshot(db, |db| runs(db, &thread, after, limit)).map_err(store_error), done);
    }

    /// Add runs after those the thread has, all or none, and set its name, agent, scope, archived mark and times.
    ///
    /// Runs the thread has already stay as they are. Errors: `ThreadAlreadyRunning`; `Store` for runs that cannot be read or do not begin after the thread's last sequence number.
    pub fn put(&self, thread: ThreadRow, runs: Vec<StoredRun>, done: impl FnOnce(Result<()>) + Send + 'static) {
        self.write(true, move |db| put(db, &thread, runs), done);
    }
}

fn runs(db: &Connection, thread: &Target, after: u64, limit: usize) -> rusqlite::Result<Vec<StoredRun>> {
    if find_base(db, thread)?.is_none() {
        return Ok(Vec::new());
    }
    let thread_id = thread.thread_id.as_str();
    // A thread's runs were indexed in the order of their row ids, so the row before is the parent.
    let mut statement = db.prepare_cached(
        "SELECT run.run_id, (SELECT run_id FROM agent_runs AS earlier
             WHERE earlier.thread_id = run.thread_id AND earlier.id < run.id ORDER BY earlier.id DESC LIMIT 1),
           run_index.first_seq, run_index.last_seq, run_index.own, run.events, run.input, run.created_at
         FROM run_index JOIN agent_runs AS run USING (id)
         WHERE run_index.thread_id = ?1 AND run_index.last_seq > ?2 ORDER BY run_index.last_seq, run_index.id",
    )?;
    let mut rows = statement.query(params![thread_id, to_sql(after)])?;
    let (mut stored_runs, mut size) = (Vec::new(), 0);
    while size < limit.max(1)
        && let Some(row) = rows.next()?
    {
        let run_id = from_stored(row.get(0)?, thread_id);
        let is_own: bool = row.get(4)?;
        // The `RUN_FINISHED` of our own runs has its ids; that of another writer may lack them.
        let ids = if is_own { None } else { Some((thread_id, run_id.as_str())) };
        let Some(events) =
            row.get_ref(5)?.as_bytes().ok().and_then(|events| stored_run::fill_run_ids(events, ids).ok())
        else {
            continue;
        };
        let input = String::from_utf8_lossy(row.get_ref(6)?.as_bytes().unwrap_or(b"{}")).into_owned();
        size += events.len() + input.len();
        stored_runs.push(StoredRun {
            run_id,
            parent_run_id: row.get::<_, Option<String>>(1)?.map(|parent| from_stored(parent, thread_id)),
            first_seq: from_sql(row.get(2)?),
            last_seq: from_sql(row.get(3)?),
            events,
            input,
            created_at: row.get(7)?,
        });
    }
    Ok(stored_runs)
}

fn put(db: &Connection, thread: &ThreadRow, runs: Vec<StoredRun>) -> Result<()> {
    // Rows that another writer added belong to the thread, so they get their numbers first.
    index_new_rows(db)?;
    refuse_running(db, &thread.thread_id)?;
    let mut head = from_sql(head_seq(db, &thread.thread_id).map_err(store_error)?);
    let mut new = Vec::with_capacity(runs.len());
    for run in runs {
        let stored_id = match run_ids::to_stored(db, &thread.thread_id, &run.run_id) {
            // A copy that failed half way may be repeated, so runs that are there are skipped.
            Err(Error::RunAlreadyExists(_)) => continue,
            stored_id => stored_id?,
        };
        if run.first_seq <= head || run.last_seq < run.first_seq {
            return Err(Error::Store(format!(
                "run '{}', from {} to {}, does not follow the runs of thread '{}', which end at {head}; nothing was written",
                run.run_id, run.first_seq, run.last_seq, thread.thread_id
            )));
        }
        head = run.last_seq;
        new.push((stored_id, run));
    }
    // All runs are checked before the first is written, so the error is about the first bad one.
    new.iter().try_for_each(|(stored_id, run)| insert(db, &thread.thread_id, stored_id, run))?;
    set_thread(db, thread, to_sql(head)).map_err(store_error)
}

fn insert(db: &Connection, thread_id: &str, stored_id: &str, run: &StoredRun) -> Result<()> {
    let unreadable =
        |error| Error::Store(format!("run '{}' cannot be read, and nothing was written: {error}", run.run_id));
    // Called only for its error, which says what is wrong with the events.
    stored_run::fill_run_ids(&run.events, None).map_err(unreadable)?;
    let text = std::str::from_utf8(&run.events).expect("it was read above");
    let write = || -> rusqlite::Result<()> {
        let last: Option<(String, i64)> = db
            .prepare_cached("SELECT run_id, created_at FROM agent_runs WHERE thread_id = ?1 ORDER BY id DESC LIMIT 1")?
            .query_row([thread_id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // The TypeScript runner orders runs by time alone, so the times must not decrease along the chain.
        let created_at = last.as_ref().map_or(run.created_at, |(_, earlier)| run.created_at.max(*earlier));
        db.prepare_cached(
            "INSERT INTO agent_runs (thread_id, run_id, parent_run_id, events, input, created_at, version)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)",
        )?
        .execute(params![
            thread_id,
            stored_id,
            last.map(|(parent, _)| parent),
            text,
            run.input,
            created_at
        ])?;
        let id = db.last_insert_rowid();
        let last_seq = to_sql(run.last_seq);
        index_own_run(db, id, thread_id, to_sql(run.first_seq), last_seq)?;
        add_entries(db, thread_id, dedup::summarize_run(&run.events).1.iter().map(String::as_str), last_seq)
    };
    write().map_err(store_error)
}

/// Write the thread's row; a thread without a run gets none.
fn set_thread(db: &Connection, thread: &ThreadRow, head_seq: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO threads (thread_id, name, archived, agent_id, scope, head_seq, runs, created_at, updated_at,
           oldest_at, incarnation)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, count(*), ?7, ?8,
           (SELECT created_at FROM agent_runs WHERE thread_id = ?1 ORDER BY id LIMIT 1), ?9
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
        thread.updated_at,
        next_token(db)?
    ])?;
    db.prepare_cached("DELETE FROM leftovers WHERE thread_id = ?1")?.execute([&thread.thread_id])?;
    Ok(())
}

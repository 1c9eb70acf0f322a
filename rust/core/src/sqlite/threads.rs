//! The store's verbs for threads: list, rename, archive, delete, clear.
use rusqlite::{Connection, params};

use super::history::{index_new_rows, thread_exists};
use super::schema::store_error;
use super::store::{SqliteStore, exists};
use crate::error::{Error, Result};

/// A thread as the list shows it; times in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadRow {
    /// The thread.
    pub thread_id: String,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// The agent of its last run, where known.
    pub agent_id: Option<String>,
    /// Whether it is archived.
    pub archived: bool,
    /// Whether a run is live.
    pub running: bool,
    /// How many runs are stored.
    pub runs: i64,
    /// When its first run ended.
    pub created_at: i64,
    /// When its last run ended.
    pub updated_at: i64,
}

/// Everything a thread has, by table.
const TABLES: &[&str] =
    &["agent_runs", "run_state", "journal", "journal_expiry", "message_ids", "run_index", "threads"];

impl SqliteStore {
    /// Threads with at least one stored run, the most recently updated first; `before` is the `(updated_at, thread_id)`
    /// of the last one of the page before.
    pub fn threads(
        &self,
        limit: u32,
        before: Option<(i64, String)>,
        include_archived: bool,
        agent_id: Option<String>,
        done: impl FnOnce(Result<Vec<ThreadRow>>) + Send + 'static,
    ) {
        let work = move |db: &Connection| {
            let (at, thread) = before.unwrap_or((i64::MAX, String::new()));
            list(db, limit, at, &thread, include_archived, agent_id.as_deref()).map_err(store_error)
        };
        self.ensure_indexed(work, done);
    }

    /// Gives the thread a name, or takes it away. Error: `ThreadNotFound`.
    pub fn rename(&self, thread_id: String, name: Option<String>, done: impl FnOnce(Result<()>) + Send + 'static) {
        let sql = "UPDATE threads SET name = ?2 WHERE thread_id = ?1";
        self.write(true, move |db| update(db, sql, &thread_id, name), done);
    }

    /// Marks the thread as archived or not. Error: `ThreadNotFound`.
    pub fn archive(&self, thread_id: String, archived: bool, done: impl FnOnce(Result<()>) + Send + 'static) {
        let sql = "UPDATE threads SET archived = ?2 WHERE thread_id = ?1";
        self.write(true, move |db| update(db, sql, &thread_id, archived), done);
    }

    /// Removes the thread and all it has. Errors: `ThreadNotFound`, `ThreadAlreadyRunning`.
    pub fn delete(&self, thread_id: String, done: impl FnOnce(Result<()>) + Send + 'static) {
        let work = move |db: &Connection| {
            index_new_rows(db)?;
            if !thread_exists(db, &thread_id)? {
                return Err(not_found(&thread_id));
            }
            if exists(db, "SELECT 1 FROM live_runs WHERE thread_id = ?1", &thread_id)? {
                return Err(Error::ThreadAlreadyRunning);
            }
            for table in TABLES {
                let sql = format!("DELETE FROM {table} WHERE thread_id = ?1");
                db.prepare_cached(&sql).and_then(|mut delete| delete.execute([&thread_id])).map_err(store_error)?;
            }
            Ok(())
        };
        self.write(true, work, done);
    }

    /// Removes every thread that has no live run.
    pub fn clear(&self, done: impl FnOnce(Result<()>) + Send + 'static) {
        let work = move |db: &Connection| {
            index_new_rows(db)?;
            for table in TABLES {
                let sql = format!("DELETE FROM {table} WHERE thread_id NOT IN (SELECT thread_id FROM live_runs)");
                db.execute(&sql, []).map_err(store_error)?;
            }
            Ok(())
        };
        self.write(true, work, done);
    }
}

fn list(
    db: &Connection,
    limit: u32,
    at: i64,
    thread: &str,
    include_archived: bool,
    agent_id: Option<&str>,
) -> rusqlite::Result<Vec<ThreadRow>> {
    let mut statement = db.prepare_cached(
        "SELECT thread_id, name, agent_id, archived,
           EXISTS (SELECT 1 FROM live_runs WHERE live_runs.thread_id = threads.thread_id), runs, created_at, updated_at
         FROM threads WHERE runs > 0 AND (updated_at, thread_id) < (?1, ?2) AND (?3 OR NOT archived)
           AND (?4 IS NULL OR agent_id = ?4) ORDER BY updated_at DESC, thread_id DESC LIMIT ?5",
    )?;
    let rows = statement.query_map(params![at, thread, include_archived, agent_id, limit], |row| {
        Ok(ThreadRow {
            thread_id: row.get(0)?,
            name: row.get(1)?,
            agent_id: row.get(2)?,
            archived: row.get(3)?,
            running: row.get(4)?,
            runs: row.get(5)?,
            created_at: row.get(6)?,
            updated_at: row.get(7)?,
        })
    })?;
    rows.collect()
}

fn update(db: &Connection, sql: &str, thread_id: &str, value: impl rusqlite::ToSql) -> Result<()> {
    index_new_rows(db)?;
    if !thread_exists(db, thread_id)? {
        return Err(not_found(thread_id));
    }
    db.prepare_cached(sql).and_then(|mut update| update.execute(params![thread_id, value])).map_err(store_error)?;
    Ok(())
}

fn not_found(thread_id: &str) -> Error {
    Error::ThreadNotFound(format!("there is no thread '{thread_id}'"))
}

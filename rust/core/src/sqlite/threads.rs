//! The store's verbs for threads: list, rename, archive, delete, clear.
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::history::{head_seq, index_new_rows, thread_exists};
use super::records;
use super::schema::{now_ms, store_error};
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
    /// When its first run ended; while that is live, when it began.
    pub created_at: i64,
    /// When its last run ended; while the first is live, when that began.
    pub updated_at: i64,
    /// Whose it is.
    pub scope: Option<String>,
}

/// Whose threads a verb is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// All.
    Everyones,
    /// Those of one scope, or those of none.
    Only(Option<String>),
}

/// Everything a thread has, by table; records apart, which may also be a thread's that is none.
const TABLES: &[&str] =
    &["agent_runs", "run_state", "journal", "journal_expiry", "message_ids", "run_index", "threads"];

impl SqliteStore {
    /// Threads with a stored run or a live one, the most recently updated first; `before` is the `(updated_at, thread_id)`
    /// of the last one of the page before.
    pub fn threads(
        &self,
        limit: u32,
        before: Option<(i64, String)>,
        include_archived: bool,
        agent_id: Option<String>,
        whose: Whose,
        done: impl FnOnce(Result<Vec<ThreadRow>>) + Send + 'static,
    ) {
        let work = move |db: &Connection| {
            let (at, thread) = before.unwrap_or((i64::MAX, String::new()));
            list(db, limit, at, &thread, include_archived, agent_id.as_deref(), &whose).map_err(store_error)
        };
        self.ensure_indexed(work, done);
    }

    /// The thread, also one whose first run is live. Error: `ThreadNotFound`.
    pub fn thread(&self, thread_id: String, done: impl FnOnce(Result<ThreadRow>) + Send + 'static) {
        let work = move |db: &Connection| match find(db, &thread_id).map_err(store_error)? {
            Some(row) => Ok(row),
            None => Err(not_found(&thread_id)),
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
            records::forget(db, &thread_id).map_err(store_error)
        };
        self.write(true, work, done);
    }

    /// Removes every thread of those that has no live run.
    pub fn clear(&self, whose: Whose, done: impl FnOnce(Result<()>) + Send + 'static) {
        let work = move |db: &Connection| {
            index_new_rows(db)?;
            let (chosen, scope) = match &whose {
                Whose::Everyones => ("", None),
                // A thread without a row of its own has no scope. The rows go last: they tell whose the rest is.
                Whose::Only(None) => {
                    ("AND thread_id NOT IN (SELECT thread_id FROM threads WHERE scope IS NOT NULL)", None)
                }
                Whose::Only(scope) => {
                    ("AND thread_id IN (SELECT thread_id FROM threads WHERE scope = ?1)", scope.as_ref())
                }
            };
            let live = "thread_id NOT IN (SELECT thread_id FROM live_runs)";
            let there = "thread_id IN (SELECT thread_id FROM threads)";
            let scope: &[&dyn ToSql] = if scope.is_some() { &[&scope] } else { &[] };
            let delete = |sql: String| db.execute(&sql, scope).map(|_| ()).map_err(store_error);
            delete(format!("DELETE FROM records WHERE {live} AND {there} {chosen}"))?;
            TABLES.iter().try_for_each(|table| delete(format!("DELETE FROM {table} WHERE {live} {chosen}")))
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
    whose: &Whose,
) -> rusqlite::Result<Vec<ThreadRow>> {
    let scope = if let Whose::Only(Some(scope)) = whose { Some(scope) } else { None };
    db.prepare_cached(&list_sql(whose))?
        .query_map(params![at, thread, include_archived, agent_id, limit, scope], read_row)?
        .collect()
}

fn list_sql(whose: &Whose) -> String {
    // In words that let the index of scopes be used.
    let chosen = if *whose == Whose::Everyones { "?6 IS NULL" } else { "scope IS ?6" };
    format!(
        "SELECT {COLUMNS} FROM threads WHERE {chosen} AND (updated_at, thread_id) < (?1, ?2)
           AND (?3 OR NOT archived) AND (?4 IS NULL OR agent_id = ?4) ORDER BY updated_at DESC, thread_id DESC LIMIT ?5"
    )
}

fn find(db: &Connection, thread_id: &str) -> rusqlite::Result<Option<ThreadRow>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM threads WHERE thread_id = ?1"))?
        .query_row([thread_id], read_row)
        .optional()
}

/// What [`read_row`] reads.
const COLUMNS: &str = "thread_id, name, agent_id, archived,
    EXISTS (SELECT 1 FROM live_runs WHERE live_runs.thread_id = threads.thread_id), runs, created_at, updated_at, scope";

fn read_row(row: &Row<'_>) -> rusqlite::Result<ThreadRow> {
    Ok(ThreadRow {
        thread_id: row.get(0)?,
        name: row.get(1)?,
        agent_id: row.get(2)?,
        archived: row.get(3)?,
        running: row.get(4)?,
        runs: row.get(5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
        scope: row.get(8)?,
    })
}

/// Refuses, as if it were not there, a thread of another scope. One that a TypeScript runner is at has none.
pub(super) fn check_scope(db: &Connection, thread_id: &str, scope: Option<&str>) -> Result<()> {
    let found: Option<Option<String>> = db
        .prepare_cached("SELECT scope FROM threads WHERE thread_id = ?1")
        .and_then(|mut statement| statement.query_row([thread_id], |row| row.get(0)).optional())
        .map_err(store_error)?;
    let same = match found {
        Some(found) => found.as_deref() == scope,
        None => {
            scope.is_none()
                || !exists(db, "SELECT 1 FROM run_state WHERE thread_id = ?1 AND is_running <> 0", thread_id)?
        }
    };
    if same { Ok(()) } else { Err(not_found(thread_id)) }
}

/// Makes a new thread's row with the claim of its first run: whose it is holds from then on.
pub(super) fn begin(
    db: &Connection,
    thread_id: &str,
    agent_id: Option<&str>,
    scope: Option<&str>,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO threads (thread_id, agent_id, scope, head_seq, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT DO NOTHING",
    )?
    .execute(params![thread_id, agent_id, scope, head_seq(db, thread_id)?, now_ms()])?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_a_scope_reads_its_part_of_an_index() {
        let db = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&db, std::path::Path::new("memory")).unwrap();
        for (whose, index) in [
            (Whose::Only(Some("a".into())), "INDEX threads_scope (scope=? AND"),
            (Whose::Only(None), "INDEX threads_scope (scope=? AND"),
            (Whose::Everyones, "INDEX threads_updated ("),
        ] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {}", list_sql(&whose))).unwrap();
            let steps = plan.query_map([rusqlite::types::Null; 6], |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.collect::<rusqlite::Result<_>>().unwrap();
            assert!(steps[0].contains(index), "{steps:?}");
            assert!(!steps.iter().any(|step| step.contains("SORT") || step.contains("B-TREE")), "{steps:?}");
        }
    }
}

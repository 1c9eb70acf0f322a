//! The store's operations for threads: list, rename, archive, delete, move, clear.
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::guard::{find_base, with_snapshot};
use super::index::{index_new_rows, thread_exists};
use super::records::remove_records;
use super::sql::{exists, refuse_running, store_error, thread_not_found};
use super::store::SqliteStore;
use super::types::{ScopeFilter, Target, ThreadRow};
use crate::error::{Error, Result};

/// The tables with a thread's data. Records are apart, because they may belong to a thread that has no row.
const TABLES: &[&str] =
    &["agent_runs", "run_state", "journal", "journal_expiry", "entries", "run_index", "leftovers", "threads"];

impl SqliteStore {
    /// List threads with a stored run or a live one, the most recently updated first.
    ///
    /// `before` is the `(updated_at, thread_id)` of the last thread of the page before.
    pub fn threads(
        &self,
        limit: u32,
        before: Option<(i64, String)>,
        include_archived: bool,
        agent_id: Option<String>,
        scope: ScopeFilter,
        done: impl FnOnce(Result<Vec<ThreadRow>>) + Send + 'static,
    ) {
        let work = move |db: &Connection| {
            let (time, thread) = before.unwrap_or((i64::MAX, String::new()));
            list(db, limit, time, &thread, include_archived, agent_id.as_deref(), &scope).map_err(store_error)
        };
        self.read_indexed(work, done);
    }

    /// Return a thread, also one whose first run is live. Error: `ThreadNotFound`.
    pub fn thread(&self, thread: impl Into<Target>, done: impl FnOnce(Result<ThreadRow>) + Send + 'static) {
        let thread = thread.into();
        let work = move |db: &Connection| {
            let row = with_snapshot(db, |db| match find_base(db, &thread)? {
                Some(_) => find(db, &thread.thread_id),
                None => Ok(None),
            });
            row.map_err(store_error)?.ok_or_else(|| thread_not_found(&thread.thread_id))
        };
        self.read_indexed(work, done);
    }

    /// Set the thread's name, or remove it. Error: `ThreadNotFound`.
    pub fn rename(
        &self,
        thread: impl Into<Target>,
        name: Option<String>,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let (sql, thread) = ("UPDATE threads SET name = ?2 WHERE thread_id = ?1", thread.into());
        self.write(true, move |db| update(db, sql, &thread, name), done);
    }

    /// Archive the thread, or undo that. Error: `ThreadNotFound`.
    pub fn archive(&self, thread: impl Into<Target>, archived: bool, done: impl FnOnce(Result<()>) + Send + 'static) {
        let (sql, thread) = ("UPDATE threads SET archived = ?2 WHERE thread_id = ?1", thread.into());
        self.write(true, move |db| update(db, sql, &thread, archived), done);
    }

    /// Remove the thread with all its data. Errors: `ThreadNotFound`, `ThreadAlreadyRunning`.
    pub fn delete(&self, thread: impl Into<Target>, done: impl FnOnce(Result<()>) + Send + 'static) {
        let thread = thread.into();
        let work = move |db: &Connection| {
            index_new_rows(db)?;
            require(db, &thread)?;
            let thread_id = &thread.thread_id;
            // A live run would keep writing to a thread that no longer exists.
            if exists(db, "SELECT 1 FROM live_runs WHERE thread_id = ?1", thread_id)? {
                return Err(Error::ThreadAlreadyRunning);
            }
            for table in TABLES {
                let sql = format!("DELETE FROM {table} WHERE thread_id = ?1");
                db.prepare_cached(&sql).and_then(|mut delete| delete.execute([thread_id])).map_err(store_error)?;
            }
            remove_records(db, thread_id).map_err(store_error)
        };
        self.remove(work, done);
    }

    /// Move the thread to another scope. Errors: `ThreadNotFound`, `ThreadAlreadyRunning`.
    pub fn move_thread(
        &self,
        thread: impl Into<Target>,
        scope: Option<String>,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let thread = thread.into();
        let work = move |db: &Connection| {
            index_new_rows(db)?;
            require(db, &thread)?;
            refuse_running(db, &thread.thread_id)?;
            db.prepare_cached("UPDATE threads SET scope = ?2 WHERE thread_id = ?1")
                .and_then(|mut update| update.execute(params![thread.thread_id, scope]))
                .map_err(store_error)?;
            Ok(())
        };
        self.write(true, work, done);
    }

    /// Remove every thread of a scope that has no live run.
    pub fn clear(&self, scope: ScopeFilter, done: impl FnOnce(Result<()>) + Send + 'static) {
        let work = move |db: &Connection| {
            index_new_rows(db)?;
            let (condition, scope) = match &scope {
                ScopeFilter::Any => ("", None),
                // A thread without a row has no scope. The rows are deleted last, because the other tables need them
                // to tell the scope of their threads.
                ScopeFilter::Only(None) => {
                    ("AND thread_id NOT IN (SELECT thread_id FROM threads WHERE scope IS NOT NULL)", None)
                }
                ScopeFilter::Only(scope) => {
                    ("AND thread_id IN (SELECT thread_id FROM threads WHERE scope = ?1)", scope.as_ref())
                }
            };
            let not_live = "thread_id NOT IN (SELECT thread_id FROM live_runs)";
            let has_row = "thread_id IN (SELECT thread_id FROM threads)";
            let scope: &[&dyn ToSql] = if scope.is_some() { &[&scope] } else { &[] };
            let delete = |sql: String| db.execute(&sql, scope).map(|_| ()).map_err(store_error);
            // Records of a thread without a row are of no scope, so they stay.
            delete(format!("DELETE FROM records WHERE {not_live} AND {has_row} {condition}"))?;
            TABLES.iter().try_for_each(|table| delete(format!("DELETE FROM {table} WHERE {not_live} {condition}")))
        };
        self.remove(work, done);
    }
}

fn list(
    db: &Connection,
    limit: u32,
    before_time: i64,
    before_thread: &str,
    include_archived: bool,
    agent_id: Option<&str>,
    filter: &ScopeFilter,
) -> rusqlite::Result<Vec<ThreadRow>> {
    let scope = if let ScopeFilter::Only(Some(scope)) = filter { Some(scope) } else { None };
    db.prepare_cached(&list_sql(filter))?
        .query_map(params![before_time, before_thread, include_archived, agent_id, limit, scope], read_row)?
        .collect()
}

fn list_sql(filter: &ScopeFilter) -> String {
    // `IS` matches NULL as well as a scope, and lets SQLite use the index of scopes for both.
    let condition = if *filter == ScopeFilter::Any { "?6 IS NULL" } else { "scope IS ?6" };
    format!(
        "SELECT {COLUMNS} FROM threads WHERE {condition} AND (updated_at, thread_id) < (?1, ?2)
           AND (?3 OR NOT archived) AND (?4 IS NULL OR agent_id = ?4) ORDER BY updated_at DESC, thread_id DESC LIMIT ?5"
    )
}

fn find(db: &Connection, thread_id: &str) -> rusqlite::Result<Option<ThreadRow>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM threads WHERE thread_id = ?1"))?
        .query_row([thread_id], read_row)
        .optional()
}

/// The columns [`read_row`] reads.
const COLUMNS: &str = "thread_id, name, agent_id, archived,
    EXISTS (SELECT 1 FROM live_runs WHERE live_runs.thread_id = threads.thread_id), runs, created_at, updated_at, scope,
    incarnation";

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
        incarnation: row.get(9)?,
    })
}

/// Refuse a thread of another scope, as if it did not exist. A thread that a TypeScript runner runs has no scope.
pub(super) fn check_scope(db: &Connection, thread_id: &str, scope: Option<&str>) -> Result<()> {
    let owner: Option<Option<String>> = db
        .prepare_cached("SELECT scope FROM threads WHERE thread_id = ?1")
        .and_then(|mut statement| statement.query_row([thread_id], |row| row.get(0)).optional())
        .map_err(store_error)?;
    let is_allowed = match owner {
        Some(owner) => owner.as_deref() == scope,
        None => {
            scope.is_none()
                || !exists(db, "SELECT 1 FROM run_state WHERE thread_id = ?1 AND is_running <> 0", thread_id)?
        }
    };
    if is_allowed { Ok(()) } else { Err(thread_not_found(thread_id)) }
}

fn update(db: &Connection, sql: &str, thread: &Target, value: impl rusqlite::ToSql) -> Result<()> {
    // A thread of another writer has a row only once its runs are indexed.
    index_new_rows(db)?;
    require(db, thread)?;
    db.prepare_cached(sql)
        .and_then(|mut update| update.execute(params![thread.thread_id, value]))
        .map_err(store_error)?;
    Ok(())
}

/// Refuse a thread that does not exist, or is not the one that is meant.
fn require(db: &Connection, thread: &Target) -> Result<()> {
    if find_base(db, thread).map_err(store_error)?.is_some() && thread_exists(db, &thread.thread_id)? {
        return Ok(());
    }
    Err(thread_not_found(&thread.thread_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_only_its_part_of_an_index() {
        let db = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&db, std::path::Path::new("memory")).unwrap();
        for (filter, index) in [
            (ScopeFilter::Only(Some("a".into())), "INDEX threads_scope (scope=? AND"),
            (ScopeFilter::Only(None), "INDEX threads_scope (scope=? AND"),
            (ScopeFilter::Any, "INDEX threads_updated ("),
        ] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {}", list_sql(&filter))).unwrap();
            let steps = plan.query_map([rusqlite::types::Null; 6], |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.collect::<rusqlite::Result<_>>().unwrap();
            assert!(steps[0].contains(index), "{steps:?}");
            assert!(!steps.iter().any(|step| step.contains("SORT") || step.contains("B-TREE")), "{steps:?}");
        }
    }
}

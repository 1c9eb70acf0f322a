//! Guards: an operation goes by a thread's scope and incarnation where its caller names them, not by its id alone.
use rusqlite::{Connection, OptionalExtension};

use super::types::{ScopeFilter, Target};

impl From<String> for Target {
    fn from(thread_id: String) -> Self {
        Self { thread_id, scope: ScopeFilter::Any, incarnation: None }
    }
}

impl From<&str> for Target {
    fn from(thread_id: &str) -> Self {
        Self::from(thread_id.to_owned())
    }
}

impl Target {
    fn is_any(&self) -> bool {
        self.scope == ScopeFilter::Any && self.incarnation.is_none()
    }

    fn matches(&self, scope: Option<&str>, incarnation: i64) -> bool {
        let is_in_scope = match &self.scope {
            ScopeFilter::Any => true,
            ScopeFilter::Only(expected) => expected.as_deref() == scope,
        };
        is_in_scope && self.incarnation.is_none_or(|expected| expected == incarnation)
    }
}

/// Return the last sequence number before the thread's own; `None` if the thread is not the one that is meant.
pub(super) fn find_base(db: &Connection, target: &Target) -> rusqlite::Result<Option<i64>> {
    // A thread whose only run was not stored has no row, but its raw frames can still be read.
    let row: Option<(Option<String>, i64, i64)> = db
        .prepare_cached(
            "SELECT scope, incarnation, base_seq FROM threads WHERE thread_id = ?1
             UNION ALL SELECT scope, incarnation, base_seq FROM leftovers WHERE thread_id = ?1 LIMIT 1",
        )?
        .query_row([&target.thread_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(match row {
        Some((scope, incarnation, base)) => target.matches(scope.as_deref(), incarnation).then_some(base),
        None => target.is_any().then_some(0),
    })
}

/// Run several reads on one state of the file.
pub(super) fn with_snapshot<T>(
    db: &Connection,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    // The writer reads within its own transaction.
    if !db.is_autocommit() {
        return read(db);
    }
    let snapshot = db.unchecked_transaction()?;
    read(&snapshot)
}

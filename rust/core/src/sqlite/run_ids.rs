//! Run ids in the file. They are unique within a thread, but the TypeScript runner's table needs them unique in the file.
use rusqlite::{Connection, OptionalExtension};

use super::sql::store_error;
use crate::error::{Error, Result};

/// The character between a run id and its thread's id. No id contains it.
const SEPARATOR: char = '\0';

/// Return the text under which the file keeps a new run's id. Error: `RunAlreadyExists` if its thread has had the id.
pub(super) fn to_stored(db: &Connection, thread_id: &str, run_id: &str) -> Result<String> {
    let qualified = qualify(thread_id, run_id);
    let plain_owner = find_thread(db, run_id).map_err(store_error)?;
    let is_used =
        plain_owner.as_deref() == Some(thread_id) || find_thread(db, &qualified).map_err(store_error)?.is_some();
    if is_used {
        return Err(Error::RunAlreadyExists(run_id.into()));
    }
    Ok(if plain_owner.is_some() { qualified } else { run_id.into() })
}

/// Return the id of a run from the text that the file keeps.
pub(super) fn from_stored(mut stored: String, thread_id: &str) -> String {
    if let Some(run_id) = stored.strip_suffix(thread_id).and_then(|rest| rest.strip_suffix(SEPARATOR)) {
        stored.truncate(run_id.len());
    }
    stored
}

/// Return the text for a run whose id another thread of the file has too.
pub(super) fn qualify(thread_id: &str, run_id: &str) -> String {
    format!("{run_id}{SEPARATOR}{thread_id}")
}

fn find_thread(db: &Connection, stored: &str) -> rusqlite::Result<Option<String>> {
    db.prepare_cached(
        "SELECT thread_id FROM agent_runs WHERE run_id = ?1 UNION ALL SELECT thread_id FROM live_runs WHERE run_id = ?1",
    )?
    .query_row([stored], |row| row.get(0))
    .optional()
}

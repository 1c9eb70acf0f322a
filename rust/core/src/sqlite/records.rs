//! The store's operations for records: small values beside the runs, changed by compare and set.
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::cleanup::Removed;
use super::sql::store_error;
use super::store::SqliteStore;
use super::types::{Change, Claim, Record};
use crate::error::{Error, Result};

impl SqliteStore {
    /// Return a record, if it exists.
    pub fn record(&self, kind: String, key: String, done: impl FnOnce(Result<Option<Record>>) + Send + 'static) {
        self.read(move |db| find(db, &kind, &key).map_err(store_error), done);
    }

    /// Return records of a kind, of a thread, or all, in the byte order of their addresses, after one of these.
    pub fn records(
        &self,
        kind: Option<String>,
        thread_id: Option<String>,
        after: Option<(String, String)>,
        limit: u32,
        done: impl FnOnce(Result<Vec<Record>>) + Send + 'static,
    ) {
        let work = move |db: &Connection| {
            read_page(db, kind.as_deref(), thread_id.as_deref(), after.unwrap_or_default(), limit).map_err(store_error)
        };
        self.read(work, done);
    }

    /// Make all the changes or none; return the new versions, 0 for a removed record.
    ///
    /// With a claim, only while it holds its thread. Errors: `LeaseLost`; `RecordConflict` for another version than the
    /// expected one, or another thread.
    pub fn write_records(
        &self,
        changes: Vec<Change>,
        claim: Option<Claim>,
        done: impl FnOnce(Result<Vec<i64>>) + Send + 'static,
    ) {
        let (leases, removals) = (self.leases.clone(), self.removals.clone());
        let work = move |db: &Connection| {
            if let Some(claim) = claim {
                // The lease is checked in the same transaction, so an owner that lost it changes nothing.
                leases.extend(db, &claim)?;
            }
            if changes.iter().any(|change| change.value.is_none()) {
                removals.note(Removed::Records);
            }
            changes.into_iter().map(|change| apply(db, change)).collect()
        };
        self.write(true, work, done);
    }
}

fn find(db: &Connection, kind: &str, key: &str) -> rusqlite::Result<Option<Record>> {
    db.prepare_cached("SELECT kind, key, thread_id, version, value FROM records WHERE kind = ?1 AND key = ?2")?
        .query_row([kind, key], read_row)
        .optional()
}

fn read_page(
    db: &Connection,
    kind: Option<&str>,
    thread_id: Option<&str>,
    (mut after_kind, mut after_key): (String, String),
    limit: u32,
) -> rusqlite::Result<Vec<Record>> {
    if let Some(kind) = kind {
        // The address to read after may be of another kind: then either no record of this kind follows it, or all do.
        match after_kind.as_str().cmp(kind) {
            std::cmp::Ordering::Greater => return Ok(Vec::new()),
            std::cmp::Ordering::Less => (after_kind, after_key) = (kind.into(), String::new()),
            std::cmp::Ordering::Equal => {}
        }
    }
    let mut parameters: Vec<&dyn ToSql> = vec![&after_kind, &after_key, &limit];
    if let Some(thread_id) = &thread_id {
        parameters.push(thread_id);
    }
    db.prepare_cached(&page_sql(kind.is_some(), thread_id.is_some()))?.query_map(&*parameters, read_row)?.collect()
}

fn page_sql(of_kind: bool, of_thread: bool) -> String {
    let after = if of_kind { "kind = ?1 AND key > ?2" } else { "(kind, key) > (?1, ?2)" };
    // Without the index named, SQLite would search the records of that kind of all threads.
    let (index, thread) = if of_thread { ("INDEXED BY records_thread", "AND thread_id = ?4") } else { ("", "") };
    format!(
        "SELECT kind, key, thread_id, version, value FROM records {index} WHERE {after} {thread}
         ORDER BY kind, key LIMIT ?3"
    )
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record { kind: row.get(0)?, key: row.get(1)?, thread_id: row.get(2)?, version: row.get(3)?, value: row.get(4)? })
}

fn apply(db: &Connection, change: Change) -> Result<i64> {
    let existing: Option<(String, i64)> = db
        .prepare_cached("SELECT thread_id, version FROM records WHERE kind = ?1 AND key = ?2")
        .and_then(|mut find| {
            find.query_row([&change.kind, &change.key], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(store_error)?;
    let is_other_thread = existing.as_ref().is_some_and(|(thread_id, _)| *thread_id != change.thread_id);
    if is_other_thread || change.version.is_some_and(|version| version != existing.map_or(0, |(_, version)| version)) {
        return Err(Error::RecordConflict(change.kind, change.key));
    }
    write(db, &change).map_err(store_error)
}

fn write(db: &Connection, Change { kind, key, thread_id, value, .. }: &Change) -> rusqlite::Result<i64> {
    let Some(value) = value else {
        db.prepare_cached("DELETE FROM records WHERE kind = ?1 AND key = ?2")?.execute([kind, key])?;
        return Ok(0);
    };
    // One counter serves all records, so a record created again is never taken for the one that was removed.
    let version: i64 = db
        .prepare_cached("UPDATE counters SET value = value + 1 WHERE name = 'record' RETURNING value")?
        .query_row([], |row| row.get(0))?;
    db.prepare_cached(
        "INSERT INTO records (kind, key, thread_id, version, value) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (kind, key) DO UPDATE SET version = excluded.version, value = excluded.value",
    )?
    .execute(params![kind, key, thread_id, version, value])?;
    Ok(version)
}

/// Remove a thread's records.
pub(super) fn remove_records(db: &Connection, thread_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM records WHERE thread_id = ?1")?.execute([thread_id])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&db, std::path::Path::new("memory")).unwrap();
        db
    }

    fn change(key: &str, value: Option<&[u8]>, version: Option<i64>) -> Change {
        let value = value.map(Into::into);
        Change { kind: "kind".into(), key: key.into(), thread_id: "t".into(), value, version }
    }

    #[test]
    fn a_page_reads_only_its_part_of_an_index() {
        let db = file();
        for (of_kind, of_thread, index) in [
            (false, false, "SEARCH records USING PRIMARY KEY ((kind,key)>(?,?))"),
            (true, false, "SEARCH records USING PRIMARY KEY (kind=? AND key>?)"),
            (false, true, "INDEX records_thread (thread_id=? AND (kind,key)>(?,?))"),
            (true, true, "INDEX records_thread (thread_id=? AND kind=? AND key>?)"),
        ] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {}", page_sql(of_kind, of_thread))).unwrap();
            let nulls = vec![rusqlite::types::Null; plan.parameter_count()];
            let steps = plan.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.collect::<rusqlite::Result<_>>().unwrap();
            assert!(steps.len() == 1 && steps[0].contains(index), "{steps:?}");
        }
    }

    #[test]
    fn a_version_is_never_reused() {
        let db = file();
        assert_eq!(apply(&db, change("a", Some(b"1"), Some(0))), Ok(1));
        assert_eq!(apply(&db, change("a", None, Some(1))), Ok(0));
        assert_eq!(apply(&db, change("a", Some(b"1"), Some(0))), Ok(2));
        let conflict = Err(Error::RecordConflict("kind".into(), "a".into()));
        assert_eq!(apply(&db, change("a", Some(b"2"), Some(1))), conflict);
        assert_eq!(apply(&db, change("a", Some(b"2"), Some(0))), conflict);
        assert_eq!(apply(&db, Change { thread_id: "other".into(), ..change("a", None, None) }), conflict);
        assert_eq!(apply(&db, change("a", Some(b"2"), None)), Ok(3));
        assert_eq!(find(&db, "kind", "a").unwrap().unwrap().value, b"2");
    }

    #[test]
    fn records_are_ordered_by_their_bytes() {
        let db = file();
        for key in ["\u{10000}", "b", "\u{ffff}", "a/2", "a", "a/10"] {
            apply(&db, change(key, Some(b""), None)).unwrap();
        }
        let keys = |after: &str| -> Vec<String> {
            let after = ("kind".into(), after.into());
            read_page(&db, Some("kind"), Some("t"), after, 9).unwrap().into_iter().map(|record| record.key).collect()
        };
        assert_eq!(keys(""), ["a", "a/10", "a/2", "b", "\u{ffff}", "\u{10000}"]);
        assert_eq!(keys("b"), ["\u{ffff}", "\u{10000}"]);
        assert!(read_page(&db, Some("kind"), None, ("later".into(), String::new()), 9).unwrap().is_empty());
        assert_eq!(read_page(&db, Some("kind"), None, ("before".into(), "z".into()), 2).unwrap().len(), 2);
    }
}

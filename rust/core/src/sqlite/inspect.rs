//! The inspection and repair of a file, for `agentrunner doctor`.
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use super::index::index_new_rows;
use super::journal::cut_journal;
use super::lease::live_runs;
use super::log_mark;
use super::run_ids::from_stored;
use super::sql::{now_ms, store_error};
use super::store::SqliteStore;
use super::thread_rows::head_seq;
use super::types::Report;
use crate::error::Result;
use crate::stored_run;

impl SqliteStore {
    /// Inspect the whole file. With `fix`, set missing parents to the run before and free stuck threads.
    pub fn inspect(&self, fix: bool, done: impl FnOnce(Result<Report>) + Send + 'static) {
        // A writing store has noted when it was opened that its log was missing.
        let (leases, had_log) = (self.leases.clone(), self.had_log || !self.is_read_only());
        let work = move |db: &Connection| {
            // Runs that are not indexed yet would otherwise be missing in the counts.
            index_new_rows(db)?;
            let mut report = inspect(db).map_err(store_error)?;
            let live = live_runs(db, None, |_, _, _| true)?;
            // A thread with a readable lease is not stuck: its owner or the next runner ends its run.
            report.stuck.retain(|thread_id| !live.iter().any(|run| run.claim.thread_id == *thread_id));
            let dead = leases.find_dead(db, None)?;
            report.missing_log = log_mark::find_missing(db, had_log)?;
            report.dead = dead.into_iter().map(|run| (run.claim.thread_id, run.claim.run_id)).collect();
            if fix {
                repair(db, &report).map_err(store_error)?;
            }
            for (thread_id, run_id) in report.corrupt.iter_mut().chain(&mut report.orphans) {
                *run_id = from_stored(std::mem::take(run_id), thread_id);
            }
            Ok(report)
        };
        if fix || !self.is_read_only() {
            self.write(true, work, done);
        } else {
            self.read(work, done);
        }
    }
}

fn inspect(db: &Connection) -> rusqlite::Result<Report> {
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
    let messages: Vec<String> =
        db.prepare("PRAGMA integrity_check")?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let pairs = |sql: &str| -> rusqlite::Result<Vec<(String, String)>> {
        db.prepare(sql)?.query_map([], |row| Ok((read_name(row, 0)?, read_name(row, 1)?)))?.collect()
    };
    let mut corrupt = Vec::new();
    let mut statement = db.prepare("SELECT thread_id, run_id, events FROM agent_runs ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !row.get_ref(2)?.as_bytes().is_ok_and(stored_run::is_readable) {
            corrupt.push((read_name(row, 0)?, read_name(row, 1)?));
        }
    }
    Ok(Report {
        integrity: messages.join("; "),
        threads: count("SELECT count(*) FROM threads WHERE runs > 0")?,
        runs: count("SELECT count(*) FROM agent_runs")?,
        foreign_runs: count("SELECT count(*) FROM run_index WHERE NOT own")?,
        corrupt,
        orphans: pairs(
            "SELECT thread_id, run_id FROM agent_runs AS child WHERE parent_run_id IS NOT NULL AND NOT EXISTS
               (SELECT 1 FROM agent_runs WHERE run_id = child.parent_run_id AND thread_id = child.thread_id) ORDER BY id",
        )?,
        stuck: db
            .prepare(
                "SELECT thread_id FROM run_state WHERE is_running <> 0 UNION SELECT thread_id FROM live_runs ORDER BY 1",
            )?
            .query_map([], |row| read_name(row, 0))?
            .collect::<rusqlite::Result<_>>()?,
        dead: Vec::new(),
        records: count("SELECT count(*) FROM records")?,
        missing_log: None,
    })
}

fn repair(db: &Connection, report: &Report) -> rusqlite::Result<()> {
    log_mark::accept_missing(db)?;
    // The TypeScript runner does not show a run whose parent is missing (docs/spec/reference-runners.md §3.3).
    for (thread_id, run_id) in &report.orphans {
        db.execute(
            "UPDATE agent_runs SET parent_run_id = (SELECT run_id FROM agent_runs AS earlier
               WHERE earlier.thread_id = agent_runs.thread_id AND earlier.id < agent_runs.id ORDER BY id DESC LIMIT 1)
             WHERE thread_id = ?1 AND run_id = ?2",
            params![thread_id, run_id],
        )?;
    }
    for thread_id in &report.stuck {
        db.execute(
            "UPDATE run_state SET is_running = 0, current_run_id = NULL, updated_at = ?2 WHERE thread_id = ?1",
            params![thread_id, now_ms()],
        )?;
        // A lease that cannot be read goes, and with it the raw frames of its run.
        if db.execute("DELETE FROM live_runs WHERE thread_id = ?1", [thread_id])? > 0 {
            cut_journal(db, thread_id, head_seq(db, thread_id)? + 1)?;
        }
    }
    Ok(())
}

/// Read a name, even one that is not valid UTF-8.
fn read_name(row: &Row<'_>, index: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(index)? {
        ValueRef::Text(name) | ValueRef::Blob(name) => String::from_utf8_lossy(name).into_owned(),
        other => format!("{other:?}"),
    })
}

//! Copies of a database for a backup, and rewriting it to give all free space back. Both work on a file of any state,
//! whether processes have it open or not.
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::read_only::ReadOnlyDatabase;
use super::sql::store_error;
use super::wal_rewrite::sync_folder;
use super::{log_mark, schema};
use crate::error::{Error, Result};
use crate::owner;

/// The number of SQLite's instructions between two looks at the time. Few, because a row of any size takes three.
const PROGRESS_STEPS: i32 = 20;
const REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// The contents of a backup, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The number of threads with runs.
    pub threads: i64,
    /// The number of stored runs.
    pub runs: i64,
    /// The number of records.
    pub records: i64,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The time of the last checkpoint before the original lost its log, in milliseconds since 1970.
    pub missing_log: Option<i64>,
}

/// Copy a database, as it is at one moment, into one file that needs no log.
///
/// Processes that have it open read and write meanwhile. The copy is written under another name, checked, synced and
/// renamed. It contains no free pages, and so no deleted text. `report` gets the bytes written and the bytes expected
/// about twenty times a second, and returns whether to go on. Errors: `Store` if the target exists and is not to be
/// overwritten, or is in use; `StoreCorrupt` for a database that is damaged.
pub fn back_up(
    path: &Path,
    target: &Path,
    overwrites: bool,
    report: impl FnMut(u64, u64) -> bool + Send + 'static,
) -> Result<Backup> {
    check_target(path, target, overwrites)?;
    let had_log = log_mark::has_log(path);
    let mut database = ReadOnlyDatabase::open(path)?;
    let draft = Draft::create(path, target)?;
    copy(database.source()?, &draft.path, report)?;
    database.check()?;
    drop(database);
    let backup = finish(&draft.path, had_log)?;
    let place = || -> std::io::Result<()> {
        File::open(&draft.path)?.sync_all()?;
        // A link fails if the name was taken meanwhile, but not every file system has links.
        if overwrites || fs::hard_link(&draft.path, target).is_err_and(|error| error.kind() != ErrorKind::AlreadyExists)
        {
            fs::rename(&draft.path, target)?;
        } else if !is_same_file(&draft.path, target) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        Ok(())
    };
    place().map_err(|error| io_error(target, &error))?;
    drop(draft);
    sync_folder(target)?;
    Ok(backup)
}

/// Rewrite a database without its free pages, and let it give space back by itself from now on.
///
/// Nothing else can write meanwhile. Returns the size before and after, in bytes. Error: `Store` if a thread has a live
/// run, which would fail.
pub fn vacuum(path: &Path) -> Result<(u64, u64)> {
    let size = || fs::metadata(path).map(|file| file.len()).map_err(|error| io_error(path, &error));
    let before = size()?;
    // First without a change, because a database of another program is none of our business.
    drop(ReadOnlyDatabase::open(path)?);
    let db = schema::connect(path, false)?;
    if has_table(&db, "live_runs")? {
        let live = db.query_row("SELECT thread_id FROM live_runs LIMIT 1", [], |row| row.get::<_, String>(0));
        if let Some(thread_id) = live.optional().map_err(store_error)? {
            return Err(Error::Store(format!(
                "{}: thread '{thread_id}' has a live run, which would fail, because nothing can be written for as long \
                 as this takes; stop the servers, or wait until their runs have ended",
                path.display()
            )));
        }
    }
    let rewrite = || -> rusqlite::Result<()> {
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        db.execute_batch("VACUUM")?;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(|_| ())
    };
    rewrite().map_err(store_error)?;
    Ok((before, size()?))
}

/// The file a copy is written to, which is removed unless it got its name.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn create(path: &Path, target: &Path) -> Result<Self> {
        let mode = fs::metadata(path).map_err(|error| io_error(path, &error))?.permissions().mode();
        let draft = std::path::absolute(target).map_err(|error| io_error(target, &error))?;
        let draft = with_suffix(&draft, &format!(".part-{}", owner::new_nonce()));
        // With the rights of the original, which may be kept from other users.
        let create = OpenOptions::new().write(true).create_new(true).mode(mode & 0o777).open(&draft);
        create.map_err(|error| io_error(&draft, &error))?;
        Ok(Self { path: draft })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for suffix in ["", "-journal"] {
            let _ = fs::remove_file(with_suffix(&self.path, suffix));
        }
    }
}

fn check_target(path: &Path, target: &Path, overwrites: bool) -> Result<()> {
    if is_same_file(path, target) {
        return Err(Error::Store(format!("{} is the database itself; choose another file", target.display())));
    }
    if target.is_dir() {
        return Err(Error::Store(format!("{} is a folder; choose a file", target.display())));
    }
    if target.exists() && !overwrites {
        return Err(Error::Store(format!("{} exists; nothing was written", target.display())));
    }
    for suffix in ["-wal", "-journal"] {
        let log = with_suffix(target, suffix);
        if log.exists() {
            // SQLite would apply it to the copy.
            return Err(Error::Store(format!(
                "{} exists: {} belongs to a database that is open or was not closed; choose another file",
                log.display(),
                target.display()
            )));
        }
    }
    Ok(())
}

fn copy(
    source: &mut Connection,
    draft: &Path,
    mut report: impl FnMut(u64, u64) -> bool + Send + 'static,
) -> Result<()> {
    let Some(name) = draft.to_str() else {
        return Err(Error::Store(format!("{}: SQLite needs a name in UTF-8", draft.display())));
    };
    let copy = || -> rusqlite::Result<()> {
        let pragma =
            |name: &str| source.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u32>(0).map(u64::from));
        let total = pragma("page_count")?.saturating_sub(pragma("freelist_count")?) * pragma("page_size")?;
        let written = draft.to_owned();
        let mut next_report = Instant::now();
        let stops = move || {
            if Instant::now() < next_report {
                return false;
            }
            next_report = Instant::now() + REPORT_INTERVAL;
            !report(fs::metadata(&written).map_or(0, |file| file.len()).min(total), total)
        };
        source.progress_handler(PROGRESS_STEPS, Some(stops))?;
        source.execute("VACUUM INTO ?1", [name])?;
        Ok(())
    };
    copy().map_err(store_error)
}

/// Check the copy, and return what it contains.
fn finish(draft: &Path, had_log: bool) -> Result<Backup> {
    let db = Connection::open_with_flags(draft, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(store_error)?;
    let mut missing_log = None;
    if has_table(&db, "counters")? {
        if !had_log {
            log_mark::note_missing(&db)?;
        }
        log_mark::remove(&db).map_err(store_error)?;
        missing_log = log_mark::find_missing(&db, true)?;
    }
    let integrity: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(store_error)?;
    if integrity != "ok" {
        return Err(Error::StoreCorrupt(format!("the copy is damaged, and was removed: {integrity}")));
    }
    let count = |table: &str, sql: &str| -> Result<i64> {
        if has_table(&db, table)? { db.query_row(sql, [], |row| row.get(0)).map_err(store_error) } else { Ok(0) }
    };
    Ok(Backup {
        threads: count("agent_runs", "SELECT count(DISTINCT thread_id) FROM agent_runs")?,
        runs: count("agent_runs", "SELECT count(*) FROM agent_runs")?,
        records: count("records", "SELECT count(*) FROM records")?,
        bytes: fs::metadata(draft).map_or(0, |file| file.len()),
        missing_log,
    })
}

fn has_table(db: &Connection, name: &str) -> Result<bool> {
    db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")
        .and_then(|mut find| find.exists([name]))
        .map_err(store_error)
}

fn is_same_file(path: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((id(path), id(other)), (Ok(id), Ok(other)) if id == other)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}

fn io_error(path: &Path, error: &std::io::Error) -> Error {
    let text = format!("{}: {error}", path.display());
    if error.kind() == ErrorKind::StorageFull { Error::StoreFull(text) } else { Error::Store(text) }
}

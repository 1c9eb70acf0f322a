//! The file's pragmas, tables and migrations.
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::cleanup;
use super::sql::{BUSY_TIMEOUT, store_error};
use crate::error::{Error, Result};

/// The three tables of the TypeScript runner, as it writes them (docs/spec/reference-runners.md §3.3).
const SHARED: &str = "
CREATE TABLE IF NOT EXISTS agent_runs (id INTEGER PRIMARY KEY AUTOINCREMENT, thread_id TEXT NOT NULL,
  run_id TEXT NOT NULL UNIQUE, parent_run_id TEXT, events TEXT NOT NULL, input TEXT NOT NULL,
  created_at INTEGER NOT NULL, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS run_state (thread_id TEXT PRIMARY KEY, is_running INTEGER DEFAULT 0, current_run_id TEXT,
  updated_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS idx_thread_id ON agent_runs(thread_id);
CREATE INDEX IF NOT EXISTS idx_parent_run_id ON agent_runs(parent_run_id);
CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL);
INSERT OR IGNORE INTO schema_version VALUES (1, CAST(strftime('%s', 'now') AS INTEGER) * 1000);
";

/// The migrations of our own tables, in order. `PRAGMA user_version` is how many of them a file has had.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE live_runs (thread_id TEXT PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, token INTEGER NOT NULL,
  owner TEXT NOT NULL, expires_at INTEGER NOT NULL, stop_requested INTEGER NOT NULL DEFAULT 0, input TEXT NOT NULL,
  agent_id TEXT, first_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE journal (thread_id TEXT NOT NULL, first_seq INTEGER NOT NULL, count INTEGER NOT NULL,
  frames BLOB NOT NULL, PRIMARY KEY (thread_id, first_seq));
CREATE TABLE journal_expiry (thread_id TEXT NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
  expires_at INTEGER NOT NULL, PRIMARY KEY (thread_id, first_seq)) WITHOUT ROWID;
CREATE INDEX journal_expiry_time ON journal_expiry(expires_at);
CREATE TABLE message_ids (thread_id TEXT NOT NULL, message_id TEXT NOT NULL, PRIMARY KEY (thread_id, message_id))
  WITHOUT ROWID;
CREATE TABLE run_index (id INTEGER PRIMARY KEY, thread_id TEXT NOT NULL, first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL, own INTEGER NOT NULL);
CREATE INDEX run_index_seq ON run_index(thread_id, last_seq);
CREATE TABLE threads (thread_id TEXT PRIMARY KEY, name TEXT, archived INTEGER NOT NULL DEFAULT 0, agent_id TEXT,
  head_seq INTEGER NOT NULL DEFAULT 0, runs INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX threads_updated ON threads(updated_at, thread_id);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('token', 0), ('indexed', 0);
",
    // A thread has a row from its first claim on, which fixes its scope, and none after a run that stored nothing.
    "
ALTER TABLE threads ADD COLUMN scope TEXT;
CREATE INDEX threads_scope ON threads(scope, updated_at, thread_id);
DELETE FROM threads WHERE runs = 0 AND thread_id NOT IN (SELECT thread_id FROM live_runs);
INSERT INTO threads (thread_id, agent_id, head_seq, created_at, updated_at)
  SELECT thread_id, agent_id, first_seq - 1, strftime('%s', 'now') * 1000, strftime('%s', 'now') * 1000
  FROM live_runs WHERE true ON CONFLICT DO NOTHING;
",
    // `oldest_at` is when the oldest stored run ended. It is NULL while no run was removed; `created_at` holds then.
    "
ALTER TABLE threads ADD COLUMN oldest_at INTEGER;
",
    // `expires_at` of leases and journals is by the monotonic clock of this boot. Before, it was a wall clock time.
    "
CREATE TABLE boot (id TEXT NOT NULL);
",
    "
CREATE TABLE records (kind TEXT NOT NULL, key TEXT NOT NULL, thread_id TEXT NOT NULL, version INTEGER NOT NULL,
  value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE INDEX records_thread ON records(thread_id, kind, key);
INSERT INTO counters VALUES ('record', 0);
",
    // A thread that is deleted and created again has another incarnation. Its sequence numbers begin after those of the
    // thread before it, so that an old cursor is never taken for one of the new thread. Only the greatest number of all
    // deleted threads with the same hash is kept, or the table would grow with every deletion. `leftovers` are threads
    // of which only raw frames are left.
    "
ALTER TABLE threads ADD COLUMN incarnation INTEGER NOT NULL DEFAULT -1;
ALTER TABLE threads ADD COLUMN base_seq INTEGER NOT NULL DEFAULT 0;
CREATE TABLE leftovers (thread_id TEXT PRIMARY KEY, scope TEXT, incarnation INTEGER NOT NULL, base_seq INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE floors (hash INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TRIGGER threads_floor AFTER DELETE ON threads WHEN OLD.head_seq > 0 BEGIN
  INSERT INTO floors VALUES ((coalesce(unicode(substr(OLD.thread_id, -1, 1)), 0) * 29791
    + coalesce(unicode(substr(OLD.thread_id, -2, 1)), 0) * 961 + coalesce(unicode(substr(OLD.thread_id, -3, 1)), 0) * 31
    + coalesce(unicode(substr(OLD.thread_id, 1, 1)), 0) + length(OLD.thread_id)) % 65536, OLD.head_seq)
    ON CONFLICT (hash) DO UPDATE SET seq = max(seq, excluded.seq);
END;
",
    // `seq` is the last sequence number of the newest run that has the entry; 0 if an earlier version wrote it.
    // Processes of those versions that still have the file open write to the table by its old name, which had two
    // columns. They index a run before they add its entries, so the highest number is that of their run. Without the
    // pragma, a rename fails if another program has left a broken view in the file.
    "
PRAGMA legacy_alter_table = ON;
ALTER TABLE message_ids RENAME TO entries;
PRAGMA legacy_alter_table = OFF;
ALTER TABLE entries ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
CREATE VIEW message_ids AS SELECT thread_id, message_id FROM entries;
CREATE TRIGGER message_ids_insert INSTEAD OF INSERT ON message_ids BEGIN
  INSERT INTO entries VALUES (NEW.thread_id, NEW.message_id,
      coalesce((SELECT max(last_seq) FROM run_index WHERE thread_id = NEW.thread_id), 0))
    ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq);
END;
CREATE TRIGGER message_ids_delete INSTEAD OF DELETE ON message_ids BEGIN
  DELETE FROM entries WHERE thread_id = OLD.thread_id AND message_id = OLD.message_id;
END;
",
];

/// The number of tries to switch to write-ahead logging while another process does the same, and the pause between.
const JOURNAL_MODE_TRIES: u32 = 100;
const JOURNAL_MODE_PAUSE: Duration = Duration::from_millis(20);

/// Open a connection with our pragmas. With `creates`, create the file, or refuse one of another program.
pub fn connect(path: &Path, creates: bool) -> Result<Connection> {
    // Without SQLite's own mutex, because each connection is used by one thread at a time.
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, creates);
    let connection = Connection::open_with_flags(path, flags).map_err(|error| with_path(path, store_error(error)))?;
    if creates {
        // Before the pragmas, because some of them change the file.
        refuse_foreign(&connection, path)?;
    }
    configure(&connection).map_err(|error| with_path(path, store_error(error)))?;
    if connection.is_readonly("main").unwrap_or(false) {
        return Err(Error::StoreReadOnly(format!(
            "{}: the file is read-only; open it as a user who may write it",
            path.display()
        )));
    }
    Ok(connection)
}

/// Return an error, `Store`, if the file has tables, but none of ours.
fn refuse_foreign(connection: &Connection, path: &Path) -> Result<()> {
    let is_foreign = || -> rusqlite::Result<bool> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*')
               AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'agent_runs')",
            [],
            |row| row.get(0),
        )
    };
    match is_foreign() {
        Ok(true) => Err(foreign(path)),
        Ok(false) => Ok(()),
        Err(error) => Err(with_path(path, store_error(error))),
    }
}

/// Copy the log into the file, and remove the log and its index, if no other connection has the database open.
///
/// The error is that of a busy database if one has.
pub fn start_anew(path: &Path, index: &Path) -> Result<()> {
    let start = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        // The first read takes the lock, and builds an index in memory from the log that is there.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        // Under the lock, so that every process that opens the database from now on uses a new one.
        let _ = std::fs::remove_file(index);
        // SQLite removes the log.
        connection.close().map_err(|(_, error)| error)
    };
    start().map_err(|error| with_path(path, store_error(error)))
}

/// Name the file in an error.
#[allow(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
pub fn with_path(path: &Path, error: Error) -> Error {
    let text = format!("{}: {error}", path.display());
    match error {
        Error::StoreFull(_) => Error::StoreFull(text),
        Error::StoreCorrupt(_) => Error::StoreCorrupt(text),
        Error::StoreReadOnly(_) => Error::StoreReadOnly(text),
        _ => Error::Store(text),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    if connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))? == 0 {
        // Before anything is written, because only a full `VACUUM` can change it later.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    // While another process changes the mode, SQLite returns busy at once and ignores the timeout.
    let mut mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
    for _ in 0..JOURNAL_MODE_TRIES {
        if !matches!(&mode, Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)) {
            break;
        }
        std::thread::sleep(JOURNAL_MODE_PAUSE);
        mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
    }
    if mode? != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some("write-ahead logging is not possible here; is this a network file system?".into()),
        ));
    }
    // Freed pages are given back, which erases them too. A file that cannot give them back has to overwrite each of them.
    let secure_delete = if cleanup::can_give_back(connection)? { "FAST" } else { "ON" };
    connection.pragma_update_and_check(None, "secure_delete", secure_delete, |_| Ok(()))?;
    // The writer raises this to FULL for the commits that must reach the disk.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Without a limit a log that was long once would keep its size on the disk.
    connection.pragma_update(None, "journal_size_limit", 32 << 20)?;
    // The writer runs the checkpoints, because SQLite would not report the failure of an automatic one.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Another program may have made the file: its schema must not call functions that SQLite does not call safe, and a
    // damaged page must be noticed when it is read.
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    Ok(())
}

/// Return the version of a file whose tables are up to date.
pub fn newest_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).expect("there are few migrations")
}

/// Return the version of a file's tables, and change nothing.
///
/// Errors: `StoreTooNew` for a file of a newer version; `Store` for one that neither this package nor a TypeScript
/// runner has written.
pub fn read_version(connection: &Connection, path: &Path) -> Result<i64> {
    let read = || -> rusqlite::Result<(bool, i64)> {
        let has_runs = connection
            .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'agent_runs'")?
            .exists([])?;
        Ok((has_runs, connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?))
    };
    match read().map_err(|error| with_path(path, store_error(error)))? {
        (false, _) => Err(foreign(path)),
        (true, version) if version > newest_version() => Err(too_new(path, version)),
        (true, version) => Ok(version),
    }
}

fn foreign(path: &Path) -> Error {
    Error::Store(format!(
        "{}: this SQLite database has no tables of agentrunner, and was left unchanged; is it the right file, and not a copy \
         without its -wal file?",
        path.display()
    ))
}

fn too_new(path: &Path, version: i64) -> Error {
    Error::StoreTooNew(format!(
        "{}: the file has schema {version}, but this version knows only {}; update agentrunner",
        path.display(),
        MIGRATIONS.len()
    ))
}

/// Bring the file's tables up to date; refuse a file of a newer version.
pub fn migrate(connection: &Connection, path: &Path) -> Result<()> {
    let run = || -> rusqlite::Result<std::result::Result<(), i64>> {
        // The version is read under the write lock, because another process may be migrating the same file.
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let known = newest_version();
        if version > known {
            return Ok(Err(version));
        }
        connection.execute_batch(SHARED)?;
        for migration in &MIGRATIONS[usize::try_from(version).unwrap_or(0)..] {
            connection.execute_batch(migration)?;
        }
        // In the same transaction, so that a file is never taken for one that had other migrations.
        connection.pragma_update(None, "user_version", known)?;
        connection.execute_batch("COMMIT")?;
        Ok(Ok(()))
    };
    let outcome = run();
    if !matches!(outcome, Ok(Ok(()))) {
        let _ = connection.execute_batch("ROLLBACK");
    }
    match outcome.map_err(|error| with_path(path, store_error(error)))? {
        Ok(()) => Ok(()),
        Err(version) => Err(too_new(path, version)),
    }
}

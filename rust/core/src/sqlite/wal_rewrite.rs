//! Rewriting of the write-ahead log after a failed sync.
//!
//! After a failed sync the kernel treats pages as written that never reached the disk, and no later sync writes them.
//! The log's bytes are therefore written again before anything is committed on top of them.
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, ffi};

use super::sql::store_error;
use crate::error::{Error, Result};

/// The log's header, and the header of each of its frames (SQLite's file format, section 4.1).
const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;
/// How much of the log is in memory at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Return whether written pages may not be on the disk, although a later sync would succeed.
pub fn is_failed_sync(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

/// Return how many pages the log has, and how many of them are in the file and synced there.
pub fn wal_pages(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    // `NOOP` only reports the numbers; it copies no page.
    connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], |row| {
        let count = |index| row.get(index).map(|pages: i64| u64::try_from(pages).unwrap_or(0));
        Ok((count(1)?, count(2)?))
    })
}

/// Write the bytes of the log again in their place, and sync them.
pub fn rewrite_wal(connection: &Connection, log: &Path) -> Result<()> {
    let (pages, checkpointed) = wal_pages(connection).map_err(store_error)?;
    // Pages that are in the file are synced there, so the log is not needed for them.
    if pages <= checkpointed {
        return Ok(());
    }
    let page_bytes: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(store_error)?;
    // The write lock keeps other processes from appending to the log or restarting it meanwhile.
    connection.execute_batch("BEGIN IMMEDIATE").map_err(store_error)?;
    let length = WAL_HEADER_BYTES + pages * (FRAME_HEADER_BYTES + u64::from(page_bytes));
    let outcome = OpenOptions::new().read(true).write(true).open(log).and_then(|log| rewrite(&log, length));
    let _ = connection.execute_batch("ROLLBACK");
    outcome.map_err(|error| match error.kind() {
        ErrorKind::StorageFull => Error::StoreFull(error.to_string()),
        _ => Error::Store(format!("{}: the write-ahead log cannot be written: {error}", log.display())),
    })
}

/// Make the names of the file and its log durable. SQLite syncs the folder too, but ignores the result.
pub fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::Store(format!("{}: its folder cannot be synced: {error}", path.display())))
}

fn rewrite(log: &File, length: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = 0;
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let read = log.read_at(&mut buffer[..wanted], at)?;
        if read == 0 {
            break;
        }
        // The kernel counts the pages as changed again, so that the sync below writes them.
        log.write_all_at(&buffer[..read], at)?;
        at += read as u64;
    }
    log.sync_all()
}

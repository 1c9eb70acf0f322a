//! After a failed sync the kernel takes for written what never reached the disk, and no later sync writes it. What is in
//! the log is therefore written again before anything is built on it.
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, ffi};

use super::schema::store_error;
use crate::error::{Error, Result};

/// What the log has before its pages, and before each of them.
const HEAD: u64 = 32;
const PAGE_HEAD: u64 = 24;
const PART: usize = 1 << 20;

/// Whether what was written may not be on the disk, although a later sync would say so.
pub fn is_failed_sync(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

/// How many pages the log has, and how many of them are in the file and synced there.
pub fn wal_pages(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], |row| {
        let count = |index| row.get(index).map(|pages: i64| u64::try_from(pages).unwrap_or(0));
        Ok((count(1)?, count(2)?))
    })
}

/// Writes the bytes of the log again where they are, and syncs them.
pub fn rewrite_wal(connection: &Connection, path: &Path) -> Result<()> {
    let (pages, in_file) = wal_pages(connection).map_err(store_error)?;
    if pages <= in_file {
        return Ok(());
    }
    let page_size: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(store_error)?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    // Nobody adds to it meanwhile, or begins it anew.
    connection.execute_batch("BEGIN IMMEDIATE").map_err(store_error)?;
    let length = HEAD + pages * (PAGE_HEAD + u64::from(page_size));
    let outcome = OpenOptions::new().read(true).write(true).open(log).and_then(|log| rewrite(&log, length));
    let _ = connection.execute_batch("ROLLBACK");
    outcome.map_err(|error| match error.kind() {
        ErrorKind::StorageFull => Error::StoreFull(error.to_string()),
        _ => Error::Store(format!("{}: the log cannot be written: {error}", path.display())),
    })
}

/// Makes the names of the file and its log durable: SQLite asks for that too, but does not look at the answer.
pub fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::Store(format!("{}: its folder cannot be synced: {error}", path.display())))
}

fn rewrite(log: &File, length: u64) -> std::io::Result<()> {
    let mut part = vec![0; PART];
    let mut at = 0;
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(PART).min(PART);
        let read = log.read_at(&mut part[..wanted], at)?;
        if read == 0 {
            break;
        }
        log.write_all_at(&part[..read], at)?;
        at += read as u64;
    }
    log.sync_all()
}

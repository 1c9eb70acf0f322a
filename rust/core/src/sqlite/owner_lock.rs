//! A locked file beside the database that shows whether an owner in another container is alive.
//!
//! Containers that share a folder see neither each other's processes nor each other's sockets, but the kernel keeps one
//! set of locks for all of them, and drops a process's locks when it ends.
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::owner;

/// The mark in the text of an owner that has such a file.
pub const MARK: &str = "lock";

/// The lock of one open store.
#[derive(Debug)]
pub struct OwnerLock {
    path: PathBuf,
    pid: u32,
    /// The lock ends when the file is closed.
    _file: File,
}

impl OwnerLock {
    /// Create and lock an owner's file; `None` if the folder or its file system does not allow it.
    pub fn acquire(database: &Path, nonce: &str) -> Option<Self> {
        let path = path_of(database, nonce);
        let file = File::create_new(&path).ok()?;
        if file.try_lock().is_err() {
            let _ = std::fs::remove_file(&path);
            return None;
        }
        Some(Self { path, pid: std::process::id(), _file: file })
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // A forked child has a copy of this, but the file is its parent's.
        if self.pid == std::process::id() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Return whether an owner's file is there and no longer locked, so that its process has ended.
///
/// A missing file says nothing, because a user may have removed it.
pub fn is_free(database: &Path, owner: &str) -> bool {
    match owner::mark_of(owner) {
        Some((nonce, MARK)) if is_nonce(nonce) => is_unlocked(&path_of(database, nonce)),
        _ => false,
    }
}

/// Remove the files of owners whose process ended without removing them, once no live run needs them.
pub fn remove_stale(database: &Path, db: &Connection) -> rusqlite::Result<()> {
    let (Some(folder), Some(name)) = (database.parent(), database.file_name()) else { return Ok(()) };
    let mut prefix = name.to_owned();
    prefix.push(INFIX);
    let prefix = prefix.to_string_lossy();
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(nonce) = file_name.to_str().and_then(|name| name.strip_prefix(&*prefix)) else { continue };
        let is_needed = "SELECT 1 FROM live_runs WHERE owner LIKE '%|' || ?1";
        if is_nonce(nonce) && is_unlocked(&entry.path()) && !db.prepare(is_needed)?.exists([nonce])? {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

const INFIX: &str = "-owner-";

fn path_of(database: &Path, nonce: &str) -> PathBuf {
    let mut path = OsString::from(database);
    path.push(INFIX);
    path.push(nonce);
    path.into()
}

/// Return whether a text can be a nonce, so that a damaged row never names another file.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.')
}

fn is_unlocked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    // Shared, so that two processes that look at the same time do not take each other for the owner.
    match file.try_lock_shared() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::Owner;

    // fault D9
    #[test]
    fn a_lock_tells_whether_an_owner_that_cannot_be_seen_has_ended() {
        let folder = std::env::temp_dir().join(format!("owner-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let database = folder.join("threads.db");
        let nonce = owner::new_nonce();
        let lock = OwnerLock::acquire(&database, &nonce).unwrap();
        let text = Owner::with_mark(&nonce, MARK).as_str().to_owned();
        assert!(!is_free(&database, &text), "it is alive");
        // As if the process had ended: the lock is dropped, and the file stays.
        let OwnerLock { path, .. } = &lock;
        let kept = folder.join("kept");
        std::fs::rename(path, &kept).unwrap();
        assert!(!is_free(&database, &text), "a missing file says nothing");
        let path = path.clone();
        drop(lock);
        std::fs::rename(&kept, &path).unwrap();
        assert!(is_free(&database, &text));
        assert!(!is_free(&database, &text.replacen("/lock|", "/|", 1)), "it had no lock");
        let db = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&db, &database).unwrap();
        remove_stale(&database, &db).unwrap();
        assert!(!path.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_damaged_owner_names_no_other_file() {
        assert!(is_nonce("18f.0") && !is_nonce("../../etc/passwd") && !is_nonce(""));
    }
}

//! The files of a database that this process has open, and whether they are still in place.
//!
//! SQLite goes on using files that were removed, renamed or replaced, where no other process finds what it writes.
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, Weak};
use std::time::SystemTime;

use crate::error::{Error, Result};

/// The databases that this process has open. Each connection to one of them holds its entry.
static OPEN_FILES: Mutex<Vec<Weak<OpenFiles>>> = Mutex::new(Vec::new());

/// Held while a database is opened, and, for writing, while its file is read without SQLite.
static OPENING: RwLock<()> = RwLock::new(());

/// A file's identity, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
    /// Where the file system keeps it: it gives the number of a removed file to the next one, once no process has the
    /// removed one open.
    born: Option<SystemTime>,
}

/// The file that a path names now, if any.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    File(FileId),
    /// The process may not look, for example because it has given up the rights it had when it opened the file.
    Unknown,
}

/// The database's file, its write-ahead log and the log's index, as they were opened.
///
/// All connections of a process share one, because SQLite lets them share the index: a connection that is opened after
/// the index was replaced would still use the old one.
#[derive(Debug)]
pub struct OpenFiles {
    pid: u32,
    /// Whether the index is open only for reading, so that no connection of this process can write the database.
    is_read_only: bool,
    database: OpenFile,
    log: OpenFile,
    index: OpenFile,
}

#[derive(Debug, Clone)]
struct OpenFile {
    path: PathBuf,
    id: FileId,
}

/// The log and the index that a connection had open before it was given up.
#[derive(Debug)]
pub struct FormerFiles {
    log: OpenFile,
    index: OpenFile,
}

impl FormerFiles {
    /// Return whether what is at their paths may be used: by all processes, or by none that uses the former ones.
    ///
    /// If only one of them was removed, or both and no other process has made them again, a process that has not noticed
    /// yet would still write into the former ones.
    pub fn can_be_used_together(&self) -> bool {
        let is_new = |file: &OpenFile| matches!(file.find(), Found::File(id) if id != file.id);
        (self.log.is_in_place() && self.index.is_in_place()) || (is_new(&self.log) && is_new(&self.index))
    }

    /// Return the path of the index.
    pub fn index(&self) -> &Path {
        &self.index.path
    }
}

impl FileId {
    /// Return the identity of the file at a path. Error: `StoreMissing` if there is none.
    pub fn of(path: &Path) -> Result<Self> {
        let file = fs::metadata(path).map_err(|error| Error::StoreMissing(format!("{}: {error}", path.display())))?;
        Ok(Self::from(&file))
    }
}

impl From<&Metadata> for FileId {
    fn from(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), born: file.created().ok() }
    }
}

impl Found {
    fn at(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(file) => Self::File(FileId::from(&file)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Self::Unknown,
            Err(_) => Self::Nothing,
        }
    }
}

impl OpenFile {
    fn new(path: PathBuf) -> Result<Self> {
        let id = FileId::of(&path)?;
        Ok(Self { path, id })
    }

    fn find(&self) -> Found {
        Found::at(&self.path)
    }

    fn is_at(&self, found: &Found) -> bool {
        matches!(found, Found::Unknown) || *found == Found::File(self.id)
    }

    fn is_in_place(&self) -> bool {
        self.is_at(&self.find())
    }

    fn is_empty(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() == 0)
    }
}

impl OpenFiles {
    /// Return the files of a database if this process has it open.
    pub fn find(database: FileId) -> Option<Arc<Self>> {
        find(&mut registry(), database)
    }

    /// Return the files of a database that a connection has just opened and read.
    ///
    /// Error: `StoreMissing` if another connection of this process has other files open.
    pub fn of_open(path: &Path, is_read_only: bool) -> Result<Arc<Self>> {
        let missing = |error| Error::StoreMissing(format!("{}: {error}", path.display()));
        // Absolute, because the process may change its folder. The log is where SQLite puts it, beside the file that a
        // link leads to.
        let absolute = std::path::absolute(path).map_err(missing)?;
        let real = path.canonicalize().map_err(missing)?;
        let database = OpenFile::new(absolute)?;
        let mut registry = registry();
        if let Some(files) = find(&mut registry, database.id) {
            files.check()?;
            return Ok(files);
        }
        let [log, index] = ["-wal", "-shm"].map(|suffix| {
            let mut path = OsString::from(&real);
            path.push(suffix);
            OpenFile::new(path.into())
        });
        let files = Arc::new(Self { pid: std::process::id(), is_read_only, database, log: log?, index: index? });
        registry.push(Arc::downgrade(&files));
        Ok(files)
    }

    /// Return the identity of the database's file.
    pub fn database(&self) -> FileId {
        self.database.id
    }

    /// Return an error, `StoreReadOnly`, if this process has opened the database only for reading.
    pub fn check_writable(&self) -> Result<()> {
        if !self.is_read_only {
            return Ok(());
        }
        Err(Error::StoreReadOnly(format!(
            "{}: this process has it open with read_only, and SQLite shares that; close that store first",
            self.database.path.display()
        )))
    }

    /// Return the path of the write-ahead log.
    pub fn log(&self) -> &Path {
        &self.log.path
    }

    /// Return an error, `StoreMissing`, if one of the files was removed, renamed or replaced.
    pub fn check(&self) -> Result<()> {
        for file in [&self.database, &self.log, &self.index] {
            let found = file.find();
            if !file.is_at(&found) {
                return Err(self.describe(file, &found));
            }
        }
        Ok(())
    }

    /// Return whether the log must be copied into the file now, because no process will find it there.
    ///
    /// Not if another process has begun to use what is at the paths together with a file of ours: it would not notice
    /// what is copied, or its own changes would be copied too.
    pub fn needs_checkpoint(&self) -> bool {
        let database = self.database.find();
        let is_in_place = self.database.is_at(&database);
        if self.log.is_in_place() {
            return !is_in_place;
        }
        // A log that another process has made is used with our index only while it is empty.
        let has_index = self.index.is_in_place();
        let is_unused = self.log.find() == Found::Nothing || (self.log.is_empty() && has_index);
        if is_in_place { is_unused } else { !has_index || (is_unused && database == Found::Nothing) }
    }

    /// Return the log and the index, for a connection that is given up.
    pub fn give_up(&self) -> FormerFiles {
        FormerFiles { log: self.log.clone(), index: self.index.clone() }
    }

    fn describe(&self, file: &OpenFile, found: &Found) -> Error {
        let path = file.path.display();
        let what = if *found == Found::Nothing { "was removed or renamed" } else { "was replaced by another file" };
        let advice = if std::ptr::eq(file, &raw const self.database) {
            "put the same file back, or restart the program to use what is there now"
        } else {
            "it is part of the database, which is opened again once every process has closed it"
        };
        Error::StoreMissing(format!("{path} {what} while it was open, and nothing more is stored: {advice}"))
    }
}

/// Note that a database is being opened, until the result is dropped.
pub fn start_opening() -> RwLockReadGuard<'static, ()> {
    OPENING.read().expect("no thread panics while it holds this lock")
}

/// Run work that opens and closes the file of a database without SQLite, where SQLite does not have it open.
///
/// In a process that closes a file, all its locks on that file end, also those of SQLite.
pub fn without_sqlite<T>(database: FileId, work: impl FnOnce() -> std::io::Result<T>) -> Result<T> {
    let _excluded = OPENING.write().expect("no thread panics while it holds this lock");
    if let Some(files) = OpenFiles::find(database) {
        // With all files in place they would have been read by SQLite.
        files.check()?;
        return Err(Error::StoreMissing(format!("{} is being opened", files.database.path.display())));
    }
    work().map_err(|error| Error::Store(format!("the database cannot be read: {error}")))
}

fn registry() -> MutexGuard<'static, Vec<Weak<OpenFiles>>> {
    OPEN_FILES.lock().expect("no thread panics while it holds this lock")
}

fn find(registry: &mut Vec<Weak<OpenFiles>>, database: FileId) -> Option<Arc<OpenFiles>> {
    registry.retain(|files| files.strong_count() > 0);
    // A forked child has its parent's entries, but must not use the connections they are of.
    let is_wanted = |files: &Arc<OpenFiles>| files.database.id == database && files.pid == std::process::id();
    registry.iter().filter_map(Weak::upgrade).find(is_wanted)
}

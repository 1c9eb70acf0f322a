//! A database that is only read: nothing is created, brought up to date, locked for writing or changed.
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::files::{self, FileId, OpenFiles};
use super::index::{has_unindexed, index_new_rows};
use super::schema;
use super::sql::{self, store_error};
use crate::error::{Error, Result};
use crate::owner;

/// The bytes of a database's header that say how it is written; both are this number with a write-ahead log.
const VERSION_BYTES: std::ops::Range<usize> = 18..20;
const WITH_LOG: u8 = 2;

/// One connection that reads a database.
#[derive(Debug)]
pub struct ReadOnlyDatabase {
    path: PathBuf,
    /// `None` if what was open is no longer what is at the path, and that cannot be opened.
    source: Option<Source>,
    /// A copy in a temporary file with our tables up to date, and the version of the data it was made of.
    copy: Option<(i64, Connection)>,
}

#[derive(Debug)]
struct Source {
    /// Declared first, because it is closed before what it uses is removed.
    connection: Connection,
    access: Access,
    /// The path of the log's index.
    index: PathBuf,
}

/// How a database is read without changing anything beside it.
#[derive(Debug)]
enum Access {
    /// With a log and its index, as the processes that write it have left or opened them.
    Shared(Arc<OpenFiles>),
    /// Without a log: SQLite locks the file itself.
    Locked(FileId),
    /// No process has it open, and reading it in the usual way would create a log. Nothing is locked, so a change shows
    /// that a process has begun to write.
    Still(Stamp),
    /// With a log that has no index, which cannot be read where it is without creating one.
    Copied(Stamp, #[allow(dead_code, reason = "it is removed with this")] TemporaryFolder),
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    id: FileId,
    bytes: u64,
    modified: (i64, i64),
}

impl ReadOnlyDatabase {
    /// Open a database that exists. Errors: `Store` if it does not, or has none of our tables; `StoreTooNew`.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), source: Some(Source::open(path)?), copy: None })
    }

    /// Return the connection to the file as it is, to copy it.
    pub fn source(&mut self) -> Result<&mut Connection> {
        let connection = self.source.as_mut().map(|source| &mut source.connection);
        connection.ok_or_else(|| changed(&self.path))
    }

    /// Return a connection on which all reads work. It may be one to a copy.
    pub fn prepare(&mut self) -> Result<&Connection> {
        let is_current = |source: &Source| source.is_current(&self.path);
        let mut current = self.source.take().filter(is_current);
        if current.is_none() {
            self.copy = None;
            // The old connection is closed by now: SQLite would share its index with the new one.
            current = Some(Source::open(&self.path)?);
        }
        let source = &self.source.insert(current.expect("it was opened above")).connection;
        if !needs_copy(source, &self.path)? {
            self.copy = None;
            return Ok(source);
        }
        let version = source.query_row("PRAGMA data_version", [], |row| row.get(0)).map_err(store_error)?;
        let copy = match self.copy.take() {
            Some((of_version, copy)) if of_version == version => copy,
            _ => copy_up_to_date(source, &self.path)?,
        };
        Ok(&self.copy.insert((version, copy)).1)
    }

    /// Return an error if what was just read may not be of one moment, or not of the file at the path.
    pub fn check(&self) -> Result<()> {
        match self.source.as_ref().map(|source| &source.access) {
            Some(Access::Shared(files)) => files.check(),
            Some(Access::Still(stamp)) => stamp.check(&self.path),
            Some(Access::Locked(_) | Access::Copied(..)) | None => Ok(()),
        }
    }
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let source = Self::connect(path)?;
        schema::read_version(&source.connection, path)?;
        Ok(source)
    }

    fn connect(path: &Path) -> Result<Self> {
        let Ok(stamp) = Stamp::of(path) else {
            return Err(Error::Store(format!("{}: there is no such file", path.display())));
        };
        let index = with_suffix(path, "-shm")?;
        let log_bytes = fs::metadata(with_suffix(path, "-wal")?).map(|file| file.len()).ok();
        if log_bytes.is_some() && index.exists() {
            // Without the last option, SQLite would write its marks into an index that no other process uses.
            let _opening = files::start_opening();
            let connection = open_uri(path, "mode=ro&readonly_shm=1")?;
            connection.query_row("PRAGMA user_version", [], |_| Ok(())).map_err(|error| with_path(path, error))?;
            return Ok(Self { connection, access: Access::Shared(OpenFiles::of_open(path, true)?), index });
        }
        if log_bytes.is_some_and(|bytes| bytes > 0) {
            let folder = TemporaryFolder::new()?;
            files::without_sqlite(stamp.id, || copy_files(path, &folder.0))?;
            if index.exists() {
                return Err(changed(path));
            }
            stamp.check(path)?;
            let connection = schema::connect(&folder.0.join(NAME), false)?;
            return Ok(Self { connection, access: Access::Copied(stamp, folder), index });
        }
        let (options, access) = if files::without_sqlite(stamp.id, || has_log(path))? {
            ("immutable=1", Access::Still(stamp))
        } else {
            ("mode=ro", Access::Locked(stamp.id))
        };
        Ok(Self { connection: open_uri(path, options)?, access, index })
    }

    /// Return whether the connection still reads what is at the path.
    fn is_current(&self, path: &Path) -> bool {
        match &self.access {
            Access::Shared(files) => files.check().is_ok(),
            Access::Locked(id) => FileId::of(path).is_ok_and(|now| now == *id),
            Access::Still(stamp) | Access::Copied(stamp, _) => {
                !self.index.exists() && Stamp::of(path).is_ok_and(|now| now == *stamp)
            }
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Result<Self> {
        let file = fs::metadata(path).map_err(|error| read_error(path, &error))?;
        let id = FileId::from(&file);
        Ok(Self { id, bytes: file.len(), modified: (file.mtime(), file.mtime_nsec()) })
    }

    /// Return an error if the file has changed since.
    fn check(&self, path: &Path) -> Result<()> {
        if Self::of(path)? == *self { Ok(()) } else { Err(changed(path)) }
    }
}

fn open_uri(path: &Path, options: &str) -> Result<Connection> {
    let absolute = std::path::absolute(path).map_err(|error| read_error(path, &error))?;
    let mut uri = String::from("file:");
    for &byte in absolute.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(byte.into());
        } else {
            write!(uri, "%{byte:02X}").expect("a string takes everything");
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(format!("{uri}?{options}"), flags)?;
        connection.busy_timeout(sql::BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        connection.pragma_update(None, "cell_size_check", "ON")?;
        Ok(connection)
    };
    open().map_err(|error| with_path(path, error))
}

fn needs_copy(source: &Connection, path: &Path) -> Result<bool> {
    if schema::read_version(source, path)? < schema::newest_version() {
        return Ok(true);
    }
    has_unindexed(source).map_err(store_error)
}

/// Copy a database into a temporary file, which goes with its connection, and bring our tables there up to date.
fn copy_up_to_date(source: &Connection, path: &Path) -> Result<Connection> {
    let copy = || -> rusqlite::Result<Connection> {
        let mut copy = Connection::open("")?;
        Backup::new(source, &mut copy)?.step(-1)?;
        Ok(copy)
    };
    let copy = copy().map_err(|error| with_path(path, error))?;
    schema::migrate(&copy, path)?;
    index_new_rows(&copy)?;
    Ok(copy)
}

/// Return whether a database is written with a log.
fn has_log(path: &Path) -> std::io::Result<bool> {
    use std::io::Read;
    let mut header = Vec::new();
    fs::File::open(path)?.take(VERSION_BYTES.end as u64).read_to_end(&mut header)?;
    Ok(header.get(VERSION_BYTES).is_some_and(|versions| versions.iter().all(|&version| version == WITH_LOG)))
}

/// The name of a copied database in its folder.
const NAME: &str = "copy.db";

fn copy_files(path: &Path, folder: &Path) -> std::io::Result<()> {
    let log = with_suffix(path, "-wal").map_err(std::io::Error::other)?;
    for (from, to) in [(path, folder.join(NAME)), (&log, folder.join(format!("{NAME}-wal")))] {
        // Without the permissions, which may forbid to write the file.
        std::io::copy(&mut fs::File::open(from)?, &mut fs::File::create_new(to)?)?;
    }
    Ok(())
}

fn changed(path: &Path) -> Error {
    Error::Store(format!("{} was changed while it was read; read it again", path.display()))
}

/// Return the path of a file that SQLite keeps beside a database.
fn with_suffix(path: &Path, suffix: &str) -> Result<PathBuf> {
    let mut name = OsString::from(path.canonicalize().map_err(|error| read_error(path, &error))?);
    name.push(suffix);
    Ok(name.into())
}

fn with_path(path: &Path, error: rusqlite::Error) -> Error {
    schema::with_path(path, store_error(error))
}

fn read_error(path: &Path, error: &std::io::Error) -> Error {
    Error::Store(format!("{} cannot be read: {error}", path.display()))
}

/// A folder that only this user can read.
#[derive(Debug)]
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("agentrunner-{}", owner::new_nonce()));
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| read_error(&folder, &error))?;
        Ok(Self(folder))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

//! A connection that is given up when its files are no longer in place, and made again when they are.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::files::{self, FileId, FormerFiles, OpenFiles};
use super::schema;
use super::sql::store_error;
use crate::error::{Error, Result};

/// The longest time between two checks of the files.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long the log's last checkpoint waits for other connections.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(100);

/// One connection to a database, for as long as its files are in place.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    id: FileId,
    /// Why there is no connection, if there is none.
    open: Result<OpenDatabase>,
    /// What the last connection had open, if it was given up.
    former: Option<FormerFiles>,
}

#[derive(Debug)]
struct OpenDatabase {
    /// Declared before the files, because their entry must last as long as the connection.
    connection: Connection,
    files: Arc<OpenFiles>,
}

impl Database {
    /// Open or create the database.
    pub fn open(path: &Path) -> Result<Self> {
        let open = OpenDatabase::new(path, true)?;
        Ok(Self { path: path.into(), id: open.files.database(), open: Ok(open), former: None })
    }

    /// Open a second connection to the same file.
    pub fn open_second(&self) -> Result<Self> {
        let open = OpenDatabase::same(&self.path, self.id)?;
        Ok(Self { path: self.path.clone(), id: self.id, open: Ok(open), former: None })
    }

    /// Return the connection. Error: `StoreMissing` while the files are not in place.
    pub fn connection(&self) -> Result<&Connection> {
        self.open.as_ref().map(|open| &open.connection).map_err(Clone::clone)
    }

    /// Return the path of the database.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Return the path of the write-ahead log. Error: `StoreMissing` while the files are not in place.
    pub fn log(&self) -> Result<&Path> {
        self.open.as_ref().map(|open| open.files.log()).map_err(Clone::clone)
    }

    /// Check that the files are in place. If they are not, close the connection; the error is `StoreMissing`.
    pub fn check(&mut self) -> Result<()> {
        let open = self.open.as_ref().map_err(Clone::clone)?;
        let checked = open.files.check();
        if let Err(error) = &checked {
            if open.files.needs_checkpoint() {
                // What was acknowledged is then in the file itself, whatever becomes of the log. If this fails, the
                // log keeps it.
                let _ = open.connection.busy_timeout(CHECKPOINT_WAIT);
                let _ = open.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
            }
            self.former = Some(open.files.give_up());
            self.open = Err(error.clone());
        }
        checked
    }

    /// Check that the files are in place, and connect again if they were not before; return whether that was so.
    ///
    /// Only to the same file: in another one the runs and leases of this process do not exist, or are not its own.
    pub fn check_or_reconnect(&mut self) -> Result<bool> {
        if self.open.is_ok() {
            return self.check().map(|()| false);
        }
        // The error that was noticed first says what has happened, and remains true until the connection is made.
        if let Ok(open) = self.connect_again() {
            self.open = Ok(open);
        }
        self.connection().map(|_| true)
    }

    fn connect_again(&self) -> Result<OpenDatabase> {
        if let Some(former) = &self.former
            && !former.can_be_used_together()
        {
            OpenDatabase::check_same(&self.path, self.id)?;
            let _opening = files::start_opening();
            schema::start_anew(&self.path, former.index())?;
        }
        OpenDatabase::same(&self.path, self.id)
    }

    /// Connect again, to get rid of pages that cannot be trusted. Return whether that was possible.
    pub fn reconnect(&mut self) -> bool {
        let open = OpenDatabase::same(&self.path, self.id);
        let is_open = open.is_ok();
        if is_open {
            self.open = open;
        }
        is_open
    }
}

impl OpenDatabase {
    fn new(path: &Path, creates: bool) -> Result<Self> {
        // Before the connection is made, because it would share the index of those that are open.
        if let Some(files) = FileId::of(path).ok().and_then(OpenFiles::find) {
            files.check()?;
            files.check_writable()?;
        }
        let _opening = files::start_opening();
        let connection = schema::connect(path, creates)?;
        // SQLite opens the log when it first reads.
        connection.query_row("PRAGMA user_version", [], |_| Ok(())).map_err(store_error)?;
        let files = OpenFiles::of_open(path, false)?;
        Ok(Self { connection, files })
    }

    /// Open the database only if it is still this file.
    fn same(path: &Path, id: FileId) -> Result<Self> {
        // Before as well, because SQLite removes the log beside an empty file.
        Self::check_same(path, id)?;
        let open = Self::new(path, false)?;
        Self::require(path, open.files.database() == id).map(|()| open)
    }

    fn check_same(path: &Path, id: FileId) -> Result<()> {
        Self::require(path, FileId::of(path)? == id)
    }

    fn require(path: &Path, is_same: bool) -> Result<()> {
        let replaced = || Error::StoreMissing(format!("{} was replaced by another file", path.display()));
        is_same.then_some(()).ok_or_else(replaced)
    }
}

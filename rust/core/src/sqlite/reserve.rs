//! Room for deletions on a disk that is full.
//!
//! A deletion is first written to the log, so it needs space before it frees any. While the disk is nearly full, the log
//! is copied into the file often, so that little of it has to fit there at the end, and a file beside the database
//! keeps some space. A deletion that finds the disk full removes that file and tries again.
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The free space below which a disk counts as nearly full.
const LOW_BYTES: u64 = 64 << 20;
/// The size of the reserve, on small disks this part of the disk.
const RESERVE_BYTES: u64 = 512 << 10;
const RESERVE_PART: u64 = 8;
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The reserve of a database.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    folder: PathBuf,
    is_low: bool,
    last_check: Option<Instant>,
}

impl Reserve {
    pub fn new(database: &Path) -> Self {
        let mut path = OsString::from(database);
        path.push("-reserve");
        let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { path: path.into(), folder: folder.into(), is_low: false, last_check: None }
    }

    /// Return whether the disk was nearly full at the last check.
    pub fn is_low(&self) -> bool {
        self.is_low
    }

    /// Look how full the disk is, if that is due; create or remove the file accordingly.
    pub fn check(&mut self) {
        if self.last_check.is_some_and(|last| last.elapsed() < CHECK_INTERVAL) {
            return;
        }
        self.last_check = Some(Instant::now());
        let Ok(disk) = rustix::fs::statvfs(&self.folder) else { return };
        let (free, total) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        let was_low = std::mem::replace(&mut self.is_low, free < LOW_BYTES);
        let bytes = RESERVE_BYTES.min(total / RESERVE_PART);
        if !self.is_low {
            if was_low {
                self.release();
            }
        } else if free > 2 * bytes && !self.path.exists() && fs::write(&self.path, vec![0; bytes as usize]).is_err() {
            self.release();
        }
    }

    /// Free the space.
    pub fn release(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

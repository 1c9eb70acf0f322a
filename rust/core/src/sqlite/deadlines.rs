//! Deadlines of leases and journals, by the monotonic clock, so that a step of the wall clock changes none of them.
use rusqlite::{Connection, params};

use super::sql::store_error;
use crate::clock;
use crate::error::Result;

/// The base of a deadline: a deadline above it is by the monotonic clock, in milliseconds from here.
///
/// Version 0.1.0 wrote wall clock times and may still run on the same file. It reads these as times in the far future
/// and leaves the leases and journals they belong to alone.
pub const MONOTONIC_BASE_MS: i64 = 1 << 60;

/// Return the deadline that is this many milliseconds from now.
pub fn in_ms(milliseconds: i64) -> i64 {
    MONOTONIC_BASE_MS + clock::now_ms() + milliseconds
}

/// After a boot, extend all deadlines of journals: the monotonic clock has started again, so they would mean nothing.
///
/// Each journal then lasts for `resume_ms` from the file's first use.
pub fn adopt_boot(db: &Connection, resume_ms: i64) -> Result<()> {
    let adopt = || -> rusqlite::Result<()> {
        // A system without boot ids counts every opening as a boot, which only keeps journals longer.
        let same_boot = "SELECT 1 FROM boot WHERE id = ?1 AND id <> ''";
        if db.prepare(same_boot)?.exists([clock::boot_id()])? {
            return Ok(());
        }
        // In one transaction, or a crash in between would keep the deadlines of the earlier boot.
        let write = db.unchecked_transaction()?;
        write.execute("DELETE FROM boot", [])?;
        write.execute("INSERT INTO boot VALUES (?1)", [clock::boot_id()])?;
        write.execute("UPDATE journal_expiry SET expires_at = ?1", params![in_ms(resume_ms)])?;
        write.commit()
    };
    adopt().map_err(store_error)
}

#[cfg(test)]
mod tests {
    use super::super::sql;
    use super::*;

    #[test]
    fn version_0_1_0_reads_a_deadline_as_the_far_future() {
        assert!(in_ms(0) > sql::now_ms() * 1000);
        assert!(in_ms(i64::from(u32::MAX)) > in_ms(0), "it must not overflow");
    }
}

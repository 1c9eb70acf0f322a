//! Moments that something lasts until, as the file has them: by the boot's clock, which no step of the wall clock moves.
use rusqlite::{Connection, params};

use super::schema::store_error;
use crate::clock;
use crate::error::Result;

/// What is above this is by the boot's clock, in milliseconds from here. The first version wrote the wall clock's time
/// and may still be running on the same file: it takes these for far off, and leaves what they are about to us.
pub const STEADY: i64 = 1 << 60;

/// The moment so many milliseconds from now.
pub fn in_ms(milliseconds: i64) -> i64 {
    STEADY + clock::now_ms() + milliseconds
}

/// After a boot, has what was to last for some time from now on last so long from the file's first use.
pub fn begin_boot(db: &Connection, resume_ms: i64) -> Result<()> {
    let begin = || -> rusqlite::Result<()> {
        let same = "SELECT 1 FROM boot WHERE id = ?1 AND id <> ''";
        if db.prepare(same)?.exists([clock::boot_id()])? {
            return Ok(());
        }
        let write = db.unchecked_transaction()?;
        write.execute("DELETE FROM boot", [])?;
        write.execute("INSERT INTO boot VALUES (?1)", [clock::boot_id()])?;
        write.execute("UPDATE journal_expiry SET expires_at = ?1", params![in_ms(resume_ms)])?;
        write.commit()
    };
    begin().map_err(store_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_the_first_version_they_are_far_off() {
        assert!(in_ms(0) > super::super::schema::now_ms() * 1000);
        assert!(in_ms(i64::from(u32::MAX)) > in_ms(0), "no overflow");
    }
}

//! What must be true of the SQLite inside.
use agentrunner_core::sqlite::SqliteStore;

#[test]
fn sqlite_is_newer_than_its_wal_reset_bug() {
    let version: Vec<u32> = SqliteStore::sqlite_version().split('.').map(|part| part.parse().unwrap()).collect();
    // 3.7.0 to 3.51.2 can lose committed data when a write-ahead log is reset (spec: fixed in 3.51.3 and 3.53.0).
    assert!(version >= vec![3, 53, 0], "bundled SQLite {version:?}");
}

//! The SQLite store: its operations in the order of a run, and the properties of the bundled SQLite.
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use agentrunner_core::error::{Error, Result};
use agentrunner_core::finalize::Ending;
use agentrunner_core::frames::{self, Cursor};
use agentrunner_core::recorder::{Limits, Recorder};
use agentrunner_core::sqlite::{
    Change, Claim, Claimed, Durability, KnownIds, Position, Retention, ScopeFilter, SqliteStore, StoredRun, ThreadRow,
};

/// A store in a folder of its own, which is removed with it.
struct File {
    store: Option<SqliteStore>,
    folder: PathBuf,
}

impl File {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("agentrunner-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut file = Self { store: None, folder };
        file.open(60_000);
        file
    }

    fn open(&mut self, lease_ms: i64) {
        self.store = None;
        let path = self.folder.join("threads.db");
        self.store = Some(SqliteStore::open(&path, Durability::Strict, lease_ms, 60_000, false).unwrap());
    }

    /// Call an operation and wait for its result.
    fn call<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&SqliteStore, Box<dyn FnOnce(Result<T>) + Send>),
    ) -> Result<T> {
        let (sender, receiver) = channel();
        operation(self.store.as_ref().unwrap(), Box::new(move |result| sender.send(result).unwrap()));
        receiver.recv().unwrap()
    }

    fn claim(&self, thread: &str, run: &str, scope: Option<&str>) -> Result<Claimed> {
        let (thread, run, scope) = (thread.to_owned(), run.to_owned(), scope.map(ToOwned::to_owned));
        self.call(|store, done| store.claim(thread, run, "{}".into(), None, vec!["m".into()], scope, done))
    }

    /// Record a run with one message, store it, and return its recorder.
    fn store_run(&self, thread: &str, run: &str, message: &str) -> Arc<Mutex<Recorder>> {
        let claim = self.claim(thread, run, None).unwrap().claim;
        let recorder = recorder(&claim, message);
        let (batch, barrier) = recorder.lock().unwrap().take().unwrap();
        self.call(|store, done| store.append(&claim, batch, barrier, done)).unwrap();
        self.call(|store, done| store.finish(&claim, recorder.clone(), true, done)).unwrap();
        recorder
    }

    fn cursors(&self, thread: &str, after: Cursor) -> Vec<String> {
        let page = self.call(|store, done| store.history(thread.to_owned(), after, None, 1 << 20, done)).unwrap();
        frames::iter(&page.bytes).map(|frame| frame.unwrap().0.to_string()).collect()
    }

    fn thread(&self, thread: &str) -> Result<ThreadRow> {
        self.call(|store, done| store.thread(thread.to_owned(), done))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.store = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn recorder(claim: &Claim, message: &str) -> Arc<Mutex<Recorder>> {
    let (thread, run) = (&claim.thread_id, &claim.run_id);
    let mut recorder = Recorder::new(thread, run, "{}", &HashSet::new(), claim.first_seq, Limits::default());
    for json in [
        format!(r#"{{"type":"RUN_STARTED","threadId":"{thread}","runId":"{run}"}}"#),
        format!(r#"{{"type":"TEXT_MESSAGE_START","messageId":"{message}"}}"#),
        format!(r#"{{"type":"TEXT_MESSAGE_CONTENT","messageId":"{message}","delta":"a"}}"#),
        format!(r#"{{"type":"TEXT_MESSAGE_CONTENT","messageId":"{message}","delta":"b"}}"#),
    ] {
        recorder.accept(json.as_bytes()).unwrap();
    }
    recorder.finalize(Ending { stop_requested: true, ..Ending::default() });
    Arc::new(Mutex::new(recorder))
}

const START: Cursor = Cursor { seq: 0, index: None };

fn at(seq: u64) -> Cursor {
    Cursor { seq, index: None }
}

#[test]
fn sqlite_is_newer_than_its_wal_reset_bug() {
    let version: Vec<u32> = SqliteStore::sqlite_version().split('.').map(|part| part.parse().unwrap()).collect();
    // 3.7.0 to 3.51.2 can lose committed data when a write-ahead log is reset (fixed in 3.51.3 and 3.53.0).
    assert!(version >= vec![3, 53, 0], "bundled SQLite {version:?}");
}

#[test]
fn a_stored_run_is_read_as_compacted_frames() {
    let file = File::new("read");
    file.store_run("t", "one", "m");
    file.store_run("t", "two", "n");
    // Six raw events each; the two deltas are compacted to one.
    let first: Vec<_> = (0..5).map(|index| format!("6.{index}")).collect();
    let second: Vec<_> = (0..5).map(|index| format!("12.{index}")).collect();
    assert_eq!(file.cursors("t", START), [first, second.clone()].concat());
    assert_eq!(file.cursors("t", at(6)), second);
    assert_eq!(file.cursors("t", Cursor { seq: 12, index: Some(3) }), ["12.4"]);
    let locate = |cursor| file.call(|store, done| store.locate("t".to_owned(), cursor, done));
    assert_eq!(locate(at(6)).unwrap(), Position::Stored);
    assert_eq!(locate(at(8)).unwrap(), Position::Journal(7, 12));
    assert!(matches!(locate(at(13)), Err(Error::CursorAhead(_))));
    let page = file.call(|store, done| store.journal("t", 8, None, 1 << 20, done)).unwrap();
    assert_eq!((frames::count(&page.bytes), page.live_token), (4, None));
}

#[test]
fn a_thread_has_one_live_run_and_uses_a_run_id_once() {
    let file = File::new("claim");
    let claimed = file.claim("t", "one", Some("a")).unwrap();
    assert_eq!((claimed.claim.first_seq, claimed.known_ids.len()), (1, 0));
    assert_eq!(file.claim("t", "two", Some("a")).unwrap_err(), Error::ThreadAlreadyRunning);
    assert!(matches!(file.claim("t", "two", Some("b")).unwrap_err(), Error::ThreadNotFound(_)));
    assert!(file.claim("u", "one", None).is_ok(), "a run id is unique within its thread only");
    let recorder = recorder(&claimed.claim, "m");
    file.call(|store, done| store.finish(&claimed.claim, recorder, true, done)).unwrap();
    assert_eq!(file.claim("t", "one", Some("a")).unwrap_err(), Error::RunAlreadyExists("one".into()));
    assert_eq!(file.claim("t", "two", Some("a")).unwrap().known_ids, KnownIds::from([("m".into(), 6)]));
}

#[test]
fn an_owner_that_lost_its_lease_writes_nothing() {
    let mut file = File::new("lease");
    let claim = file.claim("t", "one", None).unwrap().claim;
    file.open(60_000);
    // The first store is closed, so its owner is known to be gone.
    let claims = file.call(|store, done| store.recover(None, done)).unwrap();
    assert!(claims.len() == 1 && claims[0].token > claim.token);
    let recorder = recorder(&claim, "m");
    let (batch, barrier) = recorder.lock().unwrap().take().unwrap();
    let appended = file.call(|store, done| store.append(&claim, batch, barrier, done));
    assert!(matches!(appended, Err(Error::LeaseLost(_))));
    let finished = file.call(|store, done| store.finish(&claim, recorder, true, done));
    assert!(matches!(finished, Err(Error::LeaseLost(_))));
    assert_eq!(file.call(|store, done| store.renew(vec![claim, claims[0].clone()], done)).unwrap(), [false, true]);
    assert_eq!(file.cursors("t", START), Vec::<String>::new());
}

#[test]
fn a_stop_is_requested_once_and_seen_by_the_owner() {
    let file = File::new("stop");
    let claim = file.claim("t", "one", None).unwrap().claim;
    let request = |run: Option<&str>| {
        let run = run.map(ToOwned::to_owned);
        file.call(|store, done| store.request_stop("t".to_owned(), run, done)).unwrap()
    };
    assert_eq!([request(Some("other")), request(Some("one")), request(None)], [false, true, false]);
    assert_eq!(file.call(SqliteStore::stops).unwrap(), [claim.token]);
    assert!(file.call(|store, done| store.live(None, done)).unwrap()[0].stop_requested);
}

#[test]
fn threads_are_listed_renamed_and_deleted() {
    let file = File::new("threads");
    for (thread, run) in [("a", "1"), ("b", "2"), ("c", "3")] {
        file.store_run(thread, run, "m");
    }
    file.call(|store, done| store.rename("a".to_owned(), Some("name".into()), done)).unwrap();
    file.call(|store, done| store.archive("b", true, done)).unwrap();
    file.call(|store, done| store.delete("c", done)).unwrap();
    let list = |archived| {
        let rows = file.call(|store, done| store.threads(9, None, archived, None, ScopeFilter::Any, done)).unwrap();
        rows.into_iter().map(|row| row.thread_id).collect::<HashSet<_>>()
    };
    assert_eq!(list(false), HashSet::from(["a".into()]));
    assert_eq!(list(true), HashSet::from(["a".into(), "b".into()]));
    assert_eq!(file.thread("a").unwrap().name.as_deref(), Some("name"));
    assert!(matches!(file.thread("c"), Err(Error::ThreadNotFound(_))));
    file.call(|store, done| store.clear(ScopeFilter::Only(None), done)).unwrap();
    assert_eq!(list(true), HashSet::new());
}

#[test]
fn retention_removes_the_oldest_runs_and_what_only_they_had() {
    let file = File::new("prune");
    for (run, message) in [("1", "m"), ("2", "n"), ("3", "o")] {
        file.store_run("t", run, message);
    }
    let retention = Retention { max_runs: Some(1), since: None };
    assert_eq!(
        file.call(|store, done| store.prune(retention, 1, done)).unwrap(),
        1,
        "no more than the limit at a time"
    );
    assert_eq!(file.call(|store, done| store.prune(retention, 9, done)).unwrap(), 1);
    assert_eq!(file.call(|store, done| store.prune(retention, 9, done)).unwrap(), 0);
    assert_eq!(file.cursors("t", START).len(), 5);
    assert_eq!(file.claim("t", "4", None).unwrap().known_ids, KnownIds::new(), "message `m` may come again");
}

#[test]
fn threads_are_copied_run_by_run() {
    let (from, to) = (File::new("copy-from"), File::new("copy-to"));
    from.store_run("t", "1", "m");
    from.store_run("t", "2", "n");
    let row = from.thread("t").unwrap();
    let runs: Vec<StoredRun> = from.call(|store, done| store.runs("t".to_owned(), 0, 1 << 20, done)).unwrap();
    assert_eq!(runs[1].parent_run_id.as_deref(), Some("1"));
    for _ in 0..2 {
        to.call(|store, done| store.put(row.clone(), runs.clone(), done)).unwrap();
    }
    assert_eq!(to.call(|store, done| store.runs("t", 0, 1 << 20, done)).unwrap(), runs);
    assert_eq!(to.thread("t").unwrap(), row);
    let gap = StoredRun { run_id: "3".into(), ..runs[0].clone() };
    assert!(matches!(to.call(|store, done| store.put(row, vec![gap], done)), Err(Error::Store(_))));
}

#[test]
fn records_change_all_together_or_not_at_all() {
    let file = File::new("records");
    let change = |key: &str, version| Change {
        kind: "kind".into(),
        key: key.into(),
        thread_id: "t".into(),
        value: Some(b"value".to_vec()),
        version,
    };
    let write = |changes| file.call(|store, done| store.write_records(changes, None, done));
    assert_eq!(write(vec![change("a", Some(0)), change("b", None)]), Ok(vec![1, 2]));
    let conflict = Err(Error::RecordConflict("kind".into(), "a".into()));
    assert_eq!(write(vec![change("b", Some(2)), change("a", Some(0))]), conflict);
    let record = file.call(|store, done| store.record("kind".into(), "b".into(), done)).unwrap().unwrap();
    assert_eq!(record.version, 2, "the first change was rolled back with the second");
    let page = file.call(|store, done| store.records(None, Some("t".into()), None, 1, done)).unwrap();
    assert_eq!(page[0].key, "a");
}

#[test]
fn an_inspection_counts_and_finds_nothing_wrong() {
    let file = File::new("inspect");
    file.store_run("t", "1", "m");
    file.claim("u", "2", None).unwrap();
    let report = file.call(|store, done| store.inspect(true, done)).unwrap();
    assert_eq!((report.integrity.as_str(), report.threads, report.runs, report.foreign_runs), ("ok", 1, 1, 0));
    assert!(report.corrupt.is_empty() && report.orphans.is_empty() && report.stuck.is_empty());
}

#[test]
fn a_file_that_is_no_database_or_too_new_is_refused() {
    let mut file = File::new("refused");
    file.store = None;
    let path = file.folder.join("threads.db");
    let open = || SqliteStore::open(&path, Durability::Balanced, 1, 1, false).map(drop);
    open().unwrap();
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(open(), Err(Error::StoreTooNew(text)) if text.contains("threads.db: the file has schema 99")));
    std::fs::write(&path, "not a database, but long enough to have a header of a hundred bytes or more".repeat(9))
        .unwrap();
    assert!(matches!(open(), Err(Error::StoreCorrupt(_))));
}

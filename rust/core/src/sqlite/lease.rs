//! Leases: which owner holds a thread, until when, and which owner takes it over after that.
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rusqlite::{Connection, Row, params};

use super::deadlines::{self, MONOTONIC_BASE_MS};
use super::owner_lock::{self, OwnerLock};
use super::run_ids::from_stored;
use super::sql::{from_sql, is_unreadable, next_token, store_error};
use super::types::{Claim, LiveRun};
use crate::clock;
use crate::error::{Error, Result};
use crate::owner::{self, Clock, Liveness, Owner};

const UNPOISONED: &str = "no thread panics while it holds this lock";

/// The leases of one open store, and what it has seen of other owners' leases.
#[derive(Debug)]
pub struct Leases {
    owner: Owner,
    _lock: Option<OwnerLock>,
    database: PathBuf,
    lease_ms: i64,
    /// The leases that this store's callers use, by token.
    held: Mutex<HashMap<i64, HeldLease>>,
    /// For each lease by another clock, by its token: its expiry when it was first seen, and when that was.
    sightings: Mutex<HashMap<i64, (i64, i64)>>,
}

/// A lease that is extended for as long as its process runs.
#[derive(Debug, Clone)]
pub struct HeldLease {
    thread_id: String,
    token: i64,
    /// When it was last extended.
    extended_at: i64,
}

impl Leases {
    pub fn new(database: &Path, lease_ms: i64) -> Self {
        // The folder by its real name, because SQLite follows a link to the file and has its log there.
        let database = database.canonicalize().unwrap_or_else(|_| database.into());
        let nonce = owner::new_nonce();
        let lock = OwnerLock::acquire(&database, &nonce);
        let owner = Owner::with_mark(&nonce, if lock.is_some() { owner_lock::MARK } else { "" });
        Self { owner, _lock: lock, database, lease_ms, held: Mutex::default(), sightings: Mutex::default() }
    }

    /// Create the leases of a store that only reads, and so holds none.
    pub fn read_only(database: &Path) -> Self {
        let database = database.canonicalize().unwrap_or_else(|_| database.into());
        Self {
            owner: Owner::new(),
            _lock: None,
            database,
            lease_ms: i64::MAX,
            held: Mutex::default(),
            sightings: Mutex::default(),
        }
    }

    /// Remove the files that owners left behind when their processes were killed.
    pub fn remove_stale_locks(&self, db: &Connection) -> Result<()> {
        owner_lock::remove_stale(&self.database, db).map_err(store_error)
    }

    /// Extend a claim's lease from now on, whatever its caller does, until the claim is released.
    pub fn hold(&self, claim: &Claim) {
        let lease = HeldLease { thread_id: claim.thread_id.clone(), token: claim.token, extended_at: clock::now_ms() };
        self.held().insert(claim.token, lease);
        self.owner.hold(claim.token);
    }

    /// Stop extending the lease with this token.
    pub fn release(&self, token: i64) {
        self.held().remove(&token);
        self.owner.release(token);
    }

    /// Return how often the held leases must be looked at; `None` while none is held.
    pub fn renewal_check_ms(&self) -> Option<i64> {
        if self.held().is_empty() { None } else { Some((self.lease_ms / 10).max(5)) }
    }

    /// Return the held leases that were not extended for a third of their time, by their caller or by us.
    pub fn list_due(&self) -> Vec<HeldLease> {
        let due_at = clock::now_ms() - self.lease_ms / 3;
        self.held().values().filter(|lease| lease.extended_at <= due_at).cloned().collect()
    }

    /// Extend held leases.
    ///
    /// Not those of runs that were asked to stop: if such a run's process hangs, its lease must end, or nothing but the
    /// end of the process would free the thread.
    pub fn extend_held(&self, db: &Connection, due: &[HeldLease]) -> Result<()> {
        let extend = "UPDATE live_runs SET expires_at = ?1 WHERE thread_id = ?2 AND token = ?3 AND stop_requested = 0";
        let mut update = db.prepare_cached(extend).map_err(store_error)?;
        for lease in due {
            update.execute(params![self.new_lease().1, lease.thread_id, lease.token]).map_err(store_error)?;
            self.note_extension(lease.token);
        }
        Ok(())
    }

    fn note_extension(&self, token: i64) {
        if let Some(lease) = self.held().get_mut(&token) {
            lease.extended_at = clock::now_ms();
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<i64, HeldLease>> {
        self.held.lock().expect(UNPOISONED)
    }

    /// Return the owner and the expiry of a lease that is taken or extended now.
    pub fn new_lease(&self) -> (&str, i64) {
        (self.owner.as_str(), deadlines::in_ms(self.lease_ms))
    }

    /// Extend a lease. Error: `LeaseLost` if the thread has another owner now.
    pub fn extend(&self, db: &Connection, claim: &Claim) -> Result<()> {
        let changed = db
            .prepare_cached("UPDATE live_runs SET expires_at = ?1 WHERE thread_id = ?2 AND token = ?3")
            .and_then(|mut update| update.execute(params![self.new_lease().1, claim.thread_id, claim.token]))
            .map_err(store_error)?;
        if changed == 0 {
            return Err(lease_lost(claim));
        }
        self.note_extension(claim.token);
        Ok(())
    }

    /// Return the live runs, of all threads or of one, whose owners are gone or whose leases have ended.
    pub fn find_dead(&self, db: &Connection, thread_id: Option<&str>) -> Result<Vec<LiveRun>> {
        let (mut tokens, now) = (HashSet::new(), clock::now_ms());
        let dead = live_runs(db, thread_id, |run, owner, expires_at| {
            tokens.insert(run.claim.token);
            self.is_dead(run, owner, expires_at, now)
        })?;
        // Sightings of ended runs are dropped, or the map would grow with every run. Only a search of all threads tells
        // which runs have ended.
        if thread_id.is_none() {
            self.sightings.lock().expect(UNPOISONED).retain(|token, _| tokens.contains(token));
        }
        Ok(dead)
    }

    /// Return whether a run may be taken over.
    fn is_dead(&self, run: &LiveRun, owner: &str, expires_at: i64, now: i64) -> bool {
        let token = run.claim.token;
        // Also for an owner that is alive, because a silence is counted from its first sighting.
        let has_ended = self.has_ended(owner, token, expires_at, now);
        match owner::liveness(owner) {
            Liveness::Gone => true,
            // A claim that no caller in this process uses any more.
            Liveness::Here => has_ended && !owner::is_held(owner, token),
            // It was late to extend its lease, and will yet do so; unless it hangs and a user wants the thread back.
            Liveness::Running => has_ended && run.stop_requested,
            Liveness::Unknown => has_ended || owner_lock::is_free(&self.database, owner),
        }
    }

    /// Return whether a lease's time is over.
    fn has_ended(&self, owner: &str, token: i64, expires_at: i64, now: i64) -> bool {
        match owner::clock_of(owner) {
            // No process survives a boot.
            Clock::EarlierBoot => true,
            Clock::Ours if expires_at >= MONOTONIC_BASE_MS => expires_at < MONOTONIC_BASE_MS + now,
            // Leases of version 0.1.0 are here too: their expiry is a wall clock time.
            _ => self.is_silent(token, expires_at, now),
        }
    }

    /// Return whether a lease was seen without a change for as long as one lasts.
    ///
    /// The expiry itself means nothing here, because it is by a clock that cannot be compared with ours.
    fn is_silent(&self, token: i64, expires_at: i64, now: i64) -> bool {
        let mut sightings = self.sightings.lock().expect(UNPOISONED);
        let first = sightings.entry(token).or_insert((expires_at, now));
        if first.0 != expires_at {
            *first = (expires_at, now);
        }
        now - first.1 > self.lease_ms
    }

    /// Take over the dead runs, each under a new token.
    pub fn take_over(&self, db: &Connection, thread_id: Option<&str>) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for LiveRun { mut claim, .. } in self.find_dead(db, thread_id)? {
            let (owner, expires_at) = self.new_lease();
            let take = || -> rusqlite::Result<i64> {
                // The new token fences the old owner off: its next write fails with `LeaseLost`.
                let token = next_token(db)?;
                db.prepare_cached("UPDATE live_runs SET token = ?1, owner = ?2, expires_at = ?3 WHERE thread_id = ?4")?
                    .execute(params![token, owner, expires_at, claim.thread_id])?;
                Ok(token)
            };
            claim.token = take().map_err(store_error)?;
            claims.push(claim);
        }
        Ok(claims)
    }
}

/// Return the error for a claim that no longer holds.
pub fn lease_lost(claim: &Claim) -> Error {
    Error::LeaseLost(format!(
        "run '{}' no longer holds thread '{}': its lease ended and another owner took over; nothing was written",
        claim.run_id, claim.thread_id
    ))
}

/// Return the live runs for which `is_wanted` is true; it gets the run, and the owner and the expiry of its lease.
///
/// A row that cannot be read is skipped, so that it blocks only its own thread, until `doctor` frees that.
pub fn live_runs(
    db: &Connection,
    thread_id: Option<&str>,
    mut is_wanted: impl FnMut(&LiveRun, &str, i64) -> bool,
) -> Result<Vec<LiveRun>> {
    // Two statements, so that SQLite looks up a single thread by the primary key.
    let columns = "thread_id, run_id, token, first_seq, input, agent_id, stop_requested, owner, expires_at,
      coalesce((SELECT incarnation FROM threads WHERE threads.thread_id = live_runs.thread_id), 0)";
    let of_thread = format!("SELECT {columns} FROM live_runs WHERE thread_id = ?1");
    let all = format!("SELECT {columns} FROM live_runs WHERE ?1 IS NULL");
    let mut read = || -> rusqlite::Result<Vec<LiveRun>> {
        let mut statement = db.prepare_cached(if thread_id.is_some() { &of_thread } else { &all })?;
        let mut rows = statement.query([thread_id])?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next()? {
            match read_row(row) {
                Ok((run, owner, expires_at)) if is_wanted(&run, &owner, expires_at) => runs.push(run),
                Err(error) if !is_unreadable(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(runs)
    };
    read().map_err(store_error)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<(LiveRun, String, i64)> {
    let thread_id: String = row.get(0)?;
    let claim = Claim {
        run_id: from_stored(row.get(1)?, &thread_id),
        thread_id,
        token: row.get(2)?,
        first_seq: from_sql(row.get(3)?),
        input: row.get(4)?,
        agent_id: row.get(5)?,
        incarnation: row.get(9)?,
    };
    Ok((LiveRun { claim, stop_requested: row.get(6)? }, row.get(7)?, row.get(8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_MS: i64 = 10_000;

    /// An owner on this machine, in a container whose processes are not visible.
    fn owner_in_container() -> String {
        format!("container/{}/pid:[1]/{}|1|2|3", clock::boot_id(), clock::namespace())
    }

    fn owner_far_away() -> String {
        "far/11111111-2222-3333-4444-555555555555/pid:[1]/time:[1]|1|2|3".into()
    }

    fn leases() -> Leases {
        Leases::new(Path::new("/nowhere/threads.db"), LEASE_MS)
    }

    fn run(token: i64, stop_requested: bool) -> LiveRun {
        let (thread_id, run_id, input) = (format!("t{token}"), format!("r{token}"), "{}".into());
        let claim = Claim { thread_id, run_id, token, first_seq: 1, input, agent_id: None, incarnation: 1 };
        LiveRun { claim, stop_requested }
    }

    fn file() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&db, Path::new("memory")).unwrap();
        db
    }

    #[test]
    fn a_lease_by_our_clock_ends_at_its_expiry() {
        let (leases, now) = (leases(), clock::now_ms());
        assert!(!leases.is_dead(&run(1, false), &owner_in_container(), MONOTONIC_BASE_MS + now, now));
        assert!(leases.is_dead(&run(1, false), &owner_in_container(), MONOTONIC_BASE_MS + now, now + 1));
        let (owner, expiry) = leases.new_lease();
        assert!(!leases.is_dead(&run(2, false), owner, expiry, now + LEASE_MS - 1));
        assert!(leases.is_dead(&run(2, false), owner, expiry, now + LEASE_MS * 2), "nobody uses it");
        let gone = Owner::new().as_str().to_owned();
        assert!(leases.is_dead(&run(3, false), &gone, expiry, now));
    }

    // fault A6
    #[test]
    fn a_lease_held_in_this_process_is_never_taken_over() {
        let (leases, other, late) = (leases(), leases(), clock::now_ms() + LEASE_MS * 100);
        let run = run(1, true);
        leases.hold(&run.claim);
        let (owner, expiry) = leases.new_lease();
        assert!(!leases.is_dead(&run, owner, expiry, late) && !other.is_dead(&run, owner, expiry, late));
        leases.release(1);
        assert!(leases.is_dead(&run, owner, expiry, late) && other.is_dead(&run, owner, expiry, late));
    }

    // fault A6
    #[cfg(target_os = "linux")]
    #[test]
    fn the_ended_lease_of_a_running_process_is_taken_over_only_if_it_was_asked_to_stop() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let start = process.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
        let leases = leases();
        let place = leases.owner.as_str().split_once('|').unwrap().0;
        let owner = format!("{place}|{}|{start}|0.0", child.id());
        let late = clock::now_ms() + LEASE_MS * 2;
        let is_dead = |run: &LiveRun| leases.is_dead(run, &owner, leases.new_lease().1, late);
        assert!(!is_dead(&run(1, false)));
        assert!(is_dead(&run(1, true)), "its process may hang");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(leases.is_dead(&run(1, false), &owner, leases.new_lease().1, clock::now_ms()));
    }

    // fault A6
    #[test]
    fn held_leases_are_extended_unless_their_runs_were_asked_to_stop() {
        let (db, leases) = (file(), Leases::new(Path::new("/nowhere/threads.db"), 0));
        for token in [1, 2] {
            let claim = run(token, false).claim;
            db.execute(
                "INSERT INTO live_runs (thread_id, run_id, token, owner, expires_at, stop_requested, input, first_seq)
                 VALUES (?1, ?2, ?3, '', 0, ?4, '{}', 1)",
                params![claim.thread_id, claim.run_id, token, token == 2],
            )
            .unwrap();
            leases.hold(&claim);
        }
        assert_eq!(leases.list_due().len(), 2);
        leases.extend_held(&db, &leases.list_due()).unwrap();
        let expiry = |token: i64| -> i64 {
            db.query_row("SELECT expires_at FROM live_runs WHERE token = ?1", [token], |row| row.get(0)).unwrap()
        };
        assert!(expiry(1) >= MONOTONIC_BASE_MS);
        assert_eq!(expiry(2), 0);
        assert!(leases.renewal_check_ms().is_some());
        (1..3).for_each(|token| leases.release(token));
        assert!(leases.renewal_check_ms().is_none());
    }

    #[test]
    fn a_lease_by_another_clock_ends_when_it_does_not_change_for_as_long_as_one_lasts() {
        let leases = leases();
        let is_dead =
            |token: i64, expiry: i64, now: i64| leases.is_dead(&run(token, false), &owner_far_away(), expiry, now);
        // The expiry may be far behind or far ahead of our clock.
        for (token, expiry) in [(1, 0), (2, MONOTONIC_BASE_MS), (3, i64::MAX - LEASE_MS)] {
            assert!(!is_dead(token, expiry, 5));
            assert!(!is_dead(token, expiry, 5 + LEASE_MS));
            assert!(is_dead(token, expiry, 6 + LEASE_MS));
            assert!(!is_dead(token, expiry + 1, 6 + LEASE_MS), "it was renewed");
            assert!(!is_dead(token, expiry + 1, 6 + LEASE_MS * 2));
            assert!(is_dead(token, expiry + 1, 7 + LEASE_MS * 2));
        }
    }

    #[test]
    fn sightings_of_ended_runs_are_forgotten() {
        let (db, leases) = (file(), leases());
        leases.is_dead(&run(1, false), &owner_far_away(), 0, 0);
        assert!(leases.find_dead(&db, Some("one")).unwrap().is_empty());
        assert_eq!(leases.sightings.lock().unwrap().len(), 1);
        leases.find_dead(&db, None).unwrap();
        assert!(leases.sightings.lock().unwrap().is_empty());
    }
}

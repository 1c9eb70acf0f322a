//! Leases: which owner holds a thread, until when, and which owner takes it over after that.
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use rusqlite::{Connection, Row, params};

use super::deadlines::{self, MONOTONIC_BASE_MS};
use super::sql::{from_sql, is_unreadable, next_token, store_error};
use super::types::{Claim, LiveRun};
use crate::clock;
use crate::error::{Error, Result};
use crate::owner::{self, Clock, Owner};

const UNPOISONED: &str = "no thread panics while it holds this lock";

/// The leases of one open store, and what it has seen of other owners' leases.
#[derive(Debug)]
pub struct Leases {
    owner: Owner,
    lease_ms: i64,
    /// For each lease by another clock, by its token: its expiry when it was first seen, and when that was.
    sightings: Mutex<HashMap<i64, (i64, i64)>>,
}

impl Leases {
    pub fn new(lease_ms: i64) -> Self {
        Self { owner: Owner::new(), lease_ms, sightings: Mutex::default() }
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
        if changed == 0 { Err(lease_lost(claim)) } else { Ok(()) }
    }

    /// Return the live runs, of all threads or of one, whose owners are gone or whose leases have ended.
    pub fn find_dead(&self, db: &Connection, thread_id: Option<&str>) -> Result<Vec<LiveRun>> {
        let (mut tokens, now) = (HashSet::new(), clock::now_ms());
        let dead = live_runs(db, thread_id, |owner, token, expires_at| {
            tokens.insert(token);
            self.has_ended(owner, token, expires_at, now)
        })?;
        // Sightings of ended runs are dropped, or the map would grow with every run. Only a search of all threads tells
        // which runs have ended.
        if thread_id.is_none() {
            self.sightings.lock().expect(UNPOISONED).retain(|token, _| tokens.contains(token));
        }
        Ok(dead)
    }

    fn has_ended(&self, owner: &str, token: i64, expires_at: i64, now: i64) -> bool {
        match owner::clock_of(owner) {
            // No process survives a boot.
            Clock::EarlierBoot => true,
            Clock::Ours if expires_at >= MONOTONIC_BASE_MS => {
                expires_at < MONOTONIC_BASE_MS + now || owner::is_gone(owner)
            }
            // Leases of version 0.1.0 are here too: their expiry is a wall clock time.
            _ => owner::is_gone(owner) || self.is_silent(token, expires_at, now),
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

/// Return the live runs for which `is_wanted` is true; it gets the owner, the token and the expiry of the lease.
///
/// A row that cannot be read is skipped, so that it blocks only its own thread, until `doctor` frees that.
pub fn live_runs(
    db: &Connection,
    thread_id: Option<&str>,
    mut is_wanted: impl FnMut(&str, i64, i64) -> bool,
) -> Result<Vec<LiveRun>> {
    // Two statements, so that SQLite looks up a single thread by the primary key.
    let of_thread = "SELECT thread_id, run_id, token, first_seq, input, agent_id, stop_requested, owner, expires_at
               FROM live_runs WHERE thread_id = ?1";
    let all = "SELECT thread_id, run_id, token, first_seq, input, agent_id, stop_requested, owner, expires_at
               FROM live_runs WHERE ?1 IS NULL";
    let mut read = || -> rusqlite::Result<Vec<LiveRun>> {
        let mut statement = db.prepare_cached(if thread_id.is_some() { of_thread } else { all })?;
        let mut rows = statement.query([thread_id])?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next()? {
            match read_row(row) {
                Ok((run, owner, expires_at)) if is_wanted(&owner, run.claim.token, expires_at) => runs.push(run),
                Err(error) if !is_unreadable(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(runs)
    };
    read().map_err(store_error)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<(LiveRun, String, i64)> {
    let claim = Claim {
        thread_id: row.get(0)?,
        run_id: row.get(1)?,
        token: row.get(2)?,
        first_seq: from_sql(row.get(3)?),
        input: row.get(4)?,
        agent_id: row.get(5)?,
    };
    Ok((LiveRun { claim, stop_requested: row.get(6)? }, row.get(7)?, row.get(8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_MS: i64 = 10_000;

    /// An owner on this machine, in a container whose processes are not visible.
    fn owner_in_container() -> String {
        Owner::new().as_str().replacen('/', "-beside/", 1)
    }

    fn owner_far_away() -> String {
        "far/11111111-2222-3333-4444-555555555555/pid:[1]/time:[1]|1|2|3".into()
    }

    #[test]
    fn a_lease_by_our_clock_ends_at_its_expiry() {
        let leases = Leases::new(LEASE_MS);
        let now = clock::now_ms();
        assert!(!leases.has_ended(&owner_in_container(), 1, MONOTONIC_BASE_MS + now, now));
        assert!(leases.has_ended(&owner_in_container(), 1, MONOTONIC_BASE_MS + now, now + 1));
        let (owner, expiry) = leases.new_lease();
        assert!(!leases.has_ended(owner, 2, expiry, now + LEASE_MS - 1));
        let gone = Owner::new().as_str().to_owned();
        assert!(leases.has_ended(&gone, 3, expiry, now));
    }

    #[test]
    fn a_lease_by_another_clock_ends_when_it_does_not_change_for_as_long_as_one_lasts() {
        let leases = Leases::new(LEASE_MS);
        // The expiry may be far behind or far ahead of our clock.
        for (token, expiry) in [(1, 0), (2, MONOTONIC_BASE_MS), (3, i64::MAX - LEASE_MS)] {
            assert!(!leases.has_ended(&owner_far_away(), token, expiry, 5));
            assert!(!leases.has_ended(&owner_far_away(), token, expiry, 5 + LEASE_MS));
            assert!(leases.has_ended(&owner_far_away(), token, expiry, 6 + LEASE_MS));
            assert!(!leases.has_ended(&owner_far_away(), token, expiry + 1, 6 + LEASE_MS), "it was renewed");
            assert!(!leases.has_ended(&owner_far_away(), token, expiry + 1, 6 + LEASE_MS * 2));
            assert!(leases.has_ended(&owner_far_away(), token, expiry + 1, 7 + LEASE_MS * 2));
        }
    }

    #[test]
    fn sightings_of_ended_runs_are_forgotten() {
        let db = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&db, std::path::Path::new("memory")).unwrap();
        let leases = Leases::new(LEASE_MS);
        leases.has_ended(&owner_far_away(), 1, 0, 0);
        assert!(leases.find_dead(&db, Some("one")).unwrap().is_empty());
        assert_eq!(leases.sightings.lock().unwrap().len(), 1);
        leases.find_dead(&db, None).unwrap();
        assert!(leases.sightings.lock().unwrap().is_empty());
    }
}

//! Leases: who holds a thread, until when, and who takes it over then.
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use rusqlite::{Connection, Row, params};

use super::deadlines::{self, STEADY};
use super::schema::{is_unreadable, store_error};
use super::store::{Claim, LiveRun, next_token, unsigned};
use crate::clock;
use crate::error::{Error, Result};
use crate::owner::{self, Clock, Owner};

/// The leases of one opened store, and what it knows of others'.
#[derive(Debug)]
pub struct Leases {
    owner: Owner,
    lease_ms: i64,
    /// Of leases by a clock that is not ours, by their token: how they were when first seen so, and when that was.
    seen: Mutex<HashMap<i64, (i64, i64)>>,
}

impl Leases {
    pub fn new(lease_ms: i64) -> Self {
        Self { owner: Owner::new(), lease_ms, seen: Mutex::default() }
    }

    /// The owner's name and the moment up to which what is taken, or held still, is held.
    pub fn held(&self) -> (&str, i64) {
        (self.owner.as_str(), deadlines::in_ms(self.lease_ms))
    }

    /// Extends a lease; `LeaseLost` if the thread has another owner now.
    pub fn extend(&self, db: &Connection, claim: &Claim) -> Result<()> {
        let changed = db
            .prepare_cached("UPDATE live_runs SET expires_at = ?1 WHERE thread_id = ?2 AND token = ?3")
            .and_then(|mut update| update.execute(params![self.held().1, claim.thread_id, claim.token]))
            .map_err(store_error)?;
        if changed == 0 { Err(lost(claim)) } else { Ok(()) }
    }

    /// The live runs, of all threads or of one, whose owners are gone or whose leases have ended.
    pub fn dead(&self, db: &Connection, thread_id: Option<&str>) -> Result<Vec<LiveRun>> {
        let (mut tokens, now) = (HashSet::new(), clock::now_ms());
        let dead = live_runs(db, thread_id, |owner, token, expires_at| {
            tokens.insert(token);
            self.has_ended(owner, token, expires_at, now)
        })?;
        if thread_id.is_none() {
            self.seen.lock().expect("never poisoned").retain(|token, _| tokens.contains(token));
        }
        Ok(dead)
    }

    fn has_ended(&self, owner: &str, token: i64, expires_at: i64, now: i64) -> bool {
        match owner::clock_of(owner) {
            Clock::EarlierBoot => true,
            Clock::Ours if expires_at >= STEADY => expires_at < STEADY + now || owner::is_gone(owner),
            _ => owner::is_gone(owner) || self.was_silent(token, expires_at, now),
        }
    }

    /// Whether a lease has been seen without change for as long as one lasts: all that can be said by our clock alone.
    fn was_silent(&self, token: i64, expires_at: i64, now: i64) -> bool {
        let mut seen = self.seen.lock().expect("never poisoned");
        let first = seen.entry(token).or_insert((expires_at, now));
        if first.0 != expires_at {
            *first = (expires_at, now);
        }
        now - first.1 > self.lease_ms
    }

    /// Takes over the dead runs, each under a new token.
    pub fn take_over(&self, db: &Connection, thread_id: Option<&str>) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for LiveRun { mut claim, .. } in self.dead(db, thread_id)? {
            let (owner, until) = self.held();
            let take = || -> rusqlite::Result<i64> {
                let token = next_token(db)?;
                db.prepare_cached("UPDATE live_runs SET token = ?1, owner = ?2, expires_at = ?3 WHERE thread_id = ?4")?
                    .execute(params![token, owner, until, claim.thread_id])?;
                Ok(token)
            };
            claim.token = take().map_err(store_error)?;
            claims.push(claim);
        }
        Ok(claims)
    }
}

pub fn lost(claim: &Claim) -> Error {
    Error::LeaseLost(format!(
        "run '{}' no longer holds thread '{}': its lease ended and another owner took over; nothing was written",
        claim.run_id, claim.thread_id
    ))
}

/// The live runs for which `wanted`, given owner, token and lease end, is true. A row that cannot be read is left out:
/// it costs its own thread, until `doctor` frees that.
pub fn live_runs(
    db: &Connection,
    thread_id: Option<&str>,
    mut wanted: impl FnMut(&str, i64, i64) -> bool,
) -> Result<Vec<LiveRun>> {
    let sql = "SELECT thread_id, run_id, token, first_seq, input, agent_id, stop_requested, owner, expires_at
               FROM live_runs WHERE thread_id = ?1";
    let all = "SELECT thread_id, run_id, token, first_seq, input, agent_id, stop_requested, owner, expires_at
               FROM live_runs WHERE ?1 IS NULL";
    let mut read = || -> rusqlite::Result<Vec<LiveRun>> {
        let mut statement = db.prepare_cached(if thread_id.is_some() { sql } else { all })?;
        let mut rows = statement.query([thread_id])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            match read_row(row) {
                Ok((run, owner, expires_at)) if wanted(&owner, run.claim.token, expires_at) => found.push(run),
                Err(error) if !is_unreadable(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(found)
    };
    read().map_err(store_error)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<(LiveRun, String, i64)> {
    let claim = Claim {
        thread_id: row.get(0)?,
        run_id: row.get(1)?,
        token: row.get(2)?,
        first_seq: unsigned(row.get(3)?),
        input: row.get(4)?,
        agent_id: row.get(5)?,
    };
    Ok((LiveRun { claim, stop_requested: row.get(6)? }, row.get(7)?, row.get(8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: i64 = 10_000;
    /// On this machine, in a container whose processes we cannot see.
    fn beside() -> String {
        Owner::new().as_str().replacen('/', "-beside/", 1)
    }

    fn far_off() -> String {
        "far/11111111-2222-3333-4444-555555555555/pid:[1]/time:[1]|1|2|3".into()
    }

    #[test]
    fn by_our_clock_a_lease_ends_when_it_says() {
        let leases = Leases::new(LEASE);
        let now = clock::now_ms();
        assert!(!leases.has_ended(&beside(), 1, STEADY + now, now));
        assert!(leases.has_ended(&beside(), 1, STEADY + now, now + 1));
        let (own, until) = leases.held();
        assert!(!leases.has_ended(own, 2, until, now + LEASE - 1));
        let gone = Owner::new().as_str().to_owned();
        assert!(leases.has_ended(&gone, 3, until, now));
    }

    #[test]
    fn by_another_clock_it_ends_when_nothing_was_heard_for_as_long_as_one_lasts() {
        let leases = Leases::new(LEASE);
        // Whatever is said, far behind or far ahead of us.
        for (token, said) in [(1, 0), (2, STEADY), (3, i64::MAX - LEASE)] {
            assert!(!leases.has_ended(&far_off(), token, said, 5));
            assert!(!leases.has_ended(&far_off(), token, said, 5 + LEASE));
            assert!(leases.has_ended(&far_off(), token, said, 6 + LEASE));
            assert!(!leases.has_ended(&far_off(), token, said + 1, 6 + LEASE), "it was renewed");
            assert!(!leases.has_ended(&far_off(), token, said + 1, 6 + LEASE * 2));
            assert!(leases.has_ended(&far_off(), token, said + 1, 7 + LEASE * 2));
        }
    }

    #[test]
    fn what_is_no_longer_live_is_forgotten() {
        let db = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&db, std::path::Path::new("memory")).unwrap();
        let leases = Leases::new(LEASE);
        leases.has_ended(&far_off(), 1, 0, 0);
        assert!(leases.dead(&db, Some("one")).unwrap().is_empty());
        assert_eq!(leases.seen.lock().unwrap().len(), 1);
        leases.dead(&db, None).unwrap();
        assert!(leases.seen.lock().unwrap().is_empty());
    }
}

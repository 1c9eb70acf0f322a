//! The store's operations for live runs: claim, append, renew, finish, stop, recover.
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::guard::{find_base, with_snapshot};
use super::index::index_new_rows;
use super::lease::{Leases, live_runs};
use super::sql::{from_sql, next_token, now_ms, refuse_running, set_run_state, store_error, to_sql};
use super::store::SqliteStore;
use super::thread_rows::head_seq;
use super::types::{Claim, Claimed, KnownIds, LiveRun, Target};
use super::{finish, journal, run_ids, thread_rows, threads};
use crate::error::{Error, Result};
use crate::log::Batch;
use crate::recorder::Recorder;

impl SqliteStore {
    /// Return those of the entries that the thread's stored runs have.
    pub fn known_ids(
        &self,
        thread: impl Into<Target>,
        ids: Vec<String>,
        done: impl FnOnce(Result<KnownIds>) + Send + 'static,
    ) {
        let thread = thread.into();
        let work = move |db: &Connection| {
            let known_ids = with_snapshot(db, |db| match find_base(db, &thread)? {
                Some(_) => known_ids(db, &thread.thread_id, ids),
                None => Ok(KnownIds::new()),
            });
            known_ids.map_err(store_error)
        };
        self.read_indexed(work, done);
    }

    /// Claim the thread for a run.
    ///
    /// Errors: `ThreadNotFound` for a thread of another scope, `ThreadAlreadyRunning`, `RunAlreadyExists` for a run id
    /// that the thread has had.
    #[allow(clippy::too_many_arguments, reason = "each is a field of the claim")]
    pub fn claim(
        &self,
        thread_id: String,
        run_id: String,
        input: String,
        agent_id: Option<String>,
        message_ids: Vec<String>,
        scope: Option<String>,
        done: impl FnOnce(Result<Claimed>) + Send + 'static,
    ) {
        let (leases, holder) = (self.leases.clone(), self.leases.clone());
        let work = move |db: &Connection| {
            // The known message ids and the first sequence number come from the index.
            index_new_rows(db)?;
            // Checked first: another scope must not learn even whether the thread is running.
            threads::check_scope(db, &thread_id, scope.as_deref())?;
            refuse_running(db, &thread_id)?;
            let stored_id = run_ids::to_stored(db, &thread_id, &run_id)?;
            let known_ids = known_ids(db, &thread_id, message_ids).map_err(store_error)?;
            thread_rows::create_thread(db, &thread_id, agent_id.as_deref(), scope.as_deref()).map_err(store_error)?;
            let claim = insert_claim(db, thread_id, run_id, &stored_id, input, agent_id, &leases);
            Ok(Claimed { claim: claim.map_err(store_error)?, known_ids })
        };
        self.write(false, work, move |claimed: Result<Claimed>| {
            // On the store's thread: the caller may not hear of its claim for longer than a lease lasts.
            if let Ok(claimed) = &claimed {
                holder.hold(&claimed.claim);
            }
            done(claimed);
        });
    }

    /// Make a batch durable and extend the lease. Error: `LeaseLost` if the thread has another owner now.
    pub fn append(
        &self,
        claim: &Claim,
        batch: Arc<Batch>,
        barrier: bool,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let (claim, leases) = (claim.clone(), self.leases.clone());
        let work = move |db: &Connection| {
            leases.extend(db, &claim)?;
            // An unreadable row of an earlier owner would otherwise hold the numbers of this batch.
            journal::drop_unreadable(db, &claim.thread_id, batch.first_seq)?;
            let mut insert = db
                .prepare_cached("INSERT INTO journal (thread_id, first_seq, count, frames) VALUES (?1, ?2, ?3, ?4)")
                .map_err(store_error)?;
            insert
                .execute(params![claim.thread_id, to_sql(batch.first_seq), to_sql(batch.count), batch.bytes])
                .map_err(store_error)?;
            Ok(())
        };
        self.write(barrier, work, done);
    }

    /// Extend leases; return for each claim whether it is still held.
    pub fn renew(&self, claims: Vec<Claim>, done: impl FnOnce(Result<Vec<bool>>) + Send + 'static) {
        let leases = self.leases.clone();
        let work = move |db: &Connection| {
            let extend = |claim: &Claim| match leases.extend(db, claim) {
                Ok(()) => Ok(true),
                // A lost lease must not undo the renewal of the others, so it is a result and not an error.
                Err(Error::LeaseLost(_)) => Ok(false),
                Err(error) => Err(error),
            };
            claims.iter().map(extend).collect()
        };
        self.write(false, work, done);
    }

    /// End the run: store its row and message ids and drop its lease, in one transaction.
    ///
    /// Without `is_stored` no row is stored, as for a run that recorded nothing of its own. The run is written on the
    /// store's thread. Error: `LeaseLost` if the claim no longer holds.
    pub fn finish(
        &self,
        claim: &Claim,
        recorder: Arc<Mutex<Recorder>>,
        is_stored: bool,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let (claim, claim_token) = (claim.clone(), claim.token);
        let resume_ms = self.resume_ms;
        let work = move |db: &Connection| {
            let recorder = recorder.lock().expect("no thread panics while it holds this lock");
            finish::finish_run(db, &claim, &recorder, is_stored, resume_ms)
        };
        let (leases, token) = (self.leases.clone(), claim_token);
        self.write(true, work, move |outcome: Result<()>| {
            // Even after a failure, because the caller may not try again. Until its next try the lease lasts anyway.
            leases.release(token);
            done(outcome);
        });
    }

    /// Request that the thread's run stops, in any process; with `run_id`, only that run.
    ///
    /// Returns false if there is no such run, or its stop was requested before.
    pub fn request_stop(
        &self,
        thread: impl Into<Target>,
        run_id: Option<String>,
        done: impl FnOnce(Result<bool>) + Send + 'static,
    ) {
        let thread = thread.into();
        let work = move |db: &Connection| {
            if find_base(db, &thread).map_err(store_error)?.is_none() {
                return Ok(false);
            }
            let sql = "UPDATE live_runs SET stop_requested = 1
                       WHERE thread_id = ?1 AND (?2 IS NULL OR run_id IN (?2, ?3)) AND stop_requested = 0";
            let qualified = run_id.as_ref().map(|run_id| run_ids::qualify(&thread.thread_id, run_id));
            db.execute(sql, params![thread.thread_id, run_id, qualified])
                .map(|changed| changed > 0)
                .map_err(store_error)
        };
        self.write(false, work, done);
    }

    /// Return the live runs of all owners, or of one thread.
    pub fn live(&self, thread_id: Option<String>, done: impl FnOnce(Result<Vec<LiveRun>>) + Send + 'static) {
        self.read(move |db| live_runs(db, thread_id.as_deref(), |_, _, _| true), done);
    }

    /// Return the fencing tokens of the live runs whose stop was requested.
    pub fn stops(&self, done: impl FnOnce(Result<Vec<i64>>) + Send + 'static) {
        let work = |db: &Connection| {
            let mut statement = db.prepare_cached(
                // A token of another type is in a corrupt row, which must not fail the query for all others.
                "SELECT token FROM live_runs WHERE stop_requested <> 0 AND typeof(token) = 'integer'",
            )?;
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()
        };
        self.read(move |db| work(db).map_err(store_error), done);
    }

    /// Take over the runs whose owners are gone, or silent past their lease, each under a new token.
    ///
    /// The caller must replay the journal of each, end it and finish it. Expired journals are removed as well.
    pub fn recover(&self, thread_id: Option<String>, done: impl FnOnce(Result<Vec<Claim>>) + Send + 'static) {
        let writer = match self.writer() {
            Ok(writer) => Arc::downgrade(writer),
            Err(error) => return done(Err(error)),
        };
        let leases = self.leases.clone();
        let (reader_leases, holder) = (leases.clone(), leases.clone());
        let take_over = move |result: Result<(bool, Option<String>)>| match (result, writer.upgrade()) {
            (Err(error), _) => done(Err(error)),
            (Ok((false, _)), _) => done(Ok(Vec::new())),
            (Ok(_), None) => done(Err(Error::StoreClosed)),
            (Ok((true, thread_id)), Some(writer)) => {
                let work = move |db: &Connection| {
                    let claims = leases.take_over(db, thread_id.as_deref())?;
                    journal::drop_expired_journal(db).map_err(store_error)?;
                    Ok(claims)
                };
                writer.submit(false, work, move |claims: Result<Vec<Claim>>| {
                    claims.iter().flatten().for_each(|claim| holder.hold(claim));
                    done(claims);
                });
            }
        };
        // The reader looks first: most often there is nothing to do, and no live run waits for the writer.
        let has_work = move |db: &Connection| {
            let has_dead = !reader_leases.find_dead(db, thread_id.as_deref())?.is_empty();
            Ok((has_dead || journal::expired_journal(db).map_err(store_error)?.is_some(), thread_id))
        };
        self.read(has_work, take_over);
    }
}

/// Return those of the ids that the thread has already.
fn known_ids(db: &Connection, thread_id: &str, ids: Vec<String>) -> rusqlite::Result<KnownIds> {
    let mut known_ids = KnownIds::new();
    let mut statement = db.prepare_cached("SELECT seq FROM entries WHERE thread_id = ?1 AND message_id = ?2")?;
    for id in ids {
        // A value of another type is in a corrupt row, which must not fail the claim: its number is unknown.
        let read = |row: &Row<'_>| Ok(row.get_ref(0)?.as_i64().map_or(0, |seq| from_sql(seq.max(0))));
        if let Some(seq) = statement.query_row(params![thread_id, id], read).optional()? {
            known_ids.insert(id, seq);
        }
    }
    Ok(known_ids)
}

fn insert_claim(
    db: &Connection,
    thread_id: String,
    run_id: String,
    stored_id: &str,
    input: String,
    agent_id: Option<String>,
    leases: &Leases,
) -> rusqlite::Result<Claim> {
    let (owner, expires_at) = leases.new_lease();
    let token = next_token(db)?;
    let first_seq = head_seq(db, &thread_id)? + 1;
    db.prepare_cached(
        "INSERT INTO live_runs (thread_id, run_id, token, owner, expires_at, input, agent_id, first_seq)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![thread_id, stored_id, token, owner, expires_at, input, agent_id, first_seq])?;
    set_run_state(db, &thread_id, Some(stored_id), now_ms())?;
    let incarnation = db
        .prepare_cached("SELECT incarnation FROM threads WHERE thread_id = ?1")?
        .query_row([&thread_id], |row| row.get(0))?;
    Ok(Claim { thread_id, run_id, token, first_seq: from_sql(first_seq), input, agent_id, incarnation })
}

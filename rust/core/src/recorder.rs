//! The recorder of a run: it parses, expands, verifies, compacts and frames each event, in this order.
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::chunks::Expander;
use crate::compact::Compactor;
use crate::dedup;
use crate::entries;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::family::{Family, Part, Role};
use crate::finalize::{Calls, Ending};
use crate::frames::{self, Cursor};
use crate::ids::Ids;
use crate::kind::Kind;
use crate::lifecycle::Lifecycle;
use crate::log::{Batch, RunLog};
use crate::patch::Failure;
use crate::recompact::compacted_frames;
use crate::state::StateLimits;
use crate::thinking::Thinking;
use crate::{schema, text};

mod content;
mod limits;
mod lineage;
mod opening;
mod progress;

pub use limits::Limits;
use lineage::Lineage;
pub use progress::Progress;

/// The size from which recording an event takes too long for an event loop.
const LARGE_EVENT_BYTES: usize = 64 << 10;

/// The runner's next step after an event was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Continue.
    None,
    /// Start a commit if none is under way.
    Commit,
    /// Wait until the pending bytes are committed.
    Wait,
    /// Look up [`Recorder::wanted`], and accept the event again: nothing of it is recorded yet.
    LookUp,
}

mod accept;

/// Records one run.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent of one another")]
pub struct Recorder {
    thread_id: String,
    run_id: String,
    /// The input that is added to a `RUN_STARTED` without one.
    input: String,
    /// The names of the tools that the client runs.
    client_tools: HashSet<String>,
    limits: Limits,
    lifecycle: Lifecycle,
    thinking: Thinking,
    ids: Ids,
    /// The entries that the last event needs.
    wanted: Vec<String>,
    keeps_raw_events: bool,
    lineage: Lineage,
    expander: Expander,
    compactor: Compactor,
    /// Has a lock of its own, so that readers do not wait while a run is written to the store.
    log: Arc<Mutex<RunLog>>,
    message_ids: HashSet<String>,
    next_seq: u64,
    pending: Vec<u8>,
    pending_from: u64,
    has_barrier: bool,
    committing: Option<Arc<Batch>>,
    event_count: u64,
    /// Expanded events during one `accept`; kept between calls to save the allocation.
    expanded: Vec<String>,
    /// Whether the event being recorded must not take more than a few milliseconds.
    is_brief: bool,
    /// Whether the run is being ended by the recorder itself.
    is_ending: bool,
    /// Whether the run is stored without its content.
    is_content_dropped: bool,
    progress: Arc<Progress>,
}

impl Recorder {
    /// Create a recorder of the run `run_id`, whose first event gets the sequence number `first_seq`.
    ///
    /// `input` has passed [`dedup::check_input`]. Its messages whose ids are known to the thread are left out.
    pub fn new(
        thread_id: &str,
        run_id: &str,
        input: &str,
        known_ids: &HashSet<String>,
        first_seq: u64,
        limits: Limits,
    ) -> Self {
        Self {
            thread_id: thread_id.into(),
            run_id: run_id.into(),
            input: schema::mend_input(&dedup::strip_known(input, known_ids)).into_owned(),
            client_tools: dedup::tool_names(input),
            limits,
            lifecycle: Lifecycle::new(),
            thinking: Thinking::new(run_id),
            ids: Ids::new(input, known_ids),
            wanted: Vec::new(),
            keeps_raw_events: false,
            lineage: Lineage::default(),
            expander: Expander::of_shared_ids(),
            compactor: Compactor::new(),
            log: Arc::new(Mutex::new(RunLog::new(first_seq, limits.window_bytes))),
            message_ids: HashSet::new(),
            next_seq: first_seq,
            pending: Vec::new(),
            pending_from: first_seq,
            has_barrier: false,
            committing: None,
            event_count: 0,
            expanded: Vec::new(),
            is_brief: false,
            is_ending: false,
            is_content_dropped: false,
            progress: Arc::new(Progress::before(first_seq)),
        }
    }

    /// Look up the ids of the thread's earlier runs; without this, ids are unique only within the run.
    #[must_use]
    pub fn with_history(mut self) -> Self {
        self.ids.look_up();
        self
    }

    /// Note that the run continues an earlier attempt, whose calls its agent may repeat; see [`Ids::resume`].
    pub fn resume(&mut self, calls: Option<Vec<String>>) {
        self.ids.resume(calls);
    }

    /// Record `RAW` events and `rawEvent` fields.
    #[must_use]
    pub fn with_raw_events(mut self) -> Self {
        self.keeps_raw_events = true;
        self
    }

    fn verify(&mut self, event: &Event<'_>) -> Result<()> {
        if matches!(event.role(), Role::RunFinished | Role::RunError) {
            self.close_before(event)?;
        }
        // An input that the agent supplies stays untouched (docs/spec/reference-runners.md §3.2).
        if event.kind() == Kind::RunStarted && event.get("input").is_none() {
            let input = self.ids.rewrite_input(&self.input);
            let filled = event.with_field("input", &input);
            self.record(&Event::parse_str(&filled)?)?;
        } else {
            self.record(event)?;
        }
        if event.kind() == Kind::RunStarted { self.record_opening() } else { Ok(()) }
    }

    /// Close what the agent has left open before its terminal event.
    fn close_before(&mut self, terminal: &Event<'_>) -> Result<()> {
        let arguments = |id: &str| self.compactor.text_of(Family::ToolCall, id);
        let is_new = |id: &str, message: &str| self.ids.is_new_call(id, message) == Ok(true);
        let calls = Calls { client_tools: &self.client_tools, arguments: &arguments, is_new: &is_new };
        let closing = self.lifecycle.close_before(terminal, calls);
        closing.iter().try_for_each(|json| self.verify_own(&Event::parse_str(json)?))
    }

    fn record(&mut self, event: &Event<'_>) -> Result<()> {
        self.check_run_bytes(event)?;
        if self.is_brief && self.compactor.ends_large_state(event) {
            return Err(Error::TakesLong);
        }
        // Check before recording, because a refused event must leave no trace.
        self.lifecycle.check(event)?;
        self.compact(event)?;
        self.note(event);
        if self.pending.is_empty() {
            self.pending_from = self.next_seq;
        }
        frames::write(&mut self.pending, Cursor { seq: self.next_seq, index: None }, event.json());
        self.next_seq += 1;
        // A commit with one of these waits for the disk even with `balanced`, so a power cut loses neither it nor
        // anything before it (docs/spec/durability.md).
        self.has_barrier |= event.role().is_barrier();
        self.report_progress();
        Ok(())
    }

    fn compact(&mut self, event: &Event<'_>) -> Result<()> {
        if self.is_content_dropped {
            return Ok(());
        }
        let limits = StateLimits { state_bytes: self.limits.state_bytes, is_brief: self.is_brief };
        self.compactor.push_within(event, limits).map_err(|failure| match failure {
            Failure::OverBudget if self.is_brief => Error::TakesLong,
            Failure::OverBudget => Error::InvalidEvent("STATE_DELTA: the patch takes too much work".into()),
            Failure::TooLarge(reason) => Error::StateTooLarge(format!("{}: {reason}", event.type_name())),
            Failure::Refused(reason) | Failure::OverLimit(reason) => {
                Error::InvalidEvent(format!("{}: {reason}", event.type_name()))
            }
        })
    }

    /// Refuse an event that would make the compacted run larger than its limit.
    fn check_run_bytes(&self, event: &Event<'_>) -> Result<()> {
        let (bytes, limit) = (self.compactor.bytes() + event.json().len(), self.limits.run_bytes);
        if bytes <= limit || self.is_ending {
            return Ok(());
        }
        let run_id = &self.run_id;
        Err(Error::RunTooLarge(format!("the events of run '{run_id}' would have {bytes} bytes, the limit is {limit}")))
    }

    fn note(&mut self, event: &Event<'_>) {
        self.event_count += 1;
        if event.role().is_boundary() {
            self.thinking.reset();
        }
        // The message is known from its START, and most events of a run are deltas.
        if !self.is_content_dropped && !matches!(event.role(), Role::Stream(_, Part::Delta | Part::End)) {
            entries::each_entry(event, |entry| {
                self.message_ids.insert(entry);
            });
        }
    }

    fn pressure(&self) -> Pressure {
        match self.pending.len() {
            bytes if bytes >= self.limits.pending_bytes => Pressure::Wait,
            // With no commit under way each event starts one, so a slow run is shown without delay.
            bytes if bytes >= self.limits.commit_bytes || self.committing.is_none() || self.has_barrier => {
                Pressure::Commit
            }
            _ => Pressure::None,
        }
    }

    /// End the run: close open items, and add a terminal event if there is none.
    pub fn finalize(&mut self, ending: Ending<'_>) {
        // The limits end a run, so they must not refuse its end.
        self.is_brief = false;
        self.is_ending = true;
        let (thread_id, run_id) = (self.thread_id.clone(), self.run_id.clone());
        if ending.stop_requested && !self.lifecycle.is_started() && !self.lifecycle.has_ended() {
            // A run stopped before its first event must still start and end for its readers.
            let (thread, run) = (text::quote(&thread_id), text::quote(&run_id));
            self.record_own(&format!("{{\"type\":\"RUN_STARTED\",\"threadId\":{thread},\"runId\":{run}}}"));
        }
        let arguments = |id: &str| self.compactor.text_of(Family::ToolCall, id);
        let is_new = |id: &str, message: &str| self.ids.is_new_call(id, message) == Ok(true);
        let calls = Calls { client_tools: &self.client_tools, arguments: &arguments, is_new: &is_new };
        let ending = Ending { run: Some((&thread_id, &run_id)), calls: Some(calls), ..ending };
        for json in self.lifecycle.finalize(&ending) {
            self.record_own(&json);
        }
    }

    fn record_own(&mut self, json: &str) {
        let event = Event::parse_str(json).expect("the recorder wrote it");
        self.verify_own(&event).expect("what finalize returns is in order");
    }

    /// Take all pending frames for a commit; `None` if there are none or a commit is under way.
    ///
    /// The flag says whether a barrier is among them: the commit must then wait for the disk.
    pub fn take(&mut self) -> Option<(Arc<Batch>, bool)> {
        // One commit at a time keeps batches in order, in the store and for readers.
        if self.committing.is_some() || self.pending.is_empty() {
            return None;
        }
        // The next batch is most often as large as this one.
        let capacity = self.pending.len();
        let bytes = std::mem::replace(&mut self.pending, Vec::with_capacity(capacity));
        let first_seq = self.pending_from;
        let batch = Arc::new(Batch { first_seq, count: self.next_seq - first_seq, bytes });
        self.committing = Some(batch.clone());
        Some((batch, std::mem::take(&mut self.has_barrier)))
    }

    /// Show readers the batch that was taken, which is durable now.
    pub fn publish(&mut self) {
        if let Some(batch) = self.committing.take() {
            self.lock_log().publish(batch);
        }
    }

    /// Record frames that are already durable, from a run recorded in another process or before a crash.
    ///
    /// Returns `StoreCorrupt` at the first frame that is damaged or out of order; those before it are recorded. An
    /// event that a 1.0 client could not read is corrected, unless that is impossible.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<()> {
        let first_seq = self.next_seq;
        let mut mended = HashMap::new();
        let outcome = frames::iter(bytes).try_for_each(|frame| self.replay_frame(frame?, &mut mended));
        let count = self.next_seq - first_seq;
        self.report_progress();
        if count > 0 {
            // Publish the readable frames even if the rest is damaged: the run then ends after them.
            let readable = if outcome.is_ok() { bytes.len() } else { frames::length_of(bytes, count) };
            let bytes = frames::replace(&bytes[..readable], &mended);
            self.lock_log().publish(Arc::new(Batch { first_seq, count, bytes }));
        }
        outcome
    }

    fn replay_frame(&mut self, (cursor, json): (Cursor, &str), mended: &mut HashMap<u64, String>) -> Result<()> {
        if cursor.seq != self.next_seq || cursor.index.is_some() {
            let (run_id, expected) = (&self.run_id, self.next_seq);
            return Err(Error::StoreCorrupt(format!(
                "the journal of run '{run_id}' has frame {cursor} in place of frame {expected}"
            )));
        }
        let unreadable = |error: Error| {
            let run_id = &self.run_id;
            Error::StoreCorrupt(format!("frame {cursor} in the journal of run '{run_id}' is not an event: {error}"))
        };
        let event = Event::parse_str(json).map_err(unreadable)?;
        // Its order is not verified again, because each frame was verified before it was written. Its fields may be
        // those of a version that did not check them.
        if let Some(Cow::Owned(json)) = schema::mend(&event) {
            let event = Event::parse_str(&json).map_err(unreadable)?;
            self.note_replayed(&event);
            mended.insert(cursor.seq, json);
        } else {
            self.note_replayed(&event);
        }
        self.next_seq += 1;
        Ok(())
    }

    fn note_replayed(&mut self, event: &Event<'_>) {
        self.lifecycle.note(event);
        if !self.is_content_dropped {
            self.compactor.push(event);
        }
        self.note(event);
    }

    fn lock_log(&self) -> MutexGuard<'_, RunLog> {
        self.log.lock().expect("no thread panics while it holds this lock")
    }

    /// Return the log that readers read, so that they need not wait for the recorder.
    pub fn log(&self) -> Arc<Mutex<RunLog>> {
        self.log.clone()
    }

    /// Return the run's compacted frames up to now, from index `skip` on, and the sequence number they go up to.
    ///
    /// A reader may see them once that number is published.
    pub fn prefix(&self, skip: u64) -> (Vec<u8>, u64) {
        let up_to = self.next_seq - 1;
        (compacted_frames(&self.compactor, up_to, skip), up_to)
    }

    fn report_progress(&self) {
        let ended_with = self.lifecycle.ended_with;
        self.progress.report(self.event_count, self.last_seq(), self.compactor.bytes(), ended_with);
    }

    /// Return the recorder's progress, for callers that must not wait for its lock.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Return how many events are recorded.
    pub fn event_count(&self) -> u64 {
        self.event_count
    }

    /// Return the sequence number of the last event recorded.
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Return whether a terminal event is recorded.
    pub fn has_ended(&self) -> bool {
        self.lifecycle.has_ended()
    }

    /// Return whether the terminal event is a `RUN_ERROR`.
    pub fn has_failed(&self) -> bool {
        self.lifecycle.ended_with == Some(Kind::RunError)
    }
}

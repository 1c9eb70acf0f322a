//! One run being recorded: parsed, expanded, verified, its input filled, compacted and framed, in this order.
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::chunks::Expander;
use crate::compact::{Compactor, with_field};
use crate::dedup;
use crate::error::{Error, Result};
use crate::event::{Event, Kind};
use crate::frames::{self, Cursor};
use crate::lifecycle::{Ending, Lifecycle};
use crate::log::{Batch, RunLog};
use crate::text;

/// The limits of a recorder; each is an option of the runner.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest event, in bytes of JSON.
    pub event_bytes: usize,
    /// The longest id, in bytes.
    pub id_bytes: usize,
    /// How much of a live run's newest frames stays in memory, in bytes.
    pub window_bytes: usize,
    /// Past this many bytes that wait, a commit is started.
    pub commit_bytes: usize,
    /// Past this many bytes that wait, the agent is kept waiting.
    pub pending_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_bytes: 4 << 20,
            id_bytes: 1 << 10,
            window_bytes: 4 << 20,
            commit_bytes: 64 << 10,
            pending_bytes: 1 << 20,
        }
    }
}

/// What the runner is to do after an event was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Go on.
    None,
    /// Start a commit if none is under way.
    Commit,
    /// Wait until what waits is committed.
    Wait,
}

/// Records one run.
#[derive(Debug)]
pub struct Recorder {
    thread_id: String,
    run_id: String,
    /// What a `RUN_STARTED` without input is given.
    input: String,
    limits: Limits,
    lifecycle: Lifecycle,
    expander: Expander,
    compactor: Compactor,
    /// Under a lock of its own: a run being written out keeps no reader waiting.
    log: Arc<Mutex<RunLog>>,
    message_ids: HashSet<String>,
    next_seq: u64,
    pending: Vec<u8>,
    pending_from: u64,
    barrier: bool,
    committing: Option<Arc<Batch>>,
    recorded: u64,
    expanded: Vec<String>,
}

impl Recorder {
    /// A recorder of the run `run_id` whose first event gets `first_seq`. `input` is checked before
    /// ([`dedup::checked_input`]); its messages whose ids are in `known` are left out.
    pub fn new(
        thread_id: &str,
        run_id: &str,
        input: &str,
        known: &HashSet<String>,
        first_seq: u64,
        limits: Limits,
    ) -> Self {
        Self {
            thread_id: thread_id.into(),
            run_id: run_id.into(),
            input: dedup::stripped(input, known),
            limits,
            lifecycle: Lifecycle::new(),
            expander: Expander::new(),
            compactor: Compactor::new(),
            log: Arc::new(Mutex::new(RunLog::new(first_seq, limits.window_bytes))),
            message_ids: HashSet::new(),
            next_seq: first_seq,
            pending: Vec::new(),
            pending_from: first_seq,
            barrier: false,
            committing: None,
            recorded: 0,
            expanded: Vec::new(),
        }
    }

    /// Takes in an event the agent yielded. On an error nothing of this event is recorded, save what closes a stream
    /// that its chunks had opened.
    pub fn accept(&mut self, json: &[u8]) -> Result<Pressure> {
        if json.len() > self.limits.event_bytes {
            let (size, limit) = (json.len(), self.limits.event_bytes);
            return Err(Error::InvalidEvent(format!("an event of {size} bytes is over the limit of {limit}")));
        }
        let event = Event::parse(json)?;
        let normalized = event.normalized();
        if normalized.len() == event.json().len() {
            self.expand(&event)?;
        } else {
            self.expand(&Event::parse_str(&normalized)?)?;
        }
        Ok(self.pressure())
    }

    fn expand(&mut self, event: &Event<'_>) -> Result<()> {
        event.check_ids(self.limits.id_bytes)?;
        let mut expanded = std::mem::take(&mut self.expanded);
        expanded.clear();
        let changed = self.expander.push(event, &mut expanded)?;
        let result = if changed {
            expanded.iter().try_for_each(|json| self.verify(&Event::parse_str(json)?))
        } else {
            self.verify(event)
        };
        self.expanded = expanded;
        result
    }

    fn verify(&mut self, event: &Event<'_>) -> Result<()> {
        if event.kind() == Kind::RunStarted && event.get("input").is_none() {
            let filled = with_field(event, "input", &self.input);
            let filled = Event::parse_str(&filled)?;
            self.lifecycle.check(&filled)?;
            self.record(&filled);
        } else {
            self.lifecycle.check(event)?;
            self.record(event);
        }
        Ok(())
    }

    fn record(&mut self, event: &Event<'_>) {
        self.take_in(event);
        if self.pending.is_empty() {
            self.pending_from = self.next_seq;
        }
        frames::write(&mut self.pending, Cursor { seq: self.next_seq, index: None }, event.json());
        self.next_seq += 1;
        self.barrier |=
            matches!(event.kind(), Kind::RunStarted | Kind::RunFinished | Kind::RunError | Kind::ToolCallResult);
    }

    fn take_in(&mut self, event: &Event<'_>) {
        self.recorded += 1;
        self.compactor.push(event);
        match event.kind() {
            // Their message is known from its START.
            Kind::TextMessageContent | Kind::TextMessageEnd | Kind::ReasoningMessageContent | Kind::ToolCallArgs => {}
            _ => dedup::ids_of(event, |id| {
                self.message_ids.insert(id);
            }),
        }
    }

    fn pressure(&self) -> Pressure {
        match self.pending.len() {
            bytes if bytes >= self.limits.pending_bytes => Pressure::Wait,
            bytes if bytes >= self.limits.commit_bytes || self.committing.is_none() || self.barrier => Pressure::Commit,
            _ => Pressure::None,
        }
    }

    /// Ends the run in order: what is open is closed, and a terminal event written if there is none.
    pub fn finalize(&mut self, ending: Ending<'_>) {
        let (thread_id, run_id) = (self.thread_id.clone(), self.run_id.clone());
        if ending.stop_requested && !self.lifecycle.started() && !self.lifecycle.ended() {
            // A run stopped before its first word still starts and ends for its readers.
            let (thread, run) = (text::quoted(&thread_id), text::quoted(&run_id));
            self.finalize_with(&format!("{{\"type\":\"RUN_STARTED\",\"threadId\":{thread},\"runId\":{run}}}"));
        }
        for json in self.lifecycle.finalize(&Ending { run: Some((&thread_id, &run_id)), ..ending }) {
            self.finalize_with(&json);
        }
    }

    fn finalize_with(&mut self, json: &str) {
        let event = Event::parse_str(json).expect("written here");
        self.verify(&event).expect("what finalize writes is in order");
    }

    /// Takes everything that waits, to be committed; `None` if nothing waits or a commit is under way. The flag says
    /// whether a barrier is among it, which must reach the disk before anyone goes on.
    pub fn take(&mut self) -> Option<(Arc<Batch>, bool)> {
        if self.committing.is_some() || self.pending.is_empty() {
            return None;
        }
        // The next batch is most often as large as this one.
        let room = self.pending.len();
        let bytes = std::mem::replace(&mut self.pending, Vec::with_capacity(room));
        let first_seq = self.pending_from;
        let batch = Arc::new(Batch { first_seq, count: self.next_seq - first_seq, bytes });
        self.committing = Some(batch.clone());
        Some((batch, std::mem::take(&mut self.barrier)))
    }

    /// Shows readers the batch that was taken, now that it is durable.
    pub fn publish(&mut self) {
        if let Some(batch) = self.committing.take() {
            self.published_log().publish(batch);
        }
    }

    /// Takes in frames that are durable already: of a run recorded in another process, or before a crash. At one that
    /// is damaged, or is not the next, it ends, with those before it taken in: `StoreCorrupt`.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<()> {
        let first_seq = self.next_seq;
        let outcome = frames::iter(bytes).try_for_each(|frame| self.replay_one(frame?));
        let count = self.next_seq - first_seq;
        if count > 0 {
            let good = if outcome.is_ok() { bytes.len() } else { frames::length_of(bytes, count) };
            self.published_log().publish(Arc::new(Batch { first_seq, count, bytes: bytes[..good].to_vec() }));
        }
        outcome
    }

    fn replay_one(&mut self, (cursor, json): (Cursor, &str)) -> Result<()> {
        if cursor.seq != self.next_seq || cursor.index.is_some() {
            let expected = self.next_seq;
            return Err(Error::StoreCorrupt(format!("the journal has frame {cursor} where {expected} is due")));
        }
        let event = Event::parse_str(json)
            .map_err(|error| Error::StoreCorrupt(format!("frame {cursor} of the journal is no event: {error}")))?;
        self.lifecycle.note(&event);
        self.take_in(&event);
        self.next_seq += 1;
        Ok(())
    }

    fn published_log(&self) -> MutexGuard<'_, RunLog> {
        self.log.lock().expect("never poisoned")
    }

    /// What readers read, for those who must not wait for the recorder.
    pub fn log(&self) -> Arc<Mutex<RunLog>> {
        self.log.clone()
    }

    /// The run so far, compacted: frames from index `skip` on, and the sequence number they go up to. A reader may
    /// have them once that number is published.
    pub fn prefix(&self, skip: u64) -> (Vec<u8>, u64) {
        let up_to = self.next_seq - 1;
        (compacted_frames(&self.compactor, up_to, skip), up_to)
    }

    /// The run's compacted events as a JSON array.
    pub fn compacted(&self) -> String {
        let mut json = String::with_capacity(self.compacted_bytes());
        self.write_compacted(|part| json.push_str(part));
        json
    }

    /// How long that array is.
    pub fn compacted_bytes(&self) -> usize {
        let mut bytes = 0;
        self.write_compacted(|part| bytes += part.len());
        bytes
    }

    /// That array in parts: a long run's is never in memory as a whole.
    pub fn write_compacted(&self, mut write: impl FnMut(&str)) {
        let mut separator = Some("[");
        let mut empty = true;
        self.compactor.parts(|part| match part {
            Some(part) => {
                if let Some(separator) = separator.take() {
                    write(separator);
                }
                write(part);
                empty = false;
            }
            None => separator = Some(","),
        });
        write(if empty { "[]" } else { "]" });
    }

    /// The message ids this run brought.
    pub fn message_ids(&self) -> impl Iterator<Item = &str> {
        self.message_ids.iter().map(String::as_str)
    }

    /// How many events are recorded.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The sequence number of the last event recorded.
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Whether a terminal event is recorded.
    pub fn ended(&self) -> bool {
        self.lifecycle.ended()
    }

    /// Whether that is a `RUN_ERROR`.
    pub fn failed(&self) -> bool {
        self.lifecycle.ended_with == Some(Kind::RunError)
    }
}

/// The frames of a compacted form that goes up to `seq`, from index `skip` on.
pub fn compacted_frames(compactor: &Compactor, seq: u64, skip: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut index = 0;
    compactor.emit(|json| {
        if index >= skip {
            frames::write(&mut bytes, Cursor { seq, index: Some(index) }, json);
        }
        index += 1;
    });
    bytes
}

/// The compacted form up to `seq` made again from a run's raw frames, from index `skip` on: compaction is
/// deterministic, so it is the one a reader began with.
pub fn recompact<'f>(frames: impl Iterator<Item = &'f [u8]>, seq: u64, skip: u64) -> Result<Vec<u8>> {
    let mut compactor = Compactor::new();
    for bytes in frames {
        for frame in frames::iter(bytes) {
            let (cursor, json) = frame?;
            if cursor.seq <= seq {
                compactor.push(&Event::parse_str(json)?);
            }
        }
    }
    Ok(compacted_frames(&compactor, seq, skip))
}

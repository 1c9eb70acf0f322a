//! How far a recorder is, without its lock.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Recorder;
use crate::kind::Kind;

/// How far a recorder is, for callers that must not wait for its lock.
#[derive(Debug, Default)]
pub struct Progress {
    event_count: AtomicU64,
    last_seq: AtomicU64,
    compacted_bytes: AtomicU64,
    has_ended: AtomicBool,
    has_failed: AtomicBool,
}

impl Progress {
    /// Create the progress of a run that has no event yet.
    pub(super) fn before(first_seq: u64) -> Self {
        Self { last_seq: AtomicU64::new(first_seq - 1), ..Self::default() }
    }

    /// Return how many events are recorded.
    pub fn event_count(&self) -> u64 {
        self.event_count.load(Ordering::Relaxed)
    }

    /// Return the sequence number of the last event recorded.
    pub fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Relaxed)
    }

    /// Return about how many bytes the compacted events have, and never fewer.
    pub fn compacted_bytes(&self) -> u64 {
        self.compacted_bytes.load(Ordering::Relaxed)
    }

    /// Return whether a terminal event is recorded.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Return whether the terminal event is a `RUN_ERROR`.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }
}

impl Recorder {
    /// Report what was recorded.
    pub(super) fn report_progress(&self) {
        let progress = &self.progress;
        progress.event_count.store(self.event_count, Ordering::Relaxed);
        progress.last_seq.store(self.next_seq - 1, Ordering::Relaxed);
        progress.compacted_bytes.store(self.compactor.bytes() as u64, Ordering::Relaxed);
        progress.has_ended.store(self.lifecycle.has_ended(), Ordering::Relaxed);
        progress.has_failed.store(self.lifecycle.ended_with == Some(Kind::RunError), Ordering::Relaxed);
    }
}

//! The progress of a recorder, readable without its lock.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::kind::Kind;

/// The progress of a recorder, for callers that must not wait for its lock.
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

    /// Report what was recorded.
    pub(super) fn report(&self, event_count: u64, last_seq: u64, compacted_bytes: usize, ended_with: Option<Kind>) {
        self.event_count.store(event_count, Ordering::Relaxed);
        self.last_seq.store(last_seq, Ordering::Relaxed);
        self.compacted_bytes.store(compacted_bytes as u64, Ordering::Relaxed);
        self.has_ended.store(ended_with.is_some(), Ordering::Relaxed);
        self.has_failed.store(ended_with == Some(Kind::RunError), Ordering::Relaxed);
    }
}

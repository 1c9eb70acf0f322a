//! The frames of one live run: appended, published once they are durable, read by any number of readers.
use std::collections::VecDeque;
use std::sync::Arc;

use crate::frames;

/// Consecutive raw frames that were committed together.
#[derive(Debug)]
pub struct Batch {
    /// The sequence number of the first frame.
    pub first_seq: u64,
    /// How many frames.
    pub count: u64,
    /// The frames.
    pub bytes: Vec<u8>,
}

impl Batch {
    /// The sequence number of the last frame.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.count - 1
    }
}

/// What a reader gets.
#[derive(Debug)]
pub enum Read {
    /// All frames after the cursor that are published, up to the limit; the last one's sequence number.
    Frames(Arc<Vec<u8>>, u64),
    /// Nothing new yet.
    Nothing,
    /// Frames this old are no longer in memory: read them from the store.
    Stored,
}

/// Append-only frames with a published mark; memory holds a window of the newest.
#[derive(Debug)]
pub struct RunLog {
    batches: VecDeque<Arc<Batch>>,
    held: usize,
    window: usize,
    published: u64,
}

impl RunLog {
    /// A log whose first frame will be `next_seq`, holding at least the newest `window` bytes in memory.
    pub fn new(next_seq: u64, window: usize) -> Self {
        Self { batches: VecDeque::new(), held: 0, window, published: next_seq - 1 }
    }

    /// The sequence number of the newest frame readers may see.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Lets readers see a batch that is durable.
    pub fn publish(&mut self, batch: Arc<Batch>) {
        assert_eq!(batch.first_seq, self.published + 1, "batches are published in order");
        self.published = batch.last_seq();
        self.held += batch.bytes.len();
        self.batches.push_back(batch);
        while self.batches.len() > 1 && self.held - self.batches[0].bytes.len() >= self.window {
            self.held -= self.batches.pop_front().expect("more than one").bytes.len();
        }
    }

    /// The frames behind `after`, about `limit` bytes of them at most.
    pub fn read(&self, after: u64, limit: usize) -> Read {
        if after >= self.published {
            return Read::Nothing;
        }
        if self.batches.front().is_none_or(|oldest| after + 1 < oldest.first_seq) {
            return Read::Stored;
        }
        let from = self.batches.partition_point(|batch| batch.last_seq() <= after);
        let first = &self.batches[from];
        let skipped = frames::length_of(&first.bytes, after + 1 - first.first_seq);
        let rest = &first.bytes[skipped..];
        if let Some(cut) = frames::cut(rest, limit) {
            return Read::Frames(Arc::new(rest[..cut].to_vec()), after + frames::count(&rest[..cut]));
        }
        let mut bytes = rest.to_vec();
        let mut last = first.last_seq();
        for batch in self.batches.iter().skip(from + 1) {
            if bytes.len() + batch.bytes.len() > limit {
                break;
            }
            bytes.extend_from_slice(&batch.bytes);
            last = batch.last_seq();
        }
        Read::Frames(Arc::new(bytes), last)
    }
}

//! The frames of one live run, published once they are durable and read by any number of readers.
use std::collections::VecDeque;
use std::sync::Arc;

use crate::frames;

/// Consecutive raw frames that were committed together.
#[derive(Debug)]
pub struct Batch {
    /// The sequence number of the first frame.
    pub first_seq: u64,
    /// The number of frames.
    pub count: u64,
    /// The frames' bytes.
    pub bytes: Vec<u8>,
}

impl Batch {
    /// Return the sequence number of the last frame.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.count - 1
    }
}

/// The result of reading a log.
#[derive(Debug)]
pub enum Read {
    /// The published frames after the cursor, up to the limit, and the last one's sequence number.
    Frames(Arc<Vec<u8>>, u64),
    /// No frame is new.
    Nothing,
    /// The next frame is no longer in memory and must be read from the store.
    Stored,
}

/// The published frames of a run, of which memory holds a window of the newest.
#[derive(Debug)]
pub struct RunLog {
    batches: VecDeque<Arc<Batch>>,
    held_bytes: usize,
    window_bytes: usize,
    published: u64,
}

impl RunLog {
    /// Create a log whose first frame will be `next_seq`. At least its newest `window_bytes` stay in memory.
    pub fn new(next_seq: u64, window_bytes: usize) -> Self {
        Self { batches: VecDeque::new(), held_bytes: 0, window_bytes, published: next_seq - 1 }
    }

    /// Return the sequence number of the newest frame readers may see.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Show readers a batch that is durable.
    pub fn publish(&mut self, batch: Arc<Batch>) {
        assert_eq!(batch.first_seq, self.published + 1, "batches are published in order");
        self.published = batch.last_seq();
        self.held_bytes += batch.bytes.len();
        self.batches.push_back(batch);
        // The newest batch always stays, even if it alone is larger than the window.
        while self.batches.len() > 1 && self.held_bytes - self.batches[0].bytes.len() >= self.window_bytes {
            self.held_bytes -= self.batches.pop_front().expect("there is more than one batch").bytes.len();
        }
    }

    /// Read the frames after a sequence number, about `limit` bytes of them.
    pub fn read(&self, after: u64, limit: usize) -> Read {
        if after >= self.published {
            return Read::Nothing;
        }
        // A reader that is further behind than the window continues from the store.
        if self.batches.front().is_none_or(|oldest| after + 1 < oldest.first_seq) {
            return Read::Stored;
        }
        let index = self.batches.partition_point(|batch| batch.last_seq() <= after);
        let first = &self.batches[index];
        let skipped_bytes = frames::length_of(&first.bytes, after + 1 - first.first_seq);
        let rest = &first.bytes[skipped_bytes..];
        // A large batch is cut into pages; small ones are joined below, so that a reader gets few pages.
        if let Some(cut) = frames::cut(rest, limit) {
            return Read::Frames(Arc::new(rest[..cut].to_vec()), after + frames::count(&rest[..cut]));
        }
        let mut bytes = rest.to_vec();
        let mut last_seq = first.last_seq();
        for batch in self.batches.iter().skip(index + 1) {
            if bytes.len() + batch.bytes.len() > limit {
                break;
            }
            bytes.extend_from_slice(&batch.bytes);
            last_seq = batch.last_seq();
        }
        Read::Frames(Arc::new(bytes), last_seq)
    }
}

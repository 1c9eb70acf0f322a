//! Compacted frames, written from a compactor or recomputed from a run's raw frames.
use crate::compact::Compactor;
use crate::error::Result;
use crate::event::Event;
use crate::frames::{self, Cursor};

/// Write the frames of a compacted run that goes up to `seq`, from index `skip` on.
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

/// Recomputes the frames of a run compacted up to a sequence number.
///
/// Compaction is deterministic, so the frames equal those that a reader has received before.
#[derive(Debug)]
pub struct Recompactor {
    compactor: Compactor,
    seq: u64,
}

impl Recompactor {
    /// Create a recompactor of a run up to `seq`.
    pub fn new(seq: u64) -> Self {
        Self { compactor: Compactor::new(), seq }
    }

    /// Push the run's next raw frames.
    pub fn push(&mut self, raw_frames: &[u8]) -> Result<()> {
        for frame in frames::iter(raw_frames) {
            let (cursor, json) = frame?;
            // Later events would change the compacted form, and its indexes would mean other frames.
            if cursor.seq <= self.seq {
                self.compactor.push(&Event::parse_str(json)?);
            }
        }
        Ok(())
    }

    /// Return the compacted frames.
    pub fn frames(&self) -> Vec<u8> {
        compacted_frames(&self.compactor, self.seq, 0)
    }
}

/// Recompute the frames of a run compacted up to `seq`, from index `skip` on.
pub fn recompact<'f>(raw_frames: impl Iterator<Item = &'f [u8]>, seq: u64, skip: u64) -> Result<Vec<u8>> {
    let mut recompactor = Recompactor::new(seq);
    for bytes in raw_frames {
        recompactor.push(bytes)?;
    }
    Ok(compacted_frames(&recompactor.compactor, seq, skip))
}

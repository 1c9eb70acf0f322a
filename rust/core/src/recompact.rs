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

/// Recompute the frames of a run compacted up to `seq`, from index `skip` on.
///
/// Compaction is deterministic, so the frames equal those that a reader has received before.
pub fn recompact<'f>(raw_frames: impl Iterator<Item = &'f [u8]>, seq: u64, skip: u64) -> Result<Vec<u8>> {
    let mut compactor = Compactor::new();
    for bytes in raw_frames {
        for frame in frames::iter(bytes) {
            let (cursor, json) = frame?;
            // Later events would change the compacted form, and its indexes would mean other frames.
            if cursor.seq <= seq {
                compactor.push(&Event::parse_str(json)?);
            }
        }
    }
    Ok(compacted_frames(&compactor, seq, skip))
}

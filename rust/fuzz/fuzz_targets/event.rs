//! Any bytes go through a whole recorder without a panic, and what it records can be read again.
//!
//! The input is a list of events, one on each line.
#![no_main]
use std::collections::HashSet;

use agentrunner_core::event::Event;
use agentrunner_core::finalize::Ending;
use agentrunner_core::frames;
use agentrunner_core::legacy::rewrite_frames;
use agentrunner_core::recorder::{Limits, Recorder};
use agentrunner_core::schema::conform;
use agentrunner_core::snapshot::snapshot;
use libfuzzer_sys::fuzz_target;

const INPUT: &str = r#"{"threadId":"t","runId":"r","messages":[]}"#;

fuzz_target!(|bytes: &[u8]| {
    let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 1, Limits::default());
    for line in bytes.split(|byte| *byte == b'\n') {
        let _ = recorder.accept(line);
    }
    recorder.finalize(Ending { stop_requested: bytes.len() % 2 == 0, ..Ending::default() });
    let (batch, _) = recorder.take().expect("a finalized run has events");
    assert_eq!(frames::count(&batch.bytes), batch.count);
    for frame in frames::iter(&batch.bytes) {
        let event = Event::parse_str(frame.expect("a recorded frame").1).expect("a recorded event");
        assert_eq!(conform(&event).expect("a recorded event"), event.json(), "what is recorded needs no mending");
    }
    let mut replayed = Recorder::new("t", "r", INPUT, &HashSet::new(), 1, Limits::default());
    replayed.replay(&batch.bytes).expect("recorded frames can be replayed");
    assert_eq!(replayed.compacted(), recorder.compacted(), "a replay compacts to the same run");
    if let Some(legacy) = rewrite_frames(&batch.bytes) {
        assert_eq!(rewrite_frames(&legacy), None, "rewritten frames need no second rewriting");
    }
    snapshot([batch.bytes.as_slice()]).expect("recorded frames have a snapshot");
});

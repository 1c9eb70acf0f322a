//! What several tests share: the fixtures, which were recorded from the reference implementation.
#![allow(dead_code, reason = "each test uses a part of it")]
pub mod runs;

use agentrunner_core::compact::Compactor;
use agentrunner_core::event::Event;
use agentrunner_core::fold::Fold;
use serde_json::Value;

/// Return the cases of a fixture.
pub fn cases(name: &str) -> Vec<Value> {
    let path = format!("{}/../../tests/fixtures/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the fixture exists");
    text.lines().map(read).collect()
}

/// Parse JSON.
pub fn read(json: &str) -> Value {
    serde_json::from_str(json).expect("valid JSON")
}

/// Parse an event.
pub fn event(json: &str) -> Event<'_> {
    Event::parse_str(json).expect("a valid event")
}

/// Compact events.
pub fn compact<E: AsRef<str>>(events: &[E]) -> Vec<String> {
    let mut compactor = Compactor::new();
    for json in events {
        compactor.push(&event(json.as_ref()));
    }
    emit(&compactor)
}

/// Return what a compactor emits.
pub fn emit(compactor: &Compactor) -> Vec<String> {
    let mut compacted = Vec::new();
    compactor.emit(|json| compacted.push(json.to_owned()));
    compacted
}

/// Fold events.
pub fn fold<E: AsRef<str>>(events: &[E]) -> Fold {
    let mut fold = Fold::new();
    for json in events {
        fold.push(&event(json.as_ref()));
    }
    fold
}

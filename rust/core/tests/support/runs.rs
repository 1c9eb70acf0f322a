//! Events of a run, and what a lifecycle says about them.
#![allow(dead_code, reason = "each test uses a part of it")]
use agentrunner_core::error::Error;
use agentrunner_core::event::Event;
use agentrunner_core::lifecycle::Lifecycle;
use serde_json::{Value, json};

/// Check an event; return the message of its refusal.
pub fn check(run: &mut Lifecycle, event: &Value) -> Result<(), String> {
    let json = event.to_string();
    run.check(&Event::parse_str(&json).unwrap()).map_err(|error| match error {
        Error::InvalidSequence(message) => message,
        other => panic!("expected an error about the sequence, not {other}"),
    })
}

/// Return the first refusal among the events.
pub fn refusal(events: &[Value]) -> Option<String> {
    let mut run = Lifecycle::new();
    events.iter().find_map(|event| check(&mut run, event).err())
}

/// Return the refusal of a run's last event; the events before it must be accepted.
pub fn last_refused(events: &[Value]) -> String {
    let (last, before) = events.split_last().unwrap();
    let mut run = Lifecycle::new();
    check(&mut run, &started()).unwrap();
    for event in before {
        check(&mut run, event).unwrap();
    }
    check(&mut run, last).unwrap_err()
}

/// Check that a run accepts all events.
pub fn accept_all(events: &[Value]) {
    let mut all = vec![started()];
    all.extend_from_slice(events);
    assert_eq!(refusal(&all), None);
}

/// Make a `RUN_STARTED`.
pub fn started() -> Value {
    json!({"type": "RUN_STARTED", "threadId": "t", "runId": "r"})
}

/// Make a `RUN_FINISHED`.
pub fn finished() -> Value {
    json!({"type": "RUN_FINISHED", "threadId": "t", "runId": "r"})
}

/// Make an event of a stream; an empty subagent leaves the field out.
pub fn stream_event(kind: &str, id: &str, subagent: &str) -> Value {
    let key = if kind.starts_with("TOOL") { "toolCallId" } else { "messageId" };
    let mut event = json!({"type": kind, key: id});
    if !subagent.is_empty() {
        event["subagentRunId"] = subagent.into();
    }
    event
}

/// Make an event of a step.
pub fn step(kind: &str, name: &str, subagent: &str) -> Value {
    let mut event = json!({"type": kind, "stepName": name});
    if !subagent.is_empty() {
        event["subagentRunId"] = subagent.into();
    }
    event
}

/// Make an event of a subagent.
pub fn subagent_event(kind: &str, id: &str) -> Value {
    json!({"type": kind, "subagentRunId": id, "name": "n", "message": "m"})
}

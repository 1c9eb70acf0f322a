//! State windows: what the state events between two boundaries are merged into.
mod support;

use agentrunner_core::state::{StateLimits, StateWindow};
use support::event;

const ADD: &str = r#"{"type":"STATE_DELTA","delta":[{"op":"add","path":"/b","value":2}]}"#;
const BAD: &str = r#"{"type":"STATE_DELTA","delta":[{"op":"remove","path":"/none"}]}"#;

fn finish(window: &StateWindow) -> Vec<String> {
    let mut events = Vec::new();
    window.write(|json| events.push(json.to_owned()));
    events
}

fn merged(events: &[&str]) -> Vec<String> {
    let mut window = StateWindow::default();
    for json in events {
        assert!(window.push(&event(json), StateLimits::default()).unwrap(), "{json}");
    }
    finish(&window)
}

fn snapshot(state: &str) -> String {
    format!(r#"{{"type":"STATE_SNAPSHOT","snapshot":{state}}}"#)
}

#[test]
fn an_empty_window_writes_nothing() {
    assert_eq!(merged(&[]), Vec::<String>::new());
}

#[test]
fn a_lone_event_keeps_its_bytes() {
    let spaced = r#"{"snapshot": {"a": 1.0}, "type": "STATE_SNAPSHOT", "timestamp": 1}"#;
    assert_eq!(merged(&[spaced]), [spaced]);
    assert_eq!(merged(&[ADD]), [ADD]);
}

#[test]
fn patches_without_a_snapshot_are_kept_one_by_one() {
    assert_eq!(merged(&[ADD, BAD, ADD]), [ADD, BAD, ADD]);
}

#[test]
fn a_snapshot_replaces_all_before_it() {
    assert_eq!(merged(&[ADD, &snapshot("1"), &snapshot(r#"{"a":1e2}"#)]), [snapshot(r#"{"a":1e2}"#)]);
}

#[test]
fn patches_are_applied_to_the_snapshot_and_failing_ones_skipped() {
    assert_eq!(merged(&[&snapshot(r#"{"a":1}"#), ADD, BAD]), [snapshot(r#"{"a":1,"b":2}"#)]);
}

#[test]
fn metadata_is_merged() {
    let with = |json: &str, metadata: &str| json.replace(r#""type""#, &format!(r#""metadata":{metadata},"type""#));
    let events = [with(&snapshot("{}"), r#"{"k":1,"l":1}"#), with(ADD, r#"{"k":2}"#)];
    let expected = r#"{"type":"STATE_SNAPSHOT","snapshot":{"b":2},"metadata":{"k":2,"l":1}}"#;
    assert_eq!(merged(&[&events[0], &events[1]]), [expected]);
}

#[test]
fn an_event_without_a_value_is_not_taken() {
    let mut window = StateWindow::default();
    assert!(!window.push(&event(r#"{"type":"STATE_SNAPSHOT","metadata":{"k":1}}"#), StateLimits::default()).unwrap());
    assert!(!window.push(&event(r#"{"type":"STATE_DELTA"}"#), StateLimits::default()).unwrap());
    assert_eq!(finish(&window), Vec::<String>::new());
}

//! Snapshots for a reader who may hold a part of the thread. The Python tests use the real clients.
use std::collections::HashSet;

use agentrunner_core::compact::Compactor;
use agentrunner_core::event::Event;
use agentrunner_core::fold::Fold;
use agentrunner_core::frames::{self, Cursor};
use agentrunner_core::lifecycle::Lifecycle;
use agentrunner_core::scan;
use agentrunner_core::snapshot::{Snapshot, snapshot};
use serde_json::Value;

/// Return the compacted frames of a run.
fn frame_run(events: &[&str]) -> Vec<u8> {
    let mut compactor = Compactor::new();
    for event in events {
        compactor.push(&Event::parse_str(event).unwrap());
    }
    let mut out = Vec::new();
    compactor.emit(|json| frames::write(&mut out, Cursor { seq: 1, index: Some(0) }, json));
    out
}

fn snapshot_of(runs: &[&[&str]]) -> Option<Snapshot> {
    let pieces: Vec<_> = runs.iter().map(|run| frame_run(run)).collect();
    snapshot(pieces.iter().map(Vec::as_slice)).unwrap()
}

/// Return the events a returning reader is sent before the rest of the run.
fn sent_events(snapshot: &Snapshot) -> Vec<String> {
    let mut sent = vec![snapshot.started.clone()];
    sent.extend(snapshot.before.iter().cloned());
    sent.push(format!(r#"{{"type":"MESSAGES_SNAPSHOT","messages":{}}}"#, snapshot.messages));
    sent.extend(snapshot.state.iter().map(|state| format!(r#"{{"type":"STATE_SNAPSHOT","snapshot":{state}}}"#)));
    sent.extend(snapshot.events.iter().cloned());
    sent
}

fn push_all<'e>(fold: &mut Fold, events: impl IntoIterator<Item = &'e str>) {
    for event in events {
        fold.push(&Event::parse_str(event).unwrap());
    }
}

fn result_of(fold: &Fold) -> (Value, Value) {
    (serde_json::from_str(&fold.messages()).unwrap(), serde_json::from_str(&fold.state()).unwrap())
}

fn split_runs<'e>(events: &[&'e str]) -> Vec<Vec<&'e str>> {
    let mut runs: Vec<Vec<&str>> = Vec::new();
    for event in events {
        if runs.is_empty() || Event::parse_str(event).unwrap().type_name() == "RUN_STARTED" {
            runs.push(Vec::new());
        }
        runs.last_mut().unwrap().push(event);
    }
    runs
}

/// Cut each run of each case at every `step`-th event, for readers who hold beginnings of different lengths.
///
/// Returns how many readers were tried, how many snapshots had to sweep, the cases a verifying client refuses, and those
/// where a reader ends with something else.
fn try_every_cut(name: &str, step: usize) -> (usize, usize, HashSet<String>, HashSet<String>) {
    let path = format!("{}/../../tests/fixtures/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let (mut tried, mut swept, mut refused, mut wrong) = (0, 0, HashSet::new(), HashSet::new());
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let case = scan::members(line);
        let events = scan::elements(case.iter().find(|(key, _)| *key == "events").unwrap().1);
        let runs = split_runs(&events);
        let runs: Vec<&[&str]> = runs.iter().map(Vec::as_slice).collect();
        for last in 0..runs.len() {
            let before: Vec<&str> = runs[..last].concat();
            let run = runs[last];
            let mut whole = Fold::new();
            push_all(&mut whole, before.iter().chain(run).copied());
            let whole = result_of(&whole);
            for cut in (1..=run.len()).rev().step_by(step) {
                let mut thread = runs[..last].to_vec();
                thread.push(&run[..cut]);
                let snapshot = snapshot_of(&thread).unwrap();
                swept += usize::from(!snapshot.before.is_empty());
                let sent = sent_events(&snapshot);
                let mut lifecycle = Lifecycle::new();
                let mut all = sent.iter().map(String::as_str).chain(run[cut..].iter().copied());
                if all.any(|event| lifecycle.check(&Event::parse_str(event).unwrap()).is_err()) {
                    refused.insert(case[0].1.to_owned());
                }
                let all = before.len() + cut;
                for held in [0, all / 4, all / 2, all.saturating_sub(3), all] {
                    let mut reader = Fold::new();
                    push_all(&mut reader, before.iter().chain(run).copied().take(held));
                    push_all(&mut reader, sent.iter().map(String::as_str).chain(run[cut..].iter().copied()));
                    if result_of(&reader) != whole {
                        wrong.insert(case[0].1.to_owned());
                    }
                    tried += 1;
                }
            }
        }
    }
    (tried, swept, refused, wrong)
}

#[test]
fn a_reader_who_holds_any_beginning_ends_with_the_whole_thread() {
    // A subagent's open message was dropped, and the parent's tool call made a message of the same id. The snapshot names
    // another owner than the run did, so verifying clients refuse the subagent's next event.
    let refusals = HashSet::from(["\"fold-31-198\"".to_owned()]);
    for (name, step) in [("fold", 2), ("interleaved", 4), ("sequential", 9)] {
        let (tried, swept, refused, wrong) = try_every_cut(name, step);
        assert!(tried > 4000, "{name}: {tried}");
        // Streams one after the other only add messages, so nothing has to be swept.
        assert_eq!(swept == 0, name == "sequential", "{name}: {swept}");
        assert!(refused.is_subset(&refusals), "{name}: {refused:?}");
        assert_eq!(wrong, HashSet::new(), "{name}");
    }
}

const STARTED: &str =
    r#"{"type":"RUN_STARTED","threadId":"t","runId":"r","protocolVersion":"1.0","input":{"messages":[]}}"#;
const FINISHED: &str = r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"cancelled"}}"#;
const ERROR: &str = r#"{"type":"RUN_ERROR","message":"m"}"#;

#[test]
fn a_thread_without_events_has_no_snapshot() {
    assert!(snapshot_of(&[]).is_none());
    assert!(snapshot_of(&[&[]]).is_none());
    assert!(snapshot([&b"id: 1\n"[..]]).is_err());
}

#[test]
fn a_run_that_has_ended_brings_its_end() {
    let snapshot =
        snapshot_of(&[&[STARTED, r#"{"type":"STEP_STARTED","stepName":"s"}"#, ERROR], &[STARTED, FINISHED]]).unwrap();
    assert_eq!(snapshot.started, r#"{"type":"RUN_STARTED","threadId":"t","runId":"r","protocolVersion":"1.0"}"#);
    assert_eq!((&*snapshot.messages, snapshot.state), ("[]", None));
    assert_eq!(snapshot.events, [FINISHED]);
    // A `RUN_ERROR` may follow a `RUN_FINISHED`.
    assert_eq!(snapshot_of(&[&[STARTED, FINISHED, ERROR]]).unwrap().events, [FINISHED, ERROR]);
}

#[test]
fn open_streams_are_opened_again_in_the_order_of_the_run() {
    let events = [
        STARTED,
        r#"{"type":"SUBAGENT_STARTED","subagentRunId":"one","name":"n"}"#,
        r#"{"type":"STEP_STARTED","stepName":"s"}"#,
        r#"{"type":"STEP_STARTED","stepName":"s","subagentRunId":"one"}"#,
        r#"{"type":"STEP_FINISHED","stepName":"s"}"#,
        r#"{"type":"REASONING_START","messageId":"r","metadata":{"a":1}}"#,
        r#"{"type":"REASONING_MESSAGE_START","messageId":"r","role":"reasoning"}"#,
        r#"{"type":"REASONING_MESSAGE_END","messageId":"r"}"#,
        r#"{"type":"TEXT_MESSAGE_START","messageId":"m","metadata":{"a":1}}"#,
        r#"{"type":"TOOL_CALL_START","toolCallId":"m","toolCallName":"n","parentMessageId":"m"}"#,
        r#"{"type":"SUBAGENT_FINISHED","subagentRunId":"one","result":1}"#,
        r#"{"type":"TOOL_CALL_RESULT","messageId":"x","toolCallId":"m","content":"c"}"#,
    ];
    let snapshot =
        snapshot_of(&[&[STARTED, r#"{"type":"TEXT_MESSAGE_START","messageId":"before"}"#], &events]).unwrap();
    // A closed subagent must stay known. An earlier run that never ended leaves nothing open.
    let without = r#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#;
    assert_eq!(snapshot.events, [events[1], events[3], events[5], without, events[9], events[10]]);
}

#[test]
fn a_start_does_not_put_old_metadata_back() {
    let start = r#"{"type":"TEXT_MESSAGE_START","messageId":"m","metadata":{"a":1}}"#;
    let content = r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"d","metadata":{"a":2}}"#;
    let mut reader = Fold::new();
    push_all(&mut reader, sent_events(&snapshot_of(&[&[STARTED, start, content]]).unwrap()).iter().map(String::as_str));
    assert_eq!(reader.messages(), r#"[{"id":"m","role":"assistant","content":"d","metadata":{"a":2}}]"#);
}

#[test]
fn held_messages_are_swept_away_where_they_could_be_in_the_way() {
    let text = r#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#;
    let call = r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":"n"}"#;
    let result = r#"{"type":"TOOL_CALL_RESULT","messageId":"x","toolCallId":"c","content":"c"}"#;
    let plan = r#"{"type":"ACTIVITY_SNAPSHOT","messageId":"a","activityType":"P","content":{}}"#;
    let same = r#"{"type":"MESSAGES_SNAPSHOT","messages":[{"id":"m","role":"assistant","content":"d"}]}"#;
    let none = r#"{"type":"MESSAGES_SNAPSHOT","messages":[],"metadata":{"@ag-ui/client":{"authoritativeActivityTypes":null}}}"#;
    let other = r#"{"type":"MESSAGES_SNAPSHOT","messages":[{"id":"m","role":"user","content":"d"}]}"#;
    let think = r#"{"type":"REASONING_MESSAGE_START","messageId":"m","role":"reasoning"}"#;
    let in_place = r#"{"type":"ACTIVITY_SNAPSHOT","messageId":"m","activityType":"P","content":{}}"#;
    for (events, swept) in [
        (&[call, result, text][..], 0),
        (&[call, text, result], 1),
        (&[text, plan, same], 0),
        (&[text, plan, none], 1),
        (&[text, other], 1),
        (&[text, in_place], 1),
        (&[call, result, result], 1),
        (&[think, same], 2),
        (&[think, in_place], 2),
    ] {
        let events: Vec<_> = [STARTED].into_iter().chain(events.iter().copied()).chain([FINISHED]).collect();
        let snapshot = snapshot_of(&[&events]).unwrap();
        assert_eq!((snapshot.before.len(), snapshot.events.len()), (swept, 1), "{events:?}");
        for held in 0..events.len() {
            let mut reader = Fold::new();
            push_all(&mut reader, events[..held].iter().copied());
            push_all(&mut reader, sent_events(&snapshot).iter().map(String::as_str));
            assert_eq!(reader.messages(), snapshot.messages, "{events:?}, {held} held");
        }
    }
}

#[test]
fn a_snapshot_has_the_state_if_there_is_one() {
    let state = |event: &str| snapshot_of(&[&[STARTED, event, FINISHED]]).unwrap().state;
    assert_eq!(state(r#"{"type":"STATE_SNAPSHOT","snapshot":null}"#).as_deref(), Some("null"));
    let add = r#"{"type":"STATE_DELTA","delta":[{"op":"add","path":"/a","value":1}]}"#;
    assert_eq!(state(add).as_deref(), Some(r#"{"a":1}"#));
    let fails = r#"{"type":"STATE_DELTA","delta":[{"op":"remove","path":"/a"}]}"#;
    assert_eq!(state(fails), None);
}

#[test]
fn a_thread_without_a_start_gets_one() {
    let text = r#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#;
    let snapshot = snapshot_of(&[&[text]]).unwrap();
    assert_eq!(snapshot.started, r#"{"type":"RUN_STARTED","threadId":"","runId":""}"#);
    assert_eq!(snapshot.events, [text]);
    assert_eq!(
        snapshot_of(&[&[text, FINISHED]]).unwrap().started,
        r#"{"type":"RUN_STARTED","threadId":"t","runId":"r"}"#
    );
}

#[test]
fn chunks_are_expanded() {
    let chunk = r#"{"type":"TEXT_MESSAGE_CHUNK","messageId":"m","delta":"d"}"#;
    let snapshot = snapshot_of(&[&[STARTED, chunk]]).unwrap();
    assert_eq!(snapshot.messages, r#"[{"id":"m","role":"assistant","content":"d"}]"#);
    assert_eq!(snapshot.events.len(), 1);
    assert!(snapshot.events[0].contains("TEXT_MESSAGE_START"));
}

#[test]
fn hostile_streams_do_not_panic() {
    let path = format!("{}/../../tests/fixtures/hostile.jsonl", env!("CARGO_MANIFEST_DIR"));
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let case = scan::members(line);
        let events = scan::elements(case.iter().find(|(key, _)| *key == "events").unwrap().1);
        for cut in (1..=events.len()).step_by(3) {
            let snapshot = snapshot_of(&[&events[..cut]]).unwrap();
            let mut reader = Fold::new();
            push_all(&mut reader, sent_events(&snapshot).iter().map(String::as_str));
            assert_eq!(reader.messages(), snapshot.messages, "{:?} cut at {cut}", case[0]);
        }
    }
}

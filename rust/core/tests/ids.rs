//! Ids of their own: how few entries are looked up, and what half-written arguments become.
use std::collections::HashSet;

use agentrunner_core::entries::split_own_id;
use agentrunner_core::finalize::Ending;
use agentrunner_core::recorder::{Limits, Pressure, Recorder};
use serde_json::Value;

const INPUT: &str = r#"{"threadId":"t","runId":"r","messages":[]}"#;

fn recorder() -> Recorder {
    let recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 11, Limits::default());
    let mut recorder = recorder.with_history();
    recorder.accept(br#"{"type":"RUN_STARTED","threadId":"t","runId":"r"}"#).unwrap();
    recorder
}

/// Record an event; return how often and how many entries were looked up in the thread's table.
fn accept(recorder: &mut Recorder, json: &str, table: impl Fn(&str) -> bool) -> (usize, usize) {
    let (mut times, mut entries) = (0, 0);
    while recorder.accept(json.as_bytes()).unwrap() == Pressure::LookUp {
        let wanted = recorder.wanted().to_vec();
        times += 1;
        entries += wanted.len();
        recorder.learn(&wanted.into_iter().filter(|entry| table(entry)).collect());
    }
    (times, entries)
}

fn events(recorder: &Recorder) -> Vec<Value> {
    serde_json::from_str(&recorder.compacted()).unwrap()
}

// fault B6
#[test]
fn the_next_number_of_a_call_is_found_in_few_look_ups_however_often_it_was_used() {
    for uses in [1_u64, 2, 3, 15, 16, 17, 1000, 123_456] {
        let mut recorder = recorder();
        let table = |entry: &str| {
            let Some(id) = entry.strip_prefix("\u{1}call ") else { return false };
            let (agents, number) = split_own_id(id);
            agents == "call_0" && number <= uses
        };
        let start = r#"{"type":"TOOL_CALL_START","toolCallId":"call_0","toolCallName":"f"}"#;
        let (times, entries) = accept(&mut recorder, start, table);
        assert_eq!(events(&recorder)[1]["toolCallId"], format!("call_0--own{}", uses + 1));
        assert!(times <= 7 && entries <= 120, "{uses}: {times} look-ups of {entries} entries");
    }
}

// fault B5
#[test]
fn a_new_call_is_looked_up_once() {
    let mut recorder = recorder();
    let start = r#"{"type":"TOOL_CALL_START","toolCallId":"m","toolCallName":"f"}"#;
    assert_eq!(accept(&mut recorder, start, |entry| entry == "m").0, 1);
    assert_eq!(events(&recorder)[1]["parentMessageId"], "m--own-text");
}

// fault B5
#[test]
fn a_new_message_is_looked_up_once() {
    let mut recorder = recorder();
    let start = r#"{"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}"#;
    assert_eq!(accept(&mut recorder, start, |entry| entry == "\u{1}reasoning m").0, 1);
    for json in [
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"x"}"#,
        r#"{"type":"TEXT_MESSAGE_END","messageId":"m"}"#,
        start,
    ] {
        assert_eq!(accept(&mut recorder, json, |_| panic!("it is known")).0, 0);
    }
    assert!(events(&recorder)[1..].iter().all(|event| event["messageId"] == "m--own-text"));
}

/// Accept a snapshot of `count` user's messages in a thread with these entries; return the look-ups and their entries.
fn accept_snapshot(count: usize, table: impl Fn(&str) -> bool) -> (usize, usize) {
    let message = |at: usize| format!(r#"{{"id":"m{at}","role":"user","content":"x"}}"#);
    let messages: Vec<_> = (0..count).map(message).collect();
    let snapshot = format!(r#"{{"type":"MESSAGES_SNAPSHOT","messages":[{}]}}"#, messages.join(","));
    accept(&mut recorder(), &snapshot, table)
}

// fault A3
#[test]
fn a_snapshot_looks_up_only_what_its_ids_depend_on() {
    assert_eq!(accept_snapshot(100, |_| false), (1, 100));
    let is_prompt = |entry: &str| !entry.starts_with('\u{1}') || entry.starts_with("\u{1}prompt ");
    assert_eq!(accept_snapshot(100, is_prompt), (2, 200));
    // A message of another class has that class's mark, which may be any of them.
    let is_reasoning = |entry: &str| !entry.starts_with('\u{1}') || entry.starts_with("\u{1}reasoning ");
    assert_eq!(accept_snapshot(100, is_reasoning), (3, 500));
}

// fault B9
#[test]
fn every_beginning_of_arguments_becomes_json() {
    let whole = r#"{"a":[1,-2.5e+3,true,null,{"b\"\\ü":"\u00e9\n"}],"c":{},"d":[]}"#;
    for end in (0..=whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        let mut recorder = recorder();
        let delta = serde_json::to_string(&whole[..end]).unwrap();
        let start = r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":"f"}"#;
        accept(&mut recorder, start, |_| false);
        let args = format!(r#"{{"type":"TOOL_CALL_ARGS","toolCallId":"c","delta":{delta}}}"#);
        accept(&mut recorder, &args, |_| false);
        recorder.finalize(Ending { stop_requested: true, ..Ending::default() });
        let events = events(&recorder);
        let arguments = events[2]["delta"].as_str().unwrap();
        assert!(arguments.starts_with(&whole[..end]));
        serde_json::from_str::<Value>(arguments).unwrap_or_else(|error| panic!("{arguments}: {error}"));
    }
}

//! Subagents that use one id at the same time, and calls that are answered twice or that only a snapshot has.
use std::collections::HashSet;

use agentrunner_core::entries::{input_for_agent, split_own_id};
use agentrunner_core::finalize::Ending;
use agentrunner_core::recorder::{Limits, Pressure, Recorder};
use serde_json::{Value, json};

const INPUT: &str = r#"{"threadId":"t","runId":"r","messages":[]}"#;

fn recorder() -> Recorder {
    let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 1, Limits::default());
    accept(&mut recorder, &json!({"type": "RUN_STARTED", "threadId": "t", "runId": "r"}));
    recorder
}

fn accept(recorder: &mut Recorder, event: &Value) {
    assert_ne!(recorder.accept(event.to_string().as_bytes()).unwrap(), Pressure::LookUp);
}

fn events(recorder: &Recorder) -> Vec<Value> {
    serde_json::from_str(&recorder.compacted()).unwrap()
}

// fault B5
#[test]
fn thousands_of_subagents_can_share_an_id() {
    let mut recorder = recorder();
    let owners: Vec<String> = (0..2000).map(|number| format!("s{number}")).collect();
    for part in ["START", "CONTENT", "END"] {
        for owner in &owners {
            let mut event = json!({"type": format!("TEXT_MESSAGE_{part}"), "messageId": "m", "subagentRunId": owner});
            if part == "CONTENT" {
                event["delta"] = owner.as_str().into();
            }
            accept(&mut recorder, &event);
        }
    }
    let mut ids = HashSet::new();
    for event in events(&recorder).iter().filter(|event| event["type"] == "TEXT_MESSAGE_CONTENT") {
        assert_eq!(event["delta"], event["subagentRunId"]);
        let id = event["messageId"].as_str().unwrap().to_owned();
        assert_eq!(split_own_id(&id), ("m", 1));
        ids.insert(id);
    }
    assert_eq!(ids.len(), owners.len());
}

// fault B5
#[test]
fn an_agents_input_has_the_id_that_both_subagents_used() {
    let input = r#"{"messages":[{"id":"m--own-text2","role":"assistant"},{"id":"m--own-text0","role":"assistant"}]}"#;
    let restored = input_for_agent(input).unwrap();
    assert_eq!(restored, r#"{"messages":[{"id":"m","role":"assistant"},{"id":"m--own-text0","role":"assistant"}]}"#);
}

// fault B6
#[test]
fn events_that_name_no_subagent_continue_the_only_open_call_or_the_parents() {
    let mut recorder = recorder();
    let event = |part: &str, owner: &str| {
        let mut event = json!({"type": format!("TOOL_CALL_{part}"), "toolCallId": "c"});
        for (key, value) in [("toolCallName", "f"), ("delta", owner), ("subagentRunId", owner)] {
            let belongs = match key {
                "toolCallName" => part == "START",
                "delta" => part == "ARGS",
                _ => !owner.is_empty(),
            };
            if belongs {
                event[key] = value.into();
            }
        }
        event
    };
    for (part, owner) in [("START", "s"), ("START", ""), ("ARGS", ""), ("ARGS", "s"), ("END", ""), ("END", "")] {
        accept(&mut recorder, &event(part, owner));
    }
    recorder.finalize(Ending { stop_requested: true, ..Ending::default() });
    let arguments: Vec<_> = events(&recorder)
        .iter()
        .filter(|event| event["type"] == "TOOL_CALL_ARGS")
        .map(|event| (event["toolCallId"].clone(), event["delta"].clone()))
        .collect();
    assert_eq!(arguments, [("c".into(), "s".into()), ("c--own2".into(), "".into())]);
}

// fault B6
#[test]
fn chunks_of_one_id_need_a_subagent_if_several_lanes_have_it_open() {
    let mut recorder = recorder();
    let chunk = |owner: Option<&str>| {
        let mut event = json!({"type": "TOOL_CALL_CHUNK", "toolCallId": "c", "toolCallName": "f", "delta": "1"});
        if let Some(owner) = owner {
            event["subagentRunId"] = owner.into();
        }
        event
    };
    accept(&mut recorder, &chunk(Some("s")));
    accept(&mut recorder, &json!({"type": "TOOL_CALL_CHUNK", "toolCallId": "c", "delta": "2"}));
    accept(&mut recorder, &chunk(Some("x")));
    let refusal = recorder.accept(chunk(None).to_string().as_bytes()).unwrap_err().to_string();
    assert!(refusal.contains("2 lanes have the open tool call 'c'"), "{refusal}");
}

// fault B9
#[test]
fn a_recovered_runs_snapshot_call_gets_a_result_only_if_the_thread_does_not_have_it() {
    let started = json!({"type": "RUN_STARTED", "threadId": "t", "runId": "r"});
    let call = |id: &str| {
        let call = json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        json!({"id": format!("m{id}"), "role": "assistant", "toolCalls": [call]})
    };
    let snapshot = json!({"type": "MESSAGES_SNAPSHOT", "messages": [call("old"), call("older"), call("new")]});
    let frames = format!("id: 11\ndata: {started}\n\nid: 12\ndata: {snapshot}\n\n");
    for is_looked_up in [true, false] {
        let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 11, Limits::default()).with_history();
        recorder.replay(frames.as_bytes()).unwrap();
        recorder.prepare_end();
        if is_looked_up {
            // Version 0.1.0 noted only the message of a call.
            recorder.learn(&["\u{1}call old".to_owned(), "molder".to_owned()].into());
        }
        recorder.finalize(Ending::default());
        let events = events(&recorder);
        let results: Vec<_> = events.iter().filter_map(|event| event["toolCallId"].as_str()).collect();
        assert_eq!(results, if is_looked_up { vec!["new"] } else { vec![] });
    }
}

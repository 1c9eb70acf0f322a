//! The ends of runs that did not end themselves, against the reference's fixture and one by one.
mod support;

use agentrunner_core::event::Event;
use agentrunner_core::finalize::Ending;
use agentrunner_core::lifecycle::Lifecycle;
use serde_json::Value;
use support::cases;
use support::runs::*;

/// Return the events that end a run of these events.
fn finalize(events: &[Value], ending: &Ending<'_>) -> Vec<Value> {
    let mut run = Lifecycle::new();
    for event in events {
        let json = event.to_string();
        run.note(&Event::parse_str(&json).unwrap());
    }
    run.finalize(ending).iter().map(|json| serde_json::from_str(json).unwrap()).collect()
}

#[test]
fn runs_end_as_the_reference_ends_them() {
    let cases = cases("finalize");
    assert_eq!(cases.len(), 120);
    for case in cases {
        let ending = Ending {
            stop_requested: case["stop_requested"].as_bool().unwrap(),
            interruption_message: case["interruption_message"].as_str(),
            ..Ending::default()
        };
        let appended_events = finalize(case["events"].as_array().unwrap(), &ending);
        let expected = case["appended"].as_array().unwrap();
        let (extra, appended) = appended_events.split_at(appended_events.len() - expected.len());
        assert_eq!(appended, expected, "{}", case["name"]);
        let closers = ["REASONING_MESSAGE_END", "REASONING_END", "STEP_FINISHED", "SUBAGENT_FINISHED"];
        for event in extra {
            assert!(closers.contains(&event["type"].as_str().unwrap()), "{}: {event}", case["name"]);
        }
    }
}

#[test]
fn a_run_cut_anywhere_ends_in_order() {
    let mut cuts = 0;
    for case in cases("verify").iter().filter(|case| case["valid"] == true) {
        let mut run = Lifecycle::new();
        for event in case["events"].as_array().unwrap() {
            check(&mut run, event).unwrap();
            for stop_requested in [true, false] {
                let ending = Ending { stop_requested, run: Some(("t", "r")), ..Ending::default() };
                let mut cut = run.clone();
                for json in run.finalize(&ending) {
                    cut.check(&Event::parse_str(&json).unwrap()).unwrap();
                }
                assert!(cut.has_ended());
                cuts += 1;
            }
        }
    }
    assert!(cuts > 1000, "{cuts}");
}

#[test]
fn everything_open_is_closed_from_the_inside_out() {
    let events = [
        started(),
        stream_event("TEXT_MESSAGE_START", "m2", ""),
        stream_event("TEXT_MESSAGE_START", "m1", ""),
        stream_event("TEXT_MESSAGE_START", "m0", ""),
        stream_event("TEXT_MESSAGE_END", "m1", ""),
        subagent_event("SUBAGENT_STARTED", "s"),
        subagent_event("SUBAGENT_STARTED", "t"),
        step("STEP_STARTED", "one", ""),
        step("STEP_STARTED", "two", "s"),
        stream_event("REASONING_START", "i", ""),
        stream_event("REASONING_MESSAGE_START", "i", ""),
        stream_event("TOOL_CALL_START", "c", ""),
        stream_event("TOOL_CALL_END", "c", ""),
    ];
    let mut run = Lifecycle::new();
    for event in &events {
        check(&mut run, event).unwrap();
    }
    let stop = Ending { stop_requested: true, run: Some(("t", "r\"")), ..Ending::default() };
    assert_eq!(
        run.finalize(&stop),
        [
            r#"{"type":"REASONING_MESSAGE_END","messageId":"i"}"#,
            r#"{"type":"REASONING_END","messageId":"i"}"#,
            r#"{"type":"STEP_FINISHED","stepName":"two","subagentRunId":"s"}"#,
            r#"{"type":"STEP_FINISHED","stepName":"one"}"#,
            r#"{"type":"SUBAGENT_FINISHED","subagentRunId":"t"}"#,
            r#"{"type":"SUBAGENT_FINISHED","subagentRunId":"s"}"#,
            r#"{"type":"TEXT_MESSAGE_END","messageId":"m2"}"#,
            r#"{"type":"TEXT_MESSAGE_END","messageId":"m0"}"#,
            r#"{"type":"TOOL_CALL_RESULT","toolCallId":"c","messageId":"c-result","role":"tool","content":"{\"status\":\"stopped\",\"reason\":\"stop_requested\",\"message\":\"Run stopped by user\"}"}"#,
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r\""}"#,
        ]
    );
    let abrupt = Ending { interruption_message: Some("gone"), code: Some("LEASE_LOST"), ..Ending::default() };
    let appended = run.finalize(&abrupt);
    assert_eq!(appended.len(), 6);
    assert_eq!(appended[5], r#"{"type":"RUN_ERROR","message":"gone","code":"LEASE_LOST"}"#);
}

#[test]
fn a_call_opened_again_is_closed_again() {
    let mut run = Lifecycle::new();
    let events = ["TOOL_CALL_START", "TOOL_CALL_END", "TOOL_CALL_START"].map(|kind| stream_event(kind, "c", ""));
    check(&mut run, &started()).unwrap();
    for event in &events {
        check(&mut run, event).unwrap();
    }
    let stop = Ending { stop_requested: true, ..Ending::default() };
    for json in run.finalize(&stop) {
        run.check(&Event::parse_str(&json).unwrap()).unwrap();
    }
    assert!(run.has_ended());
}

#[test]
fn a_run_that_has_ended_gets_no_events() {
    let late = [
        started(),
        stream_event("TEXT_MESSAGE_START", "m", ""),
        finished(),
        stream_event("TEXT_MESSAGE_START", "n", ""),
    ];
    assert_eq!(finalize(&late, &Ending::default()), Vec::<Value>::new());
    let again = [started(), stream_event("TEXT_MESSAGE_START", "m", ""), finished(), started()];
    assert_eq!(finalize(&again, &Ending::default()).len(), 1);
}

#[test]
fn a_run_without_events_gets_only_its_end() {
    let ending = Ending { stop_requested: true, run: Some(("t", "r")), ..Ending::default() };
    assert_eq!(finalize(&[], &ending), [finished()]);
}

//! The rules about the order of events, against the reference's fixture and one by one.
mod support;

use agentrunner_core::event::Event;
use agentrunner_core::finalize::Ending;
use agentrunner_core::lifecycle::Lifecycle;
use serde_json::{Value, json};
use support::cases;
use support::runs::*;

#[test]
fn events_are_refused_as_the_reference_refuses_them() {
    let cases = cases("verify");
    assert_eq!(cases.len(), 200);
    for case in cases {
        let refusal = refusal(case["events"].as_array().unwrap());
        assert_eq!(refusal.is_none(), case["valid"].as_bool().unwrap(), "{}", case["name"]);
        assert_eq!(refusal.as_deref(), case["error"].as_str(), "{}", case["name"]);
    }
}

#[test]
fn a_refused_event_changes_nothing() {
    let mut run = Lifecycle::new();
    check(&mut run, &started()).unwrap();
    check(&mut run, &stream_event("TEXT_MESSAGE_START", "m", "s")).unwrap();
    let before = run.finalize(&Ending::default());
    for event in [
        stream_event("TEXT_MESSAGE_START", "m", ""),
        stream_event("TEXT_MESSAGE_END", "m", "other"),
        stream_event("TOOL_CALL_END", "c", ""),
        finished(),
        started(),
        json!({"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "m"}, {"id": "x", "subagentRunId": null}]}),
    ] {
        check(&mut run, &event).unwrap_err();
    }
    assert_eq!(run.finalize(&Ending::default()), before);
    check(&mut run, &stream_event("TEXT_MESSAGE_CONTENT", "m", "s")).unwrap();
}

#[test]
fn a_run_must_start_first() {
    let mut run = Lifecycle::new();
    for _ in 0..2 {
        assert_eq!(check(&mut run, &finished()).unwrap_err(), "First event must be 'RUN_STARTED'");
    }
    assert!(!run.is_started() && !run.has_ended());
    check(&mut run, &started()).unwrap();
    assert!(run.is_started() && !run.has_ended());
}

#[test]
fn rule_2_only_a_new_run_may_follow_an_error() {
    let error = json!({"type": "RUN_ERROR", "message": "m"});
    assert!(last_refused(&[error.clone(), error.clone()]).contains("already errored"));
    accept_all(&[error, started(), finished()]);
}

#[test]
fn rule_3_an_error_may_follow_the_end_once() {
    let error = json!({"type": "RUN_ERROR", "message": "m"});
    assert!(last_refused(&[finished(), json!({"type": "BRAND_NEW"})]).contains("'BRAND_NEW': The run has already"));
    assert!(last_refused(&[finished(), error.clone(), error]).contains("already errored"));
}

#[test]
fn rule_4_no_run_starts_in_a_run() {
    assert!(last_refused(&[started()]).starts_with("Cannot send 'RUN_STARTED' while a run is still active."));
}

#[test]
fn a_new_run_forgets_the_owners_of_the_last() {
    accept_all(&[
        stream_event("TEXT_MESSAGE_START", "m", "a"),
        stream_event("TEXT_MESSAGE_END", "m", ""),
        subagent_event("SUBAGENT_STARTED", "a"),
        subagent_event("SUBAGENT_FINISHED", "a"),
        finished(),
        started(),
        stream_event("TEXT_MESSAGE_START", "m", "b"),
        subagent_event("SUBAGENT_STARTED", "a"),
    ]);
}

#[test]
fn rule_7_a_step_is_finished_by_its_owner() {
    accept_all(&[step("STEP_STARTED", "x", ""), step("STEP_STARTED", "x", "s"), step("STEP_FINISHED", "x", "")]);
    assert_eq!(
        last_refused(&[step("STEP_STARTED", "x", "s"), step("STEP_STARTED", "x", "s")]),
        "Step \"x\" is already active for 'STEP_STARTED' in subagent 's'"
    );
    assert_eq!(
        last_refused(&[step("STEP_STARTED", "x", ""), step("STEP_FINISHED", "x", "s")]),
        "Cannot send 'STEP_FINISHED' for step \"x\" attributed to subagent 's': that step is open under the parent \
         agent. A step must be finished by whoever started it."
    );
    assert!(
        last_refused(&[step("STEP_STARTED", "x", "s"), step("STEP_FINISHED", "x", "")])
            .contains("attributed to the parent agent: that step is open under subagent 's'")
    );
}

#[test]
fn rule_9_names_everything_open_in_order() {
    let open = [step("STEP_STARTED", "z", "s"), step("STEP_STARTED", "a", ""), step("STEP_STARTED", "b", "s")];
    let mut events = open.to_vec();
    events.push(finished());
    let expected = "Cannot send 'RUN_FINISHED' while steps are still active: z (subagent 's'), b (subagent 's'), a";
    assert_eq!(last_refused(&events), expected);
    let events = [stream_event("TOOL_CALL_START", "z", ""), stream_event("TOOL_CALL_START", "a", ""), finished()];
    assert!(last_refused(&events).ends_with("while tool calls are still active: z, a"));
}

#[test]
fn rule_11_optional_fields_are_omitted_and_not_null() {
    let refused = |event: Value| last_refused(&[event]);
    for kind in ["CUSTOM", "BRAND_NEW", "STATE_DELTA"] {
        assert_eq!(
            refused(json!({"type": kind, "subagentRunId": null})),
            format!("Cannot send '{kind}' with 'subagentRunId: null'. The field is optional — omit it entirely.")
        );
    }
    for field in ["description", "parentSubagentRunId", "parentToolCallId", "parentMessageId"] {
        let mut event = subagent_event("SUBAGENT_STARTED", "s");
        event[field] = Value::Null;
        assert!(refused(event).starts_with(&format!("Cannot send 'SUBAGENT_STARTED' with '{field}: null'.")));
    }
    let end = |outcome: Value| json!({"type": "SUBAGENT_FINISHED", "subagentRunId": "s", "outcome": outcome});
    assert!(refused(end(Value::Null)).contains("'outcome: null'"));
    assert!(refused(end(json!({"type": "bad"}))).contains("with outcome type 'bad'"));
    assert!(refused(end(json!(false))).contains("with outcome type 'undefined'"));
    assert!(refused(end(json!({"type": "suspended", "interruptIds": null}))).contains("'outcome.interruptIds: null'"));
    assert!(refused(end(json!({"type": "suspended", "interruptIds": ["i", 1]}))).contains("a non-string entry"));
    let mut error = subagent_event("SUBAGENT_ERROR", "s");
    error["code"] = Value::Null;
    assert!(refused(error).contains("'code: null'"));
    let mut end = finished();
    end["outcome"] = json!({"type": "interrupt", "interrupts": [{"id": "i", "subagentRunId": null}]});
    assert!(refused(end).contains("an interrupt (id 'i') carrying 'subagentRunId: null'"));
    let messages = json!([{"id": "m", "subagentRunId": null}]);
    let message = "Cannot send a message (id 'm') with 'subagentRunId: null'.";
    assert!(refused(json!({"type": "MESSAGES_SNAPSHOT", "messages": messages})).starts_with(message));
    let mut start = started();
    start["input"] = json!({"messages": messages});
    assert!(refusal(&[start]).unwrap().starts_with(message));
}

#[test]
fn rule_12_a_subagent_runs_once() {
    let start = subagent_event("SUBAGENT_STARTED", "s");
    let nested = |id: &str, parent: &str| {
        let mut event = subagent_event("SUBAGENT_STARTED", id);
        event["parentSubagentRunId"] = parent.into();
        event
    };
    assert!(last_refused(&[start.clone(), start.clone()]).contains("'s' is already active"));
    for end in ["SUBAGENT_FINISHED", "SUBAGENT_ERROR"] {
        let end = subagent_event(end, "s");
        assert!(last_refused(&[start.clone(), end.clone(), start.clone()]).contains("already finished in this run"));
        assert!(last_refused(std::slice::from_ref(&end)).contains("no active subagent found with ID 's'"));
        assert!(last_refused(&[start.clone(), end.clone(), end.clone()]).contains("no active subagent"));
        accept_all(&[start.clone(), end, nested("t", "s"), nested("u", "t")]);
    }
    assert!(last_refused(&[nested("t", "s")]).contains("parentSubagentRunId 's' has not been started"));
    let bare = |kind: &str| json!({"type": kind, "subagentRunId": "s"});
    assert_eq!(last_refused(&[bare("SUBAGENT_STARTED")]), "Cannot send 'SUBAGENT_STARTED' without a 'name'.");
    assert_eq!(last_refused(&[bare("SUBAGENT_ERROR")]), "Cannot send 'SUBAGENT_ERROR' without a 'message'.");
    let nameless = json!({"type": "SUBAGENT_STARTED", "name": "n"});
    assert_eq!(last_refused(&[nameless]), "Cannot send 'SUBAGENT_STARTED' without a 'subagentRunId'.");
}

#[test]
fn escaped_ids_are_the_same_ids() {
    let mut run = Lifecycle::new();
    for json in [
        r#"{"type":"RUN_STARTED","threadId":"t","runId":"r"}"#,
        r#"{"type":"TEXT_MESSAGE_START","messageId":"\u0061\/é"}"#,
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"a/\u00e9","delta":""}"#,
    ] {
        run.check(&Event::parse_str(json).unwrap()).unwrap();
    }
    let closed = run.finalize(&Ending::default());
    assert_eq!(closed[0], r#"{"type":"TEXT_MESSAGE_END","messageId":"a/é"}"#);
}

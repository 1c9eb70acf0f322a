//! The rules about the order of events, and the ends of broken runs, against the reference's fixtures and by name.
use agentrunner_core::error::Error;
use agentrunner_core::event::Event;
use agentrunner_core::finalize::Ending;
use agentrunner_core::lifecycle::Lifecycle;
use serde_json::{Value, json};

fn fixture(name: &str) -> Vec<Value> {
    let path = format!("{}/../../tests/fixtures/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn check(run: &mut Lifecycle, event: &Value) -> Result<(), String> {
    let json = event.to_string();
    run.check(&Event::parse_str(&json).unwrap()).map_err(|error| match error {
        Error::InvalidSequence(message) => message,
        other => panic!("not about the sequence: {other}"),
    })
}

/// The first refusal among the events, if any.
fn refusal(events: &[Value]) -> Option<String> {
    let mut run = Lifecycle::new();
    events.iter().find_map(|event| check(&mut run, event).err())
}

/// The refusal of a run's last event; the events before it are accepted.
fn last_refused(events: &[Value]) -> String {
    let (last, before) = events.split_last().unwrap();
    let mut run = Lifecycle::new();
    check(&mut run, &started()).unwrap();
    for event in before {
        check(&mut run, event).unwrap();
    }
    check(&mut run, last).unwrap_err()
}

fn accepted(events: &[Value]) {
    let mut all = vec![started()];
    all.extend_from_slice(events);
    assert_eq!(refusal(&all), None);
}

fn started() -> Value {
    json!({"type": "RUN_STARTED", "threadId": "t", "runId": "r"})
}

fn finished() -> Value {
    json!({"type": "RUN_FINISHED", "threadId": "t", "runId": "r"})
}

/// An event of a message, tagged unless the tag is empty.
fn of(kind: &str, id: &str, tag: &str) -> Value {
    let key = if kind.starts_with("TOOL") { "toolCallId" } else { "messageId" };
    let mut event = json!({"type": kind, key: id});
    if !tag.is_empty() {
        event["subagentRunId"] = tag.into();
    }
    event
}

fn step(kind: &str, name: &str, tag: &str) -> Value {
    let mut event = json!({"type": kind, "stepName": name});
    if !tag.is_empty() {
        event["subagentRunId"] = tag.into();
    }
    event
}

fn subagent(kind: &str, id: &str) -> Value {
    json!({"type": kind, "subagentRunId": id, "name": "n", "message": "m"})
}

fn finalized(events: &[Value], ending: &Ending<'_>) -> Vec<Value> {
    let mut run = Lifecycle::new();
    for event in events {
        let json = event.to_string();
        run.note(&Event::parse_str(&json).unwrap());
    }
    run.finalize(ending).iter().map(|json| serde_json::from_str(json).unwrap()).collect()
}

#[test]
fn verifies_as_the_reference() {
    let cases = fixture("verify");
    assert_eq!(cases.len(), 200);
    for case in cases {
        let got = refusal(case["events"].as_array().unwrap());
        assert_eq!(got.is_none(), case["valid"].as_bool().unwrap(), "{}", case["name"]);
        assert_eq!(got.as_deref(), case["error"].as_str(), "{}", case["name"]);
    }
}

#[test]
fn finalizes_as_the_reference() {
    let cases = fixture("finalize");
    assert_eq!(cases.len(), 120);
    for case in cases {
        let ending = Ending {
            stop_requested: case["stop_requested"].as_bool().unwrap(),
            interruption_message: case["interruption_message"].as_str(),
            ..Ending::default()
        };
        let got = finalized(case["events"].as_array().unwrap(), &ending);
        let expected = case["appended"].as_array().unwrap();
        let (extra, appended) = got.split_at(got.len() - expected.len());
        assert_eq!(appended, expected, "{}", case["name"]);
        let closers = ["REASONING_MESSAGE_END", "REASONING_END", "STEP_FINISHED", "SUBAGENT_FINISHED"];
        for event in extra {
            assert!(closers.contains(&event["type"].as_str().unwrap()), "{}: {event}", case["name"]);
        }
    }
}

#[test]
fn what_finalize_appends_is_legal_wherever_a_run_is_cut() {
    let mut cuts = 0;
    for case in fixture("verify").iter().filter(|case| case["valid"] == true) {
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
fn a_refused_event_changes_nothing() {
    let mut run = Lifecycle::new();
    check(&mut run, &started()).unwrap();
    check(&mut run, &of("TEXT_MESSAGE_START", "m", "s")).unwrap();
    let before = run.finalize(&Ending::default());
    for event in [
        of("TEXT_MESSAGE_START", "m", ""),
        of("TEXT_MESSAGE_END", "m", "other"),
        of("TOOL_CALL_END", "c", ""),
        finished(),
        started(),
        json!({"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "m"}, {"id": "x", "subagentRunId": null}]}),
    ] {
        check(&mut run, &event).unwrap_err();
    }
    assert_eq!(run.finalize(&Ending::default()), before);
    check(&mut run, &of("TEXT_MESSAGE_CONTENT", "m", "s")).unwrap();
}

#[test]
fn a_run_that_never_started_is_refused_until_it_does() {
    let mut run = Lifecycle::new();
    for _ in 0..2 {
        assert_eq!(check(&mut run, &finished()).unwrap_err(), "First event must be 'RUN_STARTED'");
    }
    assert!(!run.is_started() && !run.has_ended());
    check(&mut run, &started()).unwrap();
    assert!(run.is_started() && !run.has_ended());
}

#[test]
fn rule_2_only_a_new_run_follows_an_error() {
    let error = json!({"type": "RUN_ERROR", "message": "m"});
    assert!(last_refused(&[error.clone(), error.clone()]).contains("already errored"));
    accepted(&[error, started(), finished()]);
}

#[test]
fn rule_3_an_error_may_follow_the_end_once() {
    let error = json!({"type": "RUN_ERROR", "message": "m"});
    assert!(last_refused(&[finished(), json!({"type": "BRAND_NEW"})]).contains("'BRAND_NEW': The run has already"));
    assert!(last_refused(&[finished(), error.clone(), error]).contains("already errored"));
}

#[test]
fn rule_4_no_run_starts_within_a_run() {
    assert!(last_refused(&[started()]).starts_with("Cannot send 'RUN_STARTED' while a run is still active."));
}

#[test]
fn a_new_run_forgets_the_owners_of_the_last() {
    accepted(&[
        of("TEXT_MESSAGE_START", "m", "a"),
        of("TEXT_MESSAGE_END", "m", ""),
        subagent("SUBAGENT_STARTED", "a"),
        subagent("SUBAGENT_FINISHED", "a"),
        finished(),
        started(),
        of("TEXT_MESSAGE_START", "m", "b"),
        subagent("SUBAGENT_STARTED", "a"),
    ]);
}

#[test]
fn rule_7_a_step_is_its_owners() {
    accepted(&[step("STEP_STARTED", "x", ""), step("STEP_STARTED", "x", "s"), step("STEP_FINISHED", "x", "")]);
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
fn rule_9_names_all_that_is_open_in_order() {
    let open = [step("STEP_STARTED", "z", "s"), step("STEP_STARTED", "a", ""), step("STEP_STARTED", "b", "s")];
    let mut events = open.to_vec();
    events.push(finished());
    let expected = "Cannot send 'RUN_FINISHED' while steps are still active: z (subagent 's'), b (subagent 's'), a";
    assert_eq!(last_refused(&events), expected);
    let events = [of("TOOL_CALL_START", "z", ""), of("TOOL_CALL_START", "a", ""), finished()];
    assert!(last_refused(&events).ends_with("while tool calls are still active: z, a"));
}

#[test]
fn rule_10_a_stream_is_its_openers() {
    for (start, rest, what) in [
        ("TEXT_MESSAGE_START", &["TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"][..], "message"),
        ("TOOL_CALL_START", &["TOOL_CALL_ARGS", "TOOL_CALL_END"], "tool call"),
        ("REASONING_MESSAGE_START", &["REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_END"], "reasoning message"),
        ("REASONING_START", &["REASONING_END"], "reasoning message"),
    ] {
        let end = rest.last().unwrap();
        for kind in rest {
            assert_eq!(
                last_refused(&[of(start, "i", ""), of(kind, "i", "s")]),
                format!(
                    "Cannot send '{kind}': subagentRunId 's' does not match the {what} 'i' opener's subagent '(the \
                     parent agent)'."
                )
            );
            assert!(last_refused(&[of(start, "i", "s"), of(kind, "i", "x")]).contains("opener's subagent 's'"));
            accepted(&[of(start, "i", "s"), of(kind, "i", "")]);
        }
        // The owner outlives the END, whoever opens the id again without a tag.
        let reopened = [of(start, "i", "s"), of(end, "i", ""), of(start, "i", ""), of(end, "i", "")];
        let mut stolen = reopened.to_vec();
        stolen.push(of(start, "i", "x"));
        assert!(last_refused(&stolen).contains("opener's subagent 's'"), "{start}");
    }
}

#[test]
fn rule_10_a_span_and_its_message_have_one_owner() {
    let events = [of("REASONING_START", "i", "s"), of("REASONING_MESSAGE_START", "i", "x")];
    assert!(last_refused(&events).contains("'REASONING_MESSAGE_START': subagentRunId 'x'"));
    accepted(&[of("REASONING_START", "i", "s"), of("REASONING_MESSAGE_START", "i", "")]);
}

#[test]
fn rule_10_a_tool_call_is_its_messages() {
    let call = |id: &str, parent: &str, tag: &str| {
        let mut event = of("TOOL_CALL_START", id, tag);
        event["parentMessageId"] = parent.into();
        event
    };
    assert_eq!(
        last_refused(&[of("TEXT_MESSAGE_START", "m", ""), call("c", "m", "s")]),
        "Cannot send 'TOOL_CALL_START': subagentRunId 's' does not match its parent message 'm' owner '(the parent \
         agent)'. A tool call belongs to the message that carries it."
    );
    // An untagged call inherits.
    let inherits = [of("TEXT_MESSAGE_START", "m", "s"), call("c", "m", ""), of("TOOL_CALL_ARGS", "c", "x")];
    assert!(last_refused(&inherits).contains("opener's subagent 's'"));
    assert_eq!(
        last_refused(&[
            of("TEXT_MESSAGE_START", "m", "s"),
            of("TEXT_MESSAGE_START", "n", ""),
            call("c", "m", ""),
            of("TOOL_CALL_END", "c", ""),
            call("c", "n", ""),
        ]),
        "Cannot send 'TOOL_CALL_START': tool call 'c' is owned by 's' but its parent message 'n' is owned by '(the \
         parent agent)'. A tool call belongs to the message that carries it."
    );
    accepted(&[call("c", "unknown", "s"), of("TOOL_CALL_END", "c", "s")]);
}

#[test]
fn rule_10_results_mint_a_message() {
    let result = |tag: &str| {
        let mut event = of("TOOL_CALL_RESULT", "c", tag);
        event["messageId"] = "m".into();
        event
    };
    assert!(last_refused(&[result("s"), of("TEXT_MESSAGE_START", "m", "x")]).contains("subagent 's'"));
    assert!(last_refused(&[result("s"), result(""), of("TEXT_MESSAGE_START", "m", "s")]).contains("parent agent"));
}

#[test]
fn rule_10_activities() {
    let snapshot = |tag: &str, replace: bool| {
        let mut event = of("ACTIVITY_SNAPSHOT", "a", tag);
        event["replace"] = replace.into();
        event
    };
    let delta = |tag: &str| of("ACTIVITY_DELTA", "a", tag);
    assert!(last_refused(&[of("ACTIVITY_SNAPSHOT", "a", "s"), delta("x")]).contains("the activity 'a' opener's"));
    assert!(last_refused(&[snapshot("s", false), snapshot("x", false), delta("x")]).contains("subagent 's'"));
    accepted(&[snapshot("s", true), snapshot("x", true), delta("x"), delta("")]);
    accepted(&[delta("s")]);
}

#[test]
fn rule_10_encrypted_values() {
    let value = |subtype: &str, tag: &str| json!({"type": "REASONING_ENCRYPTED_VALUE", "subtype": subtype, "entityId": "i", "subagentRunId": tag});
    let call = [of("TOOL_CALL_START", "i", "s"), of("TOOL_CALL_END", "i", ""), value("tool-call", "x")];
    assert!(last_refused(&call).contains("the tool call 'i' opener's subagent 's'"));
    assert!(last_refused(&[of("TEXT_MESSAGE_START", "i", "s"), value("message", "x")]).contains("message 'i'"));
    assert!(last_refused(&[of("REASONING_MESSAGE_START", "i", "s"), value("message", "x")]).contains("message 'i'"));
    assert!(last_refused(&[of("REASONING_START", "i", "s"), value("new", "x")]).contains("reasoning message 'i'"));
    accepted(&[of("TEXT_MESSAGE_START", "i", "s"), value("tool-call", "x")]);
    accepted(&[of("TEXT_MESSAGE_START", "i", "s"), of("REASONING_START", "i", "x"), value("message", "s")]);
}

#[test]
fn rule_10_is_seeded_by_a_snapshot() {
    let snapshot = json!({"type": "MESSAGES_SNAPSHOT", "messages": [
        {"id": "m", "role": "assistant", "subagentRunId": "s", "toolCalls": [{"id": "c"}]},
        {"id": "r", "role": "reasoning", "subagentRunId": "s"},
        {"id": "a", "role": "activity", "subagentRunId": "s"},
        {"id": "p", "role": "user"}, null, {"id": 1}, 5
    ]});
    for kind in ["TEXT_MESSAGE_START m", "TOOL_CALL_START c", "REASONING_START r", "ACTIVITY_DELTA a"] {
        let (kind, id) = kind.split_once(' ').unwrap();
        assert!(last_refused(&[snapshot.clone(), of(kind, id, "x")]).contains("opener's subagent 's'"), "{kind}");
        accepted(&[snapshot.clone(), of(kind, id, "s")]);
    }
    assert!(last_refused(&[snapshot.clone(), of("TEXT_MESSAGE_START", "p", "s")]).contains("parent agent"));
    // It replaces owners known before.
    let open = of("TEXT_MESSAGE_START", "m", "");
    accepted(&[open, snapshot, of("TEXT_MESSAGE_CONTENT", "m", "s")]);
}

#[test]
fn rule_10_is_seeded_by_the_input() {
    let mut run = Lifecycle::new();
    let mut start = started();
    start["input"] = json!({"messages": [{"id": "m", "role": "assistant", "subagentRunId": "s"}]});
    check(&mut run, &start).unwrap();
    assert!(check(&mut run, &of("TEXT_MESSAGE_START", "m", "x")).unwrap_err().contains("subagent 's'"));
    check(&mut run, &of("TEXT_MESSAGE_START", "m", "s")).unwrap();
}

#[test]
fn rule_11_null_is_no_way_to_leave_a_field_out() {
    let refused = |event: Value| last_refused(&[event]);
    for kind in ["CUSTOM", "BRAND_NEW", "STATE_DELTA"] {
        assert_eq!(
            refused(json!({"type": kind, "subagentRunId": null})),
            format!("Cannot send '{kind}' with 'subagentRunId: null'. The field is optional — omit it entirely.")
        );
    }
    for field in ["description", "parentSubagentRunId", "parentToolCallId", "parentMessageId"] {
        let mut event = subagent("SUBAGENT_STARTED", "s");
        event[field] = Value::Null;
        assert!(refused(event).starts_with(&format!("Cannot send 'SUBAGENT_STARTED' with '{field}: null'.")));
    }
    let end = |outcome: Value| json!({"type": "SUBAGENT_FINISHED", "subagentRunId": "s", "outcome": outcome});
    assert!(refused(end(Value::Null)).contains("'outcome: null'"));
    assert!(refused(end(json!({"type": "bad"}))).contains("with outcome type 'bad'"));
    assert!(refused(end(json!(false))).contains("with outcome type 'undefined'"));
    assert!(refused(end(json!({"type": "suspended", "interruptIds": null}))).contains("'outcome.interruptIds: null'"));
    assert!(refused(end(json!({"type": "suspended", "interruptIds": ["i", 1]}))).contains("a non-string entry"));
    let mut error = subagent("SUBAGENT_ERROR", "s");
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
fn rule_12_subagents_run_once() {
    let start = subagent("SUBAGENT_STARTED", "s");
    let nested = |id: &str, parent: &str| {
        let mut event = subagent("SUBAGENT_STARTED", id);
        event["parentSubagentRunId"] = parent.into();
        event
    };
    assert!(last_refused(&[start.clone(), start.clone()]).contains("'s' is already active"));
    for end in ["SUBAGENT_FINISHED", "SUBAGENT_ERROR"] {
        let end = subagent(end, "s");
        assert!(last_refused(&[start.clone(), end.clone(), start.clone()]).contains("already finished in this run"));
        assert!(last_refused(std::slice::from_ref(&end)).contains("no active subagent found with ID 's'"));
        assert!(last_refused(&[start.clone(), end.clone(), end.clone()]).contains("no active subagent"));
        accepted(&[start.clone(), end, nested("t", "s"), nested("u", "t")]);
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

#[test]
fn finalize_closes_in_order_what_the_reference_forgets() {
    let events = [
        started(),
        of("TEXT_MESSAGE_START", "m2", ""),
        of("TEXT_MESSAGE_START", "m1", ""),
        of("TEXT_MESSAGE_START", "m0", ""),
        of("TEXT_MESSAGE_END", "m1", ""),
        subagent("SUBAGENT_STARTED", "s"),
        subagent("SUBAGENT_STARTED", "t"),
        step("STEP_STARTED", "one", ""),
        step("STEP_STARTED", "two", "s"),
        of("REASONING_START", "i", ""),
        of("REASONING_MESSAGE_START", "i", ""),
        of("TOOL_CALL_START", "c", ""),
        of("TOOL_CALL_END", "c", ""),
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
fn finalize_closes_a_call_opened_again() {
    let mut run = Lifecycle::new();
    let events = ["TOOL_CALL_START", "TOOL_CALL_END", "TOOL_CALL_START"].map(|kind| of(kind, "c", ""));
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
fn finalize_adds_nothing_to_an_ended_run() {
    let late = [started(), of("TEXT_MESSAGE_START", "m", ""), finished(), of("TEXT_MESSAGE_START", "n", "")];
    assert_eq!(finalized(&late, &Ending::default()), Vec::<Value>::new());
    let again = [started(), of("TEXT_MESSAGE_START", "m", ""), finished(), started()];
    assert_eq!(finalized(&again, &Ending::default()).len(), 1);
}

#[test]
fn finalize_of_nothing_is_the_end_alone() {
    let ending = Ending { stop_requested: true, run: Some(("t", "r")), ..Ending::default() };
    assert_eq!(finalized(&[], &ending), [finished()]);
}

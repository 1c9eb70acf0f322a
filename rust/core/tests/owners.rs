//! Rule 10: whatever a run opens belongs to one subagent, or to the parent agent.
mod support;

use agentrunner_core::lifecycle::Lifecycle;
use serde_json::json;
use support::runs::*;

#[test]
fn a_stream_belongs_to_its_opener() {
    for (start, rest, what) in [
        ("TEXT_MESSAGE_START", &["TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"][..], "message"),
        ("TOOL_CALL_START", &["TOOL_CALL_ARGS", "TOOL_CALL_END"], "tool call"),
        ("REASONING_MESSAGE_START", &["REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_END"], "reasoning message"),
        ("REASONING_START", &["REASONING_END"], "reasoning message"),
    ] {
        let end = rest.last().unwrap();
        for kind in rest {
            assert_eq!(
                last_refused(&[stream_event(start, "i", ""), stream_event(kind, "i", "s")]),
                format!(
                    "Cannot send '{kind}': subagentRunId 's' does not match the {what} 'i' opener's subagent '(the \
                     parent agent)'."
                )
            );
            assert!(
                last_refused(&[stream_event(start, "i", "s"), stream_event(kind, "i", "x")])
                    .contains("opener's subagent 's'")
            );
            accept_all(&[stream_event(start, "i", "s"), stream_event(kind, "i", "")]);
        }
        // The owner outlives the END, even if the id is opened again without a subagent.
        let reopened = [
            stream_event(start, "i", "s"),
            stream_event(end, "i", ""),
            stream_event(start, "i", ""),
            stream_event(end, "i", ""),
        ];
        let mut stolen = reopened.to_vec();
        stolen.push(stream_event(start, "i", "x"));
        assert!(last_refused(&stolen).contains("opener's subagent 's'"), "{start}");
    }
}

#[test]
fn a_reasoning_span_and_its_message_have_one_owner() {
    let events = [stream_event("REASONING_START", "i", "s"), stream_event("REASONING_MESSAGE_START", "i", "x")];
    assert!(last_refused(&events).contains("'REASONING_MESSAGE_START': subagentRunId 'x'"));
    accept_all(&[stream_event("REASONING_START", "i", "s"), stream_event("REASONING_MESSAGE_START", "i", "")]);
}

#[test]
fn a_tool_call_belongs_to_the_owner_of_its_message() {
    let call = |id: &str, parent: &str, tag: &str| {
        let mut event = stream_event("TOOL_CALL_START", id, tag);
        event["parentMessageId"] = parent.into();
        event
    };
    assert_eq!(
        last_refused(&[stream_event("TEXT_MESSAGE_START", "m", ""), call("c", "m", "s")]),
        "Cannot send 'TOOL_CALL_START': subagentRunId 's' does not match its parent message 'm' owner '(the parent \
         agent)'. A tool call belongs to the message that carries it."
    );
    // An untagged call inherits.
    let inherits =
        [stream_event("TEXT_MESSAGE_START", "m", "s"), call("c", "m", ""), stream_event("TOOL_CALL_ARGS", "c", "x")];
    assert!(last_refused(&inherits).contains("opener's subagent 's'"));
    assert_eq!(
        last_refused(&[
            stream_event("TEXT_MESSAGE_START", "m", "s"),
            stream_event("TEXT_MESSAGE_START", "n", ""),
            call("c", "m", ""),
            stream_event("TOOL_CALL_END", "c", ""),
            call("c", "n", ""),
        ]),
        "Cannot send 'TOOL_CALL_START': tool call 'c' is owned by 's' but its parent message 'n' is owned by '(the \
         parent agent)'. A tool call belongs to the message that carries it."
    );
    accept_all(&[call("c", "unknown", "s"), stream_event("TOOL_CALL_END", "c", "s")]);
}

#[test]
fn a_result_owns_the_message_it_makes() {
    let result = |tag: &str| {
        let mut event = stream_event("TOOL_CALL_RESULT", "c", tag);
        event["messageId"] = "m".into();
        event
    };
    assert!(last_refused(&[result("s"), stream_event("TEXT_MESSAGE_START", "m", "x")]).contains("subagent 's'"));
    assert!(
        last_refused(&[result("s"), result(""), stream_event("TEXT_MESSAGE_START", "m", "s")]).contains("parent agent")
    );
}

#[test]
fn an_activity_belongs_to_the_snapshot_that_made_it() {
    let snapshot = |tag: &str, replace: bool| {
        let mut event = stream_event("ACTIVITY_SNAPSHOT", "a", tag);
        event["replace"] = replace.into();
        event
    };
    let delta = |tag: &str| stream_event("ACTIVITY_DELTA", "a", tag);
    assert!(
        last_refused(&[stream_event("ACTIVITY_SNAPSHOT", "a", "s"), delta("x")]).contains("the activity 'a' opener's")
    );
    assert!(last_refused(&[snapshot("s", false), snapshot("x", false), delta("x")]).contains("subagent 's'"));
    accept_all(&[snapshot("s", true), snapshot("x", true), delta("x"), delta("")]);
    accept_all(&[delta("s")]);
}

#[test]
fn an_encrypted_value_belongs_to_its_entity() {
    let value = |subtype: &str, tag: &str| json!({"type": "REASONING_ENCRYPTED_VALUE", "subtype": subtype, "entityId": "i", "subagentRunId": tag});
    let call =
        [stream_event("TOOL_CALL_START", "i", "s"), stream_event("TOOL_CALL_END", "i", ""), value("tool-call", "x")];
    assert!(last_refused(&call).contains("the tool call 'i' opener's subagent 's'"));
    assert!(
        last_refused(&[stream_event("TEXT_MESSAGE_START", "i", "s"), value("message", "x")]).contains("message 'i'")
    );
    assert!(
        last_refused(&[stream_event("REASONING_MESSAGE_START", "i", "s"), value("message", "x")])
            .contains("message 'i'")
    );
    assert!(
        last_refused(&[stream_event("REASONING_START", "i", "s"), value("new", "x")]).contains("reasoning message 'i'")
    );
    accept_all(&[stream_event("TEXT_MESSAGE_START", "i", "s"), value("tool-call", "x")]);
    accept_all(&[
        stream_event("TEXT_MESSAGE_START", "i", "s"),
        stream_event("REASONING_START", "i", "x"),
        value("message", "s"),
    ]);
}

#[test]
fn a_snapshot_of_messages_sets_their_owners() {
    let snapshot = json!({"type": "MESSAGES_SNAPSHOT", "messages": [
        {"id": "m", "role": "assistant", "subagentRunId": "s", "toolCalls": [{"id": "c"}]},
        {"id": "r", "role": "reasoning", "subagentRunId": "s"},
        {"id": "a", "role": "activity", "subagentRunId": "s"},
        {"id": "p", "role": "user"}, null, {"id": 1}, 5
    ]});
    for kind in ["TEXT_MESSAGE_START m", "TOOL_CALL_START c", "REASONING_START r", "ACTIVITY_DELTA a"] {
        let (kind, id) = kind.split_once(' ').unwrap();
        assert!(
            last_refused(&[snapshot.clone(), stream_event(kind, id, "x")]).contains("opener's subagent 's'"),
            "{kind}"
        );
        accept_all(&[snapshot.clone(), stream_event(kind, id, "s")]);
    }
    assert!(last_refused(&[snapshot.clone(), stream_event("TEXT_MESSAGE_START", "p", "s")]).contains("parent agent"));
    // It replaces owners known before.
    let open = stream_event("TEXT_MESSAGE_START", "m", "");
    accept_all(&[open, snapshot, stream_event("TEXT_MESSAGE_CONTENT", "m", "s")]);
}

#[test]
fn an_input_sets_the_owners_of_its_messages() {
    let mut run = Lifecycle::new();
    let mut start = started();
    start["input"] = json!({"messages": [{"id": "m", "role": "assistant", "subagentRunId": "s"}]});
    check(&mut run, &start).unwrap();
    assert!(check(&mut run, &stream_event("TEXT_MESSAGE_START", "m", "x")).unwrap_err().contains("subagent 's'"));
    check(&mut run, &stream_event("TEXT_MESSAGE_START", "m", "s")).unwrap();
}

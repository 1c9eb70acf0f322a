//! Events: what is refused, how fields are read, and what a recorder keeps.
mod support;

use agentrunner_core::event::Event;
use agentrunner_core::family::{Edge, Family, Part, Role};
use agentrunner_core::kind::Kind;
use support::event;

fn refusal(json: &[u8]) -> String {
    Event::parse(json).expect_err("it is refused").to_string()
}

#[test]
fn anything_but_an_object_with_a_type_is_refused() {
    for (json, reason) in [
        (&b"\xff"[..], "an event must be UTF-8"),
        (b"", "not JSON: an unexpected end at byte 0"),
        (b"{", "not JSON: expected a key at byte 1"),
        (b"{\"type\":\"RAW\"} x", "not JSON"),
        (b"[]", "an event must be a JSON object"),
        (b"{}", "an event must have a `type`"),
        (b"{\"type\":1}", "`type` must be a string, not 1"),
    ] {
        assert!(refusal(json).contains(reason), "{}", refusal(json));
    }
    let deep = format!(r#"{{"type":"RAW","event":{}{}}}"#, "[".repeat(128), "]".repeat(128));
    assert!(refusal(deep.as_bytes()).contains("nested deeper than 128 levels"));
}

#[test]
fn every_kind_is_found_by_its_name_and_others_are_unknown() {
    for (kind, name) in Kind::ALL {
        let json = format!(r#"{{"type":"{name}"}}"#);
        assert_eq!((event(&json).kind(), event(&json).type_name()), (*kind, *name));
        assert_ne!(kind.role(), Role::Unknown, "{name}");
    }
    assert_eq!(event(r#"{"type":"BRAND_NEW"}"#).role(), Role::Unknown);
    assert_eq!(event(r#"{"type":"\u0052AW"}"#).kind(), Kind::Raw, "an escaped name is the same name");
}

#[test]
fn roles_tell_what_an_event_does() {
    for (name, role) in [
        ("TOOL_CALL_ARGS", Role::Stream(Family::ToolCall, Part::Delta)),
        ("REASONING_MESSAGE_CHUNK", Role::Chunk(Family::Reasoning)),
        ("REASONING_START", Role::Span(Edge::Open)),
        ("SUBAGENT_ERROR", Role::Subagent(Edge::Close)),
    ] {
        assert_eq!(Kind::from_name(name).role(), role);
    }
}

#[test]
fn fields_are_read_whatever_their_escapes_and_the_last_one_counts() {
    let event = event(r#"{"type":"CUSTOM","n\u0061me":"\u00e9","value":1,"value":null,"half":"\ud83d"}"#);
    assert_eq!((event.string("name").as_deref(), event.escaped_text("name")), (Some("é"), Some(r"\u00e9")));
    assert!(event.is_null("value") && event.get("missing").is_none());
    assert_eq!((event.string("half"), event.escaped_text("half")), (None, Some(r"\ud83d")));
}

#[test]
fn ids_must_be_there_and_must_be_short_unicode_strings() {
    let refusal = |json: &str| event(json).check_ids(8).expect_err(json).to_string();
    assert_eq!(refusal(r#"{"type":"TEXT_MESSAGE_END"}"#), "TEXT_MESSAGE_END: `messageId` is missing");
    assert_eq!(refusal(r#"{"type":"STEP_STARTED","stepName":""}"#), "STEP_STARTED: `stepName` is empty");
    assert!(refusal(r#"{"type":"TOOL_CALL_END","toolCallId":7}"#).contains("must be a string, not 7"));
    assert!(refusal(r#"{"type":"TOOL_CALL_END","toolCallId":"\ud83d"}"#).contains("half a surrogate pair"));
    assert!(refusal(r#"{"type":"RAW","parentRunId":"123456789"}"#).contains("9 bytes long, over the limit of 8"));
    event(r#"{"type":"NEW","messageId":7}"#).check_ids(8).expect("unknown kinds are not checked");
    event(r#"{"type":"RUN_ERROR","runId":null}"#).check_ids(8).expect("an optional id may be null");
}

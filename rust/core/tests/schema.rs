//! The fields of events by the schema of AG-UI 1.0. The Python tests compare these verdicts with the real schema.
mod support;

use std::borrow::Cow;
use std::collections::HashSet;

use agentrunner_core::error::Error;
use agentrunner_core::event::Event;
use agentrunner_core::frames::{self, Cursor};
use agentrunner_core::log::Read;
use agentrunner_core::recorder::{Limits, Recorder};
use agentrunner_core::schema::{conform, mend, mend_input};
use agentrunner_core::stored_run::write_frames;
use support::{event, read};

const INPUT: &str = r#"{"threadId":"t","runId":"r","messages":[]}"#;

fn kept(json: &str) -> String {
    conform(&event(json)).unwrap_or_else(|error| panic!("{json}: {error}")).into_owned()
}

fn refusal(json: &str) -> String {
    match conform(&event(json)) {
        Err(Error::InvalidEvent(text)) => text,
        other => panic!("{json} must be refused: {other:?}"),
    }
}

/// Check that an event with a field becomes one with another value, or without the field.
fn check(template: &str, field: &str, expected: Option<&str>) {
    let given = template.replace('@', field);
    let (given_name, _) = field.split_once(':').unwrap_or((field, ""));
    let mended = read(&kept(&given));
    let pointer = format!("/{}", given_name.trim_matches('"'));
    assert_eq!(mended.pointer(&pointer).cloned(), expected.map(read), "{given} became {mended}");
}

#[test]
fn a_recorder_keeps_an_event_without_optional_nulls_and_line_breaks() {
    for (given, expected) in [
        (r#"{"type":"RAW", "event":null}"#, r#"{"type":"RAW", "event":null}"#),
        (
            r#"{"type":"CUSTOM","name":"n","value":null,"timestamp":null}"#,
            r#"{"type":"CUSTOM","name":"n","value":null}"#,
        ),
        ("{\"type\":\"RAW\",\n \"event\": \"a b\"}", r#"{"type":"RAW","event":"a b"}"#),
        (
            "{\"type\":\"STEP_STARTED\",\n\"stepName\":\"s\",\"rawEvent\":null}",
            r#"{"type":"STEP_STARTED","stepName":"s"}"#,
        ),
        (r#"{"type":"NEW","timestamp":null,"metadata":5}"#, r#"{"type":"NEW","timestamp":null,"metadata":5}"#),
        (
            r#"{"type":"STEP_STARTED","stepName":"s","delta":null}"#,
            r#"{"type":"STEP_STARTED","stepName":"s","delta":null}"#,
        ),
    ] {
        assert_eq!(kept(given), expected);
    }
}

// fault B1
#[test]
fn what_has_one_obvious_meaning_is_mended() {
    let step = r#"{"type":"STEP_STARTED","stepName":"s",@}"#;
    for (value, expected) in [
        ("1754006400.25", Some("1754006400")),
        ("-1.5", Some("-1")),
        ("1754006400000", Some("1754006400000")),
        ("\"1754006400000\"", Some("1754006400000")),
        ("\"2025-08-01T00:00:00Z\"", Some("1754006400000")),
        ("\"2025-08-01T02:00:00.250999+02:00\"", Some("1754006400250")),
        ("\"2024-02-29 23:59:59.5-0030\"", Some("1709252999500")),
        ("\"1969-12-31T23:59Z\"", Some("-60000")),
        ("null", None),
    ] {
        check(step, &format!("\"timestamp\":{value}"), expected);
    }
    let result = r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c",@}"#;
    for (value, expected) in [
        ("{\"a\": [1, null]}", r#""{\"a\":[1,null]}""#),
        ("[1]", r#""[1]""#),
        ("null", "\"null\""),
        ("4.50", "\"4.50\""),
        ("true", "\"true\""),
        (r#"[{"type":"text","text":"a"}]"#, r#"[{"type":"text","text":"a"}]"#),
        (
            r#"[{"type":"text","text":"a"},{"type":"resource"}]"#,
            r#""[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"resource\"}]""#,
        ),
    ] {
        check(result, &format!("\"content\":{value}"), Some(expected));
    }
    check(r#"{"type":"CUSTOM","name":"n"}"#, "\"value\":", Some("null"));
    check(r#"{"type":"REASONING_MESSAGE_START","messageId":"m"}"#, "\"role\":", Some("\"reasoning\""));
    check(r#"{"type":"REASONING_MESSAGE_START","messageId":"m",@}"#, "\"role\":\"assistant\"", Some("\"reasoning\""));
    check(r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m",@}"#, "\"delta\":null", Some("\"\""));
    check(r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c",@}"#, "\"delta\":{\"a\": 1}", Some(r#""{\"a\":1}""#));
    check(r#"{"type":"RUN_ERROR",@}"#, "\"code\":500", Some("\"500\""));
    let error = kept(r#"{"type":"RUN_ERROR","message":null,"code":"E"}"#);
    assert!(error.contains("without a message") && error.contains(r#""code":"E""#), "{error}");
}

// fault B1
#[test]
fn messages_of_a_snapshot_are_mended() {
    let snapshot = |message: &str| format!(r#"{{"type":"MESSAGES_SNAPSHOT","messages":[{message}]}}"#);
    for (given, expected) in [
        (r#"{"id":"a","role":"assistant","content":null,"name":null}"#, r#"{"id":"a","role":"assistant"}"#),
        (r#"{"id":"u","role":"user","content":null}"#, r#"{"id":"u","role":"user","content":""}"#),
        (
            r#"{"id":"a","role":"assistant","toolCalls":[{"id":"c","function":{"name":"f","arguments":{"a":1}}}]}"#,
            r#"{"id":"a","role":"assistant","toolCalls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}"#,
        ),
        (
            r#"{"id":"s","role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#,
            r#"{"id":"s","role":"system","content":"ab"}"#,
        ),
        (
            r#"{"id":"t","role":"tool","toolCallId":"c","content":{"a":1},"error":null}"#,
            r#"{"id":"t","role":"tool","toolCallId":"c","content":"{\"a\":1}"}"#,
        ),
        // Another version's role and part, and the part of versions before 1.0.
        (r#"{"id":"x","role":"critic","content":5}"#, r#"{"id":"x","role":"critic","content":5}"#),
        (
            r#"{"id":"u","role":"user","content":[{"type":"binary","mimeType":"image/png","id":"f"},{"type":"hologram"}]}"#,
            r#"{"id":"u","role":"user","content":[{"type":"binary","mimeType":"image/png","id":"f"},{"type":"hologram"}]}"#,
        ),
    ] {
        assert_eq!(read(&kept(&snapshot(given))), read(&snapshot(expected)));
    }
}

// fault B1
// fault B3
#[test]
fn the_rest_is_refused_by_kind_field_and_expectation() {
    for (json, reason) in [
        (
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"interrupt","interrupts":5}}"#,
            "RUN_FINISHED: `outcome.interrupts` must be a list that is not empty, not 5",
        ),
        (
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"interrupt","interrupts":[{"id":"i"}]}}"#,
            "RUN_FINISHED: `outcome.interrupts[0].reason` is missing; it must be a string",
        ),
        (
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"interrupts":[]}}"#,
            "RUN_FINISHED: `outcome.type` is missing; it must be one of 'success', 'interrupt', 'cancelled'",
        ),
        (
            r#"{"type":"MESSAGES_SNAPSHOT","messages":[{"id":"a","role":"user","content":"x"},{"id":"b","role":"user","content":[{"type":"text"}]}]}"#,
            "MESSAGES_SNAPSHOT: `messages[1].content[0].text` is missing; it must be a string",
        ),
        (
            r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":{}}"#,
            "TEXT_MESSAGE_CONTENT: `delta` must be a string, not {}",
        ),
        (
            r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m"}"#,
            "TEXT_MESSAGE_CONTENT: `delta` is missing; it must be a string",
        ),
        (
            r#"{"type":"STEP_STARTED","stepName":"s","timestamp":"2025-08-01T00:00:00"}"#,
            "with its offset from UTC, not \"2025",
        ),
        (r#"{"type":"STEP_STARTED","stepName":"s","timestamp":1e400}"#, "`timestamp` must be a time in milliseconds"),
        (r#"{"type":"STEP_STARTED","stepName":"s","timestamp":"2025-02-29T00:00:00Z"}"#, "`timestamp` must be"),
        (r#"{"type":"STATE_SNAPSHOT"}"#, "STATE_SNAPSHOT: `snapshot` is missing; it must be a value"),
        (
            r#"{"type":"ACTIVITY_SNAPSHOT","messageId":"m","activityType":"a","content":[]}"#,
            "`content` must be an object, not []",
        ),
    ] {
        let text = refusal(json);
        assert!(text.contains(reason), "{text}");
    }
    let long = format!(r#"{{"type":"CUSTOM","value":1,"name":[{}1]}}"#, "1,".repeat(100_000));
    assert!(refusal(&long).len() < 200, "the text of a refusal is bounded");
}

// fault B2
#[test]
fn a_patch_is_refused_if_it_is_not_one() {
    let delta = |patch: &str| format!(r#"{{"type":"STATE_DELTA","delta":{patch}}}"#);
    for (patch, reason) in [
        ("{}", "`delta` must be a list of JSON Patch operations, not {}"),
        ("null", "`delta` must be a list of JSON Patch operations, not null"),
        ("[5]", "`delta[0]` must be an object, not 5"),
        (r#"[{"op":"remove","path":"/a"},{"op":"put","path":"/a"}]"#, "`delta[1].op` must be one of 'add'"),
        (r#"[{"op":"add","path":"/a"}]"#, "`delta[0].value` is missing"),
        (r#"[{"op":"move","path":"/a"}]"#, "`delta[0].from` is missing; it must be a JSON Pointer"),
        (r#"[{"op":"remove","path":"a"}]"#, "`delta[0].path` must be a JSON Pointer"),
        (r#"[{"op":"remove","path":"/a~2"}]"#, "`delta[0].path` must be a JSON Pointer"),
        (r#"[{"op":"remove","path":"/a\u007e"}]"#, "`delta[0].path` must be a JSON Pointer"),
    ] {
        let text = refusal(&delta(patch));
        assert!(text.starts_with("STATE_DELTA: ") && text.contains(reason), "{text}");
        let activity = format!(r#"{{"type":"ACTIVITY_DELTA","messageId":"m","activityType":"a","patch":{patch}}}"#);
        assert!(refusal(&activity).contains(&reason.replace("`delta", "`patch")));
    }
    for patch in
        ["[]", r#"[{"op":"add","path":"","value":null,"more":1},{"op":"copy","from":"/a~0","path":"/\u002f~1"}]"#]
    {
        assert_eq!(kept(&delta(patch)), delta(patch));
    }
}

#[test]
fn an_event_that_fits_stays_byte_for_byte() {
    for json in [
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"a"}"#,
        r#"{ "delta" : "a", "type":"TOOL_CALL_ARGS","toolCallId":"c","new":[1] }"#,
        r#"{"type":"RUN_ERROR","message":"m","usage":[{"inputTokens":2.0,"new":-1}],"timestamp":1e3}"#,
        r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"later","why":1}}"#,
        r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":[]}"#,
        r#"{"type":"REASONING_MESSAGE_START","messageId":"m","role":"r\u0065asoning"}"#,
    ] {
        assert!(matches!(conform(&event(json)), Ok(Cow::Borrowed(_))), "{json}");
    }
    // Of a repeated field the last value counts.
    assert_eq!(
        kept(r#"{"type":"TEXT_MESSAGE_START","name":"n","messageId":"m","n\u0061me":null}"#),
        r#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#
    );
}

// fault B1
// fault B3
#[test]
fn stored_events_are_mended_on_their_way_out() {
    let stored = concat!(
        r#"[{"type":"RUN_STARTED","threadId":"t","runId":"r","timestamp":1.5,"input":{"messages":[{"role":"user"}]}},"#,
        r#"{"type":"STATE_DELTA","delta":5},"#,
        r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":7,"metadata":[]},"#,
        r#"{"type":"NEW","delta":5},"#,
        r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"interrupt","interrupts":5}}]"#
    );
    let mut bytes = Vec::new();
    write_frames(&mut bytes, stored.as_bytes(), 9, 0, None).unwrap();
    let frames: Vec<_> =
        frames::iter(&bytes).map(|frame| frame.unwrap()).map(|(at, json)| (at.to_string(), json)).collect();
    let expected = [
        (
            "9.0",
            r#"{"type":"RUN_STARTED","threadId":"t","runId":"r","timestamp":1,"input":{"threadId":"","runId":"","messages":[]}}"#,
        ),
        ("9.2", r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":""}"#),
        ("9.3", r#"{"type":"NEW","delta":5}"#),
        ("9.4", r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r"}"#),
    ];
    assert_eq!(frames.len(), expected.len());
    for ((cursor, json), (expected_cursor, expected)) in frames.iter().zip(expected) {
        assert_eq!((cursor.as_str(), read(json)), (expected_cursor, read(expected)));
        assert!(matches!(conform(&event(json)), Ok(Cow::Borrowed(_))));
    }
}

// fault B1
#[test]
fn a_journal_of_an_older_version_is_mended_as_it_is_replayed() {
    let events = [
        r#"{"type":"RUN_STARTED","threadId":"t","runId":"r"}"#,
        r#"{"type":"CUSTOM","name":"n"}"#,
        r#"{"type":"STATE_DELTA","delta":5}"#,
        r#"{"type":"STEP_STARTED","stepName":"s"}"#,
    ];
    let mut journal = Vec::new();
    for (seq, json) in (1..).zip(events) {
        frames::write(&mut journal, Cursor { seq, index: None }, json);
    }
    let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 1, Limits::default());
    recorder.replay(&journal).unwrap();
    let Read::Frames(bytes, last) = recorder.log().lock().unwrap().read(0, 1 << 20) else { panic!("published") };
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!((last, text.matches("\n\n").count()), (4, 4), "every sequence number keeps its frame");
    assert!(text.contains("{\"type\":\"CUSTOM\",\"name\":\"n\",\"value\":null}"), "{text}");
    assert!(recorder.compacted().contains(r#"{"type":"CUSTOM","name":"n","value":null}"#));
}

// fault B1
#[test]
fn the_input_a_run_start_gets_is_of_the_schema() {
    let input = r#"{"threadId":"t","runId":"r","messages":[{"id":"u","role":"user"},{"id":"x"},{"id":"a","role":"assistant","content":null}],"tools":null,"forwardedProps":null}"#;
    let expected = r#"{"threadId":"t","runId":"r","messages":[{"id":"u","role":"user","content":""},{"id":"a","role":"assistant"}]}"#;
    assert_eq!(read(&mend_input(input)), read(expected));
    let mut recorder = Recorder::new("t", "r", input, &HashSet::new(), 1, Limits::default());
    recorder.accept(br#"{"type":"RUN_STARTED","threadId":"t","runId":"r"}"#).unwrap();
    let started = recorder.compacted();
    let started = started.strip_prefix('[').and_then(|json| json.strip_suffix(']')).unwrap();
    assert!(matches!(conform(&event(started)), Ok(Cow::Borrowed(_))), "{started}");
}

#[test]
fn mending_twice_changes_nothing_more() {
    for json in [
        r#"{"type":"RUN_ERROR","message":5,"code":[],"usage":[1,{"inputTokens":-1}]}"#,
        r#"{"type":"RUN_STARTED","threadId":5,"runId":null,"input":{"messages":5,"tools":[{}],"resume":[{"interruptId":"i"}]}}"#,
        r#"{"type":"SUBAGENT_STARTED","subagentRunId":"s","description":7}"#,
    ] {
        let mended = mend(&event(json)).unwrap().into_owned();
        let again = Event::parse_str(&mended).unwrap();
        assert!(matches!(mend(&again), Some(Cow::Borrowed(_))) && conform(&again).is_ok(), "{mended}");
    }
}

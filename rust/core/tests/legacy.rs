//! Frames for legacy clients. The Python tests check them against the real schema of `@ag-ui/client` 0.0.59.
use agentrunner_core::kind::Kind;
use agentrunner_core::legacy::rewrite_frames;
use proptest::prelude::*;
use serde_json::{Value, json};

fn framed(events: &[&str]) -> String {
    let frame = |(at, event): (usize, &&str)| ["id: ", &(at + 1).to_string(), "\ndata: ", event, "\n\n"].concat();
    events.iter().enumerate().map(frame).collect()
}

/// Rewrite one event's frame; `None` if it is left out.
fn rewrite(event: &str) -> Option<String> {
    let frame = framed(&[event]);
    let out = rewrite_frames(frame.as_bytes()).map_or(frame, |out| String::from_utf8(out).unwrap());
    out.strip_prefix("id: 1\ndata: ")?.strip_suffix("\n\n").map(str::to_owned)
}

#[test]
fn frames_that_fit_stay_as_they_are() {
    let frames = framed(&[
        r#"{"type":"RUN_STARTED","threadId":"t","runId":"r","input":{"threadId":"t","runId":"r","messages":[],"tools":[],"context":[]}}"#,
        r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":"n","parentMessageId":null}"#,
        r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c","delta":"{\"a\":"}"#,
        r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c","delta":"\"}\n\ndata: {"}"#,
        r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c","delta":""}"#,
        r#"{"type":"THINKING_END"}"#,
        r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":null}"#,
    ]);
    assert_eq!(rewrite_frames(frames.as_bytes()), None);
    assert_eq!(rewrite_frames(b""), None);
}

#[test]
fn an_event_a_legacy_client_cannot_read_is_repaired_or_left_out() {
    let cases = [
        (r#"{"type":"NEW_KIND"}"#, None),
        (r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m"}"#, None),
        (r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":1,"delta":"d"}"#, None),
        (r#"{"type":"TEXT_MESSAGE_CONTENT""#, None),
        (r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":null}"#, None),
        (
            r#"{"type":"STEP_STARTED","stepName":"s","timestamp":null}"#,
            Some(r#"{"type":"STEP_STARTED","stepName":"s"}"#),
        ),
        // The last value of a repeated key counts, so the first must not reappear.
        (
            r#"{"type":"TEXT_MESSAGE_START","role":"user","messageId":"m","r\u006fle":null}"#,
            Some(r#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#),
        ),
        // Without its START, the deltas of the stream would be refused too.
        (
            r#"{"type":"REASONING_MESSAGE_START","messageId":"m"}"#,
            Some(r#"{"type":"REASONING_MESSAGE_START","messageId":"m","role":"reasoning"}"#),
        ),
        (
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"cancelled"}}"#,
            Some(r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r"}"#),
        ),
        (
            r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"success","pendingToolCallIds":["c"]}}"#,
            Some(r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"success"}}"#),
        ),
        (
            r#"{"type":"RUN_FINISHED","runId":"r","outcome":{"type":"interrupt","interrupts":[{"id":"i"}]}}"#,
            Some(r#"{"type":"RUN_FINISHED","runId":"r","threadId":""}"#),
        ),
        (
            r#"{"type":"RUN_ERROR","message":{"text":"no"}}"#,
            Some(r#"{"type":"RUN_ERROR","message":"{\"text\":\"no\"}"}"#),
        ),
        (
            r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":[{"type":"text","text":"\ud83d"},{"text":"\ude00\n","type":"text"}]}"#,
            Some(r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":"\ud83d\ude00\n"}"#),
        ),
        (
            r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":[{"type":"text","text":"a"},{"type":"image"}]}"#,
            Some(
                r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":"[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image\"}]"}"#,
            ),
        ),
        (
            r#"{"type":"MESSAGES_SNAPSHOT","messages":[{"id":"u","role":"user","content":[{"type":"image","source":{"type":"file","value":"f"}},{"type":"text","text":"?"}]},{"role":"user"}]}"#,
            Some(
                r#"{"type":"MESSAGES_SNAPSHOT","messages":[{"id":"u","role":"user","content":[{"type":"text","text":"{\"type\":\"image\",\"source\":{\"type\":\"file\",\"value\":\"f\"}}"},{"type":"text","text":"?"}]}]}"#,
            ),
        ),
        (
            r#"{"type":"RUN_STARTED","threadId":"t","runId":"r","input":{"threadId":"t","runId":"r","messages":[]}}"#,
            Some(
                r#"{"type":"RUN_STARTED","threadId":"t","runId":"r","input":{"threadId":"t","runId":"r","messages":[],"tools":[],"context":[]}}"#,
            ),
        ),
        (
            r#"{"type":"RUN_ERROR","message":"m","usage":[{"inputTokens":1.5,"outputTokens":2.0},3]}"#,
            Some(r#"{"type":"RUN_ERROR","message":"m","usage":[{"outputTokens":2.0}]}"#),
        ),
    ];
    for (event, expected) in cases {
        let rewritten = rewrite(event);
        match (&rewritten, expected) {
            (Some(rewritten), Some(expected)) if rewritten.starts_with('{') => {
                let read = |json: &str| serde_json::from_str::<Value>(json).ok();
                // `Value` cannot hold half a surrogate pair, so there the text must be equal.
                assert!(rewritten == expected || read(rewritten) == read(expected), "{event}\n{rewritten}");
            }
            _ => assert_eq!(rewritten.as_deref(), expected, "{event}"),
        }
    }
}

#[test]
fn a_delta_that_only_begins_like_the_last_one_is_checked() {
    let fine = r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"a"}"#;
    let not = r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"a","subagentRunId":null,"x":"y"}"#;
    let frames = framed(&[fine, not, fine]);
    let mended = r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"a","x":"y"}"#;
    assert_eq!(rewrite_frames(frames.as_bytes()).unwrap(), framed(&[fine, mended, fine]).into_bytes());
}

#[test]
fn a_delta_like_a_repaired_one_is_repaired() {
    let event = r#"{"type":"TOOL_CALL_ARGS","subagentRunId":null,"toolCallId":"c","delta":"a"}"#;
    let mended = r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c","delta":"a"}"#;
    assert_eq!(rewrite_frames(framed(&[event, event]).as_bytes()).unwrap(), framed(&[mended, mended]).into_bytes());
}

#[test]
fn frames_without_an_id_and_comments_stay() {
    let event = r#"{"type":"STEP_STARTED","stepName":"s"}"#;
    let with = |between: &str| format!(": hello\n\ndata: {event}\n\n{between}: hello\n\ndata: {event}\n\n");
    assert_eq!(rewrite_frames(with("").as_bytes()), None);
    let unknown = "data: {\"type\":\"NEW\"}\n\n";
    assert_eq!(rewrite_frames(with(unknown).as_bytes()).unwrap(), with("").into_bytes());
    // A page that ends in the middle of a frame still ends there.
    for cut in ["id: 3", "id: 3\n", "id: 3\ndata: {\"type\":\"NEW\"}", "id: 3\ndata: {\"type\":\"NEW\"}\n", "data: "] {
        let whole = with(unknown) + cut;
        assert_eq!(rewrite_frames(whole.as_bytes()).unwrap(), (with("") + cut).into_bytes());
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof!["text", "user", "tool", "success", "file", "\\PC{0,8}"].prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key = prop_oneof!["role", "id", "type", "content", "messages", "source", "text", "toolCalls", "x"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn event() -> impl Strategy<Value = String> {
    let kinds: Vec<_> = Kind::ALL.iter().map(|(_, name)| *name).chain(["NEW"]).collect();
    let key = prop_oneof![
        "threadId",
        "runId",
        "messageId",
        "toolCallId",
        "content",
        "delta",
        "messages",
        "input",
        "outcome",
        "usage",
        "metadata",
        "subagentRunId",
        "role",
        "message",
        "name",
    ];
    (prop::sample::select(kinds), prop::collection::btree_map(key, value(), 0..6)).prop_map(|(kind, fields)| {
        let mut event = json!({"type": kind});
        event.as_object_mut().unwrap().extend(fields);
        event.to_string()
    })
}

const DELTA: &str = r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c","delta":""#;

/// Endings of an event that begins like `DELTA`.
const TAILS: &[&str] = &[
    r#"a"}"#,
    r#"\"}"}"#,
    r#"\\"}"#,
    r"\",
    r#"","metadata":null}"#,
    r#"","delta":"b"}"#,
    r#"","delta":null,"delta":"b"}"#,
    r#"","delta":null}"#,
    r#"" }"#,
    r#"""#,
    "",
    "\t\"}",
];

const PIECES: &[&[u8]] = &[
    b"id: ",
    b"data: ",
    b"\n",
    b"\n\n",
    b"{\"type\":\"STEP_STARTED\",\"stepName\":\"s\"}",
    b"{\"type\":\"TOOL_CALL_ARGS\",\"toolCallId\":\"c\",\"delta\":\"x\"}",
    b"\"}",
    b"\\",
    b"\xff",
];

proptest! {
    #[test]
    fn rewritten_frames_need_no_second_rewriting(events in prop::collection::vec(event(), 0..8)) {
        let events: Vec<_> = events.iter().map(String::as_str).collect();
        let frames = framed(&events);
        if let Some(out) = rewrite_frames(frames.as_bytes()) {
            prop_assert!(out != frames.as_bytes());
            prop_assert_eq!(rewrite_frames(&out), None);
        }
    }

    #[test]
    fn the_frames_before_make_no_difference(tails in prop::collection::vec(prop::sample::select(TAILS), 0..12)) {
        let alone = |frame: &[u8]| rewrite_frames(frame).unwrap_or_else(|| frame.to_vec());
        let frames: Vec<_> = tails.iter().map(|tail| framed(&[&format!("{DELTA}{tail}")])).collect();
        let apart: Vec<u8> = frames.iter().flat_map(|frame| alone(frame.as_bytes())).collect();
        prop_assert_eq!(alone(frames.concat().as_bytes()), apart);
    }

    #[test]
    fn any_bytes_are_rewritten_without_a_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..20)) {
        let frames = pieces.concat();
        if let Some(out) = rewrite_frames(&frames) {
            prop_assert!(out.len() < frames.len());
        }
    }
}

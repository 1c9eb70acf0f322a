//! Chunks expanded into streams, against the reference's fixture and one by one.
use agentrunner_core::chunks::Expander;
use agentrunner_core::event::Event;
use serde_json::{Value, json};

/// Expand events as a recorder does it; return the events to record.
fn expand(expander: &mut Expander, events: &[String]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for json in events {
        let mut out = Vec::new();
        match expander.push(&Event::parse_str(json).unwrap(), &mut out) {
            Ok(true) => all.append(&mut out),
            Ok(false) => {
                assert!(out.is_empty());
                all.push(json.clone());
            }
            Err(error) => {
                assert!(out.is_empty());
                return Err(error.to_string());
            }
        }
    }
    Ok(all)
}

fn expand_values(events: &[Value]) -> Result<Vec<String>, String> {
    expand(&mut Expander::new(), &events.iter().map(Value::to_string).collect::<Vec<_>>())
}

/// Expand events written as text, which keep the order of their fields.
fn expand_texts(events: &[&str]) -> Vec<String> {
    expand(&mut Expander::new(), &events.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

fn text_chunk(id: &str, subagent: &str, delta: &str) -> Value {
    let mut event = json!({"type": "TEXT_MESSAGE_CHUNK", "delta": delta});
    if !id.is_empty() {
        event["messageId"] = id.into();
    }
    if !subagent.is_empty() {
        event["subagentRunId"] = subagent.into();
    }
    event
}

fn types_of(events: &[String]) -> Vec<String> {
    let name = |json: &String| Event::parse_str(json).unwrap().type_name().to_owned();
    events.iter().map(name).collect()
}

#[test]
fn chunks_expand_as_the_reference_expands_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/chunks.jsonl");
    let fixture = std::fs::read_to_string(path).unwrap();
    assert_eq!(fixture.lines().count(), 200);
    for line in fixture.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let expanded = expand_values(case["events"].as_array().unwrap());
        let expanded =
            expanded.map(|all| all.iter().map(|json| serde_json::from_str(json).unwrap()).collect::<Vec<Value>>());
        match case.get("error") {
            Some(error) => assert_eq!(expanded, Err(error.as_str().unwrap().into()), "{}", case["name"]),
            None => assert_eq!(&expanded.unwrap(), case["expanded"].as_array().unwrap(), "{}", case["name"]),
        }
    }
}

#[test]
fn events_without_chunks_stay_as_they_are() {
    let mut out = vec![String::from("kept")];
    let event = Event::parse_str(r#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#).unwrap();
    assert!(!Expander::new().push(&event, &mut out).unwrap());
    assert_eq!(out, ["kept"]);
}

#[test]
fn values_keep_their_spelling() {
    assert_eq!(
        expand_texts(&[
            r#"{"type":"TEXT_MESSAGE_CHUNK","messageId":"\u006d","name":"n\u00e9","delta":"\ud800","metadata":{"n":1.0e2},"rawEvent":[ 1 ],"timestamp":7}"#,
            r#"{"type":"TEXT_MESSAGE_CHUNK","messageId":"m","delta":"x"}"#,
            r#"{"type":"CUSTOM", "name":"end"}"#,
        ]),
        [
            r#"{"type":"TEXT_MESSAGE_START","messageId":"\u006d","role":"assistant","name":"n\u00e9","metadata":{"n":1.0e2}}"#,
            r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"\u006d","delta":"\ud800","metadata":{"n":1.0e2},"rawEvent":[ 1 ]}"#,
            r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"\u006d","delta":"x"}"#,
            r#"{"type":"TEXT_MESSAGE_END","messageId":"\u006d"}"#,
            r#"{"type":"CUSTOM", "name":"end"}"#,
        ]
    );
}

#[test]
fn tool_calls_and_reasoning_have_events_of_their_own() {
    assert_eq!(
        expand_texts(&[
            r#"{"type":"TOOL_CALL_CHUNK","toolCallId":"c","toolCallName":"f","parentMessageId":"p","subagentRunId":"s","delta":"{"}"#,
            r#"{"type":"TOOL_CALL_CHUNK","subagentRunId":"s","delta":"}"}"#,
            r#"{"type":"REASONING_MESSAGE_CHUNK","messageId":"r","subagentRunId":"s","delta":"x"}"#,
            r#"{"type":"SUBAGENT_FINISHED","subagentRunId":"s"}"#,
        ]),
        [
            r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":"f","parentMessageId":"p","subagentRunId":"s"}"#,
            r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c","delta":"{","subagentRunId":"s"}"#,
            r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c","delta":"}","subagentRunId":"s"}"#,
            r#"{"type":"TOOL_CALL_END","toolCallId":"c","subagentRunId":"s"}"#,
            r#"{"type":"REASONING_MESSAGE_START","messageId":"r","role":"reasoning","subagentRunId":"s"}"#,
            r#"{"type":"REASONING_MESSAGE_CONTENT","messageId":"r","delta":"x","subagentRunId":"s"}"#,
            r#"{"type":"REASONING_MESSAGE_END","messageId":"r","subagentRunId":"s"}"#,
            r#"{"type":"SUBAGENT_FINISHED","subagentRunId":"s"}"#,
        ]
    );
}

#[test]
fn later_chunks_may_only_repeat_the_openers_fields() {
    let chunk = |field: &str, value: &str| {
        let mut event = text_chunk("m", "", "x");
        event[field] = value.into();
        event
    };
    assert_eq!(
        expand_values(&[text_chunk("m", "", "x"), chunk("role", "user")]).unwrap_err(),
        "Cannot continue text message 'm': chunk role 'user' does not match the open stream's role 'assistant'."
    );
    assert_eq!(
        expand_values(&[text_chunk("m", "", "x"), chunk("name", "n")]).unwrap_err(),
        "Cannot continue text message 'm': chunk name 'n' does not match the open stream's name (absent)."
    );
    expand_values(&[chunk("name", "n"), text_chunk("m", "", "x"), chunk("name", "n"), chunk("role", "assistant")])
        .unwrap();
    let tool = |field: &str, value: &str| {
        let mut event = json!({"type": "TOOL_CALL_CHUNK", "toolCallId": "c", "toolCallName": "f"});
        event[field] = value.into();
        event
    };
    let opener = tool("parentMessageId", "p");
    assert!(expand_values(&[opener.clone(), tool("toolCallName", "g")]).unwrap_err().contains("toolCallName 'g'"));
    assert!(
        expand_values(&[opener.clone(), tool("parentMessageId", "q")]).unwrap_err().contains("parentMessageId 'p'.")
    );
    expand_values(&[opener.clone(), opener]).unwrap();
    let other = text_chunk("m", "s", "x");
    assert_eq!(
        expand_values(&[text_chunk("m", "", "x"), other]).unwrap_err(),
        "Cannot continue text message 'm': chunk subagentRunId 's' does not match the open stream's subagent '(the \
         parent agent)'."
    );
}

#[test]
fn a_first_chunk_needs_its_name() {
    let chunk = json!({"type": "TOOL_CALL_CHUNK", "toolCallId": "c"});
    assert_eq!(expand_values(&[chunk]).unwrap_err(), "First TOOL_CALL_CHUNK must have a toolCallName");
}

#[test]
fn an_error_changes_nothing() {
    let mut expander = Expander::new();
    let mut push = |event: &Value| {
        let mut out = Vec::new();
        expander.push(&Event::parse_str(&event.to_string()).unwrap(), &mut out).map(|_| types_of(&out))
    };
    push(&text_chunk("m", "", "x")).unwrap();
    push(&json!({"type": "TOOL_CALL_CHUNK", "delta": "x"})).unwrap_err();
    push(&json!({"type": "TOOL_CALL_CHUNK", "toolCallId": "c"})).unwrap_err();
    assert_eq!(push(&text_chunk("", "", "y")).unwrap(), ["TEXT_MESSAGE_CONTENT"]);
}

#[test]
fn lanes_assemble_streams_side_by_side() {
    let all = expand_values(&[
        text_chunk("a", "s", "1"),
        text_chunk("b", "t", "2"),
        text_chunk("", "s", "3"),
        text_chunk("", "t", "4"),
        json!({
            "type": "RUN_FINISHED", "threadId": "t", "runId": "r"
        }),
    ])
    .unwrap();
    let ids: Vec<_> = all
        .iter()
        .map(|json| {
            let event: Value = serde_json::from_str(json).unwrap();
            let name = event["type"].as_str().unwrap().trim_start_matches("TEXT_MESSAGE_").to_owned();
            name + " " + event["messageId"].as_str().unwrap_or_default()
        })
        .collect();
    assert_eq!(
        ids,
        ["START a", "CONTENT a", "START b", "CONTENT b", "CONTENT a", "CONTENT b", "END a", "END b", "RUN_FINISHED "]
    );
}

#[test]
fn a_chunk_without_a_subagent_continues_the_only_stream_it_can_mean() {
    let only = expand_values(&[text_chunk("a", "s", "1"), text_chunk("", "", "2")]).unwrap();
    assert_eq!(only[2], r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"a","delta":"2","subagentRunId":"s"}"#);
    let parent = expand_values(&[
        text_chunk("a", "s", "1"),
        text_chunk("p", "", "2"),
        text_chunk("b", "t", "3"),
        text_chunk("", "", "4"),
    ])
    .unwrap();
    assert!(parent.last().unwrap().contains(r#""messageId":"p""#));
    assert_eq!(
        expand_values(&[text_chunk("a", "s", "1"), text_chunk("b", "t", "2"), text_chunk("", "", "3")]).unwrap_err(),
        "Ambiguous TEXT_MESSAGE_CHUNK: it carries neither a messageId nor a subagentRunId, but 2 lanes have an open \
         text message. Attribute the chunk to the subagent it belongs to."
    );
}

#[test]
fn metadata_alone_becomes_an_empty_content() {
    let all = expand_texts(&[
        r#"{"type":"TEXT_MESSAGE_CHUNK","messageId":"m","subagentRunId":"s","delta":"x"}"#,
        r#"{"type":"TEXT_MESSAGE_CHUNK","metadata":{"usage":1}}"#,
        r#"{"type":"TEXT_MESSAGE_CHUNK","subagentRunId":"s"}"#,
    ]);
    assert_eq!(all.len(), 3);
    assert_eq!(
        all[2],
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"","metadata":{"usage":1},"subagentRunId":"s"}"#
    );
}

#[test]
fn a_raw_event_needs_a_content() {
    assert_eq!(
        expand_texts(&[r#"{"type":"TEXT_MESSAGE_CHUNK","messageId":"m","rawEvent":{"a":1}}"#]),
        [
            r#"{"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}"#,
            r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"","rawEvent":{"a":1}}"#,
        ]
    );
}

#[test]
fn unknown_fields_are_written_once() {
    assert_eq!(
        expand_texts(&[
            r#"{"type":"TEXT_MESSAGE_CHUNK","messageId":"m","new":1}"#,
            r#"{"new":2,"type":"TEXT_MESSAGE_CHUNK","messageId":"m","delta":"x","new":3}"#,
            r#"{"type":"TEXT_MESSAGE_CHUNK","other":4}"#,
            r#"{"type":"REASONING_MESSAGE_CHUNK","messageId":"r","role":"wizard"}"#,
        ]),
        [
            r#"{"new":1,"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}"#,
            r#"{"new":3,"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"x"}"#,
            r#"{"other":4,"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":""}"#,
            r#"{"type":"TEXT_MESSAGE_END","messageId":"m"}"#,
            r#"{"role":"reasoning","type":"REASONING_MESSAGE_START","messageId":"r"}"#,
        ]
    );
}

#[test]
fn only_an_event_of_the_lane_ends_its_stream() {
    for kind in [
        "RAW",
        "ACTIVITY_SNAPSHOT",
        "ACTIVITY_DELTA",
        "REASONING_ENCRYPTED_VALUE",
        "SUBAGENT_STARTED",
        "SUBAGENT_ERROR",
        "BRAND_NEW",
    ] {
        assert_eq!(
            types_of(&expand_values(&[text_chunk("m", "", "x"), json!({"type": kind})]).unwrap()).len(),
            3,
            "{kind}"
        );
    }
    for kind in ["STATE_DELTA", "TOOL_CALL_RESULT", "REASONING_END", "RUN_ERROR", "MESSAGES_SNAPSHOT"] {
        let event = json!({"type": kind});
        let ended = types_of(&expand_values(&[text_chunk("m", "", "x"), event.clone()]).unwrap());
        assert_eq!(ended[2..], ["TEXT_MESSAGE_END", kind]);
        let run = matches!(kind, "RUN_ERROR" | "MESSAGES_SNAPSHOT");
        assert_eq!(
            expand_values(&[text_chunk("m", "s", "x"), event]).unwrap().len(),
            if run { 4 } else { 3 },
            "{kind}"
        );
    }
}

//! The fold, against the reference's fixtures, and one by one for what they do not reach.
use agentrunner_core::event::Event;
use agentrunner_core::fold::Fold;
use agentrunner_core::scan;
use serde_json::Value;

fn fold_events<'e>(events: impl IntoIterator<Item = &'e str>) -> Fold {
    let mut fold = Fold::new();
    for event in events {
        fold.push(&Event::parse_str(event).expect("a valid event"));
    }
    fold
}

/// Compare with numbers by value: `1` equals `1.0`.
fn is_same(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => one.as_f64() == two.as_f64(),
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| is_same(one, two))
        }
        (Value::Object(one), Value::Object(two)) => {
            one.len() == two.len() && one.iter().all(|(key, value)| two.get(key).is_some_and(|two| is_same(value, two)))
        }
        _ => one == two,
    }
}

fn read(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

fn check_fixture(name: &str, count: usize) {
    let path = format!("{}/../../tests/fixtures/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the fixture");
    let mut wrong = Vec::new();
    let mut case_count = 0;
    for line in text.lines() {
        let members = scan::members(scan::validate(line.as_bytes()).expect("JSON"));
        let part = |name: &str| members.iter().find(|(key, _)| *key == name).expect(name).1;
        let fold = fold_events(scan::elements(part("events")));
        if !is_same(&read(&fold.messages()), &read(part("messages")))
            || !is_same(&read(&fold.state()), &read(part("state")))
        {
            wrong.push(part("name"));
        }
        case_count += 1;
    }
    assert_eq!((case_count, wrong), (count, Vec::new()));
}

#[test]
fn random_events_fold_as_the_reference_folds_them() {
    check_fixture("fold", 200);
}

#[test]
fn interleaved_streams_fold_as_the_reference_folds_them() {
    check_fixture("interleaved", 200);
}

#[test]
fn streams_one_after_the_other_fold_as_the_reference_folds_them() {
    check_fixture("sequential", 120);
}

const ACTIVITY: &str =
    r#"{"type":"ACTIVITY_SNAPSHOT","messageId":"a","activityType":"PLAN","content":{"n":1},"subagentRunId":"s"}"#;

#[test]
fn an_activity_is_replaced_unless_the_event_says_not_to() {
    let keep = r#"{"type":"ACTIVITY_SNAPSHOT","messageId":"a","activityType":"X","content":{},"replace":false,"metadata":{"k":1}}"#;
    let replace = r#"{"type":"ACTIVITY_SNAPSHOT","messageId":"a","activityType":"X","content":{"m":2}}"#;
    assert_eq!(
        fold_events([ACTIVITY, keep]).messages(),
        r#"[{"id":"a","role":"activity","activityType":"PLAN","content":{"n":1},"subagentRunId":"s","metadata":{"k":1}}]"#
    );
    assert_eq!(
        fold_events([ACTIVITY, replace]).messages(),
        r#"[{"id":"a","role":"activity","activityType":"X","content":{"m":2}}]"#
    );
}

#[test]
fn an_activity_replaces_another_message_of_its_id() {
    let call = r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":"f","parentMessageId":"a"}"#;
    let keep = r#"{"type":"ACTIVITY_SNAPSHOT","messageId":"a","activityType":"P","content":{},"replace":false}"#;
    let replace = r#"{"type":"ACTIVITY_SNAPSHOT","messageId":"a","activityType":"P","content":{}}"#;
    let text = r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"a","delta":"never"}"#;
    let args = r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c","delta":"{}"}"#;
    let activity = r#"{"id":"a","role":"activity","activityType":"P","content":{}}"#;
    let assistant = r#"{"id":"a","role":"assistant","toolCalls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
    assert_eq!(fold_events([call, keep, args]).messages(), format!("[{assistant}]"));
    // The calls of the replaced message are gone, and an activity takes no text.
    assert_eq!(fold_events([call, replace, args, text]).messages(), format!("[{activity}]"));
}

#[test]
fn an_activity_patch_that_fails_still_merges_its_metadata() {
    let delta = r#"{"type":"ACTIVITY_DELTA","messageId":"a","activityType":"X","patch":[{"op":"replace","path":"/n","value":2},{"op":"remove","path":"/no"}],"metadata":{"k":1}}"#;
    assert_eq!(
        fold_events([ACTIVITY, delta]).messages(),
        r#"[{"id":"a","role":"activity","activityType":"PLAN","content":{"n":1},"subagentRunId":"s","metadata":{"k":1}}]"#
    );
}

#[test]
fn the_first_message_of_a_repeated_id_counts() {
    let result = |text: &str, call: &str| {
        format!(r#"{{"type":"TOOL_CALL_RESULT","messageId":"r","toolCallId":"{call}","content":"{text}"}}"#)
    };
    let (one, two) = (result("one", "none"), result("two", "c"));
    let call = r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":"f"}"#;
    let user = r#"{"type":"TEXT_MESSAGE_START","messageId":"u","role":"user","name":"n"}"#;
    let more = r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"r","delta":"+"}"#;
    // `one` goes to the end; `two` goes after its call, and so before `one`.
    let fold = fold_events([call, user, &one, &two, more]);
    let messages = read(&fold.messages());
    let contents: Vec<_> = messages.as_array().unwrap().iter().map(|message| message["content"].clone()).collect();
    assert_eq!(contents, [Value::Null, "two+".into(), "".into(), "one".into()]);
    // Both go to the end, so the later one is the second.
    let fold = fold_events([one.as_str(), &result("three", "none"), more]);
    assert!(fold.messages().contains("one+") && fold.messages().contains(r#""three""#));
}

#[test]
fn an_encrypted_value_goes_to_its_message_or_call() {
    let call =
        r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":"f","parentMessageId":"m","subagentRunId":"s"}"#;
    let value = |subtype: &str, entity: &str| {
        format!(
            r#"{{"type":"REASONING_ENCRYPTED_VALUE","subtype":"{subtype}","entityId":"{entity}","encryptedValue":"e"}}"#
        )
    };
    let fold =
        fold_events([call, &value("tool-call", "c"), &value("tool-call", "m"), ACTIVITY, &value("message", "a")]);
    let messages = read(&fold.messages());
    assert_eq!(messages[0]["toolCalls"][0]["encryptedValue"], "e");
    assert_eq!(messages[0]["subagentRunId"], "s");
    assert!(messages[0].get("encryptedValue").is_none() && messages[1].get("encryptedValue").is_none());
    let fold = fold_events([call, &value("message", "m"), &value("message", "c")]);
    assert_eq!(read(&fold.messages())[0]["encryptedValue"], "e");
    assert!(read(&fold.messages())[0]["toolCalls"][0].get("encryptedValue").is_none());
}

#[test]
fn a_snapshot_keeps_activities_and_reasoning_it_does_not_bring() {
    let reasoning = r#"{"type":"REASONING_MESSAGE_START","messageId":"t","role":"reasoning"}"#;
    let user = r#"{"type":"TEXT_MESSAGE_START","messageId":"u","role":"user"}"#;
    let ids = |snapshot: &str| -> Vec<String> {
        let event = format!(r#"{{"type":"MESSAGES_SNAPSHOT",{snapshot}}}"#);
        let messages = read(&fold_events([ACTIVITY, reasoning, user, &event]).messages());
        messages.as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap().into()).collect()
    };
    let declared = |types: &str| {
        format!(r#""messages":[],"metadata":{{"@ag-ui/client":{{"authoritativeActivityTypes":{types}}}}}"#)
    };
    assert_eq!(ids(r#""messages":[{"id":"n","role":"user","content":""}]"#), ["a", "t", "n"]);
    assert_eq!(ids(r#""messages":[{"id":"b","role":"activity"}]"#), ["t", "b"]);
    assert_eq!(ids(r#""messages":[{"id":"b","role":"reasoning"},{"id":"u","role":"user"}]"#), ["a", "u", "b"]);
    assert_eq!(ids(&declared(r#"["PLAN"]"#)), ["t"]);
    assert_eq!(ids(&declared(r#"["OTHER"]"#)), ["a", "t"]);
    assert_eq!(ids(&declared("null")), ["t"]);
    assert_eq!(ids(&declared("7")), ["a", "t"]);
}

#[test]
fn two_halves_of_a_surrogate_pair_join() {
    let start = r#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#;
    let half = r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"\ud83d"}"#;
    let other = r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"\ude42"}"#;
    assert_eq!(read(&fold_events([start, half, other]).messages())[0]["content"], "🙂");
}

#[test]
fn numbers_keep_their_spelling() {
    let snapshot = r#"{"type":"STATE_SNAPSHOT","snapshot":{"id":9007199254740993,"e":1.50e3}}"#;
    let delta = r#"{"type":"STATE_DELTA","delta":[{"op":"add","path":"/b","value":123456789012345678901234567890}]}"#;
    assert_eq!(
        fold_events([snapshot, delta]).state(),
        r#"{"id":9007199254740993,"e":1.50e3,"b":123456789012345678901234567890}"#
    );
}

#[test]
fn a_state_patch_that_fails_is_skipped_as_a_whole() {
    let delta = r#"{"type":"STATE_DELTA","delta":[{"op":"add","path":"/a","value":1},{"op":"remove","path":"/b"}]}"#;
    assert_eq!(fold_events([delta, r#"{"type":"STATE_DELTA","delta":{}}"#]).state(), "{}");
}

#[test]
fn a_call_whose_parent_is_not_the_assistants_gets_its_own_message() {
    let user = r#"{"type":"TEXT_MESSAGE_START","messageId":"u","role":"user"}"#;
    let call = r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":"f","parentMessageId":"u"}"#;
    let again = r#"{"type":"TOOL_CALL_START","toolCallId":"c","toolCallName":"g","metadata":{"k":1}}"#;
    assert_eq!(
        fold_events([user, call, again]).messages(),
        r#"[{"id":"u","role":"user","content":""},{"id":"c","role":"assistant","toolCalls":[{"id":"c","type":"function","function":{"name":"g","arguments":""},"metadata":{"k":1}}]}]"#
    );
}

#[test]
fn metadata_merges_key_by_key_and_keeps_null() {
    let start = r#"{"type":"TEXT_MESSAGE_START","messageId":"m","metadata":{"a":{"x":1},"b":1}}"#;
    let end = r#"{"type":"TEXT_MESSAGE_END","messageId":"m","metadata":{"a":{"y":2},"b":null,"c":[]}}"#;
    assert!(fold_events([start, end]).messages().ends_with(r#""metadata":{"a":{"y":2},"b":null,"c":[]}}]"#));
}

#[test]
fn a_hundred_thousand_messages_fold_in_linear_time() {
    let mut fold = Fold::new();
    let mut push = |event: String| fold.push(&Event::parse_str(&event).expect("a valid event"));
    for at in 0..100_000 {
        push(format!(r#"{{"type":"TOOL_CALL_START","toolCallId":"c{at}","toolCallName":"f"}}"#));
    }
    for at in 0..100_000 {
        push(format!(r#"{{"type":"TOOL_CALL_ARGS","toolCallId":"c{at}","delta":"{{}}"}}"#));
        push(format!(r#"{{"type":"TOOL_CALL_RESULT","messageId":"r{at}","toolCallId":"c{at}","content":"x"}}"#));
    }
    assert_eq!(read(&fold.messages()).as_array().unwrap().len(), 200_000);
}

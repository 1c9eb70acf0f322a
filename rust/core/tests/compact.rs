//! Compaction: one START, one delta and one END for each stream, and the same messages and state for a client.
mod support;

use agentrunner_core::compact::Compactor;
use serde_json::Value;
use support::{cases, compact, emit, event, fold, read};

const START: &str = r#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#;
const END: &str = r#"{"type":"TEXT_MESSAGE_END","messageId":"m"}"#;

fn delta(id: &str, text: &str) -> String {
    format!(r#"{{"type":"TEXT_MESSAGE_CONTENT","messageId":"{id}","delta":"{text}"}}"#)
}

fn strings(events: &Value) -> Vec<String> {
    events.as_array().unwrap().iter().map(Value::to_string).collect()
}

#[test]
fn streams_one_after_the_other_compact_as_the_reference_compacts_them() {
    for case in cases("sequential") {
        let compacted: Vec<Value> = compact(&strings(&case["events"])).iter().map(|json| read(json)).collect();
        assert_eq!(&compacted, case["compacted"].as_array().unwrap(), "{}", case["name"]);
    }
}

#[test]
fn a_client_ends_with_the_same_messages_and_state() {
    for name in ["fold", "interleaved", "sequential"] {
        for case in cases(name) {
            let events = strings(&case["events"]);
            let (whole, compacted) = (fold(&events), fold(&compact(&events)));
            assert_eq!(read(&compacted.messages()), read(&whole.messages()), "{}", case["name"]);
            assert_eq!(read(&compacted.state()), read(&whole.state()), "{}", case["name"]);
        }
    }
}

#[test]
fn the_compacted_form_of_a_beginning_is_valid_at_any_time() {
    for case in cases("interleaved").iter().take(20) {
        let events = strings(&case["events"]);
        let mut compactor = Compactor::new();
        for end in 0..events.len() {
            compactor.push(&event(&events[end]));
            assert_eq!(emit(&compactor), compact(&events[..=end]), "{} at {end}", case["name"]);
        }
    }
}

#[test]
fn hostile_streams_do_not_panic() {
    for case in cases("hostile") {
        for json in compact(&strings(&case["events"])) {
            event(&json);
        }
    }
}

#[test]
fn deltas_merge_into_the_first_one() {
    let events = [START.into(), delta("m", "one "), delta("m", r"tw\u006f"), END.into()];
    assert_eq!(compact(&events), [START.into(), delta("m", r"one tw\u006f"), END.into()]);
}

#[test]
fn interleaved_streams_are_grouped_at_their_start() {
    let other = START.replace("\"m\"", "\"n\"");
    let events = [START.into(), other.clone(), delta("m", "1"), delta("n", "2"), delta("m", "3"), END.into()];
    assert_eq!(compact(&events), [START.into(), delta("m", "13"), END.into(), other, delta("n", "2")]);
}

#[test]
fn nothing_moves_across_a_snapshot_of_messages() {
    let snapshot = r#"{"type":"MESSAGES_SNAPSHOT","messages":[]}"#;
    let events = [START.into(), delta("m", "1"), snapshot.into(), delta("m", "2")];
    assert_eq!(compact(&events), events);
}

#[test]
fn a_message_made_by_another_event_ends_the_merging_under_its_id() {
    let result = r#"{"type":"TOOL_CALL_RESULT","messageId":"m","toolCallId":"c","content":"x"}"#;
    let events = [START.into(), delta("m", "1"), result.into(), delta("m", "2")];
    assert_eq!(compact(&events), events);
}

#[test]
fn metadata_of_deltas_is_merged_and_their_own_fields_are_dropped() {
    let events = [
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"a","metadata":{"k":1,"l":1},"timestamp":1}"#,
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"b","metadata":{"k":2},"rawEvent":{}}"#,
    ];
    let merged = r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"ab","metadata":{"k":2,"l":1}}"#;
    assert_eq!(compact(&events), [merged]);
    assert_eq!(compact(&events[..1]), events[..1], "a single delta keeps its bytes");
}

#[test]
fn chunks_in_a_row_merge_and_others_stay() {
    let chunk =
        |text: &str, more: &str| format!(r#"{{"type":"TEXT_MESSAGE_CHUNK","messageId":"m","delta":"{text}"{more}}}"#);
    assert_eq!(compact(&[chunk("a", ""), chunk("b", "")]), [chunk("ab", "")]);
    let named = chunk("b", r#","name":"n""#);
    assert_eq!(compact(&[chunk("a", ""), named.clone()]), [chunk("a", ""), named]);
}

#[test]
fn the_fast_path_takes_only_the_last_delta_with_another_text() {
    let mut compactor = Compactor::new();
    assert!(!compactor.push_delta(delta("m", "a").as_bytes()), "there is no delta before it");
    compactor.push(&event(&delta("m", "a")));
    assert!(compactor.push_delta(delta("m", "b").as_bytes()));
    for other in [
        delta("n", "c"),
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"c","x":1}"#.into(),
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":7}"#.into(),
        delta("m", "unfinished").trim_end_matches("\"}").into(),
    ] {
        assert!(!compactor.push_delta(other.as_bytes()), "{other}");
    }
    assert_eq!(emit(&compactor), [delta("m", "ab")]);
}

#[test]
fn slices_are_the_emitted_events() {
    let mut compactor = Compactor::new();
    for json in [START.into(), delta("m", "a"), delta("m", "b"), END.into()] {
        compactor.push(&event(&json));
    }
    let (mut events, mut json) = (Vec::new(), String::new());
    compactor.emit_slices(|slice| match slice {
        Some(slice) => json.push_str(slice),
        None => events.push(std::mem::take(&mut json)),
    });
    assert_eq!(events, emit(&compactor));
}

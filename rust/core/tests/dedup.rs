//! A run's input: what is refused, and which messages a thread knows already.
mod support;

use std::collections::HashSet;

use agentrunner_core::dedup::{check_input, find_ids, message_ids, strip_known, summarize_run};
use agentrunner_core::entries::each_entry;
use support::event;

const INPUT: &str =
    r#"{"threadId":"t","runId":"r","messages":[{"id":"a"},{"id":"b","x":1},{"id":"\u0063"}],"tools":[]}"#;

fn known(ids: &[&str]) -> HashSet<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn ids_of(json: &str) -> Vec<String> {
    let mut ids = Vec::new();
    each_entry(&event(json), |id| ids.push(id));
    ids
}

#[test]
fn messages_the_thread_knows_are_left_out() {
    assert_eq!(message_ids(INPUT), ["a", "b", "c"]);
    assert_eq!(
        strip_known(INPUT, &known(&["a", "c", "other"])),
        r#"{"threadId":"t","runId":"r","messages":[{"id":"b","x":1}],"tools":[]}"#
    );
    assert_eq!(strip_known(INPUT, &known(&[])), INPUT);
    assert_eq!(strip_known(r#"{"threadId":"t"}"#, &known(&["a"])), r#"{"threadId":"t"}"#);
}

// fault A1
#[test]
fn ids_are_found_as_whole_strings_of_the_frames_however_they_are_escaped() {
    let frames: [&[u8]; 2] =
        [b"id: 1\ndata: {\"messageId\":\"a\\\"b\",\"x\":\"longer\"}\n\n", b"data: {\"id\":\"\\u0063\"}\n\n"];
    assert_eq!(find_ids(frames.into_iter(), known(&["a\"b", "c", "long", "1", "a"])), known(&["a\"b", "c"]));
}

#[test]
fn an_input_is_minified_and_its_ids_are_returned() {
    let (input, thread_id, run_id) = check_input(br#" {"threadId" : "t", "runId":"\u0072"} "#, 8).unwrap();
    assert_eq!((&*input, &*thread_id, &*run_id), (r#"{"threadId":"t","runId":"\u0072"}"#, "t", "r"));
}

#[test]
fn a_bad_input_is_refused_with_the_reason() {
    for (input, reason) in [
        ("", "a run's input is refused: not JSON"),
        ("[]", "a run's input must be a JSON object"),
        (r#"{"runId":"r"}"#, "`threadId` is missing"),
        (r#"{"threadId":"","runId":"r"}"#, "`threadId` is empty"),
        (r#"{"threadId":"t","runId":1}"#, "`runId` must be a Unicode string"),
        (r#"{"threadId":"t","runId":"\ud83d"}"#, "`runId` must be a Unicode string"),
        (r#"{"threadId":"123456789","runId":"r"}"#, "`threadId` is 9 bytes long, over the limit of 8"),
        (r#"{"threadId":"t","runId":"r","messages":{}}"#, "`messages` must be an array"),
        (r#"{"threadId":"t","runId":"r","messages":[{"id":1}]}"#, "each message must be an object with a string `id`"),
        (r#"{"threadId":"t","runId":"r","messages":[{"id":""}]}"#, "`message id` is empty"),
    ] {
        let error = check_input(input.as_bytes(), 8).expect_err(input).to_string();
        assert!(error.starts_with(reason), "{input}: {error}");
    }
}

#[test]
fn an_event_adds_its_message_and_a_start_those_of_its_input() {
    assert_eq!(ids_of(r#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#), ["m"]);
    assert_eq!(ids_of(&format!(r#"{{"type":"RUN_STARTED","input":{INPUT}}}"#)), ["a", "b", "c"]);
    assert_eq!(ids_of(&format!(r#"{{"type":"CUSTOM","input":{INPUT}}}"#)), Vec::<String>::new());
}

#[test]
fn a_stored_run_is_summarized_as_far_as_it_can_be_read() {
    let run = r#"[{"type":"TEXT_MESSAGE_START","messageId":"m"},{"no":"type"},{"type":"RAW"}]"#;
    let (count, entries) = summarize_run(run.as_bytes());
    assert_eq!((count, &*entries[0]), (3, "m"));
    // The others are marks, for the message as the last one.
    assert!(entries[1..].iter().all(|entry| entry.starts_with('\u{1}')), "{entries:?}");
    assert_eq!(summarize_run(b"not JSON"), (0, Vec::new()));
}

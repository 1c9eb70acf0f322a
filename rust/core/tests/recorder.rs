//! A run being recorded: when readers see its frames, what stays in memory, and what a replay refuses.
use std::collections::HashSet;

use agentrunner_core::dedup::check_input;
use agentrunner_core::error::Error;
use agentrunner_core::finalize::Ending;
use agentrunner_core::frames::{self, Cursor};
use agentrunner_core::log::Read;
use agentrunner_core::recompact::recompact;
use agentrunner_core::recorder::{Limits, Pressure, Recorder};

const INPUT: &str =
    r#"{"threadId":"t","runId":"r","messages":[{"id":"old","role":"user"},{"id":"new","role":"user"}]}"#;
const STARTED: &[u8] = br#"{"type":"RUN_STARTED","threadId":"t","runId":"r"}"#;

fn recorder(limits: Limits) -> Recorder {
    let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::from(["old".to_owned()]), 11, limits);
    recorder.accept(STARTED).unwrap();
    recorder
}

fn content(text: &str) -> String {
    format!(r#"{{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"{text}"}}"#)
}

fn start(recorder: &mut Recorder) {
    recorder.accept(br#"{"type":"TEXT_MESSAGE_START","messageId":"m"}"#).unwrap();
}

fn read(recorder: &Recorder, after: u64, limit: usize) -> Read {
    recorder.log().lock().unwrap().read(after, limit)
}

fn commit(recorder: &mut Recorder) -> Vec<u8> {
    let (batch, _) = recorder.take().unwrap();
    recorder.publish();
    batch.bytes.clone()
}

fn cursors(bytes: &[u8]) -> Vec<String> {
    frames::iter(bytes).map(|frame| frame.unwrap().0.to_string()).collect()
}

#[test]
fn frames_are_read_once_they_are_published() {
    let mut recorder = recorder(Limits::default());
    assert!(matches!(read(&recorder, 10, 1000), Read::Nothing));
    let (batch, barrier) = recorder.take().unwrap();
    assert!(barrier, "a run's start must reach the disk");
    assert!(matches!(read(&recorder, 10, 1000), Read::Nothing));
    assert!(recorder.take().is_none(), "a commit is under way");
    recorder.publish();
    let Read::Frames(bytes, last) = read(&recorder, 10, 1000) else { panic!("published") };
    assert_eq!((&*bytes, last), (&batch.bytes, 11));
}

#[test]
fn a_run_start_gets_the_messages_the_thread_does_not_know() {
    let mut recorder = recorder(Limits::default());
    let bytes = commit(&mut recorder);
    let (_, json) = frames::iter(&bytes).next().unwrap().unwrap();
    assert!(json.contains(r#""messages":[{"id":"new","role":"user","content":""}]"#), "{json}");
    // The other entries are marks, of what kind the message is.
    let ids: Vec<_> = recorder.message_ids().into_iter().filter(|id| !id.starts_with('\u{1}')).collect();
    assert_eq!(ids, ["new"]);
}

#[test]
fn an_input_may_nest_one_level_less_than_an_event() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"threadId":"t","runId":"r","state":{open}{close}}}"#)
    };
    let (input, ..) = check_input(nested(127).as_bytes(), 100).unwrap();
    let mut recorder = Recorder::new("t", "r", &input, &HashSet::new(), 1, Limits::default());
    recorder.accept(STARTED).unwrap();
    assert!(matches!(check_input(nested(128).as_bytes(), 100), Err(Error::InvalidInput(_))));
}

#[test]
fn pressure_rises_with_the_pending_bytes() {
    let limits = Limits { commit_bytes: 400, pending_bytes: 800, ..Limits::default() };
    let mut recorder = recorder(limits);
    start(&mut recorder);
    recorder.take().unwrap();
    let mut pressures = vec![recorder.accept(content("x").as_bytes()).unwrap()];
    while pressures.last() != Some(&Pressure::Wait) {
        pressures.push(recorder.accept(content("some words more").as_bytes()).unwrap());
    }
    pressures.dedup();
    assert_eq!(pressures, [Pressure::None, Pressure::Commit, Pressure::Wait]);
}

#[test]
fn old_frames_leave_memory() {
    let mut recorder = recorder(Limits { window_bytes: 2000, ..Limits::default() });
    start(&mut recorder);
    commit(&mut recorder);
    for _ in 0..100 {
        recorder.accept(content("a few words").as_bytes()).unwrap();
        commit(&mut recorder);
    }
    assert!(matches!(read(&recorder, 10, 1 << 20), Read::Stored));
    let last = recorder.last_seq();
    let Read::Frames(bytes, reached) = read(&recorder, last - 3, 1 << 20) else { panic!("in the window") };
    assert_eq!((cursors(&bytes).len(), reached), (3, last));
}

#[test]
fn a_refused_event_is_not_recorded() {
    let mut recorder = recorder(Limits { event_bytes: 200, ..Limits::default() });
    let before = (recorder.last_seq(), recorder.compacted());
    for (bad, code) in [
        (content("x"), "InvalidSequence"),
        ("[1]".into(), "InvalidEvent"),
        (content(&"x".repeat(300)), "InvalidEvent"),
        (r#"{"type":"TEXT_MESSAGE_START","messageId":""}"#.into(), "InvalidEvent"),
        (r#"{"type":"TEXT_MESSAGE_START","messageId":null}"#.into(), "InvalidEvent"),
        (r#"{"type":"TEXT_MESSAGE_START","messageId":"\ud83d"}"#.into(), "InvalidEvent"),
    ] {
        let error = recorder.accept(bad.as_bytes()).unwrap_err();
        assert!(format!("{error:?}").starts_with(code), "{bad}: {error:?}");
    }
    assert_eq!((recorder.last_seq(), recorder.compacted()), before);
}

#[test]
fn the_prefix_of_a_live_run_can_be_computed_again_from_its_frames() {
    let mut recorder = recorder(Limits::default());
    start(&mut recorder);
    recorder.accept(content("one ").as_bytes()).unwrap();
    recorder.accept(content("two").as_bytes()).unwrap();
    let (prefix, seq) = recorder.prefix(0);
    assert_eq!((cursors(&prefix), seq), (vec!["14.0".into(), "14.1".into(), "14.2".into()], 14));
    recorder.accept(content(" three").as_bytes()).unwrap();
    let raw = commit(&mut recorder);
    assert_eq!(recompact([raw.as_slice()].into_iter(), seq, 0).unwrap(), prefix);
    assert_eq!(cursors(&recompact([raw.as_slice()].into_iter(), seq, 2).unwrap()), ["14.2"]);
}

#[test]
fn a_replayed_run_continues_where_it_was() {
    let mut first = recorder(Limits::default());
    start(&mut first);
    first.accept(content("half").as_bytes()).unwrap();
    let journal = commit(&mut first);
    let mut second = Recorder::new("t", "r", INPUT, &HashSet::new(), 11, Limits::default());
    second.replay(&journal).unwrap();
    assert_eq!((second.last_seq(), second.log().lock().unwrap().published()), (13, 13));
    second.finalize(Ending { interruption_message: Some("gone"), code: Some("INTERRUPTED"), ..Ending::default() });
    let tail = String::from_utf8(commit(&mut second)).unwrap();
    assert!(tail.starts_with("id: 14\ndata: {\"type\":\"TEXT_MESSAGE_END\",\"messageId\":\"m\"}\n\n"), "{tail}");
    assert!(tail.contains(r#"{"type":"RUN_ERROR","message":"gone","code":"INTERRUPTED"}"#), "{tail}");
    assert!(second.has_ended());
}

#[test]
fn a_journal_with_a_gap_is_refused() {
    let mut bytes = Vec::new();
    frames::write(&mut bytes, Cursor { seq: 12, index: None }, std::str::from_utf8(STARTED).unwrap());
    let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 11, Limits::default());
    assert!(matches!(recorder.replay(&bytes), Err(Error::StoreCorrupt(_))));
    assert!(matches!(recorder.replay(b"id: 11\nnonsense"), Err(Error::StoreCorrupt(_))));
}

#[test]
fn frames_before_a_damaged_one_are_replayed() {
    let mut first = recorder(Limits::default());
    start(&mut first);
    let good = commit(&mut first);
    for damage in ["nonsense", "id: x\ndata: {}\n\n", "id: 13\ndata: {\n\n", "id: 99\ndata: {\"type\":\"X\"}\n\n"] {
        let mut second = Recorder::new("t", "r", INPUT, &HashSet::new(), 11, Limits::default());
        let journal = [good.as_slice(), damage.as_bytes()].concat();
        assert!(matches!(second.replay(&journal), Err(Error::StoreCorrupt(_))));
        assert_eq!((second.last_seq(), second.log().lock().unwrap().published()), (12, 12));
        second.finalize(Ending { code: Some("INTERRUPTED"), ..Ending::default() });
        assert!(commit(&mut second).starts_with(b"id: 13\n"), "{damage}");
    }
}

#[test]
fn a_run_stopped_before_its_first_event_still_starts_and_ends() {
    let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 1, Limits::default());
    recorder.finalize(Ending { stop_requested: true, ..Ending::default() });
    let bytes = commit(&mut recorder);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("RUN_STARTED") && text.contains(r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r"}"#));
}

const OPENING: &str = r#"{"type":"MESSAGES_SNAPSHOT","messages":[{"id":"new","role":"user","content":"Hi"}]}"#;

#[test]
fn what_a_run_starts_from_comes_behind_its_start() {
    let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 11, Limits::default());
    recorder.start_from(vec![OPENING.into(), r#"{"type":"STATE_SNAPSHOT","snapshot":{"seats":2}}"#.into()]);
    recorder.accept(STARTED).unwrap();
    let bytes = commit(&mut recorder);
    let kinds: Vec<_> = frames::iter(&bytes).map(|frame| frame.unwrap().1[9..13].to_owned()).collect();
    assert_eq!(kinds, ["RUN_", "MESS", "STAT"]);
    assert!(recorder.message_ids().iter().any(|entry| entry.ends_with("replaced")));
}

#[test]
fn a_run_that_ends_as_it_starts_ends_even_if_its_state_is_too_large() {
    let limits = Limits { state_bytes: 100, ..Limits::default() };
    let state = format!(r#"{{"type":"STATE_SNAPSHOT","snapshot":"{}"}}"#, "x".repeat(200));
    let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 11, limits);
    recorder.start_from(vec![OPENING.into(), state.clone()]);
    recorder.finalize(Ending { stop_requested: true, ..Ending::default() });
    assert!(recorder.has_ended());
    let mut recorder = Recorder::new("t", "r", INPUT, &HashSet::new(), 11, limits);
    recorder.start_from(vec![state]);
    assert!(matches!(recorder.accept(STARTED), Err(Error::StateTooLarge(_))));
}

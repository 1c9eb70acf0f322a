//! Frames and cursors, and stored runs as frames.
use agentrunner_core::error::Error;
use agentrunner_core::frames::{self, Cursor};
use agentrunner_core::stored_run;

fn framed(events: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (seq, json) in (1..).zip(events) {
        frames::write(&mut bytes, Cursor { seq, index: None }, json);
    }
    bytes
}

#[test]
fn cursors_are_digits_and_at_most_one_dot() {
    for (text, seq, index) in [("0", 0, None), ("12.3", 12, Some(3)), ("9223372036854775807", i64::MAX as u64, None)] {
        let cursor = Cursor::parse(text).unwrap();
        assert_eq!((cursor, cursor.to_string().as_str()), (Cursor { seq, index }, text));
    }
    for bad in ["", ".", "1.", ".1", "1.2.3", "-1", "+1", " 1", "1e3", "9223372036854775808", "１"] {
        assert!(matches!(Cursor::parse(bad), Err(Error::InvalidCursor(_))), "{bad:?}");
    }
}

#[test]
fn frames_are_written_and_read_again() {
    let mut bytes = framed(&["{}"]);
    frames::write(&mut bytes, Cursor { seq: u64::MAX, index: Some(10) }, "[1]");
    assert_eq!(bytes, b"id: 1\ndata: {}\n\nid: 18446744073709551615.10\ndata: [1]\n\n");
    let bytes = framed(&["{}", "[1]"]);
    let frames: Vec<_> = frames::iter(&bytes).map(|frame| frame.unwrap()).collect();
    assert_eq!(frames, [(Cursor { seq: 1, index: None }, "{}"), (Cursor { seq: 2, index: None }, "[1]")]);
    assert_eq!(frames::count(&bytes), 2);
}

#[test]
fn reading_stops_at_a_damaged_frame() {
    for damage in ["x", "id: 1", "id: x\ndata: {}\n\n", "id: 1\n{}\n\n", "id: 1\ndata: {}\n", "data: {}\n\n"] {
        let bytes = [framed(&["{}"]), damage.into()].concat();
        let frames: Vec<_> = frames::iter(&bytes).map(|frame| frame.is_ok()).collect();
        assert_eq!(frames, [true, false], "{damage:?}");
    }
    assert_eq!(frames::iter_any(b"data: {}\n\n").next().unwrap().unwrap(), (None, "{}"), "the cursor may be missing");
}

#[test]
fn pages_are_cut_between_frames() {
    let bytes = framed(&["1", "22", "333"]);
    let first = frames::length_of(&bytes, 1);
    for limit in 0..=first {
        assert_eq!(frames::cut(&bytes, limit), Some(first), "{limit}");
    }
    assert_eq!(frames::cut(&bytes, first + 1), Some(frames::length_of(&bytes, 2)));
    assert_eq!(frames::cut(&bytes, bytes.len()), None, "no frame follows");
    assert_eq!(frames::length_of(&bytes, 9), bytes.len());
}

#[test]
fn a_stored_run_is_framed_from_an_index_on() {
    let events = br#"[{"type":"RUN_STARTED"}, {"type":"RUN_FINISHED"}]"#;
    let mut bytes = Vec::new();
    stored_run::write_frames(&mut bytes, events, 7, 1, Some(("t", "r\""))).unwrap();
    let finished = r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r\""}"#;
    assert_eq!(bytes, format!("id: 7.1\ndata: {finished}\n\n").into_bytes());
    let filled = stored_run::fill_run_ids(events, Some(("t", "r\""))).unwrap();
    assert_eq!(String::from_utf8(filled).unwrap(), format!(r#"[{{"type":"RUN_STARTED"}}, {finished}]"#));
    assert_eq!(stored_run::fill_run_ids(events, None).unwrap(), events, "without ids nothing changes");
}

#[test]
fn a_stored_run_that_is_not_an_array_of_events_is_unreadable() {
    for bad in ["", "{}", "[", "[1]", "[null]", r#"[{"no":"type"}]"#, "[] x"] {
        assert!(!stored_run::is_readable(bad.as_bytes()), "{bad}");
    }
    assert!(stored_run::is_readable(b"[]") && stored_run::is_readable(br#"[{"x":1,"type":"RAW"}]"#));
    assert!(!stored_run::is_readable(b"[\"\xff\"]"));
}

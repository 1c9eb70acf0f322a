//! Compaction keeps what a client ends with.
//!
//! The input is a list of events, one on each line. Events that are not in order are left out, and so are chunks, because
//! a recorder compacts neither.
#![no_main]
use agentrunner_core::compact::Compactor;
use agentrunner_core::event::Event;
use agentrunner_core::family::Role;
use agentrunner_core::fold::Fold;
use agentrunner_core::json::Json;
use agentrunner_core::lifecycle::Lifecycle;
use agentrunner_core::schema;
use libfuzzer_sys::fuzz_target;

fn parse(json: &str) -> Event<'_> {
    Event::parse_str(json).expect("only events are kept")
}

fn compact(events: &[String], with_fast_path: bool) -> Vec<String> {
    let mut compactor = Compactor::new();
    for json in events {
        if !(with_fast_path && compactor.push_delta(json.as_bytes())) {
            compactor.push(&parse(json));
        }
    }
    let mut compacted = Vec::new();
    compactor.emit(|json| compacted.push(json.to_owned()));
    compacted
}

fn fold(events: &[String]) -> (Json, Json) {
    let mut fold = Fold::new();
    events.iter().for_each(|json| fold.push(&parse(json)));
    (Json::parse(&fold.messages()), Json::parse(&fold.state()))
}

fuzz_target!(|bytes: &[u8]| {
    let mut lifecycle = Lifecycle::new();
    let mut is_recorded = |line: &[u8]| {
        let json = schema::conform(&Event::parse(line).ok()?).ok()?.into_owned();
        let event = parse(&json);
        let is_valid = event.check_ids(1 << 10).is_ok() && !matches!(event.role(), Role::Chunk(_));
        (is_valid && lifecycle.check(&event).is_ok()).then(|| json.clone())
    };
    let events: Vec<String> = bytes.split(|byte| *byte == b'\n').filter_map(&mut is_recorded).collect();
    let compacted = compact(&events, false);
    assert_eq!(compact(&events, true), compacted, "the fast path for deltas makes no difference");
    assert!(fold(&compacted) == fold(&events), "{events:#?}\nbecame\n{compacted:#?}");
});

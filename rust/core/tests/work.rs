//! The work of events grows with their size, and has limits; counted and not timed.
use agentrunner_core::error::Error;
use agentrunner_core::json::Json;
use agentrunner_core::patch::{Budget, Failure, apply};
use agentrunner_core::recorder::{Limits, Recorder};

/// Apply a patch to a document; return the work.
fn work_of(document: &str, operations: &[String]) -> u64 {
    let patch = format!("[{}]", operations.join(","));
    let mut budget = Budget::of_patch(patch.len());
    apply(&mut Json::parse(document), &patch, &mut budget, usize::MAX).expect("the patch fits");
    budget.spent()
}

fn repeat(count: usize, operation: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(operation).collect()
}

fn members(count: usize) -> String {
    format!("{{{}}}", repeat(count, |at| format!(r#""k{at}":{at}"#)).join(","))
}

// fault A3
#[test]
fn doubled_patches_take_at_most_doubled_work() {
    type Work = fn(usize) -> u64;
    let shapes: [(&str, Work); 5] = [
        ("keys added to an object", |n| {
            work_of("{}", &repeat(n, |at| format!(r#"{{"op":"add","path":"/k{at}","value":0}}"#)))
        }),
        ("inserts at index 0", |n| work_of("[]", &repeat(n, |_| r#"{"op":"add","path":"/0","value":0}"#.into()))),
        ("moves of a large value", |n| {
            let document = format!(r#"{{"a0":{},"b":{{}}}}"#, members(n));
            work_of(&document, &repeat(n, |at| format!(r#"{{"op":"move","from":"/a{at}","path":"/a{}"}}"#, at + 1)))
        }),
        ("moves of a large value up and down", |n| {
            let document = format!(r#"{{"a":{},"b":{{}}}}"#, members(n));
            let paths = ["/a", "/b/a"];
            let step =
                |at: usize| format!(r#"{{"op":"move","from":"{}","path":"{}"}}"#, paths[at % 2], paths[(at + 1) % 2]);
            work_of(&document, &repeat(n, step))
        }),
        ("removals from a wide object", |n| {
            work_of(&members(n), &repeat(n, |at| format!(r#"{{"op":"remove","path":"/k{at}"}}"#)))
        }),
    ];
    for (name, work) in shapes {
        let (once, twice) = (work(2000), work(4000));
        assert!(twice * 10 <= once * 22, "{name}: {once} units, then {twice}");
    }
}

// fault A3
#[test]
fn a_patch_that_takes_too_much_work_changes_nothing() {
    let document = format!(r#"{{"a":{},"b":{{}}}}"#, members(20_000));
    let copies = repeat(1000, |at| format!(r#"{{"op":"copy","from":"/a","path":"/b/{at}"}}"#));
    let patch = format!("[{}]", copies.join(","));
    let mut tree = Json::parse(&document);
    let outcome = apply(&mut tree, &patch, &mut Budget::of_work(10_000_000), usize::MAX);
    assert_eq!(outcome, Err(Failure::OverBudget));
    assert!(tree == Json::parse(&document));
}

fn started(limits: Limits) -> Recorder {
    let mut recorder = Recorder::new("t", "r", "{}", &std::collections::HashSet::new(), 1, limits);
    recorder.accept(br#"{"type":"RUN_STARTED","threadId":"t","runId":"r"}"#).unwrap();
    recorder
}

fn snapshot(bytes: usize) -> String {
    format!(r#"{{"type":"STATE_SNAPSHOT","snapshot":{{"a":"{}"}}}}"#, "x".repeat(bytes))
}

const COPY: &str = r#"{"type":"STATE_DELTA","delta":[{"op":"copy","from":"","path":"/b"}]}"#;

// fault A3
#[test]
fn an_event_that_takes_long_is_left_to_another_thread() {
    let mut recorder = started(Limits::default());
    let large = snapshot(200_000);
    assert_eq!(recorder.accept_briefly(large.as_bytes()), Err(Error::TakesLong));
    assert_eq!(recorder.event_count(), 1);
    recorder.accept(large.as_bytes()).unwrap();
    // Small, but the state has to be read for it.
    assert_eq!(recorder.accept_briefly(COPY.as_bytes()), Err(Error::TakesLong));
    assert_eq!(recorder.event_count(), 2);
    recorder.accept(COPY.as_bytes()).unwrap();
    let small = br#"{"type":"STATE_DELTA","delta":[{"op":"add","path":"/c","value":1}]}"#;
    assert!(recorder.accept_briefly(small).is_ok());
    // The end of the run writes the state.
    let end = br#"{"type":"RUN_FINISHED","threadId":"t","runId":"r"}"#;
    assert_eq!(recorder.accept_briefly(end), Err(Error::TakesLong));
    recorder.accept(end).unwrap();
    assert!(recorder.compacted().contains(r#""c":1"#));
}

// fault A2
#[test]
fn a_state_over_its_limit_is_refused_and_leaves_the_state() {
    let mut recorder = started(Limits { state_bytes: 10_000, ..Limits::default() });
    assert!(matches!(recorder.accept(snapshot(10_000).as_bytes()), Err(Error::StateTooLarge(_))));
    recorder.accept(snapshot(6_000).as_bytes()).unwrap();
    let before = recorder.compacted();
    assert!(matches!(recorder.accept(COPY.as_bytes()), Err(Error::StateTooLarge(_))));
    assert_eq!(recorder.compacted(), before);
    // What a patch removes makes room for what it adds.
    let replace =
        r#"{"type":"STATE_DELTA","delta":[{"op":"remove","path":"/a"},{"op":"add","path":"/b","value":"V"}]}"#;
    recorder.accept(replace.replace('V', &"y".repeat(6_000)).as_bytes()).unwrap();
}

// fault A2
#[test]
fn a_run_over_its_limit_ends_and_keeps_what_was_recorded() {
    let mut recorder = started(Limits { run_bytes: 5_000, ..Limits::default() });
    recorder.accept(br#"{"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}"#).unwrap();
    let delta = format!(r#"{{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"{}"}}"#, "x".repeat(900));
    let refused = (0..10).find_map(|_| recorder.accept(delta.as_bytes()).err());
    assert!(matches!(refused, Some(Error::RunTooLarge(_))), "{refused:?}");
    recorder.finalize(agentrunner_core::finalize::Ending::default());
    let compacted = recorder.compacted();
    assert!(compacted.contains("RUN_ERROR") && compacted.contains(&"x".repeat(1800)));
}

// fault A2
#[test]
fn the_size_of_a_run_is_known_without_writing_it() {
    let known = std::collections::HashSet::new();
    let mut recorder = Recorder::new("t", "r", "{}", &known, 1, Limits::default());
    let events = [
        r#"{"type":"RUN_STARTED","threadId":"t","runId":"r"}"#,
        r#"{"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant","metadata":{"a":1}}"#,
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"one","metadata":{"b":1}}"#,
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"two","metadata":{"b":2,"c":[1,2]}}"#,
        r#"{"type":"STATE_SNAPSHOT","snapshot":{"a":["b",true,{}]}}"#,
        r#"{"type":"STATE_DELTA","delta":[{"op":"add","path":"/a/-","value":{"c":"d"}}],"metadata":{"e":1}}"#,
        r#"{"type":"TEXT_MESSAGE_END","messageId":"m"}"#,
        r#"{"type":"RUN_FINISHED","threadId":"t","runId":"r"}"#,
    ];
    for event in events {
        recorder.accept(event.as_bytes()).unwrap();
        let (known, real) = (recorder.progress().compacted_bytes() as usize, recorder.compacted_bytes());
        assert!((real - 2..real + 200).contains(&known), "{event}: {known} for {real}");
    }
}

// fault A2
#[test]
fn a_run_without_its_content_keeps_its_start_and_its_numbers() {
    let mut recorder = started(Limits::default());
    recorder.accept(snapshot(100).as_bytes()).unwrap();
    recorder.drop_content("too large", "RUN_TOO_LARGE");
    recorder.finalize(agentrunner_core::finalize::Ending::default());
    let error = r#"{"type":"RUN_ERROR","message":"too large","code":"RUN_TOO_LARGE"}"#;
    let start = r#"{"type":"RUN_STARTED","threadId":"t","runId":"r","input":{"threadId":"","runId":"","messages":[]}}"#;
    assert_eq!(recorder.compacted(), format!("[{start},{error}]"));
    assert_eq!(recorder.last_seq(), 3);
}

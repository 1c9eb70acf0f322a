//! Whether a client sends the messages that its thread has.
use std::collections::HashMap;

use agentrunner_core::event::Event;
use agentrunner_core::links::{Comparison, RunLinks, asked_entries, compare, entries_of_input};

/// A thread's entries, as a store keeps them: each with the last sequence number of the newest run that has it.
#[derive(Default)]
struct Thread {
    entries: HashMap<String, u64>,
    seq: u64,
}

impl Thread {
    /// Store a run with these events, after one whose last message has the hash `previous`.
    fn store(&mut self, events: &[&str], ids: &[&str], previous: Option<u64>) {
        self.seq += 10;
        let mut links = RunLinks::default();
        for event in events {
            links.push(&Event::parse_str(event).expect("an event"));
        }
        let ids = ids.iter().map(|&id| id.to_owned());
        self.entries.extend(ids.chain(links.entries(previous)).map(|entry| (entry, self.seq)));
    }

    /// Compare the messages of an input with the thread's, by those entries that are asked for.
    fn compare(&self, messages: &[&str]) -> Comparison {
        let input = input(messages);
        let ids = messages.iter().map(|message| message.split('"').nth(3).expect("an id").to_owned());
        let asked = asked_entries(&input).into_iter().chain(ids);
        let known = asked.filter_map(|entry| self.entries.get(&entry).map(|&seq| (entry, seq))).collect();
        compare(&input, &known)
    }
}

fn input(messages: &[&str]) -> String {
    format!(r#"{{"threadId":"t","runId":"r","messages":[{}]}}"#, messages.join(","))
}

const U1: &str = r#"{"id":"u1","role":"user","content":"Hi"}"#;
const A1: &str = r#"{"id":"a1","role":"assistant","content":"Hello, \u00e9"}"#;
const U2: &str = r#"{"id":"u2","role":"user","content":"More"}"#;
const A2: &str = r#"{"id":"a2","role":"assistant","content":"Well"}"#;
const U3: &str = r#"{"id":"u3","role":"user","content":"Thanks"}"#;

fn started(messages: &[&str]) -> String {
    format!(r#"{{"type":"RUN_STARTED","threadId":"t","runId":"r","input":{}}}"#, input(messages))
}

fn said(id: &str, text: &str) -> [String; 3] {
    [
        format!(r#"{{"type":"TEXT_MESSAGE_START","messageId":"{id}","role":"assistant"}}"#),
        format!(r#"{{"type":"TEXT_MESSAGE_CONTENT","messageId":"{id}","delta":"{text}"}}"#),
        format!(r#"{{"type":"TEXT_MESSAGE_END","messageId":"{id}"}}"#),
    ]
}

/// A thread of two turns.
fn two_turns() -> Thread {
    let mut thread = Thread::default();
    let mut run = |sent: &str, id: &str, text: &str, ids: &[&str], previous| {
        let events = [vec![started(&[sent])], said(id, text).to_vec()].concat();
        let events: Vec<_> = events.iter().map(String::as_str).collect();
        thread.store(&events, ids, previous);
    };
    run(U1, "a1", "Hello, é", &["u1", "a1"], None);
    let Comparison::Same(previous) = thread.compare(&[U1, A1, U2]) else { panic!("the first turn is not found") };
    let mut run = |sent: &str, id: &str, text: &str, ids: &[&str], previous| {
        let events = [vec![started(&[sent])], said(id, text).to_vec()].concat();
        let events: Vec<_> = events.iter().map(String::as_str).collect();
        thread.store(&events, ids, previous);
    };
    run(U2, "a2", "Well", &["u2", "a2"], previous);
    thread
}

fn is_same(comparison: Comparison) -> bool {
    matches!(comparison, Comparison::Same(Some(_)))
}

#[test]
fn a_client_that_sends_all_or_the_newest_continues_the_thread() {
    let thread = two_turns();
    for sent in [&[U1, A1, U2, A2, U3][..], &[U1, A1, U2, A2], &[U2, A2, U3], &[A2, U3]] {
        assert!(is_same(thread.compare(sent)), "{sent:?}");
    }
    assert_eq!(thread.compare(&[U3]), Comparison::OnlyNew);
    assert_eq!(thread.compare(&[]), Comparison::OnlyNew);
}

#[test]
fn a_client_that_went_back_differs() {
    let thread = two_turns();
    for sent in [&[U1][..], &[U1, A1], &[U1, A1, U2], &[U1, A1, U3], &[U1, U2, A2, U3], &[U1, A1, A2, U3]] {
        assert_eq!(thread.compare(sent), Comparison::Different, "{sent:?}");
    }
}

#[test]
fn other_content_or_order_differs() {
    let thread = two_turns();
    let edited = A1.replace("Hello", "Goodbye");
    for sent in [&[U1, edited.as_str(), U2, A2, U3][..], &[A1, U1, U2, A2, U3], &[U1, A1, U3, U2, A2]] {
        assert_eq!(thread.compare(sent), Comparison::Different, "{sent:?}");
    }
    let edited_last = A2.replace("Well", "Ill");
    assert_eq!(thread.compare(&[U1, A1, U2, &edited_last, U3]), Comparison::Different);
}

#[test]
fn spelling_and_missing_content_do_not_count() {
    let mut thread = Thread::default();
    let call = r#"{"type":"TOOL_CALL_START","toolCallId":"c1","toolCallName":"look","parentMessageId":"a1"}"#;
    let arguments = r#"{"type":"TOOL_CALL_ARGS","toolCallId":"c1","delta":"{\"q\":1}"}"#;
    let end = r#"{"type":"TOOL_CALL_END","toolCallId":"c1"}"#;
    let result = r#"{"type":"TOOL_CALL_RESULT","messageId":"t1","toolCallId":"c1","content":"found"}"#;
    thread.store(&[&started(&[U1]), call, arguments, end, result], &["u1", "a1", "t1"], None);
    let calls = r#""toolCalls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"q\":1}"}}]"#;
    let tool = r#"{"id":"t1","role":"tool","toolCallId":"c1","content":"found"}"#;
    for content in [r#""content":"","#, r#""content":null,"#, ""] {
        let message = format!(r#"{{"id":"a1","role":"assistant",{content}{calls}}}"#);
        assert!(is_same(thread.compare(&[U1, &message, tool, U2])), "{content}");
        // Some clients leave out results.
        assert!(is_same(thread.compare(&[U1, &message, U2])), "{content}");
        let changed = tool.replace("found", "lost");
        assert_eq!(thread.compare(&[U1, &message, &changed, U2]), Comparison::Different);
    }
    let escaped = r#"{"id":"u1","role":"user","content":"\u0048i"}"#;
    let message = format!(r#"{{"id":"a1","role":"assistant",{calls}}}"#);
    assert!(is_same(thread.compare(&[escaped, &message])));
}

#[test]
fn messages_from_before_a_replacement_are_gone() {
    let mut thread = two_turns();
    let snapshot = format!(r#"{{"type":"MESSAGES_SNAPSHOT","messages":[{U1},{U3}]}}"#);
    thread.store(&[&started(&[U3]), &snapshot], &["u1", "u3"], None);
    assert!(is_same(thread.compare(&[U1, U3, U2.replace("u2", "u4").as_str()])));
    assert_eq!(thread.compare(&[U1, A1, U2, A2, U3]), Comparison::Different);
    assert_eq!(thread.compare(&[A1, U3]), Comparison::Different);
}

#[test]
fn a_thread_without_links_differs_until_it_has_them() {
    let mut thread = two_turns();
    thread.entries.retain(|entry, _| !entry.starts_with("\u{1}link"));
    let sent = [U1, A1, U2, A2, U3];
    assert_eq!(thread.compare(&sent), Comparison::Different);
    thread.entries.extend(entries_of_input(&input(&sent)).into_iter().map(|entry| (entry, 30)));
    assert!(is_same(thread.compare(&sent)));
}

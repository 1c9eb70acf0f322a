//! A run's input: its checks, its message ids, and the messages that its thread already has.
use std::collections::HashSet;

use crate::entries::each_entry;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::links::RunLinks;
use crate::{members, scan, text};

/// Return the ids of the messages of a run's input, in order.
pub fn message_ids(input: &str) -> Vec<String> {
    messages(input).into_iter().flat_map(scan::elements).filter_map(message_id).collect()
}

fn messages(input: &str) -> Option<&str> {
    members::value_of(input, "messages")
}

fn message_id(message: &str) -> Option<String> {
    members::string_of(message, "id").map(std::borrow::Cow::into_owned)
}

/// Return the input without the messages whose ids are known (docs/spec/reference-runners.md §3.2).
pub fn strip_known(input: &str, known_ids: &HashSet<String>) -> String {
    let Some(messages) = messages(input) else { return input.to_owned() };
    if known_ids.is_empty() {
        return input.to_owned();
    }
    let is_new = |message: &&str| message_id(message).is_none_or(|id| !known_ids.contains(&id));
    let new: Vec<&str> = scan::elements(messages).into_iter().filter(is_new).collect();
    let new = format!("[{}]", new.join(","));
    let replaced = |&(key, value)| (key, if text::is_same(key, "messages") { new.as_str() } else { value });
    members::write_object(scan::members(input).iter().map(replaced))
}

/// Return the names of the tools in a run's input, which the client runs.
pub(crate) fn tool_names(input: &str) -> HashSet<String> {
    let tools = scan::elements(members::value_of(input, "tools").unwrap_or_default());
    tools.into_iter().filter_map(|tool| members::string_of(tool, "name")).map(std::borrow::Cow::into_owned).collect()
}

/// Count a stored run's events and collect the entries they add to the thread's table of message ids.
///
/// A run that cannot be read has no events; an event that cannot be read adds no ids.
pub fn summarize_run(events: &[u8]) -> (u64, Vec<String>) {
    let (mut count, mut ids, mut links) = (0, Vec::new(), RunLinks::default());
    for event in scan::validate(events).map(scan::elements).unwrap_or_default() {
        count += 1;
        if let Ok(event) = Event::parse_str(event) {
            each_entry(&event, |entry| ids.push(entry));
            links.push(&event);
        }
    }
    ids.extend(links.entries(None));
    (count, ids)
}

/// Return those of `ids` that are a string somewhere in the pages of frames.
pub fn find_ids<'p>(pages: impl Iterator<Item = &'p [u8]>, mut ids: HashSet<String>) -> HashSet<String> {
    let mut present = HashSet::new();
    for page in pages {
        scan::each_string(page, |string| {
            let Ok(string) = std::str::from_utf8(string) else { return };
            if let Some(id) = text::decode(string).and_then(|id| ids.take(id.as_ref())) {
                present.insert(id);
            }
        });
    }
    present
}

/// Check a run's input and return it minified, with its thread id and run id.
pub fn check_input(input: &[u8], max_id_bytes: usize) -> Result<(String, String, String)> {
    let refuse = |error: Error| Error::InvalidInput(format!("a run's input is refused: {error}"));
    // RUN_STARTED nests the input one level deeper, and must still be within the limit of nesting.
    let text = scan::validate_within(input, 1).map_err(refuse)?;
    if !text.starts_with('{') {
        return Err(Error::InvalidInput("a run's input must be a JSON object".into()));
    }
    let id = |name: &str| {
        let value = members::value_of(text, name);
        let value = value.ok_or_else(|| Error::InvalidInput(format!("`{name}` is missing")))?;
        let id = text::unquote(value).and_then(text::decode);
        let id = id.ok_or_else(|| Error::InvalidInput(format!("`{name}` must be a Unicode string")))?;
        check_id(name, &id, max_id_bytes)?;
        Ok(id.into_owned())
    };
    let (thread_id, run_id) = (id("threadId")?, id("runId")?);
    let messages = messages(text).unwrap_or("[]");
    if !messages.starts_with('[') {
        return Err(Error::InvalidInput("`messages` must be an array".into()));
    }
    for message in scan::elements(messages) {
        let id = message_id(message)
            .ok_or_else(|| Error::InvalidInput("each message must be an object with a string `id`".into()))?;
        check_id("message id", &id, max_id_bytes)?;
    }
    // Minified, because it becomes a part of `RUN_STARTED`, and a line break would end the SSE frame there.
    Ok((scan::minify(text), thread_id, run_id))
}

/// Refuse an id that is empty or longer than `max_bytes`.
fn check_id(name: &str, id: &str, max_bytes: usize) -> Result<()> {
    if id.is_empty() {
        return Err(Error::InvalidInput(format!("`{name}` is empty")));
    }
    if id.len() > max_bytes {
        return Err(Error::InvalidInput(format!("`{name}` is {} bytes long, over the limit of {max_bytes}", id.len())));
    }
    Ok(())
}

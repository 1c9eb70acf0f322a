//! Message ids: which an input brings, and an input without those the thread knows already.
use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::event::{Event, object_of};
use crate::scan;
use crate::text;

/// The ids of the messages of a run's input, in order.
pub fn message_ids(input: &str) -> Vec<String> {
    messages(input).into_iter().flat_map(scan::elements).filter_map(message_id).collect()
}

fn messages(input: &str) -> Option<&str> {
    scan::members(input).into_iter().rev().find(|(key, _)| text::same(key, "messages")).map(|(_, value)| value)
}

fn message_id(message: &str) -> Option<String> {
    let members = scan::members(message);
    let (_, id) = members.iter().rev().find(|(key, _)| text::same(key, "id"))?;
    Some(text::decoded(text::inner(id)?)?.into_owned())
}

/// The input with the messages left out whose ids are known.
pub fn stripped(input: &str, known: &HashSet<String>) -> String {
    let Some(messages) = messages(input) else { return input.to_owned() };
    if known.is_empty() {
        return input.to_owned();
    }
    let kept: Vec<&str> = scan::elements(messages)
        .into_iter()
        .filter(|message| message_id(message).is_none_or(|id| !known.contains(&id)))
        .collect();
    let kept = format!("[{}]", kept.join(","));
    let members = scan::members(input);
    let each = |&(key, value)| (key, if text::same(key, "messages") { kept.as_str() } else { value });
    object_of(members.iter().map(each))
}

/// The message ids an event adds to its thread: its own `messageId`, and those of a `RUN_STARTED`'s input.
pub fn ids_of(event: &Event<'_>, mut each: impl FnMut(String)) {
    if let Some(id) = event.string("messageId") {
        each(id.into_owned());
    }
    if event.kind() == crate::event::Kind::RunStarted
        && let Some(input) = event.get("input")
    {
        message_ids(input).into_iter().for_each(each);
    }
}

/// How many events a stored run has, and the message ids they add; none of either for what cannot be read.
pub fn ids_of_run(events: &[u8]) -> (u64, Vec<String>) {
    let (mut count, mut ids) = (0, Vec::new());
    for event in scan::text(events).map(scan::elements).unwrap_or_default() {
        count += 1;
        if let Ok(event) = Event::parse_str(event) {
            ids_of(&event, |id| ids.push(id));
        }
    }
    (count, ids)
}

/// Checks a run's input, a JSON object with `threadId` and `runId`, and gives it minified with the two ids.
pub fn checked_input(input: &[u8], max_id: usize) -> Result<(String, String, String)> {
    let refuse = |error: Error| Error::InvalidInput(format!("a run's input is refused: {error}"));
    // In RUN_STARTED it stands a level deeper.
    let text = scan::text_within(input, 1).map_err(refuse)?;
    if !text.starts_with('{') {
        return Err(Error::InvalidInput("a run's input must be a JSON object".into()));
    }
    let id = |name: &str| {
        let found = scan::members(text).into_iter().rev().find(|(key, _)| text::same(key, name));
        let Some((_, value)) = found else { return Err(Error::InvalidInput(format!("`{name}` is missing"))) };
        let id = text::inner(value).and_then(text::decoded);
        let id = id.ok_or_else(|| Error::InvalidInput(format!("`{name}` must be a Unicode string")))?;
        check_id(name, &id, max_id)?;
        Ok(id.into_owned())
    };
    let ids = (id("threadId")?, id("runId")?);
    let messages = messages(text).unwrap_or("[]");
    if !messages.starts_with('[') {
        return Err(Error::InvalidInput("`messages` must be an array".into()));
    }
    for message in scan::elements(messages) {
        let id = message_id(message)
            .ok_or_else(|| Error::InvalidInput("each message must be an object with a string `id`".into()))?;
        check_id("message id", &id, max_id)?;
    }
    Ok((scan::minified(text), ids.0, ids.1))
}

/// Refuses an id that is empty or over `max_id` bytes long.
pub fn check_id(name: &str, id: &str, max_id: usize) -> Result<()> {
    if id.is_empty() {
        return Err(Error::InvalidInput(format!("`{name}` is empty")));
    }
    if id.len() > max_id {
        return Err(Error::InvalidInput(format!("`{name}` is {} bytes long, over the limit of {max_id}", id.len())));
    }
    Ok(())
}

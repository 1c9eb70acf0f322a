//! Fields of events read, and members of messages written.
use crate::event::Event;
use crate::json::Json;
use crate::{scan, text};

/// The activities a snapshot of messages decides over.
pub(super) enum Owned {
    /// Not said: all, if it brings one.
    Unsaid,
    /// All of them.
    All,
    /// Those of these types.
    Types(Vec<Json>),
}

/// What the snapshot's metadata declares (`@ag-ui/client`, `authoritativeActivityTypes`).
pub(super) fn authoritative_types(event: &Event<'_>) -> Owned {
    let metadata = event.get("metadata").map(Json::parse);
    let Some(declared) = metadata.as_ref().and_then(|metadata| metadata.get("@ag-ui/client")) else {
        return Owned::Unsaid;
    };
    // What is declared but makes no sense owns nothing.
    let Json::Object(_) = declared else { return Owned::Types(Vec::new()) };
    match declared.get("authoritativeActivityTypes") {
        None => Owned::Unsaid,
        Some(types) if is_null(types) => Owned::All,
        Some(Json::Array(types)) if types.iter().all(|name| name.as_escaped().is_some()) => Owned::Types(types.clone()),
        Some(_) => Owned::Types(Vec::new()),
    }
}

/// The messages of a JSON array; a `subagentRunId` of null is none.
pub(super) fn messages_in(array: &str) -> impl Iterator<Item = Json> {
    scan::elements(array).into_iter().map(Json::parse).filter_map(|mut message| {
        let Json::Object(members) = &mut message else { return None };
        members.retain(|(key, value)| !(is_null(value) && text::same(key, "subagentRunId")));
        Some(message)
    })
}

/// Whether a value is `null`.
pub(super) fn is_null(value: &Json) -> bool {
    matches!(value, Json::Scalar(text) if text == "null")
}

/// A field that is there and not null.
pub(super) fn value_of<'e>(event: &Event<'e>, name: &str) -> Option<&'e str> {
    event.get(name).filter(|value| *value != "null")
}

/// An object of strings, given escaped.
pub(super) fn object(members: &[(&str, &str)]) -> Json {
    Json::Object(members.iter().map(|(key, text)| ((*key).into(), Json::escaped(text))).collect())
}

/// Appends escaped text to a string member; what is no string counts as empty.
pub(super) fn append(target: &mut Json, key: &str, text: &str) {
    match target.get_mut(key) {
        Some(Json::String(whole)) => whole.push_str(text),
        _ => drop(target.set(key, Json::escaped(text))),
    }
}

/// The event's `subagentRunId`, if it has one.
pub(super) fn set_subagent(message: &mut Json, event: &Event<'_>) {
    if let Some(id) = value_of(event, "subagentRunId") {
        message.set("subagentRunId", Json::parse(id));
    }
}

/// What an activity snapshot says, over what the message held.
pub(super) fn fill_activity(message: &mut Json, event: &Event<'_>) {
    message.set("activityType", Json::parse(event.get("activityType").unwrap_or("\"\"")));
    message.set("content", Json::parse(event.get("content").unwrap_or("{}")));
    if let Json::Object(members) = message
        && value_of(event, "subagentRunId").is_none()
    {
        members.retain(|(key, _)| !text::same(key, "subagentRunId"));
    }
    set_subagent(message, event);
}

/// Merges an event's metadata into a message's or call's, key by key.
pub(super) fn merge_metadata(target: &mut Json, event: &Event<'_>) {
    let Some(metadata) = event.get("metadata").filter(|metadata| metadata.starts_with('{')) else { return };
    let metadata = Json::parse(metadata);
    match target.get_mut("metadata") {
        Some(existing @ Json::Object(_)) => existing.merge(metadata),
        _ => drop(target.set("metadata", metadata)),
    }
}

//! Reading fields of events, and writing members of messages.
use crate::event::Event;
use crate::json::Json;
use crate::patch::{self, Budget};
use crate::text;

/// The activities that a snapshot of messages may drop.
pub(super) enum Authority {
    /// The snapshot does not say; all of them, if it brings one.
    Undeclared,
    /// All of them.
    All,
    /// Those of these types.
    Types(Vec<Json>),
}

/// Read a snapshot's authority from its metadata (`@ag-ui/client`, `authoritativeActivityTypes`).
pub(super) fn authority(event: &Event<'_>) -> Authority {
    let metadata = event.get("metadata").map(Json::parse);
    let Some(declared) = metadata.as_ref().and_then(|metadata| metadata.get("@ag-ui/client")) else {
        return Authority::Undeclared;
    };
    // A malformed declaration gives no authority, as in the reference.
    let Json::Object(_) = declared else { return Authority::Types(Vec::new()) };
    match declared.get("authoritativeActivityTypes") {
        None => Authority::Undeclared,
        Some(types) if is_null(types) => Authority::All,
        Some(Json::Array(types)) if types.iter().all(|name| name.as_escaped().is_some()) => {
            Authority::Types(types.iter().cloned().collect())
        }
        Some(_) => Authority::Types(Vec::new()),
    }
}

/// Parse a message and drop a `subagentRunId` of null; `None` if it is not an object.
pub(super) fn without_null_subagent(message: &str) -> Option<Json> {
    let mut message = Json::parse(message);
    let Json::Object(members) = &mut message else { return None };
    members.retain(|key, value| !(is_null(value) && text::is_same(key, "subagentRunId")));
    Some(message)
}

/// Return whether a value is `null`.
pub(super) fn is_null(value: &Json) -> bool {
    matches!(value, Json::Scalar(text) if &**text == "null")
}

/// Return a field that is present and not null.
pub(super) fn non_null<'e>(event: &Event<'e>, name: &str) -> Option<&'e str> {
    event.get(name).filter(|value| *value != "null")
}

/// Build an object of strings from their escaped texts.
pub(super) fn object(members: &[(&str, &str)]) -> Json {
    Json::Object(members.iter().map(|(key, text)| ((*key).into(), Json::from_escaped(text))).collect())
}

/// Append escaped text to a string member; any other value counts as an empty string.
pub(super) fn append(target: &mut Json, key: &str, text: &str) {
    match target.get_mut(key) {
        Some(Json::String(whole)) => whole.push_str(text),
        _ => drop(target.set(key, Json::from_escaped(text))),
    }
}

/// How many bytes patches may add to what a thread shows. A client that applied them all would not survive it.
const MAX_GROWN_BYTES: usize = 256 << 20;

/// Apply a patch, and return whether it fits the document and is within the limits.
pub(super) fn apply_patch(document: &mut Json, patch: &str, grown_bytes: &mut usize) -> bool {
    let max_growth = MAX_GROWN_BYTES.saturating_sub(*grown_bytes);
    match patch::apply(document, patch, &mut Budget::of_patch(patch.len()), max_growth) {
        Ok(growth) => {
            *grown_bytes = grown_bytes.saturating_add_signed(growth);
            true
        }
        Err(_) => false,
    }
}

/// Set the event's `subagentRunId`, if it has one.
pub(super) fn set_subagent(message: &mut Json, event: &Event<'_>) {
    if let Some(id) = non_null(event, "subagentRunId") {
        message.set("subagentRunId", Json::parse(id));
    }
}

/// Write an activity snapshot into its message.
pub(super) fn fill_activity(message: &mut Json, event: &Event<'_>) {
    message.set("activityType", Json::parse(event.get("activityType").unwrap_or("\"\"")));
    message.set("content", Json::parse(event.get("content").unwrap_or("{}")));
    if let Json::Object(members) = message
        && non_null(event, "subagentRunId").is_none()
    {
        members.retain(|key, _| !text::is_same(key, "subagentRunId"));
    }
    set_subagent(message, event);
}

/// Merge an event's metadata into that of a message or tool call, key by key.
pub(super) fn merge_metadata(target: &mut Json, event: &Event<'_>) {
    let Some(metadata) = event.get("metadata").filter(|metadata| metadata.starts_with('{')) else { return };
    let metadata = Json::parse(metadata);
    match target.get_mut("metadata") {
        Some(existing @ Json::Object(_)) => existing.merge(metadata),
        _ => drop(target.set("metadata", metadata)),
    }
}

//! The messages of a snapshot, as clients see them, until it is recorded.
use crate::entries::Class;

/// The ids that clients see for one message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) class: Class,
    pub(super) id: String,
    /// The message's calls, each with the agent's id and the call's number.
    pub(super) calls: Vec<(String, u64)>,
    /// Whether clients see another id than the agent's, of the message or of one of its calls.
    pub(super) is_changed: bool,
    /// The call that the message answers.
    pub(super) result_of: Option<String>,
    /// Whether it is left out, because an earlier message has the call's result.
    pub(super) is_second_result: bool,
}

/// The messages of the snapshot that is recorded next.
#[derive(Debug)]
pub(super) struct PreparedSnapshot {
    /// Where the event's text is in memory: the event may be mended before it is recorded.
    pub(super) address: usize,
    pub(super) messages: Vec<Option<Message>>,
}

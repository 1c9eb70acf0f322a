//! The role of each kind of event in a run, and a table of the families of streams.
//!
//! [`Kind::role`] is the only match over all kinds. Every step (chunks, verify, lifecycle, compact, fold, legacy,
//! reopen_streams) matches over all roles, and over all families where they differ. A new kind, role or family
//! therefore does not compile until each step handles it. To add a family: add its four kinds to
//! [`Kind`](crate::kind::Kind), its row, its field in [`PerFamily`], and then the matches that the compiler misses.
use std::ops::{Index, IndexMut};

use crate::kind::Kind;

/// An event's role in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Starts the run.
    RunStarted,
    /// Ends the run in order.
    RunFinished,
    /// Ends the run in error.
    RunError,
    /// Starts, continues or ends a stream.
    Stream(Family, Part),
    /// Is one of the `*_CHUNK` events, which are expanded into a stream.
    Chunk(Family),
    /// Opens or closes a reasoning span, which holds reasoning messages.
    Span(Edge),
    /// Opens or closes a step.
    Step(Edge),
    /// Opens or closes a subagent.
    Subagent(Edge),
    /// Answers a tool call.
    ToolResult,
    /// Replaces the state.
    StateSnapshot,
    /// Patches the state.
    StateDelta,
    /// Replaces the messages.
    MessagesSnapshot,
    /// Shows an activity.
    ActivitySnapshot,
    /// Patches an activity.
    ActivityDelta,
    /// Attaches an encrypted value to a message or tool call.
    EncryptedValue,
    /// Carries a provider's own event.
    Raw,
    /// Carries an application's own event.
    Custom,
    /// Means nothing to this version.
    Unknown,
}

/// A part of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Opens the stream.
    Start,
    /// Adds text to the stream.
    Delta,
    /// Closes the stream.
    End,
}

/// Whether an event opens or closes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Opens it.
    Open,
    /// Closes it.
    Close,
}

/// A family of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Text messages.
    Text,
    /// Tool calls and their arguments.
    ToolCall,
    /// Reasoning messages.
    Reasoning,
}

impl Role {
    /// Return whether the state events before such an event are never merged with those after it.
    pub(crate) const fn ends_state_window(self) -> bool {
        matches!(self, Self::RunStarted | Self::RunFinished | Self::RunError)
    }
}

impl Kind {
    /// Return what events of this kind do in their run.
    #[inline]
    pub const fn role(self) -> Role {
        match self {
            Self::RunStarted => Role::RunStarted,
            Self::RunFinished => Role::RunFinished,
            Self::RunError => Role::RunError,
            Self::StepStarted => Role::Step(Edge::Open),
            Self::StepFinished => Role::Step(Edge::Close),
            Self::TextMessageStart => Role::Stream(Family::Text, Part::Start),
            Self::TextMessageContent => Role::Stream(Family::Text, Part::Delta),
            Self::TextMessageEnd => Role::Stream(Family::Text, Part::End),
            Self::TextMessageChunk => Role::Chunk(Family::Text),
            Self::ToolCallStart => Role::Stream(Family::ToolCall, Part::Start),
            Self::ToolCallArgs => Role::Stream(Family::ToolCall, Part::Delta),
            Self::ToolCallEnd => Role::Stream(Family::ToolCall, Part::End),
            Self::ToolCallChunk => Role::Chunk(Family::ToolCall),
            Self::ToolCallResult => Role::ToolResult,
            Self::StateSnapshot => Role::StateSnapshot,
            Self::StateDelta => Role::StateDelta,
            Self::MessagesSnapshot => Role::MessagesSnapshot,
            Self::ActivitySnapshot => Role::ActivitySnapshot,
            Self::ActivityDelta => Role::ActivityDelta,
            Self::ReasoningStart => Role::Span(Edge::Open),
            Self::ReasoningEnd => Role::Span(Edge::Close),
            Self::ReasoningMessageStart => Role::Stream(Family::Reasoning, Part::Start),
            Self::ReasoningMessageContent => Role::Stream(Family::Reasoning, Part::Delta),
            Self::ReasoningMessageEnd => Role::Stream(Family::Reasoning, Part::End),
            Self::ReasoningMessageChunk => Role::Chunk(Family::Reasoning),
            Self::ReasoningEncryptedValue => Role::EncryptedValue,
            Self::Raw => Role::Raw,
            Self::Custom => Role::Custom,
            Self::SubagentStarted => Role::Subagent(Edge::Open),
            Self::SubagentFinished | Self::SubagentError => Role::Subagent(Edge::Close),
            Self::Unknown => Role::Unknown,
        }
    }
}

impl Role {
    /// Return the id fields an event of this role must have (docs/spec/agui.md §6.2), none of them empty.
    pub const fn required_ids(self) -> &'static [&'static str] {
        match self {
            Self::RunStarted | Self::RunFinished => &["threadId", "runId"],
            Self::Stream(Family::ToolCall, _) => &["toolCallId"],
            Self::Stream(Family::Text | Family::Reasoning, _)
            | Self::Span(_)
            | Self::ActivitySnapshot
            | Self::ActivityDelta => &["messageId"],
            Self::ToolResult => &["messageId", "toolCallId"],
            Self::Step(_) => &["stepName"],
            Self::Subagent(_) => &["subagentRunId"],
            Self::EncryptedValue => &["entityId"],
            // Only the first chunk of a stream needs ids, which the expander checks (docs/spec/agui.md §6.6).
            Self::RunError
            | Self::Chunk(_)
            | Self::StateSnapshot
            | Self::StateDelta
            | Self::MessagesSnapshot
            | Self::Raw
            | Self::Custom
            | Self::Unknown => &[],
        }
    }

    /// Return whether the event starts or ends the run.
    #[inline]
    pub(crate) const fn is_boundary(self) -> bool {
        matches!(self, Self::RunStarted | Self::RunFinished | Self::RunError)
    }

    /// Return whether the commit with an event of this role waits for the disk, whatever the durability.
    #[inline]
    pub(crate) const fn is_barrier(self) -> bool {
        match self {
            Self::RunStarted | Self::RunFinished | Self::RunError | Self::ToolResult => true,
            Self::Stream(..)
            | Self::Chunk(_)
            | Self::Span(_)
            | Self::Step(_)
            | Self::Subagent(_)
            | Self::StateSnapshot
            | Self::StateDelta
            | Self::MessagesSnapshot
            | Self::ActivitySnapshot
            | Self::ActivityDelta
            | Self::EncryptedValue
            | Self::Raw
            | Self::Custom
            | Self::Unknown => false,
        }
    }
}

/// A family's row: the names of its events and fields, and its words in error messages.
#[derive(Debug)]
pub(crate) struct FamilyRow {
    /// The type of the event that opens a stream.
    pub(crate) start: &'static str,
    /// The type of the event that adds text.
    pub(crate) delta: &'static str,
    /// The type of the event that closes a stream.
    pub(crate) end: &'static str,
    /// The type of the event that does all three.
    pub(crate) chunk: &'static str,
    /// The field with the stream's id.
    pub(crate) id: &'static str,
    /// Its name in the reference's error messages about streams.
    pub(crate) noun: &'static str,
    /// Its name in the reference's error messages about owners.
    pub(crate) owned_noun: &'static str,
    /// Whether the reference's advice about an END without a START is a bare "must be sent first".
    pub(crate) has_short_end_advice: bool,
    /// The fields of a chunk besides those that every chunk has.
    pub(crate) chunk_fields: &'static [&'static str],
    /// The opener's fields that later chunks may only repeat.
    pub(crate) fixed_fields: &'static [&'static str],
    /// The field besides the id that a stream's first chunk must have.
    pub(crate) required_field: Option<&'static str>,
    /// The `role` that a START written from a chunk has in any case.
    pub(crate) start_role: Option<&'static str>,
    /// Whether the reference's finalizer ignores a START with an empty id.
    pub(crate) ignores_empty_id: bool,
}

static TEXT: FamilyRow = FamilyRow {
    start: "TEXT_MESSAGE_START",
    delta: "TEXT_MESSAGE_CONTENT",
    end: "TEXT_MESSAGE_END",
    chunk: "TEXT_MESSAGE_CHUNK",
    id: "messageId",
    noun: "text message",
    owned_noun: "message",
    has_short_end_advice: true,
    chunk_fields: &["messageId", "role", "name"],
    fixed_fields: &["role", "name"],
    required_field: None,
    start_role: None,
    ignores_empty_id: true,
};

static TOOL_CALL: FamilyRow = FamilyRow {
    start: "TOOL_CALL_START",
    delta: "TOOL_CALL_ARGS",
    end: "TOOL_CALL_END",
    chunk: "TOOL_CALL_CHUNK",
    id: "toolCallId",
    noun: "tool call",
    owned_noun: "tool call",
    has_short_end_advice: true,
    chunk_fields: &["toolCallId", "toolCallName", "parentMessageId"],
    fixed_fields: &["toolCallName", "parentMessageId"],
    required_field: Some("toolCallName"),
    start_role: None,
    ignores_empty_id: true,
};

static REASONING: FamilyRow = FamilyRow {
    start: "REASONING_MESSAGE_START",
    delta: "REASONING_MESSAGE_CONTENT",
    end: "REASONING_MESSAGE_END",
    chunk: "REASONING_MESSAGE_CHUNK",
    id: "messageId",
    noun: "reasoning message",
    owned_noun: "reasoning message",
    has_short_end_advice: false,
    chunk_fields: &["messageId"],
    fixed_fields: &[],
    required_field: None,
    // Only a REASONING_MESSAGE_START must have a role (docs/spec/agui.md §6.2), and its chunk has none.
    start_role: Some("reasoning"),
    ignores_empty_id: false,
};

impl Family {
    /// Return the family's row.
    #[inline]
    pub(crate) const fn row(self) -> &'static FamilyRow {
        match self {
            Self::Text => &TEXT,
            Self::ToolCall => &TOOL_CALL,
            Self::Reasoning => &REASONING,
        }
    }

    /// Return the field with the id of a stream.
    #[inline]
    pub(crate) const fn id_field(self) -> &'static str {
        self.row().id
    }
}

/// One value for each family, since ids are only unique within a family.
#[derive(Debug, Clone, Default)]
pub(crate) struct PerFamily<T> {
    pub(crate) text: T,
    pub(crate) tool_call: T,
    pub(crate) reasoning: T,
}

impl<T> PerFamily<T> {
    /// Call `each` with every family and its value.
    pub(crate) fn for_each(&mut self, mut each: impl FnMut(Family, &mut T)) {
        // Taken apart by name, so that a new family does not compile until it is added here.
        let Self { text, tool_call, reasoning } = self;
        each(Family::Text, text);
        each(Family::ToolCall, tool_call);
        each(Family::Reasoning, reasoning);
    }
}

impl<T> Index<Family> for PerFamily<T> {
    type Output = T;

    #[inline]
    fn index(&self, family: Family) -> &T {
        match family {
            Family::Text => &self.text,
            Family::ToolCall => &self.tool_call,
            Family::Reasoning => &self.reasoning,
        }
    }
}

impl<T> IndexMut<Family> for PerFamily<T> {
    #[inline]
    fn index_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Text => &mut self.text,
            Family::ToolCall => &mut self.tool_call,
            Family::Reasoning => &mut self.reasoning,
        }
    }
}

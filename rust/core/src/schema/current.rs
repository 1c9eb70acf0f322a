//! The event schema of AG-UI 1.0 (`@ag-ui/core` 1.0.0), field by field.
//!
//! `tests/integration/test_event_schema.py` compares its verdicts with those of the real schema. Where a client drops a
//! part it does not know (a message's role, a content part, an outcome), the part stays: a later version may know it.
use super::shape::{Field, Need, Rule, Shape, field, filled, optional, required};
use crate::event::Event;
use crate::family::{Family, Part, Role};
use crate::kind::Kind;

use Rule::{
    Any, Arguments, Bool, Code, ContentOf, JoinedText, JsonText, ListOf, Map, Object, OneOf, Only, OpenTagged, Patch,
    ResultOf, SafeCount, Tagged, Text, Timestamp,
};

/// Return the shape of an event of a known kind.
pub(super) fn shape_of(event: &Event<'_>) -> Shape {
    let (base, fields): (_, &[Field]) = match event.role() {
        Role::RunStarted => (RUN, RUN_STARTED),
        Role::RunFinished => (RUN, RUN_FINISHED),
        Role::RunError => (RUN, RUN_ERROR),
        Role::MessagesSnapshot => (RUN, const { &[required("messages", MESSAGES)] }),
        Role::Stream(family, part) => (ANY, stream_fields(family, part)),
        Role::Chunk(Family::Text) => (ANY, TEXT_MESSAGE_CHUNK),
        Role::Chunk(Family::ToolCall) => (ANY, TOOL_CALL_CHUNK),
        Role::Chunk(Family::Reasoning) => (ANY, const { &[optional("messageId", Text), optional("delta", Text)] }),
        Role::Span(_) => (ANY, const { &[MESSAGE_ID] }),
        Role::EncryptedValue => (ANY, REASONING_ENCRYPTED_VALUE),
        Role::ToolResult => (ANY, TOOL_CALL_RESULT),
        Role::StateSnapshot => (ANY, const { &[required("snapshot", Any)] }),
        Role::StateDelta => (ANY, const { &[required("delta", Patch)] }),
        Role::ActivitySnapshot => (ANY, ACTIVITY_SNAPSHOT),
        Role::ActivityDelta => (ANY, const { &[MESSAGE_ID, ACTIVITY_TYPE, required("patch", Patch)] }),
        Role::Raw => (ANY, const { &[filled("event", Any, "null"), optional("source", Text)] }),
        Role::Custom => (ANY, const { &[required_or("name", Text, "\"\""), filled("value", Any, "null")] }),
        Role::Step(_) => (ANY, const { &[required("stepName", Text)] }),
        Role::Subagent(_) => match event.kind() {
            Kind::SubagentStarted => (RUN, SUBAGENT_STARTED),
            Kind::SubagentFinished => (RUN, SUBAGENT_FINISHED),
            _ => (RUN, SUBAGENT_ERROR),
        },
        Role::Unknown => (&[], &[]),
    };
    Shape::with([fields, base])
}

fn stream_fields(family: Family, part: Part) -> &'static [Field] {
    match (family, part) {
        (Family::Text, Part::Start) => const { &[MESSAGE_ID, optional("role", TEXT_ROLE), optional("name", Text)] },
        (Family::Reasoning, Part::Start) => {
            // Versions before 1.0 wrote `assistant` here.
            const { &[MESSAGE_ID, filled("role", Only("reasoning"), "\"reasoning\"")] }
        }
        (Family::Text | Family::Reasoning, Part::Delta) => const { &[MESSAGE_ID, null_as("delta", Text, "\"\"")] },
        (Family::Text | Family::Reasoning, Part::End) => const { &[MESSAGE_ID] },
        (Family::ToolCall, Part::Start) => TOOL_CALL_START,
        (Family::ToolCall, Part::Delta) => const { &[CALL_ID, null_as("delta", Arguments, "\"\"")] },
        (Family::ToolCall, Part::End) => const { &[CALL_ID] },
    }
}

const fn required_or(name: &'static str, rule: Rule, json: &'static str) -> Field {
    field(name, rule, Need::RequiredOr(json))
}

const fn null_as(name: &'static str, rule: Rule, json: &'static str) -> Field {
    field(name, rule, Need::NullAs(json))
}

/// The fields that every event may have.
const RUN: &[Field] = &[optional("timestamp", Timestamp), optional("rawEvent", Any), METADATA];
/// The fields that every event may have, and its subagent.
const ANY: &[Field] = &[optional("timestamp", Timestamp), optional("rawEvent", Any), METADATA, OWNER];

const METADATA: Field = optional("metadata", Map);
const OWNER: Field = optional("subagentRunId", Text);
const MESSAGE_ID: Field = required("messageId", Text);
const CALL_ID: Field = required("toolCallId", Text);
const ACTIVITY_TYPE: Field = required_or("activityType", Text, "\"\"");
const THREAD_ID: Field = required_or("threadId", Text, "\"\"");
const RUN_ID: Field = required_or("runId", Text, "\"\"");
const SUBAGENT_ID: Field = required("subagentRunId", Text);
const USAGE: Field = optional("usage", ListOf { item: &Object(&TOKEN_USAGE), at_least: 0 });
const TEXT_ROLE: Rule = OneOf(&["developer", "system", "assistant", "user"]);
/// A run or subagent that failed must be reported even without a valid message.
const ERROR_MESSAGE: Field = filled("message", JsonText, "\"The agent reported an error without a message\"");

const RUN_STARTED: &[Field] = &[
    THREAD_ID,
    RUN_ID,
    optional("protocolVersion", Text),
    optional("parentRunId", Text),
    optional("input", Object(&INPUT)),
];
const RUN_FINISHED: &[Field] =
    &[THREAD_ID, RUN_ID, optional("result", Any), optional("outcome", OpenTagged("type", RUN_OUTCOMES)), USAGE];
const RUN_ERROR: &[Field] = &[ERROR_MESSAGE, optional("code", Code), USAGE];
const TEXT_MESSAGE_CHUNK: &[Field] =
    &[optional("messageId", Text), optional("role", TEXT_ROLE), optional("delta", Text), optional("name", Text)];
const REASONING_ENCRYPTED_VALUE: &[Field] = &[
    required("subtype", OneOf(&["tool-call", "message"])),
    required("entityId", Text),
    required("encryptedValue", Text),
];
const TOOL_CALL_START: &[Field] =
    &[CALL_ID, required_or("toolCallName", Text, "\"\""), optional("parentMessageId", Text)];
const TOOL_CALL_RESULT: &[Field] = &[MESSAGE_ID, CALL_ID, RESULT, optional("role", Only("tool"))];
/// A tool that returns nothing has the result `null`.
const RESULT: Field = null_as("content", ResultOf(&Tagged("type", PARTS)), "\"null\"");
const TOOL_CALL_CHUNK: &[Field] = &[
    optional("toolCallId", Text),
    optional("toolCallName", Text),
    optional("parentMessageId", Text),
    optional("delta", Arguments),
];
const ACTIVITY_SNAPSHOT: &[Field] = &[MESSAGE_ID, ACTIVITY_TYPE, required("content", Map), optional("replace", Bool)];
const SUBAGENT_STARTED: &[Field] = &[
    SUBAGENT_ID,
    required_or("name", Text, "\"\""),
    optional("description", Text),
    optional("parentSubagentRunId", Text),
    optional("parentToolCallId", Text),
    optional("parentMessageId", Text),
];
const SUBAGENT_FINISHED: &[Field] =
    &[SUBAGENT_ID, optional("result", Any), optional("outcome", OpenTagged("type", SUBAGENT_OUTCOMES))];
const SUBAGENT_ERROR: &[Field] = &[SUBAGENT_ID, ERROR_MESSAGE, optional("code", Code)];

const TOKEN_USAGE: Shape = Shape::of(&[
    optional("provider", Text),
    optional("model", Text),
    optional("inputTokens", SafeCount),
    optional("outputTokens", SafeCount),
    optional("totalTokens", SafeCount),
    optional("reasoningTokens", SafeCount),
    optional("cachedInputTokens", SafeCount),
    optional("cacheWriteInputTokens", SafeCount),
]);

const IDS: Rule = ListOf { item: &Text, at_least: 0 };
const RUN_OUTCOMES: &[(&str, Shape)] = &[
    ("success", Shape::of(&[optional("pendingToolCallIds", IDS)])),
    ("interrupt", Shape::of(&[required("interrupts", ListOf { item: &Object(&INTERRUPT), at_least: 1 })])),
    ("cancelled", Shape::of(&[])),
];
const SUBAGENT_OUTCOMES: &[(&str, Shape)] =
    &[("success", Shape::of(&[])), ("suspended", Shape::of(&[optional("interruptIds", IDS)]))];

const INTERRUPT: Shape = Shape::of(&[
    required("id", Text),
    required("reason", Text),
    optional("message", Text),
    optional("toolCallId", Text),
    optional("responseSchema", Map),
    optional("expiresAt", Text),
    METADATA,
    OWNER,
]);

pub(super) const INPUT: Shape = Shape::of(&[
    THREAD_ID,
    RUN_ID,
    optional("protocolVersion", Text),
    optional("parentRunId", Text),
    field("state", Any, Need::Nullable),
    filled("messages", MESSAGES, "[]"),
    optional("tools", ListOf { item: &Object(&TOOL), at_least: 0 }),
    optional("context", ListOf { item: &Object(&CONTEXT), at_least: 0 }),
    optional("forwardedProps", Any),
    optional("resume", ListOf { item: &Object(&RESUME), at_least: 0 }),
]);
const TOOL: Shape = Shape::of(&[
    required("name", Text),
    required_or("description", Text, "\"\""),
    optional("parameters", Any),
    METADATA,
]);
const CONTEXT: Shape = Shape::of(&[required_or("description", Text, "\"\""), required("value", Text)]);
const RESUME: Shape = Shape::of(&[
    required("interruptId", Text),
    required("status", OneOf(&["resolved", "cancelled"])),
    optional("payload", Any),
    METADATA,
]);

const MESSAGES: Rule = ListOf { item: &OpenTagged("role", ROLES), at_least: 0 };
/// The fields that every message has.
const MESSAGE: &[Field] = &[required("id", Text), METADATA, OWNER];
const ROLES: &[(&str, Shape)] = &[
    ("developer", Shape::with([MESSAGE, INSTRUCTIONS])),
    ("system", Shape::with([MESSAGE, INSTRUCTIONS])),
    ("assistant", Shape::with([MESSAGE, ASSISTANT])),
    ("user", Shape::with([MESSAGE, USER])),
    ("tool", Shape::with([MESSAGE, &[CALL_ID, ENCRYPTED, RESULT, optional("error", JsonText)]])),
    ("activity", Shape::with([MESSAGE, &[ACTIVITY_TYPE, required("content", Map)]])),
    ("reasoning", Shape::with([MESSAGE, &[ENCRYPTED, CONTENT]])),
];
const NAME: Field = optional("name", Text);
const ENCRYPTED: Field = optional("encryptedValue", Text);
/// Some frameworks write null for a message without text.
const CONTENT: Field = null_as("content", JoinedText, "\"\"");
const INSTRUCTIONS: &[Field] = &[NAME, ENCRYPTED, CONTENT];
const USER: &[Field] = &[NAME, ENCRYPTED, null_as("content", ContentOf(&OpenTagged("type", USER_PARTS)), "\"\"")];
const ASSISTANT: &[Field] = &[
    NAME,
    ENCRYPTED,
    optional("content", JoinedText),
    optional("toolCalls", ListOf { item: &Object(&TOOL_CALL), at_least: 0 }),
];
const TOOL_CALL: Shape = Shape::of(&[
    required("id", Text),
    filled("type", Only("function"), "\"function\""),
    required("function", Object(&FUNCTION)),
    ENCRYPTED,
    METADATA,
]);
const FUNCTION: Shape = Shape::of(&[required("name", Text), null_as("arguments", Arguments, "\"{}\"")]);

/// The content parts, by their type.
const PARTS: &[(&str, Shape)] =
    &[("text", TEXT_PART), ("image", MEDIA), ("audio", MEDIA), ("video", MEDIA), ("document", MEDIA)];
/// The parts of a user's message; the last one predates 1.0, and a 1.0 client translates it.
const USER_PARTS: &[(&str, Shape)] = &[
    ("text", TEXT_PART),
    ("image", MEDIA),
    ("audio", MEDIA),
    ("video", MEDIA),
    ("document", MEDIA),
    ("binary", BINARY),
];
const TEXT_PART: Shape = Shape::of(&[required("text", Text), PART_ID, PART_METADATA]);
const BINARY: Shape = Shape::of(&[PART_ID, optional("url", Text), optional("data", Text), optional("filename", Text)]);
const PART_ID: Field = optional("id", Text);
const PART_METADATA: Field = optional("metadata", Any);
const MEDIA: Shape = Shape::of(&[required("source", OpenTagged("type", SOURCES)), PART_ID, PART_METADATA]);
const SOURCES: &[(&str, Shape)] = &[
    ("data", Shape::of(&[required("value", Text), required("mimeType", Text)])),
    ("url", Shape::of(&[required("value", Text), optional("mimeType", Text)])),
    ("file", Shape::of(&[required("value", Text), optional("provider", Text), optional("mimeType", Text)])),
];

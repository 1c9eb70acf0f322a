//! The event schema of `@ag-ui/core` 0.0.59, field by field. Fields that may hold any value are not listed.
//!
//! Where that schema is wider than 1.0 (THINKING_*, `binary` parts, null for a few fields), so is this one, because
//! events that a legacy client can read stay unchanged. It also has rules of our own, for replacing a field that is
//! missing or has the wrong type.
use crate::event::Event;
use crate::family::{Family, Part, Role};
use crate::kind::Kind;
use crate::schema::shape::{Field, Need, Rule, Shape, field, filled, optional, required};

use Rule::{Bool, ContentOf, Count, List, ListOf, Map, Number, Object, OneOf, PartAsText, PlainText, Tagged, Text};

/// Return the shape of an event; `None` for one that 0.0.59 does not know.
pub(super) fn shape_of(event: &Event<'_>) -> Option<Shape> {
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
        Role::StateSnapshot => (ANY, &[]),
        Role::StateDelta => (ANY, const { &[required("delta", List)] }),
        Role::ActivitySnapshot => (ANY, ACTIVITY_SNAPSHOT),
        Role::ActivityDelta => (ANY, const { &[MESSAGE_ID, required("activityType", Text), required("patch", List)] }),
        Role::Raw => (ANY, const { &[optional("source", Text)] }),
        Role::Custom => (ANY, const { &[required("name", Text)] }),
        Role::Step(_) => (ANY, const { &[required("stepName", Text)] }),
        Role::Subagent(_) => match event.kind() {
            Kind::SubagentStarted => (RUN, SUBAGENT_STARTED),
            Kind::SubagentFinished => (RUN, SUBAGENT_FINISHED),
            _ => (RUN, SUBAGENT_ERROR),
        },
        Role::Unknown => (RUN, thinking_fields(&event.string("type")?)?),
    };
    Some(Shape::with([fields, base]))
}

fn stream_fields(family: Family, part: Part) -> &'static [Field] {
    match (family, part) {
        (Family::Text, Part::Start) => const { &[MESSAGE_ID, optional("role", TEXT_ROLE), optional("name", Text)] },
        (Family::Reasoning, Part::Start) => {
            const { &[MESSAGE_ID, filled("role", OneOf(&["reasoning"]), "\"reasoning\"")] }
        }
        (Family::Text | Family::Reasoning, Part::Delta) => const { &[MESSAGE_ID, required("delta", Text)] },
        (Family::Text | Family::Reasoning, Part::End) => const { &[MESSAGE_ID] },
        (Family::ToolCall, Part::Start) => TOOL_CALL_START,
        (Family::ToolCall, Part::Delta) => const { &[CALL_ID, required("delta", Text)] },
        (Family::ToolCall, Part::End) => const { &[CALL_ID] },
    }
}

/// Return the fields of the kinds that 0.0.59 has and 1.0 no longer has.
fn thinking_fields(name: &str) -> Option<&'static [Field]> {
    match name {
        "THINKING_START" => Some(const { &[optional("title", Text)] }),
        "THINKING_END" | "THINKING_TEXT_MESSAGE_START" | "THINKING_TEXT_MESSAGE_END" => Some(&[]),
        "THINKING_TEXT_MESSAGE_CONTENT" => Some(const { &[required("delta", Text)] }),
        _ => None,
    }
}

/// The fields that every event may have.
const RUN: &[Field] = &[optional("timestamp", Number), METADATA];
/// The fields that every event may have, and its subagent.
const ANY: &[Field] = &[optional("timestamp", Number), METADATA, OWNER];

const METADATA: Field = optional("metadata", Map);
const OWNER: Field = optional("subagentRunId", Text);
const MESSAGE_ID: Field = required("messageId", Text);
const CALL_ID: Field = required("toolCallId", Text);
const THREAD_ID: Field = filled("threadId", Text, "\"\"");
const RUN_ID: Field = filled("runId", Text, "\"\"");
const USAGE: Field = optional("usage", ListOf { item: &Object(&TOKEN_USAGE), at_least: 0 });
const TEXT_ROLE: Rule = OneOf(&["developer", "system", "assistant", "user"]);

const RUN_STARTED: &[Field] =
    &[THREAD_ID, RUN_ID, optional("parentRunId", Text), optional("input", Object(&Shape::of(INPUT)))];
const RUN_FINISHED: &[Field] =
    &[THREAD_ID, RUN_ID, field("outcome", Tagged("type", RUN_OUTCOMES), Need::Nullable), USAGE];
const RUN_ERROR: &[Field] = &[filled("message", PlainText, "\"\""), optional("code", Text), USAGE];
const TEXT_MESSAGE_CHUNK: &[Field] =
    &[optional("messageId", Text), optional("role", TEXT_ROLE), optional("delta", Text), optional("name", Text)];
const REASONING_ENCRYPTED_VALUE: &[Field] = &[
    required("subtype", OneOf(&["tool-call", "message"])),
    required("entityId", Text),
    required("encryptedValue", Text),
];
const TOOL_CALL_START: &[Field] =
    &[CALL_ID, filled("toolCallName", Text, "\"\""), field("parentMessageId", Text, Need::Nullable)];
const TOOL_CALL_RESULT: &[Field] =
    &[MESSAGE_ID, CALL_ID, required("content", PlainText), optional("role", OneOf(&["tool"]))];
const TOOL_CALL_CHUNK: &[Field] = &[
    optional("toolCallId", Text),
    optional("toolCallName", Text),
    field("parentMessageId", Text, Need::Nullable),
    optional("delta", Text),
];
const ACTIVITY_SNAPSHOT: &[Field] =
    &[MESSAGE_ID, required("activityType", Text), required("content", Map), optional("replace", Bool)];
const SUBAGENT_STARTED: &[Field] = &[
    required("subagentRunId", Text),
    filled("name", Text, "\"\""),
    optional("description", Text),
    optional("parentSubagentRunId", Text),
    optional("parentToolCallId", Text),
    optional("parentMessageId", Text),
];
const SUBAGENT_FINISHED: &[Field] =
    &[required("subagentRunId", Text), optional("outcome", Tagged("type", SUBAGENT_OUTCOMES))];
const SUBAGENT_ERROR: &[Field] =
    &[required("subagentRunId", Text), filled("message", PlainText, "\"\""), optional("code", Text)];

const TOKEN_USAGE: Shape = Shape::of(&[
    optional("provider", Text),
    optional("model", Text),
    optional("inputTokens", Count),
    optional("outputTokens", Count),
    optional("totalTokens", Count),
    optional("reasoningTokens", Count),
    optional("cachedInputTokens", Count),
]);

/// Without `cancelled` and `pendingToolCallIds`, for which 0.0.59 refuses the event (docs/spec/agui.md §6.4).
const RUN_OUTCOMES: &[(&str, Shape)] = &[
    ("success", Shape::strict(&[TYPE])),
    ("interrupt", Shape::strict(&[TYPE, required("interrupts", ListOf { item: &Object(&INTERRUPT), at_least: 1 })])),
];
const SUBAGENT_OUTCOMES: &[(&str, Shape)] = &[
    ("success", Shape::strict(&[TYPE])),
    ("suspended", Shape::strict(&[TYPE, optional("interruptIds", ListOf { item: &Text, at_least: 0 })])),
];
/// The tag of these shapes, which was checked to choose the shape.
const TYPE: Field = required("type", Text);

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

const INPUT: &[Field] = &[
    THREAD_ID,
    RUN_ID,
    optional("parentRunId", Text),
    filled("messages", MESSAGES, "[]"),
    filled("tools", ListOf { item: &Object(&TOOL), at_least: 0 }, "[]"),
    filled("context", ListOf { item: &Object(&CONTEXT), at_least: 0 }, "[]"),
    optional("resume", ListOf { item: &Object(&RESUME), at_least: 0 }),
];
const TOOL: Shape = Shape::of(&[required("name", Text), required("description", Text), METADATA]);
const CONTEXT: Shape = Shape::of(&[required("description", Text), required("value", Text)]);
const RESUME: Shape =
    Shape::of(&[required("interruptId", Text), required("status", OneOf(&["resolved", "cancelled"])), METADATA]);

const MESSAGES: Rule = ListOf { item: &Tagged("role", ROLES), at_least: 0 };
/// The fields that every message has.
const MESSAGE: &[Field] = &[required("id", Text), METADATA, OWNER];
const ROLES: &[(&str, Shape)] = &[
    ("developer", Shape::with([MESSAGE, INSTRUCTIONS])),
    ("system", Shape::with([MESSAGE, INSTRUCTIONS])),
    ("assistant", Shape::with([MESSAGE, ASSISTANT])),
    ("user", Shape::with([MESSAGE, &[NAME, ENCRYPTED, required("content", ContentOf(&PartAsText(CONTENT_PARTS)))]])),
    ("tool", Shape::with([MESSAGE, &[CALL_ID, ENCRYPTED, required("content", PlainText), optional("error", Text)]])),
    ("activity", Shape::with([MESSAGE, &[required("activityType", Text), required("content", Map)]])),
    ("reasoning", Shape::with([MESSAGE, &[ENCRYPTED, required("content", PlainText)]])),
];
const NAME: Field = optional("name", Text);
const ENCRYPTED: Field = optional("encryptedValue", Text);
const INSTRUCTIONS: &[Field] = &[NAME, ENCRYPTED, required("content", PlainText)];
const ASSISTANT: &[Field] = &[
    NAME,
    ENCRYPTED,
    optional("content", PlainText),
    optional("toolCalls", ListOf { item: &Object(&TOOL_CALL), at_least: 0 }),
];
const TOOL_CALL: Shape = Shape::of(&[
    required("id", Text),
    filled("type", OneOf(&["function"]), "\"function\""),
    required("function", Object(&Shape::of(&[required("name", Text), required("arguments", PlainText)]))),
    ENCRYPTED,
    METADATA,
]);

/// The parts of a user's message, by their type.
const CONTENT_PARTS: &[(&str, Shape)] = &[
    ("text", Shape::of(&[required("text", Text)])),
    ("image", MEDIA),
    ("audio", MEDIA),
    ("video", MEDIA),
    ("document", MEDIA),
    ("binary", BINARY),
];
const MEDIA: Shape = Shape::of(&[required("source", Tagged("type", SOURCES))]);
const SOURCES: &[(&str, Shape)] = &[
    ("data", Shape::of(&[required("value", Text), required("mimeType", Text)])),
    ("url", Shape::of(&[required("value", Text), optional("mimeType", Text)])),
];
/// One of `id`, `url` and `data` must not be empty.
const BINARY: Shape = Shape::of(&[
    required("mimeType", Text),
    optional("id", Text),
    optional("url", Text),
    optional("data", Text),
    optional("filename", Text),
]);

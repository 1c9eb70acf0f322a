//! The event schema of `@ag-ui/core` 0.0.59, field by field; fields that may hold anything are not listed.
//!
//! Where it is wider than 1.0 (THINKING_*, `binary` parts, null for a few fields) so is this: what it reads is left
//! alone. Beside its rules stand ours: what is put where a field is missing or of another type.
use crate::text;

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// A string.
    Text,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// Any number.
    Number,
    /// A whole number, not negative.
    Count,
    Bool,
    /// An object of any members.
    Map,
    /// An array of anything.
    List,
    /// An array, of at least so many items.
    ListOf {
        item: &'static Rule,
        least: usize,
    },
    Object(&'static Shape),
    /// An object of the shape its tag names.
    Tagged(&'static str, &'static [(&'static str, Shape)]),
    /// A string; 1.0 also has parts there, agents of every kind also other things, and they are put in words.
    Words,
    /// A user's words: a string, or parts.
    Content,
    /// A part of them.
    Part,
}

/// What becomes of a field that is missing or does not fit.
#[derive(Clone, Copy)]
pub(super) enum Need {
    /// The whole is refused.
    Required,
    /// It is left out.
    Optional,
    /// It is left out; null may stay.
    Nullable,
    /// This JSON is put in its place: without the whole, what follows would be refused as well.
    Filled(&'static str),
}

pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) rule: Rule,
    pub(super) need: Need,
}

/// An object's fields.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    groups: [&'static [Field]; 2],
    /// Whether any other field is refused.
    pub(super) strict: bool,
}

impl Shape {
    const fn of(fields: &'static [Field]) -> Self {
        Self { groups: [fields, &[]], strict: false }
    }

    const fn with(groups: [&'static [Field]; 2]) -> Self {
        Self { groups, strict: false }
    }

    const fn strict(fields: &'static [Field]) -> Self {
        Self { groups: [fields, &[]], strict: true }
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &'static Field> + use<> {
        let [one, two] = self.groups;
        one.iter().chain(two)
    }

    /// Where the field of this (escaped) key stands.
    pub(super) fn place(&self, key: &str) -> Option<usize> {
        if key.contains('\\') {
            return self.fields().position(|field| text::same(field.name, key));
        }
        self.fields().position(|field| field.name == key)
    }
}

const fn field(name: &'static str, rule: Rule, need: Need) -> Field {
    Field { name, rule, need }
}

const fn required(name: &'static str, rule: Rule) -> Field {
    field(name, rule, Need::Required)
}

const fn optional(name: &'static str, rule: Rule) -> Field {
    field(name, rule, Need::Optional)
}

const fn filled(name: &'static str, rule: Rule, json: &'static str) -> Field {
    field(name, rule, Need::Filled(json))
}

use Rule::{Bool, Content, Count, List, ListOf, Map, Number, Object, OneOf, Tagged, Text, Words};

/// The shape of an event of this type; `None` for one that 0.0.59 does not know.
pub(super) fn event(name: &str) -> Option<Shape> {
    let (base, fields): (_, &[Field]) = match name {
        "RUN_STARTED" => (RUN, RUN_STARTED),
        "RUN_FINISHED" => (RUN, RUN_FINISHED),
        "RUN_ERROR" => (RUN, RUN_ERROR),
        "MESSAGES_SNAPSHOT" => (RUN, const { &[required("messages", MESSAGES)] }),
        "THINKING_START" => (RUN, const { &[optional("title", Text)] }),
        "THINKING_END" | "THINKING_TEXT_MESSAGE_START" | "THINKING_TEXT_MESSAGE_END" => (RUN, &[]),
        "THINKING_TEXT_MESSAGE_CONTENT" => (RUN, const { &[required("delta", Text)] }),
        "TEXT_MESSAGE_START" => (ANY, const { &[MESSAGE_ID, optional("role", TEXT_ROLE), optional("name", Text)] }),
        "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT" => (ANY, const { &[MESSAGE_ID, required("delta", Text)] }),
        "TEXT_MESSAGE_END" | "REASONING_MESSAGE_END" | "REASONING_START" | "REASONING_END" => {
            (ANY, const { &[MESSAGE_ID] })
        }
        "TEXT_MESSAGE_CHUNK" => (ANY, TEXT_MESSAGE_CHUNK),
        "REASONING_MESSAGE_START" => {
            (ANY, const { &[MESSAGE_ID, filled("role", OneOf(&["reasoning"]), "\"reasoning\"")] })
        }
        "REASONING_MESSAGE_CHUNK" => (ANY, const { &[optional("messageId", Text), optional("delta", Text)] }),
        "REASONING_ENCRYPTED_VALUE" => (ANY, REASONING_ENCRYPTED_VALUE),
        "TOOL_CALL_START" => (ANY, TOOL_CALL_START),
        "TOOL_CALL_ARGS" => (ANY, const { &[CALL_ID, required("delta", Text)] }),
        "TOOL_CALL_END" => (ANY, const { &[CALL_ID] }),
        "TOOL_CALL_RESULT" => (ANY, TOOL_CALL_RESULT),
        "TOOL_CALL_CHUNK" => (ANY, TOOL_CALL_CHUNK),
        "STATE_SNAPSHOT" => (ANY, &[]),
        "STATE_DELTA" => (ANY, const { &[required("delta", List)] }),
        "ACTIVITY_SNAPSHOT" => (ANY, ACTIVITY_SNAPSHOT),
        "ACTIVITY_DELTA" => (ANY, const { &[MESSAGE_ID, required("activityType", Text), required("patch", List)] }),
        "RAW" => (ANY, const { &[optional("source", Text)] }),
        "CUSTOM" => (ANY, const { &[required("name", Text)] }),
        "STEP_STARTED" | "STEP_FINISHED" => (ANY, const { &[required("stepName", Text)] }),
        "SUBAGENT_STARTED" => (RUN, SUBAGENT_STARTED),
        "SUBAGENT_FINISHED" => (RUN, SUBAGENT_FINISHED),
        "SUBAGENT_ERROR" => (RUN, SUBAGENT_ERROR),
        _ => return None,
    };
    Some(Shape::with([fields, base]))
}

/// What every event may have.
const RUN: &[Field] = &[optional("timestamp", Number), METADATA];
/// The same, and whose work it is.
const ANY: &[Field] = &[optional("timestamp", Number), METADATA, OWNER];

const METADATA: Field = optional("metadata", Map);
const OWNER: Field = optional("subagentRunId", Text);
const MESSAGE_ID: Field = required("messageId", Text);
const CALL_ID: Field = required("toolCallId", Text);
const THREAD_ID: Field = filled("threadId", Text, "\"\"");
const RUN_ID: Field = filled("runId", Text, "\"\"");
const USAGE: Field = optional("usage", ListOf { item: &Object(&TOKEN_USAGE), least: 0 });
const TEXT_ROLE: Rule = OneOf(&["developer", "system", "assistant", "user"]);

const RUN_STARTED: &[Field] =
    &[THREAD_ID, RUN_ID, optional("parentRunId", Text), optional("input", Object(&Shape::of(INPUT)))];
const RUN_FINISHED: &[Field] =
    &[THREAD_ID, RUN_ID, field("outcome", Tagged("type", RUN_OUTCOMES), Need::Nullable), USAGE];
const RUN_ERROR: &[Field] = &[filled("message", Words, "\"\""), optional("code", Text), USAGE];
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
    &[MESSAGE_ID, CALL_ID, required("content", Words), optional("role", OneOf(&["tool"]))];
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
    &[required("subagentRunId", Text), filled("message", Words, "\"\""), optional("code", Text)];

const TOKEN_USAGE: Shape = Shape::of(&[
    optional("provider", Text),
    optional("model", Text),
    optional("inputTokens", Count),
    optional("outputTokens", Count),
    optional("totalTokens", Count),
    optional("reasoningTokens", Count),
    optional("cachedInputTokens", Count),
]);

const RUN_OUTCOMES: &[(&str, Shape)] = &[
    ("success", Shape::strict(&[TYPE])),
    ("interrupt", Shape::strict(&[TYPE, required("interrupts", ListOf { item: &Object(&INTERRUPT), least: 1 })])),
];
const SUBAGENT_OUTCOMES: &[(&str, Shape)] = &[
    ("success", Shape::strict(&[TYPE])),
    ("suspended", Shape::strict(&[TYPE, optional("interruptIds", ListOf { item: &Text, least: 0 })])),
];
/// The tag of these, looked at before.
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
    filled("tools", ListOf { item: &Object(&TOOL), least: 0 }, "[]"),
    filled("context", ListOf { item: &Object(&CONTEXT), least: 0 }, "[]"),
    optional("resume", ListOf { item: &Object(&RESUME), least: 0 }),
];
const TOOL: Shape = Shape::of(&[required("name", Text), required("description", Text), METADATA]);
const CONTEXT: Shape = Shape::of(&[required("description", Text), required("value", Text)]);
const RESUME: Shape =
    Shape::of(&[required("interruptId", Text), required("status", OneOf(&["resolved", "cancelled"])), METADATA]);

const MESSAGES: Rule = ListOf { item: &Tagged("role", ROLES), least: 0 };
/// What every message has.
const MESSAGE: &[Field] = &[required("id", Text), METADATA, OWNER];
const ROLES: &[(&str, Shape)] = &[
    ("developer", Shape::with([MESSAGE, INSTRUCTIONS])),
    ("system", Shape::with([MESSAGE, INSTRUCTIONS])),
    ("assistant", Shape::with([MESSAGE, ASSISTANT])),
    ("user", Shape::with([MESSAGE, &[NAME, ENCRYPTED, required("content", Content)]])),
    ("tool", Shape::with([MESSAGE, &[CALL_ID, ENCRYPTED, required("content", Words), optional("error", Text)]])),
    ("activity", Shape::with([MESSAGE, &[required("activityType", Text), required("content", Map)]])),
    ("reasoning", Shape::with([MESSAGE, &[ENCRYPTED, required("content", Words)]])),
];
const NAME: Field = optional("name", Text);
const ENCRYPTED: Field = optional("encryptedValue", Text);
const INSTRUCTIONS: &[Field] = &[NAME, ENCRYPTED, required("content", Words)];
const ASSISTANT: &[Field] = &[
    NAME,
    ENCRYPTED,
    optional("content", Words),
    optional("toolCalls", ListOf { item: &Object(&TOOL_CALL), least: 0 }),
];
const TOOL_CALL: Shape = Shape::of(&[
    required("id", Text),
    filled("type", OneOf(&["function"]), "\"function\""),
    required("function", Object(&Shape::of(&[required("name", Text), required("arguments", Words)]))),
    ENCRYPTED,
    METADATA,
]);

/// The parts of a user's message.
pub(super) const PARTS: &[(&str, Shape)] = &[
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
/// One of `id`, `url` and `data` must say something.
const BINARY: Shape = Shape::of(&[
    required("mimeType", Text),
    optional("id", Text),
    optional("url", Text),
    optional("data", Text),
    optional("filename", Text),
]);

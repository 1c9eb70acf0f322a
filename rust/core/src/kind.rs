//! The kinds of AG-UI events and their names on the wire.
//!
//! Kinds are an open set: an event of an unknown kind is kept byte for byte.

// One list makes the enum, `ALL` and `from_name`, so that none of them can lack a kind.
macro_rules! kinds {
    ($($variant:ident $name:literal,)*) => {
        /// A kind of AG-UI 1.0 (docs/spec/agui.md §6.2), or `Unknown`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $name] $variant,)*
            /// A kind this version does not know.
            Unknown,
        }

        impl Kind {
            /// Every known kind with its name on the wire.
            pub const ALL: &'static [(Kind, &'static str)] = &[$((Kind::$variant, $name),)*];

            /// Look up a kind by its name on the wire.
            pub fn from_name(name: &str) -> Kind {
                match name {
                    $($name => Kind::$variant,)*
                    _ => Kind::Unknown,
                }
            }
        }
    };
}

kinds! {
    RunStarted "RUN_STARTED",
    RunFinished "RUN_FINISHED",
    RunError "RUN_ERROR",
    StepStarted "STEP_STARTED",
    StepFinished "STEP_FINISHED",
    TextMessageStart "TEXT_MESSAGE_START",
    TextMessageContent "TEXT_MESSAGE_CONTENT",
    TextMessageEnd "TEXT_MESSAGE_END",
    TextMessageChunk "TEXT_MESSAGE_CHUNK",
    ToolCallStart "TOOL_CALL_START",
    ToolCallArgs "TOOL_CALL_ARGS",
    ToolCallEnd "TOOL_CALL_END",
    ToolCallChunk "TOOL_CALL_CHUNK",
    ToolCallResult "TOOL_CALL_RESULT",
    StateSnapshot "STATE_SNAPSHOT",
    StateDelta "STATE_DELTA",
    MessagesSnapshot "MESSAGES_SNAPSHOT",
    ActivitySnapshot "ACTIVITY_SNAPSHOT",
    ActivityDelta "ACTIVITY_DELTA",
    ReasoningStart "REASONING_START",
    ReasoningEnd "REASONING_END",
    ReasoningMessageStart "REASONING_MESSAGE_START",
    ReasoningMessageContent "REASONING_MESSAGE_CONTENT",
    ReasoningMessageEnd "REASONING_MESSAGE_END",
    ReasoningMessageChunk "REASONING_MESSAGE_CHUNK",
    ReasoningEncryptedValue "REASONING_ENCRYPTED_VALUE",
    Raw "RAW",
    Custom "CUSTOM",
    SubagentStarted "SUBAGENT_STARTED",
    SubagentFinished "SUBAGENT_FINISHED",
    SubagentError "SUBAGENT_ERROR",
}

//! The events that end a run which did not end itself (docs/spec/compaction.md, "finalize").
use crate::event::object_of;
use crate::lifecycle::{Lifecycle, in_order, opened};
use crate::text;

/// How a run ends that did not end itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ending<'a> {
    /// Whether a stop was asked for: then the run is finished, else it is in error.
    pub stop_requested: bool,
    /// What interrupted the run, in words for the user.
    pub interruption_message: Option<&'a str>,
    /// The error's code, instead of `INCOMPLETE_STREAM`.
    pub code: Option<&'a str>,
    /// The thread's and the run's id, put into `RUN_FINISHED`.
    pub run: Option<(&'a str, &'a str)>,
}

impl Lifecycle {
    /// The events, as JSON, that end what is open and then the run; none if it has ended.
    pub fn finalize(&self, ending: &Ending<'_>) -> Vec<String> {
        let mut out = Vec::new();
        if self.ended() {
            return out;
        }
        for id in opened(&self.reasoning) {
            out.push(object(&[("type", "REASONING_MESSAGE_END"), ("messageId", id)]));
        }
        for id in in_order(self.spans.iter().map(|(id, at)| (*at, id.as_str()))) {
            out.push(object(&[("type", "REASONING_END"), ("messageId", id)]));
        }
        // Steps and subagents may stay open at an error, but not at RUN_FINISHED.
        if ending.stop_requested {
            let steps = self.steps.iter().flat_map(|(owner, steps)| {
                steps.names.iter().map(move |(name, at)| (*at, (owner.as_deref(), name.as_str())))
            });
            for (owner, name) in in_order(steps).into_iter().rev() {
                let mut fields = vec![("type", "STEP_FINISHED"), ("stepName", name)];
                fields.extend(owner.map(|owner| ("subagentRunId", owner)));
                out.push(object(&fields));
            }
            for id in self.open_subagents().into_iter().rev() {
                out.push(object(&[("type", "SUBAGENT_FINISHED"), ("subagentRunId", id)]));
            }
        }
        for id in opened(&self.messages) {
            out.push(object(&[("type", "TEXT_MESSAGE_END"), ("messageId", id)]));
        }
        let (message, content) = ending.words();
        for (id, call) in in_order(self.unanswered.iter().map(|(id, call)| (call.since, (id, call)))) {
            if !call.ended {
                out.push(object(&[("type", "TOOL_CALL_END"), ("toolCallId", id)]));
            }
            if !call.result {
                out.push(object(&[
                    ("type", "TOOL_CALL_RESULT"),
                    ("toolCallId", id),
                    ("messageId", &format!("{id}-result")),
                    ("role", "tool"),
                    ("content", &content),
                ]));
            }
        }
        out.push(match (ending.stop_requested, ending.run) {
            (true, Some((thread, run))) => object(&[("type", "RUN_FINISHED"), ("threadId", thread), ("runId", run)]),
            (true, None) => object(&[("type", "RUN_FINISHED")]),
            (false, _) => {
                let code = ending.code.unwrap_or("INCOMPLETE_STREAM");
                object(&[("type", "RUN_ERROR"), ("message", message), ("code", code)])
            }
        });
        out
    }
}

impl<'a> Ending<'a> {
    /// The message for the user, and the content of the results that never came.
    fn words(&self) -> (&'a str, String) {
        const STOPPED: &str = "Run stopped by user";
        let given = self.interruption_message;
        let (status, reason, message) = if self.stop_requested {
            ("stopped", "stop_requested", given.unwrap_or(STOPPED))
        } else {
            let given = given.filter(|given| !given.is_empty() && *given != STOPPED);
            ("error", "missing_terminal_event", given.unwrap_or("Run ended without emitting a terminal event"))
        };
        (message, object(&[("status", status), ("reason", reason), ("message", message)]))
    }
}

fn object(fields: &[(&str, &str)]) -> String {
    let quoted: Vec<_> = fields.iter().map(|(key, value)| (*key, text::quoted(value))).collect();
    object_of(quoted.iter().map(|(key, value)| (*key, value.as_str())))
}

//! The events that end a run without a terminal event (docs/spec/compaction.md, "finalize").
use crate::family::{Family, PerFamily};
use crate::lifecycle::{Lifecycle, open_ids, sort_by_time};
use crate::members::write_object;
use crate::text;

/// Why and how a run without a terminal event ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ending<'a> {
    /// Whether a stop was requested. The run then ends with `RUN_FINISHED`, otherwise with `RUN_ERROR`.
    pub stop_requested: bool,
    /// The reason for the interruption, as a text for the user.
    pub interruption_message: Option<&'a str>,
    /// The error's code, in place of `INCOMPLETE_STREAM`.
    pub code: Option<&'a str>,
    /// The thread's and the run's id, for `RUN_FINISHED`.
    pub run: Option<(&'a str, &'a str)>,
}

impl Lifecycle {
    /// Return the events, as JSON, that close what is open and end the run; none if it has ended.
    ///
    /// Each event is legal after those before it, because nested things are closed before the things around them.
    pub fn finalize(&self, ending: &Ending<'_>) -> Vec<String> {
        let mut out = Vec::new();
        if self.has_ended() {
            return out;
        }
        // Taken apart by name, so that a new family does not compile until it is closed here.
        let PerFamily { text, tool_call: _, reasoning } = &self.streams;
        let end_of = |family: Family, id: &str| {
            let row = family.row();
            object(&[("type", row.end), (row.id, id)])
        };
        // The reference leaves reasoning, steps and subagents open, and clients then refuse the end of the run
        // (docs/spec/reference-runners.md §2).
        out.extend(open_ids(reasoning).into_iter().map(|id| end_of(Family::Reasoning, id)));
        out.extend(self.open_spans().into_iter().map(|id| object(&[("type", "REASONING_END"), ("messageId", id)])));
        // Steps and subagents may be open at RUN_ERROR, but not at RUN_FINISHED.
        if ending.stop_requested {
            self.close_steps(&mut out);
            // The last opened comes first, because it may be inside an earlier one.
            for id in self.open_subagents().into_iter().rev() {
                out.push(object(&[("type", "SUBAGENT_FINISHED"), ("subagentRunId", id)]));
            }
        }
        out.extend(open_ids(text).into_iter().map(|id| end_of(Family::Text, id)));
        let (message, result) = ending.texts();
        for (id, call) in sort_by_time(self.unanswered.iter().map(|(id, call)| (call.opened_at, (id, call)))) {
            if !call.has_end {
                out.push(end_of(Family::ToolCall, id));
            }
            if !call.has_result {
                // The id, the role and the content are the reference's (docs/spec/compaction.md, "finalize").
                out.push(object(&[
                    ("type", "TOOL_CALL_RESULT"),
                    ("toolCallId", id),
                    ("messageId", &format!("{id}-result")),
                    ("role", "tool"),
                    ("content", &result),
                ]));
            }
        }
        out.push(match (ending.stop_requested, ending.run) {
            (true, Some((thread, run))) => object(&[("type", "RUN_FINISHED"), ("threadId", thread), ("runId", run)]),
            // The reference writes it without ids. A recorder always has them, because clients refuse one without.
            (true, None) => object(&[("type", "RUN_FINISHED")]),
            (false, _) => {
                let code = ending.code.unwrap_or("INCOMPLETE_STREAM");
                object(&[("type", "RUN_ERROR"), ("message", message), ("code", code)])
            }
        });
        out
    }

    /// Close all open steps, the last opened first.
    fn close_steps(&self, out: &mut Vec<String>) {
        let steps = self.steps.iter().flat_map(|(owner, steps)| {
            steps.names.iter().map(move |(name, opened_at)| (*opened_at, (owner.as_deref(), name.as_str())))
        });
        for (owner, name) in sort_by_time(steps).into_iter().rev() {
            let mut fields = vec![("type", "STEP_FINISHED"), ("stepName", name)];
            fields.extend(owner.map(|owner| ("subagentRunId", owner)));
            out.push(object(&fields));
        }
    }
}

impl<'a> Ending<'a> {
    /// Return the message for the user, and the content of the tool results that never came.
    fn texts(&self) -> (&'a str, String) {
        const STOPPED: &str = "Run stopped by user";
        let interruption = self.interruption_message;
        let (status, reason, message) = if self.stop_requested {
            ("stopped", "stop_requested", interruption.unwrap_or(STOPPED))
        } else {
            // The user did not stop a run that failed, even if the caller's default message says so.
            let interruption = interruption.filter(|message| !message.is_empty() && *message != STOPPED);
            let message = interruption.unwrap_or("Run ended without emitting a terminal event");
            ("error", "missing_terminal_event", message)
        };
        (message, object(&[("status", status), ("reason", reason), ("message", message)]))
    }
}

fn object(fields: &[(&str, &str)]) -> String {
    let quoted: Vec<_> = fields.iter().map(|(key, value)| (*key, text::quote(value))).collect();
    write_object(quoted.iter().map(|(key, value)| (*key, value.as_str())))
}

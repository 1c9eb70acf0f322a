//! The events that close what is open, and that end a run without a terminal event (docs/spec/compaction.md, "finalize").
use std::collections::HashSet;
use std::fmt;

use crate::event::Event;
use crate::family::{Family, PerFamily, Role};
use crate::lifecycle::{Lifecycle, open_ids, sort_by_time};
use crate::members::write_object;
use crate::{half_json, members, text};

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
    /// What is known of the run's calls. If nothing is, each unanswered call gets a result.
    pub calls: Option<Calls<'a>>,
}

/// The calls that get a result before the run ends, because nothing else will answer them.
///
/// A call that the agent has not finished writing always gets one. A tool in the input's `tools` is the client's: it
/// may run a finished call, and then its next run brings the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answering {
    /// All calls: after a stop the client runs nothing.
    All,
    /// Those of the agent's own tools.
    OwnTools,
    /// Those that the agent has not finished writing: an interrupt or the client answers the others.
    Unfinished,
}

/// What a recorder knows about a run's tool calls.
#[derive(Clone, Copy)]
pub struct Calls<'a> {
    /// The names of the client's tools.
    pub client_tools: &'a HashSet<String>,
    /// Returns a call's arguments so far, escaped.
    pub arguments: &'a dyn Fn(&str) -> &'a str,
    /// Returns whether no earlier run has a call of a snapshot, given its id and that of its message.
    pub is_new: &'a dyn Fn(&str, &str) -> bool,
}

impl fmt::Debug for Calls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("client_tools", self.client_tools).finish_non_exhaustive()
    }
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
        let (message, result) = ending.texts();
        // Steps and subagents may be open at RUN_ERROR, but not at RUN_FINISHED.
        self.close_messages(ending.stop_requested, &mut out);
        let answering = if ending.stop_requested { Answering::All } else { Answering::OwnTools };
        self.close_calls(answering, ending.calls, &result, &mut out);
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

    /// Return the events, as JSON, that close what is open before the agent's own terminal event.
    pub(crate) fn close_before(&self, terminal: &Event<'_>, calls: Calls<'_>) -> Vec<String> {
        let mut out = Vec::new();
        if self.has_ended() || !self.is_started() {
            return out;
        }
        let has_finished = terminal.role() == Role::RunFinished;
        self.close_messages(has_finished, &mut out);
        let outcome = terminal.get("outcome").and_then(|outcome| members::string_of(outcome, "type"));
        let has_pending = terminal.get("outcome").and_then(|outcome| members::value_of(outcome, "pendingToolCallIds"));
        let answering = match outcome.as_deref() {
            _ if !has_finished => Answering::OwnTools,
            Some("cancelled") => Answering::OwnTools,
            Some("interrupt") => Answering::Unfinished,
            _ if has_pending.is_some() => Answering::Unfinished,
            // An agent that answers some of its own calls was to answer the others too.
            _ if self.has_answered => Answering::OwnTools,
            _ => Answering::Unfinished,
        };
        let (reason, message) = if has_finished {
            ("no_result", "The run finished without a result of this tool call")
        } else {
            ("run_failed", "The run failed before this tool call had a result")
        };
        let result = object(&[("status", "error"), ("reason", reason), ("message", message)]);
        self.close_calls(answering, Some(calls), &result, &mut out);
        out
    }

    /// Close open messages and spans, and if the run is to finish in order, steps and subagents.
    fn close_messages(&self, finishes: bool, out: &mut Vec<String>) {
        // Taken apart by name, so that a new family does not compile until it is closed here.
        let PerFamily { text, tool_call: _, reasoning } = &self.streams;
        // The reference leaves reasoning, steps and subagents open, and clients then refuse the end of the run
        // (docs/spec/reference-runners.md §2).
        out.extend(open_ids(reasoning).into_iter().map(|id| end_of(Family::Reasoning, id)));
        out.extend(self.open_spans().into_iter().map(|id| object(&[("type", "REASONING_END"), ("messageId", id)])));
        if finishes {
            self.close_steps(out);
            // The last opened comes first, because it may be inside an earlier one.
            for id in self.open_subagents().into_iter().rev() {
                out.push(object(&[("type", "SUBAGENT_FINISHED"), ("subagentRunId", id)]));
            }
        }
        out.extend(open_ids(text).into_iter().map(|id| end_of(Family::Text, id)));
    }

    /// Close open tool calls, and add the results that will never come.
    fn close_calls(&self, answering: Answering, calls: Option<Calls<'_>>, result: &str, out: &mut Vec<String>) {
        // An open interrupt may ask about a call of an earlier run.
        let is_new = |id: &str, message: &str| calls.is_some_and(|calls| (calls.is_new)(id, message));
        let unstarted = self.unstarted.iter().filter(|(id, call)| is_new(id, &call.message));
        let unanswered = self.unanswered.iter().chain(unstarted.map(|(id, call)| (id, &call.call)));
        for (id, call) in sort_by_time(unanswered.map(|(id, call)| (call.opened_at, (id, call)))) {
            let mut is_whole = call.has_end;
            // The reference does not look into snapshots; a recorder must not answer a call twice, or one that is gone.
            let is_settled = calls.is_some() && self.settled.contains(id);
            if !call.has_end {
                if let Some(calls) = calls.filter(|_| !is_settled) {
                    let arguments = (calls.arguments)(id);
                    let rest = half_json::complete(arguments);
                    // A model service refuses a history with arguments that are not JSON.
                    if let Some(rest) = rest.as_deref().filter(|rest| !rest.is_empty()) {
                        out.push(object(&[("type", "TOOL_CALL_ARGS"), ("toolCallId", id), ("delta", rest)]));
                    }
                    // The agent may only have left out the END, of a tool without arguments for example.
                    let has_all = arguments.is_empty() || rest.is_some_and(|rest| rest.is_empty());
                    is_whole = has_all && answering == Answering::Unfinished;
                }
                out.push(end_of(Family::ToolCall, id));
            }
            let is_clients = calls.is_some_and(|calls| calls.client_tools.contains(&call.tool));
            let is_awaited = match answering {
                Answering::All => false,
                Answering::OwnTools => is_whole && is_clients,
                Answering::Unfinished => is_whole,
            };
            if !call.has_result && !is_settled && !is_awaited {
                // The id, the role and the content are the reference's (docs/spec/compaction.md, "finalize").
                out.push(object(&[
                    ("type", "TOOL_CALL_RESULT"),
                    ("toolCallId", id),
                    ("messageId", &format!("{id}-result")),
                    ("role", "tool"),
                    ("content", result),
                ]));
            }
        }
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

fn end_of(family: Family, id: &str) -> String {
    let row = family.row();
    object(&[("type", row.end), (row.id, id)])
}

fn object(fields: &[(&str, &str)]) -> String {
    let quoted: Vec<_> = fields.iter().map(|(key, value)| (*key, text::quote(value))).collect();
    write_object(quoted.iter().map(|(key, value)| (*key, value.as_str())))
}

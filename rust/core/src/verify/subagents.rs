//! The rules about subagents: each runs once, under a parent that was started.
use super::{refuse, refuse_null, require_id};
use crate::error::Result;
use crate::event::Event;
use crate::family::Edge;
use crate::kind::Kind;
use crate::lifecycle::Lifecycle;
use crate::{members, scan, text};

impl Lifecycle {
    /// Refuse an id that was used before, an unknown parent, and an end without a start (rule 12).
    pub(super) fn verify_subagent(&self, event: &Event<'_>, edge: Edge) -> Result<()> {
        let name = event.type_name();
        let (optional, required): (&[_], _) = match event.kind() {
            Kind::SubagentStarted => {
                (&["description", "parentSubagentRunId", "parentToolCallId", "parentMessageId"], Some("name"))
            }
            Kind::SubagentFinished => (&["outcome"], None),
            _ => (&["code"], Some("message")),
        };
        if let Some(field) = optional.iter().find(|field| event.is_null(field)) {
            return refuse_null(event, field);
        }
        verify_outcome(event)?;
        let id = require_id(event, "subagentRunId")?;
        if let Some(field) = required.filter(|field| event.escaped_text(field).is_none()) {
            return refuse(format!("Cannot send '{name}' without a '{field}'."));
        }
        match (edge, self.subagents.get(&*id)) {
            (Edge::Close, Some(Some(_))) => Ok(()),
            (Edge::Close, _) => refuse(format!(
                "Cannot send '{name}': no active subagent found with ID '{id}'. A 'SUBAGENT_STARTED' event must be \
                 sent first."
            )),
            (Edge::Open, Some(Some(_))) => refuse(format!(
                "Cannot send 'SUBAGENT_STARTED': subagent '{id}' is already active. Finish it with \
                 'SUBAGENT_FINISHED' first."
            )),
            (Edge::Open, Some(None)) => refuse(format!(
                "Cannot send 'SUBAGENT_STARTED': subagent '{id}' has already finished in this run. Subagent IDs are \
                 per-invocation and cannot be reused."
            )),
            (Edge::Open, None) => match event.string("parentSubagentRunId") {
                // A closed parent is known too, and only an unknown one is refused (docs/spec/agui.md §6.5, rule 12).
                Some(parent) if !self.subagents.contains_key(&*parent) => refuse(format!(
                    "Cannot send 'SUBAGENT_STARTED': parentSubagentRunId '{parent}' has not been started in this run."
                )),
                _ => Ok(()),
            },
        }
    }
}

fn verify_outcome(event: &Event<'_>) -> Result<()> {
    let name = event.type_name();
    let Some(outcome) = event.get("outcome").filter(|outcome| *outcome != "null") else { return Ok(()) };
    if !matches!(members::string_of(outcome, "type").as_deref(), Some("success" | "suspended")) {
        let outcome_type = members::value_of(outcome, "type").map_or("undefined".into(), text::display);
        return refuse(format!(
            "Cannot send '{name}' with outcome type '{outcome_type}'. The outcome is either {{ type: \"success\" }} \
             or {{ type: \"suspended\" }}."
        ));
    }
    let ids = members::value_of(outcome, "interruptIds").unwrap_or_default();
    if ids == "null" {
        return refuse_null(event, "outcome.interruptIds");
    }
    if scan::elements(ids).iter().any(|id| !id.starts_with('"')) {
        return refuse(format!(
            "Cannot send '{name}' with a non-string entry in 'outcome.interruptIds'. Interrupt ids are strings."
        ));
    }
    Ok(())
}

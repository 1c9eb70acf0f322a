//! The path of an agent's event into the recorder: it is checked, renamed, corrected, expanded and given ids.
use std::borrow::Cow;
use std::collections::HashSet;

use super::{LARGE_EVENT_BYTES, Pressure, Recorder};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::family::{Family, Role};
use crate::ids::Rewrite;
use crate::kind::Kind;
use crate::{entries, half_json, schema, text};

impl Recorder {
    /// Record an event the agent yielded.
    ///
    /// On an error, nothing of the event is recorded except the END of a stream that earlier chunks had opened.
    pub fn accept(&mut self, json: &[u8]) -> Result<Pressure> {
        self.accept_within(json, false)
    }

    /// Record an event, unless that takes more than a few milliseconds; then return [`Error::TakesLong`].
    ///
    /// The caller can pass such an event to [`Recorder::accept`] in another thread.
    pub fn accept_briefly(&mut self, json: &[u8]) -> Result<Pressure> {
        if json.len() > LARGE_EVENT_BYTES && json.len() <= self.limits.event_bytes {
            return Err(Error::TakesLong);
        }
        self.accept_within(json, true)
    }

    fn accept_within(&mut self, json: &[u8], is_brief: bool) -> Result<Pressure> {
        self.is_brief = is_brief;
        if json.len() > self.limits.event_bytes {
            let (size, limit) = (json.len(), self.limits.event_bytes);
            return Err(Error::InvalidEvent(format!("an event of {size} bytes is over the limit of {limit}")));
        }
        let event = Event::parse(json)?;
        if event.kind() == Kind::Raw && !self.keeps_raw_events {
            return Ok(self.pressure());
        }
        let takes_input = event.kind() == Kind::RunStarted && event.get("input").is_none();
        if is_brief && event.kind() == Kind::RunStarted {
            let input_bytes = if takes_input { self.input.len() } else { 0 };
            if input_bytes + self.lineage.opening_bytes() > LARGE_EVENT_BYTES {
                return Err(Error::TakesLong);
            }
        }
        self.wanted =
            if takes_input { self.ids.wanted_by_input(&self.input) } else { self.ids.wanted(&event, &self.lifecycle) };
        if !self.wanted.is_empty() {
            return Ok(Pressure::LookUp);
        }
        if event.kind() == Kind::Unknown {
            let mut translated = Vec::new();
            // The retired kinds are unknown kinds, so this does not slow down other events.
            if self.thinking.push(&event, &mut translated) {
                translated.iter().try_for_each(|json| self.conform(&Event::parse_str(json)?))?;
                return Ok(self.pressure());
            }
        }
        self.conform(&event)?;
        Ok(self.pressure())
    }

    /// Record an event in the form of the 1.0 schema, without fields that the run does not keep.
    fn conform(&mut self, event: &Event<'_>) -> Result<()> {
        if !self.keeps_raw_events && event.kind() != Kind::Unknown && event.get("rawEvent").is_some() {
            let json = event.without_field("rawEvent");
            return self.conform(&Event::parse_str(&json)?);
        }
        match schema::conform(event)? {
            Cow::Borrowed(_) => self.expand(event),
            Cow::Owned(json) => self.expand(&Event::parse_str(&json)?),
        }
    }

    fn expand(&mut self, event: &Event<'_>) -> Result<()> {
        // Ids are checked before chunks are expanded, because expanding copies them into other events.
        event.check_ids(self.limits.id_bytes)?;
        let mut expanded = std::mem::take(&mut self.expanded);
        expanded.clear();
        let arguments =
            |id: &str, owner: Option<&str>| self.compactor.text_of(Family::ToolCall, self.ids.last_call(id, owner));
        match event.role() {
            Role::Chunk(Family::ToolCall) => {
                let is_whole = |id: &str, owner: Option<&str>| {
                    let arguments = arguments(id, owner);
                    arguments.ends_with('}') && half_json::complete(arguments).is_some_and(|rest| rest.is_empty())
                };
                expanded.extend(self.expander.end_call(event, is_whole));
            }
            Role::RunFinished | Role::RunError => self.expander.forget_calls(|id, owner| {
                // Such a call is completed together with all other open items; the agent has not ended it.
                let arguments = arguments(id, owner);
                !arguments.is_empty() && half_json::complete(arguments).is_some_and(|rest| !rest.is_empty())
            }),
            _ => {}
        }
        let is_changed = self.expander.push(event, &mut expanded)?;
        let result = if is_changed {
            expanded.iter().try_for_each(|json| self.identify(&Event::parse_str(json)?))
        } else {
            self.identify(event)
        };
        self.expanded = expanded;
        result
    }

    #[inline]
    fn identify(&mut self, event: &Event<'_>) -> Result<()> {
        match self.ids.rewrite(event, &self.lifecycle) {
            Rewrite::Same => self.verify(event),
            Rewrite::Changed(json) => self.verify(&Event::parse_str(&json)?),
            Rewrite::Nothing => Ok(()),
        }
    }

    /// Record one of the recorder's own events; if a result's message id is already used in the run, it gets a new one.
    pub(super) fn verify_own(&mut self, event: &Event<'_>) -> Result<()> {
        let is_taken = |id: Cow<'_, str>| self.message_ids.contains(&*id);
        match event.string("toolCallId").filter(|_| event.string("messageId").is_some_and(is_taken)) {
            Some(call) if event.role() == Role::ToolResult => {
                let json = event.with_field("messageId", &text::quote(&entries::own_result_id(&call)));
                self.verify(&Event::parse_str(&json)?)
            }
            _ => self.verify(event),
        }
    }

    /// Return the entries that the last event needs, if `accept` asked to look them up.
    pub fn wanted(&self) -> &[String] {
        &self.wanted
    }

    /// Take the result of the last lookup: the wanted entries that the thread has.
    pub fn learn(&mut self, known: &HashSet<String>) {
        self.ids.learn(std::mem::take(&mut self.wanted), known);
    }

    /// Look up what tells which calls of a snapshot of messages are the run's; see [`Recorder::wanted`].
    pub fn prepare_end(&mut self) {
        self.wanted = self.ids.wanted_by_end(&self.lifecycle);
    }

    /// Return the id that clients see for a call with an agent's id; see [`Ids::newest_call`].
    pub fn newest_call(&self, id: &str, owner: Option<&str>, skip: usize) -> String {
        self.ids.newest_call(id, owner, skip)
    }
}

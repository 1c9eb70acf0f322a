//! Replace an agent's ids in its events.
use super::{Call, Ids, Rewrite};
use crate::entries::{self, Class};
use crate::event::Event;
use crate::family::{Edge, Family, Part, Role};
use crate::{members, text};

impl Ids {
    /// Note the ids that an event uses, and replace them; nothing may be [`Ids::wanted`] for it any more.
    pub fn rewrite(&mut self, event: &Event<'_>) -> Rewrite {
        match event.role() {
            Role::Stream(Family::ToolCall, part) => self.rewrite_call(event, part),
            Role::Stream(family, Part::Start) => self.start_message(family, event),
            Role::Stream(family, part) => self.continue_message(family, part, event),
            Role::Span(edge) => self.rewrite_span(event, edge),
            Role::ToolResult => self.rewrite_result(event),
            Role::ActivitySnapshot | Role::ActivityDelta => {
                let Some(id) = event.string("messageId") else { return Rewrite::Same };
                let own = self.message_id(Class::Activity, &id, false).unwrap_or_else(|_| id.clone().into_owned());
                if event.role() == Role::ActivitySnapshot {
                    self.classes.insert(own.clone(), Class::Activity);
                }
                replace(event, &[("messageId", &own)])
            }
            Role::EncryptedValue => {
                let Some(id) = event.string("entityId") else { return Rewrite::Same };
                self.entity_id(event, &id).map_or(Rewrite::Same, |own| replace(event, &[("entityId", &own)]))
            }
            Role::Subagent(Edge::Open) => {
                let call = event.string("parentToolCallId").and_then(|id| self.call_id(&id, 0).ok());
                let message = event.string("parentMessageId").and_then(|id| self.parent_id(&id).ok());
                let fields = [("parentToolCallId", call), ("parentMessageId", message)];
                replace(
                    event,
                    &fields.iter().filter_map(|(name, id)| Some((*name, id.as_deref()?))).collect::<Vec<_>>(),
                )
            }
            Role::RunFinished => self.rewrite_outcome(event),
            Role::MessagesSnapshot => self.rewrite_snapshot(event),
            Role::RunStarted
            | Role::RunError
            | Role::Chunk(_)
            | Role::Step(_)
            | Role::Subagent(Edge::Close)
            | Role::StateSnapshot
            | Role::StateDelta
            | Role::Raw
            | Role::Custom
            | Role::Unknown => Rewrite::Same,
        }
    }

    fn start_message(&mut self, family: Family, event: &Event<'_>) -> Rewrite {
        let Some(id) = event.string("messageId") else { return Rewrite::Same };
        let class = Class::of_family(family, event);
        let own = self.message_id(class, &id, false).unwrap_or_else(|_| id.clone().into_owned());
        self.classes.insert(own.clone(), class);
        let key = (family, id.into_owned());
        if key.1 == own {
            self.open.remove(&key);
            return Rewrite::Same;
        }
        let changed = replace(event, &[("messageId", &own)]);
        self.open.insert(key, own);
        changed
    }

    #[inline]
    fn continue_message(&mut self, family: Family, part: Part, event: &Event<'_>) -> Rewrite {
        // Almost every event of a run ends here.
        if self.open.is_empty() {
            return Rewrite::Same;
        }
        let Some(id) = event.string("messageId") else { return Rewrite::Same };
        let key = (family, id.into_owned());
        let Some(own) = self.open.get(&key) else { return Rewrite::Same };
        let changed = replace(event, &[("messageId", own)]);
        if part == Part::End {
            self.open.remove(&key);
        }
        changed
    }

    fn rewrite_span(&mut self, event: &Event<'_>, edge: Edge) -> Rewrite {
        let Some(id) = event.string("messageId") else { return Rewrite::Same };
        let own = match edge {
            Edge::Open => {
                let own = self.message_id(Class::Reasoning, &id, true).unwrap_or_else(|_| id.clone().into_owned());
                if own != id {
                    self.spans.insert(id.into_owned(), own.clone());
                }
                own
            }
            // It ends under the id that it started with, even if something else has used the agent's id since.
            Edge::Close => self.spans.remove(&*id).unwrap_or_else(|| id.into_owned()),
        };
        replace(event, &[("messageId", &own)])
    }

    #[inline]
    fn rewrite_call(&mut self, event: &Event<'_>, part: Part) -> Rewrite {
        if part == Part::Start {
            return self.start_own_call(event);
        }
        if part == Part::Delta && !self.has_own_calls {
            return Rewrite::Same;
        }
        let Some(id) = event.string("toolCallId") else { return Rewrite::Same };
        let Some(call) = self.calls.get_mut(&*id).and_then(|calls| calls.last_mut()) else { return Rewrite::Same };
        let was_open = call.is_open;
        call.is_open &= part != Part::End;
        if call.is_repeat && was_open {
            return Rewrite::Nothing;
        }
        replace(event, &[("toolCallId", &call.own)])
    }

    fn start_own_call(&mut self, event: &Event<'_>) -> Rewrite {
        let Some(id) = event.string("toolCallId") else { return Rewrite::Same };
        let (own, is_repeat) = self.start_call(&id).unwrap_or_else(|_| (id.clone().into_owned(), false));
        let parent = match event.string("parentMessageId") {
            Some(parent) => self.parent_id(&parent).ok(),
            None => self.parent_of_call(&id).ok().flatten(),
        };
        self.classes.entry(parent.clone().unwrap_or_else(|| own.clone())).or_insert(Class::Text);
        self.has_own_calls |= own != id || is_repeat;
        let number = entries::split_own_id(&own).1.max(self.numbers.get(&*id).copied().unwrap_or_default());
        self.numbers.insert(id.clone().into_owned(), if own == id { number.max(1) } else { number });
        if own != id {
            // If the agent itself uses this id later, it means another call.
            self.numbers.entry(own.clone()).or_insert(1);
        }
        let changed = match &parent {
            Some(parent) if event.string("parentMessageId").is_none() => {
                Rewrite::Changed(event.with_field("parentMessageId", &text::quote(parent)))
            }
            Some(parent) => replace(event, &[("toolCallId", &own), ("parentMessageId", parent)]),
            None => replace(event, &[("toolCallId", &own)]),
        };
        let is_clients = event.string("toolCallName").is_some_and(|name| self.client_tools.contains(&*name));
        let calls = self.calls.entry(id.into_owned()).or_default();
        // A second START of an open call is not a second call; the rules of order refuse it.
        if calls.last().is_none_or(|call| !call.is_open) {
            // The result of a call that a snapshot has removed is not this call's.
            self.answered.remove(&own);
            calls.push(Call { own, is_open: true, is_clients, is_repeat });
        }
        if is_repeat { Rewrite::Nothing } else { changed }
    }

    fn rewrite_result(&mut self, event: &Event<'_>) -> Rewrite {
        let (Some(call), Some(message)) = (event.string("toolCallId"), event.string("messageId")) else {
            return Rewrite::Same;
        };
        let Ok((call, message)) = self.result_ids(&call, &message) else { return Rewrite::Same };
        let changed = replace(event, &[("toolCallId", &call), ("messageId", &message)]);
        self.answered.insert(call.clone());
        self.classes.insert(message.clone(), Class::Tool);
        self.results.insert(message);
        changed
    }

    fn rewrite_outcome(&self, event: &Event<'_>) -> Rewrite {
        let Some(outcome) = event.get("outcome").filter(|outcome| outcome.contains("oolCallId")) else {
            return Rewrite::Same;
        };
        // If an id comes twice, it means two calls.
        let mut seen: Vec<String> = Vec::new();
        let mut own = |value: &str| {
            let id = text::unquote(value).and_then(text::decode)?;
            let skip = seen.iter().filter(|other| **other == id).count();
            seen.push(id.clone().into_owned());
            Some(text::quote(&self.call_id(&id, skip).ok()?))
        };
        let changed = entries::replace_members(outcome, |key, value| match key {
            "pendingToolCallIds" => {
                Some(entries::replace_elements(value, |id| own(id).unwrap_or_else(|| id.to_owned())))
            }
            "interrupts" => Some(entries::replace_elements(value, |interrupt| {
                entries::replace_members(interrupt, |key, value| (key == "toolCallId").then(|| own(value)).flatten())
            })),
            _ => None,
        });
        if changed == outcome { Rewrite::Same } else { Rewrite::Changed(event.with_field("outcome", &changed)) }
    }
}

/// Replace fields of an event by these ids, where they differ.
fn replace(event: &Event<'_>, fields: &[(&str, &str)]) -> Rewrite {
    let is_same = |name: &str, id: &str| event.string(name).is_some_and(|value| value == id);
    if fields.iter().all(|(name, id)| is_same(name, id)) {
        return Rewrite::Same;
    }
    let values: Vec<_> = fields.iter().map(|(name, id)| (*name, text::quote(id))).collect();
    let new_value = |key: &str| values.iter().find(|(name, _)| text::is_same(key, name)).map(|(_, id)| id.as_str());
    Rewrite::Changed(members::write_object(event.members().map(|(key, value)| (key, new_value(key).unwrap_or(value)))))
}

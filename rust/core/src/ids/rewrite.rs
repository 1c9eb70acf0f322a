//! Replace an agent's ids in its events.
use super::call::{Call, continued_call};
use super::{Ids, Rewrite};
use crate::entries::{self, Class};
use crate::event::Event;
use crate::family::{Edge, Family, Part, Role};
use crate::lifecycle::{Entity, Lifecycle, Owner};
use crate::{members, text};

impl Ids {
    /// Note the ids that an event uses, and replace them; nothing may be [`Ids::wanted`] for it any more.
    pub fn rewrite(&mut self, event: &Event<'_>, run: &Lifecycle) -> Rewrite {
        match event.role() {
            Role::Stream(Family::ToolCall, part) => self.rewrite_call(event, part, run),
            Role::Stream(family, Part::Start) => self.start_message(family, event, run),
            Role::Stream(family, part) => self.continue_message(family, part, event, run),
            Role::Span(edge) => self.rewrite_span(event, edge, run),
            Role::ToolResult => self.rewrite_result(event),
            Role::ActivitySnapshot | Role::ActivityDelta => self.rewrite_activity(event, run),
            Role::EncryptedValue => {
                let Some(id) = event.string("entityId") else { return Rewrite::Same };
                self.entity_id(event, &id).map_or(Rewrite::Same, |own| replace(event, &[("entityId", &own)]))
            }
            Role::Subagent(Edge::Open) => {
                let owner = event.string("parentSubagentRunId");
                let owner = owner.as_deref();
                let call = event.string("parentToolCallId").and_then(|id| self.call_id(&id, owner, 0).ok());
                let message = event.string("parentMessageId").and_then(|id| self.parent_id(&id, owner, run).ok());
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

    fn start_message(&mut self, family: Family, event: &Event<'_>, run: &Lifecycle) -> Rewrite {
        let Some(id) = event.string("messageId") else { return Rewrite::Same };
        let (class, owner) = (Class::of_family(family, event), owner_of(event));
        let [own, base] = self.started_id(family, class, &id, &owner, run);
        self.note_owned(class, &id, &owner, &base, &own);
        self.classes.insert(own.clone(), class);
        self.open.open(Some(family), &id, owner, &own);
        replace(event, &[("messageId", &own)])
    }

    #[inline]
    fn continue_message(&mut self, family: Family, part: Part, event: &Event<'_>, run: &Lifecycle) -> Rewrite {
        // Almost every event of a run ends here.
        if self.open.is_empty() {
            return Rewrite::Same;
        }
        let Some(id) = event.string("messageId") else { return Rewrite::Same };
        let is_open = run.streams[family].get(&*id).is_some_and(Entity::is_open);
        let own = self.open.find(Some(family), &id, &owner_of(event), is_open).unwrap_or(&id).to_owned();
        if part == Part::End {
            self.open.close(Some(family), &id, &own);
        }
        replace(event, &[("messageId", &own)])
    }

    fn rewrite_span(&mut self, event: &Event<'_>, edge: Edge, run: &Lifecycle) -> Rewrite {
        let Some(id) = event.string("messageId") else { return Rewrite::Same };
        let owner = owner_of(event);
        let own = match edge {
            Edge::Open => {
                let [own, base] = self.span_id(&id, &owner, run);
                self.note_owned(Class::Reasoning, &id, &owner, &base, &own);
                self.open.open(None, &id, owner, &own);
                own
            }
            // It ends under the id that it started with, even if something else has used the agent's id since.
            Edge::Close => {
                let own = self.open.find(None, &id, &owner, run.spans.contains_key(&*id)).unwrap_or(&id).to_owned();
                self.open.close(None, &id, &own);
                own
            }
        };
        replace(event, &[("messageId", &own)])
    }

    fn rewrite_activity(&mut self, event: &Event<'_>, run: &Lifecycle) -> Rewrite {
        let Some(id) = event.string("messageId") else { return Rewrite::Same };
        let (owner, starts) = (owner_of(event), event.role() == Role::ActivitySnapshot);
        let [own, base] = self.activity_id(&id, &owner, starts, run);
        if starts {
            self.note_owned(Class::Activity, &id, &owner, &base, &own);
            self.classes.insert(own.clone(), Class::Activity);
        }
        replace(event, &[("messageId", &own)])
    }

    #[inline]
    fn rewrite_call(&mut self, event: &Event<'_>, part: Part, run: &Lifecycle) -> Rewrite {
        if part == Part::Start {
            return self.start_own_call(event, run);
        }
        if part == Part::Delta && !self.has_own_calls {
            return Rewrite::Same;
        }
        let Some(id) = event.string("toolCallId") else { return Rewrite::Same };
        let Some(calls) = self.calls.get_mut(&*id) else { return Rewrite::Same };
        let Some(index) = continued_call(calls, event.subagent().as_deref()) else { return Rewrite::Same };
        let call = &mut calls[index];
        let was_open = call.is_open;
        call.is_open &= part != Part::End;
        if call.is_repeat && was_open {
            return Rewrite::Nothing;
        }
        replace(event, &[("toolCallId", &call.own)])
    }

    fn start_own_call(&mut self, event: &Event<'_>, run: &Lifecycle) -> Rewrite {
        let Some(id) = event.string("toolCallId") else { return Rewrite::Same };
        let owner = self.owner_of_call(event, run);
        if (self.repeats > 0 || self.interrupted.is_some())
            && let Ok(calls) = self.number(&id).and_then(|number| self.repeatable_calls(&id, number))
        {
            self.repeatable.entry(id.clone().into_owned()).or_insert(calls);
        }
        let (own, is_repeat) = self.start_call(&id, &owner).unwrap_or_else(|_| (id.clone().into_owned(), false));
        let parent = match event.string("parentMessageId") {
            Some(parent) => self.own_parent(&parent, event.subagent().as_deref(), run),
            None => self.parent_of_call(&id).ok().flatten(),
        };
        let message = parent.clone().unwrap_or_else(|| own.clone());
        self.parents.entry(message.clone()).or_insert_with(|| owner.clone());
        self.classes.entry(message).or_insert(Class::Text);
        self.has_own_calls |= own != id || is_repeat;
        let number = entries::split_own_id(&own).1.max(self.number(&id).unwrap_or_default());
        self.numbers.insert(id.clone().into_owned(), if own == id { number.max(1) } else { number });
        if own != id {
            // If the agent itself uses this id later, it means another call.
            self.numbers.entry(own.clone()).or_insert(1);
        }
        let changed = match &parent {
            Some(parent) if event.string("parentMessageId").is_none() => {
                let json = event.with_field("parentMessageId", &text::quote(parent));
                Rewrite::Changed(json)
            }
            Some(parent) => replace(event, &[("toolCallId", &own), ("parentMessageId", parent)]),
            None => replace(event, &[("toolCallId", &own)]),
        };
        let is_clients = event.string("toolCallName").is_some_and(|name| self.client_tools.contains(&*name));
        let calls = self.calls.entry(id.into_owned()).or_default();
        // A second START of an open call is not a second call; the rules of order refuse it.
        if calls.iter().all(|call| !call.is_open || call.own != own) {
            // The result of a call that a snapshot has removed is not this call's.
            self.answered.remove(&own);
            self.shown.remove(&own);
            calls.push(Call { own, owner, is_open: true, is_clients, is_repeat });
        }
        if is_repeat { Rewrite::Nothing } else { changed }
    }

    /// Return the id that clients see for a call's parent message, and note whose message it is.
    fn own_parent(&mut self, id: &str, owner: Option<&str>, run: &Lifecycle) -> Option<String> {
        let (own, base) = (self.parent_id(id, owner, run).ok()?, self.message_id(Class::Text, id, true).ok()?);
        if own != id {
            self.note_owned(Class::Text, id, &owner.map(str::to_owned), &base, &own);
        }
        Some(own)
    }

    fn rewrite_result(&mut self, event: &Event<'_>) -> Rewrite {
        let (Some(call), Some(message)) = (event.string("toolCallId"), event.string("messageId")) else {
            return Rewrite::Same;
        };
        let Ok(ids) = self.result_ids(&call, &message, event.subagent().as_deref()) else { return Rewrite::Same };
        // Clients would show a second result, and model services refuse a history with two of one call.
        let Some((call, message)) = ids else { return Rewrite::Nothing };
        let changed = replace(event, &[("toolCallId", &call), ("messageId", &message)]);
        self.answered.insert(call.clone());
        self.shown.insert(call);
        self.classes.insert(message.clone(), Class::Tool);
        self.results.insert(message);
        changed
    }

    fn rewrite_outcome(&self, event: &Event<'_>) -> Rewrite {
        let Some(outcome) = event.get("outcome").filter(|outcome| outcome.contains("oolCallId")) else {
            return Rewrite::Same;
        };
        // If an id comes twice, it means two calls.
        let mut seen: Vec<(String, Owner)> = Vec::new();
        let mut own = |value: &str, owner: Owner| {
            let id = text::unquote(value).and_then(text::decode)?.into_owned();
            let skip = seen.iter().filter(|(other, its_owner)| *other == id && *its_owner == owner).count();
            let own = self.call_id(&id, owner.as_deref(), skip).ok()?;
            seen.push((id, owner));
            Some(text::quote(&own))
        };
        let changed = entries::replace_members(outcome, |key, value| match key {
            "pendingToolCallIds" => {
                Some(entries::replace_elements(value, |id| own(id, None).unwrap_or_else(|| id.to_owned())))
            }
            "interrupts" => Some(entries::replace_elements(value, |interrupt| {
                let owner = members::string_of(interrupt, "subagentRunId").map(std::borrow::Cow::into_owned);
                let mut own = |value: &str| own(value, owner.clone());
                entries::replace_members(interrupt, |key, value| (key == "toolCallId").then(|| own(value)).flatten())
            })),
            _ => None,
        });
        if changed == outcome { Rewrite::Same } else { Rewrite::Changed(event.with_field("outcome", &changed)) }
    }
}

fn owner_of(event: &Event<'_>) -> Owner {
    event.subagent().map(std::borrow::Cow::into_owned)
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

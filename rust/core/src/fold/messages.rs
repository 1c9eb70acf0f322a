//! The messages of a thread in order, found by id without a search.
use std::collections::HashMap;

use crate::json::{Json, canonical};
use crate::text;

/// The roles the reducer tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Assistant,
    Tool,
    Activity,
    Reasoning,
    Other,
}

impl Role {
    /// A message's role.
    pub(super) fn of(message: &Json) -> Self {
        match message.get("role").and_then(Json::as_escaped).map(canonical).as_deref() {
            Some("assistant") => Self::Assistant,
            Some("tool") => Self::Tool,
            Some("activity") => Self::Activity,
            Some("reasoning") => Self::Reasoning,
            _ => Self::Other,
        }
    }
}

#[derive(Debug)]
struct Slot {
    message: Json,
    role: Role,
    next: Option<usize>,
}

/// Messages, linked in order: tool results go in the middle without moving the rest.
#[derive(Debug, Default)]
pub(super) struct Messages {
    slots: Vec<Slot>,
    first: Option<usize>,
    last: Option<usize>,
    /// The first message of an id; ids in canonical escapes.
    ids: HashMap<String, usize>,
    /// The first message of a tool call's id, and the call's place in it.
    calls: HashMap<String, (usize, usize)>,
    /// Whether a tool call's id came twice: then one that goes away may uncover another.
    repeated_calls: bool,
    /// Whether ever a message was put elsewhere than at the end, went away, or came under an id already there.
    pub(super) shuffled: bool,
}

impl Messages {
    /// The messages in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Json> {
        std::iter::successors(self.first, |&slot| self.slots[slot].next).map(|slot| &self.slots[slot].message)
    }

    /// The first message of this (escaped) id.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.ids.get(&*canonical(id)).copied()
    }

    /// A message, to be changed; its id, role and tool calls' ids are left alone.
    pub(super) fn get_mut(&mut self, slot: usize) -> &mut Json {
        &mut self.slots[slot].message
    }

    /// A message's role.
    pub(super) fn role(&self, slot: usize) -> Role {
        self.slots[slot].role
    }

    /// Puts a message at the end.
    pub(super) fn push(&mut self, message: Json) -> usize {
        let slot = self.keep(message);
        match self.last {
            Some(last) => self.slots[last].next = Some(slot),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
        self.index(slot);
        slot
    }

    /// Puts a tool call's result behind the first assistant's message of that call and the results that follow it;
    /// at the end if there is none.
    pub(super) fn push_result(&mut self, call: &str, message: Json) {
        let Some(mut before) = self.assistant_of(call).map(|(slot, _)| slot) else {
            self.push(message);
            return;
        };
        while let Some(next) = self.slots[before].next.filter(|&next| self.slots[next].role == Role::Tool) {
            before = next;
        }
        let Some(next) = self.slots[before].next else {
            self.push(message);
            return;
        };
        let slot = self.keep(message);
        self.shuffled = true;
        self.slots[slot].next = Some(next);
        self.slots[before].next = Some(slot);
        let Some(id) = id_of(&self.slots[slot].message) else { return };
        // The index keeps the first of an id: only one that now comes later gives way.
        let earlier = self.ids.get(&id).copied();
        let after = |other| std::iter::successors(Some(next), |&slot| self.slots[slot].next).any(|slot| slot == other);
        if earlier.is_none_or(after) {
            self.ids.insert(id, slot);
        }
    }

    /// Puts a message of the same id in another's place.
    pub(super) fn replace(&mut self, slot: usize, message: Json) {
        self.shuffled = true;
        for (id, _) in calls_of(&self.slots[slot].message) {
            if self.calls.get(&id).is_some_and(|found| found.0 == slot) {
                self.calls.remove(&id);
            }
        }
        self.slots[slot].role = Role::of(&message);
        self.slots[slot].message = message;
        if self.repeated_calls {
            for message in self.take() {
                self.push(message);
            }
        }
    }

    /// All messages in order, none left.
    pub(super) fn take(&mut self) -> Vec<Json> {
        let mut all = std::mem::take(self);
        self.shuffled = all.shuffled;
        let mut next = all.first;
        let mut taken = Vec::with_capacity(all.slots.len());
        while let Some(slot) = next {
            taken.push(std::mem::replace(&mut all.slots[slot].message, Json::null()));
            next = all.slots[slot].next;
        }
        taken
    }

    /// A tool call by its id, in the first message that has one.
    pub(super) fn call(&mut self, id: &str) -> Option<&mut Json> {
        let place = *self.calls.get(&*canonical(id))?;
        self.call_at(place)
    }

    /// [`Messages::call`], in the first assistant's message that has one.
    pub(super) fn assistant_call(&mut self, id: &str) -> Option<&mut Json> {
        let place = self.assistant_of(id)?;
        self.call_at(place)
    }

    /// Adds a tool call of a new id to a message.
    pub(super) fn push_call(&mut self, slot: usize, id: &str, call: Json) -> Option<&mut Json> {
        let message = &mut self.slots[slot].message;
        if matches!(message.get("toolCalls"), None | Some(Json::Scalar(_))) {
            message.set("toolCalls", Json::Array(Vec::new()));
        }
        let Some(Json::Array(calls)) = message.get_mut("toolCalls") else { return None };
        let at = calls.len();
        calls.push(call);
        self.calls.insert(canonical(id).into_owned(), (slot, at));
        self.call_at((slot, at))
    }

    fn call_at(&mut self, (slot, at): (usize, usize)) -> Option<&mut Json> {
        match self.slots[slot].message.get_mut("toolCalls") {
            Some(Json::Array(calls)) => calls.get_mut(at),
            _ => None,
        }
    }

    fn assistant_of(&self, call: &str) -> Option<(usize, usize)> {
        let place = *self.calls.get(&*canonical(call))?;
        if self.slots[place.0].role == Role::Assistant {
            return Some(place);
        }
        // Only a snapshot can give tool calls to another role.
        std::iter::successors(self.first, |&slot| self.slots[slot].next)
            .filter(|&slot| self.slots[slot].role == Role::Assistant)
            .find_map(|slot| {
                let mut calls = calls_of(&self.slots[slot].message);
                calls.find(|(id, _)| text::same(id, call)).map(|(_, at)| (slot, at))
            })
    }

    fn keep(&mut self, message: Json) -> usize {
        self.slots.push(Slot { role: Role::of(&message), message, next: None });
        self.slots.len() - 1
    }

    fn index(&mut self, slot: usize) {
        let message = &self.slots[slot].message;
        let first = id_of(message).is_some_and(|id| *self.ids.entry(id).or_insert(slot) == slot);
        self.shuffled |= !first;
        for (id, at) in calls_of(message) {
            if *self.calls.entry(id).or_insert((slot, at)) != (slot, at) {
                self.repeated_calls = true;
            }
        }
    }
}

/// A message's or call's id in canonical escapes.
pub(super) fn id_of(item: &Json) -> Option<String> {
    Some(canonical(item.get("id")?.as_escaped()?).into_owned())
}

/// The ids of a message's tool calls with their places.
fn calls_of(message: &Json) -> impl Iterator<Item = (String, usize)> {
    let calls = match message.get("toolCalls") {
        Some(Json::Array(calls)) => &calls[..],
        _ => &[],
    };
    calls.iter().enumerate().filter_map(|(at, call)| Some((id_of(call)?, at)))
}

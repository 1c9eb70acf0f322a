//! The messages of a thread in order, looked up by id in constant time.
use std::collections::HashMap;

use crate::json::{Json, canonicalize};
use crate::text;

/// A message's `role`, as far as the reducer distinguishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    Assistant,
    Tool,
    Activity,
    Reasoning,
    Other,
}

impl Author {
    /// Read a message's role.
    pub(super) fn of(message: &Json) -> Self {
        match message.get("role").and_then(Json::as_escaped).map(canonicalize).as_deref() {
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
    author: Author,
    next: Option<usize>,
}

/// Messages, linked in order so that a tool result goes into the middle without moving the rest.
#[derive(Debug, Default)]
pub(super) struct Messages {
    slots: Vec<Slot>,
    first: Option<usize>,
    last: Option<usize>,
    /// The slot of the first message of each id, in canonical escapes.
    ids: HashMap<String, usize>,
    /// The slot of the first message of each tool call's id, and the call's index in it.
    calls: HashMap<String, (usize, usize)>,
    /// Whether a tool call's id came twice. If the first of the two calls is dropped, the index must find the other.
    has_repeated_calls: bool,
    /// Whether a message was ever added before the end, dropped, or added under a known id.
    pub(super) is_reordered: bool,
}

impl Messages {
    /// Iterate over the messages in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Json> {
        std::iter::successors(self.first, |&slot| self.slots[slot].next).map(|slot| &self.slots[slot].message)
    }

    /// Find the first message of an (escaped) id; return its slot.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.ids.get(&*canonicalize(id)).copied()
    }

    /// Return a message to be changed. Its id, role and tool calls' ids must stay, because they are indexed.
    pub(super) fn get_mut(&mut self, slot: usize) -> &mut Json {
        &mut self.slots[slot].message
    }

    /// Return a message's author.
    pub(super) fn author(&self, slot: usize) -> Author {
        self.slots[slot].author
    }

    /// Add a message at the end; return its slot.
    pub(super) fn push(&mut self, message: Json) -> usize {
        let slot = self.add_slot(message);
        match self.last {
            Some(last) => self.slots[last].next = Some(slot),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
        self.index(slot);
        slot
    }

    /// Add a tool call's result after the assistant's message of that call and the results that follow it.
    ///
    /// Without such a message the result goes to the end.
    pub(super) fn push_result(&mut self, call: &str, message: Json) {
        let Some(mut before) = self.assistant_of(call).map(|(slot, _)| slot) else {
            self.push(message);
            return;
        };
        while let Some(next) = self.slots[before].next.filter(|&next| self.slots[next].author == Author::Tool) {
            before = next;
        }
        let Some(next) = self.slots[before].next else {
            self.push(message);
            return;
        };
        let slot = self.add_slot(message);
        self.is_reordered = true;
        self.slots[slot].next = Some(next);
        self.slots[before].next = Some(slot);
        let Some(id) = id_of(&self.slots[slot].message) else { return };
        // The index has the first message of an id, so this one replaces only a message that now comes later.
        let indexed = self.ids.get(&id).copied();
        let is_later =
            |other| std::iter::successors(Some(next), |&slot| self.slots[slot].next).any(|slot| slot == other);
        if indexed.is_none_or(is_later) {
            self.ids.insert(id, slot);
        }
    }

    /// Replace a message by another of the same id.
    pub(super) fn replace(&mut self, slot: usize, message: Json) {
        self.is_reordered = true;
        for (id, _) in calls_of(&self.slots[slot].message) {
            if self.calls.get(&id).is_some_and(|indexed| indexed.0 == slot) {
                self.calls.remove(&id);
            }
        }
        self.slots[slot].author = Author::of(&message);
        self.slots[slot].message = message;
        // Another message may have a call of the same id, which must be found now; only a rebuild finds it.
        if self.has_repeated_calls {
            for message in self.take() {
                self.push(message);
            }
        }
    }

    /// Take all messages out, in order.
    pub(super) fn take(&mut self) -> Vec<Json> {
        let mut all = std::mem::take(self);
        // What happened to the order stays true of the messages that are pushed again.
        self.is_reordered = all.is_reordered;
        let mut next = all.first;
        let mut messages = Vec::with_capacity(all.slots.len());
        while let Some(slot) = next {
            messages.push(std::mem::replace(&mut all.slots[slot].message, Json::null()));
            next = all.slots[slot].next;
        }
        messages
    }

    /// Find a tool call by its id, in the first message that has it.
    pub(super) fn call(&mut self, id: &str) -> Option<&mut Json> {
        let position = *self.calls.get(&*canonicalize(id))?;
        self.call_at(position)
    }

    /// Find a tool call by its id, in the first assistant's message that has it.
    pub(super) fn assistant_call(&mut self, id: &str) -> Option<&mut Json> {
        let position = self.assistant_of(id)?;
        self.call_at(position)
    }

    /// Add a tool call of a new id to a message.
    pub(super) fn push_call(&mut self, slot: usize, id: &str, call: Json) -> Option<&mut Json> {
        let message = &mut self.slots[slot].message;
        if matches!(message.get("toolCalls"), None | Some(Json::Scalar(_))) {
            message.set("toolCalls", Json::Array(Vec::new()));
        }
        let Some(Json::Array(calls)) = message.get_mut("toolCalls") else { return None };
        let index = calls.len();
        calls.push(call);
        self.calls.insert(canonicalize(id).into_owned(), (slot, index));
        self.call_at((slot, index))
    }

    fn call_at(&mut self, (slot, index): (usize, usize)) -> Option<&mut Json> {
        match self.slots[slot].message.get_mut("toolCalls") {
            Some(Json::Array(calls)) => calls.get_mut(index),
            _ => None,
        }
    }

    fn assistant_of(&self, call: &str) -> Option<(usize, usize)> {
        let position = *self.calls.get(&*canonicalize(call))?;
        if self.slots[position.0].author == Author::Assistant {
            return Some(position);
        }
        // Only a snapshot can give tool calls to another author, so this search is rare.
        std::iter::successors(self.first, |&slot| self.slots[slot].next)
            .filter(|&slot| self.slots[slot].author == Author::Assistant)
            .find_map(|slot| {
                let mut calls = calls_of(&self.slots[slot].message);
                calls.find(|(id, _)| text::is_same(id, call)).map(|(_, index)| (slot, index))
            })
    }

    fn add_slot(&mut self, message: Json) -> usize {
        self.slots.push(Slot { author: Author::of(&message), message, next: None });
        self.slots.len() - 1
    }

    fn index(&mut self, slot: usize) {
        let message = &self.slots[slot].message;
        let is_first = id_of(message).is_some_and(|id| *self.ids.entry(id).or_insert(slot) == slot);
        self.is_reordered |= !is_first;
        for (id, index) in calls_of(message) {
            if *self.calls.entry(id).or_insert((slot, index)) != (slot, index) {
                self.has_repeated_calls = true;
            }
        }
    }
}

/// Return a message's or tool call's id in canonical escapes.
pub(super) fn id_of(item: &Json) -> Option<String> {
    Some(canonicalize(item.get("id")?.as_escaped()?).into_owned())
}

/// Iterate over the ids of a message's tool calls with their indexes.
fn calls_of(message: &Json) -> impl Iterator<Item = (String, usize)> {
    let calls = match message.get("toolCalls") {
        Some(Json::Array(calls)) => &calls[..],
        _ => &[],
    };
    calls.iter().enumerate().filter_map(|(index, call)| Some((id_of(call)?, index)))
}

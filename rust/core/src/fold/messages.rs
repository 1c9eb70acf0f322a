//! The messages of a thread in order, looked up by id in constant time.
use std::collections::HashMap;

use crate::json::{Array, Json};
use crate::text::canonicalize;

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
    /// Increases along the list, so that two slots can be compared.
    order: u64,
    /// A tool's message in the row of results after this message, from which on the row's end is searched.
    result: Option<usize>,
}

/// The difference of `order` between two messages added at the end. As many results fit between them.
const ORDER_STEP: u64 = 1 << 32;

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
    /// The same for the first assistant's message.
    assistant_calls: HashMap<String, (usize, usize)>,
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
            Some(last) => {
                self.slots[slot].order = self.slots[last].order + ORDER_STEP;
                self.slots[last].next = Some(slot);
            }
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
        let Some((assistant, _)) = self.assistant_of(call) else {
            self.push(message);
            return;
        };
        // Results are never taken out of their row, except by `replace`, which forgets this.
        let mut before = self.slots[assistant].result.unwrap_or(assistant);
        while let Some(next) = self.slots[before].next.filter(|&next| self.slots[next].author == Author::Tool) {
            before = next;
        }
        self.slots[assistant].result = (before != assistant).then_some(before);
        let Some(next) = self.slots[before].next else {
            self.push(message);
            return;
        };
        let slot = self.add_slot(message);
        self.slots[slot].order = self.slots[before].order + 1;
        self.is_reordered = true;
        self.slots[slot].next = Some(next);
        self.slots[before].next = Some(slot);
        let Some(id) = id_of(&self.slots[slot].message) else { return };
        // The index has the first message of an id, so this one replaces only a message that now comes later.
        let indexed = self.ids.get(&id).copied();
        if indexed.is_none_or(|other: usize| self.slots[other].order > self.slots[slot].order) {
            self.ids.insert(id, slot);
        }
    }

    /// Replace a message by another of the same id.
    pub(super) fn replace(&mut self, slot: usize, message: Json) {
        self.is_reordered = true;
        for (id, _) in calls_of(&self.slots[slot].message) {
            for calls in [&mut self.calls, &mut self.assistant_calls] {
                if calls.get(&id).is_some_and(|indexed| indexed.0 == slot) {
                    calls.remove(&id);
                }
            }
        }
        if self.slots[slot].author == Author::Tool {
            self.slots.iter_mut().for_each(|slot| slot.result = None);
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
            message.set("toolCalls", Json::Array(Array::new()));
        }
        let Some(Json::Array(calls)) = message.get_mut("toolCalls") else { return None };
        let index = calls.len();
        calls.push(call);
        self.calls.insert(canonicalize(id).into_owned(), (slot, index));
        if self.slots[slot].author == Author::Assistant {
            self.assistant_calls.insert(canonicalize(id).into_owned(), (slot, index));
        }
        self.call_at((slot, index))
    }

    fn call_at(&mut self, (slot, index): (usize, usize)) -> Option<&mut Json> {
        match self.slots[slot].message.get_mut("toolCalls") {
            Some(Json::Array(calls)) => calls.get_mut(index),
            _ => None,
        }
    }

    fn assistant_of(&self, call: &str) -> Option<(usize, usize)> {
        self.assistant_calls.get(&*canonicalize(call)).copied()
    }

    fn add_slot(&mut self, message: Json) -> usize {
        self.slots.push(Slot { author: Author::of(&message), message, next: None, order: 0, result: None });
        self.slots.len() - 1
    }

    fn index(&mut self, slot: usize) {
        let message = &self.slots[slot].message;
        let is_first = id_of(message).is_some_and(|id| *self.ids.entry(id).or_insert(slot) == slot);
        self.is_reordered |= !is_first;
        for (id, index) in calls_of(message) {
            if *self.calls.entry(id.clone()).or_insert((slot, index)) != (slot, index) {
                self.has_repeated_calls = true;
            }
            if self.slots[slot].author == Author::Assistant {
                self.assistant_calls.entry(id).or_insert((slot, index));
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
        Some(Json::Array(calls)) => Some(calls.iter()),
        _ => None,
    };
    calls.into_iter().flatten().enumerate().filter_map(|(index, call)| Some((id_of(call)?, index)))
}

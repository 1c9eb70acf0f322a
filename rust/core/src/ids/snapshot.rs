//! An agent's own history: a snapshot of messages, whose ids are those that the agent has used.
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::history::Lookup;
use super::prepared::{Message, PreparedSnapshot};
use super::{Ids, Rewrite};
use crate::entries::{self, Class, own_call_id, own_message_id, own_result_id, owned_message_id};
use crate::event::Event;
use crate::lifecycle::{Owner, snapshot_messages};
use crate::{members, scan, text};

/// A call of a snapshot, among those of the same id.
#[derive(Debug)]
struct SnapshotCall {
    number: u64,
    /// How many prompts are before it.
    turn: usize,
    is_answered: bool,
}

impl Ids {
    /// Return the entries that a snapshot needs; without any, keep its messages' ids until it is recorded.
    pub(super) fn prepare_snapshot(&mut self, event: &Event<'_>) -> Vec<String> {
        self.prepared = None;
        match self.snapshot(event) {
            Ok(messages) => {
                self.prepared = Some(PreparedSnapshot { address: event.json().as_ptr().addr(), messages });
                Vec::new()
            }
            Err(wanted) => wanted,
        }
    }

    /// Return the ids of a snapshot's messages; `None` for a message without an id.
    fn snapshot(&self, event: &Event<'_>) -> Lookup<Vec<Option<Message>>> {
        let mut wanted = Vec::new();
        let totals = self.count_calls(event, &mut wanted);
        let mut used: HashMap<String, Vec<SnapshotCall>> = HashMap::new();
        let mut classes: HashMap<String, Class> = HashMap::new();
        let mut copies: HashMap<(Class, String), u64> = HashMap::new();
        let mut answered: HashSet<String> = HashSet::new();
        let mut turn = 0;
        let mut all = Vec::new();
        for (_, members) in snapshot_messages(event) {
            let Some(id) = members::find_string(&members, "id") else {
                all.push(None);
                continue;
            };
            let class = Class::of_role(members::find_string(&members, "role").as_deref());
            turn += usize::from(class == Class::Prompt);
            // A snapshot has up to tens of thousands of messages, so of a new one only the id is looked up.
            let is_known = if self.classes.contains_key(&*id) { Ok(true) } else { self.history.has(&id) };
            let own = is_known.and_then(|_| self.message_id(class, &id, true));
            let own = own.map_err(|mut entries| wanted.append(&mut entries));
            let mut calls = Vec::new();
            for call in calls_of(&members) {
                let earlier = used.entry(call.clone()).or_default();
                // A history whose beginning is cut off contains the thread's newest calls.
                let number = earlier.len() as u64 + 1 + cut_calls(&totals, &call);
                earlier.push(SnapshotCall { number, turn, is_answered: false });
                calls.push((call, number));
            }
            let mut own = own.unwrap_or_default();
            // An earlier message in the snapshot may have the same id and another kind.
            if classes.get(&own).is_some_and(|other| *other != class) {
                own = own_message_id(&id, class);
            }
            // Most snapshots have each id once.
            let is_copy = !own.is_empty() && classes.contains_key(&own);
            if is_copy || !self.owned.is_empty() {
                let copy = copies.entry((class, id.clone().into_owned())).or_insert(1);
                *copy += u64::from(is_copy);
                let owner = members::find_string(&members, "subagentRunId").map(Cow::into_owned);
                match self.id_of_owner(class, &id, owner, if is_copy { *copy } else { 1 }) {
                    Ok(of_owner) => own = of_owner.unwrap_or(own),
                    Err(mut entries) => wanted.append(&mut entries),
                }
            }
            let mut is_changed = calls.iter().any(|(_, number)| *number > 1);
            let result_of = members::find_string(&members, "toolCallId").map(|agents_call| {
                let call = &*agents_call;
                let answered = used.get_mut(call).map(|calls| answer(calls, turn));
                // The call may have been cut off.
                let number = answered.unwrap_or_else(|| cut_calls(&totals, call).max(1));
                let call = own_call_id(call, number);
                is_changed |= *call != *agents_call;
                // The result may have got a new id when it was recorded.
                for result in [own_call_id(&id, number), own_result_id(&call)] {
                    match if result == *id { Ok(false) } else { self.has_result(&result) } {
                        Ok(true) => own = result,
                        Ok(false) => {}
                        Err(mut entries) => wanted.append(&mut entries),
                    }
                }
                call
            });
            is_changed |= own != id;
            classes.insert(own.clone(), class);
            let is_second_result = result_of.as_ref().is_some_and(|call| !answered.insert(call.clone()));
            all.push(Some(Message { class, id: own, calls, is_changed, result_of, is_second_result }));
        }
        if wanted.is_empty() { Ok(all) } else { Err(wanted) }
    }

    /// Return the id that clients see for an owner's message, if the owner was not the first to use its id.
    ///
    /// Without an owner, it is the n-th message with its id in the snapshot.
    fn id_of_owner(&self, class: Class, id: &str, owner: Owner, number: u64) -> Lookup<Option<String>> {
        let own = owned_message_id(id, class, number);
        let known = (!self.owned.is_empty()).then(|| self.owned.get(&(class, id.to_owned(), owner))).flatten();
        if known.is_some() || number == 1 || class == Class::Tool {
            return Ok(known.cloned());
        }
        Ok((self.classes.contains_key(&own) || self.history.has(&own)?).then_some(own))
    }

    /// Count how often each call's id is in a snapshot, and how often the thread has used it. A result's counts too.
    fn count_calls(&self, event: &Event<'_>, wanted: &mut Vec<String>) -> HashMap<String, (u64, u64)> {
        let mut totals: HashMap<String, (u64, u64)> = HashMap::new();
        for (_, members) in snapshot_messages(event) {
            for call in calls_of(&members) {
                totals.entry(call).or_default().0 += 1;
            }
            if let Some(call) = members::find_string(&members, "toolCallId") {
                totals.entry(call.into_owned()).or_default();
            }
        }
        for (call, (_, in_thread)) in &mut totals {
            match self.number(call) {
                Ok(number) => *in_thread = number,
                Err(mut entries) => wanted.append(&mut entries),
            }
        }
        totals
    }

    pub(super) fn rewrite_snapshot(&mut self, event: &Event<'_>) -> Rewrite {
        let prepared = self.prepared.take().filter(|prepared| prepared.address == event.json().as_ptr().addr());
        let prepared = prepared.map_or_else(|| self.snapshot(event), |prepared| Ok(prepared.messages));
        let Ok(all) = prepared else { return Rewrite::Same };
        let changed = all.iter().flatten().any(|message| message.is_changed || message.is_second_result).then(|| {
            let messages = snapshot_messages(event).zip(&all).filter_map(|((json, _), message)| match message {
                Some(message) if message.is_second_result => None,
                Some(message) if message.is_changed => Some(write(json, message).into()),
                _ => Some(Cow::Borrowed(json)),
            });
            event.with_field("messages", &format!("[{}]", messages.collect::<Vec<_>>().join(",")))
        });
        let snapshot_calls = self.snapshot_calls.insert(HashSet::new());
        self.shown.clear();
        for message in all.into_iter().flatten() {
            self.classes.insert(message.id, message.class);
            for (call, number) in message.calls {
                snapshot_calls.insert(call.clone());
                let highest = self.numbers.entry(call).or_default();
                *highest = number.max(*highest);
            }
            self.shown.extend(message.result_of.clone());
            self.answered.extend(message.result_of);
        }
        changed.map_or(Rewrite::Same, Rewrite::Changed)
    }
}

/// Return how many of the thread's calls with an id come before the beginning of a snapshot.
fn cut_calls(totals: &HashMap<String, (u64, u64)>, call: &str) -> u64 {
    totals.get(call).map_or(0, |(in_snapshot, in_thread)| in_thread.saturating_sub(*in_snapshot))
}

/// Return the number of the call that a result answers, among the earlier calls with one id.
///
/// Results follow their calls in the same order, so it is the turn's first call without a result.
fn answer(calls: &mut [SnapshotCall], turn: usize) -> u64 {
    let is_open = |call: &SnapshotCall| !call.is_answered;
    let of_turn = calls.iter().position(|call| call.turn == turn && is_open(call));
    let index = of_turn.or_else(|| calls.iter().rposition(is_open)).unwrap_or(calls.len() - 1);
    calls[index].is_answered = true;
    calls[index].number
}

fn calls_of(message: &[(&str, &str)]) -> Vec<String> {
    let calls = scan::elements(members::find(message, "toolCalls").unwrap_or_default());
    calls.into_iter().filter_map(|call| members::string_of(call, "id").map(std::borrow::Cow::into_owned)).collect()
}

/// Return a message with the ids that clients see.
fn write(json: &str, message: &Message) -> String {
    let mut calls = message.calls.iter();
    entries::replace_members(json, |key, value| match key {
        "id" => changed(value, &message.id),
        "toolCallId" => changed(value, message.result_of.as_deref()?),
        "toolCalls" => Some(entries::replace_elements(value, |call| {
            if members::string_of(call, "id").is_none() {
                return call.to_owned();
            }
            let Some((id, number)) = calls.next() else { return call.to_owned() };
            let own = own_call_id(id, *number);
            entries::replace_members(call, |key, value| (key == "id").then(|| changed(value, &own)).flatten())
        })),
        _ => None,
    })
}

/// Return an id as JSON if it differs from this one.
fn changed(value: &str, id: &str) -> Option<String> {
    let is_same = text::unquote(value).and_then(text::decode).is_some_and(|value| value == id);
    (!is_same).then(|| text::quote(id))
}

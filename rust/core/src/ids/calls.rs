//! The calls that events mean, and the ids that clients see for them.
use super::Ids;
use super::call::{Call, continued_call};
use super::history::Lookup;
use crate::entries::{self, Class, own_call_id, own_message_id, own_result_id, split_own_id};
use crate::event::Event;
use crate::lifecycle::{Lifecycle, Owner};

/// How many of the newest calls of one id are searched for the one without a result.
const SEARCHED_CALLS: u64 = 8;

impl Ids {
    /// Return the id that clients see for the last call of an agent's id and owner.
    pub(crate) fn last_call<'i>(&'i self, id: &'i str, owner: Option<&str>) -> &'i str {
        let calls = self.calls.get(id).map(Vec::as_slice).unwrap_or_default();
        continued_call(calls, owner).map_or(id, |index| &calls[index].own)
    }

    /// Return the id that clients see for a call with an agent's id.
    ///
    /// If several have no result, this is the one after `skip` others, otherwise the newest.
    pub fn newest_call(&self, id: &str, owner: Option<&str>, skip: usize) -> String {
        self.call_id(id, owner, skip).unwrap_or_else(|_| id.to_owned())
    }

    /// Return how often the thread has used a call's id.
    pub(super) fn number(&self, id: &str) -> Lookup<u64> {
        self.numbers.get(id).copied().map_or_else(|| self.history.number_of(id), Ok)
    }

    /// Return the owner of a call that starts. Without a subagent it belongs to the owner of its parent message.
    pub(super) fn owner_of_call(&self, event: &Event<'_>, run: &Lifecycle) -> Owner {
        let own = event.subagent().map(std::borrow::Cow::into_owned);
        own.or_else(|| {
            let parent = self.parent_id(&event.string("parentMessageId")?, None, run).ok()?;
            run.streams.text.get(&parent)?.owner.clone()
        })
    }

    /// Return the id that clients see for a call that starts, and whether it repeats a call of an earlier run.
    pub(super) fn start_call(&self, id: &str, owner: &Owner) -> Lookup<(String, bool)> {
        let calls = self.calls.get(id).map(Vec::as_slice).unwrap_or_default();
        if let Some(call) = calls.iter().rev().find(|call| call.is_open && call.owner == *owner) {
            return Ok((call.own.clone(), call.is_repeat));
        }
        let number = self.number(id)?;
        if number == 0 {
            return Ok((id.to_owned(), false));
        }
        if calls.is_empty() && self.snapshot_calls.as_ref().is_some_and(|kept| !kept.contains(id)) {
            // A continued run often calls its model again, which repeats the calls of the attempt that crashed. The
            // snapshot has removed those from clients, so no new id is needed, and the agent would not know it.
            return Ok((own_call_id(id, number), false));
        }
        if calls.iter().all(|call| call.is_repeat) {
            // The agent repeats its calls in the order in which it made them.
            let repeatable = self.repeatable_calls(id, number)?;
            if let Some(own) = repeatable.into_iter().find(|own| calls.iter().all(|call| call.own != *own)) {
                return Ok((own, true));
            }
        }
        // The agent may itself have used an id that the runner would assign.
        let mut others = (number + 1..).map(|number| own_call_id(id, number));
        let own = others.find(|own| !self.calls.contains_key(own)).expect("there are more numbers than calls");
        Ok((own, false))
    }

    /// Return the calls without a result that a continued run may repeat, in order.
    pub(super) fn repeatable_calls(&self, id: &str, number: u64) -> Lookup<Vec<String>> {
        if let Some(calls) = self.repeatable.get(id) {
            return Ok(calls.clone());
        }
        if let Some(calls) = &self.interrupted {
            return Ok(calls.iter().filter(|own| split_own_id(own).0 == id).cloned().collect());
        }
        let mut calls = Vec::new();
        // Calls before an answered one are older than the run's interrupts.
        for number in (1..=number).rev().take(self.repeats.min(SEARCHED_CALLS as usize)) {
            let own = own_call_id(id, number);
            if self.is_answered(&own)? {
                break;
            }
            calls.push(own);
        }
        calls.reverse();
        Ok(calls)
    }

    /// Return the parent for a call without one, so that its message has a unique id; usually none is needed.
    ///
    /// Clients use the call's id for the message that they create for it, and another message may have that id.
    pub(super) fn parent_of_call(&self, id: &str) -> Lookup<Option<String>> {
        let class =
            self.classes.get(id).map_or_else(|| self.history.class_of(id, None, None), |class| Ok(Some(*class)));
        match self.number(id) {
            Ok(0) => Ok(class?.map(|_| own_message_id(id, Class::Text))),
            Ok(_) => Ok(None),
            Err(wanted) => Err(wanted.into_iter().chain(class.err().into_iter().flatten()).collect()),
        }
    }

    pub(super) fn is_answered(&self, own: &str) -> Lookup<bool> {
        if self.answered.contains(own) { Ok(true) } else { self.history.has(&entries::answered(own)) }
    }

    /// Return the id that clients see for the call that an event refers to.
    ///
    /// If several calls have no result, this is the `skip`-th after the first, otherwise the newest call. Those of the
    /// event's owner come first.
    pub(super) fn call_id(&self, id: &str, owner: Option<&str>, skip: usize) -> Lookup<String> {
        let Some(calls) = self.calls.get(id) else { return Ok(own_call_id(id, self.number(id)?)) };
        let open = || calls.iter().filter(|call| !self.answered.contains(&call.own));
        let is_owners = |call: &&Call| call.owner.as_deref() == owner;
        let has_open = open().any(|call| is_owners(&call));
        let call = open().filter(|call| !has_open || is_owners(call)).nth(skip);
        let last = || calls.iter().rfind(is_owners).or(calls.last()).expect("no list of calls is empty");
        Ok(call.unwrap_or_else(last).own.clone())
    }

    /// Return the id that clients see for the call that a result answers.
    fn answered_call(&self, id: &str, owner: Option<&str>) -> Lookup<String> {
        let Some(calls) = self.calls.get(id) else {
            return Ok(self.unanswered_call(id)?.unwrap_or_else(|| id.to_owned()));
        };
        let open = || calls.iter().filter(|call| !self.answered.contains(&call.own));
        let is_owners = |call: &&Call| call.owner.as_deref() == owner;
        // The agent sends results for its own calls, so consider the client's calls last.
        let is_agents = |call: &&Call| !call.is_clients;
        let call = open().find(|call| is_owners(call) && is_agents(call)).or_else(|| open().find(is_owners));
        let call = call.or_else(|| open().find(is_agents)).or_else(|| open().next());
        let last = || calls.iter().rfind(is_owners).or(calls.last());
        Ok(call.or_else(last).map_or_else(|| id.to_owned(), |call| call.own.clone()))
    }

    /// Return the newest call of an earlier run, under the agent's id, that has no result; `None` if it has that id.
    pub(super) fn unanswered_call(&self, id: &str) -> Lookup<Option<String>> {
        let number = self.number(id)?;
        if number < 2 {
            return Ok(None);
        }
        for number in (number.saturating_sub(SEARCHED_CALLS).max(1)..=number).rev() {
            let own = own_call_id(id, number);
            if !self.is_answered(&own)? {
                return Ok((number > 1).then_some(own));
            }
        }
        Ok(Some(own_call_id(id, number)))
    }

    /// Return the ids that clients see for a result's call and message; `None` if the call has its result.
    pub(super) fn result_ids(&self, id: &str, message: &str, owner: Option<&str>) -> Lookup<Option<(String, String)>> {
        let call = self.answered_call(id, owner)?;
        let own = self.message_id(Class::Tool, message, false);
        // Both are looked up at once.
        let (own, is_shown) = match (own, self.is_shown(id, &call)) {
            (Ok(own), Ok(is_shown)) => (own, is_shown),
            (own, is_shown) => return Err([own.err(), is_shown.err()].into_iter().flatten().flatten().collect()),
        };
        if is_shown {
            return Ok(None);
        }
        // A call without a result cannot be the one that the thread's message answers.
        let is_taken = self.results.contains(&own) || (self.has_result(&own)? && !self.is_answered(&call)?);
        if !is_taken {
            return Ok(Some((call, own)));
        }
        let numbered = own_call_id(message, split_own_id(&call).1);
        let is_new = numbered != own && !self.has_result(&numbered)?;
        let is_free = is_new && self.message_id(Class::Tool, &numbered, false)? == numbered;
        let own = if is_free { numbered } else { own_result_id(&call) };
        Ok(Some((call, own)))
    }

    /// Return whether clients certainly hold a result of a call.
    ///
    /// A snapshot of messages may have removed a result, in this run or in an earlier one.
    fn is_shown(&self, id: &str, call: &str) -> Lookup<bool> {
        let is_new = || self.calls.get(id).is_some_and(|calls| calls.iter().any(|it| it.own == call && !it.is_repeat));
        if self.shown.contains(call) {
            Ok(true)
        } else if self.snapshot_calls.is_some() || is_new() {
            Ok(false)
        } else {
            let known = self.history.have(vec![entries::answered(call), entries::SNAPSHOT.to_owned()])?;
            Ok(known == [true, false])
        }
    }

    /// Return whether the thread has a result in a message with this id.
    pub(super) fn has_result(&self, message: &str) -> Lookup<bool> {
        match (self.classes.get(message), Class::Tool.mark(message)) {
            (None, Some(mark)) => self.history.has(&mark),
            (class, _) => Ok(class == Some(&Class::Tool)),
        }
    }

    /// Return the entries that tell which calls of the last snapshot of messages are this run's.
    pub(crate) fn wanted_by_end(&self, run: &Lifecycle) -> Vec<String> {
        let calls = run.unstarted.iter().filter_map(|(id, call)| self.is_new_call(id, &call.message).err());
        calls.flatten().collect()
    }

    /// Return whether no earlier run of the thread has a call or its message, given the ids that clients see.
    ///
    /// Version 0.1.0 noted only the messages.
    pub(crate) fn is_new_call(&self, id: &str, message: &str) -> Lookup<bool> {
        Ok(self.history.have(vec![entries::call(id), message.to_owned()])?.iter().all(|is_known| !is_known))
    }
}

//! The ids that clients see for messages.
use super::Ids;
use super::history::Lookup;
use crate::entries::{Class, own_message_id, owned_message_id};
use crate::event::Event;
use crate::family::Family;
use crate::lifecycle::{Entity, Lifecycle, Owner};

impl Ids {
    /// Return the id that clients see for a message without regard to its owner.
    ///
    /// A message of the agent's history may have been recorded by a version that did not mark classes.
    pub(super) fn message_id(&self, class: Class, id: &str, is_history: bool) -> Lookup<String> {
        let own = || own_message_id(id, class);
        let known = match self.classes.get(id) {
            Some(known) => Some(*known),
            None => self.history.class_of(id, Some(class), is_history.then_some(class))?,
        };
        let other = known.filter(|other| *other != class);
        Ok(if other.is_some() { own() } else { id.to_owned() })
    }

    /// Return the id that clients see for an owner's message; `base` is what it would be without other owners.
    ///
    /// `is_others` tells whether a message with an id that clients see is another owner's.
    pub(super) fn owned_id(
        &self,
        class: Class,
        id: &str,
        owner: &Owner,
        base: String,
        is_others: impl Fn(&str) -> bool,
    ) -> String {
        let known = (!self.owned.is_empty()).then(|| self.owned.get(&(class, id.to_owned(), owner.clone()))).flatten();
        if let Some(own) = known {
            return own.clone();
        }
        if !is_others(&base) {
            return base;
        }
        let newest = self.owned_numbers.get(&(class, id.to_owned())).copied().unwrap_or(1);
        let mut others = (newest + 1..).map(|number| owned_message_id(id, class, number));
        // The agent may itself have used an id that the runner would assign.
        others.find(|own| !is_others(own)).expect("there are more numbers than messages")
    }

    /// Note that an owner's message has this id for clients.
    pub(super) fn note_owned(&mut self, class: Class, id: &str, owner: &Owner, base: &str, own: &str) {
        if own == base || self.owned.contains_key(&(class, id.to_owned(), owner.clone())) {
            return;
        }
        let mut newest = self.owned_numbers.get(&(class, id.to_owned())).copied().unwrap_or(1) + 1;
        while owned_message_id(id, class, newest) != own {
            newest += 1;
        }
        self.owned_numbers.insert((class, id.to_owned()), newest);
        self.owned.insert((class, id.to_owned(), owner.clone()), own.to_owned());
    }

    /// Return whether a message that starts under this id would be refused, because the message is another owner's.
    ///
    /// An event without a subagent agrees with every owner (docs/spec/agui.md §6.5, rule 10). Only if the message is open,
    /// it must be another one, of the parent agent.
    pub(super) fn is_others(&self, family: Family, own: &str, owner: &Owner, run: &Lifecycle, is_open: bool) -> bool {
        match (run.streams[family].get(own), owner) {
            (Some(entity), Some(_)) => entity.owner != *owner,
            (Some(entity), None) => entity.owner.is_some() && is_open,
            (None, _) => self.parents.get(own).is_some_and(|parent| parent != owner),
        }
    }

    /// Return the id that clients see for a message that starts, and what it would be without other owners.
    pub(super) fn started_id(
        &self,
        family: Family,
        class: Class,
        id: &str,
        owner: &Owner,
        run: &Lifecycle,
    ) -> [String; 2] {
        let base = self.message_id(class, id, false).unwrap_or_else(|_| id.to_owned());
        let is_open = |own: &str| run.streams[family].get(own).is_some_and(Entity::is_open);
        let is_others = |own: &str| self.is_others(family, own, owner, run, is_open(own));
        [self.owned_id(class, id, owner, base.clone(), is_others), base]
    }

    /// Return the same for a reasoning span.
    pub(super) fn span_id(&self, id: &str, owner: &Owner, run: &Lifecycle) -> [String; 2] {
        let base = self.message_id(Class::Reasoning, id, true).unwrap_or_else(|_| id.to_owned());
        let is_others = |own: &str| self.is_others(Family::Reasoning, own, owner, run, run.spans.contains_key(own));
        [self.owned_id(Class::Reasoning, id, owner, base.clone(), is_others), base]
    }

    /// Return the same for an activity.
    ///
    /// A snapshot may take over an activity, but not that of another subagent at work.
    pub(super) fn activity_id(&self, id: &str, owner: &Owner, starts: bool, run: &Lifecycle) -> [String; 2] {
        let base = self.message_id(Class::Activity, id, false).unwrap_or_else(|_| id.to_owned());
        let is_at_work = |other: &String| run.subagents.get(other).is_none_or(Option::is_some);
        let is_others = |own: &str| {
            let other = run.activities.get(own).filter(|other| starts && owner.is_some() && *other != owner);
            other.is_some_and(|other| other.as_ref().is_some_and(is_at_work))
        };
        [self.owned_id(Class::Activity, id, owner, base.clone(), is_others), base]
    }

    /// Return the id that clients see for a call's parent message.
    pub(super) fn parent_id(&self, id: &str, owner: Option<&str>, run: &Lifecycle) -> Lookup<String> {
        let own = self.message_id(Class::Text, id, true)?;
        // A call may name the user's message that it follows; it then gets its own message, as in the reference.
        let is_prompt = self.classes.get(id) == Some(&Class::Prompt) || self.history.is_prompt(id);
        if is_prompt && !self.classes.contains_key(&own) {
            return Ok(id.to_owned());
        }
        let owner = owner.map(str::to_owned);
        let is_others = |own: &str| owner.is_some() && self.is_others(Family::Text, own, &owner, run, false);
        Ok(self.owned_id(Class::Text, id, &owner, own, is_others))
    }

    /// Return the id that clients see for the message or call that an encrypted value belongs to.
    pub(super) fn entity_id(&self, event: &Event<'_>, id: &str) -> Lookup<String> {
        let owner = event.subagent().map(std::borrow::Cow::into_owned);
        if event.string("subtype").as_deref() == Some("tool-call") {
            return self.call_id(id, owner.as_deref(), 0);
        }
        let of_class = |class| match self.owned.get(&(class, id.to_owned(), owner.clone())) {
            Some(own) => Ok(own.clone()),
            None => self.message_id(class, id, true),
        };
        let reasoning = of_class(Class::Reasoning)?;
        // If two messages have the id, the value belongs to the reasoning.
        if self.classes.get(&reasoning) == Some(&Class::Reasoning) { Ok(reasoning) } else { of_class(Class::Text) }
    }
}

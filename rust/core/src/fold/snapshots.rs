//! Snapshots of messages, which replace what a client holds except for what only the client has.
use std::collections::HashMap;

use super::Fold;
use super::fields::{Authority, authority, without_null_subagent};
use super::messages::{Author, id_of};
use crate::event::Event;
use crate::json::Json;
use crate::lifecycle::snapshot_messages;

impl Fold {
    /// Replace the messages. Activities and reasoning stay if the snapshot brings none of their kind.
    pub(super) fn apply_messages_snapshot(&mut self, event: &Event<'_>) {
        if !event.get("messages").is_some_and(|messages| messages.starts_with('[')) {
            return;
        }
        let snapshot: Vec<Json> =
            snapshot_messages(event).filter_map(|(json, _)| without_null_subagent(json)).collect();
        let authority = authority(event);
        let has_author = |author| snapshot.iter().any(|message| Author::of(message) == author);
        let (has_activity, has_reasoning) = (has_author(Author::Activity), has_author(Author::Reasoning));
        let is_kept = |message: &Json| match Author::of(message) {
            Author::Activity => match &authority {
                Authority::All => false,
                Authority::Types(types) => {
                    message.get("activityType").is_none_or(|name| !types.iter().any(|declared| declared == name))
                }
                Authority::Undeclared => !has_activity,
            },
            Author::Reasoning => !has_reasoning,
            _ => false,
        };
        // Of an id that comes twice, the last message takes the place of the old one.
        let by_id: HashMap<_, _> =
            snapshot.iter().enumerate().filter_map(|(index, message)| Some((id_of(message)?, index))).collect();
        // Looked up now, because taking the messages out below empties the index.
        let is_known: Vec<bool> = snapshot
            .iter()
            .map(|message| {
                message.get("id").and_then(Json::as_escaped).is_some_and(|id| self.messages.find(id).is_some())
            })
            .collect();
        for message in self.messages.take() {
            let new = id_of(&message).and_then(|id| by_id.get(&id)).map(|&index| &snapshot[index]);
            let remains = new.map_or_else(|| is_kept(&message), |new| Author::of(new) == Author::of(&message));
            if !remains {
                self.messages.is_reordered = true;
                self.lost_reasoning.extend(id_of(&message).filter(|_| Author::of(&message) == Author::Reasoning));
            }
            match new {
                Some(new) => drop(self.messages.push(new.clone())),
                None if remains => drop(self.messages.push(message)),
                None => {}
            }
        }
        for (message, _) in snapshot.into_iter().zip(is_known).filter(|(_, is_known)| !is_known) {
            self.messages.push(message);
        }
    }
}

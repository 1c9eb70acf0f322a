//! The ids that clients see for open messages and spans, where they differ from the agent's.
use std::collections::HashMap;

use crate::family::Family;
use crate::lifecycle::Owner;

/// The open messages and spans that have an id of their own, by the agent's id and their owner.
#[derive(Debug, Default)]
pub(super) struct OpenIds {
    /// The family is `None` for reasoning spans.
    by_id: HashMap<(Option<Family>, String), HashMap<Owner, String>>,
}

impl OpenIds {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Note that an owner has opened a message or span; `own` is the id that clients see.
    pub(super) fn open(&mut self, family: Option<Family>, id: &str, owner: Owner, own: &str) {
        if own != id {
            self.by_id.entry((family, id.to_owned())).or_default().insert(owner, own.to_owned());
        } else if !self.is_empty() {
            self.remove(family, id, |other, _| *other == owner);
        }
    }

    /// Return the id that clients see; `None` if it is the agent's.
    ///
    /// Many agents name the subagent only in the event that opens a message. So if the owner has none of its own, it is
    /// the only one, unless one with the agent's id is open.
    pub(super) fn find(&self, family: Option<Family>, id: &str, owner: &Owner, is_open: bool) -> Option<&str> {
        let owners = self.by_id.get(&(family, id.to_owned()))?;
        let only = owners.values().next().filter(|_| owners.len() == 1 && !is_open);
        owners.get(owner).or(only).map(String::as_str)
    }

    /// Forget the message or span with an id that clients see.
    pub(super) fn close(&mut self, family: Option<Family>, id: &str, own: &str) {
        self.remove(family, id, |_, other| other == own);
    }

    fn remove(&mut self, family: Option<Family>, id: &str, is_removed: impl Fn(&Owner, &str) -> bool) {
        let key = (family, id.to_owned());
        if let Some(owners) = self.by_id.get_mut(&key) {
            owners.retain(|owner, own| !is_removed(owner, own));
            if owners.is_empty() {
                self.by_id.remove(&key);
            }
        }
    }
}

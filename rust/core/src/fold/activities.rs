//! Activities: messages that a run shows and patches, and that are not sent back to an agent.
use super::Fold;
use super::fields::{apply_patch, fill_activity, is_null, merge_metadata, non_null, object};
use super::messages::Author;
use crate::event::Event;
use crate::json::{Json, Object};

impl Fold {
    pub(super) fn apply_activity_snapshot(&mut self, event: &Event<'_>) {
        let Some(id) = event.escaped_text("messageId") else { return };
        let replace = event.get("replace") != Some("false");
        let existing = self.messages.find(id);
        let slot = match existing {
            Some(slot) if self.messages.author(slot) == Author::Activity => {
                if replace {
                    fill_activity(self.messages.get_mut(slot), event);
                }
                slot
            }
            Some(_) if !replace => return,
            _ => {
                let mut message = object(&[("id", id), ("role", "activity")]);
                fill_activity(&mut message, event);
                match existing {
                    Some(slot) => {
                        let is_reasoning = self.messages.author(slot) == Author::Reasoning;
                        self.lost_reasoning.extend(is_reasoning.then(|| id.to_owned()));
                        self.messages.replace(slot, message);
                    }
                    None => drop(self.messages.push(message)),
                }
                // Replacing can rebuild the messages, which moves them to other slots.
                self.messages.find(id).expect("the message was added above")
            }
        };
        merge_metadata(self.messages.get_mut(slot), event);
    }

    pub(super) fn patch_activity(&mut self, event: &Event<'_>) {
        let Some(slot) = event.escaped_text("messageId").and_then(|id| self.messages.find(id)) else { return };
        if self.messages.author(slot) != Author::Activity {
            return;
        }
        let message = self.messages.get_mut(slot);
        // The reference merges the metadata even if the patch fails.
        merge_metadata(message, event);
        let patch = non_null(event, "patch").unwrap_or("[]");
        let is_patched = match message.get_mut("content") {
            Some(content) if !is_null(content) => apply_patch(content, patch, &mut self.grown_bytes),
            _ => {
                let mut content = Json::Object(Object::new());
                let is_patched = apply_patch(&mut content, patch, &mut self.grown_bytes);
                if is_patched {
                    message.set("content", content);
                }
                is_patched
            }
        };
        if let Some(name) = event.get("activityType").filter(|_| is_patched) {
            message.set("activityType", Json::parse(name));
        }
    }
}

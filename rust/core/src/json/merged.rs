//! Objects merged one after another, each in time proportional to its own length.
use std::collections::HashMap;

use super::small_text::SmallText;
use crate::text::canonicalize;
use crate::{members, scan};

/// The object `{...a, ...b, …}`. Values keep their text; a later value of a key replaces an earlier one as a whole.
#[derive(Debug, Clone, Default)]
pub struct MergedObject {
    members: Vec<(SmallText, SmallText)>,
    /// The index of each key, in canonical escapes.
    indexes: HashMap<SmallText, usize>,
    bytes: usize,
}

impl MergedObject {
    /// Merge an object into this one; anything but an object adds nothing.
    pub fn merge(&mut self, json: &str) {
        for (key, value) in scan::members(json) {
            let next = self.members.len();
            let index = *self.indexes.entry((&*canonicalize(key)).into()).or_insert(next);
            self.bytes += key.len() + value.len() + r#""":,"#.len();
            match self.members.get_mut(index) {
                Some(member) => {
                    self.bytes -= member.0.len() + member.1.len() + r#""":,"#.len();
                    *member = (key.into(), value.into());
                }
                None => self.members.push((key.into(), value.into())),
            }
        }
    }

    /// Return about how many bytes the object has as JSON.
    pub fn bytes(&self) -> usize {
        self.bytes + "{}".len()
    }

    /// Write the object as JSON.
    pub fn write(&self) -> String {
        members::write_object(self.members.iter().map(|(key, value)| (&**key, &**value)))
    }
}

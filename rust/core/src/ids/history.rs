//! The ids that earlier runs of a thread have used, looked up a few entries at a time.
use std::collections::{HashMap, HashSet};

use crate::entries::{self, Class, own_call_id};

/// An answer, or the entries that have to be looked up first.
pub(super) type Lookup<T> = std::result::Result<T, Vec<String>>;

/// The doublings of a call's number that are looked up at once; no thread uses an id more than 2^24 times.
const DOUBLINGS: u32 = 24;
/// The numbers between two known ones that are looked up at once.
const SPLITS: u64 = 15;

/// The entries of the thread's stored runs that were looked up.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Whether there may be stored runs; if not, nothing is looked up.
    pub(super) exists: bool,
    entries: HashMap<String, bool>,
    /// How often the input's messages have used a call's id.
    numbers: HashMap<String, u64>,
}

impl History {
    pub(super) fn learn(&mut self, wanted: Vec<String>, known: &HashSet<String>) {
        self.entries.extend(wanted.into_iter().map(|entry| {
            let is_known = known.contains(&entry);
            (entry, is_known)
        }));
    }

    /// Note a call of the input's messages.
    pub(super) fn note_call(&mut self, id: &str, number: u64) {
        let highest = self.numbers.entry(id.to_owned()).or_default();
        *highest = number.max(*highest);
    }

    pub(super) fn has(&self, entry: String) -> Lookup<bool> {
        Ok(self.have(vec![entry])?[0])
    }

    fn have(&self, entries: Vec<String>) -> Lookup<Vec<bool>> {
        if !self.exists {
            return Ok(vec![false; entries.len()]);
        }
        let known: Vec<_> = entries.iter().map(|entry| self.entries.get(entry).copied()).collect();
        if known.iter().all(Option::is_some) {
            return Ok(known.into_iter().flatten().collect());
        }
        Err(entries.into_iter().zip(known).filter(|(_, known)| known.is_none()).map(|(entry, _)| entry).collect())
    }

    /// Return the class of a message of an earlier run; `None` if there is none.
    ///
    /// A message without a mark is the assistant's, or `unmarked`: 0.1.0 wrote no marks.
    pub(super) fn class_of(&self, id: &str, unmarked: Option<Class>) -> Lookup<Option<Class>> {
        if !self.exists {
            return Ok(None);
        }
        let marks = Class::ALL.iter().filter_map(|class| class.mark(id));
        let mut known = self.have(marks.chain([id.to_owned()]).collect())?;
        let has_message = known.pop().unwrap_or_default();
        let marked = Class::ALL.iter().filter(|class| **class != Class::Text);
        let class = marked.zip(known).find_map(|(class, known)| known.then_some(*class));
        Ok(class.or(has_message.then_some(unmarked.unwrap_or(Class::Text))))
    }

    pub(super) fn is_prompt(&self, id: &str) -> bool {
        Class::Prompt.mark(id).is_some_and(|mark| self.entries.get(&mark) == Some(&true))
    }

    /// Return how often the thread has used a call's id.
    ///
    /// The calls have consecutive numbers, so the newest is found in a few lookups.
    pub(super) fn number_of(&self, id: &str) -> Lookup<u64> {
        let in_input = self.numbers.get(id).copied().unwrap_or_default();
        if !self.exists || (in_input == 0 && !self.has(entries::call(id))?) {
            return Ok(in_input);
        }
        let doublings: Vec<u64> = (1..=DOUBLINGS).map(|power| 1 << power).collect();
        let known = self.have(doublings.iter().map(|number| entry(id, *number)).collect())?;
        let highest = doublings.iter().zip(known).filter_map(|(number, known)| known.then_some(*number)).max();
        let mut low = highest.unwrap_or(1);
        let mut high = low * 2;
        while high - low > 1 {
            let step = (high - low).div_ceil(SPLITS + 1);
            let splits: Vec<u64> = (1..=SPLITS).map(|split| low + split * step).filter(|split| *split < high).collect();
            let known = self.have(splits.iter().map(|number| entry(id, *number)).collect())?;
            let highest = splits.iter().zip(&known).rev().find(|(_, known)| **known).map(|(number, _)| *number);
            let next = splits.iter().copied().find(|number| *number > highest.unwrap_or(low)).unwrap_or(high);
            (low, high) = (highest.unwrap_or(low), next);
        }
        Ok(low.max(in_input))
    }
}

fn entry(id: &str, number: u64) -> String {
    entries::call(&own_call_id(id, number))
}

//! The ids that earlier runs of a thread have used, looked up a few entries at a time.
use std::collections::{HashMap, HashSet};

use crate::entries::{self, Class, own_call_id};

/// An answer, or the entries that have to be looked up first.
pub(super) type Lookup<T> = std::result::Result<T, Vec<String>>;

/// The doublings of a call's number that are looked up at once; no thread uses an id more than 2^24 times.
const DOUBLINGS: u32 = 24;
/// The numbers between two known ones that are looked up at once.
const SPLITS: u64 = 15;

/// The result of looking up one id: its own entry, and the marks of the classes.
#[derive(Debug, Default, Clone, Copy)]
struct Facts {
    /// The bits of the entries that were looked up.
    asked: u8,
    /// The bits of those that the thread has.
    known: u8,
}

/// The entries of the thread's stored runs that were looked up.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Whether there may be stored runs; if not, nothing is looked up.
    pub(super) exists: bool,
    /// By the id of a message, or by the entry of a call.
    facts: HashMap<String, Facts>,
    /// How often the input's messages have used a call's id.
    numbers: HashMap<String, u64>,
}

impl History {
    pub(super) fn learn(&mut self, wanted: Vec<String>, known: &HashSet<String>) {
        for entry in wanted {
            let is_known = known.contains(&entry);
            let (id, bit) = place_of(&entry);
            let facts = match self.facts.get_mut(id) {
                Some(facts) => facts,
                None => self.facts.entry(id.to_owned()).or_default(),
            };
            facts.asked |= bit;
            facts.known |= if is_known { bit } else { 0 };
        }
    }

    /// Return whether the thread has an entry; `None` if it was not looked up.
    fn find(&self, entry: &str) -> Option<bool> {
        let (id, bit) = place_of(entry);
        let facts = self.facts.get(id).filter(|facts| facts.asked & bit != 0)?;
        Some(facts.known & bit != 0)
    }

    /// Note a call of the input's messages.
    pub(super) fn note_call(&mut self, id: &str, number: u64) {
        let highest = self.numbers.entry(id.to_owned()).or_default();
        *highest = number.max(*highest);
    }

    pub(super) fn has(&self, entry: &str) -> Lookup<bool> {
        if !self.exists {
            return Ok(false);
        }
        self.find(entry).ok_or_else(|| vec![entry.to_owned()])
    }

    pub(super) fn have(&self, entries: Vec<String>) -> Lookup<Vec<bool>> {
        if !self.exists {
            return Ok(vec![false; entries.len()]);
        }
        let known: Vec<_> = entries.iter().map(|entry| self.find(entry)).collect();
        if known.iter().all(Option::is_some) {
            return Ok(known.into_iter().flatten().collect());
        }
        Err(entries.into_iter().zip(known).filter(|(_, known)| known.is_none()).map(|(entry, _)| entry).collect())
    }

    /// Return the class of a message of an earlier run; `None` if there is none.
    ///
    /// A message without a mark is the assistant's, or `unmarked`: 0.1.0 wrote no marks. Once it is known that the thread
    /// has the id, no marks after that of the `expected` class are looked up unless the answer depends on them.
    pub(super) fn class_of(&self, id: &str, expected: Option<Class>, unmarked: Option<Class>) -> Lookup<Option<Class>> {
        if !self.exists {
            return Ok(None);
        }
        let facts = self.facts.get(id).copied().unwrap_or_default();
        if facts.asked & bit_of(Class::Text) == 0 {
            let marks = Class::MARKED.iter().filter_map(|class| class.mark(id));
            return Err(marks.chain([id.to_owned()]).collect());
        }
        // A new id has no marks.
        if facts.known == 0 {
            return Ok(None);
        }
        let expected = Class::MARKED.iter().position(|class| Some(*class) == expected);
        let (first, last) = Class::MARKED.split_at(expected.map_or(Class::MARKED.len(), |index| index + 1));
        for classes in [first, last] {
            let marks = classes.iter().filter(|class| facts.asked & bit_of(**class) == 0);
            let wanted: Vec<_> = marks.filter_map(|class| class.mark(id)).collect();
            if !wanted.is_empty() {
                return Err(wanted);
            }
            if let Some(class) = classes.iter().find(|class| facts.known & bit_of(**class) != 0) {
                return Ok(Some(*class));
            }
        }
        Ok(Some(unmarked.unwrap_or(Class::Text)))
    }

    pub(super) fn is_prompt(&self, id: &str) -> bool {
        self.facts.get(id).is_some_and(|facts| facts.known & bit_of(Class::Prompt) != 0)
    }

    /// Return how often the thread has used a call's id.
    ///
    /// The calls have consecutive numbers, so the newest is found in a few lookups.
    pub(super) fn number_of(&self, id: &str) -> Lookup<u64> {
        let in_input = self.numbers.get(id).copied().unwrap_or_default();
        if !self.exists || (in_input == 0 && !self.has(&entries::call(id))?) {
            return Ok(in_input);
        }
        // Almost every id is used once.
        if in_input < 2 && !self.has(&entry(id, 2))? {
            return Ok(1);
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

/// Return the id that an entry is about, and the entry's bit among its facts.
fn place_of(entry: &str) -> (&str, u8) {
    Class::of_mark(entry).map_or((entry, bit_of(Class::Text)), |(class, id)| (id, bit_of(class)))
}

/// Return the bit of a class's mark. The assistant's messages have none, so their bit is that of the id itself.
fn bit_of(class: Class) -> u8 {
    1 << class as u8
}

fn entry(id: &str, number: u64) -> String {
    entries::call(&own_call_id(id, number))
}

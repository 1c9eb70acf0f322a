//! Which message follows which, as entries of a thread: they tell whether a client sends the list that the thread has.
//!
//! Each entry is a hash of two neighbours, so that the comparison costs by what is sent, not by the thread's length. Only
//! what users and assistants say is linked, because clients may leave out everything else. The result of a tool call
//! has an entry for its content.
use std::collections::HashMap;

use crate::entries::Class;
use crate::event::Event;
use crate::family::Role;
use crate::fold::Fold;
use crate::json::Json;
use crate::{members, scan, text};

/// The entry of a run in which a user or an assistant said something.
pub const SPOKE: &str = "\u{1}spoke";
/// The entry of a run that has replaced the thread's messages by others.
pub const REPLACED: &str = "\u{1}replaced";
/// How many of the last messages that are sent may be the thread's last one.
const LAST_CANDIDATES: usize = 16;

/// A message that is compared.
struct Said {
    is_result: bool,
    /// A number for its id and for what it says.
    hash: u64,
}

impl Said {
    /// Read a message; `None` for one that clients may leave out or word differently.
    fn read(message: &str) -> Option<Self> {
        let message = scan::members(message);
        let id = members::find_string(&message, "id")?;
        let role = members::find_string(&message, "role")?;
        let class = Class::of_role(Some(&role));
        if !matches!(class, Class::Text | Class::Tool) && role != "user" {
            return None;
        }
        let mut hash = text::extend_hash(text::hash(&role), &id);
        let mut add = |part: &str| {
            // A length in front keeps two parts from being taken for one.
            hash = text::extend_hash(text::extend_hash(hash, &part.len().to_string()), part);
        };
        add(&content(members::find(&message, "content")));
        for call in scan::elements(members::find(&message, "toolCalls").unwrap_or_default()) {
            add(&members::string_of(call, "id").unwrap_or_default());
            let function = members::value_of(call, "function").unwrap_or_default();
            add(&members::string_of(function, "name").unwrap_or_default());
            add(&content(members::value_of(function, "arguments")));
        }
        add(&members::find_string(&message, "toolCallId").unwrap_or_default());
        Some(Self { is_result: class == Class::Tool, hash })
    }

    /// Return the entry of a result.
    fn result_entry(&self) -> String {
        format!("\u{1}said {:016x}", self.hash)
    }

    /// Return the entry of a run's last message.
    fn last_entry(&self) -> String {
        format!("\u{1}last {:016x}", self.hash)
    }
}

/// Return a content in the one form that equal contents share; a missing one equals an empty text.
fn content(json: Option<&str>) -> String {
    let Some(json) = json.filter(|&json| json != "null") else { return String::new() };
    if let Some(escaped) = text::unquote(json) {
        return text::canonicalize(escaped).into_owned();
    }
    let mut out = String::new();
    Json::parse(json).write(&mut out);
    out
}

/// Return the entry of a message that follows another one.
fn link(previous: u64, next: &Said) -> String {
    format!("\u{1}link {:016x}", text::extend_hash(previous, &next.hash.to_string()))
}

fn read_all(messages: &str) -> Vec<Said> {
    scan::elements(messages).into_iter().filter_map(Said::read).collect()
}

fn sent(input: &str) -> Vec<Said> {
    read_all(members::value_of(input, "messages").unwrap_or_default())
}

/// Return the entries of the messages of a run's input: their links, and the contents of results.
pub fn entries_of_input(input: &str) -> Vec<String> {
    entries_of(&sent(input), None)
}

fn entries_of(messages: &[Said], mut previous: Option<u64>) -> Vec<String> {
    let mut entries = Vec::with_capacity(messages.len());
    for message in messages {
        if message.is_result {
            entries.push(message.result_entry());
        } else {
            entries.extend(previous.map(|previous| link(previous, message)));
            previous = Some(message.hash);
        }
    }
    entries
}

/// Return the entries that [`compare`] needs for a run's input, besides the ids of its messages.
pub fn asked_entries(input: &str) -> Vec<String> {
    let sent = sent(input);
    if sent.is_empty() {
        return Vec::new();
    }
    let mut entries = entries_of(&sent, None);
    entries.extend(sent.iter().rev().filter(|message| !message.is_result).take(LAST_CANDIDATES).map(Said::last_entry));
    entries.extend([SPOKE.to_owned(), REPLACED.to_owned()]);
    entries
}

/// How the messages that a client sends compare with those of the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The client sends none of the thread's messages.
    OnlyNew,
    /// The client sends the thread's newest messages as they are, and then perhaps new ones.
    ///
    /// The hash is that of the thread's last message, which the run's first one will follow.
    Same(Option<u64>),
    /// The client may have changed, removed or moved a message.
    Different,
}

/// Compare the messages of a run's input with those of its thread.
///
/// `known` has those of the asked entries and ids that the thread has, each with the last sequence number of the newest
/// run that has it. `Different` may be wrong, for a thread that another program has written; the others never are.
pub fn compare(input: &str, known: &HashMap<String, u64>) -> Comparison {
    let number = |entry: &str| known.get(entry).copied();
    let replaced = number(REPLACED).unwrap_or(0);
    // Entries from before the messages were replaced no longer count.
    let is_current = |entry: &str| number(entry).is_some_and(|seq| seq >= replaced);
    let messages = scan::elements(members::value_of(input, "messages").unwrap_or_default());
    let mut last: Option<Said> = None;
    let (mut has_known, mut has_new) = (false, false);
    for message in messages {
        let Some(id) = members::string_of(message, "id") else { continue };
        let said = Said::read(message);
        match number(&id) {
            // A message that only some clients keep may be new at any place.
            None => has_new |= said.is_some(),
            Some(seq) if seq < replaced => return Comparison::Different,
            Some(_) if said.is_some() && has_new => return Comparison::Different,
            Some(_) => has_known = true,
        }
        let Some(said) = said.filter(|_| !has_new) else { continue };
        let is_same = if said.is_result {
            is_current(&said.result_entry())
        } else {
            last.as_ref().is_none_or(|last| is_current(&link(last.hash, &said)))
        };
        if !is_same {
            return Comparison::Different;
        }
        if !said.is_result {
            last = Some(said);
        }
    }
    let Some(last) = last else {
        return if has_known { Comparison::Same(None) } else { Comparison::OnlyNew };
    };
    // The client must also have the last message, or it has gone back to an earlier one.
    match number(&last.last_entry()) {
        Some(seq) if number(SPOKE) == Some(seq) => Comparison::Same(Some(last.hash)),
        _ => Comparison::Different,
    }
}

/// A run's messages, whose entries the run adds to its thread.
#[derive(Debug, Default)]
pub struct RunLinks {
    fold: Fold,
    is_replaced: bool,
}

impl RunLinks {
    /// Push the run's next event.
    pub fn push(&mut self, event: &Event<'_>) {
        if event.role() == Role::MessagesSnapshot {
            // In the snapshot's own order; a client keeps the order that it had, and is then compared as a whole once.
            *self = Self { is_replaced: true, fold: Fold::new() };
        }
        self.fold.push(event);
    }

    /// Return the entries; `previous` is the hash of the thread's last message before the run.
    pub fn entries(&self, previous: Option<u64>) -> Vec<String> {
        let messages = read_all(&self.fold.messages());
        let mut entries = entries_of(&messages, previous.filter(|_| !self.is_replaced));
        if let Some(last) = messages.iter().rev().find(|message| !message.is_result) {
            entries.extend([last.last_entry(), SPOKE.to_owned()]);
        }
        entries.extend(self.is_replaced.then(|| REPLACED.to_owned()));
        entries
    }
}

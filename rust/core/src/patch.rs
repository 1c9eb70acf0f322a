//! JSON Patch (RFC 6902) over the lossless tree.
//!
//! It accepts and refuses what AG-UI's client does (fast-json-patch, validating), so that a client that replays the
//! patches ends with the same document.
use crate::json::{Json, SmallText};
use crate::scan::MAX_DEPTH;
use crate::text::canonicalize;

mod budget;
mod failure;
mod measure;
mod pointer;

pub use budget::Budget;
pub use failure::Failure;
use failure::Outcome;
pub use measure::bytes_of;
use measure::{MEMBER_BYTES, Measure, measure};
use pointer::{INHERITED, parse_index, parse_pointer};

/// How many levels a patched document may nest: one less than an event, so that a snapshot of it is a valid event.
const MAX_LEVELS: usize = MAX_DEPTH as usize - 1;

/// How many bytes `copy` may add in one patch. Copying the root into itself doubles the document each time.
const MAX_COPIED_BYTES: usize = 16 << 20;

const LEADS_TO_VALUES: &str = "a path leads through containers to a value";

/// Apply a patch as a whole, and return by how many bytes the document has grown.
///
/// The document may not grow by more than `max_growth` bytes.
pub fn apply(document: &mut Json, patch: Json, budget: &mut Budget, max_growth: usize) -> Outcome<isize> {
    let Json::Array(mut operations) = patch else { return Err("a patch must be an array".into()) };
    let mut transaction =
        Transaction { document, undo: Vec::new(), copied_bytes: 0, added_bytes: 0, max_levels: None, budget };
    for index in 0..operations.len() {
        let operation = operations.get_mut(index).expect("the index is in range");
        if let Err(failure) = transaction.apply(operation) {
            transaction.roll_back();
            return Err(failure.at(index));
        }
    }
    let outcome = transaction.check_growth(max_growth);
    if outcome.is_err() {
        transaction.roll_back();
    }
    outcome
}

/// A document being patched, and the inverse of each change so far.
///
/// Patching a copy would copy the whole state for every patch. Undoing touches only what the patch changed.
struct Transaction<'d> {
    document: &'d mut Json,
    undo: Vec<Undo>,
    copied_bytes: usize,
    added_bytes: usize,
    /// At least how many levels the document nests; `None` before it matters.
    max_levels: Option<usize>,
    budget: &'d mut Budget,
}

/// The inverse of one change. A path is a list of indexes, those of object members too.
enum Undo {
    /// Remove an added value.
    Remove(Vec<usize>),
    /// Insert a removed value under its key.
    Insert(Vec<usize>, SmallText, Json),
    /// Put back a replaced value.
    Replace(Vec<usize>, Json),
    /// Move a value back, and put back the one it replaced.
    Move { to: Vec<usize>, replaced: Option<Json>, from: Vec<usize>, key: SmallText },
}

/// Where a value goes.
struct Target<'p> {
    path: Vec<usize>,
    key: &'p str,
    /// Whether the value is inserted; otherwise it replaces the value at the path.
    is_new: bool,
}

impl Transaction<'_> {
    fn apply(&mut self, operation: &mut Json) -> Outcome<()> {
        let Json::Object(_) = operation else { return Err("an operation must be an object".into()) };
        let text = |name: &str| {
            let text = operation.get(name).and_then(Json::as_escaped).map(canonicalize);
            text.ok_or_else(|| format!("`{name}` must be a string"))
        };
        let op = text("op")?.into_owned();
        let path = parse_pointer(&text("path")?)?;
        let from = if matches!(&*op, "copy" | "move") { Some(parse_pointer(&text("from")?)?) } else { None };
        self.budget.spend_operation(path.len() + from.as_ref().map_or(0, Vec::len))?;
        // Taken out and not copied, because the patch is not needed afterwards.
        let mut take_value = || {
            let value = operation.get_mut("value").ok_or("`value` is missing")?;
            Ok::<_, Failure>(std::mem::replace(value, Json::null()))
        };
        match (&*op, from) {
            ("add", _) => self.put(self.find_target(&path, true)?, take_value()?),
            ("replace", _) => self.put(self.find_existing(&path)?, take_value()?),
            ("remove", _) => self.remove(&path),
            ("test", _) if *node_at(self.document, &self.resolve(&path, false)?) == take_value()? => Ok(()),
            ("test", _) => Err("the test failed".into()),
            ("copy", Some(from)) => self.copy(&path, &from),
            ("move", Some(from)) => self.relocate(&path, &from),
            _ => Err(format!("`{op}` is not an operation").into()),
        }
    }

    /// Resolve a pointer into indexes.
    ///
    /// With `is_strict` an array's index must have its one spelling, as the reference asks of a path that must exist.
    /// Otherwise `01` and the empty token are numbers too.
    fn resolve(&self, pointer: &[String], is_strict: bool) -> Outcome<Vec<usize>> {
        let mut node = &*self.document;
        let mut path = Vec::with_capacity(pointer.len() + 1);
        for token in pointer {
            let index = match node {
                Json::Array(items) => parse_index(token)
                    .filter(|&index| index < items.len() && !(is_strict && index.to_string() != *token)),
                _ => node.position(token),
            };
            let index = index.ok_or_else(|| format!("nothing at `{token}`"))?;
            node = child(node, index);
            path.push(index);
        }
        Ok(path)
    }

    /// Find where `add` puts a value. Without `is_strict` an index beyond an array's end means its end.
    fn find_target<'p>(&self, pointer: &'p [String], is_strict: bool) -> Outcome<Target<'p>> {
        let Some((key, parents)) = pointer.split_last() else {
            return Ok(Target { path: Vec::new(), key: "", is_new: false });
        };
        let mut path = self.resolve(parents, is_strict)?;
        let parent = node_at(self.document, &path);
        let (index, is_new) = match parent {
            Json::Array(items) => match parse_index(key) {
                _ if key == "-" => (items.len(), true),
                Some(index) if is_strict && index > items.len() => {
                    return Err("the index is beyond the array's end".into());
                }
                Some(index) => (index.min(items.len()), true),
                None => return Err("an array's index must be a number or `-`".into()),
            },
            Json::Object(members) => members.position(key).map_or((members.end(), true), |index| (index, false)),
            _ => return Err("the parent is neither an array nor an object".into()),
        };
        path.push(index);
        Ok(Target { path, key, is_new })
    }

    /// Find where `replace` puts a value: in place of an existing one.
    fn find_existing<'p>(&self, pointer: &'p [String]) -> Outcome<Target<'p>> {
        match self.resolve(pointer, true) {
            Ok(path) => Ok(Target { path, key: "", is_new: false }),
            Err(_) if pointer.last().is_some_and(|key| INHERITED.contains(&key.as_str())) => {
                self.find_target(pointer, true)
            }
            Err(reason) => Err(reason),
        }
    }

    fn put(&mut self, target: Target<'_>, value: Json) -> Outcome<()> {
        let size = measure(&value);
        self.put_measured(target, value, &size)
    }

    fn put_measured(&mut self, target: Target<'_>, value: Json, size: &Measure) -> Outcome<()> {
        // A document that nests deeper could not be sent: its snapshot would not be a valid event.
        self.check_levels(&target, size.levels)?;
        self.added_bytes += size.bytes + target.key.len() + MEMBER_BYTES;
        let undo = match self.fill(&target, value) {
            Some(replaced) => Undo::Replace(target.path, replaced),
            None => Undo::Remove(target.path),
        };
        self.undo.push(undo);
        Ok(())
    }

    fn remove(&mut self, pointer: &[String]) -> Outcome<()> {
        let target = self.find_existing(pointer)?;
        if pointer.is_empty() {
            // Once its root is removed, the reference's document is null.
            return self.put(target, Json::null());
        }
        if !target.is_new {
            let (key, value) = self.detach(&target.path);
            self.undo.push(Undo::Insert(target.path, key, value));
        }
        Ok(())
    }

    fn copy(&mut self, pointer: &[String], from: &[String]) -> Outcome<()> {
        let target = self.find_target(pointer, false)?;
        let value = node_at(self.document, &self.resolve(from, !pointer.is_empty())?);
        // Counted before the value is cloned, so that the limits also bound the memory and time of a refused patch.
        let size = self.budget.measure(value)?;
        self.copied_bytes += size.bytes;
        if self.copied_bytes > MAX_COPIED_BYTES {
            return Err(Failure::OverLimit(format!("the patch copies more than {MAX_COPIED_BYTES} bytes")));
        }
        self.budget.spend_copy(&size)?;
        let value = value.clone();
        self.put_measured(target, value, &size)
    }

    /// Apply `move`. The value is taken out first, because the target's path is that of the document without it.
    fn relocate(&mut self, pointer: &[String], from: &[String]) -> Outcome<()> {
        // A target that does not exist is refused before anything changes.
        let depth = self.find_target(pointer, false)?.path.len();
        let from = self.resolve(from, !pointer.is_empty())?;
        if from.is_empty() {
            return if pointer.is_empty() { Ok(()) } else { Err("the root cannot be moved into itself".into()) };
        }
        let levels = self.bound_levels(&from, depth)?;
        let (key, value) = self.detach(&from);
        let target = self.find_target(pointer, false).and_then(|target| {
            self.check_levels(&target, levels)?;
            Ok(target)
        });
        match target {
            Ok(target) => {
                let replaced = self.fill(&target, value);
                self.undo.push(Undo::Move { to: target.path, replaced, from, key });
                Ok(())
            }
            Err(failure) => {
                // Put back here, because `roll_back` only undoes operations that succeeded.
                self.attach(&from, key, value);
                Err(failure)
            }
        }
    }

    /// Return at least how many levels the value at a path nests, exactly if it matters at its new depth.
    ///
    /// Measuring the value in every `move` would make moves of a large value slow.
    fn bound_levels(&mut self, path: &[usize], depth: usize) -> Outcome<usize> {
        // The value is within the limit where it is, so it is within the limit higher up.
        if depth <= path.len() {
            return Ok(MAX_LEVELS - path.len());
        }
        if let Some(levels) = self.max_levels
            && depth + levels - path.len() <= MAX_LEVELS
        {
            return Ok(levels - path.len());
        }
        // From here on counted, because the document may be large.
        self.max_levels = Some(self.budget.measure(self.document)?.levels);
        Ok(self.budget.measure(node_at(self.document, path))?.levels)
    }

    fn check_levels(&mut self, target: &Target<'_>, levels: usize) -> Outcome<()> {
        let levels = target.path.len() + levels;
        if levels > MAX_LEVELS {
            return Err(Failure::OverLimit(format!("the document would nest deeper than {MAX_LEVELS} levels")));
        }
        self.max_levels = self.max_levels.map(|known| known.max(levels));
        Ok(())
    }

    /// Return by how many bytes the document has grown.
    fn check_growth(&mut self, max_growth: usize) -> Outcome<isize> {
        let mut removed_bytes = 0;
        for undo in &self.undo {
            if let Some(value) = undo.removed_value() {
                removed_bytes += MEMBER_BYTES + self.budget.measure(value)?.bytes;
            }
        }
        if self.added_bytes > removed_bytes.saturating_add(max_growth) {
            let growth = self.added_bytes - removed_bytes;
            return Err(Failure::TooLarge(format!("the patch adds {growth} bytes, but only {max_growth} are left")));
        }
        Ok(self.added_bytes.cast_signed() - removed_bytes.cast_signed())
    }

    /// Put a value at its target; return the value it replaced.
    fn fill(&mut self, target: &Target<'_>, value: Json) -> Option<Json> {
        if target.is_new {
            self.attach(&target.path, target.key.into(), value);
            return None;
        }
        Some(std::mem::replace(node_at_mut(self.document, &target.path), value))
    }

    fn attach(&mut self, path: &[usize], key: SmallText, value: Json) {
        let (&index, parents) = path.split_last().expect("the root is only ever replaced");
        match node_at_mut(self.document, parents) {
            Json::Array(items) => items.insert(index, value),
            Json::Object(members) => members.insert(index, key, value),
            _ => unreachable!("a path leads through containers"),
        }
    }

    fn detach(&mut self, path: &[usize]) -> (SmallText, Json) {
        let (&index, parents) = path.split_last().expect("the root is only ever replaced");
        match node_at_mut(self.document, parents) {
            Json::Array(items) => ("".into(), items.remove(index)),
            Json::Object(members) => members.remove(index),
            _ => unreachable!("a path leads through containers"),
        }
    }

    fn roll_back(&mut self) {
        // In reverse order, because each path is valid only in the document its change left behind.
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Remove(path) => drop(self.detach(&path)),
                Undo::Insert(path, key, value) => self.attach(&path, key, value),
                Undo::Replace(path, value) => *node_at_mut(self.document, &path) = value,
                Undo::Move { to, replaced, from, key } => {
                    let value = match replaced {
                        Some(replaced) => std::mem::replace(node_at_mut(self.document, &to), replaced),
                        None => self.detach(&to).1,
                    };
                    self.attach(&from, key, value);
                }
            }
        }
    }
}

fn child(node: &Json, index: usize) -> &Json {
    let child = match node {
        Json::Array(items) => items.get(index),
        Json::Object(members) => members.at(index),
        _ => None,
    };
    child.expect(LEADS_TO_VALUES)
}

fn node_at<'d>(document: &'d Json, path: &[usize]) -> &'d Json {
    path.iter().fold(document, |node, &index| child(node, index))
}

fn node_at_mut<'d>(document: &'d mut Json, path: &[usize]) -> &'d mut Json {
    path.iter().fold(document, |node, &index| {
        let child = match node {
            Json::Array(items) => items.get_mut(index),
            Json::Object(members) => members.at_mut(index),
            _ => None,
        };
        child.expect(LEADS_TO_VALUES)
    })
}

impl Undo {
    /// Return the value that the change took out of the document.
    fn removed_value(&self) -> Option<&Json> {
        match self {
            Self::Remove(_) | Self::Move { replaced: None, .. } => None,
            Self::Insert(_, _, value) | Self::Replace(_, value) | Self::Move { replaced: Some(value), .. } => {
                Some(value)
            }
        }
    }
}

//! JSON Patch (RFC 6902) over the lossless tree.
//!
//! It accepts and refuses what AG-UI's client does (fast-json-patch, validating), so that a client that replays the
//! patches ends with the same document.
use std::borrow::Cow;

use smallvec::SmallVec;

use crate::json::{Json, SmallText};
use crate::members::{self, Members};
use crate::scan::{self, MAX_DEPTH};
use crate::text::{self, canonicalize};

mod budget;
mod failure;
mod measure;
mod path;
mod pointer;

pub use budget::Budget;
pub use failure::Failure;
use failure::Outcome;
pub use measure::bytes_of;
use measure::{MEMBER_BYTES, Measure, measure};
use path::{LEADS_TO_VALUES, Path, child, node_at, node_at_mut};
use pointer::{INHERITED, is_index, parse_index, parse_pointer};

/// How many levels a patched document may nest: one less than an event, so that a snapshot of it is a valid event.
const MAX_LEVELS: usize = MAX_DEPTH as usize - 1;

/// How many bytes `copy` may add in one patch. Copying the root into itself doubles the document each time.
const MAX_COPIED_BYTES: usize = 16 << 20;

const ROOT_STAYS: &str = "the root is only ever replaced";

/// Apply a patch, as valid JSON, as a whole, and return by how many bytes the document has grown.
///
/// The document may not grow by more than `max_growth` bytes.
pub fn apply(document: &mut Json, patch: &str, budget: &mut Budget, max_growth: usize) -> Outcome<isize> {
    if !patch.starts_with('[') {
        return Err("a patch must be an array".into());
    }
    let mut transaction = Transaction {
        document,
        undo: Vec::new(),
        copied_bytes: 0,
        added_bytes: 0,
        max_levels: None,
        moved: None,
        budget,
    };
    for (index, (operation, members)) in scan::objects(patch).enumerate() {
        if let Err(failure) = transaction.apply(operation, &members) {
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
    /// How many levels the document nests at most; `None` before it matters.
    max_levels: Option<usize>,
    /// Where the last operation has moved a value, and how many levels that nests.
    moved: Option<(Path, usize)>,
    budget: &'d mut Budget,
}

/// The tokens of a JSON pointer.
type Pointer<'p> = [Cow<'p, str>];

/// The inverse of one change.
enum Undo {
    /// Remove an added value.
    Remove(Path),
    /// Insert a removed value where it was.
    Insert(Path, Detached),
    /// Put back a replaced value.
    Replace(Path, Json),
    /// Move a value back, and put back the one it replaced.
    Move { to: Path, replaced: Option<Json>, from: Path, key: SmallText, before: Option<usize> },
}

/// A value that was taken out, its key, and the position of the member before it.
struct Detached {
    value: Json,
    key: SmallText,
    before: Option<usize>,
}

/// Where a value goes.
struct Target<'p> {
    /// The last index of a new member of an object is found when it is added.
    path: Path,
    key: &'p str,
    /// Whether the value is inserted; otherwise it replaces the value at the path.
    is_new: bool,
}

impl Transaction<'_> {
    fn apply(&mut self, operation: &str, members: &Members<'_>) -> Outcome<()> {
        if !operation.starts_with('{') {
            return Err("an operation must be an object".into());
        }
        let text = |name: &str| {
            let text = members::find(members, name).and_then(text::unquote).map(canonicalize);
            text.ok_or_else(|| format!("`{name}` must be a string"))
        };
        let op = text("op")?;
        let path = text("path")?;
        let path = parse_pointer(&path)?;
        let from = if matches!(&*op, "copy" | "move") { Some(text("from")?) } else { None };
        let from = from.as_deref().map(parse_pointer).transpose()?;
        self.budget.spend_operation(path.len() + from.as_ref().map_or(0, SmallVec::len))?;
        if op != "move" {
            self.moved = None;
        }
        let value = || members::find(members, "value").map(Json::parse).ok_or("`value` is missing");
        match (&*op, from) {
            ("add", _) => self.put(self.find_target(&path, true)?, value()?),
            ("replace", _) => self.put(self.find_existing(&path)?, value()?),
            ("remove", _) => self.remove(&path),
            ("test", _) if *node_at(self.document, &self.resolve(&path, false)?) == value()? => Ok(()),
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
    fn resolve(&self, pointer: &Pointer<'_>, is_strict: bool) -> Outcome<Path> {
        let mut node = &*self.document;
        let mut path = Path::with_capacity(pointer.len() + 1);
        for token in pointer {
            let index = match node {
                Json::Array(items) if !is_strict || is_index(token) => {
                    parse_index(token).filter(|&index| index < items.len())
                }
                Json::Array(_) => None,
                _ => node.position(token),
            };
            let index = index.ok_or_else(|| format!("nothing at `{token}`"))?;
            node = child(node, index);
            path.push(index as u32);
        }
        Ok(path)
    }

    /// Find where `add` puts a value. Without `is_strict` an index beyond an array's end means its end.
    fn find_target<'p>(&self, pointer: &'p Pointer<'_>, is_strict: bool) -> Outcome<Target<'p>> {
        let Some((key, parents)) = pointer.split_last() else {
            return Ok(Target { path: Path::new(), key: "", is_new: false });
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
            Json::Object(members) => members.position(key).map_or((0, true), |index| (index, false)),
            _ => return Err("the parent is neither an array nor an object".into()),
        };
        path.push(index as u32);
        Ok(Target { path, key, is_new })
    }

    /// Find where `replace` puts a value: in place of an existing one.
    fn find_existing<'p>(&self, pointer: &'p Pointer<'_>) -> Outcome<Target<'p>> {
        match self.resolve(pointer, true) {
            Ok(path) => Ok(Target { path, key: "", is_new: false }),
            Err(_) if pointer.last().is_some_and(|key| INHERITED.contains(&&**key)) => self.find_target(pointer, true),
            Err(reason) => Err(reason),
        }
    }

    fn put(&mut self, target: Target<'_>, value: Json) -> Outcome<()> {
        let size = measure(&value);
        self.put_measured(target, value, &size)
    }

    fn put_measured(&mut self, mut target: Target<'_>, value: Json, size: &Measure) -> Outcome<()> {
        // A document that nests deeper could not be sent: its snapshot would not be a valid event.
        self.check_levels(&target, size.levels)?;
        self.added_bytes += size.bytes + target.key.len() + MEMBER_BYTES;
        let undo = match self.fill(&mut target, value) {
            Some(replaced) => Undo::Replace(target.path, replaced),
            None => Undo::Remove(target.path),
        };
        self.undo.push(undo);
        Ok(())
    }

    fn remove(&mut self, pointer: &Pointer<'_>) -> Outcome<()> {
        let target = self.find_existing(pointer)?;
        if pointer.is_empty() {
            // Once its root is removed, the reference's document is null.
            return self.put(target, Json::null());
        }
        if !target.is_new {
            let detached = self.detach(&target.path);
            self.undo.push(Undo::Insert(target.path, detached));
        }
        Ok(())
    }

    fn copy(&mut self, pointer: &Pointer<'_>, from: &Pointer<'_>) -> Outcome<()> {
        let target = self.find_target(pointer, false)?;
        let value = node_at(self.document, &self.resolve(from, !pointer.is_empty())?);
        // Count before cloning the value, so that the limits also bound the memory and time of a refused patch.
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
    fn relocate(&mut self, pointer: &Pointer<'_>, from: &Pointer<'_>) -> Outcome<()> {
        // A target that does not exist is refused before anything changes.
        let depth = self.find_target(pointer, false)?.path.len();
        let from = self.resolve(from, !pointer.is_empty())?;
        if from.is_empty() {
            return if pointer.is_empty() { Ok(()) } else { Err("the root cannot be moved into itself".into()) };
        }
        let levels = match self.moved.take() {
            // Moved again and again, a value would otherwise seem to nest deeper each time.
            Some((path, levels)) if path == from => levels,
            _ => self.bound_levels(&from, depth)?,
        };
        let Detached { value, key, before } = self.detach(&from);
        let target = self.find_target(pointer, false).and_then(|target| {
            self.check_levels(&target, levels)?;
            Ok(target)
        });
        match target {
            Ok(mut target) => {
                let replaced = self.fill(&mut target, value);
                self.moved = Some((target.path.clone(), levels));
                self.undo.push(Undo::Move { to: target.path, replaced, from, key, before });
                Ok(())
            }
            Err(failure) => {
                // Put back here, because `roll_back` only undoes operations that succeeded.
                self.put_back(&from, Detached { value, key, before });
                Err(failure)
            }
        }
    }

    /// Return how many levels the value at a path nests at most, exactly if it matters at its new depth.
    ///
    /// Measuring the value in every `move` would make moves of a large value slow.
    fn bound_levels(&mut self, path: &[u32], depth: usize) -> Outcome<usize> {
        // The value is within the limit where it is, so it is within the limit higher up.
        let levels = self.max_levels.unwrap_or(MAX_LEVELS);
        if depth <= path.len() || depth + levels - path.len() <= MAX_LEVELS {
            return Ok(levels - path.len());
        }
        // Count the levels from here on, because the document may be large.
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
    fn fill(&mut self, target: &mut Target<'_>, value: Json) -> Option<Json> {
        if !target.is_new {
            return Some(std::mem::replace(node_at_mut(self.document, &target.path), value));
        }
        let (index, parents) = target.path.split_last_mut().expect(ROOT_STAYS);
        match node_at_mut(self.document, parents) {
            Json::Array(items) => items.insert(*index as usize, value),
            Json::Object(members) => *index = members.push(target.key.into(), value) as u32,
            _ => unreachable!("{LEADS_TO_VALUES}"),
        }
        None
    }

    fn detach(&mut self, path: &[u32]) -> Detached {
        let (&index, parents) = path.split_last().expect(ROOT_STAYS);
        let index = index as usize;
        match node_at_mut(self.document, parents) {
            Json::Array(items) => Detached { value: items.remove(index), key: "".into(), before: None },
            Json::Object(members) => {
                let (key, value, before) = members.remove(index);
                Detached { value, key, before }
            }
            _ => unreachable!("{LEADS_TO_VALUES}"),
        }
    }

    fn put_back(&mut self, path: &[u32], detached: Detached) {
        let (&index, parents) = path.split_last().expect(ROOT_STAYS);
        let index = index as usize;
        let Detached { value, key, before } = detached;
        match node_at_mut(self.document, parents) {
            Json::Array(items) => items.insert(index, value),
            Json::Object(members) => members.put_back(index, before, key, value),
            _ => unreachable!("{LEADS_TO_VALUES}"),
        }
    }

    fn roll_back(&mut self) {
        // In reverse order, because each path is valid only in the document right after its change.
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Remove(path) => drop(self.detach(&path)),
                Undo::Insert(path, detached) => self.put_back(&path, detached),
                Undo::Replace(path, value) => *node_at_mut(self.document, &path) = value,
                Undo::Move { to, replaced, from, key, before } => {
                    let value = match replaced {
                        Some(replaced) => std::mem::replace(node_at_mut(self.document, &to), replaced),
                        None => self.detach(&to).value,
                    };
                    self.put_back(&from, Detached { value, key, before });
                }
            }
        }
    }
}

impl Undo {
    /// Return the value that the change took out of the document.
    fn removed_value(&self) -> Option<&Json> {
        match self {
            Self::Remove(_) | Self::Move { replaced: None, .. } => None,
            Self::Insert(_, Detached { value, .. })
            | Self::Replace(_, value)
            | Self::Move { replaced: Some(value), .. } => Some(value),
        }
    }
}

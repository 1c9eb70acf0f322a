//! JSON Patch (RFC 6902) over the lossless tree.
//!
//! It accepts and refuses what AG-UI's client does (fast-json-patch, validating), so that a client that replays the
//! patches ends with the same document.
use crate::json::{Json, canonicalize};
use crate::scan::MAX_DEPTH;

/// How many levels a patched document may nest: one less than an event, so that a snapshot of it is a valid event.
const MAX_LEVELS: usize = MAX_DEPTH as usize - 1;

/// How many bytes `copy` may add in one patch. Copying the root into itself doubles the document each time.
const MAX_COPIED_BYTES: usize = 16 << 20;

/// Properties of every JavaScript object. The reference replaces and removes them although the document has none.
const INHERITED: &[&str] = &[
    "constructor",
    "__defineGetter__",
    "__defineSetter__",
    "hasOwnProperty",
    "__lookupGetter__",
    "__lookupSetter__",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toString",
    "valueOf",
    "toLocaleString",
];

/// Apply a patch as a whole. A refused patch leaves the document unchanged.
pub fn apply(document: &mut Json, patch: &Json) -> Result<(), String> {
    let Json::Array(operations) = patch else { return Err("a patch must be an array".into()) };
    let mut transaction = Transaction { document, undo: Vec::new(), copied_bytes: 0 };
    for (index, operation) in operations.iter().enumerate() {
        if let Err(reason) = transaction.apply(operation) {
            transaction.roll_back();
            return Err(format!("operation {index}: {reason}"));
        }
    }
    Ok(())
}

/// A document being patched, and the inverse of each change so far.
///
/// Patching a copy would copy the whole state for every patch. Undoing touches only what the patch changed.
struct Transaction<'d> {
    document: &'d mut Json,
    undo: Vec<Undo>,
    copied_bytes: usize,
}

/// The inverse of one change. A path is a list of indexes, those of object members too.
enum Undo {
    /// Remove an added value.
    Remove(Vec<usize>),
    /// Insert a removed value under its key.
    Insert(Vec<usize>, String, Json),
    /// Put back a replaced value.
    Replace(Vec<usize>, Json),
    /// Move a value back, and put back the one it replaced.
    Move { to: Vec<usize>, replaced: Option<Json>, from: Vec<usize>, key: String },
}

/// Where a value goes.
struct Target<'p> {
    path: Vec<usize>,
    key: &'p str,
    /// Whether the value is inserted; otherwise it replaces the value at the path.
    is_new: bool,
}

impl Transaction<'_> {
    fn apply(&mut self, operation: &Json) -> Result<(), String> {
        let Json::Object(_) = operation else { return Err("an operation must be an object".into()) };
        let text = |name: &str| {
            let text = operation.get(name).and_then(Json::as_escaped).map(canonicalize);
            text.ok_or_else(|| format!("`{name}` must be a string"))
        };
        let op = text("op")?;
        let path = parse_pointer(&text("path")?)?;
        let value = || operation.get("value").ok_or("`value` is missing");
        let from = || parse_pointer(&text("from")?);
        match &*op {
            "add" => self.put(self.find_target(&path, true)?, value()?.clone()),
            "replace" => self.put(self.find_existing(&path)?, value()?.clone()),
            "remove" => self.remove(&path),
            "test" if node_at(self.document, &self.resolve(&path, false)?) == value()? => Ok(()),
            "test" => Err("the test failed".into()),
            "copy" => self.copy(&path, &from()?),
            "move" => self.relocate(&path, &from()?),
            _ => Err(format!("`{op}` is not an operation")),
        }
    }

    /// Resolve a pointer into indexes.
    ///
    /// With `is_strict` an array's index must have its one spelling, as the reference asks of a path that must exist.
    /// Otherwise `01` and the empty token are numbers too.
    fn resolve(&self, pointer: &[String], is_strict: bool) -> Result<Vec<usize>, String> {
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
    fn find_target<'p>(&self, pointer: &'p [String], is_strict: bool) -> Result<Target<'p>, String> {
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
            Json::Object(members) => parent.position(key).map_or((members.len(), true), |index| (index, false)),
            _ => return Err("the parent is neither an array nor an object".into()),
        };
        path.push(index);
        Ok(Target { path, key, is_new })
    }

    /// Find where `replace` puts a value: in place of an existing one.
    fn find_existing<'p>(&self, pointer: &'p [String]) -> Result<Target<'p>, String> {
        match self.resolve(pointer, true) {
            Ok(path) => Ok(Target { path, key: "", is_new: false }),
            Err(_) if pointer.last().is_some_and(|key| INHERITED.contains(&key.as_str())) => {
                self.find_target(pointer, true)
            }
            Err(reason) => Err(reason),
        }
    }

    fn put(&mut self, target: Target<'_>, value: Json) -> Result<(), String> {
        // A document that nests deeper could not be sent: its snapshot would not be a valid event.
        check_levels(&target, measure(&value).levels)?;
        let undo = match self.fill(&target, value) {
            Some(replaced) => Undo::Replace(target.path, replaced),
            None => Undo::Remove(target.path),
        };
        self.undo.push(undo);
        Ok(())
    }

    fn remove(&mut self, pointer: &[String]) -> Result<(), String> {
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

    fn copy(&mut self, pointer: &[String], from: &[String]) -> Result<(), String> {
        let target = self.find_target(pointer, false)?;
        let value = node_at(self.document, &self.resolve(from, !pointer.is_empty())?);
        // Counted before the value is cloned, so that the limit also bounds the memory of a refused patch.
        self.copied_bytes += measure(value).bytes;
        if self.copied_bytes > MAX_COPIED_BYTES {
            return Err(format!("the patch copies more than {MAX_COPIED_BYTES} bytes"));
        }
        let value = value.clone();
        self.put(target, value)
    }

    /// Apply `move`. The value is taken out first, because the target's path is that of the document without it.
    fn relocate(&mut self, pointer: &[String], from: &[String]) -> Result<(), String> {
        // A target that does not exist is refused before anything changes.
        self.find_target(pointer, false)?;
        let from = self.resolve(from, !pointer.is_empty())?;
        if from.is_empty() {
            return if pointer.is_empty() { Ok(()) } else { Err("the root cannot be moved into itself".into()) };
        }
        let (key, value) = self.detach(&from);
        let target = self.find_target(pointer, false).and_then(|target| {
            check_levels(&target, measure(&value).levels)?;
            Ok(target)
        });
        match target {
            Ok(target) => {
                let replaced = self.fill(&target, value);
                self.undo.push(Undo::Move { to: target.path, replaced, from, key });
                Ok(())
            }
            Err(reason) => {
                // Put back here, because `roll_back` only undoes operations that succeeded.
                self.attach(&from, key, value);
                Err(reason)
            }
        }
    }

    /// Put a value at its target; return the value it replaced.
    fn fill(&mut self, target: &Target<'_>, value: Json) -> Option<Json> {
        if target.is_new {
            self.attach(&target.path, target.key.into(), value);
            return None;
        }
        Some(std::mem::replace(node_at_mut(self.document, &target.path), value))
    }

    fn attach(&mut self, path: &[usize], key: String, value: Json) {
        let (&index, parents) = path.split_last().expect("the root is only ever replaced");
        match node_at_mut(self.document, parents) {
            Json::Array(items) => items.insert(index, value),
            Json::Object(members) => members.insert(index, (key, value)),
            _ => unreachable!("a path leads through containers"),
        }
    }

    fn detach(&mut self, path: &[usize]) -> (String, Json) {
        let (&index, parents) = path.split_last().expect("the root is only ever replaced");
        match node_at_mut(self.document, parents) {
            Json::Array(items) => (String::new(), items.remove(index)),
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

/// Split a JSON pointer into its tokens. In its canonical spelling `/` and `~` are never written as JSON escapes.
fn parse_pointer(path: &str) -> Result<Vec<String>, String> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let path = path.strip_prefix('/').ok_or("a pointer must be empty or start with `/`")?;
    // In this order, so that `~01` becomes `~1` and not `/` (RFC 6901, section 4).
    let decode = |token: &str| token.replace("~1", "/").replace("~0", "~");
    let tokens: Vec<String> = path.split('/').map(decode).collect();
    // A JavaScript client that applied such a path would change its own prototypes.
    let is_prototype = tokens.windows(2).any(|pair| pair[0] == "constructor" && pair[1] == "prototype");
    if is_prototype || tokens.iter().any(|token| token == "__proto__") {
        return Err("`__proto__` and `constructor/prototype` are refused".into());
    }
    Ok(tokens)
}

/// Parse an array's index, which has digits only. The empty token is zero, as in the reference.
fn parse_index(token: &str) -> Option<usize> {
    match token {
        "" => Some(0),
        _ if token.bytes().all(|byte| byte.is_ascii_digit()) => token.parse().ok(),
        _ => None,
    }
}

fn child(node: &Json, index: usize) -> &Json {
    match node {
        Json::Array(items) => &items[index],
        Json::Object(members) => &members[index].1,
        _ => unreachable!("a path leads through containers"),
    }
}

fn node_at<'d>(document: &'d Json, path: &[usize]) -> &'d Json {
    path.iter().fold(document, |node, &index| child(node, index))
}

fn node_at_mut<'d>(document: &'d mut Json, path: &[usize]) -> &'d mut Json {
    path.iter().fold(document, |node, &index| match node {
        Json::Array(items) => &mut items[index],
        Json::Object(members) => &mut members[index].1,
        _ => unreachable!("a path leads through containers"),
    })
}

/// How many levels a value nests and about how many bytes it has.
struct Measure {
    levels: usize,
    bytes: usize,
}

fn measure(value: &Json) -> Measure {
    let sum_up = |items: &mut dyn Iterator<Item = (usize, &Json)>| {
        items.fold(Measure { levels: 1, bytes: 2 }, |sum, (key_bytes, item)| {
            let item = measure(item);
            Measure { levels: sum.levels.max(item.levels + 1), bytes: sum.bytes + key_bytes + item.bytes + 1 }
        })
    };
    match value {
        Json::Scalar(text) | Json::String(text) => Measure { levels: 0, bytes: text.len() },
        Json::Array(items) => sum_up(&mut items.iter().map(|item| (0, item))),
        Json::Object(members) => sum_up(&mut members.iter().map(|(key, item)| (key.len(), item))),
    }
}

fn check_levels(target: &Target<'_>, levels: usize) -> Result<(), String> {
    if target.path.len() + levels > MAX_LEVELS {
        return Err(format!("the document would nest deeper than {MAX_LEVELS} levels"));
    }
    Ok(())
}

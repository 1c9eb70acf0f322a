//! JSON Patch (RFC 6902) over the lossless tree, accepting and refusing what AG-UI's client does (fast-json-patch,
//! validating): whoever replays the patches elsewhere ends with the same document.
use crate::json::{Json, canonical};
use crate::scan::MAX_DEPTH;

/// How deep a patched document may nest: one level less than an event, so that a snapshot of it is an event.
const MAX_LEVELS: usize = MAX_DEPTH as usize - 1;

/// How much text `copy` may add in one patch: copying the root into itself doubles it each time.
const MAX_COPIED: usize = 16 << 20;

/// What every JavaScript object has: the reference can replace and remove it without it being there.
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

/// Applies a patch, whole or not at all: refused, it leaves the document as it was.
pub fn apply(document: &mut Json, patch: &Json) -> Result<(), String> {
    let Json::Array(operations) = patch else { return Err("a patch must be an array".into()) };
    let mut work = Work { document, undo: Vec::new(), copied: 0 };
    for (index, operation) in operations.iter().enumerate() {
        if let Err(why) = work.operation(operation) {
            work.roll_back();
            return Err(format!("operation {index}: {why}"));
        }
    }
    Ok(())
}

/// A document half patched, and how to get back.
struct Work<'d> {
    document: &'d mut Json,
    undo: Vec<Undo>,
    copied: usize,
}

/// The inverse of one change. Places are positions, those of object members too.
enum Undo {
    /// Take out what was added.
    Remove(Vec<usize>),
    /// Put back what was removed, under its key.
    Insert(Vec<usize>, String, Json),
    /// Put back what was replaced.
    Put(Vec<usize>, Json),
    /// Move back, and put back what was replaced.
    Move { to: Vec<usize>, replaced: Option<Json>, from: Vec<usize>, key: String },
}

/// Where a value goes: into a place of its own, or over the one that is there.
struct Place<'p> {
    steps: Vec<usize>,
    key: &'p str,
    fresh: bool,
}

impl Work<'_> {
    fn operation(&mut self, operation: &Json) -> Result<(), String> {
        let Json::Object(_) = operation else { return Err("an operation must be an object".into()) };
        let text = |name: &str| {
            let found = operation.get(name).and_then(Json::as_escaped).map(canonical);
            found.ok_or_else(|| format!("`{name}` must be a string"))
        };
        let op = text("op")?;
        let path = pointer(&text("path")?)?;
        let value = || operation.get("value").ok_or("`value` is missing");
        let from = || pointer(&text("from")?);
        match &*op {
            "add" => self.put(self.place(&path, true)?, value()?.clone()),
            "replace" => self.put(self.existing(&path)?, value()?.clone()),
            "remove" => self.remove(&path),
            "test" if at(self.document, &self.walk(&path, false)?) == value()? => Ok(()),
            "test" => Err("the test failed".into()),
            "copy" => self.copy(&path, &from()?),
            "move" => self.relocate(&path, &from()?),
            _ => Err(format!("`{op}` is no operation")),
        }
    }

    /// The positions a pointer leads through. `strict` is what the reference asks of a path that must be there: an
    /// array's index in its one spelling; elsewhere `01` and the empty token are numbers too.
    fn walk(&self, path: &[String], strict: bool) -> Result<Vec<usize>, String> {
        let mut node = &*self.document;
        let mut steps = Vec::with_capacity(path.len() + 1);
        for token in path {
            let step = match node {
                Json::Array(items) => {
                    index(token).filter(|&at| at < items.len() && !(strict && at.to_string() != *token))
                }
                _ => node.position(token),
            };
            let step = step.ok_or_else(|| format!("nothing at `{token}`"))?;
            node = child(node, step);
            steps.push(step);
        }
        Ok(steps)
    }

    /// Where `add` puts a value. Only what is `strict` looks at an array's length, the rest lands at its end.
    fn place<'p>(&self, path: &'p [String], strict: bool) -> Result<Place<'p>, String> {
        let Some((key, parents)) = path.split_last() else {
            return Ok(Place { steps: Vec::new(), key: "", fresh: false });
        };
        let mut steps = self.walk(parents, strict)?;
        let parent = at(self.document, &steps);
        let (step, fresh) = match parent {
            Json::Array(items) => match index(key) {
                _ if key == "-" => (items.len(), true),
                Some(at) if strict && at > items.len() => return Err("the index is beyond the array's end".into()),
                Some(at) => (at.min(items.len()), true),
                None => return Err("an array's index must be a number or `-`".into()),
            },
            Json::Object(members) => parent.position(key).map_or((members.len(), true), |at| (at, false)),
            _ => return Err("the parent is neither array nor object".into()),
        };
        steps.push(step);
        Ok(Place { steps, key, fresh })
    }

    /// Where `replace` puts a value: over one that is there.
    fn existing<'p>(&self, path: &'p [String]) -> Result<Place<'p>, String> {
        match self.walk(path, true) {
            Ok(steps) => Ok(Place { steps, key: "", fresh: false }),
            Err(_) if path.last().is_some_and(|key| INHERITED.contains(&key.as_str())) => self.place(path, true),
            Err(why) => Err(why),
        }
    }

    fn put(&mut self, place: Place<'_>, value: Json) -> Result<(), String> {
        check_levels(&place, measured(&value).levels)?;
        let undo = match self.fill(&place, value) {
            Some(replaced) => Undo::Put(place.steps, replaced),
            None => Undo::Remove(place.steps),
        };
        self.undo.push(undo);
        Ok(())
    }

    fn remove(&mut self, path: &[String]) -> Result<(), String> {
        let place = self.existing(path)?;
        if path.is_empty() {
            return self.put(place, Json::null());
        }
        if !place.fresh {
            let (key, value) = self.detach(&place.steps);
            self.undo.push(Undo::Insert(place.steps, key, value));
        }
        Ok(())
    }

    fn copy(&mut self, path: &[String], from: &[String]) -> Result<(), String> {
        let place = self.place(path, false)?;
        let value = at(self.document, &self.walk(from, !path.is_empty())?);
        self.copied += measured(value).bytes;
        if self.copied > MAX_COPIED {
            return Err(format!("the patch copies more than {MAX_COPIED} bytes"));
        }
        let value = value.clone();
        self.put(place, value)
    }

    /// `move`: first out, then in, so that the path is that of the document without the moved value.
    fn relocate(&mut self, path: &[String], from: &[String]) -> Result<(), String> {
        self.place(path, false)?;
        let from = self.walk(from, !path.is_empty())?;
        if from.is_empty() {
            return if path.is_empty() { Ok(()) } else { Err("the root cannot be moved into itself".into()) };
        }
        let (key, value) = self.detach(&from);
        let place = self.place(path, false).and_then(|place| {
            check_levels(&place, measured(&value).levels)?;
            Ok(place)
        });
        match place {
            Ok(place) => {
                let replaced = self.fill(&place, value);
                self.undo.push(Undo::Move { to: place.steps, replaced, from, key });
                Ok(())
            }
            Err(why) => {
                self.attach(&from, key, value);
                Err(why)
            }
        }
    }

    /// Puts a value in its place; gives what it replaced.
    fn fill(&mut self, place: &Place<'_>, value: Json) -> Option<Json> {
        if place.fresh {
            self.attach(&place.steps, place.key.into(), value);
            return None;
        }
        Some(std::mem::replace(at_mut(self.document, &place.steps), value))
    }

    fn attach(&mut self, steps: &[usize], key: String, value: Json) {
        let (&step, parents) = steps.split_last().expect("the root is only replaced");
        match at_mut(self.document, parents) {
            Json::Array(items) => items.insert(step, value),
            Json::Object(members) => members.insert(step, (key, value)),
            _ => unreachable!("a place is in a container"),
        }
    }

    fn detach(&mut self, steps: &[usize]) -> (String, Json) {
        let (&step, parents) = steps.split_last().expect("the root is only replaced");
        match at_mut(self.document, parents) {
            Json::Array(items) => (String::new(), items.remove(step)),
            Json::Object(members) => members.remove(step),
            _ => unreachable!("a place is in a container"),
        }
    }

    fn roll_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Remove(steps) => drop(self.detach(&steps)),
                Undo::Insert(steps, key, value) => self.attach(&steps, key, value),
                Undo::Put(steps, value) => *at_mut(self.document, &steps) = value,
                Undo::Move { to, replaced, from, key } => {
                    let value = match replaced {
                        Some(replaced) => std::mem::replace(at_mut(self.document, &to), replaced),
                        None => self.detach(&to).1,
                    };
                    self.attach(&from, key, value);
                }
            }
        }
    }
}

/// The tokens of a JSON pointer given in canonical escapes: `/` and `~` are never escaped there.
fn pointer(path: &str) -> Result<Vec<String>, String> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let path = path.strip_prefix('/').ok_or("a pointer must be empty or start with `/`")?;
    let token = |raw: &str| raw.replace("~1", "/").replace("~0", "~");
    let tokens: Vec<String> = path.split('/').map(token).collect();
    let prototype = tokens.windows(2).any(|pair| pair[0] == "constructor" && pair[1] == "prototype");
    if prototype || tokens.iter().any(|token| token == "__proto__") {
        return Err("`__proto__` and `constructor/prototype` are refused".into());
    }
    Ok(tokens)
}

/// A token as an array's index: digits only; no digits are zero, as in the reference.
fn index(token: &str) -> Option<usize> {
    match token {
        "" => Some(0),
        _ if token.bytes().all(|byte| byte.is_ascii_digit()) => token.parse().ok(),
        _ => None,
    }
}

fn child(node: &Json, step: usize) -> &Json {
    match node {
        Json::Array(items) => &items[step],
        Json::Object(members) => &members[step].1,
        _ => unreachable!("a step leads into a container"),
    }
}

fn at<'d>(document: &'d Json, steps: &[usize]) -> &'d Json {
    steps.iter().fold(document, |node, &step| child(node, step))
}

fn at_mut<'d>(document: &'d mut Json, steps: &[usize]) -> &'d mut Json {
    steps.iter().fold(document, |node, &step| match node {
        Json::Array(items) => &mut items[step],
        Json::Object(members) => &mut members[step].1,
        _ => unreachable!("a step leads into a container"),
    })
}

/// How deep a value nests and, roughly, how much text it is.
struct Measure {
    levels: usize,
    bytes: usize,
}

fn measured(value: &Json) -> Measure {
    let inside = |all: &mut dyn Iterator<Item = (usize, &Json)>| {
        all.fold(Measure { levels: 1, bytes: 2 }, |sum, (key, item)| {
            let item = measured(item);
            Measure { levels: sum.levels.max(item.levels + 1), bytes: sum.bytes + key + item.bytes + 1 }
        })
    };
    match value {
        Json::Scalar(text) | Json::String(text) => Measure { levels: 0, bytes: text.len() },
        Json::Array(items) => inside(&mut items.iter().map(|item| (0, item))),
        Json::Object(members) => inside(&mut members.iter().map(|(key, item)| (key.len(), item))),
    }
}

fn check_levels(place: &Place<'_>, levels: usize) -> Result<(), String> {
    if place.steps.len() + levels > MAX_LEVELS {
        return Err(format!("the document would nest deeper than {MAX_LEVELS} levels"));
    }
    Ok(())
}

//! The modules of the core import each other in one direction only.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Imports by module. A module is a path such as `sqlite::store`.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Return the files under a folder, with their module paths.
fn modules(folder: &Path, parent: &str) -> Vec<(String, String)> {
    let mut modules = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = if parent.is_empty() { name.to_owned() } else { format!("{parent}::{name}") };
        if path.is_dir() {
            modules.extend(self::modules(&path, &module));
        } else {
            modules.push((module, std::fs::read_to_string(&path).unwrap()));
        }
    }
    modules
}

/// Return the source without comments and unit tests, which may import anything.
fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]").next().unwrap();
    source.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Expand `a::{b, c::{d, e}}` into `a::b`, `a::c::d` and `a::c::e`; stop at the end of the path.
fn expand(path: &str, prefix: &str, out: &mut Vec<String>) {
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(path.len());
    let whole = format!("{prefix}{}", &path[..end]);
    if !path[end..].starts_with('{') {
        out.push(whole);
        return;
    }
    let (mut depth, mut start) = (0, end + 1);
    for (at, c) in path[end..].char_indices().map(|(at, c)| (end + at, c)) {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 1 => {
                let item = path[start..at].trim();
                if !item.is_empty() {
                    expand(item, &whole, out);
                }
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// Return the modules a source imports, by `use` or in a path.
fn imports_of(module: &str, source: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut paths = Vec::new();
    for (root, base) in [("crate::", String::new()), ("super::", format!("{parent}::"))] {
        let mut rest = source;
        while let Some(at) = rest.find(root) {
            rest = &rest[at + root.len()..];
            expand(rest, base.trim_start_matches("::"), &mut paths);
        }
    }
    // What a module brings in from its own children, such as `use delta::Delta;`.
    for line in source.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("use ")) {
        expand(line, &format!("{module}::"), &mut paths);
    }
    let longest_known = |path: &String| {
        let mut path = path.trim_end_matches("::");
        while !known.contains(path) {
            path = path.rsplit_once("::")?.0;
        }
        Some(path.to_owned())
    };
    paths.iter().filter_map(longest_known).filter(|import| import != module).collect()
}

/// Return a circle that can be reached from the last module of the path, if there is one.
fn find_circle(imports: &Imports, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<String> {
    let module = path.last().unwrap().clone();
    for import in imports.get(&module).into_iter().flatten() {
        if let Some(at) = path.iter().position(|earlier| earlier == import) {
            return Some([&path[at..], std::slice::from_ref(import)].concat().join(" → "));
        }
        if !done.contains(import) {
            path.push(import.clone());
            let circle = find_circle(imports, path, done);
            if circle.is_some() {
                return circle;
            }
            path.pop();
        }
    }
    done.insert(module);
    None
}

fn first_circle(imports: &Imports) -> Option<String> {
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| find_circle(imports, &mut vec![module.clone()], &mut done))
}

#[test]
fn no_module_imports_a_module_that_imports_it() {
    let sources = modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "");
    let known: BTreeSet<String> = sources.iter().map(|(module, _)| module.clone()).collect();
    let imports: Imports =
        sources.iter().map(|(module, source)| (module.clone(), imports_of(module, &code(source), &known))).collect();
    assert!(imports["recorder"].contains("compact") && imports["sqlite::runs"].contains("sqlite::store"));
    assert!(imports["compact"].contains("compact::delta") && imports["sqlite::lease"].contains("owner"));
    assert_eq!(first_circle(&imports), None);
}

#[test]
fn a_circle_is_found() {
    let known: BTreeSet<String> = ["a", "b", "b::c"].map(String::from).into();
    let imports_of = |module, source| imports_of(module, source, &known);
    let mut imports = Imports::from([
        ("a".into(), imports_of("a", "use crate::b::{self, c::{One, Two}};")),
        ("b".into(), BTreeSet::new()),
        ("b::c".into(), imports_of("b::c", "fn f() { crate::a::call(); }")),
    ]);
    assert_eq!(imports["a"], ["b", "b::c"].map(String::from).into());
    assert_eq!(first_circle(&imports).as_deref(), Some("a → b::c → a"));
    imports.insert("b::c".into(), BTreeSet::new());
    assert_eq!(first_circle(&imports), None);
    imports.insert("b::c".into(), imports_of("b::c", "use super::Three;"));
    imports.insert("b".into(), imports_of("b", "use c::Four;"));
    assert_eq!(first_circle(&imports).as_deref(), Some("b → b::c → b"));
}

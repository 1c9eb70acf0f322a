//! JSON Patch, with the results of fast-json-patch (validating).
use agentrunner_core::json::Json;
use agentrunner_core::patch::{Budget, apply};

/// Write a tree as JSON.
fn write(json: &Json) -> String {
    let mut out = String::new();
    json.write(&mut out);
    out
}

/// Return the patched document; `None` for a refused patch, which must leave the document as it was.
fn apply_patch(document: &str, patch: &str) -> Option<String> {
    let mut tree = Json::parse(document);
    let done = apply(&mut tree, patch, &mut Budget::of_patch(patch.len()), usize::MAX).is_ok();
    if !done {
        assert_eq!(write(&tree), document, "{patch}");
    }
    done.then(|| write(&tree))
}

fn accept(document: &str, operations: &str, expected: &str) {
    assert_eq!(apply_patch(document, &format!("[{operations}]")).as_deref(), Some(expected), "{operations}");
}

fn refuse(document: &str, operations: &str) {
    assert_eq!(apply_patch(document, &format!("[{operations}]")), None, "{operations}");
}

#[test]
fn values_are_added() {
    accept(r#"{"a":1}"#, r#"{"op":"add","path":"/b","value":[2]}"#, r#"{"a":1,"b":[2]}"#);
    accept(r#"{"a":1,"b":2}"#, r#"{"op":"add","path":"/a","value":null}"#, r#"{"a":null,"b":2}"#);
    accept("[1,3]", r#"{"op":"add","path":"/1","value":2}"#, "[1,2,3]");
    accept("[1]", r#"{"op":"add","path":"/-","value":2}"#, "[1,2]");
    accept("[1]", r#"{"op":"add","path":"/1","value":2}"#, "[1,2]");
    accept("[1]", r#"{"op":"add","path":"","value":{}}"#, "{}");
    accept("{}", r#"{"op":"add","path":"/","value":1}"#, r#"{"":1}"#);
    refuse("[1]", r#"{"op":"add","path":"/2","value":2}"#);
    refuse("[1]", r#"{"op":"add","path":"/x","value":2}"#);
    refuse("[1]", r#"{"op":"add","path":"/-1","value":2}"#);
    refuse("{}", r#"{"op":"add","path":"/a/b","value":2}"#);
    refuse(r#"{"a":1}"#, r#"{"op":"add","path":"/a/b","value":2}"#);
    refuse(r#"{"a":null}"#, r#"{"op":"add","path":"/a/b","value":2}"#);
    refuse("7", r#"{"op":"add","path":"/a","value":2}"#);
}

#[test]
fn values_are_removed_and_replaced() {
    accept(r#"{"a":1,"b":[1,2]}"#, r#"{"op":"remove","path":"/b/0"}"#, r#"{"a":1,"b":[2]}"#);
    accept(r#"{"a":1,"b":2}"#, r#"{"op":"remove","path":"/a"}"#, r#"{"b":2}"#);
    accept("[1,2]", r#"{"op":"replace","path":"/1","value":3}"#, "[1,3]");
    accept("[1,2]", r#"{"op":"replace","path":"","value":3}"#, "3");
    accept("[1,2]", r#"{"op":"remove","path":""}"#, "null");
    for path in ["/-", "/2", "/01", "/"] {
        refuse("[1,2]", &format!(r#"{{"op":"remove","path":"{path}"}}"#));
        refuse("[1,2]", &format!(r#"{{"op":"replace","path":"{path}","value":0}}"#));
    }
    refuse("{}", r#"{"op":"remove","path":"/a"}"#);
    refuse("{}", r#"{"op":"replace","path":"/a","value":0}"#);
}

#[test]
fn values_are_moved_and_copied() {
    accept(r#"{"a":{"b":1}}"#, r#"{"op":"move","from":"/a/b","path":"/c"}"#, r#"{"a":{},"c":1}"#);
    accept("[1,2,3]", r#"{"op":"move","from":"/0","path":"/2"}"#, "[2,3,1]");
    accept("[1,2,3]", r#"{"op":"move","from":"/0","path":"/-"}"#, "[2,3,1]");
    accept(r#"{"a":[1]}"#, r#"{"op":"copy","from":"/a","path":"/a/0"}"#, r#"{"a":[[1],1]}"#);
    accept(r#"{"a":1}"#, r#"{"op":"copy","from":"","path":"/b"}"#, r#"{"a":1,"b":{"a":1}}"#);
    accept(r#"{"a":[1]}"#, r#"{"op":"move","from":"/a","path":""}"#, "[1]");
    accept(r#"{"a":[1]}"#, r#"{"op":"copy","from":"/a/0","path":""}"#, "1");
    // A value moved or copied beyond an array's end goes to its end.
    accept("[1,2]", r#"{"op":"copy","from":"/0","path":"/9"}"#, "[1,2,1]");
    refuse(r#"{"a":{}}"#, r#"{"op":"move","from":"/a","path":"/a/b"}"#);
    refuse("{}", r#"{"op":"move","from":"/a","path":"/b"}"#);
    refuse("{}", r#"{"op":"copy","from":"/a","path":"/b"}"#);
    refuse("{}", r#"{"op":"move","from":"","path":"/b"}"#);
    refuse("{}", r#"{"op":"copy","path":"/b"}"#);
}

#[test]
fn test_compares_values() {
    let document = r#"{"n":1.0,"o":{"a":1,"b":[null]},"s":"\u00e9"}"#;
    for (path, value) in [("/n", "1"), ("/o", r#"{"b":[null],"a":1e0}"#), ("/s", "\"é\"")] {
        accept(document, &format!(r#"{{"op":"test","path":"{path}","value":{value}}}"#), document);
    }
    for (path, value) in [("/n", "\"1\""), ("/o", "{}"), ("/o/b/-", "null"), ("/x", "null"), ("", "{}")] {
        refuse(document, &format!(r#"{{"op":"test","path":"{path}","value":{value}}}"#));
    }
}

#[test]
fn a_patch_is_applied_as_a_whole_or_not_at_all() {
    let fail = r#"{"op":"test","path":"/nothing","value":0}"#;
    let document = r#"{"a":[1,{"b":2}],"c":"x","d":{}}"#;
    for operation in [
        r#"{"op":"add","path":"/a/0","value":0}"#,
        r#"{"op":"add","path":"/c","value":0}"#,
        r#"{"op":"add","path":"/new","value":0}"#,
        r#"{"op":"remove","path":"/a"}"#,
        r#"{"op":"remove","path":"/a/0"}"#,
        r#"{"op":"remove","path":""}"#,
        r#"{"op":"replace","path":"/a/1/b","value":0}"#,
        r#"{"op":"replace","path":"","value":0}"#,
        r#"{"op":"move","from":"/a/1","path":"/a/0"}"#,
        r#"{"op":"move","from":"/a","path":"/d"}"#,
        r#"{"op":"move","from":"/a","path":"/d/e"}"#,
        r#"{"op":"move","from":"/a/1","path":""}"#,
        r#"{"op":"copy","from":"/a","path":"/c"}"#,
        r#"{"op":"copy","from":"","path":"/a/1"}"#,
    ] {
        assert!(apply_patch(document, &format!("[{operation}]")).is_some(), "{operation}");
        refuse(document, &format!("{operation},{fail}"));
    }
}

#[test]
fn anything_but_a_patch_is_refused() {
    for patch in ["{}", "null", "\"\"", "[1]", "[null]", "[[]]"] {
        assert_eq!(apply_patch("{}", patch), None, "{patch}");
    }
    assert_eq!(apply_patch("{}", "[]").as_deref(), Some("{}"));
    refuse("{}", r#"{"path":"/a","value":1}"#);
    refuse("{}", r#"{"op":"put","path":"/a","value":1}"#);
    refuse("{}", r#"{"op":"add","path":"/a"}"#);
    refuse("{}", r#"{"op":"add","path":"a","value":1}"#);
    refuse("{}", r#"{"op":"add","value":1}"#);
}

#[test]
fn paths_through_prototypes_are_refused() {
    refuse("{}", r#"{"op":"add","path":"/__proto__","value":1}"#);
    refuse(r#"{"a":{}}"#, r#"{"op":"add","path":"/a/__proto__","value":1}"#);
    refuse(r#"{"constructor":{}}"#, r#"{"op":"add","path":"/constructor/prototype","value":1}"#);
    accept(r#"{"prototype":1}"#, r#"{"op":"replace","path":"/prototype","value":2}"#, r#"{"prototype":2}"#);
    // Every JavaScript object inherits it, so the reference treats it as present.
    accept("{}", r#"{"op":"replace","path":"/toString","value":1}"#, r#"{"toString":1}"#);
    accept("{}", r#"{"op":"remove","path":"/toString"}"#, "{}");
}

#[test]
fn pointers_are_read_whatever_their_escapes() {
    let document = r#"{"a/b":1,"m~n":2,"\u00e9":3,"q\"":4}"#;
    for (path, value) in [("/a~1b", 1), (r"\/a~1b", 1), ("/m~0n", 2), ("/é", 3), (r#"/q\""#, 4), (r"/q\u0022", 4)] {
        accept(document, &format!(r#"{{"op":"test","path":"{path}","value":{value}}}"#), document);
    }
    accept("{}", r#"{"op":"add","path":"/~01","value":1}"#, r#"{"~1":1}"#);
    accept("{}", r#"{"op":"add","path":"/\ud83d","value":1}"#, r#"{"\ud83d":1}"#);
}

#[test]
fn a_patched_document_has_bounds() {
    // The document would nest deeper than an event may.
    let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
    let add_deep = |path: &str| format!(r#"{{"op":"add","path":"{path}","value":{deep}}}"#);
    assert!(apply_patch("{}", &format!("[{}]", add_deep("/a"))).is_some());
    refuse("{}", &format!("{},{}", add_deep("/a"), add_deep(&format!("/a{}/-", "/0".repeat(20)))));
    // Each operation doubles the document.
    let copies: Vec<_> = (0..40).map(|at| format!(r#"{{"op":"copy","from":"","path":"/{at}"}}"#)).collect();
    refuse(r#"{"a":"some text"}"#, &copies.join(","));
}

#[test]
fn wide_objects_are_parsed_in_linear_time() {
    let members: Vec<_> = (0..200_000).map(|at| format!(r#""k{at}":{at}"#)).collect();
    let json = format!(r#"{{{},"k\u0030":"last"}}"#, members.join(","));
    let tree = Json::parse(&json);
    assert!(write(&tree).starts_with(r#"{"k0":"last","k1":1,"#));
    assert!(tree == Json::parse(&write(&tree)));
    assert_eq!(write(&Json::parse(r#"{ "a" : 1 , "b" : [ ] , "\u0061" : { } }"#)), r#"{"a":{},"b":[]}"#);
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn pointer(&mut self) -> String {
        let parent = ["", "/a", "/b", "/a/k0", "/l", "/l/0"][self.below(6)];
        format!("{parent}/{}{}", ["k", "", "\\u006b"][self.below(3)], self.below(24))
    }

    fn operation(&mut self) -> String {
        let (path, from) = (self.pointer(), self.pointer());
        match self.below(7) {
            0 | 1 => format!(r#"{{"op":"add","path":"{path}","value":{}}}"#, self.below(1000)),
            2 => format!(r#"{{"op":"add","path":"{path}","value":{{"k0":{{}},"k1":[0]}}}}"#),
            3 => format!(r#"{{"op":"replace","path":"{path}","value":[]}}"#),
            4 => format!(r#"{{"op":"remove","path":"{path}"}}"#),
            5 => format!(r#"{{"op":"copy","from":"{from}","path":"{path}"}}"#),
            _ => format!(r#"{{"op":"move","from":"{from}","path":"{path}"}}"#),
        }
    }
}

// fault A3
#[test]
fn a_patch_that_fails_at_its_end_leaves_every_member_in_its_place() {
    for seed in 0..80 {
        let mut dice = Dice(seed);
        // Objects of 14 and 15 members become wide while they are patched.
        let members = (0..14 + seed % 8).map(|at| format!("\"k{at}\":{at}")).collect::<Vec<_>>().join(",");
        let mut tree = Json::parse(&format!(r#"{{"a":{{{members}}},"b":{{{members}}},"l":[[],1,2,3]}}"#));
        for _ in 0..20 {
            let before = write(&tree);
            let mut applied: Vec<String> = Vec::new();
            while applied.len() < 40 {
                let operation = dice.operation();
                let patch = format!("[{}]", [applied.as_slice(), std::slice::from_ref(&operation)].concat().join(","));
                let mut copy = Json::parse(&before);
                if apply(&mut copy, &patch, &mut Budget::of_patch(patch.len()), usize::MAX).is_ok() {
                    applied.push(operation);
                } else if dice.below(4) == 0 {
                    break;
                }
            }
            let failing = r#"{"op":"test","path":"","value":"other"}"#.to_owned();
            let patch = format!("[{}]", [applied.as_slice(), &[failing]].concat().join(","));
            assert!(apply(&mut tree, &patch, &mut Budget::of_patch(patch.len()), usize::MAX).is_err());
            assert_eq!(write(&tree), before, "seed {seed}: {patch}");
            // What is undone must also be found by its key again, and give its place to new members.
            let patch = format!("[{}]", applied.join(","));
            apply(&mut tree, &patch, &mut Budget::of_patch(patch.len()), usize::MAX).expect("it was applied before");
            let mut fresh = Json::parse(&before);
            apply(&mut fresh, &patch, &mut Budget::of_patch(patch.len()), usize::MAX).expect("it was applied before");
            assert_eq!(write(&tree), write(&fresh), "seed {seed}: {patch}");
        }
    }
}

// fault A3
#[test]
fn a_long_array_is_patched_like_a_short_one() {
    for length in [511, 512, 513, 1000, 5000] {
        let mut expected: Vec<usize> = (0..length).collect();
        let mut tree = Json::parse(&format!("{expected:?}"));
        let mut random: u64 = 1;
        for value in 0..3000 {
            random = (random * 48_271 + 1) % 1_000_003;
            let at = random as usize % (expected.len() + 1);
            // Long stretches of one kind split chunks, and empty them.
            let operation = match (value / 1000 + value % 3, at) {
                (0 | 3, _) => {
                    expected.insert(at, value);
                    format!(r#"{{"op":"add","path":"/{at}","value":{value}}}"#)
                }
                (1, _) => {
                    expected.push(value);
                    format!(r#"{{"op":"add","path":"/-","value":{value}}}"#)
                }
                (_, at) => {
                    let at = at.min(expected.len() - 1) / 2;
                    expected.remove(at);
                    format!(r#"{{"op":"remove","path":"/{at}"}}"#)
                }
            };
            apply(&mut tree, &format!("[{operation}]"), &mut Budget::of_patch(1000), usize::MAX).unwrap();
        }
        assert_eq!(write(&tree), format!("{expected:?}").replace(' ', ""));
        for (at, value) in expected.iter().enumerate().step_by(97) {
            let test = format!(r#"[{{"op":"test","path":"/{at}","value":{value}}}]"#);
            apply(&mut tree, &test, &mut Budget::of_patch(1000), usize::MAX).unwrap();
        }
    }
}

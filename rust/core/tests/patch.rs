//! JSON Patch: what fast-json-patch (validating) accepts, refuses and makes of a document.
use agentrunner_core::json::Json;
use agentrunner_core::patch::apply;

fn text(json: &Json) -> String {
    let mut out = String::new();
    json.write(&mut out);
    out
}

/// The patched document; refused, `None`, and the document must be as it was.
fn patched(document: &str, patch: &str) -> Option<String> {
    let mut tree = Json::parse(document);
    let done = apply(&mut tree, &Json::parse(patch)).is_ok();
    if !done {
        assert_eq!(text(&tree), document, "{patch}");
    }
    done.then(|| text(&tree))
}

fn accepted(document: &str, operations: &str, expected: &str) {
    assert_eq!(patched(document, &format!("[{operations}]")).as_deref(), Some(expected), "{operations}");
}

fn refused(document: &str, operations: &str) {
    assert_eq!(patched(document, &format!("[{operations}]")), None, "{operations}");
}

#[test]
fn add() {
    accepted(r#"{"a":1}"#, r#"{"op":"add","path":"/b","value":[2]}"#, r#"{"a":1,"b":[2]}"#);
    accepted(r#"{"a":1,"b":2}"#, r#"{"op":"add","path":"/a","value":null}"#, r#"{"a":null,"b":2}"#);
    accepted("[1,3]", r#"{"op":"add","path":"/1","value":2}"#, "[1,2,3]");
    accepted("[1]", r#"{"op":"add","path":"/-","value":2}"#, "[1,2]");
    accepted("[1]", r#"{"op":"add","path":"/1","value":2}"#, "[1,2]");
    accepted("[1]", r#"{"op":"add","path":"","value":{}}"#, "{}");
    accepted("{}", r#"{"op":"add","path":"/","value":1}"#, r#"{"":1}"#);
    refused("[1]", r#"{"op":"add","path":"/2","value":2}"#);
    refused("[1]", r#"{"op":"add","path":"/x","value":2}"#);
    refused("[1]", r#"{"op":"add","path":"/-1","value":2}"#);
    refused("{}", r#"{"op":"add","path":"/a/b","value":2}"#);
    refused(r#"{"a":1}"#, r#"{"op":"add","path":"/a/b","value":2}"#);
    refused(r#"{"a":null}"#, r#"{"op":"add","path":"/a/b","value":2}"#);
    refused("7", r#"{"op":"add","path":"/a","value":2}"#);
}

#[test]
fn remove_and_replace() {
    accepted(r#"{"a":1,"b":[1,2]}"#, r#"{"op":"remove","path":"/b/0"}"#, r#"{"a":1,"b":[2]}"#);
    accepted(r#"{"a":1,"b":2}"#, r#"{"op":"remove","path":"/a"}"#, r#"{"b":2}"#);
    accepted("[1,2]", r#"{"op":"replace","path":"/1","value":3}"#, "[1,3]");
    accepted("[1,2]", r#"{"op":"replace","path":"","value":3}"#, "3");
    accepted("[1,2]", r#"{"op":"remove","path":""}"#, "null");
    for path in ["/-", "/2", "/01", "/"] {
        refused("[1,2]", &format!(r#"{{"op":"remove","path":"{path}"}}"#));
        refused("[1,2]", &format!(r#"{{"op":"replace","path":"{path}","value":0}}"#));
    }
    refused("{}", r#"{"op":"remove","path":"/a"}"#);
    refused("{}", r#"{"op":"replace","path":"/a","value":0}"#);
}

#[test]
fn move_and_copy() {
    accepted(r#"{"a":{"b":1}}"#, r#"{"op":"move","from":"/a/b","path":"/c"}"#, r#"{"a":{},"c":1}"#);
    accepted("[1,2,3]", r#"{"op":"move","from":"/0","path":"/2"}"#, "[2,3,1]");
    accepted("[1,2,3]", r#"{"op":"move","from":"/0","path":"/-"}"#, "[2,3,1]");
    accepted(r#"{"a":[1]}"#, r#"{"op":"copy","from":"/a","path":"/a/0"}"#, r#"{"a":[[1],1]}"#);
    accepted(r#"{"a":1}"#, r#"{"op":"copy","from":"","path":"/b"}"#, r#"{"a":1,"b":{"a":1}}"#);
    accepted(r#"{"a":[1]}"#, r#"{"op":"move","from":"/a","path":""}"#, "[1]");
    accepted(r#"{"a":[1]}"#, r#"{"op":"copy","from":"/a/0","path":""}"#, "1");
    // What is moved or copied beyond an array's end lands at its end.
    accepted("[1,2]", r#"{"op":"copy","from":"/0","path":"/9"}"#, "[1,2,1]");
    refused(r#"{"a":{}}"#, r#"{"op":"move","from":"/a","path":"/a/b"}"#);
    refused("{}", r#"{"op":"move","from":"/a","path":"/b"}"#);
    refused("{}", r#"{"op":"copy","from":"/a","path":"/b"}"#);
    refused("{}", r#"{"op":"move","from":"","path":"/b"}"#);
    refused("{}", r#"{"op":"copy","path":"/b"}"#);
}

#[test]
fn test_compares_values() {
    let document = r#"{"n":1.0,"o":{"a":1,"b":[null]},"s":"\u00e9"}"#;
    for (path, value) in [("/n", "1"), ("/o", r#"{"b":[null],"a":1e0}"#), ("/s", "\"é\"")] {
        accepted(document, &format!(r#"{{"op":"test","path":"{path}","value":{value}}}"#), document);
    }
    for (path, value) in [("/n", "\"1\""), ("/o", "{}"), ("/o/b/-", "null"), ("/x", "null"), ("", "{}")] {
        refused(document, &format!(r#"{{"op":"test","path":"{path}","value":{value}}}"#));
    }
}

#[test]
fn a_patch_is_whole_or_nothing() {
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
        assert!(patched(document, &format!("[{operation}]")).is_some(), "{operation}");
        refused(document, &format!("{operation},{fail}"));
    }
}

#[test]
fn what_is_no_patch_is_refused() {
    for patch in ["{}", "null", "\"\"", "[1]", "[null]", "[[]]"] {
        assert_eq!(patched("{}", patch), None, "{patch}");
    }
    assert_eq!(patched("{}", "[]").as_deref(), Some("{}"));
    refused("{}", r#"{"path":"/a","value":1}"#);
    refused("{}", r#"{"op":"put","path":"/a","value":1}"#);
    refused("{}", r#"{"op":"add","path":"/a"}"#);
    refused("{}", r#"{"op":"add","path":"a","value":1}"#);
    refused("{}", r#"{"op":"add","value":1}"#);
}

#[test]
fn prototypes_are_refused() {
    refused("{}", r#"{"op":"add","path":"/__proto__","value":1}"#);
    refused(r#"{"a":{}}"#, r#"{"op":"add","path":"/a/__proto__","value":1}"#);
    refused(r#"{"constructor":{}}"#, r#"{"op":"add","path":"/constructor/prototype","value":1}"#);
    accepted(r#"{"prototype":1}"#, r#"{"op":"replace","path":"/prototype","value":2}"#, r#"{"prototype":2}"#);
    // Inherited by every object, so the reference holds it to be there.
    accepted("{}", r#"{"op":"replace","path":"/toString","value":1}"#, r#"{"toString":1}"#);
    accepted("{}", r#"{"op":"remove","path":"/toString"}"#, "{}");
}

#[test]
fn tokens_are_read_whatever_their_escapes() {
    let document = r#"{"a/b":1,"m~n":2,"\u00e9":3,"q\"":4}"#;
    for (path, value) in [("/a~1b", 1), (r"\/a~1b", 1), ("/m~0n", 2), ("/é", 3), (r#"/q\""#, 4), (r"/q\u0022", 4)] {
        accepted(document, &format!(r#"{{"op":"test","path":"{path}","value":{value}}}"#), document);
    }
    accepted("{}", r#"{"op":"add","path":"/~01","value":1}"#, r#"{"~1":1}"#);
    accepted("{}", r#"{"op":"add","path":"/\ud83d","value":1}"#, r#"{"\ud83d":1}"#);
}

#[test]
fn nothing_grows_without_bounds() {
    // Deeper than an event may be.
    let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
    let add = |path: &str| format!(r#"{{"op":"add","path":"{path}","value":{deep}}}"#);
    assert!(patched("{}", &format!("[{}]", add("/a"))).is_some());
    refused("{}", &format!("{},{}", add("/a"), add(&format!("/a{}/-", "/0".repeat(20)))));
    // Doubled with every operation.
    let copies: Vec<_> = (0..40).map(|at| format!(r#"{{"op":"copy","from":"","path":"/{at}"}}"#)).collect();
    refused(r#"{"a":"some text"}"#, &copies.join(","));
}

#[test]
fn wide_objects_are_read_in_linear_time() {
    let members: Vec<_> = (0..200_000).map(|at| format!(r#""k{at}":{at}"#)).collect();
    let json = format!(r#"{{{},"k\u0030":"last"}}"#, members.join(","));
    let tree = Json::parse(&json);
    assert!(text(&tree).starts_with(r#"{"k0":"last","k1":1,"#));
    assert!(tree == Json::parse(&text(&tree)));
    assert_eq!(text(&Json::parse(r#"{ "a" : 1 , "b" : [ ] , "\u0061" : { } }"#)), r#"{"a":{},"b":[]}"#);
}

//! The scanner accepts exactly what `serde_json` accepts, up to its limit of nesting.
#![no_main]
use agentrunner_core::json::Json;
use agentrunner_core::scan;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

fuzz_target!(|bytes: &[u8]| {
    let is_json = std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let text = match scan::validate(bytes) {
        Ok(text) => text,
        Err(error) => return assert!(!is_json || error.to_string().contains("nested deeper"), "{error}"),
    };
    assert!(is_json, "only the scanner accepts {text:?}");
    let minified = scan::minify(text);
    assert_eq!(scan::minify(&minified), minified, "minifying twice changes nothing");
    let tree = Json::parse(text);
    let mut written = String::new();
    tree.write(&mut written);
    assert!(scan::validate(written.as_bytes()).is_ok(), "the tree writes valid JSON");
    assert!(Json::parse(&written) == tree, "the tree survives being written and parsed");
});

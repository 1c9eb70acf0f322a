//! A patch is applied as a whole or leaves the document as it was.
//!
//! The input is two JSON texts, one on each line: a document and a patch.
#![no_main]
use agentrunner_core::json::Json;
use agentrunner_core::{patch, scan};
use libfuzzer_sys::fuzz_target;

fn write(json: &Json) -> String {
    let mut out = String::new();
    json.write(&mut out);
    out
}

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n').map(scan::validate);
    let (Some(Ok(document)), Some(Ok(operations))) = (lines.next(), lines.next()) else { return };
    let mut tree = Json::parse(document);
    let before = write(&tree);
    if patch::apply(&mut tree, operations, &mut Budget::of_patch(operations.len()), usize::MAX).is_err() {
        assert_eq!(write(&tree), before, "a refused patch changes nothing");
    } else {
        assert!(scan::validate(write(&tree).as_bytes()).is_ok(), "a patched document is valid JSON");
    }
});

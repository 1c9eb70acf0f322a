//! Paths to values of a document.
use smallvec::SmallVec;

use crate::json::Json;

pub(super) const LEADS_TO_VALUES: &str = "a path leads through containers to a value";

/// A list of indexes, those of object members too. A text of JSON has fewer than 2^32 values, and a patch may need
/// hundreds of thousands of paths to undo it.
pub(super) type Path = SmallVec<[u32; 4]>;

pub(super) fn child(node: &Json, index: usize) -> &Json {
    let child = match node {
        Json::Array(items) => items.get(index),
        Json::Object(members) => members.at(index),
        _ => None,
    };
    child.expect(LEADS_TO_VALUES)
}

pub(super) fn node_at<'d>(document: &'d Json, path: &[u32]) -> &'d Json {
    path.iter().fold(document, |node, &index| child(node, index as usize))
}

pub(super) fn node_at_mut<'d>(document: &'d mut Json, path: &[u32]) -> &'d mut Json {
    path.iter().fold(document, |node, &index| {
        let child = match node {
            Json::Array(items) => items.get_mut(index as usize),
            Json::Object(members) => members.at_mut(index as usize),
            _ => None,
        };
        child.expect(LEADS_TO_VALUES)
    })
}

//! Paths to values of a document.
use smallvec::SmallVec;

use crate::json::Json;

pub(super) const LEADS_TO_VALUES: &str = "a path leads through containers to a value";

/// A list of indexes, those of object members too.
pub(super) type Path = SmallVec<[usize; 4]>;

pub(super) fn child(node: &Json, index: usize) -> &Json {
    let child = match node {
        Json::Array(items) => items.get(index),
        Json::Object(members) => members.at(index),
        _ => None,
    };
    child.expect(LEADS_TO_VALUES)
}

pub(super) fn node_at<'d>(document: &'d Json, path: &[usize]) -> &'d Json {
    path.iter().fold(document, |node, &index| child(node, index))
}

pub(super) fn node_at_mut<'d>(document: &'d mut Json, path: &[usize]) -> &'d mut Json {
    path.iter().fold(document, |node, &index| {
        let child = match node {
            Json::Array(items) => items.get_mut(index),
            Json::Object(members) => members.at_mut(index),
            _ => None,
        };
        child.expect(LEADS_TO_VALUES)
    })
}

//! The verdict of a schema on a value.
use std::borrow::Cow;

use crate::event::truncate;

/// How much is corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only values with one obvious meaning. Anything else is refused, with the reason.
    Strict,
    /// As much as possible: values that do not fit are replaced or left out.
    Lenient,
}

/// Whether a value fits a rule.
pub(crate) enum Fit {
    Fits,
    /// The value does not fit, but this JSON in its place does.
    Repaired(String),
    Refused(Misfit),
}

/// A value that does not fit: its path in the event, what was expected, and what there is.
#[derive(Default)]
pub(crate) struct Misfit {
    path: String,
    expected: Cow<'static, str>,
    /// The value's beginning; `None` if it is missing.
    value: Option<String>,
}

impl Misfit {
    pub(super) fn of(expected: impl Into<Cow<'static, str>>, value: &str) -> Self {
        Self::at(String::new(), expected, Some(value))
    }

    pub(super) fn at(path: String, expected: impl Into<Cow<'static, str>>, value: Option<&str>) -> Self {
        Self { path, expected: expected.into(), value: value.map(truncate) }
    }

    /// Return the misfit as one of the value around it.
    pub(super) fn inside(mut self, place: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{place}{separator}{}", self.path);
        self
    }

    /// Return the refusal of an event of this type.
    pub(super) fn describe(&self, type_name: &str) -> String {
        let Self { path, expected, value } = self;
        match value {
            None => format!("{type_name}: `{path}` is missing; it must be {expected}"),
            Some(value) => format!("{type_name}: `{path}` must be {expected}, not {value}"),
        }
    }
}

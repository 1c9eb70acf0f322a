//! Why a patch was not applied.
/// Why a patch was not applied. The document is then unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The patch does not fit the document. A client skips such a patch.
    Refused(String),
    /// The patch is over a limit that a client does not have.
    OverLimit(String),
    /// The document would be over its limit of bytes.
    TooLarge(String),
    /// The patch needs more work than the budget has.
    OverBudget,
}

impl Failure {
    pub(super) fn at(self, index: usize) -> Self {
        match self {
            Self::Refused(reason) => Self::Refused(format!("operation {index}: {reason}")),
            Self::OverLimit(reason) => Self::OverLimit(format!("operation {index}: {reason}")),
            other => other,
        }
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        Self::Refused(reason.into())
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

/// The result of a step of a patch.
pub type Outcome<T> = Result<T, Failure>;

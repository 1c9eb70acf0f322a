//! The work that one patch may take. It is counted and not timed, so that every process decides in the same way.
use super::failure::Failure;
use super::measure::Measure;
use crate::json::Json;

/// Work of an operation without the values it handles; a unit is about a nanosecond.
const OPERATION_WORK: u64 = 200;
/// Work for each level of a pointer, which includes a search in a wide object.
const LEVEL_WORK: u64 = 20;
/// Work of measuring one value.
const MEASURED_VALUE_WORK: u64 = 5;
/// Work of copying one value.
const COPIED_VALUE_WORK: u64 = 12;
/// How many copied bytes are one unit of work.
const BYTES_PER_WORK: u64 = 8;
/// The work that every patch may take, and the work that each byte of a patch adds to it.
const WORK: u64 = 32_000_000;
const WORK_PER_BYTE: u64 = 8;

/// The work that is left.
#[derive(Debug, Clone)]
pub struct Budget {
    left: u64,
    spent: u64,
}

impl Budget {
    /// Create the budget of a patch of so many bytes. It is proportional to the patch, except for a fixed part.
    pub fn of_patch(bytes: usize) -> Self {
        Self::of_work(WORK + WORK_PER_BYTE * bytes as u64)
    }

    /// Create a budget of so many units, each about a nanosecond.
    pub fn of_work(left: u64) -> Self {
        Self { left, spent: 0 }
    }

    /// Return how many units were spent.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    fn spend(&mut self, work: u64) -> Result<(), Failure> {
        self.spent += work;
        self.left = self.left.checked_sub(work).ok_or(Failure::OverBudget)?;
        Ok(())
    }

    pub(super) fn spend_operation(&mut self, levels: usize) -> Result<(), Failure> {
        self.spend(OPERATION_WORK + LEVEL_WORK * levels as u64)
    }

    pub(super) fn spend_copy(&mut self, size: &Measure) -> Result<(), Failure> {
        self.spend(COPIED_VALUE_WORK * size.values as u64 + size.bytes as u64 / BYTES_PER_WORK)
    }

    /// Measure a value; the budget also ends the measuring of a value that is too large for it.
    pub(super) fn measure(&mut self, value: &Json) -> Result<Measure, Failure> {
        let mut size = Measure::default();
        let max_values = usize::try_from(self.left / MEASURED_VALUE_WORK).unwrap_or(usize::MAX);
        let is_whole = size.add(value, 0, max_values);
        self.spend(MEASURED_VALUE_WORK * size.values as u64)?;
        if is_whole { Ok(size) } else { Err(Failure::OverBudget) }
    }
}

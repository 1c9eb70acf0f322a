//! Conversion of the core's errors to the exceptions of `agentrunner.errors`.
use agentrunner_core::error::Error;
use pyo3::{PyErr, import_exception};

import_exception!(agentrunner.errors, InvalidEvent);
import_exception!(agentrunner.errors, StateTooLarge);
import_exception!(agentrunner.errors, RunTooLarge);
import_exception!(agentrunner.errors, InvalidInput);
import_exception!(agentrunner.errors, InvalidEventSequence);
import_exception!(agentrunner.errors, ThreadAlreadyRunning);
import_exception!(agentrunner.errors, RunAlreadyExists);
import_exception!(agentrunner.errors, LeaseLost);
import_exception!(agentrunner.errors, RecordConflict);
import_exception!(agentrunner.errors, ThreadNotFound);
import_exception!(agentrunner.errors, InvalidCursor);
import_exception!(agentrunner.errors, CursorExpired);
import_exception!(agentrunner.errors, CursorAhead);
import_exception!(agentrunner.errors, StoreError);
import_exception!(agentrunner.errors, StoreFull);
import_exception!(agentrunner.errors, StoreValueTooLarge);
import_exception!(agentrunner.errors, StoreCorrupt);
import_exception!(agentrunner.errors, StoreMissing);
import_exception!(agentrunner.errors, StoreReadOnly);
import_exception!(agentrunner.errors, StoreTooNew);
import_exception!(agentrunner.errors, StoreForked);
import_exception!(agentrunner.errors, StoreClosed);

/// Convert an error to its exception, with the same text.
#[allow(clippy::needless_pass_by_value, reason = "it is passed to map_err everywhere")]
pub fn to_py(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::StateTooLarge(_) => StateTooLarge::new_err(text),
        Error::RunTooLarge(_) => RunTooLarge::new_err(text),
        Error::StoreValueTooLarge(_) => StoreValueTooLarge::new_err(text),
        Error::InvalidEvent(_) | Error::TakesLong => InvalidEvent::new_err(text),
        Error::InvalidInput(_) => InvalidInput::new_err(text),
        Error::InvalidSequence(_) => InvalidEventSequence::new_err(text),
        Error::ThreadAlreadyRunning => ThreadAlreadyRunning::new_err(text),
        Error::RunAlreadyExists(_) => RunAlreadyExists::new_err(text),
        Error::LeaseLost(_) => LeaseLost::new_err(text),
        // This exception has the record's address as attributes, and writes its text itself.
        Error::RecordConflict(kind, key) => RecordConflict::new_err((kind, key)),
        Error::ThreadNotFound(_) => ThreadNotFound::new_err(text),
        Error::InvalidCursor(_) => InvalidCursor::new_err(text),
        Error::CursorExpired(_) => CursorExpired::new_err(text),
        Error::CursorAhead(_) => CursorAhead::new_err(text),
        Error::Store(_) => StoreError::new_err(text),
        Error::StoreFull(_) => StoreFull::new_err(text),
        Error::StoreCorrupt(_) => StoreCorrupt::new_err(text),
        Error::StoreMissing(_) => StoreMissing::new_err(text),
        Error::StoreReadOnly(_) => StoreReadOnly::new_err(text),
        Error::StoreTooNew(_) => StoreTooNew::new_err(text),
        Error::StoreForked => StoreForked::new_err(text),
        Error::StoreClosed => StoreClosed::new_err(text),
    }
}

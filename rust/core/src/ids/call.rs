//! A tool call of the run, under the id that the agent gave it.
use crate::lifecycle::Owner;

/// A call of this run.
#[derive(Debug)]
pub(super) struct Call {
    /// The id that clients see.
    pub(super) own: String,
    pub(super) owner: Owner,
    pub(super) is_open: bool,
    /// Whether the client runs it.
    pub(super) is_clients: bool,
    /// Whether its events repeat those of an earlier run, and are left out.
    pub(super) is_repeat: bool,
}

/// Return the index of the call that an owner's event continues: its open one, or else the newest open one.
pub(super) fn continued_call(calls: &[Call], owner: Option<&str>) -> Option<usize> {
    let is_owners = |call: &Call| call.is_open && call.owner.as_deref() == owner;
    let call = calls.iter().rposition(is_owners).or_else(|| calls.iter().rposition(|call| call.is_open));
    call.or(calls.len().checked_sub(1))
}

//! Record, keep, replay and compact AG-UI runs.
//!
//! The way of an event through a [`recorder::Recorder`]:
//! JSON bytes → [`event::Event`] (header read once) → [`chunks`] (`*_CHUNK` expanded) → [`lifecycle`] (the sequence
//! verified) → [`dedup`] (a `RUN_STARTED`'s input filled and stripped) → [`compact`] (the online compactor fed) →
//! [`frames`] (framed for SSE) → [`sqlite`] (made durable) → [`log`] (published to readers).
pub mod chunks;
mod clock;
pub mod compact;
pub mod dedup;
pub mod error;
pub mod event;
mod finalize;
pub mod fold;
pub mod frames;
pub mod json;
pub mod legacy;
pub mod lifecycle;
pub mod log;
pub mod owner;
pub mod patch;

pub mod recorder;
mod reopen_streams;
pub mod scan;
pub mod snapshot;
pub mod sqlite;
pub mod state;
pub mod text;
mod verify;

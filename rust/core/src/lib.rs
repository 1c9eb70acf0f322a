//! Record, keep, replay and compact AG-UI runs.
//!
//! The path of an event through a [`recorder::Recorder`]:
//! JSON bytes → [`event::Event`] (its header is read once) → [`thinking`] (retired
//! kinds get their new names) → [`chunks`] (`*_CHUNK` events are expanded) → [`ids`] (what is
//! used twice gets an id of its own) → [`verify`]
//! (the order of events is checked) → [`dedup`] (a `RUN_STARTED` gets its input) → [`compact`] (the compacted run grows)
//! → [`frames`] (the event is framed for SSE) → [`sqlite`] (the frames become durable) → [`log`] (readers see them).
//!
//! [`family`] decides what each kind of event means in these steps. Modules import only modules below them;
//! `tests/imports.rs` fails on a circle.
mod beacon;
pub mod chunks;
mod clock;
pub mod compact;
pub mod dedup;
pub mod entries;
pub mod error;
pub mod event;
pub mod family;
pub mod finalize;
pub mod fold;
pub mod frames;
mod half_json;
pub mod ids;
pub mod json;
pub mod kind;
pub mod legacy;
pub mod lifecycle;
pub mod links;
pub mod log;
mod members;
pub mod owner;
pub mod patch;
pub mod recompact;
pub mod recorder;
mod reopen_streams;
pub mod scan;
pub mod schema;
pub mod snapshot;
pub mod sqlite;
pub mod state;
pub mod stored_run;
pub mod superseded;
pub mod text;
pub mod thinking;
pub mod verify;

//! The agent: the Erlang module that flyhot injects into a node, and the terms spoken with it.
//!
//! This room opens no connection and sends nothing: it hands out bytes to load and terms to send, and reads the
//! terms that came back. Every shape both sides must agree on is here and nowhere else; golden bytes in the
//! tests hold it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod answer;
mod command;
pub mod term;

pub use answer::Started;
pub use answer::{
    AnswerError, DiskModule, Layout, LookedAt, agent_error, census, copies_loaded, disk, drain, entry,
    environment, facts, finished, held, knock, lacking, layout, modules, persist, prepare, private,
    rehearsal, removed, started, watched, way_back, window,
};
pub use command::{
    Command, FACTS, FINISH, Holder, Piece, PrepareModule, RehearsalJob, StagedKey, StartApplication,
    StartCode, evict_answer, start_options,
};

/// The module's name on the node.
pub const MODULE: &str = "flyhot_agent";

/// The module, compiled for the oldest OTP supported (`make agent` compiles it again).
#[cfg(not(feature = "faults"))]
pub const BEAM: &[u8] = include_bytes!("../erl/flyhot_agent.beam");
/// The same source with faults and a trace compiled in, for the tests.
#[cfg(feature = "faults")]
pub const BEAM: &[u8] = include_bytes!("../erl/faults/flyhot_agent.beam");

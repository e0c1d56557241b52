//! The vocabulary of flyhot: events, outcomes, reasons, error kinds and exit codes.
//!
//! This room holds data only. It reads no clock, no environment and no file, opens no connection and
//! writes to no terminal; it cannot do anything, it can only say what was done. `docs/events.md` lists
//! everything here, and a test compares the two.
//!
//! Within version 1 fields are only added, and readers skip what they do not know.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod event;
mod exit;
mod outcome;
mod reason;
mod status;

pub use event::{
    ArtifactFacts, ArtifactTrust, BootWhat, BootWhy, Event, FORMAT_VERSION, HistoryEntry, InventoryMachine,
    LeaseState, Line, LockHolder, MachineRole, NodeCensus, PlannedCalls, PlannedKind, PlannedModules,
    Setting, Step, Unit, WaveWay,
};
pub use exit::{ErrorKind, ExitCode};
pub use outcome::{
    CodeIds, GateAnswer, Measured, ModuleCounts, NodeOutcome, Outcome, OutcomeKind, PhaseTimes, Predicted,
    ProcessCounts, Signal, Watched,
};
pub use reason::{Reason, ReasonCode, Severity, Verdict, WayBack};
pub use status::{Drift, LastOutcome, NodeStatus, StatusApplication, StatusProcess, UnderWay};

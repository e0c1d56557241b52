//! The upgrade of one node, as a decision: census, plan, verdict, script, and the judgement of what came back.
//!
//! A pure room. It asks no node, reads no clock, no environment and no file, and keeps nothing between calls:
//! facts are handed in, a plan or a judgement comes out.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod census;
pub mod entry;
pub mod gate;
mod held;
pub mod judge;
mod plan;
mod report;
mod script;
mod target;

pub use flyhot_events::{PhaseTimes, WayBack};

pub use census::{Behaviour, Census, Kind, LoadedModule, NodeApplication, NodeFacts, ProcessRef};
pub use entry::{EntryReport, StillPaused};
pub use gate::{Allowed, LogCounts, Readings};
pub use held::{Held, HeldCode, HeldReport, Removed};
pub use plan::{Changes, KindPlan, Plan, PlanInput, accept, changes, elixir_name, plan, verdict};
pub use report::{
    AbandonCause, Boots, DrainReport, Ended, Fault, KnockReport, Lingerer, PersistReport, PrepareReport,
    RehearsalReport, RemoveReport, Straggler, Unrendered, WayBackReport, WindowEnd, WindowReport,
};
pub use script::{Fate, Rehearsal, Script, ScriptKind, ScriptModule};
pub use target::{
    CallbackMode, Calls, Closer, CloserModule, CodeChange, Hosts, NodeFunction, Policy, Target,
    TargetApplication, TargetModule,
};

//! What the agent says came of a step.

use flyhot_events::PhaseTimes;

use crate::{ProcessRef, StillPaused};

/// One process and what went wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The process.
    pub process: ProcessRef,
    /// Its host module, or the handler module concerned.
    pub module: String,
    /// What came back, as an Erlang term of bounded length.
    pub error: String,
}

/// A process that did not answer in time, and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Straggler {
    /// The process.
    pub process: ProcessRef,
    /// Its host module.
    pub module: String,
    /// The top frames of its stack, `"mod:fun/arity"`, innermost first.
    pub stack: Vec<String>,
    /// Messages waiting.
    pub queue: u64,
    /// How long it had been waited for, microseconds.
    pub waited_us: u64,
}

/// What came of a rehearsal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RehearsalReport {
    /// Processes that ran the new code_change well.
    pub passed: u64,
    /// Processes whose code_change failed: the first few.
    pub faults: Vec<Fault>,
    /// How many failed in all.
    pub failed: u64,
    /// Processes that ended meanwhile.
    pub died: u64,
    /// Processes that did not come to it in time.
    pub silent: Vec<Straggler>,
    /// How long it took, microseconds.
    pub took_us: u64,
}

/// A process that runs the version before the running one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lingerer {
    /// The process, and how long it was waited for.
    pub straggler: Straggler,
    /// For how long at most the running version has been the running one, seconds; `None` where its file is not known.
    pub age_s: Option<u64>,
}

/// What came of draining.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Modules whose old code is still in use.
    pub modules: Vec<String>,
    /// Who uses it.
    pub lingerers: Vec<Lingerer>,
    /// Processes ended for `--kill-lingerers`.
    pub killed: Vec<Lingerer>,
    /// How many more there were of either; one that uses several modules counts for each.
    pub unnamed: u64,
}

/// What came of preparing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrepareReport {
    /// Modules that cannot be loaded, with the loader's word: `badfile`, `on_load_not_allowed`, `sticky_directory`…
    pub refused: Vec<(String, String)>,
    /// Changed modules whose running code could not be found again: no way back for them.
    pub old_missing: Vec<String>,
}

/// What a revert would meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WayBackReport {
    /// Sampled processes outside the affected kinds.
    pub sampled: u64,
    /// Of these, how many were executing a changed module.
    pub inside: u64,
    /// Measured cost of purging one module that has old code on this node, microseconds.
    pub purge_us: u64,
}

/// What came of the knock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnockReport {
    /// Processes that answered.
    pub answered: u64,
    /// Processes that did not.
    pub stragglers: Vec<Straggler>,
}

/// A process that was ended for its supervisor to restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The process.
    pub process: ProcessRef,
    /// Its ETS tables without an heir, which went with it.
    pub tables: Vec<String>,
}

/// How a window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowEnd {
    /// Swapped, migrated, proven, thawed.
    Upgraded,
    /// Given up before the swap and thawed: nothing was changed.
    Abandoned(AbandonCause),
    /// Failed after the swap; old code and old states are back.
    Reverted,
    /// Failed after the swap; the failed processes were ended, everything else is on the new code.
    Degraded,
}

/// Why a window was given up before the swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbandonCause {
    /// Processes did not come to rest within the budget.
    Budget,
    /// A newborn of an unplanned kind, or one that stays silent.
    Newborn,
    /// The second rehearsal, on the frozen states, failed.
    Rehearsal,
    /// A module's loaded code is not what the plan saw.
    CodeMoved,
    /// The code server refused the swap.
    SwapRefused,
    /// The code server did not answer in time.
    CodeServer,
    /// The driver went away.
    DriverGone,
    /// The worker ended.
    WorkerDied,
    /// The guard ended.
    GuardDied,
}

/// A LiveView whose new template failed on its migrated assigns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrendered {
    /// The process whose assigns were tried.
    pub process: ProcessRef,
    /// Its view.
    pub view: String,
    /// The assign that was missing, as an Erlang term; `None` where it failed otherwise.
    pub key: Option<String>,
    /// What was raised; empty where a key was missing.
    pub error: String,
}

/// What came of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowReport {
    /// How it ended.
    pub end: WindowEnd,
    /// Whether the guard finished it in the worker's place.
    pub by_guard: bool,
    /// Processes frozen or meant to be (supervisors not counted).
    pub affected: u64,
    /// code_change accepted.
    pub migrated: u64,
    /// Held still, state kept.
    pub kept: u64,
    /// Failed in migration or proof, those that were ended included.
    pub failed: u64,
    /// Ended by themselves.
    pub died: u64,
    /// Supervisors held.
    pub held: u64,
    /// The first few failures in rehearsal, migration or proof.
    pub faults: Vec<Fault>,
    /// Of these, processes that were ended for their supervisors to restart.
    pub ended: Vec<Ended>,
    /// Processes that did not answer a suspend: the first few.
    pub stragglers: Vec<Straggler>,
    /// Processes that did not answer their resume.
    pub unresumed: Vec<ProcessRef>,
    /// Processes of affected kinds that were first seen right after the swap: the first few.
    pub late: Vec<ProcessRef>,
    /// Whether the failures are of the proof: the processes had accepted their code_change.
    pub unproved: bool,
    /// Views whose template failed after the migration.
    pub unrendered: Vec<Unrendered>,
    /// Views that were not proven by rendering, and why: the first few.
    pub not_rendered: Vec<(String, String)>,
    /// Modules none of whose processes could be let run before all were: each had messages waiting.
    pub not_proven: Vec<String>,
    /// Listeners that did not come back.
    pub entry: Vec<StillPaused>,
    /// Free text the agent adds to its cause: a module, the code server's word.
    pub detail: String,
    /// From the first suspend to the last resume answer, microseconds.
    pub window_us: u64,
    /// The longest time one process was suspended, microseconds.
    pub longest_freeze_us: u64,
    /// Phases, microseconds.
    pub phases: PhaseTimes,
}

/// What came of deleting modules that the release no longer has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoveReport {
    /// Deleted, their files moved away.
    pub deleted: Vec<String>,
    /// Still loaded, and why.
    pub kept: Vec<(String, String)>,
}

/// The code that a start of the node loads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Boots {
    /// What the node ran before.
    #[default]
    Old,
    /// What it runs now.
    New,
    /// The one in place, the other anew.
    Either,
}

/// What came of writing to the node's disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistReport {
    /// Files written.
    pub written: u64,
    /// The file that could not be, and the word of the file system.
    pub failed: Option<(String, String)>,
    /// What the next start loads where it failed.
    pub boots: Boots,
    /// Why the node has no start that could be changed.
    pub nowhere: Option<String>,
}

//! What became of a command and of each node: the last line of every event stream.

use serde::{Deserialize, Serialize};

use crate::{ExitCode, Reason, WayBack};

/// What became of a command, or of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The new code runs and every affected process was migrated or kept.
    Upgraded,
    /// The node ran the release already.
    NothingToDo,
    /// A plan was made and nothing was asked for beyond it.
    Planned,
    /// What was asked for was shown or done; no code was swapped.
    Done,
    /// Refused before the swap: running code and states are as before.
    Refused,
    /// Failed after the swap and undone: old code, old states.
    Reverted,
    /// The new code runs, but not all is well: processes had to be ended, an `after` hook failed, or the gate did.
    Degraded,
    /// Could not be frozen: running code and states are as before.
    NotQuiesced,
    /// Some nodes were upgraded and some not.
    Mixed,
    /// Ended by an error.
    Failed,
    /// Not begun, because a node before it was not upgraded.
    NotBegun,
    /// Not begun, because its machine was stopped, suspended or removed before its wave: it boots what is committed, if it does.
    LeftToBoot,
    /// Ran the new code, and was taken back because another node or its own gate failed: old code, states migrated back.
    TakenBack,
}

/// The code a node ran before and runs after, as 64 hex digits each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeIds {
    /// Before the command; absent when the node was never reached.
    pub before: Option<String>,
    /// After the command.
    pub after: Option<String>,
}

/// Modules by what the change did to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleCounts {
    /// Loaded before with another md5.
    pub changed: u64,
    /// Not loaded before.
    pub added: u64,
    /// Loaded before and absent from the release.
    pub removed: u64,
}

/// Affected processes by what became of them:
/// `affected = migrated + kept + failed + died + skipped`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessCounts {
    /// Processes of kinds whose code changes.
    pub affected: u64,
    /// Their code_change ran and was accepted.
    pub migrated: u64,
    /// Without a code_change: state kept as it is.
    pub kept: u64,
    /// Their code_change failed.
    pub failed: u64,
    /// Ended by themselves during the window.
    pub died: u64,
    /// Never suspended: of a kind that is not, or nothing was done at all.
    pub skipped: u64,
}

/// How long each phase of the window took, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTimes {
    /// From the first suspend to the last answer, second rehearsal included.
    pub freeze: u64,
    /// finish_loading.
    pub swap: u64,
    /// Stash and change_code.
    pub migrate: u64,
    /// Resume and suspend back to back, one process per kind.
    pub prove: u64,
    /// Old code and old states brought back, or failed processes ended; 0 where nothing failed.
    pub undo: u64,
    /// From the first resume to the last answer.
    pub thaw: u64,
}

/// What a plan expects of the window, to be held against what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// What a revert would be.
    pub way_back: WayBack,
    /// How long a revert would take, microseconds.
    pub revert_us: u64,
    /// How long processes would be suspended on a node that is idle, microseconds.
    pub freeze_us: u64,
}

/// One thing that is looked at of a node that was upgraded, against how it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Events of level error and above that reached the node's logger.
    Errors,
    /// Processes that crashed, as its log has it.
    Crashes,
    /// Children that a supervisor lost and starts again.
    Restarts,
    /// Of the crashes, those that called a function that is not there.
    Undef,
    /// Of the crashes, those that called a fun whose code is gone.
    Badfun,
    /// Of the crashes, those in a function that no clause fits.
    FunctionClause,
    /// Processes that wait for a scheduler, the median of the samples.
    RunQueue,
    /// `erlang:memory(total)`, bytes.
    Memory,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Errors,
        Self::Crashes,
        Self::Restarts,
        Self::Undef,
        Self::Badfun,
        Self::FunctionClause,
        Self::RunQueue,
        Self::Memory,
    ];

    /// Its name in events and in the policy file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Crashes => "crashes",
            Self::Restarts => "restarts",
            Self::Undef => "undef",
            Self::Badfun => "badfun",
            Self::FunctionClause => "function_clause",
            Self::RunQueue => "run_queue",
            Self::Memory => "memory",
        }
    }
}

/// What was seen of one signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The signal.
    pub signal: Signal,
    /// Before the window; absent where it could not be read.
    pub before: Option<u64>,
    /// After it; absent where it could not be read.
    pub after: Option<u64>,
    /// The most that is let pass after it; absent where nothing is known of before.
    pub limit: Option<u64>,
}

/// How a node was watched before its window and after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// How long it was counted before, microseconds.
    pub before_us: u64,
    /// How long it was counted after, microseconds.
    pub after_us: u64,
    /// Each signal.
    pub signals: Vec<Measured>,
}

/// What became of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOutcome {
    /// Node name, `name@host`.
    pub node: String,
    /// The machine that it runs on; absent where nobody was asked for machines.
    pub machine: Option<String>,
    /// The region of the machine; absent as above.
    pub region: Option<String>,
    /// What became of it.
    pub outcome: OutcomeKind,
    /// The code it ran before and runs after.
    pub code_id: CodeIds,
    /// Modules by change.
    pub modules: ModuleCounts,
    /// Affected processes by fate.
    pub processes: ProcessCounts,
    /// From the first suspend to the last resume answer, microseconds; 0 without a window.
    pub window_us: u64,
    /// The longest time one process was suspended, microseconds.
    pub longest_freeze_us: u64,
    /// The window by phase.
    pub phases_us: PhaseTimes,
    /// What was expected of the window before it began; absent where no plan was made.
    pub predicted: Option<Predicted>,
    /// How it was before and after; absent where it was not watched.
    pub watched: Option<Watched>,
    /// What its gate said; absent where it was not asked.
    pub gate: Option<GateAnswer>,
    /// Why, and what else to know.
    pub reasons: Vec<Reason>,
}

/// What the gate of a node said: whatever it was asked, a function, how the node is, a URL or Fly.io.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateAnswer {
    /// All that was asked said yes.
    Passed,
    /// Something did not; the reasons say what.
    NotPassed,
}

impl NodeOutcome {
    /// Adds one answer: one no is enough.
    pub fn gated(&mut self, passed: bool) {
        let no = !passed || self.gate == Some(GateAnswer::NotPassed);
        self.gate = Some(if no {
            GateAnswer::NotPassed
        } else {
            GateAnswer::Passed
        });
    }

    /// An outcome of `kind` for a node on which nothing was done.
    pub fn untouched(node: impl Into<String>, kind: OutcomeKind) -> Self {
        Self {
            node: node.into(),
            machine: None,
            region: None,
            outcome: kind,
            code_id: CodeIds::default(),
            modules: ModuleCounts::default(),
            processes: ProcessCounts::default(),
            window_us: 0,
            longest_freeze_us: 0,
            phases_us: PhaseTimes::default(),
            predicted: None,
            watched: None,
            gate: None,
            reasons: Vec::new(),
        }
    }
}

/// What became of a command: its last event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What became of the command.
    pub outcome: OutcomeKind,
    /// The code its process exits with.
    pub exit_code: ExitCode,
    /// Each node named on the command line, in that order.
    pub nodes: Vec<NodeOutcome>,
}

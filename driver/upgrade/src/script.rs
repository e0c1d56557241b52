//! The script: what the agent performs, with nothing left to decide but what only the node can know.
//!
//! It names kinds, not processes: the agent found those in its census and keeps them, so that neither the
//! connection nor the driver's memory grows with the number of processes.

use flyhot_events::WayBack;

use crate::Behaviour;

/// One window on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Modules to swap at one instant: changed, new, consolidated protocols.
    pub modules: Vec<ScriptModule>,
    /// Kinds to freeze.
    pub kinds: Vec<ScriptKind>,
    /// From the first suspend until the swap must have happened, microseconds.
    pub window_budget_us: u64,
    /// For purging and reloading the old code after a failure, microseconds.
    pub revert_budget_us: u64,
    /// Unanswered messages at any time.
    pub in_flight: u64,
    /// Whether code_change is told `{down, Vsn}`.
    pub down: bool,
    /// What a revert may be: with `None` the agent does not try one.
    pub way_back: WayBack,
}

/// One module of the swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptModule {
    /// Name, `Elixir.` prefix included.
    pub name: String,
    /// The file the code server is told, as the node sees it.
    pub file: String,
    /// The md5 loaded now; `None` for a module not loaded yet.
    pub loaded_md5: Option<[u8; 16]>,
    /// The md5 after the swap.
    pub target_md5: [u8; 16],
}

/// What happens to the processes of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptKind {
    /// The agent's number.
    pub id: u64,
    /// How they are driven.
    pub behaviour: Behaviour,
    /// Migrated or only held still.
    pub fate: Fate,
    /// Whether each code_change runs in a helper process with a deadline, and its result is put in: it may not end,
    /// and a process inside it could not be called back.
    pub apart: bool,
}

/// What is done to a frozen process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Asked to run code_change for each of these modules (several only for gen_event handlers).
    Migrate {
        /// Changed modules to be asked for.
        modules: Vec<String>,
    },
    /// Frozen over the swap, state kept.
    Keep,
}

/// How a kind's code_change is tried before the swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehearsal {
    /// Inside each process, on its own state: the call graph shows that it ends.
    InPlace,
    /// In a helper process on a copy of the state, with a deadline: it may not end.
    Apart,
    /// Not at all.
    No,
}

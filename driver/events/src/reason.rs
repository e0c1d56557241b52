//! Reasons: why a verdict, a refusal, a revert or a warning.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How heavy a reason weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; changes nothing.
    Note,
    /// The upgrade goes on; the outcome says so.
    Warning,
    /// The upgrade is refused unless this code is accepted by name.
    Cold,
    /// The upgrade is refused; `--accept` does not take it.
    Refusal,
}

/// What was found to be the case with an upgrade before anything was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No reason against it.
    Hot,
    /// It will be done; the warnings say what to know.
    HotWithWarnings,
    /// It is refused; a restart is the way to this release.
    Cold,
}

/// What a revert after the swap would be (docs/upgrade.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayBack {
    /// Old code and old state come back, in the same freeze.
    Exact,
    /// Only once requests that now execute changed modules have ended.
    AfterDrain,
    /// The old code is not to be had, or cannot be loaded again in time.
    None,
}

/// One reason: a stable code, what it is about, one sentence and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable name; `--accept` takes it where the severity is `cold`.
    pub code: ReasonCode,
    /// How heavy it weighs.
    pub severity: Severity,
    /// What it is about: a module, an application, a process (`<0.123.0>`), a file.
    pub subject: String,
    /// What was found, as one sentence.
    pub sentence: String,
    /// What the user can do, as one sentence; empty when there is nothing to do.
    pub hint: String,
}

impl Reason {
    /// A reason of the severity that its code has by default.
    pub fn new(
        code: ReasonCode,
        subject: impl Into<String>,
        sentence: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity: code.severity(),
            subject: subject.into(),
            sentence: sentence.into(),
            hint: hint.into(),
        }
    }
}

macro_rules! reason_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $severity:ident;)+) => {
        /// The stable codes of all reasons.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ReasonCode {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl ReasonCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$variant,)+];

            /// The stable name, as written in JSON and taken by `--accept`.
            pub fn name(self) -> &'static str {
                match self { $(ReasonCode::$variant => $name,)+ }
            }

            /// The severity this code has unless it was accepted.
            pub fn severity(self) -> Severity {
                match self { $(ReasonCode::$variant => Severity::$severity,)+ }
            }

            /// What the code means, one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(ReasonCode::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

reason_codes! {
    /// OTP, ERTS, Elixir or the architecture of the release differs from the node's.
    ToolchainDiffers = "toolchain_differs", Refusal;
    /// A changed module loads a NIF, or has NIFs on the node.
    NifChanged = "nif_changed", Refusal;
    /// A shared library of an application, a NIF or a port driver, differs from the node's, which keeps what it has loaded.
    LibraryChanged = "library_changed", Cold;
    /// Another file below `priv` of an application differs from the node's; only modules are sent.
    PrivChanged = "priv_changed", Warning;
    /// A changed module has an on_load function, which an atomic swap refuses.
    OnLoadChanged = "on_load_changed", Refusal;
    /// A changed module lies in a sticky directory of the node.
    StickyModule = "sticky_module", Refusal;
    /// A changed module is traced; the swap silently ends the trace.
    TracedModule = "traced_module", Warning;
    /// A changed module is cover-compiled on the node.
    CoverCompiled = "cover_compiled", Cold;
    /// The release has an application, of its own or of OTP or Elixir, that the node has not loaded.
    ApplicationAdded = "application_added", Cold;
    /// The node runs an application that the release does not have.
    ApplicationRemoved = "application_removed", Cold;
    /// An application brings an `.appup` file, whose instructions are not followed.
    AppupIgnored = "appup_ignored", Note;
    /// The start function or the start module of an application changed, or may have; it is not run again.
    StartModuleChanged = "start_module_changed", Warning;
    /// The init/1 of a supervisor changed, or may have; child specs of running supervisors stay as they are.
    SupervisorChanged = "supervisor_changed", Warning;
    /// The release no longer has a module that the node has loaded: it stays loaded, or is to be deleted once the node is
    /// upgraded.
    ModuleRemoved = "module_removed", Warning;
    /// Modules that the release no longer has were deleted.
    ModuleDeleted = "module_deleted", Note;
    /// Local funs of the version before the running one are held by states or tables; taking that version away makes them fail with badfun.
    ClosureOfOldBuild = "closure_of_old_build", Cold;
    /// Local funs of a changed module are held by states or tables; they fail with badfun once that module is upgraded again.
    ClosureOfRunningBuild = "closure_of_running_build", Warning;
    /// Not every state and table could be looked at for funs of older builds within the time for it.
    ClosuresSampled = "closures_sampled", Note;
    /// The keys of a struct or the size of a state's record changed and no changed code_change takes the old shape over.
    ShapeChanged = "shape_changed", Warning;
    /// A LiveComponent changed; what its components keep in the LiveViews is migrated by no code_change.
    ComponentStateUnmigrated = "component_state_unmigrated", Warning;
    /// Whether the new code expects another shape of the states that are kept as they are cannot be known from its code.
    ShapeUnknown = "shape_unknown", Note;
    /// Callbacks that running processes rely on are gone or answer otherwise, and no changed code_change leads over.
    CallbacksChanged = "callbacks_changed", Warning;
    /// The callback_mode of a gen_statem changed, and without a code_change/4 its processes are not led over.
    CallbackModeChanged = "callback_mode_changed", Cold;
    /// Functions are not exported any more that a process inside the old code of another module may still call.
    ExportRemoved = "export_removed", Note;
    /// The new code_change failed on the state of a live process in the rehearsal.
    RehearsalFailed = "rehearsal_failed", Cold;
    /// The new code_change of a kind cannot be rehearsed.
    NotRehearsed = "not_rehearsed", Warning;
    /// The rehearsal was switched off by an option.
    RehearsalOff = "rehearsal_off", Warning;
    /// Processes that run changed code are of a kind that is neither suspended nor migrated.
    KindNotMigrated = "kind_not_migrated", Note;
    /// Processes of a changed module have a code_change that they cannot be asked for.
    NotAsked = "not_asked", Cold;
    /// Supervisors did not say in time which children they have; some of these may be affected and not be known to be.
    SupervisorSilent = "supervisor_silent", Warning;
    /// Code that the node has loaded for a module is neither on its disk nor in the release.
    Drift = "drift", Warning;
    /// The boot configuration of the release, or a key in the env of an application, is not the node's.
    ConfigurationChanged = "configuration_changed", Warning;
    /// The code was compiled with another configuration than the node runs with.
    CompileConfigChanged = "compile_config_changed", Cold;
    /// Processes still execute the version before the running one.
    Lingerers = "lingerers", Refusal;
    /// Processes that still executed the version before the running one were ended by `--kill-lingerers`.
    LingerersKilled = "lingerers_killed", Warning;
    /// A revert would have to wait until requests in changed modules have ended.
    WayBackAfterDrain = "way_back_after_drain", Warning;
    /// There is no way back after the swap.
    WayBackNone = "way_back_none", Warning;
    /// `--require-way-back` was given and the way back is not exact.
    WayBackRequired = "way_back_required", Refusal;
    /// A revert would need longer than `--revert-budget`.
    RevertSlow = "revert_slow", Warning;
    /// The memory of the states that would be held twice is more than the node has free.
    Memory = "memory", Cold;
    /// A file of the release is broken, truncated or not what its name says.
    BrokenFile = "broken_file", Refusal;
    /// A process did not answer a system message in time.
    Straggler = "straggler", Warning;
    /// The node could not be frozen within the budget.
    FreezeBudget = "freeze_budget", Warning;
    /// A process of an affected kind was started while the node was being frozen, or while the code was changed.
    Newborn = "newborn", Warning;
    /// code_change failed, exited, or returned what its behaviour does not allow, after the swap.
    MigrationFailed = "migration_failed", Warning;
    /// A process died when it was let run for an instant after its migration.
    ProveFailed = "prove_failed", Warning;
    /// The new template of a LiveView cannot be rendered with the assigns that its processes have after the migration.
    LiveViewNeedsAssign = "live_view_needs_assign", Warning;
    /// Whether a LiveView renders after its migration could not be tried.
    LiveViewNotRendered = "live_view_not_rendered", Note;
    /// No process of a module could be let run for an instant before all were.
    NotProven = "not_proven", Note;
    /// A process ended during the window.
    ProcessDied = "process_died", Warning;
    /// A process was ended for its supervisor to restart it on the new code.
    ProcessEnded = "process_ended", Warning;
    /// A module's code on the node is not what the plan saw.
    CodeMoved = "code_moved", Warning;
    /// The swap was refused by the code server.
    SwapRefused = "swap_refused", Warning;
    /// Some file could not be written; a restart would boot the old code.
    NotPersisted = "not_persisted", Warning;
    /// `--no-persist` was given; a restart boots the old code.
    PersistOff = "persist_off", Warning;
    /// The agent's worker ended before the swap, and nothing was changed; or the agent could not be taken off the node.
    WorkerDied = "worker_died", Warning;
    /// The agent's worker ended after the swap; its guard finished the window.
    GuardFinished = "guard_finished", Warning;
    /// The agent's guard ended; the worker thawed everything or finished.
    GuardDied = "guard_died", Warning;
    /// A process may still be suspended by flyhot.
    StillSuspended = "still_suspended", Warning;
    /// `--drain-entry` pauses listeners around the window: new connections are refused meanwhile.
    EntryPaused = "entry_paused", Note;
    /// A listener could not be paused, or there is none.
    EntryNotPaused = "entry_not_paused", Warning;
    /// A listener may still be paused by flyhot.
    EntryStillPaused = "entry_still_paused", Warning;
    /// The freeze restarts the timeout of a gen_server that uses one.
    TimeoutRestarted = "timeout_restarted", Note;
    /// Changed modules have a code_change, and no process shows that it runs them.
    HostNotShown = "host_not_shown", Note;
    /// A line of the policy file applies to nothing on the node.
    PolicyUnused = "policy_unused", Warning;
    /// A function that the policy file names is not there.
    CallMissing = "call_missing", Refusal;
    /// A `before` hook did not succeed; the upgrade was not begun.
    BeforeHookFailed = "before_hook_failed", Refusal;
    /// `before` hooks had run when the upgrade was given up; what they did stands.
    HooksNotUndone = "hooks_not_undone", Warning;
    /// An `after` hook did not succeed.
    AfterHookFailed = "after_hook_failed", Warning;
    /// The gate did not answer that the node is well on the new code.
    GateFailed = "gate_failed", Warning;
    /// The errors that the node logs cannot be counted, so that nobody would see whether the new code has more of them.
    GateBlind = "gate_blind", Cold;
    /// The node was to go back to what ran before, and did not.
    NotTakenBack = "not_taken_back", Warning;
    /// Fly.io says that the host of a machine does not answer, and the machine does not either: nothing was done there.
    HostLost = "host_lost", Warning;
    /// The code that a node runs could not be written to the labels of its machine.
    NotLabelled = "not_labelled", Warning;
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_serialized_form_and_distinct() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ReasonCode::ALL {
            assert!(seen.insert(code.name()), "{code} twice");
            assert_eq!(
                serde_json::to_value(code).unwrap(),
                serde_json::json!(code.name())
            );
        }
    }
}

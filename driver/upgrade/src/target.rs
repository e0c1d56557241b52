//! What the node shall run, as far as a plan needs to know it.

use std::collections::{BTreeMap, BTreeSet};

use flyhot_events::ReasonCode;

/// A release, seen from the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// ERTS version.
    pub erts: String,
    /// Elixir version; `None` for a release without Elixir.
    pub elixir: Option<String>,
    /// Applications by name.
    pub applications: BTreeMap<String, TargetApplication>,
    /// md5 of each configuration file, by name.
    pub configuration: BTreeMap<String, [u8; 16]>,
    /// Modules by name, as the code path would find them: a consolidated protocol before its source.
    pub modules: BTreeMap<String, TargetModule>,
}

/// One application of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetApplication {
    /// Its `vsn`.
    pub version: String,
    /// Whether it belongs to the change set: neither OTP's nor Elixir's.
    pub own: bool,
    /// The module of its `mod`.
    pub start_module: Option<String>,
}

/// One module of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetModule {
    /// `code:module_md5/1`.
    pub md5: [u8; 16],
    /// Whether it belongs to the change set.
    pub own: bool,
    /// Whether it has an on_load function.
    pub on_load: bool,
    /// Whether it loads a NIF.
    pub loads_nif: bool,
    /// Whether it exports `init/1` and is used as a supervisor only.
    pub supervisor: bool,
    /// The keys of the struct it defines, `__struct__` among them, where the file says so.
    pub struct_keys: Option<BTreeSet<String>>,
    /// Whether it is a LiveComponent of Phoenix.
    pub live_component: bool,
    /// Exports `code_change/3`.
    pub code_change_3: bool,
    /// Exports `code_change/4`.
    pub code_change_4: bool,
    /// Exports `system_code_change/4`.
    pub system_code_change: bool,
}

/// What the call graph says of a module's code_change, and of the copies it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeChange {
    /// Pure; ends by itself.
    Ends,
    /// Pure; may not end.
    MayNotEnd {
        /// Whether another process can run it in its place.
        anywhere: bool,
    },
    /// Cannot be rehearsed: an effect with the calls that lead to it, or a module that cannot be copied.
    Cannot(String),
}

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Reasons that do not refuse the upgrade.
    pub accept: BTreeSet<ReasonCode>,
    /// Whether code_change is tried first.
    pub rehearse: bool,
    /// Whether the new code is written to the node's disk.
    pub persist: bool,
    /// Whether anything but an exact way back is refused.
    pub require_way_back: bool,
    /// Whether the listeners are paused around the window.
    pub drain_entry: bool,
    /// Whether code_change is told `{down, Vsn}`.
    pub down: bool,
    /// Window budget, microseconds.
    pub window_budget_us: u64,
    /// Revert budget, microseconds.
    pub revert_budget_us: u64,
    /// Unanswered messages at any time.
    pub in_flight: u64,
}

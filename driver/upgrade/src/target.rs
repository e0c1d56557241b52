//! What the node shall run, as far as a plan needs to know it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use flyhot_artifact::beam::compare::Differences;
use flyhot_events::ReasonCode;

/// A release, seen from the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// ERTS version.
    pub erts: String,
    /// Elixir version; `None` for a release without Elixir.
    pub elixir: Option<String>,
    /// The processor of its ERTS, as `system_architecture` begins; `None` where that is not known.
    pub architecture: Option<String>,
    /// Applications by name.
    pub applications: BTreeMap<String, TargetApplication>,
    /// md5 of each configuration file, by name.
    pub configuration: BTreeMap<String, [u8; 16]>,
    /// Of its own applications: a digest of each file below `priv`, by its path there.
    pub private: BTreeMap<String, BTreeMap<String, [u8; 16]>>,
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
    /// Whether the release loads it: all but those of start type `none`.
    pub loaded: bool,
    /// The module of its `mod`.
    pub start_module: Option<String>,
    /// The keys that its `env` sets.
    pub environment: Vec<String>,
    /// Whether it brings an `.appup` file.
    pub appup: bool,
}

/// One module of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetModule {
    /// `code:module_md5/1`.
    pub md5: [u8; 16],
    /// Whether it belongs to the change set.
    pub own: bool,
    /// Whether the `.app` file of its application names it: an embedded node loads it when it boots.
    pub listed: bool,
    /// Whether it has an on_load function.
    pub on_load: bool,
    /// Whether it loads a NIF.
    pub loads_nif: bool,
    /// Whether it says that its behaviour is supervisor.
    pub supervisor: bool,
    /// Exports `init/1`.
    pub init_1: bool,
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

/// What a closer look at the node and at the code brought: asked only of what the change touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closer {
    /// Changed modules, and those of the processes that are affected.
    pub modules: BTreeMap<String, CloserModule>,
    /// Of the target's own applications: a digest of each file on the node, by its path below `priv`.
    pub private: BTreeMap<String, BTreeMap<String, [u8; 16]>>,
    /// By application, where the node's configuration is not what its code was compiled with.
    pub environment: BTreeMap<String, String>,
}

/// One module, looked at closer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloserModule {
    /// Whether any of its functions is traced on the node.
    pub traced: bool,
    /// Whether it has NIFs on the node.
    pub nifs: bool,
    /// Whether its handle_info/2 knows the message `timeout`.
    pub timeouts: bool,
    /// What the running code exports, `name/arity`.
    pub exports: BTreeSet<String>,
    /// What the callback_mode/0 of the running code answers; `None` where it has none.
    pub mode: Option<CallbackMode>,
    /// The same of the new code, where it is a constant.
    pub new_mode: Option<String>,
    /// Whether the system_replace_state/2 of the running code hands out less than what its processes keep.
    pub partial: bool,
    /// Functions that the running code exports and the new code does not, `name/arity`.
    pub lost: Vec<String>,
    /// What the running code and the new code differ in; `None` where the running code is not to be had, or nobody
    /// asked.
    pub differences: Option<Differences>,
}

/// What a callback_mode/0 answered on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallbackMode {
    /// This, as Erlang writes it.
    Is(String),
    /// It raised, did not return in time, or answered what is no mode.
    Unknown,
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

/// Of processes that show a module as the one they were started with: the modules whose callbacks they run, the host
/// first. All names are atoms.
pub type Hosts = BTreeMap<String, Vec<String>>;

/// A function without arguments that the user wants called on the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeFunction {
    /// Its module, `Elixir.` prefix included.
    pub module: String,
    /// Its name.
    pub function: String,
}

/// As its users write it: `Shop.Health.ready?/0`, `shop_health:ready/0`.
impl fmt::Display for NodeFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.module.strip_prefix("Elixir.") {
            Some(module) => write!(f, "{module}.{}/0", self.function),
            None => write!(f, "{}:{}/0", self.module, self.function),
        }
    }
}

/// The user's own functions around the window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    /// Before it, on the running code.
    pub before: Vec<NodeFunction>,
    /// After it, on the new code.
    pub after: Vec<NodeFunction>,
    /// Whether the node is well on the new code.
    pub gate: Option<NodeFunction>,
}

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Reasons that do not refuse the upgrade, each with where that was said: `by --accept`.
    pub accept: BTreeMap<ReasonCode, String>,
    /// Whose callbacks run in processes that do not show it.
    pub hosts: Hosts,
    /// What is called on the node.
    pub calls: Calls,
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

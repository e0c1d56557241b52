//! What a node says of itself: the census, as the agent reports it.
//!
//! Nothing here asks; the shell does, and hands the answers in.

use std::collections::{BTreeMap, BTreeSet};

/// A node's toolchain, code and applications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// OTP release, `"25"`.
    pub otp: String,
    /// ERTS version, `"13.1.5"`.
    pub erts: String,
    /// Elixir version; `None` where Elixir is not loaded.
    pub elixir: Option<String>,
    /// `erlang:system_info(system_architecture)`.
    pub architecture: String,
    /// `code:root_dir()`: the release directory as the node sees it.
    pub root_dir: String,
    /// Whether the code server runs in embedded mode (`code:get_mode/0`).
    pub embedded: bool,
    /// md5 of each configuration file it was booted with, by name; none where it runs from no release.
    pub configuration: BTreeMap<String, [u8; 16]>,
    /// Loaded modules by name (`Elixir.` prefix included).
    pub modules: BTreeMap<String, LoadedModule>,
    /// Loaded applications by name.
    pub applications: BTreeMap<String, NodeApplication>,
    /// Live processes.
    pub processes: u64,
    /// `erlang:memory(total)`, bytes.
    pub memory_bytes: u64,
    /// Free memory of the machine as the node sees it, bytes; `None` where it cannot be known.
    pub free_bytes: Option<u64>,
}

/// One loaded module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedModule {
    /// `module_info(md5)`.
    pub md5: [u8; 16],
    /// `code:which/1` as text; empty where the module has no file.
    pub file: String,
    /// `erlang:check_old_code/1`.
    pub has_old: bool,
    /// `code:is_sticky/1`.
    pub sticky: bool,
    /// Whether it is cover-compiled.
    pub cover: bool,
    /// The keys of the struct it defines, `__struct__` among them.
    pub struct_keys: Option<BTreeSet<String>>,
}

/// One application the node has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeApplication {
    /// Its `vsn`.
    pub version: String,
    /// `code:lib_dir/1`; empty where unknown.
    pub dir: String,
    /// Whether it is started.
    pub running: bool,
    /// The module of its `mod`.
    pub start_module: Option<String>,
    /// The keys of its environment (`application:get_all_env/1`).
    pub environment: BTreeSet<String>,
}

/// How a process is driven (docs/upgrade.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Behaviour {
    /// OTP `gen_server`.
    GenServer,
    /// OTP `gen_statem`.
    GenStatem,
    /// OTP `gen_event`.
    GenEvent,
    /// OTP `supervisor` or Elixir's `DynamicSupervisor`.
    Supervisor,
    /// proc_lib with `system_continue/3` and `system_terminate/4`.
    Special,
    /// Elixir's `Agent`.
    Agent,
    /// Elixir's `Task`.
    Task,
    /// proc_lib without system messages.
    ProcLib,
    /// Spawned without proc_lib.
    Raw,
    /// Run by a behaviour of OTP, and it does not show by which callbacks.
    Unasked,
    /// The same, where it does not show what runs it either: it may be nothing that answers system messages.
    Hidden,
    /// Kernel's, logger's or flyhot's own: never touched.
    System,
}

impl Behaviour {
    /// The name used in events and in the terms spoken with the agent.
    pub fn name(self) -> &'static str {
        match self {
            Behaviour::GenServer => "gen_server",
            Behaviour::GenStatem => "gen_statem",
            Behaviour::GenEvent => "gen_event",
            Behaviour::Supervisor => "supervisor",
            Behaviour::Special => "special",
            Behaviour::Agent => "agent",
            Behaviour::Task => "task",
            Behaviour::ProcLib => "proc_lib",
            Behaviour::Raw => "raw",
            Behaviour::Unasked => "unasked",
            Behaviour::Hidden => "hidden",
            Behaviour::System => "system",
        }
    }

    /// Every behaviour.
    pub const ALL: [Behaviour; 12] = [
        Behaviour::GenServer,
        Behaviour::GenStatem,
        Behaviour::GenEvent,
        Behaviour::Supervisor,
        Behaviour::Special,
        Behaviour::Agent,
        Behaviour::Task,
        Behaviour::ProcLib,
        Behaviour::Raw,
        Behaviour::Unasked,
        Behaviour::Hidden,
        Behaviour::System,
    ];

    /// Whether processes of this behaviour may be suspended and migrated.
    pub fn migrates(self) -> bool {
        matches!(
            self,
            Behaviour::GenServer | Behaviour::GenStatem | Behaviour::GenEvent | Behaviour::Special
        )
    }
}

/// The processes of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// By kind.
    pub kinds: Vec<Kind>,
    /// Supervisors that did not say in time which children they have: the first few.
    pub silent: Vec<ProcessRef>,
}

/// Processes that share behaviour, host and modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// The agent's number for it; valid for this session.
    pub id: u64,
    /// How they are driven.
    pub behaviour: Behaviour,
    /// The module whose callbacks run; for gen_event `gen_event` itself.
    pub host: String,
    /// The module that they show in its place, where the policy says whose callbacks run.
    pub shows: Option<String>,
    /// Every module that decides whether they are affected: host, gen_event handlers, label, child spec.
    pub modules: Vec<String>,
    /// How many.
    pub processes: u64,
    /// How many of them hibernate.
    pub hibernated: u64,
    /// Sum of `process_info(memory)`, bytes.
    pub memory_bytes: u64,
    /// Distinct supervisors they were started by.
    pub supervisors: u64,
    /// A few of them.
    pub sample: Vec<ProcessRef>,
}

/// A process as a person finds it again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessRef {
    /// `pid_to_list/1`, `"<0.123.0>"`.
    pub pid: String,
    /// Its registered name.
    pub name: Option<String>,
}

//! What a node says of itself to `flyhot status`.

use serde::{Deserialize, Serialize};

use crate::{CodeIds, OutcomeKind, ReasonCode};

/// One node as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The machine that it runs on; absent where nobody was asked for machines.
    pub machine: Option<String>,
    /// The region of the machine; absent as above.
    pub region: Option<String>,
    /// OTP release, `"25"`.
    pub otp: String,
    /// ERTS version, `"13.1.5"`.
    pub erts: String,
    /// Elixir version; absent on a node without Elixir.
    pub elixir: Option<String>,
    /// The code it runs, 64 hex digits.
    pub code_id: String,
    /// Whether it loads all code when it boots.
    pub embedded: bool,
    /// Live processes.
    pub processes: u64,
    /// `erlang:memory(total)`, bytes.
    pub memory_bytes: u64,
    /// Applications that are neither of OTP nor of Elixir, by name.
    pub applications: Vec<StatusApplication>,
    /// Modules whose running code is not that of their file, by name.
    pub drift: Vec<Drift>,
    /// Modules of which this node runs other code than most others that were asked, by name.
    pub differing: Vec<String>,
    /// Modules that have old code, by name.
    pub old_code: Vec<String>,
    /// Processes that run old code, as far as they were looked for.
    pub lingerers: Vec<StatusProcess>,
    /// How many modules with old code were looked at for processes that run it, before the time for that was over.
    pub lingerers_sought: u64,
    /// Processes that are suspended, as many as are named.
    pub suspended: Vec<StatusProcess>,
    /// How many are suspended; of those that hibernate that is not seen.
    pub suspended_count: u64,
    /// An upgrade that is under way.
    pub under_way: Option<UnderWay>,
    /// What became of the last upgrade that wrote it to the disk.
    pub last: Option<LastOutcome>,
}

/// An application of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusApplication {
    /// Its name.
    pub name: String,
    /// Its version, as loaded.
    pub version: String,
    /// Whether it is running.
    pub running: bool,
}

/// A module whose code is on no disk where it would be looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Its name.
    pub module: String,
    /// md5 of the running code, 32 hex digits.
    pub loaded: String,
    /// md5 of the code in its file; absent where there is none that can be read.
    pub file: Option<String>,
}

/// A process that is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusProcess {
    /// `<0.123.0>`.
    pub pid: String,
    /// Its registered name.
    pub name: Option<String>,
    /// The module it was started by, or whose old code it runs.
    pub module: String,
    /// What it is executing, `module:function/arity`, innermost first.
    pub stack: Vec<String>,
    /// How it is suspended, or why it is named: `sys`, `suspend_process` or `old_code`.
    pub how: String,
}

/// Somebody at work on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// Its own words: version, name, process.
    pub holder: String,
    /// The step of its agent.
    pub step: String,
}

/// What became of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastOutcome {
    /// Seconds since 1970, UTC, by the clock of the machine that flyhot ran on.
    pub at: u64,
    /// The release directory as it was given.
    pub release: String,
    /// What became of it.
    pub outcome: OutcomeKind,
    /// The code before and after.
    pub code_id: CodeIds,
    /// Why: the codes alone, for sentences may quote states.
    pub reasons: Vec<ReasonCode>,
}

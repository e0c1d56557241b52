//! Everything a command was told, checked once.
//!
//! This room decides nothing about an upgrade and opens no connection. It turns arguments and environment
//! into one struct that cannot hold a contradiction; nobody after it parses a string, reads the environment
//! or falls back to a default.

mod cookie;
mod duration;
mod environment;
pub mod fly;
mod home;
pub mod mix;
mod named;
pub(crate) mod plain;
pub mod policy;
mod reach;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod tree;
mod trust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flyhot_events::{ReasonCode, Severity};
use flyhot_fleet::FlyError;
use flyhot_node::NodeNameError;
use flyhot_upgrade::Hosts;
use thiserror::Error;

use crate::cli::{HomeArgs, NodeArgs, WorkArgs};

pub use cookie::CookieError;
pub(crate) use cookie::of_machine as cookie_of_machine;
pub use duration::{DurationError, parse_duration, parse_milliseconds, parse_seconds};
pub use environment::{Environment, Screen, Secret, Variable};
pub(crate) use environment::{MIX, OF_MIX, ORDERED_CHECK_URL};
pub use home::HomeError;
pub(crate) use home::{Asks, Need, Place, Project, StoreSaid, asks, at_hand, mix, project, settings};
pub(crate) use mix::MixConfig;
pub use named::NamedError;
pub use plain::PlainError;
use policy::{Gate, Hooks, PolicyError, PolicyFile, Watch};
pub use reach::{DEFAULT_EPMD_PORT, Door, MachineOf, OnFly, Peer, Reach};
pub(crate) use reach::{IN_IMAGE, complete, plain_image};
use settings::SUSPEND_TIMEOUT;
pub(crate) use settings::{MAX_CONCURRENCY, Origin, Said, Settings};
pub use tls::TlsFileError;
pub use token::TokenError;
pub(crate) use token::{PROGRAMS as FLYCTL, flyctl_version, program as flyctl, token};
pub use tree::{Format, SyntaxError};
pub use trust::{KeyFileError, PUBLIC_KEYS_FILE};
pub(crate) use trust::{private_key, trust};

/// The timeout that `gen_server:call/2` and its siblings use when none is given. A window that lasted as long
/// would fail every such call that began with it (OTP `gen_server`, `-define(DEFAULT_TIMEOUT, 5000)` in `gen.erl`).
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest policy file that is read, bytes: a rule for each of ten thousand modules fits in.
const POLICY_FILE: u64 = 1024 * 1024;

/// What a command that deals with a release was told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which nodes, and how to reach them.
    pub reach: Reach,
    /// The release directory, as given.
    pub release: PathBuf,
    /// From the first suspend until the swap must have happened; above zero and below [`DEFAULT_CALL_TIMEOUT`].
    pub window_budget: Duration,
    /// For bringing the old code back after a failure.
    pub revert_budget: Duration,
    /// How long to wait for processes that do not read their mailbox, before any freeze.
    pub quiesce_timeout: Duration,
    /// How many times a freeze is tried; at least 1.
    pub freeze_attempts: u32,
    /// How long to wait for processes that still run the version before the running one.
    pub drain_timeout: Duration,
    /// What happens to those that are left then.
    pub lingerers: Lingerers,
    /// Unanswered messages at any time; at least 1.
    pub in_flight: u32,
    /// What the way back must be for the upgrade to be done.
    pub way_back: WayBackNeeded,
    /// Whether the listeners are paused around the window.
    pub entry: Entry,
    /// Reasons that do not refuse the upgrade, each with where that was said and why; all of severity
    /// [`Severity::Cold`].
    pub accept: BTreeMap<ReasonCode, String>,
    /// Whose callbacks run in processes that do not show it.
    pub hosts: Hosts,
    /// The user's own functions around the window.
    pub hooks: Hooks,
    /// The question whether a node is well on the new code.
    pub gate: Option<Gate>,
    /// How a node is watched before its window and after it; `None`: it is not.
    pub watch: Option<Watch>,
    /// Whether the new code_change is tried on live states first.
    pub rehearsal: Rehearsal,
    /// Whether the new code is written to the node's disk.
    pub persist: Persist,
    /// Which way the versions go.
    pub direction: Direction,
}

/// What happens to processes that still run the version before the running one when `--drain-timeout` is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lingerers {
    /// The upgrade is refused.
    Refuse,
    /// They are ended.
    Kill,
}

/// What the way back must be for the upgrade to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayBackNeeded {
    /// Whatever it is; the plan says so.
    Any,
    /// Old code and old states in the same freeze, else the upgrade is refused.
    Exact,
}

/// What becomes of the listeners of ranch and ThousandIsland around the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// They keep taking connections.
    Open,
    /// They are paused before the knock and resumed after the window.
    Paused,
}

/// Whether the new code_change is tried on live states before the swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehearsal {
    /// Wherever its call graph allows it.
    On,
    /// Nowhere: a failing code_change is found after the swap.
    Off,
}

/// Whether the new code is written to the node's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist {
    /// At once, after the upgrade.
    On,
    /// Not at all: a restart boots the old code.
    Off,
}

/// Which way the versions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// code_change is told the old version.
    Up,
    /// code_change is told `{down, Vsn}`.
    Down,
}

impl Options {
    /// Checks arguments and environment. Reads the cookie file and the policy file, and looks whether the release is a
    /// directory.
    ///
    /// # Errors
    /// [`OptionsError`]: each is the user's to mend, exit code 2.
    pub fn new(args: &NodeArgs, home: &HomeArgs, environment: &Environment) -> Result<Self, OptionsError> {
        let how = &args.how.work;
        let mut accept = accepted(how)?;
        if !args.release.is_dir() {
            return Err(OptionsError::Release(args.release.clone()));
        }
        let policy = match &how.policy {
            Some(path) => {
                let policy = policy_file(path)?;
                // Where both accept a reason, the file's words say more.
                let said = |why| format!("in {}: {why}", path.display());
                accept.extend(policy.accept.iter().map(|(code, why)| (*code, said(why))));
                policy
            }
            None => PolicyFile::default(),
        };
        Ok(Self {
            reach: Reach::new(&args.reach, home, Some(&args.release), environment)?,
            release: args.release.clone(),
            window_budget: how.window_budget,
            revert_budget: how.revert_budget,
            quiesce_timeout: args
                .how
                .quiesce_timeout
                .or(mix(environment)?.config.suspend_timeout)
                .unwrap_or(SUSPEND_TIMEOUT),
            freeze_attempts: how.freeze_attempts,
            drain_timeout: how.drain_timeout,
            lingerers: if how.kill_lingerers {
                Lingerers::Kill
            } else {
                Lingerers::Refuse
            },
            in_flight: how.in_flight,
            way_back: if how.require_way_back {
                WayBackNeeded::Exact
            } else {
                WayBackNeeded::Any
            },
            entry: if how.drain_entry {
                Entry::Paused
            } else {
                Entry::Open
            },
            accept,
            hosts: policy.hosts,
            hooks: policy.hooks,
            gate: policy.gate,
            watch: Some(policy.watch),
            rehearsal: if how.no_rehearsal {
                Rehearsal::Off
            } else {
                Rehearsal::On
            },
            persist: if how.no_persist { Persist::Off } else { Persist::On },
            direction: if args.down { Direction::Down } else { Direction::Up },
        })
    }
}

/// The reasons that arguments accept, each with who says so; and whether the budget can be kept at all.
pub(crate) fn accepted(how: &WorkArgs) -> Result<BTreeMap<ReasonCode, String>, OptionsError> {
    if how.window_budget.is_zero() || how.window_budget >= DEFAULT_CALL_TIMEOUT {
        return Err(OptionsError::WindowBudget(how.window_budget));
    }
    let codes = how.accept.iter();
    codes
        .map(|code| Ok((acceptable(code)?, "by --accept".to_owned())))
        .collect()
}

fn acceptable(name: &str) -> Result<ReasonCode, OptionsError> {
    match ReasonCode::ALL.iter().find(|code| code.name() == name) {
        Some(code) if code.severity() == Severity::Cold => Ok(*code),
        Some(code) => Err(OptionsError::NotAcceptable(*code)),
        None => Err(OptionsError::UnknownCode {
            given: name.to_owned(),
            nearest: nearest_code(name),
        }),
    }
}

fn policy_file(path: &Path) -> Result<PolicyFile, OptionsError> {
    let bytes = plain::read(path, POLICY_FILE).map_err(|error| OptionsError::PolicyRead {
        path: path.to_owned(),
        error,
    })?;
    PolicyFile::parse(&bytes).map_err(|error| OptionsError::Policy {
        path: path.to_owned(),
        error,
    })
}

fn why_not_acceptable(code: ReasonCode) -> &'static str {
    match code.severity() {
        Severity::Refusal => "no option overrides this reason",
        Severity::Note | Severity::Warning | Severity::Cold => {
            "this reason refuses no upgrade, so there is nothing to accept"
        }
    }
}

/// Below this Jaro-Winkler similarity two names have little in common; clap draws its own line at 0.7.
const SIMILAR: f64 = 0.8;

fn nearest(name: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn nearest_code(name: &str) -> Option<ReasonCode> {
    let nearest = nearest(name, ReasonCode::ALL.iter().map(|code| code.name()))?;
    ReasonCode::ALL
        .iter()
        .copied()
        .find(|code| code.name() == nearest)
}

/// The codes that `--accept` takes.
fn acceptable_codes() -> String {
    let names: Vec<_> = ReasonCode::ALL
        .iter()
        .filter(|code| code.severity() == Severity::Cold)
        .map(|code| code.name())
        .collect();
    names.join(", ")
}

/// Arguments or environment that no command can be made of.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// A node name that is none.
    #[error("--node {name}: not the name of an Erlang node")]
    NodeName {
        /// As given.
        name: String,
        /// What is wrong with it.
        source: NodeNameError,
    },
    /// An inventory that is no file of node names.
    #[error("--inventory {}: {error}", path.display())]
    Named {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: NamedError,
    },
    /// One node named twice.
    #[error("--node {0}: named twice")]
    NodeTwice(String),
    /// A window that is empty, or as long as a call waits.
    #[error("--window-budget {}: must be above 0 and below 5s, the time a gen_server call waits by default", duration::show(*.0))]
    WindowBudget(Duration),
    /// No such reason code.
    #[error("--accept {given}: no reason has this code")]
    UnknownCode {
        /// As given.
        given: String,
        /// The code that was probably meant.
        nearest: Option<ReasonCode>,
    },
    /// A code that refuses nothing, or that nothing overrides.
    #[error("--accept {0}: {why}", why = why_not_acceptable(*.0))]
    NotAcceptable(ReasonCode),
    /// No node and no app.
    #[error("neither nodes are named nor is an app whose nodes could be asked for")]
    NoNodes,
    /// `ERL_EPMD_PORT` is not a port.
    #[error("ERL_EPMD_PORT is {0:?}, which is not a port number")]
    EpmdPort(String),
    /// The release is not a directory.
    #[error("--release {}: there is no such directory", .0.display())]
    Release(PathBuf),
    /// A policy file that is not read.
    #[error("the policy file {} {error}", path.display())]
    PolicyRead {
        /// The file.
        path: PathBuf,
        /// Why.
        error: PlainError,
    },
    /// A policy file that says what is not known.
    #[error("{}:{}:{}: {error}", path.display(), error.line, error.column)]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: PolicyError,
    },
    /// No cookie, or one that cannot be read.
    #[error(transparent)]
    Cookie(#[from] CookieError),
    /// A file for TLS that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// A key that cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// No store.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// No token of Fly.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An app that Fly can have none of.
    #[error("the app, by {origin}: {error}")]
    FlyApp {
        /// Who named it.
        origin: String,
        /// What is wrong with it.
        error: Box<FlyError>,
    },
}

impl OptionsError {
    /// Whether it is only that nobody names a store.
    pub(crate) fn is_no_store(&self) -> bool {
        matches!(self, Self::Home(HomeError::None))
    }

    /// What the user can do about it, one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::NodeName { .. } => {
                "Give the name as the node prints it for `node()`, for example shop@10.0.0.1 or shop@web-1."
                    .into()
            }
            Self::Named { .. } => "Name a file that has the name of a node on each line, as the node prints it for `node()`; or say `fly`, \
                                   which means the machines of an app on Fly.io."
                .into(),
            Self::NodeTwice(_) => "Name each node once.".into(),
            Self::NoNodes => {
                "Name nodes by --node, or the app on Fly.io whose machines are meant by --app, `app` in fly.toml, or the variable \
                 FLY_APP_NAME."
                    .into()
            }
            Self::WindowBudget(_) => "Give a shorter time, for example --window-budget 2s.".into(),
            Self::UnknownCode {
                nearest: Some(code), ..
            } if code.severity() == Severity::Cold => {
                format!("Did you mean --accept {code}?")
            }
            Self::UnknownCode { .. } => format!("These codes can be accepted: {}.", acceptable_codes()),
            Self::NotAcceptable(_) => format!("These codes can be accepted: {}.", acceptable_codes()),
            Self::EpmdPort(_) => "Unset it, or give the port by --epmd-port.".into(),
            Self::Release(_) => {
                "Give the directory that `mix release` made, for example _build/prod/rel/shop.".into()
            }
            Self::PolicyRead {
                error: PlainError::Read(_),
                ..
            } => "Check the path and its permissions.".into(),
            Self::PolicyRead { .. } => "Give a policy file; docs/policy.md has an example.".into(),
            Self::Policy { error, .. } => error.fault.hint(),
            Self::Cookie(error) => error.hint(),
            Self::Tls(error) => error.hint().into(),
            Self::Key(error) => error.hint(),
            Self::Home(error) => error.hint(),
            Self::Token(error) => error.hint().into(),
            Self::FlyApp { .. } => {
                "Give the name that `fly apps list` shows, by --app, `app` in fly.toml or FLY_APP_NAME."
                    .into()
            }
        }
    }
}

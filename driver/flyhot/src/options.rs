//! Everything a command was told, checked once.
//!
//! This room decides nothing about an upgrade and opens no connection. It turns arguments and environment
//! into one struct that cannot hold a contradiction; nobody after it parses a string, reads the environment
//! or falls back to a default.

mod cookie;
mod duration;
mod environment;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use flyhot_events::{ReasonCode, Severity};
use flyhot_node::{Cookie, NodeName, NodeNameError};
use thiserror::Error;

use crate::cli::NodeArgs;

pub use cookie::CookieError;
pub use duration::{DurationError, parse_duration};
pub use environment::{Environment, Screen, Secret};

/// The timeout that `gen_server:call/2` and its siblings use when none is given. A window that lasted as long
/// would fail every such call that began with it (OTP `gen_server`, `-define(DEFAULT_TIMEOUT, 5000)` in `gen.erl`).
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// epmd's registered port (OTP `erl_epmd.hrl`, IANA 4369).
pub const DEFAULT_EPMD_PORT: u16 = 4369;

/// What a command was told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The nodes, in the order of the command line, none twice.
    pub nodes: Vec<NodeName>,
    /// The release directory, as given.
    pub release: PathBuf,
    /// The secret shared with the nodes.
    pub cookie: Cookie,
    /// The port the nodes listen on; epmd is not asked then.
    pub dist_port: Option<u16>,
    /// The port epmd listens on, on each node's host.
    pub epmd_port: u16,
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
    /// Reasons that do not refuse the upgrade; all of severity [`Severity::Cold`].
    pub accept: BTreeSet<ReasonCode>,
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
    /// Checks arguments and environment. Reads the cookie file, and looks whether the release is a directory.
    ///
    /// # Errors
    /// [`OptionsError`]: each is the user's to mend, exit code 2.
    pub fn new(args: &NodeArgs, environment: &Environment) -> Result<Self, OptionsError> {
        let nodes = node_names(&args.node)?;
        if args.window_budget.is_zero() || args.window_budget >= DEFAULT_CALL_TIMEOUT {
            return Err(OptionsError::WindowBudget(args.window_budget));
        }
        let accept = args
            .accept
            .iter()
            .map(|code| acceptable(code))
            .collect::<Result<_, _>>()?;
        let epmd_port = match (args.epmd_port, &environment.epmd_port) {
            (Some(port), _) => port,
            (None, Some(text)) => {
                let port = text
                    .to_str()
                    .and_then(|text| text.trim().parse().ok())
                    .filter(|port| *port != 0);
                port.ok_or_else(|| OptionsError::EpmdPort(text.to_string_lossy().into_owned()))?
            }
            (None, None) => DEFAULT_EPMD_PORT,
        };
        if !args.release.is_dir() {
            return Err(OptionsError::Release(args.release.clone()));
        }
        let cookie = cookie::resolve(args.cookie_file.as_deref(), &args.release, environment)?;
        Ok(Self {
            nodes,
            release: args.release.clone(),
            cookie,
            dist_port: args.dist_port,
            epmd_port,
            window_budget: args.window_budget,
            revert_budget: args.revert_budget,
            quiesce_timeout: args.quiesce_timeout,
            freeze_attempts: args.freeze_attempts,
            drain_timeout: args.drain_timeout,
            lingerers: if args.kill_lingerers {
                Lingerers::Kill
            } else {
                Lingerers::Refuse
            },
            in_flight: args.in_flight,
            way_back: if args.require_way_back {
                WayBackNeeded::Exact
            } else {
                WayBackNeeded::Any
            },
            accept,
            rehearsal: if args.no_rehearsal {
                Rehearsal::Off
            } else {
                Rehearsal::On
            },
            persist: if args.no_persist {
                Persist::Off
            } else {
                Persist::On
            },
            direction: if args.down { Direction::Down } else { Direction::Up },
        })
    }
}

fn node_names(given: &[String]) -> Result<Vec<NodeName>, OptionsError> {
    let mut nodes: Vec<NodeName> = Vec::with_capacity(given.len());
    for text in given {
        let name = text
            .parse::<NodeName>()
            .map_err(|source| OptionsError::NodeName {
                name: text.clone(),
                source,
            })?;
        if nodes.contains(&name) {
            return Err(OptionsError::NodeTwice(text.clone()));
        }
        nodes.push(name);
    }
    Ok(nodes)
}

fn acceptable(name: &str) -> Result<ReasonCode, OptionsError> {
    match ReasonCode::ALL.iter().find(|code| code.name() == name) {
        Some(code) if code.severity() == Severity::Cold => Ok(*code),
        Some(code) => Err(OptionsError::NotAcceptable(*code)),
        None => Err(OptionsError::UnknownCode {
            given: name.to_owned(),
            nearest: nearest(name),
        }),
    }
}

/// Below this Jaro-Winkler similarity two names have little in common; clap draws its own line at 0.7.
const SIMILAR: f64 = 0.8;

fn nearest(name: &str) -> Option<ReasonCode> {
    ReasonCode::ALL
        .iter()
        .map(|code| (strsim::jaro_winkler(name, code.name()), *code))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, code)| code)
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
    #[error("--accept {0}: {what}", what = match .0.severity() {
        Severity::Refusal => "no option overrides this reason",
        Severity::Note | Severity::Warning | Severity::Cold => "this reason refuses no upgrade, so there is nothing to accept",
    })]
    NotAcceptable(ReasonCode),
    /// `ERL_EPMD_PORT` is not a port.
    #[error("ERL_EPMD_PORT is {0:?}, which is not a port number")]
    EpmdPort(String),
    /// The release is not a directory.
    #[error("--release {}: there is no such directory", .0.display())]
    Release(PathBuf),
    /// No cookie, or one that cannot be read.
    #[error(transparent)]
    Cookie(#[from] CookieError),
}

impl OptionsError {
    /// What the user can do about it, one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::NodeName { .. } => {
                "Give the name as the node prints it for `node()`, for example shop@10.0.0.1 or shop@web-1."
                    .into()
            }
            Self::NodeTwice(_) => "Name each node once.".into(),
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
            Self::Cookie(error) => error.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::ffi::OsString;
    use std::fs;
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    const COOKIE: &str = "c00kie";

    /// A release with a cookie in it.
    fn release() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("releases")).unwrap();
        fs::write(directory.path().join("releases/COOKIE"), COOKIE).unwrap();
        directory
    }

    fn with(release: &Path, words: &str, environment: &Environment) -> Result<Options, OptionsError> {
        let head = ["flyhot", "plan", "--release", release.to_str().unwrap()];
        let cli = Cli::try_parse_from(head.into_iter().chain(words.split_whitespace())).unwrap();
        Options::new(cli.verb.node_args(), environment)
    }

    fn options(words: &str) -> Result<Options, OptionsError> {
        with(release().path(), words, &Environment::default())
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let options = options("--node a@h").unwrap();
        assert_eq!(options.window_budget, Duration::from_secs(2));
        assert_eq!(options.revert_budget, Duration::from_secs(2));
        assert_eq!(options.quiesce_timeout, Duration::from_secs(10));
        assert_eq!(options.drain_timeout, Duration::from_secs(30));
        assert_eq!((options.freeze_attempts, options.in_flight), (3, 1_000));
        assert_eq!((options.dist_port, options.epmd_port), (None, 4369));
        assert_eq!(options.lingerers, Lingerers::Refuse);
        assert_eq!(options.way_back, WayBackNeeded::Any);
        assert_eq!(options.rehearsal, Rehearsal::On);
        assert_eq!(options.persist, Persist::On);
        assert_eq!(options.direction, Direction::Up);
        assert!(options.accept.is_empty());
    }

    #[test]
    fn each_switch_turns_its_own_option() {
        let options = options(
            "--node a@h b@h --node c@h --kill-lingerers --require-way-back --no-rehearsal --no-persist --down \
             --accept memory --accept cover_compiled --dist-port 9100 --epmd-port 4370",
        )
        .unwrap();
        let names: Vec<_> = options.nodes.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a@h", "b@h", "c@h"]);
        assert_eq!(options.lingerers, Lingerers::Kill);
        assert_eq!(options.way_back, WayBackNeeded::Exact);
        assert_eq!(options.rehearsal, Rehearsal::Off);
        assert_eq!(options.persist, Persist::Off);
        assert_eq!(options.direction, Direction::Down);
        assert_eq!(
            options.accept,
            [ReasonCode::Memory, ReasonCode::CoverCompiled].into()
        );
        assert_eq!((options.dist_port, options.epmd_port), (Some(9100), 4370));
    }

    #[test]
    fn a_contradiction_is_told_with_the_next_step() {
        let table = [
            (
                "--node shop",
                "--node shop: not the name of an Erlang node",
                "shop@10.0.0.1",
            ),
            ("--node a@h b@h a@h", "--node a@h: named twice", "once"),
            (
                "--node a@h --window-budget 5s",
                "--window-budget 5s: must be above 0 and below 5s",
                "2s",
            ),
            (
                "--node a@h --window-budget 0s",
                "--window-budget 0s: must be above 0",
                "2s",
            ),
            (
                "--node a@h --accept cover_compild",
                "no reason has this code",
                "Did you mean --accept cover_compiled?",
            ),
            (
                "--node a@h --accept all",
                "no reason has this code",
                "cover_compiled, application_added,",
            ),
            (
                "--node a@h --accept nif_changed",
                "no option overrides this reason",
                "cover_compiled",
            ),
            (
                "--node a@h --accept drift",
                "refuses no upgrade",
                "cover_compiled",
            ),
        ];
        for (words, message, hint) in table {
            let error = options(words).unwrap_err();
            assert!(error.to_string().contains(message), "{words}: {error}");
            assert!(error.hint().contains(hint), "{words}: {}", error.hint());
        }
        assert!(options("--node a@h --window-budget 4999ms").is_ok());
    }

    #[test]
    fn the_epmd_port_is_that_of_the_option_then_of_otp() {
        let environment = |port: &str| Environment {
            epmd_port: Some(OsString::from(port)),
            ..Environment::default()
        };
        let port = |words: &str, port: &str| {
            with(release().path(), words, &environment(port)).map(|options| options.epmd_port)
        };
        assert_eq!(port("--node a@h", "24500").unwrap(), 24_500);
        assert_eq!(port("--node a@h --epmd-port 1", "nonsense").unwrap(), 1);
        for wrong in ["nonsense", "0", "65536"] {
            assert!(
                matches!(port("--node a@h", wrong), Err(OptionsError::EpmdPort(_))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_release_that_is_no_directory_is_refused() {
        let error = with(Path::new("/nowhere/shop"), "--node a@h", &Environment::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--release /nowhere/shop: there is no such directory"
        );
    }

    /// The cookie's text is not to be had, so it is compared as the type allows.
    fn same(found: &Options, text: &str) -> bool {
        found.cookie == Cookie::new(text.to_owned())
    }

    #[test]
    fn the_cookie_comes_from_the_first_place_that_has_one() {
        let release = release();
        let home = tempfile::tempdir().unwrap();
        let bare = tempfile::tempdir().unwrap();
        fs::write(home.path().join(".erlang.cookie"), "of_home\n").unwrap();
        let given = home.path().join("given");
        fs::write(&given, "given\n").unwrap();
        let environment = Environment {
            release_cookie: Some(Secret("of_environment".into())),
            home: Some(home.path().to_owned()),
            ..Environment::default()
        };
        let without = Environment {
            release_cookie: None,
            ..environment.clone()
        };
        let words = format!("--node a@h --cookie-file {}", given.display());
        assert!(same(
            &with(release.path(), &words, &environment).unwrap(),
            "given"
        ));
        assert!(same(
            &with(release.path(), "--node a@h", &environment).unwrap(),
            "of_environment"
        ));
        assert!(same(
            &with(release.path(), "--node a@h", &without).unwrap(),
            COOKIE
        ));
        assert!(same(
            &with(bare.path(), "--node a@h", &without).unwrap(),
            "of_home"
        ));
    }

    #[test]
    fn a_cookie_that_cannot_be_used_names_its_place() {
        let release = release();
        let home = tempfile::tempdir().unwrap();
        let environment = Environment {
            home: Some(home.path().to_owned()),
            ..Environment::default()
        };
        let file = home.path().join("cookie");
        let words = format!("--node a@h --cookie-file {}", file.display());
        let refused = |content: &[u8]| {
            fs::write(&file, content).unwrap();
            with(release.path(), &words, &environment)
                .unwrap_err()
                .to_string()
        };
        let place = file.display().to_string();
        for (content, message) in [
            (&b"\n"[..], format!("the cookie file {place} is empty")),
            (b"", format!("the cookie file {place} is empty")),
            (
                b"a\nb",
                format!("the cookie in {place} is not one to 255 printable ASCII characters"),
            ),
            (
                b"\xff",
                format!("the cookie in {place} is not one to 255 printable ASCII characters"),
            ),
            (
                &[b'a'; 256],
                format!("the cookie in {place} is not one to 255 printable ASCII characters"),
            ),
        ] {
            assert_eq!(refused(content), message);
        }
        fs::remove_file(&file).unwrap();
        let error = with(release.path(), &words, &environment).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read the cookie file {place}"));
        assert!(error.source().unwrap().to_string().contains("No such file"));

        // An empty file in a place that was only looked at is no reason to try the next one either.
        fs::write(release.path().join("releases/COOKIE"), "").unwrap();
        let error = with(release.path(), "--node a@h", &environment).unwrap_err();
        assert!(error.to_string().ends_with("releases/COOKIE is empty"), "{error}");

        fs::remove_file(release.path().join("releases/COOKIE")).unwrap();
        let error = with(release.path(), "--node a@h", &environment)
            .unwrap_err()
            .to_string();
        for tried in [
            "--cookie-file",
            "RELEASE_COOKIE",
            "releases/COOKIE",
            ".erlang.cookie",
        ] {
            assert!(error.contains(tried), "{error}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let environment = Environment {
            release_cookie: Some(Secret("s3cret".into())),
            ..Environment::default()
        };
        let options = with(release().path(), "--node a@h", &environment).unwrap();
        assert!(!format!("{options:?} {environment:?}").contains("s3cret"));
    }
}

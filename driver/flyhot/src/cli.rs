//! The command line: its words and their help, and nothing about what they do.
//!
//! Parsing touches no file, no environment and no network, so that `--help` and `--version` answer at once.

pub mod boot;
pub mod config;
pub mod deploy;
pub mod doctor;
pub mod events;
pub mod gc;
pub mod history;
pub mod keygen;
pub mod lock;
pub mod orchestrate;
pub mod pack;
pub mod plan;
pub mod restore_base;
pub mod rollback;
pub mod rollout;
pub mod sign;
pub mod status;
pub mod tell;
pub mod thaw;
pub mod unpack;
pub mod upgrade;
pub mod verify;
pub mod waves;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, Styles, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint, value_parser};

use crate::options::{parse_duration, parse_seconds};

/// Upgrades the code of running Erlang and Elixir nodes without restarting them
///
/// flyhot connects to a running node, compares its code with a release you have built, and takes the node
/// over to it as a transaction: everything that can fail is tried before the swap, the swap is one instant,
/// and a failure after it is undone, or said plainly where it cannot be.
#[derive(Debug, Parser)]
#[command(
    name = "flyhot",
    version,
    styles = Styles::plain(),
    max_term_width = 100,
    arg_required_else_help = true,
    after_long_help = "\
Examples:
  See what an upgrade would do; no code and no state is changed:
    flyhot plan --node shop@10.0.0.1 --release _build/prod/rel/shop

  Upgrade two nodes, one after the other:
    flyhot upgrade --node shop@10.0.0.1 shop@10.0.0.2 --release _build/prod/rel/shop

  What two nodes run, and whether somebody is at work there:
    flyhot status --node shop@10.0.0.1 shop@10.0.0.2

Environment:
  RELEASE_COOKIE      the cookie, unless --cookie-file is given
  ERL_EPMD_PORT       port of epmd, unless --epmd-port is given
  AWS_BUCKET          the bucket, unless --bucket or --store is given; BUCKET_NAME is the next place
  FLY_APP_NAME        the app, unless --app or fly.toml says it; on a machine of Fly.io a fly.toml counts if --config names it
  FLY_ACCESS_TOKEN    the token of Fly.io; FLY_API_TOKEN is the next place, then `fly auth token`
  FLY_FLAPS_BASE_URL  where the Machines API of Fly.io is
  FLYHOT_CHECK_URL    the URL of --check-url, unless that is given; others on the machine can read arguments
  FLYHOT_ORCHESTRATE  where orchestrate keeps its events, and events and tell find them
  FLYHOT_MIX          what the mix tasks of fly_deploy hand over
  FLY_IMAGE_REF       the image of this machine for boot, unless --base is given
  FLYHOT_PUBLIC_KEYS  public keys: artifacts are taken only where one of them signed them; the file
                      /etc/flyhot/public_keys takes its place
  NO_COLOR            no colours on a terminal either
  FLYHOT_LOG          wire diagnostics on standard error, for example flyhot_node=debug

Exit codes:
  0    upgraded, nothing to do, planned or done; warnings leave it 0
  1    a bug in flyhot
  2    wrong options, configuration or a broken input file
  10   a cold deploy is needed; running code and states are as before
  11   reverted: everything runs the old code
  12   mixed: some nodes run the new code and some the old
  13   a process may still be suspended, or a listener still be paused
  14   the node could not be brought to rest; running code and states are as before, try again
  15   degraded: upgraded, but processes had to be ended, an after hook or the gate failed
  20   somebody else is working on the node, or holds the lock
  21   the image was not built
  22   the artifact store failed
  23   the Machines API of Fly.io failed, or what became of a deploy is not known
  24   the node cannot be reached, or it refused the cookie
  25   the artifact is not signed by a key that this machine trusts
  130  interrupted"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Upgrade running nodes to a release
    Upgrade(upgrade::UpgradeArgs),
    /// Show what an upgrade would do; changes nothing on a node
    Plan(plan::PlanArgs),
    /// Show what nodes run, at once; changes nothing and loads nothing there
    Status(status::StatusArgs),
    /// Show processes that a tool left suspended, and resume them with --apply
    Thaw(thaw::ThawArgs),
    /// Check whether nodes can be reached and upgraded, and say how to mend what cannot
    Doctor(doctor::DoctorArgs),
    /// Have the next start of nodes load what was there before any upgrade
    RestoreBase(restore_base::RestoreBaseArgs),
    /// Pack a release into an artifact
    Pack(pack::PackArgs),
    /// Check every byte of an artifact, and its signature
    Verify(verify::VerifyArgs),
    /// Check an artifact and unpack it, whole or not at all
    Unpack(unpack::UnpackArgs),
    /// Make a pair of keys to sign artifacts with
    Keygen(keygen::KeygenArgs),
    /// Sign an artifact
    Sign(sign::SignArgs),
    /// Upgrade nodes in waves, all of them or none, and have a store say what they run
    Rollout(rollout::RolloutArgs),
    /// Take nodes back to what a store says that they ran before
    Rollback(rollback::RollbackArgs),
    /// Build an image and upgrade every machine of an app on Fly.io to it
    Deploy(deploy::DeployArgs),
    /// Roll out the release in this machine's image, for somebody who is elsewhere
    Orchestrate(orchestrate::OrchestrateArgs),
    /// Show what an orchestrator on this machine said
    Events(events::EventsArgs),
    /// Tell an orchestrator on this machine what comes on standard input
    Tell(tell::TellArgs),
    /// Show or let go the lock of an app in a store
    Lock(lock::LockArgs),
    /// Show what a fleet should run, and what it ran before
    History(history::HistoryArgs),
    /// Remove artifacts from a store that its history does not name
    Gc(gc::GcArgs),
    /// Show what arguments, configuration and environment say, and who said it
    Config(config::ConfigArgs),
    /// Start a release with the code that its fleet should run
    Boot(boot::BootArgs),
}

impl Verb {
    /// How it speaks.
    pub fn output(&self) -> Output {
        match self {
            Self::Upgrade(args) => &args.shared.reach.form,
            Self::Plan(args) => &args.reach.form,
            Self::Status(args) => &args.reach.form,
            Self::Thaw(args) => &args.reach.form,
            Self::Doctor(args) => &args.reach.form,
            Self::RestoreBase(args) => &args.reach.form,
            Self::Pack(args) => &args.form,
            Self::Verify(args) => &args.file.form,
            Self::Unpack(args) => &args.file.form,
            Self::Keygen(args) => &args.form,
            Self::Sign(args) => &args.form,
            Self::Rollout(args) => &args.shared.reach.form,
            Self::Rollback(args) => &args.reach.form,
            Self::Deploy(args) => &args.form,
            Self::Orchestrate(args) => &args.reach.form,
            Self::Events(args) => &args.form,
            Self::Tell(args) => &args.form,
            Self::Lock(args) => args.form(),
            Self::Gc(args) => &args.form,
            Self::History(args) => &args.form,
            Self::Config(args) => &args.form,
            Self::Boot(args) => &args.form,
        }
        .output
    }

    /// Which nodes it asks, and what says of which app they are; `None`: it asks none.
    pub(crate) fn asks(&mut self) -> Option<(&mut ReachArgs, HomeArgs)> {
        Some(match self {
            Self::Upgrade(args) => (&mut args.shared.reach, args.app.home()),
            Self::Plan(args) => (&mut args.reach, args.app.home()),
            Self::Status(args) => (&mut args.reach, args.app.home()),
            Self::Thaw(args) => (&mut args.reach, args.app.home()),
            Self::Doctor(args) => (&mut args.reach, args.home.clone()),
            Self::RestoreBase(args) => (&mut args.reach, args.app.home()),
            Self::Rollout(args) => (&mut args.shared.reach, args.out.fleet.home.clone()),
            Self::Rollback(args) => (&mut args.reach, args.fleet.home.clone()),
            Self::Orchestrate(args) => (&mut args.reach, args.out.fleet.home.clone()),
            Self::Pack(_)
            | Self::Verify(_)
            | Self::Unpack(_)
            | Self::Keygen(_)
            | Self::Sign(_)
            | Self::Deploy(_)
            | Self::Events(_)
            | Self::Tell(_)
            | Self::Lock(_)
            | Self::History(_)
            | Self::Gc(_)
            | Self::Config(_)
            | Self::Boot(_) => return None,
        })
    }

    /// Where a page is to be written about it.
    pub fn report(&self) -> Option<&Path> {
        let page = match self {
            Self::Upgrade(args) => &args.page,
            Self::Rollout(args) => &args.page,
            Self::Rollback(args) => &args.page,
            Self::Deploy(args) => &args.page,
            _ => return None,
        };
        page.report.as_deref()
    }
}

/// How a command speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text and tables; colours and bars on a terminal
    #[default]
    Human,
    /// One event a line, the last one the outcome
    Json,
}

/// What every command is told.
#[derive(Debug, Clone, Copy, Args)]
pub struct FormArgs {
    /// How to speak
    #[arg(long, value_enum, default_value_t, value_name = "FORM", help_heading = "What")]
    pub output: Output,
}

/// What every command is told that upgrades nodes.
#[derive(Debug, Clone, Args)]
pub struct PageArgs {
    /// Write a page of HTML there, however it ends: what became of each node, why, and when
    ///
    /// Whether that can be written is looked at first; the file is there once all is over, in place of one that was.
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub report: Option<PathBuf>,
}

/// What every command is told that has to do with a store.
#[derive(Debug, Clone, Default, Args)]
pub struct HomeArgs {
    /// Whose releases: the name of the release, or of the app on Fly.io [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]
    #[arg(long, value_name = "NAME", help_heading = "Store")]
    pub app: Option<String>,

    /// A directory that is the store
    #[arg(long, value_name = "DIR", conflicts_with_all = ["bucket", "endpoint", "region"], help_heading = "Store")]
    pub store: Option<PathBuf>,

    /// A bucket that is the store [default: `bucket` of `config :fly_deploy`; else AWS_BUCKET, else BUCKET_NAME in [env] of
    /// fly.toml; else the variables AWS_BUCKET, else BUCKET_NAME]
    ///
    /// Credentials are those of `config :fly_deploy`, else those that AWS's own tools would find.
    #[arg(long, value_name = "NAME", help_heading = "Store")]
    pub bucket: Option<String>,

    /// Where the bucket is reached
    #[arg(
        long,
        value_name = "URL",
        help_heading = "Store",
        help = "Where the bucket is reached [default: `aws_endpoint_url_s3` of `config :fly_deploy`, else AWS_ENDPOINT_URL_S3 in \
                [env] of fly.toml, else that variable, else https://t3.storage.dev]"
    )]
    pub endpoint: Option<String>,

    /// The region of the bucket [default: `aws_region` of `config :fly_deploy`, else AWS_REGION in [env] of fly.toml, else that
    /// variable, else auto]
    #[arg(long, value_name = "NAME", help_heading = "Store")]
    pub region: Option<String>,

    /// The app's configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else
    /// the first there is of fly.toml, fly.json and fly.yaml]
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    pub config: Option<PathBuf>,
}

/// Where nodes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inventory {
    /// The machines of an app on Fly.io.
    Fly,
    /// A file of names.
    File(PathBuf),
}

impl From<OsString> for Inventory {
    fn from(text: OsString) -> Self {
        if text == "fly" {
            Self::Fly
        } else {
            Self::File(text.into())
        }
    }
}

/// Whose machines are asked for, of a command that needs no store.
#[derive(Debug, Clone, Default, Args)]
pub struct AppArgs {
    /// The app on Fly.io whose machines are asked for [default: `app` in fly.toml, else FLY_APP_NAME; on a machine of Fly.io the other way around]
    #[arg(long, value_name = "NAME", conflicts_with = "node", help_heading = "What")]
    pub app: Option<String>,

    /// The app's configuration on Fly.io, or the directory that it lies in [default: `fly_config` of `config :fly_deploy`, else
    /// the first there is of fly.toml, fly.json and fly.yaml]
    #[arg(long, value_name = "FILE", conflicts_with = "node", help_heading = "What")]
    pub config: Option<PathBuf>,
}

impl AppArgs {
    /// As a command is told that needs one.
    pub(crate) fn home(&self) -> HomeArgs {
        HomeArgs {
            app: self.app.clone(),
            config: self.config.clone(),
            ..HomeArgs::default()
        }
    }
}

/// What every command is told that takes an artifact in.
#[derive(Debug, Clone, Args)]
pub struct ArtifactArgs {
    /// The artifact
    pub artifact: PathBuf,

    /// Its signature [default: the file beside it with `.sig` behind its name, where there is one]
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub signature: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// What every command is told that asks nodes: which nodes, how to reach them, how to speak.
#[derive(Debug, Clone, Args)]
pub struct ReachArgs {
    /// Nodes, by the names that they print for `node()`; an upgrade takes them one after the other, and stops at the first
    /// that is not upgraded; a rollout in waves [default: those of --inventory]
    #[arg(long, num_args = 1.., value_name = "NAME", help_heading = "What")]
    pub node: Vec<String>,

    /// Instead of naming nodes: a file with the name of one on each line; or `fly`, those of every machine of an app on Fly.io that is
    /// started and runs a node [default: fly, where an app is known by --app, fly.toml, FLY_APP_NAME or `otp_app` of `config :fly_deploy`]
    ///
    /// In a file `#` begins a comment. The machines come from the Machines API, with the token in FLY_ACCESS_TOKEN, else in FLY_API_TOKEN, else the one that
    /// `fly auth token` gives. The name of a node comes from epmd on the machine's private address, which must be reached from here.
    #[arg(long, value_name = "fly|FILE", value_parser = OsStringValueParser::new().map(Inventory::from), value_hint = ValueHint::FilePath, conflicts_with_all = ["node", "dist_port"], help_heading = "What")]
    pub inventory: Option<Inventory>,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    /// File that holds the cookie of the nodes
    ///
    /// Without it: the variable RELEASE_COOKIE, then releases/COOKIE of the release that is named, then ~/.erlang.cookie. Where
    /// nodes are asked for: RELEASE_COOKIE, then that of each machine itself, else releases/COOKIE of its release, by exec.
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub cookie_file: Option<PathBuf>,

    /// Port the nodes listen on for distribution; epmd is not asked then
    #[arg(long, requires = "node", value_name = "PORT", value_parser = value_parser!(u16).range(1..), help_heading = "Connection")]
    pub dist_port: Option<u16>,

    /// Port of epmd on the host of each node [default: ERL_EPMD_PORT, else 4369]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..), help_heading = "Connection")]
    pub epmd_port: Option<u16>,

    /// The nodes speak TLS distribution (`-proto_dist inet_tls`): both sides show a certificate and look at the other's
    #[arg(long, requires_all = ["tls_ca_file", "tls_cert_file", "tls_key_file"], help_heading = "Connection")]
    pub dist_tls: bool,

    /// Certificates of the CAs that may have signed a node's certificate, PEM; with --dist-tls
    #[arg(long, value_name = "FILE", requires = "dist_tls", help_heading = "Connection")]
    pub tls_ca_file: Option<PathBuf>,

    /// The certificate to show, with those between it and the CA that the nodes know, PEM; with --dist-tls
    #[arg(long, value_name = "FILE", requires = "dist_tls", help_heading = "Connection")]
    pub tls_cert_file: Option<PathBuf>,

    /// The key of that certificate, PEM, not encrypted; with --dist-tls
    #[arg(long, value_name = "FILE", requires = "dist_tls", help_heading = "Connection")]
    pub tls_key_file: Option<PathBuf>,
}

/// What `upgrade`, `plan` and `rollout` are all told; a plan takes every option, so that it foretells that very upgrade.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    /// Release to upgrade to: a directory made by `mix release` or relx
    #[arg(long, value_name = "DIR", help_heading = "What")]
    pub release: PathBuf,

    /// The release is older than what runs: its code_change is told {down, Vsn} (that of the release, after the swap;
    /// OTP's release_handler asks the newer code, before it)
    #[arg(long, help_heading = "What")]
    pub down: bool,

    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// How a node is taken over, and how long its processes are waited for.
#[derive(Debug, Clone, Args)]
pub struct HowArgs {
    #[command(flatten)]
    pub(crate) work: WorkArgs,

    /// Longest wait, before any freeze, for processes that do not read their mailbox [default: `suspend_timeout` of
    /// `config :fly_deploy` where a mix task says it, else 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Window")]
    pub quiesce_timeout: Option<Duration>,
}

/// How a node is taken over.
#[derive(Debug, Clone, Args)]
pub struct WorkArgs {
    /// Longest time from the first suspend to the swap; below 5s, the time a gen_server call waits by default
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration, help_heading = "Window")]
    pub window_budget: Duration,

    /// Longest time for bringing the old code back after a failure; a plan warns when it would need longer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration, help_heading = "Window")]
    pub revert_budget: Duration,

    /// How many times a freeze is tried before giving up with exit code 14
    #[arg(long, value_name = "COUNT", default_value = "3", value_parser = value_parser!(u32).range(1..=100), help_heading = "Window")]
    pub freeze_attempts: u32,

    /// Messages sent to processes and not answered yet, at any time; more is not faster
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = value_parser!(u32).range(1..=1_000_000), help_heading = "Window")]
    pub in_flight: u32,

    /// Longest wait for processes that still run the version before the running one
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, help_heading = "Old code")]
    pub drain_timeout: Duration,

    /// End the processes that are left when --drain-timeout is over, instead of refusing
    #[arg(long, help_heading = "Old code")]
    pub kill_lingerers: bool,

    /// File that says whose callbacks processes run, which reasons are accepted, what is called before and after, and
    /// when the node is well: docs/policy.md. Without it none is looked for
    #[arg(long, value_name = "FILE", help_heading = "Risk")]
    pub policy: Option<PathBuf>,

    /// Refuse unless old code and old states could come back at once
    #[arg(long, help_heading = "Risk")]
    pub require_way_back: bool,

    /// Pause the listeners of ranch and ThousandIsland right before the knock, wait until no request runs in a changed
    /// module (at most --drain-timeout), and resume them after the window, however it ended
    ///
    /// New connections are refused meanwhile, not queued: both close their listening sockets. Connections that are open
    /// stay, and may bring requests. A listener that was given port 0 listens on another port afterwards.
    #[arg(long, help_heading = "Risk")]
    pub drain_entry: bool,

    /// Go on in spite of this reason; repeatable. `flyhot plan` shows the codes
    #[arg(long, value_name = "CODE", help_heading = "Risk")]
    pub accept: Vec<String>,

    /// Do not try the new code_change on live states before the swap
    #[arg(long, help_heading = "Risk")]
    pub no_rehearsal: bool,

    /// Do not write the new code to the disk of the node: a restart boots the old code, and the next upgrade of these
    /// modules has no way back
    #[arg(long, help_heading = "Risk")]
    pub no_persist: bool,
}

impl WorkArgs {
    /// The policy's file, as it is said.
    pub fn policy_path(&self) -> Option<String> {
        self.policy.as_ref().map(|path| path.display().to_string())
    }
}

/// What a command is told that changes what a fleet runs.
#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,

    #[command(flatten)]
    pub(crate) lock: LockTermsArgs,
}

/// How to go about the lock of an app.
#[derive(Debug, Clone, Args)]
pub struct LockTermsArgs {
    /// How long the lock outlives this command where that is killed; it is renewed all along
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = parse_seconds, help_heading = "Lock")]
    pub lock_timeout: Duration,

    /// How long to wait for somebody else who holds the lock
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration, help_heading = "Lock")]
    pub lock_wait: Duration,

    /// Take the lock even if somebody holds it: who that is is said, and stops before the next step
    #[arg(long, help_heading = "Lock")]
    pub force: bool,
}

/// The form that the arguments ask for, also when they cannot be parsed: whoever reads JSON reads the refusal
/// as JSON too.
pub fn output_of(args: &[OsString]) -> Output {
    let mut json = false;
    for (at, arg) in args.iter().enumerate() {
        let value = match arg.to_str() {
            Some("--output") => args.get(at + 1).and_then(|value| value.to_str()),
            Some(arg) => arg.strip_prefix("--output="),
            None => None,
        };
        if let Some(value) = value {
            json = value == "json";
        }
    }
    if json { Output::Json } else { Output::Human }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_form_is_seen_in_arguments_that_do_not_parse() {
        let form = |words: &str| output_of(&words.split(' ').map(OsString::from).collect::<Vec<_>>());
        for words in [
            "flyhot x --output json",
            "flyhot --output=json --bad",
            "flyhot --output human --output json",
        ] {
            assert_eq!(form(words), Output::Json, "{words}");
        }
        for words in [
            "flyhot",
            "flyhot --output",
            "flyhot --output xml",
            "flyhot json",
            "flyhot --output=human",
        ] {
            assert_eq!(form(words), Output::Human, "{words}");
        }
    }
}

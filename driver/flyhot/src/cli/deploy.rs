//! `flyhot deploy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use flyhot_events::ExitCode;

use super::waves::{MemoryArgs, WaveArgs};
use super::{FormArgs, HomeArgs, LockTermsArgs, PageArgs, WorkArgs};
use crate::deploy;
use crate::options::{Environment, parse_milliseconds};
use crate::report::Reporter;

/// How machines come to run an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Their running code is upgraded
    #[default]
    Hot,
    /// Others take their place: not there yet
    #[value(name = "blue_green")]
    BlueGreen,
}

/// What `flyhot deploy` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The image is built by flyctl, then a machine of it is made, which runs `flyhot orchestrate`: it upgrades every machine of the app, all of \
them or none. It is followed until its end, and goes on by itself when it cannot be. The first ^C has it begin nothing more and let a \
window that runs come to its end; a second one leaves it alone.

Fly.io is asked with the token in FLY_ACCESS_TOKEN, else FLY_API_TOKEN, else that of `fly auth token`.

Examples:
  Where fly.toml and the Dockerfile are:
    flyhot deploy

  What would be done; nothing is built, made or locked:
    flyhot deploy --dry-run

  An image that is there, one machine alone for five minutes, then five at a time:
    flyhot deploy --skip-build --image registry.fly.io/shop:deployment-01J --canary --bake 5m --max-concurrency 5

The policy file of --policy is one of the image, by its path there.

TIME is a whole number and a unit: 500ms, 2s, 1m or 1h. A number alone is milliseconds for --timeout and --suspend-timeout, seconds \
for --lock-timeout.

Exit codes: those of rollout; 21 the build failed; 23 the Machines API failed, or what became of the rollout is not known; 2 also where \
the image has no flyhot.")]
pub struct DeployArgs {
    /// Build nothing; with --image
    #[arg(long, requires = "image", help_heading = "Image")]
    pub skip_build: bool,

    /// An image that is there already: nothing is built [default: `[build] image` of fly.toml]
    #[arg(long, value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new(), help_heading = "Image")]
    pub image: Option<String>,

    /// A variable of the build; repeatable
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Image")]
    pub build_arg: Vec<String>,

    /// Use nothing that earlier builds left
    #[arg(long, help_heading = "Image")]
    pub no_cache: bool,

    /// Have BuildKit build
    #[arg(long, help_heading = "Image")]
    pub buildkit: bool,

    /// Say what would be done, and do nothing
    #[arg(long, help_heading = "What")]
    pub dry_run: bool,

    /// How machines come to run the image
    #[arg(long, value_enum, default_value_t, value_name = "MODE", help_heading = "What")]
    pub mode: Mode,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    #[command(flatten)]
    pub(crate) page: PageArgs,

    /// Longest wait for processes that do not read their mailbox, before any freeze [default: `suspend_timeout` of
    /// `config :fly_deploy`, else 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_milliseconds, help_heading = "Window")]
    pub suspend_timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) work: WorkArgs,

    #[command(flatten)]
    pub(crate) waves: WaveArgs,

    #[command(flatten)]
    pub(crate) memory: MemoryArgs,

    /// Leave upgraded machines on the new code when one fails or is not well, instead of taking all of them back
    #[arg(long, help_heading = "Waves")]
    pub no_rollback: bool,

    /// Sign what is put into the store with the private key in this file, which stays here
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    pub key_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) home: HomeArgs,

    #[command(flatten)]
    pub(crate) lock: LockTermsArgs,
}

impl DeployArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        deploy::command(self, environment, reporter)
    }
}

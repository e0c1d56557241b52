//! `flyhot boot`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use flyhot_events::ExitCode;

use super::{FormArgs, HomeArgs};
use crate::boot;
use crate::options::{Environment, parse_duration};
use crate::report::Reporter;

/// What to do where an artifact cannot be had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OnUnreachable {
    /// Wait for the store as long as --wait says, then boot the base
    #[default]
    Wait,
    /// Ask the store for 5 s at the most, then boot the base
    BootBase,
    /// Wait as long, then end: also where an artifact is damaged or not trusted
    Fail,
}

/// What `flyhot boot` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
TIME is a whole number and a unit: 500ms, 2s, 1m or 1h.

Examples:
  In a Dockerfile:
    CMD [\"flyhot\", \"boot\", \"--\", \"/app/bin/shop\", \"start\"]

  With artifacts in a directory:
    flyhot boot --store /srv/artifacts --app shop -- /srv/shop/bin/shop start

What was committed last is fetched, checked and put below the release's directory, and CMD takes this program's place. Where \
nothing was deployed, or for another image, CMD starts what the image brings. Everything flyhot says goes to standard error.

Where nothing else names a bucket, the release is asked for it: `config :fly_deploy` of an Elixir release, by `bin/NAME eval`.

Exit codes, where CMD was not started: 2 CMD or the release is not there; 130 interrupted; with --on-unreachable fail also 22 the \
store failed, 25 the artifact is not signed by a key that this machine trusts, 2 it is damaged or cannot be written.")]
pub struct BootArgs {
    /// The release's directory [default: that in whose bin CMD lies]
    #[arg(long, value_name = "DIR", help_heading = "What")]
    pub release: Option<PathBuf>,

    /// The image of this machine; artifacts for others are not booted [default: FLY_IMAGE_REF]
    #[arg(long, value_name = "IMAGE", help_heading = "What")]
    pub base: Option<String>,

    /// What to do where the artifact cannot be had
    #[arg(long, value_enum, default_value_t, value_name = "WHAT", help_heading = "What")]
    pub on_unreachable: OnUnreachable,

    /// Longest wait for a store that does not answer, or sends nothing more
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, help_heading = "What")]
    pub wait: Duration,

    /// Where artifacts are kept [default: flyhot/artifacts in the release's directory]
    #[arg(long, value_name = "DIR", help_heading = "What")]
    pub cache: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) home: HomeArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    /// The command that starts the release
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

impl BootArgs {
    /// Performs it; where that goes well nothing comes back.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        boot::command(self, environment, reporter)
    }
}

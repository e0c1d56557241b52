//! `flyhot plan`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use flyhot_events::ExitCode;

use super::{AppArgs, HowArgs, NodeArgs, ReachArgs};
use crate::ledger::Command;
use crate::options::Environment;
use crate::report::Reporter;
use crate::run;

/// What `flyhot plan` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
TIME is a whole number and a unit: 500ms, 2s, 1m or 1h.

Examples:
  What would happen, and whether it would be done:
    flyhot plan --node shop@10.0.0.1 --release _build/prod/rel/shop

  Of an image, for the machines of an app on Fly.io, from anywhere:
    flyhot plan --image registry.fly.io/shop:deployment-01J

  As JSON, the verdict alone:
    flyhot plan --node shop@10.0.0.1 --release _build/prod/rel/shop --output json \\
      | jq -r 'select(.event == \"plan\") | .verdict'

Exit codes: 0 hot (also with warnings), 10 cold.")]
pub struct PlanArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    /// Release to upgrade to: a directory made by `mix release` or relx
    #[arg(
        long,
        required_unless_present = "image",
        value_name = "DIR",
        help_heading = "What"
    )]
    pub release: Option<PathBuf>,

    /// Instead of a release that is here, that of an image: a machine of it is made for the time of the plan
    #[arg(
        long,
        value_name = "IMAGE",
        value_parser = NonEmptyStringValueParser::new(),
        conflicts_with_all = ["release", "node"],
        help_heading = "What"
    )]
    pub image: Option<String>,

    /// The release is older than what runs: its code_change is told {down, Vsn} (that of the release, after the swap;
    /// OTP's release_handler asks the newer code, before it)
    #[arg(long, help_heading = "What")]
    pub down: bool,

    #[command(flatten)]
    pub(crate) how: HowArgs,

    #[command(flatten)]
    pub(crate) app: AppArgs,
}

impl PlanArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        run::command(
            Command::Plan,
            &self.nodes(),
            &self.app.home(),
            environment,
            reporter,
        )
    }

    /// As an upgrade is told.
    pub(crate) fn nodes(&self) -> NodeArgs {
        NodeArgs {
            reach: self.reach.clone(),
            // That of an image is planned where the image is, whose release is named by then.
            release: self.release.clone().unwrap_or_default(),
            down: self.down,
            how: self.how.clone(),
        }
    }
}

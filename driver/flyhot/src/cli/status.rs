//! `flyhot status`.

use clap::Args;
use flyhot_events::ExitCode;

use super::{AppArgs, ReachArgs};
use crate::options::Environment;
use crate::report::Reporter;
use crate::status;

/// What `flyhot status` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  What two nodes run:
    flyhot status --node shop@10.0.0.1 shop@10.0.0.2

  Whether a node runs code that is on no disk:
    flyhot status --node shop@10.0.0.1 --output json \\
      | jq 'select(.event == \"status\") | .status.drift'

Exit codes: 0 all nodes answered, 24 one did not.")]
pub struct StatusArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) app: AppArgs,
}

impl StatusArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        status::command(&self.reach, &self.app.home(), environment, reporter)
    }
}

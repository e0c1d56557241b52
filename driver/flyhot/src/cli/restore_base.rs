//! `flyhot restore-base`.

use clap::Args;
use flyhot_events::ExitCode;

use super::{AppArgs, ReachArgs};
use crate::options::Environment;
use crate::report::Reporter;
use crate::restore_base;

/// What `flyhot restore-base` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  Have the next start of a node load what was there before any upgrade:
    flyhot restore-base --node shop@10.0.0.1

What runs goes on as it is: nothing is swapped and nobody is suspended.

Exit codes: 0 done, or there was nothing to restore; 20 somebody is at work on the node; 2 its disk takes nothing.")]
pub struct RestoreBaseArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) app: AppArgs,
}

impl RestoreBaseArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        restore_base::command(&self.reach, &self.app.home(), environment, reporter)
    }
}

//! `flyhot thaw`.

use clap::Args;
use flyhot_events::ExitCode;

use super::{AppArgs, ReachArgs};
use crate::options::Environment;
use crate::report::Reporter;
use crate::thaw;

/// What `flyhot thaw` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Who is suspended:
    flyhot thaw --node shop@10.0.0.1

  Resume them:
    flyhot thaw --node shop@10.0.0.1 --apply

Exit codes: 0 shown, or nobody is suspended any more; 13 somebody still is; 20 somebody is at work on the node.")]
pub struct ThawArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) app: AppArgs,

    /// Resume them. Without it they are shown, and nothing is touched
    #[arg(long, help_heading = "What")]
    pub apply: bool,
}

impl ThawArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        thaw::command(&self.reach, &self.app.home(), self.apply, environment, reporter)
    }
}

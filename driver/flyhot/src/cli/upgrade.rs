//! `flyhot upgrade`.

use clap::Args;
use flyhot_events::ExitCode;

use super::{AppArgs, NodeArgs, PageArgs};
use crate::ledger::Command;
use crate::options::Environment;
use crate::report::Reporter;
use crate::run;

/// What `flyhot upgrade` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
TIME is a whole number and a unit: 500ms, 2s, 1m or 1h.

Examples:
  One node, by the name it has in `node()`:
    flyhot upgrade --node shop@10.0.0.1 --release _build/prod/rel/shop

  Two nodes; the second is begun when the first is upgraded:
    flyhot upgrade --node shop@10.0.0.1 shop@10.0.0.2 --release _build/prod/rel/shop

  Only if a failure could be undone exactly, as JSON for a script:
    flyhot upgrade --node shop@10.0.0.1 --release _build/prod/rel/shop \\
      --require-way-back --output json

  Back to the release before:
    flyhot upgrade --node shop@10.0.0.1 --release /srv/releases/shop-1.4.1 --down")]
pub struct UpgradeArgs {
    #[command(flatten)]
    pub(crate) shared: NodeArgs,

    #[command(flatten)]
    pub(crate) page: PageArgs,

    #[command(flatten)]
    pub(crate) app: AppArgs,

    /// Stop after the plan, as `flyhot plan` does
    #[arg(long, help_heading = "What")]
    pub dry_run: bool,
}

impl UpgradeArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        let command = if self.dry_run {
            Command::Plan
        } else {
            Command::Upgrade
        };
        run::command(command, &self.shared, &self.app.home(), environment, reporter)
    }
}

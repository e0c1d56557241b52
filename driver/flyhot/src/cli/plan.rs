//! `flyhot plan`.

use clap::Args;
use flyhot_events::ExitCode;

use super::{AppArgs, NodeArgs};
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

  The same as JSON, the verdict alone:
    flyhot plan --node shop@10.0.0.1 --release _build/prod/rel/shop --output json \\
      | jq -r 'select(.event == \"plan\") | .verdict'

Exit codes: 0 hot (also with warnings), 10 cold.")]
pub struct PlanArgs {
    #[command(flatten)]
    pub(crate) shared: NodeArgs,

    #[command(flatten)]
    pub(crate) app: AppArgs,
}

impl PlanArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        run::command(
            Command::Plan,
            &self.shared,
            &self.app.home(),
            environment,
            reporter,
        )
    }
}

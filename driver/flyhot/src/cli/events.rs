//! `flyhot events`.

use clap::Args;
use flyhot_events::ExitCode;

use super::FormArgs;
use crate::options::Environment;
use crate::orchestrate;
use crate::report::Reporter;

/// What `flyhot events` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
It says what there is, and ends at once; whoever asks again counts the events that came. Where there are many it says some: the next \
call says more. With nothing new it says nothing.

Example:
  On the machine of an orchestrator, all from the first on:
    flyhot events --output json

Exit codes: 0 said, whatever became of that rollout; 2 no orchestrator was here.")]
pub struct EventsArgs {
    /// How many events are known already
    #[arg(long, value_name = "COUNT", default_value_t, help_heading = "What")]
    pub since: u64,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

impl EventsArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        orchestrate::events(self, environment, reporter)
    }
}

//! `flyhot tell`.

use clap::Args;
use flyhot_events::ExitCode;

use super::FormArgs;
use crate::options::Environment;
use crate::orchestrate;
use crate::report::Reporter;

/// What `flyhot tell` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
One JSON object on standard input:
  {\"token\": \"FlyV1 fm2_...\"}  a token of Fly
  {\"signature\": {...}}        what `flyhot sign` makes
  {\"stop\": true}              what a first ^C is: nothing more is begun, a window that runs comes to its end

Nothing of it is ever shown.

Exit codes: 0 left for the orchestrator; 2 it is none of these, or no orchestrator is here.")]
pub struct TellArgs {
    #[command(flatten)]
    pub(crate) form: FormArgs,
}

impl TellArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        orchestrate::tell(environment, reporter)
    }
}

//! `flyhot orchestrate`.

use std::path::PathBuf;

use clap::Args;
use flyhot_events::ExitCode;

use super::rollout::OutArgs;
use super::{HowArgs, ReachArgs};
use crate::options::Environment;
use crate::orchestrate;
use crate::report::Reporter;

/// What `flyhot orchestrate` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
What `flyhot rollout` does with the release in this machine's image, for somebody who is elsewhere: every event is kept, \
`flyhot events` shows them from any place on, and `flyhot tell` brings what is needed from there. `flyhot deploy` starts it on a machine \
of its own; it comes to its end whether or not anybody follows. Behind `--` it is another verb that is done so.

Examples:
  On a machine of the new image:
    flyhot orchestrate --node shop@10.0.0.1 shop@10.0.0.2 --bucket shop-releases

  Back, on a machine of any image:
    flyhot orchestrate -- rollback

Environment:
  FLYHOT_ORCHESTRATE  where events are kept, and what is told [default: /tmp/flyhot-orchestrate]
  RELEASE_ROOT        the release, unless --release is given; else the working directory, else /app

Exit codes: those of rollout, or of that verb; 20 also where another orchestrator is at work on this machine.")]
pub struct OrchestrateArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    /// The flyhot that asks for this: another version than this one is refused before anything is done
    #[arg(long, value_name = "VERSION", help_heading = "What")]
    pub asked_by: Option<String>,

    /// Instead of a rollout: rollback, plan (of this machine's release), status, doctor, history, gc or lock, with its own options
    #[arg(last = true, value_name = "VERB")]
    pub verb: Vec<String>,

    /// Release to roll out [default: RELEASE_ROOT, else the working directory, else /app]
    #[arg(long, value_name = "DIR", help_heading = "What")]
    pub release: Option<PathBuf>,

    /// Wait for the signature of what goes into the store, which `flyhot tell` brings
    #[arg(long, help_heading = "What")]
    pub await_signature: bool,

    #[command(flatten)]
    pub(crate) how: HowArgs,

    #[command(flatten)]
    pub(crate) out: OutArgs,
}

impl OrchestrateArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        orchestrate::command(self, environment, reporter)
    }
}

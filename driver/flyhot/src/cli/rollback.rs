//! `flyhot rollback`.

use clap::Args;
use flyhot_events::ExitCode;

use super::waves::{MemoryArgs, WaveArgs};
use super::{FleetArgs, HowArgs, PageArgs, ReachArgs};
use crate::options::Environment;
use crate::report::Reporter;
use crate::roll;

/// What `flyhot rollback` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The artifact comes from the store, and is taken only if this machine trusts it. Nodes are taken over in waves, each as
`flyhot upgrade --down` does: code_change is told {down, Vsn}. A node that fails ends that; nobody goes forth again because of it:
the same command goes on.

Examples:
  To what ran before:
    flyhot rollback --node shop@10.0.0.1 shop@10.0.0.2 --app shop --store /srv/artifacts

  From a laptop that has neither the network of the machines nor the keys of the bucket, but a token of Fly.io:
    flyhot rollback

  To a version of the history, or to a code id that begins so:
    flyhot rollback --node shop@10.0.0.1 --app shop --store /srv/artifacts --to 1.4.1")]
pub struct RollbackArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) page: PageArgs,

    /// The latest of the history with this version or code id; a code id may be cut short [default: the latest other code]
    #[arg(long, value_name = "CODE_ID|VERSION", help_heading = "What")]
    pub to: Option<String>,

    #[command(flatten)]
    pub(crate) how: HowArgs,

    #[command(flatten)]
    pub(crate) waves: WaveArgs,

    #[command(flatten)]
    pub(crate) memory: MemoryArgs,

    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
}

impl RollbackArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        roll::back(self, environment, reporter)
    }
}

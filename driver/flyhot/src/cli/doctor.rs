//! `flyhot doctor`.

use clap::Args;
use flyhot_events::ExitCode;

use super::{HomeArgs, ReachArgs};
use crate::doctor;
use crate::options::Environment;
use crate::report::Reporter;

/// What `flyhot doctor` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Whether a node can be upgraded from here:
    flyhot doctor --node shop@10.0.0.1

  And whether a store keeps what it promises, by puts to an object of its own there:
    flyhot doctor --node shop@10.0.0.1 --app shop --bucket shop-releases

  Whether an app on Fly.io has what a deploy needs, and each of its nodes:
    flyhot doctor --app shop

Exit codes: 0 the nodes can be upgraded, also where something could be better; 10 one cannot; 24 one cannot be reached; \
2 or 22 the keys of this machine or the store cannot be used.")]
pub struct DoctorArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) home: HomeArgs,
}

impl DoctorArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        doctor::command(&self.reach, &self.home, environment, reporter)
    }
}

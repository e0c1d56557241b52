//! `flyhot history`.

use clap::Args;
use flyhot_events::ExitCode;

use super::{FormArgs, HomeArgs};
use crate::options::Environment;
use crate::report::Reporter;
use crate::stored;

/// What `flyhot history` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
    flyhot history --app shop --store /srv/artifacts

Exit codes: 0 shown; 22 the store failed.")]
pub struct HistoryArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

impl HistoryArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        stored::history(&self.home, environment, reporter)
    }
}

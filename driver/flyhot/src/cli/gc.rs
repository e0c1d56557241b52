//! `flyhot gc`.

use clap::Args;
use flyhot_events::ExitCode;

use super::{FormArgs, HomeArgs, LockTermsArgs};
use crate::options::Environment;
use crate::report::Reporter;
use crate::stored;

/// What `flyhot gc` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Nothing that the pointer or its history names is removed, and nothing while somebody rolls out.

Example:
    flyhot gc --app shop --store /srv/artifacts

Exit codes: 0 done; 20 somebody holds the lock; 22 the store failed.")]
pub struct GcArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    /// Show what would be removed
    #[arg(long, help_heading = "What")]
    pub dry_run: bool,

    #[command(flatten)]
    pub(crate) lock: LockTermsArgs,
}

impl GcArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        stored::gc(self, environment, reporter)
    }
}

//! `flyhot lock status` and `flyhot lock release`.

use clap::{Args, Subcommand};
use flyhot_events::ExitCode;

use super::{FormArgs, HomeArgs};
use crate::options::Environment;
use crate::report::Reporter;
use crate::stored;

/// What `flyhot lock` is told.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: LockVerb,
}

/// What to do with a lock.
#[derive(Debug, Subcommand)]
pub enum LockVerb {
    /// Show who holds it
    ///
    /// Exit codes: 0 shown; 22 the store failed.
    Status(LockStatusArgs),
    /// Let it go, whoever holds it
    ///
    /// Exit codes: 0 nobody holds it any more; 20 somebody holds it whose lease goes on, and --force was not given; 22 the store
    /// failed.
    Release(LockReleaseArgs),
}

/// What `flyhot lock status` is told.
#[derive(Debug, Args)]
pub struct LockStatusArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// What `flyhot lock release` is told.
#[derive(Debug, Args)]
pub struct LockReleaseArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    /// Let it go although its lease goes on: whoever holds it stops before the next step
    #[arg(long, help_heading = "What")]
    pub force: bool,
}

impl LockArgs {
    /// How it speaks.
    pub(crate) fn form(&self) -> &FormArgs {
        match &self.what {
            LockVerb::Status(args) => &args.form,
            LockVerb::Release(args) => &args.form,
        }
    }

    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        match &self.what {
            LockVerb::Status(args) => stored::lock_status(&args.home, environment, reporter),
            LockVerb::Release(args) => stored::lock_release(&args.home, args.force, environment, reporter),
        }
    }
}

//! `flyhot config`.

use clap::Args;
use flyhot_events::ExitCode;

use super::{FormArgs, HomeArgs};
use crate::config;
use crate::options::Environment;
use crate::report::Reporter;

/// What `flyhot config` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Arguments are heard first, then `config :fly_deploy` (where a mix task called flyhot), then fly.toml, then the environment. Secrets
and variables of machines are named, and never shown.

Example:
  Every value, and who said it:
    flyhot config --explain --config fly.staging.toml

Exit codes: 0 shown; 2 a file or `config :fly_deploy` is not what it should be.")]
pub struct ConfigArgs {
    /// Say of each value who said it
    #[arg(long, help_heading = "What")]
    pub explain: bool,

    #[command(flatten)]
    pub(crate) home: HomeArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

impl ConfigArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        config::command(self, environment, reporter)
    }
}

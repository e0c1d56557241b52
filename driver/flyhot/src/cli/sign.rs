//! `flyhot sign`.

use std::path::PathBuf;

use clap::Args;
use flyhot_events::ExitCode;

use super::FormArgs;
use crate::artifacts;
use crate::report::Reporter;

/// What `flyhot sign` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
    flyhot sign shop.tar.gz --key-file shop.key

Every byte of the artifact is checked before it is signed. The signature is written beside it, with `.sig` behind its name.

Exit codes: 0 signed; 2 the artifact is damaged, or the key cannot be used.")]
pub struct SignArgs {
    /// The artifact
    pub artifact: PathBuf,

    /// File that holds the private key, as `flyhot keygen` made it
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub key_file: PathBuf,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

impl SignArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, reporter: &mut Reporter) -> ExitCode {
        artifacts::sign(self, reporter)
    }
}

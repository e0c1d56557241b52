//! `flyhot verify`.

use clap::Args;
use flyhot_events::ExitCode;

use super::ArtifactArgs;
use crate::artifacts;
use crate::options::Environment;
use crate::report::Reporter;

/// What `flyhot verify` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
    flyhot verify shop.tar.gz

Exit codes: 0 every byte is what the manifest says, and the signature is one that this machine trusts, or it asks for \
none; 2 it is damaged, too large or no artifact; 25 it is not signed by a key that this machine trusts.")]
pub struct VerifyArgs {
    #[command(flatten)]
    pub(crate) file: ArtifactArgs,
}

impl VerifyArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        artifacts::verify(&self.file, environment, reporter)
    }
}

//! `flyhot unpack`.

use std::path::PathBuf;

use clap::Args;
use flyhot_events::ExitCode;

use super::ArtifactArgs;
use crate::artifacts;
use crate::options::Environment;
use crate::report::Reporter;

/// What `flyhot unpack` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
    flyhot unpack shop.tar.gz /srv/shop-1.4.2

Nothing is visible before every byte was checked: the directory appears whole, by a rename.

Exit codes: 0 unpacked; 2 it is damaged, too large or no artifact, or the directory cannot be written; 25 it is \
not signed by a key that this machine trusts.")]
pub struct UnpackArgs {
    #[command(flatten)]
    pub(crate) file: ArtifactArgs,

    /// Where to: a directory that is absent or empty
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

impl UnpackArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        artifacts::unpack(self, environment, reporter)
    }
}

//! `flyhot pack`.

use std::path::PathBuf;

use clap::Args;
use flyhot_events::ExitCode;

use super::FormArgs;
use crate::artifacts;
use crate::report::Reporter;

/// What `flyhot pack` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  What a running node needs of a release:
    flyhot pack --release _build/prod/rel/shop --out shop.tar.gz

The same files give the same bytes, whoever packs them and wherever: times and owners are zero, links are stored as \
what they lead to, of a mode only whether the file is executable is kept.

Exit codes: 0 packed; 2 the release cannot be packed, or the file not be written.")]
pub struct PackArgs {
    /// Release to pack: a directory made by `mix release` or relx
    #[arg(long, value_name = "DIR", help_heading = "What")]
    pub release: PathBuf,

    /// File to write; it appears whole, and takes the place of one that is there
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub out: PathBuf,

    /// Beams, .app files and priv of the release's own applications, consolidated protocols and boot files; the default
    #[arg(long, conflicts_with = "full", help_heading = "What")]
    pub hot: bool,

    /// The whole release, ERTS and configuration with it, and the cookie that Mix writes into it
    #[arg(long, help_heading = "What")]
    pub full: bool,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

impl PackArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, reporter: &mut Reporter) -> ExitCode {
        artifacts::pack(self, reporter)
    }
}

//! `flyhot keygen`.

use std::path::PathBuf;

use clap::Args;
use flyhot_events::ExitCode;

use super::FormArgs;
use crate::artifacts;
use crate::report::Reporter;

/// What `flyhot keygen` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
    flyhot keygen --out shop.key

The private key is in the file, which only its owner may read; keep it where deploys are started, and nowhere else. \
The public key is shown: put it into /etc/flyhot/public_keys of the machines, or into their FLYHOT_PUBLIC_KEYS. \
For another key add the new public key there, sign with the new private key, and take the old one away when nothing signed by it is needed.

Exit codes: 0 made; 2 the file is there already or cannot be written.")]
pub struct KeygenArgs {
    /// File to write the private key to; it must not be there
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub out: PathBuf,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

impl KeygenArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, reporter: &mut Reporter) -> ExitCode {
        artifacts::keygen(&self.out, reporter)
    }
}

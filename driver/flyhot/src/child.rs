//! Programs that flyhot starts or becomes: none of them gets what a mix task told this one alone.

use std::ffi::OsStr;
use std::process::Command;

use crate::options::OF_MIX;

/// A program with the environment of this one, but for that.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that begins to start a program"
    )]
    let mut command = Command::new(program);
    for name in OF_MIX {
        command.env_remove(name);
    }
    command
}

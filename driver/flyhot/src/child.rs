//! Programs that flyhot starts or becomes: none of them gets what a mix task told this one alone.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

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

/// The file, where it is one that can be run.
pub(crate) fn executable(path: &Path) -> io::Result<PathBuf> {
    let about = fs::metadata(path)?;
    if about.is_file() && about.permissions().mode() & 0o111 != 0 {
        Ok(path.to_owned())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// A program with all that it started; it ends with this value.
pub(crate) struct Group {
    pub(crate) child: Child,
    /// It was waited for: its number may be somebody else's.
    gone: bool,
}

impl Group {
    /// Starts it, in a group of its own.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        Ok(Self { child, gone: false })
    }

    /// How it ended by itself, if it did; what it leaves behind then is let be.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        self.gone |= status.is_some();
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        // The child is not waited for yet, so that its number is still its own and its group's.
        let _ = command("/bin/sh")
            .args(["-c", "kill -s KILL -- \"-$0\"", &self.child.id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

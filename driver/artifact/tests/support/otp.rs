//! The installations of Erlang and Elixir to test against: those whose `bin` directories `FLYHOT_OTP_BINS` names,
//! divided by colons; else the one on the path.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) struct Otp {
    /// `None`: the one on the path.
    bin: Option<PathBuf>,
    scratch: tempfile::TempDir,
}

pub(crate) fn installations() -> Vec<Otp> {
    let named = std::env::var("FLYHOT_OTP_BINS").unwrap_or_default();
    let bins: Vec<Option<PathBuf>> = if named.is_empty() {
        vec![None]
    } else {
        named.split(':').map(|bin| Some(PathBuf::from(bin))).collect()
    };
    bins.into_iter()
        .map(|bin| Otp {
            bin,
            scratch: tempfile::tempdir().unwrap(),
        })
        .collect()
}

impl Otp {
    /// Runs one of its programs to its end and answers what it printed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.finish(self.command(program).args(arguments))
    }

    /// One of its programs, or one at an absolute path, with the others on its path.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let Some(bin) = &self.bin else {
            return Command::new(program.as_ref());
        };
        let mut path = bin.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(bin.join(program));
        command.env("PATH", path).env("ERL_CRASH_DUMP_SECONDS", "0");
        command
    }

    pub(crate) fn finish(&self, command: &mut Command) -> String {
        match command.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
            Ok(output) => panic!(
                "{command:?}: {}\n{}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => panic!(
                "these tests need Erlang and Elixir, on the path or in the directories that FLYHOT_OTP_BINS \
                 names: {} cannot be run: {error}",
                Path::new(command.get_program()).display()
            ),
        }
    }

    /// Where it may write.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A directory there.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.scratch().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }
}

//! The Erlang/OTP versions that `make setup` put side by side.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{mortal, path_behind};
use crate::scratch::workspace;

/// One Erlang/OTP version with the Elixir that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Otp(u8);

impl Otp {
    /// OTP 25 with Elixir 1.14: everything is tested on it.
    pub fn v25() -> Self {
        Self(25)
    }

    /// OTP 27 with Elixir 1.18.
    pub fn v27() -> Self {
        Self(27)
    }

    /// OTP 29 with Elixir 1.20.
    pub fn v29() -> Self {
        Self(29)
    }

    /// The version that the scenarios are run on: `FLYHOT_OTP`, 25 without it.
    ///
    /// # Panics
    /// If `FLYHOT_OTP` is none of 25, 27 and 29.
    pub fn under_test() -> Self {
        match std::env::var("FLYHOT_OTP").as_deref() {
            Err(_) | Ok("25") => Self::v25(),
            Ok("27") => Self::v27(),
            Ok("29") => Self::v29(),
            Ok(other) => panic!("FLYHOT_OTP is {other:?}; it takes 25, 27 or 29"),
        }
    }

    /// One that is not this one.
    pub fn another(self) -> Self {
        if self == Self::v27() {
            Self::v25()
        } else {
            Self::v27()
        }
    }

    /// The major version.
    pub fn major(self) -> u8 {
        self.0
    }

    /// The directory of its commands.
    ///
    /// # Panics
    /// If it was never set up.
    pub fn bin(self) -> PathBuf {
        let prefix = prefix();
        let bin = prefix.join(format!("otp-{}/bin", self.0));
        assert!(
            bin.join("erl").exists(),
            "{self} is not in {}: run `make setup`",
            prefix.display()
        );
        bin
    }

    /// `program` of this version (`erl`, `erlc`, `mix`, ...) in surroundings of its own. It dies with the test
    /// process.
    pub fn command(self, program: &str, home: &Path) -> Command {
        let mut command = mortal(&self.bin().join(program));
        self.surround(&mut command, home);
        command
    }

    /// Gives a command this version first in PATH and `home` as home directory, so that neither the cookie nor the
    /// settings of whoever runs the tests are read or written.
    pub(crate) fn surround(self, command: &mut Command, home: &Path) {
        command
            .env("PATH", path_behind([self.bin()]))
            .env("HOME", home)
            .env("LC_ALL", "C.UTF-8");
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if ["RELEASE_", "ERL_", "MIX_", "ELIXIR_", "SHOP_"]
                .iter()
                .any(|prefix| name_text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
    }
}

impl fmt::Display for Otp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OTP {}", self.0)
    }
}

/// Where `make setup` puts what the tests need.
pub(crate) fn prefix() -> PathBuf {
    match std::env::var_os("FLYHOT_OTP_PREFIX") {
        Some(prefix) => workspace().join(prefix),
        None => workspace().join("target/otp"),
    }
}

//! Where machines run: here, or wherever a test puts them.

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::mortal;

/// A machine, for whoever gives it a place.
#[derive(Debug, Clone)]
pub struct Spot {
    /// Its id.
    pub id: String,
    /// Its address in the private network.
    pub address: Ipv6Addr,
    /// Its root, which it may write to.
    pub root: PathBuf,
}

/// Gives machines a place. What it makes of a program ends with the test process, and is a process group once it is started.
pub trait Host: Send + Sync {
    /// A program on a machine, without words, environment and directory, which are set afterwards.
    fn command(&self, spot: &Spot, program: &Path) -> Command;

    /// The processes on a machine, as far as its place says; the group of its main one is known besides.
    fn processes(&self, spot: &Spot) -> Vec<u32>;

    /// The machine is gone.
    fn gone(&self, spot: &Spot);
}

/// On the machine that the test runs on, without walls between them.
#[derive(Debug, Clone, Copy)]
pub struct Local;

impl Host for Local {
    fn command(&self, _: &Spot, program: &Path) -> Command {
        mortal(program)
    }

    fn processes(&self, _: &Spot) -> Vec<u32> {
        Vec::new()
    }

    fn gone(&self, _: &Spot) {}
}

impl Spot {
    /// A program by its name on the machine: in the image, or, where it has none of that name, of the test's own machine.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        let own = self.root.join(name.trim_start_matches('/'));
        if own.is_file() { own } else { PathBuf::from(name) }
    }

    /// What a shell on the machine looks through for programs: the same.
    pub(super) fn search_path(&self) -> OsString {
        let mut path = OsString::from(&self.root);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }

    /// Whether that program is anywhere.
    pub(super) fn has(&self, name: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path);
        self.program(name).is_file() || places.any(|place| place.join(name).is_file())
    }
}

//! The executable `fly` of the tests: it answers as flyctl does; what it builds is a prepared release, or the Mix project it is called in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Fly;
use crate::process::path_behind;
use crate::scratch::Scratch;

/// What becomes of `fly deploy --build-only --push`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// It is built and pushed.
    Works,
    /// It ends with this code and without an image: 1 failed, 126 took too long, 127 was cancelled.
    Ends(u8),
    /// It says nothing for so many seconds, and works then.
    Silent(u64),
    /// It takes so many milliseconds for each line, and works.
    Slow(u64),
}

/// The executable, in a directory of its own for `PATH`.
#[derive(Debug)]
pub struct FlyCli {
    scratch: Scratch,
}

/// What stands for the directory in the text of the executable.
const HERE: &str = "@HERE@";

const PROGRAM: &str = include_str!("fly.sh");

impl FlyCli {
    /// One that pushes to `fly`, has `release` as what it built, and is logged in with `token`.
    pub fn new(fly: &Fly, release: &Path, token: &str) -> Self {
        Self::of(fly, "release", release, token)
    }

    /// One that builds: the Mix project it is called in, with `flyhot` in the image.
    pub fn building(fly: &Fly, flyhot: &Path, token: &str) -> Self {
        Self::of(fly, "flyhot", flyhot, token)
    }

    fn of(fly: &Fly, what: &str, path: &Path, token: &str) -> Self {
        let scratch = Scratch::new("fly-cli");
        let cli = Self { scratch };
        let here = cli.directory();
        fs::create_dir_all(here.join("bin")).expect("the scratch directory can be written");
        std::os::unix::fs::symlink(path, here.join(what)).expect("the scratch directory can be written");
        std::os::unix::fs::symlink(fly.registry(), here.join("images"))
            .expect("the scratch directory can be written");
        cli.write("token", token);
        cli.write("calls", "");
        cli.upload(Upload::Works);
        let program = here.join("bin/fly");
        fs::write(&program, PROGRAM.replace(HERE, here.to_str().expect("a text")))
            .expect("the scratch directory can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        cli
    }

    /// Where the executable is.
    pub fn path(&self) -> PathBuf {
        self.directory().join("bin")
    }

    /// `PATH` of somebody who has it, and these before everything else.
    pub fn search_path(&self, more: &[PathBuf]) -> String {
        let first = [self.path()].into_iter().chain(more.iter().cloned());
        path_behind(first).into_string().expect("a text")
    }

    /// What becomes of builds from now on.
    pub fn upload(&self, upload: Upload) {
        let (exit, silent_s, line_ms) = match upload {
            Upload::Works => (0, 0, 0),
            Upload::Ends(code) => (code, 0, 0),
            Upload::Silent(seconds) => (0, seconds, 0),
            Upload::Slow(millis) => (0, 0, millis),
        };
        self.write("fate", &format!("{exit} {silent_s} {line_ms}\n"));
    }

    /// Nobody is logged in.
    pub fn log_out(&self) {
        self.write("token", "");
    }

    /// Where an image lies that it pushed.
    pub fn built(&self, image: &str) -> PathBuf {
        let name = image.rsplit('/').next().unwrap_or(image);
        self.directory().join("images").join(name)
    }

    /// The words of each call, until now.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.directory().join("calls")).expect("it is there");
        calls.lines().map(str::to_owned).collect()
    }

    fn directory(&self) -> &Path {
        self.scratch.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory().join(name), text).expect("the scratch directory can be written");
    }
}

//! Releases that differ from a built one in some modules: the bad code that tests hand to flyhot.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::release::{Release, build_once, run};
use crate::scratch::Scratch;

/// A release in the making: a copy of another, with modules of the application `shop` replaced.
#[derive(Debug, Clone)]
pub struct Variant {
    base: Release,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Erlang { module: String, source: String },
    Elixir { name: String, source: String },
    Bytes { module: String, bytes: Vec<u8> },
    Removed { module: String },
    File { path: String, bytes: Vec<u8> },
    Stripped,
}

impl Variant {
    pub(crate) fn of(base: &Release) -> Self {
        Self {
            base: base.clone(),
            changes: Vec::new(),
        }
    }

    /// Replaces or adds the module `module`, compiled from Erlang `source`.
    pub fn erlang(mut self, module: &str, source: &str) -> Self {
        self.changes.push(Change::Erlang {
            module: module.to_owned(),
            source: source.to_owned(),
        });
        self
    }

    /// Replaces or adds the modules that Elixir `source` defines; `name` is for messages.
    pub fn elixir(mut self, name: &str, source: &str) -> Self {
        self.changes.push(Change::Elixir {
            name: name.to_owned(),
            source: source.to_owned(),
        });
        self
    }

    /// Makes the file `MODULE.beam` hold `bytes`.
    pub fn bytes(mut self, module: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.changes.push(Change::Bytes {
            module: module.to_owned(),
            bytes: bytes.into(),
        });
        self
    }

    /// Removes the file `MODULE.beam`.
    pub fn without(mut self, module: &str) -> Self {
        self.changes.push(Change::Removed {
            module: module.to_owned(),
        });
        self
    }

    /// Makes the file at `path`, below the directory of the application `shop`, hold `bytes`.
    pub fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.changes.push(Change::File {
            path: path.to_owned(),
            bytes: bytes.into(),
        });
        self
    }

    /// Strips its modules as `mix release` does, those that were replaced before this among them.
    pub fn stripped(mut self) -> Self {
        self.changes.push(Change::Stripped);
        self
    }

    /// Makes it, unless that was done before.
    pub fn build(&self) -> Release {
        // The base's directory carries the hash of its own sources.
        let mut key = self.base.directory().display().to_string();
        let _ = write!(key, "{:?}", self.changes);
        let directory = build_once("variant", self.base.otp(), &[], &key, |_, _, into| {
            self.make(into)
        });
        Release::at(self.base.otp(), directory)
    }

    fn make(&self, into: &Path) {
        copy(self.base.directory(), into);
        let made = Release::at(self.base.otp(), into.to_owned());
        let ebin = made.ebin("shop");
        for change in &self.changes {
            match change {
                Change::Erlang { module, source } => {
                    self.compile(&made, &ebin, &format!("{module}.erl"), source);
                    assert!(
                        ebin.join(format!("{module}.beam")).exists(),
                        "the source is of another module"
                    );
                }
                Change::Elixir { name, source } => self.compile(&made, &ebin, &format!("{name}.ex"), source),
                Change::Bytes { module, bytes } => {
                    fs::write(ebin.join(format!("{module}.beam")), bytes).expect("our own directory");
                }
                Change::Removed { module } => {
                    fs::remove_file(ebin.join(format!("{module}.beam"))).expect("the module is there");
                }
                Change::File { path, bytes } => {
                    let path = ebin.with_file_name(path);
                    fs::create_dir_all(path.parent().expect("below the application"))
                        .and_then(|()| fs::write(path, bytes))
                        .expect("our own directory");
                }
                Change::Stripped => {
                    let scratch = Scratch::new("variant");
                    let mut command = made.otp().command("erl", scratch.path());
                    command
                        .args(["-noshell", "-eval"])
                        .arg(format!(
                            "{{ok, _}} = beam_lib:strip_files(filelib:wildcard(filename:join({ebin:?}, \"*.beam\"))), halt()."
                        ));
                    run(command);
                }
            }
        }
    }

    fn compile(&self, made: &Release, ebin: &Path, file: &str, source: &str) {
        let scratch = Scratch::new("variant");
        let path: PathBuf = scratch.path().join(file);
        fs::write(&path, source).expect("our own directory");
        let elixir = file.ends_with(".ex");
        let mut command = made
            .otp()
            .command(if elixir { "elixirc" } else { "erlc" }, scratch.path());
        if elixir {
            command.arg("--ignore-module-conflict");
        } else {
            command.arg("+deterministic");
        }
        command.arg("-pa").arg(ebin).arg("-o").arg(ebin).arg(&path);
        run(command);
    }
}

/// Copies a directory with all its attributes. The copy shares no inode with the original: nodes replace files.
pub(crate) fn copy(from: &Path, to: &Path) {
    let mut command = std::process::Command::new("cp");
    command.arg("-a").arg(from.join(".")).arg(to);
    run(command);
}

//! What a fleet should run, in a directory: `driver/store/examples/publish.rs`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use crate::flyhot::build;
use crate::process::{mortal, spawn};

/// Has the fleet of the app `shop` run an artifact; `words` are those behind it, `commit` or `trial` first. Answers with its digest.
///
/// # Panics
/// If that fails.
pub fn publish(store: &Path, artifact: &Path, words: &[&str]) -> String {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let binary = BINARY.get_or_init(|| build(&["--example", "publish"], "examples/publish"));
    let mut command = mortal(binary);
    command
        .arg(store)
        .arg("shop")
        .arg(artifact)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let output = spawn(command).wait_with_output().expect("it is our child");
    assert!(output.status.success(), "nothing was published");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

//! A process that moves artifacts between a store and files: `driver/store/examples/mover.rs`, heard line by line.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::flyhot::build;
use crate::process::{mortal, spawn};

/// Far beyond any transfer of a test.
const LIMIT: Duration = Duration::from_secs(300);

/// One of them; killed when dropped.
#[derive(Debug)]
pub struct Mover {
    child: Child,
    heard: Receiver<String>,
}

/// What one said before it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its last word: `uploaded`, `fetched`, `absent`, `removed`, `swept 3` or `failed ...`.
    pub word: String,
    /// What is in the list.
    pub artifacts: Vec<String>,
    /// How far it was, each time it said so: of how many bytes.
    pub moved: Vec<(u64, u64)>,
    /// The most memory it had, in bytes, as the kernel has it.
    pub peak: u64,
}

impl Mover {
    /// Starts one. `home` is a directory or `bucket@endpoint`.
    pub fn start(home: &str, words: &[&str]) -> Self {
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        let binary = BINARY.get_or_init(|| build(&["--example", "mover"], "examples/mover"));
        let mut command = mortal(binary);
        command
            .arg(home)
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AWS_ACCESS_KEY_ID", "tid_test")
            .env("AWS_SECRET_ACCESS_KEY", "tsec_test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = spawn(command);
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (say, heard) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        Self { child, heard }
    }

    /// One that puts a file into a store.
    pub fn upload(home: &str, digest: &str, file: &Path) -> Self {
        Self::start(home, &["upload", digest, file.to_str().expect("a text")])
    }

    /// One that takes a file out of a store.
    pub fn fetch(home: &str, digest: &str, to: &Path) -> Self {
        Self::start(home, &["fetch", digest, to.to_str().expect("a text")])
    }

    /// Waits until it has moved some bytes, and ends it there, as a power cut does.
    ///
    /// # Panics
    /// If it comes to its end before.
    pub fn kill_after(mut self, bytes: u64) {
        loop {
            let line = self.heard.recv_timeout(LIMIT).expect("it is not done yet");
            if moved(&line).is_some_and(|(done, total)| done >= bytes && done < total) {
                break;
            }
        }
        self.child.kill().expect("it is there");
        self.child.wait().expect("it is our child");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not come.
    pub fn said(mut self) -> Said {
        let mut said = Said {
            word: String::new(),
            artifacts: Vec::new(),
            moved: Vec::new(),
            peak: 0,
        };
        while let Ok(line) = self.heard.recv_timeout(LIMIT) {
            if let Some(peak) = line.strip_prefix("peak ") {
                let kilo = peak.trim_end_matches(" kB").parse::<u64>();
                said.peak = kilo.expect("a number") * 1024;
            } else if let Some(moved) = moved(&line) {
                said.moved.push(moved);
            } else if let Some(artifact) = line.strip_prefix("artifact ") {
                said.artifacts.push(artifact.to_owned());
            } else {
                said.word = line;
            }
        }
        assert!(said.peak > 0, "it does not come to an end: {said:?}");
        let ended = self.child.wait().expect("it is our child");
        assert_eq!(ended.success(), !said.word.starts_with("failed"), "{said:?}");
        said
    }
}

fn moved(line: &str) -> Option<(u64, u64)> {
    let (done, total) = line.strip_prefix("moved ")?.split_once(' ')?;
    Some((done.parse().ok()?, total.parse().ok()?))
}

impl Drop for Mover {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

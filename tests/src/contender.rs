//! Processes that want one lock: `driver/store/examples/contender.rs`, heard line by line.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::Sender;
use std::time::Instant;

use crate::flyhot::build;
use crate::process::{mortal, signal, spawn};

/// What one said.
#[derive(Debug, Clone)]
pub struct Step {
    /// When it was heard.
    pub at: Instant,
    /// Which of them.
    pub who: usize,
    /// Its words: `took 3`, `held 3`, `began 3 17`, `committed 3 17`, `released 3`, `lost ...`, `failed ...`; `ended` when it is gone.
    pub words: String,
}

/// One of them; killed when dropped.
#[derive(Debug)]
pub struct Contender {
    child: Child,
}

impl Contender {
    /// Starts one that takes the lock so many times. `home` is a directory or `bucket@endpoint`; what it says goes to `heard`.
    pub fn start(home: &str, who: usize, rounds: usize, lease_ms: u64, heard: Sender<Step>) -> Self {
        Self::holding(home, who, rounds, lease_ms, 0, heard)
    }

    /// The same, who each time holds it so long before it does anything.
    pub fn holding(
        home: &str,
        who: usize,
        rounds: usize,
        lease_ms: u64,
        hold_ms: u64,
        heard: Sender<Step>,
    ) -> Self {
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        let binary = BINARY.get_or_init(|| build(&["--example", "contender"], "examples/contender"));
        let mut command = mortal(binary);
        command
            .args([
                home,
                &format!("contender-{who}"),
                &rounds.to_string(),
                &lease_ms.to_string(),
                &hold_ms.to_string(),
            ])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AWS_ACCESS_KEY_ID", "tid_test")
            .env("AWS_SECRET_ACCESS_KEY", "tsec_test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = spawn(command);
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        std::thread::spawn(move || {
            let words = lines.map_while(Result::ok).chain(["ended".to_owned()]);
            for words in words {
                let at = Instant::now();
                if heard.send(Step { at, who, words }).is_err() {
                    break;
                }
            }
        });
        Self { child }
    }

    /// Sends it a signal: `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(name, &self.child.id().to_string());
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

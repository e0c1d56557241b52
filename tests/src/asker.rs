//! A client of a Machines API: `driver/fleet/examples/asker.rs`, spoken to line by line.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fly::Fly;
use crate::flyhot::build;
use crate::process::{mortal, spawn};

/// Far beyond anything that is asked in a test.
const LIMIT: Duration = Duration::from_secs(300);

/// What has come, by the number of its request.
#[derive(Debug, Default)]
struct Heard {
    answers: Mutex<HashMap<u64, Value>>,
    came: Condvar,
}

impl Heard {
    fn answers(&self) -> MutexGuard<'_, HashMap<u64, Value>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them; killed when dropped.
#[derive(Debug)]
pub struct Asker {
    child: Child,
    stdin: Mutex<ChildStdin>,
    next: AtomicU64,
    heard: Arc<Heard>,
}

impl Asker {
    /// One with the token of the app that is there, whose requests are tried for so long.
    pub fn start(fly: &Fly, patience: Duration) -> Self {
        Self::with(&fly.url(), Fly::APP, Fly::TOKEN, patience)
    }

    /// One of an app, with a token, at an address.
    pub fn with(url: &str, app: &str, token: &str, patience: Duration) -> Self {
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        let binary = BINARY.get_or_init(|| build(&["--example", "asker"], "examples/asker"));
        let mut command = mortal(binary);
        command
            .args([app, &patience.as_millis().to_string()])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("FLY_FLAPS_BASE_URL", url)
            .env("FLY_API_TOKEN", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn(command);
        let stdin = child.stdin.take().expect("a pipe");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let heard = Arc::new(Heard::default());
        let hearing = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let answer: Value = serde_json::from_str(&line).expect("an answer is JSON");
                let id = answer["id"].as_u64().unwrap_or_default();
                hearing.answers().insert(id, answer);
                hearing.came.notify_all();
            }
        });
        Self {
            child,
            stdin: Mutex::new(stdin),
            next: AtomicU64::new(1),
            heard,
        }
    }

    /// Asks, and goes on; the number is for [`Asker::answer`].
    pub fn begin(&self, mut request: Value) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        request["id"] = json!(id);
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(stdin, "{request}").expect("it reads");
        id
    }

    /// The answer to what was begun; 0 is what it says of itself when it cannot be started.
    ///
    /// # Panics
    /// If none comes.
    pub fn answer(&self, id: u64) -> Value {
        let begun = Instant::now();
        let mut answers = self.heard.answers();
        loop {
            if let Some(answer) = answers.remove(&id) {
                return answer;
            }
            assert!(begun.elapsed() < LIMIT, "no answer to request {id}");
            let waited = self.heard.came.wait_timeout(answers, Duration::from_millis(500));
            answers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Asks, and waits for what came of it: `done`, or `failed`, `kind`, `hint` and `debug`.
    pub fn ask(&self, request: Value) -> Value {
        self.answer(self.begin(request))
    }

    /// Asks what has to be done.
    ///
    /// # Panics
    /// If it is not.
    pub fn done(&self, request: Value) -> Value {
        let answer = self.ask(request.clone());
        assert!(answer.get("done").is_some(), "{request}: {answer:#}");
        answer["done"].clone()
    }

    /// Asks what cannot be done; the kind of the failure, and its sentence.
    ///
    /// # Panics
    /// If it is done.
    pub fn failed(&self, request: Value) -> (String, String) {
        let answer = self.ask(request.clone());
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        assert!(answer.get("failed").is_some(), "{request}: {answer:#}");
        (text("kind"), text("failed"))
    }

    /// Its arguments, as everybody on the machine sees them.
    pub fn arguments(&self) -> String {
        let file = format!("/proc/{}/cmdline", self.child.id());
        let words = std::fs::read(file).expect("it runs");
        String::from_utf8_lossy(&words).replace('\0', " ")
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

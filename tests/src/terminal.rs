//! A command on a terminal of its own, with somebody at its keyboard: `script` of util-linux.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::scratch::Scratch;
use crate::wait::{holds_within, wait_or_tell};

/// No test keeps a terminal busy for longer.
const LIMIT: Duration = Duration::from_secs(120);

/// One of them; its programs are hung up when it is dropped.
pub struct Terminal {
    command: String,
    child: Child,
    keyboard: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    _home: Scratch,
}

impl Terminal {
    /// The words of a command as a shell takes them.
    pub(crate) fn line(program: &Path, args: &[String]) -> String {
        let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
        let program = program.to_str().expect("our own directory");
        let words = std::iter::once(program).chain(args.iter().map(String::as_str));
        let words: Vec<_> = words.map(quoted).collect();
        format!("exec {}", words.join(" "))
    }

    pub(crate) fn start(name: String, mut command: Command, home: Scratch) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = crate::process::spawn(command);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&shown);
        let mut screen = child.stdout.take().expect("a pipe");
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut chunk) {
                let mut all = collected.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend_from_slice(&chunk[..length]);
            }
        });
        Self {
            command: name,
            keyboard: child.stdin.take().expect("a pipe"),
            child,
            shown,
            reader: Some(reader),
            _home: home,
        }
    }

    /// Types.
    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("it listens");
        self.keyboard.flush().expect("it listens");
    }

    /// What was shown so far.
    pub fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Waits until this was shown.
    ///
    /// # Panics
    /// If it is not.
    pub fn wait_for(&self, part: &str) {
        wait_or_tell(
            &format!("{part} on the terminal"),
            LIMIT,
            || self.shown().contains(part),
            || self.to_string(),
        );
    }

    /// Waits for the end of the command; its exit code, or 128 and the signal that ended it.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait(&mut self) -> i32 {
        let ended = holds_within(LIMIT, || !matches!(self.child.try_wait(), Ok(None)));
        assert!(ended, "it does not end\n{self}");
        let status = self.child.wait().expect("it is our child");
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
            .code()
            .unwrap_or_else(|| panic!("a signal ended it\n{self}"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$ {}\n{}", self.command, self.shown())
    }
}

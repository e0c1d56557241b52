//! Leaving nothing behind, where a program of the harness may be ended by somebody who watches it.
//!
//! What was begun is dropped by whoever began it, and the kernel kills children with their parent. Two things know neither: a process
//! that has left its parent, as flyhot does that mix started, and a namespace.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fly::remove_ours;
use crate::scratch::{self, ours};
use crate::wait::holds_within;

/// What was killed is gone in milliseconds, unless the machine swaps.
const GONE: Duration = Duration::from_secs(10);

/// From now on SIGINT and SIGTERM end this process and everything that it began.
pub fn leave_nothing_on_signal() {
    static ENDS: AtomicBool = AtomicBool::new(false);
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // What fails because it is all taken away is nothing to tell.
        while ENDS.load(Ordering::SeqCst) {
            std::thread::park();
        }
        told(panic);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let heard = runtime.block_on(async { Heard::listen() });
    std::thread::spawn(move || {
        let code = runtime.block_on(heard.expect("signals can be heard").first());
        ENDS.store(true, Ordering::SeqCst);
        // Nor is what it comes to.
        let _said = std::io::stdout().lock();
        leave_nothing();
        std::process::exit(code);
    });
}

struct Heard {
    int: tokio::signal::unix::Signal,
    term: tokio::signal::unix::Signal,
}

impl Heard {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
        })
    }

    /// The exit code that goes with the first that comes, as shells have it.
    async fn first(mut self) -> i32 {
        tokio::select! {
            _ = self.int.recv() => 130,
            _ = self.term.recv() => 143,
        }
    }
}

/// Ends every process that has to do with a scratch directory of this one, removes its namespaces, and then those directories.
///
/// # Panics
/// If something stays.
pub fn leave_nothing() {
    let ours = ours();
    let gone = holds_within(GONE, || {
        let found = processes(&ours);
        if !found.is_empty() {
            // Some may have gone meanwhile.
            let mut kill = Command::new("sh");
            kill.args(["-c", "kill -s KILL -- \"$@\" 2>/dev/null", "kill"])
                .args(&found);
            kill.status().expect("sh runs");
        }
        found.is_empty()
    });
    assert!(gone, "{:?} do not end", processes(&ours));
    remove_ours();
    scratch::remove_ours();
}

/// The processes whose environment, directory or words name such a path. What they run in is in the environment of all that they begin.
fn processes(path: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let names = |process: &Path| {
        let has = |bytes: Vec<u8>| bytes.windows(path.len()).any(|part| part == path.as_bytes());
        let files = ["environ", "cmdline"].map(|file| fs::read(process.join(file)).unwrap_or_default());
        let directory = fs::read_link(process.join("cwd")).unwrap_or_default();
        files.into_iter().any(has) || directory.to_string_lossy().contains(path)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    processes
        .filter(|(pid, process)| {
            *pid != own && pid.bytes().all(|byte| byte.is_ascii_digit()) && names(process)
        })
        .map(|(pid, _)| pid)
        .collect()
}

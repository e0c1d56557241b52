//! A process of the test: started with a log, stopped by pid, never left behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use crate::wait::holds_within;

/// How long a process may take to end by itself after SIGTERM: a node with 10 000 processes needs a few tenths of
/// a second, and whoever needs longer holds up the suite.
const GRACE: Duration = Duration::from_secs(2);

/// Between two looks at what a process takes: its last one is missing from that, and looking takes a hundredth of a core.
const WATCHED: Duration = Duration::from_millis(2);

/// How much of a log is shown when a test fails: enough for a crash report, little enough to find it.
const LOG_LINES: usize = 80;

/// A running process with its log file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both streams going to the file `log`; it has a process group of its own.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Self {
        let out = File::create(&log).expect("the log can be written");
        let both = out.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(out).stderr(both);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Self {
            child: spawn(command),
            name: name.to_owned(),
            log,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// Kills it and its process group with SIGKILL, and waits for its end.
    pub fn kill(&mut self) -> ExitStatus {
        signal("KILL", &format!("-{}", self.pid()));
        self.child.wait().expect("it is our child")
    }

    fn stop(&mut self) {
        if self.is_alive() {
            signal("TERM", &self.pid().to_string());
            if !holds_within(GRACE, || !self.is_alive()) {
                self.kill();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let log = if log.is_empty() {
                "(nothing)"
            } else {
                log.trim_end()
            };
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            eprintln!(
                "---- log of {} (pid {}) ----\n{tail}\n----",
                self.name,
                self.pid()
            );
        }
        self.stop();
    }
}

/// What a process took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// The most memory it had at a time.
    pub kib: u64,
    /// Its processor time, of all threads.
    pub cpu_us: u64,
    /// The most files, sockets and the like that it was seen to have open at a time.
    pub descriptors: usize,
}

/// Watches a process until it is gone; asked then, says what it took.
///
/// # Panics
/// Not by itself: asked, if the watch did.
pub fn watched(pid: u32) -> impl FnOnce() -> Used {
    let watch = std::thread::spawn(move || {
        let mut used = Used::default();
        // A zombie has no memory left.
        while let Some(kib) = memory_mark_kib(pid) {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            used = Used {
                kib,
                cpu_us: cpu_us(pid).unwrap_or(used.cpu_us),
                descriptors: used.descriptors.max(open),
            };
            std::thread::sleep(WATCHED);
        }
        used
    });
    move || watch.join().expect("the watch does not panic")
}

/// The high-water mark of the memory of a process as it is now, in KiB.
pub fn memory_mark_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    mark.split_whitespace().next()?.parse().ok()
}

/// Its processor time so far, of all threads, in the hundredths of a second that Linux counts (proc(5), `utime` and `stime`).
fn cpu_us(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have blanks and brackets; the state is what follows it.
    let (_, fields) = text.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(ticks * 10_000)
}

/// Sends the signal `name` (`TERM`, `KILL`, `STOP`, ...) to `target`: a pid, or `-pid` for a process group.
/// A target that is gone already is no error.
pub fn signal(name: &str, target: &str) {
    Command::new("sh")
        .args(["-c", "kill -s \"$0\" -- \"$1\" 2>/dev/null", name, target])
        .status()
        .expect("sh runs");
}

/// What `PATH` is with these directories first.
pub(crate) fn path_behind(first: impl IntoIterator<Item = PathBuf>) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(first.into_iter().chain(std::env::split_paths(&path)));
    path.expect("no directory of PATH holds a colon")
}

/// A command that the kernel kills when this test process ends, however it ends.
pub(crate) fn mortal(program: &Path) -> Command {
    // A command may be given a PATH on which there is nothing.
    static SETPRIV: OnceLock<PathBuf> = OnceLock::new();
    let setpriv = SETPRIV.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).map(|place| place.join("setpriv"));
        places.find(|place| place.exists()).expect("util-linux is there")
    });
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Spawns from one thread that lives as long as the test process: the kernel takes the end of the *thread* that
/// spawned for the end of the parent.
pub(crate) fn spawn(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static KEEPER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (send, receive) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in receive {
                let _ = answer.send(command.spawn());
            }
        });
        send
    });
    let shown = format!("{command:?}");
    let (answer, child) = mpsc::channel();
    keeper.send((command, answer)).expect("the keeper lives");
    child
        .recv()
        .expect("the keeper answers")
        .unwrap_or_else(|error| panic!("cannot start {shown}: {error}"))
}

pub(crate) fn read_lossy(path: &Path) -> String {
    fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

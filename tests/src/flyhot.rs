//! The command under test, run as its users run it: arguments in, lines and an exit code out.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fly::{Namespaces, within};
use crate::node::Node;
use crate::process::{mortal, signal};
use crate::release::Release;
use crate::scratch::{Scratch, workspace};
use crate::terminal::Terminal;
use crate::wait::{holds_within, wait_until};

/// No test keeps a command busy for longer; one that hangs is killed and shown.
const RUN_LIMIT: Duration = Duration::from_secs(180);

/// A flyhot command in the making.
#[derive(Debug)]
pub struct Flyhot {
    binary: PathBuf,
    directory: Option<PathBuf>,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    memory: Option<u64>,
    network: Option<String>,
    patience: Duration,
}

/// A flyhot command that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    begun: Instant,
    patience: Duration,
    lines: Receiver<(Instant, String)>,
    seen: Vec<(Instant, String)>,
    stderr: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    _home: Scratch,
}

/// What a flyhot command did.
#[derive(Debug)]
pub struct Run {
    /// The command line.
    pub command: String,
    /// Its exit code; none if a signal ended it.
    pub exit_code: Option<i32>,
    /// The events it wrote; empty with `--output human`.
    pub events: Vec<Event>,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
    /// When it was started.
    pub begun: Instant,
    /// How long it ran.
    pub took: Duration,
}

/// One line of `--output json`.
#[derive(Debug, Clone)]
pub struct Event {
    /// When the line arrived here.
    pub at: Instant,
    /// The line.
    pub json: Value,
}

impl Flyhot {
    /// `flyhot ARGS...`, with nothing in its environment but PATH and an empty home.
    pub fn new<'a>(args: impl IntoIterator<Item = &'a str>) -> Self {
        Self::by(Self::binary()).args(args)
    }

    /// The same by another program, which has flyhot speak for it.
    pub(crate) fn by(program: &Path) -> Self {
        Self {
            binary: program.to_owned(),
            directory: None,
            args: Vec::new(),
            environment: Vec::new(),
            memory: None,
            network: None,
            patience: RUN_LIMIT,
        }
    }

    /// It runs in that network, and reaches nothing else.
    pub fn beside(mut self, network: &Namespaces) -> Self {
        self.network = Some(network.hub().to_owned());
        self
    }

    /// It runs there, and not in its empty home.
    pub fn within(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// It may take so long.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// It dies if it asks for more memory, bytes of address space.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The same with an agent that does what [`crate::Probe::plan_faults`] says and tells what
    /// [`crate::Probe::start_trace`] keeps: a binary of its own, which nobody is given.
    pub fn faulty(self) -> Self {
        Self {
            binary: Self::faulty_binary().to_owned(),
            ..self
        }
    }

    /// That binary.
    pub fn faulty_binary() -> &'static Path {
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        BINARY.get_or_init(|| {
            build(
                &["--features", "flyhot/faults", "--bin", "flyhot-faults"],
                "flyhot-faults",
            )
        })
    }

    /// `flyhot upgrade --node NODE --release RELEASE --output json`, with the node's cookie and epmd.
    pub fn upgrade(node: &Node, release: &Release) -> Self {
        Self::on("upgrade", node, release.directory())
    }

    /// `flyhot plan --node NODE --release RELEASE --output json`, with the node's cookie and epmd.
    pub fn plan(node: &Node, release: &Release) -> Self {
        Self::on("plan", node, release.directory())
    }

    /// `flyhot VERB --node NODE --output json` for one that takes no release, with the node's cookie and epmd.
    pub fn ask(verb: &str, node: &Node) -> Self {
        Self::new([verb, "--node", node.name(), "--output", "json"]).of(node)
    }

    fn on(verb: &str, node: &Node, release: &Path) -> Self {
        let release = release.to_str().expect("our own directory");
        Self::new([verb, "--node", node.name(), "--release", release])
            .args(["--output", "json"])
            .of(node)
    }

    /// Finds `node` as a user who was told its cookie and its epmd would: by two variables.
    pub fn of(self, node: &Node) -> Self {
        self.env("RELEASE_COOKIE", node.cookie())
            .env("ERL_EPMD_PORT", &node.epmd_port().to_string())
    }

    /// The binary under test: `FLYHOT_BIN`, or the one that cargo builds with the profile of these tests.
    pub fn binary() -> &'static Path {
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        BINARY.get_or_init(|| match std::env::var_os("FLYHOT_BIN") {
            Some(path) => workspace().join(path),
            None => build(&["--bin", "flyhot"], "flyhot"),
        })
    }

    /// More arguments.
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// A variable of its environment; replaces an earlier one of that name.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(earlier, _)| earlier != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it.
    pub fn spawn(self) -> Running {
        let home = Scratch::new("home");
        let mut command = self.command(&home);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = crate::process::spawn(command);
        let (send, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if send.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&stderr);
        let mut pipe = child.stderr.take().expect("a pipe");
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                let mut all = collected.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend_from_slice(&chunk[..length]);
            }
        });
        Running {
            command: self.shown_line(),
            child,
            begun,
            patience: self.patience,
            lines,
            seen: Vec::new(),
            stderr,
            reader: Some(reader),
            _home: home,
        }
    }

    /// Starts it on a terminal of its own.
    pub fn on_terminal(self) -> Terminal {
        let home = Scratch::new("home");
        let line = Terminal::line(&self.binary, &self.args);
        let mut command = self.surrounded(mortal(Path::new("script")), &home);
        // It says with what the command ended, writes at once, and keeps no file.
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        command.env("SHELL", "/bin/sh");
        Terminal::start(self.shown_line(), command, home)
    }

    fn shown_line(&self) -> String {
        let name = self.binary.file_name().unwrap_or_default();
        format!("{} {}", name.display(), self.args.join(" "))
    }

    /// Runs it with its own words on the terminal of this process; the exit code.
    ///
    /// # Panics
    /// If a signal ends it.
    pub fn shown(self) -> i32 {
        let home = Scratch::new("home");
        let status = crate::process::spawn(self.command(&home)).wait();
        status
            .ok()
            .and_then(|status| status.code())
            .expect("no signal ends it")
    }

    fn command(&self, home: &Scratch) -> Command {
        let mut command = match (self.memory, &self.network) {
            (None, None) => mortal(&self.binary),
            (None, Some(hub)) => within(hub, &self.binary),
            (Some(bytes), _) => {
                let mut command = mortal(Path::new("prlimit"));
                command.arg(format!("--as={bytes}")).arg(&self.binary);
                command
            }
        };
        command.args(&self.args);
        self.surrounded(command, home)
    }

    fn surrounded(&self, mut command: Command, home: &Scratch) -> Command {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TERM", std::env::var_os("TERM").unwrap_or_default())
            .env("HOME", home.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.as_deref().unwrap_or(home.path()));
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it does not end within three minutes, or what [`Flyhot::patience`] gave it.
    pub fn run(self) -> Run {
        self.spawn().wait()
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for an event that `wanted` accepts, among those to come and those that came already.
    ///
    /// # Panics
    /// If the command ends without one, or after `limit`.
    pub fn wait_for(&mut self, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Event {
        self.find(limit, wanted)
            .unwrap_or_else(|| panic!("waited in vain for {what}\n{}", self.shown()))
    }

    fn find(&mut self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Event> {
        let begun = Instant::now();
        let mut at = 0;
        loop {
            while at < self.seen.len() {
                let (at_time, line) = &self.seen[at];
                at += 1;
                if let Ok(json) = serde_json::from_str(line)
                    && wanted(&json)
                {
                    return Some(Event { at: *at_time, json });
                }
            }
            self.seen.push(
                self.lines
                    .recv_timeout(limit.saturating_sub(begun.elapsed()))
                    .ok()?,
            );
        }
    }

    /// Waits until the step `step` has begun on some node.
    pub fn wait_for_step(&mut self, step: &str) -> Event {
        self.wait_for(&format!("step {step}"), RUN_LIMIT, |event| {
            event["event"] == "step_started" && event["step"] == step
        })
    }

    /// Whether it comes to `step`; if not it has ended.
    pub fn comes_to(&mut self, step: &str) -> bool {
        let wanted = |event: &Value| event["event"] == "step_started" && event["step"] == step;
        self.find(RUN_LIMIT, wanted).is_some()
    }

    /// Waits until it has said this on standard error.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_for_aside(&self, part: &str) {
        wait_until(&format!("{part} on standard error"), RUN_LIMIT, || {
            self.stderr_text().contains(part)
        });
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) -> Run {
        // It may have ended by itself a moment ago.
        let _ = self.child.kill();
        self.wait()
    }

    /// Sends it SIGINT.
    pub fn interrupt(&self) {
        signal("INT", &self.pid().to_string());
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end within three minutes, or what [`Flyhot::patience`] gave it.
    pub fn wait(mut self) -> Run {
        loop {
            match self
                .lines
                .recv_timeout(self.patience.saturating_sub(self.begun.elapsed()))
            {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end\n{}", self.shown()),
            }
        }
        let status = self.child.wait().expect("it is our child");
        let took = self.begun.elapsed();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let events = self
            .seen
            .iter()
            .filter_map(|(at, line)| {
                serde_json::from_str(line)
                    .ok()
                    .map(|json| Event { at: *at, json })
            })
            .collect();
        Run {
            command: self.command.clone(),
            exit_code: status.code(),
            events,
            stdout: self.seen.iter().map(|(_, line)| format!("{line}\n")).collect(),
            stderr: self.stderr_text(),
            begun: self.begun,
            took,
        }
    }

    fn stderr_text(&self) -> String {
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&stderr).into_owned()
    }

    fn shown(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        let stdout: Vec<_> = self.seen.iter().map(|(_, line)| line.as_str()).collect();
        format!(
            "$ {}\n{}\n{}",
            self.command,
            stdout.join("\n"),
            self.stderr_text()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Run {
    /// The last line of the stream, which is the outcome whatever happened.
    ///
    /// # Panics
    /// If it is not.
    pub fn outcome(&self) -> &Value {
        match self.events.last() {
            Some(event) if event.json["event"] == "outcome" => &event.json,
            _ => panic!("the last line is no outcome\n{self}"),
        }
    }

    /// What became of the node at this position of the command line.
    pub fn node(&self, at: usize) -> &Value {
        &self.outcome()["nodes"][at]
    }

    /// Ends the test unless the outcome, its exit code and the exit code of the process are these.
    #[track_caller]
    pub fn expect(&self, outcome: &str, exit_code: i32) -> &Self {
        let said = self.outcome();
        assert!(
            said["outcome"] == outcome && said["exit_code"] == exit_code && self.exit_code == Some(exit_code),
            "expected {outcome} with exit code {exit_code}\n{self}"
        );
        self
    }

    /// The events of this name.
    pub fn events_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events
            .iter()
            .filter(move |event| event.json["event"] == name)
    }

    /// What `flyhot boot` said, on standard error: its outcome is the last line there.
    ///
    /// # Panics
    /// If it is not.
    pub fn aside(&self) -> Vec<Value> {
        let lines = self.stderr.lines();
        let events: Vec<Value> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert!(
            events.last().is_some_and(|event| event["event"] == "outcome"),
            "the last line is no outcome\n{self}"
        );
        events
    }

    /// The codes of the first node's reasons.
    pub fn reason_codes(&self) -> Vec<&str> {
        let reasons = self.node(0)["reasons"].as_array().map_or(&[][..], Vec::as_slice);
        reasons
            .iter()
            .filter_map(|reason| reason["code"].as_str())
            .collect()
    }

    /// The first node's first reason with this code.
    ///
    /// # Panics
    /// If there is none.
    pub fn reason(&self, code: &str) -> &Value {
        let reasons = self.node(0)["reasons"].as_array().map_or(&[][..], Vec::as_slice);
        let found = reasons.iter().find(|reason| reason["code"] == code);
        found.unwrap_or_else(|| panic!("no reason {code}: {self}"))
    }

    /// From when to when the step lasted, as seen here: the arrival of the events about it, or of the outcome if the
    /// step did not end well.
    pub fn step(&self, step: &str) -> Option<(Instant, Instant)> {
        let begun = self
            .events_named("step_started")
            .find(|event| event.json["step"] == step)?;
        let done = self.events.iter().find(|event| {
            event.at >= begun.at
                && ((event.json["event"] == "step_done" && event.json["step"] == step)
                    || event.json["event"] == "outcome")
        })?;
        Some((begun.at, done.at))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exit_code {
            Some(code) => writeln!(f, "$ {}\nexit code {code} after {:?}", self.command, self.took)?,
            None => writeln!(f, "$ {}\nended by a signal after {:?}", self.command, self.took)?,
        }
        write!(
            f,
            "---- stdout ----\n{}---- stderr ----\n{}",
            self.stdout, self.stderr
        )
    }
}

/// Builds a program of the workspace, with the profile of these tests.
pub(crate) fn build(what: &[&str], binary: &str) -> PathBuf {
    // .../TARGET/PROFILE/deps/test-0123, or .../TARGET/PROFILE/demo
    let own = std::env::current_exe().expect("the kernel knows");
    let profile = own
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .expect("cargo runs it");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--workspace", "--target-dir"])
        .arg(profile.parent().expect("a profile lies in a target directory"))
        .args(what)
        .current_dir(workspace());
    // What cargo says to a test of its package; build scripts that look at it would run again, and all that stands on them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    // It takes the libraries that whoever asks was built with. With the features that a package alone asks for, or all of them without what
    // tests and examples need beside, each would be built once more.
    cargo.arg(if profile.ends_with("release") {
        "--release"
    } else {
        "--examples"
    });
    let mut child = cargo.spawn().expect("cargo runs");
    // Far beyond any build of the driver: a second cargo that holds the lock is waited for.
    assert!(
        holds_within(Duration::from_secs(1_800), || !matches!(
            child.try_wait(),
            Ok(None)
        )),
        "the build of flyhot does not end"
    );
    assert!(
        child.wait().is_ok_and(|status| status.success()),
        "flyhot does not build"
    );
    profile.join(binary)
}

//! Real BEAM nodes: a release by its own start script, in the foreground or as a daemon, or a plain `erl`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::disk::{Ailment, Journal, library};
use crate::epmd::Epmd;
use crate::flyhot::Flyhot;
use crate::otp::Otp;
use crate::probe::Probe;
use crate::process::{Process, mortal, signal};
use crate::release::{Release, run};
use crate::scratch::Scratch;
use crate::variant::copy;
use crate::wait::wait_until;

/// A release with 10 000 processes boots in two to three seconds alone on the machine; tests run beside each other.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// The script of the Mix release, below its directory.
const SHOP: &str = "bin/shop";

/// Beside that directory: what its library wrote, and what is the matter with it.
const JOURNAL: &str = "journal";
const AILMENT: &str = "ailment";

/// How a node is to be started.
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    otp: Otp,
    release: Option<Release>,
    host: Option<String>,
    short: bool,
    epmd_port: Option<u16>,
    environment: Vec<(String, String)>,
    flags: Vec<String>,
    tls: Option<PathBuf>,
    daemon: bool,
    in_place: bool,
    journal: bool,
    boot: Option<Vec<String>>,
}

/// A running node; it ends when this is dropped.
pub struct Node {
    name: String,
    cookie: String,
    otp: Otp,
    epmd_port: u16,
    tls: Option<PathBuf>,
    release: Option<Release>,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    probe: OnceLock<Probe>,
    process: Process,
    scratch: Scratch,
}

impl NodeBuilder {
    /// The long-name host, `127.0.0.1` without this.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// A short name, on `localhost`.
    pub fn short_name(mut self) -> Self {
        self.short = true;
        self
    }

    /// Registers with the epmd on this port, not with the one that the tests share.
    pub fn epmd_port(mut self, port: u16) -> Self {
        self.epmd_port = Some(port);
        self
    }

    /// A variable of the node's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// More flags for `erl`, as words.
    pub fn flags<'a>(mut self, flags: impl IntoIterator<Item = &'a str>) -> Self {
        self.flags.extend(flags.into_iter().map(str::to_owned));
        self
    }

    /// Speaks TLS distribution, with this `ssl_dist_optfile`; its probe does the same.
    pub fn tls(mut self, options: PathBuf) -> Self {
        self.tls = Some(options);
        self
    }

    /// A Mix release that is told to be a daemon: what it starts has a space of processes of its own, which ends with the first
    /// in it.
    pub fn daemon(mut self) -> Self {
        self.daemon = true;
        self
    }

    /// Runs from the release's own directory, as several may, not from a copy.
    pub fn in_place(mut self) -> Self {
        self.in_place = true;
        self
    }

    /// Writes down what is done to its release directory, and lets [`Node::ail`] be said.
    pub fn journal(mut self) -> Self {
        self.journal = true;
        self
    }

    /// Started by `flyhot boot` with these arguments, and behind them its script.
    pub fn boot<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.boot = Some(args.into_iter().map(str::to_owned).collect());
        self
    }

    /// Starts the node and waits until it has booted.
    ///
    /// # Panics
    /// If it does not boot.
    pub fn start(self) -> Node {
        let node = self.launch();
        wait_until(&format!("{} boots", node.name), BOOT_LIMIT, || {
            matches!(
                node.probe().try_eval("init:get_status().").as_deref(),
                Ok("{started,started}")
            )
        });
        node
    }

    fn launch(self) -> Node {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let scratch = Scratch::new("node");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let default_host = if self.short { "localhost" } else { "127.0.0.1" };
        let host = self.host.as_deref().unwrap_or(default_host);
        let name = format!("node_{}_{number}@{host}", std::process::id());
        let cookie = format!("cookie_{}_{number}", std::process::id());
        let epmd_port = self.epmd_port.unwrap_or_else(|| Epmd::shared().port());
        let distribution = if self.short { "sname" } else { "name" };

        let directory = match &self.release {
            Some(release) if self.in_place => release.directory().to_owned(),
            _ => scratch.path().join("release"),
        };
        if let Some(release) = &self.release
            && !self.in_place
        {
            std::fs::create_dir(&directory).expect("our own directory");
            copy(release.directory(), &directory);
        }
        let mix = directory.join(SHOP);
        let starts = |script: &Path| match &self.boot {
            None => mortal(script),
            Some(args) => {
                let mut command = mortal(Flyhot::binary());
                command.arg("boot").args(args).arg("--").arg(script);
                command
            }
        };
        let mut environment = Vec::new();
        let mut command = match &self.release {
            Some(_) if mix.exists() => {
                let tmp = scratch.path().join("tmp").display().to_string();
                for (variable, value) in [
                    ("RELEASE_DISTRIBUTION", distribution),
                    ("RELEASE_NODE", &name),
                    ("RELEASE_COOKIE", &cookie),
                    ("RELEASE_TMP", &tmp),
                ] {
                    environment.push((variable.to_owned(), value.to_owned()));
                }
                let mut command = if self.daemon {
                    let mut command = mortal(Path::new("unshare"));
                    command.args(["--map-root-user", "--pid", "--fork", "--kill-child", "sh", "-c"]);
                    command
                        .arg("ulimit -n 4096; \"$0\" daemon && exec sleep infinity")
                        .arg(&mix);
                    command
                } else {
                    let mut command = starts(&mix);
                    command.arg("start");
                    command
                };
                self.otp.surround(&mut command, scratch.path());
                command
            }
            Some(_) => {
                let mut command = starts(&directory.join("bin/start"));
                self.otp.surround(&mut command, scratch.path());
                command.args([&format!("-{distribution}"), &name, "-setcookie", &cookie]);
                command
            }
            None => {
                let mut command = self.otp.command("erl", scratch.path());
                command
                    .args(["-noinput", &format!("-{distribution}"), &name])
                    .args(["-setcookie", &cookie]);
                command
            }
        };
        let mut flags = self.flags;
        flags.extend(self.tls.as_deref().map(tls_flags).into_iter().flatten());
        for (variable, value) in [
            ("ERL_EPMD_PORT", epmd_port.to_string()),
            // The epmd of the tests is started by the tests.
            ("ERL_AFLAGS", "-start_epmd false".to_owned()),
            ("ERL_ZFLAGS", flags.join(" ")),
        ] {
            environment.push((variable.to_owned(), value));
        }
        environment.extend(self.environment);
        command
            .current_dir(scratch.path())
            .envs(environment.iter().map(|(name, value)| (name, value)));
        if self.journal {
            command
                .env("LD_PRELOAD", library(self.otp))
                .env("DISK_BELOW", real(&directory))
                .env("DISK_LOG", scratch.path().join(JOURNAL))
                .env("DISK_FAILS", scratch.path().join(AILMENT));
        }
        let process = Process::start(&name, command, scratch.path().join("log"));
        Node {
            name,
            cookie,
            otp: self.otp,
            epmd_port,
            tls: self.tls,
            release: self.release,
            directory,
            environment,
            probe: OnceLock::new(),
            process,
            scratch,
        }
    }
}

impl Node {
    /// A node that runs a copy of `release`.
    pub fn release(release: &Release) -> NodeBuilder {
        Self::builder(release.otp(), Some(release.clone()))
    }

    /// A plain `erl`.
    pub fn erl(otp: Otp) -> NodeBuilder {
        Self::builder(otp, None)
    }

    fn builder(otp: Otp, release: Option<Release>) -> NodeBuilder {
        NodeBuilder {
            otp,
            release,
            host: None,
            short: false,
            epmd_port: None,
            environment: Vec::new(),
            flags: Vec::new(),
            tls: None,
            daemon: false,
            in_place: false,
            journal: false,
            boot: None,
        }
    }

    /// Its name, `name@host`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its cookie.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Its version.
    pub fn otp(&self) -> Otp {
        self.otp
    }

    /// The port of the epmd that knows it.
    pub fn epmd_port(&self) -> u16 {
        self.epmd_port
    }

    /// The process id of its VM.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The release directory it runs from: its own copy, unless it was started in place.
    pub fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// The release as it lies there now, for another node to boot.
    pub fn disk(&self) -> Release {
        Release::at(self.otp, self.directory())
    }

    /// What was done to that directory, of a node that was started with [`NodeBuilder::journal`].
    pub fn journal(&self) -> Journal {
        let release = self.release.as_ref().expect("a release");
        Journal::read(
            &self.scratch.path().join(JOURNAL),
            &real(&self.directory),
            release,
        )
    }

    /// From now on that directory takes `count` more changes and no other; none any more, or all again without.
    pub fn ail(&self, ailment: Option<(u64, Ailment)>) {
        let path = self.scratch.path().join(AILMENT);
        let words = ailment.map(|(count, ailment)| format!("{count} {}", ailment.errno()));
        // In one step: the node reads it whenever it likes.
        let new = path.with_extension("new");
        std::fs::write(&new, words.unwrap_or_default())
            .and_then(|()| std::fs::rename(&new, &path))
            .expect("our own directory");
    }

    /// Runs the script of its Mix release with this word to its end, as whoever started it would.
    ///
    /// # Panics
    /// With what it said, if it failed.
    pub fn script(&self, word: &str) {
        let mut command = mortal(&self.directory.join(SHOP));
        self.otp.surround(&mut command, self.scratch.path());
        command
            .arg(word)
            .current_dir(self.scratch.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        run(command);
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The judge of this node, connected when first asked for.
    pub fn probe(&self) -> &Probe {
        self.probe.get_or_init(|| self.another_probe())
    }

    /// A judge with a connection of its own, for a test that asks from two threads at once.
    pub fn another_probe(&self) -> Probe {
        let flags = self.tls.as_deref().map(tls_flags).into_iter().flatten();
        Probe::connect(self.otp, &self.name, &self.cookie, self.epmd_port, flags)
    }

    /// Whether its VM still runs.
    pub fn is_alive(&mut self) -> bool {
        self.process.is_alive()
    }

    /// Kills its VM with SIGKILL.
    pub fn kill(&mut self) -> ExitStatus {
        self.process.kill()
    }

    /// Stops its VM with SIGSTOP: connections stay, and nothing is answered until [`Node::wake`].
    pub fn pause(&self) {
        signal("STOP", &self.pid().to_string());
    }

    /// Ends [`Node::pause`].
    pub fn wake(&self) {
        signal("CONT", &self.pid().to_string());
    }
}

fn tls_flags(options: &Path) -> [String; 4] {
    let options = options.display().to_string();
    ["-proto_dist", "inet_tls", "-ssl_dist_optfile", &options].map(str::to_owned)
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}, {})", self.name, self.pid(), self.otp)
    }
}

/// As a release's script finds it.
fn real(directory: &Path) -> PathBuf {
    directory.canonicalize().expect("it is there")
}

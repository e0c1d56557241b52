//! An epmd and nodes of the OTP under test, ended when they are dropped, also by a panic.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use flyhot_node::{ConnectOptions, Cookie, NodeName, Session, connect};

/// What a loaded machine may need for anything that takes milliseconds.
pub(crate) const SOON: Duration = Duration::from_secs(30);

const COOKIE: &str = "a cookie of the tests";

/// A program of the OTP in FLYHOT_OTP_BIN, or of the one on PATH.
fn otp(program: &str) -> Command {
    let mut command = match std::env::var_os("FLYHOT_OTP_BIN") {
        Some(directory) => Command::new(PathBuf::from(directory).join(program)),
        None => Command::new(program),
    };
    command.stdin(Stdio::null());
    command
}

fn spawn(mut command: Command) -> Child {
    command.spawn().unwrap_or_else(|error| {
        panic!(
            "{} does not start ({error}): install Erlang/OTP 25 or newer, or name its bin directory in FLYHOT_OTP_BIN",
            command.get_program().display()
        )
    })
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// An epmd of its own.
pub(crate) struct Epmd {
    child: Child,
    pub(crate) port: u16,
}

impl Epmd {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let mut command = otp("epmd");
        // It would tell of the connections made below to see whether it listens.
        command.args(["-port", &port.to_string()]).stderr(Stdio::null());
        let mut epmd = Self {
            child: spawn(command),
            port,
        };
        let end = Instant::now() + SOON;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(epmd.child.try_wait().unwrap().is_none(), "epmd ended");
            assert!(Instant::now() < end, "epmd does not listen");
            std::thread::yield_now();
        }
        epmd
    }
}

impl Drop for Epmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running node.
pub(crate) struct Node {
    child: Child,
    pub(crate) name: NodeName,
    epmd_port: u16,
}

impl Node {
    /// A node with a short name on `localhost`.
    pub(crate) fn start(epmd: &Epmd, more: &[&str]) -> Self {
        Self::named(epmd, "-sname", "localhost", more)
    }

    /// Starts a node and waits until it runs; `kind` is `-name` or `-sname`.
    pub(crate) fn named(epmd: &Epmd, kind: &str, host: &str, more: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("node_{}_{count}@{host}", std::process::id());
        let mut command = otp("erl");
        command
            .args([
                kind,
                &name,
                "-setcookie",
                COOKIE,
                "-start_epmd",
                "false",
                "-noinput",
                "+S",
                "1:1",
            ])
            .args(more)
            .args(["-eval", "io:put_chars(\"ready\\n\")"])
            .env("ERL_EPMD_PORT", epmd.port.to_string())
            .stdout(Stdio::piped());
        let mut node = Self {
            child: spawn(command),
            name: name.parse().unwrap(),
            epmd_port: epmd.port,
        };
        let mut line = String::new();
        BufReader::new(node.child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "{name} did not start");
        node
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions {
            peer: self.name.clone(),
            cookie: Cookie::new(COOKIE),
            dist_port: None,
            epmd_port: self.epmd_port,
            tls: None,
            step_timeout: SOON,
        }
    }

    pub(crate) async fn connect(&self) -> Session {
        connect(&self.options()).await.unwrap()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

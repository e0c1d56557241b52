//! An epmd of the tests' own, so that they meet no node of anybody else.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::otp::Otp;
use crate::process::Process;
use crate::scratch::Scratch;

/// epmd listens within some ten milliseconds; a loaded machine may take a hundred times that.
const READY: Duration = Duration::from_secs(5);

/// A running epmd.
#[derive(Debug)]
pub struct Epmd {
    port: u16,
    process: Process,
    _scratch: Scratch,
}

impl Epmd {
    /// The one epmd of this test process; it ends with the process.
    pub fn shared() -> &'static Epmd {
        static SHARED: OnceLock<Epmd> = OnceLock::new();
        SHARED.get_or_init(|| Epmd::start(Otp::under_test()))
    }

    /// Starts an epmd on a port that nobody uses.
    pub fn start(otp: Otp) -> Self {
        loop {
            let port = free_port();
            let scratch = Scratch::new("epmd");
            let mut command = otp.command("epmd", scratch.path());
            command.args(["-port", &port.to_string()]);
            let mut process = Process::start("epmd", command, scratch.path().join("log"));
            let begun = Instant::now();
            // Somebody may take the port between our look and epmd's: then epmd ends, and we try another.
            while process.is_alive() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return Self {
                        port,
                        process,
                        _scratch: scratch,
                    };
                }
                assert!(begun.elapsed() < READY, "epmd does not listen: {}", process.log());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it; nodes that run go on, and cannot be found any more.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// A TCP port that nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
        .port()
}

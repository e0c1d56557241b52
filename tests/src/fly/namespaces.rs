//! Machines in network namespaces of their own: each has its address in one private network, and nothing else of the net.
//!
//! The network is a bridge in a namespace that belongs to it; the net of the machine that the tests run on is not touched. Root and
//! iproute2 are needed.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use super::host::{Host, Spot};
use crate::flyhot::build;
use crate::process::{Process, mortal};
use crate::scratch::Scratch;
use crate::wait::wait_until;

/// What names of ours begin with; the pid of the test process follows.
const OURS: &str = "flyhot-";

/// A private network for machines; it goes with its value.
#[derive(Debug)]
pub struct Namespaces {
    /// The namespace of the bridge, which is what others of a test run in to reach machines.
    hub: String,
    // Before the directory that their logs are in: who fails is shown them.
    relays: Mutex<Vec<Process>>,
    scratch: Scratch,
}

impl Namespaces {
    /// Whether networks can be made here; else what is missing, in a sentence.
    ///
    /// # Errors
    /// That sentence.
    pub fn possible() -> Result<(), String> {
        let hub = format!("{OURS}{}-{}", std::process::id(), number());
        let tried = tried(&["netns", "add", &hub])
            .and_then(|()| tried(&["-n", &hub, "link", "add", "bridge", "type", "bridge"]))
            .and_then(|()| {
                tried(&[
                    "-n", &hub, "link", "add", "one", "type", "veth", "peer", "name", "two",
                ])
            });
        remove(&hub);
        tried
    }

    /// Where services of the network are, as Fly's own are.
    pub const SERVICES: Ipv6Addr = Ipv6Addr::new(0xFDAA, 0, 0, 0, 0, 0, 0, 3);

    /// Makes one.
    ///
    /// # Panics
    /// Where it may not be made: without root, or without iproute2.
    pub fn start() -> Self {
        static TIDY: Once = Once::new();
        TIDY.call_once(remove_what_the_dead_left);
        let hub = format!("{OURS}{}-{}", std::process::id(), number());
        ip(&["netns", "add", &hub]);
        ip(&["-n", &hub, "link", "set", "lo", "up"]);
        let mac = mac(Self::SERVICES);
        ip(&[
            "-n", &hub, "link", "add", "bridge", "address", &mac, "type", "bridge",
        ]);
        ip(&["-n", &hub, "link", "set", "bridge", "up"]);
        // Addresses are there at once: nobody else is in this network who might have the same.
        let address = format!("{}/16", Self::SERVICES);
        ip(&["-n", &hub, "addr", "add", &address, "dev", "bridge", "nodad"]);
        Self {
            hub,
            relays: Mutex::default(),
            scratch: Scratch::new("network"),
        }
    }

    /// A program that reaches every machine, and that none is.
    pub fn beside(&self, program: &Path) -> Command {
        within(&self.hub, program)
    }

    /// The namespace that reaches every machine.
    pub(crate) fn hub(&self) -> &str {
        &self.hub
    }

    /// A place for machines in this network.
    pub fn host(&self) -> Box<dyn Host> {
        Box::new(Places {
            hub: self.hub.clone(),
        })
    }

    /// The namespace of a machine.
    pub(crate) fn of(&self, id: &str) -> String {
        format!("{}-{id}", self.hub)
    }

    /// Nothing comes to a machine over the network any more, and nothing from it. What is told there itself still arrives.
    pub(crate) fn cut(&self, id: &str) {
        ip(&["-n", &self.hub, "link", "set", &link(id), "down"]);
    }

    /// Ends [`Namespaces::cut`].
    pub(crate) fn mend(&self, id: &str) {
        ip(&["-n", &self.hub, "link", "set", &link(id), "up"]);
    }

    /// What listens at `to` on the machine that the tests run on is in this network too, at [`Namespaces::SERVICES`] and `port`.
    pub fn offer(&self, port: u16, to: SocketAddr) {
        let socket = self.scratch.path().join(port.to_string());
        // A socket in the file system is the same one in every network.
        let listener = UnixListener::bind(&socket).expect("the scratch directory can be written");
        std::thread::spawn(move || {
            let incoming = listener.incoming().map_while(Result::ok);
            incoming.for_each(|near| meet(near, move || TcpStream::connect(to)));
        });
        let address = format!("[{}]:{port}", Self::SERVICES);
        self.relay(self.beside(relay()), [&address, text(&socket)]);
    }

    /// What listens at `port` on a machine of this network is where the tests run, too: at the port of the answer.
    pub fn reach(&self, id: &str, port: u16) -> u16 {
        let socket = self.scratch.path().join(format!("{id}-{}", number()));
        let within = within(&self.of(id), relay());
        self.relay(within, [text(&socket), &format!("127.0.0.1:{port}")]);
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let here = listener.local_addr().expect("it is bound").port();
        std::thread::spawn(move || {
            let incoming = listener.incoming().map_while(Result::ok);
            incoming.for_each(|near| {
                let socket = socket.clone();
                meet(near, move || UnixStream::connect(socket));
            });
        });
        here
    }

    fn relay(&self, mut command: Command, words: [&str; 2]) {
        let log = self.scratch.path().join(format!("{}.log", number()));
        command.args(words);
        let process = Process::start("relay", command, log.clone());
        wait_until("the relay listens", Duration::from_secs(10), || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains("listens"))
        });
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        relays.push(process);
    }
}

/// The end of a machine's link at the bridge; fifteen letters are what one may have.
fn link(id: &str) -> String {
    format!("v{}", &id[..id.len().min(14)])
}

/// The hardware address of whoever has this one: always the same, since neighbours remember it for a minute. One that changed, as a bridge's
/// does by itself when the machine with the least leaves, loses for so long what others send.
fn mac(address: Ipv6Addr) -> String {
    let [.., a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// No two are the same.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn relay() -> &'static Path {
    static RELAY: OnceLock<PathBuf> = OnceLock::new();
    RELAY.get_or_init(|| build(&["--bin", "relay"], "relay"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("our own")
}

/// Carries one connection, on threads of its own.
fn meet<A: Duplex, B: Duplex>(near: A, connect: impl FnOnce() -> std::io::Result<B> + Send + 'static) {
    std::thread::spawn(move || {
        // A peer that goes away in the middle takes the other with it.
        if let Ok(far) = connect() {
            join(near, far);
        }
    });
}

/// Copies between two connections, in both directions, until each has ended.
pub fn join<A: Duplex, B: Duplex>(near: A, far: B) {
    let (mut from_near, mut to_near) = (near.again(), near);
    let (mut from_far, mut to_far) = (far.again(), far);
    let there = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_near, &mut to_far);
        to_far.ends();
    });
    let _ = std::io::copy(&mut from_far, &mut to_near);
    to_near.ends();
    let _ = there.join();
}

/// A connection that is read and written by two threads.
pub trait Duplex: Read + Write + Send + 'static {
    /// The same connection.
    fn again(&self) -> Self;

    /// Nothing more is written.
    fn ends(&self);
}

impl Duplex for TcpStream {
    fn again(&self) -> Self {
        self.try_clone().expect("a second handle")
    }

    fn ends(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Duplex for UnixStream {
    fn again(&self) -> Self {
        self.try_clone().expect("a second handle")
    }

    fn ends(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// Where machines of a network are.
struct Places {
    hub: String,
}

impl Places {
    fn of(&self, spot: &Spot) -> String {
        format!("{}-{}", self.hub, spot.id)
    }

    /// Puts a machine into the network, if it is not there.
    fn place(&self, spot: &Spot) -> String {
        let name = self.of(spot);
        if Path::new("/run/netns").join(&name).exists() {
            return name;
        }
        let link = link(&spot.id);
        ip(&["netns", "add", &name]);
        ip(&[
            "-n",
            &self.hub,
            "link",
            "add",
            &link,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            &mac(spot.address),
            "netns",
            &name,
        ]);
        ip(&["-n", &self.hub, "link", "set", &link, "master", "bridge", "up"]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        ip(&["-n", &name, "link", "set", "eth0", "up"]);
        let address = format!("{}/16", spot.address);
        ip(&["-n", &name, "addr", "add", &address, "dev", "eth0", "nodad"]);
        name
    }
}

impl Host for Places {
    fn command(&self, spot: &Spot, program: &Path) -> Command {
        within(&self.place(spot), program)
    }

    fn processes(&self, spot: &Spot) -> Vec<u32> {
        let output = Command::new("ip")
            .args(["netns", "pids", &self.of(spot)])
            .output()
            .expect("iproute2 is there");
        let pids = String::from_utf8_lossy(&output.stdout).into_owned();
        pids.lines().filter_map(|pid| pid.trim().parse().ok()).collect()
    }

    fn gone(&self, spot: &Spot) {
        let name = self.of(spot);
        if Path::new("/run/netns").join(&name).exists() {
            ip(&["netns", "del", &name]);
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // Machines that are still there belong to this network too.
        remove(&self.hub);
    }
}

/// A program in a namespace: `ip` becomes it, under its own process id.
pub(crate) fn within(name: &str, program: &Path) -> Command {
    let mut command = mortal(Path::new("ip"));
    command.args(["netns", "exec", name]).arg(program);
    command
}

fn ip(words: &[&str]) {
    tried(words).unwrap_or_else(|missing| panic!("{missing}"));
}

fn tried(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| {
        format!("iproute2 is needed for machines with a network (`apt-get install iproute2`): ip: {error}")
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "root is needed for machines with a network: ip {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
            .lines()
            .next()
            .unwrap_or_default()
    ))
}

/// Removes the networks of this process.
pub(crate) fn remove_ours() {
    remove(&format!("{OURS}{}", std::process::id()));
}

/// Removes the namespaces whose names begin so.
fn remove(beginning: &str) {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == beginning || name.starts_with(&format!("{beginning}-")) {
            // Somebody else may remove it at this moment.
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// Removes the networks of test processes that were killed.
fn remove_what_the_dead_left() {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(OURS).and_then(|rest| rest.split('-').next());
        if let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new("/proc").join(pid.to_string()).exists()
        {
            remove(&format!("{OURS}{pid}"));
        }
    }
}

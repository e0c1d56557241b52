//! A crowd of nodes that are none: they speak the distribution protocol as one real node does, from which they have it, and there may be
//! thousands of them.
//!
//! The way to the real node leads through here. A driver comes back to a node, with other questions each time: what passed on each
//! connection of the real one is kept, and by its first question everybody in the crowd knows which of them theirs is to be. They say the
//! same, each in its own name; what the real one was not asked is refused and told. So nobody here knows what an agent is, and a driver
//! that speaks otherwise is met as it speaks.
//!
//! Each has an address of its own in 127.1.0.0/16, by which it is known who is meant: all of them share one port, and one epmd that
//! says so.
//!
//! Source: Erlang Distribution Protocol, "The EPMD Protocol" and "Distribution Handshake".

mod tape;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use md5::{Digest as _, Md5};

use crate::flyhot::Flyhot;
use crate::node::Node;
use crate::peer::{framed, message};
use crate::release::Release;
use crate::scratch::workspace;
use tape::{Passed, Role, Tape};

/// A connection that nobody uses any more; longer than any command of the tests waits for an answer.
const ABANDONED: Duration = Duration::from_secs(120);

/// How long whoever is asked something new waits for the real node to have been asked it: it is among the first who are, and what it is
/// asked takes a second.
const LEARNING: Duration = Duration::from_secs(20);

/// The most connections at a time: beyond it somebody forgot to close them. Far below the files that a process may have open.
const CONNECTIONS: usize = 400;

/// The most that can be told apart by their addresses.
const MEMBERS: usize = 256 * 250;

/// Nodes that say what a real one said.
pub struct Crowd {
    names: Vec<String>,
    epmd_port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    real: String,
    cookie: String,
    members: HashMap<IpAddr, String>,
    /// One of each connection of the real node that has ended, the last one last.
    tapes: Mutex<Vec<Arc<Tape>>>,
    learned: Condvar,
    wrongs: Mutex<Vec<String>>,
    asked: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl fmt::Debug for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd")
            .field("members", &self.names.len())
            .finish_non_exhaustive()
    }
}

impl Crowd {
    /// So many nodes that know the cookie of `node` and say what it said to whoever connected to it through here.
    ///
    /// # Panics
    /// If they are too many, or there is no port for them.
    pub fn of(node: &Node, count: usize) -> Self {
        assert!(count <= MEMBERS, "at most {MEMBERS} have an address");
        let members: Vec<(IpAddr, String)> = (0..count).map(|at| member(node.name(), at)).collect();
        let names: Vec<String> = members.iter().map(|(_, name)| name.clone()).collect();
        let shared = Arc::new(Shared {
            real: node.name().to_owned(),
            cookie: node.cookie().to_owned(),
            members: members.into_iter().collect(),
            tapes: Mutex::default(),
            learned: Condvar::new(),
            wrongs: Mutex::default(),
            asked: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let port = port_of(node).expect("epmd knows the node");
        let way = listen(&shared, move |shared, driver| pass(shared, driver, port));
        let crowd = listen(&shared, play);
        let mut ports: HashMap<String, u16> = names.iter().map(|name| (own(name), crowd)).collect();
        ports.insert(own(node.name()), way);
        let epmd_port = listen(&shared, move |_, asker| tell(asker, &ports));
        Self {
            names,
            epmd_port,
            shared,
        }
    }

    /// `flyhot rollout` to the real node, then to all of them, so many at once, with a store in that directory.
    ///
    /// # Panics
    /// If a path is no text.
    pub fn rollout(&self, release: &Release, store: &Path, at_once: usize) -> Flyhot {
        let policy = workspace().join("tests/fixtures/watch/alike.toml");
        let [release, store, policy] =
            [release.directory(), store, &policy].map(|path| path.to_str().expect("our own"));
        let at_once = at_once.to_string();
        Flyhot::new(["rollout", "--node", &self.shared.real])
            .args(self.names.iter().map(String::as_str))
            .args(["--canary", "--max-concurrency", &at_once, "--release", release])
            .args([
                "--app", "shop", "--store", store, "--policy", policy, "--output", "json",
            ])
            .env("RELEASE_COOKIE", &self.shared.cookie)
            .env("ERL_EPMD_PORT", &self.epmd_port.to_string())
    }

    /// What they were asked that the real node was not, and what they were not asked that it was.
    pub fn wrongs(&self) -> Vec<String> {
        lock(&self.shared.wrongs).clone()
    }

    /// How many of them had a connection at the same time.
    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::Relaxed)
    }

    /// How often all of them were asked something.
    pub fn questions(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// What was learned of the real node, once that is enough or nothing more is to be expected.
    fn tapes(&self, mut enough: impl FnMut(&[Arc<Tape>]) -> bool) -> MutexGuard<'_, Vec<Arc<Tape>>> {
        let waited = self
            .learned
            .wait_timeout_while(lock(&self.tapes), LEARNING, |tapes| !enough(tapes));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The address and the name of the one at this place: the name is as long as that of the real node.
fn member(real: &str, at: usize) -> (IpAddr, String) {
    let [high, low] = [at / 250, at % 250 + 1].map(|part| u8::try_from(part).expect("at most MEMBERS"));
    let address = Ipv4Addr::new(127, 1, high, low);
    let width = real.len().checked_sub(address.to_string().len() + 2);
    let width = width.expect("the name of a node of the tests is longer than an address");
    (address.into(), format!("n{at:0>width$}@{address}"))
}

/// The part of a name that epmd knows.
fn own(name: &str) -> String {
    name.split('@').next().unwrap_or_default().to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens on every address of this machine, for this machine alone; the port.
fn listen(shared: &Arc<Shared>, each: impl Fn(&Shared, TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    let (shared, each) = (Arc::clone(shared), Arc::new(each));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let ours = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
            let timed = stream.set_read_timeout(Some(ABANDONED)).is_ok() && stream.set_nodelay(true).is_ok();
            if !ours || !timed {
                continue;
            }
            let (shared, each) = (Arc::clone(&shared), Arc::clone(&each));
            std::thread::spawn(move || each(&shared, stream));
        }
    });
    port
}

/// Answers as epmd: who is asked for listens on this port.
fn tell(mut asker: TcpStream, ports: &HashMap<String, u16>) {
    let Ok(request) = message(&mut asker, 2) else {
        return;
    };
    // PORT_PLEASE2_REQ; nothing else is asked of it.
    let Some((122, name)) = request.split_first() else {
        return;
    };
    let answer = match ports.get(&*String::from_utf8_lossy(name)) {
        Some(port) => {
            let length = (name.len() as u16).to_be_bytes();
            let port = port.to_be_bytes();
            // A node that is seen (77), by TCP (0), of versions 6 to 5, with nothing more.
            [&[119, 0][..], &port, &[77, 0, 0, 6, 0, 5], &length, name, &[0, 0]].concat()
        }
        None => vec![119, 1],
    };
    // Whoever asked may be gone.
    let _ = asker.write_all(&answer);
}

/// Where a real node listens, by the epmd that knows it.
fn port_of(node: &Node) -> io::Result<u16> {
    let mut epmd = TcpStream::connect((Ipv4Addr::LOCALHOST, node.epmd_port()))?;
    epmd.set_read_timeout(Some(ABANDONED))?;
    epmd.write_all(&framed(2, &[&[122], own(node.name()).as_bytes()].concat()))?;
    let mut answer = [0; 4];
    epmd.read_exact(&mut answer)?;
    Ok(u16::from_be_bytes([answer[2], answer[3]]))
}

/// Between a driver and the real node: passes everything on, and keeps what passed.
fn pass(shared: &Shared, driver: TcpStream, port: u16) {
    let kept = || -> io::Result<Passed> {
        let node = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        node.set_nodelay(true)?;
        let (from, to) = (driver.try_clone()?, node.try_clone()?);
        let asking = std::thread::spawn(move || carry(from, to, 2));
        let (mut handshake, answered) = carry(node, driver, 3);
        let (_, asked) = asking.join().unwrap_or_default();
        handshake.truncate(2);
        Ok(Passed {
            handshake,
            asked,
            answered,
        })
    };
    let tape = kept()
        .map_err(|error| error.to_string())
        .and_then(|passed| Tape::of(&shared.real, passed));
    match tape {
        Ok(tape) => {
            lock(&shared.tapes).push(Arc::new(tape));
            shared.learned.notify_all();
        }
        Err(why) => lock(&shared.wrongs).push(format!("nothing was learned of {}: {why}", shared.real)),
    }
}

/// From one to the other, until one of them ends it: so many messages of a handshake, then frames, without ticks.
fn carry(mut from: TcpStream, mut to: TcpStream, handshake: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut first, mut frames) = (Vec::new(), Vec::new());
    loop {
        let (width, kept) = if first.len() < handshake {
            (2, &mut first)
        } else {
            (4, &mut frames)
        };
        let Ok(bytes) = message(&mut from, width) else {
            break;
        };
        if to.write_all(&framed(width, &bytes)).is_err() {
            break;
        }
        if !bytes.is_empty() {
            kept.push(bytes);
        }
    }
    // It may be closed already.
    let _ = to.shutdown(Shutdown::Both);
    (first, frames)
}

/// One of the crowd, on one connection.
fn play(shared: &Shared, mut driver: TcpStream) {
    let now = shared.now.fetch_add(1, Ordering::Relaxed) + 1;
    shared.most.fetch_max(now, Ordering::Relaxed);
    if let Err(why) = part(shared, &mut driver, now) {
        lock(&shared.wrongs).push(why);
    }
    shared.now.fetch_sub(1, Ordering::Relaxed);
}

fn part(shared: &Shared, driver: &mut TcpStream, now: usize) -> Result<(), String> {
    if now > CONNECTIONS {
        return Err(format!("{now} connections at a time"));
    }
    let address = driver.local_addr().map_err(|error| error.to_string())?.ip();
    let name = shared.members.get(&address);
    let name = name.ok_or_else(|| format!("somebody looked for a node on {address}"))?;
    let lost = |error: io::Error| format!("{name}: {error}");
    let last = shared.tapes(|tapes| !tapes.is_empty()).last().cloned();
    let last =
        last.ok_or_else(|| format!("{name} has nobody from whom it could have learned what to say"))?;
    let mut role = Role::new(last, name);

    // The driver's name, which it wants to be given; then status, challenge, and each proves that it knows the cookie.
    message(driver, 2).map_err(lost)?;
    let (challenge, number) = role.challenge();
    let opening = [framed(2, &role.status()), framed(2, &challenge)].concat();
    driver.write_all(&opening).map_err(lost)?;
    let answer = message(driver, 2).map_err(lost)?;
    let proof = |number: u32| Md5::digest(format!("{}{number}", shared.cookie));
    let (Some(theirs), Some(digest)) = (answer.get(1..5), answer.get(5..)) else {
        return Err(format!(
            "{name} was sent {} bytes for an answer to its challenge",
            answer.len()
        ));
    };
    if digest != &proof(number)[..] {
        return Err(format!("{name} was shown another cookie"));
    }
    let theirs = theirs
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte));
    let proven = [&b"a"[..], &proof(theirs)].concat();
    driver.write_all(&framed(2, &proven)).map_err(lost)?;

    let mut wrongs = Vec::new();
    while let Ok(frame) = message(driver, 4) {
        drop(shared.tapes(|all| role.finds(all, &frame)));
        match role.says(&frame) {
            Some(line) => {
                // A tick is no question.
                shared
                    .asked
                    .fetch_add(usize::from(!frame.is_empty()), Ordering::Relaxed);
                wrongs.extend(line.wrong);
                driver.write_all(&line.frame).map_err(lost)?;
            }
            None => wrongs.push(format!("{name} was sent {} bytes that are no call", frame.len())),
        }
    }
    if role.left() > 0 && wrongs.is_empty() {
        wrongs.push(format!("{name} was not asked the last {} questions", role.left()));
    }
    if wrongs.is_empty() {
        Ok(())
    } else {
        Err(wrongs.join("; "))
    }
}

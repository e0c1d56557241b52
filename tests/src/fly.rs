//! A Fly of the test: the Machines API, whose machines are processes here, and the executable that people call.
//!
//! It is made after Fly's description of the API, its documentation and flyctl's source, and shares no code with flyhot's client. What
//! could not be verified is a knob in [`FlyIlls`]. Every request is recorded, so that a test can count calls and judge rates.

mod cli;
mod clock;
mod exec;
mod host;
mod http;
mod ills;
mod lease;
mod machine;
mod namespaces;
mod rates;
mod routes;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use cli::{FlyCli, Upload};
pub use host::{Host, Local, Spot};
pub use ills::{CrossApp, FlyIlls, RetryAfter};
pub use namespaces::{Duplex, Namespaces, join};
pub(crate) use namespaces::{remove_ours, within};

use crate::process::signal;
use crate::rounds::Random;
use crate::scratch::Scratch;
use world::World;

/// What a token may.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whom it speaks for, as leases and `fly auth whoami` show it.
    pub user: String,
    /// The apps that it is for.
    pub apps: Vec<String>,
    /// Whether it may lease.
    pub may_lease: bool,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Record {
    /// When.
    pub at: Instant,
    /// Its method.
    pub method: String,
    /// Its path, without what follows `?`.
    pub path: String,
    /// What follows it.
    pub query: String,
    /// Its headers; of `authorization` only the first word.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
    /// The status of the answer; nothing where the connection was broken instead.
    pub status: Option<u16>,
}

/// What the API, its threads and the processes of its machines share.
struct Shared {
    world: Mutex<World>,
    /// Told whenever a machine changes.
    changed: Condvar,
    host: Box<dyn Host>,
    scratch: Scratch,
    stopped: AtomicBool,
}

/// The API; its machines end with it.
pub struct Fly {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl fmt::Debug for Fly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fly")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Fly {
    /// A token that may everything in the app [`Fly::APP`].
    pub const TOKEN: &'static str = "fm2_lJPECAAAAAAAtoken,fm2_lJPECAAAAAAAdischarge";

    /// The app that is there.
    pub const APP: &'static str = "shop";

    /// Starts one whose machines are processes of this machine; what befalls whom is drawn from `random`.
    pub fn start(ills: FlyIlls, random: Random) -> Self {
        Self::on(Box::new(Local), ills, random)
    }

    /// The same, with machines of `host`.
    pub fn on(host: Box<dyn Host>, ills: FlyIlls, random: Random) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let scratch = Scratch::new("fly");
        std::fs::create_dir_all(scratch.path().join("images")).expect("the scratch directory can be written");
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(ills, random, scratch.path().join("images"))),
            changed: Condvar::new(),
            host,
            scratch,
            stopped: AtomicBool::new(false),
        });
        let fly = Self { address, shared };
        fly.allow_all(Self::TOKEN);
        let accepting = Arc::clone(&fly.shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    // A client that goes away in the middle is what some of this is about.
                    let _ = shared.serve(client);
                });
            }
        });
        fly
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address, for `FLY_FLAPS_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What ails it from now on.
    pub fn ail(&self, ills: FlyIlls) {
        self.shared.world().ills = ills;
    }

    /// A secret of the app: a variable of every machine that is started from now on.
    pub fn secret(&self, name: &str, value: &str) {
        let mut world = self.shared.world();
        world.secrets.insert(name.to_owned(), value.to_owned());
    }

    /// A token that may everything in the app that is there.
    pub fn allow_all(&self, token: &str) {
        self.allow(
            token,
            Grant {
                user: "alice@example.com".to_owned(),
                apps: vec![Self::APP.to_owned()],
                may_lease: true,
            },
        );
    }

    /// Another token.
    pub fn allow(&self, token: &str, grant: Grant) {
        let mut world = self.shared.world();
        for part in token.split(',') {
            world.tokens.insert(part.to_owned(), grant.clone());
        }
        for app in grant.apps {
            world.apps.insert(app);
        }
    }

    /// A token that nobody knows any more: it was revoked, or has expired.
    pub fn revoke(&self, token: &str) {
        let mut world = self.shared.world();
        for part in token.split(',') {
            world.tokens.remove(part);
        }
    }

    /// An image: what a machine of that reference has for its root.
    pub fn push(&self, reference: &str, directory: &Path) {
        self.shared
            .world()
            .images
            .insert(reference.to_owned(), directory.to_owned());
    }

    /// Where images are pushed to: each a directory, `APP:LABEL`.
    fn registry(&self) -> PathBuf {
        self.shared.scratch.path().join("images")
    }

    /// An image with nothing in it but a directory: what runs comes from the machine that the tests run on.
    pub fn push_empty(&self, reference: &str) {
        let directory = self.shared.scratch.path().join("empty");
        std::fs::create_dir_all(&directory).expect("the scratch directory can be written");
        self.push(reference, &directory);
    }

    /// The requests that came until now.
    pub fn records(&self) -> Vec<Record> {
        self.shared.world().records.clone()
    }

    /// Those of a method, whose path ends so.
    pub fn asked(&self, method: &str, ending: &str) -> Vec<Record> {
        let mut records = self.records();
        records.retain(|record| record.method == method && record.path.ends_with(ending));
        records
    }

    /// Every machine that was ever made, as it is, whatever the API lets others see of it.
    pub fn machines(&self) -> Vec<Value> {
        let world = self.shared.world();
        world.machines.iter().map(|machine| machine.json()).collect()
    }

    /// Makes a machine as somebody else does, who knows no limits.
    ///
    /// # Panics
    /// If it is not made.
    pub fn make(&self, body: &Value) -> String {
        let made = self.shared.create(Self::APP, body, "flyctl@example.com");
        let made = made.unwrap_or_else(|refused| panic!("{body}: {refused:?}"));
        made["id"].as_str().expect("it has an id").to_owned()
    }

    /// Leases a machine as somebody else does.
    pub fn lease_away(&self, id: &str, holder: &str, ttl_s: u64) {
        let mut world = self.shared.world();
        let machine = world.machine_mut(id).expect("the machine is there");
        machine.lease = Some(lease::Lease::new(holder, "", ttl_s, "fly deploy"));
    }

    /// Whoever holds the lease of a machine lets it go.
    pub fn lease_back(&self, id: &str) {
        let mut world = self.shared.world();
        world.machine_mut(id).expect("the machine is there").lease = None;
    }

    /// What Fly says of the one check that a machine has.
    pub fn check(&self, id: &str, status: &str, output: &str) {
        self.check_in(id, Duration::ZERO, status, output);
    }

    /// What Fly says of it once it has looked again, so long from now.
    pub fn check_in(&self, id: &str, wait: Duration, status: &str, output: &str) {
        let check = json!({"name": "alive", "status": status, "output": output});
        let mut world = self.shared.world();
        let machine = world.machine_mut(id).expect("it is there");
        machine.checks = machine.checks_now();
        machine.next_look = Some((Instant::now() + wait, vec![check]));
    }

    /// A machine was made with checks of these names, and Fly looks at them so often.
    pub fn made_with_checks(&self, id: &str, names: &[&str], interval: Duration) {
        let (interval, timeout) = (format!("{}s", interval.as_secs()), "1s");
        let check = || json!({"type": "http", "port": 4000, "path": "/health", "interval": interval, "timeout": timeout});
        let checks = names.iter().map(|name| ((*name).to_owned(), check()));
        let mut world = self.shared.world();
        world.machine_mut(id).expect("it is there").config["checks"] = Value::Object(checks.collect());
    }

    /// A machine was made with a service, whose check passes.
    pub fn made_with_service(&self, id: &str) {
        let check = json!({"type": "http", "path": "/health", "interval": "1s", "timeout": "1s"});
        let service = json!({"protocol": "tcp", "internal_port": 4000, "autostop": "off", "checks": [check]});
        let mut world = self.shared.world();
        let machine = world.machine_mut(id).expect("it is there");
        machine.config["services"] = json!([service]);
        machine.checks =
            vec![json!({"name": "servicecheck-00-http-4000", "status": "passing", "output": "200 OK"})];
    }

    /// What Fly says of the host of a machine; the config is not known where that is not `ok`.
    pub fn host(&self, id: &str, status: &'static str) {
        let mut world = self.shared.world();
        world.machine_mut(id).expect("the machine is there").host_status = status;
    }

    /// Sets when a machine was made back, by so many seconds.
    pub fn age(&self, id: &str, seconds: u64) {
        let mut world = self.shared.world();
        let machine = world.machine_mut(id).expect("the machine is there");
        machine.created_at -= Duration::from_secs(seconds);
    }

    /// What a command wrote that was run on a machine, whoever holds its lease; nothing where it failed.
    pub fn run(&self, id: &str, words: &[&str]) -> Option<String> {
        let body = serde_json::json!({"command": words, "timeout": 30});
        let answer: Value = serde_json::from_slice(&self.shared.exec(id, &body).ok()?.body).ok()?;
        (answer["exit_code"] == 0).then(|| answer["stdout"].as_str().unwrap_or_default().to_owned())
    }

    /// Stops a machine as somebody else does, and waits until it is.
    pub fn stop(&self, id: &str) {
        self.shared.stop(id, &serde_json::json!({}), "stopping");
    }

    /// Starts a machine as somebody else does.
    pub fn start_again(&self, id: &str) {
        self.shared.launch(id, "stopped", true);
    }

    /// Destroys a machine as `fly machine destroy --force` does.
    pub fn destroy(&self, id: &str) {
        self.shared.destroy(id);
    }

    /// Kills everything that runs on a machine with SIGKILL, as its kernel does that is out of memory.
    pub fn kill(&self, id: &str) {
        let group = self
            .shared
            .world()
            .machine_mut(id)
            .and_then(|machine| machine.group);
        if let Some(group) = group {
            signal("KILL", &format!("-{group}"));
        }
    }

    /// Suspends a machine as somebody else does, an autostop for example.
    ///
    /// # Panics
    /// If it is not started.
    pub fn suspend(&self, id: &str) {
        assert!(self.shared.suspend(id), "{id} is not started");
    }

    /// Has a machine that is suspended go on.
    pub fn resume(&self, id: &str) {
        self.shared.resume(id);
    }

    /// Replaces a machine as `fly deploy` does: the same one, with another image.
    ///
    /// # Panics
    /// If it is not there.
    pub fn replace(&self, id: &str, image: &str) {
        let config = self
            .shared
            .world()
            .machine(id)
            .map(|machine| machine.config.clone());
        let mut config = config.unwrap_or_else(|_| panic!("{id} is not there"));
        config["image"] = json!(image);
        // Labels that flyctl does not know are its config's too, and it sends all of that.
        self.shared.update(id, config, true);
    }

    /// What a machine's label says.
    pub fn label(&self, id: &str, key: &str) -> Option<String> {
        let machines = self.machines();
        let machine = machines.iter().find(|machine| machine["id"] == id)?;
        machine["config"]["metadata"][key].as_str().map(str::to_owned)
    }

    /// Has its label say so.
    pub fn set_label(&self, id: &str, key: &str, value: &str) {
        let mut world = self.shared.world();
        world.machine_mut(id).expect("it is there").config["metadata"][key] = value.into();
    }

    /// Whether anybody holds the lease of a machine.
    pub fn is_leased(&self, id: &str) -> bool {
        self.shared.world().lease_of(id).is_some()
    }

    /// Where the root of a machine lies.
    pub fn root(&self, id: &str) -> PathBuf {
        self.shared.root(id)
    }
}

impl Drop for Fly {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.end_all();
        // It looks up from waiting.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn root(&self, id: &str) -> PathBuf {
        self.scratch.path().join(id)
    }
}

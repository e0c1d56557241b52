//! A machine: what it is, and what becomes of its process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::Shared;
use super::clock;
use super::host::Spot;
use super::lease::Lease;
use super::world::World;
use crate::process::{signal, spawn};
use crate::wait::holds_within;

/// How long a process has after its signal, where nobody says.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a process is started again by a policy that says no number.
const RETRIES: u64 = 10;

/// A machine, with everything that the API shows of it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: String,
    pub(super) app: String,
    pub(super) name: String,
    pub(super) region: String,
    pub(super) state: &'static str,
    pub(super) version: String,
    pub(super) config: Value,
    /// Versions before, newest first.
    pub(super) before: Vec<(String, Value)>,
    /// Newest first.
    pub(super) events: Vec<Value>,
    pub(super) address: Ipv6Addr,
    pub(super) created_at: SystemTime,
    pub(super) updated_at: SystemTime,
    pub(super) made: Instant,
    pub(super) destroyed: Option<Instant>,
    pub(super) host_status: &'static str,
    pub(super) cordoned: bool,
    /// Its checks, as Fly shows them.
    pub(super) checks: Vec<Value>,
    /// What its next look at them finds, and when that is.
    pub(super) next_look: Option<(Instant, Vec<Value>)>,
    pub(super) lease: Option<Lease>,
    /// The process group that runs.
    pub(super) group: Option<u32>,
    /// Counts starts, so that the end of an older process is no end of this one.
    pub(super) starts: u64,
    /// Somebody asked it to end.
    pub(super) stopping: bool,
    pub(super) restarts: u64,
}

impl Machine {
    /// What Fly's last look at its checks found.
    pub(super) fn checks_now(&self) -> Vec<Value> {
        let next = self.next_look.as_ref().filter(|(at, _)| *at <= Instant::now());
        next.map_or_else(|| self.checks.clone(), |(_, found)| found.clone())
    }

    /// As the API shows it.
    pub(super) fn json(&self) -> Value {
        let mut json = json!({
            "id": self.id, "name": self.name, "state": self.state, "region": self.region,
            "instance_id": self.version, "version": self.version, "private_ip": self.address.to_string(),
            "created_at": clock::rfc3339(self.created_at), "updated_at": clock::rfc3339(self.updated_at),
            "config": self.config, "events": self.events.iter().take(20).collect::<Vec<_>>(),
            "checks": self.checks_now(), "host_status": self.host_status, "cordoned": self.cordoned,
            "image_ref": image_ref(self.config["image"].as_str().unwrap_or_default()),
        });
        if self.host_status != "ok" {
            json["incomplete_config"] = json["config"].take();
        }
        json
    }

    pub(super) fn event(&mut self, kind: &str, status: &str, source: &str, request: Value, id: String) {
        let now = SystemTime::now();
        self.updated_at = now;
        let mut event = json!({
            "id": id, "type": kind, "status": status, "source": source, "timestamp": clock::millis(now),
        });
        if !request.is_null() {
            event["request"] = request;
        }
        self.events.insert(0, event);
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.config.pointer(pointer).and_then(Value::as_str)
    }

    fn words(&self, pointer: &str) -> Vec<String> {
        let words = self.config.pointer(pointer).and_then(Value::as_array);
        let text = |word: &Value| word.as_str().map(str::to_owned);
        words.into_iter().flatten().filter_map(text).collect()
    }

    /// What runs: `exec` instead of everything, else what stands before the command and the command.
    fn command(&self) -> Vec<String> {
        let exec = self.words("/init/exec");
        if !exec.is_empty() {
            return exec;
        }
        let command = [self.words("/init/entrypoint"), self.words("/init/cmd")].concat();
        if command.is_empty() {
            // What an image without a command does here.
            return vec!["sleep".to_owned(), "infinity".to_owned()];
        }
        command
    }

    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let given = self.config["env"].as_object().cloned().unwrap_or_default();
        let text = |value: Value| value.as_str().map(str::to_owned);
        let given = given
            .into_iter()
            .filter_map(|(key, value)| Some((key, text(value)?)));
        let group = self.text("/metadata/fly_process_group").unwrap_or_default();
        let memory = self.config.pointer("/guest/memory_mb").and_then(Value::as_u64);
        let own = [
            ("FLY_APP_NAME", self.app.clone()),
            ("FLY_MACHINE_ID", self.id.clone()),
            ("FLY_ALLOC_ID", self.id.clone()),
            ("FLY_REGION", self.region.clone()),
            (
                "FLY_IMAGE_REF",
                self.text("/image").unwrap_or_default().to_owned(),
            ),
            ("FLY_MACHINE_VERSION", self.version.clone()),
            ("FLY_PRIVATE_IP", self.address.to_string()),
            ("FLY_PROCESS_GROUP", group.to_owned()),
            ("FLY_VM_MEMORY_MB", memory.unwrap_or(256).to_string()),
            ("PRIMARY_REGION", "ord".to_owned()),
        ];
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
        given.chain(own).collect()
    }

    pub(super) fn settled(&self) -> bool {
        matches!(
            self.state,
            "started" | "stopped" | "suspended" | "failed" | "destroyed"
        )
    }
}

fn image_ref(image: &str) -> Value {
    let (registry, rest) = image.split_once('/').unwrap_or(("", image));
    let (repository, tag) = rest.split_once(':').unwrap_or((rest, ""));
    json!({
        "registry": registry, "repository": repository, "tag": tag.split('@').next(),
        "digest": format!("sha256:{:064x}", image.len()), "labels": null,
    })
}

/// Seconds out of `30`, `"30s"`, `"1m"` or `"500ms"`.
fn duration(value: &Value) -> Option<Duration> {
    if let Some(seconds) = value.as_u64() {
        return Some(Duration::from_secs(seconds));
    }
    humantime::parse_duration(value.as_str()?).ok()
}

fn signal_name(value: &Value) -> Option<String> {
    match value.as_u64() {
        Some(number) => Some(number.to_string()),
        None => Some(value.as_str()?.trim_start_matches("SIG").to_owned()),
    }
}

impl Shared {
    /// Makes a machine, and has it prepared meanwhile. The refusal is status and text.
    pub(super) fn create(
        self: &Arc<Self>,
        app: &str,
        body: &Value,
        owner: &str,
    ) -> Result<Value, (u16, String)> {
        let mut world = self.world();
        let (id, json, launch) = world.add(app, body, owner)?;
        drop(world);
        self.changed.notify_all();
        let shared = Arc::clone(self);
        std::thread::spawn(move || {
            shared.prepare();
            if launch {
                shared.launch(&id, "created", false);
            } else {
                shared.become_(&id, "created", "stopped");
            }
        });
        Ok(json)
    }

    /// Has an image prepared for as long as that takes by now: a test may end what it began.
    fn prepare(&self) {
        let begun = Instant::now();
        holds_within(Duration::MAX, || begun.elapsed() >= self.world().ills.prepare);
    }

    /// From one state to another, if it is in that one.
    fn become_(&self, id: &str, from: &str, to: &'static str) -> bool {
        let mut world = self.world();
        let fits = world
            .machine_mut(id)
            .filter(|machine| machine.state == from)
            .map(|machine| machine.state = to)
            .is_some();
        drop(world);
        self.changed.notify_all();
        fits
    }

    pub(super) fn spot(&self, machine: &Machine) -> Spot {
        Spot {
            id: machine.id.clone(),
            address: machine.address,
            root: self.root(&machine.id),
        }
    }

    /// Starts the process of a machine that is in that state; its root is made anew from the image.
    pub(super) fn launch(self: &Arc<Self>, id: &str, from: &str, user: bool) {
        if !self.become_(id, from, "starting") {
            return;
        }
        let (boot, spot, image, words, env) = {
            let mut world = self.world();
            let boot = world.ills.boot;
            let Some(at) = world.position(id) else { return };
            let image = world.image(&world.machines[at].config);
            if user {
                let event = world.event_id();
                world.machines[at].event("start", "starting", "user", Value::Null, event);
            }
            let machine = &world.machines[at];
            (
                boot,
                self.spot(machine),
                image,
                machine.command(),
                world.env(machine),
            )
        };
        std::thread::sleep(boot);
        let image = image.expect("a machine is made only of an image that is there");
        if spot.root.exists() {
            std::fs::remove_dir_all(&spot.root).expect("the scratch directory can be written");
        }
        let copied = std::process::Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(&image)
            .arg(&spot.root)
            .status();
        assert!(copied.is_ok_and(|status| status.success()), "cp runs");
        // What the init of a machine ends with that finds no program is not documented: here it is what a shell does.
        let words = if spot.has(&words[0]) {
            words
        } else {
            ["sh", "-c", "exit 127"].map(str::to_owned).into()
        };
        let mut command = self.host.command(&spot, &spot.program(&words[0]));
        let log = std::fs::File::create(spot.root.with_extension("log")).expect("the log can be written");
        let both = log.try_clone().expect("a second handle");
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(env)
            .current_dir(&spot.root)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(both);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = {
            // Whoever destroys it meanwhile finds either no process or all of it.
            let mut world = self.world();
            let event = world.event_id();
            let Some(machine) = world
                .machine_mut(id)
                .filter(|machine| machine.state == "starting")
            else {
                return;
            };
            let child = spawn(command);
            machine.group = Some(child.id());
            machine.starts += 1;
            machine.stopping = false;
            machine.state = "started";
            machine.event("start", "started", "flyd", Value::Null, event);
            child
        };
        self.changed.notify_all();
        let starts = self.world().machine_mut(id).map_or(0, |machine| machine.starts);
        let (shared, id) = (Arc::clone(self), id.to_owned());
        std::thread::spawn(move || {
            let status = child.wait().expect("it is our child");
            shared.ended(&id, starts, status);
        });
    }

    /// A process came to its end.
    fn ended(self: &Arc<Self>, id: &str, starts: u64, status: std::process::ExitStatus) {
        use std::os::unix::process::ExitStatusExt as _;

        let mut world = self.world();
        let event = world.event_id();
        let no_memory = world.ills.no_memory;
        let Some(machine) = world.machine_mut(id).filter(|machine| machine.starts == starts) else {
            return;
        };
        if let Some(group) = machine.group.take() {
            signal("KILL", &format!("-{group}"));
        }
        let asked = machine.stopping;
        let oom = no_memory && !asked && status.signal().is_some();
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(9));
        let policy = machine.text("/restart/policy").unwrap_or("on-failure").to_owned();
        let retries = machine
            .config
            .pointer("/restart/max_retries")
            .and_then(Value::as_u64);
        let again = !asked
            && machine.restarts < retries.unwrap_or(RETRIES)
            && (policy == "always" || policy == "on-failure" && code != 0);
        let exit = json!({
            "exit_code": code, "guest_exit_code": status.code().unwrap_or(0), "guest_signal": status.signal().unwrap_or(-1),
            "oom_killed": oom, "requested_stop": asked, "restarting": again, "signal": -1, "error": "", "guest_error": "",
            "exited_at": clock::rfc3339(SystemTime::now()),
        });
        let request = json!({"exit_event": exit, "restart_count": machine.restarts});
        machine.event("exit", "stopped", "flyd", request, event);
        if machine.state == "destroying" {
            drop(world);
            return;
        }
        let next = match machine.state {
            // Whoever replaces or restarts it goes on.
            "replacing" | "restarting" => machine.state,
            _ if again => {
                machine.restarts += 1;
                "stopped"
            }
            _ if machine.config["auto_destroy"] == true && policy == "no" => "destroying",
            _ => "stopped",
        };
        machine.state = next;
        drop(world);
        self.changed.notify_all();
        if next == "destroying" {
            self.destroyed(id);
        } else if again && next == "stopped" {
            self.launch(id, "stopped", false);
        }
    }

    /// Stops a process: the signal, and SIGKILL when it is not heeded.
    pub(super) fn stop(self: &Arc<Self>, id: &str, how: &Value, state: &'static str) {
        let (group, name, timeout) = {
            let mut world = self.world();
            let Some(machine) = world.machine_mut(id) else {
                return;
            };
            let of_config = |name: &str| machine.config.pointer(&format!("/stop_config/{name}")).cloned();
            let name = signal_name(&how["signal"])
                .or_else(|| signal_name(&of_config("signal")?))
                .unwrap_or_else(|| "INT".to_owned());
            let timeout = duration(&how["timeout"])
                .or_else(|| duration(&of_config("timeout")?))
                .unwrap_or(KILL_TIMEOUT);
            machine.stopping = true;
            let group = machine.group;
            machine.state = if group.is_some() { state } else { machine.state };
            (group, name, timeout)
        };
        self.changed.notify_all();
        let Some(group) = group else { return };
        // One that is suspended hears nothing.
        self.all(id, "CONT");
        signal(&name, &format!("-{group}"));
        let gone = || {
            self.world()
                .machine_mut(id)
                .is_none_or(|machine| machine.group != Some(group))
        };
        if !holds_within(timeout, gone) {
            signal("KILL", &format!("-{group}"));
            holds_within(KILL_TIMEOUT, gone);
        }
    }

    /// Every process of a machine gets a signal, until none has come in between that has not.
    fn all(&self, id: &str, name: &str) {
        let (spot, group) = {
            let world = self.world();
            let Ok(machine) = world.machine(id) else { return };
            (self.spot(machine), machine.group)
        };
        if let Some(group) = group {
            signal(name, &format!("-{group}"));
        }
        let mut reached = BTreeSet::new();
        loop {
            let mut pids = self.host.processes(&spot);
            pids.retain(|pid| reached.insert(*pid));
            if pids.is_empty() {
                return;
            }
            for pid in pids {
                signal(name, &pid.to_string());
            }
        }
    }

    /// Suspends a machine that is started: whatever runs there stands still, with all that it has in memory.
    pub(super) fn suspend(&self, id: &str) -> bool {
        if !self.become_(id, "started", "suspending") {
            return false;
        }
        self.all(id, "STOP");
        self.goes_on(id, "suspend", "suspended");
        true
    }

    /// Has a machine that is suspended go on where it was: nothing boots.
    pub(super) fn resume(&self, id: &str) {
        self.all(id, "CONT");
        self.goes_on(id, "start", "started");
    }

    fn goes_on(&self, id: &str, kind: &str, state: &'static str) {
        let mut world = self.world();
        let event = world.event_id();
        if let Some(machine) = world.machine_mut(id) {
            machine.state = state;
            machine.event(kind, state, "flyd", Value::Null, event);
        }
        drop(world);
        self.changed.notify_all();
    }

    /// Ends a machine, whatever it does.
    pub(super) fn destroy(self: &Arc<Self>, id: &str) {
        self.stop(id, &json!({"signal": "SIGKILL"}), "destroying");
        self.destroyed(id);
    }

    fn destroyed(&self, id: &str) {
        let mut world = self.world();
        let event = world.event_id();
        let Some(machine) = world.machine_mut(id) else {
            return;
        };
        machine.state = "destroyed";
        machine.lease = None;
        machine.destroyed = Some(Instant::now());
        machine.event("destroy", "destroyed", "flyd", Value::Null, event);
        let spot = self.spot(machine);
        drop(world);
        self.host.gone(&spot);
        // Its last process may still write into it; the scratch directory takes what is left.
        let _ = std::fs::remove_dir_all(&spot.root);
        self.changed.notify_all();
    }

    /// Everything ends with the test.
    pub(super) fn end_all(&self) {
        let mut world = self.world();
        for machine in &mut world.machines {
            machine.starts += 1;
            if let Some(group) = machine.group.take() {
                signal("KILL", &format!("-{group}"));
            }
        }
        for machine in &world.machines {
            self.host.gone(&self.spot(machine));
        }
    }

    /// Another config, under another version; back to the version before where its image is not there.
    pub(super) fn update(self: &Arc<Self>, id: &str, config: Value, launch: bool) -> Option<Value> {
        let mut world = self.world();
        let (event, back) = (world.event_id(), world.event_id());
        let (version, again) = (world.ulid(), world.ulid());
        let pulled = !world.ills.unpullable && world.image(&config).is_some();
        let machine = world.machine_mut(id)?;
        let ran = machine.state == "started";
        let before = (
            std::mem::replace(&mut machine.version, version),
            std::mem::replace(&mut machine.config, config),
        );
        machine.event("update", "replacing", "user", Value::Null, event);
        machine.state = "replacing";
        machine.starts += 1;
        let answer = machine.json();
        let group = machine.group.take();
        if pulled {
            machine.before.insert(0, before);
        } else {
            let failed = (
                std::mem::replace(&mut machine.version, before.0),
                std::mem::replace(&mut machine.config, before.1),
            );
            machine.before.insert(0, failed);
            let note = json!({"error": "failed to pull image: MANIFEST_UNKNOWN", "attempt": again});
            machine.event("update", "reverted", "flyd", note, back);
        }
        drop(world);
        self.changed.notify_all();
        if let Some(group) = group {
            signal("KILL", &format!("-{group}"));
        }
        let (shared, id) = (Arc::clone(self), id.to_owned());
        std::thread::spawn(move || {
            shared.prepare();
            if ran && launch {
                shared.launch(&id, "replacing", false);
            } else {
                shared.become_(&id, "replacing", "stopped");
            }
        });
        Some(answer)
    }
}

impl World {
    /// A machine of that config; its id, how it is shown, and whether it is started once it is prepared.
    fn add(&mut self, app: &str, body: &Value, owner: &str) -> Result<(String, Value, bool), (u16, String)> {
        let config = body["config"].clone();
        let Some(image) = config["image"].as_str().map(str::to_owned) else {
            return Err((400, "invalid_argument: config.image is required".to_owned()));
        };
        if self.ills.unknown_manifests > 0 {
            self.ills.unknown_manifests -= 1;
            return Err((404, format!("failed to get manifest {image}: MANIFEST_UNKNOWN")));
        }
        if let Err(wrong) = guest(&config["guest"]) {
            return Err((422, format!("invalid_argument: {wrong}")));
        }
        if self.image(&config).is_none() {
            return Err((404, format!("failed to get manifest {image}: MANIFEST_UNKNOWN")));
        }
        let name = match body["name"].as_str() {
            Some(name) => name.to_owned(),
            None => format!("quiet-sky-{}", self.random.below(10_000)),
        };
        let is_taken =
            |machine: &Machine| machine.app == app && machine.name == name && machine.destroyed.is_none();
        if self.ills.names_are_unique && self.machines.iter().any(is_taken) {
            return Err((
                409,
                format!("already_exists: unique machine name violation, machine ID has name {name}"),
            ));
        }
        let id = format!("{:014x}", self.random.below(1 << 56));
        let number = self.machines.len() as u16;
        let ids = (self.event_id(), self.ulid());
        let mut machine = Machine {
            id: id.clone(),
            app: app.to_owned(),
            name,
            region: body["region"].as_str().unwrap_or("ord").to_owned(),
            state: "created",
            version: ids.1,
            config,
            before: Vec::new(),
            events: Vec::new(),
            address: Ipv6Addr::new(0xFDAA, 0, 0x45B, 0xA7B, 0x19C, 0xBBD4, number, 2),
            created_at: SystemTime::now(),
            updated_at: SystemTime::now(),
            made: Instant::now(),
            destroyed: None,
            host_status: "ok",
            cordoned: body["skip_service_registration"] == true,
            lease: None,
            group: None,
            starts: 0,
            stopping: false,
            restarts: 0,
            checks: Vec::new(),
            next_look: None,
        };
        if !machine.config.is_object() || machine.config["metadata"].is_null() {
            machine.config["metadata"] = Value::Object(Map::new());
        }
        machine.event("launch", "created", "user", Value::Null, ids.0);
        let mut json = machine.json();
        if let Some(ttl) = body["lease_ttl"].as_u64() {
            let nonce = format!("{:012x}", self.random.below(1 << 48));
            json["nonce"] = json!(nonce);
            machine.lease = Some(Lease::new(owner, &nonce, ttl, ""));
        }
        self.machines.push(machine);
        Ok((id, json, body["skip_launch"] != true))
    }
}

/// What a guest may be.
fn guest(guest: &Value) -> Result<(), String> {
    if guest.is_null() {
        return Ok(());
    }
    let (cpus, memory) = (
        guest["cpus"].as_u64().unwrap_or(1),
        guest["memory_mb"].as_u64().unwrap_or(256),
    );
    let (known, least, most): (&[u64], u64, u64) = match guest["cpu_kind"].as_str().unwrap_or("shared") {
        "shared" => (&[1, 2, 4, 6, 8], 256, 2_048),
        "performance" => (&[1, 2, 4, 6, 8, 10, 12, 14, 16, 32, 64, 128], 2_048, 8_192),
        other => return Err(format!("unknown cpu_kind {other}")),
    };
    if !known.contains(&cpus) {
        return Err(format!("{cpus} CPUs are not offered"));
    }
    if memory % 256 != 0 || memory < least * cpus || memory > most * cpus {
        return Err(format!("{memory} MB are not offered with {cpus} CPUs"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_one_that_fly_offers() {
        for (kind, cpus, memory_mb, offered) in [
            ("shared", 1, 256, true),
            ("shared", 1, 2_048, true),
            ("shared", 1, 2_304, false),
            ("shared", 2, 256, false),
            ("shared", 3, 768, false),
            ("shared", 8, 16_384, true),
            ("shared", 2, 600, false),
            ("performance", 1, 2_048, true),
            ("performance", 1, 8_192, true),
            ("performance", 1, 1_024, false),
            ("imaginary", 1, 256, false),
        ] {
            let asked = json!({"cpu_kind": kind, "cpus": cpus, "memory_mb": memory_mb});
            assert_eq!(guest(&asked).is_ok(), offered, "{asked}");
        }
    }
}

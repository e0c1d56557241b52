//! What is answered to which request.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};
use socket2::SockRef;

use super::http::{Reply, Request};
use super::ills::RetryAfter;
use super::machine::Machine;
use super::world::{Caller, World};
use super::{Record, Shared, clock};

/// The largest body: others measured that 512 KiB are taken and 768 KiB are not.
const LARGEST_BODY: usize = 640 * 1024;

/// How long a place in a list is known.
const CURSOR: Duration = Duration::from_secs(1800);

/// What becomes of an answer on its way.
enum Fate {
    Arrives,
    Lost,
    Cut,
}

impl Shared {
    /// One connection.
    pub(super) fn serve(self: &Arc<Self>, mut client: TcpStream) -> std::io::Result<()> {
        let mut left = Vec::new();
        while let Some(request) = Request::read(&mut client, &mut left)? {
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            let id = format!("{}-yyz", self.world().ulid());
            let at = self.record(&request);
            let (reply, fate) = self.answer(&request);
            let now = SystemTime::now() + self.world().ills.ahead;
            match (reply, fate) {
                (Some(reply), Fate::Arrives) => {
                    self.world().records[at].status = Some(reply.status);
                    reply.send(&mut client, &id, now, None)?;
                }
                (Some(reply), Fate::Cut) => {
                    let cut = self.world().random.below(reply.body.len().max(1) as u64) + 1;
                    reply.send(&mut client, &id, now, Some(cut))?;
                    return client.shutdown(Shutdown::Both);
                }
                _ => {
                    // Dropping it sends RST.
                    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn record(&self, request: &Request) -> usize {
        let mut headers = request.headers.clone();
        if let Some(authorization) = headers.get_mut("authorization") {
            let word = authorization.split(' ').next().unwrap_or_default().to_owned();
            *authorization = word;
        }
        let mut world = self.world();
        world.records.push(Record {
            at: Instant::now(),
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers,
            body: String::from_utf8_lossy(&request.body).into_owned(),
            status: None,
        });
        world.records.len() - 1
    }

    /// The answer, and what becomes of it. Nothing: the connection breaks before anything was done.
    fn answer(self: &Arc<Self>, request: &Request) -> (Option<Reply>, Fate) {
        let segments: Vec<&str> = request.path.split('/').skip(1).collect();
        let creates = request.method == "POST" && matches!(segments[..], ["v1", "apps", _, "machines"]);
        let before = {
            let mut world = self.world();
            let ills = world.ills.clone();
            if world.befalls(ills.resets) {
                return (None, Fate::Lost);
            }
            if world.befalls(ills.limited) {
                Some(world.limited())
            } else if world.befalls(ills.server_errors) {
                Some(world.failure())
            } else {
                None
            }
        };
        let reply = match before {
            Some(reply) => return (Some(self.dressed(reply, request)), Fate::Arrives),
            None => self.route(request, &segments).unwrap_or_else(|refused| refused),
        };
        let reply = self.dressed(reply, request);
        let mut world = self.world();
        let ills = world.ills.clone();
        if world.befalls(ills.lost_answers) {
            return (Some(reply), Fate::Lost);
        }
        if creates && reply.status == 200 && world.befalls(ills.broken_creates) {
            return (Some(reply), Fate::Lost);
        }
        if creates && reply.status == 200 && world.befalls(ills.lost_creates) {
            let late = Reply::refused(408, "deadline_exceeded: context deadline exceeded");
            return (Some(late), Fate::Arrives);
        }
        if world.befalls(ills.late_errors) {
            return (Some(world.failure()), Fate::Arrives);
        }
        if !reply.body.is_empty() && world.befalls(ills.cut_bodies) {
            return (Some(reply), Fate::Cut);
        }
        (Some(reply), Fate::Arrives)
    }

    /// A refusal as the ills have it.
    fn dressed(&self, mut reply: Reply, request: &Request) -> Reply {
        if reply.status < 400 {
            return reply;
        }
        let world = self.world();
        if world.ills.echoes_token {
            let sent = request.header("authorization").unwrap_or_default();
            let json: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let said = json["error"].as_str().unwrap_or_default();
            reply.body = json!({"error": format!("{said}: {sent}")})
                .to_string()
                .into_bytes();
        }
        if world.ills.text_refusals {
            let json: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            reply.body = json["error"].as_str().unwrap_or_default().as_bytes().to_vec();
            reply.headers.clear();
        }
        reply
    }

    fn route(self: &Arc<Self>, request: &Request, segments: &[&str]) -> Result<Reply, Reply> {
        let caller = self.world().caller(request)?;
        if request.body.len() > LARGEST_BODY {
            return Err(Reply::refused(400, "http: request body too large"));
        }
        let refused = self.world().ills.refused;
        if refused.iter().any(|ending| request.path.ends_with(ending)) {
            return Err(Reply::refused(403, "permission_denied: not for this token"));
        }
        let method = &*request.method;
        match (method, segments) {
            ("GET", ["v1", "tokens", "current"]) => {
                self.world().turn("current token", &caller.grant.user)?;
                let grant = &caller.grant;
                let token = json!({
                    "token_id": "1", "organization": "acme", "org_slug": "acme", "apps": grant.apps, "user": grant.user,
                });
                Ok(Reply::json(200, &json!({"tokens": [token]})))
            }
            (_, ["v1", "apps", app, rest @ ..]) => {
                self.world().may(&caller, app)?;
                match (method, rest) {
                    ("GET", []) => self.app(app),
                    ("GET", ["machines"]) => {
                        let mut world = self.world();
                        world.turn("list machines", app)?;
                        world.list(app, request)
                    }
                    ("POST", ["machines"]) => {
                        self.world().turn("create machine", app)?;
                        let body = request.json()?;
                        let (full, maintained) = {
                            let ills = &self.world().ills;
                            (ills.no_room, ills.maintained)
                        };
                        if maintained.iter().any(|region| body["region"] == **region) {
                            let said = "unavailable: deploys to this host are temporarily disabled, please try again later";
                            return Err(Reply::refused(503, said));
                        }
                        if full.iter().any(|region| body["region"] == **region) {
                            let said = "insufficient resources available to fulfill request";
                            return Err(Reply::coded(422, said, "insufficient_capacity"));
                        }
                        let made = self.create(app, &body, &caller.grant.user);
                        made.map(|json| Reply::json(200, &json))
                            .map_err(|(status, error)| Reply::refused(status, &error))
                    }
                    ("GET", ["secrets"]) => {
                        let mut world = self.world();
                        world.turn("list secrets", app)?;
                        // What they say only who sets them knows.
                        let secret = |name: &String| json!({"name": name, "digest": "c0ffee"});
                        let secrets: Vec<Value> = world.secrets.keys().map(secret).collect();
                        Ok(Reply::json(200, &json!({"secrets": secrets})))
                    }
                    (_, ["machines", id, rest @ ..]) => self.machine(app, id, rest, request, &caller),
                    _ => Err(Reply::refused(404, "page not found")),
                }
            }
            _ => Err(Reply::refused(404, "page not found")),
        }
    }

    fn app(&self, app: &str) -> Result<Reply, Reply> {
        let mut world = self.world();
        world.turn("get app", app)?;
        let there = world.machines.iter().filter(|machine| machine.app == app);
        let count = there.filter(|machine| machine.destroyed.is_none()).count();
        Ok(Reply::json(
            200,
            &json!({
                "id": app, "name": app, "status": if count > 0 { "deployed" } else { "pending" }, "network": "default",
                "organization": {"name": "Acme", "slug": "acme"}, "machine_count": count, "volume_count": 0,
            }),
        ))
    }

    fn machine(
        self: &Arc<Self>,
        app: &str,
        id: &str,
        rest: &[&str],
        request: &Request,
        caller: &Caller,
    ) -> Result<Reply, Reply> {
        let method = &*request.method;
        let action = match (method, rest) {
            ("GET", []) => "get machine".to_owned(),
            _ => format!("{method} {}", rest.first().copied().unwrap_or("machine")),
        };
        {
            let mut world = self.world();
            world.turn(&action, id)?;
            world.known(app, id)?;
        }
        // What the nonce of a lease is asked for.
        let changes = matches!(
            (method, rest),
            (
                "POST",
                [] | ["start" | "stop" | "restart" | "suspend" | "cordon" | "uncordon" | "signal"]
            ) | ("DELETE", [])
        );
        if changes {
            self.world().unleased(id, request)?;
        }
        match (method, rest) {
            ("GET", []) => {
                let world = self.world();
                let machine = world.machine(id)?;
                let version = request.asks("version").pop();
                let older =
                    version.and_then(|version| machine.before.iter().find(|(one, _)| *one == version));
                let mut json = machine.json();
                if let Some((version, config)) = older {
                    (json["version"], json["instance_id"]) = (json!(version), json!(version));
                    json["config"] = config.clone();
                    json["state"] = json!("replaced");
                }
                Ok(Reply::json(200, &json))
            }
            ("POST", []) => {
                let body = request.json()?;
                {
                    let world = self.world();
                    let machine = world.machine(id)?;
                    if body["current_version"]
                        .as_str()
                        .is_some_and(|current| current != machine.version)
                    {
                        return Err(Reply::refused(
                            409,
                            "aborted: current_version is not the current one",
                        ));
                    }
                    if !body["config"]["image"].is_string() {
                        return Err(Reply::refused(400, "invalid_argument: config.image is required"));
                    }
                }
                let launch = body["skip_launch"] != true;
                let answer = self.update(id, body["config"].clone(), launch);
                answer
                    .map(|json| Reply::json(200, &json))
                    .ok_or_else(|| Reply::refused(404, "machine not found"))
            }
            ("DELETE", []) => {
                let running = self.world().machine(id)?.group.is_some();
                if running && !request.flag("force") && !request.flag("kill") {
                    return Err(Reply::refused(
                        412,
                        "failed_precondition: unable to destroy machine, not currently in stopped or suspended states",
                    ));
                }
                self.destroy(id);
                Ok(Reply::ok())
            }
            ("POST", ["start"]) => self.start(id),
            ("POST", ["stop"]) => {
                let body = request.json()?;
                let (shared, id) = (Arc::clone(self), id.to_owned());
                std::thread::spawn(move || shared.stop(&id, &body, "stopping"));
                Ok(Reply::ok())
            }
            ("POST", ["restart"]) => {
                let first = |name: &str| {
                    request
                        .asks(name)
                        .first()
                        .map_or(Value::Null, |value| json!(value))
                };
                let mut how = json!({"signal": first("signal"), "timeout": first("timeout")});
                if request.flag("force_stop") {
                    how["signal"] = json!("SIGKILL");
                }
                let (shared, id) = (Arc::clone(self), id.to_owned());
                std::thread::spawn(move || {
                    shared.stop(&id, &how, "restarting");
                    shared.launch(&id, "restarting", true);
                });
                Ok(Reply::ok())
            }
            ("POST", ["suspend"]) => self.freeze(id),
            ("POST", ["signal"]) => {
                let body = request.json()?;
                let name = match &body["signal"] {
                    Value::Number(number) => number.to_string(),
                    Value::String(name) => name.trim_start_matches("SIG").to_owned(),
                    _ => return Err(Reply::refused(400, "invalid_argument: signal")),
                };
                if let Some(group) = self.world().machine(id)?.group {
                    crate::process::signal(&name, &format!("-{group}"));
                }
                Ok(Reply::ok())
            }
            ("POST", [word @ ("cordon" | "uncordon")]) => {
                if let Some(machine) = self.world().machine_mut(id) {
                    machine.cordoned = *word == "cordon";
                }
                Ok(Reply::ok())
            }
            ("GET", ["wait"]) => self.wait(id, request),
            ("POST", ["exec"]) => {
                if let Some(lease) = self.world().lease_of(id)
                    && request.header("fly-machine-lease-nonce") != Some(&*lease.nonce)
                {
                    let held = lease.held(id);
                    return Err(Reply::refused(409, &format!("failed to exec on VM {id}: {held}")));
                }
                self.exec(id, &request.json()?)
            }
            ("GET" | "POST" | "DELETE", ["lease"]) => self.world().lease(id, request, caller),
            (_, ["metadata", rest @ ..]) => {
                let takes = self.world().ills.labels_take;
                if method == "POST" {
                    std::thread::sleep(takes);
                }
                self.world().metadata(id, rest, request)
            }
            ("GET", ["events"]) => {
                let world = self.world();
                let limit = request.asks("limit").first().and_then(|limit| limit.parse().ok());
                let events = &world.machine(id)?.events;
                let shown = &events[..events.len().min(limit.unwrap_or(20).min(50))];
                Ok(Reply::json(200, &json!(shown)))
            }
            ("GET", ["versions"]) => {
                let world = self.world();
                let machine = world.machine(id)?;
                let now = [(machine.version.clone(), machine.config.clone())];
                let versions = now.iter().chain(&machine.before);
                let versions: Vec<Value> = versions
                    .map(|(version, config)| json!({"version": version, "user_config": config}))
                    .collect();
                Ok(Reply::json(200, &json!(versions)))
            }
            ("GET", ["ps"]) => {
                let world = self.world();
                let machine = world.machine(id)?;
                let list: Vec<Value> = machine
                    .group
                    .iter()
                    .map(|pid| json!({"pid": pid, "command": "init", "directory": "/", "cpu": 0, "rss": 0, "listen_sockets": []}))
                    .collect();
                Ok(Reply::json(200, &json!(list)))
            }
            _ => Err(Reply::refused(404, "page not found")),
        }
    }

    fn start(self: &Arc<Self>, id: &str) -> Result<Reply, Reply> {
        let state = self.world().machine(id)?.state;
        let refused = |text: String| Err(Reply::refused(412, &format!("failed_precondition: {text}")));
        match state {
            "stopped" => {
                let (shared, starting) = (Arc::clone(self), id.to_owned());
                // Its state has changed when the answer comes.
                std::thread::spawn(move || shared.launch(&starting, "stopped", true));
                self.until(Duration::from_secs(1), id, |machine| machine.state != "stopped");
            }
            "suspended" => self.resume(id),
            "started" | "starting" if self.world().ills.active_refuses => {
                return refused("machine still active, refusing to start".to_owned());
            }
            "started" | "starting" => {}
            "replacing" => return refused("machine getting replaced, refusing to start".to_owned()),
            other => return refused(format!("unable to start machine from current state: '{other}'")),
        }
        Ok(Reply::json(
            200,
            &json!({"previous_state": state, "migrated": false, "new_host": ""}),
        ))
    }

    fn freeze(&self, id: &str) -> Result<Reply, Reply> {
        if !self.suspend(id) {
            return Err(Reply::refused(412, "failed_precondition: machine is not started"));
        }
        Ok(Reply::ok())
    }

    /// Whether a machine comes to be so.
    fn until(&self, limit: Duration, id: &str, is: impl Fn(&Machine) -> bool) -> bool {
        let begun = Instant::now();
        let mut world = self.world();
        loop {
            if world.machine(id).is_ok_and(&is) {
                return true;
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() || self.stopped.load(Ordering::Relaxed) {
                return false;
            }
            let waited = self
                .changed
                .wait_timeout(world, left.min(Duration::from_millis(200)));
            world = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    fn wait(&self, id: &str, request: &Request) -> Result<Reply, Reply> {
        let mut states: Vec<String> = request
            .asks("state")
            .iter()
            .flat_map(|states| states.split(','))
            .map(str::to_owned)
            .collect();
        if states.is_empty() {
            states.push("started".to_owned());
        }
        let known = [
            "started",
            "stopped",
            "suspended",
            "destroyed",
            "failed",
            "settled",
        ];
        if let Some(state) = states.iter().find(|state| !known.contains(&&***state)) {
            return Err(Reply::refused(
                400,
                &format!("invalid_argument: unknown state {state}"),
            ));
        }
        let timeout = match request.asks("timeout").first() {
            None => 60,
            Some(text) => text.parse::<u64>().unwrap_or(0),
        };
        if !(1..=60).contains(&timeout) {
            return Err(Reply::refused(
                400,
                "invalid_argument: invalid WaitRequest.Timeout: value must be inside range [1s, 1m0s]",
            ));
        }
        let version = request
            .asks("version")
            .pop()
            .or_else(|| request.asks("instance_id").pop());
        let reached = |machine: &Machine| {
            let current = version.as_ref().is_none_or(|version| *version == machine.version);
            let settled = machine.settled() && states.iter().any(|state| state == "settled");
            current && (settled || states.iter().any(|state| state == machine.state))
        };
        let gone = |machine: &Machine| machine.state == "destroyed";
        let ended = self.until(Duration::from_secs(timeout), id, |machine| {
            reached(machine) || gone(machine)
        });
        let world = self.world();
        let machine = world.machine(id)?;
        if reached(machine) {
            return Ok(Reply::json(
                200,
                &json!({"ok": true, "state": machine.state, "version": machine.version}),
            ));
        }
        if ended {
            return Err(Reply::refused(404, "machine not found"));
        }
        let state = match &version {
            Some(version) if *version != machine.version => "replaced",
            _ => machine.state,
        };
        Err(Reply::refused(
            408,
            &format!(
                "deadline_exceeded: machine failed to reach desired state, {}, currently {state}",
                states.join(",")
            ),
        ))
    }
}

impl World {
    /// Whether it is its turn by the rates.
    fn turn(&mut self, action: &str, of: &str) -> Result<(), Reply> {
        if !self.ills.limits || self.rates.allow(action, of) {
            return Ok(());
        }
        Err(self.limited())
    }

    /// 429, which says as much as the ills have it.
    fn limited(&self) -> Reply {
        let reply = Reply::refused(429, "rate limit exceeded");
        match self.ills.retry_after {
            RetryAfter::Absent => reply,
            RetryAfter::Seconds(seconds) => reply.with("retry-after", seconds.to_string()),
            RetryAfter::Date(seconds) => {
                let at = SystemTime::now() + Duration::from_secs(seconds);
                reply.with("retry-after", clock::http(at))
            }
        }
    }

    fn failure(&mut self) -> Reply {
        match self.random.below(3) {
            0 => Reply::refused(500, "internal: something is wrong"),
            1 => Reply {
                status: 502,
                headers: Vec::new(),
                body: b"upstream connect error or disconnect/reset before headers".to_vec(),
            },
            _ => Reply::refused(503, "unavailable: try again later"),
        }
    }

    /// Whether a machine is known by its id already, and still.
    fn known(&self, app: &str, id: &str) -> Result<(), Reply> {
        let machine = self.machine(id)?;
        let forgotten = machine
            .destroyed
            .is_some_and(|since| since.elapsed() > self.ills.remembers);
        if machine.app != app || machine.made.elapsed() < self.ills.get_delay || forgotten {
            return Err(Reply::refused(404, "machine not found"));
        }
        Ok(())
    }

    fn list(&mut self, app: &str, request: &Request) -> Result<Reply, Reply> {
        let states: Vec<String> = request
            .asks("state")
            .iter()
            .flat_map(|states| states.split(','))
            .map(str::to_owned)
            .collect();
        let regions = request.asks("region");
        let labels: Vec<(String, String)> = request
            .pairs()
            .filter_map(|(key, value)| Some((key.strip_prefix("metadata.")?.to_owned(), value)))
            .collect();
        let (deleted, summary, leases) = (
            request.flag("include_deleted"),
            request.flag("summary"),
            request.flag("include_leases"),
        );
        let shown = |machine: &&Machine| {
            machine.app == app
                && machine.made.elapsed() >= self.ills.list_delay
                && (deleted || machine.destroyed.is_none())
                && (states.is_empty() || states.iter().any(|state| state == machine.state))
                && (regions.is_empty() || regions.contains(&machine.region))
                && labels
                    .iter()
                    .all(|(key, value)| machine.config["metadata"][key] == **value)
        };
        let json = |machine: &Machine| {
            let mut json = machine.json();
            if summary {
                for name in [
                    "config",
                    "incomplete_config",
                    "checks",
                    "events",
                    "host_status",
                    "nonce",
                ] {
                    json.as_object_mut().expect("it is one").remove(name);
                }
            }
            if leases && let Some(lease) = machine.lease.as_ref().filter(|lease| !lease.is_over()) {
                let mut lease = lease.json(&machine.version);
                lease.as_object_mut().expect("it is one").remove("nonce");
                json["lease"] = lease;
            }
            json
        };
        let all: Vec<Value> = self.machines.iter().filter(shown).map(json).collect();
        let Some(limit) = request.asks("limit").first().cloned() else {
            return Ok(Reply::json(200, &json!(all)));
        };
        let limit = match limit.parse::<usize>() {
            Ok(limit) if (1..=1000).contains(&limit) => limit,
            _ => return Err(Reply::refused(400, "invalid_argument: limit must be in 1..1000")),
        };
        let now = clock::millis(SystemTime::now()) / 1000;
        let from = match request.asks("cursor").first() {
            None => 0,
            Some(cursor) => {
                let place = cursor.strip_prefix("at+").and_then(|rest| rest.split_once("/="));
                let place =
                    place.and_then(|(at, made)| Some((at.parse::<usize>().ok()?, made.parse::<u64>().ok()?)));
                match place {
                    Some((at, made)) if now.saturating_sub(made) < CURSOR.as_secs() => at,
                    _ => {
                        return Err(Reply::refused(
                            400,
                            "invalid_argument: cursor is unknown or expired",
                        ));
                    }
                }
            }
        };
        let limit = if self.ills.short_pages {
            self.random.below(limit.min(4) as u64 + 1) as usize
        } else {
            limit
        };
        let to = all.len().min(from + limit);
        let page = all.get(from..to).unwrap_or_default();
        let reply = Reply::json(200, &json!(page));
        Ok(if to < all.len() {
            reply.with("fly-next-cursor", format!("at+{to}/={now}"))
        } else {
            reply
        })
    }

    fn metadata(&mut self, id: &str, rest: &[&str], request: &Request) -> Result<Reply, Reply> {
        let body = request.json()?;
        let refused = self.ills.refuses_labels;
        let machine = self
            .machine_mut(id)
            .ok_or_else(|| Reply::refused(404, "machine not found"))?;
        let version = machine.version.clone();
        let empty = Map::new();
        let labels = match &mut machine.config["metadata"] {
            Value::Object(labels) => labels,
            other => {
                *other = Value::Object(empty);
                other.as_object_mut().expect("it is one")
            }
        };
        match (&*request.method, rest) {
            ("GET", []) => Ok(Reply::json(200, &json!(labels))),
            ("GET", [key]) => match labels.get(*key) {
                Some(value) => Ok(Reply::json(200, &json!({"value": value}))),
                None => Err(Reply::refused(404, "metadata key not found")),
            },
            ("POST", [_]) if refused => Err(Reply::refused(403, "permission_denied: metadata")),
            ("POST", [key]) => {
                if !body["value"].is_string() {
                    return Err(Reply::refused(400, "invalid_argument: value"));
                }
                labels.insert((*key).to_owned(), body["value"].clone());
                Ok(Reply::empty())
            }
            ("DELETE", [key]) => {
                labels.remove(*key);
                Ok(Reply::empty())
            }
            ("PATCH" | "PUT", []) => {
                if body["machine_version"]
                    .as_str()
                    .is_some_and(|asked| asked != version)
                {
                    return Err(Reply::refused(
                        412,
                        "failed_precondition: machine_version is not the current one",
                    ));
                }
                for (key, value) in body["metadata"].as_object().into_iter().flatten() {
                    if value.is_null() || *value == "" {
                        labels.remove(key);
                    } else {
                        labels.insert(key.clone(), value.clone());
                    }
                }
                Ok(Reply::empty())
            }
            _ => Err(Reply::refused(404, "page not found")),
        }
    }
}

//! What an answer says of a machine.
//!
//! This file is pure. It is read liberally: what is absent, `null` or of another type than documented is as if it were not said,
//! and only what has no id is no machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::lease::Nonce;

/// What a machine is called in addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(String);

/// A text that is no id of a machine.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not the id of a machine: 1 to 64 of a-z, 0-9, - and _ are")]
pub struct NoMachineId(String);

impl MachineId {
    /// Fly's are 14 hexadecimal digits.
    const LONGEST: usize = 64;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MachineId {
    type Err = NoMachineId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if text.is_empty() || text.len() > Self::LONGEST || !text.bytes().all(fits) {
            return Err(NoMachineId(text.chars().take(Self::LONGEST).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a machine is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "Fly's own words")]
pub enum State {
    Created,
    Starting,
    Started,
    Stopping,
    Stopped,
    Suspending,
    Suspended,
    Restarting,
    Updating,
    Replacing,
    Replaced,
    Destroying,
    Destroyed,
    Failed,
    LaunchFailed,
    /// A word that is not known here.
    Other(String),
}

impl State {
    const WORDS: [(&'static str, Self); 15] = [
        ("created", Self::Created),
        ("starting", Self::Starting),
        ("started", Self::Started),
        ("stopping", Self::Stopping),
        ("stopped", Self::Stopped),
        ("suspending", Self::Suspending),
        ("suspended", Self::Suspended),
        ("restarting", Self::Restarting),
        ("updating", Self::Updating),
        ("replacing", Self::Replacing),
        ("replaced", Self::Replaced),
        ("destroying", Self::Destroying),
        ("destroyed", Self::Destroyed),
        ("failed", Self::Failed),
        ("launch_failed", Self::LaunchFailed),
    ];

    pub(crate) fn of(word: &str) -> Self {
        let known = Self::WORDS.into_iter().find(|(known, _)| *known == word);
        known.map_or_else(|| Self::Other(word.to_owned()), |(_, state)| state)
    }

    /// Whether the machine is gone, or going.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Destroying | Self::Destroyed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::WORDS.iter().find(|(_, state)| state == self);
        f.write_str(match (known, self) {
            (Some((word, _)), _) => word,
            (None, Self::Other(word)) => word,
            (None, _) => "unknown",
        })
    }
}

/// Whether the host of a machine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// It does, or nothing else is said.
    Ok,
    /// That is not known.
    Unknown,
    /// It does not.
    Unreachable,
}

/// What Fly Proxy does with a machine that has no traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Autostop {
    /// Nothing.
    Off,
    /// It is suspended, and later goes on with the code that it had.
    Suspend,
    /// It is stopped, and later boots.
    Stop,
}

/// A moment by Fly's clock.
pub type Moment = SystemTime;

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name in fly.toml, or one that Fly made.
    pub name: String,
    /// `passing`, `warning`, `critical`.
    pub status: String,
    /// What it said last.
    pub output: String,
}

/// What a machine was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The image, as it was named when the machine was made.
    pub image: String,
    /// Labels that are changed without another version of the machine.
    pub metadata: BTreeMap<String, String>,
    /// The names of its variables, secrets of the app not among them. What they say is not read.
    pub env: BTreeSet<String>,
    /// What happens without traffic, of all of its services the one that goes furthest.
    pub autostop: Autostop,
    /// The checks that it was made with.
    pub checks: Configured,
}

/// The checks that a machine was made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configured {
    /// Those of its own, by their names.
    pub named: BTreeSet<String>,
    /// How many its services have at least. Fly names them by number, type and port (`servicecheck-00-http-4000`), and does not say
    /// whether those of each service are numbered anew: of two services with one port and one type the one that has more counts.
    pub of_services: usize,
    /// How long Fly does not ask after a start: the longest time that one of them says.
    pub grace: Duration,
    /// How long it takes until Fly has asked all of them once more: the longest interval and time for an answer of one, for two minutes
    /// at most.
    pub round: Duration,
}

/// How the main process of a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: i64,
    /// Killed because the machine had no memory left.
    pub oom_killed: bool,
    /// Somebody had asked for it.
    pub requested_stop: bool,
    /// When.
    pub at: Option<Moment>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// What it is called in addresses.
    pub id: MachineId,
    /// What it is called by people.
    pub name: String,
    /// What it is at this moment.
    pub state: State,
    /// Where.
    pub region: String,
    /// The version of its config; another one after each update.
    pub version: Option<String>,
    /// Its address in the private network.
    pub private_ip: Option<IpAddr>,
    /// When it was made.
    pub created_at: Option<Moment>,
    /// Whether its host answers.
    pub host: Host,
    /// What it was made with; nothing where its host does not answer.
    pub config: Option<Config>,
    /// Its health checks.
    pub checks: Vec<Check>,
    /// When its main process was started last.
    pub started_at: Option<Moment>,
    /// How its main process ended after the last time that it was started.
    pub exit: Option<Exit>,
    /// Of a lease that it was made with.
    pub(crate) nonce: Option<Nonce>,
}

impl Machine {
    /// Reads one; `None` where there is no id.
    pub(crate) fn read(json: &Value) -> Option<Self> {
        let config = [json.get("config"), json.get("incomplete_config")]
            .into_iter()
            .flatten()
            .find(|config| config.is_object());
        Some(Self {
            id: text(json, "id").parse().ok()?,
            name: text(json, "name"),
            state: State::of(&text(json, "state")),
            region: text(json, "region"),
            version: some(text(json, "version")).or_else(|| some(text(json, "instance_id"))),
            private_ip: text(json, "private_ip").parse().ok(),
            created_at: json.get("created_at").and_then(moment),
            host: match &*text(json, "host_status") {
                "unknown" => Host::Unknown,
                "unreachable" => Host::Unreachable,
                _ => Host::Ok,
            },
            config: config.map(Config::read),
            checks: list(json, "checks").iter().map(Check::read).collect(),
            started_at: started_at(list(json, "events")),
            exit: exit(list(json, "events")),
            nonce: some(text(json, "nonce")).map(Nonce),
        })
    }

    /// The process group that it belongs to, by today's label or the one before.
    pub fn group(&self) -> Option<&str> {
        let metadata = &self.config.as_ref()?.metadata;
        let group = metadata
            .get("fly_process_group")
            .or_else(|| metadata.get("process_group"));
        group.map(String::as_str)
    }
}

impl Config {
    fn read(json: &Value) -> Self {
        let metadata = json.get("metadata").and_then(Value::as_object);
        let labels = metadata.into_iter().flatten().filter_map(|(key, value)| {
            let value = value.as_str()?;
            Some((key.clone(), value.to_owned()))
        });
        let services = list(json, "services")
            .iter()
            .map(|service| match service.get("autostop") {
                Some(Value::Bool(true)) => Autostop::Stop,
                Some(Value::String(word)) if word == "stop" || word == "true" => Autostop::Stop,
                Some(Value::String(word)) if word == "suspend" => Autostop::Suspend,
                _ => Autostop::Off,
            });
        let env = json.get("env").and_then(Value::as_object);
        Self {
            image: text(json, "image"),
            metadata: labels.collect(),
            env: env.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
            autostop: services.max().unwrap_or(Autostop::Off),
            checks: Configured::read(json),
        }
    }
}

impl Configured {
    fn read(json: &Value) -> Self {
        let named = json.get("checks").and_then(Value::as_object);
        let mut most: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut all: Vec<&Value> = named.into_iter().flat_map(|named| named.values()).collect();
        for service in list(json, "services") {
            let mut these: BTreeMap<(String, String), usize> = BTreeMap::new();
            for check in list(service, "checks") {
                let ports = [check, service].into_iter().zip(["port", "internal_port"]);
                let port = ports
                    .filter_map(|(of, name)| of.get(name))
                    .find(|port| port.is_u64());
                let port = port.map(ToString::to_string).unwrap_or_default();
                *these.entry((text(check, "type"), port)).or_default() += 1;
                all.push(check);
            }
            for (check, of) in these {
                let most = most.entry(check).or_default();
                *most = of.max(*most);
            }
        }
        let grace = all
            .iter()
            .filter_map(|check| duration(check.get("grace_period")?));
        let or = |check: &Value, name: &str, default| check.get(name).and_then(duration).unwrap_or(default);
        let round = all
            .iter()
            .map(|check| or(check, "interval", INTERVAL).saturating_add(or(check, "timeout", ANSWER)));
        Self {
            named: named
                .into_iter()
                .flat_map(|named| named.keys().cloned())
                .collect(),
            of_services: most.values().sum(),
            grace: grace.max().unwrap_or_default(),
            round: round.max().unwrap_or_default().min(LONGEST_ROUND),
        }
    }
}

impl Check {
    fn read(json: &Value) -> Self {
        Self {
            name: text(json, "name"),
            status: text(json, "status"),
            output: text(json, "output"),
        }
    }
}

/// The newest start; all events have their times in milliseconds.
fn started_at(events: &[Value]) -> Option<Moment> {
    let starts = events.iter().filter(|event| text(event, "type") == "start");
    let times = starts.filter_map(|event| event.get("timestamp").and_then(moment));
    times.max()
}

/// Of the exits after the last start, the newest. Events are listed from the newest on; their times say so where all have one.
fn exit(events: &[Value]) -> Option<Exit> {
    let mut events: Vec<&Value> = events.iter().collect();
    let time = |event: &&Value| event.get("timestamp").and_then(Value::as_i64);
    if events.iter().all(|event| time(event).is_some()) {
        events.sort_by_key(|event| std::cmp::Reverse(time(event)));
    }
    let since = events.iter().take_while(|event| text(event, "type") != "start");
    let newest = since.into_iter().find(|event| text(event, "type") == "exit")?;
    let request = newest.get("request")?;
    // flyctl looks there first.
    let monitored = request
        .get("MonitorEvent")
        .and_then(|event| event.get("exit_event"));
    let event = [monitored, request.get("exit_event")]
        .into_iter()
        .flatten()
        .find(|event| event.is_object())?;
    let number = |name: &str| event.get(name).and_then(Value::as_i64);
    let flag = |name: &str| event.get(name).and_then(Value::as_bool).unwrap_or_default();
    let oom_killed = flag("oom_killed");
    let signal = number("guest_signal").filter(|signal| *signal > 0);
    // As flyctl has it, a code that is not said is zero; but a process that was killed has none, whatever is said.
    let killed = match signal {
        Some(signal) => Some(signal.saturating_add(SIGNALLED)),
        None => oom_killed.then_some(KILLED),
    };
    Some(Exit {
        code: match number("exit_code") {
            None | Some(0) => killed.unwrap_or_default(),
            Some(code) => code,
        },
        oom_killed,
        requested_stop: flag("requested_stop"),
        at: event.get("exited_at").and_then(moment),
    })
}

/// How often Fly asks, and how long it waits for an answer, where a machine's config does not say: as its guide to checks writes them.
const INTERVAL: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(2);

/// The longest that is waited for: in that guide a minute is the longest interval, and a minute the longest time for an answer.
const LONGEST_ROUND: Duration = Duration::from_secs(120);

/// What a shell adds to the number of a signal, and what it makes of SIGKILL.
const SIGNALLED: i64 = 128;
const KILLED: i64 = SIGNALLED + 9;

/// A length of time as Go writes it, or in nanoseconds.
fn duration(json: &Value) -> Option<Duration> {
    match json {
        Value::String(text) => humantime::parse_duration(text).ok(),
        Value::Number(number) => Some(Duration::from_nanos(number.as_u64()?)),
        _ => None,
    }
}

/// A moment as RFC 3339, or in milliseconds since 1970, which older answers have.
fn moment(json: &Value) -> Option<Moment> {
    match json {
        Value::String(text) => humantime::parse_rfc3339_weak(text).ok(),
        Value::Number(number) => UNIX_EPOCH.checked_add(Duration::from_millis(number.as_u64()?)),
        _ => None,
    }
}

fn text(json: &Value, name: &str) -> String {
    let text = json.get(name).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn list<'a>(json: &'a Value, name: &str) -> &'a [Value] {
    let list = json.get(name).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As the documentation shows one, shortened.
    fn documented() -> Value {
        json!({
            "id": "3d8d413b29d089", "name": "quiet-sky-6", "state": "started", "region": "ord",
            "instance_id": "01HQ000000000000000000000A", "version": "01HQ000000000000000000000B",
            "private_ip": "fdaa:2:45b:a7b:19c:bbd4:95bb:2", "created_at": "2026-11-27T09:00:00Z",
            "host_status": "ok",
            "config": {
                "image": "registry.fly.io/shop:deployment-01H3", "metadata": {"fly_process_group": "app"},
                "env": {"PORT": "8080", "KEY": "secret"},
                "checks": {"alive": {"type": "http", "port": 9000, "grace_period": "1m30s", "interval": "30s", "timeout": "5s"}},
                "services": [
                    {"autostop": false, "internal_port": 8080, "checks": [{"type": "http", "grace_period": 5000000000_u64}]},
                    {"autostop": "suspend"},
                ],
            },
            "checks": [{"name": "alive", "status": "critical", "output": "connection refused"}],
            "events": [],
        })
    }

    #[test]
    fn a_machine_is_read_as_documented() {
        let machine = Machine::read(&documented()).unwrap();
        assert_eq!(machine.id.as_str(), "3d8d413b29d089");
        assert_eq!(machine.state, State::Started);
        assert_eq!(machine.version.as_deref(), Some("01HQ000000000000000000000B"));
        assert!(machine.private_ip.unwrap().is_ipv6());
        assert_eq!(
            machine.created_at,
            Some(UNIX_EPOCH + Duration::from_secs(1_795_770_000))
        );
        assert_eq!(machine.group(), Some("app"));
        let config = machine.config.as_ref().unwrap();
        assert_eq!(config.autostop, Autostop::Suspend);
        assert!(config.env.iter().eq(["KEY", "PORT"]), "{config:?}");
        assert!(!format!("{machine:?}").contains("secret"), "{machine:?}");
        assert_eq!(machine.checks[0].status, "critical");
        let configured = Configured {
            named: ["alive".to_owned()].into(),
            of_services: 1,
            grace: Duration::from_secs(90),
            round: Duration::from_secs(35),
        };
        assert_eq!(config.checks, configured);
        assert_eq!(machine.exit, None);
    }

    #[test]
    fn a_round_is_that_of_the_slowest_check() {
        for (checks, seconds) in [
            (json!({}), 0),
            (json!({"a": {"type": "tcp"}}), 17),
            (
                json!({"a": {"interval": "10s", "timeout": 1_000_000_000}, "b": {"interval": "30s"}}),
                32,
            ),
            (json!({"a": {"interval": "1h", "timeout": "1m"}}), 120),
        ] {
            let machine = Machine::read(&json!({"id": "1", "config": {"checks": checks}})).unwrap();
            let round = machine.config.unwrap().checks.round;
            assert_eq!(round, Duration::from_secs(seconds), "{checks}");
        }
    }

    #[test]
    fn what_is_absent_or_null_is_not_said() {
        let bare = Machine::read(&json!({"id": "1"})).unwrap();
        let mut nulls = documented();
        for (name, value) in nulls.as_object_mut().unwrap() {
            *value = if name == "id" { json!("1") } else { Value::Null };
        }
        assert_eq!(Machine::read(&nulls).unwrap(), bare);
        assert_eq!(bare.host, Host::Ok);
        assert_eq!(bare.group(), None);
        for none in [
            json!(null),
            json!([]),
            json!({"id": null}),
            json!({"id": "../apps"}),
            json!({"id": ""}),
        ] {
            assert_eq!(Machine::read(&none), None, "{none}");
        }
    }

    #[test]
    fn a_machine_whose_host_is_silent_still_has_its_labels() {
        let mut json = documented();
        json["incomplete_config"] = json["config"].take();
        json["host_status"] = json!("unreachable");
        let machine = Machine::read(&json).unwrap();
        assert_eq!(machine.host, Host::Unreachable);
        assert_eq!(machine.group(), Some("app"));
    }

    #[test]
    fn the_start_is_the_newest_one() {
        let mut json = documented();
        let event = |kind: &str, ms: Value| json!({"type": kind, "timestamp": ms});
        json["events"] = json!([
            event("exit", json!(9_000)),
            event("start", json!(7_000)),
            event("start", json!(8_000)),
            event("start", json!(null)),
            event("launch", json!(1_000)),
        ]);
        let started_at = |json: &Value| Machine::read(json).unwrap().started_at;
        assert_eq!(started_at(&json), Some(UNIX_EPOCH + Duration::from_secs(8)));
        json["events"] = json!([event("launch", json!(1_000))]);
        assert_eq!(started_at(&json), None);
    }

    #[test]
    fn autostop_is_read_in_each_of_its_forms() {
        for (said, means) in [
            (json!(true), Autostop::Stop),
            (json!("stop"), Autostop::Stop),
            (json!("suspend"), Autostop::Suspend),
            (json!(false), Autostop::Off),
            (json!("off"), Autostop::Off),
            (json!(null), Autostop::Off),
        ] {
            let config = Config::read(&json!({"services": [{"autostop": said}, {}]}));
            assert_eq!(config.autostop, means, "{said}");
        }
    }

    #[test]
    fn the_checks_of_services_are_as_many_as_have_names_of_their_own() {
        let http = || json!({"type": "http"});
        let tcp = || json!({"type": "tcp"});
        let elsewhere = || json!({"type": "http", "port": 9000});
        let service = |port: u16, checks: Value| json!({"internal_port": port, "checks": checks});
        for (services, count) in [
            (json!(null), 0),
            (json!([service(80, json!(null)), service(80, json!([]))]), 0),
            // Two of one service have two numbers.
            (json!([service(80, json!([http(), http(), tcp()]))]), 3),
            (json!([service(80, json!([http(), elsewhere()]))]), 2),
            (
                json!([service(80, json!([http()])), service(81, json!([http()]))]),
                2,
            ),
            // Two of two services may have one.
            (
                json!([service(80, json!([http()])), service(80, json!([http(), http()]))]),
                2,
            ),
        ] {
            let config = Config::read(&json!({"services": services}));
            assert_eq!(config.checks.of_services, count, "{services}");
        }
    }

    #[test]
    fn the_exit_is_the_newest_after_the_last_start() {
        let start = |at: u64| json!({"type": "start", "status": "started", "timestamp": at});
        let ended = |at: u64, request: Value| json!({"type": "exit", "timestamp": at, "request": request});
        let plain =
            |code: i64| json!({"exit_event": {"exit_code": code, "exited_at": "2026-11-27T09:00:00Z"}});
        let code = |events: Vec<Value>| exit(&events).map(|exit| exit.code);
        assert_eq!(code(vec![]), None);
        assert_eq!(
            code(vec![ended(3, plain(11)), start(2), ended(1, plain(5))]),
            Some(11)
        );
        // Out of order, as long as the times say so.
        assert_eq!(
            code(vec![start(2), ended(1, plain(5)), ended(3, plain(11))]),
            Some(11)
        );
        // It runs, and what came before is over.
        assert_eq!(code(vec![start(2), ended(1, plain(5))]), None);
        assert_eq!(
            code(vec![ended(3, plain(7)), ended(2, plain(8)), start(1)]),
            Some(7)
        );
        // What the monitor says comes first.
        let both = json!({"exit_event": {"exit_code": 0}, "MonitorEvent": {"exit_event": {"exit_code": 12}}});
        assert_eq!(code(vec![ended(3, both)]), Some(12));
        let null = json!({"exit_event": {"exit_code": 3}, "MonitorEvent": null});
        assert_eq!(code(vec![ended(3, null)]), Some(3));
        assert_eq!(code(vec![ended(3, json!({"exit_event": {}}))]), Some(0));
        assert_eq!(code(vec![ended(3, json!(null))]), None);
    }

    #[test]
    fn who_was_killed_did_not_end_well_whatever_code_is_said() {
        for (said, expected) in [
            (json!({"oom_killed": true}), 137),
            (json!({"oom_killed": true, "exit_code": 0}), 137),
            (json!({"guest_signal": 9}), 137),
            (json!({"guest_signal": 9, "exit_code": 0}), 137),
            (
                json!({"guest_signal": 15, "exit_code": 0, "oom_killed": false}),
                143,
            ),
            (json!({"guest_signal": i64::MAX, "exit_code": null}), i64::MAX),
            // A code of its own says more, and a signal below 1 is none.
            (json!({"guest_signal": 9, "exit_code": 12}), 12),
            (json!({"guest_signal": -1, "exit_code": 0}), 0),
            (json!({"guest_signal": 0}), 0),
        ] {
            let event = json!({"type": "exit", "timestamp": 3, "request": {"exit_event": said}});
            assert_eq!(exit(&[event]).map(|exit| exit.code), Some(expected), "{said}");
        }
    }

    #[test]
    fn the_time_of_an_exit_is_read_in_both_forms() {
        let at = Some(UNIX_EPOCH + Duration::from_secs(1_795_770_000));
        assert_eq!(moment(&json!("2026-11-27T09:00:00.000Z")), at);
        assert_eq!(moment(&json!(1_795_770_000_000_u64)), at);
        for none in [json!("yesterday"), json!(-1), json!(1.5), json!(null), json!({})] {
            assert_eq!(moment(&none), None, "{none}");
        }
    }

    #[test]
    fn every_known_state_has_one_word() {
        for (word, state) in State::WORDS {
            assert_eq!(State::of(word), state);
            assert_eq!(state.to_string(), word);
        }
        assert_eq!(State::of("levitating").to_string(), "levitating");
    }

    /// Any JSON, with the names that are looked for.
    fn any_json() -> impl Strategy<Value = Value> {
        let names = prop::sample::select(vec![
            "id",
            "name",
            "state",
            "config",
            "incomplete_config",
            "metadata",
            "services",
            "autostop",
            "events",
            "type",
            "timestamp",
            "request",
            "exit_event",
            "MonitorEvent",
            "exit_code",
            "exited_at",
            "checks",
            "grace_period",
            "internal_port",
            "created_at",
            "private_ip",
            "host_status",
            "nonce",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::sample::select(vec!["exit", "start", "a1", "", "2026-11-27T09:00:00Z"])
                .prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((names.clone(), inner), 0..8).prop_map(|pairs| pairs
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_machine_or_none(json in any_json()) {
            if let Some(machine) = Machine::read(&json) {
                prop_assert_eq!(json["id"].as_str(), Some(machine.id.as_str()));
            }
        }
    }
}

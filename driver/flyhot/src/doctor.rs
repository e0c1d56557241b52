//! `flyhot doctor`: whether nodes can be reached and upgraded, check by check, each with what to do where it is not well.
//!
//! Nothing is touched on a node. What has to be tried leaves nothing behind but the one object of a store that is for that. The checks of a
//! node are made by pure functions of what [`crate::drive::examine`] found.

mod fly;
mod flyctl;
mod time;

use flyhot_events::{ErrorKind, Event, ExitCode};
use flyhot_node::NodeName;
use flyhot_store::{Store as _, keeps_conditions};

use crate::asked::{self, Answer, Told};
use crate::boot::{self, PlaceError};
use crate::cli::{HomeArgs, Inventory, ReachArgs};
use crate::clock::{self, Beside};
use crate::drive::NodeError;
use crate::drive::examine::{Examined, Found, Stage, examine};
use crate::errors;
use crate::inventory;
use crate::options::{self, Environment, Peer, Place};
use crate::report::Reporter;

pub(crate) use fly::{Told as StoreTold, no_store};

/// The oldest OTP whose nodes are upgraded: the agent is compiled with it.
const OLDEST_OTP: u32 = 25;

/// Performs the command; every way out of it emits the outcome.
pub(crate) fn command(
    args: &ReachArgs,
    home: &HomeArgs,
    environment: &Environment,
    reporter: &mut Reporter,
) -> ExitCode {
    let how = How {
        dist_port: args.dist_port,
        tls: args.dist_tls,
    };
    let work = async |peer: Peer| {
        let examined = examine(&peer).await?;
        Ok((peer, examined))
    };
    let here = async |found: Option<&inventory::Found>| {
        let (keys, unusable) = keys(environment);
        let place = boot::place_here(home, environment).await;
        let settings = options::settings(home, environment).ok();
        let known = place.as_ref().ok().and_then(|place| place.as_ref().ok());
        let told = fly::Told::of(settings.as_ref(), known, environment.machine.is_some());
        // A command on a machine may see less than what runs there.
        let sees_all = environment.machine.is_none() || told.keys || environment.access_key_id.is_some();
        let (store, unwell) = store(place, sees_all).await;
        let mut checks = vec![keys];
        checks.extend(store);
        // On a machine of Fly nobody deploys by hand.
        if args.inventory == Some(Inventory::Fly) && environment.machine.is_none() {
            checks.extend(flyctl::checks(environment, found.is_some()).await);
        }
        if let Some(found) = found {
            checks.extend(fly::checks(found, told).await);
        }
        let events = checks.into_iter().map(|check| check.event(HERE));
        (events.collect(), unusable.or(unwell))
    };
    asked::with(
        "doctor",
        args,
        home,
        environment,
        reporter,
        here,
        work,
        |answers| told(answers, how),
    )
}

/// What is looked at here where all else is looked at on a machine of the app.
pub(crate) async fn before_it_goes(environment: &Environment) -> impl Iterator<Item = Event> {
    let checks = flyctl::checks(environment, false).await;
    checks.into_iter().map(|check| check.event(HERE))
}

/// Whether the store that is named, if one is, can be relied on.
async fn store(
    place: Result<Result<Place, PlaceError>, NodeError>,
    sees_all: bool,
) -> (Vec<Check>, Option<ErrorKind>) {
    let ill = |error: NodeError| {
        let kind = error.kind;
        (vec![not_well("store", error.message, error.hint)], Some(kind))
    };
    let unseen = |why: &str| (vec![well("store", format!("not known: {why}"))], None);
    let place = match place {
        Ok(Ok(place)) if sees_all || place.directory().is_some() => place,
        Ok(Ok(_)) => return unseen("the keys of its bucket are not seen here"),
        Ok(Err(error)) if error.is_no_store() && sees_all => return (Vec::new(), None),
        Ok(Err(error)) if error.is_no_store() => return unseen(&error.told().message),
        Ok(Err(error)) => return ill(error.told()),
        Err(error) => return ill(error),
    };
    let store = place.open().await;
    if let Err(error) = keeps_conditions(&store, &place.app).await {
        return ill(errors::store(&error));
    }
    let found = format!("{} can be read and written, and keeps conditions", store.name());
    let mut checks = vec![well("store", found)];
    let asked = clock::now();
    if let Some(theirs) = store.time(&place.app).await {
        let beside = Beside {
            asked,
            theirs: clock::since_1970(theirs),
            answered: clock::now(),
        };
        checks.push(time::of_service(&format!("that of {}", store.name()), &beside));
    }
    (checks, None)
}

/// What a check is of that is of no node.
const HERE: &str = "this machine";

/// Whose artifacts this machine takes.
fn keys(environment: &Environment) -> (Check, Option<ErrorKind>) {
    match options::trust(environment) {
        Ok(trust) => {
            let found = match trust.keys() {
                0 => "none: whatever is whole is taken; set FLYHOT_PUBLIC_KEYS to change it (flyhot keygen)"
                    .to_owned(),
                1 => "1: an artifact is taken only where it signed it".to_owned(),
                keys => format!("{keys}: an artifact is taken only where one of them signed it"),
            };
            (well("keys", found), None)
        }
        Err(error) => {
            let check = not_well("keys", errors::chain(&error), error.hint());
            (check, Some(ErrorKind::Usage))
        }
    }
}

/// What lies on the way to a node.
#[derive(Debug, Clone, Copy)]
struct How {
    dist_port: Option<u16>,
    tls: bool,
}

fn told(answers: Vec<Answer<(Peer, Examined)>>, how: How) -> Told {
    asked::each(answers, |name, (peer, examined)| {
        let (checks, against) = match examined {
            Examined::Unreachable { at, error } => {
                let mut checks = way(how, Some(at));
                checks.push(Check {
                    check: word(at),
                    well: false,
                    found: error.message,
                    fix: error.hint,
                });
                (checks, Some(error.kind))
            }
            Examined::Reached(found) => {
                let mut checks = way(how, None);
                checks.extend(inside(&peer.name, &found));
                checks.push(start(found.booted, peer.machine.is_some()));
                let old = !is_supported(&found.otp);
                (checks, old.then_some(ErrorKind::ColdDeployNeeded))
            }
        };
        let events = checks.into_iter().map(|check| check.event(&name));
        (events.collect(), against)
    })
}

struct Check {
    check: &'static str,
    well: bool,
    found: String,
    fix: String,
}

impl Check {
    fn event(self, node: &str) -> Event {
        Event::Check {
            node: node.to_owned(),
            check: self.check.to_owned(),
            well: self.well,
            found: self.found,
            fix: self.fix,
        }
    }
}

fn well(check: &'static str, found: impl Into<String>) -> Check {
    Check {
        check,
        well: true,
        found: found.into(),
        fix: String::new(),
    }
}

fn not_well(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
    Check {
        check,
        well: false,
        found: found.into(),
        fix: fix.into(),
    }
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Host => "host",
        Stage::Epmd => "epmd",
        Stage::Port => "port",
        Stage::Tls => "tls",
        Stage::Handshake => "handshake",
        Stage::Cookie => "cookie",
    }
}

/// The stages that were passed before the one that was not.
fn way(how: How, until: Option<Stage>) -> Vec<Check> {
    let stages = [
        (Stage::Host, "has an address"),
        (Stage::Epmd, "answers and knows the node"),
        (Stage::Port, "is open to this machine"),
        (Stage::Tls, "the node's certificate is of the CA and of the host"),
        (
            Stage::Handshake,
            "the node speaks a distribution protocol known here",
        ),
        (Stage::Cookie, "is the node's"),
    ];
    stages
        .into_iter()
        .filter(|(stage, _)| until.is_none_or(|until| *stage < until))
        .filter(|(stage, _)| match stage {
            Stage::Epmd => how.dist_port.is_none(),
            Stage::Tls => how.tls,
            _ => true,
        })
        .map(|(stage, found)| well(word(stage), found))
        .collect()
}

fn is_supported(otp: &str) -> bool {
    otp.parse::<u32>().is_ok_and(|otp| otp >= OLDEST_OTP)
}

/// A check of how a node was started.
const START: &str = "start";

/// How a node has to be started whose machine begins with its image each time.
const BY_BOOT: &str = "Start it by `CMD [\"flyhot\", \"boot\", \"--\", \"/app/bin/server\"]` in the Dockerfile, as `mix fly_deploy.install` \
                       writes it, and so in each command of [processes] in fly.toml; then `fly deploy` once.";

/// Whether the next start of a node is led to the code that its fleet runs.
fn start(booted: bool, of_image: bool) -> Check {
    match (booted, of_image) {
        (true, _) => well(
            START,
            "by `flyhot boot`: the next one runs what was committed last",
        ),
        (false, true) => not_well(
            START,
            "not by `flyhot boot`: the next one runs the code of the image, whatever was deployed since",
            BY_BOOT,
        ),
        (false, false) => well(
            START,
            "not by `flyhot boot`: the next one runs what lies on the node's own disk by then",
        ),
    }
}

/// What a rollout says where nodes are of an image and were not started so: of the first of them, and how many there are besides.
pub(crate) fn unbooted(node: &str, others: usize) -> Event {
    let who = match others {
        0 => "it was".to_owned(),
        1 => "it and another node were".to_owned(),
        others => format!("it and {others} other nodes were"),
    };
    let found = format!("{who} not started by `flyhot boot`: the next start runs the old code of the image");
    not_well(START, found, BY_BOOT).event(node)
}

/// A check of what becomes of machines that are suspended.
const RESUME: &str = "resume";

/// So many of them are named: a sentence can be read, and the inventory has all.
const NAMED: usize = 8;

/// Machines in a sentence.
fn some_of(machines: &[String]) -> String {
    let named: Vec<&str> = machines.iter().take(NAMED).map(String::as_str).collect();
    let others = match machines.len().saturating_sub(NAMED) {
        0 => String::new(),
        1 => " and another one".to_owned(),
        others => format!(" and {others} others"),
    };
    format!("{}{others}", named.join(", "))
}

/// A check of what machines are started from.
const IMAGE: &str = "image";

/// What a rollback says where machines have another image than those which boot what the store says, if any has.
pub(crate) fn of_other_images(machines: &[String]) -> Option<Event> {
    let first = machines.first()?;
    let found = format!(
        "{} will boot another image than the one that the store's history is of: what is gone back to ends there with the next start",
        some_of(machines)
    );
    let fix = "Where a `fly deploy` came to some machines only, have it come to its end, or take it back by `fly deploy --image`.";
    Some(not_well(IMAGE, found, fix).event(first))
}

/// What a rollout says where machines are suspended, if any is: they do not boot. Where `again` is true, the same command takes them over
/// once they are started.
pub(crate) fn suspended(machines: &[String], again: bool) -> Option<Event> {
    let first = machines.first()?;
    let named = some_of(machines);
    let found = match machines.len() {
        1 => format!("{named} is suspended: when it resumes, it goes on with the code that it had"),
        _ => format!("{named} are suspended: when they resume, they go on with the code that they had"),
    };
    let boots = "`fly machine stop ID`, then `fly machine start ID`";
    let fix = if again {
        format!("Run the same command again once they are started, or have them boot: {boots}.")
    } else {
        format!("Have them boot: {boots}.")
    };
    Some(not_well(RESUME, found, fix).event(first))
}

/// What only a node that was reached can say.
fn inside(node: &NodeName, found: &Found) -> Vec<Check> {
    let mib = |bytes: u64| format!("{} MiB", bytes / 1024 / 1024);
    let host = node.host();
    let name = if host == "localhost" || host == "::1" || host.starts_with("127.") {
        not_well(
            "name",
            format!("{node} has a loopback host: it is reached from its own machine alone"),
            match found.elixir {
                Some(_) => format!(
                    "For a Mix release, in rel/env.sh.eex: `export RELEASE_DISTRIBUTION=name` and \
                     `export RELEASE_NODE={}@$(hostname -i)`; on Fly.io `@${{FLY_PRIVATE_IP}}`.",
                    node.name()
                ),
                None => format!(
                    "In vm.args, or where the node is started: `-name {}@ADDRESS` instead of -sname or -name, with an address \
                     that other machines reach.",
                    node.name()
                ),
            },
        )
    } else if node.is_long() {
        well("name", "long, by a host that other machines can reach")
    } else {
        well("name", format!("short: reached by machines that resolve {host}"))
    };
    let listener = match &found.loopback {
        Some(address) => not_well(
            "listener",
            format!("the node listens on {address} alone: kernel's inet_dist_use_interface says so"),
            "Take `-kernel inet_dist_use_interface` out of vm.args.eex, or `inet_dist_use_interface` out of the \
             configuration of kernel.",
        ),
        None => well("listener", "not bound to a loopback address"),
    };
    let elixir = found
        .elixir
        .as_ref()
        .map_or(String::new(), |version| format!(", Elixir {version}"));
    let toolchain = if is_supported(&found.otp) {
        well("toolchain", format!("OTP {}{elixir}", found.otp))
    } else {
        not_well(
            "toolchain",
            format!("OTP {}{elixir}", found.otp),
            format!("Deploy it cold with OTP {OLDEST_OTP} or newer."),
        )
    };
    let sasl = well(
        "sasl",
        if found.sasl {
            "runs"
        } else {
            "does not run; flyhot does without it"
        },
    );
    let disk = if found.closed.is_empty() {
        well(
            "disk",
            format!(
                "what an upgrade writes to below {} is the node's to write",
                found.root
            ),
        )
    } else {
        not_well(
            "disk",
            format!("the node may not write to {}", found.closed.join(", ")),
            "Give the node's user the right to write there, or upgrade with --no-persist and have the next start boot the \
             new release.",
        )
    };
    let memory = match found.free_bytes {
        Some(free) if free >= found.memory_bytes => well(
            "memory",
            format!(
                "{} available, {} in use by the node",
                mib(free),
                mib(found.memory_bytes)
            ),
        ),
        Some(free) => not_well(
            "memory",
            format!(
                "{} available, {} in use by the node",
                mib(free),
                mib(found.memory_bytes)
            ),
            "States that are migrated need their memory twice for a moment; `flyhot plan` says how much that is.",
        ),
        None => well("memory", "not known: the node's machine has no /proc/meminfo"),
    };
    let clock = time::of_node(found.clock.as_ref());
    let holder = match &found.holder {
        Some(holder) => not_well(
            "nobody else",
            format!("at work on the node: {holder}"),
            "Wait until it has finished.",
        ),
        None => well("nobody else", "is at work on the node"),
    };
    vec![name, listener, toolchain, sasl, disk, memory, clock, holder]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn sound() -> Found {
        Found {
            otp: "25".into(),
            free_bytes: Some(2),
            memory_bytes: 1,
            ..Found::default()
        }
    }

    fn ill(node: &NodeName, found: &Found) -> Vec<&'static str> {
        let checks = inside(node, found).into_iter();
        checks
            .filter(|check| {
                assert_eq!(check.fix.is_empty(), check.well, "{}", check.check);
                !check.well
            })
            .map(|check| check.check)
            .collect()
    }

    #[test]
    fn each_thing_that_is_not_well_has_its_own_check() {
        let far = node("shop@10.0.0.1");
        assert!(ill(&far, &sound()).is_empty());
        assert!(ill(&node("shop@web-1"), &sound()).is_empty());
        for host in ["127.0.0.1", "localhost", "::1"] {
            assert_eq!(ill(&node(&format!("shop@{host}")), &sound()), ["name"]);
        }
        let otp = |otp: &str| Found {
            otp: otp.into(),
            ..sound()
        };
        assert_eq!(ill(&far, &otp("24")), ["toolchain"]);
        assert!(ill(&far, &otp("29")).is_empty());
        let all = Found {
            loopback: Some("127.0.0.1".into()),
            free_bytes: Some(0),
            holder: Some("flyhot".into()),
            closed: vec!["/srv/shop/releases".into()],
            clock: Some(Beside {
                asked: Duration::from_secs(1_000),
                theirs: Duration::ZERO,
                answered: Duration::from_secs(1_000),
            }),
            ..sound()
        };
        assert_eq!(
            ill(&far, &all),
            ["listener", "disk", "memory", "clock", "nobody else"]
        );
    }

    #[test]
    fn who_begins_with_an_image_has_to_be_started_by_flyhot() {
        for (booted, of_image, is_well) in [
            (true, true, true),
            (true, false, true),
            (false, true, false),
            (false, false, true),
        ] {
            let check = start(booted, of_image);
            assert_eq!((check.well, check.fix.is_empty()), (is_well, is_well));
        }
        for (others, who) in [
            (0, "it was "),
            (1, "it and another node were "),
            (5, "it and 5 other nodes were "),
        ] {
            let Event::Check { found, .. } = unbooted("a@h", others) else {
                panic!("no check")
            };
            assert!(found.starts_with(&format!("{who}not started")), "{found}");
        }
    }

    #[test]
    fn who_is_suspended_is_named_and_of_many_some() {
        let many: Vec<String> = (1..=10).map(|number| format!("m{number}")).collect();
        assert!(suspended(&[], true).is_none());
        for (machines, who) in [
            (&many[..1], "m1 is suspended: "),
            (&many[..2], "m1, m2 are suspended: "),
            (
                &many[..9],
                "m1, m2, m3, m4, m5, m6, m7, m8 and another one are suspended: ",
            ),
            (
                &many,
                "m1, m2, m3, m4, m5, m6, m7, m8 and 2 others are suspended: ",
            ),
        ] {
            for again in [true, false] {
                let Some(Event::Check { node, found, fix, .. }) = suspended(machines, again) else {
                    panic!("no check")
                };
                assert!(node == "m1" && found.starts_with(who), "{found}");
                assert_eq!(fix.contains("the same command"), again, "{fix}");
            }
        }
    }

    #[test]
    fn the_way_is_told_as_far_as_it_was_gone() {
        let words = |how, until| {
            way(how, until)
                .iter()
                .map(|check| check.check)
                .collect::<Vec<_>>()
        };
        let plain = How {
            dist_port: None,
            tls: false,
        };
        assert_eq!(words(plain, Some(Stage::Port)), ["host", "epmd"]);
        assert_eq!(
            words(plain, None),
            ["host", "epmd", "port", "handshake", "cookie"]
        );
        let direct = How {
            dist_port: Some(9100),
            tls: true,
        };
        assert_eq!(
            words(direct, Some(Stage::Cookie)),
            ["host", "port", "tls", "handshake"]
        );
    }
}

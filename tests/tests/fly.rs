//! flyhot's client of the Machines API against a Fly that ails: what it promises of machines, leases, rates and tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use flyhot_tests::{
    Asker, CrossApp, Fly, FlyCli, FlyIlls, Grant, Namespaces, Random, Record, RetryAfter, Scratch, Upload,
    rounds, wait_or_tell, wait_until,
};
use serde_json::{Value, json};

const IMAGE: &str = "registry.fly.io/shop:deployment-01H3ANTSW6XD3ZGHKCG3PPZ2MF";

/// As long as a request is tried: longer than anything here ails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Far beyond what is waited for.
const LIMIT: Duration = Duration::from_secs(60);

fn fly(name: &str, ills: FlyIlls) -> Fly {
    let fly = Fly::start(ills, Random::new(name));
    fly.push_empty(IMAGE);
    fly
}

/// A machine of the app, as flyctl makes one.
fn made(fly: &Fly, group: &str) -> String {
    fly.make(&json!({"config": {
        "image": IMAGE, "init": {"exec": ["sleep", "infinity"]}, "restart": {"policy": "no"},
        "metadata": {"fly_platform_version": "v2", "fly_process_group": group},
    }}))
}

fn started(fly: &Fly, group: &str) -> String {
    let id = made(fly, group);
    until(fly, &id, "started");
    id
}

/// Waits until a machine is in a state, whatever the API shows of it.
fn until(fly: &Fly, id: &str, state: &str) -> Value {
    wait_or_tell(
        &format!("{id} is {state}"),
        LIMIT,
        || seen(fly, id)["state"] == state,
        || seen(fly, id).to_string(),
    );
    seen(fly, id)
}

fn seen(fly: &Fly, id: &str) -> Value {
    let machines = fly.machines();
    machines.into_iter().find(|machine| machine["id"] == id).unwrap()
}

/// How many starts had that answer.
fn starts(fly: &Fly, status: u16) -> usize {
    let starts = fly.asked("POST", "/start");
    starts
        .iter()
        .filter(|record| record.status == Some(status))
        .count()
}

fn until_a_start_has(fly: &Fly, status: u16) {
    wait_until(&format!("a start has {status}"), LIMIT, || {
        starts(fly, status) > 0
    });
}

fn started_once(fly: &Fly, answer: &Value) {
    assert!(answer.get("done").is_some(), "{answer:#}");
    assert_eq!(starts(fly, 200), 1);
}

fn named(fly: &Fly, name: &str) -> Vec<Value> {
    let mut machines = fly.machines();
    machines.retain(|machine| machine["name"] == name);
    machines
}

fn creation(name: &str, words: &[&str]) -> Value {
    json!({"do": "create", "name": name, "image": IMAGE, "rollout": name, "command": words, "env": {"KEY": "value"}})
}

/// A request of somebody who knows the API and not flyhot.
fn raw(fly: &Fly, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(fly.url().trim_start_matches("http://")).unwrap();
    let mut head = format!(
        "{method} /v1{path} HTTP/1.1\r\nhost: fly\r\ncontent-length: {}\r\n",
        body.len()
    );
    let token = format!("Bearer FlyV1 {}", Fly::TOKEN);
    let given = headers.iter().any(|(name, _)| *name == "authorization");
    for (name, value) in headers
        .iter()
        .chain(Some(&("authorization", &*token)).filter(|_| !given))
    {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("fly-request-id: "), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
}

fn of(fly: &Fly, id: &str, method: &str, rest: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    raw(
        fly,
        method,
        &format!("/apps/shop/machines/{id}{rest}"),
        &[],
        &body,
    )
}

fn unlimited() -> FlyIlls {
    FlyIlls {
        limits: false,
        ..FlyIlls::default()
    }
}

// ---- never two machines

#[test]
fn whatever_befalls_a_create_there_are_never_two_machines() {
    let mut random = Random::new("never two");
    let (mut made, mut unsure) = (0, 0);
    for _ in 0..rounds(1, 20) {
        let fly = fly("never two: what befalls whom", unlimited());
        let mut often = || random.below(250);
        fly.ail(FlyIlls {
            server_errors: often(),
            resets: often(),
            lost_answers: often(),
            cut_bodies: often(),
            late_errors: often(),
            lost_creates: 300,
            broken_creates: 200,
            limited: 30,
            unknown_manifests: 2,
            list_delay: Duration::from_millis(1_500),
            get_delay: Duration::from_millis(700),
            ..unlimited()
        });
        let askers: Vec<Asker> = (0..8)
            .map(|_| Asker::start(&fly, Duration::from_secs(20)))
            .collect();
        let asked: Vec<(String, u64)> = askers
            .iter()
            .enumerate()
            .map(|(number, asker)| {
                let name = format!("flyhot-{number}");
                let id = asker.begin(creation(&name, &["sleep", "infinity"]));
                (name, id)
            })
            .collect();
        for (asker, (name, id)) in askers.iter().zip(asked) {
            let answer = asker.answer(id);
            let there = named(&fly, &name);
            match answer.get("done") {
                Some(done) => {
                    assert_eq!(there.len(), 1, "{answer:#} {there:#?}");
                    assert_eq!(done["id"], there[0]["id"]);
                    made += 1;
                }
                None => assert!(there.len() <= 1, "{answer:#} {there:#?}"),
            }
        }
        let looked = fly.asked("GET", "/machines");
        unsure += looked
            .iter()
            .filter(|record| record.query.contains("metadata."))
            .count();
        // None of them runs: nobody has started it.
        assert!(fly.machines().iter().all(|machine| machine["state"] != "started"));
    }
    assert!(made > 0 && unsure > 0, "{made} made, {unsure} looked for");
}

#[test]
fn a_create_whose_answer_is_lost_is_found_and_not_made_again() {
    for (ills, what) in [
        (
            FlyIlls {
                lost_creates: 1_000,
                ..FlyIlls::default()
            },
            "408",
        ),
        (
            FlyIlls {
                broken_creates: 1_000,
                ..FlyIlls::default()
            },
            "a broken connection",
        ),
    ] {
        let fly = fly("lost create", ills);
        let asker = Asker::start(&fly, PATIENCE);
        let done = asker.done(creation("flyhot-1", &["sleep", "infinity"]));
        assert_eq!(named(&fly, "flyhot-1").len(), 1, "{what}");
        assert_eq!(done["id"], named(&fly, "flyhot-1")[0]["id"], "{what}");
        assert_eq!(done["leased"], false, "{what}");
        assert_eq!(fly.asked("POST", "/machines").len(), 1, "{what}");
    }
}

#[test]
fn a_create_that_no_list_shows_yet_ends_in_the_machine_that_was_made() {
    let ills = FlyIlls {
        lost_creates: 1_000,
        list_delay: Duration::from_secs(3),
        ..FlyIlls::default()
    };
    let fly = fly("unseen create", ills);
    let asker = Asker::start(&fly, PATIENCE);
    let done = asker.done(creation("flyhot-1", &["sleep", "infinity"]));
    assert_eq!(named(&fly, "flyhot-1").len(), 1);
    assert_eq!(done["id"], named(&fly, "flyhot-1")[0]["id"]);
    // It was tried again, and the name kept it from being made.
    assert!(
        fly.asked("POST", "/machines")
            .iter()
            .any(|record| record.status == Some(409))
    );
}

#[test]
fn a_name_that_somebody_else_has_is_said_to_be_taken() {
    let fly = fly("name taken", FlyIlls::default());
    fly.make(&json!({"name": "flyhot-1", "config": {"image": IMAGE}}));
    let asker = Asker::start(&fly, Duration::from_secs(3));
    let (kind, said) = asker.failed(creation("flyhot-1", &["true"]));
    assert_eq!(kind, "NameTaken");
    assert!(
        said.starts_with("a machine flyhot-1 is there already, and it is another one: HTTP 409"),
        "{said}"
    );
    assert_eq!(named(&fly, "flyhot-1").len(), 1);
}

#[test]
fn an_image_that_comes_late_is_waited_for_and_one_that_never_comes_is_named() {
    let fly = fly(
        "manifest",
        FlyIlls {
            unknown_manifests: 2,
            ..FlyIlls::default()
        },
    );
    let asker = Asker::start(&fly, PATIENCE);
    asker.done(creation("flyhot-1", &["true"]));
    assert_eq!(named(&fly, "flyhot-1").len(), 1);
    assert_eq!(fly.asked("POST", "/machines").len(), 3);

    let hasty = Asker::start(&fly, Duration::from_secs(2));
    let mut absent = creation("flyhot-2", &["true"]);
    absent["image"] = json!("registry.fly.io/shop:absent");
    let (kind, said) = hasty.failed(absent);
    assert_eq!(kind, "NoImage");
    assert!(
        said.contains("registry.fly.io/shop:absent") && said.contains("(request "),
        "{said}"
    );
    assert_eq!(named(&fly, "flyhot-2").len(), 0);
}

#[test]
fn a_create_that_is_refused_for_anything_else_is_tried_once() {
    let ills = FlyIlls {
        no_room: &["fra"],
        ..FlyIlls::default()
    };
    let mut of_fra = creation("flyhot-1", &["true"]);
    of_fra["region"] = json!("fra");
    let maintained = FlyIlls {
        maintained: &["fra"],
        ..FlyIlls::default()
    };
    for (status, kind, ills, token, creation) in [
        (
            401,
            "NotKnown",
            FlyIlls::default(),
            "fm2_gone",
            creation("flyhot-1", &["true"]),
        ),
        (
            403,
            "NotAllowed",
            FlyIlls {
                refused: &["/machines"],
                ..FlyIlls::default()
            },
            Fly::TOKEN,
            creation("flyhot-1", &["true"]),
        ),
        (
            409,
            "NameTaken",
            FlyIlls::default(),
            Fly::TOKEN,
            creation("flyhot-0", &["true"]),
        ),
        (422, "NoRoom", ills, Fly::TOKEN, of_fra.clone()),
        (503, "NoRoom", maintained, Fly::TOKEN, of_fra),
    ] {
        let fly = fly("refused once", ills);
        fly.make(&json!({"name": "flyhot-0", "config": {"image": IMAGE}}));
        let asker = Asker::with(&fly.url(), Fly::APP, token, Duration::from_secs(3));
        let (failed, said) = asker.failed(creation);
        assert_eq!(failed, kind, "{said}");
        assert!(
            said.contains(&format!("HTTP {status}")) && said.contains("(request "),
            "{said}"
        );
        let asked: Vec<_> = fly.asked("POST", "/machines");
        let statuses: Vec<_> = asked.iter().map(|record| record.status).collect();
        assert_eq!(statuses, [Some(status)], "{said}");
        assert_eq!(fly.machines().len(), 1, "{said}");
    }
}

// ---- a machine for one piece of work

#[test]
fn a_machine_for_one_piece_of_work_ends_with_its_exit_code_and_removes_itself() {
    let being_made = FlyIlls {
        prepare: LIMIT,
        ..FlyIlls::default()
    };
    let unknown = FlyIlls {
        get_delay: LIMIT,
        ..being_made.clone()
    };
    let fly = fly("ephemeral", unknown);
    let asker = Asker::start(&fly, PATIENCE);
    let made = asker.done(creation(
        "flyhot-1",
        &[
            "sh",
            "-c",
            "[ $KEY$FLY_APP_NAME = valueshop ] && sleep 1 && exit 11",
        ],
    ));
    assert_eq!(made["leased"], true);
    let id = made["id"].as_str().unwrap();
    // Its id is not known yet, and then it is still being made.
    let asked = asker.begin(json!({"do": "start", "machine": id}));
    until_a_start_has(&fly, 404);
    fly.ail(being_made);
    until_a_start_has(&fly, 412);
    fly.ail(FlyIlls::default());
    started_once(&fly, &asker.answer(asked));
    asker.done(json!({"do": "wait", "machine": id, "state": "started"}));
    asker.done(json!({"do": "release", "machine": id}));
    asker.done(json!({"do": "wait", "machine": id, "state": "destroyed"}));
    let ended = asker.done(json!({"do": "machine", "machine": id}));
    assert_eq!(
        (&ended["state"], &ended["exit_code"]),
        (&json!("destroyed"), &json!(11)),
        "{ended}"
    );
    assert_eq!(asker.done(json!({"do": "inventory"})), json!([]));
    // What nobody made here is not there, at once.
    let (kind, _) = asker.failed(json!({"do": "machine", "machine": "00000000000000"}));
    assert_eq!(kind, "Absent");
    assert_eq!(fly.asked("GET", "/00000000000000").len(), 1);
}

#[test]
fn a_machine_that_is_being_replaced_is_started_once_it_is() {
    let fly = fly("replacing", FlyIlls::default());
    let asker = Asker::start(&fly, PATIENCE);
    let made = asker.done(creation("flyhot-1", &["sleep", "infinity"]));
    let id = made["id"].as_str().unwrap();
    asker.done(json!({"do": "wait", "machine": id, "state": "stopped"}));
    asker.done(json!({"do": "release", "machine": id}));
    // It takes until it was refused to be started.
    fly.ail(FlyIlls {
        prepare: LIMIT,
        ..FlyIlls::default()
    });
    let config = json!({"config": {"image": IMAGE, "init": {"exec": ["sleep", "infinity"]}}});
    let (status, said) = of(&fly, id, "POST", "", &config);
    assert_eq!((status, &said["state"]), (200, &json!("replacing")));
    let asked = asker.begin(json!({"do": "start", "machine": id}));
    until_a_start_has(&fly, 412);
    fly.ail(FlyIlls::default());
    started_once(&fly, &asker.answer(asked));
    until(&fly, id, "started");
}

#[test]
fn a_start_whose_answer_is_lost_is_no_second_start() {
    for (active_refuses, words) in [
        (true, &["sleep", "infinity"][..]),
        (false, &["sleep", "infinity"]),
        // Its work is done before anybody looks.
        (true, &["true"]),
    ] {
        let ills = FlyIlls {
            active_refuses,
            ..unlimited()
        };
        let fly = fly("lost start", ills.clone());
        // Four in ten requests seem to fail, and all that are made within that in one of a hundred thousand cases.
        let asker = Asker::start(&fly, PATIENCE * 2);
        let made = asker.done(creation("flyhot-1", words));
        let id = made["id"].as_str().unwrap();
        until(&fly, id, "stopped");
        fly.ail(FlyIlls {
            lost_answers: 300,
            late_errors: 150,
            ..ills
        });
        asker.done(json!({"do": "start", "machine": id, "within_ms": 60_000}));
        let machine = until(&fly, id, if words.len() > 1 { "started" } else { "destroyed" });
        let events = machine["events"].as_array().unwrap();
        let of_user = events
            .iter()
            .filter(|event| event["type"] == "start" && event["source"] == "user");
        assert_eq!(of_user.count(), 1, "{machine:#}");
    }
}

#[test]
fn what_dead_runs_left_is_removed_and_nothing_else() {
    let fly = fly("dead", FlyIlls::default());
    let labelled = |name: &str, rollout: &str, age_s: u64| {
        let id = fly.make(
            &json!({"name": name, "config": {"image": IMAGE, "metadata": {"flyhot_rollout": rollout}}}),
        );
        until(&fly, &id, "started");
        fly.age(&id, age_s);
        id
    };
    let two_days = 200_000;
    let dead = labelled("dead", "other", two_days);
    let leased = labelled("leased", "other", two_days);
    let kept = [
        labelled("young", "other", 0),
        // It runs: somebody may have it wait for hours.
        labelled("at work", "other", 700),
        labelled("ours", "ours", two_days),
        started(&fly, "app"),
    ];
    fly.age(&kept[3], two_days);
    fly.lease_away(&leased, "bob@example.com", 600);
    let asker = Asker::start(&fly, PATIENCE);
    let removed =
        asker.done(json!({"do": "dead", "key": "flyhot_rollout", "ours": "ours", "age_ms": 600_000}));
    let removed: BTreeMap<&str, &Value> = removed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), &one["failed"]))
        .collect();
    assert_eq!(removed.keys().copied().collect::<Vec<_>>(), ["dead", "leased"]);
    assert!(removed["dead"].is_null());
    assert!(
        removed["leased"]
            .as_str()
            .unwrap()
            .contains("bob@example.com holds the lease"),
        "{removed:?}"
    );
    assert_eq!(seen(&fly, &dead)["state"], "destroyed");
    for id in kept.iter().chain([&leased]) {
        assert_eq!(seen(&fly, id)["state"], "started");
    }
}

// ---- rates

#[test]
fn a_client_that_is_alone_is_never_told_to_go_slower() {
    let fly = fly("rates", FlyIlls::default());
    let ids = [started(&fly, "app"), started(&fly, "worker")];
    let asker = Asker::start(&fly, LIMIT);
    let many = rounds(1, 10);
    let mut asked = Vec::new();
    for _ in 0..many {
        for _ in 0..8 {
            asked.push(asker.begin(json!({"do": "inventory"})));
            asked.push(asker.begin(json!({"do": "app"})));
        }
        for id in &ids {
            asked.extend((0..20).map(|_| asker.begin(json!({"do": "machine", "machine": id}))));
            for _ in 0..5 {
                asked.push(
                    asker.begin(
                        json!({"do": "exec", "machine": id, "command": ["true"], "within_ms": 60_000}),
                    ),
                );
                asked.push(asker.begin(json!({"do": "wait", "machine": id, "state": "started"})));
                asked.push(asker.begin(json!({"do": "label", "machine": id, "key": "a", "value": "b"})));
                asked.push(asker.begin(json!({"do": "metadata", "machine": id})));
            }
        }
    }
    for id in asked {
        let answer = asker.answer(id);
        assert!(answer.get("done").is_some(), "{answer:#}");
    }
    let limited: Vec<Record> = fly
        .records()
        .into_iter()
        .filter(|record| record.status == Some(429))
        .collect();
    assert!(limited.is_empty(), "{limited:#?}");
}

#[test]
fn a_pause_that_is_asked_for_is_kept_and_one_that_is_not_is_made() {
    for (retry_after, least) in [
        (RetryAfter::Seconds(3), 3_000),
        // Dates are whole seconds.
        (RetryAfter::Date(4), 3_000),
        (RetryAfter::Absent, 1_000),
    ] {
        let fly = fly(
            "429",
            FlyIlls {
                limited: 1_000,
                retry_after,
                ..FlyIlls::default()
            },
        );
        let asker = Asker::start(&fly, PATIENCE);
        let id = asker.begin(json!({"do": "app"}));
        wait_until("it is told to go slower", LIMIT, || !fly.records().is_empty());
        fly.ail(FlyIlls::default());
        let answer = asker.answer(id);
        assert!(answer.get("done").is_some(), "{answer:#}");
        let records = fly.records();
        assert_eq!(records.len(), 2, "{records:#?}");
        let paused = records[1].at.duration_since(records[0].at);
        assert!(
            paused >= Duration::from_millis(least),
            "{retry_after:?}: {paused:?}"
        );
    }
}

#[test]
fn what_is_refused_for_as_long_as_it_is_tried_says_so() {
    let fly = fly(
        "refused",
        FlyIlls {
            limited: 1_000,
            ..FlyIlls::default()
        },
    );
    let asker = Asker::start(&fly, Duration::from_secs(2));
    let (kind, said) = asker.failed(json!({"do": "app"}));
    assert_eq!(kind, "Limited");
    assert!(
        said.contains("too many requests") && said.contains("(request "),
        "{said}"
    );
    fly.ail(FlyIlls {
        server_errors: 1_000,
        ..FlyIlls::default()
    });
    let (kind, said) = asker.failed(json!({"do": "app"}));
    assert_eq!(kind, "Failing");
    assert!(
        said.starts_with("looking for the app shop: Fly fails, still after ") && said.contains("(request "),
        "{said}"
    );
    fly.ail(FlyIlls {
        resets: 1_000,
        ..FlyIlls::default()
    });
    let (kind, said) = asker.failed(json!({"do": "app"}));
    assert_eq!(kind, "Silent");
    assert!(
        said.starts_with("looking for the app shop: no answer of the Machines API after "),
        "{said}"
    );
}

#[test]
fn who_is_put_off_for_longer_than_they_have_hears_it_at_once() {
    let minutes = FlyIlls {
        limited: 1_000,
        retry_after: RetryAfter::Seconds(120),
        ..FlyIlls::default()
    };
    let fly = fly("put off", FlyIlls::default());
    let [id, other] = [started(&fly, "app"), started(&fly, "app")];
    let asker = Asker::start(&fly, Duration::from_secs(2));
    let lease = |id: &str| json!({"do": "lease", "machine": id, "ttl_ms": 30_000, "wait_ms": 0});
    asker.done(lease(&id));
    fly.ail(minutes);
    let renew = json!({"do": "renew", "machine": id});
    assert_eq!(asker.failed(renew.clone()).0, "Limited");
    fly.ail(FlyIlls::default());
    let (asked, begun) = (fly.asked("POST", "/lease").len(), Instant::now());
    for request in [renew, lease(&id)] {
        let (kind, said) = asker.failed(request);
        assert_eq!(kind, "Limited");
        assert!(
            said.contains("Fly wants none for longer than this may take"),
            "{said}"
        );
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    // Nothing was sent, and what Fly wants none of is one thing.
    assert_eq!(fly.asked("POST", "/lease").len(), asked);
    asker.done(lease(&other));
    asker.done(json!({"do": "release", "machine": id}));
}

// ---- leases

#[test]
fn who_holds_a_lease_is_named_and_waited_for() {
    let fly = fly("leases", unlimited());
    let id = started(&fly, "app");
    fly.lease_away(&id, "bob@example.com", 600);
    let asker = Asker::start(&fly, PATIENCE);
    let lease = |wait_ms: u64| json!({"do": "lease", "machine": id, "ttl_ms": 60_000, "wait_ms": wait_ms, "description": "flyhot"});
    let (kind, said) = asker.failed(lease(0));
    assert_eq!(kind, "Held");
    assert!(
        said.contains("bob@example.com holds the lease of the machine until 20")
            && said.contains("(request "),
        "{said}"
    );
    // A command on the machine is refused for the same reason.
    let (kind, said) =
        asker.failed(json!({"do": "exec", "machine": id, "command": ["true"], "within_ms": 0}));
    assert_eq!(kind, "Held");
    assert!(said.contains("bob@example.com"), "{said}");
    let waits = asker.begin(lease(60_000));
    wait_until("it is refused again", LIMIT, || {
        let asked = fly.asked("POST", "/lease");
        asked.iter().filter(|record| record.status == Some(409)).count() > 1
    });
    fly.lease_back(&id);
    let held = asker.answer(waits);
    assert!(held["done"]["due_ms"].as_u64().unwrap() <= 20_000, "{held}");
    // And now others are told so, until it is let go.
    assert_eq!(of(&fly, &id, "POST", "/lease", &json!({"ttl": 5})).0, 409);
    asker.done(json!({"do": "renew", "machine": id}));
    let asked: BTreeSet<_> = fly
        .asked("POST", "/lease")
        .iter()
        .filter_map(|record| record.status)
        .collect();
    assert_eq!(asked, BTreeSet::from([201, 409]));
    asker.done(json!({"do": "release", "machine": id}));
    assert_eq!(of(&fly, &id, "GET", "/lease", &Value::Null).0, 404);
}

#[test]
fn a_lease_that_went_to_another_is_lost() {
    for flat_leases in [false, true] {
        let fly = fly(
            "lost lease",
            FlyIlls {
                flat_leases,
                ..unlimited()
            },
        );
        let id = started(&fly, "app");
        let asker = Asker::start(&fly, PATIENCE);
        asker.done(json!({"do": "lease", "machine": id, "ttl_ms": 6_000}));
        asker.done(json!({"do": "renew", "machine": id}));
        fly.lease_away(&id, "bob@example.com", 60);
        let (kind, said) = asker.failed(json!({"do": "renew", "machine": id}));
        assert_eq!(kind, "LeaseLost");
        assert!(said.contains("bob@example.com"), "{said}");
        // Letting go what is another's is no failure, and takes nothing away.
        asker.done(json!({"do": "release", "machine": id}));
        assert_eq!(of(&fly, &id, "GET", "/lease", &Value::Null).0, 200);
    }
}

#[test]
fn a_lease_that_is_granted_unheard_is_had_when_it_is_over() {
    let fly = fly("unheard lease", unlimited());
    let id = started(&fly, "app");
    let asker = Asker::start(&fly, PATIENCE);
    fly.ail(FlyIlls {
        lost_answers: 1_000,
        ..unlimited()
    });
    let asked = asker.begin(json!({"do": "lease", "machine": id, "ttl_ms": 5_000, "wait_ms": 0}));
    wait_until("it is granted", LIMIT, || !fly.asked("POST", "/lease").is_empty());
    fly.ail(unlimited());
    let answer = asker.answer(asked);
    assert!(answer.get("done").is_some(), "{answer:#}");
}

#[test]
fn a_token_that_may_not_lease_is_told_apart() {
    let fly = fly("may not lease", FlyIlls::default());
    let id = started(&fly, "app");
    let grant = Grant {
        user: "ci".into(),
        apps: vec!["shop".into()],
        may_lease: false,
    };
    fly.allow("fm2_narrow", grant);
    let asker = Asker::with(&fly.url(), "shop", "fm2_narrow", PATIENCE);
    let (kind, said) = asker.failed(json!({"do": "lease", "machine": id}));
    assert_eq!(kind, "MayNotLease");
    assert!(
        said.starts_with(&format!("the token may not lease the machine {id}: HTTP 403")),
        "{said}"
    );
    // Everything else it may.
    asker.done(json!({"do": "inventory"}));
}

// ---- waiting and exec

#[test]
fn a_state_is_waited_for_in_slices_that_fly_takes() {
    let fly = fly("waits", FlyIlls::default());
    let id = fly.make(&json!({"skip_launch": true, "config": {"image": IMAGE}}));
    until(&fly, &id, "stopped");
    let asker = Asker::start(&fly, PATIENCE);
    let (kind, said) =
        asker.failed(json!({"do": "wait", "machine": id, "state": "started", "within_ms": 2_500}));
    assert_eq!(kind, "NotReached");
    assert!(said.ends_with("s, but stopped"), "{said}");
    for record in fly.asked("GET", "/wait") {
        assert_eq!(record.status, Some(408), "{record:?}");
    }
    // What is destroyed will not be started.
    asker.done(json!({"do": "destroy", "machine": id}));
    let (kind, _) = asker.failed(json!({"do": "wait", "machine": id, "state": "started"}));
    assert_eq!(kind, "Absent");
    asker.done(json!({"do": "wait", "machine": id, "state": "destroyed"}));
    asker.done(json!({"do": "destroy", "machine": id}));
}

#[test]
fn a_command_has_its_code_its_output_and_an_end() {
    let fly = fly("exec", FlyIlls::default());
    let id = started(&fly, "app");
    let asker = Asker::start(&fly, PATIENCE);
    let exec = |words: &[&str], timeout_ms: u64, once: bool| {
        json!({
            "do": "exec", "machine": id, "command": words, "stdin": "read\n", "timeout_ms": timeout_ms, "within_ms": 3_500,
            "once": once,
        })
    };
    let ran = asker.done(exec(
        &["sh", "-c", "cat; echo $FLY_MACHINE_ID >&2; exit 3"],
        10_000,
        true,
    ));
    assert_eq!(
        (&ran["exit_code"], &ran["stdout"], &ran["stderr"]),
        (&json!(3), &json!("read\n"), &json!(format!("{id}\n")))
    );
    assert!(!ran["debug"].as_str().unwrap().contains("read"), "{ran}");
    let killed = asker.done(exec(&["sh", "-c", "kill -9 $$"], 10_000, true));
    assert_eq!(killed["exit_code"], 137);
    fly.ail(FlyIlls {
        omits_zeros: true,
        ..FlyIlls::default()
    });
    assert_eq!(asker.done(exec(&["true"], 10_000, true))["exit_code"], 0);
    // One that may run twice is tried again, one that may not is not.
    let (kind, said) = asker.failed(exec(&["sleep", "30"], 1_000, false));
    assert_eq!(kind, "TooLong");
    assert!(said.contains("did not end within 1 s"), "{said}");
    let tries = fly.asked("POST", "/exec").len();
    let (kind, said) = asker.failed(exec(&["sleep", "30"], 1_000, true));
    assert_eq!(kind, "Unsure");
    assert!(said.contains("it is not known whether that was done"), "{said}");
    assert_eq!(fly.asked("POST", "/exec").len(), tries + 1);
    let (kind, said) = asker.failed(exec(&["head", "-c", "9000000", "/dev/zero"], 20_000, true));
    assert_eq!(kind, "Refused");
    assert!(said.contains("10485760 byte limit"), "{said}");
}

#[test]
fn labels_are_set_and_read() {
    let fly = fly("labels", FlyIlls::default());
    let id = started(&fly, "app");
    let asker = Asker::start(&fly, PATIENCE);
    let version = seen(&fly, &id)["version"].clone();
    asker.done(json!({"do": "label", "machine": id, "key": "flyhot_code_id", "value": "ab:12/3"}));
    assert_eq!(
        asker.done(json!({"do": "metadata", "machine": id}))["flyhot_code_id"],
        "ab:12/3"
    );
    assert_eq!(seen(&fly, &id)["version"], version);
    assert_eq!(
        asker
            .failed(json!({"do": "label", "machine": id, "key": "a/b", "value": ""}))
            .0,
        "Name"
    );
}

// ---- inventory

#[test]
fn every_machine_is_listed_once_whatever_the_pages_and_the_hosts() {
    let fly = fly(
        "pages",
        FlyIlls {
            short_pages: true,
            ..FlyIlls::default()
        },
    );
    let groups = [
        "app",
        "worker",
        "app",
        "fly_app_console",
        "worker",
        "fly_app_release_command",
        "app",
        "app",
    ];
    let ids: Vec<String> = groups.iter().map(|group| made(&fly, group)).collect();
    fly.make(&json!({"config": {"image": IMAGE, "metadata": {"flyhot_rollout": "1"}}}));
    fly.host(&ids[1], "unreachable");
    let asker = Asker::start(&fly, PATIENCE);
    let listed = asker.done(json!({"do": "inventory"}));
    let listed: BTreeMap<&str, &Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|machine| (machine["id"].as_str().unwrap(), machine))
        .collect();
    let expected: BTreeSet<&str> = ids
        .iter()
        .zip(groups)
        .filter(|(_, group)| !group.starts_with("fly_app_"))
        .map(|(id, _)| id.as_str())
        .collect();
    assert_eq!(listed.keys().copied().collect::<BTreeSet<_>>(), expected);
    assert!(fly.asked("GET", "/machines").len() > 2);
    let silent = listed[&*ids[1]];
    assert_eq!(
        (&silent["host"], &silent["group"]),
        (&json!("Unreachable"), &json!("worker"))
    );
    assert_eq!(listed[&*ids[0]]["host"], "Ok");
}

// ---- tokens

#[test]
fn a_token_is_in_no_error_whatever_fly_says() {
    for text_refusals in [false, true] {
        let ills = FlyIlls {
            echoes_token: true,
            text_refusals,
            cross_app: CrossApp::Forbidden,
            ..FlyIlls::default()
        };
        let fly = fly("tokens", ills.clone());
        let own = Grant {
            user: "bob".into(),
            apps: vec!["other".into()],
            may_lease: true,
        };
        fly.allow("fm2_another_secret", own);
        for (app, token, expected) in [
            (
                "shop",
                "fm2_secret_that_nobody_knows,fm2_secret_discharge",
                "NotKnown",
            ),
            ("shop", "oauth_secret", "NotKnown"),
            ("shop", "FlyV1 fm2_another_secret", "NotAllowed"),
            ("shop", Fly::TOKEN, "Absent"),
            ("absent", Fly::TOKEN, "Absent"),
        ] {
            let asker = Asker::with(&fly.url(), app, token, Duration::from_secs(2));
            let answer = asker.ask(json!({"do": "machine", "machine": "00000000000000"}));
            assert_eq!(answer["kind"], expected, "{answer:#}");
            assert!(
                answer["failed"].as_str().unwrap().contains("(request "),
                "{answer:#}"
            );
            let all = format!("{answer} {}", asker.arguments());
            for part in token.trim_start_matches("FlyV1 ").split(',') {
                assert!(!all.contains(part), "{all}");
            }
            assert!(all.contains("(token)"), "Fly said it back: {all}");
        }
        // The word before it is as the token wants it.
        let words: BTreeSet<String> = fly
            .records()
            .into_iter()
            .map(|record| record.headers["authorization"].clone())
            .collect();
        assert_eq!(words, BTreeSet::from(["Bearer".to_owned(), "FlyV1".to_owned()]));
    }
}

#[test]
fn what_is_no_token_and_no_address_is_said_before_anything_is_sent() {
    for (url, app, token, kind) in [
        ("http://127.0.0.1:1", "shop", "", "Token"),
        ("http://127.0.0.1:1", "shop", "two words", "Token"),
        ("127.0.0.1:1", "shop", "fm2_secret", "Address"),
        ("http://127.0.0.1:1", "../orgs", "fm2_secret", "Name"),
    ] {
        let asker = Asker::with(url, app, token, PATIENCE);
        let answer = asker.answer(0);
        assert_eq!(answer["kind"], kind, "{answer:#}");
        assert!(!answer.to_string().contains("fm2_secret"), "{answer:#}");
    }
    let asker = Asker::with("http://127.0.0.1:1", "shop", "fm2_secret", Duration::from_secs(1));
    let (kind, said) = asker.failed(json!({"do": "app"}));
    assert_eq!(kind, "Silent");
    assert!(said.to_lowercase().contains("connection refused"), "{said}");
}

#[test]
fn who_the_token_speaks_for_is_asked_of_fly() {
    let fly = fly("identity", FlyIlls::default());
    let asker = Asker::start(&fly, PATIENCE);
    let identity = asker.done(json!({"do": "identity"}));
    assert!(
        identity.as_str().unwrap().contains("alice@example.com"),
        "{identity}"
    );
}

// ---- the fake itself: what would be wrong there would be right everywhere else

#[test]
fn the_fake_keeps_to_tokens_rates_and_limits() {
    let fly = fly("fake limits", FlyIlls::default());
    let denied = json!({"error": "Authenticate: token validation error", "status": "unknown"});
    assert_eq!(
        raw(&fly, "GET", "/apps/shop", &[("authorization", "Bearer x")], ""),
        (401, denied)
    );
    let id = started(&fly, "app");
    let statuses = |number: usize, method: &str, path: &str| {
        let ask = |_| raw(&fly, method, path, &[], "").0;
        (0..number).map(ask).collect::<Vec<u16>>()
    };
    assert_eq!(statuses(4, "GET", "/apps/shop/machines"), [200, 200, 200, 429]);
    let reads = statuses(13, "GET", &format!("/apps/shop/machines/{id}"));
    assert_eq!(reads[..10], [200; 10]);
    assert!(reads.contains(&429), "{reads:?}");
    fly.ail(unlimited());
    let wait = |timeout: u64| {
        of(
            &fly,
            &id,
            "GET",
            &format!("/wait?state=stopped&timeout={timeout}"),
            &Value::Null,
        )
    };
    for timeout in [0, 61] {
        let (status, said) = wait(timeout);
        assert_eq!(status, 400);
        assert!(
            said["error"]
                .as_str()
                .unwrap()
                .contains("value must be inside range [1s, 1m0s]")
        );
    }
    let (status, said) = wait(1);
    assert_eq!(
        (status, &said["error"]),
        (
            408,
            &json!("deadline_exceeded: machine failed to reach desired state, stopped, currently started")
        )
    );
    let large = json!({"config": {"image": IMAGE, "files": [{"raw_value": "x".repeat(700 * 1024)}]}});
    let (status, said) = raw(&fly, "POST", "/apps/shop/machines", &[], &large.to_string());
    assert_eq!(
        (status, &said["error"]),
        (400, &json!("http: request body too large"))
    );
    for (path, status) in [
        ("/machines?limit=0", 400),
        ("/machines?limit=5&cursor=x", 400),
        ("/machines?limit=5", 200),
    ] {
        assert_eq!(
            raw(&fly, "GET", &format!("/apps/shop{path}"), &[], "").0,
            status,
            "{path}"
        );
    }
}

#[test]
fn the_fake_changes_machines_as_fly_does() {
    let fly = fly("fake states", unlimited());
    let id = started(&fly, "app");
    let shown = |query: &str| of(&fly, &id, "GET", query, &Value::Null).1;
    let config = |image: &str| json!({"config": {"image": image, "init": {"exec": ["sleep", "infinity"]}}});
    // An update makes another version at once; an image that cannot be pulled takes it back.
    let first = shown("")["version"].clone();
    let (status, second) = of(&fly, &id, "POST", "", &config(IMAGE));
    assert_eq!((status, &second["state"]), (200, &json!("replacing")));
    assert_ne!(second["version"], first);
    until(&fly, &id, "started");
    assert_eq!(shown("")["version"], second["version"]);
    assert_eq!(
        shown(&format!("?version={}", first.as_str().unwrap()))["state"],
        "replaced"
    );
    let (_, third) = of(&fly, &id, "POST", "", &config("registry.fly.io/shop:absent"));
    assert_ne!(third["version"], second["version"]);
    until(&fly, &id, "started");
    assert_eq!(shown("")["version"], second["version"]);
    assert_eq!(
        of(&fly, &id, "GET", "/versions", &Value::Null)
            .1
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let mut stale = config(IMAGE);
    stale["current_version"] = first;
    assert_eq!(of(&fly, &id, "POST", "", &stale).0, 409);
    // Suspended it keeps its process, stopped it does not.
    let process = |fly: &Fly| of(fly, &id, "GET", "/ps", &Value::Null).1[0]["pid"].clone();
    let pid = process(&fly);
    assert_eq!(of(&fly, &id, "POST", "/suspend", &Value::Null).0, 200);
    assert_eq!(shown("")["state"], "suspended");
    assert_eq!(
        of(&fly, &id, "POST", "/exec", &json!({"command": ["true"]})).0,
        412
    );
    assert_eq!(
        of(&fly, &id, "POST", "/start", &Value::Null).1["previous_state"],
        "suspended"
    );
    assert_eq!(process(&fly), pid);
    assert_eq!(of(&fly, &id, "POST", "/restart", &Value::Null).0, 200);
    wait_until("another process runs", LIMIT, || {
        shown("")["state"] == "started" && process(&fly) != pid
    });
    assert_eq!(
        of(
            &fly,
            &id,
            "POST",
            "/stop",
            &json!({"signal": "SIGTERM", "timeout": "2s"})
        )
        .0,
        200
    );
    let stopped = until(&fly, &id, "stopped");
    assert_eq!(
        stopped["events"][0]["request"]["exit_event"]["requested_stop"],
        true
    );
    assert_eq!(stopped["events"][0]["request"]["exit_event"]["exit_code"], 143);
    assert_eq!(of(&fly, &id, "POST", "/cordon", &Value::Null).0, 200);
    assert_eq!(shown("")["cordoned"], true);
    // Labels are changed under the version that whoever changes them knows.
    let patch = |version: &Value| {
        of(
            &fly,
            &id,
            "PATCH",
            "/metadata",
            &json!({"metadata": {"a": "1", "b": ""}, "machine_version": version}),
        )
        .0
    };
    assert_eq!(patch(&json!("01HQ")), 412);
    assert_eq!(patch(&second["version"]), 204);
    assert_eq!(
        of(&fly, &id, "GET", "/metadata/a", &Value::Null).1,
        json!({"value": "1"})
    );
    assert_eq!(of(&fly, &id, "DELETE", "/metadata/a", &Value::Null).0, 204);
    assert_eq!(of(&fly, &id, "GET", "/metadata/a", &Value::Null).0, 404);
    // Lists have what was asked for.
    let list = |query: &str| raw(&fly, "GET", &format!("/apps/shop/machines?{query}"), &[], "").1;
    assert_eq!(list("summary=true")[0].get("config"), None);
    assert_eq!(list("state=started"), json!([]));
    assert_eq!(list("region=fra"), json!([]));
    assert_eq!(list("metadata.a=1"), json!([]));
    fly.lease_away(&id, "bob@example.com", 60);
    assert_eq!(
        list("include_leases=true")[0]["lease"]["owner"],
        "bob@example.com"
    );
    for (method, rest) in [
        ("POST", ""),
        ("POST", "/start"),
        ("POST", "/stop"),
        ("DELETE", "?force=true"),
    ] {
        let (status, said) = of(&fly, &id, method, rest, &config(IMAGE));
        assert_eq!(status, 409, "{method} {rest}");
        assert!(
            said["error"]
                .as_str()
                .unwrap()
                .contains("lease currently held by bob@example.com, expires at 20")
        );
    }
    // A machine that is gone is in no list, and known by its id.
    let gone = started(&fly, "app");
    assert_eq!(of(&fly, &gone, "DELETE", "", &Value::Null).0, 412);
    assert_eq!(of(&fly, &gone, "DELETE", "?kill=true", &Value::Null).0, 200);
    assert_eq!(of(&fly, &gone, "GET", "", &Value::Null).1["state"], "destroyed");
    assert_eq!(list("").as_array().unwrap().len(), 1);
    assert_eq!(list("include_deleted=true").as_array().unwrap().len(), 2);
    assert_eq!(
        of(&fly, &gone, "GET", "/wait?state=stopped&timeout=1", &Value::Null).0,
        404
    );
    assert_eq!(
        of(
            &fly,
            &gone,
            "GET",
            "/wait?state=destroyed&timeout=1",
            &Value::Null
        )
        .0,
        200
    );
}

#[test]
fn a_process_that_ends_by_itself_is_started_again_as_its_policy_says() {
    let fly = fly("fake restarts", unlimited());
    let with = |policy: Value, words: &[&str]| {
        fly.make(&json!({"config": {"image": IMAGE, "init": {"exec": words}, "restart": policy}}))
    };
    let failing = with(json!({"policy": "on-failure", "max_retries": 2}), &["false"]);
    let well = with(json!({"policy": "on-failure"}), &["true"]);
    let never = with(json!({"policy": "no"}), &["false"]);
    let exits = |id: &str| {
        let machine = seen(&fly, id);
        let events = machine["events"].as_array().unwrap().clone();
        events.iter().filter(|event| event["type"] == "exit").count()
    };
    wait_until("it is given up", LIMIT, || exits(&failing) == 3);
    for (id, times) in [(&failing, 3), (&well, 1), (&never, 1)] {
        until(&fly, id, "stopped");
        assert_eq!(exits(id), times);
    }
    // One that heeds no signal is killed.
    let deaf = with(
        json!({"policy": "no"}),
        &["sh", "-c", "trap '' INT TERM; while :; do sleep 0.1; done"],
    );
    until(&fly, &deaf, "started");
    let begun = Instant::now();
    of(&fly, &deaf, "POST", "/stop", &json!({"timeout": 1}));
    let stopped = until(&fly, &deaf, "stopped");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(stopped["events"][0]["request"]["exit_event"]["exit_code"], 137);
}

#[test]
fn machines_have_a_network_of_their_own() {
    let network = Namespaces::start();
    let fly = Fly::on(network.host(), unlimited(), Random::new("network"));
    fly.push_empty(IMAGE);
    network.offer(4280, fly.address());
    let ids = [started(&fly, "app"), started(&fly, "app")];
    let address = |id: &str| seen(&fly, id)["private_ip"].as_str().unwrap().to_owned();
    let exec = |id: &str, script: &str| {
        of(
            &fly,
            id,
            "POST",
            "/exec",
            &json!({"command": ["bash", "-c", script]}),
        )
        .1
    };
    for id in &ids {
        let own = exec(id, "ip -o addr show dev eth0 && echo $FLY_PRIVATE_IP");
        assert_eq!(
            own["stdout"].as_str().unwrap().matches(&address(id)).count(),
            2,
            "{own}"
        );
    }
    // Nobody listens there, which only somebody says who is there.
    let refused = |said: &str| said.contains("Connection refused");
    let knock = |to: &str| format!("exec 3<>/dev/tcp/{to}/9");
    let said = exec(&ids[0], &knock(&address(&ids[1])));
    assert!(refused(said["stderr"].as_str().unwrap()), "{said}");
    let output = |mut command: Command| {
        let output = command.args(["-c", &knock(&address(&ids[1]))]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let beside = output(network.beside("bash".as_ref()));
    assert!(refused(&beside), "{beside}");
    let outside = output(Command::new("bash"));
    assert!(!refused(&outside) && outside.contains("/dev/tcp"), "{outside}");
    // The API is there for them.
    let script =
        "exec 3<>/dev/tcp/fdaa::3/4280; printf 'GET /v1/apps/shop HTTP/1.1\\r\\n\\r\\n' >&3; head -n 1 <&3";
    let said = exec(&ids[0], script);
    assert!(
        said["stdout"].as_str().unwrap().starts_with("HTTP/1.1 401"),
        "{said}"
    );
    // One that is gone is nowhere.
    assert_eq!(of(&fly, &ids[1], "DELETE", "?force=true", &Value::Null).0, 200);
    let said = exec(
        &ids[0],
        &format!("timeout 2 bash -c '{}'", knock(&address(&ids[1]))),
    );
    assert!(
        said["exit_code"] != 0 && !refused(said["stderr"].as_str().unwrap()),
        "{said}"
    );
}

#[test]
fn whoever_comes_and_goes_in_a_network_cuts_nobody_off() {
    let network = Namespaces::start();
    let fly = Fly::on(network.host(), unlimited(), Random::new("network"));
    fly.push_empty(IMAGE);
    network.offer(4280, fly.address());
    let mut ids = [(); 6].map(|()| started(&fly, "app")).to_vec();
    let address = |id: &str| seen(&fly, id)["private_ip"].as_str().unwrap().to_owned();
    // A machine at which nobody listens refuses; a way that is lost says nothing.
    let reach = |ids: &[String]| {
        for id in ids {
            let others = ids.iter().filter(|other| *other != id);
            let knocks: String = others
                .map(|other| {
                    format!(
                        "(: <>/dev/tcp/{}/9) 2>&1 | grep -q refused || exit 1; ",
                        address(other)
                    )
                })
                .collect();
            let script = format!("(: <>/dev/tcp/fdaa::3/4280) || exit 2; {knocks}");
            let body = json!({"command": ["timeout", "4", "bash", "-c", script]});
            let (_, said) = of(&fly, id, "POST", "/exec", &body);
            assert_eq!(said["exit_code"], 0, "{said}");
        }
    };
    reach(&ids);
    // Another in the place of one that everybody knows.
    fly.stop(&ids[0]);
    fly.start_again(&ids[0]);
    until(&fly, &ids[0], "started");
    reach(&ids);
    while ids.len() > 1 {
        let last = ids.pop().unwrap();
        assert_eq!(of(&fly, &last, "DELETE", "?force=true", &Value::Null).0, 200);
        reach(&ids);
    }
}

#[test]
fn the_executable_says_what_flyctl_says_and_pushes_what_it_was_given() {
    let fly = Fly::start(unlimited(), Random::new("cli"));
    let project = Scratch::new("project");
    let release = project.path().join("rel");
    fs::create_dir_all(release.join("bin")).unwrap();
    fs::write(
        release.join("bin/shop"),
        "#!/bin/sh\necho here > written; exec sleep infinity\n",
    )
    .unwrap();
    Command::new("chmod")
        .arg("755")
        .arg(release.join("bin/shop"))
        .status()
        .unwrap();
    fs::write(project.path().join("fly.toml"), "app = \"shop\"\n[build]\n").unwrap();
    fs::write(
        project.path().join("named.toml"),
        "app = 'shop'\n[build]\nimage = \"a/b:c\"\n",
    )
    .unwrap();
    let cli = FlyCli::new(&fly, &release, Fly::TOKEN);
    let run = |words: &[&str]| {
        let output = Command::new(cli.path().join("fly"))
            .args(words)
            .current_dir(project.path())
            .env_remove("FLY_API_TOKEN")
            .env_remove("FLY_ACCESS_TOKEN")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let deploy =
        |more: &[&str]| run(&[&["deploy", "--build-only", "--push", "--remote-only"], more].concat());
    assert!(run(&["version"]).1.starts_with("fly v0.3"));
    assert_eq!(run(&["auth", "whoami"]).1, "alice@example.com\n");
    assert_eq!(
        run(&["auth", "token", "-q"]),
        (0, format!("{}\n", Fly::TOKEN), String::new())
    );
    let (code, out, err) = deploy(&[
        "-c",
        "fly.toml",
        "--build-arg",
        "A=b",
        "--no-cache",
        "--image-label",
        "flyhot-1",
    ]);
    assert_eq!((code, &*out), (0, ""));
    assert!(err.contains("\nimage: registry.fly.io/shop:flyhot-1\n"), "{err}");
    // What was pushed runs, and may write.
    let id = fly.make(&json!({"config": {"image": "registry.fly.io/shop:flyhot-1@sha256:0", "init": {"exec": ["/bin/shop"]}}}));
    wait_until("it has written", LIMIT, || fly.root(&id).join("written").exists());
    assert!(!release.join("written").exists());
    let (code, _, err) = deploy(&["-c", "fly.toml"]);
    assert!(
        code == 0 && err.contains("image: registry.fly.io/shop:deployment-01H3"),
        "{err}"
    );
    // It says none where there is one already.
    let (code, _, err) = deploy(&["-c", "named.toml"]);
    assert!(code == 0 && !err.contains("image: "), "{err}");
    for code in [1, 126, 127] {
        cli.upload(Upload::Ends(code));
        let (ended, _, err) = deploy(&["-c", "fly.toml"]);
        assert_eq!(ended, i32::from(code));
        assert!(err.contains("Error: ") && !err.contains("image: "), "{err}");
    }
    cli.upload(Upload::Slow(20));
    assert_eq!(deploy(&["-c", "fly.toml"]).0, 0);
    cli.upload(Upload::Silent(1));
    assert_eq!(deploy(&["-c", "fly.toml"]).0, 0);
    cli.log_out();
    let (code, _, err) = run(&["auth", "whoami"]);
    assert!(code == 1 && err.contains("Please login"), "{err}");
    assert!(cli.calls().iter().all(|call| !call.contains("fm2_")));
    assert_eq!(deploy(&["-c", "absent.toml"]).0, 1);
}

//! Nodes that nobody names: the machines of an app on Fly, upgraded by what its API and epmd say of them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use flyhot_tests::{
    Fly, FlyIlls, Flyhot, Grant, Machines, Otp, Record, Release, Rows, Run, Running, Scratch, rounds,
    wait_until,
};
use serde_json::Value;

const COOKIE: &str = "cookie_of_every_build";

/// Long beside what any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

fn release(code: &str) -> Release {
    Release::shop(Otp::under_test(), code)
}

/// The only event of that name.
fn only<'a>(run: &'a Run, name: &'a str) -> &'a Value {
    let events: Vec<_> = run.events_named(name).collect();
    assert_eq!(events.len(), 1, "{name}\n{run}");
    &events[0].json
}

/// What each machine is to the command, by every inventory that was told.
fn roles(run: &Run) -> BTreeMap<&str, &str> {
    let told = run.events_named("inventory").map(|event| {
        let machines = event.json["machines"].as_array().unwrap().iter();
        machines
            .map(|machine| {
                assert_eq!(machine["node"].is_null(), machine["role"] != "node", "{machine}");
                assert_eq!(
                    machine["image"].is_null(),
                    machine["group"].is_null(),
                    "{machine}"
                );
                (
                    machine["machine"].as_str().unwrap(),
                    machine["role"].as_str().unwrap(),
                )
            })
            .collect()
    });
    let told: Vec<BTreeMap<_, _>> = told.collect();
    assert!(told.iter().all(|this| *this == told[0]), "{run}");
    told[0].clone()
}

/// The outcome of each node, by its machine.
fn outcomes(run: &Run) -> BTreeMap<&str, &Value> {
    let nodes = run.outcome()["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| (node["machine"].as_str().unwrap(), node))
        .collect()
}

/// The requests of a kind that were made for a machine since `from`.
fn asked(machines: &Machines, from: usize, method: &str, id: &str, ending: &str) -> Vec<Value> {
    let records = machines.fly.records();
    let path = format!("/machines/{id}{ending}");
    let of = records[from..]
        .iter()
        .filter(|record| record.method == method && record.path.ends_with(&path));
    of.map(|record| serde_json::from_str(&record.body).unwrap_or(Value::Null))
        .collect()
}

/// What the API answers to somebody else who updates a machine: the status, and what it says.
fn update(machines: &Machines, id: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(machines.fly.address()).unwrap();
    let head = format!(
        "POST /v1/apps/{}/machines/{id} HTTP/1.1\r\nhost: fly\r\n",
        Fly::APP
    );
    let head = format!(
        "{head}authorization: Bearer {}\r\ncontent-length: 2\r\n",
        Fly::TOKEN
    );
    stream.write_all(format!("{head}\r\n{{}}").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[test]
fn a_rollout_takes_over_every_machine_of_an_app() {
    let machines = Machines::start("takes over");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    // Built by somebody else: another name of the node, another cookie.
    let alone = machines.image("01H3B", &release("v1"), "of_its_own");
    let shops = [
        machines.shop(&image, "app", "ams", &[]),
        machines.shop(&image, "app", "fra", &[]),
        machines.shop(&alone, "worker", "ams", &[]),
    ];
    let stopped = machines.shop(&image, "app", "fra", &[]);
    let other = machines.other(&image, "cron", "ams");
    for id in shops.iter().chain([&stopped]) {
        machines.serves(id);
    }
    machines.fly.stop(&stopped);

    // Which of the two images boots it has to be said.
    let unsaid = machines.rollout(&release("v2"), store.path()).run();
    unsaid.expect("refused", 2);
    assert!(unsaid.stdout.contains("name by --base"), "{unsaid}");
    for id in &shops {
        assert_eq!(machines.version(id), "v1");
    }
    let from = machines.fly.records().len();
    let run = machines
        .rollout(&release("v2"), store.path())
        .args(["--base", &image])
        .run();
    run.expect("upgraded", 0);
    let mut expected: BTreeMap<&str, &str> = shops.iter().map(|id| (id.as_str(), "node")).collect();
    expected.extend([(stopped.as_str(), "left_to_boot"), (other.as_str(), "other")]);
    assert_eq!(roles(&run), expected);
    let ended = outcomes(&run);
    assert_eq!(ended.len(), 3, "{run}");
    for (id, region) in shops.iter().zip(["ams", "fra", "ams"]) {
        assert_eq!(machines.version(id), "v2");
        let node = ended[id.as_str()];
        assert_eq!(
            (&node["region"], &node["outcome"]),
            (&region.into(), &"upgraded".into())
        );
        assert_eq!(
            machines.fly.label(id, "flyhot_code_id").as_deref(),
            node["code_id"]["after"].as_str()
        );
        // The lease says who holds it, begins behind the question for the cookie, and ends with the command.
        let leases = asked(&machines, from, "POST", id, "/lease");
        assert!(
            leases[0]["description"]
                .as_str()
                .unwrap()
                .starts_with("flyhot: rollout"),
            "{leases:?}"
        );
        assert_eq!(asked(&machines, from, "DELETE", id, "/lease").len(), 1);
        assert!(!machines.fly.is_leased(id));
        assert_eq!(asked(&machines, from, "POST", id, "/exec").len(), 1);
    }
    assert!(
        asked(&machines, from, "POST", &stopped, "").is_empty()
            && asked(&machines, from, "POST", &stopped, "/lease").is_empty()
    );
    assert_eq!(run.events_named("lease").count(), 0, "{run}");
    // None of them starts by `flyhot boot`: that is said once.
    let unbooted = only(&run, "check");
    Rows::of("start").said(
        "a start without flyhot",
        unbooted["found"].as_str().unwrap(),
        unbooted["fix"].as_str().unwrap(),
    );
    assert!(
        unbooted["found"]
            .as_str()
            .unwrap()
            .starts_with("it and 2 other nodes were not started"),
        "{run}"
    );
    for secret in [COOKIE, "of_its_own", "fm2_"] {
        assert!(!format!("{run}").contains(secret), "{run}");
    }

    // FLY_APP_NAME says which app is meant.
    let status = machines.flyhot(["status", "--output", "json"]).run();
    status.expect("done", 0);
    assert_eq!(roles(&status), expected);
    for event in status.events_named("status") {
        let status = &event.json["status"];
        let node = ended[status["machine"].as_str().unwrap()];
        assert_eq!(
            (&status["region"], &status["code_id"]),
            (&node["region"], &node["code_id"]["after"])
        );
    }
    assert_eq!(status.events_named("status").count(), 3, "{status}");
    let shown = machines.flyhot(["status", "--inventory", "fly"]).run();
    for part in [
        "5 machines of shop",
        "left to boot",
        "no Erlang",
        "fra",
        &shops[2],
    ] {
        assert!(shown.stdout.contains(part), "{part}\n{shown}");
    }

    // A process that has ended, and of whom nobody took note, runs no Erlang where there is none.
    let scratch = Scratch::new("unnoted");
    let beam = scratch.path().join("beam.smp");
    fs::copy("/bin/true", &beam).unwrap();
    let mut unnoted = Command::new(&beam).spawn().unwrap();
    let stat = format!("/proc/{}/stat", unnoted.id());
    wait_until("it has ended", LIMIT, || {
        fs::read_to_string(&stat).unwrap().contains(") Z ")
    });
    let doctor = machines
        .flyhot(["doctor", "--inventory", "fly", "--output", "json"])
        .run();
    unnoted.wait().unwrap();
    doctor.expect("done", 0);
    let checks: Vec<&Value> = doctor.events_named("check").map(|event| &event.json).collect();
    let token = checks.iter().find(|check| check["check"] == "token").unwrap();
    assert!(
        token["found"].as_str().unwrap().contains("alice@example.com"),
        "{doctor}"
    );
    assert_eq!(
        checks.iter().filter(|check| check["check"] == "cookie").count(),
        3,
        "{doctor}"
    );

    let starts = checks.iter().filter(|check| check["check"] == "start");
    let starts: Vec<_> = starts.map(|check| &check["well"]).collect();
    assert_eq!(starts, [false; 3], "{doctor}");

    // Somebody else has the machine for a while: who that is is said, and nothing is done there before.
    let from = machines.fly.records().len();
    machines.fly.lease_away(&shops[1], "bob@example.com", 600);
    // Who has no cookie asks for it, and would be refused as long as the lease is held.
    let running = machines
        .flyhot([
            "rollback",
            "--inventory",
            "fly",
            "--store",
            store.path().to_str().unwrap(),
        ])
        .args(["--output", "json"])
        .spawn();
    let ending = format!("/machines/{}/exec", shops[1]);
    wait_until("it is refused", LIMIT, || {
        let asked = machines.fly.asked("POST", &ending);
        asked.last().is_some_and(|record| record.status == Some(409))
    });
    machines.fly.lease_back(&shops[1]);
    let back = running.wait();
    back.expect("upgraded", 0);
    for id in &shops {
        assert_eq!(machines.version(id), "v1");
        assert!(!machines.fly.is_leased(id));
    }
    assert!(
        asked(&machines, from, "POST", &shops[1], "/exec").len() > 1,
        "{back}"
    );

    machines.fly.lease_away(&shops[1], "bob@example.com", 600);
    let mut running = machines
        .rollout(&release("v2"), store.path())
        .args(["--base", &image])
        .env("RELEASE_COOKIE", COOKIE)
        .spawn();
    running.wait_for("the lease to be waited for", LIMIT, |event| {
        event["event"] == "lease" && event["state"] == "waited_for"
    });
    machines.fly.lease_back(&shops[1]);
    let run = running.wait();
    // The cookie is not that of the third one, which nobody asks for its own then: the others go back.
    run.expect("reverted", 11);
    for id in &shops {
        assert_eq!(machines.version(id), "v1");
    }
    let held = only(&run, "lease");
    assert_eq!(
        (&held["machine"], &held["state"], &held["holder"]),
        (
            &shops[1].as_str().into(),
            &"waited_for".into(),
            &"bob@example.com".into()
        ),
        "{run}"
    );
    assert!(held["until"].is_string(), "{run}");

    // What Fly says of a machine counts, and so does what it does not say.
    let often = Duration::from_secs(1);
    machines
        .fly
        .made_with_checks(&shops[2], &["alive", "deep"], often);
    machines.fly.check(&shops[2], "critical", "connection refused");
    let ill = machines
        .rollout(&release("v2"), store.path())
        .args(["--base", &image])
        .run();
    ill.expect("reverted", 11);
    let text = ill.to_string();
    assert!(
        text.contains("the check alive is critical: connection refused; nothing is said of the check deep"),
        "{ill}"
    );
    for id in &shops {
        assert_eq!(machines.version(id), "v1");
        let node = outcomes(&ill)[id.as_str()];
        assert_eq!(
            machines.fly.label(id, "flyhot_code_id").as_deref(),
            node["code_id"]["after"].as_str(),
            "{ill}"
        );
    }
    // What it said of the code that was there does not count: its next look is awaited, by whoever comes second as well.
    let seldom = Duration::from_secs(20);
    machines.fly.made_with_checks(&shops[2], &["alive"], seldom);
    let v2 = release("v2");
    for comes_second in [false, true].into_iter().take(rounds(1, 2)) {
        machines.fly.check(&shops[2], "passing", "200 OK");
        let out = || {
            machines
                .rollout(&v2, store.path())
                .args(["--base", &image])
                .spawn()
        };
        let mut running = out();
        let windows = Cell::new(0);
        running.wait_for("all windows are over", LIMIT, |event| {
            let is_over = event["event"] == "step_done" && event["step"] == "window";
            windows.set(windows.get() + usize::from(is_over));
            windows.get() == shops.len()
        });
        if comes_second {
            running.interrupt();
            running.wait().expect("failed", 130);
            running = out();
        }
        let next = seldom / 2;
        machines
            .fly
            .check_in(&shops[2], next, "critical", "500 by the new code");
        let ill = running.wait();
        ill.expect("reverted", 11);
        assert!(ill.to_string().contains("500 by the new code"), "{ill}");
        for id in &shops {
            assert_eq!(machines.version(id), "v1");
        }
    }
    // One serves, the others have no service.
    machines.fly.made_with_service(&shops[0]);
    machines.fly.made_with_checks(&shops[2], &["alive"], often);
    machines.fly.check(&shops[2], "passing", "200 OK");
    let well = machines
        .rollout(&release("v2"), store.path())
        .args(["--base", &image])
        .run();
    well.expect("upgraded", 0);
    for id in &shops {
        assert_eq!(machines.version(id), "v2");
    }
}

#[test]
fn what_a_token_may_not_do_is_done_without_and_said() {
    let machines = Machines::start("may not");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let shops = machines.shops(&image, ["ams", "fra"]);
    let grant = Grant {
        user: "deploy@example.com".to_owned(),
        apps: vec![Fly::APP.to_owned()],
        may_lease: false,
    };
    machines.fly.allow("fm2_may_not_lease", grant);
    machines.fly.ail(FlyIlls {
        refuses_labels: true,
        limits: false,
        ..FlyIlls::default()
    });
    let run = machines
        .rollout(&release("v2"), store.path())
        .env("FLY_ACCESS_TOKEN", "fm2_may_not_lease")
        .env("RELEASE_COOKIE", COOKIE)
        .run();
    run.expect("upgraded", 0);
    for id in &shops {
        assert_eq!(machines.version(id), "v2");
        let reasons = outcomes(&run)[id.as_str()]["reasons"].as_array().unwrap();
        let labelled = reasons
            .iter()
            .find(|reason| reason["code"] == "not_labelled")
            .unwrap();
        assert!(
            labelled["sentence"].as_str().unwrap().contains("HTTP 403"),
            "{run}"
        );
    }
    assert_eq!(only(&run, "lease")["state"], "may_not", "{run}");
    // The cookie was there: nobody was asked for one.
    assert!(
        shops
            .iter()
            .all(|id| asked(&machines, 0, "POST", id, "/exec").is_empty())
    );
}

/// A rollout of v2, one machine after the other, that waits for this one: somebody else holds it until they let it go.
fn held_at(machines: &Machines, store: &Scratch, id: &str) -> Running {
    held(machines, id, machines.rollout(&release("v2"), store.path()))
}

/// The same with another command.
fn held(machines: &Machines, id: &str, begun: Flyhot) -> Running {
    machines.fly.lease_away(id, "bob@example.com", 300);
    let mut running = begun.args(["--sequential"]).env("RELEASE_COOKIE", COOKIE).spawn();
    running.wait_for("a lease that is waited for", LIMIT, |event| {
        event["event"] == "lease"
    });
    running
}

#[test]
fn who_starts_meanwhile_is_taken_over_before_the_end() {
    let machines = Machines::start("meanwhile");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let [first, second, late] = machines.shops(&image, ["ams", "fra", "ord"]);
    machines.fly.stop(&late);
    // The second one is held for as long as the test needs to start one anew that was taken over, and one that was stopped.
    let running = held_at(&machines, &store, &second);
    assert_eq!(machines.version(&first), "v2");
    machines.fly.stop(&first);
    for id in [&first, &late] {
        machines.fly.start_again(id);
    }
    for id in [&first, &late] {
        machines.serves(id);
        assert_eq!(machines.version(id), "v1");
    }
    machines.fly.lease_back(&second);
    let run = running.wait();
    run.expect("upgraded", 0);
    for id in [&first, &second, &late] {
        assert_eq!(machines.version(id), "v2", "{run}");
        assert_eq!(outcomes(&run)[id.as_str()]["outcome"], "upgraded", "{run}");
    }
    // Two at first, two that were found, and a last look that found nobody.
    let waves: Vec<_> = run
        .events_named("wave")
        .map(|event| &event.json["nodes"][0])
        .collect();
    assert_eq!(waves.len(), 4, "{run}");
    assert_eq!(waves[0], waves[2], "{run}");
    assert_eq!(run.events_named("inventory").count(), 3, "{run}");
    assert_eq!(run.pointer(), ["trial", "committed"]);

    // Whoever is ended in the middle lets go what it holds.
    let mut running = machines
        .flyhot([
            "rollback",
            "--inventory",
            "fly",
            "--canary",
            "--bake",
            "1h",
            "--output",
            "json",
        ])
        .args(["--store", store.path().to_str().unwrap()])
        .env("RELEASE_COOKIE", COOKIE)
        .spawn();
    let bake = running.wait_for("the canary", LIMIT, |event| event["event"] == "bake");
    let leased = |id: &&&String| machines.fly.is_leased(id);
    assert_eq!(
        [&first, &second, &late].iter().filter(leased).count(),
        1,
        "{:?}",
        bake.json
    );
    running.interrupt();
    assert_eq!(running.wait().exit_code, Some(12));
    assert_eq!([&first, &second, &late].iter().filter(leased).count(), 0);
}

#[test]
fn who_was_suspended_meanwhile_and_goes_on_is_not_taken_over_twice() {
    let machines = Machines::start("resumed");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let [first, second] = machines.shops(&image, ["ams", "fra"]);
    let running = held_at(&machines, &store, &second);
    assert_eq!(machines.version(&first), "v2");
    machines.fly.suspend(&first);
    machines.fly.resume(&first);
    assert_eq!(machines.version(&first), "v2");
    machines.fly.lease_back(&second);
    let run = running.wait();
    run.expect("upgraded", 0);
    assert_eq!(run.events_named("wave").count(), 2, "{run}");
    assert_eq!(run.events_named("inventory").count(), 2, "{run}");
    assert_eq!(run.pointer(), ["trial", "committed"]);
}

#[test]
fn who_was_started_anew_and_is_suspended_then_is_warned_of() {
    let machines = Machines::start("restarted, suspended");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let [first, second] = machines.shops(&image, ["ams", "fra"]);
    let running = held_at(&machines, &store, &second);
    assert_eq!(machines.version(&first), "v2");
    // What is on trial is booted by nobody.
    machines.fly.stop(&first);
    machines.fly.start_again(&first);
    machines.serves(&first);
    assert_eq!(machines.version(&first), "v1");
    machines.fly.suspend(&first);
    machines.fly.lease_back(&second);
    let run = running.wait();
    run.expect("upgraded", 0);
    let checks = run.events_named("check").map(|event| &event.json);
    let of = checks
        .filter(|check| check["check"] == "resume")
        .map(|check| &check["node"]);
    assert_eq!(of.collect::<Vec<_>>(), [first.as_str()], "{run}");
    machines.fly.resume(&first);
    assert_eq!(machines.version(&first), "v1");
}

#[test]
fn who_has_not_come_to_its_release_at_the_last_look_is_waited_for() {
    let machines = Machines::start("not yet");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let first = machines.shop(&image, "app", "ams", &[]);
    // Its entrypoint does something else first.
    let late = machines.shop(&image, "app", "ord", &[("BEFORE_BOOT_S", "4")]);
    for id in [&first, &late] {
        machines.serves(id);
    }
    machines.fly.stop(&late);
    let mut running = machines
        .rollout(&release("v2"), store.path())
        .env("RELEASE_COOKIE", COOKIE)
        .spawn();
    // From here to the last look it is a second or two.
    running.wait_for_step("watch");
    machines.fly.start_again(&late);
    let run = running.wait();
    run.expect("upgraded", 0);
    for id in [&first, &late] {
        assert_eq!(outcomes(&run)[id.as_str()]["outcome"], "upgraded", "{run}");
        assert_eq!(machines.version(id), "v2", "{run}");
    }
    assert_eq!(run.pointer(), ["trial", "committed"]);
}

#[test]
fn who_is_stopped_after_it_was_taken_over_is_left_to_boot() {
    let machines = Machines::start("stopped");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let [first, second] = machines.shops(&image, ["ams", "fra"]);
    // The first is taken over, and what happens to it then happens before the second is.
    let rollout = |happens: &dyn Fn()| {
        machines.serves(&second);
        let running = held_at(&machines, &store, &second);
        assert_eq!(machines.version(&first), "v2");
        happens();
        machines.fly.lease_back(&second);
        running.wait()
    };
    // As Fly Proxy does, for want of traffic.
    let run = rollout(&|| machines.fly.stop(&first));
    run.expect("upgraded", 0);
    assert_eq!(machines.version(&second), "v2");
    assert_eq!(run.pointer(), ["trial", "committed"]);
    let last = run.events_named("inventory").last().unwrap();
    let seen = last.json["machines"].as_array().unwrap().iter();
    let left: Vec<_> = seen.filter(|machine| machine["role"] == "left_to_boot").collect();
    assert_eq!(
        (left.len(), &left[0]["machine"]),
        (1, &first.as_str().into()),
        "{run}"
    );

    // By itself: nobody says that its code is not why.
    machines.fly.start_again(&first);
    machines.serves(&first);
    let back = machines
        .flyhot(["rollback", "--inventory", "fly", "--output", "json"])
        .args(["--store", store.path().to_str().unwrap()])
        .run();
    back.expect("upgraded", 0);
    let run = rollout(&|| {
        machines
            .fly
            .run(&first, &["app/bin/shop", "rpc", ":erlang.halt(3)"]);
        let stopped = || {
            let all = machines.fly.machines();
            all.iter()
                .any(|machine| machine["id"] == *first && machine["state"] == "stopped")
        };
        wait_until("it has ended", LIMIT, stopped);
    });
    run.expect("mixed", 12);
}

#[test]
fn who_is_stopped_before_its_wave_is_left_to_boot() {
    let machines = Machines::start("before its wave");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let [first, again, gone, last] = machines.shops(&image, ["ams", "fra", "ord", "syd"]);
    let left = |run: &Run| -> Vec<(String, String)> {
        let told = run.events_named("left_to_boot").map(|event| &event.json);
        told.map(|event| [&event["machine"], &event["state"]].map(|text| text.as_str().unwrap().to_owned()))
            .map(|[machine, state]| (machine, state))
            .collect()
    };
    let became = |run: &Run, id: &str| outcomes(run)[id]["outcome"].as_str().unwrap().to_owned();
    let stopped = |id: &str| (id.to_owned(), "stopped".to_owned());

    // Before their waves one is stopped, as Fly Proxy does, and one is removed; the first of them is started again while the last waits.
    machines.fly.lease_away(&last, "bob@example.com", 300);
    let mut running = held_at(&machines, &store, &first);
    machines.fly.stop(&again);
    machines.fly.destroy(&gone);
    machines.fly.lease_back(&first);
    running.wait_for("the last one's lease", LIMIT, |event| {
        event["event"] == "lease" && event["machine"] == last
    });
    assert!(!machines.fly.is_leased(&again));
    machines.fly.start_again(&again);
    machines.serves(&again);
    machines.fly.lease_back(&last);
    let run = running.wait();
    run.expect("upgraded", 0);
    assert_eq!(left(&run), [stopped(&again), (gone.clone(), "destroyed".into())]);
    for id in [&first, &again, &last] {
        assert_eq!(
            (machines.version(id), became(&run, id)),
            ("v2".into(), "upgraded".into())
        );
    }
    assert_eq!(became(&run, &gone), "left_to_boot");
    assert_eq!(run.pointer(), ["trial", "committed"]);

    // One that stays stopped is named as those are that were from the beginning.
    machines.fly.lease_away(&first, "bob@example.com", 300);
    let mut running = machines
        .flyhot([
            "rollback",
            "--inventory",
            "fly",
            "--sequential",
            "--output",
            "json",
        ])
        .args(["--store", store.path().to_str().unwrap()])
        .env("RELEASE_COOKIE", COOKIE)
        .spawn();
    running.wait_for("the first one's lease", LIMIT, |event| event["event"] == "lease");
    machines.fly.stop(&again);
    machines.fly.lease_back(&first);
    let run = running.wait();
    run.expect("upgraded", 0);
    assert_eq!(left(&run), [stopped(&again)]);
    assert_eq!(became(&run, &again), "left_to_boot");
    let inventory = &run.events_named("inventory").last().unwrap().json["machines"];
    let mut all = inventory.as_array().unwrap().iter();
    assert!(all.any(|machine| machine["machine"] == again && machine["role"] == "left_to_boot"));

    // One that ended by itself has failed: nobody says that its code is not why.
    machines.fly.start_again(&again);
    machines.serves(&again);
    let running = held_at(&machines, &store, &first);
    machines
        .fly
        .run(&again, &["app/bin/shop", "rpc", ":erlang.halt(3)"]);
    wait_until("it has ended", LIMIT, || {
        let all = machines.fly.machines();
        all.iter()
            .any(|machine| machine["id"] == again && machine["state"] == "stopped")
    });
    machines.fly.lease_back(&first);
    let run = running.wait();
    run.expect("reverted", 11);
    assert_eq!((left(&run), became(&run, &again)), (vec![], "failed".into()));

    // What nobody runs in the end was tried by nobody.
    machines.fly.stop(&last);
    let running = held_at(&machines, &store, &first);
    machines.fly.stop(&first);
    machines.fly.lease_back(&first);
    let run = running.wait();
    run.expect("failed", 24);
    assert_eq!(left(&run), [stopped(&first)]);
    assert_eq!(only(&run, "error")["kind"], "node_unreachable");
    assert_eq!(run.pointer(), ["trial", "abandoned"]);

    // Whoever ends a rollout while a machine is labelled knows what became of its node.
    machines.fly.start_again(&first);
    machines.serves(&first);
    machines.fly.ail(FlyIlls {
        labels_take: LIMIT,
        limits: false,
        ..FlyIlls::default()
    });
    let from = machines.fly.records().len();
    let running = machines.rollout(&release("v2"), store.path()).spawn();
    wait_until("its label is being written", LIMIT, || {
        !asked(&machines, from, "POST", &first, "/metadata/flyhot_code_id").is_empty()
    });
    running.interrupt();
    let run = running.wait();
    run.expect("failed", 130);
    assert_eq!(became(&run, &first), "upgraded");
    assert_eq!(machines.version(&first), "v2");
}

#[test]
fn whose_host_is_lost_is_left_out_and_told() {
    let machines = Machines::start("lost");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let [one, lost, other] = machines.shops(&image, ["ams", "fra", "ord"]);
    let ends = |run: &Run, exit_code: i32, of_others: &str| {
        assert_eq!(run.exit_code, Some(exit_code), "{run}");
        let ended = outcomes(run);
        for id in [&one, &other] {
            assert_eq!(ended[id.as_str()]["outcome"], of_others, "{run}");
        }
        let left_out = ended[lost.as_str()];
        let reason = &left_out["reasons"][0];
        assert_eq!(
            (&left_out["outcome"], &left_out["region"], &reason["code"]),
            (&"not_begun".into(), &"fra".into(), &"host_lost".into()),
            "{run}"
        );
        let hint = reason["hint"].as_str().unwrap();
        assert!(
            hint.contains(&format!("fly machine destroy --force {lost}")),
            "{run}"
        );
        assert_eq!(only(run, "error")["node"], *lost, "{run}");
    };
    let rolls = || machines.rollout(&release("v2"), store.path());

    // A machine that nobody reaches stands against all, as long as Fly does not say why.
    machines.cut(&lost);
    let run = rolls().run();
    run.expect("failed", 24);
    assert_eq!(machines.version(&one), "v1");

    machines.fly.host(&lost, "unreachable");
    let v2 = release("v2");
    let plan = ["plan", "--release", v2.directory().to_str().unwrap()];
    ends(
        &machines.flyhot(plan).args(["--output", "json"]).run(),
        24,
        "planned",
    );
    let run = rolls().run();
    ends(&run, 12, "upgraded");
    assert_eq!(run.pointer(), ["trial", "committed"]);
    ends(&rolls().run(), 12, "nothing_to_do");

    // Its host is back, and it ran all the time.
    machines.fly.host(&lost, "ok");
    machines.mend(&lost);
    assert_eq!(machines.version(&lost), "v1");
    let run = rolls().run();
    run.expect("upgraded", 0);
    assert_eq!(outcomes(&run)[lost.as_str()]["outcome"], "upgraded", "{run}");
    assert_eq!(machines.version(&lost), "v2");
}

#[test]
fn what_comes_behind_a_window_takes_its_time_and_behind_a_cold_deploy_nobody_goes_back() {
    let machines = Machines::start("longer");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let shop = machines.shop(&image, "app", "ams", &[]);
    machines.serves(&shop);
    let slow = "-module(slow).\n-export([ok/0]).\nok() -> timer:sleep(30000), ok.\n";
    let slow = release("v2").variant().erlang("slow", slow).build();
    let policy = store.path().join("policy.toml");
    fs::write(
        &policy,
        "[hooks]\nafter = [\"slow:ok\"]\ntimeout = \"2m\"\n[gate]\nwatch = \"1s\"\n",
    )
    .unwrap();
    let from = machines.fly.records().len();
    let running = machines
        .flyhot([
            "rollout",
            "--inventory",
            "fly",
            "--output",
            "json",
            "--timeout",
            "25s",
        ])
        .args(["--release", slow.directory().to_str().unwrap()])
        .args(["--store", store.path().to_str().unwrap()])
        .args(["--policy", policy.to_str().unwrap()])
        .spawn();
    // The machine is leased for as long as that takes, by a lease that ends much earlier unless it is renewed.
    wait_until("it is leased", LIMIT, || machines.fly.is_leased(&shop));
    let leased = Instant::now();
    wait_until("a lease that was not renewed is over", LIMIT, || {
        assert!(
            machines.fly.is_leased(&shop),
            "it ended after {:?}",
            leased.elapsed()
        );
        leased.elapsed() > Duration::from_secs(20)
    });
    let leases = asked(&machines, from, "POST", &shop, "/lease");
    assert!(leases.len() > 1, "{leases:?}");
    assert!(leases.iter().all(|lease| lease["ttl"] == 15), "{leases:?}");
    let (status, said) = update(&machines, &shop);
    assert_eq!(status, 409, "{said}");
    assert!(
        said.contains("lease currently held by alice@example.com"),
        "{said}"
    );
    let run = running.wait();
    run.expect("upgraded", 0);
    assert_eq!(run.events_named("lease").count(), 0, "{run}");
    assert!(!machines.fly.is_leased(&shop));
    assert_eq!(machines.version(&shop), "v2");

    // From behind a cold deploy nobody goes back to what ran before it.
    let other = machines.image("01H3B", &release("v2"), COOKIE);
    let anew = machines.shop(&other, "app", "ams", &[]);
    machines.serves(&anew);
    machines.fly.stop(&shop);
    let back = machines
        .flyhot(["rollback", "--inventory", "fly", "--output", "json"])
        .args(["--store", store.path().to_str().unwrap()])
        .run();
    back.expect("refused", 2);
    assert!(back.stdout.contains("by a cold deploy since"), "{back}");
    assert_eq!(machines.version(&anew), "v2");
}

#[test]
fn a_lease_that_goes_to_another_is_told_and_taken_again_for_the_next_step() {
    let machines = Machines::start("lost lease");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let shop = machines.shop(&image, "app", "ams", &[]);
    machines.serves(&shop);
    // The test says how long it takes.
    let slow = "-module(slow).\n-export([ok/0]).\nok() -> await(filename:join(os:getenv(\"HOME\"), \"go\")).\n\
                await(File) -> case filelib:is_regular(File) of true -> ok; false -> timer:sleep(50), await(File) end.\n";
    let slow = release("v2").variant().erlang("slow", slow).build();
    let policy = store.path().join("policy.toml");
    fs::write(
        &policy,
        "[hooks]\nafter = [\"slow:ok\"]\ntimeout = \"2m\"\n\
         [gate]\ncall = \"erlang:node\"\nwithin = \"1s\"\nevery = \"100ms\"\nwatch = \"200ms\"\n",
    )
    .unwrap();
    let from = machines.fly.records().len();
    let mut running = machines
        .flyhot(["rollout", "--inventory", "fly", "--output", "json"])
        .args(["--release", slow.directory().to_str().unwrap()])
        .args(["--store", store.path().to_str().unwrap()])
        .args(["--policy", policy.to_str().unwrap()])
        .spawn();
    let leases = || -> Vec<_> {
        let mut records = machines.fly.records().split_off(from);
        let path = format!("/machines/{shop}/lease");
        records.retain(|record| record.path.ends_with(&path));
        let told = |record: Record| (record.method, record.body.contains("description"), record.status);
        records.into_iter().map(told).collect()
    };
    running.wait_for("the window", LIMIT, |event| {
        event["event"] == "step_done" && event["step"] == "window"
    });
    machines.fly.lease_away(&shop, "bob@example.com", 300);
    wait_until("it is seen that the lease is lost", LIMIT, || {
        leases().contains(&("POST".to_owned(), false, Some(409)))
    });

    // What was begun goes on, and it is said when it is done.
    fs::write(machines.fly.root(&shop).join("go"), "").unwrap();
    let state = |event: &Value, state: &str| event["event"] == "lease" && event["state"] == state;
    let lost = running.wait_for("the lease that is lost", LIMIT, |event| state(event, "lost"));
    assert_eq!(
        (&lost.json["machine"], lost.json["why"].is_string()),
        (&shop.as_str().into(), true)
    );
    // The way back is the next step, since the gate does not pass.
    let again = running.wait_for("the lease that is taken again", LIMIT, |event| {
        state(event, "waited_for")
    });
    assert_eq!(again.json["holder"], "bob@example.com");
    assert_eq!(machines.version(&shop), "v2");
    machines.fly.lease_back(&shop);
    let run = running.wait();
    run.expect("reverted", 11);
    assert_eq!(run.events_named("lease").count(), 2, "{run}");
    assert_eq!(outcomes(&run)[shop.as_str()]["outcome"], "taken_back", "{run}");
    assert_eq!(machines.version(&shop), "v1");
    let leases = leases();
    let granted = ("POST".to_owned(), true, Some(201));
    assert_eq!(
        leases.iter().filter(|lease| **lease == granted).count(),
        2,
        "{leases:?}"
    );
    assert_eq!(leases.last().unwrap().0, "DELETE", "{leases:?}");
    assert!(!machines.fly.is_leased(&shop));
}

#[test]
fn a_machine_of_another_image_that_comes_meanwhile_is_no_success() {
    let machines = Machines::start("another image");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let other = machines.image("01H3B", &release("v1"), COOKIE);
    let first = machines.shop(&image, "app", "ams", &[]);
    machines.serves(&first);
    let running = held_at(&machines, &store, &first);
    let late = machines.shop(&other, "app", "ams", &[]);
    machines.serves(&late);
    machines.fly.lease_back(&first);
    let run = running.wait();
    run.expect("mixed", 12);
    assert!(run.stdout.contains("name by --base"), "{run}");
    assert_eq!(run.pointer(), ["trial", "trial"]);
    assert_eq!(machines.version(&late), "v1");
}

#[test]
fn a_stopped_machine_that_gets_another_image_meanwhile_is_no_success() {
    let machines = Machines::start("stopped, replaced");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let other = machines.image("01H3B", &release("v1"), COOKIE);
    let [first, second, asleep] = machines.shops(&image, ["ams", "fra", "ord"]);
    machines.fly.stop(&asleep);
    let running = held_at(&machines, &store, &second);
    assert_eq!(machines.version(&first), "v2");
    // What is on trial is booted by nobody.
    machines.fly.stop(&first);
    machines.fly.start_again(&first);
    machines.serves(&first);
    machines.fly.replace(&asleep, &other);
    machines.fly.stop(&asleep);
    machines.fly.lease_back(&second);
    let run = running.wait();
    run.expect("mixed", 12);
    assert!(
        run.stdout
            .contains(&format!("{asleep}: a `fly deploy` came between")),
        "{run}"
    );
    // Nor is somebody told as taken over who was started anew since.
    let outcomes = outcomes(&run);
    let of = [&first, &second].map(|id| &outcomes[id.as_str()]["outcome"]);
    assert_eq!(of, ["not_begun", "upgraded"], "{run}");
    assert_eq!([&first, &second].map(|id| machines.version(id)), ["v1", "v2"]);
    assert_eq!(run.pointer(), ["trial", "trial"]);
}

#[test]
fn what_a_fly_deploy_brought_meanwhile_is_not_taken_away_again() {
    let machines = Machines::start("replaced");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let other = machines.image("01H3B", &release("v1"), COOKIE);
    let shop = machines.shop(&image, "app", "ams", &[]);
    machines.serves(&shop);
    let running = held_at(&machines, &store, &shop);
    // Its holder was a `fly deploy`.
    machines.fly.replace(&shop, &other);
    machines.serves(&shop);
    machines.fly.lease_back(&shop);
    let run = running.wait();
    run.expect("failed", 24);
    assert!(run.stdout.contains("a `fly deploy` came between"), "{run}");
    assert_eq!(run.pointer(), ["trial", "abandoned"], "{run}");
    assert_eq!(machines.version(&shop), "v1");
    // It is the new one's turn.
    machines
        .rollout(&release("v2"), store.path())
        .run()
        .expect("upgraded", 0);
    assert_eq!(machines.version(&shop), "v2");
}

#[test]
fn what_a_fly_deploy_brought_to_one_is_not_taken_back_with_the_others() {
    let machines = Machines::start("replaced back");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let other = machines.image("01H3B", &release("v2"), COOKIE);
    let [first, second] = machines.shops(&image, ["ams", "fra"]);
    machines
        .rollout(&release("v2"), store.path())
        .run()
        .expect("upgraded", 0);
    let rollback = machines
        .flyhot(["rollback", "--inventory", "fly", "--output", "json"])
        .args(["--store", store.path().to_str().unwrap()]);
    let running = held(&machines, &second, rollback);
    assert_eq!(machines.version(&first), "v1");
    machines.fly.replace(&first, &other);
    machines.serves(&first);
    machines.fly.lease_back(&second);
    let run = running.wait();
    assert_eq!(run.exit_code, Some(12), "{run}");
    assert!(run.stdout.contains("a `fly deploy` came between"), "{run}");
    assert_eq!(machines.version(&first), "v2", "{run}");
    assert!(!run.pointer().contains(&"committed"), "{run}");

    // Whoever goes back when it has come to one already is told what that one boots next.
    let run = machines
        .flyhot(["rollback", "--inventory", "fly", "--output", "json"])
        .args(["--store", store.path().to_str().unwrap()])
        .run();
    run.expect("upgraded", 0);
    let checks = run.events_named("check").map(|event| &event.json);
    let of: Vec<_> = checks.filter(|check| check["check"] == "image").collect();
    assert_eq!(of.len(), 1, "{run}");
    assert_eq!(
        (&of[0]["node"], &of[0]["well"]),
        (&first.as_str().into(), &false.into()),
        "{run}"
    );
    assert_eq!(machines.version(&first), "v1");
}

#[test]
fn a_mistake_ends_in_one_sentence_with_the_fix() {
    let machines = Machines::start("mistakes");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), COOKIE);
    let rows = Rows::of("inventory");
    let told = |mistake: &str, run: &Run, exit_code: i32| rows.told(mistake, run, exit_code);
    let status = || machines.flyhot(["status", "--inventory", "fly", "--output", "json"]);

    told("no token", &status().env("FLY_API_TOKEN", "").run(), 2);
    told(
        "a token that Fly does not know",
        &status().env("FLY_API_TOKEN", "fm2_old").run(),
        23,
    );
    told("another app", &status().env("FLY_APP_NAME", "shoppe").run(), 23);
    told("no app", &status().env("FLY_APP_NAME", "").run(), 2);
    let nobody = machines
        .flyhot(["status", "--output", "json"])
        .env("FLY_APP_NAME", "");
    told("no nodes", &nobody.run(), 2);

    let none = machines.shop(&image, "app", "ams", &[("RELEASE_DISTRIBUTION_OF_TEST", "none")]);
    let loopback = machines.shop(
        &image,
        "app",
        "ams",
        &[
            ("RELEASE_NODE_OF_TEST", "shop@127.0.0.1"),
            ("ERL_AFLAGS_OF_TEST", "-kernel logger_level error"),
        ],
    );
    let cookie = machines.shop(&image, "app", "ams", &[("RELEASE_COOKIE", "of_this_build")]);
    let shops = [&none, &loopback, &cookie];
    shops.iter().for_each(|id| machines.serves(id));
    // Each of them alone: the others are stopped.
    let alone = |only: &str| {
        for id in shops {
            match (id == only, machines.fly.run(id, &["true"]).is_some()) {
                (true, false) => {
                    machines.fly.start_again(id);
                    machines.serves(id);
                }
                (false, true) => machines.fly.stop(id),
                _ => {}
            }
        }
        machines.flyhot(["status", "--inventory", "fly", "--output", "json"])
    };
    let v2 = release("v2");
    // The doctor says it of the machine, or as a check of its node.
    let by_all = |mistake: &str, status: Flyhot, given: &[&str]| {
        let given = |flyhot: Flyhot| flyhot.args(given.iter().copied()).run();
        told(mistake, &given(status), 24);
        let plan = machines.flyhot(["plan", "--release", v2.directory().to_str().unwrap()]);
        told(mistake, &given(plan.args(["--output", "json"])), 24);
        let doctor = given(machines.flyhot(["doctor", "--output", "json"]));
        assert_eq!(doctor.exit_code, Some(24), "{doctor}");
        let of_machine = doctor
            .events_named("error")
            .map(|event| (event, ["message", "hint"]));
        let of_node = doctor
            .events_named("check")
            .filter(|event| event.json["node"] != "this machine" && event.json["well"] == false)
            .map(|event| (event, ["found", "fix"]));
        let said: Vec<_> = of_machine.chain(of_node).collect();
        let [(event, keys)] = said[..] else {
            panic!("{doctor}")
        };
        let [found, fix] = keys.map(|key| event.json[key].as_str().unwrap());
        rows.said(mistake, found, fix);
    };
    let file = store.path().join("cookie");
    fs::write(&file, "of_another_build").unwrap();
    let given = ["--cookie-file", file.to_str().unwrap()];
    // A machine whose cookie is a secret of the app says so itself: what its image brought is another one.
    alone(&cookie).run().expect("done", 0);
    by_all("another cookie", alone(&cookie), &given);
    by_all("loopback only", alone(&loopback), &[]);
    by_all("not distributed", alone(&none), &[]);

    // Nothing is touched where one of them cannot be reached, nor where somebody else has it.
    let run = machines.rollout(&release("v2"), store.path()).run();
    told("not distributed", &run, 24);
    assert_eq!(machines.version(&none), "v1");
    machines.fly.stop(&none);
    machines.fly.start_again(&cookie);
    machines.serves(&cookie);
    machines.fly.lease_away(&cookie, "bob@example.com", 300);
    let run = machines
        .rollout(&release("v2"), store.path())
        .args(["--timeout", "10s"])
        .env("RELEASE_COOKIE", "of_this_build")
        .run();
    told("a lease that is held", &run, 23);
    assert_eq!(machines.version(&cookie), "v1");
    machines.fly.host(&cookie, "unreachable");
    machines.cut(&cookie);
    told("a lost host", &status().run(), 24);
    machines.fly.host(&cookie, "ok");
    machines.fly.stop(&cookie);
    let run = machines.rollout(&release("v2"), store.path()).run();
    told("nothing is started", &run, 24);
}

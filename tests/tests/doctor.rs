//! What `flyhot doctor --inventory fly` finds not well: each mistake made once, told with what mends it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use flyhot_tests::{
    Fly, FlyCli, FlyIlls, Flyhot, Grant, Machines, Moto, Otp, Record, Release, Rows, Run, wait_until,
};
use serde_json::Value;

const COOKIE: &str = "cookie_of_every_build";

const NONE: [&Value; 0] = [];

/// No condition that is waited for takes so long, however busy the tests keep the machine.
const LIMIT: Duration = Duration::from_secs(120);

/// What is about no node, each with whether it is well.
fn here(run: &Run) -> Vec<(&str, bool)> {
    let checks = run.events_named("check").map(|event| &event.json);
    checks
        .filter(|check| check["node"] == "this machine")
        .map(|check| (check["check"].as_str().unwrap(), check["well"] == true))
        .collect()
}

fn checks<'a>(run: &'a Run, name: &'a str) -> impl Iterator<Item = &'a Value> {
    let checks = run.events_named("check").map(|event| &event.json);
    checks.filter(move |check| check["check"] == name)
}

/// What is not well.
fn ill(run: &Run) -> Vec<&Value> {
    let checks = run.events_named("check").map(|event| &event.json);
    checks.filter(|check| check["well"] != true).collect()
}

/// One check is not well, and says what stands on the page beside the name of the mistake.
fn only_ill(rows: &Rows, run: &Run, check: &str, mistake: &str) {
    let [one] = ill(run)[..] else {
        panic!("{mistake}\n{run}")
    };
    assert_eq!(one["check"], check, "{run}");
    rows.said(
        mistake,
        one["found"].as_str().unwrap(),
        one["fix"].as_str().unwrap(),
    );
}

#[test]
fn what_a_deploy_needs_is_checked_and_each_lack_is_told_with_the_fix() {
    Flyhot::binary();
    let rows = Rows::of("doctor");
    let only_ill = |run: &Run, check: &str, mistake: &str| only_ill(&rows, run, check, mistake);
    let (machines, bucket) = (Machines::start("doctor"), Moto::start());
    let release = Release::shop(Otp::under_test(), "v1");
    let image = machines.image("01H3A", &release, COOKIE);
    let id = machines.shop(&image, "app", "ams", &[("BOOT", "./flyhot boot --wait 1s --")]);
    machines.serves(&id);
    let cli = FlyCli::new(&machines.fly, release.directory(), Fly::TOKEN);
    let path = cli.search_path(&[]);
    let doctor = || {
        let words = ["doctor", "--inventory", "fly", "--output", "json"];
        machines.flyhot(words).env("PATH", &path)
    };

    // Nobody has offered a bucket yet.
    let run = doctor().run();
    run.expect("done", 0);
    only_ill(&run, "secrets", "no bucket");
    machines.offer_bucket(bucket.address());

    let from = machines.fly.records().len();
    let well = machines.knows_bucket(doctor().env("FLY_API_TOKEN", "")).run();
    well.expect("done", 0);
    let expected = [
        "keys", "store", "clock", "flyctl", "login", "token", "lease", "secrets", "flyhot", "clock",
    ];
    assert_eq!(here(&well), expected.map(|name| (name, true)), "{well}");
    let of_node = |name: &str| {
        checks(&well, name)
            .filter(|check| check["node"] != "this machine")
            .count()
    };
    for name in ["epmd", "cookie", "toolchain", "clock", "start"] {
        assert_eq!(of_node(name), 1, "{name}\n{well}");
    }
    for hidden in ["hidden", "fm2_", COOKIE] {
        assert!(!well.to_string().contains(hidden), "{well}");
    }
    // Nothing was changed, and nothing stays.
    let records = machines.fly.records();
    let changes = records[from..].iter().filter(|record| record.method != "GET");
    let changes: Vec<&str> = changes
        .map(|record| record.path.rsplit('/').next().unwrap())
        .collect();
    assert!(
        changes.iter().all(|action| ["lease", "exec"].contains(action)),
        "{changes:?}"
    );
    // A lease of some seconds is over by itself before anybody looks here.
    let let_go = |record: &&Record| record.method == "DELETE" && record.path.ends_with("/lease");
    assert_eq!(records[from..].iter().filter(let_go).count(), 1);
    assert!(!machines.fly.is_leased(&id));

    // Whoever reads it sees marks.
    let shown = machines.flyhot(["doctor", "--inventory", "fly"]).run();
    for part in ["\u{2717} flyctl", "\u{2713} lease", "next: Install it"] {
        assert!(shown.stdout.contains(part), "{part}\n{shown}");
    }

    let run = machines
        .flyhot(["doctor", "--inventory", "fly", "--output", "json"])
        .run();
    run.expect("done", 0);
    only_ill(&run, "flyctl", "no flyctl");

    cli.log_out();
    let run = doctor().env("FLY_API_TOKEN", "").run();
    run.expect("refused", 2);
    only_ill(&run, "login", "nobody is logged in");

    let grant = Grant {
        user: "deploy@example.com".to_owned(),
        apps: vec![Fly::APP.to_owned()],
        may_lease: false,
    };
    machines.fly.allow("fm2_may_not_lease", grant);
    let run = doctor().env("FLY_API_TOKEN", "fm2_may_not_lease").run();
    run.expect("done", 0);
    only_ill(&run, "lease", "a token that may not lease");

    // Somebody who holds the machine says nothing about the token.
    machines.fly.lease_away(&id, "bob@example.com", 600);
    let running = doctor().env("RELEASE_COOKIE", COOKIE).spawn();
    wait_until("it is refused", LIMIT, || {
        let asked = machines.fly.asked("POST", "/lease");
        asked.iter().any(|record| record.status == Some(409))
    });
    machines.fly.lease_back(&id);
    let run = running.wait();
    run.expect("done", 0);
    assert_eq!(ill(&run), NONE, "{run}");
    let lease = checks(&run, "lease").next().unwrap();
    assert!(
        lease["found"].as_str().unwrap().contains("bob@example.com"),
        "{run}"
    );

    let refuse = |refused: &'static [&'static str]| {
        machines.fly.ail(FlyIlls {
            refused,
            limits: false,
            ..FlyIlls::default()
        });
        // Nobody has to ask the machine for its cookie.
        doctor().env("RELEASE_COOKIE", COOKIE).run()
    };
    only_ill(
        &refuse(&["/tokens/current"]),
        "token",
        "a token that says nothing of itself",
    );
    only_ill(&refuse(&["/exec"]), "flyhot", "a token that may run no command");
    // Where Fly does not list secrets, a command on the machine sees them.
    let run = refuse(&["/secrets"]);
    assert_eq!(ill(&run), NONE, "{run}");
    let secrets = checks(&run, "secrets").next().unwrap();
    assert!(
        secrets["found"].as_str().unwrap().contains("keys are there"),
        "{run}"
    );
    refuse(&[]);

    machines.fly.ail(FlyIlls {
        ahead: Duration::from_secs(400),
        limits: false,
        ..FlyIlls::default()
    });
    only_ill(&doctor().run(), "clock", "a clock that is wrong");
    refuse(&[]);

    let there = machines.fly.root(&id).join("flyhot");
    fs::remove_file(&there).unwrap();
    only_ill(&doctor().run(), "flyhot", "an image without flyhot");
    for (script, mistake) in [
        ("exit 3", "an image with something else for flyhot"),
        ("echo flyhot 0.0.1", "an image with another flyhot"),
    ] {
        fs::write(&there, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o755)).unwrap();
        only_ill(&doctor().run(), "flyhot", mistake);
    }
}

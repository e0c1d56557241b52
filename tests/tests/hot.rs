//! From `mix fly_deploy.hot` in a project, which is built each time, to every machine of its app: each with a network of its own, under
//! traffic, booted by flyhot.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flyhot_tests::{App, FlyCli, FlyIlls, Flyhot, Otp, Project, Release, Run, Traffic};
use serde_json::Value;

/// Machines in three regions.
const REGIONS: [&str; 6] = ["ams", "fra", "ams", "fra", "iad", "iad"];

/// On each of them: six share the processors of one machine here.
const PER_SECOND: u32 = 20;

/// What the code of each writes into its answers.
const VERSIONS: [&str; 2] = [r#""version":"v1""#, r#""version":"v2""#];

/// A build takes five seconds of a processor that is idle, and was seen to take three minutes among others; the rollout comes behind it.
const PATIENCE: Duration = Duration::from_secs(360);

/// A task of mix on the laptop, which has flyctl and nothing else of Fly: neither the keys of the bucket nor the private network.
fn mix(app: &App, project: &Project, cli: &FlyCli, words: &[&str]) -> Flyhot {
    app.mix(Otp::under_test(), project, cli, words)
        .args(["--output", "json"])
}

/// The shop, whose nodes are distributed by what the task puts into a project, and by nothing else.
fn installed() -> Project {
    let project = Project::shop(Otp::under_test());
    let env = project.directory().join("rel/env.sh.eex");
    fs::remove_file(&env).unwrap();
    // It asks flyhot for nothing.
    let run = project
        .mix(Path::new("/nowhere"))
        .args(["fly_deploy.install", "--apply"])
        .run();
    assert_eq!(run.exit_code, Some(0), "{run}");
    assert!(env.is_file(), "{run}");
    project
}

/// The record of a rollout, as the bucket has it.
fn record(app: &App, fencing: u64) -> Value {
    let listing = app.bucket.listing();
    let start = format!("releases/shop/rollouts/{fencing:08}-");
    let mut keys = listing.split(['<', '>']).filter(|key| key.starts_with(&start));
    let key = keys.next().unwrap_or_else(|| panic!("{fencing}: {listing}"));
    let record: Value = serde_json::from_str(&app.bucket.object(key).unwrap()).unwrap();
    record["record"].clone()
}

/// To what the project is with this variable of its build, where no later one says otherwise.
fn hot(app: &App, project: &Project, cli: &FlyCli, words: &[&str]) -> Flyhot {
    let hot = ["fly_deploy.hot", "--build-arg", "SHOP_CODE=v2"];
    mix(app, project, cli, &[&hot, words].concat()).patience(PATIENCE)
}

/// The image that a deploy built; the package is in it.
fn image(cli: &FlyCli, run: &Run) -> String {
    let made = &run.events_named("orchestrator").next().unwrap().json;
    let image = made["image"].as_str().unwrap();
    Release::at(Otp::under_test(), cli.built(image).join("app")).ebin("fly_deploy");
    image.to_owned()
}

/// How many requests the code of v1 and that of v2 answered.
type Answered = Arc<[AtomicUsize; 2]>;

fn on_all(app: &App) -> Vec<(Traffic, Answered)> {
    let on = |id| {
        let answered = Answered::default();
        let count = Arc::clone(&answered);
        let traffic = app.machines.traffic(id).per_second(PER_SECOND).connections(8);
        let traffic = traffic.check(move |body| {
            let by = VERSIONS.iter().position(|version| body.contains(version));
            by.inspect(|by| _ = count[*by].fetch_add(1, Ordering::Relaxed))
                .is_some()
        });
        (traffic.start(), answered)
    };
    app.ids.iter().map(|id| on(id)).collect()
}

/// How often a cart of each machine was visited.
fn visits(app: &App) -> Vec<u64> {
    app.ids.iter().map(|id| app.machines.visits(id)).collect()
}

/// Nobody else visited those carts since, and none has begun anew.
fn kept(app: &App, before: &[u64], run: &Run) {
    let expected: Vec<_> = before.iter().map(|visits| visits + 1).collect();
    assert_eq!(visits(app), expected, "{run}");
}

/// No request failed, and both versions answered some.
fn well(traffic: Vec<(Traffic, Answered)>, run: &Run) {
    for (at, (traffic, answered)) in traffic.into_iter().enumerate() {
        let tally = traffic.stop();
        assert_eq!(tally.failures(), [""; 0], "machine {at}\n{run}");
        for (answered, version) in answered.iter().zip(VERSIONS) {
            assert!(
                answered.load(Ordering::Relaxed) > 0,
                "machine {at}: {version}\n{run}"
            );
        }
    }
}

/// What a plan looks at and has to leave alone: the bucket with its pointer and its lock, and what the Machines API says of each machine.
fn all(app: &App) -> (String, Vec<Value>) {
    let mut machines = app.machines.fly.machines();
    machines.retain(|machine| app.ids.iter().any(|id| machine["id"] == **id));
    (app.bucket.listing(), machines)
}

/// The plan of an image says this of each machine, and touches none.
fn plans(app: &App, project: &Project, cli: &FlyCli, image: &str, outcome: &str, code: i32) -> Run {
    let (before, asked) = (all(app), app.machines.fly.records().len());
    let words = ["fly_deploy.plan", "--image", image];
    let run = mix(app, project, cli, &words).run();
    run.expect(outcome, code);
    let verdicts: Vec<_> = run
        .events_named("plan")
        .map(|plan| &plan.json["verdict"])
        .collect();
    assert_eq!(verdicts.len(), 6, "{run}");
    for verdict in verdicts {
        assert_eq!(verdict == "cold", code == 10, "{run}");
    }
    // Leases are no part of what a machine is: nobody asked for one, nor for anything but what the nodes' cookie is.
    for record in &app.machines.fly.records()[asked..] {
        let of_app = app.ids.iter().any(|id| record.path.contains(id));
        let reads = record.method == "GET" || record.body.contains("releases/COOKIE");
        assert!(!of_app || reads, "{record:?}\n{run}");
    }
    assert_eq!(all(app), before, "{run}");
    let probe = app.probe(Otp::under_test(), &app.ids[3]);
    assert_eq!(probe.traces(), [""; 0], "{run}");
    assert_eq!(app.versions(), ["v1"; 6], "{run}");
    run
}

#[test]
fn a_project_upgrades_six_machines_under_traffic_and_they_go_back() {
    let project = installed();
    let app = App::start("hot", &project.release("v1"), &REGIONS, None);
    assert_eq!(app.versions(), ["v1"; 6]);
    // With the rates that Fly.io holds whoever asks to.
    app.machines.fly.ail(FlyIlls::default());
    let cli = app.builds_project();
    let failed = hot(&app, &project, &cli, &["--build-arg", "SHOP_CODE=v9"]).run();
    failed.expect("failed", 21);
    let error = &failed.events_named("error").next().unwrap().json["message"];
    assert!(
        error.as_str().unwrap().contains("key \"v9\" not found"),
        "{failed}"
    );
    let before = visits(&app);
    let traffic = on_all(&app);
    let run = hot(&app, &project, &cli, &["--canary", "--max-concurrency", "3"]).run();
    well(traffic, &run);
    run.expect("upgraded", 0);
    assert_eq!(app.versions(), ["v2"; 6], "{run}");
    kept(&app, &before, &run);
    // Whoever starts by `flyhot boot` is warned of nothing.
    assert_eq!(run.events_named("check").count(), 0, "{run}");
    let nodes = run.outcome()["nodes"].as_array().unwrap();
    for (id, region) in app.ids.iter().zip(REGIONS) {
        let node = nodes.iter().find(|node| node["machine"] == **id).unwrap();
        assert_eq!(
            (&node["region"], &node["outcome"]),
            (&region.into(), &"upgraded".into())
        );
    }
    for hidden in ["hidden", "fm2_", App::COOKIE] {
        assert!(!run.to_string().contains(hidden), "{run}");
    }
    let pointer = app.pointer();
    assert_eq!(pointer["state"], "committed");
    assert_eq!(pointer["base_image"], App::image());
    // Who did it, and what became of each machine, stays in the bucket.
    let record = record(&app, 1);
    assert_eq!(record["end"]["outcome"], "upgraded", "{record}");
    assert_eq!(
        record["end"]["nodes"].as_array().map(Vec::len),
        Some(6),
        "{record}"
    );
    for (id, region) in app.ids.iter().zip(REGIONS) {
        let mut nodes = record["end"]["nodes"].as_array().unwrap().iter();
        let node = nodes.find(|node| node["machine"] == **id).unwrap();
        assert_eq!(node["region"], region, "{record}");
    }

    // A machine that starts anew boots what the others run.
    app.machines.fly.stop(&app.ids[5]);
    app.machines.fly.start_again(&app.ids[5]);
    app.machines.serves(&app.ids[5]);
    assert_eq!(app.versions(), ["v2"; 6]);

    // Rebuilt, it is the same code.
    let again = hot(&app, &project, &cli, &[]).run();
    again.expect("nothing_to_do", 0);
    let built = image(&cli, &run);
    assert_ne!(image(&cli, &again), built);

    // And back, with what the states have become.
    let before = visits(&app);
    let traffic = on_all(&app);
    let back = mix(&app, &project, &cli, &["fly_deploy.rollback"]).run();
    well(traffic, &back);
    back.expect("upgraded", 0);
    // It goes on without the laptop, on a machine of the image that the machines have.
    let made = &back.events_named("orchestrator").next().unwrap().json;
    assert_eq!(made["image"], "registry.fly.io/shop:deployment-01H3A", "{back}");
    assert_eq!(app.versions(), ["v1"; 6], "{back}");
    kept(&app, &before, &back);

    // What an image would do is said, and nothing is done.
    let without = Release::shop(Otp::under_test(), "v2");
    let without = app.machines.image("without", &without, App::COOKIE);
    plans(&app, &project, &cli, &built, "planned", 0);
    let cold = plans(&app, &project, &cli, &without, "refused", 10);
    assert_eq!(
        cold.reason("application_removed")["subject"],
        "fly_deploy",
        "{cold}"
    );

    // What else needs keys or network is asked of one of the machines.
    let asked = |words: &[&str]| {
        let run = mix(&app, &project, &cli, words).run();
        run.expect("done", 0);
        let elsewhere = run.events_named("elsewhere").next().unwrap();
        assert!(
            app.ids.iter().any(|id| elsewhere.json["machine"] == **id),
            "{run}"
        );
        assert!(!run.to_string().contains("fm2_"), "{run}");
        run
    };
    let shown = asked(&["fly_deploy.status"]);
    assert_eq!(shown.events_named("status").count(), 6, "{shown}");
    // But for what is of the laptop, that is looked at there.
    let doctor = asked(&["fly_deploy.doctor"]);
    let checks: Vec<_> = doctor.events_named("check").collect();
    for word in [
        "flyctl", "login", "token", "lease", "secrets", "store", "flyhot", "clock", "epmd", "cookie", "start",
    ] {
        let mut said = checks
            .iter()
            .filter(|check| check.json["check"] == word)
            .peekable();
        assert!(said.peek().is_some(), "{word}: {doctor}");
        assert!(said.all(|check| check.json["well"] == true), "{word}: {doctor}");
    }
    let history = asked(&["fly_deploy.history"]);
    let history = &history.events_named("history").next().unwrap().json;
    let code = &back.events_named("pointer").last().unwrap().json["artifact"]["code_id"];
    assert_eq!(history["artifacts"][0]["code_id"], *code, "{history}");
    let lock = asked(&["fly_deploy.lock", "status"]);
    let lock = &lock.events_named("lock").next().unwrap().json;
    assert!(lock["holder"].is_null() && lock["fencing"] == 3, "{lock}");
}

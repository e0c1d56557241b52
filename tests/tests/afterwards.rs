//! What becomes of a hot upgrade when machines change behind it: a `fly deploy`, another machine, one that was suspended.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use flyhot_tests::{App, Flyhot, Machines, Otp, Release, Run, Scratch, workspace};
use serde_json::Value;

/// Long beside what any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

fn release(code: &str) -> Release {
    Release::shop(Otp::under_test(), code)
}

fn in_fleet(machines: &Machines, words: &[&str]) -> Flyhot {
    let flyhot = machines.flyhot(words.iter().copied());
    flyhot.args(["--inventory", "fly", "--output", "json"])
}

/// What `flyhot status` says of each machine that has a node.
fn statuses(run: &Run) -> BTreeMap<String, Value> {
    run.expect("done", 0);
    run.events_named("status")
        .map(|event| {
            let status = event.json["status"].clone();
            (status["machine"].as_str().unwrap().to_owned(), status)
        })
        .collect()
}

/// What the inventory says of a machine.
fn machine<'a>(run: &'a Run, id: &str) -> &'a Value {
    let inventory = run.events_named("inventory").last().unwrap();
    let machines = inventory.json["machines"].as_array().unwrap();
    machines.iter().find(|machine| machine["machine"] == id).unwrap()
}

/// The machines that are warned of for being suspended: the first of each warning, which has to name no other.
fn warned(run: &Run) -> Vec<&str> {
    let checks = run.events_named("check").map(|event| &event.json);
    checks
        .filter(|check| check["check"] == "resume")
        .map(|check| {
            let (node, found) = (check["node"].as_str().unwrap(), check["found"].as_str().unwrap());
            let alone = format!("{node} is suspended: when it resumes, it goes on with the code that it had");
            assert_eq!((&check["well"], found), (&false.into(), &*alone), "{run}");
            assert!(
                check["fix"].as_str().unwrap().contains("fly machine stop"),
                "{run}"
            );
            node
        })
        .collect()
}

#[test]
fn a_fly_deploy_and_machines_that_are_added_boot_what_their_image_should_run() {
    let app = App::start("afterwards", &release("v1"), &["ams", "fra"], None);
    let (machines, image) = (&app.machines, App::image());
    let [one, other] = [0, 1].map(|at| app.ids[at].clone());
    let rollout = |code: &str| {
        let release = release(code);
        let words = ["rollout", "--release", release.directory().to_str().unwrap()];
        app.inside(&words).run()
    };
    let status = || in_fleet(machines, &["status"]).run();
    let versions = |ids: &[&String]| -> Vec<String> { ids.iter().map(|id| machines.version(id)).collect() };
    rollout("v2").expect("upgraded", 0);

    // Another machine of the same image boots what the others were upgraded to.
    let [added] = machines.shops(&image, ["iad"]);
    assert_eq!(versions(&[&one, &other, &added]), ["v2"; 3]);
    let run = status();
    let told = statuses(&run);
    let committed = app.pointer()["target"]["code_id"].clone();
    for (id, status) in &told {
        assert_eq!(status["code_id"], committed, "{id}\n{run}");
        assert_eq!(status["differing"].as_array().unwrap().len(), 0, "{id}\n{run}");
        // Only who was upgraded while it ran knows of an upgrade.
        assert_eq!(status["last"].is_null(), *id == added, "{id}\n{run}");
    }
    assert_eq!(told.len(), 3, "{run}");

    // A `fly deploy`, machine by machine: each boots what its image brings, whatever the pointer says of the image before.
    let next = machines.image("01H3B", &release("v1"), App::COOKIE);
    machines.fly.replace(&one, &next);
    machines.serves(&one);
    assert_eq!(versions(&[&one, &other, &added]), ["v1", "v2", "v2"]);
    let run = status();
    let told = statuses(&run);
    assert_eq!(machine(&run, &one)["image"], next, "{run}");
    assert_eq!(machine(&run, &other)["image"], image, "{run}");
    assert!(told[&one]["last"].is_null(), "{run}");
    assert_ne!(told[&one]["code_id"], committed, "{run}");
    let differing = |id: &String| told[id]["differing"].as_array().unwrap().len();
    assert!(differing(&one) > 0, "{run}");
    assert_eq!((differing(&other), differing(&added)), (0, 0), "{run}");
    // As long as it is not done nobody is upgraded: machines of two images boot different code.
    let halfway = rollout("v2");
    halfway.expect("refused", 2);
    assert!(halfway.stdout.contains("name by --base"), "{halfway}");

    for id in [&other, &added] {
        machines.fly.replace(id, &next);
    }
    for id in [&other, &added] {
        machines.serves(id);
    }
    let [late] = machines.shops(&next, ["iad"]);
    assert_eq!(versions(&[&one, &other, &added, &late]), ["v1"; 4]);
    assert_eq!(app.pointer()["base_image"], image);

    // The next hot deploy is the first of a new image: what was before is forgotten, and the way back is the image's own code.
    rollout("v2").expect("upgraded", 0);
    assert_eq!(versions(&[&one, &other, &added, &late]), ["v2"; 4]);
    let now = app.pointer();
    assert_eq!(
        (&now["base_image"], &now["state"], &now["target"]["code_id"]),
        (&next.as_str().into(), &"committed".into(), &committed)
    );
    assert_eq!(now["previous"].as_array().unwrap().len(), 1, "{now}");
    assert_eq!(now["previous"][0]["code_id"], told[&one]["code_id"], "{now}");
    machines.fly.stop(&late);
    machines.fly.start_again(&late);
    machines.serves(&late);
    assert_eq!(machines.version(&late), "v2");
}

#[test]
fn who_is_restarted_during_a_rollout_boots_what_was_committed_and_after_it_the_new() {
    let app = App::start("restarted", &release("v1"), &["ams", "fra"], None);
    let machines = &app.machines;
    let [one, other] = [&app.ids[0], &app.ids[1]];
    let rollout = |code: &str| {
        let release = release(code);
        let words = ["rollout", "--release", release.directory().to_str().unwrap()];
        app.inside(&words)
            .args(["--sequential"])
            .env("RELEASE_COOKIE", App::COOKIE)
    };
    let restarts = || {
        machines.fly.stop(one);
        machines.fly.start_again(one);
        machines.serves(one);
        machines.version(one)
    };
    rollout("v2").run().expect("upgraded", 0);
    let committed = app.pointer()["target"]["code_id"].clone();

    // The second one is held by somebody else for as long as the test needs: the first one has the next release by then.
    machines.fly.lease_away(other, "bob@example.com", 300);
    let mut running = rollout("v3").spawn();
    running.wait_for("a lease that is waited for", LIMIT, |event| {
        event["event"] == "lease"
    });
    assert_eq!(app.versions(), ["v3", "v2"]);
    let trial = app.pointer();
    assert_eq!(trial["state"], "trial", "{trial}");
    assert_ne!(trial["target"]["code_id"], committed, "{trial}");
    // Neither what is on trial nor what its image brings.
    assert_eq!(restarts(), "v2");
    assert_eq!(app.pointer(), trial);

    machines.fly.lease_back(other);
    let run = running.wait();
    run.expect("upgraded", 0);
    assert_eq!(app.versions(), ["v3"; 2], "{run}");
    assert_eq!(machine(&run, one)["image"], App::image(), "{run}");
    let now = app.pointer();
    assert_eq!(
        (&now["state"], &now["target"]),
        (&"committed".into(), &trial["target"])
    );
    assert_eq!(restarts(), "v3");
}

#[test]
fn a_machine_that_was_suspended_goes_on_with_the_code_that_it_had() {
    let machines = Machines::start("suspended");
    let store = Scratch::new("store");
    let image = machines.image("01H3A", &release("v1"), App::COOKIE);
    let [one, asleep, third, stopped] = machines.shops(&image, ["ams", "fra", "iad", "ord"]);
    let visits = (0..3).map(|_| machines.visits(&asleep)).last().unwrap();
    machines.fly.suspend(&asleep);
    machines.fly.stop(&stopped);
    let rollout = || machines.rollout(&release("v2"), store.path());
    let run = rollout().run();
    run.expect("upgraded", 0);
    // It is warned of, once; one that is stopped boots, and is not.
    assert_eq!(warned(&run), [asleep.as_str()], "{run}");
    assert!(
        run.stdout
            .contains("Run the same command again once they are started"),
        "{run}"
    );
    let told = machine(&run, &asleep);
    assert_eq!(
        (&told["state"], &told["role"]),
        (&"suspended".into(), &"left_to_boot".into()),
        "{run}"
    );

    machines.fly.resume(&asleep);
    assert_eq!(machines.version(&asleep), "v1");
    assert_eq!(machines.visits(&asleep), visits + 1);
    let run = in_fleet(&machines, &["status"]).run();
    let told = statuses(&run);
    let differing = |id: &String| told[id]["differing"].as_array().unwrap().len();
    // It stands apart wherever it is listed, and its own disk is as old as it is.
    assert!(differing(&asleep) > 0, "{run}");
    assert_eq!((differing(&one), differing(&third)), (0, 0), "{run}");
    assert_ne!(told[&asleep]["code_id"], told[&one]["code_id"], "{run}");
    assert!(told[&asleep]["last"].is_null(), "{run}");

    // The same command takes it over with what it has in memory, and touches nobody else; suspended from then on, it goes on with that.
    machines.fly.lease_away(&third, "bob@example.com", 300);
    let mut running = rollout()
        .args(["--sequential"])
        .env("RELEASE_COOKIE", App::COOKIE)
        .spawn();
    running.wait_for("a lease that is waited for", LIMIT, |event| {
        event["event"] == "lease"
    });
    machines.fly.suspend(&asleep);
    machines.fly.lease_back(&third);
    let run = running.wait();
    run.expect("upgraded", 0);
    assert!(warned(&run).is_empty(), "{run}");
    assert_eq!(machine(&run, &asleep)["state"], "suspended", "{run}");
    machines.fly.resume(&asleep);
    let nodes = run.outcome()["nodes"].as_array().unwrap();
    for (id, outcome) in [
        (&one, "nothing_to_do"),
        (&asleep, "upgraded"),
        (&third, "nothing_to_do"),
    ] {
        let node = nodes.iter().find(|node| node["machine"] == **id).unwrap();
        assert_eq!(node["outcome"], outcome, "{id}\n{run}");
        assert_eq!(machines.version(id), "v2", "{run}");
    }
    assert_eq!(machines.visits(&asleep), visits + 2);
    let told = statuses(&in_fleet(&machines, &["status"]).run());
    assert!(
        told.values()
            .all(|status| status["code_id"] == told[&one]["code_id"])
    );

    // Where the fleet goes back the same command would go further back: that is not advised. What is, has it boot.
    machines.fly.suspend(&asleep);
    let back = in_fleet(
        &machines,
        &["rollback", "--store", store.path().to_str().unwrap()],
    )
    .run();
    back.expect("upgraded", 0);
    assert_eq!(warned(&back), [asleep.as_str()], "{back}");
    assert!(!back.stdout.contains("the same command again once"), "{back}");
    machines.fly.stop(&asleep);
    machines.fly.start_again(&asleep);
    machines.serves(&asleep);
    assert_eq!(machines.version(&asleep), "v1");
}

/// What docs/fly.md says of all this names the test that holds it to that.
#[test]
fn each_row_of_the_page_names_a_test() {
    let page = fs::read_to_string(workspace().join("docs/fly.md")).unwrap();
    let (_, section) = page.split_once("\n## After a hot upgrade\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut later = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [what, runs, status, next, test] = cells[..] else {
            panic!("{row}")
        };
        assert!(![runs, status, next].contains(&""), "{row}");
        let (file, name) = test.trim_matches('`').split_once("::").unwrap();
        let text = fs::read_to_string(workspace().join(format!("tests/tests/{file}.rs"))).unwrap();
        assert!(text.contains(&format!("fn {name}()")), "{row}");
        later.push(what);
    }
    for what in ["restart", "fly deploy", "autoscale", "suspend"] {
        assert!(later.iter().any(|row| row.contains(what)), "{what}: {later:?}");
    }
}

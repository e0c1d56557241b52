//! Machines of an app, each with a network of its own: one orchestrator for six of them, beside one upgrade after the other; and a
//! look at twenty.

use std::path::Path;
use std::time::{Duration, Instant};

use flyhot_tests::{Flyhot, Machines, Otp, Release, Scratch, ShopBuild, rounds, watched, workspace};
use serde_json::{Value, json};

use super::{median, pair, spread, told};

const MACHINES: usize = 6;

/// Machines that are looked at.
const LOOKED_AT: usize = 20;

const COOKIE: &str = "cookie_of_every_build";

/// Modules that an upgrade changes.
const MODULES: u32 = 10;

/// From the start of an orchestrator to the commit, with nodes that are watched as long as nothing else is said, and for a moment;
/// and the six upgrades by name, without a store, that somebody would do instead, who watches nothing.
pub(super) fn machines() -> Value {
    Flyhot::binary();
    let (first, one) = pair(MODULES);
    let other = ShopBuild::new(Otp::v25(), "v1").stamp("c", MODULES - 1).build();
    let machines = Machines::start("bench");
    let image = machines.image("01H3A", &first, COOKIE);
    let images =
        [("01H3B", &one), ("01H3C", &other)].map(|(tag, release)| machines.unpushed(tag, release, COOKIE));
    machines.shops(&image, ["ams"; MACHINES]);
    let here = Scratch::new("orchestrator");
    let moment = workspace().join("tests/fixtures/watch/quick.toml");
    let watched = ["--policy", text(&moment)];
    let (mut whole, mut briefly, mut named) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds(3, 9) {
        for (image, more, times) in [
            (&images[0], &[][..], &mut whole),
            (&images[1], &watched[..], &mut briefly),
        ] {
            let (took, names) = orchestrated(&machines, image, here.path(), more);
            times.push(us(took));
            named.push(us(upgraded(&machines, &names, &first)));
        }
    }
    let ratio = |times: &[u64]| median(times) / median(&named);
    told(json!({
        "machines": MACHINES, "modules": MODULES, "orchestrated_us": spread(&whole),
        "orchestrated_watched_briefly_us": spread(&briefly), "one_after_the_other_us": spread(&named),
        "ratio": ratio(&whole), "ratio_watched_briefly": ratio(&briefly),
    }))
}

/// A look at twenty machines of an app, beside one at the same nodes by name: what the inventory and their cookies take.
pub(super) fn look() -> Value {
    let release = Release::shop(Otp::v25(), "v1");
    let machines = Machines::start("look");
    let image = machines.image("01H3A", &release, COOKIE);
    machines.shops(&image, ["ams"; LOOKED_AT]);
    let (mut found, mut named, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds(7, 21) {
        let running = machines
            .flyhot(["status", "--inventory", "fly", "--output", "json"])
            .spawn();
        let used = watched(running.pid());
        let run = running.wait();
        memory.push(used().kib);
        run.expect("done", 0);
        found.push(us(run.took));
        let names: Vec<&str> = run
            .events_named("status")
            .filter_map(|event| event.json["node"].as_str())
            .collect();
        assert_eq!(names.len(), LOOKED_AT, "{run}");
        let by_name = machines
            .flyhot(["status", "--output", "json"])
            .args(names.iter().flat_map(|name| ["--node", name]))
            .env("RELEASE_COOKIE", COOKIE)
            .run();
        by_name.expect("done", 0);
        named.push(us(by_name.took));
    }
    told(json!({
        "machines": LOOKED_AT, "by_inventory_us": spread(&found), "by_name_us": spread(&named),
        "peak_memory_kib": spread(&memory), "ratio": median(&found) / median(&named),
    }))
}

/// Up to where the store says that the release is what machines run; and the names of the nodes.
fn orchestrated(machines: &Machines, image: &Path, here: &Path, more: &[&str]) -> (Duration, Vec<String>) {
    let run = machines
        .flyhot(["orchestrate", "--inventory", "fly", "--output", "json"])
        .args(["--store", text(&here.join("store"))])
        .args(more.iter().copied())
        .env("FLYHOT_ORCHESTRATE", text(&here.join("said")))
        .within(image)
        .run();
    run.expect("upgraded", 0);
    let mut pointer = run.events_named("pointer");
    let committed = pointer.find(|event| event.json["state"] == "committed");
    let nodes = run.outcome()["nodes"].as_array().expect("an array").iter();
    let names: Vec<String> = nodes
        .filter_map(|node| Some(node["node"].as_str()?.to_owned()))
        .collect();
    assert_eq!(names.len(), MACHINES, "{run}");
    (committed.expect("it was committed").at - run.begun, names)
}

fn upgraded(machines: &Machines, names: &[String], release: &Release) -> Duration {
    let begun = Instant::now();
    for name in names {
        let run = machines
            .flyhot(["upgrade", "--node", name, "--release", text(release.directory())])
            .args(["--output", "json"])
            .env("RELEASE_COOKIE", COOKIE)
            .run();
        run.expect("upgraded", 0);
    }
    begun.elapsed()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("our own")
}

fn us(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

//! Nodes that say what a real one said are taken over as that one is, and notice when they are spoken to otherwise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use flyhot_tests::{Crowd, Flyhot, Otp, Release, Run, Scratch, Shop};
use serde_json::Value;

const NONE: [&str; 0] = [];

const MEMBERS: usize = 20;

fn rollout(crowd: &Crowd, names: &[&str], release: &Release, store: &Scratch, more: &[&str]) -> Run {
    let release = release.directory().to_str().expect("our own");
    let store = store.path().to_str().expect("our own");
    let flyhot = Flyhot::new(["rollout", "--node"])
        .args(names.iter().copied())
        .args(["--release", release, "--app", "shop", "--store", store])
        .args(["--output", "json", "--max-concurrency", "5"])
        .args(more.iter().copied());
    crowd.found_by(flyhot).run()
}

/// What became of a node, without its name.
fn nameless(node: &Value) -> Value {
    let name = node["node"].as_str().expect("a text");
    serde_json::from_str(&node.to_string().replace(name, "NODE")).expect("JSON")
}

#[test]
fn a_crowd_is_taken_over_as_the_real_node_that_it_learned_from() {
    let otp = Otp::under_test();
    let [v1, v2, v3] = ["v1", "v2", "v3"].map(|code| Release::shop(otp, code));
    let shop = Shop::of(&v1).carts(20).pool(5).start();
    let crowd = Crowd::of(&shop, MEMBERS);
    let store = Scratch::new("store");

    let all: Vec<&str> = std::iter::once(shop.name()).chain(crowd.names()).collect();
    let run = rollout(&crowd, &all, &v2, &store, &["--canary"]);
    run.expect("upgraded", 0);
    assert_eq!(crowd.wrongs(), NONE, "{run}");
    let real = nameless(run.node(0));
    assert!(
        real["window_us"].as_u64().is_some_and(|window| window > 0),
        "{run}"
    );
    for at in 1..=MEMBERS {
        assert_eq!(nameless(run.node(at)), real, "{run}");
    }
    let waves = run
        .events_named("wave")
        .map(|wave| wave.json["nodes"].as_array().map_or(0, Vec::len));
    assert_eq!(waves.collect::<Vec<_>>(), [1, 5, 5, 5, 5], "{run}");
    let most = crowd.most_at_once();
    assert!((2..=5).contains(&most), "{most} at once\n{run}");

    // Another release is another conversation: nobody here had it.
    let run = rollout(&crowd, &all[1..], &v3, &store, &["--no-rollback"]);
    assert_ne!(run.exit_code, Some(0), "{run}");
    let wrongs = crowd.wrongs();
    assert!(
        !wrongs.is_empty() && wrongs.iter().all(|wrong| wrong.contains("the real node was")),
        "{wrongs:?}\n{run}"
    );
    assert!(run.stdout.contains("the real node was"), "{run}");
}

//! A hundred nodes, which say what a real one said: each is accounted for, and the driver keeps none of them at hand for longer than it
//! works on it.

use flyhot_tests::{Crowd, Otp, Release, Scratch, Shop, watched};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// Beside the real one.
const MEMBERS: usize = 100;

const AT_ONCE: usize = 20;

/// What a driver without optimization takes for this fleet is 43 MiB, of which 40 are there for a single node.
const PEAK_KIB: u64 = 60 * 1024;

/// What becomes of a thousand nodes that way is far from what a process may have open: nodes at once, each with its epmd before it, and
/// as many files beside them.
const DESCRIPTORS: usize = 3 * AT_ONCE;

/// What became of a node, without its name.
fn nameless(node: &Value) -> Value {
    let name = node["node"].as_str().expect("a text");
    serde_json::from_str(&node.to_string().replace(name, "NODE")).expect("JSON")
}

#[test]
fn a_hundred_nodes_are_rolled_out_to_in_waves_and_none_is_kept_open_behind_its_own() {
    let otp = Otp::under_test();
    let [v1, v2] = ["v1", "v2"].map(|code| Release::shop(otp, code));
    let shop = Shop::of(&v1).carts(20).pool(5).start();
    let crowd = Crowd::of(&shop, MEMBERS);
    let store = Scratch::new("store");

    let running = crowd.rollout(&v2, store.path(), AT_ONCE).spawn();
    let used = watched(running.pid());
    let run = running.wait();
    run.expect("upgraded", 0);
    assert_eq!(crowd.wrongs(), NONE, "{run}");
    let nodes = run.outcome()["nodes"].as_array().expect("an array");
    assert_eq!(nodes.len(), MEMBERS + 1, "{run}");
    let real = nameless(&nodes[0]);
    assert!(
        real["window_us"].as_u64().is_some_and(|window| window > 0),
        "{run}"
    );
    for node in nodes {
        assert_eq!(
            (&node["outcome"], nameless(node)),
            (&"upgraded".into(), real.clone())
        );
    }
    let waves = run
        .events_named("wave")
        .map(|wave| wave.json["nodes"].as_array().map_or(0, Vec::len));
    assert_eq!(waves.collect::<Vec<_>>(), [1, 20, 20, 20, 20, 20], "{run}");

    let most = crowd.most_at_once();
    assert!((2..=AT_ONCE).contains(&most), "{most} at once");
    let used = used();
    assert!(used.kib <= PEAK_KIB, "{used:?}");
    assert!(used.descriptors <= DESCRIPTORS, "{used:?}");
}

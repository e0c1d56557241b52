//! A fleet that is taken over in waves: all of it runs the release in the end or none, whichever node fails, and whoever stays behind
//! is named.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use flyhot_tests::{
    Cart, Fleet, Flyhot, Probe, Release, Run, Scratch, Shop, pairs, quick, rounds, wait_until, with_pool,
};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// Long beside what any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Six nodes with one cookie.
fn six(release: &Release) -> Vec<Shop> {
    some(release, 6)
}

fn some(release: &Release, count: usize) -> Vec<Shop> {
    let shops: Vec<Shop> = (0..count)
        .map(|_| Shop::of(release).carts(20).pool(5).start())
        .collect();
    for shop in &shops[1..] {
        shop.shares_cookie_of(&shops[0]);
    }
    shops
}

/// Only code_changes of this word succeed there.
fn takes_only(shop: &Shop, word: &str) {
    shop.probe()
        .eval(&format!("application:set_env(shop, takes_only, {word})."));
}

fn takes_all(shop: &Shop) {
    shop.probe().eval("application:unset_env(shop, takes_only).");
}

/// What a node runs, and what its processes keep.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    carts: Vec<Cart>,
    pool: Vec<String>,
    pids: Vec<String>,
}

fn look(shop: &Shop) -> Seen {
    assert_eq!(shop.probe().suspended(), NONE);
    Seen {
        carts: shop.carts(),
        pool: shop.pool(),
        pids: shop.pool_pids(),
    }
}

fn looks(shops: &[Shop]) -> Vec<Seen> {
    shops.iter().map(look).collect()
}

/// The word of each node's pool.
fn words(shops: &[Shop]) -> Vec<String> {
    let word = |shop: &Shop| {
        let words: BTreeSet<_> = shop
            .pool()
            .iter()
            .map(|state| {
                state
                    .split(',')
                    .next()
                    .unwrap()
                    .trim_start_matches('{')
                    .to_owned()
            })
            .collect();
        words.into_iter().collect::<Vec<_>>().join(" and ")
    };
    shops.iter().map(word).collect()
}

fn clean(shops: &[Shop]) {
    for shop in shops {
        assert_eq!(shop.probe().suspended(), NONE);
        assert_eq!(shop.probe().traces(), NONE);
    }
}

fn outcomes(run: &Run) -> Vec<&str> {
    let nodes = run.outcome()["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["outcome"].as_str().unwrap()).collect()
}

/// How many nodes each wave had, with its way.
fn waves(run: &Run) -> Vec<(&str, usize)> {
    run.events_named("wave")
        .map(|event| {
            let nodes = event.json["nodes"].as_array().unwrap().len();
            (event.json["way"].as_str().unwrap(), nodes)
        })
        .collect()
}

/// The most nodes that were worked on at one time, by what was said of them.
fn at_once(run: &Run) -> usize {
    let (mut now, mut most) = (BTreeSet::new(), 0);
    for event in &run.events {
        let Some(node) = event.json["node"].as_str() else {
            continue;
        };
        let is = |name: &str, step: &str| event.json["event"] == name && event.json["step"] == step;
        if is("step_started", "connect") {
            now.insert(node);
        } else if is("step_done", "cleanup") {
            now.remove(node);
        }
        most = most.max(now.len());
    }
    most
}

fn is_done(event: &Value, shop: &Shop) -> bool {
    event["event"] == "step_done" && event["step"] == "cleanup" && event["node"] == shop.name()
}

fn is_begun(event: &Value, shop: &Shop) -> bool {
    event["event"] == "step_started" && event["step"] == "connect" && event["node"] == shop.name()
}

fn fleet<'a>(scratch: &'a Scratch, shops: &'a [Shop]) -> Fleet<'a> {
    Fleet {
        store: scratch.path(),
        nodes: shops.iter().map(|shop| &**shop).collect(),
    }
}

#[test]
fn a_fleet_ends_on_one_code_whichever_node_fails() {
    let (v1, v2) = (with_pool("v1", "first"), with_pool("v2", "second"));
    let scratch = Scratch::new("waves");
    let shops = six(&v1);
    let fleet = fleet(&scratch, &shops);
    let (old, new) = (v1.version(), v2.version());
    let before = looks(&shops);
    let out = |more: &[&str]| {
        fleet
            .rollout(&v2)
            // The one that fails goes back by itself, however busy the machine is.
            .args([
                "--no-rehearsal",
                "--max-concurrency",
                "2",
                "--revert-budget",
                "60s",
            ])
            .args(more.iter().copied())
    };

    // The fourth fails in its window: those before it go back, those behind it are never begun.
    takes_only(&shops[3], "first");
    let failed = out(&[]).run();
    failed.expect("reverted", 11);
    assert_eq!(
        outcomes(&failed),
        [
            "taken_back",
            "taken_back",
            "taken_back",
            "reverted",
            "not_begun",
            "not_begun"
        ],
        "{failed}"
    );
    assert_eq!(looks(&shops), before, "{failed}");
    assert_eq!(
        waves(&failed),
        [("forth", 2), ("forth", 2), ("back", 3)],
        "{failed}"
    );
    assert_eq!(at_once(&failed), 2, "{failed}");
    assert_eq!(failed.pointer(), ["trial", "abandoned"], "{failed}");
    assert_eq!(fleet.history(), pairs(&[(&old, "committed")]));
    let taken_back = failed.node(0);
    assert_eq!(
        taken_back["code_id"]["before"], taken_back["code_id"]["after"],
        "{failed}"
    );
    clean(&shops);

    // Interrupted on the way back, some of them run it still: what is to be done next is no step forth. One answers nothing meanwhile.
    let mut begun = fleet
        .rollout(&v2)
        .args(["--no-rehearsal", "--sequential"])
        .spawn();
    begun.wait_for("the fourth is begun", LIMIT, |event| is_begun(event, &shops[3]));
    shops[1].pause();
    begun.wait_for("the way back", LIMIT, |event| {
        event["event"] == "wave" && event["way"] == "back"
    });
    begun.interrupt();
    let cut = begun.wait();
    shops[1].wake();
    cut.expect("mixed", 12);
    assert!(
        cut.stdout.contains("`flyhot rollback` takes the others back"),
        "{cut}"
    );
    assert_eq!(cut.pointer(), ["trial", "trial"], "{cut}");
    fleet.rollback().run().expect("upgraded", 0);
    assert_eq!(looks(&shops), before);
    clean(&shops);

    // The first alone: nobody else is touched.
    takes_all(&shops[3]);
    takes_only(&shops[0], "first");
    let canary = out(&["--canary"]).run();
    canary.expect("reverted", 11);
    assert_eq!(outcomes(&canary)[1..], ["not_begun"; 5], "{canary}");
    for shop in &shops[1..] {
        assert!(
            !canary.events.iter().any(|event| is_begun(&event.json, shop)),
            "{canary}"
        );
    }
    assert_eq!(looks(&shops), before);
    takes_all(&shops[0]);

    // Left where they are, they are named, and the same command finishes it.
    takes_only(&shops[3], "first");
    let mixed = out(&["--no-rollback"]).run();
    mixed.expect("mixed", 12);
    assert_eq!(
        outcomes(&mixed),
        [
            "upgraded",
            "upgraded",
            "upgraded",
            "reverted",
            "not_begun",
            "not_begun"
        ],
        "{mixed}"
    );
    assert_eq!(
        words(&shops),
        ["second", "second", "second", "first", "first", "first"]
    );
    assert_eq!(mixed.pointer(), ["trial", "trial"], "{mixed}");
    takes_all(&shops[3]);
    let finished = out(&["--canary", "--bake", "2s"]).run();
    finished.expect("upgraded", 0);
    assert_eq!(words(&shops), ["second"; 6]);
    // Nothing is learned from those that run it already: the canary is the first that does not.
    assert_eq!(
        waves(&finished),
        [
            ("forth", 1),
            ("forth", 1),
            ("forth", 1),
            ("forth", 1),
            ("forth", 2)
        ],
        "{finished}"
    );
    let baked = finished.events_named("bake").next().expect("the canary baked");
    assert_eq!(
        (&baked.json["bake_us"], &baked.json["node"]),
        (&2_000_000.into(), &shops[3].name().into()),
        "{finished}"
    );
    let second = finished
        .events
        .iter()
        .find(|event| is_begun(&event.json, &shops[4]))
        .unwrap();
    // Half of it: what is read here may have been written a while ago.
    assert!(second.at - baked.at >= Duration::from_secs(1), "{finished}");
    assert_eq!(finished.pointer(), ["trial", "committed"], "{finished}");
    assert_eq!(fleet.history(), pairs(&[(&new, "committed"), (&old, "previous")]));

    // Back, all of them at once, named by a file; and it is the command before that is asked for.
    let names: String = fleet
        .nodes
        .iter()
        .map(|node| format!("{}\n", node.name()))
        .collect();
    let file = scratch.path().join("nodes");
    fs::write(&file, format!("# all six\n{names}")).unwrap();
    let [file, store] = [&file, fleet.store].map(|path| path.to_str().unwrap());
    let back = Flyhot::new(["rollback", "--inventory", file, "--app", "shop", "--store", store])
        .args(["--policy", quick().to_str().unwrap(), "--output", "json"])
        .of(fleet.nodes[0])
        .run();
    back.expect("upgraded", 0);
    assert_eq!(waves(&back), [("forth", 6)], "{back}");
    assert_eq!(looks(&shops), before, "{back}");
    assert!(at_once(&back) > 1, "{back}");
    clean(&shops);

    // The same file for two verbs that touch nothing.
    let release = v2.directory().to_str().unwrap();
    for (verb, more, event, outcome) in [
        ("status", &[][..], "status", "done"),
        ("plan", &["--release", release], "plan", "planned"),
    ] {
        let all = Flyhot::new([verb, "--inventory", file, "--output", "json"])
            .args(more.iter().copied())
            .of(fleet.nodes[0])
            .run();
        all.expect(outcome, 0);
        assert_eq!(all.events_named(event).count(), 6, "{all}");
    }

    // A way back that fails is named, and the fleet is not said to be on one code.
    takes_only(&shops[1], "second");
    takes_only(&shops[3], "first");
    let stuck = out(&[]).run();
    stuck.expect("mixed", 12);
    assert_eq!(
        outcomes(&stuck),
        [
            "taken_back",
            "upgraded",
            "taken_back",
            "reverted",
            "not_begun",
            "not_begun"
        ],
        "{stuck}"
    );
    let reasons = stuck.node(1)["reasons"].as_array().unwrap();
    assert!(
        reasons.iter().any(|reason| reason["code"] == "not_taken_back"),
        "{stuck}"
    );
    assert_eq!(
        words(&shops),
        ["first", "second", "first", "first", "first", "first"]
    );
    assert_eq!(stuck.pointer(), ["trial", "trial"], "{stuck}");
    takes_all(&shops[1]);
    fleet.rollback().run().expect("upgraded", 0);
    assert_eq!(looks(&shops), before);

    // What they would go back to goes meanwhile: they stay, and are named.
    let from = fleet.records().last().unwrap()["to"]["digest"].clone();
    let name = format!("{}.tar.gz", from.as_str().unwrap());
    let artifact = fleet
        .artifacts()
        .into_iter()
        .find(|path| path.ends_with(&name))
        .unwrap();
    let aside = scratch.path().join("aside");
    // The first wave does not end before that.
    shops[1].pause();
    let mut begun = out(&[]).spawn();
    begun.wait_for("the first wave", LIMIT, |event| event["event"] == "wave");
    fs::rename(&artifact, &aside).unwrap();
    shops[1].wake();
    let without = begun.wait();
    without.expect("mixed", 12);
    assert!(without.stdout.contains("the store has no artifact"), "{without}");
    assert_eq!(
        words(&shops),
        ["second", "second", "second", "first", "first", "first"],
        "{without}"
    );
    for at in 0..3 {
        let reasons = without.node(at)["reasons"].as_array().unwrap();
        assert!(
            reasons.iter().any(|reason| reason["code"] == "not_taken_back"),
            "{without}"
        );
    }
    fs::rename(&aside, &artifact).unwrap();
    takes_all(&shops[3]);
    fleet.rollback().run().expect("upgraded", 0);
    assert_eq!(looks(&shops), before);
    assert_eq!(fleet.history()[0], (old, "committed".to_owned()));
    clean(&shops);
}

#[test]
fn a_driver_that_dies_or_loses_its_lock_in_a_wave_leaves_what_the_next_one_finishes_or_takes_back() {
    let (v1, v2) = (with_pool("v1", "first"), with_pool("v2", "second"));
    let scratch = Scratch::new("waves");
    let shops = six(&v1);
    let fleet = fleet(&scratch, &shops);
    let (old, new) = (v1.version(), v2.version());
    let before = looks(&shops);
    let out = || {
        fleet
            .rollout(&v2)
            .args(["--no-rehearsal", "--max-concurrency", "3"])
    };

    // Built before anybody stands still: that may take longer than its probe bears.
    Flyhot::binary();

    // Killed while the fifth keeps the second wave waiting.
    shops[4].pause();
    let mut running = out().spawn();
    for at in [3, 5] {
        running.wait_for("the others of its wave are done", LIMIT, |event| {
            is_done(event, &shops[at])
        });
    }
    let killed = running.kill();
    assert_eq!(killed.exit_code, None, "{killed}");
    shops[4].wake();
    let now = ["second", "second", "second", "second", "first", "second"];
    assert_eq!(words(&shops), now);
    assert_eq!(fleet.history(), pairs(&[(&new, "trial"), (&old, "committed")]));
    // The next one takes all of them back where one fails: those that it did not come to, too.
    takes_only(&shops[4], "first");
    let back = fleet
        .rollout(&v2)
        .args(["--no-rehearsal", "--force", "--sequential"])
        .run();
    back.expect("reverted", 11);
    assert_eq!(
        outcomes(&back),
        [
            "taken_back",
            "taken_back",
            "taken_back",
            "taken_back",
            "reverted",
            "taken_back"
        ],
        "{back}"
    );
    assert_eq!(looks(&shops), before, "{back}");
    assert_eq!(back.pointer(), ["trial", "abandoned"], "{back}");
    assert_eq!(fleet.history(), pairs(&[(&old, "committed")]));
    takes_all(&shops[4]);

    // The lock is lost while the second keeps the first wave waiting: nobody is begun any more, in no direction.
    shops[1].pause();
    let mut running = out().spawn();
    for at in [0, 2] {
        running.wait_for("the others of its wave are done", LIMIT, |event| {
            is_done(event, &shops[at])
        });
    }
    let store = scratch.path().to_str().unwrap();
    let words_of = [
        "lock", "release", "--force", "--app", "shop", "--store", store, "--output", "json",
    ];
    Flyhot::new(words_of).run().expect("done", 0);
    shops[1].wake();
    let lost = running.wait();
    lost.expect("mixed", 12);
    assert_eq!(
        outcomes(&lost),
        [
            "upgraded",
            "refused",
            "upgraded",
            "not_begun",
            "not_begun",
            "not_begun"
        ],
        "{lost}"
    );
    assert_eq!(waves(&lost), [("forth", 3)], "{lost}");
    assert_eq!(
        words(&shops),
        ["second", "first", "second", "first", "first", "first"]
    );
    let finished = out().run();
    finished.expect("upgraded", 0);
    assert_eq!(words(&shops), ["second"; 6]);
    assert_eq!(finished.pointer(), ["trial", "committed"], "{finished}");

    // A signal while the second keeps the first wave waiting: those that are done stay so, and nobody else is begun.
    shops[1].pause();
    let mut running = fleet.rollback().args(["--max-concurrency", "3"]).spawn();
    for at in [0, 2] {
        running.wait_for("the others of its wave are done", LIMIT, |event| {
            is_done(event, &shops[at])
        });
    }
    running.interrupt();
    let interrupted = running.wait();
    shops[1].wake();
    interrupted.expect("mixed", 12);
    assert_eq!(
        outcomes(&interrupted),
        [
            "upgraded",
            "failed",
            "upgraded",
            "not_begun",
            "not_begun",
            "not_begun"
        ],
        "{interrupted}"
    );
    // Too long is the same to the node, and the others of its wave come to their end: far before that, on a machine of two cores
    // and six nodes at once.
    shops[1].hold();
    let late = fleet
        .rollback()
        .args(["--timeout", "20s", "--quiesce-timeout", "60s"])
        .run();
    late.expect("mixed", 12);
    assert!(late.stdout.contains("not done within --timeout 20 s"), "{late}");
    assert_eq!(outcomes(&late)[1], "not_quiesced", "{late}");
    wait_until("the agent is gone", Duration::from_secs(60), || {
        shops[1].probe().traces() == NONE
    });
    shops[1].let_go();
    // As many at once as `config :fly_deploy` says.
    let said = r#"{"v": 1, "config": {"max_concurrency": 2}}"#;
    let back = fleet.rollback().env("FLYHOT_MIX", said).run();
    back.expect("upgraded", 0);
    assert!(waves(&back).iter().all(|(_, nodes)| *nodes <= 2), "{back}");
    assert_eq!(looks(&shops), before);
    clean(&shops);
}

#[test]
fn who_is_started_anew_or_gone_after_it_was_taken_over_is_no_success() {
    let (v1, v2) = (with_pool("v1", "first"), with_pool("v2", "second"));
    let scratch = Scratch::new("waves");
    let mut shops = some(&v1, 2);
    // Of this one no loaded module tells whether it is run: none of before is another one.
    let more = v1
        .variant()
        .erlang("shop_extra", "-module(shop_extra).\n")
        .build();
    // The second is watched twice: long beside a boot, on a machine that soaks too.
    let policy = scratch.path().join("watch.toml");
    fs::write(&policy, format!("[gate]\nwatch = \"{}s\"\n", rounds(6, 30))).unwrap();
    let out = |shops: &[Shop], release: &Release| {
        fleet(&scratch, shops)
            .command(&["rollout", "--release", release.directory().to_str().unwrap()])
            .args(["--no-rehearsal", "--no-persist", "--sequential"])
            .args(["--policy", policy.to_str().unwrap()])
            .spawn()
    };

    // The first boots what it was started with: it is taken over once more.
    let mut running = out(&shops, &more);
    running.wait_for("the first is done", LIMIT, |event| is_done(event, &shops[0]));
    shops[0].probe().eval("persistent_term:put(before, here).");
    shops[0].script("restart");
    // Its probe's connection ends with what was there.
    wait_until("it has started anew", LIMIT, || {
        let probe = shops[0].another_probe();
        probe
            .try_eval("{persistent_term:get(before, gone), init:get_status()}.")
            .as_deref()
            == Ok("{gone,{started,started}}")
    });
    let loaded = |probe: &Probe| probe.eval("code:is_loaded(shop_extra) =/= false.");
    let there = shops[0].another_probe();
    let anew = running.wait();
    anew.expect("upgraded", 0);
    assert_eq!([&there, shops[1].probe()].map(loaded), ["true"; 2], "{anew}");
    assert_eq!(waves(&anew), [("forth", 1); 3], "{anew}");
    let back = fleet(&scratch, &shops).rollback().run();
    // What no application lists stays loaded.
    back.expect("nothing_to_do", 0);
    let before = look(&shops[1]);

    // It dies: the other one goes back, and nobody is said to run what is not known.
    let mut running = out(&shops, &v2);
    running.wait_for("the first is done", LIMIT, |event| is_done(event, &shops[0]));
    shops[0].kill();
    let gone = running.wait();
    gone.expect("mixed", 12);
    assert_eq!(outcomes(&gone), ["failed", "taken_back"], "{gone}");
    assert_eq!(gone.pointer(), ["trial", "trial"], "{gone}");
    assert_eq!(look(&shops[1]), before, "{gone}");
}

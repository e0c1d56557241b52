//! What a node boots after an upgrade, however it is started, and wherever in the writing the machine stopped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use flyhot_tests::{Fault, Flyhot, Otp, Probe, Release, Shop, ShopBuild, rounds, wait_until};

/// A restart in place ends a node and boots it.
const RESTART: Duration = Duration::from_secs(90);

fn small(release: &Release) -> Shop {
    Shop::of(release).carts(20).pool(10).start()
}

fn releases() -> (Release, Release) {
    (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    )
}

/// The modules of the shop that a node has loaded, and the version it takes itself for.
#[derive(Debug, PartialEq)]
struct Runs {
    modules: BTreeMap<String, String>,
    version: String,
}

fn runs(probe: &Probe) -> Runs {
    let ours =
        |module: &str| module.contains("Shop") || module.contains("shop") || module.contains("pool_worker");
    Runs {
        modules: probe
            .md5s()
            .into_iter()
            .filter(|(module, _)| ours(module))
            .collect(),
        version: probe.eval("{ok, Vsn} = application:get_key(shop, vsn), Vsn."),
    }
}

/// What a fresh node of a release runs.
fn fresh(release: &Release) -> Runs {
    runs(small(release).probe())
}

#[test]
fn a_restart_boots_what_the_upgrade_left_and_nothing_else() {
    let (v1, v2) = releases();
    let (old, new) = (fresh(&v1), fresh(&v2));
    assert_ne!(old, new);
    let shop = small(&v1);
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    assert!(!run.reason_codes().contains(&"not_persisted"), "{run}");

    // Another start, of an embedded node and of one that loads code when it is called.
    let disk = shop.disk();
    assert_eq!(disk.version(), v2.version());
    assert_eq!(fresh(&disk), new, "{run}");
    let interactive = Shop::of(&disk)
        .carts(20)
        .pool(10)
        .node(|node| node.env("RELEASE_MODE", "interactive"))
        .start();
    interactive
        .probe()
        .eval("{ok, Ms} = application:get_key(shop, modules), [{module, M} = code:ensure_loaded(M) || M <- Ms], ok.");
    assert_eq!(runs(interactive.probe()), new, "{run}");

    // In place.
    shop.probe()
        .eval("put(x, x), persistent_term:put(before, here), init:restart(), ok.");
    // Its probe's connection ends with what was there.
    wait_until("the node has restarted", RESTART, || {
        let probe = shop.another_probe();
        probe
            .try_eval("{persistent_term:get(before, gone), init:get_status()}.")
            .as_deref()
            == Ok("{gone,{started,started}}")
    });
    assert_eq!(runs(&shop.another_probe()), new, "{run}");

    // And back: the release before, by the same way.
    let back = small(&disk);
    Flyhot::upgrade(&back, &v1)
        .args(["--down"])
        .run()
        .expect("upgraded", 0);
    assert_eq!(fresh(&back.disk()), old);
}

/// The VM is killed between any two changes of the disk: the next start is wholly old or wholly new.
#[test]
fn wherever_it_was_killed_the_next_start_is_whole() {
    let (v1, v2) = releases();
    let (old, new) = (fresh(&v1), fresh(&v2));
    let mut seen = (0, 0);
    // Of some hundred places.
    for nth in (1..).step_by(rounds(13, 3)) {
        let shop = small(&v1);
        shop.probe()
            .plan_faults(&[Fault::new("worker", "disk", nth, "halt")]);
        let disk = shop.disk();
        let run = Flyhot::upgrade(&shop, &v2).faulty().run();
        // Of what is kept last, the outcome, nobody is told.
        let ended = run.reason_codes().contains(&"not_persisted");
        let booted = fresh(&disk);
        if !ended {
            assert_eq!(booted, new, "{run}");
            break;
        }
        // What a kill left is no harm to the run after it, nor to what lay there first.
        let again = small(&disk);
        Flyhot::upgrade(&again, &v2).run();
        assert_eq!(fresh(&again.disk()), new, "the run after {nth}");
        let beams = again
            .probe()
            .beam_md5s(&again.directory().join("lib/shop-1.0.0/ebin"));
        assert_eq!(beams, again.probe().beam_md5s(&v1.ebin("shop")), "{nth}");
        match () {
            () if booted == old => seen.0 += 1,
            () if booted == new => seen.1 += 1,
            () => panic!("after {nth} changes of the disk a start is neither old nor new: {booted:?}: {run}"),
        }
    }
    assert!(seen.0 > 0 && seen.1 > 0, "{seen:?}");
}

#[test]
fn the_base_is_put_back_for_the_next_start_while_what_runs_goes_on() {
    let (v1, v2) = releases();
    let (old, new) = (fresh(&v1), fresh(&v2));
    let shop = small(&v1);
    let restore = |node: &Shop| {
        let run = Flyhot::ask("restore-base", node).run();
        run.expect("done", 0);
        run.events_named("restore_base").next().unwrap().json["files"].clone()
    };
    assert_eq!(restore(&shop), 0);
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    // One that was started since from the directory of the new version.
    let again = small(&shop.disk());
    for node in [&shop, &again] {
        assert_ne!(restore(node), 0);
        let running = runs(node.probe());
        assert_eq!(running.modules, new.modules);
        assert_eq!(fresh(&node.disk()), old);
        assert_eq!(restore(node), 0);
        assert_eq!(node.probe().traces(), [] as [&str; 0]);
    }
    // And the next upgrade keeps the base anew.
    Flyhot::upgrade(&again, &v2).run().expect("nothing_to_do", 0);
    assert_eq!(fresh(&again.disk()), new);

    // However many upgrades and starts lie between.
    let third = small(&again.disk());
    Flyhot::upgrade(&third, &v1)
        .args(["--down"])
        .run()
        .expect("upgraded", 0);
    assert_eq!(fresh(&third.disk()), old);
    assert_ne!(restore(&third), 0);
    assert_eq!(fresh(&third.disk()), old);
    let fourth = small(&third.disk());
    Flyhot::upgrade(&fourth, &v2).run().expect("upgraded", 0);
    assert_eq!(fresh(&fourth.disk()), new);
}

/// The code server takes a directory's name apart at its first dash.
#[test]
fn versions_with_dashes_are_told_apart() {
    let build = |code: &str, version: &str| ShopBuild::new(Otp::under_test(), code).version(version).build();
    let (one, two) = (build("v1", "1.1.0-rc.1"), build("v2", "1.1.0-rc.2"));
    let shop = small(&one);
    Flyhot::upgrade(&shop, &two).run().expect("upgraded", 0);
    assert_eq!(fresh(&shop.disk()), fresh(&two));
}

/// What no start and nobody who runs loads from is taken away.
#[test]
fn generations_that_nobody_uses_any_more_go() {
    let (v1, _) = releases();
    let plain = include_str!("../fixtures/shop/since_v2/src/shop_plain.erl");
    let with = |more: &str| {
        let text = plain.replace("handle_cast(", &format!("{more}handle_cast("));
        v1.variant().erlang("shop_plain", &text).build()
    };
    let shop = small(&v1);
    let mut used = Vec::new();
    for release in [
        with("handle_cast(a, S) -> {stop, a, S};\n"),
        with("handle_cast(b, S) -> {stop, b, S};\n"),
        with(""),
    ] {
        Flyhot::upgrade(&shop, &release).run().expect("upgraded", 0);
        used.push(shop.probe().eval("code:lib_dir(shop)."));
    }
    let exists = |dir: &String| shop.probe().eval(&format!("filelib:is_dir({dir}).")) == "true";
    assert!(
        !exists(&used[0]) && !exists(&used[1]) && exists(&used[2]),
        "{used:?}"
    );
}

//! What a node boots after an upgrade, however it is started, and wherever in the writing the machine stopped.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use flyhot_tests::{
    Ailment, Fault, Flyhot, NodeBuilder, Otp, Probe, Random, Release, Scratch, Shop, ShopBuild, rounds,
    wait_until,
};

/// A restart in place ends a node and boots it.
const RESTART: Duration = Duration::from_secs(90);

fn small(release: &Release) -> Shop {
    small_as(release, |node| node)
}

fn small_as(release: &Release, node: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Shop {
    Shop::of(release).carts(20).pool(10).node(node).start()
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

/// Copies a directory of a release into another.
fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
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
    let interactive = small_as(&disk, |node| node.env("RELEASE_MODE", "interactive"));
    interactive
        .probe()
        .eval("{ok, Ms} = application:get_key(shop, modules), [{module, M} = code:ensure_loaded(M) || M <- Ms], ok.");
    assert_eq!(runs(interactive.probe()), new, "{run}");

    // As a daemon, which is killed and started again.
    for _ in 0..2 {
        let mut daemon = small_as(&disk, |node| node.in_place().daemon());
        assert_eq!(runs(daemon.probe()), new, "{run}");
        daemon.kill();
    }

    // In place.
    shop.probe().eval("persistent_term:put(before, here).");
    shop.script("restart");
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
        let after = Flyhot::upgrade(&again, &v2).run();
        assert_eq!(fresh(&again.disk()), new, "the run after {nth}\n{after}");
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

/// Nothing that was not synced outlasts a power cut for certain: the next start is wholly old or wholly new all the same.
#[test]
fn wherever_the_power_went_the_next_start_is_whole() {
    let (v1, v2) = releases();
    let (old, new) = (fresh(&v1), fresh(&v2));
    let shop = small_as(&v1, NodeBuilder::journal);
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    let journal = shop.journal();
    let releases = format!("releases/{}", v1.version());
    let boot = journal.renamed_onto(&format!("{releases}/start.boot"));
    let boot = boot.unwrap_or_else(|| panic!("no boot file was put in place: {run}"));
    let lasting = journal.synced(&releases, boot);
    let lasting = lasting.unwrap_or_else(|| panic!("it would not outlast a power cut: {run}"));
    let data = journal.renamed_onto("releases/start_erl.data");
    let data = data.unwrap_or_else(|| panic!("start_erl.data was not put in place: {run}"));
    assert!(boot < lasting && lasting < data && data < journal.len(), "{run}");
    let mut random = Random::new("power");
    for (what, from, to) in [
        ("before the one rename", 0, boot - 1),
        ("around it", boot, lasting - 1),
        ("behind it", lasting, data - 1),
        ("at the end", data, journal.len()),
    ] {
        for _ in 0..rounds(4, 100) {
            let cut = from + usize::try_from(random.below((to - from + 1) as u64)).unwrap();
            let seed = random.seed();
            let scratch = Scratch::new("power");
            let booted = fresh(&journal.power_cut(cut, &mut random, scratch.path()));
            let told = format!("{what}, after {cut} of {} changes, seed {seed}", journal.len());
            match what {
                "before the one rename" => assert_eq!(booted, old, "{told}"),
                "around it" => assert!(booted == old || booted == new, "{told}: {booted:?}"),
                _ => assert_eq!(booted, new, "{told}"),
            }
        }
    }
}

/// A warning names the path, the next start is whole, and the same command writes the rest once the disk is well.
#[test]
fn a_disk_that_takes_no_more_does_no_harm() {
    let (v1, v2) = releases();
    let (old, new) = (fresh(&v1), fresh(&v2));
    let mut random = Random::new("disk");
    let well = small_as(&v1, NodeBuilder::journal);
    Flyhot::upgrade(&well, &v2).run().expect("upgraded", 0);
    let journal = well.journal();
    let placed = |path: &str| journal.renamed_onto(path).unwrap_or_else(|| panic!("{path}"));
    let boot = placed(&format!("releases/{}/start.boot", v1.version()));
    let data = placed("releases/start_erl.data");
    for ailment in [Ailment::Full, Ailment::ReadOnly, Ailment::Forbidden] {
        let all = journal.counted(data, ailment);
        let mut places: Vec<u64> = (0..rounds(1, 20)).map(|_| random.below(all)).collect();
        places.extend([0, journal.counted(boot, ailment) - 1]);
        for count in places {
            let shop = small_as(&v1, NodeBuilder::journal);
            shop.ail(Some((count, ailment)));
            let run = Flyhot::upgrade(&shop, &v2).run();
            run.expect("upgraded", 0);
            let told = format!("{ailment:?} after {count}: {run}");
            let warning = run.reason("not_persisted");
            assert_eq!(warning["severity"], "warning", "{told}");
            let path = warning["subject"].as_str().unwrap();
            assert!(path.starts_with(shop.directory().to_str().unwrap()), "{told}");
            let booted = fresh(&shop.disk());
            assert!(booted == old || booted == new, "{booted:?}: {told}");
            shop.ail(None);
            Flyhot::upgrade(&shop, &v2).run().expect("nothing_to_do", 0);
            assert_eq!(fresh(&shop.disk()), new, "{told}");
        }
    }
}

#[test]
fn two_nodes_that_run_from_one_directory() {
    let (v1, v2) = releases();
    let scratch = Scratch::new("shared");
    let shared = v1.copied(scratch.path());
    let nodes = [(); 2].map(|()| small_as(&shared, NodeBuilder::in_place));
    for node in &nodes {
        let run = Flyhot::upgrade(node, &v2).run();
        run.expect("upgraded", 0);
        assert!(!run.reason_codes().contains(&"not_persisted"), "{run}");
    }
    let new = fresh(&v2);
    assert_eq!(fresh(&shared), new);
    for node in &nodes {
        assert_eq!(runs(node.probe()).modules, new.modules);
    }
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

#[test]
fn wherever_putting_the_base_back_was_killed_the_next_start_is_whole() {
    let (v1, v2) = releases();
    let (old, new) = (fresh(&v1), fresh(&v2));
    let mut killed = 0;
    // Of some thirty places.
    for nth in (1..).step_by(rounds(9, 1)) {
        let shop = small(&v1);
        Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
        shop.probe()
            .plan_faults(&[Fault::new("worker", "disk", nth, "halt")]);
        let disk = shop.disk();
        let run = Flyhot::ask("restore-base", &shop).faulty().run();
        let booted = fresh(&disk);
        if run.outcome()["outcome"] == "done" {
            assert_eq!(booted, old, "{run}");
            break;
        }
        killed += 1;
        assert!(booted == old || booted == new, "after {nth}: {booted:?}: {run}");
        let again = small(&disk);
        Flyhot::ask("restore-base", &again).run().expect("done", 0);
        assert_eq!(fresh(&again.disk()), old, "the run after {nth}");
    }
    assert!(killed > 0);
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
    // Somebody may have been started from the last but one.
    assert_eq!(
        used.iter().map(exists).collect::<Vec<_>>(),
        [false, true, true],
        "{used:?}"
    );
}

/// A node that was started from what an upgrade of another left keeps it, though it was never upgraded itself.
#[test]
fn nobody_s_code_is_taken_away_by_another_node() {
    let (v1, _) = releases();
    let plain = include_str!("../fixtures/shop/since_v2/src/shop_plain.erl");
    // Of one version number: no directory of another version goes on naming what was first.
    let with = |more: &str| {
        let text = plain.replacen("handle_cast(", &format!("{more}handle_cast("), 1);
        v1.variant().erlang("shop_plain", &text).build()
    };
    let scratch = Scratch::new("shared");
    let shared = v1.copied(scratch.path());
    let upgraded = small_as(&shared, NodeBuilder::in_place);
    let first = with("handle_cast(first, S) -> {stop, first, S};\n");
    Flyhot::upgrade(&upgraded, &first).run().expect("upgraded", 0);
    let started = small_as(&shared, NodeBuilder::in_place);
    let there = || {
        started.probe().eval("{string:find(code:lib_dir(shop), \"flyhot/code\") =/= nomatch, filelib:is_dir(code:lib_dir(shop))}.")
    };
    assert_eq!(there(), "{true,true}");
    let second = with("handle_cast(second, S) -> {stop, second, S};\n");
    let run = Flyhot::upgrade(&upgraded, &second).run();
    run.expect("upgraded", 0);
    assert_eq!(there(), "{true,true}", "{run}");
}

/// What somebody put there before is used as it is, with all that belongs to it; where only a part is there it is completed.
#[test]
fn a_release_that_lies_there_already_is_what_a_start_loads() {
    let (v1, v2) = releases();
    let new = fresh(&v2);
    let shop = small(&v1);
    for path in ["lib/shop-1.1.0", "releases/1.1.0"] {
        copy(&v2.directory().join(path), &shop.directory().join(path));
    }
    let mine = shop.directory().join("lib/shop-1.1.0/priv");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("asset"), "of 1.1.0").unwrap();
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    let again = small(&shop.disk());
    assert_eq!(runs(again.probe()), new);
    let asset = again
        .probe()
        .eval("file:read_file(filename:join(code:priv_dir(shop), \"asset\")).");
    assert_eq!(asset, "{ok,<<\"of 1.1.0\">>}");

    let part = small(&v1);
    std::fs::create_dir(part.directory().join("releases/1.1.0")).unwrap();
    Flyhot::upgrade(&part, &v2).run().expect("upgraded", 0);
    assert_eq!(fresh(&part.disk()), new);
}

/// Another release was deployed over one that was upgraded: what the upgrade had changed there is what it was, once the next is
/// upgraded.
#[test]
fn a_version_that_was_upgraded_and_left_can_be_gone_back_to() {
    let (v1, v2) = releases();
    let shop = small(&v1);
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    let v3 = Release::shop(Otp::under_test(), "v3");
    let disk = shop.disk();
    for path in ["lib/shop-1.2.0", "releases/1.2.0"] {
        copy(&v3.directory().join(path), &disk.directory().join(path));
    }
    let data = "releases/start_erl.data";
    std::fs::copy(v3.directory().join(data), disk.directory().join(data)).unwrap();
    let cold = small(&disk);
    assert_eq!(runs(cold.probe()), fresh(&v3));
    Flyhot::upgrade(&cold, &v2)
        .args(["--down"])
        .run()
        .expect("upgraded", 0);
    let start =
        |release: &Release| std::fs::read(release.directory().join("releases/1.0.0/start.boot")).unwrap();
    assert_eq!(start(&cold.disk()), start(&v1));
}

#[test]
fn where_nothing_is_to_be_written_a_disk_that_cannot_be_is_no_matter() {
    let (_, v2) = releases();
    let shop = small_as(&v2, NodeBuilder::journal);
    shop.ail(Some((0, Ailment::ReadOnly)));
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("nothing_to_do", 0);
    assert!(!run.reason_codes().contains(&"not_persisted"), "{run}");
    assert!(shop.journal().is_empty());
}

#[test]
fn a_base_that_is_gone_is_named() {
    let (v1, v2) = releases();
    let shop = small(&v1);
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    let base = shop.directory().join("flyhot/base");
    std::fs::remove_dir_all(&base).unwrap();
    let run = Flyhot::ask("restore-base", &shop).run();
    run.expect("refused", 2);
    assert!(run.stdout.contains(base.to_str().unwrap()), "{run}");
}

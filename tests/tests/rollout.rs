//! Rollouts and rollbacks by a store: what the store says is what the nodes run, whoever fails, dies, comes too late or lies.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use flyhot_tests::{
    Chaos, Fleet, Flyhot, Ills, Moto, Node, Otp, Random, Release, Scratch, Shop, free_port, pairs, wait_until,
};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// Long beside what any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

fn releases() -> (Release, Release) {
    let otp = Otp::under_test();
    (Release::shop(otp, "v1"), Release::shop(otp, "v2"))
}

fn small(release: &Release) -> Shop {
    Shop::of(release).carts(20).pool(5).start()
}

/// Another one with the same cookie: one command has one.
fn beside(release: &Release, other: &Shop) -> Shop {
    let shop = small(release);
    shop.shares_cookie_of(other);
    shop
}

fn shapes(shop: &Shop) -> Vec<String> {
    let mut shapes: Vec<_> = shop.carts().into_iter().map(|cart| cart.shape).collect();
    shapes.dedup();
    shapes
}

/// All carts of each shop have the shape of the code that should run there.
#[track_caller]
fn carts_are(shops: [&Shop; 2], expected: [&str; 2]) {
    assert_eq!(shops.map(shapes), expected.map(|shape| vec![shape.to_owned()]));
}

fn clean(shop: &Shop) {
    assert_eq!(shop.probe().suspended(), NONE);
    assert_eq!(shop.probe().traces(), NONE);
}

/// What sha256sum says of a file is its name.
fn is_named_by_its_bytes(path: &Path) -> bool {
    let out = Command::new("sha256sum").arg(path).output().unwrap();
    let sum = String::from_utf8(out.stdout).unwrap();
    path.file_name().unwrap().to_str() == Some(&format!("{}.tar.gz", &sum[..64]))
}

#[test]
fn what_nodes_run_is_what_the_store_says_there_and_back() {
    let (v1, v2) = releases();
    let scratch = Scratch::new("rollout");
    let one = small(&v1);
    let two = beside(&v1, &one);
    let fleet = Fleet {
        store: scratch.path(),
        nodes: vec![&one, &two],
    };
    let carts = (one.carts(), two.carts());
    let nothing = fleet.rollback().run();
    nothing.expect("refused", 2);
    assert!(nothing.stdout.contains("no such target"), "{nothing}");

    let out = fleet.rollout(&v2).run();
    out.expect("upgraded", 0);
    assert_eq!(out.pointer(), ["trial", "committed"], "{out}");
    carts_are([&one, &two], ["struct", "struct"]);
    let (old, new) = (v1.version(), v2.version());
    assert_eq!(fleet.history(), pairs(&[(&new, "committed"), (&old, "previous")]));
    assert_eq!(fleet.artifacts().len(), 2);
    assert!(fleet.artifacts().iter().all(|path| is_named_by_its_bytes(path)));

    // Once more: nothing is done, and the history does not grow.
    let again = fleet.rollout(&v2).run();
    again.expect("nothing_to_do", 0);
    assert_eq!(again.pointer(), ["unchanged"], "{again}");
    assert_eq!(fleet.history().len(), 2);

    let back = fleet.rollback().run();
    back.expect("upgraded", 0);
    assert_eq!(back.pointer(), ["trial", "committed"], "{back}");
    assert_eq!(
        fleet.history(),
        pairs(&[(&old, "committed"), (&new, "previous"), (&old, "previous")])
    );
    // What went there and back is what it was, in the same processes.
    assert_eq!((one.carts(), two.carts()), carts);
    clean(&one);
    clean(&two);

    let records = fleet.records();
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            let nodes = record["end"]["nodes"].as_array().unwrap();
            assert_eq!(nodes.len(), 2, "{record}");
            (
                record["way"].as_str().unwrap(),
                record["end"]["outcome"].as_str().unwrap(),
                record["end"]["pointer"].as_str().unwrap(),
                record["from"]["version"].as_str().unwrap(),
                record["to"]["version"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("rollout", "upgraded", "committed", &*old, &*new),
            ("rollout", "nothing_to_do", "unchanged", &*new, &*new),
            ("rollback", "upgraded", "committed", &*new, &*old),
        ]
    );

    // What no history names goes, and nothing else.
    let stray = scratch
        .path()
        .join(format!("releases/shop/artifacts/{}.tar.gz", "5a".repeat(32)));
    fs::write(&stray, "nobody's").unwrap();
    let gc = |words: &[&str]| {
        let store = scratch.path().to_str().unwrap();
        let all = [
            &["gc", "--app", "shop", "--store", store, "--output", "json"],
            words,
        ]
        .concat();
        let run = Flyhot::new(all).run();
        run.expect("done", 0);
        run.events_named("gc").next().unwrap().json.clone()
    };
    let looked = gc(&["--dry-run"]);
    assert_eq!(
        (&looked["kept"], looked["removed"].as_array().unwrap().len()),
        (&2.into(), 1)
    );
    assert!(stray.exists());
    let done = gc(&[]);
    assert_eq!((&done["kept"], &done["removed_size"]), (&2.into(), &8.into()));
    assert!(!stray.exists());
    assert_eq!(fleet.artifacts().len(), 2);
    let named = fleet.command(&["rollback", "--to", &new]).run();
    named.expect("upgraded", 0);
    assert_eq!(shapes(&two), ["struct"]);
}

/// A worker whose code_change fails in the window.
fn bad(base: &Release) -> Release {
    let source = "-module(pool_worker).
         -behaviour(gen_server).
         -export([start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).
         start_link(N) -> gen_server:start_link({local, list_to_atom(\"pool_\" ++ integer_to_list(N))}, ?MODULE, N, []).
         init(N) -> {ok, {bad, N, 0}}.
         handle_call(version, _From, State) -> {reply, bad, State}.
         handle_cast(bump, {Tag, N, Casts}) -> {noreply, {Tag, N, Casts + 1}}.
         handle_info(_, State) -> {noreply, State}.
         code_change(_, _, _) -> error(never).\n";
    base.variant().erlang("pool_worker", source).build()
}

#[test]
fn what_did_not_come_to_its_end_is_booted_by_nobody() {
    let (v1, v2) = releases();
    let scratch = Scratch::new("rollout");
    let one = small(&v1);
    let two = beside(&v1, &one);
    let fleet = Fleet {
        store: scratch.path(),
        nodes: vec![&one, &two],
    };
    let (old, new) = (v1.version(), v2.version());

    // Nobody runs it: it is forgotten, and the code that was there first is what is committed.
    let reverted = fleet.rollout(&bad(&v2)).args(["--no-rehearsal"]).run();
    reverted.expect("reverted", 11);
    assert_eq!(reverted.pointer(), ["trial", "abandoned"], "{reverted}");
    assert_eq!(fleet.history(), pairs(&[(&old, "committed")]));
    assert_eq!(shapes(&one), ["tuple"]);

    // One runs it and stays so: it stays on trial, and the way back is what was committed.
    let tear = || {
        two.hold();
        let mixed = fleet
            .rollout(&v2)
            .args(["--quiesce-timeout", "1s", "--no-rollback"])
            .run();
        mixed.expect("mixed", 12);
        two.let_go();
        mixed
    };
    let mixed = tear();
    assert_eq!(mixed.pointer(), ["trial", "trial"], "{mixed}");
    assert_eq!(fleet.history(), pairs(&[(&new, "trial"), (&old, "committed")]));
    carts_are([&one, &two], ["struct", "tuple"]);
    // One behind it that goes ill takes back whoever may run it still.
    let behind = fleet.rollout(&bad(&v2)).args(["--no-rehearsal"]).run();
    behind.expect("reverted", 11);
    carts_are([&one, &two], ["tuple", "tuple"]);
    assert_eq!(fleet.history(), pairs(&[(&old, "committed")]));

    // A way back from there that moved nobody has no other end when it is tried again.
    tear();
    one.hold();
    let stays = fleet
        .rollback()
        .args(["--sequential", "--quiesce-timeout", "1s"])
        .run();
    stays.expect("not_quiesced", 14);
    one.let_go();
    assert_eq!(fleet.history(), pairs(&[(&new, "trial"), (&old, "committed")]));
    carts_are([&one, &two], ["struct", "tuple"]);
    fleet.rollback().run().expect("upgraded", 0);
    carts_are([&one, &two], ["tuple", "tuple"]);
    assert_eq!(fleet.history(), pairs(&[(&old, "committed")]));

    // A way back that did not come to its end goes on backwards.
    fleet.rollout(&v2).run().expect("upgraded", 0);
    two.hold();
    let mixed = fleet.rollback().args(["--quiesce-timeout", "1s"]).run();
    mixed.expect("mixed", 12);
    two.let_go();
    carts_are([&one, &two], ["tuple", "struct"]);
    let again = fleet.rollback().run();
    again.expect("upgraded", 0);
    carts_are([&one, &two], ["tuple", "tuple"]);
    assert_eq!(fleet.history()[0], (old.clone(), "committed".to_owned()));

    // The driver is interrupted: it says what it left, and lets the lock go.
    two.pause();
    let mut running = fleet.rollout(&v2).args(["--sequential"]).spawn();
    running.wait_for("the first node is done", LIMIT, |event| {
        event["event"] == "step_started" && event["step"] == "connect" && event["node"] == two.name()
    });
    running.interrupt();
    let interrupted = running.wait();
    two.wake();
    interrupted.expect("mixed", 12);
    assert_eq!(interrupted.pointer(), ["trial", "trial"], "{interrupted}");
    let end = fleet.records().last().unwrap()["end"].clone();
    assert_eq!(
        (&end["exit_code"], &end["pointer"]),
        (&12.into(), &"trial".into())
    );
    fleet.rollback().run().expect("upgraded", 0);
    assert_eq!(fleet.history()[0], (old.clone(), "committed".to_owned()));

    // The driver is killed: it stays on trial, its record has no end, its lock ends with its lease; the next one goes on.
    let mut running = fleet
        .rollout(&v2)
        .args(["--lock-timeout", "15s", "--sequential"])
        .spawn();
    running.wait_for("the first node is done", LIMIT, |event| {
        event["event"] == "step_started" && event["step"] == "connect" && event["node"] == two.name()
    });
    let killed = running.kill();
    assert_eq!(killed.exit_code, None, "{killed}");
    let now = fleet.history();
    assert_eq!(now[..2], pairs(&[(&new, "trial"), (&old, "committed")]));
    assert_eq!(fleet.records().last().unwrap()["end"], Value::Null);
    let busy = fleet.rollout(&v2).run();
    busy.expect("refused", 20);
    assert!(busy.stdout.contains("holds the lock"), "{busy}");
    let waited = fleet.rollout(&v2).args(["--lock-wait", "60s"]).run();
    waited.expect("upgraded", 0);
    let now = fleet.history();
    assert_eq!(now[..2], pairs(&[(&new, "committed"), (&old, "previous")]));
    carts_are([&one, &two], ["struct", "struct"]);
    clean(&one);
    clean(&two);
}

#[test]
fn nobody_else_rolls_out_meanwhile_and_who_was_displaced_stops() {
    let (v1, v2) = releases();
    let scratch = Scratch::new("rollout");
    let one = small(&v1);
    let two = beside(&v1, &one);
    let fleet = Fleet {
        store: scratch.path(),
        nodes: vec![&one, &two],
    };
    let (old, new) = (v1.version(), v2.version());
    fleet.rollout(&v2).run().expect("upgraded", 0);

    // The first waits in the census of its second node, which answers nothing.
    let mut first = fleet
        .rollback()
        .args(["--sequential"])
        .env("USER", "alice")
        .spawn();
    first.wait_for("the lock is held", LIMIT, |event| event["event"] == "pointer");
    two.pause();
    first.wait_for("the first node is done", LIMIT, |event| {
        event["event"] == "step_started" && event["step"] == "connect" && event["node"] == two.name()
    });
    let refused = fleet.rollout(&v2).env("USER", "bob").run();
    refused.expect("refused", 20);
    assert!(refused.stdout.contains("alice on "), "{refused}");
    assert!(refused.stdout.contains("(rollback) holds the lock"), "{refused}");
    let only = Fleet {
        nodes: vec![&one],
        ..fleet
    };
    let forced = only.rollout(&v2).args(["--force"]).env("USER", "bob").run();
    forced.expect("upgraded", 0);
    let displaced = forced.events_named("pointer").next().unwrap().json["displaced"].clone();
    assert!(displaced.as_str().unwrap().starts_with("alice on "), "{forced}");
    let after = fs::read(scratch.path().join("releases/shop/pointer.json")).unwrap();
    two.wake();
    // It is asked before the second node is touched.
    let late = first.wait();
    late.expect("mixed", 12);
    assert_eq!(late.node(1)["outcome"], "refused", "{late}");
    assert!(
        late.stdout
            .contains("the node was left before its window: the lock was lost"),
        "{late}"
    );
    assert!(late.stdout.contains("the pointer was left as it is"), "{late}");
    carts_are([&one, &two], ["struct", "struct"]);
    let now = fs::read(scratch.path().join("releases/shop/pointer.json")).unwrap();
    assert!(now == after, "one who lost the lock wrote the pointer");
    assert_eq!(only.history()[0], (new.clone(), "committed".to_owned()));
    assert_eq!(only.history()[1], (old, "previous".to_owned()));
}

#[test]
fn what_this_machine_does_not_trust_goes_to_no_node() {
    let (v1, v2) = releases();
    let scratch = Scratch::new("rollout");
    let one = small(&v1);
    let store = scratch.path().join("store");
    let fleet = Fleet {
        store: &store,
        nodes: vec![&one],
    };
    let key = |name: &str| {
        let file = scratch.path().join(name).to_str().unwrap().to_owned();
        let run = Flyhot::new(["keygen", "--out", &file, "--output", "json"]).run();
        run.expect("done", 0);
        let public = run.events_named("key").next().unwrap().json["public"].clone();
        (file, public.as_str().unwrap().to_owned())
    };
    let (ours, our_public) = key("ours");
    let (theirs, their_public) = key("theirs");
    fleet
        .rollout(&v2)
        .args(["--key-file", &ours])
        .run()
        .expect("upgraded", 0);
    let before = one.probe().md5s();
    let refused = fleet.rollback().env("FLYHOT_PUBLIC_KEYS", &their_public).run();
    refused.expect("refused", 25);
    assert_eq!(one.probe().md5s(), before, "{refused}");
    assert_eq!(refused.pointer(), NONE, "{refused}");
    let back = fleet.rollback().env("FLYHOT_PUBLIC_KEYS", &our_public).run();
    back.expect("upgraded", 0);
    let before_back = one.probe().md5s();
    let artifact = &back.events_named("artifact").next().unwrap().json["artifact"];
    assert_eq!(artifact["trust"], "signed", "{back}");
    assert_eq!(shapes(&one), ["tuple"]);

    // What would boot nowhere is not rolled out, nor what could not be taken back again.
    let trusts = |public: &str, words: &[&str]| {
        let out = fleet.rollout(&v2).args(words.iter().copied());
        out.env("FLYHOT_PUBLIC_KEYS", public).run()
    };
    let (theirs_too, [their_key, our_key]) = (
        format!("{their_public} {our_public}"),
        [["--key-file", &*theirs], ["--key-file", &*ours]],
    );
    for (public, words, said) in [
        (
            &our_public,
            &[][..],
            "is not taken by this machine: it is not signed",
        ),
        (
            &our_public,
            &their_key,
            "is not taken by this machine: it is signed by",
        ),
        (&their_public, &their_key, "could not go back to"),
    ] {
        let refused = trusts(public, words);
        refused.expect("refused", 25);
        assert!(refused.stdout.contains(said), "{refused}");
        assert_eq!(one.probe().md5s(), before_back, "{refused}");
        assert_eq!(refused.pointer(), NONE, "{refused}");
    }
    trusts(&theirs_too, &our_key).expect("upgraded", 0);
    fleet.rollback().run().expect("upgraded", 0);
    let committed = fleet.records().last().unwrap()["to"]["digest"].clone();
    let committed = store.join(format!(
        "releases/shop/artifacts/{}.tar.gz",
        committed.as_str().unwrap()
    ));
    let aside = scratch.path().join("aside");
    fs::rename(&committed, &aside).unwrap();
    let gone = fleet.rollout(&v2).run();
    gone.expect("failed", 22);
    assert!(gone.stdout.contains("Nodes could not go back to it"), "{gone}");
    assert_eq!(gone.pointer(), NONE, "{gone}");
    fs::rename(&aside, &committed).unwrap();

    // Signed later it is signed, and not signed again it stays so.
    fleet.rollout(&v2).run().expect("upgraded", 0);
    for words in [&["--key-file", &*ours][..], &[]] {
        let run = fleet.rollout(&v2).args(words.iter().copied()).run();
        run.expect("nothing_to_do", 0);
    }
    fleet.rollback().run().expect("upgraded", 0);
    let forth = fleet.rollback().env("FLYHOT_PUBLIC_KEYS", &our_public).run();
    forth.expect("upgraded", 0);
    assert_eq!(shapes(&one), ["struct"]);

    // Bent in the store: nothing of it comes to a node, and what was rolled out before goes on.
    let to = fleet.records().last().unwrap()["from"]["digest"].clone();
    let path = store.join(format!("releases/shop/artifacts/{}.tar.gz", to.as_str().unwrap()));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let bent = fleet.rollback().run();
    bent.expect("failed", 22);
    assert!(
        bent.stdout.contains("is another file than its name says"),
        "{bent}"
    );
    assert_eq!(shapes(&one), ["struct"]);
    fs::remove_file(&path).unwrap();
    let gone = fleet.rollback().run();
    gone.expect("failed", 22);
    assert!(gone.stdout.contains("the store has no artifact"), "{gone}");
}

#[test]
fn machines_of_another_image_begin_anew_only_where_that_is_said() {
    let (v1, v2) = releases();
    let scratch = Scratch::new("rollout");
    let one = small(&v1);
    let fleet = Fleet {
        store: scratch.path(),
        nodes: vec![&one],
    };
    let on = |image: &str, more: &[&str]| {
        fleet
            .rollout(&v2)
            .args(["--base", image])
            .args(more.iter().copied())
            .run()
    };
    on("shop:1", &[]).expect("upgraded", 0);
    let before = fleet.history();
    let other = on("shop:2", &[]);
    other.expect("refused", 2);
    assert!(other.stdout.contains("--new-base"), "{other}");
    assert_eq!(fleet.history(), before);
    // What there was is not forgotten before there is something in its place: this node brought nothing.
    let plain = Node::erl(Otp::under_test()).start();
    let nobody = Fleet {
        nodes: vec![&plain],
        store: fleet.store,
    };
    let failed = nobody.rollout(&v2).args(["--base", "shop:2", "--new-base"]).run();
    failed.expect("refused", 2);
    assert!(failed.stdout.contains("cannot be saved"), "{failed}");
    assert_eq!(fleet.history(), before);
    // Its base is what its release brought, whatever it runs by now.
    on("shop:2", &["--new-base"]).expect("nothing_to_do", 0);
    assert_eq!(
        fleet.history(),
        pairs(&[(&v2.version(), "committed"), (&v1.version(), "previous")])
    );
    fleet.rollback().run().expect("upgraded", 0);
    assert_eq!(shapes(&one), ["tuple"]);
}

#[test]
fn code_whose_gate_says_no_is_booted_by_nobody() {
    let (v1, v2) = releases();
    let scratch = Scratch::new("rollout");
    let one = small(&v1);
    let store = scratch.path().join("store");
    let fleet = Fleet {
        store: &store,
        nodes: vec![&one],
    };
    let policy = scratch.path().join("policy.toml");
    let text = "[gate]\ncall = \"erlang:node\"\nwithin = \"1s\"\nevery = \"100ms\"\nwatch = \"200ms\"\n";
    fs::write(&policy, text).unwrap();
    let before = one.carts();
    let taken_back = fleet.rollout_by(&v2, &policy).run();
    taken_back.expect("reverted", 11);
    assert_eq!(taken_back.node(0)["outcome"], "taken_back", "{taken_back}");
    // It is asked on the way forth alone: the old code may not have it.
    let mut codes = taken_back.reason_codes();
    codes.retain(|code| *code == "gate_failed");
    assert_eq!(codes.len(), 1, "{taken_back}");
    assert_eq!(taken_back.pointer(), ["trial", "abandoned"], "{taken_back}");
    assert_eq!(one.carts(), before);
    let degraded = fleet.rollout_by(&v2, &policy).args(["--no-rollback"]).run();
    degraded.expect("degraded", 15);
    assert!(degraded.reason_codes().contains(&"gate_failed"), "{degraded}");
    assert_eq!(degraded.pointer(), ["trial", "trial"], "{degraded}");
    fleet.rollback().run().expect("upgraded", 0);
    assert_eq!(fleet.history(), pairs(&[(&v1.version(), "committed")]));

    // Asked from outside: no answer is none, and one of the shop is well.
    let nobody = format!("http://{{host}}:{}/cart/1", free_port());
    let silent = fleet.rollout(&v2).args(["--check-url", &nobody]).run();
    silent.expect("reverted", 11);
    assert_eq!(silent.node(0)["outcome"], "taken_back", "{silent}");
    let reason = silent.reason("gate_failed");
    assert!(
        reason["sentence"]
            .as_str()
            .unwrap()
            .contains("did not answer well within 30 s"),
        "{silent}"
    );
    assert_eq!(one.carts(), before);
    let shop = format!("http://{{host}}:{}/cart/1", one.port());
    fleet
        .rollout(&v2)
        .args(["--check-url", &shop])
        .run()
        .expect("upgraded", 0);
    let none = fleet.rollout(&v2).args(["--check-url", "{host}:4000"]).run();
    none.expect("refused", 2);
    assert!(none.stdout.contains("is no URL"), "{none}");
}

/// A command about one node and a bucket.
fn in_bucket(chaos: &Chaos, node: &Node, words: &[&str]) -> Flyhot {
    Flyhot::new([&words[..1], &["--node", node.name()], &words[1..]].concat())
        .of(node)
        .args(["--app", "shop", "--bucket", Moto::BUCKET])
        .args(["--endpoint", &chaos.endpoint(), "--output", "json"])
        .env("AWS_ACCESS_KEY_ID", "tid_test")
        .env("AWS_SECRET_ACCESS_KEY", "tsec_secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

#[test]
fn an_upload_that_takes_longer_than_a_lease_keeps_the_lock() {
    /// Renewals: three in each lease, so that two leases are over before this many.
    const RENEWED: usize = 8;
    let (v1, v2) = releases();
    let one = small(&v1);
    let moto = Moto::start();
    let held_up = Ills {
        holds: Some("/artifacts/"),
        ..Ills::default()
    };
    let chaos = Chaos::before(moto.address(), held_up, Random::new("held up"));
    let rollout = || {
        let words = ["rollout", "--release", v2.directory().to_str().unwrap()];
        in_bucket(&chaos, &one, &words).args(["--lock-timeout", "5s"])
    };
    let mut alice = rollout().env("USER", "alice").spawn();
    alice.wait_for_step("upload");
    let locks = || {
        let puts = chaos.asked("PUT");
        puts.iter().filter(|path| path.contains("/lock.json")).count()
    };
    let before = locks();
    wait_until("its lease was renewed", LIMIT, || locks() >= before + RENEWED);
    let bob = rollout().env("USER", "bob").run();
    bob.expect("refused", 20);
    assert!(bob.stdout.contains("alice on "), "{bob}");
    chaos.ail(Ills::default());
    let run = alice.wait();
    run.expect("upgraded", 0);
    assert_eq!(run.pointer(), ["trial", "committed"], "{run}");
    assert_eq!(shapes(&one), ["struct"]);
    clean(&one);
}

/// In a bucket that does what buckets do: errors, conflicts, answers that are lost, bodies that are cut and bent.
#[test]
fn a_bucket_that_ails_says_what_nodes_run_all_the_same() {
    let (v1, v2) = releases();
    let one = small(&v1);
    let moto = Moto::start();
    let ills = Ills {
        server_errors: 100,
        conflicts: 50,
        resets: 50,
        lost_answers: 100,
        cut_bodies: 50,
        bent_bits: 50,
        stale: true,
        ..Ills::default()
    };
    let chaos = Chaos::before(moto.address(), ills, Random::new("rollout"));
    let on = |words: &[&str]| {
        let run = in_bucket(&chaos, &one, words).run();
        assert!(!format!("{run}").contains("tsec_secret"), "{run}");
        run
    };
    let out = on(&["rollout", "--release", v2.directory().to_str().unwrap()]);
    out.expect("upgraded", 0);
    assert_eq!(out.pointer(), ["trial", "committed"], "{out}");
    let said: Value = serde_json::from_str(&moto.object("releases/shop/pointer.json").unwrap()).unwrap();
    assert_eq!(
        (&said["record"]["state"], &said["record"]["target"]["version"]),
        (&"committed".into(), &v2.version().into())
    );
    on(&["rollback"]).expect("upgraded", 0);
    assert_eq!(shapes(&one), ["tuple"]);

    // It is gone: nothing is done to the node, and what is to be done is said.
    chaos.ail(Ills {
        server_errors: 1_000,
        ..Ills::default()
    });
    let silent = on(&["rollout", "--release", v2.directory().to_str().unwrap()]);
    silent.expect("failed", 22);
    assert_eq!(shapes(&one), ["tuple"]);
    clean(&one);
}

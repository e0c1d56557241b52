//! What was expected of a window stands beside what happened, and is near it on a node that is idle.

use flyhot_tests::{Flyhot, Otp, Release, Run, Shop};

/// The formula's figures are of one machine, and this one has other work.
const FACTOR: u64 = 4;

/// Whatever else the machine does makes a window longer: of so many the shortest counts.
const TRIES: u64 = 6;

fn us(run: &Run, pointer: &str) -> u64 {
    let value = run.node(0).pointer(pointer);
    value
        .and_then(serde_json::Value::as_u64)
        .unwrap_or_else(|| panic!("no {pointer}: {run}"))
}

/// How much longer something takes on the node now than it would if the machine had nothing else to do: short
/// computations, all of them against the shortest.
fn stretched(shop: &Shop) -> u64 {
    let stretched = shop.probe().json(
        "T = [element(1, timer:tc(lists, seq, [1, 20000])) || _ <- lists:seq(1, 300)],
         max(1, lists:sum(T) div (length(T) * max(1, lists:min(T)))).",
    );
    stretched.as_u64().unwrap()
}

/// Repeats what answers `(expected, happened)`, in microseconds, until the expected is near what happens on an idle
/// machine: not longer than the shortest that happened, and not shorter than what that would be with the machine's other
/// work taken out.
fn near(what: &str, shop: &Shop, mut once: impl FnMut(u64) -> (u64, u64)) {
    let (mut expected, mut most, mut least) = (u64::MAX, u64::MAX, u64::MAX);
    for round in 0..TRIES {
        let before = stretched(shop);
        let (should, was) = once(round);
        expected = expected.min(should);
        most = most.min(was);
        least = least.min(was / before.max(stretched(shop)));
        if expected < most * FACTOR && least < expected * FACTOR {
            return;
        }
    }
    panic!("{what}: expected {expected} us, it was {least} to {most} us");
}

fn frozen_as_long_as_expected(carts: u32) {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = Shop::of(&v1).carts(carts).pool(5).start();
    near(&format!("the freeze of {carts} carts"), &shop, |round| {
        let run = Flyhot::upgrade(&shop, if round % 2 == 0 { &v2 } else { &v1 }).run();
        run.expect("upgraded", 0);
        let planned = run.events_named("plan").next().unwrap();
        assert!(planned.json["freeze_us"].as_u64().unwrap() > 0, "{run}");
        (us(&run, "/predicted/freeze_us"), us(&run, "/longest_freeze_us"))
    });
}

#[test]
fn a_thousand_are_frozen_as_long_as_expected() {
    frozen_as_long_as_expected(1_000);
}

#[test]
fn ten_thousand_are_frozen_as_long_as_expected() {
    frozen_as_long_as_expected(10_000);
}

#[test]
fn a_revert_takes_as_long_as_expected_and_every_outcome_says_what_was() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let bad = v1
        .variant()
        .erlang(
            "pool_worker",
            "-module(pool_worker).
             -behaviour(gen_server).
             -export([start_link/1, init/1, handle_call/3, handle_cast/2, code_change/3]).
             start_link(_) -> ignore.
             init(_) -> ignore.
             handle_call(_, _, S) -> {reply, bad, S}.
             handle_cast(_, S) -> {noreply, S}.
             code_change(_, {_, 7, _}, _) -> error(bad);
             code_change(_, S, _) -> {ok, S}.\n",
        )
        .build();
    let shop = Shop::of(&v1).carts(5_000).start();
    near("the revert", &shop, |_| {
        let run = Flyhot::upgrade(&shop, &bad).args(["--no-rehearsal"]).run();
        run.expect("reverted", 11);
        assert_eq!(run.node(0)["predicted"]["way_back"], "exact", "{run}");
        (us(&run, "/predicted/revert_us"), us(&run, "/phases_us/undo"))
    });

    let run = Flyhot::upgrade(&shop, &bad).run();
    run.expect("refused", 10);
    assert!(us(&run, "/predicted/freeze_us") > 0 && us(&run, "/predicted/revert_us") > 0);
    assert_eq!(us(&run, "/phases_us/undo"), 0, "{run}");
    let run = Flyhot::plan(&shop, &Release::shop(Otp::under_test(), "v2")).run();
    run.expect("planned", 0);
    assert!(us(&run, "/predicted/freeze_us") > 0 && us(&run, "/predicted/revert_us") > 0);

    let human = Flyhot::new([
        "upgrade",
        "--output",
        "human",
        "--no-rehearsal",
        "--node",
        shop.name(),
        "--release",
    ])
    .args([bad.directory().to_str().unwrap()])
    .of(&shop)
    .run();
    assert_eq!(human.exit_code, Some(11), "{human}");
    for line in ["at the longest, expected about", "expected exact in about"] {
        assert!(human.stdout.contains(line), "{human}");
    }
    // A node that runs the release already has nothing to expect.
    let run = Flyhot::upgrade(&shop, &v1).run();
    run.expect("nothing_to_do", 0);
    assert!(run.node(0)["predicted"].is_null(), "{run}");
}

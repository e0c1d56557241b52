//! A code_change that fails in one of a thousand processes: named before anything is touched, undone after the
//! swap, or handed to the supervisor where requests hold the old code.

use std::time::Duration;

use flyhot_tests::{Flyhot, Otp, Release, Run, Shop, wait_until};

const NONE: [&str; 0] = [];
const SOON: Duration = Duration::from_secs(20);

/// The worker whose code_change fails, and where it stands in the list of workers.
const BAD: u32 = 7;

/// pool_worker with another state, whose code_change does `body` for the bad worker.
fn release(base: &Release, body: &str) -> Release {
    let source = format!(
        "-module(pool_worker).
         -behaviour(gen_server).
         -export([start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).
         start_link(N) -> gen_server:start_link({{local, list_to_atom(\"pool_\" ++ integer_to_list(N))}}, ?MODULE, N, []).
         init(N) -> {{ok, {{fresh, N, 0}}}}.
         handle_call(version, _From, State) -> {{reply, bad, State}}.
         handle_cast(bump, {{Tag, N, Casts}}) -> {{noreply, {{Tag, N, Casts + 1}}}}.
         handle_info(_, State) -> {{noreply, State}}.
         code_change(_, {{_, {BAD}, _Casts}}, _) -> {body};
         code_change(_, {{_, N, Casts}}, _) -> {{ok, {{migrated, N, Casts}}}}.
         loop(N) -> loop(N + 1).
         unused() -> loop(0).
         -compile({{nowarn_unused_function, [{{unused, 0}}, {{loop, 1}}]}}).\n"
    );
    base.variant().erlang("pool_worker", &source).build()
}

/// What a judge can see of the pool and of the code.
#[derive(Debug, PartialEq)]
struct Seen {
    states: Vec<String>,
    pids: Vec<String>,
    md5s: std::collections::BTreeMap<String, String>,
}

fn look(shop: &Shop) -> Seen {
    Seen {
        states: shop.pool(),
        pids: shop.pool_pids(),
        md5s: shop.probe().md5s(),
    }
}

fn has(run: &Run, code: &str, subject: &str) -> bool {
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    reasons
        .iter()
        .any(|reason| reason["code"] == code && reason["subject"].as_str().unwrap().contains(subject))
}

fn counts_add_up(run: &Run) {
    let count = |key: &str| run.node(0)["processes"][key].as_u64().unwrap();
    let sum: u64 = ["migrated", "kept", "failed", "died", "skipped"]
        .map(count)
        .iter()
        .sum();
    assert_eq!(count("affected"), sum, "{run}");
}

fn clean(shop: &Shop) {
    assert_eq!(shop.probe().suspended(), NONE);
    assert_eq!(shop.probe().traces(), NONE);
}

const FAILURES: [&str; 5] = ["error(bad)", "exit(bad)", "throw(bad)", "garbage", "{error, bad}"];

#[test]
fn it_is_named_before_anything_is_touched_and_undone_when_it_was_not_rehearsed() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let shop = Shop::of(&v1).carts(10).start();
    shop.probe()
        .eval("[gen_server:cast(P, bump) || {_, P, _, _} <- supervisor:which_children(shop_pool)], ok.");
    let before = look(&shop);
    let bad = before.pids[BAD as usize - 1].clone();
    assert_eq!(before.states.len(), 1000);
    for failure in FAILURES {
        let release = release(&v1, failure);
        let run = Flyhot::upgrade(&shop, &release).run();
        run.expect("refused", 10);
        assert!(has(&run, "rehearsal_failed", &bad), "{failure}: {run}");
        assert_eq!(run.node(0)["window_us"], 0, "{failure}: {run}");
        assert!(look(&shop) == before, "{failure}: {run}");

        let run = Flyhot::upgrade(&shop, &release).args(["--no-rehearsal"]).run();
        run.expect("reverted", 11);
        counts_add_up(&run);
        assert_eq!(run.node(0)["processes"]["failed"], 1, "{failure}: {run}");
        assert!(has(&run, "migration_failed", &bad), "{failure}: {run}");
        assert!(look(&shop) == before, "{failure}: {run}");
        clean(&shop);
    }
}

#[test]
fn a_state_that_turns_bad_after_the_rehearsal_is_found_when_it_is_frozen() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let shop = Shop::of(&v1).carts(10).start();
    let release = release(
        &v1,
        "case _Casts of 0 -> {ok, {migrated, 7, 0}}; _ -> error(turned) end",
    );
    let mut before = look(&shop);
    // Two workers that were started before and after the bad one do not run: the rehearsal waits for them, and once
    // both have its message everyone between them was asked. Then the state turns, and they run on.
    shop.probe().eval(&format!(
        "Asked = fun(Asked, P) ->
             case process_info(P, message_queue_len) of
                 {{_, 0}} -> timer:sleep(1), Asked(Asked, P);
                 _ -> ok
             end
         end,
         Test = self(),
         spawn(fun() ->
             Held = [whereis(pool_1), whereis(pool_1000)],
             [erlang:suspend_process(P) || P <- Held],
             Test ! held,
             [Asked(Asked, P) || P <- Held],
             gen_server:call(pool_{BAD}, version),
             gen_server:cast(pool_{BAD}, bump),
             gen_server:call(pool_{BAD}, version),
             [erlang:resume_process(P) || P <- Held]
         end),
         receive held -> ok end."
    ));
    let run = Flyhot::upgrade(&shop, &release).run();
    run.expect("refused", 10);
    assert!(run.step("rehearse").is_some(), "{run}");
    assert!(
        run.node(0)["window_us"].as_u64().unwrap() > 0,
        "it was not frozen: {run}"
    );
    assert!(
        has(&run, "rehearsal_failed", &before.pids[BAD as usize - 1]),
        "{run}"
    );
    assert_eq!(
        run.reason_codes()
            .iter()
            .filter(|code| **code == "rehearsal_failed")
            .count(),
        1,
        "{run}"
    );
    before.states[BAD as usize - 1] = before.states[BAD as usize - 1].replace(",0}", ",1}");
    assert!(look(&shop) == before, "{run}");
    clean(&shop);
}

/// It calls itself for ever, or sleeps for ever.
const ENDLESS: [&str; 2] = ["loop(0)", "timer:sleep(infinity)"];

#[test]
fn one_that_never_returns_is_named_before_and_called_back_when_it_was_not_rehearsed() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let shop = Shop::of(&v1).carts(10).start();
    let before = look(&shop);
    let bad = before.pids[BAD as usize - 1].clone();
    for endless in ENDLESS {
        let release = release(&v1, endless);
        let run = Flyhot::upgrade(&shop, &release).run();
        run.expect("refused", 10);
        assert!(has(&run, "rehearsal_failed", &bad), "{endless}: {run}");
        assert_eq!(run.node(0)["window_us"], 0, "{endless}: {run}");
        assert!(look(&shop) == before, "{endless}: {run}");

        let run = Flyhot::upgrade(&shop, &release).args(["--no-rehearsal"]).run();
        run.expect("reverted", 11);
        counts_add_up(&run);
        assert_eq!(run.node(0)["processes"]["failed"], 1, "{endless}: {run}");
        assert!(has(&run, "migration_failed", &bad), "{endless}: {run}");
        assert!(look(&shop) == before, "{endless}: {run}");
        clean(&shop);
    }
}

#[test]
fn one_that_waits_for_a_message_for_ever_costs_that_process() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let shop = Shop::of(&v1).carts(10).start();
    let before = look(&shop);
    let bad = before.pids[BAD as usize - 1].clone();

    // Only the process itself can take its messages: it is not rehearsed, and met after the swap.
    let waits = release(&v1, "receive never -> ok end");
    let run = Flyhot::upgrade(&shop, &waits).run();
    run.expect("reverted", 11);
    assert!(run.reason_codes().contains(&"not_rehearsed"), "{run}");
    assert!(has(&run, "process_ended", &bad), "{run}");
    counts_add_up(&run);
    wait_until("its supervisor started it again", SOON, || {
        shop.pool_pids().len() == 1000
    });
    let after = look(&shop);
    assert_eq!(after.md5s, before.md5s);
    let others = |seen: &Seen| -> Vec<(String, String)> {
        let both = seen.pids.iter().cloned().zip(seen.states.iter().cloned());
        both.enumerate()
            .filter(|(at, _)| *at != BAD as usize - 1)
            .map(|(_, one)| one)
            .collect()
    };
    assert_eq!(others(&after), others(&before), "{run}");
    assert_ne!(after.pids[BAD as usize - 1], bad);
    clean(&shop);
}

#[test]
fn with_requests_in_changed_modules_it_is_degraded_and_only_that_process_restarts() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = Shop::of(&v1).carts(10).start();
    let before = look(&shop);
    let bad_release = release(&v2, "error(bad)");
    let inside = shop.inside(4);
    let run = Flyhot::upgrade(&shop, &bad_release)
        .args(["--no-rehearsal"])
        .run();
    run.expect("degraded", 15);
    assert!(run.reason_codes().contains(&"way_back_after_drain"), "{run}");
    counts_add_up(&run);
    assert_eq!(run.node(0)["processes"]["failed"], 1, "{run}");
    let bad = &before.pids[BAD as usize - 1];
    assert!(has(&run, "process_ended", bad), "{run}");
    wait_until("its supervisor started it again", SOON, || {
        shop.pool_pids().len() == 1000
    });
    let after = look(&shop);
    for (at, (old, new)) in before.pids.iter().zip(&after.pids).enumerate() {
        assert_eq!(old == new, at != BAD as usize - 1, "worker {}", at + 1);
    }
    for (at, state) in after.states.iter().enumerate() {
        let n = at + 1;
        let tag = if n == BAD as usize { "fresh" } else { "migrated" };
        assert_eq!(*state, format!("{{{tag},{n},0}}"));
    }
    clean(&shop);
    inside.leave();
}

#[test]
fn one_with_effects_is_not_rehearsed_and_runs_once() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let shop = Shop::of(&v1).carts(10).start();
    shop.probe().eval("register(effects, spawn(fun() -> F = fun(F, N) -> receive effect -> F(F, N + 1); {count, P} -> P ! {effects, N}, F(F, N) end end, F(F, 0) end)), ok.");
    let release = release(&v1, "effects ! effect, {ok, {migrated, 7, 0}}");
    let run = Flyhot::upgrade(&shop, &release).run();
    run.expect("upgraded", 0);
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    let named = reasons
        .iter()
        .find(|reason| reason["code"] == "not_rehearsed")
        .unwrap();
    assert!(
        named["sentence"]
            .as_str()
            .unwrap()
            .contains("pool_worker.code_change/3 -> a send"),
        "{run}"
    );
    let count = shop
        .probe()
        .eval("effects ! {count, self()}, receive {effects, N} -> N end.");
    assert_eq!(count, "1", "{run}");
    clean(&shop);
}

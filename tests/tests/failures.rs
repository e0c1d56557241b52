//! Failures beside those of `code_change.rs`: every way to fail while requests hold the old code, effects of every
//! kind counted by themselves, and a process that is too busy to be frozen.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use flyhot_tests::{
    Fault, Flyhot, Otp, Release, Run, Running, Scratch, Shop, Trace, model, rounds, wait_until,
};

const NONE: [&str; 0] = [];

/// A supervisor restarts one process in milliseconds; a loaded machine may need seconds.
const SOON: Duration = Duration::from_secs(20);

/// Between two instants in which a driver on a slow line runs: three of them in the time in which something has to move.
const DROP: Duration = Duration::from_millis(800);

/// The worker whose code_change is bad.
const BAD: usize = 7;

/// `pool_worker` with another shape of state. `body` is its code_change for the bad worker.
fn release(base: &Release, body: &str) -> Release {
    release_bad_when(base, &format!("N =:= {BAD}"), body)
}

/// The same with every worker bad whose number `N` passes `guard`.
fn release_bad_when(base: &Release, guard: &str, body: &str) -> Release {
    let source = format!(
        "-module(pool_worker).
         -behaviour(gen_server).
         -export([start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).
         start_link(N) -> gen_server:start_link({{local, list_to_atom(\"pool_\" ++ integer_to_list(N))}}, ?MODULE, N, []).
         init(N) -> timer:sleep(application:get_env(shop, starts_in_ms, 0)), {{ok, {{fresh, N, 0}}}}.
         handle_call(version, _From, State) -> {{reply, bad, State}}.
         handle_cast(bump, {{Tag, N, Casts}}) -> {{noreply, {{Tag, N, Casts + 1}}}}.
         handle_info(busy, State) -> Busy = fun Busy() -> application:get_env(shop, done, false) orelse begin timer:sleep(10), Busy() end end, Busy(), {{noreply, State}};
         handle_info(_, State) -> {{noreply, State}}.
         code_change(_, {{_, N, Casts}}, _) when {guard} -> _ = Casts, {body};
         code_change(_, {{_, N, Casts}}, _) -> {{ok, {{migrated, N, Casts}}}}.\n"
    );
    base.variant().erlang("pool_worker", &source).build()
}

/// What a judge can see of the pool and of the code.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    states: Vec<String>,
    pids: Vec<String>,
    md5s: BTreeMap<String, String>,
}

fn look(shop: &Shop) -> Seen {
    Seen {
        states: shop.pool(),
        pids: shop.pool_pids(),
        md5s: shop.probe().md5s(),
    }
}

/// The reason with this code that is about `subject`.
fn reason<'a>(run: &'a Run, code: &str, subject: &str) -> &'a serde_json::Value {
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    reasons
        .iter()
        .find(|reason| reason["code"] == code && reason["subject"].as_str().unwrap().contains(subject))
        .unwrap_or_else(|| panic!("no reason {code} about {subject}: {run}"))
}

fn clean(shop: &Shop, run: &Run) {
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
    let count = |key: &str| run.node(0)["processes"][key].as_u64().unwrap();
    let sum: u64 = ["migrated", "kept", "failed", "died", "skipped"]
        .map(count)
        .iter()
        .sum();
    assert_eq!(count("affected"), sum, "{run}");
}

/// With requests held inside changed modules there is no way back: exactly the failed process restarts.
fn degraded_by(failures: &[&str]) {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    for failure in failures {
        let shop = Shop::of(&v1).carts(50).start();
        let before = look(&shop);
        // Built before anything is held: it takes seconds.
        let bad = release(&v2, failure);
        let inside = shop.inside(4);
        let run = Flyhot::upgrade(&shop, &bad)
            .args(["--no-rehearsal", "--revert-budget", "1s"])
            .run();
        run.expect("degraded", 15);
        assert_eq!(run.node(0)["processes"]["failed"], 1, "{failure}: {run}");
        reason(&run, "migration_failed", &before.pids[BAD - 1]);
        reason(&run, "process_ended", &before.pids[BAD - 1]);
        wait_until("its supervisor started it again", SOON, || {
            shop.pool()[BAD - 1] == format!("{{fresh,{BAD},0}}")
        });
        let after = look(&shop);
        for n in 1..=1_000 {
            let same = before.pids[n - 1] == after.pids[n - 1];
            assert_eq!(same, n != BAD, "{failure}: worker {n}: {run}");
            let tag = if n == BAD { "fresh" } else { "migrated" };
            assert_eq!(
                after.states[n - 1],
                format!("{{{tag},{n},0}}"),
                "{failure}: {run}"
            );
        }
        let wanted = shop.probe().beam_md5s(&bad.ebin("shop"));
        for module in [
            "pool_worker",
            "Elixir.Shop.Cart",
            "Elixir.Shop.Hold",
            "Elixir.Shop.Router",
        ] {
            assert_eq!(after.md5s[module], wanted[module], "{failure}: {module}: {run}");
        }
        assert!(
            shop.carts().iter().all(|cart| cart.shape == "struct"),
            "{failure}: {run}"
        );
        clean(&shop, &run);
        inside.leave();
    }
}

#[test]
fn a_raise_or_an_exit_without_a_way_back_costs_one_process() {
    degraded_by(&["error(bad)", "exit(bad)"]);
}

#[test]
fn a_wrong_return_without_a_way_back_costs_one_process() {
    degraded_by(&["throw(bad)", "garbage", "{error, bad}"]);
}

#[test]
fn more_failures_than_their_supervisors_restart_cost_only_themselves() {
    // 20 of 1 000 workers, of a supervisor that restarts two in five seconds; two of 2 800 carts, of one that restarts one.
    const EVERY: usize = 50;
    const CARTS: usize = 2_800;
    let failed = |n: usize| n % EVERY == BAD;
    let (v1, v3) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v3"),
    );
    let bad = release_bad_when(&v3, &format!("N rem {EVERY} =:= {BAD}"), "error(bad)");
    let shop = Shop::of(&v1)
        .carts(CARTS as u32)
        .node(|node| node.env("SHOP_POOL_RESTARTS", "2"))
        .start();
    shop.probe().eval(
        "sys:replace_state('Elixir.Shop.CartSupervisor', fun(S) -> S#{max_restarts := 1, max_seconds := 60} end), ok.",
    );
    let supervisors = "[{whereis(S), process_info(whereis(S), dictionary), case sys:get_state(S) of
             #{max_restarts := Limit, restarts := Made} -> {Limit, Made};
             Record -> {element(6, Record), element(8, Record), element(9, Record)}
         end} || S <- [shop_pool, 'Elixir.Shop.CartSupervisor']].";
    let before = shop.probe().eval(supervisors);
    let (pids, carts) = (shop.pool_pids(), shop.carts());
    let inside = shop.inside(4);
    let run = Flyhot::upgrade(&shop, &bad)
        .args(["--no-rehearsal", "--revert-budget", "1s"])
        .run();
    run.expect("degraded", 15);
    assert_eq!(run.node(0)["processes"]["failed"], 22, "{run}");
    assert_eq!(run.node(0)["processes"]["died"], 0, "{run}");
    wait_until("they were started again", SOON, || {
        let pool = shop.pool();
        (1..=1_000).all(|n| pool[n - 1].starts_with("{fresh,") == failed(n)) && shop.carts().len() == CARTS
    });
    let after = shop.pool_pids();
    for n in 1..=1_000 {
        assert_eq!(pids[n - 1] == after[n - 1], !failed(n), "worker {n}: {run}");
    }
    for (was, is) in carts.iter().zip(shop.carts()) {
        assert_eq!(was.pid == is.pid, was.id % 1_400 != 0, "cart {}: {run}", is.id);
    }
    // They count again as they did: what they restarted here is not among it.
    assert_eq!(shop.probe().eval(supervisors), before, "{run}");
    clean(&shop, &run);
    inside.leave();
}

/// A process that stays inside a changed module for good: there is no way back.
fn lingers(shop: &Shop) {
    shop.probe()
        .eval("spawn('Elixir.Shop.Hold', hold, [1000000000]), ok.");
}

fn befalls_the_worker(point: &str, nth: u64, what: &str) -> Fault {
    Fault::new("worker", point, nth, what)
}

/// An upgrade to `bad` that cannot be undone, while `faults` befall the agent; its trace is kept.
fn degraded_with(shop: &Shop, bad: &Release, faults: &[Fault]) -> Run {
    lingers(shop);
    shop.probe().plan_faults(faults);
    shop.probe().start_trace();
    let run = Flyhot::upgrade(shop, bad)
        .args(["--no-rehearsal", "--revert-budget", "100ms"])
        .faulty()
        .run();
    run.expect("degraded", 15);
    run
}

/// What was told, the model can do; and the guard took over in this phase, if in any.
fn model_admits(shop: &Shop, run: &Run, taken_over: Option<&str>) {
    let (phase, told) = admitted(shop, run);
    assert_eq!(phase.as_deref(), taken_over, "{run}\n{told}");
}

/// The phase in which the guard took over, and what was told.
fn admitted(shop: &Shop, run: &Run) -> (Option<String>, Trace) {
    let told = shop.probe().end_trace();
    let trace = model::Trace::parse(&told.to_string()).unwrap();
    model::admits(&trace).unwrap_or_else(|rejected| panic!("{rejected}\n{run}\n{told}"));
    let phase = told.events.iter().find(|event| event[1] == "take_over");
    let phase = phase.map(|event| event[2].as_str().unwrap().to_owned());
    (phase, told)
}

/// The guard knows whom the worker had ended, but not by whom they were supervised.
#[test]
fn a_worker_that_dies_when_it_has_ended_processes_leaves_their_supervisor_forgiven() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let bad = release_bad_when(&v2, "N rem 10 =:= 7", "error(bad)");
    // With all of them ended, and with half: the guard is told of the thaw neither time.
    for fault in [
        befalls_the_worker("thawing", 1, "die"),
        befalls_the_worker("ending", 6, "die"),
    ] {
        let shop = Shop::of(&v1)
            .carts(10)
            .pool(100)
            .node(|node| node.env("SHOP_POOL_RESTARTS", "2"))
            .start();
        let pids = shop.pool_pids();
        let run = degraded_with(&shop, &bad, &[fault]);
        assert_eq!(run.node(0)["processes"]["failed"], 10, "{run}");
        let codes = run.reason_codes();
        let ended = codes.iter().filter(|code| **code == "process_ended");
        assert_eq!(ended.count(), 10, "{run}");
        model_admits(&shop, &run, Some("degrading"));
        wait_until("they were started again", SOON, || {
            let pool = shop.pool();
            (1..=100).all(|n| pool[n - 1].starts_with("{fresh,") == (n % 10 == 7))
        });
        let after = shop.pool_pids();
        for n in 1..=100 {
            assert_eq!(pids[n - 1] == after[n - 1], n % 10 != 7, "worker {n}: {run}");
        }
        clean(&shop, &run);
    }
}

/// Where a failure cannot be undone: whatever befalls worker or guard on the way, that one process is ended, and no other.
#[test]
fn whatever_befalls_them_where_it_is_degraded_costs_one_process() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let bad = release(&v2, "error(bad)");
    let befalls_the_guard = |point: &str, what: &str| Fault::new("guard", point, 1, what);
    for (faults, taken_over) in [
        (vec![befalls_the_worker("degrading", 1, "die")], Some("undoing")),
        (vec![befalls_the_worker("degrading", 1, "fail")], Some("undoing")),
        (vec![befalls_the_worker("degrading", 1, "{delay, 100}")], None),
        (vec![befalls_the_guard("{noted, degrading}", "die")], None),
        (vec![befalls_the_guard("{noted, degrading}", "fail")], None),
        (
            vec![befalls_the_guard("{noted, degrading}", "{delay, 100}")],
            None,
        ),
        (
            vec![
                befalls_the_worker("thawing", 1, "die"),
                befalls_the_guard("take_over", "{delay, 100}"),
            ],
            Some("degrading"),
        ),
    ] {
        let shop = Shop::of(&v1).carts(10).pool(20).start();
        let pids = shop.pool_pids();
        let run = degraded_with(&shop, &bad, &faults);
        assert_eq!(run.node(0)["processes"]["failed"], 1, "{faults:?}: {run}");
        model_admits(&shop, &run, taken_over);
        wait_until("it was started again", SOON, || {
            let pool = shop.pool();
            pool.len() == 20 && (1..=20).all(|n| pool[n - 1].starts_with("{fresh,") == (n == BAD))
        });
        let after = shop.pool_pids();
        for n in 1..=20 {
            assert_eq!(
                pids[n - 1] == after[n - 1],
                n != BAD,
                "worker {n}: {faults:?}: {run}"
            );
        }
        clean(&shop, &run);
    }
}

/// One is killed by its own code_change, and its supervisor ends the other one for it.
#[test]
fn whoever_ends_with_one_that_died_in_the_window_is_counted() {
    let with = |version: u64| {
        let twin = format!(
            "-module(twin).
             -behaviour(gen_server).
             -export([start_link/1, init/1, handle_call/3, handle_cast/2, code_change/3]).
             start_link(Name) -> gen_server:start_link({{local, Name}}, ?MODULE, Name, []).
             init(Name) -> {{ok, {{{version}, Name}}}}.
             handle_call(_, _, S) -> {{reply, S, S}}.
             handle_cast(_, S) -> {{noreply, S}}.
             code_change(_, {{_, left}}, _) -> exit(self(), kill);
             code_change(_, {{_, Name}}, _) -> {{ok, {{{version}, Name}}}}.\n"
        );
        let v1 = Release::shop(Otp::under_test(), "v1");
        v1.variant().erlang("twin", &twin).build()
    };
    let shop = Shop::of(&with(1)).carts(10).pool(10).start();
    shop.probe().eval(
        "{module, twin} = code:load_file(twin),
         {ok, Twins} = 'Elixir.Supervisor':start_link([#{id => N, start => {twin, start_link, [N]}} || N <- [left, right]],
                                                      [{strategy, one_for_all}]),
         unlink(Twins), ok.",
    );
    let before = shop.probe().eval("[whereis(left), whereis(right)].");
    let run = Flyhot::upgrade(&shop, &with(2)).run();
    run.expect("upgraded", 0);
    assert_eq!(run.node(0)["processes"]["died"], 2, "{run}");
    reason(&run, "process_died", "processes");
    wait_until("both were started again", SOON, || {
        let after = shop.probe().eval("[whereis(left), whereis(right)].");
        after != before && !after.contains("undefined")
    });
    assert_eq!(
        shop.probe().eval("[sys:get_state(N) || N <- [left, right]]."),
        "[{2,left},{2,right}]",
        "{run}"
    );
    clean(&shop, &run);
}

/// Whoever starts processes is held until the swap, and a failure found after it is undone later: in between they start
/// on the new code.
#[test]
fn who_was_born_on_new_code_that_was_taken_back_is_named() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let bad = release(&Release::shop(Otp::under_test(), "v2"), "error(bad)");
    let late = befalls_the_worker("migrate", 1, "{delay, 800}");
    // By the worker that took it back, and by a guard that finds it taken back.
    for faults in [
        vec![late.clone()],
        vec![late, befalls_the_worker("after_back", 1, "die")],
    ] {
        let taken_over = (faults.len() > 1).then_some("undoing");
        let shop = Shop::of(&v1).carts(10).pool(10).start();
        shop.probe().eval(
            "register(midwife, spawn(fun() ->
         %% An outcome names no more than twenty.
         Born = fun Born(10) -> receive stop -> ok end;
                    Born(Strays) ->
             {ok, P} = gen_server:start(pool_worker, 1000, []),
             %% More than ten a second would be given up.
             timer:sleep(150),
             Born(Strays + case sys:get_state(P, infinity) of {fresh, _, _} -> 1; _ -> 0 end)
         end,
         Born(0)
     end)), ok.",
        );
        shop.probe().plan_faults(&faults);
        shop.probe().start_trace();
        // One that is born while they are frozen ends that attempt.
        let run = Flyhot::upgrade(&shop, &bad)
            .args([
                "--no-rehearsal",
                "--revert-budget",
                "20s",
                "--freeze-attempts",
                "50",
            ])
            .faulty()
            .run();
        shop.probe().eval("exit(whereis(midwife), kill), ok.");
        run.expect("reverted", 11);
        model_admits(&shop, &run, taken_over);
        let strays = shop.probe().json(
            "[list_to_binary(pid_to_list(P)) || P <- processes(), {_, D} <- [process_info(P, dictionary)],
         lists:keyfind('$initial_call', 1, D) =:= {'$initial_call', {pool_worker, init, 1}},
         element(1, sys:get_state(P)) =:= fresh].",
        );
        let strays = strays.as_array().unwrap();
        assert!(!strays.is_empty(), "nobody was born meanwhile: {run}");
        for stray in strays {
            reason(&run, "newborn", stray.as_str().unwrap());
        }
        clean(&shop, &run);
    }
}

/// A process that speaks sys by itself and does this when it is resumed.
fn resumed(module: &str, version: u64, continues: &str, asked: bool) -> String {
    let (export, code_change) = match asked {
        true => (
            ", system_code_change/4",
            format!("system_code_change({{_, N}}, _, _, _) -> {{ok, {{{version}, N}}}}."),
        ),
        false => ("", String::new()),
    };
    format!(
        "-module({module}).
         -export([start/0, init/1, loop/2, system_continue/3, system_terminate/4{export}]).
         start() -> proc_lib:start(?MODULE, init, [self()]).
         init(P) -> register(?MODULE, self()), proc_lib:init_ack(P, {{ok, self()}}), loop(P, {{{version}, 0}}).
         loop(P, S) ->
             receive
                 {{system, F, R}} -> sys:handle_system_msg(R, F, P, ?MODULE, [], S);
                 {{look, F}} -> F ! S, ?MODULE:loop(P, S)
             end.
         system_continue(P, _, {{V, N}}) -> {continues}.
         system_terminate(R, _, _, _) -> exit(R).
         {code_change}\n"
    )
}

/// Whoever asked it in that instant has its answer of the new code.
#[test]
fn what_went_on_during_its_proof_is_not_taken_back() {
    let plain = "?MODULE:loop(P, {V, N})";
    let v1 = Release::shop(Otp::under_test(), "v1")
        .variant()
        .erlang("waking", &resumed("waking", 1, plain, true))
        .erlang("dying", &resumed("dying", 1, plain, true))
        .build();
    let on = "?MODULE:loop(P, {V, N + 1})";
    for (asked, continues, outcome, exit_code, state) in [
        (true, plain, "reverted", 11, "{1,0}"),
        // Once for its proof, once for the thaw.
        (true, on, "degraded", 15, "{2,2}"),
        // The same of one that keeps its state.
        (false, plain, "reverted", 11, "{1,0}"),
        (false, on, "degraded", 15, "{1,2}"),
    ] {
        let v2 = Release::shop(Otp::under_test(), "v2")
            .variant()
            .erlang("waking", &resumed("waking", 2, continues, asked))
            .erlang("dying", &resumed("dying", 2, "exit({P, V, N})", true))
            .build();
        let shop = Shop::of(&v1).carts(10).pool(10).start();
        shop.probe().eval(
            "[begin {module, M} = code:load_file(M), {ok, _} = M:start() end || M <- [waking, dying]], ok.",
        );
        shop.probe().start_trace();
        let run = Flyhot::upgrade(&shop, &v2).faulty().run();
        run.expect(outcome, exit_code);
        model_admits(&shop, &run, None);
        assert_eq!(
            shop.probe().eval("waking ! {look, self()}, receive S -> S end."),
            state,
            "{run}"
        );
        assert_eq!(shop.probe().eval("whereis(dying)."), "undefined", "{run}");
        clean(&shop, &run);
    }
}

/// A message that comes when its mailbox was just seen to be empty makes it call one that is frozen: it does not come back before
/// the thaw, and nothing is wrong with it.
#[test]
fn one_that_calls_a_frozen_one_in_the_instant_of_its_proof_is_no_failure() {
    let server = |name: &str, tag: &str| {
        format!(
            "-module({name}).
             -behaviour(gen_server).
             -export([start/1, init/1, handle_call/3, handle_cast/2, code_change/3]).
             start(N) -> gen_server:start({{local, list_to_atom(\"{name}_\" ++ integer_to_list(N))}}, ?MODULE, 0, []).
             init(N) -> {{ok, {{{tag}, N}}}}.
             handle_call(ping, _, S) -> {{reply, {tag}, S}}.
             handle_cast(ask, {{_, N}}) -> {tag} = gen_server:call(called_1, ping, infinity), {{noreply, {{{tag}, N + 1}}}}.
             code_change(_, {{_, N}}, _) -> {{ok, {{{tag}, N}}}}.\n"
        )
    };
    let with = |tag: &str| {
        let base = Release::shop(Otp::under_test(), "v1").variant();
        base.erlang("calling", &server("calling", tag))
            .erlang("called", &server("called", tag))
            .build()
    };
    let (v1, v2) = (with("v1"), with("v2"));
    let mut proven = 0;
    // Which of the two kinds is proven first is the node's to choose.
    for nth in [1, 2] {
        let shop = Shop::of(&v1).carts(10).pool(10).start();
        shop.probe().eval(
            "[{module, M} = code:load_file(M) || M <- [calling, called]], {ok, _} = called:start(1),
             [{ok, _} = calling:start(N) || N <- [1, 2]], ok.",
        );
        shop.whenever_told(
            "{struck, _, _, _}",
            "gen_server:cast(calling_1, ask), gen_server:cast(calling_2, ask)",
        );
        shop.probe()
            .plan_faults(&[befalls_the_worker("proving_one", nth, "{delay, 300}")]);
        let run = Flyhot::upgrade(&shop, &v2).faulty().run();
        run.expect("upgraded", 0);
        // Their messages may have come before they were looked at: then they are not let run at all.
        let reasons = run.node(0)["reasons"].as_array().unwrap();
        let unproven = reasons
            .iter()
            .any(|reason| reason["code"] == "not_proven" && reason["subject"] == "calling");
        proven += usize::from(!unproven);
        wait_until("both have their answer", SOON, || {
            shop.probe()
                .eval("[sys:get_state(P) || P <- [calling_1, calling_2]].")
                == "[{v2,1},{v2,1}]"
        });
        shop.probe().eval("unregister(flyhot_trace).");
        clean(&shop, &run);
    }
    assert!(proven > 0, "they were never let run");
}

/// The same message keeps it busy until the agent has left.
#[test]
fn one_that_is_busy_since_the_instant_of_its_proof_keeps_no_copy_of_its_state() {
    let with = |tag: &str| {
        let slow = format!(
            "-module(slow).
             -behaviour(gen_server).
             -export([start/0, init/1, handle_call/3, handle_cast/2]).
             start() -> gen_server:start({{local, slow}}, ?MODULE, 0, []).
             init(N) -> {{ok, N}}.
             handle_call(ping, _, N) -> {{reply, {tag}, N}}.
             handle_cast(work, N) -> working:until_told(N).\n"
        );
        // It returns into nothing of what changes.
        let working = "-module(working).
             -export([until_told/1]).
             until_told(N) -> receive go_on -> {noreply, N + 1} end.\n";
        let base = Release::shop(Otp::under_test(), "v1").variant();
        base.erlang("slow", &slow).erlang("working", working).build()
    };
    let (v1, v2) = (with("v1"), with("v2"));
    let shop = Shop::of(&v1).carts(10).pool(10).start();
    shop.probe()
        .eval("[{module, M} = code:load_file(M) || M <- [working, slow]], {ok, _} = slow:start(), ok.");
    shop.whenever_told("{struck, _, _, _}", "gen_server:cast(slow, work)");
    shop.probe()
        .plan_faults(&[befalls_the_worker("proving_one", 1, "{delay, 300}")]);
    let run = Flyhot::upgrade(&shop, &v2).faulty().run();
    run.expect("failed", 13);
    shop.probe().eval("unregister(flyhot_trace).");
    let left = "[whereis(flyhot_agent), code:is_loaded(flyhot_agent)].";
    wait_until("the agent has left", SOON, || {
        shop.probe().eval(left) == "[undefined,false]"
    });
    shop.probe().eval("slow ! go_on.");
    assert_eq!(shop.probe().eval("sys:get_state(slow)."), "1", "{run}");
    assert_eq!(
        shop.probe()
            .eval("[K || {K, _} <- element(2, process_info(whereis(slow), dictionary)), lists:prefix(\"$flyhot\", atom_to_list(K))]."),
        "[]",
        "{run}"
    );
}

/// Nobody waits for the answer any more: the agent leaves, and it does not end what it asked.
#[test]
fn a_try_that_outlives_whoever_asked_for_it_harms_nobody() {
    let with = |tag: &str, asked: &str| {
        let slow = format!(
            "-module(slow).
             -behaviour(gen_server).
             -export([start/0, init/1, handle_call/3, handle_cast/2, code_change/3]).
             start() -> gen_server:start({{local, slow}}, ?MODULE, 0, []).
             init(N) -> {{ok, N}}.
             handle_call(ping, _, N) -> {{reply, {tag}, N}}.
             handle_cast(_, N) -> {{noreply, N}}.
             code_change(_, N, _) -> {{ok, {asked}}}.\n"
        );
        let base = Release::shop(Otp::under_test(), "v1").variant();
        let go_on = "-module(go_on).\n-export([now/0]).\nnow() -> ok.\n";
        base.erlang("slow", &slow).erlang("go_on", go_on).build()
    };
    // By what it calls it ends: after minutes, or when that module is loaded.
    let long = "lists:foldl(fun(_, A) -> case erlang:function_exported(go_on, now, 0) of
                    true -> A;
                    false -> lists:foldl(fun(X, B) -> B + X - X end, A, lists:seq(1, 100000))
                end end, N, lists:seq(1, 1000000))";
    let (v1, v2) = (with("v1", "N"), with("v2", long));
    let shop = Shop::of(&v1).carts(10).pool(10).start();
    shop.probe()
        .eval("{module, slow} = code:load_file(slow), {ok, _} = slow:start(), ok.");
    let pid = shop.probe().eval("whereis(slow).");
    let mut running = Flyhot::upgrade(&shop, &v2)
        .args(["--quiesce-timeout", "1s"])
        .spawn();
    running.wait_for_step("rehearse");
    let inside =
        "{_, F} = process_info(whereis(slow), current_stacktrace), lists:keymember(code_change, 2, F).";
    wait_until("it tries", SOON, || shop.probe().eval(inside) == "true");
    running.kill();
    wait_until("the agent has left", SOON, || {
        shop.probe()
            .eval("[whereis(flyhot_agent), code:is_loaded(flyhot_agent)].")
            == "[undefined,false]"
    });
    assert_eq!(shop.probe().eval(inside), "true");
    shop.probe().eval("{module, go_on} = code:load_file(go_on).");
    wait_until("nobody is inside the agent", SOON, || {
        shop.probe().eval("erlang:check_old_code(flyhot_agent).") == "false"
    });
    assert_eq!(shop.probe().eval("whereis(slow)."), pid);
    assert_eq!(shop.probe().eval("sys:get_state(slow)."), "0");
    assert_eq!(shop.probe().suspended(), NONE);
}

/// Handlers of one module in one manager differ by nothing but their place.
#[test]
fn a_handler_that_is_there_more_than_once_gets_its_own_state_back() {
    let with = |base: &Release, tag: &str| {
        let twice = format!(
            "-module(twice).
             -behaviour(gen_event).
             -export([init/1, handle_event/2, handle_call/2, code_change/3]).
             init(N) -> {{ok, N}}.
             handle_event(_, N) -> {{ok, N}}.
             handle_call(ping, N) -> {{ok, {tag}, N}}.
             code_change(_, N, _) -> {{ok, {{{tag}, N}}}}.\n"
        );
        base.variant().erlang("twice", &twice).build()
    };
    let otp = Otp::under_test();
    let (v1, v2) = (
        with(&Release::shop(otp, "v1"), "v1"),
        with(&Release::shop(otp, "v2"), "v2"),
    );
    let shop = Shop::of(&v1).carts(10).pool(10).start();
    shop.probe().eval(
        "{module, twice} = code:load_file(twice), {ok, P} = gen_event:start({local, manager}),
         [ok = gen_event:add_handler(P, twice, N) || N <- [1, 2, 3]], ok.",
    );
    let states = || {
        shop.probe()
            .eval("[S || {twice, _, S} <- sys:get_state(manager)].")
    };
    let before = states();
    let bad = release(&v2, "error(bad)");
    let run = Flyhot::upgrade(&shop, &bad).args(["--no-rehearsal"]).run();
    run.expect("reverted", 11);
    assert_eq!(states(), before, "{run}");
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    assert_eq!(states(), "[{v2,3},{v2,2},{v2,1}]");
}

/// What `-pa` names is looked at before what the boot file names.
#[test]
fn what_hides_the_new_code_from_the_next_start_is_named() {
    let base = Release::shop(Otp::under_test(), "v1");
    let with = |tag: &str| {
        let patched = format!("-module(patched).\n-export([tag/0]).\ntag() -> {tag}.\n");
        base.variant().erlang("patched", &patched).build()
    };
    let (v1, v2) = (with("v1"), with("v2"));
    let patches = Scratch::new("patches");
    fs::copy(
        v1.ebin("shop").join("patched.beam"),
        patches.path().join("patched.beam"),
    )
    .unwrap();
    let directory = patches.path().to_str().unwrap().to_owned();
    let shop = Shop::of(&v1)
        .carts(10)
        .pool(10)
        .node(|node| node.flags(["-pa", &directory]))
        .start();
    for outcome in ["upgraded", "nothing_to_do"] {
        let run = Flyhot::upgrade(&shop, &v2).run();
        run.expect(outcome, 0);
        let reason = run.reason("not_persisted");
        assert_eq!(reason["subject"], "patched", "{run}");
        assert!(reason["sentence"].as_str().unwrap().contains("-pa"), "{run}");
        assert_eq!(shop.probe().eval("patched:tag()."), "v2");
    }
    fs::remove_file(patches.path().join("patched.beam")).unwrap();
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("nothing_to_do", 0);
    assert!(!run.reason_codes().contains(&"not_persisted"), "{run}");
}

/// The new code may be why.
#[test]
fn a_node_that_stops_behind_its_window_is_no_success() {
    let otp = Otp::under_test();
    let shop = Shop::of(&Release::shop(otp, "v1")).carts(10).pool(10).start();
    shop.probe()
        .plan_faults(&[Fault::new("guard", "stopping", 1, "halt")]);
    let run = Flyhot::upgrade(&shop, &Release::shop(otp, "v2")).faulty().run();
    run.expect("failed", 24);
    assert_eq!(run.node(0)["outcome"], "upgraded", "{run}");
}

/// A driver that waits in its knock for a process that is held.
fn knocking(shop: &Shop, release: &Release, patience: &str) -> Running {
    shop.hold();
    let mut running = Flyhot::upgrade(shop, release)
        .args(["--quiesce-timeout", patience])
        .spawn();
    running.wait_for_step("knock");
    running
}

/// The node sends it what nobody there wants: more than sockets hold, the rest waits in the node.
fn send_to_driver(shop: &Shop, times: usize, bytes: usize) {
    shop.probe().eval(&format!(
        "[Driver] = [N || N <- nodes(hidden), lists:prefix(\"probe\", atom_to_list(N)) =:= false],
         spawn(fun() -> [{{nobody, Driver}} ! binary:copy(<<0>>, {bytes}) || _ <- lists:seq(1, {times})] end), ok."
    ));
}

/// Its host stands still or is lost. The node counts ticks, but not while it waits in a send, as it does here: for a quarter of an hour.
#[test]
fn a_driver_that_is_not_there_any_more_keeps_the_node_from_nobody() {
    let otp = Otp::under_test();
    let shop = Shop::of(&Release::shop(otp, "v1")).carts(10).pool(10).start();
    let v2 = Release::shop(otp, "v2");
    let first = knocking(&shop, &v2, "60s");
    let pid = first.pid().to_string();
    flyhot_tests::signal("STOP", &pid);
    shop.let_go();
    send_to_driver(&shop, 1, 30_000_000);
    let second = Flyhot::upgrade(&shop, &v2).run();
    flyhot_tests::signal("CONT", &pid);
    second.expect("upgraded", 0);
    first.wait().expect("failed", 24);
    clean(&shop, &second);
}

/// What it is sent comes in drops, and its answers late: it is there all the while, and whoever comes next is told so.
#[test]
fn a_driver_on_a_slow_line_keeps_its_node() {
    let otp = Otp::under_test();
    let shop = Shop::of(&Release::shop(otp, "v1")).carts(10).pool(10).start();
    let v2 = Release::shop(otp, "v2");
    let first = knocking(&shop, &v2, "120s");
    let pid = first.pid().to_string();
    flyhot_tests::signal("STOP", &pid);
    send_to_driver(&shop, 40, 10_000_000);
    let second = thread::scope(|scope| {
        // Dropped when the second has ended, however it does.
        let (_runs, ended) = mpsc::channel::<()>();
        let pid = &pid;
        scope.spawn(move || {
            while ended.recv_timeout(DROP) == Err(RecvTimeoutError::Timeout) {
                flyhot_tests::signal("CONT", pid);
                flyhot_tests::signal("STOP", pid);
            }
        });
        Flyhot::upgrade(&shop, &v2).run()
    });
    flyhot_tests::signal("CONT", &pid);
    second.expect("refused", 20);
    shop.let_go();
    let first = first.wait();
    first.expect("upgraded", 0);
    clean(&shop, &first);
}

/// Of the agent there is only who thaws left: it has its driver all the same.
#[test]
fn a_driver_whose_worker_was_killed_keeps_its_node_until_it_knows() {
    let otp = Otp::under_test();
    let shop = Shop::of(&Release::shop(otp, "v1")).carts(10).pool(10).start();
    let v2 = Release::shop(otp, "v2");
    let first = knocking(&shop, &v2, "60s");
    let step = "{_, Said} = process_info(whereis(flyhot_agent), dictionary), proplists:get_value('$flyhot_step', Said).";
    wait_until("it waits on the node", SOON, || {
        shop.probe().eval(step) == "knock"
    });
    let pid = first.pid().to_string();
    flyhot_tests::signal("STOP", &pid);
    shop.probe().eval("exit(whereis(flyhot_agent), kill), ok.");
    let second = Flyhot::upgrade(&shop, &v2).spawn();
    let asks = "[P || P <- processes(), {_, Calls} <- [process_info(P, current_stacktrace)], {flyhot_agent, answers, _, _} <- Calls] =/= [].";
    wait_until("the first is asked", SOON, || shop.probe().eval(asks) == "true");
    flyhot_tests::signal("CONT", &pid);
    second.wait().expect("refused", 20);
    first.wait().expect("failed", 1);
    shop.let_go();
    let third = Flyhot::upgrade(&shop, &v2).run();
    third.expect("upgraded", 0);
    clean(&shop, &third);
}

/// The limit is for every process of the node: the agent's own are freed of it, or nobody would thaw what they have frozen.
#[test]
fn a_node_that_ends_large_processes_does_not_end_the_agent() {
    let otp = Otp::under_test();
    let shop = Shop::of(&Release::shop(otp, "v1"))
        .carts(10)
        .pool(10)
        .node(|node| node.flags(["+hmax", "20000000"]))
        .start();
    let limit = |name: &str| {
        format!(
            "#{{size := S}} = proplists:get_value(max_heap_size, element(2, process_info(whereis({name}), garbage_collection))),
             application:set_env(shop, {name}, S)"
        )
    };
    let both = format!(
        "(fun() -> {} end)(), (fun() -> {} end)()",
        limit("flyhot_agent"),
        limit("flyhot_guard")
    );
    shop.whenever_told("{told, worker, swap}", &both);
    let run = Flyhot::upgrade(&shop, &Release::shop(otp, "v2")).faulty().run();
    run.expect("upgraded", 0);
    let limits = "[application:get_env(shop, P) || P <- [flyhot_agent, flyhot_guard]].";
    assert_eq!(shop.probe().eval(limits), "[{ok,0},{ok,0}]", "{run}");
    shop.probe().eval("exit(whereis(flyhot_trace), kill), ok.");
    clean(&shop, &run);
}

#[test]
fn a_kind_whose_mailboxes_are_never_empty_is_named_as_not_proven() {
    let otp = Otp::under_test();
    let shop = Shop::of(&Release::shop(otp, "v1")).carts(10).pool(10).start();
    // Frozen, it has their next calls waiting.
    shop.probe().eval(
        "[spawn(fun() -> (fun Again() -> gen_server:call(shop_plain, call, infinity), Again() end)() end)
          || _ <- lists:seq(1, 4)], ok.",
    );
    let run = Flyhot::upgrade(&shop, &Release::shop(otp, "v2")).run();
    run.expect("upgraded", 0);
    assert_eq!(
        reason(&run, "not_proven", "shop_plain")["severity"],
        "note",
        "{run}"
    );
    clean(&shop, &run);
}

/// Two at a time, and the first answers when it was given up long ago: that is no answer of those asked since.
#[test]
fn an_answer_that_comes_too_late_is_nobody_elses() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let bad = release_bad_when(
        &Release::shop(Otp::under_test(), "v2"),
        "N > 16",
        "case atomics:add_get(persistent_term:get(arrived), 1, 1) of
             1 -> (fun Wait() ->
                       case atomics:get(persistent_term:get(arrived), 1) > 2 of
                           true -> {ok, {migrated, N, Casts}};
                           false -> timer:sleep(5), Wait()
                       end
                   end)();
             _ -> receive never -> ok end
         end",
    );
    let shop = Shop::of(&v1).carts(10).pool(20).start();
    shop.probe()
        .eval("persistent_term:put(arrived, atomics:new(1, [])).");
    shop.probe().start_trace();
    let run = Flyhot::upgrade(&shop, &bad)
        .args(["--no-rehearsal", "--in-flight", "2", "--window-budget", "1s"])
        .faulty()
        .run();
    model_admits(&shop, &run, None);
    run.expect("reverted", 11);
    assert_eq!(run.node(0)["processes"]["failed"], 4, "{run}");
    let ended = run.reason_codes();
    let ended = ended.iter().filter(|code| **code == "process_ended");
    assert_eq!(ended.count(), 3, "{run}");
    wait_until("its supervisor started it again", SOON, || {
        shop.pool().len() == 20
    });
    let expected: Vec<String> = (1..=20).map(|n| format!("{{worker,{n},0}}")).collect();
    assert_eq!(shop.pool(), expected, "{run}");
    clean(&shop, &run);
}

/// One at a time, and one of them never answers: whoever comes behind it is asked all the same, and put back.
#[test]
fn nobody_behind_one_that_never_returns_is_left_between_two_versions() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let bad = release(&Release::shop(Otp::under_test(), "v2"), "receive never -> ok end");
    for back in [true, false] {
        let shop = Shop::of(&v1).carts(10).pool(100).start();
        if !back {
            lingers(&shop);
        }
        let revert_budget = if back { "20s" } else { "100ms" };
        let run = Flyhot::upgrade(&shop, &bad)
            .args(["--no-rehearsal", "--in-flight", "1", "--window-budget", "1s"])
            .args(["--revert-budget", revert_budget])
            .run();
        let (outcome, exit_code, tag, fresh) = match back {
            true => ("reverted", 11, "worker", "worker"),
            false => ("degraded", 15, "migrated", "fresh"),
        };
        run.expect(outcome, exit_code);
        let expected: Vec<String> = (1..=100)
            .map(|n| format!("{{{},{n},0}}", if n == BAD { fresh } else { tag }))
            .collect();
        wait_until("its supervisor started it again", SOON, || {
            shop.pool().len() == 100
        });
        assert_eq!(shop.pool(), expected, "{run}");
        clean(&shop, &run);
    }
}

#[test]
fn effects_rule_the_rehearsal_out_and_happen_once() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let migrated = format!("{{ok, {{migrated, {BAD}, Casts}}}}");
    for (body, call) in [
        // A second run of it would raise; the table is the process's own.
        (
            format!("pool_effect = ets:new(pool_effect, [named_table, public]), {migrated}"),
            "ets.new/2",
        ),
        (format!("effects ! effect, {migrated}"), "a send"),
        (
            format!("ok = gen_server:call(effects, effect), {migrated}"),
            "gen_server.call/2",
        ),
    ] {
        let shop = Shop::of(&v1).carts(50).start();
        shop.probe().eval(
            "register(effects, spawn(fun() ->
                 Loop = fun(Loop, N) ->
                     receive
                         effect -> Loop(Loop, N + 1);
                         {'$gen_call', From, effect} -> gen_server:reply(From, ok), Loop(Loop, N + 1);
                         {count, Pid} -> Pid ! {effects, N}, Loop(Loop, N)
                     end
                 end,
                 Loop(Loop, 0)
             end)), ok.",
        );
        let pids = shop.pool_pids();
        let run = Flyhot::upgrade(&shop, &release(&v1, &body)).run();
        run.expect("upgraded", 0);
        let sentence = reason(&run, "not_rehearsed", "pool_worker")["sentence"]
            .as_str()
            .unwrap();
        assert!(sentence.contains(call), "{call} is not named: {run}");
        let happened = if call == "ets.new/2" {
            shop.probe()
                .eval("length([T || T <- ets:all(), ets:info(T, name) =:= pool_effect]).")
        } else {
            shop.probe()
                .eval("effects ! {count, self()}, receive {effects, N} -> N end.")
        };
        assert_eq!(happened, "1", "{call}: {run}");
        assert_eq!(shop.pool_pids(), pids, "{run}");
        let states: Vec<_> = (1..=1_000).map(|n| format!("{{migrated,{n},0}}")).collect();
        assert_eq!(shop.pool(), states, "{run}");
        clean(&shop, &run);
    }
}

#[test]
fn one_that_is_busy_is_named_with_its_stack_and_nothing_is_frozen() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let ok = format!("{{ok, {{migrated, {BAD}, Casts}}}}");
    // The same release in two wordings; the first is what the node runs.
    let runs = release(&v1, &ok);
    let next = release(&v1, &ok.replace("migrated", "migrated_again"));
    let shop = Shop::of(&runs).carts(50).start();
    let mut before = look(&shop);
    shop.probe().eval("pool_9 ! busy.");
    let command = || Flyhot::upgrade(&shop, &next).args(["--quiesce-timeout", "1s", "--no-rehearsal"]);
    let run = command().run();
    run.expect("not_quiesced", 14);
    let sentence = reason(&run, "straggler", &before.pids[8])["sentence"]
        .as_str()
        .unwrap();
    assert!(
        sentence.contains("timer:sleep/1") && sentence.contains("pool_worker:handle_info/2"),
        "its stack is not told: {run}"
    );
    assert_eq!(run.node(0)["window_us"], 0, "something was frozen: {run}");
    shop.probe().eval("application:set_env(shop, done, true).");
    wait_until("it is done", SOON, || {
        shop.probe()
            .eval("process_info(whereis(pool_9), message_queue_len).")
            == "{message_queue_len,0}"
            && shop
                .probe()
                .eval("element(2, process_info(whereis(pool_9), current_function)).")
                .contains("gen_server")
    });
    assert!(look(&shop) == before, "{run}");
    clean(&shop, &run);

    let run = command().run();
    run.expect("upgraded", 0);
    before.states[BAD - 1] = format!("{{migrated_again,{BAD},0}}");
    for n in (1..=1_000).filter(|n| *n != BAD) {
        before.states[n - 1] = format!("{{migrated,{n},0}}");
    }
    assert_eq!(shop.pool(), before.states, "{run}");
    assert_eq!(shop.pool_pids(), before.pids, "{run}");
    clean(&shop, &run);
}

#[test]
fn one_that_somebody_else_suspended_is_named_and_left_as_it_is() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = Shop::of(&v1).carts(50).pool(10).start();
    shop.probe().eval("ok = sys:suspend(shop_plain).");
    let suspended = shop.probe().suspended();
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("not_quiesced", 14);
    let sentence = reason(&run, "straggler", "shop_plain")["sentence"]
        .as_str()
        .unwrap();
    assert!(sentence.contains("suspended by somebody else"), "{run}");
    assert_eq!(run.node(0)["window_us"], 0, "something was frozen: {run}");
    assert_eq!(suspended.len(), 1);
    assert_eq!(shop.probe().suspended(), suspended, "{run}");
    shop.probe().eval("sys:resume(shop_plain).");
    // A supervisor is frozen too, though it is not migrated.
    let supervisor = "'Elixir.Shop.CartSupervisor'";
    shop.probe().eval(&format!("ok = sys:suspend({supervisor})."));
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("not_quiesced", 14);
    reason(&run, "straggler", "Shop.CartSupervisor");
    assert_eq!(run.node(0)["window_us"], 0, "something was frozen: {run}");
    assert_eq!(shop.probe().suspended().len(), 1, "{run}");
    shop.probe().eval(&format!("sys:resume({supervisor})."));
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    clean(&shop, &run);
}

/// The load of the old code is committed, whoever asked for it: the guard goes on from there.
#[test]
fn a_worker_that_dies_while_the_old_code_comes_back_leaves_it_wholly_back() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = Shop::of(&v1).carts(50).start();
    let bad = release(&v2, "error(bad)");
    shop.whenever_told("{told, worker, back}", "exit(whereis(flyhot_agent), kill)");
    let before = look(&shop);
    let mut by_guard = 0;
    for _ in 0..rounds(15, 60) {
        let run = Flyhot::upgrade(&shop, &bad)
            .args(["--no-rehearsal", "--revert-budget", "20s"])
            .faulty()
            .run();
        run.expect("reverted", 11);
        by_guard += usize::from(run.reason_codes().contains(&"guard_finished"));
        assert!(look(&shop) == before, "{run}");
        assert_eq!(shop.probe().suspended(), NONE, "{run}");
    }
    assert!(by_guard > 0, "the worker was never killed in time");
}

/// For three seconds in the middle of a migration, as a machine does that is moved: longer than any budget.
#[test]
fn a_machine_that_stands_still_is_no_reason_to_give_anybody_up() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    // Busy for a while, and still so when the machine goes on.
    let busy =
        "lists:foldl(fun(X, A) -> (X * A) rem 7919 end, 1, lists:seq(1, 400000)), {ok, {migrated, N, Casts}}";
    let to = release(&v2, busy);
    // The command that stops it may come too late, where the machine is busy.
    let stood_still = (0..20).any(|_| {
        let shop = Shop::of(&v1).carts(10).pool(20).start();
        stands_still(&shop);
        let run = Flyhot::upgrade(&shop, &to)
            .args(["--no-rehearsal"])
            .faulty()
            .run();
        run.expect("upgraded", 0);
        assert_eq!(run.node(0)["processes"]["failed"], 0, "{run}");
        assert_eq!(shop.probe().suspended(), NONE, "{run}");
        run.node(0)["phases_us"]["migrate"].as_u64().unwrap() > 2_000_000
    });
    assert!(stood_still, "it never stood still while it migrated");
}

/// Stops the node for three seconds once that one process is asked to migrate.
fn stands_still(shop: &Shop) {
    shop.probe().eval(&format!(
        "Self = self(),
         spawn(fun() ->
             Port = open_port({{spawn, \"sh -c 'read x; kill -STOP {pid}; sleep 3; kill -CONT {pid}'\"}}, []),
             register(flyhot_trace, self()),
             Self ! ready,
             Busy = list_to_binary(pid_to_list(whereis(pool_{BAD}))),
             (fun Spy() ->
                 receive
                     {{told, worker, {{migrate, P}}}} -> list_to_binary(pid_to_list(P)) =:= Busy andalso (Port ! {{self(), {{command, \"\\n\"}}}});
                     _ -> ok
                 end,
                 Spy()
             end)()
         end),
         receive ready -> ok end.",
        pid = shop.pid()
    ));
}

/// Its children take their time to start again, and the agent is long gone when all of them have.
#[test]
fn a_supervisor_counts_restarts_again_however_long_its_children_take() {
    const EVERY: usize = 400;
    let (v1, v3) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v3"),
    );
    let bad = release_bad_when(&v3, &format!("N rem {EVERY} =:= {BAD}"), "error(bad)");
    let shop = Shop::of(&v1)
        .carts(20)
        .node(|node| node.env("SHOP_POOL_RESTARTS", "2"))
        .start();
    let counts = "{process_info(whereis(shop_pool), dictionary), case sys:get_state(shop_pool, 60000) of
             Record -> {element(6, Record), element(8, Record)}
         end}.";
    let before = shop.probe().eval(counts);
    shop.probe()
        .eval("application:set_env(shop, starts_in_ms, 2000).");
    let inside = shop.inside(4);
    let run = Flyhot::upgrade(&shop, &bad)
        .args(["--no-rehearsal", "--revert-budget", "1s"])
        .run();
    run.expect("degraded", 15);
    assert_eq!(run.node(0)["processes"]["failed"], 3, "{run}");
    wait_until("they were started again", SOON, || shop.pool().len() == 1_000);
    assert_eq!(shop.probe().eval(counts), before, "{run}");
    clean(&shop, &run);
    inside.leave();
}

/// A process that speaks sys by itself and shows sys the half of what it keeps.
fn half_shown(version: u64) -> String {
    format!(
        "-module(half).
         -export([start/0, init/1, loop/2, system_continue/3, system_terminate/4, system_code_change/4,
                  system_get_state/1, system_replace_state/2]).
         start() -> proc_lib:start(?MODULE, init, [self()]).
         init(P) -> register(?MODULE, self()), proc_lib:init_ack(P, {{ok, self()}}), loop(P, {{half, {version}, {{inner, {version}}}}}).
         loop(P, S) ->
             receive
                 {{system, F, R}} -> sys:handle_system_msg(R, F, P, ?MODULE, [], S);
                 {{look, F}} -> F ! S, ?MODULE:loop(P, S)
             end.
         system_continue(P, _, {{half, {version}, {{inner, {version}}}}} = S) -> ?MODULE:loop(P, S).
         system_terminate(R, _, _, _) -> exit(R).
         system_get_state({{half, _, Inner}}) -> {{ok, Inner}}.
         system_replace_state(Fun, {{half, V, Inner}}) -> New = Fun(Inner), {{ok, New, {{half, V, New}}}}.
         system_code_change({{half, V, {{inner, V}}}}, _, _, _) -> timer:sleep(100), {{ok, {{half, {version}, {{inner, {version}}}}}}}.\n"
    )
}

#[test]
fn what_sys_shows_in_part_is_neither_rehearsed_nor_taken_back() {
    let with = |base: &Release, version| base.variant().erlang("half", &half_shown(version)).build();
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    for (bad, outcome, exit_code) in [(false, "upgraded", 0), (true, "degraded", 15)] {
        let to = with(&v2, 2);
        let to = if bad {
            release(&to, "receive never -> ok after 1 -> error(bad) end")
        } else {
            to
        };
        let shop = Shop::of(&with(&v1, 1)).carts(10).pool(10).start();
        shop.probe()
            .eval("{module, half} = code:load_file(half), {ok, _} = half:start(), ok.");
        let run = Flyhot::upgrade(&shop, &to).run();
        run.expect(outcome, exit_code);
        assert_eq!(run.node(0)["predicted"]["way_back"], "none", "{run}");
        let sentence = reason(&run, "not_rehearsed", "half")["sentence"]
            .as_str()
            .unwrap();
        assert!(sentence.contains("system_replace_state/2"), "{run}");
        assert_eq!(
            shop.probe().eval("half ! {look, self()}, receive S -> S end."),
            "{half,2,{inner,2}}",
            "{run}"
        );
        clean(&shop, &run);
    }
}

/// Its state cannot be given back to it before it is asked again, so the guard has to know whether it was.
#[test]
fn what_sys_shows_in_part_is_asked_once_whoever_ends() {
    let with = |name, version| {
        let base = Release::shop(Otp::under_test(), name);
        base.variant().erlang("half", &half_shown(version)).build()
    };
    let (v1, v2) = (with("v1", 1), with("v2", 2));
    for (fault, outcome, exit_code, taken_over) in [
        // Nobody was asked; it was, and answers when the worker is gone; all have answered.
        (
            befalls_the_worker("after_swap", 1, "die"),
            "upgraded",
            0,
            Some("swapping"),
        ),
        (
            befalls_the_worker("migrating", 3, "die"),
            "upgraded",
            0,
            Some("swapping"),
        ),
        (
            befalls_the_worker("proving", 1, "die"),
            "upgraded",
            0,
            Some("swapping"),
        ),
        // Its answer is lost, and nobody knows what it was.
        (Fault::new("guard", "handing_on", 1, "die"), "degraded", 15, None),
        (Fault::new("guard", "handing_on", 1, "fail"), "degraded", 15, None),
        (
            Fault::new("guard", "handing_on", 1, "{delay, 100}"),
            "upgraded",
            0,
            None,
        ),
    ] {
        let shop = Shop::of(&v1).carts(10).pool(10).start();
        // The youngest, so the first to be asked.
        shop.probe()
            .eval("{module, half} = code:load_file(half), {ok, _} = half:start(), ok.");
        shop.probe().plan_faults(std::slice::from_ref(&fault));
        shop.probe().start_trace();
        let run = Flyhot::upgrade(&shop, &v2).faulty().run();
        run.expect(outcome, exit_code);
        model_admits(&shop, &run, taken_over);
        let state = shop.probe().eval(
            "case whereis(half) of undefined -> gone; Half -> Half ! {look, self()}, receive S -> S end end.",
        );
        if exit_code == 0 {
            assert_eq!(state, "{half,2,{inner,2}}", "{fault:?}: {run}");
        } else {
            assert_eq!(state, "gone", "{fault:?}: {run}");
            reason(&run, "process_ended", "half");
        }
        clean(&shop, &run);
    }
}

/// A module that makes a fun; the first in the alphabet is the first to be purged.
fn a_fun(tag: &str) -> String {
    format!(
        "-module(a_fun).
         -export([make/0, tag/0]).
         make() -> fun(X) -> {{made, X}} end.
         tag() -> {tag}.\n"
    )
}

/// Has a process keep a fun of `a_fun` where only its stack shows it.
fn hold_a_fun(shop: &Shop) {
    shop.probe().eval(
        "{module, a_fun} = code:load_file(a_fun),
         register(holder, spawn(fun() ->
             F = a_fun:make(),
             Loop = fun(Loop) -> receive {call, P} -> P ! (catch F(1)), Loop(Loop) end end,
             Loop(Loop)
         end)), ok.",
    );
}

fn the_held_fun_works(shop: &Shop, run: &Run) {
    let answer = shop
        .probe()
        .eval("holder ! {call, self()}, receive Answer -> Answer end.");
    assert_eq!(answer, "{made,1}", "{run}");
}

/// In `a_request`, whose stack shows it outermost only, under more frames of a library than the VM tells.
#[test]
fn a_request_deep_in_a_library_counts_as_inside_and_costs_no_fun_of_others() {
    let below = "-module(below).
         -export([there/1, back/1]).
         there(0) -> receive leave -> ok end;
         there(N) -> {ok, ok} = {back(N), ok}.
         back(N) -> {ok, ok} = {ok(there(N - 1)), ok}, ok.
         ok({ok, ok}) -> ok;
         ok(ok) -> ok.\n";
    let a_request = |tag: &str| {
        format!(
            "-module(a_request).
             -export([serve/0, tag/0]).
             serve() -> {{ok, ok}} = below:there(7), served.
             tag() -> {tag}.\n"
        )
    };
    let with = |base: &Release, tag: &str| {
        base.variant()
            .erlang("a_fun", &a_fun(tag))
            .erlang("a_request", &a_request(tag))
            .erlang("below", below)
            .build()
    };
    let v1 = with(&Release::shop(Otp::under_test(), "v1"), "v1");
    let bad = release(&with(&Release::shop(Otp::under_test(), "v2"), "v2"), "error(bad)");
    let shop = Shop::of(&v1).carts(10).pool(10).start();
    hold_a_fun(&shop);
    shop.probe().eval(
        "[{module, M} = code:load_file(M) || M <- [a_request, below]], register(deep, spawn(a_request, serve, [])), ok.",
    );
    wait_until("it is deep inside", SOON, || {
        shop.probe().eval("process_info(whereis(deep), status).") == "{status,waiting}"
    });
    let stack = shop
        .probe()
        .eval("element(2, process_info(whereis(deep), current_stacktrace)).");
    assert!(!stack.contains("a_request"), "its stack is not deep: {stack}");
    let run = Flyhot::upgrade(&shop, &bad)
        .args(["--no-rehearsal", "--require-way-back"])
        .run();
    run.expect("refused", 10);
    reason(&run, "way_back_required", "way back");
    let run = Flyhot::upgrade(&shop, &bad)
        .args(["--no-rehearsal", "--revert-budget", "300ms"])
        .run();
    run.expect("degraded", 15);
    assert_eq!(run.node(0)["predicted"]["way_back"], "after_drain", "{run}");
    the_held_fun_works(&shop, &run);
    clean(&shop, &run);
}

/// On a large node not everybody is looked at; whoever began in a changed module is, however old.
#[test]
fn one_that_has_looped_in_a_changed_module_since_long_ago_counts_as_inside() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = Shop::of(&v1).carts(10).pool(10).start();
    lingers(&shop);
    shop.probe()
        .eval("[spawn(timer, sleep, [infinity]) || _ <- lists:seq(1, 6000)], ok.");
    let run = Flyhot::plan(&shop, &v2).args(["--require-way-back"]).run();
    run.expect("refused", 10);
    reason(&run, "way_back_required", "way back");
}

/// Whoever comes into a changed module behind the look of the plan is waited for before anything is purged, too.
#[test]
fn an_undo_that_was_to_be_exact_purges_nothing_while_somebody_is_inside() {
    let with = |base: &Release, tag: &str| base.variant().erlang("a_fun", &a_fun(tag)).build();
    let v1 = with(&Release::shop(Otp::under_test(), "v1"), "v1");
    let bad = release(&with(&Release::shop(Otp::under_test(), "v2"), "v2"), "error(bad)");
    let shop = Shop::of(&v1).carts(10).pool(10).start();
    hold_a_fun(&shop);
    shop.whenever_told(
        "{told, worker, {phase, freezing}}",
        "spawn('Elixir.Shop.Hold', hold, [1000000000])",
    );
    let run = Flyhot::upgrade(&shop, &bad)
        .args(["--no-rehearsal", "--revert-budget", "300ms"])
        .faulty()
        .run();
    run.expect("degraded", 15);
    assert_eq!(run.node(0)["predicted"]["way_back"], "exact", "{run}");
    the_held_fun_works(&shop, &run);
    shop.probe().eval("exit(whereis(flyhot_trace), kill), ok.");
    clean(&shop, &run);
}

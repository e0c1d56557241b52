//! Code that is still in use after it was replaced: by stacks, by funs that nobody sees on a stack, and modules that
//! the release no longer has.

use std::time::Duration;

use flyhot_tests::{Fault, Flyhot, Otp, Release, Run, Shop, wait_until};

const NONE: [&str; 0] = [];

/// A plan takes below a second, and whoever is busy at the start is so for less.
const SOON: Duration = Duration::from_secs(20);

/// The shop with `keeper` in a version of its own, and `shelf`.
fn release(tag: &str) -> Release {
    Release::shop(Otp::under_test(), "v1")
        .variant()
        .erlang(
            "keeper",
            &include_str!("../fixtures/old_code/keeper.erl").replace("?TAG", tag),
        )
        .erlang("shelf", include_str!("../fixtures/old_code/shelf.erl"))
        .build()
}

fn start(release: &Release) -> Shop {
    let shop = Shop::of(release).carts(10).pool(10).start();
    shop.probe()
        .eval("[{module, M} = code:load_file(M) || M <- [keeper, shelf]], ok.");
    shop
}

/// The sentences of the reasons with this code.
fn sentences(run: &Run, code: &str) -> Vec<String> {
    run.node(0)["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|reason| reason["code"] == code)
        .map(|reason| reason["sentence"].as_str().unwrap().to_owned())
        .collect()
}

fn one(run: &Run, code: &str) -> String {
    let found = sentences(run, code);
    assert_eq!(found.len(), 1, "{code}: {run}");
    found[0].clone()
}

fn clean(shop: &Shop, run: &Run) {
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

/// The upgrade that makes its code old leaves a looping process alone; the next one, which would have to kill it, is
/// refused and names it, unless it may.
#[test]
fn a_raw_loop_is_named_by_the_upgrade_that_would_kill_it() {
    let [v1, v2, v3] = ["v1", "v2", "v3"].map(release);
    let shop = start(&v1);
    let pid = shop
        .probe()
        .eval("P = spawn(keeper, loop, []), register(looping, P), pid_to_list(P).");
    let pid = pid.trim_matches('"').to_owned();
    let version = "looping ! {ask, self()}, receive {loop, V} -> V end.";
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    assert_eq!(shop.probe().eval(version), "v1");

    let run = Flyhot::upgrade(&shop, &v3).args(["--drain-timeout", "1s"]).run();
    run.expect("refused", 10);
    let said = one(&run, "lingerers");
    for part in [
        pid.as_str(),
        "looping",
        "keeper:loop/0",
        "for at most",
        "0 messages",
        "waited 1",
    ] {
        assert!(said.contains(part), "{part} is not said: {run}");
    }
    assert_eq!(shop.probe().eval(version), "v1");
    assert_eq!(shop.probe().eval("keeper:version()."), "{v2,captured}");
    clean(&shop, &run);

    let run = Flyhot::upgrade(&shop, &v3)
        .args(["--drain-timeout", "100ms", "--kill-lingerers"])
        .run();
    run.expect("upgraded", 0);
    assert!(one(&run, "lingerers_killed").contains(&pid), "{run}");
    assert_eq!(shop.probe().eval("whereis(looping)."), "undefined");
    assert_eq!(shop.probe().eval("keeper:version()."), "{v3,captured}");
    clean(&shop, &run);
}

/// One that leaves the old code before `--drain-timeout` is waited for, and no longer.
#[test]
fn one_that_leaves_in_time_is_waited_for() {
    let [v1, v2, v3] = ["v1", "v2", "v3"].map(release);
    let shop = start(&v1);
    shop.probe()
        .eval("register(leaver, spawn(keeper, stay, [])), ok.");
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    let mut running = Flyhot::upgrade(&shop, &v3)
        .args(["--drain-timeout", "60s"])
        .spawn();
    running.wait_for_step("drain");
    shop.probe()
        .eval("leaver ! {leave, self()}, receive left -> ok end.");
    let run = running.wait();
    run.expect("upgraded", 0);
    assert_eq!(sentences(&run, "lingerers"), NONE, "{run}");
    assert_eq!(shop.probe().eval("keeper:version()."), "{v3,captured}");
    let (begun, done) = run.step("drain").unwrap();
    assert!(done - begun < SOON, "{run}");
    clean(&shop, &run);
}

/// More than are named are ended, and counted.
#[test]
fn lingerers_that_are_not_named_are_counted() {
    let [v1, v2, v3] = ["v1", "v2", "v3"].map(release);
    let shop = start(&v1);
    shop.probe()
        .eval("[register(list_to_atom(\"loop_\" ++ integer_to_list(N)), spawn(keeper, loop, [])) || N <- lists:seq(1, 25)], ok.");
    let left = "length([N || N <- registered(), lists:prefix(\"loop_\", atom_to_list(N))]).";
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    let run = Flyhot::upgrade(&shop, &v3)
        .args(["--drain-timeout", "100ms"])
        .run();
    run.expect("refused", 10);
    let said = sentences(&run, "lingerers");
    assert_eq!(said.len(), 21, "{run}");
    assert!(said[20].starts_with("5 more processes"), "{run}");
    assert_eq!(shop.probe().eval(left), "25");
    let run = Flyhot::upgrade(&shop, &v3)
        .args(["--drain-timeout", "100ms", "--kill-lingerers"])
        .run();
    run.expect("upgraded", 0);
    let said = sentences(&run, "lingerers_killed");
    assert_eq!(said.len(), 21, "{run}");
    assert!(said[20].starts_with("5 more processes"), "{run}");
    assert_eq!(shop.probe().eval(left), "0");
    clean(&shop, &run);
}

/// Where a fun may be kept: how it gets there (`F`), how it is taken away again, and what the reason calls the place.
const PLACES: [(&str, &str, &str, &str); 13] = [
    (
        "a gen_server",
        "{ok, P} = shelf:server(F), register(kept, P)",
        "exit(whereis(kept), kill)",
        "gen_server shelf",
    ),
    (
        "a gen_statem",
        "{ok, P} = shelf:statem(#{deep => [{F}]}), register(kept, P)",
        "exit(whereis(kept), kill)",
        "gen_statem shelf",
    ),
    (
        "a handler of gen_event",
        "{ok, P} = shelf:event(F), register(kept, P)",
        "exit(whereis(kept), kill)",
        "gen_event gen_event",
    ),
    (
        "a child spec",
        "{ok, P} = shelf:supervisor(F), unlink(P), register(kept, P)",
        "exit(whereis(kept), kill)",
        "supervisor shelf",
    ),
    (
        "an Agent",
        "{ok, P} = 'Elixir.Agent':start('Elixir.Kernel', '+', [1, 1]), register(kept, P),
         sys:replace_state(P, fun(_) -> F end)",
        "exit(whereis(kept), kill)",
        "agent Agent.Server",
    ),
    (
        "a dictionary",
        "register(kept, spawn(fun() -> put(kept, F), receive stop -> ok end end))",
        "exit(whereis(kept), kill)",
        "raw",
    ),
    (
        "the environment of another fun",
        "{ok, P} = shelf:server(fun() -> F end), register(kept, P)",
        "exit(whereis(kept), kill)",
        "gen_server shelf",
    ),
    (
        "an ETS table",
        "register(kept, spawn(fun() -> ets:new(kept_table, [named_table, public]), receive stop -> ok end end)),
         (fun W() -> case ets:info(kept_table) of undefined -> W(); _ -> ets:insert(kept_table, {handler, F}) end end)()",
        "exit(whereis(kept), kill)",
        "ETS table kept_table",
    ),
    (
        "a table of handlers like telemetry's",
        "register(kept, spawn(fun() -> ets:new(handler_table, [named_table, duplicate_bag, {keypos, 2}, protected]),
             [ets:insert(handler_table, {handler, N, [shop, event, N], F, #{}}) || N <- lists:seq(1, 10)],
             receive stop -> ok end end)),
         (fun W() -> case ets:info(handler_table, size) of 10 -> ok; _ -> W() end end)()",
        "exit(whereis(kept), kill)",
        "ETS table handler_table",
    ),
    (
        "a persistent term",
        "persistent_term:put(kept_term, [F])",
        "persistent_term:erase(kept_term)",
        "persistent term kept_term",
    ),
    (
        "an environment",
        "application:set_env(shop, kept, F)",
        "application:unset_env(shop, kept)",
        "the environment of shop",
    ),
    (
        "a filter of a logger handler",
        "logger:add_handler(kept, logger_std_h, #{filters => [{kept, {fun(E, _) -> F(), E end, []}}]})",
        "logger:remove_handler(kept)",
        "logger",
    ),
    (
        "a message handler with state below a wrapper",
        "{ok, P} = shelf:server({wrapped, [#{callback => {F, []}}]}), register(kept, P)",
        "exit(whereis(kept), kill)",
        "gen_server shelf",
    ),
];

/// Wherever a local fun is kept, the upgrade that makes its build the one before says so, and the one that would take
/// that build away is refused before anything is touched; once the fun is gone it is done.
#[test]
fn a_local_fun_is_found_wherever_it_is_kept() {
    let releases = ["v1", "v2", "v3"].map(release);
    let shop = start(&releases[0]);
    for (at, (what, keep, leave, place)) in PLACES.iter().enumerate() {
        // Local captures and closures in turn.
        let fun = if at % 2 == 0 {
            "keeper:closure(1)"
        } else {
            "keeper:capture()"
        };
        let [now, next, last] = [at * 2, at * 2 + 1, at * 2 + 2].map(|at| at % 3);
        shop.probe().eval(&format!("F = {fun}, {keep}, ok."));
        let answer = "case whereis(kept) of undefined -> ok; P -> is_process_alive(P) end.";
        let run = Flyhot::upgrade(&shop, &releases[next]).run();
        run.expect("upgraded", 0);
        let said = one(&run, "closure_of_running_build");
        assert!(
            said.contains("local funs of keeper") && said.contains(place),
            "{what}: {run}"
        );

        let planned = Flyhot::plan(&shop, &releases[last]).run();
        let run = Flyhot::upgrade(&shop, &releases[last]).run();
        // A plan asks nobody, and says so where that matters.
        let by_a_process =
            place.starts_with("gen_") || place.starts_with("supervisor") || place.starts_with("agent");
        if by_a_process {
            one(&planned, "closures_sampled");
        }
        for run in [&run, &planned].into_iter().take(2 - usize::from(by_a_process)) {
            run.expect("refused", 10);
            let said = one(run, "closure_of_old_build");
            assert!(
                said.contains("keeper") && said.contains(place),
                "{what} after v{now}: {run}"
            );
        }
        assert_eq!(
            shop.probe().eval("keeper:version()."),
            format!("{{v{},captured}}", next + 1),
            "{run}"
        );
        assert_ne!(shop.probe().eval(answer), "false", "{what}");
        clean(&shop, &run);

        shop.probe().eval(&format!(
            "M = case whereis(kept) of undefined -> none; P -> monitor(process, P) end, {leave},
             case M of none -> ok; _ -> receive {{'DOWN', M, process, _, _}} -> ok end end."
        ));
        let run = Flyhot::upgrade(&shop, &releases[last]).run();
        run.expect("upgraded", 0);
        assert_eq!(
            sentences(&run, "closure_of_old_build"),
            NONE,
            "{what} is gone: {run}"
        );
        clean(&shop, &run);
    }
}

/// A function named by its module is safe for good, and funs that nobody keeps are no reason; who accepts that funs of
/// the build before fail gets just that.
#[test]
fn funs_that_are_safe_are_not_named_and_funs_that_fail_can_be_accepted() {
    let [v1, v2, v3] = ["v1", "v2", "v3"].map(release);
    let shop = start(&v1);
    shop.probe()
        .eval("persistent_term:put(safe, fun keeper:version/0), application:set_env(shop, safe, [fun keeper:loop/0]), ok.");
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    for code in [
        "closure_of_running_build",
        "closure_of_old_build",
        "closures_sampled",
    ] {
        assert_eq!(sentences(&run, code), NONE, "{run}");
    }
    assert_eq!(
        shop.probe().eval("(persistent_term:get(safe))()."),
        "{v2,captured}"
    );

    let shop = start(&v1);
    shop.probe()
        .eval("persistent_term:put(unsafe, keeper:closure(1)), ok.");
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    assert_eq!(shop.probe().eval("(persistent_term:get(unsafe))()."), "{v1,1}");
    let run = Flyhot::upgrade(&shop, &v3)
        .args(["--accept", "closure_of_old_build"])
        .run();
    run.expect("upgraded", 0);
    one(&run, "closure_of_old_build");
    assert_eq!(
        shop.probe()
            .eval("try (persistent_term:get(unsafe))() catch error:{badfun, _} -> badfun end."),
        "badfun"
    );
    // It has failed already, so that nothing more is lost with the next one.
    let run = Flyhot::upgrade(&shop, &v1).run();
    run.expect("upgraded", 0);
    assert_eq!(sentences(&run, "closure_of_old_build"), NONE, "{run}");
}

/// The keeper and a second module like it in this version, and a pool whose code_change fails where `bad`.
fn keepers(tag: &str, bad: bool) -> Release {
    let keeper = include_str!("../fixtures/old_code/keeper.erl").replace("?TAG", tag);
    let variant = release(tag)
        .variant()
        .erlang("looper", &keeper.replace("-module(keeper)", "-module(looper)"));
    match bad {
        false => variant,
        true => variant.erlang(
            "pool_worker",
            "-module(pool_worker).
             -behaviour(gen_server).
             -export([start_link/1, init/1, handle_call/3, handle_cast/2, code_change/3]).
             start_link(N) -> gen_server:start_link(?MODULE, N, []).
             init(N) -> {ok, N}.
             handle_call(_, _, S) -> {reply, S, S}.
             handle_cast(_, S) -> {noreply, S}.
             code_change(_, _, _) -> error(never).\n",
        ),
    }
    .build()
}

/// A revert takes the running build away and loads it again: its funs must live on.
#[test]
fn funs_of_the_running_build_survive_a_revert() {
    let (v1, bad) = (keepers("v1", false), keepers("v2", true));
    let shop = start(&v1);
    shop.probe()
        .eval("persistent_term:put(kept, keeper:closure(1)), ok.");
    let run = Flyhot::upgrade(&shop, &bad).args(["--no-rehearsal"]).run();
    run.expect("reverted", 11);
    assert_eq!(shop.probe().eval("keeper:version()."), "{v1,captured}");
    assert_eq!(shop.probe().eval("(persistent_term:get(kept))()."), "{v1,1}");
    clean(&shop, &run);
}

/// Somebody who does not leave one module makes a revert impossible: then nothing of the others is taken away either.
#[test]
fn funs_of_the_running_build_survive_a_revert_that_is_not_possible() {
    let (v1, bad) = (keepers("v1", false), keepers("v2", true));
    let shop = start(&v1);
    shop.probe().eval(
        "{module, looper} = code:load_file(looper), register(inside, spawn(looper, loop, [])),
         persistent_term:put(kept, keeper:closure(1)), ok.",
    );
    let run = Flyhot::upgrade(&shop, &bad).args(["--no-rehearsal"]).run();
    run.expect("degraded", 15);
    assert_eq!(shop.probe().eval("keeper:version()."), "{v2,captured}");
    assert_eq!(
        shop.probe().eval("(persistent_term:get(kept))()."),
        "{v1,1}",
        "{run}"
    );
    assert_eq!(
        shop.probe().eval("is_process_alive(whereis(inside))."),
        "true",
        "{run}"
    );
    clean(&shop, &run);
}

/// Hibernated processes are not all woken for it, and what was not looked at is said.
#[test]
fn what_was_not_looked_at_is_said() {
    let [v1, v2] = ["v1", "v2"].map(release);
    let shop = start(&v1);
    shop.probe().eval(
        "[begin {ok, P} = shelf:server(N), ok = gen_server:call(P, sleep) end || N <- lists:seq(1, 50)], ok.",
    );
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    let said = one(&run, "closures_sampled");
    let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(
        said.contains("for at most 5000 ms") && numbers[0] < numbers[1] && numbers[1] >= 50,
        "{run}"
    );
}

/// A release with the modules `gone` and `other`, and one without `gone`: whether `other` names it before and after.
fn without_gone(before: bool, after: bool) -> (Release, Release) {
    let gone = "-module(gone). -export([loop/0, run/0]).
                loop() -> receive stop -> ok end.
                run() -> loop(), ok.\n";
    let other = |tag: &str, named: bool| {
        let body = if named { "gone:loop()" } else { "ok" };
        format!(
            "-module(other). -export([tag/0, work/0, closure/0]). tag() -> {tag}. work() -> {body}.
             closure() -> fun() -> work() end.\n"
        )
    };
    let still = "-module(still).
                 -behaviour(gen_statem).
                 -export([wait/0, spin/2, machine/0, init/1, callback_mode/0, idle/3]).
                 wait() -> receive stop -> ok end.
                 spin(M, N) -> spin(M, N + 1).
                 machine() -> gen_statem:start(?MODULE, [], []).
                 init([]) -> {ok, idle, none}.
                 callback_mode() -> state_functions.
                 idle(_, _, _) -> {keep_state_and_data, postpone}.\n";
    let with = Release::shop(Otp::under_test(), "v1")
        .variant()
        .erlang("gone", gone)
        .erlang("still", still)
        .erlang("other", &other("v1", before))
        .build();
    let without = Release::shop(Otp::under_test(), "v1")
        .variant()
        .erlang("still", still)
        .erlang("other", &other("v2", after))
        .build();
    (with, without)
}

fn start_with_gone(with: &Release) -> Shop {
    let shop = Shop::of(with).carts(10).pool(10).start();
    shop.probe()
        .eval("[{module, M} = code:load_file(M) || M <- [gone, other, still]], ok.");
    shop
}

/// Goes there and back until the removed module stays for this reason: a process that is busy for a moment is one too.
fn told_why_it_stays(shop: &Shop, with: &Release, without: &Release, why: &str) -> Run {
    let mut run = Flyhot::upgrade(shop, without).run();
    for _ in 0..10 {
        run.expect("upgraded", 0);
        assert_eq!(sentences(&run, "module_deleted"), NONE, "{why}: {run}");
        if one(&run, "module_removed").contains(why) {
            return run;
        }
        Flyhot::upgrade(shop, with).run().expect("upgraded", 0);
        run = Flyhot::upgrade(shop, without).run();
    }
    panic!("not for the reason that {why}: {run}");
}

#[test]
fn a_removed_module_stays_for_whoever_is_inside_or_holds_it() {
    let cases = [
        (false, true, "ok", "other names it"),
        (
            false,
            false,
            "register(needing, spawn(gone, loop, []))",
            "run by 1 process",
        ),
        (
            false,
            false,
            "register(needing, spawn(fun() -> gone:run(), ok end))",
            "held by 1 process of raw erl_eval",
        ),
        (
            false,
            false,
            "persistent_term:put(callback, {gone, loop})",
            "persistent term callback",
        ),
        (
            false,
            false,
            "persistent_term:put(callback, fun gone:loop/0)",
            "persistent term callback",
        ),
        (
            false,
            false,
            "sys:replace_state(shop_plain, fun(S) -> [gone | S] end)",
            "shop_plain",
        ),
        (
            false,
            false,
            "P = spawn(still, wait, []), register(needing, P), P ! {call, gone}",
            "held by 1 process of raw still",
        ),
        (
            true,
            false,
            "persistent_term:put(callback, other:closure())",
            "the version before of other, which may name it, is still run or held by persistent term callback",
        ),
        (
            false,
            false,
            "register(needing, spawn(still, spin, [gone, 0]))",
            "held by 1 process of raw still whose stack cannot be looked at",
        ),
        (
            false,
            false,
            "register(needing, spawn(erlang, hibernate, [gone, run, []]))",
            "whose stack cannot be looked at",
        ),
        (
            false,
            false,
            "{ok, P} = still:machine(), register(needing, P), gen_statem:cast(P, {run, gone})",
            "of gen_statem still",
        ),
        (false, false, "ok", "gone (no application lists it"),
        (
            false,
            false,
            "sys:replace_state(shop_plain, fun(S) -> ets:new(private_one, [private]), S end)",
            "ETS table private_one of <",
        ),
        (
            false,
            false,
            "register(needing, spawn(fun() -> receive stop -> ok end end))",
            "a fun on the stack of <",
        ),
    ];
    for (before, after, need, kept) in cases {
        let (with, without) = without_gone(before, after);
        let shop = start_with_gone(&with);
        shop.probe().eval(&format!("{need}, ok."));
        let run = told_why_it_stays(&shop, &with, &without, kept);
        assert_eq!(shop.probe().eval("other:tag()."), "v2");
        let there = shop.probe().eval("erlang:function_exported(gone, loop, 0).");
        assert_eq!(there, "true", "{need}: {run}");
        assert_eq!(
            shop.probe()
                .eval("case whereis(needing) of P when is_pid(P) -> is_process_alive(P); _ -> true end."),
            "true",
            "{run}"
        );
        clean(&shop, &run);
    }
}

/// Of a node that runs v2, which has `Shop.Discount` from its boot on, goes back to v1, which does not, until it is deleted:
/// a process that is busy for a moment keeps it.
fn without_discount(shop: &Shop, v1: &Release, v2: &Release) -> Run {
    for _ in 0..10 {
        let run = Flyhot::upgrade(shop, v1).run();
        run.expect("upgraded", 0);
        if sentences(&run, "module_removed").is_empty() {
            return run;
        }
        Flyhot::upgrade(shop, v2).run().expect("upgraded", 0);
    }
    panic!("it was never deleted");
}

fn discount(shop: &Shop) -> String {
    shop.probe().eval(
        "{try 'Elixir.Shop.Discount':module_info(module) =:= 'Elixir.Shop.Discount' catch error:undef -> gone end,
          code:is_loaded('Elixir.Shop.Discount') =/= false, erlang:check_old_code('Elixir.Shop.Discount')}.",
    )
}

/// One that nobody needs goes, comes back with the release that has it, and is in nobody's way when the node boots again.
#[test]
fn a_removed_module_that_nobody_needs_is_deleted_and_comes_back_with_its_release() {
    let [v1, v2] = ["v1", "v2"].map(|code| Release::shop(Otp::under_test(), code));
    let shop = Shop::of(&v2).carts(10).pool(10).start();
    // Whoever is busy for a moment keeps it for that moment.
    wait_until("a plan finds nobody who needs it", SOON, || {
        let plan = Flyhot::plan(&shop, &v1).run();
        plan.expect("planned", 0);
        one(&plan, "module_removed").contains("Shop.Discount (nobody was found to need it")
    });
    for _ in 0..2 {
        let run = without_discount(&shop, &v1, &v2);
        assert!(
            one(&run, "module_deleted").contains("no longer has: Shop.Discount"),
            "{run}"
        );
        assert_eq!(discount(&shop), "{gone,false,false}", "{run}");
        clean(&shop, &run);
        let again = Flyhot::upgrade(&shop, &v1).run();
        again.expect("nothing_to_do", 0);
        assert_eq!(discount(&shop), "{gone,false,false}", "{again}");

        let back = Flyhot::upgrade(&shop, &v2).run();
        back.expect("upgraded", 0);
        // It came with an implementation of a protocol.
        assert_eq!(back.node(0)["modules"]["added"], 2, "{back}");
        assert_eq!(discount(&shop), "{true,true,false}", "{back}");
    }
    // It was started with v2, and starts with v1 from now on.
    without_discount(&shop, &v1, &v2);
    let booted = Shop::of(&shop.disk()).carts(10).pool(10).start();
    assert_eq!(booted.carts().len(), 10);
}

/// Whoever held it left since, and nothing else is to be done.
#[test]
fn a_removed_module_is_deleted_where_nothing_else_is_to_be_done() {
    let [v1, v2] = ["v1", "v2"].map(|code| Release::shop(Otp::under_test(), code));
    let shop = Shop::of(&v2).carts(10).pool(10).start();
    shop.probe()
        .eval("persistent_term:put(callback, {'Elixir.Shop.Discount', off}).");
    for outcome in ["upgraded", "nothing_to_do"] {
        let run = Flyhot::upgrade(&shop, &v1).run();
        run.expect(outcome, 0);
        assert!(
            one(&run, "module_removed").contains("persistent term callback"),
            "{run}"
        );
    }
    shop.probe().eval("persistent_term:erase(callback).");
    Flyhot::plan(&shop, &v1).run().expect("nothing_to_do", 0);
    assert_eq!(discount(&shop), "{true,true,false}");
    wait_until("nobody is found to need it", SOON, || {
        let run = Flyhot::upgrade(&shop, &v1).run();
        run.expect("nothing_to_do", 0);
        clean(&shop, &run);
        let deleted = !sentences(&run, "module_deleted").is_empty();
        assert_eq!(deleted, discount(&shop) == "{gone,false,false}", "{run}");
        deleted
    });
}

/// A fun of the build before is where nobody looks, so the module stays, and that build with it.
#[test]
fn a_module_that_stays_keeps_the_build_before_of_it() {
    let [v1, v2] = ["v1", "v2"].map(|code| Release::shop(Otp::under_test(), code));
    let with = |n: u8| {
        let source = format!(
            "defmodule Shop.Discount do\n def off(x), do: x - {n}\n def later, do: fn x -> x - {n} end\nend"
        );
        v2.variant().elixir("discount", &source).build()
    };
    let shop = Shop::of(&with(1)).carts(10).pool(10).start();
    shop.probe().eval(
        "sys:replace_state(shop_plain, fun(S) ->
             ets:insert(ets:new(own, [private, named_table]), {later, 'Elixir.Shop.Discount':later()}), S
         end), ok.",
    );
    Flyhot::upgrade(&shop, &with(2)).run().expect("upgraded", 0);
    let run = Flyhot::upgrade(&shop, &v1).run();
    run.expect("upgraded", 0);
    assert_eq!(sentences(&run, "module_deleted"), NONE, "{run}");
    let answer = shop.probe().eval(
        "Self = self(), sys:replace_state(shop_plain, fun(S) ->
             [{later, F}] = ets:lookup(own, later), Self ! {answer, catch F(10)}, S
         end), receive {answer, A} -> A end.",
    );
    assert_eq!(answer, "9", "{run}");
}

/// Their stacks cannot be looked at, and it is not tried again and again for each.
#[test]
fn thousands_that_hibernate_do_not_hold_up_the_look_for_who_needs_a_module() {
    let [v1, v2] = ["v1", "v2"].map(|code| Release::shop(Otp::under_test(), code));
    let still = "-module(still). -behaviour(gen_statem). -export([start/0, init/1, callback_mode/0, idle/3]).
                 start() -> gen_statem:start(?MODULE, [], []).
                 init([]) -> {ok, idle, none, hibernate}.
                 callback_mode() -> state_functions.
                 idle(_, _, _) -> keep_state_and_data.\n";
    let with = |base: &Release| base.variant().erlang("still", still).build();
    let (v1, v2) = (with(&v1), with(&v2));
    let shop = Shop::of(&v2).carts(10).pool(10).start();
    shop.probe().eval(
        "{module, still} = code:load_file(still), [{ok, _} = still:start() || _ <- lists:seq(1, 10000)], ok.",
    );
    let run = Flyhot::upgrade(&shop, &v1).run();
    run.expect("upgraded", 0);
    // From OTP 28 on the stack of one that hibernates is seen, but its state is not asked for.
    let why = match Otp::under_test().major() {
        ..28 => "whose stack cannot be looked at",
        _ => "not every state and table could be looked at",
    };
    assert!(one(&run, "module_removed").contains(why), "{run}");
    // docs/upgrade.md promises five seconds.
    let (begun, done) = run.step("closures").unwrap();
    assert!(done - begun < Duration::from_secs(15), "{run}");
}

/// Code that was just replaced and names it, and code that an earlier upgrade replaced, which may name anything.
#[test]
fn a_removed_module_stays_while_somebody_runs_code_of_before() {
    let raw =
        |work: &str| format!("-module(raw). -export([loop/0]). loop() -> receive stop -> {work} end.\n");
    let with = |code: &str, work: &str| {
        let base = Release::shop(Otp::under_test(), code);
        base.variant().erlang("raw", &raw(work)).build()
    };
    for (before, meanwhile) in [("'Elixir.Shop.Discount':off(1)", None), ("one", Some("two"))] {
        let shop = Shop::of(&with("v2", before)).carts(10).pool(10).start();
        shop.probe()
            .eval("{module, raw} = code:load_file(raw), register(inside, spawn(raw, loop, [])), ok.");
        if let Some(work) = meanwhile {
            Flyhot::upgrade(&shop, &with("v2", work))
                .run()
                .expect("upgraded", 0);
        }
        let run = Flyhot::upgrade(&shop, &with("v1", "two")).run();
        run.expect("upgraded", 0);
        let said = one(&run, "module_removed");
        // The others are what a process that is busy for a moment keeps it for.
        let whys = [
            "Shop.Discount (the version before of raw, which may name it, is still run or held by <",
            "cannot be looked at",
            "not every state",
        ];
        assert!(whys.iter().any(|why| said.contains(why)), "{run}");
        assert_eq!(discount(&shop), "{true,true,false}", "{run}");
    }
}

/// An agent that dies or fails in the middle leaves a node that the next upgrade puts right; one that stands still does not.
#[test]
fn a_deletion_that_is_cut_short_loses_nothing() {
    let [v1, v2] = ["v1", "v2"].map(|code| Release::shop(Otp::under_test(), code));
    for (point, what) in ["remove", "deleting", "deleted"]
        .iter()
        .flat_map(|point| ["die", "fail", "{delay, 100}"].map(|what| (point, what)))
    {
        let shop = Shop::of(&v2).carts(10).pool(10).start();
        shop.probe().plan_faults(&[Fault::new("worker", point, 1, what)]);
        let cut = what != "{delay, 100}";
        // A process that is busy for a moment keeps the module.
        let run = (0..10)
            .map(|_| {
                Flyhot::upgrade(&shop, &v2).run();
                Flyhot::upgrade(&shop, &v1).faulty().run()
            })
            .find(|run| match cut {
                true => run.to_string().contains("whether it is deleted is not known"),
                false => !sentences(run, "module_deleted").is_empty(),
            })
            .expect("it comes to the deletion");
        run.expect("upgraded", 0);
        shop.probe().plan_faults(&[]);
        assert_eq!(
            sentences(&run, "module_deleted").is_empty(),
            cut,
            "{point}: {run}"
        );
        clean(&shop, &run);
        let back = Flyhot::upgrade(&shop, &v2).run();
        back.expect("upgraded", 0);
        assert_eq!(discount(&shop), "{true,true,false}", "{point}, {what}: {back}");
    }
}

/// A process that goes round in the new code is in nobody's way.
#[test]
fn a_revert_does_not_wait_for_who_runs_the_new_code() {
    let steady = |tag: &str| {
        format!(
            "-module(steady). -export([loop/0]).
             loop() -> receive stop -> {tag} after 1 -> ?MODULE:loop() end.\n"
        )
    };
    let v1 = keepers("v1", false)
        .variant()
        .erlang("steady", &steady("v1"))
        .build();
    let bad = keepers("v2", true)
        .variant()
        .erlang("steady", &steady("v2"))
        .build();
    let shop = start(&v1);
    shop.probe()
        .eval("{module, steady} = code:load_file(steady), register(steady, spawn(steady, loop, [])), ok.");
    let run = Flyhot::upgrade(&shop, &bad).args(["--no-rehearsal"]).run();
    run.expect("reverted", 11);
    assert_eq!(run.node(0)["predicted"]["way_back"], "after_drain", "{run}");
    assert_eq!(sentences(&run, "process_ended"), NONE, "{run}");
    clean(&shop, &run);
}

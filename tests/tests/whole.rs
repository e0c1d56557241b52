//! What a process has besides its state goes through an upgrade untouched: its messages and their order, postponed
//! events, timers, links, monitors, its dictionary, its sleep. So do very many and very large ones.

use std::time::Duration;

use flyhot_tests::{Fault, Flyhot, Otp, Release, Run, Shop, wait_or_tell, wait_until};

const NONE: [&str; 0] = [];
const SOON: Duration = Duration::from_secs(30);

fn release(code: &str) -> Release {
    let of = |source: &str| source.replace("?TAG", code);
    Release::shop(Otp::under_test(), "v1")
        .variant()
        .erlang("holder", &of(include_str!("../fixtures/busy/holder.erl")))
        .erlang("patient", &of(include_str!("../fixtures/busy/patient.erl")))
        .erlang(
            "dozer",
            &of("-module(dozer). -behaviour(gen_event). -export([init/1, handle_event/2, handle_call/2, code_change/3]).
                 init(_) -> {ok, ?TAG, hibernate}.
                 handle_event(_, S) -> {ok, S, hibernate}.
                 handle_call(_, S) -> {ok, S, S, hibernate}.
                 code_change(_, _, _) -> {ok, ?TAG}."),
        )
        .build()
}

/// A shop in which `what` was done, and the release to upgrade it to.
fn start(what: &str) -> (Shop, Release) {
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = Shop::of(&v1).carts(10).pool(10).start();
    shop.probe()
        .eval("[{module, M} = code:load_file(M) || M <- [holder, patient, dozer]], ok.");
    shop.probe().eval(what);
    (shop, v2)
}

fn upgraded(shop: &Shop, to: &Release) -> Run {
    let run = Flyhot::upgrade(shop, to).run();
    run.expect("upgraded", 0);
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
    run
}

/// Casts are sent without a pause before, in and after the window: all arrive, in their order.
#[test]
fn messages_keep_their_order() {
    let (shop, v2) = start(
        "{ok, _} = holder:start(holder, <<>>), {ok, _} = patient:start(patient),
         [gen_statem:cast(patient, {n, N}) || N <- lists:seq(1, 100)],
         register(sender, spawn(fun() ->
             Send = fun(Send, N) ->
                 gen_server:cast(holder, {n, N}),
                 receive {stop, To} -> To ! {sent, N} after 0 -> erlang:yield(), N rem 100 =:= 0 andalso timer:sleep(1), Send(Send, N + 1) end
             end,
             Send(Send, 1)
         end)), ok.",
    );
    let run = upgraded(&shop, &v2);
    let sent = shop.probe().eval(
        "sender ! {stop, self()}, Sent = receive {sent, N} -> N end,
               {Sent > 1000, gen_server:call(holder, came, 60000) =:= lists:seq(1, Sent)}.",
    );
    assert_eq!(sent, "{true,true}", "{run}");
    let postponed = shop
        .probe()
        .eval("gen_statem:cast(patient, open), gen_statem:call(patient, came) =:= lists:seq(1, 100).");
    assert_eq!(postponed, "true", "{run}");
    assert_eq!(
        shop.probe().eval("{element(1, sys:get_state(holder)), sys:get_state(patient)} =:= {v2, {open, {v2, lists:reverse(lists:seq(1, 100))}}}."),
        "true"
    );
}

#[test]
fn dictionary_links_monitors_and_timers_stay() {
    let (shop, v2) = start(
        "{ok, P} = holder:start(holder, <<>>),
         Wait = fun() -> receive stop -> exit(stopped) end end,
         register(bound, spawn(Wait)),
         gen_server:call(holder, {bind, whereis(bound)}),
         %% One every millisecond for ten seconds: some fall due inside the window.
         [gen_server:cast(P, {tick, Ms}) || Ms <- lists:seq(1, 10000)], ok.",
    );
    let seen = "{_, D} = process_info(whereis(holder), dictionary),
         {whereis(holder), lists:sort(D), process_info(whereis(holder), [links, monitors, trap_exit])}.";
    let before = shop.probe().eval(seen);
    let run = upgraded(&shop, &v2);
    assert_eq!(shop.probe().eval(seen), before, "{run}");
    wait_until("all timers came", SOON, || {
        shop.probe().eval("length(gen_server:call(holder, came, 60000)).") == "10000"
    });
    let late = shop
        .probe()
        .json("lists:max([L || {late, L} <- gen_server:call(holder, came)]).")
        .as_u64()
        .unwrap();
    let freeze = run.node(0)["longest_freeze_us"].as_u64().unwrap() / 1000;
    // What a loaded machine adds to a timer of its own.
    assert!(
        late <= freeze + 1_000,
        "{late} ms late, frozen for {freeze} ms: {run}"
    );
    shop.probe().eval("bound ! stop, ok.");
    wait_until("exit and down came", SOON, || {
        shop.probe()
            .eval("[X || {_, stopped} = X <- lists:sort(gen_server:call(holder, came))].")
            == "[{down,stopped},{exit,stopped}]"
    });
}

/// A manager whose handlers answered `hibernate` is asked for them and sleeps on.
#[test]
fn managers_that_hibernate_sleep_on() {
    let (shop, v2) = start(
        "{ok, P} = gen_event:start({local, sleepy}), ok = gen_event:add_handler(P, dozer, []), gen_event:notify(P, any).",
    );
    let asleep = "process_info(whereis(sleepy), current_function).";
    let hibernates = || shop.probe().eval(asleep).contains("hibernate");
    wait_until("it hibernates", SOON, hibernates);
    Flyhot::plan(&shop, &v2).run().expect("planned", 0);
    wait_or_tell("it sleeps on after a plan", SOON, hibernates, || {
        shop.probe().eval(asleep)
    });
    let run = upgraded(&shop, &v2);
    wait_or_tell("it sleeps on", SOON, hibernates, || {
        format!("{} {run}", shop.probe().eval(asleep))
    });
    assert_eq!(
        shop.probe().eval("gen_event:call(sleepy, dozer, state)."),
        "v2",
        "{run}"
    );
}

#[test]
fn ten_thousand_that_hibernate_wake_up_new_and_sleep_on() {
    let (shop, v2) = start(
        "[begin {ok, P} = holder:start(list_to_atom(\"holder_\" ++ integer_to_list(N)), <<>>),
                gen_server:cast(P, sleep) end || N <- lists:seq(1, 10000)], ok.",
    );
    let asleep =
        "Holders = [P || N <- registered(), lists:prefix(\"holder_\", atom_to_list(N)), P <- [whereis(N)]],
         length([P || P <- Holders, {_, {_, F, _}} <- [process_info(P, current_function)],
                      lists:member(F, [hibernate, loop_hibernate])]).";
    wait_until("they hibernate", SOON, || shop.probe().eval(asleep) == "10000");
    let run = upgraded(&shop, &v2);
    assert_eq!(run.node(0)["processes"]["migrated"], 10_000, "{run}");
    let awake = "{length([N || N <- registered(), lists:prefix(\"holder_\", atom_to_list(N))]),
          [{N, process_info(P, [status, current_stacktrace, messages, dictionary])}
           || N <- registered(), lists:prefix(\"holder_\", atom_to_list(N)), P <- [whereis(N)],
              {_, {_, F, _}} <- [process_info(P, current_function)],
              not lists:member(F, [hibernate, loop_hibernate])]}.";
    wait_or_tell(
        "they hibernate again",
        SOON,
        || shop.probe().eval(asleep) == "10000",
        || format!("{}\n{run}", shop.probe().eval(awake)),
    );
    assert_eq!(
        shop.probe().eval(
            "lists:usort([element(1, sys:get_state(N)) || N <- registered(), lists:prefix(\"holder_\", atom_to_list(N))])."
        ),
        "[v2]",
        "{run}"
    );
}

/// States of 50 MB that share nothing: lists, so that a copy would be seen in time and memory.
#[test]
fn states_of_fifty_megabytes_are_not_copied() {
    let (shop, v2) = start(
        "[{ok, _} = holder:start(list_to_atom(\"holder_\" ++ integer_to_list(N)), <<>>) || N <- lists:seq(1, 4)],
         [sys:replace_state(list_to_atom(\"holder_\" ++ integer_to_list(N)),
                            fun({T, _, []}) -> {T, lists:seq(1, 3200000), []} end) || N <- lists:seq(1, 4)], ok.",
    );
    let sum = "[lists:sum(element(2, sys:get_state(list_to_atom(\"holder_\" ++ integer_to_list(N)), 60000))) || N <- lists:seq(1, 4)].";
    let before = shop.probe().eval(sum);
    let run = upgraded(&shop, &v2);
    assert_eq!(shop.probe().eval(sum), before, "{run}");
    // Copying one such state takes some 15 ms, a garbage collection of its heap 100 ms and more.
    let freeze = run.node(0)["longest_freeze_us"].as_u64().unwrap();
    assert!(freeze < 2_000_000, "{run}");
}

/// All through the upgrade some are stopped, some are killed, and some end with the process they are linked to: they
/// are counted as what they are, and nobody else is kept from the new code.
#[test]
fn those_that_end_meanwhile_are_deaths_and_no_failures() {
    let (shop, v2) = start(
        "Holder = fun(N) -> list_to_atom(\"holder_\" ++ integer_to_list(N)) end,
         Parents = [begin
             {ok, P} = holder:start(Holder(N), <<>>),
             %% Every third ends with a parent of its own, which its trap does not help against.
             case N rem 3 of
                 0 -> Parent = spawn(fun() -> receive stop -> exit(gone) end end),
                      sys:replace_state(P, fun(S) -> process_flag(trap_exit, false), link(Parent), S end),
                      Parent;
                 _ -> none
             end
         end || N <- lists:seq(1, 3000)],
         register(reaper, spawn(fun() ->
             [begin
                 case N rem 3 of
                     0 -> lists:nth(N, Parents) ! stop;
                     1 -> spawn(fun() -> gen_server:stop(Holder(N), normal, 60000) end);
                     2 -> exit(whereis(Holder(N)), kill)
                 end,
                 timer:sleep(1)
             end || N <- lists:seq(1, 1500)],
             receive stop -> ok end
         end)), ok.",
    );
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    let count = |key: &str| run.node(0)["processes"][key].as_u64().unwrap();
    assert_eq!(count("failed"), 0, "{run}");
    assert_eq!(
        count("affected"),
        count("migrated") + count("died") + count("skipped") + count("kept"),
        "{run}"
    );
    wait_until("the reaper is done", SOON, || {
        shop.probe()
            .eval("length([N || N <- registered(), lists:prefix(\"holder_\", atom_to_list(N))]).")
            == "1500"
    });
    let left = shop.probe().eval(
        "lists:usort([element(1, sys:get_state(N)) || N <- registered(), lists:prefix(\"holder_\", atom_to_list(N))]).",
    );
    assert_eq!(left, "[v2]", "{run}");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

/// When all are frozen one is killed, one ends with its parent and one is stopped by `gen_server:stop/1`: three deaths, before
/// the swap.
#[test]
fn those_that_end_in_the_freeze_are_deaths() {
    let (shop, v2) = start(
        "[{ok, _} = holder:start(list_to_atom(\"holder_\" ++ integer_to_list(N)), <<>>) || N <- lists:seq(1, 10)],
         register(parent, spawn(fun() -> receive stop -> exit(gone) end end)),
         sys:replace_state(holder_2, fun(S) -> process_flag(trap_exit, false), link(whereis(parent)), S end),
         register(flyhot_trace, spawn(fun Spy() ->
             receive
                 {told, worker, {phase, swapping}} ->
                     exit(whereis(holder_1), kill),
                     parent ! stop,
                     spawn(fun() -> gen_server:stop(holder_3) end);
                 _ -> ok
             end,
             Spy()
         end)), ok.",
    );
    // Time for them to end before the worker goes on.
    shop.probe()
        .plan_faults(&[Fault::new("guard", "{noted, swapping}", 1, "{delay, 300}")]);
    let run = Flyhot::upgrade(&shop, &v2).faulty().run();
    run.expect("upgraded", 0);
    let processes = &run.node(0)["processes"];
    assert_eq!(processes["died"], 3, "{run}");
    assert_eq!(processes["failed"], 0, "{run}");
    assert!(run.reason_codes().contains(&"process_died"), "{run}");
    let left = shop.probe().eval(
        "[{N, element(1, sys:get_state(N))} || N <- lists:sort(registered()), lists:prefix(\"holder_\", atom_to_list(N))].",
    );
    let expected: Vec<_> = ["10", "4", "5", "6", "7", "8", "9"]
        .map(|n| format!("{{holder_{n},v2}}"))
        .into();
    assert_eq!(left, format!("[{}]", expected.join(",")), "{run}");
    shop.probe().eval("exit(whereis(flyhot_trace), kill), ok.");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

/// A state timeout, a generic one and an event timeout that were set before the upgrade: each comes once, and no later than
/// the freeze made it. Whatever is asked of the machine on the way is no event to it.
#[test]
fn timeouts_of_a_state_machine_go_on() {
    let (shop, v2) = start("{ok, _} = patient:start(patient), gen_statem:call(patient, {timeouts, 4000}).");
    let run = upgraded(&shop, &v2);
    let mut came = serde_json::Value::Null;
    wait_until("all three came", SOON, || {
        came = shop
            .probe()
            // A call would be an event.
            .json("[[W, L] || {_, {_, Came}} <- [sys:get_state(patient, 60000)], {late, W, L} <- Came].");
        came.as_array().unwrap().len() >= 3
    });
    let came = came.as_array().unwrap();
    assert_eq!(came.len(), 3, "{came:?}: {run}");
    let freeze = run.node(0)["longest_freeze_us"].as_i64().unwrap() / 1000;
    for timeout in came {
        let late = timeout[1].as_i64().unwrap();
        // What a loaded machine adds to a timer of its own; one that began anew would be as late as the upgrade took.
        assert!(
            (0..=freeze + 500).contains(&late),
            "{timeout}, frozen for {freeze} ms: {run}"
        );
    }
}

//! Nodes with calls in flight: processes that wait for each other, under loads that drain and loads that never do.
//! Nobody is killed, no call times out, nobody is frozen past the budget; what cannot be brought to rest is given up.
//!
//! Every caller ends when a call of it fails, so its pid says that none did.

use std::time::Duration;

use flyhot_tests::{Fault, Flyhot, Otp, Release, Run, Shop, rounds, wait_until};

const NONE: [&str; 0] = [];

/// Far more than the longest queue of these tests takes, 2.4 s.
const SOON: Duration = Duration::from_secs(30);

/// `--window-budget` and the way back are two seconds each, when nothing else is said; a call waits for five.
const LONGEST_FREEZE: Duration = Duration::from_secs(5);

/// Ways to the work: what `busy:do/1` takes. `hop` is a server of a module that does not change.
const WAYS: [&str; 11] = [
    "{server, shared}",
    "{genserver, shared}",
    "{server, {via, global, shared_global}}",
    "{server, {global, shared_global}}",
    "{statem, machine}",
    "{event, manager, busy_handler}",
    "{helper, {server, shared}}",
    "{task, {server, shared}}",
    "{erpc, shared}",
    "{through, hop, {server, shared}}",
    "{helper, {through, hop, {task, {statem, machine}}}}",
];

fn release(code: &str) -> Release {
    let of = |source: &str| source.replace("?TAG", code);
    let busy = include_str!("../fixtures/busy/busy.erl");
    Release::shop(Otp::under_test(), "v1")
        .variant()
        .erlang("busy", &of(busy))
        .erlang(
            "busy_machine",
            &of(include_str!("../fixtures/busy/busy_machine.erl")),
        )
        .erlang(
            "busy_handler",
            &of(include_str!("../fixtures/busy/busy_handler.erl")),
        )
        .erlang("nursery", include_str!("../fixtures/busy/nursery.erl"))
        .erlang(
            "relay",
            &busy
                .replace("?TAG", "same")
                .replace("-module(busy)", "-module(relay)"),
        )
        .build()
}

/// A shop with the work behind `shared`, `machine` and `manager`, and `callers`, named `caller_1` on.
fn start(callers: usize) -> (Shop, Release, Release) {
    // Loads end by themselves: a command that has still to be built would meet none.
    Flyhot::binary();
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = Shop::of(&v1).carts(10).pool(10).start();
    shop.probe().eval(&format!(
        "[{{module, M}} = code:load_file(M) || M <- [busy, busy_machine, busy_handler, relay]],
         {{ok, _}} = busy:start(shared, none),
         {{ok, Global}} = busy:start(shared_too, none),
         yes = global:register_name(shared_global, Global),
         {{ok, _}} = busy_machine:start(machine),
         {{ok, _}} = gen_event:start({{local, manager}}),
         ok = gen_event:add_handler(manager, busy_handler, []),
         [{{ok, _}} = relay:start(list_to_atom(\"hop\" ++ N), none) || N <- [\"\" | [integer_to_list(I) || I <- lists:seq(1, 10)]]],
         [{{ok, _}} = busy:start(list_to_atom(\"caller_\" ++ integer_to_list(N)), none) || N <- lists:seq(1, {callers})], ok."
    ));
    // The longest time that any process was seen suspended, by one that looks every millisecond, and the longest between
    // two looks: what stood still longer than that did so by itself, and not with the whole node.
    shop.probe().eval(
        "Names = fun() -> [N || N <- registered(), P <- [\"caller_\", \"shared\", \"machine\", \"manager\"],
                                lists:prefix(P, atom_to_list(N))] end,
         Watch = fun(Watch, Since, Longest, Last, Gap0) ->
             Now = erlang:monotonic_time(microsecond),
             Gap = max(Gap0, Now - Last),
             Asleep = [N || N <- Names(), P <- [whereis(N)], is_pid(P),
                             {_, {sys, suspend_loop, _}} <- [process_info(P, current_function)]],
             Next = maps:from_list([{N, maps:get(N, Since, Now)} || N <- Asleep]),
             Seen = lists:max([Longest | [Now - T || T <- maps:values(Next)]]),
             receive {Ask, To} -> To ! {Ask, case Ask of longest -> Seen; gap -> Gap end} after 1 -> ok end,
             Watch(Watch, Next, Seen, Now, Gap)
         end,
         Watcher = fun() -> Watch(Watch, #{}, 0, erlang:monotonic_time(microsecond), 0) end,
         register(watch, spawn_opt(Watcher, [{priority, high}])), ok.",
    );
    (shop, v1, v2)
}

fn pids(shop: &Shop) -> String {
    shop.probe().eval(
        "lists:sort([{N, whereis(N)} || N <- registered(), P <- [\"caller_\", \"shared\", \"machine\", \"manager\", \"hop\"],
                                        lists:prefix(P, atom_to_list(N))]).",
    )
}

/// The versions that the states of callers and servers tell, each once.
fn versions(shop: &Shop) -> String {
    shop.probe().eval(
        "Tag = fun(N, S) -> case {N, S} of
                   {_, {rests, {T, _}}} -> T;
                   {manager, [{busy_handler, _, {T, _}}]} -> T;
                   {_, {T, _, _}} -> T
               end end,
         lists:usort([Tag(N, sys:get_state(N, 60000)) || N <- registered(), P <- [\"caller_\", \"shared\", \"machine\", \"manager\"],
                                                lists:prefix(P, atom_to_list(N))]).",
    )
}

fn watched(shop: &Shop, what: &str) -> Duration {
    let micros = shop.probe().json(&format!(
        "watch ! {{{what}, self()}}, receive {{{what}, Micros}} -> Micros end."
    ));
    Duration::from_micros(micros.as_u64().unwrap())
}

fn longest_freeze(shop: &Shop) -> Duration {
    watched(shop, "longest")
}

/// Nobody was killed, nobody is left suspended, nobody was frozen for too long, and all are of one version.
fn judged(shop: &Shop, before: &str, run: &Run) {
    assert_eq!(
        pids(shop),
        before,
        "somebody was restarted or died, in a node that stood still for {:?} at most: {run}",
        watched(shop, "gap")
    );
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
    let longest = longest_freeze(shop);
    assert!(longest < LONGEST_FREEZE, "frozen for {longest:?}: {run}");
    let expected = match run.exit_code {
        Some(0) => "[v2]",
        Some(14) => "[v1]",
        _ => panic!("{run}"),
    };
    assert_eq!(versions(shop), expected, "{run}");
}

fn jobs_done(shop: &Shop) -> u64 {
    let jobs = shop.probe().json(
        "lists:sum([element(3, sys:get_state(N, 60000)) || N <- registered(), lists:prefix(\"caller_\", atom_to_list(N))]).",
    );
    jobs.as_u64().unwrap()
}

#[test]
fn twenty_with_full_queues_that_call_one() {
    for _ in 0..rounds(1, 5) {
        let (shop, _, v2) = start(20);
        let before = pids(&shop);
        // What is before them takes 2.4 s on a machine that does nothing else.
        let mut running = Flyhot::upgrade(&shop, &v2)
            .args(["--quiesce-timeout", "60s"])
            .spawn();
        running.wait_for_step("census");
        shop.probe().eval(
            "[gen_server:cast(list_to_atom(\"caller_\" ++ integer_to_list(N)), {do, {server, shared}})
              || _ <- lists:seq(1, 60), N <- lists:seq(1, 20)], ok.",
        );
        // The first that is asked of everybody who is affected.
        running.wait_for_step("rehearse");
        let shortest = shop.probe().json(
            "lists:min([element(2, process_info(whereis(list_to_atom(\"caller_\" ++ integer_to_list(N))), message_queue_len))
                        || N <- lists:seq(1, 20)]).",
        );
        let run = running.wait();
        assert!(shortest.as_u64().unwrap() > 0, "a queue was empty already: {run}");
        run.expect("upgraded", 0);
        judged(&shop, &before, &run);
        wait_until("all jobs are done", SOON, || jobs_done(&shop) == 1_200);
    }
}

#[test]
fn every_way_to_wait_for_another() {
    for _ in 0..rounds(1, 5) {
        let (shop, _, v2) = start(2 * WAYS.len());
        let before = pids(&shop);
        shop.probe().eval(&format!(
            "Callers = [list_to_atom(\"caller_\" ++ integer_to_list(N)) || N <- lists:seq(1, {})],
             [gen_server:cast(C, {{do, W}}) || _ <- lists:seq(1, 20), {{C, W}} <- lists:zip(Callers, [{ways}, {ways}])], ok.",
            2 * WAYS.len(),
            ways = WAYS.join(", ")
        ));
        let run = Flyhot::upgrade(&shop, &v2).run();
        run.expect("upgraded", 0);
        judged(&shop, &before, &run);
        wait_until("all jobs are done", SOON, || {
            jobs_done(&shop) == 2 * 20 * WAYS.len() as u64
        });
    }
}

/// A call through ten servers of a module that does not change.
fn chain_of_ten(end: &str) -> String {
    (1..=10)
        .rev()
        .fold(end.to_owned(), |to, n| format!("{{through, hop{n}, {to}}}"))
}

/// Ten callers call through the whole chain, twenty times each, and then again and again.
#[test]
fn chains_of_ten_through_servers_outside_the_set() {
    let chain = chain_of_ten("{server, shared}");
    let all_call = |shop: &Shop, how: &str, times: u32| {
        shop.probe().eval(&format!(
            "[gen_server:cast(list_to_atom(\"caller_\" ++ integer_to_list(N)), {{{how}, {chain}}})
              || _ <- lists:seq(1, {times}), N <- lists:seq(1, 10)], ok."
        ));
    };
    for _ in 0..rounds(1, 5) {
        let (shop, v1, v2) = start(10);
        let before = pids(&shop);
        all_call(&shop, "do", 20);
        let run = Flyhot::upgrade(&shop, &v2).run();
        run.expect("upgraded", 0);
        judged(&shop, &before, &run);
        wait_until("all jobs are done", SOON, || jobs_done(&shop) == 200);
        Flyhot::upgrade(&shop, &v1).run().expect("upgraded", 0);

        all_call(&shop, "for_ever", 1);
        let run = Flyhot::upgrade(&shop, &v2).run();
        judged(&shop, &before, &run);
        let done = jobs_done(&shop);
        wait_until("it goes on", SOON, || jobs_done(&shop) > done + 20);
    }
}

/// `caller_1` gets `job` when the freeze has begun, and the freeze goes on when it is at it. A spy keeps what becomes of
/// `shared` until the swap.
fn meanwhile(shop: &Shop, job: &str) {
    shop.probe()
        .plan_faults(&[Fault::new("guard", "{noted, freezing}", 1, "{delay, 300}")]);
    shop.probe().eval(&format!(
        "Shared = whereis(shared),
         register(flyhot_trace, spawn(fun() ->
             (fun Spy(Given, Told) ->
                 receive
                     {{told, worker, {{phase, freezing}}}} when not Given -> gen_server:cast(caller_1, {{do, {job}}}), Spy(true, Told);
                     {{told, worker, {{What, Shared}}}} -> Spy(Given, [What | Told]);
                     {{told, worker, swap}} -> Spy(Given, [swap | Told]);
                     {{tell, To}} -> To ! {{told, lists:reverse(Told)}}, Spy(Given, Told);
                     _ -> Spy(Given, Told)
                 end
             end)(false, [])
         end)), ok."
    ));
}

/// What the spy of [`meanwhile`] kept.
fn told_of_shared(shop: &Shop) -> String {
    let told = shop
        .probe()
        .eval("flyhot_trace ! {tell, self()}, receive {told, T} -> T end.");
    shop.probe().eval("exit(whereis(flyhot_trace), kill), ok.");
    told
}

/// A call that begins when the called one is frozen already: that one is let go until the caller has come to rest, and
/// frozen again, within one attempt.
#[test]
fn whoever_is_called_by_one_that_is_not_at_rest_is_let_go_and_frozen_again() {
    let call = "{when_frozen, shared, {server, shared}}";
    for job in [call, &chain_of_ten(call)] {
        let (shop, _, v2) = start(3);
        let before = pids(&shop);
        meanwhile(&shop, job);
        let run = Flyhot::upgrade(&shop, &v2).faulty().run();
        run.expect("upgraded", 0);
        assert_eq!(run.events_named("attempt").count(), 0, "{run}");
        let told = told_of_shared(&shop);
        assert!(
            told.starts_with("[suspend,frozen,resume,suspend,frozen,swap,"),
            "{told}: {run}"
        );
        judged(&shop, &before, &run);
        assert_eq!(jobs_done(&shop), 1, "{run}");
    }
}

/// One that does not answer its resume, by a hold of the VM here, keeps nobody else frozen, also where one is asked at a time;
/// it is asked again, and whoever answers then was not left suspended. It is the first of its kind, and so the first that is
/// let go.
#[test]
fn one_that_is_silent_when_it_is_let_go_holds_up_nobody() {
    let (shop, _, v2) = start(20);
    shop.probe()
        .plan_faults(&[Fault::new("guard", "{noted, thawing}", 1, "{delay, 300}")]);
    shop.probe().eval(
        "Deaf = whereis(shared),
         unregister(shared),
         register(flyhot_trace, spawn(fun() ->
             (fun Spy() ->
                 receive
                     {told, worker, {phase, thawing}} ->
                         erlang:suspend_process(Deaf),
                         timer:sleep(1800),
                         erlang:resume_process(Deaf);
                     _ -> Spy()
                 end
             end)()
         end)), ok.",
    );
    let before = pids(&shop);
    let run = Flyhot::upgrade(&shop, &v2)
        .args(["--in-flight", "1"])
        .faulty()
        .run();
    run.expect("upgraded", 0);
    // Held while the guard was slow, and for a tenth of a second each where somebody is silent.
    let longest = longest_freeze(&shop);
    assert!(longest < Duration::from_secs(1), "{longest:?}: {run}");
    let told = Duration::from_micros(run.node(0)["longest_freeze_us"].as_u64().unwrap());
    assert!(told > Duration::from_secs(1), "nobody was silent: {run}");
    judged(&shop, &before, &run);
}

/// Three callers that pass a job on in a ring, each calling the next but one through a server that does not change.
#[test]
fn a_cycle_through_a_server_outside_the_set() {
    for _ in 0..rounds(1, 5) {
        let (shop, _, v2) = start(3);
        let before = pids(&shop);
        shop.probe().eval(
            "Ring = [{caller_1, caller_2, caller_3}, {caller_2, caller_3, caller_1}, {caller_3, caller_1, caller_2}],
             [sys:replace_state(C, fun({T, _, N}) -> {T, {ring, Next, {through, hop, {server, Far}}}, N} end)
              || {C, Next, Far} <- Ring],
             gen_server:cast(caller_1, turn), ok.",
        );
        let run = Flyhot::upgrade(&shop, &v2).run();
        judged(&shop, &before, &run);
        run.expect("upgraded", 0);
        let done = jobs_done(&shop);
        wait_until("it goes on", SOON, || jobs_done(&shop) > done);
    }
}

/// Each caller calls again at once, in every way, for ever.
#[test]
fn a_load_that_never_drains() {
    for _ in 0..rounds(1, 5) {
        let (shop, _, v2) = start(2 * WAYS.len());
        shop.probe().eval(&format!(
            "Callers = [list_to_atom(\"caller_\" ++ integer_to_list(N)) || N <- lists:seq(1, {})],
             {{ok, Caller}} = busy_machine:start(machine_that_calls),
             gen_statem:cast(Caller, {{for_ever, shared}}),
             [gen_server:cast(C, {{for_ever, W}}) || {{C, W}} <- lists:zip(Callers, [{ways}, {ways}])], ok.",
            2 * WAYS.len(),
            ways = WAYS.join(", ")
        ));
        let before = pids(&shop);
        let run = Flyhot::upgrade(&shop, &v2).run();
        judged(&shop, &before, &run);
        let done = jobs_done(&shop);
        wait_until("it goes on", SOON, || jobs_done(&shop) > done + 100);
    }
}

/// One that is at work for two seconds at a time answers the knock between two jobs and no freeze: given up, or
/// upgraded when a freeze happens to fall between two. It must never be found frozen later.
#[test]
fn one_that_is_seldom_at_rest() {
    for _ in 0..rounds(1, 5) {
        let (shop, _, v2) = start(20);
        let before = pids(&shop);
        shop.probe()
            .eval("gen_server:cast(caller_1, {for_ever, {sleep, 2000}}), ok.");
        let run = Flyhot::upgrade(&shop, &v2).run();
        assert_eq!(shop.probe().suspended(), NONE, "{run}");
        let done = jobs_done(&shop);
        wait_until("it goes on", SOON, || jobs_done(&shop) > done + 1);
        judged(&shop, &before, &run);
        if run.exit_code == Some(14) {
            let reasons = run.node(0)["reasons"].to_string();
            assert!(
                reasons.contains("caller_1") && reasons.contains("busy:handle_cast/2"),
                "who was not at rest is not named with what it does: {run}"
            );
        }
    }
}

/// One that is at rest again just when the agent leaves the node, with what it was told in between before it: it does
/// not keep what it would have kept inside the window.
#[test]
fn one_that_is_at_rest_when_the_agent_leaves() {
    let (shop, _, v2) = start(3);
    let before = pids(&shop);
    for done in (1..).take(rounds(3, 20)) {
        meanwhile(&shop, "until_unloaded");
        let run = Flyhot::upgrade(&shop, &v2)
            .args(["--window-budget", "300ms", "--freeze-attempts", "1"])
            .faulty()
            .run();
        run.expect("not_quiesced", 14);
        told_of_shared(&shop);
        wait_until("it is at rest", SOON, || jobs_done(&shop) == done);
        judged(&shop, &before, &run);
    }
}

/// Callers that only wait for a message, which no monitor shows: nobody can tell whom they wait for. That ends an
/// attempt, and nothing else.
#[test]
fn a_wait_that_no_monitor_shows_ends_the_attempt_and_nothing_else() {
    for _ in 0..rounds(1, 5) {
        let (shop, _, v2) = start(20);
        shop.probe().eval(
            "[gen_server:cast(list_to_atom(\"caller_\" ++ integer_to_list(N)), {for_ever, {bare, shared}})
              || N <- lists:seq(1, 20)], ok.",
        );
        let before = pids(&shop);
        let run = Flyhot::upgrade(&shop, &v2)
            .args(["--window-budget", "500ms"])
            .run();
        judged(&shop, &before, &run);
        let longest = longest_freeze(&shop);
        assert!(
            longest < 3 * Duration::from_millis(500),
            "frozen for {longest:?}: {run}"
        );
        if run.exit_code == Some(14) {
            assert!(
                run.node(0)["reasons"].to_string().contains("busy:do/1"),
                "who waited is not named with where: {run}"
            );
        }
        let done = jobs_done(&shop);
        wait_until("it goes on", SOON, || jobs_done(&shop) > done + 100);
    }
}

/// The same by one whose wait begins in the freeze, so that it meets it each time: the attempt is given up, the next one
/// finds it at rest; where there is no next one, it is named with where it waited.
#[test]
fn a_wait_that_no_monitor_shows_is_thawed_and_tried_again() {
    let (shop, _, v2) = start(3);
    let before = pids(&shop);
    let args = ["--window-budget", "800ms", "--freeze-attempts"];
    meanwhile(&shop, "{when_frozen, shared, {bare, shared}}");
    let run = Flyhot::upgrade(&shop, &v2).args(args).args(["1"]).faulty().run();
    run.expect("not_quiesced", 14);
    assert!(
        run.node(0)["reasons"].to_string().contains("busy:do/1"),
        "who waited is not named with where: {run}"
    );
    told_of_shared(&shop);
    judged(&shop, &before, &run);
    assert_eq!(jobs_done(&shop), 1, "{run}");

    meanwhile(&shop, "{when_frozen, shared, {bare, shared}}");
    let run = Flyhot::upgrade(&shop, &v2).args(args).args(["3"]).faulty().run();
    run.expect("upgraded", 0);
    assert_eq!(run.events_named("attempt").count(), 1, "{run}");
    told_of_shared(&shop);
    judged(&shop, &before, &run);
    assert_eq!(jobs_done(&shop), 2, "{run}");
}

/// One that is in a callback for fifteen seconds, with messages in its queue, and calls among the others all the time.
fn one_is_busy_for_fifteen_seconds(for_ever: bool) -> (Shop, Release) {
    let (shop, _, v2) = start(20);
    shop.probe().eval(&format!(
        "gen_server:cast(caller_1, {{{}, {{sleep, 15000}}}}),
         [caller_1 ! hello || _ <- lists:seq(1, 3)],
         [gen_server:cast(list_to_atom(\"caller_\" ++ integer_to_list(N)), {{for_ever, {{server, shared}}}})
          || N <- lists:seq(2, 20)], ok.",
        if for_ever { "for_ever" } else { "do" }
    ));
    (shop, v2)
}

/// It is named before anything is frozen, with what it is doing; nobody else notices.
#[test]
fn one_that_is_busy_for_fifteen_seconds_is_named_and_nobody_is_frozen() {
    let (shop, v2) = one_is_busy_for_fifteen_seconds(false);
    let pid = shop
        .probe()
        .eval("pid_to_list(whereis(caller_1)).")
        .replace('"', "");
    let before = pids(&shop);
    let run = Flyhot::upgrade(&shop, &v2)
        .args(["--quiesce-timeout", "1s"])
        .run();
    run.expect("not_quiesced", 14);
    judged(&shop, &before, &run);
    assert_eq!(longest_freeze(&shop), Duration::ZERO, "{run}");
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    let said = reasons
        .iter()
        .find(|reason| reason["code"] == "straggler")
        .unwrap()["sentence"]
        .as_str()
        .unwrap();
    for part in [
        pid.as_str(),
        "caller_1",
        "of busy",
        "timer:sleep/1",
        "busy:handle_cast/2",
        " ms, ",
        "messages in its queue",
    ] {
        assert!(said.contains(part), "{part} is not said: {run}");
    }
    // It reads what was left in its queue and goes on.
    wait_until("its job is done", SOON, || {
        shop.probe().eval("element(3, sys:get_state(caller_1, 60000)).") == "1"
    });
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    judged(&shop, &before, &run);
}

/// It answers the knock between two jobs and is met by the freeze in the next one: everybody is let go within the
/// budget, nobody's call times out, and it never freezes itself when it comes to read what was sent.
#[test]
fn one_that_is_busy_for_fifteen_seconds_in_the_freeze_holds_nobody_past_the_budget() {
    let (shop, v2) = one_is_busy_for_fifteen_seconds(true);
    let before = pids(&shop);
    let run = Flyhot::upgrade(&shop, &v2)
        .args(["--quiesce-timeout", "20s", "--freeze-attempts", "1"])
        .run();
    run.expect("not_quiesced", 14);
    assert!(
        run.step("window").is_some(),
        "it did not answer between two jobs: {run}"
    );
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(pids(&shop), before, "somebody was restarted or died: {run}");
    let longest = longest_freeze(&shop);
    assert!(
        longest > Duration::from_millis(500) && longest < LONGEST_FREEZE,
        "frozen for {longest:?}: {run}"
    );
    let job = "element(3, sys:get_state(caller_1, 60000)).";
    let done: u64 = shop.probe().eval(job).parse().unwrap();
    wait_until("it goes on after that job, and after the next", SOON, || {
        shop.probe().eval(job).parse::<u64>().unwrap() > done
    });
    assert_eq!(shop.probe().suspended(), NONE, "it froze itself later: {run}");
    judged(&shop, &before, &run);
}

/// A supervisor that is starting a child does not say which others it has: that is said.
#[test]
fn a_supervisor_that_does_not_say_its_children_is_named() {
    let (shop, _, v2) = start(1);
    shop.probe().eval(
        "{ok, S} = 'Elixir.DynamicSupervisor':start_link([{name, slow_one}, {strategy, one_for_one}]), unlink(S),
         spawn(fun() -> catch 'Elixir.DynamicSupervisor':start_child(S, #{id => child, start => {relay, start_link, [{sleeps, 60000}]}}) end),
         ok.",
    );
    wait_until("it is starting a child", SOON, || {
        shop.probe()
            .eval("process_info(whereis(slow_one), current_function).")
            .contains("proc_lib")
    });
    let run = Flyhot::plan(&shop, &v2).run();
    run.expect("planned", 0);
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    let silent = reasons
        .iter()
        .find(|reason| reason["code"] == "supervisor_silent")
        .unwrap_or_else(|| panic!("it is not named: {run}"));
    assert!(silent["sentence"].as_str().unwrap().contains("slow_one"), "{run}");
}

/// Children of an affected kind are born all the time, a thousand a second, and every second one asks a server of the set
/// while it starts. By a supervisor of OTP and one of Elixir: each child ends on the new code or the attempt is given up.
/// By somebody outside any, who may bear another in the instant of the swap: it is given up. None is lost.
#[test]
fn children_that_are_born_all_the_time() {
    for round in 0..rounds(2, 10) {
        let by_supervisors = round % 2 == 0;
        let midwives = if by_supervisors {
            "[midwife_nursery, midwife_nursery_of_elixir]"
        } else {
            "[midwife_nobody]"
        };
        let (shop, _, v2) = start(1);
        shop.probe().eval(&format!(
            "{{module, nursery}} = code:load_file(nursery),
             {{ok, _}} = nursery:start_link(),
             {{ok, _}} = 'Elixir.DynamicSupervisor':start_link([{{name, nursery_of_elixir}}, {{strategy, one_for_one}}]),
             Spec = fun(Arg) -> #{{id => child, start => {{busy, start_link, [Arg]}}, restart => temporary}} end,
             Ways = [{{midwife_nursery, fun(Arg) -> supervisor:start_child(nursery, [Arg]) end}},
                     {{midwife_nursery_of_elixir, fun(Arg) -> 'Elixir.DynamicSupervisor':start_child(nursery_of_elixir, Spec(Arg)) end}},
                     {{midwife_nobody, fun busy:start_alone/1}}],
             [register(Name, spawn(nursery, midwife, [Start])) || {{Name, Start}} <- Ways, lists:member(Name, {midwives})],
             unlink(whereis(nursery)), unlink(whereis(nursery_of_elixir)), ok.",
        ));
        // The fewest that one of them bore; each answers only when it has kept up.
        let born = |shop: &Shop| {
            shop.probe()
                .json(&format!(
                    "lists:min([begin M ! {{count, self()}}, receive {{count, N}} -> N end end || M <- {midwives}])."
                ))
                .as_u64()
                .unwrap()
        };
        wait_until("each bears a thousand a second", SOON, || born(&shop) > 1_000);
        let run = Flyhot::upgrade(&shop, &v2).run();
        let later = born(&shop);
        wait_until("children are born after it", SOON, || born(&shop) > later + 100);
        let bearer = shop
            .probe()
            .eval(&format!("pid_to_list(whereis(hd({midwives})))."))
            .replace('"', "");
        shop.probe()
            .eval(&format!("[exit(whereis(M), kill) || M <- {midwives}], ok."));
        assert_eq!(shop.probe().suspended(), NONE, "{run}");
        assert_eq!(shop.probe().traces(), NONE, "{run}");
        let expected = match run.exit_code {
            Some(0) if by_supervisors => "[v2]",
            Some(14) => "[v1]",
            _ => panic!("{run}"),
        };
        if !by_supervisors {
            let sentence = run.node(0)["reasons"][0]["sentence"].as_str().unwrap();
            assert!(
                sentence.ends_with(&format!("by {bearer} that is no supervisor")),
                "{run}"
            );
        }
        let children = shop.probe().eval(
            "Is = fun(P) -> case process_info(P, dictionary) of
                     {_, D} -> lists:keyfind('$initial_call', 1, D) =:= {'$initial_call', {busy, init, 1}};
                     undefined -> false
                 end end,
             lists:usort([element(1, sys:get_state(P)) || P <- processes(), Is(P)]).",
        );
        assert_eq!(children, expected, "{run}");
        let longest = longest_freeze(&shop);
        assert!(longest < LONGEST_FREEZE, "frozen for {longest:?}: {run}");
    }
}

/// Somebody outside any supervisor starts its only child between the last look and the swap, or between that and the look
/// behind it: whether its state is of the code that runs now nobody knows, and that is said.
#[test]
fn children_of_nobody_in_the_very_instant_of_the_swap() {
    for (point, when, is) in [
        ("before_swap", "{phase, swapping}", "v1"),
        ("after_swap", "{swapped, ok}", "v2"),
    ] {
        let (shop, _, v2) = start(1);
        shop.probe().plan_faults(&[Fault {
            actor: "worker".into(),
            point: point.into(),
            nth: 1,
            what: "{delay, 400}".into(),
        }]);
        shop.probe().eval(&format!(
            "register(flyhot_trace, spawn(fun Spy() ->
                 receive {{told, worker, {when}}} -> timer:sleep(100), {{ok, _}} = busy:start(late, none); _ -> ok end, Spy()
             end)), ok."
        ));
        let run = Flyhot::upgrade(&shop, &v2).faulty().run();
        run.expect("degraded", 15);
        assert_eq!(shop.probe().eval("element(1, sys:get_state(late))."), is, "{run}");
        assert_eq!(
            shop.probe().eval("element(1, sys:get_state(shared))."),
            "v2",
            "{run}"
        );
        let late = shop.probe().eval("pid_to_list(whereis(late)).").replace('"', "");
        let named = |reason: &serde_json::Value| {
            reason["code"] == "newborn" && reason["subject"].as_str().unwrap().contains(&late)
        };
        assert!(
            run.node(0)["reasons"].as_array().unwrap().iter().any(named),
            "{run}"
        );
        shop.probe().eval("exit(whereis(flyhot_trace), kill), ok.");
        assert_eq!(shop.probe().suspended(), NONE, "{run}");
    }
}

//! Library code that hosts the callbacks of others: the process belongs to the user's module too, which only its
//! child spec names.

use flyhot_tests::{Flyhot, Otp, Release, Shop};

const NONE: [&str; 0] = [];

fn release(host: &str, guest: &str) -> Release {
    let of = |source: &str, code: &str| source.replace("?TAG", code).replace("TAG", code);
    Release::shop(Otp::under_test(), "v1")
        .variant()
        .erlang("hosting", &of(include_str!("../fixtures/busy/hosting.erl"), host))
        .erlang("guest", &of(include_str!("../fixtures/busy/guest.erl"), guest))
        .erlang("hotel", include_str!("../fixtures/busy/hotel.erl"))
        .build()
}

/// Takes guests, some under a supervisor of OTP and some under one of Elixir, to these versions; `vsn` is what the
/// guest's code_change must have been told.
fn upgraded_to(host: &str, guest: &str, vsn: &str) {
    let (from, to) = (release("v1", "v1"), release(host, guest));
    let shop = Shop::of(&from).carts(10).pool(10).start();
    shop.probe().eval(
        "[{module, M} = code:load_file(M) || M <- [hosting, guest, hotel]],
         {ok, Hotel} = hotel:start_link(), unlink(Hotel),
         {ok, Inn} = 'Elixir.DynamicSupervisor':start_link([{name, inn}, {strategy, one_for_one}]), unlink(Inn),
         [{ok, _} = 'Elixir.DynamicSupervisor':start_child(inn, #{id => N, start => {guest, start_link, [N]}}) || N <- lists:seq(21, 40)],
         ok.",
    );
    let guests = "[{sys:get_state(P), P} || S <- [hotel, inn], {_, P, _, _} <- supervisor:which_children(S)]";
    let pids = format!("lists:sort([P || {{_, P}} <- {guests}]).");
    let before = shop.probe().eval(&pids);
    let run = Flyhot::upgrade(&shop, &to).run();
    run.expect("upgraded", 0);
    assert_eq!(run.node(0)["processes"]["migrated"], 40, "{run}");
    assert_eq!(shop.probe().eval(&pids), before, "{run}");
    let states = shop
        .probe()
        .eval(&format!("lists:sort([S || {{S, _}} <- {guests}])."));
    let expected: Vec<String> = (1..=40)
        .map(|n| format!("{{{host},guest,{{{guest},{n},{vsn}}}}}"))
        .collect();
    assert_eq!(states, format!("[{}]", expected.join(",")), "{run}");
    let numbers = shop.probe().eval(&format!(
        "lists:sum([gen_server:call(P, number) || {{_, P}} <- {guests}])."
    ));
    assert_eq!(numbers, "820", "{run}");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

#[test]
fn the_guest_alone_changes() {
    upgraded_to("v1", "v2", "guest_v1");
}

#[test]
fn the_host_alone_changes() {
    upgraded_to("v2", "v1", "host_v1");
}

#[test]
fn both_change() {
    upgraded_to("v2", "v2", "host_v1");
}

/// Its code_change answers ok, and the first thing it does with the new state is to die: one dies of it, found while
/// all others are still frozen, and they are put back.
#[test]
fn one_that_dies_when_it_goes_on_is_caught_before_the_others_go_on() {
    let build = |code: &str, goes_on: &str| {
        let source = include_str!("../fixtures/busy/fragile.erl")
            .replace("?TAG", code)
            .replace("-> CONTINUE", &format!("-> {goes_on}"));
        Release::shop(Otp::under_test(), "v1")
            .variant()
            .erlang("fragile", &source)
            .erlang("ward", include_str!("../fixtures/busy/ward.erl"))
            .build()
    };
    let (from, to) = (
        build("v1", "loop(Parent, State)"),
        build("v2", "error({cannot, Parent, State})"),
    );
    let shop = Shop::of(&from).carts(10).pool(10).start();
    shop.probe()
        .eval("[{module, M} = code:load_file(M) || M <- [fragile, ward]], {ok, W} = ward:start_link(), unlink(W), ok.");
    let children =
        "lists:sort([{Id, P, sys:get_state(P)} || {Id, P, _, _} <- supervisor:which_children(ward)])";
    let count_same = |before: &str| {
        shop.probe().eval(&format!(
            "length([x || C <- {before}, lists:member(C, {children})])."
        ))
    };
    shop.probe()
        .eval(&format!("persistent_term:put(before, {children})."));
    let md5 = shop.probe().eval("fragile:module_info(md5).");
    let run = Flyhot::upgrade(&shop, &to).run();
    run.expect("reverted", 11);
    assert_eq!(shop.probe().eval("fragile:module_info(md5)."), md5, "{run}");
    assert_eq!(count_same("persistent_term:get(before)"), "19", "{run}");
    assert_eq!(shop.probe().eval(&format!("length({children}).")), "20", "{run}");
    assert_eq!(run.node(0)["processes"]["failed"], 1, "{run}");
    for code in ["prove_failed", "process_ended"] {
        assert!(run.reason_codes().contains(&code), "{code}: {run}");
    }
    assert!(!run.reason_codes().contains(&"migration_failed"), "{run}");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

/// Guests are born all the time: where the host changes they are migrated with the others; where only a guest does it
/// cannot be seen in time whose guest a newborn is, and the attempt is given up.
#[test]
fn guests_that_are_born_meanwhile_are_not_left_behind() {
    for (host, guest) in [("v2", "v1"), ("v1", "v2"), ("v2", "v2")] {
        let (from, to) = (release("v1", "v1"), release(host, guest));
        let shop = Shop::of(&from).carts(10).pool(10).start();
        shop.probe().eval(
            "[{module, M} = code:load_file(M) || M <- [hosting, guest, hotel]],
             {ok, Inn} = 'Elixir.DynamicSupervisor':start_link([{name, inn}, {strategy, one_for_one}]), unlink(Inn),
             Born = fun(Born, N) ->
                 {ok, _} = 'Elixir.DynamicSupervisor':start_child(inn, #{id => N, start => {guest, start_link, [N]}}),
                 receive stop -> ok after 1 -> Born(Born, N + 1) end
             end,
             register(midwife, spawn(fun() -> Born(Born, 1) end)), ok.",
        );
        let run = Flyhot::upgrade(&shop, &to).run();
        shop.probe().eval("midwife ! stop, ok.");
        let versions = shop.probe().eval(
            "lists:usort([{H, G} || {_, P, _, _} <- supervisor:which_children(inn), {H, guest, {G, _, _}} <- [sys:get_state(P)]]).",
        );
        let expected = match run.exit_code {
            Some(0) => format!("[{{{host},{guest}}}]"),
            Some(14) => "[{v1,v1}]".to_owned(),
            _ => panic!("{run}"),
        };
        assert_eq!(versions, expected, "{run}");
        assert_eq!(shop.probe().suspended(), NONE, "{run}");
        assert_eq!(shop.probe().traces(), NONE, "{run}");
    }
}

/// Who was started meanwhile by a supervisor that does not say so is not taken for one of nobody's.
#[test]
fn a_guest_whose_supervisor_is_silent_meanwhile_is_not_left_behind() {
    let (from, to) = (release("v1", "v1"), release("v1", "v2"));
    let shop = Shop::of(&from).carts(10).pool(10).start();
    // Nobody sees it before somebody asks the first guest something: the rehearsal.
    shop.probe().eval(
        "[{module, M} = code:load_file(M) || M <- [hosting, guest, hotel]],
         {ok, Inn} = 'Elixir.DynamicSupervisor':start_link([{name, inn}, {strategy, one_for_one}]), unlink(Inn),
         Guest = fun(N) -> {ok, P} = 'Elixir.DynamicSupervisor':start_child(inn, #{id => N, start => {guest, start_link, [N]}}), P end,
         First = Guest(1),
         Asked = fun(Asked) ->
             case process_info(First, message_queue_len) of
                 {_, 0} -> timer:sleep(1), Asked(Asked);
                 _ -> ok
             end
         end,
         UntilFrozen = fun(UntilFrozen, Starter) ->
             Starter ! starting,
             {_, Queue} = process_info(self(), messages),
             case [x || {system, _, suspend} <- Queue] of
                 [] -> timer:sleep(1), UntilFrozen(UntilFrozen, Starter);
                 _ -> ignore
             end
         end,
         Test = self(),
         spawn(fun() ->
             Starter = self(),
             erlang:suspend_process(First),
             Test ! held,
             Asked(Asked),
             Guest(2),
             spawn(fun() -> 'Elixir.DynamicSupervisor':start_child(inn, #{id => slow, start => {erlang, apply, [UntilFrozen, [UntilFrozen, Starter]]}}) end),
             receive starting -> ok end,
             erlang:resume_process(First)
         end),
         receive held -> ok end.",
    );
    let run = Flyhot::upgrade(&shop, &to).run();
    let attempt = run.events_named("attempt").next();
    let attempt = attempt.unwrap_or_else(|| panic!("the first attempt was not given up: {run}"));
    assert_eq!(attempt.json["reasons"][0]["code"], "newborn", "{run}");
    let states = shop.probe().eval(
        "lists:sort([S || {_, P, _, _} <- 'Elixir.DynamicSupervisor':which_children(inn), {_, _, S} <- [sys:get_state(P)]]).",
    );
    let expected = match run.exit_code {
        Some(0) => "[{v2,1,guest_v1},{v2,2,guest_v1}]",
        Some(14) => "[{v1,1,none},{v1,2,none}]",
        _ => panic!("{run}"),
    };
    assert_eq!(states, expected, "{run}");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

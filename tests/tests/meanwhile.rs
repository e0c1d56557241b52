//! What comes up between the census and the window, and managers with several changed handlers: nobody is left on an
//! old state under new code.

use flyhot_tests::{Flyhot, Otp, Release, Run, Shop};

const NONE: [&str; 0] = [];

/// A gen_server whose state names the code that made it.
fn server(code: &str) -> String {
    format!(
        "-module(late).
         -behaviour(gen_server).
         -export([start/0, init/1, handle_call/3, handle_cast/2, code_change/3, shake/1, init/3]).
         start() -> gen_server:start({{local, late}}, ?MODULE, [], []).
         init(_) -> {{ok, {{{code}, 1}}}}.
         shake(Name) -> proc_lib:start(?MODULE, init, [Name, hand, shake]).
         init(Name, _, _) ->
             register(Name, self()),
             proc_lib:init_ack({{ok, self()}}),
             receive shaken -> gen_server:enter_loop(?MODULE, [], {{{code}, 1}}) end.
         handle_call(_, _From, {{{code}, N}} = State) -> {{reply, N, State}}.
         handle_cast(_, State) -> {{noreply, State}}.
         code_change(_, {{_, N}}, _) -> {{ok, {{{code}, N}}}}.\n"
    )
}

/// An event handler of that kind; `change` is what its code_change answers for `N`.
fn handler(module: &str, code: &str, change: &str) -> String {
    format!(
        "-module({module}).
         -behaviour(gen_event).
         -export([init/1, handle_event/2, handle_call/2, code_change/3]).
         init(_) -> {{ok, {{{code}, 1}}}}.
         handle_event(_, {{{code}, N}}) -> {{ok, {{{code}, N + 1}}}}.
         handle_call(_, {{{code}, N}} = State) -> {{ok, N, State}}.
         code_change(_, {{_, N}}, _) -> {change}.\n"
    )
}

/// Releases of one code that differ in the server, two handlers and the pool's workers.
fn releases(second: &str) -> (Release, Release) {
    let base = Release::shop(Otp::under_test(), "v1");
    let build = |code: &str, change: &str| {
        let pool = format!(
            "-module(pool_worker).
             -behaviour(gen_server).
             -export([start_link/1, init/1, handle_call/3, handle_cast/2, code_change/3]).
             start_link(N) -> gen_server:start_link({{local, list_to_atom(\"pool_\" ++ integer_to_list(N))}}, ?MODULE, N, []).
             init(N) -> {{ok, {{{code}, N, 0}}}}.
             handle_call(version, _From, State) -> {{reply, {code}, State}}.
             handle_cast(bump, {{Tag, N, Casts}}) -> {{noreply, {{Tag, N, Casts + 1}}}}.
             code_change(_, {{_, N, Casts}}, _) -> {{ok, {{{code}, N, Casts}}}}.\n"
        );
        base.variant()
            .erlang("late", &server(code))
            .erlang(
                "first_handler",
                &handler("first_handler", code, &format!("{{ok, {{{code}, N}}}}")),
            )
            .erlang("second_handler", &handler("second_handler", code, change))
            .erlang("pool_worker", &pool)
            .build()
    };
    (build("v1", "{ok, {v1, N}}"), build("v2", second))
}

fn shop(release: &Release) -> Shop {
    let shop = Shop::of(release).carts(10).pool(100).start();
    shop.probe()
        .eval("[{module, M} = code:load_file(M) || M <- [late, first_handler, second_handler]], ok.");
    shop
}

/// Has `what` happen on the node once the rehearsal has begun, or the knock where there is none: it waits for a worker
/// that does not run until then.
fn while_it_rehearses(shop: &Shop, what: &str) {
    shop.probe().eval(&format!(
        "Asked = fun(Asked, P) ->
             case process_info(P, message_queue_len) of
                 {{_, 0}} -> timer:sleep(1), Asked(Asked, P);
                 _ -> ok
             end
         end,
         Test = self(),
         spawn(fun() ->
             Held = whereis(pool_1),
             erlang:suspend_process(Held),
             Test ! held,
             Asked(Asked, Held),
             {what},
             erlang:resume_process(Held)
         end),
         receive held -> ok end."
    ));
}

fn judged(shop: &Shop, run: &Run) {
    let count = |key: &str| run.node(0)["processes"][key].as_u64().unwrap();
    let sum: u64 = ["migrated", "kept", "failed", "died", "skipped"]
        .map(count)
        .iter()
        .sum();
    assert_eq!(count("affected"), sum, "{run}");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

fn gave_up_for_a_newborn(run: &Run) {
    let attempt = run.events_named("attempt").next();
    let attempt = attempt.unwrap_or_else(|| panic!("the first attempt was not given up: {run}"));
    assert_eq!(attempt.json["reasons"][0]["code"], "newborn", "{run}");
}

#[test]
fn the_first_process_of_a_kind_is_not_left_behind() {
    let (v1, v2) = releases("{ok, {v2, N}}");
    let shop = shop(&v1);
    while_it_rehearses(&shop, "{ok, _} = late:start()");
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    gave_up_for_a_newborn(&run);
    assert_eq!(shop.probe().eval("sys:get_state(late)."), "{v2,1}", "{run}");
    assert_eq!(shop.probe().eval("gen_server:call(late, count)."), "1", "{run}");
    judged(&shop, &run);
}

/// As protocols of ranch are while they shake hands: no gen_server at the census, and one in the window.
#[test]
fn one_that_enters_the_loop_meanwhile_is_not_left_behind() {
    let (v1, v2) = releases("{ok, {v2, N}}");
    let shop = shop(&v1);
    shop.probe()
        .eval("[{ok, _} = late:shake(Name) || Name <- [entered, entering]], entered ! shaken.");
    while_it_rehearses(&shop, "entering ! shaken");
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    let states = shop
        .probe()
        .eval("[sys:get_state(Name) || Name <- [entered, entering]].");
    assert_eq!(states, "[{v2,1},{v2,1}]", "{run}");
    judged(&shop, &run);
}

#[test]
fn a_handler_that_is_added_meanwhile_is_not_left_behind() {
    let (v1, v2) = releases("{ok, {v2, N}}");
    let shop = shop(&v1);
    // The manager has another changed handler before: its kind is in the plan already.
    shop.probe()
        .eval("ok = gen_event:add_handler('Elixir.Shop.QuietBus', first_handler, []).");
    while_it_rehearses(
        &shop,
        "ok = gen_event:add_handler('Elixir.Shop.QuietBus', second_handler, [])",
    );
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    gave_up_for_a_newborn(&run);
    let counts =
        "[gen_event:call('Elixir.Shop.QuietBus', H, count) || H <- [first_handler, second_handler]].";
    assert_eq!(shop.probe().eval(counts), "[1,1]", "{run}");
    judged(&shop, &run);
}

#[test]
fn a_manager_whose_second_handler_fails_is_put_back_whole() {
    let (v1, v2) = releases("error({bad, N})");
    let shop = shop(&v1);
    shop.probe().eval(
        "[ok = gen_event:add_handler('Elixir.Shop.QuietBus', H, []) || H <- [first_handler, second_handler]],
         gen_event:sync_notify('Elixir.Shop.QuietBus', event).",
    );
    let state = "lists:sort(sys:get_state('Elixir.Shop.QuietBus')).";
    let before = shop.probe().eval(state);
    let run = Flyhot::upgrade(&shop, &v2).args(["--no-rehearsal"]).run();
    run.expect("reverted", 11);
    assert_eq!(run.node(0)["processes"]["failed"], 1, "{run}");
    assert_eq!(shop.probe().eval(state), before, "{run}");
    let counts =
        "[gen_event:call('Elixir.Shop.QuietBus', H, count) || H <- [first_handler, second_handler]].";
    assert_eq!(shop.probe().eval(counts), "[2,2]", "{run}");
    judged(&shop, &run);
}

/// The swap is of what the plan saw, or it is not begun.
#[test]
fn code_that_somebody_else_loads_meanwhile_is_not_swapped_away() {
    let (v1, v2) = releases("{ok, {v2, N}}");
    let shop = shop(&v1);
    while_it_rehearses(
        &shop,
        "begin
             Forms = [{attribute, 1, module, late}, {attribute, 2, export, [{patched, 0}]},
                      {function, 3, patched, 0, [{clause, 3, [], [], [{atom, 3, yes}]}]}],
             {ok, late, Beam} = compile:forms(Forms),
             {module, late} = code:load_binary(late, \"by hand\", Beam)
         end",
    );
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("not_quiesced", 14);
    assert!(run.reason_codes().contains(&"code_moved"), "{run}");
    assert_eq!(shop.probe().eval("late:patched()."), "yes", "{run}");
    assert_eq!(
        shop.probe().eval("gen_server:call(pool_1, version)."),
        "v1",
        "{run}"
    );
    judged(&shop, &run);
}

/// The same code loaded again is the code that the plan saw; but now there is old code, which the code server does not
/// throw away for a swap.
#[test]
fn a_swap_that_the_code_server_refuses_leaves_everything_as_it_was() {
    let (v1, v2) = releases("{ok, {v2, N}}");
    let shop = shop(&v1);
    while_it_rehearses(&shop, "{module, late} = code:load_file(late)");
    let run = Flyhot::upgrade(&shop, &v2).args(["--no-rehearsal"]).run();
    run.expect("refused", 10);
    assert!(run.reason_codes().contains(&"swap_refused"), "{run}");
    assert!(run.node(0)["window_us"].as_u64().unwrap() > 0, "{run}");
    assert_eq!(
        shop.probe().eval("gen_server:call(pool_1, version)."),
        "v1",
        "{run}"
    );
    judged(&shop, &run);
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
}

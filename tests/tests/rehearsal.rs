//! Which kinds of processes are rehearsed, and what becomes of a rehearsal that fails where the code_change would not.

use std::collections::BTreeMap;

use flyhot_tests::{Flyhot, Otp, Release, Run, Shop};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// The pool's worker, whose code_change does `body` with `Casts`, and a module whose new version alone knows a tax.
fn release(code: &str, body: &str) -> Release {
    let worker = format!(
        "-module(pool_worker).
         -behaviour(gen_server).
         -export([start_link/1, init/1, handle_call/3, handle_cast/2, code_change/3]).
         start_link(N) -> gen_server:start_link({{local, list_to_atom(\"pool_\" ++ integer_to_list(N))}}, ?MODULE, N, []).
         init(N) -> {{ok, {{{code}, N, 0}}}}.
         handle_call(version, _From, State) -> {{reply, {code}, State}}.
         handle_cast(bump, {{Tag, N, Casts}}) -> {{noreply, {{Tag, N, Casts + 1}}}}.
         code_change(_, {{_, N, Casts}}, _) -> {{ok, {{{code}, N, {body}}}}}.\n"
    );
    let price = match code {
        "v1" => "-module(price). -export([net/1]). net(N) -> N.\n",
        _ => "-module(price). -export([net/1, tax/1]). net(N) -> N. tax(N) -> N + 19.\n",
    };
    Release::shop(Otp::under_test(), "v1")
        .variant()
        .erlang("pool_worker", &worker)
        .erlang("price", price)
        .build()
}

fn shop(from: &Release) -> Shop {
    let shop = Shop::of(from).carts(5).pool(10).start();
    shop.probe().eval("{module, _} = code:load_file(price), ok.");
    shop
}

fn found<'a>(run: &'a Run, code: &str) -> Vec<&'a Value> {
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    reasons.iter().filter(|reason| reason["code"] == code).collect()
}

fn states(code: &str, casts: u64) -> Vec<String> {
    (1..=10).map(|n| format!("{{{code},{n},{casts}}}")).collect()
}

fn clean(shop: &Shop) {
    assert_eq!(shop.probe().suspended(), NONE);
    assert_eq!(shop.probe().traces(), NONE);
}

/// Whether a module has a function is asked of it by its name: the copy that is rehearsed is answered of the running
/// module, where the new function is not.
const BY_NAME: &str = "case erlang:function_exported(price, tax, 1) of true -> price:tax(Casts) end";

#[test]
fn a_rehearsal_that_fails_falsely_can_be_accepted_and_the_code_change_itself_decides() {
    let (from, to) = (release("v1", "Casts"), release("v2", BY_NAME));
    let shop = shop(&from);
    let md5s = shop.probe().md5s();
    let run = Flyhot::upgrade(&shop, &to).run();
    run.expect("refused", 10);
    let failed = found(&run, "rehearsal_failed");
    assert_eq!(failed.len(), 10, "{run}");
    assert_eq!(failed[0]["severity"], "cold", "{run}");
    assert!(
        failed[0]["hint"]
            .as_str()
            .unwrap()
            .contains("--accept rehearsal_failed"),
        "{run}"
    );
    assert_eq!(shop.probe().md5s(), md5s, "{run}");
    assert_eq!(shop.pool(), states("v1", 0), "{run}");

    let run = Flyhot::upgrade(&shop, &to)
        .args(["--accept", "rehearsal_failed"])
        .run();
    run.expect("upgraded", 0);
    assert_eq!(found(&run, "rehearsal_failed")[0]["severity"], "warning", "{run}");
    assert_eq!(shop.pool(), states("v2", 19), "{run}");
    clean(&shop);
}

#[test]
fn a_rehearsal_that_fails_rightly_and_is_accepted_is_undone_after_the_swap() {
    let (from, to) = (release("v1", "Casts"), release("v2", "error({cannot, Casts})"));
    let shop = shop(&from);
    let (md5s, pids) = (shop.probe().md5s(), shop.pool_pids());
    let run = Flyhot::upgrade(&shop, &to)
        .args(["--accept", "rehearsal_failed"])
        .run();
    run.expect("reverted", 11);
    assert_eq!(found(&run, "migration_failed").len(), 10, "{run}");
    assert_eq!(shop.probe().md5s(), md5s, "{run}");
    assert_eq!((shop.pool(), shop.pool_pids()), (states("v1", 0), pids), "{run}");
    clean(&shop);
}

/// The state turns bad after the rehearsal: the attempt is given up, and the next one leaves it to the code_change.
#[test]
fn an_accepted_failure_on_a_frozen_state_is_decided_by_the_code_change_too() {
    let (from, to) = (
        release("v1", "Casts"),
        release(
            "v2",
            "case Casts of
                 0 -> 0;
                 _ -> case erlang:function_exported(price, tax, 1) of true -> price:tax(Casts) end
             end",
        ),
    );
    let shop = shop(&from);
    shop.probe().eval(
        "Asked = fun(Asked, P) ->
             case process_info(P, message_queue_len) of
                 {_, 0} -> timer:sleep(1), Asked(Asked, P);
                 _ -> ok
             end
         end,
         Test = self(),
         spawn(fun() ->
             Held = [whereis(pool_1), whereis(pool_10)],
             [erlang:suspend_process(P) || P <- Held],
             Test ! held,
             [Asked(Asked, P) || P <- Held],
             gen_server:call(pool_7, version),
             gen_server:cast(pool_7, bump),
             gen_server:call(pool_7, version),
             [erlang:resume_process(P) || P <- Held]
         end),
         receive held -> ok end.",
    );
    let run = Flyhot::upgrade(&shop, &to)
        .args(["--accept", "rehearsal_failed"])
        .run();
    run.expect("upgraded", 0);
    let attempt = run
        .events_named("attempt")
        .next()
        .unwrap_or_else(|| panic!("{run}"));
    assert_eq!(attempt.json["reasons"][0]["code"], "rehearsal_failed", "{run}");
    let mut expected = states("v2", 0);
    expected[6] = "{v2,7,20}".into();
    assert_eq!(shop.pool(), expected, "{run}");
    clean(&shop);
}

#[test]
fn a_call_of_a_module_that_the_data_names_rules_the_rehearsal_out_and_nothing_else() {
    let (from, to) = (
        release("v1", "Casts"),
        release(
            "v2",
            "(list_to_existing_atom(string:lowercase(\"PRICE\"))):tax(Casts)",
        ),
    );
    let shop = shop(&from);
    let run = Flyhot::upgrade(&shop, &to).run();
    run.expect("upgraded", 0);
    let why = found(&run, "not_rehearsed");
    assert_eq!(why.len(), 1, "{run}");
    assert_eq!(why[0]["subject"], "pool_worker", "{run}");
    assert!(
        why[0]["sentence"]
            .as_str()
            .unwrap()
            .contains("a module that the data names"),
        "{run}"
    );
    assert_eq!(shop.pool(), states("v2", 19), "{run}");
    clean(&shop);
}

/// A process as LiveView's and Channel's are: their host starts them, and says the user's module by `$initial_call`
/// (phoenix_live_view 1.0, lib/phoenix_live_view/channel.ex; phoenix 1.7, lib/phoenix/channel/server.ex).
fn phoenix(host: &str, function: &str) -> String {
    // As Phoenix labels them.
    let (label, _) = host.rsplit_once('.').unwrap();
    format!(
        "-module('{host}').
         -behaviour(gen_server).
         -export([start/1, init/1, handle_call/3, handle_cast/2, code_change/3]).
         start(User) -> gen_server:start(?MODULE, User, []).
         init(User) ->
             put('$initial_call', {{User, {function}, 3}}), put('$process_label', {{'{label}', User, topic}}), {{ok, {{User, User:new()}}}}.
         handle_call(_, _, State) -> {{reply, ok, State}}.
         handle_cast(_, State) -> {{noreply, State}}.
         code_change(Old, {{User, S}}, Extra) ->
             case erlang:function_exported(User, code_change, 3) of
                 true -> {{ok, New}} = User:code_change(Old, S, Extra), {{ok, {{User, New}}}};
                 false -> {{ok, {{User, S}}}}
             end.\n"
    )
}

/// A module of the user that is whatever a process may run: a view, a channel, an agent's or a task's or a raw process's
/// function, and what a library hosts.
fn user(name: &str, code: &str) -> String {
    format!(
        "-module({name}).
         -export([new/0, code_change/3, agent/0, task/0, raw/0]).
         new() -> {{{code}, 1}}.
         code_change(_, {{_, N}}, _) -> {{ok, {{{code}, N}}}}.
         agent() -> 'Elixir.Agent':start(fun() -> {{{code}, 0}} end).
         task() -> 'Elixir.Task':start(fun() -> waits({code}) end).
         raw() -> spawn(fun() -> waits({code}) end).
         waits(Code) -> receive Code -> ok end.\n"
    )
}

#[test]
fn each_kind_of_process_says_whether_it_is_rehearsed() {
    let (live, channel) = ("Elixir.Phoenix.LiveView.Channel", "Elixir.Phoenix.Channel.Server");
    let build = |base: &str, code: &str| {
        let of = |source: &str| source.replace("?TAG", code).replace("TAG", code);
        Release::shop(Otp::under_test(), base)
            .variant()
            .erlang(live, &phoenix(live, "mount"))
            .erlang(channel, &phoenix(channel, "join"))
            .erlang("view", &user("view", code))
            .erlang("room", &user("room", code))
            .erlang("other", &user("other", "v1"))
            .erlang(
                "hosting",
                &include_str!("../fixtures/busy/hosting.erl")
                    .replace("?TAG", "v1")
                    .replace("TAG", "v1"),
            )
            .erlang("guest", &of(include_str!("../fixtures/busy/guest.erl")))
            .erlang("hotel", include_str!("../fixtures/busy/hotel.erl"))
            .build()
    };
    let shop = Shop::of(&build("v1", "v1")).carts(5).pool(5).start();
    shop.probe().eval(&format!(
        "[{{module, M}} = code:load_file(M) || M <- ['{live}', '{channel}', view, room, other, hosting, guest, hotel]],
         {{ok, Hotel}} = hotel:start_link(), unlink(Hotel),
         {{ok, _}} = '{live}':start(view), {{ok, _}} = '{channel}':start(room),
         [{{ok, _}} = M:agent() || M <- [view, other]], [{{ok, _}} = M:task() || M <- [view, other]],
         [M:raw() || M <- [view, other]], ok."
    ));
    let to = build("v2", "v2");
    let run = Flyhot::plan(&shop, &to).run();
    run.expect("planned", 0);
    let planned = run.events_named("plan").next().unwrap();
    let kinds: BTreeMap<(String, String), (String, String)> = planned.json["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| {
            let text = |key: &str| kind[key].as_str().unwrap().to_owned();
            (
                (text("host"), text("behaviour")),
                (text("fate"), text("rehearsal")),
            )
        })
        .collect();
    let expected = [
        // Their own code_change changes: it is tried.
        ("Shop.Cart", "gen_server", "migrate", "in_place"),
        ("Shop.Checkout", "gen_statem", "migrate", "in_place"),
        ("Shop.Meter", "gen_statem", "migrate", "in_place"),
        ("gen_event", "gen_event", "migrate", "in_place"),
        ("shop_special", "special", "migrate", "in_place"),
        // Without one there is nothing to try.
        ("shop_plain", "gen_server", "keep", "no"),
        // The host does not change and calls the user's module by name.
        ("hosting", "gen_server", "migrate", "no"),
        ("Phoenix.LiveView.Channel", "gen_server", "migrate", "no"),
        ("Phoenix.Channel.Server", "gen_server", "migrate", "no"),
        // Never suspended.
        ("Agent.Server", "agent", "leave", "no"),
        ("view", "task", "leave", "no"),
        ("view", "raw", "leave", "no"),
    ];
    for (host, behaviour, fate, rehearsal) in expected {
        assert_eq!(
            kinds.get(&(host.into(), behaviour.into())),
            Some(&(fate.into(), rehearsal.into())),
            "{host} {behaviour}: {run}"
        );
    }
    assert_eq!(kinds.len(), expected.len(), "others are affected: {run}");
    let subjects = |code: &str| {
        let mut subjects: Vec<&str> = found(&run, code)
            .iter()
            .map(|reason| reason["subject"].as_str().unwrap())
            .collect();
        subjects.sort_unstable();
        subjects
    };
    assert_eq!(
        subjects("not_rehearsed"),
        ["Phoenix.Channel.Server", "Phoenix.LiveView.Channel", "hosting"],
        "{run}"
    );
    // The agent holds a fun of a changed module; those of `other` are not named.
    assert_eq!(
        subjects("kind_not_migrated"),
        ["Agent.Server", "view", "view"],
        "{run}"
    );
    for reason in found(&run, "kind_not_migrated") {
        assert!(
            reason["sentence"].as_str().unwrap().starts_with("1 process of"),
            "{run}"
        );
    }
    assert_eq!(subjects("shape_unknown"), ["states"], "{run}");
    assert_eq!(subjects("callbacks_changed"), NONE, "{run}");
    let run = Flyhot::upgrade(&shop, &to).run();
    run.expect("upgraded", 0);
    assert_eq!(
        shop.probe().eval(
            "lists:sort([sys:get_state(P) || P <- processes(), {_, D} <- [process_info(P, dictionary)],
                         {'$initial_call', {M, F, 3}} <- [lists:keyfind('$initial_call', 1, D)],
                         lists:member({M, F}, [{view, mount}, {room, join}])])."
        ),
        "[{room,{v2,1}},{view,{v2,1}}]",
        "{run}"
    );
    clean(&shop);
}

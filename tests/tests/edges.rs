//! What an upgrade meets beside the processes it migrates: callers that see many modules at once, logger, tables, and
//! requests that span the swap.

use std::time::Duration;

use flyhot_tests::{Flyhot, Otp, Release, Shop, rounds, wait_until};

const NONE: [&str; 0] = [];

/// A process does one thing, whatever a loaded machine makes of that.
const SOON: Duration = Duration::from_secs(30);

/// Modules that a caller sees.
const MODULES: usize = 20;

fn start(release: &Release, modules: &str) -> Shop {
    let shop = Shop::of(release).carts(10).pool(10).start();
    shop.probe().eval(&format!(
        "[{{module, M}} = code:load_file(M) || M <- [{modules}]], ok."
    ));
    shop
}

/// Whoever calls one module after the other never meets an old one behind a new one, and none is ever missing.
#[test]
fn modules_change_at_one_instant_and_are_never_missing() {
    let names: Vec<String> = (1..=MODULES).map(|n| format!("part_{n}")).collect();
    let release = |tag: &str| {
        let mut variant = Release::shop(Otp::under_test(), "v1").variant();
        for name in &names {
            variant = variant.erlang(
                name,
                &format!("-module({name}). -export([version/0]). version() -> {tag}.\n"),
            );
        }
        variant.build()
    };
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = start(&v1, &names.join(", "));
    shop.probe().eval(&format!(
        "Parts = [{names}],
         %% Answers what was wrong: an old one behind a new one in one pass, or a module that was not there.
         Look = fun(Look, Passes, Wrong) ->
             Seen = [case erlang:function_exported(M, version, 0) of true -> M:version(); false -> missing end || M <- Parts],
             %% Newer first: a pass that began before the swap sees old ones, then new ones.
             Behind = lists:dropwhile(fun(V) -> V =:= element(1, Passes) end, Seen),
             Bad = lists:member(missing, Seen) orelse length(lists:usort(Behind)) > 1,
             receive {{wrong, To}} -> To ! {{wrong, element(2, Passes), Wrong}}
             after 0 -> Look(Look, {{lists:last(Seen), element(2, Passes) + 1}}, case Bad of true -> [Seen | Wrong]; false -> Wrong end)
             end
         end,
         register(looker, spawn(fun() -> Look(Look, {{v1, 0}}, []) end)), ok.",
        names = names.join(", ")
    ));
    for round in 0..rounds(4, 40) {
        let run = Flyhot::upgrade(&shop, if round % 2 == 0 { &v2 } else { &v1 }).run();
        run.expect("upgraded", 0);
    }
    let wrong = shop.probe().eval(
        "looker ! {wrong, self()}, receive {wrong, N, W} when N > 1000 -> W; {wrong, N, _} -> {only, N} end.",
    );
    assert_eq!(wrong, "[]");
}

/// A handler of logger runs in whoever logs: each event comes through the one code or the other, none is lost, and logger
/// does not take the handler away.
#[test]
fn a_handler_of_logger_changes_while_everybody_logs() {
    let release = |tag: &str| {
        let source = format!(
            "-module(tattle). -export([log/2]).
             log(#{{msg := {{report, #{{n := N}}}}}}, _) -> collector ! {{{tag}, N}}, ok;
             log(_, _) -> ok.\n"
        );
        Release::shop(Otp::under_test(), "v1")
            .variant()
            .erlang("tattle", &source)
            .build()
    };
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = start(&v1, "tattle");
    shop.probe().eval(
        "Collect = fun(Collect, All) ->
             receive {told, To} -> To ! {told, lists:reverse(All)}; {V, N} when is_integer(N) -> Collect(Collect, [{V, N} | All]) end
         end,
         register(collector, spawn(fun() -> Collect(Collect, []) end)),
         ok = logger:add_handler(tattle, tattle, #{level => error}),
         logger:set_handler_config(default, level, none),
         Log = fun(Log, N) ->
             logger:log(error, #{n => N}),
             receive {stop, To} -> To ! {logged, N} after 1 -> Log(Log, N + 1) end
         end,
         register(talker, spawn(fun() -> Log(Log, 1) end)), ok.",
    );
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    let told = shop.probe().eval(
        "talker ! {stop, self()}, N = receive {logged, L} -> L end,
         collector ! {told, self()}, Told = receive {told, T} -> T end,
         {[I || {_, I} <- Told] =:= lists:seq(1, N), [V || {V, _} <- Told] =:= lists:sort([V || {V, _} <- Told]),
          lists:usort([V || {V, _} <- Told]), lists:member(tattle, logger:get_handler_ids())}.",
    );
    assert_eq!(told, "{true,true,[v1,v2],true}", "{run}");
}

/// A process that is ended takes its tables with it: the outcome says which, but not those that have an heir.
#[test]
fn the_tables_of_a_process_that_is_ended_are_named() {
    let release = |change: &str| {
        let source = format!(
            "-module(prices). -behaviour(gen_server).
             -export([start_link/0, init/1, handle_call/3, handle_cast/2, code_change/3, hold/0]).
             start_link() -> gen_server:start_link({{local, ?MODULE}}, ?MODULE, [], []).
             init([]) ->
                 ets:new(price_list, [named_table]),
                 ets:new(price_heir, [{{heir, whereis(shop_plain), gone}}]),
                 {{ok, state}}.
             handle_call(_, _, S) -> {{reply, S, S}}.
             handle_cast(_, S) -> {{noreply, S}}.
             code_change(_, S, _) -> {change}.
             hold() -> receive go -> ok end, held.\n"
        );
        Release::shop(Otp::under_test(), "v1")
            .variant()
            .erlang("prices", &source)
            .build()
    };
    let (v1, v2) = (release("{ok, S}"), release("error({bad, S})"));
    let shop = start(&v1, "prices");
    shop.probe().eval(
        "{ok, _} = supervisor:start_child('Elixir.Shop.Supervisor', #{id => prices, start => {prices, start_link, []}}),
         register(holding, spawn(prices, hold, [])), ok.",
    );
    let run = Flyhot::upgrade(&shop, &v2)
        .args(["--no-rehearsal", "--revert-budget", "200ms"])
        .run();
    run.expect("degraded", 15);
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    let ended = reasons
        .iter()
        .find(|reason| reason["code"] == "process_ended")
        .unwrap()["sentence"]
        .as_str()
        .unwrap();
    assert!(
        ended.contains("(prices)") && ended.contains("price_list") && !ended.contains("price_heir"),
        "{run}"
    );
    wait_until("its supervisor has started it again", SOON, || {
        shop.probe().eval("ets:info(price_list, size).") == "0"
    });
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
}

/// One that is inside the old code of a module at the swap goes on there, and meets the new code of all others: what
/// these do not export any more is named beforehand.
#[test]
fn a_request_that_spans_the_swap_meets_the_new_code_of_other_modules() {
    let release = |tag: &str, inner: &str| {
        Release::shop(Otp::under_test(), "v1")
            .variant()
            .erlang(
                "outer",
                &format!(
                    "-module(outer). -export([work/1, tag/0]). tag() -> {tag}.
                     work(Name) -> receive go -> ok end, register(Name, self()), R = inner:Name(), receive {{ask, To}} -> To ! R end.\n"
                ),
            )
            .erlang("inner", inner)
            .build()
    };
    let v1 = release(
        "v1",
        "-module(inner). -export([kept/0, gone/0]). kept() -> v1. gone() -> v1.\n",
    );
    let v2 = release("v2", "-module(inner). -export([kept/0]). kept() -> v2.\n");
    let shop = start(&v1, "outer, inner");
    shop.probe().eval(
        "persistent_term:put(requests, [spawn(fun() -> outer:work(N), ok end) || N <- [kept, gone]]), ok.",
    );
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    let named = reasons
        .iter()
        .find(|reason| reason["code"] == "export_removed")
        .unwrap_or_else(|| panic!("it is not named: {run}"));
    let sentence = named["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("inner.gone/0") && !sentence.contains("kept"),
        "{run}"
    );
    let met = shop.probe().eval(
        "[begin
             Mon = monitor(process, P), P ! go,
             receive {'DOWN', Mon, process, _, {undef, _}} -> undef
             after 0 ->
                 (fun W() -> case whereis(kept) of P -> P ! {ask, self()}, receive V -> V end;
                     _ -> receive {'DOWN', Mon, process, _, {undef, _}} -> undef after 5 -> W() end end end)()
             end
         end || P <- persistent_term:get(requests)].",
    );
    assert_eq!(met, "[v2,undef]", "{run}");
}

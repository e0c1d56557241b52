//! What the verdict says before anything is touched: each reason on a real node, beside what is near to it and gives
//! none.

use std::fs;

use flyhot_tests::{Flyhot, Otp, Release, Run, Scratch, Shop, Variant, workspace};
use serde_json::Value;

const NONE: [&str; 0] = [];

fn v1() -> Release {
    Release::shop(Otp::under_test(), "v1")
}

/// v1 with these modules besides.
fn with(modules: &[(&str, String)]) -> Release {
    variant(modules).build()
}

fn variant(modules: &[(&str, String)]) -> Variant {
    modules.iter().fold(v1().variant(), |variant, (name, source)| {
        if name.starts_with(|first: char| first.is_ascii_lowercase()) {
            variant.erlang(name, source)
        } else {
            variant.elixir(name, source)
        }
    })
}

fn small(release: &Release) -> Shop {
    Shop::of(release).carts(5).pool(5).start()
}

fn plan(shop: &Shop, to: &Release) -> Run {
    Flyhot::plan(shop, to).run()
}

fn found<'a>(run: &'a Run, code: &str) -> Vec<&'a Value> {
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    reasons.iter().filter(|reason| reason["code"] == code).collect()
}

/// What the reasons with this code are about.
fn about<'a>(run: &'a Run, code: &str) -> Vec<&'a str> {
    found(run, code)
        .into_iter()
        .map(|reason| reason["subject"].as_str().unwrap())
        .collect()
}

fn clean(shop: &Shop) {
    assert_eq!(shop.probe().suspended(), NONE);
    assert_eq!(shop.probe().traces(), NONE);
}

/// A gen_server that has no code_change; `more` are functions, exported.
fn server(name: &str, init: &str, info: &str, tag: &str, more: &[(&str, &str)]) -> String {
    let exports: String = more.iter().map(|(export, _)| format!(", {export}")).collect();
    let functions: String = more.iter().map(|(_, function)| format!("{function}\n")).collect();
    format!(
        "-module({name}).
         -behaviour(gen_server).
         -export([start/0, init/1, handle_call/3, handle_cast/2{exports}]).
         start() -> gen_server:start({{local, {name}}}, ?MODULE, [], []).
         init([]) -> {init}.
         handle_call(_, _, State) -> {{reply, {tag}, State}}.
         handle_cast(_, State) -> {{noreply, State}}.
         {info}
         {functions}"
    )
}

/// Loads modules of the release and starts a process of each, which nobody's death ends.
fn start(shop: &Shop, modules: &[&str]) {
    for module in modules {
        shop.probe().eval(&format!(
            "{{module, _}} = code:load_file({module}), {{ok, _}} = {module}:start(), ok."
        ));
    }
}

#[test]
fn a_gen_server_that_waits_for_a_timeout_is_named_and_one_that_does_not_is_not() {
    let sleeper = |tag: &str| {
        server(
            "sleeper",
            "{ok, 0, 3600000}",
            "",
            tag,
            &[("handle_info/2", "handle_info(timeout, N) -> {noreply, N + 1}.")],
        )
    };
    let clerk = |tag: &str| {
        server(
            "clerk",
            "{ok, 0}",
            "",
            tag,
            &[
                ("handle_info/2", "handle_info(_, N) -> {noreply, N}."),
                ("timeout/0", "timeout() -> timeout."),
            ],
        )
    };
    let from = with(&[("sleeper", sleeper("v1")), ("clerk", clerk("v1"))]);
    let shop = small(&from);
    start(&shop, &["sleeper", "clerk"]);
    let run = plan(
        &shop,
        &with(&[("sleeper", sleeper("v2")), ("clerk", clerk("v2"))]),
    );
    run.expect("planned", 0);
    assert_eq!(about(&run, "timeout_restarted"), ["sleeper"], "{run}");
    // The code that runs decides: it waits, whatever the new code knows.
    let run = plan(
        &shop,
        &with(&[("sleeper", clerk("v2").replace("clerk", "sleeper"))]),
    );
    assert_eq!(about(&run, "timeout_restarted"), ["sleeper"], "{run}");
}

#[test]
fn a_supervisor_whose_init_changed_is_named_and_one_whose_other_function_changed_is_not() {
    let warden = |children: &str, other: &str| {
        format!(
            "-module(warden).
             -behaviour(supervisor).
             -export([start/0, init/1, other/0]).
             start() -> {{ok, Pid}} = supervisor:start_link({{local, warden}}, ?MODULE, []), unlink(Pid), {{ok, Pid}}.
             init([]) -> {{ok, {{{{one_for_one, 1, 5}}, children([a])}}}}.
             other() -> {other}.
             children(_) -> {children}.\n"
        )
    };
    let of = |children: &str, other: &str| variant(&[("warden", warden(children, other))]).stripped().build();
    let shop = small(&of("[]", "v1"));
    start(&shop, &["warden"]);
    let run = plan(&shop, &of("[]", "lists:seq(1, 2)"));
    run.expect("planned", 0);
    assert_eq!(about(&run, "supervisor_changed"), NONE, "{run}");
    let run = plan(
        &shop,
        &of("[#{id => a, start => {clerk, start, []}}]", "lists:seq(1, 2)"),
    );
    run.expect("planned", 0);
    assert_eq!(about(&run, "supervisor_changed"), ["warden"], "{run}");
}

/// It would fail if it was called again, by anybody.
#[test]
fn an_init_of_a_supervisor_that_has_effects_is_not_called_again() {
    let warden = |intensity: u8| {
        format!(
            "-module(warden).
             -behaviour(supervisor).
             -export([start/0, init/1]).
             start() -> {{ok, Pid}} = supervisor:start_link({{local, warden}}, ?MODULE, []), unlink(Pid), {{ok, Pid}}.
             init([]) ->
                 application:set_env(shop, inits, application:get_env(shop, inits, 0) + 1),
                 warden = ets:new(warden, [named_table, public]),
                 ets:insert(warden, {{kept, 1}}),
                 {{ok, {{{{one_for_one, {intensity}, 5}}, []}}}}.\n"
        )
    };
    let of = |intensity| with(&[("warden", warden(intensity))]);
    let shop = small(&of(1));
    start(&shop, &["warden"]);
    let look = "{whereis(warden), ets:info(warden, owner) =:= whereis(warden), ets:lookup(warden, kept), application:get_env(shop, inits)}.";
    let before = shop.probe().eval(look);
    assert!(before.ends_with(",true,[{kept,1}],{ok,1}}"), "{before}");
    let run = Flyhot::upgrade(&shop, &of(2)).run();
    run.expect("upgraded", 0);
    assert_eq!(about(&run, "supervisor_changed"), ["warden"], "{run}");
    assert_eq!(shop.probe().eval(look), before, "{run}");
    clean(&shop);
}

#[test]
fn a_start_function_that_changed_is_named_and_another_of_its_module_is_not() {
    let source = fs::read_to_string(workspace().join("tests/fixtures/shop/lib/shop/application.ex")).unwrap();
    let of = |from: &str, to: &str| {
        let changed = source.replace(from, to);
        assert_ne!(source, changed);
        with(&[("Application", changed)])
    };
    let shop = small(&v1());
    let run = plan(&shop, &of("for id <- 1..count//1 do", "for id <- 2..count//1 do"));
    run.expect("planned", 0);
    assert_eq!(about(&run, "start_module_changed"), NONE, "{run}");
    let run = plan(
        &shop,
        &of(
            "strategy: :one_for_one,",
            "strategy: :one_for_one, max_restarts: 4,",
        ),
    );
    run.expect("planned", 0);
    assert_eq!(about(&run, "start_module_changed"), ["Shop.Application"], "{run}");
}

/// The release is stripped: nothing is told by attributes or abstract code.
#[test]
fn a_record_that_grows_is_named_unless_its_code_change_changed() {
    let keeper = |init: &str, tag: &str, code_change: &str| {
        server(
            "keeper",
            init,
            "",
            tag,
            &[(
                "code_change/3",
                &format!("code_change(_, S, _) -> {code_change}."),
            )],
        )
    };
    let of = |source: String| variant(&[("keeper", source)]).stripped().build();
    let (small_state, large_state) = ("{ok, {state, self(), []}}", "{ok, {state, self(), [], #{}}}");
    let shop = small(&of(keeper(small_state, "v1", "{ok, S}")));
    start(&shop, &["keeper"]);

    let run = plan(&shop, &of(keeper(large_state, "v2", "{ok, S}")));
    run.expect("planned", 0);
    assert_eq!(about(&run, "shape_changed"), ["keeper"], "{run}");
    let sentence = found(&run, "shape_changed")[0]["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("state") && sentence.contains("4 elements and had 3"),
        "{run}"
    );
    assert_eq!(about(&run, "shape_unknown"), NONE, "{run}");

    let taken_over = "{ok, erlang:append_element(S, #{})}";
    let run = plan(&shop, &of(keeper(large_state, "v2", taken_over)));
    assert_eq!(about(&run, "shape_changed"), NONE, "{run}");
    assert_eq!(about(&run, "shape_unknown"), NONE, "{run}");

    let run = plan(&shop, &of(keeper(small_state, "v2", "{ok, S}")));
    assert_eq!(about(&run, "shape_changed"), NONE, "{run}");
    assert_eq!(about(&run, "shape_unknown"), ["states"], "{run}");
}

/// `use GenServer` gives every module a code_change that hands the state on as it is.
#[test]
fn a_struct_that_grows_is_named_where_its_server_has_the_code_change_it_always_had() {
    let basket = |keys: &str, code_change: &str| {
        format!(
            "defmodule Shop.Basket do
               use GenServer
               defstruct {keys}
               def start, do: GenServer.start(__MODULE__, [])
               def init(_), do: {{:ok, %__MODULE__{{}}}}
               {code_change}
             end\n"
        )
    };
    let of = |source: String| variant(&[("Basket", source)]).stripped().build();
    let shop = small(&of(basket("[:a]", "")));
    start(&shop, &["'Elixir.Shop.Basket'"]);
    let run = plan(&shop, &of(basket("[:a, :b]", "")));
    run.expect("planned", 0);
    assert_eq!(about(&run, "shape_changed"), ["Shop.Basket"], "{run}");
    let takes_over = "def code_change(_, old, _), do: {:ok, Map.put(old, :b, nil)}";
    let run = plan(&shop, &of(basket("[:a, :b]", takes_over)));
    run.expect("planned", 0);
    assert_eq!(about(&run, "shape_changed"), NONE, "{run}");
}

#[test]
fn a_callback_that_is_gone_is_named_and_one_that_is_new_is_not() {
    let clerk = |tag: &str, more: &[(&str, &str)]| server("clerk", "{ok, 0}", "", tag, more);
    let info = ("handle_info/2", "handle_info(_, N) -> {noreply, N}.");
    let goes_on = ("handle_continue/2", "handle_continue(_, N) -> {noreply, N}.");
    let shop = small(&with(&[("clerk", clerk("v1", &[info]))]));
    start(&shop, &["clerk"]);
    let run = plan(&shop, &with(&[("clerk", clerk("v2", &[info, goes_on]))]));
    run.expect("planned", 0);
    assert_eq!(about(&run, "callbacks_changed"), NONE, "{run}");
    let run = plan(&shop, &with(&[("clerk", clerk("v2", &[goes_on]))]));
    run.expect("planned", 0);
    assert_eq!(about(&run, "callbacks_changed"), ["clerk"], "{run}");
}

#[test]
fn a_state_machine_that_changes_its_mode_needs_a_code_change_to_be_asked_for_it() {
    let door = |mode: &str, code_change: &str| {
        format!(
            "-module(door).
             -behaviour(gen_statem).
             -export([start/0, init/1, callback_mode/0, open/3, handle_event/4, code_change/CHANGE]).
             start() -> gen_statem:start({{local, door}}, ?MODULE, [], []).
             init([]) -> {{ok, open, {mode}}}.
             callback_mode() -> {mode}.
             open(_, _, _) -> keep_state_and_data.
             handle_event(_, _, _, _) -> keep_state_and_data.
             {code_change}\n"
        )
    };
    let without = |mode: &str| door(mode, "code_change(_, _, _) -> never.").replace("CHANGE", "3");
    let asked = |mode: &str| door(mode, "code_change(_, S, D, _) -> {ok, S, D}.").replace("CHANGE", "4");
    let shop = small(&with(&[("door", without("state_functions"))]));
    start(&shop, &["door"]);
    let run = plan(&shop, &with(&[("door", without("handle_event_function"))]));
    run.expect("refused", 10);
    assert_eq!(about(&run, "callback_mode_changed"), ["door"], "{run}");
    let run = plan(&shop, &with(&[("door", asked("handle_event_function"))]));
    run.expect("planned", 0);
    assert_eq!(about(&run, "callback_mode_changed"), NONE, "{run}");
}

/// After `--no-persist` say: the running code is not on the disk, and cannot be compared with the new code.
#[test]
fn a_state_machine_of_code_that_is_not_on_the_disk_is_asked_for_its_mode() {
    let door = |mode: &str, tag: &str| {
        format!(
            "-module(door).
             -behaviour(gen_statem).
             -export([start/0, init/1, callback_mode/0, open/3, handle_event/4, tag/0]).
             start() -> gen_statem:start({{local, door}}, ?MODULE, [], []).
             init([]) -> {{ok, open, []}}.
             callback_mode() -> {mode}.
             open(_, _, _) -> keep_state_and_data.
             handle_event(_, _, _, _) -> keep_state_and_data.
             tag() -> {tag}.\n"
        )
    };
    let of = |mode: &str, tag: &str| with(&[("door", door(mode, tag))]);
    let shop = small(&of("handle_event_function", "v1"));
    let by_hand = of("state_functions", "by_hand");
    shop.probe().eval(&format!(
        "{{ok, Beam}} = file:read_file({:?}),
         {{module, door}} = code:load_binary(door, \"by hand\", Beam), {{ok, _}} = door:start(), ok.",
        by_hand.ebin("shop").join("door.beam")
    ));
    let run = Flyhot::upgrade(&shop, &of("handle_event_function", "v2")).run();
    run.expect("refused", 10);
    assert_eq!(about(&run, "drift"), ["door"], "{run}");
    assert_eq!(about(&run, "callback_mode_changed"), ["door"], "{run}");
    // Nobody can say what it will answer.
    let run = plan(
        &shop,
        &of("application:get_env(shop, mode, state_functions)", "v2"),
    );
    run.expect("refused", 10);
    let sentence = found(&run, "callback_mode_changed")[0]["sentence"]
        .as_str()
        .unwrap();
    assert!(sentence.contains("cannot be known"), "{run}");
    let run = plan(&shop, &of("state_functions", "v2"));
    run.expect("planned", 0);
    assert_eq!(about(&run, "callback_mode_changed"), NONE, "{run}");
    clean(&shop);
}

/// What Mix writes of `Application.compile_env/3` against what the node's configuration has.
#[test]
fn code_compiled_with_another_configuration_is_cold_and_can_be_accepted() {
    let shop = small(&v1());
    let v2 = Release::shop(Otp::under_test(), "v2");
    let run = plan(&shop, &v2);
    run.expect("planned", 0);
    assert_eq!(about(&run, "compile_config_changed"), NONE, "{run}");

    shop.probe()
        .eval("application:set_env(shop, currency, 'a secret').");
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("refused", 10);
    assert_eq!(about(&run, "compile_config_changed"), ["shop"], "{run}");
    let sentence = found(&run, "compile_config_changed")[0]["sentence"]
        .as_str()
        .unwrap();
    assert!(
        sentence.contains("shop -> currency") && !run.stdout.contains("secret"),
        "{run}"
    );
    let run = Flyhot::upgrade(&shop, &v2)
        .args(["--accept", "compile_config_changed"])
        .run();
    run.expect("upgraded", 0);
    assert_eq!(about(&run, "compile_config_changed"), ["shop"], "{run}");
    clean(&shop);
}

#[test]
fn a_shared_library_that_differs_is_cold_whatever_the_beams_are() {
    let of = |library: &str, worker: &str| {
        let source = fs::read_to_string(workspace().join("tests/fixtures/shop/src/pool_worker.erl")).unwrap();
        let source = source.replace("{reply, v1,", &format!("{{reply, {worker},"));
        variant(&[("pool_worker", source)])
            .file("priv/native/price.so", library)
            .build()
    };
    let shop = small(&of("one", "v1"));
    let run = plan(&shop, &of("one", "v2"));
    run.expect("planned", 0);
    assert_eq!(about(&run, "library_changed"), NONE, "{run}");
    let run = plan(&shop, &of("two", "v2"));
    run.expect("refused", 10);
    assert_eq!(about(&run, "library_changed"), ["shop"], "{run}");
    let sentence = found(&run, "library_changed")[0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("priv/native/price.so"), "{run}");
    let run = Flyhot::plan(&shop, &of("two", "v2"))
        .args(["--accept", "library_changed"])
        .run();
    run.expect("planned", 0);

    // With nothing else to do the node still does not run that release.
    Flyhot::upgrade(&shop, &of("one", "v1"))
        .run()
        .expect("nothing_to_do", 0);
    let run = Flyhot::upgrade(&shop, &of("two", "v1")).run();
    run.expect("refused", 10);
    assert_eq!(run.reason_codes(), ["library_changed"], "{run}");
    let run = Flyhot::upgrade(&shop, &of("two", "v1"))
        .args(["--accept", "library_changed"])
        .run();
    run.expect("nothing_to_do", 0);
    assert_eq!(run.reason_codes(), ["library_changed"], "{run}");
}

/// The shared library of the module `in_c`, compiled for the OTP under test.
fn native() -> Vec<u8> {
    let scratch = Scratch::new("in_c");
    let root = Otp::under_test()
        .command("erl", scratch.path())
        .args(["-noshell", "-eval", "io:put_chars(code:root_dir()), halt()."])
        .output()
        .unwrap();
    let include = format!("{}/usr/include", String::from_utf8(root.stdout).unwrap());
    let library = scratch.path().join("in_c.so");
    let compiled = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-I", &include, "-o"])
        .arg(&library)
        .arg(workspace().join("tests/fixtures/verdict/in_c.c"))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    fs::read(library).unwrap()
}

#[test]
fn a_module_that_loads_a_nif_is_refused_where_it_changed_and_only_there() {
    let library = native();
    let module = |tag: &str| {
        format!(
            "-module(in_c).
             -export([load/0, tag/0, answer/0]).
             load() -> erlang:load_nif(filename:join(code:priv_dir(shop), \"in_c\"), 0).
             answer() -> erlang:nif_error(not_loaded).
             tag() -> {tag}.\n"
        )
    };
    let clerk = |tag: &str| ("clerk", server("clerk", "{ok, 0}", "", tag, &[]));
    let of = |native_tag: &str, clerk_tag: &str| {
        variant(&[("in_c", module(native_tag)), clerk(clerk_tag)])
            .file("priv/in_c.so", &library[..])
            .build()
    };
    let shop = small(&of("v1", "v1"));
    start(&shop, &["clerk"]);
    shop.probe()
        .eval("{module, _} = code:load_file(in_c), ok = in_c:load(), ok.");
    let native_answers = || {
        shop.probe()
            .eval("{in_c:tag(), in_c:answer(), gen_server:call(clerk, tag)}.")
    };
    let run = Flyhot::upgrade(&shop, &of("v2", "v2")).run();
    run.expect("refused", 10);
    assert_eq!(about(&run, "nif_changed"), ["in_c"], "{run}");
    assert_eq!(native_answers(), "{v1,native,v1}", "{run}");

    let run = Flyhot::upgrade(&shop, &of("v1", "v2")).run();
    run.expect("upgraded", 0);
    assert_eq!(about(&run, "nif_changed"), NONE, "{run}");
    assert_eq!(native_answers(), "{v1,native,v2}", "{run}");

    // Nor is it deleted with its library inside the node.
    let run = Flyhot::upgrade(&shop, &with(&[clerk("v3")])).run();
    run.expect("upgraded", 0);
    assert!(
        found(&run, "module_removed")[0]["sentence"]
            .as_str()
            .unwrap()
            .contains("in_c (it has native code: stays loaded)"),
        "{run}"
    );
    assert_eq!(native_answers(), "{v1,native,v3}", "{run}");
    clean(&shop);
}

#[test]
fn a_module_with_an_on_load_function_is_refused_where_it_changed_and_only_there() {
    let loading = |tag: &str| {
        format!(
            "-module(loading).
             -on_load(begins/0).
             -export([tag/0]).
             begins() -> ok.
             tag() -> {tag}.\n"
        )
    };
    let of = |loading_tag: &str, server_tag: &str| {
        with(&[
            ("loading", loading(loading_tag)),
            ("clerk", server("clerk", "{ok, 0}", "", server_tag, &[])),
        ])
    };
    let shop = small(&of("v1", "v1"));
    start(&shop, &["clerk"]);
    shop.probe().eval("{module, _} = code:load_file(loading), ok.");
    let run = plan(&shop, &of("v1", "v2"));
    run.expect("planned", 0);
    assert_eq!(about(&run, "on_load_changed"), NONE, "{run}");
    let run = plan(&shop, &of("v2", "v2"));
    run.expect("refused", 10);
    assert_eq!(about(&run, "on_load_changed"), ["loading"], "{run}");
}

#[test]
fn a_release_for_another_processor_is_cold() {
    let (shop, v2) = (small(&v1()), Release::shop(Otp::under_test(), "v2"));
    assert_eq!(about(&plan(&shop, &v2), "toolchain_differs"), NONE);
    let scratch = Scratch::new("processor");
    let other = v2.copied(scratch.path());
    let erts = fs::read_dir(scratch.path()).unwrap().flatten();
    let erts = erts
        .map(|entry| entry.path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("erts-"));
    let emulator = erts.unwrap().join("bin/beam.smp");
    let mut bytes = fs::read(&emulator).unwrap();
    // e_machine of the ELF header: SPARC, which no test runs on and no ERTS of OTP 25 or later is built for.
    assert_eq!(&bytes[..4], b"\x7fELF");
    bytes[18] = if bytes[18] == 22 { 62 } else { 22 };
    fs::write(&emulator, bytes).unwrap();
    let run = plan(&shop, &other);
    run.expect("refused", 10);
    assert_eq!(about(&run, "toolchain_differs"), ["the architecture"], "{run}");
}

#[test]
fn what_tools_did_to_a_changed_module_is_seen_and_what_they_did_to_others_is_not() {
    let shop = small(&v1());
    let v2 = Release::shop(Otp::under_test(), "v2");
    let codes = [
        "traced_module",
        "sticky_module",
        "cover_compiled",
        "drift",
        "way_back_none",
    ];
    shop.probe().eval(
        "1 = erlang:trace_pattern({shop_pool, init, 1}, true, [local]),
         code:stick_mod(shop_pool), ok.",
    );
    let run = plan(&shop, &v2);
    run.expect("planned", 0);
    for code in codes {
        assert_eq!(about(&run, code), NONE, "{code}: {run}");
    }

    // One function, for calls from anywhere; then in a session of its own, as dbg does from OTP 27 on.
    shop.probe()
        .eval("1 = erlang:trace_pattern({shop_plain, init, 1}, true, [global]), ok.");
    let run = plan(&shop, &v2);
    assert_eq!(about(&run, "traced_module"), ["shop_plain"], "{run}");
    shop.probe()
        .eval("1 = erlang:trace_pattern({shop_plain, init, 1}, false, [global]), ok.");
    assert_eq!(about(&plan(&shop, &v2), "traced_module"), NONE);
    let sessions = shop
        .probe()
        .eval("erlang:function_exported(trace, session_create, 3).");
    assert_eq!(sessions == "true", Otp::under_test() != Otp::v25());
    if sessions == "true" {
        shop.probe().eval(
            "register(tracing, spawn(fun() ->
                 Session = trace:session_create(test, self(), []),
                 trace:function(Session, {shop_plain, init, 1}, true, [local]),
                 receive stop -> trace:session_destroy(Session) end
             end)), ok.",
        );
        let run = plan(&shop, &v2);
        assert_eq!(about(&run, "traced_module"), ["shop_plain"], "{run}");
        shop.probe().eval("tracing ! stop, ok.");
    }

    shop.probe().eval("code:stick_mod(shop_plain), ok.");
    let run = plan(&shop, &v2);
    run.expect("refused", 10);
    assert_eq!(about(&run, "sticky_module"), ["shop_plain"], "{run}");
    shop.probe().eval("code:unstick_mod(shop_plain), ok.");

    shop.probe().eval(
        "{ok, Beam} = file:read_file(code:which(shop_plain)),
         {module, _} = code:load_binary(shop_plain, cover_compiled, Beam), ok.",
    );
    let run = plan(&shop, &v2);
    run.expect("refused", 10);
    assert_eq!(about(&run, "cover_compiled"), ["shop_plain"], "{run}");
    let run = Flyhot::plan(&shop, &v2)
        .args(["--accept", "cover_compiled"])
        .run();
    run.expect("planned", 0);
}

#[test]
fn code_that_somebody_loaded_by_hand_is_drift_and_has_no_way_back() {
    let shop = small(&v1());
    let v2 = Release::shop(Otp::under_test(), "v2");
    shop.probe().eval(
        "Forms = [{attribute, 1, module, shop_plain}, {attribute, 2, export, [{patched, 0}]},
                  {function, 3, patched, 0, [{clause, 3, [], [], [{atom, 3, yes}]}]}],
         {ok, M, Beam} = compile:forms(Forms), {module, M} = code:load_binary(M, \"by hand\", Beam), ok.",
    );
    let run = plan(&shop, &v2);
    run.expect("planned", 0);
    assert_eq!(about(&run, "drift"), ["shop_plain"], "{run}");
    assert_eq!(about(&run, "way_back_none").len(), 1, "{run}");
    let run = Flyhot::plan(&shop, &v2).args(["--require-way-back"]).run();
    run.expect("refused", 10);
    assert_eq!(about(&run, "way_back_required").len(), 1, "{run}");
}

#[test]
fn an_application_that_is_gone_from_the_release_is_cold() {
    let shop = small(&v1());
    let v2 = Release::shop(Otp::under_test(), "v2");
    let ebin = shop.directory().join("lib/extra-1.0.0/ebin");
    fs::create_dir_all(&ebin).unwrap();
    fs::write(
        ebin.join("extra.app"),
        "{application, extra, [{vsn, \"1.0.0\"}, {modules, []}, {registered, []}, {applications, [kernel, stdlib]}]}.\n",
    )
    .unwrap();
    assert_eq!(about(&plan(&shop, &v2), "application_removed"), NONE);
    shop.probe().eval(&format!(
        "true = code:add_pathz({ebin:?}), ok = application:start(extra)."
    ));
    let run = plan(&shop, &v2);
    run.expect("refused", 10);
    assert_eq!(about(&run, "application_removed"), ["extra"], "{run}");
    let run = Flyhot::plan(&shop, &v2)
        .args(["--accept", "application_removed"])
        .run();
    run.expect("planned", 0);
}

/// The one module that changes here takes its state over by a code_change that changed: nothing is to be said, before or
/// after.
#[test]
fn an_upgrade_without_a_cause_has_no_reason() {
    let keeper = |tag: &str| {
        server(
            "keeper",
            &format!("{{ok, {tag}}}"),
            "",
            tag,
            &[(
                "code_change/3",
                &format!("code_change(_, _, _) -> {{ok, {tag}}}."),
            )],
        )
    };
    let shop = small(&with(&[("keeper", keeper("v1"))]));
    start(&shop, &["keeper"]);
    let run = Flyhot::upgrade(&shop, &with(&[("keeper", keeper("v2"))])).run();
    run.expect("upgraded", 0);
    assert_eq!(run.reason_codes(), NONE, "{run}");
    assert_eq!(shop.probe().eval("sys:get_state(keeper)."), "v2");
    clean(&shop);
}

#[test]
fn what_an_option_takes_away_is_named() {
    let shop = Shop::of(&v1()).carts(5).pool(500).start();
    let v2 = Release::shop(Otp::under_test(), "v2");
    let codes = ["persist_off", "rehearsal_off", "revert_slow"];
    let run = plan(&shop, &v2);
    run.expect("planned", 0);
    for code in codes {
        assert_eq!(about(&run, code), NONE, "{code}: {run}");
    }
    let run = Flyhot::plan(&shop, &v2)
        .args(["--no-persist", "--no-rehearsal", "--revert-budget", "1ms"])
        .run();
    run.expect("planned", 0);
    for code in codes {
        assert_eq!(about(&run, code).len(), 1, "{code}: {run}");
    }
}

/// A server with a code_change: `init` begins it, `start` says how.
fn asked(name: &str, tag: &str, start: &str, init: &str) -> String {
    format!(
        "-module({name}).
         -export([start/0, begins/1, init/1, handle_call/3, handle_cast/2, code_change/3]).
         start() -> {start}.
         begins(N) -> proc_lib:init_ack({{ok, self()}}), gen_server:enter_loop({name}, [], N).
         init(N) -> {init}, {{ok, N}}.
         handle_call(ping, _, N) -> {{reply, {tag}, N}}.
         handle_cast(_, N) -> {{noreply, N}}.
         code_change(_, N, _) -> {{ok, {{{tag}, N}}}}.\n"
    )
}

/// release_handler would ask them, by what their supervisor says of them. Whoever cannot be asked here is not passed over.
#[test]
fn who_cannot_be_asked_for_its_code_change_makes_it_cold() {
    let by_server = |name: &str| format!("gen_server:start({name}, 0, [])");
    let entered = "proc_lib:start(entered, begins, [0])";
    let machine = |tag: &str| {
        format!(
            "-module(machine).
             -export([start/0, init/1, idle/2, idle/3, handle_info/3, handle_event/3, handle_sync_event/4, terminate/3, code_change/4]).
             start() -> gen_fsm:start(machine, 0, []).
             init(N) -> {{ok, idle, N}}.
             idle(_, N) -> {{next_state, idle, N}}.
             idle(_, _, N) -> {{reply, {tag}, idle, N}}.
             handle_info(_, S, N) -> {{next_state, S, N}}.
             handle_event(_, S, N) -> {{next_state, S, N}}.
             handle_sync_event(_, _, S, N) -> {{reply, {tag}, S, N}}.
             terminate(_, _, _) -> ok.
             code_change(_, S, N, _) -> {{ok, S, {{{tag}, N}}}}.\n"
        )
    };
    let all = |tag: &str| {
        [
            ("erased", asked("erased", tag, &by_server("erased"), "erase()")),
            (
                "secret",
                asked(
                    "secret",
                    tag,
                    &by_server("secret"),
                    "process_flag(sensitive, true)",
                ),
            ),
            ("entered", asked("entered", tag, entered, "ok")),
            ("machine", machine(tag)),
            ("plainly", asked("plainly", tag, &by_server("plainly"), "ok")),
            (
                "asleep",
                asked("asleep", tag, &by_server("asleep"), "erase()")
                    .replace("erase(), {ok, N}.", "erase(), {ok, N, hibernate}."),
            ),
        ]
    };
    let (v1, v2) = (with(&all("v1")), with(&all("v2")));
    let shop = small(&v1);
    // The supervisor says the module of each.
    shop.probe().eval(
        "[begin {module, M} = code:load_file(M),
                {ok, _} = supervisor:start_child('Elixir.Shop.Supervisor', #{id => M, start => {M, start, []}})
          end || M <- [erased, secret, entered, machine, asleep, plainly]], ok.",
    );
    let run = plan(&shop, &v2);
    run.expect("refused", 10);
    let mut cold = about(&run, "not_asked");
    cold.sort_unstable();
    assert_eq!(
        cold,
        ["asleep", "entered", "erased", "machine", "secret"],
        "{run}"
    );
    clean(&shop);

    // One that shows its module is asked once that is said.
    let scratch = Scratch::new("hosts");
    let policy = scratch.path().join("flyhot.toml");
    fs::write(
        &policy,
        "[hosts]\nentered = [\"entered\"]\nmachine = [\"machine\"]\n",
    )
    .unwrap();
    let named = Flyhot::plan(&shop, &v2)
        .args(["--policy", policy.to_str().unwrap()])
        .run();
    named.expect("refused", 10);
    assert!(about(&named, "not_asked").contains(&"machine"), "{named}");
    assert!(!about(&named, "not_asked").contains(&"entered"), "{named}");
    fs::write(&policy, "[hosts]\nentered = [\"entered\"]\n").unwrap();
    let own = |tag: &str| {
        [
            ("entered", asked("entered", tag, entered, "ok")),
            ("plainly", asked("plainly", tag, &by_server("plainly"), "ok")),
        ]
    };
    let (v1, v2) = (with(&own("v1")), with(&own("v2")));
    let shop = small(&v1);
    shop.probe().eval(
        "[begin {module, M} = code:load_file(M), {ok, P} = M:start(), register(M, P) end || M <- [entered, plainly]], ok.",
    );
    let run = Flyhot::upgrade(&shop, &v2)
        .args(["--policy", policy.to_str().unwrap()])
        .run();
    run.expect("upgraded", 0);
    assert_eq!(about(&run, "not_asked"), NONE, "{run}");
    assert_eq!(
        shop.probe()
            .eval("[sys:get_state(M) || M <- [entered, plainly]]."),
        "[{v2,0},{v2,0}]",
        "{run}"
    );
    clean(&shop);
}

//! State machines whose callback_mode changes: gen_statem takes a new one over in code_change alone, so one that was not
//! asked, or cannot be asked on the way back, would run code that is written for the other mode.

use flyhot_tests::{Flyhot, Otp, Release, Run, Shop, Variant};

const NONE: [&str; 0] = [];

/// A machine in this mode with this code_change. It dies of the first event if that is for the other mode.
fn machine(variant: Variant, mode: &str, code_change: &str) -> Variant {
    let (export, event) = match mode {
        "state_functions" => ("on/3", "on({call, From}, mode, _)"),
        _ => ("handle_event/4", "handle_event({call, From}, mode, on, _)"),
    };
    let more = if code_change.is_empty() {
        ""
    } else {
        ", code_change/4"
    };
    variant.erlang(
        "two_modes",
        &format!(
            "-module(two_modes).
             -behaviour(gen_statem).
             -export([init/1, callback_mode/0, {export}{more}]).
             init(N) -> {{ok, on, N}}.
             callback_mode() -> {mode}.
             {event} -> {{keep_state_and_data, {{reply, From, {mode}}}}}.
             {code_change}\n"
        ),
    )
}

fn start(v1: &Release) -> Shop {
    let shop = Shop::of(v1).carts(10).pool(10).start();
    shop.probe().eval(
        "{module, two_modes} = code:load_file(two_modes),
         [{ok, _} = gen_statem:start({local, list_to_atom(\"machine_\" ++ integer_to_list(N))}, two_modes, N, [])
          || N <- lists:seq(1, 5)], ok.",
    );
    shop
}

/// With a gen_server whose code_change fails.
fn broken_plain(variant: Variant) -> Variant {
    variant.erlang(
        "shop_plain",
        "-module(shop_plain).
         -behaviour(gen_server).
         -export([start_link/0, init/1, handle_call/3, handle_cast/2, code_change/3]).
         start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).
         init(_) -> {ok, fresh}.
         handle_call(_, _, State) -> {reply, ok, State}.
         handle_cast(_, State) -> {noreply, State}.
         code_change(_, _, _) -> error(bad).\n",
    )
}

/// What each machine says of its mode; null where it is gone.
fn modes(shop: &Shop) -> serde_json::Value {
    shop.probe().json(
        "[case whereis(M) of undefined -> undefined; P -> gen_statem:call(P, mode) end
          || N <- lists:seq(1, 5), M <- [list_to_atom(\"machine_\" ++ integer_to_list(N))]].",
    )
}

fn clean(shop: &Shop, run: &Run) {
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

#[test]
fn one_that_is_not_asked_is_not_left_on_code_of_another_mode() {
    let base = Release::shop(Otp::under_test(), "v1");
    let v1 = machine(base.variant(), "state_functions", "").build();
    let v2 = machine(base.variant(), "handle_event_function", "").build();
    let shop = start(&v1);
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("refused", 10);
    assert!(run.reason_codes().contains(&"callback_mode_changed"), "{run}");
    let run = Flyhot::upgrade(&shop, &v2)
        .args(["--accept", "callback_mode_changed", "--revert-budget", "20s"])
        .run();
    run.expect("reverted", 11);
    assert!(run.reason_codes().contains(&"migration_failed"), "{run}");
    assert!(run.to_string().contains("callback_mode"), "{run}");
    assert_eq!(
        modes(&shop),
        serde_json::json!(vec!["state_functions"; 5]),
        "{run}"
    );
    clean(&shop, &run);
}

/// Nobody is frozen for as long as that takes.
#[test]
fn a_callback_mode_that_does_not_return_is_not_waited_for() {
    let base = Release::shop(Otp::under_test(), "v1");
    let v1 = machine(base.variant(), "state_functions", "").build();
    let v2 = machine(base.variant(), "receive never -> state_functions end", "").build();
    let shop = start(&v1);
    let run = Flyhot::upgrade(&shop, &v2)
        .args(["--accept", "callback_mode_changed", "--revert-budget", "20s"])
        .run();
    run.expect("reverted", 11);
    assert!(!run.reason_codes().contains(&"guard_finished"), "{run}");
    assert_eq!(
        modes(&shop),
        serde_json::json!(vec!["state_functions"; 5]),
        "{run}"
    );
    clean(&shop, &run);
}

/// The old code refuses to be led back to: reverted, and whoever cannot go on is ended and named.
#[test]
fn one_that_cannot_be_led_back_is_ended_and_named() {
    let base = Release::shop(Otp::under_test(), "v1");
    let to = "code_change(_, State, N, _) -> {ok, State, N}.";
    let never_down = format!("code_change({{down, _}}, _, _, _) -> error(never_down);\n{to}");
    let v1 = machine(base.variant(), "state_functions", &never_down).build();
    let v2 = broken_plain(machine(base.variant(), "handle_event_function", to));
    let shop = start(&v1);
    let run = Flyhot::upgrade(&shop, &v2.build())
        .args(["--no-rehearsal", "--revert-budget", "20s"])
        .run();
    run.expect("reverted", 11);
    let ended = run
        .reason_codes()
        .iter()
        .filter(|code| **code == "process_ended")
        .count();
    assert_eq!(ended, 5, "{run}");
    assert_eq!(
        modes(&shop),
        serde_json::json!([null, null, null, null, null]),
        "{run}"
    );
    clean(&shop, &run);
}

/// The running code has no code_change/4 that could be asked for the old mode: an undo would end every machine.
#[test]
fn machines_that_could_not_be_led_back_go_on_in_their_new_mode() {
    let base = Release::shop(Otp::under_test(), "v1");
    let v1 = machine(base.variant(), "state_functions", "").build();
    let asked = "code_change(_, State, N, _) -> {ok, State, N}.";
    let v2 = broken_plain(machine(base.variant(), "handle_event_function", asked)).build();
    let shop = start(&v1);
    let run = Flyhot::upgrade(&shop, &v2)
        .args(["--no-rehearsal", "--require-way-back"])
        .run();
    run.expect("refused", 10);
    assert!(run.reason_codes().contains(&"way_back_required"), "{run}");
    let run = Flyhot::upgrade(&shop, &v2).args(["--no-rehearsal"]).run();
    run.expect("degraded", 15);
    assert_eq!(run.node(0)["predicted"]["way_back"], "none", "{run}");
    assert_eq!(run.node(0)["processes"]["failed"], 1, "{run}");
    assert_eq!(
        modes(&shop),
        serde_json::json!(vec!["handle_event_function"; 5]),
        "{run}"
    );
    clean(&shop, &run);
}

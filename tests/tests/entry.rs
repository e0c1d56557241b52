//! `--drain-entry`: listeners in the shapes of ranch and ThousandIsland, on real loopback connections. They are paused
//! around the window and take connections again whatever becomes of it, and of driver, worker and guard.
#![allow(clippy::print_stderr, reason = "prints where its kills fell")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flyhot_tests::{Comers, Fault, Flyhot, Line, Otp, Random, Release, Run, Shapes, rounds, wait_until};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// Worker or guard end the longest window within two budgets and a revert, 6 s, thaw for 2 s and resume for 2 s.
const SETTLED: Duration = Duration::from_secs(20);

/// A client that was turned away comes again.
const AGAIN: Duration = Duration::from_millis(1);

fn start() -> (Shapes, Release, Release) {
    let otp = Otp::under_test();
    let [v1, v2] = ["v1", "v2"].map(|code| Shapes::release(otp, code));
    (Shapes::start(&v1), v1, v2)
}

fn upgrade(shapes: &Shapes, to: &Release) -> Flyhot {
    Flyhot::upgrade(shapes, to).args(["--drain-entry"])
}

fn reasons<'a>(run: &'a Run, code: &str) -> Vec<&'a Value> {
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    reasons.iter().filter(|reason| reason["code"] == code).collect()
}

/// The listeners serve, and nothing of flyhot is left.
fn all_is_well(shapes: &Shapes, what: &str) {
    shapes.opens();
    assert_eq!(shapes.probe().suspended(), NONE, "{what}");
    assert_eq!(shapes.strays(), "[]", "{what}");
}

#[test]
fn both_pause_for_the_window_and_serve_again() {
    let (shapes, v1, v2) = start();
    // A second one of each, which somebody paused before, stays so; nobody else's work is undone.
    shapes.probe().eval(
        "{ok, _} = ranch:start_listener(other, 0, 1, cowboy_clear),
         ok = ranch:suspend_listener(other),
         {ok, Other} = 'Elixir.ThousandIsland':start_link(#{port => 0, num_acceptors => 1, supervisor_options => [],
             handler_module => 'Elixir.Bandit.DelegatingHandler', handler_options => []}),
         unlink(Other), register(other_island, Other),
         ok = 'Elixir.ThousandIsland':suspend(Other).",
    );
    let mut open: Vec<Line> = shapes
        .ports()
        .map(|(_, port)| {
            let mut line = Line::open(port).unwrap();
            assert_eq!(line.get("/").unwrap(), "v1");
            line
        })
        .into();
    let plan = Flyhot::plan(&shapes, &v2).args(["--drain-entry"]).run();
    plan.expect("planned", 0);
    let note = &reasons(&plan, "entry_paused")[0];
    assert_eq!(note["subject"], "ranch :web, ThousandIsland :island", "{plan}");
    assert!(
        note["sentence"]
            .as_str()
            .unwrap()
            .contains("refused meanwhile, not queued"),
        "{plan}"
    );

    let comers = shapes.ports().map(|(_, port)| Comers::start(port, "/", 1, AGAIN));
    let run = upgrade(&shapes, &v2).run();
    run.expect("upgraded", 0);
    all_is_well(&shapes, &run.to_string());
    for (comers, (name, _)) in comers.into_iter().zip(shapes.ports()) {
        let came = comers.stop();
        let refused = came.iter().filter(|(_, answer)| answer.is_err()).count();
        assert!(refused > 0, "{name} was never paused: {run}");
        assert_eq!(came[0].1, Ok("v1".into()), "{name}");
        assert_eq!(came.last().unwrap().1, Ok("v2".into()), "{name}");
    }
    // Connections that were open stay.
    for line in &mut open {
        assert_eq!(line.get("/").unwrap(), "v2");
    }
    assert_eq!(reasons(&run, "entry_not_paused"), NONE_OF, "{run}");
    let others = shapes.probe().eval(
        "{ranch:get_status(other), lists:keymember(undefined, 2, supervisor:which_children(other_island))}.",
    );
    assert_eq!(others, "{suspended,true}", "{run}");
    assert_eq!(shapes.probe().traces(), NONE, "{run}");

    // Without the option nobody is turned away.
    let comers = shapes.ports().map(|(_, port)| Comers::start(port, "/", 1, AGAIN));
    let run = Flyhot::upgrade(&shapes, &v1).run();
    run.expect("upgraded", 0);
    for comers in comers {
        assert!(comers.stop().iter().all(|(_, answer)| answer.is_ok()), "{run}");
    }
}

const NONE_OF: [&Value; 0] = [];

/// A process that does not read its mailbox, and one that answers the knock and then nothing for longer than the budget:
/// given up, and resumed.
#[test]
fn an_attempt_that_is_given_up_opens_the_entry() {
    let dozing = |code: &str| {
        include_str!("../fixtures/busy/fragile.erl")
            .replace("?TAG", code)
            .replace("CONTINUE.", "timer:sleep(3000), loop(Parent, State).")
            .replace(
                "system_continue(Parent, _, _)",
                "system_continue(Parent, _, State)",
            )
    };
    let release = |code| {
        Shapes::release(Otp::under_test(), "v1")
            .variant()
            .erlang("fragile", &dozing(code))
            .build()
    };
    let shapes = Shapes::start(&release("v1"));
    let to = release("v2");
    shapes
        .probe()
        .eval("{ok, P} = fragile:start_link(1), unlink(P), register(dozing, P).");
    shapes.probe().eval(
        "register(holder, spawn(fun() -> erlang:suspend_process(whereis(dozing)), receive go -> ok end end)), ok.",
    );
    let run = upgrade(&shapes, &to)
        .args(["--no-rehearsal", "--quiesce-timeout", "500ms"])
        .run();
    run.expect("not_quiesced", 14);
    all_is_well(&shapes, &run.to_string());
    shapes.let_go();

    let run = upgrade(&shapes, &to)
        .args(["--no-rehearsal", "--freeze-attempts", "2"])
        .run();
    run.expect("not_quiesced", 14);
    assert!(
        run.events.iter().any(|event| event.json["event"] == "attempt"),
        "{run}"
    );
    all_is_well(&shapes, &run.to_string());
    assert_eq!(shapes.probe().traces(), NONE, "{run}");
}

/// Where somebody is killed, while the entry is paused or about to be.
const STEPS: [&str; 5] = ["pause", "knock", "freeze", "swap", "thaw"];

/// A step may be over before the killer shoots; so many upgrades per wanted kill are enough for the shortest step, also where
/// something else has the processors most of the time.
const TRIES: usize = 40;

fn settled(shapes: &Shapes) -> bool {
    shapes.probe().eval(
        "Rests = fun(Name, F) ->
             case whereis(Name) of
                 undefined -> true;
                 P -> process_info(P, [current_function, message_queue_len])
                          =:= [{current_function, {flyhot_agent, F, 1}}, {message_queue_len, 0}]
             end
         end,
         Rests(flyhot_agent, loop) andalso Rests(flyhot_guard, guard_loop) andalso length(nodes(hidden)) =:= 1.",
    ) == "true"
}

fn kill_while_paused(victim: &str) {
    let (shapes, v1, v2) = start();
    let mut line = Line::web_socket(shapes.island, "/live");
    line.say("join page Web.CounterLive").unwrap();
    // Every step takes long enough to be hit.
    for page in 0..400 {
        line.say(&format!("join page_{page} Web.CounterLive")).unwrap();
    }
    shapes.probe().eval("killer:crowd(5000).");
    let mut random = Random::new(victim);
    let quota = rounds(1, 3);
    let mut fallen: BTreeMap<String, usize> = BTreeMap::new();
    let mut to = &v2;
    for step in STEPS {
        for _ in 0..quota * TRIES {
            if fallen.get(step).is_some_and(|n| *n >= quota) {
                break;
            }
            let longest = 1 << random.below(9);
            let delay = random.below(longest);
            let running = upgrade(&shapes, to).spawn();
            let os = running.pid();
            shapes
                .probe()
                .eval(&format!("ok = killer:arm({victim}, {os}, {step}, {delay})."));
            let run = running.wait();
            let fell = shapes.probe().eval("killer:fell().");
            let what = format!("{victim} killed in {fell}, {delay} us after {step} began: {run}");
            wait_until(&format!("all is settled: {what}"), SETTLED, || settled(&shapes));
            all_is_well(&shapes, &what);
            assert_ne!(run.exit_code, Some(13), "{what}");
            if fell != "missed" {
                *fallen.entry(fell).or_default() += 1;
            }
            // Wholly old or wholly new, and the page with it.
            let said = line.say("event page").expect("the page lives");
            let is_new = said.starts_with("ok v2:");
            to = if is_new { &v1 } else { &v2 };
        }
    }
    eprintln!("{victim} killed, by step: {fallen:?}");
    for step in STEPS {
        assert!(
            fallen.contains_key(step),
            "{victim} was never killed in {step}: {fallen:?}"
        );
    }
    upgrade(&shapes, to).run().expect("upgraded", 0);
    all_is_well(&shapes, "the upgrade after all that");
}

#[test]
fn the_driver_is_killed() {
    kill_while_paused("driver");
}

#[test]
fn the_worker_is_killed() {
    kill_while_paused("flyhot_agent");
}

#[test]
fn the_guard_is_killed() {
    kill_while_paused("flyhot_guard");
}

/// Where it looks for listeners and where it pauses them.
#[test]
fn whatever_befalls_it_at_the_entry_leaves_that_open() {
    let (shapes, v1, v2) = start();
    for (point, what, outcome, exit_code) in [
        ("entry", "fail", "failed", 1),
        ("entry", "die", "failed", 1),
        ("entry", "{delay, 100}", "upgraded", 0),
        ("pause", "fail", "failed", 1),
        ("pause", "die", "failed", 1),
        ("pause", "{delay, 100}", "upgraded", 0),
    ] {
        shapes
            .probe()
            .plan_faults(&[Fault::new("worker", point, 1, what)]);
        shapes.probe().start_trace();
        let run = upgrade(&shapes, &v2).faulty().run();
        let trace = shapes.probe().end_trace();
        let what = format!("{what} at {point}: {run}");
        assert_eq!(trace.struck.len(), 1, "{what}");
        run.expect(outcome, exit_code);
        wait_until(&format!("all is settled: {what}"), SETTLED, || settled(&shapes));
        all_is_well(&shapes, &what);
        shapes.probe().plan_faults(&[]);
        let serves = if exit_code == 0 { "v2" } else { "v1" };
        for (_, port) in shapes.ports() {
            assert_eq!(Line::open(port).unwrap().get("/").unwrap(), serves, "{what}");
        }
        if exit_code == 0 {
            upgrade(&shapes, &v1).run().expect("upgraded", 0);
        }
    }
}

/// A driver that stands still with the entry paused is not waited for.
#[test]
fn a_driver_that_stands_still_keeps_no_entry_shut() {
    let (shapes, _, v2) = start();
    // Somebody inside, so that the driver looks and looks.
    let mut inside = Line::open(shapes.ranch).unwrap();
    inside.ask("/hold").unwrap();
    let mut running = upgrade(&shapes, &v2).spawn();
    running.wait_for_step("entry");
    wait_until("the entry is shut", SETTLED, || {
        Line::open(shapes.island).is_err()
    });
    let os = running.pid().to_string();
    flyhot_tests::signal("STOP", &os);
    shapes.opens();
    flyhot_tests::signal("CONT", &os);
    let_go(&shapes);
    let run = running.wait();
    run.expect("upgraded", 0);
    all_is_well(&shapes, &run.to_string());
}

/// Whoever asked for `/hold` leaves.
fn let_go(shapes: &Shapes) {
    shapes.probe().eval("application:set_env(shop, leave, true).");
}

fn hang(shapes: &Shapes, what: &str) {
    shapes.probe().eval(&format!(
        "ets:insert(ranch_server, {{{{hangs, web, {what}}}, true}})."
    ));
}

#[test]
fn a_listener_that_hangs_on_the_way_in_is_named_and_holds_nobody_up() {
    let (shapes, _, v2) = start();
    hang(&shapes, "suspend");
    let run = upgrade(&shapes, &v2).run();
    run.expect("upgraded", 0);
    let found = reasons(&run, "entry_not_paused");
    assert_eq!(found.len(), 1, "{run}");
    assert_eq!(found[0]["subject"], "ranch :web", "{run}");
    assert_eq!(found[0]["severity"], "warning", "{run}");
    all_is_well(&shapes, &run.to_string());
    assert_eq!(shapes.probe().traces(), NONE, "{run}");
}

#[test]
fn a_listener_that_does_not_come_back_is_named_loudly() {
    let (shapes, _, v2) = start();
    let mut line = Line::web_socket(shapes.island, "/live");
    line.say("join page Web.CounterLive").unwrap();
    hang(&shapes, "resume");
    let run = upgrade(&shapes, &v2).run();
    assert_eq!(run.exit_code, Some(13), "{run}");
    assert_eq!(run.outcome()["outcome"], "failed", "{run}");
    // The node itself is upgraded, and nobody was frozen for the listener's sake.
    assert_eq!(run.node(0)["outcome"], "upgraded", "{run}");
    assert!(
        run.node(0)["longest_freeze_us"].as_u64().unwrap() < 1_900_000,
        "{run}"
    );
    let found = reasons(&run, "entry_still_paused");
    assert_eq!(found.len(), 1, "{run}");
    assert_eq!(found[0]["subject"], "ranch :web", "{run}");
    assert_eq!(
        found[0]["hint"], "On the node: :ranch.resume_listener(:web)",
        "{run}"
    );
    assert!(Line::open(shapes.ranch).is_err(), "{run}");
    assert_eq!(line.say("event page").unwrap(), "ok v2:1:1:2", "{run}");
    assert_eq!(shapes.probe().traces(), NONE, "{run}");
    // Once it does not hang any more it comes back by itself.
    shapes
        .probe()
        .eval("ets:delete(ranch_server, {hangs, web, resume}).");
    all_is_well(&shapes, &run.to_string());
}

/// There is always somebody in a changed module: no exact way back, unless nobody comes in any more.
#[test]
fn an_exact_way_back_on_a_node_that_serves() {
    let (shapes, _, v2) = start();
    let comers = shapes
        .ports()
        .map(|(_, port)| Comers::start(port, "/hold/50", 8, AGAIN));
    wait_until("requests are inside", SETTLED, || {
        let inside = shapes.probe().eval(
            "length([P || P <- processes(), {_, S} <- [process_info(P, current_stacktrace)], lists:keymember('Elixir.Web.Plug.Page', 1, S)]).",
        );
        inside.parse::<u32>().unwrap() >= 8
    });
    // On a loaded machine all of them may be between two requests: one that stays.
    let mut stays = Line::open(shapes.ranch).unwrap();
    stays.ask("/hold").unwrap();
    let run = Flyhot::upgrade(&shapes, &v2).args(["--require-way-back"]).run();
    run.expect("refused", 10);
    assert!(run.reason_codes().contains(&"way_back_required"), "{run}");
    let_go(&shapes);
    assert_eq!(stays.answer().unwrap(), "v1", "{run}");
    shapes.probe().eval("application:unset_env(shop, leave).");

    let begun = Instant::now();
    let run = upgrade(&shapes, &v2).args(["--require-way-back"]).run();
    run.expect("upgraded", 0);
    assert!(!run.reason_codes().contains(&"way_back_after_drain"), "{run}");
    all_is_well(&shapes, &run.to_string());
    for comers in comers {
        let came = comers.stop();
        // One that the kernel let in and nobody had accepted when the listener closed.
        let turned_away = ["refused", "Connection reset", "Broken pipe"];
        let cut: Vec<_> = came
            .iter()
            .filter(|(at, answer)| {
                *at > begun
                    && answer
                        .as_ref()
                        .is_err_and(|why| !turned_away.iter().any(|way| why.starts_with(way)))
            })
            .collect();
        assert!(cut.is_empty(), "{cut:?}");
        assert_eq!(came.last().unwrap().1, Ok("v2".into()));
    }
    // Whoever was let in was answered: nobody was cut off in a request, which a client cannot tell from a reset.
    let requests = shapes.probe().json("tuple_to_list(strays:requests()).");
    assert_eq!(requests[0], requests[1], "{run}");
    assert!(requests[0].as_u64().unwrap() > 16, "{run}");
}

/// Somebody who stays inside for longer than `--drain-timeout`: refused with `--require-way-back`, and open again.
#[test]
fn who_does_not_leave_in_time_refuses_it() {
    let (shapes, _, v2) = start();
    let mut inside = Line::open(shapes.ranch).unwrap();
    inside.ask("/hold").unwrap();
    let run = upgrade(&shapes, &v2)
        .args(["--require-way-back", "--drain-timeout", "500ms"])
        .run();
    run.expect("refused", 10);
    assert!(run.reason_codes().contains(&"way_back_required"), "{run}");
    let_go(&shapes);
    all_is_well(&shapes, &run.to_string());
    assert_eq!(inside.answer().unwrap(), "v1");
}

#[test]
fn a_node_without_listeners_is_told_so() {
    let otp = Otp::under_test();
    let shop = flyhot_tests::Shop::of(&Release::shop(otp, "v1"))
        .carts(10)
        .pool(10)
        .start();
    let run = Flyhot::upgrade(&shop, &Release::shop(otp, "v2"))
        .args(["--drain-entry"])
        .run();
    run.expect("upgraded", 0);
    assert_eq!(
        reasons(&run, "entry_not_paused")[0]["subject"],
        "--drain-entry",
        "{run}"
    );
    assert!(reasons(&run, "entry_paused").is_empty(), "{run}");
}

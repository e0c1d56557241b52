//! Nodes that are upgraded and not well on the new code: seen by how they were before, and all of them taken back.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use flyhot_tests::{Fleet, Otp, Page, Release, Run, Scratch, Shop, wait_until};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// Whoever logs waits for the log where that is slow, and would log less: others do it.
const LOGS: &str = "[spawn(logger, error, [\"ill\"]) || _ <- [1, 2, 3, 4]]";

/// Long beside what any of it takes.
const LIMIT: Duration = Duration::from_secs(180);

/// Something that burns schedulers and is of no version.
const BURNER: &str = "-module(burner).
     -export([start/1, loop/1]).
     start(Count) -> [proc_lib:spawn(?MODULE, loop, [0]) || _ <- lists:seq(1, Count)].
     loop(N) -> ?MODULE:loop(N + 1).\n";

/// A shop whose pool keeps its numbers under this word. The first worker does something every so often: from its start on, and
/// once it was migrated.
fn with_pool(code: &str, word: &str, every_ms: u32, does: &str) -> Release {
    let source = format!(
        "-module(pool_worker).
         -behaviour(gen_server).
         -export([start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).
         start_link(N) -> gen_server:start_link({{local, list_to_atom(\"pool_\" ++ integer_to_list(N))}}, ?MODULE, N, []).
         init(N) -> {{ok, begun({{{word}, N, 0}})}}.
         handle_call(version, _From, State) -> {{reply, {word}, State}}.
         handle_cast(bump, {{Tag, N, Casts}}) -> {{noreply, {{Tag, N, Casts + 1}}}}.
         handle_info({word}, State) -> again(), does(), {{noreply, State}};
         handle_info(_, State) -> {{noreply, State}}.
         code_change(_, {{_, N, Casts}}, _) -> {{ok, begun({{{word}, N, Casts}})}}.
         begun({{_, 1, _}} = State) -> again(), State;
         begun(State) -> State.
         again() -> erlang:send_after({every_ms}, self(), {word}).
         does() -> {does}.\n"
    );
    Release::shop(Otp::under_test(), code)
        .variant()
        .erlang("pool_worker", &source)
        .erlang("burner", BURNER)
        .build()
}

fn two(release: &Release) -> Vec<Shop> {
    let shops: Vec<Shop> = (0..2)
        .map(|_| Shop::of(release).carts(20).pool(3).start())
        .collect();
    for shop in &shops {
        // No boot file names it.
        shop.probe()
            .eval("{module, burner} = code:load_file(burner), ok.");
    }
    shops[1].shares_cookie_of(&shops[0]);
    shops
}

fn fleet<'a>(scratch: &'a Scratch, shops: &'a [Shop]) -> Fleet<'a> {
    Fleet {
        store: scratch.path(),
        nodes: shops.iter().map(|shop| &**shop).collect(),
    }
}

/// A policy file of its own.
fn policy(scratch: &Scratch, name: &str, gate: &str) -> PathBuf {
    let path = scratch.path().join(name);
    fs::write(&path, format!("[gate]\n{gate}\n")).unwrap();
    path
}

fn word(shop: &Shop) -> String {
    shop.probe().eval("element(1, sys:get_state(pool_2)).")
}

fn words(shops: &[Shop]) -> Vec<String> {
    shops.iter().map(word).collect()
}

fn clean(shops: &[Shop]) {
    for shop in shops {
        assert_eq!(shop.probe().suspended(), NONE);
        assert_eq!(shop.probe().traces(), NONE);
    }
}

/// Of what the gate did not let pass on a node: the subjects and their sentences.
fn failed(run: &Run, node: usize) -> Vec<(String, String)> {
    let text = |reason: &Value, key: &str| reason[key].as_str().unwrap().to_owned();
    let reasons = run.node(node)["reasons"].as_array().unwrap().iter();
    reasons
        .filter(|reason| reason["code"] == "gate_failed")
        .map(|reason| (text(reason, "subject"), text(reason, "sentence")))
        .collect()
}

fn subjects(run: &Run, node: usize) -> Vec<String> {
    failed(run, node)
        .into_iter()
        .map(|(subject, _)| subject)
        .collect()
}

#[test]
fn a_version_that_is_not_well_is_taken_back_from_all_and_the_signal_is_named() {
    let old = with_pool("v1", "first", 3_600_000, "ok");
    let scratch = Scratch::new("gate");
    let shops = two(&old);
    let fleet = fleet(&scratch, &shops);
    let watch = policy(&scratch, "policy.toml", "watch = \"2s\"");
    let schedulers = shops[0].probe().eval("erlang:system_info(schedulers_online).");
    let burn = format!(
        "whereis(burning) =:= undefined andalso begin register(burning, hd(burner:start(80 * {schedulers}))) end"
    );
    // What the version does and how often, and what of it is seen; of memory no more than that may be.
    let table: [(&str, u32, &str, &[&str]); 8] = [
        ("logs", 50, LOGS, &["errors"]),
        // Each of them is an error of three events.
        (
            "crashes",
            150,
            "proc_lib:spawn(erlang, error, [ill])",
            &["crashes"],
        ),
        ("restarts", 300, "exit(ill)", &["restarts"]),
        ("undef", 600, "proc_lib:spawn(shop_gone, ask, [])", &["undef"]),
        (
            "badfun",
            600,
            "proc_lib:spawn(fun() -> (binary_to_term(term_to_binary(ill)))() end)",
            &["badfun"],
        ),
        (
            "clause",
            400,
            "proc_lib:spawn(lists, nth, [ill, ill])",
            &["function_clause"],
        ),
        (
            "eats",
            100,
            "get(ill) =:= undefined andalso put(ill, binary:copy(<<0>>, 250_000_000))",
            &["memory"],
        ),
        ("burns", 100, &burn, &["run_queue"]),
    ];
    for (word, every_ms, does, signals) in table {
        let new = with_pool("v2", word, every_ms, does);
        let mut running = fleet
            .rollout_by(&new, &watch)
            .args(["--no-rehearsal", "--canary"])
            .spawn();
        running.wait_for("it was watched", LIMIT, |event| {
            event["event"] == "step_done" && event["step"] == "watch"
        });
        // With them on it the way back takes as long as this machine is loaded.
        shops[0].probe().eval(
            "[exit(P, kill) || P <- processes(), {_, {burner, _, _}} <- [process_info(P, current_function)]], ok.",
        );
        let run = running.wait();
        run.expect("reverted", 11);
        assert_eq!(run.node(0)["outcome"], "taken_back", "{run}");
        assert_eq!(run.node(1)["outcome"], "not_begun", "{run}");
        let subjects = subjects(&run, 0);
        for signal in signals {
            assert!(
                subjects.iter().any(|subject| subject == signal),
                "{signal}: {run}"
            );
        }
        // It stands in the outcome as well, with what it is judged by.
        let watched = run.node(0)["watched"]["signals"].as_array().unwrap();
        for one in watched {
            let over = one["after"].as_u64().unwrap() > one["limit"].as_u64().unwrap();
            let named = subjects.iter().any(|subject| *subject == one["signal"]);
            assert_eq!(over, named, "{one}: {run}");
        }
        assert_eq!(words(&shops), ["first", "first"], "{run}");
        clean(&shops);
    }
}

#[test]
fn whoever_is_not_well_of_a_wave_is_named_and_what_passes_is_the_users_to_say() {
    let old = with_pool("v1", "first", 3_600_000, "ok");
    let new = with_pool("v2", "logs", 50, LOGS);
    let scratch = Scratch::new("gate");
    let shops = two(&old);
    let fleet = fleet(&scratch, &shops);
    let watch = policy(&scratch, "policy.toml", "watch = \"2s\"");
    let file = scratch.path().join("page.html");
    let report = ["--no-rehearsal", "--report", file.to_str().unwrap()];
    let run = fleet.rollout_by(&new, &watch).args(report).run();
    run.expect("reverted", 11);
    let page = Page::read(&file);
    assert!(
        page.text.contains("Exit code 11") && page.text.contains("the way back begins"),
        "{}",
        page.text
    );
    assert_eq!(page.rows.len(), 2, "{}", page.source);
    for row in &page.rows {
        assert_eq!(
            (&*row["outcome"], &*row["gate"]),
            ("taken back", "not passed: errors"),
            "{row:?}\n{run}"
        );
        assert_eq!(row["code before"], row["code after"], "{row:?}");
    }
    for at in 0..2 {
        assert_eq!(run.node(at)["outcome"], "taken_back", "{run}");
        let failed = failed(&run, at);
        let [(subject, sentence)] = &failed[..] else {
            panic!("{failed:?}: {run}");
        };
        assert_eq!(subject, "errors", "{run}");
        assert!(sentence.contains(", 0 in "), "{run}");
    }
    assert_eq!(words(&shops), ["first", "first"], "{run}");

    let lax = policy(&scratch, "lax.toml", "watch = \"2s\"\nerrors = 100000");
    fleet
        .rollout_by(&new, &lax)
        .args(["--no-rehearsal"])
        .run()
        .expect("upgraded", 0);
    assert_eq!(words(&shops), ["logs", "logs"]);
    clean(&shops);
}

#[test]
fn no_data_is_not_well_and_a_node_that_cannot_be_seen_is_not_begun() {
    let old = with_pool("v1", "first", 3_600_000, "ok");
    let scratch = Scratch::new("gate");
    let shops = two(&old);
    let fleet = fleet(&scratch, &shops);
    let watch = policy(&scratch, "policy.toml", "watch = \"2s\"");
    for (word, does, why) in [
        (
            "unlogs",
            "logger:set_primary_config(filters, [])",
            "cannot be counted",
        ),
        (
            "mutes",
            "logger:set_primary_config(level, critical)",
            "cannot be counted",
        ),
    ] {
        let new = with_pool("v2", word, 100, does);
        let run = fleet
            .rollout_by(&new, &watch)
            .args(["--no-rehearsal", "--canary"])
            .run();
        shops[0].probe().eval("logger:set_primary_config(level, notice).");
        run.expect("reverted", 11);
        let failed = failed(&run, 0);
        assert_eq!(failed.len(), 6, "{run}");
        assert!(failed.iter().all(|(_, said)| said.contains(why)), "{run}");
        assert_eq!(words(&shops), ["first", "first"], "{run}");
        clean(&shops);
    }

    // Whoever says nothing while it is watched is not well either.
    let new = with_pool("v2", "silent", 3_600_000, "ok");
    let longer = policy(&scratch, "longer.toml", "watch = \"6s\"");
    let mut running = fleet
        .rollout_by(&new, &longer)
        .args(["--no-rehearsal", "--canary"])
        .spawn();
    running.wait_for("it is watched", LIMIT, |event| {
        event["event"] == "step_started" && event["step"] == "watch"
    });
    shops[0].pause();
    running.wait_for("the way back", LIMIT, |event| {
        event["event"] == "wave" && event["way"] == "back"
    });
    shops[0].wake();
    let silent = running.wait();
    silent.expect("reverted", 11);
    assert_eq!(subjects(&silent, 0), ["answers"], "{silent}");
    assert_eq!(silent.node(0)["gate"], "not_passed", "{silent}");
    assert_eq!(words(&shops), ["first", "first"], "{silent}");
    clean(&shops);

    // Before anything is touched it is said, and can be accepted.
    shops[0]
        .probe()
        .eval("logger:set_primary_config(level, critical).");
    let new = with_pool("v2", "second", 3_600_000, "ok");
    let out = || {
        fleet
            .rollout_by(&new, &watch)
            .args(["--no-rehearsal", "--canary"])
    };
    let blind = out().run();
    blind.expect("refused", 10);
    assert!(
        blind.reason("gate_blind")["sentence"]
            .as_str()
            .unwrap()
            .contains("below critical"),
        "{blind}"
    );
    assert_eq!(words(&shops), ["first", "first"], "{blind}");
    let accepted = out().args(["--accept", "gate_blind"]).run();
    accepted.expect("upgraded", 0);
    for node in 0..2 {
        assert_eq!(accepted.node(node)["gate"], "passed", "{accepted}");
    }
    assert_eq!(words(&shops), ["second", "second"]);
    clean(&shops);
}

#[test]
fn a_canary_that_falls_ill_while_it_stands_alone_is_seen() {
    let old = with_pool("v1", "first", 3_600_000, "ok");
    let ill = "application:get_env(shop, falls_ill, false) andalso [logger:error(\"ill\") || _ <- lists:seq(1, 20)]";
    let new = with_pool("v2", "late", 100, ill);
    let scratch = Scratch::new("gate");
    let shops = two(&old);
    let fleet = fleet(&scratch, &shops);
    let watch = policy(&scratch, "policy.toml", "watch = \"500ms\"");
    let mut running = fleet
        .rollout_by(&new, &watch)
        .args(["--no-rehearsal", "--canary", "--bake", "5s"])
        .spawn();
    running.wait_for("it stands alone", LIMIT, |event| event["event"] == "bake");
    shops[0]
        .probe()
        .eval("application:set_env(shop, falls_ill, true).");
    let run = running.wait();
    run.expect("reverted", 11);
    assert!(run.events_named("bake").next().is_some(), "{run}");
    assert_eq!(subjects(&run, 0), ["errors"], "{run}");
    assert!(
        run.node(0)["watched"]["after_us"].as_u64().unwrap() >= 5_000_000,
        "{run}"
    );
    assert_eq!(run.node(1)["outcome"], "not_begun", "{run}");
    assert_eq!(words(&shops), ["first", "first"], "{run}");
    clean(&shops);
}

#[test]
fn a_fleet_under_traffic_that_logs_and_crashes_as_it_did_before_is_well() {
    // Crashes and all of it, far above what passes by itself.
    let ill = "[logger:error(\"always\") || _ <- lists:seq(1, 5)],
               [proc_lib:spawn(shop_gone, ask, []) || _ <- lists:seq(1, 3)]";
    let old = with_pool("v1", "first", 100, ill);
    let new = with_pool("v2", "second", 100, ill);
    let scratch = Scratch::new("gate");
    let shops = two(&old);
    let fleet = fleet(&scratch, &shops);
    let traffic: Vec<_> = shops
        .iter()
        .map(|shop| shop.traffic().per_second(100).connections(32).start())
        .collect();
    // As long as it is watched without a word.
    let release = new.directory().to_str().unwrap().to_owned();
    let run = fleet
        .command(&[
            "rollout",
            "--release",
            &release,
            "--no-rehearsal",
            "--canary",
            "--bake",
            "2s",
        ])
        .run();
    run.expect("upgraded", 0);
    assert_eq!(subjects(&run, 0), NONE, "{run}");
    let watched = &run.node(1)["watched"];
    for span in ["before_us", "after_us"] {
        let span = watched[span].as_u64().unwrap();
        assert!((6_000_000..60_000_000).contains(&span), "{run}");
    }
    let undef = watched["signals"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["signal"] == "undef");
    assert!(undef.unwrap()["before"].as_u64().unwrap() > 10, "{run}");
    for one in traffic {
        assert_eq!(one.stop().failures(), NONE);
    }
    assert_eq!(words(&shops), ["second", "second"]);
    clean(&shops);
}

#[test]
fn a_driver_that_is_killed_while_it_watches_leaves_nothing_on_the_node() {
    let old = with_pool("v1", "first", 3_600_000, "ok");
    let new = with_pool("v2", "second", 3_600_000, "ok");
    let scratch = Scratch::new("gate");
    let shops = two(&old);
    let fleet = fleet(&scratch, &shops);
    let watch = policy(&scratch, "policy.toml", "watch = \"30s\"");
    for (step, now) in [("baseline", "first"), ("watch", "second")] {
        let mut running = fleet
            .rollout_by(&new, &watch)
            .args(["--no-rehearsal", "--canary", "--force"])
            .spawn();
        if step == "watch" {
            running.wait_for_step("baseline");
        }
        running.wait_for("it watches", LIMIT, |event| {
            event["event"] == "step_started" && event["step"] == step
        });
        assert!(
            shops[0]
                .probe()
                .traces()
                .iter()
                .any(|trace| trace.contains("filters"))
        );
        running.kill();
        wait_until("the node is left alone", LIMIT, || {
            shops[0].probe().traces().is_empty()
        });
        assert_eq!(word(&shops[0]), now);
    }
    // Whatever befalls the agent, its guard takes the counter out.
    let mut running = fleet
        .rollout_by(&new, &watch)
        .args(["--no-rehearsal", "--sequential", "--force"])
        .spawn();
    running.wait_for("the second is watched", LIMIT, |event| {
        event["event"] == "step_started" && event["step"] == "baseline"
    });
    shops[1].probe().eval("exit(whereis(flyhot_agent), kill).");
    wait_until("the counter is out", LIMIT, || {
        !shops[1]
            .probe()
            .traces()
            .iter()
            .any(|trace| trace.contains("filters"))
    });
    let ended = running.wait();
    assert_ne!(ended.exit_code, Some(0), "{ended}");
    wait_until("the node is left alone", LIMIT, || {
        shops[1].probe().traces().is_empty()
    });
    assert_eq!(words(&shops), ["first", "first"], "{ended}");
    clean(&shops);
}

//! The driver killed by SIGKILL, and the agent's worker and guard killed on the node, in every step: nothing stays
//! suspended, the node is wholly old or wholly new, and a following upgrade works.
//!
//! The killer is a process on the node that reads the worker's step until it is the wanted one, lets a random time
//! pass, reads the step once more and shoots. What it read last is where the kill fell.
#![allow(clippy::print_stderr, reason = "prints where its kills fell")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use flyhot_tests::{Cart, Flyhot, Otp, Random, Release, Run, Scratch, Shop, rounds, signal, wait_until};

const NONE: [&str; 0] = [];

/// Worker or guard end the longest window within two budgets and a revert, 6 s, and then thaw for 2 s.
const SETTLED: Duration = Duration::from_secs(20);

/// An orphaned agent keeps its result for 30 s; twice that is a node that does not get rid of it.
const GONE: Duration = Duration::from_secs(60);

/// A step may be over before the killer shoots; so many upgrades are enough for the shortest step.
const TRIES: usize = 48;

/// The steps that the agent tells, in order; that of undoing has a test of its own.
const STEPS: [&str; 16] = [
    "facts",
    "census",
    "stage",
    "rehearse",
    "drain",
    "prepare",
    "way_back",
    "knock",
    "freeze",
    "newborns",
    "rehearse_frozen",
    "swap",
    "migrate",
    "prove",
    "thaw",
    "persist",
];

/// Lies in both releases, so that no upgrade concerns itself with it.
const KILLER: &str = include_str!("../fixtures/killer/killer.erl");

/// A pool whose code_change counts: what may not end by itself is tried apart in the freeze, and takes its time there.
fn counting(code: &str) -> String {
    format!(
        "-module(pool_worker).
         -behaviour(gen_server).
         -export([start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).
         start_link(N) -> gen_server:start_link({{local, list_to_atom(\"pool_\" ++ integer_to_list(N))}}, ?MODULE, N, []).
         init(N) -> {{ok, {{{code}, N, 0}}}}.
         handle_call(version, _From, State) -> {{reply, {code}, State}}.
         handle_cast(bump, {{Tag, N, Casts}}) -> {{noreply, {{Tag, N, Casts + 1}}}}.
         handle_info(_, State) -> {{noreply, State}}.
         code_change(_, {{_, N, Casts}}, _) -> {{ok, {{count({code}, 20000), N, Casts}}}}.
         count(Code, 0) -> Code;
         count(Code, N) -> count(Code, N - 1).\n"
    )
}

/// Everything on the node that is either old or new.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    code: BTreeMap<String, String>,
    carts: Vec<Cart>,
    pool: Vec<String>,
    pool_pids: Vec<String>,
    others: String,
}

fn look(shop: &Shop) -> Seen {
    Seen {
        code: shop
            .probe()
            .md5s()
            .into_iter()
            .filter(|(module, _)| {
                ["Elixir.Shop", "shop", "pool_worker"]
                    .iter()
                    .any(|start| module.starts_with(start))
            })
            .collect(),
        carts: shop.carts(),
        pool: shop.pool(),
        pool_pids: shop.pool_pids(),
        others: shop.probe().eval(
            "[{N, whereis(N), sys:get_state(N)} ||
                 N <- ['Elixir.Shop.Checkout', 'Elixir.Shop.Meter', 'Elixir.Shop.Bus', 'Elixir.Shop.QuietBus',
                       shop_special, shop_plain]].",
        ),
    }
}

/// Neither worker nor guard is at work, and no driver is connected: what is left only waits for its time to go.
fn settled(shop: &Shop) -> bool {
    shop.probe().eval(
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

fn stashed(shop: &Shop) -> String {
    shop.probe().eval(
        "[P || P <- processes(), {_, D} <- [process_info(P, dictionary)], lists:keymember('$flyhot_stash', 1, D)].",
    )
}

/// What the command said must be what became of the node; one that failed did nothing.
fn told_the_truth(run: &Run, is_new: bool) {
    let outcome = run.outcome()["outcome"].as_str().unwrap().to_owned();
    match outcome.as_str() {
        "upgraded" => assert!(is_new, "the node is old: {run}"),
        "reverted" | "refused" | "not_quiesced" => assert!(!is_new, "the node is new: {run}"),
        "failed" => assert!(!is_new, "the node is new, and was not said to be: {run}"),
        _ => panic!("{run}"),
    }
    assert_ne!(run.exit_code, Some(13), "{run}");
}

/// What became of an upgrade in which somebody was killed.
struct Shot {
    run: Run,
    /// The step the kill fell in, or `missed`.
    fell: String,
    what: String,
}

/// Kills `victim` in `step` of an upgrade, waits until the node has settled, and sees that nothing is left suspended.
fn shoot(shop: &Shop, upgrade: Flyhot, victim: &str, step: &str, random: &mut Random) -> Shot {
    // Steps last from microseconds to tens of milliseconds: every length is as likely.
    let longest = 1 << random.below(14);
    let delay = random.below(longest);
    let running = upgrade.spawn();
    let os = running.pid();
    shop.probe()
        .eval(&format!("ok = killer:arm({victim}, {os}, {step}, {delay})."));
    let run = running.wait();
    let fell = shop.probe().eval("killer:fell().");
    let what = format!("{victim} killed in {fell}, {delay} us after {step} began: {run}");
    wait_until(&format!("all is settled: {what}"), SETTLED, || settled(shop));
    assert_eq!(shop.probe().suspended(), NONE, "{what}");
    assert_eq!(stashed(shop), "[]", "{what}");
    Shot { run, fell, what }
}

/// The shop with the killer in it, and a pool of this code.
fn with_killer(otp: Otp, code: &str, pool: &str) -> Release {
    Release::shop(otp, code)
        .variant()
        .erlang("killer", KILLER)
        .erlang("pool_worker", pool)
        .build()
}

fn start(release: &Release) -> Shop {
    let shop = Shop::of(release).carts(1_000).pool(100).start();
    shop.probe()
        .eval("{module, killer} = code:load_file(killer), ok.");
    shop
}

fn kill_in_every_step(victim: &str) {
    let otp = Otp::under_test();
    let [v1, v2] = ["v1", "v2"].map(|code| with_killer(otp, code, &counting(code)));
    let shop = start(&v1);
    let upgrade = |to: &Release| Flyhot::upgrade(&shop, to);
    // What v1 and v2 look like, by upgrades that nobody disturbs.
    let first = look(&shop);
    upgrade(&v2).run().expect("upgraded", 0);
    let on_v2 = look(&shop);
    upgrade(&v1).run().expect("upgraded", 0);
    let on_v1 = look(&shop);
    assert_eq!(first.carts, on_v1.carts);

    let mut random = Random::new(victim);
    let quota = rounds(1, 4);
    let mut fallen: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_v2 = false;
    for step in STEPS {
        for _ in 0..TRIES * quota.div_ceil(4) {
            if fallen.get(step).is_some_and(|n| *n >= quota) {
                break;
            }
            let (old, new, to) = if is_v2 {
                (&on_v2, &on_v1, &v1)
            } else {
                (&on_v1, &on_v2, &v2)
            };
            let Shot { run, fell, what } = shoot(&shop, upgrade(to), victim, step, &mut random);
            let seen = look(&shop);
            let is_new = seen == *new;
            assert!(
                is_new || seen == *old,
                "neither old nor new: {what}\n{}",
                apart(&seen, old, new)
            );
            // A driver that was shot has no last line.
            if run.exit_code.is_some() {
                told_the_truth(&run, is_new);
            }
            // What is kept last is the outcome, of which nobody is told.
            let written = run
                .events_named("step_done")
                .any(|event| event.json["step"] == "persist");
            if fell == "persist" && victim == "flyhot_agent" && !written {
                let reasons = run.node(0)["reasons"].as_array().unwrap();
                assert!(
                    reasons.iter().any(|reason| reason["code"] == "not_persisted"),
                    "the disk is not known to be written, and it was not said: {what}"
                );
            }
            if fell != "missed" {
                *fallen.entry(fell).or_default() += 1;
            }
            is_v2 = is_v2 != is_new;

            let back = random.below(2) == 0;
            let (to, expected) = if back { (&v1, &on_v1) } else { (&v2, &on_v2) };
            let outcome = if is_v2 == back {
                "upgraded"
            } else {
                "nothing_to_do"
            };
            let again = upgrade(to).run();
            assert!(
                again.outcome()["outcome"] == outcome && again.exit_code == Some(0),
                "the upgrade after it: {again}\nafter: {what}"
            );
            is_v2 = !back;
            let seen = look(&shop);
            assert!(seen == *expected, "the upgrade after it: {again}\nafter: {what}");
        }
    }
    eprintln!("{victim} killed, by step: {fallen:?}");
    for step in STEPS {
        assert!(
            fallen.contains_key(step),
            "{victim} was never killed in {step}: {fallen:?}"
        );
    }
    wait_until("nothing of flyhot is left", GONE, || {
        shop.probe().traces().is_empty()
    });
}

/// Which parts are neither as they were nor as they should be.
fn apart(seen: &Seen, old: &Seen, new: &Seen) -> String {
    let part = |what: &str, is_old: bool, is_new: bool| format!("{what}: old {is_old}, new {is_new}\n");
    let carts = |to: &Seen| seen.carts.iter().zip(&to.carts).filter(|(a, b)| a == b).count();
    [
        part("code", seen.code == old.code, seen.code == new.code),
        part("pool", seen.pool == old.pool, seen.pool == new.pool),
        part(
            "pool pids",
            seen.pool_pids == old.pool_pids,
            seen.pool_pids == new.pool_pids,
        ),
        format!(
            "carts: {} old, {} new of {}\n",
            carts(old),
            carts(new),
            seen.carts.len()
        ),
        format!(
            "others: {}\nold: {}\nnew: {}\n",
            seen.others, old.others, new.others
        ),
    ]
    .concat()
}

#[test]
fn the_driver() {
    kill_in_every_step("driver");
}

#[test]
fn the_worker() {
    kill_in_every_step("flyhot_agent");
}

#[test]
fn the_guard() {
    kill_in_every_step("flyhot_guard");
}

/// The new code fails in one worker after the swap, and who brings the old code back is killed at it: the old code is
/// back all the same.
#[test]
fn whoever_undoes() {
    let otp = Otp::under_test();
    let v1 = with_killer(otp, "v1", &counting("v1"));
    let v2 = with_killer(otp, "v2", &counting("v2"));
    let failing = counting("v2").replace(
        "code_change(_, {",
        "code_change(_, {_, 7, _}, _) -> error(bad);\n         code_change(_, {",
    );
    let bad = with_killer(otp, "v2", &failing);
    let shop = start(&v1);
    let up_and_back = || {
        Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
        Flyhot::upgrade(&shop, &v1).run().expect("upgraded", 0);
    };
    up_and_back();
    let before = look(&shop);
    let mut random = Random::new("whoever_undoes");
    let quota = rounds(1, 8);
    let mut fallen: BTreeMap<String, usize> = BTreeMap::new();
    for victim in ["driver", "flyhot_agent", "flyhot_guard"] {
        for _ in 0..TRIES * quota.div_ceil(4) {
            if fallen.get(victim).is_some_and(|n| *n >= quota) {
                break;
            }
            // A node that hardly gets a processor is not back within the two seconds that it has, which is another matter.
            let upgrade = Flyhot::upgrade(&shop, &bad).args(["--no-rehearsal", "--revert-budget", "60s"]);
            let Shot { run, fell, what } = shoot(&shop, upgrade, victim, "undo", &mut random);
            let seen = look(&shop);
            assert!(
                seen == before,
                "not what it was: {what}\n{}",
                apart(&seen, &before, &before)
            );
            if run.exit_code.is_some() {
                assert_eq!(run.outcome()["outcome"], "reverted", "{what}");
            }
            if fell == "undo" {
                *fallen.entry(victim.to_owned()).or_default() += 1;
            }
            up_and_back();
            assert!(look(&shop) == before, "the upgrades after it: {what}");
        }
    }
    eprintln!("undoing, killed, by victim: {fallen:?}");
    assert_eq!(fallen.len(), 3, "{fallen:?}");
    wait_until("nothing of flyhot is left", GONE, || {
        shop.probe().traces().is_empty()
    });
}

/// SIGINT before the window ends the command at once, in it the command comes to its end, and twice in it leaves the
/// rest to the agent.
#[test]
fn whoever_is_interrupted() {
    let otp = Otp::under_test();
    let [v1, v2] = ["v1", "v2"].map(|code| with_killer(otp, code, &counting(code)));
    let shop = start(&v1);
    Flyhot::upgrade(&shop, &v2).run().expect("upgraded", 0);
    let on_v2 = look(&shop);
    Flyhot::upgrade(&shop, &v1).run().expect("upgraded", 0);
    let on_v1 = look(&shop);

    for step in ["census", "stage", "rehearse", "prepare", "knock"] {
        shop.hold();
        let mut running = Flyhot::upgrade(&shop, &v2).spawn();
        running.wait_for_step(step);
        running.interrupt();
        let run = running.wait();
        run.expect("failed", 130);
        shop.let_go();
        wait_until(&format!("all is settled: {run}"), SETTLED, || settled(&shop));
        assert!(look(&shop) == on_v1, "{run}");
        assert_eq!(shop.probe().suspended(), NONE, "{run}");
    }

    let mut running = Flyhot::upgrade(&shop, &v2).spawn();
    running.wait_for_step("window");
    running.interrupt();
    let run = running.wait();
    run.expect("upgraded", 0);
    assert!(look(&shop) == on_v2, "{run}");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");

    let mut running = Flyhot::upgrade(&shop, &v1).spawn();
    running.wait_for_step("window");
    running.interrupt();
    running.interrupt();
    let run = running.wait();
    wait_until(&format!("all is settled: {run}"), SETTLED, || settled(&shop));
    let seen = look(&shop);
    assert!(
        seen == on_v1 || seen == on_v2,
        "{run}\n{}",
        apart(&seen, &on_v2, &on_v1)
    );
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    // The second may come when there is nothing left to be interrupted.
    assert!(matches!(run.exit_code, Some(0 | 130)), "{run}");
    let outcome = if seen == on_v1 {
        "nothing_to_do"
    } else {
        "upgraded"
    };
    Flyhot::upgrade(&shop, &v1).run().expect(outcome, 0);
    assert!(look(&shop) == on_v1, "{run}");
}

/// What a command says first is longer than a pipe: whoever has read one byte of it meets one that has not said it yet.
#[test]
fn a_signal_is_heard_from_the_moment_on_that_a_command_says_that_it_began() {
    const NODES: usize = 4_000;
    let scratch = Scratch::new("began");
    let names: Vec<String> = (0..NODES)
        .map(|at| format!("node_{at}_of_a_large_fleet@127.0.0.1"))
        .collect();
    let place = scratch.path().to_str().unwrap();
    let (release, home) = (
        ["--release", "/there/is/none"],
        ["--app", "shop", "--store", place],
    );
    for (verb, more) in [
        ("plan", &release[..]),
        ("upgrade", &release),
        ("rollout", &[&release[..], &home].concat()),
        ("rollback", &home),
        ("status", &[]),
    ] {
        let mut child = Command::new(Flyhot::binary())
            .args([verb, "--output", "json"])
            .args(more)
            .arg("--node")
            .args(&names)
            .env_clear()
            .env("RELEASE_COOKIE", "of_a_large_fleet")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut said = vec![0];
        stdout.read_exact(&mut said).unwrap();
        signal("INT", &child.id().to_string());
        stdout.read_to_end(&mut said).unwrap();
        let status = child.wait().unwrap();
        let said = String::from_utf8(said).unwrap();
        let last = said.lines().last().unwrap_or_default();
        let last: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
        assert_eq!(
            (status.code(), &last["event"], &last["exit_code"]),
            (Some(130), &"outcome".into(), &130.into()),
            "{verb}: {status}"
        );
    }
}

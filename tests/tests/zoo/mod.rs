//! Random zoos: processes of every kind, in numbers, under loads, upgraded while worker, guard or driver fail at any
//! point; after each round the invariants of `model.rs` hold, nothing is left suspended or behind, and the next
//! upgrade works.
//!
//! Two nodes serve all rounds. `FLYHOT_SEED=S FLYHOT_ROUND=N` repeats one round, on a node of its own.
#![allow(clippy::print_stderr, reason = "prints what it drew")]

mod draw;
mod model;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use draw::{MODULES, Mishap, Round, VERSIONS, tag};
use flyhot_tests::{Flyhot, Otp, Random, Release, Run, Shop, rounds, wait_until};
use model::{INVARIANTS, Seen, animals, versions};

/// Seeds and rounds that failed once; they run first.
const CASES: [(u64, u64); 10] = [
    // A guard that took over an undo let supervisors end their children.
    (14_863_832_712_131_203_659, 51),
    // Somebody was born on new code that was taken back.
    (14_863_832_712_131_203_659, 127),
    // A supervisor was forgiven restarts for good.
    (4_711, 141),
    // Whom a dead driver had left was not gone within a second, on a node that had no time.
    (14_863_832_712_131_203_659, 130),
    // One died in its migration, its sibling with it: one was counted.
    (1_795_682_802_465_598, 450),
    // On a node that had no time: children born between the last look and the swap, and proofs that failed.
    (1_795_676_340_788_388, 0),
    (1_795_676_340_788_388, 21),
    (1_795_676_340_788_388, 325),
    (1_795_676_340_788_388, 327),
    // One that hibernated slept on over its resume (OTP 27), and those behind it were named for being slow.
    (1_795_726_961_445_060, 162),
];

const NONE: [&str; 0] = [];

/// Nodes that share the rounds.
const NODES: u64 = 2;

/// Worker or guard end the longest window within two budgets and a revert, and then thaw for 2 s.
const SETTLED: Duration = Duration::from_secs(20);

/// The agent goes by itself within milliseconds when its driver lives; an orphan keeps its result for 30 s.
const GONE: Duration = Duration::from_secs(10);
const GONE_BY_ITSELF: Duration = Duration::from_secs(60);

/// More failures than anybody reads.
const ENOUGH: usize = 5;

macro_rules! fixture {
    ($($module:literal),*) => {
        [$(($module, include_str!(concat!("../../fixtures/zoo/", $module, ".erl")))),*]
    };
}

const FIXTURE: [(&str, &str); 17] = fixture![
    "zoo",
    "zoo_sup",
    "zoo_server",
    "zoo_wild",
    "zoo_counting",
    "zoo_keeper",
    "zoo_machine",
    "zoo_switch",
    "zoo_still",
    "zoo_alpha",
    "zoo_beta",
    "zoo_gamma",
    "zoo_special",
    "zoo_hosting",
    "zoo_guest",
    "zoo_loop",
    "zoo_agent"
];

fn release(version: u64) -> Release {
    let base = Release::shop(Otp::under_test(), "v1");
    let variant = FIXTURE.iter().fold(base.variant(), |variant, (module, source)| {
        variant.erlang(module, &source.replace("?TAG", &tag(module, version).to_string()))
    });
    variant.build()
}

struct Zoo {
    releases: Vec<Release>,
}

impl Zoo {
    fn new() -> Self {
        Self {
            releases: (0..VERSIONS).map(release).collect(),
        }
    }

    fn node(&self, version: u64) -> Shop {
        let shop = Shop::of(&self.releases[version as usize])
            .carts(1)
            .pool(1)
            .start();
        let modules = FIXTURE.map(|(module, _)| module).join(",");
        shop.probe().eval(&format!(
            "[{{module, M}} = code:load_file(M) || M <- [{modules}]], ok."
        ));
        shop
    }

    fn to(&self, version: u64) -> &Release {
        &self.releases[version as usize]
    }
}

/// What is wrong after a round, each with the name of its invariant.
type Wrongs = Vec<(&'static str, String)>;

fn invariant(wrongs: &mut Wrongs, name: &'static str, holds: impl FnOnce()) {
    if let Err(why) = catch_unwind(AssertUnwindSafe(holds)) {
        let why = why.downcast_ref::<String>().cloned();
        wrongs.push((name, why.unwrap_or_else(|| "does not hold".to_owned())));
    }
}

/// Neither worker nor guard is at work, and no driver is connected: what is left only waits for its time to go.
fn settled(shop: &Shop) -> bool {
    shop.probe().eval(
        "Rests = fun(Name, F) ->
             case whereis(Name) of
                 undefined -> true;
                 P -> lists:member(process_info(P, [current_function, message_queue_len]),
                                   [undefined, [{current_function, {flyhot_agent, F, 1}}, {message_queue_len, 0}]])
             end
         end,
         Rests(flyhot_agent, loop) andalso Rests(flyhot_guard, guard_loop) andalso length(nodes(hidden)) =:= 1.",
    ) == "true"
}

fn left_in_dictionaries(shop: &Shop) -> String {
    shop.probe().eval(
        "[{P, K} || P <- processes(), not lists:member(P, [whereis(flyhot_agent), whereis(flyhot_guard)]),
                    {_, D} <- [process_info(P, dictionary)], {K, _} <- D,
                    lists:prefix(\"$flyhot\", lists:flatten(io_lib:format(\"~0tp\", [K])) -- \"'\")].",
    )
}

fn tags(shop: &Shop) -> serde_json::Value {
    shop.probe().json(&format!(
        "maps:from_list([{{M, V}} || M <- [{}], {{vsn, [V]}} <- M:module_info(attributes)]).",
        MODULES.join(",")
    ))
}

/// Plays one round on a node that runs `round.old`.
fn play(zoo: &Zoo, shop: &Shop, round: &Round, wrongs: &mut Wrongs) -> Seen {
    let probe = shop.probe();
    probe.eval("zoo:open().");
    probe.eval(&format!("zoo:populate({}).", round.population()));
    let before = animals(&probe.json("zoo:look()."));
    let fault = match &round.mishap {
        Mishap::Fault(fault) => Some(fault),
        Mishap::Killed { slow, .. } => slow.as_ref(),
        Mishap::None => None,
    };
    probe.plan_faults(&Vec::from_iter(fault.cloned()));
    probe.start_trace();
    probe.eval(&format!("zoo:disturb([{}]).", round.loads.join(",")));

    let upgrade = Flyhot::upgrade(shop, zoo.to(round.new))
        .args(round.options.iter().map(String::as_str))
        .faulty();
    let run = match &round.mishap {
        Mishap::Killed { step, after_ms, .. } => {
            let mut running = upgrade.spawn();
            if running.comes_to(step) {
                // The kill may fall anywhere: nothing is waited for.
                std::thread::sleep(Duration::from_millis(*after_ms));
                running.kill()
            } else {
                running.wait()
            }
        }
        _ => upgrade.run(),
    };
    let killed = run.exit_code.is_none();
    invariant(wrongs, "invariant_the_agent_comes_to_its_end", || {
        wait_until(&format!("all is settled: {run}"), SETTLED, || settled(shop));
    });
    let calm = probe.json("zoo:calm().");
    let trace = probe.end_trace();
    probe.plan_faults(&[]);
    invariant(wrongs, "invariant_nothing_is_suspended", || {
        assert_eq!(probe.suspended(), NONE);
        assert_eq!(left_in_dictionaries(shop), "[]");
    });
    if !killed {
        invariant(wrongs, "invariant_nothing_of_ours_is_left", || gone(shop, GONE));
    }
    let list = |value: &serde_json::Value| value.as_array().unwrap().clone();
    Seen {
        before,
        after: animals(&probe.json("zoo:look().")),
        versions: versions(&tags(shop), VERSIONS),
        sent: list(&calm[0])
            .iter()
            .map(|one| (one[0].as_str().unwrap().to_owned(), one[1].as_u64().unwrap()))
            .collect(),
        told_to_end: list(&calm[1])
            .iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect(),
        run,
        trace,
    }
}

fn gone(shop: &Shop, limit: Duration) {
    let mut left = Vec::new();
    let begun = std::time::Instant::now();
    loop {
        left.clear();
        left.extend(shop.probe().traces());
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < limit, "{left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The next upgrade, by the shipped command and undisturbed: it takes whoever is left with it.
fn next(zoo: &Zoo, shop: &Shop, round: &Round, seen: &Seen, wrongs: &mut Wrongs) -> Run {
    let probe = shop.probe();
    probe.eval("zoo:turn().");
    // As the hint says.
    let strays: Vec<String> = seen.strays().iter().map(|pid| format!("{pid:?}")).collect();
    probe.eval(&format!(
        "[begin
              P = list_to_pid(T), Mon = monitor(process, P), exit(P, kill),
              receive {{'DOWN', Mon, process, _, _}} -> ok end
          end || T <- [{}]], ok.",
        strays.join(",")
    ));
    let before = animals(&probe.json("zoo:look()."));
    let run = Flyhot::upgrade(shop, zoo.to(round.next)).run();
    invariant(wrongs, "invariant_the_next_upgrade_works", || {
        assert_eq!(run.exit_code, Some(0), "{run}");
        assert_eq!(run.outcome()["outcome"], "upgraded", "{run}");
        assert_eq!(probe.suspended(), NONE, "{run}");
        gone(shop, GONE);
    });
    let after = Seen {
        before,
        after: animals(&probe.json("zoo:look().")),
        versions: versions(&tags(shop), VERSIONS),
        sent: BTreeMap::new(),
        told_to_end: seen.told_to_end.clone(),
        run,
        trace: flyhot_tests::Trace::default(),
    };
    let undisturbed = round.then(seen.versions.first().copied().unwrap_or(round.old));
    for (name, holds) in [INVARIANTS[0], INVARIANTS[3]] {
        if let Err(why) = holds(&undisturbed, &after) {
            wrongs.push((name, format!("after the next upgrade: {why}\n{}", after.run)));
        }
    }
    after.run
}

/// What is told of a round that failed.
fn story(seed: u64, number: u64, round: &Round, wrongs: &Wrongs, seen: Option<&Seen>) -> String {
    let mut story = format!("FLYHOT_SEED={seed} FLYHOT_ROUND={number}\n{round:#?}\n");
    if let Some(seen) = seen {
        let _ = writeln!(
            story,
            "{}\nstruck: {:?}\n{}",
            seen.run, seen.trace.struck, seen.trace
        );
    }
    for (name, why) in wrongs {
        let _ = writeln!(story, "{name}: {why}");
    }
    let _ = writeln!(story, "repeat: FLYHOT_SEED={seed} FLYHOT_ROUND={number}");
    story
}

/// Plays a round; the story of what is wrong, and nothing if all is right.
fn one(
    zoo: &Zoo,
    shop: &Shop,
    seed: u64,
    number: u64,
    round: &Round,
    tally: &Mutex<BTreeMap<String, usize>>,
) -> Option<String> {
    let mut wrongs = Vec::new();
    let mut seen = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        let seen = seen.insert(play(zoo, shop, round, &mut wrongs));
        // A worker that dies may leave a word of the trace unsaid, never one too many.
        let swapped = ["upgraded", "reverted", "degraded"];
        let told = |trace: &flyhot_tests::model::Trace| {
            !trace.worker.is_empty() || !seen.outcome().is_some_and(|outcome| swapped.contains(&outcome))
        };
        if let Err(why) = flyhot_tests::model::Trace::parse(&seen.trace.to_string())
            .map_err(|error| error.to_string())
            .and_then(|trace| match told(&trace) {
                true => flyhot_tests::model::admits(&trace).map_err(|rejected| rejected.to_string()),
                false => Err("a window that nobody told of".to_owned()),
            })
        {
            wrongs.push(("invariant_the_model_admits_the_trace", why));
        }
        for (name, holds) in INVARIANTS {
            if let Err(why) = holds(round, seen) {
                wrongs.push((name, why));
                // The others speak of a version.
                if seen.versions.len() != 1 {
                    return;
                }
            }
        }
        next(zoo, shop, round, seen, &mut wrongs);
        shop.probe().eval("zoo:close().");
    }));
    if let Err(why) = played {
        let why = why.downcast_ref::<String>().cloned();
        wrongs.push(("the round itself", why.unwrap_or_else(|| "panicked".to_owned())));
    }
    if let Some(seen) = &seen {
        let outcome = match seen.run.exit_code {
            Some(_) => seen.run.outcome()["outcome"].to_string(),
            None => "driver killed".to_owned(),
        };
        eprintln!("round {number}: {outcome}, {} processes", seen.before.len());
        let mut tally = tally.lock().unwrap();
        *tally.entry(outcome).or_default() += 1;
        for struck in &seen.trace.struck {
            *tally.entry(format!("{} struck", struck[0])).or_default() += 1;
        }
    }
    (!wrongs.is_empty()).then(|| story(seed, number, round, &wrongs, seen.as_ref()))
}

fn seed_and_rounds() -> (u64, Vec<u64>) {
    let seed = Random::new("zoo").seed();
    let numbers = match std::env::var("FLYHOT_ROUND") {
        Ok(number) => vec![number.parse().expect("FLYHOT_ROUND is a number")],
        // A soak's 2 000, on three OTPs.
        Err(_) => (0..rounds(150, 667) as u64).collect(),
    };
    (seed, numbers)
}

#[test]
fn whatever_lives_on_it_whatever_befalls() {
    let zoo = Zoo::new();
    let (seed, numbers) = seed_and_rounds();
    let failed = Mutex::new(Vec::new());
    let tally = Mutex::new(BTreeMap::new());
    let repeats = std::env::var_os("FLYHOT_ROUND").is_some();
    for (seed, number) in CASES.into_iter().filter(|_| !repeats) {
        let round = Round::draw(seed, number, number / NODES);
        let shop = zoo.node(round.old);
        failed
            .lock()
            .unwrap()
            .extend(one(&zoo, &shop, seed, number, &round, &tally));
    }
    std::thread::scope(|scope| {
        for mine in 0..NODES {
            let (zoo, numbers, failed, tally) = (&zoo, &numbers, &failed, &tally);
            scope.spawn(move || {
                let mut shop = None;
                for number in numbers.iter().copied().filter(|number| number % NODES == mine) {
                    let round = Round::draw(seed, number, number / NODES);
                    let node = shop.get_or_insert_with(|| zoo.node(round.old));
                    if let Some(story) = one(zoo, node, seed, number, &round, tally) {
                        // What is left of it is not for others.
                        shop = None;
                        let mut failed = failed.lock().unwrap();
                        failed.push(story);
                    }
                    if failed.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                }
            });
        }
    });
    eprintln!("what became of them: {:?}", tally.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n--------\n"));
}

/// Whoever is left of an upgrade whose driver died in the window goes by itself.
#[test]
fn what_a_dead_driver_left_goes_by_itself() {
    let zoo = Zoo::new();
    let shop = zoo.node(0);
    let mut running = Flyhot::upgrade(&shop, zoo.to(1)).spawn();
    assert!(running.comes_to("window"));
    let run = running.kill();
    wait_until(&format!("all is settled: {run}"), SETTLED, || settled(&shop));
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    gone(&shop, GONE_BY_ITSELF);
}

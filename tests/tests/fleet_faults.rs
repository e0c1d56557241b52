//! What befalls a deploy on its way from the laptop to every machine: one machine fails, the orchestrator is gone, a network is cut,
//! the bucket or the Machines API ails. Nobody stays frozen, nothing is said that is not so, and the same command again makes the fleet
//! uniform.
#![allow(clippy::print_stderr, reason = "prints where its kills fell")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flyhot_tests::{
    App, FlyCli, FlyIlls, Flyhot, Ills, Orchestrator, Otp, Probe, Random, Release, Run, rounds, wait_or_tell,
    wait_until, with_pool,
};
use serde_json::Value;

/// The lease of the lock, s: the shortest there is.
const LEASE_S: u64 = 5;

/// What is said of it beyond: the store tells whole seconds, and whoever waits looks once a second.
const SLACK: Duration = Duration::from_secs(4);

/// Worker or guard end the longest window within two budgets and a revert, 6 s, and then thaw for 2 s.
const THAWED: Duration = Duration::from_secs(20);

/// A node that was left without a word learns of it by its ticks: here after ten seconds at the latest, else after 75.
const TICK_TIME_S: u64 = 8;

/// Long beside what any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

/// One of the two codes that a fleet is deployed to by turns.
struct Code {
    release: Release,
    version: &'static str,
    word: &'static str,
}

fn codes() -> [Code; 2] {
    [("v1", "first"), ("v2", "second")].map(|(version, word)| Code {
        release: with_pool(version, word),
        version,
        word,
    })
}

/// Machines of an app, with a judge on each.
struct Fleet {
    app: App,
    probes: Vec<Probe>,
    /// flyctl for each version.
    builders: BTreeMap<&'static str, FlyCli>,
}

impl Fleet {
    /// Its machines run the first of these.
    fn start(name: &str, codes: &[Code; 2], regions: &[&str]) -> Self {
        let app = App::start(name, &codes[0].release, regions, Some(TICK_TIME_S));
        let probe = |id: &String| app.probe(Otp::under_test(), id);
        let probes = app.ids.iter().map(probe).collect();
        let builder = |code: &Code| (code.version, app.builds_quick(code.version, &code.release));
        let builders = codes.iter().map(builder).collect();
        Self {
            app,
            probes,
            builders,
        }
    }

    fn deploy(&self, code: &Code, words: &[&str]) -> Flyhot {
        self.app
            .deploy(&self.builders[code.version], &["--output", "json"])
            .args(words.iter().copied())
    }

    /// The same, whose lock outlives it for no longer than need be.
    fn deploy_briefly(&self, code: &Code, words: &[&str]) -> Flyhot {
        self.deploy(code, words)
            .args(["--lock-timeout", &LEASE_S.to_string()])
    }

    /// Only code_changes of this word succeed on a machine.
    fn takes_only(&self, at: usize, word: &str) {
        self.probes[at].eval(&format!("application:set_env(shop, takes_only, {word})."));
    }

    fn takes_all(&self, at: usize) {
        self.probes[at].eval("application:unset_env(shop, takes_only).");
    }

    /// Each code_change there takes so long, and a window with them.
    fn takes(&self, at: usize, ms: u64) {
        self.probes[at].eval(&format!("application:set_env(shop, takes_ms, {ms})."));
    }

    fn takes_everywhere(&self, ms: u64) {
        (0..self.probes.len()).for_each(|at| self.takes(at, ms));
    }

    /// What has this in its path reaches the bucket once it is no longer so.
    fn holds(&self, path: &'static str) {
        self.app.s3.ail(Ills {
            holds: Some(path),
            ..Ills::default()
        });
    }

    fn frozen(&self) -> Vec<Vec<String>> {
        self.probes.iter().map(Probe::suspended).collect()
    }

    /// Whatever happened, nobody is frozen for longer than guard and worker bear.
    fn thaws(&self, what: &str) {
        let mut seen = Vec::new();
        wait_until(&format!("nobody is frozen: {what}"), THAWED, || {
            seen = self.frozen();
            seen.iter().all(Vec::is_empty)
        });
    }

    /// What each machine runs: the version that it says it is, and what the states of its pool are of.
    fn runs(&self) -> Vec<(String, String)> {
        let pool = "lists:usort([element(1, sys:get_state(P)) || {_, P, _, _} <- supervisor:which_children(shop_pool)]).";
        let words = self.probes.iter().map(|probe| probe.json(pool));
        let words = words.map(|words| {
            let words = words.as_array().unwrap().iter();
            words
                .map(|word| word.as_str().unwrap())
                .collect::<Vec<_>>()
                .join(" and ")
        });
        self.app.versions().into_iter().zip(words).collect()
    }

    fn is(&self, at: usize, code: &Code) -> bool {
        self.runs()[at] == (code.version.to_owned(), code.word.to_owned())
    }

    /// All machines run this, the bucket says so, and nothing of flyhot is left anywhere.
    fn uniform(&self, code: &Code, what: &str) {
        let expected = (code.version.to_owned(), code.word.to_owned());
        assert_eq!(self.runs(), vec![expected; self.probes.len()], "{what}");
        let mut wanted = self.probes[0].beam_md5s(&code.release.ebin("shop"));
        let version = code
            .release
            .directory()
            .join("releases")
            .join(code.release.version());
        let mut consolidated = self.probes[0].beam_md5s(&version.join("consolidated"));
        consolidated.retain(|module, _| wanted.contains_key(module));
        wanted.extend(consolidated);
        for (at, probe) in self.probes.iter().enumerate() {
            let loaded = probe.md5s();
            let other = wanted
                .iter()
                .find(|(module, md5)| loaded.get(*module) != Some(*md5));
            assert_eq!(other, None, "machine {at}: {what}");
            assert!(probe.suspended().is_empty(), "machine {at}: {what}");
            assert!(
                probe.traces().is_empty(),
                "machine {at}: {:?}: {what}",
                probe.traces()
            );
            assert!(
                !self.app.machines.fly.is_leased(&self.app.ids[at]),
                "machine {at}: {what}"
            );
        }
    }

    fn committed(&self, code: &Code, what: &str) {
        self.uniform(code, what);
        let pointer = self.app.pointer();
        assert_eq!(pointer["state"], "committed", "{what}");
        assert_eq!(pointer["target"]["version"], code.release.version(), "{what}");
    }

    /// What a run says is what is there.
    fn honest(&self, run: &Run, from: &Code, to: &Code) {
        let runs = self.runs();
        let all = |code: &Code| (0..runs.len()).all(|at| self.is(at, code));
        match run.exit_code {
            Some(0) => {
                assert!(all(to), "{runs:?}: {run}");
                assert_eq!(self.app.pointer()["state"], "committed", "{run}");
            }
            Some(11) => assert!(all(from), "{runs:?}: {run}"),
            Some(_) => {}
            None => panic!("{run}"),
        }
        for node in run.outcome()["nodes"].as_array().unwrap() {
            let at = self
                .app
                .ids
                .iter()
                .position(|id| node["machine"] == **id)
                .unwrap();
            match node["outcome"].as_str().unwrap() {
                "upgraded" | "nothing_to_do" => assert!(self.is(at, to), "machine {at}: {runs:?}: {run}"),
                "failed" => {}
                _ => assert!(self.is(at, from), "machine {at}: {runs:?}: {run}"),
            }
        }
    }

    /// The same command once more: nobody cleans up before it, and it waits for the lock no longer than that may be held.
    fn again(&self, to: &Code, what: &str) -> Run {
        let run = self.deploy(to, &["--lock-wait", "60s"]).run();
        assert_eq!(run.exit_code, Some(0), "{run}\nafter: {what}");
        let waited = run
            .events_named("step_done")
            .find(|event| event.json["step"] == "lock")
            .map(|event| Duration::from_micros(event.json["duration_us"].as_u64().unwrap()));
        let most = Duration::from_secs(LEASE_S) + SLACK;
        assert!(waited.unwrap() < most, "{waited:?}: {run}\nafter: {what}");
        self.committed(to, &format!("{run}\nafter: {what}"));
        run
    }
}

fn is_begun(event: &Value, step: &str) -> bool {
    event["event"] == "step_started" && event["step"] == step
}

fn is_back(event: &Value) -> bool {
    event["event"] == "wave" && event["way"] == "back"
}

fn is_done(event: &Value, step: &str) -> bool {
    event["event"] == "step_done" && event["step"] == step
}

fn says(event: &Value, state: &str) -> bool {
    event["event"] == "pointer" && event["state"] == state
}

// ---- one machine fails

/// How often Fly looks at a machine of which nothing more needs to be known.
const SELDOM: Duration = Duration::from_secs(60);

#[test]
fn a_machine_that_fails_takes_all_others_back_or_is_named() {
    let codes = codes();
    let [old, new] = &codes;
    let fleet = Fleet::start("fails", &codes, &["ams", "fra", "ams", "fra", "iad", "iad"]);
    fleet.takes_only(3, old.word);
    // The machine that fails goes back by itself, however busy the tests keep it.
    let budget = ["--max-concurrency", "2", "--revert-budget", "60s"];
    // The one beside it is looked at by Fly once a minute: nobody waits for that any more.
    let (fly, beside) = (&fleet.app.machines.fly, &fleet.app.ids[2]);
    fly.made_with_checks(beside, &["alive"], SELDOM);
    fly.check(beside, "passing", "200 OK");
    fleet.probes[3].hold();
    let patient = [&budget[..], &["--suspend-timeout", "60000"]].concat();
    let mut running = fleet.deploy(new, &patient).spawn();
    running.wait_for("Fly is asked", LIMIT, |event| is_begun(event, "machine_checks"));
    let went_on = Instant::now();
    fleet.probes[3].let_go();
    let failed = running.wait();
    fly.made_with_checks(beside, &[], SELDOM);
    failed.expect("reverted", 11);
    let back = failed.events.iter().find(|event| is_back(&event.json)).unwrap();
    let took = back.at.duration_since(went_on);
    assert!(took < SELDOM / 2, "{took:?} to the way back: {failed}");
    let outcomes: Vec<_> = fleet
        .app
        .ids
        .iter()
        .map(|id| {
            let mut nodes = failed.outcome()["nodes"].as_array().unwrap().iter();
            nodes.find(|node| node["machine"] == **id).unwrap()["outcome"].clone()
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            "taken_back",
            "taken_back",
            "taken_back",
            "reverted",
            "not_begun",
            "not_begun"
        ],
        "{failed}"
    );
    assert_eq!(failed.pointer(), ["trial", "abandoned"], "{failed}");
    fleet.committed(old, &failed.to_string());

    let words = ["--output", "human", "--no-rollback"];
    let left = fleet.app.deploy(&fleet.builders[new.version], &words);
    let left = left.args(budget).run();
    assert_eq!(left.exit_code, Some(12), "{left}");
    let table = left.stdout.rsplit_once("LONGEST FREEZE").expect("a table").1;
    for (at, id) in fleet.app.ids.iter().enumerate() {
        let row = table
            .lines()
            .find(|line| line.trim_start().starts_with(id.as_str()));
        let row = row.unwrap_or_else(|| panic!("no row of {id}: {left}"));
        let (word, code) = match at {
            0..3 => ("upgraded", new),
            3 => ("reverted", old),
            _ => ("not begun", old),
        };
        assert!(row.contains(word), "{word}: {row}\n{left}");
        assert!(fleet.is(at, code), "machine {at}: {left}");
    }
    fleet.takes_all(3);
    fleet.again(new, &left.to_string());
}

// ---- the orchestrator is gone

/// How an orchestrator goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Its machine is destroyed.
    Destroyed,
    /// The kernel of its machine kills it.
    Killed,
    /// Its host is lost: nobody hears of its end.
    Vanished,
}

const WAYS: [Way; 3] = [Way::Destroyed, Way::Killed, Way::Vanished];

/// Where an orchestrator was, by what it said.
fn phase(said: &[Value]) -> &'static str {
    let has = |wanted: &dyn Fn(&Value) -> bool| said.iter().any(wanted);
    let count = |wanted: &dyn Fn(&Value) -> bool| said.iter().filter(|event| wanted(event)).count();
    let windows = count(&|event| is_begun(event, "window"));
    if has(&|event| says(event, "committed")) {
        "after the commit"
    } else if has(&is_back) {
        "on the way back"
    } else if !has(&|event| is_done(event, "lock")) {
        "before the lock"
    } else if !has(&|event| event["event"] == "wave") {
        "before the first wave"
    } else if windows > count(&|event| is_done(event, "window")) {
        "in a window"
    } else if count(&|event| event["event"] == "inventory") > 1 {
        "on the commit"
    } else {
        "between windows"
    }
}

/// Waits until an orchestrator is at some point.
type Until = fn(&Fleet, &mut Orchestrator);

/// What is to be reached, and where an orchestrator may be that was there a moment ago.
const PHASES: [(&str, &[&str], Until); 7] = [
    (
        "before it has the lock",
        &["before the lock", "before the first wave"],
        |_, one| {
            one.comes_to("packing", |said| said.iter().any(|event| is_begun(event, "pack")));
        },
    ),
    ("while it uploads", &["before the first wave"], |fleet, one| {
        fleet.holds("/artifacts/");
        one.comes_to("an upload", |said| {
            said.iter().any(|event| is_begun(event, "upload"))
        });
    }),
    ("in a window", &["in a window"], |fleet, one| {
        fleet.takes_everywhere(1_000);
        one.comes_to("a window", |said| {
            said.iter().any(|event| is_begun(event, "window"))
        });
        wait_or_tell(
            "somebody is frozen",
            LIMIT,
            || fleet.frozen().iter().any(|frozen| !frozen.is_empty()),
            || format!("{:?}", one.said()),
        );
    }),
    (
        "between waves",
        &["between windows", "in a window", "on the commit"],
        |fleet, one| {
            one.comes_to("the trial", |said| said.iter().any(|event| says(event, "trial")));
            // However late somebody comes: it is not over by then.
            fleet.holds("pointer.json");
            one.comes_to("the end of the first wave", |said| {
                said.iter().filter(|event| is_done(event, "cleanup")).count() == 2
            });
        },
    ),
    ("on the way back", &["on the way back"], |fleet, one| {
        let last = fleet.probes.len() - 1;
        fleet.takes_only(last, &fleet.runs()[last].1);
        fleet.takes_everywhere(1_000);
        one.comes_to("the way back", |said| said.iter().any(is_back));
    }),
    ("on the commit", &["on the commit"], |fleet, one| {
        let puts = || {
            let puts = fleet.app.s3.asked("PUT");
            puts.iter().filter(|path| path.contains("pointer.json")).count()
        };
        one.comes_to("the trial", |said| said.iter().any(|event| says(event, "trial")));
        let before = puts();
        fleet.holds("pointer.json");
        wait_or_tell(
            "the commit",
            LIMIT,
            || puts() > before,
            || format!("{:?}", one.said()),
        );
    }),
    ("after it", &["after the commit"], |_, one| {
        one.comes_to("the commit", |said| {
            said.iter().any(|event| says(event, "committed"))
        });
    }),
];

/// Deploys, has the orchestrator gone at some point, and deploys once more; what it had said, and how many events a run has.
fn gone(
    fleet: &Fleet,
    to: &Code,
    way: Way,
    name: &str,
    until: impl Fn(&Fleet, &mut Orchestrator),
) -> (&'static str, usize) {
    let before = fleet.app.orchestrators().len();
    let first = fleet.deploy_briefly(to, &["--max-concurrency", "2"]).spawn();
    let mut one = fleet.app.orchestrator(before);
    until(fleet, &mut one);
    match way {
        Way::Destroyed => fleet.app.machines.fly.destroy(&one.id),
        Way::Killed => fleet.app.machines.fly.kill(&one.id),
        Way::Vanished => {
            fleet.app.machines.cut(&one.id);
            fleet.app.machines.fly.destroy(&one.id);
        }
    }
    // What was under way there arrives behind its end.
    fleet.app.s3.ail(Ills::default());
    let said = one.said().to_vec();
    let phase = phase(&said);
    let what = format!("{way:?} {name}, {phase}");
    fleet.thaws(&what);
    let first = first.wait();
    (0..fleet.probes.len()).for_each(|at| fleet.takes_all(at));
    let what = format!("{what}: {first}");
    // Success is what was said to have been committed, and nothing else.
    assert!(
        first.exit_code == Some(23) || phase == "after the commit" && first.exit_code == Some(0),
        "{what}"
    );
    let again = fleet.again(to, &what);
    (phase, said.len().max(again.events.len()))
}

#[test]
fn whoever_kills_an_orchestrator_leaves_what_the_next_deploy_finishes() {
    let codes = codes();
    let fleet = Fleet::start("gone", &codes, &["ams", "fra", "iad"]);
    let mut random = Random::new("gone");
    let (mut now, mut events) = (0, 0);
    let mut fallen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut turn = || {
        now = 1 - now;
        &codes[now]
    };
    for (number, (name, where_to, until)) in PHASES.iter().enumerate() {
        let (phase, said) = gone(&fleet, turn(), WAYS[number % WAYS.len()], name, until);
        assert!(where_to.contains(&phase), "{name}: it was {phase}");
        fleet.takes_everywhere(0);
        events = events.max(said);
        *fallen.entry(phase).or_default() += 1;
    }
    fleet.takes_everywhere(400);
    for _ in 0..rounds(0, 44) {
        let way = WAYS[random.below(WAYS.len() as u64) as usize];
        let place = random.below(events as u64) as usize;
        let delay = Duration::from_millis(1 << random.below(10));
        let name = format!("{delay:?} after event {place}");
        let (phase, _) = gone(&fleet, turn(), way, &name, |_, one| {
            one.comes_to("an event", |said| {
                said.len() > place || said.iter().any(|event| event["event"] == "outcome")
            });
            std::thread::sleep(delay);
        });
        *fallen.entry(phase).or_default() += 1;
    }
    eprintln!("orchestrator killed, by step: {fallen:?}");
}

// ---- something on the way ails

/// How long the bucket is away.
const AWAY: Duration = Duration::from_secs(20);

/// How the bucket is away.
fn is_away(random: &mut Random) -> (&'static str, Ills) {
    let none = Ills::default();
    match random.below(2) {
        0 => (
            "nothing is answered",
            Ills {
                swallows: true,
                ..none
            },
        ),
        _ => ("every connection breaks", Ills { resets: 1000, ..none }),
    }
}

#[test]
fn what_fails_on_the_way_is_ridden_out_or_said_and_the_next_deploy_finishes() {
    let codes = codes();
    let fleet = Fleet::start("ails", &codes, &["ams", "fra", "iad"]);
    let mut random = Random::new("ails");
    let mut now = 0;
    let mut turn = || {
        now = 1 - now;
        [&codes[1 - now], &codes[now]]
    };
    for _ in 0..rounds(1, 10) {
        network(&fleet, turn());
    }
    for _ in 0..rounds(1, 10) {
        bucket(&fleet, turn(), &mut random);
    }
    for _ in 0..rounds(1, 10) {
        api(&fleet, turn());
    }
}

/// A machine is cut off while its window is open, until the deploy has ended.
fn network(fleet: &Fleet, [from, to]: [&Code; 2]) {
    let id = &fleet.app.ids[1];
    fleet.takes(1, 1_000);
    let before = fleet.app.orchestrators().len();
    let first = fleet.deploy_briefly(to, &[]).spawn();
    let mut one = fleet.app.orchestrator(before);
    let node = |event: &Value| {
        event["node"]
            .as_str()
            .is_some_and(|node| node.ends_with(&address(fleet, id)))
    };
    one.comes_to("its window", |said| {
        said.iter().any(|event| is_begun(event, "window") && node(event))
    });
    fleet.app.machines.cut(id);
    fleet.thaws("a network that is cut");
    let first = first.wait();
    fleet.honest(&first, from, to);
    first.expect("mixed", 12);
    fleet.app.machines.mend(id);
    fleet.takes(1, 0);
    fleet.again(to, &first.to_string());
}

fn address(fleet: &Fleet, id: &str) -> String {
    let machines = fleet.app.machines.fly.machines();
    let machine = machines.iter().find(|machine| machine["id"] == *id).unwrap();
    format!("@{}", machine["private_ip"].as_str().unwrap())
}

/// The bucket is away for a while, from somewhere in the deploy on.
fn bucket(fleet: &Fleet, [from, to]: [&Code; 2], random: &mut Random) {
    let (how, ills) = is_away(random);
    let step = ["window", "upload", "lock", "watch"][random.below(4) as usize];
    let before = fleet.app.orchestrators().len();
    let first = fleet.deploy_briefly(to, &["--max-concurrency", "2"]).spawn();
    let mut one = fleet.app.orchestrator(before);
    one.comes_to(step, |said| said.iter().any(|event| is_begun(event, step)));
    let what = format!("{how}, from {step} on");
    fleet.app.s3.ail(ills);
    let begun = Instant::now();
    fleet.thaws(&what);
    std::thread::sleep(AWAY.saturating_sub(begun.elapsed()));
    fleet.app.s3.ail(Ills::default());
    let first = first.wait();
    eprintln!("{what}: exit code {:?}", first.exit_code);
    fleet.honest(&first, from, to);
    fleet.again(to, &format!("{what}: {first}"));
}

/// The Machines API ails all the time.
fn api(fleet: &Fleet, [from, to]: [&Code; 2]) {
    let well = FlyIlls {
        limits: false,
        ..FlyIlls::default()
    };
    fleet.app.machines.fly.ail(FlyIlls {
        server_errors: 100,
        limited: 50,
        resets: 50,
        lost_answers: 50,
        late_errors: 50,
        lost_creates: 500,
        unknown_manifests: 1,
        ..well.clone()
    });
    let first = fleet.deploy(to, &["--max-concurrency", "2"]).run();
    fleet.app.machines.fly.ail(well);
    fleet.thaws("an API that ails");
    eprintln!("an API that ails: exit code {:?}", first.exit_code);
    fleet.honest(&first, from, to);
    fleet.again(to, &first.to_string());
}

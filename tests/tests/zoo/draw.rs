//! What a round is drawn from: kinds of processes and what they hold, loads, options, mishaps. A round depends on the
//! seed and its number alone.

use flyhot_tests::{Fault, Random};

/// Versions of the zoo; a round needs three.
pub(super) const VERSIONS: u64 = 4;

/// Every module of the zoo that has versions.
pub(super) const MODULES: [&str; 15] = [
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
    "zoo_agent",
];

/// Those that change with every second version only, so that an upgrade may leave some of the zoo alone. Supervisors
/// are among them.
const SLOW: [&str; 4] = ["zoo_keeper", "zoo_beta", "zoo_hosting", "zoo_sup"];

/// The tag of a module's code and of the states it makes, in a version of the zoo.
pub(super) fn tag(module: &str, version: u64) -> u64 {
    match SLOW.contains(&module) {
        // No version of the others has these.
        true => 100 + version / 2,
        false => version + 1,
    }
}

/// Whether the module's states are changed over.
pub(super) fn migrates(module: &str) -> bool {
    !["zoo_keeper", "zoo_still", "zoo_gamma", "zoo_loop", "zoo_agent"].contains(&module)
}

/// A kind of processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// How its code_change may fail on a bad state.
    fails: &'static [&'static str],
    /// Whether that is found out before the swap.
    pub(super) rehearsed: bool,
    /// Whether it is suspended for an upgrade.
    pub(super) frozen: bool,
}

const FAILS: &[&str] = &["error", "exit", "throw", "wrong", "refuse"];

const KINDS: [Kind; 14] = [
    kind("server", FAILS, true),
    kind(
        "wild",
        &["error", "exit", "throw", "wrong", "refuse", "die", "hang"],
        false,
    ),
    kind("counting", &["error", "wrong", "hang"], true),
    kind("keeper", &[], true),
    kind("machine", FAILS, true),
    kind("switch", FAILS, true),
    kind("still", &[], true),
    kind("manager", FAILS, true),
    kind("special", FAILS, true),
    kind("guest", FAILS, false),
    free("loop"),
    free("plain"),
    free("task"),
    free("agent"),
];

const fn kind(name: &'static str, fails: &'static [&'static str], rehearsed: bool) -> Kind {
    Kind {
        name,
        fails,
        rehearsed,
        frozen: true,
    }
}

const fn free(name: &'static str) -> Kind {
    Kind {
        name,
        fails: &[],
        rehearsed: true,
        frozen: false,
    }
}

/// Processes of one kind, started together.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) kind: Kind,
    pub(super) number: u64,
    /// `nobody`, `supervisor`, `dynamic` or `family` (one for all).
    pub(super) under: &'static str,
    sleeps: bool,
    handlers: Vec<&'static str>,
    /// Whose state fails in the new code_change: number, and how.
    pub(super) bad: Vec<(u64, &'static str)>,
}

/// What goes wrong besides bad states.
#[derive(Debug, Clone)]
pub(super) enum Mishap {
    None,
    /// It befalls worker or guard.
    Fault(Fault),
    /// The driver is killed so many ms after this step began; the fault, if there is one, makes the agent slow.
    Killed {
        step: &'static str,
        after_ms: u64,
        slow: Option<Fault>,
    },
}

/// One round.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) groups: Vec<Group>,
    /// Erlang terms that `zoo:disturb/1` takes.
    pub(super) loads: Vec<String>,
    pub(super) options: Vec<String>,
    pub(super) mishap: Mishap,
    /// Version that runs, that of the upgrade, and that of the undisturbed one after it.
    pub(super) old: u64,
    pub(super) new: u64,
    pub(super) next: u64,
}

impl Round {
    /// The round `number` of those that follow from `seed`; `turn` counts the rounds of its node.
    pub(super) fn draw(seed: u64, number: u64, turn: u64) -> Self {
        let random = &mut Random::seeded(seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let old = turn % VERSIONS;
        let next = (turn + 1) % VERSIONS;
        let new = (turn + 2 + random.below(2)) % VERSIONS;
        let mut groups = draw_groups(random);
        let bad = random.below(10) < 4;
        if bad {
            spoil(random, &mut groups);
        }
        let failing = groups.iter().any(|group| !group.bad.is_empty());
        let options = draw_options(random, failing);
        let loads = draw_loads(random);
        let undoes = failing && options.iter().any(|option| option == "--no-rehearsal");
        let processes: u64 = groups.iter().map(|group| group.number).sum();
        let mishap = match random.below(12) {
            0..4 => Mishap::None,
            4..9 => Mishap::Fault(draw_fault(random, processes, undoes)),
            _ => draw_kill(random, processes),
        };
        Self {
            groups,
            loads,
            options,
            mishap,
            old,
            new,
            next,
        }
    }

    /// The argument of `zoo:populate/1`.
    pub(super) fn population(&self) -> String {
        let groups: Vec<String> = self
            .groups
            .iter()
            .map(|group| {
                let bad: Vec<String> = group
                    .bad
                    .iter()
                    // Every module whose states can be bad changes with each version.
                    .map(|(id, how)| format!("{{{id}, {{{}, {how}}}}}", tag("zoo_server", self.new)))
                    .collect();
                format!(
                    "{{{}, {}, {}, #{{sleeps => {}, handlers => [{}]}}, [{}]}}",
                    group.kind.name,
                    group.number,
                    group.under,
                    group.sleeps,
                    group.handlers.join(","),
                    bad.join(",")
                )
            })
            .collect();
        format!("[{}]", groups.join(",\n "))
    }

    /// The upgrade after it, from the version that runs by then.
    pub(super) fn then(&self, runs: u64) -> Self {
        Self {
            old: runs,
            new: self.next,
            loads: Vec::new(),
            mishap: Mishap::None,
            ..self.clone()
        }
    }

    pub(super) fn has_load(&self, name: &str) -> bool {
        self.loads.iter().any(|load| load.contains(name))
    }

    pub(super) fn has_option(&self, name: &str) -> bool {
        self.options.iter().any(|option| option == name)
    }
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len() as u64) as usize]
}

fn one_in(random: &mut Random, n: u64) -> bool {
    random.below(n) == 0
}

fn draw_groups(random: &mut Random) -> Vec<Group> {
    let mut kinds = KINDS.to_vec();
    let count = 1 + random.below(6);
    (0..count)
        .map(|_| {
            let kind = kinds.remove(random.below(kinds.len() as u64) as usize);
            let mut number = match random.below(6) {
                0 => 1,
                5 => 1 + random.below(300),
                _ => 1 + random.below(20),
            };
            let under = match (kind.frozen, kind.name) {
                (false, _) => "nobody",
                (_, "guest") => pick(random, &["supervisor", "dynamic", "family"]),
                _ => pick(
                    random,
                    &[
                        "nobody",
                        "nobody",
                        "nobody",
                        "supervisor",
                        "supervisor",
                        "dynamic",
                        "dynamic",
                        "family",
                    ],
                ),
            };
            if !kind.frozen || under == "family" {
                number = number.min(20);
            }
            let mut handlers = vec!["alpha", "beta", "gamma"];
            handlers.retain(|_| !one_in(random, 3));
            if kind.name != "manager" {
                handlers.clear();
            }
            Group {
                kind,
                number,
                under,
                sleeps: one_in(random, 4),
                handlers,
                bad: Vec::new(),
            }
        })
        .collect()
}

/// Bad states in one group or two.
fn spoil(random: &mut Random, groups: &mut [Group]) {
    let groups: Vec<&mut Group> = groups
        .iter_mut()
        .filter(|group| !group.kind.fails.is_empty())
        .filter(|group| group.kind.name != "manager" || group.handlers.contains(&"alpha"))
        .collect();
    for group in groups.into_iter().take(2) {
        let how = pick(random, group.kind.fails);
        let most = match how {
            // Whoever ends by itself counts against its supervisor; whoever never returns costs seconds.
            "die" | "hang" => 1,
            _ => pick(random, &[1, 3, 30]),
        };
        let first = 1 + random.below(group.number);
        group.bad = (first..=group.number).take(most).map(|id| (id, how)).collect();
    }
}

fn draw_options(random: &mut Random, failing: bool) -> Vec<String> {
    let mut options = Vec::new();
    if one_in(random, if failing { 2 } else { 5 }) {
        options.push("--no-rehearsal".to_owned());
    }
    if one_in(random, 3) {
        options.extend([
            "--in-flight".to_owned(),
            pick(random, &["1", "7", "100"]).to_owned(),
        ]);
    }
    if one_in(random, 5) {
        options.extend([
            "--window-budget".to_owned(),
            pick(random, &["200ms", "1s", "4s"]).to_owned(),
        ]);
    }
    if one_in(random, 6) {
        options.extend([
            "--revert-budget".to_owned(),
            pick(random, &["50ms", "500ms"]).to_owned(),
        ]);
    }
    if one_in(random, 5) {
        options.extend([
            "--freeze-attempts".to_owned(),
            pick(random, &["1", "2"]).to_owned(),
        ]);
    }
    if one_in(random, 10) {
        options.push("--down".to_owned());
    }
    if one_in(random, 12) {
        options.push("--no-persist".to_owned());
    }
    options
}

fn draw_loads(random: &mut Random) -> Vec<String> {
    let mut loads = Vec::new();
    if !one_in(random, 3) {
        loads.push("bumps".to_owned());
    }
    if one_in(random, 4) {
        loads.push("asks".to_owned());
    }
    if one_in(random, 5) {
        loads.push("ends".to_owned());
    }
    if one_in(random, 6) {
        let how = pick(random, &["alone", "supervisor", "dynamic"]);
        loads.push(format!("{{births, {how}, {}}}", 1 + random.below(5)));
    }
    loads
}

/// Passed once in an upgrade, or once in an attempt.
const POINTS: [&str; 26] = [
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
    "freezing",
    "swapping",
    "before_swap",
    "after_swap",
    "proving",
    "proving_one",
    "thawing",
    "reporting",
    "swapping",
    "after_swap",
];

/// Passed once for every process.
const EACH: [&str; 3] = ["suspending", "migrating", "resuming"];

/// Passed when a failure is undone, or cannot be.
const UNDOING: [&str; 8] = [
    "undo",
    "undoing",
    "before_back",
    "after_back",
    "putting_back",
    "putting_back",
    "ending",
    "thawing",
];

const WHAT: [&str; 10] = [
    "fail",
    "fail",
    "fail",
    "die",
    "die",
    "die",
    "{delay, 5}",
    "{delay, 50}",
    "{delay, 400}",
    "{delay, 1600}",
];

fn draw_fault(random: &mut Random, processes: u64, undoes: bool) -> Fault {
    let what = pick(random, &WHAT).to_owned();
    if one_in(random, 4) {
        let phases = ["freezing", "swapping", "proving", "thawing", "undoing"];
        let phase = phases[random.below(if undoes { 5 } else { 4 }) as usize];
        return Fault::new("guard", &format!("{{noted, {phase}}}"), 1, &what);
    }
    let point = match random.below(3) {
        _ if undoes && !one_in(random, 4) => pick(random, &UNDOING),
        0 => pick(random, &EACH),
        _ => pick(random, &POINTS),
    };
    worker_fault(random, point, processes, what)
}

fn worker_fault(random: &mut Random, point: &str, processes: u64, what: String) -> Fault {
    let nth = match EACH.contains(&point) || point == "putting_back" {
        true => 1 + random.below(processes),
        false if point == "ending" => 1 + random.below(3),
        false => 1,
    };
    Fault::new("worker", point, nth, &what)
}

fn draw_kill(random: &mut Random, processes: u64) -> Mishap {
    let steps = ["census", "stage", "prepare", "knock", "persist", "cleanup"];
    let step = match one_in(random, 2) {
        true => pick(random, &steps),
        false => "window",
    };
    let slow = (step == "window" && !one_in(random, 3)).then(|| {
        let point = match random.below(2) {
            0 => pick(random, &EACH),
            _ => pick(random, &POINTS[8..]),
        };
        worker_fault(random, point, processes, "{delay, 100}".to_owned())
    });
    Mishap::Killed {
        step,
        after_ms: random.below(25),
        slow,
    }
}

//! What must be true after a round, whatever was drawn. Each invariant says what is wrong, or nothing.

use std::collections::{BTreeMap, BTreeSet};

use flyhot_tests::{Run, Trace};
use serde_json::Value;

use super::draw::{Group, MODULES, Mishap, Round, migrates, tag};

/// As many processes as an outcome names.
const NAMED: usize = 20;

/// What is kept of one module's state in one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) module: String,
    pub(super) tag: u64,
    /// The tags that the state has had, the newest first.
    pub(super) trail: Vec<u64>,
    pub(super) id: u64,
    pub(super) note: u64,
    /// How many bumps it counted.
    pub(super) bumps: u64,
    /// Of a state machine.
    pub(super) state: String,
}

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Facts {
    Gone,
    /// It does not answer.
    Silent,
    Parts(Vec<Part>),
}

/// A process of the zoo.
#[derive(Debug, Clone)]
pub(super) struct Animal {
    pub(super) kind: String,
    /// Its number in its group; `fresh` if a supervisor started it, `born` if a load did.
    pub(super) id: String,
    pub(super) pid: String,
    pub(super) facts: Facts,
}

/// All that was seen of a round's upgrade.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) before: Vec<Animal>,
    pub(super) after: Vec<Animal>,
    /// Versions that the loaded modules are of: those whose tags are exactly these.
    pub(super) versions: Vec<u64>,
    pub(super) sent: BTreeMap<String, u64>,
    /// Told to end by a load.
    pub(super) told_to_end: BTreeSet<String>,
    pub(super) run: Run,
    pub(super) trace: Trace,
}

type Verdict = Result<(), String>;

fn need(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// Reads what `zoo:look/0` says.
pub(super) fn animals(look: &Value) -> Vec<Animal> {
    let part = |value: &Value| Part {
        module: text(&value[0]),
        tag: number(&value[1]),
        trail: value[2].as_array().expect("a list").iter().map(number).collect(),
        id: number(&value[3]),
        note: number(&value[4]),
        bumps: number(&value[5]),
        state: text(&value[6]),
    };
    let animals = look.as_array().expect("a list");
    animals
        .iter()
        .map(|animal| Animal {
            kind: text(&animal[0]),
            id: text(&animal[1]),
            pid: text(&animal[2]),
            facts: match animal[3].as_str() {
                Some("gone") => Facts::Gone,
                Some(_) => Facts::Silent,
                None => Facts::Parts(animal[3].as_array().expect("a list").iter().map(part).collect()),
            },
        })
        .collect()
}

/// Versions of the zoo whose tags are those of the loaded modules.
pub(super) fn versions(tags: &Value, all: u64) -> Vec<u64> {
    (0..all)
        .filter(|version| {
            MODULES
                .iter()
                .all(|module| tags[*module] == tag(module, *version))
        })
        .collect()
}

/// The state as it must be when the code went from one version to another under it.
fn taken_over(part: &Part, from: u64, to: u64) -> Part {
    let (old, new) = (tag(&part.module, from), tag(&part.module, to));
    let mut part = part.clone();
    if old != new && migrates(&part.module) {
        part.tag = new;
        part.trail.insert(0, new);
    }
    part
}

impl Seen {
    /// The outcome, where the driver lived to tell one.
    pub(super) fn outcome(&self) -> Option<&str> {
        self.run.exit_code?;
        self.run.outcome()["outcome"].as_str()
    }

    /// The version that the code is of now.
    fn runs(&self) -> u64 {
        self.versions[0]
    }

    /// Processes that reasons of this code name.
    fn named(&self, code: &str) -> BTreeSet<String> {
        let reasons = self.run.exit_code.map(|_| self.run.node(0)["reasons"].clone());
        let reasons = reasons
            .as_ref()
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        reasons
            .iter()
            .filter(|reason| reason["code"] == code)
            .filter_map(|reason| reason["subject"].as_str()?.split(' ').next().map(str::to_owned))
            .collect()
    }

    /// Whether its state may be of other code than runs, and nobody is left to say so: the driver is dead.
    fn nobody_tells_of_the_born(&self, animal: &Animal) -> bool {
        animal.id == "born" && self.outcome().is_none()
    }

    /// Those whom a load bore and whose state is not of the code that runs.
    pub(super) fn strays(&self) -> Vec<&str> {
        let to = self.runs();
        let astray = |part: &Part| part.tag != tag(&part.module, to);
        let strays = self.after.iter().filter(|animal| {
            animal.id == "born" && matches!(&animal.facts, Facts::Parts(parts) if parts.iter().any(astray))
        });
        strays.map(|animal| animal.pid.as_str()).collect()
    }

    fn counted(&self, what: &str) -> u64 {
        self.run.node(0)["processes"][what].as_u64().unwrap_or(0)
    }

    /// Those that were there, were not told to end, and are not there any more.
    fn missing(&self) -> Vec<&Animal> {
        self.after
            .iter()
            .filter(|animal| animal.facts == Facts::Gone && !["fresh", "born"].contains(&animal.id.as_str()))
            .filter(|animal| !self.told_to_end.contains(&animal.pid))
            .collect()
    }
}

/// All modules are of one version: the old one or the new one.
pub(super) fn invariant_wholly_old_or_wholly_new(round: &Round, seen: &Seen) -> Verdict {
    need(
        seen.versions.len() == 1 && [round.old, round.new].contains(&seen.runs()),
        || format!("the code is of the versions {:?}", seen.versions),
    )
}

/// What the command said is what became of the node.
pub(super) fn invariant_the_outcome_is_true(round: &Round, seen: &Seen) -> Verdict {
    let is_new = seen.runs() == round.new;
    match seen.outcome() {
        None => Ok(()),
        Some("upgraded" | "degraded") => need(is_new, || "the node is old, and was said to be new".into()),
        Some("reverted" | "refused" | "not_quiesced" | "failed") => {
            need(!is_new, || "the node is new, and was said to be old".into())
        }
        Some(other) => Err(format!("the outcome is {other}")),
    }
}

/// The table of docs/events.md.
pub(super) fn invariant_the_exit_code_is_that_of_the_outcome(_: &Round, seen: &Seen) -> Verdict {
    let Some(outcome) = seen.outcome() else {
        return Ok(());
    };
    let allowed: &[i32] = match outcome {
        "upgraded" => &[0],
        "refused" => &[10],
        "reverted" => &[11],
        "not_quiesced" => &[14],
        "degraded" => &[15],
        "failed" => &[1],
        _ => &[],
    };
    let said = seen.run.outcome()["exit_code"].as_i64();
    need(
        seen.run.exit_code.is_some_and(|code| allowed.contains(&code))
            && said == seen.run.exit_code.map(i64::from),
        || {
            format!(
                "{outcome} with exit code {:?}, said to be {said:?}",
                seen.run.exit_code
            )
        },
    )
}

/// Everybody who is there has the state of the code that runs, migrated once or put back, and counted every message.
pub(super) fn invariant_states_are_what_the_model_says(round: &Round, seen: &Seen) -> Verdict {
    let to = seen.runs();
    let before: BTreeMap<&str, &Animal> = seen.before.iter().map(|a| (a.pid.as_str(), a)).collect();
    let late = seen.named("newborn");
    for animal in &seen.after {
        let Facts::Parts(parts) = &animal.facts else {
            need(animal.facts != Facts::Silent, || {
                format!("{animal:?} does not answer")
            })?;
            continue;
        };
        if let Some(Facts::Parts(earlier)) = before.get(animal.pid.as_str()).map(|animal| &animal.facts) {
            let expected = expected(round, seen, animal, earlier);
            need(*parts == expected, || {
                format!(
                    "{} {} {} is\n{parts:?}\nand must be\n{expected:?}",
                    animal.kind, animal.id, animal.pid
                )
            })?;
            continue;
        }
        for part in parts {
            let now = tag(&part.module, to);
            let was = tag(&part.module, round.old);
            let right = part.trail == [now] || (animal.id == "born" && part.trail == [now, was]);
            let named = late.contains(&animal.pid) || late.len() >= NAMED;
            need(right || named || seen.nobody_tells_of_the_born(animal), || {
                format!("{animal:?} was started meanwhile, and is not of version {to}")
            })?;
        }
    }
    Ok(())
}

/// What the state of somebody who was there must be.
fn expected(round: &Round, seen: &Seen, animal: &Animal, earlier: &[Part]) -> Vec<Part> {
    // Whom a load bore is a server.
    let is_frozen = animal.id == "born"
        || round
            .groups
            .iter()
            .any(|group| group.kind.name == animal.kind && group.kind.frozen);
    let sent = seen.sent.get(&animal.pid).copied().unwrap_or(0);
    let mut expected = earlier.to_vec();
    for part in &mut expected {
        if is_frozen {
            *part = taken_over(part, round.old, seen.runs());
        }
        if !["zoo_agent", "zoo_hosting"].contains(&part.module.as_str()) {
            part.bumps += sent;
        }
    }
    expected
}

/// Whoever is missing was reported: named as ended, or counted as having died.
pub(super) fn invariant_the_missing_are_reported(round: &Round, seen: &Seen) -> Verdict {
    let missing = seen.missing();
    if seen.outcome().is_none() {
        let told = seen.trace.to_string();
        let ended: Vec<_> = missing
            .iter()
            .filter(|animal| {
                let group = round.groups.iter().find(|group| group.kind.name == animal.kind);
                let by_itself = group.is_some_and(|group| {
                    group.under == "family" || group.bad.iter().any(|(_, how)| *how == "die")
                });
                !by_itself && !told.contains(&format!(r#""ended",{:?}"#, animal.pid))
            })
            .collect();
        return need(ended.is_empty(), || {
            format!("{ended:?} are gone, and nobody ended them")
        });
    }
    let named = seen.named("process_ended");
    for pid in &named {
        let alive = seen
            .after
            .iter()
            .find(|animal| animal.pid == *pid && animal.facts != Facts::Gone);
        need(alive.is_none(), || {
            format!("{alive:?} is said to have been ended")
        })?;
    }
    let unnamed = missing
        .iter()
        .filter(|animal| !named.contains(&animal.pid))
        .count();
    let died = seen.counted("died");
    need(
        named.len() >= NAMED || unnamed as u64 == died || round.has_load("ends") && (unnamed as u64) < died,
        || format!("{unnamed} of {missing:?} are gone, {died} are counted, named are {named:?}"),
    )
}

/// A supervisor has as many children as before.
pub(super) fn invariant_supervised_processes_are_started_again(round: &Round, seen: &Seen) -> Verdict {
    for group in round.groups.iter().filter(|group| group.under != "nobody") {
        let is_one = |animal: &&Animal| {
            animal.kind == group.kind.name && animal.id != "born" && animal.facts != Facts::Gone
        };
        let alive = seen.after.iter().filter(is_one).count() as u64;
        need(alive == group.number, || {
            format!("{alive} of {} are alive: {group:?}", group.number)
        })?;
    }
    Ok(())
}

/// affected = migrated + kept + failed + died + skipped; and of a zoo that nobody is born into or leaves, each number.
pub(super) fn invariant_the_counts_add_up(round: &Round, seen: &Seen) -> Verdict {
    let Some(outcome) = seen.outcome() else {
        return Ok(());
    };
    let count = |what: &str| seen.counted(what);
    let parts = ["migrated", "kept", "failed", "died", "skipped"];
    let sum: u64 = parts.iter().map(|part| count(part)).sum();
    need(count("affected") == sum, || {
        format!("{} affected, {sum} accounted for", count("affected"))
    })?;
    if outcome == "failed" || round.has_load("ends") || round.has_load("births") {
        return Ok(());
    }
    let changed = |group: &Group, migrating: bool| {
        let Some(Animal {
            facts: Facts::Parts(parts),
            ..
        }) = seen.before.iter().find(|a| a.kind == group.kind.name)
        else {
            return false;
        };
        parts.iter().any(|part| {
            tag(&part.module, round.old) != tag(&part.module, round.new)
                && (!migrating || migrates(&part.module))
        })
    };
    let sum = |of: &dyn Fn(&Group) -> bool| -> u64 {
        let groups = round.groups.iter().filter(|group| group.kind.frozen && of(group));
        groups.map(|group| group.number).sum()
    };
    let affected = sum(&|group| changed(group, false));
    need(count("affected") == affected, || {
        format!("{} affected, and there are {affected}", count("affected"))
    })?;
    let migrating = sum(&|group| changed(group, true));
    let expected = match outcome {
        "upgraded" => (migrating - count("died"), affected - migrating, 0),
        "degraded" => {
            let named = seen.named("process_ended").len();
            let failed = if named < NAMED {
                named as u64
            } else {
                count("failed")
            };
            (migrating - failed - count("died"), affected - migrating, failed)
        }
        "reverted" => (0, count("kept"), count("failed")),
        _ => (0, 0, 0),
    };
    need(
        (count("migrated"), count("kept"), count("failed")) == expected,
        || format!("{} of {affected} migrate; {expected:?} was expected", migrating),
    )
}

/// An undisturbed zoo is upgraded; one with bad states is refused where that can be seen before, and undone where not.
pub(super) fn invariant_nothing_fails_without_a_cause(round: &Round, seen: &Seen) -> Verdict {
    let (Some(outcome), Mishap::None) = (seen.outcome(), &round.mishap) else {
        return Ok(());
    };
    let rehearses = !round.has_option("--no-rehearsal");
    let bad = || round.groups.iter().filter(|group| !group.bad.is_empty());
    let mut allowed = Vec::new();
    if bad().any(|group| group.kind.rehearsed) && rehearses {
        allowed.push("refused");
    } else if bad().any(|group| group.bad[0].1 != "die") {
        allowed.extend(["reverted", "degraded"]);
    } else {
        allowed.push("upgraded");
    }
    // They may be gone when it comes to them.
    if round.has_load("ends") && bad().next().is_some() {
        allowed.extend(["upgraded", "refused", "reverted", "degraded"]);
    }
    // Such a zoo may not come to rest in time.
    if round.has_load("asks") || round.has_load("births") || round.has_option("--window-budget") {
        allowed.push("not_quiesced");
    }
    need(allowed.contains(&outcome), || {
        format!("{outcome}, of {allowed:?}")
    })
}

/// Every invariant by its name.
#[expect(clippy::type_complexity, reason = "a table")]
pub(super) const INVARIANTS: [(&str, fn(&Round, &Seen) -> Verdict); 8] = [
    (
        "invariant_wholly_old_or_wholly_new",
        invariant_wholly_old_or_wholly_new,
    ),
    ("invariant_the_outcome_is_true", invariant_the_outcome_is_true),
    (
        "invariant_the_exit_code_is_that_of_the_outcome",
        invariant_the_exit_code_is_that_of_the_outcome,
    ),
    (
        "invariant_states_are_what_the_model_says",
        invariant_states_are_what_the_model_says,
    ),
    (
        "invariant_the_missing_are_reported",
        invariant_the_missing_are_reported,
    ),
    (
        "invariant_supervised_processes_are_started_again",
        invariant_supervised_processes_are_started_again,
    ),
    ("invariant_the_counts_add_up", invariant_the_counts_add_up),
    (
        "invariant_nothing_fails_without_a_cause",
        invariant_nothing_fails_without_a_cause,
    ),
];

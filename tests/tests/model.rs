//! The protocol between worker, guard, driver and processes, explored exhaustively; and recordings, replayed through
//! it. What is modelled, and what cannot hold, is on the page of `flyhot_tests::model`.
#![allow(
    clippy::print_stderr,
    reason = "prints how much was explored and what was found"
)]

use std::collections::BTreeSet;
use std::time::Instant;

use flyhot_tests::model::{Counterexample, Event, Explored, Mutant, Role, Setup, Trace, admits, explore};
use flyhot_tests::rounds;

const NONE: [&str; 0] = [];

const MIGRATED: Role = Role::Target { asks: 1 };
const KEPT: Role = Role::Target { asks: 0 };
const NEWBORN: Role = Role::Newborn { asks: 1 };
const SUPERVISOR: Role = Role::Supervisor;
const IN_PART: Role = Role::InPart;

fn explored(what: &str, setup: &Setup) -> Explored {
    let begun = Instant::now();
    let explored = explore(setup);
    eprintln!(
        "{what} {:?}: {} states, {} transitions, {} ends, {:?}",
        setup.roles,
        explored.states,
        explored.transitions,
        explored.terminal,
        begun.elapsed()
    );
    for found in &explored.found {
        eprintln!("{found}");
    }
    assert!(!explored.endless, "a window that may never end is no proof");
    explored
}

fn holds(setup: &Setup) {
    assert_eq!(explored("whole", setup).broken_invariants(), NONE);
}

fn counterexample(what: &str, invariant: &str, setup: &Setup) -> Counterexample {
    let mut explored = explored(what, setup);
    let at = explored
        .found
        .iter()
        .position(|found| found.invariant == invariant)
        .unwrap_or_else(|| {
            panic!(
                "{what} breaks {invariant}; broken are {:?}",
                explored.broken_invariants()
            )
        });
    explored.found.swap_remove(at)
}

fn has(found: &Counterexample, step: &str) -> bool {
    found.steps.iter().any(|one| one == step)
}

fn position(found: &Counterexample, step: &str) -> usize {
    let at = found.steps.iter().position(|one| one == step);
    at.unwrap_or_else(|| panic!("no {step}: {found}"))
}

fn last(found: &Counterexample) -> &str {
    found.steps.last().unwrap()
}

// --- every invariant, every state, one of worker and guard killed anywhere ---

#[test]
fn two_migrated_processes_come_through_every_order_of_steps() {
    holds(&Setup::new(&[MIGRATED, MIGRATED]));
    holds(&Setup {
        limit: 1,
        ..Setup::new(&[MIGRATED, MIGRATED])
    });
    let explored = explored("whole", &Setup::new(&[MIGRATED, KEPT]));
    assert_eq!(explored.broken_invariants(), NONE);
    // This is told, and not claimed away.
    assert!(explored.lost_by_the_failed > 0);
}

#[test]
fn newborns_and_supervisors_come_through_every_order_of_steps() {
    holds(&Setup::new(&[SUPERVISOR, MIGRATED]));
    holds(&Setup::new(&[MIGRATED, NEWBORN]));
    holds(&Setup::new(&[SUPERVISOR, NEWBORN]));
    holds(&Setup::new(&[Role::Target { asks: 2 }]));
    holds(&Setup::new(&[IN_PART]));
    holds(&Setup::new(&[IN_PART, MIGRATED]));
    holds(&Setup {
        limit: 1,
        ..Setup::new(&[IN_PART, IN_PART])
    });
    holds(&Setup::new(&[SUPERVISOR, IN_PART]));
}

#[test]
fn several_windows_come_through_every_order_of_steps() {
    for attempts in 2..=rounds(2, 4).min(4) as u8 {
        for roles in [[MIGRATED], [NEWBORN]] {
            holds(&Setup {
                attempts,
                ..Setup::new(&roles)
            });
        }
    }
    // Ten times the states each.
    let soak: &[&[Role]] = &[
        &[SUPERVISOR, MIGRATED, KEPT],
        &[SUPERVISOR, MIGRATED, NEWBORN],
        &[SUPERVISOR, MIGRATED, MIGRATED],
    ];
    for roles in &soak[..rounds(0, soak.len()).min(soak.len())] {
        holds(&Setup::new(roles));
    }
}

#[test]
fn only_both_deaths_before_the_last_resume_leave_somebody_frozen() {
    for roles in [&[MIGRATED][..], &[SUPERVISOR, MIGRATED]] {
        let both = explored(
            "both killed",
            &Setup {
                kills: 2,
                ..Setup::new(roles)
            },
        );
        assert!(both.counterexample("invariant_somebody_thaws").is_some());
        assert_eq!(both.broken[..2], [0, 0], "a broken invariant needs both deaths");
        assert!(both.broken[2] > 0 && both.both_killed_unharmed > 0);
        // The second death may come late, while the survivor thaws: this is told, and not claimed away.
        assert!(both.broken_while_recovering > 0 && both.broken_while_recovering < both.broken[2]);
        for found in &both.found {
            let killed = |step: &&String| step.contains("killed") || step.contains("kills the worker");
            assert_eq!(found.steps.iter().filter(killed).count(), 2, "{found}");
        }
    }
}

// --- agents that are wrong on purpose ---

fn mutant(mutant: Mutant) -> Setup {
    mutant_among(&[MIGRATED], mutant)
}

fn mutant_among(roles: &[Role], mutant: Mutant) -> Setup {
    Setup {
        mutant: Some(mutant),
        // None of them needs anybody else's.
        deaths: false,
        ..Setup::new(roles)
    }
}

#[test]
fn without_a_guard_a_killed_worker_leaves_somebody_frozen() {
    let found = counterexample("no guard", "invariant_somebody_thaws", &mutant(Mutant::NoGuard));
    assert!(
        last(&found).ends_with("killed halfway") || last(&found) == "the worker is killed",
        "{found}"
    );
    assert!(
        found
            .steps
            .iter()
            .any(|step| step.starts_with("worker: suspend 0")),
        "{found}"
    );
    assert!(
        !found.steps.iter().any(|step| step.starts_with("guard")),
        "{found}"
    );
}

#[test]
fn without_a_resume_behind_it_a_late_suspend_freezes_for_good() {
    let found = counterexample(
        "no resume behind",
        "invariant_somebody_thaws",
        &mutant(Mutant::NoResumeBehind),
    );
    assert!(
        has(&found, "worker: suspend 0") && has(&found, "worker: abandon budget"),
        "{found}"
    );
    assert!(
        !has(&found, "process 0: reads suspend") && !has(&found, "worker: resume 0"),
        "{found}"
    );
    assert_eq!(last(&found), "worker: done");
}

#[test]
fn prepared_code_is_not_asked_for_twice() {
    let found = counterexample(
        "finish twice",
        "invariant_finished_once",
        &mutant(Mutant::FinishTwice),
    );
    let swaps = found.steps.iter().filter(|step| *step == "the code server swaps");
    assert_eq!(swaps.count(), 2, "{found}");
    assert!(
        has(&found, "worker: swap") && has(&found, "guard: take_over swapping"),
        "{found}"
    );
    assert_eq!(
        found.steps[found.steps.len() - 2..],
        ["guard: swap", "the code server swaps"]
    );
}

#[test]
fn the_guard_is_told_before_a_process_is_ended() {
    let found = counterexample(
        "ended untold",
        "invariant_the_ended_are_named",
        &mutant(Mutant::EndsUntold),
    );
    assert!(
        position(&found, "worker: ended 0") < position(&found, "guard: done"),
        "{found}"
    );
}

#[test]
fn a_guard_that_finishes_the_swap_looks_for_the_late() {
    let found = counterexample(
        "late",
        "invariant_new_code_has_new_states",
        &mutant_among(&[NEWBORN], Mutant::GuardOverlooksTheLate),
    );
    assert!(
        position(&found, "process 0: is born") < position(&found, "the code server swaps"),
        "{found}"
    );
    assert!(has(&found, "guard: take_over swapping"), "{found}");
}

#[test]
fn whoever_is_born_on_the_new_code_is_looked_for_when_it_is_undone() {
    let explored = explored(
        "born before the undo",
        &mutant_among(&[KEPT, NEWBORN], Mutant::BackOverlooksTheBorn),
    );
    assert_eq!(
        explored.broken_invariants(),
        ["invariant_old_code_has_old_states"]
    );
    assert!(explored.broken[0] > 0, "nobody has to be killed for it");
    let found = counterexample(
        "born before the undo, which the guard finds done",
        "invariant_old_code_has_old_states",
        &mutant_among(&[KEPT, NEWBORN], Mutant::GuardOverlooksTheBorn),
    );
    let born = position(&found, "process 1: is born");
    assert!(position(&found, "the code server swaps") < born, "{found}");
    assert!(born < position(&found, "worker: back"), "{found}");
    assert!(has(&found, "guard: take_over undoing"), "{found}");
}

#[test]
fn those_behind_a_full_flight_of_silent_ones_are_asked() {
    let explored = explored(
        "skipped",
        &Setup {
            limit: 1,
            ..mutant_among(&[MIGRATED, MIGRATED], Mutant::SkipsThoseBehind)
        },
    );
    assert!(explored.broken[0] > 0, "nobody has to be killed for it");
    let asked = |invariant: &str, step: &str| {
        let found = explored.counterexample(invariant).expect(invariant);
        found.steps.iter().any(|one| one.ends_with(step))
    };
    // Not asked to migrate, and the others are not undone.
    assert!(!asked("invariant_new_code_has_new_states", "migrate 1"));
    // Migrated, and not put back with the others.
    assert!(asked("invariant_old_code_has_old_states", "migrate 1"));
    assert!(!asked("invariant_old_code_has_old_states", "put_back 1"));
    assert_eq!(explored.found.len(), 2, "{:?}", explored.broken_invariants());
}

#[test]
fn what_sys_shows_in_part_is_not_asked_again_for_what_it_answered() {
    let found = counterexample(
        "asks again",
        "invariant_nobody_migrates_twice",
        &mutant_among(&[IN_PART], Mutant::AsksAgain),
    );
    assert!(has(&found, "guard: take_over swapping"), "{found}");
    assert!(
        position(&found, "process 0: migrates")
            < position(&found, "process 0: gets a part of its state back"),
        "{found}"
    );
}

#[test]
fn a_process_that_went_on_during_its_proof_is_not_put_back() {
    let explored = explored(
        "seen",
        &mutant_among(&[MIGRATED, MIGRATED], Mutant::ProvesUnasked),
    );
    assert_eq!(explored.broken_invariants(), ["invariant_no_work_is_lost"]);
    assert!(explored.broken[0] > 0, "nobody has to be killed for it");
    let found = &explored.found[0];
    assert!(
        found
            .steps
            .iter()
            .any(|step| step.ends_with("handles a message of its own")),
        "{found}"
    );
}

// --- recordings ---

const AGENT: &str = include_str!("../../driver/agent/erl/flyhot_agent.erl");

/// The arguments of each call of this in the agent's source, definitions of functions and macros among them.
fn calls<'a>(name: &str) -> Vec<Vec<&'a str>> {
    let ends_in_name = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    AGENT
        .match_indices(name)
        .filter(|(at, _)| !ends_in_name(&AGENT[..*at]))
        .map(|(at, _)| arguments(&AGENT[at + name.len()..]))
        .collect()
}

/// Terms between commas, up to the bracket that closes them.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                found.push(text[begin..at].trim());
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn is_atom(word: &&str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
}

#[test]
fn what_the_agent_tells_is_what_is_read() {
    // In what the source says, variables stand for processes, phases and causes.
    let nth = |name: &str, nth: usize| -> BTreeSet<&str> {
        let calls = calls(name);
        calls
            .iter()
            .filter_map(|arguments| arguments.get(nth).copied())
            .filter(is_atom)
            .collect()
    };
    let mut phases = nth("tell_guard(", 0);
    phases.extend(nth("end_processes(", 1));
    let causes = nth("throw({abandon,", 0);
    let told: BTreeSet<String> = calls("?TELL(")
        .into_iter()
        .flat_map(|event| {
            let words = match event.as_slice() {
                [tuple] if tuple.starts_with('{') => arguments(&tuple[1..]),
                words => words.to_vec(),
            };
            let values = match *words.iter().find(|word| !is_atom(word)).unwrap_or(&"") {
                "Phase" => phases.clone(),
                "Cause" => causes.clone(),
                _ => BTreeSet::from(["<0.1.0>"]),
            };
            let written = move |value| {
                let word = |word: &&str| if is_atom(word) { *word } else { value }.to_owned();
                words.iter().map(word).collect::<Vec<_>>().join(" ")
            };
            values.into_iter().map(written)
        })
        .collect();
    let read: BTreeSet<String> = Event::all("<0.1.0>").iter().map(Event::to_string).collect();
    assert_eq!(told, read, "?TELL of the agent, and Event::all");
    for event in &read {
        let read_as = |actor: &str| {
            let words: Vec<&str> = [actor].into_iter().chain(event.split(' ')).collect();
            Trace::parse(&serde_json::to_string(&words).unwrap())
        };
        let traces = [read_as("worker"), read_as("guard")];
        let events = traces
            .iter()
            .flatten()
            .flat_map(|trace| trace.worker.iter().chain(&trace.guard));
        let written: BTreeSet<String> = events.map(Event::to_string).collect();
        assert_eq!(written, BTreeSet::from([event.clone()]));
    }
}

/// `"W suspend <0.1.0>"` for the worker, `G` for the guard; one a line, in the order of the recorder.
fn recording(lines: &str) -> Trace {
    let json: Vec<String> = lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let words: Vec<&str> = line
                .split_whitespace()
                .map(|word| match word {
                    "W" => "worker",
                    "G" => "guard",
                    word => word,
                })
                .collect();
            serde_json::to_string(&words).unwrap()
        })
        .collect();
    Trace::parse(&json.join("\n")).unwrap()
}

const FROZEN: &str = "
    W phase freezing
    G noted freezing
    W suspend sup
    W frozen sup
    W suspend a
    W suspend b
    W frozen b
    W frozen a
";

const SWAPPED: &str = "
    W phase swapping
    G noted swapping
    W swap
    W swapped ok
    W migrate a
";

const THAWED: &str = "
    W phase thawing
    G noted thawing
    W resume a
    W resume b
    W thawed a
    W thawed b
    W resume sup
    W thawed sup
    W done
    G stop
";

const GUARD_THAWS_ALL: &str = "
    G resume a
    G resume b
    G resume sup
    G thawed sup
    G thawed a
    G thawed b
    G done
";

const GUARD_THAWS: &str = "
    G resume a
    G resume b
    G thawed a
    G thawed b
    G resume sup
    G thawed sup
    G done
";

fn admitted(parts: &[&str]) {
    let text = parts.concat();
    admits(&recording(&text)).unwrap_or_else(|rejected| panic!("{rejected}\n{text}"));
}

fn rejected(process: Option<&str>, parts: &[&str]) {
    let text = parts.concat();
    let rejected = admits(&recording(&text)).expect_err(&text);
    assert_eq!(rejected.process.as_deref(), process, "{rejected}\n{text}");
}

const PROVEN: &str = "
    W migrated a ok
    W phase proving
    G noted proving
    W prove a
    W proven a ok
    W prove b
    W proven b ok
";

#[test]
fn a_plain_upgrade_is_admitted_whatever_the_recorder_saw_first() {
    admitted(&[FROZEN, SWAPPED, PROVEN, THAWED]);
    let late = recording(&[FROZEN, SWAPPED, PROVEN, THAWED].concat());
    assert!(late.worker.len() > 20 && late.guard.len() == 5, "{late:?}");
    // The guard's events all come after the worker's: the order between the two says nothing.
    let (guard, worker): (Vec<&str>, Vec<&str>) = [FROZEN, SWAPPED, PROVEN, THAWED]
        .iter()
        .flat_map(|part| part.lines())
        .partition(|line| line.trim().starts_with('G'));
    admitted(&[&worker.join("\n"), "\n", &guard.join("\n")]);
}

#[test]
fn attempts_that_are_given_up_are_admitted() {
    let late = "
        W phase freezing
        G noted freezing
        W suspend a
        W suspend b
        W frozen a
        W abandon budget
        W resume b
        W resume a
        W thawed a
        W done
    ";
    admitted(&[late]);
    admitted(&[late, late, FROZEN, SWAPPED, PROVEN, THAWED]);
    admitted(&["
        W abandon code_server
        W done
    "]);
    let callee = "
        W phase freezing
        G noted freezing
        W suspend a
        W frozen a
        W suspend b
        W resume a
        W frozen b
        W suspend a
        W frozen a
    ";
    admitted(&[
        callee,
        "
        W abandon rehearsal
        W resume a
        W resume b
        W thawed b
        W thawed a
        W done
    ",
    ]);
    admitted(&[
        FROZEN,
        "
        W phase swapping
        G noted swapping
        W swap
        W swapped refused
        W abandon swap_refused
        W resume sup
        W resume a
        W resume b
        W thawed sup
        W thawed a
        W thawed b
        W done
    ",
    ]);
}

#[test]
fn a_newborn_is_admitted() {
    let born = "
        W phase freezing
        G noted freezing
        W suspend born
        W frozen born
        W phase swapping
        G noted swapping
        W swap
        W swapped ok
        W migrate a
        W migrate born
    ";
    let thawed = THAWED.replace("W resume b\n", "W resume b\nW resume born\nW thawed born\n");
    admitted(&[FROZEN, born, "W migrated born ok", PROVEN, &thawed]);
    rejected(
        Some("born"),
        &[FROZEN, born, "W migrated born ok", PROVEN, THAWED],
    );
}

#[test]
fn a_guard_that_takes_over_is_admitted_in_each_phase() {
    admitted(&[FROZEN, "G take_over freezing", GUARD_THAWS_ALL]);
    admitted(&[
        "
        W phase freezing
        G noted freezing
        W suspend sup
        G take_over freezing
    ",
        GUARD_THAWS_ALL,
    ]);
    admitted(&[
        FROZEN,
        "
        W phase swapping
        G noted swapping
        W swap
        G take_over swapping
    ",
        GUARD_THAWS_ALL,
    ]);
    admitted(&[
        FROZEN,
        SWAPPED,
        "
        G take_over swapping
        G migrate a
        G migrated a ok
        G prove a
        G proven a ok
    ",
        GUARD_THAWS,
    ]);
    admitted(&[
        FROZEN,
        SWAPPED,
        "
        W migrated a ok
        W phase proving
        G noted proving
        W prove a
        G take_over proving
    ",
        GUARD_THAWS,
    ]);
    admitted(&[
        FROZEN,
        SWAPPED,
        "
        W migrated a failed
        W phase undoing
        G noted undoing
        G take_over undoing
        G back
        G put_back a
    ",
        GUARD_THAWS,
    ]);
    admitted(&[
        FROZEN,
        SWAPPED,
        "
        W migrated a failed
        W phase undoing
        G noted undoing
        W back
        W put_back a
        G take_over undoing
        G put_back a
    ",
        GUARD_THAWS,
    ]);
    admitted(&[
        FROZEN,
        SWAPPED,
        PROVEN,
        "
        W phase thawing
        G noted thawing
        W resume a
        W resume b
        W thawed a
        G take_over thawing
    ",
        GUARD_THAWS,
    ]);
}

const UNDOING: &str = "
    W migrated a failed
    W phase undoing
    G noted undoing
";

#[test]
fn a_revert_and_a_degraded_node_are_admitted() {
    let back = "
        W back
        W put_back a
    ";
    admitted(&[FROZEN, SWAPPED, UNDOING, back, THAWED]);
    let thawed = THAWED.replace("W resume a\n", "").replace("W thawed a\n", "");
    // Whoever is ended, the guard knows before.
    let again = "
        W phase undoing
        G noted undoing
        W ended a
    ";
    let degrading = "
        W phase degrading
        G noted degrading
        W ended a
    ";
    admitted(&[FROZEN, SWAPPED, UNDOING, back, again, &thawed]);
    admitted(&[FROZEN, SWAPPED, UNDOING, degrading, &thawed]);
    rejected(Some("a"), &[FROZEN, SWAPPED, UNDOING, back, "W ended a", &thawed]);
    rejected(None, &[FROZEN, SWAPPED, UNDOING, "W ended a", &thawed]);
    // Without a way back it is not told of an undo.
    admitted(&[FROZEN, SWAPPED, "W migrated a failed", degrading, &thawed]);
    // The old code is not taken for the new one twice.
    rejected(None, &[FROZEN, SWAPPED, UNDOING, back, again, "W back", &thawed]);
    admitted(&[
        FROZEN,
        SWAPPED,
        "W migrated a failed",
        degrading,
        "
        G take_over degrading
        G ended a
    ",
        &GUARD_THAWS
            .replace("G resume a\n", "")
            .replace("G thawed a\n", ""),
    ]);
    rejected(
        Some("a"),
        &[
            FROZEN,
            SWAPPED,
            "W migrated a failed",
            degrading,
            "G take_over degrading",
            GUARD_THAWS,
        ],
    );
    rejected(Some("a"), &[FROZEN, SWAPPED, UNDOING, degrading, THAWED]);
    rejected(
        Some("a"),
        &[
            FROZEN,
            SWAPPED,
            UNDOING,
            back,
            again,
            "
        G take_over undoing
        G put_back a
        G migrate a
    ",
            GUARD_THAWS,
        ],
    );
}

#[test]
fn what_no_agent_may_do_is_rejected() {
    let whole = [FROZEN, SWAPPED, PROVEN, THAWED].concat();
    let without = |line: &str| {
        assert!(whole.contains(line), "{line}");
        whole.replacen(line, "", 1)
    };
    // Left frozen.
    rejected(
        Some("a"),
        &[&whole.replace("W resume a\n", "").replace("W thawed a\n", "")],
    );
    rejected(None, &[FROZEN]);
    // Two swaps, or none.
    rejected(
        None,
        &[
            FROZEN,
            SWAPPED,
            "
        W swap
        W swapped ok
    ",
            PROVEN,
            THAWED,
        ],
    );
    rejected(None, &[&without("W swap\n").replace("W swapped ok\n", "")]);
    // Out of order.
    rejected(
        Some("a"),
        &[
            FROZEN,
            "W migrate a",
            &SWAPPED.replace("W migrate a\n", ""),
            PROVEN,
            THAWED,
        ],
    );
    rejected(Some("a"), &[&without("W frozen a\n")]);
    rejected(Some("b"), &[&without("W suspend b\n")]);
    rejected(
        Some("sup"),
        &[
            FROZEN,
            SWAPPED,
            PROVEN,
            &THAWED.replace("W resume a\n", "W resume sup\nW resume a\n"),
        ],
    );
    // The guard did not know, or nobody took over.
    rejected(None, &[&without("G noted swapping\n")]);
    rejected(None, &[FROZEN, GUARD_THAWS_ALL]);
    rejected(None, &[FROZEN, "G take_over swapping", GUARD_THAWS_ALL]);
    // Migrated in spite of a refused swap.
    rejected(None, &[&whole.replace("swapped ok", "swapped refused")]);
    // Someone whom the worker never suspended: only a guard lets everyone go.
    rejected(
        Some("c"),
        &[&whole.replace("W resume a\n", "W resume a\nW resume c\nW thawed c\n")],
    );
    admitted(&[
        FROZEN,
        "
        G take_over freezing
        G resume c
        G thawed c
    ",
        GUARD_THAWS_ALL,
    ]);
}

//! The protocol between worker, guard, driver and processes, explored exhaustively; and recordings, replayed through
//! it. What is modelled, and what cannot hold, is on the page of `flyhot_tests::model`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints how much was explored and what was found"
)]

use std::time::Instant;

use flyhot_tests::model::{Counterexample, Explored, Mutant, Repaired, Role, Setup, Trace, admits, explore};
use flyhot_tests::rounds;

const NONE: [&str; 0] = [];

const MIGRATED: Role = Role::Target { asks: 1 };
const KEPT: Role = Role::Target { asks: 0 };
const NEWBORN: Role = Role::Newborn { asks: 1 };
const SUPERVISOR: Role = Role::Supervisor;
const STARTER: Role = Role::Starter;

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

fn last(found: &Counterexample) -> &str {
    found.steps.last().unwrap()
}

// --- every invariant, every state, one of worker and guard killed anywhere ---

#[test]
fn two_migrated_processes_come_through_every_order_of_steps() {
    holds(&Setup::new(&[MIGRATED, MIGRATED], Repaired::ALL));
    holds(&Setup {
        limit: 1,
        ..Setup::new(&[MIGRATED, MIGRATED], Repaired::ALL)
    });
    holds(&Setup::new(&[MIGRATED, KEPT], Repaired::ALL));
}

#[test]
fn newborns_and_supervisors_come_through_every_order_of_steps() {
    holds(&Setup::new(&[SUPERVISOR, MIGRATED], Repaired::ALL));
    holds(&Setup::new(&[MIGRATED, NEWBORN], Repaired::ALL));
    holds(&Setup::new(&[STARTER, NEWBORN], Repaired::ALL));
    holds(&Setup::new(&[Role::Target { asks: 2 }], Repaired::ALL));
}

#[test]
fn several_windows_come_through_every_order_of_steps() {
    for attempts in 2..=rounds(2, 4).min(4) as u8 {
        for roles in [[MIGRATED], [NEWBORN]] {
            holds(&Setup {
                attempts,
                ..Setup::new(&roles, Repaired::ALL)
            });
        }
    }
    // Ten times the states each.
    let soak: &[&[Role]] = &[
        &[SUPERVISOR, MIGRATED, KEPT],
        &[SUPERVISOR, STARTER, NEWBORN],
        &[SUPERVISOR, MIGRATED, MIGRATED],
    ];
    for roles in &soak[..rounds(0, soak.len()).min(soak.len())] {
        holds(&Setup::new(roles, Repaired::ALL));
    }
}

#[test]
fn only_both_deaths_before_the_last_resume_leave_somebody_frozen() {
    for roles in [&[MIGRATED][..], &[SUPERVISOR, MIGRATED]] {
        let both = explored(
            "both killed",
            &Setup {
                kills: 2,
                ..Setup::new(roles, Repaired::ALL)
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
    Setup {
        mutant: Some(mutant),
        ..Setup::new(&[MIGRATED], Repaired::ALL)
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

// --- holes of the agent as it is: a test goes red when one is closed, and its field of Repaired goes then ---

#[test]
fn hole_a_worker_killed_after_it_ended_a_process_leaves_that_unnamed() {
    let open = Repaired {
        guard_knows_the_ended: false,
        ..Repaired::ALL
    };
    let found = counterexample(
        "unnamed",
        "invariant_the_ended_are_named",
        &Setup::new(&[MIGRATED], open),
    );
    let at = |step: &str| found.steps.iter().position(|one| one == step);
    assert!(
        at("worker: ended 0").unwrap() < at("guard: done").unwrap(),
        "{found}"
    );
    let found = counterexample(
        "unforgiven",
        "invariant_supervisors_forgive",
        &Setup::new(&[SUPERVISOR, MIGRATED], open),
    );
    assert!(has(&found, "worker: ended 1"), "{found}");
    assert_eq!(last(&found), "process 0: reads resume");
}

#[test]
fn hole_whoever_is_born_in_the_instant_of_the_swap_is_unnamed_by_the_guard() {
    let open = Repaired {
        guard_looks_for_the_late: false,
        ..Repaired::ALL
    };
    let found = counterexample(
        "late",
        "invariant_new_code_has_new_states",
        &Setup::new(&[NEWBORN], open),
    );
    let at = |step: &str| found.steps.iter().position(|one| one == step).unwrap();
    assert!(at("process 0: is born") < at("the code server swaps"), "{found}");
    assert!(has(&found, "guard: take_over swapping"), "{found}");
}

#[test]
fn hole_whoever_is_born_on_the_new_code_stays_there_when_it_is_undone() {
    let open = Repaired {
        undo_looks_for_the_late: false,
        ..Repaired::ALL
    };
    let explored = explored("born before the undo", &Setup::new(&[KEPT, NEWBORN], open));
    assert_eq!(
        explored.broken_invariants(),
        ["invariant_old_code_has_old_states"]
    );
    assert!(explored.broken[0] > 0, "nobody has to be killed for it");
    let found = &explored.found[0];
    let at = |step: &str| found.steps.iter().position(|one| one == step).unwrap();
    assert!(at("the code server swaps") < at("process 1: is born"), "{found}");
    assert!(found.steps.iter().any(|step| step.ends_with(": back")), "{found}");
}

#[test]
fn hole_those_behind_a_full_flight_of_silent_ones_are_never_asked() {
    let open = Repaired {
        nobody_is_skipped: false,
        ..Repaired::ALL
    };
    let explored = explored(
        "skipped",
        &Setup {
            limit: 1,
            ..Setup::new(&[MIGRATED, MIGRATED], open)
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
fn hole_a_message_that_comes_during_the_proof_is_lost_by_the_undo() {
    let open = Repaired {
        prove_is_unseen: false,
        ..Repaired::ALL
    };
    let explored = explored("seen", &Setup::new(&[MIGRATED], open));
    assert_eq!(explored.broken_invariants(), ["invariant_no_work_is_lost"]);
    assert!(explored.broken[0] > 0, "nobody has to be killed for it");
    assert!(has(&explored.found[0], "process 0: handles a message of its own"));
}

// --- recordings ---

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
fn a_newborn_and_who_starts_it_are_admitted() {
    let born = "
        W phase freezing
        G noted freezing
        W hold starter
        W suspend born
        W frozen born
        W phase swapping
        G noted swapping
        W swap
        W swapped ok
        W go starter
        W migrate a
        W migrate born
    ";
    let thawed = THAWED.replace("W resume b\n", "W resume b\nW resume born\nW thawed born\n");
    admitted(&[FROZEN, born, "W migrated born ok", PROVEN, &thawed]);
    rejected(
        Some("born"),
        &[FROZEN, born, "W migrated born ok", PROVEN, THAWED],
    );
    let held = born.replace("W go starter", "");
    rejected(
        Some("starter"),
        &[FROZEN, &held, "W migrated born ok", PROVEN, &thawed],
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
    admitted(&[FROZEN, SWAPPED, UNDOING, back, "W ended a", &thawed]);
    admitted(&[FROZEN, SWAPPED, UNDOING, "W ended a", &thawed]);
    // Without a way back the guard is not told before.
    admitted(&[
        FROZEN,
        SWAPPED,
        "
        W migrated a failed
        W ended a
    ",
        &thawed,
    ]);
    rejected(Some("a"), &[FROZEN, SWAPPED, UNDOING, "W ended a", THAWED]);
    rejected(
        Some("a"),
        &[
            FROZEN,
            SWAPPED,
            UNDOING,
            back,
            "
        W ended a
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

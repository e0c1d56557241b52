//! Judgements of made-up reports: every way a window can end, and what holds for any of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use flyhot_events::{ErrorKind, NodeOutcome, OutcomeKind, Reason, ReasonCode, WayBack};
use flyhot_upgrade::judge::{self, Judgement, invariant_counts_add_up};
use flyhot_upgrade::{
    AbandonCause, Boots, Calls, Changes, Ended, Fault, NodeFunction, PersistReport, PhaseTimes, Plan,
    ProcessRef, RehearsalReport, RemoveReport, Removed, StillPaused, Straggler, Unrendered, WindowEnd,
    WindowReport,
};
use proptest::prelude::*;

fn plan() -> Plan {
    Plan {
        changes: Changes {
            changed: vec!["a".into()],
            ..Changes::default()
        },
        removed: Removed::default(),
        kinds: vec![],
        calls: Calls::default(),
        reasons: vec![],
        way_back: WayBack::Exact,
        revert_us: 3000,
        freeze_us: 2000,
    }
}

fn process(pid: &str) -> ProcessRef {
    ProcessRef {
        pid: pid.into(),
        name: None,
    }
}

fn fault(pid: &str) -> Fault {
    Fault {
        process: process(pid),
        module: "a".into(),
        error: "badarg".into(),
    }
}

fn report(end: WindowEnd, [migrated, kept, failed, died]: [u64; 4], skipped: u64) -> WindowReport {
    WindowReport {
        end,
        by_guard: false,
        affected: migrated + kept + failed + died + skipped,
        migrated,
        kept,
        failed,
        died,
        held: 0,
        faults: if failed > 0 {
            vec![fault("<0.1.0>")]
        } else {
            vec![]
        },
        ended: vec![],
        stragglers: vec![],
        unresumed: vec![],
        late: vec![],
        unproved: false,
        unrendered: vec![],
        not_rendered: vec![],
        not_proven: vec![],
        entry: vec![],
        detail: String::new(),
        window_us: 10,
        longest_freeze_us: 9,
        phases: PhaseTimes::default(),
    }
}

fn judged(report: &WindowReport, more: bool) -> Judgement {
    judge::window(
        "n@h",
        &plan(),
        report,
        more,
        &BTreeMap::new(),
        ("before", "after"),
        vec![],
    )
}

fn done(report: &WindowReport) -> flyhot_events::NodeOutcome {
    match judged(report, false) {
        Judgement::Done(outcome) => *outcome,
        Judgement::Retry(reasons) => panic!("a retry: {reasons:?}"),
    }
}

#[test]
fn each_end_is_its_own_outcome_code_and_exit() {
    let abandoned = WindowEnd::Abandoned;
    for (end, outcome, code, kind) in [
        (WindowEnd::Upgraded, OutcomeKind::Upgraded, "after", None),
        (
            WindowEnd::Reverted,
            OutcomeKind::Reverted,
            "before",
            Some(ErrorKind::Reverted),
        ),
        (
            WindowEnd::Degraded,
            OutcomeKind::Degraded,
            "after",
            Some(ErrorKind::Degraded),
        ),
        (
            abandoned(AbandonCause::Budget),
            OutcomeKind::NotQuiesced,
            "before",
            Some(ErrorKind::NotQuiesced),
        ),
        (
            abandoned(AbandonCause::Newborn),
            OutcomeKind::NotQuiesced,
            "before",
            Some(ErrorKind::NotQuiesced),
        ),
        (
            abandoned(AbandonCause::Rehearsal),
            OutcomeKind::Refused,
            "before",
            Some(ErrorKind::ColdDeployNeeded),
        ),
        (
            abandoned(AbandonCause::CodeMoved),
            OutcomeKind::NotQuiesced,
            "before",
            Some(ErrorKind::NotQuiesced),
        ),
        (
            abandoned(AbandonCause::SwapRefused),
            OutcomeKind::Refused,
            "before",
            Some(ErrorKind::ColdDeployNeeded),
        ),
        (
            abandoned(AbandonCause::CodeServer),
            OutcomeKind::NotQuiesced,
            "before",
            Some(ErrorKind::NotQuiesced),
        ),
        (
            abandoned(AbandonCause::DriverGone),
            OutcomeKind::NotQuiesced,
            "before",
            Some(ErrorKind::NotQuiesced),
        ),
        (
            abandoned(AbandonCause::WorkerDied),
            OutcomeKind::NotQuiesced,
            "before",
            Some(ErrorKind::NotQuiesced),
        ),
        (
            abandoned(AbandonCause::GuardDied),
            OutcomeKind::NotQuiesced,
            "before",
            Some(ErrorKind::NotQuiesced),
        ),
    ] {
        let mut report = report(end, [0, 0, 0, 0], 5);
        report.faults = vec![fault("<0.1.0>")];
        let judged = done(&report);
        assert_eq!(judged.outcome, outcome, "{end:?}");
        assert_eq!(judged.code_id.after.as_deref(), Some(code), "{end:?}");
        assert_eq!(judge::error_kind(&judged), kind, "{end:?}");
        assert!(
            end == WindowEnd::Upgraded || !judged.reasons.is_empty(),
            "{end:?} says nothing"
        );
    }
}

#[test]
fn only_a_node_that_did_not_come_to_rest_is_tried_again() {
    for (cause, again) in [
        (AbandonCause::Budget, true),
        (AbandonCause::Newborn, true),
        (AbandonCause::CodeServer, true),
        (AbandonCause::Rehearsal, false),
        (AbandonCause::SwapRefused, false),
        (AbandonCause::WorkerDied, false),
    ] {
        let report = report(WindowEnd::Abandoned(cause), [0; 4], 5);
        assert_eq!(
            matches!(judged(&report, true), Judgement::Retry(_)),
            again,
            "{cause:?}"
        );
    }
}

#[test]
fn each_cause_of_giving_up_has_its_code() {
    for (cause, code) in [
        (AbandonCause::Budget, ReasonCode::FreezeBudget),
        (AbandonCause::Newborn, ReasonCode::Newborn),
        (AbandonCause::Rehearsal, ReasonCode::RehearsalFailed),
        (AbandonCause::CodeMoved, ReasonCode::CodeMoved),
        (AbandonCause::SwapRefused, ReasonCode::SwapRefused),
        (AbandonCause::CodeServer, ReasonCode::FreezeBudget),
        (AbandonCause::DriverGone, ReasonCode::WorkerDied),
        (AbandonCause::WorkerDied, ReasonCode::WorkerDied),
        (AbandonCause::GuardDied, ReasonCode::GuardDied),
    ] {
        let mut report = report(WindowEnd::Abandoned(cause), [0; 4], 5);
        report.faults = vec![fault("<0.1.0>")];
        let codes: Vec<_> = done(&report).reasons.iter().map(|reason| reason.code).collect();
        assert_eq!(codes, [code], "{cause:?}");
    }
    let mut upgraded = report(WindowEnd::Upgraded, [3, 0, 0, 0], 0);
    assert_eq!(done(&upgraded).reasons, []);
    upgraded.died = 2;
    assert_eq!(done(&upgraded).reasons[0].code, ReasonCode::ProcessDied);
}

#[test]
fn a_failed_rehearsal_is_tried_again_only_where_that_is_accepted() {
    let report = report(WindowEnd::Abandoned(AbandonCause::Rehearsal), [0; 4], 5);
    for (accepted, again) in [
        (
            BTreeMap::from([(ReasonCode::RehearsalFailed, "by --accept".to_owned())]),
            true,
        ),
        (
            BTreeMap::from([(ReasonCode::Memory, "by --accept".to_owned())]),
            false,
        ),
    ] {
        let judged = judge::window("n@h", &plan(), &report, true, &accepted, ("b", "a"), vec![]);
        assert_eq!(matches!(judged, Judgement::Retry(_)), again, "{accepted:?}");
    }
}

#[test]
fn what_was_expected_stands_in_every_outcome() {
    for end in [
        WindowEnd::Upgraded,
        WindowEnd::Reverted,
        WindowEnd::Degraded,
        WindowEnd::Abandoned(AbandonCause::Budget),
    ] {
        assert_eq!(
            done(&report(end, [0; 4], 0)).predicted,
            Some(plan().predicted()),
            "{end:?}"
        );
    }
    let refused = judge::untouched("n@h", &plan(), OutcomeKind::Refused, "b", vec![]);
    assert_eq!(refused.predicted, Some(plan().predicted()));
}

#[test]
fn a_failed_proof_is_no_failed_migration() {
    let mut report = report(WindowEnd::Reverted, [0, 3, 1, 0], 0);
    assert_eq!(done(&report).reasons[0].code, ReasonCode::MigrationFailed);
    report.unproved = true;
    assert_eq!(done(&report).reasons[0].code, ReasonCode::ProveFailed);
}

#[test]
fn a_process_without_its_resume_is_named_whatever_else_happened() {
    for end in [
        WindowEnd::Upgraded,
        WindowEnd::Reverted,
        WindowEnd::Abandoned(AbandonCause::Budget),
    ] {
        let mut report = report(end, [1, 0, 0, 0], 0);
        report.unresumed = vec![process("<0.9.0>")];
        let Judgement::Done(outcome) = judged(&report, true) else {
            panic!("{end:?} is tried again")
        };
        assert_eq!(judge::error_kind(&outcome), Some(ErrorKind::MaybeSuspended));
        assert!(
            outcome
                .reasons
                .iter()
                .any(|reason| reason.code == ReasonCode::StillSuspended && reason.subject == "<0.9.0>")
        );
    }
}

#[test]
fn a_listener_that_stays_paused_is_named_whatever_else_happened() {
    for end in [
        WindowEnd::Upgraded,
        WindowEnd::Reverted,
        WindowEnd::Abandoned(AbandonCause::Budget),
    ] {
        let mut report = report(end, [1, 0, 0, 0], 0);
        report.entry = vec![StillPaused {
            listener: "ranch :web".into(),
            command: ":ranch.resume_listener(:web)".into(),
        }];
        let Judgement::Done(outcome) = judged(&report, true) else {
            panic!("{end:?} is tried again")
        };
        assert_eq!(judge::error_kind(&outcome), Some(ErrorKind::MaybeSuspended));
        let reason = outcome
            .reasons
            .iter()
            .find(|reason| reason.subject == "ranch :web")
            .unwrap();
        assert_eq!(reason.code, ReasonCode::EntryStillPaused);
        assert!(reason.hint.contains(":ranch.resume_listener(:web)"));
    }
}

#[test]
fn a_page_that_does_not_render_is_named_once_for_all_of_its_view() {
    let mut report = report(WindowEnd::Reverted, [0, 9, 1, 0], 0);
    report.faults = vec![];
    report.unrendered = vec![Unrendered {
        process: process("<0.9.0>"),
        view: "Elixir.Shop.CartLive".into(),
        key: Some("total".into()),
        error: String::new(),
    }];
    report.not_rendered = vec![("Elixir.Shop.HomeLive".into(), "it exports no render/1".into())];
    let outcome = done(&report);
    let codes: Vec<_> = outcome.reasons.iter().map(|reason| reason.code).collect();
    assert_eq!(
        codes,
        [ReasonCode::LiveViewNeedsAssign, ReasonCode::LiveViewNotRendered]
    );
    assert_eq!(outcome.reasons[0].subject, "Shop.CartLive");
    assert!(outcome.reasons[0].sentence.contains("reads total"));
}

#[test]
fn what_was_not_proven_is_said_where_the_new_code_stays() {
    for (end, told) in [(WindowEnd::Upgraded, 1), (WindowEnd::Reverted, 0)] {
        let mut report = report(end, [3, 0, 0, 0], 0);
        report.not_proven = vec!["Elixir.Shop.Cart".into()];
        let reasons = done(&report).reasons;
        let about: Vec<_> = reasons
            .iter()
            .filter(|reason| reason.code == ReasonCode::NotProven)
            .collect();
        assert_eq!(about.len(), told);
        assert!(about.iter().all(|reason| reason.subject == "Shop.Cart"));
    }
}

#[test]
fn what_the_guard_finished_and_whom_the_window_ended_is_said() {
    let mut upgraded = report(WindowEnd::Upgraded, [3, 0, 0, 0], 0);
    upgraded.by_guard = true;
    assert_eq!(done(&upgraded).reasons[0].code, ReasonCode::GuardFinished);
    let mut degraded = report(WindowEnd::Degraded, [3, 0, 1, 0], 0);
    degraded.ended = vec![Ended {
        process: process("<0.1.0>"),
        tables: vec!["prices".into()],
    }];
    let codes: Vec<_> = done(&degraded).reasons.iter().map(|reason| reason.code).collect();
    assert_eq!(codes, [ReasonCode::MigrationFailed, ReasonCode::ProcessEnded]);
    assert!(
        done(&degraded).reasons[1]
            .sentence
            .contains("ETS tables went with it: prices")
    );
}

#[test]
fn a_failed_rehearsal_names_the_first_and_counts_the_rest() {
    let report = RehearsalReport {
        passed: 10,
        faults: vec![fault("<0.1.0>")],
        failed: 3,
        ..RehearsalReport::default()
    };
    let reasons = judge::rehearsal(&report);
    assert_eq!(reasons.len(), 2);
    assert!(judge::refuse(&reasons));
    assert!(reasons[0].sentence.contains("<0.1.0>") && reasons[1].sentence.starts_with("2 more"));
    assert!(
        judge::rehearsal(&RehearsalReport {
            passed: 10,
            ..RehearsalReport::default()
        })
        .is_empty()
    );
}

#[test]
fn a_straggler_is_told_with_what_it_is_doing() {
    let straggler = Straggler {
        process: ProcessRef {
            pid: "<0.5.0>".into(),
            name: Some("Elixir.Shop.Busy".into()),
        },
        module: "Elixir.Shop.Busy".into(),
        stack: vec!["timer:sleep/1".into(), "'Elixir.Shop.Busy':handle_call/3".into()],
        queue: 7,
        waited_us: 2_000_000,
    };
    let reasons = judge::knock(&flyhot_upgrade::KnockReport {
        answered: 0,
        stragglers: vec![straggler],
    });
    let sentence = &reasons[0].sentence;
    for part in ["<0.5.0> (Shop.Busy)", "2000 ms", "7 messages", "timer:sleep/1"] {
        assert!(sentence.contains(part), "{sentence}");
    }
}

proptest! {
    #[test]
    fn counts_always_add_up(
        counts in proptest::array::uniform4(0u64..1000),
        skipped in 0u64..1000,
        which in 0usize..5,
    ) {
        let (end, counts, skipped) = match which {
            0 => (WindowEnd::Upgraded, counts, 0),
            1 => (WindowEnd::Reverted, [0, counts[1], counts[2], counts[3]], 0),
            2 => (WindowEnd::Degraded, counts, 0),
            3 => (WindowEnd::Abandoned(AbandonCause::Budget), [0, 0, 0, counts[3]], skipped),
            _ => (WindowEnd::Abandoned(AbandonCause::WorkerDied), [0, 0, 0, counts[3]], skipped),
        };
        let outcome = done(&report(end, counts, skipped));
        prop_assert!(invariant_counts_add_up(&outcome.processes), "{:?}", outcome.processes);
    }
}

#[test]
fn a_disk_that_takes_nothing_is_named_by_the_path_and_a_node_without_a_start_of_its_own_by_its_name() {
    let said = |report: &PersistReport| -> Vec<(String, String)> {
        let reasons = judge::persist("a@h", report).into_iter();
        reasons.map(|reason| (reason.subject, reason.sentence)).collect()
    };
    let full = PersistReport {
        failed: Some(("/r/a.beam".into(), "enospc".into())),
        ..PersistReport::default()
    };
    for (boots, then) in [
        (Boots::Old, "a restart boots the old code"),
        (Boots::New, "a restart boots the new code all the same"),
        (
            Boots::Either,
            "one of a restart in place and a start anew boots the new code, the other the old",
        ),
    ] {
        let sentence = format!("/r/a.beam could not be written: enospc; {then}");
        let full = PersistReport {
            boots,
            ..full.clone()
        };
        assert_eq!(said(&full), [("/r/a.beam".to_owned(), sentence)]);
    }
    let nowhere = PersistReport {
        nowhere: Some("it was not started by a boot file of a release".into()),
        ..PersistReport::default()
    };
    let sentence = "what a@h starts with is as before: it was not started by a boot file of a release; a restart boots the \
                    old code";
    assert_eq!(said(&nowhere), [("a@h".to_owned(), sentence.to_owned())]);
    let written = PersistReport {
        written: 3,
        ..PersistReport::default()
    };
    assert!(said(&written).is_empty());
}

fn hook() -> NodeFunction {
    NodeFunction {
        module: "Elixir.Shop.Upgrade".into(),
        function: "after".into(),
    }
}

/// A node whose hook or gate failed runs the new code and is not well: 15, which begins no further node.
#[test]
fn a_failed_after_hook_and_a_failed_gate_degrade_what_went_well_and_nothing_else() {
    type Fail = fn(&mut NodeOutcome);
    let fails: [(ReasonCode, Fail); 2] = [
        (ReasonCode::AfterHookFailed, |outcome| {
            judge::after_hook(outcome, &hook(), "answered false");
        }),
        (ReasonCode::GateFailed, |outcome| {
            judge::gate(outcome, &hook(), 3, 2000, "answered false");
        }),
    ];
    for (code, fail) in fails {
        for (was, is) in [
            (OutcomeKind::Upgraded, OutcomeKind::Degraded),
            (OutcomeKind::NothingToDo, OutcomeKind::Degraded),
            (OutcomeKind::Degraded, OutcomeKind::Degraded),
        ] {
            let mut outcome = NodeOutcome::untouched("a@h", was);
            fail(&mut outcome);
            assert_eq!((outcome.outcome, outcome.reasons[0].code), (is, code));
            assert_eq!(judge::error_kind(&outcome), Some(ErrorKind::Degraded));
            assert!(outcome.reasons[0].sentence.contains("answered false"));
        }
    }
}

#[test]
fn what_before_hooks_did_is_said_where_the_upgrade_was_given_up() {
    use OutcomeKind::*;
    for (kind, said) in [
        (Upgraded, false),
        (Degraded, false),
        (Reverted, true),
        (Refused, true),
        (NotQuiesced, true),
    ] {
        let mut outcome = NodeOutcome::untouched("a@h", kind);
        judge::after_before_hooks(&mut outcome, &[hook()]);
        let codes: Vec<_> = outcome.reasons.iter().map(|reason| reason.code).collect();
        let expected = if said {
            vec![ReasonCode::HooksNotUndone]
        } else {
            vec![]
        };
        assert_eq!((codes, outcome.outcome), (expected, kind));
        let mut without = NodeOutcome::untouched("a@h", kind);
        judge::after_before_hooks(&mut without, &[]);
        assert!(without.reasons.is_empty());
    }
}

#[test]
fn a_failed_before_hook_refuses_and_says_that_nothing_of_it_is_undone() {
    let reason = judge::before_hook(&hook(), "answered false", true);
    assert!(judge::refuse(std::slice::from_ref(&reason)));
    assert_eq!(
        reason.sentence,
        "the before hook Shop.Upgrade.after/0 answered false; those behind it were not called"
    );
    assert!(reason.hint.contains("not undone"));
}

/// Whoever was first seen right after the swap may have a state of the old code: that is not upgraded.
#[test]
fn a_newborn_of_the_swap_is_no_upgrade() {
    let mut report = report(WindowEnd::Upgraded, [3, 0, 0, 0], 0);
    report.late = vec![process("<0.9.0>")];
    let outcome = done(&report);
    assert_eq!(outcome.outcome, OutcomeKind::Degraded);
    assert_eq!(outcome.reasons[0].code, ReasonCode::Newborn);
}

#[test]
fn what_became_of_removed_modules_takes_the_place_of_what_was_planned() {
    let reason = |code| Reason::new(code, "gone", "planned", "");
    let mut outcome = NodeOutcome::untouched("n", OutcomeKind::Upgraded);
    outcome.reasons = vec![reason(ReasonCode::ModuleRemoved), reason(ReasonCode::Memory)];
    let mut plan = plan();
    plan.removed.stay = vec![("kept".into(), "m names it".into())];
    let report = RemoveReport {
        deleted: vec!["gone".into()],
        kept: vec![("late".into(), "held by ETS table t".into())],
    };
    judge::removed(&mut outcome, &plan, &report);
    let told: Vec<_> = outcome
        .reasons
        .iter()
        .map(|reason| (reason.code, &*reason.sentence))
        .collect();
    assert_eq!(
        told,
        [
            (ReasonCode::Memory, "planned"),
            (
                ReasonCode::ModuleRemoved,
                "2 modules that the release no longer has: kept (m names it: stays loaded), late (held by ETS table t: \
                 stays loaded)"
            ),
            (
                ReasonCode::ModuleDeleted,
                "deleted, since nobody needed what the release no longer has: gone"
            ),
        ]
    );
}

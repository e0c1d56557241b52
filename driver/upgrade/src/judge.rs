//! The judgement of what came back: reasons, and what became of the node.

use std::collections::BTreeMap;

use flyhot_events::{
    CodeIds, ErrorKind, ModuleCounts, NodeOutcome, OutcomeKind, ProcessCounts, Reason, ReasonCode, Severity,
};

use crate::plan::{Plan, counted, elixir_name};
use crate::target::NodeFunction;
use crate::{
    AbandonCause, Boots, DrainReport, Fault, KnockReport, Lingerer, PersistReport, PrepareReport, ProcessRef,
    RehearsalReport, RemoveReport, Straggler, Unrendered, WindowEnd, WindowReport, entry,
};

/// The most stack frames a sentence shows.
const FRAMES: usize = 3;

/// What a window means for the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The node is done with.
    Done(Box<NodeOutcome>),
    /// Nothing was touched, and another attempt may succeed.
    Retry(Vec<Reason>),
}

/// `<0.123.0> (name)`.
pub fn process_name(process: &ProcessRef) -> String {
    match &process.name {
        Some(name) => format!("{} ({})", process.pid, elixir_name(name)),
        None => process.pid.clone(),
    }
}

/// The counts of a node on which nothing was done: every affected process is skipped.
pub fn untouched_counts(affected: u64) -> ProcessCounts {
    ProcessCounts {
        affected,
        skipped: affected,
        ..ProcessCounts::default()
    }
}

/// affected = migrated + kept + failed + died + skipped.
pub fn invariant_counts_add_up(counts: &ProcessCounts) -> bool {
    counts.affected == counts.migrated + counts.kept + counts.failed + counts.died + counts.skipped
}

/// An outcome in which the node stays as it is.
pub fn untouched(
    node: &str,
    plan: &Plan,
    kind: OutcomeKind,
    before: &str,
    reasons: Vec<Reason>,
) -> NodeOutcome {
    NodeOutcome {
        code_id: CodeIds {
            before: Some(before.into()),
            after: Some(before.into()),
        },
        modules: module_counts(plan),
        processes: untouched_counts(plan.affected()),
        reasons,
        predicted: Some(plan.predicted()),
        ..NodeOutcome::untouched(node, kind)
    }
}

fn module_counts(plan: &Plan) -> ModuleCounts {
    ModuleCounts {
        changed: plan.changes.changed.len() as u64,
        added: plan.changes.added.len() as u64,
        removed: plan.changes.removed.len() as u64,
    }
}

/// Modules that are as they should be where the boot file leads, and that a start finds elsewhere before.
pub fn shadowed(modules: &[String]) -> Option<Reason> {
    let first = elixir_name(modules.first()?);
    Some(Reason::new(
        ReasonCode::NotPersisted,
        &first,
        format!(
            "the next start loads {} from a directory that -pa names, {first} the first: not what runs",
            counted(modules.len() as u64, "module")
        ),
        "Take them out of that directory, or put the new builds there.",
    ))
}

/// What a rehearsal that did not pass everywhere means; empty when it did.
pub fn rehearsal(report: &RehearsalReport) -> Vec<Reason> {
    let mut reasons = faults(
        ReasonCode::RehearsalFailed,
        &report.faults,
        "the new code_change fails on its state",
    );
    let named = report.faults.len() as u64;
    if report.failed > named {
        reasons.push(Reason::new(
            ReasonCode::RehearsalFailed,
            "processes",
            format!(
                "{} failed in the same rehearsal",
                counted(report.failed - named, "more process")
            ),
            "",
        ));
    }
    reasons.extend(stragglers(&report.silent, "did not come to the rehearsal"));
    reasons
}

fn faults(code: ReasonCode, faults: &[Fault], what: &str) -> Vec<Reason> {
    faults
        .iter()
        .map(|fault| {
            Reason::new(
                code,
                process_name(&fault.process),
                format!(
                    "{} of {}: {what}: {}",
                    process_name(&fault.process),
                    elixir_name(&fault.module),
                    fault.error
                ),
                if code == ReasonCode::RehearsalFailed {
                    "Mend the code_change for this state; where only the rehearsal fails, because it calls changed code \
                     by name, accept it (--accept rehearsal_failed)."
                } else {
                    "Mend the code_change for this state."
                },
            )
        })
        .collect()
}

fn stragglers(list: &[Straggler], what: &str) -> Vec<Reason> {
    list.iter()
        .map(|straggler| {
            // The loop of OTP's sys.erl in which a suspended process waits.
            let suspended = straggler
                .stack
                .first()
                .is_some_and(|frame| frame.starts_with("sys:suspend_loop/"));
            let what = if suspended {
                "was suspended by somebody else"
            } else {
                what
            };
            let mut reason = straggler_reason(ReasonCode::Straggler, straggler, what);
            if suspended {
                reason.hint =
                    "Resume it, `sys:resume(pid)`, or have it resumed by whoever suspended it.".into();
            }
            reason
        })
        .collect()
}

fn straggler_reason(code: ReasonCode, straggler: &Straggler, what: &str) -> Reason {
    let stack: Vec<&str> = straggler.stack.iter().take(FRAMES).map(String::as_str).collect();
    Reason::new(
        code,
        process_name(&straggler.process),
        format!(
            "{} of {} {what}; waited {} ms, {} messages in its queue, it is in {}",
            process_name(&straggler.process),
            elixir_name(&straggler.module),
            straggler.waited_us / 1000,
            straggler.queue,
            if stack.is_empty() {
                "no known function".into()
            } else {
                stack.join(" < ")
            }
        ),
        "Try again when it is less busy.",
    )
}

/// What draining means: refusals when it did not succeed.
pub fn drain(report: &DrainReport) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = report
        .lingerers
        .iter()
        .map(|lingerer| {
            let mut reason = straggler_reason(
                ReasonCode::Lingerers,
                &lingerer.straggler,
                &format!(
                    "still executes the version before the running one{}",
                    since(lingerer)
                ),
            );
            reason.hint = "Wait for it (--drain-timeout), or end it (--kill-lingerers).".into();
            reason
        })
        .collect();
    if reasons.is_empty() && !report.modules.is_empty() {
        reasons.push(Reason::new(
            ReasonCode::Lingerers,
            elixir_name(&report.modules[0]),
            format!(
                "the old code of {} is still in use",
                counted(report.modules.len() as u64, "module")
            ),
            "Wait (--drain-timeout), or end the processes (--kill-lingerers).",
        ));
    }
    reasons.extend(report.killed.iter().map(|killed| {
        let mut reason = straggler_reason(
            ReasonCode::LingerersKilled,
            &killed.straggler,
            &format!(
                "was ended, it executed the version before the running one{}",
                since(killed)
            ),
        );
        reason.hint = String::new();
        reason
    }));
    if report.unnamed > 0 {
        let more = counted(report.unnamed, "more process");
        reasons.push(if report.killed.is_empty() {
            Reason::new(
                ReasonCode::Lingerers,
                "processes",
                format!("{more} still execute the version before the running one"),
                "Wait for them (--drain-timeout), or end them (--kill-lingerers).",
            )
        } else {
            Reason::new(
                ReasonCode::LingerersKilled,
                "processes",
                format!("{more} that executed the version before the running one were ended"),
                "",
            )
        });
    }
    reasons
}

fn since(lingerer: &Lingerer) -> String {
    lingerer
        .age_s
        .map(|seconds| format!(", for at most {seconds} s"))
        .unwrap_or_default()
}

/// What preparing means: refusals.
pub fn prepare(report: &PrepareReport) -> Vec<Reason> {
    report
        .refused
        .iter()
        .map(|(module, why)| {
            let code = match why.as_str() {
                "sticky_directory" => ReasonCode::StickyModule,
                "on_load_not_allowed" | "on_load" => ReasonCode::OnLoadChanged,
                _ => ReasonCode::BrokenFile,
            };
            Reason::new(
                code,
                elixir_name(module),
                format!("the node's loader refuses {}: {why}", elixir_name(module)),
                "Build the release again with the node's OTP.",
            )
        })
        .collect()
}

/// What the knock means; empty when everyone answered.
pub fn knock(report: &KnockReport) -> Vec<Reason> {
    stragglers(&report.stragglers, "does not read its mailbox")
}

/// What writing to the node's disk means.
pub fn persist(node: &str, report: &PersistReport) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some((path, why)) = &report.failed {
        reasons.push(Reason::new(
            ReasonCode::NotPersisted,
            path,
            format!(
                "{path} could not be written: {why}; {}",
                match report.boots {
                    Boots::Old => "a restart boots the old code",
                    Boots::New => "a restart boots the new code all the same",
                    Boots::Either =>
                        "one of a restart in place and a start anew boots the new code, the other the old",
                }
            ),
            "Make the path writable for the node, with room on its disk, and run the command again.",
        ));
    }
    if let Some(why) = &report.nowhere {
        reasons.push(Reason::new(
            ReasonCode::NotPersisted,
            node,
            format!("what {node} starts with is as before: {why}; a restart boots the old code"),
            "Have its next start load the new release.",
        ));
    }
    reasons
}

/// What the second look at modules that the release no longer has, and their deletion, mean: told in the place of what the
/// plan said of them.
pub fn removed(outcome: &mut NodeOutcome, plan: &Plan, report: &RemoveReport) {
    outcome
        .reasons
        .retain(|reason| reason.code != ReasonCode::ModuleRemoved);
    outcome.reasons.extend(plan.removed.reasons_after(report));
}

/// Who ended, by themselves or with others, while a window was tried.
fn died(report: &WindowReport) -> Option<Reason> {
    (report.died > 0).then(|| {
        Reason::new(
            ReasonCode::ProcessDied,
            "processes",
            format!(
                "{} ended during the window or right after it, by themselves or with their supervisor",
                counted(report.died, "process")
            ),
            "See whether a supervisor ends siblings together, or could not start one again.",
        )
    })
}

/// What a window means. `more` says whether another attempt is left; `reasons` are those of the plan. A failed rehearsal
/// is tried again where that is `accepted`: the kind is left untried then.
pub fn window(
    node: &str,
    plan: &Plan,
    report: &WindowReport,
    more: bool,
    accepted: &BTreeMap<ReasonCode, String>,
    (before, after): (&str, &str),
    mut reasons: Vec<Reason>,
) -> Judgement {
    let (outcome, mut found) = match report.end {
        // One whose state may not be of the code it runs is not upgraded, whatever became of the others.
        WindowEnd::Upgraded if !report.late.is_empty() => (OutcomeKind::Degraded, Vec::new()),
        WindowEnd::Upgraded => (OutcomeKind::Upgraded, Vec::new()),
        WindowEnd::Reverted => (OutcomeKind::Reverted, failures(report)),
        WindowEnd::Degraded => (OutcomeKind::Degraded, failures(report)),
        WindowEnd::Abandoned(cause) => {
            let mut found = abandoned(cause, report);
            let retry = matches!(
                cause,
                AbandonCause::Budget | AbandonCause::Newborn | AbandonCause::CodeServer
            ) || (cause == AbandonCause::Rehearsal
                && accepted.contains_key(&ReasonCode::RehearsalFailed));
            if retry && more && report.unresumed.is_empty() && report.entry.is_empty() {
                found.extend(died(report));
                return Judgement::Retry(found);
            }
            let outcome = match cause {
                AbandonCause::Rehearsal | AbandonCause::SwapRefused => OutcomeKind::Refused,
                _ => OutcomeKind::NotQuiesced,
            };
            (outcome, found)
        }
    };
    if report.end == WindowEnd::Degraded && !report.detail.is_empty() {
        found.push(Reason::new(
            ReasonCode::WayBackNone,
            "way back",
            format!("nothing was taken back: {}", report.detail),
            "",
        ));
    }
    if report.by_guard && !matches!(report.end, WindowEnd::Abandoned(_)) {
        found.push(Reason::new(
            ReasonCode::GuardFinished,
            "agent",
            "the agent's worker ended after the swap; its guard finished the window",
            "",
        ));
    }
    found.extend(report.ended.iter().map(|ended| {
        let tables = match ended.tables.as_slice() {
            [] => String::new(),
            tables => format!("; its ETS tables went with it: {}", tables.join(", ")),
        };
        Reason::new(
            ReasonCode::ProcessEnded,
            process_name(&ended.process),
            format!(
                "{} was ended; its supervisor starts it again with a fresh state{tables}",
                process_name(&ended.process)
            ),
            "Check what its state was needed for.",
        )
    }));
    found.extend(died(report));
    found.extend(report.late.iter().map(|process| {
        Reason::new(
            ReasonCode::Newborn,
            process_name(process),
            format!(
                "{} was started while the code was changed: its state may not be of the code it runs",
                process_name(process)
            ),
            "Look at its state, and restart it if it is not.",
        )
    }));
    found.extend(report.unresumed.iter().map(|process| {
        Reason::new(
            ReasonCode::StillSuspended,
            process_name(process),
            format!(
                "{} did not answer its resume and may still be suspended",
                process_name(process)
            ),
            "On the node: :sys.resume/1 with its pid.",
        )
    }));
    found.extend(report.not_rendered.iter().map(|(view, why)| {
        let view = elixir_name(view);
        Reason::new(
            ReasonCode::LiveViewNotRendered,
            &view,
            format!("whether {view} renders on its migrated assigns was not tried to the end: {why}"),
            "",
        )
    }));
    let abandoned = matches!(report.end, WindowEnd::Abandoned(_));
    let new_code = matches!(report.end, WindowEnd::Upgraded | WindowEnd::Degraded);
    found.extend(report.not_proven.iter().filter(|_| new_code).map(|module| {
        let module = elixir_name(module);
        let or = if report.by_guard {
            ", or the agent's worker ended in its proof"
        } else {
            ""
        };
        Reason::new(
            ReasonCode::NotProven,
            &module,
            format!(
                "no process of {module} was let run for an instant before all were: each that was looked at had messages \
                 waiting, which it would have handled{or}"
            ),
            "",
        )
    }));
    found.extend(entry::still_paused(&report.entry));
    reasons.extend(found);
    Judgement::Done(Box::new(NodeOutcome {
        code_id: CodeIds {
            before: Some(before.into()),
            after: Some(if new_code { after } else { before }.into()),
        },
        modules: module_counts(plan),
        processes: ProcessCounts {
            affected: report.affected,
            migrated: report.migrated,
            kept: report.kept,
            failed: report.failed,
            died: report.died,
            skipped: if abandoned {
                report.affected.saturating_sub(report.died + report.failed)
            } else {
                0
            },
        },
        window_us: report.window_us,
        longest_freeze_us: report.longest_freeze_us,
        phases_us: report.phases,
        predicted: Some(plan.predicted()),
        watched: None,
        reasons,
        ..NodeOutcome::untouched(node, outcome)
    }))
}

fn failures(report: &WindowReport) -> Vec<Reason> {
    let (code, what) = if report.unproved {
        (ReasonCode::ProveFailed, "its proof failed")
    } else {
        (ReasonCode::MigrationFailed, "its migration failed")
    };
    let mut reasons = faults(code, &report.faults, what);
    reasons.extend(report.unrendered.iter().map(unrendered));
    let named = (report.faults.len() + report.unrendered.len()) as u64;
    if report.failed > named {
        reasons.push(Reason::new(
            code,
            "processes",
            format!("{} failed", counted(report.failed - named, "more process")),
            "",
        ));
    }
    reasons
}

fn unrendered(unrendered: &Unrendered) -> Reason {
    let view = elixir_name(&unrendered.view);
    let (sentence, hint) = match &unrendered.key {
        Some(key) => (
            format!(
                "the new template of {view} reads {}, which its processes do not have in their assigns: each of them \
                 crashes at its next render",
                elixir_name(key)
            ),
            "Assign it in the view's code_change/3, which takes the socket and answers {:ok, socket}.",
        ),
        None => (
            format!(
                "the new template of {view} fails on the assigns of {}, and each process of it would at its next \
                 render: {}",
                process_name(&unrendered.process),
                unrendered.error
            ),
            "Make the template and the view's code_change/3 agree.",
        ),
    };
    Reason::new(ReasonCode::LiveViewNeedsAssign, view, sentence, hint)
}

fn abandoned(cause: AbandonCause, report: &WindowReport) -> Vec<Reason> {
    let one =
        |code, subject: &str, sentence: String, hint: &str| vec![Reason::new(code, subject, sentence, hint)];
    match cause {
        AbandonCause::Budget => {
            let mut reasons = stragglers(&report.stragglers, "did not come to rest");
            if reasons.is_empty() {
                let detail = if report.detail.is_empty() {
                    "the budget was used up"
                } else {
                    &report.detail
                };
                reasons.extend(one(
                    ReasonCode::FreezeBudget,
                    "window",
                    format!("the node did not come to rest: {detail}"),
                    "Try again, or raise --window-budget.",
                ));
            }
            reasons
        }
        AbandonCause::Newborn => one(
            ReasonCode::Newborn,
            "window",
            format!(
                "a process of an affected kind was started meanwhile: {}",
                report.detail
            ),
            "Try again.",
        ),
        AbandonCause::Rehearsal => faults(
            ReasonCode::RehearsalFailed,
            &report.faults,
            "the new code_change fails on its frozen state",
        ),
        AbandonCause::CodeMoved => one(
            ReasonCode::CodeMoved,
            &report.detail,
            format!(
                "{} was loaded by somebody else meanwhile",
                elixir_name(&report.detail)
            ),
            "Try again.",
        ),
        AbandonCause::SwapRefused => one(
            ReasonCode::SwapRefused,
            "code server",
            format!("the node's code server refused the swap: {}", report.detail),
            "Try again; if it stays, deploy it cold.",
        ),
        AbandonCause::CodeServer => one(
            ReasonCode::FreezeBudget,
            "code server",
            "the node's code server did not answer in time".into(),
            "Try again.",
        ),
        AbandonCause::DriverGone => one(
            ReasonCode::WorkerDied,
            "agent",
            "the node lost its connection to flyhot before the swap".into(),
            "Try again.",
        ),
        AbandonCause::WorkerDied => one(
            ReasonCode::WorkerDied,
            "agent",
            "the agent's worker ended before the swap; everything was thawed".into(),
            "Try again.",
        ),
        AbandonCause::GuardDied => one(
            ReasonCode::GuardDied,
            "agent",
            "the agent's guard ended before the swap; everything was thawed".into(),
            "Try again.",
        ),
    }
}

/// Why the upgrade is not begun: a `before` hook did not succeed; `what` came of it. `more` were to follow.
pub fn before_hook(hook: &NodeFunction, what: &str, more: bool) -> Reason {
    Reason::new(
        ReasonCode::BeforeHookFailed,
        hook.to_string(),
        format!(
            "the before hook {hook} {what}{}",
            if more {
                "; those behind it were not called"
            } else {
                ""
            }
        ),
        "What it and hooks before it did is not undone. Mend it, then run the command again: all are called again.",
    )
}

/// Adds to an outcome what the `before` hooks, which had run, mean for it.
pub fn after_before_hooks(outcome: &mut NodeOutcome, hooks: &[NodeFunction]) {
    let new_code = matches!(outcome.outcome, OutcomeKind::Upgraded | OutcomeKind::Degraded);
    let (false, Some(first)) = (new_code, hooks.first()) else {
        return;
    };
    outcome.reasons.push(Reason::new(
        ReasonCode::HooksNotUndone,
        first.to_string(),
        format!(
            "{} before {} had run when the upgrade was given up, and the after hooks do not run: what was done stands",
            hooks.len(),
            if hooks.len() == 1 { "hook" } else { "hooks" }
        ),
        "Undo it by hand, or run the command again: all are called again.",
    ));
}

/// Adds to an outcome that an `after` hook did not succeed; `what` came of it. The upgrade the user asked for is not
/// whole then.
pub fn after_hook(outcome: &mut NodeOutcome, hook: &NodeFunction, what: &str) {
    degrade(outcome);
    outcome.reasons.push(Reason::new(
        ReasonCode::AfterHookFailed,
        hook.to_string(),
        format!("the after hook {hook} {what}; the node runs the new code"),
        "Do by hand what it did not: the same command does not call it again on this node.",
    ));
}

/// Adds to an outcome that the gate did not pass: `asked` so often, within `within_ms`; `what` came last.
pub fn gate(outcome: &mut NodeOutcome, gate: &NodeFunction, asked: u64, within_ms: u128, what: &str) {
    degrade(outcome);
    outcome.gated(false);
    outcome.reasons.push(Reason::new(
        ReasonCode::GateFailed,
        gate.to_string(),
        format!(
            "the gate did not pass within {within_ms} ms: asked {asked} {}, {gate} last {what}",
            if asked == 1 { "time" } else { "times" }
        ),
        "Look at the node, which runs the new code. The same command asks the gate again.",
    ));
}

pub(crate) fn degrade(outcome: &mut NodeOutcome) {
    if matches!(outcome.outcome, OutcomeKind::Upgraded | OutcomeKind::NothingToDo) {
        outcome.outcome = OutcomeKind::Degraded;
    }
}

/// The kind of failure an outcome is; `None` for a success.
pub fn error_kind(outcome: &NodeOutcome) -> Option<ErrorKind> {
    let has = |code| outcome.reasons.iter().any(|reason| reason.code == code);
    if left_behind(outcome) {
        return Some(ErrorKind::MaybeSuspended);
    }
    match outcome.outcome {
        OutcomeKind::Upgraded
        | OutcomeKind::NothingToDo
        | OutcomeKind::Planned
        | OutcomeKind::Done
        | OutcomeKind::LeftToBoot => None,
        OutcomeKind::Refused if has(ReasonCode::BrokenFile) => Some(ErrorKind::Usage),
        OutcomeKind::Refused => Some(ErrorKind::ColdDeployNeeded),
        OutcomeKind::Reverted | OutcomeKind::TakenBack => Some(ErrorKind::Reverted),
        OutcomeKind::Degraded => Some(ErrorKind::Degraded),
        OutcomeKind::NotQuiesced => Some(ErrorKind::NotQuiesced),
        OutcomeKind::Mixed => Some(ErrorKind::Mixed),
        OutcomeKind::Failed | OutcomeKind::NotBegun => Some(ErrorKind::Bug),
    }
}

/// Whether something on the node does not work any more because of flyhot, and somebody has to look after it at once: a
/// process that may still be suspended, or a listener that may still be paused. A paused listener is the same thing one
/// floor up, a node that stands still although its processes run; its users cannot tell the two apart, and what to do is
/// the same: type what the reason says on the node, now. So it shares the exit code, and outweighs as much.
pub fn left_behind(outcome: &NodeOutcome) -> bool {
    outcome.reasons.iter().any(|reason| {
        matches!(
            reason.code,
            ReasonCode::StillSuspended | ReasonCode::EntryStillPaused
        )
    })
}

/// Whether reasons refuse an upgrade.
pub fn refuse(reasons: &[Reason]) -> bool {
    reasons.iter().any(|reason| reason.severity >= Severity::Cold)
}

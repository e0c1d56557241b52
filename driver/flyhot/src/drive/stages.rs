//! The steps that touch a node: stage, rehearse, drain, prepare, knock, window, persist.

use std::collections::BTreeMap;
use std::time::Duration;

use flyhot_agent::{Command, PrepareModule, StagedKey};
use flyhot_events::{Event, NodeOutcome, OutcomeKind, Reason, ReasonCode, Step, Unit, Verdict};
use flyhot_upgrade::judge::{self, Judgement};
use flyhot_upgrade::{
    AbandonCause, Changes, Fault, Plan, RemoveReport, Script, WindowEnd, elixir_name, entry,
};

use super::agent::AgentError;
use super::node::{ENTRY, HELD, Seen, Work};
use super::persist::Places;
use super::rehearse;
use super::steps::Steps;
use crate::errors;
use crate::options::Lingerers;

/// The pause before another attempt at a freeze, doubled each time: long enough for a queue to drain, short beside
/// the five seconds that callers wait.
const BACK_OFF: Duration = Duration::from_millis(500);

/// How long the window's report may take. The agent ends the window by its own deadlines, which give way while
/// answers come in; this one is for a node that stopped without its connection breaking, and must never be first.
const WINDOW: Duration = Duration::from_secs(600);

/// How an upgrade ended before its window, and why.
type Ended = (OutcomeKind, Vec<Reason>);
/// Between two looks for requests in changed modules, once the entry is paused: as often as a page is loaded costs the
/// node little (25 ms for 5 000 processes), and the agent hears from this side often enough to know that it is there.
const LOOK: Duration = Duration::from_millis(100);

impl Work<'_> {
    /// Hands the new code over; the inner error is a file that is not what it was.
    async fn stage(
        &self,
        changes: &Changes,
        steps: &mut Steps<'_>,
    ) -> Result<Result<(), Reason>, AgentError> {
        let begun = steps.begin(Step::Stage);
        Ok(self
            .send(changes)
            .await?
            .map(|bytes| steps.done(begun, bytes, Unit::Bytes)))
    }

    /// How many bytes were handed over.
    async fn send(&self, changes: &Changes) -> Result<Result<u64, Reason>, AgentError> {
        let mut items = Vec::new();
        for name in changes.swapped() {
            match self.request.release.read_module(name) {
                Ok(bytes) => items.push((StagedKey::Beam(name.clone()), bytes)),
                Err(error) => {
                    return Ok(Err(Reason::new(
                        ReasonCode::BrokenFile,
                        elixir_name(name),
                        format!(
                            "{} cannot be read again: {}",
                            elixir_name(name),
                            errors::chain(&error)
                        ),
                        "Build the release again, and leave it alone while it is deployed.",
                    )));
                }
            }
        }
        self.agent.stage(&items).await?;
        Ok(Ok(items.iter().map(|(_, bytes)| bytes.len() as u64).sum()))
    }

    /// Stage, rehearse, drain, prepare, `before` hooks. `Some` ends the upgrade; running code and states are as before.
    pub(super) async fn before_the_window(
        &self,
        seen: &mut Seen,
        plan: &mut Plan,
        places: &Places,
        steps: &mut Steps<'_>,
    ) -> Result<Option<Ended>, AgentError> {
        // What comes until the hooks is time to look how the node is.
        let counting = self.count().await?;
        if let Err(reason) = self.stage(&plan.changes, steps).await? {
            return Ok(Some((OutcomeKind::Refused, vec![reason])));
        }

        if let ended @ Some(_) = self.rehearse(seen, plan, steps).await? {
            return Ok(ended);
        }

        let begun = steps.begin(Step::Drain);
        let options = self.request.options;
        let report = self
            .agent
            .timed(
                "draining",
                &Command::Drain {
                    // An added one has old code where a deletion was cut short.
                    modules: plan.changes.swapped().cloned().collect(),
                    timeout_ms: ms(options.drain_timeout),
                    kill: options.lingerers == Lingerers::Kill,
                },
                options.drain_timeout + Duration::from_secs(60),
                flyhot_agent::drain,
            )
            .await?;
        steps.done(begun, plan.changes.changed.len() as u64, Unit::Modules);
        let reasons = judge::drain(&report);
        if judge::refuse(&reasons) {
            return Ok(Some((OutcomeKind::Refused, reasons)));
        }
        plan.reasons.extend(reasons);

        if let ended @ Some(_) = self.prepare(plan, places, steps).await? {
            return Ok(ended);
        }
        if let Some(since) = counting {
            let mut reasons = self.baseline(since, seen, steps).await?;
            flyhot_upgrade::accept(&mut reasons, &self.policy.accept);
            if judge::refuse(&reasons) {
                return Ok(Some((OutcomeKind::Refused, reasons)));
            }
            plan.reasons.extend(reasons);
        }
        let failed = self.before_hooks(steps).await?;
        Ok(failed.map(|reason| (OutcomeKind::Refused, vec![reason])))
    }

    /// Runs the new code_change on every live process that may be asked to. One that does not read its mailbox is
    /// waited for as long as the knock would. Where a failure is accepted the kinds concerned are left to the window,
    /// and the others are rehearsed without them.
    async fn rehearse(
        &self,
        seen: &mut Seen,
        plan: &mut Plan,
        steps: &mut Steps<'_>,
    ) -> Result<Option<Ended>, AgentError> {
        let mut jobs = seen.copies.jobs(plan);
        // The agent tries in the window what it rehearsed last: it is told where nothing of that is left.
        if jobs.is_empty() && seen.untried.is_empty() {
            return Ok(None);
        }
        let begun = steps.begin(Step::Rehearse);
        if !jobs.is_empty() {
            self.agent.stage(&seen.copies.beams(&jobs)).await?;
            let copies = Command::Copies(seen.copies.names(&jobs));
            self.agent
                .slow("loading copies", &copies, flyhot_agent::copies_loaded)
                .await?;
        }
        let patience = self.request.options.quiesce_timeout;
        let mut said = Vec::new();
        loop {
            let command = rehearse::command(jobs, &self.policy, patience);
            let report = self
                .agent
                .timed("rehearsing", &command, patience, flyhot_agent::rehearsal)
                .await?;
            let mut reasons = judge::rehearsal(&report);
            flyhot_upgrade::accept(&mut reasons, &self.policy.accept);
            let refused = judge::refuse(&reasons);
            said.extend(reasons);
            if report.failed == 0 || refused {
                plan.rehearsed(&report);
                steps.done(begun, report.passed + report.failed, Unit::Processes);
                if refused {
                    return Ok(Some((OutcomeKind::Refused, said)));
                }
                if !report.silent.is_empty() {
                    return Ok(Some((OutcomeKind::NotQuiesced, said)));
                }
                break;
            }
            if !leave_to_the_window(&report.faults, seen, plan) {
                break;
            }
            jobs = seen.copies.jobs(plan);
        }
        plan.reasons.extend(said);
        Ok(None)
    }

    async fn prepare(
        &self,
        plan: &mut Plan,
        places: &Places,
        steps: &mut Steps<'_>,
    ) -> Result<Option<Ended>, AgentError> {
        let begun = steps.begin(Step::Prepare);
        let module = |name: &String, changed| PrepareModule {
            name: name.clone(),
            file: places.file(name),
            changed,
        };
        let modules: Vec<PrepareModule> = plan
            .changes
            .changed
            .iter()
            .map(|name| module(name, true))
            .chain(plan.changes.added.iter().map(|name| module(name, false)))
            .collect();
        let count = modules.len() as u64;
        let report = self
            .agent
            .slow("preparing", &Command::Prepare(modules), flyhot_agent::prepare)
            .await?;
        steps.done(begun, count, Unit::Modules);
        let mut reasons = plan.prepared(&report, &self.policy);
        reasons.extend(judge::prepare(&report));
        Ok(judge::refuse(&reasons).then_some((OutcomeKind::Refused, reasons)))
    }

    /// Knock and window, as often as the options allow.
    pub(super) async fn windows(
        &self,
        seen: &mut Seen,
        plan: &mut Plan,
        places: &Places,
        steps: &mut Steps<'_>,
    ) -> Result<NodeOutcome, AgentError> {
        let node = steps.node().to_owned();
        let options = self.request.options;
        let of = u64::from(options.freeze_attempts);
        let mut pause = BACK_OFF;
        for attempt in 1..=of {
            if attempt > 1 {
                tokio::time::sleep(pause).await;
                pause *= 2;
                // The node has moved on: who is affected is asked again.
                let fresh = self.census(steps).await?;
                seen.census = fresh.census;
                seen.copies = fresh.copies;
                seen.closer = fresh.closer;
                plan.renew(self.plan(seen).await?);
                if plan.verdict() == Verdict::Cold {
                    let reasons = plan.reasons.clone();
                    return Ok(judge::untouched(
                        &node,
                        plan,
                        OutcomeKind::Refused,
                        &seen.before,
                        reasons,
                    ));
                }
                plan.untried(&seen.untried);
                let mut ended = self.rehearse(seen, plan, steps).await?;
                if ended.is_none() {
                    ended = self.prepare(plan, places, steps).await?;
                }
                if let Some((outcome, mut reasons)) = ended {
                    reasons.splice(0..0, plan.reasons.clone());
                    return Ok(judge::untouched(&node, plan, outcome, &seen.before, reasons));
                }
            }
            if self.policy.drain_entry {
                let refused = self.pause(seen, plan, steps).await?;
                if !refused.is_empty() {
                    let mut all = plan.reasons.clone();
                    all.extend(refused);
                    return Ok(judge::untouched(
                        &node,
                        plan,
                        OutcomeKind::Refused,
                        &seen.before,
                        all,
                    ));
                }
            }
            let knocking = steps.begin(Step::Knock);
            let kinds: Vec<u64> = plan.frozen().map(|kind| kind.kind.id).collect();
            let report = self
                .agent
                .timed(
                    "knocking",
                    &Command::Knock {
                        kinds,
                        timeout_ms: ms(options.quiesce_timeout),
                        in_flight: self.policy.in_flight,
                    },
                    options.quiesce_timeout,
                    flyhot_agent::knock,
                )
                .await?;
            steps.done(knocking, report.answered, Unit::Processes);
            let reasons = judge::knock(&report);
            if !reasons.is_empty() {
                let mut all = plan.reasons.clone();
                all.extend(reasons);
                return Ok(judge::untouched(
                    &node,
                    plan,
                    OutcomeKind::NotQuiesced,
                    &seen.before,
                    all,
                ));
            }
            let script = plan.script(&seen.target, &seen.facts, &self.policy, |name| places.file(name));
            match self.window(seen, plan, &script, attempt < of, steps).await? {
                Judgement::Done(outcome) => return Ok(*outcome),
                Judgement::Retry(reasons) => {
                    // They stay dead, whatever comes of the next attempt.
                    let died = reasons
                        .iter()
                        .filter(|reason| reason.code == ReasonCode::ProcessDied);
                    plan.reasons.extend(died.cloned());
                    steps.emit(Event::Attempt {
                        node: node.clone(),
                        attempt,
                        of,
                        reasons,
                    });
                }
            }
        }
        Ok(judge::untouched(
            &node,
            plan,
            OutcomeKind::NotQuiesced,
            &seen.before,
            plan.reasons.clone(),
        ))
    }

    /// Pauses the entry and waits until nobody runs in a changed module; what refuses the upgrade. The agent resumes it:
    /// behind the window, when it is told to finish, or when it no longer hears from this side.
    async fn pause(
        &self,
        seen: &Seen,
        plan: &mut Plan,
        steps: &mut Steps<'_>,
    ) -> Result<Vec<Reason>, AgentError> {
        let begun = steps.begin(Step::Entry);
        let paused = self
            .agent
            .timed("pausing the entry", &Command::Pause, ENTRY, flyhot_agent::entry)
            .await?;
        for reason in entry::not_paused(&paused) {
            // The plan may have said so.
            if !plan.reasons.contains(&reason) {
                plan.reasons.push(reason);
            }
        }
        let since = tokio::time::Instant::now();
        let report = loop {
            let report = self.way_back(seen).await?;
            if report.inside == 0 || since.elapsed() > self.request.options.drain_timeout {
                break report;
            }
            tokio::time::sleep(LOOK).await;
        };
        let refused = plan.drained(&report, &self.policy);
        steps.done(begun, report.sampled, Unit::Processes);
        Ok(refused)
    }

    async fn window(
        &self,
        seen: &mut Seen,
        plan: &mut Plan,
        script: &Script,
        more: bool,
        steps: &mut Steps<'_>,
    ) -> Result<Judgement, AgentError> {
        let begun = steps.begin(Step::Window);
        let report = self
            .agent
            .timed(
                "the window",
                &Command::Window(script),
                WINDOW,
                flyhot_agent::window,
            )
            .await?;
        steps.done(begun, report.affected, Unit::Processes);
        let judgement = judge::window(
            steps.node(),
            plan,
            &report,
            more,
            &self.policy.accept,
            (&seen.before, &seen.after),
            plan.reasons.clone(),
        );
        if let Judgement::Retry(reasons) = &judgement
            && report.end == WindowEnd::Abandoned(AbandonCause::Rehearsal)
        {
            leave_to_the_window(&report.faults, seen, plan);
            let mut reasons = reasons.clone();
            flyhot_upgrade::accept(&mut reasons, &self.policy.accept);
            plan.reasons.extend(reasons);
        }
        Ok(judgement)
    }

    /// Deletes what the release no longer has, where nobody is left who could call it and the node runs the release.
    pub(super) async fn remove(
        &self,
        seen: &Seen,
        plan: &Plan,
        outcome: &mut NodeOutcome,
        steps: &mut Steps<'_>,
    ) {
        let runs = matches!(outcome.outcome, OutcomeKind::Upgraded | OutcomeKind::NothingToDo);
        if !runs || plan.removed.deletable.is_empty() {
            return;
        }
        let begun = steps.begin(Step::Remove);
        let md5 = |module: &String| seen.facts.modules.get(module).map(|loaded| loaded.md5);
        let names = seen.held.names.clone();
        let builds: BTreeMap<String, [u8; 16]> = names
            .iter()
            .filter(|(module, _)| plan.changes.changed.contains(module))
            .filter_map(|(module, _)| Some((module.clone(), md5(module)?)))
            .collect();
        let command = Command::Remove {
            removed: plan.removed.deletable.clone(),
            swapped: plan.changes.changed.clone(),
            names,
            builds: builds.into_iter().collect(),
            in_flight: self.policy.in_flight,
            timeout_ms: ms(HELD),
        };
        let answer = self
            .agent
            .slow("deleting removed modules", &command, flyhot_agent::removed)
            .await;
        let report = answer.unwrap_or_else(|error| {
            let why = format!("whether it is deleted is not known: {}", errors::chain(&error));
            let unknown = |module: &String| (module.clone(), why.clone());
            RemoveReport {
                deleted: Vec::new(),
                kept: plan.removed.deletable.iter().map(unknown).collect(),
            }
        });
        steps.done(begun, report.deleted.len() as u64, Unit::Modules);
        judge::removed(outcome, plan, &report);
    }
}

/// What failed in the rehearsal is decided by the code_change itself, once it is loaded. Whether that leaves less to
/// rehearse.
fn leave_to_the_window(faults: &[Fault], seen: &mut Seen, plan: &mut Plan) -> bool {
    seen.untried
        .extend(faults.iter().map(|fault| fault.module.clone()));
    plan.untried(&seen.untried)
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

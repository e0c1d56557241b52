//! The steps of design §5, in order.

use std::collections::BTreeSet;
use std::time::Duration;

use flyhot_agent::{AnswerError, Command, DiskModule, PersistFile, PrepareModule, StagedKey};
use flyhot_events::{
    CodeIds, ErrorKind, Event, NodeCensus, NodeOutcome, OutcomeKind, Reason, ReasonCode, Step, Unit, Verdict,
};
use flyhot_node::{CallError, ConnectOptions};
use flyhot_upgrade::judge::{self, Judgement};
use flyhot_upgrade::{
    Changes, Kind, NodeFacts, Plan, PlanInput, Policy, Script, Target, WayBackReport, changes, elixir_name,
    plan,
};

use super::agent::{Agent, AgentError};
use super::facts;
use super::persist::Places;
use super::rehearse::{self, Copies};
use super::steps::Steps;
use super::{NodeError, NodeRequest};
use crate::errors;
use crate::options::{Direction, Lingerers, Options, Persist, Rehearsal, WayBackNeeded};

/// How long each step of connecting may take. The node itself gives up on a handshake after 7 s
/// (`net_kernel`, `setuptime`).
const CONNECT_STEP: Duration = Duration::from_secs(7);

/// The pause before another attempt at a freeze, doubled each time: long enough for a queue to drain, short beside
/// the five seconds that callers wait.
const BACK_OFF: Duration = Duration::from_millis(500);

/// How long a rehearsal of every live process may take; measured 14 to 22 ms for 10 000.
const REHEARSAL: Duration = Duration::from_secs(60);

pub(super) async fn upgrade(
    request: &NodeRequest<'_>,
    emit: &mut dyn FnMut(Event),
) -> Result<NodeOutcome, NodeError> {
    let mut steps = Steps::new(request.node.to_string(), emit);
    let connecting = steps.begin(Step::Connect);
    let session = flyhot_node::connect(&ConnectOptions {
        peer: request.node.clone(),
        cookie: request.options.cookie.clone(),
        dist_port: request.options.dist_port,
        epmd_port: request.options.epmd_port,
        step_timeout: CONNECT_STEP,
    })
    .await
    .map_err(|error| errors::connect(request.node, &error))?;
    let holder = format!(
        "flyhot {} as {}, process {}",
        env!("CARGO_PKG_VERSION"),
        session.own_name(),
        std::process::id()
    );
    let agent = Agent::start(&session, &holder)
        .await
        .map_err(|error| failed(request, &error))?;
    steps.done(connecting, 1, Unit::Modules);

    let outcome = Work {
        request,
        agent: &agent,
        policy: policy(request.options),
    }
    .run(&mut steps)
    .await;

    let cleaning = steps.begin(Step::Cleanup);
    let finished = agent.finish().await;
    steps.done(cleaning, 1, Unit::Modules);
    let mut outcome = outcome.map_err(|error| failed(request, &error))?;
    if let Err(error) = finished {
        // The upgrade is what it is; a node that cannot be reached any more takes the agent off by itself.
        outcome.reasons.push(Reason::new(
            ReasonCode::WorkerDied,
            "agent",
            format!(
                "the agent could not be taken off the node: {}",
                errors::chain(&error)
            ),
            "It leaves the node by itself within 30 s.",
        ));
    }
    Ok(outcome)
}

fn policy(options: &Options) -> Policy {
    let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Policy {
        accept: options.accept.clone(),
        rehearse: options.rehearsal == Rehearsal::On,
        persist: options.persist == Persist::On,
        require_way_back: options.way_back == WayBackNeeded::Exact,
        down: options.direction == Direction::Down,
        window_budget_us: us(options.window_budget),
        revert_budget_us: us(options.revert_budget),
        in_flight: u64::from(options.in_flight),
    }
}

fn failed(request: &NodeRequest<'_>, error: &AgentError) -> NodeError {
    let node = request.node;
    let (kind, hint) = match error {
        AgentError::Busy { .. } => (
            ErrorKind::Locked,
            "Wait until it has finished, then run the command again.",
        ),
        AgentError::Call { source, .. } => match source {
            CallError::Timeout { .. } | CallError::ConnectionLost { .. } => (
                ErrorKind::NodeUnreachable,
                "Check that the node is alive, then run the command again: it tells what the node runs now.",
            ),
            _ => (ErrorKind::Bug, "Report this with the text above."),
        },
        AgentError::Answer {
            source: AnswerError::WorkerGone,
            ..
        } => (
            ErrorKind::NotQuiesced,
            "The agent's worker was ended on the node; nothing was swapped. Run the command again.",
        ),
        AgentError::Answer { .. } | AgentError::NotLoaded { .. } => {
            (ErrorKind::Bug, "Report this with the text above.")
        }
    };
    NodeError {
        kind,
        message: format!("{node}: {}", errors::chain(error)),
        hint: hint.into(),
        outcome: None,
    }
}

/// One node's work, from the census to the disk.
struct Work<'a> {
    request: &'a NodeRequest<'a>,
    agent: &'a Agent<'a>,
    policy: Policy,
}

/// What the census brought.
struct Seen {
    facts: NodeFacts,
    target: Target,
    changes: Changes,
    kinds: Vec<Kind>,
    copies: Copies,
    before: String,
    after: String,
    drifted: BTreeSet<String>,
}

impl Work<'_> {
    async fn run(&self, steps: &mut Steps<'_>) -> Result<NodeOutcome, AgentError> {
        let node = steps.node().to_owned();
        let seen = self.census(steps).await?;
        if seen.changes.is_nothing() {
            let mut outcome = NodeOutcome::untouched(node, OutcomeKind::NothingToDo);
            outcome.code_id = CodeIds {
                before: Some(seen.before.clone()),
                after: Some(seen.before),
            };
            return Ok(outcome);
        }
        let mut plan = self.plan(&seen).await?;
        self.say_plan(&seen, &plan, steps);
        if plan.verdict() == Verdict::Cold {
            return Ok(judge::untouched(
                &node,
                &plan,
                OutcomeKind::Refused,
                &seen.before,
                plan.reasons.clone(),
            ));
        }
        if self.request.plan_only {
            return Ok(judge::untouched(
                &node,
                &plan,
                OutcomeKind::Planned,
                &seen.before,
                plan.reasons.clone(),
            ));
        }
        let places = Places::new(&plan, &seen.facts, self.request.release);
        if let Some(reasons) = self.before_the_window(&seen, &mut plan, &places, steps).await? {
            let mut all = plan.reasons.clone();
            all.extend(reasons);
            return Ok(judge::untouched(
                &node,
                &plan,
                OutcomeKind::Refused,
                &seen.before,
                all,
            ));
        }
        let mut outcome = self.windows(seen, &mut plan, &places, steps).await?;
        if outcome.outcome == OutcomeKind::Reverted && !plan.changes.added.is_empty() {
            self.agent
                .slow("unloading", &Command::Unload(plan.changes.added.clone()), |_| {
                    Ok(())
                })
                .await?;
        }
        if matches!(outcome.outcome, OutcomeKind::Upgraded | OutcomeKind::Degraded) && self.policy.persist {
            let reasons = self.persist(&plan, &places, steps).await?;
            outcome.reasons.extend(reasons);
        }
        Ok(outcome)
    }

    async fn census(&self, steps: &mut Steps<'_>) -> Result<Seen, AgentError> {
        let begun = steps.begin(Step::Census);
        let release = self.request.release;
        let facts = self
            .agent
            .slow("looking at modules", &Command::Facts, flyhot_agent::facts)
            .await?;
        let target = facts::target(release);
        let unloaded: Vec<String> = target
            .modules
            .iter()
            .filter(|(name, module)| module.own && !facts.modules.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        let on_disk = self
            .disk(unloaded)
            .await?
            .into_iter()
            .filter(|file| {
                target
                    .modules
                    .get(&file.name)
                    .is_some_and(|module| module.md5 == file.md5)
            })
            .map(|file| file.name)
            .collect();
        let changes = changes(&target, &facts, &on_disk);
        let drifted = self.drifted(&facts, &changes).await?;
        let kinds = self
            .agent
            .slow("looking at processes", &Command::Census, flyhot_agent::census)
            .await?;
        let before = facts::code_id_before(&target, &facts, &on_disk);
        let after = facts::code_id_after(&target);
        let copies = Copies::judge(release, &target, &changes, &kinds, &after);
        steps.emit(Event::Census {
            node: steps.node().to_owned(),
            census: NodeCensus {
                otp: facts.otp.clone(),
                erts: facts.erts.clone(),
                elixir: facts.elixir.clone(),
                modules: facts.modules.len() as u64,
                processes: facts.processes,
            },
        });
        steps.done(begun, facts.processes, Unit::Processes);
        Ok(Seen {
            facts,
            target,
            changes,
            kinds,
            copies,
            before,
            after,
            drifted,
        })
    }

    async fn disk(&self, modules: Vec<String>) -> Result<Vec<DiskModule>, AgentError> {
        if modules.is_empty() {
            return Ok(Vec::new());
        }
        self.agent
            .slow(
                "reading the node's disk",
                &Command::Disk(modules),
                flyhot_agent::disk,
            )
            .await
    }

    /// Changed modules whose running code is not on the node's disk: there is no way back to it.
    async fn drifted(&self, facts: &NodeFacts, changes: &Changes) -> Result<BTreeSet<String>, AgentError> {
        let on_disk = self.disk(changes.changed.clone()).await?;
        Ok(changes
            .changed
            .iter()
            .filter(|name| {
                let loaded = facts.modules.get(*name).map(|module| module.md5);
                !on_disk
                    .iter()
                    .any(|file| file.name == **name && Some(file.md5) == loaded)
            })
            .cloned()
            .collect())
    }

    async fn plan(&self, seen: &Seen) -> Result<Plan, AgentError> {
        let affected = affected(seen);
        let way_back: WayBackReport = self
            .agent
            .slow(
                "judging the way back",
                &Command::WayBack {
                    kinds: affected,
                    modules: seen.changes.changed.clone(),
                },
                flyhot_agent::way_back,
            )
            .await?;
        Ok(plan(&PlanInput {
            target: &seen.target,
            facts: &seen.facts,
            kinds: &seen.kinds,
            changes: &seen.changes,
            code_changes: &seen.copies.code_changes,
            drifted: &seen.drifted,
            configuration_changed: false,
            way_back: &way_back,
            policy: &self.policy,
        }))
    }

    fn say_plan(&self, seen: &Seen, plan: &Plan, steps: &mut Steps<'_>) {
        steps.emit(Event::Plan {
            node: steps.node().to_owned(),
            verdict: plan.verdict(),
            modules: plan.planned_modules(),
            kinds: plan.planned_kinds(),
            way_back: plan.way_back,
            revert_us: plan.revert_us,
            code_id: CodeIds {
                before: Some(seen.before.clone()),
                after: Some(seen.after.clone()),
            },
            reasons: plan.reasons.clone(),
        });
    }

    /// Stage, rehearse, drain, prepare. `Some` refuses the upgrade; nothing was touched.
    async fn before_the_window(
        &self,
        seen: &Seen,
        plan: &mut Plan,
        places: &Places,
        steps: &mut Steps<'_>,
    ) -> Result<Option<Vec<Reason>>, AgentError> {
        let begun = steps.begin(Step::Stage);
        let mut items = Vec::new();
        for name in plan.changes.swapped() {
            match self.request.release.read_module(name) {
                Ok(bytes) => items.push((StagedKey::Beam(name.clone()), bytes)),
                Err(error) => {
                    return Ok(Some(vec![Reason::new(
                        ReasonCode::BrokenFile,
                        name,
                        format!("{name} cannot be read again: {}", errors::chain(&error)),
                        "Build the release again, and leave it alone while it is deployed.",
                    )]));
                }
            }
        }
        self.agent.stage(&items).await?;
        steps.done(
            begun,
            items.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
            Unit::Bytes,
        );

        let jobs = seen.copies.jobs(plan);
        if !jobs.is_empty() {
            let begun = steps.begin(Step::Rehearse);
            self.agent.stage(&seen.copies.beams(&jobs)).await?;
            let copies = seen.copies.names(&jobs);
            self.agent
                .slow(
                    "loading copies",
                    &Command::Copies(copies),
                    flyhot_agent::copies_loaded,
                )
                .await?;
            let report = self
                .agent
                .timed(
                    "rehearsing",
                    &rehearse::command(jobs, &self.policy, REHEARSAL),
                    REHEARSAL,
                    flyhot_agent::rehearsal,
                )
                .await?;
            steps.done(begun, report.passed + report.failed, Unit::Processes);
            let reasons = judge::rehearsal(&report);
            if judge::refuse(&reasons) {
                return Ok(Some(reasons));
            }
        }

        let begun = steps.begin(Step::Drain);
        let options = self.request.options;
        let report = self
            .agent
            .timed(
                "draining",
                &Command::Drain {
                    modules: plan.changes.changed.clone(),
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
            return Ok(Some(reasons));
        }
        plan.reasons.extend(reasons);

        self.prepare(plan, places, steps).await
    }

    async fn prepare(
        &self,
        plan: &mut Plan,
        places: &Places,
        steps: &mut Steps<'_>,
    ) -> Result<Option<Vec<Reason>>, AgentError> {
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
        plan.prepared(&report);
        let reasons = judge::prepare(&report);
        Ok(judge::refuse(&reasons).then_some(reasons))
    }

    /// Knock and window, as often as the options allow.
    async fn windows(
        &self,
        mut seen: Seen,
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
                seen.kinds = fresh.kinds;
                let again = self.plan(&seen).await?;
                plan.kinds = again.kinds;
                self.prepare(plan, places, steps).await?;
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
            match self.window(&seen, plan, &script, attempt < of, steps).await? {
                Judgement::Done(outcome) => return Ok(*outcome),
                Judgement::Retry(reasons) => {
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

    async fn window(
        &self,
        seen: &Seen,
        plan: &Plan,
        script: &Script,
        more: bool,
        steps: &mut Steps<'_>,
    ) -> Result<Judgement, AgentError> {
        let begun = steps.begin(Step::Window);
        // The agent keeps its own deadlines: two budgets at most, a revert, a thaw.
        let on_node = 2 * self.request.options.window_budget + self.request.options.revert_budget;
        let report = self
            .agent
            .timed(
                "the window",
                &Command::Window(script),
                on_node + Duration::from_secs(10),
                flyhot_agent::window,
            )
            .await?;
        steps.done(begun, report.affected, Unit::Processes);
        Ok(judge::window(
            steps.node(),
            plan,
            &report,
            more,
            (&seen.before, &seen.after),
            plan.reasons.clone(),
        ))
    }

    async fn persist(
        &self,
        plan: &Plan,
        places: &Places,
        steps: &mut Steps<'_>,
    ) -> Result<Vec<Reason>, AgentError> {
        let begun = steps.begin(Step::Persist);
        let (files, homeless): (Vec<PersistFile>, Vec<String>) = places.beams(plan);
        let report = self
            .agent
            .slow("persisting", &Command::Persist(files), flyhot_agent::persist)
            .await?;
        steps.done(begun, report.written, Unit::Files);
        let mut reasons = judge::persist(&report);
        reasons.extend(homeless.into_iter().map(|module| {
            let shown = elixir_name(&module);
            Reason::new(
                ReasonCode::NotPersisted,
                &shown,
                format!(
                    "{shown} has no place below the node's release directory; a restart boots the old code"
                ),
                "",
            )
        }));
        Ok(reasons)
    }
}

/// The kinds that the census shows to be affected.
fn affected(seen: &Seen) -> Vec<u64> {
    let changed: BTreeSet<&String> = seen.changes.swapped().collect();
    seen.kinds
        .iter()
        .filter(|kind| {
            kind.behaviour.migrates() && kind.modules.iter().any(|module| changed.contains(module))
        })
        .map(|kind| kind.id)
        .collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

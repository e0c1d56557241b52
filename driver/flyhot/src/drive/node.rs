//! The steps of docs/upgrade.md, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flyhot_agent::{AnswerError, Command, DiskModule, StagedKey};
use flyhot_artifact::Naming;
use flyhot_events::{
    CodeIds, ErrorKind, Event, LastOutcome, NodeCensus, NodeOutcome, OutcomeKind, Reason, ReasonCode, Step,
    Unit, Verdict,
};
use flyhot_node::{ConnectError, ConnectOptions, NodeName, Session};
use flyhot_upgrade::{
    Calls, Census, Changes, Closer, HeldReport, NodeFacts, Plan, PlanInput, Policy, Readings, Target,
    WayBackReport, changes, plan,
};
use flyhot_upgrade::{entry, judge};

use super::agent::{Agent, AgentError};
use super::closer;
use super::facts;
use super::look;
use super::persist::{self, Places};
use super::rehearse::Copies;
use super::stages::ms;
use super::steps::Steps;
use super::{NodeError, NodeRequest};
use crate::clock::now_s;
use crate::errors;
use crate::options::{Direction, Entry, Options, Peer, Persist, Rehearsal, WayBackNeeded};

/// How long each step of connecting may take. The node itself gives up on a handshake after 7 s
/// (`net_kernel`, `setuptime`).
const CONNECT_STEP: Duration = Duration::from_secs(7);

/// How long to look for funs of older builds: measured 0.1 s for 10 000 processes, 1.2 s for 100 000.
pub(super) const HELD: Duration = Duration::from_secs(5);
/// How long the agent may take over the listeners: it asks them for 2 s, and pauses them for as long.
pub(super) const ENTRY: Duration = Duration::from_secs(4);

/// How long a connection that broke may take to come again: what lies between turns to another way within seconds.
const BROKEN: Duration = Duration::from_secs(10);

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn upgrade(
    request: &NodeRequest<'_>,
    emit: &mut dyn FnMut(Event),
) -> Result<NodeOutcome, NodeError> {
    let mut steps = Steps::new(request.peer.name.to_string(), emit);
    let connecting = steps.begin(Step::Connect);
    let session = session(request.peer).await?;
    let agent = Agent::start(&session)
        .await
        .map_err(|error| failed(&request.peer.name, &error))?;
    steps.done(connecting, 1, Unit::Modules);
    // A plan changes nothing that a start could undo.
    let start = if request.plan_only {
        None
    } else {
        look::start(&session).await
    };
    if let (Some(known), Some(start)) = (request.start, &start) {
        let _ = known.set(start.clone());
    }

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
    let mut outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            let mut failure = failed(&request.peer.name, &error);
            // What was being done failed, and the entry did not come back behind it.
            if let Ok(still) = finished
                && !still.is_empty()
            {
                let mut outcome =
                    NodeOutcome::untouched(request.peer.name.to_string(), failure.kind.outcome());
                outcome.reasons = entry::still_paused(&still);
                failure.outcome = Some(Box::new(outcome));
            }
            return Err(failure);
        }
    };
    match finished {
        Ok(still) => outcome.reasons.extend(entry::still_paused(&still)),
        // The upgrade is what it is; a node that cannot be reached any more takes the agent off by itself.
        Err(error) => {
            outcome.reasons.push(Reason::new(
                ReasonCode::WorkerDied,
                "agent",
                format!(
                    "the agent could not be taken off the node: {}",
                    errors::chain(&error)
                ),
                "Where the connection was lost it leaves the node by itself within 30 s.",
            ));
            // It may have stopped because of the new code.
            let swapped = matches!(outcome.outcome, OutcomeKind::Upgraded | OutcomeKind::Degraded);
            if swapped && let Err(mut lost) = Box::pin(is_there_still(request, start.as_deref())).await {
                lost.outcome = Some(Box::new(outcome));
                return Err(lost);
            }
        }
    }
    Ok(outcome)
}

/// Whether a node whose connection broke behind its window runs the release still, without a start between.
async fn is_there_still(request: &NodeRequest<'_>, start: Option<&str>) -> Result<(), NodeError> {
    let begun = tokio::time::Instant::now();
    loop {
        match look::kept(request.peer, request.release, start).await {
            Ok(kept) if kept.runs => return Ok(()),
            Ok(_) => return Err(errors::started_anew(&request.peer.name)),
            Err(error) if begun.elapsed() > BROKEN => return Err(error),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// A session with one of the nodes.
pub(super) async fn session(peer: &Peer) -> Result<Session, NodeError> {
    connect(peer).await.map_err(|error| errors::connect(peer, &error))
}

/// The same, with the error as it came.
pub(super) async fn connect(peer: &Peer) -> Result<Session, ConnectError> {
    let door = &peer.door;
    flyhot_node::connect(&ConnectOptions {
        peer: peer.name.clone(),
        cookie: door.cookie.clone(),
        dist_port: door.dist_port,
        epmd_port: door.epmd_port,
        tls: door.tls.clone(),
        step_timeout: CONNECT_STEP,
    })
    .await
}

fn policy(options: &Options) -> Policy {
    let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Policy {
        accept: options.accept.clone(),
        hosts: options.hosts.clone(),
        calls: Calls {
            before: options.hooks.before.clone(),
            after: options.hooks.after.clone(),
            gate: options.gate.as_ref().map(|gate| gate.call.clone()),
        },
        rehearse: options.rehearsal == Rehearsal::On,
        persist: options.persist == Persist::On,
        require_way_back: options.way_back == WayBackNeeded::Exact,
        drain_entry: options.entry == Entry::Paused,
        down: options.direction == Direction::Down,
        window_budget_us: us(options.window_budget),
        revert_budget_us: us(options.revert_budget),
        in_flight: u64::from(options.in_flight),
    }
}

/// What the agent could not do on a node, as its user meets it.
pub(super) fn failed(node: &NodeName, error: &AgentError) -> NodeError {
    let (kind, hint) = match error {
        AgentError::Busy { .. } => (
            ErrorKind::Locked,
            "Wait until it has finished, then run the command again.",
        ),
        AgentError::NoLeave(why) => (why.kind, &*why.hint),
        AgentError::Call { source, .. } => errors::call(source),
        AgentError::Answer {
            source: AnswerError::WorkerGone,
            ..
        } => (
            ErrorKind::NotQuiesced,
            "The agent's worker was ended on the node. Run the command again: it looks at what the node runs.",
        ),
        AgentError::Answer {
            source: AnswerError::Stopping,
            ..
        } => (
            ErrorKind::NotQuiesced,
            "Run the command again when the application has stopped, or the node has started again.",
        ),
        AgentError::InUse => (
            ErrorKind::NotQuiesced,
            "See what that process is doing, then run the command again.",
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
pub(super) struct Work<'a> {
    pub(super) request: &'a NodeRequest<'a>,
    pub(super) agent: &'a Agent<'a>,
    pub(super) policy: Policy,
}

/// What the census brought.
pub(super) struct Seen {
    pub(super) facts: NodeFacts,
    pub(super) target: Target,
    pub(super) changes: Changes,
    pub(super) census: Census,
    pub(super) copies: Copies,
    pub(super) before: String,
    pub(super) after: String,
    pub(super) drifted: BTreeSet<String>,
    pub(super) lost: BTreeSet<String>,
    pub(super) naming: Naming,
    pub(super) held: HeldReport,
    pub(super) closer: Closer,
    /// Modules whose rehearsal failed, which is accepted: the window decides about them.
    pub(super) untried: BTreeSet<String>,
    /// How the node was before its window, where it is watched.
    pub(super) readings: Option<Readings>,
}

impl Work<'_> {
    async fn run(&self, steps: &mut Steps<'_>) -> Result<NodeOutcome, AgentError> {
        let mut seen = self.census(steps).await?;
        let outcome = self.taken_over(&mut seen, steps).await?;
        let swapped = matches!(
            outcome.outcome,
            OutcomeKind::Upgraded | OutcomeKind::Degraded | OutcomeKind::Reverted
        );
        if self.policy.persist && swapped {
            self.remember(&seen, &outcome).await;
        }
        Ok(outcome)
    }

    /// Keeps the outcome on the node's disk, for `flyhot status`. A disk that takes nothing is told of where code is written.
    async fn remember(&self, seen: &Seen, outcome: &NodeOutcome) {
        let last = LastOutcome {
            at: now_s(),
            release: self.request.options.release.display().to_string(),
            outcome: outcome.outcome,
            code_id: outcome.code_id.clone(),
            reasons: outcome.reasons.iter().map(|reason| reason.code).collect(),
        };
        let Ok(bytes) = serde_json::to_vec(&last) else {
            return;
        };
        let path = persist::last_outcome(&seen.facts.root_dir, &self.request.peer.name);
        let key = StagedKey::File("outcome".to_owned());
        let written = async {
            self.agent.stage(&[(key.clone(), bytes)]).await?;
            let command = Command::Note(path, key.clone());
            self.agent
                .slow("keeping the outcome", &command, flyhot_agent::persist)
                .await
        };
        match written.await {
            Ok(report) if report.failed.is_none() => {}
            other => tracing::debug!(?other, "the outcome is not on the node's disk"),
        }
    }

    async fn taken_over(&self, seen: &mut Seen, steps: &mut Steps<'_>) -> Result<NodeOutcome, AgentError> {
        let node = steps.node().to_owned();
        let nothing = seen.changes.is_nothing();
        // Nobody is asked for what neither changes nor goes.
        if !nothing || !seen.changes.removed.is_empty() {
            self.held(seen, steps).await?;
        }
        let mut plan = self.plan(seen).await?;
        self.say_plan(seen, &plan, steps);
        let untouched = |kind| judge::untouched(&node, &plan, kind, &seen.before, plan.reasons.clone());
        if plan.verdict() == Verdict::Cold {
            return Ok(untouched(OutcomeKind::Refused));
        }
        if nothing {
            let mut outcome = untouched(OutcomeKind::NothingToDo);
            outcome.predicted = None;
            if !self.request.plan_only {
                self.nothing_to_do(seen, &plan, &mut outcome, steps).await?;
            }
            return Ok(outcome);
        }
        if self.request.plan_only {
            return Ok(untouched(OutcomeKind::Planned));
        }
        let layout = match self.layout().await? {
            Ok(layout) => layout,
            Err(reason) => {
                let mut all = plan.reasons.clone();
                all.push(reason);
                return Ok(judge::untouched(
                    &node,
                    &plan,
                    OutcomeKind::Refused,
                    &seen.before,
                    all,
                ));
            }
        };
        let places = Places::new(plan.changes.swapped(), &seen.facts, self.request.release, &layout);
        self.leave().await?;
        if let Some((outcome, reasons)) = self.before_the_window(seen, &mut plan, &places, steps).await? {
            let mut all = plan.reasons.clone();
            all.extend(reasons);
            return Ok(judge::untouched(&node, &plan, outcome, &seen.before, all));
        }
        // Draining may have taken longer than a lease.
        self.leave().await?;
        let mut outcome = self.windows(seen, &mut plan, &places, steps).await?;
        judge::after_before_hooks(&mut outcome, &plan.calls.before);
        let new_code = matches!(outcome.outcome, OutcomeKind::Upgraded | OutcomeKind::Degraded);
        if new_code && self.policy.persist {
            // The node runs the new code, whatever comes now.
            match self.persist(seen, &layout, steps).await {
                Ok(reasons) => outcome.reasons.extend(reasons),
                Err(error) => outcome.reasons.push(Reason::new(
                    ReasonCode::NotPersisted,
                    &node,
                    format!(
                        "whether the new code is on the node's disk is not known: {}",
                        errors::chain(&error)
                    ),
                    "Run the same command again: it writes what is missing.",
                )),
            }
        }
        if new_code {
            self.after_hooks_and_gate(&mut outcome, steps).await;
            self.watched(seen, &mut outcome, steps).await;
        }
        self.remove(seen, &plan, &mut outcome, steps).await;
        Ok(outcome)
    }

    async fn leave(&self) -> Result<(), AgentError> {
        let given = self.request.leave.given().await;
        given.map_err(|error| AgentError::NoLeave(Box::new(error)))
    }

    /// What a command before left undone, or may have ended because of.
    async fn nothing_to_do(
        &self,
        seen: &Seen,
        plan: &Plan,
        outcome: &mut NodeOutcome,
        steps: &mut Steps<'_>,
    ) -> Result<(), AgentError> {
        self.leave().await?;
        if self.policy.persist {
            // A driver that was killed between the swap and the disk, or told not to write, left that undone.
            match self.layout().await? {
                Ok(layout) => outcome.reasons.extend(self.persist(seen, &layout, steps).await?),
                Err(reason) => outcome.reasons.push(reason),
            }
        }
        self.gate(outcome, steps).await;
        self.remove(seen, plan, outcome, steps).await;
        Ok(())
    }

    pub(super) async fn census(&self, steps: &mut Steps<'_>) -> Result<Seen, AgentError> {
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
                // An embedded node has loaded what it loads: one that lies there since is not called, it is undef.
                target
                    .modules
                    .get(&file.name)
                    .is_some_and(|module| module.md5 == file.md5 && !(facts.embedded && module.listed))
            })
            .map(|file| file.name)
            .collect();
        let changes = changes(&target, &facts, &on_disk);
        let (drifted, lost) = self.drifted(&facts, &changes).await?;
        let census = self
            .agent
            .slow(
                "looking at processes",
                &Command::Census(&self.policy.hosts),
                flyhot_agent::census,
            )
            .await?;
        let closer = closer::look(self.agent, release, &target, &facts, &changes, &census.kinds).await?;
        let before = facts::code_id_before(&target, &facts, &on_disk);
        let after = facts::code_id_after(&target);
        let copies = Copies::judge(release, &target, &changes, &census.kinds);
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
            census,
            copies,
            before,
            after,
            drifted,
            lost,
            naming: Naming::default(),
            held: HeldReport::default(),
            closer,
            untried: BTreeSet::new(),
            readings: None,
        })
    }

    /// Who holds changed or removed code by references that no stack shows.
    async fn held(&self, seen: &mut Seen, steps: &mut Steps<'_>) -> Result<(), AgentError> {
        let begun = steps.begin(Step::Closures);
        let removed = &seen.changes.removed;
        // A file that cannot be read any more ends the upgrade where it is staged.
        seen.naming = self.request.release.naming(removed).unwrap_or_else(|_| {
            let unread = |name: &String| (name.clone(), "a file that cannot be read".to_owned());
            Naming {
                by: removed.iter().map(unread).collect(),
                listing: None,
            }
        });
        let asked: Vec<String> = removed
            .iter()
            .filter(|name| !seen.naming.by.contains_key(*name))
            .cloned()
            .collect();
        let command = Command::Closures {
            changed: seen.changes.changed.clone(),
            others: seen
                .facts
                .modules
                .keys()
                .filter(|name| !seen.target.modules.contains_key(*name) && !asked.contains(name))
                .cloned()
                .collect(),
            removed: asked,
            ask: !self.request.plan_only,
            in_flight: self.policy.in_flight,
            timeout_ms: ms(HELD),
        };
        seen.held = self
            .agent
            .slow("looking for funs", &command, |term| {
                flyhot_agent::held(term, !self.request.plan_only)
            })
            .await?;
        steps.done(begun, seen.held.processes, Unit::Processes);
        Ok(())
    }

    pub(super) async fn disk(&self, modules: Vec<String>) -> Result<Vec<DiskModule>, AgentError> {
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

    /// Changed modules whose running code is not on the node's disk where it would be booted from, and of these those
    /// whose code is not where it was loaded from either: there is no way back to them.
    async fn drifted(
        &self,
        facts: &NodeFacts,
        changes: &Changes,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>), AgentError> {
        let on_disk: BTreeMap<String, DiskModule> = self
            .disk(changes.changed.clone())
            .await?
            .into_iter()
            .map(|file| (file.name.clone(), file))
            .collect();
        let loaded = |name: &String| facts.modules.get(name).map(|module| module.md5);
        let there = |name: &&String| on_disk.get(*name).map(|file| file.md5) == loaded(name);
        let drifted: BTreeSet<String> = changes
            .changed
            .iter()
            .filter(|name| !there(name))
            .cloned()
            .collect();
        let lost = drifted
            .iter()
            .filter(|name| !on_disk.get(*name).is_some_and(|file| file.running))
            .cloned()
            .collect();
        Ok((drifted, lost))
    }

    pub(super) async fn way_back(&self, seen: &Seen) -> Result<WayBackReport, AgentError> {
        self.agent
            .slow(
                "judging the way back",
                &Command::WayBack {
                    kinds: affected(seen),
                    modules: seen.changes.changed.clone(),
                },
                flyhot_agent::way_back,
            )
            .await
    }

    pub(super) async fn plan(&self, seen: &Seen) -> Result<Plan, AgentError> {
        let missing = self.missing().await?;
        let way_back = self.way_back(seen).await?;
        let entry = if self.policy.drain_entry {
            let asked = self
                .agent
                .timed(
                    "looking for listeners",
                    &Command::Entry,
                    ENTRY,
                    flyhot_agent::entry,
                )
                .await?;
            Some(asked)
        } else {
            None
        };
        Ok(plan(&PlanInput {
            target: &seen.target,
            facts: &seen.facts,
            census: &seen.census,
            changes: &seen.changes,
            code_changes: &seen.copies.code_changes,
            closer: &seen.closer,
            drifted: &seen.drifted,
            lost: &seen.lost,
            held: &seen.held,
            held_limit_ms: ms(HELD),
            named_by: &seen.naming.by,
            listing: seen.naming.listing.as_deref(),
            missing: &missing,
            way_back: &way_back,
            entry: entry.as_ref(),
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
            freeze_us: plan.freeze_us,
            calls: plan.planned_calls(),
            code_id: CodeIds {
                before: Some(seen.before.clone()),
                after: Some(seen.after.clone()),
            },
            reasons: plan.reasons.clone(),
        });
    }
}

/// The kinds that the census shows to be affected.
fn affected(seen: &Seen) -> Vec<u64> {
    let changed: BTreeSet<&String> = seen.changes.swapped().collect();
    seen.census
        .kinds
        .iter()
        .filter(|kind| {
            kind.behaviour.migrates() && kind.modules.iter().any(|module| changed.contains(module))
        })
        .map(|kind| kind.id)
        .collect()
}

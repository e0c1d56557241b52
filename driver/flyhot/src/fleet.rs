//! What a store says while nodes are taken over: lock, artifact, pointer, record.
//!
//! Nothing is decided here about a lock or a pointer, [`flyhot_store`] does; nothing about a node, [`crate::drive`] does. One
//! thing is: what becomes of the pointer, by what became of the nodes ([`left`]).

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flyhot_artifact::{Contents, Limits, Packed, Release, Told};
use flyhot_events::{ErrorKind, Event, ExitCode, NodeOutcome, Outcome, OutcomeKind, ReasonCode, Step, Unit};
use flyhot_rollout::{Fleet as Runs, Verdict};
use flyhot_store::{
    Artifacts as _, Audit, AuditEnd, AuditNode, Home, Left, LockError, Log, Moved, Rollout, State,
    Store as _, Target, Way,
};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::clock::{now_s, since_us};
use crate::drive::{Leave, NodeError, Question};
use crate::errors;
use crate::ledger::Ledger;
use crate::options::Place;
use crate::run::{self, apart_while_wanted};
use crate::stored::entry;
use crate::waves::Machines;

/// How often it is said how far a transfer is.
const TOLD: Duration = Duration::from_millis(200);

/// There is nothing to renew any more; beyond any upgrade.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long the store has to say whether the lock is ours: longer than a bucket is tried for.
const ASK: Duration = Duration::from_secs(45);

/// Between two renewals that the store did not take.
const AGAIN: Duration = Duration::from_secs(1);

/// A fleet whose pointer this command may change.
pub(crate) struct Fleet<'a> {
    pub(crate) place: &'a Place,
    pub(crate) store: &'a Home,
    pub(crate) rollout: Rollout<'a, Home>,
    /// The machines that are worked on, where they were asked for.
    pub(crate) machines: Option<Rc<Machines>>,
    /// Why the lock is no longer ours.
    lost: Option<NodeError>,
    begun: Option<Begun<'a>>,
}

/// A rollout that the store knows of.
struct Begun<'a> {
    audit: Audit,
    log: Log<'a, Home>,
    /// Whether the pointer said so before.
    unchanged: bool,
    /// What was on trial before, and whether that went back: nodes may run it.
    tried: Option<(Target, bool)>,
    /// Whether the pointer was seen to say `trial`.
    said: bool,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(place: &'a Place, store: &'a Home, rollout: Rollout<'a, Home>) -> Self {
        Self {
            place,
            store,
            rollout,
            machines: None,
            lost: None,
            begun: None,
        }
    }

    /// Begins: the store says that this is tried, and keeps a record of it.
    pub(crate) async fn begin(&mut self, audit: Audit, emit: &mut dyn FnMut(Event)) -> Result<(), NodeError> {
        self.ask().await?;
        let fencing = self.rollout.lock().fencing();
        let log = Log::begin(self.store, &self.place.app, fencing, &audit)
            .await
            .map_err(|error| errors::store(&error))?;
        let pointer = self.rollout.pointer();
        // One that is signed already stays so.
        let signed = |target: &Target| audit.to.signature.is_none() || target.signature == audit.to.signature;
        let same = |target: &Target| target.digest == audit.to.digest && signed(target);
        let unchanged = pointer.state == State::Committed && pointer.target.as_ref().is_some_and(same);
        let tried = match pointer.state {
            State::Trial => pointer.target.clone().map(|target| (target, pointer.back)),
            State::Committed => None,
        };
        let (to, back) = (audit.to.clone(), audit.way == Way::Rollback);
        // From here on it has an end, whatever comes.
        let begun = self.begun.insert(Begun {
            audit,
            log,
            unchanged,
            tried,
            said: unchanged,
        });
        if !unchanged {
            self.rollout
                .begin(to, back)
                .await
                .map_err(|error| errors::rollout(&error))?;
            begun.said = true;
            emit(said(self.place, self.store, fencing, &begun.audit, Left::Trial));
        }
        Ok(())
    }

    /// Puts what machines boot without any rollout into the history, as what is committed.
    pub(crate) async fn commit_base(&mut self, target: Target) -> Result<(), NodeError> {
        self.ask().await?;
        let failed = |error| errors::rollout(&error);
        self.rollout.begin(target, false).await.map_err(failed)?;
        self.rollout.commit().await.map_err(failed)
    }

    /// Does work that takes time while the lock is renewed.
    pub(crate) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let (_, mut questions) = Leave::new();
        tokio::select! {
            biased;
            done = work => done,
            never = self.keep(&mut questions) => match never {},
        }
    }

    /// Ends it: the pointer by what became of the nodes, then the record, then the lock. What goes wrong is told the ledger.
    pub(crate) async fn end(mut self, ledger: &mut Ledger, emit: &mut dyn FnMut(Event)) {
        let machines = self.machines.take();
        let letting_go = async {
            if let Some(machines) = machines {
                machines.leases.end().await;
            }
        };
        let settling = async {
            if let Some(begun) = self.begun.take() {
                self.settle(begun, ledger, emit).await;
            }
        };
        futures::future::join(letting_go, settling).await;
        // It goes with its lease if it cannot be let go; whoever took it over has it.
        let _ = self.rollout.end().await;
    }

    async fn settle(&mut self, begun: Begun<'a>, ledger: &mut Ledger, emit: &mut dyn FnMut(Event)) {
        let Begun {
            mut audit,
            log,
            unchanged,
            tried,
            said: seen,
        } = begun;
        let left_so = left(ledger.verdict(), &ledger.outcome().nodes);
        let mut left = if unchanged { Left::Unchanged } else { left_so };
        // Every node is known to run what was committed: what was on trial before this is forgotten as well.
        let tried = match ledger.verdict() {
            Some(Verdict { fleet: Runs::Old, .. }) => None,
            _ => tried,
        };
        if let Err(error) = self.point(&mut left, seen, tried).await {
            if !unchanged {
                left = Left::Trial;
            }
            against(ledger, emit, errors::unsettled(error));
        }
        let fencing = self.rollout.pointer().fencing;
        emit(said(self.place, self.store, fencing, &audit, left));
        audit.end = Some(ended(&ledger.outcome(), left));
        if let Err(error) = log.end(&audit).await {
            against(ledger, emit, errors::unrecorded(&error));
        }
    }

    /// Has the pointer say what became of the nodes.
    async fn point(
        &mut self,
        left: &mut Left,
        seen: bool,
        tried: Option<(Target, bool)>,
    ) -> Result<(), NodeError> {
        if let Some(error) = &self.lost {
            return Err(error.clone());
        }
        let failed = |error| errors::rollout(&error);
        if !seen {
            // The put was given up, and may have been done.
            self.rollout.reread().await.map_err(failed)?;
            if self.rollout.pointer().state != State::Trial {
                *left = Left::Unchanged;
            }
        }
        match (*left, tried) {
            (Left::Committed, _) => self.rollout.commit().await.map_err(failed),
            // Nodes may still run what was on trial before: it is not forgotten.
            (Left::Abandoned, Some((tried, back))) => self.rollout.begin(tried, back).await.map_err(failed),
            (Left::Abandoned, None) => self.rollout.abandon().await.map_err(failed),
            (Left::Trial | Left::Unchanged, _) => Ok(()),
        }
    }

    /// Whether nodes may run what a rollout before this one left on trial.
    pub(crate) fn is_torn(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.tried.is_some())
    }

    /// Whether the store said before that nodes run this.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.unchanged)
    }

    /// Whether the lock is still ours, by the store: this machine may have slept.
    async fn ask(&mut self) -> Result<(), NodeError> {
        if let Some(error) = &self.lost {
            return Err(error.clone());
        }
        match tokio::time::timeout(ASK, self.rollout.lock().renew()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ LockError::Store(_))) => Err(errors::lock(&error)),
            Ok(Err(error)) => {
                let error = errors::lock(&error);
                self.lost = Some(error.clone());
                Err(error)
            }
            Err(_) => Err(errors::silent(
                &self.store.name(),
                ASK,
                "Check the disk or the network, and run the same command again.",
            )),
        }
    }
}

/// What is said of a pointer.
fn said(place: &Place, store: &Home, fencing: u64, audit: &Audit, left: Left) -> Event {
    let state = word(left);
    Event::Pointer {
        app: place.app.to_string(),
        store: store.name(),
        artifact: entry((&audit.to, &state)),
        state,
        fencing,
        displaced: audit.displaced.as_ref().map(ToString::to_string),
    }
}

impl Fleet<'_> {
    /// What is done beside the work on nodes, which ask for leave before they are touched; it has no end of its own.
    pub(crate) async fn keep(&mut self, questions: &mut mpsc::Receiver<Question>) -> Infallible {
        loop {
            let due = match self.lost {
                None => self.rollout.lock().due().max(AGAIN),
                Some(_) => NEVER,
            };
            tokio::select! {
                biased;
                Some(question) = questions.recv() => {
                    let mut asked = vec![question];
                    while let Ok(question) = questions.try_recv() {
                        asked.push(question);
                    }
                    let leave = self.ask().await;
                    for question in asked {
                        // The work may have been dropped meanwhile.
                        let _ = question.send(leave.clone());
                    }
                }
                // What is in a window comes to its end: stopping in the middle of it would help nobody.
                () = tokio::time::sleep(due) => {
                    if let Err(error) = self.rollout.lock().hold().await {
                        self.lost.get_or_insert(errors::lock(&error));
                    }
                }
            }
        }
    }
}

/// An error of the store behind the nodes: what is against them weighs more.
fn against(ledger: &mut Ledger, emit: &mut dyn FnMut(Event), error: NodeError) {
    let code = ledger.outcome().exit_code;
    if code == ExitCode::SUCCESS || code == ErrorKind::Degraded.exit_code() {
        run::abort(ledger, emit, error);
    } else {
        emit(error.event(None));
    }
}

/// What becomes of the pointer: committed only where every node runs the target, is well by its gates, and has nobody that is
/// still suspended; forgotten only where none may run it. `None`: nobody knows what they run.
fn left(verdict: Option<Verdict>, nodes: &[NodeOutcome]) -> Left {
    let gate = |node: &NodeOutcome| {
        let mut reasons = node.reasons.iter();
        reasons.any(|reason| reason.code == ReasonCode::GateFailed)
    };
    match verdict {
        // No node was begun.
        None if nodes.iter().all(|node| node.outcome == OutcomeKind::NotBegun) => Left::Abandoned,
        None => Left::Trial,
        Some(Verdict {
            fleet: Runs::Target,
            against: None | Some(ErrorKind::Degraded),
        }) if !nodes.iter().any(gate) => Left::Committed,
        Some(verdict) => match verdict.fleet {
            Runs::Old | Runs::Before => Left::Abandoned,
            Runs::Target | Runs::Mixed => Left::Trial,
        },
    }
}

fn ended(outcome: &Outcome, pointer: Left) -> AuditEnd {
    let nodes = outcome.nodes.iter().map(|node| AuditNode {
        node: node.node.clone(),
        machine: node.machine.clone(),
        region: node.region.clone(),
        outcome: word(node.outcome),
        before: node.code_id.before.clone(),
        after: node.code_id.after.clone(),
        reasons: node
            .reasons
            .iter()
            .map(|reason| reason.code.to_string())
            .collect(),
    });
    AuditEnd {
        at: now_s(),
        outcome: word(outcome.outcome),
        exit_code: outcome.exit_code.0,
        pointer,
        nodes: nodes.collect(),
    }
}

/// As events and records have it.
fn word(kind: impl Serialize) -> String {
    let word = serde_json::to_value(kind).ok();
    word.and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// An artifact that was packed for the store.
pub(crate) struct Made {
    pub(crate) target: Target,
    pub(crate) file: PathBuf,
}

/// Packs a release for the store, to a file in `directory`.
pub(crate) async fn pack(
    release: Release,
    directory: &Path,
    emit: &mut dyn FnMut(Event),
) -> Result<Made, NodeError> {
    let file = directory.join(format!("{}.tar.gz", release.code_id()));
    let out = file.clone();
    let work = move |told: Told<'_>| {
        let unwritten = |error: &std::io::Error| errors::unwritten(&out, error);
        let writer = std::fs::File::create(&out).map_err(|error| unwritten(&error))?;
        let (packed, _) = flyhot_artifact::pack(
            &release,
            Contents::Hot,
            &Limits::default(),
            std::io::BufWriter::new(writer),
            told,
        )
        .and_then(|(packed, mut writer)| {
            std::io::Write::flush(&mut writer).map_err(flyhot_artifact::PackError::Write)?;
            Ok((packed, writer))
        })
        .map_err(|error| errors::pack(&release.root, &out, &error))?;
        Ok(packed)
    };
    let packed: Packed = step_apart(Step::Pack, work, emit).await?;
    Ok(Made {
        target: Target {
            digest: packed.digest,
            code_id: packed.manifest.code_id,
            manifest_digest: packed.manifest_digest,
            signature: None,
            version: packed.manifest.version,
            source_image: None,
            created_at: now_s(),
        },
        file,
    })
}

/// Does a step that moves bytes, and says how far it is.
pub(crate) async fn step<T>(
    step: Step,
    moved: &Moved,
    work: impl Future<Output = Result<T, NodeError>>,
    emit: &mut dyn FnMut(Event),
) -> Result<T, NodeError> {
    emit(Event::StepStarted { node: None, step });
    let began = Instant::now();
    let mut work = std::pin::pin!(work);
    let mut told = tokio::time::interval(TOLD);
    let done = loop {
        tokio::select! {
            biased;
            done = &mut work => break done?,
            _ = told.tick() => {
                let (done, total) = moved.now();
                if total > 0 {
                    emit(Event::Progress { node: None, step, done, total, unit: Unit::Bytes });
                }
            }
        }
    };
    emit(Event::StepDone {
        node: None,
        step,
        duration_us: since_us(began),
        count: moved.now().1,
        unit: Unit::Bytes,
    });
    Ok(done)
}

/// The same on a thread of its own; `work` is told to stop once nobody waits for it.
pub(crate) async fn step_apart<T: Send + 'static>(
    on: Step,
    work: impl FnOnce(Told<'_>) -> Result<T, NodeError> + Send + 'static,
    emit: &mut dyn FnMut(Event),
) -> Result<T, NodeError> {
    let moved = Arc::new(Moved::default());
    let telling = Arc::clone(&moved);
    let work = apart_while_wanted(move |wanted| {
        work(&mut |done, total| {
            telling.set(done, total);
            if wanted() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
    });
    step(on, &moved, work, emit).await
}

impl Made {
    /// Puts it into the store.
    pub(crate) async fn upload(
        &self,
        fleet: &mut Fleet<'_>,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), NodeError> {
        let moved = Arc::new(Moved::default());
        let (place, store, digest) = (fleet.place, fleet.store, self.target.digest);
        let work = async {
            let done = store.upload(&place.app, digest, &self.file, &moved).await;
            done.map_err(|error| errors::store(&error))
        };
        fleet.beside(step(Step::Upload, &moved, work, emit)).await
    }
}

/// The record of a rollout that begins.
pub(crate) fn audit(
    fleet: &mut Fleet<'_>,
    who: flyhot_store::Who,
    way: Way,
    to: Target,
    accepted: impl IntoIterator<Item = (String, String)>,
) -> Audit {
    let displaced = fleet.rollout.lock().displaced.clone();
    let pointer = fleet.rollout.pointer();
    Audit {
        who,
        displaced,
        way,
        began: now_s(),
        base_image: pointer.base_image.clone(),
        from: pointer.committed().cloned(),
        to,
        accepted: accepted.into_iter().collect(),
        end: None,
    }
}

#[cfg(test)]
mod tests {
    use flyhot_events::Reason;

    use super::*;

    #[test]
    fn the_pointer_goes_where_every_node_went() {
        use OutcomeKind::*;
        let told = |fleet, against| Some(Verdict { fleet, against });
        let table: [(Option<Verdict>, &[OutcomeKind], Left); 10] = [
            (
                told(Runs::Target, None),
                &[Upgraded, NothingToDo],
                Left::Committed,
            ),
            (
                told(Runs::Target, Some(ErrorKind::Degraded)),
                &[Degraded],
                Left::Committed,
            ),
            // Gates were not asked any more, or somebody is suspended.
            (
                told(Runs::Target, Some(ErrorKind::Interrupted)),
                &[Upgraded],
                Left::Trial,
            ),
            (
                told(Runs::Target, Some(ErrorKind::MaybeSuspended)),
                &[Upgraded],
                Left::Trial,
            ),
            (
                told(Runs::Mixed, Some(ErrorKind::Mixed)),
                &[Upgraded, NotBegun],
                Left::Trial,
            ),
            (
                told(Runs::Mixed, Some(ErrorKind::NodeUnreachable)),
                &[Failed],
                Left::Trial,
            ),
            (
                told(Runs::Old, Some(ErrorKind::Reverted)),
                &[TakenBack, Reverted],
                Left::Abandoned,
            ),
            (
                told(Runs::Before, Some(ErrorKind::ColdDeployNeeded)),
                &[Refused],
                Left::Abandoned,
            ),
            (None, &[NotBegun, NotBegun], Left::Abandoned),
            // What became of it is not known.
            (None, &[Failed, NotBegun], Left::Trial),
        ];
        for (verdict, kinds, expected) in table {
            let nodes: Vec<_> = kinds
                .iter()
                .map(|kind| NodeOutcome::untouched("a@h", *kind))
                .collect();
            assert_eq!(left(verdict, &nodes), expected, "{verdict:?} {kinds:?}");
        }
        let mut gate = NodeOutcome::untouched("a@h", Degraded);
        gate.reasons
            .push(Reason::new(ReasonCode::GateFailed, "a@h", "", ""));
        let verdict = told(Runs::Target, Some(ErrorKind::Degraded));
        assert_eq!(left(verdict, &[gate]), Left::Trial);
    }
}

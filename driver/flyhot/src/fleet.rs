//! What a store says while nodes are taken over: lock, artifact, pointer, record.
//!
//! Nothing is decided here about a lock or a pointer, [`flyhot_store`] does; nothing about a node, [`crate::drive`] does. One
//! thing is: what becomes of the pointer, by what became of the nodes ([`left`]).

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flyhot_artifact::{Contents, Limits, Packed, PrivateKey, Release};
use flyhot_events::{Event, ExitCode, NodeOutcome, Outcome, OutcomeKind, Step, Unit};
use flyhot_store::{
    Artifacts as _, Audit, AuditEnd, AuditNode, Home, Left, Log, Moved, Rollout, State, Store as _, Target,
    Way,
};

use crate::drive::{NodeError, Question};
use crate::errors;
use crate::ledger::Ledger;
use crate::options::Place;
use crate::run::{self, Keeper, apart};
use crate::stored::entry;
use tokio::sync::mpsc;

/// How often it is said how far a transfer is.
const TOLD: Duration = Duration::from_millis(200);

/// There is nothing to renew any more; beyond any upgrade.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Between two renewals that the store did not take.
const AGAIN: Duration = Duration::from_secs(1);

/// A fleet whose pointer this command may change.
pub(crate) struct Fleet<'a> {
    pub(crate) place: &'a Place,
    pub(crate) store: &'a Home,
    pub(crate) rollout: Rollout<'a, Home>,
    /// Why the lock is no longer held.
    lost: Option<NodeError>,
    begun: Option<Begun<'a>>,
}

/// A rollout that the store knows of.
struct Begun<'a> {
    audit: Audit,
    log: Log<'a, Home>,
    /// Whether the pointer said so before.
    unchanged: bool,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(place: &'a Place, store: &'a Home, rollout: Rollout<'a, Home>) -> Self {
        Self {
            place,
            store,
            rollout,
            lost: None,
            begun: None,
        }
    }

    /// Begins: the store says that this is tried, and keeps a record of it.
    pub(crate) async fn begin(&mut self, audit: Audit, emit: &mut dyn FnMut(Event)) -> Result<(), NodeError> {
        let fencing = self.rollout.lock().fencing();
        let log = Log::begin(self.store, &self.place.app, fencing, &audit)
            .await
            .map_err(|error| errors::store(&error))?;
        let pointer = self.rollout.pointer();
        let unchanged = pointer.state == State::Committed
            && pointer
                .target
                .as_ref()
                .is_some_and(|target| target.digest == audit.to.digest);
        if !unchanged {
            self.rollout
                .begin(audit.to.clone())
                .await
                .map_err(|error| errors::rollout(&error))?;
            emit(self.said(&audit, Left::Trial));
        }
        self.begun = Some(Begun {
            audit,
            log,
            unchanged,
        });
        Ok(())
    }

    /// Puts what machines boot without any rollout into the history, as what is committed.
    pub(crate) async fn commit_base(&mut self, target: Target) -> Result<(), NodeError> {
        let failed = |error| errors::rollout(&error);
        self.rollout.begin(target).await.map_err(failed)?;
        self.rollout.commit().await.map_err(failed)
    }

    /// Ends it: the pointer by what became of the nodes, then the record, then the lock. What goes wrong is told the ledger.
    pub(crate) async fn end(mut self, ledger: &mut Ledger, emit: &mut dyn FnMut(Event)) {
        if let Some(begun) = self.begun.take() {
            self.settle(begun, ledger, emit).await;
        }
        if self.lost.is_none() {
            // It goes with its lease if it cannot be let go; whoever took it over has it.
            let _ = self.rollout.end().await;
        }
    }

    async fn settle(&mut self, begun: Begun<'a>, ledger: &mut Ledger, emit: &mut dyn FnMut(Event)) {
        let Begun {
            mut audit,
            log,
            unchanged,
        } = begun;
        let mut left = match left(&ledger.outcome().nodes) {
            _ if unchanged => Left::Unchanged,
            left => left,
        };
        let done = match (&self.lost, left) {
            (Some(error), _) => Err(error.clone()),
            (None, Left::Committed) => self
                .rollout
                .commit()
                .await
                .map_err(|error| errors::rollout(&error)),
            (None, Left::Abandoned) => self
                .rollout
                .abandon()
                .await
                .map_err(|error| errors::rollout(&error)),
            (None, Left::Trial | Left::Unchanged) => Ok(()),
        };
        if let Err(error) = done {
            if !unchanged {
                left = Left::Trial;
            }
            against(ledger, emit, errors::unsettled(error));
        }
        emit(self.said(&audit, left));
        audit.end = Some(ended(&ledger.outcome(), left));
        if let Err(error) = log.end(&audit).await {
            against(ledger, emit, errors::unrecorded(&error));
        }
    }

    fn said(&self, audit: &Audit, left: Left) -> Event {
        let state = match left {
            Left::Committed => "committed",
            Left::Abandoned => "abandoned",
            Left::Trial => "trial",
            Left::Unchanged => "unchanged",
        };
        Event::Pointer {
            app: self.place.app.to_string(),
            store: self.store.name(),
            state: state.to_owned(),
            artifact: entry((&audit.to, state)),
            fencing: self.rollout.pointer().fencing,
            displaced: audit.displaced.as_ref().map(ToString::to_string),
        }
    }
}

impl Keeper for Fleet<'_> {
    /// Asks the store: this machine may have slept.
    async fn ready(&mut self) -> Result<(), NodeError> {
        if self.lost.is_none()
            && let Err(error) = self.rollout.lock().renew().await
        {
            self.lost = Some(errors::lock(&error));
        }
        self.lost.clone().map_or(Ok(()), Err)
    }

    async fn keep(&mut self, questions: &mut mpsc::Receiver<Question>) -> Infallible {
        loop {
            let due = match self.lost {
                None => self.rollout.lock().due().max(AGAIN),
                Some(_) => NEVER,
            };
            tokio::select! {
                biased;
                Some(question) = questions.recv() => {
                    let leave = self.ready().await.is_ok();
                    // The work may have been dropped meanwhile.
                    let _ = question.send(leave);
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
    if ledger.outcome().exit_code == ExitCode::SUCCESS {
        run::abort(ledger, emit, error);
    } else {
        emit(error.event(None));
    }
}

/// What becomes of the pointer: committed only where every node runs the target, and forgotten only where none may.
fn left(nodes: &[NodeOutcome]) -> Left {
    let all = |of: &dyn Fn(OutcomeKind) -> bool| nodes.iter().all(|node| of(node.outcome));
    let runs = |kind| {
        matches!(
            kind,
            OutcomeKind::Upgraded | OutcomeKind::NothingToDo | OutcomeKind::Degraded
        )
    };
    let as_before = |kind| {
        matches!(
            kind,
            OutcomeKind::Refused | OutcomeKind::Reverted | OutcomeKind::NotQuiesced | OutcomeKind::NotBegun
        )
    };
    if all(&runs) {
        Left::Committed
    } else if all(&as_before) {
        Left::Abandoned
    } else {
        Left::Trial
    }
}

fn ended(outcome: &Outcome, pointer: Left) -> AuditEnd {
    let nodes = outcome.nodes.iter().map(|node| AuditNode {
        node: node.node.clone(),
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
        at: now(),
        outcome: word(outcome.outcome),
        exit_code: outcome.exit_code.0,
        pointer,
        nodes: nodes.collect(),
    }
}

/// As the events have it.
fn word(kind: OutcomeKind) -> String {
    let word = serde_json::to_value(kind).ok();
    word.and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Seconds since 1970, by this machine's clock.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
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
    key: Option<&PrivateKey>,
    emit: &mut dyn FnMut(Event),
) -> Result<Made, NodeError> {
    let file = directory.join(format!("{}.tar.gz", release.code_id()));
    let moved = Arc::new(Moved::default());
    let (out, telling) = (file.clone(), Arc::clone(&moved));
    let work = apart(move || {
        let unwritten = |error: &std::io::Error| errors::unwritten(&out, error);
        let writer = std::fs::File::create(&out).map_err(|error| unwritten(&error))?;
        let mut told = |done, total| {
            telling.set(done, total);
            std::ops::ControlFlow::Continue(())
        };
        let (packed, _) = flyhot_artifact::pack(
            &release,
            Contents::Hot,
            &Limits::default(),
            std::io::BufWriter::new(writer),
            &mut told,
        )
        .and_then(|(packed, mut writer)| {
            std::io::Write::flush(&mut writer).map_err(flyhot_artifact::PackError::Write)?;
            Ok((packed, writer))
        })
        .map_err(|error| errors::pack(&release.root, &out, &error))?;
        Ok(packed)
    });
    let packed: Packed = step(Step::Pack, &moved, work, emit).await?;
    let signature = match key {
        Some(key) => Some(
            key.sign(packed.manifest_digest)
                .map_err(|error| errors::runtime(&error))?,
        ),
        None => None,
    };
    Ok(Made {
        target: Target {
            digest: packed.digest,
            code_id: packed.manifest.code_id,
            manifest_digest: packed.manifest_digest,
            signature,
            version: packed.manifest.version,
            source_image: None,
            created_at: now(),
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
        duration_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        count: moved.now().1,
        unit: Unit::Bytes,
    });
    Ok(done)
}

impl Made {
    /// Puts it into the store.
    pub(crate) async fn upload(
        &self,
        fleet: &Fleet<'_>,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), NodeError> {
        let moved = Arc::new(Moved::default());
        let (app, digest) = (&fleet.place.app, self.target.digest);
        let work = async {
            let done = fleet.store.upload(app, digest, &self.file, &moved).await;
            done.map_err(|error| errors::store(&error))
        };
        step(Step::Upload, &moved, work, emit).await
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
        began: now(),
        base_image: pointer.base_image.clone(),
        from: pointer.committed().cloned(),
        to,
        accepted: accepted.into_iter().collect(),
        end: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pointer_goes_where_every_node_went() {
        use OutcomeKind::*;
        let table: [(&[OutcomeKind], Left); 10] = [
            (&[Upgraded, Upgraded], Left::Committed),
            (&[NothingToDo, Upgraded, Degraded], Left::Committed),
            (&[Upgraded, Degraded, NotBegun], Left::Trial),
            (&[Upgraded, Reverted, NotBegun], Left::Trial),
            (&[Upgraded, NotBegun], Left::Trial),
            (&[Refused, NotBegun], Left::Abandoned),
            (&[Reverted], Left::Abandoned),
            (&[NotQuiesced, NotBegun], Left::Abandoned),
            (&[NotBegun, NotBegun], Left::Abandoned),
            // What became of it is not known.
            (&[Failed, NotBegun], Left::Trial),
        ];
        for (kinds, expected) in table {
            let nodes: Vec<_> = kinds
                .iter()
                .map(|kind| NodeOutcome::untouched("a@h", *kind))
                .collect();
            assert_eq!(left(&nodes), expected, "{kinds:?}");
        }
    }
}

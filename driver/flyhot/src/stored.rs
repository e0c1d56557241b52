//! `flyhot lock`, `flyhot history` and `flyhot gc`: what a store says, and what it no longer needs.
//!
//! Nothing is decided here about a lock or a pointer: [`flyhot_store`] does.

use std::collections::BTreeSet;
use std::time::Duration;

use flyhot_events::{Event, ExitCode, HistoryEntry, LockHolder};
use flyhot_store::{Artifacts as _, Home, Lock, LockError, Standing, State, Store as _, Target};

use crate::boot::{self, PlaceError};
use crate::cli::HomeArgs;
use crate::cli::gc::GcArgs;
use crate::drive::NodeError;
use crate::errors;
use crate::local;
use crate::options::{Environment, Place};
use crate::report::Reporter;
use crate::roll;

/// An upload that was begun so long ago does not go on: whoever uploads holds the lock, and the largest artifact takes minutes.
const UNFINISHED: Duration = Duration::from_secs(24 * 3600);

/// Shows who holds the lock.
pub(crate) fn lock_status(args: &HomeArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    ask("lock", args, environment, reporter, async |place, store| {
        let standing = flyhot_store::standing(store, &place.app)
            .await
            .map_err(|error| errors::lock(&error))?;
        Ok(lock(&place, store, standing.as_ref(), None))
    })
}

/// Lets the lock go.
pub(crate) fn lock_release(
    args: &HomeArgs,
    force: bool,
    environment: &Environment,
    reporter: &mut Reporter,
) -> ExitCode {
    ask("lock", args, environment, reporter, async |place, store| {
        let released = flyhot_store::let_go(store, &place.app, force)
            .await
            .map_err(|error| errors::lock(&error))?;
        let standing = flyhot_store::standing(store, &place.app)
            .await
            .map_err(|error| errors::lock(&error))?;
        Ok(lock(&place, store, standing.as_ref(), released.as_ref()))
    })
}

/// Shows what a fleet should run, and ran.
pub(crate) fn history(args: &HomeArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    ask("history", args, environment, reporter, async |place, store| {
        let pointer = flyhot_store::pointer(store, &place.app)
            .await
            .map_err(|error| errors::rollout(&error))?;
        let artifacts = pointer.iter().flat_map(|pointer| {
            let state = match pointer.state {
                State::Trial => "trial",
                State::Committed => "committed",
            };
            let before = match pointer.state {
                State::Trial => "committed",
                State::Committed => "previous",
            };
            let states = std::iter::once(before).chain(std::iter::repeat("previous"));
            let previous = pointer.previous.iter().zip(states);
            let target = pointer.target.iter().map(move |target| (target, state));
            target.chain(previous).map(entry)
        });
        Ok(Event::History {
            app: place.app.to_string(),
            store: store.name(),
            base_image: pointer.as_ref().and_then(|pointer| pointer.base_image.clone()),
            artifacts: artifacts.collect(),
        })
    })
}

/// Removes artifacts that the history does not name.
pub(crate) fn gc(args: &GcArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    ask("gc", &args.home, environment, reporter, async |place, store| {
        let terms = roll::terms(&args.lock)?;
        let who = roll::who(environment, "gc".to_owned());
        let mut lock = flyhot_store::take(store, &place.app, who, terms)
            .await
            .map_err(|error| errors::lock(&error))?;
        let done = collected(&place, store, &mut lock, args.dry_run).await;
        // It goes with its lease if it cannot be let go.
        let _ = lock.release().await;
        done
    })
}

async fn collected(
    place: &Place,
    store: &Home,
    lock: &mut Lock<'_, Home>,
    dry_run: bool,
) -> Result<Event, NodeError> {
    let failed = |error| errors::store(&error);
    let pointer = flyhot_store::pointer(store, &place.app)
        .await
        .map_err(|error| errors::rollout(&error))?;
    let named: BTreeSet<_> = pointer
        .iter()
        .flat_map(|pointer| pointer.target.iter().chain(&pointer.previous))
        .map(|target| target.digest)
        .collect();
    let stored = store.artifacts(&place.app).await.map_err(failed)?;
    let (kept, others): (Vec<_>, Vec<_>) = stored
        .into_iter()
        .partition(|artifact| named.contains(&artifact.digest));
    let mut unfinished = 0;
    if !dry_run {
        for artifact in &others {
            // Somebody else may have taken over, and put this very artifact there: the store is asked each time.
            lock.renew().await.map_err(|error| errors::lock(&error))?;
            let left = lock.hold().await.map_err(|error| errors::lock(&error))?;
            let removed = store.remove(&place.app, artifact.digest);
            match tokio::time::timeout(left, removed).await {
                Ok(removed) => removed.map_err(failed)?,
                Err(_) => {
                    let lost = LockError::Lost("its lease ended while the store did not answer");
                    return Err(errors::lock(&lost));
                }
            }
        }
        unfinished = store.sweep(&place.app, UNFINISHED).await.map_err(failed)?;
    }
    Ok(Event::Gc {
        app: place.app.to_string(),
        store: store.name(),
        kept: kept.len() as u64,
        removed: others
            .iter()
            .map(|artifact| artifact.digest.to_string())
            .collect(),
        removed_size: others.iter().map(|artifact| artifact.size).sum(),
        unfinished,
        dry_run,
    })
}

fn ask(
    name: &str,
    args: &HomeArgs,
    environment: &Environment,
    reporter: &mut Reporter,
    work: impl AsyncFnOnce(Place, &Home) -> Result<Event, NodeError>,
) -> ExitCode {
    local::ask(name, reporter, async || {
        let place = boot::place_here(args, environment)
            .await?
            .map_err(PlaceError::told)?;
        let store = place.open().await;
        work(place, &store).await
    })
}

fn lock(place: &Place, store: &Home, standing: Option<&Standing>, released: Option<&Standing>) -> Event {
    Event::Lock {
        app: place.app.to_string(),
        store: store.name(),
        holder: standing.and_then(holder),
        fencing: standing.map_or(0, |standing| standing.fencing),
        released: released.and_then(holder),
    }
}

fn holder(standing: &Standing) -> Option<LockHolder> {
    let who = standing.holder.as_ref()?;
    Some(LockHolder {
        who: who.who.clone(),
        machine: who.machine.clone(),
        purpose: who.purpose.clone(),
        held_s: standing.held.as_secs(),
        renewed_s: standing.renewed.map(|renewed| renewed.as_secs()),
        left_s: standing.left().as_secs(),
    })
}

/// An artifact of a history.
pub(crate) fn entry((target, state): (&Target, &str)) -> HistoryEntry {
    HistoryEntry {
        version: target.version.clone(),
        code_id: target.code_id.to_string(),
        digest: target.digest.to_string(),
        created_at: target.created_at,
        state: state.to_owned(),
    }
}

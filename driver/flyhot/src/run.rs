//! A command from its options to its last line: a thin shell around the ledger.
//!
//! It decides nothing about a node ([`crate::drive`] does) nor about the outcome ([`crate::ledger`] does). It
//! keeps one promise for both: whatever happens, the outcome is the last event.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use flyhot_artifact::Release;
use flyhot_events::{ErrorKind, Event, ExitCode, Outcome, OutcomeKind, Step, Unit};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::cli::{HomeArgs, NodeArgs};
use crate::clock::since_us;
use crate::drive::{self, Leave, NodeError, NodeRequest};
use crate::errors;
use crate::interrupt::{self, Signals, Watch};
use crate::inventory;
use crate::ledger::{Command, Ledger};
use crate::options::{Environment, Options};
use crate::report::Reporter;

/// Performs a command; every way out of it emits the outcome.
pub(crate) fn command(
    command: Command,
    args: &NodeArgs,
    home: &HomeArgs,
    environment: &Environment,
    reporter: &mut Reporter,
) -> ExitCode {
    let begun = interrupt::runtime();
    let mut ledger = Ledger::new(command, args.reach.node.iter().cloned());
    let mut emit = |event: Event| reporter.event(&event);
    emit(Event::Started {
        command: command.name().to_owned(),
        nodes: args.reach.node.clone(),
        release: Some(args.release.display().to_string()),
        policy: args.how.work.policy_path(),
        flyhot: crate::VERSION.to_owned(),
    });
    to_the_end(&mut ledger, &mut emit, |ledger, emit| {
        perform(command, args, home, environment, begun, ledger, emit)
    })
}

/// Does the work, turns a panic into an error, and emits the outcome in any case.
pub(crate) fn to_the_end(
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
    work: impl FnOnce(&mut Ledger, &mut dyn FnMut(Event)),
) -> ExitCode {
    // The ledger is consistent between any two calls, and no call of it panics.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(ledger, emit))) {
        abort(ledger, emit, bug(panic.as_ref()));
    }
    let outcome = ledger.outcome();
    let exit_code = outcome.exit_code;
    emit(Event::Outcome(outcome));
    exit_code
}

fn perform(
    command: Command,
    args: &NodeArgs,
    home: &HomeArgs,
    environment: &Environment,
    begun: io::Result<(Runtime, Signals)>,
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
) {
    in_runtime(begun, ledger, emit, async |signals, ledger, emit| {
        heed(signals, ledger, emit, async |watch, ledger, emit| match prepare(
            args,
            home,
            environment,
            ledger,
            emit,
        )
        .await
        {
            Ok((options, release)) => each(command, &options, &release, watch, ledger, emit).await,
            Err(error) => {
                abort(ledger, emit, error);
                Finished::Yes
            }
        })
        .await;
    });
}

/// Does work that waits for signals, nodes and files, in what [`interrupt::runtime`] made.
pub(crate) fn in_runtime(
    begun: io::Result<(Runtime, Signals)>,
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
    work: impl AsyncFnOnce(&mut Signals, &mut Ledger, &mut dyn FnMut(Event)),
) {
    let (runtime, mut signals) = match begun {
        Ok(begun) => begun,
        Err(error) => return abort(ledger, emit, errors::runtime(&error)),
    };
    runtime.block_on(work(&mut signals, ledger, emit));
    // A read that was interrupted must not be waited for much longer.
    runtime.shutdown_timeout(interrupt::LEFT);
}

/// Does work on nodes until it ends, or a signal ends it.
pub(crate) async fn heed(
    signals: &mut Signals,
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
    work: impl AsyncFnOnce(&Watch, &mut Ledger, &mut dyn FnMut(Event)) -> Finished,
) {
    let watch = Watch::default();
    let finished = {
        let mut emit = |event: Event| {
            watch.see(&event);
            emit(event);
        };
        tokio::select! {
            biased;
            () = watch.give_up(async || signals.next().await) => Finished::No,
            finished = work(&watch, ledger, &mut emit) => finished,
        }
    };
    // A signal that came when nothing was left to be begun changes nothing about the outcome.
    if let (Finished::No, Some(signal)) = (finished, watch.asked()) {
        let mut error = errors::interrupted(signal, &ledger.under_way(), watch.in_window());
        if ledger.owes_way_back() {
            errors::GOES_BACK.clone_into(&mut error.hint);
        }
        abort(ledger, emit, error);
    }
}

/// Whether the nodes were gone through as far as they should be.
pub(crate) enum Finished {
    Yes,
    No,
}

/// Takes nodes over, one after the other.
async fn each(
    command: Command,
    options: &Options,
    release: &Release,
    watch: &Watch,
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
) -> Finished {
    let leave = Leave::free();
    while watch.asked().is_none() && ledger.has_next() {
        let Some(at) = ledger.begin_next() else { break };
        let Some(peer) = options.reach.nodes.get(at) else {
            break;
        };
        let request = NodeRequest {
            peer,
            release,
            options,
            plan_only: command == Command::Plan,
            leave: &leave,
            start: None,
        };
        match Box::pin(drive::node(&request, emit)).await {
            Ok(outcome) => ledger.ended(at, outcome),
            Err(mut error) => {
                let (kind, outcome) = (error.kind, error.outcome.take());
                emit(error.event(Some(peer.name.to_string())));
                ledger.failed(at, kind, outcome.map(|outcome| *outcome));
            }
        }
    }
    if ledger.has_next() {
        Finished::No
    } else {
        Finished::Yes
    }
}

/// Checks the options and reads the release.
pub(crate) async fn prepare(
    args: &NodeArgs,
    home: &HomeArgs,
    environment: &Environment,
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
) -> Result<(Options, Release), NodeError> {
    let mut options = options(args, home, environment).await?;
    // Nobody would take it back.
    options.watch = None;
    let release = read(&options.release, emit).await?;
    inventory::all(&mut options.reach, Some(&release.name), ledger, emit).await?;
    Ok((options, release))
}

/// Checks the options of a command that deals with a release.
pub(crate) async fn options(
    args: &NodeArgs,
    home: &HomeArgs,
    environment: &Environment,
) -> Result<Options, NodeError> {
    let (args, home, environment) = (args.clone(), home.clone(), environment.clone());
    apart(move || Options::new(&args, &home, &environment).map_err(|error| errors::options(&error))).await
}

/// Reads a release.
pub(crate) async fn read(directory: &Path, emit: &mut dyn FnMut(Event)) -> Result<Release, NodeError> {
    emit(Event::StepStarted {
        node: None,
        step: Step::Read,
    });
    let began = Instant::now();
    let directory = directory.to_owned();
    let release =
        apart(move || Release::read(&directory).map_err(|error| errors::release(&directory, &error))).await?;
    emit(Event::StepDone {
        node: None,
        step: Step::Read,
        duration_us: since_us(began),
        count: release.modules.len() as u64,
        unit: Unit::Modules,
    });
    Ok(release)
}

/// Reads files on a thread of its own, so that a signal is heard while a pipe or a slow disk keeps it waiting.
pub(crate) async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    joined(tokio::task::spawn_blocking(read)).await
}

/// The same, for work that asks from time to time whether anybody waits for it still.
pub(crate) async fn apart_while_wanted<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    let wanted = Arc::new(());
    let there = Arc::downgrade(&wanted);
    let done = apart(move || work(&|| there.strong_count() > 0)).await;
    drop(wanted);
    done
}

/// What a thread of its own came to.
pub(crate) async fn joined<T>(thread: JoinHandle<Result<T, NodeError>>) -> Result<T, NodeError> {
    match thread.await {
        Ok(read) => read,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => Err(bug(panic.as_ref())),
            Err(join) => Err(errors::runtime(&join)),
        },
    }
}

pub(crate) fn abort(ledger: &mut Ledger, emit: &mut dyn FnMut(Event), error: NodeError) {
    ledger.abort(error.kind);
    emit(error.event(None));
}

/// The end of a command that did nothing, and why.
pub(crate) fn refused(error: NodeError, reporter: &mut Reporter) -> ExitCode {
    let kind = error.kind;
    reporter.event(&error.event(None));
    over(Some(kind), reporter)
}

/// The last line of a command that upgrades nothing.
pub(crate) fn over(against: Option<ErrorKind>, reporter: &mut Reporter) -> ExitCode {
    let outcome = outcome(against);
    let exit_code = outcome.exit_code;
    reporter.event(&Event::Outcome(outcome));
    exit_code
}

/// What became of a command that upgrades nothing.
pub(crate) fn outcome(against: Option<ErrorKind>) -> Outcome {
    Outcome {
        outcome: against.map_or(OutcomeKind::Done, ErrorKind::outcome),
        exit_code: against.map_or(ExitCode::SUCCESS, ErrorKind::exit_code),
        // Each has events of its own.
        nodes: Vec::new(),
    }
}

pub(crate) fn bug(panic: &(dyn Any + Send)) -> NodeError {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    errors::panicked(text)
}

#[cfg(test)]
mod tests {
    use flyhot_events::NodeOutcome;

    use super::*;

    #[test]
    fn a_panic_ends_with_an_error_and_the_outcome() {
        let mut ledger = Ledger::new(Command::Upgrade, ["a@h".into(), "b@h".into(), "c@h".into()]);
        let mut events = Vec::new();
        let exit_code = to_the_end(&mut ledger, &mut |event| events.push(event), |ledger, _| {
            ledger.begin_next();
            ledger.ended(0, NodeOutcome::untouched("a@h", OutcomeKind::Upgraded));
            ledger.begin_next();
            panic!("at {}", "b@h");
        });
        assert_eq!(exit_code.0, 1);
        let [Event::Error { message, .. }, Event::Outcome(outcome)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(message, "flyhot panicked: at b@h");
        let kinds: Vec<_> = outcome.nodes.iter().map(|node| node.outcome).collect();
        assert_eq!(
            kinds,
            [OutcomeKind::Upgraded, OutcomeKind::Failed, OutcomeKind::NotBegun]
        );
    }

    #[test]
    fn a_panic_on_the_reading_thread_is_a_bug_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(apart::<()>(|| panic!("torn"))).unwrap_err();
        assert_eq!(
            (error.kind, &*error.message),
            (flyhot_events::ErrorKind::Bug, "flyhot panicked: torn")
        );
    }
}

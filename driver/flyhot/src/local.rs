//! Commands that work on files of this machine: no node is asked anything.
//!
//! Nothing is decided here about the files. A signal asks the work to stop at its next piece, so that it takes away what it
//! has begun; a second one does not wait for that, and the first not for long. Whatever happens, the outcome is the last event.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flyhot_events::{ErrorKind, Event, ExitCode, Step, Unit};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::clock::since_us;
use crate::drive::NodeError;
use crate::errors;
use crate::interrupt::{self, Signals};
use crate::report::Reporter;
use crate::run;

/// A step tells at most so often how far it is: more than a bar shows helps nobody.
const TOLD: u64 = 100;

/// How long the work has to heed a signal: it looks at every piece of 64 KiB, which a disk far away takes a second for. It may
/// never come to look: waiting for a pipe.
const HEED: Duration = Duration::from_secs(5);

/// What the work says while it is done, and whether it should stop.
pub(crate) struct Talk {
    events: UnboundedSender<Event>,
    stop: Arc<AtomicBool>,
}

impl Talk {
    pub(crate) fn event(&self, event: Event) {
        // Nobody hears it once a second signal came.
        let _ = self.events.send(event);
    }

    /// Whether a signal asked the work to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Does a step; `work` tells how many bytes of how many are done, and answers with how many of what it dealt with.
    pub(crate) fn step<T, E>(
        &self,
        step: Step,
        work: impl FnOnce(&mut dyn FnMut(u64, u64) -> ControlFlow<()>) -> Result<(T, u64, Unit), E>,
    ) -> Result<T, E> {
        self.event(Event::StepStarted { node: None, step });
        let began = Instant::now();
        let mut told = 0;
        let (done, count, unit) = work(&mut |done, total| {
            // What begins again has less.
            told = told.min(done);
            if done - told > total / TOLD {
                told = done;
                self.event(Event::Progress {
                    node: None,
                    step,
                    done,
                    total,
                    unit: Unit::Bytes,
                });
            }
            if self.is_stopped() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        self.event(Event::StepDone {
            node: None,
            step,
            duration_us: since_us(began),
            count,
            unit,
        });
        Ok(done)
    }
}

/// Performs a command.
pub(crate) fn command(
    name: &str,
    release: Option<&Path>,
    reporter: &mut Reporter,
    work: impl FnOnce(&Talk) -> Result<(), NodeError> + Send + 'static,
) -> ExitCode {
    run::over(through(name, release, reporter, work).err(), reporter)
}

/// The same up to the outcome; an error was said by then, and its kind is the answer.
pub(crate) fn through<T: Send + 'static>(
    name: &str,
    release: Option<&Path>,
    reporter: &mut Reporter,
    work: impl FnOnce(&Talk) -> Result<T, NodeError> + Send + 'static,
) -> Result<T, ErrorKind> {
    whole(name, release, reporter, async |mut signals, reporter| {
        perform(work, &mut signals, reporter).await
    })
}

/// Performs a command that asks a store: `work` answers with what it says.
pub(crate) fn ask(
    name: &str,
    reporter: &mut Reporter,
    work: impl AsyncFnOnce() -> Result<Event, NodeError>,
) -> ExitCode {
    let done = whole(name, None, reporter, async |mut signals, reporter| {
        tokio::select! {
            biased;
            signal = signals.next() => Err(errors::unanswered(signal)),
            said = work() => {
                reporter.event(&said?);
                Ok(())
            }
        }
    });
    run::over(done.err(), reporter)
}

/// From the first event to the last but the outcome.
pub(crate) fn whole<T>(
    name: &str,
    release: Option<&Path>,
    reporter: &mut Reporter,
    work: impl AsyncFnOnce(Signals, &mut Reporter) -> Result<T, NodeError>,
) -> Result<T, ErrorKind> {
    let begun = interrupt::runtime();
    reporter.event(&Event::Started {
        command: name.to_owned(),
        nodes: Vec::new(),
        release: release.map(|path| path.display().to_string()),
        policy: None,
        flyhot: crate::VERSION.to_owned(),
    });
    let done = catch_unwind(AssertUnwindSafe(|| {
        let (runtime, signals) = begun.map_err(|error| errors::runtime(&error))?;
        let done = runtime.block_on(work(signals, reporter));
        // A read that was interrupted must not be waited for much longer.
        runtime.shutdown_timeout(interrupt::LEFT);
        done
    }))
    .unwrap_or_else(|panic| Err(run::bug(panic.as_ref())));
    done.map_err(|error| {
        let kind = error.kind;
        reporter.event(&error.event(None));
        kind
    })
}

/// Does it on a thread of its own.
pub(crate) async fn perform<T: Send + 'static>(
    work: impl FnOnce(&Talk) -> Result<T, NodeError> + Send + 'static,
    signals: &mut Signals,
    reporter: &mut Reporter,
) -> Result<T, NodeError> {
    let (events, mut said) = unbounded_channel();
    let stop = Arc::new(AtomicBool::new(false));
    let talk = Talk {
        events,
        stop: stop.clone(),
    };
    let work = tokio::task::spawn_blocking(move || work(&talk));
    let mut asked = None;
    let mut waiting = std::pin::pin!(tokio::time::sleep(HEED));
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => {
                stop.store(true, Ordering::Relaxed);
                if asked.replace(signal).is_some() {
                    return Err(errors::left(signal));
                }
                waiting.as_mut().reset(tokio::time::Instant::now() + HEED);
            }
            () = &mut waiting, if asked.is_some() => return Err(errors::left(asked.unwrap_or("a signal"))),
            // The work hangs up as it ends.
            event = said.recv() => match event {
                Some(event) => reporter.event(&event),
                None => break,
            },
        }
    }
    match (run::joined(work).await, asked) {
        (Err(error), Some(signal)) if error.kind == ErrorKind::Interrupted => Err(errors::stopped(signal)),
        (done, _) => done,
    }
}

//! When a signal ends a command.
//!
//! Nothing is undone here and no node is asked anything. Before the window the work on a node is simply dropped: its
//! agent cleans up by itself. From the window on it is let come to its end, a matter of seconds besides what the user's
//! own hooks and gate take, so that the outcome tells what became of the node; a second signal drops it even then.

use std::cell::Cell;
use std::io;

use flyhot_events::{Event, Step};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The signals that ask a command to end.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// What was asked, and how far the work is.
#[derive(Default)]
pub(crate) struct Watch {
    asked: Cell<Option<&'static str>>,
    step: watch::Sender<Option<Step>>,
}

impl Watch {
    /// Sees every event go by, to know the step.
    pub(crate) fn see(&self, event: &Event) {
        if let Event::StepStarted { step, .. } = event {
            self.step.send_replace(Some(*step));
        }
    }

    /// The signal that asked the command to end.
    pub(crate) fn asked(&self) -> Option<&'static str> {
        self.asked.get()
    }

    /// Whether the work on the node has come to the window.
    pub(crate) fn in_window(&self) -> bool {
        in_window(*self.step.borrow())
    }

    /// Waits until the work is to be dropped. `next` answers with the name of the next signal.
    pub(crate) async fn give_up(&self, mut next: impl AsyncFnMut() -> &'static str) {
        self.asked.set(Some(next().await));
        let mut steps = self.step.subscribe();
        tokio::select! {
            _ = steps.wait_for(|step| !in_window(*step)) => {}
            _ = next() => {}
        }
    }
}

fn in_window(step: Option<Step>) -> bool {
    match step {
        Some(Step::Window | Step::Persist | Step::HooksAfter | Step::Gate | Step::Remove | Step::Cleanup) => {
            true
        }
        None
        | Some(
            Step::Read
            | Step::Connect
            | Step::Census
            | Step::Closures
            | Step::Stage
            | Step::Rehearse
            | Step::Drain
            | Step::Prepare
            | Step::HooksBefore
            | Step::Entry
            | Step::Knock
            | Step::Pack
            | Step::Verify
            | Step::Unpack
            | Step::Lock
            | Step::SaveBase
            | Step::Upload
            | Step::Fetch
            | Step::Overlay,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn begun(step: Step) -> Event {
        Event::StepStarted {
            node: Some("a@h".into()),
            step,
        }
    }

    /// Plays signals and steps; answers, after each, whether the work would have been dropped by then.
    fn play(acts: &[Result<&'static str, Step>]) -> Vec<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let watch = Watch::default();
            let (send, mut signals) = mpsc::unbounded_channel();
            let mut dropped = Vec::new();
            let mut give_up = Box::pin(watch.give_up(async || signals.recv().await.unwrap()));
            for act in acts {
                match act {
                    Ok(name) => send.send(*name).unwrap(),
                    Err(step) => watch.see(&begun(*step)),
                }
                let over = tokio::select! {
                    biased;
                    () = &mut give_up => true,
                    () = tokio::task::yield_now() => false,
                };
                dropped.push(over);
                if over {
                    break;
                }
            }
            dropped
        })
    }

    #[test]
    fn before_the_window_a_signal_drops_the_work_at_once() {
        assert_eq!(play(&[Ok("SIGINT")]), [true]);
        assert_eq!(play(&[Err(Step::HooksBefore), Ok("SIGTERM")]), [false, true]);
        assert_eq!(play(&[Err(Step::Knock), Ok("SIGTERM")]), [false, true]);
    }

    #[test]
    fn from_the_window_on_the_work_comes_to_its_end() {
        let acts = [
            Err(Step::Window),
            Ok("SIGINT"),
            Err(Step::Persist),
            Err(Step::HooksAfter),
            Err(Step::Gate),
            Err(Step::Cleanup),
            Err(Step::Connect),
        ];
        assert_eq!(play(&acts), [false, false, false, false, false, false, true]);
    }

    #[test]
    fn a_second_signal_drops_it_even_then() {
        assert_eq!(
            play(&[Err(Step::Window), Ok("SIGINT"), Ok("SIGINT")]),
            [false, false, true]
        );
    }
}

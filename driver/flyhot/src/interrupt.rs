//! When a signal ends a command, or the end of mix does.
//!
//! The mix tasks start flyhot through a port of Erlang, in a session of its own: no ^C of their terminal comes here, and when they end, however
//! they do, nothing is heard but the end of what the port sends.
//!
//! Nothing is undone here and no node is asked anything. Before the window the work on a node is simply dropped: its
//! agent cleans up by itself. From the window on it is let come to its end, a matter of seconds besides what the user's
//! own hooks and gate take, so that the outcome tells what became of the node; a second signal drops it even then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use flyhot_events::{Event, Step};
use nix::unistd::close;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The descriptors of a port that leaves its program the terminal, to read from and to write to (erlang:open_port/2, `nouse_stdio`).
const OF_PORT: [(RawFd, &str); 2] = [(3, FROM_PORT), (4, "/dev/fd/4")];

/// The first of them by its path.
const FROM_PORT: &str = "/dev/fd/3";

/// The port, of which a process has one as it has one set of signals.
static PORT: OnceLock<File> = OnceLock::new();

/// The file by which somebody elsewhere asks this process to end: it has one, as it has one port.
static TOLD_BY: OnceLock<PathBuf> = OnceLock::new();

/// What is said of the end of mix, where a signal is named otherwise.
const END_OF_MIX: &str = "the end of mix";

/// What is said of a file that somebody elsewhere left.
const TOLD: &str = "`flyhot tell`";

/// Between two looks for that file: nobody far away sees that it takes so long.
const LOOK: Duration = Duration::from_millis(200);

/// Takes the descriptors of the port over, before anything else is opened.
///
/// Nothing is written to it: its descriptors are closed, so that no program started from here has them.
pub(crate) fn heed_port() -> io::Result<()> {
    for (_, path) in OF_PORT {
        // What is opened below would be given the number of one that is not there.
        if !fs::metadata(path)?.file_type().is_fifo() {
            return Err(io::Error::other(format!("{path} is no pipe")));
        }
    }
    // Opened once more, it is closed where another program begins.
    let port = File::open(FROM_PORT)?;
    for (descriptor, _) in OF_PORT {
        close(descriptor)?;
    }
    // A second port would need a second main.
    let _ = PORT.set(port);
    Ok(())
}

/// A file that comes to be there is a signal as well, from now on.
pub(crate) fn heed_file(file: PathBuf) {
    // Nobody works for two orchestrators.
    let _ = TOLD_BY.set(file);
}

/// The signals that ask a command to end.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Until a signal or its end was heard.
    port: Option<pipe::Receiver>,
    /// The file by which somebody elsewhere asks for the same, until it was there.
    told: Option<PathBuf>,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            port: PORT
                .get()
                .map(|port| pipe::Receiver::from_file(port.try_clone()?))
                .transpose()?,
            told: TOLD_BY.get().cloned(),
        })
    }

    /// The same for what comes after the work: whoever asked that to end has been heard.
    pub(crate) fn afterwards(self) -> Self {
        Self { told: None, ..self }
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        let heard = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            () = end(&mut self.port) => END_OF_MIX,
            () = comes(&mut self.told) => TOLD,
        };
        // Nobody presses ^C twice by ending: it is never the second signal, which drops a window.
        self.port = None;
        heard
    }
}

/// How long threads that nobody waits for any more have to see that, and to end what they started: four looks of the slowest.
pub(crate) const LEFT: Duration = Duration::from_millis(200);

/// A runtime, and the signals that are heard from now on: made before a command says that it began, so that none that comes then is
/// missed.
pub(crate) fn runtime() -> io::Result<(Runtime, Signals)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let signals = {
        let _within = runtime.enter();
        Signals::listen()?
    };
    Ok((runtime, signals))
}

/// A runtime, and signals that nobody sends: other tests of the same process send those that commands hear.
#[cfg(test)]
pub(crate) fn undisturbed() -> (Runtime, Signals) {
    let (runtime, mut signals) = runtime().unwrap();
    {
        let _within = runtime.enter();
        signals.interrupt = signal(SignalKind::user_defined1()).unwrap();
        signals.terminate = signal(SignalKind::user_defined2()).unwrap();
    }
    (runtime, signals)
}

/// Waits for the end of a port.
async fn end(port: &mut Option<pipe::Receiver>) {
    let Some(port) = port else {
        return std::future::pending().await;
    };
    // What comes is none of ours; a port that cannot be read says no more than one that ended.
    while let Ok(1..) = port.read(&mut [0; 64]).await {}
}

/// Waits until a file is there, which is heard once.
async fn comes(told: &mut Option<PathBuf>) {
    let Some(file) = told else {
        return std::future::pending().await;
    };
    while !file.exists() {
        tokio::time::sleep(LOOK).await;
    }
    *told = None;
}

/// What was asked, and how far the work is.
#[derive(Default)]
pub(crate) struct Watch(watch::Sender<Far>);

#[derive(Default)]
struct Far {
    asked: Option<&'static str>,
    /// The step of each node that is worked on; by no name, that of the command itself.
    steps: BTreeMap<Option<String>, Step>,
    /// Nodes whose time is over.
    overdue: BTreeSet<String>,
}

/// Why the work on a node is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// A signal asked the command to end.
    Asked,
    /// It took too long.
    Overdue,
}

impl Watch {
    /// Sees every event go by, to know the step.
    pub(crate) fn see(&self, event: &Event) {
        match event {
            Event::StepStarted { node, step } => self.0.send_modify(|far| {
                far.steps.insert(node.clone(), *step);
            }),
            // The last step on a node: what became of it is known in the same moment.
            Event::StepDone {
                node,
                step: Step::Cleanup,
                ..
            } => self.0.send_modify(|far| {
                far.steps.remove(node);
            }),
            _ => {}
        }
    }

    /// The signal that asked the command to end.
    pub(crate) fn asked(&self) -> Option<&'static str> {
        self.0.borrow().asked
    }

    /// Waits until a signal asks the command to end.
    pub(crate) async fn is_asked(&self) {
        self.until(|far| far.asked.is_some()).await;
    }

    /// Whether the work on some node has come to the window.
    pub(crate) fn in_window(&self) -> bool {
        self.0.borrow().steps.values().any(|step| in_window(*step))
    }

    /// The work on a node begins, and with it its time.
    pub(crate) fn begins(&self, node: &str) {
        self.0.send_modify(|far| {
            far.overdue.remove(node);
        });
    }

    /// The time of a node is over.
    pub(crate) fn overdue(&self, node: &str) {
        self.0.send_modify(|far| {
            far.overdue.insert(node.to_owned());
        });
    }

    /// Waits until the work on this node is to be dropped: not from its window on.
    pub(crate) async fn drop_of(&self, node: &str) -> Dropped {
        let key = Some(node.to_owned());
        self.until(|far| {
            let asked = far.asked.is_some() || far.overdue.contains(node);
            asked && !far.steps.get(&key).is_some_and(|step| in_window(*step))
        })
        .await;
        match self.asked() {
            Some(_) => Dropped::Asked,
            None => Dropped::Overdue,
        }
    }

    /// Waits until the work is to be dropped. `next` answers with the name of the next signal.
    pub(crate) async fn give_up(&self, mut next: impl AsyncFnMut() -> &'static str) {
        let signal = next().await;
        self.0.send_modify(|far| far.asked = Some(signal));
        tokio::select! {
            () = self.until(|far| !far.steps.values().any(|step| in_window(*step))) => {}
            _ = next() => {}
        }
    }

    async fn until(&self, holds: impl Fn(&Far) -> bool) {
        // The sender is here: it does not go meanwhile.
        let _ = self.0.subscribe().wait_for(holds).await;
    }
}

fn in_window(step: Step) -> bool {
    match step {
        Step::Window
        | Step::Persist
        | Step::HooksAfter
        | Step::Gate
        | Step::Watch
        | Step::Remove
        | Step::Cleanup => true,
        Step::Read
        | Step::Connect
        | Step::Census
        | Step::Closures
        | Step::Stage
        | Step::Rehearse
        | Step::Drain
        | Step::Prepare
        | Step::Baseline
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
        | Step::Overlay
        | Step::CheckUrl
        | Step::MachineChecks => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
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

    /// What is heard next, if anything is.
    async fn heard(signals: &mut Signals) -> Option<&'static str> {
        tokio::time::timeout(std::time::Duration::from_millis(200), signals.next())
            .await
            .ok()
    }

    #[test]
    fn the_end_of_mix_is_a_first_signal_and_never_a_second() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let with_port = || {
                let (mix, port) = pipe::pipe().unwrap();
                let mut signals = Signals::listen().unwrap();
                signals.port = Some(port);
                (mix, signals)
            };
            let interrupt = || {
                let own = std::process::id().to_string();
                let kill = std::process::Command::new("kill").args(["-INT", &own]).status();
                assert!(kill.unwrap().success());
            };

            let (mut mix, mut signals) = with_port();
            mix.write_all(b"what no port of ours sends").await.unwrap();
            assert_eq!(heard(&mut signals).await, None);
            drop(mix);
            assert_eq!(heard(&mut signals).await, Some(END_OF_MIX));
            assert_eq!(heard(&mut signals).await, None);
            interrupt();
            assert_eq!(heard(&mut signals).await, Some("SIGINT"));

            let (mix, mut signals) = with_port();
            interrupt();
            assert_eq!(heard(&mut signals).await, Some("SIGINT"));
            drop(mix);
            assert_eq!(heard(&mut signals).await, None);
        });
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

    /// What becomes of the work on each of two nodes, one of which is in its window.
    #[test]
    fn of_several_nodes_those_in_the_window_come_to_their_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let watch = Watch::default();
            let on = |node: &str, step| Event::StepStarted {
                node: Some(node.into()),
                step,
            };
            watch.see(&on("a@h", Step::Window));
            watch.see(&on("b@h", Step::Census));
            let over = async |work: &mut (dyn Future<Output = Dropped> + Unpin)| {
                tokio::select! {
                    biased;
                    why = work => Some(why),
                    () = tokio::task::yield_now() => None,
                }
            };
            let mut a = Box::pin(watch.drop_of("a@h"));
            let mut b = Box::pin(watch.drop_of("b@h"));
            assert_eq!((over(&mut a).await, over(&mut b).await), (None, None));
            watch.overdue("a@h");
            watch.overdue("b@h");
            assert_eq!(
                (over(&mut a).await, over(&mut b).await),
                (None, Some(Dropped::Overdue))
            );
            let mut signals = 0;
            let mut give_up = Box::pin(watch.give_up(async || {
                signals += 1;
                if signals > 1 {
                    std::future::pending::<()>().await;
                }
                "SIGINT"
            }));
            tokio::select! {
                biased;
                () = &mut give_up => panic!("a node is in its window"),
                () = tokio::task::yield_now() => {}
            }
            // What was too long once is no longer so when it is begun anew.
            watch.begins("b@h");
            let mut b = Box::pin(watch.drop_of("b@h"));
            assert_eq!(
                (over(&mut a).await, over(&mut b).await),
                (None, Some(Dropped::Asked))
            );
            // A node that is done keeps nobody.
            watch.see(&Event::StepDone {
                node: Some("a@h".into()),
                step: Step::Cleanup,
                duration_us: 1,
                count: 1,
                unit: flyhot_events::Unit::Modules,
            });
            give_up.await;
        });
    }
}

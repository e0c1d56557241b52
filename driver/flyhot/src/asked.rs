//! Commands that ask nodes something, all of them at once, and say what each answered in the order of the command line.
//!
//! Nothing is decided here about what is asked. Whatever happens, the outcome is the last event.

use std::panic::{AssertUnwindSafe, catch_unwind};

use flyhot_events::{ErrorKind, Event, ExitCode};
use futures::future::{join, join_all};

use crate::cli::{HomeArgs, ReachArgs};
use crate::drive::NodeError;
use crate::errors;
use crate::interrupt::{self, Signals};
use crate::inventory::{self, Found};
use crate::options::{Environment, Peer, Reach};
use crate::report::Reporter;
use crate::run::{self, apart};

/// What one node answered.
pub(crate) struct Answer<T> {
    pub(crate) node: String,
    pub(crate) said: Result<T, NodeError>,
}

/// Events, and what speaks against the command.
pub(crate) type Told = (Vec<Event>, Option<ErrorKind>);

/// Performs a command: `work` asks one node, `told` says what came back.
pub(crate) fn command<T, W, F>(
    name: &str,
    args: &ReachArgs,
    home: &HomeArgs,
    environment: &Environment,
    reporter: &mut Reporter,
    work: W,
    told: impl FnOnce(Vec<Answer<T>>) -> Told,
) -> ExitCode
where
    W: Fn(Peer) -> F,
    F: Future<Output = Result<T, NodeError>>,
{
    with(
        name,
        args,
        home,
        environment,
        reporter,
        async |_| (Vec::new(), None),
        work,
        told,
    )
}

/// The same with something that is of no node, and is said first; where nobody says which nodes there are, too.
#[expect(
    clippy::too_many_arguments,
    reason = "what a command was told and does, each once"
)]
pub(crate) fn with<T, W, F>(
    name: &str,
    args: &ReachArgs,
    home: &HomeArgs,
    environment: &Environment,
    reporter: &mut Reporter,
    first: impl AsyncFnOnce(Option<&Found>) -> Told,
    work: W,
    told: impl FnOnce(Vec<Answer<T>>) -> Told,
) -> ExitCode
where
    W: Fn(Peer) -> F,
    F: Future<Output = Result<T, NodeError>>,
{
    let begun = interrupt::runtime();
    reporter.event(&Event::Started {
        command: name.to_owned(),
        nodes: args.node.clone(),
        release: None,
        policy: None,
        flyhot: crate::VERSION.to_owned(),
    });
    let made = catch_unwind(AssertUnwindSafe(|| {
        let (runtime, signals) = begun.map_err(|error| errors::runtime(&error))?;
        let answers = runtime.block_on(ask(args, home, environment, signals, first, work));
        // A read that was interrupted must not be waited for much longer.
        runtime.shutdown_timeout(interrupt::LEFT);
        answers.map(|((mut events, unwell), answers)| {
            let (of_nodes, against) = told(answers);
            events.extend(of_nodes);
            (events, against.or(unwell))
        })
    }))
    .unwrap_or_else(|panic| Err(run::bug(panic.as_ref())));
    let (events, against) = match made {
        Ok(told) => told,
        Err(error) => {
            let kind = error.kind;
            (vec![error.event(None)], Some(kind))
        }
    };
    for event in events {
        reporter.event(&event);
    }
    run::over(against, reporter)
}

async fn ask<T, W, F>(
    args: &ReachArgs,
    home: &HomeArgs,
    environment: &Environment,
    mut signals: Signals,
    first: impl AsyncFnOnce(Option<&Found>) -> Told,
    work: W,
) -> Result<(Told, Vec<Answer<T>>), NodeError>
where
    W: Fn(Peer) -> F,
    F: Future<Output = Result<T, NodeError>>,
{
    let (args, home, environment) = (args.clone(), home.clone(), environment.clone());
    let asking = async {
        let reached = async {
            let reach = move || Reach::new(&args, &home, None, &environment);
            let mut reach = apart(move || reach().map_err(|error| errors::options(&error))).await?;
            let found = inventory::find(&mut reach, None).await?;
            Ok::<_, NodeError>((reach, found))
        };
        let (reach, found) = match reached.await {
            Ok(reached) => reached,
            Err(error) => {
                let (mut events, _) = first(None).await;
                let kind = error.kind;
                events.push(error.event(None));
                return Ok(((events, Some(kind)), Vec::new()));
            }
        };
        let asked = reach.nodes.iter().map(|peer| {
            let said = work(peer.clone());
            async move {
                Answer {
                    node: peer.name.to_string(),
                    said: said.await,
                }
            }
        });
        let ((mut events, unwell), mut answers) = join(first(found.as_ref()), join_all(asked)).await;
        if let Some(found) = found {
            events.insert(0, found.event());
            answers.extend(found.lacking.into_iter().map(|lacking| Answer {
                node: lacking.machine,
                said: Err(lacking.error),
            }));
        }
        Ok(((events, unwell), answers))
    };
    tokio::select! {
        biased;
        signal = signals.next() => Err(errors::interrupted(signal, &[], false)),
        answers = asking => answers,
    }
}

/// What each node's answer makes: events, and what speaks against the command where it is the first such.
pub(crate) fn each<T>(answers: Vec<Answer<T>>, mut tell: impl FnMut(String, T) -> Told) -> Told {
    let mut against = None;
    let mut all = Vec::new();
    for Answer { node, said: answer } in answers {
        let (events, kind) = match answer {
            Ok(answer) => tell(node, answer),
            Err(error) => {
                let kind = error.kind;
                (vec![error.event(Some(node))], Some(kind))
            }
        };
        all.extend(events);
        against = against.or(kind);
    }
    (all, against)
}

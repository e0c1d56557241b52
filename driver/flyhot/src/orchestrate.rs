//! `flyhot orchestrate`: a rollout of the release in this machine's image, or another verb, for somebody who is elsewhere and may go away.
//!
//! Nothing is decided here about nodes, [`crate::roll`] or that verb does. Every event is kept in a file ([`Journal`]), which `flyhot events` reads,
//! and what `flyhot tell` brings lies beside it ([`Inbox`]). Nobody has to read or tell anything: the rollout comes to its end without.

mod journal;
mod told;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use clap::Parser as _;
use flyhot_events::{Event, ExitCode};
use flyhot_fleet::{Fly, MachineId, Token};

use crate::VERSION;
use crate::boot;
use crate::cli::events::EventsArgs;
use crate::cli::orchestrate::OrchestrateArgs;
use crate::cli::{Cli, NodeArgs, Verb};
use crate::drive::NodeError;
use crate::errors;
use crate::interrupt;
use crate::local;
use crate::options::{self, Environment, Secret};
use crate::report::Reporter;
use crate::roll::{self, Afar};
use crate::run;

pub(crate) use journal::NoJournal;
use journal::{Journal, Opened};
pub(crate) use told::{Inbox, ToldError};

/// Where it keeps what it says and is told: on a machine of its own nobody else writes there.
const DIRECTORY: &str = "/tmp/flyhot-orchestrate";

/// What its machine is labelled with in the end: its exit code, and the code id that was rolled out.
pub(crate) const OUTCOME: &str = "flyhot_outcome";

/// How long its machine stays when all is done, which takes the events with it when it goes: whoever follows asks each second, and a
/// request that fails is repeated for some.
const STAYS: Duration = Duration::from_secs(15);

/// What it is told by the environment.
fn directory(environment: &Environment) -> &Path {
    environment.orchestrate.as_deref().unwrap_or(Path::new(DIRECTORY))
}

/// Performs it.
pub(crate) fn command(
    args: &OrchestrateArgs,
    environment: &Environment,
    reporter: &mut Reporter,
) -> ExitCode {
    let directory = directory(environment);
    let mut unkept = None;
    let mut journal = match Journal::open(directory) {
        Opened::Ours(journal) => Some(journal),
        Opened::Busy => return run::refused(errors::orchestrated(directory), reporter),
        Opened::Failed(error) => {
            unkept = Some(error);
            None
        }
    };
    let code_id = Rc::new(RefCell::new(None));
    let (seen, kept_in) = (Rc::clone(&code_id), directory.to_owned());
    reporter.kept_by(move |event| {
        if let Event::Pointer { artifact, .. } = event {
            *seen.borrow_mut() = Some(artifact.code_id.clone());
        }
        let failed = journal.as_mut().and_then(|journal| journal.keep(event));
        // A disk that is full stays so: it is said once.
        let error = unkept.take().or(failed)?;
        Some(errors::unkept(&kept_in, &error).event(None))
    });
    let told = Inbox::of(directory);
    interrupt::heed_file(told.stop());
    let mut environment = environment.clone();
    let begun = task(args, &environment).and_then(|task| {
        // Whoever follows has one for this work, while a secret of the app may be one for less, or revoked. Without any the machines of
        // the app cannot be asked for, which is said there.
        let is_awaited = args.asked_by.is_some() || environment.fly_token.is_none();
        if args.reach.inventory.is_some()
            && is_awaited
            && let Some(token) = awaited_token(&told)?
        {
            environment.fly_token = Some(("`flyhot tell`", Secret(token.expose().into())));
        }
        Ok(task)
    });
    let exit_code = match begun {
        Ok(Task::Rollout(nodes)) => {
            let image = environment.image.as_ref();
            let afar = Afar {
                told: &told,
                signs: args.await_signature,
                image: image.map(|image| image.to_string_lossy().into_owned()),
            };
            roll::afar(*nodes, &args.out, &afar, &environment, reporter)
        }
        Ok(Task::Another(verb)) => crate::perform(&verb, &environment, reporter),
        Err(error) => run::refused(error, reporter),
    };
    let code_id = code_id.borrow().clone();
    farewell(&environment, &told, exit_code, code_id.as_deref());
    exit_code
}

/// The token that is told; `None` where nobody tells one.
///
/// # Errors
/// It is asked to end meanwhile.
fn awaited_token(told: &Inbox) -> Result<Option<Token>, NodeError> {
    let (runtime, mut signals) = interrupt::runtime().map_err(|error| errors::runtime(&error))?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            signal = signals.next() => Err(errors::interrupted(signal, &[], false)),
            token = told.awaited_token() => Ok(token),
        }
    })
}

/// What is to be done.
enum Task {
    Rollout(Box<NodeArgs>),
    Another(Box<Verb>),
}

fn task(args: &OrchestrateArgs, environment: &Environment) -> Result<Task, NodeError> {
    if let Some(theirs) = &args.asked_by
        && theirs != VERSION
    {
        return Err(errors::another_flyhot(theirs, environment.image.as_deref()));
    }
    let release = || release(args.release.as_deref(), environment);
    if args.verb.is_empty() {
        return Ok(Task::Rollout(Box::new(NodeArgs {
            reach: args.reach.clone(),
            release: release()?,
            down: false,
            how: args.how.clone(),
        })));
    }
    let words = std::iter::once("flyhot").chain(args.verb.iter().map(String::as_str));
    let mut cli = Cli::try_parse_from(words).map_err(|error| errors::no_verb(&error.to_string()))?;
    match &mut cli.verb {
        Verb::Plan(plan) => plan.release = Some(release()?),
        Verb::Rollback(_)
        | Verb::Status(_)
        | Verb::Doctor(_)
        | Verb::History(_)
        | Verb::Gc(_)
        | Verb::Lock(_) => {}
        _ => {
            let verb = args.verb.first().map_or("", String::as_str);
            return Err(errors::no_verb(&format!(
                "{verb} is none that an orchestrator performs"
            )));
        }
    }
    options::complete(&mut cli.verb, environment).map_err(|error| errors::options(&error))?;
    Ok(Task::Another(Box::new(cli.verb)))
}

/// The release of this image.
fn release(given: Option<&Path>, environment: &Environment) -> Result<PathBuf, NodeError> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let places = boot::places(environment);
    let found = places.iter().find(|place| boot::has_release(place));
    found.cloned().ok_or_else(|| errors::no_release_here(&places))
}

/// On a machine that goes with this process: labels it with how it ended, and stays until that was read.
fn farewell(environment: &Environment, told: &Inbox, exit_code: ExitCode, code_id: Option<&str>) {
    let Some(machine) = &environment.machine else {
        return;
    };
    let Ok((runtime, signals)) = interrupt::runtime() else {
        return;
    };
    let mut signals = signals.afterwards();
    let outcome = format!("{} {}", exit_code.0, code_id.unwrap_or("-"));
    let machine: Option<MachineId> = machine.to_str().and_then(|machine| machine.parse().ok());
    runtime.block_on(async {
        let label = async {
            if let (Some(fly), Some(machine)) = (fly(environment, told), machine) {
                // Whoever finds no label looks for the exit code, and into the store.
                let _ = fly.set_metadata(&machine, OUTCOME, &outcome).await;
            }
        };
        let stays = async {
            tokio::join!(label, tokio::time::sleep(STAYS));
        };
        tokio::select! {
            biased;
            _ = signals.next() => {}
            () = stays => {}
        }
    });
}

/// The Machines API, where there is a token for it; one that was told goes first here too.
fn fly(environment: &Environment, told: &Inbox) -> Option<Fly> {
    let of_environment = || Token::new(&environment.fly_token.as_ref()?.1.text()).ok();
    let token = told.token().or_else(of_environment)?;
    let app = environment.app.as_ref()?.value.to_str()?.parse().ok()?;
    let fly = Fly::new(&environment.machines_api(), app, token).ok()?;
    Some(fly.patient(STAYS))
}

/// Says again what an orchestrator here said, from a place on.
pub(crate) fn events(args: &EventsArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let directory = directory(environment);
    match journal::since(directory, args.since) {
        Ok(events) => {
            for event in &events {
                reporter.event(event);
            }
            ExitCode::SUCCESS
        }
        Err(error) => run::refused(errors::no_journal(directory, &error), reporter),
    }
}

/// Leaves what comes on standard input for an orchestrator here.
pub(crate) fn tell(environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let directory = directory(environment).to_owned();
    local::command("tell", None, reporter, move |_| {
        told::leave(&directory, io::stdin().lock()).map_err(|error| errors::told(&directory, &error))
    })
}

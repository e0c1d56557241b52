//! `flyhot orchestrate`: a rollout of the release in this machine's image, for somebody who is elsewhere and may go away.
//!
//! Nothing is decided here about nodes, [`crate::roll`] does. Every event is kept in a file ([`Journal`]), which `flyhot events` reads,
//! and what `flyhot tell` brings lies beside it ([`Inbox`]). Nobody has to read or tell anything: the rollout comes to its end without.

mod journal;
mod told;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flyhot_events::{Event, ExitCode};
use flyhot_fleet::{Fly, MachineId, Token};

use crate::cli::NodeArgs;
use crate::cli::events::EventsArgs;
use crate::cli::orchestrate::OrchestrateArgs;
use crate::drive::NodeError;
use crate::errors;
use crate::interrupt;
use crate::local;
use crate::options::{Environment, IN_IMAGE, Secret};
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
        Opened::Busy => {
            let error = errors::orchestrated(directory);
            let kind = error.kind;
            reporter.event(&error.event(None));
            return run::over(Some(kind), reporter);
        }
        Opened::Failed(error) => {
            unkept = Some(error);
            None
        }
    };
    let mut code_id = None;
    let mut emit = |event: Event| {
        if let Event::Pointer { artifact, .. } = &event {
            code_id = Some(artifact.code_id.clone());
        }
        let failed = journal.as_mut().and_then(|journal| journal.keep(&event));
        reporter.event(&event);
        // A disk that is full stays so: it is said once.
        if let Some(error) = unkept.take().or(failed) {
            reporter.event(&errors::unkept(directory, &error).event(None));
        }
    };
    let told = Inbox::of(directory);
    let exit_code = match release(args.release.as_deref(), environment) {
        Ok(release) => {
            let nodes = NodeArgs {
                reach: args.reach.clone(),
                release,
                down: false,
                how: args.how.clone(),
            };
            let afar = Afar {
                told: &told,
                signs: args.await_signature,
                image: environment
                    .image
                    .as_ref()
                    .map(|image| image.to_string_lossy().into_owned()),
            };
            let mut environment = environment.clone();
            // Without one the machines of the app cannot be asked for, which is said there.
            if args.reach.inventory.is_some() && environment.fly_token.is_none() {
                let awaited = told.awaited_token();
                environment.fly_token = awaited.map(|token| ("`flyhot tell`", Secret(token.expose().into())));
            }
            roll::afar(nodes, &args.out, &afar, &environment, &mut emit)
        }
        Err(error) => {
            let kind = error.kind;
            emit(error.event(None));
            let outcome = run::outcome(Some(kind));
            let exit_code = outcome.exit_code;
            emit(Event::Outcome(outcome));
            exit_code
        }
    };
    farewell(environment, &told, exit_code, code_id.as_deref());
    exit_code
}

/// The release of this image.
fn release(given: Option<&Path>, environment: &Environment) -> Result<PathBuf, NodeError> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    if let Some(root) = &environment.release_root {
        return Ok(root.into());
    }
    let places = [std::env::current_dir().unwrap_or_default(), IN_IMAGE.into()];
    let found = places
        .iter()
        .find(|place| place.join("releases/start_erl.data").is_file());
    found.cloned().ok_or_else(|| errors::no_release_here(&places))
}

/// On a machine that goes with this process: labels it with how it ended, and stays until that was read.
fn farewell(environment: &Environment, told: &Inbox, exit_code: ExitCode, code_id: Option<&str>) {
    let Some(machine) = &environment.machine else {
        return;
    };
    let Ok((runtime, mut signals)) = interrupt::runtime() else {
        return;
    };
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

/// The Machines API, where there is a token for it.
fn fly(environment: &Environment, told: &Inbox) -> Option<Fly> {
    let token = match &environment.fly_token {
        Some((_, token)) => Token::new(&token.text()).ok()?,
        None => told.token()?,
    };
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
        Err(error) => {
            let error = errors::no_journal(directory, &error);
            let kind = error.kind;
            reporter.event(&error.event(None));
            run::over(Some(kind), reporter)
        }
    }
}

/// Leaves what comes on standard input for an orchestrator here.
pub(crate) fn tell(environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let directory = directory(environment).to_owned();
    local::command("tell", None, reporter, move |_| {
        told::leave(&directory, io::stdin().lock()).map_err(|error| errors::told(&directory, &error))
    })
}

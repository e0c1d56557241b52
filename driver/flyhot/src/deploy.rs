//! `flyhot deploy`: an image, a machine of it that upgrades all others, and somebody here who follows.
//!
//! No node is asked anything from here and no store: the machine does that ([`crate::orchestrate`]), and comes to its end whether or
//! not anybody follows. What can be refused is refused before anything is built or made. Never is there a second machine at work for
//! one deploy: it is made under a name of its own without being started, and started once.

mod follow;
mod memory;
mod order;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flyhot_artifact::PrivateKey;
use flyhot_events::{Event, ExitCode, Outcome};
use flyhot_fleet::{Created, Ephemeral, Fly, FlyError, Reach, State, Token};

use crate::build;
use crate::cli::deploy::{DeployArgs, Mode};
use crate::doctor;
use crate::drive::NodeError;
use crate::errors;
use crate::interrupt::Signals;
use crate::local;
use crate::options::{self, Environment};
use crate::report::Reporter;
use crate::run::{self, apart};

use follow::Following;
pub(crate) use memory::memory_mb;
use order::Order;
pub(crate) use order::{PROGRAM, env, orchestrate, store_words};

/// What machines of orchestrators are labelled with, beside the id of their deploy.
const LABEL: &str = "flyhot_orchestrator";

/// A machine with that label that does not run is what a deploy left that died before it could start it: from making it to starting
/// it takes a minute or two.
const DEAD: Duration = Duration::from_secs(600);

/// How long nobody else may change the machine, until it runs; it is renewed where its image takes longer.
const LEASE: Duration = Duration::from_secs(30);

/// Between two tries to start a machine whose lease nobody knows.
const AGAIN: Duration = Duration::from_secs(2);

/// How long it may take to be ready, and then to run.
const READY: Duration = Duration::from_secs(120);
const STARTED: Duration = Duration::from_secs(60);

/// Performs it.
pub(crate) fn command(args: &DeployArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let done = local::whole("deploy", None, reporter, async |mut signals, reporter| {
        perform(args, environment, &mut signals, reporter).await
    });
    match done {
        Ok(Some(outcome)) => {
            let exit_code = outcome.exit_code;
            reporter.event(&Event::Outcome(outcome));
            exit_code
        }
        Ok(None) => run::over(None, reporter),
        Err(kind) => run::over(Some(kind), reporter),
    }
}

/// What became of the rollout; `None` where there was to be none.
async fn perform(
    args: &DeployArgs,
    environment: &Environment,
    signals: &mut Signals,
    reporter: &mut Reporter,
) -> Result<Option<Outcome>, NodeError> {
    if args.mode == Mode::BlueGreen {
        return Err(errors::blue_green());
    }
    let usage = |error| errors::options(&error);
    let key = args
        .key_file
        .as_deref()
        .map(options::private_key)
        .transpose()
        .map_err(usage)?;
    let mut order = Order::new(args, environment)?;
    let told = environment.clone();
    let token = heeding(
        signals,
        apart(move || options::token(&told).map_err(|error| errors::options(&error.into()))),
    )
    .await?;
    let fly = |error: FlyError| errors::fly(&error);
    let app = order.app.parse().map_err(fly)?;
    let client = Fly::new(&environment.machines_api(), app, token.clone()).map_err(fly)?;
    heeding(signals, async { client.app().await.map_err(fly) }).await?;
    reporter.event(&order.said(args.dry_run));
    let told = heeding(signals, async {
        Ok(doctor::no_store(&client, order.store, order.env.keys()).await)
    });
    if let Some(warning) = told.await? {
        reporter.event(&warning);
    }
    if args.dry_run {
        return Ok(None);
    }
    let image = match (order.image.take(), order.build.take()) {
        (Some(image), _) => image,
        (None, None) => return Err(errors::panicked("neither an image nor a build")),
        (None, Some(mut build)) => {
            build.secrets.push(options::Secret(token.expose().into()));
            let work =
                move |talk: &local::Talk| build::build(&build, talk).map_err(|error| errors::build(&error));
            local::perform(work, signals, reporter).await?
        }
    };
    let errand = Errand {
        region: order.region,
        image,
        command: order.command,
        env: order.env,
        memory_mb: order.memory_mb,
        app: order.app,
    };
    send(&client, errand, key.as_ref(), &token, signals, reporter)
        .await
        .map(Some)
}

/// What an orchestrator is made for.
pub(crate) struct Errand {
    pub(crate) app: String,
    /// Where; elsewhere Fly decides.
    pub(crate) region: Option<String>,
    pub(crate) image: String,
    /// What it runs.
    pub(crate) command: Vec<String>,
    /// Its environment, beside the secrets of the app.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) memory_mb: u32,
}

/// Makes an orchestrator, starts it once, and follows it to its outcome.
pub(crate) async fn send(
    client: &Fly,
    errand: Errand,
    key: Option<&PrivateKey>,
    token: &Token,
    signals: &mut Signals,
    reporter: &mut Reporter,
) -> Result<Outcome, NodeError> {
    let id = build::unique()
        .map_err(|error| errors::build(&error))?
        .to_string();
    let Errand { app, image, .. } = errand;
    let what = Ephemeral {
        name: format!("flyhot-{}", id.to_lowercase()),
        region: errand.region,
        image: image.clone(),
        command: errand.command,
        env: errand.env,
        label: (LABEL.to_owned(), id.clone()),
        memory_mb: errand.memory_mb,
        lease: LEASE,
    };
    heeding(signals, tidy(client, &id)).await?;
    let created = heeding(signals, create(client, what)).await?;
    let machine = created.machine.id.clone();
    reporter.event(&Event::Orchestrator {
        app: app.clone(),
        machine: machine.to_string(),
        name: created.machine.name.clone(),
        region: created.machine.region.clone(),
        image: image.clone(),
    });
    let following = Following::new(client, &app, machine, image, errand.memory_mb);
    // From here on it may run, and a signal asks it and not this.
    start(client, created, &following, signals).await?;
    following.to_the_end(key, token, signals, reporter).await
}

/// Does something that begins nothing, until a signal.
pub(crate) async fn heeding<T>(
    signals: &mut Signals,
    work: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, NodeError> {
    tokio::select! {
        biased;
        signal = signals.next() => Err(errors::not_deployed(signal)),
        done = work => done,
    }
}

/// Removes what deploys that died left behind.
async fn tidy(fly: &Fly, id: &str) -> Result<(), NodeError> {
    let removed = fly.remove_dead(LABEL, id, DEAD).await;
    // One that stays is nobody's business now: it does not run, and the next deploy finds it again.
    removed.map(|_| ()).map_err(|error| errors::fly(&error))
}

/// Makes the machine; elsewhere where there is no room.
async fn create(fly: &Fly, mut what: Ephemeral) -> Result<Created, NodeError> {
    let mut made = fly.create(&what).await;
    if let Err(FlyError::NoRoom { .. }) = made
        && what.region.take().is_some()
    {
        made = fly.create(&what).await;
    }
    made.map_err(|error| errors::fly(&error))
}

/// Starts the machine; one that was not started is removed.
async fn start(
    fly: &Fly,
    created: Created,
    following: &Following<'_>,
    signals: &mut Signals,
) -> Result<(), NodeError> {
    let Created { machine, mut lease } = created;
    let ready = heeding(signals, async {
        // It is stopped as soon as its image is there; what is not so in time the start says better.
        match fly.wait(&machine.id, Reach::Stopped, READY).await {
            Ok(()) | Err(FlyError::NotReached { .. }) => Ok(()),
            Err(error) => Err(errors::fly(&error)),
        }
    })
    .await;
    if let Err(error) = ready {
        // If that fails too, it does not run, and the next deploy removes it.
        let _ = fly.destroy(&machine.id, lease.as_ref()).await;
        return Err(error);
    }
    let lost = match &mut lease {
        Some(lease) if lease.due().is_zero() => fly.renew(lease).await.is_err(),
        _ => false,
    };
    let lease = lease.filter(|_| !lost);
    let unheard = Instant::now() + LEASE + AGAIN;
    let runs = loop {
        match fly.start(&machine.id, lease.as_ref(), READY).await {
            // Where the answer was lost by which it was made, its lease is its own and nobody knows it: it is over soon.
            Err(FlyError::Held { .. }) if lease.is_none() && Instant::now() < unheard => {}
            Ok(()) => break fly.wait(&machine.id, Reach::Started, STARTED).await,
            Err(error) => break Err(error),
        }
        let pause = async {
            tokio::time::sleep(AGAIN).await;
            Ok(())
        };
        if let Err(error) = heeding(signals, pause).await {
            let _ = fly.destroy(&machine.id, None).await;
            return Err(error);
        }
    };
    if let Some(lease) = lease {
        // A lease that stays keeps `flyhot events` out until it ends by itself.
        let _ = fly.release(lease).await;
    }
    match runs {
        Ok(()) => Ok(()),
        // Its work was short: what became of it stands where it is looked for next.
        Err(FlyError::Ended { .. } | FlyError::NotReached { .. } | FlyError::Absent { .. }) => Ok(()),
        Err(error) => match fly.machine(&machine.id).await {
            Ok(machine) if matches!(machine.state, State::Created | State::Stopped) => {
                let _ = fly.destroy(&machine.id, None).await;
                Err(errors::fly(&error))
            }
            // It may be at work.
            _ => Err(following.lost(&error)),
        },
    }
}

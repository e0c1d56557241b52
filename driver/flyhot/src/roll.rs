//! `flyhot rollout` and `flyhot rollback`: an upgrade of nodes under the lock of their app, known to a store.
//!
//! Before any node is touched the lock is held, the artifact lies in the store, and so does what the nodes were started with. Nothing is
//! written to pointer or lock by one who lost the lock, and no node is begun.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flyhot_artifact::{Examined, Limits, PrivateKey, Release, Told};
use flyhot_events::{Event, ExitCode, Step, Unit};
use flyhot_rollout::{Happened, OnFailure, Settings, Stands};
use flyhot_store::{
    Artifacts as _, Generation, Home, Moved, Rollout, SHORTEST_LEASE, Target, Terms, Way, Who,
    keeps_conditions, take,
};

use crate::artifacts;
use crate::boot::{self, PlaceError};
use crate::check::Check;
use crate::cli::rollback::RollbackArgs;
use crate::cli::rollout::{OutArgs, RolloutArgs};
use crate::cli::waves::WaveArgs;
use crate::cli::{FleetArgs, LockTermsArgs, NodeArgs};
use crate::clock::since_us;
use crate::doctor;
use crate::drive::{self, NodeError};
use crate::errors;
use crate::fleet::{self, Fleet, Made};
use crate::interrupt::{self, Signals, Watch};
use crate::inventory::{self, Again, All, Leases};
use crate::ledger::{Command, Ledger};
use crate::options::{
    self, Direction, Environment, Options, OptionsError, Peer, Place, WayBackNeeded, plain_image,
};
use crate::orchestrate::Inbox;
use crate::report::Reporter;
use crate::run::{self, Finished};
use crate::waves::{self, Course, Halt, Leg, Machines};

/// How long the end of a rollout may go on after a signal: a store that answers needs a second for all of it.
const HEED: Duration = Duration::from_secs(10);

/// How often it is asked who else is there by now, and who runs the release no more: each time that somebody was found, since they took
/// a while. Whom the last one finds is taken over no more, and the fleet is no success: autoscaling that starts machines all the time has
/// to come to an end for this one.
const LOOKS: u32 = 4;

/// What is rolled.
enum What<'a> {
    Out(&'a OutArgs),
    /// Back to this, or to what was there before.
    Back(Option<&'a str>),
}

/// What a rollout has to do with somebody who is elsewhere.
pub(crate) struct Afar<'a> {
    /// What they tell.
    pub(crate) told: &'a Inbox,
    /// Whether they sign.
    pub(crate) signs: bool,
    /// The image that the release came with.
    pub(crate) image: Option<String>,
}

/// Performs a rollout.
pub(crate) fn out(args: &RolloutArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let work = Work {
        what: What::Out(&args.out),
        key: args.key_file.as_deref(),
        afar: None,
        waves: args.out.waves.clone(),
        nodes: args.shared.clone(),
        fleet: &args.out.fleet,
        environment,
    };
    command("rollout", work, &mut |event| reporter.event(&event))
}

/// Performs one for somebody who is elsewhere.
pub(crate) fn afar(
    nodes: NodeArgs,
    args: &OutArgs,
    afar: &Afar<'_>,
    environment: &Environment,
    reporter: &mut Reporter,
) -> ExitCode {
    let work = Work {
        what: What::Out(args),
        key: None,
        afar: Some(afar),
        waves: args.waves.clone(),
        nodes,
        fleet: &args.fleet,
        environment,
    };
    command("orchestrate", work, &mut |event| reporter.event(&event))
}

/// Performs a rollback.
pub(crate) fn back(args: &RollbackArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let nodes = NodeArgs {
        reach: args.reach.clone(),
        // What the store has is unpacked there.
        release: Path::new("release").to_owned(),
        down: true,
        how: args.how.clone(),
    };
    let work = Work {
        what: What::Back(args.to.as_deref()),
        key: None,
        afar: None,
        waves: args.waves.clone(),
        nodes,
        fleet: &args.fleet,
        environment,
    };
    command("rollback", work, &mut |event| reporter.event(&event))
}

fn command(name: &str, work: Work<'_>, emit: &mut dyn FnMut(Event)) -> ExitCode {
    let begun = interrupt::runtime();
    let nodes = &work.nodes;
    let mut ledger = Ledger::new(Command::Roll, nodes.reach.node.iter().cloned());
    emit(Event::Started {
        command: name.to_owned(),
        nodes: nodes.reach.node.clone(),
        release: match work.what {
            What::Out(_) => Some(nodes.release.display().to_string()),
            What::Back(_) => None,
        },
        policy: nodes.how.work.policy_path(),
        flyhot: crate::VERSION.to_owned(),
    });
    run::to_the_end(&mut ledger, emit, |ledger, emit| {
        run::in_runtime(begun, ledger, emit, async |signals, ledger, emit| {
            if let Err(error) = work.perform(signals, ledger, emit).await {
                run::abort(ledger, emit, error);
            }
        });
    })
}

/// Whoever signs what is put into the store.
enum Signer<'a> {
    Nobody,
    Key(PrivateKey),
    /// Somebody who is elsewhere, and has the key.
    Elsewhere(&'a Inbox),
}

impl Signer<'_> {
    async fn sign(&self, made: &mut Made, emit: &mut dyn FnMut(Event)) -> Result<(), NodeError> {
        let manifest = made.target.manifest_digest;
        made.target.signature = match self {
            Self::Nobody => None,
            Self::Key(key) => Some(key.sign(manifest).map_err(|error| errors::runtime(&error))?),
            Self::Elsewhere(told) => {
                emit(Event::ToSign {
                    manifest_digest: manifest.to_string(),
                });
                Some(told.signature(manifest).await?)
            }
        };
        Ok(())
    }
}

struct Work<'a> {
    what: What<'a>,
    key: Option<&'a Path>,
    afar: Option<&'a Afar<'a>>,
    nodes: NodeArgs,
    waves: WaveArgs,
    fleet: &'a FleetArgs,
    environment: &'a Environment,
}

impl Work<'_> {
    async fn perform(
        mut self,
        signals: &mut Signals,
        ledger: &mut Ledger,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), NodeError> {
        let usage = |error: OptionsError| errors::options(&error);
        let place = tokio::select! {
            biased;
            signal = signals.next() => return Err(errors::interrupted(signal, &[], false)),
            place = boot::place_here(&self.fleet.home, self.environment) => place?.map_err(PlaceError::told)?,
        };
        let said = options::mix(self.environment).map_err(|error| usage(error.into()))?;
        self.waves = self.waves.or(&said.config);
        let terms = terms(&self.fleet.lock)?;
        let signer = match (self.key, self.afar) {
            (Some(file), _) => Signer::Key(options::private_key(file).map_err(usage)?),
            (
                None,
                Some(Afar {
                    signs: true, told, ..
                }),
            ) => Signer::Elsewhere(told),
            (None, _) => Signer::Nobody,
        };
        // It is taken away unless the command is killed.
        let scratch = tempfile::Builder::new()
            .prefix(".flyhot-")
            .tempdir()
            .map_err(|error| errors::unwritten(&std::env::temp_dir(), &error))?;
        if let What::Back(_) = self.what {
            self.nodes.release = scratch.path().join("release");
            fs::create_dir(&self.nodes.release)
                .map_err(|error| errors::unwritten(&self.nodes.release, &error))?;
        }
        let store = place.open().await;
        let mut fleet: Option<Fleet<'_>> = None;
        run::heed(signals, ledger, emit, async |watch, ledger, emit| {
            let begun = Box::pin(self.begin(
                &place,
                &store,
                terms,
                &signer,
                scratch.path(),
                &mut fleet,
                ledger,
                emit,
            ))
            .await;
            match (begun, &mut fleet) {
                (Ok((course, forth)), Some(fleet)) => {
                    let place = scratch.path();
                    Box::pin(self.roll(&course, forth, place, fleet, watch, ledger, emit)).await
                }
                (Ok(_), None) => Finished::No,
                (Err(error), _) => {
                    run::abort(ledger, emit, error);
                    Finished::Yes
                }
            }
        })
        .await;
        if let Some(fleet) = fleet {
            let given_up = async {
                let first = signals.next().await;
                tokio::select! {
                    second = signals.next() => second,
                    () = tokio::time::sleep(HEED) => first,
                }
            };
            let signal = tokio::select! {
                biased;
                () = fleet.end(ledger, emit) => None,
                signal = given_up => Some(signal),
            };
            if let Some(signal) = signal {
                run::abort(ledger, emit, errors::unanswered(signal));
            }
        }
        Ok(())
    }

    /// Takes the nodes over, and back where that is to be.
    #[expect(clippy::too_many_arguments, reason = "what a command has at hand, each once")]
    async fn roll(
        &self,
        course: &Course,
        forth: Leg,
        scratch: &Path,
        fleet: &mut Fleet<'_>,
        watch: &Watch,
        ledger: &mut Ledger,
        emit: &mut dyn FnMut(Event),
    ) -> Finished {
        ledger.rolls(course.settings.clone());
        let (mut leg, mut turned) = (forth, false);
        // Where the store says nothing of an image, machines begin with the disk that they had.
        let mut warns = fleet.rollout.pointer().base_image.is_some();
        let mut asleep = Vec::new();
        let finished = loop {
            match waves::go(course, &leg, fleet, watch, ledger, emit).await {
                Halt::Over => break Finished::Yes,
                Halt::Asked => break Finished::No,
                Halt::Look => {
                    let machines = fleet.machines.clone();
                    let base = fleet.rollout.pointer().base_image.clone();
                    let looking = async {
                        let again = match &machines {
                            Some(machines) => {
                                // Nobody may run a command on a machine that is leased, by us as well.
                                machines.leases.end().await;
                                inventory::again(&machines.fly, &mut leg, ledger, emit).await
                            }
                            None => Ok(Again::default()),
                        };
                        // Whatever ends this look: whoever was started anew since is not told as taken over.
                        let nobody = HashSet::new();
                        let started = again.as_ref().map_or(&nobody, |again| &again.started);
                        let unbooted = waves::once_more(course, &leg, started, ledger, emit).await;
                        if let [first, others @ ..] = &unbooted[..]
                            && std::mem::replace(&mut warns, false)
                        {
                            emit(doctor::unbooted(first, others.len()));
                        }
                        let again = again?;
                        asleep = again.asleep;
                        let Some(machines) = &machines else {
                            return Ok(());
                        };
                        // A `fly deploy` may have come between.
                        let others = || inventory::none_replaced(&machines.images, &again.images);
                        match self.what {
                            What::Out(OutArgs { base: Some(_), .. }) => Ok(()),
                            What::Out(_) => {
                                let nodes = &leg.options.reach.nodes;
                                inventory::still_of(nodes, base.as_deref()).and_then(|()| others())
                            }
                            What::Back(_) => others(),
                        }
                    };
                    match Box::pin(fleet.beside(looking)).await {
                        Ok(()) => {
                            let before = ledger.first();
                            ledger.happened(Happened::Looked);
                            if let (None, Some(kind)) = (before, ledger.first()) {
                                emit(errors::restless(kind, LOOKS).event(None));
                            }
                        }
                        Err(error) => {
                            ledger.happened(Happened::Stop(error.kind));
                            emit(error.event(None));
                        }
                    }
                    continue;
                }
                Halt::Turn => turned = true,
            }
            match self.turn(&leg.options, scratch, fleet, emit).await {
                Ok(back) => {
                    leg = back;
                    ledger.happened(Happened::Ready);
                }
                Err(error) => {
                    ledger.happened(Happened::Stop(error.kind));
                    emit(error.event(None));
                }
            }
        };
        if turned {
            ledger.nobody_goes_back();
        }
        if ledger.is_deserted() {
            let (app, all) = (fleet.place.app.to_string(), leg.options.reach.nodes.len());
            emit(errors::no_machine(&app, all).event(None));
        } else if !turned
            // Whoever rolls back once more goes further back.
            && let Some(event) = doctor::suspended(&asleep, matches!(self.what, What::Out(_)))
        {
            emit(event);
        }
        finished
    }

    /// What nodes go back to, and how.
    async fn turn(
        &self,
        forth: &Options,
        scratch: &Path,
        fleet: &mut Fleet<'_>,
        emit: &mut dyn FnMut(Event),
    ) -> Result<Leg, NodeError> {
        let release = scratch.join("before");
        fs::create_dir(&release).map_err(|error| errors::unwritten(&release, &error))?;
        let options = Options {
            release,
            direction: match forth.direction {
                Direction::Up => Direction::Down,
                Direction::Down => Direction::Up,
            },
            // It is asked of the code that is left; and whatever way there is, is taken.
            gate: None,
            watch: None,
            way_back: WayBackNeeded::Any,
            ..forth.clone()
        };
        let target = fleet.rollout.pointer().committed().cloned();
        let target = target.ok_or_else(errors::nothing_before)?;
        let release = bring(&target, &options, self.environment, scratch, fleet, emit).await?;
        Ok(Leg { options, release })
    }

    /// Everything before the first node.
    #[expect(clippy::too_many_arguments, reason = "what a command has read, each once")]
    async fn begin<'a>(
        &self,
        place: &'a Place,
        store: &'a Home,
        terms: Terms,
        signer: &Signer<'_>,
        scratch: &Path,
        fleet: &mut Option<Fleet<'a>>,
        ledger: &mut Ledger,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(Course, Leg), NodeError> {
        let mut options = run::options(&self.nodes, &self.fleet.home, self.environment).await?;
        let release = match self.what {
            What::Out(_) => Some(run::read(&options.release, emit).await?),
            What::Back(_) => None,
        };
        let name = release.as_ref().map(|release| release.name.as_str());
        let all = inventory::all(&mut options.reach, name, ledger, emit).await?;
        let machines_image = match self.what {
            What::Out(OutArgs { base: None, .. }) => inventory::base_image(&options.reach.nodes)?,
            _ => None,
        };
        let check = match self.environment.check_url(self.waves.check_url.as_deref()) {
            Some(url) => Some(Check::new(
                &url,
                options.reach.nodes.iter().map(|peer| &peer.name),
                all.as_ref().map_or(0, |all| all.left),
            )?),
            None => None,
        };
        let made = match release {
            Some(release) => {
                let mut made = fleet::pack(release.clone(), scratch, emit).await?;
                made.target.source_image = self.afar.and_then(|afar| afar.image.clone());
                signer.sign(&mut made, emit).await?;
                Some((release, made))
            }
            None => None,
        };
        let purpose = match (&made, &self.what) {
            (Some((release, _)), _) => format!("rollout of {}", release.version),
            (None, What::Back(Some(to))) => format!("rollback to {to}"),
            (None, _) => "rollback".to_owned(),
        };
        let who = who(self.environment, purpose.clone());
        keeps_conditions(store, &place.app)
            .await
            .map_err(|error| errors::store(&error))?;
        let locking = async {
            let lock = take(store, &place.app, who.clone(), terms)
                .await
                .map_err(|error| errors::lock(&error))?;
            // The lock may have been waited for while somebody else deployed.
            if let (Some(all), Some(_)) = (&all, &machines_image)
                && let Err(error) = inventory::all_unreplaced(&all.fly, &all.images).await
            {
                // It goes with its lease if it cannot be let go.
                let _ = lock.release().await;
                return Err(error);
            }
            let (base, generation) = match self.what {
                What::Out(args) => match &args.base {
                    Some(base) if args.new_base => (Some(plain_image(base).to_owned()), Generation::New),
                    Some(base) => (Some(plain_image(base).to_owned()), Generation::Same),
                    // Where all machines have another image than the pointer, it is of machines that are gone.
                    None => (machines_image, Generation::New),
                },
                What::Back(_) => (None, Generation::Same),
            };
            Rollout::new(store, &place.app, lock, base, generation)
                .await
                .map_err(|error| errors::rollout(&error))
        };
        emit(Event::StepStarted {
            node: None,
            step: Step::Lock,
        });
        let began = Instant::now();
        let rollout = locking.await?;
        emit(Event::StepDone {
            node: None,
            step: Step::Lock,
            duration_us: since_us(began),
            count: 1,
            unit: Unit::Attempts,
        });
        let fleet = fleet.insert(Fleet::new(place, store, rollout));
        let machines = all.map(|All { fly, images, .. }| {
            let leases = Leases::new(Arc::clone(&fly), &format!("flyhot: {purpose}"));
            Rc::new(Machines { fly, leases, images })
        });
        fleet.machines.clone_from(&machines);
        let (release, target, way) = match made {
            Some((release, made)) => {
                let goes_back = matches!(self.what, What::Out(args) if !args.no_rollback);
                self.is_taken(&made.target, goes_back, fleet).await?;
                if fleet.rollout.pointer().committed().is_none() {
                    save_base(&options, scratch, signer, fleet, emit).await?;
                }
                made.upload(fleet, emit).await?;
                (release, made.target, Way::Rollout)
            }
            None => {
                let to = match self.what {
                    What::Back(to) => to,
                    What::Out(_) => None,
                };
                let pointer = fleet.rollout.pointer();
                let others = inventory::are_of(&options.reach.nodes, pointer.base_image.as_deref())?;
                if let Some(event) = doctor::of_other_images(&others) {
                    emit(event);
                }
                let target = pointer
                    .back_to(to)
                    .map_err(|error| errors::rollout(&error.into()))?
                    .clone();
                let release = bring(&target, &options, self.environment, scratch, fleet, emit).await?;
                (release, target, Way::Rollback)
            }
        };
        let accepted = options
            .accept
            .iter()
            .map(|(code, why)| (code.to_string(), why.clone()));
        let audit = fleet::audit(fleet, who, way, target, accepted);
        fleet.begin(audit, emit).await?;
        let course = Course {
            settings: self.settings(fleet, &options),
            timeout: self.waves.timeout,
            began: Instant::now(),
            check,
            machines,
            old: fleet.rollout.pointer().committed().map(|target| target.code_id),
            starts: RefCell::default(),
            unproven: !fleet.is_unchanged(),
            windows: RefCell::default(),
        };
        Ok((course, Leg { options, release }))
    }

    /// Whether machines that start anew will take the release, and nodes that are to go back what was committed before: neither is found
    /// out only when it is needed.
    async fn is_taken(&self, to: &Target, goes_back: bool, fleet: &mut Fleet<'_>) -> Result<(), NodeError> {
        let trust = options::trust(self.environment).map_err(|error| errors::options(&error))?;
        let pointer = fleet.rollout.pointer();
        // One that is signed already stays so.
        let there = pointer.target.as_ref().filter(|there| there.digest == to.digest);
        let signature = to.signature.as_ref().or_else(|| there?.signature.as_ref());
        trust
            .judge(to.manifest_digest, signature)
            .map_err(|error| errors::not_taken(to, &error))?;
        let committed = pointer
            .committed()
            .filter(|before| goes_back && before.digest != to.digest);
        let Some(before) = committed.cloned() else {
            return Ok(());
        };
        trust
            .judge(before.manifest_digest, before.signature.as_ref())
            .map_err(|error| errors::no_way_back(&before, &error))?;
        let (app, store) = (&fleet.place.app, fleet.store);
        let stored = fleet.beside(store.artifacts(app)).await;
        let stored = stored.map_err(|error| errors::store(&error))?;
        if stored.iter().any(|artifact| artifact.digest == before.digest) {
            Ok(())
        } else {
            Err(errors::no_artifact_before(&before))
        }
    }

    fn settings(&self, fleet: &Fleet<'_>, options: &Options) -> Settings {
        let back = match self.what {
            // What was committed before is the release itself: there is nothing to go back to.
            What::Out(args) => !args.no_rollback && !fleet.is_unchanged(),
            // Whoever goes back does not want to run what was there.
            What::Back(_) => false,
        };
        let waves = &self.waves;
        let watched = options.watch.map(|watch| watch.span).unwrap_or_default();
        Settings {
            canary: waves.canary.then_some(waves.bake),
            at_once: waves.at_once(options::MAX_CONCURRENCY),
            on_failure: if back { OnFailure::GoBack } else { OnFailure::Stay },
            limit: waves.timeout.map(|limit| limit.saturating_add(watched)),
            looks: LOOKS,
            from: if fleet.is_torn() {
                Stands::Before
            } else {
                Stands::Old
            },
        }
    }
}

/// Copies what the first node was started with that is not left to boot: the node, and where it lies.
async fn copy_base<'o>(
    options: &'o Options,
    scratch: &Path,
    fleet: &mut Fleet<'_>,
    emit: &mut dyn FnMut(Event),
) -> Result<Option<(&'o Peer, PathBuf)>, NodeError> {
    let fly = fleet.machines.as_ref().map(|machines| Arc::clone(&machines.fly));
    let mut failed = None;
    for (at, peer) in options.reach.nodes.iter().enumerate() {
        let directory = scratch.join(format!("base-{at}"));
        let moved = Moved::default();
        let copying = Box::pin(drive::base(peer, &directory, &moved));
        let copied = fleet.beside(fleet::step(Step::SaveBase, &moved, copying, emit));
        let Err(error) = copied.await else {
            return Ok(Some((peer, directory)));
        };
        if fleet
            .beside(inventory::left_to_boot(fly.as_deref(), peer))
            .await
            .is_none()
        {
            return Err(error);
        }
        failed = Some(error);
    }
    failed.map_or(Ok(None), Err)
}

/// Saves what the nodes were started with, so that there is a way back beyond the first rollout.
async fn save_base(
    options: &Options,
    scratch: &Path,
    signer: &Signer<'_>,
    fleet: &mut Fleet<'_>,
    emit: &mut dyn FnMut(Event),
) -> Result<(), NodeError> {
    let Some((peer, directory)) = copy_base(options, scratch, fleet, emit).await? else {
        return Ok(());
    };
    let release = run::read(&directory, emit)
        .await
        .map_err(|error| errors::no_base(&peer.name, &error.message))?;
    // The release may be of the same code: its artifact has the same name, and other bytes.
    let aside = scratch.join("aside");
    fs::create_dir(&aside).map_err(|error| errors::unwritten(&aside, &error))?;
    let made = async {
        let mut made = fleet::pack(release, &aside, emit).await?;
        signer.sign(&mut made, emit).await?;
        Ok::<_, NodeError>(made)
    };
    let made = fleet.beside(made).await?;
    made.upload(fleet, emit).await?;
    fleet.commit_base(made.target).await
}

/// Brings an artifact from the store, if this machine takes it, and unpacks it.
async fn bring(
    target: &Target,
    options: &Options,
    environment: &Environment,
    scratch: &Path,
    fleet: &mut Fleet<'_>,
    emit: &mut dyn FnMut(Event),
) -> Result<Release, NodeError> {
    let trust = options::trust(environment).map_err(|error| errors::options(&error))?;
    let file = scratch.join(format!("{}.tar.gz", target.digest));
    let moved = Arc::new(Moved::default());
    let (app, store) = (&fleet.place.app, fleet.store);
    let fetching = async {
        let there = store
            .fetch(app, target.digest, &file, &moved)
            .await
            .map_err(|error| errors::store(&error))?;
        if there {
            Ok(())
        } else {
            Err(errors::no_artifact(target))
        }
    };
    fleet
        .beside(fleet::step(Step::Fetch, &moved, fetching, emit))
        .await?;
    let (from, to, signature) = (file.clone(), options.release.clone(), target.signature.clone());
    let work = move |told: Told<'_>| {
        let opened = fs::File::open(&from).map_err(|error| errors::unread(&from, &error))?;
        flyhot_artifact::unpack(opened, &to, &trust, signature.as_ref(), &Limits::default(), told)
            .map_err(|error| errors::artifact(&from, &error))
    };
    let examined: Examined = fleet.beside(fleet::step_apart(Step::Unpack, work, emit)).await?;
    if examined.manifest_digest != target.manifest_digest {
        return Err(errors::other_manifest(target));
    }
    emit(artifacts::told(&file, &examined, None, None));
    run::read(&options.release, emit).await
}

/// How to go about the lock.
pub(crate) fn terms(args: &LockTermsArgs) -> Result<Terms, NodeError> {
    if args.lock_timeout < SHORTEST_LEASE {
        return Err(errors::short_lease(args.lock_timeout));
    }
    Ok(Terms {
        lease: args.lock_timeout,
        wait: args.lock_wait,
        force: args.force,
    })
}

/// Who this is, for people.
pub(crate) fn who(environment: &Environment, purpose: String) -> Who {
    // Source: proc(5).
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let named = |name: &str| match name.trim() {
        "" => "somebody".to_owned(),
        name => name.to_owned(),
    };
    let user = environment.user.as_ref().map(|user| user.to_string_lossy());
    Who {
        who: named(&user.unwrap_or_default()),
        machine: named(&machine),
        purpose,
    }
}

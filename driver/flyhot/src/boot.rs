//! `flyhot boot`: what a machine does before its release runs.
//!
//! A store is only read here, and what boots is chosen in [`choice`]. Whatever goes wrong on the way to an artifact, the machine
//! boots what its image brings and says so, unless it was told to fail: a fleet loses no machine to a store, and never runs what
//! is damaged or what it does not trust. Everything is said on standard error, since standard output is the command's.

mod choice;
mod disk;
mod evaluate;
mod place;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flyhot_artifact::{ArchiveError, FileDigest, Limits, Manifest, Told, Trusted};
use flyhot_events::{ArtifactTrust, BootWhat, BootWhy, ErrorKind, Event, ExitCode, Step, Unit};
use flyhot_store::{App, Artifacts as _, Home, Moved, Pointer, RolloutError, Store as _, StoreError, Target};
use tokio::runtime::Handle;

use crate::child;
use crate::cli::HomeArgs;
use crate::cli::boot::{BootArgs, OnUnreachable};
use crate::drive::NodeError;
use crate::errors;
use crate::local::{self, Talk};
use crate::options::{self, Environment, Place, plain_image};
use crate::report::Reporter;
use crate::run;

use choice::{Choice, choose};
use disk::{Disk, DiskError, Start};
use evaluate::AskError;
use place::Want;
pub(crate) use place::{PlaceError, has_release, place_here, places};

/// What the release finds in its environment: the code id that it boots, else [`BASE`] or [`AS_IT_IS`]. By it a node says that flyhot
/// started it.
pub(crate) const BOOTED: &str = "FLYHOT_BOOT";

const BASE: &str = "base";
const AS_IT_IS: &str = "as_it_is";

/// How long a store is asked where it is not to be waited for: one that is up answers within a second; five times that.
const PROMPT: Duration = Duration::from_secs(5);

/// Between two tries at a store that failed at once.
const AGAIN: Duration = Duration::from_millis(500);

/// Between two looks at a transfer, and whether a signal came.
const LOOK: Duration = Duration::from_millis(100);

/// How many times as long as a store may be silent a whole transfer may take: ten minutes for half a minute. A health check of a
/// platform gives up before.
const TRANSFER: u32 = 20;

/// A file that is not written to for so long is of a fetch that is no more.
const LEFT: Duration = Duration::from_secs(3600);

/// What is to be done, checked.
struct Order {
    root: PathBuf,
    image: Option<String>,
    on_unreachable: OnUnreachable,
    wait: Duration,
    cache: Option<PathBuf>,
    home: HomeArgs,
    environment: Environment,
}

/// Why an artifact is not booted.
struct Failed {
    why: BootWhy,
    error: NodeError,
}

impl From<DiskError> for Failed {
    fn from(error: DiskError) -> Self {
        let why = match error {
            DiskError::Boot { .. } | DiskError::Foreign(_) => BootWhy::NotUsable,
            DiskError::Read { .. }
            | DiskError::Write { .. }
            | DiskError::NoRelease { .. }
            | DiskError::NoBase { .. }
            | DiskError::Busy { .. } => BootWhy::NotWritten,
        };
        Self {
            why,
            error: disk_error(&error),
        }
    }
}

/// What was asked of the store, as far as it came.
#[derive(Default)]
struct Asked {
    app: Option<String>,
    store: Option<String>,
}

/// An artifact's code, ready to be started.
struct Ready {
    start: Start,
    target: Box<Target>,
    trusted: Trusted,
}

/// Performs the command. Where it goes well this program becomes another one and nothing comes back.
pub(crate) fn command(args: &BootArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let order = order(args, environment);
    let shown = match &order {
        Ok(order) => Some(order.root.clone()),
        Err(_) => args.release.clone(),
    };
    let done = local::through("boot", shown.as_deref(), reporter, move |talk| {
        let booted = boot(&order?, talk)?;
        // What was done is whole; what it was done for is not wanted any more.
        if talk.is_stopped() {
            return Err(errors::stopped("a signal"));
        }
        Ok(booted)
    });
    let exit_code = run::over(done.as_ref().err().copied(), reporter);
    let Ok(booted) = done else {
        return exit_code;
    };
    let [program, words @ ..] = &args.command[..] else {
        return exit_code;
    };
    reporter.hand_over();
    // The environment is handed on as it is but for what is of mix, and what boots; descriptors of flyhot's own end here.
    let error = child::command(program).args(words).env(BOOTED, booted).exec();
    run::refused(errors::not_run(program, &error), reporter)
}

fn order(args: &BootArgs, environment: &Environment) -> Result<Order, NodeError> {
    let name = args.command.first().cloned().unwrap_or_default();
    let program = program(&name, environment).map_err(|error| errors::not_run(&name, &error))?;
    let root = match &args.release {
        Some(root) => root.clone(),
        None => release_of(&program).ok_or_else(|| errors::no_release(&program))?,
    };
    let image = environment
        .image
        .as_ref()
        .map(|image| image.to_string_lossy().into_owned());
    let image = args.base.clone().or(image);
    Ok(Order {
        root,
        image: image.map(|image| plain_image(&image).to_owned()),
        on_unreachable: args.on_unreachable,
        wait: args.wait,
        cache: args.cache.clone(),
        home: args.home.clone(),
        environment: environment.clone(),
    })
}

/// The file that would be run, as `exec` finds it.
fn program(name: &OsString, environment: &Environment) -> io::Result<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return child::executable(Path::new(name));
    }
    let path = environment.path.clone().unwrap_or_default();
    std::env::split_paths(&path)
        .find_map(|place| child::executable(&place.join(name)).ok())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The release whose `bin` a program lies in.
fn release_of(program: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(program).ok()?;
    let root = real.parent().filter(|bin| bin.ends_with("bin"))?.parent()?;
    has_release(root).then(|| root.to_owned())
}

/// What boots, in a word.
fn boot(order: &Order, talk: &Talk) -> Result<String, NodeError> {
    let disk = match Disk::look(&order.root) {
        // It starts by what it has; what that is flyhot cannot tell, and does not change.
        Err(error)
            if order.on_unreachable != OnUnreachable::Fail
                && !matches!(error, DiskError::NoRelease { .. }) =>
        {
            talk.event(disk_error(&error).event(None));
            talk.event(said(
                order,
                &Asked::default(),
                BootWhy::NotWritten,
                &Boots::AsItIs,
                0,
            ));
            return Ok(Boots::AsItIs.word());
        }
        looked => looked.map_err(|error| disk_error(&error))?,
    };
    let mut asked = Asked::default();
    // A machine starts in spite of a bug too.
    let aimed = catch_unwind(AssertUnwindSafe(|| aim(order, &disk, &mut asked, talk)));
    let aimed = aimed.unwrap_or_else(|panic| {
        Err(Failed {
            why: BootWhy::NotUsable,
            error: run::bug(panic.as_ref()),
        })
    });
    let why = match aimed {
        Ok(Aim::Artifact(ready, why)) => match settle(&disk, Some(&ready.start), talk) {
            Ok(files) => {
                forget_others(&order.cache(&disk), &ready.target);
                let boots = Boots::Target(&ready);
                talk.event(said(order, &asked, why, &boots, files));
                return Ok(boots.word());
            }
            Err(error) => failed(order, talk, error.into())?,
        },
        Ok(Aim::Base(why)) => why,
        Err(error) => failed(order, talk, error)?,
    };
    let (boots, files) = match settle(&disk, None, talk) {
        Ok(files) => (Boots::Base(disk.version()), files),
        Err(error) => {
            failed(order, talk, error.into())?;
            // What was tried before may have come as far as to lead there.
            let boots = match Disk::look(&order.root) {
                Ok(now) if !now.is_overlaid() => Boots::Base(disk.version()),
                _ => Boots::AsItIs,
            };
            (boots, 0)
        }
    };
    talk.event(said(order, &asked, why, &boots, files));
    Ok(boots.word())
}

/// Says what went wrong, and goes on with the base where it may.
fn failed(order: &Order, talk: &Talk, failed: Failed) -> Result<BootWhy, NodeError> {
    if order.on_unreachable == OnUnreachable::Fail || failed.error.kind == ErrorKind::Interrupted {
        return Err(failed.error);
    }
    talk.event(failed.error.event(None));
    Ok(failed.why)
}

fn settle(disk: &Disk, start: Option<&Start>, talk: &Talk) -> Result<u64, DiskError> {
    talk.step(Step::Overlay, |_| {
        let files = disk.settle(start)?;
        Ok((files, files, Unit::Files))
    })
}

/// Where it is to go.
enum Aim {
    Artifact(Box<Ready>, BootWhy),
    Base(BootWhy),
}

fn aim(order: &Order, disk: &Disk, asked: &mut Asked, talk: &Talk) -> Result<Aim, Failed> {
    let Some(place) = place(order, disk, talk)? else {
        return Ok(Aim::Base(BootWhy::NoStore));
    };
    asked.app = Some(place.app.to_string());
    let handle = Handle::current();
    // So that there is time to say what is the matter with it.
    let store = handle.block_on(place.open()).patient(order.patience() / 2);
    asked.store = Some(store.name());
    let pointer = handle.block_on(pointer(order, &place, &store, talk))?;
    let (target, why) = match choose(pointer.as_ref(), order.image.as_deref()) {
        Choice::Base(why) => return Ok(Aim::Base(why)),
        Choice::Target(target, why) => (target, why),
    };
    let trust = options::trust(&order.environment).map_err(|error| Failed {
        why: BootWhy::NotTrusted,
        error: errors::options(&error),
    })?;
    let trusted = trust
        .judge(target.manifest_digest, target.signature.as_ref())
        .map_err(|error| untaken(&store, ArchiveError::NotTrusted(error)))?;
    // Where nothing can be written, nothing may have to be.
    let _ = disk.hold();
    let (generation, manifest) = match disk.generation(target.digest, target.manifest_digest) {
        Some(there) => there,
        None => {
            let file = fetched(order, disk, &store, &place.app, &target, talk)?;
            unpacked(disk, &file, &target, &trust, talk)?
        }
    };
    let start = disk.start(&generation, &manifest)?;
    let ready = Ready {
        start,
        target,
        trusted,
    };
    Ok(Aim::Artifact(Box::new(ready), why))
}

/// Where the store is; `None` where nobody says.
fn place(order: &Order, disk: &Disk, talk: &Talk) -> Result<Option<Place>, Failed> {
    let (home, environment) = (&order.home, &order.environment);
    place::place(Want::Start, home, environment, &order.root, disk, &|| {
        talk.is_stopped()
    })
    .map_err(|error| match error {
        PlaceError::Options(error) => Failed {
            why: BootWhy::NotConfigured,
            error: errors::options(&error),
        },
        PlaceError::Asked(AskError::Stopped) => interrupted(),
        PlaceError::Asked(error) => unreached(errors::not_asked(&error)),
    })
}

impl Order {
    /// How long a store that does not answer is waited for.
    fn patience(&self) -> Duration {
        match self.on_unreachable {
            OnUnreachable::BootBase => PROMPT.min(self.wait),
            OnUnreachable::Wait | OnUnreachable::Fail => self.wait,
        }
    }

    fn cache(&self, disk: &Disk) -> PathBuf {
        let own = || disk.root().join("flyhot/artifacts");
        self.cache.clone().unwrap_or_else(own)
    }
}

/// What the fleet should run.
async fn pointer(order: &Order, place: &Place, store: &Home, talk: &Talk) -> Result<Option<Pointer>, Failed> {
    let patience = order.patience();
    let began = Instant::now();
    let mut last = None;
    loop {
        let left = patience.saturating_sub(began.elapsed());
        let asked = tokio::time::timeout(left, asked(place, store));
        let error = tokio::select! {
            biased;
            () = stopped(talk) => return Err(interrupted()),
            answer = Box::pin(asked) => match answer {
                Ok(Ok(pointer)) => return Ok(pointer),
                Ok(Err(error)) => error,
                Err(_) => break,
            },
        };
        let again = matches!(&error, RolloutError::Store(error) if passes(error));
        let error = errors::rollout(&error);
        if !again {
            return Err(unreached(error));
        }
        last = Some(error);
        tokio::time::sleep(AGAIN.min(left)).await;
    }
    Err(unreached(last.unwrap_or_else(|| silent(store, patience))))
}

/// One try. A directory that is not there is not mounted yet, and no store in which nothing lies.
async fn asked(place: &Place, store: &Home) -> Result<Option<Pointer>, RolloutError> {
    let pointer = flyhot_store::pointer(store, &place.app).await?;
    if let (None, Some(directory)) = (&pointer, place.directory()) {
        fs::metadata(directory).map_err(|source| StoreError::File {
            doing: "cannot read",
            path: directory.to_owned(),
            source,
        })?;
    }
    Ok(pointer)
}

/// Whether it may go better in a moment.
fn passes(error: &StoreError) -> bool {
    match error {
        StoreError::File { .. } | StoreError::Kept { .. } | StoreError::Silent { .. } => true,
        StoreError::Denied { .. }
        | StoreError::Refused { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Broken { .. }
        | StoreError::Bent { .. }
        | StoreError::Changed { .. }
        | StoreError::Unconditional { .. } => false,
    }
}

fn unreached(error: NodeError) -> Failed {
    Failed {
        why: BootWhy::StoreFailed,
        error,
    }
}

fn silent(store: &Home, waited: Duration) -> NodeError {
    let hint = "Check the endpoint and the network of this machine.";
    errors::silent(&store.name(), waited, hint)
}

fn interrupted() -> Failed {
    unreached(errors::stopped("a signal"))
}

async fn stopped(talk: &Talk) {
    while !talk.is_stopped() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The artifact as a file of this machine, every byte of which was looked at.
fn fetched(
    order: &Order,
    disk: &Disk,
    store: &Home,
    app: &App,
    target: &Target,
    talk: &Talk,
) -> Result<PathBuf, Failed> {
    let cache = order.cache(disk);
    let file = cache.join(format!("{}.tar.gz", target.digest));
    if fs::File::open(&file)
        .and_then(FileDigest::read)
        .is_ok_and(|(digest, _)| digest == target.digest)
    {
        return Ok(file);
    }
    let unwritten = |path: &Path, error: &io::Error| Failed {
        why: BootWhy::NotWritten,
        error: errors::unwritten(path, error),
    };
    fs::create_dir_all(&cache).map_err(|error| unwritten(&cache, &error))?;
    forget_unfinished(&cache);
    talk.step(Step::Fetch, |told| {
        let fetch = fetch(order, store, app, target, &file, told);
        let size = Handle::current().block_on(fetch)?;
        Ok::<_, Failed>(((), size, Unit::Bytes))
    })?;
    Ok(file)
}

/// A transfer is given up when nothing has come for as long as the store is waited for.
async fn fetch(
    order: &Order,
    store: &Home,
    app: &App,
    target: &Target,
    file: &Path,
    told: Told<'_>,
) -> Result<u64, Failed> {
    let patience = order.patience();
    let began = Instant::now();
    let mut came = began;
    let mut most = 0;
    loop {
        let moved = Arc::new(Moved::default());
        let mut fetching = Box::pin(store.fetch(app, target.digest, file, &moved));
        let error = loop {
            tokio::select! {
                done = &mut fetching => match done {
                    Ok(true) => return Ok(moved.now().1),
                    Ok(false) => return Err(unreached(errors::not_in_store(&store.name(), target))),
                    Err(error) => break error,
                },
                () = tokio::time::sleep(LOOK) => {
                    let (done, total) = moved.now();
                    // One that began again has less.
                    if done != most {
                        (most, came) = (done, Instant::now());
                    }
                    if told(done, total).is_break() {
                        return Err(interrupted());
                    }
                    if came.elapsed() > patience {
                        return Err(unreached(silent(store, patience)));
                    }
                    if began.elapsed() > patience * TRANSFER {
                        return Err(unreached(errors::slow(&store.name(), done, patience * TRANSFER)));
                    }
                }
            }
        };
        if matches!(error, StoreError::Bent { .. }) {
            return Err(Failed {
                why: BootWhy::NotUsable,
                error: errors::store(&error),
            });
        }
        if !passes(&error) || came.elapsed() > patience {
            return Err(unreached(errors::store(&error)));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Its code below the release, whole.
fn unpacked(
    disk: &Disk,
    file: &Path,
    target: &Target,
    trust: &flyhot_artifact::Trust,
    talk: &Talk,
) -> Result<(String, Manifest), Failed> {
    let (generation, examined) = talk.step(Step::Unpack, |told| {
        let made = disk.make(target.digest, |directory| -> Result<_, Failed> {
            let open = fs::File::open(file).map_err(|error| Failed {
                why: BootWhy::NotWritten,
                error: errors::unread(file, &error),
            })?;
            flyhot_artifact::unpack(
                open,
                directory,
                trust,
                target.signature.as_ref(),
                &Limits::default(),
                told,
            )
            .map_err(|error| not_taken(file, error))
            .and_then(|examined| {
                if examined.digest == target.digest && examined.manifest_digest == target.manifest_digest {
                    Ok(examined)
                } else {
                    Err(Failed {
                        why: BootWhy::NotUsable,
                        error: errors::another(file, target),
                    })
                }
            })
        })?;
        let files = made.1.manifest.files.len() as u64;
        Ok::<_, Failed>((made, files, Unit::Files))
    })?;
    Ok((generation, examined.manifest))
}

fn untaken(store: &Home, error: ArchiveError) -> Failed {
    not_taken(Path::new(&store.name()), error)
}

fn not_taken(file: &Path, error: ArchiveError) -> Failed {
    let why = match error {
        ArchiveError::NotTrusted(_) => BootWhy::NotTrusted,
        ArchiveError::Write { .. } | ArchiveError::MountPoint { .. } | ArchiveError::Occupied { .. } => {
            BootWhy::NotWritten
        }
        _ => BootWhy::NotUsable,
    };
    Failed {
        why,
        error: errors::artifact(file, &error),
    }
}

/// Takes what fetches left that were killed out of the cache; one that goes on writes to its file.
fn forget_unfinished(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let old = entry
            .metadata()
            .and_then(|about| about.modified())
            .is_ok_and(|written| written.elapsed().is_ok_and(|since| since > LEFT));
        if old && entry.file_name().as_encoded_bytes().starts_with(b".flyhot-") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Takes artifacts that were fetched before out of the cache.
fn forget_others(cache: &Path, target: &Target) {
    let kept = format!("{}.tar.gz", target.digest);
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let artifact = name
            .strip_suffix(".tar.gz")
            .is_some_and(|digest| digest.parse::<FileDigest>().is_ok());
        if name != kept && artifact {
            let _ = fs::remove_file(entry.path());
        }
    }
    forget_unfinished(cache);
}

fn disk_error(error: &DiskError) -> NodeError {
    let hint = match error {
        DiskError::Read { .. } => "Check the path and its permissions.",
        DiskError::Write { .. } => {
            "Have the release's directory writable for whoever boots it, with room on its disk: an artifact's code is put there."
        }
        DiskError::NoRelease { .. } => "Name the release's directory by --release.",
        DiskError::NoBase { .. } => {
            "Deploy the image again: with its own files it boots its base and artifacts again."
        }
        DiskError::Boot { .. } => "Build the release again: what a node starts by is damaged.",
        DiskError::Foreign(_) => {
            "Deploy an image that was built with it: hot upgrades change no runtime and no library of others."
        }
        DiskError::Busy { .. } => {
            "Look for a flyhot that is stopped on any machine that has the directory, and end it."
        }
    };
    errors::of_release(error, hint)
}

/// What boots.
enum Boots<'a> {
    Target(&'a Ready),
    Base(&'a str),
    /// What an upgrade or a boot before left, since it cannot be changed.
    AsItIs,
}

impl Boots<'_> {
    fn word(&self) -> String {
        match self {
            Self::Target(ready) => ready.target.code_id.to_string(),
            Self::Base(_) => BASE.to_owned(),
            Self::AsItIs => AS_IT_IS.to_owned(),
        }
    }
}

fn said(order: &Order, asked: &Asked, why: BootWhy, boots: &Boots<'_>, files: u64) -> Event {
    let (what, version) = match boots {
        Boots::Target(ready) => (BootWhat::Target, Some(ready.target.version.clone())),
        Boots::Base(version) => (BootWhat::Base, Some((*version).to_owned())),
        Boots::AsItIs => (BootWhat::AsItIs, None),
    };
    let ready = match boots {
        Boots::Target(ready) => Some(ready),
        Boots::Base(_) | Boots::AsItIs => None,
    };
    Event::Boot {
        what,
        why,
        version,
        digest: ready.map(|ready| ready.target.digest.to_string()),
        code_id: ready.map(|ready| ready.target.code_id.to_string()),
        trust: ready.map(|ready| match ready.trusted {
            Trusted::By(_) => ArtifactTrust::Signed,
            Trusted::Anyway => ArtifactTrust::AnyTaken,
        }),
        signed_by: ready.and_then(|ready| match &ready.trusted {
            Trusted::By(key) => Some(key.to_string()),
            Trusted::Anyway => None,
        }),
        app: asked.app.clone(),
        store: asked.store.clone(),
        image: order.image.clone(),
        files,
    }
}

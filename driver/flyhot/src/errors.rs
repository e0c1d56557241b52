//! Failures as the user meets them: kind, message, next step.
//!
//! One exhaustive match per error of the rooms below, so that a new variant cannot go unmapped. A message says
//! what was tried, on what, and what came back; the causes are appended here, since no Display prints its source.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use flyhot_artifact::chain;
use flyhot_artifact::{ArchiveError, FileDigest, PackError, ReadReleaseError, TrustError};
use flyhot_events::ErrorKind;
use flyhot_store::{LockError, PointerError, RolloutError, SHORTEST_LEASE, StoreError, Target};

use flyhot_fleet::{FlyError, MachineId};
use flyhot_node::{CallError, ConnectError, HandshakeStep, NamesError, NodeName, NodeNameError, TlsFault};

use crate::build::BuildError;
use crate::drive::NodeError;
use crate::inventory::Unclear;
use crate::options::{OptionsError, Peer};
use crate::orchestrate::{NoJournal, ToldError};

fn node_error(kind: ErrorKind, message: impl Into<String>, hint: impl Into<String>) -> NodeError {
    NodeError {
        kind,
        message: message.into(),
        hint: hint.into(),
        outcome: None,
    }
}

/// Options that no command can be made of.
pub(crate) fn options(error: &OptionsError) -> NodeError {
    node_error(ErrorKind::Usage, chain(error), error.hint())
}

/// A release that cannot be read: the user's to mend, [`ErrorKind::Usage`].
pub(crate) fn release(directory: &Path, error: &ReadReleaseError) -> NodeError {
    let hint = match error {
        ReadReleaseError::List { .. } | ReadReleaseError::Read { .. } => {
            "Check that the file is there and that you may read it."
        }
        ReadReleaseError::NoStartErl { .. } => {
            "Give the directory that `mix release` made, for example _build/prod/rel/shop."
        }
        ReadReleaseError::StartErl { .. }
        | ReadReleaseError::RelFiles { .. }
        | ReadReleaseError::Resource { .. }
        | ReadReleaseError::Mislabelled { .. }
        | ReadReleaseError::AppTwice { .. }
        | ReadReleaseError::NoApp { .. }
        | ReadReleaseError::ModuleTwice { .. }
        | ReadReleaseError::NoModule { .. } => {
            "Build the release again into an empty directory (`mix release --overwrite`), and look what put the file there."
        }
        ReadReleaseError::TooLarge { .. } | ReadReleaseError::Beam { .. } => {
            "Build the release again, and copy it completely: the file is broken or not what its name says."
        }
    };
    node_error(
        ErrorKind::Usage,
        format!("reading the release {}: {}", directory.display(), chain(error)),
        hint,
    )
}

/// A release that cannot be packed.
pub(crate) fn pack(release: &Path, out: &Path, error: &PackError) -> NodeError {
    let hint = match error {
        PackError::Write(source) => return unwritten(out, source),
        PackError::Stopped => return stopped("a signal"),
        PackError::Read { .. } | PackError::Start(_) => {
            "Check that the file is there and that you may read it; a link that leads nowhere is to be removed."
        }
        PackError::Kind { .. } => "Remove it from the release: an artifact holds files and directories.",
        PackError::Name { .. } => {
            "Give it a name of plain text (UTF-8, no control characters), or look for a link that leads up."
        }
        PackError::Changed { .. } => "Wait until nobody builds into the directory, and pack it again.",
        PackError::Manifest(_) => {
            "Build the release again into an empty directory, and look what put the file there."
        }
        PackError::Limit(_) => "Take out what is not needed to run the release.",
        PackError::Json(_) => "This is a bug in flyhot; report it with this line.",
    };
    let kind = match error {
        PackError::Json(_) => ErrorKind::Bug,
        _ => ErrorKind::Usage,
    };
    node_error(
        kind,
        format!("packing the release {}: {}", release.display(), chain(error)),
        hint,
    )
}

/// An artifact that is not taken.
pub(crate) fn artifact(file: &Path, error: &ArchiveError) -> NodeError {
    let (kind, hint) = match error {
        ArchiveError::Stopped => return stopped("a signal"),
        ArchiveError::Write { path, source } => return unwritten(path, source),
        ArchiveError::Read(source) => return unread(file, source),
        ArchiveError::NotTrusted(_) => (
            ErrorKind::NotTrusted,
            "Have it signed by a key that this machine trusts (`flyhot sign`), or find out where it comes from.",
        ),
        ArchiveError::MountPoint { .. } => (ErrorKind::Usage, "Name a directory below it."),
        ArchiveError::Occupied { .. } => (ErrorKind::Usage, "Name a directory that is absent or empty."),
        ArchiveError::Truncated | ArchiveError::Damaged(_) | ArchiveError::Trailing => (
            ErrorKind::Usage,
            "Fetch it again, and compare the sha256 of both files.",
        ),
        ArchiveError::Limit(_) => (
            ErrorKind::Usage,
            "Nothing that `flyhot pack` makes is so large: find out where it comes from.",
        ),
        ArchiveError::NoManifest
        | ArchiveError::Manifest(_)
        | ArchiveError::Outside { .. }
        | ArchiveError::Link { .. }
        | ArchiveError::Kind { .. }
        | ArchiveError::Twice { .. }
        | ArchiveError::Unlisted { .. }
        | ArchiveError::Missing { .. }
        | ArchiveError::Size { .. }
        | ArchiveError::Digest { .. }
        | ArchiveError::Header { .. }
        | ArchiveError::Module { .. } => (
            ErrorKind::Usage,
            "`flyhot pack` makes no such file: find out where it comes from, and pack the release again.",
        ),
    };
    node_error(kind, format!("{}: {}", file.display(), chain(error)), hint)
}

/// An artifact that would be packed into itself.
pub(crate) fn inside(file: &Path, release: &Path) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("{} lies in the release {}", file.display(), release.display()),
        "Name a file outside of the release: what lies in it is packed.",
    )
}

/// A file of signatures that holds none: whatever it was put there for, nobody trusted signed the artifact.
pub(crate) fn signature(file: &Path, error: &dyn Error) -> NodeError {
    node_error(
        ErrorKind::NotTrusted,
        format!("{} is not a signature: {}", file.display(), chain(error)),
        "Sign the artifact again with `flyhot sign`.",
    )
}

/// A file that cannot be read.
pub(crate) fn unread(file: &Path, error: &io::Error) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("cannot read {}: {error}", file.display()),
        "Check the path and its permissions.",
    )
}

/// A file that cannot be written.
pub(crate) fn unwritten(file: &Path, error: &io::Error) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("cannot write {}: {error}", file.display()),
        "Have the directory there, writable, with room on its disk; nothing was left in it.",
    )
}

/// A key that would be overwritten.
pub(crate) fn key_is_there(file: &Path) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("{} is there already: a key is never overwritten", file.display()),
        "Name a file that is not there.",
    )
}

/// A store that did not do what it was asked.
pub(crate) fn store(error: &StoreError) -> NodeError {
    let hint = match error {
        StoreError::File { .. } => {
            "Check that the directory is there, with room on its disk, and that you may write it."
        }
        StoreError::Kept { .. } => {
            "Look for a flyhot that is stopped (state T in `ps`) on any machine that has the directory, and end it."
        }
        StoreError::Silent { .. } => "Check the endpoint and the network, and run the same command again.",
        StoreError::Denied { .. } => {
            "Check the credentials and this machine's clock; a store that does not let you list answers so for what is not there too: \
             allow s3:ListBucket."
        }
        StoreError::Refused { .. } => {
            "Check bucket, endpoint, region and credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)."
        }
        StoreError::Bent { .. } => "Roll the same release out again: it is put there anew.",
        StoreError::Changed { .. } => "Look who writes to it, and run the same command again.",
        StoreError::TooLarge { .. } | StoreError::Broken { .. } => {
            "Look who wrote it: flyhot did not. Move it away if nobody needs it."
        }
        StoreError::Unconditional { .. } => {
            "Use another store: with this one two deploys would overwrite each other unnoticed."
        }
    };
    node_error(ErrorKind::Store, chain(error), hint)
}

/// A store that did not answer for as long as it was waited for.
pub(crate) fn silent(store: &str, waited: Duration, hint: &str) -> NodeError {
    node_error(
        ErrorKind::Store,
        format!("{store} did not answer within {} s", waited.as_secs_f64()),
        hint,
    )
}

/// A store that lacks what the pointer names.
pub(crate) fn not_in_store(store: &str, target: &Target) -> NodeError {
    node_error(
        ErrorKind::Store,
        format!(
            "{store} has no artifact {}, which the fleet should run ({})",
            target.digest, target.version
        ),
        "Deploy it again: somebody took it away.",
    )
}

/// An artifact that is not the one the pointer names.
pub(crate) fn another(file: &Path, target: &Target) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!(
            "{} is not the artifact {} with the manifest {}, which the fleet should run",
            file.display(),
            target.digest,
            target.manifest_digest
        ),
        "Deploy it again, and find out who wrote the pointer.",
    )
}

/// A command that was not started.
pub(crate) fn not_run(program: &OsStr, error: &io::Error) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("cannot run {}: {error}", program.display()),
        "Give the command that starts the release behind `--`: its file, and that it can be executed.",
    )
}

/// A command that lies in no release.
pub(crate) fn no_release(program: &Path) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("{} does not lie in the bin of a release", program.display()),
        "Name the release's directory by --release.",
    )
}

/// A release's directory that is not as it is needed.
pub(crate) fn of_release(error: &dyn Error, hint: &str) -> NodeError {
    node_error(ErrorKind::Usage, chain(error), hint)
}

/// A release that did not say where its store is.
pub(crate) fn not_asked(error: &dyn Error) -> NodeError {
    node_error(
        ErrorKind::Store,
        format!("the release does not say which bucket it means: {}", chain(error)),
        "Name the bucket by the variable BUCKET_NAME, or run that command by hand to see what its runtime.exs lacks.",
    )
}

/// The same, of a command that needs one.
pub(crate) fn named_nowhere(error: &dyn Error) -> NodeError {
    NodeError {
        kind: ErrorKind::Usage,
        ..not_asked(error)
    }
}

/// An image that was not built.
pub(crate) fn build(error: &BuildError) -> NodeError {
    let (kind, hint) = match error {
        BuildError::Stopped => return stopped("a signal"),
        BuildError::NoProgram => (
            ErrorKind::Usage,
            "Install flyctl (fly.io/docs/flyctl/install), or name an image that is there.",
        ),
        BuildError::Start { .. } => (ErrorKind::Usage, "Look at the file, and that it can be executed."),
        BuildError::Random => (ErrorKind::Bug, "Look at the system's source of random bytes."),
        BuildError::Failed { .. } => (
            ErrorKind::BuildFailed,
            "Mend what it says, or run `fly deploy --build-only --remote-only` by hand.",
        ),
        BuildError::Another { .. } => (
            ErrorKind::BuildFailed,
            "Build it by hand, and name the image that is there then.",
        ),
    };
    node_error(kind, chain(error), hint)
}

/// Another orchestrator is at work here.
pub(crate) fn orchestrated(directory: &Path) -> NodeError {
    node_error(
        ErrorKind::Locked,
        format!(
            "another orchestrator is at work on this machine: it keeps its events in {}",
            directory.display()
        ),
        "Follow it with `flyhot events`, stop it with `flyhot tell`, or name another directory by FLYHOT_ORCHESTRATE.",
    )
}

/// Events that are not kept; what is done is not given up for that.
pub(crate) fn unkept(directory: &Path, error: &io::Error) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!(
            "events cannot be kept in {}: {error}; the rollout goes on",
            directory.display()
        ),
        "Nobody can follow what is missing there: look at this output, or at `flyhot history` afterwards.",
    )
}

/// Nothing of an orchestrator can be read.
pub(crate) fn no_journal(directory: &Path, error: &NoJournal) -> NodeError {
    let (message, hint) = match error {
        NoJournal::Nobody => (
            format!("no orchestrator was here: {} has no events", directory.display()),
            "Run it where `flyhot orchestrate` runs, with the same FLYHOT_ORCHESTRATE.",
        ),
        NoJournal::Unread(error) => (
            format!("the events in {} cannot be read: {error}", directory.display()),
            "Check the directory and its permissions.",
        ),
    };
    node_error(ErrorKind::Usage, message, hint)
}

/// Something that no orchestrator was told.
pub(crate) fn told(directory: &Path, error: &ToldError) -> NodeError {
    let hint = match error {
        ToldError::Read(_) | ToldError::Long | ToldError::Form | ToldError::Token => {
            "Give one JSON object, as `flyhot tell --help` shows them."
        }
        ToldError::Nobody => "Run it where `flyhot orchestrate` runs, with the same FLYHOT_ORCHESTRATE.",
        ToldError::Write(_) => "Check the directory, its permissions, and the room on its disk.",
    };
    node_error(
        ErrorKind::Usage,
        format!("{}: {}", directory.display(), chain(error)),
        hint,
    )
}

/// A signature that did not come.
pub(crate) fn unsigned(manifest: FileDigest, waited: Duration) -> NodeError {
    node_error(
        ErrorKind::NotTrusted,
        format!(
            "nobody signed the manifest {manifest} within {} s",
            waited.as_secs()
        ),
        "Have whoever has the key follow this rollout, or sign nothing.",
    )
}

/// No release in this image.
pub(crate) fn no_release_here(places: &[PathBuf]) -> NodeError {
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    node_error(
        ErrorKind::Usage,
        format!(
            "there is no release: none of {} has releases/start_erl.data",
            places.join(", ")
        ),
        "Name the release's directory by the variable RELEASE_ROOT or by --release.",
    )
}

/// A way to deploy that there is not yet.
pub(crate) fn blue_green() -> NodeError {
    node_error(
        ErrorKind::Usage,
        "--mode blue_green is not there yet: this flyhot upgrades the running code of machines, and replaces none",
        "Leave --mode away, or run `fly deploy --strategy bluegreen`.",
    )
}

/// A signal before anything was begun that goes on.
pub(crate) fn not_deployed(signal: &str) -> NodeError {
    node_error(
        ErrorKind::Interrupted,
        format!("{signal}: no machine of the app was touched, and nothing goes on"),
        "Run the same command again; a machine that was just being made, and was not started, is removed by it later.",
    )
}

/// How to look after an orchestrator from elsewhere.
pub(crate) fn look_after(app: &str, machine: &MachineId) -> String {
    format!(
        "Follow it with `fly machine exec {machine} \"flyhot events\" -a {app}`, stop it with `fly machine stop {machine} \
         --signal SIGINT --timeout 300 -a {app}`, and see what machines run with `mix fly_deploy.status`."
    )
}

/// An orchestrator that is left alone, whether or not it has heard that it is to stop.
pub(crate) fn goes_on(signal: &str, app: &str, machine: &MachineId, knows: bool) -> NodeError {
    let knows = if knows {
        "was asked to stop"
    } else {
        "has not heard that it is to stop, goes on"
    };
    node_error(
        ErrorKind::Interrupted,
        format!("{signal} again: the orchestrator on the machine {machine} {knows}, and is not waited for"),
        look_after(app, machine),
    )
}

/// An orchestrator that cannot be followed.
pub(crate) fn not_followed(error: &FlyError, app: &str, machine: &MachineId) -> NodeError {
    node_error(
        ErrorKind::FlyApi,
        format!(
            "the orchestrator on the machine {machine} cannot be followed, and goes on: {}",
            chain(error)
        ),
        look_after(app, machine),
    )
}

/// An orchestrator of which nothing was heard for long.
pub(crate) fn away(error: &FlyError, app: &str, machine: &MachineId, waited: Duration) -> NodeError {
    node_error(
        ErrorKind::FlyApi,
        format!(
            "the orchestrator on the machine {machine} has not answered for {} s, and goes on: {}",
            waited.as_secs(),
            chain(error)
        ),
        look_after(app, machine),
    )
}

/// An orchestrator that says nothing.
pub(crate) fn says_nothing(app: &str, machine: &MachineId, waited: Duration) -> NodeError {
    node_error(
        ErrorKind::FlyApi,
        format!(
            "the orchestrator on the machine {machine} runs and has said nothing in {} s",
            waited.as_secs()
        ),
        format!(
            "Look at its log with `fly logs --machine {machine} -a {app}`. {}",
            look_after(app, machine)
        ),
    )
}

/// An orchestrator whose outcome nobody knows.
pub(crate) fn unheard(app: &str, machine: &MachineId) -> NodeError {
    node_error(
        ErrorKind::FlyApi,
        format!(
            "the machine {machine} of the orchestrator is gone, and what became of the rollout was not heard"
        ),
        format!(
            "See what machines run with `mix fly_deploy.status`, and the last words of the orchestrator with `fly logs --machine \
             {machine} -a {app}`; the same command again finishes what was begun."
        ),
    )
}

/// An orchestrator whose machine had too little memory.
pub(crate) fn no_memory(app: &str, machine: &MachineId, memory_mb: u32) -> NodeError {
    node_error(
        ErrorKind::FlyApi,
        format!(
            "the orchestrator was killed because its machine {machine} had no memory left of {memory_mb} MB"
        ),
        format!(
            "Run the same command with --memory {}, or with a smaller --max-concurrency: it finishes what was begun. `mix \
             fly_deploy.status --app {app}` shows what machines run.",
            memory_mb.saturating_mul(2)
        ),
    )
}

/// An image that cannot be rolled out.
pub(crate) fn no_flyhot(image: &str, code: i64) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!(
            "the image {image} has no flyhot that runs a rollout: its machine ended with exit code {code} and said nothing"
        ),
        "`mix fly_deploy.install` shows the lines of the Dockerfile that put it there; use the same version here and there, built for \
         the processor and libc of the image.",
    )
}

/// An orchestrator that another flyhot asked for.
pub(crate) fn another_flyhot(theirs: &str, image: Option<&OsStr>) -> NodeError {
    let image = image.map(|image| format!(" of the image {}", image.display()));
    node_error(
        ErrorKind::Usage,
        format!(
            "flyhot {theirs} asks for this, and the flyhot{} is {}: nothing was touched",
            image.unwrap_or_default(),
            crate::VERSION
        ),
        "Use one version in both places: deploy an image that is built with the package `fly_deploy` of this project, or name that \
         image's flyhot by FLYHOT_BIN.",
    )
}

/// Words that no orchestrator performs.
pub(crate) fn no_verb(why: &str) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!(
            "what stands behind `--` is no verb for an orchestrator: {}",
            why.trim()
        ),
        "Give rollback, plan, status, doctor, history, gc or lock, with options of its own.",
    )
}

/// A file of this machine for what is done elsewhere.
pub(crate) fn file_is_here(option: &str, verb: &str) -> NodeError {
    let hint = match option {
        "--release" => {
            "Name the image that has the release by --image, or run it where the private network is (`fly wireguard create`)."
        }
        _ => "Leave it away, or run it where the private network and the keys of the bucket are.",
    };
    node_error(
        ErrorKind::Usage,
        format!("{option} names a file of this machine, and {verb} has to run on one of Fly.io from here"),
        hint,
    )
}

/// Words that cannot be said to a machine.
pub(crate) fn not_text(verb: &str) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("what was typed to {verb} is not UTF-8, and cannot be said to a machine of Fly.io"),
        "Write it in UTF-8, or run it where the private network and the keys of the bucket are.",
    )
}

/// An app without any machine that says what its image is.
pub(crate) fn no_image(app: &str, verb: &str) -> NodeError {
    node_error(
        ErrorKind::FlyApi,
        format!("{verb} cannot run on Fly.io: the app {app} has no machine whose image is known"),
        "Look at the machines with `fly machine list`, or run it where the private network and the keys of the bucket are.",
    )
}

/// A signal while a command ran on a machine.
pub(crate) fn unheard_of(signal: &str, verb: &str) -> NodeError {
    node_error(
        ErrorKind::Interrupted,
        format!(
            "{signal} while {verb} ran on a machine of the app: it comes to its end there within a minute, unheard"
        ),
        "Run the same command again.",
    )
}

/// A command that ended on a machine without a word about its outcome.
pub(crate) fn no_answer(machine: &MachineId, code: i64) -> NodeError {
    node_error(
        ErrorKind::FlyApi,
        format!(
            "the command on the machine {machine} ended with exit code {code}, and what it did was not heard"
        ),
        "Look at it with `mix fly_deploy.lock status`.",
    )
}

/// A lock that was not had.
pub(crate) fn lock(error: &LockError) -> NodeError {
    let (kind, hint) = match error {
        LockError::Store(error) => return store(error),
        LockError::Held { .. } => (
            ErrorKind::Locked,
            "Wait until it is done; if nobody works there any more it ends with its lease, or by --force.",
        ),
        LockError::Lost(_) => (ErrorKind::Locked, "Look who holds it with `flyhot lock status`."),
        LockError::Broken { .. } => (
            ErrorKind::Store,
            "Look who wrote it: flyhot did not. Move it away if nobody needs it.",
        ),
        LockError::Machine(_) => (ErrorKind::Bug, "Look at the system's source of random bytes."),
    };
    node_error(kind, chain(error), hint)
}

/// A pointer that was not read or changed.
pub(crate) fn rollout(error: &RolloutError) -> NodeError {
    let (kind, hint) = match error {
        RolloutError::Lock(error) => return lock(error),
        RolloutError::Store(error) => return store(error),
        RolloutError::Pointer(PointerError::Format(_)) => {
            (ErrorKind::Store, "Use the flyhot that wrote it, or a newer one.")
        }
        RolloutError::Pointer(PointerError::NoSuchTarget) => {
            (ErrorKind::Usage, "Look what there is with `flyhot history`.")
        }
        RolloutError::Pointer(PointerError::OtherImage { .. }) => (
            ErrorKind::Usage,
            "Where the machines are of another image now, say so by --new-base: what ran before is forgotten.",
        ),
        RolloutError::Pointer(_) | RolloutError::Changed(_) => (
            ErrorKind::Locked,
            "Look what the fleet runs with `flyhot history`, and who is at work with `flyhot lock status`.",
        ),
        RolloutError::Broken { .. } => (
            ErrorKind::Store,
            "Look who wrote it: flyhot did not. Move it away if nobody needs it.",
        ),
    };
    node_error(kind, chain(error), hint)
}

/// Nodes are done, and the store does not say so.
pub(crate) fn unsettled(error: NodeError) -> NodeError {
    NodeError {
        message: format!("the pointer was left as it is: {}", error.message),
        hint: format!(
            "{} Nodes are as the outcome says, the store says what it said. Run the same command again.",
            error.hint
        ),
        ..error
    }
}

/// A rollout came to its end, and its record does not have it.
pub(crate) fn unrecorded(error: &StoreError) -> NodeError {
    let error = store(error);
    NodeError {
        message: format!("the record of the rollout has no end: {}", error.message),
        ..error
    }
}

/// What a node was started with is not to be had.
pub(crate) fn no_base(node: &NodeName, why: &str) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("the code that {node} was started with cannot be saved: {why}"),
        "Without it there would be no way back. Start the node from a release whose files it may read, or upgrade it without a store \
         (`flyhot upgrade`).",
    )
}

/// What the history names, the store does not have.
pub(crate) fn no_artifact(target: &Target) -> NodeError {
    node_error(
        ErrorKind::Store,
        format!("the store has no artifact {} ({})", target.digest, target.version),
        "Name another one of `flyhot history` by --to, or upgrade with the release itself and --down.",
    )
}

/// The same of what nodes would go back to.
pub(crate) fn no_artifact_before(target: &Target) -> NodeError {
    NodeError {
        hint: "Nodes could not go back to it: roll that release out once more, or say --no-rollback."
            .to_owned(),
        ..no_artifact(target)
    }
}

/// A release that no machine would take which starts anew.
pub(crate) fn not_taken(target: &Target, error: &TrustError) -> NodeError {
    node_error(
        ErrorKind::NotTrusted,
        format!("{} is not taken by this machine: {error}", target.version),
        "Have it signed by --key-file with a key that this machine trusts: machines that start anew would boot what was there before.",
    )
}

/// A release that nodes could not go back to.
pub(crate) fn no_way_back(target: &Target, error: &TrustError) -> NodeError {
    node_error(
        ErrorKind::NotTrusted,
        format!(
            "nodes could not go back to {}, which was committed before: {error}",
            target.version
        ),
        "Roll that release out once more, signed by --key-file with a key that this machine trusts, or say --no-rollback.",
    )
}

/// What the history says of an artifact is not so.
pub(crate) fn other_manifest(target: &Target) -> NodeError {
    node_error(
        ErrorKind::Store,
        format!(
            "the artifact {} has another manifest than the pointer says",
            target.digest
        ),
        "Look who wrote the pointer: flyhot did not.",
    )
}

/// A transfer without an end in sight.
pub(crate) fn slow(name: &str, bytes: u64, after: Duration) -> NodeError {
    node_error(
        ErrorKind::Store,
        format!(
            "of the artifact in {name} {bytes} bytes came within {} s",
            after.as_secs()
        ),
        "Look at the network between here and the store; the next start tries again.",
    )
}

/// A store that no machine would find again.
pub(crate) fn store_goes_with_it() -> NodeError {
    node_error(
        ErrorKind::Usage,
        "--store names a directory, and whatever an orchestrator writes goes with its machine".to_owned(),
        "Name a bucket by --bucket, or make one with `fly storage create`.".to_owned(),
    )
}

/// A lease that could not be renewed in time.
pub(crate) fn short_lease(given: Duration) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!(
            "--lock-timeout {} ms is too short: a store tells times in whole seconds",
            given.as_millis()
        ),
        format!("Give at least {} s.", SHORTEST_LEASE.as_secs()),
    )
}

/// A signal that work on files did not heed in time.
pub(crate) fn left(signal: &str) -> NodeError {
    node_error(
        ErrorKind::Interrupted,
        format!(
            "{signal}: what was being written may lie beside its place, under a name that begins with .flyhot-"
        ),
        "Remove that, and run the same command again.",
    )
}

/// What mix left is no port.
pub(crate) fn no_port(error: &io::Error) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("FLYHOT_PORT is set, but descriptors 3 and 4 are none of a port of Erlang: {error}"),
        "Unset it: the mix tasks set it for themselves.",
    )
}

/// A signal while a store was asked.
pub(crate) fn unanswered(signal: &str) -> NodeError {
    node_error(
        ErrorKind::Interrupted,
        format!("{signal} while the store was asked"),
        "Run `flyhot lock status` to see what is there.",
    )
}

/// A signal that ended work on files.
pub(crate) fn stopped(signal: &str) -> NodeError {
    node_error(
        ErrorKind::Interrupted,
        format!("{signal}: nothing was left behind"),
        "Run the same command again.",
    )
}

/// No session with a node: always [`ErrorKind::NodeUnreachable`].
pub(crate) fn connect(peer: &Peer, error: &ConnectError) -> NodeError {
    let hint = match error {
        ConnectError::NoSuchHost { .. } => {
            "Give the host as the node prints it for `node()`, and check that its name resolves here.".to_owned()
        }
        ConnectError::NoEpmd { address, .. } => format!(
            "Start the node, open {address} to this machine, or give the port of epmd by --epmd-port; \
             for a node without epmd give its own port by --dist-port."
        ),
        ConnectError::NotEpmd { .. } => "Give the port that epmd listens on by --epmd-port.".to_owned(),
        ConnectError::NotRegistered { .. } => {
            "Start the node, or compare the name with `epmd -names` on its host.".to_owned()
        }
        ConnectError::Refused { .. } | ConnectError::OtherNode { .. } if peer.machine.is_some() => {
            format!("The node is not in the private network under that name. {DISTRIBUTED}")
        }
        ConnectError::Refused { .. } => {
            "Check that the node is up and that its distribution port is open to this machine.".to_owned()
        }
        ConnectError::Tls { fault, .. } => match fault {
            TlsFault::UnknownCa => {
                "Give the certificate of the CA that signed the node's by --tls-ca-file; `openssl s_client -connect` shows whose that is."
            }
            TlsFault::Expired => "Give the node a new certificate.",
            TlsFault::NotYetValid => "Compare the clocks of this machine and of the node's.",
            TlsFault::OtherHost(_) => {
                "Give the node a certificate whose subject alternative names have the host of its name."
            }
            TlsFault::Certificate(_) => "Give the node another certificate.",
            TlsFault::OursRefused(_) => {
                "Give a certificate that has not expired, signed by a CA that the node's `cacertfile` has, by --tls-cert-file; the log of the node says more."
            }
            TlsFault::NoTls => {
                "Check the port; a node without `-proto_dist inet_tls` is reached without --dist-tls."
            }
            TlsFault::Other(_) => "Check the node's file of TLS options, and its log.",
        }
        .to_owned(),
        ConnectError::CookieRefused { .. } if peer.machine.is_some() => {
            format!(
                "It was the one in {}; give the one of the nodes by RELEASE_COOKIE or --cookie-file, and have every build use the \
                 same: `cookie:` of the release in mix.exs, or \
                 `fly secrets set RELEASE_COOKIE=\"$(openssl rand -hex 32)\"`.",
                peer.door.cookie_place
            )
        }
        ConnectError::CookieRefused { .. } => {
            format!(
                "It was the one in {}; name a file with the cookie that `erlang:get_cookie()` shows on the \
                 node by --cookie-file.",
                peer.door.cookie_place
            )
        }
        ConnectError::NameClash { .. } => {
            "Wait until the node has noticed that the connection before is gone, and run the same command again."
                .to_owned()
        }
        ConnectError::NotAllowed { .. } => {
            "The node restricts who may connect (`net_kernel:allow/1`); allow this host there.".to_owned()
        }
        ConnectError::OtherNode { found, .. } => {
            format!("Give the name of the node that is there, {found}, or the port of the one you mean.")
        }
        ConnectError::HandshakeTimeout { step, .. } => match step {
            HandshakeStep::Resolve => "Check the name service of this machine.".to_owned(),
            HandshakeStep::Epmd | HandshakeStep::Connect => {
                "Check that no firewall between here and the node drops the connection.".to_owned()
            }
            HandshakeStep::Tls => {
                "A node without `-proto_dist inet_tls` does not answer to TLS: leave --dist-tls away there.".to_owned()
            }
            HandshakeStep::SendName | HandshakeStep::Challenge => {
                "The node accepts connections but does not answer: look at its load, and run the same command again."
                    .to_owned()
            }
        },
        ConnectError::Handshake { .. } => {
            "Check that the port is that of an Erlang node of OTP 25 or newer; one with TLS distribution needs --dist-tls."
                .to_owned()
        }
    };
    node_error(
        ErrorKind::NodeUnreachable,
        format!("connecting to {}: {}", peer.name, chain(error)),
        hint,
    )
}

/// What brings a node into the private network of Fly.io, for whoever looks for the lines.
const DISTRIBUTED: &str = "Have in rel/env.sh.eex: `export RELEASE_DISTRIBUTION=name`, \
     `export RELEASE_NODE=\"${FLY_APP_NAME}@${FLY_PRIVATE_IP}\"` and, once in all files and variables, \
     `export ERL_AFLAGS=\"-proto_dist inet6_tcp\"`; then deploy that once with `fly deploy`.";

/// Something that was asked of the Machines API.
pub(crate) fn fly(error: &FlyError) -> NodeError {
    node_error(error.kind(), chain(error), error.hint())
}

fn of_machine(machine: &MachineId, what: impl fmt::Display, hint: impl Into<String>) -> NodeError {
    let message = format!("the machine {machine}: {what}");
    node_error(ErrorKind::NodeUnreachable, message, hint)
}

/// No machine of an app is started.
pub(crate) fn no_machine(app: &str, all: usize) -> NodeError {
    let (message, hint) = match all {
        0 => (
            format!("the app {app} has no machine"),
            "Compare the name with `fly apps list`; where it is right, `fly deploy` makes machines.",
        ),
        all => (
            format!("of the app {app}, none of {all} machines is started and runs a node"),
            "Start one with `fly machine start`; one that is not started boots what was committed last.",
        ),
    };
    node_error(ErrorKind::NodeUnreachable, message, hint)
}

/// A machine that Fly gave no address.
pub(crate) fn no_address(machine: &MachineId) -> NodeError {
    of_machine(
        machine,
        "Fly says no private address of it",
        "Look at it with `fly machine status`, and run the same command again.",
    )
}

/// epmd on a machine said nothing that could be read.
pub(crate) fn no_names(machine: &MachineId, error: &NamesError, host_lost: bool) -> NodeError {
    if host_lost {
        return of_machine(
            machine,
            format!("Fly says that its host does not answer: {}", chain(error)),
            format!(
                "It boots what is committed when its host is back; or remove it: `fly machine destroy --force {machine}`."
            ),
        );
    }
    let hint = match error {
        NamesError::NotEpmd { .. } => "Give the port that epmd listens on by --epmd-port.",
        NamesError::NoEpmd { .. } | NamesError::Silent { .. } => {
            "Run this on a machine of the same organization, or with its private network at hand (`fly wireguard create`); else \
             look at the machine with `fly machine status`."
        }
    };
    of_machine(machine, chain(error), hint)
}

/// Erlang runs on a machine, and no node is to be found.
pub(crate) fn not_distributed(machine: &MachineId) -> NodeError {
    of_machine(
        machine,
        "Erlang runs there, and is not distributed: epmd on its private address knows no node",
        DISTRIBUTED,
    )
}

/// Nobody can say whether a machine should have a node.
pub(crate) fn nothing_known(machine: &MachineId, why: &str) -> NodeError {
    of_machine(
        machine,
        format!("epmd there knows no node, and it is not known whether Erlang runs: {why}"),
        "Use a token that may run commands on machines (`fly tokens create deploy -x 2h`), and run the same command again.",
    )
}

/// Several nodes, or only tools, are registered on a machine.
pub(crate) fn unclear(machine: &MachineId, unclear: &Unclear) -> NodeError {
    match unclear {
        Unclear::None => of_machine(
            machine,
            "epmd there knows nodes of tools alone",
            "Wait until the release has started, and run the same command again.",
        ),
        Unclear::Several(names) => of_machine(
            machine,
            format!(
                "several nodes are there, and none is named as the release or the app: {}",
                names.join(", ")
            ),
            "Let the name of the release's node begin with that of the release or of the app (RELEASE_NODE in rel/env.sh.eex), or \
             name nodes by --node.",
        ),
    }
}

/// What is registered on a machine makes no name of a node.
pub(crate) fn no_name(machine: &MachineId, name: &str, error: &NodeNameError) -> NodeError {
    of_machine(
        machine,
        format!("its node is registered as {name:?}: {}", chain(error)),
        "Mend RELEASE_NODE in rel/env.sh.eex.",
    )
}

/// A machine said no cookie.
pub(crate) fn no_cookie(machine: &MachineId, root: &str) -> NodeError {
    of_machine(
        machine,
        format!("it has no cookie in RELEASE_COOKIE, nor in {root}/releases/COOKIE"),
        "Set RELEASE_COOKIE here to the one that the nodes have, or RELEASE_ROOT to the directory of the release in the image.",
    )
}

/// A call on the node that brought no answer: what kind of failure that is, and the next step.
pub(crate) fn call(error: &CallError) -> (ErrorKind, &'static str) {
    match error {
        CallError::BadRpc { .. } => (
            ErrorKind::Bug,
            "The node refused a call that flyhot needs; report this with the OTP release of the node.",
        ),
        CallError::Timeout { .. } => (
            ErrorKind::NodeUnreachable,
            "Look at the load of the node, and run `flyhot plan` with the same options when it answers again.",
        ),
        CallError::ConnectionLost { .. } => (
            ErrorKind::NodeUnreachable,
            "Check that the node is up; its agent cleans up by itself. Then run `flyhot plan` with the same options.",
        ),
        CallError::FrameTooLarge { .. } | CallError::MalformedTerm { .. } => (
            ErrorKind::NodeUnreachable,
            "What came is nothing an Erlang node sends: check what lies between here and the node, then run again.",
        ),
        CallError::Argument { .. } => (
            ErrorKind::Bug,
            "This is a bug in flyhot; report it with this line.",
        ),
    }
}

/// A node that was upgraded, was lost, and was started anew since.
pub(crate) fn started_anew(node: &NodeName) -> NodeError {
    node_error(
        ErrorKind::NodeUnreachable,
        format!("{node}: the connection was lost behind the window, and the node was started anew since"),
        "Look in its log whether the new code stopped it, before the same command takes it over again.",
    )
}

/// The operating system refuses what a command needs before it can begin: a thread, a signal handler.
pub(crate) fn runtime(error: &dyn Error) -> NodeError {
    node_error(
        ErrorKind::Bug,
        format!("starting: {}", chain(error)),
        "Look at the limits of processes and open files (`ulimit -a`); if they are not reached, report this.",
    )
}

/// A panic that reached the edge.
pub(crate) fn panicked(text: &str) -> NodeError {
    node_error(
        ErrorKind::Bug,
        format!("flyhot panicked: {text}"),
        "This is a bug in flyhot; report it with the lines above. The node is safe: its agent thaws everything by itself.",
    )
}

/// The work on a node took longer than it may, and its window had not begun.
pub(crate) fn overdue(node: &NodeName, limit: Duration) -> NodeError {
    node_error(
        ErrorKind::NotQuiesced,
        format!(
            "{node}: not done within --timeout {} s, and given up before code was touched there: the agent cleans up by itself",
            limit.as_secs_f64()
        ),
        "Look which step took so long, and give it more time or mend that.",
    )
}

/// A URL to check nodes by that is none.
pub(crate) fn no_url(url: String) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!("--check-url: {url} is no URL of http or https"),
        "Write it as http://{host}:4000/health; {host} stands for the node's host.",
    )
}

/// One URL for several nodes.
pub(crate) fn one_url(url: String) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!(
            "--check-url: {url} is the same for every node, so that one of them could answer for another"
        ),
        "Write it as http://{host}:4000/health; {host} stands for the node's host.",
    )
}

/// Machines that were started from several images.
pub(crate) fn several_images(one: (&str, &MachineId), other: (&str, &MachineId)) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!(
            "the machine {} was started from {}, and {} from {}: which of them would boot what is rolled out?",
            one.1, one.0, other.1, other.0
        ),
        "Have `fly deploy` come to its end, so that all have one image; a rollout may name by --base the image of those that shall boot it.",
    )
}

/// A fleet in which somebody was started each time that all of it was taken over.
pub(crate) fn restless(kind: ErrorKind, looks: u32) -> NodeError {
    node_error(
        kind,
        format!(
            "{looks} times all nodes were taken over, and each time others were there or had started anew"
        ),
        "Look which are started over and over, or have autoscaling pause, and run the same command again.",
    )
}

/// What is done where a cold deploy is under way.
const UNTIL_DEPLOYED: &str = "Have `fly deploy` come to its end, and run the same command again: it is for the machines that are there then.";

/// A machine that a cold deploy replaced while this was at work.
pub(crate) fn replaced(machine: &MachineId, before: &str, now: &str) -> NodeError {
    of_machine(
        machine,
        format!(
            "a `fly deploy` came between: it was started from {before} when this began, and from {now} since"
        ),
        UNTIL_DEPLOYED,
    )
}

/// A machine that a cold deploy made while this was at work.
pub(crate) fn came_with(machine: &MachineId, image: &str) -> NodeError {
    of_machine(
        machine,
        format!(
            "a `fly deploy` came between: it was started from {image}, which no machine had when this began"
        ),
        UNTIL_DEPLOYED,
    )
}

/// A history that ended with a cold deploy.
pub(crate) fn cold_since(base: &str, other: &str) -> NodeError {
    node_error(
        ErrorKind::Usage,
        format!(
            "the history of the store is of machines that were started from {base}, and these were started from {other} by a cold deploy since"
        ),
        "Go back by `fly deploy --image` with the image of before; the next rollout begins a new history.",
    )
}

/// What nodes go back to is in no store.
pub(crate) fn nothing_before() -> NodeError {
    node_error(
        ErrorKind::Store,
        "nodes were to go back, and the store does not say what was committed before",
        "Look with `flyhot history`; go back by `flyhot upgrade` with the old release and --down.",
    )
}

/// What to do about a rollout that was ended before everybody had gone back because of a failure.
pub(crate) const GOES_BACK: &str = "A node had failed before: `flyhot rollback` takes the others back; the same command would roll the release out anew.";

/// A signal that ended the command: with no node under way, before the window of one, or in it.
pub(crate) fn interrupted(signal: &str, under_way: &[&str], in_window: bool) -> NodeError {
    let nodes = under_way.join(", ");
    let (message, hint) = match under_way {
        [] => (
            format!("{signal}: no node was under way, and no further one is begun"),
            "Run the same command again: it goes on with the nodes that were not begun.",
        ),
        _ if in_window => (
            format!(
                "{signal} and a second signal while at work on {nodes}: the agent there finishes or undoes the window by itself"
            ),
            "Run `flyhot plan` with the same options to see what the node runs now.",
        ),
        _ => (
            format!(
                "{signal} while at work on {nodes}, before code was touched there: the agent cleans up by itself"
            ),
            "Run the same command again.",
        ),
    };
    node_error(ErrorKind::Interrupted, message, hint)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flyhot_node::Cookie;

    use super::*;
    use crate::options::Door;

    #[test]
    fn every_failure_to_connect_is_one_sentence_with_a_next_step() {
        let peer = || "shop@10.0.0.1".parse::<NodeName>().unwrap();
        let address = || "10.0.0.1:4369".to_owned();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let timeout = |step| ConnectError::HandshakeTimeout {
            peer: peer(),
            step,
            after: Duration::from_secs(7),
        };
        let table = [
            (
                ConnectError::NoSuchHost {
                    host: "h".into(),
                    source: None,
                },
                "the host h has no address",
            ),
            (
                ConnectError::NoEpmd {
                    address: address(),
                    source: refused(),
                },
                "no epmd answers on 10.0.0.1:4369: connection refused",
            ),
            (
                ConnectError::NotEpmd { address: address() },
                "what answers on 10.0.0.1:4369 is not epmd",
            ),
            (
                ConnectError::NotRegistered {
                    name: "shop".into(),
                    address: address(),
                },
                "epmd on 10.0.0.1:4369 knows no node shop",
            ),
            (
                ConnectError::Refused {
                    address: "10.0.0.1:9100".into(),
                    source: refused(),
                },
                "nobody listens on 10.0.0.1:9100: connection refused",
            ),
            (
                ConnectError::CookieRefused { peer: peer() },
                "shop@10.0.0.1 refused the cookie",
            ),
            (
                ConnectError::NameClash { peer: peer() },
                "shop@10.0.0.1 has a connection under our name already",
            ),
            (
                ConnectError::NotAllowed { peer: peer() },
                "shop@10.0.0.1 does not allow connections of this side",
            ),
            (
                ConnectError::OtherNode {
                    peer: peer(),
                    found: "b@h".into(),
                },
                "the node that answered is b@h, not shop@10.0.0.1",
            ),
            (
                ConnectError::Tls {
                    peer: peer(),
                    fault: TlsFault::OtherHost("10.0.0.1".into()),
                },
                "no TLS with shop@10.0.0.1: the node's certificate is not for the host 10.0.0.1",
            ),
            (
                timeout(HandshakeStep::Tls),
                "shop@10.0.0.1 did not answer within 7000 ms while agreeing on TLS",
            ),
            (
                timeout(HandshakeStep::Epmd),
                "shop@10.0.0.1 did not answer within 7000 ms while asking epmd",
            ),
            (
                ConnectError::Handshake {
                    peer: peer(),
                    step: HandshakeStep::SendName,
                    what: "noise".into(),
                },
                "the handshake with shop@10.0.0.1 failed while exchanging names: noise",
            ),
        ];
        for (error, sentence) in table {
            let refused = matches!(error, ConnectError::CookieRefused { .. });
            let node = Peer {
                name: peer(),
                door: Door {
                    cookie: Cookie::new("c"),
                    cookie_place: "rel/releases/COOKIE".into(),
                    dist_port: None,
                    epmd_port: 4369,
                    tls: None,
                },
                machine: None,
            };
            let error = connect(&node, &error);
            assert_eq!(error.hint.contains("rel/releases/COOKIE"), refused);
            assert_eq!(error.message, format!("connecting to shop@10.0.0.1: {sentence}"));
            assert_eq!(error.kind, ErrorKind::NodeUnreachable, "{sentence}");
            assert!(error.hint.ends_with('.'), "{sentence}");
        }
    }

    #[test]
    fn a_call_without_an_answer_is_a_bug_only_where_flyhot_is_to_blame() {
        let kind = |error| call(&error).0;
        assert_eq!(
            kind(CallError::Timeout {
                after: Duration::ZERO
            }),
            ErrorKind::NodeUnreachable
        );
        assert_eq!(
            kind(CallError::ConnectionLost { cause: String::new() }),
            ErrorKind::NodeUnreachable
        );
        assert_eq!(
            kind(CallError::MalformedTerm { what: String::new() }),
            ErrorKind::NodeUnreachable
        );
        assert_eq!(
            kind(CallError::FrameTooLarge { size: 1, max: 0 }),
            ErrorKind::NodeUnreachable
        );
        assert_eq!(
            kind(CallError::BadRpc {
                reason: String::new()
            }),
            ErrorKind::Bug
        );
        assert_eq!(kind(CallError::Argument { what: String::new() }), ErrorKind::Bug);
    }
}

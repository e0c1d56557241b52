//! The event stream: what a command says while it works, one JSON object a line.

use serde::{Deserialize, Serialize};

use crate::{ErrorKind, NodeStatus, Outcome, Reason, StatusProcess, Verdict, WayBack};

/// The version every line carries as `"v"`.
pub const FORMAT_VERSION: u32 = 1;

/// One line of the stream: `{"v":1,"event":…}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Always [`FORMAT_VERSION`].
    pub v: u32,
    /// The event; its fields stand beside `v` and `event`.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    /// The line of an event.
    pub fn new(event: Event) -> Self {
        Self {
            v: FORMAT_VERSION,
            event,
        }
    }
}

/// A step of the work on one node (docs/upgrade.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reading the release from disk.
    Read,
    /// Connecting and handing over the agent.
    Connect,
    /// Looking at modules and processes.
    Census,
    /// Looking for local funs of older builds and for whoever holds removed modules.
    Closures,
    /// Sending changed beams.
    Stage,
    /// Running the new code_change on live states.
    Rehearse,
    /// Waiting for processes on older code.
    Drain,
    /// Preparing new and old code for loading.
    Prepare,
    /// Looking how the node is, before its window.
    Baseline,
    /// Calling the `before` hooks of the policy file.
    HooksBefore,
    /// Pausing the listeners, and waiting for requests in changed modules to leave.
    Entry,
    /// Asking affected processes whether they read their mailbox.
    Knock,
    /// Freeze, swap, migrate, prove, thaw.
    Window,
    /// Writing the new code to the node's disk.
    Persist,
    /// Deleting modules that the release no longer has and nobody needs.
    Remove,
    /// Calling the `after` hooks of the policy file.
    HooksAfter,
    /// Asking the gate of the policy file whether the node is well.
    Gate,
    /// Looking how it is on the new code.
    Watch,
    /// Removing the agent and everything staged.
    Cleanup,
    /// Packing a release.
    Pack,
    /// Checking every byte of an artifact.
    Verify,
    /// Checking every byte of an artifact and writing what it holds.
    Unpack,
    /// Taking the lock of an app.
    Lock,
    /// Copying from a node's disk the code that it was started with.
    SaveBase,
    /// Putting an artifact into the store.
    Upload,
    /// Bringing an artifact from the store.
    Fetch,
    /// Having the next start of a release lead to an artifact's code, or back.
    Overlay,
    /// Asking the URL of a node whether it is well.
    CheckUrl,
    /// Asking Fly.io whether the checks of a machine pass.
    MachineChecks,
}

/// What a progress number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Modules.
    Modules,
    /// Processes.
    Processes,
    /// Bytes.
    Bytes,
    /// Files.
    Files,
    /// Attempts.
    Attempts,
    /// Calls of functions of the user's own.
    Calls,
    /// Signals of a node.
    Signals,
}

/// What the node said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCensus {
    /// OTP release, `"25"`.
    pub otp: String,
    /// ERTS version, `"13.1.5"`.
    pub erts: String,
    /// Elixir version; absent on a node without Elixir.
    pub elixir: Option<String>,
    /// Loaded modules.
    pub modules: u64,
    /// Live processes.
    pub processes: u64,
}

/// The modules of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedModules {
    /// Loaded with another md5, by name.
    pub changed: Vec<String>,
    /// Not loaded yet, by name.
    pub added: Vec<String>,
    /// Loaded and absent from the release, by name.
    pub removed: Vec<String>,
    /// How many stay as they are.
    pub unchanged: u64,
}

/// What would happen to the processes of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedKind {
    /// The module whose behaviour the processes run, `"Shop.Cart"`.
    pub host: String,
    /// `gen_server`, `gen_statem`, `gen_event`, `supervisor`, `special`, `agent`, `task`, `proc_lib`, `raw`.
    pub behaviour: String,
    /// How many processes.
    pub processes: u64,
    /// `migrate`, `keep`, `hold` (a supervisor: frozen first, released last, never migrated) or `leave`.
    pub fate: String,
    /// `in_place`, `apart` or `no`.
    pub rehearsal: String,
    /// Why, where the fate, the rehearsal or the host is not the usual one; else empty.
    pub why: String,
}

/// The functions of the policy file that an upgrade would call on the node, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCalls {
    /// Before the knock, `"Shop.Upgrade.before/0"`.
    pub before: Vec<String>,
    /// After the window.
    pub after: Vec<String>,
    /// Whether the node is well, last.
    pub gate: Option<String>,
}

/// Why an artifact is taken on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactTrust {
    /// One of the machine's public keys signed it.
    Signed,
    /// The machine has no public keys: it takes whatever is whole.
    AnyTaken,
    /// It was made here: nobody was asked.
    NotAsked,
}

/// An artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFacts {
    /// Its file, as given.
    pub file: String,
    /// sha256 of its bytes, 64 hex digits.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// The release's name.
    pub release: String,
    /// The release's version.
    pub version: String,
    /// `hot` or `full`.
    pub contents: String,
    /// How many files it holds.
    pub files: u64,
    /// Their bytes.
    pub files_size: u64,
    /// The code id of what it adds to OTP and Elixir, 64 hex digits.
    pub code_id: String,
    /// sha256 of its manifest, 64 hex digits: what is signed.
    pub manifest_digest: String,
    /// Why it is taken.
    pub trust: ArtifactTrust,
    /// The public key that signed it; absent where none was asked for.
    pub signed_by: Option<String>,
}

/// What a machine boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootWhat {
    /// The code of an artifact.
    Target,
    /// What its image brings.
    Base,
    /// What an upgrade or a boot left before, which could not be changed.
    AsItIs,
}

/// Why it boots that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootWhy {
    /// It is what was committed last.
    Committed,
    /// A rollout is under way: it is what was committed before.
    Trial,
    /// Nothing was deployed.
    NothingDeployed,
    /// What was deployed is for another image.
    OtherImage,
    /// Nobody names a store.
    NoStore,
    /// What names the store cannot be read.
    NotConfigured,
    /// The store did not say what to boot, or did not give it.
    StoreFailed,
    /// The artifact is not signed by a key that the machine trusts.
    NotTrusted,
    /// The artifact is damaged, or not for what is installed.
    NotUsable,
    /// The directory of the release could not be read or written.
    NotWritten,
}

/// Whoever holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// The person or token.
    pub who: String,
    /// The machine.
    pub machine: String,
    /// What for.
    pub purpose: String,
    /// How long they held it when they last renewed it, by their own clock, seconds.
    pub held_s: u64,
    /// How long ago that was, by the store's clock, seconds; absent where the store could not tell.
    pub renewed_s: Option<u64>,
    /// How long the lease goes on if it is not renewed, seconds; 0 once it is over.
    pub left_s: u64,
}

/// An artifact that a fleet runs or ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The release's version.
    pub version: String,
    /// The code id, 64 hex digits.
    pub code_id: String,
    /// sha256 of the artifact, 64 hex digits.
    pub digest: String,
    /// When it was packed, seconds since 1970, by the clock of whoever packed it.
    pub created_at: u64,
    /// `trial`: a rollout of it is under way; `committed`: machines boot it; `previous`: they did.
    pub state: String,
}

/// A value that arguments, configuration and environment say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// The value as text; absent where it is not set or not shown.
    pub value: Option<String>,
    /// Whether it is set and not shown.
    pub secret: bool,
    /// Who said it: `argument`, `mix`, `fly`, `environment`, `project`, `file`, `flyctl` or `default`; absent where it is not set or not asked for.
    pub origin: Option<String>,
    /// Where exactly; absent as above.
    pub place: Option<String>,
}

/// Which way the nodes of a wave go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveWay {
    /// To what is rolled out.
    Forth,
    /// Back to what was committed before.
    Back,
}

/// What a machine of an inventory is to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineRole {
    /// It runs a node, which is asked or upgraded.
    Node,
    /// It is not started: it boots what its fleet should run.
    LeftToBoot,
    /// It runs no Erlang.
    Other,
    /// It should have a node that can be reached, and has none; an error says why.
    Lacking,
}

/// What there is to say of the lease of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Somebody else holds it, and is waited for.
    WaitedFor,
    /// The token may not lease: machines are worked on without. Said once.
    MayNot,
    /// It was not given in time, and the node goes back without.
    Without,
    /// It was held, and is no longer: somebody else may change the machine.
    Lost,
}

/// A machine of an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryMachine {
    /// Its id.
    pub machine: String,
    /// Where it is.
    pub region: String,
    /// Its process group; absent where it has none, or its host does not answer.
    pub group: Option<String>,
    /// What it is at this moment, in Fly's own word.
    pub state: String,
    /// The image that it was made from; absent where its host does not answer.
    pub image: Option<String>,
    /// What it is to the command.
    pub role: MachineRole,
    /// Its node; absent where it has none.
    pub node: Option<String>,
}

/// Something that happened, in the order it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A command began.
    Started {
        /// `upgrade`, `plan`, `status`, `thaw`, `doctor`, `restore-base`, `pack`, `verify`, `unpack`, `keygen`, `sign`, `rollout`,
        /// `rollback`, `deploy`, `orchestrate`, `tell`, `lock`, `history`, `gc`, `config` or `boot`.
        command: String,
        /// Node names in order; none where no node is asked anything.
        nodes: Vec<String>,
        /// The release directory as given; absent where none is asked for.
        release: Option<String>,
        /// The policy file as given; absent without one.
        policy: Option<String>,
        /// flyhot's own version.
        flyhot: String,
    },
    /// Nodes were asked for, and these machines are there.
    Inventory {
        /// The app.
        app: String,
        /// Its machines.
        machines: Vec<InventoryMachine>,
    },
    /// Something about the lease of a machine that is worked on.
    Lease {
        /// The node.
        node: String,
        /// Its machine.
        machine: String,
        /// What.
        state: LeaseState,
        /// Who holds it, as Fly has it; absent where that is not known.
        holder: Option<String>,
        /// Until when, as Fly has it; absent as above.
        until: Option<String>,
        /// What Fly said; absent while somebody is waited for.
        why: Option<String>,
    },
    /// A node was not begun, because its machine was stopped, suspended or removed since it was asked for.
    LeftToBoot {
        /// The node.
        node: String,
        /// Its machine.
        machine: String,
        /// The state of the machine, as Fly has it.
        state: String,
    },
    /// A step began.
    StepStarted {
        /// The node; absent while the release is read.
        node: Option<String>,
        /// The step.
        step: Step,
    },
    /// A step got further.
    Progress {
        /// The node.
        node: Option<String>,
        /// The step.
        step: Step,
        /// How much is done.
        done: u64,
        /// Of how much.
        total: u64,
        /// What is counted.
        unit: Unit,
    },
    /// A step ended.
    StepDone {
        /// The node; absent while the release is read.
        node: Option<String>,
        /// The step.
        step: Step,
        /// How long it took, microseconds.
        duration_us: u64,
        /// How much it dealt with.
        count: u64,
        /// What is counted.
        unit: Unit,
    },
    /// What the node said of itself.
    Census {
        /// The node.
        node: String,
        /// What it said.
        census: NodeCensus,
    },
    /// What would be done, and the verdict.
    Plan {
        /// The node.
        node: String,
        /// The verdict.
        verdict: Verdict,
        /// Modules by change.
        modules: PlannedModules,
        /// Processes by kind.
        kinds: Vec<PlannedKind>,
        /// What a revert would be.
        way_back: WayBack,
        /// How long a revert would keep processes suspended, microseconds.
        revert_us: u64,
        /// How long processes would be suspended on a node that is idle, microseconds.
        freeze_us: u64,
        /// What would be called on the node.
        calls: PlannedCalls,
        /// Code ids now and then.
        code_id: crate::CodeIds,
        /// Everything the verdict rests on.
        reasons: Vec<Reason>,
    },
    /// One node as it is now.
    Status {
        /// The node.
        node: String,
        /// What it said.
        status: Box<NodeStatus>,
    },
    /// Processes of a node that are suspended, and what was done about it.
    Thaw {
        /// The node.
        node: String,
        /// How many were resumed.
        resumed: u64,
        /// Processes that are suspended, as many as are named.
        still: Vec<StatusProcess>,
        /// How many are suspended.
        still_count: u64,
    },
    /// The next start of a node loads what was there before any upgrade.
    RestoreBase {
        /// The node.
        node: String,
        /// How many files were put back; 0 where no upgrade had changed what a start loads.
        files: u64,
    },
    /// Whether one thing about a node is as an upgrade needs it.
    Check {
        /// The node.
        node: String,
        /// What was looked at: a word or two.
        check: String,
        /// Whether it is well.
        well: bool,
        /// What was found.
        found: String,
        /// How to mend it; empty where it is well.
        fix: String,
    },
    /// An artifact that was packed, checked, unpacked or signed.
    Artifact {
        /// What it is.
        artifact: ArtifactFacts,
        /// Where it was unpacked to; absent where it was not.
        directory: Option<String>,
        /// The file its signature was written to; absent where none was.
        signature: Option<String>,
    },
    /// A pair of keys was made.
    Key {
        /// The file that holds the private one.
        file: String,
        /// The public one.
        public: String,
    },
    /// What the lock of an app is.
    Lock {
        /// The app.
        app: String,
        /// The store: a directory or a bucket.
        store: String,
        /// Who holds it; absent: nobody.
        holder: Option<LockHolder>,
        /// Its number; 0 where nobody ever took it.
        fencing: u64,
        /// Whom it was taken from by this command; absent: nobody.
        released: Option<LockHolder>,
    },
    /// What a fleet should run and ran, the latest first.
    History {
        /// The app.
        app: String,
        /// The store: a directory or a bucket.
        store: String,
        /// The image of the machines that it is for; absent where there are none.
        base_image: Option<String>,
        /// The artifacts.
        artifacts: Vec<HistoryEntry>,
    },
    /// What the builder of an image said.
    Build {
        /// A line of it.
        line: String,
    },
    /// What a deploy does.
    Deploy {
        /// The app.
        app: String,
        /// The app's configuration on Fly.io.
        config: String,
        /// The image that is there already; absent: it is built.
        image: Option<String>,
        /// Where the orchestrator is made; absent: Fly.io decides.
        region: Option<String>,
        /// What runs on the machine of the orchestrator.
        command: Vec<String>,
        /// The names of what its environment has besides the app's secrets.
        env: Vec<String>,
        /// Whether nothing of it is done.
        dry_run: bool,
    },
    /// A machine for the orchestrator was made. It is started, goes on when nobody follows, and removes itself.
    Orchestrator {
        /// The app.
        app: String,
        /// The machine's id.
        machine: String,
        /// Its name.
        name: String,
        /// Where it is.
        region: String,
        /// The image that it is of; of a deploy the one that the app is upgraded to.
        image: String,
    },
    /// The command runs on a machine of the app, which has what is lacking here; what follows was said there.
    Elsewhere {
        /// The app.
        app: String,
        /// The machine's id.
        machine: String,
        /// Where it is.
        region: String,
    },
    /// Whoever follows an orchestrator was asked to end, and asks it to begin nothing more.
    Stopping {
        /// By what: a signal, or the end of mix.
        signal: String,
        /// The orchestrator's machine.
        machine: String,
        /// How to follow it and how to stop it from elsewhere.
        hint: String,
    },
    /// An artifact goes into the store once somebody who has the key has signed it.
    ToSign {
        /// sha256 of its manifest, 64 hex digits: what is to be signed.
        manifest_digest: String,
    },
    /// What arguments, configuration and environment say.
    Config {
        /// Every value.
        settings: Vec<Setting>,
    },
    /// What the store says from now on that machines boot.
    Pointer {
        /// The app.
        app: String,
        /// The store: a directory or a bucket.
        store: String,
        /// `trial`: a rollout is under way or did not come to its end, and machines boot what was committed before; `committed`: they
        /// boot this; `abandoned`: they boot what was committed before, and this is forgotten; `unchanged`: it said so before.
        state: String,
        /// The artifact that it is about.
        artifact: HistoryEntry,
        /// The number of the lock.
        fencing: u64,
        /// Whom the lock was taken from by force; absent: nobody.
        displaced: Option<String>,
    },
    /// Nodes of a rollout are begun, all of them before any other; events of several nodes come in between each other.
    Wave {
        /// From 1; the canary is a wave of its own. Whoever goes back is one wave, the last.
        wave: u64,
        /// Which way.
        way: WaveWay,
        /// The nodes.
        nodes: Vec<String>,
        /// How many of them are worked on at once, at most.
        at_once: u64,
    },
    /// The canary is upgraded and well, and nobody else is begun for a while.
    Bake {
        /// The canary.
        node: String,
        /// For how long, microseconds.
        bake_us: u64,
    },
    /// What was removed from a store.
    Gc {
        /// The app.
        app: String,
        /// The store: a directory or a bucket.
        store: String,
        /// How many artifacts are kept.
        kept: u64,
        /// sha256 of each that was removed, or would be.
        removed: Vec<String>,
        /// Their bytes.
        removed_size: u64,
        /// How many uploads that never came to their end were removed.
        unfinished: u64,
        /// Whether it was only looked.
        dry_run: bool,
    },
    /// What a machine boots. Unless the outcome says otherwise the command that starts it has taken flyhot's place then.
    Boot {
        /// What.
        what: BootWhat,
        /// Why.
        why: BootWhy,
        /// The release's version; absent where it is not known.
        version: Option<String>,
        /// sha256 of the artifact, 64 hex digits; absent where none boots.
        digest: Option<String>,
        /// Its code id, 64 hex digits.
        code_id: Option<String>,
        /// Why the artifact is taken.
        trust: Option<ArtifactTrust>,
        /// The public key that signed it.
        signed_by: Option<String>,
        /// The app; absent where no store was asked.
        app: Option<String>,
        /// The store: a directory or a bucket.
        store: Option<String>,
        /// The image of the machine; absent where it has none.
        image: Option<String>,
        /// How many files were written for it; 0 where everything was there.
        files: u64,
    },
    /// A freeze was given up and everything thawed; another attempt may follow.
    Attempt {
        /// The node.
        node: String,
        /// Which attempt, from 1.
        attempt: u64,
        /// How many there may be.
        of: u64,
        /// Why it was given up.
        reasons: Vec<Reason>,
    },
    /// An error ended the command or the work on a node, or kept `boot` from an artifact.
    Error {
        /// The node it happened on, if on one.
        node: Option<String>,
        /// What kind it is; names the exit code.
        kind: ErrorKind,
        /// What was tried, on what, and what came back.
        message: String,
        /// What to do next.
        hint: String,
    },
    /// The last line.
    Outcome(Outcome),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExitCode, OutcomeKind};

    #[test]
    fn the_last_line_is_flat() {
        let line = Line::new(Event::Outcome(Outcome {
            outcome: OutcomeKind::NothingToDo,
            exit_code: ExitCode::SUCCESS,
            nodes: vec![],
        }));
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"event":"outcome","outcome":"nothing_to_do","exit_code":0,"nodes":[]}"#
        );
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }

    #[test]
    fn a_reader_skips_fields_it_does_not_know() {
        let line: Line = serde_json::from_str(
            r#"{"v":1,"event":"step_started","node":"a@b","step":"census","later":true}"#,
        )
        .unwrap();
        assert_eq!(
            line.event,
            Event::StepStarted {
                node: Some("a@b".into()),
                step: Step::Census
            }
        );
    }
}

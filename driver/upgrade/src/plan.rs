//! The plan: what changes, who is affected, how each kind fares, and the verdict.

mod closer;
mod predict;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};

use flyhot_events::{
    PlannedCalls, PlannedKind, PlannedModules, Predicted, Reason, ReasonCode, Severity, Verdict, WayBack,
};

use crate::held::{self, HeldReport, Removed};
use crate::judge::process_name;
use crate::target::{
    Calls, Closer, CodeChange, NodeFunction, Policy, Target, TargetApplication, TargetModule,
};
use crate::{
    Behaviour, Census, EntryReport, Fate, Kind, NodeApplication, NodeFacts, PrepareReport, Rehearsal,
    RehearsalReport, Script, ScriptKind, ScriptModule, WayBackReport, entry,
};

/// How many processes or modules one reason names before it only counts.
pub(crate) const NAMED: usize = 20;

/// The modules of a change, each list sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Loaded with another md5.
    pub changed: Vec<String>,
    /// Not loaded, and the node's disk does not have them either.
    pub added: Vec<String>,
    /// Loaded from one of the target's own applications, or as a consolidated protocol, and absent from it.
    pub removed: Vec<String>,
    /// Own modules that stay as they are.
    pub unchanged: u64,
}

impl Changes {
    /// Whether the node runs the target already. Modules that merely stay loaded are no work.
    pub fn is_nothing(&self) -> bool {
        self.changed.is_empty() && self.added.is_empty()
    }

    /// Everything that is swapped.
    pub fn swapped(&self) -> impl Iterator<Item = &String> {
        self.changed.iter().chain(&self.added)
    }
}

/// Compares the target with what the node has loaded.
///
/// `on_disk` are modules that are not loaded but whose file on the node is the target's: an interactive node loads
/// them when they are called.
pub fn changes(target: &Target, facts: &NodeFacts, on_disk: &BTreeSet<String>) -> Changes {
    let mut changes = Changes::default();
    for (name, module) in target.modules.iter().filter(|(_, module)| module.own) {
        match facts.modules.get(name) {
            Some(loaded) if loaded.md5 == module.md5 => changes.unchanged += 1,
            Some(_) => changes.changed.push(name.clone()),
            None if on_disk.contains(name) => changes.unchanged += 1,
            None => changes.added.push(name.clone()),
        }
    }
    for (name, loaded) in &facts.modules {
        let own =
            own_application(target, facts, &loaded.file).is_some() || is_consolidated(facts, &loaded.file);
        if own && !target.modules.contains_key(name) {
            changes.removed.push(name.clone());
        }
    }
    changes
}

/// A protocol that Mix consolidated for the release, `releases/VSN/consolidated`.
fn is_consolidated(facts: &NodeFacts, file: &str) -> bool {
    below(file, &facts.root_dir)
        && file
            .rsplit_once('/')
            .is_some_and(|(directory, _)| directory.ends_with("/consolidated"))
}

/// The target's own application that a file of the node belongs to.
fn own_application<'a>(target: &'a Target, facts: &NodeFacts, file: &str) -> Option<&'a String> {
    target
        .applications
        .iter()
        .filter(|(_, application)| application.own)
        .map(|(name, _)| name)
        .find(|name| {
            facts.applications.get(*name).is_some_and(|application| {
                !application.dir.is_empty()
                    && (below(file, &application.dir) || is_generation_of(name, facts, file))
            })
        })
}

/// Whether a file lies in another directory of an application below the release: an upgrade before had it moved on.
fn is_generation_of(name: &str, facts: &NodeFacts, file: &str) -> bool {
    let directory = file
        .rsplit_once('/')
        .and_then(|(directory, _)| directory.strip_suffix("/ebin"));
    let versioned = directory.and_then(|directory| directory.rsplit('/').next());
    // As the code server takes it apart.
    below(file, &facts.root_dir) && versioned.and_then(|named| named.split('-').next()) == Some(name)
}

/// How one affected kind fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindPlan {
    /// The kind.
    pub kind: Kind,
    /// `None`: left alone.
    pub fate: Option<Fate>,
    /// How its code_change is tried.
    pub rehearsal: Rehearsal,
    /// Whether its code_change runs apart after the swap too.
    pub apart: bool,
    /// Whether its code_change may not end and another process can run it in its place.
    pub can_run_apart: bool,
    /// Why, where it is left alone or not rehearsed.
    pub why: String,
}

/// A plan for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The modules.
    pub changes: Changes,
    /// What becomes of those that the release no longer has.
    pub removed: Removed,
    /// Kinds whose code changes.
    pub kinds: Vec<KindPlan>,
    /// What is called on the node.
    pub calls: Calls,
    /// Everything found, in the order found.
    pub reasons: Vec<Reason>,
    /// What a revert would be.
    pub way_back: WayBack,
    /// How long it would take, microseconds.
    pub revert_us: u64,
    /// How long processes would be suspended on a node that is idle, microseconds.
    pub freeze_us: u64,
}

/// What a plan is made of.
#[derive(Debug)]
pub struct PlanInput<'a> {
    /// The release.
    pub target: &'a Target,
    /// The node.
    pub facts: &'a NodeFacts,
    /// Its processes.
    pub census: &'a Census,
    /// The modules.
    pub changes: &'a Changes,
    /// Of each changed module that has one: what the call graph says of its code_change.
    pub code_changes: &'a BTreeMap<String, CodeChange>,
    /// What a closer look brought.
    pub closer: &'a Closer,
    /// Changed modules whose loaded code is not what lies on the node's disk, where it would be booted from.
    pub drifted: &'a BTreeSet<String>,
    /// Of these, those whose code is not to be had where it was loaded from either.
    pub lost: &'a BTreeSet<String>,
    /// Who holds code by references that no stack shows.
    pub held: &'a HeldReport,
    /// How long was looked for them, milliseconds.
    pub held_limit_ms: u64,
    /// Of each removed module that the release's own code still names: one module that does.
    pub named_by: &'a BTreeMap<String, String>,
    /// A module of the release that asks applications for their modules.
    pub listing: Option<&'a str>,
    /// Of the functions that the policy wants called, those that are not there.
    pub missing: &'a Calls,
    /// What was sampled.
    pub way_back: &'a WayBackReport,
    /// The listeners, where they are to be paused.
    pub entry: Option<&'a EntryReport>,
    /// What the user wants.
    pub policy: &'a Policy,
}

/// Makes the plan.
pub fn plan(input: &PlanInput<'_>) -> Plan {
    let changed: BTreeSet<&String> = input.changes.swapped().collect();
    let kinds: Vec<KindPlan> = input
        .census
        .kinds
        .iter()
        .filter(|kind| kind.modules.iter().any(|module| changed.contains(module)))
        .map(|kind| kind_plan(kind, input))
        .collect();
    let mut reasons = Vec::new();
    toolchain(input, &mut reasons);
    applications(input, &mut reasons);
    modules(input, &mut reasons);
    let nothing = input.changes.is_nothing();
    if !nothing {
        disk(input, &mut reasons);
        held::closures(input.held, input.held_limit_ms, &mut reasons);
    }
    let removed = Removed::new(input);
    reasons.extend(removed.reason());
    if !nothing {
        processes(&kinds, input, &mut reasons);
    }
    closer::reasons(&kinds, input, &mut reasons);
    wishes::hosts(input, &mut reasons);
    wishes::missing(input.missing, &mut reasons);
    let (way_back, revert_us, no_way_back) = predict::revert(&kinds, input);
    way_back_reasons(way_back, revert_us, no_way_back, input, &mut reasons);
    reasons.extend(input.entry.map(entry::planned).unwrap_or_default());
    accept(&mut reasons, &input.policy.accept);
    Plan {
        freeze_us: predict::freeze(&kinds, input.changes.swapped().count(), None),
        changes: input.changes.clone(),
        removed,
        kinds,
        calls: input.policy.calls.clone(),
        reasons,
        way_back,
        revert_us,
    }
}

/// Reasons that are accepted by name no longer refuse.
pub fn accept(reasons: &mut [Reason], accepted: &BTreeMap<ReasonCode, String>) {
    for reason in reasons {
        if reason.severity == Severity::Cold
            && let Some(who) = accepted.get(&reason.code)
        {
            reason.severity = Severity::Warning;
            reason.sentence = format!("{}; accepted {who}", reason.sentence);
        }
    }
}

fn kind_plan(kind: &Kind, input: &PlanInput<'_>) -> KindPlan {
    let left = |why: &str| KindPlan {
        kind: kind.clone(),
        fate: None,
        rehearsal: Rehearsal::No,
        apart: false,
        can_run_apart: false,
        why: why.into(),
    };
    match kind.behaviour {
        Behaviour::Supervisor => {
            return left("supervisors keep their child specs; no code_change is run on them");
        }
        Behaviour::Agent => return left("an Agent's state belongs to closures; it is never suspended"),
        Behaviour::Task => return left("a Task runs to its end on the code it started with"),
        Behaviour::ProcLib | Behaviour::Raw => return left("it does not answer system messages"),
        Behaviour::Unasked => return left("what runs it does not show whose callbacks it has"),
        Behaviour::Hidden => return left("it does not show what runs it"),
        Behaviour::System => return left("it belongs to the runtime system"),
        Behaviour::GenServer | Behaviour::GenStatem | Behaviour::GenEvent | Behaviour::Special => {}
    }
    let asked: Vec<String> = match kind.behaviour {
        Behaviour::GenEvent => kind.modules.clone(),
        _ => vec![kind.host.clone()],
    }
    .into_iter()
    .filter(|module| migrates(kind.behaviour, module, input))
    .collect();
    if asked.is_empty() {
        return KindPlan {
            kind: kind.clone(),
            fate: Some(Fate::Keep),
            rehearsal: Rehearsal::No,
            apart: false,
            can_run_apart: false,
            why: "no code_change: the state is kept as it is".into(),
        };
    }
    let (rehearsal, why) = rehearsal(kind, &asked, input);
    let can_run_apart = can_run_apart(kind, &asked, input);
    KindPlan {
        kind: kind.clone(),
        apart: rehearsal == Rehearsal::No && can_run_apart,
        can_run_apart,
        fate: Some(Fate::Migrate { modules: asked }),
        rehearsal,
        why,
    }
}

/// The changed module whose code_change processes of this kind would need, and are not asked for. One that stayed as it was, such as that
/// which every server of Elixir has, leads nowhere.
fn unasked<'a>(kind: &'a Kind, input: &PlanInput<'_>) -> Option<&'a String> {
    let leads = |module: &&String| {
        input.changes.swapped().any(|name| name == *module)
            && closer::takes_over(input, module) != closer::TakesOver::No
    };
    let is_unasked = matches!(kind.behaviour, Behaviour::Unasked | Behaviour::Hidden);
    kind.modules.iter().find(leads).filter(|_| is_unasked)
}

/// Whether a module is asked: decided by what the new code exports. A wrapper host outside the change set is asked
/// always, because its own code_change hands on to the user's module.
fn migrates(behaviour: Behaviour, module: &str, input: &PlanInput<'_>) -> bool {
    let Some(target) = input.target.modules.get(module) else {
        return true;
    };
    let changed = input.changes.swapped().any(|name| name == module);
    if behaviour == Behaviour::GenEvent && !changed {
        return false;
    }
    match behaviour {
        Behaviour::GenServer | Behaviour::GenEvent => target.code_change_3,
        Behaviour::GenStatem => target.code_change_4,
        Behaviour::Special => target.system_code_change,
        _ => false,
    }
}

fn rehearsal(kind: &Kind, asked: &[String], input: &PlanInput<'_>) -> (Rehearsal, String) {
    if !input.policy.rehearse {
        return (Rehearsal::No, "--no-rehearsal".into());
    }
    let mut how = Rehearsal::InPlace;
    for module in asked {
        let looked = input.closer.modules.get(module);
        if kind.behaviour == Behaviour::Special && looked.is_some_and(|looked| looked.partial) {
            return (
                Rehearsal::No,
                format!(
                    "the system_replace_state/2 of {} shows a part of what its system_code_change/4 is asked for",
                    elixir_name(module)
                ),
            );
        }
        match input.code_changes.get(module) {
            Some(CodeChange::Ends) => {}
            // The processes of a manager with several handlers answer together: one that hangs would hold them all.
            Some(CodeChange::MayNotEnd { .. }) if kind.behaviour == Behaviour::GenEvent => {
                return (
                    Rehearsal::No,
                    format!("{}: its code_change may not end", elixir_name(module)),
                );
            }
            Some(CodeChange::MayNotEnd { .. }) => how = Rehearsal::Apart,
            Some(CodeChange::Cannot(why)) => return (Rehearsal::No, why.clone()),
            None => {
                return (
                    Rehearsal::No,
                    format!(
                        "{} does not change; it hands on to a module that does",
                        elixir_name(module)
                    ),
                );
            }
        }
    }
    (how, String::new())
}

/// A code_change that may not end is not let into the process itself unless a rehearsal showed that it ends there.
/// The state of these two behaviours is all that their own code_change sets.
fn can_run_apart(kind: &Kind, asked: &[String], input: &PlanInput<'_>) -> bool {
    matches!(kind.behaviour, Behaviour::GenServer | Behaviour::GenStatem)
        && asked.iter().all(|module| {
            matches!(
                input.code_changes.get(module),
                Some(CodeChange::MayNotEnd { anywhere: true })
            )
        })
}

fn toolchain(input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    let (target, facts) = (input.target, input.facts);
    let mut differs = |subject: &str, node: &str, release: &str| {
        reasons.push(Reason::new(
            ReasonCode::ToolchainDiffers,
            subject,
            format!("the node runs {subject} {node}, the release was built with {release}"),
            "Build the release with the node's versions, or deploy it cold.",
        ));
    };
    if target.erts != facts.erts {
        differs("ERTS", &facts.erts, &target.erts);
    }
    if target.elixir != facts.elixir {
        let none = "none".to_owned();
        differs(
            "Elixir",
            facts.elixir.as_ref().unwrap_or(&none),
            target.elixir.as_ref().unwrap_or(&none),
        );
    }
    if let Some(architecture) = &target.architecture
        && !same_processor(architecture, &facts.architecture)
    {
        differs("the architecture", &facts.architecture, architecture);
    }
    for (name, application) in target
        .applications
        .iter()
        .filter(|(_, application)| !application.own)
    {
        match facts.applications.get(name) {
            Some(node) if node.version != application.version => {
                differs(name, &node.version, &application.version);
            }
            _ => {}
        }
    }
    let other: Vec<&str> = target
        .modules
        .iter()
        .filter(|(name, module)| {
            !module.own
                && facts
                    .modules
                    .get(*name)
                    .is_some_and(|loaded| loaded.md5 != module.md5)
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if let Some(first) = other.first() {
        reasons.push(Reason::new(
            ReasonCode::ToolchainDiffers,
            elixir_name(first),
            format!(
                "{} of OTP or Elixir not as on the node, {} the first",
                counted(other.len() as u64, "module"),
                elixir_name(first)
            ),
            "Build the release with the node's OTP and Elixir, or deploy it cold.",
        ));
    }
}

/// Whether the processor that a release's ERTS is for is the one that the node's `system_architecture` begins with. The
/// same goes by several names: `i386` to `i686`, `armv7l`, `powerpc64le`.
fn same_processor(release: &str, node: &str) -> bool {
    let node = node.split('-').next().unwrap_or(node);
    let family = |name: &str| match name {
        "amd64" => "x86_64".to_owned(),
        "i386" | "i486" | "i586" => "i686".to_owned(),
        "arm64" => "aarch64".to_owned(),
        name if name.starts_with("arm") => "arm".to_owned(),
        name => name.trim_end_matches("le").to_owned(),
    };
    family(release) == family(node)
}

fn applications(input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    let (target, facts) = (input.target, input.facts);
    for (name, application) in &target.applications {
        let Some(node) = facts.applications.get(name) else {
            if !application.loaded {
                continue;
            }
            reasons.push(Reason::new(
                ReasonCode::ApplicationAdded,
                name,
                format!(
                    "the release has the application {name} {}, which the node has not loaded",
                    application.version
                ),
                "Deploy it cold, or accept that it is not started (--accept application_added).",
            ));
            continue;
        };
        if application.own {
            resource(name, application, node, reasons);
        }
    }
    for (name, application) in &facts.applications {
        if application.running
            && !target.applications.contains_key(name)
            && below(&application.dir, &facts.root_dir)
        {
            reasons.push(Reason::new(
                ReasonCode::ApplicationRemoved,
                name,
                format!(
                    "the node runs the application {name} {}, which the release does not have",
                    application.version
                ),
                "Deploy it cold, or accept that it keeps running (--accept application_removed).",
            ));
        }
    }
}

fn below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory.trim_end_matches('/'))
        .is_some_and(|rest| rest.starts_with('/'))
}

/// What its `.app` file says that the running application does not have. Values are the node's own: its configuration
/// may set them.
fn resource(name: &str, application: &TargetApplication, node: &NodeApplication, reasons: &mut Vec<Reason>) {
    let missing: Vec<&str> = application
        .environment
        .iter()
        .filter(|key| !node.environment.contains(*key))
        .map(String::as_str)
        .collect();
    if let Some(first) = missing.first() {
        reasons.push(Reason::new(
            ReasonCode::ConfigurationChanged,
            name,
            format!(
                "the .app file of {name} sets {} in its env that the node does not have, {first} the first",
                counted(missing.len() as u64, "key")
            ),
            "Set them on the node first (application:set_env/3), or deploy it cold.",
        ));
    }
    if application.appup && application.version != node.version {
        reasons.push(Reason::new(
            ReasonCode::AppupIgnored,
            name,
            format!(
                "the .appup file of {name} is not followed: what is to be done from {} to {} is found out from the code and the processes",
                node.version, application.version
            ),
            "Where it has instructions of your own, call them by a hook of the policy.",
        ));
    }
    if application.start_module != node.start_module {
        let shown =
            |module: &Option<String>| module.as_deref().map_or_else(|| "none".to_owned(), elixir_name);
        reasons.push(Reason::new(
            ReasonCode::StartModuleChanged,
            shown(&application.start_module),
            format!(
                "the start module of {name} is {} and was {} when the node started it; it is not run again",
                shown(&application.start_module),
                shown(&node.start_module)
            ),
            "Check that nothing new is started or attached there.",
        ));
    }
}

fn modules(input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    for name in input.changes.swapped() {
        let (Some(module), shown) = (input.target.modules.get(name), elixir_name(name)) else {
            continue;
        };
        module_reasons(name, module, &shown, input, reasons);
    }
    let configuration = configuration_changed(input);
    if let Some(first) = configuration.first() {
        reasons.push(Reason::new(
            ReasonCode::ConfigurationChanged,
            *first,
            format!(
                "{} of the release differs from what the node was booted with, which reads it only at its start",
                configuration.join(" and ")
            ),
            "Deploy it cold where the change matters.",
        ));
    }
}

/// What a restart would boot.
fn disk(input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    if !input.policy.persist {
        reasons.push(Reason::new(
            ReasonCode::PersistOff,
            input.facts.root_dir.clone(),
            "the new code is not written to the node's disk; a restart boots the old code",
            "Leave out --no-persist.",
        ));
    }
}

/// Names of the configuration files that differ; none where the node runs from no release.
fn configuration_changed<'a>(input: &PlanInput<'a>) -> Vec<&'a str> {
    let (target, node) = (&input.target.configuration, &input.facts.configuration);
    if node.is_empty() {
        return Vec::new();
    }
    let mut names: Vec<&str> = target.keys().chain(node.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| target.get(*name) != node.get(*name));
    names
}

fn module_reasons(
    name: &str,
    module: &TargetModule,
    shown: &str,
    input: &PlanInput<'_>,
    reasons: &mut Vec<Reason>,
) {
    let mut add = |code, sentence: String, hint: &str| reasons.push(Reason::new(code, shown, sentence, hint));
    if module.loads_nif || input.closer.modules.get(name).is_some_and(|module| module.nifs) {
        add(
            ReasonCode::NifChanged,
            format!(
                "{shown} changed and {} a NIF, which cannot be swapped",
                if module.loads_nif { "loads" } else { "has" }
            ),
            "Deploy it cold.",
        );
    }
    if module.on_load {
        add(
            ReasonCode::OnLoadChanged,
            format!("{shown} changed and has an on_load function, which an atomic swap refuses"),
            "Deploy it cold.",
        );
    }
    if module.live_component && input.facts.modules.contains_key(name) {
        add(
            ReasonCode::ComponentStateUnmigrated,
            format!(
                "{shown} is a LiveComponent and changed; what its components keep in the LiveViews is migrated by no code_change"
            ),
            "Give new assigns a value in update/2 (assign_new).",
        );
    }
    if let Some(loaded) = input.facts.modules.get(name) {
        if loaded.sticky {
            add(
                ReasonCode::StickyModule,
                format!("{shown} lies in a sticky directory of the node"),
                "Unstick it on the node: code:unstick_mod/1.",
            );
        }
        if input.closer.modules.get(name).is_some_and(|module| module.traced) {
            add(
                ReasonCode::TracedModule,
                format!("{shown} is traced; the swap ends the trace"),
                "Set the trace again afterwards.",
            );
        }
        if loaded.cover {
            add(
                ReasonCode::CoverCompiled,
                format!("{shown} is cover-compiled on the node"),
                "Stop cover on the node, or accept it (--accept cover_compiled).",
            );
        }
        if input.drifted.contains(name) {
            add(
                ReasonCode::Drift,
                format!("the code that the node has loaded for {shown} is not what lies on its disk"),
                "Find out who loaded it.",
            );
        }
    }
}

fn processes(kinds: &[KindPlan], input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    if !input.policy.rehearse
        && kinds
            .iter()
            .any(|kind| matches!(kind.fate, Some(Fate::Migrate { .. })))
    {
        reasons.push(Reason::new(
            ReasonCode::RehearsalOff,
            "--no-rehearsal",
            "no code_change is tried before the swap; one that fails is found after it",
            "Leave out --no-rehearsal.",
        ));
    }
    if let Some(first) = input.census.silent.first() {
        reasons.push(Reason::new(
            ReasonCode::SupervisorSilent,
            process_name(first),
            format!(
                "{}, {} the first, did not say within 5 s which children there are: processes that only their child spec \
                 ties to a changed module are taken for unaffected",
                counted(input.census.silent.len() as u64, "supervisor"),
                process_name(first)
            ),
            "See what it is starting, and try again.",
        ));
    }
    let mut states: u64 = 0;
    for plan in kinds {
        let shown = elixir_name(&plan.kind.host);
        match &plan.fate {
            None if let Some(module) = unasked(&plan.kind, input) => reasons.push(Reason::new(
                ReasonCode::NotAsked,
                elixir_name(module),
                format!(
                    "{} of {} would not be asked for its code_change: {}",
                    counted(plan.kind.processes, "process"),
                    elixir_name(module),
                    plan.why
                ),
                "A server that entered its loop from a function of that module can be named in [hosts] of the policy file; a gen_fsm, and one \
                 that hides or has erased its dictionary, need a cold deploy.",
            )),
            None if plan.kind.behaviour != Behaviour::Supervisor => reasons.push(Reason::new(
                ReasonCode::KindNotMigrated,
                &shown,
                format!(
                    "{} of {shown} ({}) left alone: {}",
                    counted(plan.kind.processes, "process"),
                    plan.kind.behaviour.name(),
                    plan.why
                ),
                "",
            )),
            None | Some(Fate::Keep) => {}
            Some(Fate::Migrate { .. }) => {
                states += plan.kind.memory_bytes;
                if plan.rehearsal == Rehearsal::No && input.policy.rehearse {
                    reasons.push(Reason::new(
                        ReasonCode::NotRehearsed,
                        &shown,
                        format!("the code_change of {shown} cannot be rehearsed: {}", plan.why),
                        "A failure would be found after the swap.",
                    ));
                }
            }
        }
    }
    if let Some(free) = input.facts.free_bytes.filter(|free| states > *free) {
        reasons.push(Reason::new(
            ReasonCode::Memory,
            "states",
            format!(
                "the states to be migrated take up to {} MB, and are held twice; the node has {} MB free",
                states / 1_000_000,
                free / 1_000_000
            ),
            "Free memory, or accept it (--accept memory).",
        ));
    }
}

fn way_back_reasons(
    way_back: WayBack,
    revert_us: u64,
    no_way_back: Option<String>,
    input: &PlanInput<'_>,
    reasons: &mut Vec<Reason>,
) {
    let sentence = match way_back {
        WayBack::Exact => None,
        WayBack::AfterDrain => Some((ReasonCode::WayBackAfterDrain, after_drain(input.way_back))),
        WayBack::None => no_way_back.map(|sentence| (ReasonCode::WayBackNone, sentence)),
    };
    if let Some((code, sentence)) = sentence {
        // Those that are inside now may leave once nobody comes in any more: that is judged then.
        let drains = input.policy.drain_entry && way_back == WayBack::AfterDrain;
        if input.policy.require_way_back && !drains {
            reasons.push(way_back_required(sentence.clone()));
        }
        reasons.push(Reason::new(code, "way back", sentence, NO_WAY_BACK_HINT));
    }
    if way_back != WayBack::None && revert_us > input.policy.revert_budget_us {
        reasons.push(Reason::new(
            ReasonCode::RevertSlow,
            "way back",
            format!(
                "a revert would keep processes suspended for about {} ms, more than the budget of {} ms",
                revert_us / 1000,
                input.policy.revert_budget_us / 1000
            ),
            "Raise --revert-budget, or accept that failed processes are ended instead.",
        ));
    }
}

/// What a failure means where no exact way back is left.
const NO_WAY_BACK_HINT: &str =
    "If a migration fails, the processes concerned are ended for their supervisors.";

fn after_drain(report: &WayBackReport) -> String {
    format!(
        "{} of {} sampled processes execute changed modules: a revert has to wait for them",
        report.inside, report.sampled
    )
}

fn way_back_required(sentence: String) -> Reason {
    Reason::new(
        ReasonCode::WayBackRequired,
        "way back",
        sentence,
        "Leave out --require-way-back, or upgrade while nothing runs in the changed modules (--drain-entry).",
    )
}

impl Plan {
    /// Judges the way back again, now that the entry is paused; what refuses the upgrade.
    pub fn drained(&mut self, report: &WayBackReport, policy: &Policy) -> Vec<Reason> {
        if self.way_back == WayBack::None {
            return Vec::new();
        }
        self.reasons
            .retain(|reason| reason.code != ReasonCode::WayBackAfterDrain);
        if report.inside == 0 {
            self.way_back = WayBack::Exact;
            return Vec::new();
        }
        self.way_back = WayBack::AfterDrain;
        self.reasons.push(Reason::new(
            ReasonCode::WayBackAfterDrain,
            "way back",
            after_drain(report),
            NO_WAY_BACK_HINT,
        ));
        if policy.require_way_back {
            vec![way_back_required(after_drain(report))]
        } else {
            Vec::new()
        }
    }

    /// The verdict as of now.
    pub fn verdict(&self) -> Verdict {
        verdict(&self.reasons)
    }

    /// Adds what preparing found, and what it means for the way back; what refuses the upgrade.
    pub fn prepared(&mut self, report: &PrepareReport, policy: &Policy) -> Vec<Reason> {
        let Some(first) = report.old_missing.first() else {
            return Vec::new();
        };
        if self.way_back == WayBack::None {
            return Vec::new();
        }
        self.way_back = WayBack::None;
        let sentence = format!(
            "the running code of {}, {} the first, was not found again: there is no way back after the swap",
            counted(report.old_missing.len() as u64, "module"),
            elixir_name(first)
        );
        self.reasons.push(Reason::new(
            ReasonCode::WayBackNone,
            "way back",
            sentence.clone(),
            NO_WAY_BACK_HINT,
        ));
        if policy.require_way_back {
            vec![way_back_required(sentence)]
        } else {
            Vec::new()
        }
    }

    /// Takes in what a look at the node says that was taken for a further attempt. What was said before stays said, but
    /// for the way back, which is judged anew.
    pub fn renew(&mut self, again: Plan) {
        self.kinds = again.kinds;
        self.way_back = again.way_back;
        self.revert_us = again.revert_us;
        self.freeze_us = again.freeze_us;
        self.reasons.retain(|reason| {
            !matches!(
                reason.code,
                ReasonCode::WayBackAfterDrain | ReasonCode::WayBackNone | ReasonCode::RevertSlow
            )
        });
        for reason in again.reasons {
            if !self.reasons.contains(&reason) {
                self.reasons.push(reason);
            }
        }
    }

    /// Takes in what the rehearsal took: it is done once more in the window, and code_change after it.
    pub fn rehearsed(&mut self, report: &RehearsalReport) {
        self.freeze_us = predict::freeze(&self.kinds, self.changes.swapped().count(), Some(report));
    }

    /// Leaves kinds that are asked for one of these modules to the window: their rehearsal failed, and that is
    /// accepted. Answers whether there were any that would have been rehearsed.
    pub fn untried(&mut self, modules: &BTreeSet<String>) -> bool {
        let mut any = false;
        for plan in &mut self.kinds {
            let Some(Fate::Migrate { modules: asked }) = &plan.fate else {
                continue;
            };
            if plan.rehearsal != Rehearsal::No && asked.iter().any(|module| modules.contains(module)) {
                plan.rehearsal = Rehearsal::No;
                plan.apart = plan.can_run_apart;
                plan.why = "its rehearsal failed, which is accepted".into();
                any = true;
            }
        }
        any
    }

    /// What is expected of the window.
    pub fn predicted(&self) -> Predicted {
        Predicted {
            way_back: self.way_back,
            revert_us: self.revert_us,
            freeze_us: self.freeze_us,
        }
    }

    /// How many processes are affected.
    pub fn affected(&self) -> u64 {
        self.kinds
            .iter()
            .filter(|plan| plan.fate.is_some())
            .map(|plan| plan.kind.processes)
            .sum()
    }

    /// Kinds that are frozen.
    pub fn frozen(&self) -> impl Iterator<Item = &KindPlan> {
        self.kinds.iter().filter(|plan| plan.fate.is_some())
    }

    /// The script for the agent; `file` says where each module's file is on the node.
    pub fn script(
        &self,
        target: &Target,
        facts: &NodeFacts,
        policy: &Policy,
        file: impl Fn(&str) -> String,
    ) -> Script {
        Script {
            modules: self
                .changes
                .swapped()
                .filter_map(|name| {
                    Some(ScriptModule {
                        name: name.clone(),
                        file: file(name),
                        loaded_md5: facts.modules.get(name).map(|loaded| loaded.md5),
                        target_md5: target.modules.get(name)?.md5,
                    })
                })
                .collect(),
            kinds: self
                .frozen()
                .filter_map(|plan| {
                    Some(ScriptKind {
                        id: plan.kind.id,
                        behaviour: plan.kind.behaviour,
                        fate: plan.fate.clone()?,
                        apart: plan.apart,
                    })
                })
                .collect(),
            window_budget_us: policy.window_budget_us,
            revert_budget_us: policy.revert_budget_us,
            in_flight: policy.in_flight,
            down: policy.down,
            way_back: self.way_back,
        }
    }

    /// The modules, as an event shows them.
    pub fn planned_modules(&self) -> PlannedModules {
        let shown = |names: &[String]| names.iter().map(|name| elixir_name(name)).collect();
        PlannedModules {
            changed: shown(&self.changes.changed),
            added: shown(&self.changes.added),
            removed: shown(&self.changes.removed),
            unchanged: self.changes.unchanged,
        }
    }

    /// What is called, as an event shows it.
    pub fn planned_calls(&self) -> PlannedCalls {
        let shown = |functions: &[NodeFunction]| functions.iter().map(ToString::to_string).collect();
        PlannedCalls {
            before: shown(&self.calls.before),
            after: shown(&self.calls.after),
            gate: self.calls.gate.as_ref().map(ToString::to_string),
        }
    }

    /// The kinds, as an event shows them.
    pub fn planned_kinds(&self) -> Vec<PlannedKind> {
        self.kinds
            .iter()
            .map(|plan| PlannedKind {
                host: elixir_name(&plan.kind.host),
                behaviour: plan.kind.behaviour.name().into(),
                processes: plan.kind.processes,
                fate: match &plan.fate {
                    Some(Fate::Migrate { .. }) => "migrate",
                    Some(Fate::Keep) => "keep",
                    None if plan.kind.behaviour == Behaviour::Supervisor => "hold",
                    None => "leave",
                }
                .into(),
                rehearsal: match plan.rehearsal {
                    Rehearsal::InPlace => "in_place",
                    Rehearsal::Apart => "apart",
                    Rehearsal::No => "no",
                }
                .into(),
                why: match &plan.kind.shows {
                    None => plan.why.clone(),
                    Some(shows) => {
                        let shows = format!("[hosts]: it shows {}", elixir_name(shows));
                        if plan.why.is_empty() {
                            shows
                        } else {
                            format!("{shows}; {}", plan.why)
                        }
                    }
                },
            })
            .collect()
    }
}

/// The verdict that some reasons make.
pub fn verdict(reasons: &[Reason]) -> Verdict {
    match reasons.iter().map(|reason| reason.severity).max() {
        Some(Severity::Refusal | Severity::Cold) => Verdict::Cold,
        Some(Severity::Warning) => Verdict::HotWithWarnings,
        Some(Severity::Note) | None => Verdict::Hot,
    }
}

/// `1 process`, `3 processes`, `2 shared libraries`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    match (number, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) if one.ends_with('s') => format!("{number} {one}es"),
        (_, None) => format!("{number} {one}s"),
    }
}

/// A module's name as its users write it: `Shop.Cart` for `Elixir.Shop.Cart`.
pub fn elixir_name(module: &str) -> String {
    module.strip_prefix("Elixir.").unwrap_or(module).to_owned()
}

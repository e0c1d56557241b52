//! Reasons that come from a closer look: what the running code and the new code of a module differ in, files below priv,
//! and the configuration that code was compiled with.
//!
//! Only what is known is said. Where the running code is not to be had, the sentence says that.

use std::collections::BTreeSet;

use flyhot_artifact::beam::compare::Differences;
use flyhot_events::{Reason, ReasonCode};

use super::{KindPlan, NAMED, PlanInput, counted, elixir_name};
use crate::{Behaviour, CallbackMode, Closer, CloserModule, Fate, Target};

/// Callbacks without which a behaviour goes on as before.
const OPTIONAL: [(&str, u32); 5] = [
    ("code_change", 3),
    ("code_change", 4),
    ("format_status", 1),
    ("format_status", 2),
    ("system_code_change", 4),
];

/// Everything that a closer look finds.
pub(super) fn reasons(kinds: &[KindPlan], input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    start_functions(input, reasons);
    supervisors(kinds, input, reasons);
    let mut misshapen = BTreeSet::new();
    structs(input, &mut misshapen, reasons);
    for module in running(kinds) {
        records(module, input, &mut misshapen, reasons);
    }
    callbacks(kinds, input, reasons);
    exports(input, reasons);
    shape_unknown(kinds, input, &misshapen, reasons);
    timeouts(kinds, input, reasons);
    private(input.target, input.closer, reasons);
    compile_environment(input, reasons);
}

fn differences<'a>(input: &'a PlanInput<'_>, module: &str) -> Option<&'a Differences> {
    input.closer.modules.get(module)?.differences.as_ref()
}

fn is_changed(input: &PlanInput<'_>, module: &str) -> bool {
    input.changes.changed.iter().any(|changed| changed == module)
}

/// Changed or not, modules whose callbacks frozen processes run.
fn running(kinds: &[KindPlan]) -> BTreeSet<&String> {
    kinds
        .iter()
        .filter(|plan| plan.fate.is_some())
        .flat_map(|plan| &plan.kind.modules)
        .collect()
}

/// What becomes of the states that a module keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TakesOver {
    /// Its code_change is another one than it had.
    Yes,
    /// It has no code_change, or the one it had.
    No,
    /// It has one, and the running code is not to be had.
    Unknown,
}

/// Whether a code_change of a module leads from the running code to the new one.
pub(super) fn takes_over(input: &PlanInput<'_>, module: &str) -> TakesOver {
    let Some(target) = input.target.modules.get(module) else {
        return TakesOver::Yes;
    };
    let asked = [
        (target.code_change_3, "code_change", 3),
        (target.code_change_4, "code_change", 4),
        (target.system_code_change, "system_code_change", 4),
    ];
    let mut exported = asked.into_iter().filter(|(exported, ..)| *exported).peekable();
    match (exported.peek(), differences(input, module)) {
        (None, _) => TakesOver::No,
        (Some(_), None) => TakesOver::Unknown,
        (Some(_), Some(differences)) => {
            if exported.all(|(_, function, arity)| differences.is_same(function, arity)) {
                TakesOver::No
            } else {
                TakesOver::Yes
            }
        }
    }
}

/// Whether a module turns its state machines into those of another mode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turns {
    /// It has the mode that it had, or none.
    No,
    /// It has another one.
    Yes,
    /// The modes of both are not known, nor the running code.
    Unknown,
}

/// Whether the callback_mode/0 of a changed module answers otherwise than it did.
pub(super) fn turns(looked: &CloserModule) -> Turns {
    match (&looked.mode, &looked.new_mode, &looked.differences) {
        (None, ..) => Turns::No,
        (_, _, Some(differences)) if differences.is_same("callback_mode", 0) => Turns::No,
        (Some(CallbackMode::Is(old)), Some(new), _) if old == new => Turns::No,
        (Some(CallbackMode::Is(_)), Some(_), _) | (_, _, Some(_)) => Turns::Yes,
        _ => Turns::Unknown,
    }
}

fn start_functions(input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    for (name, application) in input.target.applications.iter().filter(|(_, app)| app.own) {
        let Some(module) = &application.start_module else {
            continue;
        };
        if !is_changed(input, module) {
            continue;
        }
        let shown = elixir_name(module);
        let sentence = match differences(input, module) {
            Some(differences) if differences.is_same("start", 2) => continue,
            Some(_) => format!("the start function of {name}, {shown}.start/2, changed; it is not run again"),
            None => format!(
                "the start module of {name}, {shown}, changed; whether its start function did cannot be known, and it is \
                 not run again"
            ),
        };
        reasons.push(Reason::new(
            ReasonCode::StartModuleChanged,
            shown,
            sentence,
            "Check that nothing new is started or attached there.",
        ));
    }
}

fn supervisors(kinds: &[KindPlan], input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    let mut supervisors: BTreeSet<&String> = kinds
        .iter()
        .filter(|plan| plan.kind.behaviour == Behaviour::Supervisor)
        .flat_map(|plan| &plan.kind.modules)
        .collect();
    supervisors.extend(input.changes.changed.iter().filter(|name| {
        input
            .target
            .modules
            .get(*name)
            .is_some_and(|module| module.supervisor)
    }));
    for module in supervisors {
        // One without an init/1, as the start module of an application may be, only starts one.
        let has_init = input
            .target
            .modules
            .get(module)
            .is_some_and(|module| module.init_1);
        if !is_changed(input, module) || !has_init {
            continue;
        }
        let shown = elixir_name(module);
        let sentence = match differences(input, module) {
            Some(differences) if differences.is_same("init", 1) => continue,
            Some(_) => format!(
                "the init/1 of the supervisor {shown} changed; the child specs of running supervisors stay as they are"
            ),
            None => format!(
                "the supervisor {shown} changed, and whether its init/1 did cannot be known; the child specs of running \
                 supervisors stay as they are"
            ),
        };
        reasons.push(Reason::new(
            ReasonCode::SupervisorChanged,
            shown,
            sentence,
            "Check that no child was added, removed or changed.",
        ));
    }
}

fn structs(input: &PlanInput<'_>, misshapen: &mut BTreeSet<String>, reasons: &mut Vec<Reason>) {
    for name in &input.changes.changed {
        let (Some(loaded), Some(target)) = (input.facts.modules.get(name), input.target.modules.get(name))
        else {
            continue;
        };
        let (Some(old), Some(new)) = (&loaded.struct_keys, &target.struct_keys) else {
            continue;
        };
        // A module with a code_change that changed is where its struct is taken over.
        if old == new || takes_over(input, name) == TakesOver::Yes {
            continue;
        }
        let keys = |keys: Vec<&String>| match keys.as_slice() {
            [] => "nothing".to_owned(),
            keys => keys.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(", "),
        };
        let shown = elixir_name(name);
        misshapen.insert(name.clone());
        reasons.push(Reason::new(
            ReasonCode::ShapeChanged,
            &shown,
            format!(
                "the struct {shown} gains {} and loses {}; states, messages and tables that hold one keep the old keys",
                keys(new.difference(old).collect()),
                keys(old.difference(new).collect())
            ),
            "Take the old shape over in the code_change of who holds it, or read it with defaults.",
        ));
    }
}

fn records(module: &str, input: &PlanInput<'_>, misshapen: &mut BTreeSet<String>, reasons: &mut Vec<Reason>) {
    let Some(differences) = differences(input, module) else {
        return;
    };
    if differences.records.is_empty() || takes_over(input, module) == TakesOver::Yes {
        return;
    }
    let shown = elixir_name(module);
    let records: Vec<String> = differences
        .records
        .iter()
        .map(|record| {
            format!(
                "the tuple {} that init/1 makes has {} elements and had {}",
                record.tag, record.after, record.before
            )
        })
        .collect();
    misshapen.insert(module.to_owned());
    reasons.push(Reason::new(
        ReasonCode::ShapeChanged,
        &shown,
        format!(
            "{shown}: {}; no changed code_change takes the states of running processes over",
            records.join(", ")
        ),
        "Take the old shape over in its code_change.",
    ));
}

/// A callback that is gone is called all the same by a process that runs; a state machine keeps the callback_mode it
/// started with where no code_change asks for it again.
fn callbacks(kinds: &[KindPlan], input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    let mut seen = BTreeSet::new();
    for plan in kinds.iter().filter(|plan| plan.fate.is_some()) {
        let behaviour = plan.kind.behaviour;
        for module in plan
            .kind
            .modules
            .iter()
            .filter(|module| is_changed(input, module))
        {
            let Some(looked) = input.closer.modules.get(module) else {
                continue;
            };
            if !seen.insert((behaviour, module)) {
                continue;
            }
            let shown = elixir_name(module);
            let asks_again = matches!(plan.fate, Some(Fate::Migrate { .. }));
            let turns = match behaviour {
                Behaviour::GenStatem => turns(looked),
                _ => Turns::No,
            };
            if !asks_again {
                reasons.extend(not_asked_again(&shown, turns));
            }
            // A machine that is in another mode now has other callbacks.
            if turns == Turns::Yes {
                continue;
            }
            let lost = lost_callbacks(behaviour, looked);
            if !lost.is_empty() && takes_over(input, module) != TakesOver::Yes {
                reasons.push(Reason::new(
                    ReasonCode::CallbacksChanged,
                    &shown,
                    format!(
                        "{shown} no longer has {}, which its processes ({}) may still be asked for",
                        lost.join(", "),
                        behaviour.name()
                    ),
                    "Keep it for one more release, or lead the states over in a code_change.",
                ));
            }
        }
    }
}

/// A state machine is asked for its mode again in code_change alone.
fn not_asked_again(shown: &str, turns: Turns) -> Option<Reason> {
    let sentence = match turns {
        Turns::No => return None,
        Turns::Yes => format!(
            "the callback_mode/0 of {shown} changed and it has no code_change/4: its processes would run the new code in \
             the old mode"
        ),
        Turns::Unknown => format!(
            "whether the callback_mode/0 of {shown} changed cannot be known, and it has no code_change/4: its processes \
             would run the new code in the mode they are in"
        ),
    };
    Some(Reason::new(
        ReasonCode::CallbackModeChanged,
        shown,
        sentence,
        "Export code_change/4: the mode is asked for when it is called.",
    ))
}

/// Callbacks that processes may still be asked for and the new code does not have.
fn lost_callbacks(behaviour: Behaviour, looked: &CloserModule) -> Vec<&str> {
    looked
        .lost
        .iter()
        .filter(|export| {
            let parts = export.rsplit_once('/');
            parts
                .and_then(|(function, arity)| Some((function, arity.parse().ok()?)))
                .is_some_and(|(function, arity)| {
                    is_callback(behaviour, function, arity) && !OPTIONAL.contains(&(function, arity))
                })
        })
        .map(String::as_str)
        .collect()
}

/// Functions that the running code exports and the new code does not: a process that was in the old code of another
/// module at the swap may still call them, and meets the new code.
fn exports(input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    let lost: Vec<String> = input
        .changes
        .changed
        .iter()
        .filter_map(|module| Some((module, input.closer.modules.get(module)?)))
        .flat_map(|(module, looked)| {
            let shown = elixir_name(module);
            looked.lost.iter().map(move |export| format!("{shown}.{export}"))
        })
        .collect();
    if let Some(first) = lost.first() {
        let named: Vec<&str> = lost.iter().take(NAMED).map(String::as_str).collect();
        reasons.push(Reason::new(
            ReasonCode::ExportRemoved,
            first,
            format!(
                "{} no longer exported: {}; a process that is inside the old code of another module at the \
                 swap and calls one fails with undef",
                counted(lost.len() as u64, "function"),
                named.join(", ")
            ),
            "Keep them for one more release where that matters.",
        ));
    }
}

/// Callbacks of a behaviour that are called without being asked for first. A state machine's states are functions of
/// three arguments in one of its modes.
fn is_callback(behaviour: Behaviour, function: &str, arity: u32) -> bool {
    match behaviour {
        Behaviour::GenServer => matches!(
            (function, arity),
            ("handle_call", 3) | ("handle_cast" | "handle_info" | "handle_continue", 2)
        ),
        Behaviour::GenEvent => matches!(
            (function, arity),
            ("handle_call" | "handle_event" | "handle_info", 2)
        ),
        Behaviour::GenStatem => arity == 3 || (function, arity) == ("handle_event", 4),
        Behaviour::Special => matches!(
            (function, arity),
            ("system_continue", 3) | ("system_terminate", 4) | ("system_get_state", 1)
        ),
        _ => false,
    }
}

/// Said once for all: states that no changed code_change takes over, but for those whose change is known, and those of
/// which nobody can tell.
fn shape_unknown(
    kinds: &[KindPlan],
    input: &PlanInput<'_>,
    misshapen: &BTreeSet<String>,
    reasons: &mut Vec<Reason>,
) {
    let mut hosts: BTreeSet<&String> = BTreeSet::new();
    for plan in kinds {
        hosts.extend(match &plan.fate {
            None => continue,
            Some(Fate::Keep) => &plan.kind.modules,
            Some(Fate::Migrate { modules }) => modules,
        });
    }
    hosts.retain(|module| is_changed(input, module) && !misshapen.contains(*module));
    let named = |wanted: TakesOver| {
        let hosts: Vec<String> = hosts
            .iter()
            .filter(|module| takes_over(input, module) == wanted)
            .map(|module| elixir_name(module))
            .collect();
        let first = hosts.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        match hosts.len().saturating_sub(NAMED) {
            _ if hosts.is_empty() => None,
            0 => Some(first),
            more => Some(format!("{first} and {more} more")),
        }
    };
    reasons.extend(named(TakesOver::No).map(|hosts| {
        Reason::new(
            ReasonCode::ShapeUnknown,
            "states",
            format!(
                "the states of {hosts} are kept as they are, without a code_change or by one that did not change; whether \
                 the new code expects another shape cannot be known from its code"
            ),
            "Change the code_change where the state's shape changed.",
        )
    }));
    reasons.extend(named(TakesOver::Unknown).map(|hosts| {
        Reason::new(
            ReasonCode::ShapeUnknown,
            "states",
            format!(
                "whether the code_change of {hosts} is another one than the running code has, and takes its states over, \
                 cannot be known: the running code is not on the node's disk"
            ),
            "See that it takes over the states of the code that runs.",
        )
    }));
}

fn timeouts(kinds: &[KindPlan], input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    for plan in kinds {
        let waits = plan.kind.modules.iter().any(|module| {
            input
                .closer
                .modules
                .get(module)
                .is_some_and(|module| module.timeouts)
        });
        if plan.fate.is_some() && plan.kind.behaviour == Behaviour::GenServer && waits {
            let shown = elixir_name(&plan.kind.host);
            reasons.push(Reason::new(
                ReasonCode::TimeoutRestarted,
                &shown,
                format!(
                    "{} of {shown} may wait for a timeout of gen_server, which handle_info/2 knows: the freeze starts it \
                     again, with its whole time",
                    counted(plan.kind.processes, "process")
                ),
                "A timeout that must not move is one of erlang:send_after/3.",
            ));
        }
    }
}

fn private(target: &Target, closer: &Closer, reasons: &mut Vec<Reason>) {
    for (application, release) in &target.private {
        let Some(node) = closer.private.get(application) else {
            continue;
        };
        let other = release
            .iter()
            .filter(|(path, digest)| node.get(*path) != Some(*digest))
            .map(|(path, _)| path.as_str());
        let (libraries, files): (Vec<&str>, Vec<&str>) = other.partition(|path| is_library(path));
        if let Some(first) = libraries.first() {
            reasons.push(Reason::new(
                ReasonCode::LibraryChanged,
                application,
                format!(
                    "{} of {application} not as on the node, priv/{first} the first; the node keeps what it has loaded",
                    counted(libraries.len() as u64, "shared library")
                ),
                "Deploy it cold, or accept that the old library stays (--accept library_changed).",
            ));
        }
        if let Some(first) = files.first() {
            reasons.push(Reason::new(
                ReasonCode::PrivChanged,
                application,
                format!(
                    "{} of {application} not as on the node, priv/{first} the first; only modules are sent",
                    counted(files.len() as u64, "file")
                ),
                "Deploy it cold where the new code reads them, or bring them to the node by other means first.",
            ));
        }
    }
}

/// `libx.so`, `libx.so.1`.
fn is_library(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| {
        name.split_once(".so")
            .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('.'))
    })
}

fn compile_environment(input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    for (application, places) in &input.closer.environment {
        reasons.push(Reason::new(
            ReasonCode::CompileConfigChanged,
            application,
            format!(
                "the code of {application} was compiled with another value of {places} than the node's configuration has"
            ),
            "Deploy it cold, or accept that code and configuration differ (--accept compile_config_changed).",
        ));
    }
}

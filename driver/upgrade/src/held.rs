//! Code that is held by references no stack shows: local funs in states and tables, and whatever names a module that
//! the release no longer has.

use std::collections::BTreeMap;

use flyhot_events::{Reason, ReasonCode};

use crate::plan::{NAMED, PlanInput, elixir_name};

/// How many places one sentence names before it only counts.
const PLACES: usize = 3;

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldCode {
    /// A local fun of the version before the running one: purging that version makes it a badfun.
    Old,
    /// A local fun of the running version, which the swap makes the version before.
    Running,
    /// A module that the release no longer has, by name or by any fun.
    Removed,
}

/// Who holds what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What.
    pub code: HeldCode,
    /// The module.
    pub module: String,
    /// The fun's function, `-start/2-fun-0-`; `None` for a bare module name.
    pub function: Option<String>,
    /// `gen_server Elixir.Shop.Cart`, `ETS table metrics`, `persistent term key`…
    pub place: String,
    /// How many processes, or 1 for a table.
    pub count: u64,
    /// One of the processes; empty for anything else.
    pub sample: String,
}

/// What the look for held code brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldReport {
    /// Who holds what.
    pub held: Vec<Held>,
    /// Whether processes were asked what their states hold.
    pub asked: bool,
    /// Processes looked at.
    pub processes: u64,
    /// Of these many.
    pub of_processes: u64,
    /// ETS tables looked at.
    pub tables: u64,
    /// Of these many that can be read; private ones are not among them.
    pub of_tables: u64,
    /// Whether all of them were looked at to their end.
    pub whole: bool,
}

/// What funs of other builds mean for the upgrade. `limit_ms` is how long was looked, milliseconds.
pub(crate) fn closures(report: &HeldReport, limit_ms: u64, reasons: &mut Vec<Reason>) {
    for (module, held) in by_module(report, HeldCode::Old) {
        reasons.push(Reason::new(
            ReasonCode::ClosureOfOldBuild,
            &module,
            format!(
                "local funs of the version of {module} before the running one are held by {}; this upgrade takes that \
                 version away, and each of them would fail with badfun",
                places(&held)
            ),
            "Have them made anew on the running code, or capture &Module.function/arity instead; or accept that they \
             fail (--accept closure_of_old_build).",
        ));
    }
    for (module, held) in by_module(report, HeldCode::Running) {
        reasons.push(Reason::new(
            ReasonCode::ClosureOfRunningBuild,
            &module,
            format!(
                "local funs of {module} are held by {}; they go on with the code of today, and fail with badfun once \
                 {module} is upgraded again",
                places(&held)
            ),
            "Have them made anew before the next upgrade of this module, or capture &Module.function/arity instead.",
        ));
    }
    if !report.whole {
        let sentence = if !report.asked {
            "a plan asks no process for the funs in its state; an upgrade does, before it touches anything"
                .to_owned()
        } else if report.processes < report.of_processes || report.tables < report.of_tables {
            format!(
                "{} of {} processes and {} of {} tables were looked at for funs of older builds, for at most {limit_ms} ms; \
                 what the others hold is not known",
                report.processes, report.of_processes, report.tables, report.of_tables
            )
        } else {
            "some states or tables are too large to be looked through for funs of older builds".to_owned()
        };
        reasons.push(Reason::new(ReasonCode::ClosuresSampled, "states", sentence, ""));
    }
}

fn by_module(report: &HeldReport, code: HeldCode) -> BTreeMap<String, Vec<&Held>> {
    let mut modules: BTreeMap<String, Vec<&Held>> = BTreeMap::new();
    for held in report.held.iter().filter(|held| held.code == code) {
        modules.entry(elixir_name(&held.module)).or_default().push(held);
    }
    modules
}

/// `3 processes of gen_server Shop.Cart (<0.200.0>, -init/1-fun-0-), ETS table metrics (-start/2-fun-1-)`.
fn places(held: &[&Held]) -> String {
    let mut named: Vec<String> = held
        .iter()
        .take(PLACES)
        .map(|held| {
            let place = held.place.replace("Elixir.", "");
            let function = held.function.as_deref().unwrap_or_default();
            match (held.sample.as_str(), function) {
                ("", "") => place,
                ("", function) => format!("{place} ({function})"),
                (sample, "") => format!("{} of {place} ({sample})", count(held.count)),
                (sample, function) => format!("{} of {place} ({sample}, {function})", count(held.count)),
            }
        })
        .collect();
    if let more @ 1.. = held.len().saturating_sub(PLACES) {
        named.push(format!("{more} more places"));
    }
    named.join(", ")
}

fn count(processes: u64) -> String {
    match processes {
        1 => "1 process".into(),
        many => format!("{many} processes"),
    }
}

/// Modules that the release no longer has stay loaded: code of before may be anywhere on the node, in a Task, a request or a
/// fun, and call them by their names. Each is told with who is known to need it.
pub(crate) fn removed(input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    let named: Vec<String> = input
        .changes
        .removed
        .iter()
        .take(NAMED)
        .map(|module| format!("{} ({})", elixir_name(module), needed(module, input)))
        .collect();
    if let Some(first) = input.changes.removed.first() {
        reasons.push(Reason::new(
            ReasonCode::ModuleRemoved,
            elixir_name(first),
            format!(
                "{} modules are not in the release any more and stay loaded: {}",
                input.changes.removed.len(),
                named.join(", ")
            ),
            "They go with the next cold deploy.",
        ));
    }
}

fn needed(module: &str, input: &PlanInput<'_>) -> String {
    let held: Vec<&Held> = input
        .held
        .held
        .iter()
        .filter(|held| held.code == HeldCode::Removed && held.module == module)
        .collect();
    let runs: u64 = input
        .census
        .kinds
        .iter()
        .filter(|kind| kind.host == module || kind.modules.iter().any(|one| one == module))
        .map(|kind| kind.processes)
        .sum();
    if let Some(by) = input.named_by.get(module) {
        format!("{} names it", elixir_name(by))
    } else if runs > 0 {
        format!("run by {}", count(runs))
    } else if !held.is_empty() {
        format!("held by {}", places(&held))
    } else if !input.held.whole {
        "not every state and table could be looked at".to_owned()
    } else {
        "nobody was found to need it".to_owned()
    }
}

//! Code that is held by references no stack shows: local funs in states and tables, and whatever names a module that
//! the release no longer has.

use std::collections::BTreeMap;

use flyhot_events::{Reason, ReasonCode};

use crate::plan::{NAMED, PlanInput, counted, elixir_name};
use crate::report::RemoveReport;

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
    /// `(module, a removed one that its running code names)`.
    pub names: Vec<(String, String)>,
    /// Modules of these whose code cannot be read, so that they may name any.
    pub unread: Vec<String>,
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
                (sample, "") => format!("{} of {place} ({sample})", counted(held.count, "process")),
                (sample, function) => format!(
                    "{} of {place} ({sample}, {function})",
                    counted(held.count, "process")
                ),
            }
        })
        .collect();
    if let more @ 1.. = held.len().saturating_sub(PLACES) {
        named.push(format!("{more} more places"));
    }
    named.join(", ")
}

/// What becomes of the modules that the release no longer has: code of before may be anywhere on the node, in a Task, a
/// request or a fun, and call them by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Those that stay loaded, and who needs them.
    pub stay: Vec<(String, String)>,
    /// Those that nobody was found to need: they are looked at again, and deleted, once the node is upgraded.
    pub deletable: Vec<String>,
}

impl Removed {
    pub(crate) fn new(input: &PlanInput<'_>) -> Self {
        let mut removed = Self::default();
        for module in &input.changes.removed {
            match needed(module, input) {
                Some(why) => removed.stay.push((module.clone(), why)),
                None => removed.deletable.push(module.clone()),
            }
        }
        // What stays keeps what it names.
        while let Some((at, by)) = removed.deletable.iter().enumerate().find_map(|(at, module)| {
            let names =
                |(by, _): &&(String, String)| input.held.names.contains(&(by.clone(), module.clone()));
            removed.stay.iter().find(names).map(|(by, _)| (at, by.clone()))
        }) {
            let module = removed.deletable.remove(at);
            removed.stay.push((module, names_it(&by, input)));
        }
        removed
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        let deletable = self.deletable.iter().map(|module| {
            let fate = "nobody was found to need it: to be deleted once the node runs the release";
            (module, fate.to_owned())
        });
        said(self.stay.iter().map(stays).chain(deletable).collect())
    }

    /// Of modules that were looked at once more, after the swap.
    pub(crate) fn reasons_after(&self, report: &RemoveReport) -> Vec<Reason> {
        let stay = self.stay.iter().chain(&report.kept).map(stays);
        let mut reasons: Vec<Reason> = said(stay.collect()).into_iter().collect();
        if let Some(first) = report.deleted.first() {
            let named: Vec<String> = report
                .deleted
                .iter()
                .take(NAMED)
                .map(|name| elixir_name(name))
                .collect();
            reasons.push(Reason::new(
                ReasonCode::ModuleDeleted,
                elixir_name(first),
                format!(
                    "deleted, since nobody needed what the release no longer has: {}",
                    named.join(", ")
                ),
                "",
            ));
        }
        reasons
    }
}

fn stays((module, why): &(String, String)) -> (&String, String) {
    (module, format!("{why}: stays loaded"))
}

fn said(fates: Vec<(&String, String)>) -> Option<Reason> {
    let (first, _) = fates.first()?;
    let named: Vec<String> = fates
        .iter()
        .take(NAMED)
        .map(|(module, fate)| format!("{} ({fate})", elixir_name(module)))
        .collect();
    Some(Reason::new(
        ReasonCode::ModuleRemoved,
        elixir_name(first),
        format!(
            "{} that the release no longer has: {}",
            counted(fates.len() as u64, "module"),
            named.join(", ")
        ),
        "What stays goes with the next cold deploy.",
    ))
}

fn names_it(by: &String, input: &PlanInput<'_>) -> String {
    let by_name = elixir_name(by);
    if input.held.unread.contains(by) {
        format!("{by_name} may name it, whose file is not what runs")
    } else {
        format!("{by_name} names it")
    }
}

/// Who needs a module; nobody: `None`.
fn needed(module: &str, input: &PlanInput<'_>) -> Option<String> {
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
    // Code of before that is swapped, or goes itself, is looked at when the time has come.
    let goes = |by: &String| input.changes.changed.contains(by) || input.changes.removed.contains(by);
    let stays = input
        .held
        .names
        .iter()
        .find(|(by, named)| named == module && !goes(by));
    if let Some(by) = input.named_by.get(module).or(stays.map(|(by, _)| by)) {
        Some(names_it(by, input))
    } else if runs > 0 {
        Some(format!("run by {}", counted(runs, "process")))
    } else if !held.is_empty() {
        Some(format!("held by {}", places(&held)))
    } else if input.held.asked && !input.held.whole {
        Some("not every state and table could be looked at".to_owned())
    } else if module.contains(['\'', '\\']) || module.contains(char::is_control) {
        Some("nobody can say how a stack would show its name".to_owned())
    } else if !input.facts.embedded {
        Some("the node loads code when it is called".to_owned())
    } else if let Some(by) = input.listing {
        let by = elixir_name(by);
        Some(format!(
            "{by} asks an application for its modules, which lists it"
        ))
    } else {
        None
    }
}

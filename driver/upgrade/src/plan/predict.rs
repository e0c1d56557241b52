//! What a plan expects of the window: how long a freeze and a revert would be, on a node that is idle.
//!
//! All constants come from one run of `make bench`, whose figures stand beside them; docs/bench.json has those of a later
//! run, up to twice as slow on the same machine. What the rehearsal took on the node itself takes the place of the one that
//! says most of a code_change.

use flyhot_events::WayBack;

use super::closer::{Turns, turns};
use super::{KindPlan, PlanInput, elixir_name};
use crate::{Behaviour, Fate, RehearsalReport};

/// What a revert takes per process and changed module, microseconds: nearly all of it is purging the new code, which
/// looks at every process for each module. Measured whole: 1.8 to 2.3 with 200 modules, 2.6 to 3.6 with 10.
const PURGE_US_PER_PROCESS: u64 = 3;

// A freeze is BASE + MODULE x modules + PROCESS x processes + 2 x REHEARSAL x processes that migrate: each runs its new
// code_change once behind its suspend and once after the swap. Six medians of the bench, in milliseconds, measured and
// by this formula: 1 000 processes and 10 modules 8.0, 8.8; 10 000 and 10 71, 73; 100 000 and 10 702, 712; 1 000 and
// 200 21, 22; 10 000 and 200 80, 86; 100 000 and 200 867, 725.

/// What every window takes, microseconds: pings of the code server, looks for newborns, the proof.
const BASE_US: u64 = 1_000;

/// What a module of the swap takes, microseconds.
const MODULE_US: u64 = 70;

/// What a process takes to be suspended, stashed, asked and resumed, nanoseconds, its code_change not counted.
const PROCESS_NS: u64 = 3_500;

/// What a rehearsal takes per process, nanoseconds, where none was measured yet.
const REHEARSAL_NS: u64 = 1_800;

/// What a revert would be, and how long it would take in microseconds; why, where there is none.
pub(super) fn revert(kinds: &[KindPlan], input: &PlanInput<'_>) -> (WayBack, u64, Option<String>) {
    let per_module = match input.way_back.purge_us {
        0 => PURGE_US_PER_PROCESS * input.facts.processes,
        measured => measured,
    };
    let revert_us = per_module * input.changes.changed.len() as u64;
    let why = no_way_back(kinds, input);
    let way_back = if why.is_some() {
        WayBack::None
    } else if input.way_back.inside > 0 {
        WayBack::AfterDrain
    } else {
        WayBack::Exact
    };
    (way_back, revert_us, why)
}

/// Why the old code, or the states that belong to it, could not come back.
fn no_way_back(kinds: &[KindPlan], input: &PlanInput<'_>) -> Option<String> {
    if !input.lost.is_empty() {
        return Some("the running code cannot be loaded again: there is no way back after the swap".into());
    }
    let migrated = kinds
        .iter()
        .filter(|plan| matches!(plan.fate, Some(Fate::Migrate { .. })));
    migrated
        .map(|plan| stays(plan, input))
        .find(Option::is_some)
        .flatten()
}

/// Why processes of a kind, once migrated, could not be what they were.
fn stays(plan: &KindPlan, input: &PlanInput<'_>) -> Option<String> {
    let host = &plan.kind.host;
    let looked = input.closer.modules.get(host)?;
    let shown = elixir_name(host);
    match plan.kind.behaviour {
        // The mode is set by the code_change of the code that is led back to.
        Behaviour::GenStatem if turns(looked) != Turns::No && !looked.exports.contains("code_change/4") => {
            Some(format!(
                "the callback_mode/0 of {shown} {}, and its running code has no code_change/4 that could be asked to go \
                 back: there is no way back after the swap",
                match turns(looked) {
                    Turns::Unknown => "may have changed",
                    _ => "changed",
                }
            ))
        }
        Behaviour::Special if looked.partial => Some(format!(
            "the system_replace_state/2 of {shown} shows a part of what its processes keep, and the rest cannot be put back: \
             there is no way back after the swap"
        )),
        _ => None,
    }
}

/// How long processes would be suspended, microseconds; `rehearsal` is what was measured on the node, once it was.
pub(super) fn freeze(kinds: &[KindPlan], modules: usize, rehearsal: Option<&RehearsalReport>) -> u64 {
    let (mut frozen, mut migrating) = (0, 0);
    for plan in kinds {
        match &plan.fate {
            Some(Fate::Migrate { .. }) => {
                frozen += plan.kind.processes;
                migrating += plan.kind.processes;
            }
            Some(Fate::Keep) => frozen += plan.kind.processes,
            None => {}
        }
    }
    if frozen == 0 && modules == 0 {
        return 0;
    }
    let rehearsal_us = match rehearsal {
        Some(report) if report.passed + report.failed > 0 => {
            report.took_us * migrating / (report.passed + report.failed)
        }
        _ => migrating * REHEARSAL_NS / 1_000,
    };
    BASE_US + MODULE_US * modules as u64 + frozen * PROCESS_NS / 1_000 + 2 * rehearsal_us
}

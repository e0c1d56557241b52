//! The entry: listeners that are paused around the window, and what is said of them.

use flyhot_events::{Reason, ReasonCode};

/// The listeners of a node, or what came of pausing them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryReport {
    /// Listeners that are paused, or would be, as a person knows them.
    pub listeners: Vec<String>,
    /// What is not paused, or was not in time, and why.
    pub not_paused: Vec<(String, String)>,
}

/// A listener that could not be resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillPaused {
    /// The listener, as a person knows it.
    pub listener: String,
    /// What to type on the node.
    pub command: String,
}

/// What a plan says of the entry.
pub(crate) fn planned(report: &EntryReport) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if !report.listeners.is_empty() {
        reasons.push(Reason::new(
            ReasonCode::EntryPaused,
            report.listeners.join(", "),
            format!(
                "{} paused before the knock and resumed after the window, at the latest --drain-timeout, \
                 --quiesce-timeout and the window later: new connections are refused meanwhile, not queued; those \
                 that are open stay",
                match report.listeners.as_slice() {
                    [one] => format!("{one} is"),
                    many => format!("{} listeners are", many.len()),
                }
            ),
            "A listener that was given port 0 listens on another port afterwards.",
        ));
    } else if report.not_paused.is_empty() {
        reasons.push(Reason::new(
            ReasonCode::EntryNotPaused,
            "--drain-entry",
            "no listener of ranch or ThousandIsland runs on the node: nothing is paused",
            "Leave out --drain-entry, or pause what takes the connections by hand.",
        ));
    }
    reasons.extend(not_paused(report));
    reasons
}

/// What could not be paused.
pub fn not_paused(report: &EntryReport) -> Vec<Reason> {
    report
        .not_paused
        .iter()
        .map(|(listener, why)| {
            Reason::new(
                ReasonCode::EntryNotPaused,
                listener,
                format!("{listener} is not paused: {why}"),
                "Connections keep coming in through it.",
            )
        })
        .collect()
}

/// What could not be resumed.
pub fn still_paused(list: &[StillPaused]) -> Vec<Reason> {
    list.iter()
        .map(|still| {
            Reason::new(
                ReasonCode::EntryStillPaused,
                &still.listener,
                format!(
                    "{} did not come back after the window and may take no connections",
                    still.listener
                ),
                format!("On the node: {}", still.command),
            )
        })
        .collect()
}

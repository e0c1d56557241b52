//! The closing table.

use std::collections::HashSet;
use std::fmt::Write as _;

use flyhot_events::{
    ErrorKind, ModuleCounts, NodeOutcome, Outcome, OutcomeKind, Predicted, ProcessCounts, Reason, ReasonCode,
    WayBack,
};

use super::words::{self, TITLE, number, paint, time};
use crate::options::Screen;

/// The outcome as text. `shown` are the reasons that stand above already: node, code and subject.
pub(super) fn text(
    outcome: &Outcome,
    shown: &HashSet<(String, ReasonCode, String)>,
    screen: Screen,
) -> String {
    let mut text = String::new();
    if !outcome.nodes.is_empty() {
        text.push('\n');
        let [node, kind, modules, processes, window, freeze] = [
            "node",
            "outcome",
            "modules",
            "processes",
            "window",
            "longest freeze",
        ];
        let table = if outcome.nodes.iter().any(|node| node.machine.is_some()) {
            let header = [
                "machine", "region", node, kind, modules, processes, window, freeze,
            ];
            let rows = outcome.nodes.iter().map(|of| {
                let [node, kind, modules, processes, window, freeze] = row(of);
                let [machine, region] = [&of.machine, &of.region].map(words::of_machine);
                [machine, region, node, kind, modules, processes, window, freeze]
            });
            words::table(screen, header, &[6, 7], rows)
        } else {
            let header = [node, kind, modules, processes, window, freeze];
            words::table(screen, header, &[4, 5], outcome.nodes.iter().map(row))
        };
        for line in table.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    for node in &outcome.nodes {
        details(node, shown, screen, &mut text);
    }
    let (word, style) = words::outcome(outcome.outcome);
    let _ = write!(text, "\n{}", paint(screen, style, word));
    match ErrorKind::ALL
        .iter()
        .find(|kind| kind.exit_code() == outcome.exit_code)
    {
        Some(kind) => {
            let _ = writeln!(
                text,
                " (exit code {}: {})",
                outcome.exit_code.0,
                words::exit_sentence(*kind)
            );
        }
        None => text.push('\n'),
    }
    text
}

pub(super) fn row(node: &NodeOutcome) -> [String; 6] {
    let ModuleCounts {
        changed,
        added,
        removed,
    } = node.modules;
    let ProcessCounts {
        affected,
        migrated,
        kept,
        failed,
        died,
        skipped,
    } = node.processes;
    // A node that was never reached has no counts; "none changed" would be a claim about it.
    let (modules, processes) = match node.code_id.before {
        None => (String::new(), String::new()),
        Some(_) => (
            parts(&[(changed, "changed"), (added, "added"), (removed, "removed")]),
            match affected {
                0 => "none affected".to_owned(),
                _ if node.window_us == 0 => format!("{} affected", number(affected)),
                _ => parts(&[
                    (migrated, "migrated"),
                    (kept, "kept"),
                    (failed, "failed"),
                    (died, "died"),
                    (skipped, "skipped"),
                ]),
            },
        ),
    };
    let window = |us: u64| {
        if node.window_us == 0 {
            String::new()
        } else {
            time(us)
        }
    };
    [
        words::plain(&node.node),
        words::outcome(node.outcome).0.to_owned(),
        modules,
        processes,
        window(node.window_us),
        window(node.longest_freeze_us),
    ]
}

/// The counts that are not 0, with their words.
fn parts(counts: &[(u64, &str)]) -> String {
    let parts: Vec<_> = counts
        .iter()
        .filter(|(of, _)| *of > 0)
        .map(|(of, word)| format!("{} {word}", number(*of)))
        .collect();
    if parts.is_empty() {
        "none changed".to_owned()
    } else {
        parts.join(", ")
    }
}

fn details(
    node: &NodeOutcome,
    shown: &HashSet<(String, ReasonCode, String)>,
    screen: Screen,
    text: &mut String,
) {
    let is_shown =
        |reason: &&Reason| shown.contains(&(node.node.clone(), reason.code, reason.subject.clone()));
    let (above, reasons): (Vec<_>, Vec<_>) = node.reasons.iter().partition(is_shown);
    if node.window_us == 0 && node.gate.is_none() && reasons.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", paint(screen, TITLE, &words::plain(&node.node)));
    if node.window_us > 0 {
        let (before, after) = (&node.code_id.before, &node.code_id.after);
        let _ = writeln!(
            text,
            "  code    {} -> {}",
            words::short(before.as_deref()),
            words::short(after.as_deref())
        );
        let phases = node.phases_us;
        let undo = match phases.undo {
            0 => String::new(),
            us => format!("undo {}, ", time(us)),
        };
        let _ = writeln!(
            text,
            "  phases  freeze {}, swap {}, migrate {}, prove {}, {undo}thaw {}",
            time(phases.freeze),
            time(phases.swap),
            time(phases.migrate),
            time(phases.prove),
            time(phases.thaw)
        );
        expected(node, text);
    }
    if node.gate.is_some() {
        let _ = writeln!(text, "  gate    {}", words::gate(node).0);
    }
    words::reasons(screen, reasons, text);
    if !above.is_empty() {
        let _ = writeln!(
            text,
            "  and {} above",
            words::counted(above.len() as u64, "reason", "reasons")
        );
    }
}

/// What the plan said beside what happened.
fn expected(node: &NodeOutcome, text: &mut String) {
    let Some(Predicted {
        way_back,
        revert_us,
        freeze_us,
    }) = node.predicted
    else {
        return;
    };
    let _ = writeln!(
        text,
        "  frozen  {} at the longest, expected about {} on an idle node",
        time(node.longest_freeze_us),
        time(freeze_us)
    );
    let revert = match (node.outcome, node.phases_us.undo) {
        // The guard that finishes a revert does not know when it began.
        (OutcomeKind::Reverted, 0) => "done".to_owned(),
        (OutcomeKind::Reverted, us) => time(us),
        (OutcomeKind::Degraded, _) => "not possible".to_owned(),
        _ => "not needed".to_owned(),
    };
    let expected = match way_back {
        WayBack::None => String::new(),
        _ => format!(" in about {}", time(revert_us)),
    };
    let _ = writeln!(
        text,
        "  revert  {revert}, expected {}{expected}",
        words::way_back(way_back)
    );
}

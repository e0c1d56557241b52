//! A plan as text.

use std::fmt::Write as _;

use flyhot_events::{CodeIds, PlannedCalls, PlannedKind, PlannedModules, Reason, Verdict, WayBack};

use super::words::{self, SHOWN, TITLE, counted, number, paint, time};
use crate::options::Screen;

/// The fields of a plan event.
pub(super) struct Plan<'a> {
    pub(super) node: &'a str,
    pub(super) verdict: Verdict,
    pub(super) modules: &'a PlannedModules,
    pub(super) kinds: &'a [PlannedKind],
    pub(super) way_back: WayBack,
    pub(super) revert_us: u64,
    pub(super) freeze_us: u64,
    pub(super) calls: &'a PlannedCalls,
    pub(super) code_id: &'a CodeIds,
    pub(super) reasons: &'a [Reason],
}

impl Plan<'_> {
    pub(super) fn text(&self, screen: Screen) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "\n{}",
            paint(screen, TITLE, &format!("Plan for {}", self.node))
        );
        self.modules(&mut text);
        if !(self.modules.changed.is_empty() && self.modules.added.is_empty()) {
            self.processes(screen, &mut text);
            let freeze = time(self.freeze_us);
            let _ = writeln!(
                text,
                "  freeze    would keep processes suspended for about {freeze} on an idle node"
            );
            self.way_back(&mut text);
        }
        self.calls(&mut text);
        if !self.reasons.is_empty() {
            text.push('\n');
            words::reasons(screen, self.reasons, &mut text);
        }
        let (word, style) = words::verdict(self.verdict);
        let _ = writeln!(text, "\n  verdict: {}", paint(screen, style, word));
        text
    }

    fn modules(&self, text: &mut String) {
        let CodeIds { before, after } = self.code_id;
        let (before, after) = (words::short(before.as_deref()), words::short(after.as_deref()));
        let _ = writeln!(text, "  code      {before} -> {after}");
        let PlannedModules {
            changed,
            added,
            removed,
            unchanged,
        } = self.modules;
        let _ = writeln!(
            text,
            "  modules   {} changed, {} added, {} removed, {} unchanged",
            number(changed.len() as u64),
            number(added.len() as u64),
            number(removed.len() as u64),
            number(*unchanged)
        );
        for (word, names) in [("changed", changed), ("added", added), ("removed", removed)] {
            if names.is_empty() {
                continue;
            }
            let _ = write!(text, "    {word:<8}");
            words::names(12, names.iter().take(SHOWN).map(String::as_str), text);
            match names.len().checked_sub(SHOWN) {
                None | Some(0) => text.push('\n'),
                Some(more) => {
                    let _ = writeln!(
                        text,
                        " and {} more (--output json lists all)",
                        number(more as u64)
                    );
                }
            }
        }
    }

    fn processes(&self, screen: Screen, text: &mut String) {
        if self.kinds.is_empty() {
            let _ = writeln!(text, "  processes none runs code that changes");
            return;
        }
        let total = self.kinds.iter().map(|kind| kind.processes).sum();
        let _ = writeln!(
            text,
            "  processes {} of {}",
            number(total),
            counted(self.kinds.len() as u64, "kind", "kinds")
        );
        let rows = self.kinds.iter().map(|kind| {
            [
                format!("    {}", words::plain(&kind.host)),
                kind.behaviour.clone(),
                number(kind.processes),
                kind.fate.clone(),
                kind.rehearsal.replace('_', " "),
                words::plain(&kind.why),
            ]
        });
        let header = ["    host", "behaviour", "processes", "fate", "rehearsal", "why"];
        let table = words::table(screen, header, &[2], rows);
        for line in table.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }

    fn way_back(&self, text: &mut String) {
        let sentence = match self.way_back {
            WayBack::Exact => "old code and old states would come back in the same freeze",
            WayBack::AfterDrain => "a revert would have to wait for requests that now run changed modules",
            WayBack::None => "the old code cannot be brought back after the swap",
        };
        let _ = writeln!(text, "  way back  {}: {sentence}", words::way_back(self.way_back));
        if self.way_back != WayBack::None {
            let revert = time(self.revert_us);
            let _ = writeln!(
                text,
                "  revert    would keep processes suspended for about {revert}"
            );
        }
    }

    fn calls(&self, text: &mut String) {
        let PlannedCalls { before, after, gate } = self.calls;
        let rows = [
            ("before", before.as_slice()),
            ("after", after),
            ("gate", gate.as_slice()),
        ];
        for (word, calls) in rows.into_iter().filter(|(_, calls)| !calls.is_empty()) {
            let _ = write!(text, "  {word:<9} calls ");
            words::names(18, calls.iter().map(String::as_str), text);
            text.push('\n');
        }
    }
}

//! Numbers, times and names as people read them. No event is known here.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use flyhot_events::{
    ErrorKind, GateAnswer, NodeOutcome, OutcomeKind, Reason, ReasonCode, Severity, Step, Unit, Verdict,
    WayBack,
};

use crate::options::Screen;

/// So many names or reasons of one sort are shown in full; `--output json` has them all. More than a screenful
/// would push the verdict out of sight.
pub(super) const SHOWN: usize = 20;

/// Lists of names are broken here, whatever the screen: most terminals are as wide.
const COLUMNS: usize = 100;

/// A table is wrapped at the width of the screen from here on; below, the terminal breaks its lines.
const NARROW: u16 = 60;

pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(super) const DOUBTFUL: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const TITLE: Style = Style::new().bold();
pub(super) const FAINT: Style = Style::new().dimmed();

/// Text in a style, where the screen has colours.
pub(super) fn paint(screen: Screen, style: Style, text: &str) -> String {
    if screen.colours {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

/// `1234567` as `1 234 567`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with three digits that count: `0.07 ms`, `8.2 ms`, `431 ms`, `2.31 s`, `4 min 05 s`.
pub(super) fn time(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    match us {
        0 => "0 ms".to_owned(),
        1..1_000 => format!("{ms:.2} ms"),
        1_000..100_000 => format!("{ms:.1} ms"),
        100_000..1_000_000 => format!("{ms:.0} ms"),
        1_000_000..60_000_000 => format!("{:.2} s", ms / 1_000.0),
        _ => {
            let seconds = us / 1_000_000;
            format!("{} min {:02} s", number(seconds / 60), seconds % 60)
        }
    }
}

/// A count with its unit, in the singular for one.
pub(super) fn count(of: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => bytes(of),
        Unit::Modules => counted(of, "module", "modules"),
        Unit::Processes => counted(of, "process", "processes"),
        Unit::Files => counted(of, "file", "files"),
        Unit::Attempts => counted(of, "attempt", "attempts"),
        Unit::Calls => counted(of, "call", "calls"),
        Unit::Signals => counted(of, "signal", "signals"),
    }
}

pub(super) fn counted(of: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(of), if of == 1 { one } else { many })
}

pub(super) fn bytes(of: u64) -> String {
    let kib = of as f64 / 1024.0;
    match of {
        0..1_024 => counted(of, "byte", "bytes"),
        1_024..1_048_576 => format!("{kib:.1} KiB"),
        _ => format!("{:.1} MiB", kib / 1024.0),
    }
}

pub(super) fn step(step: Step) -> &'static str {
    match step {
        Step::Read => "read release",
        Step::Connect => "connect",
        Step::Census => "census",
        Step::Closures => "closures",
        Step::Stage => "stage",
        Step::Rehearse => "rehearse",
        Step::Drain => "drain",
        Step::Prepare => "prepare",
        Step::HooksBefore => "before hooks",
        Step::Entry => "entry",
        Step::Knock => "knock",
        Step::Window => "window",
        Step::Persist => "persist",
        Step::HooksAfter => "after hooks",
        Step::Gate => "gate",
        Step::Baseline => "baseline",
        Step::Watch => "watch",
        Step::Remove => "remove",
        Step::Cleanup => "clean up",
        Step::Pack => "pack",
        Step::Verify => "verify",
        Step::Unpack => "unpack",
        Step::Lock => "lock",
        Step::SaveBase => "save the base",
        Step::Upload => "upload",
        Step::Fetch => "fetch",
        Step::Overlay => "overlay",
        Step::CheckUrl => "check URL",
        Step::MachineChecks => "Fly's checks",
    }
}

pub(super) fn verdict(verdict: Verdict) -> (&'static str, Style) {
    match verdict {
        Verdict::Hot => ("hot", GOOD),
        Verdict::HotWithWarnings => ("hot with warnings", DOUBTFUL),
        Verdict::Cold => ("cold", BAD),
    }
}

pub(super) fn way_back(way_back: WayBack) -> &'static str {
    match way_back {
        WayBack::Exact => "exact",
        WayBack::AfterDrain => "after drain",
        WayBack::None => "none",
    }
}

pub(super) fn outcome(kind: OutcomeKind) -> (&'static str, Style) {
    match kind {
        OutcomeKind::Upgraded => ("upgraded", GOOD),
        OutcomeKind::NothingToDo => ("nothing to do", GOOD),
        OutcomeKind::Planned => ("planned", GOOD),
        OutcomeKind::Done => ("done", GOOD),
        OutcomeKind::Refused => ("refused", BAD),
        OutcomeKind::Reverted => ("reverted", DOUBTFUL),
        OutcomeKind::Degraded => ("degraded", BAD),
        OutcomeKind::NotQuiesced => ("not quiesced", DOUBTFUL),
        OutcomeKind::Mixed => ("mixed", BAD),
        OutcomeKind::Failed => ("failed", BAD),
        OutcomeKind::NotBegun => ("not begun", FAINT),
        OutcomeKind::LeftToBoot => ("left to boot", FAINT),
        OutcomeKind::TakenBack => ("taken back", DOUBTFUL),
    }
}

pub(super) fn severity(severity: Severity) -> (&'static str, Style) {
    match severity {
        Severity::Note => ("note", FAINT),
        Severity::Warning => ("warning", DOUBTFUL),
        Severity::Cold => ("cold", BAD),
        Severity::Refusal => ("refusal", BAD),
    }
}

/// What an exit code that is not 0 means, one sentence.
pub(super) fn exit_sentence(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Bug => "a bug in flyhot",
        ErrorKind::Usage => "wrong options, configuration or a broken input file",
        ErrorKind::ColdDeployNeeded => "a cold deploy is needed; running code and states are as before",
        ErrorKind::Reverted => "everything runs the old code",
        ErrorKind::Mixed => "some nodes run the new code and some the old",
        ErrorKind::MaybeSuspended => "a process may still be suspended, or a listener still be paused",
        ErrorKind::NotQuiesced => {
            "the node could not be brought to rest; running code and states are as before, try again"
        }
        ErrorKind::Degraded => "upgraded, but not all is well",
        ErrorKind::Locked => "somebody else is working on it",
        ErrorKind::BuildFailed => "the build failed",
        ErrorKind::Store => "the artifact store failed",
        ErrorKind::FlyApi => "the Fly Machines API failed",
        ErrorKind::NodeUnreachable => "a node cannot be reached, or it refused the cookie",
        ErrorKind::NotTrusted => "the artifact is not signed by a trusted key",
        ErrorKind::Interrupted => "run the command again: it looks at what each node runs",
    }
}

/// A code id short enough to read aloud, long enough to tell builds apart.
pub(super) fn short(code_id: Option<&str>) -> String {
    const DIGITS: usize = 12;
    plain(code_id.map_or("unknown", |id| id.get(..DIGITS).unwrap_or(id)))
}

/// Text from a node or a file with everything taken out that would steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Names after an indent, separated by commas, in lines of at most [`COLUMNS`] where the names allow it.
pub(super) fn names<'a>(indent: usize, names: impl Iterator<Item = &'a str>, text: &mut String) {
    let mut column = indent;
    for (at, name) in names.enumerate() {
        let name = plain(name);
        let width = name.chars().count();
        if at > 0 {
            text.push(',');
            if column + 2 + width > COLUMNS {
                let _ = write!(text, "\n{:indent$}", "");
                column = indent;
            } else {
                text.push(' ');
                column += 2;
            }
        }
        text.push_str(&name);
        column += width;
    }
}

/// The machine of a node, or its region; nothing where nobody was asked for machines.
pub(super) fn of_machine(text: &Option<String>) -> String {
    text.as_deref().map_or(String::new(), plain)
}

/// A table without lines, columns two spaces apart; `right` are the columns of numbers.
pub(super) fn table<const N: usize>(
    screen: Screen,
    header: [&str; N],
    right: &[usize],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // Terminals of no or nearly no width exist (a pipe that plays terminal says 0): a column of letters helps nobody.
    if screen.wraps && table.width().is_some_and(|width| width >= NARROW) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty();
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for at in right {
        if let Some(column) = table.column_mut(*at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Reasons, heaviest first, those of one code together; past [`SHOWN`] of a code the rest is counted.
pub(super) fn reasons<'a>(screen: Screen, reasons: impl IntoIterator<Item = &'a Reason>, text: &mut String) {
    let mut sorted: Vec<&Reason> = reasons.into_iter().collect();
    sorted.sort_by_key(|reason| (std::cmp::Reverse(reason.severity), reason.code));
    for group in sorted.chunk_by(|a, b| (a.severity, a.code) == (b.severity, b.code)) {
        for (at, reason) in group.iter().take(SHOWN).enumerate() {
            let (word, style) = severity(reason.severity);
            let _ = writeln!(
                text,
                "  {}  {}  {}",
                paint(screen, style, word),
                paint(screen, TITLE, reason.code.name()),
                plain(&reason.subject)
            );
            let _ = writeln!(text, "    {}", plain(&reason.sentence));
            // The same hint under each of twenty processes is said once, at the end of the group.
            let last = at + 1 == group.len().min(SHOWN);
            let next = group.get(at + 1).filter(|_| !last);
            if !reason.hint.is_empty() && next.is_none_or(|next| next.hint != reason.hint) {
                let _ = writeln!(text, "    next: {}", plain(&reason.hint));
            }
        }
        if group.len() > SHOWN {
            let more = number((group.len() - SHOWN) as u64);
            let _ = writeln!(
                text,
                "    and {more} more of {} (--output json lists all)",
                group[0].code
            );
        }
    }
}

/// What the gate of a node said.
pub(super) fn gate(node: &NodeOutcome) -> (String, Style) {
    match node.gate {
        Some(GateAnswer::Passed) => ("passed".to_owned(), GOOD),
        None => ("not asked".to_owned(), FAINT),
        Some(GateAnswer::NotPassed) => {
            let failed = node
                .reasons
                .iter()
                .filter(|reason| reason.code == ReasonCode::GateFailed);
            let subjects: Vec<_> = failed.map(|reason| plain(&reason.subject)).collect();
            (format!("not passed: {}", subjects.join(", ")), BAD)
        }
    }
}

#[cfg(test)]
mod tests {
    use flyhot_events::ReasonCode;

    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (of, text) in [(0, "0"), (999, "999"), (1_000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(number(of), text);
        }
    }

    #[test]
    fn times_keep_three_digits() {
        for (us, text) in [
            (0, "0 ms"),
            (70, "0.07 ms"),
            (8_249, "8.2 ms"),
            (431_200, "431 ms"),
            (2_312_000, "2.31 s"),
            (245_000_000, "4 min 05 s"),
        ] {
            assert_eq!(time(us), text);
        }
    }

    #[test]
    fn counts_have_a_singular() {
        assert_eq!(count(1, Unit::Processes), "1 process");
        assert_eq!(count(2, Unit::Modules), "2 modules");
        assert_eq!(count(1_536, Unit::Bytes), "1.5 KiB");
        assert_eq!(count(3 << 20, Unit::Bytes), "3.0 MiB");
    }

    #[test]
    fn a_node_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{9b}d"), "a [2Jb c d");
    }

    #[test]
    fn many_reasons_of_one_code_are_cut_and_the_hint_is_said_once() {
        let many: Vec<_> = (0..25)
            .map(|n| {
                Reason::new(
                    ReasonCode::RehearsalFailed,
                    format!("<0.{n}.0>"),
                    "It raised.",
                    "Mend it.",
                )
            })
            .collect();
        let mut text = String::new();
        reasons(Screen::default(), &many, &mut text);
        assert_eq!(text.matches("It raised.").count(), SHOWN);
        assert_eq!(text.matches("next: Mend it.").count(), 1);
        assert!(
            text.ends_with("and 5 more of rehearsal_failed (--output json lists all)\n"),
            "{text}"
        );
    }
}

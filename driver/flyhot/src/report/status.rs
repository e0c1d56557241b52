//! Nodes as they are: a table of all of them, and what to know of each.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use flyhot_events::{Drift, InventoryMachine, LastOutcome, NodeStatus, StatusProcess, UnderWay};

use super::inventory;
use super::words::{self, BAD, DOUBTFUL, FAINT, SHOWN, TITLE, bytes, counted, number, paint};
use crate::options::Screen;

/// Seconds since 1970 that RFC 3339 cannot write any more; the figure comes from a file of the node.
const YEAR_10000: u64 = 253_402_300_800;

/// The table, a row a node.
pub(super) fn table(screen: Screen, nodes: &[(String, NodeStatus)]) -> String {
    let header = [
        "node",
        "code",
        "toolchain",
        "applications",
        "processes",
        "memory",
        "state",
    ];
    let rows = nodes.iter().map(|(node, status)| row(node, status));
    lines(&words::table(screen, header, &[4, 5], rows))
}

/// The table, a row a machine: those without a node are there too.
pub(super) fn fleet(screen: Screen, machines: &[InventoryMachine], nodes: &[(String, NodeStatus)]) -> String {
    let header = [
        "machine",
        "region",
        "state",
        "image",
        "code",
        "drift",
        "last upgrade",
    ];
    let rows = machines.iter().map(|machine| {
        let of = |status: &&NodeStatus| status.machine.as_ref() == Some(&machine.machine);
        let status = nodes.iter().map(|(_, status)| status).find(of);
        let [code, drift, last] = match status {
            Some(status) => [
                words::short(Some(status.code_id.as_str())).to_owned(),
                drift(status),
                status.last.as_ref().map_or("-".to_owned(), |last| {
                    format!("{}, {}", words::outcome(last.outcome).0, at(last.at))
                }),
            ],
            None => [inventory::role(machine), "-", "-"].map(str::to_owned),
        };
        [
            words::plain(&machine.machine),
            words::plain(&machine.region),
            words::plain(&machine.state),
            inventory::image(machine),
            code,
            drift,
            last,
        ]
    });
    lines(&words::table(screen, header, &[], rows))
}

/// A table as it is written: nothing behind the last column of a row.
fn lines(table: &str) -> String {
    let mut text = String::from("\n");
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn row(node: &str, status: &NodeStatus) -> [String; 7] {
    let elixir = status
        .elixir
        .as_ref()
        .map_or(String::new(), |version| format!(", Elixir {version}"));
    let apps: Vec<_> = status
        .applications
        .iter()
        .filter(|app| app.running)
        .take(3)
        .map(|app| format!("{} {}", app.name, app.version))
        .collect();
    [
        words::plain(node),
        words::short(Some(status.code_id.as_str())).to_owned(),
        words::plain(&format!("OTP {}{elixir}", status.otp)),
        words::plain(&apps.join(", ")),
        number(status.processes),
        bytes(status.memory_bytes),
        state(status),
    ]
}

/// In a word or two, what is not as usual.
fn state(status: &NodeStatus) -> String {
    unusual(status).unwrap_or_else(|| "well".to_owned())
}

fn drift(status: &NodeStatus) -> String {
    unusual(status).unwrap_or_else(|| "none".to_owned())
}

fn unusual(status: &NodeStatus) -> Option<String> {
    let counts = [
        (status.suspended_count, "suspended"),
        (status.drift.len() as u64, "drifted"),
        (status.differing.len() as u64, "differing"),
        (status.lingerers.len() as u64, "on old code"),
    ];
    let mut parts: Vec<_> = status
        .under_way
        .iter()
        .map(|_| "upgrade under way".to_owned())
        .collect();
    parts.extend(
        counts
            .iter()
            .filter(|(of, _)| *of > 0)
            .map(|(of, word)| format!("{} {word}", number(*of))),
    );
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A moment, as the clock of the machine had it that flyhot ran on.
fn at(seconds: u64) -> String {
    if seconds < YEAR_10000 {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    } else {
        "at no time".to_owned()
    }
}

/// What to know of one node besides its row; empty when there is nothing.
pub(super) fn details(screen: Screen, node: &str, status: &NodeStatus) -> String {
    let mut text = String::new();
    if let Some(UnderWay { holder, step }) = &status.under_way {
        let at = paint(screen, DOUBTFUL, "under way");
        let _ = writeln!(
            text,
            "  {at}  {}, at its step {}",
            words::plain(holder),
            words::plain(step)
        );
    }
    if status.suspended_count > 0 {
        let of = counted(status.suspended_count, "process", "processes");
        let _ = writeln!(text, "  {}  {of}", paint(screen, BAD, "suspended"));
        processes(screen, &status.suspended, &mut text);
    }
    for Drift { module, loaded, file } in status.drift.iter().take(SHOWN) {
        let file = match file {
            Some(file) => format!("its file has {}", words::short(Some(file.as_str()))),
            None => "it has no file that can be read".to_owned(),
        };
        let _ = writeln!(
            text,
            "  {}  {} runs {}, {file}",
            paint(screen, DOUBTFUL, "drift"),
            words::plain(module),
            words::short(Some(loaded.as_str()))
        );
    }
    more(status.drift.len(), &mut text);
    if !status.differing.is_empty() {
        let of = counted(status.differing.len() as u64, "module", "modules");
        let _ = write!(
            text,
            "  {}  {of} from most others: ",
            paint(screen, DOUBTFUL, "differs")
        );
        words::names(
            4,
            status.differing.iter().take(SHOWN).map(String::as_str),
            &mut text,
        );
        text.push('\n');
        more(status.differing.len(), &mut text);
    }
    if !status.old_code.is_empty() {
        let all = status.old_code.len() as u64;
        let sought = if status.lingerers_sought < all {
            format!(", of {} of them", number(status.lingerers_sought))
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "  old code  {}; {} on it{sought}",
            counted(all, "module", "modules"),
            counted(status.lingerers.len() as u64, "process", "processes")
        );
        processes(screen, &status.lingerers, &mut text);
    }
    if let Some(last) = &status.last {
        let LastOutcome {
            at: ended,
            release,
            outcome,
            code_id,
            reasons: _,
        } = last;
        let since = match &code_id.after {
            Some(after) if *after == status.code_id => "",
            _ => ", and other code runs now",
        };
        let _ = writeln!(
            text,
            "  last      {} to {}, {}{since}",
            words::outcome(*outcome).0,
            words::plain(release),
            at(*ended)
        );
    }
    if text.is_empty() {
        return text;
    }
    let title = match &status.machine {
        Some(machine) => format!("{machine} {node}"),
        None => node.to_owned(),
    };
    format!("\n{}\n{text}", paint(screen, TITLE, &words::plain(&title)))
}

/// Who is suspended, and what was done about it.
pub(super) fn thaw(screen: Screen, resumed: u64, still: &[StatusProcess], still_count: u64) -> String {
    let mut text = String::new();
    if resumed > 0 {
        let _ = writeln!(text, "  resumed {}", counted(resumed, "process", "processes"));
    }
    if still_count == 0 {
        text.push_str("  nobody is suspended\n");
        return text;
    }
    let of = counted(still_count, "process is", "processes are");
    let _ = writeln!(text, "  {of} {}", paint(screen, BAD, "suspended"));
    processes(screen, still, &mut text);
    if still.iter().any(|process| process.how == "sys") {
        text.push_str("  next: `flyhot thaw --apply` resumes those that wait in sys.\n");
    }
    text
}

fn more(all: usize, text: &mut String) {
    if let Some(more @ 1..) = all.checked_sub(SHOWN) {
        let _ = writeln!(text, "    and {} more", number(more as u64));
    }
}

fn processes(screen: Screen, processes: &[StatusProcess], text: &mut String) {
    for StatusProcess {
        pid,
        name,
        module,
        stack,
        how,
    } in processes.iter().take(SHOWN)
    {
        let name = name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        let by = if how == "suspend_process" {
            ", by suspend_process"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "    {}{} of {}{by}",
            words::plain(pid),
            words::plain(&name),
            words::plain(module)
        );
        if !stack.is_empty() {
            let stack: Vec<_> = stack.iter().take(3).map(|frame| words::plain(frame)).collect();
            let _ = writeln!(text, "      {}", paint(screen, FAINT, &stack.join(" < ")));
        }
    }
    more(processes.len(), text);
}

//! What a store says, as text.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use flyhot_events::{HistoryEntry, LockHolder};

use super::words;
use crate::options::Screen;

/// Who holds a lock.
pub(super) fn lock(
    app: &str,
    store: &str,
    holder: Option<&LockHolder>,
    released: Option<&LockHolder>,
) -> String {
    let mut text = format!("  the lock of {} in {}\n", words::plain(app), words::plain(store));
    if let Some(released) = released {
        let _ = writeln!(text, "  was held by {}, and is let go", who(released));
    }
    match holder {
        None => text.push_str("  nobody holds it\n"),
        Some(holder) => {
            let renewed = match holder.renewed_s {
                Some(seconds) => format!("renewed {} ago", duration(seconds)),
                None => "renewed at a time that the store cannot tell".to_owned(),
            };
            let left = match holder.left_s {
                0 => "its lease is over: whoever wants it next has it".to_owned(),
                seconds => format!("its lease goes on for {}", duration(seconds)),
            };
            let held = duration(holder.held_s);
            let _ = writeln!(text, "  held by {} for {held}, {renewed}; {left}", who(holder));
        }
    }
    text
}

fn who(holder: &LockHolder) -> String {
    words::plain(&format!(
        "{} on {} ({})",
        holder.who, holder.machine, holder.purpose
    ))
}

fn duration(seconds: u64) -> String {
    words::time(seconds.saturating_mul(1_000_000))
}

/// What a fleet should run, and ran.
pub(super) fn history(
    screen: Screen,
    app: &str,
    store: &str,
    base_image: Option<&str>,
    artifacts: &[HistoryEntry],
) -> String {
    let image = base_image.map_or(String::new(), |image| {
        format!(", on the image {}", words::plain(image))
    });
    let mut text = format!("  {} in {}{image}\n", words::plain(app), words::plain(store));
    if artifacts.is_empty() {
        text.push_str("  nothing was deployed yet\n");
        return text;
    }
    let rows = artifacts.iter().map(|entry| {
        [
            format!("  {}", entry.state),
            words::plain(&entry.version),
            words::short(Some(&entry.code_id)).to_owned(),
            words::short(Some(&entry.digest)).to_owned(),
            moment(entry.created_at),
        ]
    });
    let header = ["  state", "version", "code", "artifact", "packed"];
    for line in words::table(screen, header, &[], rows).lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What machines boot from now on.
pub(super) fn pointer(
    app: &str,
    store: &str,
    state: &str,
    artifact: &HistoryEntry,
    displaced: Option<&str>,
) -> String {
    let what = format!(
        "{} (code {})",
        words::plain(&artifact.version),
        words::short(Some(&artifact.code_id))
    );
    let said = match state {
        "trial" => format!("{what} is on trial; machines that start boot what was committed before"),
        "committed" => format!("{what} is committed: machines boot it"),
        "abandoned" => format!("{what} is taken back; machines boot what was committed before"),
        _ => format!("{what} was committed before"),
    };
    let mut text = format!("  {} in {}: {said}\n", words::plain(app), words::plain(store));
    if let Some(displaced) = displaced {
        let _ = writeln!(text, "  the lock was taken from {}", words::plain(displaced));
    }
    text
}

/// What was removed from a store.
pub(super) fn gc(
    app: &str,
    store: &str,
    kept: u64,
    removed: &[String],
    removed_size: u64,
    unfinished: u64,
    dry_run: bool,
) -> String {
    let done = if dry_run { "would be removed" } else { "removed" };
    let mut text = format!("  {} in {}\n", words::plain(app), words::plain(store));
    for digest in removed {
        let _ = writeln!(text, "  {done}  {}", words::short(Some(digest)));
    }
    let artifacts = words::counted(removed.len() as u64, "artifact", "artifacts");
    let _ = writeln!(
        text,
        "  {artifacts} {done}, {}; {kept} kept; {unfinished} unfinished uploads removed",
        words::bytes(removed_size)
    );
    text
}

/// A moment as people and machines both read it.
pub(super) fn moment(seconds: u64) -> String {
    /// The year 10000, which the format has no room for.
    const END: u64 = 253_402_300_800;
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
        Some(time) if seconds < END => humantime::format_rfc3339_seconds(time).to_string(),
        _ => "unknown".to_owned(),
    }
}

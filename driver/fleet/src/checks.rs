//! Whether the checks of a machine pass.
//!
//! This file is pure. Only `passing` passes: a warning is what Fly says of a check that it has not asked long enough, and of a word that
//! is not known here nobody knows what it means.

use crate::machine::Check;

/// So many characters of what a check said last: a line of a terminal.
const SHOWN: usize = 80;

/// The checks that do not pass, each with what it said last, as the rest of a sentence; nothing where all pass, or there are none.
pub fn failing(checks: &[Check]) -> Option<String> {
    let failing: Vec<String> = checks
        .iter()
        .filter(|check| check.status != "passing")
        .map(one)
        .collect();
    (!failing.is_empty()).then(|| failing.join("; "))
}

fn one(check: &Check) -> String {
    let status = match &*check.status {
        "" => "says nothing",
        status => &format!("is {}", plain(status)),
    };
    match plain(&check.output) {
        said if said.is_empty() => format!("the check {} {status}", plain(&check.name)),
        said => format!("the check {} {status}: {said}", plain(&check.name)),
    }
}

/// The first line, without what a terminal would obey.
fn plain(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let shown = line.unwrap_or_default().chars().filter(|char| !char.is_control());
    shown.take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, status: &str, output: &str) -> Check {
        Check {
            name: name.to_owned(),
            status: status.to_owned(),
            output: output.to_owned(),
        }
    }

    /// Name, status and what it said last of each, and what is said of them.
    type Row = (
        &'static [(&'static str, &'static str, &'static str)],
        Option<&'static str>,
    );

    #[test]
    fn only_what_passes_is_well() {
        let table: [Row; 6] = [
            (&[], None),
            (&[("alive", "passing", "200 OK")], None),
            (
                &[
                    ("alive", "passing", ""),
                    ("deep", "critical", "\nconnection \x1brefused\nagain"),
                ],
                Some("the check deep is critical: connection refused"),
            ),
            (&[("alive", "warning", "")], Some("the check alive is warning")),
            (&[("alive", "", "")], Some("the check alive says nothing")),
            (
                &[("a", "critical", ""), ("b", "thinking", "hm")],
                Some("the check a is critical; the check b is thinking: hm"),
            ),
        ];
        for (checks, said) in table {
            let checks: Vec<_> = checks.iter().map(|(a, b, c)| check(a, b, c)).collect();
            assert_eq!(failing(&checks).as_deref(), said, "{checks:?}");
        }
        let long = failing(&[check("a", "critical", &"x".repeat(10_000))]).unwrap();
        assert!(long.len() < 2 * SHOWN, "{long}");
    }
}

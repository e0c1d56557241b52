//! Whether the checks of a machine pass.
//!
//! This file is pure. Only `passing` passes: a warning is what Fly says of a check that it has not asked long enough, and of a word that
//! is not known here nobody knows what it means.

use std::time::Duration;

use crate::machine::{Check, Config, Machine, Moment};

/// So many characters of what a check said last: a line of a terminal.
const SHOWN: usize = 80;

/// What Fly puts before the names of the checks of services.
const OF_SERVICE: &str = "servicecheck-";

/// What Fly puts there for older versions of flyctl, and asks nobody about.
const COMPAT: &str = "bg_deployments_compat";

/// The checks that do not pass, each with what it said last, as the rest of a sentence, and those that Fly says nothing of; nothing
/// where all pass, or the machine was made with none.
pub fn failing(machine: &Machine) -> Option<String> {
    let Some(config) = &machine.config else {
        return Some("Fly does not say which checks it has".to_owned());
    };
    let checks = machine
        .checks
        .iter()
        .filter(|check| !check.name.starts_with(COMPAT));
    let failing = checks.filter(|check| check.status != "passing").map(one);
    let failing: Vec<String> = failing.chain(unheard(config, &machine.checks)).collect();
    (!failing.is_empty()).then(|| failing.join("; "))
}

/// Those that the machine was made with and that Fly says nothing of: whoever has no data does not pass.
fn unheard(config: &Config, checks: &[Check]) -> Vec<String> {
    let told = |name: &String| checks.iter().any(|check| check.name == *name);
    let named = config.checks.named.iter().filter(|name| !told(name));
    let mut unheard: Vec<String> = named
        .map(|name| format!("nothing is said of the check {}", plain(name)))
        .collect();
    let of_services = checks
        .iter()
        .filter(|check| check.name.starts_with(OF_SERVICE))
        .count();
    if of_services < config.checks.of_services {
        let all = config.checks.of_services;
        unheard.push(format!(
            "of {all} checks of its services something is said of {of_services}"
        ));
    }
    unheard
}

/// How long Fly may still have nothing to say of a machine that was started not long ago.
pub fn grace(machine: &Machine, now: Moment) -> Duration {
    let (Some(config), Some(started_at)) = (&machine.config, machine.started_at) else {
        return Duration::ZERO;
    };
    // A start that is still to come by the clock here was just now.
    let since = now.duration_since(started_at).unwrap_or_default();
    config.checks.grace.saturating_sub(since)
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
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;

    /// A machine that was made with these checks, and of which Fly says this.
    fn machine(config: &Value, told: &[(&str, &str, &str)]) -> Machine {
        let told = told
            .iter()
            .map(|(name, status, output)| json!({"name": name, "status": status, "output": output}));
        let started = json!([{"type": "start", "timestamp": 10_000}]);
        let told: Vec<_> = told.collect();
        Machine::read(&json!({"id": "1", "config": config, "checks": told, "events": started})).unwrap()
    }

    /// Name, status and what it said last of each, and what is said of them.
    type Row = (
        &'static [(&'static str, &'static str, &'static str)],
        Option<&'static str>,
    );

    #[test]
    fn only_what_passes_is_well() {
        let table: [Row; 7] = [
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
            (&[("bg_deployments_compat_tcp", "critical", "")], None),
        ];
        for (checks, said) in table {
            let machine = machine(&json!({}), checks);
            assert_eq!(failing(&machine).as_deref(), said, "{checks:?}");
        }
        let long = failing(&machine(&json!({}), &[("a", "critical", &"x".repeat(10_000))])).unwrap();
        assert!(long.len() < 2 * SHOWN, "{long}");
    }

    #[test]
    fn what_nothing_is_said_of_is_not_well() {
        let config = json!({
            "checks": {"alive": {"type": "tcp", "port": 4000}},
            "services": [{"internal_port": 4000, "checks": [{"type": "http"}, {"type": "http"}]}],
        });
        let all = [
            ("alive", "passing", ""),
            ("servicecheck-00-http-4000", "passing", ""),
            ("servicecheck-01-http-4000", "passing", ""),
        ];
        assert_eq!(failing(&machine(&config, &all)), None);
        for (told, said) in [
            (
                &all[..0],
                "nothing is said of the check alive; of 2 checks of its services something is said of 0",
            ),
            (&all[1..], "nothing is said of the check alive"),
            (&all[..2], "of 2 checks of its services something is said of 1"),
            (
                &[all[0], all[1], ("bg_deployments_compat_http", "passing", "")],
                "of 2 checks of its services something is said of 1",
            ),
        ] {
            assert_eq!(
                failing(&machine(&config, told)).as_deref(),
                Some(said),
                "{told:?}"
            );
        }
        let unknown = machine(&json!(null), &all);
        assert_eq!(
            failing(&unknown).as_deref(),
            Some("Fly does not say which checks it has")
        );
    }

    #[test]
    fn the_time_that_fly_asks_nobody_after_a_start_is_what_is_left_of_it() {
        let config = json!({"checks": {"alive": {"grace_period": "1m0s"}}});
        let machine = machine(&config, &[]);
        for (now, left) in [(0, 60), (10, 60), (30, 40), (70, 0), (1_000, 0)] {
            let now = UNIX_EPOCH + Duration::from_secs(now);
            assert_eq!(grace(&machine, now), Duration::from_secs(left), "{now:?}");
        }
    }
}

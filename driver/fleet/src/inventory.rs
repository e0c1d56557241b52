//! The machines of an app.

use std::collections::BTreeSet;
use std::time::SystemTime;

use reqwest::Method;
use serde_json::Value;

use crate::ask::Ask;
use crate::client::Fly;
use crate::error::FlyError;
use crate::machine::{Machine, MachineId};
use crate::pace::Action;

/// Machines in one answer: some hundred kilobytes, and a thousand machines are five requests.
const PAGE: usize = 200;

/// As many pages as there may be before somebody is taken to make them up: 200 000 machines.
const PAGES: usize = 1_000;

/// Process groups of machines that flyctl makes for itself.
const RESERVED: [&str; 3] = [
    "fly_app_release_command",
    "fly_app_console",
    "fly_app_test_machine_command",
];

/// A list, and when it was made by Fly's clock.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) machines: Vec<Machine>,
    pub(crate) at: Option<SystemTime>,
}

impl Fly {
    /// What a `fly deploy` would take for the app's machines, of every process group. A machine whose labels are not known,
    /// because its host does not answer, is one of them.
    ///
    /// # Errors
    /// Whatever befalls a request.
    pub async fn inventory(&self) -> Result<Vec<Machine>, FlyError> {
        let mut machines = self.list("").await?.machines;
        machines.retain(belongs);
        Ok(machines)
    }

    /// One machine; it may be destroyed already.
    ///
    /// # Errors
    /// [`FlyError::Absent`], and whatever befalls a request.
    pub async fn machine(&self, id: &MachineId) -> Result<Machine, FlyError> {
        let doing = format!("looking at the machine {id}");
        let ask = Ask::machine(doing, Action::Get, Method::GET, id, "");
        let answer = self.ask(&ask, self.soon()).await.or_error(&ask.doing)?;
        Machine::read(&answer.json(&ask.doing)?).ok_or_else(|| FlyError::Unreadable {
            doing: ask.doing.clone(),
            what: "it has no id".to_owned(),
        })
    }

    /// All of them, page by page. `filter` is empty, or begins with `&`.
    pub(crate) async fn list(&self, filter: &str) -> Result<Listing, FlyError> {
        let doing = format!("listing the machines of the app {}", self.app);
        let unreadable = |what: &str| FlyError::Unreadable {
            doing: doing.clone(),
            what: what.to_owned(),
        };
        let mut machines = Vec::new();
        let mut seen = BTreeSet::new();
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let path = format!("/machines?limit={PAGE}{cursor}{filter}");
            let ask = Ask::app(doing.clone(), Action::List, Method::GET, &path);
            let answer = self.ask(&ask, self.soon()).await.or_error(&doing)?;
            let page = match answer.json(&doing)? {
                Value::Array(page) => page,
                Value::Null => Vec::new(),
                _ => return Err(unreadable("it is no list")),
            };
            for json in &page {
                let machine = Machine::read(json).ok_or_else(|| unreadable("a machine has no id"))?;
                // One that was made while the pages came may be on two of them.
                if seen.insert(machine.id.clone()) {
                    machines.push(machine);
                }
            }
            let Some(next) = answer.cursor else {
                return Ok(Listing {
                    machines,
                    at: answer.date,
                });
            };
            cursor = format!("&cursor={}", escaped(&next));
        }
        Err(unreadable("it does not end"))
    }
}

/// Whether flyctl would count it among the app's, or nobody can say.
fn belongs(machine: &Machine) -> bool {
    if machine.state.is_gone() {
        return false;
    }
    let Some(config) = &machine.config else {
        return true;
    };
    let ours = config
        .metadata
        .get("fly_platform_version")
        .is_some_and(|version| version == "v2");
    ours && machine.group().is_none_or(|group| !RESERVED.contains(&group))
}

/// As it may stand in an address.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_machines_are_those_that_flyctl_counts() {
        let machine = |state: &str, config: Value| {
            Machine::read(&json!({"id": "1", "state": state, "config": config})).unwrap()
        };
        let labels =
            |group: &str| json!({"metadata": {"fly_platform_version": "v2", "fly_process_group": group}});
        for (state, config, counts) in [
            ("started", labels("app"), true),
            ("stopped", labels("worker"), true),
            ("suspended", labels("worker"), true),
            ("destroyed", labels("app"), false),
            ("destroying", labels("app"), false),
            ("started", labels("fly_app_console"), false),
            ("started", labels("fly_app_release_command"), false),
            (
                "started",
                json!({"metadata": {"fly_platform_version": "v2"}}),
                true,
            ),
            ("started", json!({"metadata": {"flyhot_rollout": "1"}}), false),
            ("started", json!({}), false),
            ("started", json!(null), true),
        ] {
            assert_eq!(
                belongs(&machine(state, config.clone())),
                counts,
                "{state} {config}"
            );
        }
    }

    #[test]
    fn a_cursor_is_sent_as_it_came() {
        assert_eq!(escaped("a+b/c=&x"), "a%2Bb%2Fc%3D%26x");
    }
}

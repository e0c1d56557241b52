//! The machines of an app, a row each.

use std::fmt::Write as _;

use flyhot_events::{InventoryMachine, LeaseState, MachineRole};

use super::words::{self, counted};
use crate::options::Screen;

/// How many there are.
pub(super) fn title(app: &str, machines: &[InventoryMachine]) -> String {
    let of = counted(machines.len() as u64, "machine", "machines");
    format!("  {of} of {}\n", words::plain(app))
}

pub(super) fn text(screen: Screen, app: &str, machines: &[InventoryMachine]) -> String {
    let mut text = title(app, machines);
    if machines.is_empty() {
        return text;
    }
    let header = ["machine", "region", "group", "state", "image", "node"];
    let rows = machines.iter().map(|machine| {
        let node = machine.node.as_deref().unwrap_or_else(|| role(machine));
        [
            words::plain(&machine.machine),
            words::plain(&machine.region),
            words::of_machine(&machine.group),
            words::plain(&machine.state),
            image(machine),
            words::plain(node),
        ]
    });
    text.push('\n');
    for line in words::table(screen, header, &[], rows).lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What a machine is to a command that has no node of it, or no answer of its node.
pub(super) fn role(machine: &InventoryMachine) -> &'static str {
    match machine.role {
        MachineRole::Node | MachineRole::Lacking => "cannot be reached",
        MachineRole::LeftToBoot if machine.state == "suspended" => "keeps its code",
        MachineRole::LeftToBoot => "left to boot",
        MachineRole::Other => "no Erlang",
    }
}

pub(super) fn image(machine: &InventoryMachine) -> String {
    machine
        .image
        .as_deref()
        .map_or("not known".to_owned(), words::plain)
}

/// What there is to say of a machine that is left to boot when its node is to be begun.
pub(super) fn left(state: &str) -> &'static str {
    match state {
        "suspending" | "suspended" => "suspended meanwhile; goes on with the code that it had",
        "destroying" | "destroyed" => "removed meanwhile",
        _ => "stopped meanwhile; boots the committed code",
    }
}

/// What there is to say of a lease.
pub(super) fn lease(
    machine: &str,
    state: LeaseState,
    holder: Option<&str>,
    until: Option<&str>,
    why: Option<&str>,
) -> String {
    let text = match state {
        LeaseState::WaitedFor => {
            let until = until.map_or(String::new(), |until| format!(" until {until}"));
            format!(
                "of the machine {machine} is held by {}{until}: waiting",
                holder.unwrap_or("somebody else")
            )
        }
        LeaseState::MayNot => "not to be had by this token: going on without".to_owned(),
        LeaseState::Without => format!("of the machine {machine} was not given in time: going back without"),
        LeaseState::Lost => format!("of the machine {machine} was lost: somebody else may change it"),
    };
    match why {
        Some(why) => words::plain(&format!("{text} ({why})")),
        None => words::plain(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_row_that_says_what_it_is_to_the_command() {
        let machine = |id: &str, state: &str, role, node: Option<&str>| InventoryMachine {
            machine: id.into(),
            region: "ams".into(),
            group: Some("app".into()),
            state: state.into(),
            image: (id != "lost").then(|| "shop:1".into()),
            role,
            node: node.map(str::to_owned),
        };
        let machines = [
            machine("1", "started", MachineRole::Node, Some("shop@fdaa::1")),
            machine("2", "stopped", MachineRole::LeftToBoot, None),
            machine("4", "suspended", MachineRole::LeftToBoot, None),
            machine("3", "started", MachineRole::Other, None),
            machine("lost", "started\x1b[2J", MachineRole::Lacking, None),
        ];
        let text = text(Screen::default(), "shop", &machines);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0].join(" "), "5 machines of shop");
        assert_eq!(lines[3].join(" "), "1 ams app started shop:1 shop@fdaa::1");
        assert_eq!(lines[4].join(" "), "2 ams app stopped shop:1 left to boot");
        assert!(lines[5].join(" ").ends_with("suspended shop:1 keeps its code"));
        assert!(lines[6].join(" ").ends_with("no Erlang"));
        assert!(
            lines[7].join(" ").contains("not known cannot be reached"),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
    }
}

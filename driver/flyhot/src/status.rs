//! `flyhot status`: what nodes run, all of them asked at once.
//!
//! Nothing is touched on a node and nothing loaded there, so that it can be asked at any time, in the middle of an upgrade
//! too. What nodes say is compared here, by pure functions; asking is done by [`crate::drive::look`].

use std::collections::{BTreeMap, BTreeSet};

use flyhot_artifact::code_id;
use flyhot_events::{Drift, ErrorKind, Event, ExitCode, NodeStatus, StatusProcess};
use flyhot_upgrade::elixir_name;

use crate::asked::{self, Answer};
use crate::cli::{HomeArgs, ReachArgs};
use crate::drive::look::{Looked, LookedModule, look};
use crate::options::{Environment, MachineOf, Peer};
use crate::report::Reporter;

/// Performs the command; every way out of it emits the outcome.
pub(crate) fn command(
    args: &ReachArgs,
    home: &HomeArgs,
    environment: &Environment,
    reporter: &mut Reporter,
) -> ExitCode {
    let work = async |peer: Peer| Ok((peer.machine.clone(), look(&peer).await?));
    asked::command("status", args, home, environment, reporter, work, told)
}

/// What to say of the answers, in the order of the command line, and what speaks against the command: the first error.
fn told(answers: Vec<Answer<(Option<MachineOf>, Looked)>>) -> (Vec<Event>, Option<ErrorKind>) {
    let said = answers.iter().filter_map(|answer| answer.said.as_ref().ok());
    let usual = usual(said.map(|(_, looked)| loaded(&looked.modules)));
    asked::each(answers, |node, (machine, looked)| {
        let event = Event::Status {
            node,
            status: Box::new(status(machine, looked, usual.as_ref())),
        };
        (vec![event], None)
    })
}

type Digests = BTreeMap<String, [u8; 16]>;

/// What most of them run; of what is run by as many, what is named first.
fn usual(all: impl Iterator<Item = Digests>) -> Option<Digests> {
    let mut counted: Vec<(Digests, usize)> = Vec::new();
    // A fleet has one code or two.
    for one in all {
        match counted.iter_mut().find(|(same, _)| *same == one) {
            Some((_, count)) => *count += 1,
            None => counted.push((one, 1)),
        }
    }
    // Of several greatest the last one is taken.
    let most = counted.into_iter().rev().max_by_key(|(_, count)| *count);
    most.map(|(usual, _)| usual)
}

/// What a start would load counts where it is not loaded yet.
fn loaded(modules: &BTreeMap<String, LookedModule>) -> Digests {
    modules
        .iter()
        .filter_map(|(name, module)| Some((name.clone(), module.loaded.or(module.file)?)))
        .collect()
}

fn status(machine: Option<MachineOf>, looked: Looked, usual: Option<&Digests>) -> NodeStatus {
    let own = loaded(&looked.modules);
    let differing: BTreeSet<String> = usual.map_or_else(BTreeSet::new, |usual| {
        own.keys()
            .chain(usual.keys())
            .filter(|name| own.get(*name) != usual.get(*name))
            .map(|name| elixir_name(name))
            .collect()
    });
    let drift = looked
        .modules
        .iter()
        .filter_map(|(name, module)| {
            let loaded = module.loaded?;
            (module.file != Some(loaded)).then(|| Drift {
                module: elixir_name(name),
                loaded: hex(loaded),
                file: module.file.map(hex),
            })
        })
        .collect();
    let (machine, region) = machine
        .map(|MachineOf { id, region, .. }| (id.to_string(), region))
        .unzip();
    NodeStatus {
        machine,
        region,
        otp: looked.otp,
        erts: looked.erts,
        elixir: looked.elixir,
        code_id: code_id(own).to_string(),
        embedded: looked.embedded,
        processes: looked.processes,
        memory_bytes: looked.memory_bytes,
        applications: looked.applications,
        drift,
        differing: differing.into_iter().collect(),
        old_code: looked.old_code.iter().map(|name| elixir_name(name)).collect(),
        lingerers: looked.lingerers.into_iter().map(named).collect(),
        lingerers_sought: looked.lingerers_sought,
        suspended: looked.suspended.into_iter().map(named).collect(),
        suspended_count: looked.suspended_count,
        under_way: looked.under_way,
        last: looked.last,
    }
}

fn named(process: StatusProcess) -> StatusProcess {
    StatusProcess {
        module: elixir_name(&process.module),
        ..process
    }
}

fn hex(md5: [u8; 16]) -> String {
    md5.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::NodeError;

    fn module(loaded: u8, file: u8) -> LookedModule {
        let md5 = |byte: u8| (byte > 0).then_some([byte; 16]);
        LookedModule {
            loaded: md5(loaded),
            file: md5(file),
        }
    }

    fn node(name: &str, modules: &[(&str, LookedModule)]) -> Answer<(Option<MachineOf>, Looked)> {
        let modules = modules
            .iter()
            .map(|(name, module)| {
                let LookedModule { loaded, file } = *module;
                ((*name).to_owned(), LookedModule { loaded, file })
            })
            .collect();
        Answer {
            node: name.into(),
            said: Ok((
                None,
                Looked {
                    otp: "25".into(),
                    erts: "13.1.5".into(),
                    elixir: None,
                    embedded: true,
                    processes: 1,
                    memory_bytes: 1,
                    applications: Vec::new(),
                    modules,
                    old_code: Vec::new(),
                    lingerers: Vec::new(),
                    lingerers_sought: 0,
                    suspended: Vec::new(),
                    suspended_count: 0,
                    under_way: None,
                    last: None,
                },
            )),
        }
    }

    fn statuses(answers: Vec<Answer<(Option<MachineOf>, Looked)>>) -> Vec<NodeStatus> {
        let only = |event| match event {
            Event::Status { status, .. } => *status,
            other => panic!("{other:?}"),
        };
        told(answers).0.into_iter().map(only).collect()
    }

    #[test]
    fn what_is_not_in_its_file_drifts() {
        let modules = [
            ("as_its_file", module(1, 1)),
            ("of_nobody", module(1, 2)),
            ("without_a_file", module(1, 0)),
            ("not_loaded", module(0, 1)),
        ];
        let status = &statuses(vec![node("a@h", &modules)])[0];
        let drift: Vec<_> = status
            .drift
            .iter()
            .map(|drift| (&*drift.module, drift.file.is_some()))
            .collect();
        assert_eq!(drift, [("of_nobody", true), ("without_a_file", false)]);
    }

    #[test]
    fn a_node_is_compared_with_what_most_run_or_the_first_of_as_many() {
        let dead = Answer {
            node: "dead@h".into(),
            said: Err(NodeError {
                kind: ErrorKind::NodeUnreachable,
                message: "dead".into(),
                hint: String::new(),
                outcome: None,
            }),
        };
        let same = [("m", module(1, 1)), ("n", module(2, 2))];
        let other = [("m", module(3, 3)), ("o", module(4, 4))];
        let differ = |modules: &[&[(&str, LookedModule)]]| -> Vec<bool> {
            let answers = modules.iter().map(|modules| node("a@h", modules));
            let all = statuses(answers.collect());
            all.iter().map(|status| !status.differing.is_empty()).collect()
        };
        for (modules, expected) in [
            (&[&other[..], &same, &same][..], &[true, false, false][..]),
            (&[&same, &other], &[false, true]),
            (&[&other, &same], &[false, true]),
            (&[&other, &same, &same, &other], &[false, true, true, false]),
        ] {
            assert_eq!(differ(modules), expected);
        }
        let (events, against) = told(vec![
            dead,
            node("a@h", &same),
            node("b@h", &same),
            node("c@h", &other),
        ]);
        let [Event::Error { .. }, rest @ ..] = &events[..] else {
            panic!("{events:?}")
        };
        let told: Vec<_> = rest
            .iter()
            .map(|event| match event {
                Event::Status { status, .. } => (status.differing.clone(), status.code_id.clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told[0], told[1]);
        assert_eq!(told[2].0, ["m", "n", "o"]);
        assert_ne!(told[2].1, told[0].1);
        assert_eq!(against, Some(ErrorKind::NodeUnreachable));
    }
}

//! What the policy file wishes: hosts that processes do not show, functions to be called.

use flyhot_events::{Reason, ReasonCode};

use super::{NAMED, PlanInput, counted, elixir_name};
use crate::target::{Calls, NodeFunction};

/// What the policy says of hosts and nobody shows, and what nobody shows and the policy does not speak of.
pub(super) fn hosts(input: &PlanInput<'_>, reasons: &mut Vec<Reason>) {
    let hosts = &input.policy.hosts;
    let mut unused = |module: &String, sentence: String| {
        reasons.push(Reason::new(
            ReasonCode::PolicyUnused,
            elixir_name(module),
            sentence,
            "Look for a mistyped name in [hosts] of the policy file.",
        ));
    };
    for (shows, run) in hosts {
        let shown = elixir_name(shows);
        if !input
            .census
            .kinds
            .iter()
            .any(|kind| kind.shows.as_ref() == Some(shows))
        {
            unused(shows, format!("no process shows {shown}, which [hosts] names"));
        }
        for module in run {
            if !input.facts.modules.contains_key(module) && !input.target.modules.contains_key(module) {
                let run = elixir_name(module);
                unused(
                    module,
                    format!(
                        "{run}, which [hosts] names for {shown}, is neither loaded on the node nor in the release"
                    ),
                );
            }
        }
    }
    let nobody: Vec<String> = input
        .changes
        .changed
        .iter()
        .filter(|name| {
            input.target.modules.get(*name).is_some_and(|module| {
                module.code_change_3 || module.code_change_4 || module.system_code_change
            })
        })
        .filter(|name| !input.census.kinds.iter().any(|kind| kind.modules.contains(name)))
        .map(|name| elixir_name(name))
        .collect();
    if let Some(first) = nobody.first() {
        let named: Vec<&str> = nobody.iter().take(NAMED).map(String::as_str).collect();
        reasons.push(Reason::new(
            ReasonCode::HostNotShown,
            first,
            format!(
                "no process shows that it runs {}: {} with a code_change that is not asked for",
                named.join(", "),
                counted(nobody.len() as u64, "changed module")
            ),
            "If processes run them all the same, name these in [hosts] of the policy file: docs/policy.md.",
        ));
    }
}

pub(super) fn missing(calls: &Calls, reasons: &mut Vec<Reason>) {
    let mut add = |function: &NodeFunction, what: &str, place: &str| {
        reasons.push(Reason::new(
            ReasonCode::CallMissing,
            function.to_string(),
            format!("{what} {function} of the policy file is not {place}"),
            "Look for a mistyped name in the policy file; the function takes no arguments and must be exported.",
        ));
    };
    for function in &calls.before {
        add(function, "the before hook", "on the node");
    }
    for function in &calls.after {
        add(function, "the after hook", "in the release");
    }
    if let Some(function) = &calls.gate {
        add(function, "the gate", "in the release");
    }
}

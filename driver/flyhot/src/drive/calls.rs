//! The user's own functions around the window: hooks and gate.
//!
//! What a failure means is decided by `flyhot-upgrade`. Nothing is called twice here but the gate, and nothing that a
//! function did is undone.

use flyhot_agent::Command;
use flyhot_events::{NodeOutcome, Reason, Step, Unit};
use flyhot_node::{CallError, term};
use flyhot_upgrade::{Calls, NodeFunction, judge};
use term::Term;
use tokio::time::Instant;

use super::agent::AgentError;
use super::node::Work;
use super::steps::Steps;
use crate::options::policy::Gate;

impl Work<'_> {
    /// Of the functions to be called, those that are not there: a `before` hook must be on the node; the others in the
    /// release, or on the node where the release does not have their module.
    pub(super) async fn missing(&self) -> Result<Calls, AgentError> {
        let Calls { before, after, gate } = &self.policy.calls;
        let later = after.iter().chain(gate);
        let of_release = |function: &NodeFunction| self.request.release.modules.get(function.module.as_str());
        let asked: Vec<NodeFunction> = before
            .iter()
            .chain(later.clone().filter(|function| of_release(function).is_none()))
            .cloned()
            .collect();
        let mut lacking = Vec::new();
        if !asked.is_empty() {
            lacking = self
                .agent
                .slow(
                    "looking for functions",
                    &Command::Lacking(asked),
                    flyhot_agent::lacking,
                )
                .await?;
        }
        let misses = |function: &&NodeFunction| match of_release(function) {
            Some(module) => !module.facts.is_exported(&function.function, 0),
            None => lacking.contains(function),
        };
        Ok(Calls {
            before: before
                .iter()
                .filter(|function| lacking.contains(function))
                .cloned()
                .collect(),
            after: after.iter().filter(misses).cloned().collect(),
            gate: gate.iter().find(misses).cloned(),
        })
    }

    /// Calls the `before` hooks, up to the first that does not succeed: that refuses the upgrade.
    pub(super) async fn before_hooks(&self, steps: &mut Steps<'_>) -> Result<Option<Reason>, AgentError> {
        let hooks = &self.policy.calls.before;
        if hooks.is_empty() {
            return Ok(None);
        }
        let begun = steps.begin(Step::HooksBefore);
        for (at, hook) in hooks.iter().enumerate() {
            let answer = self.agent.call(hook, self.request.options.hooks.timeout).await;
            if let Err(source @ CallError::ConnectionLost { .. }) = answer {
                let what = hook.to_string();
                return Err(AgentError::Call { what, source });
            }
            if let Err(what) = success(&answer) {
                return Ok(Some(judge::before_hook(hook, &what, at + 1 < hooks.len())));
            }
        }
        steps.done(begun, hooks.len() as u64, Unit::Calls);
        Ok(None)
    }

    /// Calls all `after` hooks, then asks the gate.
    pub(super) async fn after_hooks_and_gate(&self, outcome: &mut NodeOutcome, steps: &mut Steps<'_>) {
        let hooks = &self.policy.calls.after;
        if !hooks.is_empty() {
            let begun = steps.begin(Step::HooksAfter);
            let mut well = true;
            for hook in hooks {
                let answer = self.agent.call(hook, self.request.options.hooks.timeout).await;
                if let Err(what) = success(&answer) {
                    well = false;
                    judge::after_hook(outcome, hook, &what);
                }
            }
            if well {
                steps.done(begun, hooks.len() as u64, Unit::Calls);
            }
        }
        self.gate(outcome, steps).await;
    }

    /// Asks the gate until it says yes or its time is over.
    pub(super) async fn gate(&self, outcome: &mut NodeOutcome, steps: &mut Steps<'_>) {
        let Some(Gate { call, within, every }) = &self.request.options.gate else {
            return;
        };
        let begun = steps.begin(Step::Gate);
        let end = Instant::now() + *within;
        let mut asked = 0;
        let mut before: Option<String> = None;
        let last = loop {
            // One question at a time: what does not answer is not asked again beside itself.
            let answer = self.agent.call(call, end - Instant::now()).await;
            asked += 1;
            let Err(what) = success(&answer) else {
                steps.done(begun, asked, Unit::Calls);
                outcome.gated(true);
                return;
            };
            // The last question may have had no time to be answered: what was answered before says more.
            let what = match (&answer, before.take()) {
                (Err(CallError::Timeout { .. }), Some(before)) => format!("{before}, then {what}"),
                _ => what,
            };
            let lost = matches!(answer, Err(CallError::ConnectionLost { .. }));
            if lost || Instant::now() + *every >= end {
                break what;
            }
            before = Some(what);
            tokio::time::sleep(*every).await;
        };
        judge::gate(outcome, call, asked, within.as_millis(), &last);
    }
}

/// `ok`, `true` and `{ok, _}` are success, and nothing else is; what came instead, as the rest of a sentence.
fn success(answer: &Result<Term, CallError>) -> Result<(), String> {
    match answer {
        Ok(term) if says_yes(term) => Ok(()),
        Ok(term) => Err(format!("answered {}", flyhot_node::display(term))),
        Err(CallError::BadRpc { reason }) => Err(format!("raised or exited: {reason}")),
        Err(CallError::Timeout { after }) => Err(format!(
            "gave no answer within {} ms and may still be running",
            after.as_millis()
        )),
        Err(error) => Err(format!("brought no answer: {error}")),
    }
}

fn says_yes(term: &Term) -> bool {
    let atom = |term: &Term, names: &[&str]| matches!(term, Term::Atom(atom) if names.contains(&&*atom.name));
    match term {
        Term::Tuple(tuple) => matches!(&tuple.elements[..], [tag, _] if atom(tag, &["ok"])),
        term => atom(term, &["ok", "true"]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use term::{Atom, FixInteger, List, Tuple};

    use super::*;

    fn atom(name: &str) -> Term {
        Atom::from(name).into()
    }

    fn tuple(elements: &[Term]) -> Term {
        Tuple::from(elements.to_vec()).into()
    }

    #[test]
    fn only_three_forms_are_success() {
        let one = || FixInteger { value: 1 }.into();
        for yes in [atom("ok"), atom("true"), tuple(&[atom("ok"), one()])] {
            assert_eq!(success(&Ok(yes)), Ok(()));
        }
        for (no, said) in [
            (atom("false"), "answered false"),
            (atom("nil"), "answered nil"),
            (atom("undefined"), "answered undefined"),
            (atom("error"), "answered error"),
            (one(), "answered 1"),
            (tuple(&[atom("ok")]), "answered {ok}"),
            (tuple(&[atom("ok"), one(), one()]), "answered {ok,1,1}"),
            (tuple(&[atom("true"), one()]), "answered {true,1}"),
            (tuple(&[atom("error"), atom("down")]), "answered {error,down}"),
            (List::from(vec![atom("ok")]).into(), "answered [ok]"),
        ] {
            assert_eq!(success(&Ok(no)), Err(said.to_owned()));
        }
    }

    #[test]
    fn no_answer_is_no_success() {
        let after = Duration::from_secs(1);
        let said = |error| success(&Err(error)).unwrap_err();
        let reason = "{'EXIT',{undef,[]}}".to_owned();
        assert_eq!(
            said(CallError::BadRpc { reason }),
            "raised or exited: {'EXIT',{undef,[]}}"
        );
        assert_eq!(
            said(CallError::Timeout { after }),
            "gave no answer within 1000 ms and may still be running"
        );
        let cause = "reset".to_owned();
        assert_eq!(
            said(CallError::ConnectionLost { cause }),
            "brought no answer: the connection was lost: reset"
        );
    }
}

//! What became of each node, and what that makes of the command.
//!
//! A pure room: it asks nobody and waits for nothing. It is told how the work on each node ended, answers
//! which node comes next, and can say at any moment what the outcome would be, so that even a panic ends
//! with a true last line.
//!
//! Order of use: [`Ledger::begin_next`], then [`Ledger::ended`] or [`Ledger::failed`] for that node, until
//! `begin_next` answers `None`; [`Ledger::abort`] at any time; [`Ledger::outcome`] last.

use flyhot_events::{ErrorKind, ExitCode, NodeOutcome, Outcome, OutcomeKind};
use flyhot_upgrade::judge;

/// What is done with the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Upgrade one after the other, and stop at the first that is not upgraded.
    Upgrade,
    /// Plan for all of them.
    Plan,
}

impl Command {
    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Plan => "plan",
        }
    }
}

/// What became of each node so far.
#[derive(Debug)]
pub struct Ledger {
    command: Command,
    entries: Vec<Entry>,
    /// How many nodes were begun.
    begun: usize,
    stopped: bool,
    aborted: Option<ErrorKind>,
}

#[derive(Debug)]
struct Entry {
    outcome: NodeOutcome,
    /// What stands against the node; nothing when it was upgraded, planned hot, or needed nothing.
    against: Option<ErrorKind>,
}

impl Ledger {
    /// Nothing begun yet.
    pub fn new(command: Command, nodes: impl IntoIterator<Item = String>) -> Self {
        let not_begun = |node| Entry {
            outcome: NodeOutcome::untouched(node, OutcomeKind::NotBegun),
            against: None,
        };
        Self {
            command,
            entries: nodes.into_iter().map(not_begun).collect(),
            begun: 0,
            stopped: false,
            aborted: None,
        }
    }

    /// Begins the next node: its place in the list. `None` when all are done or nothing more may be begun.
    pub fn begin_next(&mut self) -> Option<usize> {
        if !self.has_next() {
            return None;
        }
        self.begun += 1;
        Some(self.begun - 1)
    }

    /// The work on the node begun last came to an end of its own.
    pub fn ended(&mut self, outcome: NodeOutcome) {
        let against = judge::error_kind(&outcome);
        self.record(outcome, against);
    }

    /// The work on the node begun last ended with an error.
    pub fn failed(&mut self, kind: ErrorKind, outcome: Option<NodeOutcome>) {
        let Some(entry) = self.current() else { return };
        let outcome = outcome.unwrap_or_else(|| NodeOutcome::untouched(&entry.outcome.node, kind.outcome()));
        self.record(outcome, Some(kind));
    }

    /// The command itself ended with an error, before, between or in the middle of nodes.
    pub fn abort(&mut self, kind: ErrorKind) {
        self.aborted.get_or_insert(kind);
        if let Some(entry) = self.current()
            && entry.outcome.outcome == OutcomeKind::NotBegun
        {
            entry.outcome.outcome = kind.outcome();
            entry.against = Some(kind);
        }
    }

    /// The node that was begun and has not ended.
    pub fn under_way(&self) -> Option<&str> {
        let entry = self.entries.get(self.begun.checked_sub(1)?)?;
        (entry.outcome.outcome == OutcomeKind::NotBegun).then_some(entry.outcome.node.as_str())
    }

    /// Whether another node would be begun.
    pub fn has_next(&self) -> bool {
        !self.stopped && self.aborted.is_none() && self.begun < self.entries.len()
    }

    /// What became of the command if it ended now.
    pub fn outcome(&self) -> Outcome {
        let kind = self.against();
        let nodes = || self.entries.iter().map(|entry| entry.outcome.outcome);
        Outcome {
            outcome: match kind.map_or_else(|| self.well(), ErrorKind::outcome) {
                // The command was, and no longer when it came to these nodes.
                OutcomeKind::Refused if nodes().any(|kind| kind == OutcomeKind::Upgraded) => {
                    OutcomeKind::Failed
                }
                outcome => outcome,
            },
            exit_code: kind.map_or(ExitCode::SUCCESS, ErrorKind::exit_code),
            nodes: self.entries.iter().map(|entry| entry.outcome.clone()).collect(),
        }
    }

    fn current(&mut self) -> Option<&mut Entry> {
        let at = self.begun.checked_sub(1)?;
        self.entries.get_mut(at)
    }

    fn record(&mut self, outcome: NodeOutcome, against: Option<ErrorKind>) {
        let suspended = judge::left_behind(&outcome);
        if let Some(entry) = self.current() {
            *entry = Entry { outcome, against };
        }
        self.stopped = self.command == Command::Upgrade && (against.is_some() || suspended);
    }

    fn against(&self) -> Option<ErrorKind> {
        // A process left suspended, or a listener left paused, is the one thing that somebody has to look after at once.
        if self
            .entries
            .iter()
            .any(|entry| judge::left_behind(&entry.outcome))
        {
            return Some(ErrorKind::MaybeSuspended);
        }
        if self.aborted.is_some() {
            return self.aborted;
        }
        match self.command {
            Command::Plan => self
                .entries
                .iter()
                .filter_map(|entry| entry.against)
                .max_by_key(|kind| rank(*kind)),
            Command::Upgrade => self.first_against(),
        }
    }

    fn first_against(&self) -> Option<ErrorKind> {
        let at = self.entries.iter().position(|entry| entry.against.is_some())?;
        let (before, rest) = self.entries.split_at(at);
        let kind = rest.first()?.against?;
        let own = matches!(
            kind,
            ErrorKind::Bug | ErrorKind::Interrupted | ErrorKind::Degraded
        );
        let mixed = !own && before.iter().any(|entry| runs_the_release(entry.outcome.outcome));
        Some(if mixed { ErrorKind::Mixed } else { kind })
    }

    fn well(&self) -> OutcomeKind {
        let all = |kind| self.entries.iter().all(|entry| entry.outcome.outcome == kind);
        match self.command {
            _ if all(OutcomeKind::NothingToDo) => OutcomeKind::NothingToDo,
            Command::Upgrade => OutcomeKind::Upgraded,
            Command::Plan => OutcomeKind::Planned,
        }
    }
}

fn runs_the_release(kind: OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Upgraded | OutcomeKind::NothingToDo)
}

/// Of several plans the worst exit code is the command's: a bug first, since it casts doubt on the others, then
/// the higher number.
fn rank(kind: ErrorKind) -> (bool, ExitCode) {
    (kind == ErrorKind::Bug, kind.exit_code())
}

#[cfg(test)]
mod tests {
    use flyhot_events::{Reason, ReasonCode};
    use proptest::prelude::*;

    use super::*;

    fn of(kind: OutcomeKind) -> NodeOutcome {
        NodeOutcome::untouched("n@h", kind)
    }

    /// Plays the ends of nodes in order; the ledger decides how many of them it asks for.
    fn play(
        command: Command,
        ends: &[Result<OutcomeKind, ErrorKind>],
    ) -> (OutcomeKind, u8, Vec<OutcomeKind>) {
        let mut ledger = Ledger::new(command, (0..ends.len()).map(|n| format!("n{n}@h")));
        while let Some(at) = ledger.begin_next() {
            match ends[at] {
                Ok(kind) => ledger.ended(of(kind)),
                Err(kind) => ledger.failed(kind, None),
            }
        }
        let outcome = ledger.outcome();
        let nodes = outcome.nodes.iter().map(|node| node.outcome).collect();
        (outcome.outcome, outcome.exit_code.0, nodes)
    }

    #[test]
    fn an_upgrade_stops_at_the_first_node_that_is_not_upgraded() {
        use OutcomeKind::*;
        let table = [
            (
                vec![Ok(Upgraded), Ok(Upgraded)],
                Upgraded,
                0,
                vec![Upgraded, Upgraded],
            ),
            (
                vec![Ok(NothingToDo), Ok(Upgraded)],
                Upgraded,
                0,
                vec![NothingToDo, Upgraded],
            ),
            (
                vec![Ok(NothingToDo), Ok(NothingToDo)],
                NothingToDo,
                0,
                vec![NothingToDo, NothingToDo],
            ),
            (
                vec![Ok(Refused), Ok(Upgraded)],
                Refused,
                10,
                vec![Refused, NotBegun],
            ),
            (
                vec![Ok(Reverted), Ok(Upgraded)],
                Reverted,
                11,
                vec![Reverted, NotBegun],
            ),
            (vec![Ok(NotQuiesced)], NotQuiesced, 14, vec![NotQuiesced]),
            (
                vec![Ok(Degraded), Ok(Upgraded)],
                Degraded,
                15,
                vec![Degraded, NotBegun],
            ),
            (
                vec![Ok(Upgraded), Ok(Degraded), Ok(Upgraded)],
                Degraded,
                15,
                vec![Upgraded, Degraded, NotBegun],
            ),
            (
                vec![Ok(Upgraded), Ok(Reverted), Ok(Upgraded)],
                Mixed,
                12,
                vec![Upgraded, Reverted, NotBegun],
            ),
            (
                vec![Ok(NothingToDo), Ok(Refused)],
                Mixed,
                12,
                vec![NothingToDo, Refused],
            ),
            (vec![Ok(Failed)], Failed, 1, vec![Failed]),
        ];
        for (ends, outcome, code, nodes) in table {
            assert_eq!(play(Command::Upgrade, &ends), (outcome, code, nodes), "{ends:?}");
        }
    }

    #[test]
    fn errors_keep_their_kind_unless_nodes_differ() {
        use OutcomeKind::*;
        let table = [
            (
                vec![Err(ErrorKind::NodeUnreachable), Ok(Upgraded)],
                Failed,
                24,
                vec![Failed, NotBegun],
            ),
            (vec![Err(ErrorKind::Locked)], Refused, 20, vec![Refused]),
            (
                vec![Ok(Upgraded), Err(ErrorKind::NodeUnreachable)],
                Mixed,
                12,
                vec![Upgraded, Failed],
            ),
            (
                vec![Ok(Upgraded), Err(ErrorKind::Bug)],
                Failed,
                1,
                vec![Upgraded, Failed],
            ),
        ];
        for (ends, outcome, code, nodes) in table {
            assert_eq!(play(Command::Upgrade, &ends), (outcome, code, nodes), "{ends:?}");
        }
    }

    #[test]
    fn a_plan_goes_on_and_the_worst_wins() {
        use OutcomeKind::*;
        let table = [
            (vec![Ok(Planned), Ok(NothingToDo)], Planned, 0),
            (vec![Ok(NothingToDo)], NothingToDo, 0),
            (vec![Ok(Refused), Ok(Planned)], Refused, 10),
            (
                vec![Err(ErrorKind::NodeUnreachable), Ok(Refused), Ok(Planned)],
                Failed,
                24,
            ),
            (
                vec![Err(ErrorKind::Bug), Err(ErrorKind::NodeUnreachable)],
                Failed,
                1,
            ),
        ];
        for (ends, outcome, code) in table {
            let (kind, exit, nodes) = play(Command::Plan, &ends);
            assert_eq!((kind, exit), (outcome, code), "{ends:?}");
            assert!(!nodes.contains(&NotBegun), "{ends:?}");
        }
    }

    #[test]
    fn a_process_left_suspended_is_what_matters_most() {
        let mut ledger = Ledger::new(Command::Upgrade, ["a@h".into(), "b@h".into()]);
        ledger.begin_next();
        let mut outcome = of(OutcomeKind::Upgraded);
        outcome
            .reasons
            .push(Reason::new(ReasonCode::StillSuspended, "<0.1.0>", "", ""));
        ledger.ended(outcome);
        assert_eq!(ledger.begin_next(), None);
        ledger.abort(ErrorKind::Interrupted);
        assert_eq!(ledger.outcome().exit_code, ErrorKind::MaybeSuspended.exit_code());
    }

    #[test]
    fn an_abort_names_the_node_it_struck_and_leaves_the_finished_ones() {
        let mut ledger = Ledger::new(Command::Upgrade, ["a@h".into(), "b@h".into(), "c@h".into()]);
        ledger.begin_next();
        ledger.ended(of(OutcomeKind::Upgraded));
        assert_eq!((ledger.under_way(), ledger.has_next()), (None, true));
        ledger.begin_next();
        assert_eq!(ledger.under_way(), Some("b@h"));
        ledger.abort(ErrorKind::Interrupted);
        ledger.abort(ErrorKind::Bug);
        assert_eq!((ledger.under_way(), ledger.has_next()), (None, false));
        assert_eq!(ledger.begin_next(), None);
        let outcome = ledger.outcome();
        assert_eq!((outcome.outcome, outcome.exit_code.0), (OutcomeKind::Failed, 130));
        let kinds: Vec<_> = outcome.nodes.iter().map(|node| node.outcome).collect();
        assert_eq!(
            kinds,
            [OutcomeKind::Upgraded, OutcomeKind::Failed, OutcomeKind::NotBegun]
        );
    }

    #[test]
    fn an_abort_before_any_node_leaves_all_not_begun() {
        let mut ledger = Ledger::new(Command::Upgrade, ["a@h".into()]);
        ledger.abort(ErrorKind::Usage);
        let outcome = ledger.outcome();
        assert_eq!((outcome.outcome, outcome.exit_code.0), (OutcomeKind::Refused, 2));
        assert_eq!(outcome.nodes[0].outcome, OutcomeKind::NotBegun);
    }

    fn any_end() -> impl Strategy<Value = Result<OutcomeKind, ErrorKind>> {
        use OutcomeKind::*;
        let kinds = [
            Upgraded,
            NothingToDo,
            Planned,
            Refused,
            Reverted,
            Degraded,
            NotQuiesced,
            Failed,
        ];
        prop_oneof![
            proptest::sample::select(kinds.to_vec()).prop_map(Ok),
            proptest::sample::select(ErrorKind::ALL.to_vec()).prop_map(Err),
        ]
    }

    proptest! {
        #[test]
        fn an_upgrade_begins_nothing_after_a_failure_and_exits_0_only_when_all_is_well(
            ends in proptest::collection::vec(any_end(), 1..6)
        ) {
            use OutcomeKind::*;
            let (_, code, nodes) = play(Command::Upgrade, &ends);
            let fine = |end: &Result<OutcomeKind, ErrorKind>| matches!(end, Ok(Upgraded | NothingToDo | Planned));
            let done = ends.iter().position(|end| !fine(end)).map_or(ends.len(), |at| at + 1);
            prop_assert!(nodes[..done].iter().all(|kind| *kind != NotBegun));
            prop_assert!(nodes[done..].iter().all(|kind| *kind == NotBegun));
            prop_assert_eq!(code == 0, ends.iter().all(fine));
        }
    }
}

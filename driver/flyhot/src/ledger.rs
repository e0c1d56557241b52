//! What became of each node, and what that makes of the command.
//!
//! A pure room: it asks nobody and waits for nothing. It is told how the work on each node ended, answers
//! which node comes next, and can say at any moment what the outcome would be, so that even a panic ends
//! with a true last line.
//!
//! Order of use: [`Ledger::begin_next`], then [`Ledger::ended`] or [`Ledger::failed`] for that node, until
//! `begin_next` answers `None`; [`Ledger::abort`] at any time; [`Ledger::outcome`] last. Of a rollout ([`Ledger::rolls`]) [`Ledger::next`]
//! says what to do, and [`Ledger::begin`] begins a node.

use std::time::Duration;

use flyhot_events::{
    CodeIds, ErrorKind, ExitCode, NodeOutcome, Outcome, OutcomeKind, Reason, ReasonCode, Watched,
};
use flyhot_rollout::{Fleet as Runs, Happened, Machine, Settings, Stands, Verdict};
use flyhot_upgrade::judge;

/// What is done with the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Upgrade one after the other, and stop at the first that is not upgraded.
    Upgrade,
    /// Plan for all of them.
    Plan,
    /// Roll a release out to all of them, or back, as a machine says.
    Roll,
}

impl Command {
    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Plan => "plan",
            Self::Roll => "rollout",
        }
    }
}

/// What became of each node so far.
#[derive(Debug)]
pub struct Ledger {
    command: Command,
    entries: Vec<Entry>,
    /// Machines whose nodes nobody can reach, and that nobody waits for.
    left_out: Vec<NodeOutcome>,
    /// How many nodes were begun.
    begun: usize,
    stopped: bool,
    aborted: Option<ErrorKind>,
    /// Of a rollout.
    machine: Option<Machine>,
}

#[derive(Debug)]
struct Entry {
    outcome: NodeOutcome,
    /// What stands against the node; nothing when it was upgraded, planned hot, or needed nothing.
    against: Option<ErrorKind>,
    under_way: bool,
}

impl Entry {
    /// Nothing was done yet.
    fn of(outcome: NodeOutcome) -> Self {
        Self {
            outcome,
            against: None,
            under_way: false,
        }
    }
}

impl Ledger {
    /// Nothing begun yet.
    pub fn new(command: Command, nodes: impl IntoIterator<Item = String>) -> Self {
        let not_begun = |node| Entry::of(NodeOutcome::untouched(node, OutcomeKind::NotBegun));
        Self {
            command,
            entries: nodes.into_iter().map(not_begun).collect(),
            left_out: Vec::new(),
            begun: 0,
            stopped: false,
            aborted: None,
            machine: None,
        }
    }

    /// The nodes were asked for, and these are there.
    pub fn found(&mut self, nodes: impl IntoIterator<Item = NodeOutcome>) {
        self.entries = nodes.into_iter().map(Entry::of).collect();
    }

    /// These machines are left out by now, and no others: nobody knows what they run. The answer is which were before.
    pub fn leaves_out(&mut self, machines: impl IntoIterator<Item = NodeOutcome>) -> Vec<String> {
        let before = std::mem::replace(&mut self.left_out, machines.into_iter().collect());
        before.into_iter().map(|left| left.node).collect()
    }

    /// Begins a rollout to all nodes.
    pub fn rolls(&mut self, settings: Settings) {
        self.machine = Some(Machine::new(settings, self.entries.len()));
    }

    /// What a rollout does next.
    pub fn next(&mut self, now: Duration) -> flyhot_rollout::Command {
        let machine = self.machine.as_mut();
        machine.map_or(flyhot_rollout::Command::Finished, |machine| machine.next(now))
    }

    /// Whether a node of a rollout failed, and somebody has not gone back yet because of it.
    pub fn owes_way_back(&self) -> bool {
        self.machine.as_ref().is_some_and(Machine::owes_way_back)
    }

    /// Something happened to a rollout.
    pub fn happened(&mut self, happened: Happened) {
        if let Some(machine) = &mut self.machine {
            machine.handle(happened);
        }
    }

    /// One more node is there.
    pub fn joined(&mut self, node: NodeOutcome) {
        self.entries.push(Entry::of(node));
        self.happened(Happened::Joined);
    }

    /// The node at this place was started anew: what became of it before is no longer so.
    pub fn restarted(&mut self, at: usize, node: NodeOutcome) {
        if let Some(entry) = self.entries.get_mut(at) {
            *entry = Entry::of(node);
        }
        self.happened(Happened::Restarted { node: at });
    }

    /// The node at this place was taken over, and does not answer any more.
    pub fn lost(&mut self, at: usize, why: ErrorKind) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.outcome.outcome = why.outcome();
            entry.against.get_or_insert(why);
        }
        self.happened(Happened::Lost { node: at, why });
    }

    /// What a node of a rollout runs.
    pub fn stands(&self, at: usize) -> Stands {
        let machine = self.machine.as_ref();
        machine.map_or(Stands::Unknown, |machine| machine.stands(at))
    }

    /// Whether a rollout came to its end, and no node is there any more that it could have begun.
    pub fn is_deserted(&self) -> bool {
        let left = (0..self.entries.len()).all(|at| self.stands(at) == Stands::Left);
        let against = self.verdict().and_then(|verdict| verdict.against);
        left && against == Some(ErrorKind::NodeUnreachable)
    }

    /// What stopped a rollout.
    pub fn first(&self) -> Option<ErrorKind> {
        self.machine.as_ref().and_then(Machine::first)
    }

    /// The number of the wave forth that was begun last, and its nodes.
    pub fn wave(&self) -> (usize, &[usize]) {
        let machine = self.machine.as_ref();
        machine.map_or((0, &[]), |machine| (machine.wave_number(), machine.wave()))
    }

    /// Those of a rollout that are not known to run what was committed before.
    pub fn elsewhere(&self) -> impl Iterator<Item = &str> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter(|(at, _)| !matches!(self.stands(*at), Stands::Old | Stands::Left))
            .map(|(_, entry)| entry.outcome.node.as_str())
    }

    /// What a rollout came to so far; `None` where none was begun, or a node was left in the middle of something.
    pub fn verdict(&self) -> Option<Verdict> {
        let left = self.aborted.is_some() && self.entries.iter().any(|entry| entry.under_way);
        self.machine.as_ref().filter(|_| !left).map(Machine::verdict)
    }

    /// Begins the next node: its place in the list. `None` when all are done or nothing more may be begun.
    pub fn begin_next(&mut self) -> Option<usize> {
        if !self.has_next() {
            return None;
        }
        self.begun += 1;
        self.begin(self.begun - 1);
        Some(self.begun - 1)
    }

    /// Begins the node at this place.
    pub fn begin(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.under_way = true;
        }
    }

    /// The node at this place was left alone after all: what it was before stands.
    pub fn not_begun(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.under_way = false;
        }
    }

    /// The node at this place was left to boot when it was to be begun.
    pub fn left_to_boot(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.under_way = false;
            entry.outcome.outcome = OutcomeKind::LeftToBoot;
        }
    }

    /// There is something else to know of the node at this place.
    pub fn noted(&mut self, at: usize, reason: Reason) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.outcome.reasons.push(reason);
        }
    }

    /// The work on the node at this place came to an end of its own.
    pub fn ended(&mut self, at: usize, outcome: NodeOutcome) {
        let against = judge::error_kind(&outcome);
        self.record(at, outcome, against);
    }

    /// The work on the node at this place ended with an error.
    pub fn failed(&mut self, at: usize, kind: ErrorKind, outcome: Option<NodeOutcome>) {
        let Some(entry) = self.entries.get(at) else { return };
        let outcome = outcome.unwrap_or_else(|| NodeOutcome::untouched(&entry.outcome.node, kind.outcome()));
        self.record(at, outcome, Some(kind));
    }

    /// The node at this place is not well on the new code.
    pub fn unwell(&mut self, at: usize, why: Reason) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        entry.outcome.outcome = OutcomeKind::Degraded;
        entry.outcome.gated(false);
        entry.outcome.reasons.push(why);
        entry.against.get_or_insert(ErrorKind::Degraded);
    }

    /// The node at this place is well on the new code.
    pub fn passed(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.outcome.gated(true);
        }
    }

    /// How the node at this place was before and after, as far as it was watched.
    pub fn watched(&self, at: usize) -> Option<&Watched> {
        self.entries.get(at)?.outcome.watched.as_ref()
    }

    /// The node at this place was watched for longer.
    pub fn baked(&mut self, at: usize, seen: Watched) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.outcome.watched = Some(seen);
        }
    }

    /// The node at this place runs what was committed before.
    pub fn taken_back(&mut self, at: usize, back: NodeOutcome) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        entry.under_way = false;
        let forth = &entry.outcome;
        let gone = matches!(forth.outcome, OutcomeKind::Upgraded | OutcomeKind::Degraded);
        // It had not gone: what it is stands. One that had, and runs the old code all the same, was started anew.
        if back.outcome == OutcomeKind::NothingToDo && !gone {
            entry.outcome.reasons.extend(back.reasons);
            return;
        }
        let mut reasons = forth.reasons.clone();
        reasons.extend(back.reasons.iter().cloned());
        reasons.dedup();
        entry.outcome = NodeOutcome {
            machine: forth.machine.clone(),
            region: forth.region.clone(),
            outcome: OutcomeKind::TakenBack,
            code_id: CodeIds {
                before: forth.code_id.before.clone().or(back.code_id.before),
                after: back.code_id.after,
            },
            reasons,
            // What was seen of the release is why.
            watched: forth.watched.clone(),
            gate: forth.gate,
            ..back
        };
    }

    /// The node at this place was to go back, and stays as it is.
    pub fn not_taken_back(&mut self, at: usize, why: &str, back: Option<NodeOutcome>) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        entry.under_way = false;
        let reason = not_back(&entry.outcome.node, why);
        entry.outcome.reasons.push(reason);
        entry
            .outcome
            .reasons
            .extend(back.into_iter().flat_map(|back| back.reasons));
    }

    /// Nobody goes back any more: whoever was to, and did not come to it, stays where it is.
    pub fn nobody_goes_back(&mut self) {
        for at in 0..self.entries.len() {
            let stays = matches!(self.stands(at), Stands::Target | Stands::Unknown);
            let Some(entry) = self.entries.get_mut(at).filter(|_| stays) else {
                continue;
            };
            let mut reasons = entry.outcome.reasons.iter();
            if !reasons.any(|reason| reason.code == ReasonCode::NotTakenBack) {
                let reason = not_back(&entry.outcome.node, "it was not begun any more");
                entry.outcome.reasons.push(reason);
            }
        }
    }

    /// The command itself ended with an error, before, between or in the middle of nodes.
    pub fn abort(&mut self, kind: ErrorKind) {
        self.aborted.get_or_insert(kind);
        for entry in self.entries.iter_mut().filter(|entry| entry.under_way) {
            if entry.outcome.outcome == OutcomeKind::NotBegun {
                entry.outcome.outcome = kind.outcome();
                entry.against = Some(kind);
            } else {
                let reason = not_back(&entry.outcome.node, "the command was ended meanwhile");
                entry.outcome.reasons.push(reason);
            }
        }
    }

    /// The nodes that were begun and have not ended.
    pub fn under_way(&self) -> Vec<&str> {
        let under_way = self.entries.iter().filter(|entry| entry.under_way);
        under_way.map(|entry| entry.outcome.node.as_str()).collect()
    }

    /// Whether another node would be begun.
    pub fn has_next(&self) -> bool {
        !self.stopped && self.aborted.is_none() && self.begun < self.entries.len()
    }

    /// What became of the command if it ended now.
    pub fn outcome(&self) -> Outcome {
        let kind = self.against();
        let nodes = self.entries.iter().map(|entry| &entry.outcome);
        Outcome {
            outcome: match kind.map_or_else(|| self.well(), ErrorKind::outcome) {
                // The command was, and no longer when it came to these nodes.
                OutcomeKind::Refused if nodes.clone().any(|node| node.outcome == OutcomeKind::Upgraded) => {
                    OutcomeKind::Failed
                }
                outcome => outcome,
            },
            exit_code: kind.map_or(ExitCode::SUCCESS, ErrorKind::exit_code),
            nodes: nodes.chain(&self.left_out).cloned().collect(),
        }
    }

    fn record(&mut self, at: usize, outcome: NodeOutcome, against: Option<ErrorKind>) {
        let suspended = judge::left_behind(&outcome);
        if let Some(entry) = self.entries.get_mut(at) {
            *entry = Entry {
                outcome: NodeOutcome {
                    machine: entry.outcome.machine.take(),
                    region: entry.outcome.region.take(),
                    ..outcome
                },
                against,
                under_way: false,
            };
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
        if let Some(kind) = self.aborted {
            let mixed = match &self.machine {
                Some(machine) => machine.verdict().fleet == Runs::Mixed,
                None => {
                    self.entries.iter().any(runs_the_release) && !self.entries.iter().all(runs_the_release)
                }
            };
            // Whoever stopped it may think that nothing was done.
            return Some(if mixed && kind == ErrorKind::Interrupted {
                ErrorKind::Mixed
            } else {
                kind
            });
        }
        let left_out = |kind| (!self.left_out.is_empty()).then_some(kind);
        match self.command {
            Command::Plan => self
                .entries
                .iter()
                .filter_map(|entry| entry.against)
                .chain(left_out(ErrorKind::NodeUnreachable))
                .max_by_key(|kind| rank(*kind)),
            Command::Upgrade => self.first_against().or(left_out(ErrorKind::Mixed)),
            // One that was not begun ended with an error.
            Command::Roll => match &self.machine {
                Some(machine) => machine.verdict().against.or(left_out(ErrorKind::Mixed)),
                None => Some(ErrorKind::Bug),
            },
        }
    }

    fn first_against(&self) -> Option<ErrorKind> {
        let at = self.entries.iter().position(|entry| entry.against.is_some())?;
        let (before, rest) = self.entries.split_at(at);
        let kind = rest.first()?.against?;
        let own = matches!(kind, ErrorKind::Bug | ErrorKind::Degraded);
        let mixed = !own && before.iter().any(runs_the_release);
        Some(if mixed { ErrorKind::Mixed } else { kind })
    }

    fn well(&self) -> OutcomeKind {
        let idle = |entry: &Entry| {
            matches!(
                entry.outcome.outcome,
                OutcomeKind::NothingToDo | OutcomeKind::LeftToBoot
            )
        };
        match self.command {
            _ if self.entries.iter().all(idle) => OutcomeKind::NothingToDo,
            Command::Upgrade | Command::Roll => OutcomeKind::Upgraded,
            Command::Plan => OutcomeKind::Planned,
        }
    }
}

fn not_back(node: &str, why: &str) -> Reason {
    Reason::new(
        ReasonCode::NotTakenBack,
        node,
        format!("the node was to go back to what ran before, and did not: {why}"),
        "Mend that and run `flyhot rollback`, which takes every node back; `flyhot status` says what it runs now.",
    )
}

fn runs_the_release(entry: &Entry) -> bool {
    matches!(
        entry.outcome.outcome,
        OutcomeKind::Upgraded | OutcomeKind::NothingToDo
    )
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
                Ok(kind) => ledger.ended(at, of(kind)),
                Err(kind) => ledger.failed(at, kind, None),
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
        ledger.ended(0, outcome);
        assert_eq!(ledger.begin_next(), None);
        ledger.abort(ErrorKind::Interrupted);
        assert_eq!(ledger.outcome().exit_code, ErrorKind::MaybeSuspended.exit_code());
    }

    #[test]
    fn an_abort_names_the_node_it_struck_and_leaves_the_finished_ones() {
        let mut ledger = Ledger::new(Command::Upgrade, ["a@h".into(), "b@h".into(), "c@h".into()]);
        ledger.begin_next();
        ledger.ended(0, of(OutcomeKind::Upgraded));
        assert_eq!((ledger.under_way(), ledger.has_next()), (vec![], true));
        ledger.begin_next();
        assert_eq!(ledger.under_way(), ["b@h"]);
        ledger.abort(ErrorKind::Interrupted);
        ledger.abort(ErrorKind::Bug);
        assert!(!ledger.has_next());
        assert_eq!(ledger.begin_next(), None);
        let outcome = ledger.outcome();
        assert_eq!((outcome.outcome, outcome.exit_code.0), (OutcomeKind::Mixed, 12));
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

    fn rolls(nodes: usize) -> Ledger {
        let mut ledger = Ledger::new(Command::Roll, (0..nodes).map(|n| format!("n{n}@h")));
        ledger.rolls(Settings {
            canary: None,
            at_once: std::num::NonZeroUsize::MIN,
            on_failure: flyhot_rollout::OnFailure::GoBack,
            limit: None,
            from: Stands::Old,
            looks: 0,
        });
        ledger
    }

    #[test]
    fn a_node_that_was_asked_for_keeps_its_machine_whatever_becomes_of_it() {
        let on = |machine: &str| NodeOutcome {
            machine: Some(machine.into()),
            region: Some("ams".into()),
            ..of(OutcomeKind::NotBegun)
        };
        let mut ledger = rolls(0);
        ledger.found([on("1"), on("2"), on("3")]);
        ledger.joined(on("4"));
        ledger.ended(0, of(OutcomeKind::Upgraded));
        ledger.taken_back(0, of(OutcomeKind::Upgraded));
        ledger.failed(1, ErrorKind::FlyApi, None);
        ledger.ended(3, of(OutcomeKind::Upgraded));
        // Started anew it is as if nothing had been done there.
        ledger.restarted(3, on("4"));
        let nodes = ledger.outcome().nodes;
        let told: Vec<_> = nodes
            .iter()
            .map(|node| {
                (
                    node.machine.as_deref().unwrap(),
                    node.region.as_deref().unwrap(),
                    node.outcome,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("1", "ams", OutcomeKind::TakenBack),
                ("2", "ams", OutcomeKind::Failed),
                ("3", "ams", OutcomeKind::NotBegun),
                ("4", "ams", OutcomeKind::NotBegun),
            ]
        );
    }

    /// Does what the machine says: nodes end so on the way forth, and so on the way back.
    fn roll(
        forth: &[OutcomeKind],
        back: impl Fn(&mut Ledger, usize) -> Stands,
    ) -> (OutcomeKind, u8, Vec<OutcomeKind>) {
        use flyhot_rollout::{Command as Next, End, Way};
        let mut ledger = rolls(forth.len());
        loop {
            match ledger.next(Duration::ZERO) {
                Next::Begin { node: at, way } => {
                    ledger.begin(at);
                    let end = match way {
                        Way::Forth => {
                            let outcome = of(forth[at]);
                            let against = judge::error_kind(&outcome);
                            ledger.ended(at, outcome);
                            let stands = match against {
                                None => Stands::Target,
                                Some(_) => Stands::Old,
                            };
                            End {
                                stands,
                                against,
                                already: forth[at] == OutcomeKind::NothingToDo,
                            }
                        }
                        Way::Back => End {
                            stands: back(&mut ledger, at),
                            against: None,
                            already: false,
                        },
                    };
                    ledger.happened(Happened::Ended { node: at, end });
                }
                Next::Gate { node } => ledger.happened(Happened::Gate { node, well: true }),
                Next::GoBack => ledger.happened(Happened::Ready),
                Next::Finished => break,
                other => panic!("{other:?}"),
            }
        }
        let outcome = ledger.outcome();
        let nodes = outcome.nodes.iter().map(|node| node.outcome).collect();
        (outcome.outcome, outcome.exit_code.0, nodes)
    }

    #[test]
    fn a_rollout_ends_with_what_became_of_the_way_back() {
        use OutcomeKind::*;
        let goes = |ledger: &mut Ledger, at: usize| {
            ledger.taken_back(at, of(Upgraded));
            Stands::Old
        };
        let stays = |ledger: &mut Ledger, at: usize| {
            ledger.not_taken_back(at, "it stays", Some(of(Refused)));
            Stands::Target
        };
        assert_eq!(
            roll(&[Upgraded, NothingToDo], goes),
            (Upgraded, 0, vec![Upgraded, NothingToDo])
        );
        assert_eq!(
            roll(&[Refused, Upgraded], goes),
            (Refused, 10, vec![Refused, NotBegun])
        );
        assert_eq!(
            roll(&[Upgraded, Refused, Upgraded], goes),
            (Reverted, 11, vec![TakenBack, Refused, NotBegun])
        );
        assert_eq!(
            roll(&[Upgraded, Refused, Upgraded], stays),
            (Mixed, 12, vec![Upgraded, Refused, NotBegun])
        );
    }

    /// The canary went ill, and the rollout was ended before it had gone back.
    #[test]
    fn an_interrupted_way_back_leaves_a_mixed_fleet() {
        let mut ledger = rolls(2);
        ledger.next(Duration::ZERO);
        ledger.begin(0);
        ledger.ended(0, of(OutcomeKind::Upgraded));
        ledger.happened(Happened::Ended {
            node: 0,
            end: flyhot_rollout::End {
                stands: Stands::Target,
                against: None,
                already: false,
            },
        });
        ledger.next(Duration::ZERO);
        ledger.unwell(0, Reason::new(ReasonCode::GateFailed, "n0@h", "", ""));
        ledger.happened(Happened::Gate { node: 0, well: false });
        assert!(ledger.owes_way_back());
        ledger.abort(ErrorKind::Interrupted);
        let outcome = ledger.outcome();
        assert_eq!((outcome.outcome, outcome.exit_code.0), (OutcomeKind::Mixed, 12));
        // As soon as it has gone back nobody has to be taken further back.
        ledger.next(Duration::ZERO);
        ledger.happened(Happened::Ready);
        ledger.next(Duration::ZERO);
        ledger.happened(Happened::Ended {
            node: 0,
            end: flyhot_rollout::End {
                stands: Stands::Old,
                against: None,
                already: false,
            },
        });
        assert!(!ledger.owes_way_back());
    }

    #[test]
    fn what_was_said_of_a_node_on_the_way_forth_stays() {
        let mut ledger = rolls(1);
        let mut forth = of(OutcomeKind::Upgraded);
        forth.code_id.before = Some("old".into());
        forth
            .reasons
            .push(Reason::new(ReasonCode::StillSuspended, "<0.1.0>", "", ""));
        ledger.ended(0, forth);
        let mut back = of(OutcomeKind::Upgraded);
        back.code_id = CodeIds {
            before: Some("new".into()),
            after: Some("old".into()),
        };
        ledger.taken_back(0, back);
        let outcome = ledger.outcome();
        let node = &outcome.nodes[0];
        assert_eq!(node.outcome, OutcomeKind::TakenBack);
        assert_eq!(node.code_id.before, node.code_id.after);
        assert_eq!(outcome.exit_code, ErrorKind::MaybeSuspended.exit_code());
    }

    #[test]
    fn whoever_does_not_come_to_go_back_is_named() {
        let mut ledger = rolls(2);
        let well = |at| Happened::Ended {
            node: at,
            end: flyhot_rollout::End {
                stands: Stands::Target,
                against: None,
                already: false,
            },
        };
        ledger.next(Duration::ZERO);
        ledger.begin(0);
        ledger.ended(0, of(OutcomeKind::Upgraded));
        ledger.happened(well(0));
        ledger.happened(Happened::Stop(ErrorKind::Locked));
        for _ in 0..2 {
            ledger.nobody_goes_back();
        }
        let outcome = ledger.outcome();
        let codes = |at: usize| -> Vec<_> {
            let reasons = outcome.nodes[at].reasons.iter();
            reasons.map(|reason| reason.code).collect()
        };
        assert_eq!((codes(0), codes(1)), (vec![ReasonCode::NotTakenBack], vec![]));
    }

    #[test]
    fn whose_host_is_lost_is_no_success_and_hides_no_failure() {
        let table = [
            (Command::Upgrade, Ok(OutcomeKind::Upgraded), 12),
            (Command::Upgrade, Ok(OutcomeKind::NothingToDo), 12),
            (Command::Upgrade, Ok(OutcomeKind::Refused), 10),
            (Command::Plan, Ok(OutcomeKind::Planned), 24),
            (Command::Plan, Ok(OutcomeKind::Refused), 24),
            (Command::Plan, Err(ErrorKind::Bug), 1),
        ];
        for (command, end, code) in table {
            let mut ledger = Ledger::new(command, ["a@h".into()]);
            assert_eq!(ledger.leaves_out([of(OutcomeKind::NotBegun)]), [""; 0]);
            ledger.begin_next();
            match end {
                Ok(kind) => ledger.ended(0, of(kind)),
                Err(kind) => ledger.failed(0, kind, None),
            }
            let outcome = ledger.outcome();
            assert_eq!(
                (outcome.exit_code.0, outcome.nodes.len()),
                (code, 2),
                "{command:?} {end:?}"
            );
            // Its host is back.
            assert_eq!(ledger.leaves_out([]), ["n@h"]);
            let outcome = ledger.outcome();
            assert_eq!(outcome.nodes.len(), 1);
            assert_eq!(
                outcome.exit_code.0 == 0,
                matches!(end, Ok(kind) if kind != OutcomeKind::Refused)
            );
        }
    }

    #[test]
    fn a_rollout_that_is_cut_off_says_whom_it_left_in_the_middle() {
        let mut ledger = rolls(2);
        ledger.begin(0);
        ledger.abort(ErrorKind::Interrupted);
        assert_eq!(ledger.verdict(), None);
        assert_eq!(ledger.outcome().nodes[0].outcome, OutcomeKind::Failed);
        let mut ledger = rolls(1);
        ledger.ended(0, of(OutcomeKind::Upgraded));
        ledger.begin(0);
        ledger.abort(ErrorKind::Interrupted);
        let node = ledger.outcome().nodes[0].clone();
        assert_eq!(node.outcome, OutcomeKind::Upgraded);
        assert_eq!(node.reasons[0].code, ReasonCode::NotTakenBack);
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

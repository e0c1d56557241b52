//! Who comes next.
//!
//! Forth in waves: of each, every node is begun at once, and the next one begins when every gate of it passed. The first failure
//! ends that: what is under way comes to its end, then whoever runs the target, or may, goes back. Whoever may not begin anything
//! any more goes nowhere. Before a success it is asked who else is there by now: they are a wave more. Whoever is left to boot when it is
//! begun is none of the fleet, until it is found again.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::time::Duration;

use flyhot_events::ErrorKind;

use crate::verdict::{self, End, Fate, Happened, Stands, Verdict};

/// How a fleet is rolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The first node that is neither left to boot nor ran the target already is a wave of its own, as are those before it, and stands
    /// alone for so long before its gate is asked once more; `None`: it is no other than the rest.
    pub canary: Option<Duration>,
    /// How many nodes are worked on at once, at most.
    pub at_once: NonZeroUsize,
    /// What comes of a failure.
    pub on_failure: OnFailure,
    /// How long the work on one node may take before it is given up; `None`: as long as it takes.
    pub limit: Option<Duration>,
    /// What a node that was not begun stands on: [`Stands::Before`] where a rollout before this one did not come to its end.
    pub from: Stands,
    /// How often it is asked who else is there by now, at most: whom the last time finds is begun no more, and that is a failure.
    pub looks: u32,
}

/// What comes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Whoever runs the target goes back.
    GoBack,
    /// Everybody stays where they are.
    Stay,
}

/// Which way a node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the target.
    Forth,
    /// To what was committed before.
    Back,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Begin a node; it is told by [`Happened::Ended`], [`Happened::Left`] or [`Happened::Barred`].
    Begin {
        /// The node, by its place.
        node: usize,
        /// Which way.
        way: Way,
    },
    /// Ask the gate of a node; it is told by [`Happened::Gate`].
    Gate {
        /// The node, by its place.
        node: usize,
    },
    /// Give up the work on a node, unless its code is being exchanged; its end is told as any other.
    GiveUp {
        /// The node, by its place.
        node: usize,
    },
    /// The canary stands alone from now on.
    Bake {
        /// The node, by its place.
        node: usize,
    },
    /// Have what nodes go back to at hand; it is told by [`Happened::Ready`] or [`Happened::Stop`].
    GoBack,
    /// Ask who else is there by now, and who was started anew; each is told by [`Happened::Joined`] or [`Happened::Restarted`], and the
    /// end of it by [`Happened::Looked`] or [`Happened::Stop`].
    Look,
    /// Nothing, until something happens, or until then.
    Wait {
        /// The time to look again; `None`: never.
        until: Option<Duration>,
    },
    /// It is over.
    Finished,
}

/// A rollout under way. Nodes are named by their place in the list, times by how long it was since the rollout began.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: Settings,
    nodes: Vec<Node>,
    phase: Phase,
    /// The one that is under way, or was the last one forth.
    wave: Vec<usize>,
    number: usize,
    /// Those who were in a wave and are to be taken over once more.
    again: VecDeque<usize>,
    /// The first who was in no wave yet.
    next: usize,
    looks: u32,
    bake: Bake,
    under_way: BTreeSet<usize>,
    /// What stopped it.
    first: Option<ErrorKind>,
    /// Nothing may be begun any more, in no direction.
    barred: bool,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    fate: Fate,
    /// It ran the target when it was begun.
    already: bool,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Waiting,
    Working {
        way: Way,
        deadline: Option<Duration>,
    },
    /// Past its time: that it is to be given up was said.
    GivenUp(Way),
    ToBeAsked,
    Asked,
    Done,
}

#[derive(Debug, Clone)]
enum Phase {
    Forth,
    /// It is being asked who else is there.
    Looking,
    /// What nodes go back to is being brought.
    Turning {
        asked: bool,
    },
    Back {
        queue: VecDeque<usize>,
    },
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bake {
    /// There was no canary yet.
    ToCome(Duration),
    Until(Duration),
    Over,
}

impl Node {
    fn waiting(stands: Stands) -> Self {
        Self {
            fate: Fate {
                stands,
                taken_back: false,
                against: None,
            },
            already: false,
            at: At::Waiting,
        }
    }
}

impl Machine {
    /// Nothing begun yet.
    pub fn new(settings: Settings, nodes: usize) -> Self {
        let mut machine = Self {
            phase: Phase::Forth,
            nodes: vec![Node::waiting(settings.from); nodes],
            wave: Vec::new(),
            number: 1,
            again: VecDeque::new(),
            next: 0,
            looks: settings.looks,
            bake: settings.canary.map_or(Bake::Over, Bake::ToCome),
            settings,
            under_way: BTreeSet::new(),
            first: None,
            barred: false,
        };
        machine.wave = machine.next_wave();
        machine
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, happened: Happened) {
        match happened {
            Happened::Ended { node, end } => self.ended(node, end),
            Happened::Barred { node, why } => {
                if let Some(of) = self.nodes.get_mut(node) {
                    self.under_way.remove(&node);
                    of.at = At::Waiting;
                }
                self.bar(why);
            }
            Happened::Left { node } => {
                if let Some(of) = self.nodes.get_mut(node)
                    && let At::Working { way: Way::Forth, .. } | At::GivenUp(Way::Forth) = of.at
                {
                    self.under_way.remove(&node);
                    of.at = At::Done;
                    of.fate.stands = Stands::Left;
                }
            }
            Happened::Gate { node, well } => {
                let Some(of) = self.nodes.get_mut(node) else {
                    return;
                };
                if of.at != At::Asked {
                    return;
                }
                self.under_way.remove(&node);
                of.at = At::Done;
                if !well {
                    of.fate.against.get_or_insert(ErrorKind::Degraded);
                    self.first.get_or_insert(ErrorKind::Degraded);
                }
            }
            Happened::Ready => {
                if let Phase::Turning { .. } = self.phase {
                    let queue = (0..self.nodes.len())
                        .filter(|at| !matches!(self.stands(*at), Stands::Old | Stands::Left));
                    self.phase = Phase::Back {
                        queue: queue.collect(),
                    };
                }
            }
            Happened::Joined => {
                if let Phase::Looking = self.phase {
                    self.nodes.push(Node::waiting(self.settings.from));
                }
            }
            Happened::Restarted { node } => {
                let done = self.nodes.get_mut(node).filter(|of| of.at == At::Done);
                if let (Phase::Looking, Some(of)) = (&self.phase, done) {
                    *of = Node::waiting(self.settings.from);
                    self.again.push_back(node);
                }
            }
            Happened::Lost { node, why } => {
                // Nobody expects an answer of one that was left.
                let is_there = |of: &&mut Node| of.at == At::Done && of.fate.stands != Stands::Left;
                let done = self.nodes.get_mut(node).filter(is_there);
                if let (Phase::Looking, Some(of)) = (&self.phase, done) {
                    of.fate.stands = Stands::Unknown;
                    of.fate.against.get_or_insert(why);
                    self.first.get_or_insert(why);
                }
            }
            Happened::Looked => {
                if let Phase::Looking = self.phase {
                    self.phase = Phase::Forth;
                    if self.again.is_empty() && self.next == self.nodes.len() {
                        // Nobody was found.
                        self.looks = 0;
                    } else if self.looks == 0 {
                        self.first.get_or_insert(ErrorKind::NotQuiesced);
                    }
                }
            }
            Happened::Stop(why) => {
                self.bar(why);
                if let Phase::Looking = self.phase {
                    self.phase = Phase::Forth;
                }
            }
        }
    }

    /// What is to be done next.
    pub fn next(&mut self, now: Duration) -> Command {
        if let Some(node) = self.overdue(now) {
            return Command::GiveUp { node };
        }
        loop {
            match &mut self.phase {
                Phase::Forth => match self.forth(now) {
                    Some(command) => return command,
                    None => {
                        self.phase = if self.turns() {
                            Phase::Turning { asked: false }
                        } else {
                            Phase::Over
                        }
                    }
                },
                Phase::Looking => return Command::Wait { until: None },
                Phase::Turning { .. } if self.barred => self.phase = Phase::Over,
                Phase::Turning { asked: true } => return Command::Wait { until: None },
                Phase::Turning { asked } => {
                    *asked = true;
                    return Command::GoBack;
                }
                Phase::Back { queue } => {
                    let free = !self.barred && self.under_way.len() < self.settings.at_once.get();
                    if let Some(node) = free.then(|| queue.pop_front()).flatten() {
                        return self.begin(node, Way::Back, now);
                    }
                    if !self.under_way.is_empty() {
                        return self.wait();
                    }
                    self.phase = Phase::Over;
                }
                Phase::Over => return Command::Finished,
            }
        }
    }

    /// What it came to so far; before it is over that is never a success.
    pub fn verdict(&self) -> Verdict {
        let over = matches!(self.phase, Phase::Over);
        let first = self.first.or((!over).then_some(ErrorKind::Bug));
        verdict::verdict(self.nodes.iter().map(|node| node.fate), first)
    }

    /// Whether a node failed, and somebody runs the target still who is to go back because of it.
    pub fn owes_way_back(&self) -> bool {
        let failed = |node: &Node| {
            node.fate
                .against
                .is_some_and(|kind| kind != ErrorKind::Interrupted)
        };
        self.nodes.iter().any(failed) && self.turns()
    }

    /// What stopped it.
    pub fn first(&self) -> Option<ErrorKind> {
        self.first
    }

    /// The wave that is under way, or was the last one forth; nobody once it was asked who else is there.
    pub fn wave(&self) -> &[usize] {
        &self.wave
    }

    /// Its number, from 1.
    pub fn wave_number(&self) -> usize {
        self.number
    }

    /// What a node runs.
    pub fn stands(&self, node: usize) -> Stands {
        self.nodes
            .get(node)
            .map_or(Stands::Unknown, |node| node.fate.stands)
    }

    /// `None`: nothing more is to be done forth.
    fn forth(&mut self, now: Duration) -> Option<Command> {
        if self.first.is_some() {
            // Whoever stays on the target is asked; whoever goes back, or may not be asked any more, is not.
            let stays = self.settings.on_failure == OnFailure::Stay && !self.barred;
            let gate = stays
                .then(|| self.wave.clone().into_iter().find_map(|at| self.ask(at)))
                .flatten();
            return gate.or_else(|| (!self.under_way.is_empty()).then(|| self.wait()));
        }
        let done = |at: &usize| self.nodes.get(*at).is_some_and(|node| node.at == At::Done);
        if self.wave.iter().all(done) {
            let shows = |node: &Node| node.fate.stands != Stands::Left && !node.already;
            let stood = self.wave.iter().any(|at| self.nodes.get(*at).is_some_and(shows));
            if stood && self.bake == Bake::ToCome(Duration::ZERO) {
                self.bake = Bake::Over;
            }
            match self.bake {
                Bake::ToCome(bakes) if stood => {
                    self.bake = Bake::Until(now.saturating_add(bakes));
                    let node = self.canary();
                    return Some(Command::Bake { node });
                }
                Bake::Until(until) if now < until => return Some(Command::Wait { until: Some(until) }),
                // What went ill meanwhile is seen by the same question.
                Bake::Until(_) => {
                    self.bake = Bake::Over;
                    let canary = self.canary();
                    if let Some(canary) = self.nodes.get_mut(canary) {
                        canary.at = At::ToBeAsked;
                    }
                }
                // Whoever was left to boot, or ran the target already, stood for nobody: the next one does.
                Bake::ToCome(_) | Bake::Over => {
                    let wave = self.next_wave();
                    if wave.is_empty() {
                        // Who was found is looked at once more, as long as that may be.
                        self.looks = self.looks.checked_sub(1)?;
                        self.phase = Phase::Looking;
                        // Whoever of it was started anew is of another one.
                        self.wave.clear();
                        return Some(Command::Look);
                    }
                    self.wave = wave;
                    self.number += 1;
                }
            }
        }
        for at in self.wave.clone() {
            if let Some(gate) = self.ask(at) {
                return Some(gate);
            }
            if self.nodes.get(at).is_some_and(|node| node.at == At::Waiting) {
                return Some(self.begin(at, Way::Forth, now));
            }
        }
        Some(self.wait())
    }

    fn canary(&self) -> usize {
        self.wave.first().copied().unwrap_or_default()
    }

    /// Those who come next, as many as may be worked on at once, or the canary alone.
    fn next_wave(&mut self) -> Vec<usize> {
        let at_once = match self.bake {
            Bake::ToCome(_) => 1,
            Bake::Until(_) | Bake::Over => self.settings.at_once.get(),
        };
        let again = at_once.min(self.again.len());
        let mut wave: Vec<usize> = self.again.drain(..again).collect();
        let end = self.next.saturating_add(at_once - again).min(self.nodes.len());
        wave.extend(self.next..end);
        self.next = end;
        wave
    }

    /// Asks the gate of a node where it is to be asked.
    fn ask(&mut self, at: usize) -> Option<Command> {
        let node = self.nodes.get_mut(at).filter(|node| node.at == At::ToBeAsked)?;
        node.at = At::Asked;
        self.under_way.insert(at);
        Some(Command::Gate { node: at })
    }

    fn begin(&mut self, at: usize, way: Way, now: Duration) -> Command {
        // Whoever goes back has the time that it takes: given up, it would stay.
        let limit = self.settings.limit.filter(|_| way == Way::Forth);
        let deadline = limit.map(|limit| now.saturating_add(limit));
        if let Some(node) = self.nodes.get_mut(at) {
            node.at = At::Working { way, deadline };
            self.under_way.insert(at);
        }
        Command::Begin { node: at, way }
    }

    fn ended(&mut self, at: usize, end: End) {
        let Some(node) = self.nodes.get_mut(at) else {
            return;
        };
        let way = match node.at {
            At::Working { way, .. } | At::GivenUp(way) => way,
            At::Waiting | At::ToBeAsked | At::Asked | At::Done => return,
        };
        self.under_way.remove(&at);
        let ran = node.fate.stands;
        node.fate.stands = end.stands;
        let against = match (way, end) {
            (
                Way::Forth,
                End {
                    stands,
                    against: None,
                    ..
                },
            ) if stands != Stands::Target => Some(ErrorKind::Bug),
            (_, end) => end.against,
        };
        // What was against it on the way forth stays so, unless there is something worse.
        if node.fate.against != Some(ErrorKind::MaybeSuspended) {
            node.fate.against = against.or(node.fate.against);
        }
        match way {
            Way::Forth => {
                node.already = end.already;
                node.at = match end.stands {
                    Stands::Target => At::ToBeAsked,
                    Stands::Old | Stands::Before | Stands::Unknown | Stands::Left => At::Done,
                };
                self.first = self.first.or(against);
            }
            Way::Back => {
                node.at = At::Done;
                node.fate.taken_back =
                    end.stands == Stands::Old && matches!(ran, Stands::Target | Stands::Unknown);
            }
        }
    }

    fn bar(&mut self, why: ErrorKind) {
        self.first.get_or_insert(why);
        self.barred = true;
    }

    /// Whether somebody has to go back. Where it is not known what nodes ran before, and the target went ill, all of them.
    fn turns(&self) -> bool {
        let ill = self.first == Some(ErrorKind::Reverted);
        let runs = |node: &Node| match node.fate.stands {
            Stands::Target | Stands::Unknown => true,
            Stands::Before => ill,
            Stands::Old | Stands::Left => false,
        };
        self.first.is_some() && self.settings.on_failure == OnFailure::GoBack && self.nodes.iter().any(runs)
    }

    fn overdue(&mut self, now: Duration) -> Option<usize> {
        let nodes = &mut self.nodes;
        self.under_way
            .iter()
            .copied()
            .find(|at| match nodes.get_mut(*at) {
                Some(node) => match node.at {
                    At::Working {
                        way,
                        deadline: Some(deadline),
                    } if deadline <= now => {
                        node.at = At::GivenUp(way);
                        true
                    }
                    _ => false,
                },
                None => false,
            })
    }

    fn wait(&self) -> Command {
        let deadlines = self
            .under_way
            .iter()
            .filter_map(|at| match self.nodes.get(*at)?.at {
                At::Working { deadline, .. } => deadline,
                _ => None,
            });
        Command::Wait {
            until: deadlines.min(),
        }
    }
}

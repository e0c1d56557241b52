//! The protocol of the window, explored: worker, guard, code server, driver, connection and the processes of the
//! node, each with its mailbox, in every order in which their steps can come.
//!
//! It refuses to be the design: it is a model of what flyhot_agent.erl does, step by step, and has to be changed
//! with it. It knows no time. A deadline may pass whenever somebody waits; one that is busy is one whose turn does
//! not come. It knows no user code either: a code_change succeeds, fails, dies, or never returns.
//!
//! # What may befall the window
//!
//! Processes, driver and connection die at any step; worker or guard is killed at any step, also between two
//! messages that belong together; the guard's deadline kills the worker. The code server goes on when who asked it
//! is dead; it may be slow or refuse, but it comes back: a node whose code server never does is lost without flyhot.
//! Messages arrive in the order in which they were sent, also those of two senders of which one heard of the other's
//! end. The BEAM promises that for one sender only, and keeps it for two but for a process that has its messages off
//! the heap and is written to by many at once (from OTP 25 on): there a resume of the guard could overtake a suspend
//! of the dead worker.
//!
//! # Two deaths
//!
//! Worker and guard both killed: covered wherever nobody is frozen, or every frozen process has its resume queued. Not
//! covered, and nothing in the node could: both are killed after the first suspend was sent and before the last
//! resume was. That includes the survivor's own recovery, after it heard of the first death, so the two deaths need
//! not be close together. A test asks for both, and finds broken invariants in no other states.
//!
//! # What is lost all the same
//!
//! One that takes a message in the instant of its proof and does not come back from it in time fails the proof, is
//! named, and gets its old state back when the window is undone: the invariant excepts it, and a test asks for it. A
//! process that comes back is asked whether it went on, and if so nothing is undone.
//!
//! # What is not in it
//!
//! A gen_statem that changes its callback_mode on the way back (a change_code between two restores), helpers that run
//! a code_change apart, the count of restarts after the thaw, several kinds at once: none has messages or deaths that
//! the processes modelled do not have. Nor is an answer that comes after its process was given up: it counts for
//! nothing, in the agent (`out` of its flow) as here; a scenario test holds that.

mod machine;
mod replay;
mod trace;
mod window;

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use machine::{
    Actor, DIED, ENDED, End, FAILED, LATE, LOST, Label, Life, STUCK, SUSPENDED, Shape, State, Steps, TWICE,
    UNRESUMED,
};
pub use machine::{Mutant, Role, Setup};
pub use replay::{Rejected, admits};
pub use trace::{Cause, Event, Phase, Pid, Trace, Unreadable};

/// What was found.
#[derive(Debug)]
pub struct Explored {
    /// Different states, all of them looked at.
    pub states: usize,
    /// Steps between them.
    pub transitions: usize,
    /// States in which nothing more has to happen.
    pub terminal: usize,
    /// Whether a window can go on for ever. If none can, each comes to an end, and what holds there is kept.
    pub endless: bool,
    /// The shortest way to break each invariant that can be broken.
    pub found: Vec<Counterexample>,
    /// States that break an invariant, by how many of worker and guard were killed there.
    pub broken: [usize; 3],
    /// States at the end in which both were killed and no invariant is broken.
    pub both_killed_unharmed: usize,
    /// States in which a process that is named as failed, and did not come back from its proof in time, lost a message.
    pub lost_by_the_failed: usize,
    /// Of those with both killed: the second one after it had learned of the first one's death.
    pub broken_while_recovering: usize,
}

/// A way to a state that breaks an invariant.
#[derive(Debug)]
pub struct Counterexample {
    /// The name of the function that says no.
    pub invariant: &'static str,
    /// Step after step, from the start.
    pub steps: Vec<String>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is broken:", self.invariant)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "    {step}"))
    }
}

impl Explored {
    /// The shortest way to break this one, if it can be broken.
    pub fn counterexample(&self, invariant: &str) -> Option<&Counterexample> {
        self.found.iter().find(|found| found.invariant == invariant)
    }

    /// The names of the invariants that can be broken.
    pub fn broken_invariants(&self) -> Vec<&'static str> {
        self.found.iter().map(|found| found.invariant).collect()
    }
}

type Invariant = (&'static str, fn(&Setup, &State) -> bool);

/// Must hold in every state.
const ALWAYS: [Invariant; 6] = [
    ("invariant_somebody_thaws", invariant_somebody_thaws),
    ("invariant_finished_once", invariant_finished_once),
    (
        "invariant_code_server_is_waited_for",
        invariant_code_server_is_waited_for,
    ),
    ("invariant_nobody_migrates_twice", invariant_nobody_migrates_twice),
    ("invariant_no_work_is_lost", invariant_no_work_is_lost),
    ("invariant_supervisors_forgive", invariant_supervisors_forgive),
];

/// Must hold where nothing more has to happen.
const AT_THE_END: [Invariant; 6] = [
    ("invariant_nothing_suspended", invariant_nothing_suspended),
    ("invariant_no_stash_left", invariant_no_stash_left),
    (
        "invariant_new_code_has_new_states",
        invariant_new_code_has_new_states,
    ),
    (
        "invariant_old_code_has_old_states",
        invariant_old_code_has_old_states,
    ),
    ("invariant_the_ended_are_named", invariant_the_ended_are_named),
    ("invariant_agent_gone", invariant_agent_gone),
];

/// Whoever is frozen, or will be by what is queued, has a resume queued behind that, or somebody who still thaws.
fn invariant_somebody_thaws(_: &Setup, state: &State) -> bool {
    state.in_window()
        || state.guard_has_it()
        || state.by_guard
        || state.processes.iter().all(|process| !process.freezes())
}

/// Prepared code is used up by the swap.
fn invariant_finished_once(_: &Setup, state: &State) -> bool {
    !state.finished_twice
}

/// Nobody decides how the window ended while the swap may still come.
fn invariant_code_server_is_waited_for(_: &Setup, state: &State) -> bool {
    !state.decided_before_the_swap()
}

/// A state that was migrated is not handed to code_change again.
fn invariant_nobody_migrates_twice(_: &Setup, state: &State) -> bool {
    state.processes.iter().all(|process| !process.has(TWICE))
}

/// Nobody gets an old state back after it handled a message that the world has seen; but one that is named because it
/// did not come back from its proof in time.
fn invariant_no_work_is_lost(_: &Setup, state: &State) -> bool {
    state
        .processes
        .iter()
        .all(|process| !process.has(LOST) || process.has(FAILED))
}

/// A supervisor that runs does not count children that the agent ended.
fn invariant_supervisors_forgive(setup: &Setup, state: &State) -> bool {
    (0..setup.roles.len()).all(|at| !setup.is(at, Role::Supervisor) || !state.unforgiven(at))
}

/// Nobody is suspended, but one that never returns and is named.
fn invariant_nothing_suspended(_: &Setup, state: &State) -> bool {
    state
        .processes
        .iter()
        .all(|process| !process.has(SUSPENDED) || process.has(STUCK) && process.has(UNRESUMED))
}

fn invariant_no_stash_left(_: &Setup, state: &State) -> bool {
    state
        .processes
        .iter()
        .all(|process| process.stash.is_none() || process.has(STUCK) && process.has(UNRESUMED))
}

/// Upgraded or degraded: the new code runs, and every process that lives migrated, or is named as late.
fn invariant_new_code_has_new_states(setup: &Setup, state: &State) -> bool {
    !matches!(state.end, End::Upgraded | End::Degraded) || of_one_version(setup, state, true)
}

/// Abandoned, reverted, or not begun: the old code runs, and every process that lives has its old state, or is named
/// as late.
fn invariant_old_code_has_old_states(setup: &Setup, state: &State) -> bool {
    matches!(state.end, End::Upgraded | End::Degraded) || of_one_version(setup, state, false)
}

fn of_one_version(setup: &Setup, state: &State, new: bool) -> bool {
    let shape = if new { Shape::New } else { Shape::Old };
    let asked = |at: usize| setup.asks(at) > 0;
    state.new_code == new
        && (0..setup.roles.len()).all(|at| {
            let process = &state.processes[at];
            !asked(at) || !process.alive() || process.shape == shape || process.has(LATE)
        })
}

/// Whoever the agent ended is in the report, as ended; whoever is there lives no more.
fn invariant_the_ended_are_named(_: &Setup, state: &State) -> bool {
    !state.reported
        || state.processes.iter().all(|process| {
            let named = process.has(ENDED);
            (process.life != Life::Ended || named)
                && (!named || !process.alive())
                && (!process.has(FAILED) || !process.alive() || state.end == End::Reverted)
                && (!process.has(DIED) || !process.alive())
        })
}

/// Neither worker nor guard stays on the node.
fn invariant_agent_gone(_: &Setup, state: &State) -> bool {
    state.worker != Actor::Alive && state.guard != Actor::Alive
}

/// Nothing that a recording may end with is wrong.
fn rests(setup: &Setup, state: &State) -> bool {
    state.settled()
        && ALWAYS.iter().all(|(_, holds)| holds(setup, state))
        && invariant_nothing_suspended(setup, state)
        && invariant_no_stash_left(setup, state)
}

/// Every state that can be reached, breadth first. A state that breaks an invariant is not gone on from.
pub fn explore(setup: &Setup) -> Explored {
    let first = State::first(setup);
    let mut seen: HashMap<State, u32, BuildHasherDefault<Mix>> = HashMap::default();
    // By where they begin: states are looked at in the order in which they were found.
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut came: Vec<(u32, Option<Label>)> = vec![(0, None)];
    let mut queue = VecDeque::from([first]);
    let mut explored = Explored {
        states: 0,
        transitions: 0,
        terminal: 0,
        endless: false,
        found: Vec::new(),
        broken: [0; 3],
        both_killed_unharmed: 0,
        lost_by_the_failed: 0,
        broken_while_recovering: 0,
    };
    seen.insert(first, 0);
    let mut steps: Steps = Vec::new();
    let mut index = 0_u32;
    while let Some(state) = queue.pop_front() {
        let here = index;
        index += 1;
        steps.clear();
        state.steps(setup, &mut steps);
        explored.transitions += steps.len();
        let ended = steps.iter().all(|(label, _)| matches!(label, Label::Perhaps(..)));
        explored.terminal += usize::from(ended);
        let at_the_end = if ended { AT_THE_END.as_slice() } else { &[] };
        let mut broken = false;
        for (invariant, holds) in ALWAYS.iter().chain(at_the_end) {
            if !holds(setup, &state) {
                broken = true;
                if explored.counterexample(invariant).is_none() {
                    explored.found.push(Counterexample {
                        invariant,
                        steps: way(&came, here),
                    });
                }
            }
        }
        if broken {
            explored.broken[state.kills() as usize] += 1;
            explored.broken_while_recovering += usize::from(state.kills() == 2 && state.heard);
            continue;
        }
        explored.lost_by_the_failed += usize::from(state.processes.iter().any(|process| process.has(LOST)));
        explored.both_killed_unharmed += usize::from(ended && state.kills() == 2);
        for (label, next) in &steps {
            let to = match seen.entry(*next) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(entry) => {
                    let to = came.len() as u32;
                    entry.insert(to);
                    came.push((here, Some(*label)));
                    queue.push_back(*next);
                    to
                }
            };
            edges.push((here, to));
        }
    }
    explored.endless = endless(came.len(), &edges);
    explored.states = came.len();
    explored
}

/// Whether there is a circle: states are taken away that no state is left to lead to, until none can be.
fn endless(states: usize, edges: &[(u32, u32)]) -> bool {
    let mut from = vec![0; states + 1];
    let mut into = vec![0_u32; states];
    for (here, to) in edges {
        from[*here as usize + 1] += 1;
        into[*to as usize] += 1;
    }
    for state in 0..states {
        from[state + 1] += from[state];
    }
    let mut free: Vec<usize> = (0..states).filter(|state| into[*state] == 0).collect();
    let mut taken = 0;
    while let Some(state) = free.pop() {
        taken += 1;
        for (_, to) in &edges[from[state]..from[state + 1]] {
            into[*to as usize] -= 1;
            if into[*to as usize] == 0 {
                free.push(*to as usize);
            }
        }
    }
    taken < states
}

fn way(came: &[(u32, Option<Label>)], to: u32) -> Vec<String> {
    let mut steps = Vec::new();
    let mut at = to;
    while let (from, Some(label)) = came[at as usize] {
        steps.push(label.to_string());
        at = from;
    }
    steps.reverse();
    steps
}

/// A hash that is quick for states; SipHash takes longer than a step.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, one: u8) {
        self.write_u64(u64::from(one));
    }

    fn write_u32(&mut self, one: u32) {
        self.write_u64(u64::from(one));
    }

    fn write_u128(&mut self, one: u128) {
        self.write_u64(one as u64);
        self.write_u64((one >> 64) as u64);
    }

    fn write_isize(&mut self, one: isize) {
        self.write_u64(one as u64);
    }

    fn write_u64(&mut self, one: u64) {
        self.0 = (self.0.rotate_left(5) ^ one).wrapping_mul(0x517C_C1B7_2722_0A95);
    }
}

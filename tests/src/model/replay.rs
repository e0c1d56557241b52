//! Whether the model can do what a recording says the agent did.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::machine::{Actor, Label, Setup, State, Steps};
use super::trace::{Event, Pid, Trace};
use super::{Role, rests};

/// A recording that the model cannot make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The process whose part of the recording it is; none if it is worker's and guard's own.
    pub process: Option<Pid>,
    /// What the model could not explain, or that it may not end like this.
    pub why: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some(process) => write!(
                f,
                "the model does not admit what was done to {process}: {}",
                self.why
            ),
            None => write!(f, "the model does not admit the window: {}", self.why),
        }
    }
}

impl std::error::Error for Rejected {}

/// Events of worker and guard that concern one process or the window itself.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Part {
    worker: Vec<Event<u8>>,
    guard: Vec<Event<u8>>,
}

/// The events of one actor with their places: of the window itself (under no process) and of each process.
type Sorted<'a> = HashMap<Option<&'a Pid>, Vec<(usize, Event<u8>)>>;

fn sorted(events: &[Event<Pid>]) -> Sorted<'_> {
    let mut sorted = Sorted::new();
    for (place, event) in events.iter().enumerate() {
        let events = sorted.entry(event.process()).or_default();
        events.push((place, event.clone().rename(|_| 0)));
    }
    sorted
}

fn part(sorted: &Sorted<'_>, process: Option<&Pid>) -> Vec<Event<u8>> {
    let of = |process| sorted.get(&process).into_iter().flatten().copied();
    let mut events: Vec<_> = of(None).collect();
    if process.is_some() {
        events.extend(of(process));
    }
    events.sort_by_key(|(place, _)| *place);
    events.into_iter().map(|(_, event)| event).collect()
}

impl Part {
    fn count(&self, is: impl Fn(&Event<u8>) -> bool + Copy) -> usize {
        let count = |events: &[Event<u8>]| events.iter().filter(|event| is(event)).count();
        count(&self.worker).max(count(&self.guard))
    }
}

/// Whether the model, with one process and the others out of its sight, can do what was recorded: for every process
/// of the recording, and whatever came between the events of the two actors.
///
/// # Errors
/// The first process whose part the model cannot make.
pub fn admits(trace: &Trace) -> Result<(), Rejected> {
    let mut processes: Vec<Option<&Pid>> = vec![None];
    let mut named = HashSet::new();
    for process in trace.worker.iter().chain(&trace.guard).filter_map(Event::process) {
        if named.insert(process) {
            processes.push(Some(process));
        }
    }
    let (worker, guard) = (sorted(&trace.worker), sorted(&trace.guard));
    // Of ten thousand processes most were treated alike.
    let mut admitted = HashSet::new();
    for process in processes {
        let part = Part {
            worker: part(&worker, process),
            guard: part(&guard, process),
        };
        if admitted.contains(&part) {
            continue;
        }
        part_admitted(&part, process.is_some()).map_err(|why| Rejected {
            process: process.cloned(),
            why,
        })?;
        admitted.insert(part);
    }
    Ok(())
}

fn part_admitted(part: &Part, process: bool) -> Result<(), String> {
    let roles: Vec<Vec<Role>> = if !process {
        vec![vec![]]
    } else {
        // One that is asked for each of its handlers is asked so often in one window.
        let asked = part.count(|event| matches!(event, Event::Migrate(_))) as u8;
        let asks = 0..=asked.max(1);
        asks.flat_map(|asks| [vec![Role::Target { asks }], vec![Role::Newborn { asks }]])
            .chain([vec![Role::Supervisor], vec![Role::InPart]])
            .collect()
    };
    let mut furthest = (0, 0);
    for roles in roles {
        let setup = Setup {
            others: true,
            // As the agent has them.
            rounds: 4,
            attempts: part.count(|event| *event == Event::Done) as u8 + 1,
            limit: u8::MAX,
            ..Setup::new(&roles)
        };
        match search(&setup, part) {
            Ok(()) => return Ok(()),
            Err(reached) if reached.0 + reached.1 > furthest.0 + furthest.1 => furthest = reached,
            Err(_) => {}
        }
    }
    let next = |events: &[Event<u8>], at: usize| match events.get(at) {
        Some(event) => format!("event {} ({event})", at + 1),
        None => "the end".to_owned(),
    };
    Err(format!(
        "it follows the worker up to {}, the guard up to {}, counting the window's own events and those of the \
         process, which is 0 here",
        next(&part.worker, furthest.0),
        next(&part.guard, furthest.1)
    ))
}

/// Depth first through everything the model may do between the events; the furthest pair of positions otherwise.
fn search(setup: &Setup, part: &Part) -> Result<(), (usize, usize)> {
    let mut stack = vec![(State::first(setup), 0_usize, 0_usize)];
    let mut seen: HashSet<_> = stack.iter().copied().collect();
    let mut furthest = (0, 0);
    let mut steps: Steps = Vec::new();
    while let Some((state, worker, guard)) = stack.pop() {
        if worker + guard > furthest.0 + furthest.1 {
            furthest = (worker, guard);
        }
        if worker == part.worker.len() && guard == part.guard.len() && rests(setup, &state) {
            return Ok(());
        }
        steps.clear();
        state.steps(setup, &mut steps);
        for (label, next) in &steps {
            let (event, by_worker) = match label {
                Label::Hidden(..) | Label::Perhaps(..) => {
                    visit(&mut stack, &mut seen, (*next, worker, guard));
                    continue;
                }
                Label::Worker(event) | Label::WorkerHalf(event) => (event, true),
                Label::Guard(event) | Label::GuardHalf(event) => (event, false),
            };
            let (events, at) = if by_worker {
                (&part.worker, worker)
            } else {
                (&part.guard, guard)
            };
            if events.get(at) != Some(event) {
                continue;
            }
            let positions = if by_worker {
                (worker + 1, guard)
            } else {
                (worker, guard + 1)
            };
            visit(&mut stack, &mut seen, (*next, positions.0, positions.1));
            // It was recorded, and who recorded it was killed before it did what it said.
            if state.kills() < setup.kills {
                let killed = if by_worker {
                    state.kill_worker()
                } else {
                    state.kill_guard()
                };
                if by_worker && state.worker == Actor::Alive || !by_worker && state.guard == Actor::Alive {
                    visit(&mut stack, &mut seen, (killed, positions.0, positions.1));
                }
            }
        }
    }
    Err(furthest)
}

type Visited = (State, usize, usize);

fn visit(stack: &mut Vec<Visited>, seen: &mut HashSet<Visited>, one: Visited) {
    if seen.insert(one) {
        stack.push(one);
    }
}

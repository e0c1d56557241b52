//! Nodes worked on several at a time: the shell around the machine of [`flyhot_rollout`], which decides who comes next.
//!
//! All of them share one thread, one lock and one stream of events. Before a node is begun, and on it wherever [`crate::drive`] asks,
//! the fleet says whether the lock is still held.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flyhot_artifact::{CodeId, Release};
use flyhot_events::{
    ErrorKind, Event, LeaseState, NodeOutcome, OutcomeKind, Reason, ReasonCode, Step, Unit, Watched, WaveWay,
};
use flyhot_fleet::{Fly, FlyError, Host, MachineId};
use flyhot_node::NodeName;
use flyhot_rollout::{Command, End, Happened, OnFailure, Settings, Stands, Way};
use flyhot_upgrade::judge;
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch as signal};

use crate::check::Check;
use crate::clock::since_us;
use crate::drive::look::{self, Kept};
use crate::drive::{self, Leave, NodeError, NodeRequest};
use crate::errors;
use crate::fleet::Fleet;
use crate::interrupt::{Dropped, Watch};
use crate::inventory::{self, Leases};
use crate::ledger::Ledger;
use crate::options::policy::{GATE_EVERY, GATE_WITHIN};
use crate::options::{MAX_CONCURRENCY, Options, Peer};

/// Where nodes go.
pub(crate) struct Leg {
    pub(crate) options: Options,
    pub(crate) release: Release,
}

/// A rollout, beside where its nodes go.
pub(crate) struct Course {
    pub(crate) settings: Settings,
    pub(crate) began: Instant,
    pub(crate) check: Option<Check>,
    /// Of the machines that the nodes run on, where those were asked for.
    pub(crate) machines: Option<Rc<Machines>>,
    /// How long the work on one node may take, without the time that it is watched.
    pub(crate) timeout: Option<Duration>,
    /// The code that was committed before.
    pub(crate) old: Option<CodeId>,
    /// Which start of each node it was that was worked on last.
    pub(crate) starts: RefCell<HashMap<usize, String>>,
    /// The pointer is not committed yet: that nodes run the release is no sign that they were well there.
    pub(crate) unproven: bool,
    /// When the window of each node ended.
    pub(crate) windows: RefCell<HashMap<usize, Instant>>,
}

/// The machines of a rollout.
pub(crate) struct Machines {
    pub(crate) fly: Arc<Fly>,
    pub(crate) leases: Leases,
    /// What they were started from when this began.
    pub(crate) images: inventory::Images,
}

/// Why nothing more is done.
pub(crate) enum Halt {
    /// Nodes are to go back, and what they go back to is needed for it.
    Turn,
    /// It is to be asked who else is there.
    Look,
    /// It is over.
    Over,
    /// It is over because of a signal.
    Asked,
}

/// Something that was under way is done.
enum Done {
    Node {
        at: usize,
        name: String,
        way: Way,
        sight: Sight,
        result: Result<Box<NodeOutcome>, NodeError>,
    },
    /// It was not begun after all.
    Left { at: usize, error: NodeError },
    /// Its machine is not started any more.
    LeftToBoot { at: usize, said: Event },
    /// A signal had it dropped.
    Dropped { at: usize },
    /// A canary was watched while it stood alone; its gate knows what was seen.
    Baked,
    Gate {
        at: usize,
        /// Whether anything was asked.
        asked: bool,
        baked: Option<Watched>,
        against: Vec<Reason>,
    },
}

/// What was seen of the work on a node, for when it ends with an error.
#[derive(Default)]
struct Sight {
    /// Somebody answered there.
    reached: bool,
    /// Its window had begun: it may run either code.
    window: bool,
    /// It ran already what it should.
    there: bool,
    /// What it ran.
    before: Option<String>,
}

impl Sight {
    fn see(&mut self, event: &Event) {
        match event {
            Event::StepDone {
                step: Step::Connect, ..
            } => self.reached = true,
            Event::StepStarted {
                step: Step::Window, ..
            } => self.window = true,
            Event::Plan { code_id, .. } => {
                self.there = code_id.before == code_id.after;
                self.before.clone_from(&code_id.before);
            }
            _ => {}
        }
    }
}

/// Takes nodes over, forth by one leg and back by another, until the other leg is needed.
pub(crate) async fn go(
    course: &Course,
    leg: &Leg,
    fleet: &mut Fleet<'_>,
    watch: &Watch,
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
) -> Halt {
    let (leave, mut questions) = Leave::new();
    let emit = RefCell::new(emit);
    let say = |event: Event| (emit.borrow_mut())(event);
    // Never dropped in the middle of a question: its answer would be missing.
    let mut keeping = pin!(fleet.keep(&mut questions));
    let mut under_way: FuturesUnordered<LocalBoxFuture<'_, Done>> = FuturesUnordered::new();
    // What became of these is known: whoever does not wait for their labels has lost nothing else.
    let mut labelling: FuturesUnordered<LocalBoxFuture<'_, Option<(usize, Reason)>>> =
        FuturesUnordered::new();
    let (mut wave, mut told, mut barred) = (None, false, false);
    // Nobody stays on the new code, so that nobody needs to be well there.
    let turns = signal::Sender::new(false);
    let mut baking = None;
    // The wave whose machines are leased; whoever asks who else is there has let all of them go.
    let mut leased: Vec<usize> = Vec::new();
    loop {
        match ledger.next(course.began.elapsed()) {
            Command::Begin { node: at, way } => {
                let Some(node) = leg.options.reach.nodes.get(at) else {
                    return Halt::Over;
                };
                let (number, places) = ledger.wave();
                if wave.replace((number, way)) != Some((number, way)) {
                    if way == Way::Forth {
                        let before = std::mem::replace(&mut leased, places.to_vec());
                        let peers = before.iter().filter_map(|at| leg.options.reach.nodes.get(*at));
                        peers.for_each(|peer| course.let_go(peer));
                    }
                    say(begun(course, &leg.options, way, ledger));
                }
                ledger.begin(at);
                watch.begins(&node.name.to_string());
                under_way.push(Box::pin(work(course, leg, at, node, way, &leave, watch, &say)));
            }
            Command::Gate { node: at } => {
                let Some(node) = leg.options.reach.nodes.get(at) else {
                    return Halt::Over;
                };
                under_way.push(Box::pin(gate(
                    course,
                    at,
                    node,
                    baking.take(),
                    turns.subscribe(),
                    &say,
                )));
            }
            Command::GiveUp { node: at } => {
                if let Some(node) = leg.options.reach.nodes.get(at) {
                    watch.overdue(&node.name.to_string());
                }
            }
            Command::Bake { node: at } => {
                if let Some(node) = leg.options.reach.nodes.get(at) {
                    let bake = course.settings.canary.unwrap_or_default();
                    say(Event::Bake {
                        node: node.name.to_string(),
                        bake_us: u64::try_from(bake.as_micros()).unwrap_or(u64::MAX),
                    });
                    // Who is told not to be watched has no before to go by.
                    if let (Some(watch), Some(first)) = (leg.options.watch, ledger.watched(at).cloned()) {
                        let (send, seen) = oneshot::channel();
                        baking = Some(seen);
                        under_way.push(Box::pin(async move {
                            let seen = drive::bake(node, bake, &watch, &first).await;
                            // Nobody asks any more where the rollout was ended meanwhile.
                            let _ = send.send(seen);
                            Done::Baked
                        }));
                    }
                }
            }
            over @ (Command::GoBack | Command::Look | Command::Finished) => {
                while !labelling.is_empty() {
                    tokio::select! {
                        biased;
                        Some(unlabelled) = labelling.next() => note(unlabelled, ledger),
                        never = &mut keeping => match never {},
                    }
                }
                return match over {
                    Command::GoBack => Halt::Turn,
                    Command::Look => Halt::Look,
                    _ if told => Halt::Asked,
                    _ => Halt::Over,
                };
            }
            Command::Wait { until } => {
                let time = until.map(|until| tokio::time::Instant::from_std(course.began + until));
                tokio::select! {
                    biased;
                    Some(done) = under_way.next() => {
                        // Nobody starts a machine that is leased.
                        if let Done::Node { at, way: Way::Back, .. } | Done::LeftToBoot { at, .. } = &done
                            && let Some(peer) = leg.options.reach.nodes.get(*at)
                        {
                            course.let_go(peer);
                        }
                        if let Done::Node { at, way, result: Ok(outcome), .. } = &done
                            && let Some(peer) = leg.options.reach.nodes.get(*at)
                            && let Some(code_id) = outcome.code_id.after.clone()
                        {
                            let (at, way) = (*at, *way);
                            labelling.push(Box::pin(async move {
                                Some((at, course.label(peer, way, &code_id).await?))
                            }));
                        }
                        let is_against = take(course, done, &mut barred, ledger, &say);
                        if barred || is_against && course.settings.on_failure == OnFailure::GoBack {
                            turns.send_replace(true);
                        }
                        course.tell_lost(&leg.options.reach.nodes, &say);
                        if let Some(why) = leave.refused() {
                            ledger.happened(Happened::Stop(why));
                            turns.send_replace(true);
                        }
                    }
                    Some(unlabelled) = labelling.next() => note(unlabelled, ledger),
                    () = watch.is_asked(), if !told => {
                        told = true;
                        ledger.happened(Happened::Stop(ErrorKind::Interrupted));
                    }
                    () = until_then(time) => {}
                    never = &mut keeping => match never {},
                }
            }
        }
    }
}

/// Asks everybody who was taken over whether they run the release still: whoever was started anew since runs what it was started with,
/// and whoever is gone is not well, unless its machine was stopped on purpose, or `started` meanwhile. The answer is who was not started
/// by `flyhot boot`.
pub(crate) async fn once_more(
    course: &Course,
    leg: &Leg,
    started: &HashSet<usize>,
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
) -> Vec<String> {
    let fly = course.machines.as_ref().map(|machines| &*machines.fly);
    let nodes = leg.options.reach.nodes.iter().enumerate();
    let taken: Vec<_> = nodes
        .filter(|(at, _)| ledger.stands(*at) == Stands::Target)
        .map(|(at, peer)| (at, peer, course.starts.borrow().get(&at).cloned()))
        .collect();
    let asking = taken.into_iter().map(async |(at, peer, start)| {
        let answer = look::kept(peer, &leg.release, start.as_deref()).await;
        let left = answer.is_err() && inventory::left_to_boot(fly, peer).await.is_some();
        (at, peer, answer, left)
    });
    // Not one after another where they are worked on so: whoever is started anew behind its answer is not seen.
    let at_once = course.settings.at_once.max(MAX_CONCURRENCY).get();
    let answers: Vec<_> = futures::stream::iter(asking)
        .buffer_unordered(at_once)
        .collect()
        .await;
    let mut unbooted = Vec::new();
    for (at, peer, answer, left) in answers {
        if let Ok(Kept { booted: false, .. }) = &answer {
            unbooted.push(peer.name.to_string());
        }
        match answer {
            Ok(Kept { runs: true, .. }) => {}
            Ok(Kept { runs: false, .. }) => ledger.restarted(at, inventory::not_begun(peer)),
            Err(_) if left => {}
            Err(_) if started.contains(&at) => ledger.restarted(at, inventory::not_begun(peer)),
            Err(error) => {
                ledger.lost(at, error.kind);
                emit(error.event(Some(peer.name.to_string())));
            }
        }
    }
    unbooted
}

impl Course {
    /// Leases the machine of a node, if it has one, and looks whether it is the one that was found. A node that goes back does so in any
    /// case: whoever holds its machine meanwhile finds it as everybody else's.
    async fn lease(&self, peer: &Peer, way: Way, say: &impl Fn(Event)) -> Result<(), NodeError> {
        let (Some(machines), Some(machine)) = (&self.machines, &peer.machine) else {
            return Ok(());
        };
        let (node, id) = (peer.name.to_string(), &machine.id);
        let taken = machines.leases.take(&node, id, self.settings.limit, say).await;
        match (taken, way) {
            (Ok(()), _) => {}
            (Err(error), Way::Forth) => return Err(errors::fly(&error)),
            (Err(error), Way::Back) => say(inventory::told(&node, id, LeaseState::Without, &error)),
        }
        // It was found long ago; from now on nobody replaces it.
        match (machines.fly.machine(id).await, way) {
            (Ok(now), _) => inventory::unreplaced(machine, &now),
            (Err(error), Way::Forth) => Err(errors::fly(&error)),
            (Err(_), Way::Back) => Ok(()),
        }
    }

    /// Says whose machines somebody else may change by now.
    fn tell_lost(&self, peers: &[Peer], say: &impl Fn(Event)) {
        let lost = self.machines.as_ref().map(|machines| machines.leases.lost());
        for error in lost.into_iter().flatten() {
            let FlyError::LeaseLost { machine: id, .. } = &error else {
                continue;
            };
            let of = |peer: &&Peer| peer.machine.as_ref().is_some_and(|machine| machine.id == *id);
            if let Some(peer) = peers.iter().find(of) {
                say(inventory::told(
                    &peer.name.to_string(),
                    id,
                    LeaseState::Lost,
                    &error,
                ));
            }
        }
    }

    fn let_go(&self, peer: &Peer) {
        if let (Some(machines), Some(machine)) = (&self.machines, &peer.machine) {
            machines.leases.let_go(&machine.id);
        }
    }

    /// What is said of a node whose machine is left to boot by now. A connection that fails says nothing of that.
    async fn left_to_boot(&self, peer: &Peer) -> Option<Event> {
        let fly = self.machines.as_ref().map(|machines| &*machines.fly);
        let state = inventory::left_to_boot(fly, peer).await?;
        Some(Event::LeftToBoot {
            node: peer.name.to_string(),
            machine: peer.machine.as_ref()?.id.to_string(),
            state: state.to_string(),
        })
    }

    /// Has the machine of a node carry the code that it runs now; the answer is why it does not.
    async fn label(&self, peer: &Peer, way: Way, code_id: &str) -> Option<Reason> {
        let (machines, machine) = (self.machines.as_ref()?, peer.machine.as_ref()?);
        // Whoever goes back was written anew since it was asked for.
        if way == Way::Forth && machine.label.as_deref() == Some(code_id) {
            return None;
        }
        let error = inventory::label(&machines.fly, &machine.id, code_id)
            .await
            .err()?;
        Some(Reason::new(
            ReasonCode::NotLabelled,
            machine.id.as_str(),
            format!("the machine's metadata do not say which code it runs: {error}"),
            "`flyhot status` says what it runs; the next rollout writes it again.",
        ))
    }
}

async fn until_then(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What is said when a wave begins, or the way back.
fn begun(course: &Course, options: &Options, way: Way, ledger: &Ledger) -> Event {
    let (number, places) = ledger.wave();
    let (wave, way, nodes) = match way {
        Way::Forth => {
            let nodes = places.iter().filter_map(|at| options.reach.nodes.get(*at));
            (
                number,
                WaveWay::Forth,
                nodes.map(|peer| peer.name.to_string()).collect(),
            )
        }
        Way::Back => {
            let nodes = ledger.elsewhere().map(str::to_owned).collect();
            (number + 1, WaveWay::Back, nodes)
        }
    };
    Event::Wave {
        wave: wave as u64,
        way,
        nodes,
        at_once: course.settings.at_once.get() as u64,
    }
}

/// The work on one node.
#[expect(
    clippy::too_many_arguments,
    reason = "what the work on a node shares with that on others, each once"
)]
async fn work(
    course: &Course,
    leg: &Leg,
    at: usize,
    peer: &Peer,
    way: Way,
    leave: &Leave,
    watch: &Watch,
    say: &impl Fn(Event),
) -> Done {
    let mut sight = Sight::default();
    let name = peer.name.to_string();
    let start = OnceCell::new();
    let request = NodeRequest {
        peer,
        release: &leg.release,
        options: &leg.options,
        plan_only: false,
        leave,
        start: Some(&start),
    };
    let mut emit = |event: Event| {
        sight.see(&event);
        if let Event::StepDone {
            step: Step::Window, ..
        } = &event
        {
            course.windows.borrow_mut().insert(at, Instant::now());
        }
        say(event);
    };
    let done = tokio::select! {
        biased;
        done = async {
            course.lease(peer, way, say).await.map_err(Ok)?;
            leave.given().await.map_err(Err)?;
            Box::pin(drive::node(&request, &mut emit)).await.map_err(Ok)
        } => done,
        why = watch.drop_of(&name) => match (why, course.timeout) {
            (Dropped::Overdue, Some(limit)) => Err(Ok(errors::overdue(&peer.name, limit))),
            (Dropped::Overdue | Dropped::Asked, _) => return Done::Dropped { at },
        }
    };
    if let Some(start) = start.into_inner() {
        course.starts.borrow_mut().insert(at, start);
    }
    let result = match done {
        Ok(outcome) => Ok(Box::new(outcome)),
        Err(Ok(error)) => {
            if way == Way::Forth
                && !sight.reached
                && let Some(said) = course.left_to_boot(peer).await
            {
                return Done::LeftToBoot { at, said };
            }
            Err(error)
        }
        Err(Err(error)) => return Done::Left { at, error },
    };
    Done::Node {
        at,
        name,
        way,
        sight,
        result,
    }
}

/// What was seen of a canary while it stood alone.
type Baking = oneshot::Receiver<Result<Watched, String>>;

/// Asks whether a node is well, beside what the work on it asks: the gate of the policy file, and how the node is on the new code.
async fn gate(
    course: &Course,
    at: usize,
    peer: &Peer,
    baking: Option<Baking>,
    mut turns: signal::Receiver<bool>,
    say: &impl Fn(Event),
) -> Done {
    let mut asked = baking.is_some() || course.check.is_some();
    let mut against = Vec::new();
    let mut baked = None;
    if let Some(seen) = baking {
        match seen.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(seen) => {
                against.extend(flyhot_upgrade::gate::against(&seen));
                baked = Some(seen);
            }
            Err(why) => against.push(flyhot_upgrade::gate::no_data(&why)),
        }
    }
    if let Some(check) = &course.check {
        against.extend(checked(check, &peer.name, say).await.err());
    }
    // Who is not well already is not asked for more.
    if against.is_empty()
        && let (Some(machines), Some(machine)) = (&course.machines, &peer.machine)
    {
        let window = course.windows.borrow().get(&at).copied();
        let since = window.or(course.unproven.then_some(course.began));
        tokio::select! {
            biased;
            // It goes back whatever Fly says.
            _ = turns.wait_for(|turns| *turns) => {}
            passed = passing(&machines.fly, peer, &machine.id, since, say) => match passed {
                Ok(was_asked) => asked |= was_asked,
                Err(reason) => against.push(reason),
            },
        }
    }
    Done::Gate {
        at,
        asked,
        baked,
        against,
    }
}

async fn checked(check: &Check, node: &NodeName, say: &impl Fn(Event)) -> Result<(), Reason> {
    let (name, step, began) = (node.to_string(), Step::CheckUrl, Instant::now());
    say(Event::StepStarted {
        node: Some(name.clone()),
        step,
    });
    let count = check.ask(node).await.map_err(|(found, hint)| {
        Reason::new(
            ReasonCode::GateFailed,
            "--check-url",
            format!("the gate did not pass: {found}"),
            hint,
        )
    })?;
    say(Event::StepDone {
        node: Some(name),
        step,
        duration_us: since_us(began),
        count,
        unit: Unit::Calls,
    });
    Ok(())
}

/// Waits until Fly says that all checks of a machine pass, by a look behind `since`; whether it was asked of any. Nobody goes back
/// because of a machine that was stopped meanwhile.
async fn passing(
    fly: &Fly,
    peer: &Peer,
    machine: &MachineId,
    since: Option<Instant>,
    say: &impl Fn(Event),
) -> Result<bool, Reason> {
    let (name, step, began) = (peer.name.to_string(), Step::MachineChecks, Instant::now());
    let look = "Look at it with `fly checks list`; the same command asks again.";
    let mut asked = 0;
    loop {
        let next = Instant::now() + GATE_EVERY;
        let (mut round, mut grace) = (Duration::ZERO, Duration::ZERO);
        let found = match fly.machine(machine).await {
            // What Fly said last of a machine that it does not hear is no data.
            Ok(seen) if seen.host != Host::Ok => Err(("its host does not answer".to_owned(), look)),
            Ok(seen) => {
                // One that was started a moment ago is not asked by Fly yet.
                grace = flyhot_fleet::grace(&seen, SystemTime::now());
                round = seen
                    .config
                    .as_ref()
                    .map(|config| config.checks.round)
                    .unwrap_or_default();
                if asked == 0 && round.is_zero() && seen.checks.is_empty() && seen.config.is_some() {
                    return Ok(false);
                }
                flyhot_fleet::failing(&seen).map_or(Ok(()), |found| Err((found, look)))
            }
            Err(error) => Err((errors::chain(&error), error.hint())),
        };
        if asked == 0 {
            say(Event::StepStarted {
                node: Some(name.clone()),
                step,
            });
        }
        asked += 1;
        // What Fly says before it has looked again is of the code that was there.
        let counts = since.map_or(began, |since| began.max(since + round));
        let within = grace + GATE_WITHIN;
        let now = Instant::now();
        match found {
            _ if now < counts => tokio::time::sleep(counts - now).await,
            Ok(()) => break,
            Err(_) if next < counts + within => tokio::time::sleep(next.saturating_duration_since(now)).await,
            Err(_) if inventory::left_to_boot(Some(fly), peer).await.is_some() => return Ok(false),
            Err((found, hint)) => {
                return Err(Reason::new(
                    ReasonCode::GateFailed,
                    machine.to_string(),
                    format!(
                        "the gate did not pass: the checks of the machine did not all pass within {} s: {found}",
                        within.as_secs()
                    ),
                    hint,
                ));
            }
        }
    }
    say(Event::StepDone {
        node: Some(name),
        step,
        duration_us: since_us(began),
        count: asked,
        unit: Unit::Calls,
    });
    Ok(true)
}

/// Tells the ledger of a machine that does not carry the code of its node.
fn note(unlabelled: Option<(usize, Reason)>, ledger: &mut Ledger) {
    if let Some((at, reason)) = unlabelled {
        ledger.noted(at, reason);
    }
}

/// Tells ledger and machine of what is done; whether it speaks against the release.
fn take(course: &Course, done: Done, barred: &mut bool, ledger: &mut Ledger, say: &impl Fn(Event)) -> bool {
    let happened = match done {
        Done::Node {
            at,
            name,
            way,
            sight,
            mut result,
        } => {
            let end = End {
                stands: stands(course, way, &sight, &result, ledger.stands(at)),
                against: match &result {
                    Ok(outcome) => judge::error_kind(outcome),
                    Err(error) => Some(error.kind),
                },
                already: way == Way::Forth
                    && matches!(&result, Ok(outcome) if outcome.outcome == OutcomeKind::NothingToDo),
            };
            if let Err(error) = &mut result {
                let outcome = error.outcome.take();
                say(error.clone().event(Some(name)));
                error.outcome = outcome;
            }
            match (way, result) {
                (Way::Forth, Ok(outcome)) => ledger.ended(at, *outcome),
                (Way::Forth, Err(error)) => {
                    ledger.failed(at, error.kind, error.outcome.map(|outcome| *outcome));
                }
                (Way::Back, Ok(outcome)) if end.stands == Stands::Old => ledger.taken_back(at, *outcome),
                (Way::Back, Ok(outcome)) => {
                    let why = why(outcome.outcome);
                    ledger.not_taken_back(at, why, Some(*outcome));
                }
                (Way::Back, Err(error)) => {
                    ledger.not_taken_back(at, &error.message, error.outcome.map(|outcome| *outcome));
                }
            }
            Happened::Ended { node: at, end }
        }
        Done::Left { at, error } => {
            ledger.not_begun(at);
            let why = error.kind;
            // The others of its wave have the same to say.
            if !std::mem::replace(barred, true) {
                say(error.event(None));
            }
            Happened::Barred { node: at, why }
        }
        Done::LeftToBoot { at, said } => {
            ledger.left_to_boot(at);
            say(said);
            Happened::Left { node: at }
        }
        Done::Dropped { at } => {
            let stands = ledger.stands(at);
            // It stays under way there, so that the signal is said of it.
            let against = Some(ErrorKind::Interrupted);
            Happened::Ended {
                node: at,
                end: End {
                    stands,
                    against,
                    already: false,
                },
            }
        }
        Done::Baked => return false,
        Done::Gate {
            at,
            asked,
            baked,
            against,
        } => {
            if let Some(seen) = baked {
                ledger.baked(at, seen);
            }
            let well = against.is_empty();
            if well && asked {
                ledger.passed(at);
            }
            for reason in against {
                ledger.unwell(at, reason);
            }
            Happened::Gate { node: at, well }
        }
    };
    let is_against = match &happened {
        Happened::Ended { end, .. } => end.against.is_some(),
        Happened::Gate { well, .. } => !well,
        _ => false,
    };
    ledger.happened(happened);
    is_against
}

fn why(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Refused => "the way back was refused",
        OutcomeKind::Reverted => "the way back was undone",
        OutcomeKind::NotQuiesced => "it could not be frozen",
        _ => "it ended otherwise",
    }
}

/// What a node runs after work on it.
fn stands(
    course: &Course,
    way: Way,
    sight: &Sight,
    result: &Result<Box<NodeOutcome>, NodeError>,
    stood: Stands,
) -> Stands {
    let there = match way {
        Way::Forth => Stands::Target,
        Way::Back => Stands::Old,
    };
    let moved = |outcome: &NodeOutcome| {
        matches!(
            outcome.outcome,
            OutcomeKind::Upgraded | OutcomeKind::NothingToDo | OutcomeKind::Degraded
        )
    };
    let ran = match result {
        Ok(outcome) if moved(outcome) => return there,
        Ok(outcome) => outcome.code_id.after.as_deref(),
        Err(_) if sight.window => return Stands::Unknown,
        Err(_) if sight.there => return there,
        Err(_) => sight.before.as_deref(),
    };
    // It is where it was; of a fleet that was left in the middle of something, its code says where.
    let old = course.old.map(|id| id.to_string());
    if stood == Stands::Before && ran.is_some() && ran == old.as_deref() {
        Stands::Old
    } else {
        stood
    }
}

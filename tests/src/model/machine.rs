//! The states and steps of the protocol, as flyhot_agent.erl makes them. No search and no judgement is in here.

use std::fmt;

use super::trace::{Cause, Event, Phase};
use super::window::Run;

/// As many as a machine can explore; each one more is ten times the states.
const SLOTS: usize = 4;

/// What a process is to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Known to the census, asked so often to migrate: once, or once per changed handler; never if its state is kept.
    Target {
        /// Requests to migrate that it gets.
        asks: u8,
    },
    /// The same, but born after the census.
    Newborn {
        /// Requests to migrate that it gets.
        asks: u8,
    },
    /// Asked once, and shows sys a part of what it keeps: nothing of it can be given back.
    InPart,
    /// Frozen first, released last, never asked; its children are the others.
    Supervisor,
}

/// What is explored: who is there, what the agent does, and what may befall it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The processes, in the order in which they are asked.
    pub roles: Vec<Role>,
    /// Messages unanswered at a time (`--in-flight`).
    pub limit: u8,
    /// Rounds of letting callees go; the agent has four, and nothing depends on the number.
    pub rounds: u8,
    /// Windows that a driver asks for, one after the other.
    pub attempts: u8,
    /// How many of worker and guard may be killed.
    pub kills: u8,
    /// Processes, driver and connection die.
    pub deaths: bool,
    /// Processes that are not modelled fail, are late or are born at any time: what a trace is replayed with.
    pub others: bool,
    /// What is wrong with the agent on purpose.
    pub mutant: Option<Mutant>,
}

/// An agent that is wrong in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Nobody watches the worker.
    NoGuard,
    /// Giving up, the worker thaws who answered, and forgets who did not.
    NoResumeBehind,
    /// A guard that takes over asks for the swap again instead of looking whether it was done.
    FinishTwice,
    /// Whoever waits behind a full flight of silent ones is given up with them.
    SkipsThoseBehind,
    /// Processes are ended before the guard knows whom.
    EndsUntold,
    /// A guard that finishes the swap looks for nobody who was born just before it.
    GuardOverlooksTheLate,
    /// Who was born on the new code is not looked for when the old code is back.
    BackOverlooksTheBorn,
    /// The same, but only by a guard that finds the old code back.
    GuardOverlooksTheBorn,
    /// Nobody asks whether a process went on in the instant of its proof.
    ProvesUnasked,
    /// A guard gives what shows a part its part back and asks it again, whether it was asked or not.
    AsksAgain,
}

impl Setup {
    /// One of worker and guard may be killed, everything else as often as it likes.
    ///
    /// # Panics
    /// If there are more roles than the model has room for.
    pub fn new(roles: &[Role]) -> Self {
        assert!(roles.len() <= SLOTS, "no more than {SLOTS} processes");
        Self {
            roles: roles.to_vec(),
            limit: 2,
            rounds: 2,
            attempts: 1,
            kills: 1,
            deaths: true,
            others: false,
            mutant: None,
        }
    }

    pub(super) fn asks(&self, at: usize) -> u8 {
        match self.roles[at] {
            Role::Target { asks } | Role::Newborn { asks } => asks,
            Role::InPart => 1,
            Role::Supervisor => 0,
        }
    }

    pub(super) fn is(&self, at: usize, role: Role) -> bool {
        self.roles[at] == role
    }

    pub(super) fn target(&self, at: usize) -> bool {
        matches!(
            self.roles[at],
            Role::Target { .. } | Role::Newborn { .. } | Role::InPart
        )
    }

    pub(super) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(super) fn newborn(&self, at: usize) -> bool {
        matches!(self.roles[at], Role::Newborn { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Life {
    Unborn,
    #[default]
    Alive,
    /// By itself, or by somebody outside.
    Died,
    /// By the agent.
    Ended,
}

/// Whose shape a state has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Shape {
    #[default]
    Old,
    New,
    /// Of a code_change that was asked with a state it does not know.
    Other,
}

/// A system message. `Stash` is `forgive` to a supervisor, and `Drop` is `count_again`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Suspend = 1,
    Stash,
    Resume,
    Drop,
    Change,
    Restore,
    Knock,
}

/// Set in a message whose answer is awaited.
const REPLY: u128 = 8;
/// Every message of a mailbox without that.
pub(super) const NOBODY_WAITS: u128 = u128::MAX / 15 * 7;
/// Messages that a mailbox has room for; a window adds sixteen at most.
const ROOM: u32 = 32;

// What is true of a process.
pub(super) const SUSPENDED: u32 = 1;
/// Inside a code_change that never returns.
pub(super) const STUCK: u32 = 1 << 1;
/// Handled messages of its own since its stash was made.
const WORKED: u32 = 1 << 2;
/// Such work was thrown away.
pub(super) const LOST: u32 = 1 << 3;
/// Asked once more for a state it had migrated.
pub(super) const TWICE: u32 = 1 << 4;
/// A supervisor that does not count the restarts of ended children.
pub(super) const FORGIVES: u32 = 1 << 5;
/// The guard was answered for its code_change.
pub(super) const ANSWERED: u32 = 1 << 28;
/// That was an error.
pub(super) const REFUSED: u32 = 1 << 29;
// What who runs the window knows of it.
pub(super) const IN: u32 = 1 << 8;
pub(super) const FROZEN: u32 = 1 << 9;
pub(super) const MEMBER: u32 = 1 << 10;
pub(super) const HELD: u32 = 1 << 11;
pub(super) const OUT: u32 = 1 << 12;
pub(super) const DIED: u32 = 1 << 13;
pub(super) const FAILED: u32 = 1 << 14;
pub(super) const ENDED: u32 = 1 << 15;
pub(super) const UNRESUMED: u32 = 1 << 16;
pub(super) const LATE: u32 = 1 << 17;
pub(super) const KNOWN: u32 = IN | DIED | FAILED | ENDED | LATE;
pub(super) const WINDOW: u32 = KNOWN | FROZEN | MEMBER | HELD | OUT | UNRESUMED;
/// What the guard was told, so many bits above what the worker knows.
pub(super) const GUARDS: u32 = 10;
pub(super) const TOLD: u32 = KNOWN << GUARDS;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Process {
    pub(super) life: Life,
    pub(super) shape: Shape,
    pub(super) stash: Option<Shape>,
    /// Times asked to migrate since its state was the old one.
    pub(super) asked: u8,
    pub(super) flags: u32,
    /// Four bits a message, first one lowest.
    pub(super) mail: u128,
    // Its part in the requests that are on the way: unsent, unanswered, answered.
    pub(super) todo: u8,
    pub(super) sent: u8,
    pub(super) ok: u8,
    pub(super) bad: u8,
}

impl Process {
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn set(&mut self, flag: u32) {
        self.flags |= flag;
    }

    pub(super) fn clear(&mut self, flag: u32) {
        self.flags &= !flag;
    }

    pub(super) fn alive(&self) -> bool {
        self.life == Life::Alive
    }

    pub(super) fn push(&mut self, ask: Ask, reply: bool) {
        if self.alive() {
            let at = (128 - self.mail.leading_zeros()).div_ceil(4);
            assert!(at < ROOM, "a window adds sixteen messages at most");
            self.mail |= (ask as u128 | if reply { REPLY } else { 0 }) << (4 * at);
        }
    }

    /// Suspended after everything that is queued was read.
    pub(super) fn freezes(&self) -> bool {
        let mut frozen = self.has(SUSPENDED);
        let mut mail = self.mail;
        while mail != 0 {
            match mail & 7 {
                1 => frozen = true,
                3 => frozen = false,
                _ => {}
            }
            mail >>= 4;
        }
        self.alive() && frozen
    }

    /// Whether one more window has room; the knock before it would not be answered otherwise.
    pub(super) fn reads(&self) -> bool {
        self.mail >> (2 * ROOM) == 0
    }

    pub(super) fn pending(&self) -> bool {
        self.sent + self.ok + self.bad > 0
    }

    fn end(&mut self, life: Life) {
        let keep = self.flags & (WINDOW | TOLD | LOST | TWICE | ANSWERED | REFUSED);
        *self = Self {
            life,
            flags: keep,
            todo: self.todo,
            sent: self.sent,
            ok: self.ok,
            bad: self.bad,
            ..Self::default()
        };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Actor {
    Alive,
    Killed,
    /// Ended as it should.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Link {
    Up,
    DriverDead,
    ConnectionLost,
}

/// How a window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    None,
    Abandoned,
    Upgraded,
    Reverted,
    Degraded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Group {
    Sups,
    Targets,
    Born,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    All,
    Others,
    Sups,
}

/// Where in the window whoever runs it is: the worker, or the guard in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    Idle,
    Stopping,
    Begin,
    Tell(Phase),
    Noting(Phase),
    Freeze(Group),
    Scan,
    Ready,
    LastLook,
    Swapping,
    Swapped,
    /// The guard asks those that show a part whether they were asked.
    AskedBefore,
    Migrate,
    /// Whoever did not return is named.
    Silent,
    Prove(u8),
    Proving(u8),
    /// Whether the proven one went on.
    Asking(u8),
    Judge,
    Undo,
    PutBack,
    PuttingBack,
    /// Ends whoever is OUT.
    Ending(End),
    Degrade,
    Thaw(Who),
    Forgive,
    Aftermath,
    Abandon(Cause),
    LetGo,
    Done,
    /// The guard takes over.
    TakeOver,
    /// The guard waits for the code server.
    Settle,
    /// The guard keeps a result.
    Result,
    /// Nobody runs it.
    Nobody,
}

/// The code server: what it was asked, what it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Swap {
    Idle,
    Asked,
    Answered(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) processes: [Process; SLOTS],
    pub(super) at: At,
    pub(super) worker: Actor,
    pub(super) guard: Actor,
    pub(super) link: Link,
    // The guard's mailbox, and what it noted.
    pub(super) inbox_done: bool,
    pub(super) inbox_phase: Option<Phase>,
    pub(super) inbox_stop: bool,
    pub(super) noted: Option<Phase>,
    pub(super) noted_end: End,
    pub(super) noted_bereft: u8,
    pub(super) noted_faults: bool,
    pub(super) by_guard: bool,
    pub(super) new_code: bool,
    pub(super) new_used: bool,
    pub(super) old_used: bool,
    pub(super) finished_twice: bool,
    pub(super) swap: Swap,
    pub(super) faults: bool,
    /// A process handled a message in the instant of its proof.
    pub(super) seen: bool,
    pub(super) bereft: u8,
    pub(super) forgiven: u8,
    /// Children that the agent ended.
    pub(super) owed: u8,
    pub(super) round: u8,
    pub(super) scans: u8,
    pub(super) attempt: u8,
    pub(super) end: End,
    pub(super) reported: bool,
    /// The survivor of worker and guard knows of the other's end; kept only where both may be killed.
    pub(super) heard: bool,
}

/// A step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Worker(Event<u8>),
    Guard(Event<u8>),
    /// The same, but who did it was killed before the second of two messages.
    WorkerHalf(Event<u8>),
    GuardHalf(Event<u8>),
    /// Seen by nobody; whose process it is, if it is one's.
    Hidden(&'static str, u8),
    /// The same, but it may as well never happen: deaths, births, work of one's own.
    Perhaps(&'static str, u8),
}

/// No process in particular.
pub(super) const NO: u8 = u8::MAX;

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(event) => write!(f, "worker: {event}"),
            Self::Guard(event) => write!(f, "guard: {event}"),
            Self::WorkerHalf(event) => write!(f, "worker: {event}, and is killed halfway"),
            Self::GuardHalf(event) => write!(f, "guard: {event}, and is killed halfway"),
            Self::Hidden(what, NO) | Self::Perhaps(what, NO) => f.write_str(what),
            Self::Hidden(what, at) | Self::Perhaps(what, at) => write!(f, "process {at}: {what}"),
        }
    }
}

pub(super) type Steps = Vec<(Label, State)>;

impl State {
    pub(super) fn first(setup: &Setup) -> Self {
        let mut state = Self {
            processes: [Process::default(); SLOTS],
            at: At::Idle,
            worker: Actor::Alive,
            guard: if setup.has(Mutant::NoGuard) {
                Actor::Gone
            } else {
                Actor::Alive
            },
            link: Link::Up,
            inbox_done: false,
            inbox_phase: None,
            inbox_stop: false,
            noted: None,
            noted_end: End::None,
            noted_bereft: 0,
            noted_faults: false,
            by_guard: false,
            new_code: false,
            new_used: false,
            old_used: false,
            finished_twice: false,
            swap: Swap::Idle,
            faults: false,
            seen: false,
            bereft: 0,
            forgiven: 0,
            owed: 0,
            round: 0,
            scans: 0,
            attempt: 0,
            end: End::None,
            reported: false,
            heard: false,
        };
        for at in 0..SLOTS {
            if at >= setup.roles.len() || setup.newborn(at) {
                state.processes[at].life = Life::Unborn;
            }
        }
        state
    }

    /// Whether the worker is inside a window.
    pub(super) fn in_window(&self) -> bool {
        self.worker == Actor::Alive && !matches!(self.at, At::Idle | At::Stopping)
    }

    /// Whether the guard has taken a window over, or will.
    pub(super) fn guard_has_it(&self) -> bool {
        self.guard == Actor::Alive
            && self.worker != Actor::Alive
            && (self.inbox_phase.is_some() || (self.noted.is_some() && !self.inbox_done))
    }

    /// Whether the swap may still come while somebody has decided without it.
    pub(super) fn decided_before_the_swap(&self) -> bool {
        self.swap == Swap::Asked
            && !matches!(self.at, At::Swapping | At::TakeOver | At::Settle)
            && (self.by_guard || self.in_window() || self.reported)
    }

    pub(super) fn unforgiven(&self, at: usize) -> bool {
        let sup = &self.processes[at];
        let forgiven = if sup.has(FORGIVES) { self.forgiven } else { 0 };
        sup.alive() && !sup.has(SUSPENDED) && self.owed > forgiven
    }

    /// Nothing of a window is going on, and every process has read its mailbox or never will.
    pub(super) fn settled(&self) -> bool {
        let over = match self.worker {
            Actor::Alive => self.at == At::Idle,
            Actor::Killed | Actor::Gone => self.guard != Actor::Alive || self.at == At::Result,
        };
        over && self.inbox_phase.is_none()
            && !(self.inbox_done && self.guard == Actor::Alive)
            && self
                .processes
                .iter()
                .all(|p| !p.alive() || p.mail == 0 || p.has(STUCK))
    }

    /// All flags of all that the worker knew end with it; the guard goes on with what it was told.
    pub(super) fn kill_worker(&self) -> Self {
        let mut next = *self;
        let in_window = self.in_window();
        next.worker = Actor::Killed;
        next.unanswered();
        if let Swap::Answered(_) = next.swap {
            next.swap = Swap::Idle;
        }
        for process in &mut next.processes {
            if in_window && self.inbox_phase.is_none() {
                let told = (process.flags & TOLD) >> GUARDS;
                process.clear(WINDOW);
                process.set(told);
            }
            process.clear(TOLD);
        }
        if in_window && self.inbox_phase.is_none() {
            (next.end, next.bereft, next.faults) = (self.noted_end, self.noted_bereft, self.noted_faults);
        }
        (next.noted_end, next.noted_bereft, next.noted_faults) = (End::None, 0, false);
        (next.round, next.scans, next.seen) = (0, 0, false);
        next.at = At::Nobody;
        next
    }

    pub(super) fn kill_guard(&self) -> Self {
        let mut next = *self;
        next.guard = Actor::Killed;
        (next.inbox_done, next.inbox_phase, next.inbox_stop) = (false, None, false);
        (next.noted, next.noted_end, next.noted_bereft, next.noted_faults) = (None, End::None, 0, false);
        for process in &mut next.processes {
            process.clear(TOLD);
        }
        if self.worker != Actor::Alive {
            next.unanswered();
            next.by_guard = false;
            next.at = At::Nobody;
        }
        next
    }

    /// Who runs the window, killed.
    pub(super) fn kill_runner(&self) -> Self {
        if self.by_guard {
            self.kill_guard()
        } else {
            self.kill_worker()
        }
    }

    pub(super) fn kills(&self) -> u8 {
        u8::from(self.worker == Actor::Killed) + u8::from(self.guard == Actor::Killed)
    }

    /// Nobody waits for what is still on the way.
    pub(super) fn unanswered(&mut self) {
        for process in &mut self.processes {
            process.mail &= NOBODY_WAITS;
            (process.todo, process.sent, process.ok, process.bad) = (0, 0, 0, 0);
        }
    }

    /// A new round of requests, so many to each process that `to` names.
    pub(super) fn requests(&mut self, at: At, to: impl Fn(usize, &Process) -> u8) {
        self.unanswered();
        self.at = at;
        for (index, process) in self.processes.iter_mut().enumerate() {
            process.todo = to(index, process);
            process.clear(MEMBER);
            if process.todo > 0 {
                process.set(MEMBER);
            }
        }
    }

    pub(super) fn freeze(&mut self, setup: &Setup, group: Group) {
        self.round = 1;
        self.requests(At::Freeze(group), |at, process| {
            match (group, setup.roles.get(at)) {
                (Group::Sups, Some(Role::Supervisor)) => 1,
                (Group::Targets, Some(Role::Target { .. } | Role::Newborn { .. } | Role::InPart))
                    if process.has(IN) =>
                {
                    1
                }
                (Group::Born, Some(Role::Newborn { .. }))
                    if process.has(IN) && !process.has(FROZEN | DIED) =>
                {
                    1
                }
                _ => 0,
            }
        });
    }

    pub(super) fn thaw(&mut self, setup: &Setup, who: Who) {
        self.requests(At::Thaw(who), |at, process| {
            let sup = at < setup.roles.len() && setup.is(at, Role::Supervisor);
            let meant = match who {
                Who::All => true,
                Who::Others => !sup,
                Who::Sups => sup,
            };
            u8::from(meant && process.has(FROZEN) && !process.has(DIED | ENDED))
        });
    }

    pub(super) fn migrate(&mut self, setup: &Setup) {
        if self.by_guard && setup.roles.contains(&Role::InPart) && !setup.has(Mutant::AsksAgain) {
            self.requests(At::AskedBefore, |at, process| {
                let in_part = setup.roles.get(at) == Some(&Role::InPart);
                u8::from(in_part && process.has(IN) && !process.has(DIED | ANSWERED))
            });
            for process in self.processes.iter_mut().filter(|process| process.has(ANSWERED)) {
                (process.ok, process.bad) = (u8::from(!process.has(REFUSED)), u8::from(process.has(REFUSED)));
            }
        } else {
            self.ask(setup);
        }
    }

    /// Whoever has not answered the guard.
    pub(super) fn ask(&mut self, setup: &Setup) {
        self.requests(At::Migrate, |at, process| {
            let forgotten = setup.has(Mutant::AsksAgain);
            if process.has(IN) && !process.has(DIED | FAILED) && (forgotten || !process.has(ANSWERED)) {
                setup.asks(at)
            } else {
                0
            }
        });
    }

    pub(super) fn abandon(&mut self, cause: Cause) {
        self.unanswered();
        self.at = At::Abandon(cause);
    }

    pub(super) fn in_flight(&self) -> u8 {
        self.processes.iter().map(|p| p.sent + p.ok + p.bad).sum()
    }

    pub(super) fn end_process(&mut self, setup: &Setup, at: usize) {
        let linked = self.processes[at].alive()
            && (0..setup.roles.len())
                .any(|sup| setup.is(sup, Role::Supervisor) && self.processes[sup].alive());
        self.processes[at].end(Life::Ended);
        self.processes[at].set(ENDED | FAILED);
        if linked {
            self.owed += 1;
            self.bereft += 1;
        }
    }

    /// Everything that can happen next.
    pub(super) fn steps(&self, setup: &Setup, out: &mut Steps) {
        self.environment(setup, out);
        self.guards_mailbox(out);
        if self.worker == Actor::Alive || self.by_guard {
            Run {
                setup,
                from: self,
                out,
            }
            .steps();
        }
    }

    // --- processes, code server, driver, killers ---

    fn environment(&self, setup: &Setup, out: &mut Steps) {
        for at in 0..setup.roles.len() {
            self.process(setup, at, out);
        }
        let step = |out: &mut Steps, label, change: &dyn Fn(&mut Self)| {
            let mut next = *self;
            change(&mut next);
            out.push((label, next));
        };
        if self.swap == Swap::Asked {
            let answer = |next: &mut Self, ok| {
                next.swap = if next.at == At::Swapping {
                    Swap::Answered(ok)
                } else {
                    Swap::Idle
                };
            };
            step(out, Label::Hidden("the code server swaps", NO), &|next| {
                next.finished_twice |= next.new_used;
                next.new_used = true;
                next.new_code = true;
                answer(next, true);
            });
            step(out, Label::Hidden("the code server refuses", NO), &|next| {
                answer(next, false)
            });
        }
        if setup.deaths && self.link == Link::Up {
            step(out, Label::Perhaps("the driver dies", NO), &|next| {
                next.link = Link::DriverDead
            });
            step(out, Label::Perhaps("the connection is lost", NO), &|next| {
                next.link = Link::ConnectionLost
            });
        }
        if self.kills() < setup.kills {
            if self.worker == Actor::Alive {
                out.push((Label::Perhaps("the worker is killed", NO), self.kill_worker()));
                if self.guard == Actor::Alive && self.noted.is_some() && self.in_window() {
                    out.push((
                        Label::Perhaps("the guard's deadline kills the worker", NO),
                        self.kill_worker(),
                    ));
                }
            }
            if self.guard == Actor::Alive {
                out.push((Label::Perhaps("the guard is killed", NO), self.kill_guard()));
            }
        }
    }

    fn process(&self, setup: &Setup, at: usize, out: &mut Steps) {
        let process = self.processes[at];
        let mut step =
            |label: fn(&'static str, u8) -> Label, what, change: &dyn Fn(&mut Self, &mut Process)| {
                let (mut next, mut one) = (*self, process);
                change(&mut next, &mut one);
                next.processes[at] = one;
                out.push((label(what, at as u8), next));
            };
        if process.life == Life::Unborn {
            step(Label::Perhaps, "is born", &|next, one| {
                one.life = Life::Alive;
                one.shape = if next.new_code { Shape::New } else { Shape::Old };
            });
            return;
        }
        if !process.alive() {
            return;
        }
        if setup.deaths {
            step(Label::Perhaps, "dies", &|_, one| one.end(Life::Died));
        }
        if process.has(STUCK) {
            return;
        }
        if !process.has(SUSPENDED | WORKED) && process.stash.is_some() && setup.target(at) {
            step(Label::Perhaps, "handles a message of its own", &|_, one| {
                one.set(WORKED)
            });
        }
        if process.mail == 0 {
            return;
        }
        let mut hidden = |what, change: &dyn Fn(&mut Self, &mut Process)| step(Label::Hidden, what, change);
        let reply = process.mail & REPLY != 0;
        let read = |one: &mut Process, ok: bool| {
            one.mail >>= 4;
            if reply {
                one.sent -= 1;
                if ok { one.ok += 1 } else { one.bad += 1 }
            }
        };
        match process.mail & 7 {
            1 => hidden("reads suspend", &|_, one| {
                read(one, true);
                one.set(SUSPENDED);
            }),
            2 => {
                let stash = |one: &mut Process, ok| {
                    read(one, ok);
                    one.stash = Some(one.shape);
                    one.clear(WORKED);
                    if setup.is(at, Role::Supervisor) {
                        one.set(FORGIVES);
                    }
                };
                hidden("keeps its state", &|_, one| stash(one, true));
                if reply {
                    hidden("keeps its state and fails the rehearsal", &|_, one| {
                        stash(one, false)
                    });
                }
            }
            3 => hidden("reads resume", &|_, one| {
                read(one, true);
                one.clear(SUSPENDED);
            }),
            4 => hidden("drops its stash", &|_, one| {
                read(one, true);
                one.stash = None;
                one.clear(WORKED);
            }),
            5 => {
                let asks = setup.asks(at);
                let in_part = setup.is(at, Role::InPart);
                let answer = |one: &mut Process, ok| {
                    read(one, ok);
                    if in_part {
                        one.set(if ok { ANSWERED } else { ANSWERED | REFUSED });
                    }
                };
                if in_part && reply && !self.by_guard && self.guard != Actor::Alive {
                    hidden("migrates, and its answer is lost with the guard", &|_, one| {
                        one.mail >>= 4;
                        one.shape = Shape::New;
                        one.asked += 1;
                    });
                    hidden(
                        "fails to migrate, and its answer is lost with the guard",
                        &|_, one| {
                            one.mail >>= 4;
                        },
                    );
                }
                hidden("migrates", &|next, one| {
                    answer(one, true);
                    one.asked += 1;
                    if one.asked > asks {
                        one.set(TWICE);
                        one.asked = asks;
                        one.shape = Shape::Other;
                    } else if !next.new_code || one.shape == Shape::Other {
                        one.shape = Shape::Other;
                    } else if one.asked == asks {
                        one.shape = Shape::New;
                    }
                });
                hidden("fails to migrate", &|_, one| answer(one, false));
                hidden("never returns from its code_change", &|_, one| one.set(STUCK));
            }
            6 if setup.is(at, Role::InPart) => hidden("gets a part of its state back", &|_, one| {
                read(one, true);
                if one.stash.is_some_and(|kept| kept != one.shape) {
                    one.shape = Shape::Other;
                }
            }),
            6 => hidden("gets its state back", &|_, one| {
                read(one, true);
                if let Some(kept) = one.stash {
                    if one.has(WORKED) {
                        one.set(LOST);
                    }
                    one.clear(WORKED);
                    one.shape = kept;
                    one.asked = 0;
                }
            }),
            // Sent behind a look at its state, whose word comes with the answer.
            _ => hidden("answers a knock", &|_, one| read(one, !one.has(WORKED))),
        }
    }

    // --- the guard's loop ---

    fn guards_mailbox(&self, out: &mut Steps) {
        if self.guard != Actor::Alive || self.by_guard {
            return;
        }
        let mut next = *self;
        if self.inbox_done {
            next.inbox_done = false;
            next.noted = None;
            (next.noted_end, next.noted_bereft, next.noted_faults) = (End::None, 0, false);
            for process in &mut next.processes {
                process.clear(TOLD);
            }
            out.push((Label::Hidden("the guard takes the report", NO), next));
        } else if let Some(phase) = self.inbox_phase {
            next.inbox_phase = None;
            next.noted = Some(phase);
            if self.worker == Actor::Alive {
                (next.noted_end, next.noted_bereft, next.noted_faults) = (self.end, self.bereft, self.faults);
                for process in &mut next.processes {
                    process.clear(TOLD);
                    let known = process.flags & KNOWN;
                    process.set(known << GUARDS);
                }
            }
            out.push((Label::Guard(Event::Noted(phase)), next));
        } else if self.inbox_stop {
            next.inbox_stop = false;
            next.guard = Actor::Gone;
            out.push((Label::Guard(Event::Stop), next));
        } else if self.worker != Actor::Alive {
            if self.at == At::Result {
                next.guard = Actor::Gone;
                out.push((
                    Label::Hidden("the guard's time to live is over, or it gives way", NO),
                    next,
                ));
            } else if self.noted.is_some() {
                next.by_guard = true;
                next.at = At::TakeOver;
                out.push((Label::Hidden("the guard hears that the worker is gone", NO), next));
            } else {
                next.at = At::Result;
                out.push((Label::Hidden("the guard hears that the worker is gone", NO), next));
            }
        }
    }
}

impl State {
    /// Whoever lives and has not answered is OUT, and its answers are waited for no more: so many are `bad`.
    pub(super) fn given_up(&mut self, setup: &Setup) {
        for process in &mut self.processes {
            if process.alive() && process.pending() {
                process.set(OUT);
                process.mail &= NOBODY_WAITS;
                process.bad += process.sent + process.ok;
                (process.sent, process.ok) = (0, 0);
            } else if process.sent > 0 {
                process.sent = 0;
                process.set(DIED);
            }
            if setup.has(Mutant::SkipsThoseBehind) {
                process.todo = 0;
            }
        }
    }

    /// Whoever is OUT is ended; the worker tells the guard before.
    pub(super) fn end_the_out(&mut self, setup: &Setup, phase: Phase, end: End) {
        self.at = if self.by_guard || setup.has(Mutant::EndsUntold) {
            At::Ending(end)
        } else {
            At::Tell(phase)
        };
    }

    /// Who is there, affected, and in no list.
    pub(super) fn name_the_born(&mut self, setup: &Setup) {
        for at in 0..setup.roles.len() {
            if setup.newborn(at) && self.processes[at].alive() && !self.processes[at].has(IN) {
                self.processes[at].set(LATE);
            }
        }
    }

    /// The worker tells the guard before it thaws; the guard has nobody to tell.
    pub(super) fn over(&mut self, setup: &Setup, end: End) {
        self.end = end;
        if self.by_guard {
            self.thaw(setup, Who::Others);
        } else {
            self.at = At::Tell(Phase::Thawing);
        }
    }
}

//! The window, run by the worker, or by the guard in its place: the functions of flyhot_agent.erl from to_swap on.

use super::machine::{
    ANSWERED, Actor, Ask, At, DIED, ENDED, End, FAILED, FORGIVES, FROZEN, Group, HELD, IN, Label, Life, Link,
    MEMBER, Mutant, NO, NOBODY_WAITS, OUT, Process, REFUSED, Role, Setup, State, Steps, Swap, UNRESUMED,
    WINDOW, Who,
};
use super::trace::{Cause, Event, Phase};

/// The steps of whoever runs the window.
pub(super) struct Run<'a> {
    pub(super) setup: &'a Setup,
    pub(super) from: &'a State,
    pub(super) out: &'a mut Steps,
}

impl Run<'_> {
    fn event(&mut self, event: Event<u8>, change: impl FnOnce(&mut State)) {
        let mut next = *self.from;
        change(&mut next);
        let label = if self.from.by_guard {
            Label::Guard(event)
        } else {
            Label::Worker(event)
        };
        self.out.push((label, next));
    }

    fn hidden(&mut self, what: &'static str, change: impl FnOnce(&mut State)) {
        let mut next = *self.from;
        change(&mut next);
        self.out.push((Label::Hidden(what, NO), next));
    }

    /// Sends messages; who sends may be killed between two of them.
    fn send(&mut self, at: usize, event: Event<u8>, asks: &[Ask], reply: bool, change: impl Fn(&mut State)) {
        let last = asks.len() - 1;
        self.event(event, |next| {
            for (index, ask) in asks.iter().enumerate() {
                next.processes[at].push(*ask, reply && index == last);
            }
            change(next);
        });
        for sent in 1..asks.len() {
            if self.from.kills() >= self.setup.kills {
                return;
            }
            let mut next = self.from.kill_runner();
            asks[..sent]
                .iter()
                .for_each(|ask| next.processes[at].push(*ask, false));
            let label = if self.from.by_guard {
                Label::GuardHalf(event)
            } else {
                Label::WorkerHalf(event)
            };
            self.out.push((label, next));
        }
    }

    /// The first process that has something to be sent, if there is room.
    fn unsent(&self) -> Option<usize> {
        let first = self.from.processes.iter().position(|process| process.todo > 0)?;
        (self.from.in_flight() < self.setup.limit).then_some(first)
    }

    fn finished(&self) -> bool {
        self.from
            .processes
            .iter()
            .all(|process| process.todo == 0 && !process.pending())
    }

    /// Every process that will not answer because it is dead.
    fn bury(&mut self) {
        for at in 0..self.setup.roles.len() {
            let process = self.from.processes[at];
            if process.sent > 0 && !process.alive() {
                self.hidden("a dead process is given up", |next| {
                    next.processes[at].sent = 0;
                    next.processes[at].set(DIED);
                });
            }
        }
    }

    /// Everything that may be done next.
    pub(super) fn steps(&mut self) {
        let from = self.from;
        let setup = self.setup;
        match from.at {
            At::Idle => self.idle(),
            At::Stopping => {
                if from.guard != Actor::Alive {
                    self.hidden("the worker takes itself off", |next| next.worker = Actor::Gone);
                }
            }
            At::Begin => {
                for cause in [Cause::Newborn, Cause::CodeServer] {
                    self.hidden("given up before anything is frozen", |next| next.abandon(cause));
                }
                self.hidden("the window begins", |next| next.at = At::Tell(Phase::Freezing));
            }
            At::Tell(phase) => self.tell(phase),
            At::Noting(phase) => self.noting(phase),
            At::Freeze(group) => self.freezing(group),
            At::Scan => self.scan(),
            At::Ready => {
                for cause in [
                    Cause::CodeMoved,
                    Cause::CodeServer,
                    Cause::Rehearsal,
                    Cause::Budget,
                ] {
                    self.hidden("given up before the swap", |next| next.abandon(cause));
                }
                if from.link != Link::Up {
                    self.hidden("the driver is gone", |next| next.abandon(Cause::DriverGone));
                }
                self.hidden("ready to swap", |next| next.at = At::Tell(Phase::Swapping));
            }
            At::LastLook => {
                let born = self.unforeseen().next().is_some();
                if born || setup.others {
                    self.hidden("somebody was born", |next| next.abandon(Cause::Newborn));
                }
                if !born {
                    self.event(Event::Swap, |next| {
                        next.at = At::Swapping;
                        next.swap = Swap::Asked;
                    });
                }
            }
            At::Swapping => {
                if let Swap::Answered(ok) = from.swap {
                    self.event(Event::Swapped(ok), |next| {
                        next.swap = Swap::Idle;
                        if next.by_guard {
                            next.migrate(setup);
                        } else if ok {
                            next.at = At::Swapped;
                        } else {
                            next.abandon(Cause::SwapRefused);
                        }
                    });
                }
            }
            At::Swapped => {
                self.hidden("a last look for newborns", |next| {
                    next.name_the_born(setup);
                    next.migrate(setup);
                });
            }
            At::AskedBefore => self.asked_before(),
            At::Migrate => self.migrating(),
            At::Silent => match from.processes.iter().position(|process| process.has(OUT)) {
                Some(at) => self.event(Event::Migrated(at as u8, false), |next| {
                    next.processes[at].bad -= 1;
                    if next.processes[at].bad == 0 {
                        next.processes[at].clear(OUT);
                    }
                }),
                None => self.hidden("the silent are given up", |next| next.at = At::Migrate),
            },
            At::Prove(at) => self.prove(at as usize),
            At::Proving(at) => self.proving(at as usize),
            At::Asking(at) => self.asking(at as usize),
            At::Judge => {
                if from.faults {
                    if !from.seen && !setup.roles.contains(&Role::InPart) {
                        self.hidden("to undo, if there is a way back", |next| {
                            next.at = if next.by_guard {
                                At::Undo
                            } else {
                                At::Tell(Phase::Undoing)
                            };
                        });
                    }
                    self.hidden("no way back, or the world has seen it", |next| {
                        next.at = At::Degrade
                    });
                } else {
                    self.hidden("all went well", |next| {
                        next.over(setup, End::Upgraded);
                    });
                }
            }
            At::Undo => {
                self.hidden("the old code cannot be purged in time", |next| {
                    next.at = At::Degrade
                });
                self.event(Event::Back, |next| {
                    if next.old_used {
                        next.at = At::Degrade;
                    } else {
                        next.old_used = true;
                        next.new_code = false;
                        if !setup.has(Mutant::BackOverlooksTheBorn) {
                            next.name_the_born(setup);
                        }
                        next.at = At::PutBack;
                    }
                });
            }
            At::PutBack => self.put_back(),
            At::PuttingBack => self.putting_back(),
            At::Ending(end) => self.ending(end),
            At::Degrade => self.hidden("the failed are ended", |next| {
                for process in &mut next.processes {
                    if process.has(FAILED) {
                        process.set(OUT);
                    }
                }
                next.end_the_out(setup, Phase::Degrading, End::Degraded);
            }),
            At::Thaw(who) => self.thawing(who),
            At::Forgive => self.hidden("supervisors forgive", |next| {
                next.forgiven = next.bereft;
                for at in 0..setup.roles.len() {
                    if setup.is(at, Role::Supervisor) && next.bereft > 0 && !next.processes[at].has(FORGIVES)
                    {
                        next.processes[at].push(Ask::Stash, false);
                    }
                }
                next.thaw(setup, Who::Sups);
            }),
            At::Aftermath => self.hidden("the aftermath is looked at", |next| {
                let any = next.processes.iter().any(|process| process.has(ENDED | DIED)) || next.bereft > 0;
                for at in 0..setup.roles.len() {
                    if any && setup.is(at, Role::Supervisor) && next.bereft > 0 {
                        next.processes[at].push(Ask::Drop, false);
                    }
                    let process = &mut next.processes[at];
                    if any && setup.target(at) && process.has(IN) && !process.alive() && !process.has(ENDED) {
                        process.set(DIED);
                    }
                }
                next.at = At::Done;
            }),
            At::Abandon(cause) => self.event(Event::Abandon(cause), |next| next.at = At::LetGo),
            At::LetGo => self.let_go(),
            At::Done => self.event(Event::Done, |next| {
                next.unanswered();
                next.reported = true;
                for process in &mut next.processes {
                    process.clear(FROZEN | MEMBER | HELD | OUT);
                }
                if next.by_guard {
                    next.by_guard = false;
                    next.noted = None;
                    next.at = At::Result;
                } else {
                    next.inbox_done = next.guard == Actor::Alive;
                    next.at = At::Idle;
                }
            }),
            At::TakeOver => self.take_over(),
            At::Settle => self.settle(),
            At::Result | At::Nobody => {}
        }
    }

    fn idle(&mut self) {
        let from = self.from;
        let again = from.attempt == 0 || (from.reported && from.end == End::Abandoned);
        if from.guard != Actor::Alive && !self.setup.has(Mutant::NoGuard) {
            self.hidden("the worker hears that the guard is gone", |next| {
                next.at = At::Stopping
            });
        }
        let reads = from.processes.iter().all(Process::reads);
        if from.link == Link::Up && again && reads && from.attempt < self.setup.attempts {
            let setup = self.setup;
            self.hidden("a window is asked for", |next| {
                next.attempt += 1;
                next.at = At::Begin;
                next.reported = false;
                next.end = End::None;
                (next.faults, next.seen, next.bereft, next.scans) = (false, false, 0, 0);
                (next.new_used, next.old_used) = (false, false);
                for at in 0..setup.roles.len() {
                    next.processes[at].clear(WINDOW | ANSWERED | REFUSED);
                    if setup.target(at) && next.processes[at].life != Life::Unborn {
                        next.processes[at].set(IN);
                    }
                }
            });
        }
        self.hidden("finish, or the time to live is over", |next| {
            next.inbox_stop = next.guard == Actor::Alive;
            next.at = At::Stopping;
        });
    }

    fn tell(&mut self, phase: Phase) {
        self.event(Event::Phase(phase), |next| {
            if next.guard == Actor::Alive {
                next.inbox_phase = Some(phase);
            }
            next.at = At::Noting(phase);
        });
    }

    fn noting(&mut self, phase: Phase) {
        let setup = self.setup;
        let noted = self.from.guard == Actor::Alive && self.from.inbox_phase.is_none();
        if noted
            || self.from.guard != Actor::Alive
                && (setup.has(Mutant::NoGuard) || !matches!(phase, Phase::Freezing | Phase::Swapping))
        {
            self.hidden("goes on", |next| {
                next.heard |= setup.kills > 1 && next.guard == Actor::Killed;
                match phase {
                    Phase::Freezing if next.scans == 0 => next.freeze(setup, Group::Sups),
                    Phase::Freezing => next.freeze(setup, Group::Born),
                    Phase::Swapping => next.at = At::LastLook,
                    Phase::Proving => next.at = At::Prove(0),
                    // Told once more when the old code is back and somebody is ended.
                    Phase::Undoing if next.new_code => next.at = At::Undo,
                    Phase::Undoing => next.at = At::Ending(End::Reverted),
                    Phase::Degrading => next.at = At::Ending(End::Degraded),
                    Phase::Thawing => next.thaw(setup, Who::Others),
                }
            });
        }
        if self.from.guard != Actor::Alive
            && matches!(phase, Phase::Freezing | Phase::Swapping)
            && !setup.has(Mutant::NoGuard)
        {
            self.hidden("the guard is gone", |next| {
                next.heard |= setup.kills > 1;
                next.abandon(Cause::GuardDied);
            });
        }
    }

    fn freezing(&mut self, group: Group) {
        let (from, setup) = (self.from, self.setup);
        if let Some(at) = self.unsent() {
            let migrates = setup.asks(at) > 0;
            let asks: &[Ask] = if migrates {
                &[Ask::Suspend, Ask::Stash]
            } else {
                &[Ask::Suspend]
            };
            self.send(at, Event::Suspend(at as u8), asks, true, |next| {
                next.processes[at].todo -= 1;
                next.processes[at].sent += 1;
            });
        }
        for at in 0..setup.roles.len() {
            let process = from.processes[at];
            if process.ok + process.bad > 0 {
                let take = |next: &mut State| {
                    next.faults |= process.bad > 0;
                    (next.processes[at].ok, next.processes[at].bad) = (0, 0);
                    next.processes[at].set(FROZEN);
                };
                self.event(Event::Frozen(at as u8), take);
                // Past the deadline: whoever this round was for is let go, asked or not.
                self.hidden("an answer comes too late", |next| {
                    take(next);
                    for process in &mut next.processes {
                        if process.has(MEMBER) {
                            process.set(OUT);
                        }
                    }
                    next.abandon(Cause::Budget);
                });
            }
        }
        let any_member = from.processes.iter().any(|process| process.has(MEMBER));
        if setup.others && any_member {
            self.hidden("the answer of another comes too late", |next| {
                for process in &mut next.processes {
                    if process.has(MEMBER) {
                        process.set(OUT);
                    }
                }
                next.abandon(Cause::Budget);
            });
        }
        self.bury();
        let pending = from
            .processes
            .iter()
            .any(|process| process.alive() && process.pending());
        if pending || setup.others {
            self.hidden("the budget is gone", |next| {
                for process in &mut next.processes {
                    if process.alive() && process.pending() {
                        process.set(OUT);
                    }
                }
                next.abandon(Cause::Budget);
            });
            for at in 0..setup.roles.len() {
                if from.processes[at].has(FROZEN) {
                    self.release(at, false, |next| {
                        next.processes[at].clear(FROZEN);
                        next.processes[at].set(HELD);
                    });
                }
            }
        }
        if self.finished() {
            let held = from.processes.iter().any(|process| process.has(HELD));
            if from.faults || setup.others {
                self.hidden("a rehearsal failed", |next| next.abandon(Cause::Rehearsal));
            }
            if from.faults {
                return;
            }
            if held && from.round >= setup.rounds {
                self.hidden("calls never come to rest", |next| next.abandon(Cause::Budget));
            } else if held {
                self.hidden("who was let go is frozen again", |next| {
                    next.round += 1;
                    next.requests(At::Freeze(group), |_, process| u8::from(process.has(HELD)));
                    for process in &mut next.processes {
                        process.clear(HELD);
                    }
                });
            } else {
                if setup.others && from.round < setup.rounds {
                    self.hidden("others are frozen again", |next| next.round += 1);
                }
                self.hidden("all are frozen", |next| match group {
                    Group::Sups => next.freeze(setup, Group::Targets),
                    Group::Targets | Group::Born => next.at = At::Scan,
                });
            }
        }
    }

    /// Drop and resume.
    fn release(&mut self, at: usize, reply: bool, change: impl Fn(&mut State)) {
        let asks: &[Ask] = if self.setup.asks(at) > 0 {
            &[Ask::Drop, Ask::Resume]
        } else {
            &[Ask::Resume]
        };
        self.send(at, Event::Resume(at as u8), asks, reply, change);
    }

    fn unforeseen(&self) -> impl Iterator<Item = usize> + use<'_> {
        (0..self.setup.roles.len()).filter(|at| {
            let process = &self.from.processes[*at];
            self.setup.newborn(*at) && process.alive() && !process.has(IN)
        })
    }

    fn scan(&mut self) {
        let born: Vec<_> = self.unforeseen().collect();
        if !born.is_empty() || self.setup.others {
            self.hidden("a newborn nobody can place", |next| next.abandon(Cause::Newborn));
            if self.from.scans < 3 {
                self.hidden("a newborn", |next| {
                    for at in &born {
                        next.processes[*at].set(IN);
                    }
                    next.scans += 1;
                    next.at = At::Tell(Phase::Freezing);
                });
            }
        }
        if born.is_empty() {
            self.hidden("no newborn", |next| next.at = At::Ready);
        }
    }

    fn let_go(&mut self) {
        let setup = self.setup;
        match self.from.processes.iter().position(|process| process.has(OUT)) {
            Some(at) if !setup.has(Mutant::NoResumeBehind) => {
                self.release(at, false, |next| next.processes[at].clear(OUT))
            }
            _ => self.hidden("whoever is frozen is thawed", |next| {
                next.end = End::Abandoned;
                next.thaw(setup, Who::All);
            }),
        }
    }

    /// Who was asked has answered the guard before it answers a knock.
    fn asked_before(&mut self) {
        let (from, setup) = (self.from, self.setup);
        if let Some(at) = self.unsent() {
            self.send(at, Event::AskedBefore(at as u8), &[Ask::Knock], true, |next| {
                next.processes[at].todo -= 1;
                next.processes[at].sent += 1;
            });
        }
        for at in 0..setup.roles.len() {
            let process = from.processes[at];
            let failed = |next: &mut State| {
                next.faults = true;
                next.processes[at].set(FAILED);
            };
            let over = |next: &mut State| {
                next.processes[at].mail &= NOBODY_WAITS;
                (
                    next.processes[at].sent,
                    next.processes[at].ok,
                    next.processes[at].bad,
                ) = (0, 0, 0);
            };
            if process.ok + process.bad > 0 {
                match (process.has(ANSWERED), process.has(REFUSED)) {
                    (false, _) => self.hidden("it was not asked", over),
                    (true, refused) => self.event(Event::Migrated(at as u8, !refused), |next| {
                        over(next);
                        if refused {
                            failed(next);
                        }
                    }),
                }
            } else if process.alive() && process.pending() {
                self.event(Event::Migrated(at as u8, false), |next| {
                    over(next);
                    failed(next);
                });
            }
        }
        self.bury();
        if self.finished() {
            self.hidden("the others are asked", |next| next.ask(setup));
        }
    }

    fn migrating(&mut self) {
        let (from, setup) = (self.from, self.setup);
        if let Some(at) = self.unsent() {
            let given_back = !setup.is(at, Role::InPart) || setup.has(Mutant::AsksAgain);
            let first = from.by_guard && given_back && from.processes[at].todo == setup.asks(at);
            let asks: &[Ask] = if first {
                &[Ask::Restore, Ask::Change]
            } else {
                &[Ask::Change]
            };
            self.send(at, Event::Migrate(at as u8), asks, true, |next| {
                next.processes[at].todo -= 1;
                next.processes[at].sent += 1;
            });
        }
        for at in 0..setup.roles.len() {
            let process = from.processes[at];
            if process.ok > 0 {
                self.event(Event::Migrated(at as u8, true), |next| next.processes[at].ok -= 1);
            }
            if process.bad > 0 {
                self.event(Event::Migrated(at as u8, false), |next| {
                    next.processes[at].bad -= 1;
                    next.processes[at].set(FAILED);
                    next.faults = true;
                });
            }
        }
        if from
            .processes
            .iter()
            .any(|process| process.alive() && process.pending())
        {
            self.hidden("code_changes do not return", |next| {
                next.faults = true;
                next.given_up(setup);
                for process in next.processes.iter_mut().filter(|process| process.has(OUT)) {
                    process.set(FAILED);
                }
                next.at = At::Silent;
            });
        }
        self.bury();
        if setup.others && !from.faults {
            self.hidden("another failed to migrate", |next| next.faults = true);
        }
        if self.finished() {
            self.hidden("all have answered or were given up", |next| {
                next.at = match (next.faults, next.by_guard) {
                    (true, _) => At::Judge,
                    (false, true) => At::Prove(0),
                    (false, false) => At::Tell(Phase::Proving),
                };
            });
        }
    }

    fn prove(&mut self, at: usize) {
        if at >= self.setup.roles.len() {
            if self.setup.others {
                self.hidden("another failed the proof", |next| {
                    next.faults = true;
                    next.at = At::Judge;
                });
            }
            self.hidden("proven", |next| next.at = At::Judge);
            return;
        }
        let process = self.from.processes[at];
        self.hidden("not the one of its kind", |next| {
            next.at = At::Prove(at as u8 + 1)
        });
        if self.setup.target(at)
            && process.has(IN)
            && !process.has(DIED)
            && process.alive()
            && process.mail == 0
        {
            // Who migrated is asked to mark its state first.
            let asks: &[Ask] = if self.setup.asks(at) > 0 {
                &[Ask::Knock, Ask::Resume, Ask::Suspend]
            } else {
                &[Ask::Resume, Ask::Suspend]
            };
            self.send(at, Event::Prove(at as u8), asks, true, |next| {
                next.processes[at].sent = 1;
                next.at = At::Proving(at as u8);
            });
        }
    }

    fn proving(&mut self, at: usize) {
        let setup = self.setup;
        if self.from.processes[at].ok > 0 {
            self.event(Event::Proven(at as u8, true), |next| {
                next.unanswered();
                if setup.asks(at) > 0 && !setup.has(Mutant::ProvesUnasked) {
                    next.processes[at].push(Ask::Knock, true);
                    next.processes[at].sent = 1;
                    next.at = At::Asking(at as u8);
                } else {
                    next.at = At::Prove(at as u8 + 1);
                }
            });
        } else {
            // Dead, or not back in time.
            self.event(Event::Proven(at as u8, false), |next| {
                next.processes[at].set(FAILED);
                next.faults = true;
                next.unanswered();
                // Nobody but the worker knows yet: the proof is over.
                next.at = At::Prove(setup.roles.len() as u8);
            });
        }
    }

    fn asking(&mut self, at: usize) {
        let process = self.from.processes[at];
        let what = match (process.ok, process.bad) {
            (1, _) => "has the state that was marked",
            (_, 1) => "has another state than was marked",
            _ => "nobody says whether it went on",
        };
        self.hidden(what, |next| {
            next.seen |= process.ok == 0;
            next.unanswered();
            next.at = At::Prove(at as u8 + 1);
        });
    }

    fn put_back(&mut self) {
        let (from, setup) = (self.from, self.setup);
        let of_it = |at: usize| {
            at < setup.roles.len() && setup.asks(at) > 0 && {
                let process = &from.processes[at];
                process.has(IN) && !process.has(DIED | ENDED | OUT)
            }
        };
        let out = from.processes.iter().rposition(|process| process.has(OUT));
        for at in out.map_or(0, |last| last + 1)..setup.roles.len() {
            if of_it(at) {
                self.hidden("a process cannot be led back", |next| {
                    next.processes[at].set(OUT | FAILED)
                });
            }
        }
        if out.is_some() || setup.others {
            self.hidden("whoever cannot be led back is ended", |next| {
                next.requests(At::PuttingBack, |at, _| u8::from(of_it(at)));
                next.end_the_out(setup, Phase::Undoing, End::Reverted);
            });
        }
        if out.is_none() {
            self.hidden("states go back", |next| {
                next.requests(At::PuttingBack, |at, _| u8::from(of_it(at)));
            });
        }
    }

    fn putting_back(&mut self) {
        let (from, setup) = (self.from, self.setup);
        if let Some(at) = self.unsent() {
            self.send(
                at,
                Event::PutBack(at as u8),
                &[Ask::Restore, Ask::Knock],
                true,
                |next| {
                    next.processes[at].todo -= 1;
                    next.processes[at].sent += 1;
                },
            );
        }
        for at in 0..setup.roles.len() {
            if from.processes[at].ok + from.processes[at].bad > 0 {
                self.hidden("an old state is back", |next| {
                    (next.processes[at].ok, next.processes[at].bad) = (0, 0);
                });
            }
        }
        self.bury();
        if from
            .processes
            .iter()
            .any(|process| process.alive() && process.pending())
        {
            self.hidden("whoever does not come back is ended", |next| {
                next.given_up(setup);
                for process in next.processes.iter_mut().filter(|process| process.has(OUT)) {
                    process.bad = 0;
                    process.set(FAILED);
                }
                next.end_the_out(setup, Phase::Undoing, End::Reverted);
            });
        }
        if setup.others {
            self.hidden("another does not come back", |next| {
                next.end_the_out(setup, Phase::Undoing, End::Reverted);
            });
        }
        if self.finished() {
            self.hidden("all states are back", |next| {
                for process in &mut next.processes {
                    if process.has(FAILED) && !process.alive() {
                        process.set(ENDED);
                    }
                }
                next.over(setup, End::Reverted);
            });
        }
    }

    fn ending(&mut self, end: End) {
        let setup = self.setup;
        match self.from.processes.iter().position(|process| process.has(OUT)) {
            Some(at) => self.event(Event::Ended(at as u8), |next| {
                next.processes[at].clear(OUT);
                next.end_process(setup, at);
            }),
            None if end == End::Reverted => {
                self.hidden("the others get theirs", |next| next.at = At::PuttingBack);
            }
            None => self.hidden("to thaw", |next| next.over(setup, end)),
        }
    }

    fn thawing(&mut self, who: Who) {
        let (from, setup) = (self.from, self.setup);
        if let Some(at) = self.unsent() {
            self.release(at, true, |next| {
                next.processes[at].todo -= 1;
                next.processes[at].sent += 1;
            });
        }
        for at in 0..setup.roles.len() {
            if from.processes[at].ok > 0 {
                self.event(Event::Thawed(at as u8), |next| next.processes[at].ok = 0);
            }
        }
        self.bury();
        if from
            .processes
            .iter()
            .any(|process| process.alive() && process.pending())
        {
            self.hidden("a resume stays unanswered", |next| {
                for process in &mut next.processes {
                    if process.alive() && process.pending() {
                        (process.sent, process.ok) = (0, 0);
                        process.mail &= NOBODY_WAITS;
                        process.set(UNRESUMED);
                    }
                }
            });
        }
        if self.finished() {
            self.hidden("thawed", |next| {
                next.unanswered();
                next.at = match who {
                    Who::Others => At::Forgive,
                    Who::All | Who::Sups => At::Aftermath,
                };
            });
        }
    }

    fn take_over(&mut self) {
        let setup = self.setup;
        let Some(phase) = self.from.noted else {
            return;
        };
        self.event(Event::TakeOver(phase), |next| {
            next.heard |= setup.kills > 1;
            for at in 0..setup.roles.len() {
                if next.processes[at].has(IN) || setup.is(at, Role::Supervisor) {
                    next.processes[at].set(FROZEN);
                }
            }
            if phase == Phase::Freezing {
                next.end = End::Abandoned;
                next.thaw(setup, Who::All);
            } else {
                next.at = At::Settle;
            }
        });
    }

    /// The code server is asked for its path first, so a swap that is queued is over.
    fn settle(&mut self) {
        let (from, setup) = (self.from, self.setup);
        if from.swap == Swap::Asked {
            return;
        }
        let phase = from.noted;
        if setup.has(Mutant::FinishTwice) && phase == Some(Phase::Swapping) {
            self.event(Event::Swap, |next| {
                next.swap = Swap::Asked;
                next.at = At::Swapping;
            });
            return;
        }
        // Every supervisor is let restart as many as are gone.
        let supervised = setup.roles.contains(&Role::Supervisor);
        let is_gone = |process: &&Process| supervised && process.has(IN) && !process.alive();
        let gone = from.processes.iter().filter(is_gone).count() as u8;
        self.hidden("the guard decides", |next| match (phase, next.new_code) {
            (Some(Phase::Swapping), true) => {
                if !setup.has(Mutant::GuardOverlooksTheLate) {
                    next.name_the_born(setup);
                }
                next.migrate(setup);
            }
            (Some(Phase::Proving), true) => {
                next.end = End::Upgraded;
                next.thaw(setup, Who::Others);
            }
            (Some(Phase::Undoing), true) => {
                next.bereft = gone;
                next.at = At::Undo;
            }
            (Some(Phase::Undoing), false) => {
                next.bereft = gone;
                if !setup.has(Mutant::GuardOverlooksTheBorn) {
                    next.name_the_born(setup);
                }
                next.at = At::PutBack;
            }
            (Some(Phase::Degrading), _) => {
                next.bereft = gone;
                next.at = At::Degrade;
            }
            (Some(Phase::Thawing), _) => next.thaw(setup, Who::Others),
            _ => {
                next.end = End::Abandoned;
                next.thaw(setup, Who::All);
            }
        });
    }
}

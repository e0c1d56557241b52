//! Whether a node is well on the new code, by how it was before.
//!
//! Nothing is well or unwell by itself: a node that logs errors all day passes as long as it logs no more of them, and every limit is
//! what was before, doubled, and something on top for what happens by chance. docs/gate.md says the same for people.

use flyhot_events::{Measured, NodeOutcome, Reason, ReasonCode, Signal, Watched};

use crate::judge;

/// What was counted of a node's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Events of level error and above.
    pub errors: u64,
    /// Crashes.
    pub crashes: u64,
    /// Children that are started again.
    pub restarts: u64,
    /// Crashes by `undef`.
    pub undef: u64,
    /// Crashes by `badfun`.
    pub badfun: u64,
    /// Crashes by `function_clause`.
    pub function_clause: u64,
}

/// What was seen of a node in a span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readings {
    /// How long the log was counted, microseconds.
    pub span_us: u64,
    /// The log, or why it could not be counted.
    pub log: Result<LogCounts, String>,
    /// Processes that waited for a scheduler, the median of the samples.
    pub run_queue: u64,
    /// Schedulers online.
    pub schedulers: u64,
    /// The most memory of any sample, bytes.
    pub memory_most: u64,
    /// The least of the last samples, bytes: garbage that is about to be collected is not what a node needs.
    pub memory_last: u64,
}

impl Readings {
    /// What was seen before, as it stands in an outcome.
    pub fn before(seen: &Watched) -> Self {
        let of = |signal| {
            let mut all = seen.signals.iter();
            all.find(|one| one.signal == signal).and_then(|one| one.before)
        };
        let counts = || {
            Some(LogCounts {
                errors: of(Signal::Errors)?,
                crashes: of(Signal::Crashes)?,
                restarts: of(Signal::Restarts)?,
                undef: of(Signal::Undef)?,
                badfun: of(Signal::Badfun)?,
                function_clause: of(Signal::FunctionClause)?,
            })
        };
        let memory = of(Signal::Memory).unwrap_or_default();
        Self {
            span_us: seen.before_us,
            log: counts().ok_or_else(String::new),
            run_queue: of(Signal::RunQueue).unwrap_or_default(),
            schedulers: 0,
            memory_most: memory,
            memory_last: memory,
        }
    }

    fn log(&self, signal: Signal) -> Option<u64> {
        let counts = self.log.as_ref().ok()?;
        Some(match signal {
            Signal::Errors => counts.errors,
            Signal::Crashes => counts.crashes,
            Signal::Restarts => counts.restarts,
            Signal::Undef => counts.undef,
            Signal::Badfun => counts.badfun,
            Signal::FunctionClause => counts.function_clause,
            Signal::RunQueue | Signal::Memory => return None,
        })
    }
}

/// What is let pass beyond twice what was before, of each signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// In a span as long as that before.
    pub errors: u64,
    /// In a span as long as that before.
    pub crashes: u64,
    /// In a span as long as that before.
    pub restarts: u64,
    /// In a span as long as that before.
    pub undef: u64,
    /// In a span as long as that before.
    pub badfun: u64,
    /// In a span as long as that before.
    pub function_clause: u64,
    /// Waiting processes for each scheduler.
    pub run_queue: u64,
    /// Bytes.
    pub memory: u64,
}

impl Allowed {
    /// What passes without a word of the user's.
    ///
    /// Restarts: a supervisor gives up at its fourth in 5 s unless it was told otherwise (Elixir; Erlang's at its second), so that
    /// three are what it bears. Crashes: as many again of processes that nobody starts anew. Errors: each of these crashes logs up to
    /// three events (what its behaviour says, the crash report, the supervisor's), and two lines more. `undef` and `badfun`: a version
    /// that calls what is gone does so more than once; one of them may be a stranger's request. `function_clause`: strangers' input
    /// does that more often, as often as restarts. Run queue: fifty processes before each on its scheduler, a turn of half a
    /// millisecond or one each, are what a user begins to feel with every message. Memory: both versions of the code of a large
    /// release, and what was staged.
    pub const DEFAULT: Self = Self {
        errors: 20,
        crashes: 6,
        restarts: 3,
        undef: 1,
        badfun: 1,
        function_clause: 3,
        run_queue: 50,
        memory: 64_000_000,
    };

    /// That of one signal, to be set.
    pub fn of_mut(&mut self, signal: Signal) -> &mut u64 {
        match signal {
            Signal::Errors => &mut self.errors,
            Signal::Crashes => &mut self.crashes,
            Signal::Restarts => &mut self.restarts,
            Signal::Undef => &mut self.undef,
            Signal::Badfun => &mut self.badfun,
            Signal::FunctionClause => &mut self.function_clause,
            Signal::RunQueue => &mut self.run_queue,
            Signal::Memory => &mut self.memory,
        }
    }

    /// That of one signal.
    pub fn of(&self, signal: Signal) -> u64 {
        match signal {
            Signal::Errors => self.errors,
            Signal::Crashes => self.crashes,
            Signal::Restarts => self.restarts,
            Signal::Undef => self.undef,
            Signal::Badfun => self.badfun,
            Signal::FunctionClause => self.function_clause,
            Signal::RunQueue => self.run_queue,
            Signal::Memory => self.memory,
        }
    }
}

/// Why a node is not begun: its log cannot be counted.
pub fn blind(before: &Readings) -> Option<Reason> {
    let why = before.log.as_ref().err()?;
    Some(Reason::new(
        ReasonCode::GateBlind,
        "gate",
        format!("errors that the node logs cannot be counted: {why}"),
        "Let the node's logger pass errors, or accept it (--accept gate_blind): then the log is not looked at.",
    ))
}

/// Sets what was seen before against what was seen after.
pub fn watched(before: &Readings, after: &Readings, allowed: &Allowed) -> Watched {
    let measured = |signal| match signal {
        Signal::RunQueue => Measured {
            signal,
            before: Some(before.run_queue),
            after: Some(after.run_queue),
            limit: Some(
                before
                    .run_queue
                    .saturating_mul(2)
                    .saturating_add(allowed.run_queue.saturating_mul(after.schedulers)),
            ),
        },
        Signal::Memory => Measured {
            signal,
            before: Some(before.memory_most),
            after: Some(after.memory_last),
            limit: Some(
                before
                    .memory_most
                    .saturating_mul(2)
                    .saturating_add(allowed.memory),
            ),
        },
        counted => Measured {
            signal,
            before: before.log(counted),
            after: after.log(counted),
            limit: before
                .log(counted)
                .map(|count| most(count, before.span_us.max(1), after.span_us, allowed.of(counted))),
        },
    };
    Watched {
        before_us: before.span_us,
        after_us: after.span_us,
        signals: Signal::ALL.into_iter().map(measured).collect(),
    }
}

/// Twice as often as before, and what is let pass on top: by the square root of the time, as what happens by chance does.
fn most(before: u64, before_us: u64, after_us: u64, allowed: u64) -> u64 {
    let (before, allowed) = (u128::from(before), u128::from(allowed));
    let (then, now) = (u128::from(before_us), u128::from(after_us));
    let twice = (2 * before).saturating_mul(now).div_ceil(then);
    // A shorter one is no stricter: a single crash takes no time.
    let squared = (allowed * allowed).saturating_mul(now.max(then)) / then;
    u64::try_from(twice.saturating_add(squared.isqrt())).unwrap_or(u64::MAX)
}

/// What is against a node by what was seen of it. What could be counted before and cannot any more is against it too.
pub fn against(seen: &Watched) -> Vec<Reason> {
    seen.signals.iter().filter_map(|one| unwell(seen, one)).collect()
}

fn unwell(seen: &Watched, one: &Measured) -> Option<Reason> {
    let (before, limit) = (one.before?, one.limit?);
    let sentence = match one.after {
        Some(after) if after <= limit => return None,
        Some(after) => {
            let seconds = |us: u64| format!("{}.{} s", us / 1_000_000, us / 100_000 % 10);
            let (then, now) = (seconds(seen.before_us), seconds(seen.after_us));
            match one.signal {
                Signal::RunQueue => format!(
                    "{after} processes waited for a scheduler on the new code, {before} before it; up to {limit} pass"
                ),
                Signal::Memory => format!(
                    "the node uses {} MB on the new code, {} MB before it; up to {} MB pass",
                    after / 1_000_000,
                    before / 1_000_000,
                    limit / 1_000_000
                ),
                counted => format!(
                    "{} on the new code: {after} in {now}, {before} in {then} before it; up to {limit} pass",
                    what(counted)
                ),
            }
        }
        None => format!(
            "{} cannot be counted on the new code any more, and could before it",
            what(one.signal)
        ),
    };
    Some(failed(
        one.signal.name(),
        &format!("the gate did not pass: {sentence}"),
    ))
}

fn what(signal: Signal) -> &'static str {
    match signal {
        Signal::Errors => "events of level error and above in the log",
        Signal::Crashes => "crashes of processes",
        Signal::Restarts => "restarts by supervisors",
        Signal::Undef => "crashes by undef, a call of a function that is not there",
        Signal::Badfun => "crashes by badfun, a call of a fun whose code is gone",
        Signal::FunctionClause => "crashes by function_clause, a call that no clause takes",
        Signal::RunQueue => "processes that wait for a scheduler",
        Signal::Memory => "memory",
    }
}

/// Nobody knows how the node is: `why` as the rest of a sentence.
pub fn no_data(why: &str) -> Reason {
    failed(
        "answers",
        &format!("the gate did not pass: the node was to be watched, and there is no data: {why}"),
    )
}

fn failed(subject: &str, sentence: &str) -> Reason {
    Reason::new(
        ReasonCode::GateFailed,
        subject,
        sentence,
        "Look at the node's log and at docs/gate.md, which says how each limit comes about.",
    )
}

/// Adds to an outcome what was seen of the node, and what is against it.
pub fn note(outcome: &mut NodeOutcome, seen: Result<Watched, String>) {
    let against = match seen {
        Ok(seen) => {
            let against = against(&seen);
            outcome.watched = Some(seen);
            against
        }
        Err(why) => vec![no_data(&why)],
    };
    if !against.is_empty() {
        judge::degrade(outcome);
    }
    outcome.gated(against.is_empty());
    outcome.reasons.extend(against);
}

#[cfg(test)]
mod tests {
    use flyhot_events::OutcomeKind;
    use proptest::prelude::*;

    use super::*;

    const SPAN: u64 = 6_000_000;

    fn quiet() -> Readings {
        Readings {
            span_us: SPAN,
            log: Ok(LogCounts::default()),
            run_queue: 0,
            schedulers: 2,
            memory_most: 50_000_000,
            memory_last: 50_000_000,
        }
    }

    fn logs(change: impl FnOnce(&mut LogCounts)) -> Readings {
        let mut counts = LogCounts::default();
        change(&mut counts);
        Readings {
            log: Ok(counts),
            ..quiet()
        }
    }

    fn found(before: &Readings, after: &Readings) -> Vec<String> {
        let seen = watched(before, after, &Allowed::DEFAULT);
        against(&seen).into_iter().map(|reason| reason.subject).collect()
    }

    #[test]
    fn each_signal_passes_up_to_its_limit() {
        let table: [(Signal, Readings, Readings); 8] = [
            (
                Signal::Errors,
                logs(|log| log.errors = 20),
                logs(|log| log.errors = 21),
            ),
            (
                Signal::Crashes,
                logs(|log| log.crashes = 6),
                logs(|log| log.crashes = 7),
            ),
            (
                Signal::Restarts,
                logs(|log| log.restarts = 3),
                logs(|log| log.restarts = 4),
            ),
            (
                Signal::Undef,
                logs(|log| log.undef = 1),
                logs(|log| log.undef = 2),
            ),
            (
                Signal::Badfun,
                logs(|log| log.badfun = 1),
                logs(|log| log.badfun = 2),
            ),
            (
                Signal::FunctionClause,
                logs(|log| log.function_clause = 3),
                logs(|log| log.function_clause = 4),
            ),
            (
                Signal::RunQueue,
                Readings {
                    run_queue: 100,
                    ..quiet()
                },
                Readings {
                    run_queue: 101,
                    ..quiet()
                },
            ),
            (
                Signal::Memory,
                Readings {
                    memory_most: 900_000_000,
                    memory_last: 164_000_000,
                    ..quiet()
                },
                Readings {
                    memory_last: 164_000_001,
                    ..quiet()
                },
            ),
        ];
        for (signal, passes, fails) in table {
            assert_eq!(found(&quiet(), &passes), [""; 0], "{signal:?}");
            assert_eq!(found(&quiet(), &fails), [signal.name()], "{signal:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_any_more_is_no_pass_and_what_never_could_is_not_looked_at() {
        let blinded = Readings {
            log: Err("nothing passes".to_owned()),
            ..quiet()
        };
        assert_eq!(found(&quiet(), &blinded).len(), 6);
        assert_eq!(found(&blinded, &logs(|log| log.errors = 1000)), [""; 0]);
        assert_eq!(blind(&blinded).unwrap().code, ReasonCode::GateBlind);
        assert_eq!(blind(&quiet()), None);
    }

    #[test]
    fn what_was_before_is_read_from_an_outcome_again() {
        let before = logs(|log| log.errors = 7);
        let seen = watched(&before, &quiet(), &Allowed::DEFAULT);
        let again = Readings::before(&seen);
        assert_eq!(watched(&again, &quiet(), &Allowed::DEFAULT), seen);
    }

    #[test]
    fn a_reason_has_all_numbers_with_their_units() {
        let seen = watched(&quiet(), &logs(|log| log.errors = 57), &Allowed::DEFAULT);
        assert_eq!(
            against(&seen)[0].sentence,
            "the gate did not pass: events of level error and above in the log on the new code: 57 in 6.0 s, 0 in 6.0 s before it; \
             up to 20 pass"
        );
    }

    #[test]
    fn a_node_that_is_not_well_is_degraded() {
        let mut outcome = NodeOutcome::untouched("a@h", OutcomeKind::Upgraded);
        note(&mut outcome, Ok(watched(&quiet(), &quiet(), &Allowed::DEFAULT)));
        assert_eq!(
            (outcome.outcome, outcome.reasons.len()),
            (OutcomeKind::Upgraded, 0)
        );
        note(&mut outcome, Err("it did not answer".to_owned()));
        assert_eq!(
            (outcome.outcome, outcome.reasons.len()),
            (OutcomeKind::Degraded, 1)
        );
    }

    proptest! {
        /// However long either is watched.
        #[test]
        fn the_same_rate_before_and_after_always_passes(
            each in 0_u64..100_000, spans in 1_u64..100, after in 1_u64..10_000
        ) {
            prop_assert!(each * after <= most(each * spans, spans * SPAN, after * SPAN, 0));
        }

        /// What was let pass once is let pass in a longer time, and after more of it before.
        #[test]
        fn limits_only_grow_with_the_time_and_with_what_was_before(
            before in 0_u64..1_000_000, allowed in 0_u64..1000, after in 1_u64..1_000_000_000, more in 0_u64..1_000_000
        ) {
            let limit = most(before, SPAN, after, allowed);
            prop_assert!(limit >= allowed);
            prop_assert!(limit <= most(before, SPAN, after + more, allowed));
            prop_assert!(limit <= most(before + more, SPAN, after, allowed));
        }
    }
}

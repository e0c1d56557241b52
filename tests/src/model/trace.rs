//! What a recording of the real agent says, and how it is read.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

/// A process, as Erlang writes it.
pub type Pid = Arc<str>;

/// What the guard is told of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Processes are about to be frozen, the first ones or newborns.
    Freezing,
    /// The swap is about to be asked for.
    Swapping,
    /// All were asked to migrate.
    Proving,
    /// Something failed; or, once the old code is back, processes that cannot be led back are about to be ended.
    Undoing,
    /// Something failed, and the new code stays: the failed are about to be ended.
    Degrading,
    /// The window ended one way or the other.
    Thawing,
}

impl Phase {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Freezing, "freezing"),
        (Self::Swapping, "swapping"),
        (Self::Proving, "proving"),
        (Self::Undoing, "undoing"),
        (Self::Degrading, "degrading"),
        (Self::Thawing, "thawing"),
    ];
}

/// Why the worker gives a window up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Not everyone came to rest in time.
    Budget,
    /// A process that the plan does not know.
    Newborn,
    /// The new code_change failed on a frozen state.
    Rehearsal,
    /// Somebody else loaded code meanwhile.
    CodeMoved,
    /// The code server is at work.
    CodeServer,
    /// Nobody waits for the result.
    DriverGone,
    /// Nobody would thaw if the worker ended.
    GuardDied,
    /// The code server refused the new code.
    SwapRefused,
}

impl Cause {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Budget, "budget"),
        (Self::Newborn, "newborn"),
        (Self::Rehearsal, "rehearsal"),
        (Self::CodeMoved, "code_moved"),
        (Self::CodeServer, "code_server"),
        (Self::DriverGone, "driver_gone"),
        (Self::GuardDied, "guard_died"),
        (Self::SwapRefused, "swap_refused"),
    ];
}

/// One event of worker or guard; `P` names a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event<P> {
    /// The worker is about to tell the guard.
    Phase(Phase),
    /// The guard takes it.
    Noted(Phase),
    /// About to send the suspend.
    Suspend(P),
    /// Its answer was taken.
    Frozen(P),
    /// About to send drop and resume.
    Resume(P),
    /// Its answer was taken.
    Thawed(P),
    /// About to ask for the swap.
    Swap,
    /// The answer: whether it was done.
    Swapped(bool),
    /// About to ask whether the worker's request was answered.
    AskedBefore(P),
    /// About to ask for a code_change.
    Migrate(P),
    /// The answer, or that there was none in time.
    Migrated(P, bool),
    /// About to let it run for an instant.
    Prove(P),
    /// Whether it came back.
    Proven(P, bool),
    /// About to load the old code.
    Back,
    /// About to send the old state.
    PutBack(P),
    /// The process was ended.
    Ended(P),
    /// The worker gives up.
    Abandon(Cause),
    /// The report is made.
    Done,
    /// The guard takes over.
    TakeOver(Phase),
    /// The guard is told to end.
    Stop,
}

impl<P: Copy> Event<P> {
    /// All that can be told, of one process: the vocabulary of the recordings.
    pub fn all(process: P) -> Vec<Self> {
        let phases = Phase::ALL.iter().map(|(phase, _)| *phase);
        let of_phases =
            phases.flat_map(|phase| [Self::Phase(phase), Self::Noted(phase), Self::TakeOver(phase)]);
        let causes = Cause::ALL.iter().map(|(cause, _)| Self::Abandon(*cause));
        [
            Self::Suspend(process),
            Self::Frozen(process),
            Self::Resume(process),
            Self::Thawed(process),
            Self::Swap,
            Self::Swapped(true),
            Self::Swapped(false),
            Self::AskedBefore(process),
            Self::Migrate(process),
            Self::Migrated(process, true),
            Self::Migrated(process, false),
            Self::Prove(process),
            Self::Proven(process, true),
            Self::Proven(process, false),
            Self::Back,
            Self::PutBack(process),
            Self::Ended(process),
            Self::Done,
            Self::Stop,
        ]
        .into_iter()
        .chain(of_phases)
        .chain(causes)
        .collect()
    }
}

impl<P> Event<P> {
    /// The process it is about.
    pub fn process(&self) -> Option<&P> {
        match self {
            Self::Suspend(p)
            | Self::Frozen(p)
            | Self::Resume(p)
            | Self::Thawed(p)
            | Self::AskedBefore(p)
            | Self::Migrate(p)
            | Self::Migrated(p, _)
            | Self::Prove(p)
            | Self::Proven(p, _)
            | Self::PutBack(p)
            | Self::Ended(p) => Some(p),
            Self::Phase(_)
            | Self::Noted(_)
            | Self::Swap
            | Self::Swapped(_)
            | Self::Back
            | Self::Abandon(_)
            | Self::Done
            | Self::TakeOver(_)
            | Self::Stop => None,
        }
    }

    /// The same event with its process named otherwise.
    pub fn rename<Q>(self, to: impl FnOnce(P) -> Q) -> Event<Q> {
        match self {
            Self::Suspend(p) => Event::Suspend(to(p)),
            Self::Frozen(p) => Event::Frozen(to(p)),
            Self::Resume(p) => Event::Resume(to(p)),
            Self::Thawed(p) => Event::Thawed(to(p)),
            Self::AskedBefore(p) => Event::AskedBefore(to(p)),
            Self::Migrate(p) => Event::Migrate(to(p)),
            Self::Migrated(p, ok) => Event::Migrated(to(p), ok),
            Self::Prove(p) => Event::Prove(to(p)),
            Self::Proven(p, ok) => Event::Proven(to(p), ok),
            Self::PutBack(p) => Event::PutBack(to(p)),
            Self::Ended(p) => Event::Ended(to(p)),
            Self::Phase(phase) => Event::Phase(phase),
            Self::Noted(phase) => Event::Noted(phase),
            Self::Swap => Event::Swap,
            Self::Swapped(ok) => Event::Swapped(ok),
            Self::Back => Event::Back,
            Self::Abandon(cause) => Event::Abandon(cause),
            Self::Done => Event::Done,
            Self::TakeOver(phase) => Event::TakeOver(phase),
            Self::Stop => Event::Stop,
        }
    }
}

fn name<T: PartialEq>(table: &[(T, &'static str)], one: &T) -> &'static str {
    table
        .iter()
        .find(|(other, _)| other == one)
        .map_or("unknown", |(_, name)| name)
}

impl<P: fmt::Display> fmt::Display for Event<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = |ok: &bool| if *ok { "ok" } else { "failed" };
        match self {
            Self::Phase(phase) => write!(f, "phase {}", name(&Phase::ALL, phase)),
            Self::Noted(phase) => write!(f, "noted {}", name(&Phase::ALL, phase)),
            Self::Suspend(p) => write!(f, "suspend {p}"),
            Self::Frozen(p) => write!(f, "frozen {p}"),
            Self::Resume(p) => write!(f, "resume {p}"),
            Self::Thawed(p) => write!(f, "thawed {p}"),
            Self::Swap => f.write_str("swap"),
            Self::Swapped(ok) => write!(f, "swapped {}", if *ok { "ok" } else { "refused" }),
            Self::AskedBefore(p) => write!(f, "asked_before {p}"),
            Self::Migrate(p) => write!(f, "migrate {p}"),
            Self::Migrated(p, ok) => write!(f, "migrated {p} {}", done(ok)),
            Self::Prove(p) => write!(f, "prove {p}"),
            Self::Proven(p, ok) => write!(f, "proven {p} {}", done(ok)),
            Self::Back => f.write_str("back"),
            Self::PutBack(p) => write!(f, "put_back {p}"),
            Self::Ended(p) => write!(f, "ended {p}"),
            Self::Abandon(cause) => write!(f, "abandon {}", name(&Cause::ALL, cause)),
            Self::Done => f.write_str("done"),
            Self::TakeOver(phase) => write!(f, "take_over {}", name(&Phase::ALL, phase)),
            Self::Stop => f.write_str("stop"),
        }
    }
}

/// A recording: the events of worker and guard, each in their own order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The worker's.
    pub worker: Vec<Event<Pid>>,
    /// The guard's.
    pub guard: Vec<Event<Pid>>,
}

/// A line that says nothing the vocabulary knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Counted from one.
    pub line: usize,
    /// What it says.
    pub text: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {} of the trace: {} is no event of worker or guard; see Event for the vocabulary",
            self.line, self.text
        )
    }
}

impl std::error::Error for Unreadable {}

impl Trace {
    /// Reads JSON lines `["worker" | "guard", event, argument…]`.
    ///
    /// # Errors
    /// The first line that is none of them.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut trace = Self::default();
        for (index, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            trace.line(line).ok_or_else(|| Unreadable {
                line: index + 1,
                text: line.trim().to_owned(),
            })?;
        }
        Ok(trace)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let words: Vec<String> = match serde_json::from_str(line).ok()? {
            Value::Array(words) => words
                .into_iter()
                .map(|word| word.as_str().map(str::to_owned))
                .collect::<Option<_>>()?,
            _ => return None,
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let [actor, words @ ..] = words.as_slice() else {
            return None;
        };
        let event = event(words)?;
        let noted = matches!(event, Event::Noted(_) | Event::TakeOver(_) | Event::Stop);
        match (*actor, &event) {
            ("worker", _) if !noted => self.worker.push(event),
            ("guard", Event::Phase(_) | Event::Abandon(_)) => return None,
            ("guard", _) => self.guard.push(event),
            _ => return None,
        }
        Some(())
    }
}

/// Each event as it is told, with a placeholder for its process.
static VOCABULARY: LazyLock<HashMap<String, Event<&str>>> = LazyLock::new(|| {
    let all = Event::all("_");
    all.into_iter().map(|event| (event.to_string(), event)).collect()
});

fn event(words: &[&str]) -> Option<Event<Pid>> {
    let told = VOCABULARY.get(&words.join(" "));
    if let Some(event) = told.filter(|event| event.process().is_none()) {
        return Some(event.rename(Pid::from));
    }
    let (process, mut pattern) = (*words.get(1)?, words.to_vec());
    pattern[1] = "_";
    let event = VOCABULARY.get(&pattern.join(" "))?;
    Some(event.rename(|_| process.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_read_as_it_is_written() {
        let text = r#"["worker", "phase", "freezing"]
            ["guard", "noted", "freezing"]
            ["worker", "suspend", "<0.1.0>"]
            ["worker", "frozen", "<0.1.0>"]
            ["worker", "swap"]
            ["worker", "swapped", "refused"]
            ["worker", "migrated", "<0.1.0>", "failed"]
            ["worker", "abandon", "swap_refused"]
            ["worker", "phase", "degrading"]
            ["worker", "ended", "<0.1.0>"]
            ["guard", "take_over", "degrading"]
            ["guard", "proven", "<0.1.0>", "ok"]
            ["guard", "stop"]"#;
        let trace = Trace::parse(text).unwrap();
        let written = |events: &[Event<Pid>]| events.iter().map(Event::to_string).collect::<Vec<_>>();
        assert_eq!(
            written(&trace.worker),
            [
                "phase freezing",
                "suspend <0.1.0>",
                "frozen <0.1.0>",
                "swap",
                "swapped refused",
                "migrated <0.1.0> failed",
                "abandon swap_refused",
                "phase degrading",
                "ended <0.1.0>"
            ]
        );
        assert_eq!(
            written(&trace.guard),
            [
                "noted freezing",
                "take_over degrading",
                "proven <0.1.0> ok",
                "stop"
            ]
        );
    }

    #[test]
    fn a_line_that_means_nothing_is_named() {
        for bad in [
            r#"["driver", "done"]"#,
            r#"["worker", "take_over", "freezing"]"#,
            r#"["guard", "phase", "freezing"]"#,
            r#"["worker", "phase", "idle"]"#,
            r#"["worker", "suspend"]"#,
            r#"["worker", "suspend", 7]"#,
            r#"["worker", "abandon", "boredom"]"#,
            r#"["worker"]"#,
            "worker done",
        ] {
            let text = format!("[\"worker\", \"done\"]\n{bad}");
            let error = Trace::parse(&text).unwrap_err();
            assert_eq!((error.line, error.text.as_str()), (2, bad));
        }
    }
}

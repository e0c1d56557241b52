//! The agent of `Flyhot::faulty`: what is to befall it, and what it tells of its work.
//!
//! Both stay on the node under test: an application environment that this agent reads, and a process that keeps what
//! it is sent. The shipped agent looks for neither.

use std::fmt;

use serde_json::Value;

use crate::probe::Probe;

/// What befalls worker or guard when it passes a point of its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `worker` or `guard`.
    pub actor: String,
    /// A step, a phase, or one of the finer points, in Erlang's syntax: `?AT` in the agent's source says where it is.
    pub point: String,
    /// When it passes there for which time, from 1.
    pub nth: u64,
    /// `fail` (an exception), `die` (exit kill), `halt` (SIGKILL to the VM) or `{delay, MS}`.
    pub what: String,
}

impl Fault {
    /// `what` befalls `actor` when it passes `point` for the `nth` time.
    pub fn new(actor: &str, point: &str, nth: u64, what: &str) -> Self {
        Self {
            actor: actor.to_owned(),
            point: point.to_owned(),
            nth,
            what: what.to_owned(),
        }
    }
}

/// What the agent told, in order.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// `[actor, event, argument...]`; actor is `worker` or `guard`.
    pub events: Vec<Value>,
    /// The faults that came to pass: `[actor, point, what]`.
    pub struck: Vec<Value>,
}

impl Probe {
    /// What is to befall the agents that start from now on; nothing, if there are none.
    pub fn plan_faults(&self, faults: &[Fault]) {
        let planned: Vec<_> = faults
            .iter()
            .map(|fault| {
                format!(
                    "{{{}, {}, {}, {}}}",
                    fault.actor, fault.point, fault.nth, fault.what
                )
            })
            .collect();
        self.eval(&match planned.is_empty() {
            true => "application:unset_env(flyhot_faults, planned).".to_owned(),
            false => format!(
                "application:set_env(flyhot_faults, planned, [{}]).",
                planned.join(",")
            ),
        });
    }

    /// Keeps what agents tell from now on, until [`Probe::end_trace`].
    pub fn start_trace(&self) {
        self.eval(
            "Test = self(),
             {Pid, Mon} = spawn_monitor(fun() ->
                 register(flyhot_trace, self()),
                 Test ! {self(), kept},
                 All = fun All(Told, Struck) -> receive
                     {told, Actor, Event} ->
                         Words = case is_tuple(Event) of true -> tuple_to_list(Event); false -> [Event] end,
                         All([[Actor | [case is_pid(W) of true -> list_to_binary(pid_to_list(W)); false -> W end || W <- Words]] | Told], Struck);
                     {struck, Actor, Point, What} -> All(Told, [[Actor, Point, What] | Struck])
                 after 0 -> {lists:reverse(Told), lists:reverse(Struck)} end end,
                 receive {end_trace, From} -> unregister(flyhot_trace), From ! {trace, All([], [])} end
             end),
             receive {Pid, kept} -> demonitor(Mon, [flush]), ok end.",
        );
    }

    /// What was told since [`Probe::start_trace`].
    pub fn end_trace(&self) -> Trace {
        let told = self.json("flyhot_trace ! {end_trace, self()}, receive {trace, T} -> T end.");
        let list = |at: usize| told[at].as_array().expect("a list").clone();
        Trace {
            events: list(0),
            struck: list(1),
        }
    }
}

/// One event a line, as JSON.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            writeln!(f, "{event}")?;
        }
        Ok(())
    }
}

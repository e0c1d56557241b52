//! `flyhot thaw`: processes that a tool left suspended go on.
//!
//! Nobody is resumed without `--apply`, nor while anybody's agent is on the node: an upgrade suspends processes, and would be
//! undone. Who is held by `erlang:suspend_process/2` is not resumed at all: only the one who holds it can.

use flyhot_events::{ErrorKind, Event, ExitCode};

use crate::asked::{self, Answer, Told};
use crate::cli::{HomeArgs, ReachArgs};
use crate::drive::thaw::{Thawed, suspended, thaw};
use crate::options::{Environment, Peer};
use crate::report::Reporter;

/// Performs the command; every way out of it emits the outcome.
pub(crate) fn command(
    args: &ReachArgs,
    home: &HomeArgs,
    apply: bool,
    environment: &Environment,
    reporter: &mut Reporter,
) -> ExitCode {
    let work = move |peer: Peer| async move {
        if apply {
            thaw(&peer).await
        } else {
            suspended(&peer).await
        }
    };
    asked::command("thaw", args, home, environment, reporter, work, |answers| {
        told(answers, apply)
    })
}

fn told(answers: Vec<Answer<Thawed>>, apply: bool) -> Told {
    asked::each(answers, |node, thawed| {
        let against = (apply && thawed.still_count > 0).then_some(ErrorKind::MaybeSuspended);
        let event = Event::Thaw {
            node,
            resumed: thawed.resumed,
            still: thawed.still,
            still_count: thawed.still_count,
        };
        (vec![event], against)
    })
}

//! `flyhot thaw`: processes that a tool left suspended go on.
//!
//! Nobody is resumed without `--apply`, nor while anybody's agent is on the node: an upgrade suspends processes, and would be
//! undone. Who is held by `erlang:suspend_process/2` is not resumed at all: only the one who holds it can.

use flyhot_events::{ErrorKind, Event, ExitCode};
use flyhot_node::NodeName;

use crate::asked::{self, Answer, Told};
use crate::cli::ReachArgs;
use crate::drive::thaw::{Thawed, suspended, thaw};
use crate::options::{Environment, Reach};
use crate::report::Reporter;

/// Performs the command; every way out of it emits the outcome.
pub(crate) fn command(
    args: &ReachArgs,
    apply: bool,
    environment: &Environment,
    reporter: &mut Reporter,
) -> ExitCode {
    let work = move |node: NodeName, reach: Reach| async move {
        if apply {
            thaw(&node, &reach).await
        } else {
            suspended(&node, &reach).await
        }
    };
    asked::command("thaw", args, environment, reporter, work, |answers| {
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

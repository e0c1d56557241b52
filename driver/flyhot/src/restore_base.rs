//! `flyhot restore-base`: the next start of a node loads what was there before any upgrade.
//!
//! What runs goes on as it is: nothing is swapped and nobody suspended. A start that an upgrade did not write is left alone.

use flyhot_events::{ErrorKind, Event, ExitCode};
use flyhot_upgrade::PersistReport;

use crate::asked::{self, Told};
use crate::cli::{HomeArgs, ReachArgs};
use crate::drive::restore_base;
use crate::options::{Environment, Peer};
use crate::report::Reporter;

/// Performs the command; every way out of it emits the outcome.
pub(crate) fn command(
    args: &ReachArgs,
    home: &HomeArgs,
    environment: &Environment,
    reporter: &mut Reporter,
) -> ExitCode {
    let work = async |peer: Peer| restore_base(&peer).await;
    asked::command(
        "restore-base",
        args,
        home,
        environment,
        reporter,
        work,
        |answers| asked::each(answers, told),
    )
}

fn told(node: String, report: PersistReport) -> Told {
    let failed = match (report.failed, report.nowhere) {
        (Some((path, why)), _) => Some((
            format!("{node}: {path} could not be read or written: {why}"),
            "Have the path there, writable for the node, with room on its disk, and run the command again: it goes on where it \
             stopped.",
        )),
        (None, Some(why)) => Some((
            format!("{node}: {why}"),
            "Nothing was upgraded there; nothing is to be restored.",
        )),
        (None, None) => None,
    };
    match failed {
        Some((message, hint)) => {
            let event = Event::Error {
                node: Some(node),
                kind: ErrorKind::Usage,
                message,
                hint: hint.to_owned(),
            };
            (vec![event], Some(ErrorKind::Usage))
        }
        None => {
            let event = Event::RestoreBase {
                node,
                files: report.written,
            };
            (vec![event], None)
        }
    }
}

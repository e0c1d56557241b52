//! Resuming what a tool left suspended: by sys, with the agent on the node for as long, so that no upgrade begins meanwhile.

use std::time::Duration;

use flyhot_agent::term::number;
use flyhot_events::StatusProcess;
use flyhot_node::{NodeName, Session};

use super::look::{Looker, over, silent};
use super::{NodeError, with_agent};
use crate::options::Peer;

/// Who is suspended does nothing but wait for such a message: an answer takes microseconds, on a machine that stands still
/// as long as OTP gives any call.
const RESUME: Duration = Duration::from_secs(5);

/// Suspended processes, and what was done about them.
#[derive(Debug)]
pub(crate) struct Thawed {
    pub(crate) resumed: u64,
    pub(crate) still: Vec<StatusProcess>,
    pub(crate) still_count: u64,
}

/// Who is suspended; nothing is touched.
///
/// # Errors
/// The node could not be asked.
pub(crate) async fn suspended(peer: &Peer) -> Result<Thawed, NodeError> {
    over(peer, async |looker| found(&peer.name, looker.session, 0).await).await?
}

/// Resumes whoever sys suspended.
///
/// # Errors
/// The node could not be asked, or somebody is at work there.
pub(crate) async fn thaw(peer: &Peer) -> Result<Thawed, NodeError> {
    with_agent(peer, async |session, _| resume(&peer.name, session).await).await
}

async fn resume(node: &NodeName, session: &Session) -> Result<Thawed, NodeError> {
    let looker = Looker { session };
    let silent = |error| silent(node, &error);
    let pids = looker.pids().await.map_err(silent)?;
    let mut resumed = 0;
    for (pid, how) in looker.suspended(&pids).await.map_err(silent)? {
        if how == "sys" {
            let limit = number(u64::try_from(RESUME.as_millis()).unwrap_or(u64::MAX));
            // One that ended meanwhile, or does not answer, is seen by the look behind this.
            let answer = session.call("sys", "resume", vec![pid, limit], RESUME * 2).await;
            resumed += u64::from(answer.is_ok());
        }
    }
    found(node, session, resumed).await
}

async fn found(node: &NodeName, session: &Session, resumed: u64) -> Result<Thawed, NodeError> {
    let looker = Looker { session };
    let silent = |error| silent(node, &error);
    let pids = looker.pids().await.map_err(silent)?;
    let found = looker.suspended(&pids).await.map_err(silent)?;
    Ok(Thawed {
        resumed,
        still: looker.named(&found).await.map_err(silent)?,
        still_count: found.len() as u64,
    })
}

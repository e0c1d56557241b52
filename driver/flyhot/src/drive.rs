//! The work on one node: the shell that asks the node, hands the answers to the pure rooms and performs what
//! they decide.
//!
//! Nothing is decided here that `flyhot-upgrade` decides. Whatever way a node's work ends, the agent is taken off
//! the node; if this side is interrupted, the agent does that itself.

mod agent;
mod base;
mod calls;
mod closer;
pub(crate) mod examine;
mod facts;
pub(crate) mod look;
mod node;
mod persist;
mod rehearse;
mod stages;
mod steps;
pub(crate) mod thaw;
mod watch;

use std::cell::{Cell, OnceCell};

use flyhot_agent::Command;
use flyhot_artifact::Release;
use flyhot_events::{ErrorKind, Event, NodeOutcome};
use flyhot_node::Session;
use flyhot_upgrade::PersistReport;
use tokio::sync::{mpsc, oneshot};

use crate::options::{Options, Peer};
use agent::Agent;
pub(crate) use base::base;
pub(crate) use watch::bake;

/// One node to be upgraded or planned for.
#[derive(Debug)]
pub struct NodeRequest<'a> {
    /// The node.
    pub peer: &'a Peer,
    /// The release it should run.
    pub release: &'a Release,
    /// How to go about it.
    pub options: &'a Options,
    /// Stop after the plan: nothing is touched.
    pub plan_only: bool,
    /// Who is asked whether the node may be touched, when everything is ready for it.
    pub leave: &'a Leave,
    /// Gets which start of the node it is, once that was reached; `None`: nobody asks later whether it is the same.
    pub start: Option<&'a OnceCell<String>>,
}

/// Asks whoever watches over a command whether it may go on: it may have lost its lock while a node kept it waiting.
#[derive(Debug)]
pub struct Leave {
    /// Nobody watches over an upgrade without a store.
    watcher: Option<mpsc::Sender<Question>>,
    refused: Cell<Option<ErrorKind>>,
}

/// So many questions wait without keeping anybody: one answer is for all that were asked before it was looked for.
const QUESTIONS: usize = 256;

/// To be answered with yes, or why not.
pub(crate) type Question = oneshot::Sender<Result<(), NodeError>>;

impl Leave {
    /// With the other end, where the questions come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Question>) {
        let (send, questions) = mpsc::channel(QUESTIONS);
        let leave = Self {
            watcher: Some(send),
            refused: Cell::new(None),
        };
        (leave, questions)
    }

    /// One that is always given.
    pub(crate) fn free() -> Self {
        Self {
            watcher: None,
            refused: Cell::new(None),
        }
    }

    /// Why it was refused the last time, if it ever was.
    pub(crate) fn refused(&self) -> Option<ErrorKind> {
        self.refused.get()
    }

    pub(crate) async fn given(&self) -> Result<(), NodeError> {
        let Some(watcher) = &self.watcher else {
            return Ok(());
        };
        let (send, answer) = oneshot::channel();
        // Whoever watches lives as long as the work.
        if watcher.send(send).await.is_err() {
            return Ok(());
        }
        let given = answer.await.unwrap_or(Ok(()));
        if let Err(error) = &given {
            self.refused.set(Some(error.kind));
        }
        given
    }
}

/// The work on a node ended with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeError {
    /// What kind it is; names the exit code.
    pub kind: ErrorKind,
    /// What was tried, on what, and what came back.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// What is known of the node all the same.
    pub outcome: Option<Box<NodeOutcome>>,
}

impl NodeError {
    /// What is said of it.
    pub(crate) fn event(self, node: Option<String>) -> Event {
        Event::Error {
            node,
            kind: self.kind,
            message: self.message,
            hint: self.hint,
        }
    }
}

/// Has the next start of a node load what it loaded before any upgrade.
///
/// # Errors
/// [`NodeError`]: the node could not be reached, somebody else works on it, or the agent could not do it.
pub(crate) async fn restore_base(peer: &Peer) -> Result<PersistReport, NodeError> {
    with_agent(peer, async |_, agent| {
        agent
            .slow("restoring the base", &Command::RestoreBase, flyhot_agent::persist)
            .await
            .map_err(|error| node::failed(&peer.name, &error))
    })
    .await
}

/// Does one thing on a node while the agent is there, so that nobody else works on it.
async fn with_agent<T>(
    peer: &Peer,
    work: impl AsyncFnOnce(&Session, &Agent<'_>) -> Result<T, NodeError>,
) -> Result<T, NodeError> {
    let session = node::session(peer).await?;
    let failed = |error| node::failed(&peer.name, &error);
    let agent = Agent::start(&session).await.map_err(failed)?;
    let done = work(&session, &agent).await;
    agent.finish().await.map_err(failed)?;
    session.close().await;
    done
}

/// Upgrades one node, or plans for it.
///
/// Dropping the future ends the session; the agent then abandons or finishes its window and leaves the node.
///
/// # Errors
/// [`NodeError`]: the node could not be reached, somebody else works on it, or something broke. A refusal, a
/// revert and the like are outcomes, not errors.
pub async fn node(request: &NodeRequest<'_>, emit: &mut dyn FnMut(Event)) -> Result<NodeOutcome, NodeError> {
    node::upgrade(request, emit).await
}

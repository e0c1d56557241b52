//! How a node is, before its window and after it.
//!
//! What that means is decided by `flyhot-upgrade`. Nothing of the node is called here; its agent counts what is logged, and looks at
//! run queues and memory, while this side waits.

use std::time::{Duration, Instant};

use flyhot_agent::Command;
use flyhot_events::{NodeOutcome, Reason, Signal, Step, Unit, Watched};
use flyhot_upgrade::{Readings, gate};

use super::agent::{Agent, AgentError};
use super::node::{self, Seen, Work};
use super::stages::ms;
use super::steps::Steps;
use super::with_agent;
use crate::errors;
use crate::options::Peer;
use crate::options::policy::Watch;

/// So that it is never less than was said: a part of a millisecond is left out on the way, and the agent ends up to one early.
const BEHIND_MS: u64 = 2;

/// Run queues and memory are looked at for this part of the time at least, a second of six: ten samples, whose median is one.
const SAMPLED: u32 = 6;

impl Work<'_> {
    /// Has the agent count from now on, if the node is to be watched.
    pub(super) async fn count(&self) -> Result<Option<Instant>, AgentError> {
        if self.request.options.watch.is_none() {
            return Ok(None);
        }
        look(self.agent, Duration::ZERO).await?;
        Ok(Some(Instant::now()))
    }

    /// Looks how the node is, for what is left of its time since it was begun to count; what is against going on.
    pub(super) async fn baseline(
        &self,
        since: Instant,
        seen: &mut Seen,
        steps: &mut Steps<'_>,
    ) -> Result<Vec<Reason>, AgentError> {
        let Some(watch) = &self.request.options.watch else {
            return Ok(Vec::new());
        };
        let begun = steps.begin(Step::Baseline);
        let left = watch.span.saturating_sub(since.elapsed());
        let readings = look(self.agent, left.max(watch.span / SAMPLED)).await?;
        steps.done(begun, Signal::ALL.len() as u64, Unit::Signals);
        let blind = gate::blind(&readings);
        seen.readings = Some(readings);
        Ok(blind.into_iter().collect())
    }

    /// Looks how the node is on the new code.
    pub(super) async fn watched(&self, seen: &Seen, outcome: &mut NodeOutcome, steps: &mut Steps<'_>) {
        let (Some(watch), Some(before)) = (&self.request.options.watch, &seen.readings) else {
            return;
        };
        let begun = steps.begin(Step::Watch);
        let after = look(self.agent, watch.span).await;
        if after.is_ok() {
            steps.done(begun, Signal::ALL.len() as u64, Unit::Signals);
        }
        let after = after.map_err(|error| errors::chain(&error));
        gate::note(
            outcome,
            after.map(|after| gate::watched(before, &after, &watch.allowed)),
        );
    }
}

/// Looks how a canary is while it stands alone, by how it was before its window.
pub(crate) async fn bake(
    peer: &Peer,
    bake: Duration,
    watch: &Watch,
    first: &Watched,
) -> Result<Watched, String> {
    let looked = with_agent(peer, async |_, agent| {
        let looked = look(agent, bake).await;
        looked.map_err(|error| node::failed(&peer.name, &error))
    });
    let after = looked.await.map_err(|error| error.message)?;
    Ok(gate::watched(&Readings::before(first), &after, &watch.allowed))
}

async fn look(agent: &Agent<'_>, span: Duration) -> Result<Readings, AgentError> {
    let for_ms = ms(span).saturating_add(BEHIND_MS);
    let command = Command::Watch { for_ms };
    agent
        .timed("watching the node", &command, span, flyhot_agent::watched)
        .await
}

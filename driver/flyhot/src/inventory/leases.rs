//! Leases of the machines that are worked on: nobody else stops, updates or replaces them meanwhile.
//!
//! Each is short, and renewed by a task of its own until the machine is let go, so that a command that is killed keeps nobody waiting
//! for long. Nothing is decided here about a node.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use flyhot_events::{Event, LeaseState};
use flyhot_fleet::{Fly, FlyError, Lease, MachineId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How long a lease outlives this command where it is killed. flyctl's own have 13 s.
const TTL: Duration = Duration::from_secs(15);

/// How long somebody else is waited for, at most: as long as flyctl waits.
const WAIT: Duration = Duration::from_secs(60);

/// Between two tries to renew one: the least that Fly's rates allow.
const AGAIN: Duration = Duration::from_secs(1);

/// The leases of one command.
#[derive(Debug)]
pub(crate) struct Leases {
    fly: Arc<Fly>,
    /// For whoever else wants the machine.
    description: String,
    /// Who is told to let a machine go.
    held: RefCell<HashMap<MachineId, oneshot::Sender<()>>>,
    keepers: RefCell<JoinSet<()>>,
    /// That the token may not lease was said.
    said: Cell<bool>,
    losing: mpsc::UnboundedSender<FlyError>,
    lost: RefCell<mpsc::UnboundedReceiver<FlyError>>,
}

impl Leases {
    pub(crate) fn new(fly: Arc<Fly>, description: &str) -> Self {
        let (losing, lost) = mpsc::unbounded_channel();
        Self {
            fly,
            description: description.to_owned(),
            held: RefCell::default(),
            keepers: RefCell::default(),
            said: Cell::new(false),
            losing,
            lost: RefCell::new(lost),
        }
    }

    /// Leases the machine of a node, if it is not leased yet; whoever holds it is named and waited for, for a part of what the work
    /// on a node may take. A token that may not lease goes on without, and says so once.
    ///
    /// # Errors
    /// Somebody else held it all the time, or Fly did not say.
    pub(crate) async fn take(
        &self,
        node: &str,
        machine: &MachineId,
        limit: Option<Duration>,
        say: &impl Fn(Event),
    ) -> Result<(), FlyError> {
        // One that was lost is not held any more, and nobody listens there.
        let holds = |told: &oneshot::Sender<_>| !told.is_closed();
        if self.said.get() || self.held.borrow().get(machine).is_some_and(holds) {
            return Ok(());
        }
        // What is waited here is not there for the work.
        let wait = limit.map_or(WAIT, |limit| WAIT.min(limit / 2));
        let first = self
            .fly
            .lease(machine, TTL, &self.description, Duration::ZERO)
            .await;
        let lease = match first {
            Err(FlyError::Held { holder, until, .. }) if !wait.is_zero() => {
                say(Event::Lease {
                    node: node.to_owned(),
                    machine: machine.to_string(),
                    state: LeaseState::WaitedFor,
                    holder,
                    until,
                    why: None,
                });
                self.fly.lease(machine, TTL, &self.description, wait).await
            }
            first => first,
        };
        match lease {
            Ok(lease) => {
                self.hold(lease);
                Ok(())
            }
            Err(error @ FlyError::MayNotLease { .. }) => {
                if !self.said.replace(true) {
                    say(told(node, machine, LeaseState::MayNot, &error));
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Lets a machine go, if it is held.
    pub(crate) fn let_go(&self, machine: &MachineId) {
        // The task hears that nobody holds the other end any more.
        self.held.borrow_mut().remove(machine);
    }

    /// What was lost since this was asked last: somebody else may change these machines.
    pub(crate) fn lost(&self) -> Vec<FlyError> {
        let mut lost = self.lost.borrow_mut();
        std::iter::from_fn(|| lost.try_recv().ok()).collect()
    }

    /// Lets all machines go, and waits until Fly knows.
    pub(crate) async fn end(&self) {
        self.held.borrow_mut().clear();
        let mut keepers = self.keepers.take();
        while keepers.join_next().await.is_some() {}
    }

    fn hold(&self, lease: Lease) {
        let (told, over) = oneshot::channel();
        self.held.borrow_mut().insert(lease.machine().clone(), told);
        let keeping = keep(Arc::clone(&self.fly), lease, over, self.losing.clone());
        self.keepers.borrow_mut().spawn(keeping);
    }
}

/// What is said of a lease that is not to be had.
pub(crate) fn told(node: &str, machine: &MachineId, state: LeaseState, error: &FlyError) -> Event {
    let (holder, until) = match error {
        FlyError::Held { holder, until, .. } => (holder.clone(), until.clone()),
        _ => (None, None),
    };
    Event::Lease {
        node: node.to_owned(),
        machine: machine.to_string(),
        state,
        holder,
        until,
        why: Some(error.to_string()),
    }
}

/// Renews a lease until the machine is let go.
async fn keep(
    fly: Arc<Fly>,
    mut lease: Lease,
    mut over: oneshot::Receiver<()>,
    losing: mpsc::UnboundedSender<FlyError>,
) {
    let mut pause = lease.due();
    loop {
        tokio::select! {
            biased;
            _ = &mut over => break,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match fly.renew(&mut lease).await {
            Ok(()) => lease.due(),
            Err(error @ FlyError::LeaseLost { .. }) => {
                // Nobody may ask any more.
                let _ = losing.send(error);
                return;
            }
            Err(_) => AGAIN,
        };
    }
    // It ends with its time if it cannot be let go.
    let _ = fly.release(lease).await;
}

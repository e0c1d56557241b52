//! Leases: as long as one is held, nobody else changes the machine.
//!
//! A lease is short and renewed by whoever holds it, so that it ends soon after its holder does. Whether it is over is judged by a
//! clock of this machine that only counts forward, from before the request that renewed it.

use std::fmt;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::ask::{Again, Ask, Came, Refusal};
use crate::client::Fly;
use crate::error::FlyError;
use crate::machine::MachineId;
use crate::pace::Action;
use crate::pause::Pauses;
use crate::said::Why;

/// The shortest lease that makes sense: renewed each third of it, while leasing one machine takes up to a request a second.
pub const SHORTEST_TTL: Duration = Duration::from_secs(5);

/// A lease is renewed when a third of it is over: two renewals may fail before it ends.
const RENEWALS: u32 = 3;

/// How much longer than its time a lease is waited for that was granted unheard: a look and an answer.
const UNHEARD: Duration = Duration::from_secs(5);

/// What says that one holds a lease.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Nonce(pub(crate) String);

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// A lease that is held. Dropped without [`Fly::release`] it is over with its time.
#[derive(Debug)]
pub struct Lease {
    machine: MachineId,
    pub(crate) nonce: Nonce,
    ttl: Duration,
    /// Before the request that was granted last: no later than Fly's own time of it.
    renewed: Instant,
}

impl Lease {
    pub(crate) fn new(machine: MachineId, nonce: Nonce, ttl: Duration, renewed: Instant) -> Self {
        Self {
            machine,
            nonce,
            ttl,
            renewed,
        }
    }

    /// Of which machine.
    pub fn machine(&self) -> &MachineId {
        &self.machine
    }

    /// In how long it is to be renewed.
    pub fn due(&self) -> Duration {
        (self.ttl / RENEWALS).saturating_sub(self.renewed.elapsed())
    }

    fn end(&self) -> Instant {
        self.renewed + self.ttl
    }

    fn lost(&self, why: impl Into<String>) -> FlyError {
        FlyError::LeaseLost {
            machine: self.machine.clone(),
            why: why.into(),
        }
    }
}

impl Fly {
    /// Leases a machine, waiting for whoever holds it for as long as `wait`; `description` is shown to them.
    ///
    /// # Errors
    /// [`FlyError::Held`] names the holder, [`FlyError::MayNotLease`] says that one has to go on without.
    pub async fn lease(
        &self,
        machine: &MachineId,
        ttl: Duration,
        description: &str,
        wait: Duration,
    ) -> Result<Lease, FlyError> {
        let ttl = ttl.max(SHORTEST_TTL);
        let mut until = Instant::now() + wait;
        let mut unheard = false;
        let mut pauses = Pauses::default();
        let doing = format!("leasing the machine {machine}");
        let mut ask = Ask::machine(doing, Action::Lease, Method::POST, machine, "/lease");
        ask.body = Some(json!({"description": description, "ttl": ttl.as_secs()}));
        loop {
            let begun = Instant::now();
            let failed = match self.ask(&ask, self.soon()).await {
                Came::Answer(answer) => match answer.json(&ask.doing).map(|json| nonce(&json)) {
                    Ok(Some(nonce)) => return Ok(Lease::new(machine.clone(), nonce, ttl, begun)),
                    Ok(None) => FlyError::Unreadable {
                        doing: ask.doing.clone(),
                        what: "it has no nonce".to_owned(),
                    },
                    Err(error) => error,
                },
                Came::Refused(
                    Refusal {
                        why: Why::Other,
                        answered,
                    },
                    _,
                ) if answered.status == 403 => {
                    return Err(FlyError::MayNotLease {
                        machine: machine.clone(),
                        answered,
                    });
                }
                Came::Refused(refusal, tries) if matches!(refusal.why, Why::Held { .. }) => {
                    refusal.of(ask.doing.clone(), tries)
                }
                Came::Refused(refusal, tries) => return Err(refusal.of(ask.doing.clone(), tries)),
                Came::Unsure(error) => error,
            };
            if !matches!(failed, FlyError::Held { .. }) && !unheard {
                // It may be ours without our knowing the nonce: then it is free when its time is over, and not before.
                unheard = true;
                until = until.max(Instant::now() + ttl + UNHEARD);
            }
            if Instant::now() >= until {
                return Err(failed);
            }
            let pause = pauses.next(fastrand::f64());
            tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Renews a lease.
    ///
    /// # Errors
    /// [`FlyError::LeaseLost`] when it is not ours any more: whoever held it stops before the next step.
    pub async fn renew(&self, lease: &mut Lease) -> Result<(), FlyError> {
        let doing = format!("renewing the lease of the machine {}", lease.machine);
        let begun = Instant::now();
        let mut ask = Ask::machine(doing, Action::Lease, Method::POST, &lease.machine, "/lease");
        ask.body = Some(json!({"ttl": lease.ttl.as_secs()}));
        ask.nonce = Some(&lease.nonce);
        // The same nonce comes back however often it is asked.
        ask.again = Again::Harmless;
        ask.answer = ask.answer.min(lease.ttl / RENEWALS);
        match self.ask(&ask, lease.end()).await {
            Came::Answer(answer) => {
                if let Some(nonce) = answer.json(&ask.doing).ok().and_then(|json| nonce(&json)) {
                    lease.nonce = nonce;
                }
                lease.renewed = begun;
                Ok(())
            }
            Came::Refused(refusal, tries) => {
                let gone = matches!(refusal.why, Why::Held { .. }) || refusal.answered.status == 404;
                let error = refusal.of(ask.doing.clone(), tries);
                Err(if gone || Instant::now() >= lease.end() {
                    lease.lost(error.to_string())
                } else {
                    error
                })
            }
            // It was tried for as long as it held.
            Came::Unsure(error) => Err(lease.lost(error.to_string())),
        }
    }

    /// Lets a lease go; one that is over already is let go.
    ///
    /// # Errors
    /// Whatever befalls a request; the lease then ends with its time.
    pub async fn release(&self, lease: Lease) -> Result<(), FlyError> {
        let doing = format!("letting go the lease of the machine {}", lease.machine);
        let mut ask = Ask::machine(doing, Action::LetGo, Method::DELETE, &lease.machine, "/lease");
        ask.nonce = Some(&lease.nonce);
        match self.ask(&ask, lease.end().min(self.soon())).await {
            Came::Answer(_) => Ok(()),
            Came::Refused(refusal, _)
                if refusal.answered.status == 404 || matches!(refusal.why, Why::Held { .. }) =>
            {
                Ok(())
            }
            other => other.or_error(&ask.doing).map(|_| ()),
        }
    }
}

/// Out of the envelope that Fly documents in one place, or without it, as in another.
pub(crate) fn nonce(json: &Value) -> Option<Nonce> {
    let lease = json.get("data").filter(|data| data.is_object()).unwrap_or(json);
    let nonce = lease.get("nonce")?.as_str().filter(|nonce| !nonce.is_empty())?;
    Some(Nonce(nonce.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_in_both_forms() {
        let lease = json!({"nonce": "5c35f65c9f95", "expires_at": 1_708_569_778, "owner": "a@b"});
        let expected = Some(Nonce("5c35f65c9f95".to_owned()));
        assert_eq!(nonce(&lease), expected);
        assert_eq!(nonce(&json!({"status": "success", "data": lease})), expected);
        for none in [
            json!(null),
            json!({"data": null}),
            json!({"nonce": ""}),
            json!({"data": {"nonce": 1}}),
        ] {
            assert_eq!(nonce(&none), None, "{none}");
        }
    }

    #[test]
    fn a_lease_is_due_at_a_third_and_does_not_print() {
        let machine: MachineId = "1".parse().unwrap();
        let ttl = Duration::from_secs(30);
        let lease = Lease::new(machine, Nonce("secret".into()), ttl, Instant::now());
        assert!(lease.due() <= Duration::from_secs(10) && lease.due() > Duration::from_secs(9));
        assert!(!format!("{lease:?}").contains("secret"));
    }
}

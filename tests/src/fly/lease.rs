//! Leases of machines.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::clock;
use super::http::{Reply, Request};
use super::world::{Caller, World};

/// Who holds a machine, and until when.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) nonce: String,
    owner: String,
    description: String,
    ends: Instant,
    expires_at: SystemTime,
}

impl Lease {
    pub(super) fn new(owner: &str, nonce: &str, ttl_s: u64, description: &str) -> Self {
        let ttl = Duration::from_secs(ttl_s);
        Self {
            nonce: nonce.to_owned(),
            owner: owner.to_owned(),
            description: description.to_owned(),
            ends: Instant::now() + ttl,
            expires_at: SystemTime::now() + ttl,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.ends <= Instant::now()
    }

    pub(super) fn json(&self, version: &str) -> Value {
        json!({
            "nonce": self.nonce, "expires_at": clock::millis(self.expires_at) / 1000, "owner": self.owner,
            "description": self.description, "version": version,
        })
    }

    /// What Fly says to somebody else.
    pub(super) fn held(&self, id: &str) -> String {
        format!(
            "machine ID {id} lease currently held by {}, expires at {}",
            self.owner,
            clock::rfc3339(self.expires_at)
        )
    }
}

impl World {
    /// Whether this request may change a machine; the refusal where somebody else holds it.
    pub(super) fn unleased(&mut self, id: &str, request: &Request) -> Result<(), Reply> {
        let nonce = request.header("fly-machine-lease-nonce").unwrap_or_default();
        match self.lease_of(id) {
            Some(lease) if lease.nonce.is_empty() || lease.nonce != nonce => {
                Err(Reply::refused(409, &lease.held(id)))
            }
            _ => Ok(()),
        }
    }

    /// The lease of a machine, as long as it lasts.
    pub(super) fn lease_of(&mut self, id: &str) -> Option<Lease> {
        let machine = self.machine_mut(id)?;
        machine.lease = machine.lease.take().filter(|lease| !lease.is_over());
        machine.lease.clone()
    }

    pub(super) fn lease(&mut self, id: &str, request: &Request, caller: &Caller) -> Result<Reply, Reply> {
        if !caller.grant.may_lease {
            return Err(Reply::refused(403, "permission_denied: the token may not lease"));
        }
        let version = self.machine(id)?.version.clone();
        let flat = self.ills.flat_leases;
        let told = |status, lease: &Lease| {
            let lease = lease.json(&version);
            Reply::json(
                status,
                &if flat {
                    lease
                } else {
                    json!({"status": "success", "data": lease})
                },
            )
        };
        match &*request.method {
            "GET" => match self.lease_of(id) {
                Some(lease) => Ok(told(200, &lease)),
                None => Err(Reply::refused(404, "lease not found")),
            },
            "POST" => {
                self.unleased(id, request)?;
                let body = request.json()?;
                let default = self.ills.lease_ttl.as_secs();
                let asked = request.asks("ttl").first().and_then(|ttl| ttl.parse().ok());
                let ttl = asked.or_else(|| body["ttl"].as_u64()).unwrap_or(default);
                let nonce = match self.lease_of(id) {
                    Some(lease) => lease.nonce,
                    None if request.header("fly-machine-lease-nonce").is_some() => {
                        return Err(Reply::refused(404, "lease not found"));
                    }
                    None => format!("{:012x}", self.random.below(1 << 48)),
                };
                let description = body["description"].as_str().unwrap_or_default();
                let lease = Lease::new(&caller.grant.user, &nonce, ttl, description);
                let reply = told(201, &lease);
                self.machine_mut(id).expect("it was there").lease = Some(lease);
                Ok(reply)
            }
            _ => {
                if self.lease_of(id).is_none() {
                    return Err(Reply::refused(404, "lease not found"));
                }
                self.unleased(id, request)?;
                self.machine_mut(id).expect("it was there").lease = None;
                Ok(Reply::json(
                    200,
                    &json!({"status": "success", "data": {"ok": true}}),
                ))
            }
        }
    }
}

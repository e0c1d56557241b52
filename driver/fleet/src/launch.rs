//! A machine for one piece of work, as flyctl makes one for a release command: it is made without being started, so that there is
//! never a second one at work, and removes itself when its main process ends.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::ask::{Ask, Came};
use crate::client::Fly;
use crate::error::{Answered, FlyError};
use crate::lease::Lease;
use crate::machine::{Machine, MachineId, State};
use crate::metadata::label;
use crate::pace::Action;
use crate::pause::Pauses;
use crate::said::Why;
use crate::wait::Reach;

/// How long it is looked for a machine that is said to be there, or may be.
const LOOKED_FOR: Duration = Duration::from_secs(20);

/// Memory comes in such pieces for each processor, up to 2 GB; a small machine has two processors, as flyctl's has.
const PIECE_MB: u32 = 256;
const PIECES: u32 = 8;
const PROCESSORS: [u32; 4] = [2, 4, 6, 8];

/// A machine for one piece of work.
#[derive(Clone)]
pub struct Ephemeral {
    /// A name that no other machine of the app has: what keeps a second one from being made.
    pub name: String,
    /// Where; elsewhere Fly decides.
    pub region: Option<String>,
    /// Its image.
    pub image: String,
    /// What runs instead of what the image says.
    pub command: Vec<String>,
    /// Its environment, beside the secrets of the app.
    pub env: BTreeMap<String, String>,
    /// The label that it is found by, and its value.
    pub label: (String, String),
    /// How much memory it needs at least, in MB.
    pub memory_mb: u32,
    /// How long nobody else may change it.
    pub lease: Duration,
}

/// The environment may hold secrets.
impl fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ephemeral")
            .field("name", &self.name)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

/// A machine that was made.
#[derive(Debug)]
pub struct Created {
    /// What it is.
    pub machine: Machine,
    /// Its lease; not there where the answer was lost that would have had it, and over with its time then.
    pub lease: Option<Lease>,
}

impl Ephemeral {
    fn body(&self) -> Value {
        let (cpus, memory_mb) = guest(self.memory_mb);
        let mut body = json!({
            "name": self.name,
            "skip_launch": true,
            "lease_ttl": self.lease.as_secs(),
            "config": {
                "image": self.image,
                "init": {"exec": self.command},
                "env": self.env,
                "guest": {"cpu_kind": "shared", "cpus": cpus, "memory_mb": memory_mb},
                "restart": {"policy": "no"},
                "auto_destroy": true,
                "dns": {"skip_registration": true},
                "metadata": {&self.label.0: self.label.1},
            },
        });
        if let Some(region) = &self.region {
            body["region"] = json!(region);
        }
        body
    }
}

/// Processors and memory for a machine that needs so much: no less, and no more than the largest shared one has.
fn guest(memory_mb: u32) -> (u32, u32) {
    let fits = |cpus: &u32| memory_mb <= cpus * PIECE_MB * PIECES;
    let cpus = PROCESSORS
        .into_iter()
        .find(fits)
        .unwrap_or(PROCESSORS[PROCESSORS.len() - 1]);
    // Each processor has at least one piece.
    let pieces = memory_mb.div_ceil(PIECE_MB).clamp(cpus, cpus * PIECES);
    (cpus, pieces * PIECE_MB)
}

impl Fly {
    /// Makes a machine, and never a second one of that name: where it is not known whether it was made it is looked for before it
    /// is tried again. It is not started.
    ///
    /// # Errors
    /// [`FlyError::NoImage`] after a minute of trying; [`FlyError::NameTaken`], [`FlyError::NoRoom`], and whatever befalls a
    /// request.
    pub async fn create(&self, what: &Ephemeral) -> Result<Created, FlyError> {
        label(&what.name)?;
        let filter = format!("&metadata.{}={}", label(&what.label.0)?, label(&what.label.1)?);
        let begun = Instant::now();
        let until = self.soon();
        let doing = format!("making the machine {} of the app {}", what.name, self.app);
        let mut ask = Ask::app(doing, Action::Create, Method::POST, "/machines");
        ask.body = Some(what.body());
        let mut pauses = Pauses::default();
        loop {
            let asked = Instant::now();
            let error = match self.ask(&ask, until).await {
                Came::Answer(answer) => match answer.json(&ask.doing).map(|json| Machine::read(&json)) {
                    Ok(Some(machine)) => {
                        self.made(&machine.id);
                        let nonce = machine.nonce.clone();
                        let lease =
                            nonce.map(|nonce| Lease::new(machine.id.clone(), nonce, what.lease, asked));
                        return Ok(Created { machine, lease });
                    }
                    Ok(None) => FlyError::Unreadable {
                        doing: ask.doing.clone(),
                        what: "it has no id".to_owned(),
                    },
                    Err(error) => error,
                },
                // What was pushed just now is known everywhere after 15 s, as others measured: a quarter of what is tried.
                Came::Refused(refusal, _) if refusal.why == Why::NoManifest => FlyError::NoImage {
                    image: what.image.clone(),
                    waited: begun.elapsed(),
                    answered: refusal.answered,
                },
                Came::Refused(refusal, _) if refusal.answered.status == 409 && refusal.why == Why::Other => {
                    return self.there(what, &filter, refusal.answered).await;
                }
                Came::Refused(refusal, tries) => return Err(refusal.of(ask.doing.clone(), tries)),
                Came::Unsure(error) => error,
            };
            if !matches!(error, FlyError::NoImage { .. })
                && let Some(created) = self.found(what, &filter).await?
            {
                return Ok(created);
            }
            let pause = pauses.next(fastrand::f64());
            if Instant::now() + pause > until {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Starts a machine that destroys itself when its work is done. While it is still being made or replaced, that is waited for, for as long as `within`.
    ///
    /// # Errors
    /// [`FlyError::NotNow`] when it was not ready in time; [`FlyError::Ended`] when it will never be.
    pub async fn start(
        &self,
        machine: &MachineId,
        lease: Option<&Lease>,
        within: Duration,
    ) -> Result<(), FlyError> {
        let until = Instant::now() + within;
        let doing = format!("starting the machine {machine}");
        let mut ask = Ask::machine(doing, Action::Start, Method::POST, machine, "/start");
        ask.nonce = lease.map(|lease| &lease.nonce);
        let mut pauses = Pauses::default();
        loop {
            let (error, unsure) = match self.ask(&ask, until).await {
                Came::Refused(refusal, tries) if refusal.why == Why::NotNow => {
                    (refusal.of(ask.doing.clone(), tries), false)
                }
                Came::Unsure(error) => (error, true),
                other => return other.or_error(&ask.doing).map(|_| ()),
            };
            let state = self.machine(machine).await?.state;
            match state {
                State::Starting | State::Started => return Ok(()),
                // It was started, and its work was short.
                State::Destroying | State::Destroyed if unsure => return Ok(()),
                State::Destroying | State::Destroyed | State::Failed | State::LaunchFailed => {
                    return Err(FlyError::Ended {
                        machine: machine.clone(),
                        reach: Reach::Started,
                        state,
                    });
                }
                _ => {}
            }
            let pause = pauses.next(fastrand::f64());
            if Instant::now() + pause > until {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The one of that name and label.
    async fn found(&self, what: &Ephemeral, filter: &str) -> Result<Option<Created>, FlyError> {
        let listing = self.list(filter).await?;
        let found = listing
            .machines
            .into_iter()
            .find(|machine| machine.name == what.name);
        Ok(found.map(|machine| {
            self.made(&machine.id);
            Created { machine, lease: None }
        }))
    }

    /// The same, of which it was said that it is there, though a list may not have it yet.
    async fn there(&self, what: &Ephemeral, filter: &str, answered: Answered) -> Result<Created, FlyError> {
        let until = self.soon().min(Instant::now() + LOOKED_FOR);
        let mut pauses = Pauses::default();
        loop {
            if let Some(created) = self.found(what, filter).await? {
                return Ok(created);
            }
            let pause = pauses.next(fastrand::f64());
            if Instant::now() + pause > until {
                return Err(FlyError::NameTaken {
                    name: what.name.clone(),
                    answered,
                });
            }
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ephemeral() -> Ephemeral {
        Ephemeral {
            name: "flyhot-1".into(),
            region: None,
            image: "registry.fly.io/shop:deployment-1".into(),
            command: vec!["/app/bin/flyhot".into(), "orchestrate".into()],
            env: BTreeMap::from([("KEY".into(), "hidden".into())]),
            label: ("flyhot_rollout".into(), "1".into()),
            memory_mb: 300,
            lease: Duration::from_secs(30),
        }
    }

    #[test]
    fn it_is_made_as_flyctl_makes_one_for_a_release_command() {
        let body = ephemeral().body();
        let config = &body["config"];
        assert_eq!(body["skip_launch"], true);
        assert_eq!(config["auto_destroy"], true);
        assert_eq!(config["restart"], json!({"policy": "no"}));
        assert_eq!(config["dns"], json!({"skip_registration": true}));
        assert_eq!(config["metadata"], json!({"flyhot_rollout": "1"}));
        // A `fly deploy` must not take it for one of the app's.
        assert_eq!(config.get("services"), None);
        assert_eq!(body.get("region"), None);
        assert!(!format!("{:?}", ephemeral()).contains("hidden"));
    }

    #[test]
    fn memory_is_what_a_machine_can_have() {
        for (needed, expected) in [
            (0, (2, 512)),
            (512, (2, 512)),
            (513, (2, 768)),
            (4_096, (2, 4_096)),
            (4_097, (4, 4_352)),
            (9_000, (6, 9_216)),
            (16_384, (8, 16_384)),
            (u32::MAX, (8, 16_384)),
        ] {
            assert_eq!(guest(needed), expected, "{needed}");
        }
    }
}

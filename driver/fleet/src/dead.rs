//! Machines that runs which are over have left behind.

use std::time::{Duration, SystemTime};

use reqwest::Method;

use crate::ask::{Ask, Came};
use crate::client::Fly;
use crate::error::FlyError;
use crate::lease::Lease;
use crate::machine::{Machine, MachineId, State};
use crate::metadata::label;
use crate::pace::Action;

/// A machine that runs is somebody's, who may have it wait for hours; it ends by itself, unless it hangs. So is one that is on the way
/// to that or from it: told to stop, an orchestrator still lets a window come to its end.
const HANGS: Duration = Duration::from_secs(48 * 3600);

/// A machine that was to be removed.
#[derive(Debug)]
pub struct Removed {
    /// Which one.
    pub machine: MachineId,
    /// What it is called by people.
    pub name: String,
    /// Why it is still there.
    pub failed: Option<FlyError>,
}

impl Fly {
    /// Destroys a machine, whatever it does. One that is not there is destroyed.
    ///
    /// # Errors
    /// [`FlyError::Held`], and whatever befalls a request.
    pub async fn destroy(&self, machine: &MachineId, lease: Option<&Lease>) -> Result<(), FlyError> {
        let doing = format!("destroying the machine {machine}");
        let mut ask = Ask::machine(doing, Action::Delete, Method::DELETE, machine, "?force=true");
        ask.nonce = lease.map(|lease| &lease.nonce);
        match self.ask(&ask, self.soon()).await {
            Came::Refused(refusal, _) if refusal.answered.status == 404 => Ok(()),
            other => other.or_error(&ask.doing).map(|_| ()),
        }
    }

    /// Destroys the machines that carry the label `key` with another value than `ours`, do not run, and are older than `age` by Fly's
    /// own clock: a younger one may belong to somebody who is about to start it. One that runs, starts or stops is destroyed after two
    /// days.
    ///
    /// # Errors
    /// Whatever befalls the list; what befalls one machine stands beside it.
    pub async fn remove_dead(&self, key: &str, ours: &str, age: Duration) -> Result<Vec<Removed>, FlyError> {
        let key = label(key)?;
        let listing = self.list("").await?;
        let now = listing.at.unwrap_or_else(SystemTime::now);
        let mut removed = Vec::new();
        for machine in listing.machines {
            if is_dead(&machine, key, ours, age, now) {
                let failed = self.destroy(&machine.id, None).await.err();
                removed.push(Removed {
                    machine: machine.id,
                    name: machine.name,
                    failed,
                });
            }
        }
        Ok(removed)
    }
}

fn does_not_run(state: &State) -> bool {
    matches!(
        state,
        State::Created | State::Stopped | State::Suspended | State::Failed | State::LaunchFailed
    )
}

fn is_dead(machine: &Machine, key: &str, ours: &str, age: Duration, now: SystemTime) -> bool {
    let label = machine
        .config
        .as_ref()
        .and_then(|config| config.metadata.get(key));
    let old = machine
        .created_at
        .and_then(|created| now.duration_since(created).ok())
        .is_some_and(|lived| lived > if does_not_run(&machine.state) { age } else { HANGS });
    old && !machine.state.is_gone() && label.is_some_and(|label| label != ours)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_what_is_old_and_carries_another_label_is_dead() {
        let now = UNIX_EPOCH + Duration::from_secs(200_000);
        let machine = |label: Value, state: &str, created_s: Value| {
            let json = json!({
                "id": "1", "state": state, "config": {"metadata": {"flyhot": label}}, "created_at": created_s,
            });
            Machine::read(&json).unwrap()
        };
        let (ancient, old, young) = (json!(1_000_000), json!(190_000_000), json!(199_999_000));
        for (machine, dead) in [
            (machine(json!("other"), "started", ancient.clone()), true),
            (machine(json!("other"), "started", old.clone()), false),
            (machine(json!("other"), "stopped", old.clone()), true),
            // Somebody stops it, and it has minutes for that.
            (machine(json!("other"), "stopping", old.clone()), false),
            (machine(json!("other"), "starting", old.clone()), false),
            (machine(json!("other"), "of tomorrow", old.clone()), false),
            (machine(json!("other"), "stopping", ancient.clone()), true),
            (machine(json!("other"), "created", young), false),
            (machine(json!("ours"), "stopped", old.clone()), false),
            (machine(json!(null), "stopped", old.clone()), false),
            (machine(json!("other"), "destroyed", old.clone()), false),
            (machine(json!("other"), "stopped", json!(null)), false),
            (machine(json!("other"), "stopped", json!(300_000_000)), false),
        ] {
            let found = is_dead(&machine, "flyhot", "ours", Duration::from_secs(600), now);
            assert_eq!(found, dead, "{machine:?}");
        }
        let mut silent = machine(json!("other"), "stopped", old);
        silent.config = None;
        assert!(!is_dead(&silent, "flyhot", "ours", Duration::ZERO, now));
    }
}

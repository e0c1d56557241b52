//! What is asked of the Fly Machines API: machines and their states, leases, exec, metadata.
//!
//! This room decides nothing about a fleet and reads neither environment nor files. It repeats nothing that may have been done
//! already, unless doing it twice is the same as once: a machine is made under a name of its own, and looked up before it is made
//! again. Every answer is bytes from outside, every wait has an end, every request waits for its turn by the rate limits that Fly
//! documents, and a token is sent and never shown.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod ask;
mod checks;
mod client;
mod dead;
mod error;
mod exec;
mod inventory;
mod launch;
mod lease;
mod machine;
mod metadata;
mod pace;
mod pause;
mod said;
mod secrets;
mod token;
mod wait;

pub use checks::{failing, grace};
pub use client::{App, Fly, Identity, PUBLIC};
pub use dead::Removed;
pub use error::{Answered, FlyError};
pub use exec::{Exec, LONGEST_EXEC, Ran, Repeat};
pub use launch::{Created, Ephemeral};
pub use lease::{Lease, SHORTEST_TTL};
pub use machine::{
    Autostop, Check, Config, Configured, Exit, Host, Machine, MachineId, Moment, NoMachineId, State,
};
pub use token::{Token, TokenError};
pub use wait::Reach;

/// What fuzzers reach beyond the public functions; compiled for them alone.
#[cfg(fuzzing)]
pub mod fuzzing {
    use serde_json::Value;

    use crate::{
        client::identities,
        exec::Ran,
        lease,
        machine::Machine,
        said::{Said, currently},
        secrets,
    };

    /// Everything that is read of the body of an answer.
    pub fn read(bytes: &[u8]) {
        let said = Said::read(bytes);
        assert!(!said.text.chars().any(char::is_control), "{said:?}");
        let _ = (said.why(409), currently(&said.shown()));
        let Ok(json) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        let _ = (
            identities(&json),
            lease::nonce(&json),
            Ran::read(&json),
            secrets::names(&json),
        );
        let alone = std::slice::from_ref(&json);
        for json in json.as_array().map_or(alone, Vec::as_slice) {
            if let Some(machine) = Machine::read(json) {
                assert_eq!(json["id"].as_str(), Some(machine.id.as_str()));
                let _ = (machine.group(), machine.state.to_string());
            }
        }
    }
}

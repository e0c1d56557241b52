//! Why a command ended and the number its process exits with.
//!
//! The numbers are a public table (`docs/events.md`): one code per kind, never reused.

use serde::{Deserialize, Serialize};

use crate::OutcomeKind;

/// What kind of failure ended a command, by what its user can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A defect of flyhot itself.
    Bug,
    /// Wrong options, configuration, or an input file that cannot be read as what it should be.
    Usage,
    /// The release cannot be taken in by a running node; running code and states are as before.
    ColdDeployNeeded,
    /// An upgrade failed and was undone; everything runs the old code.
    Reverted,
    /// Some nodes run the new code and some the old.
    Mixed,
    /// A process may still be suspended, or a listener still be paused.
    MaybeSuspended,
    /// The node could not be brought to rest in time; running code and states are as before.
    NotQuiesced,
    /// The node runs the new code, but processes had to be ended, an `after` hook failed, or the gate did.
    Degraded,
    /// Somebody else holds the lock or works on the node.
    Locked,
    /// The build of the release failed.
    BuildFailed,
    /// The artifact store failed.
    Store,
    /// The Fly Machines API failed.
    FlyApi,
    /// A node cannot be reached, or it refused the cookie.
    NodeUnreachable,
    /// The artifact is not signed by a trusted key.
    NotTrusted,
    /// Interrupted by a signal; after a second one the disk, hooks and gate may not have come to their end.
    Interrupted,
}

/// The number a flyhot process exits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// Upgraded, or nothing to do. Warnings leave it 0.
    pub const SUCCESS: ExitCode = ExitCode(0);
}

impl ErrorKind {
    /// Every kind, in the order of the exit codes.
    pub const ALL: [ErrorKind; 15] = [
        ErrorKind::Bug,
        ErrorKind::Usage,
        ErrorKind::ColdDeployNeeded,
        ErrorKind::Reverted,
        ErrorKind::Mixed,
        ErrorKind::MaybeSuspended,
        ErrorKind::NotQuiesced,
        ErrorKind::Degraded,
        ErrorKind::Locked,
        ErrorKind::BuildFailed,
        ErrorKind::Store,
        ErrorKind::FlyApi,
        ErrorKind::NodeUnreachable,
        ErrorKind::NotTrusted,
        ErrorKind::Interrupted,
    ];

    /// The exit code of this kind.
    pub fn exit_code(self) -> ExitCode {
        ExitCode(match self {
            ErrorKind::Bug => 1,
            ErrorKind::Usage => 2,
            ErrorKind::ColdDeployNeeded => 10,
            ErrorKind::Reverted => 11,
            ErrorKind::Mixed => 12,
            ErrorKind::MaybeSuspended => 13,
            ErrorKind::NotQuiesced => 14,
            ErrorKind::Degraded => 15,
            ErrorKind::Locked => 20,
            ErrorKind::BuildFailed => 21,
            ErrorKind::Store => 22,
            ErrorKind::FlyApi => 23,
            ErrorKind::NodeUnreachable => 24,
            ErrorKind::NotTrusted => 25,
            ErrorKind::Interrupted => 130,
        })
    }

    /// The outcome that a command which failed with this kind reports.
    pub fn outcome(self) -> OutcomeKind {
        match self {
            ErrorKind::Usage | ErrorKind::ColdDeployNeeded | ErrorKind::Locked | ErrorKind::NotTrusted => {
                OutcomeKind::Refused
            }
            ErrorKind::Reverted => OutcomeKind::Reverted,
            ErrorKind::Mixed => OutcomeKind::Mixed,
            ErrorKind::NotQuiesced => OutcomeKind::NotQuiesced,
            ErrorKind::Degraded => OutcomeKind::Degraded,
            ErrorKind::Bug
            | ErrorKind::MaybeSuspended
            | ErrorKind::BuildFailed
            | ErrorKind::Store
            | ErrorKind::FlyApi
            | ErrorKind::NodeUnreachable
            | ErrorKind::Interrupted => OutcomeKind::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_its_own_nonzero_code() {
        let codes: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
        assert!(!codes.contains(&ExitCode::SUCCESS));
    }
}

//! What was rolled out: a record of each, for whoever asks later who did what.
//!
//! It decides nothing and is read by no part of flyhot. One record belongs to one holder of the lock, so that nobody races
//! for it; it is written when the rollout begins, so that one whose driver was killed has a record too, and once more when it ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    key::{App, Key},
    lock::Who,
    pointer::Target,
    sealed::{self, token},
    store::{If, Put, Store, StoreError, Version},
};

/// The format written.
const FORMAT: u32 = 1;

/// Which way a rollout went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// To another release.
    Rollout,
    /// Back to one of the history.
    Rollback,
}

/// What became of the pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// Machines boot the target from now on.
    Committed,
    /// The target was taken back: machines boot what they booted before.
    Abandoned,
    /// Some nodes run the target and some do not, or it is not known: machines boot what they booted before.
    Trial,
    /// It said so before.
    Unchanged,
}

/// What became of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditNode {
    /// Its name.
    pub node: String,
    /// The id of its machine; absent where it has none, and in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What became of it, in the words of the outcome.
    pub outcome: String,
    /// The code it ran before; absent where it was never reached.
    pub before: Option<String>,
    /// The code it runs now.
    pub after: Option<String>,
    /// The codes of the reasons.
    pub reasons: Vec<String>,
}

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEnd {
    /// When, seconds since 1970, by the driver's clock.
    pub at: u64,
    /// What became of it.
    pub outcome: String,
    /// The driver's exit code.
    pub exit_code: u8,
    /// What became of the pointer.
    pub pointer: Left,
    /// Each node.
    pub nodes: Vec<AuditNode>,
}

/// A rollout, for whoever asks later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Who, from which machine, and what for.
    #[serde(flatten)]
    pub who: Who,
    /// Whom the lock was taken from by force.
    pub displaced: Option<Who>,
    /// Which way.
    pub way: Way,
    /// When it began, seconds since 1970, by the driver's clock.
    pub began: u64,
    /// The image of the machines.
    pub base_image: Option<String>,
    /// What machines booted before.
    pub from: Option<Target>,
    /// What they should run.
    pub to: Target,
    /// Reasons that did not refuse it: each code with where that was said, and why.
    pub accepted: BTreeMap<String, String>,
    /// How it ended; absent while it is under way, and where its driver was killed.
    pub end: Option<AuditEnd>,
}

#[derive(Serialize)]
struct Record<'a> {
    format: u32,
    fencing: u64,
    #[serde(flatten)]
    audit: &'a Audit,
}

/// The record of a rollout that is under way.
#[derive(Debug)]
pub struct Log<'a, S> {
    store: &'a S,
    key: Key,
    fencing: u64,
    version: Version,
}

impl<'a, S: Store> Log<'a, S> {
    /// Writes the record of a rollout that begins, by the holder of the lock with this number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(store: &'a S, app: &App, fencing: u64, audit: &Audit) -> Result<Self, StoreError> {
        let key = Key::rollout(app, fencing, &token().unwrap_or_default());
        let bytes = bytes(store, &key, fencing, audit)?;
        match store.put(&key, If::Absent, bytes).await? {
            Put::Done(version) => Ok(Self {
                store,
                key,
                fencing,
                version,
            }),
            Put::Lost => Err(changed(store, &key)),
        }
    }

    /// Writes it once more, with its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end(self, audit: &Audit) -> Result<(), StoreError> {
        let bytes = bytes(self.store, &self.key, self.fencing, audit)?;
        match self
            .store
            .put(&self.key, If::Unchanged(self.version), bytes)
            .await?
        {
            Put::Done(_) => Ok(()),
            Put::Lost => Err(changed(self.store, &self.key)),
        }
    }
}

fn bytes(store: &impl Store, key: &Key, fencing: u64, audit: &Audit) -> Result<Vec<u8>, StoreError> {
    let record = Record {
        format: FORMAT,
        fencing,
        audit,
    };
    sealed::seal(&record).map_err(|what| StoreError::Broken {
        store: store.name(),
        key: key.clone(),
        what,
    })
}

fn changed(store: &impl Store, key: &Key) -> StoreError {
    StoreError::Broken {
        store: store.name(),
        key: key.clone(),
        what: "somebody else wrote it".to_owned(),
    }
}

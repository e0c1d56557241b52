//! Where a fleet's artifacts lie, and what it agrees on: the lock and the pointer.
//!
//! This room judges no release and asks no node. Nothing that is raced for is deleted, and nothing is decided but by
//! compare-and-swap in the store: no clock of a machine is compared with another's.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod audit;
mod conditions;
mod directory;
mod files;
mod home;
mod key;
mod keys;
mod lock;
mod pointer;
mod rollout;
mod s3;
mod sealed;
mod store;

pub use audit::{Audit, AuditEnd, AuditNode, Left, Log, Way};
pub use conditions::keeps_conditions;
pub use directory::Directory;
pub use home::Home;
pub use key::{App, AppError, Key};
pub use keys::Keys;
pub use lock::{LEASE, Lock, LockError, SHORTEST_LEASE, Standing, Terms, Who, let_go, standing, take};
pub use pointer::{HISTORY, Pointer, PointerError, State, Target};
pub use rollout::{Generation, Rollout, RolloutError, pointer};
pub use s3::{Bucket, ENDPOINT, REGION, S3};
pub use store::{Age, Artifacts, If, MAX_OBJECT, Moved, Object, Put, Store, StoreError, Stored, Version};

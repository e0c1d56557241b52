//! The rollout of a release to a fleet, as a decision: which node comes next, which goes back, and what that makes of the fleet.
//!
//! A pure room. It asks no node, no store and no clock: what happened and what time it is are handed in, what is to be done
//! comes out. How a node is upgraded, what its gate asks and where the code of before lies it does not know.
//!
//! Order of use: [`Machine::next`] until it says [`Command::Wait`], each command done or begun; then [`Machine::handle`] for what
//! happened meanwhile, and `next` again, also once the time comes that `Wait` named. [`Command::Finished`] is the last one, and
//! [`Machine::verdict`] says what it came to.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod machine;
mod verdict;

pub use machine::{Command, Machine, OnFailure, Settings, Way};
pub use verdict::{End, Fleet, Happened, Stands, Verdict};

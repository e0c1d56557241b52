//! What a release is: its applications, its modules, the facts of each beam file, and what differs between two
//! sets of code.
//!
//! A pure room: no clock, no environment, no network, nothing kept between calls; files only at paths handed in.
//! Nothing in a file is trusted: a broken one is an error that names it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod beam;

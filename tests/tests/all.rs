//! All tests in one program: whoever waits leaves its turn to others of any file, and what many files need is linked and
//! prepared once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod afterwards;
mod artifact;
mod boot;
mod busy;
mod code_change;
mod crowd;
mod deploy;
mod doctor;
mod edges;
mod entry;
mod failures;
mod faults;
mod fixture;
mod fleet_faults;
mod fly;
mod foreign;
mod gate;
mod harness;
mod hosted;
mod hostile;
mod hot;
mod inventory;
mod kills;
mod matrix;
mod meanwhile;
mod mix;
mod model;
mod modes;
mod native;
mod old_code;
mod operator;
mod plain;
mod policy;
mod predicted;
mod refused;
mod rehearsal;
mod restart;
mod rollout;
mod shapes;
mod store;
mod tidy;
mod tls;
mod upgrade;
mod verdict;
mod waves;
mod whole;
mod zoo;

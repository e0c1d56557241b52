//! The harness: starts real BEAM nodes, runs the flyhot binary, makes traffic, and judges what became of it all.
//!
//! It refuses to know flyhot from within: no crate of the driver is a dependency, the probe that says what a node
//! looks like is a hidden Erlang node of its own, and the command is run as its users run it.
//!
//! Every process is started by its own test process, under a name of its own, and ends with it: stopped by pid
//! when its value is dropped, killed by the kernel when the test process dies. Logs are shown when a test fails.
//!
//! ```no_run
//! use flyhot_tests::{Flyhot, Otp, Release, Shop};
//!
//! let shop = Shop::start(Otp::v25(), "v1");
//! let run = Flyhot::upgrade(&shop, &Release::shop(Otp::v25(), "v2")).run();
//! assert_eq!(run.exit_code, Some(0), "{run}");
//! assert_eq!(shop.probe().suspended(), [] as [&str; 0]);
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness: whatever it cannot do ends the test, loudly"
)]

mod app;
mod asker;
mod certificates;
mod chaos;
mod contender;
mod crowd;
mod disk;
mod epmd;
mod faults;
mod fleet;
mod fly;
mod flyhot;
mod leave;
mod machines;
pub mod model;
mod moto;
mod mover;
mod native;
mod node;
mod otp;
mod page;
pub mod peer;
mod pool;
mod probe;
mod process;
mod project;
mod publish;
mod release;
mod rounds;
mod scratch;
mod shapes;
mod shop;
mod terminal;
mod traffic;
mod troubleshooting;
mod variant;
mod wait;

pub use app::{App, Orchestrator};
pub use asker::Asker;
pub use certificates::{Authority, Identity};
pub use chaos::{Chaos, Ills};
pub use contender::{Contender, Step};
pub use crowd::Crowd;
pub use disk::{Ailment, Journal, Observed};
pub use epmd::Epmd;
pub use faults::{Fault, Trace};
pub use fleet::{Fleet, pairs, quick};
pub use fly::{
    CrossApp, Duplex, Fly, FlyCli, FlyIlls, Grant, Host, Local, Namespaces, Record, RetryAfter, Spot, Upload,
    join,
};
pub use flyhot::{Event, Flyhot, Run, Running};
pub use leave::{leave_nothing, leave_nothing_on_signal};
pub use machines::Machines;
pub use moto::Moto;
pub use mover::{Mover, Said};
pub use native::Native;
pub use node::{Node, NodeBuilder};
pub use otp::Otp;
pub use page::Page;
pub use pool::with_pool;
pub use probe::{Counts, Probe};
pub use process::{Process, Used, memory_mark_kib, signal, watched};
pub use project::Project;
pub use publish::publish;
pub use release::{Release, ShopBuild};
pub use rounds::{Random, rounds};
pub use scratch::{Scratch, workspace};
pub use shapes::{Comers, Line, Shapes, Visit, free_port};
pub use shop::{Cart, Inside, Shop, ShopBuilder};
pub use terminal::Terminal;
pub use traffic::{Sample, Tally, Traffic, TrafficBuilder};
pub use troubleshooting::Rows;
pub use variant::Variant;
pub use wait::{wait_or_tell, wait_until};

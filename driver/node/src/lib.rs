//! A session with an Erlang node, as a hidden node, over the distribution protocol.
//!
//! This room decides nothing about an upgrade, keeps no state between sessions and never trusts a length, a
//! count or a depth that the peer announces: frames are capped, terms are scanned before they are decoded,
//! every step and every call has a deadline. It offers neither the atom cache nor fragments.
//!
//! Source: the Erlang Distribution Protocol and External Term Format chapters of the ERTS user's guide.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod calls;
mod connect;
mod control;
mod display;
mod encode;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(feature = "bench")]
pub mod measured;
mod name;
mod names;
mod scan;
mod session;
mod tls;
mod wire;

pub use connect::{ConnectError, ConnectOptions, HandshakeStep, connect};
pub use display::display;
pub use name::{Cookie, NodeName, NodeNameError};
pub use names::{NamesError, Registered, names};
pub use session::{CallError, Session};
pub use tls::{Tls, TlsError, TlsFault};

/// The one home of terms in this project.
pub mod term {
    pub use erl_dist::term::*;

    pub use crate::display::display;
}

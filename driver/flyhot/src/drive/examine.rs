//! Whether a node can be reached, and what it says about being upgraded. Nothing is touched there, and nothing judged here.

use std::time::Duration;

use flyhot_agent::term::{as_atom, as_bytes, as_charlist, as_list, as_tuple, as_u64, atom, charlist, list};
use flyhot_node::ConnectError;
use flyhot_node::term::Term;

use super::NodeError;
use super::look::{LookError, Looker, silent};
use super::node::connect;
use crate::clock::{self, Beside};
use crate::errors;
use crate::options::Peer;

/// A node that was to be looked at.
#[derive(Debug)]
pub(crate) enum Examined {
    /// No session with it.
    Unreachable {
        /// Where that ended.
        at: Stage,
        /// Why, and what to do.
        error: NodeError,
    },
    /// What it says.
    Reached(Found),
}

/// The way to a node, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Host,
    Epmd,
    Port,
    Tls,
    Handshake,
    Cookie,
}

/// What a node says.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) otp: String,
    pub(crate) elixir: Option<String>,
    /// `flyhot boot` started it.
    pub(crate) booted: bool,
    /// `inet_dist_use_interface`, where that is a loopback address.
    pub(crate) loopback: Option<String>,
    pub(crate) sasl: bool,
    pub(crate) root: String,
    /// Directories that an upgrade writes to and the node may not.
    pub(crate) closed: Vec<String>,
    pub(crate) memory_bytes: u64,
    pub(crate) free_bytes: Option<u64>,
    /// The clock of its machine.
    pub(crate) clock: Option<Beside>,
    /// Whoever is at work there.
    pub(crate) holder: Option<String>,
}

/// Looks at one node.
///
/// # Errors
/// It ended while it was asked.
pub(crate) async fn examine(peer: &Peer) -> Result<Examined, NodeError> {
    let session = match connect(peer).await {
        Ok(session) => session,
        Err(error) => {
            return Ok(Examined::Unreachable {
                at: stage(&error),
                error: errors::connect(peer, &error),
            });
        }
    };
    let found = ask(&Looker { session: &session }).await;
    session.close().await;
    found
        .map(Examined::Reached)
        .map_err(|error| silent(&peer.name, &error))
}

fn stage(error: &ConnectError) -> Stage {
    use flyhot_node::HandshakeStep as Step;
    match error {
        ConnectError::NoSuchHost { .. } => Stage::Host,
        ConnectError::NoEpmd { .. } | ConnectError::NotEpmd { .. } | ConnectError::NotRegistered { .. } => {
            Stage::Epmd
        }
        ConnectError::Refused { .. } => Stage::Port,
        ConnectError::Tls { .. } => Stage::Tls,
        ConnectError::CookieRefused { .. } => Stage::Cookie,
        ConnectError::NameClash { .. }
        | ConnectError::NotAllowed { .. }
        | ConnectError::OtherNode { .. }
        | ConnectError::Handshake { .. } => Stage::Handshake,
        ConnectError::HandshakeTimeout { step, .. } => match step {
            Step::Resolve => Stage::Host,
            Step::Epmd => Stage::Epmd,
            Step::Connect => Stage::Port,
            Step::Tls => Stage::Tls,
            Step::SendName | Step::Challenge => Stage::Handshake,
        },
    }
}

async fn ask(looker: &Looker<'_>) -> Result<Found, LookError> {
    let otp = looker
        .ask("erlang", "system_info", vec![atom("otp_release")])
        .await?;
    let interface = looker
        .ask(
            "application",
            "get_env",
            vec![atom("kernel"), atom("inet_dist_use_interface")],
        )
        .await?;
    let (apps, dirs) = looker.applications().await?;
    let root = looker.root(&dirs).await?;
    let closed = closed(looker, &root).await?;
    let memory = looker.ask("erlang", "memory", vec![atom("total")]).await?;
    let meminfo = looker
        .ask("file", "read_file", vec![charlist("/proc/meminfo")])
        .await?;
    let asked = clock::now();
    let time = looker.ask("os", "system_time", vec![atom("second")]).await?;
    let answered = clock::now();
    Ok(Found {
        otp: as_charlist(&otp).unwrap_or_default(),
        elixir: apps
            .iter()
            .find(|app| app.name == "elixir")
            .map(|app| app.version.clone()),
        booted: looker.booted().await?,
        loopback: ok(&interface).and_then(loopback),
        sasl: apps.iter().any(|app| app.name == "sasl" && app.running),
        closed,
        root,
        memory_bytes: as_u64(&memory).unwrap_or_default(),
        free_bytes: ok(&meminfo).and_then(as_bytes).and_then(available),
        clock: as_u64(&time).map(|seconds| Beside {
            asked,
            theirs: Duration::from_secs(seconds),
            answered,
        }),
        holder: looker.under_way().await?.map(|under_way| under_way.holder),
    })
}

/// Of the directories that an upgrade writes to, those that the node may not write to. Some are made by the first upgrade.
async fn closed(looker: &Looker<'_>, root: &str) -> Result<Vec<String>, LookError> {
    let boot = looker.ask("init", "get_argument", vec![atom("boot")]).await?;
    let boot = ok(&boot)
        .and_then(as_list)
        .and_then(|given| as_charlist(as_list(given.first()?)?.first()?));
    let version = boot
        .as_deref()
        .and_then(|boot| boot.rsplit_once('/'))
        .map(|(directory, _)| directory.to_owned())
        .filter(|directory| directory.starts_with(root));
    let fixed =
        ["", "/releases", "/flyhot", "/flyhot/code", "/flyhot/base"].map(|below| format!("{root}{below}"));
    let mut closed = Vec::new();
    for directory in fixed.into_iter().chain(version) {
        let info = looker
            .ask("file", "read_file_info", vec![charlist(&directory), list([])])
            .await?;
        // #file_info.access is the fourth element.
        let access = ok(&info)
            .and_then(as_tuple)
            .and_then(|info| as_atom(info.get(3)?));
        let absent = matches!(as_tuple(&info), Some([_, why]) if as_atom(why) == Some("enoent"));
        if !absent && !access.is_some_and(|access| access.contains("write")) {
            closed.push(directory);
        }
    }
    Ok(closed)
}

fn ok(term: &Term) -> Option<&Term> {
    match as_tuple(term)? {
        [tag, value] if as_atom(tag) == Some("ok") => Some(value),
        _ => None,
    }
}

/// `{127, _, _, _}` or `{0, 0, 0, 0, 0, 0, 0, 1}`, as text.
fn loopback(term: &Term) -> Option<String> {
    let parts: Option<Vec<u64>> = as_tuple(term)?.iter().map(as_u64).collect();
    match &parts?[..] {
        [127, b, c, d] => Some(format!("127.{b}.{c}.{d}")),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("::1".to_owned()),
        _ => None,
    }
}

/// `MemAvailable` of Linux, bytes.
fn available(meminfo: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(meminfo).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

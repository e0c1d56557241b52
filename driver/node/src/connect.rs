//! From a node's name to a session: address, epmd, port, handshake.
//!
//! Nothing is tried twice here, nothing waits longer than one step may take, and the cookie is told to nobody: it
//! goes into a digest.
//!
//! Source: Erlang Distribution Protocol, "The EPMD Protocol" and "Distribution Handshake"; `dist.hrl` for flags.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use erl_dist::DistributionFlags;
use erl_dist::epmd::EpmdClient;
use erl_dist::handshake::{ClientSideHandshake, HandshakeError, HandshakeStatus};
use erl_dist::node::{Creation, LocalNode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::calls::Own;
use crate::session::Session;
use crate::tls::{LongLengths, Tls, TlsFault, fault};
use crate::{Cookie, NodeName};

/// What this side can do, as bits of the handshake (`erts/emulator/beam/dist.h`): what OTP 25 to 29 demand, monitors,
/// and a name given by the peer. Written out because erl_dist's digest bit is 36 where the peers' is 26, and
/// bit 36 means something else to them. Neither the atom cache (bit 13) nor fragments (bit 23): no other frame
/// than pass-through is read here.
const FLAGS: u64 = 0x4 // extended references
    | 0x8 // monitors
    | 0x10 | 0x80 // fun tags
    | 0x20 // monitors by name
    | 0x100 // extended pids and ports
    | 0x200 // export tag
    | 0x400 // bit binaries
    | 0x800 // new floats
    | 0x1_0000 // UTF-8 atoms
    | 0x2_0000 // maps
    | 0x4_0000 // big creation
    | 0x100_0000 // handshake of OTP 23
    | 0x200_0000 // unlink id
    | 0x400_0000 // everything mandatory in OTP 25
    | 1 << 33 // name me
    | 1 << 34; // node container types version 4

/// How to reach a node.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The node.
    pub peer: NodeName,
    /// The secret shared with it.
    pub cookie: Cookie,
    /// The port it listens on; epmd is not asked then.
    pub dist_port: Option<u16>,
    /// The port of epmd on the node's host.
    pub epmd_port: u16,
    /// How to speak TLS, where the node does (`-proto_dist inet_tls`).
    pub tls: Option<Tls>,
    /// How long each step may take: a look-up, a connection, half a handshake.
    pub step_timeout: Duration,
}

/// A step of connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeStep {
    /// Looking up the host's address.
    Resolve,
    /// Asking epmd.
    Epmd,
    /// Opening the connection.
    Connect,
    /// Agreeing on TLS.
    Tls,
    /// Sending our name, awaiting a status.
    SendName,
    /// Challenge and answer.
    Challenge,
}

impl std::fmt::Display for HandshakeStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HandshakeStep::Resolve => "looking up the host",
            HandshakeStep::Epmd => "asking epmd",
            HandshakeStep::Connect => "opening the connection",
            HandshakeStep::Tls => "agreeing on TLS",
            HandshakeStep::SendName => "exchanging names",
            HandshakeStep::Challenge => "exchanging challenges",
        })
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host has no address.
    #[error("the host {host} has no address")]
    NoSuchHost {
        /// The host.
        host: String,
        /// The resolver's word, if it had one.
        #[source]
        source: Option<io::Error>,
    },
    /// Nobody listens on epmd's port.
    #[error("no epmd answers on {address}")]
    NoEpmd {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Whatever listens on epmd's port does not speak its protocol.
    #[error("what answers on {address} is not epmd")]
    NotEpmd {
        /// Host and port.
        address: String,
    },
    /// epmd does not know the node.
    #[error("epmd on {address} knows no node {name}")]
    NotRegistered {
        /// The part before the `@`.
        name: String,
        /// Host and port of epmd.
        address: String,
    },
    /// Nobody listens on the node's port.
    #[error("nobody listens on {address}")]
    Refused {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// TLS was not agreed on.
    #[error("no TLS with {peer}: {fault}")]
    Tls {
        /// The node.
        peer: NodeName,
        /// Why.
        fault: TlsFault,
    },
    /// The node closed the connection after our answer to its challenge.
    #[error("{peer} refused the cookie")]
    CookieRefused {
        /// The node.
        peer: NodeName,
    },
    /// The node knows somebody else under our name.
    #[error("{peer} has a connection under our name already")]
    NameClash {
        /// The node.
        peer: NodeName,
    },
    /// The node does not allow this connection.
    #[error("{peer} does not allow connections of this side")]
    NotAllowed {
        /// The node.
        peer: NodeName,
    },
    /// The peer is another node than the one asked for.
    #[error("the node that answered is {found}, not {peer}")]
    OtherNode {
        /// The node asked for.
        peer: NodeName,
        /// The node that answered.
        found: String,
    },
    /// A step took too long.
    #[error("{peer} did not answer within {} ms while {step}", after.as_millis())]
    HandshakeTimeout {
        /// The node.
        peer: NodeName,
        /// Which step.
        step: HandshakeStep,
        /// How long was waited.
        after: Duration,
    },
    /// The handshake failed otherwise.
    #[error("the handshake with {peer} failed while {step}: {what}")]
    Handshake {
        /// The node.
        peer: NodeName,
        /// Which step.
        step: HandshakeStep,
        /// What came.
        what: String,
    },
}

/// Connects to a node and shakes hands with it, under a name that it gives.
///
/// # Errors
/// [`ConnectError`], one variant per cause.
pub async fn connect(options: &ConnectOptions) -> Result<Session, ConnectError> {
    let port = match options.dist_port {
        Some(port) => port,
        None => ask_epmd(options).await?,
    };
    let stream = open(options, port, HandshakeStep::Connect)
        .await?
        .map_err(|source| ConnectError::Refused {
            address: address(options, port),
            source,
        })?;
    let peer = options.peer.clone();
    let Some(tls) = &options.tls else {
        let (stream, own) = shake_hands(options, stream).await?;
        let (read, write) = stream.into_split();
        return Ok(Session::new(read, write, peer, own));
    };
    let stream = within(options, HandshakeStep::Tls, tls.connect(peer.host(), stream))
        .await?
        .map_err(|fault| ConnectError::Tls {
            peer: peer.clone(),
            fault,
        })?;
    let (stream, own) = shake_hands(options, LongLengths::new(stream)).await?;
    let (read, write) = tokio::io::split(stream.into_inner());
    Ok(Session::new(read, write, peer, own))
}

async fn ask_epmd(options: &ConnectOptions) -> Result<u16, ConnectError> {
    let address = address(options, options.epmd_port);
    let stream = open(options, options.epmd_port, HandshakeStep::Epmd)
        .await?
        .map_err(|source| ConnectError::NoEpmd {
            address: address.clone(),
            source,
        })?;
    let client = EpmdClient::new(stream.compat());
    match within(options, HandshakeStep::Epmd, client.get_node(options.peer.name())).await? {
        Ok(Some(entry)) => Ok(entry.port),
        Ok(None) => Err(ConnectError::NotRegistered {
            name: options.peer.name().into(),
            address,
        }),
        Err(error) => {
            tracing::debug!(%error, address, "no answer of epmd");
            Err(ConnectError::NotEpmd { address })
        }
    }
}

fn address(options: &ConnectOptions, port: u16) -> String {
    match options.peer.host() {
        host if host.contains(':') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// Tries every address of the host; the outer error is about the host, the inner about the port.
async fn open(
    options: &ConnectOptions,
    port: u16,
    step: HandshakeStep,
) -> Result<io::Result<TcpStream>, ConnectError> {
    let host = options.peer.host();
    let no_host = |source| ConnectError::NoSuchHost {
        host: host.to_owned(),
        source,
    };
    let addresses: Vec<SocketAddr> = within(
        options,
        HandshakeStep::Resolve,
        tokio::net::lookup_host((host, port)),
    )
    .await?
    .map_err(|error| no_host(Some(error)))?
    .collect();
    let mut addresses: &[SocketAddr] = &addresses;
    let end = Instant::now() + options.step_timeout;
    let mut last = None;
    while let Some((first, rest)) = addresses.split_first() {
        // A share of what is left, so that an address that swallows packets does not hide the next one.
        let shares = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let share = end.saturating_duration_since(Instant::now()) / shares;
        addresses = rest;
        match timeout(share, TcpStream::connect(first)).await {
            // Handshake and calls are small writes that wait for answers: Nagle would hold each for 40 ms.
            Ok(Ok(stream)) => return Ok(stream.set_nodelay(true).map(|()| stream)),
            Ok(Err(error)) => {
                tracing::debug!(%first, %error, "no connection");
                last = Some(Ok(error));
            }
            Err(_) => last = last.or(Some(Err(timed_out(options, step)))),
        }
    }
    match last {
        Some(Ok(refused)) => Ok(Err(refused)),
        Some(Err(silent)) => Err(silent),
        None => Err(no_host(None)),
    }
}

async fn within<T>(
    options: &ConnectOptions,
    step: HandshakeStep,
    future: impl Future<Output = T>,
) -> Result<T, ConnectError> {
    timeout(options.step_timeout, future)
        .await
        .map_err(|_| timed_out(options, step))
}

fn timed_out(options: &ConnectOptions, step: HandshakeStep) -> ConnectError {
    ConnectError::HandshakeTimeout {
        peer: options.peer.clone(),
        step,
        after: options.step_timeout,
    }
}

/// The stream again, and who we are on it.
pub(crate) async fn shake_hands<S>(options: &ConnectOptions, stream: S) -> Result<(S, Own), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let peer = options.peer.clone();
    let failed = |step, what: String| ConnectError::Handshake {
        peer: peer.clone(),
        step,
        what,
    };
    // Only the host part is sent; the peer gives the name, so that two drivers never clash.
    let name = erl_dist::node::NodeName::new("flyhot", peer.host())
        .map_err(|error| failed(HandshakeStep::SendName, error.to_string()))?;
    let mut local = LocalNode::new(name, Creation::random());
    local.flags = DistributionFlags::from_bits_truncate(FLAGS);

    let overheard = Overheard::default();
    let stream = Wire {
        stream,
        overheard: overheard.clone(),
    };
    let mut handshake = ClientSideHandshake::new(stream.compat(), local, options.cookie.text());
    let status = within(
        options,
        HandshakeStep::SendName,
        handshake.execute_send_name(erl_dist::LOWEST_DISTRIBUTION_PROTOCOL_VERSION),
    )
    .await?
    .map_err(|error| {
        refused(options, &error).unwrap_or_else(|| failed(HandshakeStep::SendName, error.to_string()))
    })?;
    let (own, creation) = match status {
        HandshakeStatus::Named { name, creation } => (format!("{name}@{}", peer.host()), creation),
        HandshakeStatus::Alive | HandshakeStatus::Nok => return Err(ConnectError::NameClash { peer }),
        HandshakeStatus::NotAllowed => return Err(ConnectError::NotAllowed { peer }),
        HandshakeStatus::Ok | HandshakeStatus::OkSimultaneous => {
            return Err(failed(HandshakeStep::SendName, "the node gave us no name".into()));
        }
    };
    overheard.forget();
    let (stream, found) = within(options, HandshakeStep::Challenge, handshake.execute_rest(true))
        .await?
        .map_err(|error| {
            match error {
                // A node that does not like our digest closes the connection without a word.
                HandshakeError::CookieMismatch => ConnectError::CookieRefused { peer: peer.clone() },
                HandshakeError::Io(error)
                    if overheard.no_word_since_ours()
                        && (matches!(
                            error.kind(),
                            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                        ) || (options.tls.is_some() && fault(&error, peer.host()).is_some())) =>
                {
                    ConnectError::CookieRefused { peer: peer.clone() }
                }
                other => failed(HandshakeStep::Challenge, other.to_string()),
            }
        })?;
    if found.name.to_string() != peer.to_string() {
        return Err(ConnectError::OtherNode {
            peer,
            found: found.name.to_string(),
        });
    }
    tracing::debug!(%peer, own, "connected");
    let own = Own {
        name: own,
        creation: creation.get(),
    };
    Ok((stream.into_inner().stream, own))
}

/// With TLS 1.3 a node looks at our certificate when we have agreed already: our name is the first that meets a
/// refusal, as an alert, or as an end when the alert was overtaken by it.
fn refused(options: &ConnectOptions, error: &HandshakeError) -> Option<ConnectError> {
    let (Some(_), HandshakeError::Io(error)) = (&options.tls, error) else {
        return None;
    };
    let fault = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            TlsFault::OursRefused("it ended the connection, which it does for other reasons too".into())
        }
        _ => fault(error, options.peer.host())?,
    };
    Some(ConnectError::Tls {
        peer: options.peer.clone(),
        fault,
    })
}

/// What went over a wire, as far as it tells a refused cookie from a connection that broke.
#[derive(Debug, Clone, Default)]
struct Overheard(Arc<AtomicU8>);

const NOTHING: u8 = 0;
const OURS: u8 = 1;
const THEIRS_AFTER_OURS: u8 = 2;

impl Overheard {
    fn forget(&self) {
        self.0.store(NOTHING, Ordering::Relaxed);
    }

    /// Whether we spoke, and the peer said not one byte after that.
    fn no_word_since_ours(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OURS
    }
}

/// The connection during the handshake.
struct Wire<S> {
    stream: S,
    overheard: Overheard,
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before && self.overheard.no_word_since_ours() {
            self.overheard.0.store(THEIRS_AFTER_OURS, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(1..)) = written {
            self.overheard.0.store(OURS, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

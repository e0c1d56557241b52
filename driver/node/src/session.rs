//! An open session: one task reads, one writes, calls wait in a table.
//!
//! Source: Erlang Distribution Protocol, "Protocol between connected nodes"; `rpc.erl` for calls of `rex`.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use erl_dist::term::{Atom, FixInteger, List, Pid, Reference, Term, Tuple};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::NodeName;
use crate::display::display;
use crate::encode::encode;
use crate::scan::scan;

/// The longest frame taken from a peer. The largest answer asked for is a census with thousands of kinds, a few
/// megabytes; 128 MiB leaves room for a reply of 64 MB with its headers and bounds what a broken peer costs.
const MAX_FRAME: usize = 128 * 1024 * 1024;

/// Bytes a read asks for; a frame's buffer grows with what has arrived, never with what was announced.
const READ: u64 = 64 * 1024;

/// Silence after which a tick is sent. A peer drops us after `net_ticktime` (default 60 s) without a byte; a
/// quarter of 4 s, the shortest anyone sets, is four bytes a second.
const TICK: Duration = Duration::from_secs(1);

/// Frames waiting for the writer: callers wait beyond that.
const WRITE_QUEUE: usize = 64;

/// Sends to our pid that wait for a reader; more are dropped and counted.
const INCOMING: usize = 1024;

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The node could not run it; its reason as Erlang writes it.
    #[error("the node answered badrpc: {reason}")]
    BadRpc {
        /// The reason.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer within {} ms", after.as_millis())]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The connection ended first.
    #[error("the connection was lost: {cause}")]
    ConnectionLost {
        /// What ended it.
        cause: String,
    },
    /// The node announced a frame longer than is taken.
    #[error("the node announced a frame of {size} bytes, more than {max} bytes")]
    FrameTooLarge {
        /// What it announced.
        size: usize,
        /// What is taken.
        max: usize,
    },
    /// The node sent what is no term.
    #[error("the node sent a malformed term: {what}")]
    MalformedTerm {
        /// What is wrong with it.
        what: String,
    },
    /// An argument cannot be sent.
    #[error("an argument cannot be sent: {what}")]
    Argument {
        /// Why.
        what: String,
    },
}

/// An open session with a node; ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    peer: NodeName,
    own: String,
    creation: u32,
    next: AtomicU32,
    shared: Arc<Shared>,
    writer: mpsc::Sender<Vec<u8>>,
    incoming: Mutex<Option<mpsc::Receiver<Term>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<u32, oneshot::Sender<Result<Term, CallError>>>,
    ended: Option<CallError>,
    dropped: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every waiting call; later ones learn it at once.
    fn end(&self, why: &CallError) {
        let mut state = self.lock();
        state.ended.get_or_insert_with(|| why.clone());
        for (_, call) in state.pending.drain() {
            let _ = call.send(Err(why.clone()));
        }
    }
}

/// Takes a call out of the table however its future ends.
struct Registered<'a> {
    shared: &'a Shared,
    id: u32,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.shared.lock().pending.remove(&self.id);
    }
}

impl Session {
    pub(crate) fn new(stream: TcpStream, peer: NodeName, own: String, creation: u32) -> Self {
        let (read, write) = stream.into_split();
        let shared = Arc::new(Shared::default());
        let (writer, frames) = mpsc::channel(WRITE_QUEUE);
        let (route, incoming) = mpsc::channel(INCOMING);
        let reading = tokio::spawn(run_reader(read, Arc::clone(&shared), route));
        let writing = tokio::spawn(run_writer(write, Arc::clone(&shared), frames));
        Self {
            inner: Arc::new(Inner {
                peer,
                own,
                creation,
                next: AtomicU32::new(1),
                shared,
                writer,
                incoming: Mutex::new(Some(incoming)),
                tasks: [reading, writing],
            }),
        }
    }

    /// The name the peer gave us.
    pub fn own_name(&self) -> &str {
        &self.inner.own
    }

    /// The node at the other end.
    pub fn peer(&self) -> &NodeName {
        &self.inner.peer
    }

    /// A pid of ours that the peer may send to.
    pub fn pid(&self) -> Pid {
        Pid::new(self.inner.own.as_str(), 1, 0, self.inner.creation)
    }

    /// What is sent to [`Self::pid`] besides answers to calls; `None` when it was taken already. At most 1024
    /// wait, more are dropped.
    pub fn incoming(&self) -> Option<mpsc::Receiver<Term>> {
        self.inner.incoming.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Calls a function on the node through `rex`, with group leader `user`.
    ///
    /// # Errors
    /// [`CallError`]. After a timeout the call may still be running on the node.
    pub async fn call(
        &self,
        module: &str,
        function: &str,
        args: Vec<Term>,
        deadline: Duration,
    ) -> Result<Term, CallError> {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.inner.shared.lock();
            if let Some(why) = &state.ended {
                return Err(why.clone());
            }
            state.pending.insert(id, answer);
        }
        let _registered = Registered { shared: &self.inner.shared, id };
        let reference =
            Reference { node: Atom::from(self.own_name()), id: vec![id, 0, 0], creation: self.inner.creation };
        let from = Tuple::from(vec![self.pid().into(), reference.into()]);
        let call = Tuple::from(vec![
            Atom::from("call").into(),
            Atom::from(module).into(),
            Atom::from(function).into(),
            List::from(args).into(),
            Atom::from("user").into(),
        ]);
        let message = Tuple::from(vec![Atom::from("$gen_call").into(), from.into(), call.into()]);
        let work = async {
            self.send_name("rex", message.into()).await?;
            answered
                .await
                .unwrap_or_else(|_| Err(CallError::ConnectionLost { cause: "the session was closed".into() }))
        };
        let term = timeout(deadline, work).await.map_err(|_| CallError::Timeout { after: deadline })??;
        match &term {
            Term::Tuple(tuple) => match &tuple.elements[..] {
                [Term::Atom(tag), reason] if tag.name == "badrpc" => {
                    Err(CallError::BadRpc { reason: display(reason).to_string() })
                }
                _ => Ok(term),
            },
            _ => Ok(term),
        }
    }

    /// Sends to a process.
    ///
    /// # Errors
    /// The connection is lost, or the term cannot be sent.
    pub async fn send(&self, to: &Pid, message: Term) -> Result<(), CallError> {
        // SEND: {2, Unused, ToPid}
        let control = vec![FixInteger { value: 2 }.into(), Atom::from("").into(), to.clone().into()];
        self.write(Tuple::from(control).into(), message).await
    }

    /// Sends to a registered process.
    ///
    /// # Errors
    /// The connection is lost, or the term cannot be sent.
    pub async fn send_name(&self, to: &str, message: Term) -> Result<(), CallError> {
        // REG_SEND: {6, FromPid, Unused, ToName}
        let control = vec![
            FixInteger { value: 6 }.into(),
            self.pid().into(),
            Atom::from("").into(),
            Atom::from(to).into(),
        ];
        self.write(Tuple::from(control).into(), message).await
    }

    async fn write(&self, control: Term, message: Term) -> Result<(), CallError> {
        let mut frame = vec![0, 0, 0, 0, PASS_THROUGH];
        for term in [&control, &message] {
            encode(term, &mut frame).map_err(|error| CallError::Argument { what: error.to_string() })?;
        }
        let length = u32::try_from(frame.len() - 4)
            .map_err(|_| CallError::Argument { what: "it is longer than 4 GiB".into() })?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.inner.writer.send(frame).await.map_err(|_| {
            self.inner
                .shared
                .lock()
                .ended
                .clone()
                .unwrap_or_else(|| CallError::ConnectionLost { cause: "the writer ended".into() })
        })
    }
}

/// The only frame type spoken here: control message and message follow, each with its version byte.
const PASS_THROUGH: u8 = 112;

async fn run_writer(mut stream: OwnedWriteHalf, shared: Arc<Shared>, mut frames: mpsc::Receiver<Vec<u8>>) {
    loop {
        let frame = match timeout(TICK, frames.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(_) => vec![0; 4],
        };
        if let Err(error) = stream.write_all(&frame).await {
            shared.end(&CallError::ConnectionLost { cause: error.to_string() });
            return;
        }
    }
}

async fn run_reader(mut stream: OwnedReadHalf, shared: Arc<Shared>, route: mpsc::Sender<Term>) {
    let why = loop {
        match read_frame(&mut stream).await {
            Ok(frame) => {
                if let Err(error) = take_frame(&frame, &shared, &route) {
                    break error;
                }
            }
            Err(error) => break error,
        }
    };
    shared.end(&why);
}

async fn read_frame(stream: &mut OwnedReadHalf) -> Result<Vec<u8>, CallError> {
    let lost = |error: io::Error| CallError::ConnectionLost {
        cause: match error.kind() {
            io::ErrorKind::UnexpectedEof => "the node closed it".into(),
            _ => error.to_string(),
        },
    };
    let size = stream.read_u32().await.map_err(lost)? as usize;
    if size > MAX_FRAME {
        return Err(CallError::FrameTooLarge { size, max: MAX_FRAME });
    }
    let mut frame = Vec::new();
    while frame.len() < size {
        let more = READ.min((size - frame.len()) as u64);
        if (&mut *stream).take(more).read_to_end(&mut frame).await.map_err(lost)? == 0 {
            return Err(CallError::ConnectionLost { cause: "the node closed it inside a frame".into() });
        }
    }
    Ok(frame)
}

/// A control message that is not understood is passed over: the stream is still in step. A frame or term that is
/// not one ends the session, because nothing after it can be trusted.
fn take_frame(frame: &[u8], shared: &Shared, route: &mpsc::Sender<Term>) -> Result<(), CallError> {
    let Some((kind, body)) = frame.split_first() else {
        return Ok(()); // a tick
    };
    if *kind != PASS_THROUGH {
        return Err(CallError::MalformedTerm { what: format!("a frame of type {kind}") });
    }
    let (control, length) = term(body)?;
    let Term::Tuple(control) = control else {
        return Err(CallError::MalformedTerm { what: "a control message that is no tuple".into() });
    };
    match control.elements.first() {
        // SEND {2, _, ToPid} and SEND_SENDER {22, From, ToPid}
        Some(Term::FixInteger(operation)) if matches!(operation.value, 2 | 22) => {
            deliver(term(&body[length..])?.0, shared, route);
        }
        Some(operation) => tracing::debug!(operation = %operation, "control message passed over"),
        None => {}
    }
    Ok(())
}

fn term(bytes: &[u8]) -> Result<(Term, usize), CallError> {
    let malformed = |what: String| CallError::MalformedTerm { what };
    let length = scan(bytes).map_err(|error| malformed(error.to_string()))?;
    let term = Term::decode(&bytes[..length]).map_err(|error| malformed(error.to_string()))?;
    Ok((term, length))
}

/// An answer goes to its call; an answer nobody waits for is dropped; anything else goes to the reader of sends.
fn deliver(message: Term, shared: &Shared, route: &mpsc::Sender<Term>) {
    let message = match message {
        Term::Tuple(mut tuple) => match &tuple.elements[..] {
            [Term::Reference(reference), _] => {
                let id = reference.id.first().copied().unwrap_or(0);
                if let (Some(call), Some(answer)) =
                    (shared.lock().pending.remove(&id), tuple.elements.pop())
                {
                    let _ = call.send(Ok(answer));
                }
                return;
            }
            _ => Term::Tuple(tuple),
        },
        other => other,
    };
    if route.try_send(message).is_err() {
        let dropped = {
            let mut state = shared.lock();
            state.dropped += 1;
            state.dropped
        };
        tracing::debug!(dropped, "nobody reads what the node sends");
    }
}

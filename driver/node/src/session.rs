//! An open session: calls, sends, and what is sent to us.
//!
//! Nothing is retried and nothing is reconnected here: a session that has ended stays so, and every later call
//! says why.
//!
//! Source: `rpc.erl`, `handle_call`, for what `rex` understands; `net_kernel:get_net_ticktime/0`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use erl_dist::term::{Atom, List, Pid, Reference, Term, Tuple};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::NodeName;
use crate::calls::{Calls, Own};
use crate::control;
use crate::display::display;
use crate::encode::EncodeError;
use crate::wire::{Outgoing, Ticks, run_reader, run_writer};

/// Frames waiting for the writer: callers wait beyond that. Staging hands over 1 MiB at a time and waits for each
/// answer, so what waits is small.
const WRITE_QUEUE: usize = 64;

/// How long the node may take for its tick time. It answers in a millisecond; a node under load is given what
/// OTP gives any call.
const TICK_TIME_ANSWER: Duration = Duration::from_secs(5);

/// How long an orderly end may take: the node closes its side at once, one round trip away.
const CLOSING: Duration = Duration::from_secs(1);

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
    /// The node announced a frame longer than is taken; the session is over.
    #[error("the node announced a frame of {size} bytes, more than {max} bytes")]
    FrameTooLarge {
        /// What it announced.
        size: usize,
        /// What is taken.
        max: usize,
    },
    /// The answer is no term that is decoded here, or the session is over because a frame was none.
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

impl From<EncodeError> for CallError {
    fn from(error: EncodeError) -> Self {
        Self::Argument {
            what: error.to_string(),
        }
    }
}

/// An open session with a node. Clones share it; it ends when the last one is dropped, without regard to what is
/// still to be written, or by [`Self::close`].
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    peer: NodeName,
    calls: Arc<Calls>,
    writer: mpsc::Sender<Outgoing>,
    incoming: Mutex<Option<mpsc::Receiver<Term>>>,
    reading: Mutex<Option<JoinHandle<()>>>,
    writing: JoinHandle<()>,
}

impl Inner {
    fn take_reading(&self) -> Option<JoinHandle<()>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.calls.end(CallError::ConnectionLost {
            cause: "this side dropped it".into(),
        });
        self.writing.abort();
        if let Some(reading) = self.take_reading() {
            reading.abort();
        }
    }
}

impl Session {
    /// Takes over a connection whose handshake is done.
    pub(crate) fn new(
        read: impl AsyncRead + Unpin + Send + 'static,
        write: impl AsyncWrite + Unpin + Send + 'static,
        peer: NodeName,
        own: Own,
    ) -> Self {
        let (calls, incoming) = Calls::new(own);
        let calls = Arc::new(calls);
        let ticks = Arc::new(Ticks::new());
        let (writer, frames) = mpsc::channel(WRITE_QUEUE);
        let reading = tokio::spawn(run_reader(
            read,
            Arc::clone(&calls),
            Arc::clone(&ticks),
            writer.clone(),
        ));
        let writing = tokio::spawn(run_writer(write, Arc::clone(&calls), Arc::clone(&ticks), frames));
        tokio::spawn(learn_tick_time(Arc::clone(&calls), ticks, writer.clone()));
        Self {
            inner: Arc::new(Inner {
                peer,
                calls,
                writer,
                incoming: Mutex::new(Some(incoming)),
                reading: Mutex::new(Some(reading)),
                writing,
            }),
        }
    }

    /// The name the peer gave us.
    pub fn own_name(&self) -> &str {
        &self.inner.calls.own().name
    }

    /// The node at the other end.
    pub fn peer(&self) -> &NodeName {
        &self.inner.peer
    }

    /// A pid of ours that the peer may send to.
    pub fn pid(&self) -> Pid {
        self.inner.calls.own().pid()
    }

    /// What is sent to [`Self::pid`] besides answers to calls and io_requests; `None` when it was taken already.
    /// At most 1024 wait; more, and any longer than 256 KiB, are dropped and counted.
    pub fn incoming(&self) -> Option<mpsc::Receiver<Term>> {
        self.inner
            .incoming
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// How many sends to [`Self::pid`] were dropped.
    pub fn dropped(&self) -> u64 {
        self.inner.calls.dropped()
    }

    /// Calls a function on the node through `rex`, with group leader `user`.
    ///
    /// # Errors
    /// [`CallError`]. After a timeout the call may still be running on the node; its late answer is dropped.
    pub async fn call(
        &self,
        module: &str,
        function: &str,
        args: Vec<Term>,
        deadline: Duration,
    ) -> Result<Term, CallError> {
        call(
            &self.inner.calls,
            &self.inner.writer,
            (module, function, args),
            deadline,
        )
        .await
    }

    /// Sends to a process. Waits while the node takes nothing; an answer is not awaited.
    ///
    /// # Errors
    /// The connection is lost, or the term cannot be sent.
    pub async fn send(&self, to: &Pid, message: Term) -> Result<(), CallError> {
        write(
            &self.inner.calls,
            &self.inner.writer,
            control::send(to, &message)?,
        )
        .await
    }

    /// Sends to a registered process, which need not exist. Waits while the node takes nothing.
    ///
    /// # Errors
    /// The connection is lost, or the term cannot be sent.
    pub async fn send_name(&self, to: &str, message: Term) -> Result<(), CallError> {
        write(
            &self.inner.calls,
            &self.inner.writer,
            control::reg_send(self.pid(), to, &message)?,
        )
        .await
    }

    /// Ends the session for all its clones after everything handed over before has been written, and waits until
    /// the node has seen it, for a second at most. Calls that still wait end with [`CallError::ConnectionLost`].
    pub async fn close(self) {
        let Some(mut reading) = self.inner.take_reading() else {
            return;
        };
        let closing = async {
            let _ = self.inner.writer.send(Outgoing::Close).await;
            let _ = (&mut reading).await;
        };
        if timeout(CLOSING, closing).await.is_err() {
            reading.abort();
        }
    }
}

/// `{'$gen_call', {Pid, Reference}, {call, Module, Function, Arguments, GroupLeader}}` to `rex`, and its answer.
async fn call(
    calls: &Calls,
    writer: &mpsc::Sender<Outgoing>,
    (module, function, args): (&str, &str, Vec<Term>),
    deadline: Duration,
) -> Result<Term, CallError> {
    let pending = calls.begin()?;
    let request = request(calls.own().pid(), pending.reference(), module, function, args);
    let frame = control::reg_send(calls.own().pid(), "rex", &request)?;
    let answer = timeout(deadline, async {
        write(calls, writer, frame).await?;
        pending.answer().await
    })
    .await
    .map_err(|_| CallError::Timeout { after: deadline })??;
    match &answer {
        Term::Tuple(tuple) => match &tuple.elements[..] {
            [Term::Atom(tag), reason] if tag.name == "badrpc" => Err(CallError::BadRpc {
                reason: display(reason).to_string(),
            }),
            _ => Ok(answer),
        },
        _ => Ok(answer),
    }
}

fn request(from: Pid, reference: Reference, module: &str, function: &str, args: Vec<Term>) -> Term {
    let from = Tuple::from(vec![from.into(), reference.into()]);
    let call = Tuple::from(vec![
        Atom::from("call").into(),
        Atom::from(module).into(),
        Atom::from(function).into(),
        List::from(args).into(),
        Atom::from("user").into(),
    ]);
    Tuple::from(vec![Atom::from("$gen_call").into(), from.into(), call.into()]).into()
}

async fn write(calls: &Calls, writer: &mpsc::Sender<Outgoing>, frame: Vec<u8>) -> Result<(), CallError> {
    writer.send(Outgoing::Frame(frame)).await.map_err(|_| calls.why())
}

/// Asks the node for its tick time. A node that does not answer is taken to have the usual one.
async fn learn_tick_time(calls: Arc<Calls>, ticks: Arc<Ticks>, writer: mpsc::Sender<Outgoing>) {
    let question = ("net_kernel", "get_net_ticktime", Vec::new());
    let answer = call(&calls, &writer, question, TICK_TIME_ANSWER).await;
    let seconds = match &answer {
        Ok(Term::Tuple(change)) => change.elements.last(),
        Ok(term) => Some(term),
        Err(_) => None,
    };
    match seconds {
        Some(Term::FixInteger(seconds)) if seconds.value > 0 => {
            ticks.set(Duration::from_secs(seconds.value.unsigned_abs().into()));
        }
        _ => tracing::debug!(?answer, "the node does not tell its tick time"),
    }
}

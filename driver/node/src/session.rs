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

    /// What is sent to [`Self::pid`] from now on besides answers to calls and io_requests; `None` when it was taken
    /// already. At most 1024 wait; more, any longer than 4 KiB, and what came before, are dropped and counted.
    pub fn incoming(&self) -> Option<mpsc::Receiver<Term>> {
        self.inner.calls.listen();
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

#[cfg(test)]
mod tests {
    use erl_dist::message::Message;
    use erl_dist::term::FixInteger;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
    use tokio::time::Instant;

    use super::*;

    /// The other end of a session, played by the test.
    struct Peer {
        stream: DuplexStream,
        /// The session's first question, for its tick time.
        asked: Option<Term>,
    }

    impl Peer {
        async fn with_session() -> (Self, Session) {
            let (ours, stream) = duplex(64 * 1024);
            let (read, write) = split(ours);
            let own = Own {
                name: "1T9F@host".into(),
                creation: 77,
            };
            let session = Session::new(read, write, "shop@host".parse().unwrap(), own);
            let mut peer = Self { stream, asked: None };
            peer.asked = Some(peer.call().await);
            (peer, session)
        }

        /// The next frame without its length.
        async fn frame(&mut self) -> Vec<u8> {
            let size = self.stream.read_u32().await.unwrap();
            let mut frame = vec![0; size as usize];
            self.stream.read_exact(&mut frame).await.unwrap();
            frame
        }

        async fn message(&mut self) -> Message {
            loop {
                let frame = self.frame().await;
                if !frame.is_empty() {
                    return Message::read_from(&mut &frame[1..]).unwrap();
                }
            }
        }

        /// The reference of the next call.
        async fn call(&mut self) -> Term {
            let Message::RegSend(sent) = self.message().await else {
                panic!("no call")
            };
            assert_eq!(sent.to_name.name, "rex");
            let Term::Tuple(request) = sent.message else {
                panic!("no call")
            };
            let Term::Tuple(from) = &request.elements[1] else {
                panic!("no From")
            };
            from.elements[1].clone()
        }

        async fn answer(&mut self, reference: Term, answer: Term) {
            let pair = Tuple::from(vec![reference, answer]).into();
            let frame = control::send(&Pid::new("1T9F@host", 1, 0, 77), &pair).unwrap();
            self.stream.write_all(&frame).await.unwrap();
        }

        async fn tell_tick_time(&mut self, answer: Term) {
            let reference = self.asked.take().unwrap();
            self.answer(reference, answer).await;
            // One is sent at once, so that the time counts from here.
            assert_eq!(self.frame().await, b"");
        }
    }

    fn small(value: i32) -> Term {
        FixInteger { value }.into()
    }

    const LONG: Duration = Duration::from_secs(3600);

    fn node_call(session: &Session) -> impl Future<Output = Result<Term, CallError>> + 'static {
        let session = session.clone();
        async move { session.call("erlang", "node", vec![], LONG).await }
    }

    fn lost(cause: &str) -> CallError {
        CallError::ConnectionLost { cause: cause.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_session_ticks_every_quarter_of_the_tick_time() {
        let change = Tuple::from(vec![Atom::from("ongoing_change_to").into(), small(8)]).into();
        for (told, quarter) in [(None, 15), (Some(small(4)), 1), (Some(change), 2)] {
            let (mut peer, _session) = Peer::with_session().await;
            match told {
                Some(answer) => peer.tell_tick_time(answer).await,
                None => assert_eq!(peer.frame().await, b""),
            }
            for _ in 0..3 {
                let start = Instant::now();
                assert_eq!(peer.frame().await, b"");
                assert_eq!(start.elapsed().as_secs_f32().round() as u64, quarter);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_tick_is_answered_at_once() {
        let (mut peer, _session) = Peer::with_session().await;
        assert_eq!(peer.frame().await, b"");
        for _ in 0..3 {
            let start = Instant::now();
            peer.stream.write_all(&control::TICK).await.unwrap();
            assert_eq!(peer.frame().await, b"");
            assert!(start.elapsed() < Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up_after_its_tick_time_and_a_quarter() {
        let (mut peer, session) = Peer::with_session().await;
        peer.tell_tick_time(small(8)).await;
        let start = Instant::now();
        assert_eq!(
            node_call(&session).await,
            Err(lost("the node was silent for 10000 ms"))
        );
        assert_eq!(start.elapsed().as_secs_f32().round() as u64, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_ticks_is_not_given_up() {
        let (mut peer, session) = Peer::with_session().await;
        peer.tell_tick_time(small(8)).await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            peer.stream.write_all(&control::TICK).await.unwrap();
        }
        let calling = tokio::spawn(node_call(&session));
        let reference = peer.call().await;
        peer.answer(reference, small(1)).await;
        assert_eq!(calling.await.unwrap(), Ok(small(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_to_a_peer_that_reads_nothing_ends_with_the_session() {
        let (peer, session) = Peer::with_session().await;
        let big: Term = erl_dist::term::Binary {
            bytes: vec![0; 128 * 1024],
        }
        .into();
        let mut sent = 0;
        let error = loop {
            match session.send_name("x", big.clone()).await {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, lost("the node was silent for 75000 ms"));
        assert!(sent <= WRITE_QUEUE + 1, "{sent} wait in memory");
        drop(peer);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_answer_ends_at_its_deadline_and_the_next_one_works() {
        let (mut peer, session) = Peer::with_session().await;
        let after = Duration::from_secs(3);
        assert_eq!(
            session.call("timer", "sleep", vec![], after).await,
            Err(CallError::Timeout { after })
        );
        let late = peer.call().await;
        let calling = tokio::spawn(node_call(&session));
        let reference = peer.call().await;
        peer.answer(late, small(1)).await;
        peer.answer(reference, small(2)).await;
        assert_eq!(calling.await.unwrap(), Ok(small(2)));
        assert_eq!(session.dropped(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_out_of_the_protocol_end_the_session_and_name_the_fault() {
        let over = 128 * 1024 * 1024 + 1;
        for (bytes, error) in [
            (
                vec![0, 0, 0, 3, 131, 68, 0],
                CallError::MalformedTerm {
                    what: "a frame of type 131".into(),
                },
            ),
            (
                [&[0, 0, 0, 7, 112][..], &[131, 108, 255, 255, 255, 255]].concat(),
                CallError::MalformedTerm {
                    what: "the term is cut off".into(),
                },
            ),
            (
                vec![8, 0, 0, 1],
                CallError::FrameTooLarge {
                    size: over,
                    max: over - 1,
                },
            ),
        ] {
            let (mut peer, session) = Peer::with_session().await;
            let calling = tokio::spawn(node_call(&session));
            peer.call().await;
            peer.stream.write_all(&bytes).await.unwrap();
            assert_eq!(calling.await.unwrap(), Err(error.clone()));
            assert_eq!(node_call(&session).await, Err(error), "and it stays over");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nests_too_deep_ends_its_call_only() {
        let (mut peer, session) = Peer::with_session().await;
        let calling = tokio::spawn(node_call(&session));
        let reference = peer.call().await;
        let pair = Tuple::from(vec![reference, small(7)]).into();
        let mut frame = control::send(&session.pid(), &pair).unwrap();
        frame.truncate(frame.len() - 2);
        frame.extend([104, 1].repeat(20_000));
        frame.push(106);
        let size = u32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&size.to_be_bytes());
        peer.stream.write_all(&frame).await.unwrap();
        let what = "the term nests deeper than 256 levels".into();
        assert_eq!(calling.await.unwrap(), Err(CallError::MalformedTerm { what }));
        let calling = tokio::spawn(node_call(&session));
        let reference = peer.call().await;
        peer.answer(reference, small(1)).await;
        assert_eq!(calling.await.unwrap(), Ok(small(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_needs_no_answer_is_passed_over_and_an_unlink_or_a_monitor_of_another_gets_one() {
        let (mut peer, session) = Peer::with_session().await;
        let (them, us) = (Pid::new("shop@host", 9, 0, 1), session.pid());
        let unlink = vec![small(35), small(42), them.clone().into(), us.clone().into()];
        let reference = Reference {
            node: Atom::from("shop@host"),
            id: vec![1, 2, 3],
            creation: 1,
        };
        let monitor = |of: Term| {
            let reference = reference.clone().into();
            vec![small(19), them.clone().into(), of, reference]
        };
        let (ours, other) = (monitor(us.clone().into()), monitor(Atom::from("other").into()));
        let link = vec![small(1), them.clone().into(), us.clone().into()];
        for control in [link, ours, vec![small(77)], unlink, other] {
            let mut frame = vec![0, 0, 0, 0, 112];
            crate::encode::encode(&Tuple::from(control).into(), &mut frame).unwrap();
            let size = u32::try_from(frame.len() - 4).unwrap();
            frame[..4].copy_from_slice(&size.to_be_bytes());
            peer.stream.write_all(&frame).await.unwrap();
        }
        let Message::UnlinkIdAck(ack) = peer.message().await else {
            panic!("no acknowledgement")
        };
        assert_eq!((ack.id, ack.from_pid, ack.to_pid), (small(42), us, them.clone()));
        let Message::MonitorPExit(none) = peer.message().await else {
            panic!("no answer")
        };
        assert_eq!((none.to_pid, none.reference), (them, reference));
        assert_eq!(none.reason, Atom::from("noproc").into());
        let calling = tokio::spawn(node_call(&session));
        let reference = peer.call().await;
        peer.answer(reference, small(1)).await;
        assert_eq!(calling.await.unwrap(), Ok(small(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_writes_what_waits_and_ends_all_clones() {
        let (mut peer, session) = Peer::with_session().await;
        let other = session.clone();
        let waiting = tokio::spawn(node_call(&session));
        peer.call().await;
        for value in 0..20 {
            session.send_name("x", small(value)).await.unwrap();
        }
        let closing = tokio::spawn(session.close());
        for value in 0..20 {
            let Message::RegSend(sent) = peer.message().await else {
                panic!("no send")
            };
            assert_eq!(sent.message, small(value));
        }
        assert_eq!(peer.stream.read(&mut [0]).await.unwrap(), 0, "then the end");
        assert!(!closing.is_finished(), "the node has not seen it yet");
        drop(peer);
        closing.await.unwrap();
        assert_eq!(waiting.await.unwrap(), Err(lost("this side closed it")));
        assert_eq!(node_call(&other).await, Err(lost("this side closed it")));
        assert_eq!(
            other.send_name("x", small(1)).await,
            Err(lost("this side closed it"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn closing_does_not_wait_for_a_peer_that_is_gone() {
        let (peer, session) = Peer::with_session().await;
        let start = Instant::now();
        session.close().await;
        assert_eq!(start.elapsed().as_secs_f32().round() as u64, CLOSING.as_secs());
        drop(peer);
    }

    #[tokio::test]
    async fn sends_are_given_out_once() {
        let (mut peer, session) = Peer::with_session().await;
        let mut incoming = session.incoming().unwrap();
        assert!(session.incoming().is_none());
        let frame = control::send(&session.pid(), &small(5)).unwrap();
        peer.stream.write_all(&frame).await.unwrap();
        assert_eq!(incoming.recv().await, Some(small(5)));
        let stranger = Pid {
            serial: 9,
            ..session.pid()
        };
        peer.stream
            .write_all(&control::send(&stranger, &small(6)).unwrap())
            .await
            .unwrap();
        peer.stream.write_all(&frame).await.unwrap();
        assert_eq!(
            incoming.recv().await,
            Some(small(5)),
            "the stranger's is passed over"
        );
    }
}

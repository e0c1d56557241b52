//! What a session knows: who waits for which answer, and where everything else goes.
//!
//! No socket and no clock here. Memory is bounded: an answer nobody waits for any more is dropped, and so is a send
//! that nobody reads in time.
//!
//! Source: `gen.erl` for `{Tag, Reply}`; Erlang I/O protocol for `io_request`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use erl_dist::term::{Atom, Pid, Reference, Term, Tuple};
use tokio::sync::{mpsc, oneshot, watch};

use crate::CallError;
use crate::control::decode;
use crate::scan::{ScanError, bare, scan};

/// Sends to our pid that wait for a reader; more are dropped and counted. An agent streams a few hundred answers
/// of a window at most.
pub(crate) const INCOMING: usize = 1024;

/// The longest send taken, in bytes. A byte may become a term of 56: with [`INCOMING`] of them waiting 235 MB, as much as
/// one answer may have. Bulk comes as answers to calls.
pub(crate) const MAX_INCOMING: usize = 4 * 1024;

/// Bits of a reference's first word that every release takes (`MAX_REFERENCE`, `erl_term.h`).
const FIRST_WORD: u32 = 18;

/// Who this side is to the peer.
#[derive(Debug)]
pub(crate) struct Own {
    /// The node name given to us.
    pub(crate) name: String,
    /// Tells this session from one before it under the same name.
    pub(crate) creation: u32,
}

impl Own {
    pub(crate) fn pid(&self) -> Pid {
        Pid::new(self.name.as_str(), 1, 0, self.creation)
    }

    /// The reference by which the answer to a call is known.
    pub(crate) fn reference(&self, call: u32) -> Reference {
        let id = vec![call & ((1 << FIRST_WORD) - 1), call >> FIRST_WORD, 0];
        Reference {
            node: Atom::from(self.name.as_str()),
            id,
            creation: self.creation,
        }
    }

    fn call(&self, reference: &Reference) -> Option<u32> {
        let [low, high, ..] = reference.id[..] else {
            return None;
        };
        let call = low | high << FIRST_WORD;
        (self.reference(call) == *reference).then_some(call)
    }
}

/// How the answer to a call ends its wait.
type Answer = Result<Term, CallError>;

/// What the tasks of a session and its handles share.
#[derive(Debug)]
pub(crate) struct Calls {
    own: Own,
    state: Mutex<State>,
    ended: watch::Sender<Option<CallError>>,
    incoming: mpsc::Sender<Term>,
    /// Whether somebody reads what is sent to us.
    listening: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    next: u32,
    pending: HashMap<u32, oneshot::Sender<Answer>>,
    dropped: u64,
}

/// A call in the table; leaves it however its future ends.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    calls: &'a Calls,
    id: u32,
    answer: oneshot::Receiver<Answer>,
}

impl Pending<'_> {
    pub(crate) fn reference(&self) -> Reference {
        self.calls.own.reference(self.id)
    }

    pub(crate) async fn answer(mut self) -> Answer {
        (&mut self.answer).await.unwrap_or_else(|_| Err(self.calls.why()))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.calls.lock().pending.remove(&self.id);
    }
}

impl Calls {
    /// An empty table, and the other end of what is sent to us.
    pub(crate) fn new(own: Own) -> (Self, mpsc::Receiver<Term>) {
        let (incoming, read) = mpsc::channel(INCOMING);
        let calls = Self {
            own,
            state: Mutex::default(),
            ended: watch::Sender::new(None),
            incoming,
            listening: AtomicBool::new(false),
        };
        (calls, read)
    }

    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    /// Sends that were dropped because nobody read them in time, or because they were too long or malformed.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a call into the table.
    ///
    /// # Errors
    /// Why the session ended.
    pub(crate) fn begin(&self) -> Result<Pending<'_>, CallError> {
        let (waiting, answer) = oneshot::channel();
        let mut state = self.lock();
        if let Some(why) = &*self.ended.borrow() {
            return Err(why.clone());
        }
        loop {
            // After four thousand million calls the numbers begin again; one may still be waiting.
            state.next = state.next.wrapping_add(1);
            let id = state.next;
            if let Entry::Vacant(place) = state.pending.entry(id) {
                place.insert(waiting);
                return Ok(Pending {
                    calls: self,
                    id,
                    answer,
                });
            }
        }
    }

    /// Ends the session, once: tells every waiting call; later ones learn it at once.
    pub(crate) fn end(&self, why: CallError) {
        let mut state = self.lock();
        if self.ended.borrow().is_some() {
            return;
        }
        tracing::debug!(error = %why, "the session ended");
        for (_, call) in state.pending.drain() {
            let _ = call.send(Err(why.clone()));
        }
        self.ended.send_replace(Some(why));
    }

    /// Resolves when the session has ended.
    pub(crate) async fn ended(&self) {
        let _ = self.ended.subscribe().wait_for(Option::is_some).await;
    }

    /// Why the session ended.
    pub(crate) fn why(&self) -> CallError {
        self.ended
            .borrow()
            .clone()
            .unwrap_or_else(|| CallError::ConnectionLost {
                cause: "the session was closed".into(),
            })
    }

    /// From now on what is sent to us is kept, within bounds.
    pub(crate) fn listen(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    /// Takes a message to our pid, with its version byte. A malformed one is the end of its call only: the stream
    /// is still in step. Nothing is decoded that nobody waits for.
    pub(crate) fn deliver(&self, message: &[u8]) {
        if let Some(call) = self.answered(message) {
            self.answer(call, message);
        } else if !self.listening.load(Ordering::Relaxed) {
            self.drop_one("nobody reads it");
        } else if message.len() > MAX_INCOMING {
            self.drop_one("longer than is taken");
        } else {
            match read(message) {
                // Nobody has us as group leader: calls run under `user`.
                Ok(Term::Tuple(tuple)) if is_io_request(&tuple) => {
                    tracing::debug!("an io_request passed over")
                }
                Ok(term) => self.incoming(term),
                Err(what) => self.drop_one(&what),
            }
        }
    }

    fn answer(&self, call: u32, message: &[u8]) {
        let waiting = self.lock().pending.remove(&call);
        let answer = || {
            read(message)
                .and_then(second)
                .map_err(|what| CallError::MalformedTerm { what })
        };
        if waiting.is_none_or(|waiting| waiting.send(answer()).is_err()) {
            tracing::debug!(call, "an answer came too late");
        }
    }

    fn incoming(&self, message: Term) {
        if self.incoming.try_send(message).is_err() {
            self.drop_one("nobody reads it in time");
        }
    }

    fn drop_one(&self, why: &str) {
        let dropped = {
            let mut state = self.lock();
            state.dropped += 1;
            state.dropped
        };
        tracing::debug!(dropped, why, "a send was dropped");
    }

    /// The call that a message answers, or would if it could be decoded: `{Reference, _}`.
    fn answered(&self, message: &[u8]) -> Option<u32> {
        // A reference, or nothing that is worth a look.
        let pair = message
            .strip_prefix(&[131, 104, 2])
            .filter(|pair| matches!(pair.first(), Some(90 | 114)))?;
        let reference = [&[131], pair.get(..bare(pair).ok()?)?].concat();
        match decode(&reference) {
            Ok(Term::Reference(reference)) => self.own.call(&reference),
            _ => None,
        }
    }
}

fn is_io_request(tuple: &Tuple) -> bool {
    matches!(&tuple.elements[..], [Term::Atom(tag), _, _, _] if tag.name == "io_request")
}

/// What stands beside the reference.
fn second(pair: Term) -> Result<Term, String> {
    let answer = match pair {
        Term::Tuple(mut tuple) => tuple.elements.pop(),
        _ => None,
    };
    answer.ok_or_else(|| "an answer that is no pair".to_owned())
}

fn read(message: &[u8]) -> Result<Term, String> {
    match scan(message) {
        Ok(length) if length == message.len() => decode(message),
        Ok(length) => Err(ScanError::Surplus(message.len() - length).to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use erl_dist::term::{Binary, FixInteger};

    use super::*;
    use crate::encode::encode;

    /// Nobody listens to what is sent.
    fn unheard() -> (Calls, mpsc::Receiver<Term>) {
        Calls::new(Own {
            name: "1T9F@host".into(),
            creation: 77,
        })
    }

    fn calls() -> (Calls, mpsc::Receiver<Term>) {
        let (calls, incoming) = unheard();
        calls.listen();
        (calls, incoming)
    }

    fn bytes(term: impl Into<Term>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&term.into(), &mut bytes).unwrap();
        bytes
    }

    fn pair(reference: Reference, answer: i32) -> Vec<u8> {
        bytes(Tuple::from(vec![
            reference.into(),
            FixInteger { value: answer }.into(),
        ]))
    }

    #[tokio::test]
    async fn answers_find_their_calls_in_any_order() {
        let (calls, mut incoming) = calls();
        let (one, two) = (calls.begin().unwrap(), calls.begin().unwrap());
        calls.deliver(&pair(two.reference(), 2));
        calls.deliver(&pair(one.reference(), 1));
        assert_eq!(one.answer().await, Ok(FixInteger { value: 1 }.into()));
        assert_eq!(two.answer().await, Ok(FixInteger { value: 2 }.into()));
        assert!(incoming.try_recv().is_err());
    }

    #[test]
    fn a_late_answer_is_dropped_and_a_foreign_reference_is_a_send() {
        let (calls, mut incoming) = calls();
        let gone = calls.begin().unwrap().reference();
        calls.deliver(&pair(gone.clone(), 1));
        assert!(incoming.try_recv().is_err(), "late");
        calls.deliver(&pair(Reference { creation: 78, ..gone }, 1));
        assert!(incoming.try_recv().is_ok(), "of another session");
        assert_eq!(calls.dropped(), 0);
        assert!(calls.lock().pending.is_empty());
    }

    #[test]
    fn every_call_has_a_reference_of_its_own() {
        let (calls, _incoming) = calls();
        for call in [0, 1, (1 << FIRST_WORD) - 1, 1 << FIRST_WORD, u32::MAX] {
            let reference = calls.own.reference(call);
            assert!(reference.id[0] < 1 << FIRST_WORD);
            assert_eq!(calls.own.call(&reference), Some(call));
        }
    }

    #[test]
    fn numbers_that_come_round_again_spare_a_waiting_call() {
        let (calls, _incoming) = calls();
        let first = calls.begin().unwrap();
        calls.lock().next = u32::MAX - 1;
        let ids: Vec<u32> = (0..3)
            .map(|_| calls.begin().unwrap())
            .map(|call| call.id)
            .collect();
        assert_eq!((first.id, ids), (1, vec![u32::MAX, 0, 2]));
    }

    #[tokio::test]
    async fn a_malformed_answer_ends_its_call_only() {
        let (calls, _incoming) = calls();
        let (one, two) = (calls.begin().unwrap(), calls.begin().unwrap());
        let mut broken = pair(one.reference(), 1);
        broken.truncate(broken.len() - 2);
        broken.push(82);
        calls.deliver(&broken);
        assert_eq!(
            one.answer().await,
            Err(CallError::MalformedTerm {
                what: "the term has tag 82".into()
            })
        );
        calls.deliver(&[pair(two.reference(), 2), vec![0]].concat());
        assert_eq!(
            two.answer().await,
            Err(CallError::MalformedTerm {
                what: "1 bytes follow the term".into()
            })
        );
        calls.deliver(&[131, 82]);
        calls.deliver(&[]);
        assert_eq!(calls.dropped(), 2);
    }

    #[test]
    fn sends_wait_for_a_reader_up_to_a_bound() {
        let (calls, mut incoming) = calls();
        for _ in 0..INCOMING + 3 {
            calls.deliver(&bytes(Atom::from("tick")));
        }
        assert_eq!(calls.dropped(), 3);
        for _ in 0..INCOMING {
            assert_eq!(incoming.try_recv(), Ok(Atom::from("tick").into()));
        }
        calls.deliver(&bytes(Binary {
            bytes: vec![0; MAX_INCOMING],
        }));
        assert_eq!((calls.dropped(), incoming.try_recv().is_err()), (4, true));
    }

    #[test]
    fn nothing_is_kept_before_somebody_listens() {
        let (calls, mut incoming) = unheard();
        calls.deliver(&bytes(Atom::from("tick")));
        assert_eq!((calls.dropped(), incoming.try_recv().is_err()), (1, true));
    }

    #[test]
    fn an_io_request_is_passed_over() {
        let (calls, mut incoming) = calls();
        let atom = |name: &str| Term::from(Atom::from(name));
        calls.deliver(&bytes(Tuple::from(vec![
            atom("io_request"),
            atom("from"),
            atom("as"),
            atom("what"),
        ])));
        assert_eq!((incoming.try_recv().is_err(), calls.dropped()), (true, 0));
    }

    #[tokio::test]
    async fn the_first_end_is_the_one_that_is_told() {
        let (calls, _incoming) = calls();
        let call = calls.begin().unwrap();
        let first = CallError::ConnectionLost {
            cause: "first".into(),
        };
        calls.end(first.clone());
        calls.end(CallError::ConnectionLost {
            cause: "second".into(),
        });
        calls.ended().await;
        assert_eq!(call.answer().await, Err(first.clone()));
        assert_eq!(calls.begin().err(), Some(first));
    }
}

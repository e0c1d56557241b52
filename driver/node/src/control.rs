//! Frames as messages of the distribution protocol, both ways.
//!
//! Nothing is read from or written to a socket here, and no message is acted upon. Only pass-through frames are
//! understood: whoever offers neither the atom cache nor fragments gets no others.
//!
//! Source: Erlang Distribution Protocol, "Control Message Structure".

use erl_dist::term::{Atom, FixInteger, Pid, Term, Tuple};

use crate::encode::{EncodeError, encode};
use crate::scan::scan;

/// The only frame type spoken here: control message and message follow, each with its version byte.
const PASS_THROUGH: u8 = 112;

/// An empty frame: all that keeps an idle connection.
pub(crate) const TICK: [u8; 4] = [0; 4];

/// What a frame says.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame<'a> {
    /// The peer is there.
    Tick,
    /// A message to a pid of ours; its bytes are not looked at yet.
    Send {
        /// The addressee.
        to: Pid,
        /// The message, with its version byte.
        message: &'a [u8],
    },
    /// A process takes back its link; it waits for an acknowledgement with the same number.
    Unlink {
        /// The peer's number for it.
        id: Term,
        /// The process that linked.
        from: Pid,
        /// The pid of ours that it linked to.
        to: Pid,
    },
    /// A process monitors one of ours.
    Monitor {
        /// The process that does.
        from: Pid,
        /// Whom, by pid or by name.
        to: Term,
        /// The peer's reference for it.
        reference: Term,
    },
    /// A control message that needs nothing done.
    Other {
        /// The first element of its tuple.
        operation: i32,
    },
}

/// Reads a frame, without its length.
///
/// # Errors
/// What is wrong with it, as a sentence. Nothing after such a frame can be trusted.
pub(crate) fn read(frame: &[u8]) -> Result<Frame<'_>, String> {
    let Some((kind, body)) = frame.split_first() else {
        return Ok(Frame::Tick);
    };
    if *kind != PASS_THROUGH {
        return Err(format!("a frame of type {kind}"));
    }
    let length = scan(body).map_err(|error| error.to_string())?;
    let Term::Tuple(Tuple { elements }) = decode(&body[..length])? else {
        return Err("a control message that is no tuple".into());
    };
    let mut elements = elements.into_iter();
    let Some(Term::FixInteger(FixInteger { value: operation })) = elements.next() else {
        return Err("a control message without a number".into());
    };
    Ok(
        match (operation, elements.next(), elements.next(), elements.next()) {
            // SEND {2, Unused, To}, SEND_TT {12, Unused, To, Trace}, SEND_SENDER {22, From, To},
            // SEND_SENDER_TT {23, From, To, Trace}
            (2 | 12 | 22 | 23, Some(_), Some(Term::Pid(to)), _) => Frame::Send {
                to,
                message: &body[length..],
            },
            // MONITOR_P {19, From, To, Ref}
            (19, Some(Term::Pid(from)), Some(to), Some(reference)) => Frame::Monitor { from, to, reference },
            // UNLINK_ID {35, Id, From, To}
            (35, Some(id), Some(Term::Pid(from)), Some(Term::Pid(to))) => Frame::Unlink { id, from, to },
            _ => Frame::Other { operation },
        },
    )
}

/// Decodes what [`scan`] has passed.
///
/// # Errors
/// What the scan does not look at: a float that is none, a fun whose parts have the wrong types.
pub(crate) fn decode(scanned: &[u8]) -> Result<Term, String> {
    // eetf's own sentence may hold the whole term.
    Term::decode(scanned).map_err(|_| "a part of the term is not of its type".to_owned())
}

/// SEND: a message to a process of the peer, framed.
///
/// # Errors
/// The message cannot be sent.
pub(crate) fn send(to: &Pid, message: &Term) -> Result<Vec<u8>, EncodeError> {
    framed(&[&control(2, [empty(), to.clone().into()]), message])
}

/// REG_SEND: a message to a registered process of the peer, framed.
///
/// # Errors
/// The message or the name cannot be sent.
pub(crate) fn reg_send(from: Pid, to: &str, message: &Term) -> Result<Vec<u8>, EncodeError> {
    framed(&[
        &control(6, [from.into(), empty(), Atom::from(to).into()]),
        message,
    ])
}

/// UNLINK_ID_ACK: the answer to [`Frame::Unlink`], framed.
///
/// # Errors
/// The peer's number cannot be sent.
pub(crate) fn unlink_ack(id: Term, from: Pid, to: Pid) -> Result<Vec<u8>, EncodeError> {
    framed(&[&control(36, [id, from.into(), to.into()])])
}

/// MONITOR_P_EXIT: there is no such process, as the answer to [`Frame::Monitor`], framed.
///
/// # Errors
/// The peer's reference cannot be sent.
pub(crate) fn no_process(from: Pid, to: Term, reference: Term) -> Result<Vec<u8>, EncodeError> {
    let reason = Atom::from("noproc").into();
    framed(&[&control(21, [to, from.into(), reference, reason])])
}

fn empty() -> Term {
    Atom::from("").into()
}

fn control<const N: usize>(operation: i32, rest: [Term; N]) -> Term {
    let elements = std::iter::once(FixInteger { value: operation }.into())
        .chain(rest)
        .collect();
    Tuple { elements }.into()
}

fn framed(terms: &[&Term]) -> Result<Vec<u8>, EncodeError> {
    let mut frame = vec![0, 0, 0, 0, PASS_THROUGH];
    terms.iter().try_for_each(|term| encode(term, &mut frame))?;
    let length = u32::try_from(frame.len() - 4).map_err(|_| EncodeError::Long)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use erl_dist::message::Message;
    use erl_dist::term::List;
    use proptest::prelude::*;

    use super::*;
    use crate::encode::tests::arbitrary_term;

    fn us() -> Pid {
        Pid::new("1T9F@host", 1, 0, 77)
    }

    fn them() -> Pid {
        Pid::new("shop@host", 123, 4, 5)
    }

    /// A frame as erl_dist writes it: an independent account of the protocol.
    fn theirs(message: Message) -> Vec<u8> {
        let mut frame = vec![PASS_THROUGH];
        message.write_into(&mut frame).unwrap();
        frame
    }

    #[test]
    fn every_way_to_send_to_a_pid_is_a_send() {
        let message = Term::from(Atom::from("hello"));
        let bytes = [131, 119, 5, b'h', b'e', b'l', b'l', b'o'];
        for frame in [
            theirs(Message::send(us(), message.clone())),
            theirs(Message::send_sender(them(), us(), message)),
            // SEND_TT and SEND_SENDER_TT: erl_dist writes the former in the wrong order.
            [
                &framed(&[&control(12, [empty(), us().into(), empty()])]).unwrap()[4..],
                &bytes,
            ]
            .concat(),
            [
                &framed(&[&control(23, [them().into(), us().into(), empty()])]).unwrap()[4..],
                &bytes,
            ]
            .concat(),
        ] {
            assert_eq!(
                read(&frame),
                Ok(Frame::Send {
                    to: us(),
                    message: &bytes
                })
            );
        }
    }

    #[test]
    fn an_unlink_is_acknowledged_with_its_number() {
        let id = Term::from(FixInteger { value: 9 });
        let unlink = framed(&[&control(35, [id.clone(), them().into(), us().into()])]).unwrap();
        assert_eq!(
            read(&unlink[4..]),
            Ok(Frame::Unlink {
                id: id.clone(),
                from: them(),
                to: us()
            })
        );
        let ack = unlink_ack(id, us(), them()).unwrap();
        let Ok(Message::UnlinkIdAck(ack)) = Message::read_from(&mut &ack[5..]) else {
            panic!("{ack:?}")
        };
        assert_eq!((ack.from_pid, ack.to_pid), (us(), them()));
    }

    #[test]
    fn other_control_messages_need_nothing() {
        for (message, operation) in [
            (Message::link(them(), us()), 1),
            (Message::exit(them(), us(), Atom::from("boom").into()), 3),
            (Message::reg_send(them(), "x".into(), List::nil().into()), 6),
            (Message::exit2(them(), us(), Atom::from("boom").into()), 8),
        ] {
            assert_eq!(read(&theirs(message)), Ok(Frame::Other { operation }));
        }
        let unheard = framed(&[&control(99, [])]).unwrap();
        assert_eq!(read(&unheard[4..]), Ok(Frame::Other { operation: 99 }));
    }

    #[test]
    fn a_tick_is_an_empty_frame() {
        assert_eq!(read(&TICK[4..]), Ok(Frame::Tick));
    }

    #[test]
    fn frames_out_of_the_protocol_are_errors() {
        for frame in [
            &[131, 68, 0][..],
            &[PASS_THROUGH],
            &[PASS_THROUGH, 131, 106],
            &[PASS_THROUGH, 131, 104, 0],
            &[PASS_THROUGH, 131, 104, 1, 106],
            &[PASS_THROUGH, 131, 108, 255, 255, 255, 255],
        ] {
            assert!(read(frame).is_err(), "{frame:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[&[PASS_THROUGH, 131][..], &bytes].concat());
        }

        #[test]
        fn what_is_sent_is_what_erl_dist_reads(term in arbitrary_term()) {
            let frame = send(&them(), &term).unwrap();
            prop_assert_eq!(crate::scan::number(&frame[..4]), frame.len() - 4);
            let Ok(Message::Send(sent)) = Message::read_from(&mut &frame[5..]) else { panic!("{frame:?}") };
            prop_assert_eq!((sent.to_pid, sent.message), (them(), term.clone()));
            let frame = reg_send(us(), "rex", &term).unwrap();
            let Ok(Message::RegSend(sent)) = Message::read_from(&mut &frame[5..]) else { panic!("{frame:?}") };
            prop_assert_eq!((sent.from_pid, sent.to_name.name, sent.message), (us(), "rex".to_owned(), term));
        }
    }
}

//! Frames between nodes as far as a crowd reads them: where a term ends, who is called, what was answered.
//!
//! Nothing is decoded: what a real node said is said again byte by byte.
//!
//! Source: External Term Format; Erlang Distribution Protocol, "Control Message Structure"; `gen.erl` and `rpc.erl`.

use crate::peer::{etf, pass_through};

/// A frame that only says that its sender is there, with its length.
pub(super) const TICK: [u8; 4] = [0; 4];

/// A call of `rex`: `{'$gen_call', {From, Reference}, {call, Module, Function, Arguments, GroupLeader}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call<'a> {
    from: &'a [u8],
    /// What its answer is known by.
    pub(super) reference: &'a [u8],
    /// What is called, with everything it is told.
    pub(super) what: &'a [u8],
}

impl<'a> Call<'a> {
    /// Of a frame without its length; `None` if it is another.
    pub(super) fn read(frame: &'a [u8]) -> Option<Self> {
        let mut rest = Rest(frame);
        // REG_SEND {6, From, Unused, Name}
        rest.skip(&[112, 131, 104, 4, 97, 6])?;
        rest.term()?;
        rest.term()?;
        let to = rest.term()?;
        rest.skip(&[131, 104, 3])?;
        let tag = rest.term()?;
        rest.skip(&[104, 2])?;
        let call = Self {
            from: rest.term()?,
            reference: rest.term()?,
            what: rest.term()?,
        };
        let called = text(to) == Some(b"rex") && text(tag) == Some(b"$gen_call");
        (called && rest.0.is_empty()).then_some(call)
    }

    /// The frame of an answer, with its length: `{Reference, Answer}` to who called.
    pub(super) fn answer(self, answer: &[u8]) -> Vec<u8> {
        // SEND {2, Unused, To}
        let control = etf::tuple(&[etf::small(2), etf::atom(""), self.from.to_vec()]);
        let message = etf::tuple(&[self.reference.to_vec(), answer.to_vec()]);
        pass_through(&control, Some(&message))
    }

    /// What is called, for people: module and function, and of the agent its command.
    pub(super) fn name(self) -> String {
        name(self.what)
    }
}

/// The name of what is called.
pub(super) fn name(what: &[u8]) -> String {
    let read = || {
        let mut rest = Rest(what);
        rest.skip(&[104, 5])?;
        rest.term()?;
        let [module, function] = [text(rest.term()?)?, text(rest.term()?)?];
        let mut said = format!("{}:{}", lossy(module), lossy(function));
        // A list of one: an atom, or a tuple that begins with one.
        if rest.skip(&[108, 0, 0, 0, 1]).is_some() {
            let tuple = rest.0.first() == Some(&104);
            rest.0 = rest.0.get(if tuple { 2 } else { 0 }..)?;
            if let Some(command) = rest.term().and_then(text) {
                said = format!("{said} {}", lossy(command));
            }
        }
        Some(said)
    };
    read().unwrap_or_else(|| format!("{} bytes that are no call", what.len()))
}

/// Reference and answer, of a frame without its length that answers a call; `None` if it is another.
pub(super) fn answered(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = Rest(frame);
    rest.skip(&[112, 131, 104, 3, 97])?;
    // SEND {2, Unused, To}, SEND_SENDER {22, From, To}
    if rest.skip(&[2]).is_none() {
        rest.skip(&[22])?;
    }
    rest.term()?;
    rest.term()?;
    rest.skip(&[131, 104, 2])?;
    let (reference, answer) = (rest.term()?, rest.term()?);
    // NEWER_REFERENCE_EXT
    (reference.first() == Some(&90) && rest.0.is_empty()).then_some((reference, answer))
}

/// The letters of an atom or a binary.
fn text(term: &[u8]) -> Option<&[u8]> {
    match term.first()? {
        115 | 119 => term.get(2..),
        100 | 118 => term.get(3..),
        109 => term.get(5..),
        _ => None,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip(&mut self, bytes: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(bytes)?;
        Some(())
    }

    fn term(&mut self) -> Option<&'a [u8]> {
        let (term, rest) = self.0.split_at_checked(end(self.0)?)?;
        self.0 = rest;
        Some(term)
    }
}

/// Where the term ends that these bytes begin with; `None` where it does not, or has a part that no node of the tests sends.
fn end(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut wanted) = (0_usize, 1_usize);
    while wanted > 0 {
        let number = |from: usize, width: usize| -> Option<usize> {
            let bytes = bytes.get(at + from..at + from + width)?;
            Some(
                bytes
                    .iter()
                    .fold(0, |number, byte| number << 8 | usize::from(*byte)),
            )
        };
        // How long it is without its parts, and how many they are.
        let (own, parts) = match *bytes.get(at)? {
            106 => (1, 0),
            97 => (2, 0),
            98 => (5, 0),
            70 => (9, 0),
            115 | 119 => (2 + number(1, 1)?, 0),
            100 | 107 | 118 => (3 + number(1, 2)?, 0),
            109 => (5 + number(1, 4)?, 0),
            77 => (6 + number(1, 4)?, 0),
            110 => (3 + number(1, 1)?, 0),
            111 => (6 + number(1, 4)?, 0),
            // NEW_FUN_EXT
            112 => (1 + number(1, 4)?, 0),
            104 => (2, number(1, 1)?),
            105 => (5, number(1, 4)?),
            108 => (5, number(1, 4)? + 1),
            116 => (5, 2 * number(1, 4)?),
            113 => (1, 3),
            // The name of a node, and numbers: NEW_PID_EXT, V4_PORT_EXT, NEW_PORT_EXT, NEWER_REFERENCE_EXT.
            tag @ (88 | 89 | 90 | 120) => {
                let (before, numbers) = match tag {
                    88 | 120 => (1, 12),
                    89 => (1, 8),
                    _ => (3, 4 + 4 * number(1, 2)?),
                };
                let name = match *bytes.get(at + before)? {
                    115 | 119 => 2 + number(before + 1, 1)?,
                    100 | 118 => 3 + number(before + 1, 2)?,
                    _ => return None,
                };
                (before + name + numbers, 0)
            }
            _ => return None,
        };
        at += own;
        wanted += parts;
        wanted -= 1;
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn list(elements: &[Vec<u8>]) -> Vec<u8> {
        let count = u32::try_from(elements.len()).unwrap().to_be_bytes();
        [&[108][..], &count, &elements.concat(), &[106]].concat()
    }

    pub(in super::super) fn binary(bytes: &[u8]) -> Vec<u8> {
        [
            &[109][..],
            &u32::try_from(bytes.len()).unwrap().to_be_bytes(),
            bytes,
        ]
        .concat()
    }

    pub(in super::super) fn what(module: &str, function: &str, argument: Vec<u8>) -> Vec<u8> {
        let [call, module, function, user] = ["call", module, function, "user"].map(etf::atom);
        etf::tuple(&[call, module, function, list(&[argument]), user])
    }

    pub(in super::super) fn reference(number: u32) -> Vec<u8> {
        etf::reference("1T9F@127.0.0.1", [number, 0, 0], 77)
    }

    pub(in super::super) fn frame(number: u32, what: &[u8]) -> Vec<u8> {
        let us = etf::pid("1T9F@127.0.0.1", 1, 77);
        let control = etf::tuple(&[etf::small(6), us.clone(), etf::atom(""), etf::atom("rex")]);
        let message = etf::tuple(&[
            etf::atom("$gen_call"),
            etf::tuple(&[us, reference(number)]),
            what.to_vec(),
        ]);
        pass_through(&control, Some(&message))[4..].to_vec()
    }

    #[test]
    fn a_call_and_its_answer_know_each_other() {
        let what = what(
            "flyhot_agent",
            "call",
            etf::tuple(&[etf::atom("stage"), list(&[])]),
        );
        let frame = frame(7, &what);
        let call = Call::read(&frame).unwrap();
        assert_eq!((call.reference, call.what), (&reference(7)[..], &what[..]));
        assert_eq!(call.name(), "flyhot_agent:call stage");
        let answer = call.answer(&etf::atom("ok"));
        assert_eq!(
            answered(&answer[4..]),
            Some((&reference(7)[..], &etf::atom("ok")[..]))
        );
    }

    #[test]
    fn what_is_no_call_is_none() {
        let what = what("erlang", "node", etf::atom("x"));
        let whole = frame(1, &what);
        for cut in 0..whole.len() {
            assert_eq!(Call::read(&whole[..cut]), None);
        }
        assert_eq!(Call::read(&[&whole[..], &[106]].concat()), None);
        let named = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("rex", "xer").into_bytes();
        assert_eq!(Call::read(&named(&whole)), None);
        assert_eq!(name(&etf::atom("x")), "3 bytes that are no call");
    }

    #[test]
    fn every_kind_of_term_has_its_end() {
        let float = [&[70][..], &[0; 8]].concat();
        let parts = [
            etf::small(1),
            float,
            etf::pid("a@b", 1, 2),
            reference(3),
            binary(b"abc"),
            vec![98, 0, 0, 1, 0],
            vec![110, 2, 0, 1, 1],
            vec![107, 0, 2, 1, 2],
            [&[116, 0, 0, 0, 1][..], &etf::small(1), &list(&[etf::atom("x")])].concat(),
            [&[113][..], &etf::atom("m"), &etf::atom("f"), &etf::small(1)].concat(),
            vec![77, 0, 0, 0, 1, 3, 0xE0],
        ];
        let whole = etf::tuple(&parts);
        assert_eq!(end(&[&whole[..], &[1, 2, 3]].concat()), Some(whole.len()));
        assert_eq!(end(&whole[..whole.len() - 1]), None);
        assert_eq!(end(&[82, 0]), None);
    }
}

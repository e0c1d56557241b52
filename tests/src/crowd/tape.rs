//! What one real node was asked and answered, and the same said again by another in its name.
//!
//! Pure: it is handed frames. What differs between two nodes of a fleet is known here and nowhere else: their names and those that the
//! driver has there, which are made to be of one length, and a time that is noted on a node with its digest. A node that is asked anything
//! else than the real one was, or in another order, answers that it does not know it.

use std::sync::Arc;

use super::wire::{self, Call};
use crate::peer::etf;

/// What passed between a driver and a node on one connection, without lengths and ticks.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// The messages of the handshake that the node sent.
    pub(super) handshake: Vec<Vec<u8>>,
    /// The frames that the driver sent.
    pub(super) asked: Vec<Vec<u8>>,
    /// The frames that the node sent.
    pub(super) answered: Vec<Vec<u8>>,
}

/// The conversation of one node with a driver.
#[derive(Debug)]
pub(super) struct Tape {
    name: String,
    /// The name that the node gave the driver, and the status of the handshake by which it did.
    driver: String,
    status: Vec<u8>,
    challenge: Vec<u8>,
    /// In the order in which the node was asked.
    exchanges: Vec<Exchange>,
    /// What may be asked at any time.
    aside: Vec<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    call: Vec<u8>,
    answer: Vec<u8>,
}

/// A session asks for this beside everything else.
const ASIDE: &str = "net_kernel:get_net_ticktime";

/// Where the number of a challenge stands, behind its tag and the flags.
const NUMBER: std::ops::Range<usize> = 9..13;

impl Tape {
    /// Of what passed between a driver and the node `name`.
    ///
    /// # Errors
    /// What of it is not understood.
    pub(super) fn of(name: &str, passed: Passed) -> Result<Self, String> {
        let mut handshake = passed.handshake.into_iter();
        let (Some(status), Some(challenge)) = (handshake.next(), handshake.next()) else {
            return Err("the handshake was not ended".to_owned());
        };
        let driver = given(&status).ok_or("the node gave the driver no name")?;
        let answers: Vec<(&[u8], &[u8])> = passed
            .answered
            .iter()
            .filter_map(|frame| wire::answered(frame))
            .collect();
        let (mut exchanges, mut aside) = (Vec::new(), Vec::new());
        for frame in &passed.asked {
            let Some(call) = Call::read(frame) else {
                return Err(format!("the driver sent {} bytes that are no call", frame.len()));
            };
            let known = answers.iter().find(|(reference, _)| *reference == call.reference);
            let answer = known.map(|(_, answer)| answer.to_vec());
            let Some(answer) = answer else {
                return Err(format!("the node did not answer {}", call.name()));
            };
            let list = if call.name() == ASIDE {
                &mut aside
            } else {
                &mut exchanges
            };
            list.push(Exchange {
                call: call.what.to_vec(),
                answer,
            });
        }
        Ok(Self {
            name: name.to_owned(),
            driver,
            status,
            challenge,
            exchanges,
            aside,
        })
    }

    /// How often the node was asked.
    pub(super) fn length(&self) -> usize {
        self.exchanges.len()
    }
}

/// The name in a status: `snamed:`, its length, the name, a creation.
fn given(status: &[u8]) -> Option<String> {
    let (length, rest) = status.strip_prefix(b"snamed:")?.split_at_checked(2)?;
    let name = rest.get(..usize::from(u16::from_be_bytes(length.try_into().ok()?)))?;
    String::from_utf8(name.to_vec()).ok()
}

/// A node that says what another said.
#[derive(Debug)]
pub(super) struct Role {
    tape: Arc<Tape>,
    name: String,
    /// Every name that the real node's stands for, in the name of this one.
    names: [(String, String); 2],
    next: usize,
}

/// What a role says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The frame, with its length.
    pub(super) frame: Vec<u8>,
    /// Why it is none that the real node said.
    pub(super) wrong: Option<String>,
}

impl Role {
    /// For a node whose name is as long as that of the real one.
    pub(super) fn new(tape: Arc<Tape>, name: &str) -> Self {
        assert_eq!(tape.name.len(), name.len(), "{name} is as long as {}", tape.name);
        // Drivers take the host of the node for their own: what it is longer by, the name before it is shorter.
        let host = name.split('@').nth(1).unwrap_or_default();
        let letters = tape.driver.len().checked_sub(host.len() + 1);
        let letters = letters.and_then(|length| tape.driver.get(..length));
        let driver = format!("{}@{host}", letters.expect("a given name is long enough"));
        Self {
            names: [
                (tape.name.clone(), name.to_owned()),
                (tape.driver.clone(), driver),
            ],
            tape,
            name: name.to_owned(),
            next: 0,
        }
    }

    /// The status of the handshake, which gives the driver a name.
    pub(super) fn status(&self) -> Vec<u8> {
        self.own(&self.tape.status)
    }

    /// The challenge, and the number in it.
    pub(super) fn challenge(&self) -> (Vec<u8>, u32) {
        let number = self
            .tape
            .challenge
            .get(NUMBER)
            .and_then(|bytes| bytes.try_into().ok());
        (
            self.own(&self.tape.challenge),
            u32::from_be_bytes(number.unwrap_or_default()),
        )
    }

    /// What is said to a frame of the driver.
    pub(super) fn says(&mut self, frame: &[u8]) -> Option<Line> {
        if frame.is_empty() {
            let frame = wire::TICK.to_vec();
            return Some(Line { frame, wrong: None });
        }
        let call = Call::read(frame)?;
        let aside = self.tape.aside.iter().find(|known| known.call == call.what);
        let known = aside.or_else(|| {
            let next = self.tape.exchanges.get(self.next)?;
            alike(&self.own(&next.call), call.what).then_some(next)
        });
        Some(match known {
            Some(known) => {
                let frame = call.answer(&self.own(&known.answer));
                if aside.is_none() {
                    self.next += 1;
                }
                Line { frame, wrong: None }
            }
            None => {
                let wrong = self.wrong(&call);
                let text = [&[107][..], &(wrong.len() as u16).to_be_bytes(), wrong.as_bytes()].concat();
                Line {
                    frame: call.answer(&etf::tuple(&[etf::atom("badrpc"), text])),
                    wrong: Some(wrong),
                }
            }
        })
    }

    /// How many of the real node's questions were not asked.
    pub(super) fn left(&self) -> usize {
        self.tape.exchanges.len() - self.next
    }

    fn wrong(&self, call: &Call<'_>) -> String {
        let (number, name, asked) = (self.next + 1, &self.name, call.name());
        match self.tape.exchanges.get(self.next) {
            Some(next) if wire::name(&next.call) == asked => {
                format!("question {number} to {name}, {asked}, is not what the real node was told with it")
            }
            Some(next) => {
                let expected = wire::name(&next.call);
                format!("question {number} to {name} is {asked}; the real node was asked {expected}")
            }
            None => format!("question {number} to {name} is {asked}; the real node was asked no more"),
        }
    }

    /// The same in the name of this node.
    fn own(&self, bytes: &[u8]) -> Vec<u8> {
        let mut said = bytes.to_vec();
        for (theirs, own) in &self.names {
            let mut at = 0;
            while let Some(found) = find(&said[at..], theirs.as_bytes()) {
                said[at + found..][..own.len()].copy_from_slice(own.as_bytes());
                at += found + own.len();
            }
        }
        said
    }
}

/// Where a text that is noted on a node has the second it was written in, and how many digits that has for the next centuries.
const TIME: (&[u8], usize) = (b"\"at\":", 10);

/// How a digest begins: a binary of so many bytes.
const DIGEST: (&[u8], usize) = (&[109, 0, 0, 0, 32], 32);

/// Whether two calls are the same but for a time, and the digest of what has it.
fn alike(known: &[u8], asked: &[u8]) -> bool {
    if known == asked {
        return true;
    }
    if known.len() != asked.len() || find(known, TIME.0).is_none() {
        return false;
    }
    let [known, asked] = [known, asked].map(|call| blank(&blank(call, TIME), DIGEST));
    known == asked
}

/// The same without what follows the mark.
fn blank(bytes: &[u8], (mark, width): (&[u8], usize)) -> Vec<u8> {
    let mut blanked = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], mark) {
        at += found + mark.len();
        let end = (at + width).min(bytes.len());
        blanked[at..end].fill(0);
        at = end;
    }
    blanked
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::{binary, frame, list, reference, what};
    use super::*;
    use crate::peer;

    const REAL: &str = "node_1@127.0.0.1";
    const OTHER: &str = "n0001@127.1.0.10";

    /// What the driver is called there.
    const DRIVER: &str = "1T9F5SZ1Z7LZ@127.1.0.10";

    fn agent(command: &str, told: Vec<u8>) -> Vec<u8> {
        what("flyhot_agent", "call", etf::tuple(&[etf::atom(command), told]))
    }

    fn note(second: u64, digest: u8) -> Vec<u8> {
        let text = format!("{{\"at\":{second},\"outcome\":\"upgraded\"}}");
        let piece = etf::tuple(&[binary(&[digest; 32]), binary(text.as_bytes())]);
        agent("stage", list(&[piece]))
    }

    fn answer(number: u32, answer: Vec<u8>) -> Vec<u8> {
        let asked = frame(number, &what("m", "f", etf::atom("x")));
        Call::read(&asked).unwrap().answer(&answer)[4..].to_vec()
    }

    fn tick_time() -> Vec<u8> {
        let [call, module, function, user] =
            ["call", "net_kernel", "get_net_ticktime", "user"].map(etf::atom);
        etf::tuple(&[call, module, function, vec![106], user])
    }

    fn tape() -> Arc<Tape> {
        let path = binary(format!("/r/{REAL}.json").as_bytes());
        let passed = Passed {
            handshake: vec![
                peer::status(peer::GIVEN.as_bytes()),
                peer::challenge(REAL.as_bytes()),
            ],
            asked: vec![
                frame(1, &tick_time()),
                frame(2, &agent("facts", etf::atom(peer::GIVEN))),
                frame(3, &note(1_700_000_000, 1)),
                frame(4, &agent("note", path)),
            ],
            // As they came: one overtook another.
            answered: vec![
                answer(2, binary(REAL.as_bytes())),
                answer(1, etf::small(60)),
                answer(3, etf::atom("ok")),
                answer(4, etf::atom("ok")),
            ],
        };
        Arc::new(Tape::of(REAL, passed).unwrap())
    }

    fn said(role: &mut Role, number: u32, what: &[u8]) -> Vec<u8> {
        let line = role.says(&frame(number, what)).unwrap();
        assert_eq!(line.wrong, None);
        let (to, answer) = wire::answered(&line.frame[4..]).unwrap();
        assert_eq!(to, reference(number));
        answer.to_vec()
    }

    #[test]
    fn another_node_says_the_same_in_its_own_name() {
        let mut role = Role::new(tape(), OTHER);
        assert_eq!(role.status(), peer::status(DRIVER.as_bytes()));
        assert_eq!(role.challenge(), (peer::challenge(OTHER.as_bytes()), 4711));
        let facts = agent("facts", etf::atom(DRIVER));
        assert_eq!(said(&mut role, 11, &facts), binary(OTHER.as_bytes()));
        // At any time, and as often as it is asked for.
        for number in [12, 13] {
            assert_eq!(said(&mut role, number, &tick_time()), etf::small(60));
        }
        assert_eq!(said(&mut role, 14, &note(1_800_000_000, 2)), etf::atom("ok"));
        assert_eq!(role.left(), 1);
        let own = binary(format!("/r/{OTHER}.json").as_bytes());
        assert_eq!(said(&mut role, 15, &agent("note", own)), etf::atom("ok"));
        assert_eq!(role.left(), 0);
        assert_eq!(role.says(&[]).unwrap().frame, wire::TICK);
        assert_eq!(role.says(&[112, 131, 106]), None);
    }

    #[test]
    fn what_the_real_node_was_not_asked_is_refused_by_name() {
        let facts = agent("facts", etf::atom(DRIVER));
        let longer = agent("facts", etf::small(2));
        for (before, asked, wrong) in [
            (
                &[][..],
                &longer,
                "question 1 to N, flyhot_agent:call facts, is not what the real node was told with it",
            ),
            (
                &[],
                &note(1_700_000_000, 1),
                "question 1 to N is flyhot_agent:call stage; the real node was asked flyhot_agent:call facts",
            ),
            (
                &[
                    &facts,
                    &note(1_700_000_000, 1),
                    &agent("note", binary(format!("/r/{OTHER}.json").as_bytes())),
                ][..],
                &facts,
                "question 4 to N is flyhot_agent:call facts; the real node was asked no more",
            ),
            (
                &[&facts, &note(1_700_000_000, 1)],
                // Another node's.
                &agent("note", binary(format!("/r/{REAL}.json").as_bytes())),
                "question 3 to N, flyhot_agent:call note, is not what the real node was told with it",
            ),
            (
                &[&facts],
                // Beside the time nothing may differ.
                &agent(
                    "stage",
                    list(&[etf::tuple(&[
                        binary(&[1; 32]),
                        binary(b"{\"at\":1700000000,\"outcome\":\"reverted\"}"),
                    ])]),
                ),
                "question 2 to N, flyhot_agent:call stage, is not what the real node was told with it",
            ),
        ] {
            let mut role = Role::new(tape(), OTHER);
            for what in before {
                said(&mut role, 1, what);
            }
            let line = role.says(&frame(9, asked)).unwrap();
            assert_eq!(line.wrong.as_deref(), Some(&*wrong.replace('N', OTHER)));
            let (_, answer) = wire::answered(&line.frame[4..]).unwrap();
            assert!(answer.starts_with(&[104, 2, 119, 6]) && find(answer, b"badrpc").is_some());
        }
    }

    #[test]
    fn what_was_not_answered_is_no_tape() {
        let passed = |handshake: usize, asked: Vec<Vec<u8>>| Passed {
            handshake: vec![peer::status(peer::GIVEN.as_bytes()); handshake],
            asked,
            answered: Vec::new(),
        };
        let facts = frame(1, &agent("facts", etf::small(1)));
        for (passed, why) in [
            (passed(1, Vec::new()), "the handshake was not ended"),
            (
                passed(2, vec![facts]),
                "the node did not answer flyhot_agent:call facts",
            ),
            (
                passed(2, vec![vec![112, 131, 106]]),
                "the driver sent 3 bytes that are no call",
            ),
            (
                Passed {
                    handshake: vec![b"sok".to_vec(), Vec::new()],
                    ..Passed::default()
                },
                "the node gave the driver no name",
            ),
        ] {
            assert_eq!(Tape::of(REAL, passed).unwrap_err(), why);
        }
    }
}

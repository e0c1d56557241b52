//! What one real node was asked and answered on each connection, and the same said again by another in its name.
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

/// The conversation of one node with a driver, on one connection.
#[derive(Debug)]
pub(super) struct Tape {
    names: Names,
    /// The status of the handshake, by which the node gave the driver its name.
    status: Said,
    challenge: Said,
    /// In the order in which the node was asked.
    exchanges: Vec<Exchange>,
    /// What may be asked at any time.
    aside: Vec<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    call: Said,
    answer: Said,
}

/// The names of a connection.
#[derive(Debug)]
struct Names {
    node: String,
    /// What the node calls the driver.
    driver: String,
    /// Which of those that it called so.
    creation: [u8; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Node,
    Driver,
    Creation,
}

/// Bytes, and where names stand in them.
#[derive(Debug)]
struct Said {
    bytes: Vec<u8>,
    places: Vec<(usize, Whose)>,
}

/// A session asks for this beside everything else.
const ASIDE: &str = "net_kernel:get_net_ticktime";

/// Where the number of a challenge stands, behind its tag and the flags.
const NUMBER: std::ops::Range<usize> = 9..13;

/// Between the name and the creation in a pid, NEW_PID_EXT: its two numbers.
const NUMBERS: usize = 8;

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
        let (driver, creation) = given(&status).ok_or("the node gave the driver no name")?;
        let names = Names {
            node: name.to_owned(),
            driver,
            creation,
        };
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
            let is_aside = call.name() == ASIDE;
            let known = answers.iter().find(|(reference, _)| *reference == call.reference);
            let list = if is_aside { &mut aside } else { &mut exchanges };
            match known {
                Some((_, answer)) => list.push(Exchange {
                    call: Said::of(call.what, &names),
                    answer: Said::of(answer, &names),
                }),
                // Whoever closes does not wait for it.
                None if is_aside => {}
                None => return Err(format!("the node did not answer {}", call.name())),
            }
        }
        Ok(Self {
            status: Said::of(&status, &names),
            challenge: Said::of(&challenge, &names),
            names,
            exchanges,
            aside,
        })
    }
}

/// The name in a status: `snamed:`, its length, the name, a creation.
fn given(status: &[u8]) -> Option<(String, [u8; 4])> {
    let (length, rest) = status.strip_prefix(b"snamed:")?.split_at_checked(2)?;
    let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
    let (name, creation) = rest.split_at_checked(length)?;
    Some((String::from_utf8(name.to_vec()).ok()?, creation.try_into().ok()?))
}

impl Names {
    fn of(&self, whose: Whose) -> &[u8] {
        match whose {
            Whose::Node => self.node.as_bytes(),
            Whose::Driver => self.driver.as_bytes(),
            Whose::Creation => &self.creation,
        }
    }
}

impl Said {
    fn of(bytes: &[u8], names: &Names) -> Self {
        let mut places = Vec::new();
        for whose in [Whose::Node, Whose::Driver] {
            let name = names.of(whose);
            let mut at = 0;
            while let Some(found) = find(&bytes[at..], name) {
                places.push((at + found, whose));
                at += found + name.len();
                let creation = at + NUMBERS;
                if whose == Whose::Driver && bytes[at..].get(NUMBERS..NUMBERS + 4) == Some(&names.creation) {
                    places.push((creation, Whose::Creation));
                }
            }
        }
        Self {
            bytes: bytes.to_vec(),
            places,
        }
    }

    /// The same with other names, each as long as the one that it stands for.
    fn by(&self, names: &Names) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (at, whose) in &self.places {
            let name = names.of(*whose);
            bytes[*at..][..name.len()].copy_from_slice(name);
        }
        bytes
    }
}

/// A node that says what another said.
#[derive(Debug)]
pub(super) struct Role {
    names: Names,
    /// Where its handshake is from.
    opened_by: Arc<Tape>,
    /// What it may be saying: conversations that went as this one so far.
    tapes: Vec<Arc<Tape>>,
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
    /// For a node whose name is as long as that of the real one; its handshake is as on any connection of that.
    pub(super) fn new(tape: Arc<Tape>, name: &str) -> Self {
        let real = &tape.names;
        assert_eq!(real.node.len(), name.len(), "{name} is as long as {}", real.node);
        // Drivers take the host of the node for their own: what it is longer by, the name before it is shorter.
        let host = name.split('@').nth(1).unwrap_or_default();
        let letters = real.driver.len().checked_sub(host.len() + 1);
        let letters = letters.and_then(|length| real.driver.get(..length));
        let driver = format!("{}@{host}", letters.expect("a given name is long enough"));
        Self {
            names: Names {
                node: name.to_owned(),
                driver,
                creation: real.creation,
            },
            opened_by: tape,
            tapes: Vec::new(),
            next: 0,
        }
    }

    /// The status of the handshake, which gives the driver a name.
    pub(super) fn status(&self) -> Vec<u8> {
        self.opened_by.status.by(&self.names)
    }

    /// The challenge, and the number in it.
    pub(super) fn challenge(&self) -> (Vec<u8>, u32) {
        let challenge = self.opened_by.challenge.by(&self.names);
        let number = challenge.get(NUMBER).and_then(|bytes| bytes.try_into().ok());
        let number = u32::from_be_bytes(number.unwrap_or_default());
        (challenge, number)
    }

    /// Whether there is somebody to go by for a frame of the driver: for the first question, of all conversations those that begin with
    /// it; for any other, those that were found then.
    pub(super) fn finds(&mut self, all: &[Arc<Tape>], frame: &[u8]) -> bool {
        let Some(call) = Call::read(frame).filter(|call| self.next == 0 && self.aside(call).is_none()) else {
            return true;
        };
        // Another connection may have been given a name of another length: what was said there has no place for this one.
        let fits = |tape: &&Arc<Tape>| tape.names.driver.len() == self.names.driver.len();
        let tapes = all.iter().filter(fits).cloned().collect();
        self.tapes = self.alike(tapes, &call);
        !self.tapes.is_empty()
    }

    /// What is said to a frame of the driver.
    pub(super) fn says(&mut self, frame: &[u8]) -> Option<Line> {
        if frame.is_empty() {
            let frame = wire::TICK.to_vec();
            return Some(Line { frame, wrong: None });
        }
        let call = Call::read(frame)?;
        if let Some(known) = self.aside(&call) {
            let frame = call.answer(&known.answer.by(&self.names));
            return Some(Line { frame, wrong: None });
        }
        let alike = self.alike(self.tapes.clone(), &call);
        let known = alike.first().and_then(|tape| tape.exchanges.get(self.next));
        Some(match known {
            Some(known) => {
                let frame = call.answer(&known.answer.by(&self.names));
                self.tapes = alike;
                self.next += 1;
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
        let left = self.tapes.iter().map(|tape| tape.exchanges.len() - self.next);
        left.min().unwrap_or_default()
    }

    fn aside(&self, call: &Call<'_>) -> Option<&Exchange> {
        let mut aside = self.opened_by.aside.iter();
        aside.find(|known| known.call.bytes == call.what)
    }

    /// Those whose next question this is.
    fn alike(&self, mut tapes: Vec<Arc<Tape>>, call: &Call<'_>) -> Vec<Arc<Tape>> {
        tapes.retain(|tape| {
            let next = tape.exchanges.get(self.next);
            next.is_some_and(|next| alike(&next.call.by(&self.names), call.what))
        });
        tapes
    }

    fn wrong(&self, call: &Call<'_>) -> String {
        let (number, name, asked) = (self.next + 1, &self.names.node, call.name());
        let Some(tape) = self.tapes.first() else {
            return format!(
                "question {number} to {name} is {asked}; the real node was never asked that first"
            );
        };
        match tape.exchanges.get(self.next) {
            Some(next) if wire::name(&next.call.bytes) == asked => {
                format!("question {number} to {name}, {asked}, is not what the real node was told with it")
            }
            Some(next) => {
                let expected = wire::name(&next.call.bytes);
                format!("question {number} to {name} is {asked}; the real node was asked {expected}")
            }
            None => format!("question {number} to {name} is {asked}; the real node was asked no more"),
        }
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

    /// What a driver tells of itself, on the connection of that creation.
    fn us(driver: &str, creation: u32) -> Vec<u8> {
        agent("facts", etf::pid(driver, 1, creation))
    }

    /// On the second connection: what was asked, and what came, as it came.
    fn passed(asked: Vec<Vec<u8>>, answered: Vec<Vec<u8>>) -> Passed {
        Passed {
            handshake: vec![
                peer::status(peer::GIVEN.as_bytes()),
                peer::challenge(REAL.as_bytes()),
            ],
            asked,
            answered,
        }
    }

    fn upgraded() -> Arc<Tape> {
        let path = binary(format!("/r/{REAL}.json").as_bytes());
        let asked = vec![
            frame(1, &tick_time()),
            frame(2, &us(peer::GIVEN, peer::CREATION)),
            frame(3, &note(1_700_000_000, 1)),
            frame(4, &agent("note", path)),
        ];
        let answered = vec![
            // One overtook another.
            answer(2, binary(REAL.as_bytes())),
            answer(1, etf::small(60)),
            answer(3, etf::atom("ok")),
            answer(4, etf::atom("ok")),
        ];
        Arc::new(Tape::of(REAL, passed(asked, answered)).unwrap())
    }

    /// On another connection, where the question beside the others was not answered before its end.
    fn asked_once_more(first: &[u8]) -> Arc<Tape> {
        let asked = vec![
            frame(1, &tick_time()),
            frame(2, first),
            frame(3, &agent("runs", etf::small(1))),
        ];
        let answered = vec![answer(2, etf::atom("yes")), answer(3, etf::atom("no"))];
        let mut passed = passed(asked, answered);
        let creation = passed.handshake[0].last_mut().unwrap();
        *creation += 1;
        Arc::new(Tape::of(REAL, passed).unwrap())
    }

    fn said(role: &mut Role, number: u32, what: &[u8]) -> Vec<u8> {
        assert!(role.finds(&[upgraded()], &frame(number, what)));
        let line = role.says(&frame(number, what)).unwrap();
        assert_eq!(line.wrong, None);
        let (to, answer) = wire::answered(&line.frame[4..]).unwrap();
        assert_eq!(to, reference(number));
        answer.to_vec()
    }

    #[test]
    fn another_node_says_the_same_in_its_own_name() {
        let mut role = Role::new(upgraded(), OTHER);
        assert_eq!(role.status(), peer::status(DRIVER.as_bytes()));
        assert_eq!(role.challenge(), (peer::challenge(OTHER.as_bytes()), 4711));
        let facts = us(DRIVER, peer::CREATION);
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
    fn the_first_question_says_which_conversation_it_is() {
        let runs = agent("runs", etf::atom("first"));
        // Given by whichever connection was the last one.
        let all = [asked_once_more(&runs), upgraded()];
        for opened_by in &all {
            let creation = u32::from_be_bytes(opened_by.names.creation);
            let mut role = Role::new(Arc::clone(opened_by), OTHER);
            let asked = frame(1, &us(DRIVER, creation));
            assert!(!role.finds(&all[..1], &asked));
            assert!(role.finds(&all, &asked));
            assert_eq!(
                said(&mut role, 1, &us(DRIVER, creation)),
                binary(OTHER.as_bytes())
            );
            assert_eq!(role.left(), 2);
        }
        // Two that begin alike are told apart by what follows.
        let all = [asked_once_more(&us(peer::GIVEN, peer::CREATION + 1)), upgraded()];
        let mut role = Role::new(upgraded(), OTHER);
        assert!(role.finds(&all, &frame(1, &us(DRIVER, peer::CREATION))));
        assert_eq!(
            role.says(&frame(1, &us(DRIVER, peer::CREATION))).unwrap().wrong,
            None
        );
        assert_eq!(said(&mut role, 2, &note(1_800_000_000, 2)), etf::atom("ok"));
        assert_eq!(role.left(), 1);
    }

    #[test]
    fn what_the_real_node_was_not_asked_is_refused_by_name() {
        let facts = us(DRIVER, peer::CREATION);
        for (before, asked, wrong) in [
            (
                &[][..],
                &note(1_700_000_000, 1),
                "question 1 to N is flyhot_agent:call stage; the real node was never asked that first",
            ),
            (
                &[&facts],
                &us(DRIVER, peer::CREATION),
                "question 2 to N is flyhot_agent:call facts; the real node was asked flyhot_agent:call stage",
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
            let mut role = Role::new(upgraded(), OTHER);
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

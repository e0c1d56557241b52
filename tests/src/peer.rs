//! The node's side of the distribution protocol, played by the test: peers that break it, and a wire that adds to what
//! a real node says.
//!
//! Source: Erlang Distribution Protocol, "Distribution Handshake" and "Control Message Structure".

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use md5::{Digest, Md5};

/// A connection that nobody uses any more; longer than any command of the tests waits for an answer.
const ABANDONED: Duration = Duration::from_secs(120);

/// What a peer gives whoever connects to it for a name.
pub const GIVEN: &str = "1T9F5SZ1Z7LZ9@127.0.0.1";

/// The creation that goes with it.
pub const CREATION: u32 = 77;

/// What a node of OTP 25 offers (`erts_internal:get_dflags/0`), measured.
const FLAGS: u64 = 0xD_07DF_7FBC;

/// Listens, and answers each connection as it was told.
#[derive(Debug)]
pub struct Peer {
    port: u16,
}

impl Peer {
    /// Each connection is answered by `play`, in a thread of its own; an error of its stream ends the connection.
    pub fn playing(play: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let play = Arc::new(play);
        Self::listening(move |stream| {
            let mut connection = Connection { stream, challenge: 0 };
            // Whoever is played with may close first.
            let _ = play(&mut connection);
        })
    }

    /// A wire to the node that listens on `port`: `inserted` is written after the handshake, and again after each
    /// `every` frames that the node sent.
    pub fn between(
        port: u16,
        every: usize,
        inserted: impl Fn(&str, u32) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let inserted = Arc::new(inserted);
        Self::listening(move |ours| {
            let Ok(node) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                return;
            };
            let (Ok(mut from), Ok(mut to)) = (ours.try_clone(), node.try_clone()) else {
                return;
            };
            std::thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let _ = carry(node, ours.try_clone(), every, inserted.as_ref());
            let _ = ours.shutdown(Shutdown::Both);
        })
    }

    fn listening(each: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let port = listener.local_addr().expect("it listens").port();
        let each = Arc::new(each);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let each = Arc::clone(&each);
                std::thread::spawn(move || each(stream));
            }
        });
        Self { port }
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// From the node to us, frame by frame.
fn carry(
    mut node: TcpStream,
    ours: io::Result<TcpStream>,
    every: usize,
    inserted: &dyn Fn(&str, u32) -> Vec<u8>,
) -> io::Result<()> {
    let mut ours = ours?;
    // Status, challenge, the answer to ours.
    let status = message(&mut node, 2)?;
    ours.write_all(&framed(2, &status))?;
    for _ in 0..2 {
        let frame = message(&mut node, 2)?;
        ours.write_all(&framed(2, &frame))?;
    }
    // "snamed:", a name with its length, a creation.
    let length = usize::from(u16::from_be_bytes([status[7], status[8]]));
    let name = String::from_utf8_lossy(&status[9..9 + length]).into_owned();
    let creation = u32::from_be_bytes(status[9 + length..13 + length].try_into().expect("four bytes"));
    ours.write_all(&inserted(&name, creation))?;
    for count in 1.. {
        let frame = message(&mut node, 4)?;
        ours.write_all(&framed(4, &frame))?;
        if count % every == 0 {
            ours.write_all(&inserted(&name, creation))?;
        }
    }
    Ok(())
}

/// The next message behind a length in so many bytes.
pub(crate) fn message(stream: &mut TcpStream, width: usize) -> io::Result<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header[4 - width..])?;
    let mut bytes = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// `bytes` behind their length in so many bytes.
pub fn framed(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a frame").to_be_bytes();
    [&length[4 - width..], bytes].concat()
}

/// One connection to a [`Peer`].
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    challenge: u32,
}

impl Connection {
    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Writes the same again and again, so many times.
    pub fn flood(&mut self, bytes: &[u8], times: usize) -> io::Result<()> {
        (0..times).try_for_each(|_| self.write(bytes))
    }

    /// Says nothing until the other side closes.
    pub fn silence(&mut self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(ABANDONED))?;
        let mut bytes = [0; 4096];
        while self.stream.read(&mut bytes)? > 0 {}
        Ok(())
    }

    /// The next message of the handshake.
    pub fn handshake(&mut self) -> io::Result<Vec<u8>> {
        message(&mut self.stream, 2)
    }

    /// The next frame after it.
    pub fn frame(&mut self) -> io::Result<Vec<u8>> {
        message(&mut self.stream, 4)
    }

    /// Reads the name and gives another.
    pub fn gives_a_name(&mut self) -> io::Result<()> {
        self.handshake()?;
        self.write(&framed(2, &status(GIVEN.as_bytes())))
    }

    /// The challenge, as the node `name`.
    pub fn challenges(&mut self, name: &str) -> io::Result<()> {
        self.write(&framed(2, &challenge(name.as_bytes())))
    }

    /// Reads the answer to the challenge.
    pub fn is_answered(&mut self) -> io::Result<()> {
        let answer = self.handshake()?;
        let challenge = answer.get(1..5).and_then(|bytes| bytes.try_into().ok());
        self.challenge = u32::from_be_bytes(challenge.unwrap_or_default());
        Ok(())
    }

    /// Proves that it knows `cookie`.
    pub fn proves(&mut self, cookie: &str) -> io::Result<()> {
        let digest = Md5::digest(format!("{cookie}{}", self.challenge));
        self.write(&framed(2, &[&b"a"[..], &digest].concat()))
    }

    /// The whole handshake, as the node `name`.
    pub fn shakes_hands(&mut self, name: &str, cookie: &str) -> io::Result<()> {
        self.gives_a_name()?;
        self.challenges(name)?;
        self.is_answered()?;
        self.proves(cookie)
    }
}

/// The status that gives a name.
pub fn status(name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).expect("a name").to_be_bytes();
    [&b"snamed:"[..], &length, name, &CREATION.to_be_bytes()].concat()
}

/// The challenge of the node of this name.
pub fn challenge(name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).expect("a name").to_be_bytes();
    [
        &b"N"[..],
        &FLAGS.to_be_bytes(),
        &4711_u32.to_be_bytes(),
        &CREATION.to_be_bytes(),
        &length,
        name,
    ]
    .concat()
}

/// A pass-through frame with its length: a control message and, maybe, a message, both without version byte.
pub fn pass_through(control: &[u8], message: Option<&[u8]>) -> Vec<u8> {
    let mut frame = [&[112, 131][..], control].concat();
    if let Some(message) = message {
        frame.push(131);
        frame.extend(message);
    }
    framed(4, &frame)
}

/// Terms in the external format, without version byte.
pub mod etf {
    /// A small integer.
    pub fn small(value: u8) -> Vec<u8> {
        vec![97, value]
    }

    /// An atom.
    pub fn atom(name: &str) -> Vec<u8> {
        [
            &[119, u8::try_from(name.len()).expect("a short atom")][..],
            name.as_bytes(),
        ]
        .concat()
    }

    /// A small tuple.
    pub fn tuple(elements: &[Vec<u8>]) -> Vec<u8> {
        let count = u8::try_from(elements.len()).expect("a small tuple");
        [vec![104, count], elements.concat()].concat()
    }

    /// A pid of a node.
    pub fn pid(node: &str, id: u32, creation: u32) -> Vec<u8> {
        [
            vec![88],
            atom(node),
            id.to_be_bytes().to_vec(),
            0_u32.to_be_bytes().to_vec(),
            creation.to_be_bytes().to_vec(),
        ]
        .concat()
    }

    /// A reference of a node.
    pub fn reference(node: &str, words: [u32; 3], creation: u32) -> Vec<u8> {
        [
            vec![90, 0, 3],
            atom(node),
            creation.to_be_bytes().to_vec(),
            words.iter().flat_map(|word| word.to_be_bytes()).collect(),
        ]
        .concat()
    }
}

//! What lies between a client and an S3 server: a proxy that does to requests and answers what networks and stores do.
//!
//! Puts go through one at a time, which makes the server's conditions what S3 promises: moto compares and writes in two steps.

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::rounds::Random;

/// What ails the way to a store; each number is how many of a thousand requests it befalls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ills {
    /// 500 or 503 instead of an answer, nothing done.
    pub server_errors: u64,
    /// 409 for a put, nothing done.
    pub conflicts: u64,
    /// The connection is reset before anything was done.
    pub resets: u64,
    /// It is done, and the connection is reset instead of an answer.
    pub lost_answers: u64,
    /// The answer ends in the middle of its body.
    pub cut_bodies: u64,
    /// A bit of the body is another.
    pub bent_bits: u64,
    /// The body comes byte by byte.
    pub slow_bodies: u64,
    /// Whoever does not ask for consistency reads what was there before.
    pub stale: bool,
    /// An object that is not there may not be read: 403 and not 404.
    pub forbidden_absence: bool,
    /// Puts are done whatever `If-Match` says.
    pub ignores_match: bool,
    /// Puts are done whatever `If-None-Match` says.
    pub ignores_absence: bool,
    /// The store's clock is so many seconds ahead.
    pub clock_ahead_s: i64,
    /// Every request is refused for the time it was signed at.
    pub refuses_time: bool,
}

/// The proxy; it stops listening when dropped.
pub struct Chaos {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    ills: Mutex<Ills>,
    random: Mutex<Random>,
    /// By path: the answer to a read before the last put.
    stale: Mutex<HashMap<String, Vec<u8>>>,
    puts: Mutex<()>,
    requests: AtomicU64,
    stopped: Mutex<bool>,
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A request or an answer.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Chaos {
    /// In front of the server at `server`; what befalls whom is drawn from `random`.
    pub fn before(server: SocketAddr, ills: Ills, random: Random) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            server,
            ills: Mutex::new(ills),
            random: Mutex::new(random),
            stale: Mutex::new(HashMap::new()),
            puts: Mutex::new(()),
            requests: AtomicU64::new(0),
            stopped: Mutex::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if *held(&accepting.stopped) {
                    break;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    // A client that goes away in the middle is what some of this is about.
                    let _ = shared.serve(client);
                });
            }
        });
        Self { address, shared }
    }

    /// Its address as an endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What ails it from now on.
    pub fn ail(&self, ills: Ills) {
        *held(&self.shared.ills) = ills;
    }

    /// How many requests came.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        *held(&self.shared.stopped) = true;
        // It looks up from waiting.
        let _ = TcpStream::connect(self.address);
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn befalls(&self, per_mille: u64) -> bool {
        per_mille > 0 && held(&self.random).below(1000) < per_mille
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut request = read_message(&mut client, true)?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let ills = *held(&self.ills);
        let mut words = request.head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (put, path) = (
            method != "GET",
            path.split('?').next().unwrap_or_default().to_owned(),
        );
        if ills.refuses_time {
            return answer(&mut client, "403 Forbidden", "RequestTimeTooSkewed");
        }
        if self.befalls(ills.resets) {
            return reset(&client);
        }
        if self.befalls(ills.server_errors) {
            return if self.befalls(500) {
                answer(&mut client, "503 Slow Down", "SlowDown")
            } else {
                answer(&mut client, "500 Internal Server Error", "InternalError")
            };
        }
        if put && self.befalls(ills.conflicts) {
            return answer(&mut client, "409 Conflict", "ConditionalRequestConflict");
        }
        if ills.ignores_match {
            request.without("if-match");
        }
        if ills.ignores_absence {
            request.without("if-none-match");
        }
        let consistent = request
            .head
            .to_lowercase()
            .contains("\r\nx-tigris-consistent: true\r\n");
        let mut answered = if put {
            let _alone = held(&self.puts);
            if ills.stale {
                let before = self.forward(&request.read_instead(&path))?;
                held(&self.stale).insert(path, before);
            }
            self.forward(&request)?
        } else if let Some(before) = held(&self.stale).get(&path).filter(|_| ills.stale && !consistent) {
            before.clone()
        } else {
            self.forward(&request)?
        };
        if self.befalls(ills.lost_answers) {
            return reset(&client);
        }
        if ills.forbidden_absence && answered.starts_with(b"HTTP/1.1 404") {
            return answer(&mut client, "403 Forbidden", "AccessDenied");
        }
        if ills.clock_ahead_s != 0 {
            answered = ahead(&answered, ills.clock_ahead_s);
        }
        let body = answered
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .map_or(0, |at| at + 4);
        if !put && answered.len() > body {
            if self.befalls(ills.bent_bits) {
                let at = body + held(&self.random).below((answered.len() - body) as u64) as usize;
                answered[at] ^= 1 << held(&self.random).below(8);
            }
            if self.befalls(ills.cut_bodies) {
                answered.truncate(body + (answered.len() - body) / 2);
            }
            if self.befalls(ills.slow_bodies) {
                for byte in &answered {
                    client.write_all(std::slice::from_ref(byte))?;
                    std::thread::sleep(Duration::from_micros(500));
                }
                return Ok(());
            }
        }
        client.write_all(&answered)
    }

    fn forward(&self, request: &Message) -> std::io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(self.server)?;
        server.write_all(request.head.as_bytes())?;
        server.write_all(&request.body)?;
        let answer = read_message(&mut server, false)?;
        Ok([answer.head.as_bytes(), &answer.body].concat())
    }
}

impl Message {
    /// Takes a header out.
    fn without(&mut self, name: &str) {
        let lines = self.head.split("\r\n");
        let kept: Vec<_> = lines
            .filter(|line| !line.to_lowercase().starts_with(&format!("{name}:")))
            .collect();
        self.head = kept.join("\r\n");
    }

    /// A read of the same object.
    fn read_instead(&self, path: &str) -> Message {
        let mut read = Message {
            head: format!(
                "GET {path} HTTP/1.1\r\n{}",
                self.head.split_once("\r\n").map_or("", |(_, rest)| rest)
            ),
            body: Vec::new(),
        };
        for header in ["content-length", "transfer-encoding", "if-match", "if-none-match"] {
            read.without(header);
        }
        read
    }
}

/// One message; each is the only one of its connection.
fn read_message(stream: &mut TcpStream, request: bool) -> std::io::Result<Message> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        let mut lines = text.split("\r\n");
        lines.find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let chunked = header("transfer-encoding").is_some();
    let length: Option<usize> = header("content-length").and_then(|length| length.parse().ok());
    loop {
        let body = &bytes[head..];
        let whole = match (length, chunked) {
            (_, true) => body.ends_with(b"0\r\n\r\n"),
            (Some(length), false) => body.len() >= length,
            (None, false) => request,
        };
        if whole {
            break;
        }
        match stream.read(&mut piece)? {
            0 => break,
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
    let body = bytes.split_off(head);
    // Whoever reads it knows that no other one follows.
    let mut message = Message { head: text, body };
    message.without("connection");
    message.head = message.head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    Ok(message)
}

fn answer(client: &mut TcpStream, status: &str, code: &str) -> std::io::Result<()> {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test has it</Message></Error>"
    );
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    client.write_all(text.as_bytes())
}

/// As a network does it that breaks; what was sent and not read makes the kernel send RST.
fn reset(client: &TcpStream) -> std::io::Result<()> {
    client.shutdown(Shutdown::Both)
}

/// An answer whose times are later.
fn ahead(answer: &[u8], seconds: i64) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer).into_owned();
    let lines = text.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name, time)) if matches!(&*name.to_lowercase(), "date" | "last-modified") => {
            let shifted = std::process::Command::new("date")
                .args([
                    "-u",
                    "+%a, %d %b %Y %H:%M:%S GMT",
                    "-d",
                    &format!("{time} {seconds} seconds"),
                ])
                .env("LC_ALL", "C")
                .output()
                .expect("date runs");
            format!("{name}: {}", String::from_utf8_lossy(&shifted.stdout).trim())
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\r\n").into_bytes()
}

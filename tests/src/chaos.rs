//! What lies between a client and an S3 server: a proxy that does to requests and answers what networks and stores do.
//!
//! Puts under a condition go through one at a time, which makes the server's conditions what S3 promises: moto compares and writes in
//! two steps. Uploads in parts have the time they began at, which moto does not know.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::SockRef;

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
    /// A bit of what is put is another when it reaches the store, and its checksums are gone.
    pub bent_uploads: u64,
    /// Half of what is put reaches the store, which takes it for all.
    pub cut_uploads: u64,
    /// An upload in parts is not put together, which is told in an answer that began well.
    pub late_errors: u64,
    /// An upload in parts is put together, and the connection is reset instead of an answer.
    pub lost_completions: u64,
    /// A put under a condition reaches the store seconds after its connection broke.
    pub late_puts: u64,
    /// Whoever asks for a part of an object gets all of it.
    pub ignores_range: bool,
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
    /// Nothing is answered, and nothing done, as long as it is so.
    pub swallows: bool,
    /// Whatever is put and has this in its path reaches the store as soon as it is no longer so.
    pub holds: Option<&'static str>,
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
    asked: Mutex<Vec<(String, String)>>,
    inconsistent: Mutex<Vec<String>>,
    /// When each upload in parts began.
    uploads: Mutex<HashMap<String, SystemTime>>,
    /// What was put together, by what follows the path: S3 knows no such upload any more, moto goes on to.
    completed: Mutex<HashSet<String>>,
    bent: AtomicU64,
    resumed: AtomicU64,
    late: Mutex<Vec<bool>>,
    late_under_way: AtomicU64,
    stopped: Mutex<bool>,
}

/// How long a put is held back that arrives late: the client has found out by then that it was not done, and goes on; the longest
/// is longer than a lease of the tests, so that another one has taken over.
const LATE: std::ops::Range<u64> = 1..9;

/// Between two looks whether what is swallowed still is.
const LOOK: Duration = Duration::from_millis(20);

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
            asked: Mutex::default(),
            inconsistent: Mutex::default(),
            uploads: Mutex::default(),
            completed: Mutex::default(),
            bent: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            late: Mutex::default(),
            late_under_way: AtomicU64::new(0),
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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
        held(&self.shared.asked).len() as u64
    }

    /// The path of each request of a method, with what follows it.
    pub fn asked(&self, method: &str) -> Vec<String> {
        let asked = held(&self.shared.asked);
        let of_it = asked.iter().filter(|(of, _)| of == method);
        of_it.map(|(_, path)| path.clone()).collect()
    }

    /// The requests that did not ask for consistency.
    pub fn inconsistent(&self) -> Vec<String> {
        held(&self.shared.inconsistent).clone()
    }

    /// How many bodies were bent or cut, on either way.
    pub fn bent(&self) -> u64 {
        self.shared.bent.load(Ordering::Relaxed)
    }

    /// How many requests went on with the object that they began with.
    pub fn resumed(&self) -> u64 {
        self.shared.resumed.load(Ordering::Relaxed)
    }

    /// Of the puts that came late: whether the store did each.
    pub fn late(&self) -> Vec<bool> {
        held(&self.shared.late).clone()
    }

    /// How many puts are held back at this moment.
    pub fn late_under_way(&self) -> u64 {
        self.shared.late_under_way.load(Ordering::Relaxed)
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

    fn wait_while(&self, ails: impl Fn(&Ills) -> bool) {
        while ails(&held(&self.ills)) && !*held(&self.stopped) {
            std::thread::sleep(LOOK);
        }
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut request = read_message(&mut client, true)?;
        let ills = *held(&self.ills);
        let mut words = request.head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (method, target) = (method.to_owned(), target.to_owned());
        held(&self.asked).push((method.clone(), target.clone()));
        let consistent = request.header("x-tigris-consistent").as_deref() == Some("true");
        if !consistent {
            held(&self.inconsistent).push(format!("{method} {target}"));
        }
        if request.header("range").is_some() && request.header("if-match").is_some() {
            self.resumed.fetch_add(1, Ordering::Relaxed);
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let path = path.to_owned();
        let asks = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
        let reads = matches!(&*method, "GET" | "HEAD");
        let completes = method == "POST" && asks("uploadId");
        // A part is no object yet.
        let changes = completes || (!reads && method != "POST" && !asks("uploadId"));
        let object = method == "GET" && !asks("list-type") && !asks("uploads") && path.len() > 1;
        if ills.refuses_time {
            return answer(&mut client, "403 Forbidden", "RequestTimeTooSkewed");
        }
        if self.befalls(ills.resets) {
            return self.reset(client);
        }
        if ills.swallows {
            self.wait_while(|ills| ills.swallows);
            return self.reset(client);
        }
        let is_held = |ills: &Ills| ills.holds.is_some_and(|held| path.contains(held));
        if method == "PUT" && is_held(&ills) {
            self.wait_while(is_held);
        }
        if self.befalls(ills.server_errors) {
            return if self.befalls(500) {
                answer(&mut client, "503 Slow Down", "SlowDown")
            } else {
                answer(&mut client, "500 Internal Server Error", "InternalError")
            };
        }
        if !reads && self.befalls(ills.conflicts) {
            return answer(&mut client, "409 Conflict", "ConditionalRequestConflict");
        }
        if completes && held(&self.completed).contains(query) {
            return answer(&mut client, "404 Not Found", "NoSuchUpload");
        }
        if completes && self.befalls(ills.late_errors) {
            return answer(&mut client, "200 OK", "InternalError");
        }
        if ills.ignores_match && !reads {
            request.without("if-match");
        }
        if ills.ignores_absence {
            request.without("if-none-match");
        }
        if ills.ignores_range {
            request.without("range");
        }
        if method == "PUT" && !request.body.is_empty() {
            self.spoil(&mut request, ills);
        }
        let late = method == "PUT" && request.is_conditional() && self.befalls(ills.late_puts);
        if late {
            self.late_under_way.fetch_add(1, Ordering::Relaxed);
            self.reset(client)?;
            let seconds = LATE.start + held(&self.random).below(LATE.end - LATE.start);
            std::thread::sleep(Duration::from_secs(seconds));
            let answered = self.change(&request, &path, ills);
            held(&self.late).push(answered?.starts_with(b"HTTP/1.1 200"));
            self.late_under_way.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        let before = held(&self.stale).get(&path).cloned();
        let mut answered = match before {
            _ if changes => self.change(&request, &path, ills)?,
            Some(before) if object && ills.stale && !consistent => before,
            _ => self.forward(&request)?,
        };
        if completes && answered.starts_with(b"HTTP/1.1 200") {
            held(&self.completed).insert(query.to_owned());
            if self.befalls(ills.lost_completions) {
                return self.reset(client);
            }
        }
        if asks("uploads") {
            answered = self.dated(&answered);
        }
        if self.befalls(ills.lost_answers) {
            return self.reset(client);
        }
        if ills.forbidden_absence && answered.starts_with(b"HTTP/1.1 404") {
            return answer(&mut client, "403 Forbidden", "AccessDenied");
        }
        if ills.clock_ahead_s != 0 {
            answered = ahead(&answered, ills.clock_ahead_s);
        }
        let body = body_of(&answered);
        if method == "GET" && answered.len() > body {
            // Lists have no digest: only TLS keeps theirs.
            if object && self.befalls(ills.bent_bits) {
                self.bend(&mut answered[body..]);
            }
            if self.befalls(ills.cut_bodies) {
                self.bent.fetch_add(1, Ordering::Relaxed);
                let kept = held(&self.random).below((answered.len() - body) as u64) as usize;
                client.write_all(&answered[..body + kept])?;
                return self.reset(client);
            }
            if self.befalls(ills.slow_bodies) {
                // As slow as a modem, but for what would take minutes.
                let piece = answered.len().div_ceil(1_000);
                for bytes in answered.chunks(piece) {
                    client.write_all(bytes)?;
                    std::thread::sleep(Duration::from_micros(500));
                }
                return Ok(());
            }
        }
        client.write_all(&answered)
    }

    /// What is put reaches the store as another, and nothing on the way can tell.
    fn spoil(&self, request: &mut Message, ills: Ills) {
        let bends = self.befalls(ills.bent_uploads);
        let cuts = self.befalls(ills.cut_uploads);
        if bends {
            self.bend(&mut request.body);
        }
        if cuts {
            self.bent.fetch_add(1, Ordering::Relaxed);
            request.body.truncate(request.body.len() / 2);
            request.without("content-length");
            request.with(&format!("content-length: {}", request.body.len()));
        }
        if bends || cuts {
            for header in ["content-md5", "x-amz-checksum-", "x-amz-content-sha256"] {
                request.without(header);
            }
            request.with("x-amz-content-sha256: UNSIGNED-PAYLOAD");
        }
    }

    fn bend(&self, bytes: &mut [u8]) {
        self.bent.fetch_add(1, Ordering::Relaxed);
        let at = held(&self.random).below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << held(&self.random).below(8);
    }

    /// Ends a connection as one breaks: with FIN or with RST, as luck has it.
    fn reset(&self, client: TcpStream) -> std::io::Result<()> {
        if self.befalls(500) {
            SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
            drop(client);
            return Ok(());
        }
        client.shutdown(Shutdown::Both)
    }

    /// Hands on what makes an object another.
    fn change(&self, request: &Message, path: &str, ills: Ills) -> std::io::Result<Vec<u8>> {
        let conditional = request.is_conditional();
        // Artifacts are written by whomever at once, as in a store.
        let _alone = (conditional || ills.stale).then(|| held(&self.puts));
        if ills.stale {
            let before = self.forward(&request.read_instead(path))?;
            held(&self.stale).insert(path.to_owned(), before);
        }
        self.forward(request)
    }

    /// Notes when an upload began, and has a list of uploads say so.
    fn dated(&self, answered: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(answered).into_owned();
        let id_in = |text: &str| {
            Some(
                text.split_once("<UploadId>")?
                    .1
                    .split_once("</UploadId>")?
                    .0
                    .to_owned(),
            )
        };
        let mut uploads = held(&self.uploads);
        if text.contains("InitiateMultipartUploadResult") {
            uploads.extend(id_in(&text).map(|id| (id, SystemTime::now())));
            return answered.to_vec();
        }
        let body = body_of(answered);
        let (head, list) = text.split_at(body);
        let dated = list.split_inclusive("</Upload>").map(|upload| {
            let since = id_in(upload).and_then(|id| uploads.get(&id).copied());
            let (Some(since), Some((before, rest))) = (since, upload.split_once("<Initiated>")) else {
                return upload.to_owned();
            };
            let after = rest.split_once("</Initiated>").map_or("", |(_, after)| after);
            let seconds = since
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            let date = date(&format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%S.000Z");
            format!("{before}<Initiated>{date}</Initiated>{after}")
        });
        let list: String = dated.collect();
        let mut answer = Message {
            head: head.to_owned(),
            body: list.into_bytes(),
        };
        answer.without("content-length");
        answer.with(&format!("content-length: {}", answer.body.len()));
        [answer.head.as_bytes(), &answer.body].concat()
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
    fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.split("\r\n");
        lines.find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    fn is_conditional(&self) -> bool {
        ["if-match", "if-none-match"]
            .iter()
            .any(|name| self.header(name).is_some())
    }

    /// Puts one in.
    fn with(&mut self, line: &str) {
        self.head = self.head.replacen("\r\n", &format!("\r\n{line}\r\n"), 1);
    }

    /// Takes headers out whose names begin so.
    fn without(&mut self, name: &str) {
        let lines = self.head.split("\r\n");
        let kept: Vec<_> = lines
            .filter(|line| !line.to_lowercase().starts_with(name))
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
    let mut message = Message {
        head: String::from_utf8_lossy(&bytes[..head]).into_owned(),
        body: Vec::new(),
    };
    if message.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let chunked = message.header("transfer-encoding").is_some();
    let length: Option<usize> = message
        .header("content-length")
        .and_then(|length| length.parse().ok());
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
    message.body = bytes.split_off(head);
    // Whoever reads it knows that no other one follows; and nobody waits for a go-ahead that was given.
    message.without("connection:");
    message.without("expect:");
    message.with("connection: close");
    Ok(message)
}

/// Where the body of an answer begins.
fn body_of(answered: &[u8]) -> usize {
    let end = answered.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or(0, |at| at + 4)
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

/// An answer whose times are later.
fn ahead(answer: &[u8], seconds: i64) -> Vec<u8> {
    let (head, body) = answer.split_at(body_of(answer));
    let text = String::from_utf8_lossy(head).into_owned();
    let lines = text.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name, time)) if matches!(&*name.to_lowercase(), "date" | "last-modified") => {
            let later = date(&format!("{time} {seconds} seconds"), "+%a, %d %b %Y %H:%M:%S GMT");
            format!("{name}: {later}")
        }
        _ => line.to_owned(),
    });
    let head = lines.collect::<Vec<_>>().join("\r\n");
    [head.as_bytes(), body].concat()
}

fn date(when: &str, format: &str) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", format, "-d", when])
        .env("LC_ALL", "C")
        .output()
        .expect("date runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

//! Open-loop HTTP load: requests are due at a steady rate whether or not earlier ones were answered, and a latency
//! counts from the instant its request was due. A server that stands still for 300 ms shows 300 ms.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than any freeze and any call timeout: a request that is not answered by then has failed.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long a connection that waits for its next request may sleep before it looks whether it is over.
const NAP: Duration = Duration::from_millis(20);

/// A thread that only sends and reads needs little; a thousand of them shall not need gigabytes.
const STACK_BYTES: usize = 128 * 1024;

type Paths = dyn Fn(u64) -> String + Send + Sync;
type Check = dyn Fn(&str) -> bool + Send + Sync;

/// Traffic in the making.
#[derive(Clone)]
pub struct TrafficBuilder {
    port: u16,
    path: Arc<Paths>,
    check: Arc<Check>,
    per_second: u32,
    connections: u32,
}

/// Traffic that flows.
pub struct Traffic {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<Vec<Sample>>>,
    begun: Instant,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it had to be sent.
    pub due: Instant,
    /// When it was: later than due if no connection was free.
    pub sent: Instant,
    /// When its answer, or its failure, was there.
    pub done: Instant,
    /// Why it failed; nothing for status 200 with a body that was accepted.
    pub failure: Option<String>,
}

/// All requests of some traffic.
#[derive(Debug)]
pub struct Tally {
    /// In the order in which they were due.
    pub samples: Vec<Sample>,
    /// From the first instant a request could be due to the stop.
    pub took: Duration,
}

struct Shared {
    builder: TrafficBuilder,
    next: AtomicU64,
    in_flight: AtomicU64,
    served: AtomicU64,
    stop: AtomicBool,
}

impl TrafficBuilder {
    /// `GET path(n)` for n = 0, 1, 2, ... on 127.0.0.1 at `port`: 500 requests a second over 256 connections.
    pub fn new(port: u16, path: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        Self {
            port,
            path: Arc::new(path),
            check: Arc::new(|_| true),
            per_second: 500,
            connections: 256,
        }
    }

    /// How many requests are due each second.
    pub fn per_second(mut self, requests: u32) -> Self {
        self.per_second = requests;
        self
    }

    /// How many requests can be in flight at once.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// What a body has to look like; a request with another one has failed.
    pub fn check(mut self, check: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.check = Arc::new(check);
        self
    }

    /// Opens all connections, then lets it flow.
    ///
    /// # Panics
    /// If a connection is refused.
    pub fn start(self) -> Traffic {
        let connections: Vec<_> = (0..self.connections)
            .map(|_| Connection::open(self.port).expect("the server accepts connections"))
            .collect();
        let begun = Instant::now();
        let shared = Arc::new(Shared {
            builder: self,
            next: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            served: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let workers = connections
            .into_iter()
            .map(|connection| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn(move || work(&shared, connection, begun))
                    .expect("a thread can be made")
            })
            .collect();
        Traffic {
            shared,
            workers,
            begun,
        }
    }
}

impl Traffic {
    /// How many requests are sent and not answered at this moment.
    pub fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// How many were answered or failed so far.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Ends it: waits for the answers that are still out, sends nothing more.
    pub fn stop(mut self) -> Tally {
        let took = self.begun.elapsed();
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut samples: Vec<Sample> = self
            .workers
            .drain(..)
            .flat_map(|worker| worker.join().expect("a worker does not panic"))
            .collect();
        samples.sort_by_key(|sample| sample.due);
        Tally { samples, took }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Tally {
    /// How many were answered as they should.
    pub fn ok(&self) -> usize {
        self.samples
            .iter()
            .filter(|sample| sample.failure.is_none())
            .count()
    }

    /// Why the others failed.
    pub fn failures(&self) -> Vec<&str> {
        self.samples
            .iter()
            .filter_map(|sample| sample.failure.as_deref())
            .collect()
    }

    /// Requests answered as they should, each second.
    pub fn per_second(&self) -> f64 {
        self.ok() as f64 / self.took.as_secs_f64()
    }

    /// The longest latency.
    pub fn slowest(&self) -> Duration {
        self.samples.iter().map(Sample::latency).max().unwrap_or_default()
    }

    /// The latency that `share` (0.0 to 1.0) of the requests did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut latencies: Vec<_> = self.samples.iter().map(Sample::latency).collect();
        latencies.sort();
        let last = latencies.len().saturating_sub(1);
        latencies
            .get((last as f64 * share).round() as usize)
            .copied()
            .unwrap_or_default()
    }

    /// The largest number of requests that were sent and unanswered at one instant of `from..=to`.
    pub fn peak_in_flight(&self, from: Instant, to: Instant) -> usize {
        let at = |instant: Instant| {
            let out = |sample: &&Sample| sample.sent <= instant && instant < sample.done;
            self.samples.iter().filter(out).count()
        };
        // The number only grows at the instants of sending.
        self.samples
            .iter()
            .map(|sample| sample.sent)
            .filter(|sent| (from..=to).contains(sent))
            .chain([from])
            .map(at)
            .max()
            .unwrap_or_default()
    }
}

impl Sample {
    /// From when it was due until its answer was there.
    pub fn latency(&self) -> Duration {
        self.done - self.due
    }
}

fn work(shared: &Shared, connection: Connection, begun: Instant) -> Vec<Sample> {
    let builder = &shared.builder;
    let mut connection = Some(connection);
    let mut samples = Vec::new();
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let due = begun + Duration::from_secs_f64(number as f64 / f64::from(builder.per_second));
        loop {
            if shared.stop.load(Ordering::Relaxed) {
                return samples;
            }
            let ahead = due.saturating_duration_since(Instant::now());
            if ahead.is_zero() {
                break;
            }
            std::thread::sleep(ahead.min(NAP));
        }
        let sent = Instant::now();
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let answered = request(&mut connection, builder, number);
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        shared.served.fetch_add(1, Ordering::Relaxed);
        samples.push(Sample {
            due,
            sent,
            done: Instant::now(),
            failure: answered.err(),
        });
    }
}

fn request(connection: &mut Option<Connection>, builder: &TrafficBuilder, number: u64) -> Result<(), String> {
    let path = (builder.path)(number);
    let exchange = |connection: &mut Option<Connection>| {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(builder.port)?,
        };
        let answer = open.get(&path)?;
        *connection = Some(open);
        Ok::<_, io::Error>(answer)
    };
    let (status, body) = exchange(connection).map_err(|error| format!("{path}: {error}"))?;
    if status == "HTTP/1.1 200 OK" && (builder.check)(&body) {
        Ok(())
    } else {
        Err(format!("{path}: {status}: {body}"))
    }
}

/// One HTTP/1.1 connection with keep-alive; as much of RFC 9112 as the fixtures speak.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The status line and the body.
    fn get(&mut self, path: &str) -> io::Result<(String, String)> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let mut length = 0;
        loop {
            let header = self.line()?;
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

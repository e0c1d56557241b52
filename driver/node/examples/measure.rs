//! Figures of this crate for `make bench`, which cannot call it: one line of JSON on standard output.
//!
//! `measure terms FILE` takes a term in the external format through each way to decode it; `measure sessions NODE EPMD_PORT
//! COUNT` opens sessions with one node, whose cookie is in the environment, and says what memory they hold while they are idle.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench speaks to its audience, and ends where it fails"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use flyhot_node::term::Term;
use flyhot_node::{ConnectOptions, Cookie, connect, measured};

/// Each way is taken so often, one after another.
const ROUNDS: usize = 11;

/// Sessions that are just open still hold what the handshake needed; a tick comes every 15 s.
const SETTLED: Duration = Duration::from_secs(2);

/// A node on the same machine answers at once.
const STEP: Duration = Duration::from_secs(10);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["terms", file] => terms(&std::fs::read(file).expect("the file can be read")),
        ["sessions", node, epmd_port, count] => sessions(
            node,
            epmd_port.parse().expect("a port"),
            count.parse().expect("a count"),
        ),
        _ => panic!("measure takes terms FILE or sessions NODE EPMD_PORT COUNT"),
    }
}

fn terms(bytes: &[u8]) {
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        times[0].push(took(|| measured::scan(bytes).expect("a term")));
        times[1].push(took(|| Term::decode(bytes).expect("a term")));
        times[2].push(took(|| measured::decoded(bytes).expect("a term")));
    }
    let [scan, eetf, ours] = times;
    println!("{{\"scan_us\":{scan:?},\"eetf_us\":{eetf:?},\"scan_and_decode_us\":{ours:?}}}");
}

/// What is made is dropped when the clock has stopped.
fn took<T>(what: impl FnOnce() -> T) -> u64 {
    let begun = Instant::now();
    let made = black_box(what());
    let took = begun.elapsed();
    drop(made);
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn sessions(node: &str, epmd_port: u16, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let options = ConnectOptions {
            peer: node.parse().expect("a node's name"),
            cookie: Cookie::new(std::env::var("RELEASE_COOKIE").expect("a cookie")),
            dist_port: None,
            epmd_port,
            tls: None,
            step_timeout: STEP,
        };
        let mut open = vec![connect(&options).await.expect("a session")];
        tokio::time::sleep(SETTLED).await;
        let one = resident_kib();
        while open.len() <= count {
            open.push(connect(&options).await.expect("a session"));
        }
        tokio::time::sleep(SETTLED).await;
        let all = resident_kib();
        println!("{{\"one_kib\":{one},\"all_kib\":{all},\"more\":{count}}}");
    });
}

/// What this process has in memory.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.expect("Linux says")
}

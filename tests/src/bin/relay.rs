//! Carries connections of one network into another: `relay FROM TO` listens at the one and connects to the other. One of them is an address
//! of this network, the other the path of a socket, which is in both.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the tests"
)]

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use flyhot_tests::{Duplex, join};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &args[..] else {
        eprintln!("relay FROM TO");
        return ExitCode::from(2);
    };
    let carried = if from.starts_with('/') {
        UnixListener::bind(from).map(|listener| carry(listener.incoming(), || TcpStream::connect(to)))
    } else {
        TcpListener::bind(from).map(|listener| carry(listener.incoming(), || UnixStream::connect(to)))
    };
    if let Err(error) = carried {
        eprintln!("{from}: {error}");
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}

fn carry<A: Duplex, B: Duplex>(
    incoming: impl Iterator<Item = io::Result<A>>,
    connect: impl Fn() -> io::Result<B> + Sync,
) {
    println!("listens");
    std::thread::scope(|scope| {
        for near in incoming.map_while(Result::ok) {
            scope.spawn(|| {
                // A peer that goes away in the middle takes the other with it.
                if let Ok(far) = connect() {
                    join(near, far);
                }
            });
        }
    });
}

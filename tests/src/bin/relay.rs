//! Carries connections of one network into another: `relay ADDRESS SOCKET` listens at an address of the one, and the socket is in both.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the tests"
)]

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, socket] = &args[..] else {
        eprintln!("relay ADDRESS SOCKET");
        return ExitCode::from(2);
    };
    let listener = match TcpListener::bind(address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("{address}: {error}");
            return ExitCode::from(1);
        }
    };
    println!("listens");
    for near in listener.incoming().map_while(Result::ok) {
        let socket = socket.clone();
        std::thread::spawn(move || {
            // A peer that goes away in the middle takes the other with it.
            if let Ok(far) = UnixStream::connect(socket) {
                flyhot_tests::join(near, far);
            }
        });
    }
    ExitCode::SUCCESS
}

//! An S3 server of the test: moto, in a process of its own, with one bucket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::otp::prefix;
use crate::process::{Process, mortal};
use crate::scratch::Scratch;
use crate::shapes::free_port;
use crate::wait::wait_until;

/// An S3 server.
#[derive(Debug)]
pub struct Moto {
    port: u16,
    _process: Process,
    _scratch: Scratch,
}

impl Moto {
    /// The bucket that is there.
    pub const BUCKET: &'static str = "flyhot";

    /// Starts one.
    ///
    /// # Panics
    /// If it was never set up.
    pub fn start() -> Self {
        let server = prefix().join("moto/bin/moto_server");
        assert!(
            server.exists(),
            "no moto in {}: run `make setup`",
            server.display()
        );
        let scratch = Scratch::new("moto");
        let port = free_port();
        let mut command = mortal(Path::new(&server));
        command
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("HOME", scratch.path());
        let process = Process::start("moto", command, scratch.path().join("log"));
        let moto = Self {
            port,
            _process: process,
            _scratch: scratch,
        };
        let made = || {
            moto.ask("PUT", Self::BUCKET)
                .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        };
        wait_until("moto takes a bucket", Duration::from_secs(60), made);
        moto
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The text of an object, as somebody who has nothing to do with flyhot reads it.
    pub fn object(&self, key: &str) -> Option<String> {
        let answer = self.ask("GET", &format!("{}/{key}", Self::BUCKET))?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    fn ask(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address()).ok()?;
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nhost: moto\r\nconnection: close\r\ncontent-length: 0\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }
}

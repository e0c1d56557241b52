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
            // Lists come in pages.
            .env("MOTO_S3_DEFAULT_MAX_KEYS", "3")
            .env("HOME", scratch.path());
        let process = Process::start("moto", command, scratch.path().join("log"));
        let moto = Self {
            port,
            _process: process,
            _scratch: scratch,
        };
        let made = || moto.ask("PUT", Self::BUCKET, &[]).is_some();
        wait_until("moto takes a bucket", Duration::from_secs(60), made);
        moto
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The text of an object, as somebody who has nothing to do with flyhot reads it.
    pub fn object(&self, key: &str) -> Option<String> {
        String::from_utf8(self.bytes(key)?).ok()
    }

    /// Its bytes.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.ask("GET", &format!("{}/{key}", Self::BUCKET), &[])
    }

    /// Puts something there, as somebody who has nothing to do with flyhot.
    ///
    /// # Panics
    /// If it does not take it.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let put = self.ask("PUT", &format!("{}/{key}", Self::BUCKET), bytes);
        put.expect("moto takes it");
    }

    /// How many uploads in parts were begun and are neither put together nor taken back.
    ///
    /// # Panics
    /// If it does not say.
    pub fn unfinished(&self) -> usize {
        let list = self.ask("GET", &format!("{}?uploads", Self::BUCKET), &[]);
        let list = String::from_utf8(list.expect("moto lists")).expect("a text");
        list.matches("<UploadId>").count()
    }

    /// What is there, with when it was written.
    ///
    /// # Panics
    /// If it does not say.
    pub fn listing(&self) -> String {
        let list = self.ask("GET", &format!("{}?list-type=2&max-keys=1000", Self::BUCKET), &[]);
        String::from_utf8(list.expect("moto lists")).expect("a text")
    }

    /// The body of the answer, where that is a good one.
    fn ask(&self, method: &str, path: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address()).ok()?;
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nhost: moto\r\nconnection: close\r\ncontent-length: {}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
            bytes.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        stream.write_all(bytes).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        answer
            .starts_with(b"HTTP/1.1 200")
            .then(|| answer.split_off(head))
    }
}

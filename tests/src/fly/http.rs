//! Requests and answers, several on one connection.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::clock;

/// A request as it came.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The next one of a connection; nothing when there is none.
    pub(super) fn read(stream: &mut TcpStream, left: &mut Vec<u8>) -> std::io::Result<Option<Self>> {
        let mut piece = [0; 16 * 1024];
        let head = loop {
            if let Some(at) = left.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read(&mut piece)? {
                0 => return Ok(None),
                read => left.extend_from_slice(&piece[..read]),
            }
        };
        let text = String::from_utf8_lossy(&left[..head]).into_owned();
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        if headers.contains_key("transfer-encoding") {
            return Err(Error::new(ErrorKind::Unsupported, "flyhot sends no chunks"));
        }
        let length: usize = headers
            .get("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        while left.len() < head + length {
            match stream.read(&mut piece)? {
                0 => return Ok(None),
                read => left.extend_from_slice(&piece[..read]),
            }
        }
        let body = left[head..head + length].to_vec();
        left.drain(..head + length);
        Ok(Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body,
        }))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Every value of a name in the query.
    pub(super) fn asks(&self, name: &str) -> Vec<String> {
        self.pairs()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value)
            .collect()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.asks(name)
            .iter()
            .any(|value| value == "true" || value == "1")
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        let parts = self.query.split('&').filter(|part| !part.is_empty());
        parts.map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (unescaped(key), unescaped(value))
        })
    }

    /// The body; `null` where there is none.
    pub(super) fn json(&self) -> Result<Value, Reply> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Reply::refused(400, &format!("invalid_argument: {error}")))
    }
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            b'+' => b' ',
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            body: body.to_string().into_bytes(),
        }
    }

    pub(super) fn ok() -> Self {
        Self::json(200, &json!({"ok": true}))
    }

    pub(super) fn empty() -> Self {
        Self {
            status: 204,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// With the body that Fly documents.
    pub(super) fn refused(status: u16, error: &str) -> Self {
        Self::coded(status, error, "unknown")
    }

    pub(super) fn coded(status: u16, error: &str, code: &str) -> Self {
        Self::json(status, &json!({"error": error, "status": code}))
    }

    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// As it goes over the wire at `now`.
    pub(super) fn bytes(&self, request_id: &str, now: SystemTime) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} As Fly Says\r\ncontent-length: {}\r\ndate: {}\r\nserver: Fly/test\r\nfly-request-id: {request_id}\r\n",
            self.status,
            self.body.len(),
            clock::http(now),
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.status == 204 {
            head = head.replace("content-length: 0\r\n", "");
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }

    /// Sends as much of it as `cut` leaves.
    pub(super) fn send(
        &self,
        stream: &mut TcpStream,
        request_id: &str,
        now: SystemTime,
        cut: Option<u64>,
    ) -> std::io::Result<()> {
        let bytes = self.bytes(request_id, now);
        let kept = cut.map_or(bytes.len(), |cut| {
            bytes.len() - (cut as usize).min(self.body.len())
        });
        stream.write_all(&bytes[..kept])
    }
}

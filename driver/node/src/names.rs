//! What epmd on a machine says of the nodes that are there.
//!
//! Whatever answers is not trusted: only so much of it is read, for only so long, and a line that is none of epmd's ends it.
//! erl_dist asks the same, and reads for as long as somebody sends.
//!
//! Source: Erlang Distribution Protocol, "The EPMD Protocol", NAMES_REQ.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The request: its length, and what is asked.
const NAMES_REQ: [u8; 3] = [0, 1, b'n'];

/// Before the lines stands the port of epmd.
const HEAD: usize = 4;

/// The most that is read of an answer: thousands of nodes on one machine.
const LONGEST: u64 = 256 * 1024;

/// A node that is registered with an epmd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The part of its name before the `@`.
    pub name: String,
    /// The port it listens on for distribution.
    pub port: u16,
}

/// Why epmd's list is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// Nobody listens there, or nothing leads there.
    #[error("no epmd answers on {address}")]
    NoEpmd {
        /// Address and port.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("epmd on {address} did not answer within {} ms", after.as_millis())]
    Silent {
        /// Address and port.
        address: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// Whatever listens there does not speak epmd's protocol.
    #[error("what answers on {address} is not epmd")]
    NotEpmd {
        /// Address and port.
        address: SocketAddr,
    },
}

/// Asks the epmd that listens at an address for every node that is registered with it; all of it takes no longer than `within`.
///
/// # Errors
/// [`NamesError`].
pub async fn names(host: IpAddr, epmd_port: u16, within: Duration) -> Result<Vec<Registered>, NamesError> {
    let address = SocketAddr::new(host, epmd_port);
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&NAMES_REQ).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer = timeout(within, asked)
        .await
        .map_err(|_| NamesError::Silent {
            address,
            after: within,
        })?
        .map_err(|source| NamesError::NoEpmd { address, source })?;
    read(&answer).ok_or(NamesError::NotEpmd { address })
}

/// `name NAME at port PORT`, a line each.
fn read(answer: &[u8]) -> Option<Vec<Registered>> {
    let lines = std::str::from_utf8(answer.get(HEAD..)?).ok()?;
    lines
        .lines()
        .map(|line| {
            let (name, port) = line.strip_prefix("name ")?.rsplit_once(" at port ")?;
            Some(Registered {
                name: name.to_owned(),
                port: port.parse().ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    /// Asks something that answers so, and goes away or stays.
    fn ask(answer: &'static [u8], stays: bool) -> Result<Vec<Registered>, NamesError> {
        use std::io::{Read as _, Write as _};
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let there = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 3];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(request, NAMES_REQ);
            // Whoever has read enough goes away.
            let _ = stream.write_all(answer);
            if stays {
                let _ = stream.read(&mut request);
            }
        });
        let within = if stays { SECOND / 5 } else { 10 * SECOND };
        let answer = runtime().block_on(names(Ipv4Addr::LOCALHOST.into(), port, within));
        there.join().unwrap();
        answer
    }

    #[test]
    fn every_node_is_named_with_its_port() {
        let named = ask(
            b"\0\0\x11\x11name shop at port 4370\nname rpc-12-shop at port 65535\n",
            false,
        );
        let named: Vec<_> = named
            .unwrap()
            .into_iter()
            .map(|one| (one.name, one.port))
            .collect();
        assert_eq!(
            named,
            [("shop".to_owned(), 4370), ("rpc-12-shop".to_owned(), 65535)]
        );
        assert_eq!(ask(b"\0\0\x11\x11", false).unwrap(), []);
    }

    #[test]
    fn what_is_not_epmd_is_said_to_be_none() {
        for answer in [
            &b""[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"\0\0\x11\x11name shop",
            b"\0\0\x11\x11name shop at port 65536\n",
            b"\0\0\x11\x11name \xff at port 1\n",
        ] {
            let error = ask(answer, false).unwrap_err();
            assert!(matches!(error, NamesError::NotEpmd { .. }), "{error}");
        }
        let error = ask(b"\0\0", true).unwrap_err();
        assert!(matches!(error, NamesError::Silent { .. }), "{error}");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let nobody = runtime().block_on(names(Ipv4Addr::LOCALHOST.into(), port, SECOND));
        assert!(matches!(nobody, Err(NamesError::NoEpmd { .. })), "{nobody:?}");
    }

    #[test]
    fn only_so_much_is_read() {
        static MUCH: [u8; 2 * 256 * 1024] = [b'\n'; 2 * 256 * 1024];
        let error = ask(&MUCH, true).unwrap_err();
        assert!(matches!(error, NamesError::NotEpmd { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(answer in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&answer);
        }

        #[test]
        fn what_was_written_is_read(of in prop::collection::vec(("[a-z_@ -]{1,20}", any::<u16>()), 0..10)) {
            let lines: String = of.iter().map(|(name, port)| format!("name {name} at port {port}\n")).collect();
            let read = read(format!("0000{lines}").as_bytes()).unwrap();
            let read: Vec<_> = read.into_iter().map(|one| (one.name, one.port)).collect();
            prop_assert_eq!(read, of);
        }
    }
}

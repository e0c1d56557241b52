//! TLS distribution: a connection on which both sides show a certificate.
//!
//! No certificate is taken on trust here: without a CA, a certificate and a key of our own there is no [`Tls`], and no
//! option turns the check of the node's certificate or of its host off.
//!
//! Source: `inet_tls_dist.erl`; its handshake messages have a length of four bytes, where those over TCP have two.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

/// Whom to believe and what to show: a CA, a certificate and its key.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// Bytes that no [`Tls`] can be made of. No text of a key is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The CA's file has no certificate that can be read.
    #[error("there is no certificate of a CA in it: {0}")]
    Ca(String),
    /// Our own certificate's file has none that can be read.
    #[error("there is no certificate in it: {0}")]
    Certificate(String),
    /// The key's file has none that can be read.
    #[error("there is no private key in it that is not encrypted")]
    Key,
    /// Certificate and key are not of one pair, or of a kind that TLS cannot use.
    #[error("it does not go with the certificate: {0}")]
    Pair(String),
}

/// Why TLS was not agreed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The node's certificate is signed by another CA.
    #[error("the node's certificate is not signed by the CA that was given")]
    UnknownCa,
    /// The node's certificate is too old.
    #[error("the node's certificate has expired")]
    Expired,
    /// The node's certificate is too new.
    #[error("the node's certificate is not valid yet")]
    NotYetValid,
    /// The node's certificate is another host's.
    #[error("the node's certificate is not for the host {0}")]
    OtherHost(String),
    /// The node's certificate is wrong otherwise.
    #[error("the node's certificate cannot be used: {0}")]
    Certificate(String),
    /// The node did not take ours.
    #[error("the node refused our certificate: {0}")]
    OursRefused(String),
    /// What answers speaks something else.
    #[error("what answers speaks no TLS")]
    NoTls,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Tls {
    /// From PEM: certificates of CAs, our certificate with those between it and the CA, our key.
    ///
    /// # Errors
    /// [`TlsError`], by the file it is about.
    pub fn new(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca).map_err(TlsError::Ca)? {
            roots.add(root).map_err(|error| TlsError::Ca(error.to_string()))?;
        }
        let chain = certificates(certificate).map_err(TlsError::Certificate)?;
        // The parser's own sentence may quote what it read.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
        let pair = |error: rustls::Error| TlsError::Pair(error.to_string());
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(pair)?;
        Ok(Self(Arc::new(config)))
    }

    /// Agrees on TLS with the node on this host.
    ///
    /// # Errors
    /// [`TlsFault`]. That the node does not take our certificate may show only with the first read afterwards.
    pub(crate) async fn connect<S>(&self, host: &str, stream: S) -> Result<TlsStream<S>, TlsFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsFault::Other(format!("no certificate can be for a host named {host}")))?;
        TlsConnector::from(Arc::clone(&self.0))
            .connect(name, stream)
            .await
            .map_err(|error| {
                fault(&error, host).unwrap_or_else(|| match error.kind() {
                    // A node without TLS waits for a whole message of its own, and gives up.
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => TlsFault::NoTls,
                    _ => TlsFault::Other(error.to_string()),
                })
            })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("it holds no PEM of one".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

/// What TLS says of an error of a stream; `None` where it is not about TLS.
pub(crate) fn fault(error: &io::Error, host: &str) -> Option<TlsFault> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::UnknownIssuer => TlsFault::UnknownCa,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFault::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFault::OtherHost(host.to_owned())
            }
            other => TlsFault::Certificate(other.to_string()),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => TlsFault::OursRefused(format!("{alert:?}")),
            other => TlsFault::Other(format!("the node answered {other:?}")),
        },
        rustls::Error::InvalidMessage(_) => TlsFault::NoTls,
        other => TlsFault::Other(other.to_string()),
    })
}

/// A stream during the distribution handshake: lengths of two bytes on this side, of four on the other.
pub(crate) struct LongLengths<S> {
    stream: S,
    reading: Reading,
    /// Handed over, and not yet a whole message.
    given: Vec<u8>,
    /// Whole messages that are not yet written.
    out: Vec<u8>,
}

enum Reading {
    /// So many of the four bytes of a length have come.
    Length { bytes: [u8; 4], come: usize },
    /// So many of the two bytes have been told on.
    Told { bytes: [u8; 2], told: usize },
    /// So many bytes of the message are to come.
    Message { left: usize },
}

const NEXT: Reading = Reading::Length {
    bytes: [0; 4],
    come: 0,
};

impl<S> LongLengths<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            reading: NEXT,
            given: Vec::new(),
            out: Vec::new(),
        }
    }

    /// The stream behind the handshake; not one byte of what follows was read.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncWrite + Unpin> LongLengths<S> {
    fn write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.drain(..written);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for LongLengths<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The other side answers what it has got.
        ready!(self.write_out(context))?;
        let this = &mut *self;
        loop {
            match &mut this.reading {
                Reading::Length { bytes, come } => {
                    let mut part = ReadBuf::new(&mut bytes[*come..]);
                    ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
                    let read = part.filled().len();
                    if read == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    *come += read;
                    if *come == bytes.len() {
                        let length = u32::from_be_bytes(*bytes);
                        let short = u16::try_from(length).map_err(|_| {
                            let what = format!("a handshake message of {length} bytes");
                            io::Error::new(io::ErrorKind::InvalidData, what)
                        })?;
                        this.reading = Reading::Told {
                            bytes: short.to_be_bytes(),
                            told: 0,
                        };
                    }
                }
                Reading::Told { bytes, told } => {
                    let part = into.remaining().min(bytes.len() - *told);
                    into.put_slice(&bytes[*told..*told + part]);
                    *told += part;
                    if *told == bytes.len() {
                        this.reading = match usize::from(u16::from_be_bytes(*bytes)) {
                            0 => NEXT,
                            left => Reading::Message { left },
                        };
                    }
                    return Poll::Ready(Ok(()));
                }
                Reading::Message { left } => {
                    let most = into.remaining().min(*left);
                    let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
                    ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
                    let read = part.filled().len();
                    into.advance(read);
                    *left -= read;
                    if *left == 0 {
                        this.reading = NEXT;
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LongLengths<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.given.extend_from_slice(bytes);
        while let [high, low, rest @ ..] = &self.given[..] {
            let length = u16::from_be_bytes([*high, *low]);
            let Some(message) = rest.get(..usize::from(length)) else {
                break;
            };
            let whole = [&u32::from(length).to_be_bytes()[..], message].concat();
            self.given.drain(..2 + usize::from(length));
            self.out.extend(whole);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_out(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_out(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Messages with lengths of `size` bytes.
    fn framed(messages: &[Vec<u8>], size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            bytes.extend_from_slice(&length[4 - size..]);
            bytes.extend_from_slice(message);
        }
        bytes
    }

    proptest! {
        #[test]
        fn messages_pass_in_whatever_pieces_they_come(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..5),
            piece in 1usize..400,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (ours, mut theirs) = duplex(64 * 1024);
                let mut stream = LongLengths::new(ours);
                for part in framed(&messages, 2).chunks(piece) {
                    stream.write_all(part).await.unwrap();
                }
                stream.flush().await.unwrap();
                let mut written = vec![0; framed(&messages, 4).len()];
                theirs.read_exact(&mut written).await.unwrap();
                assert_eq!(written, framed(&messages, 4));

                // What follows the handshake is left where it is.
                theirs.write_all(&framed(&messages, 4)).await.unwrap();
                theirs.write_all(b"rest").await.unwrap();
                let mut read = vec![0; framed(&messages, 2).len()];
                for part in read.chunks_mut(piece) {
                    stream.read_exact(part).await.unwrap();
                }
                assert_eq!(read, framed(&messages, 2));
                drop(theirs);
                let mut rest = Vec::new();
                stream.into_inner().read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"rest");
            });
        }
    }

    #[tokio::test]
    async fn a_length_that_no_handshake_has_is_an_error() {
        let (ours, mut theirs) = duplex(64);
        theirs.write_all(&[0, 1, 0, 0]).await.unwrap();
        let error = LongLengths::new(ours).read_u8().await.unwrap_err();
        assert_eq!(error.to_string(), "a handshake message of 65536 bytes");
    }

    #[test]
    fn bytes_that_are_no_pem_are_refused_by_the_file_they_came_from() {
        let refused = |ca: &[u8], certificate: &[u8], key: &[u8]| Tls::new(ca, certificate, key).unwrap_err();
        assert!(matches!(refused(b"", b"", b""), TlsError::Ca(_)));
        let torn = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(refused(torn, b"", b""), TlsError::Ca(_)));
    }
}

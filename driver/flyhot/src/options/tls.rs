//! The three files of TLS distribution. The key's text is in no error and in nothing that prints.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flyhot_node::{Tls, TlsError};
use thiserror::Error;

/// The longest file that is read, bytes: the CAs that a whole operating system trusts fill a quarter of it.
const TLS_FILE: u64 = 1024 * 1024;

/// A file for TLS that cannot be used.
#[derive(Debug, Error)]
pub enum TlsFileError {
    /// One that cannot be read.
    #[error("{option} {}: cannot be read", path.display())]
    Read {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One that is longer than any such file.
    #[error("{option} {}: longer than {TLS_FILE} bytes", path.display())]
    Long {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// One that holds something else.
    #[error("{option} {}: {error}", path.display())]
    Content {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: TlsError,
    },
}

impl TlsFileError {
    /// What the user can do about it, one sentence.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Check the path and its permissions.",
            Self::Long { .. } => "Give a file of PEM certificates or keys alone.",
            Self::Content { error, .. } => match error {
                TlsError::Ca(_) | TlsError::Certificate(_) => {
                    "Give a PEM file: it has a line `-----BEGIN CERTIFICATE-----`."
                }
                TlsError::Key => {
                    "Give a PEM file with a line that ends in `PRIVATE KEY-----`; decrypt one that says ENCRYPTED \
                     by `openssl pkey`."
                }
                TlsError::Pair(_) => {
                    "Give the key that the certificate of --tls-cert-file was made for; that certificate comes first in \
                     its file."
                }
            },
        }
    }
}

/// Reads them.
pub(super) fn read(ca: &Path, certificate: &Path, key: &Path) -> Result<Tls, TlsFileError> {
    let ca = ("--tls-ca-file", ca);
    let certificate = ("--tls-cert-file", certificate);
    let key = ("--tls-key-file", key);
    Tls::new(&bytes(ca)?, &bytes(certificate)?, &bytes(key)?).map_err(|source| {
        let (option, path) = match &source {
            TlsError::Ca(_) => ca,
            TlsError::Certificate(_) => certificate,
            TlsError::Key | TlsError::Pair(_) => key,
        };
        TlsFileError::Content {
            option,
            path: path.to_owned(),
            error: source,
        }
    })
}

fn bytes((option, path): (&'static str, &Path)) -> Result<Vec<u8>, TlsFileError> {
    let read = |source| TlsFileError::Read {
        option,
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(read)?;
    file.take(TLS_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > TLS_FILE {
        return Err(TlsFileError::Long {
            option,
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

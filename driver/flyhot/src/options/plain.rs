//! Files that somebody named, read whole: no longer ones than their kind ever has, and nobody waits for what is no file.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use thiserror::Error;

/// Why a file was not read.
#[derive(Debug, Error)]
pub enum PlainError {
    /// The system does not let it.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is something else: whoever read it might wait for a writer forever.
    #[error("is a directory, a pipe or a device, and no file")]
    Kind,
    /// It is longer than any file of its kind; the limit, bytes.
    #[error("is longer than {0} bytes")]
    Long(u64),
}

impl PlainError {
    /// Whether there is no file at all.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Read(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// What is in a file, where it is no longer than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, PlainError> {
    if !fs::metadata(path)?.is_file() {
        return Err(PlainError::Kind);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(PlainError::Long(limit));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;

    #[test]
    fn what_is_no_file_is_not_waited_for_and_what_is_too_long_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let [pipe, file] = ["pipe", "file"].map(|name| directory.path().join(name));
        // Nobody writes to it.
        assert!(child::command("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [directory.path(), &pipe, Path::new("/dev/zero")] {
            assert!(matches!(read(path, 4), Err(PlainError::Kind)), "{path:?}");
        }
        assert!(read(&file, 4).unwrap_err().is_absent());
        fs::write(&file, "1234").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"1234");
        assert!(matches!(read(&file, 3), Err(PlainError::Long(3))));
    }
}

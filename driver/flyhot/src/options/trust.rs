//! The keys of this machine: which public ones it trusts, and the private one that it is told to sign with.
//!
//! No text of a key file is in any error: it may be a private key. Policy that cannot be read is an error, never none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flyhot_artifact::{KeyError, PrivateKey, Trust};
use thiserror::Error;

use super::environment::PUBLIC_KEYS;
use super::{Environment, OptionsError};

/// The public keys that an image brings, one a line.
pub const PUBLIC_KEYS_FILE: &str = "/etc/flyhot/public_keys";

/// The longest file of keys that is read, bytes: keys of eight hundred people, or a remark for each of a few.
const KEY_FILE: u64 = 64 * 1024;

/// A place of keys that cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is longer than any such file.
    #[error("the key file {} is longer than {KEY_FILE} bytes", .0.display())]
    Long(PathBuf),
    /// Others than its owner may read it.
    #[error("the key file {} can be read by others than its owner", .0.display())]
    Open(PathBuf),
    /// It is neither a file nor, for a private key, a pipe.
    #[error("the key file {} is not a file", .0.display())]
    NoFile(PathBuf),
    /// A key stands where the name of a file should.
    #[error("a key was given where the name of a key file should stand")]
    NotAName,
    /// What it holds is no such key.
    #[error("{place}: {error}")]
    Key {
        /// The file or variable.
        place: String,
        /// What is wrong.
        error: KeyError,
    },
}

impl KeyFileError {
    /// What the user can do about it, one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "Check the path and its permissions.".into(),
            Self::NoFile(_) => "Put a file of keys there.".into(),
            Self::NotAName => {
                "Write the key to a file that only its owner may read; whoever lists processes has seen this one.".into()
            }
            Self::Long(_) => "Name the file that `flyhot keygen` made.".into(),
            Self::Open(path) => format!("Run `chmod 600 {}`, and make a new key if somebody else was there.", path.display()),
            Self::Key {
                error: KeyError::None,
                place,
            } => format!("Put a key there, or take {place} away: without public keys every artifact is taken."),
            Self::Key {
                error: KeyError::Private,
                ..
            } => "Put the public key there that `flyhot keygen` showed, and make a new pair: the private one may have been seen.".into(),
            Self::Key { .. } => "Put a key there as `flyhot keygen` makes them.".into(),
        }
    }
}

/// Whose artifacts this machine takes: the keys of the file that its image brings; only where there is none, those of the variable,
/// which whoever starts a program can set.
pub(crate) fn trust(environment: &Environment) -> Result<Trust, OptionsError> {
    Ok(trusted(environment, Path::new(PUBLIC_KEYS_FILE))?)
}

fn trusted(environment: &Environment, file: &Path) -> Result<Trust, KeyFileError> {
    if is_there(file) {
        return parsed(&file.display().to_string(), &text(file, open(file, false)?)?);
    }
    match &environment.public_keys {
        Some(text) => parsed(PUBLIC_KEYS, &text.to_string_lossy()),
        None => Ok(Trust::default()),
    }
}

/// Whether the image brought public keys: then the variable counts for nothing.
pub(super) fn has_public_keys() -> bool {
    is_there(Path::new(PUBLIC_KEYS_FILE))
}

/// A link that leads nowhere is a file that is missing, and not the absence of one.
fn is_there(file: &Path) -> bool {
    !matches!(fs::symlink_metadata(file), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Opens a file of keys without waiting for whoever writes to a pipe.
fn open(path: &Path, pipe: bool) -> Result<File, KeyFileError> {
    let read = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let about = fs::metadata(path).map_err(read)?;
    if about.is_file() || pipe && about.file_type().is_fifo() {
        File::open(path).map_err(read)
    } else {
        Err(KeyFileError::NoFile(path.to_owned()))
    }
}

fn parsed(place: &str, text: &str) -> Result<Trust, KeyFileError> {
    Trust::parse(text).map_err(|error| KeyFileError::Key {
        place: place.to_owned(),
        error,
    })
}

fn text(path: &Path, file: File) -> Result<String, KeyFileError> {
    let mut bytes = Vec::new();
    file.take(KEY_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| KeyFileError::Read {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > KEY_FILE {
        return Err(KeyFileError::Long(path.to_owned()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The private key in a file that only its owner may read.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKey, OptionsError> {
    let read = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    if path.to_string_lossy().contains("flyhot_private_") {
        return Err(KeyFileError::NotAName.into());
    }
    let file = open(path, true)?;
    let about = file.metadata().map_err(read)?;
    // A pipe, as a shell hands one over, has an owner and no file that could be left open.
    if about.is_file() && about.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::Open(path.to_owned()).into());
    }
    let key = PrivateKey::parse(&text(path, file)?).map_err(|error| KeyFileError::Key {
        place: path.display().to_string(),
        error,
    })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(of: u8) -> String {
        PrivateKey::of_seed([of; 32]).public().unwrap().to_string()
    }

    #[test]
    fn the_image_says_whom_to_trust_and_else_the_variable_and_a_place_without_a_key_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("public_keys");
        let with = |keys: Option<&str>| Environment {
            public_keys: keys.map(Into::into),
            ..Environment::default()
        };
        let keys = |environment, file: &Path| trusted(&environment, file).map(|trust| trust.keys());
        assert_eq!(keys(with(None), &file).unwrap(), 0);
        assert_eq!(keys(with(Some(&public(1))), &file).unwrap(), 1);
        fs::write(&file, format!("# ours\n{}\n{}\n", public(2), public(3))).unwrap();
        assert_eq!(keys(with(None), &file).unwrap(), 2);
        assert_eq!(keys(with(Some(&public(1))), &file).unwrap(), 2);
        let empty = keys(with(Some(" ")), &directory.path().join("none")).unwrap_err();
        assert_eq!(empty.to_string(), "FLYHOT_PUBLIC_KEYS: there is no key in it");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("not mounted", &link).unwrap();
        assert!(keys(with(Some(&public(1))), &link).is_err());
        fs::write(&file, "# none yet\n").unwrap();
        assert!(keys(with(Some(&public(1))), &file).is_err());
        let private = PrivateKey::of_seed([1; 32]).expose();
        fs::write(&file, &private).unwrap();
        let error = keys(with(None), &file).unwrap_err();
        assert!(!error.to_string().contains(&private[20..]), "{error}");
        // A directory is no file of keys, and no reason to trust everybody.
        assert!(keys(with(None), directory.path()).is_err());
    }

    #[test]
    fn a_private_key_that_others_may_read_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        fs::write(&file, PrivateKey::of_seed([1; 32]).expose()).unwrap();
        for (mode, usable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(private_key(&file).is_ok(), usable, "{mode:o}");
        }
    }
}

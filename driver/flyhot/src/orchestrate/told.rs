//! What is told an orchestrator, a file each: left whole or not at all, read by nobody else, and never shown.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flyhot_artifact::{FileDigest, Signature};
use flyhot_fleet::Token;
use serde::Deserialize;
use thiserror::Error;

use crate::drive::NodeError;
use crate::errors;
use crate::options::Secret;

/// Where it lies, below what the orchestrator says.
const PLACE: &str = "told";

/// The most that is read, bytes: tokens of Fly have up to some thousand for each organization.
const LONGEST: u64 = 64 * 1024;

/// How long a signature is waited for: whoever follows hears that one is wanted within seconds, and signs at once.
const SIGNED_WITHIN: Duration = Duration::from_secs(120);

/// How long a token is waited for: whoever made this machine tells it as soon as it answers.
const TOKEN_WITHIN: Duration = Duration::from_secs(60);

/// Between two looks whether it is there.
const LOOK: Duration = Duration::from_millis(200);

/// One thing that is told.
enum Word {
    Token(Secret),
    Signature(Signature),
    Stop,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spoken {
    token: Option<String>,
    signature: Option<Signature>,
    stop: Option<bool>,
}

/// What was not told. What it was is in none.
#[derive(Debug, Error)]
pub(crate) enum ToldError {
    #[error("standard input cannot be read")]
    Read(#[source] io::Error),
    #[error("more than {LONGEST} bytes came on standard input")]
    Long,
    #[error("what came on standard input is not one of the objects that are known")]
    Form,
    #[error("what came for a token cannot be one")]
    Token,
    #[error("no orchestrator is at work here")]
    Nobody,
    #[error("it cannot be left for the orchestrator")]
    Write(#[source] io::Error),
}

/// What an orchestrator is told.
pub(crate) struct Inbox {
    place: PathBuf,
}

impl Inbox {
    pub(super) fn of(directory: &Path) -> Self {
        Self {
            place: directory.join(PLACE),
        }
    }

    /// The file that is there once it is to stop.
    pub(crate) fn stop(&self) -> PathBuf {
        self.place.join("stop")
    }

    /// The token of Fly, where one was told.
    pub(super) fn token(&self) -> Option<Token> {
        let text = fs::read_to_string(self.place.join("token")).ok()?;
        Token::new(&text).ok()
    }

    /// Waits for the token, as long as somebody may tell one.
    pub(super) async fn awaited_token(&self) -> Option<Token> {
        let begun = Instant::now();
        while begun.elapsed() < TOKEN_WITHIN {
            if let Some(token) = self.token() {
                return Some(token);
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    /// Waits for the signature of a manifest.
    pub(crate) async fn signature(&self, manifest: FileDigest) -> Result<Signature, NodeError> {
        let file = self.place.join(signature_of(manifest));
        let begun = Instant::now();
        while begun.elapsed() < SIGNED_WITHIN {
            if let Ok(bytes) = fs::read(&file)
                && let Ok(signature) = serde_json::from_slice(&bytes)
            {
                return Ok(signature);
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(errors::unsigned(manifest, SIGNED_WITHIN))
    }
}

fn signature_of(manifest: FileDigest) -> String {
    format!("signature-{manifest}")
}

/// Takes away what another orchestrator was told.
pub(super) fn forget(directory: &Path) -> io::Result<()> {
    let place = directory.join(PLACE);
    match fs::remove_dir_all(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(place)
}

/// Reads one thing, and leaves it for the orchestrator.
pub(super) fn leave(directory: &Path, from: impl Read) -> Result<(), ToldError> {
    let word = read(from)?;
    let place = directory.join(PLACE);
    if !place.is_dir() {
        return Err(ToldError::Nobody);
    }
    let (name, bytes) = match word {
        Word::Token(token) => ("token".to_owned(), token.text().into_bytes()),
        Word::Signature(signature) => (
            signature_of(signature.manifest),
            serde_json::to_vec(&signature).map_err(|error| ToldError::Write(error.into()))?,
        ),
        Word::Stop => ("stop".to_owned(), Vec::new()),
    };
    // Such a file is its owner's alone; it is renamed when it is whole.
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .tempfile_in(&place)
        .map_err(ToldError::Write)?;
    file.write_all(&bytes).map_err(ToldError::Write)?;
    let (place_of, own) = (fs::metadata(&place), file.as_file().metadata());
    if let (Ok(place), Ok(own)) = (place_of, own)
        && place.uid() != own.uid()
    {
        // Whoever is let in from outside may be root, where the orchestrator is not.
        fchown(file.as_file(), Some(place.uid()), Some(place.gid())).map_err(ToldError::Write)?;
    }
    file.persist(place.join(name))
        .map_err(|error| ToldError::Write(error.error))?;
    Ok(())
}

fn read(from: impl Read) -> Result<Word, ToldError> {
    let mut bytes = Vec::new();
    from.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(ToldError::Read)?;
    if bytes.len() as u64 > LONGEST {
        return Err(ToldError::Long);
    }
    // What serde says of it may quote it.
    let spoken: Spoken = serde_json::from_slice(&bytes).map_err(|_| ToldError::Form)?;
    match spoken {
        Spoken {
            token: Some(token),
            signature: None,
            stop: None,
        } => match Token::new(&token) {
            Ok(_) => Ok(Word::Token(Secret(token.into()))),
            Err(_) => Err(ToldError::Token),
        },
        Spoken {
            token: None,
            signature: Some(signature),
            stop: None,
        } => Ok(Word::Signature(signature)),
        Spoken {
            token: None,
            signature: None,
            stop: Some(true),
        } => Ok(Word::Stop),
        _ => Err(ToldError::Form),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use flyhot_artifact::PrivateKey;
    use proptest::prelude::*;

    use super::*;

    fn here() -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        forget(scratch.path()).unwrap();
        scratch
    }

    #[test]
    fn what_is_told_is_there_and_its_owners_alone() {
        let scratch = here();
        let tell = |text: &str| leave(scratch.path(), text.as_bytes()).unwrap();
        let told = Inbox::of(scratch.path());
        assert!(told.token().is_none() && !told.stop().exists());
        tell(r#"{"token": "FlyV1 fm2_secret"}"#);
        tell(r#" {"stop": true} "#);
        let manifest = FileDigest([7; 32]);
        let signature = PrivateKey::of_seed([1; 32]).sign(manifest).unwrap();
        tell(&serde_json::json!({ "signature": signature }).to_string());
        assert!(told.token().is_some() && told.stop().exists());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        assert_eq!(runtime.block_on(told.signature(manifest)).unwrap(), signature);
        for entry in fs::read_dir(scratch.path().join(PLACE)).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        forget(scratch.path()).unwrap();
        assert!(told.token().is_none() && !told.stop().exists());
    }

    #[test]
    fn what_is_none_of_it_is_refused_and_not_shown() {
        let scratch = here();
        for text in [
            "",
            "{}",
            "[]",
            "true",
            r#"{"stop": false}"#,
            r#"{"stop": "hidden"}"#,
            r#"{"hidden": 1}"#,
            r#"{"token": "hidden", "stop": true}"#,
            r#"{"token": ""}"#,
            r#"{"token": "hidden\nhidden"}"#,
            r#"{"token": ["hidden"]}"#,
            r#"{"signature": "hidden"}"#,
            r#"{"signature": {"manifest": "hidden", "key": "hidden", "signature": "hidden"}}"#,
            r#"{"stop": true} {"stop": true}"#,
            &"x".repeat(100_000),
        ] {
            let error = leave(scratch.path(), text.as_bytes()).unwrap_err();
            let said = errors::told(scratch.path(), &error);
            assert!(
                !format!("{error:?} {said:?}").contains("hidden"),
                "{text}: {error:?} {said:?}"
            );
        }
        let nobody = tempfile::tempdir().unwrap();
        let error = leave(nobody.path(), &br#"{"stop": true}"#[..]).unwrap_err();
        assert!(matches!(error, ToldError::Nobody));
        assert_eq!(fs::read_dir(scratch.path().join(PLACE)).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes[..]);
        }
    }
}

//! The token of the Machines API, for commands that people call. Never from the command line, where every user of the machine can
//! read it.
//!
//! What flyctl keeps in its own files is not read: the token there may have to be renewed first, which flyctl does when it is asked.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use flyhot_fleet::Token;
use thiserror::Error;

use super::Environment;
use crate::child::{self, Group};

/// flyctl under its names.
pub(crate) const PROGRAMS: [&str; 2] = ["fly", "flyctl"];

/// How long flyctl may take: it renews a token over the network, for which its own limit is this.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most that is read of what it says: a token with all that belongs to it has some thousand letters.
const LONGEST: u64 = 64 * 1024;

/// No token, or one that cannot be used.
#[derive(Debug, Error)]
pub enum TokenError {
    /// Nobody has one.
    #[error("no token of Fly: neither FLY_ACCESS_TOKEN nor FLY_API_TOKEN is set, and {0}")]
    Nowhere(String),
    /// It is none.
    #[error("the token by {place} cannot be used")]
    Malformed {
        /// The variable or the program.
        place: String,
        /// What is wrong with it.
        source: flyhot_fleet::TokenError,
    },
}

impl TokenError {
    /// What the user can do about it, one sentence.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Nowhere(_) => {
                "Log in with `fly auth login`, or make a token with `fly tokens create deploy -x 2h` and set FLY_API_TOKEN to it."
            }
            Self::Malformed { .. } => {
                "Make one with `fly tokens create deploy -x 2h`, and set FLY_API_TOKEN to what it prints."
            }
        }
    }
}

/// The first token of: `FLY_ACCESS_TOKEN`, `FLY_API_TOKEN`, what `fly auth token` says. It may take as long as flyctl does.
///
/// # Errors
/// [`TokenError`].
pub(crate) fn token(environment: &Environment) -> Result<Token, TokenError> {
    let (place, text) = match &environment.fly_token {
        Some((name, secret)) => ((*name).to_owned(), secret.text()),
        None => of_flyctl(environment.path.as_deref()).map_err(TokenError::Nowhere)?,
    };
    Token::new(&text).map_err(|source| TokenError::Malformed { place, source })
}

/// The token that flyctl gives, and how it was asked; or the rest of a sentence about why not.
fn of_flyctl(path: Option<&OsStr>) -> Result<(String, String), String> {
    let (place, text) = said(path, &["auth", "token"], &["-q"])?;
    match text.trim() {
        "" => Err(format!("{place} gives none: nobody is logged in")),
        text => Ok((place, text.to_owned())),
    }
}

/// What flyctl says of itself, its first line, or why it does not.
pub(crate) fn flyctl_version(path: Option<&OsStr>) -> Result<String, String> {
    let (place, text) = said(path, &["version"], &[])?;
    match text.lines().next().map(str::trim) {
        None | Some("") => Err(format!("{place} says nothing")),
        Some(line) => Ok(line.to_owned()),
    }
}

/// What flyctl says to these words, and how it was asked; or the rest of a sentence about why not. How it is to say it is not told.
fn said(path: Option<&OsStr>, words: &[&str], how: &[&str]) -> Result<(String, String), String> {
    let found = program(path).ok_or_else(|| format!("{} is not in PATH", PROGRAMS.join(" or ")))?;
    let name = found
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let place = format!("`{name} {}`", words.join(" "));
    let ran = |error: io::Error| format!("{place} cannot be run: {error}");
    let mut command = child::command(&found);
    command
        .args(words)
        .args(how)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What it complains of may hold what is not to be shown.
        .stderr(Stdio::null());
    let mut group = Group::start(command).map_err(ran)?;
    let (send, said) = mpsc::channel();
    let out = group.child.stdout.take();
    // It ends with the pipe, which ends with the group.
    thread::spawn(move || {
        let mut text = String::new();
        let read = out.map_or(Ok(0), |out| out.take(LONGEST).read_to_string(&mut text));
        // Nobody may wait for it any more.
        let _ = send.send(read.map(|_| text));
    });
    match said.recv_timeout(PATIENCE) {
        Ok(Ok(text)) => Ok((place, text)),
        Ok(Err(error)) => Err(ran(error)),
        Err(_) => Err(format!("{place} did not answer within {} s", PATIENCE.as_secs())),
    }
}

/// The first of the programs that PATH has.
pub(crate) fn program(path: Option<&OsStr>) -> Option<PathBuf> {
    let places: Vec<PathBuf> = std::env::split_paths(path?).collect();
    PROGRAMS.iter().find_map(|name| {
        let mut places = places.iter();
        places.find_map(|place| child::executable(&place.join(name)).ok())
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::options::Secret;

    /// An environment whose PATH has a `flyctl` that does this.
    fn with(script: &str) -> (tempfile::TempDir, Environment) {
        let directory = tempfile::tempdir().unwrap();
        let (written, path) = (directory.path().join("written"), directory.path().join("flyctl"));
        fs::write(&written, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).unwrap();
        // By another process: a program that a test beside this one starts just then would hold it open for writing.
        let copied = child::command("cp").arg("-p").args([&written, &path]).status();
        assert!(copied.unwrap().success());
        let environment = Environment {
            path: Some(directory.path().into()),
            ..Environment::default()
        };
        (directory, environment)
    }

    #[test]
    fn a_variable_is_heard_before_flyctl_is_asked() {
        let (_directory, mut environment) =
            with("[ \"$*\" = 'auth token -q' ] && echo 'FlyV1 fm2_of_flyctl' && echo aside >&2");
        assert!(token(&environment).is_ok());
        environment.fly_token = Some(("FLY_API_TOKEN", Secret("fm2 of variable".into())));
        let error = token(&environment).unwrap_err();
        assert_eq!(error.to_string(), "the token by FLY_API_TOKEN cannot be used");
        assert!(error.source().is_some());
        assert!(!format!("{error:?} {environment:?}").contains("fm2"), "{error:?}");
    }

    #[test]
    fn the_version_is_the_first_line_that_flyctl_says() {
        let (_directory, there) =
            with("[ \"$*\" = version ] && echo 'fly v0.3.200 linux/amd64' && echo more");
        let (_other, silent) = with("exit 1");
        let version = |environment: &Environment| flyctl_version(environment.path.as_deref());
        assert_eq!(version(&there).as_deref(), Ok("fly v0.3.200 linux/amd64"));
        assert_eq!(version(&silent).unwrap_err(), "`flyctl version` says nothing");
        let nowhere = version(&Environment::default()).unwrap_err();
        assert_eq!(nowhere, "fly or flyctl is not in PATH");
    }

    #[test]
    fn why_there_is_none_is_said_with_the_next_step() {
        let nothing = tempfile::tempdir().unwrap();
        let bare = Environment {
            path: Some(nothing.path().into()),
            ..Environment::default()
        };
        let (_kept, silent) = with("exit 1");
        let (_also, wrong) = with("echo 'Error: fm2_a b'");
        for (environment, why) in [
            (&bare, "fly or flyctl is not in PATH"),
            (&Environment::default(), "fly or flyctl is not in PATH"),
            (&silent, "`flyctl auth token` gives none: nobody is logged in"),
            (&wrong, "the token by `flyctl auth token` cannot be used"),
        ] {
            let error = token(environment).unwrap_err();
            assert!(error.to_string().ends_with(why), "{error}");
            assert!(error.hint().contains("fly tokens create deploy"));
        }
    }
}

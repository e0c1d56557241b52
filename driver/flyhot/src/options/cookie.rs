//! Where the cookie comes from. Never from the command line, where every user of the machine can read it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flyhot_node::Cookie;
use thiserror::Error;

use super::Environment;

/// An atom's longest text (OTP: 255 characters); the cookie is one.
const LONGEST_COOKIE: usize = 255;

/// Enough of a cookie file to see that it is too long, with room for white space around it.
const COOKIE_FILE_READ: u64 = 4096;

/// No cookie was found, or one that cannot be used.
#[derive(Debug, Error)]
pub enum CookieError {
    /// A cookie file that cannot be read.
    #[error("cannot read the cookie file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A cookie file with nothing in it.
    #[error("the cookie file {} is empty", .0.display())]
    Empty(PathBuf),
    /// Text that Erlang takes for no cookie.
    #[error("the cookie in {place} is not one to 255 printable ASCII characters")]
    Malformed {
        /// The file or variable.
        place: String,
    },
    /// Nothing anywhere.
    #[error("no cookie found; tried {}", tried.join(", "))]
    Nowhere {
        /// The places, in order.
        tried: Vec<String>,
    },
}

impl CookieError {
    /// What the user can do about it, one sentence.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "Check the path and its permissions, or name another file by --cookie-file.".into(),
            Self::Empty(_) => "Write the cookie that the node was started with into it.".into(),
            Self::Malformed { .. } => "Give the cookie that `erlang:get_cookie()` shows on the node.".into(),
            Self::Nowhere { .. } => {
                "Name a file that holds the node's cookie by --cookie-file; a Mix release keeps it in releases/COOKIE."
                    .into()
            }
        }
    }
}

/// A cookie and the file or variable it was in.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) cookie: Cookie,
    pub(super) place: String,
}

/// The first cookie of: the given file, `RELEASE_COOKIE`, `releases/COOKIE` of the release, `~/.erlang.cookie`.
///
/// A place that exists and cannot be used is an error: going on to the next one would send a wrong cookie.
pub(super) fn resolve(
    given: Option<&Path>,
    release: Option<&Path>,
    environment: &Environment,
) -> Result<Found, CookieError> {
    if let Some(found) = of_all(given, environment)? {
        return Ok(found);
    }
    let mut tried = vec![
        "--cookie-file (not given)".to_owned(),
        "RELEASE_COOKIE (not set)".to_owned(),
    ];
    let home = environment.home.as_ref().map(|home| home.join(".erlang.cookie"));
    let of_release = release.map(|release| release.join("releases").join("COOKIE"));
    for path in [of_release, home].into_iter().flatten() {
        match from_file(&path) {
            Err(CookieError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                tried.push(format!("{} (not there)", path.display()));
            }
            found => return found,
        }
    }
    if environment.home.is_none() {
        tried.push("~/.erlang.cookie (HOME is not set)".to_owned());
    }
    Err(CookieError::Nowhere { tried })
}

/// The cookie that somebody named for all nodes: the given file, `RELEASE_COOKIE`.
pub(super) fn of_all(given: Option<&Path>, environment: &Environment) -> Result<Option<Found>, CookieError> {
    if let Some(path) = given {
        return from_file(path).map(Some);
    }
    let Some(secret) = &environment.release_cookie else {
        return Ok(None);
    };
    let place = || "RELEASE_COOKIE".to_owned();
    let text = secret
        .0
        .to_str()
        .ok_or_else(|| CookieError::Malformed { place: place() })?;
    checked(text.trim(), place).map(Some)
}

/// A cookie that a machine has of its own, as it said it.
pub(crate) fn of_machine(text: &str) -> Option<Cookie> {
    checked(text.trim(), String::new).ok().map(|found| found.cookie)
}

fn from_file(path: &Path) -> Result<Found, CookieError> {
    let read = |path: &Path| {
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(COOKIE_FILE_READ)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read(path).map_err(|source| CookieError::Read {
        path: path.to_owned(),
        source,
    })?;
    let place = || path.display().to_string();
    let text = std::str::from_utf8(&bytes).map_err(|_| CookieError::Malformed { place: place() })?;
    if text.trim().is_empty() {
        return Err(CookieError::Empty(path.to_owned()));
    }
    checked(text.trim(), place)
}

fn checked(text: &str, place: impl Fn() -> String) -> Result<Found, CookieError> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if text.is_empty() || text.len() > LONGEST_COOKIE || !printable {
        return Err(CookieError::Malformed { place: place() });
    }
    Ok(Found {
        cookie: Cookie::new(text.to_owned()),
        place: place(),
    })
}

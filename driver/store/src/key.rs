//! Where things lie in a store. A key is made of checked parts alone, so that none leads out of a directory.

use std::{fmt, str::FromStr};

use flyhot_artifact::FileDigest;

/// The longest name of an app. Fly.io takes 63 characters, an atom has 255.
const MAX_APP: usize = 255;

/// Whose releases they are: the name of a release or of an app on Fly.io, as a part of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct App(String);

/// A text that cannot be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name an app: letters, digits, `_` and `-`, {MAX_APP} of them at most")]
pub struct AppError(String);

impl FromStr for App {
    type Err = AppError;

    fn from_str(text: &str) -> Result<Self, AppError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if text.is_empty() || text.len() > MAX_APP || !text.chars().all(plain) {
            return Err(AppError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one object: parts of letters, digits, `_`, `-` and `.`, separated by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// What a fleet should run.
    pub fn pointer(app: &App) -> Self {
        Self(format!("releases/{app}/pointer.json"))
    }

    /// Who may change that.
    pub fn lock(app: &App) -> Self {
        Self(format!("releases/{app}/lock.json"))
    }

    /// An artifact.
    pub fn artifact(app: &App, digest: FileDigest) -> Self {
        Self(format!("releases/{app}/artifacts/{digest}.tar.gz"))
    }

    /// The record of a rollout, by the number of its lock and a token that nobody else has.
    pub(crate) fn rollout(app: &App, fencing: u64, token: &str) -> Self {
        Self(format!("releases/{app}/rollouts/{fencing:08}-{token:.8}.json"))
    }

    /// Where the artifacts of an app lie, with the `/` behind it.
    pub(crate) fn artifacts(app: &App) -> Self {
        Self(format!("releases/{app}/artifacts/"))
    }

    /// The artifact that lies at a key below [`Key::artifacts`], by its last part.
    pub(crate) fn digest(name: &str) -> Option<FileDigest> {
        name.strip_suffix(".tar.gz")?.parse().ok()
    }

    /// The object by which a store shows that it keeps conditions.
    pub(crate) fn trial(app: &App) -> Self {
        Self(format!("releases/{app}/conditions.json"))
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_lead_elsewhere_are_none() {
        for text in ["", "..", "a/b", "a b", "a.b", "\u{e9}", &"a".repeat(256)] {
            assert!(text.parse::<App>().is_err(), "{text:?}");
        }
        let app: App = "my-shop_2".parse().unwrap();
        assert_eq!(Key::pointer(&app).as_str(), "releases/my-shop_2/pointer.json");
    }
}

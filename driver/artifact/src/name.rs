//! Names that become file names: of modules, and of files inside a release.
//!
//! No value of these types leads outside the release: what could is refused when the value is made.

use std::{borrow::Borrow, fmt};

use serde::{Deserialize, Serialize};

/// The most characters an atom has (`MAX_ATOM_CHARACTERS` in ERTS's `atom.h`).
const MAX_ATOM_CHARACTERS: usize = 255;

/// A module's name as the node knows it: `Elixir.` prefix included, no quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModuleName(Box<str>);

/// A text that cannot name a module which lives in a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be the name of a module file")]
pub struct ModuleNameError(String);

impl ModuleName {
    /// Takes a name.
    ///
    /// # Errors
    /// It is empty, longer than an atom may be, or holds a slash or a control character.
    pub fn new(name: &str) -> Result<Self, ModuleNameError> {
        let length = name.chars().count();
        if length == 0 || length > MAX_ATOM_CHARACTERS || name.contains(|c: char| c == '/' || c.is_control())
        {
            return Err(ModuleNameError(name.into()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ModuleName {
    type Error = ModuleNameError;

    fn try_from(name: String) -> Result<Self, ModuleNameError> {
        Self::new(&name)
    }
}

impl From<ModuleName> for String {
    fn from(name: ModuleName) -> Self {
        name.0.into()
    }
}

impl AsRef<str> for ModuleName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ModuleName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The most bytes of a path, of one of its parts (Linux: `PATH_MAX` is 4096 for the whole way, `NAME_MAX` 255), and the most parts:
/// what lies deeper is a link that leads up.
const MAX_PATH: usize = 1024;
const MAX_PART: usize = 255;
const MAX_PARTS: usize = 64;

/// A file or directory inside a release: relative, separated by `/`, without `.` and `..`, of at most 1024 bytes and 64 parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleasePath(Box<str>);

/// A path that is not plainly inside a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a plain path inside a release")]
pub struct ReleasePathError(String);

impl ReleasePath {
    /// Takes a path.
    ///
    /// # Errors
    /// It is absolute, has an empty part, `.`, `..` or a control character, or is too long.
    pub fn new(path: &str) -> Result<Self, ReleasePathError> {
        let plain = |part: &str| {
            !matches!(part, "" | "." | "..") && part.len() <= MAX_PART && !part.contains(char::is_control)
        };
        let parts = path.split('/').count();
        if path.len() > MAX_PATH || parts > MAX_PARTS || !path.split('/').all(plain) {
            return Err(ReleasePathError(path.into()));
        }
        Ok(Self(path.into()))
    }

    /// The path, relative to the release.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ReleasePath {
    type Error = ReleasePathError;

    fn try_from(path: String) -> Result<Self, ReleasePathError> {
        Self::new(&path)
    }
}

impl From<ReleasePath> for String {
    fn from(path: ReleasePath) -> Self {
        path.0.into()
    }
}

impl fmt::Display for ReleasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_modules_have() {
        for name in ["lists", "Elixir.My.App", "Elixir.List.Chars", "a b", "日本"] {
            assert_eq!(ModuleName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_leave_the_directory_or_break_a_line() {
        for name in ["", "a/b", "../x", "a\nb", "a\0", &"x".repeat(256)] {
            assert!(ModuleName::new(name).is_err(), "{name:?}");
        }
        assert!(ModuleName::new(&"é".repeat(255)).is_ok());
    }

    #[test]
    fn paths_stay_inside() {
        assert!(ReleasePath::new("lib/a-1.0/ebin/a.beam").is_ok());
        for path in [
            "",
            "/etc/passwd",
            "lib/../../x",
            "lib//x",
            "./x",
            "lib/",
            "a\nb",
            "..",
            &"x".repeat(256),
            &"xy/".repeat(512),
            &"x/".repeat(70),
        ] {
            assert!(ReleasePath::new(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn json_is_checked_like_code() {
        assert!(serde_json::from_str::<ReleasePath>("\"../x\"").is_err());
        assert!(serde_json::from_str::<ModuleName>("\"a/b\"").is_err());
        assert_eq!(
            serde_json::to_string(&ModuleName::new("a").unwrap()).unwrap(),
            "\"a\""
        );
    }
}

//! A file of node names: an inventory of those who have no Fly.io.
//!
//! One name a line, as the nodes print it for `node()`; blank lines and what stands behind `#` say nothing. Nobody is asked whether such
//! a node is there.

use std::collections::HashSet;
use std::path::Path;

use flyhot_node::{NodeName, NodeNameError};
use thiserror::Error;

use super::plain::{self, PlainError};

/// The longest one that is read, bytes: sixteen thousand names of 64.
const MAX: u64 = 1024 * 1024;

/// A file of node names that is none.
#[derive(Debug, Error)]
pub enum NamedError {
    /// It is not read.
    #[error(transparent)]
    Plain(#[from] PlainError),
    /// It is no text.
    #[error("line {line}: is no UTF-8")]
    Text {
        /// Which line.
        line: usize,
    },
    /// What stands there is no name.
    #[error("line {line}: {found:?} is not the name of an Erlang node: {source}")]
    Name {
        /// Which line.
        line: usize,
        /// What stands there.
        found: String,
        /// What is wrong with it.
        source: NodeNameError,
    },
    /// A name stands there twice.
    #[error("line {line}: {name} stands there for the second time")]
    Twice {
        /// The second one's line.
        line: usize,
        /// The name.
        name: String,
    },
    /// No name stands there.
    #[error("names no node")]
    Empty,
}

/// The names in a file.
pub(super) fn read(path: &Path) -> Result<Vec<String>, NamedError> {
    parse(&plain::read(path, MAX)?)
}

fn parse(bytes: &[u8]) -> Result<Vec<String>, NamedError> {
    let mut names = Vec::new();
    let mut known = HashSet::new();
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let at = at + 1;
        let text = std::str::from_utf8(line).map_err(|_| NamedError::Text { line: at })?;
        let (text, _) = text.split_once('#').unwrap_or((text, ""));
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let name: NodeName = text.parse().map_err(|source| NamedError::Name {
            line: at,
            found: text.to_owned(),
            source,
        })?;
        if !known.insert(name) {
            return Err(NamedError::Twice {
                line: at,
                name: text.to_owned(),
            });
        }
        names.push(text.to_owned());
    }
    if names.is_empty() {
        return Err(NamedError::Empty);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_line_by_line_and_mistakes_are_named_by_theirs() {
        let text = "\u{feff}# web\r\n\r\nshop@web-1\r\n  shop@10.0.0.2 # the slow one\nshop@web-3";
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            ["shop@web-1", "shop@10.0.0.2", "shop@web-3"]
        );
        for (text, said) in [
            (&b""[..], "names no node"),
            (b"# none\n\n", "names no node"),
            (b"a@h\nb@h\na@h", "line 3: a@h stands there for the second time"),
            (
                b"a@h b@h",
                "line 1: \"a@h b@h\" is not the name of an Erlang node",
            ),
            (b"a@h\n\x1b[2J", "line 2: \"\\u{1b}[2J\" is not the name"),
            (b"a@h\n\xff", "line 2: is no UTF-8"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        let long = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&long, "\n".repeat(1024 * 1024 + 1)).unwrap();
        assert_eq!(
            read(long.path()).unwrap_err().to_string(),
            "is longer than 1048576 bytes"
        );
    }
}

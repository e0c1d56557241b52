//! Node names and the cookie.

use std::fmt;
use std::str::FromStr;

/// The name of a node, `name@host`. Long when the host has a dot or is an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    name: String,
    host: String,
}

/// Why a text is no node name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// No `@`.
    #[error("a node name has the form name@host")]
    NoHost,
    /// Nothing before or after the `@`.
    #[error("both sides of the @ must be there")]
    Empty,
    /// A character no node name may have.
    #[error("a node name has no blanks, quotes, slashes or control characters")]
    Character,
    /// Longer than an atom.
    #[error("a node name has at most 255 characters")]
    TooLong,
}

impl NodeName {
    /// The part before the `@`: what epmd knows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part after the `@`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the node uses long names (`-name`).
    pub fn is_long(&self) -> bool {
        self.host.contains(['.', ':'])
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let (name, host) = text.split_once('@').ok_or(NodeNameError::NoHost)?;
        if name.is_empty() || host.is_empty() {
            return Err(NodeNameError::Empty);
        }
        if text.chars().count() > 255 {
            return Err(NodeNameError::TooLong);
        }
        let bad = |c: char| c.is_whitespace() || c.is_control() || "'\"/\\@".contains(c);
        if name.contains(bad) || host.contains(bad) {
            return Err(NodeNameError::Character);
        }
        Ok(Self {
            name: name.into(),
            host: host.into(),
        })
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.host)
    }
}

/// The secret that nodes share; printed by nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(String);

impl Cookie {
    /// Takes the cookie's text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_at_the_first_at() {
        let name: NodeName = "shop@::1".parse().unwrap();
        assert_eq!((name.name(), name.host(), name.is_long()), ("shop", "::1", true));
        assert!(!"a@b".parse::<NodeName>().unwrap().is_long());
        assert_eq!("ab".parse::<NodeName>(), Err(NodeNameError::NoHost));
        assert_eq!("@b".parse::<NodeName>(), Err(NodeNameError::Empty));
        assert_eq!("a b@c".parse::<NodeName>(), Err(NodeNameError::Character));
        assert_eq!("a@b@c".parse::<NodeName>(), Err(NodeNameError::Character));
    }

    #[test]
    fn a_cookie_is_never_shown() {
        assert!(!format!("{:?}", Cookie::new("s3cret")).contains("s3cret"));
    }
}

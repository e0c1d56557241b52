//! Credentials that somebody hands over, where those that AWS's own tools would find are not meant. They are never printed.

use std::fmt;

use aws_credential_types::Credentials;

/// An access key of a bucket.
#[derive(Clone)]
pub struct Keys {
    id: String,
    secret: String,
}

impl Keys {
    /// Of these two texts.
    pub fn new(id: String, secret: String) -> Self {
        Self { id, secret }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(&self.id, &self.secret, None, None, "handed over")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_do_not_print() {
        let keys = Keys::new("tid_hidden".into(), "tsec_hidden".into());
        let shown = format!("{keys:?} {:?}", keys.credentials());
        assert!(!shown.contains("tsec_hidden"), "{shown}");
        assert!(!format!("{keys:?}").contains("hidden"));
    }
}

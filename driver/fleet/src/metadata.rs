//! Labels of a machine: they make no new version of it and restart nothing.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::ask::{Again, Ask};
use crate::client::Fly;
use crate::error::FlyError;
use crate::machine::MachineId;
use crate::pace::Action;

impl Fly {
    /// The labels of a machine.
    ///
    /// # Errors
    /// Whatever befalls a request.
    pub async fn metadata(&self, machine: &MachineId) -> Result<BTreeMap<String, String>, FlyError> {
        let doing = format!("reading the metadata of the machine {machine}");
        let ask = Ask::machine(doing, Action::Metadata, Method::GET, machine, "/metadata");
        let answer = self.ask(&ask, self.soon()).await.or_error(&ask.doing)?;
        match answer.json(&ask.doing)? {
            Value::Object(labels) => Ok(labels
                .into_iter()
                .filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())))
                .collect()),
            Value::Null => Ok(BTreeMap::new()),
            _ => Err(FlyError::Unreadable {
                doing: ask.doing,
                what: "it is no object".to_owned(),
            }),
        }
    }

    /// Sets one.
    ///
    /// # Errors
    /// [`FlyError::Name`] where it could not stand in an address, and whatever befalls a request.
    pub async fn set_metadata(&self, machine: &MachineId, key: &str, value: &str) -> Result<(), FlyError> {
        let doing = format!("writing the metadata of the machine {machine}");
        let path = format!("/metadata/{}", label(key)?);
        let mut ask = Ask::machine(doing, Action::SetMetadata, Method::POST, machine, &path);
        ask.body = Some(json!({"value": value}));
        // Whoever writes it twice has written it.
        ask.again = Again::Harmless;
        self.ask(&ask, self.soon()).await.or_error(&ask.doing).map(|_| ())
    }
}

/// A name of a label, or a value that is looked for, as it may stand in an address.
pub(crate) fn label(text: &str) -> Result<&str, FlyError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if text.is_empty() || !text.bytes().all(fits) {
        return Err(FlyError::Name {
            found: text.chars().take(64).collect(),
            what: "a label of a machine: A-Z, a-z, 0-9, _, - and . are",
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_no_path_and_no_query() {
        assert_eq!(label("flyhot_rollout").unwrap(), "flyhot_rollout");
        for bad in ["", "a/b", "a&b", "a=b", "a b", "ä", "a?b", "a#b", "a%2e"] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }
}

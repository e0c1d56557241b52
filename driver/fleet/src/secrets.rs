//! Names of an app's secrets. What they say is never asked for.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use crate::ask::Ask;
use crate::client::Fly;
use crate::error::FlyError;
use crate::pace::Action;

impl Fly {
    /// The names of the app's secrets.
    ///
    /// # Errors
    /// Whatever befalls a request; which tokens may ask is not documented.
    pub async fn secrets(&self) -> Result<BTreeSet<String>, FlyError> {
        let doing = format!("asking for the names of the secrets of the app {}", self.app);
        let ask = Ask::app(doing, Action::Secrets, Method::GET, "/secrets");
        let answer = self.ask(&ask, self.soon()).await.or_error(&ask.doing)?;
        names(&answer.json(&ask.doing)?).ok_or_else(|| FlyError::Unreadable {
            doing: ask.doing.clone(),
            what: "it has no list of secrets".to_owned(),
        })
    }
}

/// Out of the object that Fly's description of the API has, or of a list alone.
pub(crate) fn names(json: &Value) -> Option<BTreeSet<String>> {
    let list = json.get("secrets").unwrap_or(json);
    if list.is_null() && json.is_object() {
        return Some(BTreeSet::new());
    }
    let names = list.as_array()?.iter();
    Some(
        names
            .filter_map(|secret| secret.get("name")?.as_str().map(str::to_owned))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_read_in_both_forms_and_nothing_else() {
        let list =
            json!([{"name": "B", "digest": "1", "value": "hidden"}, {"name": "A"}, {"digest": "2"}, null]);
        for json in [json!({"secrets": list}), list.clone()] {
            assert!(names(&json).unwrap().iter().eq(["A", "B"]), "{json}");
        }
        assert_eq!(names(&json!({"secrets": null})), Some(BTreeSet::new()));
        for none in [json!({}), json!(null), json!("A"), json!({"secrets": "A"})] {
            assert_eq!(names(&none), None, "{none}");
        }
    }
}

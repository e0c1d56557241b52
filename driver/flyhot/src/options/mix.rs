//! What a mix task knows of its project, as it hands it over in `FLYHOT_MIX`: the app, its version, and `config :fly_deploy`.
//!
//! A key that is not known is refused: it would be a setting that nobody heeds. No value is in any error but a number where a
//! number is asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use thiserror::Error;

use super::environment::{MIX, Secret};
use super::nearest;
use super::tree::Tree;

/// The one form that is known.
const VERSION: i64 = 1;

/// What a mix task handed over.
#[derive(Debug, Clone, Default)]
pub struct Mix {
    /// `:app` of the project.
    pub app: Option<String>,
    /// `:version` of the project.
    pub version: Option<String>,
    /// What stands in `config :fly_deploy`.
    pub config: MixConfig,
}

/// `config :fly_deploy`; what is `nil` or empty there is absent.
#[derive(Debug, Clone, Default)]
pub struct MixConfig {
    /// `aws_access_key_id`.
    pub access_key_id: Option<Secret>,
    /// `aws_secret_access_key`.
    pub secret_access_key: Option<Secret>,
    /// `aws_endpoint_url_s3`.
    pub endpoint: Option<String>,
    /// `aws_region`.
    pub region: Option<String>,
    /// `bucket`.
    pub bucket: Option<String>,
    /// `env`.
    pub env: BTreeMap<String, Secret>,
    /// `fly_config`.
    pub fly_config: Option<String>,
    /// `otp_app`.
    pub otp_app: Option<String>,
    /// `binary_name`.
    pub binary_name: Option<String>,
    /// `flyhot`.
    pub flyhot: Option<String>,
    /// `max_concurrency`, above 0.
    pub max_concurrency: Option<NonZeroUsize>,
    /// `timeout`, above 0.
    pub timeout: Option<Duration>,
    /// `suspend_timeout`, above 0.
    pub suspend_timeout: Option<Duration>,
}

/// The keys of `config :fly_deploy` and what their values are: what docs/configuration.md is compared with.
pub const KEYS: [(&str, Kind); 13] = [
    ("bucket", Kind::Text),
    ("aws_access_key_id", Kind::Text),
    ("aws_secret_access_key", Kind::Text),
    ("aws_endpoint_url_s3", Kind::Text),
    ("aws_region", Kind::Text),
    ("env", Kind::Variables),
    ("fly_config", Kind::Text),
    ("otp_app", Kind::Text),
    ("binary_name", Kind::Text),
    ("flyhot", Kind::Text),
    ("max_concurrency", Kind::Count),
    ("timeout", Kind::Milliseconds),
    ("suspend_timeout", Kind::Milliseconds),
];

/// What the value of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, or an atom.
    Text,
    /// A whole number above 0.
    Count,
    /// Such a number of milliseconds.
    Milliseconds,
    /// Variables of an environment.
    Variables,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text or an atom",
            Self::Count => "a whole number above 0",
            Self::Milliseconds => "a whole number of milliseconds above 0",
            Self::Variables => "a map or keyword list of text, whole numbers, true or false",
        })
    }
}

impl Kind {
    fn example(self) -> &'static str {
        match self {
            Self::Text => r#"bucket: "shop-releases""#,
            Self::Count => "max_concurrency: 20",
            Self::Milliseconds => "timeout: 60_000",
            Self::Variables => r#"env: %{"POOL_SIZE" => "10"}"#,
        }
    }
}

/// What was handed over is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MixError {
    /// No JSON of this form.
    #[error("{MIX} is not what a mix task of fly_deploy sets")]
    Form,
    /// Another form.
    #[error("{MIX} has the form {0}, and this flyhot knows {VERSION}")]
    Version(i64),
    /// No such key.
    #[error("config :fly_deploy has no key {found}")]
    Key {
        /// As written.
        found: String,
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value of another type.
    #[error("config :fly_deploy, {key}: must be {wanted}, found {found}")]
    Type {
        /// The key.
        key: String,
        /// What it must be.
        wanted: Kind,
        /// What it is.
        found: String,
    },
}

impl MixError {
    /// What the user can do about it, one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::Form | Self::Version(_) => {
                "Use the mix tasks and the flyhot of one version of fly_deploy, or unset the variable.".into()
            }
            Self::Key {
                nearest: Some(key), ..
            } => format!("Did you mean {key}?"),
            Self::Key { nearest: None, .. } => {
                let keys: Vec<_> = KEYS.iter().map(|(key, _)| *key).collect();
                format!("These keys are known: {}.", keys.join(", "))
            }
            Self::Type { wanted, .. } => format!("Write it so: `config :fly_deploy, {}`.", wanted.example()),
        }
    }
}

impl Mix {
    /// Reads the value of the variable.
    ///
    /// # Errors
    /// The first thing in it that is not what it should be.
    pub fn parse(bytes: &[u8]) -> Result<Self, MixError> {
        // Not as flyctl reads JSON: whole numbers of Elixir are none of its floats.
        let Ok(Tree::Table(top)) = serde_json::from_slice(bytes) else {
            return Err(MixError::Form);
        };
        match top.get("v").and_then(Tree::whole) {
            Some(VERSION) => {}
            Some(other) => return Err(MixError::Version(other)),
            None => return Err(MixError::Form),
        }
        let text = |name: &str| match top.get(name) {
            None | Some(Tree::Nothing) => Ok(None),
            Some(Tree::Text(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(_) => Err(MixError::Form),
        };
        let config = match top.get("config") {
            // An empty keyword list is an empty list.
            None | Some(Tree::Nothing) => MixConfig::default(),
            Some(Tree::List(list)) if list.is_empty() => MixConfig::default(),
            Some(Tree::Table(config)) => MixConfig::read(config)?,
            Some(_) => return Err(MixError::Form),
        };
        Ok(Self {
            app: text("app")?,
            version: text("version")?,
            config,
        })
    }
}

impl MixConfig {
    fn read(table: &BTreeMap<String, Tree>) -> Result<Self, MixError> {
        let mut config = Self::default();
        for (key, value) in table {
            let Some((key, kind)) = KEYS.iter().find(|(known, _)| known == key) else {
                return Err(MixError::Key {
                    found: super::fly::shown(key),
                    nearest: nearest(key, KEYS.iter().map(|(key, _)| *key)),
                });
            };
            if *value == Tree::Nothing {
                continue;
            }
            let of = Of {
                key,
                kind: *kind,
                value,
            };
            match *key {
                "bucket" => config.bucket = of.text()?,
                "aws_access_key_id" => config.access_key_id = of.secret()?,
                "aws_secret_access_key" => config.secret_access_key = of.secret()?,
                "aws_endpoint_url_s3" => config.endpoint = of.text()?,
                "aws_region" => config.region = of.text()?,
                "env" => config.env = of.variables()?,
                "fly_config" => config.fly_config = of.text()?,
                "otp_app" => config.otp_app = of.text()?,
                "binary_name" => config.binary_name = of.text()?,
                "flyhot" => config.flyhot = of.text()?,
                "max_concurrency" => config.max_concurrency = Some(of.count()?),
                "timeout" => config.timeout = Some(of.milliseconds()?),
                _ => config.suspend_timeout = Some(of.milliseconds()?),
            }
        }
        Ok(config)
    }
}

/// The value of a key.
struct Of<'a> {
    key: &'a str,
    kind: Kind,
    value: &'a Tree,
}

impl Of<'_> {
    fn mistyped(&self) -> MixError {
        let found = match (self.kind, self.value.whole()) {
            (Kind::Count | Kind::Milliseconds, Some(number)) => number.to_string(),
            _ => self.value.kind().to_owned(),
        };
        MixError::Type {
            key: self.key.to_owned(),
            wanted: self.kind,
            found,
        }
    }

    fn text(&self) -> Result<Option<String>, MixError> {
        match self.value {
            Tree::Text(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            _ => Err(self.mistyped()),
        }
    }

    fn secret(&self) -> Result<Option<Secret>, MixError> {
        Ok(self.text()?.map(|text| Secret(text.into())))
    }

    fn number<N: TryFrom<i64>>(&self) -> Result<N, MixError> {
        let number = self.value.whole().filter(|number| *number > 0);
        number
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| self.mistyped())
    }

    fn count(&self) -> Result<NonZeroUsize, MixError> {
        // As many bits as are enough of any fleet, and the same ones on every machine.
        let number = usize::try_from(self.number::<u32>()?).ok();
        number.and_then(NonZeroUsize::new).ok_or_else(|| self.mistyped())
    }

    fn milliseconds(&self) -> Result<Duration, MixError> {
        self.number().map(Duration::from_millis)
    }

    fn variables(&self) -> Result<BTreeMap<String, Secret>, MixError> {
        let table = match self.value {
            Tree::Table(table) => table,
            Tree::List(list) if list.is_empty() => return Ok(BTreeMap::new()),
            _ => return Err(self.mistyped()),
        };
        let variable = |(name, value): (&String, &Tree)| {
            // Elixir prints numbers that are not whole in another way than Go.
            let text = match value {
                Tree::Text(text) => Some(text.clone()),
                Tree::Boolean(value) => Some(value.to_string()),
                Tree::Whole(number) => Some(number.to_string()),
                other => other.whole().map(|number| number.to_string()),
            };
            let text = text.ok_or_else(|| MixError::Type {
                key: format!("env: {}", super::fly::shown(name)),
                wanted: self.kind,
                found: value.kind().to_owned(),
            })?;
            Ok((name.clone(), Secret(text.into())))
        };
        let set = table.iter().filter(|(_, value)| **value != Tree::Nothing);
        set.map(variable).collect()
    }
}

#[cfg(test)]
mod tests;

//! Which store, and whose releases in it.
//!
//! Arguments come first, then the fly.toml of the directory that the command is called in, then the environment. Of an fly.toml
//! nothing else is read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use flyhot_store::{App, AppError, Bucket, Directory, Home, Keys, S3};
use serde::Deserialize;
use thiserror::Error;

use super::{Environment, OptionsError};
use crate::cli::HomeArgs;

/// What flyctl calls an app's configuration where nothing else is said.
const FLY_TOML: &str = "fly.toml";

/// The longest one that is read, bytes; those of Fly.io's own guides have one or two thousand.
const MAX_FLY_TOML: u64 = 1024 * 1024;

/// Where a fleet's artifacts lie.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) app: App,
    at: At,
}

#[derive(Debug, Clone)]
enum At {
    Directory(PathBuf),
    Bucket(Bucket, Option<Keys>),
}

/// What a release says of its store, where nobody else names one.
#[derive(Debug, Default)]
pub(crate) struct StoreSaid {
    pub(crate) bucket: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) keys: Option<Keys>,
}

/// Arguments and environment that name no store.
#[derive(Debug, Error)]
pub enum HomeError {
    /// No store is named.
    #[error("no store is named")]
    None,
    /// No app is named.
    #[error("no app is named")]
    NoApp,
    /// An app that cannot be one.
    #[error("--app: {0}")]
    App(#[from] AppError),
    /// A fly.toml that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A fly.toml that is none.
    #[error("{}: {what}", path.display())]
    FlyToml {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        what: String,
    },
}

impl HomeError {
    /// What the user can do about it, one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::None => {
                "Name a directory by --store, or a bucket by --bucket, [env] of fly.toml, or the variable BUCKET_NAME."
            }
            Self::NoApp => "Name it by --app, the variable FLY_APP_NAME, or `app` in fly.toml.",
            Self::Read { .. } => "Check its permissions, or name app and bucket by --app and --bucket.",
            Self::FlyToml { .. } => {
                "Mend it (`fly config validate` says more), or name app and bucket by --app and --bucket."
            }
            Self::App(_) => "Give the name of the release or of the app on Fly.io.",
        }
    }
}

impl Place {
    /// Where the arguments say, else where the environment does.
    pub(crate) fn new(args: &HomeArgs, environment: &Environment) -> Result<Self, OptionsError> {
        Self::of(args, environment, None, &StoreSaid::default())
    }

    /// The same, where a machine knows the name of its release and was told more by it.
    pub(crate) fn of(
        args: &HomeArgs,
        environment: &Environment,
        release: Option<&str>,
        said: &StoreSaid,
    ) -> Result<Self, OptionsError> {
        let text = |given: &Option<String>, set: &Option<OsString>| {
            let set = || set.as_ref().map(|set| set.to_string_lossy().into_owned());
            given.clone().or_else(set)
        };
        let app = text(&args.app, &environment.app);
        let fly = match (&app, &args.store, &args.bucket) {
            // Nothing is left to be found there.
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => FlyToml::default(),
            _ => FlyToml::read(Path::new(FLY_TOML))?,
        };
        let bucket = args.bucket.clone().or_else(|| fly.bucket());
        let at = match (&args.store, text(&bucket, &environment.bucket)) {
            (Some(directory), _) => At::Directory(directory.clone()),
            (None, Some(name)) => {
                let bucket = Bucket {
                    name,
                    endpoint: text(&args.endpoint, &environment.endpoint),
                    region: text(&args.region, &environment.region),
                };
                At::Bucket(bucket, None)
            }
            (None, None) => {
                let name = said.bucket.clone().ok_or(HomeError::None)?;
                // What it says goes together, and before what the environment says to others.
                let told = |given: &Option<String>, said: &Option<String>, set: &Option<OsString>| {
                    given
                        .clone()
                        .or_else(|| said.clone())
                        .or_else(|| text(&None, set))
                };
                let bucket = Bucket {
                    name,
                    endpoint: told(&args.endpoint, &said.endpoint, &environment.endpoint),
                    region: told(&args.region, &said.region, &environment.region),
                };
                At::Bucket(bucket, said.keys.clone())
            }
        };
        let app = app.or(fly.app).or_else(|| release.map(str::to_owned));
        let app = app.ok_or(HomeError::NoApp)?;
        Ok(Self {
            app: app.parse().map_err(HomeError::App)?,
            at,
        })
    }

    /// The directory, where it is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.at {
            At::Directory(directory) => Some(directory),
            At::Bucket(..) => None,
        }
    }

    /// The store.
    pub(crate) async fn open(&self) -> Home {
        match &self.at {
            At::Directory(directory) => Home::Directory(Directory::new(directory)),
            At::Bucket(bucket, keys) => Home::S3(S3::with(bucket, keys.as_ref()).await),
        }
    }
}

/// What of an app's configuration on Fly.io is of interest.
#[derive(Debug, Default, Deserialize)]
struct FlyToml {
    app: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, toml::Value>,
}

impl FlyToml {
    /// The one at `path`; an empty one where there is none.
    fn read(path: &Path) -> Result<Self, HomeError> {
        let read = |source| HomeError::Read {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened
                .map_err(read)?
                .take(MAX_FLY_TOML + 1)
                .read_to_end(&mut bytes)
                .map_err(read)?,
        };
        let wrong = |what: String| HomeError::FlyToml {
            path: path.to_owned(),
            what,
        };
        if bytes.len() as u64 > MAX_FLY_TOML {
            return Err(wrong(format!("it has more than {MAX_FLY_TOML} bytes")));
        }
        // The parser's own words would quote the file, which may hold what is nobody's business.
        toml::from_slice(&bytes).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = bytes.get(..start).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            wrong(format!(
                "line {line} is no TOML, or `app` or [env] is not what flyctl writes there"
            ))
        })
    }

    fn bucket(&self) -> Option<String> {
        ["AWS_BUCKET", "BUCKET_NAME"]
            .into_iter()
            .find_map(|name| self.env.get(name)?.as_str().map(str::to_owned))
            .filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fly_toml_names_app_and_bucket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fly.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            FlyToml::read(&path)
        };
        assert!(FlyToml::read(&path).unwrap().bucket().is_none());
        let table = [
            ("app = 'shop'\n[env]\nPORT = 8080\nBUCKET_NAME = 'b'\n", Some("b")),
            (
                "app = 'shop'\n[env]\nBUCKET_NAME = 'b'\nAWS_BUCKET = 'a'\n",
                Some("a"),
            ),
            (
                "app = 'shop'\n[[services]]\nport = 1\n[env]\nBUCKET_NAME = ''\n",
                None,
            ),
        ];
        for (text, bucket) in table {
            let fly = read(text).unwrap();
            assert_eq!(
                (fly.app.as_deref(), fly.bucket().as_deref()),
                (Some("shop"), bucket)
            );
        }
        for text in ["app = ", "app = 1", "env = 'secret'", "\u{0}"] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains("fly.toml: ") && !error.contains("secret"),
                "{error}"
            );
        }
        std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
        assert!(FlyToml::read(&path).is_err());
    }
}

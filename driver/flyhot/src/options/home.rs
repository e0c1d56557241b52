//! Which store, and whose releases in it.

use std::ffi::OsString;
use std::path::PathBuf;

use flyhot_store::{App, AppError, Bucket, Directory, Home, S3};
use thiserror::Error;

use super::{Environment, OptionsError};
use crate::cli::HomeArgs;

/// Where a fleet's artifacts lie.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) app: App,
    at: At,
}

#[derive(Debug, Clone)]
enum At {
    Directory(PathBuf),
    Bucket(Bucket),
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
}

impl HomeError {
    /// What the user can do about it, one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::None => "Name a directory by --store, or a bucket by --bucket or the variable BUCKET_NAME.",
            Self::NoApp => "Name it by --app or the variable FLY_APP_NAME.",
            Self::App(_) => "Give the name of the release or of the app on Fly.io.",
        }
    }
}

impl Place {
    /// Where the arguments say, else where the environment does.
    pub(crate) fn new(args: &HomeArgs, environment: &Environment) -> Result<Self, OptionsError> {
        let text = |given: &Option<String>, set: &Option<OsString>| {
            let set = || set.as_ref().map(|set| set.to_string_lossy().into_owned());
            given.clone().or_else(set)
        };
        let at = match (&args.store, text(&args.bucket, &environment.bucket)) {
            (Some(directory), _) => At::Directory(directory.clone()),
            (None, Some(name)) => At::Bucket(Bucket {
                name,
                endpoint: text(&args.endpoint, &environment.endpoint),
                region: text(&args.region, &environment.region),
            }),
            (None, None) => return Err(HomeError::None.into()),
        };
        let app = text(&args.app, &environment.app).ok_or(HomeError::NoApp)?;
        Ok(Self {
            app: app.parse().map_err(HomeError::App)?,
            at,
        })
    }

    /// The store.
    pub(crate) async fn open(&self) -> Home {
        match &self.at {
            At::Directory(directory) => Home::Directory(Directory::new(directory)),
            At::Bucket(bucket) => Home::S3(S3::new(bucket).await),
        }
    }
}

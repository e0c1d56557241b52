//! Where the store is, where the release may know it alone, or better than the environment: it is asked.

use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::evaluate::{self, AskError};
use crate::cli::HomeArgs;
use crate::drive::NodeError;
use crate::errors;
use crate::options::{self, Asks, Environment, HomeError, IN_IMAGE, OptionsError, Place, StoreSaid};
use crate::run::apart_while_wanted;

/// Why it is not known.
pub(crate) enum PlaceError {
    /// What is said of it cannot be used.
    Options(OptionsError),
    /// The release does not say.
    Asked(AskError),
}

impl PlaceError {
    /// Whether it is only that nobody names a store.
    pub(crate) fn is_no_store(&self) -> bool {
        match self {
            Self::Options(error) => error.is_no_store(),
            Self::Asked(_) => true,
        }
    }

    /// As whoever runs a command that needs one meets it.
    pub(crate) fn told(self) -> NodeError {
        match self {
            Self::Options(error) => errors::options(&error),
            Self::Asked(error) => errors::named_nowhere(&error),
        }
    }
}

/// What a store is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A start, which is better off with a bucket of the environment than with none.
    Start,
    /// Work whose result starts are to find: written elsewhere it would be lost, and said to be there.
    Work,
}

/// Of the release in that directory; `None` where nobody says.
pub(super) fn place(
    want: Want,
    home: &HomeArgs,
    environment: &Environment,
    root: &Path,
    disk: &Disk,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<Place>, PlaceError> {
    let asks = options::asks(home, environment).map_err(PlaceError::Options)?;
    // Nobody waits for a runtime that has nothing to say.
    let has_words = || evaluate::has_words(root, disk.version());
    let asks = asks.filter(|asks| *asks != Asks::Before || has_words());
    let told = match asks.map(|_| evaluate::ask(root, disk.name(), disk.version(), stopped)) {
        None => StoreSaid::default(),
        Some(Ok(told)) => told,
        Some(Err(AskError::Stopped)) => return Err(PlaceError::Asked(AskError::Stopped)),
        Some(Err(AskError::NoScript(_))) => StoreSaid::default(),
        Some(Err(error))
            if asks == Some(Asks::Bucket) || want == Want::Work && home.bucket.is_none() && has_words() =>
        {
            return Err(PlaceError::Asked(error));
        }
        // Where the bucket is known, keys may come from elsewhere; and a bucket that is named is better than none.
        Some(Err(_)) => StoreSaid::default(),
    };
    match Place::of(home, environment, Some(disk.name()), &told) {
        Ok(place) => Ok(Some(place)),
        Err(error) if error.is_no_store() => Ok(None),
        Err(error) => Err(PlaceError::Options(error)),
    }
}

/// For what runs on a machine of Fly.io beside its release, or on one that was made of its image. Who does not wait for it any more has
/// the release asked no longer.
///
/// # Errors
/// Nobody names a store, or not in a way that can be used.
pub(crate) async fn place_here(
    home: &HomeArgs,
    environment: &Environment,
) -> Result<Result<Place, PlaceError>, NodeError> {
    let (home, environment) = (home.clone(), environment.clone());
    apart_while_wanted(move |wanted| Ok(asked(&home, &environment, &|| !wanted()))).await
}

fn asked(
    home: &HomeArgs,
    environment: &Environment,
    stopped: &dyn Fn() -> bool,
) -> Result<Place, PlaceError> {
    let known = || Place::new(home, environment).map_err(PlaceError::Options);
    let Some(root) = environment.machine.as_ref().and_then(|_| root(environment)) else {
        return known();
    };
    // What cannot be looked at is not asked.
    let Ok(disk) = Disk::look(&root) else {
        return known();
    };
    place(Want::Work, home, environment, &root, &disk, stopped)?
        .ok_or_else(|| PlaceError::Options(HomeError::None.into()))
}

/// The directory of the release of this image.
fn root(environment: &Environment) -> Option<PathBuf> {
    places(environment).into_iter().find(|place| has_release(place))
}

/// Where the release of this image may be, the likeliest first.
pub(crate) fn places(environment: &Environment) -> Vec<PathBuf> {
    match &environment.release_root {
        Some(root) => vec![root.into()],
        None => vec![std::env::current_dir().unwrap_or_default(), IN_IMAGE.into()],
    }
}

/// Whether it is the directory of a release.
pub(crate) fn has_release(place: &Path) -> bool {
    place.join("releases/start_erl.data").is_file()
}

//! Which store, and whose releases in it; and where the fly.toml lies that may say so.
//!
//! The one place that opens a fly.toml. What it says and who is heard first is not decided here, but by [`super::fly`] and
//! [`super::settings`].

use std::path::{Path, PathBuf};

use flyhot_store::{App, AppError, Bucket, Directory, Home, Keys, S3};
use thiserror::Error;

use super::fly::{FlyError, FlyFile};
use super::mix::{Mix, MixError};
use super::plain::{self, PlainError};
use super::settings::{Here, Said, Settings, Sources};
use super::tree::Format;
use super::{Environment, OptionsError, token, trust};
use crate::cli::HomeArgs;

/// What flyctl calls an app's configuration where nothing else is said, the first that is there.
const FLY_FILES: [&str; 3] = ["fly.toml", "fly.json", "fly.yaml"];

/// The longest one that is read, bytes; those of Fly.io's own guides have one or two thousand.
const MAX_FLY_FILE: u64 = 1024 * 1024;

/// Why a release is asked which bucket is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Nobody says it, nor names a directory.
    Bucket,
    /// Nobody says who may write there.
    Keys,
    /// What it says goes before a bucket or keys of the environment or of fly.toml.
    Before,
}

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

/// What a release says of its store: its `config :fly_deploy`.
#[derive(Debug, Default)]
pub(crate) struct StoreSaid {
    pub(crate) bucket: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) keys: Option<Keys>,
}

/// Arguments, configuration and environment that name no store.
#[derive(Debug, Error)]
pub enum HomeError {
    /// No store is named.
    #[error("no store is named")]
    None,
    /// No app is named.
    #[error("no app is named")]
    NoApp,
    /// An app that cannot be one.
    #[error("the app, by {origin}: {source}")]
    App {
        /// Who named it.
        origin: String,
        /// What is wrong with it.
        source: AppError,
    },
    /// One half of credentials.
    #[error("there is an access key, by {there}, but {lacks} is set nowhere")]
    HalfKeys {
        /// Who said the half that is there.
        there: String,
        /// The key of the other one.
        lacks: &'static str,
    },
    /// A fly.toml that is not read.
    #[error("{} {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: PlainError,
    },
    /// A directory without one.
    #[error("{} has neither {}", .0.display(), FLY_FILES.join(" nor "))]
    NoFile(PathBuf),
    /// A fly.toml that is none.
    #[error("{}: {error}", path.display())]
    Fly {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: FlyError,
    },
    /// What a mix task handed over is not what it should be.
    #[error(transparent)]
    Mix(#[from] MixError),
}

impl HomeError {
    /// What the user can do about it, one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::None => {
                "Make a bucket with `fly storage create`, which sets BUCKET_NAME for the app; or name one by --bucket, \
                 `config :fly_deploy`, [env] of fly.toml or that variable, or a directory by --store."
            }
            Self::NoApp => "Name it by --app, `app` in fly.toml, or the variable FLY_APP_NAME.",
            Self::Read {
                error: PlainError::Read(_),
                ..
            } => {
                "Name the file by --config (or `fly_config` of `config :fly_deploy`), and check its permissions."
            }
            Self::Read {
                error: PlainError::Kind,
                ..
            } => "Name a file by --config, or write its content to one.",
            Self::NoFile(_) => {
                "Name the file by --config (or `fly_config` of `config :fly_deploy`), or have `fly launch` make one."
            }
            Self::Read { .. } | Self::Fly { .. } => "Mend it (`fly config validate` says more), or name another by --config.",
            Self::HalfKeys { .. } => {
                "Set both aws_access_key_id and aws_secret_access_key in `config :fly_deploy`, or none of them."
            }
            Self::Mix(error) => return error.hint(),
            Self::App { .. } => "Give the name of the release or of the app on Fly.io.",
        }
        .to_owned()
    }
}

/// Whether a release may know better; `None` where it does not.
pub(crate) fn asks(args: &HomeArgs, environment: &Environment) -> Result<Option<Asks>, OptionsError> {
    let (settings, _) = gathered(args, environment, Need::Machine)?;
    Ok(match (&settings.store, &settings.bucket) {
        (Some(_), _) => None,
        (None, None) => Some(Asks::Bucket),
        // Elsewhere machines have keys otherwise, and are not to wait for a runtime at each start.
        (None, Some(_))
            if settings.access_key_id.is_none() && environment.machine.is_some() && !environment.has_role =>
        {
            Some(Asks::Keys)
        }
        (None, Some(bucket)) => {
            let keys = settings.access_key_id.as_ref();
            let all = keys.is_some_and(Said::is_by_mix)
                && [bucket, &settings.endpoint, &settings.region]
                    .into_iter()
                    .all(Said::goes_before_a_release);
            (!all).then_some(Asks::Before)
        }
    })
}

/// Every value that arguments, configuration and environment say.
pub(crate) fn settings(args: &HomeArgs, environment: &Environment) -> Result<Settings, OptionsError> {
    let (settings, _) = gathered(args, environment, Need::All)?;
    Ok(settings.on(Here {
        public_keys: trust::has_public_keys(),
        flyctl: token::program(environment.path.as_deref()).is_some(),
    }))
}

/// What is deployed: every value, and the app's configuration on Fly.io itself.
pub(crate) struct Project {
    pub(crate) settings: Settings,
    pub(crate) path: PathBuf,
    pub(crate) file: FlyFile,
}

/// The project that arguments, configuration and environment say; there has to be a fly.toml.
pub(crate) fn project(args: &HomeArgs, environment: &Environment) -> Result<Project, OptionsError> {
    let (settings, fly) = gathered(args, environment, Need::All)?;
    let (path, file) = fly.ok_or_else(|| HomeError::NoFile("this directory".into()))?;
    Ok(Project { settings, path, file })
}

/// The app on Fly.io.
pub(super) fn app(args: &HomeArgs, environment: &Environment) -> Result<Said<String>, OptionsError> {
    let (settings, _) = gathered(args, environment, Need::App)?;
    Ok(settings.app.ok_or(HomeError::NoApp)?)
}

/// Whether there is an app on Fly.io whose nodes are asked for where nobody names any.
pub(super) fn has_inventory(args: &HomeArgs, environment: &Environment) -> Result<bool, OptionsError> {
    Ok(gathered(args, environment, Need::App)?.0.inventory.is_some())
}

/// What is said, and whether there is a fly.toml, which is looked for only where it is needed.
pub(crate) fn at_hand(
    args: &HomeArgs,
    environment: &Environment,
    need: Need,
) -> Result<(Settings, bool), OptionsError> {
    let (settings, fly) = gathered(args, environment, need)?;
    Ok((settings, fly.is_some()))
}

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Every value.
    All,
    /// The app: where an argument names it, or a machine's environment, no fly.toml is looked for.
    App,
    /// What names a store: where arguments name all of it, no fly.toml is looked for.
    Store,
    /// The same of a machine: its environment is what Fly.io made of its app's fly.toml, and of secrets, which come before that. Where it
    /// names a bucket and the app, a file that happens to lie where it starts is none of its.
    Machine,
}

/// What a mix task handed over; nothing where none did.
pub(crate) fn mix(environment: &Environment) -> Result<Mix, HomeError> {
    let text = environment.mix.as_ref();
    let mix = text.map(|text| Mix::parse(text.0.as_encoded_bytes()));
    Ok(mix.transpose()?.unwrap_or_default())
}

fn gathered(
    args: &HomeArgs,
    environment: &Environment,
    need: Need,
) -> Result<(Settings, Option<(PathBuf, FlyFile)>), HomeError> {
    let mix = mix(environment)?;
    let has_app = args.app.is_some() || environment.app.is_some() && environment.machine.is_some();
    let has_store =
        args.store.is_some() || args.bucket.is_some() && args.endpoint.is_some() && args.region.is_some();
    let machine_has = environment.app.is_some() && environment.bucket.is_some();
    let named = args
        .config
        .clone()
        .or_else(|| mix.config.fly_config.clone().map(PathBuf::from));
    let fly = match (need, named) {
        (Need::Store | Need::Machine, None) if has_app && has_store => None,
        (Need::Machine, None) if machine_has => None,
        (Need::App, None) if has_app => None,
        (_, Some(path)) => Some(named_file(path)?),
        (_, None) => first_file(Path::new(""))?,
    };
    let settings = Settings::of(Sources {
        args,
        mix: &mix,
        fly: fly.as_ref().map(|(path, file)| (path.as_path(), file)),
        environment,
    });
    Ok((settings, fly))
}

/// The file that somebody named, or the one of a directory that somebody named.
fn named_file(path: PathBuf) -> Result<(PathBuf, FlyFile), HomeError> {
    if path.is_dir() {
        return first_file(&path)?.ok_or(HomeError::NoFile(path));
    }
    let file = fly_file(&path)?;
    Ok((path, file))
}

fn first_file(directory: &Path) -> Result<Option<(PathBuf, FlyFile)>, HomeError> {
    for name in FLY_FILES {
        let path = directory.join(name);
        match fly_file(&path) {
            Err(HomeError::Read { error, .. }) if error.is_absent() => {}
            file => return Ok(Some((path, file?))),
        }
    }
    Ok(None)
}

fn fly_file(path: &Path) -> Result<FlyFile, HomeError> {
    let bytes = plain::read(path, MAX_FLY_FILE).map_err(|error| HomeError::Read {
        path: path.to_owned(),
        error,
    })?;
    FlyFile::parse(&bytes, Format::of(path)).map_err(|error| HomeError::Fly {
        path: path.to_owned(),
        error,
    })
}

impl Place {
    /// Where arguments, configuration or environment say.
    pub(crate) fn new(args: &HomeArgs, environment: &Environment) -> Result<Self, OptionsError> {
        Self::gather(args, environment, Need::Store, None, &StoreSaid::default())
    }

    /// The same, where a machine knows the name of its release and was told more by it.
    pub(crate) fn of(
        args: &HomeArgs,
        environment: &Environment,
        release: Option<&str>,
        said: &StoreSaid,
    ) -> Result<Self, OptionsError> {
        Self::gather(args, environment, Need::Machine, release, said)
    }

    fn gather(
        args: &HomeArgs,
        environment: &Environment,
        need: Need,
        release: Option<&str>,
        said: &StoreSaid,
    ) -> Result<Self, OptionsError> {
        let (settings, _) = gathered(args, environment, need)?;
        let named = settings.bucket.as_ref();
        let first = named.filter(|name| name.goes_before_a_release());
        let name = first
            .map(|name| &name.value)
            .or(said.bucket.as_ref())
            .or(named.map(|name| &name.value));
        let at = match (&settings.store, name) {
            (Some(directory), _) => At::Directory(directory.value.clone()),
            (None, Some(name)) => {
                // What the release says of another bucket is none of this one.
                let of_it = said.bucket.as_ref().is_none_or(|told| told == name);
                let told = |settled: &Said<String>, said: &Option<String>| match said {
                    Some(said) if of_it && !settled.goes_before_a_release() => said.clone(),
                    _ => settled.value.clone(),
                };
                let bucket = Bucket {
                    name: name.clone(),
                    endpoint: Some(told(&settings.endpoint, &said.endpoint)),
                    region: Some(told(&settings.region, &said.region)),
                };
                let of_release = || said.keys.clone().filter(|_| of_it);
                At::Bucket(bucket, keys(&settings)?.or_else(of_release))
            }
            (None, None) => return Err(HomeError::None.into()),
        };
        let (app, origin) = match (settings.app, release) {
            (Some(app), _) => (app.value, app.origin.to_string()),
            (None, Some(release)) => (release.to_owned(), "the release".to_owned()),
            (None, None) => return Err(HomeError::NoApp.into()),
        };
        Ok(Self {
            app: app.parse().map_err(|source| HomeError::App { origin, source })?,
            at,
        })
    }

    /// Whether it has keys that are not of the environment.
    pub(crate) fn has_keys(&self) -> bool {
        matches!(self.at, At::Bucket(_, Some(_)))
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

/// Credentials, where `config :fly_deploy` has a part in them; those of the environment alone are found by AWS's own tools, with a
/// session token that may go with them.
fn keys(settings: &Settings) -> Result<Option<Keys>, HomeError> {
    let (id, secret) = (&settings.access_key_id, &settings.secret_access_key);
    let by_mix = |said: &Option<Said<_>>| said.as_ref().is_some_and(Said::is_by_mix);
    let half = |there: &Said<_>, lacks| HomeError::HalfKeys {
        there: there.origin.to_string(),
        lacks,
    };
    match (id, secret) {
        _ if !by_mix(id) && !by_mix(secret) => Ok(None),
        (Some(id), Some(secret)) => Ok(Some(Keys::new(id.value.text(), secret.value.text()))),
        (Some(id), None) => Err(half(id, "aws_secret_access_key")),
        (None, Some(secret)) => Err(half(secret, "aws_access_key_id")),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::options::environment::{Secret, Variable};

    fn variable(name: &'static str, value: &str) -> Option<Variable> {
        let value = value.into();
        Some(Variable { name, value })
    }

    fn with(mix: &str) -> Environment {
        Environment {
            mix: Some(Secret(format!(r#"{{"v": 1, "config": {mix}}}"#).into())),
            ..Environment::default()
        }
    }

    /// Arguments that name a fly.toml with this text in a directory of its own.
    fn fly(text: &str) -> (tempfile::TempDir, HomeArgs) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("fly.toml"), text).unwrap();
        let args = HomeArgs {
            config: Some(directory.path().to_owned()),
            ..HomeArgs::default()
        };
        (directory, args)
    }

    fn bucket(place: &Place) -> (&str, &str, &str, bool) {
        let At::Bucket(bucket, keys) = &place.at else {
            panic!("{place:?}")
        };
        (
            &bucket.name,
            bucket.endpoint.as_deref().unwrap_or_default(),
            bucket.region.as_deref().unwrap_or_default(),
            keys.is_some(),
        )
    }

    /// What it says goes before the environment and behind arguments, and is of the bucket that it names.
    #[test]
    fn a_release_is_heard_behind_arguments_and_before_the_environment() {
        let machine = Environment {
            machine: Some("148e4d55f74d89".into()),
            app: variable("FLY_APP_NAME", "shop"),
            bucket: variable("BUCKET_NAME", "b"),
            ..Environment::default()
        };
        let args = HomeArgs::default();
        let said = |bucket: Option<&str>| StoreSaid {
            bucket: bucket.map(str::to_owned),
            endpoint: Some("https://r2".to_owned()),
            region: None,
            keys: Some(Keys::new("tid".to_owned(), "tsec".to_owned())),
        };
        let own = Environment {
            access_key_id: Some(Secret("id".into())),
            secret_access_key: Some(Secret("secret".into())),
            endpoint: variable("AWS_ENDPOINT_URL_S3", "https://mine"),
            ..machine.clone()
        };
        let typed = HomeArgs {
            bucket: Some("typed".to_owned()),
            ..HomeArgs::default()
        };
        // Name, whether the endpoint is that of the release, whether the keys are.
        for (args, environment, of, expected) in [
            (&args, &machine, None, ("b", true, true)),
            (&args, &machine, Some("b"), ("b", true, true)),
            (&args, &machine, Some("a"), ("a", true, true)),
            (&args, &own, None, ("b", true, true)),
            (&args, &own, Some("a"), ("a", true, true)),
            (&typed, &own, None, ("typed", true, true)),
            (&typed, &own, Some("typed"), ("typed", true, true)),
            (&typed, &own, Some("a"), ("typed", false, false)),
        ] {
            let place = Place::of(args, environment, None, &said(of)).unwrap();
            let (name, endpoint, _, keys) = bucket(&place);
            assert_eq!((name, endpoint == "https://r2", keys), expected, "{of:?}");
        }

        let elsewhere = Environment {
            machine: None,
            ..machine.clone()
        };
        let role = Environment {
            has_role: true,
            ..machine.clone()
        };
        let whole = HomeArgs {
            endpoint: Some("https://r2".to_owned()),
            region: Some("auto".to_owned()),
            ..typed.clone()
        };
        let handed = with(r#"{"aws_access_key_id": "tid", "aws_secret_access_key": "tsec"}"#);
        let nothing = Environment::default();
        let directory = HomeArgs {
            store: Some("/srv".into()),
            ..HomeArgs::default()
        };
        for (args, environment, expected) in [
            (&args, &nothing, Some(Asks::Bucket)),
            (&args, &machine, Some(Asks::Keys)),
            (&typed, &machine, Some(Asks::Keys)),
            (&args, &own, Some(Asks::Before)),
            (&args, &role, Some(Asks::Before)),
            (&args, &elsewhere, Some(Asks::Before)),
            (&typed, &own, Some(Asks::Before)),
            (&typed, &handed, Some(Asks::Before)),
            (&whole, &handed, None),
            (&directory, &machine, None),
        ] {
            assert_eq!(asks(args, environment).unwrap(), expected, "{environment:?}");
        }
    }

    #[test]
    fn a_place_is_what_configuration_says() {
        let (_directory, args) =
            fly("app = 'shop'\n[env]\nPORT = 8080\nBUCKET_NAME = 'b'\nAWS_REGION = 'r'\n");
        let place = Place::new(&args, &Environment::default()).unwrap();
        assert_eq!(place.app.to_string(), "shop");
        assert_eq!(bucket(&place), ("b", "https://t3.storage.dev", "r", false));
        let mix = with(r#"{"bucket": "m", "aws_access_key_id": "tid", "aws_secret_access_key": "tsec"}"#);
        let place = Place::new(&args, &mix).unwrap();
        assert_eq!(bucket(&place), ("m", "https://t3.storage.dev", "r", true));
        let directory = HomeArgs {
            store: Some("/srv".into()),
            ..args
        };
        assert!(Place::new(&directory, &mix).unwrap().directory().is_some());
    }

    #[test]
    fn a_machine_knows_whose_it_is_and_what_a_release_says_goes_together() {
        let (_directory, mut args) = fly("app = 'shop'\n");
        let environment = Environment {
            app: variable("FLY_APP_NAME", "shop-staging"),
            machine: Some("148e4d55f74d89".into()),
            region: variable("AWS_REGION", "of-others"),
            ..Environment::default()
        };
        let said = StoreSaid {
            bucket: Some("s".into()),
            endpoint: Some("http://s".into()),
            region: None,
            keys: Some(Keys::new("tid".into(), "tsec".into())),
        };
        assert!(matches!(
            Place::new(&args, &environment),
            Err(OptionsError::Home(HomeError::None))
        ));
        let place = Place::of(&args, &environment, Some("release"), &said).unwrap();
        // The file was named; one that only lies there would be heard behind what the machine knows.
        assert_eq!(place.app.to_string(), "shop");
        let unnamed = HomeArgs::default();
        let there = Place::of(&unnamed, &environment, Some("release"), &said).unwrap();
        assert_eq!(there.app.to_string(), "shop-staging");
        assert_eq!(bucket(&place), ("s", "http://s", "of-others", true));
        args.endpoint = Some("http://a".into());
        let place = Place::of(&args, &environment, None, &said).unwrap();
        assert_eq!(bucket(&place), ("s", "http://a", "of-others", true));
        let (_directory, args) = fly("");
        let place = Place::of(&args, &Environment::default(), Some("release"), &said).unwrap();
        assert_eq!(place.app.to_string(), "release");
    }

    #[test]
    fn half_of_credentials_is_an_error_unless_the_environment_has_the_other_half() {
        let (_directory, args) = fly("app = 'shop'\n[env]\nAWS_BUCKET = 'b'\n");
        for (mix, lacks) in [
            (r#"{"aws_access_key_id": "tid_hidden"}"#, "aws_secret_access_key"),
            (r#"{"aws_secret_access_key": "tsec_hidden"}"#, "aws_access_key_id"),
        ] {
            let error = Place::new(&args, &with(mix)).unwrap_err();
            let said = format!("{error} {}", error.hint());
            assert!(said.contains(&format!("{lacks} is set nowhere")), "{said}");
            assert!(!said.contains("hidden"), "{said}");
            let other = Environment {
                access_key_id: Some(Secret("tid".into())),
                secret_access_key: Some(Secret("tsec".into())),
                ..with(mix)
            };
            assert!(bucket(&Place::new(&args, &other).unwrap()).3);
        }
        // Those of the environment alone are found by AWS's own tools, with what else is there.
        let alone = Environment {
            access_key_id: Some(Secret("tid".into())),
            ..Environment::default()
        };
        assert!(!bucket(&Place::new(&args, &alone).unwrap()).3);
    }

    #[test]
    fn a_file_is_found_where_flyctl_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let app = |args: &HomeArgs, environment: &Environment| {
            settings(args, environment).map(|settings| settings.app.unwrap().value)
        };
        let named = |path: PathBuf| HomeArgs {
            config: Some(path),
            ..HomeArgs::default()
        };
        let said = |path: &Path| app(&named(path.to_owned()), &Environment::default());
        let error = |path: &Path| {
            let error = said(path).unwrap_err();
            assert!(!error.hint().is_empty());
            error.to_string()
        };
        assert!(error(path).ends_with(" has neither fly.toml nor fly.json nor fly.yaml"));
        assert!(
            error(&path.join("fly.toml"))
                .ends_with("fly.toml cannot be read: No such file or directory (os error 2)")
        );
        fs::create_dir_all(path.join("within/fly.toml")).unwrap();
        let within = error(&path.join("within"));
        assert!(
            within.ends_with(".toml is a directory, a pipe or a device, and no file"),
            "{within}"
        );
        // The last there is first, so that each is passed over by the next.
        for (name, text) in [
            ("fly.yaml", "app: yaml"),
            ("fly.json", r#"{"app": "json"}"#),
            ("fly.toml", "app = 'toml'"),
        ] {
            fs::write(path.join(name), text).unwrap();
            let language = name.trim_start_matches("fly.");
            assert_eq!(said(path).unwrap(), language);
            assert_eq!(said(&path.join(name)).unwrap(), language);
        }
        fs::write(path.join("fly.staging.yml"), "app: staging").unwrap();
        fs::write(path.join("staging"), "app = 'plain'").unwrap();
        assert_eq!(said(&path.join("fly.staging.yml")).unwrap(), "staging");
        assert_eq!(said(&path.join("staging")).unwrap(), "plain");
        // Mix names one as well, and arguments go first.
        let mix = with(&format!("{{\"fly_config\": {:?}}}", path.join("fly.json")));
        assert_eq!(app(&HomeArgs::default(), &mix).unwrap(), "json");
        assert_eq!(app(&named(path.join("fly.yaml")), &mix).unwrap(), "yaml");
        fs::write(path.join("fly.toml"), vec![b'#'; 2 << 20]).unwrap();
        assert!(error(path).ends_with("fly.toml is longer than 1048576 bytes"));
        fs::write(path.join("fly.toml"), "app = 'shop'\nenv = 'tsec_hidden'").unwrap();
        let said = error(path);
        assert!(
            said.ends_with("fly.toml: env must be a table or a list of tables, found text"),
            "{said}"
        );
    }
}

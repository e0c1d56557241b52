//! What a command was told by arguments, by `config :fly_deploy`, by fly.toml and by the environment, as one; and of each value who
//! said it.
//!
//! Nothing is read here and nothing can fail: all four are there already. Whoever is named first in a list below is heard first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flyhot_events::Setting;
use flyhot_store::{ENDPOINT, REGION};

use super::duration;
use super::environment::{
    ACCESS_KEY_ID, CHECK_URL, Environment, FLY_ADDRESS, PUBLIC_KEYS, RELEASE_COOKIE, SECRET_ACCESS_KEY,
    Secret, Variable,
};
use super::fly::{FlyFile, Group};
use super::mix::Mix;
use super::trust::PUBLIC_KEYS_FILE;
use crate::cli::HomeArgs;

/// How many machines are upgraded at once. fly_deploy's own.
pub(crate) const MAX_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(20).unwrap();

/// How long the work on one machine may take. fly_deploy's own.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a busy process is waited for. fly_deploy's own.
pub(super) const SUSPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Those who say something, what they said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) args: &'a HomeArgs,
    pub(super) mix: &'a Mix,
    /// The file, and where it lies.
    pub(super) fly: Option<(&'a Path, &'a FlyFile)>,
    pub(super) environment: &'a Environment,
}

/// What goes before a variable, or is asked behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    /// The image brought a file of public keys.
    pub(super) public_keys: bool,
    /// There is a flyctl that could be asked for a token.
    pub(super) flyctl: bool,
}

/// Who said a value, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An argument.
    Argument(&'static str),
    /// A key of `config :fly_deploy`.
    Mix(String),
    /// A field of a fly.toml.
    Fly(PathBuf, String),
    /// A variable of the environment.
    Environment(&'static str),
    /// The project that a mix task runs in.
    Project(&'static str),
    /// A file of this machine, whoever uses it.
    File(&'static str),
    /// flyctl, once it is asked.
    Flyctl,
    /// Nobody; it is so where nobody says otherwise.
    Default,
}

impl Origin {
    /// Its stable name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Argument(_) => "argument",
            Self::Mix(_) => "mix",
            Self::Fly(..) => "fly",
            Self::Environment(_) => "environment",
            Self::Project(_) => "project",
            Self::File(_) => "file",
            Self::Flyctl => "flyctl",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(name) => f.write_str(name),
            Self::Mix(key) => write!(f, "config :fly_deploy, {key}"),
            Self::Fly(path, field) => write!(f, "{}: {field}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Project(key) => write!(f, "mix.exs: {key}"),
            Self::File(path) => f.write_str(path),
            Self::Flyctl => f.write_str("`fly auth token`"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value, and who said it.
#[derive(Debug, Clone)]
pub(crate) struct Said<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// Every value.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) app: Option<Said<String>>,
    /// Where nodes are asked for that nobody names.
    pub(crate) inventory: Option<Origin>,
    pub(crate) store: Option<Said<PathBuf>>,
    pub(crate) bucket: Option<Said<String>>,
    pub(crate) endpoint: Said<String>,
    pub(crate) region: Said<String>,
    pub(crate) access_key_id: Option<Said<Secret>>,
    pub(crate) secret_access_key: Option<Said<Secret>>,
    /// Where the Machines API is.
    machines_api: Said<String>,
    /// Who has these; never what they are. Who needs one asks for it then.
    token: Option<Origin>,
    cookie: Option<Origin>,
    check_url: Option<Origin>,
    public_keys: Option<Origin>,
    pub(crate) primary_region: Option<Said<String>>,
    config: Option<Said<PathBuf>>,
    otp_app: Option<Said<String>>,
    version: Option<Said<String>>,
    binary_name: Option<Said<String>>,
    flyhot: Option<Said<String>>,
    pub(crate) max_concurrency: Said<NonZeroUsize>,
    pub(crate) timeout: Said<Duration>,
    pub(crate) suspend_timeout: Said<Duration>,
    /// The environment of machines.
    pub(crate) env: BTreeMap<String, Said<Secret>>,
    /// What only a fly.toml says, by the names of its fields.
    of_file: Vec<(String, Said<Shown>)>,
}

/// A value that may be seen, or one that may not.
#[derive(Debug, Clone)]
enum Shown {
    Open(String),
    Hidden,
}

impl<T> Said<T> {
    fn new(origin: Origin, value: T) -> Self {
        Self { value, origin }
    }

    /// Whether `config :fly_deploy` says it.
    pub(crate) fn is_by_mix(&self) -> bool {
        matches!(self.origin, Origin::Mix(_))
    }

    /// Whether it counts where a release says something else by its own `config :fly_deploy`.
    pub(crate) fn goes_before_a_release(&self) -> bool {
        matches!(self.origin, Origin::Argument(_) | Origin::Mix(_))
    }

    fn or_default(said: Option<Self>, value: T) -> Self {
        said.unwrap_or(Self {
            value,
            origin: Origin::Default,
        })
    }
}

impl Settings {
    pub(super) fn of(sources: Sources<'_>) -> Self {
        let Sources {
            args,
            mix,
            fly,
            environment,
        } = sources;
        let config = &mix.config;
        let argument = |name, value: &Option<String>| {
            value
                .clone()
                .map(|value| Said::new(Origin::Argument(name), value))
        };
        let of_mix = |key: &str, value: &Option<String>| {
            let value = value.clone()?;
            Some(Said::new(Origin::Mix(format!("{key}:")), value))
        };
        let of_fly = |field: &str, value: &dyn Fn(&FlyFile) -> Option<String>| {
            let (path, file) = fly?;
            Some(Said::new(
                Origin::Fly(path.to_owned(), field.to_owned()),
                value(file)?,
            ))
        };
        let variable = |name: &str| of_fly(&format!("env.{name}"), &|file| file.variable(name));
        let set = |variable: &Option<Variable>| {
            let variable = variable.as_ref()?;
            let value = variable.value.to_string_lossy().into_owned();
            Some(Said::new(Origin::Environment(variable.name), value))
        };
        let project =
            |key, value: &Option<String>| value.clone().map(|value| Said::new(Origin::Project(key), value));
        let hidden = |key: &str, of_mix: &Option<Secret>, name, set: &Option<Secret>| {
            let of_mix = of_mix
                .clone()
                .map(|value| Said::new(Origin::Mix(format!("{key}:")), value));
            of_mix.or_else(|| {
                set.clone()
                    .map(|value| Said::new(Origin::Environment(name), value))
            })
        };
        let has = |name, set: bool| set.then_some(Origin::Environment(name));
        let otp_app = of_mix("otp_app", &config.otp_app).or_else(|| project("app", &mix.app));
        let app = argument("--app", &args.app)
            // A machine knows whose it is: a fly.toml that lies in its image may be another deployment's.
            .or_else(|| {
                set(&environment.app).filter(|_| environment.machine.is_some() && args.config.is_none())
            })
            .or_else(|| of_fly("app", &|file| file.app.clone()))
            .or_else(|| set(&environment.app))
            .or_else(|| otp_app.clone());
        Self {
            // Every Mix project has a name, wherever it runs.
            inventory: app
                .as_ref()
                .filter(|app| !matches!(app.origin, Origin::Project(_)))
                .map(|app| app.origin.clone()),
            app,
            store: args
                .store
                .clone()
                .map(|store| Said::new(Origin::Argument("--store"), store)),
            bucket: argument("--bucket", &args.bucket)
                .or_else(|| of_mix("bucket", &config.bucket))
                .or_else(|| variable("AWS_BUCKET"))
                .or_else(|| variable("BUCKET_NAME"))
                .or_else(|| set(&environment.bucket)),
            endpoint: Said::or_default(
                argument("--endpoint", &args.endpoint)
                    .or_else(|| of_mix("aws_endpoint_url_s3", &config.endpoint))
                    .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
                    .or_else(|| set(&environment.endpoint)),
                ENDPOINT.to_owned(),
            ),
            region: Said::or_default(
                argument("--region", &args.region)
                    .or_else(|| of_mix("aws_region", &config.region))
                    .or_else(|| variable("AWS_REGION"))
                    .or_else(|| set(&environment.region)),
                REGION.to_owned(),
            ),
            access_key_id: hidden(
                "aws_access_key_id",
                &config.access_key_id,
                ACCESS_KEY_ID,
                &environment.access_key_id,
            ),
            secret_access_key: hidden(
                "aws_secret_access_key",
                &config.secret_access_key,
                SECRET_ACCESS_KEY,
                &environment.secret_access_key,
            ),
            machines_api: {
                let set = environment.fly_address.is_some();
                let origin = has(FLY_ADDRESS, set).unwrap_or(Origin::Default);
                Said::new(origin, environment.machines_api())
            },
            token: environment
                .fly_token
                .as_ref()
                .map(|(name, _)| Origin::Environment(name)),
            cookie: has(RELEASE_COOKIE, environment.release_cookie.is_some()),
            check_url: has(CHECK_URL, environment.check_url.is_some()),
            public_keys: has(PUBLIC_KEYS, environment.public_keys.is_some()),
            primary_region: of_fly("primary_region", &|file| file.primary_region.clone()),
            config: fly.map(|(path, _)| Said::new(file_origin(args, mix), path.to_owned())),
            version: project("version", &mix.version),
            binary_name: of_mix("binary_name", &config.binary_name).or_else(|| otp_app.clone()),
            otp_app,
            flyhot: of_mix("flyhot", &config.flyhot),
            max_concurrency: number("max_concurrency", config.max_concurrency, MAX_CONCURRENCY),
            timeout: number("timeout", config.timeout, TIMEOUT),
            suspend_timeout: number("suspend_timeout", config.suspend_timeout, SUSPEND_TIMEOUT),
            env: env(mix, fly),
            of_file: fly.map(|(path, file)| of_file(path, file)).unwrap_or_default(),
        }
    }

    /// The same, with what there is besides on a machine.
    pub(super) fn on(mut self, here: Here) -> Self {
        if here.flyctl {
            self.token.get_or_insert(Origin::Flyctl);
        }
        if here.public_keys {
            self.public_keys = Some(Origin::File(PUBLIC_KEYS_FILE));
        }
        self
    }

    /// What must not be told, whoever says it.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let keys = [&self.access_key_id, &self.secret_access_key]
            .into_iter()
            .flatten();
        let secrets = keys.chain(self.env.values());
        secrets.map(|said| said.value.clone()).collect()
    }

    /// Every value in the order in which it is shown. Where `explained`, with who said it.
    pub(crate) fn shown(&self, explained: bool) -> Vec<Setting> {
        let mut shown = Vec::new();
        let mut show = |name: &str, said: Option<(Shown, &Origin)>| {
            let origin = said.as_ref().map(|(_, origin)| *origin).filter(|_| explained);
            let secret = matches!(said, Some((Shown::Hidden, _)));
            shown.push(Setting {
                name: name.to_owned(),
                value: said.and_then(|(value, _)| match value {
                    Shown::Open(text) => Some(text),
                    Shown::Hidden => None,
                }),
                secret,
                origin: origin.map(|origin| origin.name().to_owned()),
                place: origin.map(ToString::to_string),
            });
        };
        show("app", text(&self.app));
        let fly = || Shown::Open("fly".to_owned());
        show("inventory", self.inventory.as_ref().map(|origin| (fly(), origin)));
        show("primary_region", text(&self.primary_region));
        show("config", path(&self.config));
        show("store", path(&self.store));
        show("bucket", text(&self.bucket));
        show("endpoint", some(&self.endpoint, Clone::clone));
        show("region", some(&self.region, Clone::clone));
        show("access_key_id", hide(self.access_key_id.as_ref()));
        show("secret_access_key", hide(self.secret_access_key.as_ref()));
        show(
            "machines_api",
            some(&self.machines_api, Clone::clone).map(unless_password),
        );
        for (name, origin) in [
            ("token", &self.token),
            ("cookie", &self.cookie),
            ("check_url", &self.check_url),
            ("public_keys", &self.public_keys),
        ] {
            show(name, origin.as_ref().map(|origin| (Shown::Hidden, origin)));
        }
        show("otp_app", text(&self.otp_app));
        show("version", text(&self.version));
        show("binary_name", text(&self.binary_name));
        show("flyhot", text(&self.flyhot));
        show(
            "max_concurrency",
            some(&self.max_concurrency, ToString::to_string),
        );
        show("timeout", some(&self.timeout, |time| duration::show(*time)));
        show(
            "suspend_timeout",
            some(&self.suspend_timeout, |time| duration::show(*time)),
        );
        for (name, said) in &self.of_file {
            show(name, Some((said.value.clone(), &said.origin)));
        }
        for (name, said) in &self.env {
            show(&format!("env.{name}"), hide(Some(said)));
        }
        shown
    }
}

fn some<T>(said: &Said<T>, text: impl FnOnce(&T) -> String) -> Option<(Shown, &Origin)> {
    Some((Shown::Open(text(&said.value)), &said.origin))
}

fn open<T>(said: &Option<Said<T>>, text: impl FnOnce(&T) -> String) -> Option<(Shown, &Origin)> {
    said.as_ref().and_then(|said| some(said, text))
}

fn text(said: &Option<Said<String>>) -> Option<(Shown, &Origin)> {
    open(said, Clone::clone)
}

fn path(said: &Option<Said<PathBuf>>) -> Option<(Shown, &Origin)> {
    open(said, |path| path.display().to_string())
}

fn hide(said: Option<&Said<Secret>>) -> Option<(Shown, &Origin)> {
    said.map(|said| (Shown::Hidden, &said.origin))
}

/// A URL may have a password before its host; with one the API is not asked, but it would be seen.
fn unless_password((shown, origin): (Shown, &Origin)) -> (Shown, &Origin) {
    match shown {
        Shown::Open(url) if url.contains('@') => (Shown::Hidden, origin),
        shown => (shown, origin),
    }
}

/// Who named the fly.toml.
fn file_origin(args: &HomeArgs, mix: &Mix) -> Origin {
    match (&args.config, &mix.config.fly_config) {
        (Some(_), _) => Origin::Argument("--config"),
        (None, Some(_)) => Origin::Mix("fly_config:".to_owned()),
        (None, None) => Origin::Default,
    }
}

fn number<T>(key: &str, of_mix: Option<T>, default: T) -> Said<T> {
    let said = of_mix.map(|value| Said::new(Origin::Mix(format!("{key}:")), value));
    Said::or_default(said, default)
}

/// The environment of machines: each variable by itself.
fn env(mix: &Mix, fly: Option<(&Path, &FlyFile)>) -> BTreeMap<String, Said<Secret>> {
    let of_fly = fly.into_iter().flat_map(|(path, file)| {
        let said = move |name: &String| Origin::Fly(path.to_owned(), format!("env.{name}"));
        file.env
            .iter()
            .map(move |(name, value)| (name.clone(), Said::new(said(name), value.clone())))
    });
    let of_mix = mix.config.env.iter().map(|(name, value)| {
        let origin = Origin::Mix(format!("env: {name}"));
        (name.clone(), Said::new(origin, value.clone()))
    });
    // Of two with one name the later one stays.
    of_fly.chain(of_mix).collect()
}

fn of_file(path: &Path, file: &FlyFile) -> Vec<(String, Said<Shown>)> {
    let said = |field: &str, value| {
        (
            field.to_owned(),
            Said::new(Origin::Fly(path.to_owned(), field.to_owned()), value),
        )
    };
    let build = &file.build;
    let of_build = [
        ("build.image", &build.image),
        ("build.dockerfile", &build.dockerfile),
        ("build.ignorefile", &build.ignorefile),
        ("build.build-target", &build.target),
    ];
    let of_build = of_build
        .into_iter()
        .filter_map(|(field, value)| Some(said(field, Shown::Open(value.clone()?))));
    let args = build
        .args
        .keys()
        .map(|name| said(&format!("build.args.{name}"), Shown::Hidden));
    let groups = file.groups().into_iter().map(|group| {
        let (name, value) = (format!("group.{}", group.name), Shown::Open(described(&group)));
        (
            name,
            Said::new(Origin::Fly(path.to_owned(), "processes".to_owned()), value),
        )
    });
    of_build.chain(args).chain(groups).collect()
}

fn described(group: &Group<'_>) -> String {
    let listed = |one: &str, many: &str, names: BTreeSet<String>| match names.len() {
        0 => None,
        1 => Some(format!("{one} {}", Vec::from_iter(names).join(", "))),
        _ => Some(format!("{many} {}", Vec::from_iter(names).join(", "))),
    };
    let ports = listed(
        "port",
        "ports",
        group.ports.iter().map(ToString::to_string).collect(),
    );
    let checks = listed(
        "check",
        "checks",
        group.checks.iter().map(ToString::to_string).collect(),
    );
    let command = group.command.unwrap_or("the image's command").to_owned();
    let ports = ports.unwrap_or_else(|| "no port".to_owned());
    let words = [Some(command), Some(ports), checks, group.size.map(str::to_owned)];
    words.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;

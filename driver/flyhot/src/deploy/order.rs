//! What is to be deployed, and how, by arguments, configuration and environment: asked once, before anything is done.

use std::collections::BTreeMap;
use std::time::Duration;

use flyhot_events::Event;
use serde_json::json;

use super::memory::memory_mb;
use crate::build::{self, Builder, Cache, Source};
use crate::cli::WorkArgs;
use crate::cli::deploy::DeployArgs;
use crate::doctor::StoreTold;
use crate::drive::NodeError;
use crate::errors;
use crate::options::fly::FlyFile;
use crate::options::{self, Environment, HomeError, MIX, ORDERED_CHECK_URL, Project, Said, Secret, Settings};

/// Who keeps the images of Fly.io.
const REGISTRY: &str = "registry.fly.io";

/// flyhot in the image, where its `CMD` finds it too.
pub(crate) const PROGRAM: &str = "flyhot";

/// A deploy.
pub(super) struct Order {
    pub(super) app: String,
    /// Where the orchestrator is made.
    pub(super) region: Option<String>,
    /// An image that is there.
    pub(super) image: Option<String>,
    /// How one is built.
    pub(super) build: Option<build::Order>,
    /// What the machine of the orchestrator has.
    pub(super) memory_mb: u32,
    /// What runs on it.
    pub(super) command: Vec<String>,
    /// Its environment: secrets are among the values.
    pub(super) env: BTreeMap<String, String>,
    /// What is said here of the store.
    pub(super) store: StoreTold,
    config: String,
}

impl Order {
    pub(super) fn new(args: &DeployArgs, environment: &Environment) -> Result<Self, NodeError> {
        let usage = |error| errors::options(&error);
        crate::roll::terms(&args.lock)?;
        options::accepted(&args.work).map_err(usage)?;
        let Project { settings, path, file } = options::project(&args.home, environment).map_err(usage)?;
        if settings.store.is_some() {
            return Err(errors::store_goes_with_it());
        }
        let Some(app) = settings.app.as_ref().map(|app| app.value.clone()) else {
            return Err(usage(HomeError::NoApp.into()));
        };
        let (image, build) = match Source::of(args.image.as_deref(), &file) {
            Source::Taken(image) => (Some(image), None),
            Source::Built => (
                None,
                Some(build::Order {
                    path: environment.path.clone().unwrap_or_default(),
                    app: app.clone(),
                    config: path.clone(),
                    registry: environment
                        .registry
                        .as_ref()
                        .map_or_else(|| REGISTRY.into(), |host| host.to_string_lossy().into_owned()),
                    args: args.build_arg.clone(),
                    cache: if args.no_cache {
                        Cache::Ignored
                    } else {
                        Cache::Used
                    },
                    builder: if args.buildkit {
                        Builder::BuildKit
                    } else {
                        Builder::Default
                    },
                    secrets: secrets(args, &settings, &file),
                }),
            ),
        };
        let check_url = environment.check_url(args.waves.check_url.as_deref());
        Ok(Self {
            app,
            region: settings
                .primary_region
                .as_ref()
                .map(|region| region.value.clone()),
            image,
            build,
            memory_mb: memory_mb(args.memory.mb, args.waves.at_once(settings.max_concurrency.value)),
            command: words(args, &settings),
            env: env(&settings, environment, check_url.as_deref()),
            store: StoreTold::of(Some(&settings), None, true),
            config: path.display().to_string(),
        })
    }

    /// What will be done, or would be.
    pub(super) fn said(&self, dry_run: bool) -> Event {
        Event::Deploy {
            app: self.app.clone(),
            config: self.config.clone(),
            image: self.image.clone(),
            region: self.region.clone(),
            command: self.command.clone(),
            env: self.env.keys().cloned().collect(),
            dry_run,
        }
    }
}

/// What lines of the build must not tell.
fn secrets(args: &DeployArgs, settings: &Settings, file: &FlyFile) -> Vec<Secret> {
    let values = args.build_arg.iter().filter_map(|arg| arg.split_once('='));
    let typed = values.map(|(_, value)| Secret(value.into()));
    let of_file = file.build.args.values().cloned();
    settings
        .secrets()
        .into_iter()
        .chain(typed)
        .chain(of_file)
        .collect()
}

/// The environment of an orchestrator: what all machines of the app have, and what is known here alone.
pub(crate) fn env(
    settings: &Settings,
    environment: &Environment,
    check_url: Option<&str>,
) -> BTreeMap<String, String> {
    let variables = settings.env.iter();
    let mut env: BTreeMap<String, String> = variables
        .map(|(name, said)| (name.clone(), said.value.text()))
        .collect();
    if let Some(said) = said_by_mix(settings) {
        env.insert(MIX.to_owned(), said);
    }
    if let Some(url) = check_url {
        env.insert(ORDERED_CHECK_URL.to_owned(), url.to_owned());
    }
    // Whoever is kept out by the lock is told who holds it.
    if let Some(user) = &environment.user {
        env.insert("USER".to_owned(), user.to_string_lossy().into_owned());
    }
    env
}

/// What `config :fly_deploy` says here and nobody does there, as a mix task hands it over. As variables of AWS the keys would be those
/// of the app's secrets, which go before the environment that a machine is made with. Keys of this environment are this machine's.
fn said_by_mix(settings: &Settings) -> Option<String> {
    let key = |said: &Option<Said<Secret>>| {
        let said = said.as_ref().filter(|said| said.is_by_mix());
        said.map(|said| json!(said.value.text()))
    };
    let time = |said: &Said<Duration>| said.is_by_mix().then(|| json!(said.value.as_millis()));
    let at_once = &settings.max_concurrency;
    let said = [
        ("aws_access_key_id", key(&settings.access_key_id)),
        ("aws_secret_access_key", key(&settings.secret_access_key)),
        (
            "max_concurrency",
            at_once.is_by_mix().then(|| json!(at_once.value)),
        ),
        ("timeout", time(&settings.timeout)),
        ("suspend_timeout", time(&settings.suspend_timeout)),
    ];
    let said: serde_json::Map<_, _> = said
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect();
    (!said.is_empty()).then(|| json!({ "v": 1, "config": said }).to_string())
}

/// How an orchestrator is called, whatever it is to do.
pub(crate) fn orchestrate() -> Vec<String> {
    let words = [PROGRAM, "orchestrate", "--inventory", "fly", "--output", "json"];
    // What is asked of it, and what it says, may be of another version than is understood.
    let version = ["--asked-by", crate::VERSION];
    words.into_iter().chain(version).map(str::to_owned).collect()
}

/// Where the store is, as far as it was said here.
pub(crate) fn store_words(settings: &Settings) -> Vec<String> {
    let mut words = Vec::new();
    let texts = [
        ("--bucket", settings.bucket.as_ref()),
        ("--endpoint", Some(&settings.endpoint)),
        ("--region", Some(&settings.region)),
    ];
    for (name, said) in texts {
        // What stands in fly.toml it has in its environment, and of what is set here nobody knows whether it is meant for there.
        if let Some(said) = said.filter(|said| said.goes_before_a_release()) {
            words.extend([name.to_owned(), said.value.clone()]);
        }
    }
    words
}

/// The words of the orchestrator: everything that was said here and is not known there. No secret is among them.
fn words(args: &DeployArgs, settings: &Settings) -> Vec<String> {
    let mut words = orchestrate();
    words.extend(store_words(settings));
    let mut say = |name: &str, value: Option<String>| {
        words.push(name.to_owned());
        words.extend(value);
    };
    let time = |time: Duration| Some(format!("{}ms", time.as_millis()));
    let waves = &args.waves;
    if waves.sequential {
        say("--sequential", None);
    } else {
        let at_once = waves.at_once(settings.max_concurrency.value);
        say("--max-concurrency", Some(at_once.to_string()));
    }
    say("--timeout", time(waves.timeout.unwrap_or(settings.timeout.value)));
    say(
        "--quiesce-timeout",
        time(args.suspend_timeout.unwrap_or(settings.suspend_timeout.value)),
    );
    let WorkArgs {
        window_budget,
        revert_budget,
        freeze_attempts,
        in_flight,
        drain_timeout,
        kill_lingerers,
        policy,
        require_way_back,
        drain_entry,
        accept,
        no_rehearsal,
        no_persist,
    } = &args.work;
    say("--window-budget", time(*window_budget));
    say("--revert-budget", time(*revert_budget));
    say("--freeze-attempts", Some(freeze_attempts.to_string()));
    say("--in-flight", Some(in_flight.to_string()));
    say("--drain-timeout", time(*drain_timeout));
    if let Some(policy) = policy {
        say("--policy", Some(policy.display().to_string()));
    }
    for code in accept {
        say("--accept", Some(code.clone()));
    }
    for (name, is_said) in [
        ("--kill-lingerers", kill_lingerers),
        ("--require-way-back", require_way_back),
        ("--drain-entry", drain_entry),
        ("--no-rehearsal", no_rehearsal),
        ("--no-persist", no_persist),
    ] {
        if *is_said {
            say(name, None);
        }
    }
    if waves.canary {
        say("--canary", None);
        say("--bake", time(waves.bake));
    }
    if args.no_rollback {
        say("--no-rollback", None);
    }
    if args.key_file.is_some() {
        say("--await-signature", None);
    }
    say("--lock-timeout", time(args.lock.lock_timeout));
    say("--lock-wait", time(args.lock.lock_wait));
    if args.lock.force {
        say("--force", None);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::options::Secret;

    const FILE: &str =
        "app = 'shop'\nprimary_region = 'fra'\n[env]\nPORT = 8080\nBUCKET_NAME = 'of-file'\nKEY = 'hidden'\n";

    fn order(words: &[&str], mix: &str) -> Order {
        tried(words, mix).unwrap()
    }

    fn tried(words: &[&str], mix: &str) -> Result<Order, NodeError> {
        let mix = format!(r#"{{"v": 1, "app": "shop", "config": {mix}}}"#);
        let environment = Environment {
            mix: Some(Secret(mix.into())),
            user: Some("alice".into()),
            ..Environment::default()
        };
        ordered(words, environment)
    }

    fn ordered(words: &[&str], environment: Environment) -> Result<Order, NodeError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("fly.toml"), FILE).unwrap();
        let config = directory.path().to_str().unwrap();
        let head = ["flyhot", "deploy", "--config", config];
        let cli = Cli::try_parse_from(head.iter().chain(words)).unwrap_or_else(|error| panic!("{error}"));
        let Verb::Deploy(args) = &cli.verb else {
            panic!("{cli:?}")
        };
        Order::new(args, &environment)
    }

    /// What stands behind an option.
    fn value(order: &Order, name: &str) -> Option<String> {
        let words = &order.command;
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1).cloned()
    }

    #[test]
    fn arguments_go_before_the_configuration_of_mix_and_that_before_defaults() {
        let mix = r#"{"max_concurrency": 3, "timeout": 1000, "suspend_timeout": 2000}"#;
        let args = [
            "--max-concurrency",
            "4",
            "--timeout",
            "5000",
            "--suspend-timeout",
            "6s",
        ];
        for (words, mix, expected) in [
            (&[][..], "{}", ["20", "60000ms", "10000ms"]),
            (&[], mix, ["3", "1000ms", "2000ms"]),
            (&args, mix, ["4", "5000ms", "6000ms"]),
        ] {
            let order = order(words, mix);
            let names = ["--max-concurrency", "--timeout", "--quiesce-timeout"];
            assert_eq!(names.map(|name| value(&order, name).unwrap()), expected);
        }
    }

    #[test]
    fn how_machines_are_worked_on_is_said_and_what_is_wrong_with_it_refused_here() {
        let told = order(
            &[
                "--accept",
                "memory",
                "--accept",
                "cover_compiled",
                "--kill-lingerers",
                "--drain-timeout",
                "7s",
                "--policy",
                "/app/flyhot.toml",
                "--window-budget",
                "3s",
            ],
            "{}",
        );
        for (name, expected) in [
            ("--drain-timeout", "7000ms"),
            ("--policy", "/app/flyhot.toml"),
            ("--window-budget", "3000ms"),
        ] {
            assert_eq!(value(&told, name).as_deref(), Some(expected), "{name}");
        }
        let words = &told.command;
        let count = |word: &str| words.iter().filter(|one| *one == word).count();
        assert_eq!(
            (
                count("--accept"),
                count("--kill-lingerers"),
                count("--no-persist")
            ),
            (2, 1, 0)
        );
        for wrong in [["--accept", "no_such_reason"], ["--window-budget", "5s"]] {
            assert!(tried(&wrong, "{}").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_could_not_be_done_is_refused_before_anything_is() {
        let Err(error) = tried(&["--store", "here"], "{}") else {
            panic!("it is taken")
        };
        assert!(error.message.contains("--store names a directory"), "{error:?}");
        let empty = Cli::try_parse_from(["flyhot", "deploy", "--skip-build", "--image", ""]);
        assert!(empty.is_err(), "{empty:?}");
    }

    #[test]
    fn images_lie_where_flyctl_pushes_them() {
        let build = |host: Option<&str>| {
            let environment = Environment {
                registry: host.map(Into::into),
                ..Environment::default()
            };
            ordered(&[], environment).unwrap().build.unwrap().registry
        };
        assert_eq!(build(None), "registry.fly.io");
        assert_eq!(build(Some("registry.example")), "registry.example");
    }

    #[test]
    fn arguments_of_a_build_are_not_told() {
        let told = order(&["--build-arg", "KEY=of_the_build"], "{}");
        let secrets = told.build.unwrap().secrets;
        assert!(secrets.iter().any(|secret| secret.text() == "of_the_build"));
    }

    #[test]
    fn what_is_said_here_is_known_there_and_no_secret_is_an_argument() {
        let plain = order(&[], "{}");
        // What stands in fly.toml is in its environment.
        assert_eq!(value(&plain, "--bucket"), None);
        assert_eq!(plain.env["BUCKET_NAME"], "of-file");
        assert_eq!((&*plain.app, plain.region.as_deref()), ("shop", Some("fra")));

        let mix = r#"{"bucket": "of-mix", "env": {"PORT": "9", "TOKEN": "hidden"}, "aws_access_key_id": "tid_hidden",
                      "aws_secret_access_key": "tsec_hidden"}"#;
        let told = order(
            &[
                "--canary",
                "--bake",
                "5m",
                "--sequential",
                "--check-url",
                "http://u:pw_hidden@{host}/?key=hidden",
                "--no-rollback",
                "--force",
                "--lock-timeout",
                "60",
                "--key-file",
                "here",
            ],
            mix,
        );
        for (name, expected) in [
            ("--bucket", "of-mix"),
            ("--bake", "300000ms"),
            ("--lock-timeout", "60000ms"),
        ] {
            assert_eq!(value(&told, name).as_deref(), Some(expected), "{name}");
        }
        let words = &told.command;
        for word in [
            "--canary",
            "--sequential",
            "--no-rollback",
            "--force",
            "--await-signature",
        ] {
            assert!(words.iter().any(|one| one == word), "{word}");
        }
        assert_eq!(value(&told, "--max-concurrency"), None);
        let said = told.said(true);
        let Event::Deploy { env: names, .. } = &said else {
            panic!("{said:?}")
        };
        let env = &told.env;
        assert!(names.iter().eq(env.keys()), "{names:?}");
        let said = format!("{words:?} {said:?}");
        assert!(!said.contains("hidden") && !said.contains("here\""), "{said}");
        for (name, expected) in [
            ("PORT", "9"),
            ("TOKEN", "hidden"),
            ("USER", "alice"),
            (
                "FLYHOT_ORDERED_CHECK_URL",
                "http://u:pw_hidden@{host}/?key=hidden",
            ),
        ] {
            assert_eq!(env[name], expected, "{name}");
        }
        // Secrets of the app have the names of AWS, and would go before these.
        assert!(
            !env.keys().any(|name| name.starts_with("AWS_")),
            "{:?}",
            env.keys()
        );
        let there = Environment {
            mix: Some(Secret(env["FLYHOT_MIX"].clone().into())),
            access_key_id: Some(Secret("of-the-app".into())),
            secret_access_key: Some(Secret("of-the-app".into())),
            ..Environment::default()
        };
        let settings = options::settings(&crate::cli::HomeArgs::default(), &there).unwrap();
        let keys = [settings.access_key_id, settings.secret_access_key];
        assert_eq!(
            keys.map(|key| key.unwrap().value.text()),
            ["tid_hidden", "tsec_hidden"]
        );
        // The orchestrator takes what it is given.
        let cli = Cli::try_parse_from(
            words
                .iter()
                .filter(|word| !["--inventory", "fly"].contains(&word.as_str()))
                .map(String::as_str)
                .chain(["--node", "a@h"]),
        );
        assert!(cli.is_ok(), "{}", cli.unwrap_err());
    }
}

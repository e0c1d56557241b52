//! Who is heard, of all who may say a value: each set of them.

use super::*;
use crate::options::Format;

/// Who may say a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    Argument(&'static str),
    Mix(&'static str),
    /// A field of fly.toml, from the top on.
    Fly(&'static str),
    Environment(&'static str),
    Project(&'static str),
}

use Voice::{Argument, Environment as Variables, Fly, Mix as Config, Project};

/// Each value, with those who are heard, the first one first; and what it is where nobody says anything.
const ORDERS: [(&str, &[Voice], Option<&str>); 22] = [
    (
        "app",
        &[
            Argument("--app"),
            Fly("app"),
            Variables("FLY_APP_NAME"),
            Config("otp_app"),
            Project("app"),
        ],
        None,
    ),
    ("primary_region", &[Fly("primary_region")], None),
    ("store", &[Argument("--store")], None),
    (
        "bucket",
        &[
            Argument("--bucket"),
            Config("bucket"),
            Fly("env.AWS_BUCKET"),
            Fly("env.BUCKET_NAME"),
            Variables("BUCKET_NAME"),
        ],
        None,
    ),
    (
        "endpoint",
        &[
            Argument("--endpoint"),
            Config("aws_endpoint_url_s3"),
            Fly("env.AWS_ENDPOINT_URL_S3"),
            Variables("AWS_ENDPOINT_URL_S3"),
        ],
        Some("https://t3.storage.dev"),
    ),
    (
        "region",
        &[
            Argument("--region"),
            Config("aws_region"),
            Fly("env.AWS_REGION"),
            Variables("AWS_REGION"),
        ],
        Some("auto"),
    ),
    (
        "access_key_id",
        &[Config("aws_access_key_id"), Variables("AWS_ACCESS_KEY_ID")],
        None,
    ),
    (
        "secret_access_key",
        &[
            Config("aws_secret_access_key"),
            Variables("AWS_SECRET_ACCESS_KEY"),
        ],
        None,
    ),
    (
        "machines_api",
        &[Variables("FLY_FLAPS_BASE_URL")],
        Some("https://api.machines.dev"),
    ),
    ("token", &[Variables("FLY_API_TOKEN")], None),
    ("cookie", &[Variables("RELEASE_COOKIE")], None),
    ("check_url", &[Variables("FLYHOT_CHECK_URL")], None),
    ("public_keys", &[Variables("FLYHOT_PUBLIC_KEYS")], None),
    ("otp_app", &[Config("otp_app"), Project("app")], None),
    ("version", &[Project("version")], None),
    (
        "binary_name",
        &[Config("binary_name"), Config("otp_app"), Project("app")],
        None,
    ),
    ("flyhot", &[Config("flyhot")], None),
    ("max_concurrency", &[Config("max_concurrency")], Some("20")),
    ("timeout", &[Config("timeout")], Some("60s")),
    ("suspend_timeout", &[Config("suspend_timeout")], Some("10s")),
    ("env.POOL", &[Config("env: POOL"), Fly("env.POOL")], None),
    ("build.image", &[Fly("build.image")], None),
];

/// What is not shown, whoever says it.
const HIDDEN: [&str; 7] = [
    "access_key_id",
    "secret_access_key",
    "token",
    "cookie",
    "check_url",
    "public_keys",
    "env.POOL",
];

impl Voice {
    /// What it says, unlike all others, and how that is shown.
    fn words(self) -> (String, String) {
        match self {
            Config("max_concurrency") => ("7".into(), "7".into()),
            Config("timeout" | "suspend_timeout") => ("90000".into(), "90s".into()),
            voice => {
                let text = format!("said by {voice:?}").replace('"', "");
                (format!("{text:?}"), text)
            }
        }
    }

    fn origin(self) -> (&'static str, String) {
        match self {
            Argument(name) => ("argument", name.to_owned()),
            Config(key) if key.starts_with("env") => ("mix", format!("config :fly_deploy, {key}")),
            Config(key) => ("mix", format!("config :fly_deploy, {key}:")),
            Fly(field) => ("fly", format!("fly.toml: {field}")),
            Variables(name) => ("environment", name.to_owned()),
            Project(key) => ("project", format!("mix.exs: {key}")),
        }
    }
}

/// Those who speak, as they are read.
fn sources(voices: &[Voice]) -> (HomeArgs, Mix, FlyFile, Environment) {
    let mut args = HomeArgs::default();
    let mut environment = Environment::default();
    let (mut config, mut top, mut toml) = (Vec::new(), vec![r#""v": 1"#.to_owned()], String::new());
    for voice in voices {
        let (words, text) = voice.words();
        let variable = |name| {
            Some(Variable {
                name,
                value: text.clone().into(),
            })
        };
        match *voice {
            Argument("--app") => args.app = Some(text),
            Argument("--store") => args.store = Some(text.into()),
            Argument("--bucket") => args.bucket = Some(text),
            Argument("--endpoint") => args.endpoint = Some(text),
            Argument("--region") => args.region = Some(text),
            Variables(name @ "FLY_APP_NAME") => environment.app = variable(name),
            Variables(name @ "BUCKET_NAME") => environment.bucket = variable(name),
            Variables(name @ "AWS_ENDPOINT_URL_S3") => environment.endpoint = variable(name),
            Variables(name @ "AWS_REGION") => environment.region = variable(name),
            Variables("AWS_ACCESS_KEY_ID") => environment.access_key_id = Some(Secret(text.into())),
            Variables("AWS_SECRET_ACCESS_KEY") => environment.secret_access_key = Some(Secret(text.into())),
            Variables("FLY_FLAPS_BASE_URL") => environment.fly_address = Some(text.into()),
            Variables(name @ "FLY_API_TOKEN") => environment.fly_token = Some((name, Secret(text.into()))),
            Variables("RELEASE_COOKIE") => environment.release_cookie = Some(Secret(text.into())),
            Variables("FLYHOT_CHECK_URL") => environment.check_url = Some(Secret(text.into())),
            Variables("FLYHOT_PUBLIC_KEYS") => environment.public_keys = Some(text.into()),
            Config("env: POOL") => config.push(format!(r#""env": {{"POOL": {words}}}"#)),
            Config(key) => config.push(format!(r#""{key}": {words}"#)),
            Project(key) => top.push(format!(r#""{key}": {words}"#)),
            Fly(field) => toml.push_str(&format!("{field} = {words}\n")),
            other => panic!("{other:?}"),
        }
    }
    top.push(format!(r#""config": {{{}}}"#, config.join(", ")));
    let mix = Mix::parse(format!("{{{}}}", top.join(", ")).as_bytes()).unwrap();
    let file = FlyFile::parse(toml.as_bytes(), Format::Toml).unwrap();
    (args, mix, file, environment)
}

fn all() -> Vec<Voice> {
    let mut all = Vec::new();
    for voice in ORDERS.iter().flat_map(|(_, order, _)| order.iter()) {
        if !all.contains(voice) {
            all.push(*voice);
        }
    }
    all
}

fn settings(voices: &[Voice]) -> Settings {
    let (args, mix, file, environment) = sources(voices);
    Settings::of(Sources {
        args: &args,
        mix: &mix,
        fly: Some((Path::new("fly.toml"), &file)),
        environment: &environment,
    })
}

#[test]
fn of_all_who_say_a_value_the_first_is_heard() {
    let all = all();
    for (name, order, default) in ORDERS {
        for set in 0..1_u32 << order.len() {
            let speaks = |at: usize| set >> at & 1 == 1;
            let voices: Vec<_> = (0..order.len())
                .filter(|at| speaks(*at))
                .map(|at| order[at])
                .collect();
            // What others say of other values changes nothing.
            let others = all.iter().copied().filter(|voice| !order.contains(voice));
            for voices in [
                voices.clone(),
                others.chain(voices.iter().copied().rev()).collect(),
            ] {
                let shown = settings(&voices).shown(true);
                let said: Vec<_> = shown.iter().filter(|setting| setting.name == name).collect();
                let first = order.iter().find(|voice| voices.contains(voice));
                let hidden = first.is_some() && HIDDEN.contains(&name);
                let value = match first {
                    Some(_) if hidden => None,
                    Some(first) => Some(first.words().1),
                    None => default.map(str::to_owned),
                };
                let origin = match first {
                    Some(first) => Some(first.origin()),
                    None => default.map(|_| ("default", "default".to_owned())),
                };
                let Some(said) = said.first() else {
                    assert!(first.is_none() && name.contains('.'), "{name}: {voices:?}");
                    continue;
                };
                assert_eq!((&said.value, said.secret), (&value, hidden), "{name}: {voices:?}");
                let told = said.origin.as_deref().zip(said.place.clone());
                assert_eq!(told, origin, "{name}: {voices:?}");
            }
        }
    }
}

#[test]
fn every_value_has_an_order_and_without_explanation_no_origin() {
    let all = all();
    let settings = settings(&all);
    let shown = settings.shown(false);
    for setting in &shown {
        let known = ORDERS.iter().any(|(name, ..)| *name == setting.name);
        let of_file = setting.name.starts_with("env.") || setting.name.starts_with("group.");
        assert!(
            known || of_file || ["config", "inventory"].contains(&&*setting.name),
            "{} has no order",
            setting.name
        );
        assert_eq!((&setting.origin, &setting.place), (&None, &None));
    }
    let printed = format!("{settings:?} {shown:?}");
    for (_, order, _) in ORDERS.iter().filter(|(name, ..)| HIDDEN.contains(name)) {
        for voice in *order {
            assert!(!printed.contains(&voice.words().1), "{voice:?}");
        }
    }
}

#[test]
fn whoever_names_the_app_says_where_its_nodes_are_asked_for() {
    let shown = |voices: &[Voice]| {
        let shown = settings(voices).shown(true);
        let said = shown
            .into_iter()
            .find(|setting| setting.name == "inventory")
            .unwrap();
        (said.value, said.place)
    };
    let (_, order, _) = ORDERS.into_iter().find(|(name, ..)| *name == "app").unwrap();
    for voice in order {
        let expected = match voice {
            // Every Mix project has a name.
            Project(_) => (None, None),
            voice => (Some("fly".to_owned()), Some(voice.origin().1)),
        };
        assert_eq!(shown(&[*voice]), expected, "{voice:?}");
    }
    assert_eq!(shown(&[]), (None, None));
}

#[test]
fn a_file_of_keys_goes_before_the_variable_and_flyctl_is_asked_behind_it() {
    let here = Here {
        public_keys: true,
        flyctl: true,
    };
    let both = [Variables("FLY_API_TOKEN"), Variables("FLYHOT_PUBLIC_KEYS")];
    for (name, voices, origin, place) in [
        ("public_keys", &[][..], "file", "/etc/flyhot/public_keys"),
        ("public_keys", &both, "file", "/etc/flyhot/public_keys"),
        ("token", &[], "flyctl", "`fly auth token`"),
        ("token", &both, "environment", "FLY_API_TOKEN"),
    ] {
        let shown = settings(voices).on(here).shown(true);
        let said = shown.iter().find(|setting| setting.name == name).unwrap();
        let told = (said.origin.as_deref(), said.place.as_deref());
        assert_eq!(told, (Some(origin), Some(place)), "{name}");
        assert_eq!((&said.value, said.secret), (&None, true), "{name}");
    }
}

#[test]
fn a_machine_knows_whose_it_is_unless_somebody_names_a_file() {
    let (mut args, mix, file, mut environment) = sources(&[Fly("app"), Variables("FLY_APP_NAME")]);
    environment.machine = Some("148e4d55f74d89".into());
    let origin = |args: &HomeArgs| {
        let sources = Sources {
            args,
            mix: &mix,
            fly: Some((Path::new("fly.toml"), &file)),
            environment: &environment,
        };
        Settings::of(sources).app.unwrap().origin
    };
    assert_eq!(origin(&args), Origin::Environment("FLY_APP_NAME"));
    args.config = Some("fly.toml".into());
    assert_eq!(origin(&args), Origin::Fly("fly.toml".into(), "app".to_owned()));
}

#[test]
fn an_address_with_a_password_is_not_shown() {
    let environment = Environment {
        fly_address: Some("http://me:word@host".into()),
        ..Environment::default()
    };
    let settings = Settings::of(Sources {
        args: &HomeArgs::default(),
        mix: &Mix::default(),
        fly: None,
        environment: &environment,
    });
    let shown = settings.shown(true);
    let said = shown.iter().find(|setting| setting.name == "machines_api");
    assert_eq!(said.map(|said| (&said.value, said.secret)), Some((&None, true)));
}

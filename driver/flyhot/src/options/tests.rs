//! What becomes of arguments and environment.

use std::error::Error as _;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::Parser;
use flyhot_node::Cookie;

use super::*;
use crate::cli::Cli;

const COOKIE: &str = "c00kie";

/// A release with a cookie in it.
fn release() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("releases")).unwrap();
    fs::write(directory.path().join("releases/COOKIE"), COOKIE).unwrap();
    directory
}

fn with(release: &Path, words: &str, environment: &Environment) -> Result<Options, OptionsError> {
    let head = ["flyhot", "plan", "--release", release.to_str().unwrap()];
    let cli = Cli::try_parse_from(head.into_iter().chain(words.split_whitespace())).unwrap();
    let crate::cli::Verb::Plan(args) = &cli.verb else {
        panic!("{cli:?}")
    };
    Options::new(&args.nodes(), &args.app.home(), environment)
}

/// By which ports the first node is reached.
fn door(options: &Options) -> (Option<u16>, u16) {
    let door = &options.reach.nodes[0].door;
    (door.dist_port, door.epmd_port)
}

fn options(words: &str) -> Result<Options, OptionsError> {
    with(release().path(), words, &Environment::default())
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let options = options("--node a@h").unwrap();
    assert_eq!(options.window_budget, Duration::from_secs(2));
    assert_eq!(options.revert_budget, Duration::from_secs(2));
    assert_eq!(options.quiesce_timeout, Duration::from_secs(10));
    assert_eq!(options.drain_timeout, Duration::from_secs(30));
    assert_eq!((options.freeze_attempts, options.in_flight), (3, 1_000));
    assert_eq!(door(&options), (None, 4369));
    assert_eq!(options.lingerers, Lingerers::Refuse);
    assert_eq!(options.way_back, WayBackNeeded::Any);
    assert_eq!(options.entry, Entry::Open);
    assert_eq!(options.rehearsal, Rehearsal::On);
    assert_eq!(options.persist, Persist::On);
    assert_eq!(options.direction, Direction::Up);
    assert!(options.accept.is_empty());
}

#[test]
fn each_switch_turns_its_own_option() {
    let options = options(
        "--node a@h b@h --node c@h --kill-lingerers --require-way-back --drain-entry --no-rehearsal --no-persist --down \
         --accept memory --accept cover_compiled --dist-port 9100 --epmd-port 4370",
    )
    .unwrap();
    let names: Vec<_> = options
        .reach
        .nodes
        .iter()
        .map(|peer| peer.name.to_string())
        .collect();
    assert_eq!(names, ["a@h", "b@h", "c@h"]);
    assert_eq!(options.lingerers, Lingerers::Kill);
    assert_eq!(options.way_back, WayBackNeeded::Exact);
    assert_eq!(options.entry, Entry::Paused);
    assert_eq!(options.rehearsal, Rehearsal::Off);
    assert_eq!(options.persist, Persist::Off);
    assert_eq!(options.direction, Direction::Down);
    let by = || "by --accept".to_owned();
    assert_eq!(
        options.accept,
        [(ReasonCode::Memory, by()), (ReasonCode::CoverCompiled, by())].into()
    );
    assert_eq!(door(&options), (Some(9100), 4370));
}

#[test]
fn tls_takes_all_of_its_files_or_none() {
    for words in [
        "--dist-tls",
        "--tls-ca-file a",
        "--dist-tls --tls-ca-file a --tls-cert-file b",
        "--tls-ca-file a --tls-cert-file b --tls-key-file c",
    ] {
        let all = ["flyhot", "plan", "--release", "r", "--node", "a@h"].into_iter();
        assert!(
            Cli::try_parse_from(all.chain(words.split(' '))).is_err(),
            "{words}"
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let path = file.display();
    let words =
        format!("--node a@h --dist-tls --tls-ca-file {path} --tls-cert-file {path} --tls-key-file {path}");
    let refused = || options(&words).unwrap_err().to_string();
    assert_eq!(refused(), format!("--tls-ca-file {path}: cannot be read"));
    fs::write(
        &file,
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    let refusal = refused();
    assert!(
        refusal.starts_with(&format!("--tls-ca-file {path}: there is no certificate")),
        "{refusal}"
    );
    assert!(!refusal.contains("c2VjcmV0"), "{refusal}");
    fs::write(&file, vec![b' '; 1024 * 1024 + 1]).unwrap();
    assert_eq!(
        refused(),
        format!("--tls-ca-file {path}: longer than 1048576 bytes")
    );
}

#[test]
fn a_policy_file_is_read_where_it_is_named_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flyhot.toml");
    fs::write(
        &file,
        "[accept]\nmemory = \"swap\"\n[hosts]\npre = \"queue\"\n[gate]\ncall = \"shop:ready\"\n",
    )
    .unwrap();
    let place = file.display();
    let options = options(&format!(
        "--node a@h --accept memory --accept cover_compiled --policy {place}"
    ))
    .unwrap();
    assert_eq!(
        options.accept,
        [
            (ReasonCode::Memory, format!("in {place}: swap")),
            (ReasonCode::CoverCompiled, "by --accept".to_owned()),
        ]
        .into()
    );
    assert_eq!(options.hosts["pre"], ["queue"]);
    assert!(options.gate.is_some() && options.hooks == Hooks::default());

    // Not even one that lies in the release, or where the command runs.
    let release = release();
    fs::copy(&file, release.path().join("flyhot.toml")).unwrap();
    let options = with(release.path(), "--node a@h", &Environment::default()).unwrap();
    assert!(options.accept.is_empty() && options.hosts.is_empty() && options.gate.is_none());
}

#[test]
fn a_policy_file_that_cannot_be_used_names_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flyhot.toml");
    let words = format!("--node a@h --policy {}", file.display());
    let told = |content: Option<&[u8]>| {
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let error = options(&words).unwrap_err();
        assert!(!error.hint().is_empty());
        error.to_string()
    };
    let place = file.display();
    assert_eq!(
        told(None),
        format!("the policy file {place} cannot be read: No such file or directory (os error 2)")
    );
    assert_eq!(
        told(Some(b"[gate]\n  cal = 1\n")),
        format!("{place}:2:3: cal: [gate] has no such key")
    );
    assert_eq!(
        told(Some(b"[accept]\n\xff")),
        format!("{place}:2:1: not text: the byte 0xff is no UTF-8")
    );
    let long = vec![b'#'; usize::try_from(POLICY_FILE).unwrap() + 1];
    assert_eq!(
        told(Some(&long)),
        format!("the policy file {place} is longer than 1048576 bytes")
    );
}

#[test]
fn a_contradiction_is_told_with_the_next_step() {
    let table = [
        (
            "--node shop",
            "--node shop: not the name of an Erlang node",
            "shop@10.0.0.1",
        ),
        ("--node a@h b@h a@h", "--node a@h: named twice", "once"),
        (
            "--node a@h --window-budget 5s",
            "--window-budget 5s: must be above 0 and below 5s",
            "2s",
        ),
        (
            "--node a@h --window-budget 0s",
            "--window-budget 0s: must be above 0",
            "2s",
        ),
        (
            "--node a@h --accept cover_compild",
            "no reason has this code",
            "Did you mean --accept cover_compiled?",
        ),
        (
            "--node a@h --accept all",
            "no reason has this code",
            "cover_compiled, application_added,",
        ),
        (
            "--node a@h --accept nif_changed",
            "no option overrides this reason",
            "cover_compiled",
        ),
        (
            "--node a@h --accept drift",
            "refuses no upgrade",
            "cover_compiled",
        ),
    ];
    for (words, message, hint) in table {
        let error = options(words).unwrap_err();
        assert!(error.to_string().contains(message), "{words}: {error}");
        assert!(error.hint().contains(hint), "{words}: {}", error.hint());
    }
    assert!(options("--node a@h --window-budget 4999ms").is_ok());
}

#[test]
fn the_epmd_port_is_that_of_the_option_then_of_otp() {
    let environment = |port: &str| Environment {
        epmd_port: Some(OsString::from(port)),
        ..Environment::default()
    };
    let port = |words: &str, port: &str| {
        with(release().path(), words, &environment(port)).map(|options| door(&options).1)
    };
    assert_eq!(port("--node a@h", "24500").unwrap(), 24_500);
    assert_eq!(port("--node a@h --epmd-port 1", "nonsense").unwrap(), 1);
    for wrong in ["nonsense", "0", "65536"] {
        assert!(
            matches!(port("--node a@h", wrong), Err(OptionsError::EpmdPort(_))),
            "{wrong}"
        );
    }
}

#[test]
fn a_release_that_is_no_directory_is_refused() {
    let error = with(Path::new("/nowhere/shop"), "--node a@h", &Environment::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--release /nowhere/shop: there is no such directory"
    );
}

/// The cookie's text is not to be had, so it is compared as the type allows.
fn same(found: &Options, text: &str) -> bool {
    found.reach.nodes[0].door.cookie == Cookie::new(text.to_owned())
}

#[test]
fn the_cookie_comes_from_the_first_place_that_has_one() {
    let release = release();
    let home = tempfile::tempdir().unwrap();
    let bare = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".erlang.cookie"), "of_home\n").unwrap();
    let given = home.path().join("given");
    fs::write(&given, "given\n").unwrap();
    let environment = Environment {
        release_cookie: Some(Secret("of_environment".into())),
        home: Some(home.path().to_owned()),
        ..Environment::default()
    };
    let without = Environment {
        release_cookie: None,
        ..environment.clone()
    };
    let words = format!("--node a@h --cookie-file {}", given.display());
    for (root, words, environment, text, place) in [
        (&release, words.as_str(), &environment, "given", given.clone()),
        (
            &release,
            "--node a@h",
            &environment,
            "of_environment",
            "RELEASE_COOKIE".into(),
        ),
        (
            &release,
            "--node a@h",
            &without,
            COOKIE,
            release.path().join("releases/COOKIE"),
        ),
        (
            &bare,
            "--node a@h",
            &without,
            "of_home",
            home.path().join(".erlang.cookie"),
        ),
    ] {
        let found = with(root.path(), words, environment).unwrap();
        assert!(same(&found, text));
        assert_eq!(
            found.reach.nodes[0].door.cookie_place,
            place.display().to_string()
        );
    }
}

#[test]
fn a_cookie_that_cannot_be_used_names_its_place() {
    let release = release();
    let home = tempfile::tempdir().unwrap();
    let environment = Environment {
        home: Some(home.path().to_owned()),
        ..Environment::default()
    };
    let file = home.path().join("cookie");
    let words = format!("--node a@h --cookie-file {}", file.display());
    let refused = |content: &[u8]| {
        fs::write(&file, content).unwrap();
        with(release.path(), &words, &environment)
            .unwrap_err()
            .to_string()
    };
    let place = file.display().to_string();
    for (content, message) in [
        (&b"\n"[..], format!("the cookie file {place} is empty")),
        (b"", format!("the cookie file {place} is empty")),
        (
            b"a\nb",
            format!("the cookie in {place} is not one to 255 printable ASCII characters"),
        ),
        (
            b"\xff",
            format!("the cookie in {place} is not one to 255 printable ASCII characters"),
        ),
        (
            &[b'a'; 256],
            format!("the cookie in {place} is not one to 255 printable ASCII characters"),
        ),
    ] {
        assert_eq!(refused(content), message);
    }
    fs::remove_file(&file).unwrap();
    let error = with(release.path(), &words, &environment).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read the cookie file {place}"));
    assert!(error.source().unwrap().to_string().contains("No such file"));

    // An empty file in a place that was only looked at is no reason to try the next one either.
    fs::write(release.path().join("releases/COOKIE"), "").unwrap();
    let error = with(release.path(), "--node a@h", &environment).unwrap_err();
    assert!(error.to_string().ends_with("releases/COOKIE is empty"), "{error}");

    fs::remove_file(release.path().join("releases/COOKIE")).unwrap();
    let error = with(release.path(), "--node a@h", &environment)
        .unwrap_err()
        .to_string();
    for tried in [
        "--cookie-file",
        "RELEASE_COOKIE",
        "releases/COOKIE",
        ".erlang.cookie",
    ] {
        assert!(error.contains(tried), "{error}");
    }
}

#[test]
fn no_secret_is_printed() {
    let environment = Environment {
        release_cookie: Some(Secret("s3cret".into())),
        ..Environment::default()
    };
    let options = with(release().path(), "--node a@h", &environment).unwrap();
    assert!(!format!("{options:?} {environment:?}").contains("s3cret"));
}

/// What is known beforehand of an app on Fly.
fn on_fly(words: &str, environment: &Environment) -> Result<OnFly, OptionsError> {
    with(release().path(), words, environment).map(|options| {
        assert!(options.reach.nodes.is_empty());
        options.reach.fly.unwrap()
    })
}

#[test]
fn an_inventory_needs_an_app_and_a_token_and_nothing_more() {
    let environment = Environment {
        fly_token: Some(("FLY_API_TOKEN", Secret("fm2_s3cret".into()))),
        app: Some(Variable {
            name: "FLY_APP_NAME",
            value: "shop".into(),
        }),
        // One that is asked for on each machine is not taken from this one.
        home: Some("/nowhere".into()),
        ..Environment::default()
    };
    let on = on_fly("--inventory fly", &environment).unwrap();
    assert_eq!(
        (on.address.as_str(), on.root.as_str()),
        ("https://api.machines.dev", "/app")
    );
    assert_eq!(
        (on.app.to_string().as_str(), on.cookie.is_none(), on.epmd_port),
        ("shop", true, 4369)
    );
    let more = Environment {
        release_cookie: Some(Secret("s3cret".into())),
        release_root: Some("/srv/shop".into()),
        fly_address: Some("http://[fdaa::3]:4280".into()),
        ..environment.clone()
    };
    let on = on_fly("--inventory fly --app till --epmd-port 4370", &more).unwrap();
    assert_eq!(
        (on.address.as_str(), on.root.as_str()),
        ("http://[fdaa::3]:4280", "/srv/shop")
    );
    assert_eq!((on.app.to_string().as_str(), on.epmd_port), ("till", 4370));
    assert_eq!(on.cookie.as_ref().unwrap().1, "RELEASE_COOKIE");
    assert!(!format!("{on:?} {more:?}").contains("s3cret"));

    let error = on_fly("--inventory fly --app Shop", &environment).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the app, by --app: \"Shop\" is not the name"),
        "{error}"
    );
    let without = Environment {
        fly_token: None,
        ..environment.clone()
    };
    let error = on_fly("--inventory fly", &without).unwrap_err();
    assert!(
        matches!(error, OptionsError::Token(TokenError::Nowhere(_))),
        "{error}"
    );
}

#[test]
fn nodes_are_named_or_asked_for() {
    let parses = |words: &str| Cli::try_parse_from(words.split_whitespace()).is_ok();
    assert!(parses("flyhot status --inventory fly --app shop"));
    assert!(parses("flyhot status --node a@h"));
    // Whose they are may be known otherwise.
    assert!(parses("flyhot status"));
    assert!(parses("flyhot plan --image i"));
    for words in [
        "flyhot status --dist-port 9100",
        "flyhot plan --image i --node a@h",
        "flyhot status --inventory fly --node a@h",
        "flyhot status --inventory fly --dist-port 9100",
        "flyhot status --inventory nodes --node a@h",
        "flyhot status --node a@h --app shop",
    ] {
        assert!(!parses(words), "{words}");
    }
}

#[test]
fn nodes_that_nobody_names_are_those_of_the_app_that_is_known() {
    let nowhere = tempfile::tempdir().unwrap();
    let config = nowhere.path().to_str().unwrap();
    fs::write(nowhere.path().join("fly.toml"), "app = 'shop'").unwrap();
    let asked = |words: &str, environment: &Environment| {
        let words = ["flyhot"].into_iter().chain(words.split_whitespace());
        let mut verb = Cli::try_parse_from(words).unwrap().verb;
        complete(&mut verb, environment).map(|()| verb.asks().and_then(|(reach, _)| reach.inventory.clone()))
    };
    let on_machine = Environment {
        app: Some(Variable {
            name: "FLY_APP_NAME",
            value: "shop".into(),
        }),
        ..Environment::default()
    };
    let by_mix = |text: &str| Environment {
        mix: Some(Secret(text.into())),
        ..Environment::default()
    };
    let nothing = Environment::default();
    for words in [
        "status",
        "doctor",
        "rollback",
        "thaw",
        "restore-base",
        "plan --image i",
        "upgrade --release r",
        "rollout --release r",
        "orchestrate",
    ] {
        let by_file = format!("{words} --config {config}");
        for (words, environment) in [
            (words, &on_machine),
            (&*format!("{words} --app shop"), &nothing),
            (&by_file, &nothing),
            (words, &by_mix(r#"{"v": 1, "config": {"otp_app": "shop"}}"#)),
        ] {
            assert_eq!(
                asked(words, environment).unwrap(),
                Some(crate::cli::Inventory::Fly),
                "{words}"
            );
        }
        // That a Mix project has a name does not say that it is on Fly.io.
        for environment in [
            nothing.clone(),
            by_mix(r#"{"v": 1, "app": "shop", "config": {}}"#),
        ] {
            let error = asked(words, &environment).unwrap_err();
            assert!(matches!(error, OptionsError::NoNodes), "{words}: {error}");
            assert!(error.hint().contains("--node") && error.hint().contains("--app"));
        }
    }
    // A file of names is as good as naming them.
    let file = nowhere.path().join("nodes");
    fs::write(&file, "a@h # first\nb@h\n").unwrap();
    let by_file = format!("status --inventory {} --app shop", file.display());
    assert_eq!(asked(&by_file, &on_machine).unwrap(), None);
    let words = ["flyhot"].into_iter().chain(by_file.split_whitespace());
    let mut verb = Cli::try_parse_from(words).unwrap().verb;
    complete(&mut verb, &nothing).unwrap();
    assert_eq!(verb.asks().unwrap().0.node, ["a@h", "b@h"]);
    fs::write(&file, "a@h b@h").unwrap();
    let error = asked(&by_file, &nothing).unwrap_err();
    assert!(
        error.to_string().contains("nodes: line 1: \"a@h b@h\""),
        "{error}"
    );
    // Who is named is asked, whatever lies there.
    assert_eq!(asked("status --node a@h", &on_machine).unwrap(), None);
    assert_eq!(asked("history", &nothing).unwrap(), None);
    let broken = tempfile::tempdir().unwrap();
    fs::write(broken.path().join("fly.toml"), "app = 1").unwrap();
    let words = format!("status --config {}", broken.path().display());
    assert!(matches!(asked(&words, &nothing), Err(OptionsError::Home(_))));
}

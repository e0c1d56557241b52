//! `flyhot config` as a user meets it, and what becomes of that which a mix task hands over.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod support;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use flyhot_events::{Event, Line, Setting};
use support::golden;

const FLY: &str = r#"
app = "shop"
primary_region = "ams"
[env]
PORT = 8080
AWS_BUCKET = "of-fly"
SMTP_PASSWORD = "hidden_1"
[build]
dockerfile = "Dockerfile.prod"
[build.args]
TOKEN = "hidden_2"
[processes]
web = "bin/web"
worker = ""
[http_service]
internal_port = 8080
processes = ["web"]
[checks.alive]
type = "tcp"
processes = ["worker"]
[[vm]]
size = "shared-cpu-1x"
memory = "512mb"
"#;

const MIX: &str = r#"{"v": 1, "app": "shop_umbrella", "version": "1.2.3", "config": {"bucket": "of-mix", "aws_access_key_id":
    "hidden_3", "aws_secret_access_key": "hidden_4", "env": {"PORT": 9000, "POOL": "hidden_5"}, "timeout": 90000}}"#;

/// The binary in a directory with these files, with this environment alone.
fn flyhot(directory: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flyhot"))
        .args(args)
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a full pipe is waited for, with margin for a machine that does much else.
const GIVEN_UP: Duration = Duration::from_secs(30);

#[test]
fn nobody_who_does_not_read_keeps_it_from_a_signal() {
    // Each is told in some hundred bytes, all of them in more than any pipe holds.
    let nodes = (0..2_000).map(|n| format!("shop{n}@127.0.0.1"));
    let project = project(&[("cookie", "COOKIE")]);
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_flyhot"))
            .args([
                "status",
                "--output",
                "json",
                "--cookie-file",
                "cookie",
                "--epmd-port",
                "1",
                "--node",
            ])
            .args(nodes.clone())
            .current_dir(project.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut beginning = [0; 100];
    let mut standing = start();
    standing
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut beginning)
        .unwrap();
    // The pipe is full: 64 KiB (pipe(7)), each of which was counted as it was written (proc_pid_io(5)).
    let written = || {
        let io = fs::read_to_string(format!("/proc/{}/io", standing.id())).unwrap();
        let count = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        count.unwrap().parse::<u64>().unwrap()
    };
    let began = Instant::now();
    while written() < 64_000 {
        assert!(began.elapsed() < GIVEN_UP, "it says too little");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (began, told) = (Instant::now(), standing.id().to_string());
    while standing.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < GIVEN_UP, "it does not end");
        let sent = Command::new("kill").arg(&told).status();
        assert!(sent.is_ok());
        std::thread::sleep(Duration::from_millis(200));
    }
    // Who reads late has all of it.
    let mut late = start();
    let mut out = late.stdout.take().unwrap();
    out.read_exact(&mut beginning).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(late.wait().unwrap().code(), Some(24));
    assert!(rest.contains("shop1999@127.0.0.1") && rest.ends_with("}\n"));
    assert!(rest.lines().last().unwrap().contains(r#""event":"outcome""#));
}

fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn settings(output: &Output) -> Vec<Setting> {
    let line = |line: &str| serde_json::from_str::<Line>(line).unwrap().event;
    let settings = text(&output.stdout)
        .lines()
        .map(line)
        .find_map(|event| match event {
            Event::Config { settings } => Some(settings),
            _ => None,
        });
    settings.unwrap_or_else(|| panic!("{output:?}"))
}

fn value(output: &Output, name: &str) -> Option<String> {
    let settings = settings(output);
    settings.into_iter().find(|setting| setting.name == name)?.value
}

#[test]
fn every_value_is_shown_with_who_said_it_and_no_secret_is() {
    let directory = project(&[("fly.toml", FLY)]);
    let environment = [
        ("FLYHOT_MIX", MIX),
        ("BUCKET_NAME", "of-environment"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_SESSION_TOKEN", "hidden_6"),
        ("FLY_ACCESS_TOKEN", "hidden_7"),
        ("FLY_API_TOKEN", "hidden_8"),
        ("RELEASE_COOKIE", "hidden_9"),
        ("FLYHOT_CHECK_URL", "http://localhost/?hidden_10"),
        ("FLYHOT_PUBLIC_KEYS", "hidden_11"),
        ("FLY_FLAPS_BASE_URL", "http://[fdaa::3]:4280"),
    ];
    let args = ["config", "--explain", "--endpoint", "http://localhost:9000"];
    let explained = flyhot(directory.path(), &args, &environment);
    assert_eq!(explained.status.code(), Some(0), "{explained:?}");
    golden("config_explained.txt", text(&explained.stdout));
    let plain = flyhot(directory.path(), &["config"], &environment);
    golden("config.txt", text(&plain.stdout));
    let json = flyhot(directory.path(), &["config", "--output", "json"], &environment);
    assert_eq!(value(&json, "bucket").as_deref(), Some("of-mix"));
    let log = [&environment[..], &[("FLYHOT_LOG", "trace")]].concat();
    for output in [
        explained,
        plain,
        json,
        flyhot(
            directory.path(),
            &["config", "--explain", "--output", "json"],
            &log,
        ),
        flyhot(
            directory.path(),
            &["lock", "status", "--store", "/nonexistent"],
            &log,
        ),
    ] {
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!said.contains("hidden"), "{said}");
    }
}

#[test]
fn a_login_of_flyctl_is_named_and_not_asked() {
    let directory = project(&[("flyctl", "#!/bin/sh\ntouch asked\n")]);
    let at = |name: &str| directory.path().join(name);
    fs::set_permissions(at("flyctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let token = |environment: &[(&str, &str)]| {
        let args = ["config", "--explain", "--output", "json"];
        let output = flyhot(directory.path(), &args, environment);
        let settings = settings(&output).into_iter();
        let mut tokens = settings.filter(|setting| setting.name == "token");
        let token = tokens.next().unwrap();
        (token.secret, token.place)
    };
    let path = ("PATH", directory.path().to_str().unwrap());
    assert_eq!(token(&[path]), (true, Some("`fly auth token`".to_owned())));
    let told = [path, ("FLY_API_TOKEN", "fm2_a")];
    assert_eq!(token(&told), (true, Some("FLY_API_TOKEN".to_owned())));
    assert_eq!(token(&[]), (false, None));
    assert!(!at("asked").exists());
}

#[test]
fn the_environment_has_two_names_for_a_bucket_in_the_order_of_fly_toml() {
    let directory = project(&[]);
    let bucket = |environment: &[(&str, &str)]| {
        let output = flyhot(directory.path(), &["config", "--output", "json"], environment);
        value(&output, "bucket")
    };
    assert_eq!(bucket(&[]), None);
    assert_eq!(bucket(&[("AWS_BUCKET", "a")]).as_deref(), Some("a"));
    assert_eq!(
        bucket(&[("AWS_BUCKET", ""), ("BUCKET_NAME", "b")]).as_deref(),
        Some("b")
    );
    // A machine has both: the one from `[env]` of fly.toml, the other as a secret. A laptop has the file.
    let file = project(&[(
        "fly.toml",
        "app = 'shop'\n[env]\nAWS_BUCKET = 'a'\nBUCKET_NAME = 'b'\n",
    )]);
    let laptop = flyhot(file.path(), &["config", "--output", "json"], &[]);
    let machine = bucket(&[("AWS_BUCKET", "a"), ("BUCKET_NAME", "b")]);
    assert_eq!(
        (machine.as_deref(), value(&laptop, "bucket").as_deref()),
        (Some("a"), Some("a"))
    );
}

#[test]
fn a_file_lies_where_the_command_is_called_or_where_config_says() {
    let directory = project(&[
        ("fly.json", r#"{"app": "json"}"#),
        ("fly.yaml", "app: yaml"),
        ("fly.staging.toml", "app = 'staging'"),
    ]);
    let app = |args: &[&str]| {
        let args = [&["config", "--output", "json"], args].concat();
        value(&flyhot(directory.path(), &args, &[]), "app")
    };
    assert_eq!(app(&[]).as_deref(), Some("json"));
    assert_eq!(app(&["--config", "fly.staging.toml"]).as_deref(), Some("staging"));
    assert_eq!(app(&["--config", "."]).as_deref(), Some("json"));
    assert_eq!(
        app(&["--config", "fly.yaml", "--app", "mine"]).as_deref(),
        Some("mine")
    );
}

#[test]
fn what_is_wrong_is_told_in_one_sentence_with_the_next_step() {
    let directory = project(&[("fly.toml", "app = 'shop'\n[env]\nKEYS = ['hidden']\n")]);
    let mistyped = r#"{"v": 1, "config": {"buckets": "hidden"}}"#;
    for (args, mix, message, hint) in [
        (
            &["config"][..],
            "",
            "fly.toml: env.KEYS must be text, a number, true or false, found a list",
            "fly config validate",
        ),
        (
            &["config", "--config", "fly.staging.toml"],
            "",
            "fly.staging.toml cannot be read: No such file or directory (os error 2)",
            "--config",
        ),
        (
            &["config"],
            mistyped,
            "config :fly_deploy has no key buckets",
            "Did you mean bucket?",
        ),
        (
            &["history"],
            mistyped,
            "config :fly_deploy has no key buckets",
            "Did you mean bucket?",
        ),
        (
            &["history", "--app", "shop", "--bucket", "b"],
            "",
            "fly.toml: env.KEYS must be",
            "fly config validate",
        ),
    ] {
        let output = flyhot(directory.path(), args, &[("FLYHOT_MIX", mix)]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(said.contains(message) && said.contains(hint), "{said}");
        assert!(!said.contains("hidden"), "{said}");
    }
    // Where everything is named no file is looked for.
    let store = tempfile::tempdir().unwrap();
    let args = [
        "history",
        "--app",
        "shop",
        "--store",
        store.path().to_str().unwrap(),
    ];
    assert_eq!(flyhot(directory.path(), &args, &[]).status.code(), Some(0));
}

#[test]
fn no_program_that_is_started_gets_what_a_mix_task_handed_over() {
    let release = project(&[]);
    fs::create_dir_all(release.path().join("releases/1.0.0")).unwrap();
    fs::create_dir_all(release.path().join("bin")).unwrap();
    fs::write(release.path().join("releases/start_erl.data"), "13.1.5 1.0.0").unwrap();
    fs::write(
        release.path().join("releases/1.0.0/shop.rel"),
        r#"{release,{"shop","1.0.0"},{erts,"13.1.5"},[{kernel,"8.5.3"},{stdlib,"4.2"}]}."#,
    )
    .unwrap();
    fs::write(release.path().join("releases/1.0.0/start.boot"), "").unwrap();
    let store = tempfile::tempdir().unwrap();
    let (release, store) = (release.path().to_str().unwrap(), store.path().to_str().unwrap());
    let args = [
        "boot",
        "--release",
        release,
        "--store",
        store,
        "--app",
        "shop",
        "--",
        "env",
    ];
    let path = std::env::var("PATH").unwrap();
    let environment = [("FLYHOT_MIX", MIX), ("PATH", &path), ("KEPT", "yes")];
    let output = flyhot(Path::new("/"), &args, &environment);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    assert!(
        said.contains("KEPT=yes") && !said.contains("FLYHOT_MIX"),
        "{said}"
    );
}

//! The binary as a user or a script meets it, up to the first node.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use flyhot_events::{ErrorKind, Event, Line, OutcomeKind};
use support::golden;

/// The binary with an environment of its own.
fn flyhot(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flyhot"));
    command
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    flyhot(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Every line of standard output as an event, in order; all of version 1.
fn events(output: &Output) -> Vec<Event> {
    let line = |line: &str| {
        let line: Line = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line.v, 1);
        line.event
    };
    text(&output.stdout).lines().map(line).collect()
}

/// The smallest release: one version, OTP taken from the machine, one application of one module, a cookie.
fn release() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("releases/COOKIE", "c00kie");
    write("releases/start_erl.data", "13.1.5 1.0.0");
    write(
        "releases/1.0.0/shop.rel",
        r#"{release,{"shop","1.0.0"},{erts,"13.1.5"},[{kernel,"8.5.3"},{stdlib,"4.2"},{shop,"1.0.0"}]}."#,
    );
    write(
        "lib/shop-1.0.0/ebin/shop.app",
        r#"{application,shop,[{description,""},{vsn,"1.0.0"},{modules,[]},{registered,[]},{applications,[kernel,stdlib]}]}."#,
    );
    directory
}

/// Runs with `--output json` and checks what holds for every stream: one error, told once, and the outcome of the
/// same exit code as the last line. Returns the error's kind, message and hint.
fn refused(args: &[&str]) -> (ErrorKind, String, String) {
    let output = run(&[args, &["--output", "json"]].concat());
    let events = events(&output);
    let Some((Event::Outcome(outcome), rest)) = events.split_last() else {
        panic!("{output:?}")
    };
    assert_eq!(
        output.status.code(),
        Some(outcome.exit_code.0.into()),
        "{output:?}"
    );
    let mut errors = rest.iter().filter_map(|event| match event {
        Event::Error {
            kind, message, hint, ..
        } => Some((*kind, message.clone(), hint.clone())),
        _ => None,
    });
    let error = errors.next().unwrap_or_else(|| panic!("no error: {output:?}"));
    assert_eq!(errors.next(), None);
    assert_eq!(error.0.exit_code(), outcome.exit_code);
    assert_eq!(error.0.outcome(), outcome.outcome);
    assert!(!error.1.is_empty() && !error.2.is_empty(), "{error:?}");
    error
}

#[test]
fn help_is_what_the_golden_files_say() {
    for (name, args) in [
        ("help.txt", &["--help"][..]),
        ("help_upgrade.txt", &["upgrade", "--help"]),
        ("help_plan.txt", &["plan", "--help"]),
        ("help_status.txt", &["status", "--help"]),
        ("help_thaw.txt", &["thaw", "--help"]),
        ("help_doctor.txt", &["doctor", "--help"]),
        ("help_restore_base.txt", &["restore-base", "--help"]),
        ("help_pack.txt", &["pack", "--help"]),
        ("help_verify.txt", &["verify", "--help"]),
        ("help_unpack.txt", &["unpack", "--help"]),
        ("help_keygen.txt", &["keygen", "--help"]),
        ("help_sign.txt", &["sign", "--help"]),
        ("help_lock_status.txt", &["lock", "status", "--help"]),
        ("help_lock_release.txt", &["lock", "release", "--help"]),
        ("help_history.txt", &["history", "--help"]),
        ("help_config.txt", &["config", "--help"]),
        ("help_deploy.txt", &["deploy", "--help"]),
        ("help_events.txt", &["events", "--help"]),
        ("help_tell.txt", &["tell", "--help"]),
        ("help_boot.txt", &["boot", "--help"]),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0));
        golden(name, text(&output.stdout));
    }
}

#[test]
fn the_version_is_said() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        concat!("flyhot ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn options_that_do_not_parse_are_usage_errors_in_json_too() {
    for (args, message) in [
        (&["upgrade", "--node", "a@h"][..], "--release <DIR>"),
        (
            &["upgrade", "--release", ".", "--dist-port", "1"],
            "--node <NAME>",
        ),
        (&["downgrade"], "unrecognized subcommand 'downgrade'"),
        (
            &["plan", "--node", "a@h", "--release", ".", "--window-budget", "2"],
            "write 2ms, 2s, 2m or 2h",
        ),
        (
            &["plan", "--node", "a@h", "--release", ".", "--in-flight", "0"],
            "0 is not in 1..=1000000",
        ),
        (
            &["plan", "--node", "a@h", "--release", ".", "--dry-run"],
            "unexpected argument '--dry-run'",
        ),
        (
            &["plan", "--node", "a@h", "--release", ".", "--cookie", "secret"],
            "unexpected argument '--cookie'",
        ),
    ] {
        let (kind, said, _) = refused(args);
        assert_eq!(kind, ErrorKind::Usage);
        assert!(said.contains(message), "{args:?}: {said}");
        let output = run(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            output.stdout.is_empty() && text(&output.stderr).starts_with("error: "),
            "{output:?}"
        );
    }
}

#[test]
fn options_that_contradict_are_usage_errors() {
    let release = release();
    let dir = release.path().to_str().unwrap();
    let missing = release.path().join("missing");
    let missing = missing.to_str().unwrap();
    let policy = release.path().join("flyhot.toml");
    fs::write(&policy, "[hooks]\nbefor = []\n").unwrap();
    let policy = policy.to_str().unwrap();
    for (args, message, hint) in [
        (
            &["--release", dir][..],
            "neither nodes are named nor is an app",
            "by --node, or the app on Fly.io",
        ),
        (
            &["--release", dir, "--node", "shop"],
            "--node shop: not the name",
            "shop@10.0.0.1",
        ),
        (
            &["--release", dir, "--node", "a@h", "--window-budget", "5s"],
            "below 5s",
            "--window-budget 2s",
        ),
        (
            &["--release", dir, "--node", "a@h", "--accept", "cover_compild"],
            "no reason",
            "Did you mean",
        ),
        (
            &["--release", dir, "--node", "a@h", "--policy", policy],
            "flyhot.toml:2:1: befor: [hooks] has no such key",
            "Did you mean before?",
        ),
        (
            &["--release", missing, "--node", "a@h"],
            "no such directory",
            "mix release",
        ),
        (
            &["--release", dir, "--node", "a@h", "--cookie-file", missing],
            missing,
            "--cookie-file",
        ),
    ] {
        let (kind, said, next) = refused(&[&["upgrade"], args].concat());
        assert_eq!(kind, ErrorKind::Usage, "{args:?}");
        assert!(said.contains(message), "{args:?}: {said}");
        assert!(next.contains(hint), "{args:?}: {next}");
    }
}

#[test]
fn who_is_told_to_stop_while_it_waits_for_its_token_ends_as_by_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let said = directory.path().join("said");
    let store = directory.path().to_str().unwrap();
    let args = [
        "orchestrate",
        "--inventory",
        "fly",
        "--app",
        "shop",
        "--release",
        store,
        "--store",
        store,
        "--output",
        "json",
    ];
    let running = flyhot(&args)
        .env("FLYHOT_ORCHESTRATE", &said)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tell = || {
        let mut telling = flyhot(&["tell"])
            .env("FLYHOT_ORCHESTRATE", &said)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        telling
            .stdin
            .take()
            .unwrap()
            .write_all(b"{\"stop\":true}")
            .unwrap();
        telling.wait().unwrap().success()
    };
    // Until it is there nobody is told.
    while !tell() {}
    let output = running.wait_with_output().unwrap();
    let events = events(&output);
    let [Event::Error { kind, message, .. }, Event::Outcome(outcome)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((*kind, outcome.exit_code.0), (ErrorKind::Interrupted, 130));
    assert!(message.contains("`flyhot tell`"), "{message}");
    assert_eq!(output.status.code(), Some(130));
}

#[test]
fn a_refusal_lists_every_node_as_not_begun() {
    let args = [
        "upgrade",
        "--node",
        "a@h",
        "b@h",
        "--release",
        "/nonexistent",
        "--output",
        "json",
    ];
    let events = events(&run(&args));
    let [
        Event::Started { command, nodes, .. },
        Event::Error { .. },
        Event::Outcome(outcome),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((command.as_str(), nodes.len()), ("upgrade", 2));
    let ends: Vec<_> = outcome
        .nodes
        .iter()
        .map(|node| (node.node.as_str(), node.outcome))
        .collect();
    assert_eq!(
        ends,
        [("a@h", OutcomeKind::NotBegun), ("b@h", OutcomeKind::NotBegun)]
    );
}

#[test]
fn a_dry_run_is_a_plan() {
    let args = [
        "upgrade",
        "--dry-run",
        "--node",
        "a@h",
        "--release",
        "/nonexistent",
        "--output=json",
    ];
    let events = events(&run(&args));
    assert!(
        matches!(&events[0], Event::Started { command, .. } if command == "plan"),
        "{events:?}"
    );
}

#[test]
fn an_error_for_people_names_the_next_step_on_standard_error() {
    let output = run(&["plan", "--node", "a@h", "--release", "/nonexistent"]);
    assert_eq!(
        text(&output.stderr),
        "error: --release /nonexistent: there is no such directory\n  \
         next: Give the directory that `mix release` made, for example _build/prod/rel/shop.\n"
    );
    assert!(
        text(&output.stdout)
            .ends_with("refused (exit code 2: wrong options, configuration or a broken input file)\n")
    );
}

#[test]
fn a_reader_that_goes_away_changes_nothing() {
    let mut child = flyhot(&[
        "plan",
        "--node",
        "a@h",
        "--release",
        "/nonexistent",
        "--output",
        "json",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn people_are_told_of_an_error_when_standard_output_is_gone() {
    let mut child = flyhot(&["plan", "--node", "a@h", "--release", "/nonexistent"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).starts_with("error: --release /nonexistent"),
        "{output:?}"
    );
}

#[test]
fn a_broken_file_of_the_release_is_named() {
    let release = release();
    let beam = release.path().join("lib/shop-1.0.0/ebin/shop.beam");
    fs::write(&beam, "no beam").unwrap();
    let (kind, message, hint) = refused(&[
        "plan",
        "--node",
        "a@h",
        "--release",
        release.path().to_str().unwrap(),
    ]);
    assert_eq!(kind, ErrorKind::Usage);
    assert!(message.contains(beam.to_str().unwrap()), "{message}");
    assert!(hint.contains("Build the release again"), "{hint}");
}

#[test]
fn a_page_that_could_not_be_written_is_refused_first_and_the_file_is_named() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().to_str().unwrap();
    let link = place.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let absent = place.path().join("absent/page.html");
    for file in [
        absent.to_str().unwrap(),
        directory,
        link.to_str().unwrap(),
        "/dev/null",
        "/sys/page.html",
        "..",
    ] {
        for words in [
            &["upgrade", "--node", "a@h", "--release", "/nonexistent"][..],
            &[
                "rollout",
                "--node",
                "a@h",
                "--release",
                "/nonexistent",
                "--app",
                "shop",
            ],
            &["rollback", "--node", "a@h", "--app", "shop"],
            &["deploy", "--app", "shop"],
        ] {
            let (kind, message, hint) = refused(&[words, &["--report", file]].concat());
            assert_eq!(kind, ErrorKind::Usage);
            assert!(
                message.starts_with(&format!("cannot write {file}: ")),
                "{message}"
            );
            assert!(hint.contains("writable"), "{hint}");
        }
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_page_tells_of_a_failure_too_and_takes_the_place_of_the_one_before() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("page.html");
    fs::write(&file, "the one before").unwrap();
    let words = ["upgrade", "--node", "a@h", "--release", "/nonexistent"];
    let output = run(&[&words[..], &["--report", file.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let page = fs::read_to_string(&file).unwrap();
    for part in [
        "flyhot upgrade: ",
        "refused",
        "Exit code <b>2</b>",
        "/nonexistent",
        "next: ",
        "a@h",
        "not begun",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_page_that_cannot_be_written_in_the_end_changes_nothing_else() {
    let release = release();
    let place = tempfile::tempdir().unwrap();
    let pipe = release.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = flyhot(&["upgrade", "--node", "a@h", "--output", "json"])
        .arg("--release")
        .arg(release.path())
        .arg("--cookie-file")
        .arg(&pipe)
        .arg("--report")
        .arg(place.path().join("page.html"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.next().unwrap().unwrap();
    assert!(started.contains("\"started\""), "{started}");
    until_waiting(&child);
    place.close().unwrap();
    let kill = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    let last = lines.last().unwrap().unwrap();
    assert!(last.contains("\"outcome\"") && last.contains("130"), "{last}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains("cannot write") && said.contains("page.html"),
        "{said}"
    );
}

/// A node whose host has no epmd: the port was bound a moment ago, so nobody listens there.
#[test]
fn without_epmd_the_node_is_unreachable() {
    let release = release();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let dir = release.path().to_str().unwrap();
    let (kind, message, hint) = refused(&[
        "plan",
        "--node",
        "a@127.0.0.1",
        "--release",
        dir,
        "--epmd-port",
        &port,
    ]);
    assert_eq!(kind, ErrorKind::NodeUnreachable, "{message}");
    assert!(
        message.contains(&port) && hint.contains("epmd"),
        "{message} / {hint}"
    );
}

/// A cookie file that is a pipe nobody writes to: the command waits, and a signal must end it all the same.
#[test]
fn a_signal_ends_the_command_with_its_outcome() {
    for (signal, name) in [("-INT", "SIGINT"), ("-TERM", "SIGTERM")] {
        let release = release();
        let pipe = release.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let args = ["upgrade", "--node", "a@h", "--output", "json"];
        let mut command = flyhot(&args);
        command
            .arg("--release")
            .arg(release.path())
            .arg("--cookie-file")
            .arg(&pipe)
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let started = lines.next().unwrap().unwrap();
        assert!(started.contains("\"started\""), "{started}");
        until_waiting(&child);
        let kill = Command::new("kill")
            .arg(signal)
            .arg(child.id().to_string())
            .status()
            .unwrap();
        assert!(kill.success());
        let rest: Vec<_> = lines
            .map(|line| serde_json::from_str::<Line>(&line.unwrap()).unwrap().event)
            .collect();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let [Event::Error { kind, message, .. }, Event::Outcome(outcome)] = &rest[..] else {
            panic!("{rest:?}")
        };
        assert_eq!(*kind, ErrorKind::Interrupted);
        assert!(message.starts_with(name), "{message}");
        assert_eq!(outcome.exit_code, ErrorKind::Interrupted.exit_code());
    }
}

/// The command as a port of Erlang starts it for mix, with descriptors 3 and 4 as a shell is told.
fn by_port(args: &[&str], descriptors: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("exec \"$0\" \"$@\" {descriptors}")])
        .arg(env!("CARGO_BIN_EXE_flyhot"))
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("FLYHOT_PORT", "1")
        .env("FLYHOT_MIX", "{\"v\":1}")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

#[test]
fn the_end_of_mix_ends_the_command_with_its_outcome() {
    let release = release();
    let pipe = release.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = by_port(
        &["upgrade", "--node", "a@h", "--output", "json"],
        "3<&0 4<&0 0</dev/null",
    );
    command
        .arg("--release")
        .arg(release.path())
        .arg("--cookie-file")
        .arg(&pipe);
    let mut child = command.spawn().unwrap();
    let mix = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.next().unwrap().unwrap();
    assert!(started.contains("\"started\""), "{started}");
    until_waiting(&child);
    drop(mix);
    let rest: Vec<_> = lines
        .map(|line| serde_json::from_str::<Line>(&line.unwrap()).unwrap().event)
        .collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let [Event::Error { message, hint, .. }, Event::Outcome(_)] = &rest[..] else {
        panic!("{rest:?}")
    };
    assert!(
        message.starts_with("the end of mix: no node was under way"),
        "{message}"
    );
    assert!(hint.contains("same command again"), "{hint}");
}

/// Without a port there would be nobody whose end could be heard.
#[test]
fn a_port_that_is_none_is_refused() {
    for descriptors in [
        "3<&- 4>&-",
        "3</dev/null 4>/dev/null",
        "3<&0 4>&-",
        "3<&0 4>/dev/null",
    ] {
        let output = by_port(
            &[
                "pack",
                "--release",
                "/nonexistent",
                "--out",
                "/nonexistent/x",
                "--output",
                "json",
            ],
            descriptors,
        )
        .output()
        .unwrap();
        assert_eq!(output.status.code(), Some(2), "{descriptors}: {output:?}");
        let [Event::Error { message, hint, .. }, Event::Outcome(_)] = &events(&output)[..] else {
            panic!("{output:?}")
        };
        assert!(
            message.contains("FLYHOT_PORT") && hint.contains("Unset"),
            "{message} / {hint}"
        );
    }
}

/// What mix told flyhot it told nobody else.
#[test]
fn another_program_has_neither_the_port_nor_what_mix_told() {
    let release = tempfile::tempdir().unwrap();
    let at = |path: &str| release.path().join(path);
    fs::create_dir_all(at("bin")).unwrap();
    fs::create_dir_all(at("releases/1.0.0")).unwrap();
    fs::write(at("releases/start_erl.data"), "13.1 1.0.0\n").unwrap();
    fs::write(at("releases/1.0.0/start.boot"), "").unwrap();
    let script = "#!/bin/sh\nenv\nfor n in 3 4; do if [ -e /proc/$$/fd/$n ]; then echo open $n; fi; done\n";
    fs::write(at("bin/shop"), script).unwrap();
    fs::set_permissions(at("bin/shop"), fs::Permissions::from_mode(0o755)).unwrap();
    let program = at("bin/shop");
    let mut child = by_port(&["boot", "--", program.to_str().unwrap(), "start"], "3<&0 4<&0")
        .env("PATH", "/usr/bin:/bin")
        .spawn()
        .unwrap();
    let mix = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(mix);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("HOME=/nonexistent"), "{said}");
    let told: Vec<_> = said.lines().filter(|line| line.starts_with("FLYHOT_")).collect();
    assert!(
        matches!(told[..], [told] if told.starts_with("FLYHOT_BOOT=")) && !said.contains("open"),
        "{said}"
    );
}

/// Until the command sits in its second thread, the one that reads files: it listens to signals by then.
fn until_waiting(child: &Child) {
    let tasks = Path::new("/proc").join(child.id().to_string()).join("task");
    while fs::read_dir(&tasks).unwrap().count() < 2 {
        std::thread::yield_now();
    }
}

//! The mix tasks: what is typed reaches flyhot as it was typed, on the terminal of whoever typed it; mix ends as flyhot does, and when mix
//! ends first flyhot hears of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use flyhot_tests::{
    Fault, Flyhot, Otp, Project, Release, Rows, Run, Running, Scratch, Shop, Terminal, rounds, signal,
    wait_until, workspace,
};
use serde_json::{Value, json};

const NONE: [&str; 0] = [];

/// A loaded machine needs seconds for what takes milliseconds.
const SOON: Duration = Duration::from_secs(60);

fn kiosk() -> &'static Project {
    static KIOSK: OnceLock<Project> = OnceLock::new();
    KIOSK.get_or_init(|| Project::kiosk(Otp::under_test()))
}

fn fixture(name: &str) -> PathBuf {
    workspace().join("tests/fixtures/mix").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What takes the place of flyhot, and says by a file what it was given.
struct Witness {
    scratch: Scratch,
}

impl Witness {
    fn new() -> Self {
        Self {
            scratch: Scratch::new("witness"),
        }
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("said")
    }

    /// mix with it, in a directory of the kiosk, and what that one's configuration is to be.
    fn mix_in(&self, below: &str, config: &str) -> Flyhot {
        let file = self.scratch.path().join("config.exs");
        fs::write(&file, format!("import Config\n{config}\n")).unwrap();
        // Older than what is built, which mix would build again for a newer one.
        let opened = fs::File::options().write(true).open(&file).unwrap();
        opened.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        kiosk()
            .mix_in(below, &fixture("flyhot"))
            .env("KIOSK_CONFIG", text(&file))
            .env("WITNESS", text(&self.file()))
    }

    fn mix(&self, config: &str) -> Flyhot {
        self.mix_in("", config)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    fn lines(&self, begin: &str) -> Vec<String> {
        let said = self.said();
        let lines = said.lines().filter_map(|line| line.strip_prefix(begin));
        lines.map(str::to_owned).collect()
    }

    fn wait_for(&self, line: &str) {
        wait_until(&format!("the witness says {line}"), SOON, || {
            self.said().lines().any(|said| said == line)
        });
    }
}

fn script(name: &str, args: &[&str]) -> String {
    let said = kiosk().script(&fixture(name), args);
    assert!(said.ends_with("well\n"), "{name}:\n{said}");
    said
}

#[test]
fn what_is_typed_reaches_flyhot_as_it_was_typed() {
    let typed = [
        "--node",
        "a b",
        "q\"u'o`te$",
        "ü€😀",
        "--",
        "",
        "--help",
        "-h",
        "*",
        "\\",
        "--output=json",
        "\t",
    ];
    for locale in ["C.UTF-8", "C"] {
        let witness = Witness::new();
        let run = witness
            .mix("")
            .args(["fly_deploy.status"])
            .args(typed)
            .env("LC_ALL", locale)
            .run();
        assert_eq!(run.exit_code, Some(0), "{run}");
        assert_eq!(
            witness.lines("word "),
            [&["status"], &typed[..]].concat(),
            "{run}"
        );
    }

    // Every task, each with its own verb.
    let witness = Witness::new();
    let tasks = ["plan", "status", "rollback", "history", "lock", "doctor", "hot"];
    let mut mix = witness.mix("").args(["do"]);
    for task in tasks {
        mix = mix.args([&*format!("fly_deploy.{task}"), "x", "+"]);
    }
    let run = mix.args(["help", "fly_deploy.rollback"]).run();
    assert_eq!(run.exit_code, Some(0), "{run}");
    let verb = |task| if task == "hot" { "deploy" } else { task };
    let wanted: Vec<_> = tasks.iter().flat_map(|task| [verb(*task), "x"]).collect();
    assert_eq!(witness.lines("word "), wanted, "{run}");
    assert!(run.stdout.contains("Takes nodes back, hot"), "{run}");
}

#[test]
fn the_project_is_told_and_nobody_else_learns_its_secrets() {
    let witness = Witness::new();
    let config = r#"config :fly_deploy,
      bucket: "shop-releases", max_concurrency: 3, env: %{"NAME" => "ü\n"}, otp_app: :shop, nothing: nil,
      deep: [on: true, off: [1, 2.5]], aws_secret_access_key: "tsec_geheim""#;
    let running = witness
        .mix(config)
        .args(["fly_deploy.status", "--node", "a@h"])
        .env("WITNESS_WAITS", "yes")
        .spawn();
    witness.wait_for("begun");
    let told: Value = serde_json::from_str(&witness.lines("mix ")[0]).unwrap();
    let wanted = json!({
        "v": 1, "app": "kiosk", "version": "1.2.3",
        "config": {
            "bucket": "shop-releases", "max_concurrency": 3, "env": { "NAME": "ü\n" }, "otp_app": "shop", "nothing": null,
            "deep": { "on": true, "off": [1, 2.5] }, "aws_secret_access_key": "tsec_geheim",
        },
    });
    assert_eq!(told, wanted);
    assert_eq!(witness.lines("port "), ["1"]);
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        assert!(!words.contains("tsec_geheim"), "{words}");
    }
    let run = running.kill();
    witness.wait_for("ended");
    assert!(!run.to_string().contains("tsec_geheim"), "{run}");

    // In the middle of an umbrella there is no app.
    let witness = Witness::new();
    let run = witness
        .mix_in("umbrella", "")
        .args(["fly_deploy.status"])
        .env("WITNESS_EXIT", "20")
        .run();
    assert_eq!(run.exit_code, Some(20), "{run}");
    let told: Value = serde_json::from_str(&witness.lines("mix ")[0]).unwrap();
    assert_eq!(
        told,
        json!({ "v": 1, "app": null, "version": null, "config": {} })
    );
}

#[test]
fn mix_ends_as_flyhot_does() {
    let ended = |below: &str, args: &[&str], code: &str| {
        let witness = Witness::new();
        let run = witness
            .mix_in(below, "")
            .args(args.iter().copied())
            .env("WITNESS_EXIT", code)
            .run();
        assert_eq!(run.exit_code, code.parse().ok(), "{run}");
        run
    };
    for code in ["2", "12", "130"] {
        ended("", &["fly_deploy.plan"], code);
    }
    // What comes behind it is done where it went well.
    for (code, behind) in [("0", true), ("20", false)] {
        let run = ended("", &["look", "x"], code);
        assert_eq!(run.stdout.contains("and then this"), behind, "{run}");
    }
    ended("umbrella/apps/kiosk", &["fly_deploy.history"], "12");
}

#[test]
fn what_mix_says_is_explained_by_a_task() {
    let witness = Witness::new();
    let mix = witness.mix("config :fly_deploy, max_concurrency: 3, bucket: \"shop-releases\"");
    let mix = mix.env("FLYHOT_BIN", text(Flyhot::binary()));
    let run = mix
        .args(["fly_deploy.config", "--explain", "--output", "json"])
        .run();
    run.expect("done", 0);
    let said = run.events_named("config").next().unwrap().json["settings"].clone();
    for (name, value) in [("max_concurrency", "3"), ("bucket", "shop-releases")] {
        let mut settings = said.as_array().unwrap().iter();
        let setting = settings.find(|setting| setting["name"] == name).unwrap();
        assert_eq!(
            (&setting["value"], &setting["origin"]),
            (&value.into(), &"mix".into()),
            "{run}"
        );
    }
}

#[test]
fn flyhot_is_found_where_it_should_be_and_no_wrong_one_is_run() {
    let scratch = Scratch::new("places");
    fs::copy(fixture("flyhot"), scratch.path().join("right")).unwrap();
    let said = script("places.exs", &[text(scratch.path())]);
    let lines: Vec<_> = said.lines().collect();
    for (line, parts) in lines.iter().zip([
        &["flyhot is nowhere", "FLYHOT_BIN", "`make native`"][..],
        &["DIR/absent (FLYHOT_BIN) is not there"],
        &["DIR/plain (FLYHOT_BIN) may not be run", "chmod"],
        &[
            "DIR/other (FLYHOT_BIN) is flyhot 9.9.9",
            "fly_deploy is 0.1.0",
            "install flyhot 0.1.0",
        ],
        &["DIR/foreign (FLYHOT_BIN) is no flyhot"],
        &["DIR/fails (FLYHOT_BIN) is no flyhot"],
        &["DIR/machine (FLYHOT_BIN) is built for another kind of machine"],
        &["`config :fly_deploy, flyhot:` is no text"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }

    let refused = |witness: &Witness, mix: Flyhot, parts: &[&str]| {
        let run = mix.args(["fly_deploy.status"]).run();
        assert_eq!(run.exit_code, Some(2), "{run}");
        assert!(parts.iter().all(|part| run.stderr.contains(part)), "{run}");
        assert_eq!(run.stderr.lines().count(), 1, "{run}");
        assert!(!run.to_string().contains("geheim"), "{run}");
        assert_eq!(witness.said(), "", "{run}");
    };
    let witness = Witness::new();
    let other = witness.mix("").env("WITNESS_VERSION", "0.2.0");
    refused(
        &witness,
        other,
        &["is flyhot 0.2.0", "the package fly_deploy is 0.1.0"],
    );
    let secret = witness.mix("config :fly_deploy, env: %{\"KEY\" => {:system, \"geheim\"}}");
    refused(&witness, secret, &["at `env.KEY` is a tuple", "make it a text"]);
    let long = witness.mix("config :fly_deploy, bucket: String.duplicate(\"b\", 131_072)");
    refused(&witness, long, &["bytes long as JSON"]);
    // As long as it may be.
    let run = witness
        .mix("config :fly_deploy, bucket: String.duplicate(\"b\", 130_998)")
        .args(["fly_deploy.status"])
        .run();
    assert_eq!(run.exit_code, Some(0), "{run}");
    // What mix itself is still begun with, and flyhot not: it is told the configuration besides.
    let (words, configuration) = nearly_too_long();
    let run = witness
        .mix(&format!(
            "config :fly_deploy, bucket: String.duplicate(\"b\", {configuration})"
        ))
        .args(["fly_deploy.status"])
        .args(words.iter().map(String::as_str))
        .run();
    let said = &run.stderr;
    assert_eq!((run.exit_code, said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("together longer than the system"), "{said}");
}

/// Words that leave a program little room beside them, by what the system takes (execve(2)), and what is more than that room.
fn nearly_too_long() -> (Vec<String>, usize) {
    const ROOM: usize = 60_000;
    const WORD: usize = 100_000;
    let output = Command::new("getconf").arg("ARG_MAX").output().unwrap();
    let told: usize = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    // Three quarters of the usual stack, whatever the stack is.
    let whole = told.min(6 * 1024 * 1024) - ROOM;
    // Each has a byte behind it, and a place in the list of words.
    let beside = 1 + size_of::<usize>();
    let words = (0..whole).step_by(WORD).map(|at| {
        let length = WORD.min(whole - at).saturating_sub(beside);
        "x".repeat(length)
    });
    (words.collect(), 2 * ROOM)
}

#[test]
fn a_deploy_without_a_fly_toml_ends_in_one_sentence_with_the_fix() {
    let rows = Rows::of("mix");
    let hot = kiosk().mix(Flyhot::binary()).args(["fly_deploy.hot"]);
    rows.told("no fly.toml", &hot.args(["--output", "json"]).run(), 2);
}

#[test]
fn an_application_made_for_fly_deploy_starts_as_it_is() {
    script("child.exs", &[]);
}

#[test]
fn plain_data_becomes_json_and_nothing_else_does() {
    let said = script("json.exs", &[]);
    let read: Vec<Value> = said
        .lines()
        .take_while(|line| *line != "well")
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let (deep, rest) = read.split_last().unwrap();
    let wanted = [
        json!(null),
        json!([true, false]),
        json!(["atom", "Elixir.Shop.Cart", "with \"quotes\""]),
        serde_json::from_str("[0, -7, 123456789012345678901, 2.5, -1.0e-9, 1.0e30]").unwrap(),
        json!(""),
        json!("ASCII ~ and \" \\ / \u{7} \n \r \t \u{7f}"),
        json!("üß€ \u{2028} 😀 \u{10FFFF}"),
        json!([]),
        json!({}),
        json!({ "a": 1, "b": { "c": [], "d": {} } }),
        json!({ "text": 1, "atom": { "ü": null } }),
        json!([[], [1], [{ "a": [1, [2]] }]]),
        json!([108, 105, 115, 116]),
    ];
    assert_eq!(rest, wanted);
    assert_eq!(deep["50"][0]["49"][0]["48"][0]["47"].as_array().unwrap().len(), 1);
}

#[test]
fn what_a_project_needs_is_put_in_once_and_nothing_is_overwritten() {
    script("install.exs", &[]);

    // In a project: shown, then done, then nothing more to do.
    let project = Scratch::new("install");
    let at = |name: &str| project.path().join(name);
    fs::copy(kiosk().directory().join("mix.exs"), at("mix.exs")).unwrap();
    let dockerfile = "FROM x\nCOPY rel /app\nCMD [\"/app/bin/kiosk\", \"start\"]\n";
    fs::write(at("Dockerfile"), dockerfile).unwrap();
    fs::write(
        at("fly.toml"),
        "app = \"kiosk\"\n[processes]\napp = \"/app/bin/server\"\n",
    )
    .unwrap();
    let install = |args: &[&str]| {
        let run = Witness::new()
            .mix("")
            .within(project.path())
            .args(["fly_deploy.install"])
            .args(args.iter().copied())
            .env("MIX_BUILD_PATH", text(&kiosk().directory().join("_build/dev")))
            .run();
        (run.exit_code, run)
    };
    let read = |name: &str| fs::read_to_string(at(name)).unwrap_or_default();
    let (code, shown) = install(&[]);
    assert_eq!(code, Some(0), "{shown}");
    for part in [
        "  - CMD [\"/app/bin/kiosk\", \"start\"]",
        "  + CMD [\"flyhot\", \"boot\", \"--\", \"/app/bin/kiosk\", \"start\"]",
        "rel/env.sh.eex: a new file",
        "fly.toml: it names commands of its own",
        "fly secrets set RELEASE_COOKIE=",
        "--apply",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {shown}");
    }
    assert_eq!(
        (read("Dockerfile"), read("rel/env.sh.eex")),
        (dockerfile.to_owned(), String::new())
    );
    assert_eq!(install(&["--apply"]).0, Some(0));
    let done = (read("Dockerfile"), read("rel/env.sh.eex"));
    assert!(
        done.0.contains("\"flyhot\", \"boot\"") && done.1.contains("inet6_tcp"),
        "{done:?}"
    );
    let (_, again) = install(&["--apply"]);
    assert_eq!(again.stdout.matches("is as it should be").count(), 3, "{again}");
    assert_eq!((read("Dockerfile"), read("rel/env.sh.eex")), done);
    assert_eq!(install(&["--aply"]).0, Some(2));

    // What another fly.toml says of another Dockerfile, and what is in rel/vm.args.eex.
    for directory in ["config", "fly", "docker"] {
        fs::create_dir(at(directory)).unwrap();
    }
    let build = "[build]\n  dockerfile = \"../docker/prod\"\n";
    fs::write(
        at("config/config.exs"),
        "import Config\nconfig :fly_deploy, fly_config: \"fly\"\n",
    )
    .unwrap();
    fs::write(at("fly/fly.toml"), build).unwrap();
    fs::write(at("docker/prod"), dockerfile).unwrap();
    fs::write(at("rel/vm.args.eex"), "-proto_dist inet6_tcp\n").unwrap();
    fs::remove_file(at("rel/env.sh.eex")).unwrap();
    let (code, named) = install(&["--apply"]);
    assert_eq!(code, Some(0), "{named}");
    assert!(named.stdout.contains("docker/prod: fly.toml names it"), "{named}");
    assert!(!named.stdout.contains("commands of its own"), "{named}");
    let by = |name: &str, config: &str| {
        fs::remove_dir_all(at("fly")).unwrap();
        fs::create_dir(at("fly")).unwrap();
        fs::write(at("fly").join(name), config).unwrap();
        install(&[]).1
    };
    // A service is of groups, and names no command.
    for (name, config) in [
        ("fly.toml", "[http_service]\n  processes = ['app']\n"),
        (
            "fly.json",
            "{\"http_service\": {\n  \"processes\": [\"app\"]\n}}\n",
        ),
        ("fly.yaml", "http_service:\n  processes:\n    - app\n"),
    ] {
        let plain = by(name, config);
        assert!(!plain.stdout.contains("commands of its own"), "{name}: {plain}");
    }
    // As flyctl reads it in every form.
    for (name, config) in [
        (
            "fly.toml",
            "build = { dockerfile = \"../docker/prod\" }\nprocesses = { app = \"/app/bin/server\" }\n",
        ),
        (
            "fly.json",
            "{\n  \"build\": {\"dockerfile\": \"../docker/prod\"},\n  \"processes\": {\"app\": \"/app/bin/server\"}\n}\n",
        ),
        (
            "fly.yaml",
            "build:\n  dockerfile: ../docker/prod\nprocesses:\n  app: /app/bin/server\n",
        ),
    ] {
        let named = by(name, config);
        assert!(
            named.stdout.contains("docker/prod: fly.toml names it"),
            "{name}: {named}"
        );
        assert!(named.stdout.contains("commands of its own"), "{name}: {named}");
    }
    assert_eq!(
        (read("Dockerfile"), read("docker/prod")),
        (done.0, dockerfile.to_owned())
    );
    assert!(!read("rel/env.sh.eex").contains("-proto_dist"), "{named}");
}

/// A task that was found in another way than by the dependency brings that too.
#[test]
fn the_dependency_is_put_in_where_the_package_is_there() {
    let project = Scratch::new("dependency");
    let at = |name: &str| project.path().join(name);
    let bare = "defmodule Shop.MixProject do
  use Mix.Project

  def project do
    [
      app: :shop,
      version: \"1.0.0\",
      deps: deps()
    ]
  end

  defp deps do
    [
      # {:dep_from_hexpm, \"~> 0.3.0\"}
    ]
  end
end
";
    fs::write(at("mix.exs"), bare).unwrap();
    let ebin = kiosk().directory().join("_build/dev/lib/fly_deploy/ebin");
    let mix = |args: &[&str]| {
        let run = Witness::new()
            .mix("")
            .within(project.path())
            .args(args.iter().copied())
            .env("MIX_PATH", text(&ebin))
            .run();
        assert_eq!(run.exit_code, Some(0), "{run}");
        run.stdout
    };
    let (install, line) = (
        ["fly_deploy.install", "--apply"],
        "{:fly_deploy, path: \"vendor/fly_deploy\"}",
    );
    let read = || fs::read_to_string(at("mix.exs")).unwrap();
    let absent = mix(&install);
    assert!(
        absent.contains("copied to vendor/fly_deploy first") && absent.contains(line),
        "{absent}"
    );
    assert_eq!(read(), bare);

    fs::create_dir_all(at("vendor/fly_deploy")).unwrap();
    fs::copy(
        workspace().join("elixir_shim/mix.exs"),
        at("vendor/fly_deploy/mix.exs"),
    )
    .unwrap();
    let shown = mix(&install[..1]);
    assert!(shown.contains(&format!("\n  +       {line}\n")), "{shown}");
    assert_eq!(read(), bare);
    mix(&install);
    let done = read();
    assert_eq!(
        done,
        bare.replace("    [\n      #", &format!("    [\n      {line}\n      #"))
    );
    mix(&["format", "--check-formatted", "mix.exs"]);
    let again = mix(&install);
    assert!(again.contains("mix.exs: is as it should be"), "{again}");
    assert_eq!(read(), done);
}

/// How mix is ended.
fn ends(running: &Running, way: &str) {
    signal(way, &running.pid().to_string());
}

/// ^C, and what the runtime asks for then.
fn break_off(terminal: &mut Terminal) {
    terminal.types("\u{3}");
    terminal.wait_for("(a)bort");
    terminal.types("a\n");
}

#[test]
fn it_draws_on_the_terminal_and_hears_of_the_end_of_mix() {
    let witness = Witness::new();
    let mix = |witness: &Witness| {
        let mix = witness.mix("").args(["fly_deploy.status"]);
        mix.env("WITNESS_WAITS", "yes")
    };
    let mut terminal = mix(&witness).on_terminal();
    terminal.wait_for("drawn by the witness");
    assert_eq!(witness.lines("terminals "), ["0 1 2"], "{terminal}");
    let session = witness.lines("session ").remove(0);
    let (session, pid) = session.split_once(" of ").unwrap();
    assert_eq!(session.trim(), pid, "{terminal}");
    let descriptors = witness.lines("descriptor ");
    assert!(
        descriptors.len() == 2 && descriptors.iter().all(|to| to.starts_with("pipe:")),
        "{descriptors:?}"
    );
    assert!(!witness.said().contains("ended"));
    break_off(&mut terminal);
    terminal.wait();
    witness.wait_for("ended");

    for way in ["TERM", "KILL"] {
        let witness = Witness::new();
        let running = mix(&witness).spawn();
        witness.wait_for("begun");
        ends(&running, way);
        running.wait();
        witness.wait_for("ended");
    }
}

/// Whatever way mix ends: the window that runs comes to its end, and the next node is not begun.
#[test]
fn a_window_outlives_mix_and_no_other_is_begun() {
    let otp = Otp::under_test();
    let (v1, v2) = (Release::shop(otp, "v1"), Release::shop(otp, "v2"));
    let start = || Shop::of(&v1).carts(20).pool(5).start();
    let (one, two) = (start(), start());
    two.shares_cookie_of(&one);
    let scratch = Scratch::new("store");
    let store = ["--app", "shop", "--store", text(scratch.path())];
    let nodes = ["--node", one.name(), two.name()];
    let rollout = || {
        let run = Flyhot::new(["rollout"])
            .args(nodes)
            .args(["--release", text(v2.directory()), "--output", "json"])
            .args(store)
            .of(&one)
            .run();
        run.expect("upgraded", 0);
    };
    let mix = |flyhot: &Path, task: &str| {
        let mix = kiosk().mix(flyhot).args([task]);
        mix.args(["--output", "json"]).of(&one)
    };
    let rollback = || {
        mix(Flyhot::faulty_binary(), "fly_deploy.rollback")
            .args(nodes)
            .args(["--sequential"])
            .args(store)
    };
    let shapes = |shop: &Shop| {
        let mut shapes: Vec<_> = shop.carts().into_iter().map(|cart| cart.shape).collect();
        shapes.dedup();
        shapes
    };
    let delay = |point: &str| {
        one.probe()
            .plan_faults(&[Fault::new("worker", point, 1, "{delay, 1000}")]);
    };
    let half_back = |told: &str| {
        let now = [&one, &two].map(shapes);
        assert_eq!(now, [["tuple"], ["struct"]], "{told}");
        for shop in [&one, &two] {
            assert_eq!(shop.probe().suspended(), NONE, "{told}");
            assert_eq!(shop.probe().traces(), NONE, "{told}");
        }
    };
    let ended_in = |step: &str, way: &str, mix: Flyhot, exit_code: i32| {
        let mut running = mix.spawn();
        running.wait_for_step(step);
        ends(&running, way);
        // Until the last that has its standard output ended: flyhot.
        let run = running.wait();
        assert_eq!(run.outcome()["exit_code"], exit_code, "{run}");
        let error = run.events_named("error").last().unwrap().json.clone();
        let text = |key: &str| error[key].as_str().unwrap().to_owned();
        assert!(text("message").starts_with("the end of mix"), "{run}");
        assert!(text("hint").contains("the same command again"), "{run}");
        [0, 1].map(|at| run.node(at)["outcome"].as_str().unwrap().to_owned())
    };

    for round in 0..rounds(1, 6) {
        rollout();
        delay("migrating");
        let became = ended_in("window", ["KILL", "TERM"][round % 2], rollback(), 12);
        assert_eq!(became, ["upgraded", "not_begun"]);
        half_back("killed");
    }

    rollout();
    delay("migrating");
    let mark = format!("MARK={}", scratch.path().display());
    let mut terminal = rollback().env("MARK", text(scratch.path())).on_terminal();
    terminal.wait_for("\"step\":\"window\"");
    break_off(&mut terminal);
    terminal.wait();
    wait_until("flyhot has ended", SOON, || with_variable(&mark).is_empty());
    half_back(&terminal.to_string());

    // Asked by the tasks themselves: all that is left is the other node.
    let ask = |task: &str| mix(Flyhot::binary(), task);
    let only = |run: &Run, name: &str| {
        run.expect("done", 0);
        run.events_named(name).next().unwrap().json.clone()
    };
    let lock = kiosk().mix(Flyhot::binary()).args(["fly_deploy.lock", "status"]);
    let lock = lock.args(store).args(["--output", "json"]).run();
    assert_eq!(only(&lock, "lock")["holder"], Value::Null, "{lock}");
    let run = rollback().run();
    run.expect("upgraded", 0);
    assert_eq!(shapes(&two), ["tuple"], "{run}");
    let history = ask("fly_deploy.history").args(store).run();
    let latest = &only(&history, "history")["artifacts"][0];
    assert_eq!(
        (&latest["version"], &latest["state"]),
        (&v1.version().into(), &"committed".into()),
        "{history}"
    );
    let status = ask("fly_deploy.status").args(nodes).run();
    assert_eq!(only(&status, "status")["node"], one.name(), "{status}");
    let plan = |flyhot: &Path| {
        let plan = mix(flyhot, "fly_deploy.plan").args(nodes);
        plan.args(["--release", text(v2.directory())])
    };
    plan(Flyhot::binary()).run().expect("planned", 0);

    // Before the window it ends at once.
    delay("census");
    let became = ended_in("census", "KILL", plan(Flyhot::faulty_binary()), 130);
    assert_eq!(became, ["failed", "not_begun"]);
}

/// The processes that have this in their environment.
fn with_variable(variable: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes
        .filter(|process| {
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == variable.as_bytes())
        })
        .collect()
}

//! A deploy from the image to every node: what an orchestrator says is heard elsewhere, whole and once, whoever goes away meanwhile.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use flyhot_tests::{
    App, CrossApp, Fly, FlyCli, FlyIlls, Flyhot, Grant, Machines, Moto, Otp, Page, Project, Random, Release,
    Rows, Run, Scratch, Shop, Upload, rounds, signal, wait_until,
};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// Long beside what any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn releases() -> (Release, Release) {
    let otp = Otp::under_test();
    (Release::shop(otp, "v1"), Release::shop(otp, "v2"))
}

/// Two nodes with one cookie.
fn two(release: &Release) -> [Shop; 2] {
    let start = || Shop::of(release).carts(20).pool(5).start();
    let (one, other) = (start(), start());
    other.shares_cookie_of(&one);
    [one, other]
}

fn shapes(shop: &Shop) -> Vec<String> {
    assert_eq!(shop.probe().suspended(), NONE);
    let mut shapes: Vec<_> = shop.carts().into_iter().map(|cart| cart.shape).collect();
    shapes.dedup();
    shapes
}

/// What the machine of an orchestrator has: the release of its image, a directory for events, and the way to the store.
struct Here {
    scratch: Scratch,
}

impl Here {
    fn new() -> Self {
        Self {
            scratch: Scratch::new("orchestrate"),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A verb on that machine.
    fn flyhot(&self, words: &[&str]) -> Flyhot {
        Flyhot::new(words.iter().copied())
            .args(["--output", "json"])
            .env("FLYHOT_ORCHESTRATE", text(&self.at("said")))
    }

    fn orchestrate(&self, shops: &[Shop; 2], release: &Release, more: &[&str]) -> Flyhot {
        let nodes = ["orchestrate", "--node", shops[0].name(), shops[1].name()];
        let store = self.at("store");
        self.flyhot(&nodes)
            .args(["--app", "shop", "--store", text(&store)])
            .args(more.iter().copied())
            .env("RELEASE_ROOT", text(release.directory()))
            .env("FLY_IMAGE_REF", "registry.fly.io/shop:flyhot-2")
            .of(&shops[0])
    }

    /// The events from a place on.
    fn events(&self, since: usize) -> Vec<Value> {
        let run = self.flyhot(&["events", "--since", &since.to_string()]).run();
        assert_eq!(run.exit_code, Some(0), "{run}");
        run.events.into_iter().map(|event| event.json).collect()
    }

    /// `flyhot tell` with this on its standard input; what it said on both streams, and its exit code.
    fn tell(&self, told: &str) -> (Option<i32>, String) {
        let mut child = Command::new(Flyhot::binary())
            .args(["tell", "--output", "json"])
            .env_clear()
            .env("FLYHOT_ORCHESTRATE", self.at("said"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have refused it by then.
        let _ = child.stdin.take().unwrap().write_all(told.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    /// The lines that are kept, as they are.
    fn kept(&self) -> String {
        fs::read_to_string(self.at("said/events.jsonl")).unwrap()
    }
}

fn jsons(run: &Run) -> Vec<Value> {
    run.events.iter().map(|event| event.json.clone()).collect()
}

// ---- what an orchestrator says and is told

#[test]
fn what_an_orchestrator_says_is_heard_in_pieces_whole_and_once() {
    let (v1, v2) = releases();
    let shops = two(&v1);
    let here = Here::new();
    let none = here.flyhot(&["events"]).run();
    none.expect("refused", 2);
    assert!(none.stdout.contains("no orchestrator was here"), "{none}");
    let (code, said) = here.tell("{\"stop\":true}");
    assert!(
        code == Some(2) && said.contains("no orchestrator is at work here"),
        "{said}"
    );

    let mut running = here.orchestrate(&shops, &v2, &["--sequential"]).spawn();
    running.wait_for("the first event", LIMIT, |_| true);
    let mut heard = Vec::new();
    wait_until("the outcome is heard", LIMIT, || {
        heard.extend(here.events(heard.len()));
        heard
            .last()
            .is_some_and(|event: &Value| event["event"] == "outcome")
    });
    let run = running.wait();
    run.expect("upgraded", 0);
    assert_eq!(heard, jsons(&run));
    assert_eq!(here.kept(), run.stdout);
    assert_eq!(heard[0]["command"], "orchestrate", "{run}");
    assert!(here.events(heard.len()).is_empty());
    // From anywhere on it is the rest.
    let mut random = Random::new("places");
    for _ in 0..rounds(3, 30) {
        let place = random.below(heard.len() as u64 + 3) as usize;
        let rest = heard.get(place..).unwrap_or_default();
        assert_eq!(here.events(place), rest, "from {place}");
    }
    assert_eq!([&shops[0], &shops[1]].map(shapes), [["struct"], ["struct"]]);
    let pointer = fs::read_to_string(here.at("store/releases/shop/pointer.json")).unwrap();
    let pointer: Value = serde_json::from_str(&pointer).unwrap();
    assert_eq!(
        pointer["record"]["target"]["source_image"],
        "registry.fly.io/shop:flyhot-2"
    );

    // Once more: it begins anew.
    let again = here.orchestrate(&shops, &v2, &[]).run();
    again.expect("nothing_to_do", 0);
    assert_eq!(here.events(0), jsons(&again));

    // Nothing to roll out, nowhere.
    let nothing = here.orchestrate(&shops, &v2, &[]).env("RELEASE_ROOT", "").run();
    nothing.expect("refused", 2);
    assert!(
        nothing.stdout.contains("there is no release: none of "),
        "{nothing}"
    );
    assert_eq!(here.events(0), jsons(&nothing));
}

#[test]
fn one_that_is_told_to_stop_begins_nothing_more_and_one_that_dies_leaves_whole_lines() {
    let (v1, v2) = releases();
    let shops = two(&v1);
    let here = Here::new();
    shops[0].hold();
    let mut running = here.orchestrate(&shops, &v2, &["--sequential"]).spawn();
    running.wait_for_step("knock");
    // Another one has no business here.
    let second = here.orchestrate(&shops, &v2, &[]).run();
    second.expect("refused", 20);
    assert!(
        second.stdout.contains("another orchestrator is at work"),
        "{second}"
    );
    assert_eq!(here.tell(" {\"stop\": true}\n").0, Some(0));
    let run = running.wait();
    run.expect("failed", 130);
    assert!(run.stdout.contains("`flyhot tell` while at work on"), "{run}");
    assert_eq!(run.node(1)["outcome"], "not_begun", "{run}");
    assert_eq!(here.events(0), jsons(&run));
    shops[0].let_go();

    // What the one before was told is forgotten.
    let mut running = here.orchestrate(&shops, &v2, &["--sequential"]).spawn();
    running.wait_for_step("connect");
    let killed = running.kill();
    let kept = here.kept();
    let lines: Vec<Value> = kept
        .split_inclusive('\n')
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        kept.ends_with('\n') && lines.starts_with(&jsons(&killed)),
        "{kept}\n{killed}"
    );
    assert_eq!(here.events(0), lines);
    let rest = here.orchestrate(&shops, &v2, &["--force"]).run();
    rest.expect("upgraded", 0);
    assert_eq!([&shops[0], &shops[1]].map(shapes), [["struct"], ["struct"]]);
}

#[test]
fn a_disk_that_takes_no_events_is_said_once_and_harms_nothing() {
    let (v1, v2) = releases();
    let shops = two(&v1);
    let here = Here::new();
    // A file where the directory should be; and a disk that takes not one event.
    fs::write(here.at("said"), "").unwrap();
    let run = here.orchestrate(&shops, &v2, &[]).run();
    run.expect("upgraded", 0);
    assert_eq!(run.stdout.matches("events cannot be kept").count(), 1, "{run}");
    fs::remove_file(here.at("said")).unwrap();
    fs::create_dir(here.at("said")).unwrap();
    std::os::unix::fs::symlink("/dev/full", here.at("said/events.jsonl")).unwrap();
    let run = here.orchestrate(&shops, &v2, &[]).run();
    run.expect("nothing_to_do", 0);
    assert_eq!(run.stdout.matches("events cannot be kept").count(), 1, "{run}");
}

// ---- a deploy

/// Everything that a deploy has to do with: Fly, flyctl, a project, and an image in which flyhot upgrades these nodes.
struct Fleet {
    fly: Fly,
    cli: FlyCli,
    scratch: Scratch,
}

const FLY_TOML: &str = "app = \"shop\"\nprimary_region = \"fra\"\n[env]\nPOOL_SIZE = 10\nSECRET_KEY = \"skey_hidden\"\n[build]\n";

impl Fleet {
    /// `flyhot` of the image is this script, with what it may need in variables.
    fn new(release: &Release, shops: &[Shop; 2], ills: FlyIlls, script: &str) -> Self {
        let fleet = Self::with(
            ills,
            &[
                ("NODES", &format!("{} {}", shops[0].name(), shops[1].name())),
                ("RELEASE_COOKIE", shops[0].cookie()),
                ("ERL_EPMD_PORT", &shops[0].epmd_port().to_string()),
            ],
            script,
        );
        release.copied(&fleet.at("image"));
        fleet
    }

    /// One whose image has no release.
    fn with(ills: FlyIlls, variables: &[(&str, &str)], script: &str) -> Self {
        let fly = Fly::start(ills, Random::new("deploy"));
        let scratch = Scratch::new("deploy");
        let image = scratch.path().join("image");
        fs::create_dir(&image).unwrap();
        let cli = FlyCli::new(&fly, &image, Fly::TOKEN);
        let fleet = Self { fly, cli, scratch };
        let mut lines = String::from("#!/bin/sh\nexport FLYHOT_ORCHESTRATE=\"$PWD/said\"\n");
        let (store, url) = (fleet.at("store"), fleet.fly.url());
        let own = [
            ("FLYHOT", text(Flyhot::binary())),
            ("STORE", text(&store)),
            ("FLY_FLAPS_BASE_URL", &url),
        ];
        for (name, value) in own.iter().chain(variables) {
            lines.push_str(&format!("export {name}='{value}'\n"));
        }
        fs::write(image.join("flyhot"), format!("{lines}{script}\n")).unwrap();
        fs::set_permissions(image.join("flyhot"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(fleet.at("project")).unwrap();
        fleet.project(FLY_TOML);
        fleet
    }

    /// A machine of the app, of that image.
    fn machine(&self) -> String {
        self.labelled("fly_process_group", "app")
    }

    fn labelled(&self, name: &str, value: &str) -> String {
        let image = "registry.fly.io/shop:deployment-01H3A";
        self.fly.push(image, &self.at("image"));
        let id = self.fly.make(&serde_json::json!({"region": "ams", "config": {
            "image": image, "init": {"exec": ["sleep", "infinity"]},
            "metadata": {"fly_platform_version": "v2", name: value},
        }}));
        wait_until("the machine is started", LIMIT, || {
            let mut machines = self.fly.machines().into_iter();
            machines.any(|machine| machine["id"] == *id && machine["state"] == "started")
        });
        id
    }

    /// A verb where the project is, by somebody who is logged in and has nothing else.
    fn laptop(&self, words: &[&str]) -> Flyhot {
        self.typed(words).args(["--output", "json"])
    }

    /// The same, which speaks to people.
    fn typed(&self, words: &[&str]) -> Flyhot {
        Flyhot::new(words.iter().copied())
            .within(&self.at("project"))
            .env("PATH", &self.cli.search_path(&[]))
            .env("FLY_FLAPS_BASE_URL", &self.fly.url())
            .env("USER", "alice")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn project(&self, fly_toml: &str) {
        fs::write(self.at("project/fly.toml"), fly_toml).unwrap();
    }

    /// `flyhot deploy` where the project is, by somebody who is logged in.
    fn deploy(&self, words: &[&str]) -> Flyhot {
        self.laptop(&[&["deploy"], words].concat())
    }

    /// The machines of orchestrators.
    fn orchestrators(&self) -> Vec<Value> {
        let mut machines = self.fly.machines();
        machines.retain(|machine| machine["name"].as_str().unwrap().starts_with("flyhot-"));
        machines
    }

    /// Nothing was made, built or written.
    fn untouched(&self, run: &Run) {
        let records = self.fly.records();
        assert!(
            records.iter().all(|record| record.method == "GET"),
            "{records:#?}\n{run}"
        );
        let calls = self.cli.calls();
        assert!(
            calls.iter().all(|call| !call.starts_with("deploy")),
            "{calls:?}\n{run}"
        );
        assert!(!self.at("store").exists(), "{run}");
    }

    /// No secret is where others see it.
    fn hides(&self, run: &Run) {
        // What was typed here is nobody's to hide.
        let mut seen = vec![run.stdout.clone(), run.stderr.clone()];
        seen.extend(self.cli.calls());
        for record in self.fly.records() {
            let body: Value = serde_json::from_str(&record.body).unwrap_or_default();
            // Words of programs; what goes to standard input and environment is for them alone.
            seen.push(format!("{} {}", record.path, record.query));
            seen.push(body["command"].to_string());
            seen.push(body["config"]["init"].to_string());
        }
        for machine in self.orchestrators() {
            let root = self.fly.root(machine["id"].as_str().unwrap());
            seen.push(fs::read_to_string(root.join("said/events.jsonl")).unwrap_or_default());
            seen.push(fs::read_to_string(root.with_extension("log")).unwrap_or_default());
        }
        for text in seen {
            for secret in ["fm2_", "_hidden"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}

/// What a real orchestrator does; the nodes are named here, where Fly.io would be asked for them.
const REAL: &str = "verb=$1; shift
[ $verb = orchestrate ] || exec $FLYHOT $verb \"$@\"
shift 2
exec $FLYHOT orchestrate --node $NODES --store $STORE \"$@\"";

fn labelled(machine: &Value) -> &str {
    machine["config"]["metadata"]["flyhot_outcome"]
        .as_str()
        .unwrap_or_default()
}

/// The page has what the outcome of the run has, and none of what nobody else is to know.
fn tells_of(page: &Page, run: &Run) {
    let nodes = run.outcome()["nodes"].as_array().unwrap();
    assert_eq!(page.rows.len(), nodes.len(), "{}", page.source);
    for (row, node) in page.rows.iter().zip(nodes) {
        assert_eq!(row["node"], node["node"].as_str().unwrap());
        let outcome = node["outcome"].as_str().unwrap();
        assert_eq!(row["outcome"], outcome.replace('_', " "));
        for side in ["before", "after"] {
            let code = node["code_id"][side].as_str().unwrap();
            assert_eq!(row[&format!("code {side}")], code[..12], "{row:?}");
            assert!(page.text.contains(code), "{code}");
        }
        assert_eq!((&*row["way back"], &*row["gate"]), ("exact", "passed"));
        assert!(
            row["window"].ends_with(" ms") && row["longest freeze"].ends_with(" ms"),
            "{row:?}"
        );
        assert!(row["processes"].contains("migrated"), "{row:?}");
    }
    for part in [
        "Exit code 0",
        "registry.fly.io/shop:",
        "wave 1 begins",
        "its window is over after",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    for hidden in ["hidden", "fm2_", "POOL_SIZE", "<script", "src=", "href="] {
        assert!(!page.source.contains(hidden), "{hidden}: {}", page.source);
    }
}

#[test]
fn a_deploy_builds_upgrades_every_node_and_ends_as_its_rollout() {
    let (v1, v2) = releases();
    let shops = two(&v1);
    let fleet = Fleet::new(&v2, &shops, FlyIlls::default(), REAL);
    let dry = fleet.deploy(&["--dry-run"]).run();
    dry.expect("done", 0);
    fleet.untouched(&dry);
    let told = dry.events_named("deploy").next().unwrap().json.clone();
    assert_eq!(
        (&told["app"], &told["region"], &told["dry_run"]),
        (&"shop".into(), &"fra".into(), &true.into())
    );
    assert_eq!(
        told["env"],
        serde_json::json!(["POOL_SIZE", "SECRET_KEY", "USER"]),
        "{dry}"
    );

    // A deploy that died an hour ago left a machine that never ran.
    let left = fleet.labelled("flyhot_orchestrator", "01JDEAD");
    fleet.fly.stop(&left);
    fleet.fly.age(&left, 3_600);
    // Whoever is asked whether a node is well is told a secret.
    let well = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://u:pw_hidden@{{host}}:{}/well?key=token_hidden",
        well.local_addr().unwrap().port()
    );
    let asked = thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in well.incoming().take(2) {
            let (mut stream, mut request) = (stream.unwrap(), [0; 4096]);
            let read = stream.read(&mut request).unwrap();
            asked.push(String::from_utf8_lossy(&request[..read]).into_owned());
            stream
                .write_all(b"HTTP/1.1 204 Well\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
        }
        asked
    });
    // What was typed goes before a secret of the app.
    fleet.fly.secret("FLYHOT_CHECK_URL", "http://{host}:1/of-the-app");
    let run = fleet
        .deploy(&[
            "--check-url",
            &url,
            "--max-concurrency",
            "1",
            "--timeout",
            "90000",
            "--suspend-timeout",
            "5000",
            "--build-arg",
            "A=b",
            "--no-cache",
            "--buildkit",
            "--report",
            text(&fleet.at("page.html")),
        ])
        .run();
    fleet.fly.secret("FLYHOT_CHECK_URL", "");
    run.expect("upgraded", 0);
    tells_of(&Page::read(&fleet.at("page.html")), &run);
    assert_eq!([&shops[0], &shops[1]].map(shapes), [["struct"], ["struct"]]);
    assert_eq!(run.outcome()["nodes"].as_array().unwrap().len(), 2, "{run}");
    let machines = fleet.fly.machines();
    let left = machines.iter().find(|machine| machine["id"] == *left);
    assert!(left.is_none_or(|left| left["state"] == "destroyed"), "{left:?}");
    let names: Vec<_> = ["deploy", "build", "orchestrator", "wave", "pointer"]
        .into_iter()
        .filter(|name| run.events_named(name).next().is_none())
        .collect();
    assert_eq!(names, NONE, "{run}");
    let commands: Vec<_> = run
        .events_named("started")
        .map(|event| event.json["command"].clone())
        .collect();
    assert_eq!(commands, ["deploy", "orchestrate"], "{run}");
    let build = fleet
        .cli
        .calls()
        .into_iter()
        .find(|call| call.starts_with("deploy"))
        .unwrap();
    assert!(
        build.starts_with("deploy --build-only --push --remote-only -c fly.toml -a shop --build-arg A=b --no-cache --buildkit --image-label flyhot-"),
        "{build}"
    );
    let [machine] = &fleet.orchestrators()[..] else {
        panic!("{run}")
    };
    assert_eq!(machine["region"], "fra");
    let config = &machine["config"];
    assert_eq!(config["env"]["POOL_SIZE"], "10");
    assert_eq!(config["env"]["FLYHOT_ORDERED_CHECK_URL"], *url);
    for request in asked.join().unwrap() {
        assert!(request.starts_with("GET /well?key=token_hidden "), "{request}");
    }
    let words = config["init"]["exec"].as_array().unwrap();
    for pair in [
        ["--max-concurrency", "1"],
        ["--timeout", "90000ms"],
        ["--quiesce-timeout", "5000ms"],
        ["--lock-timeout", "300000ms"],
    ] {
        assert!(words.windows(2).any(|words| words == pair), "{pair:?} {words:?}");
    }
    // It is followed by no more than one command a second, whatever it is told besides.
    let path = format!("/{}/exec", machine["id"].as_str().unwrap());
    let commands = fleet.fly.asked("POST", &path);
    assert!(
        commands.iter().any(|command| command.body.contains("\"tell\"")),
        "{run}"
    );
    for pair in commands.windows(2) {
        let apart = pair[1].at.duration_since(pair[0].at);
        assert!(apart >= Duration::from_millis(900), "{apart:?}: {pair:#?}");
    }
    // Its lease was let go, so that it can be followed; nobody is told to go slower.
    assert!(fleet.fly.asked("DELETE", "/lease").len() == 1, "{run}");
    let limited = fleet
        .fly
        .records()
        .into_iter()
        .filter(|record| record.status == Some(429));
    assert_eq!(limited.count(), 0);
    // It labels its machine, and takes itself away.
    wait_until("the orchestrator is labelled", LIMIT, || {
        !labelled(&fleet.orchestrators()[0]).is_empty()
    });
    let code = &run.events_named("pointer").last().unwrap().json["artifact"]["code_id"];
    assert_eq!(
        labelled(&fleet.orchestrators()[0]),
        format!("0 {}", code.as_str().unwrap())
    );
    wait_until("the orchestrator is gone", LIMIT, || {
        fleet.orchestrators()[0]["state"] == "destroyed"
    });
    fleet.hides(&run);

    // Once more, by an image that is there, while Fly ails: nothing to do.
    let image = run.events_named("orchestrator").next().unwrap().json["image"].clone();
    fleet.fly.ail(FlyIlls {
        server_errors: 100,
        resets: 50,
        lost_answers: 100,
        lost_creates: 500,
        late_errors: 50,
        unknown_manifests: 1,
        ..FlyIlls::default()
    });
    let builds = fleet.cli.calls().len();
    let again = fleet
        .deploy(&["--skip-build", "--image", image.as_str().unwrap()])
        .run();
    again.expect("nothing_to_do", 0);
    assert!(
        fleet.cli.calls()[builds..]
            .iter()
            .all(|call| !call.starts_with("deploy"))
    );
    assert_eq!(fleet.orchestrators().len(), 2, "{again}");
    fleet.hides(&again);
}

#[test]
fn whoever_is_second_or_goes_away_leaves_the_first_alone() {
    let (v1, v2) = releases();
    let shops = two(&v1);
    let fleet = Fleet::new(&v2, &shops, FlyIlls::default(), REAL);
    shops[0].hold();
    let wait = ["--suspend-timeout", "120000", "--timeout", "300000"];
    let mut first = fleet.deploy(&wait).spawn();
    first.wait_for_step("knock");
    let second = fleet.deploy(&[]).env("USER", "bob").run();
    second.expect("refused", 20);
    assert!(second.stdout.contains("alice on "), "{second}");
    // The laptop of the first is closed.
    first.kill();
    shops[0].let_go();
    wait_until("the orchestrator is done", LIMIT, || {
        fleet
            .orchestrators()
            .iter()
            .any(|machine| labelled(machine).starts_with("0 "))
    });
    assert_eq!([&shops[0], &shops[1]].map(shapes), [["struct"], ["struct"]]);

    // The other way, by ^C: nothing more is begun, and what became of it is heard.
    let (v1, _) = releases();
    let back = Fleet::new(&v1, &shops, FlyIlls::default(), REAL);
    shops[0].hold();
    let mut running = back.deploy(&[&wait[..], &["--sequential"]].concat()).spawn();
    running.wait_for_step("knock");
    running.interrupt();
    let run = running.wait();
    run.expect("failed", 130);
    let stopping = &run.events_named("stopping").next().unwrap().json;
    assert_eq!(stopping["signal"], "SIGINT", "{run}");
    let hint = stopping["hint"].as_str().unwrap();
    assert!(
        hint.contains("flyhot events") && hint.contains("fly machine stop"),
        "{run}"
    );
    assert_eq!(run.node(1)["outcome"], "not_begun", "{run}");
    shops[0].let_go();
    assert_eq!([&shops[0], &shops[1]].map(shapes), [["struct"], ["struct"]]);
}

#[test]
fn the_end_of_mix_stops_what_has_not_begun_and_says_how_to_follow_the_rest() {
    let (v1, v2) = releases();
    let shops = two(&v1);
    let fleet = Fleet::new(&v2, &shops, FlyIlls::default(), REAL);
    let otp = Otp::under_test();
    let project = Project::shop(otp);
    // The first node is taken over, the second is busy.
    shops[1].hold();
    let mut running = project
        .mix(Flyhot::binary())
        .args(["fly_deploy.hot", "--sequential", "--output", "json"])
        .args(["--suspend-timeout", "120000", "--timeout", "300000"])
        .env("PATH", &fleet.cli.search_path(&[otp.bin()]))
        .env("FLY_FLAPS_BASE_URL", &fleet.fly.url())
        .spawn();
    running.wait_for("the second wave", LIMIT, |event| {
        event["event"] == "step_started" && event["step"] == "knock" && event["node"] == shops[1].name()
    });
    signal("TERM", &running.pid().to_string());
    // Until the last that has its standard output ended: flyhot.
    let run = running.wait();
    let stopping = &run.events_named("stopping").next().unwrap().json;
    assert_eq!(stopping["signal"], "the end of mix", "{run}");
    let hint = stopping["hint"].as_str().unwrap();
    for part in ["flyhot events", "fly machine stop", "mix fly_deploy.status"] {
        assert!(hint.contains(part), "{part}: {run}");
    }
    assert_eq!(run.outcome()["exit_code"], 12, "{run}");
    let outcomes = [0, 1].map(|at| run.node(at)["outcome"].clone());
    assert_eq!(outcomes, ["upgraded", "failed"], "{run}");
    shops[1].let_go();
    assert_eq!([&shops[0], &shops[1]].map(shapes), [["struct"], ["tuple"]]);
    // Its machine has ended by itself with the same code, and the same command goes on with what was not begun.
    wait_until("the orchestrator is gone", LIMIT, || {
        fleet.orchestrators()[0]["state"] == "destroyed"
    });
    assert!(labelled(&fleet.orchestrators()[0]).starts_with("12"), "{run}");
    fleet.deploy(&[]).run().expect("upgraded", 0);
    assert_eq!([&shops[0], &shops[1]].map(shapes), [["struct"], ["struct"]]);
}

#[test]
fn an_orchestrator_for_which_a_region_has_no_room_is_made_in_another() {
    let ills = FlyIlls {
        no_room: &["fra"],
        ..FlyIlls::default()
    };
    let done = "[ $1 = events ] && echo '{\"v\":1,\"event\":\"outcome\",\"outcome\":\"done\",\"exit_code\":0,\"nodes\":[]}'
        [ $1 = orchestrate ] && sleep 5";
    let fleet = Fleet::with(ills, &[], &format!("{done}; exit 0"));
    let run = fleet.deploy(&[]).run();
    run.expect("done", 0);
    let regions: Vec<Value> = fleet
        .fly
        .asked("POST", "/machines")
        .iter()
        .map(|made| serde_json::from_str::<Value>(&made.body).unwrap()["region"].clone())
        .collect();
    assert_eq!(regions, ["fra".into(), Value::Null], "{run}");
    let [machine] = &fleet.orchestrators()[..] else {
        panic!("{run}")
    };
    let told = &run.events_named("orchestrator").next().unwrap().json;
    assert_ne!(machine["region"], "fra", "{run}");
    assert_eq!(told["region"], machine["region"], "{run}");
}

/// What is to be said of a mistake.
enum Said {
    /// Nothing.
    Nothing,
    /// What docs/troubleshooting.md has of it.
    Row,
    /// All of this.
    Parts(&'static [&'static str]),
}

impl Said {
    /// The mistake was answered so.
    fn by(self, mistake: &str, run: &Run, code: i32, rows: &Rows) {
        assert_eq!(run.exit_code, Some(code), "{mistake}: {run}");
        let errors: Vec<_> = run.events_named("error").map(|event| &event.json).collect();
        match (self, &errors[..]) {
            (Self::Nothing, []) => {}
            (Self::Row, _) => rows.told(mistake, run, code),
            (Self::Parts(parts), [error]) => {
                let said = format!("{} {}", error["message"], error["hint"]);
                let is_said = |part: &&str| said.contains(part);
                assert!(parts.iter().all(is_said), "{mistake}: {parts:?}: {said}");
            }
            _ => panic!("{mistake}: {run}"),
        }
    }
}

#[test]
fn what_is_refused_at_once_has_touched_nothing() {
    use Said::{Parts, Row};
    let rows = Rows::of("deploy");
    let (v1, _) = releases();
    let shops = two(&v1);
    let fleet = Fleet::new(&v1, &shops, FlyIlls::default(), REAL);
    let other = "fm2_other";
    fleet.fly.allow(
        other,
        Grant {
            user: "bob@example.com".to_owned(),
            apps: vec!["till".to_owned()],
            may_lease: true,
        },
    );
    let wrong = fleet.at("wrong.toml");
    fs::write(&wrong, "app = \"nobodys\"\n").unwrap();
    let broken = fleet.at("broken.toml");
    fs::write(&broken, "app = [").unwrap();
    let none = fleet.at("empty");
    fs::create_dir(&none).unwrap();
    let table: [(&str, Flyhot, i32, Said); 11] = [
        ("no fly.toml", fleet.deploy(&[]).within(&none), 2, Row),
        (
            "a broken fly.toml",
            fleet.deploy(&["--config", text(&broken)]),
            2,
            Row,
        ),
        ("another app", fleet.deploy(&["--config", text(&wrong)]), 23, Row),
        ("no token", fleet.deploy(&[]).env("PATH", "/nowhere"), 2, Row),
        (
            "a token of another app",
            fleet.deploy(&[]).env("FLY_API_TOKEN", other),
            23,
            Row,
        ),
        (
            "a token that Fly does not know",
            fleet.deploy(&[]).env("FLY_ACCESS_TOKEN", "fm2_gone"),
            23,
            Row,
        ),
        (
            "no flyctl",
            fleet
                .deploy(&[])
                .env("PATH", "/nowhere")
                .env("FLY_API_TOKEN", Fly::TOKEN),
            2,
            Row,
        ),
        (
            "a mode that is not there",
            fleet.deploy(&["--mode", "blue_green"]),
            2,
            Parts(&["--mode blue_green is not there yet", "Leave --mode away"]),
        ),
        (
            "nothing to deploy",
            fleet.deploy(&["--skip-build"]),
            2,
            Parts(&["--image"]),
        ),
        (
            "a lease that is too short",
            fleet.deploy(&["--lock-timeout", "1"]),
            2,
            Parts(&["--lock-timeout 1000 ms is too short"]),
        ),
        (
            "a key that is not there",
            fleet.deploy(&["--key-file", "nowhere"]),
            2,
            Parts(&["cannot read the key file nowhere"]),
        ),
    ];
    for (what, deploy, code, said) in table {
        let run = deploy.run();
        said.by(what, &run, code, &rows);
        fleet.untouched(&run);
        fleet.hides(&run);
    }
    fleet.fly.ail(FlyIlls {
        cross_app: CrossApp::Forbidden,
        ..FlyIlls::default()
    });
    let run = fleet.deploy(&[]).env("FLY_API_TOKEN", other).run();
    rows.told("a token without the scope", &run, 23);
    fleet.untouched(&run);
    fleet.cli.log_out();
    let run = fleet.deploy(&[]).run();
    rows.told("nobody is logged in", &run, 2);
    fleet.untouched(&run);
}

#[test]
fn what_goes_wrong_later_ends_in_one_sentence_all_the_same() {
    use Said::{Nothing, Parts, Row};
    let rows = Rows::of("orchestrator");
    let (v1, _) = releases();
    let shops = two(&v1);
    let says = "{\"v\":1,\"event\":\"later\",\"x\":1}\\n{\"v\":1,\"event\":\"step_started\",\"node\":null,\"step\":\"read\"}\\n";
    let dies = |how: &str| {
        format!(
            "[ $1 = tell ] && exit 0; [ $1 = events ] && [ $3 = 0 ] && exec printf '{says}'; [ $1 = events ] && exit 0; sleep 3; {how}"
        )
    };
    let no_store = "verb=$1; shift; [ $verb = orchestrate ] || exec $FLYHOT $verb \"$@\"; shift 2
        exec $FLYHOT orchestrate --node $NODES \"$@\"";
    // The answer ends in the middle of a character of its second line.
    let cut = "[ $1 = tell ] && exit 0
        line() { printf '{\"v\":1,\"event\":\"build\",\"line\":\"%s' $1; }
        [ $1 = events ] && [ $3 = 0 ] && { line first; printf '\"}\\n'; line $(printf '\\303'); exit; }
        [ $1 = events ] && [ $3 = 1 ] && { line second; printf '\"}\\n'; exit; }
        [ $1 = events ] && exit 0; sleep 3; exit 12";
    let table: [(&str, &str, i32, Said); 6] = [
        ("no bucket", no_store, 2, Row),
        (
            "an image with an old flyhot",
            "echo unrecognized subcommand >&2; exit 2",
            2,
            Row,
        ),
        ("ended unheard", &dies("exit 12"), 12, Nothing),
        ("cut short", cut, 12, Nothing),
        (
            "killed",
            &dies("kill -9 $$"),
            23,
            Parts(&["is gone", "mix fly_deploy.status", "fly logs"]),
        ),
        ("no memory", &dies("kill -9 $$"), 23, Row),
    ];
    for (what, script, code, said) in table {
        let no_memory = what == "no memory";
        let ills = FlyIlls {
            no_memory,
            ..FlyIlls::default()
        };
        let fleet = Fleet::new(&v1, &shops, ills, script);
        let more = if no_memory { &["--memory", "1536"][..] } else { &[] };
        let run = fleet.deploy(more).run();
        let made = fleet.orchestrators();
        let memory = &made[0]["config"]["guest"]["memory_mb"];
        assert_eq!(memory, if no_memory { 1_536 } else { 1_024 }, "{what}: {run}");
        said.by(what, &run, code, &rows);
        assert_eq!(run.outcome()["exit_code"], code, "{what}: {run}");
        // What is not known here is passed over, and what came before is said.
        let told: Vec<_> = run
            .events_named("build")
            .filter_map(|event| event.json["line"].as_str().map(str::to_owned))
            .collect();
        match what {
            "no bucket" => {
                let first = run
                    .events
                    .iter()
                    .find(|event| ["check", "build"].contains(&event.json["event"].as_str().unwrap()));
                let first = &first.unwrap().json;
                assert_eq!(
                    (&first["check"], &first["well"]),
                    (&"secrets".into(), &false.into()),
                    "{run}"
                );
                assert!(first["found"].as_str().unwrap().contains("BUCKET_NAME"), "{run}");
            }
            "ended unheard" => assert!(run.events_named("step_started").next().is_some(), "{run}"),
            "cut short" => assert!(
                told.ends_with(&["first".to_owned(), "second".to_owned()]),
                "{run}"
            ),
            _ => {}
        }
        fleet.hides(&run);
    }

    // What an orchestrator left at its machine counts, whatever became of that.
    let left = Fleet::new(&v1, &shops, FlyIlls::default(), &dies("sleep 3; kill -9 $$"));
    let mut running = left.deploy(&[]).spawn();
    let made = running.wait_for("the orchestrator", LIMIT, |event| {
        event["event"] == "orchestrator"
    });
    let machine = made.json["machine"].as_str().unwrap();
    left.fly.set_label(machine, "flyhot_outcome", "12 ");
    running.wait().expect("mixed", 12);

    // Whoever stops it before it runs has nothing of it left.
    let ills = FlyIlls {
        prepare: LIMIT,
        ..FlyIlls::default()
    };
    let unbegun = Fleet::new(&v1, &shops, ills, &dies("exit 12"));
    let mut running = unbegun.deploy(&[]).spawn();
    let made = running.wait_for("the orchestrator", LIMIT, |event| {
        event["event"] == "orchestrator"
    });
    running.interrupt();
    let stopped = running.wait();
    stopped.expect("failed", 130);
    assert!(
        stopped.stdout.contains("no machine of the app was touched"),
        "{stopped}"
    );
    let left = unbegun.fly.machines();
    let left = left.iter().find(|machine| machine["id"] == made.json["machine"]);
    assert!(left.is_none_or(|left| left["state"] == "destroyed"), "{left:?}");

    // Whoever goes before it has heard that it is to stop is told so.
    let deaf = format!("[ $1 = tell ] && exit 1; {}", dies("sleep 60"));
    let deaf = Fleet::new(&v1, &shops, FlyIlls::default(), &deaf);
    let mut running = deaf.deploy(&[]).spawn();
    running.wait_for_step("read");
    running.interrupt();
    let told =
        |record: &flyhot_tests::Record| record.body.contains("\"tell\"") && record.body.contains("stop");
    wait_until("it is told", LIMIT, || {
        deaf.fly.asked("POST", "/exec").iter().any(told)
    });
    running.interrupt();
    let left = running.wait();
    left.expect("failed", 130);
    assert!(left.stdout.contains("has not heard that it is to stop"), "{left}");

    // Fly forgets a machine before anybody asks how it ended: it does not go on.
    let ills = FlyIlls {
        remembers: Duration::ZERO,
        ..FlyIlls::default()
    };
    let gone = Fleet::new(&v1, &shops, ills, &dies("exit 12")).deploy(&[]).run();
    gone.expect("failed", 23);
    assert!(
        gone.stdout.contains("is gone") && !gone.stdout.contains("goes on"),
        "{gone}"
    );

    let fleet = Fleet::new(&v1, &shops, FlyIlls::default(), REAL);
    fs::remove_file(fleet.at("image/flyhot")).unwrap();
    rows.told("an image without flyhot", &fleet.deploy(&[]).run(), 2);
    fleet.cli.upload(Upload::Ends(1));
    rows.told("a build that fails", &fleet.deploy(&[]).run(), 21);
    // A named image is not built either.
    fleet.project(&FLY_TOML.replace("[build]", "[build]\nimage = \"registry.fly.io/shop:absent\""));
    let calls = fleet.cli.calls().len();
    let dry = fleet.deploy(&["--dry-run"]).run();
    let told = dry.events_named("deploy").next().unwrap().json.clone();
    assert_eq!(told["image"], "registry.fly.io/shop:absent", "{dry}");
    assert!(
        fleet.cli.calls()[calls..]
            .iter()
            .all(|call| !call.starts_with("deploy"))
    );

    // The release of the image is of another OTP than the nodes.
    let other = Release::shop(Otp::under_test().another(), "v2");
    let fleet = Fleet::new(&other, &shops, FlyIlls::default(), REAL);
    let run = fleet.deploy(&[]).run();
    run.expect("refused", 10);
    let reason = run.reason("toolchain_differs");
    let text = |key: &str| reason[key].as_str().unwrap();
    rows.said("an image of another OTP", text("sentence"), text("hint"));

    assert_eq!([&shops[0], &shops[1]].map(shapes), [["tuple"], ["tuple"]]);
}

#[test]
fn what_is_signed_here_needs_no_key_there() {
    let (v1, v2) = releases();
    let shops = two(&v1);
    let script = REAL.replace("exec $FLYHOT orchestrate", ". ./keys; exec $FLYHOT orchestrate");
    let fleet = Fleet::new(&v2, &shops, FlyIlls::default(), &script);
    let file = fleet.at("key");
    let run = Flyhot::new(["keygen", "--out", text(&file), "--output", "json"]).run();
    run.expect("done", 0);
    let public = run.events_named("key").next().unwrap().json["public"].clone();
    fs::write(
        fleet.at("image/keys"),
        format!("export FLYHOT_PUBLIC_KEYS='{}'\n", public.as_str().unwrap()),
    )
    .unwrap();
    let run = fleet.deploy(&["--key-file", text(&file)]).run();
    run.expect("upgraded", 0);
    // The release, and the code that the nodes were started with.
    assert_eq!(run.events_named("to_sign").count(), 2, "{run}");
    let pointer = fs::read_to_string(fleet.at("store/releases/shop/pointer.json")).unwrap();
    let pointer: Value = serde_json::from_str(&pointer).unwrap();
    let signed = |target: &Value| target["signature"]["key"] == public;
    assert!(signed(&pointer["record"]["target"]), "{pointer:#}");
    assert!(signed(&pointer["record"]["previous"][0]), "{pointer:#}");
    let secret = fs::read_to_string(&file).unwrap();
    let secret = secret.lines().last().unwrap();
    assert!(
        fleet
            .fly
            .records()
            .iter()
            .all(|record| !record.body.contains(secret))
    );
    fleet.hides(&run);
}

// ---- verbs that need what a laptop has not

/// An orchestrator that goes back; the nodes are named here, where Fly.io would be asked for them.
const BACK: &str = "verb=$1; shift
[ $verb = orchestrate ] || exec $FLYHOT $verb \"$@\"
if [ \"$8\" = rollback ]; then
    exec $FLYHOT orchestrate --inventory fly -- rollback --sequential --node $NODES --store $STORE --app shop
fi
shift 2
exec $FLYHOT orchestrate --node $NODES --store $STORE \"$@\"";

#[test]
fn a_rollback_from_a_laptop_hears_it_and_does_without_it() {
    let (v1, v2) = releases();
    let shops = two(&v1);
    let fleet = Fleet::new(&v2, &shops, FlyIlls::default(), BACK);
    fleet.machine();
    fleet.deploy(&[]).run().expect("upgraded", 0);
    let back = || fleet.laptop(&["rollback", "--inventory", "fly"]);

    // The first ^C: nothing more is begun.
    shops[0].hold();
    let mut running = back().spawn();
    running.wait_for_step("knock");
    running.interrupt();
    let run = running.wait();
    run.expect("failed", 130);
    assert!(run.stdout.contains("`flyhot tell` while at work on"), "{run}");
    assert_eq!(run.node(1)["outcome"], "not_begun", "{run}");
    fleet.hides(&run);

    // The laptop is closed.
    let mut running = back().spawn();
    running.wait_for_step("knock");
    let killed = running.kill();
    let made = killed.events_named("orchestrator").next().unwrap().json["machine"].clone();
    shops[0].let_go();
    wait_until("the orchestrator is done", LIMIT, || {
        let machines = fleet.orchestrators();
        machines
            .iter()
            .any(|machine| machine["id"] == made && labelled(machine).starts_with("0 "))
    });
    assert_eq!([&shops[0], &shops[1]].map(shapes), [["tuple"], ["tuple"]]);
}

/// What an image does with the verbs that it is asked for; its store is known by a variable of its machines alone.
const ASKED: &str = "case $1 in
    --version) [ -n \"$OLD\" ] && echo flyhot 0.0.1 && exit ;;
    orchestrate) [ -n \"$OLD\" ] && set -- $(echo \"$@\" | sed 's/--asked-by [^ ]*/--asked-by 0.0.1/') ;;
esac
case $1 in
    events | tell | --version) exec $FLYHOT \"$@\" ;;
esac
exec $FLYHOT \"$@\" ${PLACE:+--store $PLACE}";

#[test]
fn a_verb_runs_where_what_it_needs_is() {
    let fleet = |ills, variables: &[(&str, &str)]| {
        let fleet = Fleet::with(ills, variables, ASKED);
        fleet.fly.secret("PLACE", text(&fleet.at("store")));
        fs::create_dir(fleet.at("store")).unwrap();
        fleet
    };
    let of_run = |run: &Run, name: &str| {
        run.events_named(name)
            .map(|event| event.json.clone())
            .collect::<Vec<_>>()
    };

    // By exec on a machine; where somebody else holds that, on the next.
    let well = fleet(FlyIlls::default(), &[]);
    let machines = [well.machine(), well.machine()];
    for (words, event) in [
        (&["history"][..], "history"),
        (&["lock", "status"], "lock"),
        (&["lock", "release"], "lock"),
        (&["gc"], "gc"),
    ] {
        let run = well.laptop(words).run();
        run.expect("done", 0);
        let [told] = &of_run(&run, event)[..] else {
            panic!("{run}")
        };
        assert_eq!(told["app"], "shop", "{run}");
        assert_eq!(of_run(&run, "elsewhere")[0]["machine"], machines[0], "{run}");
        well.hides(&run);
    }
    let people = well.typed(&["history"]).run();
    let place = format!("This runs on the machine {} in ams", machines[0]);
    assert!(people.stdout.contains(&place), "{people}");
    well.fly.lease_away(&machines[0], "bob@example.com", 600);
    let held = well.laptop(&["history"]).run();
    held.expect("done", 0);
    let asked: Vec<_> = of_run(&held, "elsewhere")
        .iter()
        .map(|event| event["machine"].clone())
        .collect();
    assert_eq!(asked, machines, "{held}");
    assert!(well.orchestrators().is_empty());
    // What is here is asked from here.
    let store = well.at("store");
    let here = well.laptop(&["history", "--store", text(&store)]).run();
    here.expect("done", 0);
    assert!(of_run(&here, "elsewhere").is_empty(), "{here}");
    let file = well
        .laptop(&["rollback", "--inventory", "fly", "--policy", "here"])
        .run();
    file.expect("refused", 2);
    assert!(
        file.stdout.contains("--policy names a file of this machine"),
        "{file}"
    );

    // Where commands of exec see no environment: on a machine of its own, which does.
    let bare = fleet(
        FlyIlls {
            exec_has_env: false,
            ..FlyIlls::default()
        },
        &[],
    );
    bare.machine();
    let run = bare.laptop(&["history"]).run();
    run.expect("done", 0);
    assert_eq!(of_run(&run, "history").len(), 1, "{run}");
    let image = "registry.fly.io/shop:deployment-01H3A";
    assert_eq!(of_run(&run, "orchestrator")[0]["image"], image, "{run}");
    bare.hides(&run);

    // Another flyhot is refused, whoever asks it for what.
    let old = fleet(FlyIlls::default(), &[("OLD", "yes")]);
    old.machine();
    let deploy = ["deploy", "--skip-build", "--image", image];
    for words in [&["history"][..], &["lock", "release", "--force"], &deploy] {
        let run = old.laptop(words).run();
        run.expect("refused", 2);
        let errors = of_run(&run, "error");
        assert_eq!(errors.len(), 1, "{run}");
        let said = format!("{} {}", errors[0]["message"], errors[0]["hint"]);
        assert!(
            said.contains("flyhot 0.0.1 asks for this")
                && said.contains("nothing was touched")
                && said.contains("FLYHOT_BIN"),
            "{said}"
        );
        assert!(fs::read_dir(old.at("store")).unwrap().next().is_none(), "{run}");
    }

    // Without any, and without any machine.
    let none = fleet(FlyIlls::default(), &[]);
    let nobody = none.laptop(&["history"]).run();
    nobody.expect("failed", 23);
    assert!(
        nobody.stdout.contains("has no machine whose image is known"),
        "{nobody}"
    );
    fs::remove_file(none.at("image/flyhot")).unwrap();
    none.machine();
    let absent = none.laptop(&["history"]).run();
    absent.expect("refused", 2);
    assert!(
        absent.stdout.contains("has no flyhot that runs a rollout"),
        "{absent}"
    );
}

#[test]
fn what_must_not_be_done_twice_is_done_once_where_its_answer_cannot_be_read() {
    let ills = FlyIlls {
        null_execs: true,
        ..FlyIlls::default()
    };
    let fleet = Fleet::with(ills, &[], ASKED);
    fleet.fly.secret("PLACE", text(&fleet.at("store")));
    fs::create_dir(fleet.at("store")).unwrap();
    let machines = [fleet.machine(), fleet.machine()];
    let run = fleet.laptop(&["lock", "release"]).run();
    run.expect("failed", 23);
    assert!(run.stdout.contains("the answer cannot be read"), "{run}");
    let asked: Vec<_> = run
        .events_named("elsewhere")
        .map(|event| event.json["machine"].clone())
        .collect();
    assert_eq!(asked, machines[..1], "{run}");
    assert_eq!(fleet.fly.asked("POST", "/exec").len(), 1, "{run}");
    assert!(fleet.orchestrators().is_empty(), "{run}");
}

// ---- as on Fly.io: machines with a network, found by the Machines API

/// Nothing stands in for anything but Fly.io itself: the nodes are those of the app's machines, and the token comes by standard input.
#[test]
fn a_deploy_reaches_the_machines_of_an_app_by_what_fly_says() {
    let (v1, v2) = releases();
    let (machines, bucket) = (Machines::start("deploy"), Moto::start());
    machines.offer_bucket(bucket.address());
    let image = machines.image("01H3A", &v1, "cookie_of_every_build");
    let shops = [
        machines.shop(&image, "app", "ams", &[]),
        machines.shop(&image, "worker", "fra", &[]),
    ];
    let scratch = Scratch::new("deploy");
    let at = |name: &str| scratch.path().join(name);
    let built = machines.unpushed("built", &v2, "cookie_of_every_build");
    let cli = FlyCli::new(&machines.fly, &built, Fly::TOKEN);
    fs::create_dir(at("project")).unwrap();
    // A machine of the tests has its root where it begins.
    let fly_toml =
        "app = \"shop\"\n[env]\nRELEASE_ROOT = \"app\"\nFLY_FLAPS_BASE_URL = \"http://[fdaa::3]:4280\"\n";
    fs::write(at("project/fly.toml"), fly_toml).unwrap();
    for id in &shops {
        machines.serves(id);
    }
    // As whoever comes from fly_deploy has it, and nobody knows any more: the token of whoever deploys goes before it.
    machines.fly.secret("FLY_API_TOKEN", "fm2_revoked");
    let deploy = || {
        machines
            .flyhot(["deploy", "--output", "json"])
            .within(&at("project"))
            .env("PATH", &cli.search_path(&[]))
            .run()
    };
    let run = deploy();
    run.expect("upgraded", 0);
    for id in &shops {
        assert_eq!(machines.version(id), "v2");
        assert!(machines.fly.label(id, "flyhot_code_id").is_some(), "{run}");
    }
    let made = run.events_named("orchestrator").next().unwrap().json["machine"].clone();
    wait_until("the orchestrator is labelled", LIMIT, || {
        let label = machines.fly.label(made.as_str().unwrap(), "flyhot_outcome");
        label.is_some_and(|label| label.starts_with("0 "))
    });
    let pointer = bucket.object("releases/shop/pointer.json").unwrap();
    let pointer: Value = serde_json::from_str(&pointer).unwrap();
    let record = &pointer["record"];
    assert_eq!(
        (&record["base_image"], &record["state"]),
        (&image.into(), &"committed".into())
    );
    let built = run.events_named("orchestrator").next().unwrap().json["image"].clone();
    assert_eq!(record["target"]["source_image"], built);
    assert!(!run.to_string().contains("fm2_"), "{run}");

    let again = deploy();
    again.expect("nothing_to_do", 0);

    // After half of a cold deploy nobody can say what machines boot.
    let other = machines.image("01H3B", &v1, "cookie_of_every_build");
    let cold = machines.shop(&other, "app", "ams", &[]);
    machines.serves(&cold);
    let mixed = deploy();
    mixed.expect("refused", 2);
    assert!(mixed.stdout.contains("was started from"), "{mixed}");
    assert_eq!(machines.version(&cold), "v1");
}

/// What a token of `fly auth token` comes to during a long bake.
#[test]
fn a_token_that_expires_on_the_way_ends_the_rollout_and_freezes_nobody() {
    let (v1, v2) = releases();
    let otp = Otp::under_test();
    let app = App::start("expires", &v1, &["ams", "fra"], None);
    let cli = app.builds_quick("v2", &v2);
    let fly = &app.machines.fly;
    let deploy = |words: &[&str]| app.deploy(&cli, &[&["--output", "json"], words].concat());
    let mut running = deploy(&["--canary", "--bake", "8s"]).spawn();
    running.wait_for("the canary bakes", LIMIT, |event| event["event"] == "bake");
    let mut orchestrator = app.orchestrator(0);
    fly.revoke(Fly::TOKEN);

    // Whoever follows is not let in any more.
    let left = running.wait();
    left.expect("failed", 23);
    let errors: Vec<_> = left.events_named("error").map(|event| &event.json).collect();
    let [error] = &errors[..] else { panic!("{left}") };
    let said = |key: &str| error[key].as_str().unwrap();
    assert!(
        said("message").contains("goes on") && said("message").contains("HTTP 401"),
        "{left}"
    );
    assert!(said("hint").contains("flyhot events"), "{left}");

    // The rollout ends by itself.
    orchestrator.comes_to("the outcome", |said| {
        said.last().is_some_and(|event| event["event"] == "outcome")
    });
    let said = orchestrator.said();
    let outcome = said.last().unwrap();
    assert_eq!(
        (&outcome["outcome"], &outcome["exit_code"]),
        (&"reverted".into(), &11.into()),
        "{outcome:#}"
    );
    let of = |at: usize| &outcome["nodes"][at];
    let outcomes = [0, 1].map(|at| of(at)["outcome"].clone());
    assert_eq!(outcomes, ["taken_back", "not_begun"], "{outcome:#}");
    let mut reasons = of(0)["reasons"].as_array().unwrap().iter();
    let gate = reasons.find(|reason| reason["code"] == "gate_failed").unwrap();
    assert!(
        gate["hint"].as_str().unwrap().contains("`fly auth login`"),
        "{outcome:#}"
    );
    assert_eq!(app.versions(), ["v1"; 2], "{outcome:#}");
    for id in &app.ids {
        assert_eq!(app.probe(otp, id).suspended(), NONE);
    }

    fly.allow_all(Fly::TOKEN);
    let again = deploy(&[]).run();
    again.expect("upgraded", 0);
    assert_eq!(app.versions(), ["v2"; 2], "{again}");
}

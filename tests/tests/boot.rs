//! What a machine boots: what was committed, or what its image brings, wholly, whatever became of the store, the artifact, the disk
//! or of flyhot itself on the way.
#![allow(clippy::print_stderr, reason = "prints where its kills fell")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flyhot_tests::{
    Ailment, Flyhot, Journal, Moto, Node, Observed, Otp, Probe, Random, Release, Run, Scratch, Shop,
    ShopBuild, publish, rounds,
};
use serde_json::Value;

/// How long these machines wait for a store.
const WAIT: Duration = Duration::from_secs(2);

/// What a command may take besides what it waits for.
const BESIDES: Duration = Duration::from_secs(4);

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9";

/// A machine, what it boots from, and the store of its fleet.
struct Machine {
    scratch: Scratch,
    release: Release,
    environment: Vec<(String, String)>,
}

impl Machine {
    fn of(release: &Release) -> Self {
        let scratch = Scratch::new("machine");
        let directory = scratch.path().join("app");
        fs::create_dir(&directory).unwrap();
        let release = release.copied(&directory);
        fs::create_dir(scratch.path().join("store")).unwrap();
        Self {
            scratch,
            release,
            environment: Vec::new(),
        }
    }

    fn store(&self) -> PathBuf {
        self.scratch.path().join("store")
    }

    fn directory(&self) -> &Path {
        self.release.directory()
    }

    /// Packs a release.
    fn pack(&self, release: &Release) -> PathBuf {
        let out = self.scratch.path().join("artifact.tar.gz");
        let args = [
            "pack",
            "--release",
            text(release.directory()),
            "--out",
            text(&out),
        ];
        Flyhot::new(args)
            .args(["--output", "json"])
            .run()
            .expect("done", 0);
        out
    }

    /// Has the fleet run a release.
    fn deploy(&self, release: &Release, words: &[&str]) -> String {
        publish(&self.store(), &self.pack(release), words)
    }

    fn artifact(&self, digest: &str) -> PathBuf {
        self.store()
            .join(format!("releases/shop/artifacts/{digest}.tar.gz"))
    }

    /// `flyhot boot` with these arguments and a command that says that it was started.
    fn flyhot(&self, args: &[&str]) -> Flyhot {
        let command = Flyhot::new(["boot", "--release", text(self.directory()), "--app", "shop"])
            .args(["--output", "json"])
            .args(
                if args.contains(&"--wait") {
                    [].as_slice()
                } else {
                    &["--wait", "2s"]
                }
                .iter()
                .copied(),
            )
            .args(args.iter().copied())
            .args(["--", "/bin/echo", "started"]);
        let with = |command: Flyhot, (name, value): &(String, String)| command.env(name, value);
        self.environment.iter().fold(command, with)
    }

    /// Boots from the store.
    fn boot(&self, args: &[&str]) -> Booted {
        let store = self.store();
        Booted(self.flyhot(&[&["--store", text(&store)], args].concat()).run())
    }

    /// What a start of the release runs now.
    fn runs(&self) -> String {
        runs(&self.release)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a boot did.
struct Booted(Run);

impl Booted {
    /// Ends the test unless it started the command, with nothing of its own on standard output, and booted this for that reason.
    #[track_caller]
    fn expect(self, what: &str, why: &str) -> Self {
        assert_eq!(
            (&*self.0.stdout, self.0.exit_code),
            ("started\n", Some(0)),
            "{}",
            self.0
        );
        let event = self.event("boot");
        assert!(
            event["what"] == what && event["why"] == why,
            "expected {what}: {why}\n{}",
            self.0
        );
        self
    }

    /// It says what went wrong, aloud.
    #[track_caller]
    fn aloud(self, part: &str) -> Self {
        let error = self.event("error");
        assert!(error["message"].as_str().unwrap().contains(part), "{}", self.0);
        assert_ne!(error["hint"], "", "{}", self.0);
        self
    }

    /// It did not start the command.
    #[track_caller]
    fn refused(self, exit_code: i32) -> Self {
        assert_eq!(
            (&*self.0.stdout, self.0.exit_code),
            ("", Some(exit_code)),
            "{}",
            self.0
        );
        self
    }

    #[track_caller]
    fn event(&self, name: &str) -> Value {
        let events = self.0.aside();
        let found = events.into_iter().find(|event| event["event"] == name);
        found.unwrap_or_else(|| panic!("no event {name}: {}", self.0))
    }

    /// How many files it wrote.
    fn files(&self) -> u64 {
        self.event("boot")["files"].as_u64().unwrap()
    }

    fn fetched(&self) -> bool {
        let events = self.0.aside();
        events
            .iter()
            .any(|event| event["event"] == "step_done" && event["step"] == "fetch")
    }
}

/// The modules and versions of what is the release's own, of a node that was just started: what is loaded, or would be.
fn looked(probe: &Probe) -> String {
    probe.eval(
        "Own = [A || {A, _, _} <- application:loaded_applications(), lists:member(A, [shop, till, bell])],
         Ms = lists:append([begin {ok, Ms} = application:get_key(A, modules), Ms end || A <- Own]),
         Md5 = fun(M) -> case code:ensure_loaded(M) of {module, M} -> M:module_info(md5); Error -> Error end end,
         Protocols = [{M, Md5(M)} || M <- ['Elixir.Shop.Price', 'Elixir.Enumerable', 'Elixir.String.Chars']],
         lists:sort([{A, application:get_key(A, vsn)} || A <- Own] ++ [{M, Md5(M)} || M <- Ms] ++ Protocols).",
    )
}

fn runs(release: &Release) -> String {
    let mut node = start(release);
    let looked = looked(node.probe());
    // Nobody waits for its end.
    node.kill();
    looked
}

fn start(release: &Release) -> Node {
    let node = Node::release(release);
    let node = node.env("SHOP_CARTS", "1").env("SHOP_POOL", "1");
    if release.directory().join("bin/shop").exists() {
        node.start()
    } else {
        node.short_name().start()
    }
}

fn releases() -> (Release, Release) {
    let otp = Otp::under_test();
    (Release::shop(otp, "v1"), Release::shop(otp, "v2"))
}

/// The common one: the same version, other code.
fn same_version() -> Release {
    ShopBuild::new(Otp::under_test(), "v2").version("1.0.0").build()
}

fn till(code: &str, bell: bool) -> Release {
    Release::till(Otp::under_test(), code, bell)
}

#[test]
fn the_command_takes_its_place_at_once_where_nothing_was_deployed() {
    let (v1, _) = releases();
    let machine = Machine::of(&v1);
    let booted = machine.boot(&[]).expect("base", "nothing_deployed");
    assert_eq!(booted.files(), 0);
    assert!(!machine.directory().join("flyhot").exists(), "{}", booted.0);
    // Nobody names a store, and the release's runtime.exs, which is none, does not either.
    Booted(machine.flyhot(&[]).run()).expect("base", "no_store");
    // The release is told that flyhot started it, and with what.
    let told = Flyhot::new(["boot", "--release", text(machine.directory()), "--app", "shop"])
        .args(["--store", text(&machine.store()), "--", "/usr/bin/env"])
        .run();
    assert!(
        told.stdout.lines().any(|line| line == "FLYHOT_BOOT=base"),
        "{told}"
    );
    // What would not start is known before anything is done, and said.
    let run = Flyhot::new(["boot", "--output", "json", "--", "/nowhere/bin/shop", "start"]).run();
    Booted(run).refused(2).aloud("/nowhere/bin/shop");
    let run = Flyhot::new(["boot", "--output", "json", "--", "/bin/echo"]).run();
    Booted(run).refused(2).aloud("/bin/echo");
}

/// By its own script, whose process flyhot becomes: the release is found by it, the app by its name.
#[test]
fn what_was_committed_boots_and_a_second_boot_writes_nothing() {
    let (v1, v2) = releases();
    let machine = Machine::of(&v1);
    machine.deploy(&v2, &["commit"]);
    let store = machine.store();
    let args = ["--store", text(&store)];
    let mut first = Shop::of(&machine.release)
        .carts(1)
        .pool(1)
        .node(|node| node.in_place().boot(args))
        .start();
    assert_eq!(looked(first.probe()), known(&v2), "{}", first.log());
    assert_eq!(
        first.probe().eval("os:getpid()."),
        format!("{:?}", first.pid().to_string())
    );
    assert!(
        first.log().contains("this machine takes whatever is whole"),
        "{}",
        first.log()
    );
    assert_eq!(machine.release.version(), v2.version());
    let told = |shop: &Shop| shop.probe().eval("os:getenv(\"FLYHOT_BOOT\").");
    let of_first = told(&first);
    // In place too, as whoever knows the version by heart starts it.
    first.kill();
    let again = machine.boot(&[]).expect("target", "committed");
    assert_eq!((again.files(), again.fetched()), (0, false), "{}", again.0);
    let booted = Shop::of(&machine.release).carts(1).pool(1);
    let booted = booted.node(|node| node.env("RELEASE_VSN", &v1.version())).start();
    assert_eq!(looked(booted.probe()), known(&v2));
    assert_eq!(of_first, again.event("boot")["code_id"].to_string());
    assert_eq!(told(&booted), "false");
}

#[test]
fn a_trial_boots_what_was_committed_before_and_another_image_its_base() {
    let (v1, _) = releases();
    let (old, next) = (known(&v1), same_version());
    let machine = Machine::of(&v1);
    machine.deploy(&next, &["trial", "--base", "image:1"]);
    machine.boot(&["--base", "image:1"]).expect("base", "trial");
    assert_eq!(machine.runs(), old);
    machine.deploy(&next, &["commit", "--base", "image:1"]);
    let pointer = || fs::read(machine.store().join("releases/shop/pointer.json")).unwrap();
    let before = pointer();
    machine.boot(&["--base", "image:2"]).expect("base", "other_image");
    assert_eq!(machine.runs(), old);
    machine.boot(&["--base", "image:1"]).expect("target", "committed");
    let new = machine.runs();
    assert_eq!(new, known(&next));
    // The next trial boots what is committed; and the old image goes back to its own code.
    let third = v1.variant().erlang("pool_worker", &pool("third")).build();
    assert_eq!(pointer(), before);
    machine.deploy(&third, &["trial", "--base", "image:1"]);
    let trial = machine.boot(&["--base", "image:1"]).expect("target", "trial");
    assert_eq!(trial.files(), 0, "{}", trial.0);
    assert_eq!(machine.runs(), new);
    machine.boot(&["--base", "image:0"]).expect("base", "other_image");
    assert_eq!(machine.runs(), old);
}

fn pool(tag: &str) -> String {
    format!(
        "-module(pool_worker).
         -behaviour(gen_server).
         -export([start_link/1, init/1, handle_call/3, handle_cast/2]).
         start_link(N) -> gen_server:start_link({{local, list_to_atom(\"pool_\" ++ integer_to_list(N))}}, ?MODULE, N, []).
         init(N) -> {{ok, {{v1, N, 0}}}}.
         handle_call(_, _From, State) -> {{reply, {tag}, State}}.
         handle_cast(_, State) -> {{noreply, State}}.\n"
    )
}

/// From any to any: versions up and down, the same version, back to none, and over what an upgrade of the running node wrote.
#[test]
fn wherever_the_pointer_goes_the_next_boot_follows() {
    let (v1, v2) = releases();
    let third = ShopBuild::new(Otp::under_test(), "v2").version("7.8.9").build();
    let machine = Machine::of(&v1);
    let old = known(&v1);
    let fourth = v1.variant().erlang("pool_worker", &pool("fourth")).build();
    for release in [&same_version(), &v2, &third, &fourth, &same_version(), &v2] {
        machine.deploy(release, &["commit"]);
        let booted = machine.boot(&[]).expect("target", "committed");
        assert_eq!(machine.runs(), known(release), "{}", booted.0);
        let kept: Vec<_> = fs::read_dir(machine.directory().join("flyhot/artifacts"))
            .unwrap()
            .collect();
        // None where its code was there still.
        assert!(kept.len() <= 1, "{}", booted.0);
    }
    let generations = fs::read_dir(machine.directory().join("flyhot/code"))
        .unwrap()
        .count();
    // Of six that were made the latest three, and what started before.
    assert!(generations <= 4, "{generations}");
    fs::remove_file(machine.store().join("releases/shop/pointer.json")).unwrap();
    machine.boot(&[]).expect("base", "nothing_deployed");
    assert_eq!(machine.runs(), old);
    assert_eq!(machine.release.version(), v1.version());

    // An upgrade of the running node writes the same places.
    let node = Shop::of(&machine.release)
        .carts(1)
        .pool(1)
        .node(|node| node.in_place())
        .start();
    Flyhot::upgrade(&node, &third).run().expect("upgraded", 0);
    drop(node);
    assert_eq!(machine.runs(), known(&third));
    machine.boot(&[]).expect("base", "nothing_deployed");
    assert_eq!(machine.runs(), old);
    let node = Shop::of(&machine.release)
        .carts(1)
        .pool(1)
        .node(|node| node.in_place())
        .start();
    Flyhot::upgrade(&node, &v2).run().expect("upgraded", 0);
    drop(node);
    machine.deploy(&third, &["commit"]);
    machine.boot(&[]).expect("target", "committed");
    assert_eq!(machine.runs(), known(&third));
    // And one of a node that a boot started, whose base is put back.
    let node = Shop::of(&machine.release)
        .carts(1)
        .pool(1)
        .node(|node| node.in_place())
        .start();
    let down = Flyhot::upgrade(&node, &v2).args(["--down"]).run();
    // The code is the same under another number: the disk alone is written.
    down.expect("nothing_to_do", 0);
    assert!(!down.reason_codes().contains(&"not_persisted"), "{down}");
    assert_eq!(machine.runs(), known(&v2), "{down}");
    Flyhot::ask("restore-base", &node).run().expect("done", 0);
    assert_eq!(machine.runs(), old);
}

#[test]
fn a_release_of_erlang_alone_with_an_application_that_is_new_and_one_that_goes() {
    let (v1, more) = (till("v1", false), till("v2", true));
    let machine = Machine::of(&v1);
    machine.deploy(&more, &["commit"]);
    machine.boot(&[]).expect("target", "committed");
    let node = start(&machine.release);
    assert_eq!(looked(node.probe()), known(&more));
    assert_eq!(
        node.probe().eval("{lists:keymember(bell, 1, application:which_applications()), filelib:is_dir(code:priv_dir(bell))}."),
        "{true,true}"
    );
    machine.deploy(&till("v2", false), &["commit"]);
    machine.boot(&[]).expect("target", "committed");
    assert_eq!(machine.runs(), known(&till("v2", false)));
    fs::remove_file(machine.store().join("releases/shop/pointer.json")).unwrap();
    // By its own script, too.
    let store = machine.store();
    let node = Node::release(&machine.release).short_name().in_place();
    let node = node.boot(["--app", "shop", "--store", text(&store)]).start();
    assert_eq!(looked(node.probe()), known(&v1));
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::File::create(path).unwrap().write_all(&bytes).unwrap();
}

#[test]
fn what_is_damaged_never_boots() {
    let v1 = till("v1", false);
    let (old, v2) = (known(&v1), till("v2", false));
    let machine = Machine::of(&v1);
    let digest = machine.deploy(&v2, &["commit"]);
    let whole = fs::read(machine.artifact(&digest)).unwrap();
    flip(&machine.artifact(&digest));
    let booted = machine.boot(&[]).expect("base", "not_usable");
    booted.aloud("its sha256 is");
    assert_eq!(machine.runs(), old);
    machine.boot(&["--on-unreachable", "fail"]).refused(22);
    fs::remove_file(machine.artifact(&digest)).unwrap();
    machine
        .boot(&[])
        .expect("base", "store_failed")
        .aloud("has no artifact");
    fs::write(machine.artifact(&digest), &whole).unwrap();

    // What was fetched before is looked at again, and fetched anew.
    let cached = machine
        .directory()
        .join(format!("flyhot/artifacts/{digest}.tar.gz"));
    fs::write(&cached, &whole).unwrap();
    flip(&cached);
    let booted = machine.boot(&[]).expect("target", "committed");
    assert!(booted.fetched(), "{}", booted.0);
    assert_eq!(fs::read(&cached).unwrap(), whole);
    let new = machine.runs();
    assert_eq!(new, known(&v2));

    // And what was unpacked: a start would load it as it lies there.
    let beam = machine.release.ebin_of_generation().join("till_clerk.beam");
    let bytes = fs::read(&beam).unwrap();
    fs::write(&beam, &bytes[..bytes.len() / 2]).unwrap();
    let booted = machine.boot(&[]).expect("target", "committed");
    assert_ne!(booted.files(), 0, "{}", booted.0);
    assert_eq!(machine.runs(), new);

    // An artifact for another runtime is not booted either.
    let foreign = Scratch::new("foreign");
    let other = v2.copied(foreign.path());
    let data = fs::read_to_string(other.directory().join("releases/start_erl.data")).unwrap();
    let erts = data.split_whitespace().next().unwrap().to_owned();
    let rel = other.directory().join("releases/2.0.0/till.rel");
    for file in [other.directory().join("releases/start_erl.data"), rel] {
        let text = fs::read_to_string(&file).unwrap().replace(&erts, "1.2.3");
        fs::write(&file, text).unwrap();
    }
    machine.deploy(&other, &["commit"]);
    machine.boot(&[]).expect("base", "not_usable").aloud("ERTS 1.2.3");
    assert_eq!(machine.runs(), old);
}

/// Where the beams of the till lie that a boot unpacked.
trait Generation {
    fn ebin_of_generation(&self) -> PathBuf;
}

impl Generation for Release {
    fn ebin_of_generation(&self) -> PathBuf {
        let code = fs::read_dir(self.directory().join("flyhot/code")).unwrap();
        let mut places = code
            .flatten()
            .map(|entry| entry.path().join("lib/till-2.0.0/ebin"));
        places.find(|ebin| ebin.is_dir()).expect("a generation")
    }
}

#[test]
fn a_machine_with_keys_boots_what_one_of_them_signed_and_nothing_else() {
    let v1 = till("v1", false);
    let (old, v2) = (known(&v1), till("v2", false));
    let mut machine = Machine::of(&v1);
    let key = machine.scratch.path().join("key");
    let made = Flyhot::new(["keygen", "--out", text(&key), "--output", "json"]).run();
    let public = made.events_named("key").next().unwrap().json["public"]
        .as_str()
        .unwrap()
        .to_owned();
    // Booted while nobody asked, so that everything lies there.
    machine.deploy(&v2, &["commit"]);
    machine.boot(&[]).expect("target", "committed");
    machine
        .environment
        .push(("FLYHOT_PUBLIC_KEYS".to_owned(), public.clone()));
    machine.boot(&[]).expect("base", "not_trusted").aloud("sign");
    assert_eq!(machine.runs(), old);
    machine.boot(&["--on-unreachable", "fail"]).refused(25);

    let artifact = machine.pack(&v2);
    let sign = [
        "sign",
        text(&artifact),
        "--key-file",
        text(&key),
        "--output",
        "json",
    ];
    Flyhot::new(sign).run().expect("done", 0);
    let signature = artifact.with_extension("gz.sig");
    publish(
        &machine.store(),
        &artifact,
        &["commit", "--signature", text(&signature)],
    );
    let booted = machine.boot(&[]).expect("target", "committed");
    let event = booted.event("boot");
    assert_eq!(
        (&event["trust"], &event["signed_by"]),
        (&"signed".into(), &public.into())
    );
    assert_eq!(machine.runs(), known(&v2));

    // A signature of one artifact is none of another.
    let other = machine.pack(&till("v2", true));
    publish(
        &machine.store(),
        &other,
        &["commit", "--signature", text(&signature)],
    );
    machine.boot(&[]).expect("base", "not_trusted");
    assert_eq!(machine.runs(), old);
    // Keys that cannot be read are no reason to trust anybody.
    machine.environment[0].1 = "no key".to_owned();
    machine
        .boot(&[])
        .expect("base", "not_trusted")
        .aloud("FLYHOT_PUBLIC_KEYS");
}

#[test]
fn a_store_that_does_not_answer_is_waited_for_as_long_as_was_said() {
    let v1 = till("v1", false);
    let (old, v2) = (known(&v1), till("v2", false));
    let machine = Machine::of(&v1);
    machine.deploy(&v2, &["commit"]);
    machine.boot(&[]).expect("target", "committed");
    let unreachable = |policy: &str| {
        let args = ["--bucket", "b", "--endpoint", NOBODY, "--on-unreachable", policy];
        let run = machine
            .flyhot(&args)
            .env("AWS_ACCESS_KEY_ID", "tid")
            .env("AWS_SECRET_ACCESS_KEY", "tsec");
        Booted(run.run())
    };
    let waited = unreachable("wait")
        .expect("base", "store_failed")
        .aloud("the bucket b");
    assert!(
        waited.0.took >= WAIT && waited.0.took < 3 * WAIT + BESIDES,
        "{}",
        waited.0
    );
    assert_eq!(machine.runs(), old);
    let failed = unreachable("fail").refused(22);
    assert!(
        failed.0.took >= WAIT && failed.0.took < 3 * WAIT + BESIDES,
        "{}",
        failed.0
    );
    // A file that lies where the machine starts is none of its: its environment names store and app.
    let (project, args) = (
        Scratch::new("project"),
        ["--endpoint", NOBODY, "--on-unreachable", "fail"],
    );
    fs::write(project.path().join("fly.toml"), "app = \n").unwrap();
    let named = machine.flyhot(&args).within(project.path());
    let named = [
        ("BUCKET_NAME", "b"),
        ("FLY_APP_NAME", "shop"),
        ("AWS_ACCESS_KEY_ID", "tid"),
        ("AWS_SECRET_ACCESS_KEY", "tsec"),
    ]
    .into_iter()
    .fold(named, |run, (name, value)| run.env(name, value));
    Booted(named.run()).refused(22);
    let unnamed = machine
        .flyhot(&["--on-unreachable", "boot-base"])
        .within(project.path());
    Booted(unnamed.run())
        .expect("base", "not_configured")
        .aloud("fly.toml");
    // Five seconds, whatever is said of waiting.
    let patient = ["--bucket", "b", "--endpoint", NOBODY, "--wait", "60s"];
    let at_once = machine.flyhot(&[&patient[..], &["--on-unreachable", "boot-base"]].concat());
    let at_once = at_once
        .env("AWS_ACCESS_KEY_ID", "tid")
        .env("AWS_SECRET_ACCESS_KEY", "tsec");
    let at_once = Booted(at_once.run()).expect("base", "store_failed");
    assert!(
        at_once.0.took < 3 * Duration::from_secs(5) + BESIDES,
        "{}",
        at_once.0
    );
    assert_eq!(machine.runs(), old);
    // An artifact for machines of an image is none for one that does not say which it has, nor the other way round.
    let unsaid = Machine::of(&v1);
    unsaid.deploy(&same_version(), &["commit", "--base", "image:1"]);
    unsaid.boot(&[]).expect("base", "other_image");
    let everywhere = Machine::of(&v1);
    everywhere.deploy(&same_version(), &["commit"]);
    everywhere
        .boot(&["--base", "image:1"])
        .expect("base", "other_image");
    let elsewhere = ["--store", "/nowhere/artifacts", "--wait", "100ms"];
    let unmounted = Booted(machine.flyhot(&elsewhere).run());
    unmounted
        .expect("base", "store_failed")
        .aloud("/nowhere/artifacts");
    // A signal ends it while it waits: half a minute where nothing else is said.
    let args = [
        "boot",
        "--release",
        text(machine.directory()),
        "--app",
        "shop",
        "--bucket",
        "b",
    ];
    let running = Flyhot::new(args)
        .args([
            "--endpoint",
            NOBODY,
            "--output",
            "json",
            "--",
            "/bin/echo",
            "started",
        ])
        .env("AWS_ACCESS_KEY_ID", "tid")
        .env("AWS_SECRET_ACCESS_KEY", "tsec")
        .spawn();
    running.wait_for_aside("\"started\"");
    running.interrupt();
    let interrupted = Booted(running.wait()).refused(130);
    assert!(interrupted.0.took < 3 * WAIT + BESIDES, "{}", interrupted.0);
}

/// A machine that booted an artifact, what was done to its disk for that, and where in it the boot file appeared.
fn led_to_an_artifact(v1: &Release, v2: &Release) -> (Machine, Journal, usize) {
    let machine = Machine::of(v1);
    machine.deploy(v2, &["commit"]);
    let observed = Observed::new(machine.directory());
    observe(&machine, &observed).expect("target", "committed");
    let journal = observed.journal(v1);
    let boot = journal
        .renamed_onto("releases/1.0.0/start.boot")
        .expect("a boot file");
    (machine, journal, boot)
}

/// Before the rename that decides it boots the base, behind it what it was led to, and says which.
#[test]
fn a_directory_that_cannot_be_written_boots_what_it_has() {
    let (v1, v2) = (till("v1", false), till("v2", false));
    let (old, new) = (known(&v1), known(&v2));
    let (machine, journal, boot) = led_to_an_artifact(&v1, &v2);
    let sickened = |count, ailment| {
        let sick = Machine::of(&v1);
        copy_store(&machine, &sick);
        let observed = Observed::new(sick.directory()).ail(count, ailment);
        let booted = observe(&sick, &observed);
        (sick, booted)
    };
    for ailment in [Ailment::ReadOnly, Ailment::Full, Ailment::Forbidden] {
        // Opening what is there to write to it counts as well, so that it is a few more.
        let counted = journal.counted(boot, ailment).saturating_sub(3);
        let (mut before, first) = sickened(0, ailment);
        first
            .expect("base", "not_written")
            .aloud(text(before.directory()));
        for count in counted.. {
            assert!(count < counted + 16, "{ailment:?} after {count} does not matter");
            let (sick, booted) = sickened(count, ailment);
            if booted.event("boot")["what"] == "base" {
                booted.expect("base", "not_written");
                before = sick;
                continue;
            }
            let booted = booted
                .expect("as_it_is", "not_written")
                .aloud(text(sick.directory()));
            let told = format!("{ailment:?} after {count}: {}", booted.0);
            assert_eq!(before.runs(), old, "{told}");
            assert_eq!(sick.runs(), new, "{told}");
            before.boot(&[]).expect("target", "committed");
            assert_eq!(before.runs(), new, "{told}");
            break;
        }
    }
    let sick = Machine::of(&v1);
    copy_store(&machine, &sick);
    let observed = Observed::new(sick.directory()).ail(0, Ailment::ReadOnly);
    let store = sick.store();
    let flyhot = sick.flyhot(&["--store", text(&store), "--on-unreachable", "fail"]);
    through(flyhot, &observed).refused(2);
}

fn observe(machine: &Machine, observed: &Observed) -> Booted {
    let store = machine.store();
    through(machine.flyhot(&["--store", text(&store)]), observed)
}

fn through(flyhot: Flyhot, observed: &Observed) -> Booted {
    let variables = observed.variables(Otp::under_test());
    let with = |flyhot: Flyhot, (name, value): &(&str, String)| flyhot.env(name, value);
    Booted(variables.iter().fold(flyhot, with).run())
}

#[test]
fn wherever_it_was_killed_on_the_way_to_an_artifact_the_next_boot_is_whole() {
    killed_everywhere("boot_killed_there", false);
}

#[test]
fn wherever_it_was_killed_on_the_way_back_the_next_boot_is_whole() {
    killed_everywhere("boot_killed_back", true);
}

/// Killed between any two changes of the disk: a start is wholly the one or wholly the other, and so is the next boot, with the
/// store and without it.
fn killed_everywhere(name: &str, back: bool) {
    let [first, other] = ["v2", "v1"].map(|code| till(code, false));
    let scratch = Scratch::new("same");
    let same = first.copied(scratch.path());
    same.recompile("till", "till_receipt", "a receipt", "another");
    let mut random = Random::new(name);
    let mut seen = (0, 0);
    for round in 0..rounds(10, 50) {
        // Of another version or of the same.
        let release = if round % 2 == 0 { &other } else { &same };
        let machine = Machine::of(&first);
        machine.deploy(release, &["commit"]);
        let (base, target) = (known(&first), known(release));
        if back {
            machine.boot(&[]).expect("target", "committed");
            fs::remove_file(machine.store().join("releases/shop/pointer.json")).unwrap();
        }
        let twin = Machine::of(&machine.release);
        copy_store(&machine, &twin);
        let observed = Observed::new(twin.directory());
        observe(&twin, &observed);
        let journal = observed.journal(&machine.release);
        let all = journal.counted(journal.len(), Ailment::Killed);
        // The last are those that decide.
        let last = all.min(20);
        let nth = if round % 5 == 0 {
            random.below(all)
        } else {
            all - 1 - random.below(last)
        };
        let observed = Observed::new(machine.directory()).ail(nth, Ailment::Killed);
        let killed = observe(&machine, &observed);
        let told = format!("round {round}, after {nth} of {all} changes: {}", killed.0);
        assert_eq!(killed.0.exit_code, None, "{told}");
        let now = machine.runs();
        assert!(now == base || now == target, "{told}\n{now}");
        match now == target {
            true => seen.1 += 1,
            false => seen.0 += 1,
        }
        if random.below(2) == 0 {
            let args = ["--bucket", "b", "--endpoint", NOBODY, "--wait", "100ms"];
            Booted(machine.flyhot(&args).run()).expect("base", "store_failed");
            assert_eq!(machine.runs(), base, "{told}");
        } else if back {
            machine.boot(&[]).expect("base", "nothing_deployed");
            assert_eq!(machine.runs(), base, "{told}");
        } else {
            machine.boot(&[]).expect("target", "committed");
            assert_eq!(machine.runs(), target, "{told}");
        }
    }
    eprintln!(
        "{name}: {} starts of the base, {} of the artifact",
        seen.0, seen.1
    );
    assert!(seen.0 > 0 && seen.1 > 0, "{seen:?}");
}

/// What a release runs that is booted as it was built, looked at once.
fn known(release: &Release) -> String {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    static KNOWN: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    let looked = known.entry(release.directory().to_owned());
    looked.or_insert_with(|| runs(release)).clone()
}

fn copy_store(from: &Machine, to: &Machine) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from.store().join("."))
        .arg(to.store())
        .status();
    assert!(copied.unwrap().success());
}

/// Of what was not synced anything may be missing after a power cut.
#[test]
fn wherever_the_power_went_the_next_start_is_whole() {
    let (v1, v2) = (till("v1", false), till("v2", false));
    let (old, new) = (known(&v1), known(&v2));
    let (machine, journal, boot) = led_to_an_artifact(&v1, &v2);
    let lasting = journal
        .synced("releases/1.0.0", boot)
        .expect("it would not outlast a power cut");
    let data = journal
        .renamed_onto("releases/start_erl.data")
        .expect("start_erl.data");
    assert!(boot < lasting && lasting < data, "{boot} {lasting} {data}");
    let mut random = Random::new("boot_power");
    for (what, from, to) in [
        ("before the one rename", 0, boot - 1),
        ("around it", boot, lasting - 1),
        ("behind it", lasting, data - 1),
        ("at the end", data, journal.len()),
    ] {
        for _ in 0..rounds(2, 50) {
            let cut = from + usize::try_from(random.below((to - from + 1) as u64)).unwrap();
            let seed = random.seed();
            let scratch = Scratch::new("power");
            let left = journal.power_cut(cut, &mut random, scratch.path());
            let booted = runs(&left);
            let told = format!("{what}, after {cut} of {} changes, seed {seed}", journal.len());
            match what {
                "before the one rename" => assert_eq!(booted, old, "{told}"),
                "around it" => assert!(booted == old || booted == new, "{told}: {booted}"),
                _ => assert_eq!(booted, new, "{told}"),
            }
            // And the next boot gets there.
            let args = [
                "boot",
                "--release",
                text(left.directory()),
                "--app",
                "shop",
                "--store",
            ];
            let store = machine.store();
            let next =
                Flyhot::new(args).args([text(&store), "--output", "json", "--", "/bin/echo", "started"]);
            Booted(next.run()).expect("target", "committed");
            assert_eq!(runs(&left), new, "{told}");
        }
    }
}

/// Bucket and keys are in the release's runtime.exs and nowhere else: it is asked, and nothing of it is shown.
#[test]
fn a_release_that_alone_knows_its_bucket_is_asked_for_it() {
    let runtime = format!(
        "import Config
         IO.puts(\"tsec_noise\")
         if System.get_env(\"RUNTIME_FAILS\"), do: raise \"tsec_raised\"
         config :fly_deploy,
           bucket: System.get_env(\"TOLD_BUCKET\", \"told-by-the-release\"),
           aws_access_key_id: \"tid_hidden\",
           aws_secret_access_key: \"tsec_hidden\",
           aws_endpoint_url_s3: System.get_env(\"TOLD_ENDPOINT\", \"{NOBODY}\")
        "
    );
    let release = ShopBuild::new(Otp::under_test(), "v1").runtime(&runtime).build();
    let machine = Machine::of(&release);
    let surrounded = |flyhot: Flyhot| {
        let path = format!(
            "{}:{}",
            Otp::under_test().bin().display(),
            std::env::var("PATH").unwrap()
        );
        flyhot
            .env("PATH", &path)
            .env("RELEASE_TMP", text(machine.scratch.path()))
    };
    let booted = Booted(surrounded(machine.flyhot(&[])).run()).expect("base", "store_failed");
    let booted = booted.aloud("told-by-the-release");
    // A release that says nothing in time or at all is a store that does not answer.
    let silent = surrounded(machine.flyhot(&[])).env("RUNTIME_FAILS", "yes");
    let silent = Booted(silent.run()).expect("base", "store_failed").aloud("eval");
    let named = surrounded(machine.flyhot(&["--bucket", "mine", "--endpoint", NOBODY]));
    let named = Booted(
        named
            .env("AWS_ACCESS_KEY_ID", "a")
            .env("AWS_SECRET_ACCESS_KEY", "b")
            .run(),
    );
    let named = named.expect("base", "store_failed").aloud("the bucket mine");
    // And from there it boots.
    let moto = Moto::start();
    let next = ShopBuild::new(Otp::under_test(), "v2")
        .version("1.0.0")
        .runtime(&runtime)
        .build();
    let endpoint = format!("http://{}", moto.address());
    let told = |flyhot: Flyhot| {
        flyhot
            .env("TOLD_BUCKET", Moto::BUCKET)
            .env("TOLD_ENDPOINT", &endpoint)
    };
    let shop = Shop::of(&release).carts(1).pool(1).start();
    let home = ["--bucket", Moto::BUCKET, "--endpoint", &endpoint, "--app", "shop"];
    let out = Flyhot::new([
        "rollout",
        "--node",
        shop.name(),
        "--release",
        text(next.directory()),
    ]);
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let out = keys.iter().fold(out, |out, (name, value)| out.env(name, value));
    let out = out.args(home).args(["--output", "json"]).of(&shop).run();
    out.expect("upgraded", 0);
    let there =
        Booted(told(surrounded(machine.flyhot(&["--wait", "60s"]))).run()).expect("target", "committed");
    assert!(there.fetched(), "{}", there.0);
    assert_eq!(machine.runs(), known(&next));
    // It goes before what the app's secrets say, as it does where it is deployed from.
    let others = [
        ("BUCKET_NAME", "of-others"),
        ("AWS_ENDPOINT_URL_S3", NOBODY),
        ("AWS_ACCESS_KEY_ID", "of-others"),
        ("AWS_SECRET_ACCESS_KEY", "of-others"),
    ];
    let of_others = |flyhot: Flyhot| {
        others
            .iter()
            .fold(flyhot, |flyhot, (name, value)| flyhot.env(name, value))
    };
    let before = Booted(of_others(told(surrounded(machine.flyhot(&[])))).run()).expect("target", "committed");
    // So are commands on a machine of Fly.io, where nobody else names bucket or keys.
    let on_machine = |words: &[&str]| {
        let words = words.iter().copied().chain(["--output", "json"]);
        let flyhot = told(surrounded(Flyhot::new(words)));
        flyhot
            .env("FLY_MACHINE_ID", "148e4d55f74d89")
            .env("FLY_APP_NAME", "shop")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("RELEASE_ROOT", text(machine.directory()))
    };
    let history = |flyhot: Flyhot| {
        let run = flyhot.run();
        run.expect("done", 0);
        let said = run.events_named("history").next().unwrap().json.clone();
        assert_eq!(said["artifacts"][0]["state"], "committed", "{run}");
        run
    };
    let asked = history(on_machine(&["history"]));
    let keys = history(on_machine(&[
        "history",
        "--bucket",
        Moto::BUCKET,
        "--endpoint",
        &endpoint,
    ]));
    let lost = on_machine(&["history"]).env("RUNTIME_FAILS", "yes").run();
    lost.expect("refused", 2);
    assert!(
        lost.stdout
            .contains("the release does not say which bucket it means"),
        "{lost}"
    );
    // Nothing is written into what may be another bucket than starts look into.
    let elsewhere = of_others(on_machine(&["history"]).env("RUNTIME_FAILS", "yes")).run();
    elsewhere.expect("refused", 2);
    assert!(
        elsewhere.stdout.contains("the release does not say which bucket"),
        "{elsewhere}"
    );
    let doctor = on_machine(&["doctor", "--node", shop.name()]).of(&shop).run();
    let store = |run: &Run| -> Vec<_> {
        let checks = run.events_named("check").map(|event| &event.json);
        let of_store = checks.filter(|check| check["check"] == "store");
        of_store
            .map(|check| (check["well"] == true, check["found"].to_string()))
            .collect()
    };
    let [(true, found)] = &store(&doctor)[..] else {
        panic!("{doctor}")
    };
    assert!(found.contains("keeps conditions"), "{doctor}");
    let unsure = on_machine(&["doctor", "--node", shop.name()]).env("RUNTIME_FAILS", "yes");
    let unsure = unsure.of(&shop).run();
    let [(true, found)] = &store(&unsure)[..] else {
        panic!("{unsure}")
    };
    assert!(
        found.contains("not known: the release does not say which bucket it means"),
        "{unsure}"
    );
    let back = on_machine(&["rollback", "--node", shop.name()]).of(&shop).run();
    back.expect("upgraded", 0);
    assert_eq!(back.pointer(), ["trial", "committed"], "{back}");
    for run in [
        &booted.0, &silent.0, &named.0, &there.0, &before.0, &asked, &keys, &lost, &elsewhere, &doctor,
        &unsure, &back,
    ] {
        for secret in ["tid_hidden", "tsec"] {
            assert!(!run.to_string().contains(secret), "{run}");
        }
    }
}

/// The store of a fleet, from the rollout to the machine that starts anew.
#[test]
fn what_was_rolled_out_boots_and_what_was_rolled_back_too() {
    let (v1, v2) = releases();
    let machine = Machine::of(&v1);
    let store = machine.store();
    let shop = Shop::of(&v1).carts(1).pool(1).start();
    let on = |words: &[&str]| {
        let home = ["--app", "shop", "--store", text(&store), "--output", "json"];
        let command = Flyhot::new([&words[..1], &["--node", shop.name()], &words[1..]].concat());
        command.args(home).of(&shop).run().expect("upgraded", 0);
    };
    on(&["rollout", "--release", text(v2.directory()), "--base", "image:1"]);
    machine.boot(&["--base", "image:2"]).expect("base", "other_image");
    machine.boot(&["--base", "image:1"]).expect("target", "committed");
    assert_eq!(machine.runs(), known(&v2));
    // What was copied from the node is the code of its image.
    on(&["rollback"]);
    machine.boot(&["--base", "image:1"]).expect("target", "committed");
    assert_eq!(machine.runs(), known(&v1));
}

//! Artifacts beside what packs and unpacks releases otherwise, what of one travels to a node, and the library for nodes
//! beside what Elixir does alone.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use flyhot_tests::{
    Flyhot, Native, Node, Otp, Release, Run, Scratch, Shop, memory_mark_kib, publish, rounds, watched,
    workspace,
};
use serde_json::{Value, json};

use super::{median, number, pair, repetitions, spread, told};

/// Bytes of the release that is packed: a shop with some dozen applications.
const USUAL: u64 = 40 << 20;

/// As many of them make a release of 1 GiB.
const TIMES: u64 = 26;

/// Modules of the release of which some change.
const MODULES: u32 = 2_000;
const CHANGED: usize = 10;

/// Microseconds and the peak of memory of each run of one side.
#[derive(Default)]
struct Side {
    us: Vec<u64>,
    kib: Vec<u64>,
}

impl Side {
    fn add(&mut self, (us, kib): (u64, u64)) {
        self.us.push(us);
        self.kib.push(kib);
    }

    fn figures(&self) -> Value {
        json!({ "us": spread(&self.us), "peak_memory_kib": spread(&self.kib) })
    }
}

/// Packing a release of 40 MiB.
pub(super) fn pack() -> Value {
    let scratch = Scratch::new("pack");
    let release = usual(&scratch);
    let root = release.directory();
    let out = |name: &str| scratch.path().join(name);
    let [mut ours, mut tar, mut erlang] = <[Side; 3]>::default();
    for _ in 0..repetitions() {
        ours.add(flyhot(&packing("--full", &release, &out("flyhot"))));
        let mut files = Command::new("tar");
        files
            .args([
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "-cf",
                "-",
                "-C",
            ])
            .arg(root)
            .arg(".");
        let mut gzip = Command::new("gzip");
        gzip.args(["-6", "-n"])
            .stdout(File::create(out("tar")).expect("our own directory"));
        tar.add(piped(files, gzip));
        erlang.add(on_a_node(&format!(
            "{{ok, Names}} = file:list_dir({root:?}),
             Files = [{{N, filename:join({root:?}, N)}} || N <- lists:sort(Names)],
             Work = fun() -> erl_tar:create({:?}, Files, [compressed]) end,",
            out("erl_tar")
        )));
    }
    let size = |name: &str| fs::metadata(out(name)).expect("it was packed").len();
    let mut figures = compared(&release, &ours, &tar, &erlang);
    figures["packed_bytes"] =
        json!({ "flyhot": size("flyhot"), "tar_gzip": size("tar"), "erl_tar": size("erl_tar") });
    told(figures)
}

/// Unpacking the artifact of a release of 40 MiB, by us and by what looks at nothing.
pub(super) fn unpack() -> Value {
    let scratch = Scratch::new("unpack");
    let release = usual(&scratch);
    let artifact = scratch.path().join("artifact");
    flyhot(&packing("--full", &release, &artifact));
    let [mut ours, mut tar, mut erlang] = <[Side; 3]>::default();
    // Each its own, which stays until the end: directories are made several times as slowly where some were just removed.
    let into = |side: &str, round: usize| scratch.path().join(format!("{side}-{round}"));
    for round in 0..repetitions() {
        ours.add(flyhot(&["unpack", text(&artifact), text(&into("flyhot", round))]));
        let place = into("tar", round);
        fs::create_dir(&place).expect("our own directory");
        let mut gzip = Command::new("gzip");
        gzip.arg("-dc").arg(&artifact);
        let mut files = Command::new("tar");
        files.args(["-xf", "-", "-C"]).arg(&place);
        tar.add(piped(gzip, files));
        let place = into("erl_tar", round);
        fs::create_dir(&place).expect("our own directory");
        erlang.add(on_a_node(&format!(
            "Work = fun() -> erl_tar:extract({artifact:?}, [compressed, {{cwd, {place:?}}}]) end,"
        )));
    }
    told(compared(&release, &ours, &tar, &erlang))
}

/// What `flyhot boot` adds to the start of a release whose store is a directory: where there is nothing to do, where the artifact is in
/// the cache, and where it is not.
pub(super) fn boot() -> Value {
    /// Beside one read of the pointer.
    const TARGET_US: f64 = 50_000.0;
    let scratch = Scratch::new("boot");
    let base = usual(&scratch);
    let at = |name: &str| scratch.path().join(name);
    let next = base.variant().file("ebin/shop.appup", "{\"1.0.0\", [], []}.\n");
    let source = "-module(pool_worker).\n-export([other/0]).\nother() -> other.\n";
    let next = next.erlang("pool_worker", source).build();
    let artifact = at("artifact");
    flyhot(&packing("--hot", &next, &artifact));
    publish(&at("store"), &artifact, &["commit"]);
    let (machine, cache) = (at("machine"), at("cache"));
    let booted = |what: &str| {
        let words = ["boot", "--app", "shop", "--release", text(&machine), "--store"];
        let run = Flyhot::new(words)
            .args([text(&at("store")), "--cache", text(&cache), "--output", "json"])
            .args(["--", "/bin/true"])
            .run();
        let fetched = run.aside().iter().any(|event| event["step"] == "fetch");
        let wrote = run
            .aside()
            .iter()
            .any(|event| event["event"] == "boot" && event["what"] == "target" && event["files"] != 0);
        assert_eq!((fetched, wrote), (what == "cold", what != "nothing"), "{run}");
        run.took.as_micros() as u64
    };
    let [mut alone, mut nothing, mut warm, mut cold] = <[Vec<u64>; 4]>::default();
    for _ in 0..repetitions() {
        let begun = Instant::now();
        let done = Command::new("/bin/true").status().expect("it runs");
        assert!(done.success());
        alone.push(begun.elapsed().as_micros() as u64);
        for (what, side) in [("cold", &mut cold), ("warm", &mut warm)] {
            let _ = fs::remove_dir_all(&machine);
            base.copied(&machine);
            if what == "cold" {
                let _ = fs::remove_dir_all(&cache);
            }
            settle();
            side.push(booted(what));
        }
        nothing.push(booted("nothing"));
    }
    let added = median(&nothing) - median(&alone);
    told(json!({
        "artifact_bytes": fs::metadata(&artifact).expect("it was packed").len(),
        "command_alone_us": spread(&alone), "nothing_to_do_us": spread(&nothing), "warm_cache_us": spread(&warm),
        "cold_cache_us": spread(&cold), "added_with_nothing_to_do_us": added, "target_us": TARGET_US,
        "met": added <= TARGET_US,
    }))
}

/// The command's memory with 40 MiB and with 1 GiB: of files as large as the release, and of as many more of the size that
/// they have in it, each of which is in the manifest.
pub(super) fn large() -> Value {
    let scratch = Scratch::new("large");
    let usual = usual(&scratch);
    let whole = scratch.path().join("whole");
    let mut all = File::create(&whole).expect("our own directory");
    for file in files(usual.directory()) {
        let mut file = File::open(file).expect("our own file");
        io::copy(&mut file, &mut all).expect("our own directory");
    }
    let larger = |name: &str, add: &dyn Fn(&Path)| {
        let larger = usual.copied(&scratch.path().join(name));
        for count in 1..TIMES {
            let place = larger.directory().join(format!("lib/more-{count}/priv"));
            fs::create_dir_all(&place).expect("our own directory");
            add(&place);
        }
        larger
    };
    // Links: what is read is the same as of copies.
    let large_files = larger("large-files", &|place| {
        fs::hard_link(&whole, place.join("whole")).expect("our own directory");
    });
    let many_files = larger("many-files", &|place| {
        let mut copy = Command::new("cp");
        copy.arg("-al").arg(usual.directory().join("lib")).arg(place);
        assert!(copy.status().expect("it runs").success(), "{copy:?}");
    });
    let measured = |release: &Release| {
        let artifact = scratch.path().join("artifact");
        let into = scratch.path().join("into");
        let (mut pack, mut unpack) = (Side::default(), Side::default());
        for _ in 0..rounds(3, 9) {
            pack.add(flyhot(&packing("--full", release, &artifact)));
            unpack.add(flyhot(&["unpack", text(&artifact), text(&into)]));
            remove(&into);
        }
        fs::remove_file(&artifact).expect("our own file");
        (
            [median(&pack.kib), median(&unpack.kib)],
            json!({
                "bytes": bytes(release), "files": files(release.directory()).len(),
                "pack": pack.figures(), "unpack": unpack.figures(),
            }),
        )
    };
    let (least, usual_figures) = measured(&usual);
    let beside = |release: &Release| {
        let (peaks, mut figures) = measured(release);
        let [pack, unpack] = [0, 1].map(|at| peaks[at] / least[at]);
        figures["by_usual"] = json!({ "pack": pack, "unpack": unpack });
        figures["target"] = json!("each by_usual <= 1.1");
        figures["met"] = json!(pack <= 1.1 && unpack <= 1.1);
        (peaks, told(figures))
    };
    let (_, large_files) = beside(&large_files);
    let (most, mut many_files) = beside(&many_files);
    let more = number(&many_files["files"]) - number(&usual_figures["files"]);
    let [pack, unpack] = [0, 1].map(|at| (most[at] - least[at]) * 1024.0 / more as f64);
    many_files["bytes_of_memory_for_each_more_file"] = json!({ "pack": pack, "unpack": unpack });
    json!({ "usual": told(usual_figures), "large_files": large_files, "many_files": many_files })
}

/// What goes over the wire for an upgrade of ten modules of 2 000, beside the artifact that holds them.
pub(super) fn moved() -> Value {
    let scratch = Scratch::new("moved");
    let (a, b) = pair(MODULES);
    let mut beams: Vec<_> = files(&b.ebin("shop"))
        .into_iter()
        .filter(|path| text(path).contains("/Elixir.Shop.Extra"))
        .collect();
    beams.truncate(CHANGED);
    let mut changed = 0;
    let mut variant = a.variant();
    for beam in &beams {
        let bytes = fs::read(beam).expect("the release is there");
        changed += bytes.len();
        let module = beam.file_stem().and_then(|stem| stem.to_str());
        variant = variant.bytes(module.expect("a module"), bytes);
    }
    let to = variant.build();
    let artifact = |how: &str| {
        let out = scratch.path().join("artifact");
        let run = Flyhot::new(packing(how, &to, &out))
            .args(["--output", "json"])
            .run();
        run.expect("done", 0);
        let event = run.events_named("artifact").next().expect("it was packed");
        let [packed, files] = ["size", "files_size"].map(|key| number(&event.json["artifact"][key]));
        (packed, json!({ "packed_bytes": packed, "files_bytes": files }))
    };
    let [(hot, hot_figures), (full, full_figures)] = ["--hot", "--full"].map(artifact);
    let cell = |how: &[&str]| {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for _ in 0..rounds(3, 9) {
            let shop = Shop::of(&a).carts(1_000).pool(0).start();
            let port = shop.probe().json(
                "[Name, _] = string:split(atom_to_list(node()), \"@\"),
                 {port, Port, _} = erl_epmd:port_please(Name, {127,0,0,1}), Port.",
            );
            let wire = Wire::to(u16::try_from(number(&port)).expect("a port"));
            let run = Flyhot::upgrade(&shop, &to)
                .args(["--dist-port", &wire.port.to_string()])
                .args(how.iter().copied())
                .run();
            run.expect("upgraded", 0);
            assert_eq!(run.node(0)["modules"]["changed"], CHANGED, "{run}");
            there.push(wire.there.load(Ordering::Relaxed));
            back.push(wire.back.load(Ordering::Relaxed));
        }
        json!({
            "to_node_bytes": spread(&there), "from_node_bytes": spread(&back),
            "to_node_by_hot": median(&there) / hot as f64, "to_node_by_full": median(&there) / full as f64,
        })
    };
    let agent = fs::metadata(workspace().join("driver/agent/erl/flyhot_agent.beam"));
    told(json!({
        "modules": MODULES, "changed": CHANGED, "changed_bytes": changed,
        "agent_bytes": agent.expect("it is in the tree").len(),
        "artifact": { "hot": hot_figures, "full": full_figures },
        "upgrade": cell(&[]), "upgrade_without_persist": cell(&["--no-persist"]),
    }))
}

/// md5s of 2 000 modules, all that is said of them, and their comparison with a manifest: by the library, and by OTP and Elixir
/// alone. The library has no function for md5s alone: they come with all else.
pub(super) fn native() -> Value {
    let scratch = Scratch::new("speed");
    let (release, _) = pair(MODULES);
    let (artifact, into) = (scratch.path().join("artifact"), scratch.path().join("into"));
    flyhot(&packing("--hot", &release, &artifact));
    flyhot(&["unpack", text(&artifact), text(&into)]);
    // The first OTP whose Elixir reads JSON itself.
    let said = Native::build(Otp::v27()).elixir(
        &workspace().join("tests/fixtures/native/speed.exs"),
        &[
            text(release.directory()),
            text(&into.join("flyhot.manifest.json")),
            &rounds(11, 33).to_string(),
        ],
    );
    let said: Value = said
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_else(|| panic!("{said}"));
    let turns = said["turns"].as_array().expect("an array");
    let line = |what: &str| {
        let [library, alone] = [0, 1].map(|side| {
            turns
                .iter()
                .map(|turn| number(&turn[what][side]))
                .collect::<Vec<_>>()
        });
        let ratio = median(&library) / median(&alone);
        json!({
            "library_us": spread(&library), "elixir_us": spread(&alone), "library_by_elixir": ratio,
            "target": "library_by_elixir < 1", "met": ratio < 1.0,
        })
    };
    told(json!({
        "otp": Otp::v27().to_string(), "beams": said["beams"], "beam_bytes": said["beam_bytes"],
        "manifest_bytes": said["manifest_bytes"], "md5s": line("md5s"), "facts": line("facts"), "diff": line("diff"),
    }))
}

fn packing<'a>(how: &'a str, release: &'a Release, out: &'a Path) -> [&'a str; 6] {
    [
        "pack",
        how,
        "--release",
        text(release.directory()),
        "--out",
        text(out),
    ]
}

fn compared(release: &Release, ours: &Side, tar: &Side, erlang: &Side) -> Value {
    let by = |other: &Side| json!({ "time": median(&ours.us) / median(&other.us), "peak_memory": median(&ours.kib) / median(&other.kib) });
    let faster = |other: &Side| median(&ours.us) < median(&other.us);
    json!({
        "bytes": bytes(release), "files": files(release.directory()).len(), "flyhot": ours.figures(),
        "tar_gzip": tar.figures(), "erl_tar": erlang.figures(), "by_tar_gzip": by(tar), "by_erl_tar": by(erlang),
        "target": "faster than both", "met": faster(tar) && faster(erlang),
    })
}

/// A shop that carries so many beams of OTP that it is large enough; in its `priv`, for beams among those that a node looks
/// for would have to be in the .rel file.
fn usual(scratch: &Scratch) -> Release {
    let shop = Release::shop(Otp::v25(), "v1").copied(&scratch.path().join("release"));
    let private = shop.ebin("shop").with_file_name("priv");
    let mut missing = USUAL.saturating_sub(bytes(&shop));
    for otp in [Otp::v27(), Otp::v29()] {
        let library = otp.bin().with_file_name("root/usr/lib/erlang/lib");
        for beam in files(&library)
            .iter()
            .filter(|path| path.extension().is_some_and(|kind| kind == "beam"))
        {
            if missing == 0 {
                return shop;
            }
            let place = beam.strip_prefix(&library).expect("it lies there");
            let place = private.join(place);
            fs::create_dir_all(place.parent().expect("a directory")).expect("our own directory");
            missing = missing.saturating_sub(fs::copy(beam, place).expect("our own directory"));
        }
    }
    panic!("OTP has too few beams for {shop:?}");
}

/// Every file below a directory, in the order of their paths.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(next) = ahead.pop() {
        for entry in fs::read_dir(next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                ahead.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn bytes(release: &Release) -> u64 {
    let sizes = files(release.directory())
        .into_iter()
        .map(|file| fs::metadata(file).expect("a file").len());
    sizes.sum()
}

fn remove(directory: &Path) {
    fs::remove_dir_all(directory).expect("our own directory");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("our own path")
}

/// What one side wrote is on the disk before the next begins, which would wait for it.
fn settle() {
    let mut sync = Command::new("sync");
    assert!(sync.status().expect("it runs").success(), "{sync:?}");
}

/// Runs the command as it is; microseconds from its start to its end, and its peak of memory.
fn flyhot(args: &[&str]) -> (u64, u64) {
    settle();
    let running = Flyhot::new(args.iter().copied())
        .args(["--output", "json"])
        .spawn();
    let used = watched(running.pid());
    let run: Run = running.wait();
    run.expect("done", 0);
    (run.took.as_micros() as u64, used().kib)
}

/// The same of two programs with a pipe between them; their peaks together.
fn piped(mut from: Command, mut to: Command) -> (u64, u64) {
    settle();
    let begun = Instant::now();
    let mut from = from.stdout(Stdio::piped()).spawn().expect("it runs");
    let pipe = from.stdout.take().expect("a pipe");
    let mut to = to.stdin(pipe).spawn().expect("it runs");
    let used = [watched(from.id()), watched(to.id())];
    for program in [&mut from, &mut to] {
        assert!(program.wait().expect("our own child").success());
    }
    let took = begun.elapsed().as_micros() as u64;
    (took, used.map(|used| used().kib).into_iter().sum())
}

/// The same of a node that does nothing else, by its own clock, of the fun `Work` that `expressions` make.
fn on_a_node(expressions: &str) -> (u64, u64) {
    let node = Node::erl(Otp::v25()).start();
    settle();
    let us = node
        .probe()
        .json(&format!("{expressions} {{Us, ok}} = timer:tc(Work), Us."));
    let pid = number(&node.probe().json("list_to_integer(os:getpid())."));
    let kib = memory_mark_kib(u32::try_from(pid).expect("a pid"));
    (number(&us), kib.expect("the node runs"))
}

/// A wire to a node, which counts what goes over it.
struct Wire {
    port: u16,
    there: Arc<AtomicU64>,
    back: Arc<AtomicU64>,
}

impl Wire {
    fn to(node: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let wire = Self {
            port: listener.local_addr().expect("it listens").port(),
            there: Arc::default(),
            back: Arc::default(),
        };
        let counts = [Arc::clone(&wire.there), Arc::clone(&wire.back)];
        std::thread::spawn(move || {
            for ours in listener.incoming().map_while(Result::ok) {
                let theirs = TcpStream::connect((Ipv4Addr::LOCALHOST, node)).expect("the node listens");
                let ways = [(&ours, &theirs), (&theirs, &ours)].map(|(from, to)| {
                    (
                        from.try_clone().expect("a handle"),
                        to.try_clone().expect("a handle"),
                    )
                });
                for ((from, to), count) in ways.into_iter().zip(&counts) {
                    let count = Arc::clone(count);
                    std::thread::spawn(move || carry(from, to, &count));
                }
            }
        });
        wire
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        count.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    // The end of one side is told to the other.
    let _ = to.shutdown(Shutdown::Both);
}

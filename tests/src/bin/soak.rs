//! `make soak`: every scenario test with the large counts and fresh seeds, on every OTP, five at a time,
//! or fewer where the machine has enough to do.
//!
//! What passed is kept in docs/soak.json and not done again by a later start, here or in another clone, on a commit that has the
//! same product, harness and fixtures, and the same file of that scenario; `--fresh` forgets it. A unit that fails keeps its
//! output in target/soak, and the others go on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a soak speaks to its audience, and ends where it cannot go on"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flyhot_tests::workspace;
use md5::{Digest, Md5};
use serde_json::{Value, json};

const SCENARIOS: [&str; 43] = [
    "fly",
    "hot",
    "fleet_faults",
    "deploy",
    "inventory",
    "afterwards",
    "doctor",
    "mix",
    "store",
    "boot",
    "rollout",
    "waves",
    "gate",
    "artifact",
    "native",
    "upgrade",
    "refused",
    "code_change",
    "failures",
    "modes",
    "meanwhile",
    "busy",
    "whole",
    "hosted",
    "old_code",
    "edges",
    "policy",
    "verdict",
    "rehearsal",
    "predicted",
    "shapes",
    "entry",
    "hostile",
    "tls",
    "operator",
    "restart",
    "plain",
    "foreign",
    "faults",
    "model",
    "kills",
    "zoo",
    "matrix",
];

/// Tests of the repository, of the harness and of the fixtures, of which more rounds show nothing more; and what holds them all.
#[cfg(test)]
const NO_SCENARIOS: [&str; 5] = ["all", "crowd", "fixture", "harness", "tidy"];

/// Kept in the tree: a soak takes hours, and its result is worth as much in another clone.
const RESULT: &str = "docs/soak.json";

/// Marks a commit that the tree differs from.
const CHANGED: &str = ", changed";

const OTPS: [&str; 3] = ["25", "27", "29"];

/// Units at a time: most of them wait most of the time, and deadlines have to hold on a machine that does something else.
const LANES: usize = 5;

/// What is of no release and no OTP: one of them is enough.
const OF_NO_OTP: [&str; 1] = ["store"];

/// Whose tests keep the processor busy with dozens of processes each: one lane has them, one after the other.
const CROWDED: [&str; 1] = ["store"];

/// The longest unit, 10 000 changes of one object in a bucket, may take an hour of a core of its own; two hours are one that hangs.
const UNIT: Duration = Duration::from_secs(7200);

/// Processes that want a core, for each core: the deadlines in the tests have a margin of three. Where more want one, no unit is
/// begun beside others.
const LOAD: f64 = 3.0;

/// Between two looks at a running unit, or at the load.
const LOOK: Duration = Duration::from_millis(100);

fn main() {
    let directory = workspace().join("target/soak");
    fs::create_dir_all(&directory).expect("target can be written");
    let path = workspace().join(RESULT);
    let commit = commit();
    let contents = SCENARIOS.map(|scenario| (scenario, content(scenario, &commit)));
    let contents = BTreeMap::from(contents);
    let mut done = match std::env::args().nth(1).as_deref() {
        Some("--fresh") => Vec::new(),
        None => passed_before(&fs::read_to_string(&path).unwrap_or_default(), &contents),
        Some(other) => panic!("soak takes --fresh or nothing, not {other}"),
    };
    let binary = build();
    let units = units(&binary);
    let begun = Instant::now();
    let passed: Vec<Value> = done.iter().map(|one| one["name"].clone()).collect();
    let (crowded, others): (Vec<usize>, Vec<usize>) =
        (0..units.len()).partition(|at| CROWDED.contains(&units[*at].scenario));
    let (crowded, next) = (Mutex::new(crowded), AtomicUsize::new(0));
    let shared = || others.get(next.fetch_add(1, Ordering::Relaxed)).copied();
    let (results, running) = (Mutex::new(&mut done), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                // Whichever lane comes first has all of them.
                let mut own =
                    std::mem::take(&mut *crowded.lock().expect("it is held for no longer")).into_iter();
                while let Some(at) = own.next().or_else(shared) {
                    let unit = &units[at];
                    let told = format!("[{}/{}] {}", at + 1, units.len(), unit.name());
                    if passed.iter().any(|name| *name == unit.name()) {
                        println!("{told}: passed before");
                        continue;
                    }
                    while running.load(Ordering::Relaxed) > 0 && !has_room(&load()) {
                        std::thread::sleep(LOOK);
                    }
                    running.fetch_add(1, Ordering::Relaxed);
                    let mut result = unit.run(&binary, &directory);
                    running.fetch_sub(1, Ordering::Relaxed);
                    result["of"] = json!(contents[unit.scenario]);
                    let verdict = if result["passed"] == true {
                        "passed"
                    } else {
                        "FAILED"
                    };
                    println!("{told}: {verdict} in {} s", result["seconds"]);
                    let mut done = results.lock().expect("a lane that panics ends the soak");
                    done.push(result);
                    keep(&path, &commit, &done);
                }
            });
        }
    });
    keep(&path, &commit, &done);
    println!("---- soak ----");
    for line in closing(&done, units.len()) {
        println!("{line}");
    }
    println!(
        "this start took {} s; {}",
        begun.elapsed().as_secs(),
        path.display()
    );
    if done.iter().any(|one| one["passed"] != true) {
        std::process::exit(1);
    }
}

/// One test on one OTP.
struct Unit {
    scenario: &'static str,
    test: String,
    otp: &'static str,
}

impl Unit {
    fn name(&self) -> String {
        format!("otp-{} {} {}", self.otp, self.scenario, self.test)
    }

    fn run(&self, binary: &Path, directory: &Path) -> Value {
        let log = directory.join(format!("{}.log", self.name().replace(' ', "-")));
        let output = File::create(&log).expect("target can be written");
        let begun = Instant::now();
        let mut child = Command::new(binary)
            .args([
                "--exact",
                &format!("{}::{}", self.scenario, self.test),
                "--nocapture",
            ])
            .env("FLYHOT_ROUNDS", "soak")
            .env("FLYHOT_OTP", self.otp)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .spawn()
            .expect("the test binary was built");
        let status = loop {
            match child.try_wait().expect("it is our child") {
                Some(status) => break Some(status),
                None if begun.elapsed() > UNIT => {
                    child.kill().expect("it is our child");
                    child.wait().expect("it is our child");
                    break None;
                }
                None => std::thread::sleep(LOOK),
            }
        };
        let text = fs::read_to_string(&log).unwrap_or_default();
        let passed = status.is_some_and(|status| status.success()) && text.contains("1 passed");
        if passed {
            fs::remove_file(&log).expect("the log was written");
        }
        json!({
            "name": self.name(), "passed": passed, "timed_out": status.is_none(), "seconds": begun.elapsed().as_secs(),
            "said": said(&text),
        })
    }
}

/// The program of all tests.
fn build() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args([
            "test",
            "--workspace",
            "--test",
            "all",
            "--no-run",
            "--message-format=json",
        ])
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the tests do not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "all")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .expect("cargo names what it built")
}

fn units(binary: &Path) -> Vec<Unit> {
    let listed = Command::new(binary)
        .arg("--list")
        .output()
        .expect("it lists its tests");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let tests: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test")?.split_once("::"))
        .collect();
    let mut units = Vec::new();
    for scenario in SCENARIOS {
        let otps = if OF_NO_OTP.contains(&scenario) {
            &OTPS[..1]
        } else {
            &OTPS
        };
        for otp in otps {
            let own = tests.iter().filter(|(file, _)| *file == scenario);
            units.extend(own.map(|(_, test)| Unit {
                scenario,
                test: (*test).to_owned(),
                otp,
            }));
        }
    }
    units
}

/// As the system tells it: the first number is the load of the last minute.
fn load() -> String {
    fs::read_to_string("/proc/loadavg").expect("the system tells its load")
}

/// Whether a machine with this load can keep the deadlines of one more unit.
fn has_room(load: &str) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let minute = load.split(' ').next().and_then(|minute| minute.parse().ok());
    let minute: f64 = minute.expect("the load begins with a number");
    minute <= LOAD * f64::from(u32::try_from(cores).unwrap_or(u32::MAX))
}

fn git(args: &[&str]) -> String {
    let output = Command::new("git").args(args).current_dir(workspace()).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// What a result of this scenario is of: a digest of the product, the harness, the fixtures and the scenario's own file, as
/// the commit has them. Empty where the tree differs from that: such a result is never taken up again.
fn content(scenario: &str, commit: &str) -> String {
    if commit.is_empty() || commit.ends_with(CHANGED) {
        return String::new();
    }
    let own = [
        format!("tests/tests/{scenario}.rs"),
        format!("tests/tests/{scenario}"),
    ];
    let parts = [
        "Cargo.toml",
        "Cargo.lock",
        "driver",
        "elixir_shim",
        "native",
        "tests/Cargo.toml",
        "tests/src",
        "tests/fixtures",
        "tests/otp",
    ];
    let mut args = vec!["ls-tree", "-r", commit, "--"];
    args.extend(parts.iter().chain([&own[0].as_str(), &own[1].as_str()]));
    let listed = git(&args);
    let mut digest = Md5::new();
    for line in listed.lines().filter(|line| !line.contains("\ttests/src/bin/")) {
        digest.update(line);
    }
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The commit, marked where the tree differs from it by more than the result.
fn commit() -> String {
    let head = git(&["rev-parse", "HEAD"]);
    if git(&["status", "--porcelain", "--", ".", &format!(":!{RESULT}*")]).is_empty() {
        head
    } else {
        format!("{head}{CHANGED}")
    }
}

/// What an earlier start got through, as far as the same would run again.
fn passed_before(text: &str, contents: &BTreeMap<&str, String>) -> Vec<Value> {
    let Ok(kept) = serde_json::from_str::<Value>(text) else {
        return Vec::new();
    };
    let units = kept["units"].as_array().cloned().unwrap_or_default();
    let stands = |unit: &Value| {
        let scenario = unit["name"].as_str().and_then(|name| name.split(' ').nth(1));
        let content = scenario.and_then(|scenario| contents.get(scenario));
        unit["passed"] == true
            && content.is_some_and(|content| !content.is_empty() && unit["of"] == **content)
    };
    units.into_iter().filter(stands).collect()
}

fn keep(path: &Path, commit: &str, done: &[Value]) {
    let temporary = path.with_extension("json.new");
    fs::write(&temporary, result(commit, done)).expect("docs can be written");
    fs::rename(&temporary, path).expect("docs can be written");
}

/// A line for each unit, so that commits of it show what was done between them.
fn result(commit: &str, done: &[Value]) -> String {
    let units: Vec<String> = done.iter().map(Value::to_string).collect();
    format!(
        "{{\"commit\": {}, \"units\": [\n{}\n]}}\n",
        json!(commit),
        units.join(",\n")
    )
}

/// The lines of a test's output that count something or repeat it.
fn said(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.contains("killed, by step:") || line.contains("FLYHOT_SEED="))
        .collect()
}

/// Kills that a line `… killed, by step: {"freeze": 8, …}` counts.
fn kills(line: &str) -> u64 {
    let Some((_, counts)) = line.split_once("killed, by step: ") else {
        return 0;
    };
    let counts: BTreeMap<String, u64> = serde_json::from_str(counts).unwrap_or_default();
    counts.values().sum()
}

fn closing(done: &[Value], units: usize) -> Vec<String> {
    let passed = done.iter().filter(|one| one["passed"] == true).count();
    let kills: u64 = done
        .iter()
        .flat_map(|one| one["said"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .map(kills)
        .sum();
    let seconds: u64 = done.iter().filter_map(|one| one["seconds"].as_u64()).sum();
    let mut lines = vec![format!(
        "{passed} of {units} units passed, {kills} kills, {seconds} s in all"
    )];
    lines.extend(
        done.iter()
            .filter(|one| one["passed"] != true)
            .map(|one| format!("FAILED {}: {}", one["name"], one["said"])),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_tests_is_a_scenario_or_none() {
        let mut files: Vec<String> = fs::read_dir(workspace().join("tests/tests"))
            .unwrap()
            .map(|file| {
                file.unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        files.sort_unstable();
        let mut known: Vec<&str> = SCENARIOS.into_iter().chain(NO_SCENARIOS).collect();
        known.sort_unstable();
        assert_eq!(files, known);
    }

    #[test]
    fn only_what_passed_on_the_same_content_is_not_done_again() {
        let units = [
            json!({ "name": "otp-25 busy a", "passed": true, "of": "c1" }),
            json!({ "name": "otp-25 busy b", "passed": false, "of": "c1" }),
            json!({ "name": "otp-25 kills a", "passed": true, "of": "c2" }),
            json!({ "name": "otp-25 zoo a", "passed": true, "of": "" }),
        ];
        let kept = result("c", &units);
        let names = |contents: &[(&'static str, &str)]| -> Vec<Value> {
            let contents = contents
                .iter()
                .map(|(scenario, content)| (*scenario, (*content).to_owned()));
            let passed = passed_before(&kept, &contents.collect());
            passed.iter().map(|unit| unit["name"].clone()).collect()
        };
        assert_eq!(
            names(&[("busy", "c1"), ("kills", "c1"), ("zoo", "")]),
            ["otp-25 busy a"]
        );
        assert_eq!(names(&[("kills", "c2")]), ["otp-25 kills a"]);
        assert!(passed_before("half a fi", &BTreeMap::new()).is_empty());
        assert_eq!(content("busy", "c1, changed"), "");
        assert_ne!(content("busy", "HEAD"), content("kills", "HEAD"));
    }

    #[test]
    fn a_machine_that_has_too_much_to_do_has_no_room() {
        assert!(has_room("0.83 3.97 6.41 1/190 4711\n"));
        assert!(!has_room("999999.00 3.97 6.41 1/190 4711\n"));
        // What this machine says can be read, whatever it is.
        let _: bool = has_room(&load());
    }

    #[test]
    fn the_closing_lines_count_kills_and_name_failures() {
        let line = "driver killed, by step: {\"freeze\": 8, \"swap\": 9}";
        assert_eq!(said(&format!("running 1 test\n{line}\nok\n")), [line]);
        let done = [
            json!({ "name": "a", "passed": true, "seconds": 3, "said": [line] }),
            json!({ "name": "b", "passed": false, "seconds": 4, "said": ["b: FLYHOT_SEED=7"] }),
        ];
        assert_eq!(
            closing(&done, 3),
            [
                "1 of 3 units passed, 17 kills, 7 s in all",
                "FAILED \"b\": [\"b: FLYHOT_SEED=7\"]"
            ]
        );
    }
}

//! What no compiler checks about this repository: who may depend on whom, under which licences, and what no file
//! may say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use flyhot_tests::{Rows, workspace};
use serde_json::Value;

/// The only edges between the crates of this workspace. One may be added together with docs/architecture.md.
const EDGES: [(&str, &[&str]); 11] = [
    ("flyhot-events", &[]),
    ("flyhot-artifact", &["flyhot-events"]),
    ("flyhot-upgrade", &["flyhot-artifact", "flyhot-events"]),
    ("flyhot-agent", &["flyhot-upgrade"]),
    ("flyhot-node", &[]),
    ("flyhot-store", &["flyhot-artifact"]),
    ("flyhot-rollout", &["flyhot-events"]),
    ("flyhot-fleet", &["flyhot-events"]),
    ("flyhot-native", &["flyhot-artifact"]),
    (
        "flyhot",
        &[
            "flyhot-agent",
            "flyhot-artifact",
            "flyhot-events",
            "flyhot-fleet",
            "flyhot-node",
            "flyhot-rollout",
            "flyhot-store",
            "flyhot-upgrade",
        ],
    ),
    ("flyhot-tests", &[]),
];

/// Licences that go with MIT OR Apache-2.0 in one binary.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Crates that may not be in Cargo.lock at all.
const BANNED: [(&str, &str); 6] = [
    ("openssl", "rustls is the one TLS"),
    ("openssl-sys", "rustls is the one TLS"),
    ("native-tls", "rustls is the one TLS"),
    ("async-std", "tokio is the one runtime"),
    ("smol", "tokio is the one runtime"),
    (
        "erl_rpc",
        "calls need deadlines and a pending-call table of our own",
    ),
];

/// Crates that are there in two versions, because another one has not come to ours yet.
const TWICE: [(&str, &str); 2] = [
    ("md-5", "aws-sdk-s3 digests with the version before"),
    ("sha2", "aws-sdk-s3 digests with the version before"),
];

/// Crates that may come with another one only.
const BANNED_DIRECT: [(&str, &str); 1] = [(
    "eetf",
    "terms come from erl_dist::term, so that there is one eetf",
)];

fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let host = output("rustc", &["-vV"]);
        let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let text = output(
            env!("CARGO"),
            &[
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
                host,
            ],
        );
        serde_json::from_str(&text).unwrap()
    })
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> impl Iterator<Item = &'static Value> {
    metadata()["packages"].as_array().unwrap().iter()
}

fn members() -> impl Iterator<Item = &'static Value> {
    // Packages of the workspace have no source: they come from nowhere but here.
    packages().filter(|package| package["source"].is_null())
}

fn dependencies(package: &Value) -> BTreeSet<&str> {
    let dependencies = package["dependencies"].as_array().unwrap();
    dependencies
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

/// Every version of every crate in Cargo.lock, whatever the platform.
fn locked() -> BTreeMap<String, BTreeSet<String>> {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    let mut package = None;
    for line in lock.lines() {
        if let Some(name) = line.strip_prefix("name = ") {
            package = Some(name.trim_matches('"').to_owned());
        } else if let (Some(version), Some(package)) = (line.strip_prefix("version = "), package.take()) {
            versions.entry(package).or_default().insert(version.to_owned());
        }
    }
    versions
}

/// Every file of the repository, as path from its top, that is not ignored.
fn files() -> Vec<String> {
    let list = output("git", &["ls-files", "--cached", "--others", "--exclude-standard"]);
    let there = |file: &&str| workspace().join(file).is_file();
    list.lines().filter(there).map(str::to_owned).collect()
}

fn texts() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter_map(|file| {
        let text = fs::read_to_string(workspace().join(&file)).ok()?;
        Some((file, text))
    })
}

#[test]
fn crates_depend_on_each_other_as_the_design_says_and_no_other_way() {
    let allowed: BTreeMap<_, BTreeSet<_>> = EDGES
        .iter()
        .map(|(from, to)| (*from, to.iter().copied().collect()))
        .collect();
    let names: BTreeSet<_> = members().map(name).collect();
    assert_eq!(
        names,
        allowed.keys().copied().collect(),
        "a room was added or removed: change EDGES"
    );
    for package in members() {
        // Dependencies of tests and of build scripts are edges like any other.
        let found: BTreeSet<_> = dependencies(package).intersection(&names).copied().collect();
        let forbidden: Vec<_> = found.difference(&allowed[name(package)]).collect();
        assert!(
            forbidden.is_empty(),
            "{} may not depend on {forbidden:?}",
            name(package)
        );
    }
}

#[test]
fn the_map_of_the_rooms_draws_the_same_edges() {
    let page = fs::read_to_string(workspace().join("docs/architecture.md")).unwrap();
    let map = page.split("```").nth(1).expect("the map is the first block");
    let mut drawn = BTreeMap::new();
    for line in map.lines().filter(|line| !line.trim().is_empty()) {
        let room = line.split_whitespace().next().unwrap();
        let room = match room {
            "driver/flyhot" => "flyhot".to_owned(),
            room => format!("flyhot-{}", room.trim_start_matches("driver/")),
        };
        let to = line.split_once("->").map_or("", |(_, to)| to.trim());
        let to: BTreeSet<String> = match to {
            "" => BTreeSet::new(),
            "all above" => EDGES
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .filter(|name| ![&*room, "flyhot-native", "flyhot-tests"].contains(&&**name))
                .collect(),
            some => some.split(", ").map(|one| format!("flyhot-{one}")).collect(),
        };
        drawn.insert(room, to);
    }
    let edges: BTreeMap<String, BTreeSet<String>> = EDGES
        .iter()
        .map(|(from, to)| {
            (
                (*from).to_owned(),
                to.iter().map(|one| (*one).to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(drawn, edges);
}

#[test]
fn every_licence_goes_with_ours() {
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(
            acceptable(licence),
            "{} {} is under {licence}",
            name(package),
            package["version"]
        );
    }
    for package in members() {
        assert_eq!(package["license"], "MIT OR Apache-2.0", "{}", name(package));
    }
}

/// Whether an SPDX expression can be met by licences of the list alone.
fn acceptable(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    let split = |word: &str| {
        let mut depth = 0_i32;
        let mut parts = vec![String::new()];
        for token in expression
            .replace('(', " ( ")
            .replace(')', " ) ")
            .split_whitespace()
        {
            depth += i32::from(token == "(") - i32::from(token == ")");
            if depth == 0 && token == word {
                parts.push(String::new());
            } else {
                let part = parts.last_mut().unwrap();
                part.push_str(if part.is_empty() { "" } else { " " });
                part.push_str(token);
            }
        }
        parts
    };
    let any = split("OR");
    let all = split("AND");
    if any.len() > 1 {
        any.iter().any(|part| acceptable(part))
    } else if all.len() > 1 {
        all.iter().all(|part| acceptable(part))
    } else if let Some(inner) = expression
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
    {
        acceptable(inner)
    } else {
        LICENCES.contains(&expression)
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    for good in [
        "MIT",
        "MIT OR Apache-2.0",
        "MIT/GPL-3.0",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "GPL-3.0 OR (MIT AND ISC)",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
    ] {
        assert!(acceptable(good), "{good}");
    }
    for bad in [
        "none",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR ISC) AND GPL-3.0",
        "MPL-2.0",
    ] {
        assert!(!acceptable(bad), "{bad}");
    }
}

#[test]
fn no_banned_crate_is_there() {
    let locked = locked();
    for (banned, reason) in BANNED {
        assert!(
            !locked.contains_key(banned),
            "{banned} is in Cargo.lock, but {reason}"
        );
    }
    for package in members() {
        for (banned, reason) in BANNED_DIRECT {
            assert!(
                !dependencies(package).contains(banned),
                "{} depends on {banned}, but {reason}",
                name(package)
            );
        }
    }
}

#[test]
fn every_direct_dependency_is_there_in_one_version() {
    let locked = locked();
    let direct: BTreeSet<_> = members().flat_map(dependencies).chain(["eetf"]).collect();
    for crate_name in direct {
        let versions = locked
            .get(crate_name)
            .unwrap_or_else(|| panic!("{crate_name} is not locked"));
        let twice = TWICE.iter().any(|(name, _)| *name == crate_name);
        let should = if twice { 2 } else { 1 };
        assert_eq!(versions.len(), should, "{crate_name} is there as {versions:?}");
    }
}

/// The mix tasks run no flyhot of another version than their package's.
#[test]
fn the_elixir_package_has_the_version_of_the_crates() {
    let mix = fs::read_to_string(workspace().join("elixir_shim/mix.exs")).unwrap();
    for package in members() {
        let version = format!("version: {},", package["version"]);
        assert!(mix.contains(&version), "elixir_shim/mix.exs has not {version}");
    }
}

#[test]
fn no_file_says_what_it_may_not() {
    // Written in two halves, so that this file does not say them either.
    let forbidden = [
        ("TO", "DO", "finish it, or open an issue"),
        ("FIX", "ME", "fix it, or open an issue"),
        ("XX", "X", "finish it, or open an issue"),
        ("todo", "!(", "finish it"),
        ("#[ig", "nore", "a test that is not run holds nothing"),
        ("/opt", "/otp", "a path of one machine"),
        ("/wo", "rk/", "a path of one machine"),
        ("/ho", "me/", "a path of one machine"),
        ("/tmp", "/t/", "a path of one machine"),
        ("crates", ".io", "the host of a package registry"),
        ("hex", ".pm", "the host of a package registry"),
        ("npmjs", ".", "the host of a package registry"),
        ("pypi", ".org", "the host of a package registry"),
        ("deb.debian", ".org", "the host of a package registry"),
    ];
    for (file, text) in texts() {
        // Cargo writes where it got things from; that is its business.
        if file.ends_with("Cargo.lock") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for (first, second, reason) in forbidden {
                let word = format!("{first}{second}");
                assert!(
                    !line.contains(&word),
                    "{file}:{}: {word}: {reason}\n{line}",
                    number + 1
                );
            }
        }
    }
}

#[test]
fn the_top_level_stays_small() {
    let allowed = ["CHANGELOG", "LICENSE", "README"];
    let exact = [
        "Cargo.lock",
        "Cargo.toml",
        "Makefile",
        "docs",
        "driver",
        "elixir_shim",
        "native",
        "tests",
    ];
    for file in files() {
        let top = file.split('/').next().unwrap();
        let stem = top.split('.').next().unwrap();
        assert!(
            top.starts_with('.') || exact.contains(&top) || allowed.contains(&stem),
            "{top} does not belong at the top level"
        );
    }
}

#[test]
fn every_page_is_linked_and_every_link_leads_somewhere() {
    let pages: Vec<_> = texts().filter(|(file, _)| file.ends_with(".md")).collect();
    let mut linked = BTreeSet::new();
    for (file, text) in &pages {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let to = workspace().join(file).parent().unwrap().join(path);
            let to = to
                .canonicalize()
                .unwrap_or_else(|_| panic!("{file} links to {target}, which is not there"));
            if to != workspace().join(file).canonicalize().unwrap() {
                linked.insert(to);
            }
        }
    }
    for (file, _) in pages.iter().filter(|(file, _)| file.starts_with("docs/")) {
        let path = workspace().join(file).canonicalize().unwrap();
        assert!(linked.contains(&path), "no page links to {file}");
    }
}

/// A test that names itself so makes all of its rows, or fails: see `Rows`.
#[test]
fn every_row_of_the_troubleshooting_page_is_of_one_test_that_makes_it() {
    let mut tests: Vec<String> = texts()
        .filter(|(file, _)| file.starts_with("tests/tests/"))
        .flat_map(|(_, text)| {
            let named = text.split("Rows::of(\"").skip(1);
            named
                .map(|rest| rest.split('"').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    tests.sort_unstable();
    assert_eq!(tests, Rows::tests());
}

#[test]
fn make_help_explains_every_target() {
    let makefile = fs::read_to_string(workspace().join("Makefile")).unwrap();
    let targets: Vec<_> = makefile
        .lines()
        .find_map(|line| line.strip_prefix(".PHONY: "))
        .unwrap()
        .split_whitespace()
        .collect();
    let help = output("make", &["--no-print-directory", "help"]);
    let explained: BTreeSet<_> = help
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(explained, targets.iter().copied().collect());
    let is_target = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let declared = makefile.lines().filter_map(|line| line.split_once(':'));
    for (target, _) in declared.filter(|(word, _)| is_target(word)) {
        assert!(targets.contains(&target), "{target} is not declared .PHONY");
    }
}

#[test]
fn every_program_that_make_runs_is_there() {
    let makefile = fs::read_to_string(workspace().join("Makefile")).unwrap();
    let words: Vec<_> = makefile.split_whitespace().collect();
    // The fuzz targets are of a workspace of their own.
    let mut run: Vec<_> = words
        .windows(2)
        .filter(|words| words[0] == "--bin" && !words[1].starts_with('$'))
        .map(|words| words[1])
        .collect();
    run.sort_unstable();
    assert_eq!(run, ["bench", "demo", "demo_fleet", "soak"]);
    for program in run {
        let places = [format!("{program}.rs"), format!("{program}/main.rs")];
        let is_there = |place: &String| workspace().join("tests/src/bin").join(place).exists();
        assert!(places.iter().any(is_there), "{program} is not there");
    }
}

#[test]
fn scripts_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    for script in [".ci/run", "tests/otp/setup.sh"] {
        let mode = fs::metadata(Path::new(workspace()).join(script))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{script} is not executable");
    }
}

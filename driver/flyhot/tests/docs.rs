//! The pages and the code, compared: events, verdict and policy both ways, failure modes with what they name.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use flyhot::options::mix;
use flyhot::options::policy::{PolicyFile, Value as KeyValue, keys};
use flyhot_events::{
    ArtifactFacts, ArtifactTrust, BootWhat, BootWhy, CodeIds, Drift, ErrorKind, Event, ExitCode, GateAnswer,
    HistoryEntry, InventoryMachine, LastOutcome, LeaseState, Line, LockHolder, MachineRole, Measured,
    NodeCensus, NodeOutcome, NodeStatus, Outcome, OutcomeKind, PlannedCalls, PlannedKind, PlannedModules,
    Predicted, Reason, ReasonCode, Setting, Severity, Signal, StatusApplication, StatusProcess, Step,
    UnderWay, Unit, Verdict, Watched, WaveWay, WayBack,
};
use serde_json::Value;

/// All variants; a variant that is missing here does not compile.
macro_rules! every {
    ($type:ident: $($variant:ident),+ $(,)?) => {{
        let _exhaustive = |value: $type| match value { $($type::$variant => {})+ };
        [$($type::$variant),+].map(|value| name(&serde_json::to_value(value).unwrap()))
    }};
}

fn name(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn page() -> String {
    read("events.md")
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    fs::read_to_string(path).unwrap()
}

/// The rows of the table under a heading, cells without their back quotes.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let mut under = page
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'));
    assert!(under.clone().next().is_some(), "the page has no {heading:?}");
    under
        .by_ref()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| uncoded(cell.trim()).to_owned())
                .collect()
        })
        .collect()
}

/// Text without the back quotes that enclose all of it.
fn uncoded(cell: &str) -> &str {
    let inner = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    inner.filter(|inner| !inner.contains('`')).unwrap_or(cell)
}

/// The first cells of that table, none twice.
fn documented(page: &str, heading: &str) -> BTreeSet<String> {
    let rows = table(page, heading);
    let names: BTreeSet<_> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(names.len(), rows.len(), "a row of {heading:?} stands twice");
    names
}

fn reason() -> Reason {
    Reason::new(ReasonCode::Drift, "", "", "")
}

fn code_ids() -> CodeIds {
    CodeIds {
        before: Some(String::new()),
        after: Some(String::new()),
    }
}

/// One of each event, every array with an element.
fn samples() -> Vec<Event> {
    let _exhaustive = |event: Event| match event {
        Event::Started { .. }
        | Event::Inventory { .. }
        | Event::Lease { .. }
        | Event::LeftToBoot { .. }
        | Event::StepStarted { .. }
        | Event::Progress { .. }
        | Event::StepDone { .. }
        | Event::Census { .. }
        | Event::Plan { .. }
        | Event::Status { .. }
        | Event::Thaw { .. }
        | Event::Check { .. }
        | Event::RestoreBase { .. }
        | Event::Artifact { .. }
        | Event::Key { .. }
        | Event::Lock { .. }
        | Event::History { .. }
        | Event::Config { .. }
        | Event::Build { .. }
        | Event::Deploy { .. }
        | Event::Orchestrator { .. }
        | Event::Elsewhere { .. }
        | Event::Stopping { .. }
        | Event::ToSign { .. }
        | Event::Pointer { .. }
        | Event::Wave { .. }
        | Event::Bake { .. }
        | Event::Gc { .. }
        | Event::Boot { .. }
        | Event::Attempt { .. }
        | Event::Error { .. }
        | Event::Outcome(_) => {}
    };
    let node = || Some("a@h".to_owned());
    let names = || vec![String::new()];
    let kind = PlannedKind {
        host: String::new(),
        behaviour: String::new(),
        processes: 0,
        fate: String::new(),
        rehearsal: String::new(),
        why: String::new(),
    };
    let census = NodeCensus {
        otp: String::new(),
        erts: String::new(),
        elixir: Some(String::new()),
        modules: 0,
        processes: 0,
    };
    let outcome = NodeOutcome {
        machine: Some(String::new()),
        region: Some(String::new()),
        reasons: vec![reason()],
        code_id: code_ids(),
        predicted: Some(Predicted {
            way_back: WayBack::Exact,
            revert_us: 0,
            freeze_us: 0,
        }),
        gate: Some(GateAnswer::Passed),
        watched: Some(Watched {
            before_us: 0,
            after_us: 0,
            signals: vec![Measured {
                signal: Signal::Errors,
                before: Some(0),
                after: Some(0),
                limit: Some(0),
            }],
        }),
        ..NodeOutcome::untouched("a@h", OutcomeKind::Upgraded)
    };
    vec![
        Event::Started {
            command: String::new(),
            nodes: vec![],
            release: Some(String::new()),
            policy: Some(String::new()),
            flyhot: String::new(),
        },
        Event::Inventory {
            app: String::new(),
            machines: vec![InventoryMachine {
                machine: String::new(),
                region: String::new(),
                group: Some(String::new()),
                state: String::new(),
                image: Some(String::new()),
                role: MachineRole::Node,
                node: node(),
            }],
        },
        Event::Lease {
            node: String::new(),
            machine: String::new(),
            state: LeaseState::WaitedFor,
            holder: Some(String::new()),
            until: Some(String::new()),
            why: Some(String::new()),
        },
        Event::LeftToBoot {
            node: String::new(),
            machine: String::new(),
            state: String::new(),
        },
        Event::StepStarted {
            node: node(),
            step: Step::Read,
        },
        Event::Progress {
            node: node(),
            step: Step::Read,
            done: 0,
            total: 0,
            unit: Unit::Files,
        },
        Event::StepDone {
            node: node(),
            step: Step::Read,
            duration_us: 0,
            count: 0,
            unit: Unit::Files,
        },
        Event::Census {
            node: String::new(),
            census,
        },
        Event::Plan {
            node: String::new(),
            verdict: Verdict::Hot,
            modules: PlannedModules {
                changed: names(),
                added: names(),
                removed: names(),
                unchanged: 0,
            },
            kinds: vec![kind],
            way_back: WayBack::Exact,
            revert_us: 0,
            freeze_us: 0,
            calls: PlannedCalls {
                before: names(),
                after: names(),
                gate: Some(String::new()),
            },
            code_id: code_ids(),
            reasons: vec![reason()],
        },
        Event::Status {
            node: String::new(),
            status: Box::new(node_status()),
        },
        Event::Thaw {
            node: String::new(),
            resumed: 0,
            still: vec![status_process()],
            still_count: 0,
        },
        Event::RestoreBase {
            node: String::new(),
            files: 0,
        },
        Event::Artifact {
            artifact: ArtifactFacts {
                file: String::new(),
                digest: String::new(),
                size: 0,
                release: String::new(),
                version: String::new(),
                contents: String::new(),
                files: 0,
                files_size: 0,
                code_id: String::new(),
                manifest_digest: String::new(),
                trust: ArtifactTrust::Signed,
                signed_by: Some(String::new()),
            },
            directory: Some(String::new()),
            signature: Some(String::new()),
        },
        Event::Key {
            file: String::new(),
            public: String::new(),
        },
        Event::Lock {
            app: String::new(),
            store: String::new(),
            holder: Some(lock_holder()),
            fencing: 0,
            released: Some(lock_holder()),
        },
        Event::History {
            app: String::new(),
            store: String::new(),
            base_image: Some(String::new()),
            artifacts: vec![history_entry()],
        },
        Event::Build { line: String::new() },
        Event::Deploy {
            app: String::new(),
            config: String::new(),
            image: Some(String::new()),
            region: Some(String::new()),
            command: names(),
            env: names(),
            dry_run: false,
        },
        Event::Orchestrator {
            app: String::new(),
            machine: String::new(),
            name: String::new(),
            region: String::new(),
            image: String::new(),
        },
        Event::Elsewhere {
            app: String::new(),
            machine: String::new(),
            region: String::new(),
        },
        Event::Stopping {
            signal: String::new(),
            machine: String::new(),
            hint: String::new(),
        },
        Event::ToSign {
            manifest_digest: String::new(),
        },
        Event::Config {
            settings: vec![Setting {
                name: String::new(),
                value: Some(String::new()),
                secret: false,
                origin: Some(String::new()),
                place: Some(String::new()),
            }],
        },
        Event::Pointer {
            app: String::new(),
            store: String::new(),
            state: String::new(),
            artifact: history_entry(),
            fencing: 0,
            displaced: Some(String::new()),
        },
        Event::Wave {
            wave: 1,
            way: WaveWay::Forth,
            nodes: names(),
            at_once: 1,
        },
        Event::Bake {
            node: String::new(),
            bake_us: 1,
        },
        Event::Gc {
            app: String::new(),
            store: String::new(),
            kept: 0,
            removed: names(),
            removed_size: 0,
            unfinished: 0,
            dry_run: false,
        },
        Event::Boot {
            what: BootWhat::Target,
            why: BootWhy::Committed,
            version: Some(String::new()),
            digest: Some(String::new()),
            code_id: Some(String::new()),
            trust: Some(ArtifactTrust::Signed),
            signed_by: Some(String::new()),
            app: Some(String::new()),
            store: Some(String::new()),
            image: Some(String::new()),
            files: 0,
        },
        Event::Check {
            node: String::new(),
            check: String::new(),
            well: true,
            found: String::new(),
            fix: String::new(),
        },
        Event::Attempt {
            node: String::new(),
            attempt: 1,
            of: 1,
            reasons: vec![reason()],
        },
        Event::Error {
            node: node(),
            kind: ErrorKind::Bug,
            message: String::new(),
            hint: String::new(),
        },
        Event::Outcome(Outcome {
            outcome: OutcomeKind::Upgraded,
            exit_code: ExitCode::SUCCESS,
            nodes: vec![outcome],
        }),
    ]
}

fn history_entry() -> HistoryEntry {
    HistoryEntry {
        version: String::new(),
        code_id: String::new(),
        digest: String::new(),
        created_at: 0,
        state: String::new(),
    }
}

fn lock_holder() -> LockHolder {
    LockHolder {
        who: String::new(),
        machine: String::new(),
        purpose: String::new(),
        held_s: 0,
        renewed_s: Some(0),
        left_s: 0,
    }
}

fn status_process() -> StatusProcess {
    StatusProcess {
        pid: String::new(),
        name: Some(String::new()),
        module: String::new(),
        stack: vec![String::new()],
        how: String::new(),
    }
}

fn node_status() -> NodeStatus {
    NodeStatus {
        machine: Some(String::new()),
        region: Some(String::new()),
        otp: String::new(),
        erts: String::new(),
        elixir: Some(String::new()),
        code_id: String::new(),
        embedded: true,
        processes: 0,
        memory_bytes: 0,
        applications: vec![StatusApplication {
            name: String::new(),
            version: String::new(),
            running: true,
        }],
        drift: vec![Drift {
            module: String::new(),
            loaded: String::new(),
            file: Some(String::new()),
        }],
        differing: vec![String::new()],
        old_code: vec![String::new()],
        lingerers: vec![status_process()],
        lingerers_sought: 0,
        suspended: vec![status_process()],
        suspended_count: 0,
        under_way: Some(UnderWay {
            holder: String::new(),
            step: String::new(),
        }),
        last: Some(LastOutcome {
            at: 0,
            release: String::new(),
            outcome: OutcomeKind::Upgraded,
            code_id: code_ids(),
            reasons: vec![ReasonCode::Memory],
        }),
    }
}

/// `nodes[].code_id.before` and the like: the way to each leaf.
fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let path = if path.is_empty() {
                    field.clone()
                } else {
                    format!("{path}.{field}")
                };
                paths(value, &path, found);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for element in elements {
                paths(element, &format!("{path}[]"), found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn every_event_and_field_is_documented_and_no_other() {
    let page = page();
    let mut events = BTreeMap::new();
    for event in samples() {
        let Value::Object(mut fields) = serde_json::to_value(Line::new(event)).unwrap() else {
            panic!()
        };
        assert_eq!(fields.remove("v"), Some(Value::from(1)));
        let event = name(&fields.remove("event").unwrap());
        let mut found = BTreeSet::new();
        paths(&Value::Object(fields), "", &mut found);
        events.insert(event, found);
    }
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("Events\n"))
        .unwrap();
    let headings: BTreeSet<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .map(str::to_owned)
        .collect();
    assert_eq!(headings, events.keys().cloned().collect());
    for (event, fields) in events {
        assert_eq!(documented(&page, &format!("### `{event}`")), fields, "{event}");
    }
}

#[test]
fn every_value_is_documented_and_no_other() {
    let page = page();
    let values = [
        (
            "### OutcomeKind",
            every!(OutcomeKind: Upgraded, NothingToDo, Planned, Refused, Reverted, Degraded, NotQuiesced, Mixed, Failed,
                NotBegun, LeftToBoot, Done, TakenBack)
            .to_vec(),
        ),
        (
            "### Step",
            every!(Step: Read, Connect, Census, Closures, Stage, Rehearse, Drain, Prepare, Baseline, HooksBefore, Entry,
                Knock, Window, Persist, Remove, HooksAfter, Gate, Watch, Cleanup, Pack, Verify, Unpack, Lock, SaveBase,
                Upload, Fetch, Overlay, CheckUrl, MachineChecks)
            .to_vec(),
        ),
        ("### GateAnswer", every!(GateAnswer: Passed, NotPassed).to_vec()),
        ("### Unit", every!(Unit: Modules, Processes, Bytes, Files, Attempts, Calls, Signals).to_vec()),
        ("### Verdict", every!(Verdict: Hot, HotWithWarnings, Cold).to_vec()),
        ("### WayBack", every!(WayBack: Exact, AfterDrain, None).to_vec()),
        (
            "### ArtifactTrust",
            every!(ArtifactTrust: Signed, AnyTaken, NotAsked).to_vec(),
        ),
        ("### BootWhat", every!(BootWhat: Target, Base, AsItIs).to_vec()),
        (
            "### BootWhy",
            every!(BootWhy: Committed, Trial, NothingDeployed, OtherImage, NoStore, NotConfigured, StoreFailed, NotTrusted, NotUsable,
                NotWritten)
            .to_vec(),
        ),
        (
            "### MachineRole",
            every!(MachineRole: Node, LeftToBoot, Other, Lacking).to_vec(),
        ),
        (
            "### LeaseState",
            every!(LeaseState: WaitedFor, MayNot, Without, Lost).to_vec(),
        ),
        ("### WaveWay", every!(WaveWay: Forth, Back).to_vec()),
        (
            "### Signal",
            every!(Signal: Errors, Crashes, Restarts, Undef, Badfun, FunctionClause, RunQueue, Memory).to_vec(),
        ),
        ("### Severity", every!(Severity: Note, Warning, Cold, Refusal).to_vec()),
    ];
    for (heading, values) in values {
        assert_eq!(
            documented(&page, heading),
            values.into_iter().collect(),
            "{heading}"
        );
    }
}

#[test]
fn every_reason_is_documented_and_no_other() {
    let row = |code: &ReasonCode| {
        let severity = name(&serde_json::to_value(code.severity()).unwrap());
        vec![code.name().to_owned(), severity, code.meaning().trim().to_owned()]
    };
    let documented = table(&page(), "## Reasons");
    for (is, should) in documented.iter().zip(ReasonCode::ALL.iter().map(row)) {
        assert_eq!(*is, should);
    }
    assert_eq!(documented.len(), ReasonCode::ALL.len());
}

#[test]
fn every_exit_code_is_documented_and_no_other() {
    let documented: Vec<_> = table(&page(), "## Exit codes")
        .into_iter()
        .map(|row| row[..3].to_vec())
        .collect();
    let row = |kind: &ErrorKind| {
        let json = |value: Value| value.to_string().trim_matches('"').to_owned();
        [
            json(serde_json::to_value(kind.exit_code()).unwrap()),
            json(serde_json::to_value(kind).unwrap()),
            json(serde_json::to_value(kind.outcome()).unwrap()),
        ]
        .to_vec()
    };
    assert_eq!(documented, ErrorKind::ALL.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn the_help_names_every_exit_code_that_these_commands_have() {
    let help = <flyhot::cli::Cli as clap::CommandFactory>::command()
        .render_long_help()
        .to_string();
    let codes: BTreeSet<u8> = help
        .split("Exit codes:\n")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    let expected = ErrorKind::ALL.iter().map(|kind| kind.exit_code().0);
    assert_eq!(codes, expected.chain([0]).collect());
}

#[test]
fn every_key_of_a_policy_file_is_documented_and_no_other() {
    let page = read("policy.md");
    let keys = keys();
    let tables: BTreeSet<_> = keys.iter().map(|key| format!("## `[{}]`", key.table)).collect();
    let headings: BTreeSet<_> = page
        .lines()
        .filter(|line| line.starts_with("## "))
        .map(str::to_owned)
        .collect();
    assert_eq!(headings, tables);
    for heading in tables {
        let documented: Vec<_> = table(&page, &heading)
            .into_iter()
            .map(|row| row[..3].to_vec())
            .collect();
        let known: Vec<_> = keys
            .iter()
            .filter(|key| heading == format!("## `[{}]`", key.table))
            .map(|key| vec![key.name.to_owned(), key.value.to_string(), key.default.clone()])
            .collect();
        assert_eq!(documented, known, "{heading}");
    }
}

#[test]
fn every_signal_of_the_gate_is_on_its_page_with_what_is_let_pass() {
    let page = read("gate.md");
    let number = |text: &str| text.split(' ').next().unwrap().to_owned();
    let documented: Vec<_> = table(&page, "## The signals")
        .into_iter()
        .map(|row| (row[0].clone(), number(&row[2])))
        .collect();
    let keys = keys().into_iter();
    let known: Vec<_> = keys
        .filter(|key| key.table == "gate" && key.value == KeyValue::Number)
        .map(|key| (key.name.to_owned(), key.default.clone()))
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn every_example_of_a_policy_file_is_one_and_together_they_have_every_key() {
    let page = read("policy.md");
    let examples: Vec<_> = page
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() > keys().len() / 3);
    for example in &examples {
        PolicyFile::parse(example.as_bytes()).unwrap_or_else(|error| panic!("{error:?}\n{example}"));
    }
    for key in keys() {
        let there = |line: &str| line.starts_with(&format!("{} = ", key.name));
        let free = key.name.chars().all(char::is_uppercase);
        let written = examples.iter().flat_map(|example| example.lines()).any(there);
        assert!(free || written, "no example has {}", key.name);
    }
}

#[test]
fn every_value_and_every_key_of_mix_is_documented_and_no_other() {
    let page = read("configuration.md");
    let nowhere = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_flyhot"))
        .args(["config", "--output", "json"])
        .env_clear()
        .current_dir(nowhere.path())
        .output()
        .unwrap();
    let line = |line: &str| serde_json::from_str::<Line>(line).unwrap().event;
    let settings = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(line)
        .find_map(|event| match event {
            Event::Config { settings } => Some(settings),
            _ => None,
        });
    let names: BTreeSet<_> = settings
        .unwrap()
        .into_iter()
        .map(|setting| setting.name)
        .collect();
    assert_eq!(documented(&page, "## Values"), names);
    let rows = table(&page, "## `config :fly_deploy`");
    let rows: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[1].clone())).collect();
    assert_eq!(rows, mix::KEYS.map(|(key, kind)| (key, kind.to_string())));
}

/// What `mix fly_deploy.hot` takes: first what fly_deploy 0.4.2 takes as well, then what it does not know.
const OF_HOT: [&str; 21] = [
    "--config",
    "--skip-build",
    "--image",
    "--build-arg",
    "--dry-run",
    "--no-cache",
    "--buildkit",
    "--force",
    "--lock-timeout",
    "--mode",
    "--max-concurrency",
    "--timeout",
    "--suspend-timeout",
    "--sequential",
    "--canary",
    "--bake",
    "--check-url",
    "--memory",
    "--no-rollback",
    "--output",
    "--report",
];

#[test]
fn whoever_comes_from_fly_deploy_finds_each_option_and_key_judged() {
    let page = read("migration.md");
    assert_eq!(
        documented(&page, "## `mix fly_deploy.hot`"),
        OF_HOT.map(str::to_owned).into()
    );
    let keys = table(&page, "## Configuration");
    // That one names flyhot itself.
    for (key, _) in mix::KEYS.iter().filter(|(key, _)| *key != "flyhot") {
        let quoted = [format!("`{key}`"), (*key).to_owned()];
        let has = |cell: &str| cell == quoted[1] || cell.contains(&quoted[0]);
        assert!(keys.iter().any(|row| has(&row[0])), "no row for {key}");
    }
    for heading in [
        "## How it goes about it",
        "## `mix fly_deploy.hot`",
        "## Other tasks",
        "## Configuration",
        "## Functions",
    ] {
        for row in table(&page, heading) {
            let last = row.last().unwrap();
            // What is the same needs no more words.
            let judged = ["same", "better", "different"].iter().any(|word| {
                let rest = last.strip_prefix(word);
                rest.is_some_and(|rest| match rest.strip_prefix(": ") {
                    Some(why) => !why.trim().is_empty(),
                    None => *word == "same" && rest.is_empty(),
                })
            });
            assert!(row.len() == 4 && judged, "{row:?}");
        }
    }
}

/// The sections of docs/verdict.md: the code, and the tests in which it is given and in which it is not.
fn verdict_sections() -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verdict.md");
    let page = fs::read_to_string(path).unwrap();
    let mut sections = BTreeMap::new();
    for section in page.split("\n## ").skip(1) {
        let (heading, text) = section.split_once('\n').unwrap();
        let code = uncoded(heading).to_owned();
        let last = text.trim_end().rsplit("\n\n").next().unwrap().replace('\n', " ");
        let (given, not) = last
            .strip_prefix("Given in ")
            .and_then(|tests| tests.split_once("; not in "))
            .unwrap_or_else(|| {
                panic!(
                    "docs/verdict.md, {code}: its last line must be \"Given in `TEST`, …; not in `TEST`, ….\""
                )
            });
        let names =
            |list: &str| -> Vec<String> { list.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        assert!(
            text.contains("\n```\n"),
            "docs/verdict.md, {code}: it shows no sentence"
        );
        let twice = sections.insert(code.clone(), (names(given), names(not)));
        assert!(twice.is_none(), "docs/verdict.md: {code} stands twice");
    }
    sections
}

/// Each row of the failure modes names what shows it, and that is there.
#[test]
fn every_failure_mode_is_shown_by_a_test_or_refused_by_a_reason() {
    const ROWS: usize = 44;
    let page = read("failure-modes.md");
    let mut known = all_tests();
    known.extend(ReasonCode::ALL.iter().map(|code| code.name().to_owned()));
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), ROWS);
    for (at, row) in rows.iter().enumerate() {
        assert_eq!((row.len(), row[0]), (4, &*(at + 1).to_string()), "{row:?}");
        let shown: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
        assert!(!shown.is_empty(), "row {}: nothing shows it", at + 1);
        for name in shown {
            assert!(known.contains(name), "row {}: there is no {name}", at + 1);
        }
    }
}

fn all_tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = BTreeSet::new();
    for directory in ["driver", "tests/tests", "tests/src"] {
        test_functions(&root.join(directory), &mut tests);
    }
    tests
}

/// The names of all tests of this repository.
fn test_functions(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            test_functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let tests = source.split("#[test]\n").skip(1);
            found.extend(tests.filter_map(|rest| {
                let name = rest.split_once("fn ")?.1.split('(').next()?;
                Some(name.to_owned())
            }));
        }
    }
}

#[test]
fn every_reason_has_a_section_of_the_verdict_and_tests_both_ways() {
    let sections = verdict_sections();
    let codes: BTreeSet<String> = ReasonCode::ALL
        .iter()
        .map(|code| code.name().to_owned())
        .collect();
    for code in &codes {
        assert!(
            sections.contains_key(code),
            "docs/verdict.md has no section \"## `{code}`\": whoever adds a reason writes it there, with what it means, \
             a real sentence, what to do, and the tests in which it is given and in which it is not"
        );
    }
    for code in sections.keys() {
        assert!(
            codes.contains(code),
            "docs/verdict.md has a section for {code}, which is no reason: remove it"
        );
    }
    let tests = all_tests();
    for (code, (given, not)) in &sections {
        for (what, names) in [("in which it is given", given), ("in which it is not", not)] {
            assert!(
                !names.is_empty(),
                "docs/verdict.md, {code}: it names no test {what}"
            );
            for name in names {
                assert!(
                    tests.contains(name),
                    "docs/verdict.md, {code}: there is no test {name}; name one {what}"
                );
            }
        }
    }
}

#[test]
fn every_option_of_a_deploy_is_on_its_page_and_in_the_help_of_its_task() {
    let mut cli = <flyhot::cli::Cli as clap::CommandFactory>::command();
    cli.build();
    let deploy = cli.find_subcommand("deploy").unwrap();
    let options: Vec<_> = deploy
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .filter(|option| *option != "help")
        .collect();
    let task =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../elixir_shim/lib/mix/tasks/fly_deploy.hot.ex");
    let task = fs::read_to_string(task).unwrap();
    // The rest is what every command with a store has.
    let of_others = ["app", "store", "bucket", "endpoint", "region", "lock-wait"];
    let page = read("deploy.md");
    for option in options {
        let named =
            |text: &str| text.contains(&format!("`--{option} ")) || text.contains(&format!("`--{option}`"));
        assert!(named(&page), "deploy.md does not have --{option}");
        assert!(
            named(&task) || of_others.contains(&option),
            "the task does not have --{option}"
        );
    }
}

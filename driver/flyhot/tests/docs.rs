//! `docs/events.md` and the vocabulary, compared both ways.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use flyhot_events::{
    CodeIds, ErrorKind, Event, ExitCode, Line, NodeCensus, NodeOutcome, Outcome, OutcomeKind, PlannedKind,
    PlannedModules, Reason, ReasonCode, Severity, Step, Unit, Verdict, WayBack,
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.md");
    fs::read_to_string(path).unwrap()
}

/// The rows of the table under a heading, cells without their back quotes.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let mut under = page
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'));
    assert!(
        under.clone().next().is_some(),
        "docs/events.md has no {heading:?}"
    );
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
        | Event::StepStarted { .. }
        | Event::Progress { .. }
        | Event::StepDone { .. }
        | Event::Census { .. }
        | Event::Plan { .. }
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
        reasons: vec![reason()],
        code_id: code_ids(),
        ..NodeOutcome::untouched("a@h", OutcomeKind::Upgraded)
    };
    vec![
        Event::Started {
            command: String::new(),
            nodes: vec![],
            release: String::new(),
            flyhot: String::new(),
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
            code_id: code_ids(),
            reasons: vec![reason()],
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
                NotBegun)
            .to_vec(),
        ),
        (
            "### Step",
            every!(Step: Read, Connect, Census, Stage, Rehearse, Drain, Prepare, WayBack, Entry, Knock, Window, Persist,
                Cleanup)
            .to_vec(),
        ),
        ("### Unit", every!(Unit: Modules, Processes, Bytes, Files, Attempts).to_vec()),
        ("### Verdict", every!(Verdict: Hot, HotWithWarnings, Cold).to_vec()),
        ("### WayBack", every!(WayBack: Exact, AfterDrain, None).to_vec()),
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
    // Build, store, Fly and signatures belong to commands that do not exist yet.
    let absent = [
        ErrorKind::BuildFailed,
        ErrorKind::Store,
        ErrorKind::FlyApi,
        ErrorKind::NotTrusted,
    ];
    let expected = ErrorKind::ALL
        .iter()
        .filter(|kind| !absent.contains(kind))
        .map(|kind| kind.exit_code().0);
    assert_eq!(codes, expected.chain([0]).collect());
}

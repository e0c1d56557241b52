//! The terms spoken with the agent, held by bytes: commands as this side writes them, answers as a node wrote
//! them (`term_to_binary/1`, OTP 25).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use erl_dist::term::{Pid, Term};
use flyhot_agent::{
    Command, Piece, PrepareModule, RehearsalJob, StagedKey, StartApplication, StartCode, start_options,
};
use flyhot_upgrade::{
    AbandonCause, Behaviour, CallbackMode, Fate, Hosts, NodeFunction, Rehearsal, Script, ScriptKind,
    ScriptModule, WayBack, WindowEnd,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// Compares with the golden file; `FLYHOT_BLESS=1` writes it.
fn check(name: &str, term: &Term) {
    let mut bytes = Vec::new();
    term.encode(&mut bytes).unwrap();
    let path = format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("FLYHOT_BLESS").is_some() {
        std::fs::write(&path, hex(&bytes) + "\n").unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        hex(&bytes),
        golden.trim(),
        "{name}: this side writes other bytes than the agent was tested with"
    );
}

fn answer(name: &str) -> Term {
    let path = format!("{}/tests/golden/{name}.answer.hex", env!("CARGO_MANIFEST_DIR"));
    Term::decode(&unhex(&std::fs::read_to_string(path).unwrap())[..]).unwrap()
}

fn script() -> Script {
    Script {
        modules: vec![
            ScriptModule {
                name: "Elixir.Shop.Cart".into(),
                file: "/app/lib/shop-1.0.0/ebin/Elixir.Shop.Cart.beam".into(),
                loaded_md5: Some([1; 16]),
                target_md5: [2; 16],
            },
            ScriptModule {
                name: "new".into(),
                file: "/app/new.beam".into(),
                loaded_md5: None,
                target_md5: [3; 16],
            },
        ],
        kinds: vec![
            ScriptKind {
                id: 3,
                behaviour: Behaviour::GenServer,
                fate: Fate::Migrate {
                    modules: vec!["Elixir.Shop.Cart".into()],
                },
                apart: true,
            },
            ScriptKind {
                id: 400,
                behaviour: Behaviour::GenStatem,
                fate: Fate::Keep,
                apart: false,
            },
        ],
        window_budget_us: 2_000_000,
        revert_budget_us: 5_000_000_000,
        in_flight: 1000,
        down: false,
        way_back: WayBack::AfterDrain,
    }
}

#[test]
fn commands_have_the_bytes_the_agent_knows() {
    check("facts", &Command::Facts.term());
    check("census", &Command::Census(&Hosts::new()).term());
    let hosts = Hosts::from([(
        "prequeue".into(),
        vec!["queue".into(), "Elixir.Shop.Backing".into()],
    )]);
    check("census_hosts", &Command::Census(&hosts).term());
    check(
        "lacking",
        &Command::Lacking(vec![NodeFunction {
            module: "Elixir.Shop.Health".into(),
            function: "ready?".into(),
        }])
        .term(),
    );
    check("finish", &Command::Finish.term());
    check(
        "stage",
        &Command::Stage(vec![
            Piece {
                key: StagedKey::Beam("m".into()),
                offset: 0,
                total: 3,
                sha256: [7; 32],
                bytes: b"abc",
            },
            Piece {
                key: StagedKey::Copy("c".into()),
                offset: 1,
                total: 4,
                sha256: [8; 32],
                bytes: b"bcd",
            },
            Piece {
                key: StagedKey::File("/a/b".into()),
                offset: 0,
                total: 0,
                sha256: [9; 32],
                bytes: b"",
            },
        ])
        .term(),
    );
    check("copies", &Command::Copies(vec!["flyhot$ab$m".into()]).term());
    check(
        "rehearse",
        &Command::Rehearse {
            jobs: vec![RehearsalJob {
                kind: 3,
                how: Rehearsal::Apart,
                copies: vec![("m".into(), "flyhot$ab$m".into())],
            }],
            down: true,
            in_flight: 1000,
            timeout_ms: 10_000,
        }
        .term(),
    );
    check(
        "closures",
        &Command::Closures {
            changed: vec!["m".into()],
            removed: vec!["gone".into()],
            others: vec!["shell_made".into()],
            ask: true,
            in_flight: 1000,
            timeout_ms: 5000,
        }
        .term(),
    );
    check(
        "drain",
        &Command::Drain {
            modules: vec!["m".into()],
            timeout_ms: 100,
            kill: true,
        }
        .term(),
    );
    check(
        "prepare",
        &Command::Prepare(vec![PrepareModule {
            name: "m".into(),
            file: "/m.beam".into(),
            changed: true,
        }])
        .term(),
    );
    check(
        "way_back",
        &Command::WayBack {
            kinds: vec![1, 300],
            modules: vec!["m".into()],
        }
        .term(),
    );
    check(
        "knock",
        &Command::Knock {
            kinds: vec![1],
            timeout_ms: 10_000,
            in_flight: 1000,
        }
        .term(),
    );
    check("watch", &Command::Watch { for_ms: 6000 }.term());
    check("window", &Command::Window(&script()).term());
    check("entry", &Command::Entry.term());
    check("pause", &Command::Pause.term());
    check("disk", &Command::Disk(vec!["m".into()]).term());
    check(
        "modules",
        &Command::Modules(vec![("m".into(), true), ("n".into(), false)]).term(),
    );
    check("private", &Command::Private(vec!["shop".into()]).term());
    check(
        "environment",
        &Command::Environment(vec![("shop".into(), "{application,shop,[]}.".into())]).term(),
    );
    let code = StartCode {
        applications: vec![StartApplication {
            name: "shop".into(),
            version: "1.1.0".into(),
            modules: vec![("m".into(), [7; 16])],
            resource_md5: [8; 16],
        }],
        protocols: vec![("p".into(), [9; 16])],
        name: "0123456789abcdef".into(),
    };
    check(
        "persist",
        &Command::Persist {
            code: &code,
            version: "1.1.0".into(),
            files: vec![("start.boot".into(), StagedKey::File("start/start.boot".into()))],
        }
        .term(),
    );
    check("restore_base", &Command::RestoreBase.term());
    check("layout", &Command::Layout(&code).term());
    check(
        "note",
        &Command::Note(
            "/a/flyhot/outcomes/shop@host.json".into(),
            StagedKey::File("outcome".into()),
        )
        .term(),
    );
    check(
        "remove",
        &Command::Remove {
            removed: vec!["gone".into()],
            swapped: vec!["m".into()],
            names: vec![("m".into(), "gone".into())],
            builds: vec![("m".into(), [7; 16])],
            in_flight: 1000,
            timeout_ms: 5000,
        }
        .term(),
    );
    check(
        "start",
        &start_options("abc@host", &Pid::new("abc@host", 1, 0, 5), "somebody"),
    );
}

#[test]
fn a_window_that_failed_and_was_undone_is_read_as_such() {
    let report = flyhot_agent::window(&answer("window_reverted")).unwrap();
    assert_eq!(report.end, WindowEnd::Reverted);
    assert_eq!(
        (report.affected, report.migrated, report.kept, report.failed),
        (1000, 0, 999, 1)
    );
    assert_eq!(report.faults.len(), 1);
    assert_eq!(
        report.faults[0].error,
        "{'EXIT',{bad,[{sv,code_change,3},{gen_server,system_code_change,4}]}}"
    );
    assert!(report.window_us > 0 && report.phases.freeze > 0);
}

#[test]
fn a_window_given_up_names_its_cause() {
    let report = flyhot_agent::window(&answer("window_abandoned")).unwrap();
    assert_eq!(report.end, WindowEnd::Abandoned(AbandonCause::WorkerDied));
    assert!(report.by_guard);
}

#[test]
fn what_became_of_the_entry_is_read() {
    let report = flyhot_agent::entry(&answer("paused")).unwrap();
    assert_eq!(report.listeners, ["ranch :web"]);
    assert_eq!(report.not_paused[0].0, "ThousandIsland :island");
    let still = flyhot_agent::finished(&answer("finished")).unwrap();
    assert_eq!(still[0].command, ":ranch.resume_listener(:web)");
}

#[test]
fn what_was_watched_is_read() {
    let seen = flyhot_agent::watched(&answer("watched")).unwrap();
    assert_eq!((seen.span_us, seen.run_queue, seen.schedulers), (6_012_345, 3, 2));
    assert_eq!((seen.memory_most, seen.memory_last), (51_234_567, 50_234_567));
    let log = seen.log.unwrap();
    assert_eq!((log.errors, log.crashes, log.restarts), (57, 2, 1));
    assert_eq!((log.undef, log.badfun, log.function_clause), (1, 0, 0));
}

#[test]
fn a_census_is_read() {
    let census = flyhot_agent::census(&answer("census")).unwrap();
    assert_eq!(census.silent, []);
    let kind = census.kinds.iter().find(|kind| kind.host == "sv").unwrap();
    assert_eq!((kind.behaviour, kind.processes), (Behaviour::GenServer, 10));
    assert_eq!(kind.modules, ["sv"]);
    assert_eq!(kind.shows.as_deref(), Some("pre"));
    assert!(census.kinds.iter().any(|kind| kind.shows.is_none()));
}

#[test]
fn functions_that_are_not_there_are_read() {
    let lacking = flyhot_agent::lacking(&answer("lacking")).unwrap();
    let shown: Vec<_> = lacking.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["Shop.Health.ready?/0", "lists:nothing/0"]);
}

#[test]
fn facts_are_read() {
    let facts = flyhot_agent::facts(&answer("facts")).unwrap();
    assert_eq!(facts.otp, "25");
    assert!(facts.modules.contains_key("gen_server"));
    let [kernel, stdlib] = ["kernel", "stdlib"].map(|name| &facts.applications[name]);
    assert!(kernel.running && kernel.environment.contains("port"));
    assert_eq!(
        (kernel.start_module.as_deref(), &stdlib.start_module),
        (Some("kernel"), &None)
    );
    assert!(facts.configuration.contains_key("sys.config"));
}

#[test]
fn a_closer_look_is_read() {
    let modules = flyhot_agent::modules(&answer("modules")).unwrap();
    let [crypto, sv, erlang] = &modules[..] else {
        panic!("{modules:?}")
    };
    assert_eq!(
        (&*crypto.name, crypto.traced, crypto.nifs, &crypto.code),
        ("crypto", false, true, &None)
    );
    assert_eq!((&*sv.name, sv.traced, sv.nifs), ("sv", true, false));
    assert_eq!(sv.exports, ["init/1", "code_change/3"]);
    assert_eq!((&sv.mode, sv.partial), (&None, true));
    assert_eq!(
        crypto.mode,
        Some(CallbackMode::Is("[state_functions,state_enter]".into()))
    );
    assert_eq!(
        (&erlang.mode, erlang.partial),
        (&Some(CallbackMode::Unknown), false)
    );
    assert!(sv.code.as_ref().unwrap().starts_with(b"FOR1"));
    // A module of the runtime system has no file.
    assert_eq!((&*erlang.name, &erlang.code), ("erlang", &None));

    let private = flyhot_agent::private(&answer("private")).unwrap();
    assert_eq!(private["crypto"]["lib/crypto.so"].len(), 16);

    let environment = flyhot_agent::environment(&answer("environment")).unwrap();
    assert_eq!(
        environment["kernel"],
        "kernel -> nothing, kernel -> logger_level -> deep"
    );
}

#[test]
fn a_refusal_is_an_error_with_its_words() {
    let error = flyhot_agent::window(&answer("refused")).unwrap_err();
    assert_eq!(error.to_string(), "the agent answered: unknown_command: nonsense");
}

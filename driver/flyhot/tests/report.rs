//! What people read, scenario by scenario: the files under `tests/golden` are the text as it stands on a
//! screen without colours.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod support;

use flyhot::options::Screen;
use flyhot::report::Human;
use flyhot_events::{
    ArtifactTrust, BootWhat, BootWhy, CodeIds, Drift, ErrorKind, Event, ExitCode, InventoryMachine,
    LastOutcome, MachineRole, ModuleCounts, NodeCensus, NodeOutcome, NodeStatus, Outcome, OutcomeKind,
    PhaseTimes, PlannedCalls, PlannedKind, PlannedModules, Predicted, ProcessCounts, Reason, ReasonCode,
    StatusApplication, StatusProcess, Step, UnderWay, Unit, Verdict, WaveWay, WayBack,
};
use support::golden;

const NODE: &str = "shop@10.0.0.1";

/// Both streams in the order of a terminal; lines of standard error are marked.
fn said(events: &[Event], screen: Screen) -> String {
    let mut text = String::new();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut human = Human::new(&mut out, &mut err, screen);
    for event in events {
        human.event(event).unwrap();
    }
    drop(human);
    text.push_str(&String::from_utf8(out).unwrap());
    for line in String::from_utf8(err).unwrap().lines() {
        text.push_str("[err] ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn started(command: &str, nodes: &[&str]) -> Event {
    Event::Started {
        command: command.into(),
        nodes: nodes.iter().map(|node| (*node).into()).collect(),
        release: Some("_build/prod/rel/shop".into()),
        policy: (command == "plan").then(|| "flyhot.toml".into()),
        flyhot: "0.1.0".into(),
    }
}

fn step(step: Step, duration_us: u64, count: u64, unit: Unit) -> [Event; 2] {
    let node = (step != Step::Read).then(|| NODE.to_owned());
    [
        Event::StepStarted {
            node: node.clone(),
            step,
        },
        Event::StepDone {
            node,
            step,
            duration_us,
            count,
            unit,
        },
    ]
}

fn before_the_plan() -> Vec<Event> {
    let mut events = Vec::new();
    events.extend(step(Step::Read, 48_211, 412, Unit::Modules));
    events.extend(step(Step::Connect, 12_400, 1, Unit::Attempts));
    events.extend(step(Step::Census, 85_000, 10_342, Unit::Processes));
    events.push(Event::Census {
        node: NODE.into(),
        census: NodeCensus {
            otp: "25".into(),
            erts: "13.1.5".into(),
            elixir: Some("1.14.0".into()),
            modules: 1_203,
            processes: 10_342,
        },
    });
    events
}

fn code_ids() -> CodeIds {
    CodeIds {
        before: Some("3f2a9100c4d2".repeat(6)[..64].into()),
        after: Some("77cd02e1b8aa".repeat(6)[..64].into()),
    }
}

fn kind(host: &str, behaviour: &str, processes: u64, fate: &str, rehearsal: &str, why: &str) -> PlannedKind {
    PlannedKind {
        host: host.into(),
        behaviour: behaviour.into(),
        processes,
        fate: fate.into(),
        rehearsal: rehearsal.into(),
        why: why.into(),
    }
}

fn planned(node: &NodeOutcome, kind: OutcomeKind, reasons: Vec<Reason>) -> NodeOutcome {
    NodeOutcome {
        outcome: kind,
        reasons,
        ..node.clone()
    }
}

/// A node on which 2 modules change under 10 000 servers.
fn untouched() -> NodeOutcome {
    NodeOutcome {
        code_id: code_ids(),
        modules: ModuleCounts {
            changed: 2,
            added: 1,
            removed: 0,
        },
        processes: ProcessCounts {
            affected: 10_001,
            skipped: 10_001,
            ..ProcessCounts::default()
        },
        ..NodeOutcome::untouched(NODE, OutcomeKind::Planned)
    }
}

/// The same after its window.
fn windowed(kind: OutcomeKind, processes: ProcessCounts, reasons: Vec<Reason>) -> NodeOutcome {
    NodeOutcome {
        outcome: kind,
        processes,
        window_us: 182_400,
        longest_freeze_us: 171_020,
        phases_us: PhaseTimes {
            freeze: 61_000,
            swap: 8_300,
            migrate: 72_100,
            prove: 420,
            undo: if kind == OutcomeKind::Reverted { 90_000 } else { 0 },
            thaw: 40_580,
        },
        predicted: Some(Predicted {
            way_back: WayBack::Exact,
            revert_us: 82_000,
            freeze_us: 165_000,
        }),
        reasons,
        ..untouched()
    }
}

fn ends(kind: OutcomeKind, exit: ExitCode, nodes: Vec<NodeOutcome>) -> Event {
    Event::Outcome(Outcome {
        outcome: kind,
        exit_code: exit,
        nodes,
    })
}

fn hot_plan() -> Vec<Event> {
    let reasons = vec![
        Reason::new(
            ReasonCode::ShapeUnknown,
            "Shop.Cart",
            "Whether the shape of its state changed cannot be known from a stripped module.",
            "",
        ),
        Reason::new(
            ReasonCode::PersistOff,
            NODE,
            "The new code is not written to the node's disk; a restart boots the old code.",
            "Leave out --no-persist.",
        ),
    ];
    let mut events = vec![started("plan", &[NODE])];
    events.extend(before_the_plan());
    events.push(Event::Plan {
        node: NODE.into(),
        verdict: Verdict::HotWithWarnings,
        modules: PlannedModules {
            changed: vec!["Shop.Cart".into(), "Shop.Router".into()],
            added: vec!["Shop.Discount".into()],
            removed: vec![],
            unchanged: 409,
        },
        kinds: vec![
            kind("Shop.Cart", "gen_server", 10_000, "migrate", "in_place", ""),
            kind(
                "Shop.CartSupervisor",
                "supervisor",
                1,
                "hold",
                "no",
                "starts Shop.Cart",
            ),
        ],
        way_back: WayBack::Exact,
        revert_us: 82_000,
        freeze_us: 165_000,
        calls: PlannedCalls {
            before: vec!["Shop.Upgrade.before/0".into(), "shop_intake:pause/0".into()],
            after: vec![],
            gate: Some("Shop.Health.ready?/0".into()),
        },
        code_id: code_ids(),
        reasons: reasons.clone(),
    });
    events.push(ends(
        OutcomeKind::Planned,
        ExitCode::SUCCESS,
        vec![planned(&untouched(), OutcomeKind::Planned, reasons)],
    ));
    events
}

fn cold_plan() -> Vec<Event> {
    let failed = |n: u32| {
        Reason::new(
            ReasonCode::RehearsalFailed,
            format!("<0.{n}.0> Shop.Cart"),
            "code_change/3 raised {badkey,currency} on the state of this process.",
            "Make code_change take this state, build again, and plan again.",
        )
    };
    let reasons = vec![
        Reason::new(
            ReasonCode::ApplicationAdded,
            "shop_mail",
            "The release has the application shop_mail, which the node does not run.",
            "Deploy cold, or accept it with --accept application_added: its modules are loaded, it is not started.",
        ),
        failed(231),
        failed(318),
    ];
    let names = |of: u32| (0..of).map(|n| format!("Shop.Page{n}")).collect();
    let mut events = vec![started("plan", &[NODE])];
    events.extend(before_the_plan());
    events.push(Event::Plan {
        node: NODE.into(),
        verdict: Verdict::Cold,
        modules: PlannedModules {
            changed: names(23),
            added: vec![],
            removed: vec!["Shop.Old".into()],
            unchanged: 1_388,
        },
        kinds: vec![],
        way_back: WayBack::None,
        revert_us: 0,
        freeze_us: 165_000,
        calls: PlannedCalls::default(),
        code_id: code_ids(),
        reasons: reasons.clone(),
    });
    events.push(ends(
        OutcomeKind::Refused,
        ErrorKind::ColdDeployNeeded.exit_code(),
        vec![planned(&untouched(), OutcomeKind::Refused, reasons)],
    ));
    events
}

fn steps_of_an_upgrade() -> Vec<Event> {
    let mut events = before_the_plan();
    events.extend(step(Step::Stage, 9_000, 48_128, Unit::Bytes));
    events.push(Event::Progress {
        node: Some(NODE.into()),
        step: Step::Rehearse,
        done: 1,
        total: 2,
        unit: Unit::Processes,
    });
    events.extend(step(Step::Rehearse, 31_500, 10_000, Unit::Processes));
    events.extend(step(Step::Drain, 400, 0, Unit::Processes));
    events.extend(step(Step::Window, 182_400, 10_001, Unit::Processes));
    events.extend(step(Step::Persist, 15_000, 3, Unit::Files));
    events
}

fn upgraded() -> Vec<Event> {
    let second = "shop@10.0.0.2";
    let mut events = vec![started("upgrade", &[NODE, second])];
    events.extend(steps_of_an_upgrade());
    events.push(Event::StepStarted {
        node: Some(second.into()),
        step: Step::Connect,
    });
    let counts = ProcessCounts {
        affected: 10_001,
        migrated: 10_000,
        died: 1,
        ..ProcessCounts::default()
    };
    let died = Reason::new(
        ReasonCode::ProcessDied,
        "<0.4711.0> Shop.Cart",
        "The process ended during the window.",
        "",
    );
    let mut nothing = NodeOutcome::untouched(second, OutcomeKind::NothingToDo);
    nothing.code_id = CodeIds {
        before: code_ids().after,
        after: code_ids().after,
    };
    events.push(ends(
        OutcomeKind::Upgraded,
        ExitCode::SUCCESS,
        vec![windowed(OutcomeKind::Upgraded, counts, vec![died]), nothing],
    ));
    events
}

fn reverted() -> Vec<Event> {
    let mut events = vec![started("upgrade", &[NODE])];
    events.extend(before_the_plan());
    events.push(Event::Attempt {
        node: NODE.into(),
        attempt: 1,
        of: 3,
        reasons: vec![Reason::new(
            ReasonCode::FreezeBudget,
            "<0.512.0> Shop.Export",
            "It did not answer its suspend within 2 s.",
            "Raise --window-budget, or try again when it is idle.",
        )],
    });
    events.extend(step(Step::Window, 182_400, 10_001, Unit::Processes));
    let counts = ProcessCounts {
        affected: 10_001,
        migrated: 9_994,
        failed: 7,
        ..ProcessCounts::default()
    };
    let failed = Reason::new(
        ReasonCode::MigrationFailed,
        "<0.231.0> Shop.Cart",
        "code_change/3 returned {error,no_currency}; the node went back to the old code and states.",
        "Make code_change take this state, and build again.",
    );
    events.push(ends(
        OutcomeKind::Reverted,
        ErrorKind::Reverted.exit_code(),
        vec![windowed(OutcomeKind::Reverted, counts, vec![failed])],
    ));
    events
}

fn degraded() -> Vec<Event> {
    let mut events = vec![started("upgrade", &[NODE, "shop@10.0.0.2"])];
    events.extend(steps_of_an_upgrade());
    let counts = ProcessCounts {
        affected: 10_001,
        migrated: 9_999,
        kept: 1,
        failed: 1,
        ..ProcessCounts::default()
    };
    let ended = Reason::new(
        ReasonCode::ProcessEnded,
        "<0.231.0> Shop.Cart",
        "Its code_change failed and requests held the new code in use, so it was ended; its supervisor restarted it.",
        "Check what the lost state means for your users.",
    );
    events.push(ends(
        OutcomeKind::Degraded,
        ErrorKind::Degraded.exit_code(),
        vec![
            windowed(OutcomeKind::Degraded, counts, vec![ended]),
            NodeOutcome::untouched("shop@10.0.0.2", OutcomeKind::NotBegun),
        ],
    ));
    events
}

/// Several nodes at once: what is said of one stands together, whatever came between.
fn waves() -> Vec<Event> {
    let [a, b, c, d] = ["shop@10.0.0.1", "shop@10.0.0.2", "shop@10.0.0.3", "shop@10.0.0.4"];
    let begins = |node: &str, step| Event::StepStarted {
        node: Some(node.into()),
        step,
    };
    let done = |node: &str, step, count| Event::StepDone {
        node: Some(node.into()),
        step,
        duration_us: 12_400,
        count,
        unit: Unit::Modules,
    };
    let wave = |wave, way, nodes: &[&str]| Event::Wave {
        wave,
        way,
        nodes: nodes.iter().map(|node| (*node).into()).collect(),
        at_once: 20,
    };
    let mut events = vec![started("rollout", &[a, b, c, d]), wave(1, WaveWay::Forth, &[a])];
    for step in [Step::Connect, Step::Cleanup] {
        events.extend([begins(a, step), done(a, step, 1)]);
    }
    events.push(Event::Bake {
        node: a.into(),
        bake_us: 300_000_000,
    });
    events.extend([begins(a, Step::CheckUrl), done(a, Step::CheckUrl, 1)]);
    events.push(wave(2, WaveWay::Forth, &[d, b, c]));
    events.extend([d, b, c].map(|node| begins(node, Step::Connect)));
    // Nobody waits behind one that is not worked on after all.
    events.push(Event::LeftToBoot {
        node: d.into(),
        machine: "3d8d413b29d089".into(),
        state: "stopped".into(),
    });
    events.extend([done(c, Step::Connect, 3), done(b, Step::Connect, 2)]);
    events.extend([begins(c, Step::Stage), begins(b, Step::Stage)]);
    events.extend([
        done(c, Step::Stage, 3),
        begins(c, Step::Cleanup),
        done(c, Step::Cleanup, 3),
    ]);
    events.push(Event::Error {
        node: Some(c.into()),
        kind: ErrorKind::NodeUnreachable,
        message: format!("{c}: the connection was lost"),
        hint: String::new(),
    });
    events.extend([
        done(b, Step::Stage, 2),
        begins(b, Step::Cleanup),
        done(b, Step::Cleanup, 2),
    ]);
    events.push(wave(3, WaveWay::Back, &[a, b]));
    events.extend([begins(a, Step::Connect), begins(b, Step::Connect)]);
    events.extend([
        done(b, Step::Connect, 2),
        begins(b, Step::Cleanup),
        done(b, Step::Cleanup, 2),
    ]);
    events.extend([
        done(a, Step::Connect, 1),
        begins(a, Step::Cleanup),
        done(a, Step::Cleanup, 1),
    ]);
    let counts = ProcessCounts {
        affected: 10_001,
        migrated: 10_001,
        ..ProcessCounts::default()
    };
    let other = |node: &str, outcome| NodeOutcome {
        node: node.into(),
        ..outcome
    };
    events.push(ends(
        OutcomeKind::Reverted,
        ErrorKind::Reverted.exit_code(),
        vec![
            windowed(OutcomeKind::TakenBack, counts, Vec::new()),
            other(b, windowed(OutcomeKind::TakenBack, counts, Vec::new())),
            NodeOutcome::untouched(c, OutcomeKind::Failed),
            NodeOutcome::untouched(d, OutcomeKind::LeftToBoot),
        ],
    ));
    events
}

fn deploy() -> Vec<Event> {
    let words = |words: &str| words.split(' ').map(str::to_owned).collect();
    vec![
        Event::Started {
            command: "deploy".into(),
            nodes: vec![],
            release: None,
            policy: None,
            flyhot: "0.1.0".into(),
        },
        Event::Deploy {
            app: "shop".into(),
            config: "fly.toml".into(),
            image: None,
            region: Some("fra".into()),
            command: words("flyhot orchestrate --inventory fly --max-concurrency 20"),
            env: words("POOL_SIZE SECRET_KEY"),
            dry_run: false,
        },
        Event::Build {
            line: "==> Building image".into(),
        },
        Event::Orchestrator {
            app: "shop".into(),
            machine: "3d8d413b29d089".into(),
            name: "flyhot-01jdeploy".into(),
            region: "fra".into(),
            image: "registry.fly.io/shop:flyhot-01J".into(),
        },
        Event::Elsewhere {
            app: "shop".into(),
            machine: "3d8d413b29d089".into(),
            region: "fra".into(),
        },
        Event::Stopping {
            signal: "SIGINT".into(),
            machine: "3d8d413b29d089".into(),
            hint: "Follow it elsewhere.".into(),
        },
        Event::ToSign {
            manifest_digest: "5a".repeat(32),
        },
        started("orchestrate", &[NODE]),
        ends(
            OutcomeKind::NothingToDo,
            ExitCode::SUCCESS,
            vec![NodeOutcome::untouched(NODE, OutcomeKind::NothingToDo)],
        ),
    ]
}

fn error() -> Vec<Event> {
    let mut events = vec![started("upgrade", &[NODE])];
    events.extend(step(Step::Read, 48_211, 412, Unit::Modules));
    events.push(Event::StepStarted {
        node: Some(NODE.into()),
        step: Step::Connect,
    });
    events.push(Event::Error {
        node: Some(NODE.into()),
        kind: ErrorKind::NodeUnreachable,
        message: "asking epmd on 10.0.0.1:4369 for the node: connection refused".into(),
        hint: "Start the node.\u{1b}[31m".into(),
    });
    events.push(ends(
        OutcomeKind::Failed,
        ErrorKind::NodeUnreachable.exit_code(),
        vec![NodeOutcome::untouched(NODE, OutcomeKind::Failed)],
    ));
    events
}

#[test]
fn people_read_what_the_golden_files_say() {
    for (name, events) in [
        ("hot_plan.txt", hot_plan()),
        ("cold_plan.txt", cold_plan()),
        ("upgraded.txt", upgraded()),
        ("reverted.txt", reverted()),
        ("degraded.txt", degraded()),
        ("error.txt", error()),
        ("waves.txt", waves()),
        ("asked.txt", asked()),
        ("fleet.txt", fleet()),
        ("deploy.txt", deploy()),
    ] {
        golden(name, &said(&events, Screen::default()));
    }
}

/// What `status` says of the machines of an app.
fn fleet() -> Vec<Event> {
    let machine = |id: &str, state: &str, role, image: Option<&str>| InventoryMachine {
        machine: id.into(),
        region: "ams".into(),
        group: Some("app".into()),
        state: state.into(),
        image: image.map(|tag| format!("registry.fly.io/shop:deployment-{tag}")),
        role,
        node: (role == MachineRole::Node).then(|| format!("shop@fdaa::{}", &id[..1])),
    };
    let [_, well, ill, ..] = &asked()[..] else {
        panic!("the first two that are told of")
    };
    let of = |event: &Event, id: &str| {
        let Event::Status { status, .. } = event else {
            panic!("{event:?}")
        };
        Event::Status {
            node: format!("shop@fdaa::{}", &id[..1]),
            status: Box::new(NodeStatus {
                machine: Some(id.into()),
                region: Some("ams".into()),
                suspended: Vec::new(),
                suspended_count: 0,
                under_way: None,
                ..(**status).clone()
            }),
        }
    };
    vec![
        Event::Started {
            command: "status".into(),
            nodes: Vec::new(),
            release: None,
            policy: None,
            flyhot: "0.1.0".into(),
        },
        Event::Inventory {
            app: "shop".into(),
            machines: vec![
                machine("1781", "started", MachineRole::Node, Some("01H3A")),
                machine("2781", "started", MachineRole::Node, Some("01H3B")),
                machine("3781", "started", MachineRole::Node, Some("01H3B")),
                machine("4781", "stopped", MachineRole::LeftToBoot, Some("01H3B")),
                machine("5781", "suspended", MachineRole::LeftToBoot, Some("01H3B")),
                machine("6781", "started", MachineRole::Other, Some("01H3B")),
                machine("7781", "started", MachineRole::Lacking, None),
            ],
        },
        of(well, "1781"),
        of(ill, "2781"),
        Event::Outcome(Outcome {
            outcome: OutcomeKind::Done,
            exit_code: ExitCode::SUCCESS,
            nodes: Vec::new(),
        }),
    ]
}

/// What the commands say that ask many nodes at once.
fn asked() -> Vec<Event> {
    let process = |how: &str, name: Option<&str>| StatusProcess {
        pid: "<0.812.0>".into(),
        name: name.map(str::to_owned),
        module: "Shop.Cart".into(),
        stack: vec!["sys:suspend_loop/8".into(), "proc_lib:init_p_do_apply/3".into()],
        how: how.into(),
    };
    let well = NodeStatus {
        machine: None,
        region: None,
        otp: "25".into(),
        erts: "13.1.5".into(),
        elixir: Some("1.14.0".into()),
        code_id: "3f2a9100c4d2".repeat(6)[..64].into(),
        embedded: true,
        processes: 10_342,
        memory_bytes: 182 * 1024 * 1024,
        applications: vec![StatusApplication {
            name: "shop".into(),
            version: "1.0.0".into(),
            running: true,
        }],
        drift: Vec::new(),
        differing: Vec::new(),
        old_code: Vec::new(),
        lingerers: Vec::new(),
        lingerers_sought: 0,
        suspended: Vec::new(),
        suspended_count: 0,
        under_way: None,
        last: None,
    };
    let ill = NodeStatus {
        code_id: "77cd02e1b8aa".repeat(6)[..64].into(),
        drift: vec![Drift {
            module: "Shop.Tax".into(),
            loaded: "0123456789abcdef".repeat(2),
            file: None,
        }],
        differing: vec!["Shop.Cart".into(), "Shop.Tax".into()],
        old_code: vec!["Shop.Cart".into(), "Shop.Tax".into()],
        lingerers: vec![process("old_code", Some("looping"))],
        lingerers_sought: 1,
        suspended: vec![process("sys", None), process("suspend_process", None)],
        suspended_count: 2,
        under_way: Some(UnderWay {
            holder: "flyhot 0.1.0 as 1T9F@10.0.0.1, process 4711".into(),
            step: "window".into(),
        }),
        last: Some(LastOutcome {
            at: 1_764_190_000,
            release: "/srv/shop/next".into(),
            outcome: OutcomeKind::Reverted,
            code_id: code_ids(),
            reasons: vec![ReasonCode::MigrationFailed],
        }),
        ..well.clone()
    };
    let status = |node: &str, status: NodeStatus| Event::Status {
        node: node.into(),
        status: Box::new(status),
    };
    let check = |check: &str, well, found: &str, fix: &str| Event::Check {
        node: NODE.into(),
        check: check.into(),
        well,
        found: found.into(),
        fix: fix.into(),
    };
    vec![
        Event::Started {
            command: "status".into(),
            nodes: vec![NODE.into(), "shop@10.0.0.2".into()],
            release: None,
            policy: None,
            flyhot: "0.1.0".into(),
        },
        status(NODE, well),
        status("shop@10.0.0.2", ill),
        Event::Thaw {
            node: NODE.into(),
            resumed: 2,
            still: vec![process("sys", Some("till"))],
            still_count: 1,
        },
        Event::RestoreBase {
            node: NODE.into(),
            files: 3,
        },
        Event::Boot {
            what: BootWhat::Target,
            why: BootWhy::Trial,
            version: Some("1.1.0".into()),
            digest: Some("d".repeat(64)),
            code_id: Some("c".repeat(64)),
            trust: Some(ArtifactTrust::AnyTaken),
            signed_by: None,
            app: Some("shop".into()),
            store: Some("the bucket shop-releases".into()),
            image: Some("registry/shop:1".into()),
            files: 4,
        },
        Event::Boot {
            what: BootWhat::Base,
            why: BootWhy::NotTrusted,
            version: Some("1.0.0".into()),
            digest: None,
            code_id: None,
            trust: None,
            signed_by: None,
            app: Some("shop".into()),
            store: Some("/srv/artifacts".into()),
            image: None,
            files: 0,
        },
        check("host", true, "has an address", ""),
        check("disk", false, "/app cannot be written by the node", "Make it so."),
        Event::Outcome(Outcome {
            outcome: OutcomeKind::Done,
            exit_code: ExitCode::SUCCESS,
            nodes: Vec::new(),
        }),
    ]
}

#[test]
fn colours_add_no_text() {
    let coloured = Screen {
        colours: true,
        ..Screen::default()
    };
    for events in [
        hot_plan(),
        cold_plan(),
        upgraded(),
        reverted(),
        degraded(),
        error(),
        asked(),
        fleet(),
    ] {
        let painted = said(&events, coloured);
        assert!(painted.contains('\u{1b}'));
        assert_eq!(without_styles(&painted), said(&events, Screen::default()));
    }
}

#[test]
fn bars_take_no_line_away() {
    let bars = Screen {
        bars: true,
        ..Screen::default()
    };
    for events in [
        hot_plan(),
        cold_plan(),
        upgraded(),
        reverted(),
        degraded(),
        error(),
        asked(),
        fleet(),
    ] {
        let text = said(&events, bars);
        for line in said(&events, Screen::default()).lines() {
            assert!(text.contains(line), "{line}");
        }
    }
}

/// Drops `ESC [ … m`.
fn without_styles(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').unwrap().1);
    }
    plain
}

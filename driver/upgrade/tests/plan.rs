//! Plans and verdicts from made-up nodes and releases: one case per reason, and what holds for any of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use flyhot_artifact::beam::compare::{Differences, RecordChange};
use flyhot_events::{ReasonCode, Severity, Verdict, WayBack};
use flyhot_upgrade::{
    Behaviour, CallbackMode, Calls, Census, Closer, CloserModule, CodeChange, EntryReport, Fate, Held,
    HeldCode, HeldReport, Hosts, Kind, LoadedModule, NodeApplication, NodeFacts, NodeFunction, Plan,
    PlanInput, Policy, PrepareReport, ProcessRef, Rehearsal, RehearsalReport, Target, TargetApplication,
    TargetModule, WayBackReport, changes, plan,
};
use proptest::prelude::*;

const OLD: [u8; 16] = [1; 16];
const NEW: [u8; 16] = [2; 16];

/// A node that runs `shop`, and a release in which `Elixir.Shop.Cart` changed.
struct Case {
    target: Target,
    facts: NodeFacts,
    census: Census,
    code_changes: BTreeMap<String, CodeChange>,
    closer: Closer,
    drifted: BTreeSet<String>,
    lost: BTreeSet<String>,
    on_disk: BTreeSet<String>,
    held: HeldReport,
    named_by: BTreeMap<String, String>,
    listing: Option<String>,
    way_back: WayBackReport,
    missing: Calls,
    entry: Option<EntryReport>,
    policy: Policy,
}

const CART: &str = "Elixir.Shop.Cart";

fn module(md5: [u8; 16]) -> TargetModule {
    TargetModule {
        md5,
        own: true,
        listed: true,
        on_load: false,
        loads_nif: false,
        supervisor: false,
        init_1: true,
        struct_keys: None,
        live_component: false,
        code_change_3: true,
        code_change_4: false,
        system_code_change: false,
    }
}

fn loaded(md5: [u8; 16], file: &str) -> LoadedModule {
    LoadedModule {
        md5,
        file: file.into(),
        has_old: false,
        sticky: false,
        cover: false,
        struct_keys: None,
    }
}

fn kind(behaviour: Behaviour, host: &str) -> Kind {
    Kind {
        id: 1,
        behaviour,
        host: host.into(),
        shows: None,
        modules: vec![host.into()],
        processes: 10,
        hibernated: 0,
        memory_bytes: 1000,
        supervisors: 1,
        sample: vec![],
    }
}

impl Case {
    fn new() -> Self {
        let application = |version: &str, own| TargetApplication {
            version: version.into(),
            own,
            loaded: true,
            start_module: own.then(|| "Elixir.Shop.Application".to_owned()),
            environment: Vec::new(),
            appup: false,
        };
        let running = |version: &str, dir: &str, start_module: Option<&str>| NodeApplication {
            version: version.into(),
            dir: dir.into(),
            running: true,
            start_module: start_module.map(ToOwned::to_owned),
            environment: BTreeSet::new(),
        };
        Self {
            target: Target {
                erts: "13.1.5".into(),
                elixir: Some("1.14.0".into()),
                architecture: Some("x86_64".into()),
                configuration: [("sys.config".to_owned(), [1; 16])].into(),
                private: BTreeMap::new(),
                applications: [
                    ("shop".to_owned(), application("1.1.0", true)),
                    ("stdlib".to_owned(), application("4.2", false)),
                ]
                .into(),
                modules: [
                    (CART.to_owned(), module(NEW)),
                    ("Elixir.Shop.Same".to_owned(), module(OLD)),
                    (
                        "lists".to_owned(),
                        TargetModule {
                            own: false,
                            ..module(OLD)
                        },
                    ),
                ]
                .into(),
            },
            facts: NodeFacts {
                otp: "25".into(),
                erts: "13.1.5".into(),
                elixir: Some("1.14.0".into()),
                architecture: "x86_64-pc-linux-gnu".into(),
                root_dir: "/app".into(),
                configuration: [("sys.config".to_owned(), [1; 16])].into(),
                embedded: true,
                modules: [
                    (
                        CART.to_owned(),
                        loaded(OLD, "/app/lib/shop-1.0.0/ebin/Elixir.Shop.Cart.beam"),
                    ),
                    (
                        "Elixir.Shop.Same".to_owned(),
                        loaded(OLD, "/app/lib/shop-1.0.0/ebin/Elixir.Shop.Same.beam"),
                    ),
                    (
                        "lists".to_owned(),
                        loaded(OLD, "/app/lib/stdlib-4.2/ebin/lists.beam"),
                    ),
                ]
                .into(),
                applications: [
                    (
                        "shop".to_owned(),
                        running("1.0.0", "/app/lib/shop-1.0.0", Some("Elixir.Shop.Application")),
                    ),
                    ("stdlib".to_owned(), running("4.2", "/app/lib/stdlib-4.2", None)),
                ]
                .into(),
                processes: 1000,
                memory_bytes: 1_000_000,
                free_bytes: Some(1_000_000_000),
            },
            census: Census {
                kinds: vec![kind(Behaviour::GenServer, CART)],
                silent: vec![],
            },
            code_changes: [(CART.to_owned(), CodeChange::Ends)].into(),
            closer: Closer {
                modules: [(
                    CART.to_owned(),
                    CloserModule {
                        differences: Some(Differences::default()),
                        ..CloserModule::default()
                    },
                )]
                .into(),
                ..Closer::default()
            },
            drifted: BTreeSet::new(),
            lost: BTreeSet::new(),
            on_disk: BTreeSet::new(),
            held: HeldReport {
                asked: true,
                whole: true,
                ..HeldReport::default()
            },
            named_by: BTreeMap::new(),
            listing: None,
            way_back: WayBackReport {
                sampled: 100,
                inside: 0,
                purge_us: 0,
            },
            missing: Calls::default(),
            entry: None,
            policy: Policy {
                accept: BTreeMap::new(),
                hosts: Hosts::new(),
                calls: Calls::default(),
                rehearse: true,
                persist: true,
                require_way_back: false,
                drain_entry: false,
                down: false,
                window_budget_us: 2_000_000,
                revert_budget_us: 2_000_000,
                in_flight: 1000,
            },
        }
    }

    /// What a closer look at the cart brought.
    fn looked(&mut self) -> &mut CloserModule {
        self.closer.modules.entry(CART.into()).or_default()
    }

    fn lost(&mut self, function: &str, arity: u32) {
        self.looked().lost.push(format!("{function}/{arity}"));
    }

    /// The running code is not on the node's disk: nothing can be compared with it.
    fn drifts(&mut self) {
        self.drifted.insert(CART.into());
        self.looked().differences = None;
    }

    /// It is a state machine, of these modes: where they are known, that of the running code and that of the new one.
    fn machine(&mut self, old: Option<&str>, new: Option<&str>) {
        self.census.kinds = vec![kind(Behaviour::GenStatem, CART)];
        self.target().code_change_3 = false;
        self.target().code_change_4 = false;
        self.looked().mode = Some(old.map_or(CallbackMode::Unknown, |mode| CallbackMode::Is(mode.into())));
        self.looked().new_mode = new.map(str::to_owned);
    }

    /// The state's record grew by one.
    fn record(&mut self) {
        self.differences().records = vec![RecordChange {
            tag: "state".into(),
            before: 3,
            after: 4,
        }];
    }

    /// The struct has other keys.
    fn structs(&mut self) {
        let keys = |keys: &[&str]| Some(keys.iter().map(|key| (*key).to_owned()).collect());
        self.target().struct_keys = keys(&["__struct__", "price"]);
        self.facts.modules.get_mut(CART).unwrap().struct_keys = keys(&["__struct__", "name"]);
    }

    /// What its two versions differ in: code_change and init changed, unless the test says otherwise.
    fn differences(&mut self) -> &mut Differences {
        self.looked().differences.get_or_insert_default()
    }

    fn same(&mut self, function: &str, arity: u32) {
        let export = format!("{function}/{arity}").parse().unwrap();
        self.differences().same.insert(export);
    }

    fn target(&mut self) -> &mut TargetModule {
        self.target.modules.get_mut(CART).unwrap()
    }

    fn gives(&self, code: ReasonCode) -> bool {
        self.plan().reasons.iter().any(|reason| reason.code == code)
    }

    /// The application starts with this module, in the release and on the node.
    fn starts_in(&mut self, module: &str) {
        let module = Some(module.to_owned());
        self.target.applications.get_mut("shop").unwrap().start_module = module.clone();
        self.facts.applications.get_mut("shop").unwrap().start_module = module;
    }

    /// The release has an application that the node has not loaded.
    fn brings(&mut self, name: &str, own: bool) {
        let application = TargetApplication {
            version: "1".into(),
            own,
            loaded: true,
            start_module: None,
            environment: Vec::new(),
            appup: false,
        };
        self.target.applications.insert(name.into(), application);
    }

    fn plan(&self) -> Plan {
        let changes = changes(&self.target, &self.facts, &self.on_disk);
        plan(&PlanInput {
            target: &self.target,
            facts: &self.facts,
            census: &self.census,
            changes: &changes,
            code_changes: &self.code_changes,
            closer: &self.closer,
            drifted: &self.drifted,
            lost: &self.lost,
            held: &self.held,
            held_limit_ms: 5000,
            named_by: &self.named_by,
            listing: self.listing.as_deref(),
            missing: &self.missing,
            way_back: &self.way_back,
            entry: self.entry.as_ref(),
            policy: &self.policy,
        })
    }
}

/// A special process that shows sys a part of what it keeps.
fn partial(case: &mut Case) {
    case.census.kinds = vec![kind(Behaviour::Special, CART)];
    case.target().system_code_change = true;
    case.looked().partial = true;
}

fn held(code: HeldCode, module: &str) -> Held {
    Held {
        code,
        module: module.into(),
        function: Some("-init/1-fun-0-".into()),
        place: "gen_server Elixir.Shop.Cart".into(),
        count: 3,
        sample: "<0.9.0>".into(),
    }
}

/// A removed module that somebody is known to need stays, and is told with who that is.
#[test]
fn a_removed_module_stays_and_is_told_with_who_needs_it() {
    type Change = fn(&mut Case);
    let gone = "Elixir.Shop.Gone";
    let case = || {
        let mut case = Case::new();
        case.facts.modules.insert(
            gone.into(),
            loaded(OLD, "/app/lib/shop-1.0.0/ebin/Elixir.Shop.Gone.beam"),
        );
        case
    };
    let changes: [(Change, &str); 11] = [
        (|_| {}, "Shop.Gone (nobody was found to need it: to be deleted"),
        (
            |case| case.facts.embedded = false,
            "Shop.Gone (the node loads code when it is called: stays loaded)",
        ),
        // Code that is swapped is not asked before the swap; what nobody swaps goes on naming it.
        (
            |case| case.held.names.push((CART.into(), "Elixir.Shop.Gone".into())),
            "Shop.Gone (nobody was found to need it: to be deleted",
        ),
        (
            |case| case.listing = Some("Elixir.Shop.Plugins".into()),
            "Shop.Gone (Shop.Plugins asks an application for its modules, which lists it: stays loaded)",
        ),
        (
            |case| case.held.names.push(("tool".into(), "Elixir.Shop.Gone".into())),
            "Shop.Gone (tool names it: stays loaded)",
        ),
        (
            |case| {
                case.held.unread.push("shell_made".into());
                case.held
                    .names
                    .push(("shell_made".into(), "Elixir.Shop.Gone".into()));
            },
            "Shop.Gone (shell_made may name it, whose file is not what runs: stays loaded)",
        ),
        (
            |case| {
                let other = loaded(OLD, "/app/lib/shop-1.0.0/ebin/Elixir.Shop.Other.beam");
                case.facts.modules.insert("Elixir.Shop.Other".into(), other);
                case.held.held.push(held(HeldCode::Removed, "Elixir.Shop.Other"));
                case.held
                    .names
                    .push(("Elixir.Shop.Other".into(), "Elixir.Shop.Gone".into()));
            },
            "Shop.Gone (Shop.Other names it: stays loaded)",
        ),
        (
            |case| {
                case.named_by.insert("Elixir.Shop.Gone".into(), CART.into());
            },
            "Shop.Gone (Shop.Cart names it: stays loaded)",
        ),
        (
            |case| case.census.kinds.push(kind(Behaviour::Raw, "Elixir.Shop.Gone")),
            "Shop.Gone (run by 10 processes: stays loaded)",
        ),
        (
            |case| case.held.held.push(held(HeldCode::Removed, "Elixir.Shop.Gone")),
            "Shop.Gone (held by 3 processes of gen_server Shop.Cart (<0.9.0>, -init/1-fun-0-): stays loaded)",
        ),
        (
            |case| (case.held.asked, case.held.whole) = (true, false),
            "Shop.Gone (not every state and table could be looked at: stays loaded)",
        ),
    ];
    for (change, why) in changes {
        let mut case = case();
        change(&mut case);
        let plan = case.plan();
        let reason = plan
            .reasons
            .iter()
            .find(|reason| reason.code == ReasonCode::ModuleRemoved)
            .unwrap();
        assert!(reason.sentence.contains(why), "{}", reason.sentence);
    }
}

#[test]
fn what_may_not_end_runs_apart_where_it_was_not_rehearsed() {
    let mut case = Case::new();
    case.code_changes
        .insert(CART.to_owned(), CodeChange::MayNotEnd { anywhere: true });
    let plan = case.plan();
    assert_eq!(
        (plan.kinds[0].rehearsal, plan.kinds[0].apart),
        (Rehearsal::Apart, false)
    );
    case.policy.rehearse = false;
    assert!(case.plan().kinds[0].apart);
    // It would answer for the wrong process.
    case.code_changes
        .insert(CART.to_owned(), CodeChange::MayNotEnd { anywhere: false });
    assert!(!case.plan().kinds[0].apart);
}

/// Who is inside now may leave once nobody comes in any more; code that is not to be had does not come back by that.
#[test]
fn running_code_that_is_not_found_again_is_no_way_back() {
    let mut case = Case::new();
    let report = PrepareReport {
        refused: vec![],
        old_missing: vec![CART.into()],
    };
    for (required, refused) in [(false, vec![]), (true, vec![ReasonCode::WayBackRequired])] {
        case.policy.require_way_back = required;
        let mut plan = case.plan();
        let reasons = plan.prepared(&report, &case.policy);
        let codes: Vec<_> = reasons.iter().map(|reason| reason.code).collect();
        assert_eq!((codes, plan.way_back), (refused, WayBack::None));
        assert_eq!(plan.reasons[0].code, ReasonCode::WayBackNone);
    }
}

#[test]
fn a_drained_entry_puts_off_the_judgement_of_the_way_back() {
    let mut case = Case::new();
    case.policy.require_way_back = true;
    case.policy.drain_entry = true;
    case.way_back.inside = 1;
    let mut plan = case.plan();
    assert_eq!(
        (plan.verdict(), plan.way_back),
        (Verdict::HotWithWarnings, WayBack::AfterDrain)
    );
    let refused = plan.drained(&case.way_back, &case.policy);
    assert_eq!(refused[0].code, ReasonCode::WayBackRequired);
    let codes: Vec<_> = plan.reasons.iter().map(|reason| reason.code).collect();
    assert_eq!(codes, [ReasonCode::WayBackAfterDrain]);

    case.way_back.inside = 0;
    assert_eq!(plan.drained(&case.way_back, &case.policy), []);
    assert_eq!((plan.way_back, plan.reasons.len()), (WayBack::Exact, 0));

    case.lost = [CART.to_owned()].into();
    let mut plan = case.plan();
    assert_eq!(plan.verdict(), Verdict::Cold);
    plan.drained(&case.way_back, &case.policy);
    assert_eq!(plan.way_back, WayBack::None);
}

/// Between two attempts the node moves on: what the first look said of the way back is no longer so.
#[test]
fn a_further_attempt_goes_by_the_way_back_of_its_own_look() {
    let mut case = Case::new();
    let mut plan = case.plan();
    assert_eq!(plan.way_back, WayBack::Exact);
    case.way_back.inside = 1;
    case.facts.processes = 2_000_000;
    plan.renew(case.plan());
    assert_eq!(
        (plan.way_back, plan.predicted().way_back),
        (WayBack::AfterDrain, WayBack::AfterDrain)
    );
    assert_eq!(plan.revert_us, case.plan().revert_us);
    let codes = |plan: &Plan| plan.reasons.iter().map(|reason| reason.code).collect::<Vec<_>>();
    assert_eq!(
        codes(&plan),
        [ReasonCode::WayBackAfterDrain, ReasonCode::RevertSlow]
    );
    plan.renew(Case::new().plan());
    assert_eq!((plan.way_back, codes(&plan)), (WayBack::Exact, vec![]));
}

#[test]
fn what_cannot_be_known_of_a_mode_is_said() {
    let mut case = Case::new();
    case.machine(Some("state_functions"), None);
    case.drifts();
    let plan = case.plan();
    let reason = plan
        .reasons
        .iter()
        .find(|reason| reason.code == ReasonCode::CallbackModeChanged);
    assert!(reason.unwrap().sentence.contains("cannot be known"));
}

#[test]
fn a_changed_server_is_hot_and_rehearsed_in_place() {
    let plan = Case::new().plan();
    assert_eq!(plan.changes.changed, [CART]);
    assert_eq!(
        (plan.verdict(), plan.way_back, plan.reasons.len()),
        (Verdict::Hot, WayBack::Exact, 0)
    );
    assert_eq!(
        plan.kinds[0].fate,
        Some(Fate::Migrate {
            modules: vec![CART.into()]
        })
    );
    assert_eq!(plan.kinds[0].rehearsal, Rehearsal::InPlace);
    assert_eq!(plan.affected(), 10);
}

/// What is different from [`Case::new`], the reason it must give, and the verdict.
#[test]
fn each_reason_comes_from_its_cause() {
    type Change = fn(&mut Case);
    let cases: &[(ReasonCode, Verdict, Change)] = &[
        (ReasonCode::ToolchainDiffers, Verdict::Cold, |case| {
            case.target.erts = "15.2.7".into()
        }),
        (ReasonCode::ToolchainDiffers, Verdict::Cold, |case| {
            case.target.elixir = Some("1.18.3".into())
        }),
        (ReasonCode::ToolchainDiffers, Verdict::Cold, |case| {
            case.target.applications.get_mut("stdlib").unwrap().version = "6.0".into();
        }),
        (ReasonCode::ToolchainDiffers, Verdict::Cold, |case| {
            case.target.modules.get_mut("lists").unwrap().md5 = NEW;
        }),
        (ReasonCode::ClosureOfOldBuild, Verdict::Cold, |case| {
            case.held.held.push(held(HeldCode::Old, CART));
        }),
        (
            ReasonCode::ClosureOfRunningBuild,
            Verdict::HotWithWarnings,
            |case| {
                case.held.held.push(held(HeldCode::Running, CART));
            },
        ),
        (ReasonCode::SupervisorSilent, Verdict::HotWithWarnings, |case| {
            case.census.silent.push(ProcessRef {
                pid: "<0.9.0>".into(),
                name: None,
            });
        }),
        (ReasonCode::ClosuresSampled, Verdict::Hot, |case| {
            case.held.whole = false
        }),
        (ReasonCode::NifChanged, Verdict::Cold, |case| {
            case.target.modules.get_mut(CART).unwrap().loads_nif = true
        }),
        (ReasonCode::OnLoadChanged, Verdict::Cold, |case| {
            case.target.modules.get_mut(CART).unwrap().on_load = true
        }),
        (ReasonCode::StickyModule, Verdict::Cold, |case| {
            case.facts.modules.get_mut(CART).unwrap().sticky = true
        }),
        (ReasonCode::TracedModule, Verdict::HotWithWarnings, |case| {
            case.looked().traced = true;
        }),
        (ReasonCode::CoverCompiled, Verdict::Cold, |case| {
            case.facts.modules.get_mut(CART).unwrap().cover = true
        }),
        (ReasonCode::ApplicationAdded, Verdict::Cold, |case| {
            case.brings("more", true);
        }),
        // Of OTP too: what is not on the node is not called, it is undef.
        (ReasonCode::ApplicationAdded, Verdict::Cold, |case| {
            case.brings("xmerl", false);
        }),
        (ReasonCode::ApplicationRemoved, Verdict::Cold, |case| {
            let old = NodeApplication {
                version: "1".into(),
                dir: "/app/lib/gone-1".into(),
                running: true,
                start_module: None,
                environment: BTreeSet::new(),
            };
            case.facts.applications.insert("gone".into(), old);
        }),
        (ReasonCode::AppupIgnored, Verdict::Hot, |case| {
            case.target.applications.get_mut("shop").unwrap().appup = true;
        }),
        (ReasonCode::StartModuleChanged, Verdict::HotWithWarnings, |case| {
            case.target.applications.get_mut("shop").unwrap().start_module = Some("Elixir.Shop.New".into());
        }),
        (
            ReasonCode::ConfigurationChanged,
            Verdict::HotWithWarnings,
            |case| {
                case.target.applications.get_mut("shop").unwrap().environment = vec!["port".into()];
            },
        ),
        (ReasonCode::PrivChanged, Verdict::HotWithWarnings, |case| {
            let files = |digest| [("shop".to_owned(), [("static/app.js".to_owned(), digest)].into())].into();
            case.target.private = files(NEW);
            case.closer.private = files(OLD);
        }),
        (ReasonCode::LibraryChanged, Verdict::Cold, |case| {
            let libraries = |digest| [("shop".to_owned(), [("lib/x.so.1".to_owned(), digest)].into())].into();
            case.target.private = libraries(NEW);
            case.closer.private = libraries(OLD);
        }),
        (ReasonCode::StartModuleChanged, Verdict::HotWithWarnings, |case| {
            case.starts_in(CART);
        }),
        (ReasonCode::SupervisorChanged, Verdict::HotWithWarnings, |case| {
            case.target.modules.get_mut(CART).unwrap().supervisor = true;
        }),
        // An Erlang application's start module is often its supervisor too.
        (ReasonCode::SupervisorChanged, Verdict::HotWithWarnings, |case| {
            case.starts_in(CART);
            case.target().supervisor = true;
            case.same("start", 2);
        }),
        (ReasonCode::ModuleRemoved, Verdict::HotWithWarnings, |case| {
            let gone = loaded(OLD, "/app/lib/shop-1.0.0/ebin/Elixir.Shop.Gone.beam");
            case.facts.modules.insert("Elixir.Shop.Gone".into(), gone);
        }),
        (ReasonCode::ShapeUnknown, Verdict::Hot, |case| {
            case.target().code_change_3 = false;
        }),
        (ReasonCode::ShapeUnknown, Verdict::Hot, |case| {
            case.same("code_change", 3)
        }),
        (ReasonCode::ToolchainDiffers, Verdict::Cold, |case| {
            case.facts.architecture = "aarch64-unknown-linux-gnu".into();
        }),
        (ReasonCode::NifChanged, Verdict::Cold, |case| {
            case.looked().nifs = true
        }),
        (ReasonCode::LibraryChanged, Verdict::Cold, |case| {
            let libraries = |md5| [("shop".to_owned(), [("nif.so".to_owned(), md5)].into())].into();
            case.target.private = libraries(NEW);
            case.closer.private = libraries(OLD);
        }),
        (ReasonCode::StartModuleChanged, Verdict::HotWithWarnings, |case| {
            case.starts_in(CART);
            case.same("init", 1);
        }),
        (ReasonCode::SupervisorChanged, Verdict::HotWithWarnings, |case| {
            case.target().supervisor = true;
            case.same("code_change", 3);
        }),
        (ReasonCode::SupervisorChanged, Verdict::HotWithWarnings, |case| {
            case.census.kinds.push(kind(Behaviour::Supervisor, CART));
        }),
        (ReasonCode::ShapeChanged, Verdict::HotWithWarnings, |case| {
            case.record();
            case.same("code_change", 3);
        }),
        (ReasonCode::ShapeChanged, Verdict::HotWithWarnings, |case| {
            case.structs();
            case.same("code_change", 3);
        }),
        (ReasonCode::ExportRemoved, Verdict::Hot, |case| {
            case.looked().lost.push("rate/1".into());
        }),
        (ReasonCode::CallbacksChanged, Verdict::HotWithWarnings, |case| {
            case.lost("handle_info", 2);
            case.same("code_change", 3);
        }),
        // As far as its code tells.
        (ReasonCode::CallbackModeChanged, Verdict::Cold, |case| {
            case.machine(Some("state_functions"), None);
        }),
        (ReasonCode::CallbackModeChanged, Verdict::Cold, |case| {
            case.machine(Some("state_functions"), Some("handle_event_function"));
            case.drifts();
        }),
        (ReasonCode::CallbackModeChanged, Verdict::Cold, |case| {
            case.machine(Some("state_functions"), None);
            case.drifts();
        }),
        (ReasonCode::CallbackModeChanged, Verdict::Cold, |case| {
            case.machine(None, Some("state_functions"));
            case.drifts();
        }),
        (ReasonCode::ShapeUnknown, Verdict::HotWithWarnings, Case::drifts),
        (ReasonCode::ShapeChanged, Verdict::HotWithWarnings, |case| {
            case.structs();
            case.drifts();
        }),
        (ReasonCode::CallbacksChanged, Verdict::HotWithWarnings, |case| {
            case.lost("handle_info", 2);
            case.drifts();
        }),
        (ReasonCode::WayBackNone, Verdict::HotWithWarnings, |case| {
            case.machine(Some("state_functions"), Some("handle_event_function"));
            case.target().code_change_4 = true;
        }),
        (ReasonCode::WayBackNone, Verdict::HotWithWarnings, |case| {
            partial(case);
        }),
        (ReasonCode::NotRehearsed, Verdict::HotWithWarnings, |case| {
            partial(case);
        }),
        (ReasonCode::CallbacksChanged, Verdict::HotWithWarnings, |case| {
            case.machine(Some("state_functions"), Some("state_functions"));
            case.target().code_change_4 = true;
            case.lost("open", 3);
            case.same("code_change", 4);
        }),
        (ReasonCode::CompileConfigChanged, Verdict::Cold, |case| {
            case.closer
                .environment
                .insert("shop".into(), "shop -> currency".into());
        }),
        (ReasonCode::TimeoutRestarted, Verdict::Hot, |case| {
            case.looked().timeouts = true
        }),
        (ReasonCode::NotRehearsed, Verdict::HotWithWarnings, |case| {
            case.code_changes
                .insert(CART.into(), CodeChange::Cannot("ets:new/2".into()));
        }),
        (ReasonCode::RehearsalOff, Verdict::HotWithWarnings, |case| {
            case.policy.rehearse = false
        }),
        (ReasonCode::KindNotMigrated, Verdict::Hot, |case| {
            case.census.kinds.push(kind(Behaviour::Task, CART))
        }),
        (ReasonCode::NotAsked, Verdict::Cold, |case| {
            case.target().code_change_3 = true;
            case.census.kinds.push(kind(Behaviour::Unasked, CART))
        }),
        (ReasonCode::Drift, Verdict::HotWithWarnings, |case| {
            case.drifted.insert(CART.into());
        }),
        (ReasonCode::WayBackNone, Verdict::HotWithWarnings, |case| {
            case.lost.insert(CART.into());
        }),
        (ReasonCode::WayBackAfterDrain, Verdict::HotWithWarnings, |case| {
            case.way_back.inside = 1
        }),
        (ReasonCode::WayBackRequired, Verdict::Cold, |case| {
            case.way_back.inside = 1;
            case.policy.require_way_back = true;
        }),
        (ReasonCode::RevertSlow, Verdict::HotWithWarnings, |case| {
            case.facts.processes = 1_000_000
        }),
        (ReasonCode::Memory, Verdict::Cold, |case| {
            case.facts.free_bytes = Some(10)
        }),
        (ReasonCode::PersistOff, Verdict::HotWithWarnings, |case| {
            case.policy.persist = false
        }),
        (
            ReasonCode::ConfigurationChanged,
            Verdict::HotWithWarnings,
            |case| {
                case.facts.configuration.insert("sys.config".into(), [2; 16]);
            },
        ),
        (
            ReasonCode::ConfigurationChanged,
            Verdict::HotWithWarnings,
            |case| {
                case.facts.configuration.insert("runtime.exs".into(), [1; 16]);
            },
        ),
        (ReasonCode::ShapeChanged, Verdict::HotWithWarnings, |case| {
            let keys = |keys: &[&str]| Some(keys.iter().map(|key| (*key).to_owned()).collect());
            let item = "Elixir.Shop.Item";
            let mut target = module(NEW);
            target.struct_keys = keys(&["__struct__", "price", "grams"]);
            target.code_change_3 = false;
            case.target.modules.insert(item.into(), target);
            let mut running = loaded(OLD, "/r/lib/shop-1.0.0/ebin/Elixir.Shop.Item.beam");
            running.struct_keys = keys(&["__struct__", "price", "name"]);
            case.facts.modules.insert(item.into(), running);
        }),
        (
            ReasonCode::ComponentStateUnmigrated,
            Verdict::HotWithWarnings,
            |case| {
                case.target.modules.get_mut(CART).unwrap().live_component = true;
            },
        ),
        (ReasonCode::EntryPaused, Verdict::Hot, |case| {
            case.entry = Some(EntryReport {
                listeners: vec!["ranch :web".into()],
                not_paused: vec![],
            });
        }),
        (ReasonCode::EntryNotPaused, Verdict::HotWithWarnings, |case| {
            case.entry = Some(EntryReport::default());
        }),
        (ReasonCode::EntryNotPaused, Verdict::HotWithWarnings, |case| {
            case.entry = Some(EntryReport {
                listeners: vec!["ranch :web".into()],
                not_paused: vec![("ranch :other".into(), "it hangs".into())],
            });
        }),
        (ReasonCode::HostNotShown, Verdict::Hot, |case| {
            let file = "/app/lib/shop-1.0.0/ebin/Elixir.Shop.Same.beam";
            case.facts
                .modules
                .insert("Elixir.Shop.Same".into(), loaded(OLD, file));
            case.target.modules.insert("Elixir.Shop.Same".into(), module(NEW));
        }),
        (ReasonCode::PolicyUnused, Verdict::HotWithWarnings, |case| {
            case.policy.hosts.insert("precart".into(), vec![CART.into()]);
        }),
        (ReasonCode::CallMissing, Verdict::Cold, |case| {
            case.missing.gate = Some(NodeFunction {
                module: "shop_health".into(),
                function: "ready".into(),
            });
        }),
    ];
    for (code, verdict, change) in cases {
        let mut case = Case::new();
        change(&mut case);
        let plan = case.plan();
        let reason = plan.reasons.iter().find(|reason| reason.code == *code);
        let reason = reason.unwrap_or_else(|| panic!("{code} is not among {:?}", plan.reasons));
        assert!(
            !reason.sentence.is_empty() && !reason.subject.is_empty(),
            "{code}: {reason:?}"
        );
        assert_eq!(plan.verdict(), *verdict, "{code}: {:?}", plan.reasons);
    }
}

/// What is near to a cause and is none.
#[test]
fn no_reason_comes_from_what_is_no_cause() {
    type Change = fn(&mut Case);
    let cases: &[(ReasonCode, Change)] = &[
        (ReasonCode::ToolchainDiffers, |case| {
            case.target.architecture = Some("arm".into());
            case.facts.architecture = "armv7l-unknown-linux-gnueabihf".into();
        }),
        (ReasonCode::ToolchainDiffers, |case| {
            case.target.architecture = None;
            case.facts.architecture = "aarch64-unknown-linux-gnu".into();
        }),
        // A module with NIFs that stays as it is.
        (ReasonCode::NifChanged, |case| {
            let same = case.target.modules.get_mut("Elixir.Shop.Same").unwrap();
            same.loads_nif = true;
        }),
        (ReasonCode::LibraryChanged, |case| {
            let libraries: BTreeMap<_, _> = [("shop".to_owned(), [("nif.so".to_owned(), OLD)].into())].into();
            case.target.private = libraries.clone();
            case.closer.private = libraries;
        }),
        (ReasonCode::LibraryChanged, |case| {
            case.closer.private = [("shop".to_owned(), [("gone.so".to_owned(), OLD)].into())].into();
        }),
        (ReasonCode::PrivChanged, |case| {
            let files = |digest| [("shop".to_owned(), [("static/app.js".to_owned(), digest)].into())].into();
            case.target.private = files(OLD);
            case.closer.private = files(OLD);
        }),
        // Its keys and its start module are those of the node; what only the release's disk has is not loaded there.
        (ReasonCode::ConfigurationChanged, |case| {
            let key = "port".to_owned();
            case.target
                .applications
                .get_mut("shop")
                .unwrap()
                .environment
                .push(key.clone());
            case.facts
                .applications
                .get_mut("shop")
                .unwrap()
                .environment
                .insert(key);
        }),
        (ReasonCode::StartModuleChanged, |_| {}),
        // It is of a version that the node has already.
        (ReasonCode::AppupIgnored, |case| {
            case.target.applications.get_mut("shop").unwrap().appup = true;
            let version = case.target.applications["shop"].version.clone();
            case.facts.applications.get_mut("shop").unwrap().version = version;
        }),
        (ReasonCode::ApplicationAdded, |case| {
            case.brings("iex", false);
            case.target.applications.get_mut("iex").unwrap().loaded = false;
        }),
        (ReasonCode::ApplicationRemoved, |case| {
            let beside = NodeApplication {
                version: "1".into(),
                dir: "/app2/lib/gone-1".into(),
                running: true,
                start_module: None,
                environment: BTreeSet::new(),
            };
            case.facts.applications.insert("gone".into(), beside);
        }),
        (ReasonCode::OnLoadChanged, |case| {
            case.target.modules.get_mut("Elixir.Shop.Same").unwrap().on_load = true;
        }),
        (ReasonCode::StickyModule, |case| {
            case.facts.modules.get_mut("Elixir.Shop.Same").unwrap().sticky = true;
        }),
        (ReasonCode::CoverCompiled, |case| {
            case.facts.modules.get_mut("Elixir.Shop.Same").unwrap().cover = true;
        }),
        // Another function of the start module.
        (ReasonCode::StartModuleChanged, |case| {
            case.starts_in(CART);
            case.same("start", 2);
        }),
        // Another function of the supervisor.
        (ReasonCode::SupervisorChanged, |case| {
            case.target().supervisor = true;
            case.same("init", 1);
        }),
        (ReasonCode::SupervisorChanged, |_| {}),
        // A start module that only starts its supervisor.
        (ReasonCode::SupervisorChanged, |case| {
            case.target().supervisor = true;
            case.target().init_1 = false;
        }),
        // Its code_change changed with it.
        (ReasonCode::ShapeChanged, |case| case.record()),
        (ReasonCode::ShapeChanged, |case| {
            case.structs();
            case.differences();
        }),
        (ReasonCode::ShapeUnknown, |case| {
            case.differences();
        }),
        // What is known to have changed is not unknown.
        (ReasonCode::ShapeUnknown, |case| {
            case.record();
            case.same("code_change", 3);
        }),
        (ReasonCode::ExportRemoved, |case| {
            case.differences();
        }),
        (ReasonCode::CallbacksChanged, |case| case.lost("handle_info", 2)),
        (ReasonCode::CallbacksChanged, |case| {
            case.lost("helper", 2);
            case.lost("code_change", 3);
            case.target().code_change_3 = false;
        }),
        (ReasonCode::CallbackModeChanged, |case| {
            case.machine(Some("state_functions"), Some("handle_event_function"));
            case.target().code_change_4 = true;
        }),
        // Written otherwise, and the same; the code of both is the same, whatever the node says.
        (ReasonCode::CallbackModeChanged, |case| {
            case.machine(Some("state_functions"), Some("state_functions"));
        }),
        (ReasonCode::CallbackModeChanged, |case| {
            case.machine(Some("state_functions"), Some("state_functions"));
            case.drifts();
        }),
        (ReasonCode::CallbackModeChanged, |case| {
            case.machine(None, None);
            case.same("callback_mode", 0);
        }),
        // A module that its child spec names beside the machine's own.
        (ReasonCode::CallbackModeChanged, |case| {
            case.machine(None, None);
            case.looked().mode = None;
        }),
        (ReasonCode::WayBackNone, |case| {
            case.machine(Some("state_functions"), Some("handle_event_function"));
            case.target().code_change_4 = true;
            case.looked().exports.insert("code_change/4".into());
        }),
        // Accepted, it is not asked, and stays in the mode it is in.
        (ReasonCode::WayBackNone, |case| {
            case.machine(Some("state_functions"), Some("handle_event_function"));
        }),
        (ReasonCode::WayBackNone, |case| {
            partial(case);
            case.looked().partial = false;
        }),
        // It keeps its state.
        (ReasonCode::WayBackNone, |case| {
            partial(case);
            case.target().system_code_change = false;
        }),
        (ReasonCode::WayBackNone, |case| case.looked().partial = true),
        (ReasonCode::CallbacksChanged, |case| {
            case.lost("helper", 2);
            case.drifts();
        }),
        // It is in another mode, which its code_change asks for.
        (ReasonCode::CallbacksChanged, |case| {
            case.machine(Some("state_functions"), Some("handle_event_function"));
            case.target().code_change_4 = true;
            case.lost("open", 3);
            case.same("code_change", 4);
        }),
        (ReasonCode::CompileConfigChanged, |_| {}),
        (ReasonCode::TimeoutRestarted, |_| {}),
        // The timeouts of a state machine stay as they are.
        (ReasonCode::TimeoutRestarted, |case| {
            case.looked().timeouts = true;
            case.census.kinds = vec![kind(Behaviour::GenStatem, CART)];
        }),
        (ReasonCode::Memory, |case| case.facts.free_bytes = None),
        (ReasonCode::Memory, |case| case.facts.free_bytes = Some(1_000)),
        (ReasonCode::ApplicationRemoved, |case| {
            let other = NodeApplication {
                version: "1".into(),
                dir: "/usr/lib/erlang/lib/tool-1".into(),
                running: true,
                start_module: None,
                environment: BTreeSet::new(),
            };
            case.facts.applications.insert("tool".into(), other);
        }),
        (ReasonCode::ModuleRemoved, |case| {
            let elsewhere = loaded(OLD, "/tmp/Elixir.Shop.Gone.beam");
            case.facts.modules.insert("Elixir.Shop.Gone".into(), elsewhere);
        }),
        (ReasonCode::KindNotMigrated, |case| {
            case.census.kinds.push(kind(Behaviour::Task, "Elixir.Shop.Same"));
        }),
        (ReasonCode::NotAsked, |case| {
            case.target().code_change_3 = true;
            case.census
                .kinds
                .push(kind(Behaviour::Unasked, "Elixir.Shop.Same"));
            case.census.kinds.push(kind(Behaviour::ProcLib, CART));
        }),
        (ReasonCode::NotAsked, |case| {
            case.target().code_change_3 = false;
            case.census.kinds.push(kind(Behaviour::Unasked, CART));
        }),
        (ReasonCode::NotAsked, |case| {
            case.target().code_change_3 = true;
            case.same("code_change", 3);
            case.census.kinds.push(kind(Behaviour::Hidden, CART));
        }),
        (ReasonCode::RevertSlow, |case| case.facts.processes = 100_000),
    ];
    for (code, change) in cases {
        let mut case = Case::new();
        change(&mut case);
        assert!(!case.gives(*code), "{code}: {:?}", case.plan().reasons);
    }
}

#[test]
fn what_is_not_known_is_said_once() {
    let mut case = Case::new();
    case.same("code_change", 3);
    let mut other = kind(Behaviour::GenServer, CART);
    other.id = 2;
    case.census.kinds.push(other);
    let unknown = case
        .plan()
        .reasons
        .into_iter()
        .filter(|reason| reason.code == ReasonCode::ShapeUnknown);
    assert_eq!(unknown.count(), 1);
}

#[test]
fn what_was_not_looked_at_for_funs_is_said_with_its_numbers() {
    let said = |held: HeldReport| {
        let mut case = Case::new();
        case.held = held;
        let reasons = case.plan().reasons;
        let found = reasons
            .iter()
            .find(|reason| reason.code == ReasonCode::ClosuresSampled);
        found.map(|reason| reason.sentence.clone())
    };
    let looked = |asked, processes, tables| HeldReport {
        asked,
        processes,
        of_processes: 10,
        tables,
        of_tables: 3,
        ..HeldReport::default()
    };
    let numbers =
        "were looked at for funs of older builds, for at most 5000 ms; what the others hold is not known";
    assert_eq!(
        said(looked(true, 4, 3)),
        Some(format!("4 of 10 processes and 3 of 3 tables {numbers}"))
    );
    assert_eq!(
        said(looked(true, 10, 1)),
        Some(format!("10 of 10 processes and 1 of 3 tables {numbers}"))
    );
    assert_eq!(
        said(looked(true, 10, 3)).as_deref(),
        Some("some states or tables are too large to be looked through for funs of older builds")
    );
    assert_eq!(
        said(looked(false, 0, 3)).as_deref(),
        Some("a plan asks no process for the funs in its state; an upgrade does, before it touches anything")
    );
    let whole = HeldReport {
        whole: true,
        ..looked(true, 10, 3)
    };
    assert_eq!(said(whole), None);
}

#[test]
fn a_freeze_is_expected_to_take_what_the_rehearsal_showed() {
    let mut case = Case::new();
    case.census.kinds[0].processes = 10_000;
    let mut plan = case.plan();
    // A change of the figures behind it is to be seen.
    assert!((58_000..85_000).contains(&plan.freeze_us), "{}", plan.freeze_us);
    assert_eq!(plan.predicted().freeze_us, plan.freeze_us);
    let guessed = plan.freeze_us;
    plan.rehearsed(&RehearsalReport {
        passed: 5_000,
        took_us: 500_000,
        ..RehearsalReport::default()
    });
    // Twice the rehearsal of all, which are twice as many as were rehearsed.
    assert!(plan.freeze_us > 2_000_000 && plan.freeze_us < 2_000_000 + guessed);
}

#[test]
fn a_kind_whose_rehearsal_failed_is_left_to_the_window_where_that_is_accepted() {
    let mut case = Case::new();
    let mut plan = case.plan();
    assert!(!plan.untried(&["Elixir.Shop.Same".to_owned()].into()));
    assert!(plan.untried(&[CART.to_owned()].into()));
    assert_eq!(
        (plan.kinds[0].rehearsal, plan.kinds[0].apart),
        (Rehearsal::No, false)
    );
    assert!(!plan.untried(&[CART.to_owned()].into()), "nothing is left");
    case.code_changes
        .insert(CART.to_owned(), CodeChange::MayNotEnd { anywhere: true });
    let mut plan = case.plan();
    assert!(plan.untried(&[CART.to_owned()].into()));
    assert!(plan.kinds[0].apart, "one that hangs could not be called back");
}

#[test]
fn an_accepted_reason_no_longer_refuses() {
    let mut case = Case::new();
    case.facts.free_bytes = Some(10);
    let why = "in flyhot.toml: it swaps";
    case.policy.accept.insert(ReasonCode::Memory, why.into());
    let plan = case.plan();
    assert_eq!(plan.verdict(), Verdict::HotWithWarnings);
    let memory = plan
        .reasons
        .iter()
        .find(|reason| reason.code == ReasonCode::Memory)
        .unwrap();
    assert_eq!(memory.severity, Severity::Warning);
    assert!(
        memory.sentence.ends_with("; accepted in flyhot.toml: it swaps"),
        "{memory:?}"
    );
}

/// Carts that show another module, in the words of the policy.
fn hidden() -> Case {
    let mut case = Case::new();
    case.policy.hosts = [("precart".to_owned(), vec![CART.to_owned(), "lists".to_owned()])].into();
    case.census.kinds[0].shows = Some("precart".into());
    case.census.kinds[0].modules = case.policy.hosts["precart"].clone();
    case
}

#[test]
fn the_host_that_the_policy_names_is_migrated_and_the_plan_says_what_it_shows() {
    let plan = hidden().plan();
    assert_eq!(
        (plan.verdict(), plan.reasons.len()),
        (Verdict::Hot, 0),
        "{:?}",
        plan.reasons
    );
    let planned = plan.planned_kinds();
    assert_eq!(
        (&*planned[0].host, &*planned[0].fate, &*planned[0].why),
        ("Shop.Cart", "migrate", "[hosts]: it shows precart")
    );
    let mut kept = hidden();
    kept.target.modules.get_mut(CART).unwrap().code_change_3 = false;
    assert_eq!(
        kept.plan().planned_kinds()[0].why,
        "[hosts]: it shows precart; no code_change: the state is kept as it is"
    );
}

#[test]
fn each_line_of_the_policy_that_applies_to_nothing_is_named() {
    let mut case = hidden();
    case.policy.hosts.insert("precrat".into(), vec![CART.into()]);
    case.policy
        .hosts
        .get_mut("precart")
        .unwrap()
        .push("Elixir.Shop.Crat".into());
    let plan = case.plan();
    let said: Vec<_> = plan
        .reasons
        .iter()
        .map(|reason| (reason.code, &*reason.subject, &*reason.sentence))
        .collect();
    assert_eq!(
        said,
        [
            (
                ReasonCode::PolicyUnused,
                "Shop.Crat",
                "Shop.Crat, which [hosts] names for precart, is neither loaded on the node nor in the release"
            ),
            (
                ReasonCode::PolicyUnused,
                "precrat",
                "no process shows precrat, which [hosts] names"
            ),
        ]
    );
}

#[test]
fn every_function_that_is_missing_is_named_with_its_part() {
    let function = |function: &str| NodeFunction {
        module: "Elixir.Shop.Upgrade".into(),
        function: function.into(),
    };
    let mut case = Case::new();
    case.policy.calls = Calls {
        before: vec![function("before")],
        after: vec![function("after")],
        gate: Some(function("ready?")),
    };
    let planned = case.plan().planned_calls();
    assert_eq!(planned.before, ["Shop.Upgrade.before/0"]);
    assert_eq!(planned.after, ["Shop.Upgrade.after/0"]);
    assert_eq!(planned.gate.as_deref(), Some("Shop.Upgrade.ready?/0"));
    case.missing = case.policy.calls.clone();
    let plan = case.plan();
    assert_eq!(plan.verdict(), Verdict::Cold);
    let said: Vec<_> = plan.reasons.iter().map(|reason| &*reason.sentence).collect();
    assert_eq!(
        said,
        [
            "the before hook Shop.Upgrade.before/0 of the policy file is not on the node",
            "the after hook Shop.Upgrade.after/0 of the policy file is not in the release",
            "the gate Shop.Upgrade.ready?/0 of the policy file is not in the release",
        ]
    );
}

#[test]
fn nothing_changed_is_nothing_to_do() {
    let mut case = Case::new();
    case.target.modules.insert(CART.into(), module(OLD));
    assert!(changes(&case.target, &case.facts, &case.on_disk).is_nothing());
    // A module that an interactive node would load from its disk is there already.
    case.target.modules.insert("Elixir.Shop.Lazy".into(), module(NEW));
    assert!(!changes(&case.target, &case.facts, &case.on_disk).is_nothing());
    case.on_disk.insert("Elixir.Shop.Lazy".into());
    assert!(changes(&case.target, &case.facts, &case.on_disk).is_nothing());
}

#[test]
fn a_consolidated_protocol_that_the_release_no_longer_has_is_removed() {
    let mut case = Case::new();
    for (name, file) in [
        (
            "Elixir.Shop.Priced",
            "/app/bin/../releases/1.0.0/consolidated/Elixir.Shop.Priced.beam",
        ),
        ("Elixir.Else", "/srv/consolidated/Elixir.Else.beam"),
    ] {
        case.facts.modules.insert(name.into(), loaded(OLD, file));
    }
    let found = changes(&case.target, &case.facts, &case.on_disk);
    assert_eq!(found.removed, ["Elixir.Shop.Priced"]);
}

#[test]
fn each_behaviour_is_asked_by_its_own_code_change() {
    for (behaviour, three, four, system, asked) in [
        (Behaviour::GenServer, true, false, false, true),
        (Behaviour::GenServer, false, true, true, false),
        (Behaviour::GenStatem, false, true, false, true),
        (Behaviour::GenStatem, true, false, true, false),
        (Behaviour::Special, false, false, true, true),
        (Behaviour::Special, true, true, false, false),
    ] {
        let mut case = Case::new();
        case.census.kinds = vec![kind(behaviour, CART)];
        let module = case.target.modules.get_mut(CART).unwrap();
        (
            module.code_change_3,
            module.code_change_4,
            module.system_code_change,
        ) = (three, four, system);
        let fate = case.plan().kinds[0].fate.clone().unwrap();
        assert_eq!(
            matches!(fate, Fate::Migrate { .. }),
            asked,
            "{behaviour:?} {three} {four} {system}"
        );
    }
}

#[test]
fn a_manager_is_asked_for_its_changed_handlers_only() {
    let mut case = Case::new();
    let mut manager = kind(Behaviour::GenEvent, "gen_event");
    manager.modules = vec![CART.into(), "Elixir.Shop.Same".into()];
    case.census.kinds = vec![manager];
    assert_eq!(
        case.plan().kinds[0].fate,
        Some(Fate::Migrate {
            modules: vec![CART.into()]
        })
    );
}

fn any_behaviour() -> impl Strategy<Value = Behaviour> {
    proptest::sample::select(Behaviour::ALL.to_vec())
}

fn any_code_change() -> impl Strategy<Value = CodeChange> {
    prop_oneof![
        Just(CodeChange::Ends),
        any::<bool>().prop_map(|anywhere| CodeChange::MayNotEnd { anywhere }),
        Just(CodeChange::Cannot("ets:new/2".into())),
    ]
}

proptest! {
    /// Whatever runs on the node: the script names only what may be suspended, and every changed module once.
    #[test]
    fn a_script_touches_only_what_may_be_touched(
        behaviours in proptest::collection::vec((any_behaviour(), any::<bool>(), 1u64..1000), 0..20),
        versions in proptest::collection::btree_map("[a-e]", (any::<bool>(), any::<bool>()), 0..5),
        inside in 0u64..3,
        rehearse in any::<bool>(),
        code_change in any_code_change(),
    ) {
        let mut case = Case::new();
        case.policy.rehearse = rehearse;
        case.code_changes.insert(CART.to_owned(), code_change.clone());
        case.way_back.inside = inside;
        for (name, (changed, known)) in &versions {
            let full = format!("Elixir.Shop.{name}");
            case.target.modules.insert(full.clone(), module(if *changed { NEW } else { OLD }));
            if *known {
                let file = format!("/app/lib/shop-1.0.0/ebin/{full}.beam");
                case.facts.modules.insert(full, loaded(OLD, &file));
            }
        }
        case.census.kinds = behaviours
            .iter()
            .enumerate()
            .map(|(id, (behaviour, affected, processes))| Kind {
                id: id as u64,
                processes: *processes,
                ..kind(*behaviour, if *affected { CART } else { "Elixir.Shop.Same" })
            })
            .collect();
        let made = case.plan();
        prop_assert_eq!(&made, &case.plan(), "a plan is made the same way twice");
        let script = made.script(&case.target, &case.facts, &case.policy, |name| format!("/app/{name}.beam"));
        for planned in &script.kinds {
            let kind = case.census.kinds.iter().find(|kind| kind.id == planned.id).unwrap();
            prop_assert!(kind.behaviour.migrates(), "{:?}", kind.behaviour);
            prop_assert_eq!(&kind.host, CART);
            let may_be = !rehearse && matches!(code_change, CodeChange::MayNotEnd { anywhere: true });
            prop_assert!(!planned.apart || may_be);
        }
        let names: Vec<&String> = script.modules.iter().map(|module| &module.name).collect();
        let distinct: BTreeSet<&String> = names.iter().copied().collect();
        prop_assert_eq!(distinct.len(), names.len());
        for module in &script.modules {
            let loaded = case.facts.modules.get(&module.name).map(|loaded| loaded.md5);
            prop_assert_eq!(module.loaded_md5, loaded);
            prop_assert!(loaded != Some(module.target_md5));
        }
        for (name, module) in case.target.modules.iter().filter(|(_, module)| module.own) {
            let differs = case.facts.modules.get(name).is_none_or(|loaded| loaded.md5 != module.md5);
            prop_assert_eq!(differs, distinct.contains(name));
        }
    }

    /// Accepting more never makes a verdict worse, and never lets a refusal through.
    #[test]
    fn accepting_never_makes_it_worse(
        free in proptest::option::of(0u64..2000),
        cover in any::<bool>(),
        erts in any::<bool>(),
        accepted in proptest::sample::subsequence(ReasonCode::ALL.to_vec(), 0..ReasonCode::ALL.len()),
    ) {
        let mut case = Case::new();
        case.facts.free_bytes = free;
        case.facts.modules.get_mut(CART).unwrap().cover = cover;
        if erts {
            case.target.erts = "1".into();
        }
        let before = case.plan().verdict();
        case.policy.accept = accepted.into_iter().map(|code| (code, "by --accept".into())).collect();
        let after = case.plan();
        prop_assert!(after.verdict() <= before);
        let refused = after.reasons.iter().any(|reason| reason.severity == Severity::Refusal);
        prop_assert_eq!(refused, erts);
        prop_assert!(!refused || after.verdict() == Verdict::Cold);
    }
}

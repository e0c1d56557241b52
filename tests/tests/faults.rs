//! The switch itself: the agent of the tests fails where it is told to and says what it does, the shipped one never.

use std::fs;

use flyhot_tests::{Fault, Flyhot, Otp, Release, Shop, Trace};

const NONE: [&str; 0] = [];

fn shop() -> (Shop, Release, Release) {
    let otp = Otp::under_test();
    let (v1, v2) = (Release::shop(otp, "v1"), Release::shop(otp, "v2"));
    let shop = Shop::of(&v1).carts(10).pool(10).start();
    (shop, v1, v2)
}

fn upgrade(shop: &Shop, command: Flyhot) -> (flyhot_tests::Run, Trace) {
    shop.probe().start_trace();
    let run = command.run();
    let trace = shop.probe().end_trace();
    assert_eq!(shop.probe().suspended(), NONE, "{run}\n{trace}");
    (run, trace)
}

#[test]
fn the_shipped_agent_knows_no_faults_and_tells_nothing() {
    let (shop, v1, v2) = shop();
    shop.probe()
        .plan_faults(&[Fault::new("worker", "after_swap", 1, "die")]);
    let (run, trace) = upgrade(&shop, Flyhot::upgrade(&shop, &v2));
    run.expect("upgraded", 0);
    assert!(trace.events.is_empty() && trace.struck.is_empty(), "{trace}");
    assert_eq!(
        run.reason_codes()
            .iter()
            .filter(|code| **code == "guard_finished")
            .count(),
        0
    );

    // The other one does, so this test can see it.
    let (run, trace) = upgrade(&shop, Flyhot::upgrade(&shop, &v1).faulty());
    run.expect("upgraded", 0);
    assert_eq!(trace.struck.len(), 1, "{run}");
    assert!(run.reason_codes().contains(&"guard_finished"), "{run}");
    let told = trace.to_string();
    assert!(told.contains(r#"["guard","take_over","swapping"]"#), "{told}");
}

#[test]
fn each_thing_that_can_befall_it() {
    let (shop, v1, v2) = shop();
    for (faults, outcome, exit_code, reason) in [
        (
            Fault::new("worker", "suspending", 5, "die"),
            "not_quiesced",
            14,
            "worker_died",
        ),
        (
            Fault::new("worker", "newborns", 1, "fail"),
            "not_quiesced",
            14,
            "worker_died",
        ),
        (Fault::new("worker", "census", 1, "fail"), "failed", 1, ""),
        (Fault::new("worker", "closures", 1, "fail"), "failed", 1, ""),
        (Fault::new("worker", "closures", 1, "die"), "failed", 1, ""),
        (
            Fault::new("worker", "closures", 1, "{delay, 100}"),
            "upgraded",
            0,
            "",
        ),
        (
            Fault::new("guard", "{noted, swapping}", 1, "die"),
            "not_quiesced",
            14,
            "guard_died",
        ),
        (
            Fault::new("worker", "migrating", 3, "{delay, 100}"),
            "upgraded",
            0,
            "",
        ),
        (
            Fault::new("guard", "{noted, thawing}", 1, "fail"),
            "upgraded",
            0,
            "",
        ),
    ] {
        shop.probe().plan_faults(std::slice::from_ref(&faults));
        let (run, trace) = upgrade(&shop, Flyhot::upgrade(&shop, &v2).faulty());
        run.expect(outcome, exit_code);
        assert!(reason.is_empty() || run.reason_codes().contains(&reason), "{run}");
        assert_eq!(trace.struck.len(), 1, "{faults:?}: {run}");
        if exit_code == 0 {
            shop.probe().plan_faults(&[]);
            let (run, trace) = upgrade(&shop, Flyhot::upgrade(&shop, &v1).faulty());
            run.expect("upgraded", 0);
            assert!(trace.struck.is_empty(), "{run}");
            in_order(&trace);
        }
    }
}

/// The guard does not know what the worker had proven, and does not say that it was.
#[test]
fn a_worker_that_ends_in_the_proof_leaves_it_unproven() {
    let (shop, _, v2) = shop();
    shop.probe()
        .plan_faults(&[Fault::new("worker", "proving_one", 2, "die")]);
    let (run, trace) = upgrade(&shop, Flyhot::upgrade(&shop, &v2).faulty());
    run.expect("upgraded", 0);
    assert_eq!(trace.struck.len(), 1, "{run}");
    let codes = run.reason_codes();
    assert!(codes.contains(&"guard_finished"), "{run}");
    let unproven = codes.iter().filter(|code| **code == "not_proven").count();
    assert!(unproven > 1, "{run}");
}

/// What a whole upgrade tells, in the order in which it is done.
fn in_order(trace: &Trace) {
    let told: Vec<String> = trace.events.iter().map(ToString::to_string).collect();
    let at = |event: &str| {
        told.iter()
            .position(|line| line.starts_with(event))
            .unwrap_or_else(|| panic!("{event} was not told\n{trace}"))
    };
    let order = [
        r#"["worker","phase","freezing"]"#,
        r#"["guard","noted","freezing"]"#,
        r#"["worker","suspend","#,
        r#"["worker","frozen","#,
        r#"["worker","phase","swapping"]"#,
        r#"["guard","noted","swapping"]"#,
        r#"["worker","swap"]"#,
        r#"["worker","swapped","ok"]"#,
        r#"["worker","migrate","#,
        r#"["worker","migrated","#,
        r#"["worker","phase","proving"]"#,
        r#"["guard","noted","proving"]"#,
        r#"["worker","prove","#,
        r#"["worker","proven","#,
        r#"["worker","phase","thawing"]"#,
        r#"["guard","noted","thawing"]"#,
        r#"["worker","resume","#,
        r#"["worker","thawed","#,
        r#"["worker","done"]"#,
        r#"["guard","stop"]"#,
    ];
    let places: Vec<usize> = order.iter().map(|event| at(event)).collect();
    assert!(places.is_sorted(), "{places:?}\n{trace}");
    let count = |event: &str| told.iter().filter(|line| line.contains(event)).count();
    assert_eq!(count(r#","suspend","#), count(r#","thawed","#), "{trace}");
}

#[test]
fn building_it_leaves_the_shipped_command_alone() {
    let shipped = || fs::read(Flyhot::binary()).unwrap();
    let before = shipped();
    let has = |bytes: &[u8]| {
        let word = b"flyhot_trace";
        bytes.windows(word.len()).any(|part| part == word)
    };
    assert!(!has(&before));
    let run = Flyhot::new(["--version"]).faulty().run();
    assert_eq!(run.exit_code, Some(0), "{run}");
    assert!(shipped() == before);
    assert!(has(
        &fs::read(Flyhot::binary().with_file_name("flyhot-faults")).unwrap()
    ));
}

//! What the call graph says of functions that are known: `fixtures/copies/graph.erl` has one for each case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use flyhot_artifact::beam::Beam;
use flyhot_artifact::beam::graph::{Judgement, judge};

const OTPS: [&str; 2] = ["otp-25", "otp-29"];

fn read(otp: &str, module: &str) -> Option<Beam> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/copies")
        .join(otp);
    let bytes = fs::read(path.join(format!("{module}.beam"))).ok()?;
    Some(Beam::parse(&bytes).expect("the fixture is a beam"))
}

fn judged(otp: &str, function: &str, arity: u32) -> Judgement {
    judge(&mut |module| read(otp, module), "graph", function, arity).expect("the fixture is whole")
}

#[test]
fn what_only_computes_has_no_effect() {
    let cases = [
        ("pure", 1, true),
        ("with_maps", 1, true),
        ("comprehension", 1, true),
        ("nested", 2, true),
        ("over_binary", 1, true),
        ("local_fun", 1, true),
        ("raises", 1, true),
        ("logs", 1, true),
        ("captures", 1, true),
        ("reads_self", 0, true),
        // They take time, and nothing else.
        ("sleeps", 0, false),
        ("naps", 1, false),
        // Nobody but the state says how often these call themselves.
        ("recursion", 1, false),
        ("mutual", 1, false),
        // The cart asks for the price of its lines, and a line may be a cart.
        ("through_price", 1, false),
    ];
    for otp in OTPS {
        for (function, arity, ends) in cases {
            let judgement = judged(otp, function, arity);
            assert_eq!(
                (judgement.effect, judgement.ends),
                (None, ends),
                "{otp} {function}/{arity}"
            );
        }
    }
}

#[test]
fn what_knows_its_process_is_told_from_what_does_not() {
    for otp in OTPS {
        assert!(judged(otp, "reads_self", 0).own_process, "{otp}");
        assert!(!judged(otp, "recursion", 1).own_process, "{otp}");
    }
}

#[test]
fn what_does_more_is_named_by_the_calls_that_lead_to_it() {
    let cases = [
        ("ets", 1, "graph.ets/1 -> ets.new/2"),
        (
            "deep_ets",
            1,
            "graph.deep_ets/1 -> graph.one/1 -> graph.two/1 -> ets.insert/2",
        ),
        ("sends", 1, "graph.sends/1 -> a send"),
        ("receives", 1, "graph.receives/1 -> a receive"),
        ("waits", 0, "graph.waits/0 -> a receive"),
        (
            "applies",
            2,
            "graph.applies/2 -> a call of a module that the data names",
        ),
        ("spawns", 1, "graph.spawns/1 -> erlang.spawn/1"),
        ("dictionary", 1, "graph.dictionary/1 -> erlang.put/2"),
        ("kills", 1, "graph.kills/1 -> erlang.exit/2"),
        ("captured", 1, "graph.captured/1 -> ets.delete/1"),
        (
            "in_fun",
            1,
            "graph.in_fun/1 -> graph.-in_fun/1-fun-0-/1 -> ets.delete/1",
        ),
        (
            "in_price",
            1,
            "graph.in_price/1 -> shop_price.store/1 -> a function that does not exist",
        ),
        (
            "sets_level",
            1,
            "graph.sets_level/1 -> logger.set_primary_config/2",
        ),
        ("calls_server", 1, "graph.calls_server/1 -> gen_server.call/2"),
        ("bif_effect", 0, "graph.bif_effect/0 -> erlang.erase/0"),
        ("in_comprehension", 1, "ets.lookup/2"),
    ];
    for otp in OTPS {
        for (function, arity, expected) in cases {
            let effect = judged(otp, function, arity).effect.unwrap_or_default();
            assert!(effect.ends_with(expected), "{otp} {function}/{arity}: {effect:?}");
        }
    }
}

#[test]
fn the_modules_of_the_set_that_are_run_are_named() {
    for otp in OTPS {
        let modules = judged(otp, "through_price", 1).modules;
        assert_eq!(
            modules,
            BTreeSet::from(["graph", "shop_cart", "shop_price"].map(str::to_owned)),
            "{otp}"
        );
        assert_eq!(
            judged(otp, "pure", 1).modules,
            BTreeSet::from(["graph".to_owned()]),
            "{otp}"
        );
    }
}

#[test]
fn a_module_outside_the_set_is_not_followed() {
    let judgement = judge(
        &mut |module| (module == "graph").then(|| read("otp-25", module)).flatten(),
        "graph",
        "through_price",
        1,
    );
    assert_eq!(
        judgement.unwrap().effect.unwrap(),
        "graph.through_price/1 -> shop_price.of_line/1"
    );
}

#[test]
fn a_damaged_beam_is_judged_or_refused_and_never_panics() {
    for otp in OTPS {
        let bytes = read(otp, "graph").unwrap().to_bytes();
        for at in (0..bytes.len()).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            if let Ok(beam) = Beam::parse(&damaged) {
                let _ = judge(&mut |_| Some(beam.clone()), "graph", "nested", 2);
                let _ = judge(&mut |_| Some(beam.clone()), "graph", "deep_ets", 1);
            }
        }
    }
}

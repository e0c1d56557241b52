//! `make demo`: a shop under constant traffic is upgraded while it runs, then two bad upgrades fail as foretold.
//!
//! It decides nothing by itself: flyhot speaks for itself on the terminal, the probe says what became of the shop.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a demonstration speaks to its audience, and ends where it fails"
)]

use std::time::{Duration, Instant};

use flyhot_tests::{Cart, Flyhot, Otp, Release, Shop, Tally, wait_until};

/// How long the traffic is shown flowing before and after each upgrade.
const LOOK: Duration = Duration::from_secs(3);

fn main() {
    let otp = Otp::v25();
    title("Building flyhot and the shop: v1, v2 and v3");
    Flyhot::binary();
    let [v1, v2, v3] = ["v1", "v2", "v3"].map(|code| {
        let release = Release::shop(otp, code);
        println!("  {code} is version {}", release.version());
        release
    });

    title("Starting v1: 10 000 carts, gen_statems, a gen_event, an HTTP endpoint; 500 requests a second");
    let shop = Shop::start(otp, "v1");
    println!("  {} on port {}", shop.name(), shop.port());
    drop(v1);

    title("Upgrading to v2: another shape of state, a new module, changed functions, a changed protocol");
    let before = shop.carts();
    let tally = under_traffic(&shop, || {
        assert_eq!(shown(&shop, "upgrade", &v2, &[]), 0, "v1 to v2 is to succeed");
    });
    requests(&tally);
    let after = shop.carts();
    assert!(same_processes(&before, &after), "a cart was restarted");
    assert!(
        after.iter().all(|cart| cart.shape == "struct"),
        "a cart was left behind"
    );
    println!(
        "  the judge: {} carts, all in the new shape, all still the same processes, nothing suspended",
        after.len()
    );
    still(&shop);

    title("Trying v3: its code_change cannot take the state of 7 of the 10 000");
    let before = shop.carts();
    let code = shop.probe().md5s();
    let tally = under_traffic(&shop, || {
        assert_eq!(shown(&shop, "upgrade", &v3, &[]), 10, "v3 is to be refused");
    });
    requests(&tally);
    let after = shop.carts();
    assert!(same_processes(&before, &after) && after.iter().all(|cart| cart.shape == "struct"));
    assert_eq!(code, shop.probe().md5s(), "a refused upgrade touched the code");
    println!("  the judge: the same code, the same processes, the same states");
    still(&shop);

    title("Going past the rehearsal: first what the plan says, then the upgrade");
    shown(&shop, "plan", &v3, &["--no-rehearsal"]);
    let exit_code = shown(&shop, "upgrade", &v3, &["--no-rehearsal"]);
    let carts = shop.carts();
    let migrated = carts
        .iter()
        .filter(|cart| cart.shape == "struct with grams")
        .count();
    match exit_code {
        11 => {
            assert_eq!(migrated, 0, "reverted is to mean reverted");
            assert_eq!(code, shop.probe().md5s());
            assert!(same_processes(&before, &carts));
            println!("  the judge: reverted; all 10 000 carts have their old code and their old state");
        }
        15 => {
            assert_eq!(migrated, carts.len());
            let ended = carts.iter().filter(|cart| cart.hits == 0).count();
            println!("  the judge: degraded; all carts are on v3, {ended} without visits: 7 were restarted");
        }
        other => panic!("exit code {other} is neither reverted nor degraded"),
    }
    still(&shop);
    title("Done");
}

/// Runs flyhot with its own words on this terminal.
fn shown(shop: &Shop, verb: &str, release: &Release, more: &[&str]) -> i32 {
    println!(
        "\n  $ flyhot {verb} --node {} --release {} {}",
        shop.name(),
        release.version(),
        more.join(" ")
    );
    let directory = release.directory().to_str().expect("our own directory");
    let code = Flyhot::new([verb, "--node", shop.name(), "--release", directory])
        .args(more.iter().copied())
        .of(shop)
        .shown();
    println!("  exit code {code}\n");
    code
}

fn under_traffic(shop: &Shop, act: impl FnOnce()) -> Tally {
    let traffic = shop.traffic().start();
    let begun = Instant::now();
    wait_until("the traffic flows", LOOK * 10, || begun.elapsed() >= LOOK);
    act();
    let done = Instant::now();
    wait_until("the traffic flows on", LOOK * 10, || done.elapsed() >= LOOK);
    traffic.stop()
}

fn requests(tally: &Tally) {
    println!(
        "  requests: {} served, {} failed, median {:.1} ms, slowest {:.1} ms",
        tally.ok(),
        tally.failures().len(),
        tally.quantile(0.5).as_secs_f64() * 1e3,
        tally.slowest().as_secs_f64() * 1e3
    );
    assert!(tally.failures().is_empty(), "{:?}", tally.failures());
}

fn same_processes(before: &[Cart], after: &[Cart]) -> bool {
    before.len() == after.len()
        && before
            .iter()
            .zip(after)
            .all(|(a, b)| (a.id, &a.pid) == (b.id, &b.pid))
}

fn still(shop: &Shop) {
    let (suspended, traces) = (shop.probe().suspended(), shop.probe().traces());
    assert!(suspended.is_empty(), "suspended: {suspended:?}");
    assert!(traces.is_empty(), "left on the node: {traces:?}");
}

fn title(text: &str) {
    println!("\n== {text}");
}

//! `make bench`: what flyhot takes, beside the least that could be taken, alternating in one run.
//!
//! Figures go to docs/bench.json and the terminal; a target that is missed is written as missed. Sections by name
//! (`window`, `again`, `rehearsal`, `revert`, `callers`, `client`, `census`, `command`, `plan`, `sessions`, `terms`, `status`,
//! `crowd`, `machines`, `look`, `pack`, `unpack`, `large`, `moved`, `native`) run those alone, and the others keep the figures they have.
//! FLYHOT_ROUNDS multiplies the repetitions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench speaks to its audience, and ends where it fails"
)]

mod artifacts;
mod crowd;
mod machines;
mod operator;
mod users;

use std::fs;
use std::process::Command;
use std::time::Instant;

use flyhot_tests::{Flyhot, Otp, Release, Run, Shop, ShopBuild, rounds, watched, workspace};
use serde_json::{Value, json};

/// Processes by changed modules.
const GRID: [(u32, u32); 6] = [
    (1_000, 10),
    (10_000, 10),
    (100_000, 10),
    (1_000, 200),
    (10_000, 200),
    (100_000, 200),
];

/// Upgrades of one node in a row.
const CONSECUTIVE: usize = 10;

/// The longest budget that calls with the default timeout survive: 100 000 processes do not fit into the default on
/// a small machine, and what is measured here is the window.
const BUDGET: [&str; 2] = ["--window-budget", "4s"];

/// Steps whose time the node decides, not the driver.
const STEPS_OF_THE_NODE: [&str; 10] = [
    "census", "closures", "rehearse", "drain", "prepare", "way_back", "knock", "window", "persist", "remove",
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let path = workspace().join("docs/bench.json");
    let mut figures: Value = fs::read_to_string(&path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_else(|| json!({}));
    figures["machine"] = machine();
    for name in [
        "window",
        "again",
        "rehearsal",
        "revert",
        "callers",
        "client",
        "census",
        "command",
        "plan",
        "sessions",
        "terms",
        "status",
        "crowd",
        "machines",
        "look",
        "pack",
        "unpack",
        "large",
        "moved",
        "boot",
        "native",
    ] {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            println!("== {name}");
            figures[name] = match name {
                "window" => window(),
                "rehearsal" => rehearsal(),
                "again" => again(),
                "revert" => revert(),
                "callers" => users::callers(),
                "client" => users::client(),
                "census" => users::census(),
                "plan" => operator::plan(),
                "sessions" => operator::sessions(),
                "terms" => operator::terms(),
                "status" => operator::status(),
                "crowd" => crowd::crowd(),
                "machines" => machines::machines(),
                "look" => machines::look(),
                "pack" => artifacts::pack(),
                "unpack" => artifacts::unpack(),
                "large" => artifacts::large(),
                "moved" => artifacts::moved(),
                "boot" => artifacts::boot(),
                "native" => artifacts::native(),
                _ => command(),
            };
            figures["measured_on"][name] = json!(commit());
            let text = serde_json::to_string_pretty(&figures).expect("figures are JSON");
            fs::write(&path, text + "\n").expect("docs can be written");
        }
    }
}

/// The commit that the tree is on.
fn commit() -> String {
    let told = std::process::Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    told.map_or_else(
        |_| String::new(),
        |told| String::from_utf8_lossy(&told.stdout).trim().to_owned(),
    )
}

/// The window against the floor; at most 1.5 times as long.
fn window() -> Value {
    let cell = |(processes, modules): (u32, u32)| {
        let (a, b) = pair(modules);
        let (mut least, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..repetitions() {
            // A node is used once: a second window would first have to purge what the first one left.
            least.push(carts(&a, processes).floor_window(&b));
            let run = Flyhot::upgrade(&carts(&a, processes), &b)
                .args(["--no-persist"])
                .args(BUDGET)
                .run();
            assert_eq!(run.node(0)["modules"]["changed"], modules, "{run}");
            ours.extend(window_of(&run, "upgraded"));
        }
        let ratio = median(&ours) / median(&least);
        told(json!({
            "processes": processes, "modules": modules, "floor_us": spread(&least), "flyhot_us": spread(&ours),
            "gave_up": repetitions() - ours.len(), "ratio": ratio, "target": "ratio <= 1.5", "met": ratio <= 1.5,
        }))
    };
    GRID.map(cell).into_iter().collect()
}

/// Consecutive windows on one node, theirs and ours: what the first left behind must not make the tenth longer. With
/// 100 000 processes and 200 modules the purge of what the window before left takes minutes each time, outside any
/// freeze: that cell is left out.
fn again() -> Value {
    let cell = |(processes, modules): (u32, u32)| {
        let (a, b) = pair(modules);
        let (mut least, mut ours) = (vec![Vec::new(); CONSECUTIVE], vec![Vec::new(); CONSECUTIVE]);
        for _ in 0..rounds(if processes < 10_000 { 7 } else { 3 }, 7) {
            let (floor, shop) = (carts(&a, processes), carts(&a, processes));
            for at in 0..CONSECUTIVE {
                let to = if at % 2 == 0 { &b } else { &a };
                least[at].push(floor.floor_window(to));
                let run = Flyhot::upgrade(&shop, to)
                    .args(["--no-persist"])
                    .args(BUDGET)
                    .run();
                let Some(window) = window_of(&run, "upgraded") else {
                    break;
                };
                ours[at].push(window);
            }
        }
        let [first, second, tenth] = [0, 1, CONSECUTIVE - 1].map(|at| median(&ours[at]) / median(&least[at]));
        let growth = median(&ours[CONSECUTIVE - 1]) / median(&ours[1]);
        let met = first <= 1.5 && second <= 1.5 && tenth <= 1.5 && growth <= 1.1;
        let three = |windows: &[Vec<u64>]| [0, 1, CONSECUTIVE - 1].map(|at| spread(&windows[at]));
        told(json!({
            "processes": processes, "modules": modules,
            "floor_us": three(&least),
            "flyhot_us": three(&ours),
            "ratio": { "first": first, "second": second, "tenth": tenth }, "tenth_by_second": growth,
            "target": "each ratio <= 1.5, tenth_by_second <= 1.1",
            "met": met,
        }))
    };
    GRID.into_iter()
        .filter(|cell| *cell != (100_000, 200))
        .map(cell)
        .collect()
}

/// The rehearsal of live processes, and the slowest call that a client of them saw meanwhile.
fn rehearsal() -> Value {
    let cell = |processes: u32| {
        let otp = Otp::v25();
        let releases = ["v2", "v1"].map(|code| Release::shop(otp, code));
        let shop = carts(&releases[1], processes);
        let (mut times, mut calls) = (Vec::new(), Vec::new());
        let mut upgraded = 0;
        for _ in 0..repetitions() {
            let traffic = shop.traffic().per_second(200).connections(64).start();
            let mut upgrade = Flyhot::upgrade(&shop, &releases[upgraded % 2]);
            if upgraded % 2 == 1 {
                upgrade = upgrade.args(["--down"]);
            }
            let run = upgrade.args(["--no-persist"]).args(BUDGET).run();
            let tally = traffic.stop();
            upgraded += usize::from(window_of(&run, "upgraded").is_some());
            times.push(step_us(&run, "rehearse"));
            let (from, to) = run.step("rehearse").expect("it was rehearsed");
            let meanwhile = tally
                .samples
                .iter()
                .filter(|sample| sample.due <= to && sample.done >= from);
            let slowest = meanwhile.map(|sample| sample.latency().as_micros() as u64).max();
            calls.push(slowest.unwrap_or(0));
        }
        told(json!({
            "processes": processes, "rehearsal_us": spread(&times), "slowest_call_us": spread(&calls),
        }))
    };
    [10_000, 100_000].map(cell).into_iter().collect()
}

/// A window that is reverted because one process fails, beside what the plan said of it: within a factor of two.
fn revert() -> Value {
    let cell = |(processes, modules): (u32, u32)| {
        let (a, b) = pair(modules);
        let good = fs::read_to_string(workspace().join("tests/fixtures/shop/v1/shop/cart.ex")).unwrap();
        let first = "  def code_change(_vsn, {:cart, _, _, _, _} = state, _extra)";
        let bad = good
            .replace(
                first,
                &format!("  def code_change(_vsn, {{:cart, 1, _, _, _}}, _), do: raise(\"no\")\n{first}"),
            )
            .replace("@stamp System", "@stamp \"bad\" <> System");
        assert_ne!(good, bad);
        let bad = b.variant().elixir("cart", &bad).build();
        let (mut taken, mut told_before) = (Vec::new(), Vec::new());
        for _ in 0..repetitions() {
            let run = Flyhot::upgrade(&carts(&a, processes), &bad)
                .args(["--no-persist", "--no-rehearsal", "--revert-budget", "120s"])
                .args(BUDGET)
                .run();
            if let Some(window) = window_of(&run, "reverted") {
                let plan = run.events_named("plan").next().expect("a plan comes first");
                told_before.push(number(&plan.json["revert_us"]));
                taken.push(window);
            }
        }
        let ratio = median(&taken) / median(&told_before);
        told(json!({
            "processes": processes, "modules": modules, "window_us": spread(&taken),
            "predicted_us": spread(&told_before), "gave_up": repetitions() - taken.len(), "ratio": ratio, "target": "0.5 <= ratio <= 2.0", "met": (0.5..=2.0).contains(&ratio),
        }))
    };
    GRID.map(cell).into_iter().collect()
}

/// The command itself: what it adds to what the node needs, its memory, and how fast it answers.
fn command() -> Value {
    let (a, b) = pair(10);
    let shop = carts(&a, 10_000);
    let (mut added, mut memory) = (Vec::new(), Vec::new());
    for repetition in 0..repetitions() {
        let to = if repetition % 2 == 0 { &b } else { &a };
        let running = Flyhot::upgrade(&shop, to).args(["--no-persist"]).spawn();
        let used = watched(running.pid());
        let run = running.wait();
        run.expect("upgraded", 0);
        memory.push(used().kib);
        added.push(above_the_node_us(&run));
    }
    let binary = Flyhot::binary();
    let version: Vec<u64> = (0..rounds(21, 210))
        .map(|_| {
            let begun = Instant::now();
            assert!(
                Command::new(binary)
                    .arg("--version")
                    .output()
                    .unwrap()
                    .status
                    .success()
            );
            begun.elapsed().as_micros() as u64
        })
        .collect();
    drop(shop);
    let (a, b) = pair(2_000);
    let shop = carts(&a, 1_000);
    let plans: Vec<u64> = (0..repetitions())
        .map(|_| {
            let run = Flyhot::plan(&shop, &b).run();
            run.expect("planned", 0);
            above_the_node_us(&run)
        })
        .collect();
    let line = |name: &str, values: &[u64], target: f64| {
        let met = median(values) <= target;
        told(
            json!({ "what": name, "values": spread(values), "target": format!("median <= {target}"), "met": met }),
        )
    };
    json!([
        line(
            "upgrade, 10 modules, 10 000 processes: above the node's own time, us",
            &added,
            500_000.0
        ),
        line("driver peak memory, KiB", &memory, 40.0 * 1024.0),
        line("flyhot --version, us", &version, 10_000.0),
        line("plan over 2 000 modules: driver time, us", &plans, 500_000.0),
    ])
}

/// Two releases that differ in `modules` modules: the carts' and others that do nothing.
fn pair(modules: u32) -> (Release, Release) {
    let build = |stamp| ShopBuild::new(Otp::v25(), "v1").stamp(stamp, modules - 1).build();
    (build("a"), build("b"))
}

fn step_us(run: &Run, step: &str) -> u64 {
    run.events_named("step_done")
        .filter(|event| event.json["step"] == step)
        .map(|event| number(&event.json["duration_us"]))
        .sum()
}

fn above_the_node_us(run: &Run) -> u64 {
    let node: u64 = STEPS_OF_THE_NODE.iter().map(|step| step_us(run, step)).sum();
    (run.took.as_micros() as u64).saturating_sub(node)
}

fn repetitions() -> usize {
    rounds(7, 21)
}

fn spread(values: &[u64]) -> Value {
    json!({
        "median": median(values), "min": values.iter().min(), "max": values.iter().max(), "all": values,
    })
}

/// Not a number if there are no values: no comparison with it holds, and JSON shows null.
fn median(values: &[u64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted
        .get(sorted.len() / 2)
        .map_or(f64::NAN, |middle| *middle as f64)
}

/// The window of a run that ended as it should.
fn window_of(run: &Run, outcome: &str) -> Option<u64> {
    if run.outcome()["outcome"] == outcome {
        Some(number(&run.node(0)["window_us"]))
    } else {
        println!("not {outcome}:\n{run}");
        None
    }
}

fn carts(release: &Release, processes: u32) -> Shop {
    Shop::of(release).carts(processes).pool(0).start()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

fn told(figures: Value) -> Value {
    println!("{figures}");
    figures
}

fn machine() -> Value {
    let read = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or("");
        line.split_once(':')
            .map_or("", |(_, value)| value.trim())
            .to_owned()
    };
    json!({
        "cpu": read("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": read("/proc/meminfo", "MemTotal"),
        "otp": Otp::v25().to_string(),
    })
}

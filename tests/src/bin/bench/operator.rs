//! What an operator waits for: a plan of a large node, a look at many, and what a session and a term cost.

use std::process::Command;

use flyhot_tests::{Flyhot, Node, Otp, Release, Scratch, Shop, rounds, watched, workspace};
use serde_json::{Value, json};

use super::{carts, median, pair, repetitions, spread, told};

/// Nodes that are asked at once.
const NODES: usize = 20;

/// Sessions that are idle at once.
const SESSIONS: usize = 200;

/// The steps of a plan, in their order.
const STEPS: [&str; 5] = ["read", "connect", "census", "closures", "cleanup"];

/// Handshake, census and plan on a node with 2 000 modules that all change and 10 000 processes, step by step.
pub(super) fn plan() -> Value {
    let (a, b) = pair(2_000);
    let shop = carts(&a, 10_000);
    let runs: Vec<_> = (0..repetitions())
        .map(|_| {
            let run = Flyhot::plan(&shop, &b).run();
            run.expect("planned", 0);
            run
        })
        .collect();
    let total: Vec<u64> = runs.iter().map(|run| run.took.as_micros() as u64).collect();
    let steps: Value = STEPS
        .into_iter()
        .map(|step| {
            let times: Vec<u64> = runs.iter().map(|run| super::step_us(run, step)).collect();
            json!({ "step": step, "us": spread(&times) })
        })
        .collect();
    told(json!({
        "modules": 2_000, "processes": 10_000, "total_us": spread(&total), "steps": steps,
    }))
}

/// What a session holds while nothing is said on it.
pub(super) fn sessions() -> Value {
    let node = Node::erl(Otp::v25()).start();
    let port = node.epmd_port().to_string();
    let count = SESSIONS.to_string();
    let said = measured(&["sessions", node.name(), &port, &count], node.cookie());
    let [one, all] = ["one_kib", "all_kib"].map(|key| super::number(&said[key]));
    let each = (all.saturating_sub(one)) as f64 / SESSIONS as f64;
    told(json!({ "sessions": SESSIONS, "process_with_one_kib": one, "each_more_kib": each }))
}

/// One term of ten megabytes: the look before, the library alone, both, and what the BEAM does with it.
pub(super) fn terms() -> Value {
    let node = Node::erl(Otp::v25()).start();
    let scratch = Scratch::new("terms");
    let file = scratch.path().join("term");
    let beam = node.probe().json(&format!(
        "Term = [{{N, a_cart, list_to_binary(integer_to_list(N)), [{{item, I, N * I, <<\"a thing of some length\">>}} || I <- lists:seq(1, 4)],
                  #{{hits => N, total => N * 1.5, name => {{via, 'Elixir.Registry', {{carts, N}}}}}}}} || N <- lists:seq(1, 35000)],
         Bin = term_to_binary(Term),
         ok = file:write_file({file:?}, Bin),
         %% Each by a process of its own, as a message arrives: nothing of the one before is collected in it.
         [begin
              {{Pid, Mon}} = spawn_opt(fun() -> {{Us, _}} = timer:tc(fun() -> binary_to_term(Bin) end), exit({{us, Us}}) end,
                                     [monitor, {{min_heap_size, 30000000}}]),
              receive {{'DOWN', Mon, process, Pid, {{us, Us}}}} -> Us end
          end || _ <- lists:seq(1, 11)]."
    ));
    let bytes = std::fs::metadata(&file).expect("the node wrote it").len();
    let said = measured(&["terms", file.to_str().expect("our own path")], "");
    let rate = |times: &Value| {
        let times: Vec<u64> = times
            .as_array()
            .expect("an array")
            .iter()
            .map(super::number)
            .collect();
        // Bytes a microsecond are megabytes a second.
        json!({ "us": spread(&times), "mb_per_second": bytes as f64 / median(&times) })
    };
    told(json!({
        "bytes": bytes, "scan": rate(&said["scan_us"]), "eetf_alone": rate(&said["eetf_us"]),
        "scan_and_decode": rate(&said["scan_and_decode_us"]), "binary_to_term": rate(&beam),
    }))
}

/// A look at twenty nodes at once, beside one at one of them.
pub(super) fn status() -> Value {
    let release = Release::shop(Otp::v25(), "v1");
    let nodes: Vec<Shop> = (0..NODES).map(|_| carts(&release, 100)).collect();
    // One cookie for all: a status has one.
    for node in &nodes[1..] {
        node.probe()
            .eval(&format!("erlang:set_cookie('{}').", nodes[0].cookie()));
    }
    let (mut of_one, mut of_all, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds(7, 21) {
        for (nodes, times) in [(&nodes[..1], &mut of_one), (&nodes[..], &mut of_all)] {
            let names = nodes.iter().flat_map(|node| ["--node", node.name()]);
            let running = Flyhot::new(["status", "--output", "json"])
                .args(names)
                .of(&nodes[0])
                .spawn();
            let used = watched(running.pid());
            let run = running.wait();
            run.expect("done", 0);
            times.push(run.took.as_micros() as u64);
            let used = used();
            if nodes.len() > 1 {
                memory.push(used.kib);
            }
        }
    }
    told(json!({
        "nodes": NODES, "one_us": spread(&of_one), "all_us": spread(&of_all), "peak_memory_kib": spread(&memory),
        "all_by_one": median(&of_all) / median(&of_one),
    }))
}

/// Runs the example of driver/node; what it says.
fn measured(words: &[&str], cookie: &str) -> Value {
    let output = Command::new("cargo")
        .args([
            "run",
            "--quiet",
            "--release",
            "-p",
            "flyhot-node",
            "--features",
            "bench",
        ])
        .args(["--example", "measure", "--"])
        .args(words)
        .env("RELEASE_COOKIE", cookie)
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

//! What the users of a node notice: callers of busy servers, a client, requests while the node is looked at.

use flyhot_tests::{Flyhot, Otp, Release, Shop, rounds, wait_until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use super::{BUDGET, carts, median, number, pair, spread, told, window_of};

/// Callers of the busy servers.
const CALLERS: u32 = 1_000;

/// Servers, whose calls take two milliseconds each.
const SERVERS: u32 = 20;

/// How busy the servers are, and the longest freeze measured at that for the same order of suspends without checks,
/// milliseconds: median and largest.
const LOADS: [(u32, f64, f64); 3] = [(35, 7.0, 26.0), (67, 88.0, 298.0), (90, 200.0, 311.0)];

/// How near a load has to be to be called that, as a part of one, and how often it is corrected for that.
const NEAR: f64 = 0.04;
const TRIES: usize = 8;

/// A node is up, and its load steady, within seconds.
const SOON: Duration = Duration::from_secs(60);

/// The longest time one of a thousand callers and twenty servers is frozen, at three loads.
pub(super) fn callers() -> Value {
    let release = |tag: &str| {
        let of = |source: &str| source.replace("?TAG", tag);
        Release::shop(Otp::v25(), "v1")
            .variant()
            .erlang(
                "load_caller",
                &of(include_str!("../../../fixtures/load/load_caller.erl")),
            )
            .erlang(
                "load_server",
                &of(include_str!("../../../fixtures/load/load_server.erl")),
            )
            .build()
    };
    let (a, b) = (release("a"), release("b"));
    let cell = |(percent, median_ms, max_ms): (u32, f64, f64)| {
        // A caller's turn is its thinking and a call; what waits in queues shows itself, and is made up for below.
        let mut think = CALLERS * 2 * 100 / (SERVERS * percent);
        let shop = Shop::of(&a).carts(1).pool(0).start();
        shop.probe().eval(&format!(
            "[{{module, M}} = code:load_file(M) || M <- [load_caller, load_server]],
             Servers = list_to_tuple([element(2, load_server:start(N)) || N <- lists:seq(1, {SERVERS})]),
             persistent_term:put(servers, Servers),
             persistent_term:put(callers, [element(2, load_caller:start({think}, Servers)) || _ <- lists:seq(1, {CALLERS})]),
             ok."
        ));
        let calls = || {
            let calls = shop.probe().json(
                "lists:sum([gen_server:call(P, calls, infinity) || P <- persistent_term:get(callers)]).",
            );
            number(&calls)
        };
        wait_until("every caller had several turns", SOON, || {
            calls() > u64::from(5 * CALLERS)
        });
        // How many of a thousand looks, every three milliseconds, met a server that has something to do.
        let busy = || {
            let met = shop.probe().json(
                "Servers = tuple_to_list(persistent_term:get(servers)),
                 Looks = [begin receive after 3 -> ok end,
                                length([P || P <- Servers, [{_, F}, {_, Q}] <- [process_info(P, [current_function, message_queue_len])],
                                             Q > 0 orelse element(1, F) =/= gen_server]) end || _ <- lists:seq(1, 1000)],
                 lists:sum(Looks).",
            );
            number(&met) as f64 / 1000.0 / f64::from(SERVERS)
        };
        let wanted = f64::from(percent) / 100.0;
        let loaded = |measured: f64| (measured - wanted).abs() <= NEAR;
        let mut measured = busy();
        for _ in 0..TRIES {
            if loaded(measured) {
                break;
            }
            think = ((f64::from(think) * measured / wanted) as u32).max(1);
            shop.probe().eval(&format!(
                "[gen_server:cast(P, {{think, {think}}}) || P <- persistent_term:get(callers)], ok."
            ));
            // What was thought of before is over.
            std::thread::sleep(Duration::from_secs(1));
            measured = busy();
        }
        let (mut longest, mut gave_up) = (Vec::new(), 0);
        for at in 0..rounds(20, 60) {
            let to = if at % 2 == 0 { &b } else { &a };
            let run = Flyhot::upgrade(&shop, to)
                .args(["--no-persist"])
                .args(BUDGET)
                .run();
            match window_of(&run, "upgraded") {
                Some(_) => longest.push(number(&run.node(0)["longest_freeze_us"])),
                None => {
                    gave_up += 1;
                    break;
                }
            }
        }
        let alive = shop
            .probe()
            .eval("length([P || P <- persistent_term:get(callers), is_process_alive(P)]).");
        let worst = longest.iter().max().copied().unwrap_or(u64::MAX) as f64 / 1000.0;
        let met = median(&longest) / 1000.0 <= 2.0 * median_ms && worst <= 2.0 * max_ms;
        told(json!({
            "load_percent": percent, "load_measured": measured, "longest_freeze_us": spread(&longest), "gave_up": gave_up,
            "callers_alive": alive, "target": format!("median <= {} ms, max <= {} ms", 2.0 * median_ms, 2.0 * max_ms),
            "met": met && gave_up == 0 && loaded(measured),
        }))
    };
    LOADS.map(cell).into_iter().collect()
}

/// A client on the node that calls one affected process without a pause: its slowest call beside the window.
pub(super) fn client() -> Value {
    let (a, b) = pair(10);
    let shop = carts(&a, 10_000);
    let (mut slowest, mut windows, mut above) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..rounds(10, 30) {
        shop.probe().eval(
            "[{_, Cart, _, _} | _] = supervisor:which_children('Elixir.Shop.CartSupervisor'),
             Ask = fun(Ask, Slowest) ->
                 T = erlang:monotonic_time(microsecond),
                 _ = gen_server:call(Cart, visit, infinity),
                 Took = erlang:monotonic_time(microsecond) - T,
                 receive {slowest, To} -> To ! {slowest, max(Slowest, Took)}
                 after 0 -> Ask(Ask, max(Slowest, Took))
                 end
             end,
             register(client, spawn(fun() -> Ask(Ask, 0) end)), ok.",
        );
        let to = if at % 2 == 0 { &b } else { &a };
        let run = Flyhot::upgrade(&shop, to).args(["--no-persist"]).run();
        let call = number(
            &shop
                .probe()
                .json("client ! {slowest, self()}, receive {slowest, S} -> S end."),
        );
        if let Some(window) = window_of(&run, "upgraded") {
            slowest.push(call);
            windows.push(window);
            above.push(call.saturating_sub(window + window / 5));
        }
    }
    told(json!({
        "slowest_call_us": spread(&slowest), "window_us": spread(&windows), "above_1.2_windows_us": spread(&above),
        "target": "median of (slowest call - 1.2 x window) <= 20 ms", "met": median(&above) <= 20_000.0,
    }))
}

/// The census of 100 000 processes, and how many requests the node serves meanwhile beside what it serves otherwise. The
/// node has one core, whoever asks it the other.
pub(super) fn census() -> Value {
    let a = pair(10).0;
    let shop = Shop::of(&a)
        .carts(100_000)
        .pool(0)
        .node(|node| node.flags(["+S", "1"]))
        .start();
    let runs_on = |cores: &str, pid: u32| {
        let done = std::process::Command::new("taskset")
            .args(["-a", "-p", "-c", cores, &pid.to_string()])
            .output();
        assert!(done.expect("taskset is there").status.success());
    };
    let own = std::process::id();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    runs_on("0", shop.pid());
    runs_on("1", own);
    let b = pair(10).1;
    let (mut times, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..rounds(7, 21) {
        // Always something to ask for: whoever has an answer asks again at once.
        let traffic = shop.traffic().per_second(1_000_000).connections(8).start();
        std::thread::sleep(Duration::from_secs(5));
        let run = Flyhot::plan(&shop, &b).run();
        let tally = traffic.stop();
        let (from, to) = run.step("census").expect("the plan looks at the node");
        let served = |from: Instant, to: Instant| {
            let served = tally
                .samples
                .iter()
                .filter(|sample| sample.done >= from && sample.done < to);
            served.count() as f64 / (to - from).as_secs_f64()
        };
        let idle = served(from - Duration::from_secs(4), from - Duration::from_secs(1));
        times.push(u64::try_from((to - from).as_micros()).unwrap_or(u64::MAX));
        shares.push((100.0 * served(from, to) / idle) as u64);
    }
    runs_on(&format!("0-{}", cores - 1), own);
    told(json!({
        "processes": 100_000, "census_us": spread(&times), "served_meanwhile_percent": spread(&shares),
        "target": "median >= 80 percent", "met": median(&shares) >= 80.0,
    }))
}

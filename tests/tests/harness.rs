//! The harness against itself: a judge that cannot see a fault would let every fault pass.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use flyhot_tests::{Node, Otp, Process, Release, Scratch, Shop, ShopBuild, TrafficBuilder, wait_until};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_plain_node_is_judged_and_ends_with_its_value() {
    let node = Node::erl(Otp::under_test()).start();
    let probe = node.probe();
    assert_eq!(probe.eval("lists:sum([1, 2, 3])."), "6");
    assert_eq!(
        probe
            .json("#{a => [1, {b, <<\"c\\n\">>}], <<\"k\">> => undefined}.")
            .to_string(),
        r#"{"a":[1,["b","c\n"]],"k":null}"#
    );
    assert!(probe.try_eval("error(oops).").unwrap_err().contains("oops"));
    assert_eq!(probe.eval("node().").trim_matches('\''), node.name());
    assert!(probe.pids().len() > 20);
    let pid = node.pid();
    drop(node);
    wait_until("the VM is gone", SOON, || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
}

#[test]
fn the_demo_of_a_fleet_says_what_is_missing() {
    let demo = env!("CARGO_BIN_EXE_demo_fleet");
    let mut without_ip = Command::new(demo);
    without_ip.env("PATH", "/nonexistent");
    let mut without_root = Command::new("setpriv");
    without_root.args(["--bounding-set=-all", "--inh-caps=-all", demo]);
    for (mut command, missing) in [
        (without_ip, "iproute2 is needed"),
        (without_root, "root is needed"),
    ] {
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!((said.lines().count(), output.stdout.len()), (1, 0), "{said}");
        assert!(
            said.starts_with("demo-fleet: ") && said.contains(missing),
            "{said}"
        );
    }
}

#[test]
fn a_short_name_works_as_well() {
    let node = Node::erl(Otp::under_test()).short_name().start();
    assert_eq!(node.probe().eval("net_kernel:longnames()."), "false");
}

#[test]
fn the_judge_sees_who_is_suspended_asleep_or_not() {
    let node = Node::erl(Otp::under_test()).start();
    let probe = node.probe();
    assert_eq!(probe.suspended(), [] as [&str; 0]);
    probe.eval("sys:suspend(application_controller), sys:suspend(kernel_sup).");
    let suspended = probe.suspended();
    assert_eq!(suspended.len(), 2, "{suspended:?}");
    assert!(
        suspended.iter().any(|one| one.ends_with("> kernel_sup")),
        "{suspended:?}"
    );
    probe.eval("sys:resume(application_controller), sys:resume(kernel_sup).");
    assert_eq!(probe.suspended(), [] as [&str; 0]);

    // Where a hibernating process waits does not tell whether it is suspended.
    probe.eval(
        "{ok, P} = gen_event:start({local, sleeper}, [{hibernate_after, 0}]),
         (fun Wait() -> case process_info(P, current_function) of
                            {_, {_, hibernate, _}} -> ok;
                            _ -> erlang:yield(), Wait() end end)(),
         sys:suspend(P).",
    );
    wait_until("it hibernates again", SOON, || {
        probe
            .eval("process_info(whereis(sleeper), current_function).")
            .contains("hibernate")
    });
    let suspended = probe.suspended();
    assert!(
        suspended.len() == 1 && suspended[0].ends_with("> sleeper"),
        "{suspended:?}"
    );
    probe.eval("sys:resume(sleeper).");
    assert_eq!(probe.suspended(), [] as [&str; 0]);
}

#[test]
fn the_judge_sees_what_is_left_behind() {
    let node = Node::erl(Otp::under_test()).start();
    let probe = node.probe();
    assert_eq!(probe.traces(), [] as [&str; 0]);
    probe.eval(
        "Forms = [{attribute, 1, module, flyhot_agent}],
         {ok, M, B} = compile:forms(Forms),
         {module, M} = code:load_binary(M, \"none\", B),
         P = spawn(fun() -> put('$flyhot', 1), receive stop -> ok end end),
         register(flyhot_worker, P),
         persistent_term:put({flyhot, x}, 1), true.",
    );
    let traces = probe.traces().join("\n");
    for trace in [
        "module flyhot_agent",
        "name flyhot_worker",
        "{flyhot,x}",
        "has '$flyhot' in its dictionary",
    ] {
        assert!(traces.contains(trace), "{trace} is not in\n{traces}");
    }
    probe.eval("code:delete(flyhot_agent).");
    assert!(probe.traces().join("\n").contains("old code of flyhot_agent"));
    assert!(!probe.md5s().contains_key("flyhot_agent"));
}

#[test]
fn latency_counts_from_the_instant_a_request_was_due() {
    // A server that serves one connection, and stands still once for 300 ms.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut stream = stream;
        for request in 0.. {
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            if request == 50 {
                std::thread::sleep(Duration::from_millis(300));
            }
            if stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                .is_err()
            {
                break;
            }
        }
    });
    let traffic = TrafficBuilder::new(port, |_| "/".to_owned())
        .connections(1)
        .per_second(200)
        .start();
    wait_until("200 requests are served", SOON, || traffic.served() >= 200);
    let tally = traffic.stop();
    assert_eq!(tally.failures(), [] as [&str; 0]);
    assert!(
        tally.slowest() >= Duration::from_millis(300),
        "{:?}",
        tally.slowest()
    );
    // The requests that were due while it stood still waited too, though one connection never had two out.
    let late = |sample: &&flyhot_tests::Sample| sample.latency() >= Duration::from_millis(100);
    assert!(tally.samples.iter().filter(late).count() >= 30);
    let all = (tally.samples[0].due, Instant::now());
    assert_eq!(tally.peak_in_flight(all.0, all.1), 1);
}

#[test]
fn failed_requests_are_counted() {
    let shop = Shop::of(&Release::shop(Otp::under_test(), "v1"))
        .carts(10)
        .pool(10)
        .start();
    let traffic = TrafficBuilder::new(shop.port(), |n| {
        if n == 3 { "/nowhere" } else { "/health" }.to_owned()
    })
    .connections(4)
    .check(|body| body.contains("v1"))
    .start();
    wait_until("20 requests are served", SOON, || traffic.served() >= 20);
    let tally = traffic.stop();
    assert_eq!(tally.failures(), [r#"/nowhere: HTTP/1.1 404 Not Found: {}"#]);
    assert_eq!(tally.ok() + 1, tally.samples.len());
}

#[test]
fn requests_that_are_held_are_in_flight() {
    let shop = Shop::of(&Release::shop(Otp::under_test(), "v1"))
        .carts(10)
        .pool(10)
        .start();
    let traffic = TrafficBuilder::new(shop.port(), |_| "/hold/400".to_owned())
        .connections(64)
        .per_second(100)
        .start();
    wait_until("20 requests are held", SOON, || traffic.in_flight() >= 20);
    let seen = Instant::now();
    // One that is on its way there is in flight as well.
    wait_until("20 processes are inside the changed module", SOON, || {
        let stacks = shop.probe().json(
            "length([P || P <- processes(), {current_stacktrace, S} <- [process_info(P, current_stacktrace)],
                          lists:keymember('Elixir.Shop.Hold', 1, S)]).",
        );
        stacks.as_u64() >= Some(20)
    });
    let tally = traffic.stop();
    assert!(tally.peak_in_flight(seen, seen) >= 20);
    assert_eq!(tally.failures(), [] as [&str; 0]);
}

#[test]
fn a_node_never_outlives_its_test_process() {
    // The test process of this test: a shell that starts a node the way the harness does and is killed.
    let scratch = Scratch::new("orphan");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "setpriv --pdeathsig KILL -- sleep 1000 & echo $!; wait"]);
    let mut shell = Process::start("shell", command, scratch.path().join("log"));
    wait_until("the child runs", SOON, || {
        let pid = shell.log().trim().to_owned();
        !pid.is_empty()
            && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
    });
    let child = shell.log().trim().to_owned();
    flyhot_tests::signal("KILL", &shell.pid().to_string());
    wait_until("the child is gone", SOON, || {
        !std::path::Path::new(&format!("/proc/{child}")).exists()
            || std::fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert!(!shell.is_alive());
}

#[test]
fn variants_replace_modules_and_versions_differ_only_in_their_number() {
    let otp = Otp::under_test();
    let v2 = Release::shop(otp, "v2");
    let bad = v2
        .variant()
        .erlang(
            "pool_worker",
            "-module(pool_worker). -export([version/0]). version() -> bad.",
        )
        .bytes("Elixir.Shop.Tax", *b"not a beam")
        .build();
    let renumbered = ShopBuild::new(otp, "v2").version("1.0.0").build();
    let again = ShopBuild::new(otp, "v2").again().build();
    assert_eq!(renumbered.version(), "1.0.0");
    assert_ne!(again.directory(), v2.directory());

    let node = Node::erl(otp).start();
    let probe = node.probe();
    let md5s = probe.beam_md5s(v2.directory());
    assert_eq!(md5s, probe.beam_md5s(renumbered.directory()));
    assert_eq!(md5s, probe.beam_md5s(again.directory()));
    let of_bad = probe.beam_md5s(bad.directory());
    assert_ne!(md5s["pool_worker"], of_bad["pool_worker"]);
    assert!(!of_bad.contains_key("Elixir.Shop.Tax"));
    assert_eq!(md5s.len(), of_bad.len() + 1);
}

#[test]
fn the_floor_takes_exactly_the_stamped_modules_over() {
    let build = |stamp| ShopBuild::new(Otp::under_test(), "v1").stamp(stamp, 3).build();
    let (a, b) = (build("a"), build("b"));
    let shop = Shop::of(&a).carts(1_500).pool(10).start();
    let (old, new) = (
        shop.probe().beam_md5s(a.directory()),
        shop.probe().beam_md5s(b.directory()),
    );
    let changed: Vec<_> = new
        .keys()
        .filter(|module| old.get(*module) != new.get(*module))
        .collect();
    let expected = ["Cart", "Extra1", "Extra2", "Extra3"].map(|module| format!("Elixir.Shop.{module}"));
    assert_eq!(changed, expected.iter().collect::<Vec<_>>());

    assert!(shop.floor_window(&b) > 0);
    let loaded = shop.probe().md5s();
    for module in changed {
        assert_eq!(loaded[module], new[module]);
    }
    assert_eq!(shop.probe().suspended(), [] as [&str; 0]);
}

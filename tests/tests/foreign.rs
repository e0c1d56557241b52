//! A node that nobody here wrote: Yaws, a web server of Erlang, as Debian packages it.

use std::fs;
use std::path::Path;

use flyhot_tests::{Flyhot, Node, Otp, Release, Scratch, TrafficBuilder, free_port, rounds};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// Starts Yaws with two files to list.
fn start(release: &Release, scratch: &Path) -> (Node, u16) {
    let port = free_port();
    for directory in ["log", "www"] {
        fs::create_dir(scratch.join(directory)).unwrap();
    }
    for file in ["one.txt", "two.txt"] {
        fs::write(scratch.join("www").join(file), file).unwrap();
    }
    let conf = scratch.join("yaws.conf");
    let text = include_str!("../fixtures/foreign/yaws.conf")
        .replace("DIRECTORY", scratch.to_str().unwrap())
        .replace("PORT", &port.to_string());
    fs::write(&conf, text).unwrap();
    let node = Node::release(release)
        .flags(["-conf", conf.to_str().unwrap()])
        .start();
    (node, port)
}

/// Visits of its list of files, in either version.
fn visits(port: u16) -> TrafficBuilder {
    TrafficBuilder::new(port, |_| "/".to_owned())
        .per_second(100)
        .connections(20)
        .check(|body| body.contains("one.txt") && (body.contains("Index of") || body.contains("Listing of")))
}

/// What one visit says.
fn title(port: u16, what: &'static str) {
    let tally = {
        let traffic = visits(port).check(move |body| body.contains(what)).start();
        flyhot_tests::wait_until("a visit", std::time::Duration::from_secs(30), || {
            traffic.served() > 5
        });
        traffic.stop()
    };
    assert_eq!(tally.failures(), NONE, "not {what}");
}

#[test]
fn census_plan_and_an_upgrade_of_a_web_server_under_its_own_traffic() {
    let otp = Otp::under_test();
    let yaws = Release::yaws(otp);
    let scratch = Scratch::new("yaws");
    let changed = {
        let directory = scratch.path().join("changed");
        fs::create_dir(&directory).unwrap();
        let copied = yaws.copied(&directory);
        copied.recompile("yaws", "yaws_ls", "Index of", "Listing of");
        // A gen_server, with a state that has to live on.
        copied.recompile("yaws", "yaws_session_server", "Cookie ", "Kookie ");
        copied
    };
    let (node, port) = start(&yaws, scratch.path());
    let probe = node.probe();
    let cookie = probe.eval("yaws_api:new_cookie_session(kept).");
    let kept = format!("yaws_api:cookieval_to_opaque({cookie}).");
    let before = probe.md5s();

    let same = Flyhot::plan(&node, &yaws).run();
    same.expect("nothing_to_do", 0);
    let census = &same.events_named("census").next().unwrap().json["census"];
    assert!(census["processes"].as_u64().unwrap() > 50, "{same}");

    let run = Flyhot::plan(&node, &changed).run();
    run.expect("planned", 0);
    let plan = &run.events_named("plan").next().unwrap().json;
    assert_eq!(
        plan["modules"]["changed"],
        serde_json::json!(["yaws_ls", "yaws_session_server"]),
        "{run}"
    );
    let kinds: Vec<&Value> = plan["kinds"].as_array().unwrap().iter().collect();
    assert!(
        kinds
            .iter()
            .any(|kind| kind["host"] == "yaws_session_server" && kind["behaviour"] == "gen_server"),
        "{run}"
    );

    let traffic = visits(port).start();
    for _ in 0..rounds(1, 20) {
        for (release, args, what) in [
            (&changed, &[][..], "Listing of"),
            (&yaws, &["--down"][..], "Index of"),
        ] {
            let run = Flyhot::upgrade(&node, release).args(args.iter().copied()).run();
            run.expect("upgraded", 0);
            assert_eq!(run.node(0)["modules"]["changed"], 2, "{run}");
            title(port, what);
            assert_eq!(probe.eval(&kept), "{ok,kept}", "{run}");
            assert_eq!(probe.suspended(), NONE, "{run}");
            assert_eq!(probe.traces(), NONE, "{run}");
        }
    }
    let tally = traffic.stop();
    assert_eq!(tally.failures(), NONE);
    assert!(tally.ok() > 0);
    assert_eq!(probe.md5s(), before);
}

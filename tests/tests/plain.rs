//! A release of Erlang alone, put together by systools, with a start script of its own, under a short name: records, `.appup`
//! files, an application that is new.

use flyhot_tests::{Flyhot, Node, Otp, Release, Scratch, rounds};

const NONE: [&str; 0] = [];

/// Where no program lies.
const NOWHERE: &str = "/var/empty/flyhot";

fn till(code: &str) -> Release {
    Release::till(Otp::under_test(), code, false)
}

fn start(release: &Release) -> Node {
    Node::release(release).short_name().env("PATH", NOWHERE).start()
}

/// The states of all registers, in order, without their numbers.
fn states(node: &Node) -> Vec<Vec<i64>> {
    let states = node
        .probe()
        .json("[tl(tl(tuple_to_list(sys:get_state(P)))) || {_, P} <- till_sup:registers()].");
    serde_json::from_value(states).unwrap()
}

/// What the application runs: its modules and its version.
fn runs(node: &Node) -> (Vec<(String, String)>, String) {
    let modules = node.probe().md5s().into_iter();
    (
        modules.filter(|(module, _)| module.starts_with("till")).collect(),
        node.probe()
            .eval("{ok, Vsn} = application:get_key(till, vsn), Vsn."),
    )
}

#[test]
fn an_upgrade_of_records_and_its_way_back() {
    let (v1, v2) = (till("v1"), till("v2"));
    let (old, new) = (runs(&start(&v1)), runs(&start(&v2)));
    let node = start(&v1);
    assert_eq!(
        node.probe()
            .eval("{os:find_executable(\"elixir\"), code:which('Elixir.Kernel')}."),
        "{false,non_existing}"
    );
    let pids = || node.probe().eval("till_sup:registers().");
    let before = pids();
    for _ in 0..rounds(1, 20) {
        let up = Flyhot::upgrade(&node, &v2).run();
        up.expect("upgraded", 0);
        assert_eq!(up.node(0)["processes"]["migrated"], 50, "{up}");
        let note = up.reason("appup_ignored");
        assert_eq!(
            (&note["severity"], &note["subject"]),
            (&"note".into(), &"till".into()),
            "{up}"
        );
        // An application that runs goes on under the version that it was started as.
        let running = runs(&node);
        assert_eq!(running.1, old.1, "{up}");
        assert!(new.0.iter().all(|module| running.0.contains(module)), "{up}");
        assert_eq!(states(&node)[0].len(), 3, "{up}");

        // What was started from the disk has never known another version.
        assert_eq!(runs(&start(&node.disk())), new, "{up}");

        let down = Flyhot::upgrade(&node, &v1).args(["--down"]).run();
        down.expect("upgraded", 0);
        assert!(!down.reason_codes().contains(&"appup_ignored"), "{down}");
        assert_eq!(states(&node)[0].len(), 2, "{down}");
        assert_eq!(runs(&start(&node.disk())), old, "{down}");
        assert_eq!(pids(), before, "{down}");
        assert_eq!(node.probe().suspended(), NONE, "{down}");
        assert_eq!(node.probe().traces(), NONE, "{down}");
    }
    // No coin was lost on the way, and the clerk was never refused one.
    let taken = node.probe().json("till_clerk:taken().").as_i64().unwrap();
    let coins: i64 = states(&node).iter().map(|state| state[0]).sum();
    assert!(taken > 0);
    assert_eq!(coins, taken);
}

#[test]
fn the_other_commands_know_it_too() {
    let node = start(&till("v1"));
    let status = Flyhot::ask("status", &node).run();
    status.expect("done", 0);
    let said = &status.events_named("status").next().unwrap().json;
    let text = said.to_string();
    assert!(text.contains("\"till\"") && text.contains("1.0.0"), "{status}");
    let thaw = Flyhot::ask("thaw", &node).run();
    thaw.expect("done", 0);
    let doctor = Flyhot::ask("doctor", &node).run();
    doctor.expect("done", 0);
    assert!(
        doctor.stdout.contains("-name") && !doctor.stdout.contains("env.sh.eex"),
        "{doctor}"
    );
}

/// It is accepted, its modules are loaded, and the next start starts it: with its files, and with the modes of these.
#[test]
fn an_application_that_is_new_is_started_by_the_next_start() {
    let otp = Otp::under_test();
    let (v1, more) = (till("v1"), Release::till(otp, "v2", true));
    let node = start(&v1);
    let refused = Flyhot::upgrade(&node, &more).run();
    refused.expect("refused", 10);
    let run = Flyhot::upgrade(&node, &more)
        .args(["--accept", "application_added"])
        .run();
    run.expect("upgraded", 0);
    assert!(!run.reason_codes().contains(&"not_persisted"), "{run}");
    let running = "lists:keymember(bell, 1, application:which_applications()).";
    assert_eq!(node.probe().eval(running), "false", "{run}");
    let disk = node.disk();
    let again = start(&disk);
    assert_eq!(again.probe().eval(running), "true", "{run}");
    let fresh = start(&more);
    assert_eq!(runs(&again), runs(&fresh), "{run}");

    // What runs it, and starts without it, has its files all the same when it is written anew.
    node.probe().eval("ok = application:start(bell), ok.");
    Flyhot::ask("restore-base", &node).run().expect("done", 0);
    let anew = Flyhot::upgrade(&node, &more).run();
    anew.expect("nothing_to_do", 0);
    assert_eq!(start(&node.disk()).probe().eval(running), "true", "{anew}");

    // And where it is there already, its files go with it, from one version of it to the next and the next.
    let ringing = |tag: &str| {
        let scratch = Scratch::new("ringing");
        let release = more.copied(scratch.path());
        release.recompile("bell", "bell_app", "bell rings", tag);
        // Nothing of the generation before stays in use.
        release.recompile("till", "till_receipt", "a receipt", tag);
        (release, scratch)
    };
    let mut last = again;
    for tag in ["bell rings loudly", "bell rings softly", "bell rings no more"] {
        let (release, _scratch) = ringing(tag);
        // What starts of another version or nodes of another name may load is kept for them: here are none.
        for others in ["flyhot/nodes", "releases/1.0.0"] {
            let _ = std::fs::remove_dir_all(last.directory().join(others));
        }
        let run = Flyhot::upgrade(&last, &release).run();
        run.expect("upgraded", 0);
        last = start(&last.disk());
        assert_eq!(last.probe().eval(running), "true", "{run}");
        assert_eq!(last.probe().eval("bell_app:tag()."), format!("{tag:?}"), "{run}");
    }
    let down = Flyhot::upgrade(&last, &v1)
        .args(["--down", "--accept", "application_removed"])
        .run();
    down.expect("upgraded", 0);
    assert_eq!(runs(&start(&last.disk())), runs(&start(&v1)), "{down}");
}

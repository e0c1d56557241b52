//! What an operator asks of nodes: what they run, who is suspended there, whether they can be upgraded. Asking loads nothing
//! there and disturbs nobody.

use flyhot_tests::{Fault, Flyhot, Node, Otp, Release, Run, Shop, rounds};
use serde_json::Value;

const NONE: [&str; 0] = [];

fn small(release: &Release) -> Shop {
    Shop::of(release).carts(20).pool(10).start()
}

/// What each node that answered said, in order.
fn statuses(run: &Run) -> Vec<Value> {
    run.events_named("status")
        .map(|event| event.json["status"].clone())
        .collect()
}

fn status(node: &Node) -> Value {
    let run = Flyhot::ask("status", node).run();
    run.expect("done", 0);
    let [one] = &statuses(&run)[..] else {
        panic!("{run}")
    };
    one.clone()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect()
}

/// A shop whose code every node can load a second time: nobody but the test knows the module.
fn with_keeper(tag: &str) -> Release {
    Release::shop(Otp::under_test(), "v1")
        .variant()
        .erlang(
            "keeper",
            &include_str!("../fixtures/old_code/keeper.erl").replace("?TAG", tag),
        )
        .build()
}

#[test]
fn many_nodes_are_asked_and_compared() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let (old, new) = (small(&v1), small(&v1));
    new.shares_cookie_of(&old);
    let upgrade = Flyhot::upgrade(&new, &v2)
        .env("RELEASE_COOKIE", old.cookie())
        .run();
    upgrade.expect("upgraded", 0);
    let ids = upgrade.node(0)["code_id"].clone();

    let before = [old.probe().counts(), new.probe().counts()];
    let run = Flyhot::ask("status", &old)
        .args(["--node", new.name(), "--node", "nobody@127.0.0.1"])
        .run();
    run.expect("failed", 24);
    let errors: Vec<_> = run.events_named("error").collect();
    assert_eq!(errors.len(), 1, "{run}");
    assert_eq!(errors[0].json["node"], "nobody@127.0.0.1", "{run}");
    let [one, two] = &statuses(&run)[..] else {
        panic!("{run}")
    };
    assert_eq!(one["code_id"], ids["before"], "{run}");
    assert_eq!(two["code_id"], ids["after"], "{run}");
    assert!(names(&one["differing"]).is_empty(), "{run}");
    assert!(names(&two["differing"]).contains(&"Shop.Cart"), "{run}");
    assert_eq!(one["last"], Value::Null, "{run}");
    assert_eq!(two["last"]["outcome"], "upgraded", "{run}");
    assert_eq!(two["last"]["code_id"], ids, "{run}");
    assert_eq!(two["last"]["release"], v2.directory().to_str().unwrap(), "{run}");
    for (shop, status) in [(&old, one), (&new, two)] {
        let told = |ask: &str| shop.probe().json(ask);
        assert_eq!(
            status["otp"],
            told("list_to_binary(erlang:system_info(otp_release))."),
            "{run}"
        );
        assert_eq!(
            status["erts"],
            told("list_to_binary(erlang:system_info(version))."),
            "{run}"
        );
        assert_eq!(status["embedded"], true, "{run}");
        let apps = status["applications"].as_array().unwrap();
        assert_eq!(apps.len(), 1, "{run}");
        assert_eq!(
            (&apps[0]["name"], &apps[0]["running"]),
            (&"shop".into(), &true.into()),
            "{run}"
        );
        assert!(status["drift"].as_array().unwrap().is_empty(), "{run}");
        assert_eq!(status["suspended_count"], 0, "{run}");
        assert_eq!(status["under_way"], Value::Null, "{run}");
        assert_eq!(shop.probe().traces(), NONE, "{run}");
    }
    for (shop, before) in [&old, &new].into_iter().zip(before) {
        assert_eq!(
            shop.probe().counts().persistent_terms,
            before.persistent_terms,
            "{run}"
        );
        assert!(shop.probe().counts().processes <= before.processes, "{run}");
    }
}

#[test]
fn what_is_not_as_usual_is_named() {
    let shop = small(&with_keeper("v1"));
    shop.probe().eval(
        "{module, keeper} = code:load_file(keeper),
         register(looping, spawn(keeper, loop, [])), ok.",
    );
    assert!(names(&status(&shop)["old_code"]).is_empty());

    // Code that is on no disk: the process goes on in what is old now.
    let other = with_keeper("v2").ebin("shop").join("keeper.beam");
    shop.probe().eval(&format!(
        "{{ok, Beam}} = file:read_file({other:?}),
         {{module, keeper}} = code:load_binary(keeper, code:which(keeper), Beam),
         Cart = hd([P || P <- processes(), {{_, D}} <- [process_info(P, dictionary)],
                         {{_, {{'Elixir.Shop.Cart', _, _}}}} <- [lists:keyfind('$initial_call', 1, D)]]),
         ok = sys:suspend(Cart),
         Held = spawn(timer, sleep, [infinity]),
         register(held, Held),
         register(holder, spawn(fun() -> erlang:suspend_process(Held), timer:sleep(infinity) end)),
         (fun Wait() -> case process_info(Held, status) of {{_, suspended}} -> ok; _ -> timer:sleep(1), Wait() end end)()."
    ));
    let seen = status(&shop);
    let drift = seen["drift"].as_array().unwrap();
    assert_eq!(drift.len(), 1, "{seen:#}");
    assert_eq!(drift[0]["module"], "keeper", "{seen:#}");
    assert_eq!(
        drift[0]["loaded"],
        shop.probe().md5s()["keeper"].as_str(),
        "{seen:#}"
    );
    assert_ne!(drift[0]["loaded"], drift[0]["file"], "{seen:#}");
    assert_eq!(names(&seen["old_code"]), ["keeper"], "{seen:#}");
    let lingerers = seen["lingerers"].as_array().unwrap();
    assert_eq!(lingerers.len(), 1, "{seen:#}");
    assert_eq!(
        (&lingerers[0]["name"], &lingerers[0]["how"]),
        (&"looping".into(), &"old_code".into())
    );
    assert!(
        names(&lingerers[0]["stack"]).contains(&"keeper:loop/0"),
        "{seen:#}"
    );
    assert_eq!(seen["suspended_count"], 2, "{seen:#}");
    let mut how: Vec<_> = seen["suspended"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| {
            (
                process["how"].as_str().unwrap(),
                process["module"].as_str().unwrap(),
                process["name"].as_str(),
            )
        })
        .collect();
    how.sort_unstable();
    assert_eq!(
        how,
        [
            ("suspend_process", "timer", Some("held")),
            ("sys", "Shop.Cart", None)
        ],
        "{seen:#}"
    );
}

/// It is asked again and again through a whole upgrade, which neither knows of it nor is refused.
#[test]
fn an_upgrade_under_way_is_told_and_not_disturbed() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    for _ in 0..rounds(1, 10) {
        let shop = small(&v1);
        shop.probe()
            .plan_faults(&[Fault::new("worker", "drain", 1, "{delay, 6000}")]);
        let mut upgrade = Flyhot::upgrade(&shop, &v2).faulty().spawn();
        upgrade.wait_for_step("drain");
        let seen = status(&shop);
        assert!(
            seen["under_way"]["holder"]
                .as_str()
                .unwrap()
                .starts_with("flyhot "),
            "{seen:#}"
        );
        assert_eq!(seen["under_way"]["step"], "drain", "{seen:#}");
        for _ in 0..5 {
            status(&shop);
        }
        upgrade.wait().expect("upgraded", 0);
        assert_eq!(status(&shop)["under_way"], Value::Null);
        assert_eq!(shop.probe().traces(), NONE);
    }
}

#[test]
fn people_read_a_table() {
    let shop = small(&Release::shop(Otp::under_test(), "v1"));
    let run = Flyhot::new(["status", "--node", shop.name()]).of(&shop).run();
    assert_eq!(run.exit_code, Some(0), "{run}");
    for part in ["NODE", shop.name(), "shop 1.0.0", "well", "done"] {
        assert!(run.stdout.contains(part), "{part}: {run}");
    }
}

/// Suspends three carts by sys, one of them asleep to all the world, and one process by another.
const SUSPEND: &str = "
    Carts = [P || P <- processes(), {_, D} <- [process_info(P, dictionary)],
                  {_, {'Elixir.Shop.Cart', _, _}} <- [lists:keyfind('$initial_call', 1, D)]],
    [ok = sys:suspend(C) || C <- lists:sublist(Carts, 3)],
    Held = spawn(timer, sleep, [infinity]),
    register(holder, spawn(fun() -> erlang:suspend_process(Held), timer:sleep(infinity) end)),
    (fun Wait() -> case process_info(Held, status) of {_, suspended} -> ok; _ -> timer:sleep(1), Wait() end end)().";

#[test]
fn who_is_suspended_is_shown_and_resumed_when_that_is_asked_for() {
    let shop = small(&Release::shop(Otp::under_test(), "v1"));
    let thaw = |args: &[&str]| Flyhot::ask("thaw", &shop).args(args.iter().copied()).run();
    let thawed = |run: &Run| run.events_named("thaw").next().unwrap().json.clone();
    let run = thaw(&["--apply"]);
    run.expect("done", 0);
    assert_eq!(
        (&thawed(&run)["resumed"], &thawed(&run)["still_count"]),
        (&0.into(), &0.into()),
        "{run}"
    );

    shop.probe().eval(SUSPEND);
    let run = thaw(&[]);
    run.expect("done", 0);
    let seen = thawed(&run);
    assert_eq!(
        (&seen["resumed"], &seen["still_count"]),
        (&0.into(), &4.into()),
        "{run}"
    );
    let by_sys = seen["still"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|process| process["how"] == "sys");
    assert_eq!(by_sys.count(), 3, "{run}");
    assert_eq!(shop.probe().suspended().len(), 3, "{run}");

    let run = thaw(&["--apply"]);
    run.expect("failed", 13);
    let seen = thawed(&run);
    assert_eq!(
        (&seen["resumed"], &seen["still_count"]),
        (&3.into(), &1.into()),
        "{run}"
    );
    assert_eq!(seen["still"][0]["how"], "suspend_process", "{run}");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");

    // Who holds it ends, and with that the hold.
    shop.probe().eval("exit(whereis(holder), kill), ok.");
    thaw(&["--apply"]).expect("done", 0);
}

/// It would resume what an upgrade has suspended.
#[test]
fn nobody_is_resumed_while_somebody_is_at_work() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = small(&v1);
    shop.probe()
        .plan_faults(&[Fault::new("worker", "drain", 1, "{delay, 2000}")]);
    let mut upgrade = Flyhot::upgrade(&shop, &v2).faulty().spawn();
    upgrade.wait_for_step("drain");
    Flyhot::ask("thaw", &shop)
        .args(["--apply"])
        .run()
        .expect("refused", 20);
    upgrade.wait().expect("upgraded", 0);
    assert_eq!(shop.probe().traces(), NONE);
}

/// The checks of a node: what was looked at, and whether it is well.
fn checks(run: &Run) -> Vec<(String, bool)> {
    run.events_named("check")
        .map(|event| {
            let text = |key: &str| event.json[key].as_str().unwrap().to_owned();
            let well = event.json["well"].as_bool().unwrap();
            assert_eq!(text("fix").is_empty(), well, "{run}");
            assert!(!text("found").is_empty(), "{run}");
            (text("check"), well)
        })
        .collect()
}

fn ill(run: &Run) -> Vec<String> {
    checks(run)
        .into_iter()
        .filter(|(_, well)| !well)
        .map(|(check, _)| check)
        .collect()
}

#[test]
fn a_node_is_examined_check_by_check() {
    let shop = small(&Release::shop(Otp::under_test(), "v1"));
    let examine = || Flyhot::ask("doctor", &shop);
    let run = examine().run();
    run.expect("done", 0);
    let names: Vec<_> = checks(&run).into_iter().map(|(check, _)| check).collect();
    assert_eq!(
        names,
        [
            "keys",
            "host",
            "epmd",
            "port",
            "handshake",
            "cookie",
            "name",
            "listener",
            "toolchain",
            "sasl",
            "disk",
            "memory",
            "clock",
            "nobody else",
            "start"
        ],
        "{run}"
    );
    assert!(run.stdout.contains("not by `flyhot boot`"), "{run}");
    // The tests reach their nodes by loopback alone.
    assert_eq!(ill(&run), ["name"], "{run}");
    assert!(run.stdout.contains("env.sh.eex"), "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");

    let wrong = examine().env("RELEASE_COOKIE", "wrong").run();
    wrong.expect("failed", 24);
    assert_eq!(ill(&wrong), ["cookie"], "{wrong}");

    let keys = examine().env("FLYHOT_PUBLIC_KEYS", "").run();
    keys.expect("refused", 2);
    assert_eq!(ill(&keys), ["keys", "name"], "{keys}");

    let nobody = Flyhot::new(["doctor", "--node", "nobody@127.0.0.1", "--output", "json"])
        .of(&shop)
        .run();
    nobody.expect("failed", 24);
    assert_eq!(ill(&nobody), ["epmd"], "{nobody}");

    let bound = Node::erl(Otp::under_test())
        .flags(["-kernel", "inet_dist_use_interface", "{127,0,0,1}"])
        .start();
    let run = Flyhot::ask("doctor", &bound).run();
    run.expect("done", 0);
    assert!(ill(&run).contains(&"listener".to_owned()), "{run}");
}

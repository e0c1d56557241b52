//! The policy file on real nodes: hosts that processes do not show, accepted reasons, hooks and the gate.

use std::fs;

use flyhot_tests::{Flyhot, Otp, Release, Run, Shop, wait_until};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// Longer than a retry of the freeze ever takes.
const SOON: std::time::Duration = std::time::Duration::from_secs(30);

/// The fixtures in the version `code`, in the shop of the version `base`.
fn built(base: &str, code: &str) -> Release {
    let of = |source: &str| source.replace("?TAG", code).replace("TAG", code);
    Release::shop(Otp::under_test(), base)
        .variant()
        .erlang(
            "shop_prequeue",
            include_str!("../fixtures/policy/shop_prequeue.erl"),
        )
        .erlang(
            "shop_queue",
            &of(include_str!("../fixtures/policy/shop_queue.erl")),
        )
        .erlang(
            "shop_hooks",
            &of(include_str!("../fixtures/policy/shop_hooks.erl")),
        )
        .build()
}

fn release(code: &str) -> Release {
    built("v1", code)
}

/// Loads the fixtures' modules, as a boot file of theirs would do it.
fn load(shop: &Shop) {
    shop.probe()
        .eval("[{module, M} = code:load_file(M) || M <- [shop_prequeue, shop_queue, shop_hooks]], ok.");
}

fn start(release: &Release) -> Shop {
    let shop = Shop::of(release).carts(10).pool(10).start();
    load(&shop);
    shop
}

/// The command with a policy file of this text.
fn by(command: Flyhot, shop: &Shop, policy: &str) -> Flyhot {
    let file = shop.directory().join("flyhot.toml");
    fs::write(&file, policy).unwrap();
    command.args(["--policy", file.to_str().unwrap()])
}

fn upgrade(shop: &Shop, to: &Release, policy: &str) -> Run {
    by(Flyhot::upgrade(shop, to), shop, policy).run()
}

fn plan(shop: &Shop, to: &Release, policy: &str) -> Run {
    by(Flyhot::plan(shop, to), shop, policy).run()
}

/// Which hooks were called so far, each with the version that ran and whether its group leader was `user`.
fn called(shop: &Shop) -> String {
    shop.probe().eval("application:get_env(shop, called, []).")
}

/// The version of shop_queue that the node runs.
fn version(shop: &Shop) -> String {
    shop.probe().eval("element(1, shop_queue:new(0)).")
}

fn clean(shop: &Shop, run: &Run) {
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

fn reasons<'a>(run: &'a Run, code: &str) -> Vec<&'a Value> {
    let reasons = run.node(0)["reasons"].as_array().unwrap();
    reasons.iter().filter(|reason| reason["code"] == code).collect()
}

/// The one reason of this code.
#[track_caller]
fn reason<'a>(run: &'a Run, code: &str) -> &'a Value {
    let reasons = reasons(run, code);
    assert_eq!(reasons.len(), 1, "{code}: {run}");
    reasons[0]
}

fn planned<'a>(run: &'a Run, host: &str) -> Option<&'a Value> {
    let plan = run.events_named("plan").next().unwrap_or_else(|| panic!("{run}"));
    let kinds = plan.json["kinds"].as_array().unwrap();
    kinds.iter().find(|kind| kind["host"] == host)
}

fn steps(run: &Run, name: &str) -> Vec<String> {
    run.events_named(name)
        .map(|event| event.json["step"].as_str().unwrap().to_owned())
        .collect()
}

/// Twenty queues: started as gen_servers, by proc_lib alone, and of each some that hibernate.
fn queues(shop: &Shop) {
    shop.probe().eval(
        "[begin
              {ok, P} = case N rem 2 of 0 -> shop_prequeue:start(N); 1 -> shop_prequeue:start_bare(N) end,
              N > 15 andalso gen_server:cast(P, sleep),
              true = register(list_to_atom(\"queue_\" ++ integer_to_list(N)), P)
          end || N <- lists:seq(1, 20)], ok.",
    );
    wait_until("queues hibernate", SOON, || {
        shop.probe().eval(
            "length([N || N <- lists:seq(16, 20), P <- [whereis(list_to_atom(\"queue_\" ++ integer_to_list(N)))],
                 {_, {_, F, _}} <- [process_info(P, current_function)], lists:suffix(\"hibernate\", atom_to_list(F))]).",
        ) == "5"
    });
}

const QUEUES: &str =
    "[{N, whereis(Q)} || N <- lists:seq(1, 20), Q <- [list_to_atom(\"queue_\" ++ integer_to_list(N))]]";

fn states(shop: &Shop) -> String {
    shop.probe().eval(&format!(
        "lists:usort([{{V, Told}} || {{N, P}} <- {QUEUES}, {{V, M, Told}} <- [sys:get_state(P)], M =:= N])."
    ))
}

#[test]
fn processes_that_became_another_module_are_migrated_where_the_policy_names_it() {
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = start(&v1);
    queues(&shop);
    let pids = shop.probe().eval(&format!("{QUEUES}."));
    for hosts in [
        "shop_prequeue = \"shop_queue\"",
        "shop_prequeue = [\"shop_queue\", \"Shop.Cart\"]",
    ] {
        let plan = plan(&shop, &v2, &format!("[hosts]\n{hosts}\n"));
        let kind = planned(&plan, "shop_queue").unwrap_or_else(|| panic!("{plan}"));
        assert_eq!(
            (&kind["behaviour"], &kind["fate"], &kind["rehearsal"]),
            (&"gen_server".into(), &"migrate".into(), &"in_place".into()),
            "{plan}"
        );
        assert_eq!(kind["why"], "[hosts]: it shows shop_prequeue", "{plan}");
        assert!(planned(&plan, "shop_prequeue").is_none(), "{plan}");
    }
    let run = upgrade(&shop, &v2, "[hosts]\nshop_prequeue = \"shop_queue\"\n");
    run.expect("upgraded", 0);
    assert_eq!(run.node(0)["processes"]["migrated"], 20, "{run}");
    assert_eq!(states(&shop), "[{v2,queue_v1}]", "{run}");
    assert_eq!(shop.probe().eval(&format!("{QUEUES}.")), pids, "{run}");
    let numbers = format!("lists:sum([gen_server:call(P, number) || {{_, P}} <- {QUEUES}]).");
    assert_eq!(shop.probe().eval(&numbers), "210", "{run}");
    assert!(!run.reason_codes().contains(&"policy_unused"), "{run}");
    assert!(!run.reason_codes().contains(&"host_not_shown"), "{run}");
    clean(&shop, &run);
}

/// Nothing that a process shows says whose callbacks it runs: it keeps its state, and nobody claims otherwise.
#[test]
fn without_the_policy_they_are_not_migrated_and_the_plan_says_whom_no_process_shows() {
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = start(&v1);
    queues(&shop);
    let before = states(&shop);
    let plan = Flyhot::plan(&shop, &v2).run();
    plan.expect("planned", 0);
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    for run in [&plan, &run] {
        for name in ["shop_queue", "shop_prequeue"] {
            assert!(planned(run, name).is_none(), "{run}");
        }
        let said = reason(run, "host_not_shown");
        assert_eq!(said["subject"], "shop_queue", "{run}");
        assert!(said["hint"].as_str().unwrap().contains("[hosts]"), "{run}");
    }
    assert_eq!(run.node(0)["processes"]["affected"], 0, "{run}");
    assert_eq!(
        (before.as_str(), states(&shop)),
        ("[{v1,none}]", before.clone()),
        "{run}"
    );
    assert_eq!(version(&shop), "v2", "{run}");
    clean(&shop, &run);
}

/// A newborn is of the kind that the policy makes of what it shows, or the attempt is given up. One that slips into the
/// instant of the swap, which only a starter that is no supervisor can do, is named.
#[test]
fn queues_that_are_born_meanwhile_are_not_left_behind() {
    let (v1, v2) = (release("v1"), release("v2"));
    for start_one in [
        "'Elixir.DynamicSupervisor':start_child(born, #{id => N, start => {shop_prequeue, start_link, [N]}})",
        "shop_prequeue:start(N)",
    ] {
        let shop = start(&v1);
        shop.probe().eval(&format!(
            "{{ok, Sup}} = 'Elixir.DynamicSupervisor':start_link([{{name, born}}, {{strategy, one_for_one}}]), unlink(Sup),
             Born = fun(Born, N) ->
                 {{ok, P}} = {start_one},
                 register(list_to_atom(\"born_\" ++ integer_to_list(N)), P),
                 receive stop -> ok after 1 -> Born(Born, N + 1) end
             end,
             register(midwife, spawn(fun() -> Born(Born, 1) end)), ok."
        ));
        let run = upgrade(&shop, &v2, "[hosts]\nshop_prequeue = \"shop_queue\"\n");
        shop.probe().eval("midwife ! stop, ok.");
        let of_old_code = shop.probe().json(
            "[iolist_to_binary([pid_to_list(whereis(N)), \" (\", atom_to_list(N), \")\"]) || N <- registered(),
                 lists:prefix(\"born_\", atom_to_list(N)), element(1, sys:get_state(N)) =:= v1].",
        );
        let of_old_code: Vec<_> = of_old_code.as_array().unwrap().iter().collect();
        match run.exit_code {
            Some(0 | 15) => {
                let named: Vec<_> = reasons(&run, "newborn")
                    .iter()
                    .map(|reason| &reason["subject"])
                    .collect();
                let unnamed: Vec<_> = of_old_code.iter().filter(|one| !named.contains(one)).collect();
                assert!(unnamed.is_empty(), "{unnamed:?}: {run}");
                assert_eq!(run.exit_code == Some(15), !named.is_empty(), "{run}");
                assert!(
                    start_one.starts_with("shop_prequeue") || of_old_code.is_empty(),
                    "{run}"
                );
            }
            Some(14) => assert_eq!(version(&shop), "v1", "{run}"),
            _ => panic!("{run}"),
        }
        clean(&shop, &run);
    }
}

#[test]
fn a_line_that_applies_to_nothing_is_a_warning() {
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = start(&v1);
    queues(&shop);
    let hosts = "[hosts]\nshop_prequeue = [\"shop_queue\", \"Shop.Nowhere\"]\nshop_preqeue = \"shop_queue\"\n\
                 supervisor = \"shop_queue\"\n";
    let run = plan(&shop, &v2, hosts);
    run.expect("planned", 0);
    let subjects: Vec<_> = reasons(&run, "policy_unused")
        .iter()
        .map(|reason| (&reason["subject"], &reason["severity"]))
        .collect();
    let warning = &Value::from("warning");
    assert_eq!(
        subjects,
        [
            (&"shop_preqeue".into(), warning),
            (&"Shop.Nowhere".into(), warning),
            (&"supervisor".into(), warning),
        ],
        "{run}"
    );
}

#[test]
fn who_reads_the_outcome_sees_what_was_accepted_where_and_why() {
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = start(&v1);
    let extra = shop.directory().join("lib/extra-0.1.0/ebin");
    fs::create_dir_all(&extra).unwrap();
    fs::write(
        extra.join("extra.app"),
        "{application, extra, [{description, \"\"}, {vsn, \"0.1.0\"}, {modules, []}, {applications, [kernel, stdlib]}]}.",
    )
    .unwrap();
    shop.probe().eval(&format!(
        "true = code:add_patha({extra:?}), ok = application:start(extra)."
    ));
    let cold = Flyhot::upgrade(&shop, &v2).run();
    cold.expect("refused", 10);
    assert_eq!(reason(&cold, "application_removed")["severity"], "cold", "{cold}");
    assert_eq!(
        cold.events_named("started").next().unwrap().json["policy"],
        Value::Null
    );

    let policy = "[accept]\napplication_removed = \"it is idle\"\nmemory = \"swap\"\n";
    for run in [plan(&shop, &v2, policy), upgrade(&shop, &v2, policy)] {
        assert_eq!(run.exit_code, Some(0), "{run}");
        let accepted = reason(&run, "application_removed");
        let file = shop.directory().join("flyhot.toml");
        let words = format!("; accepted in {}: it is idle", file.display());
        assert_eq!(accepted["severity"], "warning", "{run}");
        assert!(accepted["sentence"].as_str().unwrap().ends_with(&words), "{run}");
        let started = run.events_named("started").next().unwrap();
        assert_eq!(started.json["policy"], file.to_str().unwrap(), "{run}");
    }
    assert_eq!(version(&shop), "v2");
}

#[test]
fn hooks_run_before_on_the_old_code_and_after_on_the_new() {
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = start(&v1);
    let policy = "[hooks]\nbefore = [\"shop_hooks:ok\", \"shop_hooks:yes\"]\n\
                  after = [\"shop_hooks:with\", \"shop_hooks:ok\"]\n[gate]\ncall = \"shop_hooks:yes\"\n";
    let seen = plan(&shop, &v2, policy);
    seen.expect("planned", 0);
    let calls = &seen.events_named("plan").next().unwrap().json["calls"];
    assert_eq!(
        *calls,
        serde_json::json!({
            "before": ["shop_hooks:ok/0", "shop_hooks:yes/0"],
            "after": ["shop_hooks:with/0", "shop_hooks:ok/0"],
            "gate": "shop_hooks:yes/0",
        }),
        "{seen}"
    );
    assert_eq!(called(&shop), "[]", "{seen}");

    let run = upgrade(&shop, &v2, policy);
    run.expect("upgraded", 0);
    assert!(!run.reason_codes().contains(&"hooks_not_undone"), "{run}");
    assert_eq!(
        called(&shop),
        "[{ok,v1,true},{yes,v1,true},{with,v2,true},{ok,v2,true},{yes,v2,true}]",
        "{run}"
    );
    let done = steps(&run, "step_done");
    let order: Vec<_> = done
        .iter()
        .filter(|step| {
            [
                "hooks_before",
                "knock",
                "window",
                "persist",
                "hooks_after",
                "gate",
            ]
            .contains(&step.as_str())
        })
        .collect();
    assert_eq!(
        order,
        [
            "hooks_before",
            "knock",
            "window",
            "persist",
            "hooks_after",
            "gate"
        ],
        "{run}"
    );
    clean(&shop, &run);
}

/// The time that a hook gets, as a line of the policy: a loaded machine must not fail the others.
fn timeout(way: &str) -> &'static str {
    if way == "hangs" { "timeout = \"2s\"" } else { "" }
}

/// Ways to fail, and what is said of each.
const WAYS: [(&str, &str); 9] = [
    ("no", "answered false"),
    ("nothing", "answered nil"),
    ("undefined", "answered undefined"),
    ("refused", "answered {error,down}"),
    ("raises", "bad_luck"),
    ("exits", "no_more"),
    ("throws", "answered {not_today,1}"),
    ("hangs", "no answer within 2000 ms"),
    ("long", "..."),
];

#[test]
fn a_before_hook_that_does_not_succeed_refuses_the_upgrade() {
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = start(&v1);
    queues(&shop);
    let before = shop.probe().md5s();
    for (way, said) in WAYS {
        shop.probe().eval("application:unset_env(shop, called).");
        let run = upgrade(
            &shop,
            &v2,
            &format!(
                "[hosts]\nshop_prequeue = \"shop_queue\"\n[hooks]\n{}\n\
                 before = [\"shop_hooks:ok\", \"shop_hooks:{way}\", \"shop_hooks:yes\"]\nafter = [\"shop_hooks:with\"]\n",
                timeout(way)
            ),
        );
        run.expect("refused", 10);
        let failed = reason(&run, "before_hook_failed");
        assert_eq!(failed["subject"], format!("shop_hooks:{way}/0"), "{run}");
        let sentence = failed["sentence"].as_str().unwrap();
        assert!(sentence.contains(said) && sentence.len() < 1_000, "{run}");
        assert!(failed["hint"].as_str().unwrap().contains("not undone"), "{run}");
        assert_eq!(
            called(&shop),
            format!("[{{ok,v1,true}},{{{way},v1,true}}]"),
            "{run}"
        );
        assert_eq!(shop.probe().md5s(), before, "{run}");
        assert_eq!(states(&shop), "[{v1,none}]", "{run}");
        assert!(
            !steps(&run, "step_started").contains(&"knock".to_owned()),
            "{run}"
        );
        clean(&shop, &run);
    }
}

#[test]
fn before_hooks_run_once_however_often_the_freeze_is_tried_and_the_outcome_says_that_they_stand() {
    // Thousands of processes do not come to rest in three quarters of a millisecond.
    let shop = Shop::of(&built("v1", "v1")).carts(5_000).pool(10).start();
    load(&shop);
    let to = built("v2", "v2");
    let policy = "[hooks]\nbefore = [\"shop_hooks:ok\"]\nafter = [\"shop_hooks:yes\"]\n[gate]\ncall = \"shop_hooks:yes\"\n";
    let run = by(Flyhot::upgrade(&shop, &to), &shop, policy)
        .args(["--window-budget", "1ms"])
        .run();
    run.expect("not_quiesced", 14);
    let windows = steps(&run, "step_done")
        .iter()
        .filter(|step| *step == "window")
        .count();
    assert_eq!(windows, 3, "{run}");
    assert_eq!(called(&shop), "[{ok,v1,true}]", "{run}");
    assert_eq!(
        reason(&run, "hooks_not_undone")["subject"],
        "shop_hooks:ok/0",
        "{run}"
    );
    clean(&shop, &run);
}

#[test]
fn an_after_hook_that_does_not_succeed_degrades_the_node_and_the_others_still_run() {
    let releases = [release("v1"), release("v2")];
    let shop = start(&releases[0]);
    for (turn, (way, said)) in WAYS.into_iter().enumerate() {
        shop.probe().eval("application:unset_env(shop, called).");
        let to = ["v1", "v2"][(turn + 1) % 2];
        let run = upgrade(
            &shop,
            &releases[(turn + 1) % 2],
            &format!(
                "[hooks]\n{}\nafter = [\"shop_hooks:{way}\", \"shop_hooks:ok\"]\n",
                timeout(way)
            ),
        );
        run.expect("degraded", 15);
        let failed = reason(&run, "after_hook_failed");
        assert_eq!(failed["severity"], "warning", "{run}");
        assert!(failed["sentence"].as_str().unwrap().contains(said), "{run}");
        assert_eq!(
            called(&shop),
            format!("[{{{way},{to},true}},{{ok,{to},true}}]"),
            "{run}"
        );
        assert_eq!(version(&shop), to, "{run}");
        clean(&shop, &run);
    }
}

#[test]
fn a_node_that_is_not_well_is_the_last_one_that_is_begun() {
    let (v1, v2) = (release("v1"), release("v2"));
    let shops = [start(&v1), start(&v1)];
    shops[1].shares_cookie_of(&shops[0]);
    let both = |policy: &str| {
        by(Flyhot::upgrade(&shops[0], &v2), &shops[0], policy)
            .args(["--node", shops[1].name()])
            .run()
    };
    let gate =
        |call: &str| format!("[gate]\ncall = \"shop_hooks:{call}\"\nwithin = \"1s\"\nevery = \"100ms\"\n");
    // The second time it has nothing to do on the first node, which is no better for that.
    for outcome in ["upgraded", "nothing_to_do"] {
        let run = both(&gate("no"));
        run.expect("degraded", 15);
        assert_eq!(run.node(0)["outcome"], "degraded", "{outcome}: {run}");
        assert_eq!(run.node(1)["outcome"], "not_begun", "{run}");
        assert_eq!(
            (version(&shops[0]), version(&shops[1])),
            ("v2".into(), "v1".into()),
            "{run}"
        );
        assert_eq!(called(&shops[1]), "[]", "{run}");
    }
    let run = both(&gate("yes"));
    run.expect("upgraded", 0);
    assert_eq!(run.node(0)["outcome"], "nothing_to_do", "{run}");
    assert_eq!(version(&shops[1]), "v2", "{run}");
}

#[test]
fn a_gate_is_asked_until_it_passes() {
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = start(&v1);
    let run = upgrade(
        &shop,
        &v2,
        "[gate]\ncall = \"shop_hooks:late\"\nevery = \"50ms\"\n",
    );
    run.expect("upgraded", 0);
    assert_eq!(
        called(&shop),
        "[{late,v2,true},{late,v2,true},{late,v2,true}]",
        "{run}"
    );
    let done = run
        .events_named("step_done")
        .find(|event| event.json["step"] == "gate");
    let done = &done.unwrap_or_else(|| panic!("{run}")).json;
    assert_eq!(
        (&done["count"], &done["unit"]),
        (&3.into(), &"calls".into()),
        "{run}"
    );
    clean(&shop, &run);
}

#[test]
fn a_gate_that_does_not_pass_in_time_degrades_the_node() {
    let releases = [release("v1"), release("v2")];
    let shop = start(&releases[0]);
    for (turn, (way, said)) in [
        ("no", "last answered false"),
        ("raises", "bad_luck"),
        ("nothing", "last answered nil"),
        ("hangs", "no answer within"),
    ]
    .into_iter()
    .enumerate()
    {
        shop.probe().eval("application:unset_env(shop, called).");
        let to = ["v1", "v2"][(turn + 1) % 2];
        let policy = format!("[gate]\ncall = \"shop_hooks:{way}\"\nwithin = \"3s\"\nevery = \"100ms\"\n");
        let run = upgrade(&shop, &releases[(turn + 1) % 2], &policy);
        run.expect("degraded", 15);
        let failed = reason(&run, "gate_failed");
        assert!(failed["sentence"].as_str().unwrap().contains(said), "{run}");
        assert_eq!(version(&shop), to, "{run}");
        let asked = shop
            .probe()
            .json("length(application:get_env(shop, called, [])).");
        // One that does not answer is not asked again beside itself.
        assert!(
            if way == "hangs" {
                asked == 1
            } else {
                asked.as_u64() > Some(1)
            },
            "{asked}: {run}"
        );
        clean(&shop, &run);
    }
}

#[test]
fn a_function_that_is_not_there_refuses_the_plan_and_nothing_is_called() {
    let (v1, v2) = (release("v1"), release("v2"));
    let later = v2
        .variant()
        .erlang("shop_later", "-module(shop_later). -export([up/0]). up() -> ok.")
        .build();
    let shop = start(&v1);
    let before = shop.probe().md5s();
    for (policy, subject) in [
        // In the release alone; nowhere; with another arity.
        (
            "[hooks]\nbefore = [\"shop_hooks:ok\", \"shop_later:up\"]\n",
            "shop_later:up/0",
        ),
        ("[hooks]\nafter = [\"Shop.Nowhere.up\"]\n", "Shop.Nowhere.up/0"),
        ("[hooks]\nafter = [\"shop_hooks:note\"]\n", "shop_hooks:note/0"),
        ("[gate]\ncall = \"shop_hooks:ready\"\n", "shop_hooks:ready/0"),
    ] {
        for run in [plan(&shop, &later, policy), upgrade(&shop, &later, policy)] {
            run.expect("refused", 10);
            let missing = reason(&run, "call_missing");
            assert_eq!(
                (&missing["subject"], &missing["severity"]),
                (&subject.into(), &"refusal".into()),
                "{run}"
            );
            assert!(
                !steps(&run, "step_started").contains(&"stage".to_owned()),
                "{run}"
            );
        }
    }
    assert_eq!((called(&shop).as_str(), shop.probe().md5s()), ("[]", before));
    // A module that comes with the release may hold an after hook.
    upgrade(&shop, &later, "[hooks]\nafter = [\"shop_later:up\"]\n").expect("upgraded", 0);
    // Nor is one waited for that is not there where nothing else is to be done.
    let run = upgrade(&shop, &later, "[gate]\ncall = \"shop_hooks:ready\"\n");
    run.expect("refused", 10);
    assert_eq!(
        reason(&run, "call_missing")["subject"],
        "shop_hooks:ready/0",
        "{run}"
    );
}

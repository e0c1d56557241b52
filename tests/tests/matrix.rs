//! The matrix group: what must hold on every Erlang/OTP, run by `make matrix` with FLYHOT_OTP=27 and 29.

use std::time::Duration;

use flyhot_tests::{Cart, Fault, Flyhot, Otp, Release, Run, Shop, wait_until};

/// An orphaned agent keeps its result for 30 s; twice that is a node that does not get rid of it.
const GONE: Duration = Duration::from_secs(60);

const NONE: [&str; 0] = [];

/// Everything that no upgrade may change: number, process, contents of each cart.
fn same(before: &[Cart], after: &[Cart]) -> bool {
    before.len() == after.len()
        && before
            .iter()
            .zip(after)
            .all(|(a, b)| (a.id, &a.pid, a.items, a.total) == (b.id, &b.pid, b.items, b.total))
}

/// Whether every module of the application that is loaded is the release's.
fn runs(shop: &Shop, release: &Release) -> bool {
    let loaded = shop.probe().md5s();
    shop.probe()
        .beam_md5s(&release.ebin("shop"))
        .iter()
        // A protocol is consolidated: the file in ebin is not what is loaded.
        .filter(|(module, _)| module.as_str() != "Elixir.Shop.Price")
        .all(|(module, md5)| loaded.get(module).is_none_or(|found| found == md5))
}

fn counts_add_up(run: &Run) {
    let processes = &run.node(0)["processes"];
    let count = |key: &str| processes[key].as_u64().unwrap();
    let sum: u64 = ["migrated", "kept", "failed", "died", "skipped"]
        .map(count)
        .iter()
        .sum();
    assert_eq!(count("affected"), sum, "{run}");
}

#[test]
fn up_and_back_under_traffic() {
    let otp = Otp::under_test();
    let (v1, v2) = (Release::shop(otp, "v1"), Release::shop(otp, "v2"));
    let shop = Shop::of(&v1).carts(3_000).start();
    let before = shop.carts();
    let traffic = shop.traffic().start();
    for (release, shape) in [(&v2, "struct"), (&v1, "tuple"), (&v2, "struct")] {
        let run = Flyhot::upgrade(&shop, release).run();
        run.expect("upgraded", 0);
        counts_add_up(&run);
        let carts = shop.carts();
        assert!(carts.iter().all(|cart| cart.shape == shape), "{run}");
        assert!(same(&before, &carts), "{run}");
        assert!(runs(&shop, release), "{run}");
        assert_eq!(shop.probe().suspended(), NONE);
        assert_eq!(shop.probe().traces(), NONE);
    }
    let tally = traffic.stop();
    assert_eq!(tally.failures(), NONE);
    Flyhot::upgrade(&shop, &v2).run().expect("nothing_to_do", 0);
}

#[test]
fn seven_bad_states_are_named_before_and_undone_after() {
    let otp = Otp::under_test();
    let (v2, v3) = (Release::shop(otp, "v2"), Release::shop(otp, "v3"));
    let shop = Shop::of(&v2).start();
    let before = shop.carts();
    let bad: Vec<String> = before
        .iter()
        .filter(|cart| cart.id % 1_400 == 0)
        .map(|cart| cart.pid.clone())
        .collect();
    assert_eq!(bad.len(), 7);

    let run = Flyhot::upgrade(&shop, &v3).run();
    run.expect("refused", 10);
    counts_add_up(&run);
    let reasons = run.node(0)["reasons"].as_array().unwrap().clone();
    let mut named: Vec<&str> = reasons
        .iter()
        .filter(|reason| reason["code"] == "rehearsal_failed")
        .map(|reason| reason["subject"].as_str().unwrap())
        .collect();
    named.sort_unstable();
    let mut expected: Vec<&str> = bad.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(named, expected, "{run}");
    assert_eq!(run.node(0)["window_us"], 0, "{run}");
    assert!(before == shop.carts() && runs(&shop, &v2), "{run}");

    let run = Flyhot::upgrade(&shop, &v3).args(["--no-rehearsal"]).run();
    run.expect("reverted", 11);
    counts_add_up(&run);
    assert_eq!(run.node(0)["processes"]["failed"], 7, "{run}");
    assert!(before == shop.carts() && runs(&shop, &v2), "{run}");
    assert_eq!(shop.probe().suspended(), NONE);
    assert_eq!(shop.probe().traces(), NONE);
}

/// Has a process on the node wait until the worker is in `step`, and kill `victim` then.
fn set_killer(shop: &Shop, step: &str, victim: &str) {
    shop.probe().eval(&format!(
        "Step = fun() ->
             case whereis(flyhot_agent) of
                 undefined -> none;
                 P -> case process_info(P, dictionary) of
                          {{_, D}} -> proplists:get_value('$flyhot_step', D);
                          undefined -> none
                      end
             end
         end,
         %% In the window it must be seen at once. Outside, a purge would wait for a process that never rests.
         Loop = fun(Loop) ->
             case Step() of
                 {step} -> ok;
                 Other ->
                     InWindow = lists:member(Other, [knock, freeze, newborns, swap, migrate, prove]),
                     process_flag(priority, case InWindow of true -> high; false -> normal end),
                     Loop(Loop)
             end
         end,
         register(matrix_killer, spawn_opt(fun() ->
             Loop(Loop),
             exit(whereis({victim}), kill),
             put(killed, true),
             receive stop -> ok end
         end, [])), ok."
    ));
}

/// Ends the killer; whether it killed.
fn has_killed(shop: &Shop) -> bool {
    shop.probe().eval(
        "P = whereis(matrix_killer), {_, D} = process_info(P, dictionary), exit(P, kill),
         proplists:get_value(killed, D, false).",
    ) == "true"
}

#[test]
fn a_worker_or_guard_killed_in_the_window_leaves_it_wholly_old_or_wholly_new() {
    /// The shipped agent once, whose step may be over before the killer sees it on a busy machine; then the same source that waits
    /// in the step, for a tenth of the window's budget.
    const TRIES: usize = 8;
    const WAITS: &str = "{delay, 200}";
    let otp = Otp::under_test();
    let (v1, v2) = (Release::shop(otp, "v1"), Release::shop(otp, "v2"));
    let shop = Shop::of(&v1).carts(3_000).start();
    let before = shop.carts();
    let mut on_v2 = false;
    for victim in ["flyhot_agent", "flyhot_guard"] {
        for step in ["freeze", "newborns", "migrate", "thaw"] {
            let killed = (0..TRIES).any(|tried| {
                let (here, there) = if on_v2 { (&v2, &v1) } else { (&v1, &v2) };
                set_killer(&shop, step, victim);
                let upgrade = Flyhot::upgrade(&shop, there);
                let run = if tried == 0 {
                    upgrade.run()
                } else {
                    let waits = Fault::new("worker", step, 1, WAITS);
                    shop.probe().plan_faults(&[waits]);
                    upgrade.faulty().run()
                };
                shop.probe().plan_faults(&[]);
                let killed = has_killed(&shop);
                wait_until("nothing of flyhot is left", GONE, || {
                    shop.probe().traces().is_empty()
                });
                assert_eq!(shop.probe().suspended(), NONE, "{victim} in {step}: {run}");
                let carts = shop.carts();
                assert!(same(&before, &carts), "{victim} in {step}: {run}");
                let shapes = |shape: &str| carts.iter().all(|cart| cart.shape == shape);
                let (old, new) = if on_v2 {
                    ("struct", "tuple")
                } else {
                    ("tuple", "struct")
                };
                let wholly_old = shapes(old) && runs(&shop, here);
                let wholly_new = shapes(new) && runs(&shop, there);
                assert!(
                    wholly_old != wholly_new,
                    "{victim} in {step}: neither old nor new: {run}"
                );
                // Whatever was left unfinished, the same command again finishes it.
                let again = Flyhot::upgrade(&shop, there).run();
                again.expect(if wholly_new { "nothing_to_do" } else { "upgraded" }, 0);
                on_v2 = !on_v2;
                killed
            });
            assert!(killed, "{victim} was never killed in {step}");
        }
    }
}

/// Nobody waits for it frozen: everybody is let go before the swap.
#[test]
fn a_code_server_that_is_busy_keeps_nobody_frozen() {
    let otp = Otp::under_test();
    let shop = Shop::of(&Release::shop(otp, "v1")).carts(10).pool(10).start();
    shop.whenever_told(
        "{told, worker, {phase, freezing}}",
        "erlang:suspend_process(whereis(code_server)), receive {told, worker, {abandon, _}} -> ok after 20000 -> ok end,
         erlang:resume_process(whereis(code_server))",
    );
    // Behind the message and before the code server is looked at: it is suspended by then.
    shop.probe()
        .plan_faults(&[Fault::new("worker", "suspending", 1, "{delay, 500}")]);
    let run = Flyhot::upgrade(&shop, &Release::shop(otp, "v2"))
        .args(["--freeze-attempts", "1"])
        .faulty()
        .run();
    run.expect("not_quiesced", 14);
    let longest = run.node(0)["longest_freeze_us"].as_u64().unwrap();
    assert!(longest < 3_000_000, "{longest} us: {run}");
    shop.probe().eval("exit(whereis(flyhot_trace), kill), ok.");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    Flyhot::upgrade(&shop, &Release::shop(otp, "v2"))
        .run()
        .expect("upgraded", 0);
}

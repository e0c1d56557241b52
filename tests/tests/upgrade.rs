//! Upgrades that succeed: again and again under traffic, every kind of process both ways, several nodes, and the
//! commands that have nothing to do or only look.

use std::time::Instant;

use flyhot_tests::{Cart, Counts, Flyhot, Otp, Release, Run, Shop, ShopBuild, rounds};

const NONE: [&str; 0] = [];

/// Requests that have to be in flight in each window: with fewer it proves nothing about requests.
const IN_FLIGHT: usize = 20;

fn small(release: &Release) -> Shop {
    Shop::of(release).carts(20).pool(10).start()
}

/// The counts of every node that was worked on add up.
fn counts_add_up(run: &Run) {
    for node in run.outcome()["nodes"].as_array().unwrap() {
        let count = |key: &str| node["processes"][key].as_u64().unwrap();
        let sum: u64 = ["migrated", "kept", "failed", "died", "skipped"]
            .map(count)
            .iter()
            .sum();
        assert_eq!(count("affected"), sum, "{run}");
    }
}

fn upgraded(run: &Run) {
    run.expect("upgraded", 0);
    counts_add_up(run);
    assert!(
        run.node(0)["processes"]["affected"].as_u64().unwrap() > 0,
        "{run}"
    );
}

fn clean(shop: &Shop) {
    assert_eq!(shop.probe().suspended(), NONE);
    assert_eq!(shop.probe().traces(), NONE);
}

/// Everything that no upgrade may change: number, process, contents of each cart.
fn same(before: &[Cart], after: &[Cart]) -> bool {
    before.len() == after.len()
        && before
            .iter()
            .zip(after)
            .all(|(a, b)| (a.id, &a.pid, a.items, a.total) == (b.id, &b.pid, b.items, b.total))
}

/// The processes of the tree that are no carts.
fn tree(shop: &Shop) -> String {
    shop.probe().eval(
        "{lists:sort([{Id, P} || {Id, P, _, _} <- supervisor:which_children('Elixir.Shop.Supervisor')]),
          lists:sort([{Id, P} || {Id, P, _, _} <- supervisor:which_children(shop_pool)])}.",
    )
}

/// Within one per cent.
fn close(a: u64, b: u64) -> bool {
    a.abs_diff(b) * 100 <= a.max(b)
}

#[test]
fn again_and_again_under_traffic() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = Shop::of(&v1).carts(3_000).start();
    let (carts, processes) = (shop.carts(), tree(&shop));
    let last = rounds(5, 50);
    // Every fifth request stays in a changed module for a while: a window of few milliseconds still meets many.
    let visits = |request: u64| !request.is_multiple_of(5);
    let traffic = flyhot_tests::TrafficBuilder::new(shop.port(), move |request| {
        if visits(request) {
            format!("/cart/{}", request % 3_000 + 1)
        } else {
            "/hold/250".to_owned()
        }
    })
    .per_second(800)
    .check(|body| body.contains("\"version\":\"v"))
    .start();
    let mut windows: Vec<(Instant, Instant)> = Vec::new();
    let mut second: Option<Counts> = None;
    for round in 1..=last {
        let (release, shape) = if round % 2 == 1 {
            (&v2, "struct")
        } else {
            (&v1, "tuple")
        };
        let run = Flyhot::upgrade(&shop, release).run();
        upgraded(&run);
        assert!(run.node(0)["window_us"].as_u64().unwrap() > 0, "{run}");
        windows.push(run.step("window").unwrap());
        let now = shop.carts();
        assert!(now.iter().all(|cart| cart.shape == shape), "round {round}: {run}");
        assert!(same(&carts, &now), "round {round}: {run}");
        assert_eq!(tree(&shop), processes, "round {round}: {run}");
        clean(&shop);
        if round == 2 {
            second = Some(shop.probe().counts());
        }
    }
    let (second, end) = (second.unwrap(), shop.probe().counts());
    for (what, then, now) in [
        ("atoms", second.atoms, end.atoms),
        ("processes", second.processes, end.processes),
        ("persistent terms", second.persistent_terms, end.persistent_terms),
        ("bytes of code", second.code_bytes, end.code_bytes),
    ] {
        assert!(
            close(then, now),
            "{what}: {then} after round 2, {now} after round {last}"
        );
    }
    let tally = traffic.stop();
    assert_eq!(tally.failures(), NONE);
    assert!(
        tally.per_second() >= 500.0,
        "{} requests a second",
        tally.per_second()
    );
    for (round, (from, to)) in windows.into_iter().enumerate() {
        let met = tally.peak_in_flight(from, to);
        assert!(
            met >= IN_FLIGHT,
            "only {met} requests met the window of round {}",
            round + 1
        );
    }
    // Each visit answered is one hit, and no hit was lost on the way through the shapes.
    let hits: u64 = shop.carts().iter().map(|cart| cart.hits).sum();
    let visited = tally.samples.len() as u64 - tally.samples.len().div_ceil(5) as u64;
    assert!(
        hits.abs_diff(visited) <= 256,
        "{hits} hits for about {visited} visits"
    );
    let audited = shop
        .probe()
        .eval("gen_event:call('Elixir.Shop.Bus', 'Elixir.Shop.Audit', count).");
    assert_eq!(audited, hits.to_string());
    let metered = shop.probe().eval("gen_statem:call('Elixir.Shop.Meter', total).");
    assert_eq!(metered, hits.to_string());
}

/// Has a process on the node count the system messages that carts, workers and the rest of the tree receive.
fn watch(shop: &Shop) {
    shop.probe().eval(
        "P = spawn(fun() ->
             Loop = fun(Loop, N) -> receive
                 {trace, _, 'receive', {system, _, _}} -> Loop(Loop, N + 1);
                 {trace, _, _, _} -> Loop(Loop, N);
                 {count, From} -> From ! {seen, N}, Loop(Loop, N)
             end end,
             Loop(Loop, 0)
         end),
         register(watcher, P),
         [erlang:trace(Pid, true, ['receive', {tracer, P}]) || S <- ['Elixir.Shop.CartSupervisor', shop_pool, 'Elixir.Shop.Supervisor'],
             {_, Pid, _, _} <- supervisor:which_children(S), is_pid(Pid)], ok.",
    );
}

/// How many the watcher saw; whatever was received before this is counted.
fn seen(shop: &Shop) -> u64 {
    let count = shop.probe().json(
        "Ref = erlang:trace_delivered(all), receive {trace_delivered, all, Ref} -> ok end,
         watcher ! {count, self()}, receive {seen, N} -> N end.",
    );
    count.as_u64().unwrap()
}

#[test]
fn the_same_again_has_nothing_to_do_and_nobody_hears_of_it() {
    let v2 = Release::shop(Otp::under_test(), "v2");
    let shop = small(&Release::shop(Otp::under_test(), "v1"));
    upgraded(&Flyhot::upgrade(&shop, &v2).run());
    watch(&shop);
    for release in [
        v2.clone(),
        ShopBuild::new(Otp::under_test(), "v2").again().build(),
    ] {
        // The judge itself asks hibernated processes, supervisors of OTP 27 among them.
        let before = seen(&shop);
        let run = Flyhot::upgrade(&shop, &release).run();
        run.expect("nothing_to_do", 0);
        counts_add_up(&run);
        assert_eq!(run.step("window"), None, "{run}");
        assert_eq!(seen(&shop), before, "somebody got a system message: {run}");
        clean(&shop);
    }
    // The watcher would have seen it.
    let before = seen(&shop);
    shop.probe()
        .eval("sys:suspend(shop_plain), sys:resume(shop_plain).");
    assert_eq!(seen(&shop), before + 2);
}

#[test]
fn a_plan_touches_nothing() {
    let shop = small(&Release::shop(Otp::under_test(), "v1"));
    let before = (shop.carts(), shop.pool(), tree(&shop), shop.probe().md5s());
    watch(&shop);
    let hot = Flyhot::plan(&shop, &Release::shop(Otp::under_test(), "v2")).run();
    hot.expect("planned", 0);
    let verdict = |run: &Run| run.events_named("plan").next().unwrap().json["verdict"].clone();
    assert!(
        ["hot", "hot_with_warnings"]
            .iter()
            .any(|hot_one| verdict(&hot) == *hot_one),
        "{hot}"
    );
    let cold = Flyhot::plan(&shop, &Release::shop(Otp::under_test().another(), "v2")).run();
    cold.expect("refused", 10);
    assert_eq!(verdict(&cold), "cold", "{cold}");
    assert_eq!(seen(&shop), 0, "somebody got a system message: {hot}");
    assert!(before == (shop.carts(), shop.pool(), tree(&shop), shop.probe().md5s()));
    clean(&shop);
}

/// Has every kind of process count once more, and asks each who it is.
fn ask(shop: &Shop) -> String {
    shop.probe().eval(
        "gen_event:sync_notify('Elixir.Shop.Bus', {visit, 7}),
         gen_statem:cast('Elixir.Shop.Meter', visit),
         {gen_server:call(shop_plain, call), shop_special:call(), gen_statem:call('Elixir.Shop.Meter', total),
          'Elixir.Shop.Checkout':pay(5), gen_event:call('Elixir.Shop.Bus', 'Elixir.Shop.Audit', count),
          length(gen_event:call('Elixir.Shop.Bus', 'Elixir.Shop.Stats', last)),
          gen_event:call('Elixir.Shop.Bus', 'Elixir.Shop.Mailer', version),
          gen_event:which_handlers('Elixir.Shop.QuietBus')}.",
    )
}

/// What [`ask`] answers the n-th time, with this version of the code.
fn answer(version: &str, n: u32) -> String {
    format!(
        "{{{{{version},{n}}},{{{version},{n}}},{n},{},{n},{n},{version},[]}}",
        n * 5
    )
}

/// How the states look to `sys:get_state/1`, after [`ask`] was called n times.
fn states(shop: &Shop) -> String {
    shop.probe().eval(
        "[{_, _, Audit}] = [H || {'Elixir.Shop.Audit', _, _} = H <- sys:get_state('Elixir.Shop.Bus')],
         [{_, _, Mailer}] = [H || {'Elixir.Shop.Mailer', _, _} = H <- sys:get_state('Elixir.Shop.Bus')],
         {sys:get_state(shop_plain), sys:get_state(shop_special), sys:get_state('Elixir.Shop.Meter'),
          sys:get_state('Elixir.Shop.Checkout'), Audit, Mailer}.",
    )
}

#[test]
fn every_kind_of_process_keeps_its_count_both_ways() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    // Another number in mix.exs is an upgrade like any other.
    let v2 = ShopBuild::new(Otp::under_test(), "v2").version("7.8.9").build();
    assert_eq!(v2.version(), "7.8.9");
    let shop = small(&v1);
    let processes = tree(&shop);
    assert_eq!(ask(&shop), answer("v1", 1));
    let mut n = 1;
    for (release, version) in [(&v2, "v2"), (&v1, "v1"), (&v2, "v2")] {
        let run = Flyhot::upgrade(&shop, release).run();
        upgraded(&run);
        assert!(run.node(0)["processes"]["kept"].as_u64().unwrap() > 0, "{run}");
        let sum = n * 5;
        let expected = if version == "v2" {
            format!(
                "{{{n},#{{special => {n}}},{{counting,{n}}},{{open,#{{till => {sum}}}}},#{{audit => {n}}},{n}}}"
            )
        } else {
            format!("{{{n},{{special,{n}}},{{counting,{n}}},{{open,{{till,{sum}}}}},{{audit,{n}}},{n}}}")
        };
        assert_eq!(states(&shop), expected, "{run}");
        n += 1;
        assert_eq!(ask(&shop), answer(version, n), "{run}");
        assert_eq!(tree(&shop), processes, "{run}");
        clean(&shop);
    }
}

/// What changed is written into the release, not into the machine's OTP.
#[test]
fn a_release_that_takes_otp_from_the_machine() {
    let build = |code| ShopBuild::new(Otp::under_test(), code).without_erts().build();
    let (v1, v2) = (build("v1"), build("v2"));
    let shop = small(&v1);
    assert_eq!(ask(&shop), answer("v1", 1));
    for (n, release, version) in [(2, &v2, "v2"), (3, &v1, "v1"), (4, &v2, "v2")] {
        let run = Flyhot::upgrade(&shop, release).run();
        upgraded(&run);
        assert_eq!(ask(&shop), answer(version, n), "{run}");
        clean(&shop);
        Flyhot::upgrade(&shop, release).run().expect("nothing_to_do", 0);
        let cart = "Elixir.Shop.Cart";
        let built = shop.probe().beam_md5s(&release.ebin("shop"));
        assert_eq!(shop.probe().start_md5s()[cart], built[cart], "{run}");
    }
}

#[test]
fn of_two_one_works_and_the_other_is_told_who_does() {
    let v2 = Release::shop(Otp::under_test(), "v2");
    let shop = small(&Release::shop(Otp::under_test(), "v1"));
    shop.hold();
    let mut first = Flyhot::upgrade(&shop, &v2)
        .args(["--quiesce-timeout", "60s"])
        .spawn();
    first.wait_for_step("knock");
    let holder = shop.probe().json(
        "{_, D} = process_info(whereis(flyhot_agent), dictionary),
         iolist_to_binary(proplists:get_value('$flyhot_holder', D)).",
    );
    let holder = holder.as_str().unwrap();
    assert!(
        holder.contains(&first.pid().to_string()),
        "{holder} does not say who it is"
    );
    let second = Flyhot::upgrade(&shop, &v2).run();
    second.expect("refused", 20);
    assert!(second.stdout.contains(holder), "{holder} is not named: {second}");
    shop.let_go();
    let first = first.wait();
    upgraded(&first);
    clean(&shop);
    assert!(shop.carts().iter().all(|cart| cart.shape == "struct"));
}

#[test]
fn several_nodes_one_after_another_until_one_is_not_upgraded() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shops = [small(&v1), small(&v1), small(&v1)];
    // One command has one cookie.
    for shop in &shops {
        shop.shares_cookie_of(&shops[0]);
    }
    let all = || {
        Flyhot::upgrade(&shops[0], &v2)
            .args(shops[1..].iter().flat_map(|shop| ["--node", shop.name()]))
            .args(["--quiesce-timeout", "1s"])
    };
    shops[1].hold();
    let run = all().run();
    run.expect("mixed", 12);
    counts_add_up(&run);
    for (at, (outcome, shape)) in [
        ("upgraded", "struct"),
        ("not_quiesced", "tuple"),
        ("not_begun", "tuple"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(run.node(at)["node"], shops[at].name(), "{run}");
        assert_eq!(run.node(at)["outcome"], outcome, "{run}");
        assert!(shops[at].carts().iter().all(|cart| cart.shape == shape), "{run}");
    }
    let steps = |node: &str| {
        run.events_named("step_started")
            .filter(|event| event.json["node"] == node)
            .count()
    };
    assert_eq!(steps(shops[2].name()), 0, "{run}");
    shops[1].let_go();
    let run = all().run();
    run.expect("upgraded", 0);
    assert_eq!(run.node(0)["outcome"], "nothing_to_do", "{run}");
    for shop in &shops {
        assert!(shop.carts().iter().all(|cart| cart.shape == "struct"), "{run}");
        clean(shop);
    }
}

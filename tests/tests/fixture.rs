//! The shop itself: it can be changed over by hand, so that a scenario that fails is not the fixture's fault.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flyhot_tests::{Otp, Release, Shop, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// Changes the shop over by hand, as a tool that checks nothing would: suspend, load, change_code, resume.
fn change_over(shop: &Shop, from: &Release, to: &Release) -> String {
    let probe = shop.probe();
    let old = probe.beam_md5s(from.directory());
    let new = probe.beam_md5s(to.directory());
    let changed: Vec<_> = new
        .iter()
        .filter(|(module, md5)| old.get(*module) != Some(md5))
        .map(|(module, _)| format!("'{module}'"))
        .collect();
    probe.eval(&format!(
        "Dirs = filelib:wildcard({:?} ++ \"/releases/*/consolidated\") ++ [{:?}],
         Load = [begin
                     [File | _] = [F || D <- Dirs, F <- [filename:join(D, atom_to_list(M) ++ \".beam\")],
                                        filelib:is_regular(F)],
                     {{ok, B}} = file:read_file(File), {{M, File, B}}
                 end || M <- [{}]],
         Carts = [{{P, 'Elixir.Shop.Cart'}} ||
                     {{_, P, _, _}} <- supervisor:which_children('Elixir.Shop.CartSupervisor')],
         Single = [{{whereis(N), N}} || N <- ['Elixir.Shop.Checkout', 'Elixir.Shop.Meter', shop_special]],
         Bus = whereis('Elixir.Shop.Bus'),
         Handlers = [{{Bus, N}} || N <- ['Elixir.Shop.Audit', 'Elixir.Shop.Stats']],
         All = Carts ++ Single ++ [{{Bus, bus}}],
         [code:purge(M) || {{M, _, _}} <- Load],
         [sys:suspend(P) || {{P, _}} <- All],
         ok = code:atomic_load(Load),
         Answers = [sys:change_code(P, M, undefined, []) || {{P, M}} <- Carts ++ Single ++ Handlers],
         [sys:resume(P) || {{P, _}} <- All],
         lists:usort([case A of ok -> ok; _ -> error end || A <- Answers]) ++
             [length([A || A <- Answers, A =/= ok])].",
        to.directory(),
        to.ebin("shop"),
        changed.join(", ")
    ))
}

fn singles(shop: &Shop) -> BTreeMap<String, String> {
    shop.probe().states([
        "Elixir.Shop.Checkout",
        "Elixir.Shop.Meter",
        "Elixir.Shop.Bus",
        "shop_special",
        "shop_plain",
    ])
}

#[test]
fn the_fixture_can_be_changed_over_and_back_under_traffic() {
    let otp = Otp::under_test();
    let (v1, v2) = (Release::shop(otp, "v1"), Release::shop(otp, "v2"));
    let shop = Shop::of(&v1).carts(2_000).start();
    let before = shop.carts();
    assert_eq!(before.len(), 2_000);
    assert!(before.iter().all(|cart| cart.shape == "tuple"));
    let quiet = singles(&shop);
    assert_eq!(quiet["Elixir.Shop.Bus"].matches("Elixir.Shop.").count(), 3);

    let traffic = shop.traffic().check(|body| body.contains("\"hits\":")).start();
    wait_until("300 requests are served", SOON, || traffic.served() >= 300);
    let mut slowest_window = (Instant::now(), Instant::now());
    for (from, to, shape) in [(&v1, &v2, "struct"), (&v2, &v1, "tuple"), (&v1, &v2, "struct")] {
        let begun = Instant::now();
        assert_eq!(change_over(&shop, from, to), "[ok,0]");
        slowest_window = (begun, Instant::now());
        let carts = shop.carts();
        assert!(carts.iter().all(|cart| cart.shape == shape));
        let same = |a: &flyhot_tests::Cart, b: &flyhot_tests::Cart| {
            (a.id, &a.pid, a.items, a.total) == (b.id, &b.pid, b.items, b.total)
        };
        assert!(
            carts.iter().zip(&before).all(|(a, b)| same(a, b)),
            "a cart was restarted or changed"
        );
        assert_eq!(shop.probe().suspended(), [] as [&str; 0]);
    }
    let tally = traffic.stop();
    assert_eq!(tally.failures(), [] as [&str; 0]);
    assert!(tally.per_second() > 400.0, "{}", tally.per_second());
    assert!(tally.peak_in_flight(slowest_window.0, slowest_window.1) >= 1);

    // No visit was lost, and every process took part.
    let hits: u64 = shop.carts().iter().map(|cart| cart.hits).sum();
    assert_eq!(hits as usize, tally.ok());
    let states = singles(&shop);
    assert!(
        states["Elixir.Shop.Checkout"].contains("#{till => 0}"),
        "{states:?}"
    );
    assert_eq!(
        states["Elixir.Shop.Meter"],
        format!("{{counting,{}}}", tally.ok())
    );
    assert!(
        states["Elixir.Shop.Bus"].contains(&format!("#{{audit => {}}}", tally.ok())),
        "{states:?}"
    );
    // The last visits, which Erlang writes as a text where their numbers happen to be letters.
    assert!(states["Elixir.Shop.Bus"].contains("{stats,"), "{states:?}");
    assert_eq!(states["shop_special"], "#{special => 0}");
    assert_eq!(shop.probe().eval("shop_special:call()."), "{v2,1}");
    assert_eq!(shop.probe().eval("gen_server:call(shop_plain, call)."), "{v2,1}");

    // What runs is what the release says.
    let loaded = shop.probe().md5s();
    for (module, md5) in shop.probe().beam_md5s(v2.directory()) {
        assert!(
            loaded.get(&module).is_none_or(|found| *found == md5),
            "{module} is not of v2"
        );
    }
    assert!(loaded.contains_key("Elixir.Shop.Discount"));
}

#[test]
fn seven_of_ten_thousand_carts_do_not_go_into_v3() {
    let otp = Otp::under_test();
    let (v2, v3) = (Release::shop(otp, "v2"), Release::shop(otp, "v3"));
    let shop = Shop::of(&v2).start();
    assert_eq!(change_over(&shop, &v2, &v3), "[error,ok,7]");
    let carts = shop.carts();
    let left: Vec<_> = carts
        .iter()
        .filter(|cart| cart.shape == "struct")
        .map(|cart| cart.id)
        .collect();
    assert_eq!(left, [1_400, 2_800, 4_200, 5_600, 7_000, 8_400, 9_800]);
    assert_eq!(carts.len(), 10_000);
}

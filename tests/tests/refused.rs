//! What flyhot refuses before it touches anything, each with one clear sentence, and what reaches the node's disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use flyhot_tests::{Epmd, Flyhot, Node, Otp, Release, Run, Scratch, Shop};

const NONE: [&str; 0] = [];

/// A shop with few processes: how many there are does not matter here.
fn small(release: &Release) -> Shop {
    Shop::of(release).carts(20).pool(10).start()
}

/// What a judge can see of the node; a refused release leaves it as it was.
#[derive(Debug, PartialEq)]
struct Seen {
    carts: Vec<flyhot_tests::Cart>,
    pool: Vec<String>,
    md5s: BTreeMap<String, String>,
}

fn look(shop: &Shop) -> Seen {
    Seen {
        carts: shop.carts(),
        pool: shop.pool_pids(),
        md5s: shop.probe().md5s(),
    }
}

/// Ends the test unless the node is as before, and nothing was frozen on the way.
fn untouched(shop: &Shop, before: &Seen, run: &Run) {
    assert_eq!(run.step("window"), None, "{run}");
    assert!(look(shop) == *before, "{run}");
    assert_eq!(shop.probe().suspended(), NONE, "{run}");
    assert_eq!(shop.probe().traces(), NONE, "{run}");
}

/// The run could not reach `node`, and its one error is a sentence on one line that names the node and says `what`.
fn unreachable(run: &Run, node: &str, what: &str) {
    run.expect("failed", 24);
    let errors: Vec<_> = run.events_named("error").collect();
    assert_eq!(errors.len(), 1, "{run}");
    let error = &errors[0].json;
    assert_eq!(error["kind"], "node_unreachable", "{run}");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains(node) && message.contains(what) && !message.contains('\n'),
        "{run}"
    );
    assert!(!error["hint"].as_str().unwrap().is_empty(), "{run}");
}

#[test]
fn each_way_not_to_reach_a_node_has_its_own_sentence() {
    let v2 = Release::shop(Otp::under_test(), "v2");
    let alive = Node::erl(Otp::under_test()).start();
    let wrong = Flyhot::upgrade(&alive, &v2).env("RELEASE_COOKIE", "wrong").run();
    unreachable(&wrong, alive.name(), "refused the cookie");

    let mut dead = Node::erl(Otp::under_test()).start();
    dead.kill();
    // Its epmd forgets it when it sees the connection end, which may be after this.
    unreachable(&Flyhot::upgrade(&dead, &v2).run(), dead.name(), " no");

    let nobody = "nobody@127.0.0.1";
    let unknown = Flyhot::new(["upgrade", "--output", "json", "--node", nobody, "--release"])
        .args([v2.directory().to_str().unwrap()])
        .of(&alive)
        .run();
    unreachable(&unknown, nobody, "knows no node nobody");

    let mut epmd = Epmd::start(Otp::under_test());
    let port = epmd.port().to_string();
    epmd.kill();
    let none = Flyhot::upgrade(&alive, &v2).env("ERL_EPMD_PORT", &port).run();
    unreachable(&none, alive.name(), "no epmd answers");
    assert_eq!(alive.probe().traces(), NONE);
}

/// `shop_plain` as the fixture's v1 and v2 have it, in a third version.
const PLAIN: &str = "-module(shop_plain).
    -behaviour(gen_server).
    -export([start_link/0, init/1, handle_call/3, handle_cast/2]).
    start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).
    init([]) -> {ok, 0}.
    handle_call(call, _From, Count) -> {reply, {third, Count + 1}, Count + 1}.
    handle_cast(_Cast, Count) -> {noreply, Count}.\n";

/// An application that takes a minute to stop is stopping: the node can still be asked, and is no node to upgrade.
#[test]
fn a_node_that_is_shutting_down_is_no_bug() {
    let release = |version| {
        Release::shop(Otp::under_test(), version)
            .variant()
            .erlang(
                "lasting",
                "-module(lasting).
                 -export([start/2, prep_stop/1, stop/1]).
                 start(_, _) -> {ok, spawn_link(timer, sleep, [infinity])}.
                 prep_stop(State) -> timer:sleep(60000), State.
                 stop(_) -> ok.",
            )
            .build()
    };
    let (v1, v2) = (release("v1"), release("v2"));
    let shop = small(&v1);
    shop.probe().eval(
        "{module, lasting} = code:load_file(lasting),
         ok = application:load({application, lasting, [{vsn, \"1\"}, {mod, {lasting, []}}, {modules, []},
                                                       {registered, []}, {applications, [kernel, stdlib]}]}),
         ok = application:start(lasting),
         init:stop(),
         (fun Wait() -> try application:which_applications(100), timer:sleep(1), Wait() catch exit:_ -> ok end end)().",
    );
    for command in [Flyhot::plan(&shop, &v2), Flyhot::upgrade(&shop, &v2)] {
        let run = command.run();
        run.expect("not_quiesced", 14);
        let error = &run.events_named("error").next().unwrap().json;
        assert!(
            error["message"].as_str().unwrap().contains("is shutting down"),
            "{run}"
        );
    }
    assert_eq!(shop.probe().traces(), NONE);
}

#[test]
fn a_corrupt_beam_in_the_batch_is_refused_before_the_freeze() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = small(&v1);
    let before = look(&shop);

    let whole = fs::read(v2.ebin("shop").join("shop_plain.beam")).unwrap();
    let truncated = v2
        .variant()
        .bytes("shop_plain", &whole[..whole.len() / 2])
        .build();
    let run = Flyhot::upgrade(&shop, &truncated).run();
    run.expect("refused", 2);
    assert!(run.stdout.contains("shop_plain.beam"), "it is not named: {run}");
    untouched(&shop, &before, &run);

    // The loader counts labels; whoever only reads chunks does not.
    let sound = v2.variant().erlang("shop_plain", PLAIN).build();
    let mut damaged = fs::read(sound.ebin("shop").join("shop_plain.beam")).unwrap();
    let code = damaged.windows(4).position(|name| name == b"Code").unwrap();
    // Name, size, size of the header, instruction set, highest opcode; then the number of labels (beam_asm).
    damaged[code + 20..code + 24].copy_from_slice(&1_u32.to_be_bytes());
    let damaged = v2.variant().bytes("shop_plain", damaged).build();
    let run = Flyhot::upgrade(&shop, &damaged).run();
    run.expect("refused", 2);
    assert_eq!(run.reason("broken_file")["subject"], "shop_plain", "{run}");
    untouched(&shop, &before, &run);

    Flyhot::upgrade(&shop, &sound).run().expect("upgraded", 0);
}

#[test]
fn a_release_of_another_toolchain_is_cold() {
    let shop = small(&Release::shop(Otp::under_test(), "v1"));
    let before = look(&shop);
    let run = Flyhot::upgrade(&shop, &Release::shop(Otp::under_test().another(), "v2")).run();
    run.expect("refused", 10);
    assert_eq!(run.reason("toolchain_differs")["severity"], "refusal", "{run}");
    untouched(&shop, &before, &run);
}

/// A copy of `release` that has the application `name`, as the release file and the libraries say.
fn with_application(release: &Release, into: &Path, name: &str) -> Release {
    let copied = release.copied(into);
    let ebin = into.join(format!("lib/{name}-1.0.0/ebin"));
    fs::create_dir_all(&ebin).unwrap();
    let application = format!(
        "{{application, {name}, [{{vsn, \"1.0.0\"}}, {{modules, []}}, {{registered, []}}, {{applications, [kernel, stdlib]}}]}}.\n"
    );
    fs::write(ebin.join(format!("{name}.app")), application).unwrap();
    let file = into.join("releases").join(release.version()).join("shop.rel");
    let text = fs::read_to_string(&file).unwrap();
    let more = text.replacen(
        "{kernel,",
        &format!("{{{name},\"1.0.0\",permanent}},\n  {{kernel,"),
        1,
    );
    assert_ne!(text, more, "the release file names kernel: {text}");
    fs::write(file, more).unwrap();
    copied
}

/// A copy of `release` whose sys.config has this line more.
fn with_configuration(release: &Release, into: &Path, line: &str) -> Release {
    let copied = release.copied(into);
    let file = into.join("releases").join(release.version()).join("sys.config");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}{line}\n")).unwrap();
    copied
}

#[test]
fn an_application_that_is_new_is_cold() {
    let v2 = Release::shop(Otp::under_test(), "v2");
    let shop = small(&Release::shop(Otp::under_test(), "v1"));
    let before = look(&shop);
    let scratch = Scratch::new("application");
    let more = with_application(&v2, scratch.path(), "extra");
    let run = Flyhot::upgrade(&shop, &more).run();
    run.expect("refused", 10);
    assert_eq!(run.reason("application_added")["subject"], "extra", "{run}");
    untouched(&shop, &before, &run);
}

/// Every beam is the node's, and what lies beside the beams is judged all the same.
#[test]
fn a_release_of_the_same_code_is_judged_by_the_rest_of_it() {
    let v1 = Release::shop(Otp::under_test(), "v1");
    let shop = small(&v1);
    let before = look(&shop);
    let verdict = |run: &Run| run.events_named("plan").next().unwrap().json["verdict"].clone();

    let scratch = Scratch::new("same-code");
    let (more, configured) = (scratch.path().join("more"), scratch.path().join("configured"));
    for directory in [&more, &configured] {
        fs::create_dir(directory).unwrap();
    }
    let more = with_application(&v1, &more, "extra");
    for command in [Flyhot::plan, Flyhot::upgrade] {
        let run = command(&shop, &more).run();
        run.expect("refused", 10);
        assert_eq!(verdict(&run), "cold", "{run}");
        assert_eq!(run.reason_codes(), ["application_added"], "{run}");
        let run = command(&shop, &more)
            .args(["--accept", "application_added"])
            .run();
        run.expect("nothing_to_do", 0);
        assert_eq!(verdict(&run), "hot_with_warnings", "{run}");
        assert_eq!(run.reason("application_added")["severity"], "warning", "{run}");
    }
    let configured = with_configuration(&v1, &configured, "%% changed");
    let run = Flyhot::upgrade(&shop, &configured).run();
    run.expect("nothing_to_do", 0);
    assert_eq!(run.reason_codes(), ["configuration_changed"], "{run}");
    untouched(&shop, &before, &run);

    let run = Flyhot::upgrade(&shop, &v1).run();
    run.expect("nothing_to_do", 0);
    assert_eq!(verdict(&run), "hot", "{run}");
    assert_eq!(run.reason_codes(), NONE, "{run}");
}

/// An application of OTP, a key and the start module of an `.app` file, a file below `priv`: new code would miss each of them.
#[test]
fn what_else_a_release_has_is_compared_with_the_node() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = small(&v1);
    let codes = [
        "application_added",
        "configuration_changed",
        "start_module_changed",
        "priv_changed",
    ];
    let run = Flyhot::plan(&shop, &v2).run();
    run.expect("planned", 0);
    assert!(
        !run.reason_codes().iter().any(|code| codes.contains(code)),
        "{run}"
    );

    let scratch = Scratch::new("else");
    let with_asset = v2.variant().file("priv/static/app.js", "new").build();
    let other = with_application(&with_asset, scratch.path(), "xmerl");
    let app = other.ebin("shop").join("shop.app");
    let text = fs::read_to_string(&app).unwrap();
    let changed = text
        .replace("{registered,[]}", "{registered,[]}, {env, [{new_key, 1}]}")
        .replace("{mod,{'Elixir.Shop.Application'", "{mod,{'Elixir.Shop.Checkout'");
    assert_ne!(text, changed);
    fs::write(&app, changed).unwrap();
    let run = Flyhot::plan(&shop, &other).run();
    run.expect("refused", 10);
    for (code, subject, word) in [
        ("application_added", "xmerl", "xmerl"),
        ("configuration_changed", "shop", "new_key"),
        ("start_module_changed", "Shop.Checkout", "Shop.Application"),
        ("priv_changed", "shop", "priv/static/app.js"),
    ] {
        let found = run.reason(code);
        assert_eq!(found["subject"], subject, "{run}");
        assert!(found["sentence"].as_str().unwrap().contains(word), "{run}");
    }
}

#[test]
fn a_module_that_was_loaded_from_elsewhere_is_written_where_the_node_boots_it_from() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let patched = v1.variant().erlang("shop_plain", PLAIN).build();
    let shop = small(&v1);
    let hand = shop.directory().join("tmp/hand");
    fs::create_dir_all(&hand).unwrap();
    fs::copy(
        patched.ebin("shop").join("shop_plain.beam"),
        hand.join("shop_plain.beam"),
    )
    .unwrap();
    shop.probe().eval(&format!(
        "{{module, M}} = code:load_abs(filename:join({hand:?}, \"shop_plain\")), M."
    ));
    let plan = Flyhot::plan(&shop, &v2).run();
    plan.expect("planned", 0);
    assert_eq!(plan.reason("drift")["subject"], "shop_plain", "{plan}");
    // Its code is to be had where it was loaded from.
    assert!(!plan.reason_codes().contains(&"way_back_none"), "{plan}");
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    let disk = shop.probe().start_md5s();
    assert_eq!(disk["shop_plain"], shop.probe().md5s()["shop_plain"], "{run}");
}

/// The md5 of every beam that is kept below `directory`, in whatever folders, by module.
fn kept(shop: &Shop, directory: &Path) -> BTreeMap<String, String> {
    let found = shop.probe().json(&format!(
        "maps:from_list([{{M, string:lowercase(binary:encode_hex(D))}} ||
             F <- filelib:wildcard(filename:join({directory:?}, \"**/*.beam\")),
             {{ok, {{M, D}}}} <- [beam_lib:md5(F)]])."
    ));
    let found = found.as_object().unwrap().iter();
    found
        .map(|(module, md5)| (module.clone(), md5.as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn the_disk_has_the_new_files_and_keeps_the_replaced_ones() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = small(&v1);
    let before = shop.probe().md5s();
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    assert!(!run.reason_codes().contains(&"not_persisted"), "{run}");
    let loaded = shop.probe().md5s();
    let disk = shop.probe().start_md5s();
    let mut base = kept(&shop, &shop.directory().join("lib"));
    base.extend(kept(&shop, &shop.directory().join("releases")));
    let mut changed = 0;
    for (module, md5) in &loaded {
        let old = before.get(module);
        if old == Some(md5) {
            continue;
        }
        assert_eq!(disk.get(module), Some(md5), "{module} on disk: {run}");
        if let Some(old) = old {
            changed += 1;
            assert_eq!(base.get(module), Some(old), "{module} of the base: {run}");
        }
    }
    assert_eq!(run.node(0)["modules"]["changed"], changed, "{run}");
    assert!(changed > 5, "{run}");
}

#[test]
fn a_disk_that_cannot_be_written_is_a_warning_that_names_the_path() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = small(&v1);
    // There is no room beside what is there, so nothing is replaced.
    let place = shop.directory().join("flyhot");
    fs::write(&place, "in the way").unwrap();
    let disk = shop.probe().start_md5s();
    let run = Flyhot::upgrade(&shop, &v2).run();
    run.expect("upgraded", 0);
    let warning = run.reason("not_persisted");
    assert_eq!(warning["severity"], "warning", "{run}");
    let directory = shop.directory();
    assert!(
        warning["subject"]
            .as_str()
            .unwrap()
            .contains(directory.to_str().unwrap()),
        "no path is named: {run}"
    );
    let after = shop.probe().start_md5s();
    for (module, md5) in &disk {
        assert_eq!(after.get(module), Some(md5), "{module} was replaced: {run}");
    }
    assert!(shop.carts().iter().all(|cart| cart.shape == "struct"), "{run}");

    // What was added has no file yet, what was changed an old one: the same command again writes both.
    fs::remove_file(&place).unwrap();
    let again = Flyhot::upgrade(&shop, &v2).run();
    again.expect("nothing_to_do", 0);
    let loaded = shop.probe().md5s();
    let after = shop.probe().start_md5s();
    let new: Vec<&String> = loaded
        .keys()
        .filter(|module| !disk.contains_key(*module))
        .collect();
    assert!(new.iter().any(|module| module.contains("Discount")), "{new:?}");
    for (module, md5) in loaded.iter().filter(|(module, _)| module.contains("hop")) {
        assert_eq!(after.get(module), Some(md5), "{module} on disk: {again}");
    }
}

/// What runs and was never written is written with the next version: a restart must not boot two versions at once.
#[test]
fn what_an_upgrade_left_unwritten_the_next_one_writes() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let plain = include_str!("../fixtures/shop/since_v2/src/shop_plain.erl");
    let v3 = v2
        .variant()
        .erlang(
            "shop_plain",
            &plain.replace(
                "handle_cast(",
                "handle_cast(never, S) -> {stop, never, S};\nhandle_cast(",
            ),
        )
        .build();
    let shop = small(&v1);
    let run = Flyhot::upgrade(&shop, &v2).args(["--no-persist"]).run();
    run.expect("upgraded", 0);
    let run = Flyhot::upgrade(&shop, &v3).run();
    run.expect("upgraded", 0);
    assert_eq!(run.node(0)["modules"]["changed"], 1, "{run}");
    let disk = shop.probe().start_md5s();
    let loaded = shop.probe().md5s();
    let own: Vec<_> = loaded
        .iter()
        .filter(|(module, _)| module.contains("hop"))
        .collect();
    assert!(own.iter().any(|(module, _)| module.contains("Discount")), "{run}");
    for (module, md5) in own {
        assert_eq!(disk.get(module), Some(md5), "{module} on disk: {run}");
    }
}

#[test]
fn a_configuration_that_differs_is_named_and_one_that_does_not_is_not() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = small(&v1);
    let run = Flyhot::plan(&shop, &v2).run();
    run.expect("planned", 0);
    assert!(!run.reason_codes().contains(&"configuration_changed"), "{run}");

    let scratch = Scratch::new("configured");
    let configured = with_configuration(&v2, scratch.path(), "%% a secret is changed");
    let run = Flyhot::plan(&shop, &configured).run();
    run.expect("planned", 0);
    let warning = run.reason("configuration_changed");
    assert_eq!(warning["subject"], "sys.config", "{run}");
    assert!(!run.stdout.contains("secret"), "{run}");
}

#[test]
fn a_struct_that_changes_its_keys_is_named_and_one_that_does_not_is_not() {
    let build = |keys: &str, text: &str| {
        let source = format!(
            "defmodule Shop.Shape do\n  defstruct {keys}\n  def text, do: {text}\nend
             defmodule Shop.Same do\n  defstruct [:a, b: %{{}}]\n  def text, do: {text}\nend\n"
        );
        Release::shop(Otp::under_test(), "v1")
            .variant()
            .elixir("shapes", &source)
            .build()
    };
    let (from, to) = (build("[:a, :b]", "1"), build("[:a, c: %{}]", "2"));
    let shop = small(&from);
    shop.probe()
        .eval("[{module, M} = code:load_file(M) || M <- ['Elixir.Shop.Shape', 'Elixir.Shop.Same']], ok.");
    let run = Flyhot::upgrade(&shop, &to).run();
    run.expect("upgraded", 0);
    let warning = run.reason("shape_changed");
    assert_eq!(warning["subject"], "Shop.Shape", "{run}");
    let sentence = warning["sentence"].as_str().unwrap();
    assert!(sentence.contains("gains c and loses b"), "{run}");
    let named = run
        .reason_codes()
        .iter()
        .filter(|code| **code == "shape_changed")
        .count();
    assert_eq!(named, 1, "{run}");
}

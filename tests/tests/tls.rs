//! Nodes that speak TLS distribution, where both sides show a certificate: an upgrade, and each way not to agree.

use std::path::Path;

use flyhot_tests::{Authority, Flyhot, Identity, Node, Otp, Release, Run, Shop, ShopBuild, rounds};

const NONE: [&str; 0] = [];

const HOST: &str = "127.0.0.1";

/// The first day that a good certificate is not valid any more is in this year.
const LONG: i32 = 2100;

/// Versions of TLS that a node is told to speak.
const VERSIONS: [&str; 2] = ["['tlsv1.2']", "['tlsv1.3']"];

/// The command with the three files of TLS.
fn over_tls(command: Flyhot, ca: &Path, own: &Identity) -> Flyhot {
    let word = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, certificate, key) = (word(ca), word(&own.certificate), word(&own.key));
    command.args([
        "--dist-tls",
        "--tls-ca-file",
        &ca,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
    ])
}

/// The one error is a sentence on one line that says `what`, with a hint that says `next`.
fn refused(run: &Run, what: &str, next: &str) {
    run.expect("failed", 24);
    let errors: Vec<_> = run.events_named("error").collect();
    assert_eq!(errors.len(), 1, "{run}");
    let text = |key: &str| errors[0].json[key].as_str().unwrap();
    assert!(
        text("message").contains(what) && !text("message").contains('\n'),
        "{what}: {run}"
    );
    assert!(text("hint").contains(next), "{next}: {run}");
}

#[test]
fn an_upgrade_and_its_way_back_over_tls() {
    let otp = Otp::under_test();
    let release = |code| ShopBuild::new(otp, code).with_tls().build();
    let (v1, v2) = (release("v1"), release("v2"));
    for versions in VERSIONS {
        let authority = Authority::new("authority");
        let flyhot = authority.sign("flyhot", HOST, LONG);
        let options = authority.options(&authority.sign("node", HOST, LONG), versions);
        let shop = Shop::of(&v1)
            .carts(200)
            .pool(10)
            .node(|node| node.tls(options))
            .start();
        for _ in 0..rounds(1, 10) {
            let before = shop.carts();
            let up = over_tls(Flyhot::upgrade(&shop, &v2), &authority.file(), &flyhot).run();
            up.expect("upgraded", 0);
            let after = shop.carts();
            assert!(
                before.len() == after.len()
                    && before
                        .iter()
                        .zip(&after)
                        .all(|(a, b)| (a.id, &a.pid, a.total) == (b.id, &b.pid, b.total)),
                "{up}"
            );
            assert!(after.iter().all(|cart| cart.shape == "struct"), "{up}");
            let down = over_tls(Flyhot::upgrade(&shop, &v1), &authority.file(), &flyhot)
                .args(["--down"])
                .run();
            down.expect("upgraded", 0);
            assert!(shop.carts().iter().all(|cart| cart.shape == "tuple"), "{down}");
            assert_eq!(shop.probe().suspended(), NONE, "{down}");
            assert_eq!(shop.probe().traces(), NONE, "{down}");
        }
    }
}

#[test]
fn every_command_goes_over_tls() {
    let otp = Otp::under_test();
    let authority = Authority::new("authority");
    let flyhot = authority.sign("flyhot", HOST, LONG);
    let options = authority.options(&authority.sign("node", HOST, LONG), VERSIONS[1]);
    let shop = Shop::of(&ShopBuild::new(otp, "v1").with_tls().build())
        .carts(20)
        .pool(10)
        .node(|node| node.tls(options))
        .start();
    for verb in ["status", "thaw", "doctor", "restore-base"] {
        let ask = || Flyhot::ask(verb, &shop);
        over_tls(ask(), &authority.file(), &flyhot)
            .run()
            .expect("done", 0);
        let plain = ask().run();
        plain.expect("failed", 24);
    }
}

#[test]
fn each_way_not_to_agree_has_its_own_sentence() {
    let otp = Otp::under_test();
    let release = Release::shop(otp, "v2");
    let (authority, other) = (Authority::new("authority"), Authority::new("other authority"));
    let (ca, flyhot) = (authority.file(), authority.sign("flyhot", HOST, LONG));
    for versions in VERSIONS {
        let node = |name: &str, host: &str, until| {
            let options = authority.options(&authority.sign(name, host, until), versions);
            Node::erl(otp).tls(options).start()
        };
        let good = node("node", HOST, LONG);
        let to = |node: &Node| Flyhot::plan(node, &release);

        refused(
            &over_tls(to(&good), &other.file(), &flyhot).run(),
            "is not signed by the CA that was given",
            "--tls-ca-file",
        );
        refused(
            &over_tls(to(&node("expired", HOST, 2021)), &ca, &flyhot).run(),
            "the node's certificate has expired",
            "new certificate",
        );
        refused(
            &over_tls(to(&node("elsewhere", "elsewhere.example", LONG)), &ca, &flyhot).run(),
            "the node's certificate is not for the host 127.0.0.1",
            "subject alternative names",
        );
        for ours in [
            other.sign("stranger", HOST, LONG),
            authority.sign("flyhot_expired", HOST, 2021),
        ] {
            refused(
                &over_tls(to(&good), &ca, &ours).run(),
                "the node refused our certificate",
                "--tls-cert-file",
            );
        }
        refused(
            &over_tls(to(&good), &ca, &flyhot)
                .env("RELEASE_COOKIE", "wrong")
                .run(),
            "refused the cookie",
            "--cookie-file",
        );
        refused(&to(&good).run(), "the handshake with", "--dist-tls");
    }
    let plain = Node::erl(otp).start();
    refused(
        &over_tls(Flyhot::plan(&plain, &release), &ca, &flyhot).run(),
        "TLS",
        "--dist-tls",
    );
}

#[test]
fn a_key_of_another_certificate_is_a_usage_error_that_names_the_file() {
    let authority = Authority::new("authority");
    let one = authority.sign("one", HOST, LONG);
    let two = authority.sign("two", HOST, LONG);
    let mixed = Identity {
        certificate: one.certificate,
        key: two.key.clone(),
    };
    let node = Node::erl(Otp::under_test()).start();
    let command = Flyhot::plan(&node, &Release::shop(Otp::under_test(), "v2"));
    let run = over_tls(command, &authority.file(), &mixed).run();
    run.expect("refused", 2);
    let error = &run.events_named("error").next().unwrap().json;
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains(two.key.to_str().unwrap()),
        "{run}"
    );
    let pem = std::fs::read_to_string(&two.key).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    assert!(
        !run.stdout.contains(secret) && !run.stderr.contains(secret),
        "{run}"
    );
}

//! Peers that are no Erlang node, or a broken one: the command says what it met and ends, whatever they do, in time and
//! in bounded memory; and what a node of good will is made to say besides does an upgrade no harm.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flyhot_tests::peer::{CREATION, Connection, GIVEN, Peer, challenge, etf, framed, pass_through, status};
use flyhot_tests::{Flyhot, Otp, Release, Run, Shop};

const NAME: &str = "shop@127.0.0.1";
const COOKIE: &str = "a_cookie";

/// Messages to our pid that come with each five frames of a node.
const SENDS: usize = 10_000;

/// One frame of 128 MiB may be taken, and a term decoded from it has 235 MB at the most; a debug build that has read a
/// release has the rest.
const MEMORY: u64 = 1_500_000_000;

/// A step of the handshake may take 7 s, a call 15 s, and an upgrade that fails says goodbye with another: three times.
const ENDS_WITHIN: Duration = Duration::from_secs(111);

/// Commands at a time: most of them wait for most of the time.
const LANES: usize = 6;

type Play = fn(&mut Connection) -> io::Result<()>;

/// Every play against a command of its own; its name, and what the command has to say of it.
fn all(plays: &[(&'static str, Play, &'static str)]) {
    let release = Release::shop(Otp::under_test(), "v1");
    let next = AtomicUsize::new(0);
    let lane = || {
        let mut failed = Vec::new();
        while let Some(&(name, play, says)) = plays.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = plan(Peer::playing(play).port(), &release).memory(MEMORY).run();
            failed.extend(wrong(&run, says).map(|what| format!("---- {name}: {what}\n{run}")));
        }
        failed
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn plan(port: u16, release: &Release) -> Flyhot {
    let port = port.to_string();
    let release = release.directory().to_str().unwrap();
    Flyhot::new(["plan", "--node", NAME, "--release", release, "--dist-port", &port])
        .args(["--output", "json"])
        .env("RELEASE_COOKIE", COOKIE)
}

/// Unreachable, in a sentence that says why, and in time.
fn wrong(run: &Run, says: &str) -> Option<String> {
    let error = run.events_named("error").next();
    let sentence = error
        .map(|error| error.json["message"].to_string())
        .unwrap_or_default();
    if run.exit_code != Some(24) {
        Some(format!("exit code {:?}, not 24", run.exit_code))
    } else if !sentence.contains(says) {
        Some(format!("{sentence:?} does not say {says:?}"))
    } else if run.stderr.contains("panicked") {
        Some("it panicked".to_owned())
    } else if run.took > ENDS_WITHIN {
        Some(format!("it took {:?}", run.took))
    } else {
        None
    }
}

#[test]
fn before_and_in_the_handshake() {
    all(&[
        (
            "another protocol",
            |peer| peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "exchanging names",
        ),
        ("closes at once", |_| Ok(()), "exchanging names"),
        (
            "says nothing",
            Connection::silence,
            "did not answer within 7000 ms while exchanging names",
        ),
        (
            "a status without end",
            |peer| {
                peer.write(&[255, 255])
                    .and_then(|()| peer.flood(&[b's'; 4096], 100_000))
            },
            "exchanging names",
        ),
        (
            "an empty status",
            |peer| peer.write(&framed(2, b"")),
            "exchanging names",
        ),
        (
            "a status nobody knows",
            |peer| peer.write(&framed(2, b"swhatever")),
            "exchanging names",
        ),
        (
            "a name that is cut",
            |peer| peer.write(&framed(2, b"snamed:\0\xff1T9F")),
            "exchanging names",
        ),
        (
            "a name without creation",
            |peer| peer.write(&framed(2, b"snamed:\0\x041T9F")),
            "exchanging names",
        ),
        (
            "a name that is no text",
            |peer| peer.write(&framed(2, &status(b"\xff\xfe\xfd"))),
            "exchanging names",
        ),
        (
            "a status that is cut",
            |peer| peer.write(&framed(2, &status(b"1T9F"))[..9]),
            "exchanging names",
        ),
        (
            "no name",
            |peer| peer.handshake().and_then(|_| peer.write(&framed(2, b"sok"))),
            "the node gave us no name",
        ),
        (
            "a clash",
            |peer| peer.handshake().and_then(|_| peer.write(&framed(2, b"salive"))),
            "has a connection under our name already",
        ),
        (
            "not allowed",
            |peer| {
                peer.handshake()
                    .and_then(|_| peer.write(&framed(2, b"snot_allowed")))
            },
            "does not allow connections",
        ),
        (
            "no challenge",
            |peer| peer.gives_a_name().and_then(|()| peer.silence()),
            "while exchanging challenges",
        ),
        (
            "a challenge of another kind",
            |peer| {
                peer.gives_a_name()
                    .and_then(|()| peer.write(&framed(2, b"x12345678901234567890")))
            },
            "exchanging challenges",
        ),
        (
            "a challenge that is cut",
            |peer| {
                peer.gives_a_name()
                    .and_then(|()| peer.write(&framed(2, &challenge(NAME.as_bytes())[..12])))
            },
            "exchanging challenges",
        ),
        (
            "a challenge with a name without end",
            |peer| {
                let mut cut = challenge(NAME.as_bytes());
                let at = cut.len() - NAME.len() - 2;
                cut[at..at + 2].copy_from_slice(&[255, 255]);
                peer.gives_a_name().and_then(|()| peer.write(&framed(2, &cut)))
            },
            "exchanging challenges",
        ),
        (
            "a challenge of nobody",
            |peer| {
                peer.gives_a_name()
                    .and_then(|()| peer.challenges(""))
                    .and_then(|()| peer.silence())
            },
            "exchanging challenges",
        ),
        (
            "another node",
            |peer| peer.shakes_hands("other@127.0.0.1", COOKIE),
            "the node that answered is other@127.0.0.1, not shop@127.0.0.1",
        ),
        (
            "refuses the cookie",
            |peer| {
                peer.gives_a_name()
                    .and_then(|()| peer.challenges(NAME))
                    .and_then(|()| peer.is_answered())
            },
            "refused the cookie",
        ),
        (
            "does not know the cookie itself",
            |peer| {
                peer.shakes_hands(NAME, "another_cookie")
                    .and_then(|()| peer.silence())
            },
            "cookie",
        ),
        (
            "does not answer our challenge",
            |peer| {
                peer.gives_a_name()?;
                peer.challenges(NAME)?;
                peer.is_answered()?;
                peer.silence()
            },
            "did not answer within 7000 ms while exchanging challenges",
        ),
        (
            "an answer that is cut",
            |peer| {
                peer.gives_a_name()?;
                peer.challenges(NAME)?;
                peer.is_answered()?;
                peer.write(&framed(2, b"a1234"))
            },
            "exchanging challenges",
        ),
    ]);
}

/// Shakes hands, then says this.
fn then(peer: &mut Connection, bytes: &[u8]) -> io::Result<()> {
    peer.shakes_hands(NAME, COOKIE)?;
    peer.frame()?;
    peer.write(bytes)?;
    peer.silence()
}

/// A send to our pid, with its length.
fn to_us(name: &str, creation: u32, message: &[u8]) -> Vec<u8> {
    let control = etf::tuple(&[etf::small(2), etf::atom(""), etf::pid(name, 1, creation)]);
    pass_through(&control, Some(message))
}

/// The same, if what comes after the version byte of the control message is this.
fn control(bytes: &[u8]) -> Vec<u8> {
    pass_through(bytes, None)
}

/// Shakes hands, and answers each call by what `answer` makes of its reference.
fn answering(peer: &mut Connection, answer: fn(Vec<u8>) -> Vec<u8>) -> io::Result<()> {
    peer.shakes_hands(NAME, COOKIE)?;
    let of_ours = etf::reference(GIVEN, [0; 3], CREATION);
    let unchanged = of_ours.len() - 12;
    loop {
        let frame = peer.frame()?;
        let mut words = frame.windows(of_ours.len());
        if let Some(reference) = words.find(|part| part[..unchanged] == of_ours[..unchanged]) {
            peer.write(&to_us(GIVEN, CREATION, &answer(reference.to_vec())))?;
        }
    }
}

#[test]
fn after_the_handshake() {
    all(&[
        (
            "closes",
            |peer| peer.shakes_hands(NAME, COOKIE),
            "the connection was lost",
        ),
        ("says nothing", |peer| then(peer, b""), "no answer within"),
        (
            "a length without end",
            |peer| then(peer, &[255; 4]),
            "announced a frame of 4294967295 bytes",
        ),
        (
            "a long frame that never comes",
            |peer| then(peer, &[8, 0, 0, 0, 112, 131]),
            "no answer within",
        ),
        (
            "a frame that is cut",
            |peer| {
                peer.shakes_hands(NAME, COOKIE)?;
                peer.frame()?;
                peer.write(&[0, 0, 1, 0, 112, 131])
            },
            "the connection was lost",
        ),
        (
            "a frame of another kind",
            |peer| then(peer, &framed(4, b"GET /")),
            "a frame of type 71",
        ),
        (
            "an atom cache",
            |peer| then(peer, &framed(4, &[131, 68, 0, 104])),
            "a frame of type 131",
        ),
        (
            "a first fragment",
            |peer| then(peer, &framed(4, &[131, 69, 0, 0, 0, 0, 0, 0, 0, 1])),
            "a frame of type 131",
        ),
        (
            "a cached atom",
            |peer| then(peer, &control(&[82, 0])),
            "the term has tag 82",
        ),
        (
            "a packed term",
            // What is packed is never unpacked, whatever it holds.
            |peer| then(peer, &control(&[80, 255, 255, 255, 255, 0x78, 0x9c])),
            "the term has tag 80",
        ),
        (
            "a list without end",
            |peer| then(peer, &control(&[108, 255, 255, 255, 255])),
            "the term is cut off",
        ),
        (
            "a tuple without end",
            |peer| then(peer, &control(&[105, 255, 255, 255, 255])),
            "the term is cut off",
        ),
        (
            "a map without end",
            |peer| then(peer, &control(&[116, 255, 255, 255, 255])),
            "the term is cut off",
        ),
        (
            "a binary without end",
            |peer| then(peer, &control(&[109, 255, 255, 255, 255])),
            "the term is cut off",
        ),
        (
            "an integer without end",
            |peer| then(peer, &control(&[111, 255, 255, 255, 255, 0])),
            "the term has an integer of 4294967295 bytes",
        ),
        (
            "nested without end",
            |peer| then(peer, &control(&[104, 1].repeat(1_000_000))),
            "the term nests deeper than 256 levels",
        ),
        (
            "more terms than memory is given for",
            |peer| {
                let count: u32 = 100_000_000;
                let list = [
                    &[108][..],
                    &count.to_be_bytes(),
                    &[106].repeat(count as usize + 1),
                ]
                .concat();
                then(peer, &control(&list))
            },
            "the term holds more than",
        ),
        (
            "no message",
            |peer| then(peer, &control(&etf::atom("hello"))),
            "a control message that is no tuple",
        ),
        (
            "a message without a number",
            |peer| then(peer, &control(&etf::tuple(&[etf::atom("send")]))),
            "a control message without a number",
        ),
        (
            "ticks and nothing else",
            |peer| {
                peer.shakes_hands(NAME, COOKIE)?;
                peer.frame()?;
                peer.flood(&[0; 4096], 1_000_000)
            },
            "no answer within",
        ),
        (
            "answers what is no term",
            |peer| answering(peer, |reference| [vec![104, 2], reference, vec![82, 0]].concat()),
            "malformed",
        ),
    ]);
}

/// It answers every call by a number, the first of which should have been whether the agent is there.
#[test]
fn a_node_that_answers_nonsense() {
    let peer = Peer::playing(|peer| answering(peer, |reference| etf::tuple(&[reference, etf::small(7)])));
    let run = plan(peer.port(), &Release::shop(Otp::under_test(), "v1"))
        .memory(MEMORY)
        .run();
    assert_eq!(run.exit_code, Some(14), "{run}");
    assert!(!run.stderr.contains("panicked"), "{run}");
}

/// A hundred thousand messages at once, and all that a process of the node may aim at us, again and again.
#[test]
fn whatever_else_a_node_says_an_upgrade_goes_on() {
    let (v1, v2) = (
        Release::shop(Otp::under_test(), "v1"),
        Release::shop(Otp::under_test(), "v2"),
    );
    let shop = Shop::of(&v1).carts(100).pool(100).start();
    let port: u16 = shop
        .probe()
        .eval(&format!(
            "{{port, P, _}} = erl_epmd:port_please({:?}, {{127,0,0,1}}), P.",
            shop.name().split('@').next().unwrap()
        ))
        .parse()
        .unwrap();
    let times = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&times);
    let peer = Peer::between(port, 5, move |name, creation| {
        count.fetch_add(1, Ordering::Relaxed);
        aimed_at_us(name, creation)
    });
    for (release, version) in [(&v2, "v2"), (&v1, "v1")] {
        let run = Flyhot::upgrade(&shop, release)
            .args(["--dist-port", &peer.port().to_string()])
            .memory(MEMORY)
            .run();
        run.expect("upgraded", 0);
        assert_eq!(
            shop.probe()
                .eval("element(1, gen_server:call(shop_plain, call))."),
            version,
            "{run}"
        );
        assert_eq!(shop.probe().suspended(), [""; 0], "{run}");
        assert_eq!(shop.probe().traces(), [""; 0], "{run}");
    }
    let times = times.load(Ordering::Relaxed);
    assert!(times * SENDS >= 100_000, "{times} times");
}

fn aimed_at_us(own: &str, creation: u32) -> Vec<u8> {
    let us = || etf::pid(own, 1, creation);
    let stranger = || etf::pid("shop@127.0.0.1", 99, 1);
    let reference = || etf::reference("shop@127.0.0.1", [1, 2, 3], 1);
    let boom = || etf::atom("boom");
    let mut bytes = to_us(own, creation, &etf::tuple(&[etf::atom("hello"), etf::small(1)])).repeat(SENDS);
    // LINK, EXIT, EXIT2, GROUP_LEADER, MONITOR_P, DEMONITOR_P, MONITOR_P_EXIT, SPAWN_REQUEST's number, and one that
    // there is not.
    for operation in [
        vec![etf::small(1), stranger(), us()],
        vec![etf::small(3), stranger(), us(), boom()],
        vec![etf::small(8), stranger(), us(), etf::atom("kill")],
        vec![etf::small(7), stranger(), us()],
        vec![etf::small(19), stranger(), us(), reference()],
        vec![etf::small(20), stranger(), us(), reference()],
        vec![etf::small(21), us(), stranger(), reference(), boom()],
        vec![etf::small(29), reference(), stranger(), us(), boom(), boom()],
        vec![etf::small(99)],
    ] {
        bytes.extend(pass_through(&etf::tuple(&operation), None));
    }
    let request = [
        etf::atom("io_request"),
        stranger(),
        reference(),
        etf::tuple(&[etf::atom("get_line"), etf::atom("unicode"), etf::atom("prompt")]),
    ];
    bytes.extend(to_us(own, creation, &etf::tuple(&request)));
    // Answers to calls that were made by nobody: of this session and of one before.
    for (call, creation) in [(200_000, creation), (1, creation + 1)] {
        let reference = etf::reference(own, [call, 0, 0], creation);
        bytes.extend(to_us(own, creation, &etf::tuple(&[reference, boom()])));
    }
    // To a pid of ours that there is not, and to a name.
    let control = etf::tuple(&[etf::small(2), etf::atom(""), etf::pid(own, 5, creation)]);
    bytes.extend(pass_through(&control, Some(&boom())));
    let control = etf::tuple(&[etf::small(6), stranger(), etf::atom(""), etf::atom("net_kernel")]);
    bytes.extend(pass_through(&control, Some(&boom())));
    bytes
}

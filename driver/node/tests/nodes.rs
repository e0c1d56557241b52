//! Sessions with real nodes: of the OTP in FLYHOT_OTP_BIN, or of the one on PATH.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use flyhot_node::term::{Atom, Binary, FixInteger, List, Map, Pid, Term, Tuple};
use flyhot_node::{CallError, ConnectError, ConnectOptions, Cookie, Session, connect};
use support::{Epmd, Node, SOON, free_port};

fn atom(name: &str) -> Term {
    Atom::from(name).into()
}

fn small(value: i32) -> Term {
    FixInteger { value }.into()
}

fn tuple<const N: usize>(elements: [Term; N]) -> Term {
    Tuple {
        elements: elements.into(),
    }
    .into()
}

fn list<const N: usize>(elements: [Term; N]) -> Term {
    List {
        elements: elements.into(),
    }
    .into()
}

/// The elements of a tuple.
fn parts(term: Term) -> Vec<Term> {
    let Term::Tuple(tuple) = term else {
        panic!("{term} is no tuple")
    };
    tuple.elements
}

async fn call<const N: usize>(session: &Session, module: &str, function: &str, args: [Term; N]) -> Term {
    session.call(module, function, args.into(), SOON).await.unwrap()
}

async fn parse(session: &Session, text: &str) -> Term {
    let text = Term::ByteList(format!("{text}.").into_bytes().into());
    let tokens = parts(call(session, "erl_scan", "string", [text]).await).swap_remove(1);
    parts(call(session, "erl_parse", "parse_exprs", [tokens]).await).swap_remove(1)
}

/// Evaluates Erlang text on the node, in a process of its own.
async fn eval(session: &Session, bindings: &[(&str, Term)], text: &str) -> Term {
    let parsed = parse(session, text).await;
    let bindings = bindings
        .iter()
        .map(|(name, value)| tuple([atom(name), value.clone()]))
        .collect();
    let bindings = List { elements: bindings }.into();
    parts(call(session, "erl_eval", "exprs", [parsed, bindings]).await).swap_remove(1)
}

#[tokio::test]
async fn a_session_is_hidden_and_has_the_name_it_was_given() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    assert_eq!(
        call(&session, "erlang", "node", []).await,
        atom(&node.name.to_string())
    );
    assert_eq!(session.peer(), &node.name);
    assert_eq!(call(&session, "erlang", "nodes", []).await, list([]));
    assert_eq!(
        call(&session, "erlang", "nodes", [atom("hidden")]).await,
        list([atom(session.own_name())])
    );
}

#[tokio::test]
async fn two_sessions_with_one_node_have_two_names() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let (one, two) = (node.connect().await, node.connect().await);
    assert_ne!(one.own_name(), two.own_name());
    call(&one, "erlang", "node", []).await;
    call(&two, "erlang", "node", []).await;
}

#[tokio::test]
async fn terms_come_back_from_a_node_as_they_went() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    for term in [
        list([small(-1), small(2)]),
        list([small(-1)]),
        List {
            elements: vec![small(7); 70_000],
        }
        .into(),
        small(i32::MIN),
        flyhot_node::term::BigInteger::from(i64::MIN).into(),
        flyhot_node::term::Float { value: -0.1 }.into(),
        flyhot_node::term::BitBinary {
            bytes: vec![255, 5],
            tail_bits_size: 3,
        }
        .into(),
        flyhot_node::term::ImproperList {
            elements: vec![small(1)],
            last: Box::new(atom("x")),
        }
        .into(),
        Map::from([
            (atom("ключ"), list([])),
            (small(1), Binary { bytes: vec![0, 255] }.into()),
        ])
        .into(),
        Tuple {
            elements: vec![atom("é"); 300],
        }
        .into(),
        session.pid().into(),
        call(&session, "erlang", "make_ref", []).await,
        call(&session, "erlang", "whereis", [atom("init")]).await,
        eval(&session, &[], "hd(erlang:ports())").await,
        eval(&session, &[], "fun lists:map/2").await,
    ] {
        assert_eq!(
            call(&session, "lists", "last", [list([term.clone()])]).await,
            term
        );
    }
    // What the node itself makes of them.
    let text = eval(
        &session,
        &[("T", list([small(-1), small(2)]))],
        "iolist_to_binary(io_lib:write(T))",
    )
    .await;
    assert_eq!(
        text,
        Binary {
            bytes: b"[-1,2]".to_vec()
        }
        .into()
    );
}

#[tokio::test]
async fn a_reply_of_64_mb_arrives_and_small_calls_go_on() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    let piece = Binary {
        bytes: vec![b'x'; 1_000],
    };
    let bulk = session.call("binary", "copy", vec![piece.into(), small(64_000)], SOON);
    let (bulk, small) = tokio::join!(bulk, session.call("erlang", "node", vec![], SOON));
    let Ok(Term::Binary(bulk)) = bulk else {
        panic!("{bulk:?}")
    };
    assert_eq!(bulk.bytes.len(), 64_000_000);
    assert!(bulk.bytes.iter().all(|byte| *byte == b'x'));
    assert_eq!(small, Ok(atom(&node.name.to_string())));
}

#[tokio::test]
async fn a_thousand_calls_at_once_are_all_answered() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let session = session.clone();
        calls.spawn(async move {
            assert_eq!(
                call(&session, "erlang", "abs", [small(-number)]).await,
                small(number)
            );
        });
    }
    calls.join_all().await;
}

#[tokio::test]
async fn no_call_waits_for_a_delayed_acknowledgement() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    let start = Instant::now();
    for _ in 0..500 {
        call(&session, "erlang", "node", []).await;
    }
    // Measured 0.2 ms a call; 40 ms with Nagle's algorithm and two writes.
    let each = start.elapsed() / 500;
    assert!(each < Duration::from_millis(20), "{each:?} a call");
}

#[tokio::test]
async fn an_idle_session_outlives_three_tick_times() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &["-kernel", "net_ticktime", "2"]);
    let session = node.connect().await;
    call(&session, "erlang", "node", []).await;
    // Time is the condition here.
    tokio::time::sleep(Duration::from_secs(7)).await;
    call(&session, "erlang", "node", []).await;
}

#[tokio::test]
async fn a_session_outlives_a_long_reply_that_leaves_no_room_for_ticks() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &["-kernel", "net_ticktime", "2"]);
    let session = node.connect().await;
    // For three seconds the node sends data and no tick, and we are asked nothing.
    let busy = "T = erlang:monotonic_time(millisecond),
        F = fun F() -> case erlang:monotonic_time(millisecond) - T of
            D when D > 4000 -> done;
            _ -> P ! {data, binary:copy(<<0>>, 1000)}, timer:sleep(50), F()
        end end, F()";
    let pid = session.pid().into();
    let mut incoming = session.incoming().unwrap();
    assert_eq!(eval(&session, &[("P", pid)], busy).await, atom("done"));
    assert!(incoming.recv().await.is_some());
}

#[tokio::test]
async fn long_names_short_names_and_ipv6_are_all_reached() {
    let epmd = Epmd::start();
    for (kind, host, more) in [
        ("-name", "127.0.0.1", &[][..]),
        ("-sname", "localhost", &[]),
        ("-name", "::1", &["-proto_dist", "inet6_tcp"]),
    ] {
        let node = Node::named(&epmd, kind, host, more);
        assert_eq!(node.name.is_long(), kind == "-name");
        let session = node.connect().await;
        assert_eq!(
            call(&session, "erlang", "node", []).await,
            atom(&node.name.to_string())
        );
        assert!(
            session.own_name().ends_with(&format!("@{host}")),
            "{}",
            session.own_name()
        );
    }
}

#[tokio::test]
async fn a_node_is_reached_by_its_port_without_any_epmd() {
    let epmd = Epmd::start();
    let port = free_port();
    let range =
        ["inet_dist_listen_min", "inet_dist_listen_max"].map(|key| ["-kernel", key].map(str::to_owned));
    let more: Vec<String> = range
        .into_iter()
        .flat_map(|pair| [&pair[..], &[port.to_string()]].concat())
        .collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let node = Node::start(&epmd, &more);
    drop(epmd);
    let session = connect(&ConnectOptions {
        dist_port: Some(port),
        ..node.options()
    })
    .await
    .unwrap();
    assert_eq!(
        call(&session, "erlang", "node", []).await,
        atom(&node.name.to_string())
    );
}

#[tokio::test]
async fn the_failures_of_looking_up_a_node_are_told_apart() {
    let epmd = Epmd::start();
    let options = ConnectOptions {
        peer: "nobody@localhost".parse().unwrap(),
        cookie: Cookie::new("x"),
        dist_port: None,
        epmd_port: epmd.port,
        tls: None,
        step_timeout: SOON,
    };
    let error = connect(&options).await.unwrap_err();
    let ConnectError::NotRegistered { name, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(name, "nobody");

    let closed = free_port();
    let error = connect(&ConnectOptions {
        epmd_port: closed,
        ..options.clone()
    })
    .await
    .unwrap_err();
    let ConnectError::NoEpmd { address, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*address, format!("localhost:{closed}"));

    let error = connect(&ConnectOptions {
        dist_port: Some(closed),
        ..options.clone()
    })
    .await
    .unwrap_err();
    let ConnectError::Refused { address, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*address, format!("localhost:{closed}"));

    let peer = "nobody@::1".parse().unwrap();
    let error = connect(&ConnectOptions {
        peer,
        dist_port: Some(closed),
        ..options.clone()
    })
    .await
    .unwrap_err();
    let ConnectError::Refused { address, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*address, format!("[::1]:{closed}"));

    let peer = "nobody@no.such.host.invalid".parse().unwrap();
    let error = connect(&ConnectOptions { peer, ..options }).await.unwrap_err();
    let ConnectError::NoSuchHost { host, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(host, "no.such.host.invalid");
}

#[tokio::test]
async fn a_wrong_cookie_is_named_as_such() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let options = ConnectOptions {
        cookie: Cookie::new("wrong"),
        ..node.options()
    };
    let error = connect(&options).await.unwrap_err();
    assert!(matches!(error, ConnectError::CookieRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn what_a_call_raises_is_a_badrpc_with_its_reason() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    for (module, function, args, part) in [
        ("erlang", "error", vec![atom("Boom")], "{'EXIT',{'Boom',["),
        ("erlang", "exit", vec![small(7)], "{'EXIT',7}"),
        ("no_module", "f", vec![], "{'EXIT',{undef,[{no_module,f,[],"),
    ] {
        let error = session.call(module, function, args, SOON).await.unwrap_err();
        let CallError::BadRpc { reason } = &error else {
            panic!("{error:?}")
        };
        assert!(reason.starts_with(part), "{reason}");
    }
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_the_next_call_works() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    let after = Duration::from_millis(100);
    let mut incoming = session.incoming().unwrap();
    // Waits for a message that is sent below, so that the answer is late for certain.
    let wait = "register(waiting, self()), receive go -> late end";
    let parsed = parse(&session, wait).await;
    let error = session
        .call("erl_eval", "exprs", vec![parsed, list([])], after)
        .await
        .unwrap_err();
    assert_eq!(error, CallError::Timeout { after });
    eval(
        &session,
        &[],
        "M = monitor(process, waiting), waiting ! go, receive {'DOWN', M, _, _, _} -> ok end",
    )
    .await;
    call(&session, "erlang", "node", []).await;
    assert_eq!(session.dropped(), 0);
    assert!(incoming.try_recv().is_err());
}

#[tokio::test]
async fn a_node_that_dies_ends_the_calls_that_wait() {
    let epmd = Epmd::start();
    let mut node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    let sleeping = {
        let session = session.clone();
        tokio::spawn(async move { session.call("timer", "sleep", vec![atom("infinity")], SOON).await })
    };
    // The sleeper's frame was written first: the table is in order of the calls.
    tokio::task::yield_now().await;
    call(&session, "erlang", "node", []).await;
    node.kill();
    let error = sleeping.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost { .. }), "{error:?}");
    let error = session.call("erlang", "node", vec![], SOON).await.unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_frame_over_the_cap_ends_the_session_with_its_size() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    let piece = Binary {
        bytes: vec![0; 1_000],
    };
    let error = session
        .call("binary", "copy", vec![piece.into(), small(140_000)], SOON)
        .await
        .unwrap_err();
    let CallError::FrameTooLarge { size, max } = error else {
        panic!("{error:?}")
    };
    assert!(size > 140_000_000 && max < size, "{size} {max}");
    // The node is none the worse for it.
    call(&node.connect().await, "erlang", "node", []).await;
}

#[tokio::test]
async fn processes_of_the_node_send_to_us_and_we_to_them() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    let mut incoming = session.incoming().unwrap();
    let us = || Term::from(session.pid());
    call(
        &session,
        "erlang",
        "send",
        [us(), tuple([atom("hello"), small(1)])],
    )
    .await;
    assert_eq!(incoming.recv().await, Some(tuple([atom("hello"), small(1)])));

    let request = |reply_as| tuple([atom("io_request"), us(), reply_as, list([])]);
    session.send_name("user", request(atom("by_name"))).await.unwrap();
    let answer = parts(incoming.recv().await.unwrap());
    assert_eq!(answer[..2], [atom("io_reply"), atom("by_name")]);

    let Term::Pid(user) = call(&session, "erlang", "whereis", [atom("user")]).await else {
        panic!()
    };
    session.send(&user, request(atom("by_pid"))).await.unwrap();
    let answer = parts(incoming.recv().await.unwrap());
    assert_eq!(answer[..2], [atom("io_reply"), atom("by_pid")]);
}

#[tokio::test]
async fn a_flood_of_sends_is_cut_and_counted() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    let flood = "[P ! X || X <- lists:seq(1, 3000)], ok";
    let mut incoming = session.incoming().unwrap();
    eval(&session, &[("P", session.pid().into())], flood).await;
    let mut taken = 0;
    while let Ok(message) = incoming.try_recv() {
        taken += 1;
        assert_eq!(message, small(taken));
    }
    assert_eq!((taken, session.dropped()), (1024, 3000 - 1024));
}

#[tokio::test]
async fn links_monitors_io_and_traces_aimed_at_us_do_no_harm() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let session = node.connect().await;
    let stranger = Pid {
        serial: 3,
        ..session.pid()
    };
    let text = "link(P), unlink(P), monitor(process, P), monitor(process, Q), monitor(process, {x, node(P)}),
        {x, node(P)} ! hello, Q ! hello, exit(P, normal), group_leader(P, self()), io:put_chars(standard_error, []),
        spawn(fun() -> link(P), exit(boom) end), seq_trace:set_token(label, 17),
        P ! traced, seq_trace:set_token([]), ok";
    let bindings = [("P", session.pid().into()), ("Q", stranger.into())];
    let mut incoming = session.incoming().unwrap();
    assert_eq!(eval(&session, &bindings, text).await, atom("ok"));
    assert_eq!(incoming.recv().await, Some(atom("traced")));
    call(&session, "erlang", "node", []).await;
}

#[tokio::test]
async fn a_closed_session_is_gone_from_the_node_and_nothing_of_it_is_lost() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let watching = node.connect().await;
    let session = node.connect().await;
    let name = session.own_name().to_owned();
    // Sent last, written before the end.
    let text = "register(counter, self()), (fun F(N) -> receive last -> N; _ -> F(N + 1) end end)(0)";
    let counting = {
        let watching = watching.clone();
        tokio::spawn(async move { eval(&watching, &[], text).await })
    };
    let registered =
        "(fun F() -> case whereis(counter) of undefined -> erlang:yield(), F(); _ -> ok end end)()";
    eval(&watching, &[], registered).await;
    for number in 0..1_000 {
        session.send_name("counter", small(number)).await.unwrap();
    }
    session.send_name("counter", atom("last")).await.unwrap();
    session.close().await;
    assert_eq!(counting.await.unwrap(), small(1_000));
    let gone =
        "(fun F() -> case lists:member(N, nodes(hidden)) of true -> erlang:yield(), F(); _ -> ok end end)()";
    assert_eq!(eval(&watching, &[("N", atom(&name))], gone).await, atom("ok"));
}

#[tokio::test]
async fn a_dropped_session_is_gone_from_the_node() {
    let epmd = Epmd::start();
    let node = Node::start(&epmd, &[]);
    let watching = node.connect().await;
    let session = node.connect().await;
    let name = session.own_name().to_owned();
    let clone = session.clone();
    drop(session);
    call(&clone, "erlang", "node", []).await;
    drop(clone);
    let gone =
        "(fun F() -> case lists:member(N, nodes(hidden)) of true -> erlang:yield(), F(); _ -> ok end end)()";
    assert_eq!(eval(&watching, &[("N", atom(&name))], gone).await, atom("ok"));
}

//! Web servers, a database and pages: processes in the shapes that ranch, Cowboy, ThousandIsland, Bandit, DBConnection
//! and Phoenix give them. Whoever can be migrated is, by its host; nobody else gets a message of flyhot's, or is
//! suspended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flyhot_tests::{Comers, Flyhot, Line, Otp, Run, Shapes, rounds, wait_until};
use serde_json::Value;

const NONE: [&str; 0] = [];

/// A client that was turned away comes again.
const AGAIN: Duration = Duration::from_millis(1);

/// A request is inside at once, whatever a loaded machine makes of that.
const SOON: Duration = Duration::from_secs(20);

/// Listens to every process but pages, channels and the pools they are born in: system messages that reach them, and
/// whether they are suspended. New ones are listened to from their birth.
fn listen(shapes: &Shapes) {
    shapes.probe().eval(
        "Start = fun(P) -> case process_info(P, [initial_call, dictionary]) of
                              [{_, {M, _, _}}, {_, D}] ->
                                  case lists:keyfind('$initial_call', 1, D) of {_, {supervisor, S, 1}} -> {S, init, 1}; {_, S} -> S; _ -> {M, raw, 0} end;
                              undefined -> {ended, raw, 0}
                          end end,
         Pools = [P || {_, P} <- ets:tab2list('Elixir.Web.UserSocket'), is_pid(P)],
         Of = [\"ranch\", \"cowboy\", \"Elixir.ThousandIsland\", \"Elixir.Bandit\", \"Elixir.DBConnection\", \"Elixir.Phoenix\", \"Elixir.Web\",
               \"Elixir.Supervisor.Default\"],
         Known = [{P, M} || P <- processes(), {M, F, _} <- [Start(P)], lists:any(fun(O) -> lists:prefix(O, atom_to_list(M)) end, Of),
                            M =:= 'Elixir.Web.Mounter' orelse not lists:member(F, [mount, join]), not lists:member(P, Pools)],
         Never = [P || {P, _} <- Known],
         true = length(Never) > 20,
         [] = [ranch_conns_sup, ranch_acceptor, cowboy_clear, 'Elixir.ThousandIsland.Acceptor', 'Elixir.Bandit.DelegatingHandler',
               'Elixir.DBConnection.ConnectionPool', 'Elixir.DBConnection.Connection'] -- [M || {_, M} <- Known],
         Asleep = fun(P) -> case process_info(P, [status, current_function]) of
                                [{_, suspended}, _] -> true;
                                [_, {_, {sys, suspend_loop, _}}] -> true;
                                _ -> false
                            end end,
         Self = self(),
         register(ears, spawn_opt(fun() ->
             [catch erlang:trace(P, true, ['receive', set_on_spawn]) || P <- Never],
             Self ! listening,
             Loop = fun Loop(Heard) ->
                 receive
                     {trace, P, 'receive', {system, _, Request}} -> Loop([{P, Request} | Heard]);
                     {tell, To} -> To ! {heard, Heard, [P || P <- Never, is_process_alive(P)], [P || P <- Never, not is_process_alive(P)]};
                     look -> erlang:send_after(1, self(), look), Loop([{P, suspended} || P <- Never, Asleep(P)] ++ Heard);
                     _ -> Loop(Heard)
                 end
             end,
             self() ! look,
             Loop([])
         end, [{priority, high}])),
         receive listening -> ok end.",
    );
}

/// Everything that [`listen`] heard but the question which funs a state holds, which processes that answer system messages
/// are asked once; and which of those that it listened to have ended since.
fn heard(shapes: &Shapes) -> String {
    shapes
        .probe()
        .eval(
            "ears ! {tell, self()},
             receive {heard, Heard, _, Ended} -> {[H || {_, What} = H <- Heard, not is_tuple(What) orelse element(1, What) =/= replace_state], Ended} end.",
        )
}

fn planned(run: &Run) -> &Value {
    let plan = run.events.iter().find(|event| event.json["event"] == "plan");
    &plan.unwrap_or_else(|| panic!("no plan: {run}")).json
}

/// A WebSocket with this many pages of a view in it, each visited once.
fn socket_with(shapes: &Shapes, view: &str, pages: usize) -> Line {
    let mut line = Line::web_socket(shapes.island, "/live");
    for page in 0..pages {
        let key = format!("{view}_{page}");
        let said = line.say(&format!("join {key} {view}")).unwrap();
        assert!(said.starts_with("ok "), "{said}");
        line.say(&format!("event {key}")).unwrap();
    }
    line
}

#[test]
fn everyone_is_migrated_by_its_host_or_left_alone() {
    let otp = Otp::under_test();
    let [v1, v2] = ["v1", "v2"].map(|code| Shapes::release(otp, code));
    let shapes = Shapes::start(&v1);
    // Started like a page and a channel, and neither of them.
    shapes.probe().eval(
        "register(mounter, 'Elixir.Web.Mounter':start(mount)), register(joiner, 'Elixir.Web.Mounter':start(join)), ok.",
    );
    // Connections that wait for their next request, WebSockets, pages, and requests that stay inside.
    let mut idle: Vec<Line> = shapes
        .ports()
        .map(|(_, port)| {
            let mut line = Line::open(port).unwrap();
            assert_eq!(line.get("/").unwrap(), "v1");
            line
        })
        .into();
    let mut plain_socket = Line::web_socket(shapes.ranch, "/ws");
    assert_eq!(plain_socket.say("hello").unwrap(), "v1 hello");
    let mut counters = socket_with(&shapes, "Web.CounterLive", 3);
    let mut plains = socket_with(&shapes, "Web.PlainLive", 2);
    let mut rooms = socket_with(&shapes, "Web.RoomChannel", 2);
    let comers = shapes.ports().map(|(_, port)| Comers::start(port, "/", 2, AGAIN));
    let mut inside: Vec<Line> = shapes
        .ports()
        .into_iter()
        .flat_map(|(_, port)| [(port, "/hold"), (port, "/query")])
        .map(|(port, path)| {
            let mut line = Line::open(port).unwrap();
            line.ask(path).unwrap();
            line
        })
        .collect();
    wait_until("everybody is inside", SOON, || {
        let inside = shapes.probe().eval(
            "length([P || P <- processes(), {_, S} <- [process_info(P, current_stacktrace)],
                     lists:keymember('Elixir.Web.Plug.Page', 1, S) orelse lists:keymember('Elixir.Web.Protocol', 1, S)
                         orelse lists:keymember('Elixir.DBConnection', 1, S)]).",
        );
        inside.parse::<u32>().unwrap() >= 4
    });
    listen(&shapes);

    let run = Flyhot::upgrade(&shapes, &v2).run();
    run.expect("upgraded", 0);
    assert_eq!(shapes.pages(), PAGES_V2, "{run}");
    assert_eq!(run.node(0)["processes"]["migrated"], 7, "{run}");
    assert_eq!(run.node(0)["processes"]["failed"], 0, "{run}");

    // Requests that were inside came to their end on the code they began with; one of them waited for the one connection
    // to the database, and found the new code behind it.
    shapes.probe().eval("application:set_env(shop, leave, true).");
    let mut answers: Vec<String> = inside.iter_mut().map(|line| line.answer().unwrap()).collect();
    answers.sort();
    assert_eq!(answers, ["v1", "v1", "v1", "v2"]);
    for line in &mut idle {
        assert_eq!(line.get("/").unwrap(), "v2");
    }
    assert_eq!(plain_socket.say("hello").unwrap(), "v2 hello");
    assert_eq!(counters.say("event Web.CounterLive_0").unwrap(), "ok v2:2:1:2");
    assert_eq!(plains.say("event Web.PlainLive_1").unwrap(), "ok v2:2");
    assert_eq!(rooms.say("event Web.RoomChannel_1").unwrap(), "ok v2:2");
    for comers in comers {
        let came = comers.stop();
        assert!(came.len() > 10, "{}", came.len());
        let failed: Vec<_> = came.iter().filter(|(_, answer)| answer.is_err()).collect();
        assert!(failed.is_empty(), "turned away: {failed:?}");
        assert_eq!(came.last().unwrap().1, Ok("v2".into()));
    }

    // Nothing reached whoever it must not reach.
    let (heard, strays) = (heard(&shapes), shapes.strays());
    assert!(heard.starts_with("{[],"), "heard {heard}: {run}");
    assert_eq!(strays, "[]", "{run}");
    let lost = shapes.probe().eval(
        "[N || {N, P} <- [{N, whereis(N)} || N <- [island, clock, mounter, joiner, 'Elixir.Web.Pool']], P =:= undefined]
         ++ [{P, Q} || P <- processes(), {_, {ranch_acceptor, _, _}} <- [process_info(P, initial_call)],
                {_, Q} <- [process_info(P, messages)], Q =/= []]
         ++ [element(2, process_info(whereis(N), messages)) || N <- [clock, mounter, joiner], process_info(whereis(N), messages) =/= {messages, []}].",
    );
    assert_eq!(lost, "[]", "{run}");
    assert_eq!(shapes.probe().suspended(), NONE, "{run}");
    assert_eq!(shapes.probe().traces(), NONE, "{run}");

    // And the plan said so: only pages and channels are touched, by their hosts.
    let mut kinds: Vec<String> = planned(&run)["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| {
            let [host, behaviour, fate] =
                ["host", "behaviour", "fate"].map(|key| kind[key].as_str().unwrap().to_owned());
            format!("{host} {behaviour} {fate} {}", kind["processes"])
        })
        .collect();
    kinds.sort();
    assert_eq!(
        kinds,
        [
            "Phoenix.Channel.Server gen_server migrate 2",
            "Phoenix.LiveView.Channel gen_server migrate 2",
            "Phoenix.LiveView.Channel gen_server migrate 3",
            "Web.Mounter proc_lib leave 1",
            "Web.Mounter proc_lib leave 1",
        ],
        "{run}"
    );
    let codes = run.reason_codes();
    for code in [
        "way_back_after_drain",
        "component_state_unmigrated",
        "kind_not_migrated",
    ] {
        assert!(codes.contains(&code), "{code}: {run}");
    }
    assert_eq!(run.reason("component_state_unmigrated")["subject"], "Web.Badge");
}

const PAGES_V2: [&str; 7] = [
    "{'Elixir.Web.CounterLive',[{count_v2,1},{rows,[1,2]}]}",
    "{'Elixir.Web.CounterLive',[{count_v2,1},{rows,[1,2]}]}",
    "{'Elixir.Web.CounterLive',[{count_v2,1},{rows,[1,2]}]}",
    "{'Elixir.Web.PlainLive',[{count,1}]}",
    "{'Elixir.Web.PlainLive',[{count,1}]}",
    "{'Elixir.Web.RoomChannel',[{v2,1}]}",
    "{'Elixir.Web.RoomChannel',[{v2,1}]}",
];

/// Transports join pages and leave them all the time, and take a while between the start of a page and its mount. A
/// page with the state of one version and the code of the other would crash at its next visit, and its client with it.
fn joined_meanwhile(view: &'static str) {
    let otp = Otp::under_test();
    let [v1, v2] = ["v1", "v2"].map(|code| Shapes::release(otp, code));
    let shapes = Shapes::start(&v1);
    // The longer the looks for newborns take, the more pages are caught between start and mount.
    shapes
        .probe()
        .eval("application:set_env(shop, join_pause, 3), killer:crowd(5000).");
    let mut stays = socket_with(&shapes, view, 2);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (stop, port) = (Arc::clone(&stop), shapes.island);
            std::thread::spawn(move || {
                let mut line = Line::web_socket(port, "/live");
                let mut joined = 0;
                while !stop.load(Ordering::Relaxed) {
                    let said = line.say(&format!("join k {view}")).expect("joined");
                    assert!(said.starts_with("ok "), "{said}");
                    let said = line.say("event k").expect("visited");
                    assert!(said.starts_with("ok v"), "{said}");
                    assert_eq!(line.say("leave k").expect("left"), "ok");
                    joined += 1;
                }
                joined
            })
        })
        .collect();
    let (mut done, mut to) = (0, &v2);
    for _ in 0..rounds(4, 40) {
        let run = Flyhot::upgrade(&shapes, to).run();
        // One that could not be brought to rest is given up, and says so.
        if run.exit_code != Some(14) {
            run.expect("upgraded", 0);
            assert_eq!(run.node(0)["processes"]["failed"], 0, "{run}");
            done += 1;
            to = if std::ptr::eq(to, &v2) { &v1 } else { &v2 };
        }
    }
    let now = if std::ptr::eq(to, &v2) { "v1" } else { "v2" };
    stop.store(true, Ordering::Relaxed);
    let joined: Vec<u32> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(joined.iter().all(|joined| *joined > 3), "{joined:?}");
    assert!(done > 0, "none of the upgrades was done");
    let said = stays.say(&format!("event {view}_1")).unwrap();
    assert!(said.starts_with(&format!("ok {now}:2")), "{said}");
    assert_eq!(shapes.strays(), "[]");
    assert_eq!(shapes.probe().suspended(), NONE);
    assert_eq!(shapes.probe().traces(), NONE);
}

#[test]
fn pages_that_are_joined_meanwhile_are_of_one_version() {
    joined_meanwhile("Web.CounterLive");
}

#[test]
fn channels_that_are_joined_meanwhile_are_of_one_version() {
    joined_meanwhile("Web.RoomChannel");
}

/// `Web.CounterLive` of v2 with `change` made to it.
fn v2_with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(Shapes::web("v2"), |source, (from, to)| {
        assert!(source.contains(from), "{from}");
        source.replace(from, to)
    })
}

/// The code_change of the counters, away.
const NO_CODE_CHANGE: (&str, &str) = (
    "def code_change(_old, socket, _extra) do\n    assigns",
    "def changes_nothing(_old, socket, _extra) do\n    assigns",
);

/// A template that reads an assign nobody made: in a part of the page within another, and within a loop.
#[test]
fn a_template_that_misses_an_assign_is_found_before_the_thaw() {
    let otp = Otp::under_test();
    let v1 = Shapes::release(otp, "v1");
    let in_a_part = v2_with(&[NO_CODE_CHANGE]);
    let in_a_loop = v2_with(&[NO_CODE_CHANGE, ("[to_string(assigns.count_v2)]", "[\"?\"]")]);
    let otherwise = v2_with(&[("[to_string(assigns.count_v2)]", "[raise(\"no page today\")]")]);
    let shapes = Shapes::start(&v1);
    let mut counters = socket_with(&shapes, "Web.CounterLive", 3);
    let before = shapes.pages();
    for (visits, (source, says)) in [
        (in_a_part, "reads count_v2, which"),
        (in_a_loop, "reads count_v2, which"),
        (otherwise, "no page today"),
    ]
    .into_iter()
    .enumerate()
    {
        let bad = Shapes::with(otp, &source, &[]);
        let run = Flyhot::upgrade(&shapes, &bad).run();
        run.expect("reverted", 11);
        let reason = run.reason("live_view_needs_assign");
        assert_eq!(reason["subject"], "Web.CounterLive", "{run}");
        assert!(reason["sentence"].as_str().unwrap().contains(says), "{run}");
        assert_eq!(run.node(0)["processes"]["failed"], 1, "{run}");
        assert_eq!(shapes.probe().suspended(), NONE, "{run}");
        assert_eq!(shapes.probe().traces(), NONE, "{run}");
        if visits == 0 {
            assert_eq!(shapes.pages(), before, "{run}");
        }
        assert_eq!(
            counters.say("event Web.CounterLive_0").unwrap(),
            format!("ok v1:{}:1:2", visits + 2),
            "{run}"
        );
    }
}

/// What cannot be tried is not called proven, and holds nobody up: a template that waits for ever (outside a LiveView,
/// so that its own pages live), one that is none, a channel that keeps its socket elsewhere.
#[test]
fn a_page_that_cannot_be_tried_is_named() {
    let otp = Otp::under_test();
    let asleep = v2_with(&[(
        "[to_string(assigns.count_v2)]",
        "(if Process.get(:\"$process_label\") == nil, do: Process.sleep(:infinity)); [to_string(assigns.count_v2)]",
    )]);
    let elsewhere = [("socket: socket", "sock: socket")];
    for (source, library, says) in [
        (asleep, &[][..], "did not render within"),
        (Shapes::web("v2"), &elsewhere[..], "not of the shape"),
    ] {
        let shapes = Shapes::start(&Shapes::with(otp, &Shapes::web("v1"), library));
        let mut counters = socket_with(&shapes, "Web.CounterLive", 2);
        let run = Flyhot::upgrade(&shapes, &Shapes::with(otp, &source, library)).run();
        run.expect("upgraded", 0);
        let reason = run.reason("live_view_not_rendered");
        assert_eq!(reason["subject"], "Web.CounterLive", "{run}");
        assert!(reason["sentence"].as_str().unwrap().contains(says), "{run}");
        assert_eq!(reason["severity"], "note", "{run}");
        assert_eq!(
            counters.say("event Web.CounterLive_0").unwrap(),
            "ok v2:2:1:2",
            "{run}"
        );
        assert_eq!(shapes.probe().suspended(), NONE, "{run}");
        assert_eq!(shapes.probe().traces(), NONE, "{run}");
    }
}

/// A host that takes what the view's code_change answers for its own state, as LiveView did before 1.1: every page
/// would crash at its next message.
#[test]
fn a_state_that_lost_its_socket_is_found_before_the_thaw() {
    let otp = Otp::under_test();
    let library = [(
        "{:ok, socket} = socket.view.code_change(old, socket, extra)\n      {:ok, %{state | socket: socket}}",
        "_ = state\n      socket.view.code_change(old, socket, extra)",
    )];
    let [v1, v2] = ["v1", "v2"].map(|code| Shapes::with(otp, &Shapes::web(code), &library));
    let shapes = Shapes::start(&v1);
    let mut counters = socket_with(&shapes, "Web.CounterLive", 2);
    let run = Flyhot::upgrade(&shapes, &v2).run();
    run.expect("reverted", 11);
    let reason = run.reason("migration_failed");
    assert!(
        reason["sentence"]
            .as_str()
            .unwrap()
            .contains("a state without a socket"),
        "{run}"
    );
    assert_eq!(
        counters.say("event Web.CounterLive_0").unwrap(),
        "ok v1:2:1:2",
        "{run}"
    );
    assert_eq!(shapes.probe().suspended(), NONE, "{run}");
}

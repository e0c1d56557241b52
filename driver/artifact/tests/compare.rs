//! What is called the same and what is not: builds of one module by every OTP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

#[path = "support/otp.rs"]
mod otp;

use std::fs;

use flyhot_artifact::beam::Beam;
use flyhot_artifact::beam::compare::{Differences, callback_mode, handles_timeout};
use otp::{Otp, installations};

/// init/1 calls a helper with a fun, a comprehension, a literal, strings, and a call of another module.
const BASE: &str = "-module(m).
    -export([init/1, start/2, handle_info/2, code_change/3, other/1]).
    start(_, _) -> n:other([]).
    init(Args) -> {ok, {state, helper(Args, length(Args) + 3), [X || X <- Args, is_atom(X)]}}.
    helper(Args, N) when N > 5 ->
        F = fun(X) -> {child, X, #{restart => permanent}} end,
        {lists:map(F, Args), <<\"text\", N>>, io_lib:format(\"~p\", [N])};
    helper(Args, _) -> {Args, none, none}.
    handle_info(timeout, S) -> {noreply, [S]};
    handle_info(_, S) -> {noreply, S}.
    code_change(_, S, _) -> {ok, S}.
    other(X) -> {one, X}.\n";

/// Replacements in the base that make another build of it.
type Change<'a> = &'a [(&'a str, &'a str)];

/// The base, and what each change makes of it.
fn builds(otp: &Otp, changes: &[Change<'_>]) -> Vec<Beam> {
    let source = |change: &Change<'_>| {
        change.iter().fold(BASE.to_owned(), |source, (from, to)| {
            assert!(source.contains(from), "{from}");
            source.replace(from, to)
        })
    };
    let sources: Vec<String> = [&[][..]].iter().chain(changes).map(source).collect();
    built(otp, &sources)
}

/// Compiled at once: most of the time goes into starting a compiler.
fn built(otp: &Otp, sources: &[String]) -> Vec<Beam> {
    let mut dirs = vec![];
    for (at, source) in sources.iter().enumerate() {
        let dir = otp.dir(&at.to_string());
        fs::write(dir.join("m.erl"), source).unwrap();
        dirs.push(dir);
    }
    let compile = "[{ok, m} = compile:file(filename:join(D, \"m.erl\"), [{outdir, D}, deterministic])
                    || D <- init:get_plain_arguments()], halt().";
    let mut arguments = vec!["-noshell", "-eval", compile, "-extra"];
    arguments.extend(dirs.iter().map(|dir| dir.to_str().unwrap()));
    otp.run("erl", &arguments);
    let read = |dir: &std::path::PathBuf| Beam::parse(&fs::read(dir.join("m.beam")).unwrap()).unwrap();
    dirs.iter().map(read).collect()
}

fn differences(otp: &Otp, changes: &[Change<'_>]) -> Vec<Differences> {
    let builds = builds(otp, changes);
    let (base, changed) = builds.split_first().unwrap();
    changed
        .iter()
        .map(|build| Differences::between(base, build).unwrap())
        .collect()
}

fn same(differences: &Differences) -> Vec<String> {
    differences.same.iter().map(ToString::to_string).collect()
}

/// A function with atoms, literals, imports and funs that move the numbers of all others.
const NEW: &str = "aaa(X) -> [fun(Y) -> {fresh, atom, Y, #{a => [1, 2]}, ordsets:new()} end || _ <- X].";

#[test]
fn what_a_function_does_not_reach_changes_nothing_about_it() {
    let (before, behind) = (format!("\n\n{NEW}\n start(_, _)"), format!("{NEW}\n other(X)"));
    let export = ("start/2,", "start/2, aaa/1,");
    for otp in installations() {
        for differences in differences(
            &otp,
            &[
                &[export, ("start(_, _)", &before)],
                &[export, ("other(X)", &behind)],
                &[("{one, X}", "{two, X, [a, b]}")],
                &[("{noreply, [S]}", "{noreply, [S, {more}]}")],
            ],
        ) {
            assert_eq!(same(&differences), ["code_change/3", "init/1", "start/2"]);
            assert_eq!(differences.records, vec![]);
        }
    }
}

#[test]
fn whatever_a_function_reaches_makes_it_another() {
    // A literal, integers, the order of elements, a fun's body, another module's function, a comprehension's filter,
    // strings, which stand in a place of their own.
    let of_init: &[Change<'_>] = &[
        &[("#{restart => permanent}", "#{restart => transient}")],
        &[("length(Args) + 3", "length(Args) + 4")],
        &[("N > 5", "N > 6")],
        &[("{Args, none, none}", "{none, Args, none}")],
        &[("{child, X,", "{child, [X],")],
        &[("lists:map", "lists:flatmap")],
        &[("is_atom(X)", "is_list(X)")],
        &[("<<\"text\", N>>", "<<\"tact\", N>>")],
        &[("~p", "~w")],
    ];
    let unexported: Change<'_> = &[
        ("code_change/3, ", ""),
        ("code_change(_", "unused(_"),
        ("other/1", "other/1, unused/3"),
    ];
    for otp in installations() {
        for (differences, change) in differences(&otp, of_init).iter().zip(of_init) {
            assert_eq!(same(differences), ["code_change/3", "start/2"], "{change:?}");
        }
        let others = differences(
            &otp,
            &[
                &[("n:other([])", "n:other([a])")],
                &[(
                    "code_change(_, S, _) -> {ok, S}",
                    "code_change(_, S, _) -> {ok, [S]}",
                )],
                unexported,
            ],
        );
        assert_eq!(same(&others[0]), ["code_change/3", "init/1"]);
        assert_eq!(same(&others[1]), ["init/1", "start/2"]);
        assert_eq!(same(&others[2]), ["init/1", "start/2"]);
    }
}

/// `?MODULE:kids()`, and `fun ?MODULE:kid/1`: alone, inside a literal, inside a tuple that is made.
#[test]
fn what_is_reached_by_the_own_name_of_the_module_counts() {
    let of = |way: &str, kids: &str, kid: &str| {
        format!(
            "-module(m).
             -export([init/1, code_change/3, kids/0, kid/1, other/0]).
             init(Args) -> {{ok, {way}, Args}}.
             code_change(_, S, _) -> m:init(S).
             kids() -> {kids}.
             kid(X) -> {kid}.
             other() -> m:kids() ++ m:kid([]).\n"
        )
    };
    let sources: Vec<String> = [
        ("m:kids()", ["[b]", "X"]),
        ("lists:map(fun m:kid/1, Args)", ["[a]", "[X]"]),
        ("[{a, fun m:kid/1}, #{b => fun m:kid/1}]", ["[a]", "[X]"]),
        ("{Args, [fun m:kid/1]}", ["[a]", "[X]"]),
    ]
    .iter()
    .flat_map(|(way, [kids, kid])| [of(way, "[a]", "X"), of(way, kids, kid), of(way, "[a]", "X")])
    .chain([
        of("a", "[a]", "X"),
        of("a", "[b]", "[X]"),
        of("a", "[a]", "X").replace("other() ->", "other() -> a, "),
    ])
    .collect();
    for otp in installations() {
        for (at, builds) in built(&otp, &sources).chunks(3).enumerate() {
            let same_as = |build| same(&Differences::between(&builds[0], build).unwrap());
            let reached = at < sources.len() / 3 - 1;
            let kept: &[&str] = if reached {
                &[]
            } else {
                &["code_change/3", "init/1"]
            };
            assert_eq!(same_as(&builds[1]), kept, "{}", sources[at * 3]);
            assert_eq!(same_as(&builds[2]), ["code_change/3", "init/1"]);
        }
    }
}

#[test]
fn records_that_init_makes_and_timeouts_that_are_waited_for_are_seen() {
    for otp in installations() {
        let changes: &[Change<'_>] = &[
            &[("{state, helper", "{state, new, helper")],
            &[("{one, X}", "{one, X, X}")],
            &[("handle_info(timeout,", "handle_info(ready,")],
            // Known elsewhere only.
            &[
                ("handle_info(timeout,", "handle_info(ready,"),
                ("{one,", "{timeout,"),
            ],
        ];
        let found = differences(&otp, changes);
        let [record] = &found[0].records[..] else {
            panic!("{found:?}")
        };
        assert_eq!((&*record.tag, record.before, record.after), ("state", 3, 4));
        // Tuples that other functions make are no states.
        assert_eq!(found[1].records, []);
        // The build that runs says it.
        assert!(found.iter().all(|differences| differences.timeouts));
        let waits: Vec<bool> = builds(&otp, changes)
            .iter()
            .map(|build| handles_timeout(build).unwrap())
            .collect();
        assert_eq!(waits, [true, true, true, false, false]);
    }
}

#[test]
fn a_callback_mode_that_is_a_constant_is_read_and_no_other() {
    let modes = [
        ("state_functions", Some("state_functions")),
        (
            "[handle_event_function, state_enter]",
            Some("[handle_event_function,state_enter]"),
        ),
        ("[state_functions]", Some("[state_functions]")),
        (
            "case get(mode) of undefined -> state_functions; Mode -> Mode end",
            None,
        ),
        ("n:callback_mode()", None),
        ("[state_functions | state_enter]", None),
        ("\"text\"", None),
        ("{state_functions, state_enter}", None),
    ];
    let sources: Vec<String> = modes
        .iter()
        .map(|(mode, _)| format!("-module(m).\n-export([callback_mode/0]).\ncallback_mode() -> {mode}.\n"))
        .chain(["-module(m).\n".to_owned()])
        .collect();
    let expected: Vec<Option<&str>> = modes.iter().map(|(_, mode)| *mode).chain([None]).collect();
    for otp in installations() {
        let read: Vec<Option<String>> = built(&otp, &sources)
            .iter()
            .map(|build| callback_mode(build).unwrap())
            .collect();
        assert_eq!(read.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn damaged_code_is_an_error_and_never_a_panic() {
    let otp = installations().remove(0);
    let base = builds(&otp, &[]).remove(0);
    let bytes = base.to_bytes();
    for at in 12..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x11;
        if let Ok(beam) = Beam::parse(&damaged) {
            let _ = Differences::between(&base, &beam);
            let _ = Differences::between(&beam, &base);
            let _ = callback_mode(&beam);
        }
    }
}

//! What the call graph says of funs and modules that come from the data, of code that was compiled by each OTP and its
//! Elixir.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

#[path = "support/otp.rs"]
mod otp;

use std::collections::BTreeMap;
use std::fs;

use flyhot_artifact::beam::Beam;
use flyhot_artifact::beam::graph::{Judgement, judge};
use flyhot_artifact::beam::rename::rename;
use otp::{Otp, installations};

const FUN: &str = "a call of a fun that the data holds";
const MODULE: &str = "a call of a module that the data names";

/// `value.field()`: since Elixir 1.15 what warns of it where the value is a map is found first.
const CALL_ON_PURPOSE: &str = "a call of a module that the data names|elixir_erl_pass.parens_map_field/2";

/// The body of an Erlang function of `S`, and what it does beyond computing.
const ERLANG: &[(&str, &str)] = &[
    ("#{notify := F, subs := L} = S, lists:foreach(F, L), {ok, S}", FUN),
    ("#{f := F} = S, maps:map(F, S)", FUN),
    ("lists:foldl(element(1, S), 0, [1])", FUN),
    (
        "F = case S of a -> fun(X) -> X end; _ -> S end, lists:map(F, [1])",
        FUN,
    ),
    (
        "F = try helper(S) of _ -> fun(X) -> X end catch _:_ -> S end, lists:map(F, [1])",
        FUN,
    ),
    (
        "F = fun(X) -> X end, G = lists:last([F, S]), lists:map(G, [1])",
        FUN,
    ),
    ("lists:foldl(fun lists:map/2, [], [S])", FUN),
    ("{F, L} = S, maps:update_with(a, F, L)", FUN),
    ("{F, L} = S, logger:info(F, L)", FUN),
    ("{F, L} = S, lists:map(fun(X) -> lists:map(F, X) end, L)", FUN),
    ("'Elixir.Enum':sort(S, kept)", FUN),
    (
        "#{mod := M, config := C} = S, N = M:config(), {ok, S#{config := {C, N}}}",
        MODULE,
    ),
    (
        "case S of #{mod := M, b := #{config := C}} -> {M:config(), C} end",
        MODULE,
    ),
    ("case S of #{config := C} -> C; _ -> S:config() end", MODULE),
    ("lists:map(fun(X) -> X + 1 end, S)", ""),
    (
        "K = helper(S), lists:map(fun(X) -> X + K end, lists:filter(fun(X) -> X > K end, S))",
        "",
    ),
    (
        "F = fun(X, Y) -> X + Y end, A = lists:foldl(F, 0, S), B = helper(A), lists:foldl(F, B, S)",
        "",
    ),
    (
        "F = case S of a -> fun(X) -> X end; _ -> fun(X) -> [X] end end, lists:map(F, [1])",
        "",
    ),
    ("lists:map(fun helper/1, lists:map(fun kept:helper/1, S))", ""),
    ("lists:map(fun erlang:abs/1, S)", ""),
    (
        "maps:map(fun(_, V) -> V + 1 end, maps:filter(fun(_, V) -> V > 1 end, S))",
        "",
    ),
    ("maps:fold(fun(K, V, A) -> A#{V => K} end, #{}, S)", ""),
    (
        "try lists:map(fun(X) -> X end, S) catch error:_ -> lists:map(fun(X) -> X end, []) end",
        "",
    ),
    (
        "lists:sort(fun({_, A}, {_, B}) -> A =< B end, maps:to_list(S))",
        "",
    ),
    ("logger:info(\"it was ~p\", [S]), re:replace(S, \"a\", \"b\")", ""),
    ("maps:update_with(a, fun(V) -> V + 1 end, 0, S)", ""),
];

const ELIXIR: &[(&str, &str)] = &[
    ("Enum.each(s.subs, s.notify)", FUN),
    ("Map.update!(s, :a, s.f)", FUN),
    ("%{f: f} = s; Map.update(s, :a, 1, f)", FUN),
    ("Keyword.get_lazy(s.opts, :a, s.default)", FUN),
    ("Regex.replace(~r/a/, s.name, s.f)", FUN),
    ("update_in(s, [:a, s.key], &(&1 + 1))", FUN),
    ("get_in(s, s.path)", FUN),
    ("Enum.sort_by(s.xs, & &1.a, {:desc, s.order})", FUN),
    ("Enum.sort(s.xs, Kept)", FUN),
    ("Enum.map(s.xs, fn x -> Enum.map(x, s.f) end)", FUN),
    (
        "%{mod: m, config: c} = s; Map.put(s, :config, {c, m.config()})",
        CALL_ON_PURPOSE,
    ),
    ("Enum.map(s.items, fn x -> x + 1 end)", ""),
    ("Enum.map(s.items, &(&1 + 1))", ""),
    ("Map.new(s, fn {k, v} -> {k, v + s.step} end)", ""),
    (
        "s |> Enum.into(%{}, fn {a, b} -> {a, b} end) |> Map.update!(:a, &(&1 + 1))",
        "",
    ),
    ("Enum.into(s.items, MapSet.new())", ""),
    (
        "Enum.reduce(s.items, %{}, fn x, all -> Map.put(all, x, s.a) end)",
        "",
    ),
    ("update_in(s.a.b, &(&1 + 1))", ""),
    ("update_in(s[:a][:b], fn x -> x end)", ""),
    ("put_in(s.a.b, s.c)", ""),
    ("for {k, v} <- s, into: %{}, do: {k, v + 1}", ""),
    ("for x <- s.xs, y <- x.ys, do: y.name <> s.prefix", ""),
    ("s.a.b + s.c", ""),
    ("if(s.a, do: s.b, else: s.c.d)", ""),
    ("%{s | a: s.b, c: s.a}", ""),
    ("case s do\n %{xs: xs} -> xs\n _ -> s.xs.y\n end", ""),
    ("Enum.sort_by(s.xs, & &1.name, :desc) |> Enum.sort(Date)", ""),
    ("Enum.map(s.xs, &String.upcase/1)", ""),
    ("Enum.map(s.xs, &__MODULE__.helper/1)", ""),
    ("String.replace(s.name, ~r/a/, fn x -> x <> \"b\" end)", ""),
    ("String.replace(s.name, \"a\", \"b#{s.name}\")", ""),
    ("get_in(s, [:a, Access.key(:b), Access.at(0)])", ""),
    (
        "Map.put(s, :items, s.items |> Enum.with_index(1) |> Enum.group_by(&elem(&1, 1)))",
        "",
    ),
    ("require Logger; Logger.info(\"it was #{inspect(s)}\"); s", ""),
    ("require Logger; Logger.warning(inspect(s)); s", ""),
];

/// One function of each body, in a module of either language.
fn compiled(otp: &Otp) -> (Beam, Beam) {
    let mut erlang =
        "-module(kept).\n-compile([export_all, nowarn_export_all]).\nhelper(X) -> X.\n".to_owned();
    for (at, (body, _)) in ERLANG.iter().enumerate() {
        erlang += &format!("f{at}(S) -> {body}.\n");
    }
    let mut elixir = "defmodule Kept do\n def helper(x), do: x\n".to_owned();
    for (at, (body, _)) in ELIXIR.iter().enumerate() {
        elixir += &format!("def f{at}(s) do\n {body}\n end\n");
    }
    elixir += "end\n";
    fs::write(otp.scratch().join("kept.erl"), erlang).unwrap();
    fs::write(otp.scratch().join("kept.ex"), elixir).unwrap();
    otp.finish(otp.command("erlc").arg("kept.erl").current_dir(otp.scratch()));
    otp.finish(otp.command("elixirc").arg("kept.ex").current_dir(otp.scratch()));
    let read = |name: &str| Beam::parse(&fs::read(otp.scratch().join(name)).unwrap()).unwrap();
    (read("kept.beam"), read("Elixir.Kept.beam"))
}

fn judged(beam: &Beam, at: usize) -> Judgement {
    let set = |module: &str| (module == beam.module()).then(|| beam.clone());
    judge(&mut |module| set(module), beam.module(), &format!("f{at}"), 1).unwrap()
}

#[test]
fn what_the_data_holds_is_not_run_and_what_the_code_holds_is() {
    for otp in installations() {
        let (erlang, elixir) = compiled(&otp);
        let mut wrong = String::new();
        for (beam, bodies) in [(&erlang, ERLANG), (&elixir, ELIXIR)] {
            for (at, (body, expected)) in bodies.iter().enumerate() {
                let effect = judged(beam, at).effect;
                let right = match expected.is_empty() {
                    true => effect.is_none(),
                    false => (effect.as_ref())
                        .is_some_and(|effect| expected.split('|').any(|end| effect.ends_with(end))),
                };
                if !right {
                    wrong += &format!("{body}: {effect:?}\n");
                }
            }
        }
        assert!(wrong.is_empty(), "{}\n{wrong}", otp.run("elixir", &["--version"]));
    }
}

/// Prints the functions of modules whose specs name a fun among the arguments, as `Module Function Arity`.
const SPECS: &str = r"-module(specs).
-export([main/1]).
main(Modules) -> [module(list_to_atom(M)) || M <- Modules].
module(M) ->
    {M, Beam, _} = code:get_object_code(M),
    {ok, {_, [{debug_info, {debug_info_v1, Backend, Data}}]}} = beam_lib:chunks(Beam, [debug_info]),
    {ok, Forms} = Backend:debug_info(erlang_v1, M, Data, []),
    Types = maps:from_list([{N, T} || {attribute, _, _, {N, T, _}} <- Forms]),
    [io:format('~ts ~ts ~b~n', [M, F, A])
     || {attribute, _, spec, {{F, A}, Specs}} <- Forms, lists:member({F, A}, M:module_info(exports)),
        lists:any(fun(Spec) -> takes_fun(Spec, Types) end, Specs)].
takes_fun({type, _, bounded_fun, [Fun, Constraints]}, Types) ->
    Bound = maps:from_list([{V, T} || {type, _, constraint, [_, [{var, _, V}, T]]} <- Constraints]),
    takes_fun(Fun, maps:merge(Types, Bound));
takes_fun({type, _, 'fun', [{type, _, product, Arguments}, _]}, Types) -> is_fun(Arguments, Types, 0).
is_fun({type, _, F, _}, _, _) when F =:= 'fun'; F =:= function -> true;
is_fun({remote_type, _, [_, {atom, _, access_fun}, _]}, _, _) -> true;
is_fun({Of, _, N}, Types, Deep) when Of =:= var, Deep < 6 -> is_fun(maps:get(N, Types, []), Types, Deep + 1);
is_fun({user_type, _, N, _}, Types, Deep) when Deep < 6 -> is_fun(maps:get(N, Types, []), Types, Deep + 1);
is_fun(T, Types, Deep) when is_tuple(T) -> is_fun(tuple_to_list(T), Types, Deep);
is_fun([T | Rest], Types, Deep) -> is_fun(T, Types, Deep) orelse is_fun(Rest, Types, Deep);
is_fun(_, _, _) -> false.
";

/// Modules of which all is let through.
const LET_THROUGH: &str = "array base64 binary calendar dict gb_sets gb_trees lists maps math orddict ordsets proplists \
    queue re sets sofs string uri_string Elixir.Access Elixir.Atom Elixir.Base Elixir.Enum Elixir.Float \
    Elixir.Integer Elixir.Keyword Elixir.List Elixir.Map Elixir.MapSet Elixir.Range Elixir.Regex Elixir.String \
    Elixir.Tuple Elixir.URI Elixir.Version";

/// Each function that takes a fun, by the word of its OTP, is given what the data holds.
#[test]
fn every_function_that_takes_a_fun_is_known() {
    for otp in installations() {
        fs::write(otp.scratch().join("specs.erl"), SPECS).unwrap();
        otp.finish(otp.command("erlc").arg("specs.erl").current_dir(otp.scratch()));
        let elixir = otp.run("elixir", &["-e", "IO.write(:code.lib_dir(:elixir))"]);
        let run = format!("specs:main(string:lexemes(\"{LET_THROUGH}\", \" \")), halt().");
        let scratch = otp.scratch().to_string_lossy();
        let ebin = format!("{elixir}/ebin");
        let said = otp.run("erl", &["-noshell", "-pa", &scratch, &ebin, "-eval", &run]);
        let functions: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
        let mut source = "-module(taking).\n-compile([export_all, nowarn_export_all]).\n".to_owned();
        for (at, function) in functions.iter().enumerate() {
            let arity: usize = function[2].parse().unwrap();
            let given: Vec<String> = (1..=arity).map(|at| format!("element({at}, S)")).collect();
            source += &format!(
                "f{at}(S) -> '{}':'{}'({}).\n",
                function[0],
                function[1],
                given.join(", ")
            );
        }
        fs::write(otp.scratch().join("taking.erl"), source).unwrap();
        otp.finish(otp.command("erlc").arg("taking.erl").current_dir(otp.scratch()));
        let beam = Beam::parse(&fs::read(otp.scratch().join("taking.beam")).unwrap()).unwrap();
        assert!(functions.len() > 150, "{said}");
        let passed: Vec<_> = (functions.iter().enumerate())
            .filter(|(at, _)| judged(&beam, *at).effect.is_none())
            .collect();
        assert!(passed.is_empty(), "{passed:?}");
    }
}

/// The new code of two modules; the running code of both answers `old`.
const CART: &str = "-module(cart).
    -export([own/1, other/1, nested/1, called/1, conv/1]).
    own(L) -> lists:map(fun ?MODULE:conv/1, L).
    other(L) -> lists:map(fun price:conv/1, L).
    nested(L) -> #{b := [{_, F}, _]} = helper(#{b => [{a, fun price:conv/1}, fun cart:conv/1]}), lists:map(F, L).
    called(L) -> [price:conv(X) || X <- L].
    helper(X) -> X.
    conv(_) -> TAG.\n";
const PRICE: &str = "-module(price). -export([conv/1]). conv(_) -> TAG.\n";

fn build(otp: &Otp, dir: &str, tag: &str) -> Vec<Beam> {
    let dir = otp.dir(dir);
    let one = |(name, source): (&str, &str)| {
        fs::write(dir.join(format!("{name}.erl")), source.replace("TAG", tag)).unwrap();
        otp.finish(otp.command("erlc").arg(format!("{name}.erl")).current_dir(&dir));
        Beam::parse(&fs::read(dir.join(format!("{name}.beam"))).unwrap()).unwrap()
    };
    [("cart", CART), ("price", PRICE)].map(one).into()
}

#[test]
fn a_fun_that_the_code_names_is_the_copys_own() {
    for otp in installations() {
        build(&otp, "old", "old");
        let new = build(&otp, "new", "new");
        let aliases: BTreeMap<String, String> = new
            .iter()
            .map(|beam| (beam.module().to_owned(), format!("flyhot$copy${}", beam.module())))
            .collect();
        let copies = otp.dir("copies");
        for beam in &new {
            let file = copies.join(format!("{}.beam", aliases[beam.module()]));
            fs::write(file, rename(beam, &aliases).unwrap()).unwrap();
        }
        let ask = "[io:format(\"~p ~p~n\", [F, {cart:F([1]), 'flyhot$copy$cart':F([1])}])
                    || F <- [own, other, nested, called]], halt().";
        let (old, copies) = (otp.dir("old"), copies.to_string_lossy());
        let said = otp.run(
            "erl",
            &["-noshell", "-pa", &old.to_string_lossy(), &copies, "-eval", ask],
        );
        let expected = ["own", "other", "nested", "called"].map(|name| format!("{name} {{[old],[new]}}\n"));
        assert_eq!(said, expected.concat());
    }
}

/// A copy of each is needed, and made or not: whoever has none rules the rehearsal out.
#[test]
fn the_modules_of_funs_that_the_code_names_are_run() {
    for otp in installations() {
        let new = build(&otp, "new", "new");
        let set = |module: &str| new.iter().find(|beam| beam.module() == module).cloned();
        let modules = judge(&mut |module| set(module), "cart", "other", 1)
            .unwrap()
            .modules;
        assert!(modules.contains("price"), "{modules:?}");
    }
}

#[test]
fn a_literal_that_cannot_be_read_rules_the_rehearsal_out_and_stays() {
    for otp in installations() {
        let new = build(&otp, "new", "new");
        // The literals in the form of OTP 28 and later, with a tag that no literal has in the place of that of a fun.
        let literals: Vec<Vec<u8>> = new[0].literals().unwrap();
        let mut chunk = vec![0; 4];
        chunk.extend(u32::try_from(literals.len()).unwrap().to_be_bytes());
        for mut literal in literals {
            chunk.extend(u32::try_from(literal.len()).unwrap().to_be_bytes());
            if literal[1] == 113 {
                literal[1] = 120;
            }
            chunk.extend(literal);
        }
        let cart = Beam::parse(&with_literals(&new[0].to_bytes(), &chunk)).unwrap();
        let set = |module: &str| (module == "cart").then(|| cart.clone());
        let effect = judge(&mut |module| set(module), "cart", "own", 1).unwrap().effect;
        assert_eq!(effect.unwrap(), "cart.own/1 -> a literal that cannot be read");
        let aliases = BTreeMap::from([("cart".to_owned(), "flyhot$copy$cart".to_owned())]);
        let copy = Beam::parse(&rename(&cart, &aliases).unwrap()).unwrap();
        let unreadable = |beam: &Beam| {
            let literals = beam.literals().unwrap();
            literals
                .into_iter()
                .filter(|literal| literal[1] == 120)
                .collect::<Vec<_>>()
        };
        assert_eq!(unreadable(&copy), unreadable(&cart));
    }
}

/// The same file with other literals.
fn with_literals(file: &[u8], literals: &[u8]) -> Vec<u8> {
    let mut body = b"BEAM".to_vec();
    let mut at = 12;
    while at < file.len() {
        let size = u32::from_be_bytes(file[at + 4..at + 8].try_into().unwrap()) as usize;
        let data = match &file[at..at + 4] {
            b"LitT" => literals,
            _ => &file[at + 8..at + 8 + size],
        };
        body.extend(&file[at..at + 4]);
        body.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        at += 8 + size.next_multiple_of(4);
    }
    let size = u32::try_from(body.len()).unwrap().to_be_bytes();
    [b"FOR1".as_slice(), &size, &body].concat()
}

#[test]
fn damaged_code_is_judged_or_refused_and_never_panics() {
    let otp = installations().remove(0);
    let (erlang, elixir) = compiled(&otp);
    for (beam, bodies) in [(erlang, ERLANG), (elixir, ELIXIR)] {
        let code = beam.chunk(b"Code").unwrap().to_vec();
        let bytes = beam.to_bytes();
        let start = bytes.windows(code.len()).position(|part| part == code).unwrap();
        for at in (start..start + code.len()).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            if let Ok(beam) = Beam::parse(&damaged) {
                let function = format!("f{}", at % bodies.len());
                let _ = judge(&mut |_| Some(beam.clone()), beam.module(), &function, 1);
            }
        }
    }
}

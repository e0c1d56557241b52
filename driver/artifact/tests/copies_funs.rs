//! Funs that the code names, in the call graph and in the copies, of code that was compiled by each OTP.

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
use flyhot_artifact::beam::graph::judge;
use flyhot_artifact::beam::rename::rename;
use otp::{Otp, installations};

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

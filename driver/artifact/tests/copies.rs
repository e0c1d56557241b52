//! Renamed copies, held by golden files and by real nodes.
//!
//! The golden copies beside this file were written once by a prototype that shares no code with this crate. It left
//! literals as they are.

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
use std::path::{Path, PathBuf};

use flyhot_artifact::beam::Beam;
use flyhot_artifact::beam::rename::{RenameError, rename};
use flyhot_artifact::{ModuleFacts, Origin};
use otp::{Otp, installations};

const GOLDEN: [&str; 4] = [
    "shop_cart",
    "shop_price",
    "Elixir.Basket",
    "Elixir.String.Chars.Basket",
];

/// The calls that every OTP and Elixir must answer alike on originals and copies.
const CALLS: usize = 200;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/copies")
}

fn golden(otp: &str) -> Vec<Beam> {
    let read = |name: &&str| {
        let path = fixtures().join(otp).join(format!("{name}.beam"));
        Beam::parse(&fs::read(path).expect("the fixture is read")).expect("the fixture is a beam")
    };
    GOLDEN.iter().map(read).collect()
}

fn aliases<'a>(beams: impl IntoIterator<Item = &'a Beam>) -> BTreeMap<String, String> {
    let alias = |beam: &Beam| (beam.module().to_owned(), format!("flyhot${}", beam.module()));
    beams.into_iter().map(alias).collect()
}

/// The literals, each fun of a module of the set pointing at its copy.
fn pointed(beam: &Beam, aliases: &BTreeMap<String, String>) -> Vec<Vec<u8>> {
    let mut literals = beam.literals().unwrap();
    for literal in &mut literals {
        for (name, alias) in aliases {
            let fun = |tag: &[u8], name: &str| [&[113], tag, &[name.len() as u8], name.as_bytes()].concat();
            // OTP 26 and later write every atom in UTF-8.
            for old in [fun(&[119], name), fun(&[100, 0], name)] {
                while let Some(at) = literal.windows(old.len()).position(|part| part == old) {
                    literal.splice(at..at + old.len(), fun(&[119], alias));
                }
            }
        }
    }
    literals
}

#[test]
fn golden_copies_are_written_byte_for_byte() {
    for otp in ["otp-25", "otp-29"] {
        let beams = golden(otp);
        let aliases = aliases(&beams);
        for beam in &beams {
            let expected = fs::read(fixtures().join(otp).join(format!("{}.copy", beam.module()))).unwrap();
            let copy = rename(beam, &aliases).expect("it has a copy");
            let without = |file: &[u8]| with_chunk(file, b"LitT", &[]);
            assert!(
                without(&copy) == without(&expected),
                "{otp} {}: the copy differs from the golden one",
                beam.module()
            );
        }
    }
}

/// Names are in the atoms, and of external funs and lists of modules in literals alone.
#[test]
fn a_beam_says_which_modules_it_names() {
    let source = "-module(naming).
        -export([call/0, capture/0, listed/0]).
        call() -> called:work().
        capture() -> fun captured:work/1.
        listed() -> [{first, listed_too, 1}].\n";
    for otp in installations() {
        fs::write(otp.scratch().join("naming.erl"), source).unwrap();
        otp.finish(otp.command("erlc").arg("naming.erl").current_dir(otp.scratch()));
        let beam = Beam::parse(&fs::read(otp.scratch().join("naming.beam")).unwrap()).unwrap();
        for named in ["called", "captured", "listed_too"] {
            assert!(beam.names(named).unwrap(), "{named}");
        }
        assert!(!beam.names("elsewhere").unwrap());
    }
}

#[test]
fn a_copy_is_a_beam_that_names_the_alias_and_keeps_the_rest() {
    for otp in ["otp-25", "otp-29"] {
        let beams = golden(otp);
        let aliases = aliases(&beams);
        for beam in &beams {
            let copy = Beam::parse(&rename(beam, &aliases).unwrap()).unwrap();
            assert_eq!(copy.module(), format!("flyhot${}", beam.module()));
            assert_eq!(copy.exports().len(), beam.exports().len());
            assert_eq!(copy.literals().unwrap(), pointed(beam, &aliases));
            assert_eq!(
                copy.atoms().iter().filter(|atom| *atom == beam.module()).count(),
                1
            );
            for tool in [b"Dbgi", b"Docs", b"ExCk"] {
                assert_eq!(copy.chunk(tool), None);
            }
            for import in copy.imports() {
                assert!(
                    !aliases.contains_key(&import.module),
                    "{} calls {import:?}",
                    copy.module()
                );
            }
        }
    }
}

#[test]
fn a_file_that_is_written_again_is_the_same_file() {
    for otp in ["otp-25", "otp-29"] {
        for name in GOLDEN {
            let bytes = fs::read(fixtures().join(otp).join(format!("{name}.beam"))).unwrap();
            assert_eq!(Beam::parse(&bytes).unwrap().to_bytes(), bytes);
        }
    }
}

#[test]
fn a_beam_cut_anywhere_is_an_error() {
    for otp in ["otp-25", "otp-29"] {
        let bytes = fs::read(fixtures().join(otp).join("shop_cart.beam")).unwrap();
        for end in 0..bytes.len() {
            assert!(
                Beam::parse(&bytes[..end]).is_err(),
                "{otp}: cut at {end} of {}",
                bytes.len()
            );
        }
    }
}

/// Bits of every byte flipped: an answer, whatever it is.
#[test]
fn a_damaged_beam_never_panics() {
    for file in [
        "otp-25/shop_cart.beam",
        "otp-29/shop_cart.beam",
        "otp-29/Elixir.Basket.beam",
    ] {
        let bytes = fs::read(fixtures().join(file)).unwrap();
        let mut refused = 0;
        for at in 0..bytes.len() {
            for bit in [at % 8, (at + 3) % 8] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let Ok(beam) = Beam::parse(&damaged) else {
                    refused += 1;
                    continue;
                };
                let _ = ModuleFacts::of(&beam, Origin::Own);
                let _ = rename(&beam, &aliases([&beam]));
            }
        }
        assert!(refused > 0);
    }
}

#[test]
fn a_width_that_tells_a_width_without_end_is_an_error() {
    let bytes = fs::read(fixtures().join("otp-25/shop_cart.beam")).unwrap();
    let code = Beam::parse(&bytes).unwrap().chunk(b"Code").unwrap().to_vec();
    let mut hostile = code[..20].to_vec();
    hostile.push(4);
    hostile.resize(4 * 1024 * 1024, 0xF8);
    let file = with_chunk(&bytes, b"Code", &hostile);
    let beam = Beam::parse(&file).unwrap();
    assert!(rename(&beam, &aliases([&beam])).is_err());
}

#[test]
fn a_table_that_ends_before_its_count_is_an_error() {
    let bytes = fs::read(fixtures().join("otp-25/shop_cart.beam")).unwrap();
    for id in [b"ExpT", b"ImpT", b"LocT", b"FunT"] {
        let chunk = Beam::parse(&bytes).unwrap().chunk(id).unwrap().to_vec();
        let file = with_chunk(&bytes, id, &chunk[..chunk.len() - 1]);
        let refused = match Beam::parse(&file) {
            Ok(beam) => rename(&beam, &aliases([&beam])).is_err(),
            Err(_) => true,
        };
        assert!(refused, "{}", String::from_utf8_lossy(id));
    }
}

#[test]
fn native_records_count_in_the_md5_and_rule_a_copy_out() {
    let bytes = fs::read(fixtures().join("otp-29/records_user.beam")).unwrap();
    let beam = Beam::parse(&bytes).unwrap();
    let md5: String = beam.md5().iter().map(|byte| format!("{byte:02x}")).collect();
    // Told by code:module_md5/1 of OTP 29.
    assert_eq!(md5, "2b8e9ddfe5f6edfa563dbb683b5cd193");
    assert_eq!(rename(&beam, &aliases([&beam])), Err(RenameError::NativeRecords));
}

/// The same file with another chunk in the place of one.
fn with_chunk(file: &[u8], id: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut body = b"BEAM".to_vec();
    let mut at = 12;
    while at < file.len() {
        let size = u32::from_be_bytes(file[at + 4..at + 8].try_into().unwrap()) as usize;
        let data = if &file[at..at + 4] == id {
            data
        } else {
            &file[at + 8..at + 8 + size]
        };
        body.extend(&file[at..at + 4]);
        body.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        at += 8 + size.next_multiple_of(4);
    }
    let mut out = b"FOR1".to_vec();
    out.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend(body);
    out
}

/// The `ebin` of every application that comes with Elixir.
fn elixir(otp: &Otp) -> Vec<String> {
    let ask = "IO.write(Enum.join(Path.wildcard(Path.join(:code.lib_dir(:elixir), \"../*/ebin\")), \"\\n\"))";
    let output = otp.run("elixir", &["-e", ask]);
    output.lines().map(str::to_owned).collect()
}

/// Runs a function of the driver and answers what it printed.
fn driver(otp: &Otp, function: &str, arguments: &[&Path]) -> String {
    let ebin = otp.dir("driver");
    let source = |name: &str| fixtures().join(name).to_string_lossy().into_owned();
    let ebin = ebin.to_string_lossy();
    otp.run(
        "erlc",
        &[
            "-o",
            &ebin,
            &source("copies_driver.erl"),
            &source("copies_calls.erl"),
        ],
    );
    let mut all = vec!["-noshell", "-pa", &ebin, "-run", "copies_driver", function];
    let arguments: Vec<_> = arguments
        .iter()
        .map(|argument| argument.to_string_lossy())
        .collect();
    all.extend(arguments.iter().map(AsRef::as_ref));
    let elixir = elixir(otp);
    all.extend(elixir.iter().map(String::as_str));
    otp.run("erl", &all)
}

/// A beam of an OTP or its Elixir, and what its node says of it.
struct Surveyed {
    path: PathBuf,
    beam: Beam,
    /// md5, exports, vsn, behaviours, on_load, load_nif, struct keys, as `copies_driver:survey/1` writes them.
    said: Vec<String>,
}

fn survey(otp: &Otp) -> Vec<Surveyed> {
    let list = otp.scratch().join("survey");
    driver(otp, "survey", &[&list, &otp.dir("variants")]);
    let lines = fs::read_to_string(&list).unwrap();
    let read = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        let path = PathBuf::from(fields.next().unwrap());
        let beam = Beam::parse(&fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Surveyed {
            path,
            beam,
            said: fields.collect(),
        }
    };
    lines.lines().map(read).collect()
}

/// What a file is found to say, in the words of [`Surveyed::said`].
fn told(facts: &ModuleFacts) -> Vec<String> {
    let list = |mut texts: Vec<String>| {
        texts.sort_unstable();
        if texts.is_empty() {
            "-".to_owned()
        } else {
            texts.join("\u{1}")
        }
    };
    vec![
        facts.md5.iter().map(|byte| format!("{byte:02x}")).collect(),
        list(facts.exports.iter().map(ToString::to_string).collect()),
        facts.vsn.clone().unwrap_or_else(|| "-".to_owned()),
        list(facts.declared.clone()),
        facts.on_load.to_string(),
        facts.loads_nif.to_string(),
        list(facts.struct_keys.clone().unwrap_or_default()),
    ]
}

#[test]
fn every_beam_of_otp_and_elixir_says_what_its_node_says_of_it() {
    for otp in installations() {
        let beams = survey(&otp);
        assert!(beams.len() > 1000, "only {} beams", beams.len());
        let variants = beams
            .iter()
            .filter(|one| one.path.starts_with(otp.scratch()))
            .count();
        assert!(variants > 10, "only {variants} variants");
        let mut wrong = Vec::new();
        for one in &beams {
            for origin in [Origin::Otp, Origin::Own] {
                let told = told(&ModuleFacts::of(&one.beam, origin).unwrap());
                assert_eq!(told.len(), one.said.len());
                wrong.extend(
                    told.into_iter()
                        .zip(&one.said)
                        .filter(|(told, said)| told != *said)
                        .map(|(told, said)| format!("{}: {told:?}, the node: {said:?}", one.path.display())),
                );
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn every_module_of_otp_and_elixir_loads_as_a_copy_and_answers_alike() {
    for otp in installations() {
        let scratch = otp.scratch().to_owned();
        let mut beams: Vec<Beam> = survey(&otp)
            .into_iter()
            .filter(|one| !one.path.starts_with(&scratch))
            .map(|one| one.beam)
            .collect();
        let all = aliases(&beams);
        let mut refused = Vec::new();
        beams.retain(|beam| match rename(beam, &all) {
            Ok(_) => true,
            Err(error @ (RenameError::OnLoad | RenameError::Nif | RenameError::HoldsBifs)) => {
                refused.push((beam.module().to_owned(), error));
                false
            }
            Err(error) => panic!("{}: {error}", beam.module()),
        });
        assert!(refused.len() < 60, "too many have no copy: {refused:?}");

        let aliases = aliases(&beams);
        let copies = otp.dir("copies");
        for beam in &beams {
            let alias = &aliases[beam.module()];
            fs::write(
                copies.join(format!("{alias}.beam")),
                rename(beam, &aliases).unwrap(),
            )
            .unwrap();
        }
        let said = driver(&otp, "compare", &[&copies]);
        let words: Vec<&str> = said.lines().last().unwrap().split(' ').collect();
        let [_, loaded, _, equal, _, _, _, "0"] = words[..] else {
            panic!("{said}")
        };
        assert_eq!(loaded.parse::<usize>().unwrap(), beams.len(), "{said}");
        assert!(equal.parse::<usize>().unwrap() >= CALLS, "{said}");
    }
}

#[test]
fn golden_copies_run_and_call_each_other() {
    for otp in installations() {
        let copies = otp.dir("copies");
        let originals = otp.dir("originals");
        // Beams of OTP 25 load on every later OTP.
        let beams = golden("otp-25");
        let aliases = aliases(&beams);
        for beam in &beams {
            let alias = &aliases[beam.module()];
            fs::write(
                copies.join(format!("{alias}.beam")),
                rename(beam, &aliases).unwrap(),
            )
            .unwrap();
            fs::write(originals.join(format!("{}.beam", beam.module())), beam.to_bytes()).unwrap();
        }
        let said = driver(&otp, "compare_in_set", &[&originals, &copies]);
        assert_eq!(said.trim_end(), "golden copies run");
    }
}

//! Renamed copies, held by golden files and by real nodes.
//!
//! The golden copies beside this file were written once by a prototype that shares no code with this crate. The
//! nodes are those whose `bin` directories `FLYHOT_OTP_BINS` names, divided by colons; else the `erl` on the path.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flyhot_artifact::beam::Beam;
use flyhot_artifact::beam::rename::{RenameError, rename};

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

#[test]
fn golden_copies_are_written_byte_for_byte() {
    for otp in ["otp-25", "otp-29"] {
        let beams = golden(otp);
        let aliases = aliases(&beams);
        for beam in &beams {
            let expected = fs::read(fixtures().join(otp).join(format!("{}.copy", beam.module()))).unwrap();
            let copy = rename(beam, &aliases).expect("it has a copy");
            assert!(
                copy == expected,
                "{otp} {}: the copy differs from the golden one",
                beam.module()
            );
        }
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
            assert_eq!(copy.literals().unwrap(), beam.literals().unwrap());
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
    for otp in ["otp-25", "otp-29"] {
        let bytes = fs::read(fixtures().join(otp).join("shop_cart.beam")).unwrap();
        let mut refused = 0;
        for at in 0..bytes.len() {
            for bit in [at % 8, (at + 3) % 8] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let Ok(beam) = Beam::parse(&damaged) else {
                    refused += 1;
                    continue;
                };
                let _ = (beam.md5(), beam.literals(), beam.has_on_load());
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

/// One installation to test against.
struct Otp {
    /// `None`: the one on the path.
    bin: Option<PathBuf>,
    scratch: tempfile::TempDir,
}

fn installations() -> Vec<Otp> {
    let named = std::env::var("FLYHOT_OTP_BINS").unwrap_or_default();
    let bins: Vec<Option<PathBuf>> = if named.is_empty() {
        vec![None]
    } else {
        named.split(':').map(|bin| Some(PathBuf::from(bin))).collect()
    };
    bins.into_iter()
        .map(|bin| Otp {
            bin,
            scratch: tempfile::tempdir().unwrap(),
        })
        .collect()
}

impl Otp {
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let path = self
            .bin
            .as_ref()
            .map_or(PathBuf::from(program), |bin| bin.join(program));
        match Command::new(&path).args(arguments).output() {
            Ok(output) if output.status.success() => output,
            Ok(output) => panic!(
                "{} {arguments:?}: {}\n{}\n{}",
                path.display(),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => panic!(
                "these tests need Erlang and Elixir, on the path or in the directories that FLYHOT_OTP_BINS \
                 names: {} cannot be run: {error}",
                path.display()
            ),
        }
    }

    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.scratch.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The `ebin` of every application that comes with Elixir.
    fn elixir(&self) -> Vec<String> {
        let ask =
            "IO.write(Enum.join(Path.wildcard(Path.join(:code.lib_dir(:elixir), \"../*/ebin\")), \"\\n\"))";
        let output = self.run("elixir", &["-e", ask]);
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Runs a function of the driver and answers what it printed.
    fn driver(&self, function: &str, arguments: &[&Path]) -> String {
        let ebin = self.dir("driver");
        let source = |name: &str| fixtures().join(name).to_string_lossy().into_owned();
        let ebin = ebin.to_string_lossy();
        self.run(
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
        let elixir = self.elixir();
        all.extend(elixir.iter().map(String::as_str));
        String::from_utf8(self.run("erl", &all).stdout).unwrap()
    }
}

/// Every beam of an OTP and its Elixir, with the md5 its node tells.
fn survey(otp: &Otp) -> Vec<(String, PathBuf, Beam)> {
    let list = otp.scratch.path().join("survey");
    otp.driver("survey", &[&list, &otp.dir("variants")]);
    let lines = fs::read_to_string(&list).unwrap();
    let read = |line: &str| {
        let (md5, path) = line.split_once(' ').unwrap();
        let beam = Beam::parse(&fs::read(path).unwrap()).unwrap_or_else(|error| panic!("{path}: {error}"));
        (md5.to_owned(), PathBuf::from(path), beam)
    };
    lines.lines().map(read).collect()
}

#[test]
fn every_beam_of_otp_and_elixir_has_the_md5_its_node_tells() {
    for otp in installations() {
        let beams = survey(&otp);
        assert!(beams.len() > 1000, "only {} beams", beams.len());
        let variants = beams
            .iter()
            .filter(|(_, path, _)| path.starts_with(otp.scratch.path()))
            .count();
        assert!(variants > 10, "only {variants} variants");
        for (expected, path, beam) in &beams {
            let md5: String = beam.md5().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(&md5, expected, "{}", path.display());
        }
    }
}

#[test]
fn every_module_of_otp_and_elixir_loads_as_a_copy_and_answers_alike() {
    for otp in installations() {
        let scratch = otp.scratch.path().to_owned();
        let mut beams: Vec<Beam> = survey(&otp)
            .into_iter()
            .filter(|(_, path, _)| !path.starts_with(&scratch))
            .map(|(_, _, beam)| beam)
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
        let said = otp.driver("compare", &[&copies]);
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
        let said = otp.driver("compare_in_set", &[&originals, &copies]);
        assert_eq!(said.trim_end(), "golden copies run");
    }
}

//! The library for nodes: what it says is what OTP says, what it refuses is what the command refuses, and no panic of it takes a node
//! with it.

use std::fs;
use std::path::{Path, PathBuf};

use flyhot_tests::{Flyhot, Native, Otp, Release, Run, Scratch, workspace};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn fixture(name: &str) -> PathBuf {
    workspace().join("tests/fixtures/native").join(name)
}

/// Runs a script beside the library; it says `well` last.
fn run(native: &Native, script: &Path, args: &[&str]) {
    let said = native.elixir(script, args);
    assert!(said.ends_with("well\n"), "{}:\n{said}", script.display());
}

fn json(words: &[&str]) -> Run {
    let run = Flyhot::new(words.iter().copied())
        .args(["--output", "json"])
        .run();
    run.expect("done", 0);
    run
}

#[test]
fn it_says_of_beams_and_releases_what_otp_says() {
    let scratch = Scratch::new("native");
    let release = Release::shop(Otp::under_test(), "v1");
    let artifact = scratch.path().join("shop.tar.gz");
    json(&[
        "pack",
        "--release",
        text(release.directory()),
        "--out",
        text(&artifact),
    ]);
    let unpacked = scratch.path().join("release");
    json(&["unpack", text(&artifact), text(&unpacked)]);
    let native = Native::build(Otp::under_test());
    let manifest = unpacked.join("flyhot.manifest.json");
    run(
        &native,
        &fixture("facts.exs"),
        &[text(release.directory()), text(&manifest)],
    );
}

#[test]
fn it_takes_artifacts_in_as_the_command_does() {
    let scratch = Scratch::new("native");
    let at = |name: &str| scratch.path().join(name);
    let release = Release::shop(Otp::under_test(), "v1");
    json(&[
        "pack",
        "--release",
        text(release.directory()),
        "--out",
        text(&at("shop.tar.gz")),
    ]);
    let keygen = |name: &str| {
        let run = json(&["keygen", "--out", text(&at(name))]);
        let event = run.events_named("key").next().unwrap();
        event.json["public"].as_str().unwrap().to_owned()
    };
    let (key, other) = (keygen("key"), keygen("other"));
    json(&["sign", text(&at("shop.tar.gz")), "--key-file", text(&at("key"))]);
    fs::create_dir(at("place")).unwrap();
    let native = Native::build(Otp::under_test());
    let arguments = [
        text(&at("shop.tar.gz")).to_owned(),
        text(&at("shop.tar.gz.sig")).to_owned(),
        key,
        other,
        text(&workspace().join("driver/artifact/tests/hostile")).to_owned(),
        text(&at("place")).to_owned(),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    run(&native, &fixture("artifacts.exs"), &arguments);
}

#[test]
fn it_stays_the_one_it_was_whatever_is_loaded_around_it() {
    let native = Native::build(Otp::under_test());
    let source = workspace().join("elixir_shim/lib/fly_deploy/native.ex");
    run(&native, &fixture("left_old.exs"), &[text(&source)]);
}

#[test]
fn a_panic_is_an_exception_of_the_caller() {
    let native = Native::with_faults(Otp::under_test());
    let scratch = Scratch::new("native");
    let script = scratch.path().join("panics.exs");
    let calls = ["torn_body()", "torn_decoding(1)", "torn_encoding()"];
    let tried: Vec<_> = calls
        .iter()
        .map(|call| {
            format!(
                "%ErlangError{{original: :nif_panicked}} = try do FlyDeploy.Native.{call} rescue e -> e end\n"
            )
        })
        .collect();
    let program = format!(
        "for _ <- 1..100 do\n{}end\ntrue = FlyDeploy.Native.available?()\nIO.puts(\"well\")\n",
        tried.concat()
    );
    fs::write(&script, program).unwrap();
    run(&native, &script, &[]);
}

#[test]
fn without_the_library_the_module_says_so() {
    let native = Native::without_library(Otp::under_test());
    let scratch = Scratch::new("native");
    let script = scratch.path().join("missing.exs");
    let program = "false = FlyDeploy.Native.available?()\n\
         for call <- [fn -> FlyDeploy.Native.code_id([]) end, fn -> FlyDeploy.Native.verify(\"\", nil, nil) end] do\n\
         %ErlangError{original: {:library_missing, path, _}} = try do call.() rescue e -> e end\n\
         true = String.ends_with?(path, \"fly_deploy/priv/fly_deploy_native.so\")\nend\nIO.puts(\"well\")\n";
    fs::write(&script, program).unwrap();
    run(&native, &script, &[]);
}

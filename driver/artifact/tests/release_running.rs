//! Releases as Mix and relx make them, read while they run: what the reader says of a module is what the node says.

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
use std::path::Path;

use flyhot_artifact::Release;
use otp::{Otp, installations};

/// Loads every module on the node's code path, then prints each loaded one with its md5. The preloaded ones are inside
/// the emulator and in no release.
const SAY_MD5S: &str = "
    [code:ensure_loaded(list_to_atom(filename:basename(File, \".beam\")))
     || Directory <- code:get_path(), File <- filelib:wildcard(filename:join(Directory, \"*.beam\"))],
    [io:format(\"~ts ~ts~n\", [M, case code:which(M) of
        preloaded -> \"preloaded\";
        _ -> [io_lib:format(\"~2.16.0b\", [B]) || <<B>> <= M:module_info(md5)]
     end]) || {M, _} <- code:all_loaded()]";

/// Asserts that `said`, which a node of `release` printed, and what is read of it agree; answers what was read.
fn agree(release: &Path, said: &str) -> Release {
    let release = Release::read(release).unwrap();
    let read: BTreeMap<&str, String> = release
        .modules
        .iter()
        .map(|(name, module)| {
            let md5 = module
                .facts
                .md5
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            (name.as_str(), md5)
        })
        .collect();
    let said: BTreeMap<&str, &str> = said
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(_, md5)| md5.len() == 32)
        .collect();
    assert!(said.len() > 150, "only {} modules", said.len());
    for (module, md5) in &said {
        assert_eq!(read.get(module).map(String::as_str), Some(*md5), "{module}");
    }
    for (module, read) in &release.modules {
        let loaded = said.contains_key(module.as_str());
        assert!(loaded || read.facts.on_load, "{module} was not loaded");
    }
    release
}

/// The shop as Mix makes it, its own applications started.
fn mix(otp: &Otp) {
    let at = otp.scratch().join("shop");
    otp.finish(
        otp.command("mix")
            .args(["release", "--quiet", "--path"])
            .arg(&at)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/shop"))
            .env("MIX_ENV", "prod")
            .env("MIX_BUILD_PATH", otp.scratch().join("build")),
    );
    let program = format!(
        "{{:ok, _}} = Application.ensure_all_started(:shop)
         {{:ok, tokens, _}} = :erl_scan.string(~c\"\"\"{SAY_MD5S}.
\"\"\")
         {{:ok, exprs}} = :erl_parse.parse_exprs(tokens)
         :erl_eval.exprs(exprs, [])"
    );
    let said = otp.finish(
        otp.command(at.join("bin/shop"))
            .args(["eval", &program])
            .env("SHOP_CARTS", "1")
            .env("SHOP_POOL", "1"),
    );
    let release = agree(&at, &said);
    assert_eq!(
        (release.name.as_str(), release.version.as_str()),
        ("shop", "1.0.0")
    );
    assert!(release.toolchain.elixir.is_some());
    assert!(release.modules.values().any(|module| module.consolidated));
}

/// A release of Erlang alone, in the layout of relx and systools, its beams stripped, which compresses them.
fn relx(otp: &Otp) {
    let at = otp.dir("relx");
    let make = format!(
        "Root = \"{}\",
         _ = [application:load(Name) || Name <- [crypto, sasl]],
         Apps = [{{Name, element(2, application:get_key(Name, vsn))}} || Name <- [kernel, stdlib, crypto, sasl]],
         Erts = erlang:system_info(version),
         Rel = {{release, {{\"bare\", \"2.0.0\"}}, {{erts, Erts}}, Apps}},
         ok = file:write_file(filename:join(Root, \"bare.rel\"), io_lib:format(\"~p.~n\", [Rel])),
         ok = file:set_cwd(Root),
         ok = systools:make_script(\"bare\", [no_warn_sasl]),
         ok = systools:make_tar(\"bare\", [no_warn_sasl]),
         ok = erl_tar:extract(\"bare.tar.gz\", [compressed, {{cwd, \"release\"}}]),
         ok = file:write_file(\"release/releases/start_erl.data\", [Erts, \" 2.0.0\\n\"]),
         {{ok, _}} = beam_lib:strip_files(filelib:wildcard(\"release/lib/*/ebin/*.beam\")),
         io:format(\"~ts\", [filename:join([code:root_dir(), \"erts-\" ++ Erts, \"bin\"])]),
         halt(0).",
        at.display()
    );
    let erts = otp.run("erl", &["-noshell", "-eval", &make]);
    let root = at.join("release");
    let said = otp.finish(
        otp.command(Path::new(&erts).join("erlexec"))
            .env("ROOTDIR", &root)
            .env("BINDIR", &erts)
            .env("EMU", "beam")
            .env("PROGNAME", "erl")
            .arg("-boot")
            .arg(root.join("releases/2.0.0/start"))
            .args(["-mode", "embedded", "-noshell", "-eval"])
            .arg(format!("{SAY_MD5S}, halt(0).")),
    );
    let release = agree(&root, &said);
    assert_eq!(
        (release.name.as_str(), release.version.as_str()),
        ("bare", "2.0.0")
    );
    assert_eq!(release.toolchain.elixir, None);
}

#[test]
fn every_module_that_runs_in_a_release_of_mix_is_read_as_it_runs() {
    installations().iter().for_each(mix);
}

#[test]
fn every_module_that_runs_in_a_release_of_relx_is_read_as_it_runs() {
    installations().iter().for_each(relx);
}

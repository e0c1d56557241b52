//! The compiled agents in the tree, the shipped one and the one with faults, are the source beside them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn otp_bin(program: &str) -> PathBuf {
    std::env::var_os("FLYHOT_OTP_BIN")
        .map_or_else(|| PathBuf::from(program), |bin| Path::new(&bin).join(program))
}

/// Compiled by any other OTP the bytes differ and, worse, the oldest supported one may refuse them.
#[test]
fn both_beams_are_the_source_compiled_by_otp_25() {
    let release = Command::new(otp_bin("erl"))
        .args([
            "-noshell",
            "-eval",
            "io:put_chars(erlang:system_info(otp_release)), halt().",
        ])
        .output()
        .expect("this test needs OTP 25: set FLYHOT_OTP_BIN to its bin directory (make setup prints it)");
    assert_eq!(
        String::from_utf8_lossy(&release.stdout),
        "25",
        "FLYHOT_OTP_BIN must name OTP 25 for this test"
    );
    for (flags, kept) in [(&[][..], ""), (&["-DFAULTS"][..], "faults")] {
        let fresh = compiled(flags, kept);
        let beam = tree().join(kept).join("flyhot_agent.beam");
        assert!(
            fresh == std::fs::read(&beam).unwrap(),
            "{} is not the source: run make agent",
            beam.display()
        );
    }
}

/// Nothing that the switch brings is in the module that is shipped: no function, no atom, no literal.
#[test]
fn the_shipped_beam_has_no_faults() {
    let shipped = disassembled(&tree().join("flyhot_agent.beam"));
    let faulty = disassembled(&tree().join("faults/flyhot_agent.beam"));
    for word in [
        "strike",
        "befall",
        "struck",
        "flyhot_faults",
        "flyhot_fault",
        "flyhot_passed",
        "flyhot_trace",
        "to_tracer",
        "putting_back",
        "before_swap",
    ] {
        assert!(faulty.contains(word), "{word} is no word of the faults any more");
        assert!(!shipped.contains(word), "{word} is in the shipped beam");
    }
}

#[cfg(not(feature = "faults"))]
#[test]
fn the_shipped_beam_is_the_one_that_is_embedded() {
    assert!(flyhot_agent::BEAM == std::fs::read(tree().join("flyhot_agent.beam")).unwrap());
}

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("erl")
}

fn compiled(flags: &[&str], into: &str) -> Vec<u8> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(into);
    std::fs::create_dir_all(&out).unwrap();
    let compiled = Command::new(otp_bin("erlc"))
        .args(["-Wall", "-Werror", "+deterministic"])
        .args(flags)
        .arg("-o")
        .arg(&out)
        .arg(tree().join("flyhot_agent.erl"))
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stdout)
    );
    std::fs::read(out.join("flyhot_agent.beam")).unwrap()
}

/// Every function and its instructions with their literals, and every atom of the module's table, as text.
fn disassembled(beam: &Path) -> String {
    let shown = Command::new(otp_bin("erl"))
        .args([
            "-noshell",
            "-eval",
            "[F] = init:get_plain_arguments(),
             {ok, {_, Chunks}} = beam_lib:chunks(F, [atoms, exports, imports, locals, attributes]),
             io:format(\"~0tp~n~0tp~n\", [beam_disasm:file(F), Chunks]), halt().",
            "-extra",
        ])
        .arg(beam)
        .output()
        .unwrap();
    assert!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("take_over"), "{text}");
    text
}

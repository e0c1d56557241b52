//! The compiled agent in the tree is the source beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn otp_bin(program: &str) -> PathBuf {
    std::env::var_os("FLYHOT_OTP_BIN")
        .map_or_else(|| PathBuf::from(program), |bin| Path::new(&bin).join(program))
}

/// Compiled by any other OTP the bytes differ and, worse, the oldest supported one may refuse them.
#[test]
fn the_beam_is_the_source_compiled_by_otp_25() {
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
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("erl/flyhot_agent.erl");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let compiled = Command::new(otp_bin("erlc"))
        .args(["-Wall", "-Werror", "+deterministic", "-o"])
        .arg(out)
        .arg(&source)
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stdout)
    );
    let fresh = std::fs::read(out.join("flyhot_agent.beam")).unwrap();
    assert!(
        fresh == flyhot_agent::BEAM,
        "driver/agent/erl/flyhot_agent.beam is not the source: run make agent"
    );
}

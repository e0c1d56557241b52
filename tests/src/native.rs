//! The library for nodes and the Elixir module around it, put together in a directory as a release has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::flyhot::build;
use crate::otp::Otp;
use crate::scratch::{Scratch, workspace};

/// The functions that the library has with its faults, as the module declares them.
const FAULTS: &str = "
  def torn_body, do: missing()
  def torn_decoding(_torn), do: missing()
  def torn_encoding, do: missing()
";

/// `fly_deploy` with its library, compiled by one OTP.
#[derive(Debug)]
pub struct Native {
    otp: Otp,
    scratch: Scratch,
}

/// The library as it is shipped, and with functions that panic.
struct Libraries {
    shipped: PathBuf,
    faulty: PathBuf,
    _scratch: Scratch,
}

fn libraries() -> &'static Libraries {
    static LIBRARIES: OnceLock<Libraries> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let scratch = Scratch::new("libraries");
        let kept = |what: &[&str], name: &str| {
            // Both are built to one place, one after the other.
            let built = build(&[&["--lib"], what].concat(), "libfly_deploy_native.so");
            let kept = scratch.path().join(name);
            fs::copy(built, &kept).expect("our own directory");
            kept
        };
        Libraries {
            faulty: kept(&["--features", "flyhot-native/faults"], "faulty.so"),
            shipped: kept(&[], "shipped.so"),
            _scratch: scratch,
        }
    })
}

impl Native {
    /// As it is shipped.
    pub fn build(otp: Otp) -> Self {
        Self::make(otp, Some(&libraries().shipped), "")
    }

    /// With functions that panic.
    pub fn with_faults(otp: Otp) -> Self {
        Self::make(otp, Some(&libraries().faulty), FAULTS)
    }

    /// The module alone.
    pub fn without_library(otp: Otp) -> Self {
        Self::make(otp, None, "")
    }

    fn make(otp: Otp, library: Option<&Path>, more: &str) -> Self {
        let scratch = Scratch::new("fly_deploy");
        let at = |path: &str| scratch.path().join(path);
        for directory in ["fly_deploy/ebin", "fly_deploy/priv", "tmp"] {
            fs::create_dir_all(at(directory)).expect("our own directory");
        }
        if let Some(library) = library {
            fs::copy(library, at("fly_deploy/priv/fly_deploy_native.so")).expect("our own directory");
        }
        let source = fs::read_to_string(workspace().join("elixir_shim/lib/fly_deploy/native.ex"));
        let source = source.expect("the module is in the tree");
        let source = source.replacen("  defp missing do", &format!("{more}\n  defp missing do"), 1);
        fs::write(at("native.ex"), source).expect("our own directory");
        let mut elixirc = otp.command("elixirc", scratch.path());
        elixirc
            .args(["--warnings-as-errors", "-o"])
            .arg(at("fly_deploy/ebin"))
            .arg(at("native.ex"));
        let output = elixirc.output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        Self { otp, scratch }
    }

    /// Runs a script on a node of one scheduler that has it; what it said on both streams.
    pub fn elixir(&self, script: &Path, args: &[&str]) -> String {
        let mut elixir = self.otp.command("elixir", self.scratch.path());
        elixir
            .args(["--erl", "+S 1:1", "-pa"])
            .arg(self.scratch.path().join("fly_deploy/ebin"))
            .arg(script)
            .args(args)
            .env("TMPDIR", self.scratch.path().join("tmp"));
        let output = elixir.output().expect("it runs");
        let said = [output.stderr, output.stdout].concat();
        String::from_utf8_lossy(&said).into_owned()
    }
}

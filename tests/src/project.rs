//! A Mix project with the package `fly_deploy`, as its users have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::app::App;
use crate::flyhot::Flyhot;
use crate::machines::DISTRIBUTED;
use crate::otp::Otp;
use crate::process::path_behind;
use crate::release::{Release, ShopBuild};
use crate::scratch::{Scratch, workspace};
use crate::variant::copy;

/// A project beside a copy of the package; what is built lies in it.
#[derive(Debug)]
pub struct Project {
    otp: Otp,
    name: &'static str,
    scratch: Scratch,
}

impl Project {
    /// The kiosk, with the package built: what mix says of building is not said any more.
    ///
    /// # Panics
    /// If the package does not build, or not without a warning.
    pub fn kiosk(otp: Otp) -> Self {
        let project = Self::begin(otp, "kiosk");
        project.build_package();
        project
    }

    /// The shop, made ready for Fly: it depends on the package, its builds have one cookie, and its nodes come into the private network.
    ///
    /// # Panics
    /// As [`Project::kiosk`].
    pub fn shop(otp: Otp) -> Self {
        let project = Self::begin(otp, "shop");
        let file = project.directory().join("mix.exs");
        let given = fs::read_to_string(&file).expect("it was copied");
        let ready = [
            (
                "deps: []",
                "deps: [{:fly_deploy, path: \"../fly_deploy\"}]".to_owned(),
            ),
            (
                "shop: [",
                format!("shop: [\n          cookie: {:?},", App::COOKIE),
            ),
        ];
        let ready = ready.iter().fold(given, |text, (from, to)| {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text.replace(from, to)
        });
        fs::write(&file, ready).expect("our own directory");
        fs::create_dir(project.at("shop/rel")).expect("our own directory");
        fs::write(project.at("shop/rel/env.sh.eex"), DISTRIBUTED).expect("our own directory");
        fs::write(project.at("shop/fly.toml"), App::FLY_TOML).expect("our own directory");
        project.build_package();
        project
    }

    /// The shop's release with that code, built in it.
    pub fn release(&self, code: &str) -> Release {
        ShopBuild::new(self.otp, code).of(self).build()
    }

    fn begin(otp: Otp, name: &'static str) -> Self {
        let scratch = Scratch::new("project");
        let project = Self { otp, name, scratch };
        fs::create_dir_all(project.directory()).expect("our own directory");
        copy(
            &workspace().join("tests/fixtures").join(name),
            &project.directory(),
        );
        let package = project.at("fly_deploy");
        fs::create_dir_all(package.join("priv")).expect("our own directory");
        // Without what `make native` puts there, and what a developer has built.
        copy(&workspace().join("elixir_shim/lib"), &package.join("lib"));
        for file in ["mix.exs", ".formatter.exs"] {
            fs::copy(workspace().join("elixir_shim").join(file), package.join(file))
                .expect("our own directory");
        }
        project
    }

    fn build_package(&self) {
        let mut compile = self.command("mix");
        compile
            .args(["do", "deps.loadpaths", "+", "help", "fly_deploy.status"])
            .current_dir(self.directory());
        let output = compile.output().expect("it runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && !said.contains("warning"), "{said}");
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    /// Where it is.
    pub fn directory(&self) -> PathBuf {
        self.at(self.name)
    }

    /// Where the package is.
    pub fn package(&self) -> PathBuf {
        self.at("fly_deploy")
    }

    /// A program of its OTP.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.otp.command(program, self.scratch.path());
        command.env("KIOSK_SHIM", self.package());
        command
    }

    /// `mix ARGS...` in it, with this program as flyhot.
    pub fn mix(&self, flyhot: &Path) -> Flyhot {
        self.mix_in("", flyhot)
    }

    /// The same in a directory of it.
    pub fn mix_in(&self, below: &str, flyhot: &Path) -> Flyhot {
        let bin = self.otp.bin();
        let text = |path: &Path| path.to_str().expect("our own directory").to_owned();
        Flyhot::by(&bin.join("mix"))
            .within(&self.directory().join(below))
            .env("PATH", path_behind([bin]).to_str().expect("a text"))
            .env("LC_ALL", "C.UTF-8")
            .env("KIOSK_SHIM", &text(&self.package()))
            .env("FLYHOT_BIN", &text(flyhot))
    }

    /// Runs a script beside the built package; what it said on both streams.
    pub fn script(&self, script: &Path, args: &[&str]) -> String {
        let mut elixir = self.command("elixir");
        elixir
            .arg("-pa")
            .arg(self.directory().join("_build/dev/lib/fly_deploy/ebin"))
            .arg(script)
            .args(args);
        let output = elixir.output().expect("it runs");
        let said = [output.stderr, output.stdout].concat();
        String::from_utf8_lossy(&said).into_owned()
    }
}

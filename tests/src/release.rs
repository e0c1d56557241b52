//! Releases under test: built by mix from the fixtures, once per version of their sources.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::otp::Otp;
use crate::project::Project;
use crate::scratch::{Scratch, workspace};
use crate::variant::{Variant, copy};

/// The fixture that puts releases together without Mix.
const SYSTOOLS: &str = "systools";

/// A release directory on disk; never written to: a node runs a copy of its own.
#[derive(Debug, Clone)]
pub struct Release {
    otp: Otp,
    directory: PathBuf,
}

/// What to build of the shop.
#[derive(Debug, Clone)]
pub struct ShopBuild {
    otp: Otp,
    sources: Vec<PathBuf>,
    code: String,
    version: Option<String>,
    again: bool,
    erts: bool,
    tls: bool,
    stamp: Option<(String, u32)>,
    runtime: Option<String>,
}

impl Release {
    /// The shop with the code `v1`, `v2` or `v3` under the version number that goes with it.
    pub fn shop(otp: Otp, code: &str) -> Self {
        ShopBuild::new(otp, code).build()
    }

    /// A release of Erlang alone, put together by systools: the till with the code `v1` or `v2`, and with the application
    /// `bell` if that is asked for.
    pub fn till(otp: Otp, code: &str, bell: bool) -> Self {
        let fixtures = workspace().join("tests/fixtures");
        let sources = [fixtures.join("till"), fixtures.join(SYSTOOLS)];
        let name = format!("till-{code}{}", if bell { "-bell" } else { "" });
        let directory = build_once(&name, otp, &sources, "", |otp, sources, into| {
            let version = if code == "v1" { "1.0.0" } else { "2.0.0" };
            let scratch = Scratch::new("till");
            let library = |application: &str| {
                let ebin = scratch.path().join(application).join("ebin");
                fs::create_dir_all(&ebin).expect("our own directory");
                ebin
            };
            let mut ebins = vec![library(&format!("till-{version}"))];
            application(otp, &[sources[0].join("src"), sources[0].join(code)], &ebins[0]);
            if bell {
                let ebin = library("bell-0.1.0");
                application(otp, &[sources[0].join("bell")], &ebin);
                let private = ebin.with_file_name("priv");
                fs::create_dir(&private).expect("our own directory");
                copy(&sources[0].join("bell/priv"), &private);
                ebins.push(ebin);
            }
            let applications = if bell { "till,bell" } else { "till" };
            assemble(otp, into, "till", version, &ebins, applications);
        });
        Self::at(otp, directory)
    }

    /// Yaws, from Debian's package beside that OTP, in a release put together by systools.
    ///
    /// # Panics
    /// If it is not there.
    pub fn yaws(otp: Otp) -> Self {
        let systools = workspace().join("tests/fixtures").join(SYSTOOLS);
        // Its .app file names neither, though it compiles a part of itself and makes its cookies with crypto.
        let directory = build_once("yaws", otp, &[systools], "", |otp, _, into| {
            let libraries = otp.bin().with_file_name("root/usr/lib");
            let mut entries = fs::read_dir(&libraries).into_iter().flatten().flatten();
            let yaws = entries.find(|entry| entry.file_name().to_string_lossy().starts_with("yaws-"));
            let yaws = yaws.unwrap_or_else(|| panic!("no Yaws in {}: run `make setup`", libraries.display()));
            let ebin = yaws.path().join("ebin");
            assemble(otp, into, "yaws", "1", &[ebin], "compiler,crypto,yaws");
        });
        Self::at(otp, directory)
    }

    /// Compiles a module again from its debug_info, with one text in it replaced by another.
    pub fn recompile(&self, application: &str, module: &str, from: &str, to: &str) {
        let scratch = Scratch::new("recompile");
        let mut command = self.otp.command("escript", scratch.path());
        command
            .arg(workspace().join("tests/fixtures/foreign/recompile.escript"))
            .arg(self.ebin(application).join(format!("{module}.beam")))
            .args([from, to]);
        run(command);
    }

    /// One that lies there, built with that version.
    pub fn at(otp: Otp, directory: PathBuf) -> Self {
        Self { otp, directory }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The version it was built with.
    pub fn otp(&self) -> Otp {
        self.otp
    }

    /// The release's own number, from `releases/start_erl.data`.
    pub fn version(&self) -> String {
        let data = fs::read_to_string(self.directory.join("releases/start_erl.data")).expect("a release");
        data.split_whitespace().nth(1).expect("a version").to_owned()
    }

    /// The directory of the beams of `application`.
    pub fn ebin(&self, application: &str) -> PathBuf {
        let prefix = format!("{application}-");
        let libraries = fs::read_dir(self.directory.join("lib")).expect("a release");
        let mut found = libraries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        let library = found
            .next()
            .unwrap_or_else(|| panic!("no {application} in {self:?}"));
        library.path().join("ebin")
    }

    /// A copy of this one, to be changed in `directory`.
    pub fn copied(&self, directory: &Path) -> Self {
        copy(&self.directory, directory);
        Self::at(self.otp, directory.to_owned())
    }

    /// A release like this one but for some modules.
    pub fn variant(&self) -> Variant {
        Variant::of(self)
    }
}

impl ShopBuild {
    /// The shop with the code `v1`, `v2` or `v3`.
    pub fn new(otp: Otp, code: &str) -> Self {
        Self {
            otp,
            sources: vec![workspace().join("tests/fixtures/shop")],
            code: code.to_owned(),
            version: None,
            again: false,
            erts: true,
            tls: false,
            stamp: None,
            runtime: None,
        }
    }

    /// As the shop of that project, which has the package `fly_deploy` in it.
    pub(crate) fn of(mut self, project: &Project) -> Self {
        self.sources = vec![project.directory(), project.package()];
        self
    }

    /// Under another version number.
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// Built a second time from the same sources, in another place.
    pub fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// With neither runtime nor applications of OTP inside: both are taken from the machine.
    pub fn without_erts(mut self) -> Self {
        self.erts = false;
        self
    }

    /// With the applications that TLS distribution needs.
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// With `extra` more modules: two builds of v1 that differ in `stamp` alone differ in these and in `Shop.Cart`.
    pub fn stamp(mut self, stamp: &str, extra: u32) -> Self {
        self.stamp = Some((stamp.to_owned(), extra));
        self
    }

    /// With this text as its `runtime.exs`.
    pub fn runtime(mut self, text: &str) -> Self {
        self.runtime = Some(text.to_owned());
        self
    }

    /// Builds it, unless that was done before.
    pub fn build(&self) -> Release {
        let name = format!(
            "shop-{}{}{}{}{}{}{}",
            self.code,
            self.stamp
                .as_ref()
                .map(|(stamp, extra)| format!("-{stamp}-{extra}"))
                .unwrap_or_default(),
            self.version
                .as_ref()
                .map(|version| format!("-as-{version}"))
                .unwrap_or_default(),
            if self.again { "-again" } else { "" },
            if self.erts { "" } else { "-without-erts" },
            if self.tls { "-tls" } else { "" },
            if self.runtime.is_some() { "-runtime" } else { "" }
        );
        let more = self.runtime.as_deref().unwrap_or_default();
        let directory = build_once(&name, self.otp, &self.sources, more, |otp, sources, into| {
            let scratch = Scratch::new("mix");
            let mut command = otp.command("mix", scratch.path());
            command
                .args(["release", "--quiet", "--path"])
                .arg(into)
                .current_dir(&sources[0])
                .env("MIX_ENV", "prod")
                .env("MIX_BUILD_PATH", scratch.path().join("build"))
                .env("SHOP_CODE", &self.code);
            if !self.erts {
                command.env("SHOP_ERTS", "machine");
            }
            if self.tls {
                command.env("SHOP_TLS", "yes");
            }
            if let Some(text) = &self.runtime {
                let file = scratch.path().join("runtime.exs");
                fs::write(&file, text).expect("our own directory");
                command.env("SHOP_RUNTIME", file);
            }
            if let Some(version) = &self.version {
                command.env("SHOP_VSN", version);
            }
            if let Some((stamp, extra)) = &self.stamp {
                command
                    .env("SHOP_STAMP", stamp)
                    .env("SHOP_EXTRA", extra.to_string());
            }
            run(command);
        });
        Release::at(self.otp, directory)
    }
}

/// Compiles the modules of an application, and copies what else goes beside them.
fn application(otp: Otp, sources: &[PathBuf], ebin: &Path) {
    let files = sources.iter().flat_map(|source| {
        let entries = fs::read_dir(source).expect("the fixture is there");
        entries.flatten().map(|entry| entry.path())
    });
    let scratch = Scratch::new("erlc");
    let mut command = otp.command("erlc", scratch.path());
    command.arg("+debug_info").arg("-o").arg(ebin);
    for file in files {
        match file.extension().and_then(|kind| kind.to_str()) {
            Some("erl") => {
                command.arg(&file);
            }
            Some("app" | "appup") => {
                let name = file.file_name().expect("a file");
                fs::copy(&file, ebin.join(name)).expect("our own directory");
            }
            _ => {}
        }
    }
    run(command);
}

/// Has systools put a release together, of applications that lie in `ebins` or in OTP, with commas between.
pub(crate) fn assemble(
    otp: Otp,
    into: &Path,
    name: &str,
    version: &str,
    ebins: &[PathBuf],
    applications: &str,
) {
    let scratch = Scratch::new("systools");
    let mut command = otp.command("escript", scratch.path());
    let ebins: Vec<_> = ebins.iter().map(|ebin| ebin.display().to_string()).collect();
    command
        .arg(
            workspace()
                .join("tests/fixtures")
                .join(SYSTOOLS)
                .join("assemble.escript"),
        )
        .arg(into)
        .args([name, version, &ebins.join(","), applications]);
    run(command);
}

/// Builds into `target/fixtures/otp-N/NAME-HASH`, unless that is there: the hash is of every file below `sources`
/// and of `more`. Tests that want the same build wait for it; what a killed build leaves is never used, because a
/// build gets its name when it is complete.
pub(crate) fn build_once(
    name: &str,
    otp: Otp,
    sources: &[PathBuf],
    more: &str,
    build: impl FnOnce(Otp, &[PathBuf], &Path),
) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hasher = DefaultHasher::new();
    more.hash(&mut hasher);
    // A release has the runtime of the OTP it was built with inside, whose programs name where that lies.
    otp.bin().hash(&mut hasher);
    for source in sources {
        hash_files(source, &mut hasher);
    }
    let root = workspace().join(format!("target/fixtures/otp-{}", otp.major()));
    let done = root.join(format!("{name}-{:016x}", hasher.finish()));
    if !done.exists() {
        let begun = root.join(format!(".{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&begun);
        fs::create_dir_all(&begun).expect("the target directory can be written");
        build(otp, sources, &begun);
        // Another test process may have been faster; its build is as good.
        if let Err(error) = fs::rename(&begun, &done) {
            assert!(done.exists(), "cannot keep {}: {error}", done.display());
            let _ = fs::remove_dir_all(&begun);
        }
    }
    done
}

/// The directory of the beam of the one-file fixture `NAME/NAME.erl`, compiled by `otp`.
pub(crate) fn build_erlang(otp: Otp, name: &str) -> PathBuf {
    let sources = workspace().join("tests/fixtures").join(name);
    build_once(name, otp, &[sources], "", |otp, sources, into| {
        let scratch = Scratch::new("erlc");
        let mut command = otp.command("erlc", scratch.path());
        command
            .arg("-o")
            .arg(into)
            .arg(sources[0].join(format!("{name}.erl")));
        run(command);
    })
}

fn hash_files(path: &Path, hasher: &mut DefaultHasher) {
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path)
            .expect("the fixture is there")
            .flatten()
            .map(|entry| entry.path())
            // What mix leaves when somebody formats the fixture.
            .filter(|path| !path.ends_with("_build"))
            .collect();
        entries.sort();
        for entry in entries {
            entry.file_name().hash(hasher);
            hash_files(&entry, hasher);
        }
    } else {
        fs::read(path).expect("the fixture can be read").hash(hasher);
    }
}

/// Runs a tool to its end.
///
/// # Panics
/// With what it said, if it failed.
pub(crate) fn run(mut command: Command) {
    command.stdin(std::process::Stdio::null());
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let shown = format!("{command:?}");
    let output = crate::process::spawn(command)
        .wait_with_output()
        .expect("it is our child");
    assert!(
        output.status.success(),
        "{shown}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

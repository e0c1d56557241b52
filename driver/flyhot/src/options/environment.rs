//! The one place that reads the environment.

use std::ffi::OsString;
use std::io::{IsTerminal, stderr, stdout};
use std::path::PathBuf;

/// What a mix task hands over. It may hold keys.
pub(crate) const MIX: &str = "FLYHOT_MIX";

/// `1` where a port of a mix task started this program.
const PORT: &str = "FLYHOT_PORT";

/// What mix tasks tell this program alone ([`crate::child`]): another one would take its own descriptors 3 and 4 for a port, and
/// would have keys that are not for it.
pub(crate) const OF_MIX: [&str; 2] = [MIX, PORT];

/// A URL may have a password or a token in it, and arguments are everybody's to read.
pub(super) const CHECK_URL: &str = "FLYHOT_CHECK_URL";

/// The same, as whoever makes an orchestrator says it: secrets of the app go before the environment that a machine is made with, and
/// one may be called as the other.
pub(crate) const ORDERED_CHECK_URL: &str = "FLYHOT_ORDERED_CHECK_URL";

/// Where flyctl finds the Machines API.
pub(super) const FLY_ADDRESS: &str = "FLY_FLAPS_BASE_URL";

pub(super) const RELEASE_COOKIE: &str = "RELEASE_COOKIE";

/// The variable that holds public keys.
pub(super) const PUBLIC_KEYS: &str = "FLYHOT_PUBLIC_KEYS";

pub(super) const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
pub(super) const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// What the environment says, read once.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `RELEASE_COOKIE`, as `mix release` scripts use it; absent when empty.
    pub release_cookie: Option<Secret>,
    /// `HOME`; absent when empty.
    pub home: Option<PathBuf>,
    /// `ERL_EPMD_PORT`, as OTP uses it; absent when empty.
    pub epmd_port: Option<OsString>,
    /// `FLYHOT_PUBLIC_KEYS`; what is set and empty is there, so that a machine does not lose its policy by an empty value.
    pub public_keys: Option<OsString>,
    /// `AWS_BUCKET`, else `BUCKET_NAME`, as `fly storage create` sets it; absent when empty. The order is that of `[env]` of fly.toml,
    /// which is in the environment of machines.
    pub bucket: Option<Variable>,
    /// `AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL`; absent when empty.
    pub endpoint: Option<Variable>,
    /// `AWS_REGION`; absent when empty.
    pub region: Option<Variable>,
    /// `AWS_ACCESS_KEY_ID`; absent when empty.
    pub access_key_id: Option<Secret>,
    /// `AWS_SECRET_ACCESS_KEY`; absent when empty.
    pub secret_access_key: Option<Secret>,
    /// `AWS_ROLE_ARN` or `AWS_PROFILE` is set: AWS's own tools find keys by it.
    pub has_role: bool,
    /// `FLY_APP_NAME`, as Fly.io sets it on its machines; absent when empty.
    pub app: Option<Variable>,
    /// `FLY_ACCESS_TOKEN`, else `FLY_API_TOKEN`, as flyctl hears them, with the name of the one that is set; absent when empty.
    pub fly_token: Option<(&'static str, Secret)>,
    /// `FLY_FLAPS_BASE_URL`, where flyctl finds the Machines API; absent when empty.
    pub fly_address: Option<OsString>,
    /// `FLY_REGISTRY_HOST`, where flyctl pushes images; absent when empty.
    pub registry: Option<OsString>,
    /// `RELEASE_ROOT`, as `mix release` scripts set it; absent when empty.
    pub release_root: Option<OsString>,
    /// `FLYHOT_MIX`: what a mix task knows of its project; absent when empty.
    pub mix: Option<Secret>,
    /// `FLYHOT_ORDERED_CHECK_URL`, else `FLYHOT_CHECK_URL`: the URL that says whether a node is well; absent when empty.
    pub check_url: Option<Secret>,
    /// `USER`, else `LOGNAME`: who this is, for people; absent when empty.
    pub user: Option<OsString>,
    /// `FLY_IMAGE_REF`, as Fly.io sets it on its machines; absent when empty.
    pub image: Option<OsString>,
    /// `FLY_MACHINE_ID`, as Fly.io sets it on its machines; absent when empty.
    pub machine: Option<OsString>,
    /// `FLYHOT_ORCHESTRATE`: where `flyhot orchestrate` keeps what it says and is told; absent when empty.
    pub orchestrate: Option<PathBuf>,
    /// `PATH`.
    pub path: Option<OsString>,
    /// `FLYHOT_LOG`: which wire diagnostics go to standard error, in the syntax of tracing's EnvFilter.
    pub log: Option<OsString>,
    /// `FLYHOT_PORT`: descriptors 3 and 4 are those of a port of the mix tasks, which ends with them.
    pub port: bool,
    /// What the terminal can show.
    pub screen: Screen,
}

/// What the terminal can show. Without one: neither colours nor bars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Screen {
    /// Colours: standard output is a terminal that is not dumb, and `NO_COLOR` is unset or empty (no-color.org).
    pub colours: bool,
    /// Bars that redraw themselves: standard output and standard error are terminals that are not dumb.
    pub bars: bool,
    /// Tables wrapped at its width: standard output is a terminal.
    pub wraps: bool,
}

/// A variable that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Which one, where several mean the same.
    pub name: &'static str,
    /// What it is set to.
    pub value: OsString,
}

/// Text that is never printed.
#[derive(Clone)]
pub struct Secret(pub OsString);

impl Secret {
    /// For whom it is meant.
    pub fn text(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Environment {
    /// Reads it.
    pub fn read() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the environment"
        )]
        let there = |name: &str| std::env::var_os(name);
        let set = |name: &str| there(name).filter(|value| !value.is_empty());
        let first = |names: &[&'static str]| {
            let mut names = names.iter();
            names.find_map(|name| set(name).map(|value| Variable { name, value }))
        };
        let smart = set("TERM").is_none_or(|term| term != "dumb");
        let out = stdout().is_terminal();
        Self {
            release_cookie: set(RELEASE_COOKIE).map(Secret),
            home: set("HOME").map(PathBuf::from),
            epmd_port: set("ERL_EPMD_PORT"),
            public_keys: there(PUBLIC_KEYS),
            bucket: first(&["AWS_BUCKET", "BUCKET_NAME"]),
            endpoint: first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            region: first(&["AWS_REGION"]),
            access_key_id: set(ACCESS_KEY_ID).map(Secret),
            secret_access_key: set(SECRET_ACCESS_KEY).map(Secret),
            has_role: first(&["AWS_ROLE_ARN", "AWS_PROFILE"]).is_some(),
            app: first(&["FLY_APP_NAME"]),
            fly_token: first(&["FLY_ACCESS_TOKEN", "FLY_API_TOKEN"])
                .map(|Variable { name, value }| (name, Secret(value))),
            fly_address: set(FLY_ADDRESS),
            registry: set("FLY_REGISTRY_HOST"),
            release_root: set("RELEASE_ROOT"),
            mix: set(MIX).map(Secret),
            check_url: set(ORDERED_CHECK_URL).or_else(|| set(CHECK_URL)).map(Secret),
            user: set("USER").or_else(|| set("LOGNAME")),
            image: set("FLY_IMAGE_REF"),
            machine: set("FLY_MACHINE_ID"),
            orchestrate: set("FLYHOT_ORCHESTRATE").map(PathBuf::from),
            path: set("PATH"),
            log: set("FLYHOT_LOG"),
            port: set(PORT).is_some(),
            screen: Screen {
                colours: out && smart && set("NO_COLOR").is_none(),
                bars: out && smart && stderr().is_terminal(),
                wraps: out,
            },
        }
    }

    /// The URL that says whether a node is well, where `--check-url` says this.
    pub(crate) fn check_url(&self, argument: Option<&str>) -> Option<String> {
        let set = self.check_url.as_ref();
        argument.map(str::to_owned).or_else(|| set.map(Secret::text))
    }

    /// Where the Machines API is.
    pub(crate) fn machines_api(&self) -> String {
        let set = self.fly_address.as_ref();
        set.map_or_else(
            || flyhot_fleet::PUBLIC.to_owned(),
            |address| address.to_string_lossy().into_owned(),
        )
    }
}

//! An app on the Fly of the tests: its machines, its bucket, and the laptop of somebody who deploys it.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;

use crate::chaos::{Chaos, Ills};
use crate::fleet::quick;
use crate::fly::{Fly, FlyCli};
use crate::flyhot::Flyhot;
use crate::machines::Machines;
use crate::moto::Moto;
use crate::otp::Otp;
use crate::probe::Probe;
use crate::project::Project;
use crate::release::Release;
use crate::rounds::Random;
use crate::scratch::Scratch;
use crate::wait::wait_or_tell;

/// The label of the image that the machines are started from: their nodes are called by it.
const TAG: &str = "01H3A";

/// How long an orchestrator may take to come to a point; tests run beside each other.
const LIMIT: Duration = Duration::from_secs(120);

/// An app on Fly, and a laptop with its fly.toml.
#[derive(Debug)]
pub struct App {
    /// The machines, and the Machines API.
    pub machines: Machines,
    /// The bucket, as it is.
    pub bucket: Moto,
    /// The way of the machines to it.
    pub s3: Chaos,
    /// The machines' ids, in the order of the regions.
    pub ids: Vec<String>,
    laptop: Scratch,
    /// What says so to an Erlang.
    ticks: Option<String>,
}

impl App {
    /// The cookie of every build.
    pub const COOKIE: &'static str = "cookie_of_every_build";

    /// What stands in fly.toml.
    pub const FLY_TOML: &'static str = "app = \"shop\"\nprimary_region = \"ams\"\n[env]\nPOOL_SIZE = 10\n";

    /// With a machine of this release in each of these regions, all of them serving; their nodes give somebody up who says nothing for
    /// `tick_time_s`, OTP's 60 s without.
    pub fn start(name: &str, release: &Release, regions: &[&str], tick_time_s: Option<u64>) -> Self {
        // Built before anybody waits for it.
        Flyhot::binary();
        let (machines, bucket) = (Machines::start(name), Moto::start());
        let s3 = Chaos::before(bucket.address(), Ills::default(), Random::new(name));
        machines.offer_bucket(s3.address());
        let image = machines.image(TAG, release, Self::COOKIE);
        let ticks = tick_time_s.map(|seconds| format!("-kernel net_ticktime {seconds}"));
        let flags = format!("-proto_dist inet6_tcp {}", ticks.as_deref().unwrap_or_default());
        let more = [("ERL_AFLAGS_OF_TEST", flags.as_str())];
        let ids: Vec<_> = regions
            .iter()
            .map(|region| machines.shop(&image, "app", region, &more))
            .collect();
        let laptop = Scratch::new("laptop");
        fs::write(laptop.path().join("fly.toml"), Self::FLY_TOML).expect("our own directory");
        for id in &ids {
            machines.serves(id);
        }
        Self {
            machines,
            bucket,
            s3,
            ids,
            laptop,
            ticks,
        }
    }

    /// The image that the machines are started from.
    pub fn image() -> String {
        format!("registry.fly.io/{}:deployment-{TAG}", Fly::APP)
    }

    /// What is built next: flyctl for it.
    pub fn builds(&self, tag: &str, release: &Release) -> FlyCli {
        let root = self.machines.unpushed(tag, release, Self::COOKIE);
        FlyCli::new(&self.machines.fly, &root, Fly::TOKEN)
    }

    /// The same, whose orchestrators watch nodes for a moment.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn builds_quick(&self, tag: &str, release: &Release) -> FlyCli {
        let root = self.machines.unpushed(tag, release, Self::COOKIE);
        let flyhot = root.join("flyhot");
        let (binary, policy) = (Flyhot::binary().display(), quick());
        let script = format!(
            "#!/bin/sh\nverb=$1; shift\n[ $verb = orchestrate ] || exec '{binary}' $verb \"$@\"\n\
             exec '{binary}' orchestrate --policy '{}' \"$@\"\n",
            policy.display()
        );
        fs::remove_file(&flyhot).expect("it is there");
        fs::write(&flyhot, script).expect("our own directory");
        fs::set_permissions(&flyhot, fs::Permissions::from_mode(0o755)).expect("it is ours");
        FlyCli::new(&self.machines.fly, &root, Fly::TOKEN)
    }

    /// flyctl that builds the project it is called in.
    pub fn builds_project(&self) -> FlyCli {
        FlyCli::building(&self.machines.fly, Flyhot::binary(), Fly::TOKEN)
    }

    /// `flyhot deploy` on the laptop, which has flyctl and nothing else of Fly.
    pub fn deploy(&self, cli: &FlyCli, words: &[&str]) -> Flyhot {
        Flyhot::new(["deploy"])
            .args(words.iter().copied())
            .within(self.laptop.path())
            .env("PATH", &cli.search_path(&[]))
            .env("FLY_FLAPS_BASE_URL", &self.machines.fly.url())
            .env("USER", "alice")
    }

    /// A task of mix on the laptop.
    pub fn mix(&self, otp: Otp, project: &Project, cli: &FlyCli, words: &[&str]) -> Flyhot {
        project
            .mix(Flyhot::binary())
            .args(words.iter().copied())
            .env("PATH", &cli.search_path(&[otp.bin()]))
            .env("FLY_FLAPS_BASE_URL", &self.machines.fly.url())
    }

    /// What is of the fleet, in the network of the machines.
    pub fn inside(&self, words: &[&str]) -> Flyhot {
        let flyhot =
            self.machines
                .flyhot(words.iter().copied())
                .args(["--inventory", "fly", "--output", "json"]);
        self.machines.knows_bucket(flyhot)
    }

    /// The version that each machine's shop says it is.
    pub fn versions(&self) -> Vec<String> {
        self.ids.iter().map(|id| self.machines.version(id)).collect()
    }

    /// What the bucket says that the fleet should run.
    ///
    /// # Panics
    /// If it says nothing.
    pub fn pointer(&self) -> Value {
        let pointer = self.bucket.object("releases/shop/pointer.json");
        let pointer: Value = serde_json::from_str(&pointer.expect("there is a pointer")).expect("JSON");
        pointer["record"].clone()
    }

    /// The judge of a machine's node.
    pub fn probe(&self, otp: Otp, id: &str) -> Probe {
        let name = format!("{}-{TAG}", Fly::APP);
        let ticks = self.ticks.iter().flat_map(|flags| flags.split(' '));
        self.machines
            .probe(otp, id, &name, Self::COOKIE, ticks.map(str::to_owned))
    }

    /// The machines of orchestrators, those that are gone as well.
    pub fn orchestrators(&self) -> Vec<String> {
        let machines = self.machines.fly.machines();
        let named = machines.iter().filter(|machine| {
            machine["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("flyhot-"))
        });
        named
            .map(|machine| machine["id"].as_str().expect("a text").to_owned())
            .collect()
    }

    /// The orchestrator that comes behind so many others, once it says something.
    ///
    /// # Panics
    /// If none comes.
    pub fn orchestrator(&self, others: usize) -> Orchestrator {
        let mut found = None;
        wait_or_tell(
            "an orchestrator is at work",
            LIMIT,
            || {
                let id = self.orchestrators().into_iter().nth(others);
                let file = id
                    .as_ref()
                    .and_then(|id| File::open(self.machines.fly.root(id).join("said/events.jsonl")).ok());
                found = id.zip(file);
                found.is_some()
            },
            String::new,
        );
        let (id, file) = found.expect("it was waited for");
        Orchestrator {
            id,
            file,
            unread: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// An orchestrator, and what it says as it says it: read where that lies, and to the end when its machine is gone.
#[derive(Debug)]
pub struct Orchestrator {
    /// Its machine.
    pub id: String,
    file: File,
    unread: Vec<u8>,
    events: Vec<Value>,
}

impl Orchestrator {
    /// Waits until it has said this.
    ///
    /// # Panics
    /// If it does not.
    pub fn comes_to(&mut self, what: &str, has: impl Fn(&[Value]) -> bool) {
        let said = RefCell::new(String::new());
        wait_or_tell(
            what,
            LIMIT,
            || {
                let events = self.said();
                *said.borrow_mut() = events.iter().map(|event| format!("\n{event}")).collect();
                has(events)
            },
            || said.take(),
        );
    }

    /// Everything that it has said until now.
    ///
    /// # Panics
    /// If it is none of ours.
    pub fn said(&mut self) -> &[Value] {
        self.file.read_to_end(&mut self.unread).expect("it is open");
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            self.events.push(serde_json::from_slice(&line).expect("JSON"));
        }
        &self.events
    }
}

//! Everything that is there: apps, tokens, images, machines, and the record of what was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use super::clock;
use super::http::{Reply, Request};
use super::ills::{CrossApp, FlyIlls};
use super::machine::Machine;
use super::rates::Rates;
use super::{Grant, Record};
use crate::rounds::Random;

/// Whoever sent a request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) grant: Grant,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) ills: FlyIlls,
    pub(super) random: Random,
    pub(super) tokens: BTreeMap<String, Grant>,
    pub(super) apps: BTreeSet<String>,
    pub(super) images: BTreeMap<String, PathBuf>,
    registry: PathBuf,
    pub(super) machines: Vec<Machine>,
    pub(super) records: Vec<Record>,
    pub(super) rates: Rates,
    /// Variables of every machine, before what its config says.
    pub(super) secrets: BTreeMap<String, String>,
}

impl World {
    pub(super) fn new(ills: FlyIlls, random: Random, registry: PathBuf) -> Self {
        Self {
            ills,
            random,
            tokens: BTreeMap::new(),
            apps: BTreeSet::new(),
            images: BTreeMap::new(),
            registry,
            machines: Vec::new(),
            records: Vec::new(),
            rates: Rates::default(),
            secrets: BTreeMap::new(),
        }
    }

    /// The environment of a machine.
    pub(super) fn env(&self, machine: &Machine) -> BTreeMap<String, String> {
        let mut env = machine.env();
        env.extend(self.secrets.clone());
        env
    }

    pub(super) fn befalls(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.random.below(1000) < per_mille
    }

    pub(super) fn ulid(&mut self) -> String {
        clock::ulid(&mut self.random)
    }

    pub(super) fn event_id(&mut self) -> String {
        self.ulid()
    }

    pub(super) fn position(&self, id: &str) -> Option<usize> {
        self.machines.iter().position(|machine| machine.id == id)
    }

    pub(super) fn machine_mut(&mut self, id: &str) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|machine| machine.id == id)
    }

    pub(super) fn machine(&self, id: &str) -> Result<&Machine, Reply> {
        let found = self.machines.iter().find(|machine| machine.id == id);
        found.ok_or_else(|| Reply::refused(404, "machine not found"))
    }

    /// The directory of an image; a digest behind its name says nothing more.
    pub(super) fn image(&self, config: &Value) -> Option<PathBuf> {
        let name = config["image"].as_str()?.split('@').next()?;
        let pushed = self
            .registry
            .join(name.strip_prefix("registry.fly.io/").unwrap_or(name));
        let given = self.images.get(name).cloned();
        given.or_else(|| pushed.is_dir().then_some(pushed))
    }

    /// Whose token it is. Scheme words are stripped again and again, of several tokens one is enough.
    pub(super) fn caller(&self, request: &Request) -> Result<Caller, Reply> {
        let mut text = request.header("authorization").unwrap_or_default().trim();
        while let Some((word, rest)) = text.split_once(' ')
            && ["bearer", "flyv1"].contains(&&*word.to_lowercase())
        {
            text = rest.trim();
        }
        let grant = text.split(',').find_map(|part| self.tokens.get(part));
        match grant {
            Some(grant) => Ok(Caller { grant: grant.clone() }),
            None => Err(Reply::refused(401, "Authenticate: token validation error")),
        }
    }

    /// Whether somebody may do anything in an app.
    pub(super) fn may(&self, caller: &Caller, app: &str) -> Result<(), Reply> {
        if caller.grant.apps.iter().any(|allowed| allowed == app) && self.apps.contains(app) {
            return Ok(());
        }
        Err(match self.ills.cross_app {
            CrossApp::Forbidden if self.apps.contains(app) => {
                Reply::refused(403, "permission_denied: the token is for another app")
            }
            _ => Reply::refused(404, "app not found"),
        })
    }
}

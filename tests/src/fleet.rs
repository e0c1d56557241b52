//! Nodes that belong to a store in a directory, and what that says of them, read by nobody of flyhot where it can be.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::flyhot::{Flyhot, Run};
use crate::node::Node;
use crate::release::Release;
use crate::scratch::workspace;

/// A store in a directory, and nodes that belong to it.
#[derive(Debug)]
pub struct Fleet<'a> {
    /// The directory.
    pub store: &'a Path,
    /// The nodes, in the order in which they are named; all with the cookie of the first.
    pub nodes: Vec<&'a Node>,
}

impl Fleet<'_> {
    /// `flyhot VERB --node … MORE --output json`.
    ///
    /// # Panics
    /// If there is no verb.
    pub fn command(&self, words: &[&str]) -> Flyhot {
        let names = self.nodes.iter().map(|node| node.name());
        Flyhot::new([&words[..1], &["--node"]].concat())
            .args(names)
            .args(words[1..].iter().copied())
            .args(["--app", "shop", "--store", self.store.to_str().expect("our own")])
            .args(["--output", "json"])
            .of(self.nodes[0])
    }

    /// `flyhot rollout`, whose nodes are watched for a moment.
    pub fn rollout(&self, release: &Release) -> Flyhot {
        self.rollout_by(release, &quick())
    }

    /// `flyhot rollout` with this policy file.
    pub fn rollout_by(&self, release: &Release, policy: &Path) -> Flyhot {
        let text = |path: &Path| path.to_str().expect("our own").to_owned();
        let (release, policy) = (text(release.directory()), text(policy));
        self.command(&["rollout", "--release", &release, "--policy", &policy])
    }

    /// `flyhot rollback`, whose nodes are watched for a moment.
    pub fn rollback(&self) -> Flyhot {
        self.command(&["rollback", "--policy", quick().to_str().expect("our own")])
    }

    /// Versions and states of what the store says, the latest first.
    ///
    /// # Panics
    /// If it cannot be asked.
    pub fn history(&self) -> Vec<(String, String)> {
        let store = self.store.to_str().expect("our own");
        let run = Flyhot::new(["history", "--app", "shop", "--store", store, "--output", "json"]).run();
        run.expect("done", 0);
        let event = run.events_named("history").next().expect("one").json.clone();
        let text = |entry: &Value, key: &str| entry[key].as_str().expect("a text").to_owned();
        let entries = event["artifacts"].as_array().expect("an array").iter();
        entries
            .map(|entry| (text(entry, "version"), text(entry, "state")))
            .collect()
    }

    /// The records of rollouts, the latest last.
    ///
    /// # Panics
    /// If one cannot be read.
    pub fn records(&self) -> Vec<Value> {
        let mut paths = files(&self.store.join("releases/shop/rollouts"));
        paths.sort();
        let read = |path: &PathBuf| -> Value {
            serde_json::from_slice(&fs::read(path).expect("it is there")).expect("JSON")
        };
        paths.iter().map(|path| read(path)["record"].clone()).collect()
    }

    /// The files of artifacts.
    pub fn artifacts(&self) -> Vec<PathBuf> {
        files(&self.store.join("releases/shop/artifacts"))
    }
}

impl Run {
    /// What the pointer said, in order.
    ///
    /// # Panics
    /// If an event has no such text.
    pub fn pointer(&self) -> Vec<&str> {
        self.events_named("pointer")
            .map(|event| event.json["state"].as_str().expect("a text"))
            .collect()
    }
}

/// A policy by which nodes are watched for a moment.
pub fn quick() -> PathBuf {
    workspace().join("tests/fixtures/watch/quick.toml")
}

/// As [`Fleet::history`] has them.
pub fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(version, state): &(&str, &str)| ((*version).to_owned(), (*state).to_owned());
    expected.iter().map(owned).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).map_or_else(|_| Vec::new(), Iterator::collect);
    let paths = entries
        .into_iter()
        .map(|entry| entry.expect("it can be read").path());
    // Where one writes at a time is kept in a file beside what is written.
    paths
        .filter(|path| {
            !path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'))
        })
        .collect()
}

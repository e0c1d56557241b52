//! What differs between the code a release has and the code a node has loaded.
//!
//! Compared by md5 alone: paths, versions and build times decide nothing. What a node keeps on its disk without
//! having loaded it is not known here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    application::{App, Origin, StartType},
    manifest::{Module, Toolchain},
    name::ModuleName,
};

/// One module as a node has it loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded<'a> {
    /// `module_info(md5)`.
    pub md5: [u8; 16],
    /// Where it was loaded from.
    pub owner: Owner<'a>,
}

/// Where a node loaded a module from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The application of this name.
    App(&'a str),
    /// The release's consolidated protocols.
    Consolidated,
    /// Anywhere else, or no file at all.
    Elsewhere,
}

impl<'a> Owner<'a> {
    /// Judges by the file that `code:which/1` names: `…/lib/NAME-VSN/ebin/MODULE.beam` or
    /// `…/releases/VSN/consolidated/MODULE.beam`.
    pub fn of(file: &'a str) -> Self {
        let mut parts = file.rsplit('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(_), Some("ebin"), Some(dir), Some("lib")) => {
                // An application's name has no dash, its version may.
                Owner::App(dir.split_once('-').map_or(dir, |(name, _)| name))
            }
            (Some(_), Some("consolidated"), Some(_), Some("releases")) => Owner::Consolidated,
            _ => Owner::Elsewhere,
        }
    }
}

/// What has to happen to the modules that are the release's own; each list sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Loaded with another md5.
    pub changed: Vec<ModuleName>,
    /// Not loaded.
    pub added: Vec<ModuleName>,
    /// Loaded from one of the release's own applications, or as a consolidated protocol, and no longer there.
    pub removed: Vec<ModuleName>,
    /// How many are loaded as they are in the release.
    pub unchanged: usize,
}

/// Compares a release's own modules with those a node has loaded.
///
/// An application that the release no longer has counts as its own too, unless it is OTP's or Elixir's.
pub fn diff(target: &BTreeMap<ModuleName, Module>, loaded: &BTreeMap<ModuleName, Loaded<'_>>) -> Changes {
    let mut changes = Changes::default();
    for (name, module) in target.iter().filter(|(_, module)| module.origin == Origin::Own) {
        match loaded.get(name) {
            None => changes.added.push(name.clone()),
            Some(running) if running.md5 == module.facts.md5 => changes.unchanged += 1,
            Some(_) => changes.changed.push(name.clone()),
        }
    }
    let absent = loaded.iter().filter(|(name, _)| !target.contains_key(*name));
    changes.removed = absent
        .filter(|(_, running)| match running.owner {
            Owner::App(app) => Origin::of(app) == Origin::Own,
            Owner::Consolidated => true,
            Owner::Elsewhere => false,
        })
        .map(|(name, _)| name.clone())
        .collect();
    changes
}

/// How OTP, Elixir or their code on a node differ from the release's: any of these refuses a hot upgrade.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "differs", rename_all = "snake_case")]
pub enum ToolchainDifference {
    /// ERTS.
    Erts {
        /// The node's version.
        node: String,
        /// The release's version.
        release: String,
    },
    /// The version of an application of OTP or Elixir.
    App {
        /// The application.
        app: String,
        /// The node's version; `None` where the node does not have the application.
        node: Option<String>,
        /// The release's version.
        release: String,
    },
    /// The code of a module of OTP or Elixir that is loaded.
    Module {
        /// The module.
        module: ModuleName,
        /// Its application.
        app: String,
    },
}

/// Compares OTP and Elixir on a node with what the release was built with.
///
/// `erts` is the node's ERTS version, `node_apps` the versions of the applications it has loaded, by name.
pub fn toolchain(
    release: &Toolchain,
    apps: &BTreeMap<String, App>,
    modules: &BTreeMap<ModuleName, Module>,
    erts: &str,
    node_apps: &BTreeMap<&str, &str>,
    loaded: &BTreeMap<ModuleName, Loaded<'_>>,
) -> Vec<ToolchainDifference> {
    let mut differences = Vec::new();
    if release.erts != erts {
        differences.push(ToolchainDifference::Erts {
            node: erts.into(),
            release: release.erts.clone(),
        });
    }
    for app in apps.values().filter(|app| app.origin != Origin::Own) {
        let node = node_apps.get(app.name.as_str()).copied();
        // A node does not list what it has code of and does not start.
        if node != Some(&*app.version) && !(node.is_none() && app.start == StartType::None) {
            differences.push(ToolchainDifference::App {
                app: app.name.clone(),
                node: node.map(String::from),
                release: app.version.clone(),
            });
        }
    }
    for (name, module) in modules.iter().filter(|(_, module)| module.origin != Origin::Own) {
        if loaded
            .get(name)
            .is_some_and(|running| running.md5 != module.facts.md5)
        {
            differences.push(ToolchainDifference::Module {
                module: name.clone(),
                app: module.app.clone(),
            });
        }
    }
    differences
}

/// What happened to the release's own applications; each list sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AppChanges {
    /// In the release, and not on the node though the release starts or loads it.
    pub added: Vec<String>,
    /// On the node, and not in the release.
    pub removed: Vec<String>,
    /// On both, in another version.
    pub versions: Vec<String>,
}

/// Compares a release's own applications with those a node has loaded (`node_apps`: versions by name).
pub fn diff_apps(apps: &BTreeMap<String, App>, node_apps: &BTreeMap<&str, &str>) -> AppChanges {
    let mut changes = AppChanges::default();
    for app in apps.values().filter(|app| app.origin == Origin::Own) {
        match node_apps.get(app.name.as_str()) {
            None if app.start == StartType::None => (),
            None => changes.added.push(app.name.clone()),
            Some(version) if *version == app.version => (),
            Some(_) => changes.versions.push(app.name.clone()),
        }
    }
    let known: BTreeSet<&str> = apps.keys().map(String::as_str).collect();
    let gone = node_apps
        .keys()
        .filter(|name| Origin::of(name) == Origin::Own && !known.contains(*name));
    changes.removed = gone.map(|name| (*name).to_owned()).collect();
    changes
}

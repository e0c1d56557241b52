//! Where the new code lies on the node's disk.
//!
//! Only below the node's release directory: a path outside it is never written.

use std::collections::BTreeMap;

use flyhot_agent::{PersistFile, StagedKey};
use flyhot_artifact::Release;
use flyhot_upgrade::{Changes, NodeFacts};

/// Below the release directory: where the files that were there first are kept.
const BASE: &str = "flyhot/base";

/// Where the last outcome is kept, below a release directory.
pub(super) fn last_outcome(root: &str) -> String {
    format!("{}/flyhot/outcome.json", root.trim_end_matches('/'))
}

/// Where each swapped module's file is on the node: beside its application's others, or the other consolidated protocols;
/// where the node says neither, where it was loaded from.
pub(super) struct Places {
    /// `None`: the node names no directory that could be written below.
    root: Option<String>,
    files: BTreeMap<String, String>,
}

impl Places {
    pub(super) fn new(changes: &Changes, facts: &NodeFacts, release: &Release) -> Self {
        let consolidated = facts
            .modules
            .values()
            .filter_map(|module| module.file.rsplit_once('/'))
            .map(|(dir, _)| dir)
            .find(|dir| dir.ends_with("/consolidated"));
        let files = changes
            .swapped()
            .filter_map(|name| {
                let loaded = facts.modules.get(name).map(|module| module.file.clone());
                let module = release.modules.get(name.as_str())?;
                // Not where somebody loaded it from by hand.
                let home = if module.consolidated {
                    consolidated.map(|dir| format!("{dir}/{name}.beam"))
                } else {
                    let app = facts
                        .applications
                        .get(&module.app)
                        .filter(|app| !app.dir.is_empty());
                    app.map(|app| format!("{}/ebin/{name}.beam", app.dir))
                };
                let file = home.or(loaded.filter(|file| file.ends_with(".beam")))?;
                Some((name.clone(), file))
            })
            .collect();
        Self {
            root: plain(facts.root_dir.trim_end_matches('/')).filter(|root| !root.is_empty()),
            files,
        }
    }

    /// The file the code server is told for a module.
    pub(super) fn file(&self, module: &str) -> String {
        self.files
            .get(module)
            .cloned()
            .unwrap_or_else(|| format!("{module}.beam"))
    }

    /// The beams to be written from what is staged, and the modules that have no place on the node's disk.
    pub(super) fn beams(&self, changes: &Changes) -> (Vec<PersistFile>, Vec<String>) {
        let mut homeless = Vec::new();
        let files = changes
            .swapped()
            .filter_map(
                |module| match self.files.get(module).and_then(|file| self.persisted(file)) {
                    Some((path, backup)) => Some(PersistFile {
                        path,
                        backup,
                        content: StagedKey::Beam(module.clone()),
                    }),
                    None => {
                        homeless.push(module.clone());
                        None
                    }
                },
            )
            .collect();
        (files, homeless)
    }

    /// A path below the release directory and where the file there now is kept.
    pub(super) fn persisted(&self, path: &str) -> Option<(String, String)> {
        let path = plain(path)?;
        let root = self.root.as_deref()?;
        let inside = path.strip_prefix(root)?.strip_prefix('/')?;
        let backup = format!("{root}/{BASE}/{inside}");
        Some((path, backup))
    }
}

/// A path without `.` and `..`: a Mix release loads its consolidated protocols through `bin/../releases`.
pub(super) fn plain(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

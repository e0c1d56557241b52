//! What a start of the node loads after an upgrade, and where that lies on its disk.
//!
//! Only below the node's release directory: nothing outside of it is written, and nothing that was there first is changed but
//! boot files and `start_erl.data`, of which the agent keeps what they were.

use std::collections::BTreeMap;
use std::time::Duration;

use flyhot_agent::{Command, Layout, StagedKey, StartApplication, StartCode};
use flyhot_artifact::{Origin, ReadModuleError, Release};
use flyhot_events::{Reason, ReasonCode, Step, Unit};
use flyhot_node::NodeName;
use flyhot_upgrade::{NodeFacts, elixir_name, judge};
use md5::{Digest as _, Md5};

use super::agent::AgentError;
use super::node::{Seen, Work};
use super::steps::Steps;
use crate::errors;

/// Where the last outcome of a node is kept, below the release directory that it may share with others.
pub(super) fn last_outcome(root: &str, node: &NodeName) -> String {
    format!("{}/flyhot/outcomes/{node}.json", root.trim_end_matches('/'))
}

/// How long writing may take: every file is synced, two thousand of them at 50 ms on a slow disk, six times that.
const PERSIST: Duration = Duration::from_secs(600);

/// How the agent names the directory of consolidated protocols.
const CONSOLIDATED: &str = "consolidated";

/// The code of a release that its node should start with.
fn start_code(release: &Release) -> Result<StartCode, ReadModuleError> {
    let own = release
        .apps
        .iter()
        .filter(|(_, app)| app.origin == Origin::Own && app.dir.is_some());
    let modules = |of: &dyn Fn(&flyhot_artifact::Module) -> bool| {
        let those = release.modules.iter().filter(|(_, module)| of(module));
        those
            .map(|(name, module)| (name.as_str().to_owned(), module.facts.md5))
            .collect::<Vec<_>>()
    };
    let applications = own
        .map(|(name, app)| {
            Ok(StartApplication {
                name: name.clone(),
                version: app.version.clone(),
                modules: modules(&|module| module.app == *name && !module.consolidated),
                resource_md5: Md5::digest(release.read_resource(name)?).into(),
            })
        })
        .collect::<Result<_, ReadModuleError>>()?;
    Ok(StartCode {
        applications,
        protocols: modules(&|module| module.consolidated),
        name: release.code_id().to_string().chars().take(16).collect(),
    })
}

/// Where each swapped module's file will be, or is: what the code server is told.
pub(super) struct Places {
    files: BTreeMap<String, String>,
}

impl Places {
    pub(super) fn new<'a>(
        modules: impl IntoIterator<Item = &'a String>,
        facts: &NodeFacts,
        release: &Release,
        layout: &Layout,
    ) -> Self {
        let files = modules
            .into_iter()
            .filter_map(|name| {
                let module = release.modules.get(name.as_str())?;
                let place = if module.consolidated {
                    CONSOLIDATED
                } else {
                    module.app.as_str()
                };
                let ebin = layout.places.get(place).cloned();
                let home = ebin.or_else(|| {
                    let app = facts.applications.get(&module.app)?;
                    (!module.consolidated && !app.dir.is_empty()).then(|| format!("{}/ebin", app.dir))
                });
                let loaded = || facts.modules.get(name).map(|module| module.file.clone());
                let file = home
                    .map(|dir| format!("{dir}/{name}.beam"))
                    .or_else(|| loaded().filter(|file| file.ends_with(".beam")))?;
                Some((name.clone(), file))
            })
            .collect();
        Self { files }
    }

    /// The file the code server is told for a module.
    pub(super) fn file(&self, module: &str) -> String {
        self.files
            .get(module)
            .cloned()
            .unwrap_or_else(|| format!("{module}.beam"))
    }
}

impl Work<'_> {
    /// What a start would lack of the release; nothing where the disk is not to be written. The inner error is a file that is
    /// not what it was.
    pub(super) async fn layout(&self) -> Result<Result<Layout, Reason>, AgentError> {
        if !self.policy.persist {
            return Ok(Ok(Layout::default()));
        }
        let code = match start_code(self.request.release) {
            Ok(code) => code,
            Err(error) => return Ok(Err(broken(&error))),
        };
        self.agent
            .slow(
                "looking at what a start loads",
                &Command::Layout(&code),
                flyhot_agent::layout,
            )
            .await
            .map(Ok)
    }

    /// Has the next start load the release. Beams of the swap are staged already.
    pub(super) async fn persist(
        &self,
        seen: &Seen,
        layout: &Layout,
        steps: &mut Steps<'_>,
    ) -> Result<Vec<Reason>, AgentError> {
        let begun = steps.begin(Step::Persist);
        let release = self.request.release;
        let staged = |module: &&String| !seen.changes.swapped().any(|swapped| swapped == *module);
        let read = || -> Result<_, ReadModuleError> {
            let code = start_code(release)?;
            let mut items = Vec::new();
            for module in layout.lacks.iter().filter(staged) {
                items.push((StagedKey::Beam(module.clone()), release.read_module(module)?));
            }
            for app in &code.applications {
                let key = StagedKey::File(format!("app/{}", app.name));
                items.push((key, release.read_resource(&app.name)?));
                // Of the others the node has its own.
                if !seen.facts.applications.contains_key(&app.name) {
                    for (path, mode, bytes) in release.read_private(&app.name)? {
                        let key = StagedKey::File(format!("priv/{}/{mode:o}/{path}", app.name));
                        items.push((key, bytes));
                    }
                }
            }
            let mut files = Vec::new();
            for (name, bytes) in release.read_start()? {
                let key = StagedKey::File(format!("start/{name}"));
                items.push((key.clone(), bytes));
                files.push((name, key));
            }
            Ok((code, items, files))
        };
        let (code, items, files) = match read() {
            Ok(read) => read,
            Err(error) => {
                return Ok(vec![Reason::new(
                    ReasonCode::NotPersisted,
                    steps.node(),
                    format!(
                        "the release cannot be read again: {}; a restart boots the old code",
                        errors::chain(&error)
                    ),
                    "Build the release again, leave it alone, and run the command again.",
                )]);
            }
        };
        self.agent.stage(&items).await?;
        let command = Command::Persist {
            code: &code,
            version: release.version.clone(),
            files,
        };
        let report = self
            .agent
            .timed("persisting", &command, PERSIST, flyhot_agent::persist)
            .await?;
        steps.done(begun, report.written, Unit::Files);
        let mut reasons = judge::persist(steps.node(), &report);
        reasons.extend(judge::shadowed(&layout.shadowed));
        Ok(reasons)
    }
}

fn broken(error: &ReadModuleError) -> Reason {
    let subject = match error {
        ReadModuleError::Unknown(name) => elixir_name(name),
        ReadModuleError::Read { path, .. } | ReadModuleError::Changed { path } => path.display().to_string(),
    };
    Reason::new(
        ReasonCode::BrokenFile,
        subject,
        format!("the release cannot be read again: {}", errors::chain(error)),
        "Build the release again, and leave it alone while it is deployed.",
    )
}

//! A closer look at what a change touches: the running code of some modules, files below priv, and the configuration
//! that code was compiled with.

use std::collections::{BTreeMap, BTreeSet};

use flyhot_agent::Command;
use flyhot_artifact::Release;
use flyhot_artifact::beam::Beam;
use flyhot_artifact::beam::compare::{Differences, callback_mode, handles_timeout};
use flyhot_upgrade::{Behaviour, Changes, Closer, CloserModule, Kind, NodeFacts, Target};

use super::agent::{Agent, AgentError};

/// Modules asked for at once: their code travels in one answer, and no frame may be longer than 128 MiB. The largest
/// modules of users have a few MiB.
const AT_ONCE: usize = 16;

/// Looks at everything that the plan asks about.
pub(super) async fn look(
    agent: &Agent<'_>,
    release: &Release,
    target: &Target,
    facts: &NodeFacts,
    changes: &Changes,
    kinds: &[Kind],
) -> Result<Closer, AgentError> {
    let swapped: BTreeSet<&String> = changes.swapped().collect();
    let affected = |kind: &&Kind| kind.modules.iter().any(|module| swapped.contains(module));
    let compared = compared(target, changes, kinds.iter().filter(affected));
    let questions: Vec<(String, bool)> = changes
        .changed
        .iter()
        .map(|name| (name.clone(), compared.contains(name)))
        .collect();
    let mut modules = BTreeMap::new();
    for some in questions.chunks(AT_ONCE) {
        let answers = agent
            .slow(
                "looking at changed modules",
                &Command::Modules(some.to_vec()),
                flyhot_agent::modules,
            )
            .await?;
        for answer in answers {
            let lost = lost(release, &answer.name, &answer.exports);
            let old = answer.code.and_then(|code| Beam::parse(&code).ok());
            let new = beam(release, &answer.name);
            // Code that cannot be followed is not known, which the plan says.
            let new_mode = new.as_ref().and_then(|new| callback_mode(new).ok().flatten());
            let differences = old
                .zip(new)
                .and_then(|(old, new)| Differences::between(&old, &new).ok());
            let module = CloserModule {
                traced: answer.traced,
                nifs: answer.nifs,
                lost,
                exports: answer.exports.into_iter().collect(),
                mode: answer.mode,
                new_mode,
                partial: answer.partial,
                timeouts: differences.as_ref().is_some_and(|found| found.timeouts),
                differences,
            };
            modules.insert(answer.name, module);
        }
    }
    // What the running code does is what counts; where it is the new code, or not to be had, that one says it.
    let servers = kinds
        .iter()
        .filter(affected)
        .filter(|kind| kind.behaviour == Behaviour::GenServer);
    for name in servers.flat_map(|kind| &kind.modules) {
        let module = modules.entry(name.clone()).or_default();
        if module.differences.is_none() && target.modules.get(name).is_some_and(|module| module.own) {
            module.timeouts = beam(release, name).is_some_and(|beam| handles_timeout(&beam).unwrap_or(false));
        }
    }
    Ok(Closer {
        modules,
        private: private(agent, target, facts).await?,
        environment: environment(agent, release, facts).await?,
    })
}

/// Of what a module exports on the node: what it does not in the release.
fn lost(release: &Release, module: &str, exports: &[String]) -> Vec<String> {
    let Some(new) = release.modules.get(module) else {
        return Vec::new();
    };
    let kept: BTreeSet<String> = new.facts.exports.iter().map(ToString::to_string).collect();
    exports
        .iter()
        .filter(|export| !kept.contains(*export))
        .cloned()
        .collect()
}

fn beam(release: &Release, module: &str) -> Option<Beam> {
    Beam::parse(&release.read_module(module).ok()?).ok()
}

/// Changed modules whose running code is compared with the new code.
fn compared<'a>(
    target: &Target,
    changes: &Changes,
    affected: impl Iterator<Item = &'a Kind>,
) -> BTreeSet<String> {
    let mut compared: BTreeSet<String> = affected
        .filter(|kind| kind.behaviour.migrates() || kind.behaviour == Behaviour::Supervisor)
        .flat_map(|kind| kind.modules.iter().cloned())
        .collect();
    compared.extend(
        target
            .applications
            .values()
            .filter_map(|application| application.start_module.clone()),
    );
    compared.extend(
        changes
            .changed
            .iter()
            .filter(|name| {
                target
                    .modules
                    .get(*name)
                    .is_some_and(|module| module.supervisor || module.struct_keys.is_some())
            })
            .cloned(),
    );
    compared
}

async fn private(
    agent: &Agent<'_>,
    target: &Target,
    facts: &NodeFacts,
) -> Result<BTreeMap<String, BTreeMap<String, [u8; 16]>>, AgentError> {
    let asked: Vec<String> = target
        .private
        .iter()
        .filter(|(name, files)| !files.is_empty() && facts.applications.contains_key(*name))
        .map(|(name, _)| name.clone())
        .collect();
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    // One without a priv directory answers with nothing, and has none of the release's.
    let mut found: BTreeMap<_, _> = asked.iter().map(|name| (name.clone(), BTreeMap::new())).collect();
    found.extend(
        agent
            .slow(
                "looking at files below priv",
                &Command::Private(asked),
                flyhot_agent::private,
            )
            .await?,
    );
    Ok(found)
}

async fn environment(
    agent: &Agent<'_>,
    release: &Release,
    facts: &NodeFacts,
) -> Result<BTreeMap<String, String>, AgentError> {
    let asked: Vec<(String, String)> = release
        .compile_env
        .iter()
        .filter(|(name, _)| facts.applications.contains_key(*name))
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect();
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    agent
        .slow(
            "looking at the configuration",
            &Command::Environment(asked),
            flyhot_agent::environment,
        )
        .await
}

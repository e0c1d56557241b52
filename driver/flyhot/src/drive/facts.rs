//! A release as the plan sees it, and the code ids of a node before and after.

use std::collections::BTreeSet;

use flyhot_artifact::{Behaviour, Origin, Release, StartType, code_id};
use flyhot_upgrade::{NodeFacts, Target, TargetApplication, TargetModule};

/// The release, seen from the plan.
pub(super) fn target(release: &Release) -> Target {
    Target {
        erts: release.toolchain.erts.clone(),
        elixir: release.toolchain.elixir.clone(),
        architecture: release.toolchain.architecture.clone(),
        private: release.private.clone(),
        applications: release
            .apps
            .iter()
            .map(|(name, app)| {
                let application = TargetApplication {
                    version: app.version.clone(),
                    own: app.origin == Origin::Own,
                    loaded: app.start != StartType::None,
                    environment: release.environment.get(name).cloned().unwrap_or_default(),
                    appup: release.appups.contains(name),
                    start_module: app.start_module.as_ref().map(|module| module.as_str().to_owned()),
                };
                (name.clone(), application)
            })
            .collect(),
        configuration: release.configuration_md5.clone(),
        modules: release
            .modules
            .iter()
            .map(|(name, module)| {
                let facts = &module.facts;
                let target = TargetModule {
                    md5: facts.md5,
                    own: module.origin == Origin::Own,
                    listed: release.listed.contains(name),
                    on_load: facts.on_load,
                    loads_nif: facts.loads_nif,
                    supervisor: facts.behaviours.contains(&Behaviour::Supervisor),
                    init_1: facts.is_exported("init", 1),
                    struct_keys: facts.struct_keys.clone().map(BTreeSet::from_iter),
                    live_component: facts.live_component,
                    code_change_3: facts.code_change_3(),
                    code_change_4: facts.code_change_4(),
                    system_code_change: facts.system_code_change(),
                };
                (name.as_str().to_owned(), target)
            })
            .collect(),
    }
}

/// The code id of what the node runs now: of the release's own modules those that are loaded, with their loaded
/// md5, and those that an interactive node would load from its disk.
pub(super) fn code_id_before(target: &Target, facts: &NodeFacts, on_disk: &BTreeSet<String>) -> String {
    code_id(
        target
            .modules
            .iter()
            .filter(|(_, module)| module.own)
            .filter_map(|(name, module)| match facts.modules.get(name) {
                Some(loaded) => Some((name, loaded.md5)),
                None => on_disk.contains(name).then_some((name, module.md5)),
            }),
    )
    .to_string()
}

/// The code id of the release.
pub(super) fn code_id_after(target: &Target) -> String {
    code_id(
        target
            .modules
            .iter()
            .filter(|(_, module)| module.own)
            .map(|(name, module)| (name, module.md5)),
    )
    .to_string()
}

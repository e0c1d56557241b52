//! Renamed copies for the rehearsal: which code_change may be tried, and what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flyhot_agent::{Command, RehearsalJob, StagedKey};
use flyhot_artifact::Release;
use flyhot_artifact::beam::{Beam, graph, rename};
use flyhot_upgrade::{Behaviour, Changes, CodeChange, Fate, Kind, Plan, Policy, Rehearsal, Target};

/// The copies that a rehearsal of this release needs.
pub(super) struct Copies {
    /// Of each changed module whose processes may be asked: what its code_change does.
    pub(super) code_changes: BTreeMap<String, CodeChange>,
    /// The modules that each of these runs and that change too, itself among them.
    needs: BTreeMap<String, BTreeSet<String>>,
    /// Copies by module: name and bytes.
    made: BTreeMap<String, (String, Vec<u8>)>,
}

impl Copies {
    /// Judges every code_change that the affected kinds may be asked to run, and makes the copies it needs.
    pub(super) fn judge(release: &Release, target: &Target, changes: &Changes, kinds: &[Kind]) -> Self {
        let swapped: BTreeSet<&String> = changes.swapped().collect();
        let aliases: BTreeMap<String, String> = swapped
            .iter()
            // The same name in every upgrade: atoms are never given back, and a copy is gone when the command ends.
            .map(|module| ((*module).clone(), format!("flyhot$copy${module}")))
            .collect();
        let mut copies = Self {
            code_changes: BTreeMap::new(),
            needs: BTreeMap::new(),
            made: BTreeMap::new(),
        };
        let mut read = |module: &str| -> Option<Beam> {
            target.modules.get(module).filter(|facts| facts.own)?;
            Beam::parse(&release.read_module(module).ok()?).ok()
        };
        for kind in kinds.iter().filter(|kind| kind.behaviour.migrates()) {
            let asked = match kind.behaviour {
                Behaviour::GenEvent => kind.modules.clone(),
                _ => vec![kind.host.clone()],
            };
            let (function, arity) = match kind.behaviour {
                Behaviour::GenStatem => ("code_change", 4),
                Behaviour::Special => ("system_code_change", 4),
                _ => ("code_change", 3),
            };
            for module in asked.into_iter().filter(|module| swapped.contains(module)) {
                if !copies.code_changes.contains_key(&module) {
                    let judged = copies.one(&module, function, arity, &aliases, &mut read);
                    copies.code_changes.insert(module, judged);
                }
            }
        }
        copies
    }

    fn one(
        &mut self,
        module: &str,
        function: &str,
        arity: u32,
        aliases: &BTreeMap<String, String>,
        read: &mut dyn FnMut(&str) -> Option<Beam>,
    ) -> CodeChange {
        let judgement = match graph::judge(read, module, function, arity) {
            Ok(judgement) => judgement,
            Err(error) => return CodeChange::Cannot(format!("its code cannot be followed: {error}")),
        };
        if let Some(effect) = judgement.effect {
            return CodeChange::Cannot(format!("it does more than compute: {effect}"));
        }
        let needs: BTreeSet<String> = judgement
            .modules
            .into_iter()
            .filter(|module| aliases.contains_key(module))
            .collect();
        for needed in &needs {
            if self.made.contains_key(needed) {
                continue;
            }
            let Some(beam) = read(needed) else {
                return CodeChange::Cannot(format!("{needed} cannot be read"));
            };
            match rename::rename(&beam, aliases) {
                Ok(bytes) => self.made.insert(needed.clone(), (aliases[needed].clone(), bytes)),
                Err(error) => return CodeChange::Cannot(format!("{needed} cannot be copied: {error}")),
            };
        }
        self.needs.insert(module.to_owned(), needs);
        if judgement.ends {
            CodeChange::Ends
        } else {
            CodeChange::MayNotEnd {
                anywhere: !judgement.own_process,
            }
        }
    }

    /// What the agent is asked to rehearse.
    pub(super) fn jobs(&self, plan: &Plan) -> Vec<RehearsalJob> {
        plan.frozen()
            .filter(|kind| kind.rehearsal != Rehearsal::No)
            .filter_map(|kind| match &kind.fate {
                Some(Fate::Migrate { modules }) => Some(RehearsalJob {
                    kind: kind.kind.id,
                    how: kind.rehearsal,
                    copies: modules
                        .iter()
                        .filter_map(|module| Some((module.clone(), self.made.get(module)?.0.clone())))
                        .collect(),
                }),
                _ => None,
            })
            .collect()
    }

    fn needed<'a>(&'a self, jobs: &'a [RehearsalJob]) -> BTreeSet<&'a String> {
        jobs.iter()
            .flat_map(|job| &job.copies)
            .filter_map(|(module, _)| self.needs.get(module))
            .flatten()
            .collect()
    }

    /// The copies to be staged for some jobs.
    pub(super) fn beams(&self, jobs: &[RehearsalJob]) -> Vec<(StagedKey, Vec<u8>)> {
        self.needed(jobs)
            .into_iter()
            .filter_map(|module| self.made.get(module))
            .map(|(name, bytes)| (StagedKey::Copy(name.clone()), bytes.clone()))
            .collect()
    }

    /// Their names.
    pub(super) fn names(&self, jobs: &[RehearsalJob]) -> Vec<String> {
        self.needed(jobs)
            .into_iter()
            .filter_map(|module| Some(self.made.get(module)?.0.clone()))
            .collect()
    }
}

/// The command for some jobs.
pub(super) fn command(jobs: Vec<RehearsalJob>, policy: &Policy, timeout: Duration) -> Command<'static> {
    Command::Rehearse {
        jobs,
        down: policy.down,
        in_flight: policy.in_flight,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    }
}

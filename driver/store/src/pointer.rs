//! The pointer: which artifact a fleet should run, and which it ran before.
//!
//! Nothing here asks a store, a clock or a node: a pointer becomes another one by four acts, each of one who holds the lock. A
//! fencing number that is older than the pointer's changes nothing.

use flyhot_artifact::{CodeId, FileDigest, Signature};
use serde::{Deserialize, Serialize};

/// The format written, and the only one read.
const FORMAT: u32 = 1;

/// How many targets before the present one are kept: weeks of deploys, and a pointer that stays small.
pub const HISTORY: usize = 20;

/// One artifact that a fleet ran or should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The artifact.
    pub digest: FileDigest,
    /// Its code.
    pub code_id: CodeId,
    /// sha256 of its manifest.
    pub manifest_digest: FileDigest,
    /// Who signed it.
    #[serde(default)]
    pub signature: Option<Signature>,
    /// The release's version.
    pub version: String,
    /// The image it was built in, where it was.
    #[serde(default)]
    pub source_image: Option<String>,
    /// When it was packed, seconds since 1970, by the clock of whoever packed it: told to people, never compared.
    pub created_at: u64,
}

/// Whether a target is what machines boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A rollout is under way: machines boot the one before.
    Trial,
    /// They boot it.
    Committed,
}

/// What a fleet should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    format: u32,
    /// The fencing number of whoever changed it last.
    pub fencing: u64,
    /// The image of the machines that it is for; absent where there are none.
    #[serde(default)]
    pub base_image: Option<String>,
    /// What should run; absent where nothing was deployed yet.
    pub target: Option<Target>,
    /// What ran before, the latest first.
    pub previous: Vec<Target>,
    /// Whether the target is committed.
    pub state: State,
    /// Whether a trial goes back to what ran before.
    #[serde(default)]
    pub back: bool,
}

/// Why a pointer stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// Somebody else has the lock by now.
    #[error("the lock was taken over: its number is {newer}, and this one's is {older}")]
    Displaced {
        /// The pointer's number.
        newer: u64,
        /// The number that came too late.
        older: u64,
    },
    /// It was written for machines of another image.
    #[error("the pointer is of the image {pointer}, and this machine's is {machine}")]
    OtherImage {
        /// The pointer's.
        pointer: String,
        /// The machine's.
        machine: String,
    },
    /// Nothing is under way.
    #[error("no rollout is under way")]
    NoTrial,
    /// There is nothing before the present target, or no such thing.
    #[error("the history has no such target")]
    NoSuchTarget,
    /// Written by a build of flyhot with another format.
    #[error("the pointer has format {0}; this build of flyhot reads format {FORMAT}")]
    Format(u32),
}

impl Pointer {
    /// One that says nothing yet, for the machines of this image.
    pub fn empty(base_image: Option<String>) -> Self {
        Self {
            format: FORMAT,
            fencing: 0,
            base_image,
            target: None,
            previous: Vec::new(),
            state: State::Committed,
            back: false,
        }
    }

    /// Whether this build understands it.
    ///
    /// # Errors
    /// [`PointerError::Format`].
    pub fn check(self) -> Result<Self, PointerError> {
        match self.format {
            FORMAT => Ok(self),
            other => Err(PointerError::Format(other)),
        }
    }

    /// What a machine of this image boots; `None`: what its image brings.
    ///
    /// # Errors
    /// [`PointerError::OtherImage`]: the pointer says nothing to it, and is not its to change.
    pub fn boots(&self, image: Option<&str>) -> Result<Option<&Target>, PointerError> {
        if let (Some(pointer), Some(machine)) = (self.base_image.as_deref(), image)
            && pointer != machine
        {
            return Err(PointerError::OtherImage {
                pointer: pointer.to_owned(),
                machine: machine.to_owned(),
            });
        }
        Ok(self.committed())
    }

    /// The target that was committed last.
    pub fn committed(&self) -> Option<&Target> {
        match self.state {
            State::Committed => self.target.as_ref(),
            State::Trial => self.previous.first(),
        }
    }

    /// Takes note of who has the lock, so that nobody with an older number changes it from now on.
    ///
    /// # Errors
    /// [`PointerError::Displaced`].
    pub fn claim(mut self, fencing: u64) -> Result<Self, PointerError> {
        if fencing < self.fencing {
            return Err(PointerError::Displaced {
                newer: self.fencing,
                older: fencing,
            });
        }
        self.fencing = fencing;
        Ok(self)
    }

    /// Begins a rollout, forth or back. One that was begun and neither committed nor abandoned is forgotten: nobody boots it.
    ///
    /// # Errors
    /// [`PointerError::Displaced`].
    pub fn begin(self, fencing: u64, target: Target, back: bool) -> Result<Self, PointerError> {
        let mut pointer = self.claim(fencing)?;
        pointer.back = back;
        let before = pointer.target.replace(target);
        if pointer.state == State::Committed
            && let Some(before) = before
        {
            pointer.previous.insert(0, before);
            pointer.previous.truncate(HISTORY);
        }
        pointer.state = State::Trial;
        Ok(pointer)
    }

    /// Ends a rollout well: machines boot its target from now on.
    ///
    /// # Errors
    /// [`PointerError::Displaced`], [`PointerError::NoTrial`].
    pub fn commit(self, fencing: u64) -> Result<Self, PointerError> {
        let mut pointer = self.claim(fencing)?;
        if pointer.state != State::Trial {
            return Err(PointerError::NoTrial);
        }
        pointer.state = State::Committed;
        pointer.back = false;
        // The same artifact once more is no further step of the history.
        if let (Some(before), Some(target)) = (pointer.previous.first(), &pointer.target)
            && before.digest == target.digest
        {
            pointer.previous.remove(0);
        }
        Ok(pointer)
    }

    /// Ends a rollout that was taken back: the target before it is the target again.
    ///
    /// # Errors
    /// [`PointerError::Displaced`], [`PointerError::NoTrial`].
    pub fn abandon(self, fencing: u64) -> Result<Self, PointerError> {
        let mut pointer = self.claim(fencing)?;
        if pointer.state != State::Trial {
            return Err(PointerError::NoTrial);
        }
        pointer.target = if pointer.previous.is_empty() {
            None
        } else {
            Some(pointer.previous.remove(0))
        };
        pointer.back = false;
        pointer.state = State::Committed;
        Ok(pointer)
    }

    /// The target to go back to: of what is committed, the latest before it with other code; of a trial, what was committed, or the
    /// trial itself where it went back already. With `to`, the latest of this version, or of a code id that begins so.
    ///
    /// # Errors
    /// [`PointerError::NoSuchTarget`].
    pub fn back_to(&self, to: Option<&str>) -> Result<&Target, PointerError> {
        let trial = match self.state {
            State::Trial => self.target.as_ref(),
            State::Committed => None,
        };
        let found = match (to, trial) {
            (Some(to), _) => trial
                .into_iter()
                .chain(&self.previous)
                .find(|target| target.version == to || target.code_id.to_string().starts_with(to)),
            (None, Some(trial)) if self.back => Some(trial),
            (None, Some(_)) => self.previous.first(),
            (None, None) => self.previous.iter().find(|before| {
                let present = self.target.as_ref();
                present.is_none_or(|present| present.code_id != before.code_id)
            }),
        };
        found.ok_or(PointerError::NoSuchTarget)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(number: u8) -> Target {
        Target {
            digest: FileDigest([number; 32]),
            code_id: CodeId([number; 32]),
            manifest_digest: FileDigest([number; 32]),
            signature: None,
            version: format!("1.0.{number}"),
            source_image: None,
            created_at: u64::from(number),
        }
    }

    fn deployed(numbers: impl IntoIterator<Item = u8>) -> Pointer {
        numbers.into_iter().fold(Pointer::empty(None), |pointer, number| {
            let fencing = pointer.fencing + 1;
            pointer
                .begin(fencing, target(number), false)
                .unwrap()
                .commit(fencing)
                .unwrap()
        })
    }

    #[test]
    fn machines_boot_what_was_committed_and_no_trial() {
        let pointer = deployed([1, 2]);
        assert_eq!(pointer.boots(None).unwrap(), Some(&target(2)));
        let trial = pointer.clone().begin(3, target(3), false).unwrap();
        assert_eq!(trial.boots(None).unwrap(), Some(&target(2)));
        // Somebody else begins another one after the first was left where it was.
        let again = trial.clone().begin(4, target(4), false).unwrap();
        assert_eq!(again.boots(None).unwrap(), Some(&target(2)));
        assert_eq!(
            again.clone().commit(4).unwrap().boots(None).unwrap(),
            Some(&target(4))
        );
        let back = trial.abandon(3).unwrap();
        assert_eq!(
            (&back.target, &back.previous),
            (&pointer.target, &pointer.previous)
        );
        let first = Pointer::empty(None).begin(1, target(1), false).unwrap();
        assert_eq!(first.boots(None).unwrap(), None);
        assert_eq!(first.abandon(1).unwrap().boots(None).unwrap(), None);
    }

    #[test]
    fn who_comes_too_late_changes_nothing() {
        let trial = deployed([1]).begin(5, target(2), false).unwrap();
        let late = PointerError::Displaced { newer: 5, older: 4 };
        assert_eq!(trial.clone().claim(4), Err(late.clone()));
        assert_eq!(trial.clone().begin(4, target(3), false), Err(late.clone()));
        assert_eq!(trial.clone().commit(4), Err(late.clone()));
        assert_eq!(trial.abandon(4), Err(late));
        assert_eq!(deployed([1]).commit(9), Err(PointerError::NoTrial));
        assert_eq!(deployed([1]).abandon(9), Err(PointerError::NoTrial));
    }

    #[test]
    fn a_machine_of_another_image_is_told_so() {
        let pointer = Pointer {
            base_image: Some("app:deployment-B".into()),
            ..deployed([1])
        };
        assert!(pointer.boots(Some("app:deployment-B")).unwrap().is_some());
        assert!(pointer.boots(None).unwrap().is_some());
        assert!(matches!(
            pointer.boots(Some("app:deployment-A")),
            Err(PointerError::OtherImage { .. })
        ));
    }

    #[test]
    fn the_way_back_is_the_latest_other_code_or_the_one_that_is_named() {
        let pointer = deployed([1, 2, 3, 3]);
        assert_eq!(pointer.back_to(None), Ok(&target(2)));
        assert_eq!(pointer.back_to(Some("1.0.1")), Ok(&target(1)));
        assert_eq!(pointer.back_to(Some("0202")), Ok(&target(2)));
        assert_eq!(pointer.back_to(Some("1.0.3")), Err(PointerError::NoSuchTarget));
        assert_eq!(deployed([1]).back_to(None), Err(PointerError::NoSuchTarget));
        let trial = pointer.begin(9, target(4), false).unwrap();
        assert_eq!(trial.back_to(None), Ok(&target(3)));
        // A way back that did not come to its end goes on where it went.
        let back = trial.begin(10, target(2), true).unwrap();
        assert_eq!(back.back_to(None), Ok(&target(2)));
        assert_eq!(back.back_to(Some("1.0.2")), Ok(&target(2)));
        assert_eq!(back.back_to(Some("1.0.3")), Ok(&target(3)));
        assert_eq!(back.commit(10).unwrap().back_to(None), Ok(&target(3)));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Begin(u8),
        Commit,
        Abandon,
    }

    proptest! {
        /// Against a list of what was committed, as a person would keep it.
        #[test]
        fn it_says_what_was_committed_whatever_is_done(
            acts in proptest::collection::vec(
                (prop_oneof![any::<u8>().prop_map(Act::Begin), Just(Act::Commit), Just(Act::Abandon)], 0..3_u64),
                0..60,
            ),
        ) {
            let mut pointer = Pointer::empty(None);
            let mut committed: Vec<Target> = Vec::new();
            let mut trial: Option<Target> = None;
            let mut newest = 0;
            for (act, ahead) in acts {
                // Some come with the number of one before.
                let fencing = (newest + ahead).saturating_sub(1);
                let after = match &act {
                    Act::Begin(number) => pointer.clone().begin(fencing, target(*number), false),
                    Act::Commit => pointer.clone().commit(fencing),
                    Act::Abandon => pointer.clone().abandon(fencing),
                };
                let Ok(after) = after else {
                    prop_assert!(fencing < newest || trial.is_none() && !matches!(act, Act::Begin(_)));
                    continue;
                };
                prop_assert!(fencing >= newest);
                newest = fencing;
                match act {
                    Act::Begin(number) => trial = Some(target(number)),
                    Act::Commit => committed.extend(trial.take().filter(|target| committed.last() != Some(target))),
                    Act::Abandon => trial = None,
                }
                pointer = after;
                prop_assert_eq!(pointer.committed(), committed.last());
                let kept: Vec<_> = pointer.previous.iter().rev().cloned().collect();
                let before = match trial {
                    Some(_) => &committed[..],
                    None => &committed[..committed.len().saturating_sub(1)],
                };
                // What was pushed out by a rollout stays out when that is taken back.
                prop_assert!(before.ends_with(&kept) && kept.len() >= before.len().min(HISTORY - 1));
                prop_assert!(kept.len() <= HISTORY);
            }
        }
    }
}

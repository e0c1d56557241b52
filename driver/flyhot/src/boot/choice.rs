//! What a machine boots, from what the pointer says and what the machine is.
//!
//! Nothing is asked here, and nothing of the pointer changes: a machine only ever reads it.

use flyhot_events::BootWhy;
use flyhot_store::{Pointer, State, Target};

/// What a machine boots.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// An artifact.
    Target(Box<Target>, BootWhy),
    /// What its image brings.
    Base(BootWhy),
}

/// Chooses for a machine of this image.
pub(super) fn choose(pointer: Option<&Pointer>, image: Option<&str>) -> Choice {
    let Some(pointer) = pointer else {
        return Choice::Base(BootWhy::NothingDeployed);
    };
    let trial = pointer.state == State::Trial;
    match pointer.boots(image) {
        // One of them does not say: nobody knows whether the code was made for what this image brings.
        Ok(Some(_)) if pointer.base_image.as_deref() != image => Choice::Base(BootWhy::OtherImage),
        Ok(Some(target)) => {
            let why = if trial { BootWhy::Trial } else { BootWhy::Committed };
            Choice::Target(Box::new(target.clone()), why)
        }
        Ok(None) if trial => Choice::Base(BootWhy::Trial),
        Ok(None) => Choice::Base(BootWhy::NothingDeployed),
        Err(_) => Choice::Base(BootWhy::OtherImage),
    }
}

#[cfg(test)]
mod tests {
    use flyhot_artifact::{CodeId, FileDigest};

    use super::*;

    fn target(version: &str) -> Target {
        let digest = FileDigest::of(version.as_bytes());
        Target {
            digest,
            code_id: CodeId(digest.0),
            manifest_digest: digest,
            signature: None,
            version: version.to_owned(),
            source_image: None,
            created_at: 0,
        }
    }

    fn chosen(pointer: &Pointer, image: Option<&str>) -> (Option<String>, BootWhy) {
        match choose(Some(pointer), image) {
            Choice::Target(target, why) => (Some(target.version), why),
            Choice::Base(why) => (None, why),
        }
    }

    #[test]
    fn what_was_committed_boots_and_on_another_image_and_in_a_first_trial_the_base() {
        assert_eq!(choose(None, Some("a")), Choice::Base(BootWhy::NothingDeployed));
        let empty = Pointer::empty(Some("a".into()));
        assert_eq!(chosen(&empty, Some("a")), (None, BootWhy::NothingDeployed));
        let first = empty.begin(1, target("1"), false).unwrap();
        assert_eq!(chosen(&first, Some("a")), (None, BootWhy::Trial));
        let one = first.commit(1).unwrap();
        let second = one.clone().begin(1, target("2"), false).unwrap();
        let one_of = |why| (Some("1".to_owned()), why);
        assert_eq!(chosen(&one, Some("a")), one_of(BootWhy::Committed));
        assert_eq!(chosen(&second, Some("a")), one_of(BootWhy::Trial));
        for pointer in [&one, &second] {
            for image in [Some("b"), None] {
                assert_eq!(chosen(pointer, image), (None, BootWhy::OtherImage));
            }
        }
        let mut anywhere = one.clone();
        anywhere.base_image = None;
        assert_eq!(chosen(&anywhere, None), one_of(BootWhy::Committed));
        assert_eq!(chosen(&anywhere, Some("a")), (None, BootWhy::OtherImage));
        let taken_back = second.abandon(1).unwrap();
        assert_eq!(chosen(&taken_back, Some("a")), one_of(BootWhy::Committed));
    }
}

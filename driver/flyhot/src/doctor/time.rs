//! Whether clocks agree, as far as the way between them lets it be seen. This file is pure.
//!
//! Leases and locks are judged by the clock of whoever grants them. What hangs on this machine's and on a node's is what they sign.

use std::time::Duration;

use super::{Check, not_well, well};
use crate::clock::Beside;

/// What is signed for S3 is refused where its time is 15 minutes off. A third of that is said while everything still works: a clock
/// that nobody sets goes wrong by a second or two a day.
const MOST: Duration = Duration::from_secs(300);

/// Of a time without parts of seconds, how much later it may be.
const CUT: Duration = Duration::from_secs(1);

/// How another clock goes, by no less than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Off {
    /// No difference is to be seen.
    Unseen,
    Ahead(Duration),
    Behind(Duration),
}

fn off(beside: &Beside) -> Off {
    let latest = beside.theirs + CUT;
    if beside.theirs > beside.answered {
        Off::Ahead(beside.theirs - beside.answered)
    } else if latest < beside.asked {
        Off::Behind(beside.asked - latest)
    } else {
        Off::Unseen
    }
}

/// Of a service whose clock is taken for right.
pub(super) fn of_service(whose: &str, beside: &Beside) -> Check {
    check(
        whose,
        beside,
        "Have this machine's clock set by NTP (`timedatectl set-ntp true`): what it signs is refused with 15 minutes.",
    )
}

/// Of the machine that a node runs on.
pub(super) fn of_node(beside: Option<&Beside>) -> Check {
    match beside {
        Some(beside) => check(
            "the node's",
            beside,
            "Have the one that is wrong set by NTP: what is signed by it is refused with 15 minutes; on Fly.io `fly machine restart` \
             has the node's machine take its host's.",
        ),
        None => well("clock", "not known: the node does not say"),
    }
}

fn check(whose: &str, beside: &Beside, fix: &str) -> Check {
    let off = off(beside);
    let found = match off {
        Off::Unseen => format!("no difference is to be seen between {whose} and this machine's"),
        Off::Ahead(by) => format!("{whose} is {} s ahead of this machine's", by.as_secs()),
        Off::Behind(by) => format!("{whose} is {} s behind this machine's", by.as_secs()),
    };
    match off {
        Off::Ahead(by) | Off::Behind(by) if by > MOST => not_well("clock", found, fix),
        Off::Unseen | Off::Ahead(_) | Off::Behind(_) => well("clock", found),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn beside(asked_ms: u64, theirs_s: u64, answered_ms: u64) -> Beside {
        Beside {
            asked: Duration::from_millis(asked_ms),
            theirs: Duration::from_secs(theirs_s),
            answered: Duration::from_millis(answered_ms),
        }
    }

    #[test]
    fn more_than_five_minutes_are_to_be_mended() {
        let by = Duration::from_secs;
        for (beside, expected, is_well) in [
            (beside(1_000_000, 1_000, 1_000_000), Off::Unseen, true),
            (beside(1_000_999, 1_000, 1_001_000), Off::Unseen, true),
            (beside(1_001_000, 1_000, 1_001_000), Off::Unseen, true),
            // Whoever answers late is not behind.
            (beside(1_000_000, 1_010, 1_020_000), Off::Unseen, true),
            (beside(1_000_000, 1_020, 1_010_000), Off::Ahead(by(10)), true),
            (beside(1_000_000, 1_300, 1_000_000), Off::Ahead(by(300)), true),
            (beside(1_000_000, 1_301, 1_000_000), Off::Ahead(by(301)), false),
            (beside(1_000_000, 699, 1_000_000), Off::Behind(by(300)), true),
            (beside(1_000_000, 698, 1_000_000), Off::Behind(by(301)), false),
        ] {
            assert_eq!(off(&beside), expected, "{beside:?}");
            for check in [of_service("that of Fly.io", &beside), of_node(Some(&beside))] {
                assert_eq!(
                    (check.well, check.fix.is_empty()),
                    (is_well, is_well),
                    "{beside:?}"
                );
            }
        }
        let told = of_service("that of Fly.io", &beside(1_000_000, 600, 1_000_000)).found;
        assert_eq!(told, "that of Fly.io is 399 s behind this machine's");
    }

    proptest! {
        /// Two clocks, one ahead of the other, and a way there and back: what is said is never more than is true, and less by no
        /// more than the way and the cut.
        #[test]
        fn no_difference_is_made_up(
            ahead_ms in -1_000_000_i64..1_000_000,
            there_ms in 0_u64..20_000,
            back_ms in 0_u64..20_000,
            asked_ms in 2_000_000_u64..9_000_000,
        ) {
            let theirs_ms = (asked_ms + there_ms).checked_add_signed(ahead_ms).unwrap();
            let told_ms = match off(&beside(asked_ms, theirs_ms / 1_000, asked_ms + there_ms + back_ms)) {
                Off::Unseen => 0,
                Off::Ahead(by) => i64::try_from(by.as_millis()).unwrap(),
                Off::Behind(by) => -i64::try_from(by.as_millis()).unwrap(),
            };
            prop_assert!(told_ms.abs() <= ahead_ms.abs() && told_ms * ahead_ms >= 0, "{told_ms}");
            let hidden_ms = i64::try_from(there_ms.max(back_ms)).unwrap() + 1_000;
            prop_assert!(ahead_ms.abs() - told_ms.abs() <= hidden_ms, "{told_ms}");
        }
    }
}

//! The words for what happens to a fleet, and what it came to.

use flyhot_events::ErrorKind;

/// What a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// The target.
    Target,
    /// What was committed before.
    Old,
    /// What it ran when the rollout began, where a rollout before this one did not come to its end: it may be that one's.
    Before,
    /// Nobody knows: it was lost while its code was exchanged.
    Unknown,
    /// Nothing that counts: its machine was stopped before it was begun, and boots what is committed.
    Left,
}

/// How the work on a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// What it runs now.
    pub stands: Stands,
    /// What stands against it.
    pub against: Option<ErrorKind>,
    /// It ran that before it was begun: what it does to a node was not seen of this one.
    pub already: bool,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The work on a node came to its end, forth or back.
    Ended {
        /// The node, by its place.
        node: usize,
        /// How.
        end: End,
    },
    /// A node was left alone when it was to be begun; nothing may be begun any more.
    Barred {
        /// The node, by its place.
        node: usize,
        /// Why.
        why: ErrorKind,
    },
    /// A node that was begun on its way forth, and not touched, is left to boot: its machine is not started any more.
    Left {
        /// The node, by its place.
        node: usize,
    },
    /// A gate answered. No answer is one that is not well.
    Gate {
        /// The node, by its place.
        node: usize,
        /// Whether it is well.
        well: bool,
    },
    /// What nodes go back to is at hand.
    Ready,
    /// One more node is there: its place is behind all others.
    Joined,
    /// A node that was taken over was started anew, and runs what it did not run when it was left.
    Restarted {
        /// The node, by its place.
        node: usize,
    },
    /// A node that was taken over does not answer any more.
    Lost {
        /// The node, by its place.
        node: usize,
        /// Why.
        why: ErrorKind,
    },
    /// That is all who are there by now.
    Looked,
    /// Nothing may be begun any more: a signal, a lock that was lost, a way back that is not to be had.
    Stop(ErrorKind),
}

/// What a fleet runs, of whom nobody counts that is left to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fleet {
    /// Every node the target.
    Target,
    /// Every node what was committed before.
    Old,
    /// Every node what it ran when the rollout began, which is not known to be the same; or nobody is there any more.
    Before,
    /// Some the target, or nobody knows.
    Mixed,
}

/// What a rollout came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What the fleet runs.
    pub fleet: Fleet,
    /// What stands against it; nothing only where every node runs the target and is well.
    pub against: Option<ErrorKind>,
}

/// What a node came to, as far as a verdict looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    pub(crate) stands: Stands,
    /// Whether it ran the target, or may have, and does no longer.
    pub(crate) taken_back: bool,
    pub(crate) against: Option<ErrorKind>,
}

/// `first` is what stopped the rollout.
pub(crate) fn verdict(fates: impl Iterator<Item = Fate> + Clone, first: Option<ErrorKind>) -> Verdict {
    let there = fates.clone().filter(|fate| fate.stands != Stands::Left);
    let nobody = there.clone().next().is_none();
    let all = |stands| !nobody && there.clone().all(|fate| fate.stands == stands);
    let any = |stands| fates.clone().any(|fate| fate.stands == stands);
    let fleet = if all(Stands::Target) {
        Fleet::Target
    } else if any(Stands::Target) || any(Stands::Unknown) {
        Fleet::Mixed
    } else if nobody || any(Stands::Before) {
        Fleet::Before
    } else {
        Fleet::Old
    };
    let met = |kind| fates.clone().any(|fate| fate.against == Some(kind));
    let taken_back = fates.clone().any(|fate| fate.taken_back);
    // What nobody runs was tried by nobody.
    let first = first.or(nobody.then_some(ErrorKind::NodeUnreachable));
    // It did not come to its end, and nothing says why.
    let first = first.or((fleet != Fleet::Target).then_some(ErrorKind::Bug));
    let against = match (fleet, first) {
        // Somebody has to look after it at once, whatever else there is.
        _ if met(ErrorKind::MaybeSuspended) => Some(ErrorKind::MaybeSuspended),
        // This says more than what the nodes run.
        (_, Some(kind @ ErrorKind::Bug)) => Some(kind),
        // Whoever stopped it may think that nothing was done.
        (fleet, Some(kind @ ErrorKind::Interrupted)) if fleet != Fleet::Mixed => Some(kind),
        (Fleet::Target, kind) => kind.map(|kind| if says_old(kind) { ErrorKind::Degraded } else { kind }),
        (Fleet::Old, _) if taken_back || met(ErrorKind::Reverted) => Some(ErrorKind::Reverted),
        // None of them runs it any more.
        (Fleet::Old, Some(ErrorKind::Mixed | ErrorKind::Degraded)) => Some(ErrorKind::Reverted),
        // Some of them may run what a rollout before this one left there.
        (Fleet::Before, _) if taken_back || met(ErrorKind::Reverted) => Some(ErrorKind::Mixed),
        (Fleet::Before, Some(ErrorKind::Reverted | ErrorKind::Degraded)) => Some(ErrorKind::Mixed),
        (Fleet::Old | Fleet::Before, kind) => kind,
        // One node that was lost and nobody else to differ from keeps its own.
        (Fleet::Mixed, Some(kind)) if !taken_back && !any(Stands::Target) && !says_old(kind) => Some(kind),
        (Fleet::Mixed, _) => Some(ErrorKind::Mixed),
    };
    Verdict { fleet, against }
}

/// Whether the exit code of this kind says that nodes run what they ran before.
fn says_old(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Reverted | ErrorKind::ColdDeployNeeded | ErrorKind::NotQuiesced | ErrorKind::Mixed
    )
}

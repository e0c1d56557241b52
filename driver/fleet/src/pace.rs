//! When a request may go: Fly allows so many a second for each action and what it is done to.
//!
//! This file is pure: time is handed in. Every take is granted, at once or later, in the order in which they were asked for; so one
//! that is given up before its time has cost a place and nothing else. Only what the server puts off for longer than somebody has is not
//! granted, and costs nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Actions that Fly counts on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    App,
    Tokens,
    List,
    Create,
    Get,
    Start,
    Delete,
    Wait,
    Exec,
    Lease,
    LetGo,
    Metadata,
    SetMetadata,
    Secrets,
}

/// How often one action may be done to one thing: Fly documents 1/s with bursts of 3 and, for reading one machine, 5/s with
/// bursts of 10. A burst here is shorter by what comes in one second: requests that leave in time may arrive closer together, and
/// as long as the way to Fly takes one of them no more than a second longer than another, none is too early there. A command starts a
/// program on a machine that serves: there is no burst of them.
impl Action {
    fn interval(self) -> Duration {
        match self {
            Self::Get => Duration::from_millis(200),
            _ => Duration::from_secs(1),
        }
    }

    fn burst(self) -> u32 {
        match self {
            Self::Get => 5,
            Self::Exec => 1,
            _ => 2,
        }
    }
}

/// What is known of one action and one thing; what is past is as if it were not here.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// The time at which it is full again.
    full: Instant,
    /// Until when the server wants nothing of it.
    held: Instant,
}

/// When each action's next turn is.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    buckets: HashMap<(Action, String), Bucket>,
    /// How many there may be before those that are full are forgotten.
    sweep: usize,
}

/// Below that many buckets nothing is forgotten: they are a hundred bytes each.
const FEW: usize = 1024;

impl Pace {
    /// Takes a turn at `now`: how long to wait for it. `None`, and none is taken, where the server wants nothing now and the turn would
    /// be behind `until`: what it says may be minutes, while our own rates cost seconds.
    pub(crate) fn take(
        &mut self,
        action: Action,
        of: &str,
        now: Instant,
        until: Instant,
    ) -> Option<Duration> {
        self.forget(now);
        let bucket = self.bucket(action, of, now);
        let before = bucket.full.max(now);
        let tolerated = action.interval() * (action.burst() - 1);
        let wait = before.saturating_duration_since(now).saturating_sub(tolerated);
        if bucket.held > now && now + wait > until {
            return None;
        }
        bucket.full = before + action.interval();
        Some(wait)
    }

    /// Nothing more of this action for so long: the server said so.
    pub(crate) fn hold(&mut self, action: Action, of: &str, now: Instant, pause: Duration) {
        let bucket = self.bucket(action, of, now);
        let tolerated = action.interval() * (action.burst() - 1);
        bucket.held = bucket.held.max(now + pause);
        bucket.full = bucket.full.max(now + pause + tolerated);
    }

    fn bucket(&mut self, action: Action, of: &str, now: Instant) -> &mut Bucket {
        let unused = Bucket { full: now, held: now };
        self.buckets.entry((action, of.to_owned())).or_insert(unused)
    }

    fn forget(&mut self, now: Instant) {
        if self.buckets.len() > self.sweep.max(FEW) {
            // None is held for longer than until it is full.
            self.buckets.retain(|_, bucket| bucket.full > now);
            // Looked through again when there are twice as many, so that each take costs the same on the whole.
            self.sweep = self.buckets.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACTIONS: [Action; 3] = [Action::Get, Action::List, Action::Exec];

    /// The wait of somebody who has time.
    fn take(pace: &mut Pace, action: Action, of: &str, now: Instant) -> Duration {
        let patient = now + Duration::from_secs(100_000);
        pace.take(action, of, now, patient).unwrap()
    }

    /// As Fly describes its own: a bucket of `burst` that fills by one each `interval`.
    fn never_above(times: &[Duration], burst: f64, per_second: f64) -> bool {
        let (mut tokens, mut last) = (burst, Duration::ZERO);
        times.iter().all(|at| {
            tokens = (tokens + (*at - last).as_secs_f64() * per_second).min(burst);
            last = *at;
            tokens -= 1.0;
            tokens > -1e-6
        })
    }

    proptest! {
        /// Whoever comes whenever, and however the way delays them by up to a second: the server's bucket never runs dry.
        #[test]
        fn no_request_is_too_early(
            comes in prop::collection::vec((0_u64..2_000, 0_usize..3, 0_u64..1_000), 1..200),
        ) {
            let begun = Instant::now();
            let mut pace = Pace::default();
            let mut now = Duration::ZERO;
            let mut sent: HashMap<Action, Vec<Duration>> = HashMap::new();
            for (later, action, delay) in comes {
                now += Duration::from_millis(later / 4);
                let action = ACTIONS[action];
                let wait = take(&mut pace, action, "1", begun + now);
                sent.entry(action).or_default().push(now + wait + Duration::from_millis(delay));
            }
            for (action, mut times) in sent {
                times.sort_unstable();
                let (burst, rate) = if action == Action::Get { (10.0, 5.0) } else { (3.0, 1.0) };
                prop_assert!(never_above(&times, burst, rate), "{action:?} {times:?}");
            }
        }

        /// Whoever comes while the server wants nothing waits no longer than they have, and whoever is not let in leaves no trace.
        #[test]
        fn nobody_waits_for_the_server_beyond_their_time(
            comes in prop::collection::vec((0_u64..2_000, 0_u64..400_000, prop::option::of(0_u64..300_000)), 1..100),
        ) {
            let (mut pace, mut beside) = (Pace::default(), Pace::default());
            let mut now = Instant::now();
            let mut held = now;
            for (later, patience, hold) in comes {
                now += Duration::from_millis(later);
                if let Some(pause) = hold.map(Duration::from_millis) {
                    pace.hold(Action::Lease, "1", now, pause);
                    beside.hold(Action::Lease, "1", now, pause);
                    held = held.max(now + pause);
                }
                let until = now + Duration::from_millis(patience);
                match pace.take(Action::Lease, "1", now, until) {
                    Some(wait) => {
                        prop_assert!(held <= now || now + wait <= until);
                        prop_assert!(now + wait >= held);
                        prop_assert_eq!(wait, take(&mut beside, Action::Lease, "1", now));
                    }
                    None => prop_assert!(held > now),
                }
            }
        }

        /// Turns come in the order in which they were taken.
        #[test]
        fn nobody_is_overtaken(comes in prop::collection::vec(0_u64..2_000, 1..100)) {
            let begun = Instant::now();
            let mut pace = Pace::default();
            let (mut now, mut last) = (begun, begun);
            for later in comes {
                now += Duration::from_millis(later);
                let turn = now + take(&mut pace, Action::List, "app", now);
                prop_assert!(turn >= last);
                last = turn;
            }
        }
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_by_the_second() {
        let now = Instant::now();
        let mut pace = Pace::default();
        let waits: Vec<u64> = (0..5)
            .map(|_| take(&mut pace, Action::Create, "app", now).as_secs())
            .collect();
        assert_eq!(waits, [0, 0, 1, 2, 3]);
        assert_eq!(take(&mut pace, Action::Create, "another", now), Duration::ZERO);
        let waits = [(); 3].map(|()| take(&mut pace, Action::Exec, "app", now).as_secs());
        assert_eq!(waits, [0, 1, 2]);
    }

    #[test]
    fn what_the_server_says_holds_for_everyone() {
        let now = Instant::now();
        let mut pace = Pace::default();
        pace.hold(Action::List, "app", now, Duration::from_secs(7));
        assert_eq!(take(&mut pace, Action::List, "app", now), Duration::from_secs(7));
        assert_eq!(take(&mut pace, Action::List, "app", now), Duration::from_secs(8));
    }

    #[test]
    fn our_own_rate_is_waited_for_by_whoever_has_no_time() {
        let now = Instant::now();
        let mut pace = Pace::default();
        let waits = [(); 3].map(|()| pace.take(Action::Exec, "app", now, now));
        assert_eq!(waits, [0, 1, 2].map(|seconds| Some(Duration::from_secs(seconds))));
    }

    #[test]
    fn thousands_of_machines_are_forgotten_again() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for number in 0..10_000_u64 {
            let at = now + Duration::from_millis(number * 10);
            take(&mut pace, Action::Exec, &number.to_string(), at);
        }
        assert!(pace.buckets.len() <= FEW + 1, "{}", pace.buckets.len());
    }
}

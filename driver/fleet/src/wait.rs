//! Waiting for a machine to come to a state.

use std::fmt;
use std::time::{Duration, Instant};

use reqwest::Method;

use crate::ask::{Again, Ask, Came};
use crate::client::Fly;
use crate::error::FlyError;
use crate::machine::{MachineId, State};
use crate::pace::Action;
use crate::said;

/// The longest that Fly waits in one request, and the shortest: anything else is refused with 400.
const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(1);

/// How much longer than Fly waits its answer is waited for.
const BEYOND: Duration = Duration::from_secs(15);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Its main process runs.
    Started,
    /// It does not run.
    Stopped,
    /// It is gone.
    Destroyed,
}

impl Reach {
    /// Whether a machine in this state does not come there any more.
    fn is_out_of(self, state: &State) -> bool {
        let failed = matches!(state, State::Failed | State::LaunchFailed);
        match self {
            Self::Started | Self::Stopped => failed || state.is_gone(),
            Self::Destroyed => false,
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Destroyed => "destroyed",
        })
    }
}

impl Fly {
    /// Waits for a machine to come to a state, for as long as `within`. One that is not there any more is destroyed.
    ///
    /// # Errors
    /// [`FlyError::NotReached`]; [`FlyError::Ended`] as soon as it cannot come there any more.
    pub async fn wait(&self, machine: &MachineId, reach: Reach, within: Duration) -> Result<(), FlyError> {
        let begun = Instant::now();
        let doing = format!("waiting for the machine {machine} to be {reach}");
        loop {
            let slice = slice(within.saturating_sub(begun.elapsed()));
            let path = format!("/wait?state={reach}&timeout={}", slice.as_secs());
            let mut ask = Ask::machine(doing.clone(), Action::Wait, Method::GET, machine, &path);
            ask.again = Again::Waiting;
            ask.answer = slice + BEYOND;
            let refused = match self.ask(&ask, Instant::now() + ask.answer).await {
                Came::Refused(refusal, _) if refusal.answered.status == 408 => refusal.answered,
                Came::Refused(refusal, _) if refusal.answered.status == 404 && reach == Reach::Destroyed => {
                    return Ok(());
                }
                other => return other.or_error(&ask.doing).map(|_| ()),
            };
            let currently = said::currently(&refused.said).map(State::of);
            if let Some(state) = currently.clone().filter(|state| reach.is_out_of(state)) {
                return Err(FlyError::Ended {
                    machine: machine.clone(),
                    reach,
                    state,
                });
            }
            if begun.elapsed() >= within {
                return Err(FlyError::NotReached {
                    machine: machine.clone(),
                    reach,
                    waited: begun.elapsed(),
                    currently,
                });
            }
        }
    }
}

/// Of what is left, as much as one request waits for, in whole seconds.
fn slice(left: Duration) -> Duration {
    Duration::from_secs(left.clamp(SHORTEST, LONGEST).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_never_one_that_fly_refuses() {
        for (left, expected) in [
            (0, 1),
            (999, 1),
            (1_999, 1),
            (59_999, 59),
            (60_000, 60),
            (400_000, 60),
        ] {
            assert_eq!(slice(Duration::from_millis(left)).as_secs(), expected);
        }
    }

    #[test]
    fn a_state_is_out_of_reach_only_for_good() {
        for (reach, state, out) in [
            (Reach::Started, State::Created, false),
            (Reach::Started, State::Stopped, false),
            (Reach::Started, State::Failed, true),
            (Reach::Started, State::Destroying, true),
            (Reach::Stopped, State::LaunchFailed, true),
            (Reach::Stopped, State::Other("new".into()), false),
            (Reach::Destroyed, State::Failed, false),
        ] {
            assert_eq!(reach.is_out_of(&state), out, "{reach} {state}");
        }
    }
}

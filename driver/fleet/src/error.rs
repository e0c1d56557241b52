//! What did not go, one sentence each, with what Fly said and the number under which Fly knows of it.

use std::fmt;
use std::time::Duration;

use flyhot_events::ErrorKind;

use crate::machine::{MachineId, State};
use crate::token::TokenError;
use crate::wait::Reach;

/// A refusal of the Machines API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The status of HTTP.
    pub status: u16,
    /// What it said, on one line.
    pub said: String,
    /// The id of the request, by which Fly's support finds it.
    pub request: Option<String>,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if !self.said.is_empty() {
            write!(f, ", {:?}", self.said)?;
        }
        match &self.request {
            Some(request) => write!(f, " (request {request})"),
            None => Ok(()),
        }
    }
}

/// Why something that was asked of the Machines API did not come about.
#[derive(Debug, thiserror::Error)]
pub enum FlyError {
    /// The address of the API is none.
    #[error("{found:?} is not the address of a Machines API: {why}")]
    Address {
        /// What was given.
        found: String,
        /// What is wrong.
        why: String,
    },
    /// The token is none.
    #[error("the token of Fly cannot be used")]
    Token(#[from] TokenError),
    /// A text that is part of an address is none that can be.
    #[error("{found:?} is not the name of {what}")]
    Name {
        /// What was given.
        found: String,
        /// Of what.
        what: &'static str,
    },
    /// Nothing answers, or nothing that could be read.
    #[error("{doing}: no answer of the Machines API after {tries} {}: {why}", if *tries == 1 { "try" } else { "tries" })]
    Silent {
        /// What was tried.
        doing: String,
        /// How often.
        tries: u32,
        /// What happened the last time.
        why: String,
    },
    /// It may have been done, and it is not known whether it was.
    #[error("{doing}: it is not known whether that was done: {why}")]
    Unsure {
        /// What was tried.
        doing: String,
        /// What happened instead of an answer.
        why: String,
    },
    /// 401.
    #[error("{doing}: Fly does not know the token: {answered}")]
    NotKnown {
        /// What was tried.
        doing: String,
        /// What it said.
        answered: Answered,
    },
    /// 403.
    #[error("{doing}: the token may not do that: {answered}")]
    NotAllowed {
        /// What was tried.
        doing: String,
        /// What it said.
        answered: Answered,
    },
    /// 403 for a lease: one may go on without.
    #[error("the token may not lease the machine {machine}: {answered}")]
    MayNotLease {
        /// Which one.
        machine: MachineId,
        /// What it said.
        answered: Answered,
    },
    /// 404.
    #[error("{doing}: there is no such thing: {answered}")]
    Absent {
        /// What was tried.
        doing: String,
        /// What it said.
        answered: Answered,
    },
    /// Somebody else holds the lease of the machine.
    #[error(
        "{doing}: {} holds the lease of the machine{}: {answered}",
        holder.as_deref().unwrap_or("somebody else"),
        until.as_ref().map_or_else(String::new, |until| format!(" until {until}"))
    )]
    Held {
        /// What was tried.
        doing: String,
        /// Who, as Fly has it.
        holder: Option<String>,
        /// Until when, as Fly has it.
        until: Option<String>,
        /// What it said.
        answered: Box<Answered>,
    },
    /// A lease was ours and is no longer.
    #[error("the lease of the machine {machine} was lost: {why}")]
    LeaseLost {
        /// Which one.
        machine: MachineId,
        /// How.
        why: String,
    },
    /// A machine of that name is there, and it is not the one that was meant.
    #[error("a machine {name} is there already, and it is another one: {answered}")]
    NameTaken {
        /// The name.
        name: String,
        /// What it said.
        answered: Answered,
    },
    /// The image is not where the machine is made.
    #[error("the image {image} was not found in {} s of trying: {answered}", waited.as_secs())]
    NoImage {
        /// Its name.
        image: String,
        /// How long.
        waited: Duration,
        /// What it said last.
        answered: Answered,
    },
    /// No host has room, or the organization may have no more machines.
    #[error("{doing}: there is no room: {answered}")]
    NoRoom {
        /// What was tried.
        doing: String,
        /// What it said.
        answered: Answered,
    },
    /// The machine's state does not allow it, and has not changed for as long as was waited.
    #[error("{doing}: the machine is not ready for that: {answered}")]
    NotNow {
        /// What was tried.
        doing: String,
        /// What it said last.
        answered: Answered,
    },
    /// 400 or 422.
    #[error("{doing}: Fly takes the request for a mistake: {answered}")]
    Refused {
        /// What was tried.
        doing: String,
        /// What it said.
        answered: Answered,
    },
    /// 429 for as long as was waited.
    #[error("{doing}: too many requests, {}: {answered}", limited(*tries))]
    Limited {
        /// What was tried.
        doing: String,
        /// How often; not at all, where Fly had said to somebody else here that it wants none for longer than this may take.
        tries: u32,
        /// What it said last.
        answered: Answered,
    },
    /// 5xx for as long as was waited.
    #[error("{doing}: Fly fails, still after {tries} {}: {answered}", if *tries == 1 { "try" } else { "tries" })]
    Failing {
        /// What was tried.
        doing: String,
        /// How often.
        tries: u32,
        /// What it said last.
        answered: Answered,
    },
    /// Any other status.
    #[error("{doing}: an answer that does not belong to this request: {answered}")]
    Unexpected {
        /// What was tried.
        doing: String,
        /// What it said.
        answered: Answered,
    },
    /// It went, by its status, and its body is not what it should be.
    #[error("{doing}: the answer cannot be read: {what}")]
    Unreadable {
        /// What was tried.
        doing: String,
        /// What is wrong with it.
        what: String,
    },
    /// A state was waited for in vain.
    #[error(
        "the machine {machine} is not {reach} after {} s{}",
        waited.as_secs(),
        currently.as_ref().map_or_else(String::new, |state| format!(", but {state}"))
    )]
    NotReached {
        /// Which one.
        machine: MachineId,
        /// What was waited for.
        reach: Reach,
        /// How long.
        waited: Duration,
        /// What it was last.
        currently: Option<State>,
    },
    /// A state was waited for that the machine does not come to any more.
    #[error("the machine {machine} will not be {reach}: it is {state}")]
    Ended {
        /// Which one.
        machine: MachineId,
        /// What was waited for.
        reach: Reach,
        /// What it is.
        state: State,
    },
    /// A command on a machine took longer than one may, each time.
    #[error("a command on the machine {machine} did not end within {} s: {answered}", limit.as_secs())]
    TooLong {
        /// Which one.
        machine: MachineId,
        /// How long it may take.
        limit: Duration,
        /// What it said last.
        answered: Answered,
    },
}

fn limited(tries: u32) -> String {
    match tries {
        0 => "and Fly wants none for longer than this may take".to_owned(),
        1 => "still after 1 try".to_owned(),
        tries => format!("still after {tries} tries"),
    }
}

impl FlyError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. } | Self::Token(_) | Self::Name { .. } => ErrorKind::Usage,
            Self::Silent { .. }
            | Self::Unsure { .. }
            | Self::NotKnown { .. }
            | Self::NotAllowed { .. }
            | Self::MayNotLease { .. }
            | Self::Absent { .. }
            | Self::Held { .. }
            | Self::LeaseLost { .. }
            | Self::NameTaken { .. }
            | Self::NoImage { .. }
            | Self::NoRoom { .. }
            | Self::NotNow { .. }
            | Self::Refused { .. }
            | Self::Limited { .. }
            | Self::Failing { .. }
            | Self::Unexpected { .. }
            | Self::Unreadable { .. }
            | Self::NotReached { .. }
            | Self::Ended { .. }
            | Self::TooLong { .. } => ErrorKind::FlyApi,
        }
    }

    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Address { .. } => {
                "Give FLY_FLAPS_BASE_URL as https://HOST or http://HOST:PORT, or leave it away."
            }
            Self::Token(_) => "Make one with `fly tokens create deploy -x 2h`, and give it by FLY_API_TOKEN.",
            Self::Name { .. } => "Compare it with fly.toml and with `fly machines list`.",
            Self::Silent { .. } => {
                "Check the network and that this machine has certificates of authorities (ca-certificates); run the same command again."
            }
            Self::Unsure { .. } => {
                "Look with `flyhot status` and `fly machines list` whether it was, before you repeat it."
            }
            Self::NotKnown { .. } => {
                "It may have expired: log in with `fly auth login`, or make one with `fly tokens create deploy -x 2h`."
            }
            Self::NotAllowed { .. } => "Use a token of this app: `fly tokens create deploy -x 2h -a APP`.",
            Self::MayNotLease { .. } => {
                "Use a token that may, or see to it that nobody runs `fly deploy` meanwhile."
            }
            Self::Absent { .. } => {
                "Check the name of the app, that the token is of its organization, and `fly machines list`."
            }
            Self::Held { .. } => {
                "Wait until its holder is done; where nobody is at work any more, `fly machine leases clear` ends it."
            }
            Self::LeaseLost { .. } => {
                "Look who else changes the machine, a `fly deploy` for example, and run the same command again."
            }
            Self::NameTaken { .. } => {
                "Look at it with `fly machines list`, and remove it if nobody needs it."
            }
            Self::NoImage { .. } => {
                "Check that it was pushed: `fly deploy --build-only --push` prints its name."
            }
            Self::NoRoom { .. } => {
                "Try another region or less memory, or look at the limits of the organization."
            }
            Self::NotNow { .. } => "Look at it with `fly machine status`, and run the same command again.",
            Self::Refused { .. } => "Look which value it names, in fly.toml or among the options.",
            Self::Limited { .. } => {
                "Look what else asks for this app at the moment, and run the same command again."
            }
            Self::Failing { .. } => "Look at Fly's status page, and run the same command again.",
            Self::Unexpected { .. } | Self::Unreadable { .. } => {
                "Check what lies between here and Fly, a proxy for example; if nothing does, report this line."
            }
            Self::NotReached { .. } | Self::Ended { .. } => {
                "Look at its log and events with `fly machine status` and `fly logs`."
            }
            Self::TooLong { .. } => "Look at the load of the machine, and run the same command again.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, said: &str) -> Answered {
        Answered {
            status,
            said: said.to_owned(),
            request: Some("01JNRQ-yyz".to_owned()),
        }
    }

    #[test]
    fn each_is_one_sentence_with_the_request_and_a_next_step() {
        let doing = || "listing the machines of the app shop".to_owned();
        let machine = || "3d8d413b29d089".parse::<MachineId>().unwrap();
        let table = [
            (
                FlyError::NotKnown {
                    doing: doing(),
                    answered: answered(401, "Authenticate: token validation error"),
                },
                "listing the machines of the app shop: Fly does not know the token: HTTP 401, \
                 \"Authenticate: token validation error\" (request 01JNRQ-yyz)",
            ),
            (
                FlyError::NotAllowed {
                    doing: doing(),
                    answered: answered(403, ""),
                },
                "listing the machines of the app shop: the token may not do that: HTTP 403 (request 01JNRQ-yyz)",
            ),
            (
                FlyError::Held {
                    doing: "leasing the machine 1".into(),
                    holder: Some("a@b".into()),
                    until: Some("2026-05-14T10:41:08Z".into()),
                    answered: answered(409, "lease").into(),
                },
                "leasing the machine 1: a@b holds the lease of the machine until 2026-05-14T10:41:08Z: HTTP 409, \"lease\" \
                 (request 01JNRQ-yyz)",
            ),
            (
                FlyError::Held {
                    doing: "leasing the machine 1".into(),
                    holder: None,
                    until: None,
                    answered: answered(409, "").into(),
                },
                "leasing the machine 1: somebody else holds the lease of the machine: HTTP 409 (request 01JNRQ-yyz)",
            ),
            (
                FlyError::Silent {
                    doing: doing(),
                    tries: 1,
                    why: "connection refused".into(),
                },
                "listing the machines of the app shop: no answer of the Machines API after 1 try: connection refused",
            ),
            (
                FlyError::NotReached {
                    machine: machine(),
                    reach: Reach::Started,
                    waited: Duration::from_secs(61),
                    currently: Some(State::Starting),
                },
                "the machine 3d8d413b29d089 is not started after 61 s, but starting",
            ),
            (
                FlyError::NoImage {
                    image: "registry.fly.io/shop:x".into(),
                    waited: Duration::from_secs(60),
                    answered: answered(404, "MANIFEST_UNKNOWN"),
                },
                "the image registry.fly.io/shop:x was not found in 60 s of trying: HTTP 404, \"MANIFEST_UNKNOWN\" \
                 (request 01JNRQ-yyz)",
            ),
            (
                FlyError::Refused {
                    doing: doing(),
                    answered: answered(422, "invalid config.guest.cpu_kind"),
                },
                "listing the machines of the app shop: Fly takes the request for a mistake: HTTP 422, \
                 \"invalid config.guest.cpu_kind\" (request 01JNRQ-yyz)",
            ),
            (
                FlyError::Failing {
                    doing: doing(),
                    tries: 3,
                    answered: answered(503, ""),
                },
                "listing the machines of the app shop: Fly fails, still after 3 tries: HTTP 503 (request 01JNRQ-yyz)",
            ),
            (
                FlyError::Limited {
                    doing: doing(),
                    tries: 2,
                    answered: answered(429, "rate limit exceeded"),
                },
                "listing the machines of the app shop: too many requests, still after 2 tries: HTTP 429, \
                 \"rate limit exceeded\" (request 01JNRQ-yyz)",
            ),
            (
                FlyError::Limited {
                    doing: doing(),
                    tries: 0,
                    answered: Answered {
                        request: None,
                        ..answered(429, "")
                    },
                },
                "listing the machines of the app shop: too many requests, and Fly wants none for longer than this may take: \
                 HTTP 429",
            ),
        ];
        for (error, sentence) in table {
            assert_eq!(error.to_string(), sentence);
            assert_eq!(error.kind(), ErrorKind::FlyApi);
            assert!(error.hint().ends_with('.'), "{sentence}");
        }
        let usage = FlyError::from(TokenError::Empty);
        assert_eq!(usage.kind(), ErrorKind::Usage);
    }
}

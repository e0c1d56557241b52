//! One request after its turn, and again where that is safe.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use reqwest::Method;
use serde_json::Value;

use crate::client::Fly;
use crate::error::{Answered, FlyError};
use crate::lease::Nonce;
use crate::machine::MachineId;
use crate::pace::Action;
use crate::pause::{Pauses, retry_after};
use crate::said::{Said, Why};

/// How long an ordinary answer may take: Fly's own clients give up no sooner, and the longest that is known is a list of a
/// thousand machines.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// The most that is read of an answer: 200 machines of 30 KB, and an exec's 10 MiB.
const LARGEST: usize = 16 * 1024 * 1024;

/// Between two tries after 429 without a word on when: below a second nothing would be free again.
const REFUSED: Duration = Duration::from_secs(1);

/// Whether a request may be repeated that may have been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Twice is the same as once.
    Harmless,
    /// The same; and 408 is an answer that is waited for.
    Waiting,
    /// Only as long as it is known that it was not done.
    Never,
}

/// A request.
pub(crate) struct Ask<'a> {
    /// What for, `"listing the machines of the app shop"`.
    pub(crate) doing: String,
    pub(crate) action: Action,
    /// The machine, or nothing: the app.
    pub(crate) machine: Option<&'a MachineId>,
    pub(crate) method: Method,
    /// What follows the address of the app, or of the machine.
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) nonce: Option<&'a Nonce>,
    pub(crate) again: Again,
    /// How long an answer may take.
    pub(crate) answer: Duration,
}

impl<'a> Ask<'a> {
    /// Of the app.
    pub(crate) fn app(doing: String, action: Action, method: Method, path: &str) -> Self {
        Self {
            doing,
            action,
            machine: None,
            again: if method == Method::POST {
                Again::Never
            } else {
                Again::Harmless
            },
            method,
            path: path.to_owned(),
            body: None,
            nonce: None,
            answer: ANSWER,
        }
    }

    /// Of a machine.
    pub(crate) fn machine(
        doing: String,
        action: Action,
        method: Method,
        id: &'a MachineId,
        path: &str,
    ) -> Self {
        Self {
            machine: Some(id),
            path: format!("/machines/{id}{path}"),
            ..Self::app(doing, action, method, "")
        }
    }
}

/// An answer that is none of failure.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    /// Where the list goes on.
    pub(crate) cursor: Option<String>,
    /// Fly's clock.
    pub(crate) date: Option<SystemTime>,
}

impl Answer {
    pub(crate) fn json(&self, doing: &str) -> Result<Value, FlyError> {
        serde_json::from_slice(&self.body).map_err(|error| FlyError::Unreadable {
            doing: doing.to_owned(),
            what: error.to_string(),
        })
    }
}

/// An answer that is one.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) answered: Answered,
    pub(crate) why: Why,
}

impl Refusal {
    /// What 429 said to whoever asked before says the same to this one.
    fn put_off() -> Self {
        Self {
            answered: Answered {
                status: 429,
                said: String::new(),
                request: None,
            },
            why: Why::Other,
        }
    }

    /// As an error, where nothing more is known of it.
    pub(crate) fn of(self, doing: String, tries: u32) -> FlyError {
        let answered = self.answered;
        match (self.why, answered.status) {
            (Why::Held { holder, until }, _) => FlyError::Held {
                doing,
                holder,
                until,
                answered: answered.into(),
            },
            (_, 401) => FlyError::NotKnown { doing, answered },
            (_, 403) => FlyError::NotAllowed { doing, answered },
            (Why::NoRoom, _) => FlyError::NoRoom { doing, answered },
            (Why::NotNow, _) => FlyError::NotNow { doing, answered },
            (_, 404) => FlyError::Absent { doing, answered },
            (_, 429) => FlyError::Limited {
                doing,
                tries,
                answered,
            },
            (_, 400 | 422) => FlyError::Refused { doing, answered },
            (_, 500..) => FlyError::Failing {
                doing,
                tries,
                answered,
            },
            _ => FlyError::Unexpected { doing, answered },
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Came {
    Answer(Answer),
    /// It was refused, and not done.
    Refused(Refusal, u32),
    /// Nothing that says whether it was done; what is known of it stands in the error.
    Unsure(FlyError),
}

impl Came {
    /// For whoever can do nothing but report it.
    pub(crate) fn or_error(self, doing: &str) -> Result<Answer, FlyError> {
        match self {
            Self::Answer(answer) => Ok(answer),
            Self::Refused(refusal, tries) => Err(refusal.of(doing.to_owned(), tries)),
            Self::Unsure(error) => Err(error),
        }
    }
}

/// Why there is no answer.
enum Fault {
    /// Nobody was there to take the request.
    Unsent(String),
    /// It may have been taken.
    Lost(String),
}

/// An answer as it came.
struct Raw {
    status: u16,
    answer: Answer,
    request: Option<String>,
    retry_after: Option<Duration>,
}

impl Fly {
    /// Asks, until there is an answer, or a refusal, or `until` has come. What Fly put off beyond that is refused without being asked.
    pub(crate) async fn ask(&self, ask: &Ask<'_>, until: Instant) -> Came {
        let mut pauses = Pauses::default();
        let mut tries = 0;
        let mut before = None;
        loop {
            if !self.turn(ask, until).await {
                return before.unwrap_or_else(|| Came::Refused(Refusal::put_off(), tries));
            }
            tries += 1;
            let harmless = ask.again != Again::Never;
            let mut pause = pauses.next(fastrand::f64());
            let failed = match self.send(ask).await {
                Ok(raw) if raw.status < 300 => return Came::Answer(raw.answer),
                Ok(raw) => {
                    let refusal = self.refusal(&raw);
                    match raw.status {
                        429 => {
                            pause = raw.retry_after.unwrap_or_else(|| pause.max(REFUSED));
                            self.hold(ask, pause);
                            Came::Refused(refusal, tries)
                        }
                        408 if ask.again == Again::Waiting => return Came::Refused(refusal, tries),
                        404 if ask.machine.is_some_and(|id| self.is_fresh(id)) => {
                            Came::Refused(refusal, tries)
                        }
                        408 | 500.. if matches!(refusal.why, Why::Other) => {
                            let unsure = refusal.of(ask.doing.clone(), tries);
                            if !harmless {
                                return Came::Unsure(FlyError::Unsure {
                                    doing: ask.doing.clone(),
                                    why: unsure.to_string(),
                                });
                            }
                            Came::Unsure(unsure)
                        }
                        _ => return Came::Refused(refusal, tries),
                    }
                }
                Err(Fault::Lost(why)) if !harmless => {
                    return Came::Unsure(FlyError::Unsure {
                        doing: ask.doing.clone(),
                        why,
                    });
                }
                Err(Fault::Lost(why) | Fault::Unsent(why)) => Came::Unsure(FlyError::Silent {
                    doing: ask.doing.clone(),
                    tries,
                    why,
                }),
            };
            if Instant::now() + pause > until {
                return failed;
            }
            before = Some(failed);
            tokio::time::sleep(pause).await;
        }
    }

    async fn send(&self, ask: &Ask<'_>) -> Result<Raw, Fault> {
        let mut request = self
            .http
            .request(ask.method.clone(), self.address(ask))
            .timeout(ask.answer)
            .header("authorization", self.token.header());
        if let Some(nonce) = ask.nonce {
            request = request.header("fly-machine-lease-nonce", &nonce.0);
        }
        if let Some(body) = &ask.body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let fault = |error: reqwest::Error| chain(&error.without_url());
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Err(Fault::Unsent(fault(error))),
            Err(error) => return Err(Fault::Lost(fault(error))),
        };
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let date = header("date").and_then(|date| httpdate::parse_http_date(&date).ok());
        let after = header("retry-after");
        let raw = (
            response.status().as_u16(),
            header("fly-request-id"),
            header("fly-next-cursor"),
        );
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(error) => return Err(Fault::Lost(fault(error))),
            }
            if body.len() > LARGEST {
                return Err(Fault::Lost(format!("an answer of more than {LARGEST} bytes")));
            }
        }
        let (status, request, cursor) = raw;
        Ok(Raw {
            status,
            request,
            retry_after: after.and_then(|after| retry_after(&after, date.unwrap_or_else(SystemTime::now))),
            answer: Answer {
                body,
                cursor: cursor.filter(|cursor| !cursor.is_empty()),
                date,
            },
        })
    }

    /// Nothing is read of it before the token is hidden: part of one is no token that could be found.
    fn refusal(&self, raw: &Raw) -> Refusal {
        let mut said = Said::read(&raw.answer.body);
        said.text = self.token.hide(&said.text);
        Refusal {
            why: said.why(raw.status),
            answered: Answered {
                status: raw.status,
                said: said.shown(),
                request: raw.request.clone(),
            },
        }
    }
}

/// An error with its causes; none of reqwest's prints its source.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::PUBLIC;
    use crate::token::Token;

    #[test]
    fn a_token_is_hidden_before_anything_is_read_or_shortened() {
        let token = "fm2_secretsecretsecret";
        let fly = Fly::new(PUBLIC, "shop".parse().unwrap(), Token::new(token).unwrap()).unwrap();
        let refusal = |status, said: String| {
            fly.refusal(&Raw {
                status,
                answer: Answer {
                    body: said.into_bytes(),
                    cursor: None,
                    date: None,
                },
                request: None,
                retry_after: None,
            })
        };
        for before in 260..310 {
            let said = refusal(400, format!("{} {token}", "x".repeat(before)))
                .answered
                .said;
            assert!(!said.contains("fm2_"), "{said}");
        }
        let held = refusal(409, format!("lease currently held by {token}"));
        let error = held.of("leasing".to_owned(), 1);
        assert!(!format!("{error} {error:?}").contains("fm2_"), "{error}");
    }
}

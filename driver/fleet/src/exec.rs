//! Commands on a machine, with the limits that Fly has for them.

use std::fmt;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::ask::{Again, Ask, Came};
use crate::client::Fly;
use crate::error::FlyError;
use crate::machine::MachineId;
use crate::pace::Action;
use crate::pause::Pauses;
use crate::said::Why;

/// The longest that a command may take: as long as Fly waits for a state; what it does for longer is not documented.
pub const LONGEST_EXEC: Duration = Duration::from_secs(60);

/// How much longer than the command may take its answer is waited for.
const BEYOND: Duration = Duration::from_secs(15);

/// Whether a command may run twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It only reads, or twice is the same as once.
    Harmless,
    /// Not unless it is known that it did not run.
    Never,
}

/// A command. What is in its words is seen by everybody on that machine: secrets go by `stdin`.
#[derive(Clone)]
pub struct Exec {
    /// The program and its words; no shell reads them.
    pub command: Vec<String>,
    /// What it reads.
    pub stdin: Option<String>,
    /// How long it may take, up to [`LONGEST_EXEC`].
    pub timeout: Duration,
    /// Whether it may run twice.
    pub repeat: Repeat,
}

/// What a command made.
#[derive(Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; of one that a signal ended, 128 and the signal.
    pub exit_code: i64,
    /// What it wrote.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("program", &self.command.first())
            .field("timeout", &self.timeout)
            .field("repeat", &self.repeat)
            .finish_non_exhaustive()
    }
}

/// What a command wrote may be a cookie.
impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ran")
            .field("exit_code", &self.exit_code)
            .finish_non_exhaustive()
    }
}

impl Ran {
    /// Reads one. As Fly's own client has it, a code that is not said is zero; but not of a command that a signal ended.
    pub(crate) fn read(json: &Value) -> Option<Self> {
        json.is_object().then(|| {
            let number = |name: &str| json.get(name).and_then(Value::as_i64).unwrap_or_default();
            let text = |name: &str| {
                json.get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let signal = number("exit_signal");
            Self {
                exit_code: match number("exit_code") {
                    0 if signal > 0 => signal.saturating_add(128),
                    code => code,
                },
                stdout: text("stdout"),
                stderr: text("stderr"),
            }
        })
    }
}

impl Fly {
    /// Runs a command on a machine; while somebody holds the machine's lease, and where one that may run twice did not end in
    /// time, it is tried again for as long as `within`.
    ///
    /// # Errors
    /// [`FlyError::Unsure`] where it may have run; [`FlyError::Held`], [`FlyError::TooLong`]. A command that failed is none: see
    /// its exit code.
    pub async fn exec(&self, machine: &MachineId, exec: &Exec, within: Duration) -> Result<Ran, FlyError> {
        let until = Instant::now() + within;
        let limit = exec.timeout.clamp(Duration::from_secs(1), LONGEST_EXEC);
        let doing = format!("running a command on the machine {machine}");
        let mut ask = Ask::machine(doing, Action::Exec, Method::POST, machine, "/exec");
        let mut body = json!({"command": exec.command, "timeout": limit.as_secs()});
        if let Some(stdin) = &exec.stdin {
            body["stdin"] = json!(stdin);
        }
        ask.body = Some(body);
        ask.answer = limit + BEYOND;
        ask.again = match exec.repeat {
            Repeat::Harmless => Again::Waiting,
            Repeat::Never => Again::Never,
        };
        let mut pauses = Pauses::default();
        loop {
            let error = match self.ask(&ask, until).await {
                Came::Refused(refusal, _) if refusal.answered.status == 408 => FlyError::TooLong {
                    machine: machine.clone(),
                    limit,
                    answered: refusal.answered,
                },
                Came::Refused(refusal, tries) if matches!(refusal.why, Why::Held { .. }) => {
                    refusal.of(ask.doing.clone(), tries)
                }
                other => {
                    let json = other.or_error(&ask.doing)?.json(&ask.doing)?;
                    return Ran::read(&json).ok_or_else(|| FlyError::Unreadable {
                        doing: ask.doing.clone(),
                        what: "it is no object".to_owned(),
                    });
                }
            };
            let pause = pauses.next(fastrand::f64());
            if Instant::now() + pause > until {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_body() {
        for (body, code) in [
            (json!({"exit_code": 3, "exit_signal": 0, "stdout": "a"}), Some(3)),
            (json!({}), Some(0)),
            (json!({"exit_code": null, "exit_signal": 9}), Some(137)),
            (json!({"exit_code": 0, "exit_signal": -1}), Some(0)),
            (json!({"exit_code": -1}), Some(-1)),
            (json!("ok"), None),
            (json!(null), None),
        ] {
            assert_eq!(Ran::read(&body).map(|ran| ran.exit_code), code, "{body}");
        }
    }

    #[test]
    fn neither_command_nor_output_prints() {
        let exec = Exec {
            command: vec!["cat".into(), "secret".into()],
            stdin: Some("secret".into()),
            timeout: LONGEST_EXEC,
            repeat: Repeat::Never,
        };
        let ran = Ran::read(&json!({"stdout": "secret", "stderr": "secret"})).unwrap();
        let shown = format!("{exec:?} {ran:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

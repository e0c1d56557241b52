//! Following an orchestrator: its events are asked for once a second, by exec, and said again here.
//!
//! Nothing that fails here ends the orchestrator. It is asked by a signal alone, and left alone after a second one.

use std::time::{Duration, Instant};

use flyhot_artifact::{FileDigest, PrivateKey};
use flyhot_events::{ErrorKind, Event, ExitCode, Line, Outcome};
use flyhot_fleet::{Exec, Exit, Fly, FlyError, Machine, MachineId, Repeat, State, Token};
use serde_json::json;
use tokio::time::Interval;

use super::order::PROGRAM;
use crate::drive::NodeError;
use crate::errors;
use crate::interrupt::Signals;
use crate::orchestrate::OUTCOME;
use crate::report::Reporter;

/// Between two questions; Fly answers no more than one a second for long.
const EACH: Duration = Duration::from_secs(1);

/// How long one may take: a program that starts on a machine that is busy.
const ANSWERED: Duration = Duration::from_secs(20);

/// How long it is asked again and again before that is no answer: a restart of what fails at Fly.
const ASKED: Duration = Duration::from_secs(60);

/// How long flyhot there may say nothing: before the first event the orchestrator reads what it is told, and later a machine that is short
/// of memory may not start it.
const BEGINS: Duration = Duration::from_secs(60);

/// How long it is tried to follow it without any answer. It goes on meanwhile, and its outcome is known as long as its machine is.
const AWAY: Duration = Duration::from_secs(300);

/// All of them; tests have less.
#[derive(Debug, Clone, Copy)]
struct Patience {
    each: Duration,
    asked: Duration,
    begins: Duration,
    away: Duration,
}

const PATIENCE: Patience = Patience {
    each: EACH,
    asked: ASKED,
    begins: BEGINS,
    away: AWAY,
};

/// What an answer says.
enum Heard {
    /// Lines.
    Said(String),
    /// It has said nothing yet, with what was complained of.
    Nothing,
    /// No answer, this time.
    Away(FlyError),
    /// No answer, and there will be none.
    Refused(FlyError),
    /// The machine does not run any more.
    Ended(Box<Machine>),
    /// Fly knows no such machine any more.
    Gone,
}

/// Since when flyhot there has said nothing, again and again.
#[derive(Default)]
struct Silence(Option<Instant>);

impl Silence {
    fn is_too_long(&mut self, now: Instant, begins: Duration) -> bool {
        now.duration_since(*self.0.get_or_insert(now)) >= begins
    }
}

/// An orchestrator.
pub(super) struct Following<'a> {
    fly: &'a Fly,
    app: &'a str,
    machine: MachineId,
    image: String,
    memory_mb: u32,
    patience: Patience,
}

impl<'a> Following<'a> {
    pub(super) fn new(fly: &'a Fly, app: &'a str, machine: MachineId, image: String, memory_mb: u32) -> Self {
        Self {
            fly,
            app,
            machine,
            image,
            memory_mb,
            patience: PATIENCE,
        }
    }

    /// It may be at work, and is not followed.
    pub(super) fn lost(&self, error: &FlyError) -> NodeError {
        errors::not_followed(error, self.app, &self.machine)
    }

    /// Says what it says, until its outcome.
    pub(super) async fn to_the_end(
        &self,
        key: Option<&PrivateKey>,
        token: &Token,
        signals: &mut Signals,
        reporter: &mut Reporter,
    ) -> Result<Outcome, NodeError> {
        let mut answered = Instant::now();
        let (mut place, mut asked) = (0_u64, false);
        let mut silence = Silence::default();
        let (mut is_there, mut knows_token, mut knows_stop) = (false, false, false);
        let Patience {
            each, begins, away, ..
        } = self.patience;
        let mut due = tokio::time::interval(each);
        loop {
            let heard = tokio::select! {
                biased;
                signal = signals.next() => {
                    if std::mem::replace(&mut asked, true) {
                        return Err(errors::goes_on(signal, self.app, &self.machine, knows_stop));
                    }
                    reporter.event(&Event::Stopping {
                        signal: signal.to_owned(),
                        machine: self.machine.to_string(),
                        hint: errors::look_after(self.app, &self.machine),
                    });
                    continue;
                }
                heard = async {
                    if asked && !knows_stop {
                        knows_stop = self.tell(&mut due, json!({ "stop": true }).to_string()).await;
                    } else if is_there && !knows_token {
                        // It may need none: what it lacks it says.
                        knows_token = self.tell(&mut due, json!({ "token": token.expose() }).to_string()).await;
                    }
                    self.ask(&mut due, place).await
                } => heard,
            };
            let lines = match heard {
                Heard::Said(lines) => lines,
                Heard::Nothing if !silence.is_too_long(Instant::now(), begins) => continue,
                Heard::Nothing => return Err(errors::says_nothing(self.app, &self.machine, begins)),
                Heard::Away(_) if answered.elapsed() < away => continue,
                Heard::Away(error) => {
                    return Err(errors::away(&error, self.app, &self.machine, answered.elapsed()));
                }
                Heard::Refused(error) => return Err(self.lost(&error)),
                Heard::Ended(machine) => return self.ended(&machine, is_there),
                Heard::Gone => return Err(errors::unheard(self.app, &self.machine)),
            };
            (answered, is_there, silence) = (Instant::now(), true, Silence::default());
            // Of an answer that was cut short the last line is asked for again.
            for line in lines.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                place += 1;
                // What a newer flyhot says besides is for whoever knows it.
                let Ok(Line { event, .. }) = serde_json::from_str(line) else {
                    continue;
                };
                if let Event::Outcome(outcome) = event {
                    return Ok(outcome);
                }
                reporter.event(&event);
                if let (Event::ToSign { manifest_digest }, Some(key)) = (&event, key) {
                    self.sign(&mut due, key, manifest_digest).await?;
                }
            }
        }
    }

    /// Asks once.
    async fn ask(&self, due: &mut Interval, place: u64) -> Heard {
        let words = ["events", "--since", &place.to_string(), "--output", "json"];
        let error = match self.exec(due, &words, None).await {
            Ok(ran) if ran.exit_code == 0 => return Heard::Said(ran.stdout),
            Ok(_) => return Heard::Nothing,
            Err(error) => error,
        };
        match self.fly.machine(&self.machine).await {
            Ok(machine) if is_over(&machine.state) => Heard::Ended(Box::new(machine)),
            Err(FlyError::Absent { .. }) => Heard::Gone,
            _ => match error {
                FlyError::NotKnown { .. } | FlyError::NotAllowed { .. } => Heard::Refused(error),
                error => Heard::Away(error),
            },
        }
    }

    /// Runs flyhot there when it is due, and that again only so long after the answer: however long each is on its way, no two come closer
    /// together.
    async fn exec(
        &self,
        due: &mut Interval,
        words: &[&str],
        stdin: Option<String>,
    ) -> Result<flyhot_fleet::Ran, FlyError> {
        let words = words.iter().map(|word| (*word).to_owned());
        let exec = Exec {
            command: std::iter::once(PROGRAM.to_owned()).chain(words).collect(),
            stdin,
            timeout: ANSWERED,
            // Asked or told twice is as once.
            repeat: Repeat::Harmless,
        };
        due.tick().await;
        let ran = self.fly.exec(&self.machine, &exec, self.patience.asked).await;
        due.reset();
        ran
    }

    /// Tells it something; whether it was left for it.
    async fn tell(&self, due: &mut Interval, what: String) -> bool {
        let told = self.exec(due, &["tell", "--output", "json"], Some(what)).await;
        told.is_ok_and(|told| told.exit_code == 0)
    }

    /// Signs what it asks for. Where the signature does not come it is missed there, and that is said.
    async fn sign(&self, due: &mut Interval, key: &PrivateKey, manifest: &str) -> Result<(), NodeError> {
        let Ok(manifest) = manifest.parse::<FileDigest>() else {
            return Ok(());
        };
        let signature = key.sign(manifest).map_err(|error| errors::runtime(&error))?;
        self.tell(due, json!({ "signature": signature }).to_string())
            .await;
        Ok(())
    }

    /// What became of it, by what its machine left.
    fn ended(&self, machine: &Machine, was_there: bool) -> Result<Outcome, NodeError> {
        let labels = machine.config.as_ref().map(|config| &config.metadata);
        let label = labels.and_then(|labels| labels.get(OUTCOME));
        let labelled = label.and_then(|label| label.split(' ').next()?.parse().ok());
        if labelled.is_none() && machine.exit.is_some_and(|exit| exit.oom_killed) {
            return Err(errors::no_memory(self.app, &self.machine, self.memory_mb));
        }
        let of_process = match machine.exit {
            Some(Exit {
                code,
                oom_killed: false,
                requested_stop: false,
                ..
            }) => Some(code),
            _ => None,
        };
        match (labelled, of_process) {
            // An orchestrator labels its machine and stays for a while: whatever this was, it was none.
            (None, Some(code)) if !was_there => Err(errors::no_flyhot(&self.image, code)),
            (labelled, of_process) => labelled
                .or(of_process)
                .and_then(outcome)
                .ok_or_else(|| errors::unheard(self.app, &self.machine)),
        }
    }
}

fn is_over(state: &State) -> bool {
    state.is_gone() || matches!(state, State::Stopped | State::Failed | State::LaunchFailed)
}

/// An outcome of which nothing but the exit code is known.
fn outcome(code: i64) -> Option<Outcome> {
    let exit_code = ExitCode(u8::try_from(code).ok()?);
    let outcome = if exit_code == ExitCode::SUCCESS {
        flyhot_events::OutcomeKind::Done
    } else {
        let mut kinds = ErrorKind::ALL.into_iter();
        kinds.find(|kind| kind.exit_code() == exit_code)?.outcome()
    };
    Some(Outcome {
        outcome,
        exit_code,
        nodes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::cli::Output;
    use crate::interrupt;
    use crate::options::Screen;

    /// Short beside what is patience, long beside what a loopback takes.
    const SHORT: Duration = Duration::from_millis(1);

    /// Follows an orchestrator whose machine answers to its nth question with this status and body; how long it was followed.
    fn followed(
        patience: Patience,
        answers: impl Fn(usize) -> (u16, &'static str) + Send + 'static,
    ) -> (Result<Outcome, NodeError>, Duration) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut execs = 0;
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 16 * 1024];
                let read = client.read(&mut request).unwrap_or_default();
                let (status, body) = if request[..read].starts_with(b"POST") {
                    execs += 1;
                    answers(execs)
                } else {
                    (200, r#"{"id": "1", "state": "started"}"#)
                };
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close",
                    body.len()
                );
                // Whoever does not wait for it goes on.
                let _ = client.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
            }
        });
        let token = Token::new("fm2_hidden").unwrap();
        let fly = Fly::new(&address, "shop".parse().unwrap(), token.clone()).unwrap();
        let fly = fly.patient(SHORT);
        let following = Following {
            patience,
            ..Following::new(&fly, "shop", "1".parse().unwrap(), "image".to_owned(), 1_024)
        };
        let (runtime, mut signals) = interrupt::undisturbed();
        let mut reporter = Reporter::new(Output::Json, Screen::default());
        let begun = Instant::now();
        let ended = runtime.block_on(following.to_the_end(None, &token, &mut signals, &mut reporter));
        (ended, begun.elapsed())
    }

    const IMPATIENT: Patience = Patience {
        each: SHORT,
        asked: SHORT,
        begins: Duration::from_secs(1),
        away: Duration::from_secs(1),
    };

    #[test]
    fn without_an_answer_it_is_given_up_after_a_while_and_goes_on_by_itself() {
        let (ended, took) = followed(IMPATIENT, |_| (503, "unavailable"));
        let error = ended.unwrap_err();
        assert!(took >= IMPATIENT.away, "{took:?}");
        assert_eq!(error.kind, ErrorKind::FlyApi);
        assert!(
            error
                .message
                .starts_with("the orchestrator on the machine 1 has not answered for 1 s, and goes on: "),
            "{}",
            error.message
        );
        assert!(
            error
                .hint
                .contains("fly machine exec 1 \"flyhot events\" -a shop"),
            "{}",
            error.hint
        );
    }

    #[test]
    fn one_that_runs_and_says_nothing_is_given_up_too() {
        let (ended, took) = followed(IMPATIENT, |_| (200, r#"{"exit_code": 2}"#));
        let error = ended.unwrap_err();
        assert!(took >= IMPATIENT.begins, "{took:?}");
        assert_eq!(error.kind, ErrorKind::FlyApi);
        assert!(
            error.message.ends_with("runs and has said nothing in 1 s"),
            "{}",
            error.message
        );
    }

    #[test]
    fn one_answer_in_between_is_enough() {
        let away = Patience {
            away: Duration::from_secs(6),
            ..IMPATIENT
        };
        // One question a second, which is Fly's rate: an answer after four and eight seconds.
        let (ended, took) = followed(away, |asked| match asked {
            1 | 5 => (200, r#"{"exit_code": 0, "stdout": ""}"#),
            // Somebody holds its machine for a moment; it is short of memory, and starts nothing in time.
            2 | 6 => (
                409,
                "failed to exec on VM 1: lease currently held by bob@example.com",
            ),
            3 | 7 => (408, "deadline_exceeded: context deadline exceeded"),
            ..9 => (503, "unavailable"),
            _ => (
                200,
                r#"{"exit_code": 0, "stdout": "{\"v\":1,\"event\":\"outcome\",\"outcome\":\"done\",\"exit_code\":0,\"nodes\":[]}\n"}"#,
            ),
        });
        assert_eq!(ended.unwrap().exit_code, ExitCode::SUCCESS);
        assert!(took > away.away, "{took:?}");
    }

    #[test]
    fn once_it_has_said_something_a_moment_without_a_word_is_no_end() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        assert!(!silence.is_too_long(at(600), PATIENCE.begins));
        assert!(!silence.is_too_long(at(659), PATIENCE.begins));
        assert!(silence.is_too_long(at(660), PATIENCE.begins));
    }
}

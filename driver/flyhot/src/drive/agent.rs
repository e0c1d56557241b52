//! The agent on one node: loading it, asking it, taking it off again.
//!
//! Nothing is decided here. Every call has a deadline; what the node answers is read by `flyhot-agent`.

use std::time::Duration;

use flyhot_agent::term::{atom, binary, charlist, list, tuple};
use flyhot_agent::{AnswerError, BEAM, Command, Holder, MODULE, Piece, StagedKey, Started};
use flyhot_node::term::Term;
use flyhot_node::{CallError, Session};
use flyhot_upgrade::{NodeFunction, StillPaused};
use sha2::{Digest, Sha256};

/// For a call that the node answers from memory: three times the default call timeout of OTP, so that a node which
/// still serves its own calls is not given up on.
const CALL: Duration = Duration::from_secs(15);

/// For a look at every process: measured 6.6 s for 100 000 on a busy node, three quarters of it rest.
const CENSUS: Duration = Duration::from_secs(120);

/// How long a process may stay inside a function of the agent: a code_change that is tried there ends within a second.
const IN_USE: Duration = Duration::from_secs(5);

/// Between two looks whether it still is: the worker that just answered needs microseconds to end.
const AGAIN: Duration = Duration::from_millis(5);

/// How long an agent whose driver is gone is waited for. It ends the command that it is in: a window ends within seconds, a drain within
/// 30 s as long as nothing else is said.
const LEAVING: Duration = Duration::from_secs(40);

/// Between two looks whether it has.
const LEFT: Duration = Duration::from_millis(100);

/// Added to a deadline that the agent itself keeps, for the answer to come back.
const MARGIN: Duration = Duration::from_secs(10);

/// The most bytes handed over in one call, so that ticks and answers are never long behind them.
const PIECE: usize = 1024 * 1024;

/// The agent, working on one node for this driver.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    session: &'a Session,
}

/// Why the agent does not work for us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// The node did not answer.
    #[error("the call of {what} failed")]
    Call {
        /// `module:function/arity`.
        what: String,
        /// What the session says.
        source: CallError,
    },
    /// The node answered something else.
    #[error("{what} was not done")]
    Answer {
        /// The command.
        what: &'static str,
        /// What the agent says.
        source: AnswerError,
    },
    /// Another flyhot works on the node.
    #[error("another flyhot works on the node: {holder}")]
    Busy {
        /// Its own words: user, host, since when.
        holder: String,
    },
    /// The code server refused the agent.
    #[error("the node's code server refused the agent: {answer}")]
    NotLoaded {
        /// Its answer.
        answer: String,
    },
    /// Whoever watches over the command said no.
    #[error("the node was left before its window: {}", .0.message)]
    NoLeave(Box<super::NodeError>),
    /// The agent's code cannot be purged yet.
    #[error("a process of the node is inside a function of the agent for {} s", IN_USE.as_secs())]
    InUse,
}

impl<'a> Agent<'a> {
    /// Loads the agent and starts its worker and guard.
    ///
    /// # Errors
    /// [`AgentError::Busy`] while another flyhot is at work there; one whose driver is gone gives way.
    pub(crate) async fn start(session: &'a Session) -> Result<Self, AgentError> {
        let agent = Self { session };
        let holder = format!(
            "flyhot {} as {}, process {}",
            crate::VERSION,
            session.own_name(),
            std::process::id()
        );
        if agent.rpc("code", "is_loaded", vec![atom(MODULE)], CALL).await? != atom("false") {
            agent.evict().await?;
        }
        // One that took itself off may have left somebody inside. What is loaded here may be somebody else's since: it is replaced, not
        // deleted, and whoever registers first has the node.
        agent.purged().await?;
        let module = tuple([atom(MODULE), charlist(MODULE), binary(BEAM)]);
        let loaded = agent
            .rpc("code", "atomic_load", vec![list([module])], CALL)
            .await?;
        if loaded != atom("ok") {
            return Err(AgentError::NotLoaded {
                answer: flyhot_node::display(&loaded).to_string(),
            });
        }
        let options = flyhot_agent::start_options(session.own_name(), &session.pid(), &holder);
        let answer = agent.rpc(MODULE, "start", vec![options], CALL).await?;
        match flyhot_agent::started(&answer) {
            Ok(Started::Ok) => Ok(agent),
            Ok(Started::Busy(holder)) => Err(AgentError::Busy { holder }),
            Err(source) => Err(AgentError::Answer {
                what: "starting the agent",
                source,
            }),
        }
    }

    /// Resumes listeners that are still paused, ends worker and guard, and takes copies and agent off the node; the
    /// listeners that did not come back.
    ///
    /// # Errors
    /// The node did not answer: the agent then does all that by itself.
    pub(crate) async fn finish(self) -> Result<Vec<StillPaused>, AgentError> {
        let finished = self
            .ask("finishing", &Command::Finish, CENSUS, flyhot_agent::finished)
            .await;
        let still = match finished {
            Ok(still) => still,
            Err(error @ AgentError::Call { .. }) => return Err(error),
            // A worker that ended early is gone already; its guard gives way below.
            Err(_) => Vec::new(),
        };
        self.evict().await?;
        self.purged().await?;
        self.rpc("code", "delete", vec![atom(MODULE)], CENSUS).await?;
        self.purged().await?;
        Ok(still)
    }

    async fn evict(&self) -> Result<(), AgentError> {
        let begun = tokio::time::Instant::now();
        loop {
            let own = vec![atom(self.session.own_name())];
            let answer = match self.rpc(MODULE, "evict", own, CALL).await {
                Ok(answer) => answer,
                // Not loaded any more: it took itself off.
                Err(AgentError::Call {
                    source: CallError::BadRpc { .. },
                    ..
                }) => return Ok(()),
                Err(error) => return Err(error),
            };
            match flyhot_agent::evict_answer(&answer) {
                Ok(()) => return Ok(()),
                Err(Holder { left: true, .. }) if begun.elapsed() < LEAVING => {
                    tokio::time::sleep(LEFT).await;
                }
                Err(Holder { words, .. }) => return Err(AgentError::Busy { holder: words }),
            }
        }
    }

    /// Softly: a process of the node may be inside a function that it was handed late.
    async fn purged(&self) -> Result<(), AgentError> {
        let begun = tokio::time::Instant::now();
        while self.rpc("code", "soft_purge", vec![atom(MODULE)], CENSUS).await? != atom("true") {
            if begun.elapsed() > IN_USE {
                return Err(AgentError::InUse);
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    /// One command and its answer.
    ///
    /// # Errors
    /// The node did not answer in time, or not with what `read` reads.
    pub(crate) async fn ask<T>(
        &self,
        what: &'static str,
        command: &Command<'_>,
        deadline: Duration,
        read: impl FnOnce(&Term) -> Result<T, AnswerError>,
    ) -> Result<T, AgentError> {
        let answer = self.rpc(MODULE, "call", vec![command.term()], deadline).await?;
        read(&answer).map_err(|source| AgentError::Answer { what, source })
    }

    /// A command that looks at every process or every module.
    pub(crate) async fn slow<T>(
        &self,
        what: &'static str,
        command: &Command<'_>,
        read: impl FnOnce(&Term) -> Result<T, AnswerError>,
    ) -> Result<T, AgentError> {
        self.ask(what, command, CENSUS, read).await
    }

    /// A command with a deadline of its own on the node.
    pub(crate) async fn timed<T>(
        &self,
        what: &'static str,
        command: &Command<'_>,
        on_node: Duration,
        read: impl FnOnce(&Term) -> Result<T, AnswerError>,
    ) -> Result<T, AgentError> {
        self.ask(what, command, on_node + MARGIN, read).await
    }

    /// A function of the user's own, in a process of its own with group leader `user`.
    ///
    /// # Errors
    /// It raised or exited, or no answer came in time.
    pub(crate) async fn call(&self, function: &NodeFunction, deadline: Duration) -> Result<Term, CallError> {
        self.session
            .call(&function.module, &function.function, Vec::new(), deadline)
            .await
    }

    /// Hands something over, in pieces when it is large.
    pub(crate) async fn stage(&self, items: &[(StagedKey, Vec<u8>)]) -> Result<(), AgentError> {
        let digests: Vec<[u8; 32]> = items
            .iter()
            .map(|(_, bytes)| Sha256::digest(bytes).into())
            .collect();
        let mut batch = Vec::new();
        let mut size = 0;
        for ((key, bytes), sha256) in items.iter().zip(digests) {
            let total = bytes.len() as u64;
            let mut offset = 0;
            loop {
                let piece = &bytes[offset..bytes.len().min(offset + PIECE - size)];
                batch.push(Piece {
                    key: key.clone(),
                    offset: offset as u64,
                    total,
                    sha256,
                    bytes: piece,
                });
                offset += piece.len();
                size += piece.len();
                if size == PIECE {
                    self.send(&mut batch).await?;
                    size = 0;
                }
                if offset == bytes.len() {
                    break;
                }
            }
        }
        self.send(&mut batch).await
    }

    async fn send(&self, batch: &mut Vec<Piece<'_>>) -> Result<(), AgentError> {
        if batch.is_empty() {
            return Ok(());
        }
        let command = Command::Stage(std::mem::take(batch));
        self.ask("staging", &command, CENSUS, flyhot_agent::copies_loaded)
            .await
            .map(drop)
    }

    async fn rpc(
        &self,
        module: &str,
        function: &str,
        args: Vec<Term>,
        deadline: Duration,
    ) -> Result<Term, AgentError> {
        let arity = args.len();
        self.session
            .call(module, function, args, deadline)
            .await
            .map_err(|source| AgentError::Call {
                what: format!("{module}:{function}/{arity}"),
                source,
            })
    }
}

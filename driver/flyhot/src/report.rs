//! What a command shows: the one place that writes to the terminal.
//!
//! Reporters see events and nothing else. They know no node, no option and no decision, so that a person and
//! a script are told the same.

mod artifact;
mod behind;
mod boot;
mod config;
mod deploy;
mod file;
mod human;
mod inventory;
mod json;
mod outcome;
mod page;
mod patient;
mod plan;
mod status;
mod stored;
mod words;

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use flyhot_events::Event;

use crate::cli::Output;
use crate::drive::NodeError;
use crate::interrupt;
use crate::options::Screen;
use behind::{Behind, PATIENCE};
use file::Kept;
pub use human::Human;
pub use json::Json;
pub(crate) use json::line;
pub use page::Page;

/// Between two looks whether a reader has all of it.
const LOOK: Duration = Duration::from_millis(20);

/// Says events in the form that was asked for.
#[derive(Debug)]
pub struct Reporter {
    form: Form,
    /// Standard error, which both may be left with.
    err: Behind,
    /// Standard output is gone: the reader closed its end, or the disk behind it is full.
    deaf: bool,
    /// What is written once it is over.
    kept: Option<Kept>,
    /// Whoever keeps every event, whoever reads.
    keeper: Option<Keeper>,
}

/// Keeps an event; what it answers with is said as well.
type Keep = dyn FnMut(&Event) -> Option<Event>;

struct Keeper(Box<Keep>);

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper(..)")
    }
}

#[derive(Debug)]
enum Form {
    Human(Box<Human<Behind, Behind>>),
    Json(Json<Behind>),
}

impl Reporter {
    /// A reporter on standard output.
    pub fn new(output: Output, screen: Screen) -> Self {
        let (out, err) = Behind::streams();
        Self::to(out, err, output, screen)
    }

    /// A reporter on standard error alone, for a command whose standard output is somebody else's.
    pub fn aside(output: Output, screen: Screen) -> Self {
        // What standard output can show says nothing of standard error, unless both are terminals.
        let screen = if screen.bars { screen } else { Screen::default() };
        let (_, err) = Behind::streams();
        Self::to(err.clone(), err, output, screen)
    }

    fn to(out: Behind, err: Behind, output: Output, screen: Screen) -> Self {
        let form = match output {
            Output::Human => Form::Human(Box::new(Human::new(out, err.clone(), screen))),
            Output::Json => Form::Json(Json::new(out)),
        };
        Self {
            form,
            err,
            deaf: false,
            kept: None,
            keeper: None,
        }
    }

    /// Has a page of all that is said in this file, once it is over.
    pub(crate) fn keep(&mut self, file: &Path) -> Result<(), NodeError> {
        self.kept = Some(Kept::new(file)?);
        Ok(())
    }

    /// Has every event kept from now on, before it is said; what `keep` answers with is said behind it.
    pub(crate) fn kept_by(&mut self, keep: impl FnMut(&Event) -> Option<Event> + 'static) {
        self.keeper = Some(Keeper(Box::new(keep)));
    }

    /// Says one event.
    pub fn event(&mut self, event: &Event) {
        let more = self.keeper.as_mut().and_then(|Keeper(keep)| keep(event));
        self.say(event);
        if let Some(more) = more {
            self.say(&more);
        }
    }

    /// Says it.
    ///
    /// An upgrade is not given up because nobody listens any more: after the first failed write, `flyhot … | head`
    /// say, the rest is not said, except errors to people: those go to standard error.
    fn say(&mut self, event: &Event) {
        if let Some(kept) = &mut self.kept
            && let Err(error) = kept.event(event)
        {
            // What became of the nodes is what the exit code tells, and the last line.
            let _ = writeln!(self.err, "flyhot: {}\n  next: {}", error.message, error.hint);
        }
        let elsewhere = matches!((&self.form, event), (Form::Human(_), Event::Error { .. }));
        if self.deaf && !elsewhere {
            return;
        }
        let said = match &mut self.form {
            Form::Human(human) => human.event(event),
            Form::Json(json) => json.event(event),
        };
        if let Err(error) = said {
            self.deaf = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                // Standard error may be gone as well; the exit code still tells how it ended.
                let _ = writeln!(self.err, "flyhot: cannot write its report: {error}");
            }
        }
    }

    /// Waits a moment for a reader to have all of it, before this process becomes another program.
    pub(crate) fn hand_over(&mut self) {
        // What became of it, whoever is behind does not hear.
        let _ = self.err.flush();
    }

    /// Waits for a reader to have all of it, however long that takes, or until a signal says that it is not worth waiting for.
    pub(crate) fn end(&mut self) {
        if self.err.is_done() {
            return;
        }
        let Ok((runtime, mut signals)) = interrupt::runtime() else {
            return;
        };
        let done = async {
            while !self.err.is_done() {
                tokio::time::sleep(LOOK).await;
            }
        };
        runtime.block_on(async {
            tokio::pin!(done);
            tokio::select! {
                biased;
                () = &mut done => {}
                // The end of mix is one, and may be long past: whoever reads all the same is given the time.
                _ = signals.next() => { let _ = tokio::time::timeout(PATIENCE, done).await; }
            }
        });
    }
}

//! What a command shows: the one place that writes to the terminal.
//!
//! Reporters see events and nothing else. They know no node, no option and no decision, so that a person and
//! a script are told the same.

mod artifact;
mod human;
mod json;
mod outcome;
mod plan;
mod status;
mod stored;
mod words;

use std::io::{self, Stderr, Stdout, Write};

use flyhot_events::Event;

use crate::cli::Output;
use crate::options::Screen;
pub use human::Human;
pub use json::Json;

/// Says events in the form that was asked for.
#[derive(Debug)]
pub struct Reporter {
    form: Form,
    /// Standard output is gone: the reader closed its end, or the disk behind it is full.
    deaf: bool,
}

#[derive(Debug)]
enum Form {
    Human(Box<Human<Stdout, Stderr>>),
    Json(Json<Stdout>),
}

impl Reporter {
    /// A reporter on standard output.
    pub fn new(output: Output, screen: Screen) -> Self {
        let form = match output {
            Output::Human => Form::Human(Box::new(Human::new(io::stdout(), io::stderr(), screen))),
            Output::Json => Form::Json(Json::new(io::stdout())),
        };
        Self { form, deaf: false }
    }

    /// Says one event.
    ///
    /// An upgrade is not given up because nobody listens any more: after the first failed write, `flyhot … | head`
    /// say, the rest is not said, except errors to people: those go to standard error.
    pub fn event(&mut self, event: &Event) {
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
                let _ = writeln!(io::stderr(), "flyhot: cannot write its report: {error}");
            }
        }
    }
}

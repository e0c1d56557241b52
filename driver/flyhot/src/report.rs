//! What a command shows: the one place that writes to the terminal.
//!
//! Reporters see events and nothing else. They know no node, no option and no decision, so that a person and
//! a script are told the same.

mod artifact;
mod boot;
mod config;
mod human;
mod json;
mod outcome;
mod patient;
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
use patient::Patient;

/// Says events in the form that was asked for.
#[derive(Debug)]
pub struct Reporter {
    form: Form,
    /// Standard output is gone: the reader closed its end, or the disk behind it is full.
    deaf: bool,
}

#[derive(Debug)]
enum Form {
    Human(Box<Human<Out, Patient<Stderr>>>),
    Json(Json<Out>),
}

/// Where a command's own words go.
#[derive(Debug)]
enum Out {
    Own(Patient<Stdout>),
    Aside(Patient<Stderr>),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Own(out) => out.write(bytes),
            Self::Aside(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Own(out) => out.flush(),
            Self::Aside(out) => out.flush(),
        }
    }
}

impl Reporter {
    /// A reporter on standard output.
    pub fn new(output: Output, screen: Screen) -> Self {
        Self::to(Out::Own(Patient(io::stdout())), output, screen)
    }

    /// A reporter on standard error alone, for a command whose standard output is somebody else's.
    pub fn aside(output: Output, screen: Screen) -> Self {
        // What standard output can show says nothing of standard error, unless both are terminals.
        let screen = if screen.bars { screen } else { Screen::default() };
        Self::to(Out::Aside(Patient(io::stderr())), output, screen)
    }

    fn to(out: Out, output: Output, screen: Screen) -> Self {
        let form = match output {
            Output::Human => Form::Human(Box::new(Human::new(out, Patient(io::stderr()), screen))),
            Output::Json => Form::Json(Json::new(out)),
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
                let _ = writeln!(Patient(io::stderr()), "flyhot: cannot write its report: {error}");
            }
        }
    }
}

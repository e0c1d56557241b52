//! The file of `--report`: it appears whole when all is over, or what was there before stays.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use flyhot_events::Event;

use super::page::Page;
use crate::artifacts::{appear, beside};
use crate::clock::now_s;
use crate::drive::NodeError;
use crate::errors;

/// Whoever may read it is the umask's to say, as of any file that is to be passed on.
const MODE: u32 = 0o666;

/// A page to be, and where.
#[derive(Debug)]
pub(super) struct Kept {
    file: PathBuf,
    begun: Instant,
    page: Page,
}

impl Kept {
    /// Tries whether the file could be written now: nobody wants to hear that behind a rollout.
    pub(super) fn new(file: &Path) -> Result<Self, NodeError> {
        if file.file_name().is_none() {
            return Err(errors::unwritten(
                file,
                &std::io::ErrorKind::InvalidFilename.into(),
            ));
        }
        beside(file, MODE)?;
        Ok(Self {
            file: file.to_owned(),
            begun: Instant::now(),
            page: Page::new(now_s()),
        })
    }

    /// Hears an event; the last one has the page written.
    pub(super) fn event(&mut self, event: &Event) -> Result<(), NodeError> {
        let at = self.begun.elapsed();
        self.page.event(at, event);
        let Event::Outcome(outcome) = event else {
            return Ok(());
        };
        let mut file = beside(&self.file, MODE)?;
        file.write_all(self.page.html(at, outcome).as_bytes())
            .map_err(|error| errors::unwritten(&self.file, &error))?;
        appear(file, &self.file)
    }
}

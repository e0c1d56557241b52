//! One event a line, as `docs/events.md` describes.

use std::io::{self, Write};

use flyhot_events::{Event, Line};

/// Writes events as JSON lines.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
}

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes one line and flushes it: a reader follows along.
    ///
    /// # Errors
    /// What `out` said.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        self.out.write_all(&line(event)?)?;
        self.out.flush()
    }
}

/// An event as it is written, with the end of its line.
pub(crate) fn line(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line::new(event.clone()))?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use flyhot_events::Step;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let mut out = Vec::new();
        let mut json = Json::new(&mut out);
        json.event(&Event::StepStarted {
            node: Some("a@h\n".into()),
            step: Step::Census,
        })
        .unwrap();
        json.event(&Event::StepStarted {
            node: None,
            step: Step::Read,
        })
        .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"v\":1,\"event\":\"step_started\",\"node\":\"a@h\\n\",\"step\":\"census\"}\n\
             {\"v\":1,\"event\":\"step_started\",\"node\":null,\"step\":\"read\"}\n"
        );
    }
}

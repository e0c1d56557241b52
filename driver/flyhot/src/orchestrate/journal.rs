//! The events of an orchestrator, in a file: a line each, and the number of a line, from 0, is its place.
//!
//! What stands in the file are whole lines, also when a disk is full or the process is killed: a line is written at once, one of
//! which a part was written is taken away again, and whoever reads stops at the last end of a line.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use flyhot_events::{Event, Line};

use crate::report;

/// The file.
const FILE: &str = "events.jsonl";

/// So many bytes of it are told at a time, unless one line is longer: a tenth of what Fly's exec takes for an answer.
const PIECE: usize = 1024 * 1024;

/// The events so far.
pub(super) struct Journal {
    /// Held as long as the process lives: nobody else writes here meanwhile.
    file: File,
    /// The bytes of all whole lines.
    whole: u64,
    /// Part of a line stands at its end and could not be taken away: nothing can follow it.
    torn: bool,
    /// Something could not be written.
    failed: bool,
}

/// What came of opening one.
pub(super) enum Opened {
    Ours(Journal),
    /// Another orchestrator is at work.
    Busy,
    Failed(io::Error),
}

/// No events of an orchestrator.
#[derive(Debug)]
pub(crate) enum NoJournal {
    /// None was here.
    Nobody,
    /// They cannot be read.
    Unread(io::Error),
}

impl Journal {
    /// Begins one; what another orchestrator left is forgotten, unless it is still at work.
    pub(super) fn open(directory: &Path) -> Opened {
        let opened = private(directory).and_then(|()| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(directory.join(FILE))
        });
        let file = match opened {
            Ok(file) => file,
            Err(error) => return Opened::Failed(error),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Opened::Busy,
            Err(TryLockError::Error(error)) => return Opened::Failed(error),
        }
        let emptied = match file.metadata() {
            // What cannot be shortened may need no shortening.
            Ok(about) if about.len() == 0 => Ok(()),
            Ok(_) => file.set_len(0),
            Err(error) => Err(error),
        };
        match emptied.and_then(|()| super::told::forget(directory)) {
            Ok(()) => Opened::Ours(Self {
                file,
                whole: 0,
                torn: false,
                failed: false,
            }),
            Err(error) => Opened::Failed(error),
        }
    }

    /// Adds an event. One that could not be written is missing; others may follow. Why is the answer, the first time.
    pub(super) fn keep(&mut self, event: &Event) -> Option<io::Error> {
        let error = self.add(event).err()?;
        (!std::mem::replace(&mut self.failed, true)).then_some(error)
    }

    fn add(&mut self, event: &Event) -> io::Result<()> {
        if self.torn {
            return Err(io::Error::other("a line before could not be written whole"));
        }
        let line = report::line(event)?;
        match self.file.write_all(&line) {
            Ok(()) => {
                self.whole += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.torn = self.file.set_len(self.whole).is_err();
                Err(error)
            }
        }
    }
}

/// Makes a directory that nobody else has anything to do with.
fn private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let there = fs::symlink_metadata(directory)?;
    // Source: proc(5): the effective user.
    if !there.is_dir() || there.uid() != fs::metadata("/proc/self")?.uid() {
        return Err(io::Error::other(
            "it is there, and it is not this user's directory",
        ));
    }
    fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// The events from a place on that were written whole, as many as go into one piece.
pub(super) fn since(directory: &Path, place: u64) -> Result<Vec<Event>, NoJournal> {
    let file = File::open(directory.join(FILE)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NoJournal::Nobody,
        _ => NoJournal::Unread(error),
    })?;
    let mut reader = BufReader::new(file);
    let (mut at, mut told) = (0, 0);
    let (mut line, mut events) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(NoJournal::Unread)?;
        if line.last() != Some(&b'\n') {
            return Ok(events);
        }
        at += 1;
        if at <= place {
            continue;
        }
        told += read;
        if told > PIECE && !events.is_empty() {
            return Ok(events);
        }
        match serde_json::from_slice::<Line>(&line) {
            Ok(line) => events.push(line.event),
            Err(error) => return Err(NoJournal::Unread(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(directory: &Path) -> Journal {
        match Journal::open(directory) {
            Opened::Ours(journal) => journal,
            Opened::Busy => panic!("it is busy"),
            Opened::Failed(error) => panic!("{error}"),
        }
    }

    fn said(number: usize, length: usize) -> Event {
        Event::Build {
            line: format!("{number} {}", "x".repeat(length)),
        }
    }

    #[test]
    fn pieces_are_the_whole_and_each_line_comes_once() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("here");
        assert!(matches!(since(&directory, 0), Err(NoJournal::Nobody)));
        let mut journal = opened(&directory);
        assert_eq!(since(&directory, 0).unwrap(), []);
        // Some longer than a piece.
        let lengths = [10, PIECE + 1, 400_000, 400_000, 400_000, 0, 2 * PIECE, 3];
        let all: Vec<Event> = (0..64)
            .map(|number| said(number, lengths[number % lengths.len()]))
            .collect();
        let (mut read, mut pieces) = (Vec::new(), 0);
        for event in &all {
            assert!(journal.keep(event).is_none());
            if pieces % 3 == 0 {
                read.extend(since(&directory, read.len() as u64).unwrap());
            }
            pieces += 1;
        }
        loop {
            let piece = since(&directory, read.len() as u64).unwrap();
            let bytes: usize = piece.iter().map(|event| report::line(event).unwrap().len()).sum();
            assert!(
                bytes <= PIECE || piece.len() == 1,
                "{bytes} bytes in {}",
                piece.len()
            );
            if piece.is_empty() {
                break;
            }
            read.extend(piece);
        }
        assert_eq!(read, all);
        assert_eq!(since(&directory, u64::MAX).unwrap(), []);
    }

    #[test]
    fn what_is_not_whole_is_not_told() {
        let scratch = tempfile::tempdir().unwrap();
        let mut journal = opened(scratch.path());
        assert!(journal.keep(&said(0, 10)).is_none());
        let whole = fs::read(scratch.path().join(FILE)).unwrap();
        for length in 0..whole.len() {
            fs::write(scratch.path().join(FILE), &whole[..length]).unwrap();
            assert_eq!(since(scratch.path(), 0).unwrap(), [], "{length} bytes");
        }
    }

    #[test]
    fn one_at_a_time_and_the_next_begins_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let mut journal = opened(scratch.path());
        assert!(journal.keep(&said(0, 10)).is_none());
        assert!(matches!(Journal::open(scratch.path()), Opened::Busy));
        assert_eq!(since(scratch.path(), 0).unwrap().len(), 1);
        drop(journal);
        let _next = opened(scratch.path());
        assert_eq!(since(scratch.path(), 0).unwrap(), []);
        let mode = fs::metadata(scratch.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_full_disk_is_told_once() {
        let scratch = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", scratch.path().join(FILE)).unwrap();
        let mut journal = opened(scratch.path());
        let error = journal.keep(&said(0, 10)).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        for number in 1..3 {
            assert!(journal.keep(&said(number, 10)).is_none());
        }
    }

    #[test]
    fn nothing_is_kept_in_what_is_somebody_elses() {
        let scratch = tempfile::tempdir().unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(scratch.path(), &link).unwrap();
        assert!(matches!(Journal::open(&link), Opened::Failed(_)));
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Journal::open(&file), Opened::Failed(_)));
    }
}

//! Writing on a thread of its own, so that nobody who does not read keeps a command from its signals, its lock and its nodes.
//!
//! While the reader reads, what is said is there before anything else is done. One that stands still (`^S` on a terminal, a pipe that
//! nobody empties) is waited for once; from then on the rest is kept for it until it has caught up.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::patient::Patient;

/// How long a reader is waited for: ten times what a terminal at the far end of the world takes, and short beside any lease.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What is kept for a reader, bytes: the events of some thousand nodes. Who is behind by more is waited for after all.
const KEPT: usize = 64 * 1024 * 1024;

/// One of the two streams of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Out,
    Err,
}

/// A stream, written behind the command's back.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    to: To,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which it was said, to whichever of them.
    queue: VecDeque<(To, Vec<u8>)>,
    /// What is not written yet, bytes.
    waiting: usize,
    /// A reader was waited for in vain, and has not caught up since.
    late: bool,
    /// Of standard output and standard error, how writing failed.
    failed: [Option<io::ErrorKind>; 2],
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is to be written, for as long as the process lives.
    fn write(&self, mut out: impl Write, mut err: impl Write) {
        loop {
            let (to, bytes) = {
                let mut state = self.state();
                loop {
                    match state.queue.pop_front() {
                        Some(next) => break next,
                        None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                    }
                }
            };
            let written = match to {
                To::Out => out.write_all(&bytes).and_then(|()| out.flush()),
                To::Err => err.write_all(&bytes).and_then(|()| err.flush()),
            };
            let mut state = self.state();
            state.waiting = state.waiting.saturating_sub(bytes.len());
            state.late &= state.waiting > 0;
            if let Err(error) = written {
                state.failed[to as usize] = Some(error.kind());
            }
            drop(state);
            self.changed.notify_all();
        }
    }
}

impl Behind {
    /// Standard output and standard error of this process.
    pub(super) fn streams() -> (Self, Self) {
        Self::pair(Patient(io::stdout()), Patient(io::stderr()))
    }

    fn pair(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> (Self, Self) {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let writing = thread::Builder::new().spawn(move || writer.write(out, err));
        if let Err(error) = writing {
            // It fails as a stream does that is closed.
            shared.state().failed = [Some(error.kind()); 2];
        }
        let to = |to| Self {
            to,
            shared: Arc::clone(&shared),
        };
        (to(To::Out), to(To::Err))
    }

    /// Whether all of it, of both streams, is written.
    pub(super) fn is_done(&self) -> bool {
        self.shared.state().waiting == 0
    }

    /// Waits until there is no more than this to be written; whether that came in time.
    fn wait(&self, most: usize, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut state = self.shared.state();
        while state.waiting > most {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// How this stream failed.
    fn failure(&self) -> io::Result<()> {
        match self.shared.state().failed[self.to as usize] {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.failure()?;
        while !self.wait(KEPT, PATIENCE) {}
        let mut state = self.shared.state();
        state.waiting += bytes.len();
        match state.queue.back_mut() {
            Some((to, last)) if *to == self.to => last.extend_from_slice(bytes),
            _ => state.queue.push_back((self.to, bytes.to_vec())),
        }
        drop(state);
        self.shared.changed.notify_all();
        Ok(bytes.len())
    }

    /// Waits for the reader, but not for one that was waited for in vain.
    fn flush(&mut self) -> io::Result<()> {
        let late = self.shared.state().late;
        if !late && !self.wait(0, PATIENCE) {
            self.shared.state().late = true;
        }
        self.failure()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn who_reads_has_all_of_it_at_once_and_in_order() {
        let (to, mut from) = UnixStream::pair().unwrap();
        let both = to.try_clone().unwrap();
        let (mut out, mut err) = Behind::pair(to, both);
        let mut read = [0; 8];
        for _ in 0..100 {
            write!(out, "ab").unwrap();
            write!(err, "cd").unwrap();
            write!(out, "efgh").unwrap();
            out.flush().unwrap();
            assert!(out.is_done());
            from.read_exact(&mut read).unwrap();
            assert_eq!(&read, b"abcdefgh");
        }
    }

    #[test]
    fn who_stands_still_is_waited_for_once_and_has_all_of_it_later() {
        let (to, mut from) = UnixStream::pair().unwrap();
        let (mut out, _err) = Behind::pair(to, io::sink());
        let line = vec![b'x'; 1_000_000];
        let began = Instant::now();
        for _ in 0..20 {
            out.write_all(&line).unwrap();
            out.flush().unwrap();
        }
        let waited = began.elapsed();
        assert!(waited >= PATIENCE && waited < PATIENCE * 3, "{waited:?}");
        assert!(!out.is_done());
        let mut read = vec![0; 20_000_000];
        from.read_exact(&mut read).unwrap();
        assert!(out.wait(0, PATIENCE * 3));
        // It has caught up, and is waited for again.
        let began = Instant::now();
        out.write_all(&line).unwrap();
        out.flush().unwrap();
        assert!(began.elapsed() >= PATIENCE);
    }

    #[test]
    fn who_is_gone_is_told_by_the_next_word() {
        let (to, from) = UnixStream::pair().unwrap();
        drop(from);
        let (mut out, mut err) = Behind::pair(to, io::sink());
        let said = out.write_all(b"x").and_then(|()| out.flush());
        assert_eq!(said.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(out.write(b"x").is_err());
        err.write_all(b"x").unwrap();
        err.flush().unwrap();
    }
}

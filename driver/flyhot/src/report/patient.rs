//! Writing to what takes no more for now.
//!
//! A terminal belongs to all programs that were started from it, and one of them may have asked not to be kept waiting by it: the Erlang
//! runtime does before OTP 26. From then on no program is, and what a full terminal does not take is an error.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits for room, where there is none.
#[derive(Debug)]
pub(super) struct Patient<W>(pub(super) W);

impl<W: Write + AsFd> Patient<W> {
    /// `write` takes nothing of what it was given where it answers that there is no room.
    fn again<T>(&mut self, mut write: impl FnMut(&mut W) -> io::Result<T>) -> io::Result<T> {
        loop {
            match write(&mut self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut room = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    match poll(&mut room, PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                done => return done,
            }
        }
    }
}

impl<W: Write + AsFd> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.again(|out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.again(W::flush)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_does_not_fit_at_once_is_written_all_the_same() {
        // Far more than any socket holds.
        let all: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (to, mut from) = UnixStream::pair().unwrap();
        to.set_nonblocking(true).unwrap();
        let wanted = all.clone();
        let writer = std::thread::spawn(move || Patient(to).write_all(&all));
        let mut read = Vec::new();
        from.read_to_end(&mut read).unwrap();
        writer.join().unwrap().unwrap();
        assert!(read == wanted);
    }
}

//! Bytes to frames.
//!
//! Nothing is read and nothing is decoded here. A frame's length is the peer's word: it is compared with the cap
//! before anything else, and memory grows with the bytes that have arrived, never with the length announced.
//!
//! Source: Erlang Distribution Protocol, "Protocol between connected nodes": four bytes of length, big endian.

use crate::scan::number;

/// The longest frame taken from a peer. The largest answer asked for is a census with thousands of kinds, a few
/// megabytes; 128 MiB leaves room for a reply of 64 MB with its headers and bounds what a broken peer costs.
pub(crate) const MAX_FRAME: usize = 128 * 1024 * 1024;

/// What an idle session's buffer holds, and the most one read asks for while frames are small: a page, so that
/// ten thousand sessions cost 40 MB.
pub(crate) const IDLE_BUFFER: usize = 4 * 1024;

/// Bytes of a frame's length.
const HEADER: usize = 4;

/// A frame longer than [`MAX_FRAME`] was announced; what follows it cannot be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// The length announced.
    pub(crate) size: usize,
}

/// Takes bytes as they come, gives whole frames.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
    /// Where the first frame not yet given begins.
    start: usize,
}

impl FrameBuffer {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(IDLE_BUFFER),
            start: 0,
        }
    }

    /// Where the next bytes are appended: its spare capacity is what may be read at once, at least one byte.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(IDLE_BUFFER);
        }
        if self.bytes.len() == self.bytes.capacity() {
            let whole = HEADER + number(self.bytes.get(..HEADER).unwrap_or_default());
            let grown = (self.bytes.len() * 2).min(whole).max(self.bytes.len() + 1);
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        &mut self.bytes
    }

    /// The next whole frame without its length; `None` until more bytes have come. An empty one is a tick.
    ///
    /// # Errors
    /// [`TooLarge`]: the stream is of no use any more.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, TooLarge> {
        let rest = &self.bytes[self.start..];
        let Some(header) = rest.get(..HEADER) else {
            return Ok(None);
        };
        let size = number(header);
        if size > MAX_FRAME {
            return Err(TooLarge { size });
        }
        let Some(frame) = rest.get(HEADER..HEADER + size) else {
            return Ok(None);
        };
        self.start += HEADER + size;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(frame: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(frame);
        bytes
    }

    /// Feeds bytes as a socket would: never more than there is room for.
    fn feed(buffer: &mut FrameBuffer, mut bytes: &[u8], chunk: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let room = buffer.room();
            let count = (room.capacity() - room.len()).min(chunk).min(bytes.len());
            assert!(count > 0, "no room");
            room.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            while let Some(frame) = buffer.next().unwrap() {
                frames.push(frame.to_vec());
            }
        }
        frames
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..10_000), 0..6),
            chunk in 1usize..9_000,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
            let mut buffer = FrameBuffer::new();
            prop_assert_eq!(feed(&mut buffer, &bytes, chunk), frames);
            prop_assert!(buffer.room().capacity() <= IDLE_BUFFER, "an idle buffer shrinks");
        }
    }

    #[test]
    fn memory_follows_what_arrived_not_what_was_announced() {
        let mut buffer = FrameBuffer::new();
        let announced = u32::try_from(MAX_FRAME).unwrap().to_be_bytes();
        assert!(feed(&mut buffer, &announced, 4).is_empty());
        assert!(feed(&mut buffer, &[7; 10_000], 4096).is_empty());
        assert!(buffer.room().capacity() <= 20_008, "{}", buffer.room().capacity());
    }

    #[test]
    fn a_frame_over_the_cap_is_refused_from_its_header_alone() {
        let mut buffer = FrameBuffer::new();
        buffer
            .room()
            .extend_from_slice(&u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes());
        assert_eq!(buffer.next(), Err(TooLarge { size: MAX_FRAME + 1 }));
    }
}

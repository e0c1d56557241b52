//! The two tasks of a session: one reads the socket, one writes it.
//!
//! Nothing is decided here about what a message means to a call. Neither task waits for the other, so that a slow
//! writer never stops answers and a large answer never stops ticks.
//!
//! Source: Erlang Distribution Protocol, "Protocol between connected nodes"; `dist_util.erl`, `con_loop` and
//! `send_tick`, for ticks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::CallError;
use crate::calls::Calls;
use crate::control::{Frame, TICK, no_process, read, unlink_ack};
use crate::frame::{FrameBuffer, MAX_FRAME, TooLarge};

/// The `net_ticktime` of a node that is not told otherwise, until ours has told us its own.
const NET_TICKTIME: Duration = Duration::from_secs(60);

/// Small frames that wait for the writer together are written together: one segment of loopback is 64 KiB, one of
/// a network 1.4 KiB, and a session that idles should keep a page at most.
const WRITE_BUFFER: usize = 4 * 1024;

/// What waits for the writer.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A frame with its length.
    Frame(Vec<u8>),
    /// Nothing comes after this.
    Close,
}

/// When to tick, and when the peer has been silent for too long.
///
/// A node gives a connection up when nothing came for its tick time, within a quarter, and sends something every
/// quarter itself. Both sides must count with the same time, so a session asks the node for its own.
#[derive(Debug)]
pub(crate) struct Ticks {
    time: watch::Sender<Duration>,
    answer: Notify,
}

impl Ticks {
    pub(crate) fn new() -> Self {
        Self {
            time: watch::Sender::new(NET_TICKTIME),
            answer: Notify::new(),
        }
    }

    /// What the node says of itself; counts from now on.
    pub(crate) fn set(&self, time: Duration) {
        self.time.send_replace(time);
    }
}

/// Writes frames, and ticks when there are none, until [`Outgoing::Close`] or the end of the session.
pub(crate) async fn run_writer(
    stream: impl AsyncWrite + Unpin,
    calls: Arc<Calls>,
    ticks: Arc<Ticks>,
    mut frames: mpsc::Receiver<Outgoing>,
) {
    let writing = async {
        let mut stream = BufWriter::with_capacity(WRITE_BUFFER, stream);
        let mut time = ticks.time.subscribe();
        loop {
            let quarter = *time.borrow_and_update() / 4;
            let outgoing = tokio::select! {
                biased;
                frame = frames.recv() => frame.unwrap_or(Outgoing::Close),
                () = ticks.answer.notified() => Outgoing::Frame(TICK.to_vec()),
                // The node may have counted for a while already.
                _ = time.changed() => Outgoing::Frame(TICK.to_vec()),
                () = sleep(quarter) => Outgoing::Frame(TICK.to_vec()),
            };
            match outgoing {
                Outgoing::Frame(frame) => stream.write_all(&frame).await?,
                Outgoing::Close => return stream.shutdown().await,
            }
            if frames.is_empty() {
                stream.flush().await?;
            }
        }
    };
    let why = tokio::select! {
        result = writing => match result {
            Ok(()) => CallError::ConnectionLost { cause: "this side closed it".into() },
            Err(error) => lost(&error),
        },
        // A peer that does not read must not keep this task.
        () = calls.ended() => return,
    };
    calls.end(why);
}

/// Reads frames until the connection or the patience ends.
pub(crate) async fn run_reader(
    mut stream: impl AsyncRead + Unpin,
    calls: Arc<Calls>,
    ticks: Arc<Ticks>,
    replies: mpsc::Sender<Outgoing>,
) {
    let mut buffer = FrameBuffer::new();
    let mut time = ticks.time.subscribe();
    let mut heard = Instant::now();
    let why = loop {
        // The node's time and a quarter, as it counts itself.
        let patience = *time.borrow_and_update() * 5 / 4;
        let read = tokio::select! {
            read = stream.read_buf(buffer.room()) => read,
            _ = time.changed() => continue,
            () = sleep_until(heard + patience) => {
                let cause = format!("the node was silent for {} ms", patience.as_millis());
                break CallError::ConnectionLost { cause };
            }
        };
        match read {
            Ok(0) => {
                break CallError::ConnectionLost {
                    cause: "the node closed it".into(),
                };
            }
            Ok(_) => heard = Instant::now(),
            Err(error) => break lost(&error),
        }
        if let Err(error) = take(&mut buffer, &calls, &ticks, &replies) {
            break error;
        }
    };
    calls.end(why);
}

fn lost(error: &io::Error) -> CallError {
    CallError::ConnectionLost {
        cause: error.to_string(),
    }
}

/// Acts on every whole frame. A frame that is out of the protocol ends the session, because nothing after it can
/// be trusted; a control message that is not understood is passed over.
fn take(
    buffer: &mut FrameBuffer,
    calls: &Calls,
    ticks: &Ticks,
    replies: &mpsc::Sender<Outgoing>,
) -> Result<(), CallError> {
    loop {
        let frame = match buffer.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(TooLarge { size }) => return Err(CallError::FrameTooLarge { size, max: MAX_FRAME }),
        };
        match read(frame).map_err(|what| CallError::MalformedTerm { what })? {
            Frame::Tick => ticks.answer.notify_one(),
            Frame::Send { to, message } if to == calls.own().pid() => calls.deliver(message),
            Frame::Send { to, .. } => tracing::debug!(%to, "a send to no pid of ours was passed over"),
            // A full queue means a writer that is stuck: then the peer learns of either by the end.
            Frame::Unlink { id, from, to } => {
                if let Ok(frame) = unlink_ack(id, to, from) {
                    let _ = replies.try_send(Outgoing::Frame(frame));
                }
            }
            // Ours lives as long as the session. Of another an agent asks to learn whether somebody is here.
            Frame::Monitor { to, .. } if to == calls.own().pid().into() => {}
            Frame::Monitor { from, to, reference } => {
                if let Ok(frame) = no_process(from, to, reference) {
                    let _ = replies.try_send(Outgoing::Frame(frame));
                }
            }
            Frame::Other { operation } => tracing::debug!(operation, "a control message was passed over"),
        }
    }
}

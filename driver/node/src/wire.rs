//! The two tasks of a session: one reads the socket, one writes it.
//!
//! Nothing is decided here about what a message means to a call. Neither task waits for the other, so that a slow
//! writer never stops answers and a large answer never stops ticks.
//!
//! Source: Erlang Distribution Protocol, "Protocol between connected nodes"; `dist_util.erl`, `con_loop` and
//! `send_tick`, for ticks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use crate::CallError;
use crate::calls::Calls;
use crate::control::{Frame, TICK, read, unlink_ack};
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
    time_ms: AtomicU64,
    now: Notify,
}

impl Ticks {
    pub(crate) fn new() -> Self {
        let ticks = Self {
            time_ms: AtomicU64::new(0),
            now: Notify::new(),
        };
        ticks.set(NET_TICKTIME);
        ticks
    }

    pub(crate) fn set(&self, time: Duration) {
        self.time_ms.store(
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.now.notify_one();
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.time_ms.load(Ordering::Relaxed))
    }

    /// How long this side may write nothing.
    fn interval(&self) -> Duration {
        self.time() / 4
    }

    /// How long the peer may: its time and a quarter, as it counts itself.
    fn patience(&self) -> Duration {
        self.time() + self.interval()
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
        loop {
            let outgoing = tokio::select! {
                biased;
                frame = frames.recv() => frame.unwrap_or(Outgoing::Close),
                () = ticks.now.notified() => Outgoing::Frame(TICK.to_vec()),
                () = sleep(ticks.interval()) => Outgoing::Frame(TICK.to_vec()),
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
    let why = loop {
        let patience = ticks.patience();
        match timeout(patience, stream.read_buf(buffer.room())).await {
            Ok(Ok(0)) => {
                break CallError::ConnectionLost {
                    cause: "the node closed it".into(),
                };
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => break lost(&error),
            Err(_) => {
                let cause = format!("the node was silent for {} ms", patience.as_millis());
                break CallError::ConnectionLost { cause };
            }
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
            Frame::Tick => ticks.now.notify_one(),
            Frame::Send { to, message } if to == calls.own().pid() => calls.deliver(message),
            Frame::Send { to, .. } => tracing::debug!(%to, "a send to no pid of ours was passed over"),
            Frame::Unlink { id, from, to } => {
                // A full queue means a writer that is stuck: then the peer learns of the unlink by the end.
                if let Ok(frame) = unlink_ack(id, to, from) {
                    let _ = replies.try_send(Outgoing::Frame(frame));
                }
            }
            Frame::Other { operation } => tracing::debug!(operation, "a control message was passed over"),
        }
    }
}

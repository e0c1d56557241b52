//! What the fuzz targets call: the parsers of this room, with nobody at the other end.

use std::time::Duration;

use erl_dist::term::Term;
use tokio::io::AsyncWriteExt;

use crate::calls::{Calls, Own};
use crate::connect::{ConnectOptions, shake_hands};
use crate::control::{self, Frame};
use crate::display::display;
use crate::encode::encode;
use crate::frame::FrameBuffer;
use crate::scan::scan;
use crate::{Cookie, NodeName};

/// Longer than what a mutation may become; nothing waits here.
const SOON: Duration = Duration::from_secs(5);

/// What a peer sends, cut where the first bytes say.
pub fn stream(bytes: &[u8]) {
    let (calls, _incoming) = Calls::new(own());
    let _waiting = calls.begin();
    let Some((cut, mut rest)) = bytes.split_first() else {
        return;
    };
    let mut buffer = FrameBuffer::new();
    while !rest.is_empty() {
        let room = buffer.room();
        let most = room.capacity() - room.len();
        let count = most.min(usize::from(*cut) + 1).min(rest.len());
        room.extend_from_slice(&rest[..count]);
        rest = &rest[count..];
        loop {
            match buffer.next() {
                Ok(Some(frame)) => match control::read(frame) {
                    Ok(Frame::Send { message, .. }) => calls.deliver(message),
                    Ok(Frame::Unlink { id, from, to }) => drop(control::unlink_ack(id, to, from)),
                    Ok(Frame::Monitor { from, to, reference }) => {
                        drop(control::no_process(from, to, reference));
                    }
                    Ok(_) => {}
                    Err(_) => return,
                },
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// A term as it is decoded wherever one comes in.
pub fn decoded(bytes: &[u8]) -> Option<Term> {
    let length = scan(bytes).ok()?;
    control::decode(bytes.get(..length)?).ok()
}

/// What can be decoded can be shown, and what can be sent again is a term there.
///
/// # Panics
/// If it is none.
pub fn term(bytes: &[u8]) {
    let Some(term) = decoded(bytes) else { return };
    let _ = display(&term).to_string();
    let mut sent = vec![];
    if encode(&term, &mut sent).is_ok() {
        assert!(decoded(&sent).is_some(), "{term:?}");
    }
}

/// What a peer says in the handshake.
pub fn handshake(bytes: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    else {
        return;
    };
    let Ok(peer) = "shop@host".parse::<NodeName>() else {
        return;
    };
    let options = ConnectOptions {
        peer,
        cookie: Cookie::new("a_cookie"),
        dist_port: None,
        epmd_port: 0,
        tls: None,
        step_timeout: SOON,
    };
    runtime.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let _ = theirs.write_all(bytes).await;
        let _ = theirs.shutdown().await;
        let _ = shake_hands(&options, ours).await;
    });
}

fn own() -> Own {
    Own {
        name: "1T9F@host".into(),
        creation: 77,
    }
}

//! This machine's clock, as events and records tell it, and beside another one. Nothing is decided by it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Another clock, cut to a whole second, and this machine's before it was asked and after; each since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beside {
    pub(crate) asked: Duration,
    pub(crate) theirs: Duration,
    pub(crate) answered: Duration,
}

/// How long ago that was, microseconds.
pub(crate) fn since_us(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Since 1970.
pub(crate) fn now() -> Duration {
    since_1970(SystemTime::now())
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    now().as_secs()
}

/// A moment since 1970; one before that was never.
pub(crate) fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

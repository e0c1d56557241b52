//! This machine's clock, as events and records tell it. Nothing is decided by it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How long ago that was, microseconds.
pub(crate) fn since_us(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

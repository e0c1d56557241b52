//! Waiting for a condition: nothing in the tests sleeps for a time and hopes.

use std::time::{Duration, Instant};

/// Between two looks: short against anything waited for, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
///
/// # Panics
/// After `limit`, with `what` in the message.
pub fn wait_until(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    wait_or_tell(what, limit, condition, String::new);
}

/// The same, with evidence in the message that is looked for when it did not come to hold.
///
/// # Panics
/// After `limit`, with `what` and the evidence in the message.
pub fn wait_or_tell(
    what: &str,
    limit: Duration,
    condition: impl FnMut() -> bool,
    evidence: impl FnOnce() -> String,
) {
    if !holds_within(limit, condition) {
        panic!("waited {limit:?} in vain: {what} {}", evidence());
    }
}

/// Whether `condition` came to hold within `limit`.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        // Taken before the look: a machine that stood still meanwhile gets one more.
        let last = begun.elapsed() > limit;
        if condition() {
            return true;
        }
        if last {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

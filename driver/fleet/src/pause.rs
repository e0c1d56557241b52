//! How long to pause before the next try.
//!
//! This file is pure: chance and time are handed in.

use std::time::{Duration, SystemTime};

/// The first pause; and the longest, at which a try costs nobody anything.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);

/// The longest `Retry-After` that is believed: whoever means longer is not waited for by anybody who deploys.
const BELIEVED: Duration = Duration::from_secs(600);

/// Pauses that double, each drawn from the upper half of its length: those who were refused together do not come back together,
/// and none comes back at once.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Pauses {
    /// The next one; `chance` is in `0.0..1.0`.
    pub(crate) fn next(&mut self, chance: f64) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause.mul_f64(0.5 + chance / 2.0)
    }
}

/// What `Retry-After` says, in seconds or as a date; `now` is the time by the clock of whoever says so.
pub(crate) fn retry_after(said: &str, now: SystemTime) -> Option<Duration> {
    let said = said.trim();
    let pause = match said.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(said)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    (pause <= BELIEVED).then_some(pause)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_never_short() {
        for chance in [0.0, 0.5, 0.999] {
            let mut pauses = Pauses::default();
            let drawn: Vec<Duration> = (0..8).map(|_| pauses.next(chance)).collect();
            let lengths = [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000];
            for (drawn, length) in drawn.iter().zip(lengths) {
                let length = Duration::from_millis(length);
                assert!(
                    *drawn >= length / 2 && *drawn <= length,
                    "{drawn:?} of {length:?}"
                );
            }
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        // 2026-11-27 09:00:00 UTC
        let now = UNIX_EPOCH + Duration::from_secs(1_795_770_000);
        for (said, pause) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("Fri, 27 Nov 2026 09:00:07 GMT", Some(7)),
            ("Fri, 27 Nov 2026 08:59:00 GMT", Some(0)),
            ("601", None),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(retry_after(said, now), pause.map(Duration::from_secs), "{said:?}");
        }
    }
}

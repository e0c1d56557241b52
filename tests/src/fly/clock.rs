//! Times as Fly tells them, and its versions.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::rounds::Random;

/// Milliseconds since 1970.
pub(super) fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// RFC 3339.
pub(super) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

/// As HTTP has it.
pub(super) fn http(at: SystemTime) -> String {
    httpdate::fmt_http_date(at)
}

/// A ULID: 26 letters that begin with the time.
pub(super) fn ulid(random: &mut Random) -> String {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let time = u128::from(millis(SystemTime::now())) << 80;
    let chance = u128::from(random.below(1 << 40)) << 40 | u128::from(random.below(1 << 40));
    let number = time | chance;
    let letter = |place: u32| char::from(LETTERS[(number >> (5 * place) & 31) as usize]);
    (0..26).rev().map(letter).collect()
}

//! How often and with which luck: one knob for the size of the suite, and seeds that are printed.

use std::time::{SystemTime, UNIX_EPOCH};

/// How many rounds a test makes: `ci` unless `FLYHOT_ROUNDS` is `soak`, or a number that multiplies `ci`.
///
/// # Panics
/// If `FLYHOT_ROUNDS` is none of `ci`, `soak` and a positive number.
pub fn rounds(ci: usize, soak: usize) -> usize {
    sized(std::env::var("FLYHOT_ROUNDS").ok().as_deref(), ci, soak)
}

fn sized(knob: Option<&str>, ci: usize, soak: usize) -> usize {
    match knob {
        None | Some("" | "ci") => ci,
        Some("soak") => soak,
        Some(factor) => match factor.parse::<usize>() {
            Ok(factor) if factor > 0 => ci * factor,
            _ => panic!("FLYHOT_ROUNDS is {factor:?}; it takes ci, soak, or a positive factor"),
        },
    }
}

/// Random numbers from a printed seed (splitmix64); `FLYHOT_SEED` repeats a run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator for the test `name`: the same in every run of CI's size, a fresh one in larger ones. Prints the
    /// seed, so that a failure can be repeated.
    pub fn new(name: &str) -> Self {
        let seed = match std::env::var("FLYHOT_SEED") {
            Ok(seed) => seed.parse().expect("FLYHOT_SEED is a number"),
            Err(_) if rounds(1, 2) == 1 => seed_of(name),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |now| now.as_micros() as u64),
        };
        eprintln!("{name}: FLYHOT_SEED={seed}");
        Self(seed)
    }

    /// A generator for what belongs to `seed`, which the test has from [`Random::seed`] or keeps as a case.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The number that all that comes from here follows from.
    pub fn seed(&self) -> u64 {
        self.0
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// FNV-1a, 64 bits: it needs only to differ between names and to stay as it is.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_seed_for_good() {
        assert_eq!(seed_of("driver"), seed_of("driver"));
        assert_ne!(seed_of("driver"), seed_of("flyhot_guard"));
    }

    #[test]
    fn one_knob_sets_three_sizes() {
        assert_eq!(sized(None, 5, 50), 5);
        assert_eq!(sized(Some("ci"), 5, 50), 5);
        assert_eq!(sized(Some("soak"), 5, 50), 50);
        assert_eq!(sized(Some("3"), 5, 50), 15);
        assert!(std::panic::catch_unwind(|| sized(Some("0"), 5, 50)).is_err());
        assert!(std::panic::catch_unwind(|| sized(Some("many"), 5, 50)).is_err());
    }
}

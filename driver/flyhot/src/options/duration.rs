//! Durations as options write them: `2s`, `500ms`, `1m`.

use std::time::Duration;

use thiserror::Error;

/// Text that is no duration. Its message follows clap's "invalid value '…' for '…':".
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// No number in front.
    #[error("a time is a whole number and a unit: 500ms, 2s, 1m or 1h")]
    NoNumber,
    /// No unit, or one that is not known.
    #[error("{unit:?} is not a unit; write {number}ms, {number}s, {number}m or {number}h")]
    Unit {
        /// What stood in front.
        number: u64,
        /// What stood behind; empty where there was nothing.
        unit: String,
    },
    /// More than a day.
    #[error("longer than a day")]
    TooLong,
}

/// No wait of one command is meant to outlast a day; the limit keeps sums of microseconds far below 64 bits.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `500ms`, `2s`, `1m` or `1h`.
///
/// # Errors
/// [`DurationError`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::NoNumber);
    }
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => {
            return Err(DurationError::Unit {
                number,
                unit: unit.to_owned(),
            });
        }
    };
    milliseconds
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or(DurationError::TooLong)
}

/// The same, or a number alone: milliseconds.
///
/// # Errors
/// [`DurationError`].
pub fn parse_milliseconds(text: &str) -> Result<Duration, DurationError> {
    parse_bare(text, "ms")
}

/// The same, or a number alone: seconds.
///
/// # Errors
/// [`DurationError`].
pub fn parse_seconds(text: &str) -> Result<Duration, DurationError> {
    parse_bare(text, "s")
}

fn parse_bare(text: &str, unit: &str) -> Result<Duration, DurationError> {
    match parse_duration(text) {
        Err(DurationError::Unit { number, unit: none }) if none.is_empty() => {
            parse_duration(&format!("{number}{unit}"))
        }
        parsed => parsed,
    }
}

/// A duration as the option would be written.
pub(super) fn show(duration: Duration) -> String {
    match duration.as_millis() {
        whole if whole % 1_000 == 0 => format!("{}s", whole / 1_000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_read() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("2s", 2_000),
            ("1m", 60_000),
            ("1h", 3_600_000),
            ("0s", 0),
            (" 3s ", 3_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_number_alone_has_the_unit_of_its_option() {
        for (text, milliseconds, seconds) in [
            ("1500", 1_500, 1_500_000),
            ("2s", 2_000, 2_000),
            ("1m", 60_000, 60_000),
        ] {
            assert_eq!(
                parse_milliseconds(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
            assert_eq!(parse_seconds(text), Ok(Duration::from_millis(seconds)), "{text}");
        }
        for text in ["", "1x", "99999999999"] {
            assert!(
                parse_milliseconds(text).is_err() && parse_seconds(text).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_told_apart() {
        let unit = |number, unit: &str| DurationError::Unit {
            number,
            unit: unit.into(),
        };
        for (text, error) in [
            ("", DurationError::NoNumber),
            ("s", DurationError::NoNumber),
            ("-1s", DurationError::NoNumber),
            ("2", unit(2, "")),
            ("2 s", unit(2, " s")),
            ("1.5s", unit(1, ".5s")),
            ("2S", unit(2, "S")),
            ("25h", DurationError::TooLong),
            ("99999999999999999999s", DurationError::TooLong),
            ("18446744073709551615h", DurationError::TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
        assert_eq!(
            parse_duration("2").unwrap_err().to_string(),
            "\"\" is not a unit; write 2ms, 2s, 2m or 2h"
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(milliseconds in 0u64..=86_400_000) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&show(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = parse_duration(&text);
        }
    }
}

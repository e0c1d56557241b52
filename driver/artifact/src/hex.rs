//! Digests as lower-case hex, in text and in JSON.
//!
//! Only digests are written this way: fixed length, two digits a byte, nothing else accepted.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Two lower-case digits a byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Exactly `N` bytes; upper-case digits are refused, so that a digest has one spelling.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// For `#[serde(with = "hex")]`.
pub(crate) fn serialize<const N: usize, S: Serializer>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&encode(bytes))
}

/// For `#[serde(with = "hex")]`.
pub(crate) fn deserialize<'de, const N: usize, D: Deserializer<'de>>(from: D) -> Result<[u8; N], D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
    decode(&text).ok_or_else(|| D::Error::custom(format_args!("expected {} lower-case hex digits", 2 * N)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(bytes: [u8; 16]) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        assert_eq!(decode::<2>("0aff"), Some([0x0a, 0xff]));
        for text in ["0AFF", "0af", "0aff0", "0a f", "+aff", ""] {
            assert_eq!(decode::<2>(text), None, "{text:?}");
        }
    }
}

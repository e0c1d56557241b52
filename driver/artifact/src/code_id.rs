//! The code id: what nodes and artifacts are compared by.
//!
//! It names code, not files: paths, sizes, compression and stripped chunks do not enter.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex;

/// sha256 over the sorted lines `module md5` of every module a release adds to OTP and Elixir.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CodeId(#[serde(with = "hex")] pub [u8; 32]);

/// The code id of these modules, in any order: per module one line of its name, a space, its md5 as 32
/// lower-case hex digits and a newline; the lines sorted by their bytes.
///
/// A module handed in twice counts twice: a caller has a map.
pub fn code_id<N: AsRef<str>>(modules: impl IntoIterator<Item = (N, [u8; 16])>) -> CodeId {
    let mut lines: Vec<String> = modules
        .into_iter()
        .map(|(name, md5)| format!("{} {}\n", name.as_ref(), hex::encode(&md5)))
        .collect();
    lines.sort_unstable();
    let mut hash = Sha256::new();
    for line in &lines {
        hash.update(line);
    }
    CodeId(hash.finalize().into())
}

impl fmt::Display for CodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// A text that is not 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a code id: 64 lower-case hex digits")]
pub struct CodeIdError(String);

impl FromStr for CodeId {
    type Err = CodeIdError;

    fn from_str(text: &str) -> Result<Self, CodeIdError> {
        hex::decode(text)
            .map(Self)
            .ok_or_else(|| CodeIdError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn some_modules() -> impl Strategy<Value = Vec<(String, [u8; 16])>> {
        proptest::collection::btree_map("[ -~]{1,8}", any::<[u8; 16]>(), 0..12)
            .prop_map(|modules: BTreeMap<_, _>| modules.into_iter().collect())
    }

    proptest! {
        #[test]
        fn order_does_not_matter(
            (modules, shuffled) in some_modules().prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle())),
        ) {
            prop_assert_eq!(code_id(modules), code_id(shuffled));
        }

        #[test]
        fn any_other_md5_is_another_code(modules in some_modules(), which: usize, bit in 0..128_usize) {
            prop_assume!(!modules.is_empty());
            let mut other = modules.clone();
            let index = which % other.len();
            other[index].1[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(code_id(modules), code_id(other));
        }

        #[test]
        fn text_is_read_back(bytes: [u8; 32]) {
            prop_assert_eq!(CodeId(bytes).to_string().parse(), Ok(CodeId(bytes)));
        }
    }

    #[test]
    fn the_bytes_hashed_are_the_documented_ones() {
        let id = code_id([("b", [0xff; 16]), ("Elixir.A", [0; 16])]);
        let lines = format!("Elixir.A {}\nb {}\n", "0".repeat(32), "f".repeat(32));
        assert_eq!(id.0, <[u8; 32]>::from(Sha256::digest(lines)));
        // The sha256 of nothing: a release that adds nothing.
        assert_eq!(
            code_id::<&str>([]).to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "e3b0", &"E".repeat(64), &"0".repeat(65)] {
            assert_eq!(text.parse::<CodeId>(), Err(CodeIdError(text.into())));
        }
    }
}

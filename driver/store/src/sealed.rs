//! Records as they lie in a store: JSON with a digest of itself, since a bit that flips on the way can leave JSON valid.

use flyhot_artifact::FileDigest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    sha256: FileDigest,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// The bytes of a record.
pub(crate) fn seal<T: Serialize>(record: &T) -> Result<Vec<u8>, serde_json::Error> {
    let text = serde_json::to_string(record)?;
    let record = RawValue::from_string(text)?;
    serde_json::to_vec(&Sealed {
        sha256: FileDigest::of(record.get().as_bytes()),
        record: &record,
    })
}

/// The record; or what is wrong.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let sealed: Sealed<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if FileDigest::of(sealed.record.get().as_bytes()) != sealed.sha256 {
        return Err("its sha256 is another".to_owned());
    }
    serde_json::from_str(sealed.record.get()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written_and_no_bent_one_is(text: String, number: u64, at: usize, bit in 0..8_u8) {
            let record = (text, number);
            let bytes = seal(&record).unwrap();
            prop_assert_eq!(open::<(String, u64)>(&bytes), Ok(record.clone()));
            let mut bent = bytes.clone();
            let at = at % bytes.len();
            bent[at] ^= 1 << bit;
            // White space between the fields says nothing.
            prop_assert!(open::<(String, u64)>(&bent).is_err() || open(&bent) == Ok(record));
        }
    }
}

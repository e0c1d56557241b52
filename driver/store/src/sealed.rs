//! Records as they lie in a store: JSON with a digest of itself, since a bit that flips on the way can leave JSON valid, and with a
//! number of its own, so that no two puts have the same bytes: what was put is told from what was put before.

use flyhot_artifact::FileDigest;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    put: &'a str,
    sha256: FileDigest,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// A text that nobody else has; none where the system gives no random bytes.
pub(crate) fn token() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The bytes of a record; or what is wrong.
pub(crate) fn seal<T: Serialize>(record: &T) -> Result<Vec<u8>, String> {
    let said = |error: serde_json::Error| error.to_string();
    let record = serde_json::value::to_raw_value(record).map_err(said)?;
    let put = token().ok_or("the system gives no random bytes")?;
    let sealed = Sealed {
        put: &put,
        sha256: digest(&put, &record),
        record: &record,
    };
    serde_json::to_vec(&sealed).map_err(said)
}

/// The record; or what is wrong.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let sealed: Sealed<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if digest(sealed.put, sealed.record) != sealed.sha256 {
        return Err("its sha256 is another".to_owned());
    }
    serde_json::from_str(sealed.record.get()).map_err(|error| error.to_string())
}

/// Whether these are the bytes of a record, whatever it says.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Sealed<'_>>(bytes)
        .is_ok_and(|sealed| digest(sealed.put, sealed.record) == sealed.sha256)
}

fn digest(put: &str, record: &RawValue) -> FileDigest {
    FileDigest::of(format!("{put} {}", record.get()).as_bytes())
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
            prop_assert!(is_whole(&bytes));
            prop_assert_ne!(seal(&record).unwrap(), bytes.clone());
            let mut bent = bytes.clone();
            let at = at % bytes.len();
            bent[at] ^= 1 << bit;
            // White space between the fields says nothing.
            let read = open::<(String, u64)>(&bent);
            prop_assert_eq!(is_whole(&bent), read.is_ok());
            prop_assert!(read.is_err() || read == Ok(record));
        }
    }
}

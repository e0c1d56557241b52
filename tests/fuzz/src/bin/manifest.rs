//! The manifest of an artifact; one that is read is written as it was read.
#![no_main]

use flyhot_artifact::Manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::from_bytes(bytes)
        && let Ok(written) = manifest.to_bytes()
    {
        assert!(Manifest::from_bytes(&written).is_ok_and(|again| again == manifest));
    }
});

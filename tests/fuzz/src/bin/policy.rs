//! A policy file; what is wrong with one is said of a place in it.
#![no_main]

use flyhot::options::policy::PolicyFile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = PolicyFile::parse(bytes) {
        let _ = error.to_string();
    }
});

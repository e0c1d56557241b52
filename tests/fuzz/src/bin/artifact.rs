//! The tar inside an artifact: what is taken is what its own manifest lists, and was signed by nobody.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyhot_artifact::fuzzing::artifact(bytes));

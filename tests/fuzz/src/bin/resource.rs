//! The text of a .rel or an .app file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyhot_artifact::fuzzing::resource(bytes));

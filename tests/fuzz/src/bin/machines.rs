//! The body of an answer of the Machines API.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyhot_fleet::fuzzing::read(bytes));

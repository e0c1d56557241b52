//! A term in the external format: what the scan passes can be decoded, shown, and sent again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyhot_node::fuzzing::term(bytes));

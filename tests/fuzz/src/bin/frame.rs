//! What a peer says after the handshake, cut as a socket would cut it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyhot_node::fuzzing::stream(bytes));

//! What a peer says in the handshake; then the connection ends.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyhot_node::fuzzing::handshake(bytes));

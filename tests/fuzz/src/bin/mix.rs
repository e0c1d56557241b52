//! What a mix task hands over; what is wrong with it is said of a key.
#![no_main]

use flyhot::options::mix::Mix;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = Mix::parse(bytes) {
        let _ = (error.to_string(), error.hint());
    }
});

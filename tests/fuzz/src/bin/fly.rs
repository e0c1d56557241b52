//! A fly.toml, a fly.json and a fly.yaml; what is wrong with one is said of a field or a line of it.
#![no_main]

use flyhot::options::Format;
use flyhot::options::fly::FlyFile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for format in [Format::Toml, Format::Json, Format::Yaml] {
        match FlyFile::parse(bytes, format) {
            Ok(file) => assert!(!file.groups().is_empty()),
            Err(error) => {
                let _ = error.to_string();
            }
        }
    }
});

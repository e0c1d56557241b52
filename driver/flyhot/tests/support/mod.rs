//! Text compared with a file of this repository.

use std::path::Path;
use std::{env, fs};

/// Compares `text` with `tests/golden/NAME`; `BLESS=1 cargo test` writes the file instead.
#[track_caller]
pub(crate) fn golden(name: &str, text: &str) {
    // clap pads empty lines; white space at the end of a line is no part of what is read.
    let text: String = text
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (at, (is, should)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, should, "{name}, line {}; the whole text:\n{text}", at + 1);
    }
    assert_eq!(text, expected, "{name} has more or fewer lines");
}

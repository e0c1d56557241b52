//! A boot file; with its own directories put in anew it says the same.
#![no_main]

use std::convert::Infallible;

use flyhot_artifact::boot::{BootFile, directory, owner, root};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = BootFile::read(bytes) else {
        return;
    };
    for path in file.paths() {
        let _ = (owner(path), directory(path), root(path));
    }
    let Ok(again) = file.placed(|path| Ok::<_, Infallible>(path.to_owned()));
    let again = BootFile::read(&again).expect("what was read is written so that it is read");
    assert_eq!(again.name(), file.name());
    assert!(again.paths().eq(file.paths()));
});

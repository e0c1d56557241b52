//! Shared libraries: the `.so` files below an application's `priv`, NIFs and port drivers.
//!
//! What a link leads to is read; a directory that a link leads to is not entered, so no circle is walked.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _},
    path::Path,
};

use md5::{Digest as _, Md5};

use super::{ReadReleaseError, list};

/// Their md5s by path below `directory`; none where there is no such directory.
pub(super) fn read(directory: &Path) -> Result<BTreeMap<String, [u8; 16]>, ReadReleaseError> {
    let mut found = BTreeMap::new();
    if !directory.is_dir() {
        return Ok(found);
    }
    let mut todo = vec![directory.to_owned()];
    while let Some(directory_now) = todo.pop() {
        for path in list(&directory_now)? {
            let Ok(kind) = fs::symlink_metadata(&path) else {
                continue;
            };
            if kind.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "so") && path.is_file() {
                let below = path.strip_prefix(directory).unwrap_or(&path);
                found.insert(below.to_string_lossy().into_owned(), md5(&path)?);
            }
        }
    }
    Ok(found)
}

/// They may be larger than what should be held at once.
fn md5(path: &Path) -> Result<[u8; 16], ReadReleaseError> {
    let failed = |source| ReadReleaseError::Read {
        path: path.into(),
        source,
    };
    let mut file = io::BufReader::new(fs::File::open(path).map_err(failed)?);
    let mut md5 = Md5::new();
    loop {
        let piece = file.fill_buf().map_err(failed)?;
        if piece.is_empty() {
            return Ok(md5.finalize().into());
        }
        md5.update(piece);
        let read = piece.len();
        file.consume(read);
    }
}

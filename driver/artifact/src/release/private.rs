//! The files below an application's `priv`: NIFs, port drivers and programs, assets, templates.
//!
//! What a link leads to is read; a directory that a link leads to is not entered, so no circle is walked. Names that begin
//! with a dot are passed over, as `filelib:wildcard/2` does on the node.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _},
    path::Path,
};

use md5::{Digest as _, Md5};

use super::{ReadReleaseError, list};

/// Above this size a file's digest is that of its size: on the node each is read whole.
const LARGE: u64 = 16 << 20;

/// Their digests by path below `directory`; none where there is no such directory.
pub(super) fn read(directory: &Path) -> Result<BTreeMap<String, [u8; 16]>, ReadReleaseError> {
    let mut found = BTreeMap::new();
    if !directory.is_dir() {
        return Ok(found);
    }
    let mut todo = vec![directory.to_owned()];
    while let Some(directory_now) = todo.pop() {
        for path in list(&directory_now)? {
            let hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let Ok(kind) = fs::symlink_metadata(&path) else {
                continue;
            };
            if hidden {
                continue;
            }
            if kind.is_dir() {
                todo.push(path);
            } else if let Ok(file) = fs::metadata(&path)
                && file.is_file()
            {
                let below = path.strip_prefix(directory).unwrap_or(&path);
                let digest = if file.len() > LARGE {
                    Md5::digest(format!("{} bytes", file.len())).into()
                } else {
                    md5(&path)?
                };
                found.insert(below.to_string_lossy().into_owned(), digest);
            }
        }
    }
    Ok(found)
}

/// What lies below `directory`, for one who has none of it: directories too, whose paths end in a slash; links are followed, but
/// for one that leads up.
pub(super) fn whole(directory: &Path) -> Result<Vec<String>, ReadReleaseError> {
    let mut found = Vec::new();
    let mut todo = vec![(String::new(), vec![])];
    while let Some((below, above)) = todo.pop() {
        let path = directory.join(&below);
        let Ok(real) = path.canonicalize() else { continue };
        if !path.is_dir() || above.contains(&real) {
            continue;
        }
        for entry in list(&path)? {
            let name = entry
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if entry.is_dir() {
                let above = above.iter().cloned().chain([real.clone()]).collect();
                todo.push((format!("{below}{name}/"), above));
                found.push(format!("{below}{name}/"));
            } else if entry.is_file() {
                found.push(format!("{below}{name}"));
            }
        }
    }
    Ok(found)
}

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

//! Files that appear whole under their name, or not at all.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use crate::store::StoreError;

/// What begins the name of a file that is not whole yet.
pub(crate) const TEMPORARY: &str = ".flyhot-";

/// Bytes of an artifact that are moved at once: what a disk reads ahead.
pub(crate) const PIECE: usize = 128 * 1024;

/// On a thread that may wait for a disk.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(join) => Err(failed("cannot start a thread for", Path::new("the store"))(
                io::Error::other(join),
            )),
        },
    }
}

pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// A file that goes again unless it is given a name.
pub(crate) fn beside(directory: &Path) -> Result<tempfile::NamedTempFile, StoreError> {
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(failed("cannot write to", directory))
}

/// Gives a file its name, once it is on the disk.
pub(crate) fn appear(new: tempfile::NamedTempFile, path: &Path) -> Result<(), StoreError> {
    new.as_file().sync_all().map_err(failed("cannot write", path))?;
    new.persist(path)
        .map_err(|error| failed("cannot write", path)(error.error))?;
    sync(path.parent().unwrap_or(Path::new(".")))
}

pub(crate) fn sync(directory: &Path) -> Result<(), StoreError> {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("cannot write to", directory))
}

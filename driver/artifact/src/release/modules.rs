//! The modules of a release: found by their files, read by a few threads, each file once.

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{MAX_BEAM, ReadReleaseError, list, read as read_file};
use crate::{
    application::{App, Origin},
    beam::Beam,
    facts::ModuleFacts,
    manifest::{FileDigest, Module},
    name::{ModuleName, ReleasePath},
};

/// The most threads: each holds one file and what it inflates to, and beyond this many the disk is what is waited for.
const MAX_THREADS: usize = 4;

/// A file that will be a module.
struct Found {
    path: PathBuf,
    /// Below the release.
    relative: String,
    app: String,
    origin: Origin,
    consolidated: bool,
}

/// Every module of these applications and every consolidated protocol. `listed` are the modules that each
/// application's `.app` file names.
pub(super) fn read(
    root: &Path,
    version: &str,
    apps: &BTreeMap<String, App>,
    listed: &BTreeMap<String, Vec<ModuleName>>,
) -> Result<BTreeMap<ModuleName, Module>, ReadReleaseError> {
    let found = find(root, version, apps)?;
    for (app, modules) in listed.iter().filter(|(app, _)| Origin::of(app) == Origin::Own) {
        if let Some(module) = modules.iter().find(|module| !found.contains_key(module.as_str())) {
            let dir = apps
                .get(app)
                .and_then(|app| app.dir.as_ref())
                .map_or("", ReleasePath::as_str);
            return Err(ReadReleaseError::NoModule {
                path: root.join(dir).join(format!("ebin/{module}.beam")),
                app: app.clone(),
                module: module.clone(),
            });
        }
    }
    let found: Vec<_> = found.into_iter().collect();
    let threads = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(MAX_THREADS)
        .min(found.len().max(1));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut read = Vec::new();
        while let Some((stem, file)) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
            read.push((stem, module(stem, file)));
        }
        read
    };
    let mut read: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut read = work();
        for other in others {
            match other.join() {
                Ok(more) => read.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        read
    });
    // Of several broken files the same one is named each time.
    read.sort_unstable_by_key(|(stem, _)| *stem);
    read.into_iter().map(|(_, module)| module).collect()
}

/// The files, by the module name they promise. A consolidated protocol hides the file of its application: its
/// directory is first on the code path.
fn find(
    root: &Path,
    version: &str,
    apps: &BTreeMap<String, App>,
) -> Result<BTreeMap<String, Found>, ReadReleaseError> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for app in apps.values() {
        let Some(dir) = &app.dir else { continue };
        for (stem, path, relative) in beams(root, &format!("{dir}/ebin"))? {
            let file = Found {
                path,
                relative,
                app: app.name.clone(),
                origin: app.origin,
                consolidated: false,
            };
            if let Some(other) = found.get(&stem) {
                return Err(ReadReleaseError::ModuleTwice {
                    module: stem,
                    first: other.path.clone(),
                    second: file.path,
                });
            }
            found.insert(stem, file);
        }
    }
    let consolidated = format!("releases/{version}/consolidated");
    // A link that leads nowhere or in a circle is there, and is an error when it is listed.
    if root.join(&consolidated).symlink_metadata().is_ok() {
        for (stem, path, relative) in beams(root, &consolidated)? {
            let app = found
                .get(&stem)
                .map_or_else(String::new, |hidden| hidden.app.clone());
            let file = Found {
                path,
                relative,
                app,
                // Made for this release, whosever protocol it is.
                origin: Origin::Own,
                consolidated: true,
            };
            found.insert(stem, file);
        }
    }
    Ok(found)
}

/// The beam files of a directory: module name, path, path below the release.
fn beams(root: &Path, dir: &str) -> Result<Vec<(String, PathBuf, String)>, ReadReleaseError> {
    let mut beams = Vec::new();
    for path in list(&root.join(dir))? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(stem) = name.strip_suffix(".beam") {
            beams.push((stem.to_owned(), path, format!("{dir}/{name}")));
        }
    }
    Ok(beams)
}

fn module(stem: &str, file: &Found) -> Result<(ModuleName, Module), ReadReleaseError> {
    let path = || file.path.clone();
    let bytes = read_file(&file.path, MAX_BEAM)?;
    let broken = |source| ReadReleaseError::Beam { path: path(), source };
    let beam = Beam::parse(&bytes).map_err(broken)?;
    let mislabelled = || ReadReleaseError::Mislabelled {
        path: path(),
        expected: format!("the module {stem}"),
        found: format!("the module {}", beam.module()),
    };
    if beam.module() != stem {
        return Err(mislabelled());
    }
    let name = ModuleName::new(stem).map_err(|_| mislabelled())?;
    let module = Module {
        app: file.app.clone(),
        origin: file.origin,
        consolidated: file.consolidated,
        path: ReleasePath::new(&file.relative).map_err(|_| mislabelled())?,
        size: bytes.len() as u64,
        sha256: FileDigest::of(&bytes),
        facts: ModuleFacts::of(&beam, file.origin).map_err(broken)?,
    };
    Ok((name, module))
}

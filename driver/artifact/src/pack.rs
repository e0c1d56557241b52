//! Packing: an artifact out of a release directory, a tar.gz that is the same byte for byte whoever packs the same files.
//!
//! It holds files and empty directories and nothing else: what a link leads to is stored as a file, times and owners are
//! zero, of a mode only whether it is executable is kept. Memory does not grow with the files: each is read twice, and one
//! that changed in between ends the packing.
//!
//! Format: gzip (RFC 1952), in it tar as GNU tar writes it (POSIX.1-1988 headers with GNU's `L` entries for long names);
//! the first entry is the manifest, then everything that it lists, in the order of the paths' bytes.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read, Write},
    ops::ControlFlow,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::{
    application::Origin,
    limits::{LimitError, Limits},
    manifest::{Contents, File, FileDigest, MANIFEST_FILE, Manifest, ManifestError},
    name::ReleasePath,
    release::{ReadModuleError, Release},
};

/// gzip's own default. What is above costs more time than the bytes it saves take to send.
const LEVEL: u32 = 6;

/// gzip's number for a system that is not known.
const NO_SYSTEM: u8 = 255;

/// Bytes that are read at once.
pub(crate) const PIECE: usize = 64 * 1024;

/// Hears how many bytes of how many are done; `Break` ends the work.
pub type Told<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// sha256 of the artifact: its name.
    pub digest: FileDigest,
    /// Its bytes.
    pub size: u64,
    /// Its manifest.
    pub manifest: Manifest,
    /// sha256 of the manifest's bytes: what is signed.
    pub manifest_digest: FileDigest,
}

/// Why a release cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file or directory cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What a node starts by cannot be read.
    #[error("cannot read what a node starts by")]
    Start(#[from] ReadModuleError),
    /// What is there is neither a file nor a directory.
    #[error("{path} is neither a file nor a directory")]
    Kind {
        /// Where.
        path: PathBuf,
    },
    /// A name that an artifact cannot hold.
    #[error("{path:?} has a name that is not plain text, is too long, or lies too deep")]
    Name {
        /// Which.
        path: PathBuf,
    },
    /// A file changed while it was packed.
    #[error("{path} changed while it was packed")]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// Its files cannot lie beside each other everywhere.
    #[error("it cannot be packed")]
    Manifest(#[from] ManifestError),
    /// It is more than would be unpacked.
    #[error("it would not be unpacked")]
    Limit(#[from] LimitError),
    /// The manifest cannot be written as JSON.
    #[error("the manifest cannot be written")]
    Json(#[from] serde_json::Error),
    /// The artifact cannot be written.
    #[error("cannot write the artifact")]
    Write(#[source] io::Error),
    /// It was told to stop.
    #[error("packing was stopped")]
    Stopped,
}

/// Packs what of a release is asked for; gives back `out`, to which everything was handed.
///
/// # Errors
/// [`PackError`]; what was written to `out` by then is no artifact.
pub fn pack<W: Write>(
    release: &Release,
    contents: Contents,
    limits: &Limits,
    out: W,
    told: Told<'_>,
) -> Result<(Packed, W), PackError> {
    let mut tree = Tree {
        files: BTreeMap::new(),
        empty: BTreeSet::new(),
        limits,
    };
    match contents {
        Contents::Hot => tree.hot(release)?,
        Contents::Full => tree.walk(&release.root, None)?,
    }
    let Tree {
        files: found, empty, ..
    } = tree;
    let mut files = BTreeMap::new();
    for (path, at) in &found {
        if told(0, 0).is_break() {
            return Err(PackError::Stopped);
        }
        files.insert(path.clone(), digest(at)?);
    }
    let manifest = release.manifest(contents, files, empty);
    manifest.check_files().map_err(|error| match error {
        // It was there, and the same, when the release was read.
        ManifestError::Module { path, .. } => PackError::Changed {
            path: release.root.join(path.as_str()),
        },
        error => PackError::Manifest(error),
    })?;
    limits.admit(&manifest)?;
    let bytes = manifest.to_bytes()?;
    limits.admit_manifest(bytes.len() as u64)?;

    let mut progress = Progress {
        done: 0,
        total: manifest.files.values().map(|file| file.size).sum(),
        told,
    };
    let size = Cell::new(0);
    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(NO_SYSTEM)
        .write(Counted::new(out, &size), Compression::new(LEVEL));
    let mut tar = Builder::new(gzip);
    tar.append_data(&mut header(bytes.len() as u64, false), MANIFEST_FILE, &*bytes)
        .map_err(PackError::Write)?;
    for (path, file) in manifest.entries() {
        match (file, found.get(path)) {
            (Some(file), Some(at)) => {
                // Whoever unpacks it looks at every moment, and has read no less of it by then.
                let within = |done| limits.admit_ratio(size.get(), done);
                append(&mut tar, path, file, at, &within, &mut progress)?;
            }
            _ => {
                let mut header = header(0, true);
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, format!("{path}/"), io::empty())
                    .map_err(PackError::Write)?;
            }
        }
    }
    let counted = tar
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .map_err(PackError::Write)?;
    let Counted { to, hash, .. } = counted;
    let packed = Packed {
        digest: FileDigest(hash.finalize().into()),
        size: size.get(),
        manifest_digest: FileDigest::of(&bytes),
        manifest,
    };
    Ok((packed, to))
}

/// What is to be packed, by its place in the artifact; links are followed.
struct Tree<'a> {
    files: BTreeMap<ReleasePath, PathBuf>,
    empty: BTreeSet<ReleasePath>,
    limits: &'a Limits,
}

impl Tree<'_> {
    fn hot(&mut self, release: &Release) -> Result<(), PackError> {
        let own = release.apps.values().filter(|app| app.origin == Origin::Own);
        for dir in own.filter_map(|app| app.dir.as_ref()) {
            let ebin = format!("{dir}/ebin");
            for entry in list(&release.root.join(&ebin))? {
                if entry
                    .extension()
                    .is_some_and(|kind| kind == "beam" || kind == "app")
                {
                    self.take(below(&entry, Some(&ebin))?, entry)?;
                }
            }
            let private = format!("{dir}/priv");
            let at = release.root.join(&private);
            // A link that leads nowhere is there, and an error.
            if fs::symlink_metadata(&at).is_ok() {
                self.walk(&at, Some(&private))?;
            }
        }
        // Consolidated protocols are not in the directory of an application.
        for module in release.modules.values().filter(|module| module.consolidated) {
            self.take(module.path.clone(), release.root.join(module.path.as_str()))?;
        }
        let version = format!("releases/{}", release.version);
        for entry in release.start_files()? {
            self.take(below(&entry, Some(&version))?, entry)?;
        }
        let start = release.root.join("releases/start_erl.data");
        self.take(below(&start, Some("releases"))?, start)
    }

    fn walk(&mut self, directory: &Path, path: Option<&str>) -> Result<(), PackError> {
        let entries = list(directory)?;
        if let (true, Some(path)) = (entries.is_empty(), path) {
            let path = ReleasePath::new(path).map_err(|_| PackError::Name {
                path: directory.to_owned(),
            })?;
            self.empty.insert(path);
            self.count()?;
        }
        for entry in entries {
            let at = below(&entry, path)?;
            // What an unpacking wrote.
            if at.as_str() != MANIFEST_FILE {
                self.take(at, entry)?;
            }
        }
        Ok(())
    }

    /// A file, or a directory with everything in it.
    fn take(&mut self, at: ReleasePath, entry: PathBuf) -> Result<(), PackError> {
        let about = fs::metadata(&entry).map_err(|source| PackError::Read {
            path: entry.clone(),
            source,
        })?;
        if about.is_dir() {
            return self.walk(&entry, Some(at.as_str()));
        }
        if !about.is_file() {
            return Err(PackError::Kind { path: entry });
        }
        self.limits.admit_file(at.as_str(), about.len())?;
        self.files.insert(at, entry);
        self.count()
    }

    fn count(&self) -> Result<(), PackError> {
        let found = (self.files.len() + self.empty.len()) as u64;
        Ok(self.limits.admit_entries(found)?)
    }
}

/// Where an entry of a directory stands in the release.
fn below(entry: &Path, directory: Option<&str>) -> Result<ReleasePath, PackError> {
    let name = entry.file_name().unwrap_or_default().to_str();
    let path = match (directory, name) {
        (Some(directory), Some(name)) => ReleasePath::new(&format!("{directory}/{name}")).ok(),
        (None, Some(name)) => ReleasePath::new(name).ok(),
        (_, None) => None,
    };
    path.ok_or_else(|| PackError::Name {
        path: entry.to_owned(),
    })
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, PackError> {
    fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(|source| PackError::Read {
            path: directory.to_owned(),
            source,
        })
}

fn open(path: &Path) -> Result<fs::File, PackError> {
    fs::File::open(path).map_err(|source| PackError::Read {
        path: path.to_owned(),
        source,
    })
}

fn digest(path: &Path) -> Result<File, PackError> {
    let failed = |source| PackError::Read {
        path: path.to_owned(),
        source,
    };
    let file = open(path)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let (sha256, size) = FileDigest::read(file).map_err(failed)?;
    Ok(File {
        size,
        sha256,
        executable: mode & 0o100 != 0,
    })
}

/// The header of an entry without its name and sum.
pub(crate) fn header(size: u64, executable: bool) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode(executable));
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(EntryType::Regular);
    header
}

/// The mode that a file has in an artifact and is unpacked with.
pub(crate) fn mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    path: &ReleasePath,
    file: &File,
    at: &Path,
    within: &dyn Fn(u64) -> Result<(), LimitError>,
    progress: &mut Progress<'_>,
) -> Result<(), PackError> {
    let mut same = Same {
        file: open(at)?,
        expected: *file,
        within,
        read: 0,
        hash: Sha256::new(),
        progress,
        failed: None,
    };
    let appended = tar.append_data(&mut header(file.size, file.executable), path.as_str(), &mut same);
    match (appended, same.failed.take()) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(Failed::Changed)) => Err(PackError::Changed { path: at.to_owned() }),
        (Err(_), Some(Failed::Stopped)) => Err(PackError::Stopped),
        (Err(_), Some(Failed::Limit(limit))) => Err(PackError::Limit(limit)),
        (Err(source), Some(Failed::Read)) => Err(PackError::Read {
            path: at.to_owned(),
            source,
        }),
        (Err(source), None) => Err(PackError::Write(source)),
    }
}

/// A file that is still the one whose digest is in the manifest, or it reads as an error.
struct Same<'a, 'b> {
    file: fs::File,
    expected: File,
    within: &'a dyn Fn(u64) -> Result<(), LimitError>,
    read: u64,
    hash: Sha256,
    progress: &'a mut Progress<'b>,
    failed: Option<Failed>,
}

/// What of a failed copy was the reading's fault.
enum Failed {
    Read,
    Changed,
    Stopped,
    Limit(LimitError),
}

impl Same<'_, '_> {
    fn fail(&mut self, why: Failed) -> io::Error {
        self.failed = Some(why);
        io::Error::other("the file cannot be packed")
    }
}

impl Read for Same<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match self.file.read(into) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.failed = Some(Failed::Read);
                return Err(error);
            }
        };
        self.read += read as u64;
        self.hash.update(into.get(..read).unwrap_or_default());
        let ended = read == 0 && !into.is_empty();
        let changed = if ended {
            self.read != self.expected.size
                || self.expected.sha256.0 != <[u8; 32]>::from(self.hash.clone().finalize())
        } else {
            self.read > self.expected.size
        };
        if changed {
            return Err(self.fail(Failed::Changed));
        }
        if self.progress.add(read as u64).is_break() {
            return Err(self.fail(Failed::Stopped));
        }
        if let Err(limit) = (self.within)(self.progress.done) {
            return Err(self.fail(Failed::Limit(limit)));
        }
        Ok(read)
    }
}

/// Bytes that are done, of how many.
pub(crate) struct Progress<'a> {
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) told: Told<'a>,
}

impl Progress<'_> {
    pub(crate) fn add(&mut self, bytes: u64) -> ControlFlow<()> {
        self.done += bytes;
        (self.told)(self.done, self.total)
    }
}

/// Counts and digests what goes through.
struct Counted<'a, W> {
    to: W,
    hash: Sha256,
    bytes: &'a Cell<u64>,
}

impl<'a, W> Counted<'a, W> {
    fn new(to: W, bytes: &'a Cell<u64>) -> Self {
        Self {
            to,
            hash: Sha256::new(),
            bytes,
        }
    }
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes.set(self.bytes.get() + written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

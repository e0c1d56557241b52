//! Taking an artifact in: every byte of it is checked before anything is visible.
//!
//! Nothing in it is believed but what a digest confirms, and nothing is taken that packing would not have written: the
//! manifest first, then exactly its entries, in its order, of its sizes; no link, no device, no header of another kind,
//! no byte behind the end. So no entry can lie outside of the directory, stand there twice or differ from another by case
//! alone. Memory holds the manifest and one module.

use std::{
    fs::{self, DirBuilder},
    io::{self, BufRead, BufReader, Read, Write as _},
    ops::ControlFlow,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use flate2::bufread::GzDecoder;
use sha2::{Digest as _, Sha256};
use tar::{Entries, Entry, EntryType};

use crate::{
    application::Origin,
    beam::Beam,
    limits::{LimitError, Limits},
    manifest::{File, FileDigest, MANIFEST_FILE, Manifest, ManifestError},
    name::{ModuleName, ReleasePath},
    pack::{PIECE, Progress, Told, header, mode},
    release::MAX_BEAM,
    trust::{Signature, Trust, TrustError, Trusted},
};

/// Bytes of a path in a tar header; a longer one stands in an entry of its own before.
const NAME_FIELD: usize = 100;

/// A tar ends with two blocks of zeros, of this size each.
const BLOCK: u64 = 512;

/// An artifact in which everything is as its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// sha256 of its bytes: its name.
    pub digest: FileDigest,
    /// Its bytes.
    pub size: u64,
    /// Its manifest.
    pub manifest: Manifest,
    /// sha256 of the manifest's bytes: what is signed.
    pub manifest_digest: FileDigest,
    /// Why it was taken.
    pub trusted: Trusted,
}

/// Why an artifact is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// It ends before its end.
    #[error("it is cut off")]
    Truncated,
    /// What it holds is no gzip or no tar.
    #[error("it is damaged, or no artifact")]
    Damaged(#[source] io::Error),
    /// Bytes follow its end.
    #[error("bytes follow its end")]
    Trailing,
    /// It does not begin with a manifest.
    #[error("it does not begin with {MANIFEST_FILE}")]
    NoManifest,
    /// The manifest is none.
    #[error("{MANIFEST_FILE} in it cannot be used")]
    Manifest(#[from] ManifestError),
    /// It is more than is taken.
    #[error("it is too large")]
    Limit(#[from] LimitError),
    /// It is not signed by a trusted key.
    #[error(transparent)]
    NotTrusted(#[from] TrustError),
    /// An entry that leads outside of the directory.
    #[error("its entry {found:?} leads outside of the directory")]
    Outside {
        /// The entry.
        found: String,
    },
    /// An entry that is a link.
    #[error("its entry {found:?} is a link, and an artifact has none")]
    Link {
        /// The entry.
        found: String,
    },
    /// An entry that is neither a file nor a directory.
    #[error("its entry {found:?} is neither a file nor a directory")]
    Kind {
        /// The entry.
        found: String,
    },
    /// An entry that was there already.
    #[error("its entry {found:?} stands in it twice")]
    Twice {
        /// The entry.
        found: String,
    },
    /// An entry that the manifest does not list, or not there.
    #[error("its entry {found:?} is none that its manifest lists there")]
    Unlisted {
        /// The entry.
        found: String,
    },
    /// An entry that the manifest lists is not there.
    #[error("it has no {path}, which its manifest lists")]
    Missing {
        /// The entry.
        path: ReleasePath,
    },
    /// An entry of another size.
    #[error("its entry {path} has {found} bytes, and its manifest says {said}")]
    Size {
        /// The entry.
        path: ReleasePath,
        /// The bytes it has.
        found: u64,
        /// The bytes that the manifest says.
        said: u64,
    },
    /// An entry with other bytes.
    #[error("its entry {path} is not the file that its manifest lists: the sha256 differs")]
    Digest {
        /// The entry.
        path: ReleasePath,
    },
    /// An entry with more in its header than an artifact has: a mode, an owner, a time.
    #[error("its entry {found:?} has a header that packing does not write")]
    Header {
        /// The entry.
        found: String,
    },
    /// A beam file of another module or md5.
    #[error("its entry {path} is not the module {module} that its manifest lists")]
    Module {
        /// The entry.
        path: ReleasePath,
        /// The module.
        module: ModuleName,
    },
    /// What it would be unpacked to is there already.
    #[error("{path} is there already and not an empty directory")]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// What it would be unpacked to is a file system of its own, which nothing can take the place of.
    #[error("{path} is a mount point")]
    MountPoint {
        /// Where.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was told to stop.
    #[error("it was stopped")]
    Stopped,
}

/// Checks an artifact, and writes nothing.
///
/// # Errors
/// [`ArchiveError`].
pub fn verify(
    artifact: impl Read,
    trust: &Trust,
    signature: Option<&Signature>,
    limits: &Limits,
    told: Told<'_>,
) -> Result<Examined, ArchiveError> {
    let judge = |digest| trust.judge(digest, signature);
    take(artifact, &judge, limits, told, None).map(|(examined, _)| examined)
}

/// Checks an artifact and unpacks it to `directory`, which is absent or empty: it appears there whole, its manifest with it,
/// or not at all. What is written by then lies beside it, under a name that begins with a dot, and is removed again; a
/// process that is killed leaves it.
///
/// # Errors
/// [`ArchiveError`].
#[expect(
    clippy::disallowed_methods,
    reason = "an artifact is unpacked to the directory that is handed in, by a rename"
)]
pub fn unpack(
    artifact: impl Read,
    directory: &Path,
    trust: &Trust,
    signature: Option<&Signature>,
    limits: &Limits,
    told: Told<'_>,
) -> Result<Examined, ArchiveError> {
    let unwritten = |path: &Path, source| ArchiveError::Write {
        path: path.to_owned(),
        source,
    };
    let occupied = || ArchiveError::Occupied {
        path: directory.to_owned(),
    };
    match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(occupied()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(occupied()),
        Err(error) => return Err(unwritten(directory, error)),
    }
    // One that is there may be called `.`, or by a link.
    let there = fs::canonicalize(directory).ok();
    let directory = there.as_deref().unwrap_or(directory);
    let beside = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut mode = 0o755;
    if there.is_some() {
        let about = |path: &Path| fs::metadata(path).map_err(|source| unwritten(path, source));
        let (here, above) = (about(directory)?, about(beside)?);
        if here.dev() != above.dev() {
            return Err(ArchiveError::MountPoint {
                path: directory.to_owned(),
            });
        }
        mode = here.permissions().mode() & 0o777;
    }
    // Nobody else's until it is whole: what lies in it is what was checked.
    let temporary = tempfile::Builder::new()
        .prefix(".flyhot-unpack-")
        .tempdir_in(beside)
        .map_err(|source| unwritten(beside, source))?;
    let judge = |digest| trust.judge(digest, signature);
    let (examined, manifest) = take(artifact, &judge, limits, told, Some(temporary.path()))?;
    write_new(&temporary.path().join(MANIFEST_FILE), false)
        .and_then(|mut file| file.write_all(&manifest))
        .map_err(|source| unwritten(&temporary.path().join(MANIFEST_FILE), source))?;
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(mode))
        .map_err(|source| unwritten(temporary.path(), source))?;
    // A rename takes an empty directory's place; one that somebody has filled meanwhile stays.
    fs::rename(temporary.path(), directory).map_err(|source| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => occupied(),
        _ => unwritten(directory, source),
    })?;
    // It is no longer there to be removed.
    let _ = temporary.keep();
    Ok(examined)
}

type Judge<'a> = dyn Fn(FileDigest) -> Result<Trusted, TrustError> + 'a;

/// Goes through an artifact once; answers with its manifest's bytes too.
fn take(
    artifact: impl Read,
    judge: &Judge<'_>,
    limits: &Limits,
    told: Told<'_>,
    into: Option<&Path>,
) -> Result<(Examined, Vec<u8>), ArchiveError> {
    let mut stream = Inflated {
        gzip: GzDecoder::new(BufReader::with_capacity(PIECE, Hashed::new(artifact))),
        unpacked: 0,
        limits,
    };
    let (bytes, manifest, trusted) = {
        let mut tar = tar::Archive::new(&mut stream);
        let mut entries = tar.entries().map_err(broken)?.raw(true);
        let bytes = manifest(&mut entries, limits)?;
        // Before a word of it is believed.
        let trusted = judge(FileDigest::of(&bytes))?;
        let manifest = Manifest::from_bytes(&bytes)?;
        limits.admit(&manifest)?;
        contents(&mut entries, &manifest, into, told)?;
        (bytes, manifest, trusted)
    };
    // The first of the two blocks at the end was read to know that it is the end.
    let mut rest = Vec::new();
    let read = (&mut stream)
        .take(BLOCK + 1)
        .read_to_end(&mut rest)
        .map_err(broken)? as u64;
    if read < BLOCK {
        return Err(ArchiveError::Truncated);
    }
    if read > BLOCK || rest.iter().any(|byte| *byte != 0) {
        return Err(ArchiveError::Trailing);
    }
    let mut behind = stream.gzip.into_inner();
    if !behind.fill_buf().map_err(ArchiveError::Read)?.is_empty() {
        return Err(ArchiveError::Trailing);
    }
    let Hashed {
        hash, bytes: size, ..
    } = behind.into_inner();
    let examined = Examined {
        digest: FileDigest(hash.finalize().into()),
        size,
        manifest,
        manifest_digest: FileDigest::of(&bytes),
        trusted,
    };
    Ok((examined, bytes))
}

fn manifest<R: Read>(entries: &mut Entries<'_, R>, limits: &Limits) -> Result<Vec<u8>, ArchiveError> {
    let Some(entry) = entries.next() else {
        return Err(ArchiveError::NoManifest);
    };
    let mut entry = entry.map_err(broken)?;
    if name(&entry) != MANIFEST_FILE || entry.header().entry_type() != EntryType::Regular {
        return Err(ArchiveError::NoManifest);
    }
    plain(&entry, entry.size(), false)?;
    limits.admit_manifest(entry.size())?;
    let mut bytes = Vec::new();
    let (size, read) = (entry.size(), entry.read_to_end(&mut bytes).map_err(broken)?);
    if (read as u64) < size {
        return Err(ArchiveError::Truncated);
    }
    Ok(bytes)
}

fn contents<R: Read>(
    entries: &mut Entries<'_, R>,
    manifest: &Manifest,
    into: Option<&Path>,
    told: Told<'_>,
) -> Result<(), ArchiveError> {
    let own = manifest
        .modules
        .iter()
        .filter(|(_, module)| module.origin == Origin::Own);
    let modules: std::collections::BTreeMap<_, _> = own
        .map(|(name, module)| (&module.path, (name, module.facts.md5)))
        .collect();
    let mut progress = Progress {
        done: 0,
        total: manifest.files.values().map(|file| file.size).sum(),
        told,
    };
    let expected = manifest.entries();
    for (at, (path, file)) in expected.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| expected.get(at));
        let mut entry = listed(
            entries,
            path,
            file.is_none(),
            before.map(|(path, _)| *path),
            manifest,
        )?;
        let Some(file) = file else {
            if entry.size() != 0 {
                return Err(ArchiveError::Kind { found: name(&entry) });
            }
            plain(&entry, 0, true)?;
            if let Some(into) = into {
                make(&into.join(path.as_str()))?;
            }
            continue;
        };
        if entry.size() != file.size {
            return Err(ArchiveError::Size {
                path: (*path).clone(),
                found: entry.size(),
                said: file.size,
            });
        }
        plain(&entry, file.size, file.executable)?;
        let module = modules.get(path);
        if module.is_some() && file.size > MAX_BEAM {
            return Err(ArchiveError::Limit(LimitError::Entry {
                path: path.to_string(),
                found: file.size,
                limit: MAX_BEAM,
            }));
        }
        let kept = copy(&mut entry, path, file, into, module.is_some(), &mut progress)?;
        if let Some((module, md5)) = module {
            let same =
                Beam::parse(&kept).is_ok_and(|beam| beam.module() == module.as_str() && beam.md5() == *md5);
            if !same {
                return Err(ArchiveError::Module {
                    path: (*path).clone(),
                    module: (*module).clone(),
                });
            }
        }
    }
    match entries.next() {
        None => Ok(()),
        Some(entry) => {
            let entry = entry.map_err(broken)?;
            let last = expected.last().map(|(path, _)| *path);
            Err(stranger(&entry, &name(&entry), last, manifest, None))
        }
    }
}

/// The entry that must come now.
fn listed<'a, R: Read>(
    entries: &mut Entries<'a, R>,
    path: &ReleasePath,
    directory: bool,
    before: Option<&ReleasePath>,
    manifest: &Manifest,
) -> Result<Entry<'a, R>, ArchiveError> {
    let missing = || ArchiveError::Missing { path: path.clone() };
    let mut text = path.to_string();
    let mut kind = EntryType::Regular;
    if directory {
        text.push('/');
        kind = EntryType::Directory;
    }
    let mut entry = entries.next().ok_or_else(missing)?.map_err(broken)?;
    let mut found = name(&entry);
    if entry.header().entry_type() == EntryType::GNULongName {
        // No longer than what is expected is read.
        let mut bytes = Vec::new();
        let _ = (&mut entry)
            .take(text.len() as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(broken)?;
        plain(&entry, entry.size(), false)?;
        let whole = entry.size() == bytes.len() as u64 && bytes.pop() == Some(0);
        found = String::from_utf8_lossy(&bytes).into_owned();
        if !whole || text.len() <= NAME_FIELD {
            return Err(ArchiveError::Unlisted { found });
        }
        entry = entries.next().ok_or_else(missing)?.map_err(broken)?;
    }
    if found != text || entry.header().entry_type() != kind {
        return Err(stranger(&entry, &found, before, manifest, Some(path)));
    }
    Ok(entry)
}

/// What is wrong with an entry that is not the one which must come.
fn stranger<R: Read>(
    entry: &Entry<'_, R>,
    found: &str,
    before: Option<&ReleasePath>,
    manifest: &Manifest,
    expected: Option<&ReleasePath>,
) -> ArchiveError {
    let text = || found.to_owned();
    let path = ReleasePath::new(found.strip_suffix('/').unwrap_or(found));
    let is_listed = |path: &ReleasePath| manifest.files.contains_key(path) || manifest.empty.contains(path);
    match (entry.header().entry_type(), path) {
        (EntryType::Symlink | EntryType::Link, _) => ArchiveError::Link { found: text() },
        (_, Err(_)) => ArchiveError::Outside { found: text() },
        (EntryType::Regular | EntryType::Directory, Ok(path)) => match expected {
            _ if before.is_some_and(|before| path <= *before) && is_listed(&path) => {
                ArchiveError::Twice { found: text() }
            }
            Some(expected) if is_listed(&path) && path > *expected => ArchiveError::Missing {
                path: expected.clone(),
            },
            _ => ArchiveError::Unlisted { found: text() },
        },
        (_, Ok(_)) => ArchiveError::Kind { found: text() },
    }
}

/// Takes a file's bytes, which are given back where they are to be kept.
fn copy(
    entry: &mut impl Read,
    path: &ReleasePath,
    file: &File,
    into: Option<&Path>,
    keep: bool,
    progress: &mut Progress<'_>,
) -> Result<Vec<u8>, ArchiveError> {
    let at = into.map(|into| into.join(path.as_str()));
    let unwritten = |source| ArchiveError::Write {
        path: at.clone().unwrap_or_default(),
        source,
    };
    let mut out = match &at {
        Some(at) => {
            if let Some(parent) = at.parent() {
                make(parent)?;
            }
            Some(write_new(at, file.executable).map_err(unwritten)?)
        }
        None => None,
    };
    let mut hash = Sha256::new();
    let mut read = 0;
    let mut kept = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        let got = match entry.read(&mut piece) {
            Ok(0) => break,
            Ok(got) => piece.get(..got).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        read += got.len() as u64;
        hash.update(got);
        if keep {
            kept.extend_from_slice(got);
        }
        if let Some(out) = &mut out {
            out.write_all(got).map_err(unwritten)?;
        }
        if let ControlFlow::Break(()) = progress.add(got.len() as u64) {
            return Err(ArchiveError::Stopped);
        }
    }
    if read < file.size {
        return Err(ArchiveError::Truncated);
    }
    if hash.finalize().as_slice() != file.sha256.0 {
        return Err(ArchiveError::Digest { path: path.clone() });
    }
    Ok(kept)
}

fn make(directory: &Path) -> Result<(), ArchiveError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(|source| ArchiveError::Write {
            path: directory.to_owned(),
            source,
        })
}

fn write_new(path: &Path, executable: bool) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode(executable))
        .open(path)
}

/// Whether the header is the one that packing writes, whatever name is in it.
fn plain<R: Read>(entry: &Entry<'_, R>, size: u64, executable: bool) -> Result<(), ArchiveError> {
    let found = entry.header();
    let mut written = header(size, executable);
    written.set_entry_type(found.entry_type());
    written.as_old_mut().name = found.as_old().name;
    written.set_cksum();
    if written.as_bytes() == found.as_bytes() {
        Ok(())
    } else {
        Err(ArchiveError::Header { found: name(entry) })
    }
}

/// The name in an entry's header.
fn name<R: Read>(entry: &Entry<'_, R>) -> String {
    String::from_utf8_lossy(&entry.header().path_bytes()).into_owned()
}

/// What the reading of gzip or tar said.
fn broken(error: io::Error) -> ArchiveError {
    if let Some(limit) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<LimitError>())
    {
        return ArchiveError::Limit(limit.clone());
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
        _ if error.raw_os_error().is_some() => ArchiveError::Read(error),
        _ => ArchiveError::Damaged(error),
    }
}

/// What gzip inflates to, as far as the ratio allows.
struct Inflated<'a, R: Read> {
    gzip: GzDecoder<BufReader<Hashed<R>>>,
    unpacked: u64,
    limits: &'a Limits,
}

impl<R: Read> Read for Inflated<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.gzip.read(into)?;
        self.unpacked += read as u64;
        let packed = self.gzip.get_ref().get_ref().bytes;
        self.limits
            .admit_ratio(packed, self.unpacked)
            .map_err(io::Error::other)?;
        Ok(read)
    }
}

/// Counts and digests what is read.
struct Hashed<R> {
    from: R,
    hash: Sha256,
    bytes: u64,
}

impl<R> Hashed<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            hash: Sha256::new(),
            bytes: 0,
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.bytes += read as u64;
        self.hash.update(into.get(..read).unwrap_or_default());
        Ok(read)
    }
}

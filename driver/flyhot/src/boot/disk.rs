//! The directory of a release that nobody runs yet: what its next start loads, and how that becomes an artifact's code or what was
//! there first.
//!
//! No store is asked here, nothing is fetched and nobody trusted. Nothing in `lib` is changed: code lies in a directory of its own
//! below `flyhot/code`, whole and synced before a start is led there, and `flyhot/base` keeps what starts were before, both as an
//! upgrade of a running node has them. Whatever a start reads first, one rename turns it: that of its boot file, or of
//! `start_erl.data` once the directory of the version that it will name is as it should be. It is planned on what lies there now,
//! so that one that was killed is gone on with, and nothing is written where nothing differs.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flyhot_artifact::boot::{self, BootFile, BootFileError, CONSOLIDATED, MAX_BOOT};
use flyhot_artifact::{FileDigest, MANIFEST_FILE, Manifest, Origin, ReleasePath};
use thiserror::Error;

/// What ends the names of what is not whole yet; no start looks at it, and whoever boots next takes it away.
const UNFINISHED: &str = "flyhot";

/// What begins the names of directories that a boot made.
const GENERATION: &str = "boot-";

/// Digits of a digest in a name: enough that no two artifacts of a fleet share them; the manifest's digest is compared besides.
const DIGITS: usize = 16;

/// The boot file that scripts start a release by. Others are written before it.
const START: &str = "start.boot";

/// The notes of boots among those of nodes, and how many generations they keep.
const CLAIMS: &str = "boot";
const CLAIMED: usize = 3;

/// Boot files that start no release, whose `.rel` files tools write beside it.
const OTHERS: [&str; 2] = ["start_clean", "no_dot_erlang"];

/// How long another boot from the same directory is waited for: unpacking and syncing takes seconds.
const TURN: Duration = Duration::from_secs(30);

/// Between two looks whether that is done.
const LOOK: Duration = Duration::from_millis(50);

/// Why a release's directory is not read or changed.
#[derive(Debug, Error)]
pub(super) enum DiskError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no release.
    #[error("{} is not the directory of a release: {what}", path.display())]
    NoRelease {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// What was there first is not known.
    #[error("{} starts by what an upgrade or a boot wrote, and does not have what was there first", path.display())]
    NoBase {
        /// Where it should be.
        path: PathBuf,
    },
    /// A boot file is none.
    #[error("{}", path.display())]
    Boot {
        /// Which.
        path: PathBuf,
        /// Why.
        source: BootFileError,
    },
    /// Code that was built for something else than lies here.
    #[error("it does not go with what is installed: {0}")]
    Foreign(String),
    /// Another boot is at work in the same directory.
    #[error("another boot has kept {} to itself for {} s", path.display(), TURN.as_secs())]
    Busy {
        /// The file that is locked.
        path: PathBuf,
    },
}

/// Boot files and `.rel` files of one version, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// What was there before any upgrade or boot.
#[derive(Debug)]
struct Base {
    /// `start_erl.data`.
    data: Vec<u8>,
    erts: String,
    version: String,
    name: String,
    files: Files,
    /// Where its start finds each application.
    places: BTreeMap<String, String>,
}

/// The directory of a release.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// Whether starts lead to code of an upgrade or a boot.
    overlaid: bool,
    base: Base,
    /// Kept from the first change on, and until this is dropped: nobody takes away what another is about to lead to.
    turn: OnceCell<File>,
}

/// What a start is to be: code of a generation.
#[derive(Debug)]
pub(super) struct Start {
    version: String,
    files: Files,
}

/// A file that is to be other than it is.
#[derive(Debug, PartialEq, Eq)]
struct Write {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Whose mode it gets, where it is not there yet.
    like: PathBuf,
}

impl Disk {
    /// Looks at a release.
    pub(super) fn look(root: &Path) -> Result<Self, DiskError> {
        let root = fs::canonicalize(root).map_err(unread(root))?;
        let releases = root.join("releases");
        let data = match read(&releases.join("start_erl.data")) {
            Err(DiskError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(DiskError::NoRelease {
                    path: root,
                    what: "it has no releases/start_erl.data",
                });
            }
            data => data?,
        };
        let named = |data: &[u8]| {
            versions(data).ok_or_else(|| DiskError::NoRelease {
                path: root.clone(),
                what: "its releases/start_erl.data does not name two versions",
            })
        };
        let (erts, version) = named(&data)?;
        let files = files(&releases.join(&version))?;
        let overlaid = files.iter().any(|(name, bytes)| is_overlaid(name, bytes));
        let base = if overlaid {
            let kept = root.join("flyhot/base/releases");
            // Whatever is the matter with it: what starts lead to is there, and is no base.
            let lost = |_| DiskError::NoBase { path: kept.clone() };
            let data = read(&kept.join("start_erl.data")).map_err(lost)?;
            let (erts, version) = named(&data).map_err(lost)?;
            Base::new(data, erts, &kept.join(&version), version).map_err(lost)?
        } else {
            Base::new(data, erts, &releases.join(&version), version)?
        };
        Ok(Self {
            root,
            overlaid,
            base,
            turn: OnceCell::new(),
        })
    }

    /// Where it is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The release's name.
    pub(super) fn name(&self) -> &str {
        &self.base.name
    }

    /// The version of what was there first.
    pub(super) fn version(&self) -> &str {
        &self.base.version
    }

    /// Whether starts lead to code of an upgrade or a boot.
    pub(super) fn is_overlaid(&self) -> bool {
        self.overlaid
    }

    fn code(&self) -> PathBuf {
        self.root.join("flyhot/code")
    }

    /// The generation that holds this artifact, if one is there and every byte of it is what its manifest says.
    pub(super) fn generation(&self, digest: FileDigest, manifest: FileDigest) -> Option<(String, Manifest)> {
        let prefix = prefix(digest);
        let mut names: Vec<_> = names(&self.code())
            .into_iter()
            .filter(|name| name.starts_with(&prefix) && !name.ends_with(UNFINISHED))
            .collect();
        names.sort_unstable();
        names.into_iter().find_map(|name| {
            let directory = self.code().join(&name);
            let bytes = fs::read(directory.join(MANIFEST_FILE)).ok()?;
            if FileDigest::of(&bytes) != manifest {
                return None;
            }
            let manifest = Manifest::from_bytes(&bytes).ok()?;
            let whole = manifest.files.iter().all(|(path, file)| {
                let found = File::open(directory.join(path.as_str())).and_then(FileDigest::read);
                found.is_ok_and(|found| found == (file.sha256, file.size))
            });
            whole.then_some((name, manifest))
        })
    }

    /// Makes a generation of this artifact: `unpack` writes it to the directory that it is told.
    pub(super) fn make<T, E: From<DiskError>>(
        &self,
        digest: FileDigest,
        unpack: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<(String, T), E> {
        let code = self.code();
        self.hold()?;
        make(&code, &self.root)?;
        // What one that was killed left.
        for left in names(&code) {
            let own = left.starts_with(GENERATION) && left.ends_with(UNFINISHED);
            if own || left.starts_with(".flyhot-") {
                let left = code.join(left);
                fs::remove_dir_all(&left).map_err(unwritten(&left))?;
            }
        }
        let name = (1..)
            .map(|number: u64| format!("{}{number}", prefix(digest)))
            .find(|name| fs::symlink_metadata(code.join(name)).is_err())
            .unwrap_or_default();
        let unfinished = code.join(format!("{name}.{UNFINISHED}"));
        let unpacked = unpack(&unfinished)?;
        like(&unfinished, &self.root.join("releases"))?;
        synced_below(&unfinished)?;
        let place = code.join(&name);
        // Upgrades of nodes that share the directory leave it alone from here on.
        self.claim(&name)?;
        fs::rename(&unfinished, &place).map_err(unwritten(&place))?;
        for directory in [&code, &self.root.join("flyhot"), &self.root] {
            synced(directory)?;
        }
        Ok((name, unpacked))
    }

    /// What a start of a generation is here.
    pub(super) fn start(&self, generation: &str, manifest: &Manifest) -> Result<Start, DiskError> {
        let foreign = |what: String| Err(DiskError::Foreign(what));
        let (wanted, installed) = (&manifest.toolchain.erts, &self.base.erts);
        if wanted != installed {
            return foreign(format!(
                "it was built with ERTS {wanted}, and {installed} is here"
            ));
        }
        let version = manifest.version.clone();
        // It becomes the name of a directory.
        if version.contains('/') || ReleasePath::new(&version).is_err() {
            return foreign(format!("{version:?} cannot be the version of a release"));
        }
        let releases = self.code().join(generation).join("releases").join(&version);
        let mut placed = Files::new();
        for (name, bytes) in files(&releases)? {
            let bytes = if is_boot(&name) {
                let boot = BootFile::read(&bytes).map_err(|source| DiskError::Boot {
                    path: releases.join(&name),
                    source,
                })?;
                boot.placed(|path| self.placed(path, generation, manifest))?
            } else {
                bytes
            };
            placed.insert(name, bytes);
        }
        if !placed.keys().any(|name| is_boot(name)) {
            return foreign("it has no boot file".to_owned());
        }
        Ok(Start {
            version,
            files: placed,
        })
    }

    /// Where a start finds here what an artifact's own boot file looks for in `path`.
    fn placed(&self, path: &str, generation: &str, manifest: &Manifest) -> Result<String, DiskError> {
        let owner = boot::owner(path);
        let below = match manifest.apps.get(owner) {
            Some(app) if app.origin == Origin::Own => app.dir.as_ref().map(|dir| format!("{dir}/ebin")),
            None if owner == CONSOLIDATED => Some(format!("releases/{}/{CONSOLIDATED}", manifest.version)),
            _ => None,
        };
        let there = |below: &String| self.code().join(generation).join(below).is_dir();
        if let Some(below) = below.filter(there)
            && let Some(root) = boot::root(path)
        {
            // A start goes up from there.
            for directory in ["lib", "releases"] {
                if fs::canonicalize(self.root.join(directory).join(".."))
                    .ok()
                    .as_ref()
                    != Some(&self.root)
                {
                    return Err(DiskError::Foreign(format!(
                        "its {directory} is a link to elsewhere"
                    )));
                }
            }
            return Ok(boot::overlay(&root, generation, &below));
        }
        match self.base.places.get(owner) {
            Some(here) if boot::directory(here) == boot::directory(path) => Ok(here.clone()),
            Some(here) => Err(DiskError::Foreign(format!(
                "it wants {}, and {} is here",
                boot::directory(path),
                boot::directory(here)
            ))),
            None => Err(DiskError::Foreign(format!(
                "it wants {}, which is neither in it nor here",
                boot::directory(path)
            ))),
        }
    }

    /// Has the next start be this one, or what was there first; answers with how many files were written.
    pub(super) fn settle(&self, start: Option<&Start>) -> Result<u64, DiskError> {
        let wanted = self.wanted(start)?;
        let mut writes = Vec::new();
        for write in wanted {
            if !is_there(&write)? {
                writes.push(write);
            }
        }
        if writes.is_empty() {
            return Ok(0);
        }
        self.hold()?;
        let before = self.in_use();
        if let Some(start) = start
            && !self.overlaid
        {
            self.keep(start)?;
        }
        for write in &writes {
            put(write)?;
        }
        if start.is_none() {
            self.forget_more()?;
        }
        self.sweep(&before);
        Ok(writes.len() as u64)
    }

    /// All that starts read, in the order in which it is to be written.
    fn wanted(&self, start: Option<&Start>) -> Result<Vec<Write>, DiskError> {
        let base = &self.base;
        let (version, files) = start.map_or((&base.version, &base.files), |start| {
            (&start.version, &start.files)
        });
        let own = self.root.join("releases").join(&base.version);
        let next = self.root.join("releases").join(version);
        let same = *version == base.version;
        let mut all = Vec::new();
        // Some scripts have their version in them and look into no other directory.
        let first: Files = if same {
            base.files.iter().chain(files).map(cloned).collect()
        } else {
            let boots = files
                .iter()
                .filter(|(name, _)| is_boot(name) && base.files.contains_key(*name));
            base.files.iter().chain(boots).map(cloned).collect()
        };
        all.extend(ordered(&first, &own, &own));
        if !same {
            for name in names(&own).into_iter().filter(|name| configures(name)) {
                let (from, to) = (own.join(&name), next.join(&name));
                if from.is_file() && fs::symlink_metadata(&to).is_err() {
                    all.push(Write {
                        bytes: read(&from)?,
                        path: to,
                        like: from,
                    });
                }
            }
            all.extend(ordered(files, &next, &own));
        }
        let data = self.root.join("releases/start_erl.data");
        let text = if same {
            base.data.clone()
        } else {
            let end = if base.data.ends_with(b"\n") { "\n" } else { "" };
            format!("{} {version}{end}", base.erts).into_bytes()
        };
        all.push(Write {
            like: data.clone(),
            path: data,
            bytes: text,
        });
        // Nobody starts from these by himself. What they were first is no longer known once this start's is kept.
        let others = self.others(&[version, &base.version]);
        Ok(if self.overlaid || start.is_none() {
            all.into_iter().chain(others).collect()
        } else {
            others.into_iter().chain(all).collect()
        })
    }

    /// Starts of upgrades and boots in the directories of other versions: they become what they were.
    fn others(&self, but: &[&String]) -> Vec<Write> {
        let releases = self.root.join("releases");
        let mut writes = Vec::new();
        for version in names(&releases) {
            let directory = releases.join(&version);
            if but.contains(&&version) || !directory.is_dir() {
                continue;
            }
            for (name, bytes) in files(&directory).unwrap_or_default() {
                let kept = self.root.join("flyhot/base/releases").join(&version).join(&name);
                let first = fs::read(kept)
                    .ok()
                    .or_else(|| self.base.files.get(&name).cloned());
                let path = directory.join(&name);
                if let Some(first) = first.filter(|_| is_overlaid(&name, &bytes)) {
                    writes.push(Write {
                        like: path.clone(),
                        path,
                        bytes: first,
                    });
                }
            }
        }
        writes
    }

    /// Keeps what starts are now, before the first of them is another.
    fn keep(&self, start: &Start) -> Result<(), DiskError> {
        let kept = self.root.join("flyhot/base");
        let unfinished = kept.with_extension(UNFINISHED);
        for old in [&unfinished, &kept] {
            match fs::remove_dir_all(old) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(unwritten(old))?,
            }
        }
        let releases = unfinished.join("releases");
        let mut all = vec![(PathBuf::from("start_erl.data"), self.base.data.clone())];
        let below = |version: &str, files: Files| {
            let version = PathBuf::from(version);
            files
                .into_iter()
                .map(move |(name, bytes)| (version.join(name), bytes))
        };
        all.extend(below(&self.base.version, self.base.files.clone()));
        let next = self.root.join("releases").join(&start.version);
        if start.version != self.base.version && next.is_dir() {
            let mut there = files(&next)?;
            there.retain(|name, bytes| !is_overlaid(name, bytes));
            all.extend(below(&start.version, there));
        }
        for (path, bytes) in all {
            let write = Write {
                like: self.root.join("releases").join(&path),
                path: releases.join(&path),
                bytes,
            };
            put(&write)?;
        }
        synced_below(&unfinished)?;
        fs::rename(&unfinished, &kept).map_err(unwritten(&kept))?;
        synced(&self.root.join("flyhot"))?;
        synced(&self.root)
    }

    /// Generations that starts lead to, and those that nodes say they use.
    fn in_use(&self) -> BTreeSet<String> {
        let releases = self.root.join("releases");
        let boots = names(&releases).into_iter().flat_map(|version| {
            let files = files(&releases.join(version)).unwrap_or_default();
            files
                .into_iter()
                .filter(|(name, _)| is_boot(name))
                .map(|(_, bytes)| bytes)
        });
        let paths: Vec<String> = boots
            .filter_map(|bytes| BootFile::read(&bytes).ok())
            .flat_map(|boot| boot.paths().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let nodes = self.root.join("flyhot/nodes");
        let said: Vec<String> = names(&nodes)
            .into_iter()
            .filter_map(|node| fs::read_to_string(nodes.join(node)).ok())
            .collect();
        let uses = |name: &String| {
            let part = format!("/flyhot/code/{name}/");
            paths.iter().any(|path| path.contains(&part))
                || said.iter().any(|text| text.lines().any(|line| line == name))
        };
        names(&self.code()).into_iter().filter(uses).collect()
    }

    /// Takes boot files away that an artifact had and what was there first does not.
    fn forget_more(&self) -> Result<(), DiskError> {
        let own = self.root.join("releases").join(&self.base.version);
        for (name, bytes) in files(&own)? {
            if !self.base.files.contains_key(&name) && is_overlaid(&name, &bytes) {
                let path = own.join(&name);
                fs::remove_file(&path).map_err(unwritten(&path))?;
            }
        }
        Ok(())
    }

    /// Notes that a generation is used, as nodes note theirs; the latest few are kept, since nobody knows who runs.
    fn claim(&self, generation: &str) -> Result<(), DiskError> {
        let nodes = self.root.join("flyhot/nodes");
        make(&nodes, &self.root)?;
        let claims = nodes.join(CLAIMS);
        let text = fs::read_to_string(&claims).unwrap_or_default();
        let others = text.lines().filter(|line| *line != generation);
        let lines: Vec<_> = std::iter::once(generation).chain(others).take(CLAIMED).collect();
        put(&Write {
            like: self.root.join("releases/start_erl.data"),
            path: claims,
            bytes: lines.join("\n").into_bytes(),
        })
    }

    /// Takes generations of earlier boots away. Somebody may still run from what starts named a moment ago.
    fn sweep(&self, before: &BTreeSet<String>) {
        let now = self.in_use();
        for name in names(&self.code()) {
            if name.starts_with(GENERATION) && !before.contains(&name) && !now.contains(&name) {
                // What cannot be removed only takes room.
                let _ = fs::remove_dir_all(self.code().join(name));
            }
        }
    }

    /// Waits until no other boot works in the directory.
    pub(super) fn hold(&self) -> Result<(), DiskError> {
        if self.turn.get().is_some() {
            return Ok(());
        }
        make(&self.root.join("flyhot"), &self.root)?;
        let path = self.root.join("flyhot/boot.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(unwritten(&path))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => {
                    // It was empty, and nobody else fills it.
                    let _ = self.turn.set(file);
                    return Ok(());
                }
                Err(TryLockError::WouldBlock) if began.elapsed() < TURN => std::thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => return Err(DiskError::Busy { path }),
                Err(TryLockError::Error(source)) => return Err(DiskError::Write { path, source }),
            }
        }
    }
}

impl Base {
    fn new(data: Vec<u8>, erts: String, directory: &Path, version: String) -> Result<Self, DiskError> {
        let files = files(directory)?;
        let boots = files.iter().filter(|(name, _)| is_boot(name));
        // The one that scripts start by, where there is one.
        let own = |name: &str| {
            let stem = name.trim_end_matches(".boot");
            !OTHERS.contains(&stem) && files.contains_key(&format!("{stem}.rel"))
        };
        let Some((name, bytes)) = boots.max_by_key(|(name, _)| (*name == START, own(name))) else {
            return Err(DiskError::NoRelease {
                path: directory.to_owned(),
                what: "it has no boot file",
            });
        };
        let boot = BootFile::read(bytes).map_err(|source| DiskError::Boot {
            path: directory.join(name),
            source,
        })?;
        let place = |path: &str| (boot::owner(path).to_owned(), path.to_owned());
        Ok(Self {
            data,
            erts,
            version,
            name: boot.name().to_owned(),
            places: boot.paths().map(place).collect(),
            files,
        })
    }
}

/// The versions of ERTS and of the release in a `start_erl.data`.
fn versions(data: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(data).ok()?;
    let mut words = text.split_whitespace();
    let (erts, version) = (words.next()?, words.next()?);
    let plain = words.next().is_none() && !version.contains('/') && version != "..";
    plain.then(|| (erts.to_owned(), version.to_owned()))
}

fn prefix(digest: FileDigest) -> String {
    let digits: String = digest.to_string().chars().take(DIGITS).collect();
    format!("{GENERATION}{digits}-")
}

fn is_boot(name: &str) -> bool {
    name.ends_with(".boot")
}

fn is_overlaid(name: &str, bytes: &[u8]) -> bool {
    is_boot(name) && BootFile::read(bytes).is_ok_and(|boot| boot.is_overlaid())
}

/// Whether a file of a version configures what starts from there.
fn configures(name: &str) -> bool {
    let kind = Path::new(name).extension().and_then(|kind| kind.to_str());
    !matches!(kind, Some("boot" | "script" | "rel" | UNFINISHED))
}

fn cloned((name, bytes): (&String, &Vec<u8>)) -> (String, Vec<u8>) {
    (name.clone(), bytes.clone())
}

/// The files of a version, its start last.
fn ordered(files: &Files, directory: &Path, like: &Path) -> Vec<Write> {
    let mut names: Vec<_> = files.keys().collect();
    names.sort_by_key(|name| (is_boot(name), *name == START));
    let write = |name: &String| Write {
        path: directory.join(name),
        bytes: files.get(name).cloned().unwrap_or_default(),
        like: like.join(name),
    };
    names.into_iter().map(write).collect()
}

/// The boot files and `.rel` files in the directory of a version.
fn files(directory: &Path) -> Result<Files, DiskError> {
    let entries = fs::read_dir(directory).map_err(unread(directory))?;
    let mut files = Files::new();
    for entry in entries {
        let path = entry.map_err(unread(directory))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if (is_boot(name) || name.ends_with(".rel")) && path.is_file() {
            files.insert(name.to_owned(), read(&path)?);
        }
    }
    Ok(files)
}

/// What lies in a directory; nothing where it cannot be listed.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unread(path))?;
    // One byte more than a boot file may have is an error of whoever reads it as one.
    file.take(MAX_BOOT + 1)
        .read_to_end(&mut bytes)
        .map_err(unread(path))?;
    Ok(bytes)
}

fn is_there(write: &Write) -> Result<bool, DiskError> {
    match read(&write.path) {
        Ok(bytes) => Ok(bytes == write.bytes),
        Err(DiskError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file appears whole and synced in the place of another.
fn put(write: &Write) -> Result<(), DiskError> {
    let path = &write.path;
    let parent = path.parent().unwrap_or(Path::new("."));
    if !parent.is_dir() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(unwritten(parent))?;
        synced(parent.parent().unwrap_or(Path::new(".")))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".boot.");
    name.push(UNFINISHED);
    let unfinished = path.with_file_name(name);
    let written = File::create(&unfinished)
        .and_then(|mut file| {
            let there = [path, &write.like]
                .into_iter()
                .find_map(|like| fs::metadata(like).ok());
            if let Some(there) = there {
                file.set_permissions(fs::Permissions::from_mode(there.permissions().mode() & 0o777))?;
            }
            file.write_all(&write.bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&unfinished, path));
    if let Err(source) = written {
        // It would take room that is short already.
        let _ = fs::remove_file(&unfinished);
        return Err(unwritten(path)(source));
    }
    synced(parent)
}

/// A directory below `root`, whose mode is that of `root/releases`.
fn make(directory: &Path, root: &Path) -> Result<(), DiskError> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent().filter(|parent| *parent != root) {
        make(parent, root)?;
    }
    fs::create_dir(directory).map_err(unwritten(directory))?;
    like(directory, &root.join("releases"))
}

fn like(path: &Path, other: &Path) -> Result<(), DiskError> {
    let about = fs::metadata(other).map_err(unread(other))?;
    fs::set_permissions(
        path,
        fs::Permissions::from_mode(about.permissions().mode() & 0o777),
    )
    .map_err(unwritten(path))
}

fn synced(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(unwritten(path))
}

/// A directory with everything in it.
fn synced_below(directory: &Path) -> Result<(), DiskError> {
    for entry in fs::read_dir(directory).map_err(unread(directory))? {
        let path = entry.map_err(unread(directory))?.path();
        if path.is_dir() {
            synced_below(&path)?;
        } else {
            synced(&path)?;
        }
    }
    synced(directory)
}

fn unread(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError::Read {
        path: path.to_owned(),
        source,
    }
}

fn unwritten(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{script, {"shop", "1.0.0"}, [{path, [Path]}]}`
    fn boot_file(path: &str) -> Vec<u8> {
        let text = |text: &str| [&[107, 0, text.len() as u8], text.as_bytes()].concat();
        [
            &[131, 104, 3, 119, 6][..],
            b"script",
            &[104, 2],
            &text("shop"),
            &text("1.0.0"),
            &[108, 0, 0, 0, 1, 104, 2, 119, 4],
            b"path",
            &[108, 0, 0, 0, 1],
            &text(path),
            &[106, 106],
        ]
        .concat()
    }

    fn release() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let releases = directory.path().join("releases");
        fs::create_dir_all(releases.join("1.0.0")).unwrap();
        for (name, bytes) in [
            ("start_erl.data", b"13.1.5 1.0.0\n".to_vec()),
            ("1.0.0/shop.rel", b"first".to_vec()),
            ("1.0.0/start.boot", boot_file("$ROOT/lib/shop-1.0.0/ebin")),
            ("1.0.0/start_clean.boot", boot_file("$ROOT/lib/shop-1.0.0/ebin")),
            ("1.0.0/sys.config", b"[].".to_vec()),
        ] {
            fs::write(releases.join(name), bytes).unwrap();
        }
        directory
    }

    fn start(version: &str, generation: &str) -> Start {
        let boot = boot_file(&format!("$ROOT/lib/../flyhot/code/{generation}/lib/shop/ebin"));
        Start {
            version: version.to_owned(),
            files: [
                ("start.boot", boot.clone()),
                ("start_clean.boot", boot),
                ("shop.rel", b"next".to_vec()),
            ]
            .map(|(name, bytes)| (name.to_owned(), bytes))
            .into(),
        }
    }

    /// What differs, in the order in which it would be written.
    fn planned(root: &Path, start: Option<&Start>) -> Vec<String> {
        let disk = Disk::look(root).unwrap();
        let writes = disk.wanted(start).unwrap().into_iter();
        let releases = disk.root().join("releases");
        let differs = writes.filter(|write| !is_there(write).unwrap());
        differs
            .map(|write| write.path.strip_prefix(&releases).unwrap().display().to_string())
            .collect()
    }

    /// Everything below `releases`.
    fn everything(root: &Path) -> BTreeMap<String, Vec<u8>> {
        let releases = root.join("releases");
        let mut all = BTreeMap::new();
        for name in names(&releases) {
            let path = releases.join(&name);
            if path.is_file() {
                all.insert(name, fs::read(path).unwrap());
                continue;
            }
            for file in names(&path) {
                all.insert(format!("{name}/{file}"), fs::read(path.join(&file)).unwrap());
            }
        }
        all
    }

    #[test]
    fn what_a_start_reads_first_is_written_last() {
        let release = release();
        let root = release.path();
        assert_eq!(planned(root, None), [] as [&str; 0]);
        // A start of another version looks into its directory only once start_erl.data says so.
        let next = start("2.0.0", "boot-1");
        let order = [
            "1.0.0/start_clean.boot",
            "1.0.0/start.boot",
            "2.0.0/sys.config",
            "2.0.0/shop.rel",
            "2.0.0/start_clean.boot",
            "2.0.0/start.boot",
            "start_erl.data",
        ];
        assert_eq!(planned(root, Some(&next)), order);
        let same = start("1.0.0", "boot-1");
        assert_eq!(
            planned(root, Some(&same)),
            ["1.0.0/shop.rel", "1.0.0/start_clean.boot", "1.0.0/start.boot"]
        );
    }

    #[test]
    fn from_one_start_to_any_other_and_back_to_the_base() {
        let release = release();
        let root = release.path();
        let settle = |start: Option<&Start>| Disk::look(root).unwrap().settle(start).unwrap();
        let first = everything(root);
        for start in [
            start("1.0.0", "boot-1"),
            start("2.0.0", "boot-2"),
            start("1.1.0", "boot-3"),
            start("1.1.0", "boot-4"),
        ] {
            assert_ne!(settle(Some(&start)), 0);
            assert_eq!(settle(Some(&start)), 0);
            let disk = Disk::look(root).unwrap();
            assert!(disk.is_overlaid());
            assert_eq!((disk.version(), disk.name()), ("1.0.0", "shop"));
            let now = everything(root);
            assert_eq!(
                now[&format!("{}/start.boot", start.version)],
                start.files["start.boot"]
            );
            assert_eq!(
                now["start_erl.data"],
                format!("13.1.5 {}\n", start.version).as_bytes()
            );
        }
        assert_ne!(settle(None), 0);
        assert_eq!(settle(None), 0);
        let last = everything(root);
        assert!(
            first.iter().all(|(name, bytes)| last.get(name) == Some(bytes)),
            "{:?}",
            last.keys()
        );
        assert!(last.iter().all(|(name, bytes)| !is_overlaid(name, bytes)));
    }

    #[test]
    fn a_start_without_what_was_there_first_is_known_as_such() {
        let release = release();
        let root = release.path();
        Disk::look(root)
            .unwrap()
            .settle(Some(&start("1.0.0", "boot-1")))
            .unwrap();
        fs::remove_dir_all(root.join("flyhot/base")).unwrap();
        assert!(matches!(Disk::look(root), Err(DiskError::NoBase { .. })));
        fs::write(root.join("releases/start_erl.data"), "13.1.5 ../../elsewhere").unwrap();
        assert!(matches!(Disk::look(root), Err(DiskError::NoRelease { .. })));
    }
}

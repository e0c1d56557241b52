//! The disk of one node: what is done to its release directory, written down by a library that is loaded before any other
//! (`fixtures/disk`), what a power cut would leave of it, and a disk that takes no more.
//!
//! A power cut keeps what was synced, and of the rest anything: of changes of directories any of them, each whole, a rename too;
//! of what was written to a file some of it. That is more than any file system loses (POSIX, fsync(2)).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::otp::Otp;
use crate::release::{Release, build_once, run};
use crate::rounds::Random;
use crate::scratch::{Scratch, workspace};
use crate::variant::copy;

/// The library, compiled by the compiler that Rust links with.
pub(crate) fn library(otp: Otp) -> PathBuf {
    let source = workspace().join("tests/fixtures/disk/disk.c");
    let built = build_once("disk", otp, &[source], "", |_, sources, into| {
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]);
        command.arg(into.join("disk.so")).arg(&sources[0]).arg("-ldl");
        run(command);
    });
    built.join("disk.so")
}

/// What is the matter with a disk that takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// No room for another file nor for more in one; renaming and removing go on.
    Full,
    /// Mounted for reading alone.
    ReadOnly,
    /// Everything belongs to another user.
    Forbidden,
    /// None: whoever changes something next is killed.
    Killed,
}

impl Ailment {
    /// The number of its error on Linux: ENOSPC, EROFS, EACCES; or what the library takes for a kill.
    pub(crate) fn errno(self) -> i32 {
        match self {
            Self::Full => 28,
            Self::ReadOnly => 30,
            Self::Forbidden => 13,
            Self::Killed => 1000,
        }
    }
}

/// One line of the library's, its paths below the directory.
#[derive(Debug, Clone)]
enum Change {
    Made(PathBuf),
    Emptied(PathBuf),
    Written(PathBuf, usize, Vec<u8>),
    Synced(PathBuf),
    Renamed(PathBuf, PathBuf),
    Linked(PathBuf, PathBuf),
    Symlinked(String, PathBuf),
    Removed(PathBuf),
    Directory(PathBuf),
    Mode(PathBuf, u32),
}

/// A program that is not a node's, whose changes of a release directory are written down.
#[derive(Debug)]
pub struct Observed {
    directory: PathBuf,
    scratch: Scratch,
}

impl Observed {
    /// Whatever is run with [`Observed::variables`] from now on.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.canonicalize().expect("it is there"),
            scratch: Scratch::new("observed"),
        }
    }

    /// After `count` more changes it is this that happens.
    pub fn ail(self, count: u64, ailment: Ailment) -> Self {
        fs::write(self.fails(), format!("{count} {}", ailment.errno())).expect("our own directory");
        self
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("journal")
    }

    fn fails(&self) -> PathBuf {
        self.scratch.path().join("ailment")
    }

    /// What its environment has to have.
    pub fn variables(&self, otp: Otp) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", library(otp)),
            ("DISK_BELOW", self.directory.clone()),
            ("DISK_LOG", self.log()),
            ("DISK_FAILS", self.fails()),
        ]
        .map(|(name, path)| (name, path.display().to_string()))
    }

    /// What it did, to a copy of `before`.
    pub fn journal(&self, before: &Release) -> Journal {
        Journal::read(&self.log(), &self.directory, before)
    }
}

/// What was done to a release directory since its node was started.
#[derive(Debug)]
pub struct Journal {
    before: Release,
    changes: Vec<Change>,
}

impl Journal {
    /// From what the library wrote of `directory`, which was a copy of `before`.
    pub(crate) fn read(log: &Path, directory: &Path, before: &Release) -> Self {
        let mut rest = &fs::read(log).unwrap_or_default()[..];
        let mut changes = Vec::new();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8(rest[..end].to_vec()).expect("our own paths");
            rest = &rest[end + 1..];
            let words: Vec<&str> = line.split('\t').collect();
            let path = |at: usize| {
                let path = Path::new(words[at]).strip_prefix(directory);
                path.expect("below the directory").to_owned()
            };
            changes.push(match words[0] {
                "c" => Change::Made(path(1)),
                "t" => Change::Emptied(path(1)),
                "w" => {
                    let number = |at: usize| words[at].parse::<usize>().expect("a number");
                    let (data, behind) = rest.split_at(number(3));
                    rest = behind;
                    Change::Written(path(1), number(2), data.to_vec())
                }
                "s" => Change::Synced(path(1)),
                "r" => Change::Renamed(path(1), path(2)),
                "l" => Change::Linked(path(1), path(2)),
                "y" => Change::Symlinked(words[1].to_owned(), path(2)),
                "u" | "d" => Change::Removed(path(1)),
                "m" => Change::Directory(path(1)),
                "p" => Change::Mode(path(2), u32::from_str_radix(words[1], 8).expect("a mode")),
                other => panic!("the library wrote {other:?}"),
            });
        }
        Self {
            before: before.clone(),
            changes,
        }
    }

    /// How many changes and syncs there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many of the first `until` a disk with this ailment would have counted.
    pub fn counted(&self, until: usize, ailment: Ailment) -> u64 {
        let counts = |change: &&Change| match change {
            Change::Synced(_) => false,
            Change::Made(_)
            | Change::Written(..)
            | Change::Linked(..)
            | Change::Symlinked(..)
            | Change::Directory(_) => true,
            Change::Emptied(_) | Change::Renamed(..) | Change::Removed(_) | Change::Mode(..) => {
                ailment != Ailment::Full
            }
        };
        self.changes[..until].iter().filter(counts).count() as u64
    }

    /// After how many of them a file was put at `path` by a rename for the first time.
    pub fn renamed_onto(&self, path: &str) -> Option<usize> {
        let onto = |change: &Change| matches!(change, Change::Renamed(_, to) if to == Path::new(path));
        self.changes.iter().position(onto).map(|at| at + 1)
    }

    /// After how many of them, not before `from`, the directory `path` was synced.
    pub fn synced(&self, path: &str, from: usize) -> Option<usize> {
        let synced = |change: &Change| matches!(change, Change::Synced(what) if what == Path::new(path));
        let behind = self.changes.get(from..)?;
        behind.iter().position(synced).map(|at| from + at + 1)
    }

    /// Makes `into` what a power cut after the first `cut` of them left.
    ///
    /// # Panics
    /// If the library wrote what cannot have happened.
    pub fn power_cut(&self, cut: usize, random: &mut Random, into: &Path) -> Release {
        let mut disk = Disk::of(self.before.directory());
        for change in &self.changes[..cut] {
            disk.apply(change);
        }
        disk.cut(random);
        copy(self.before.directory(), into);
        disk.write(ROOT, self.before.directory(), into);
        Release::at(self.before.otp(), into.to_owned())
    }
}

type Id = usize;

/// The directory itself.
const ROOT: Id = 0;

/// Names of a directory.
type Names = BTreeMap<String, Id>;

#[derive(Debug)]
enum Object {
    Directory { kept: Names, now: Names },
    File { kept: State, now: State },
    Symlink(PathBuf),
}

/// A file's bytes and mode: both last when it is synced.
#[derive(Debug, Clone)]
struct State {
    content: Content,
    mode: u32,
}

#[derive(Debug, Clone)]
enum Content {
    /// As in this file of the release that the node was started from.
    Original(PathBuf),
    Bytes(Vec<u8>),
}

/// One change of directories, whole or not at all: which name leads where from then on.
type Edit = Vec<(Id, String, Option<Id>)>;

/// What lasts, and what is so until the power goes.
#[derive(Debug, Default)]
struct Disk {
    objects: Vec<Object>,
    pending: Vec<Edit>,
}

impl Disk {
    fn of(directory: &Path) -> Self {
        let mut disk = Self::default();
        disk.add(directory);
        disk
    }

    fn add(&mut self, path: &Path) -> Id {
        let id = self.objects.len();
        let about = fs::symlink_metadata(path).expect("the release is there");
        if about.is_symlink() {
            self.objects
                .push(Object::Symlink(fs::read_link(path).expect("it is one")));
        } else if about.is_dir() {
            self.objects.push(Object::Directory {
                kept: Names::new(),
                now: Names::new(),
            });
            let entries = fs::read_dir(path).expect("it is one").flatten();
            let names: Names = entries
                .map(|entry| {
                    let name = String::from_utf8_lossy(entry.file_name().as_bytes()).into_owned();
                    (name, self.add(&entry.path()))
                })
                .collect();
            self.objects[id] = Object::Directory {
                kept: names.clone(),
                now: names,
            };
        } else {
            let state = State {
                content: Content::Original(path.to_owned()),
                mode: about.permissions().mode(),
            };
            self.objects.push(Object::File {
                kept: state.clone(),
                now: state,
            });
        }
        id
    }

    fn file(&mut self) -> Id {
        let state = State {
            content: Content::Bytes(Vec::new()),
            mode: 0o644,
        };
        self.objects.push(Object::File {
            kept: state.clone(),
            now: state,
        });
        self.objects.len() - 1
    }

    fn find(&self, path: &Path) -> Id {
        path.iter().fold(ROOT, |at, name| {
            let Object::Directory { now, .. } = &self.objects[at] else {
                panic!("{} leads through a file or a link", path.display())
            };
            let found = now.get(&*name.to_string_lossy());
            *found.unwrap_or_else(|| panic!("{} is not there", path.display()))
        })
    }

    /// The directory that a path lies in, and its name there.
    fn place(&self, path: &Path) -> (Id, String) {
        let name = path.file_name().expect("not the directory itself");
        let parent = path.parent().expect("not the directory itself");
        (self.find(parent), name.to_string_lossy().into_owned())
    }

    fn edit(&mut self, parts: Vec<(&Path, Option<Id>)>) {
        let edit: Edit = parts
            .into_iter()
            .map(|(path, id)| {
                let (directory, name) = self.place(path);
                (directory, name, id)
            })
            .collect();
        for (directory, name, id) in &edit {
            if let Object::Directory { now, .. } = &mut self.objects[*directory] {
                set(now, name, *id);
            }
        }
        self.pending.push(edit);
    }

    fn lasts(&mut self, edit: &Edit) {
        for (directory, name, id) in edit {
            if let Object::Directory { kept, .. } = &mut self.objects[*directory] {
                set(kept, name, *id);
            }
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Made(path) => {
                let id = self.file();
                self.edit(vec![(path, Some(id))]);
            }
            Change::Directory(path) => {
                self.objects.push(Object::Directory {
                    kept: Names::new(),
                    now: Names::new(),
                });
                self.edit(vec![(path, Some(self.objects.len() - 1))]);
            }
            Change::Symlinked(target, path) => {
                self.objects.push(Object::Symlink(target.into()));
                self.edit(vec![(path, Some(self.objects.len() - 1))]);
            }
            Change::Linked(from, to) => self.edit(vec![(to, Some(self.find(from)))]),
            Change::Renamed(from, to) => self.edit(vec![(from, None), (to, Some(self.find(from)))]),
            Change::Removed(path) => self.edit(vec![(path, None)]),
            Change::Emptied(path) => {
                let id = self.find(path);
                if let Object::File { now, .. } = &mut self.objects[id] {
                    now.content = Content::Bytes(Vec::new());
                }
            }
            Change::Written(path, offset, data) => {
                let id = self.find(path);
                if let Object::File { now, .. } = &mut self.objects[id] {
                    let mut bytes = read(&now.content);
                    bytes.resize(bytes.len().max(offset + data.len()), 0);
                    bytes[*offset..offset + data.len()].copy_from_slice(data);
                    now.content = Content::Bytes(bytes);
                }
            }
            Change::Mode(path, new) => {
                let id = self.find(path);
                if let Object::File { now, .. } = &mut self.objects[id] {
                    now.mode = *new;
                }
            }
            Change::Synced(path) => {
                let id = self.find(path);
                match &mut self.objects[id] {
                    Object::File { kept, now } => *kept = now.clone(),
                    Object::Directory { .. } => {
                        let touches = |edit: &mut Edit| edit.iter().any(|(directory, ..)| *directory == id);
                        let lasting: Vec<Edit> = self.pending.extract_if(.., touches).collect();
                        for edit in &lasting {
                            self.lasts(edit);
                        }
                    }
                    Object::Symlink(_) => {}
                }
            }
        }
    }

    /// Decides what of the rest lasts: nothing, everything, or some of it.
    fn cut(&mut self, random: &mut Random) {
        let luck = random.below(3);
        let mut lucky = || match luck {
            0 => false,
            1 => true,
            _ => random.below(2) == 0,
        };
        for edit in std::mem::take(&mut self.pending) {
            if lucky() {
                self.lasts(&edit);
            }
        }
        for object in &mut self.objects {
            if let Object::File { kept, now } = object
                && lucky()
            {
                *kept = now.clone();
            }
        }
        for object in &mut self.objects {
            if let Object::File { kept, now } = object
                && let (Content::Bytes(old), Content::Bytes(new)) = (&kept.content, &now.content)
                && old != new
                && luck == 2
            {
                let length = usize::try_from(random.below(new.len() as u64 + 1)).unwrap_or(0);
                kept.content = Content::Bytes(new[..length].to_vec());
            }
        }
    }

    /// Makes the directory `to`, a copy of the original one, what was kept.
    fn write(&self, id: Id, original: &Path, to: &Path) {
        match &self.objects[id] {
            Object::Directory { kept, .. } => {
                if !to.is_dir() {
                    fs::create_dir(to).expect("our own directory");
                }
                for entry in fs::read_dir(to).expect("our own directory").flatten() {
                    if !kept.contains_key(&*entry.file_name().to_string_lossy()) {
                        match entry.path().is_dir() && !entry.path().is_symlink() {
                            true => fs::remove_dir_all(entry.path()),
                            false => fs::remove_file(entry.path()),
                        }
                        .expect("our own directory");
                    }
                }
                for (name, id) in kept {
                    self.write(*id, &original.join(name), &to.join(name));
                }
            }
            Object::File { kept, .. } => {
                if !matches!(&kept.content, Content::Original(path) if path == original) {
                    let _ = fs::remove_file(to);
                    fs::write(to, read(&kept.content)).expect("our own directory");
                }
                fs::set_permissions(to, fs::Permissions::from_mode(kept.mode)).expect("our own directory");
            }
            Object::Symlink(target) => {
                if !to.is_symlink() {
                    symlink(target, to).expect("our own directory");
                }
            }
        }
    }
}

fn set(names: &mut Names, name: &str, id: Option<Id>) {
    match id {
        Some(id) => names.insert(name.to_owned(), id),
        None => names.remove(name),
    };
}

fn read(content: &Content) -> Vec<u8> {
    match content {
        Content::Original(path) => fs::read(path).expect("the release is there"),
        Content::Bytes(bytes) => bytes.clone(),
    }
}

//! A store that is a directory.
//!
//! A put holds a lock of the kernel (flock) over compare and rename and nothing else: what is slow is done before. A process
//! that ends lets go of it by that; one that is stopped inside keeps the others for [`KEPT`] at the most, which is an error
//! then and not a wait for ever. It refuses to judge by this machine's clock: an age is the difference of two times that the
//! file system gave.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use flyhot_artifact::FileDigest;
use sha2::{Digest as _, Sha256};

use crate::{
    files::{PIECE, TEMPORARY, apart, appear, beside, failed, sync},
    key::{App, Key},
    store::{
        Age, Artifacts, If, MAX_OBJECT, Moved, Object, Put, Store, StoreError, Stored, Unwanted, Version,
    },
};

/// How long the kernel's lock is waited for. It is held for a compare and a rename, thousandths of a second on any disk, and a
/// second on one far away; ten times that.
const KEPT: Duration = Duration::from_secs(10);

/// Between two tries at it: short beside what it is held for on a disk far away.
const TRY: Duration = Duration::from_millis(5);

/// Beside the objects of a directory.
const LOCK: &str = ".flyhot-lock";

/// A directory as a home of artifacts.
#[derive(Debug, Clone)]
pub struct Directory {
    root: Arc<Path>,
}

impl Directory {
    /// The store below `root`, which is made with its first object.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn read(&self, key: &Key, age: Age) -> Result<Option<Object>, StoreError> {
        let path = self.path(key);
        let open = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("cannot read", &path))?,
        };
        let mut bytes = Vec::new();
        (&open)
            .take(MAX_OBJECT + 1)
            .read_to_end(&mut bytes)
            .map_err(failed("cannot read", &path))?;
        if bytes.len() as u64 > MAX_OBJECT {
            return Err(StoreError::TooLarge {
                store: self.name(),
                key: key.clone(),
            });
        }
        let age = match age {
            Age::NotWanted => None,
            Age::Wanted => {
                let written = open
                    .metadata()
                    .and_then(|about| about.modified())
                    .map_err(failed("cannot read", &path))?;
                let parent = path.parent().unwrap_or(&self.root);
                let now = now(parent)?;
                // What was written after that file was made is new.
                Some(now.duration_since(written).unwrap_or_default())
            }
        };
        Ok(Some(Object {
            version: version(&bytes),
            bytes,
            age,
        }))
    }

    fn ready(&self, parent: &Path) -> Result<(), StoreError> {
        if !parent.is_dir() {
            fs::create_dir_all(parent).map_err(failed("cannot make the directory", parent))?;
            // Each that may be new, in the one above it.
            for made in parent.ancestors().skip(1).take(4) {
                sync(made)?;
            }
        }
        Ok(())
    }

    fn bring(
        &self,
        key: &Key,
        digest: FileDigest,
        to: &Path,
        moved: &Moved,
        unwanted: &AtomicBool,
    ) -> Result<bool, StoreError> {
        let path = self.path(key);
        let from = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(failed("cannot read", &path))?,
        };
        let parent = to.parent().unwrap_or(Path::new("."));
        let mut new = beside(parent)?;
        let found = copy(&from, &path, Some((new.as_file_mut(), to)), moved, unwanted)?;
        if found != digest {
            return Err(StoreError::Bent {
                store: self.name(),
                key: key.clone(),
                found,
            });
        }
        appear(new, to)?;
        Ok(true)
    }

    fn keep(
        &self,
        key: &Key,
        digest: FileDigest,
        from: &Path,
        moved: &Moved,
        unwanted: &AtomicBool,
    ) -> Result<(), StoreError> {
        let path = self.path(key);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => {
                let there = opened.map_err(failed("cannot read", &path))?;
                if copy(&there, &path, None, moved, unwanted)? == digest {
                    return Ok(());
                }
            }
        }
        let parent = path.parent().unwrap_or(&self.root);
        self.ready(parent)?;
        let file = File::open(from).map_err(failed("cannot read", from))?;
        let mut new = beside(parent)?;
        let found = copy(&file, from, Some((new.as_file_mut(), parent)), moved, unwanted)?;
        if found != digest {
            return Err(StoreError::Changed {
                path: from.to_owned(),
                was: found,
            });
        }
        appear(new, &path)
    }

    fn names(&self, app: &App) -> Result<Vec<(PathBuf, fs::Metadata)>, StoreError> {
        let directory = self.path(&Key::artifacts(app));
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(failed("cannot read", &directory))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("cannot read", &directory))?.path();
            match fs::symlink_metadata(&path) {
                Ok(about) if about.is_file() => names.push((path, about)),
                Ok(_) => {}
                // Somebody's temporary file that is gone by now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("cannot read", &path)(error)),
            }
        }
        Ok(names)
    }

    fn swept(&self, app: &App, age: Duration) -> Result<u64, StoreError> {
        let directory = self.path(&Key::artifacts(app));
        let names = self.names(app)?;
        if names.is_empty() {
            return Ok(0);
        }
        let now = now(&directory)?;
        let mut count = 0;
        for (path, about) in names {
            let left = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()));
            let old = about
                .modified()
                .is_ok_and(|written| now.duration_since(written).is_ok_and(|since| since >= age));
            if left && old {
                take_away(&path)?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn write(&self, key: &Key, when: &If, bytes: &[u8]) -> Result<Put, StoreError> {
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        self.ready(parent)?;
        let mut new = beside(parent)?;
        new.write_all(bytes)
            .and_then(|()| new.as_file().sync_all())
            .map_err(failed("cannot write to", parent))?;
        let kept = exclusive(&parent.join(LOCK))?;
        let there = self.read(key, Age::NotWanted)?;
        let done = Put::Done(version(bytes));
        match (when, there) {
            (If::Absent, None) => {}
            (If::Unchanged(version), Some(there)) if there.version == *version => {}
            // Ours already: an answer was lost.
            (_, Some(there)) if there.bytes == bytes => {
                sync(parent)?;
                return Ok(done);
            }
            _ => return Ok(Put::Lost),
        }
        new.persist(&path)
            .map_err(|error| failed("cannot write", &path)(error.error))?;
        // Before anybody goes on from it.
        sync(parent)?;
        drop(kept);
        Ok(done)
    }
}

impl Store for Directory {
    async fn get(&self, key: &Key, age: Age) -> Result<Option<Object>, StoreError> {
        let (store, key) = (self.clone(), key.clone());
        apart(move || store.read(&key, age)).await
    }

    async fn put(&self, key: &Key, when: If, bytes: Vec<u8>) -> Result<Put, StoreError> {
        let (store, key) = (self.clone(), key.clone());
        apart(move || store.write(&key, &when, &bytes)).await
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }
}

impl Artifacts for Directory {
    async fn fetch(
        &self,
        app: &App,
        digest: FileDigest,
        to: &Path,
        moved: &Arc<Moved>,
    ) -> Result<bool, StoreError> {
        let (store, key, to, moved) = (
            self.clone(),
            Key::artifact(app, digest),
            to.to_owned(),
            Arc::clone(moved),
        );
        let unwanted = Unwanted::default();
        let flag = unwanted.flag();
        apart(move || store.bring(&key, digest, &to, &moved, &flag)).await
    }

    async fn upload(
        &self,
        app: &App,
        digest: FileDigest,
        from: &Path,
        moved: &Arc<Moved>,
    ) -> Result<(), StoreError> {
        let (store, key, from, moved) = (
            self.clone(),
            Key::artifact(app, digest),
            from.to_owned(),
            Arc::clone(moved),
        );
        let unwanted = Unwanted::default();
        let flag = unwanted.flag();
        apart(move || store.keep(&key, digest, &from, &moved, &flag)).await
    }

    async fn artifacts(&self, app: &App) -> Result<Vec<Stored>, StoreError> {
        let (store, app) = (self.clone(), app.clone());
        apart(move || {
            let named = store.names(&app)?.into_iter().filter_map(|(path, about)| {
                let digest = Key::digest(path.file_name()?.to_str()?)?;
                Some(Stored {
                    digest,
                    size: about.len(),
                })
            });
            let mut stored: Vec<_> = named.collect();
            stored.sort_unstable();
            Ok(stored)
        })
        .await
    }

    async fn remove(&self, app: &App, digest: FileDigest) -> Result<(), StoreError> {
        let path = self.path(&Key::artifact(app, digest));
        apart(move || take_away(&path)).await
    }

    async fn sweep(&self, app: &App, age: Duration) -> Result<u64, StoreError> {
        let (store, app) = (self.clone(), app.clone());
        apart(move || store.swept(&app, age)).await
    }
}

fn version(bytes: &[u8]) -> Version {
    Version(FileDigest::of(bytes).to_string())
}

/// The file system's own time at this moment.
fn now(directory: &Path) -> Result<SystemTime, StoreError> {
    beside(directory)?
        .as_file()
        .metadata()
        .and_then(|about| about.modified())
        .map_err(failed("cannot write to", directory))
}

/// Reads a file to its end, and writes it to another where there is one to write to; answers with its digest.
fn copy(
    mut from: &File,
    path: &Path,
    mut to: Option<(&mut File, &Path)>,
    moved: &Moved,
    unwanted: &AtomicBool,
) -> Result<FileDigest, StoreError> {
    let total = from.metadata().map_err(failed("cannot read", path))?.len();
    let mut done = 0;
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        moved.set(done, total);
        if unwanted.load(Ordering::Relaxed) {
            return Err(failed("stopped reading", path)(io::ErrorKind::Interrupted.into()));
        }
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("cannot read", path)(error)),
        };
        digest.update(&piece[..read]);
        if let Some((to, place)) = &mut to {
            to.write_all(&piece[..read])
                .map_err(failed("cannot write to", place))?;
        }
        done += read as u64;
    }
    Ok(FileDigest(digest.finalize().into()))
}

fn take_away(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed("cannot remove", path)),
    }
}

/// The kernel's lock; it is let go with the file.
fn exclusive(path: &Path) -> Result<File, StoreError> {
    // Whoever may rename in the directory may lock: reading is enough for that.
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path),
        opened => opened,
    }
    .map_err(failed("cannot open", path))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed("cannot lock", path)(source)),
            Err(TryLockError::WouldBlock) => {}
        }
        let waited = began.elapsed();
        if waited >= KEPT {
            return Err(StoreError::Kept {
                path: path.to_owned(),
                waited,
            });
        }
        std::thread::sleep(TRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::App;

    fn key() -> Key {
        Key::pointer(&"shop".parse::<App>().unwrap())
    }

    fn done(put: Result<Put, StoreError>) -> Version {
        match put.unwrap() {
            Put::Done(version) => version,
            Put::Lost => panic!("lost"),
        }
    }

    fn digest(bytes: &[u8]) -> FileDigest {
        FileDigest::of(bytes)
    }

    #[tokio::test]
    async fn an_artifact_is_brought_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let store = Directory::new(&at("store"));
        let app: App = "shop".parse().unwrap();
        let moved = Arc::new(Moved::default());
        let bytes = vec![7; 3 * PIECE + 1];
        fs::write(at("here"), &bytes).unwrap();
        let fetched = async |to: &str| store.fetch(&app, digest(&bytes), &at(to), &moved).await;

        assert!(!fetched("there").await.unwrap());
        assert_eq!(store.artifacts(&app).await.unwrap(), []);
        assert_eq!(store.sweep(&app, Duration::ZERO).await.unwrap(), 0);
        let other = store.upload(&app, digest(b"other"), &at("here"), &moved).await;
        assert!(matches!(other, Err(StoreError::Changed { .. })), "{other:?}");
        assert_eq!(store.artifacts(&app).await.unwrap(), []);
        store
            .upload(&app, digest(&bytes), &at("here"), &moved)
            .await
            .unwrap();
        let size = bytes.len() as u64;
        assert_eq!(moved.now(), (size, size));
        let stored = Stored {
            digest: digest(&bytes),
            size,
        };
        assert_eq!(store.artifacts(&app).await.unwrap(), [stored]);
        assert!(fetched("there").await.unwrap());
        assert_eq!(fs::read(at("there")).unwrap(), bytes);

        // Somebody bends it: nobody takes it, and whoever has it puts it right.
        let place = store.path(&Key::artifact(&app, digest(&bytes)));
        fs::write(&place, b"bent").unwrap();
        let bent = fetched("again").await;
        assert!(matches!(bent, Err(StoreError::Bent { .. })), "{bent:?}");
        assert!(!at("again").exists());
        store
            .upload(&app, digest(&bytes), &at("here"), &moved)
            .await
            .unwrap();
        assert!(fetched("again").await.unwrap());

        // What a killed upload leaves is no artifact, and is swept once it is old.
        fs::write(place.with_file_name(".flyhot-killed"), b"half").unwrap();
        fs::write(place.with_file_name("notes.txt"), b"mine").unwrap();
        assert_eq!(store.artifacts(&app).await.unwrap(), [stored]);
        assert_eq!(store.sweep(&app, Duration::from_secs(60)).await.unwrap(), 0);
        assert_eq!(store.sweep(&app, Duration::ZERO).await.unwrap(), 1);
        store.remove(&app, digest(&bytes)).await.unwrap();
        store.remove(&app, digest(&bytes)).await.unwrap();
        assert!(!fetched("gone").await.unwrap());
        let left: Vec<_> = fs::read_dir(place.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_put_is_done_only_where_the_object_is_what_it_must_be() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(&root.path().join("store"));
        assert_eq!(store.read(&key(), Age::Wanted).unwrap(), None);
        let nobody = If::Unchanged(version(b"nobody"));
        assert_eq!(store.write(&key(), &nobody, b"a").unwrap(), Put::Lost);
        let first = done(store.write(&key(), &If::Absent, b"a"));
        assert_eq!(store.write(&key(), &If::Absent, b"b").unwrap(), Put::Lost);
        let second = done(store.write(&key(), &If::Unchanged(first.clone()), b"b"));
        assert_eq!(
            store.write(&key(), &If::Unchanged(first.clone()), b"c").unwrap(),
            Put::Lost
        );
        // As one asks again who was not answered.
        assert_eq!(done(store.write(&key(), &If::Unchanged(first), b"b")), second);
        let object = store.read(&key(), Age::Wanted).unwrap().unwrap();
        assert_eq!((&*object.bytes, object.version), (&b"b"[..], second));
        assert!(object.age.unwrap() < Duration::from_secs(60));
        let names: Vec<_> = fs::read_dir(root.path().join("store/releases/shop"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != LOCK)
            .collect();
        assert_eq!(names, ["pointer.json"]);
    }

    #[test]
    fn of_many_that_put_at_once_one_is_done() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path());
        let mut version = done(store.write(&key(), &If::Absent, b"first"));
        for round in 0..20 {
            let put = |number: usize| {
                let bytes = format!("{round} {number}");
                store.write(&key(), &If::Unchanged(version.clone()), bytes.as_bytes())
            };
            let puts: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || put(number))).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap().unwrap())
                    .collect()
            });
            let done: Vec<_> = puts
                .into_iter()
                .filter_map(|put| match put {
                    Put::Done(version) => Some(version),
                    Put::Lost => None,
                })
                .collect();
            assert_eq!(done.len(), 1, "round {round}");
            assert_eq!(
                store.read(&key(), Age::NotWanted).unwrap().unwrap().version,
                done[0]
            );
            version = done[0].clone();
        }
    }

    #[test]
    fn one_who_is_stopped_inside_keeps_nobody_for_ever() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path());
        let version = done(store.write(&key(), &If::Absent, b"a"));
        let kept = exclusive(&root.path().join("releases/shop").join(LOCK)).unwrap();
        let began = Instant::now();
        let put = store.write(&key(), &If::Unchanged(version.clone()), b"b");
        assert!(matches!(put, Err(StoreError::Kept { .. })), "{put:?}");
        assert!(began.elapsed() < KEPT * 3);
        drop(kept);
        done(store.write(&key(), &If::Unchanged(version), b"b"));
    }

    #[test]
    fn what_is_no_object_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path());
        let path = root.path().join(key().as_str());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![0; 2 << 20]).unwrap();
        let error = store.read(&key(), Age::NotWanted).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = store.read(&key(), Age::NotWanted).unwrap_err();
        assert!(
            error.to_string().ends_with("releases/shop/pointer.json"),
            "{error}"
        );
    }
}

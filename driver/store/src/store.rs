//! What a home of artifacts can do. Everything that is raced for is decided by two of the verbs: a put that wants the object
//! absent, and one that wants it unchanged.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use flyhot_artifact::FileDigest;

use crate::key::{App, Key};

/// The most bytes an object has that is read whole. A pointer with its history has 20 kB.
pub const MAX_OBJECT: u64 = 1 << 20;

/// What an object was when it was read: an ETag, or a digest. Opaque; only the same store understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub(crate) String);

/// A small object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it was.
    pub version: Version,
    /// How long ago it was written, by the store's own clock, never more than in truth; absent where that was not asked for or
    /// cannot be known.
    pub age: Option<Duration>,
}

/// Whether the age of an object is wanted: a directory has to be written to for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It is.
    Wanted,
    /// It is not.
    NotWanted,
}

/// What the object must be for a put to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum If {
    /// Not there.
    Absent,
    /// What it was when it was read.
    Unchanged(Version),
}

/// What became of a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// The object is what was put.
    Done(Version),
    /// It was not what it must be, and is as somebody else left it.
    Lost,
}

/// An artifact that lies in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// Its name: sha256 of its bytes.
    pub digest: FileDigest,
    /// Its bytes, as the store counts them.
    pub size: u64,
}

/// How far the transfer of an artifact is, for whoever looks at it meanwhile. Dropping the future of a transfer ends it.
#[derive(Debug, Default)]
pub struct Moved {
    done: AtomicU64,
    total: AtomicU64,
}

impl Moved {
    /// Bytes that were moved, of how many; one that begins again begins with zero.
    pub fn now(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// Takes note of it.
    pub fn set(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}

/// Tells work on another thread that nobody waits for it any more.
#[derive(Debug, Default)]
pub(crate) struct Unwanted(Arc<AtomicBool>);

impl Unwanted {
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A home of artifacts.
pub trait Store: Send + Sync {
    /// The object; `None` where there is none. What was put before is seen, by whomever.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, key: &Key, age: Age) -> impl Future<Output = Result<Option<Object>, StoreError>> + Send;

    /// Puts the object if it is what it must be. `bytes` are such as nobody else would write: they have a token in them. So a
    /// put whose answer was lost can be told from one that was not done.
    ///
    /// # Errors
    /// [`StoreError`]; whether it was done is then not known.
    fn put(
        &self,
        key: &Key,
        when: If,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<Put, StoreError>> + Send;

    /// The store's name, for people: a path or a bucket.
    fn name(&self) -> String;
}

/// What it does with artifacts. Nobody races for one: whoever writes to a name writes the same bytes.
pub trait Artifacts: Store {
    /// Brings an artifact to the file `to`, which appears there whole and synced, or not at all: every byte is looked at on the
    /// way. `false` where the store has none of that name.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Bent`] where what lies in the store is another.
    fn fetch(
        &self,
        app: &App,
        digest: FileDigest,
        to: &Path,
        moved: &Arc<Moved>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Puts the artifact in the file `from` into the store, unless it is there: in the end every byte of it was looked at as the
    /// store gives it. One that is there and is another is written anew.
    ///
    /// # Errors
    /// [`StoreError`]; what is there then is no artifact for anybody who looks at its digest.
    fn upload(
        &self,
        app: &App,
        digest: FileDigest,
        from: &Path,
        moved: &Arc<Moved>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The artifacts of an app, by their names. What is no artifact is not among them.
    ///
    /// # Errors
    /// [`StoreError`].
    fn artifacts(&self, app: &App) -> impl Future<Output = Result<Vec<Stored>, StoreError>> + Send;

    /// Takes an artifact away. That it was not there is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove(&self, app: &App, digest: FileDigest) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes away what uploads left behind that did not come to their end, begun at least `age` ago by the store's clock;
    /// answers with how many they were.
    ///
    /// # Errors
    /// [`StoreError`].
    fn sweep(&self, app: &App, age: Duration) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of a directory store.
    #[error("{doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process keeps the directory to itself.
    #[error(
        "{path} was locked by another process for {} s, longer than any needs it: one is stopped, or the disk hangs",
        waited.as_secs()
    )]
    Kept {
        /// The file that is locked.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It did not answer, or not in a way that is understood, for as long as is waited.
    #[error("{doing} {key} in {store}: {why}; tried {tries} times")]
    Silent {
        /// The store.
        store: String,
        /// What was tried.
        doing: &'static str,
        /// The object.
        key: Key,
        /// How often.
        tries: u32,
        /// What came the last time.
        why: String,
    },
    /// It may not be read or written.
    #[error("{doing} {key} in {store}: {why}")]
    Denied {
        /// The store.
        store: String,
        /// What was tried.
        doing: &'static str,
        /// The object.
        key: Key,
        /// What the store said.
        why: String,
    },
    /// The store will not do it.
    #[error("{doing} {key} in {store}: {why}")]
    Refused {
        /// The store.
        store: String,
        /// What was tried.
        doing: &'static str,
        /// The object.
        key: Key,
        /// What the store said.
        why: String,
    },
    /// An object is larger than any of its kind.
    #[error("{key} in {store} has more than {MAX_OBJECT} bytes")]
    TooLarge {
        /// The store.
        store: String,
        /// The object.
        key: Key,
    },
    /// An object is not what flyhot writes.
    #[error("{key} in {store} is not what flyhot wrote: {what}")]
    Broken {
        /// The store.
        store: String,
        /// The object.
        key: Key,
        /// What is wrong.
        what: String,
    },
    /// An artifact is not what its name says.
    #[error("{key} in {store} is another file than its name says: its sha256 is {found}")]
    Bent {
        /// The store.
        store: String,
        /// The object.
        key: Key,
        /// What it is.
        found: FileDigest,
    },
    /// The file that was to be put changed meanwhile.
    #[error("{path} changed while it was put into the store: its sha256 was {was}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// What it was.
        was: FileDigest,
    },
    /// The store does a put although the object is not what it must be.
    #[error("{store} does not keep conditions: {what}")]
    Unconditional {
        /// The store.
        store: String,
        /// Which.
        what: &'static str,
    },
}

/// How often a store may show an object as it was before a put that lost to another. Once is a read that was under way.
const STALE: u32 = 20;

/// Between two looks at a store that does.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Tells a store that shows what was there before from one where others are faster.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    last: Option<If>,
    again: u32,
}

impl Losses {
    /// Takes note of a put that lost; an error where what it wanted was what is shown time and again.
    pub(crate) async fn lost(&mut self, store: &impl Store, when: If) -> Result<(), StoreError> {
        if self.last.replace(when.clone()) != Some(when) {
            self.again = 0;
            return Ok(());
        }
        self.again += 1;
        if self.again >= STALE {
            return Err(StoreError::Unconditional {
                store: store.name(),
                what: "it goes on showing an object as it was before it was changed",
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(())
    }
}

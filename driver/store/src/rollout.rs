//! The pointer in a store, for whoever holds the lock.
//!
//! Whoever takes the lock first writes its number into the pointer. From then on a put of one before fails, because the pointer
//! is not what that one has read; and one who reads it anew sees the greater number. So two holders never both change it.

use std::fmt;

use crate::{
    key::{App, Key},
    lock::{Lock, LockError},
    pointer::{Pointer, PointerError, Target},
    sealed,
    store::{Age, If, Put, Store, StoreError, Version},
};

/// Why a pointer was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The lock is no longer held.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The pointer does not go there.
    #[error(transparent)]
    Pointer(#[from] PointerError),
    /// The object is no pointer.
    #[error("{key} is not a pointer: {what}")]
    Broken {
        /// The object.
        key: Key,
        /// What is wrong.
        what: String,
    },
    /// Somebody who holds no lock changed it.
    #[error("{0} was changed by somebody else")]
    Changed(Key),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a fleet should run, as anybody may read it; `None` where nothing was deployed.
///
/// # Errors
/// [`RolloutError`].
pub async fn pointer(store: &impl Store, app: &App) -> Result<Option<Pointer>, RolloutError> {
    Ok(read(store, &Key::pointer(app)).await?.map(|(pointer, _)| pointer))
}

async fn read(store: &impl Store, key: &Key) -> Result<Option<(Pointer, Version)>, RolloutError> {
    let Some(object) = store.get(key, Age::NotWanted).await? else {
        return Ok(None);
    };
    let pointer: Pointer = sealed::open(&object.bytes).map_err(|what| broken(key, what))?;
    Ok(Some((pointer.check()?, object.version)))
}

fn broken(key: &Key, what: impl fmt::Display) -> RolloutError {
    RolloutError::Broken {
        key: key.clone(),
        what: what.to_string(),
    }
}

/// The pointer, by whoever holds the lock.
#[derive(Debug)]
pub struct Rollout<'a, S> {
    store: &'a S,
    key: Key,
    lock: Lock<'a, S>,
    pointer: Pointer,
    version: Version,
}

impl<'a, S: Store> Rollout<'a, S> {
    /// Puts the lock's number into the pointer, which is made where there is none.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn new(
        store: &'a S,
        app: &App,
        mut lock: Lock<'a, S>,
        base_image: Option<String>,
    ) -> Result<Self, RolloutError> {
        let key = Key::pointer(app);
        loop {
            lock.hold().await?;
            let (pointer, when) = match read(store, &key).await? {
                None => (Pointer::empty(base_image.clone()), If::Absent),
                Some((pointer, version)) => {
                    pointer.boots(base_image.as_deref())?;
                    (pointer, If::Unchanged(version))
                }
            };
            let pointer = pointer.claim(lock.fencing())?;
            // One of before was faster with its last put: what it left is read and claimed.
            if let Put::Done(version) = store.put(&key, when, bytes(&key, &pointer)?).await? {
                return Ok(Self {
                    store,
                    key,
                    lock,
                    pointer,
                    version,
                });
            }
        }
    }

    /// What it is.
    pub fn pointer(&self) -> &Pointer {
        &self.pointer
    }

    /// The lock.
    pub fn lock(&mut self) -> &mut Lock<'a, S> {
        &mut self.lock
    }

    /// Begins a rollout of this target.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn begin(&mut self, target: Target) -> Result<(), RolloutError> {
        let fencing = self.lock.fencing();
        self.write(self.pointer.clone().begin(fencing, target)?).await
    }

    /// Ends it well.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn commit(&mut self) -> Result<(), RolloutError> {
        let fencing = self.lock.fencing();
        self.write(self.pointer.clone().commit(fencing)?).await
    }

    /// Ends it after it was taken back.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn abandon(&mut self) -> Result<(), RolloutError> {
        let fencing = self.lock.fencing();
        self.write(self.pointer.clone().abandon(fencing)?).await
    }

    /// Lets go of the lock.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn end(self) -> Result<(), LockError> {
        self.lock.release().await
    }

    async fn write(&mut self, pointer: Pointer) -> Result<(), RolloutError> {
        self.lock.hold().await?;
        let when = If::Unchanged(self.version.clone());
        match self
            .store
            .put(&self.key, when, bytes(&self.key, &pointer)?)
            .await?
        {
            Put::Done(version) => {
                self.version = version;
                self.pointer = pointer;
                Ok(())
            }
            Put::Lost => match read(self.store, &self.key).await? {
                Some((there, _)) if there.fencing > self.lock.fencing() => Err(PointerError::Displaced {
                    newer: there.fencing,
                    older: self.lock.fencing(),
                }
                .into()),
                _ => Err(RolloutError::Changed(self.key.clone())),
            },
        }
    }
}

fn bytes(key: &Key, pointer: &Pointer) -> Result<Vec<u8>, RolloutError> {
    sealed::seal(pointer).map_err(|error| broken(key, error))
}

//! The pointer in a store, for whoever holds the lock.
//!
//! Whoever takes the lock first writes its number into the pointer. From then on a put of one before fails, because the pointer
//! is not what that one has read; and one who reads it anew sees the greater number. So two holders never both change it.

use crate::{
    key::{App, Key},
    lock::{Lock, LockError},
    pointer::{Pointer, PointerError, Target},
    sealed,
    store::{Age, If, Losses, Put, Store, StoreError, Version},
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

/// What is done with a pointer that was written for another image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// It is an error.
    Same,
    /// It begins anew: what it said was for machines that are no more.
    New,
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

fn broken(key: &Key, what: String) -> RolloutError {
    RolloutError::Broken {
        key: key.clone(),
        what,
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
    /// Puts the lock's number into the pointer, which is made where there is none. Where that is not done the lock is let go.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn new(
        store: &'a S,
        app: &App,
        mut lock: Lock<'a, S>,
        base_image: Option<String>,
        generation: Generation,
    ) -> Result<Self, RolloutError> {
        let key = Key::pointer(app);
        match claim(store, &key, &mut lock, base_image, generation).await {
            Ok((pointer, version)) => Ok(Self {
                store,
                key,
                lock,
                pointer,
                version,
            }),
            Err(error) => {
                // It goes with its lease if it cannot be let go.
                let _ = lock.release().await;
                Err(error)
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

    /// Begins a rollout of this target, forth or back.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn begin(&mut self, target: Target, back: bool) -> Result<(), RolloutError> {
        let fencing = self.lock.fencing();
        self.write(self.pointer.clone().begin(fencing, target, back)?)
            .await
    }

    /// Looks again what it is, after a put that was given up.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn reread(&mut self) -> Result<(), RolloutError> {
        let fencing = self.lock.fencing();
        if let Some((pointer, version)) = read(self.store, &self.key).await?
            && version != self.version
        {
            self.pointer = pointer.claim(fencing)?;
            self.version = version;
        }
        Ok(())
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
        let left = self.lock.hold().await?;
        let bytes = bytes(&self.key, &pointer)?;
        let when = If::Unchanged(self.version.clone());
        let put = self.store.put(&self.key, when, bytes.clone());
        // What lands after the lease is over may land on somebody else's.
        let failed = match tokio::time::timeout(left, put).await {
            Ok(Ok(Put::Done(version))) => {
                self.version = version;
                self.pointer = pointer;
                return Ok(());
            }
            Ok(Ok(Put::Lost)) => None,
            Ok(Err(error)) => Some(RolloutError::Store(error)),
            Err(_) => Some(LockError::Lost("its lease ended while the store did not answer").into()),
        };
        // What is there says what became of it: nobody else has its bytes.
        let Some(there) = self.store.get(&self.key, Age::NotWanted).await? else {
            return Err(failed.unwrap_or(RolloutError::Changed(self.key.clone())));
        };
        if there.bytes == bytes {
            self.version = there.version;
            self.pointer = pointer;
            return Ok(());
        }
        let now: Pointer = sealed::open(&there.bytes).map_err(|what| broken(&self.key, what))?;
        Err(match failed {
            _ if now.fencing > self.lock.fencing() => PointerError::Displaced {
                newer: now.fencing,
                older: self.lock.fencing(),
            }
            .into(),
            Some(error) => error,
            None => RolloutError::Changed(self.key.clone()),
        })
    }
}

async fn claim<S: Store>(
    store: &S,
    key: &Key,
    lock: &mut Lock<'_, S>,
    base_image: Option<String>,
    generation: Generation,
) -> Result<(Pointer, Version), RolloutError> {
    let mut losses = Losses::default();
    loop {
        lock.hold().await?;
        let mut anew = None;
        let (pointer, when) = match read(store, key).await? {
            None => {
                let first = Pointer::empty(base_image.clone());
                (first.claim(lock.fencing())?, If::Absent)
            }
            Some((pointer, version)) => {
                let mut pointer = pointer.claim(lock.fencing())?;
                match (pointer.boots(base_image.as_deref()), generation) {
                    (Err(PointerError::OtherImage { .. }), Generation::New) => {
                        anew = Some(Pointer::empty(base_image.clone()).claim(lock.fencing())?);
                    }
                    (Err(error), _) => return Err(error.into()),
                    (Ok(_), _) if pointer.base_image.is_none() => pointer.base_image.clone_from(&base_image),
                    (Ok(_), _) => {}
                }
                (pointer, If::Unchanged(version))
            }
        };
        // One of before was faster with its last put: what it left is read and claimed.
        match store.put(key, when.clone(), bytes(key, &pointer)?).await? {
            Put::Lost => losses.lost(store, when).await?,
            // What is forgotten is so once there is something in its place.
            Put::Done(version) => return Ok((anew.unwrap_or(pointer), version)),
        }
    }
}

fn bytes(key: &Key, pointer: &Pointer) -> Result<Vec<u8>, RolloutError> {
    sealed::seal(pointer).map_err(|what| broken(key, what))
}

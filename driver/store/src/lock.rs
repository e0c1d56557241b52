//! The lock: one at a time changes what a fleet runs.
//!
//! It is a lease in the store. Nobody's clock is believed but the store's: a lease is over when the store says that its record
//! was last written longer ago. It is taken over by compare-and-swap alone, under a fencing number that only grows, and never
//! deleted. Who cannot renew it stops before the next step, by a clock of its own that only counts forward; who does not notice
//! is kept off the pointer by the number ([`crate::Rollout`]).

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    key::{App, Key},
    pointer::Pointer,
    sealed::{self, token},
    store::{Age, If, Losses, Object, Put, Store, StoreError, Version},
};

/// How long a lock outlives whoever holds it, where nothing else is said: fly_deploy's own time.
pub const LEASE: Duration = Duration::from_secs(300);

/// The shortest lease that makes sense in a bucket: S3 tells times in whole seconds, two of which are lost in comparing, and
/// what is left is renewed three times.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(5);

/// A lease is renewed when a third of it is over: two renewals may fail before it ends.
const RENEWALS: u32 = 3;

/// Of a lease, what its holder does not use: its clock may run slower than the store's.
const RESERVE: u32 = 10;

/// The longest time between two looks at a lock that somebody holds. A short lease is looked at thirty times.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: u32 = 30;

/// The shortest, whatever a record says: a hundred looks a second are enough of any store.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// The format written, and the only one read.
const FORMAT: u32 = 1;

/// Who holds a lock, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The person or token, `"alice"`.
    pub who: String,
    /// The machine, `"laptop"`.
    pub machine: String,
    /// What for, `"deploy 1.4.2"`.
    pub purpose: String,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} ({})", self.who, self.machine, self.purpose)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// Tells this holder from every other.
    owner: String,
    #[serde(flatten)]
    who: Who,
    /// How long it holds the lock already, by its own clock, seconds.
    held_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    fencing: u64,
    lease_ms: u64,
    /// `null`: nobody.
    holder: Option<Holder>,
}

/// What a lock is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The number of whoever holds it, or held it last.
    pub fencing: u64,
    /// Who holds it.
    pub holder: Option<Who>,
    /// How long, up to its last renewal.
    pub held: Duration,
    /// How long ago it was renewed.
    pub renewed: Option<Duration>,
    /// Its lease.
    pub lease: Duration,
}

impl Standing {
    /// How long its lease goes on; zero once it is over.
    pub fn left(&self) -> Duration {
        self.lease.saturating_sub(self.renewed.unwrap_or_default())
    }

    fn is_over(&self) -> bool {
        // Where the age cannot be known nobody is displaced.
        self.renewed.is_some_and(|renewed| renewed > self.lease)
    }
}

/// How to go about a lock.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The lease; whole milliseconds.
    pub lease: Duration,
    /// How long to wait for somebody else.
    pub wait: Duration,
    /// Take it even if somebody holds it.
    pub force: bool,
}

/// Why a lock was not taken, renewed or let go.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error(
        "{} holds the lock for {} s, renewed it {} s ago, and its lease goes on for {} s",
        held.holder.as_ref().map_or_else(|| "nobody".to_owned(), Who::to_string),
        held.held.as_secs(),
        held.renewed.unwrap_or_default().as_secs(),
        held.left().as_secs()
    )]
    Held {
        /// What it is.
        held: Box<Standing>,
    },
    /// It is no longer ours.
    #[error("the lock was lost: {0}")]
    Lost(&'static str),
    /// The record is none.
    #[error("{key} is not a lock: {what}")]
    Broken {
        /// The object.
        key: Key,
        /// What is wrong.
        what: String,
    },
    /// The machine gives no random bytes, or the like.
    #[error("no lock can be made here: {0}")]
    Machine(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A lock that is held. Dropped without [`Lock::release`] it is over with its lease.
#[derive(Debug)]
pub struct Lock<'a, S> {
    store: &'a S,
    key: Key,
    record: Record,
    version: Version,
    lease: Duration,
    since: Instant,
    /// Before the put that was done last: no later than the store's own time of it.
    renewed: Instant,
    /// Whom it was taken from by force.
    pub displaced: Option<Who>,
}

/// What the lock of an app is.
///
/// # Errors
/// [`LockError::Broken`], [`LockError::Store`].
pub async fn standing(store: &impl Store, app: &App) -> Result<Option<Standing>, LockError> {
    let key = Key::lock(app);
    match store.get(&key, Age::Wanted).await? {
        None => Ok(None),
        Some(object) => Ok(Some(read(&key, &object)?.1)),
    }
}

/// Takes the lock of an app, waiting for it as the terms allow; nobody is waited for longer than its lease.
///
/// # Errors
/// [`LockError`].
pub async fn take<'a, S: Store>(
    store: &'a S,
    app: &App,
    who: Who,
    terms: Terms,
) -> Result<Lock<'a, S>, LockError> {
    let key = Key::lock(app);
    let since = Instant::now();
    let holder = Holder {
        owner: token().ok_or(LockError::Machine("the system gives no random bytes"))?,
        who,
        held_s: 0,
    };
    // Before the put of this holder that was tried first.
    let mut tried = None;
    let mut losses = Losses::default();
    loop {
        let (when, fencing, displaced) = match store.get(&key, Age::Wanted).await? {
            // It was taken away by hand: the pointer has the number that it had.
            None => (If::Absent, claimed(store, app).await?, None),
            Some(object) => {
                let (record, held) = read(&key, &object)?;
                let displaced = match record.holder {
                    // Ours, though an answer said otherwise; since when is not known any more but by the store.
                    Some(ref there) if there.owner == holder.owner => {
                        return Ok(Lock {
                            store,
                            key,
                            record,
                            version: object.version,
                            lease: terms.lease,
                            since,
                            renewed: tried.unwrap_or(since),
                            displaced: None,
                        });
                    }
                    Some(_) if held.is_over() => None,
                    Some(holder) if terms.force => Some(holder.who),
                    Some(_) => {
                        let left = terms.wait.saturating_sub(since.elapsed());
                        if left.is_zero() {
                            return Err(LockError::Held { held: Box::new(held) });
                        }
                        let look = (held.lease / LOOKS).clamp(SHORTEST_LOOK, LOOK);
                        tokio::time::sleep(look.min(left)).await;
                        continue;
                    }
                    None => None,
                };
                (If::Unchanged(object.version), record.fencing, displaced)
            }
        };
        let renewed = Instant::now();
        tried.get_or_insert(renewed);
        let record = Record {
            format: FORMAT,
            fencing: fencing.saturating_add(1),
            lease_ms: u64::try_from(terms.lease.as_millis()).unwrap_or(u64::MAX),
            holder: Some(holder.clone()),
        };
        match store.put(&key, when.clone(), bytes(&key, &record)?).await? {
            Put::Lost => losses.lost(store, when).await?,
            Put::Done(version) => {
                return Ok(Lock {
                    store,
                    key,
                    record,
                    version,
                    lease: terms.lease,
                    since,
                    renewed,
                    displaced,
                });
            }
        }
    }
}

/// Lets go of the lock of whoever holds it, by force even while the lease goes on; answers with what it was.
///
/// # Errors
/// [`LockError::Held`]: its lease goes on. [`LockError::Lost`]: somebody was faster. [`LockError::Broken`],
/// [`LockError::Store`].
pub async fn let_go(store: &impl Store, app: &App, force: bool) -> Result<Option<Standing>, LockError> {
    let key = Key::lock(app);
    let Some(object) = store.get(&key, Age::Wanted).await? else {
        return Ok(None);
    };
    let (record, held) = read(&key, &object)?;
    if held.holder.is_none() {
        return Ok(None);
    }
    if !held.is_over() && !force {
        return Err(LockError::Held { held: Box::new(held) });
    }
    // A number that nobody had: whoever holds it still is kept off by the next one who takes it.
    let record = Record {
        fencing: record.fencing.saturating_add(1),
        holder: None,
        ..record
    };
    match store
        .put(&key, If::Unchanged(object.version), bytes(&key, &record)?)
        .await?
    {
        Put::Done(_) => Ok(Some(held)),
        Put::Lost => Err(LockError::Lost("somebody else has changed it at this moment")),
    }
}

impl<S: Store> Lock<'_, S> {
    /// Its number: later holders have greater ones.
    pub fn fencing(&self) -> u64 {
        self.record.fencing
    }

    /// How long from now on it should be renewed.
    pub fn due(&self) -> Duration {
        (self.lease / RENEWALS).saturating_sub(self.renewed.elapsed())
    }

    /// Whether a step may begin: renews the lease where that is due. Answers with how long the step may take.
    ///
    /// The clock that it goes by does not count while a machine sleeps: before a step that is more than a put, ask by
    /// [`Lock::renew`], which asks the store.
    ///
    /// # Errors
    /// [`LockError::Lost`]: it may not, and none after it. [`LockError::Store`]: the store did not answer, and the lease is over.
    pub async fn hold(&mut self) -> Result<Duration, LockError> {
        if !self.left().is_zero() && !self.due().is_zero() {
            return Ok(self.left());
        }
        match self.renew().await {
            // There is time for another try before the next step.
            Err(LockError::Store(_)) if !self.left().is_zero() => {}
            renewed => renewed?,
        }
        match self.left() {
            Duration::ZERO => Err(LockError::Lost("its lease is over")),
            left => Ok(left),
        }
    }

    /// How long this holder believes in its lease.
    fn left(&self) -> Duration {
        (self.lease - self.lease / RESERVE).saturating_sub(self.renewed.elapsed())
    }

    /// Renews the lease. One that is over is renewed as well, where nobody took it meanwhile.
    ///
    /// # Errors
    /// [`LockError::Lost`], [`LockError::Store`].
    pub async fn renew(&mut self) -> Result<(), LockError> {
        let mut record = self.record.clone();
        if let Some(holder) = &mut record.holder {
            holder.held_s = self.since.elapsed().as_secs();
        }
        self.renewed = self.write(&record).await?;
        self.record = record;
        Ok(())
    }

    /// Lets go of it.
    ///
    /// # Errors
    /// [`LockError::Lost`]: somebody else has it by now, from before or since it was let go of without an answer.
    /// [`LockError::Store`]: it goes with its lease.
    pub async fn release(mut self) -> Result<(), LockError> {
        let record = Record {
            holder: None,
            ..self.record.clone()
        };
        self.write(&record).await.map(drop)
    }

    /// Puts the record; answers with a time before it was put.
    async fn write(&mut self, record: &Record) -> Result<Instant, LockError> {
        for _ in 0..2 {
            let began = Instant::now();
            let when = If::Unchanged(self.version.clone());
            if let Put::Done(version) = self.store.put(&self.key, when, bytes(&self.key, record)?).await? {
                self.version = version;
                return Ok(began);
            }
            // A put of before may have been done without an answer: what is there is this holder's own then.
            let Some(object) = self.store.get(&self.key, Age::NotWanted).await? else {
                break;
            };
            let (there, _) = read(&self.key, &object)?;
            let owner = |record: &Record| record.holder.as_ref().map(|holder| holder.owner.clone());
            if there.fencing != self.record.fencing || owner(&there) != owner(&self.record) {
                break;
            }
            self.version = object.version;
        }
        Err(LockError::Lost("somebody else has taken it over"))
    }
}

/// The number that the pointer has; 0 where there is none, or none that can be read.
async fn claimed(store: &impl Store, app: &App) -> Result<u64, LockError> {
    let pointer = store.get(&Key::pointer(app), Age::NotWanted).await?;
    let pointer = pointer.and_then(|object| sealed::open::<Pointer>(&object.bytes).ok());
    Ok(pointer.map_or(0, |pointer| pointer.fencing))
}

fn bytes(key: &Key, record: &Record) -> Result<Vec<u8>, LockError> {
    sealed::seal(record).map_err(|what| LockError::Broken {
        key: key.clone(),
        what,
    })
}

fn read(key: &Key, object: &Object) -> Result<(Record, Standing), LockError> {
    let broken = |what| LockError::Broken {
        key: key.clone(),
        what,
    };
    let record: Record = sealed::open(&object.bytes).map_err(broken)?;
    if record.format != FORMAT {
        return Err(broken(format!(
            "it has format {}; this build of flyhot reads format {FORMAT}",
            record.format
        )));
    }
    let standing = Standing {
        fencing: record.fencing,
        holder: record.holder.as_ref().map(|holder| holder.who.clone()),
        held: Duration::from_secs(record.holder.as_ref().map_or(0, |holder| holder.held_s)),
        renewed: object.age,
        lease: Duration::from_millis(record.lease_ms),
    };
    Ok((record, standing))
}

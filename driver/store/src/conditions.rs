//! Whether a store keeps the conditions that everything rests on: some take them and pay no heed.

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;

use crate::{
    key::{App, Key},
    sealed,
    store::{Age, If, Put, Store, StoreError, Version},
};

/// A text that nobody else has; none where the system gives no random bytes.
pub(crate) fn token() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[derive(Serialize)]
struct Trial<'a> {
    token: &'a str,
    put: u32,
}

/// Tries puts that must not be done, on an object of its own.
///
/// # Errors
/// [`StoreError::Unconditional`]: one was done. Other [`StoreError`]s.
pub async fn keeps_conditions(store: &impl Store, app: &App) -> Result<(), StoreError> {
    let key = Key::trial(app);
    let token = token().ok_or_else(|| StoreError::Broken {
        store: store.name(),
        key: key.clone(),
        what: "the system gives no random bytes to try it with".to_owned(),
    })?;
    let mut number = 0;
    let mut record = || {
        number += 1;
        sealed::seal(&Trial {
            token: &token,
            put: number,
        })
        .map_err(|error| StoreError::Broken {
            store: store.name(),
            key: key.clone(),
            what: error.to_string(),
        })
    };
    let unconditional = |what| StoreError::Unconditional {
        store: store.name(),
        what,
    };
    // Somebody else may try the same at this moment: then that one's object is there.
    let _ = store.put(&key, If::Absent, record()?).await?;
    if store.put(&key, If::Absent, record()?).await? != Put::Lost {
        return Err(unconditional(
            "it overwrote an object although that was to be absent (If-None-Match)",
        ));
    }
    let never = Version("\"00000000000000000000000000000000\"".to_owned());
    if store.put(&key, If::Unchanged(never), record()?).await? != Put::Lost {
        return Err(unconditional(
            "it overwrote an object although that was another (If-Match)",
        ));
    }
    let there = store.get(&key, Age::NotWanted).await?;
    let there = there.ok_or_else(|| unconditional("an object that was put is not there"))?;
    match store.put(&key, If::Unchanged(there.version), record()?).await? {
        Put::Done(_) => Ok(()),
        // Another trial was in between, and its put was kept from being overwritten.
        Put::Lost => Ok(()),
    }
}

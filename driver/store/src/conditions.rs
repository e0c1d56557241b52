//! Whether a store keeps the conditions that everything rests on: some take them and pay no heed.

use serde::Serialize;

use crate::{
    key::{App, Key},
    sealed,
    store::{Age, If, Put, Store, StoreError, Version},
};

#[derive(Serialize)]
struct Trial {
    what: &'static str,
}

/// Tries puts that must not be done, on an object of its own.
///
/// # Errors
/// [`StoreError::Unconditional`]: one was done. Other [`StoreError`]s.
pub async fn keeps_conditions(store: &impl Store, app: &App) -> Result<(), StoreError> {
    let key = Key::trial(app);
    let record = || {
        let trial = Trial {
            what: "flyhot tried here whether this store keeps conditions",
        };
        sealed::seal(&trial).map_err(|what| StoreError::Broken {
            store: store.name(),
            key: key.clone(),
            what,
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

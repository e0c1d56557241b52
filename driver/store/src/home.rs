//! Either home, for whoever is told only at run time which.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use flyhot_artifact::FileDigest;

use crate::{
    directory::Directory,
    key::{App, Key},
    s3::S3,
    store::{Age, Artifacts, If, Moved, Object, Put, Store, StoreError, Stored},
};

/// A directory or a bucket.
#[derive(Debug, Clone)]
pub enum Home {
    /// A directory.
    Directory(Directory),
    /// A bucket.
    S3(S3),
}

impl Home {
    /// The same; a bucket's verbs are tried for so long.
    pub fn patient(self, give_up: Duration) -> Self {
        match self {
            Self::Directory(store) => Self::Directory(store),
            Self::S3(store) => Self::S3(store.patient(give_up)),
        }
    }

    /// A bucket's own clock, cut to a whole second; `None` where it does not say, and of a directory, which has none.
    pub async fn time(&self, app: &App) -> Option<SystemTime> {
        match self {
            Self::Directory(_) => None,
            Self::S3(store) => store.time(app).await,
        }
    }
}

impl Store for Home {
    async fn get(&self, key: &Key, age: Age) -> Result<Option<Object>, StoreError> {
        match self {
            Self::Directory(store) => store.get(key, age).await,
            Self::S3(store) => Box::pin(store.get(key, age)).await,
        }
    }

    async fn put(&self, key: &Key, when: If, bytes: Vec<u8>) -> Result<Put, StoreError> {
        match self {
            Self::Directory(store) => store.put(key, when, bytes).await,
            Self::S3(store) => Box::pin(store.put(key, when, bytes)).await,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Directory(store) => store.name(),
            Self::S3(store) => store.name(),
        }
    }
}

impl Artifacts for Home {
    async fn fetch(
        &self,
        app: &App,
        digest: FileDigest,
        to: &Path,
        moved: &Arc<Moved>,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Directory(store) => store.fetch(app, digest, to, moved).await,
            Self::S3(store) => Box::pin(store.fetch(app, digest, to, moved)).await,
        }
    }

    async fn upload(
        &self,
        app: &App,
        digest: FileDigest,
        from: &Path,
        moved: &Arc<Moved>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Directory(store) => store.upload(app, digest, from, moved).await,
            Self::S3(store) => Box::pin(store.upload(app, digest, from, moved)).await,
        }
    }

    async fn artifacts(&self, app: &App) -> Result<Vec<Stored>, StoreError> {
        match self {
            Self::Directory(store) => store.artifacts(app).await,
            Self::S3(store) => Box::pin(store.artifacts(app)).await,
        }
    }

    async fn remove(&self, app: &App, digest: FileDigest) -> Result<(), StoreError> {
        match self {
            Self::Directory(store) => store.remove(app, digest).await,
            Self::S3(store) => Box::pin(store.remove(app, digest)).await,
        }
    }

    async fn sweep(&self, app: &App, age: Duration) -> Result<u64, StoreError> {
        match self {
            Self::Directory(store) => store.sweep(app, age).await,
            Self::S3(store) => Box::pin(store.sweep(app, age)).await,
        }
    }
}

//! Either home, for whoever is told only at run time which.

use crate::{
    directory::Directory,
    key::Key,
    s3::S3,
    store::{Age, If, Object, Put, Store, StoreError},
};

/// A directory or a bucket.
#[derive(Debug, Clone)]
pub enum Home {
    /// A directory.
    Directory(Directory),
    /// A bucket.
    S3(S3),
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

//! What the programs for the tests have in common.

use std::path::Path;

use flyhot_store::{Bucket, Directory, Home, S3};

/// The store that is meant: a directory, or `bucket@endpoint`.
pub(crate) async fn home(text: &str) -> Home {
    match text.split_once('@') {
        Some((bucket, endpoint)) => {
            let bucket = Bucket {
                name: bucket.to_owned(),
                endpoint: Some(endpoint.to_owned()),
                region: None,
            };
            Home::S3(S3::new(&bucket).await)
        }
        None => Home::Directory(Directory::new(Path::new(text))),
    }
}

//! Directories of the tests: a scratch directory that goes away, and the place of what is built once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// The checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lies in the checkout")
}

fn root() -> PathBuf {
    workspace().join("target/scratch")
}

/// How the paths of all directories of this process begin.
pub(crate) fn ours() -> String {
    let beginning = root().join(format!("{}-", std::process::id()));
    beginning.into_os_string().into_string().expect("a text")
}

/// Removes them.
pub(crate) fn remove_ours() {
    for entry in fs::read_dir(root()).into_iter().flatten().flatten() {
        if entry.path().to_string_lossy().starts_with(&ours()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A directory of its own, removed when dropped. Its name tells whose it is.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory; `what` becomes part of its name.
    pub fn new(what: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        static TIDY: Once = Once::new();
        let root = root();
        TIDY.call_once(|| remove_what_the_dead_left(&root));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("{}-{number}-{what}", std::process::id()));
        fs::create_dir_all(&path).expect("the target directory can be written");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A node that is just ending may still write into it; what stays is removed by the next test process.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the directories of test processes that were killed.
fn remove_what_the_dead_left(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next());
        if let Some(pid) = owner.and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new("/proc").join(pid.to_string()).exists()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

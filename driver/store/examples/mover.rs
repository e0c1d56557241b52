//! Moves artifacts between a store and files, for the tests, and says what became of it on lines.
//!
//! `mover HOME VERB ...`, where HOME is a directory, or `bucket@endpoint`, and what follows is `upload DIGEST FILE`,
//! `fetch DIGEST FILE`, `list`, `remove DIGEST` or `sweep AGE_S`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the tests"
)]

mod shared;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use flyhot_artifact::chain;
use flyhot_store::{App, Artifacts, Moved, StoreError};

/// Between two looks at how far it is: a hundredth of what the smallest transfer takes that a test breaks off.
const LOOK: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (Some((home, words)), Ok(app)) = (args.split_first(), "shop".parse()) else {
        eprintln!("mover HOME VERB ...");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(1);
        }
    };
    let done = runtime.block_on(async { go(&shared::home(home).await, &app, words).await });
    // As the kernel has it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
        println!("peak {}", peak.trim());
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed {}", chain(&error));
            ExitCode::from(1)
        }
    }
}

async fn go(store: &impl Artifacts, app: &App, words: &[&str]) -> Result<(), StoreError> {
    let moved = Arc::new(Moved::default());
    let digest = words.get(1).and_then(|digest| digest.parse().ok());
    match (words, digest) {
        (["upload", _, file], Some(digest)) => {
            let upload = store.upload(app, digest, Path::new(file), &moved);
            told(&moved, upload).await?;
            println!("uploaded");
        }
        (["fetch", _, file], Some(digest)) => {
            let fetch = store.fetch(app, digest, Path::new(file), &moved);
            let there = told(&moved, fetch).await?;
            println!("{}", if there { "fetched" } else { "absent" });
        }
        (["list"], None) => {
            for stored in store.artifacts(app).await? {
                println!("artifact {} {}", stored.digest, stored.size);
            }
        }
        (["remove", _], Some(digest)) => {
            store.remove(app, digest).await?;
            println!("removed");
        }
        (["sweep", age], None) => {
            let age = Duration::from_secs(age.parse().unwrap_or(u64::MAX));
            println!("swept {}", store.sweep(app, age).await?);
        }
        _ => eprintln!("mover HOME VERB ..."),
    }
    Ok(())
}

/// Says how far it is whenever that is another.
async fn told<T>(
    moved: &Moved,
    transfer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut transfer = Box::pin(transfer);
    let mut last = moved.now();
    loop {
        let done = tokio::time::timeout(LOOK, &mut transfer).await;
        if moved.now() != last {
            last = moved.now();
            println!("moved {} {}", last.0, last.1);
        }
        if let Ok(done) = done {
            return done;
        }
    }
}

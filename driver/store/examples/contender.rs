//! One of many who want the lock, for the tests: takes it, commits the next number, lets go, and says each step on a line.
//!
//! `contender HOME NAME ROUNDS LEASE_MS HOLD_MS`, where HOME is a directory, or `bucket@endpoint`; the lock is held so long before
//! anything is done under it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the tests"
)]

mod shared;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use flyhot_artifact::{CodeId, FileDigest};
use flyhot_store::{
    App, Generation, LockError, PointerError, Rollout, RolloutError, Store, Target, Terms, Who,
    keeps_conditions, take,
};

/// Longer than any of the tests.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [home, name, rounds, lease, hold] = &args[..] else {
        eprintln!("contender HOME NAME ROUNDS LEASE_MS HOLD_MS");
        return ExitCode::from(2);
    };
    let (Ok(rounds), Ok(lease), Ok(hold)) = (rounds.parse(), lease.parse(), hold.parse()) else {
        return ExitCode::from(2);
    };
    let terms = Terms {
        lease: Duration::from_millis(lease),
        wait: PATIENCE,
        force: false,
    };
    let hold = Duration::from_millis(hold);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(1);
        }
    };
    let done =
        runtime.block_on(async { contend(&shared::home(home).await, name, rounds, terms, hold).await });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed {error}");
            ExitCode::from(1)
        }
    }
}

async fn contend(
    store: &impl Store,
    name: &str,
    rounds: u64,
    terms: Terms,
    hold: Duration,
) -> Result<(), RolloutError> {
    let app: App = match "shop".parse() {
        Ok(app) => app,
        Err(_) => return Ok(()),
    };
    keeps_conditions(store, &app).await?;
    println!("ready");
    for _ in 0..rounds {
        match round(store, &app, name, terms, hold).await {
            Ok(()) => {}
            Err(
                error @ (RolloutError::Lock(LockError::Lost(_))
                | RolloutError::Pointer(PointerError::Displaced { .. })),
            ) => println!("lost {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn round(
    store: &impl Store,
    app: &App,
    name: &str,
    terms: Terms,
    hold: Duration,
) -> Result<(), RolloutError> {
    let who = Who {
        who: name.to_owned(),
        machine: "here".to_owned(),
        purpose: "contending".to_owned(),
    };
    let mut lock = take(store, app, who, terms).await?;
    let fencing = lock.fencing();
    println!("took {fencing}");
    let took = Instant::now();
    while let Some(left) = hold.checked_sub(took.elapsed()) {
        tokio::time::sleep(lock.due().min(left)).await;
        lock.hold().await?;
        println!("held {fencing}");
    }
    let mut rollout = Rollout::new(store, app, lock, None, Generation::Same).await?;
    let before = rollout
        .pointer()
        .committed()
        .map_or(0, |target| target.created_at);
    let number = before + 1;
    rollout
        .begin(
            Target {
                digest: FileDigest::of(name.as_bytes()),
                code_id: CodeId(FileDigest::of(&number.to_be_bytes()).0),
                manifest_digest: FileDigest::of(name.as_bytes()),
                signature: None,
                version: name.to_owned(),
                source_image: None,
                created_at: number,
            },
            false,
        )
        .await?;
    println!("began {fencing} {number}");
    rollout.commit().await?;
    println!("committed {fencing} {number}");
    match rollout.end().await {
        Ok(()) => println!("released {fencing}"),
        // Where the answer to the put that let go of it was lost, somebody else may have it before that was found out.
        Err(LockError::Lost(_)) => println!("gone {fencing}"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

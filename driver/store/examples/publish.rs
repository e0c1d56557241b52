//! Has a fleet run an artifact, for the tests: puts it into a directory and points there.
//!
//! `publish DIR APP ARTIFACT commit|trial [--base IMAGE] [--signature FILE] [--digest-only]`; with the last the artifact itself is
//! not put there.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the tests"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use flyhot_artifact::{Limits, Trust};
use flyhot_store::{
    App, Artifacts as _, Directory, Generation, LEASE, Moved, Rollout, Target, Terms, Who, take,
};

/// Nobody else is at work in a test.
const WAIT: Duration = Duration::from_secs(10);

struct Order {
    store: PathBuf,
    app: String,
    artifact: PathBuf,
    commit: bool,
    base: Option<String>,
    signature: Option<PathBuf>,
    digest_only: bool,
}

fn main() -> ExitCode {
    let Some(order) = order() else {
        eprintln!("publish DIR APP ARTIFACT commit|trial [--base IMAGE] [--signature FILE] [--digest-only]");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(publish(order)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(digest) => {
            println!("{digest}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

fn order() -> Option<Order> {
    let mut args = std::env::args().skip(1);
    let mut order = Order {
        store: args.next()?.into(),
        app: args.next()?,
        artifact: args.next()?.into(),
        commit: args.next()? == "commit",
        base: None,
        signature: None,
        digest_only: false,
    };
    while let Some(word) = args.next() {
        match word.as_str() {
            "--base" => order.base = Some(args.next()?),
            "--signature" => order.signature = Some(args.next()?.into()),
            "--digest-only" => order.digest_only = true,
            _ => return None,
        }
    }
    Some(order)
}

async fn publish(order: Order) -> Result<String, Box<dyn Error>> {
    let store = Directory::new(&order.store);
    let app: App = order.app.parse()?;
    let examined = flyhot_artifact::verify(
        std::fs::File::open(&order.artifact)?,
        &Trust::default(),
        None,
        &Limits::default(),
        &mut |_, _| std::ops::ControlFlow::Continue(()),
    )?;
    if !order.digest_only {
        store
            .upload(
                &app,
                examined.digest,
                Path::new(&order.artifact),
                &Arc::new(Moved::default()),
            )
            .await?;
    }
    let signature = match &order.signature {
        Some(file) => Some(serde_json::from_slice(&std::fs::read(file)?)?),
        None => None,
    };
    let who = Who {
        who: "publish".to_owned(),
        machine: "here".to_owned(),
        purpose: "a test".to_owned(),
    };
    let terms = Terms {
        lease: LEASE,
        wait: WAIT,
        force: false,
    };
    let lock = take(&store, &app, who, terms).await?;
    let mut rollout = Rollout::new(&store, &app, lock, order.base.clone(), Generation::Same).await?;
    rollout
        .begin(
            Target {
                digest: examined.digest,
                code_id: examined.manifest.code_id,
                manifest_digest: examined.manifest_digest,
                signature,
                version: examined.manifest.version.clone(),
                source_image: None,
                created_at: 0,
            },
            false,
        )
        .await?;
    if order.commit {
        rollout.commit().await?;
    }
    rollout.end().await?;
    Ok(examined.digest.to_string())
}

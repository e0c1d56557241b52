//! `flyhot rollout`.

use std::path::PathBuf;

use clap::Args;
use flyhot_events::ExitCode;

use super::waves::WaveArgs;
use super::{FleetArgs, NodeArgs, PageArgs};
use crate::options::Environment;
use crate::report::Reporter;
use crate::roll;

/// What `flyhot rollout` is told.
#[derive(Debug, Args)]
#[command(after_long_help = "\
What `flyhot upgrade` does, under the lock of an app in a store: nobody else rolls out meanwhile. The release goes to the store
as an artifact first. Nodes are taken over in waves; a node that fails or is not well ends that, and those that were upgraded go
back, hot, to what was committed before: all of them run the release in the end, or none. While nodes are taken over, a machine that
starts by `flyhot boot` boots what was committed before; once all run the release, the release. Before the first one of an image, the
code that its nodes were started with goes to the store as well.

Examples:
  Two nodes, and a directory that both machines have:
    flyhot rollout --node shop@10.0.0.1 shop@10.0.0.2 --release _build/prod/rel/shop \\
      --app shop --store /srv/artifacts

  A bucket, waiting for somebody else for ten minutes:
    flyhot rollout --node shop@10.0.0.1 --release _build/prod/rel/shop \\
      --app shop --bucket shop-releases --lock-wait 10m

  The first node alone for five minutes, then ten at a time, each asked whether it is well:
    flyhot rollout --node shop@10.0.0.1 shop@10.0.0.2 --release _build/prod/rel/shop \\
      --app shop --store /srv/artifacts --canary --bake 5m --max-concurrency 10 --check-url http://{host}:4000/health

  Back:
    flyhot rollback --node shop@10.0.0.1 --app shop --store /srv/artifacts")]
pub struct RolloutArgs {
    #[command(flatten)]
    pub(crate) shared: NodeArgs,

    #[command(flatten)]
    pub(crate) page: PageArgs,

    #[command(flatten)]
    pub(crate) out: OutArgs,

    /// Sign what is put into the store with the private key in this file
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    pub key_file: Option<PathBuf>,
}

/// What is told whoever rolls a release out.
#[derive(Debug, Clone, Args)]
pub struct OutArgs {
    /// The image that the machines were started from, as `flyhot boot` finds it there; only machines of this image boot
    /// what is rolled out
    #[arg(long, value_name = "IMAGE", help_heading = "Store")]
    pub base: Option<String>,

    /// The machines are of another image than those before: what ran there is forgotten, this one's code is saved first
    #[arg(long, requires = "base", help_heading = "Store")]
    pub new_base: bool,

    #[command(flatten)]
    pub(crate) waves: WaveArgs,

    /// Leave upgraded nodes on the release when a node fails or is not well, instead of taking all of them back to what was
    /// committed before
    #[arg(long, help_heading = "Waves")]
    pub no_rollback: bool,

    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
}

impl RolloutArgs {
    /// Performs it; the answer is the exit code.
    pub fn run(&self, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
        roll::out(self, environment, reporter)
    }
}

//! Several nodes at a time: what `flyhot rollout` and `flyhot rollback` are both told.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Args, value_parser};

use crate::options::{MixConfig, parse_duration, parse_milliseconds};

/// In which order, and how many at a time.
#[derive(Debug, Clone, Args)]
pub struct WaveArgs {
    /// How many nodes are worked on at once; the next ones are begun when all of these are done and well [default:
    /// `max_concurrency` of `config :fly_deploy` where a mix task says it, else 20]
    #[arg(long, value_name = "COUNT", help_heading = "Waves")]
    pub max_concurrency: Option<NonZeroUsize>,

    /// One node after the other: --max-concurrency 1
    #[arg(long, conflicts_with = "max_concurrency", help_heading = "Waves")]
    pub sequential: bool,

    /// Begin with the first node alone that does not run the release yet
    #[arg(long, help_heading = "Waves")]
    pub canary: bool,

    /// How long the canary stands alone before the others are begun; it is asked once more whether it is well then
    #[arg(long, value_name = "TIME", default_value = "0s", requires = "canary", value_parser = parse_duration, help_heading = "Waves")]
    pub bake: Duration,

    /// A node is well when this URL answers with 2xx or 3xx within 30 s; {host} stands for the node's host [default: FLYHOT_CHECK_URL]
    #[arg(long, value_name = "URL", help_heading = "Waves")]
    pub check_url: Option<String>,

    /// Longest time for the work on one node before its window; then it is left as it is, and has failed. [default:
    /// `timeout` of `config :fly_deploy` where a mix task says it, else 60s of a deploy; else every step has a limit of its own]
    #[arg(long, value_name = "TIME", value_parser = parse_milliseconds, help_heading = "Waves")]
    pub timeout: Option<Duration>,
}

impl WaveArgs {
    /// The same, and what `config :fly_deploy` says where no argument does.
    pub(crate) fn or(&self, said: &MixConfig) -> Self {
        Self {
            max_concurrency: self.max_concurrency.or(said.max_concurrency),
            timeout: self.timeout.or(said.timeout),
            ..self.clone()
        }
    }

    /// How many at once, where this many are if nobody says otherwise.
    pub(crate) fn at_once(&self, default: NonZeroUsize) -> NonZeroUsize {
        if self.sequential {
            NonZeroUsize::MIN
        } else {
            self.max_concurrency.unwrap_or(default)
        }
    }
}

/// What the machine of an orchestrator has.
#[derive(Debug, Clone, Args)]
pub struct MemoryArgs {
    /// Memory of the machine that is made for the work, where one is, MB [default: 1024, or more where the release in _build/prod/rel is so
    /// large that all its code for all machines at once would not go in]
    #[arg(long = "memory", value_name = "MB", value_parser = value_parser!(u32).range(512..=16_384), help_heading = "What")]
    pub mb: Option<u32>,
}

//! `flyhot config`: what arguments, configuration and environment say.

use flyhot_events::{Event, ExitCode};

use crate::cli::config::ConfigArgs;
use crate::errors;
use crate::local;
use crate::options::{self, Environment};
use crate::report::Reporter;

/// Shows every value.
pub(crate) fn command(args: &ConfigArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let settings = options::settings(&args.home, environment).map_err(|error| errors::options(&error));
    local::ask("config", reporter, async || {
        Ok(Event::Config {
            settings: settings?.shown(args.explain),
        })
    })
}

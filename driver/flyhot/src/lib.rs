//! flyhot: hot code upgrades of running Erlang and Elixir nodes, as a transaction.
//!
//! This room is the shell around the pure ones. It refuses to decide anything about an upgrade and to speak
//! outside its reporter: what is done comes from `flyhot-upgrade`, what is said are events of
//! `flyhot-events`, and only [`report`] writes to the terminal.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

mod artifacts;
mod asked;
mod boot;
mod build;
mod check;
mod child;
pub mod cli;
mod clock;
mod config;
mod deploy;
mod doctor;
pub mod drive;
pub mod errors;
mod fleet;
mod interrupt;
mod inventory;
pub mod ledger;
mod local;
pub mod options;
mod orchestrate;
mod remote;
pub mod report;
mod restore_base;
mod roll;
mod run;
mod status;
mod stored;
mod thaw;
mod waves;

use std::ffi::OsString;
use std::process;

use clap::Parser;
use clap::error::ErrorKind as ClapError;
use flyhot_events::{ErrorKind, Event, ExitCode, Outcome};

use cli::{Cli, Output, Verb};
use options::{Environment, Screen};
use report::Reporter;

/// Of this flyhot.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The command, from its arguments to its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> process::ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let ExitCode(code) = match Cli::try_parse_from(&args) {
        Ok(mut cli) => {
            let environment = Environment::read();
            let mut reporter = match &cli.verb {
                // Standard output is that of the command it becomes.
                Verb::Boot(args) => Reporter::aside(args.form.output, environment.screen),
                verb => Reporter::new(verb.output(), environment.screen),
            };
            diagnostics(&environment);
            let begun = if environment.port {
                interrupt::heed_port().map_err(|error| errors::no_port(&error))
            } else {
                Ok(())
            };
            let begun = begun.and_then(|()| cli.verb.report().map_or(Ok(()), |file| reporter.keep(file)));
            let begun = begun.and_then(|()| {
                options::complete(&mut cli.verb, &environment).map_err(|error| errors::options(&error))
            });
            if let Err(error) = begun {
                let ExitCode(code) = run::refused(error, &mut reporter);
                reporter.end();
                return process::ExitCode::from(code);
            }
            let code = remote::elsewhere(&cli.verb, &args, &environment, &mut reporter)
                .unwrap_or_else(|| perform(&cli.verb, &environment, &mut reporter));
            reporter.end();
            code
        }
        Err(error) => unparsed(&error, cli::output_of(&args)),
    };
    process::ExitCode::from(code)
}

/// Performs a verb here.
fn perform(verb: &Verb, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    match verb {
        Verb::Upgrade(args) => args.run(environment, reporter),
        Verb::Plan(args) => args.run(environment, reporter),
        Verb::Status(args) => args.run(environment, reporter),
        Verb::Thaw(args) => args.run(environment, reporter),
        Verb::Doctor(args) => args.run(environment, reporter),
        Verb::RestoreBase(args) => args.run(environment, reporter),
        Verb::Pack(args) => args.run(reporter),
        Verb::Verify(args) => args.run(environment, reporter),
        Verb::Unpack(args) => args.run(environment, reporter),
        Verb::Keygen(args) => args.run(reporter),
        Verb::Sign(args) => args.run(reporter),
        Verb::Rollout(args) => args.run(environment, reporter),
        Verb::Rollback(args) => args.run(environment, reporter),
        Verb::Deploy(args) => args.run(environment, reporter),
        Verb::Orchestrate(args) => args.run(environment, reporter),
        Verb::Events(args) => args.run(environment, reporter),
        Verb::Tell(args) => args.run(environment, reporter),
        Verb::Gc(args) => args.run(environment, reporter),
        Verb::Lock(args) => args.run(environment, reporter),
        Verb::History(args) => args.run(environment, reporter),
        Verb::Config(args) => args.run(environment, reporter),
        Verb::Boot(args) => args.run(environment, reporter),
    }
}

/// Help and version are answers; everything else is a usage error, told in both tongues when JSON was asked for.
fn unparsed(error: &clap::Error, output: Output) -> ExitCode {
    // Nobody is left to tell when standard output or standard error is gone.
    let _ = error.print();
    if matches!(error.kind(), ClapError::DisplayHelp | ClapError::DisplayVersion) {
        return ExitCode::SUCCESS;
    }
    let kind = ErrorKind::Usage;
    if output == Output::Json {
        let mut reporter = Reporter::new(output, Screen::default());
        let text = error.to_string();
        // The message may go over several lines; usage and tips behind it are no part of it.
        let message = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<_> = message
            .split_whitespace()
            .skip_while(|word| *word == "error:")
            .collect();
        reporter.event(&Event::Error {
            node: None,
            kind,
            message: words.join(" "),
            hint: "Run `flyhot --help` for the options and examples.".to_owned(),
        });
        reporter.event(&Event::Outcome(Outcome {
            outcome: kind.outcome(),
            exit_code: kind.exit_code(),
            nodes: Vec::new(),
        }));
    }
    kind.exit_code()
}

/// Libraries that tell headers and addresses of requests, in which access keys and passwords stand: what they warn of is all that is heard.
const QUIET: [&str; 10] = [
    "aws_config=warn",
    "aws_credential_types=warn",
    "aws_runtime=warn",
    "aws_sdk_s3=warn",
    "aws_sigv4=warn",
    "aws_smithy_http_client=warn",
    "aws_smithy_runtime=warn",
    "aws_smithy_runtime_api=warn",
    "hyper_util=warn",
    "reqwest=warn",
];

/// Wire diagnostics for developers, on standard error, when `FLYHOT_LOG` asks for them.
fn diagnostics(environment: &Environment) {
    let Some(filter) = environment.log.as_ref().and_then(|log| log.to_str()) else {
        return;
    };
    let mut filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    for quiet in QUIET.map(str::parse) {
        filter = quiet
            .into_iter()
            .fold(filter, tracing_subscriber::EnvFilter::add_directive);
    }
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .finish();
    // The only failure is a subscriber set before, by an embedding program: then that one hears.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

//! Shell completions and man pages are made of the command line's own words, and kept under docs/ for whoever packages
//! flyhot. `BLESS=1 cargo test` writes them anew.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use flyhot::cli::Cli;
use support::golden;

/// From where goldens are kept.
const DOCS: &str = "../../../../docs";

fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

#[test]
fn completions_know_every_option() {
    let files = [
        (Shell::Bash, "flyhot.bash"),
        (Shell::Zsh, "_flyhot"),
        (Shell::Fish, "flyhot.fish"),
    ];
    for (shell, file) in files {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command(), "flyhot", &mut text);
        golden(
            &format!("{DOCS}/completions/{file}"),
            &String::from_utf8(text).unwrap(),
        );
    }
}

#[test]
fn each_command_has_its_man_page_and_no_other_is_there() {
    let top = command();
    let mut pages = BTreeSet::new();
    let mut commands = vec![&top];
    let mut at = 0;
    while let Some(command) = commands.get(at).copied() {
        at += 1;
        commands.extend(
            command
                .get_subcommands()
                .filter(|command| command.get_name() != "help"),
        );
    }
    for command in commands {
        let name = command
            .get_display_name()
            .unwrap_or(command.get_name())
            .to_owned();
        let page = format!("{name}.1");
        let mut text = Vec::new();
        // The default is the last word alone, without a version.
        clap_mangen::Man::new(command.clone())
            .source(concat!("flyhot ", env!("CARGO_PKG_VERSION")))
            .render(&mut text)
            .unwrap();
        golden(&format!("{DOCS}/man/{page}"), &String::from_utf8(text).unwrap());
        pages.insert(page);
    }
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man");
    let there: BTreeSet<_> = fs::read_dir(man)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, pages);
}

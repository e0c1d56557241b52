//! flyhot with the agent that the tests can have fail: nothing else differs, and nobody is given it.

use std::process::ExitCode;

fn main() -> ExitCode {
    flyhot::main(std::env::args_os())
}

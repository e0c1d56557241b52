//! The flyhot command: everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    flyhot::main(std::env::args_os())
}

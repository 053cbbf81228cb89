//! `martlet completions SHELL`: a completion script on standard output.
//!
//! The script is generated from the definition of the command line.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::cmd::print::write_out;

/// Arguments of `martlet completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsOptions {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(options: &CompletionsOptions, cli: &mut clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, cli, "martlet", &mut script);
    write_out(&script);
    ExitCode::SUCCESS
}

//! `martlet completions SHELL`: a completion script on standard output.
//!
//! The script calls the program at each completion, which answers from the definition of the
//! command line: it reads no configuration and connects to no node.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use crate::cmd::exit;
use crate::cmd::print::write_out;

/// Variable with which the script calls the program. Its value is the shell.
const VARIABLE: &str = "_MARTLET_COMPLETE";

/// Arguments of `martlet completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsOptions {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(options: &CompletionsOptions) -> ExitCode {
    let name = options.shell.to_string();
    let shells = Shells::builtins();
    let mut script = Vec::new();
    let written = shells.completer(&name).is_some_and(|shell| {
        shell
            .write_registration(VARIABLE, "martlet", "martlet", &program(), &mut script)
            .is_ok()
    });
    if !written {
        return exit::usage(&format!("Error: there are no completions for {name}"));
    }
    write_out(&script);
    ExitCode::SUCCESS
}

/// Answers a completion script. `None` if the program was not called by one.
pub(crate) fn complete(cli: fn() -> clap::Command) -> Option<ExitCode> {
    std::env::var_os(VARIABLE)?;
    let directory = std::env::current_dir().ok();
    let answer = CompleteEnv::with_factory(cli)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), directory.as_deref());
    // A message would be printed into the line that is completed.
    answer.map_or(Some(ExitCode::FAILURE), |answered| {
        answered.then_some(ExitCode::SUCCESS)
    })
}

/// The program as it was called: a name that the shell finds, or an absolute path.
fn program() -> String {
    let called = PathBuf::from(
        std::env::args_os()
            .next()
            .unwrap_or_else(|| "martlet".into()),
    );
    let path = match std::env::current_dir() {
        Ok(directory) if called.components().nth(1).is_some() => directory.join(&called),
        _ => called,
    };
    path.to_string_lossy().into_owned()
}

//! `martlet version`.

use std::process::ExitCode;

use clap::Args;

use crate::cmd::print::outln;

/// Options of `martlet version`.
#[derive(Args, Debug)]
pub(crate) struct VersionOptions {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(options: &VersionOptions) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    match options.json {
        true => outln!("{}", serde_json::json!({ "version": version })),
        false => outln!("martlet {version}"),
    };
    ExitCode::SUCCESS
}

//! `martlet man DIR`: manual pages, one per command.
//!
//! The pages are generated from the definition of the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use martlet_text_file::owned;

use super::exit;

/// Arguments of `martlet man`.
#[derive(Args, Debug)]
pub(crate) struct ManOptions {
    /// Directory to write to; created if it does not exist
    directory: PathBuf,
}

/// Runs the command.
pub(crate) fn run(options: &ManOptions, cli: clap::Command) -> ExitCode {
    let directory = &options.directory;
    let result = owned::check_directory(directory)
        .and_then(|()| std::fs::create_dir_all(directory))
        .and_then(|()| clap_mangen::generate_to(cli, directory));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::usage(&format!(
            "Error: {}: {}",
            directory.display(),
            exit::system_error(&error)
        )),
    }
}

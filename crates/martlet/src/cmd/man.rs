//! `martlet man DIR`: manual pages, one per command.
//!
//! The pages are generated from the definition of the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_mangen::Man;
use martlet_text_file::owned;

use super::exit;

/// Arguments of `martlet man`.
#[derive(Args, Debug)]
pub(crate) struct ManOptions {
    /// Directory to write to; created if it does not exist
    directory: PathBuf,
}

/// Runs the command.
pub(crate) fn run(options: &ManOptions, cli: Command) -> ExitCode {
    let directory = &options.directory;
    let result = owned::check_directory(directory)
        .and_then(|()| std::fs::create_dir_all(directory))
        .and_then(|()| {
            let mut cli = cli.disable_help_subcommand(true);
            cli.build();
            write_pages(&cli, directory)
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::usage(&format!(
            "Error: {}: {}",
            directory.display(),
            exit::system_error(&error)
        )),
    }
}

/// Writes the page of a command, and those of the commands below it.
fn write_pages(command: &Command, directory: &Path) -> std::io::Result<()> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    // The examples are what clap prints last, which is nameless there.
    let page = String::from_utf8_lossy(&page).replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n");
    std::fs::write(directory.join(man.get_filename()), page)?;
    let visible = |below: &&Command| !below.is_hide_set();
    let mut below = command.get_subcommands().filter(visible);
    below.try_for_each(|below| write_pages(below, directory))
}

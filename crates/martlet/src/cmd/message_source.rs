//! The source of the payload to be published: `-m`, `-f`, `-n`, `-s`, `-l`.
//!
//! Responsible for selecting exactly one and reading it, except for `-l`, whose lines are read
//! while publishing. Does not publish.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::Args;

use super::exit::{self, Failure};
use crate::config::regular_file;

/// Options of which one must be given.
#[derive(Args, Debug)]
pub(crate) struct MessageOptions {
    /// Payload is the contents of a file
    #[arg(short = 'f', long, value_name = "file")]
    file: Option<PathBuf>,
    /// Payload
    #[arg(short = 'm', long, value_name = "message")]
    message: Option<OsString>,
    /// Empty payload
    #[arg(short = 'n', long)]
    null_message: bool,
    /// Payload is all of standard input
    #[arg(short = 's', long)]
    stdin_file: bool,
}

impl MessageOptions {
    /// Number of these options that are given.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.file.is_some())
            + usize::from(self.message.is_some())
            + usize::from(self.null_message)
            + usize::from(self.stdin_file)
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// A file or standard input cannot be read.
    pub(crate) fn read(self) -> Result<Vec<u8>, Failure> {
        if let Some(message) = self.message {
            return Ok(message.into_vec());
        }
        if let Some(path) = self.file {
            let name = path.display().to_string();
            return regular_file::read_named(&path).map_err(|_| Failure {
                code: exit::ERROR,
                text: format!(
                    "Error: Unable to open file \"{name}\".\nError loading input file \"{name}\"."
                ),
            });
        }
        let mut payload = Vec::new();
        if self.stdin_file {
            std::io::stdin()
                .lock()
                .read_to_end(&mut payload)
                .map_err(|error| {
                    let text = format!("reading standard input: {}", exit::system_error(&error));
                    Failure::error(exit::ERROR, text)
                })?;
        }
        Ok(payload)
    }
}

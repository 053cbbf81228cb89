//! Why an authority wrote nothing.

use std::io;
use std::path::PathBuf;

use crate::pem::FileError;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It is there already.
    #[error("{} already exists and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// There is no authority in the directory.
    #[error("there is no certificate authority: {} is missing", .0.display())]
    Missing(PathBuf),
    /// The system does not read or write it.
    #[error("{}: {error}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What is in a file is not what it should be.
    #[error(transparent)]
    Content(#[from] FileError),
    /// What was asked for cannot be.
    #[error("{0}")]
    Unusable(String),
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Unusable(format!("no certificate could be made: {error}"))
    }
}

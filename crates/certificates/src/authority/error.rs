//! Errors of an authority.

use std::io;
use std::path::PathBuf;

use crate::pem::FileError;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file already exists.
    #[error("{} already exists and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// There is no authority in the directory.
    #[error("there is no certificate authority: {} is missing", .0.display())]
    Missing(PathBuf),
    /// The system cannot read or write the file.
    #[error("{}: {error}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The contents of a file are invalid.
    #[error(transparent)]
    Content(#[from] FileError),
    /// The request is invalid.
    #[error("{0}")]
    Unusable(String),
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Unusable(format!("no certificate could be made: {error}"))
    }
}

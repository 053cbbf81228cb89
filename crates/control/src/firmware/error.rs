//! Why something is not done with firmware.

use martlet_registry::RegistryError;

use crate::shared_registry::SharedRegistryError;

/// Why firmware is not taken or given.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// Something about it cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The file is too long.
    #[error("{0}")]
    TooLarge(String),
    /// All files together would be too many bytes.
    #[error("{0}")]
    NoRoom(String),
    /// Too many files are being uploaded.
    #[error("{0}")]
    Busy(String),
    /// The file is not in the data directory of this node.
    #[error("{0}")]
    NoFile(String),
    /// The file cannot be written or read.
    #[error("the firmware's file cannot be {what}: {error}")]
    File {
        /// Operation that was to be done.
        what: &'static str,
        /// The error of the system.
        error: std::io::Error,
    },
    /// The tables do not take or have it.
    #[error(transparent)]
    SharedRegistry(#[from] SharedRegistryError),
}

impl From<RegistryError> for FirmwareError {
    fn from(error: RegistryError) -> Self {
        Self::SharedRegistry(error.into())
    }
}

pub(super) fn too_large(max: u64) -> FirmwareError {
    let why = format!("a file of firmware has {max} bytes at most (firmware.max_bytes)");
    FirmwareError::TooLarge(why)
}

pub(super) fn invalid(why: impl Into<String>) -> FirmwareError {
    FirmwareError::Invalid(why.into())
}

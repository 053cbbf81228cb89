//! Errors of the configuration.

use std::path::{Path, PathBuf};

use super::nearest::nearest;

/// An error of the configuration: the source, the key and what was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}{}", path.display(), beginning(.path))]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The error of the system.
        error: std::io::Error,
    },
    /// The file is not valid TOML.
    #[error("{}: {text}", path.display())]
    Syntax {
        /// Path of the file.
        path: PathBuf,
        /// Line, column and fault.
        text: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key `{key}`{}", nearest(.hint))]
    UnknownKey {
        /// Source and line.
        place: String,
        /// The key as written.
        key: String,
        /// The most similar key.
        hint: Option<String>,
    },
    /// The value is invalid.
    #[error("{place}: `{key}` is {got}, expected {expected}")]
    Value {
        /// Source and line.
        place: String,
        /// The key.
        key: String,
        /// The value as written.
        got: String,
        /// The expected value.
        expected: String,
    },
    /// Several of these errors.
    #[error("{} errors:\n  {}", .0.len(), .0.join("\n  "))]
    Several(Vec<String>),
    /// Values that conflict, or cannot be used on this machine.
    #[error("{0}")]
    Unusable(String),
}

/// The base directory of a relative path.
fn beginning(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(directory) if path.is_relative() => {
            format!(
                "; it begins at the working directory, {}",
                directory.display()
            )
        }
        _ => String::new(),
    }
}

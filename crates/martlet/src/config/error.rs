//! Why a configuration is not accepted.

use std::path::{Path, PathBuf};

use super::nearest::nearest;

/// Why a configuration is not accepted: which source, which key, what was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}{}", path.display(), beginning(.path))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}: {text}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, column and what is wrong.
        text: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key `{key}`{}", nearest(.hint))]
    UnknownKey {
        /// Source and line.
        place: String,
        /// The key as written.
        key: String,
        /// The nearest known one.
        hint: Option<String>,
    },
    /// The value does not fit.
    #[error("{place}: `{key}` is {got}, expected {expected}")]
    Value {
        /// Source and line.
        place: String,
        /// Which key.
        key: String,
        /// The value as written.
        got: String,
        /// What would fit.
        expected: String,
    },
    /// Several of these at once.
    #[error("{} errors:\n  {}", .0.len(), .0.join("\n  "))]
    Several(Vec<String>),
    /// Values that do not go together, or cannot be used on this machine.
    #[error("{0}")]
    Unusable(String),
}

/// Where a path begins that is not whole.
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

//! Settings of the log.

use std::path::PathBuf;

use super::error::ConfigError;
use super::load::Effective;
use super::schema::LogFormat;

/// How and where the log is written.
#[derive(Clone, Debug)]
pub(crate) struct LogSettings {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
    /// Log file, in addition to standard error.
    pub(crate) file: Option<LogFile>,
    /// Lines of one kind that are written in a second; 0: all.
    pub(crate) lines_per_second: u32,
}

/// A log file, and when it is rotated.
#[derive(Clone, Debug)]
pub(crate) struct LogFile {
    /// Path of the file.
    pub(crate) path: PathBuf,
    /// Largest size in bytes.
    pub(crate) bytes: u64,
    /// Number of older files that are kept.
    pub(crate) kept: u32,
    /// Whether to create its directory, like the program from which the variable's name comes.
    pub(crate) makes_directory: bool,
}

/// The settings. They do not depend on other files or databases, so that the log can be started
/// first.
///
/// # Errors
/// The level is invalid.
pub(crate) fn log_settings(effective: &Effective) -> Result<LogSettings, ConfigError> {
    let log = &effective.settings().log;
    let file = (!log.file.is_empty()).then(|| LogFile {
        path: PathBuf::from(&log.file),
        bytes: log.file_bytes,
        kept: log.files_kept,
        makes_directory: effective.log_directory_of.as_deref()
            == Some(effective.source(key!(log.file))),
    });
    Ok(LogSettings {
        format: log.format,
        level: level(&log.level)?,
        file,
        lines_per_second: log.lines_per_second,
    })
}

fn level(text: &str) -> Result<String, ConfigError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or(part).trim();
        LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
    };
    if text.split(',').all(known) {
        return Ok(text.to_owned());
    }
    Err(ConfigError::Unusable(format!(
        "log.level is {text:?}, expected error, warn, info, debug, trace or off, \
         or a filter such as \"info,martlet_control=warn\""
    )))
}

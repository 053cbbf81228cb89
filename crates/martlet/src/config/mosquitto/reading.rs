//! State while Mosquitto's file is read.

use std::path::PathBuf;

use super::bridge::Bridge;
use super::lines::{ConfigLine, Outcome, ReportLine};
use super::listener::Listener;
use crate::config::error::ConfigError;
use crate::config::load::{DEFAULT_SOURCE, Effective, Sourced};
use martlet_settings::Value;

/// Values read from the file, and the report.
pub(super) struct Reading<'a> {
    pub(super) effective: &'a mut Effective,
    pub(super) report: Vec<ReportLine>,
    pub(super) listeners: Vec<Listener>,
    /// Settings for listeners without their own, and for the listener of `port`.
    pub(super) global: Listener,
    pub(super) per_listener: bool,
    pub(super) bridges: Vec<Bridge>,
    /// Whether the current section is that of a bridge.
    pub(super) is_in_bridge: bool,
    pub(super) files: Vec<PathBuf>,
    /// Errors that prevent the use of the file.
    pub(super) problems: Vec<ConfigError>,
    /// Log level from the lines so far, as an index of `keywords::LEVELS`.
    pub(super) log_level: Option<usize>,
}

impl Reading<'_> {
    /// Reports the result for a line.
    pub(super) fn report(&mut self, line: &ConfigLine, outcome: Outcome, note: impl Into<String>) {
        let is_secret = line.keyword.contains("password") && line.keyword != "password_file";
        let value = if is_secret { "***" } else { &line.value };
        self.report.push(ReportLine {
            place: line.place.clone(),
            text: format!("{} {value}", line.keyword).trim_end().to_owned(),
            outcome,
            note: note.into(),
        });
    }

    /// Parses the value of a line as a number.
    pub(super) fn number(&self, line: &ConfigLine) -> Result<u64, ConfigError> {
        let number = line.value.parse();
        number.map_err(|_| {
            line.error(&format!(
                "{:?} is not a whole number; expected 0 or more",
                line.value
            ))
        })
    }

    /// Parses the value of a line as a boolean.
    pub(super) fn switch(&self, line: &ConfigLine) -> Result<bool, ConfigError> {
        match line.value.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(line.error(&format!("{other:?} is neither true nor false"))),
        }
    }

    /// Sets a value of the node.
    pub(super) fn set(
        &mut self,
        line: &ConfigLine,
        key: &str,
        value: Value,
    ) -> Result<(), ConfigError> {
        let before = self.effective.values().get(key);
        let is_default =
            before.is_some_and(|before| before.source == DEFAULT_SOURCE && before.value == value);
        let note = format!("{key} = {value}");
        let source = line.place.clone();
        self.effective.set(key, Sourced { value, source })?;
        match is_default {
            true => {
                let note = format!("{note}, the default here: the line changes nothing");
                self.report(line, Outcome::Default, note);
            }
            false => self.report(line, Outcome::Mapped, note),
        }
        Ok(())
    }

    /// Sets the log file, which receives the same lines as standard error.
    pub(super) fn log_file(&mut self, line: &ConfigLine, path: &str) -> Result<(), ConfigError> {
        if path.is_empty() {
            return Err(line.error("expected the path of a file"));
        }
        self.set(line, key!(log.file), Value::Text(path.to_owned()))?;
        if let Some(entry) = self.report.last_mut() {
            entry.note += "; it is renamed at 10 MB (log.file_bytes), and standard error has the same \
                          lines";
        }
        Ok(())
    }

    /// Sets a value that is in no line.
    pub(super) fn put(&mut self, key: &str, value: Value, source: String) {
        let set = self.effective.set(key, Sourced { value, source });
        self.problems.extend(set.err());
    }

    /// Begins a listener.
    pub(super) fn begin_listener(&mut self, line: &ConfigLine) -> Result<(), ConfigError> {
        self.is_in_bridge = false;
        let listener = Listener::begin(&line.value, &line.place).map_err(|why| line.error(&why))?;
        self.listeners.push(listener);
        self.report(line, Outcome::Mapped, "a [[listeners]] table");
        Ok(())
    }
}
